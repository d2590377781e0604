"""Planting filters that are made of others, and judging what is found of them: pure functions.

`planted.py` says what is measured. In order: `held_shares` and `choose_sources` find the filters
that hold one part, `draw_plants` and `plant_maps` put them together, `append_filters` adds them to
a layer, and `judge` counts which sources the nodes of the planted filters find. `peaks` is the
plain method that stands beside.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import quality
from explgraph.activations.memory import Activations
from explgraph.evaluation.metrics import node_tracking
from explgraph.network.geometry import Layer

Array = NDArray[np.float64]
Row = dict[str, Any]


class Sources(NamedTuple):
    """Filters that hold one part: S of them in N images.

    Attributes
    ----------
    filter : (S,) int
    positions : (N, S, 2) float
        Of the source's own node, px.
    scores : (N, S) float
        Its score.
    """

    filter: NDArray[np.int64]
    positions: Array
    scores: Array


class Plant(NamedTuple):
    """A planted filter: its kind, its sources (indices), the images that show each (S, N)."""

    kind: str
    sources: tuple[int, ...]
    shown: NDArray[np.bool_]


class Found(NamedTuple):
    """Nodes of planted filters: positions (N, V, 2) px, scores (N, V), index of the filter (V,)."""

    positions: Array
    scores: Array
    plant: NDArray[np.int64]


# ------------------------------------------------------------------------------------------ sources


def window(positions: Array, layer: Layer, spread: float) -> tuple[Array, Array]:
    """Gaussian around positions (..., 2) px at a layer's units: factors (..., H) and (..., W)."""
    x = np.exp(-((layer.centres_x - positions[..., :1]) ** 2) / (2 * spread**2))
    y = np.exp(-((layer.centres_y - positions[..., 1:]) ** 2) / (2 * spread**2))
    return y, x


def held_shares(
    maps: NDArray[Any], layer: Layer, positions: Array, filters: NDArray[np.int64], spread: float
) -> Array:
    """Share of squared activation of each node's filter that lies around the node.

    Parameters
    ----------
    maps : (N, C, H, W) float
    layer : Layer
    positions : (N, V, 2) float
        px.
    filters : (V,) int
    spread : float
        Of the Gaussian, px.

    Returns
    -------
    (V,) float
        ``sum a^2 g / sum a^2`` over all images and units, g = 1 at the node; 0 if nothing fires.
    """
    held, total = np.zeros(len(filters)), np.zeros(len(filters))
    for image, places in zip(maps, positions, strict=True):
        squared = image[filters].astype(np.float64) ** 2
        y, x = window(places, layer, spread)
        held += np.einsum("vhw,vh,vw->v", squared, y, x, optimize=True)
        total += squared.sum(axis=(1, 2))
    return np.divide(held, total, out=np.zeros_like(held), where=total > 0)


def choose_sources(
    nodes: quality.Nodes, shares: Array, *, number: int = 100, least: float = 0.3
) -> NDArray[np.int64]:
    """Choose one node each of the filters that hold one part, the largest share first.

    Parameters
    ----------
    nodes : Nodes
        V nodes of one layer.
    shares : (V,) float
        Of `held_shares`.
    number : int
        Of sources, at most.
    least : float
        Share that a source has at least.

    Returns
    -------
    (S,) int
        Indices into `nodes`, no two of one filter; ties by order.
    """
    rank = np.argsort(-shares, kind="stable")
    rank = rank[(nodes.reliability[rank] > 0) & (shares[rank] >= least)]
    _, first = np.unique(nodes.filter[rank], return_index=True)
    return rank[np.sort(first)][:number]


# ----------------------------------------------------------------------------------------- planting


def draw_plants(
    sources: Sources,
    image_size: tuple[int, int],
    counts: Mapping[str, int],
    seed: int,
    *,
    apart: float = 0.2,
) -> list[Plant]:
    """Draw which sources are put together, without repetition, and the images of occasions.

    Parameters
    ----------
    sources : Sources
    image_size : (int, int)
        ``(H, W)`` px.
    counts : mapping of str to int
        Planted filters of each kind; fewer where there are fewer combinations.
    seed : int
    apart : float
        Least mean distance of two nodes, share of the diagonal.
    """
    rng = np.random.default_rng(seed)
    n, s = sources.scores.shape
    places = sources.positions
    far = np.zeros((s, s), dtype=np.bool_)
    for i in range(s):
        gap = np.linalg.norm(places - places[:, i : i + 1], axis=-1).mean(axis=0)
        far[i] = gap >= apart * np.hypot(*image_size)
    pairs = [pair for pair in combinations(range(s), 2) if far[pair]]
    triples = [(i, j, k) for i, j in pairs for k in range(j + 1, s) if far[i, k] and far[j, k]]
    ones: list[tuple[int, ...]] = [(i,) for i in range(s)]
    offered = {"sums": pairs, "occasions": pairs, "threes": triples, "singles": ones}
    plants = []
    for kind, count in counts.items():
        choice: Sequence[tuple[int, ...]] = offered[kind]
        for i in rng.permutation(len(choice))[:count]:
            shown = np.ones((len(choice[i]), n), dtype=np.bool_)
            if kind == "occasions":
                shown[0] = False
                shown[0, rng.permutation(n)[: n // 2]] = True
                shown[1] = ~shown[0]
            plants.append(Plant(kind, tuple(choice[i]), shown))
    return plants


def plant_maps(
    maps: NDArray[Any], layer: Layer, sources: Sources, plants: Sequence[Plant], spread: float
) -> NDArray[np.float32]:
    """Give the maps (N, P, H, W) of planted filters; `spread` px is that of the singles' window."""
    planted = np.zeros((len(maps), len(plants), *maps.shape[2:]), dtype=np.float32)
    for p, plant in enumerate(plants):
        for source, shown in zip(plant.sources, plant.shown, strict=True):
            map_ = maps[:, sources.filter[source]].astype(np.float64)
            map_ = map_ / map_.std()
            if plant.kind == "singles":
                y, x = window(sources.positions[:, source], layer, spread)
                map_ = map_ * y[:, :, None] * x[:, None, :]
            planted[shown, p] += map_[shown].astype(np.float32)
    return planted


def append_filters(activations: Activations, index: int, maps: NDArray[np.float32]) -> Activations:
    """Append filters to a layer (by index)."""
    layers, all_maps = list(activations.layers), list(activations.maps)
    layers[index] = replace(layers[index], channels=layers[index].channels + maps.shape[1])
    all_maps[index] = torch.cat([all_maps[index], torch.from_numpy(maps)], dim=1)
    return replace(activations, layers=tuple(layers), maps=all_maps)


# ------------------------------------------------------------------------------------------ judging


def finds(positions: Array, truth: Array, diagonal: float) -> tuple[NDArray[np.bool_], Array]:
    """Which nodes (N, V, 2) find a source's node (N, 2), and their mean distances (V,), px."""
    distance = np.linalg.norm(positions - truth[:, None], axis=-1).mean(axis=0)
    follows = node_tracking(positions, truth) >= 0.8
    near = (distance <= 0.05 * diagonal) | ((distance <= 0.1 * diagonal) & follows)
    return near, distance


def assign(found: NDArray[np.bool_], distance: Array) -> NDArray[np.int64]:
    """Give sources different nodes, as many as can be and the nearest.

    Parameters
    ----------
    found : (S, V) bool
        Which node finds which source.
    distance : (S, V) float
        Finite.

    Returns
    -------
    (S,) int
        Each source's node, -1 if it has none.
    """
    from scipy.optimize import linear_sum_assignment

    # one source more weighs more than all distances together
    worst = 1 + distance.max(initial=0) * (1 + len(found))
    rows, columns = linear_sum_assignment(np.where(found, distance, worst))
    node = np.full(len(found), -1)
    node[rows] = np.where(found[rows, columns], columns, -1)
    return node


def auc(present: Array, absent: Array) -> float:
    """Chance that a score of `present` is above one of `absent`, equal ones half; NaN if none."""
    if not len(present) or not len(absent):
        return float("nan")
    above = np.sign(present[:, None] - absent[None, :])
    return float((above.mean() + 1) / 2)


def judge(
    sources: Sources, plants: Sequence[Plant], found: Found, image_size: tuple[int, int]
) -> Row:
    """Count what is found of the planted filters: the columns of the table."""
    diagonal = float(np.hypot(*image_size))
    third = np.quantile(sources.scores, 1 / 3, axis=0)
    hits: dict[str, list[float]] = {}
    for p, plant in enumerate(plants):
        mine = np.flatnonzero(found.plant == p)
        judged = [
            finds(found.positions[np.ix_(shown, mine)], sources.positions[shown, s], diagonal)
            for s, shown in zip(plant.sources, plant.shown, strict=True)
        ]
        node = assign(np.stack([j[0] for j in judged]), np.stack([j[1] for j in judged]))
        complete = bool((node >= 0).all())
        hits.setdefault("nodes", []).append(len(mine))
        if plant.kind == "singles":
            hits.setdefault("singles one", []).append(len(mine) == 1)
            hits.setdefault("singles right", []).append(len(mine) == 1 and complete)
            continue
        label = "all" if plant.kind == "threes" else "both"
        hits.setdefault(f"{plant.kind} {label}", []).append(complete)
        if plant.kind == "sums":
            hits.setdefault("sums one", []).append(bool((node >= 0).any()))
        if plant.kind == "occasions" and complete:
            for s, shown, v in zip(plant.sources, plant.shown, mine[node], strict=True):
                sure = sources.scores[:, s] > third[s]
                score = found.scores[:, v]
                area = auc(score[sure & shown], score[sure & ~shown])
                if np.isfinite(area):
                    hits.setdefault("presence AUC", []).append(area)
    return {key: float(np.mean(values)) for key, values in hits.items()}


def peaks(maps: NDArray[np.float32], layer: Layer, k: int, diagonal: float) -> Found:
    """Each filter's k highest peaks of every image, in k groups: the plain method.

    Parameters
    ----------
    maps : (N, P, H, W) float
    layer : Layer
    k : int
    diagonal : float
        px; peaks of one image are at least a tenth of it apart.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    n, p = maps.shape[:2]
    units = np.stack(np.meshgrid(layer.centres_x, layer.centres_y), axis=-1).reshape(-1, 2)
    near = np.linalg.norm(units[:, None] - units[None], axis=-1) < 0.1 * diagonal
    around = torch.nn.functional.max_pool2d(torch.from_numpy(maps), 3, stride=1, padding=1)
    left = np.where(maps >= around.numpy(), maps, 0).reshape(n, p, -1)
    refined = _mean_around(maps, layer).reshape(n, p, -1, 2)
    places, heights = np.empty((n, p, k, 2)), np.empty((n, p, k))
    for i in range(k):
        unit = left.argmax(axis=-1)
        places[:, :, i] = np.take_along_axis(refined, unit[..., None, None], axis=2)[:, :, 0]
        heights[:, :, i] = np.take_along_axis(left, unit[..., None], axis=-1)[..., 0]
        left = np.where(near[unit], 0, left)
    positions, scores = np.empty((n, p, k, 2)), np.zeros((n, p, k))
    for f in range(p):
        high = heights[:, f] > 0
        if high.sum() < k:
            positions[:, f] = units.mean(axis=0)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # peaks that all lie at one unit
            model = KMeans(k, n_init=4, random_state=0).fit(places[:, f][high])
        positions[:, f] = model.cluster_centers_
        group = np.full((n, k), -1)
        group[high] = model.labels_
        for i in reversed(range(k)):  # the highest of a group comes last and stays
            at = np.flatnonzero(high[:, i])
            positions[at, f, group[at, i]] = places[at, f, i]
            scores[at, f, group[at, i]] = heights[at, f, i]
    return Found(positions.reshape(n, -1, 2), scores.reshape(n, -1), np.repeat(np.arange(p), k))


def _mean_around(maps: NDArray[np.float32], layer: Layer) -> Array:
    """Mean place (N, P, H, W, 2), px, of squared activation in the 3 x 3 units around each."""
    squared = torch.from_numpy(maps).double() ** 2 + 1e-12
    x, y = torch.from_numpy(layer.centres_x), torch.from_numpy(layer.centres_y)

    def total(values: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(values, 3, stride=1, padding=1)

    means = torch.stack([total(squared * x), total(squared * y[:, None])], dim=-1)
    found: Array = (means / total(squared)[..., None]).numpy()
    return found
