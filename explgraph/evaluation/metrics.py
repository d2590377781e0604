"""How well nodes follow parts, measured so that frozen nodes and echoes don't look good.

A *node* is anything with a position and a score in every image: a mined part node, a filter's
peak, a concept map's peak. Every measure takes plain arrays, so that all methods are measured
alike:

* ``positions`` (N, V, 2) px, ``[x, y]`` of V nodes in N images;
* ``scores`` (N, V) >= 0, how surely a node is there, comparable between the nodes;
* ``landmarks`` (N, 2) px, one part's place, NaN where it is not marked. Unmarked images take no
  part, except where scores are normalised;
* ``image_size`` (H, W) px, whose diagonal is the unit of error.

What to read together:

1. `location_instability` is the published measure. A point that never moves does well in it.
2. `tracking` is 0 for such a point and 1 for a node that follows the part exactly.
3. `few_shot_error` asks what the nodes are worth to someone who annotates a few images.
4. The same again with shuffled evidence and with the predicted place alone
   (`controls.evidence_rows`) unmasks nodes that repeat what they were told; other `controls` need
   no landmarks.
5. `baselines` belong beside every result, and `planted` is for worlds in which everything is known.

`table_row` computes 1 to 3 at once.

References
----------
Zhang et al., "Interpreting CNN knowledge via an explanatory graph", AAAI 2018 (location
instability). Barber and Candes, "Controlling the false discovery rate via knockoffs", Annals of
Statistics 2015 (decoys). Vardi and Zhang, PNAS 2000, and Weiszfeld 1937 (geometric median).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explgraph.errors import ExplgraphError

__all__ = [
    "MEASURES",
    "SHOTS",
    "diagonal",
    "few_shot_error",
    "location_instability",
    "node_tracking",
    "normalised_scores",
    "table_row",
    "top_scores",
    "tracking",
]

Array = NDArray[np.float64]

SHOTS = (1, 3, 10, 50)
"""Numbers of annotated images for which `table_row` measures localization."""
MEASURES = (
    "nodes", "images", "instability", "tracking",
    *(f"{k}-shot" for k in SHOTS), *(f"{k}-shot near" for k in SHOTS),
)  # fmt: skip
"""What a row of `table_row` holds."""


def location_instability(
    positions: ArrayLike,
    scores: ArrayLike,
    landmarks: ArrayLike,
    image_size: tuple[int, int],
    *,
    nodes: int = 167,
    images: int = 20,
) -> float:
    """How much the distance between a node and a part varies, as the reference code computes it.

    The `nodes` nodes with the greatest mean of their `images` highest scores are kept; for each,
    over its `images` highest-scoring images, the standard deviation (ddof 1) of the distance to
    the landmark is divided by the image's diagonal; mean over the nodes. Ties are broken by order.

    Lower is better, but a point that never moves scores well too (0.11 to 0.12 on aligned crops,
    better than most raw filters), so this must not be reported without `tracking` and
    `baselines.constant_grid`.

    Parameters
    ----------
    positions : (N, V, 2) float
        Nodes' places [x, y], px.
    scores : (N, V) float
        Nodes' scores, >= 0, comparable between nodes.
    landmarks : (N, 2) float
        The part's place [x, y], px; NaN = unmarked.
    image_size : (int, int)
        ``(H, W)`` px.
    nodes : int
        How many nodes are kept; fewer where there are fewer.
    images : int
        How many images each is judged on; fewer where there are fewer.

    Returns
    -------
    float
        Share of the diagonal; NaN with fewer than two marked images.

    References
    ----------
    Zhang et al., AAAI 2018, section "Evaluation metric: location instability".
    """
    place, score, truth, _ = _marked(positions, scores, landmarks)
    if len(truth) < 2:
        return float("nan")
    images = min(images, len(truth))
    best = np.argsort(-score, axis=0, kind="stable")[:images]
    strength = np.take_along_axis(score, best, axis=0).mean(axis=0)
    kept = np.argsort(-strength, kind="stable")[:nodes]
    best = best[:, kept]
    distance = np.linalg.norm(place[best, kept] - truth[best], axis=-1)
    return float(distance.std(axis=0, ddof=1).mean() / diagonal(image_size))


def tracking(
    positions: ArrayLike,
    landmarks: ArrayLike,
    *,
    nodes: int = 20,
    splits: int = 5,
    seed: int = 0,
) -> float:
    """How much of a part's movement the nodes nearest to it follow.

    The marked images are split in two at random. On the first half (the smaller, where N is odd)
    the `nodes` nodes with the smallest variance of position - landmark are taken; on the second
    half ``1 - mean var(position - landmark) / var(landmark)``, variances summed over x and y.
    Mean over the splits, which are permutations drawn one after the other from
    ``default_rng(seed)``.

    1 follows exactly, wherever from (a constant offset costs nothing); a node that never moves
    has exactly 0; below 0 is worse than that.

    Parameters
    ----------
    positions : (N, V, 2) float
        Nodes' places [x, y], px.
    landmarks : (N, 2) float
        The part's place [x, y], px; NaN = unmarked.
    nodes : int
        How many nodes are chosen.
    splits : int
        How many splits are averaged.
    seed : int
        Of the splits.

    Returns
    -------
    float
        At most 1; NaN with fewer than four marked images or a part that never moves.
    """
    place, _, truth, _ = _marked(positions, None, landmarks)
    if len(truth) < 4:
        return float("nan")
    rng = np.random.default_rng(seed)
    residual = place - truth[:, None]
    results = []
    for _ in range(splits):
        order = rng.permutation(len(truth))
        first, second = order[: len(truth) // 2], order[len(truth) // 2 :]
        chosen = np.argsort(_variance(residual[first]), kind="stable")[:nodes]
        error = _variance(residual[second][:, chosen]).mean()
        results.append(_one_minus_ratio(error, _variance(truth[second])))
    return float(np.mean(results))


def node_tracking(positions: ArrayLike, landmarks: ArrayLike) -> Array:
    """Tracking of every node by itself: ``1 - var(position - landmark) / var(landmark)``.

    Nothing is chosen here, so nothing needs to be held out. To choose nodes by it, choose on some
    images and measure on others.

    Parameters
    ----------
    positions : (N, V, 2) float
        Nodes' places [x, y], px.
    landmarks : (N, 2) float
        The part's place [x, y], px; NaN = unmarked.

    Returns
    -------
    (V,) float
        At most 1, 0 for a node that never moves; NaN if the part never moves or is unmarked.
    """
    place, _, truth, _ = _marked(positions, None, landmarks)
    if len(truth) < 2:
        return np.full(place.shape[1], np.nan)
    quality: Array = _one_minus_ratio(_variance(place - truth[:, None]), _variance(truth))
    return quality


def top_scores(scores: ArrayLike) -> Array:
    """Mean of each node's top fifth of images, above 0: scores (N, V) -> (V,)."""
    score = np.asarray(scores, dtype=np.float64)
    top: Array = np.sort(score, axis=0)[-max(1, len(score) // 5) :].mean(axis=0)
    return np.maximum(top, np.finfo(np.float64).tiny)


def normalised_scores(scores: ArrayLike, top: ArrayLike | None = None) -> Array:
    """Scores over the mean of their node's top fifth of images, clipped to [0, 2].

    Parameters
    ----------
    scores : (N, V) float
        Scores >= 0 in any unit, one per node.
    top : (V,) float, optional
        That mean, if it is of other images (`top_scores`).

    Returns
    -------
    (N, V) float
        In [0, 2]; 0 for a node that never fires. The top fifth is the ``max(1, N // 5)`` highest
        scores.
    """
    score = np.asarray(scores, dtype=np.float64)
    whole = top_scores(score) if top is None else np.asarray(top, dtype=np.float64)
    clipped: Array = np.clip(score / whole, 0, 2)
    return clipped


def few_shot_error(
    positions: ArrayLike,
    scores: ArrayLike,
    landmarks: ArrayLike,
    image_size: tuple[int, int],
    shots: int,
    *,
    prior: Literal["neutral", "near"] = "neutral",
    draws: int = 20,
    nodes: int = 60,
    seed: int = 0,
) -> float:
    """Error of a part's place when `shots` images are annotated, by a voter that is nobody's own.

    With scores ``z`` of `normalised_scores` (over all images) and weights ``z + 1e-3`` on the
    shots, each node's offset ``o`` is the weighted mean of landmark - position over the shots. Its
    variance is shrunk towards a prior variance with the weight of three observations::

        v = (sum_n weight_n |landmark_n - position_n - o|^2 + 3 prior) / (sum_n weight_n + 3)

    where the prior is that of the shots' landmarks (ddof 1, summed over x and y; 0 for one shot)
    + 100 px^2. The `nodes` nodes of least variance (ties by order) vote for position + offset with
    weight ``z / v^2 + 1e-12``; the prediction is their weighted geometric median: from the
    weighted mean, five Weiszfeld steps with distances + 5 px. The error is the mean distance over
    the other marked images and over the draws, divided by the diagonal. Draws are the first
    entries of permutations of the marked images from ``default_rng(seed)``, anew for each `shots`.

    Parameters
    ----------
    positions : (N, V, 2) float
        Nodes' places [x, y], px.
    scores : (N, V) float
        Nodes' scores, >= 0; their unit doesn't matter.
    landmarks : (N, 2) float
        The part's place [x, y], px; NaN = unmarked.
    image_size : (int, int)
        ``(H, W)`` px.
    shots : int
        Annotated images, >= 1.
    prior : {"neutral", "near"}
        "near" expects nodes near the part to be more rigid: the prior variance is
        ``20^2 + 0.3 |o|^2`` px^2 instead.
    draws : int
        Random choices of the shots, over which errors are averaged.
    nodes : int
        How many nodes vote.
    seed : int
        Of the draws.

    Returns
    -------
    float
        Share of the diagonal, lower is better; NaN if no marked image would be left to measure.
    """
    place, _, truth, marked = _marked(positions, scores, landmarks)
    if shots < 1:
        raise ExplgraphError(f"shots must be at least 1, found {shots}")
    if shots >= len(truth):
        return float("nan")
    z = normalised_scores(scores)[marked]
    rng = np.random.default_rng(seed)
    errors = []
    for _ in range(draws):
        order = rng.permutation(len(truth))
        shot, rest = order[:shots], order[shots:]
        weight = z[shot] + 1e-3
        total = weight.sum(axis=0)
        gap = truth[shot, None] - place[shot]
        offset = np.einsum("nv,nvd->vd", weight, gap) / total[:, None]
        spread = np.einsum("nv,nvd->v", weight, (gap - offset) ** 2)
        if prior == "near":
            expected = 20.0**2 + 0.3 * (offset**2).sum(axis=-1)
        else:
            expected = _variance(truth[shot], ddof=1 if shots > 1 else 0) + 100.0
        variance = (spread + 3 * expected) / (total + 3)
        voters = np.argsort(variance, kind="stable")[:nodes]
        votes = place[np.ix_(rest, voters)] + offset[voters]
        ballots = z[np.ix_(rest, voters)] / variance[voters] ** 2 + 1e-12
        found = _geometric_median(votes, ballots)
        errors.append(np.linalg.norm(found - truth[rest], axis=-1).mean())
    return float(np.mean(errors) / diagonal(image_size))


def _geometric_median(votes: Array, weights: Array, steps: int = 5, floor: float = 5.0) -> Array:
    """Weighted geometric medians (N, 2) of votes (N, V, 2), by Weiszfeld steps from the mean."""
    place: Array = np.einsum("nv,nvd->nd", weights, votes) / weights.sum(axis=1)[:, None]
    for _ in range(steps):
        pull = weights / (np.linalg.norm(votes - place[:, None], axis=-1) + floor)
        place = np.einsum("nv,nvd->nd", pull, votes) / pull.sum(axis=1)[:, None]
    return place


def table_row(
    positions: ArrayLike,
    scores: ArrayLike,
    landmarks: ArrayLike,
    image_size: tuple[int, int],
    *,
    shots: Sequence[int] = SHOTS,
    seed: int = 0,
) -> dict[str, float]:
    """Measures 1 to 3 as one flat row of a table.

    Parameters
    ----------
    positions : (N, V, 2) float
        Nodes' places [x, y], px.
    scores : (N, V) float
        Nodes' scores, >= 0, comparable between nodes.
    landmarks : (N, 2) float
        The part's place [x, y], px; NaN = unmarked.
    image_size : (int, int)
        ``(H, W)`` px.
    shots : sequence of int
        Numbers of annotated images.
    seed : int
        Of the splits and draws; the published figures use 0.

    Returns
    -------
    dict of str to float
        ``nodes``, ``images`` (marked ones), ``instability``, ``tracking``, ``1-shot`` and so on
        for each of `shots`, and ``1-shot near`` and so on with the prior that expects near nodes
        to be more rigid. All NaN where there are no nodes.
    """
    place, score, truth, _ = _marked(positions, scores, landmarks)
    row = {"nodes": float(place.shape[1]), "images": float(len(truth))}
    if place.shape[1] == 0:
        names = ["instability", "tracking", *(f"{k}-shot" for k in shots)]
        return row | dict.fromkeys([*names, *(f"{k}-shot near" for k in shots)], float("nan"))
    row["instability"] = location_instability(place, score, truth, image_size)
    row["tracking"] = tracking(place, truth, seed=seed)
    for k in shots:
        row[f"{k}-shot"] = few_shot_error(positions, scores, landmarks, image_size, k, seed=seed)
    for k in shots:
        row[f"{k}-shot near"] = few_shot_error(
            positions, scores, landmarks, image_size, k, prior="near", seed=seed
        )
    return row


# ----------------------------------------------------------------------------------------- helpers


def _marked(
    positions: ArrayLike, scores: ArrayLike | None, landmarks: ArrayLike
) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
    """Check the shapes and leave out unmarked images; the last entry says which are marked."""
    place = np.asarray(positions, dtype=np.float64)
    truth = np.asarray(landmarks, dtype=np.float64)
    if place.ndim != 3 or place.shape[2] != 2:
        raise ExplgraphError(
            f"positions must be (images, nodes, 2), found shape {place.shape}; "
            "the last axis holds [x, y]"
        )
    if truth.shape != (len(place), 2):
        raise ExplgraphError(
            f"landmarks must be ({len(place)}, 2), one [x, y] for each image of positions, found "
            f"shape {truth.shape}; use NaN for images in which the part isn't marked"
        )
    if not np.isfinite(place).all():
        raise ExplgraphError("positions must be finite, found NaN or infinite values")
    score = np.ones(place.shape[:2]) if scores is None else np.asarray(scores, dtype=np.float64)
    if score.shape != place.shape[:2]:
        raise ExplgraphError(
            f"scores must be {place.shape[:2]}, one for each image and node of positions, found "
            f"shape {score.shape}"
        )
    if not (np.isfinite(score).all() and (score >= 0).all()):
        raise ExplgraphError("scores must be finite and not negative; rectify them first")
    marked = np.isfinite(truth.sum(axis=1))
    return place[marked], score[marked], truth[marked], marked


def _variance(points: Array, ddof: int = 0) -> Any:
    """Variance over the first axis, summed over x and y: (N, ..., 2) -> (...)."""
    return points.var(axis=0, ddof=ddof).sum(axis=-1)


def _one_minus_ratio(error: Any, whole: Any) -> Any:
    """``1 - error / whole``, NaN where there is nothing to follow."""
    return 1 - error / whole if whole > 0 else error * np.nan


def diagonal(image_size: tuple[int, int]) -> float:
    """Length of the image's diagonal, px."""
    return float(np.hypot(*image_size))
