"""What a filter's own maps say of where the pose expects a part: the reliability of part nodes.

A candidate is a filter together with a *trajectory*: the places that one of the pose's guides is
expected at, image by image. It counts for as much as the filter fires there more than at the places
that the same guide is expected at in *other* images:

    contrast = (mean_n D - 3 sd_n(D) / sqrt(N)) / mean_n S(n, n),    D(n) = S(n, n) - mean_m S(n, m)

with ``S(n, m)`` the squared activation of image ``n`` under a Gaussian around the place of image
``m`` (``mean_m`` is over all, ``n`` itself among them, which makes ``D`` smaller by one part in
their number). A filter that fires at a fixed place, or at something that moves otherwise, has none.
The best few trajectories of a filter become its part patterns; their contrast, if positive, is the
nodes' reliability.

Because a filter has the best of many trajectories, chance has many chances. So every filter is
looked at once more with its maps exchanged among the images, as a *decoy* whose contrast can only
be chance; what decoys reach says which share of the nodes above a reliability is false
(`ExplanatoryGraph.prune`).

References
----------
Barber and Candes, "Controlling the false discovery rate via knockoffs" (Annals of Statistics
2015). Departure: a decoy is a filter's maps exchanged among the images, for the model of where
filters fire is not known; exchangeability then holds for filters that don't follow the pose at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explgraph.mixture import Grid, gaussians
from explgraph.streaming import Images

__all__ = ["Chosen", "Contrast", "choose", "contrast", "cut_for"]

_MARGIN = 3.0  # standard errors


class Contrast(NamedTuple):
    """Contrast of every filter with every trajectory, as it is and with exchanged maps.

    Attributes
    ----------
    real, decoy : (C, A)
        At most 1; at most 0 where there are fewer than four images.
    present : (C, A)
        Mean squared activation along the trajectory.
    """

    real: Tensor
    decoy: Tensor
    present: Tensor


class Chosen(NamedTuple):
    """The best trajectories of every filter, best first.

    Attributes
    ----------
    trajectory : (C, K) int64
    contrast : (C, K)
        ``-inf`` where no trajectory was left.
    """

    trajectory: Tensor
    contrast: Tensor


def contrast(
    images: Images,
    maps: Iterable[tuple[slice, Tensor]],
    places: Callable[[Tensor | slice], Tensor],
    sample: Tensor,
    sigma: float,
    grid: Grid,
    seed: int,
) -> Contrast:
    """Measure the contrast of every filter with every trajectory.

    Parameters
    ----------
    images : Images
    maps : iterable of (slice, (n, C, H, W))
        Of all blocks; rectified, each filter divided by its scale.
    places : callable
        Gives trajectories ``(n, A, 2)`` px for a slice of this process's images, or for indices
        into `sample`.
    sample : (S,) int64
        Images whose places stand for those of all other images.
    sigma : float
        Of the Gaussian, px.
    grid : Grid
    seed : int
        Of the exchange.

    Returns
    -------
    Contrast
    """
    s = len(sample)
    parts = [
        gaussians(places(torch.arange(start, min(start + 64, s))), sigma, grid).sum(0)
        for start in range(0, s, 64)
    ]
    usual = torch.stack(parts).sum(0) / s
    draws = torch.Generator().manual_seed(seed)
    other = torch.randint(s, (images.n,), generator=draws)
    own = sample.cpu()[other] == torch.arange(images.n)
    other = torch.where(own, (other + 1) % s, other)

    def block(here: slice, values: Tensor) -> tuple[Tensor, ...]:
        square = values.square().flatten(2)
        sums = [square.sum(0).double() @ usual.T.double()]
        for there in (places(here), places(other[here])):
            gain = square @ (gaussians(there, sigma, grid) - usual).transpose(1, 2)
            sums += [gain.sum(0), gain.square().sum(0)]
        return tuple(sums)

    chance, *sums = images.sum(block(here, values) for here, values in maps)
    n = images.n

    def low(gain: Tensor, square: Tensor) -> Tensor:
        mean = gain / n
        error = ((square / n - mean.square()).clamp(min=0) / max(n - 1, 1)).sqrt()
        # a filter that is silent at a trajectory has no contrast there
        scale = (mean + chance / n).clamp(min=1e-3 * (chance / n).amax(1, keepdim=True) + 1e-12)
        return ((mean - _MARGIN * error) / scale).clamp(-1, 1 if n > 3 else 0).float()

    return Contrast(low(*sums[:2]), low(*sums[2:]), ((sums[0] + chance) / n).float())


def choose(contrast: Tensor, mean: Tensor, k: int, apart: float) -> Chosen:
    """Choose every filter's best trajectories, no two of them close together.

    Parameters
    ----------
    contrast : (C, A)
        ``-inf`` for what must not be chosen.
    mean : (A, 2)
        Usual place of each trajectory, px.
    k : int
        Trajectories per filter, at most.
    apart : float
        Least distance of two usual places, px.

    Returns
    -------
    Chosen
        With ``min(k, A)`` columns.
    """
    near = torch.cdist(mean, mean) < apart
    near.fill_diagonal_(True)
    left = contrast.clone()
    best = []
    for _ in range(min(k, contrast.shape[1])):
        value, trajectory = left.max(1)
        best.append((trajectory, value))
        left = left.masked_fill(near[trajectory], -torch.inf)
    if not best:
        none = contrast.new_empty((len(contrast), 0))
        return Chosen(none.long(), none)
    return Chosen(*(torch.stack(column, 1) for column in zip(*best, strict=True)))


def cut_for(
    reliability: NDArray[np.floating[Any]], decoys: NDArray[np.floating[Any]], fdr: float
) -> float:
    """Find the least reliability above which at most a share of the nodes is false.

    The share of false nodes at or above a cut is estimated as ``(1 + decoys) / nodes``.

    Parameters
    ----------
    reliability : (V,)
        Of nodes.
    decoys : (D,)
        Those of decoys; what is 0 may be left out.
    fdr : float
        The share, above 0.

    Returns
    -------
    float
        Above 0; infinite if there is no such cut. With fewer than ``1 / fdr`` nodes there is none.

    References
    ----------
    Barber and Candes, 2015, "knockoff+".
    """
    cuts = np.unique(reliability[reliability > 0])
    nodes = len(reliability) - np.searchsorted(np.sort(reliability), cuts)
    false = len(decoys) - np.searchsorted(np.sort(decoys), cuts)
    good = (1 + false) <= fdr * nodes
    return float(cuts[good].min()) if good.any() else math.inf
