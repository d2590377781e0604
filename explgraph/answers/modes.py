"""Growing a tree of decision modes: which are merged, and by which few parts each decides.

The method, and how it departs from the paper's, is told in `decision_tree`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from explgraph.answers.rationales import Rationales
from explgraph.brief import counted

__all__ = [
    "ROOT",
    "TINY",
    "Array",
    "Mode",
    "Parts",
    "make_tree",
    "merge_modes",
    "over_mean",
    "sparse_fit",
    "unit_rows",
]

Array = NDArray[np.float64]
TINY = 1e-12
_TOLERANCE = 1e-7  # of alpha, which is about 1 where a part contributes as usual
_ROUNDS = 1000  # of the solver, at most
ROOT = 0


@dataclass(frozen=True)
class Mode:
    """A way to decide for the class.

    Attributes
    ----------
    parent : int or None
        The mode's number above, None for the root.
    children : tuple of int
        Numbers of the finer modes that were merged; none for a single image.
    images : tuple of int
        Which of the class's images belong to it.
    direction : (V,) float64
        The contributions common to its images, of length 1.
    weights : (V,) float64
        What a node adds to the score per its mean activation; mostly 0.
    bias : float
        What the score is besides.
    """

    parent: int | None
    children: tuple[int, ...]
    images: tuple[int, ...]
    direction: Array = field(repr=False)
    weights: Array = field(repr=False)
    bias: float

    def __repr__(self) -> str:
        weighed = int(np.count_nonzero(self.weights))
        return (
            f"Mode: {counted(len(self.images), 'image')}, "
            f"{counted(len(self.children), 'finer mode')}, "
            f"{counted(weighed, 'part')} that weigh, bias {self.bias:+.2f}"
        )


def unit_rows(vectors: Array) -> Array:
    """Scale rows to length 1; rows of zeros stay."""
    rows: Array = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), TINY)
    return rows


def over_mean(activations: Array, unit: Array) -> Array:
    """Divide activations by each node's mean; nodes that are never there give 0."""
    return np.divide(activations, unit, out=np.zeros_like(activations), where=unit > TINY)


def merge_modes(
    contributions: Array, positive: NDArray[np.bool_], beta: float
) -> tuple[list[tuple[int, int]], dict[int, float]]:
    """Merge modes until one is left.

    Parameters
    ----------
    contributions : (N, V)
        Of images of the class and of others.
    positive : (N,) bool
        The n images of the class.
    beta : float

    Returns
    -------
    merges : list of (int, int)
        Merge ``k`` makes mode ``n + k`` of these two; modes 0 to n - 1 are the images.
    objective : dict of int to float
        ``log E`` by number of modes.
    """
    n = int(positive.sum())
    size = np.linalg.norm(contributions, axis=1)
    r = unit_rows(contributions)
    gamma = 1 / max(float(size[positive].mean()), TINY)

    def likelihood(nearness: Array) -> Array:
        """Sum of log P over the class's images, for each column of cosines (N, P)."""
        z = gamma * size[:, None] * nearness
        top = z.max(0)
        sums: Array = z[positive].sum(0) - n * (top + np.log(np.exp(z - top).sum(0)))
        return sums

    # modes are sums of rationales: what merging needs of them are products, which add up
    gram = r[positive] @ r[positive].T
    toward = r @ r[positive].T
    numbers = list(range(n))
    rows = np.arange(len(r))[:, None]
    nearness = toward / _lengths(gram)
    objective = {n: float(likelihood(nearness.max(1, keepdims=True))[0]) - beta * n}
    merges: list[tuple[int, int]] = []
    while len(numbers) > 1:
        first, second = _candidates(gram)
        square = gram[first, first] + gram[second, second] + 2 * gram[first, second]
        joined = (toward[:, first] + toward[:, second]) / np.sqrt(np.maximum(square, TINY))
        # each image goes to the new mode, or to the nearest of those that stay
        others = np.full(joined.shape, -np.inf)
        for column in np.argsort(-nearness, axis=1, kind="stable")[:, :3].T[::-1, :, None]:
            stays = (column != first) & (column != second)
            others = np.where(stays, nearness[rows, column], others)
        outcome = likelihood(np.maximum(joined, others))
        k = int(outcome.argmax())
        u, v = int(first[k]), int(second[k])
        merges.append((numbers[u], numbers[v]))
        keep = [m for m in range(len(numbers)) if m not in (u, v)]
        numbers = [numbers[m] for m in keep] + [n + len(merges) - 1]
        row = gram[keep, u] + gram[keep, v]
        gram = np.block([[gram[np.ix_(keep, keep)], row[:, None]], [row[None], square[k]]])
        toward = np.column_stack([toward[:, keep], toward[:, u] + toward[:, v]])
        nearness = toward / _lengths(gram)
        objective[len(numbers)] = float(outcome[k]) - beta * len(numbers)
    return merges, objective


def _lengths(gram: Array) -> Array:
    """Give the lengths of vectors by their products."""
    lengths: Array = np.sqrt(np.maximum(np.diag(gram), TINY))
    return lengths


def _candidates(gram: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair each mode with the one of nearest direction, every pair once."""
    length = _lengths(gram)
    near = gram / np.outer(length, length)
    np.fill_diagonal(near, -np.inf)
    pairs = np.sort(np.stack([np.arange(len(near)), near.argmax(1)], axis=1), axis=1)
    first, second = np.unique(pairs, axis=0).T
    return first, second


class Parts(NamedTuple):
    """What the sparse rationale of a mode is fitted to.

    Attributes
    ----------
    x : (n, V)
        Activations over their means.
    mine : Rationales
        Of the class's n images.
    sparsity : float
    """

    x: Array
    mine: Rationales
    sparsity: float

    def fit(self, images: Sequence[int]) -> tuple[Array, Array, float]:
        """Give a mode's direction, weights and bias."""
        here = list(images)
        mine = self.mine.take(here)
        direction = unit_rows(unit_rows(mine.contributions).sum(0))
        bias = float(mine.rest.mean())
        usual = over_mean(mine.contributions.mean(0), self.x[here].mean(0))
        task = self.x[here] * usual, mine.contributions, mine.scores - bias
        chosen = np.flatnonzero(sparse_fit(*task, self.sparsity))
        alpha = np.zeros_like(usual)
        # once chosen, parts are fitted again without the penalty, which made all of them small
        alpha[chosen] = sparse_fit(task[0][:, chosen], task[1][:, chosen], task[2], 0.0)
        return direction, alpha * usual, bias


def sparse_fit(z: Array, parts: Array, total: Array, sparsity: float) -> Array:
    """Fit few parts to a total and to what each of them should be.

    Finds the ``alpha >= 0`` that minimises the mean over rows of
    ``(sum_d alpha_d z_d - total)^2 + sum_d (alpha_d z_d - parts_d)^2``, plus
    ``penalty * sum_d alpha_d``.

    Parameters
    ----------
    z, parts : (n, V)
    total : (n,)
    sparsity : float
        The penalty as a share of the smallest one at which all of alpha is 0.

    Returns
    -------
    (V,) float64

    Notes
    -----
    Coordinate descent over a working set: the parts that aren't 0, and those that would rise.
    """
    n, v = z.shape
    own = (z**2).mean(0)
    slope = 2 / n * z.T @ total + 2 * (z * parts).mean(0)
    penalty = sparsity * slope.max(initial=0.0)
    alpha = np.zeros(v)
    for _ in range(_ROUNDS):
        gradient = 2 / n * z.T @ (z @ alpha) + 2 * own * alpha - slope + penalty
        working = np.flatnonzero(((alpha > 0) | (gradient < 0)) & (own > TINY))
        some = z[:, working]
        curve = 2 / n * some.T @ some + 2 * np.diag(own[working])
        new = _descend(alpha[working], gradient[working], curve)
        moved = np.abs(new - alpha[working]).max(initial=0.0)
        alpha[working] = new
        if moved <= _TOLERANCE:
            break
    return alpha


def _descend(alpha: Array, gradient: Array, curve: Array) -> Array:
    """Minimise a quadratic over ``alpha >= 0``, one alpha at a time, from where its slope is."""
    alpha, gradient = alpha.copy(), gradient.copy()
    steep = np.diag(curve)
    for _ in range(_ROUNDS):
        moved = 0.0
        for d in range(len(alpha)):
            step = max(-gradient[d] / steep[d], -alpha[d])
            if step:
                alpha[d] += step
                gradient += step * curve[d]
                moved = max(moved, abs(step))
        if moved <= _TOLERANCE:
            break
    return alpha


def make_tree(n: int, merges: Sequence[tuple[int, int]], parts: Parts) -> tuple[Mode, ...]:
    """Make the tree of the first merges of n images: the root, then coarse to fine."""
    children: dict[int, tuple[int, ...]] = {n + k: pair for k, pair in enumerate(merges)}
    images: dict[int, tuple[int, ...]] = {i: (i,) for i in range(n)}
    for number, (first, second) in children.items():
        images[number] = tuple(sorted(images[first] + images[second]))
    merged = {number for pair in merges for number in pair}
    top = sorted((k for k in images if k not in merged), key=lambda k: (-len(images[k]), k))
    # numbers in the order of levels, so that a parent comes before its children
    order: list[tuple[int, int]] = []
    level = [(number, ROOT) for number in top]
    while level:
        begin = len(order) + 1
        order += level
        level = [
            (below, begin + k)
            for k, (number, _) in enumerate(level)
            for below in sorted(children.get(number, ()), key=lambda m: (-len(images[m]), m))
        ]
    renumbered = {number: k + 1 for k, (number, _) in enumerate(order)}
    everything = tuple(range(n))
    modes = [Mode(None, tuple(renumbered[k] for k in top), everything, *parts.fit(everything))]
    modes += [
        Mode(
            parent,
            tuple(sorted(renumbered[m] for m in children.get(number, ()))),
            images[number],
            *parts.fit(images[number]),
        )
        for number, parent in order
    ]
    return tuple(modes)
