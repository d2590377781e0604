"""Which effects of labels on outputs are more than chance; how far two orders agree.

All functions are pure and work on float64 arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from explgraph.errors import ExplgraphError

__all__ = ["permutation_p", "rank_correlation", "regression_weights"]

Array = NDArray[np.float64]

_BLOCK = 256  # permutations at a time


def regression_weights(labels: NDArray[np.bool_], names: tuple[str, ...]) -> Array:
    """Weights that turn outputs into the coefficients of a least squares regression on all labels.

    Parameters
    ----------
    labels : (N, A) bool
    names : tuple of str
        Of the A attributes, for the error.

    Returns
    -------
    (A, N) float64
        ``weights @ outputs`` is (A, outputs); an intercept is allowed for.

    Raises
    ------
    ExplgraphError
        If there are fewer than ``2 (A + 1)`` images, or a label can be told from the others.
    """
    n, a = labels.shape
    if n < 2 * (a + 1):
        raise ExplgraphError(
            f"{n} images are too few for {a} attributes; give at least {2 * (a + 1)}, better "
            "hundreds"
        )
    centred = labels - labels.mean(axis=0)
    for k, name in enumerate(names):
        others = np.delete(centred, k, axis=1)
        fit = np.linalg.lstsq(others, centred[:, k], rcond=None)[0]
        if np.abs(centred[:, k] - others @ fit).max() < 1e-6:
            used = [
                other for other, b in zip(np.delete(names, k), fit, strict=True) if abs(b) > 0.1
            ]
            raise ExplgraphError(
                f"attribute {name!r} follows from {', '.join(used)} in all images, so their "
                "effects can't be told apart; add images in which it doesn't, or leave one out"
            )
    return np.linalg.pinv(centred)


def permutation_p(
    outputs: Array,
    labels: NDArray[np.bool_],
    weights: Array,
    expected: NDArray[np.int64],
    margin: float,
    *,
    permutations: int,
    seed: int,
) -> Array:
    """How probable such effects are if they are what is expected.

    Where nothing is expected: the probability of an effect at least this large, of either sign,
    if the true one is `margin`. Where an effect of a sign is expected: of one this small, or of
    the other sign, if the true one has that sign and the size `margin`.

    Parameters
    ----------
    outputs : (N, A) float
    labels : (N, A) bool
    weights : (A, N) float
        `regression_weights` of the labels.
    expected : (A, A) int
        ``[output, label]``: 0, 1 or -1.
    margin : float
        In the outputs' unit.
    permutations, seed : int

    Returns
    -------
    (A, A) float64
        ``[output, label]``, at least 1 / (permutations + 1).

    References
    ----------
    ter Braak 1992: the residuals of the full regression are permuted, here inflated by what the
    regression took from them. Departure: tested against a margin, not against 0.
    """
    n, a = labels.shape
    effects = (weights @ outputs).T
    centred = labels - labels.mean(axis=0)
    residual = outputs - outputs.mean(axis=0) - centred @ effects.T
    residual *= np.sqrt(n / (n - a - 1))
    # towards which an effect is suspicious: away from 0, or away from what is expected
    side = np.where(expected == 0, np.where(effects < 0, -1, 1), -expected)
    size = side * effects
    # beyond these an effect of pure chance counts as extreme
    high = np.where(expected == 0, size - margin, size + margin)
    low = np.where(expected == 0, -size - margin, -np.inf)
    rng = np.random.default_rng(seed)
    extreme = np.zeros((a, a))
    for start in range(0, permutations, _BLOCK):
        count = min(_BLOCK, permutations - start)
        order = np.stack([rng.permutation(n) for _ in range(count)])
        chance = side * np.swapaxes(weights @ residual[order], 1, 2)
        extreme += (chance >= high).sum(axis=0) + (chance <= low).sum(axis=0)
    return np.minimum((1 + extreme) / (permutations + 1), 1.0)


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's correlation; 0 where all values of one are equal."""
    from scipy.stats import spearmanr  # takes a second to import

    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a, b).statistic)
