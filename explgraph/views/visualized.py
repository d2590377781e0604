"""Figures of what nodes answer to: exemplars, heat and outlines, optimised images, inversions.

What is drawn has been computed before (`explgraph.visualizing`). `tinted` and `revealed` give plain
colours, for pages that draw for themselves.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from explgraph.brief import counted
from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph
from explgraph.images.channels import undone
from explgraph.parsed import Parse, parts_in
from explgraph.views.figure_style import (
    PALETTE,
    Axes,
    Figure,
    bare_axes,
    extent,
    faded,
    overlay,
    plain,
    short,
    show,
    stroke,
    written,
)
from explgraph.views.pictures import (
    Colours,
    Drawable,
    Pictures,
    Sighting,
    best_sightings,
    part_side,
    part_sightings,
    patch,
    patch_side,
)
from explgraph.visualizing.invert import Inverted
from explgraph.visualizing.masks import Masks
from explgraph.visualizing.maximise import Optimised
from explgraph.visualizing.responses import asked

__all__ = [
    "answers_figure",
    "as_colours",
    "inversion_figure",
    "revealed",
    "sightings",
    "tinted",
]

_PAPER = 245  # grey that what doesn't matter fades into
_DIM = 0.35  # how much of a picture's colours is left outside an outline
_SEEN = 0.2  # opacity from which an optimised image is worth the room
_PATCH = 160  # px of a patch, at least: exemplars are looked at closely


def sightings(
    graph: Graph, what: str, images: Drawable, parse: Parse, count: int = 4
) -> list[Sighting]:
    """Where a node or a part was found best in some images, best first.

    Parameters
    ----------
    graph : ExplanatoryGraph
    what : str
        A node's id, or a part's id, name or title.
    images : ImageFolder, (N, H, W, 3) uint8 colours or list of PIL images
    parse : Parse
        Of these images.
    count : int
        At most so many.

    Raises
    ------
    ExplgraphError
        If there is no such node or part, or none of the images shows it.
    """
    wanted = asked(graph, what)
    pictures = Pictures.of(images, graph.image_size, parse)
    if wanted.id in graph.nx:
        seen = best_sightings(graph, wanted.id, pictures, parse, count)
    else:
        seen = part_sightings(graph.part(wanted.id), pictures, parts_in(graph, parse), count)
    if not seen:
        raise ExplgraphError(
            f"{wanted.id!r} was found in none of these images; give images that show it"
        )
    return seen


def as_colours(graph: Graph, images: NDArray[np.floating]) -> Colours:
    """Turn what a network takes, ``(..., C, H, W)``, into colours ``(..., H, W, 3)`` uint8.

    By the mean and spread that the graph's photographs were normalised with, and by the channels
    and the window that they are shown by; of a graph that was mined from a tensor these aren't
    known, and colours are stretched from each image's darkest to its brightest. An image of one or
    two channels becomes grey, by the first; of more than three the first three show.
    """
    return undone(np.asarray(images), graph.nx.graph["preprocessing"])


def tinted(picture: Colours, inside: NDArray[np.bool_]) -> Colours:
    """Dim a picture (H, W, 3) outside an outline, given by what is inside, (H, W)."""
    dim = _DIM * faded(picture) + (1 - _DIM) * _PAPER
    colours: Colours = np.rint(np.where(inside[..., None], picture, dim)).astype(np.uint8)
    return colours


def revealed(picture: Colours, opacity: NDArray[np.floating]) -> Colours:
    """Let a picture (H, W, 3) fade into the paper where its opacity (H, W) is low, 0 to 1."""
    much = np.asarray(opacity, dtype=np.float64)[..., None]
    colours: Colours = np.rint(picture * much + _PAPER * (1 - much)).astype(np.uint8)
    return colours


def answers_figure(
    graph: Graph,
    what: str,
    images: Drawable,
    parse: Parse,
    *,
    exemplars: bool = True,
    masks: Masks | None = None,
    optimised: Optimised | None = None,
    count: int = 4,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw what a node or a part answers to.

    Parameters
    ----------
    graph : ExplanatoryGraph
    what : str
        A node's id, or a part's id, name or title.
    images : ImageFolder, (N, H, W, 3) uint8 colours or list of PIL images
    parse : Parse
        Of these images.
    exemplars : bool
        Draw the patches where it was found best.
    masks : Masks, optional
        Of images where it was found best, by their names: their heat and outlines are drawn at full
        resolution, the outlines in the exemplars as well.
    optimised : Optimised, optional
        To draw beside.
    count : int
        So many images, at most.
    path : path, optional
        File to write.

    Returns
    -------
    Figure
        Axes are labelled ``"exemplar NAME"``, ``"mask NAME"`` and ``"optimised"``; those of images
        and masks count px.

    Raises
    ------
    ExplgraphError
        If there is no such node or part, none of the images shows it, or nothing is to be drawn.
    """
    wanted = asked(graph, what)
    if not exemplars and masks is None and optimised is None:
        raise ExplgraphError("nothing is to be drawn; give masks or optimised, or exemplars=True")
    pictures = Pictures.of(images, graph.image_size, parse)
    seen = sightings(graph, what, images, parse, count) if exemplars or masks is not None else []
    if masks is not None and masks.id != wanted.id:
        raise ExplgraphError(f"masks are of {masks.id!r}, not of {wanted.id!r}")
    if masks is not None:
        seen = [one for one in seen if pictures.names[one.image] in masks.names]
    extra = 0 if optimised is None else 2 if exemplars or masks is not None else 1
    rows, columns = max(1, int(exemplars) + (masks is not None)), max(1, len(seen))
    figure = _grid(rows if seen else 1, columns if seen else 0, extra)
    specs = figure.add_gridspec(rows if seen else 1, (columns if seen else 0) + extra)
    inside = None if masks is None else masks.inside()
    levels = None if masks is None else masks.levels()
    side = patch_side(graph, wanted.id) if wanted.id in graph.nx else part_side(graph.image_size)
    for k, one in enumerate(seen):
        name = pictures.names[one.image]
        lined, level = None, 0.0
        if masks is not None and inside is not None and levels is not None:
            i = masks.names.index(name)
            # a pixel around what is inside, so that the line isn't cut
            lined = np.where(binary_dilation(inside[i]), masks.heat[i], 0)
            level = float(levels[i])
        if exemplars:
            ax = _bare(figure, specs[0, k], f"exemplar {name}")
            _exemplar(ax, pictures[name], one, side, lined, level)
            ax.set_title(f"{one.score:.2f}", fontsize=7)
        if masks is not None and lined is not None:
            ax = _bare(figure, specs[rows - 1, k], f"mask {name}")
            show(ax, faded(pictures[name]))
            overlay(ax, masks.heat[i].astype(np.float64), "inferno")
            _outline(ax, lined, level)
            ax.set_title(plain(short(name, 22)), fontsize=7)
    if optimised is not None:
        start = len(seen)
        ax = _bare(figure, specs[:, start:], "optimised")
        shown = revealed(as_colours(graph, optimised.image), optimised.opacity)
        ax.imshow(shown, extent=extent(shown), interpolation="bilinear")
        left, right, bottom, top = _around(optimised.opacity)
        ax.set_xlim(left, right)
        ax.set_ylim(bottom, top)
        told = "optimised"
        if masks is not None and masks.response.max() > 0:
            times = optimised.response / masks.response.max()
            told += f", answered {times:.1f} times\nas strongly as the best image here"
        ax.set_title(told, fontsize=7)
    figure.suptitle(_title(graph, wanted.id, len(wanted.nodes)), fontsize=9)
    return written(figure, path)


def inversion_figure(
    graph: Graph,
    inverted: Inverted,
    images: Drawable,
    *,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw images, and below each the one that shows the same nodes at the same places.

    Parameters
    ----------
    graph : ExplanatoryGraph
    inverted : Inverted
    images : ImageFolder, (N, H, W, 3) uint8 colours or list of PIL images
        Holding the originals, by name.
    path : path, optional
        File to write.

    Returns
    -------
    Figure
        Axes labelled ``"original NAME"`` and ``"inverted NAME"``.
    """
    names = inverted.before.names
    pictures = Pictures(images, graph.image_size, names)
    colours = as_colours(graph, inverted.images)
    figure, axes = bare_axes(2, len(names), inch=2.0)
    for k, name in enumerate(names):
        above, below = axes[k], axes[len(names) + k]
        above.set_label(f"original {name}")
        below.set_label(f"inverted {name}")
        show(above, pictures[name])
        above.set_title(plain(short(name, 22)), fontsize=7)
        below.imshow(colours[k], extent=extent(colours[k]), interpolation="bilinear")
        there = int((inverted.before.scores[k] >= 0.5).sum())
        below.set_title(f"{inverted.again[k]:.0%} of {there} nodes again", fontsize=7)
    return written(figure, path)


def _grid(rows: int, columns: int, extra: int) -> Figure:
    """Give an empty figure of so many tiles."""
    inch = 1.5 if extra and columns else 2.0
    wide, tall = inch * (columns + extra) + 0.1, inch * max(rows, 1) + 0.55
    return Figure(figsize=(max(wide, 2.6), tall), dpi=120, layout="constrained")


def _bare(figure: Figure, spec: object, label: str) -> Axes:
    """Add bare axes."""
    ax: Axes = figure.add_subplot(spec, label=label)  # type: ignore[call-overload]
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def _around(opacity: NDArray[np.floating]) -> tuple[float, float, float, float]:
    """Edges of the square around what is seen of an image: left, right, bottom, top, px."""
    height, width = opacity.shape
    rows, columns = np.nonzero(opacity >= _SEEN)
    if not len(rows):
        return 0.0, float(width), float(height), 0.0
    low = np.array([columns.min(), rows.min()])
    high = np.array([columns.max(), rows.max()]) + 1
    side = min(1.2 * float((high - low).max()), min(width, height))
    left, top = ((low + high) / 2 - side / 2).clip(0, np.array([width, height]) - side).tolist()
    return left, left + side, top + side, top


def _exemplar(
    ax: Axes,
    picture: Colours,
    one: Sighting,
    side: float,
    heat: NDArray[np.float32] | None,
    level: float,
) -> None:
    """Draw the patch around a sighting, in the picture's px, and the outline in it."""
    colours, _ = patch(picture, one.x, one.y, side, max(_PATCH, round(side)))
    left, top = one.x - side / 2, one.y - side / 2
    ax.imshow(colours, extent=(left, left + side, top + side, top), interpolation="bilinear")
    if heat is not None:
        _outline(ax, heat, level)
    ax.set_xlim(left, left + side)
    ax.set_ylim(top + side, top)


def _outline(ax: Axes, heat: NDArray[np.float32], level: float) -> None:
    """Draw where the heat is at a level."""
    if not 0 < level < heat.max():
        return
    height, width = heat.shape
    across, down = np.arange(width) + 0.5, np.arange(height) + 0.5
    drawn = ax.contour(across, down, heat, [level], colors=[PALETTE[1]], linewidths=1.1)
    drawn.set_path_effects(stroke(2.2, "black"))
    left, right, bottom, top = extent(heat)
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)


def _title(graph: Graph, what: str, nodes: int) -> str:
    """Name what is drawn."""
    if what in graph.nx:
        label = graph.nx.nodes[what]["label"]
        return plain(f"{short(label, 40)} ({short(what, 60)})" if label else short(what, 60))
    return plain(f"{short(graph.part(what).title, 40)}: {counted(nodes, 'node')} together")
