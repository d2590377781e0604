"""What a network's maps say at given places, image by image, and what they add to classes there.

By this two networks are compared at the *same* places: those of the parts of a graph. Which parts
mining made is then a matter of where one looks, and not of what is found there.

1. One pass over the images finds a graph's nodes and reads the scores (`first_pass`).
2. A second one looks at the places (`second_pass`). What the maps say there is each filter's mean
   under a Gaussian. What they add to a class is the gradient of its score times the activation, as
   `effects` has it, in the graph's lowest layer, where units see the least around them; of a unit
   all filters count, and places share it by how near they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.explaining.attribution import Places
from explgraph.explaining.intervene import run, watched, with_gradients
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.gaussian import factors
from explgraph.images.batches import AnyImages
from explgraph.network.gradients import gradients_of
from explgraph.network.outputs import Scorer
from explgraph.progress import Shown
from explgraph.statistics.mixture import Grid

__all__ = ["APART", "FirstPass", "Running", "SecondPass", "first_pass", "second_pass"]

Array = NDArray[np.float64]

APART = 0.12
"""Least distance of two parts of one graph (`statistics.grouping`), as a share of the image's side
(root of its area): what is nearer is in the same place."""

_REACH = APART / 2  # sigma of the Gaussian around a place, as a share of the side
_FAR = 2.0  # sigmas: a unit that is so far from the nearest place is nobody's by half


class Running(NamedTuple):
    """How a model runs: see `explgraph.ablate`."""

    scorer: Scorer
    batch_size: int
    device: str
    progress: Shown


class FirstPass(NamedTuple):
    """Where a graph's V nodes are in N images, and the network's scores.

    Attributes
    ----------
    names : tuple of str
    positions, expected : (N, V, 2) float32
        px.
    present : (N, V) float32
        Scores of the nodes.
    scores : (N, classes) float64
    """

    names: tuple[str, ...]
    positions: NDArray[np.float32]
    expected: NDArray[np.float32]
    present: NDArray[np.float32]
    scores: Array

    def named(self, names: Sequence[str]) -> FirstPass:
        """Keep the images of some names, in that order."""
        row = {name: number for number, name in enumerate(self.names)}
        kept = [row[name] for name in names]
        return FirstPass(
            tuple(names),
            self.positions[kept],
            self.expected[kept],
            self.present[kept],
            self.scores[kept],
        )


class SecondPass(NamedTuple):
    """What a network's maps say at P places of each of N images.

    Attributes
    ----------
    says : (N, P, filters) float32
        Each filter's mean around the place, of all layers; at every place a layer's filters vary
        by 1 together, or by less, where they do little: see `_scaled`.
    adds : (N, P, K) float64
        To K classes, in units of their scores.
    layers : int
        How many there are.
    """

    says: NDArray[np.float32]
    adds: Array
    layers: int


def first_pass(
    model: nn.Module, graph: ExplanatoryGraph, images: AnyImages, running: Running
) -> FirstPass:
    """Find a graph's nodes in images, and read the scores.

    Raises
    ------
    ExplgraphError
        As `intervene.watched`: if the model isn't the one that was mined, among others.
    """
    places = Places(graph)
    names: list[str] = []
    found: list[tuple[Tensor, ...]] = []
    for here, batch in _batches(model, graph, images, running):
        with torch.no_grad():
            done = run(model, batch, graph.layers, scorer=running.scorer)
        names.extend(here)
        seen = places.seen(done.maps)
        scores = done.scores.detach().double().cpu()
        found.append((seen.positions, seen.expected, seen.scores, scores))
    columns = [torch.cat(column).numpy() for column in zip(*found, strict=True)]
    return FirstPass(tuple(names), *columns)


@with_gradients
def second_pass(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    at: Mapping[str, NDArray[np.floating]],
    sets: Sequence[int],
    classes: Sequence[int],
    running: Running,
) -> SecondPass:
    """Look at places of images.

    Parameters
    ----------
    model, graph, images
        The graph says which layers are looked at.
    at : mapping of str to (P, 2)
        Places by the image's name, px; images without are passed over. What is given is in this
        order.
    sets : sequence of int
        How many of the P places form a set, one after the other: those of a set share units.
    classes : sequence of int
        K columns of the scores.
    running : Running

    Returns
    -------
    SecondPass
    """
    side = math.sqrt(graph.image_size[0] * graph.image_size[1])
    grids = {layer.name: Grid.of(layer) for layer in graph.layers}
    lowest = min(graph.layers, key=lambda layer: layer.index).name
    row = {name: number for number, name in enumerate(at)}
    rows: list[int] = []
    found: list[tuple[Tensor, Tensor]] = []
    sizes: list[int] = []
    for names, batch in _batches(model, graph, images, running):
        known = [k for k, name in enumerate(names) if name in at]
        if not known:
            continue
        places = torch.from_numpy(np.stack([at[names[k]] for k in known])).float()
        places = _within(places, graph.image_size)
        done = run(model, batch, graph.layers, scorer=running.scorer, gradients=bool(classes))
        near = {name: _near(grid, places, _REACH * side) for name, grid in grids.items()}
        says = []
        for name, maps in done.maps.items():
            weight = near[name] / near[name].sum((2, 3), keepdim=True)
            own = maps.detach()[known].float().cpu().clamp(min=0)
            says.append(torch.einsum("nchw,nphw->npc", own, weight))
        sizes = [part.shape[2] for part in says]
        share = _shared(near[lowest].double(), sets)
        adds = torch.zeros(*places.shape[:2], len(classes), dtype=torch.float64)
        for k, column in enumerate(classes):
            maps = done.maps[lowest]
            gradient = gradients_of(done.scores[:, column].sum(), [maps])[0]
            units = (gradient * maps).detach()[known].sum(1).double().cpu()
            adds[..., k] = torch.einsum("nhw,nphw->np", units, share)
        rows.extend(row[names[k]] for k in known)
        found.append((torch.cat(says, 2), adds))
    order = np.argsort(rows)
    all_says, all_adds = (torch.cat(column).numpy()[order] for column in zip(*found, strict=True))
    return SecondPass(_scaled(all_says, sizes), all_adds, len(sizes))


def _batches(
    model: nn.Module, graph: ExplanatoryGraph, images: AnyImages, running: Running
) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Go through images in batches, the model checked to be the graph's."""
    return watched(
        model, graph, images,
        scorer=running.scorer, batch_size=running.batch_size, device=running.device,
        progress=running.progress,
    )  # fmt: skip


def _within(places: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Bring places that lie outside of the image to its border."""
    height, width = image_size
    return torch.stack([places[..., 0].clamp(0, width), places[..., 1].clamp(0, height)], -1)


def _near(grid: Grid, places: Tensor, sigma: float) -> Tensor:
    """Give the Gaussian around each place at a layer's units, (n, P, H, W)."""
    along_x, along_y = factors(grid.x, grid.y, places, torch.full(places.shape[:-1], sigma))
    return along_y[..., None] * along_x[..., None, :]


def _shared(near: Tensor, sets: Sequence[int]) -> Tensor:
    """Divide units among the places of each set; what is far from all of them is nobody's."""
    shares = torch.empty_like(near)
    start = 0
    for size in sets:
        one = near[:, start : start + size]
        total = one.sum(1, keepdim=True) + math.exp(-(_FAR**2) / 2)
        shares[:, start : start + size] = one / total
        start += size
    return shares


def _scaled(says: NDArray[np.float32], sizes: Sequence[int]) -> NDArray[np.float32]:
    """Divide each layer's filters by what they vary by together, at each place.

    Where that is less than what is usual, the mean over places, they are divided by that: next to
    nothing is not all that happens.
    """
    scaled = []
    for layer in np.split(says, np.cumsum(sizes)[:-1], axis=2):
        variance = layer.var(0).sum(-1)
        spread = np.sqrt(np.maximum(variance, variance.mean()))
        scaled.append(layer / np.maximum(spread, 1e-12)[None, :, None])
    return np.concatenate(scaled, 2)
