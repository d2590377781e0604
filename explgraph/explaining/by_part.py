"""Answers told by parts in place of nodes: one idea for all of them.

What is said of a part is the sum over its nodes: their contributions, evidence, effects. Nodes of
no part belong to the rest, so that parts and rest add up to what nodes and rest add up to. Where an
answer asks the nodes of one layer (of several, the same thing would count several times), a part
stands for its nodes there.

Where an answer takes nodes' ids, a part's id, name or title stands for all its nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from explgraph.errors import ExplgraphError, nearest
from explgraph.graph.graph import Graph
from explgraph.graph.parts import Part

__all__ = [
    "By",
    "Members",
    "check_by",
    "different_titles",
    "find_parts",
    "names_of_nodes",
    "nodes_named",
]

By: TypeAlias = Literal["node", "part"]
"""Whether an answer tells of nodes or of parts."""


def check_by(by: str) -> None:
    """Refuse what an answer can't be told by."""
    if by not in ("node", "part"):
        raise ExplgraphError(f"by is {by!r}; expected 'node' or 'part'")


class Members(NamedTuple):
    """Which of V nodes belong to which of P parts.

    Attributes
    ----------
    ids, titles : tuple of str
        Of the P parts that have one of the nodes, in the graph's order; titles differ.
    member : (V,) int64
        Number of each node's part, -1 for none.
    """

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    member: NDArray[np.int64]

    @classmethod
    def of(cls, graph: Graph, nodes: Sequence[str]) -> Members:
        """Look it up in the nodes' graph.

        Raises
        ------
        ExplgraphError
            If none of the nodes belongs to a part.
        """
        labels = [graph.nx.nodes[node].get("part", "") for node in nodes]
        parts = [part for part in graph.parts if part.id in labels]
        if not parts:
            raise ExplgraphError(
                f"by is 'part', but none of the {len(nodes)} nodes that are asked belongs to a "
                "part; say by='node', or choose a layer whose nodes do (see graph.parts)"
            )
        known = different_titles(graph.parts)
        number = {part.id: k for k, part in enumerate(parts)}
        return cls(
            tuple(number),
            tuple(known[part] for part in number),
            np.array([number.get(label, -1) for label in labels], dtype=np.int64),
        )

    def sum(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sum values (..., V) over each part's nodes, (..., P)."""
        belongs = self.member[:, None] == np.arange(len(self.ids))
        summed: NDArray[Any] = values @ belongs.astype(values.dtype)
        return summed

    def rest(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sum values (..., V) over the nodes of no part, (...)."""
        rest: NDArray[Any] = values[..., self.member < 0].sum(-1)
        return rest


def different_titles(parts: Iterable[Part]) -> dict[str, str]:
    """Give each part's title by its id, with the id behind where several have the same."""
    parts = tuple(parts)
    count = Counter(part.title for part in parts)
    return {
        part.id: part.title if count[part.title] == 1 else f"{part.title} ({part.id})"
        for part in parts
    }


def names_of_nodes(graph: Graph, nodes: Sequence[str]) -> tuple[str, ...]:
    """Call nodes by their labels or parts, where they have any: ``"part 3 · stage4/17/0"``."""
    titles = different_titles(graph.parts)
    values = [graph.nx.nodes[node] for node in nodes]
    known = [a["label"] or titles.get(a.get("part", ""), "") for a in values]
    return tuple(
        f"{name} · {node}" if name else node for name, node in zip(known, nodes, strict=True)
    )


def nodes_named(graph: Graph, names: str | Iterable[str]) -> tuple[str, ...]:
    """Give the nodes that are named, by their ids or by those of parts.

    Parameters
    ----------
    graph : Graph
    names : iterable of str
        Ids of nodes; or ids, names or titles ("part 3") of parts, for all their nodes.

    Returns
    -------
    tuple of str
        Each node once, in the graph's order.

    Raises
    ------
    ExplgraphError
        If there is neither such a node nor such a part, or several parts have the name.
    """
    chosen: set[str] = set()
    for name in _listed(names, "nodes"):
        chosen.update((name,) if name in graph.nx else _part(graph, name).nodes)
    return tuple(node for node in graph.nx if node in chosen)


def _listed(names: str | Iterable[str], argument: str) -> list[str]:
    """Give one name or several as a list; refuse what holds no names."""
    listed = [names] if isinstance(names, str) or not isinstance(names, Iterable) else list(names)
    for name in listed:
        if not isinstance(name, str):
            raise ExplgraphError(
                f"{argument} must be names, ids such as those of graph.node_ids or graph.parts, "
                f"got {name!r}"
            )
    return listed


def find_parts(graph: Graph, names: str | Iterable[str] | None) -> tuple[Part, ...]:
    """Give the parts that are named by ids, names or titles; all of them by default.

    Raises
    ------
    ExplgraphError
        If there is no such part, or none at all.
    """
    if names is not None:
        return tuple(dict.fromkeys(_part(graph, name) for name in _listed(names, "parts")))
    if not graph.parts:
        raise ExplgraphError("by is 'part', but the graph has no parts; name nodes instead")
    return graph.parts


def _part(graph: Graph, name: str) -> Part:
    """Find a part by its id, name or title."""
    titles = {title: part for part, title in different_titles(graph.parts).items()}
    if name and any(name in (part.id, part.name) for part in graph.parts):
        return graph.part(name)
    if name in titles:
        return graph.part(titles[name])
    shown = ", ".join(titles) or "none"
    if name in graph.nx:
        raise ExplgraphError(f"{name!r} is a node, not a part; the graph's parts are {shown}")
    raise ExplgraphError(
        f"the graph has no node {name!r}, and no part of this name"
        f"{nearest(str(name), [*graph.nx, *titles.values(), *titles])}; see graph.node_ids; its "
        f"parts are {shown}"
    )
