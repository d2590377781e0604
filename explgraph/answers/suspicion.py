"""One group of images with something in common: where it is, and how the network leans on it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["NO_PART", "Suspicion"]

NO_PART = "no part of the graph"
_COMMON = 0.5  # of a group's images have what they share in a cell: it has a place
_CARRIES = 0.5  # of the lead is on a part: it is this part
_ERRORS = 0.05  # of chance, from which on a sentence doesn't tell of errors


class Suspicion(NamedTuple):
    """What some images of a class share, and whether the network leans on it needlessly.

    Each image is judged by what was found in the half that it isn't in; where both halves found it,
    `fall`, `lead` and `surplus` are the mean of both. Log-odds have natural logarithms (logits).

    Attributes
    ----------
    target : str
        The class.
    images : tuple of str
        Names of the M images of the class that have it, in both halves, the most typical first.
    rows : tuple of int
        Their numbers.
    regions : (M, H, W) bool
        Where they have it, on the layer's grid.
    share : float
        Of the class's images have it.
    elsewhere : float
        Of the other classes' images have it.
    fall : float
        By how much the class's log-odds fall without it, beyond what they fall when the same
        places are replaced in images that lack it.
    lead : float
        By how much the log-odds of images that have it are ahead of the rest of the class, all else
        being equal.
    surplus : float
        The lead with it and the lead without it, added up, in standard deviations of the class's
        log-odds: the currency that suspicions are ranked by. About the fall, if images without it
        would be like the others; below 0, if they need it.
    parts : tuple of (str, float)
        Titles of the parts that add most beyond what they add elsewhere in the class, and that.
    errors : (float, float)
        Share of wrong answers with it, and in the rest of the class.
    p_errors, q_errors : float
        Probability of error rates that differ so much by chance; corrected for the number of
        groups. NaN where the class is always right or always wrong, or nothing was tested.
    p, q : float
        Probability of chance doing it all: two groups, that go with the class, fall, and surplus;
        corrected for the number of groups. NaN if nothing was tested.
    suspicious : bool
    """

    target: str
    images: tuple[str, ...]
    rows: tuple[int, ...]
    regions: NDArray[np.bool_]
    share: float
    elsewhere: float
    fall: float
    lead: float
    surplus: float
    parts: tuple[tuple[str, float], ...]
    errors: tuple[float, float]
    p_errors: float
    q_errors: float
    p: float
    q: float
    suspicious: bool

    def __repr__(self) -> str:
        return f"Suspicion: {self.told}"

    @property
    def where(self) -> str:
        """Say where it is: "upper left", "along the edges", or "at no fixed place"."""
        common = self.regions.mean(0) >= _COMMON
        height, width = common.shape
        if not common.any():
            return "at no fixed place"
        edge = np.ones_like(common)
        edge[1:-1, 1:-1] = False
        if min(height, width) > 2 and common[edge].mean() >= 0.7 > common[~edge].mean():
            return "along the edges"
        if common.mean() > 0.5:
            return "all over"
        y, x = (float(axis.mean()) for axis in np.nonzero(common))
        row = ("upper", "", "lower")[min(int(3 * (y + 0.5) / height), 2)]
        column = ("left", "", "right")[min(int(3 * (x + 0.5) / width), 2)]
        return f"{row} {column}".strip() if row and column else row or column or "in the middle"

    @property
    def part(self) -> str:
        """Name the part that carries most of the lead, or say that none does."""
        if self.parts and self.lead > 0 and self.parts[0][1] >= _CARRIES * self.lead:
            return self.parts[0][0]
        return NO_PART

    @property
    def told(self) -> str:
        """Say it in a sentence."""
        sentence = (
            f"{self.share:.0%} of {self.target!r} (others: {self.elsewhere:.0%}) share something "
            f"{self.where}, {self.part}; without it the class's log-odds fall by {self.fall:.2g}, "
            f"of which they need {_needed(self)}"
        )
        if self.q_errors <= _ERRORS:
            more = "more" if self.errors[0] > self.errors[1] else "fewer"
            sentence += (
                f"; {more} of them are wrong ({self.errors[0]:.1%}, not {self.errors[1]:.1%})"
            )
        return sentence


def _needed(one: Suspicion) -> str:
    """Say how much of a fall puts images behind the rest of their class."""
    behind = one.fall - one.lead
    return "nothing to be like the others" if behind <= 0 else f"{behind:.2g} to be like the others"
