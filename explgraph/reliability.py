"""How many nodes are false: decoys.

A decoy is a filter whose maps were exchanged among the images before it was taken apart like all
others (`patterns`): what its patterns follow, they follow by chance. What decoys reach says which
share of the nodes above a reliability is false (`ExplanatoryGraph.prune`).

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
from numpy.typing import NDArray

__all__ = ["cut_for"]


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
