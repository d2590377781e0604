"""Which patterns sit at the same thing: patterns of all filters and layers grouped into parts.

A pattern's *trajectory*, where it is expected at each pose, is a point of a plane with 2 (1 + q)
axes: its usual place, and how it moves by each number of the pose, in units of that number's spread
over the images. The distance of two points is that of the patterns, root mean square over the
images, px.

Parts are *modes* of the patterns' density there, found greedily: the place around which most
reliability lies is climbed to (mean shift), becomes a part, and what is close to it counts no more
for further modes. A pattern joins the part that is nearest to it, if any is near. Not every mode is
a part: the same is done with either half of the filters, and a mode that the halves don't agree on
is dropped. That decides how many parts there are.

References
----------
Mean shift: Comaniciu and Meer (IEEE PAMI 2002). Agreement of clusterings of two halves as the judge
of how many clusters there are: Lange, Roth, Braun and Buhmann, "Stability-based validation of
clustering solutions" (Neural Computation 2004); here cluster by cluster, as in Hennig
(Computational Statistics and Data Analysis 2007).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "STILL",
    "Groups",
    "correlations",
    "group",
    "halved",
    "presence_curve",
    "trajectory_points",
    "two_halves",
    "typicality",
]

Array = NDArray[np.float64]

STILL = 0.1
"""A part stands still if the pose explains less than this of its nodes' movement, in the mean:
parts of frogs, birds and creatures have 0.2 and more, or 0.03 and less."""

# lengths are shares of the image's side, root mean square over the images
_LOOK = 0.05  # of the Gaussian by which density is measured: what patterns of one thing scatter by
_APART = 0.12  # least distance of modes: nearer, patterns are no more exact than that
_JOIN = 0.2  # of what belongs to a part, at most; its places hardly count (`typicality`)
_MOST = 18  # parts: about a dozen are wanted; further ones are seldom found again
_AGREED = 0.5  # Jaccard index of a part and the most like one of either half, mean; more than this
_CANDIDATES = 512  # patterns that modes are looked for around, spread evenly over reliability
_CLIMB = 20  # steps of mean shift, at most
_BLOCK = 4096  # patterns at a time
_ITERATIONS = 100  # of fitting two groups of images
_LEAST_SPREAD = 0.05  # of mean scores within a group of images: fewer nodes scatter by more
_ODDS = 3.0  # log odds of 0.95
_SURE = 0.1  # share of the images that each group has at least


class Groups(NamedTuple):
    """Parts that V patterns form.

    Attributes
    ----------
    part : (V,) int64
        Number of each pattern's part: those that move first, of them the one of most reliability;
        -1 for none.
    centre : (P, d)
        Trajectories of the parts.
    agreement : (P,)
        How far two halves of the filters agree on each part, 0 to 1.
    """

    part: NDArray[np.int64]
    centre: Array
    agreement: Array


def trajectory_points(mean: Array, loading: Array, poses: Array) -> Array:
    """Lay trajectories out so that their distances are those of the patterns, (V, 2 + 2 q) px.

    Parameters
    ----------
    mean : (V, 2)
        Places at pose 0, px.
    loading : (V, 2, q)
        px for each unit of the pose.
    poses : (n, q)
        Of some images.
    """
    usual = poses.mean(0)
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(poses.T, bias=True)))
    spread = vectors * np.sqrt(values.clip(min=0))
    return np.concatenate([mean + loading @ usual, (loading @ spread).reshape(len(mean), -1)], 1)


def group(
    points: Array, weight: Array, follows: Array, half: NDArray[np.bool_], side: float
) -> Groups:
    """Group patterns into parts.

    Parameters
    ----------
    points : (V, d)
        `trajectory_points`.
    weight : (V,)
        Their reliability; those of 0 belong to no part.
    follows : (V,)
        How much of their movement the pose explains, 0 to 1.
    half : (V,) bool
        A half of the filters (`halved`).
    side : float
        Of the image (root of its area), px.

    Returns
    -------
    Groups
        The same for the same input, whatever the order of the patterns but for ties.
    """
    known = weight > 0
    centre = _modes(points[known], weight[known], side)
    part = _nearest(points, centre, side)
    others = [
        _nearest(points, _modes(points[known & here], weight[known & here], side), side)
        for here in (half, ~half)
    ]
    for values in (part, *others):
        values[~known] = -1
    agreement = np.array([np.mean([_overlap(part == k, o) for o in others]) for k in
                          range(len(centre))])  # fmt: skip
    kept = np.flatnonzero(agreement > _AGREED)
    part = _nearest(points, centre[kept], side)
    part[~known] = -1
    some = np.flatnonzero(part >= 0)
    total = np.bincount(part[some], weight[some], minlength=len(kept))
    much = weight[some] * typicality(points[some], centre[kept][part[some]], side)
    moving = np.bincount(part[some], much * follows[some], minlength=len(kept))
    still = moving < STILL * np.bincount(part[some], much, minlength=len(kept))
    order = np.lexsort((-total, still))
    order = order[total[order] > 0]
    number = np.full(len(kept) + 1, -1)
    number[order] = np.arange(len(order))
    return Groups(number[part], centre[kept][order], agreement[kept][order])


def typicality(points: Array, centre: Array, side: float) -> Array:
    """Say how near trajectories (V, d) are to those of their parts (V, d): (V,), 0 to 1."""
    return np.exp(-_squares(points, centre) / (2 * (_LOOK * side) ** 2))


def halved(filters: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Put every second filter into one half, given the filter of each pattern: (V,) bool."""
    half: NDArray[np.bool_] = (np.unique(filters, return_inverse=True)[1] % 2).astype(bool)
    return half


def _squares(points: Array, other: Array) -> Array:
    """Squared distances row by row."""
    squares: Array = np.square(points - other).sum(-1)
    return squares


def _modes(points: Array, weight: Array, side: float) -> Array:
    """Find modes (P, d), greedily."""
    order = np.argsort(-weight, kind="stable")
    tried = points[order[:: max(1, len(order) // _CANDIDATES)]]
    rate = 0.5 / (_LOOK * side) ** 2
    near = (_APART * side) ** 2

    def gathered(which: NDArray[np.integer], left: Array) -> Array:
        total = np.zeros(len(tried))
        for start in range(0, len(which), _BLOCK):
            some = which[start : start + _BLOCK]
            distance = _squares(points[some, None], tried[None])
            total += left[some] @ np.exp(-rate * distance)
        return total

    left = weight.copy()
    density = gathered(np.arange(len(points)), left)
    free = np.ones(len(tried), dtype=bool)
    modes: list[Array] = []
    while len(modes) < _MOST and free.any() and left.any():
        mode = tried[np.where(free, density, -1.0).argmax()]
        for _ in range(_CLIMB):
            pull = left * np.exp(-rate * _squares(points, mode))
            if not pull.sum() > 0:
                break
            step = pull @ points / pull.sum() - mode
            mode = mode + step
            if np.abs(step).max() < 1e-3 * _LOOK * side:
                break
        modes.append(mode)
        taken = np.flatnonzero((_squares(points, mode) < near) & (left > 0))
        density = density - gathered(taken, left)
        left[taken] = 0
        free &= _squares(tried, mode) >= near
    return np.array(modes).reshape(-1, points.shape[1])


def _nearest(points: Array, centre: Array, side: float) -> NDArray[np.int64]:
    """Give the number of the nearest part, -1 where none is near, (V,)."""
    part = np.full(len(points), -1)
    best = np.full(len(points), (_JOIN * side) ** 2)
    for k, one in enumerate(centre):  # a part at a time: V numbers, not V x P x d
        distance = _squares(points, one)
        closer = distance < best
        part[closer], best[closer] = k, distance[closer]
    return part


def _overlap(members: NDArray[np.bool_], part: NDArray[np.int64]) -> float:
    """Jaccard index of a part and the most like one of other parts."""
    share = [
        (members & (part == k)).sum() / (members | (part == k)).sum()
        for k in np.unique(part[members])
        if k >= 0
    ]
    return float(max(share, default=0.0))


def correlations(values: Array) -> Array:
    """Correlations of columns (N, P): (P, P); 0 with what never changes."""
    centred = values - values.mean(0)
    spread = np.sqrt(np.square(centred).sum(0))
    scaled = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-9)
    found: Array = np.clip(scaled.T @ scaled, -1, 1)
    return found


def two_halves(points: Array, weight: Array, side: float) -> NDArray[np.bool_]:
    """Divide a part's trajectories (V, d) into the two groups that are most apart, (V,) bool.

    Means of two (Lloyd), from the heaviest and what is farthest from it. All False if they don't
    differ by a thousandth of the side.
    """
    first = points[weight.argmax()]
    centres = [first, points[_squares(points, first).argmax()]]
    second = np.zeros(len(points), dtype=bool)
    if np.sqrt(_squares(*centres)) < 1e-3 * side:
        return second
    for _ in range(_CLIMB):
        before, second = second, _squares(points, centres[1]) < _squares(points, centres[0])
        if (before == second).all():
            break
        centres = [np.average(points[s], axis=0, weights=weight[s]) for s in (~second, second)]
    return second


def presence_curve(values: Array) -> tuple[float, float]:
    """Fit how a part's mean score tells images that show it from those that don't.

    Two normal distributions of one spread, by EM: the images with higher scores show it. If they
    are no two groups (their means differ by no more than twice the spread, so that together they
    have one peak) the part is there as a rule: the usual score says 0.95, half of it leaves it
    open.

    Parameters
    ----------
    values : (N,)
        Weighted mean score of the part's nodes in each image.

    Returns
    -------
    offset, slope : float
        The presence is ``1 / (1 + exp(-(offset + slope value)))``.
    """
    low, high = np.quantile(values, (0.25, 0.75))
    spread, share = max(float(values.std()), _LEAST_SPREAD), 0.5
    for _ in range(_ITERATIONS):
        offset, slope = _logistic(low, high, spread, share)
        there = 1 / (1 + np.exp(-(offset + slope * values)))
        share = float(np.clip(there.mean(), _SURE, 1 - _SURE))
        before = low, high
        high = (there * values).sum() / max(there.sum(), 1e-9)
        low = ((1 - there) * values).sum() / max((1 - there).sum(), 1e-9)
        square = there * np.square(values - high) + (1 - there) * np.square(values - low)
        spread = max(float(np.sqrt(square.mean())), _LEAST_SPREAD)
        if abs(low - before[0]) + abs(high - before[1]) < 1e-6:
            break
    if high - low <= 2 * spread:
        usual = max(float(np.median(values)), _LEAST_SPREAD)
        return -_ODDS, 2 * _ODDS / usual
    return _logistic(low, high, spread, share)


def _logistic(low: float, high: float, spread: float, share: float) -> tuple[float, float]:
    """Offset and slope of the log odds of the higher one of two normal distributions."""
    slope = (high - low) / spread**2
    return float(np.log(share / (1 - share)) - slope * (low + high) / 2), float(slope)
