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
4. The same again with shuffled evidence and with the predicted place alone (`evidence_rows`)
   unmasks nodes that repeat what they were told.
5. `decoy_share`, `energy_share` and `found_again` need no landmarks.
6. `planted_parts` and `relations_recovered` are for worlds in which everything is known.

`table_row` computes 1 to 3 at once; `constant_grid` and `raw_peaks` are the baselines that belong
beside every result.

References
----------
Zhang et al., "Interpreting CNN knowledge via an explanatory graph", AAAI 2018 (location
instability). Barber and Candes, "Controlling the false discovery rate via knockoffs", Annals of
Statistics 2015 (decoys). Vardi and Zhang, PNAS 2000, and Weiszfeld 1937 (geometric median).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explgraph.errors import ExplgraphError
from explgraph.geometry import Layer

__all__ = [
    "SHOTS",
    "PlantedPart",
    "best",
    "constant_grid",
    "decoy_share",
    "derangement",
    "energy_share",
    "evidence_rows",
    "few_shot_error",
    "found_again",
    "location_instability",
    "node_parts",
    "node_tracking",
    "normalised_scores",
    "part_shares",
    "permuted_filters",
    "planted_parts",
    "raw_peaks",
    "relations_recovered",
    "table_row",
    "top_scores",
    "tracking",
]

Array = NDArray[np.float64]

SHOTS = (1, 3, 10, 50)
"""Numbers of annotated images for which `table_row` measures localization."""


# ------------------------------------------------------------------------------------ measures 1-3


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
    `constant_grid`.

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
    nodes, images : int
        How many nodes are kept and how many images each is judged on; fewer where there are fewer.

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
    return float(distance.std(axis=0, ddof=1).mean() / _diagonal(image_size))


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
    nodes, splits : int
        How many nodes are chosen, and how many splits are averaged.
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


def normalised_scores(scores: ArrayLike) -> Array:
    """Scores over the mean of their node's top fifth of images, clipped to [0, 2].

    Parameters
    ----------
    scores : (N, V) float
        Scores >= 0 in any unit, one per node.

    Returns
    -------
    (N, V) float
        In [0, 2]; 0 for a node that never fires. The top fifth is the ``max(1, N // 5)`` highest
        scores.
    """
    score = np.asarray(scores, dtype=np.float64)
    clipped: Array = np.clip(score / top_scores(score), 0, 2)
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
    draws, nodes : int
        Random choices of the shots, and voters.
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
    return float(np.mean(errors) / _diagonal(image_size))


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


# ------------------------------------------------------------------------ measure 4: own evidence


def derangement(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a permutation of 0 .. n-1 that leaves nothing in its place, uniform among those.

    Parameters
    ----------
    n : int
        Not 1, for which there is none.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    (n,) int
        Entry ``i`` is never ``i``.

    Raises
    ------
    ExplgraphError
        If `n` is 1.
    """
    if n == 1:
        raise ExplgraphError("one image can't be exchanged for another; use at least two images")
    while True:  # a permutation serves with probability 1/e, so this takes 2.7 rounds on average
        order = rng.permutation(n)
        if not np.any(order == np.arange(n)):
            return order


def permuted_filters(
    maps: NDArray[Any], chosen: ArrayLike, rng: np.random.Generator
) -> NDArray[Any]:
    """Feature maps in which some filters' maps are exchanged among the images: decoys.

    Each chosen filter has a `derangement` of its own, so decoys say nothing about the image in
    which they stand, nor do they agree with each other.

    Parameters
    ----------
    maps : (N, C, H, W) float
        Activations of one layer.
    chosen : (C,) bool
        Filters to be exchanged, for instance ``np.arange(C) % 2 == 1``.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    (N, C, H, W) float
        A copy.
    """
    exchanged = maps.copy()
    for c in np.flatnonzero(np.asarray(chosen)):
        exchanged[:, c] = maps[derangement(len(maps), rng), c]
    return exchanged


def evidence_rows(
    positions: ArrayLike,
    scores: ArrayLike,
    expected: ArrayLike,
    shuffled_positions: ArrayLike,
    shuffled_scores: ArrayLike,
    landmarks: ArrayLike,
    image_size: tuple[int, int],
    *,
    shots: Sequence[int] = SHOTS,
) -> dict[str, dict[str, float]]:
    """Measures 1 to 3 three times: as inferred, with evidence of other images, prior only.

    A node whose place is predicted well looks like a tracker even if its own filter says nothing.
    Such an echo keeps its figures when its layer's maps come from other images, and doesn't beat
    the predicted place.

    Parameters
    ----------
    positions, scores : (N, V, 2) and (N, V) float
        As inferred from the images, px.
    expected : (N, V, 2) float
        The predicted place alone, px. It is measured with the nodes' own scores.
    shuffled_positions, shuffled_scores : (N, V, 2) and (N, V) float
        As inferred when every map of the nodes' layer is taken from another image (`derangement`)
        while predictions stay.
    landmarks : (N, 2) float
        The part's place [x, y], px; NaN = unmarked.
    image_size : (int, int)
        ``(H, W)`` px.
    shots : sequence of int
        Numbers of annotated images.

    Returns
    -------
    dict of str to dict of str to float
        `table_row` of ``"nodes"``, ``"evidence shuffled"`` and ``"prior only"``.
    """
    return {
        "nodes": table_row(positions, scores, landmarks, image_size, shots=shots),
        "evidence shuffled": table_row(
            shuffled_positions, shuffled_scores, landmarks, image_size, shots=shots
        ),
        "prior only": table_row(expected, scores, landmarks, image_size, shots=shots),
    }


# --------------------------------------------------------------- measure 5: without any annotation


def best(reliability: ArrayLike, share: float) -> NDArray[np.int64]:
    """Choose the most reliable nodes, best first; ties by order.

    Parameters
    ----------
    reliability : (V,) float
        Any number by which nodes are ranked.
    share : float
        In (0, 1]; ``round(share * V)`` nodes, at least one if there are any.

    Returns
    -------
    (round(share * V),) int
        Indices into `reliability`.
    """
    rank = np.argsort(-np.asarray(reliability, dtype=np.float64), kind="stable")
    return rank[: max(1, round(share * len(rank)))]


def decoy_share(reliability: ArrayLike, decoy: ArrayLike, share: float = 0.25) -> float:
    """Share of decoys among the most reliable nodes.

    Parameters
    ----------
    reliability : (V,) float
        By which the nodes are ranked.
    decoy : (V,) bool
        Whether a node belongs to a filter whose maps were exchanged before mining
        (`permuted_filters`).
    share : float
        How many of the nodes are looked at, in (0, 1].

    Returns
    -------
    float
        0 is ideal; reliability without meaning gives the share of decoys among all nodes, 0.5 if
        every second filter is one. NaN without nodes.
    """
    chosen = np.asarray(decoy, dtype=np.float64)[best(reliability, share)]
    return float(chosen.mean()) if len(chosen) else float("nan")


def energy_share(energy: ArrayLike, filters: ArrayLike, totals: ArrayLike) -> float:
    """Share of all firing filters' activation that the nodes explain.

    Parameters
    ----------
    energy : (V,) float
        ``sum a resp / sum a`` of each node in its own filter, in [0, 1] (node attribute
        ``energy``).
    filters : (V,) int
        Index of each node's filter in `totals`.
    totals : (C,) float
        Total activation of every filter, those without nodes included; >= 0, any unit.

    Returns
    -------
    float
        ``sum_v energy_v totals[filter_v] / sum_c totals_c``, in [0, 1]; NaN if nothing fires.
    """
    total = np.asarray(totals, dtype=np.float64)
    if not total.sum() > 0:
        return float("nan")
    explained = np.asarray(energy, dtype=np.float64) * total[np.asarray(filters, dtype=np.int64)]
    return float(explained.sum() / total.sum())


def found_again(
    positions: ArrayLike,
    filters: Sequence[Any],
    other_positions: ArrayLike,
    other_filters: Sequence[Any],
    image_size: tuple[int, int],
    *,
    min_correlation: float = 0.8,
    max_distance: float = 0.1,
) -> NDArray[np.bool_]:
    """Which nodes of one graph have a counterpart in another, mined on other images.

    A counterpart is a node on the same filter whose positions in the same images are correlated
    above `min_correlation` and lie within `max_distance` of the diagonal on average. The
    correlation is that of displacements from the mean place, ``sum a.b / sqrt(sum |a|^2 sum
    |b|^2)``, both coordinates together; a node that never moves is correlated with nothing.

    Parameters
    ----------
    positions : (N, V, 2) float
        The graph's nodes in all N images, px.
    filters : sequence of V hashable
        Each node's filter, for instance ``(layer, filter)``.
    other_positions : (N, U, 2) float
        The other graph's nodes in the same images, px.
    other_filters : sequence of U hashable
        Their filters.
    image_size : (int, int)
        ``(H, W)`` px.
    min_correlation, max_distance : float
        Bounds, exclusive.

    Returns
    -------
    (V,) bool
        Its mean over the best quarter is the agreement between halves.
    """
    a = np.asarray(positions, dtype=np.float64)
    b = np.asarray(other_positions, dtype=np.float64)
    columns: dict[Any, list[int]] = {}
    for u, key in enumerate(other_filters):
        columns.setdefault(key, []).append(u)
    pairs = np.array(
        [(v, u) for v, key in enumerate(filters) for u in columns.get(key, ())], dtype=np.int64
    ).reshape(-1, 2)
    moved_a, moved_b = a - a.mean(axis=0), b - b.mean(axis=0)
    norm_a, norm_b = (moved_a**2).sum(axis=(0, 2)), (moved_b**2).sum(axis=(0, 2))
    found = np.zeros(a.shape[1], dtype=np.bool_)
    for start in range(0, len(pairs), 4096):  # bounds the memory: pairs can be many times V
        v, u = pairs[start : start + 4096].T
        product = np.einsum("npd,npd->p", moved_a[:, v], moved_b[:, u])
        scale = np.sqrt(norm_a[v] * norm_b[u])
        distance = np.linalg.norm(a[:, v] - b[:, u], axis=-1).mean(axis=0)
        same = (product > min_correlation * scale) & (scale > 1e-9 * len(a))
        found[v[same & (distance < max_distance * _diagonal(image_size))]] = True
    return found


# ------------------------------------------------------------- measure 6: where everything is known


class PlantedPart(NamedTuple):
    """The node that follows a planted part best, chosen on one half and measured on the other.

    Attributes
    ----------
    node : int
        Index of the node.
    tracking : float
        `node_tracking` on the measuring half.
    purity : float
        Share of the node's places that lie nearest to this part (`part_shares`), same half.
    error : float
        Mean distance, px, to the part after the offset of the choosing half is added, same half.
    followed : bool
        Whether tracking and purity both reach their bounds.
    """

    node: int
    tracking: float
    purity: float
    error: float
    followed: bool


def part_shares(positions: ArrayLike, scores: ArrayLike, parts: Mapping[str, ArrayLike]) -> Array:
    """Where each node's places lie: the share of them that is nearest to each part.

    Only images count in which the node fires: its score is at least 0.2 of the mean of its top
    fifth, and some part is there. A node that jumps elsewhere when its part is absent is impure.

    Parameters
    ----------
    positions : (N, V, 2) float
        Nodes' places [x, y], px.
    scores : (N, V) float
        Nodes' scores, >= 0.
    parts : mapping of str to (N, 2) float
        Places of all P parts, px, NaN where absent.

    Returns
    -------
    (V, P) float
        Rows sum to 1, or to 0 for a node that never fires. The greatest entry of a row is the
        node's purity.
    """
    place, score = np.asarray(positions, dtype=np.float64), normalised_scores(scores)
    truth = np.stack([np.asarray(p, dtype=np.float64) for p in parts.values()])
    there = np.isfinite(truth.sum(axis=2)).any(axis=0)  # some part is
    nearest = np.zeros(place.shape[:2], dtype=np.int64)
    closest = np.full(place.shape[:2], np.inf)
    for index, part in enumerate(truth):  # a part at a time: N x V numbers, not N x V x P
        distance = ((place - part[:, None]) ** 2).sum(axis=-1)
        closer = distance < closest  # False for NaN
        nearest[closer] = index
        closest[closer] = distance[closer]
    fires = (score >= 0.2) & there[:, None]
    counts = np.stack([((nearest == p) & fires).sum(axis=0) for p in range(len(truth))], axis=1)
    shares: Array = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def _mean_of_known(values: Array) -> Array:
    """Mean over the first dimension of what is no NaN; NaN if there is nothing."""
    known = np.isfinite(values)
    total: Array = np.where(known, values, 0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


def planted_parts(
    positions: ArrayLike,
    scores: ArrayLike,
    parts: Mapping[str, ArrayLike],
    *,
    min_tracking: float = 0.8,
    min_purity: float = 0.9,
    seed: int = 0,
) -> dict[str, PlantedPart]:
    """Which planted parts have a node of their own.

    On a random half of the images each part gets the node that tracks it best among those that
    reach `min_purity` there (among all nodes if none does). What is reported is measured on the
    other half, so that many nodes don't help by chance.

    Parameters
    ----------
    positions : (N, V, 2) float
        Nodes' places [x, y], px.
    scores : (N, V) float
        Nodes' scores, >= 0.
    parts : mapping of str to (N, 2) float
        Places of all parts, px, NaN where absent (or hidden).
    min_tracking, min_purity : float
        From when a part counts as followed.
    seed : int
        Of the split.

    Returns
    -------
    dict of str to PlantedPart
        The share of parts followed is the mean of ``followed``.
    """
    place, score = np.asarray(positions, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    truth = {name: np.asarray(p, dtype=np.float64) for name, p in parts.items()}
    order = np.random.default_rng(seed).permutation(len(place))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    pure = part_shares(place[first], score[first], {k: p[first] for k, p in truth.items()})
    purity = part_shares(place[second], score[second], {k: p[second] for k, p in truth.items()})
    report = {}
    for index, (name, part) in enumerate(truth.items()):
        quality = np.nan_to_num(node_tracking(place[first], part[first]), nan=-np.inf)
        eligible = pure[:, index] >= min_purity
        if eligible.any():
            quality = np.where(eligible, quality, -np.inf)
        node = int(np.argmax(quality))
        follows = float(node_tracking(place[second][:, [node]], part[second])[0])
        offset = _mean_of_known(part[first] - place[first, node])
        misses = np.linalg.norm(place[second, node] + offset - part[second], axis=-1)
        share = float(purity[node, index])
        report[name] = PlantedPart(
            node,
            follows,
            share,
            float(_mean_of_known(misses)),
            bool(follows >= min_tracking and share >= min_purity),
        )
    return report


def node_parts(
    positions: ArrayLike, parts: Mapping[str, ArrayLike], *, min_tracking: float = 0.5
) -> list[str | None]:
    """Name the part that each node tracks best, None where it tracks none.

    Parameters
    ----------
    positions : (N, V, 2) float
        Nodes' places [x, y], px.
    parts : mapping of str to (N, 2) float
        Places of all parts, px, NaN where absent.
    min_tracking : float
        Below it a node belongs to no part.

    Returns
    -------
    list of (str or None)
        One per node.
    """
    names = list(parts)
    quality = np.stack([node_tracking(positions, part) for part in parts.values()])
    quality = np.nan_to_num(quality, nan=-np.inf)
    winner = quality.argmax(axis=0)
    return [
        names[p] if quality[p, v] >= min_tracking else None for v, p in enumerate(winner.tolist())
    ]


def relations_recovered(
    edges: Sequence[tuple[int, int]],
    parts: Sequence[str | None],
    relations: Sequence[tuple[str, str]],
) -> float:
    """Share of the planted relations for which some edge links nodes of the two parts.

    Parameters
    ----------
    edges : sequence of (int, int)
        Indices of the linked nodes; direction doesn't matter.
    parts : sequence of (str or None)
        Each node's part (`node_parts`).
    relations : sequence of (str, str)
        Pairs of parts that are joined in the planted world.

    Returns
    -------
    float
        In [0, 1]; NaN without relations.
    """
    if not relations:
        return float("nan")
    linked = {frozenset((parts[u], parts[v])) for u, v in edges}
    return sum(frozenset(pair) in linked for pair in relations) / len(relations)


# --------------------------------------------------------------------------------------- baselines


def constant_grid(
    n_images: int, image_size: tuple[int, int], *, rows: int = 14, columns: int = 14, seed: int = 0
) -> tuple[Array, Array]:
    """Points that never move, with scores that mean nothing: what every method has to beat.

    Parameters
    ----------
    n_images : int
        N.
    image_size : (int, int)
        ``(H, W)`` px.
    rows, columns : int
        The points are the centres of this many equal cells.
    seed : int
        Of the scores. They are random (uniform), because equal scores would favour whichever
        images come first.

    Returns
    -------
    positions, scores : (N, rows * columns, 2) px and (N, rows * columns)
        Points row by row.
    """
    height, width = image_size
    x = (np.arange(columns) + 0.5) * width / columns
    y = (np.arange(rows) + 0.5) * height / rows
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    scores = np.random.default_rng(seed).random((n_images, len(points)))
    return np.tile(points, (n_images, 1, 1)), scores


def raw_peaks(maps: NDArray[Any], layer: Layer) -> tuple[Array, Array]:
    """Each filter's strongest unit: the plainest part detector that a network has.

    Parameters
    ----------
    maps : (N, C, H, W) float
        Rectified activations of one layer.
    layer : Layer
        Where its units look.

    Returns
    -------
    positions, scores : (N, C, 2) px and (N, C)
        Centre of the strongest unit (the first of equals; unit 0 where nothing fires), and its
        activation over the filter's standard deviation across all units and images, which makes
        filters comparable; 0 for a filter that is constant.
    """
    n, c, _, width = maps.shape
    flat = maps.reshape(n, c, -1)
    unit = flat.argmax(axis=-1)
    peak = np.take_along_axis(flat, unit[..., None], axis=-1)[..., 0].astype(np.float64)
    deviation = np.array([flat[:, i].astype(np.float64).std() for i in range(c)])
    scores = np.divide(peak, deviation, out=np.zeros_like(peak), where=deviation > 0)
    return np.stack([layer.centres_x[unit % width], layer.centres_y[unit // width]], -1), scores


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


def _diagonal(image_size: tuple[int, int]) -> float:
    """Length of the image's diagonal, px."""
    return float(np.hypot(*image_size))
