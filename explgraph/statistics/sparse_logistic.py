"""Logistic regression on few of many features: convex, for more than two classes, and exact.

Of features ``x`` (D,), centred, class ``k`` has the score ``b_k + sum_d w_dk x_d``; probabilities
are their softmax. With n labelled rows the weights are those of least

    mean over rows of -log p(label) + strength * sum_d |w_d|,    |w_d| = sqrt(sum_k w_dk^2)

so that a feature is of use to the classes together or to none (the group lasso: Yuan and Lin 2006;
Simon, Friedman and Hastie 2013 for several classes). Biases are free. The minimum is found by
accelerated proximal steps (FISTA: Beck and Teboulle 2009) that start anew where they overshoot
(O'Donoghue and Candes 2015), over those features only that are in use or want to be; what tells
that it is the minimum, the subgradient's distance to 0, is given with it (`Fit.residual`).

Features aren't scaled: what varies more costs less. Whoever calls says by their scale what is
believed to matter.

The strength (`chosen`) is that of the least mean loss of rows that are left out: each in turn where
there are few, otherwise a tenth of each class at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Choice", "Fit", "chosen", "fitted", "log_likelihood", "strengths"]

Array = NDArray[np.float64]

_EXACT = 1e-8  # residual as a share of the largest strength that has any effect
_ROUGH = 1e-3  # the same where only a strength is compared with others
_MOST_STEPS = 50_000
_LOOK = 20  # steps between two looks at the residual
_STRENGTHS = 12
_WEAKEST = 1e-2  # of the largest: a fit that is next to free
_FEW = 40  # rows of which each is left out in turn
_FOLDS = 10  # of more rows
_TINY = 1e-300


class Fit(NamedTuple):
    """Weights that a strength gives.

    Attributes
    ----------
    weight : (D, K)
        Rows of features that are of no use are 0.
    bias : (K,)
        At the features' means; they sum to 0.
    mean : (D,)
        Of the features in the labelled rows.
    strength : float
    residual : float
        Largest distance of the subgradient to 0; at most 1e-8 of the largest strength.
    """

    weight: Array
    bias: Array
    mean: Array
    strength: float
    residual: float

    def scores(self, features: Array) -> Array:
        """Give the scores (n, K) of rows (n, D)."""
        scores: Array = (features - self.mean) @ self.weight + self.bias
        return scores


class Choice(NamedTuple):
    """A strength, chosen.

    Attributes
    ----------
    strength : float
    right : float
        Share of rows that were told right when they were left out, at this strength.
    """

    strength: float
    right: float


def log_likelihood(scores: Array, labels: NDArray[np.int64]) -> Array:
    """Give the log probability of each row's label, (n,)."""
    top = scores.max(1)
    whole = top + np.log(np.exp(scores - top[:, None]).sum(1))
    told: Array = scores[np.arange(len(labels)), labels] - whole
    return told


def strengths(features: Array, labels: NDArray[np.int64], k: int) -> Array:
    """Give strengths to choose among: from that at which no feature is of use, downwards."""
    centred, told = _ready(features, labels, k)
    slopes = centred.T @ (told.mean(0) - told) / len(told)
    largest = float(np.sqrt(np.square(slopes).sum(1)).max(initial=0.0))
    return max(largest, _TINY) * np.logspace(0, np.log10(_WEAKEST), _STRENGTHS)


def chosen(features: Array, labels: NDArray[np.int64], k: int) -> Choice:
    """Choose a strength by rows that are left out.

    Parameters
    ----------
    features : (n, D)
    labels : (n,)
        0 to k - 1, each class in two rows at least.
    k : int
    """
    tried = strengths(features, labels, k)
    loss, right = np.zeros(len(tried)), np.zeros(len(tried))
    for out in _folds(labels):
        for j, fit in enumerate(_path(features[~out], labels[~out], k, tried, _ROUGH)):
            scores = fit.scores(features[out])
            loss[j] -= log_likelihood(scores, labels[out]).sum()
            right[j] += (scores.argmax(1) == labels[out]).sum()
    best = int(loss.argmin())
    return Choice(float(tried[best]), float(right[best] / len(labels)))


def fitted(features: Array, labels: NDArray[np.int64], k: int, strength: float) -> Fit:
    """Find the weights of a strength.

    Parameters
    ----------
    features : (n, D)
    labels : (n,)
        0 to k - 1.
    k : int
    strength : float
    """
    larger = strengths(features, labels, k)
    way = [*larger[larger > strength], strength]
    return list(_path(features, labels, k, way, _EXACT))[-1]


def _folds(labels: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    """Say which rows are left out together."""
    n = len(labels)
    fold = np.arange(n)
    if n > _FEW:
        for label in np.unique(labels):
            here = np.flatnonzero(labels == label)
            fold[here] = np.arange(len(here)) % _FOLDS
    for number in np.unique(fold):
        yield fold == number


def _ready(features: Array, labels: NDArray[np.int64], k: int) -> tuple[Array, Array]:
    """Centre features, and give labels as rows of 0 and 1."""
    return features - features.mean(0), np.eye(k)[labels]


def _path(
    features: Array, labels: NDArray[np.int64], k: int, along: Sequence[float] | Array, exact: float
) -> Iterator[Fit]:
    """Fit along falling strengths, each from where the one before ended."""
    x, told = _ready(features, labels, k)
    mean = features.mean(0)
    weight = np.zeros((x.shape[1], k))
    bias = np.log(np.maximum(told.mean(0), 1e-3))  # a class that is left out isn't impossible
    bias -= bias.mean()
    bound = exact * strengths(features, labels, k)[0]
    for strength in along:
        use = weight.any(1)
        while True:
            if use.any():
                weight[use], bias = _minimum(x[:, use], told, weight[use], bias, strength, bound)
            slopes, _ = _slopes(x, told, weight, bias)
            residual = _residual(slopes, weight, strength)
            more = (residual > bound) & ~use
            if not more.any():
                break
            use |= more
        yield Fit(weight.copy(), bias - bias.mean(), mean, float(strength), residual.max(initial=0))


def _slopes(x: Array, told: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
    """Differentiate the mean loss by weights and biases."""
    scores = x @ weight + bias
    likely = np.exp(scores - scores.max(1, keepdims=True))
    likely /= likely.sum(1, keepdims=True)
    away = likely - told
    return x.T @ away / len(x), away.mean(0)


def _residual(slopes: Array, weight: Array, strength: float) -> Array:
    """Give each feature's least subgradient, (D,)."""
    size = np.sqrt(np.square(weight).sum(1))
    toward = weight / np.maximum(size, _TINY)[:, None]
    used: Array = np.sqrt(np.square(slopes + strength * toward).sum(1))
    unused = np.maximum(np.sqrt(np.square(slopes).sum(1)) - strength, 0)
    return np.where(size > 0, used, unused)


def _minimum(
    x: Array, told: Array, weight: Array, bias: Array, strength: float, bound: float
) -> tuple[Array, Array]:
    """Find the minimum over some features, from a start."""
    n = len(x)
    # a softmax curves by 1/2 at most
    rate = 1 / (0.5 * float(np.linalg.norm(np.c_[x, np.ones(n)], 2)) ** 2 / n)
    ahead, ahead_bias, speed = weight, bias, 1.0
    for step in range(1, _MOST_STEPS + 1):
        slopes, slope = _slopes(x, told, ahead, ahead_bias)
        moved = ahead - rate * slopes
        size = np.sqrt(np.square(moved).sum(1, keepdims=True))
        moved *= np.maximum(1 - rate * strength / np.maximum(size, _TINY), 0)
        moved_bias = ahead_bias - rate * slope
        change, change_bias = moved - weight, moved_bias - bias
        back = ((ahead - moved) * change).sum() + ((ahead_bias - moved_bias) * change_bias).sum()
        faster = 1.0 if back > 0 else (1 + (1 + 4 * speed**2) ** 0.5) / 2
        carry = 0.0 if back > 0 else (speed - 1) / faster
        ahead, ahead_bias = moved + carry * change, moved_bias + carry * change_bias
        weight, bias, speed = moved, moved_bias, faster
        if step % _LOOK == 0:
            slopes, slope = _slopes(x, told, weight, bias)
            if max(_residual(slopes, weight, strength).max(), np.abs(slope).max()) <= bound:
                break
    return weight, bias
