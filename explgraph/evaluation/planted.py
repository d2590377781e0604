"""Measures for worlds in which everything is known: which planted parts have nodes of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explgraph.evaluation.metrics import node_tracking, normalised_scores

__all__ = ["PlantedPart", "node_parts", "part_shares", "planted_parts", "relations_recovered"]

Array = NDArray[np.float64]


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
    min_tracking : float
        From when a part counts as followed.
    min_purity : float
        From when a node counts as this part's alone.
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
