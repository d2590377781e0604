"""Which image to ask about next.

The one whose answer brings all images nearest to one that was answered (greedy k-medoids): it is
unlike those that were, and many are like it, so that an outlier isn't asked about. Two images are
as far apart as their poses: the reliable nodes' places, seen from their centre, which are there
before the first mark; and the places of those nodes that vote for the parts that are taught. So the
answers so far decide what counts as unlike: a leg that is bent, not a head that is turned. Either
counts half, in units of its median over pairs of images.

What was tried and chose worse is told in ``benchmarks/experiments.md``.

References
----------
Sener and Savarese: Active Learning for Convolutional Neural Networks: A Core-Set Approach, ICLR
2018, cover all images in the space of features; here poses of parts, and the mean distance in place
of the largest, as in k-medoids (Kaufman and Rousseeuw 1987), since the mean error is to fall.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from explgraph.answers.poses import next_medoid, pose_distance
from explgraph.brief import counted
from explgraph.teaching.fits import Fits

__all__ = ["choose_image"]

Array = NDArray[np.float64]

VOTERS = 120
"""Nodes whose places count, of all parts together: the surest of each."""
LEAST = 6
"""Of each part, however many parts there are."""
MANY = 300
"""Images that are weighed against each other; of more, so many at random stand for all."""


def choose_image(fits: Fits, done: Collection[int], seed: int) -> tuple[int, str]:
    """Give the row of the image that helps most, and why: a sentence.

    Parameters
    ----------
    fits : Fits
    done : collection of int
        Rows that were answered, or are being asked about; not all that there are.
    seed : int
        Of the draw where there are many images.
    """
    n = len(fits.parse.names)
    left = [row for row in range(n) if row not in done]
    if len(left) > MANY:
        drawn = np.random.default_rng(seed).permutation(n).tolist()
        left = [row for row in drawn if row not in done][:MANY]
    rows = sorted({*left, *done})
    unlike = _unlikeness(fits, rows)
    number = {row: k for k, row in enumerate(rows)}
    taken = [number[row] for row in done]
    best = next_medoid(unlike, taken)
    if not taken:
        return rows[best], "It is the most ordinary of all images."
    nearest_one = unlike[taken].min(axis=0)
    nearer = int((unlike[best] < nearest_one).sum()) - 1
    if nearer < 1:
        return rows[best], "It is unlike all that you have seen so far."
    are = "is" if nearer == 1 else "are"
    return rows[best], f"{counted(nearer, 'image')} {are} more like it than like any seen so far."


def _unlikeness(fits: Fits, rows: Sequence[int]) -> Array:
    """Say how unlike images are for the parts that are taught, pair by pair."""
    poses = fits.distance(rows)
    unlike: Array = poses / _usual(poses)
    if not fits.parts:
        return unlike
    surest = max(LEAST, VOTERS // len(fits.parts))
    parts = np.zeros_like(unlike)
    for part in fits.parts.values():
        each = -(-surest // len(part.templates))
        voters = np.unique(np.concatenate([one.voters[:each] for one in part.templates]))
        apart = pose_distance(fits.parse.positions[np.ix_(np.array(rows), voters)])
        parts += apart / _usual(apart)
    mixed: Array = (unlike + parts / len(fits.parts)) / 2
    return mixed


def _usual(distance: Array) -> float:
    """Give the median over pairs; 1 if most don't differ."""
    return float(np.median(distance)) or 1.0
