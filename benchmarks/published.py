"""The published model, as a baseline: part patterns at fixed places, or linked by distance.

Written anew from Zhang et al., AAAI 2018 (arXiv 1708.01785), eqs. 2 to 7, not from its code. Every
filter is a mixture of K patterns and a background. At the top each pattern has its usual place in
the image. Below, a pattern is at a constant displacement from each of M parents, nodes of the layer
above, so that in each image it moves by what these have moved on average; its parents are those
whose distance to it varies least. A node is at the unit that answers best for it.

Departures: spreads are isotropic and fitted, within bounds; the means' steps are exact ones of EM,
not of a gradient. Of the candidates the steadier half is left out, as the published code does it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from explgraph.activations.memory import Activations
from explgraph.statistics.inference import scaled
from explgraph.statistics.mixture import Grid, e_step

N_PARENTS, N_ITER = 15, 20
PATTERNS = 0.02  # of a filter, as a share of the layer's units; at least one
BACKGROUND = 0.1  # density, in units of one component spread evenly over the image
SIGMA_MAX = 0.12  # of the image's side
MOST_WEIGHT = 2.0  # of a node in one image, over its usual one
_TINY = 1e-12


class Patterns(NamedTuple):
    """Part patterns: usual places (C, K, 2) and spreads (C, K), px."""

    mean: Tensor
    sigma: Tensor


class Bounds(NamedTuple):
    """Density of the background per px^2, and the least and largest spread, px."""

    background: float
    sigma_min: float
    sigma_max: float


class Places(NamedTuple):
    """Where the nodes of a layer are: positions (N, C, K, 2) px, and scores (N, C, K)."""

    positions: Tensor
    scores: Tensor

    def weights(self) -> Tensor:
        """Scores over their means, at most `MOST_WEIGHT`: ``(N, C K)``."""
        scores = self.scores.flatten(1)
        return (scores / scores.mean(0).clamp(min=_TINY)).clamp(max=MOST_WEIGHT)

    def moved(self) -> Tensor:
        """Positions from their weighted means, ``(N, C K, 2)`` px."""
        places, weights = self.positions.flatten(1, 2), self.weights()[..., None]
        return places - (weights * places).sum(0) / weights.sum(0).clamp(min=_TINY)


def best_units(maps: Tensor, patterns: Patterns, displacement: Tensor, grid: Grid) -> Places:
    """Find the unit that answers best for each pattern: the greatest ``a(x) N(x; mu, s^2)``.

    Parameters
    ----------
    maps : (N, C, H, W)
    patterns : Patterns
    displacement : (N, C, K or 1, 2)
        px.
    grid : Grid
    """
    width = len(grid.x)
    rate = -0.5 / patterns.sigma.square()[..., None]
    found = []
    for image, moved in zip(maps, displacement, strict=True):
        centre = patterns.mean + moved
        gx = ((grid.x - centre[..., :1]).square() * rate).exp()
        gy = ((grid.y - centre[..., 1:]).square() * rate).exp()
        answer = (gy[..., :, None] * gx[..., None, :] * image[:, None]).flatten(2)
        found.append((answer / patterns.sigma.square()[..., None]).max(2))
    scores, unit = (torch.stack([f[i] for f in found]) for i in (0, 1))
    return Places(torch.stack([grid.x[unit % width], grid.y[unit // width]], -1), scores)


def parents_by_distance(child: Places, upper: Places, n_parents: int) -> Tensor:
    """Choose the upper nodes whose distance to each child varies least: ``(V, M)`` int64.

    The variance is of the vector from one to the other, over the images, weighted by both scores.
    """
    weight, moved = upper.weights(), upper.moved()
    total = weight.sum(0).clamp(min=_TINY)
    square = moved.square().sum(-1)
    variance = (weight * square).sum(0) / total
    restless = variance.topk((len(variance) + 1) // 2)[1].sort()[0]
    weight, moved, square = weight[:, restless], moved[:, restless], square[:, restless]
    w, b = child.weights(), child.moved()
    apart = (w * b.square().sum(-1)).T @ weight + w.T @ (weight * square)
    for axis in (0, 1):
        apart -= 2 * (w * b[..., axis]).T @ (weight * moved[..., axis])
    distance = apart / (w.T @ weight).clamp(min=_TINY)
    return restless[distance.topk(min(n_parents, len(restless)), 1, largest=False)[1]]


def fit_patterns(
    maps: Tensor, displacement: Tensor, patterns: Patterns, grid: Grid, bounds: Bounds
) -> Patterns:
    """Do an iteration of EM over places and spreads; all patterns weigh the same.

    Parameters
    ----------
    maps : (N, C, H, W)
    displacement : (N, C, K or 1, 2)
        px.
    patterns : Patterns
    grid : Grid
    bounds : Bounds
    """
    n, c = maps.shape[:2]
    counts = e_step(
        maps.sqrt(),  # activation itself is what is counted
        torch.arange(c),
        (patterns.mean + displacement).expand(n, c, -1, 2),
        patterns.sigma,
        torch.ones_like(patterns.sigma)[None],
        torch.full((1, c), bounds.background),
        grid,
    )
    weight = counts.count.sum(0)
    seen = weight > _TINY
    step = counts.offset.sum(0) / weight.clamp(min=_TINY)[..., None]
    variance = (counts.square.sum(0) / weight.clamp(min=_TINY) - step.square().sum(-1)) / 2
    sigma = variance.clamp(min=0).sqrt().clamp(bounds.sigma_min, bounds.sigma_max)
    return Patterns(
        torch.where(seen[..., None], patterns.mean + step, patterns.mean),
        torch.where(seen, sigma, patterns.sigma),
    )


def fit_layer(
    maps: Tensor, start: Tensor, grid: Grid, bounds: Bounds, upper: Places | None, n_iter: int
) -> Places:
    """Fit the patterns of a layer by EM, and find them.

    Parameters
    ----------
    maps : (N, C, H, W)
        Each filter divided by its standard deviation.
    start : (C, K, 2)
        Where patterns start, px.
    grid : Grid
    bounds : Bounds
    upper : Places, optional
        Where the nodes of the layer above are. Without, patterns stay at fixed places.
    n_iter : int
        After each iteration parents are chosen anew.
    """
    spread = torch.full(start.shape[:2], bounds.sigma_max)
    patterns = Patterns(start, spread)
    displacement = maps.new_zeros((*maps.shape[:2], 1, 2))
    for _ in range(n_iter):
        patterns = fit_patterns(maps, displacement, patterns, grid, bounds)
        if upper is not None:
            places = best_units(maps, patterns, displacement, grid)
            parents = parents_by_distance(places, upper, N_PARENTS)
            moved = upper.moved()
            steps = [moved[:, some].mean(2) for some in parents.split(512)]
            displacement = torch.cat(steps, 1).unflatten(1, start.shape[:2])
    return best_units(maps, patterns, displacement, grid)


def mine_published(
    activations: Activations, *, links: bool, n_iter: int = N_ITER, seed: int = 0
) -> dict[str, Places]:
    """Mine the published model in memory, from the top layer down.

    Parameters
    ----------
    activations : Activations
    links : bool
        Without, patterns stay at fixed places in all layers.
    n_iter : int
        Iterations of EM.
    seed : int
        Of the places where patterns start.

    Returns
    -------
    dict of str to Places
        By layer, top first.
    """
    height, width = activations.image_size
    area = float(height * width)
    draws = torch.Generator().manual_seed(seed)
    found: dict[str, Places] = {}
    upper = None
    for layer, values in reversed(list(zip(activations.layers, activations.maps, strict=True))):
        maps = scaled(values, values.std((0, 2, 3)))
        grid = Grid.of(layer)
        bounds = Bounds(
            BACKGROUND / area,
            math.sqrt(grid.cell) / 4,
            SIGMA_MAX * math.sqrt(area),
        )
        k = max(1, round(PATTERNS * layer.height * layer.width))
        size = torch.tensor([float(width), float(height)])
        start = torch.rand((maps.shape[1], k, 2), generator=draws) * size
        places = fit_layer(maps, start, grid, bounds, upper, n_iter)
        found[layer.name] = places
        upper = places if links else None
    return found
