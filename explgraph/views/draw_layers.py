"""A drawing of what each layer adds: a row of patches, those of its new parts first.

A part is new in the lowest layer that has nodes of it. Rows go from the output down.
"""

from __future__ import annotations

from explgraph.brief import counted
from explgraph.graph.graph import Graph
from explgraph.graph.parts import Part, weights
from explgraph.views.draw_patches import Patches, sees
from explgraph.views.figure_style import Figure, part_sign
from explgraph.views.sheet import LINE, MARGIN, QUIET, Entry, Paper, Sheet, legend_height

__all__ = ["draw_layers"]

_PATCH, _WIDE_PATCH = 9.8, 14.0  # mm, about
_TEXT, _WIDE_TEXT = 22.0, 30.0  # mm beside the patches
_SPACE = 1.0  # mm between patches
_ROW = 3.0  # mm between layers
_LEAST = 17.5  # mm of a row, for the text beside the patches
_KNOWN = "#c3ccd5"


def draw_layers(graph: Graph, patches: Patches, paper: Paper, most: int | None) -> Figure:
    """Draw the most telling node of each part in every layer.

    Parameters
    ----------
    graph : Graph
    patches : Patches
    paper : Paper
    most : int, optional
        Patches of a layer, at most; as many as fit by default.
    """
    narrow, width = paper.narrow, paper.width
    text = _TEXT if narrow else _WIDE_TEXT
    room = width - text - MARGIN
    count = max(1, round((room + _SPACE) / ((_PATCH if narrow else _WIDE_PATCH) + _SPACE)))
    side = (room + _SPACE) / count - _SPACE
    count = min(count, most or count)
    row = max(side, _LEAST) + _ROW
    layers = [layer for layer in reversed(graph.layers) if graph.nodes_of(layer.name)]
    parts = list(graph.parts)
    legend = _legend(bool(parts))
    sheet = Sheet(paper, MARGIN + len(layers) * row + legend_height(legend, width))
    weight = dict(zip(graph.nx, weights(graph), strict=True))
    for k, layer in enumerate(layers):
        y = MARGIN + k * row
        nodes = graph.nodes_of(layer.name)
        new = [part for part in parts if part.layers[0] == layer.name]
        _told(sheet, graph, nodes, new, y, text, bool(parts))
        for column, (node, part) in enumerate(_chosen(graph, nodes, parts, new, weight)[:count]):
            x = text + column * (side + _SPACE)
            cut = patches.of_node(node, 1, sheet.pixels(side))
            if cut:
                sheet.picture(x, y, side, side, cut[0])
            else:
                sheet.blank(x, y, side)
            if part is None or part not in new:
                sheet.box(x, y, side, side, edge=_KNOWN, line=0.8)
            else:
                sheet.box(x, y, side, side, edge=part_sign(part.id, 0).colour, line=1.6)
            if part is not None:
                sheet.badge(x + 1.7, y + 1.7, part_sign(part.id, 0))
    sheet.legend(MARGIN + len(layers) * row, legend)
    return sheet.figure


def _chosen(
    graph: Graph,
    nodes: tuple[str, ...],
    parts: list[Part],
    new: list[Part],
    weight: dict[str, float],
) -> list[tuple[str, Part | None]]:
    """Give the most telling node of each part that has any here, those of new parts first."""
    if not parts:
        sure = sorted(nodes, key=lambda v: -graph.nx.nodes[v]["reliability"])
        return [(node, None) for node in sure]
    best: dict[str, str] = {}
    for node in sorted(nodes, key=lambda v: -weight[v]):
        best.setdefault(graph.nx.nodes[node].get("part", ""), node)
    here = [part for part in parts if part.id in best]
    here.sort(key=lambda part: part not in new)
    return [(best[part.id], part) for part in here]


def _told(
    sheet: Sheet,
    graph: Graph,
    nodes: tuple[str, ...],
    new: list[Part],
    y: float,
    room: float,
    parts: bool,
) -> None:
    """Say what is known of a layer, beside its patches."""
    values = graph.nx.nodes[nodes[0]]
    filters = len({graph.nx.nodes[v]["filter"] for v in nodes})
    below = sheet.name(MARGIN, y + 1.6, values["layer"], room - 2)
    lines = [
        sees(graph, nodes[0]),
        f"{counted(len(nodes), 'node')} of",
        f"{counted(filters, 'filter')}",
    ]
    if parts:
        lines.append(f"+ {len(new)} part{'s' * (len(new) != 1)}" if new else "no new part")
    for k, line in enumerate(lines):
        sheet.text(MARGIN, below + 3.2 + k * LINE, line, colour=QUIET, room=room - 2)


def _legend(parts: bool) -> list[Entry]:
    """Say what frames mean."""
    if not parts:
        return [(0, "", "the most reliable nodes of each layer, by their best patch")]
    return [
        (0, "", "a node of each part, by its best patch;"),
        (0, "", "in colour: parts that no layer below has"),
    ]
