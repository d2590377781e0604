"""What sets of candidates keep on some images, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from explgraph.circuits.account import Kept
from explgraph.circuits.trials import Asked, Trials

__all__ = ["Judge", "interval", "share"]

_DRAWS = 2000  # of the bootstrap: the ends of a 95 % interval then move by a few hundredths of it
_ENDS = (2.5, 97.5)  # %


class Judge:
    """Says what sets keep on some images.

    Attributes
    ----------
    whole, nothing : (n,) float64
        The measure with nothing replaced, and with everything in the layers, image by image.
    """

    def __init__(
        self, trials: Trials, indices: Sequence[int], classes: Sequence[int], seed: int
    ) -> None:
        self._trials, self._indices, self._classes = trials, indices, classes
        self._draws = _drawn(len(indices), seed)
        self.whole, self.nothing = trials.values([Asked(frozenset())], indices, classes)

    def values(self, asked: Sequence[Asked]) -> NDArray[np.float64]:
        """Give the measure with each set, image by image, (len(asked), n)."""
        return self._trials.values(asked, self._indices, self._classes)[1:]

    def kept(self, asked: Sequence[Asked]) -> list[Kept]:
        """Say what each set keeps; one that is taken away, what is lost."""
        found = []
        for one, values in zip(asked, self.values(asked), strict=True):
            left = self.whole - values + self.nothing if one.away else values
            found.append(share(left, self.whole, self.nothing, self._draws))
        return found

    def carried(self) -> Kept:
        """Give what the layers carry, in the measure's unit: whole less nothing."""
        return interval(self.whole - self.nothing, self._draws)


def _drawn(n: int, seed: int) -> NDArray[np.float64]:
    """Draw images with replacement: how often each was drawn, (draws, n)."""
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), _DRAWS)
    return drawn.astype(np.float64)


def interval(values: NDArray[np.float64], draws: NDArray[np.float64]) -> Kept:
    """Give the mean of values (n,) with its interval."""
    low, high = np.percentile(draws @ values / len(values), _ENDS)
    return Kept(float(values.mean()), float(low), float(high))


def share(
    values: NDArray[np.float64],
    whole: NDArray[np.float64],
    nothing: NDArray[np.float64],
    draws: NDArray[np.float64],
) -> Kept:
    """Give the share of means that is kept, with its interval; NaN where nothing is carried.

    Parameters
    ----------
    values, whole, nothing : (n,) float64
    draws : (draws, n)
        How often each image was drawn.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        value = (values - nothing).sum() / (whole - nothing).sum()
        of_draws = (draws @ (values - nothing)) / (draws @ (whole - nothing))
    sure = of_draws[np.isfinite(of_draws)]
    low, high = np.percentile(sure, _ENDS) if len(sure) else (np.nan, np.nan)
    return Kept(float(value), float(low), float(high))
