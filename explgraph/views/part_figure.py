"""A figure of the parts of a graph: where they are in images, and what each looks like.

On the left some images, with every part's number at its place and a circle of its radius; on the
right the best patches of each part.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph
from explgraph.graph.parts import Part, find_part
from explgraph.parsed import Parse, parts_in
from explgraph.parsed_parts import ParsedParts
from explgraph.views.figure_style import (
    Axes,
    Circle,
    Figure,
    Sign,
    extent,
    part_sign,
    placed_axes,
    plain,
    short,
    stroke,
    written,
)
from explgraph.views.pictures import Drawable, Pictures, part_side, part_sightings, patch
from explgraph.views.spread import spread

__all__ = ["part_figure"]

_MOST = 12  # parts, unless told which
_LEAST = 0.15  # presence of what is drawn
_SHEET = 7.2  # height and, at most, width of the sheet of images, inches
_TILE = 1.5  # width of a part's patches, at least, inches
_WIDEST = 2.2
_GAP = 0.14
_TITLE = 0.5  # height of a part's title above its patches, inches
_APART = 12.0  # least distance of two numbers, points
_NAMED = 6  # so many parts have their names in the images, too; with more, they would cover them
_BEST = 4  # patches of a part


def part_figure(
    graph: Graph,
    parse: Parse,
    images: Drawable,
    *,
    parts: Sequence[str] | None = None,
    shown: Sequence[int | str] | None = None,
    count: int = 4,
    side: float | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw where the parts of a graph are in some images, and the patches that show each best.

    In an image, a part's number is at its place or, where it would hide another one, beside it; a
    circle of the part's radius says how far its nodes scatter. Number and circle are the fainter
    the less sure it is that the image shows the part; below a presence of 0.15 they are left out.

    Parameters
    ----------
    graph : ExplanatoryGraph
    parse : Parse
        Of `images`, by this graph.
    images : ImageFolder, (N, H, W, 3) uint8 colours or list of PIL images
    parts : sequence of str, optional
        Which ones, by id or name; the first twelve by default.
    shown : sequence of int or str, optional
        Which images, by number in `images` or by name. By default `count` that are spread over
        the parse and show many parts.
    count : int
        So many images by default.
    side : float, optional
        Of a patch, px; 0.4 of the image's shorter side by default.
    path : path, optional
        File to write.

    Returns
    -------
    Figure
        First the axes of the images, in px, labelled ``"image NAME"``; then four for each part,
        labelled ``"part ID"``.

    Raises
    ------
    ExplgraphError
        If the graph has no parts, there is no such part or image, or the parse is not of the
        images.
    """
    drawn = _chosen(graph, parts)
    found = parts_in(graph, parse)
    pictures = Pictures.of(images, graph.image_size, parse)
    here = _images(pictures, found, [found.parts.index(part.id) for part in drawn], shown, count)
    signs = {part.id: part_sign(part.id, k) for k, part in enumerate(drawn)}

    height, width = graph.image_size
    columns, inch = _grid(len(here), width / height)
    rows = math.ceil(len(here) / columns)
    image = (inch * width / height, inch)
    sheet = (columns * (image[0] + _GAP) - _GAP, rows * (image[1] + _GAP) - _GAP)
    fit = max(1, int((_SHEET + _GAP) // (_TILE + _TITLE + _GAP)))
    across = math.ceil(len(drawn) / fit)
    down = math.ceil(len(drawn) / across)
    tile = min(_WIDEST, (max(_SHEET, sheet[1]) + _GAP) / down - _GAP - _TITLE)
    right = sheet[0] + 3 * _GAP
    size = (
        right + across * (tile + 2 * _GAP) - _GAP,
        max(sheet[1], down * (tile + _TITLE + _GAP) - _GAP) + 2 * _GAP,
    )
    figure = Figure(figsize=size, dpi=120)

    for k, n in enumerate(here):
        row, column = divmod(k, columns)
        corner = (_GAP + column * (image[0] + _GAP), _GAP + row * (image[1] + _GAP))
        ax = placed_axes(figure, corner, image, f"image {found.names[n]}")
        _image(ax, pictures[found.names[n]], found, n, drawn, signs, image[1] * 72)
    pixels = part_side(graph.image_size) if side is None else side
    for k, part in enumerate(drawn):
        column, row = divmod(k, down)
        corner = (right + column * (tile + 2 * _GAP), _GAP + row * (tile + _TITLE + _GAP))
        cut = [
            patch(pictures[p.image], p.x, p.y, pixels, max(96, round(pixels)))[0]
            for p in part_sightings(part, pictures, found, _BEST)
        ]
        _tile(figure, corner, tile, part, signs[part.id], cut)
    return written(figure, path)


def _chosen(graph: Graph, parts: Sequence[str] | None) -> list[Part]:
    """Give the parts to draw."""
    if parts is None:
        drawn = list(graph.parts[:_MOST])
        if not drawn:
            find_part(graph, "")  # says why there are none
        return drawn
    if isinstance(parts, str) or not len(parts):
        raise ExplgraphError(
            f"parts is {parts!r}; expected a list of parts' ids or names, such as ['p1', 'p2']"
        )
    return list({part.id: part for part in (find_part(graph, one) for one in parts)}.values())


def _images(
    pictures: Pictures,
    found: ParsedParts,
    columns: Sequence[int],
    shown: Sequence[int | str] | None,
    count: int,
) -> list[int]:
    """Numbers, in the parse, of the images to draw."""
    if shown is not None:
        if isinstance(shown, str) or not len(shown):
            raise ExplgraphError(f"shown is {shown!r}; expected a list of images, such as [0, 1]")
        names = [pictures.names[pictures.index(one)] for one in shown]
        for name in names:
            if name not in found.names:
                raise ExplgraphError(
                    f"parse is not of image {name!r}; parse the images that you draw"
                )
        return [found.names.index(name) for name in names]
    if not count >= 1:
        raise ExplgraphError(f"count is {count!r}; expected at least one image")
    there = [n for n, name in enumerate(found.names) if name in pictures]
    if not there:
        raise ExplgraphError("parse is of none of these images; parse the images that you draw")
    many = found.presence[:, columns].sum(1)
    runs = np.array_split(np.array(there), min(count, len(there)))
    return [int(run[many[run].argmax()]) for run in runs]


def _grid(count: int, aspect: float) -> tuple[int, float]:
    """Give columns, and the height of an image in inches, so that images are as large as can be."""
    best = (1, 0.0)
    for columns in range(1, count + 1):
        rows = math.ceil(count / columns)
        inch = min(
            (_SHEET + _GAP) / rows - _GAP, ((_SHEET + _GAP) / columns - _GAP) / aspect, _SHEET / 2
        )
        if inch > best[1] + 1e-9:
            best = (columns, inch)
    return best


def _image(
    ax: Axes,
    picture: NDArray[np.uint8],
    found: ParsedParts,
    n: int,
    drawn: Sequence[Part],
    signs: dict[str, Sign],
    points: float,
) -> None:
    """Draw an image, `points` high, and the parts in it."""
    height, width = picture.shape[:2]
    ax.imshow(picture, extent=extent(picture), interpolation="bilinear")
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    columns = [found.parts.index(part.id) for part in drawn]
    there = found.presence[n, columns].astype(float)
    at = found.positions[n, columns].astype(float)
    unit = height / points  # px of a point
    where = np.flatnonzero(there >= _LEAST)
    labels = spread(at[where], _APART * unit, (width, height))
    order = np.argsort(there[where], kind="stable")  # the surest on top
    for i in order.tolist():
        k = int(where[i])
        part, sign, much = drawn[k], signs[drawn[k].id], float(there[k])
        seen = 0.25 + 0.75 * min(1.0, max(0.0, (much - _LEAST) / (0.8 - _LEAST)))
        radius = float(found.radius[n, columns[k]])
        (x, y), (label_x, label_y) = at[k].tolist(), labels[i].tolist()
        for wide, edge in ((2.4, "black"), (1.3, sign.colour)):
            ax.add_patch(
                Circle(
                    (x, y), radius, fill=False, linewidth=wide, edgecolor=edge,
                    alpha=seen * (0.5 if edge == "black" else 1.0), zorder=3 + much,
                )
            )  # fmt: skip
        if math.hypot(label_x - x, label_y - y) > 3 * unit:
            ax.plot(
                [label_x, x], [label_y, y], color=sign.colour, linewidth=1.1, alpha=seen,
                path_effects=stroke(2.2, "black"), zorder=5 + much,
            )  # fmt: skip
            ax.scatter(
                x, y, s=12, c=sign.colour, marker=sign.marker, edgecolors="black",
                linewidths=0.6, alpha=seen, zorder=5.5 + much,
            )  # fmt: skip
        ax.scatter(
            label_x, label_y, s=105, c=sign.colour, marker=sign.marker, edgecolors="black",
            linewidths=0.8, alpha=seen, zorder=7 + much,
        )  # fmt: skip
        ax.text(
            label_x, label_y, sign.number, color=sign.ink, fontsize=6.5, fontweight="bold",
            ha="center", va="center_baseline", alpha=max(seen, 0.6), zorder=7.5 + much,
            clip_on=True,
        )  # fmt: skip
        if part.name and len(drawn) <= _NAMED:
            ax.annotate(
                plain(short(part.name, 18)), (label_x, label_y), xytext=(0, -7),
                textcoords="offset points", fontsize=8, color="white", ha="center", va="top",
                alpha=seen, path_effects=stroke(2, "black"), zorder=7.5 + much, clip_on=True,
                annotation_clip=True,
            )  # fmt: skip


def _tile(
    figure: Figure,
    corner: tuple[float, float],
    side: float,
    part: Part,
    sign: Sign,
    cut: Sequence[NDArray[np.uint8]],
) -> None:
    """Draw a part's best patches below its title and what is known of it; inches."""
    head = placed_axes(figure, corner, (side, _TITLE), f"title {part.id}")
    head.set_xlim(0, side)
    head.set_ylim(_TITLE, 0)
    head.patch.set_visible(False)
    head.scatter(
        0.1, 0.11, s=120, c=sign.colour, marker=sign.marker, edgecolors="black", linewidths=0.8,
        clip_on=False,
    )  # fmt: skip
    head.text(
        0.1, 0.11, sign.number, color=sign.ink, fontsize=7, fontweight="bold", ha="center",
        va="center_baseline",
    )  # fmt: skip
    wide = int(side * 12)  # letters
    title = plain(short(part.title, wide - 2))
    head.text(0.24, 0.11, title, fontsize=9, fontweight="bold", va="center_baseline")
    nodes = f"{len(part.nodes):,} nodes" if len(part.nodes) > 1 else "1 node"
    for line, text in enumerate(
        (
            _layers(part, int(1.8 * wide)),
            f"{nodes}, in {part.support:.0%}{', still' if part.still else ''}",
        )
    ):
        head.text(0.0, 0.28 + 0.115 * line, plain(text), fontsize=6.5, color="#505050", va="center")
    inch = (side - 0.04) / 2
    for k, colours in enumerate(cut):
        row, column = divmod(k, 2)
        place = (corner[0] + column * (inch + 0.04), corner[1] + _TITLE + row * (inch + 0.04))
        placed_axes(figure, place, (inch, inch), f"part {part.id}").imshow(colours)


def _layers(part: Part, most: int) -> str:
    """Name a part's layers, or the lowest and the highest where all take too many letters."""
    named = ", ".join(part.layers)
    if len(named) <= most:
        return named
    if len(part.layers) == 1:
        return short(named, most)
    ends = [part.layers[0], part.layers[-1]]
    if len(" to ".join(ends)) > most:
        ends = [short(end, most // 2 - 2) for end in ends]
    return " to ".join(ends)
