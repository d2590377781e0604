"""How often a network is right where class and cue go together, and where they don't.

A cue that shouldn't count makes a network right where it agrees with the class, and wrong in the
*counter-groups*: images of the class that lack it, others that have it. Images are in four groups,
of the class or not, with the cue or without; the mean over groups doesn't hang on how many of each
there are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["GROUPS", "Gain", "gain", "group_of", "split", "wilson"]

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

GROUPS = ((False, False), (False, True), (True, False), (True, True))
"""Whether of the class, whether with the cue."""

_SURE = 1.96  # standard errors: 95 % of a normal distribution


def group_of(of_class: Bools, present: Bools) -> NDArray[np.int64]:
    """Give each image's group (N,), a place in `GROUPS`."""
    groups: NDArray[np.int64] = 2 * of_class.astype(np.int64) + present
    return groups


def split(groups: NDArray[np.int64], share: float, rng: np.random.Generator) -> Bools:
    """Draw a share of each group: (N,) bool."""
    drawn = np.zeros(len(groups), dtype=np.bool_)
    for group in range(len(GROUPS)):
        rows = rng.permutation(np.flatnonzero(groups == group))
        drawn[rows[: round(share * len(rows))]] = True
    return drawn


def wilson(right: int, n: int) -> tuple[float, float]:
    """Give the interval (95 %) of a share, of which `right` of `n` were seen.

    References
    ----------
    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    if not n:
        return 0.0, 1.0
    share, z = right / n, _SURE**2 / n
    middle = (share + z / 2) / (1 + z)
    half = np.sqrt(z * (share * (1 - share) + z / 4)) / (1 + z)
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))


class Gain(NamedTuple):
    """By how much the mean over groups changes, from paired answers.

    Attributes
    ----------
    change, error : float
        Of the share that is right, and its standard error.
    """

    change: float
    error: float

    @property
    def interval(self) -> tuple[float, float]:
        """Its interval (95 %)."""
        return self.change - _SURE * self.error, self.change + _SURE * self.error


def gain(before: Bools, after: Bools, groups: NDArray[np.int64]) -> Gain:
    """Compare which images (N,) are right before and after; each group must have some.

    References
    ----------
    Error of a paired difference: Agresti and Min, "Simple improved confidence intervals for
    comparing matched proportions", Statistics in Medicine 2005: half an image more in each of the
    four cases, so that few images that all stay as they were are no proof that all do.
    """
    moved = after.astype(np.int64) - before
    changes, variances = [], []
    for group in range(len(GROUPS)):
        mine = moved[groups == group]
        n = len(mine) + 2
        difference = mine.sum() / n
        changes.append(mine.mean())
        variances.append(((np.abs(mine).sum() + 1) / n - difference**2) / n)
    return Gain(float(np.mean(changes)), float(np.sqrt(np.sum(variances)) / len(GROUPS)))
