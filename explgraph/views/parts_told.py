"""What a graph's parts are, in one line for the terminal and reports."""

from __future__ import annotations

from explgraph.brief import counted
from explgraph.graph.graph import Graph

__all__ = ["parts_told"]

_SHOWN = 5


def parts_told(graph: Graph) -> str:
    """Say how many parts there are, how many of the reliable nodes they hold, and the first ones.

    Those that stand still are counted, since they are often background.

    Reliable is any node whose reliability is above 0; others belong to no part.
    """
    parts = graph.parts
    if not parts:
        return "no parts: nodes of different filters agree on none"
    reliable = sum(values["reliability"] > 0 for values in graph.nx.nodes.values())
    held = sum(
        graph.nx.nodes[node]["reliability"] > 0 for part in parts for node in part.nodes
    ) / max(reliable, 1)
    layers = {layer for part in parts for layer in part.layers}
    named = [f"{part.title} ({counted(len(part.nodes), 'node')})" for part in parts[:_SHOWN]]
    if len(parts) > _SHOWN:
        named.append(f"and {len(parts) - _SHOWN} more")
    return (
        f"{counted(len(parts), 'part')} in {counted(len(layers), 'layer')} "
        f"{'holds' if len(parts) == 1 else 'hold'} {100 * held:.0f} % of the reliable nodes: "
        f"{', '.join(named)}{_still(sum(part.still for part in parts), len(parts))}"
    )


def _still(number: int, of: int) -> str:
    if not number:
        return ""
    if of == 1:
        return "; it stands still"
    return f"; {number} {'stands' if number == 1 else 'stand'} still"
