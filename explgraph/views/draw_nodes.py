"""A drawing of the most telling nodes: a band for each layer, a column for each part.

A node is its best patch, framed in its part's colour; a line goes to those that it is linked with
in the layer below, the wider the more rigid. A graph without parts has its nodes side by side in
the order that keeps lines short.
"""

from __future__ import annotations

import itertools
import math

from explgraph.graph.graph import Graph
from explgraph.graph.parts import Part, weights
from explgraph.views.draw_patches import Patches, sees
from explgraph.views.figure_style import Figure, part_sign
from explgraph.views.layout import colour, ordered_layers, own_name, thin
from explgraph.views.sheet import INK, LINE, MARGIN, QUIET, Entry, Paper, Sheet, legend_height

__all__ = ["draw_nodes"]

_PATCH, _WIDE_PATCH = 7.4, 11.4  # mm, at least
_LARGEST = 16.0
_SPACE = 1.3  # mm between nodes
_LABEL, _WIDE_LABEL = 13.0, 17.0  # mm for the layers' names
_HEAD = 5.0  # mm for the parts' titles
_BELOW = 2.9  # mm for a node's name
_BAND = 7.5  # mm between layers, for the lines
_BETWEEN_PARTS = "#9fb0c0"
_PALE = "#f4f6f8"
_NEAR = 0.5  # of a part's best weight in a layer: a node of as much may be shown for its link
_PARENTS = 3


def draw_nodes(
    graph: Graph, parts: list[Part], patches: Patches, paper: Paper, max_nodes: int | None
) -> Figure:
    """Draw the most telling nodes of some parts, or of a graph without parts.

    Parameters
    ----------
    graph : Graph
    parts : list of Part
        As many as fit are drawn, the first ones.
    patches : Patches
    paper : Paper
    max_nodes : int, optional
        At most so many; by default one of every part and layer.
    """
    narrow, width = paper.narrow, paper.width
    label = _LABEL if narrow else _WIDE_LABEL
    room = width - label - MARGIN
    fit = max(1, int((room + _SPACE) / ((_PATCH if narrow else _WIDE_PATCH) + _SPACE)))
    parts = parts[:fit]
    if parts:
        bands = _by_parts(graph, parts, max_nodes)
        columns = len(parts)
    else:
        drawn = thin(graph, max_nodes or 3 * fit, _PARENTS)
        bands = [
            {node: divmod(k, fit)[::-1] for k, node in enumerate(band)}
            for band in ordered_layers(drawn)
        ]
        columns = max(1 + column for band in bands for column, _ in band.values())
    pitch = room / columns
    side = min(_LARGEST, pitch - _SPACE)
    deep = [1 + max(row for _, row in band.values()) for band in bands]
    row_height = side + _BELOW + 0.6
    head = _HEAD if parts else MARGIN
    tops = [head + MARGIN + sum(deep[:k]) * row_height + k * _BAND for k in range(len(bands))]
    bottom = tops[-1] + deep[-1] * row_height
    legend = _legend(bool(parts))
    sheet = Sheet(paper, bottom + 3.5 + legend_height(legend, width))
    at: dict[str, tuple[float, float]] = {}
    for band, top, rows in zip(bands, tops, deep, strict=True):
        sheet.box(0.3, top - 1.2, width - 0.6, rows * row_height + 1.2, face=_PALE, depth=0)
        _layer(sheet, graph, next(iter(band)), top + side / 2, label)
        for node, (column, row) in band.items():
            # what is fewer than the columns stands in the middle
            shift = 0.0 if parts else (columns - 1 - max(c for c, _ in band.values())) / 2
            x = label + (column + shift + 0.5) * pitch - side / 2
            at[node] = (x, top + row * row_height)
            _node(sheet, graph, node, patches, at[node], side, pitch)
    for k, part in enumerate(parts):
        x = label + (k + 0.5) * pitch
        sheet.badge(x - side / 2 + 1.5, head - 2.0, part_sign(part.id, k))
        if part.name:
            sheet.text(x - side / 2 + 3.4, head - 2.0, part.name, bold=True, room=pitch - 3.6)
    _lines(sheet, graph, bands, at, side)
    sheet.legend(bottom + 3.5, legend)
    return sheet.figure


def _by_parts(
    graph: Graph, parts: list[Part], max_nodes: int | None
) -> list[dict[str, tuple[int, int]]]:
    """Choose nodes, from the output down: for each layer their columns and rows."""
    weight = dict(zip(graph.nx, weights(graph), strict=True))
    shown = {graph.nx.nodes[v]["layer_index"] for part in parts for v in part.nodes}
    cells = len(parts) * len(shown)
    deep = 1 if max_nodes is None else max(1, max_nodes // cells)
    left = cells if max_nodes is None else max_nodes
    kept: set[str] = set()
    bands = []
    for index in sorted(shown, reverse=True):
        band: dict[str, tuple[int, int]] = {}
        for column, part in enumerate(parts):
            here = [v for v in part.nodes if graph.nx.nodes[v]["layer_index"] == index]
            least = _NEAR * max((weight[v] for v in here), default=0.0)

            def rank(node: str, least: float = least) -> tuple[bool, float, float]:
                above = graph.nx.pred[node]
                link = max((above[u]["consistency"] for u in above if u in kept), default=0.0)
                return weight[node] < least, -link, -weight[node]

            for row, node in enumerate(sorted(here, key=rank)[:deep]):
                if left > 0:
                    band[node] = (column, row)
                    left -= 1
        kept.update(band)
        if band:
            bands.append(band)
    return bands


def _layer(sheet: Sheet, graph: Graph, node: str, y: float, room: float) -> None:
    """Name a layer, and say how far its units see."""
    values = graph.nx.nodes[node]
    below = sheet.name(MARGIN, y - 2.2, values["layer"], room - 1)
    sheet.text(MARGIN, below + LINE, sees(graph, node), colour=QUIET, room=room)


def _node(
    sheet: Sheet, graph: Graph, node: str, patches: Patches, at: tuple[float, float], side: float,
    pitch: float,
) -> None:  # fmt: skip
    """Draw a node by its best patch, or by its reliability where none is known."""
    values = graph.nx.nodes[node]
    cut = patches.of_node(node, 1, sheet.pixels(side))
    if cut:
        sheet.picture(*at, side, side, cut[0])
    else:
        red, green, blue = colour(values["reliability"])
        sheet.blank(*at, side, f"#{red:02x}{green:02x}{blue:02x}")
    part = values.get("part", "")
    edge = part_sign(part, 0).colour if part else QUIET
    sheet.box(*at, side, side, edge=edge, line=1.4)
    name = values["label"] or own_name(node)
    sheet.text(at[0] + side / 2, at[1] + side + 1.7, name, colour=QUIET, align="center", room=pitch)


def _lines(
    sheet: Sheet,
    graph: Graph,
    bands: list[dict[str, tuple[int, int]]],
    at: dict[str, tuple[float, float]],
    side: float,
) -> None:
    """Draw the links from each layer to the next."""
    for upper, lower in itertools.pairwise(bands):
        for child in lower:
            parents = [u for u in graph.nx.pred[child] if u in upper]
            parents.sort(key=lambda u: -graph.nx.edges[u, child]["consistency"])
            for parent in parents[:_PARENTS]:
                both = [graph.nx.nodes[v].get("part", "") for v in (parent, child)]
                same = both[0] == both[1] != ""
                (x0, y0), (x1, y1) = at[parent], at[child]
                sheet.line(
                    [x0 + side / 2, x1 + side / 2],
                    [y0 + side + _BELOW, y1],
                    width=_width(graph.nx.edges[parent, child]["consistency"]),
                    colour=part_sign(both[0], 0).colour if same else _BETWEEN_PARTS,
                )


def _width(consistency: float) -> float:
    """Width of a line, pt."""
    return 0.4 + 1.8 * math.sqrt(max(0.0, consistency))


def _legend(parts: bool) -> list[Entry]:
    """Say what lines and names mean."""
    between: list[Entry] = [(_width(0.5), _BETWEEN_PARTS, "link between parts")] if parts else []
    return [
        (_width(0.05), INK, "loose"),
        (_width(1.0), INK, "rigid link"),
        *between,
        (0, "", "95/1: filter 95, its pattern 1"),
    ]
