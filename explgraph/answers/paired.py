"""Statistics by which two networks are compared, image by image: shares, tests, matching.

All functions are pure and work on float64 arrays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

__all__ = [
    "Pairs",
    "Things",
    "answering",
    "distances",
    "exchange_p",
    "folds",
    "matched",
    "similarity",
]

Array = NDArray[np.float64]

_FOLDS = 5
_BLOCK = 1024  # permutations at a time
_TINY = 1e-12


def folds(n: int, seed: int) -> NDArray[np.int64]:
    """Divide n images into folds at random, (n,)."""
    numbers: NDArray[np.int64] = np.random.default_rng(seed).permutation(n) % _FOLDS
    return numbers


def answering(says: Array, there: Array, fold: NDArray[np.int64], total: float) -> Array:
    """Say how far what a network's maps say goes with the presence of things, image by image.

    Each number of the maps is predicted from a thing's presence by a line that is fitted on the
    other folds' images.

    Parameters
    ----------
    says : (N, C)
        What the maps say.
    there : (N, T)
        Presence of T things.
    fold : (N,) int
    total : float
        The variance that all C numbers have together, as a rule.

    Returns
    -------
    (N, T) float64
        Each image's part in it: the mean over images is the share of `total` that goes with the
        presence. About 0 by chance, on either side.
    """
    found = np.zeros(there.shape)
    for number in np.unique(fold):
        other, mine = fold != number, fold == number
        mean, usual = says[other].mean(0), there[other].mean(0)
        centred = there[other] - usual
        square = np.square(centred).sum(0)
        slope = centred.T @ (says[other] - mean) / np.maximum(square, _TINY)[:, None]
        slope[square <= _TINY] = 0
        new = there[mine] - usual
        along = (says[mine] - mean) @ slope.T
        # |f|^2 - |f - slope x|^2
        found[mine] = 2 * new * along - np.square(new) * np.square(slope).sum(1)
    shares: Array = found / total
    return shares


def exchange_p(differences: Array, *, permutations: int, seed: int) -> Array:
    """How probable so large a mean difference is if the two sides could be exchanged.

    Of each image the two sides are exchanged at random, which turns the sign of its difference, in
    all columns alike; compared are means over their standard errors.

    Parameters
    ----------
    differences : (N, T)
        One side less the other; large means are looked for.
    permutations, seed : int

    Returns
    -------
    (T,) float64
        At least 1 / (permutations + 1); 1 where nothing differs.
    """
    n, t = differences.shape
    square = np.square(differences).sum(0)

    def studentised(total: Array) -> Array:
        # the sum of squares is the same whatever the signs are
        left = np.maximum(square - np.square(total) / n, _TINY * square)
        scores: Array = total / np.sqrt(np.maximum(left, np.finfo(np.float64).tiny))
        return scores

    observed = studentised(differences.sum(0))
    rng = np.random.default_rng(seed)
    extreme = np.zeros(t)
    for start in range(0, permutations, _BLOCK):
        count = min(_BLOCK, permutations - start)
        signs = rng.choice((-1.0, 1.0), size=(count, n))
        extreme += (studentised(signs @ differences) >= observed - 1e-9 * abs(observed)).sum(0)
    p: Array = np.where(square > 0, (1 + extreme) / (permutations + 1), 1.0)
    return p


class Things(NamedTuple):
    """Where V things are in N images, and whether.

    Attributes
    ----------
    at : (N, V, 2) float64
        In one frame for all that is compared.
    there : (N, V) float64
        0 to 1.
    """

    at: Array
    there: Array


def similarity(one: Things, other: Things) -> Array:
    """Say how far things are at the same place at the same time, (V, W): 1 if always, 0 by chance.

    The mean of two numbers. *When*: the correlation of their presences. *Where*: by what share
    their squared distance, weighted by both presences, is less than with images exchanged. Either
    is 0 of what never changes.
    """
    a, b = (thing.there - thing.there.mean(0) for thing in (one, other))
    size = np.outer(np.sqrt(np.square(a).sum(0)), np.sqrt(np.square(b).sum(0)))
    when = np.divide(a.T @ b, size, out=np.zeros(size.shape), where=size > 1e-9)
    mean, square = [], []
    for thing in (one, other):
        much = thing.there / np.maximum(thing.there.sum(0), _TINY)
        mean.append(np.einsum("nv,nvi->vi", much, thing.at))
        square.append((much * np.square(thing.at).sum(-1)).sum(0))
    chance = square[0][:, None] + square[1] - 2 * mean[0] @ mean[1].T
    known = chance > 1e-9
    apart = np.square(distances(one, other))
    where = 1 - np.divide(apart, chance, out=np.ones(size.shape), where=known)
    found: Array = (when + where) / 2
    return found


def distances(one: Things, other: Things) -> Array:
    """Give root mean square distances of all pairs of things, by both presences, (V, W).

    Infinite of things that are never there together.
    """
    weight = one.there.T @ other.there
    squares = [np.square(thing.at).sum(-1) * thing.there for thing in (one, other)]
    total = squares[0].T @ other.there + one.there.T @ squares[1]
    for axis in (0, 1):
        a, b = (thing.at[..., axis] * thing.there for thing in (one, other))
        total = total - 2 * a.T @ b
    apart = np.full(weight.shape, np.inf)
    np.divide(total.clip(min=0), weight, out=apart, where=weight > 1e-9)
    found: Array = np.sqrt(apart)
    return found


class Pairs(NamedTuple):
    """Pairs of things, one to one.

    Attributes
    ----------
    one, other : (M,) int64
        Numbers.
    similarity : (M,)
    p : (M,)
        How probable so great a similarity is between things matched with images exchanged.
    """

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    similarity: Array
    p: Array


def matched(one: Things, other: Things, *, exchanges: int, seed: int) -> Pairs:
    """Match things one to one, so that their similarities are the greatest together.

    Chance is measured by exchanging the images of one side, all things together, and matching
    again, `exchanges` times; a pair is compared with all pairs of all these.

    References
    ----------
    Optimal assignment: Crouse, "On implementing 2D rectangular assignment algorithms" (IEEE TAES
    2016), as scipy has it.
    """
    rng = np.random.default_rng(seed)

    def pairs(given: Things) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        alike = similarity(one, given)
        # of what is never there together nothing is known
        alike = np.where(np.isfinite(alike), alike, -1.0)
        first, second = linear_sum_assignment(alike, maximize=True)
        return first, second, alike[first, second]

    first, second, alike = pairs(other)
    chance: list[Array] = []
    for _ in range(exchanges):
        order = rng.permutation(len(other.there))
        chance.append(pairs(Things(other.at[order], other.there[order]))[2])
    by_chance = np.sort(np.concatenate(chance))
    above = len(by_chance) - np.searchsorted(by_chance, alike, "left")
    return Pairs(first, second, alike, (1 + above) / (1 + len(by_chance)))
