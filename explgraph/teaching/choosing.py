"""Which image to ask about next."""

from __future__ import annotations

from collections.abc import Collection

from explgraph.answers.poses import next_medoid
from explgraph.teaching.fits import Fits

__all__ = ["choose_image"]


def choose_image(fits: Fits, done: Collection[int]) -> tuple[int, str]:
    """Give the row of the image that helps most, and why: a sentence."""
    row = next_medoid(fits.distance, done)
    if not done:
        return row, "It is the most ordinary of all images."
    return row, "Most images that are unlike those you marked look like this one."
