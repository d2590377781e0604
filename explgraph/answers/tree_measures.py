"""How well the modes of a decision tree stand for the network, at one depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from explgraph.answers.modes import TINY, Array, Mode
from explgraph.answers.rationales import Rationales

__all__ = ["Measures", "best_threshold", "measured"]


class Measures(NamedTuple):
    """How well the modes at one depth stand for the network.

    Attributes
    ----------
    depth : int
    modes : int
        That were used.
    parts : float
        Mean number of parts that one of them has.
    contribution_error : float
        Mean difference between a part's contribution by the mode and in truth, over the mean size
        of the score.
    fitness : float
        Overlap of the distributions of contributions over parts, the mode's and the image's own:
        ``sum_d min / sum_d max`` of their sizes, where signs differ 0; mean over images.
    accuracy : float
        Share of images, of the class or not, that a threshold on the predicted score puts on the
        right side; the threshold is the best one for the images that the tree was fitted to.
    prediction_error : float
        Mean difference between predicted score and score, over the range of scores.
    explained_variance : float
        Of the scores: 1 - mean squared error / variance.
    """

    depth: int
    modes: int
    parts: float
    contribution_error: float
    fitness: float
    accuracy: float
    prediction_error: float
    explained_variance: float


def measured(
    depth: int,
    used: Sequence[Mode],
    mine: Rationales,
    predicted: Array,
    parts: Array,
    truth: Array,
    columns: Sequence[int],
    accuracy: float,
) -> Measures:
    """Measure one depth.

    Parameters
    ----------
    depth : int
    used : sequence of Mode
        That explain some image at this depth, each once.
    mine : Rationales
        Of the N images of the class.
    predicted : (N,) float64
        Scores by the modes.
    parts : (N, V) float64
        Contributions by the modes.
    truth : (N, D) float64
        True contributions of some of the V nodes.
    columns : sequence of int
        Which D these are.
    accuracy : float
        As `Measures` has it.

    References
    ----------
    Zhang et al., CVPR 2019, section 5. Departure: parts are the tree's, single nodes or a graph's
    parts.
    """
    missed = mine.scores - predicted
    spread, variance = np.ptp(mine.scores), mine.scores.var()
    if spread <= TINY:  # one image: nothing is there to be explained
        spread = variance = np.float64(np.nan)
    return Measures(
        depth,
        len(used),
        float(np.mean([(mode.weights != 0).sum() for mode in used])),
        float(np.abs(parts[:, columns] - truth).mean() / np.abs(mine.scores).mean()),
        float(_fitness(parts, mine.contributions).mean()),
        accuracy,
        float(np.abs(missed).mean() / spread),
        float(1 - (missed**2).mean() / variance),
    )


def _fitness(estimated: Array, truth: Array) -> Array:
    """Overlap of two distributions of contributions over parts, for each image, (N,)."""
    size = np.abs(truth)
    same = np.maximum(estimated * np.sign(truth), 0)
    overlap: Array = np.minimum(same, size).sum(1) / np.maximum(np.maximum(same, size).sum(1), TINY)
    return overlap


def best_threshold(values: Array, positive: NDArray[np.bool_]) -> float:
    """Find the threshold above which most of the positive, and few of the others, lie."""
    order = np.sort(values)
    cuts = np.concatenate([[order[0] - 1], (order[1:] + order[:-1]) / 2, [order[-1] + 1]])
    right = [((values > cut) == positive).mean() for cut in cuts]
    return float(cuts[int(np.argmax(right))])
