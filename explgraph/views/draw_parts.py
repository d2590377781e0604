"""A drawing of the graph of the parts: each part by its best patches, linked to what goes with it.

Parts take the places of a grid on which linked ones are neighbours and, as far as that leaves room,
what is usually above in the images is above. That is a quadratic assignment, small enough to be
descended from some starts by exchanging pairs.
"""

from __future__ import annotations

import itertools
import math

import networkx
import numpy as np
from numpy.typing import NDArray

from explgraph.graph.graph import Graph
from explgraph.graph.parts import Part
from explgraph.views.draw_patches import Patches
from explgraph.views.figure_style import Figure, Sign, part_sign
from explgraph.views.sheet import INK, MARGIN, QUIET, Entry, Paper, Sheet, legend_height

__all__ = ["draw_parts"]

_PITCH, _WIDE_PITCH = 20.0, 28.5  # mm from part to part
_GAP = 0.3  # of the pitch, between two parts, for the links
_BETWEEN = 5.5  # mm between rows, for the same
_HEAD = 3.8  # mm above a part's patches
_FOOT = 3.0  # mm below
_BEST = 4  # patches of a part
_LINKS = 2  # of every part the strongest are drawn
_RIGID = 0.06  # of the image's side: displacements that change less with the pose
_LOOSE = "#9fb0c0"
_STARTS = 12
_PLACE = 0.15  # what lying as in the image is worth, in links' lengths
_AROUND = 1.5  # what it costs a link to lead around a part


def draw_parts(graph: Graph, parts: list[Part], patches: Patches, paper: Paper) -> Figure:
    """Draw some parts and the strongest links between them.

    Parameters
    ----------
    graph : Graph
    parts : list of Part
    patches : Patches
    paper : Paper
    """
    width = paper.width
    pitch = _PITCH if paper.narrow else _WIDE_PITCH
    columns = max(1, min(len(parts), round((width - 2 * MARGIN) / pitch)))
    rows = math.ceil(len(parts) / columns)
    columns = math.ceil(len(parts) / rows)
    tile = (1 - _GAP) * pitch
    pitch = (width - 2 * MARGIN) / columns
    step = _HEAD + tile + _FOOT + _BETWEEN
    joined = _strongest(graph, [part.id for part in parts])
    most = max((a["links"] for _, _, a in joined.edges(data=True)), default=1)
    legend = _legend(most)
    sheet = Sheet(paper, rows * step + legend_height(legend, width))
    cells = _places(parts, joined, rows, columns)
    signs = {part.id: part_sign(part.id, k) for k, part in enumerate(parts)}
    corner: dict[str, tuple[float, float]] = {}
    for part, (row, column) in zip(parts, cells, strict=True):
        x, y = MARGIN + (column + 0.5) * pitch - tile / 2, MARGIN + row * step + _HEAD
        _tile(sheet, part, signs[part.id], patches, x, y, tile)
        corner[part.id] = (x, y)
    rigid = _RIGID * math.sqrt(math.prod(graph.image_size))
    for upper, lower, bent in _shown(joined, dict(zip(corner, cells, strict=True))):
        values = joined.edges[upper, lower]
        bend = 0.0
        if bent:
            length = math.dist(corner[upper], corner[lower])
            bend = 2 * (tile / 2 + _HEAD + _BETWEEN / 2) / length
        start, end = _ends(corner[upper], corner[lower], tile, bend)
        sheet.arrow(
            start, end, width=_line(values["links"], most), bend=bend,
            colour=INK if values["sigma"] <= rigid else _LOOSE,
        )  # fmt: skip
    sheet.legend(rows * step, legend)
    return sheet.figure


def _strongest(graph: Graph, ids: list[str]) -> networkx.DiGraph:
    """Give each part's strongest links."""
    whole = graph.part_graph().subgraph(ids)
    kept: set[tuple[str, str]] = set()
    for part in ids:
        both = [*whole.in_edges(part, data="links"), *whole.out_edges(part, data="links")]
        both.sort(key=lambda edge: (-edge[2], edge[:2]))
        kept |= {(u, v) for u, v, _ in both[:_LINKS]}
    drawn = networkx.DiGraph()
    drawn.add_nodes_from(ids)
    drawn.add_edges_from((u, v, whole.edges[u, v]) for u, v in sorted(kept))
    return drawn


def _shown(
    joined: networkx.DiGraph, cell: dict[str, tuple[int, int]]
) -> list[tuple[str, str, bool]]:
    """Give the links to draw, and whether each has to lead around a part.

    One that has to is left out unless it is all that joins a part to others.
    """
    free = [(u, v) for u, v in joined.edges if not _between(cell[u], cell[v])]
    held = {part for link in free for part in link}
    around = [(u, v) for u, v in joined.edges if (u, v) not in free and not {u, v} <= held]
    return [(u, v, False) for u, v in free] + [(u, v, True) for u, v in around]


def _places(
    parts: list[Part], joined: networkx.DiGraph, rows: int, columns: int
) -> list[tuple[int, int]]:
    """Give each part's row and column."""
    cells = [*itertools.product(range(rows), range(columns))]
    far = np.array([[_length(a, b) for b in cells] for a in cells])
    number = {part.id: k for k, part in enumerate(parts)}
    pull = np.zeros((len(cells), len(cells)))  # what isn't a part pulls nothing
    most = max((a["links"] for _, _, a in joined.edges(data=True)), default=1)
    for u, v, values in joined.edges(data=True):
        pull[number[u], number[v]] = pull[number[v], number[u]] = (values["links"] / most) ** 0.5
    at = np.array([part.place for part in parts])
    spread = np.maximum(np.ptp(at, axis=0), 1e-9)
    at = (at - at.min(0)) / spread  # 0 to 1, right and down
    grid = np.array([(c / max(columns - 1, 1), r / max(rows - 1, 1)) for r, c in cells])
    lie = np.zeros((len(cells), len(cells)))
    lie[: len(parts)] = (
        _PLACE * np.linalg.norm(at[:, None] - grid[None], axis=2) * max(rows, columns)
    )
    draws = np.random.default_rng(0)
    byplace = np.argsort(np.lexsort((at[:, 0], np.round(at[:, 1] * rows))), kind="stable")
    starts = [np.concatenate([byplace, np.arange(len(parts), len(cells))])]
    starts += [draws.permutation(len(cells)) for _ in range(_STARTS)]
    best = min((_settled(start, pull, far, lie) for start in starts), key=lambda found: found[0])
    return [cells[k] for k in best[1][: len(parts)]]


def _settled(
    at: NDArray[np.int64], pull: NDArray[np.float64], far: NDArray[np.float64],
    lie: NDArray[np.float64],
) -> tuple[float, NDArray[np.int64]]:  # fmt: skip
    """Exchange pairs until none is worth it; give the cost and each item's cell."""
    items = np.arange(len(at))

    def cost(at: NDArray[np.int64]) -> float:
        return float((pull * far[np.ix_(at, at)]).sum() / 2 + lie[items, at].sum())

    now, better = cost(at), True
    while better:
        better = False
        for i, j in itertools.combinations(range(len(at)), 2):
            tried = at.copy()
            tried[[i, j]] = tried[[j, i]]
            if (new := cost(tried)) < now - 1e-9:
                at, now, better = tried, new, True
    return now, at


def _length(a: tuple[int, int], b: tuple[int, int]) -> float:
    """Say how long a link between two cells is, and how much in the way of others."""
    length = math.hypot(a[0] - b[0], a[1] - b[1])
    return length + _AROUND * _between(a, b)


def _between(a: tuple[int, int], b: tuple[int, int]) -> int:
    """Count the cells that a straight link between two others crosses."""
    down, right = b[0] - a[0], b[1] - a[1]
    length = math.hypot(down, right)
    if not length:
        return 0
    low, high = (min(a[0], b[0]), min(a[1], b[1])), (max(a[0], b[0]), max(a[1], b[1]))
    inner = itertools.product(range(low[0], high[0] + 1), range(low[1], high[1] + 1))
    return sum(
        abs(down * (c - a[1]) - right * (r - a[0])) / length < 0.45
        for r, c in inner
        if (r, c) not in (a, b)
    )


def _ends(
    start: tuple[float, float], end: tuple[float, float], tile: float, bend: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Give where a link leaves the one part and reaches the other; both by their corners."""
    (x0, y0), (x1, y1) = ((x + tile / 2, y + tile / 2) for x, y in (start, end))
    # a bent one sets out towards its bend (matplotlib's arc3, y down)
    middle = ((x0 + x1) / 2 + bend * (y1 - y0), (y0 + y1) / 2 - bend * (x1 - x0))
    return _leave((x0, y0), middle, tile / 2), _leave((x1, y1), middle, tile / 2)


def _leave(
    centre: tuple[float, float], towards: tuple[float, float], half: float
) -> tuple[float, float]:
    """Give where the way from a part's centre crosses the border of it and its text."""
    dx, dy = towards[0] - centre[0], towards[1] - centre[1]
    wide, high = half + 0.7, half + (_FOOT if dy > 0 else _HEAD)
    share = min(wide / max(abs(dx), 1e-9), high / max(abs(dy), 1e-9), 1.0)
    return centre[0] + share * dx, centre[1] + share * dy


def _line(links: float, most: float) -> float:
    """Width of a link, pt."""
    return 0.5 + 2.3 * math.sqrt(links / most)


def _tile(
    sheet: Sheet, part: Part, sign: Sign, patches: Patches, x: float, y: float, tile: float
) -> None:
    """Draw a part: its title, its best patches, how often it is there."""
    sheet.badge(x + 1.5, y - 2.1, sign)
    sheet.text(x + 3.6, y - 2.1, part.title, size=7, bold=True, room=tile - 2.5)
    side = tile / 2
    cut = patches.of_part(part, _BEST, sheet.pixels(side))
    for k in range(_BEST):
        row, column = divmod(k, 2)
        if k < len(cut):
            sheet.picture(x + column * side, y + row * side, side, side, cut[k])
        else:
            sheet.blank(x + column * side, y + row * side, side)
    sheet.box(x, y, tile, tile, edge=sign.colour, line=1.6)
    layers = f"{len(part.layers)} layer{'s' * (len(part.layers) > 1)}"
    told = f"in {part.support:.0%}, {'still' if part.still else layers}"
    sheet.text(x + tile / 2, y + tile + 1.7, told, colour=QUIET, align="center")


def _legend(most: int) -> list[Entry]:
    """Say what lines and figures mean."""
    samples = sorted({1, max(1, round(most / 4)), most})
    return [
        *((_line(n, most), INK, f"{n}") for n in samples),
        (0, "", "links of their nodes"),
        (1.5, INK, "move together"),
        (1.5, _LOOSE, "each on its own"),
        (0, "", "in 50%: share of the images that show it"),
    ]
