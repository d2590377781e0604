"""Controls: what nodes know by themselves, and what can be measured without landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explgraph.errors import ExplgraphError
from explgraph.evaluation.metrics import SHOTS, diagonal, table_row

__all__ = [
    "best",
    "decoy_share",
    "derangement",
    "energy_share",
    "evidence_rows",
    "found_again",
    "permuted_filters",
]


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
        found[v[same & (distance < max_distance * diagonal(image_size))]] = True
    return found
