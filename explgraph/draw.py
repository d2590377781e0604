"""Figures: what a node stands for, where it is, and what a filter answers to.

Every function gives a `matplotlib.figure.Figure` that no window or pyplot state holds on to, and
writes it to a file if `path` is given (whole or not at all; the suffix says the format). Axes over
an image use its pixels: ``[x, y]``, the first pixel's centre at (0.5, 0.5).

Colours are those of Okabe and Ito, which colour-blind people can tell apart; layers have markers
of their own as well.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from explgraph.atomic import atomic_write
from explgraph.errors import ExplgraphError, MissingPackageError
from explgraph.geometry import Layer, undisturbed
from explgraph.graph import ExplanatoryGraph
from explgraph.hooks import catch, check_model, model_device, model_dtype, read_maps
from explgraph.images import Images, batches
from explgraph.pictures import (
    Drawable,
    Pictures,
    best_places,
    columns_of,
    patch,
    patch_side,
)
from explgraph.pictures import mean_patch as mean_of

try:
    from matplotlib.axes import Axes
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
except ImportError as err:
    raise MissingPackageError(
        "figures need matplotlib, which isn't installed: pip install 'explgraph[draw]'"
    ) from err

if TYPE_CHECKING:
    from explgraph.parsing import Parse

__all__ = [
    "EffectiveField",
    "effective_field",
    "filter_figure",
    "layer_heatmap",
    "mean_patch",
    "patches",
    "places",
    "split",
]

PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LEAST_BACKGROUND = 0.02  # share of a filter's activation, as in mining
_INCH = 1.5  # of a small picture
_DPI = 120


def patches(
    graph: ExplanatoryGraph,
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
        Of a patch, px; by default the receptive field's, see `explgraph.pictures.patch_side`.
    path : path, optional
        File to write.

    Returns
    -------
    Figure
        The first axes hold the mean patch, the others one patch each.
    """
    cut, titles = _cut(graph, node, images, parse, count, side)
    columns = min(6, len(cut) + 1)
    figure, axes = _grid(math.ceil((len(cut) + 1) / columns), columns)
    for ax, colours, title in zip(
        axes, [mean_of(cut), *(colours for colours, _ in cut)], ["mean", *titles], strict=False
    ):
        ax.imshow(colours)
        ax.set_title(title, fontsize=7)
    for ax in axes[len(cut) + 1 :]:
        ax.remove()
    figure.suptitle(_title(graph, node), fontsize=9)
    return _written(figure, path)


def mean_patch(
    graph: ExplanatoryGraph,
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
    figure, (ax,) = _grid(1, 1, inch=2.4)
    ax.imshow(mean_of(cut))
    ax.set_title(f"{_title(graph, node)}\nmean of {len(cut)}", fontsize=8)
    return _written(figure, path)


def _cut(
    graph: ExplanatoryGraph,
    node: str,
    images: Drawable,
    parse: Parse | None,
    count: int,
    side: float | None,
) -> tuple[list[tuple[NDArray[np.uint8], NDArray[np.bool_]]], list[str]]:
    """Patches of a node and their titles."""
    _check_node(graph, node)
    pictures = Pictures(images, graph.image_size, None if parse is None else parse.names)
    seen = best_places(graph, node, pictures, parse, count)
    if not seen:
        raise ExplgraphError(
            f"node {node!r} was seen in none of these images; give those that the graph was mined "
            "from, or parse= of these"
        )
    side = patch_side(graph, node) if side is None else side
    cut = [patch(pictures[p.image], p.x, p.y, side, max(64, round(side))) for p in seen]
    return cut, [f"{_short(pictures.names[p.image], 18)}\n{p.score:.2f}" for p in seen]


def places(
    graph: ExplanatoryGraph,
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
    pictures = Pictures(images, graph.image_size, parse.names)
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
    figure, (ax,) = _grid(1, 1, inch=4.2)
    _show(ax, picture)
    for layer in reversed(graph.layers):
        here = [v for v in nodes if graph.nx.nodes[v]["layer"] == layer.name]
        if not here:
            continue
        at = parse.positions[n, [columns[v] for v in here]]
        colour, marker = _sign(graph, layer)
        ax.scatter(
            at[:, 0], at[:, 1], s=42, c=colour, marker=marker, edgecolors="black", linewidths=0.8,
            label=_short(layer.name, 24), zorder=3,
        )  # fmt: skip
        for v, (x, y) in zip(here, at.tolist(), strict=True):
            if label := graph.nx.nodes[v]["label"]:
                ax.annotate(
                    _plain(_short(label, 24)), (x, y), xytext=(6, 4), textcoords="offset points",
                    fontsize=8, color="white", bbox={"fc": "#000000a0", "ec": "none", "pad": 1.5},
                )  # fmt: skip
    if nodes:
        ax.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.01), ncols=3, frameon=False)
    ax.set_title(_plain(_short(parse.names[n], 50)), fontsize=8)
    return _written(figure, path)


def layer_heatmap(
    graph: ExplanatoryGraph,
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
    graph, parse, images, image, path
        As for `places`.

    Returns
    -------
    Figure
        An axes with the image, then one per layer, the output first; in each of those the second
        image artist holds the heat ``(H, W)``, 0 to 1.
    """
    pictures = Pictures(images, graph.image_size, parse.names)
    picture, n = _picture_of(pictures, parse, image)
    layers = list(reversed(graph.layers))
    figure, axes = _grid(1, len(layers) + 1, inch=2.3)
    _show(axes[0], picture)
    axes[0].set_title(_plain(_short(parse.names[n], 30)), fontsize=8)
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
        along_x = np.exp(-0.5 * ((xs - at[here, :1]) / sigma[here, None]) ** 2)
        along_y = np.exp(-0.5 * ((ys - at[here, 1:]) / sigma[here, None]) ** 2)
        heat = (along_y * weight[here, None] / sigma[here, None] ** 2).T @ along_x
        if heat.max() > 0:
            heat = heat / heat.max()
        _show(ax, _faded(picture))
        _overlay(ax, heat, "inferno")
        ax.set_title(f"{_short(layer.name, 28)}: {here.sum()} nodes", fontsize=8)
    return _written(figure, path)


class EffectiveField(NamedTuple):
    """What a filter's strongest unit really looks at in an image.

    Attributes
    ----------
    unit : (int, int)
        Row and column of the filter's strongest unit in this image.
    centre : (float, float)
        Its centre ``[x, y]``, px.
    weight : (H, W)
        Absolute gradient of the unit's activation, summed over colours; sums to 1, or 0 where
        the filter is silent.
    size : float
        Side of the square around `centre` that holds 90 % of the weight, px.
    """

    unit: tuple[int, int]
    centre: tuple[float, float]
    weight: NDArray[np.float64]
    size: float


def effective_field(
    model: nn.Module,
    images: Images,
    layer: Layer,
    filter: int,  # noqa: A002
) -> list[EffectiveField]:
    """Measure what a filter's strongest unit looks at, by its gradient, in each of some images.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    images : ImageFolder, (N, 3, H, W) tensor, Dataset or DataLoader
        Normalised as the model expects it.
    layer : Layer
        One of ``graph.layers``.
    filter : int

    Returns
    -------
    list of EffectiveField
        One per image.

    References
    ----------
    Luo et al., NeurIPS 2016: the effective receptive field is a fraction of the theoretical one.
    """
    check_model(model)
    _check_filter(layer, filter)
    fields = []
    shape = (layer.channels, layer.height, layer.width)
    with undisturbed(model):
        for _, batch in batches(images, 1):
            image = batch.to(model_device(model), model_dtype(model)).requires_grad_()
            kept, _ = catch(
                model, image, [layer.name], lambda name, out: read_maps(out, 1, shape, name)
            )
            fmap = kept[layer.name][0, filter]
            row, column = divmod(int(fmap.argmax()), layer.width)
            (gradient,) = torch.autograd.grad(fmap[row, column].clamp(min=0), image)
            weight = gradient[0].abs().sum(0).double().cpu().numpy()
            weight = weight / max(weight.sum(), 1e-300)
            centre = (float(layer.centres_x[column]), float(layer.centres_y[row]))
            fields.append(EffectiveField((row, column), centre, weight, _side_of(weight, centre)))
    return fields


def _side_of(weight: NDArray[np.float64], centre: tuple[float, float], share: float = 0.9) -> float:
    """Side of the square around a point that holds a share of the weight, px."""
    height, width = weight.shape
    away = np.maximum(
        np.abs(np.arange(width) + 0.5 - centre[0])[None, :],
        np.abs(np.arange(height) + 0.5 - centre[1])[:, None],
    ).ravel()
    order = np.argsort(away, kind="stable")
    held = np.cumsum(weight.ravel()[order])
    if held[-1] <= 0:
        return 0.0
    # a pixel reaches half a pixel farther than its centre
    return float(2 * away[order[np.searchsorted(held, share * held[-1])]] + 1)


def split(
    graph: ExplanatoryGraph,
    parse: Parse,
    layer: str,
    filter: int,  # noqa: A002
    maps: NDArray[Any],
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Split a filter's maps into its part nodes.

    Parameters
    ----------
    graph : ExplanatoryGraph
    parse : Parse
        Of the N images.
    layer, filter
        Of the filter.
    maps : (N, h, w)
        Its rectified maps.

    Returns
    -------
    nodes : tuple of str
        The filter's K nodes.
    shares : (N, K + 1, h, w)
        How much of each unit's activation each node answers for, and in the last place the
        background; sums to `maps`.
    """
    nodes = graph.nodes_of(layer, filter)
    grid = next(each for each in graph.layers if each.name == layer)
    columns = [parse.nodes.index(node) for node in nodes]
    expected = parse.expected[:, columns].astype(float)
    sigma = np.array([graph.nx.nodes[node]["sigma"] for node in nodes])
    height, width = graph.image_size
    x = (grid.centres_x - expected[..., :1]) / sigma[:, None]
    y = (grid.centres_y - expected[..., 1:]) / sigma[:, None]
    density = np.exp(-0.5 * y**2)[..., :, None] * np.exp(-0.5 * x**2)[..., None, :]
    share = np.array([graph.nx.nodes[node]["energy"] for node in nodes])
    density *= (share / (2 * np.pi * sigma**2))[:, None, None]
    background = max(1 - share.sum(), _LEAST_BACKGROUND) / (height * width)
    total = density.sum(1, keepdims=True) + background
    parts = np.concatenate([density, np.full_like(total, background)], axis=1) / total
    shares: NDArray[np.float64] = parts * maps[:, None]
    return nodes, shares


def filter_figure(
    model: nn.Module,
    images: Images,
    pictures: Drawable,
    graph: ExplanatoryGraph,
    layer: str,
    filter: int,  # noqa: A002
    *,
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw what a filter answers to in several images, and how its part nodes share it out.

    One row per image, three columns: the image with the *theoretical* receptive field of the
    strongest unit (dashed) and the *effective* one (solid: the square that holds 90 % of the
    gradient; what lies outside is dimmed by how little it counts); the feature map; and the same
    map split into the filter's part nodes, a colour each, with their places.

    Parameters
    ----------
    model : torch.nn.Module
    images : ImageFolder, (N, 3, H, W) tensor, ...
        A few images, as the model takes them.
    pictures : ImageFolder, (N, H, W, 3) uint8 colours or list of PIL images
        The same images, as people see them.
    graph : ExplanatoryGraph
        Mined from the model.
    layer, filter
        Of the filter.
    path : path, optional
        File to write.

    Returns
    -------
    Figure
        Axes row by row.
    """
    grids = {each.name: each for each in graph.layers}
    if layer not in grids:
        raise ExplgraphError(
            f"the graph has no layer {layer!r}; its layers are {', '.join(map(repr, grids))}"
        )
    grid = grids[layer]
    fields = effective_field(model, images, grid, filter)
    parse = graph.parse(model, images)
    seen = Pictures(pictures, graph.image_size, parse.names)
    if len(seen) != len(fields):
        raise ExplgraphError(
            f"images are {len(fields)}, pictures {len(seen)}; give the same images twice"
        )
    maps = _filter_maps(model, images, graph.image_size, grid, filter)
    nodes, shares = split(graph, parse, layer, filter, maps)
    figure, axes = _grid(len(fields), 3, inch=2.4)
    columns = [parse.nodes.index(node) for node in nodes]
    brightest = max(float(maps.max()), 1e-12)
    for n, field in enumerate(fields):
        left, middle, right = axes[3 * n : 3 * n + 3]
        picture = seen[n]
        _show(left, _lit(picture, field.weight))
        theoretical = (min(grid.receptive_field[0], 4e3), min(grid.receptive_field[1], 4e3))
        _box(left, field.centre, theoretical, "--", "#56B4E9")
        _box(left, field.centre, (field.size, field.size), "-", "#E69F00")
        left.set_ylabel(_plain(_short(parse.names[n], 20)), fontsize=7)
        _show(middle, _faded(picture))
        _overlay(middle, _on_image(maps[n], grid, graph.image_size) / brightest, "inferno")
        _show(right, _faded(picture))
        right.imshow(_mixed(shares[n], grid, graph.image_size, brightest), extent=_extent(picture))
        for k, v in enumerate(columns):
            x, y = parse.positions[n, v].tolist()
            shown = float(np.clip(shares[n, k].sum() / max(maps[n].sum(), 1e-12) * 3, 0.15, 1))
            right.scatter(
                x, y, s=46, c=PALETTE[k % 8], marker=MARKERS[k % 8], edgecolors="black",
                linewidths=0.9, alpha=shown, zorder=3,
            )  # fmt: skip
        for ax in (left, middle, right):
            ax.set_xlim(0, picture.shape[1])
            ax.set_ylim(picture.shape[0], 0)
    size = float(np.median([f.size for f in fields]))
    axes[0].set_title(
        f"field: {max(grid.receptive_field):.0f} px in theory (dashed),\n{size:.0f} px in effect",
        fontsize=8,
    )
    axes[1].set_title(f"filter {filter} of {_short(layer, 24)}", fontsize=8)
    axes[2].set_title(f"split into {len(nodes)} part nodes", fontsize=8)
    return _written(figure, path)


def _filter_maps(
    model: nn.Module,
    images: Images,
    image_size: tuple[int, int],
    layer: Layer,
    filter: int,  # noqa: A002
) -> NDArray[np.float64]:
    """Rectified maps ``(N, h, w)`` of one filter."""
    from explgraph.recording import stream

    runs = stream(model, images, [layer], image_size=image_size)
    parts = [maps[layer.name][:, filter] for _, maps in runs]
    return torch.cat(parts).double().numpy()


# ------------------------------------------------------------------------------------- on the axes


def _grid(rows: int, columns: int, inch: float = _INCH) -> tuple[Figure, list[Axes]]:
    """Give a figure of bare axes."""
    figure = Figure(figsize=(inch * columns, inch * rows + 0.45), dpi=_DPI, layout="constrained")
    axes = [figure.add_subplot(rows, columns, k + 1) for k in range(rows * columns)]
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])
        for spine in ax.spines.values():
            spine.set_visible(False)
    return figure, axes


def _extent(picture: NDArray[Any]) -> tuple[float, float, float, float]:
    """Edges of an image in its own px: left, right, bottom, top."""
    return 0.0, float(picture.shape[1]), float(picture.shape[0]), 0.0


def _show(ax: Axes, picture: NDArray[np.uint8]) -> None:
    """Draw a picture so that the axes count px from its upper left corner."""
    ax.imshow(picture, extent=_extent(picture))


def _overlay(ax: Axes, heat: NDArray[np.float64], colours: str) -> None:
    """Draw heat (0 to 1) over a picture, the hotter the less transparent."""
    ax.imshow(
        heat, extent=_extent(heat), cmap=colours, vmin=0, vmax=1,
        alpha=np.clip(heat, 0, 1) ** 0.6 * 0.85,
    )  # fmt: skip


def _box(
    ax: Axes, centre: tuple[float, float], size: tuple[float, float], style: str, colour: str
) -> None:
    """Draw a rectangle around a point."""
    corner = (centre[0] - size[0] / 2, centre[1] - size[1] / 2)
    for wide, edge in ((3.2, "black"), (1.6, colour)):
        ax.add_patch(
            Rectangle(corner, *size, fill=False, linestyle=style, linewidth=wide, edgecolor=edge)
        )


def _on_image(
    values: NDArray[np.float64], layer: Layer, image_size: tuple[int, int]
) -> NDArray[np.float64]:
    """Spread a map of units ``(h, w)`` over the image, linearly between the units' centres."""
    height, width = image_size
    x = (np.arange(width) + 0.5 - layer.offset[0]) / layer.stride[0]
    y = (np.arange(height) + 0.5 - layer.offset[1]) / layer.stride[1]
    columns = np.stack([np.interp(x, np.arange(layer.width), row) for row in values])
    return np.stack([np.interp(y, np.arange(layer.height), column) for column in columns.T], axis=1)


def _mixed(
    shares: NDArray[np.float64], layer: Layer, image_size: tuple[int, int], brightest: float
) -> NDArray[np.float64]:
    """Colours ``(H, W, 4)`` of a map's parts: each part's colour, as opaque as it is strong."""
    parts = np.stack([_on_image(part, layer, image_size) for part in shares]) / brightest
    tints = [to_rgb(PALETTE[k % 8]) for k in range(len(parts) - 1)] + [(0.75, 0.75, 0.75)]
    total = parts.sum(0)
    colour = np.einsum("khw,kc->hwc", parts, np.array(tints)) / np.maximum(total, 1e-12)[..., None]
    opaque = np.clip(total, 0, 1) ** 0.6 * 0.9
    return np.concatenate([np.clip(colour, 0, 1), opaque[..., None]], axis=2)


def _faded(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give a picture in dim greys, for something bright on top."""
    grey = picture.astype(float) @ [0.299, 0.587, 0.114]
    faded: NDArray[np.uint8] = np.repeat((grey * 0.55)[..., None], 3, 2).astype(np.uint8)
    return faded


def _lit(picture: NDArray[np.uint8], weight: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Dim a picture where it counts little."""
    smooth = weight
    for _ in range(3):  # the gradient is grainy
        for axis in (0, 1):
            smooth = (smooth + np.roll(smooth, 1, axis) + np.roll(smooth, -1, axis)) / 3
    light = 0.35 + 0.65 * np.clip(smooth / max(np.quantile(smooth, 0.995), 1e-300), 0, 1) ** 0.5
    return (picture * light[..., None]).astype(np.uint8)


def _sign(graph: ExplanatoryGraph, layer: Layer) -> tuple[str, str]:
    """Colour and marker of a layer; the output's is always the same."""
    k = len(graph.layers) - 1 - layer.index
    return PALETTE[k % len(PALETTE)], MARKERS[k % len(MARKERS)]


def _picture_of(
    pictures: Pictures, parse: Parse, image: int | str
) -> tuple[NDArray[np.uint8], int]:
    """Give an image's colours, and its number in the parse."""
    name = pictures.names[pictures.index(image)]
    if name not in parse.names:
        raise ExplgraphError(f"parse is not of image {name!r}; parse the images that you draw")
    return pictures[name], parse.names.index(name)


def _title(graph: ExplanatoryGraph, node: str) -> str:
    """Name a node by its label, if it has one, and its id."""
    label = graph.nx.nodes[node]["label"]
    return _plain(f"{_short(label, 40)} ({_short(node, 60)})" if label else _short(node, 60))


def _plain(text: str) -> str:
    """Keep matplotlib from reading formulas into a text, and lines from breaking."""
    return " ".join(text.split()).replace("$", r"\$")


def _short(text: str, most: int) -> str:
    """Cut the middle out of a long text."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2 - 1]}...{text[-(most // 2 - 2) :]}"


def _check_node(graph: ExplanatoryGraph, node: str) -> None:
    """Refuse a node that isn't there."""
    if node not in graph.nx:
        raise ExplgraphError(f"the graph has no node {node!r}; see graph.node_ids")


def _check_filter(layer: Layer, filter: int) -> None:  # noqa: A002
    """Refuse a filter that isn't there."""
    if not 0 <= filter < layer.channels:
        raise ExplgraphError(
            f"layer {layer.name!r} has no filter {filter}; expected 0 to {layer.channels - 1}"
        )


def _written(figure: Figure, path: str | os.PathLike[str] | None) -> Figure:
    """Write a figure to a file, if asked to."""
    if path is not None:
        known = figure.canvas.get_supported_filetypes()
        suffix = os.path.splitext(path)[1].lower()
        if suffix[1:] not in known:
            raise ExplgraphError(
                f"can't write {str(path)!r}: suffix {suffix!r}; expected one of "
                f"{', '.join('.' + kind for kind in sorted(known))}"
            )
        with atomic_write(path) as temporary:
            figure.savefig(temporary)
    return figure
