"""What error is to be expected in the images that nobody marked, and whether to go on.

1. *Radii* say in which images a part is missed by more, not reliably by how much. So they are
   multiplied by a factor, which answers tell.
2. *What guesses really missed.* Each answer judges the guess that was made before it, by marks that
   the fit had not seen (prequential, Dawid 1984). Its image was asked about since it is unlike
   those that were marked, so it is harder than most: what was missed is divided by how much farther
   than the mean of all unmarked images it was from the nearest marked one. The factor is the sum of
   what was missed over the sum of the radii. A guess that was accepted wasn't exact for that.
3. *Few answers say little*: the usual factor counts as `PRIOR` answers.
4. *The gain* of further answers: errors fall as a power of the number of answers, as a rule; the
   power is that of the errors told so far, pooled with the usual one.

Marks scatter themselves, and what a person marks is what is told of: where guesses are as exact as
marks, the error that is told is the larger.

References
----------
Dawid: Statistical theory: the prequential approach, Journal of the Royal Statistical Society A 147,
1984. Divided by distances, since the answers are no sample of the images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from explgraph.teaching.fits import Fits
from explgraph.teaching.question import Progress
from explgraph.teaching.record import Record

__all__ = ["factor", "progress_of"]

Array = NDArray[np.float64]

USUAL = 0.5
"""Mean error over mean radius, as it is on dogs' and a mouse's photographs: where radii hold nine
in ten it is 0.58 (Rayleigh); they hold a bit more, as a rule."""
PRIOR = 3
"""Answers that it counts as much as."""
FALLS = 0.2
"""Power of the number of answers by which errors usually fall: 0.1 to 0.4."""
TOLD = 5
"""Answers from which on the errors told say as much of that as what is usual."""
NEXT = 5
"""Answers whose gain is weighed."""
WORTH = 0.1
"""Share of the error that these must be expected to take away, to be worth asking for."""
LITTLE = 0.03
"""The same where a target is to be reached."""
FIRST = 3
"""Answers before it is suggested to stop: fewer judge next to nothing."""
TELLING = 8
"""Answers before it is suggested to stop since more gain little: few errors told don't say so."""
UNTOUCHED = 0.5
"""px within which an answer is the guess itself: somebody accepted it."""
ACCEPTED = 0.01
"""Share of the diagonal that a guess missed which was accepted: it was near enough, not exact.
Where people correct less than twice that, half of the least that was corrected."""


def factor(missed: Array, radius: Array, unlike: Array) -> float:
    """Give the error to be expected, in units of the radius.

    Parameters
    ----------
    missed, radius : (k,) px
        What guesses missed that were made before the answer, and their radii.
    unlike : (k,)
        How far the image was from the nearest marked one, over the mean of all unmarked ones.
    """
    if not len(missed):
        return USUAL
    seen = float((missed / unlike).sum() / radius.sum())
    return (PRIOR * USUAL + len(missed) * seen) / (PRIOR + len(missed))


def progress_of(fits: Fits, record: Record, target: float | None) -> Progress:
    """Say how far the answers so far have come."""
    k = len(record.answered())
    said = record.said()
    errors = {}
    for part in record.parts:
        told = {row for row, parts in said.items() if part in parts}
        unmarked = np.array([row not in told for row in range(len(fits.parse.names))])
        errors[part] = _error(part, fits, record, unmarked)
    error = float(np.mean(list(errors.values()))) if errors else np.nan
    gain = error * (1 - (k / (k + NEXT)) ** _power(record, k, error)) if k else np.nan
    stop, advice = _advised(k, error, gain, target)
    return Progress(k, errors, error, float(gain), stop, advice)


def _error(part: str, fits: Fits, record: Record, unmarked: NDArray[np.bool_]) -> float:
    """Give the error of a part that is to be expected, share of the diagonal."""
    if part not in fits.found:
        return float(np.nan)
    if not unmarked.any():
        return 0.0
    judged = [
        (np.hypot(place[0] - one.before[part][0], place[1] - one.before[part][1]),
         one.before[part][2], one.unlike)
        for one in record.marks()
        if part in one.before and (place := one.said.get(part)) is not None
    ]  # fmt: skip
    missed, radius, unlike = np.array(judged, dtype=np.float64).reshape(-1, 3).T
    diagonal = fits.seen.nodes.diagonal
    share = factor(_not_exact(missed, diagonal), radius, unlike)
    return float(share * fits.found[part].radius[unmarked].mean() / diagonal)


def _not_exact(missed: Array, diagonal: float) -> Array:
    """Say what was missed, px, where guesses were accepted as they were, too."""
    untouched = missed < UNTOUCHED
    least = missed[~untouched].min(initial=2 * ACCEPTED * diagonal) / 2
    return np.where(untouched, least, missed)


def _power(record: Record, k: int, error: float) -> float:
    """By which power of the number of answers errors fall: seen and usual ones pooled."""
    told = {
        one.answers: one.error
        for answer in record.marks()
        if (one := record.progress.get(answer.number)) is not None and one.error > 0
    } | ({k: error} if error > 0 else {})
    if len(told) < 3:
        return FALLS
    x, y = np.log(list(told)), np.log(list(told.values()))
    seen = -float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    return float(np.clip((TOLD * FALLS + len(told) * seen) / (TOLD + len(told)), 0, 0.5))


def _advised(k: int, error: float, gain: float, target: float | None) -> tuple[bool, str]:
    """Say whether to stop, and why."""
    if not np.isfinite(error):
        return False, "Mark every part once, to begin with."
    told = f"Where nobody marked, parts are expected to be missed by {error:.1%} of the diagonal"
    if error == 0:
        return True, "Every image is answered."
    if k < FIRST:
        return False, f"{told}; a few more answers will tell better."
    if target is not None and error <= target:
        return True, f"{told}: the target is reached."
    more = f"five more answers are expected to take away {gain / error:.0%} of that"
    if k >= TELLING and gain < (WORTH if target is None else LITTLE) * error:
        within = "" if target is None else f", so that {target:.1%} is not within reach"
        return True, f"{told}; {more}{within}."
    aim = "" if target is None else f"; {target:.1%} is the target"
    return False, f"{told}{aim}; {more}."
