"""Reading attributes off a network's outputs as if attributes had nothing to do with each other.

A biased network's outputs are still informative: which of two attributes moved an output shows in
what it did to the others. Images' outputs are modelled as Gaussian around a sum of the effects of
the labels; with labels that are independent and as often true as not, Bayes' rule gives each
label's log-odds, which are linear in the outputs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Reading", "fit_reading", "probability"]

Array = NDArray[np.float64]


class Reading(NamedTuple):
    """How log-odds follow from outputs: ``(outputs - middle) @ weights``.

    Attributes
    ----------
    middle : (A,) float64
        Outputs of an image whose labels are all half true.
    weights : (A, A) float64
        ``[output, label]``.
    """

    middle: Array
    weights: Array

    def log_odds(self, outputs: Array) -> Array:
        """Give each label's log-odds, (N, A), of images whose outputs are (N, A)."""
        odds: Array = (outputs - self.middle) @ self.weights
        return odds


def fit_reading(outputs: Array, labels: NDArray[np.bool_], effects: Array) -> Reading:
    """Fit what outputs say about labels, on images where labels may go together.

    With effects ``B``, residual covariance ``S`` and independent labels of variance 1/4, outputs
    given that label t is true or not have means ``B_t`` apart and the covariance
    ``V_t = S + sum_{s != t} B_s B_s^T / 4``; so label t has the log-odds ``B_t^T V_t^-1 (z - mid)``
    (linear discriminant analysis, with V_t's other labels taken as Gaussian).

    Parameters
    ----------
    outputs : (N, A) float
    labels : (N, A) bool
    effects : (A, A) float
        ``[output, label]``: the coefficients of the regression of `outputs` on `labels`.

    Returns
    -------
    Reading
    """
    n, a = labels.shape
    centre = labels.mean(axis=0)
    residual = outputs - outputs.mean(axis=0) - (labels - centre) @ effects.T
    spread = residual.T @ residual / (n - a - 1)
    spread += 1e-9 * np.trace(spread) / a * np.eye(a)  # outputs may be copies of each other
    weights = np.empty((a, a))
    for t in range(a):
        others = np.delete(effects, t, axis=1)
        weights[:, t] = np.linalg.solve(spread + others @ others.T / 4, effects[:, t])
    return Reading(outputs.mean(axis=0) + effects @ (0.5 - centre), weights)


def probability(log_odds: Array) -> Array:
    """Turn log-odds into probabilities, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * log_odds))
