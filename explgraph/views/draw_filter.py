"""A drawing of one filter, taken apart into its nodes: a row of patches for each.

Above them an image in which all of the nodes are seen, where there is one, and where they are.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph
from explgraph.graph.parts import trajectories
from explgraph.views.draw_patches import Patches
from explgraph.views.figure_style import MARKERS, PALETTE, Figure
from explgraph.views.layout import own_name
from explgraph.views.sheet import LINE, MARGIN, QUIET, Paper, Sheet

__all__ = ["chosen_filter", "draw_filter", "telling_filter"]

_PATCH, _WIDE_PATCH = 9.8, 14.0  # mm, about
_TEXT, _WIDE_TEXT = 19.5, 26.0  # mm beside the patches
_HEAD = 9.0  # mm for the title
_SPACE = 0.6  # mm between patches
_ROW = 2.5  # mm between nodes
_IMAGE, _WIDE_IMAGE = 21.0, 31.0  # mm, its longer side


def chosen_filter(graph: Graph, name: str) -> tuple[str, int]:
    """Read ``"<layer>/<filter>"``; refuse what the graph has no node of."""
    layer, _, wanted = str(name).rpartition("/")
    known = {each.name: each for each in graph.layers}
    # "12-" is what channel 12 gives below zero, where both signs were mined
    number = wanted.removesuffix("-")
    if layer not in known or not number.isdecimal():
        last = list(known)[-1]
        raise ExplgraphError(
            f"filter is {name!r}; expected LAYER/NUMBER, such as {last + '/0'!r}; layers are "
            f"{', '.join(known)}"
        )
    every = {known[layer].filter_name(k): k for k in range(known[layer].channels)}
    found = every.get(str(int(number)) + "-" * wanted.endswith("-"))
    if found is None:
        raise ExplgraphError(
            f"layer {layer!r} has no filter {wanted}; expected 0 to {list(every)[-1]}"
        )
    if not graph.nodes_of(layer, found):
        held = {graph.nx.nodes[v]["filter"] for v in graph.nodes_of(layer)}
        called = [name for name, k in every.items() if k in held]
        raise ExplgraphError(
            f"filter {wanted} of {layer!r} has no node in this graph"
            + (f"; filters {', '.join(called[:8])}, ... have" if called else "")
        )
    return layer, found


def telling_filter(graph: Graph) -> tuple[str, int]:
    """Find the filter whose nodes do the most different things, surely.

    For every two of a filter's nodes: how far apart they are in the images that show both best, or
    on average over poses if there is none; times the lesser of their weights (reliability, times
    the square root of the share of the filter's activation that each answers for). The filter with
    the greatest such product is it; where each filter has one node, that of the surest.
    """
    filters: dict[tuple[str, int], list[str]] = {}
    for node, values in graph.nx.nodes.items():
        filters.setdefault((values["layer"], values["filter"]), []).append(node)
    sure = {v: a["reliability"] * math.sqrt(a["energy"]) for v, a in graph.nx.nodes.items()}
    seen = {
        node: {name: (x, y) for name, x, y, _ in graph.top_images.get(node, ())}
        for node in graph.nx
    }
    usual = _usual(graph)

    def apart(one: str, other: str) -> float:
        shared = seen[one].keys() & seen[other].keys()
        if not shared:
            return float(np.linalg.norm(usual[one] - usual[other]))
        return float(np.mean([math.dist(seen[one][n], seen[other][n]) for n in sorted(shared)]))

    def told(nodes: list[str]) -> tuple[float, float]:
        pairs = itertools.combinations(nodes, 2)
        most = max((apart(a, b) * min(sure[a], sure[b]) for a, b in pairs), default=0.0)
        return most, max(sure[node] for node in nodes)

    return max(filters, key=lambda one: told(filters[one]))


def _usual(graph: Graph) -> dict[str, NDArray[np.float64]]:
    """Lay the nodes' trajectories out; just their usual places where no more is known."""
    try:
        points = trajectories(graph)
    except ExplgraphError:  # without parameters of mining
        points = np.array([(a["x"], a["y"]) for a in graph.nx.nodes.values()])
    return dict(zip(graph.nx, points, strict=True))


def draw_filter(
    graph: Graph, layer: str, number: int, patches: Patches, paper: Paper, most: int | None
) -> Figure:
    """Draw a filter's nodes, those first that answer for most of its activation.

    Parameters
    ----------
    graph : Graph
    layer : str
    number : int
        The filter.
    patches : Patches
    paper : Paper
    most : int, optional
        Nodes, at most; all by default.
    """
    nodes = sorted(graph.nodes_of(layer, number), key=lambda v: -graph.nx.nodes[v]["energy"])[:most]
    narrow, width = paper.narrow, paper.width
    shown = patches.of_nodes(nodes)
    wide = 0.0
    if shown is not None:
        high, across = shown[0].shape[:2]
        wide = (_IMAGE if narrow else _WIDE_IMAGE) * min(1.0, across / high)
    start = MARGIN + wide + 2 * (wide > 0)
    text = start + (_TEXT if narrow else _WIDE_TEXT)
    room = width - text - MARGIN
    count = max(1, round((room + _SPACE) / ((_PATCH if narrow else _WIDE_PATCH) + _SPACE)))
    side = (room + _SPACE) / count - _SPACE
    rows = len(nodes) * (side + _ROW)
    image = wide * high / across if shown is not None else 0.0
    sheet = Sheet(paper, _HEAD + max(rows, image + MARGIN))
    _title(sheet, graph, layer, number, nodes)
    if shown is not None:
        picture, places = shown
        sheet.picture(MARGIN, _HEAD, wide, image, picture)
        for k, place in enumerate(places):
            x = MARGIN + place.x / across * wide
            y = _HEAD + place.y / high * image
            sheet.mark(
                float(np.clip(x, MARGIN, MARGIN + wide)),
                float(np.clip(y, _HEAD, _HEAD + image)),
                *_sign(k),
            )
    for k, node in enumerate(nodes):
        y = _HEAD + k * (side + _ROW)
        _row(sheet, graph, node, k, start, y + side / 2, text - start)
        cut = patches.of_node(node, count, sheet.pixels(side))
        for column in range(count):
            x = text + column * (side + _SPACE)
            if column < len(cut):
                sheet.picture(x, y, side, side, cut[column])
            else:
                sheet.blank(x, y, side)
    return sheet.figure


def _sign(k: int) -> tuple[str, str]:
    """Give a node's colour and marker."""
    return PALETTE[k % len(PALETTE)], MARKERS[k % len(MARKERS)]


def _title(sheet: Sheet, graph: Graph, layer: str, number: int, nodes: list[str]) -> None:
    """Say which filter it is."""
    name = next(each for each in graph.layers if each.name == layer).filter_name(number)
    sheet.text(MARGIN, MARGIN + 1.6, f"Filter {name} of {layer}", size=8, bold=True)
    held = sum(graph.nx.nodes[v]["energy"] for v in nodes)
    parts = f"{len(nodes)} nodes, which answer" if len(nodes) > 1 else "1 node, which answers"
    told = f"taken apart into {parts} for {held:.0%} of what it fires"
    sheet.text(MARGIN, MARGIN + 5.0, told, colour=QUIET)


def _row(
    sheet: Sheet, graph: Graph, node: str, k: int, x: float, middle: float, room: float
) -> None:
    """Say what is known of a node, beside its patches."""
    values = graph.nx.nodes[node]
    sheet.mark(x + 1.3, middle - 3.2, *_sign(k))
    part = values.get("part", "")
    called = values["label"] or (graph.part(part).title if part else own_name(node))
    sheet.text(x + 3.6, middle - 3.2, called, size=7, bold=True, room=room - 4)
    share = f"pattern {values['pattern']}: {values['energy']:.0%}"
    sheet.text(x, middle + 0.2, share, colour=QUIET)
    sheet.text(x, middle + 0.2 + LINE, f"reliability {values['reliability']:.2f}", colour=QUIET)
