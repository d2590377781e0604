"""Figures of a filter: what it answers to, and how its part nodes share it out."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from explgraph import parsing
from explgraph.errors import ExplgraphError
from explgraph.gaussian import on_grid
from explgraph.graph.graph import Graph
from explgraph.images.batches import AnyImages, batches
from explgraph.images.taken import taken
from explgraph.network.forward import on_device, stream
from explgraph.network.geometry import Layer
from explgraph.network.hooks import catch, check_model, model_device, model_dtype, undisturbed
from explgraph.network.map_formats import read_maps
from explgraph.parsed import Parse
from explgraph.views.figure_style import (
    MARKERS,
    PALETTE,
    Axes,
    Figure,
    Rectangle,
    bare_axes,
    extent,
    faded,
    overlay,
    plain,
    short,
    show,
    to_rgb,
    written,
)
from explgraph.views.pictures import Drawable, Pictures

__all__ = ["EffectiveField", "effective_field", "filter_figure", "split"]

_LEAST_BACKGROUND = 0.02  # share of a filter's activation, as in mining


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

    def __repr__(self) -> str:
        (row, column), (x, y) = self.unit, self.centre
        return (
            f"EffectiveField: unit {row}, {column} at ({x:.0f}, {y:.0f}) px, "
            f"{self.size:.0f} px wide"
        )


def effective_field(
    model: nn.Module,
    images: AnyImages,
    layer: Layer,
    filter: int,  # noqa: A002
    *,
    device: str = "auto",
) -> list[EffectiveField]:
    """Measure what a filter's strongest unit looks at, by its gradient, in each of some images.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    images : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
        Normalised as the model expects it.
    layer : Layer
        One of ``graph.layers``.
    filter : int
    device : str
        Where the model runs; "auto" is the GPU if there is one.

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
    with on_device(model, device), undisturbed(model):
        for _, batch in batches(images, 1):
            image = batch.to(model_device(model), model_dtype(model)).requires_grad_()
            kept, _ = catch(
                model, image, [layer.name], lambda name, out: read_maps(out, 1, layer.format, name)
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
    graph: Graph,
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
    layer : str
        The filter's layer.
    filter : int
        Its channel.
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
    sigma = np.array([graph.nx.nodes[node]["sigma"] for node in nodes])
    height, width = graph.image_size
    along_x, along_y = on_grid(
        grid.centres_x, grid.centres_y, parse.expected[:, columns].astype(float), sigma
    )
    density = along_y[..., :, None] * along_x[..., None, :]
    share = np.array([graph.nx.nodes[node]["energy"] for node in nodes])
    density *= (share / (2 * np.pi * sigma**2))[:, None, None]
    background = max(1 - share.sum(), _LEAST_BACKGROUND) / (height * width)
    total = density.sum(1, keepdims=True) + background
    parts = np.concatenate([density, np.full_like(total, background)], axis=1) / total
    shares: NDArray[np.float64] = parts * maps[:, None]
    return nodes, shares


def filter_figure(
    model: nn.Module,
    graph: Graph,
    images: AnyImages,
    pictures: Drawable,
    layer: str,
    filter: int,  # noqa: A002
    *,
    device: str = "auto",
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
    graph : ExplanatoryGraph
        Mined from the model.
    images : ImageFolder, (N, C, H, W) tensor, ...
        A few images, as the model takes them.
    pictures : ImageFolder, (N, H, W, 3) uint8 colours or list of PIL images
        The same images, as people see them.
    layer : str
        The filter's layer.
    filter : int
        Its channel.
    device : str
        Where the model runs; "auto" is the GPU if there is one.
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
    images = taken(images, graph.nx.graph["preprocessing"])
    fields = effective_field(model, images, grid, filter, device=device)
    parse = parsing.parse(model, graph, images, device=device)
    seen = Pictures.of(pictures, graph.image_size, parse)
    if len(seen) != len(fields):
        raise ExplgraphError(
            f"images are {len(fields)}, pictures {len(seen)}; give the same images twice"
        )
    maps = _filter_maps(model, images, graph.image_size, grid, filter, device)
    nodes, shares = split(graph, parse, layer, filter, maps)
    figure, axes = bare_axes(len(fields), 3, inch=2.4)
    columns = [parse.nodes.index(node) for node in nodes]
    brightest = max(float(maps.max()), 1e-12)
    for n, field in enumerate(fields):
        left, middle, right = axes[3 * n : 3 * n + 3]
        picture = seen[n]
        show(left, _lit(picture, field.weight))
        theoretical = (min(grid.receptive_field[0], 4e3), min(grid.receptive_field[1], 4e3))
        _box(left, field.centre, theoretical, "--", "#56B4E9")
        _box(left, field.centre, (field.size, field.size), "-", "#E69F00")
        left.set_ylabel(plain(short(parse.names[n], 20)), fontsize=7)
        show(middle, faded(picture))
        overlay(middle, _on_image(maps[n], grid, graph.image_size) / brightest, "inferno")
        show(right, faded(picture))
        right.imshow(_mixed(shares[n], grid, graph.image_size, brightest), extent=extent(picture))
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
    axes[1].set_title(f"filter {filter} of {plain(short(layer, 24))}", fontsize=8)
    axes[2].set_title(f"split into {len(nodes)} part nodes", fontsize=8)
    return written(figure, path)


def _filter_maps(
    model: nn.Module,
    images: AnyImages,
    image_size: tuple[int, int],
    layer: Layer,
    filter: int,  # noqa: A002
    device: str,
) -> NDArray[np.float64]:
    """Rectified maps ``(N, h, w)`` of one filter."""
    runs = stream(model, images, [layer], image_size=image_size, device=device)
    parts = [maps[layer.name][:, filter] for _, maps in runs]
    return torch.cat(parts).double().numpy()


def _box(
    ax: Axes, centre: tuple[float, float], size: tuple[float, float], style: str, colour: str
) -> None:
    """Draw a rectangle around a point."""
    corner = (centre[0] - size[0] / 2, centre[1] - size[1] / 2)
    for wide, edge in ((3.2, "black"), (1.6, colour)):
        ax.add_patch(
            Rectangle(corner, *size, fill=False, linestyle=style, linewidth=wide, edgecolor=edge)
        )


def _lit(picture: NDArray[np.uint8], weight: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Dim a picture where it counts little."""
    smooth = weight
    for _ in range(3):  # the gradient is grainy
        for axis in (0, 1):
            smooth = (smooth + np.roll(smooth, 1, axis) + np.roll(smooth, -1, axis)) / 3
    light = 0.35 + 0.65 * np.clip(smooth / max(np.quantile(smooth, 0.995), 1e-300), 0, 1) ** 0.5
    return (picture * light[..., None]).astype(np.uint8)


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


def _on_image(
    values: NDArray[np.float64], layer: Layer, image_size: tuple[int, int]
) -> NDArray[np.float64]:
    """Spread a map of units ``(h, w)`` over the image, linearly between the units' centres."""
    height, width = image_size
    x = (np.arange(width) + 0.5 - layer.offset[0]) / layer.stride[0]
    y = (np.arange(height) + 0.5 - layer.offset[1]) / layer.stride[1]
    columns = np.stack([np.interp(x, np.arange(layer.width), row) for row in values])
    return np.stack([np.interp(y, np.arange(layer.height), column) for column in columns.T], axis=1)


def _check_filter(layer: Layer, filter: int) -> None:  # noqa: A002
    """Refuse a filter that isn't there."""
    if not 0 <= filter < layer.channels:
        raise ExplgraphError(
            f"layer {layer.name!r} has no filter {filter}; expected 0 to {layer.channels - 1}"
        )
