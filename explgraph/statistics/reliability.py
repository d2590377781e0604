"""How far a node can be trusted: evidence of its own beyond exchanged images, and decoys.

A pattern counts for what it added to the held-out likelihood (`patterns`), if it has evidence that
exchanging its filter's maps among the images would destroy:

* what moves must follow: its motion explains the maps better than other images' motion does;
* what stands still must keep company: where it is present, other nodes are present or not. The
  presences of the other half of the layer's filters have some principal components; they must tell
  more of this node's presence than chance would.

A *decoy* is a filter whose maps were exchanged among the images before it was taken apart like all
others: what its patterns reach, they reach by chance. That says which share of the nodes above a
reliability is false (`ExplanatoryGraph.prune`).

References
----------
Barber and Candes, "Controlling the false discovery rate via knockoffs" (Annals of Statistics
2015). Departure: a decoy is a filter's maps exchanged among the images, for the model of where
filters fire is not known; exchangeability then holds for filters that don't follow the pose at all.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["cut_for", "rated", "together"]

_COMPONENTS = 8  # of the other nodes' presences; fewer where there are few images
# what stands still tells less of where a part is: with all of its gain heads are found worse, with
# a quarter legs (benchmarks/experiments.md)
_STILL = 0.25
_SURE = 3.0  # standard deviations of what chance explains


def rated(gain: Tensor, moving: Tensor, following: Tensor, company: Tensor) -> Tensor:
    """Turn gains into reliabilities from 0 to 1.

    Parameters
    ----------
    gain : (V,)
        Nats per unit of activation.
    moving : (V,) bool
    following, company : (V,)
        Evidence of what moves, and of what stands still; 0 is none.

    Returns
    -------
    (V,)
        ``1 - exp(-gain)`` with evidence, otherwise 0; what stands still gets a quarter of its gain.
    """
    borne_out = torch.where(moving, following, company) > 0
    worth = torch.where(moving, gain, _STILL * gain).clamp(min=0)
    return torch.where(borne_out, -torch.expm1(-worth), 0.0)


def together(
    presence: Tensor, alive: Tensor, filters: Tensor, others: Tensor
) -> tuple[Tensor, Tensor]:
    """Measure how far nodes are present with other filters' nodes, beyond chance.

    Parameters
    ----------
    presence : (N, V)
    alive : (V,) bool
        Which nodes there are.
    filters : (V,) int64
    others : (N, U)
        Presences of decoys.

    Returns
    -------
    (V,), (U,)
        Of the nodes and of the decoys: the share of the variance of the presence that components
        of other nodes' presences explain, less what chance does with `_SURE` standard deviations;
        at least 0.
    """
    company = torch.zeros(len(alive), dtype=presence.dtype, device=presence.device)
    for half in (0, 1):
        mine = filters % 2 == half
        company[mine] = _explained(presence[:, mine], presence[:, alive & ~mine])
    return company, _explained(others, presence[:, alive])


def _explained(presence: Tensor, by: Tensor) -> Tensor:
    """Share of variance (V,) that components of other presences explain, beyond chance."""
    n = len(presence)
    p = min(_COMPONENTS, n // 8, by.shape[1])
    if not p:
        return presence.new_zeros(presence.shape[1])
    columns = _standardised(by).double()
    vectors: Tensor = torch.linalg.eigh(columns @ columns.T)[1]
    axes = vectors[:, -p:].to(presence.dtype)
    explained = (axes.T @ _standardised(presence)).square().sum(0) / n
    chance = (p + _SURE * math.sqrt(2 * p)) / n  # N R^2 is about chi squared with p degrees
    beyond: Tensor = (explained - chance).clamp(min=0)
    return beyond


def _standardised(values: Tensor) -> Tensor:
    """Columns of mean 0 and variance 1; 0 where they don't vary."""
    centred = values - values.mean(0)
    deviation = centred.square().mean(0).sqrt()
    return torch.where(deviation > 1e-6, centred / deviation.clamp(min=1e-6), 0.0)


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
