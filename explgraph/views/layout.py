"""Where nodes are drawn, which, in what colour, by what name: shared by all drawings and files.

Layers lie in bands, the output on top. Within a band neighbours are nodes with common parents
and children: a few barycentre sweeps (Sugiyama et al., 1981), started from the order of the
patterns' x in the image.
"""

from __future__ import annotations

import itertools
import math

from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph

__all__ = ["band_positions", "colour", "ordered_layers", "own_name", "thin"]

_SPACING = 60.0  # between neighbours of a band, in the unit of `band_positions`
_SWEEPS = 4

# one hue from pale to deep: told apart by lightness alone, so by everybody and in print
_RAMP = ((0.0, (226, 234, 241)), (0.5, (116, 169, 207)), (1.0, (4, 78, 137)))


def own_name(node: str) -> str:
    """Give what a node without a label is called within its layer: ``"<filter>/<pattern>"``."""
    return "/".join(node.rsplit("/", 2)[1:])


def ordered_layers(graph: Graph) -> list[list[str]]:
    """Nodes of each layer that has any, the uppermost first, ordered to keep edges short."""
    bands: dict[int, list[str]] = {}
    for node, values in graph.nx.nodes.items():
        bands.setdefault(values["layer_index"], []).append(node)
    order = [
        sorted(bands[index], key=lambda node: graph.nx.nodes[node]["x"])
        for index in sorted(bands, reverse=True)
    ]
    place = {node: _share(k, band) for band in order for k, node in enumerate(band)}
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        neighbours = graph.nx.pred if down else graph.nx.succ
        for band in order if down else reversed(order):
            pulled = {}
            for node in band:
                weights = {v: e["consistency"] + 1e-3 for v, e in neighbours[node].items()}
                total = sum(weights.values())
                pulled[node] = (
                    sum(w * place[v] for v, w in weights.items()) / total if total else place[node]
                )
            band.sort(key=pulled.__getitem__)
            place.update((node, _share(k, band)) for k, node in enumerate(band))
    return order


def _share(k: int, band: list[str]) -> float:
    """Place of a band's k-th node as a share of the band's width."""
    return (k + 0.5) / len(band)


def band_positions(graph: Graph) -> dict[str, tuple[float, float]]:
    """Lay the nodes out in one band per layer.

    Returns
    -------
    dict of str to (float, float)
        ``(x, y)`` of each node, y down, the output's band on top, centred at x = 0; neighbours
        are 60 apart. Long bands are folded into rows, so that the whole is about twice as wide
        as high.
    """
    order = ordered_layers(graph)
    columns = max(8, math.ceil(2 * math.sqrt(len(graph))))
    gap = _SPACING * max(3.0, columns / 6)  # room for the edges
    positions = {}
    top = 0.0
    for band in order:
        rows = math.ceil(len(band) / columns)
        width = math.ceil(len(band) / rows)
        for k, node in enumerate(band):
            column, row = divmod(k, rows)
            positions[node] = (_SPACING * (column - (width - 1) / 2), top + _SPACING * row)
        top += _SPACING * (rows - 1) + gap
    return positions


def colour(reliability: float) -> tuple[int, int, int]:
    """Red, green and blue (0 to 255) for a reliability in [0, 1]: pale to deep blue."""
    for (low, start), (high, end) in itertools.pairwise(_RAMP):
        if reliability <= high:
            share = (reliability - low) / (high - low)
            red, green, blue = (round(a + share * (b - a)) for a, b in zip(start, end, strict=True))
            return red, green, blue
    return _RAMP[-1][1]


def thin(graph: Graph, max_nodes: int, max_parents: int | None = None) -> Graph:
    """Keep a part of the graph that can be drawn.

    Every layer gets an equal share of `max_nodes`; what a small layer leaves free goes to the
    others. From the top down each layer keeps the most telling node of every part, then the second
    one of each and so on, nodes of none last (`Graph.turns`); of one turn those first that have an
    edge from a node kept above (in the uppermost layer: any edge), since a drawing is there to show
    links, and then the most reliable. Of each node's edges from kept nodes the `max_parents` most
    consistent stay.
    """
    if isinstance(max_nodes, bool) or not isinstance(max_nodes, int) or max_nodes < 1:
        raise ExplgraphError(f"max_nodes is {max_nodes!r}; expected an int, 1 or more")
    nx = graph.nx
    bands: dict[int, list[str]] = {}
    for node, index in nx.nodes(data="layer_index"):
        bands.setdefault(index, []).append(node)
    shares = _fair_shares({index: len(band) for index, band in bands.items()}, max_nodes)
    kept: set[str] = set()
    for place, index in enumerate(sorted(bands, reverse=True)):
        turns = graph.turns(bands[index])

        def rank(
            node: str, uppermost: bool = place == 0, turns: dict[str, int] = turns
        ) -> tuple[int, bool, float]:
            linked = nx.out_degree(node) > 0 if uppermost else any(u in kept for u in nx.pred[node])
            return (turns[node], not linked, -nx.nodes[node]["reliability"])

        kept.update(sorted(bands[index], key=rank)[: shares[index]])
    thinned = graph.restricted(kept)
    if max_parents is not None:
        for node in thinned.nx:
            parents = thinned.nx.pred[node]
            by_consistency = sorted(parents, key=lambda u: -parents[u]["consistency"])
            thinned.nx.remove_edges_from([(u, node) for u in by_consistency[max_parents:]])
    return thinned


def _fair_shares(sizes: dict[int, int], total: int) -> dict[int, int]:
    """Split `total` evenly, none beyond its size; what an odd total leaves goes upwards."""
    shares = {}
    for done, (index, size) in enumerate(sorted(sizes.items(), key=lambda s: (s[1], s[0]))):
        # by size: whoever takes less than an even share leaves the rest to those after it
        shares[index] = min(size, total // (len(sizes) - done))
        total -= shares[index]
    return shares
