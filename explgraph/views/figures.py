"""Figures of nodes: what they stand for and where they are.

Every function gives a `matplotlib.figure.Figure` that no window or pyplot state holds on to, and
writes it to a file if `path` is given (whole or not at all; the suffix says the format). Axes over
an image use its pixels: ``[x, y]``, the first pixel's centre at (0.5, 0.5).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from explgraph.brief import counted
from explgraph.errors import ExplgraphError
from explgraph.gaussian import on_grid
from explgraph.graph.graph import Graph
from explgraph.network.geometry import Layer
from explgraph.parsed import Parse
from explgraph.views.figure_style import (
    MARKERS,
    PALETTE,
    Figure,
    bare_axes,
    extent,
    faded,
    overlay,
    pale,
    plain,
    short,
    show,
    written,
)
from explgraph.views.pictures import (
    Drawable,
    Pictures,
    best_sightings,
    columns_of,
    patch,
    patch_side,
)
from explgraph.views.pictures import mean_patch as mean_of

__all__ = ["evidence", "layer_heatmap", "mean_patch", "patches", "places"]


def patches(
    graph: Graph,
    node: str,
    images: Drawable,
    *,
    parse: Parse | None = None,
    count: int = 11,
    side: float | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw the patches where a node was found best, best first, and their mean.

    Parameters
    ----------
    graph : ExplanatoryGraph
    node : str
    images : ImageFolder, (N, H, W, 3) uint8 colours or list of PIL images
        That the graph was mined from, or that `parse` is of.
    parse : Parse, optional
        Where the node is in `images`; without it, what ``graph.top_images`` remembers.
    count : int
        At most so many.
    side : float, optional
        Of a patch, px; by default the receptive field's, see `explgraph.views.pictures.patch_side`.
    path : path, optional
        File to write.

    Returns
    -------
    Figure
        The first axes hold the mean patch, the others one patch each.
    """
    cut, titles = _cut(graph, node, images, parse, count, side)
    columns = min(6, len(cut) + 1)
    figure, axes = bare_axes(math.ceil((len(cut) + 1) / columns), columns)
    for ax, colours, title in zip(
        axes, [mean_of(cut), *(colours for colours, _ in cut)], ["mean", *titles], strict=False
    ):
        ax.imshow(colours)
        ax.set_title(title, fontsize=7)
    for ax in axes[len(cut) + 1 :]:
        ax.remove()
    figure.suptitle(_title(graph, node), fontsize=9)
    return written(figure, path)


def mean_patch(
    graph: Graph,
    node: str,
    images: Drawable,
    *,
    parse: Parse | None = None,
    count: int = 11,
    side: float | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw the mean of the patches where a node was found best: see `patches`."""
    cut, _ = _cut(graph, node, images, parse, count, side)
    figure, (ax,) = bare_axes(1, 1, inch=2.4)
    ax.imshow(mean_of(cut))
    ax.set_title(f"{_title(graph, node)}\nmean of {len(cut)}", fontsize=8)
    return written(figure, path)


def _cut(
    graph: Graph,
    node: str,
    images: Drawable,
    parse: Parse | None,
    count: int,
    side: float | None,
) -> tuple[list[tuple[NDArray[np.uint8], NDArray[np.bool_]]], list[str]]:
    """Patches of a node and their titles."""
    _check_node(graph, node)
    pictures = Pictures.of(images, graph.image_size, parse)
    seen = best_sightings(graph, node, pictures, parse, count)
    if not seen:
        raise ExplgraphError(
            f"node {node!r} was seen in none of these images; give those that the graph was mined "
            "from, or parse= of these"
        )
    side = patch_side(graph, node) if side is None else side
    cut = [patch(pictures[p.image], p.x, p.y, side, max(64, round(side))) for p in seen]
    return cut, [f"{plain(short(pictures.names[p.image], 18))}\n{p.score:.2f}" for p in seen]


def places(
    graph: Graph,
    parse: Parse,
    images: Drawable,
    image: int | str,
    *,
    nodes: Sequence[str] | None = None,
    most: int = 30,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw where nodes are in an image, a colour and marker per layer.

    Parameters
    ----------
    graph : ExplanatoryGraph
    parse : Parse
        Of `images`.
    images : ImageFolder, (N, H, W, 3) uint8 colours or list of PIL images
    image : int or str
        Which one, by number in `images` or by name.
    nodes : sequence of str, optional
        Which ones; by default those with the largest product of reliability and score, the score
        as a share of the node's best in the parse.
    most : int
        So many by default.
    path : path, optional
        File to write.

    Returns
    -------
    Figure
        One axes, in px of the image; a marker's centre is the node's place. Nodes with a label
        are named.
    """
    pictures = Pictures.of(images, graph.image_size, parse)
    picture, n = _picture_of(pictures, parse, image)
    columns = dict(zip(graph.node_ids, columns_of(graph, parse).tolist(), strict=True))
    if nodes is None:
        sure = {
            v: a["reliability"] * parse.scores[n, columns[v]] / max(parse.scores[:, columns[v]])
            for v, a in graph.nx.nodes.items()
            if parse.scores[n, columns[v]] > 0
        }
        nodes = sorted(sure, key=lambda v: -sure[v])[:most]
    for node in nodes:
        _check_node(graph, node)
    figure, (ax,) = bare_axes(1, 1, inch=4.2)
    show(ax, picture)
    for layer in reversed(graph.layers):
        here = [v for v in nodes if graph.nx.nodes[v]["layer"] == layer.name]
        if not here:
            continue
        at = parse.positions[n, [columns[v] for v in here]]
        colour, marker = _sign(graph, layer)
        ax.scatter(
            at[:, 0], at[:, 1], s=42, c=colour, marker=marker, edgecolors="black", linewidths=0.8,
            label=plain(short(layer.name, 24)), zorder=3,
        )  # fmt: skip
        for v, (x, y) in zip(here, at.tolist(), strict=True):
            if label := graph.nx.nodes[v]["label"]:
                ax.annotate(
                    plain(short(label, 24)), (x, y), xytext=(6, 4), textcoords="offset points",
                    fontsize=8, color="white", bbox={"fc": "#000000a0", "ec": "none", "pad": 1.5},
                )  # fmt: skip
    if nodes:
        ax.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.01), ncols=3, frameon=False)
    ax.set_title(plain(short(parse.names[n], 50)), fontsize=8)
    return written(figure, path)


def layer_heatmap(
    graph: Graph,
    parse: Parse,
    images: Drawable,
    image: int | str,
    *,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw the heat map of where each layer's nodes are in an image, as in the papers' figures.

    A layer's heat is the sum over its nodes of a Gaussian around the node's place, as wide as the
    node's spread (at least a sixtieth of the image), times its score as a share of its best and
    its reliability. Each map is scaled to its own maximum.

    Parameters
    ----------
    graph : ExplanatoryGraph
    parse : Parse
        Of `images`.
    images : ImageFolder, (N, H, W, 3) uint8 colours or list of PIL images
    image : int or str
        Which one, by number in `images` or by name.
    path : path, optional
        File to write.

    Returns
    -------
    Figure
        An axes with the image, then one per layer, the output first; in each of those the second
        image artist holds the heat ``(H, W)``, 0 to 1.
    """
    pictures = Pictures.of(images, graph.image_size, parse)
    picture, n = _picture_of(pictures, parse, image)
    layers = list(reversed(graph.layers))
    figure, axes = bare_axes(1, len(layers) + 1, inch=2.3)
    show(axes[0], picture)
    axes[0].set_title(plain(short(parse.names[n], 30)), fontsize=8)
    columns = columns_of(graph, parse)
    height, width = graph.image_size
    xs, ys = np.arange(width) + 0.5, np.arange(height) + 0.5
    values = list(graph.nx.nodes.values())
    best = np.maximum(parse.scores[:, columns].max(0), 1e-12)
    weight = parse.scores[n, columns] / best * np.array([a["reliability"] for a in values])
    sigma = np.maximum(np.array([a["sigma"] for a in values]), min(height, width) / 60)
    at = parse.positions[n, columns].astype(float)
    for ax, layer in zip(axes[1:], layers, strict=True):
        here = np.array([a["layer"] == layer.name for a in values], dtype=bool)
        along_x, along_y = on_grid(xs, ys, at[here], sigma[here])
        heat = (along_y * weight[here, None] / sigma[here, None] ** 2).T @ along_x
        if heat.max() > 0:
            heat = heat / heat.max()
        show(ax, faded(picture))
        overlay(ax, heat, "inferno")
        ax.set_title(f"{plain(short(layer.name, 28))}: {counted(here.sum(), 'node')}", fontsize=8)
    return written(figure, path)


def evidence(
    graph: Graph,
    images: Drawable,
    places: NDArray[np.float64],
    values: NDArray[np.float64],
    *,
    titles: Sequence[str] | None = None,
    spread: float | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw what speaks for an answer in some images, and what against it, as a heat map.

    Parameters
    ----------
    graph : ExplanatoryGraph
    images : ImageFolder, (N, H, W, 3) uint8 colours or list of PIL images
    places : (N, V, 2) float
        Where each of V nodes is, ``[x, y]`` px: ``positions`` of
        `explgraph.answers.evidence.node_evidence`, for instance.
    values : (N, V) float
        What each of them adds to an output there: above 0 speaks for it, below against.
    titles : sequence of str, optional
        Of the images; their names by default.
    spread : float, optional
        Of a node's Gaussian, px; by default a twenty-fifth of the image's shorter side.
    path : path, optional
        File to write.

    Returns
    -------
    Figure
        An axes per image, in px, whose second image artist holds the sum of the nodes' Gaussians
        ``(H, W)`` as a share of the largest of all images, -1 to 1; then the colour bar's.

    Raises
    ------
    ExplgraphError
        If images, places, values and titles don't fit each other.
    """
    places, values = np.asarray(places, dtype=np.float64), np.asarray(values, dtype=np.float64)
    count = len(values)
    if values.ndim != 2 or places.shape != (*values.shape, 2) or not values.size:
        raise ExplgraphError(
            f"places are {places.shape} and values {values.shape}; expected (N, V, 2) and (N, V)"
        )
    if not (np.isfinite(places).all() and np.isfinite(values).all()):
        raise ExplgraphError("places and values must be finite")
    pictures = Pictures(images, graph.image_size)
    if len(pictures) != count or (titles is not None and len(titles) != count):
        told = len(pictures) if titles is None else f"{len(pictures)}, titles {len(titles)}"
        raise ExplgraphError(f"values are of {count} images; images are {told}")
    height, width = pictures.image_size
    sigma = np.full(values.shape, min(height, width) / 25 if spread is None else spread)
    along_x, along_y = on_grid(np.arange(width) + 0.5, np.arange(height) + 0.5, places, sigma)
    heat = np.einsum("nvy,nv,nvx->nyx", along_y, values, along_x)
    heat /= max(float(np.abs(heat).max()), 1e-12)
    figure, axes = bare_axes(1, count, inch=3.0)
    for n, ax in enumerate(axes):
        show(ax, pale(pictures[n]))
        shown = ax.imshow(
            heat[n], extent=extent(heat[n]), cmap=_FOR_AND_AGAINST, vmin=-1, vmax=1,
            alpha=np.clip(1.6 * np.abs(heat[n]), 0, 0.9),
        )  # fmt: skip
        ax.set_title(plain(short(titles[n] if titles else pictures.names[n], 60)), fontsize=10)
    bar = figure.colorbar(shown, ax=axes, shrink=0.7, aspect=14, pad=0.015)
    bar.set_ticks([-1, 0, 1], labels=["against", "nothing", "for"])
    bar.ax.tick_params(labelsize=9, length=0)
    bar.outline.set_visible(False)
    return written(figure, path)


_FOR_AND_AGAINST = "RdBu_r"  # of like lightness at both ends, and told apart by colour-blind people


def _check_node(graph: Graph, node: str) -> None:
    """Refuse a node that isn't there."""
    if node not in graph.nx:
        raise ExplgraphError(f"the graph has no node {node!r}; see graph.node_ids")


def _picture_of(
    pictures: Pictures, parse: Parse, image: int | str
) -> tuple[NDArray[np.uint8], int]:
    """Give an image's colours, and its number in the parse."""
    name = pictures.names[pictures.index(image)]
    if name not in parse.names:
        raise ExplgraphError(f"parse is not of image {name!r}; parse the images that you draw")
    return pictures[name], parse.names.index(name)


def _sign(graph: Graph, layer: Layer) -> tuple[str, str]:
    """Colour and marker of a layer; the output's is always the same."""
    k = len(graph.layers) - 1 - layer.index
    return PALETTE[k % len(PALETTE)], MARKERS[k % len(MARKERS)]


def _title(graph: Graph, node: str) -> str:
    """Name a node by its label, if it has one, and its id."""
    label = graph.nx.nodes[node]["label"]
    return plain(f"{short(label, 40)} ({short(node, 60)})" if label else short(node, 60))
