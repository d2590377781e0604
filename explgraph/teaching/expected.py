"""What error is to be expected in the images that nobody marked, and whether to go on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from explgraph.answers.part_templates import LEVEL
from explgraph.teaching.fits import Fits
from explgraph.teaching.question import Progress
from explgraph.teaching.record import Record

__all__ = ["progress_of"]

Array = NDArray[np.float64]

# mean of a Rayleigh distribution over its radius that holds `LEVEL`
_MEAN = float(np.sqrt(np.pi / 2) / np.sqrt(-2 * np.log(1 - LEVEL)))
_NEXT = 5
"""Answers whose gain is weighed."""
_WORTH = 0.1
"""Share of the error that they must be expected to take away, to be worth asking for."""


def progress_of(fits: Fits, record: Record, target: float | None) -> Progress:
    """Say how far the answers so far have come."""
    n = len(fits.parse.names)
    answered = record.answered()
    unmarked = np.array([row not in answered for row in range(n)])
    errors = {}
    for part in record.parts:
        radius = fits.found[part].radius if part in fits.found else np.full(n, np.nan)
        left = radius[unmarked] if unmarked.any() else np.zeros(1)
        errors[part] = float(np.mean(left) * _MEAN / fits.seen.nodes.diagonal)
    error = float(np.mean(list(errors.values()))) if errors else np.nan
    k = len(answered)
    gain = float(error * (1 - np.sqrt(k / (k + _NEXT)))) if k else np.nan
    if not np.isfinite(error):
        return Progress(k, errors, error, gain, False, "Mark every part once, to begin with.")
    if target is not None:
        stop = error <= target
        told = f"about {error:.1%} of the diagonal are missed where nobody marked"
        advice = (
            f"{told}: the target is reached." if stop else f"{told}; the target is {target:.1%}."
        )
        return Progress(k, errors, error, gain, bool(stop), advice.capitalize())
    stop = gain <= _WORTH * error
    advice = (
        "Five more answers are expected to gain less than a tenth."
        if stop
        else f"Five more answers are expected to take away {gain / error:.0%} of the error."
    )
    return Progress(k, errors, error, gain, bool(stop), advice)
