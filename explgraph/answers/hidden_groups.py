"""Groups of a class's images with something in common: looked for in either half, paired.

1. In a half: the filters' activation, less what the other classes vary by, gives directions
   (`statistics.contrast`), and a mixture of two along each tells which images have it, in the other
   half as well.
2. What both halves found is one thing if most images that have it by one direction have it by the
   other. Such a *pair* is tested on all images of the class, each judged by the direction that it
   had no part in.
3. Along a direction there are two groups if two Gaussians are likelier than one, on the images it
   wasn't found in.
4. A group's place in an image: the fewest cells that hold most of what the image has of the
   direction. There its maps are replaced, and the network goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.answers.log_odds import Made, log_odds
from explgraph.explaining.intervene import Change, run, watched
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.images.batches import AnyImages
from explgraph.network.outputs import Scorer
from explgraph.progress import Shown
from explgraph.statistics.contrast import contrast_axes, fit_groups

__all__ = ["Group", "class_groups", "replace", "together"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_GROUP = 5  # images of the half that tests, with it and without: fewer tell nothing
_HELD = 0.9  # of what an image has of a direction lies in the cells that are replaced
_SAME = 0.5  # of the images that have it by either direction have it by both: one thing


@dataclass
class Group:
    """Images of a class that share something, by a direction found in one half."""

    number: int
    weights: Array  # (C,) of the filters' means, along the direction
    has: Flags  # (N,) all images of any class that have it
    beside: Array  # (N, q - 1) the other directions
    tested: NDArray[np.int64]  # images of the class in the other half
    elsewhere: NDArray[np.int64]  # images of other classes in the other half
    p: float  # of two groups
    regions: Flags  # (N, S) where it is, in all images of the class that have it
    instead: NDArray[np.float32]  # (C, S)
    after: Array  # (N,) log-odds when it is replaced; NaN where that wasn't tried


def together(p: Sequence[float]) -> float:
    """Combine what different images say of one hypothesis, one-sided (Stouffer)."""
    from scipy import stats  # takes a second to import

    safe = np.clip(p, np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).eps)
    return float(stats.norm.sf(stats.norm.isf(safe).sum() / np.sqrt(len(safe))))


def class_groups(made: Made, number: int, seed: int, fdr: float) -> list[tuple[Group, ...]]:
    """Find a class's groups: pairs of what both halves found, and what one did."""
    pooled = made.maps.mean(2, dtype=np.float64)
    half = _half(made.classes, seed)
    found = [
        group
        for group in _paired(*(_found(made, pooled, number, one) for one in (half, ~half)))
        if together([one.p for one in group]) <= fdr
    ]
    mine = made.classes == number
    for one in (one for group in found for one in group):
        one.regions, one.instead = _places(made, one.weights, one.has, mine)
    return found


def _half(classes: NDArray[np.int64], seed: int) -> Flags:
    """Choose half of each class's images at random."""
    rng = np.random.default_rng(seed)
    half = np.zeros(len(classes), np.bool_)
    for number in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(classes == number))
        half[rows[: len(rows) // 2]] = True
    return half


def _found(made: Made, pooled: Array, number: int, discovery: Flags) -> list[Group]:
    """Find directions of one class in one half; test on the other whether each has two groups."""
    from scipy import stats

    mine = made.classes == number
    others = np.concatenate([
        pooled[rows] - pooled[rows].mean(0)
        for k in np.unique(made.classes[~mine])
        if (rows := discovery & (made.classes == k)).any()
    ])  # fmt: skip
    weights, middle = contrast_axes(pooled[discovery & mine], others)
    values = (pooled - middle) @ weights
    usual = np.median(values[mine], axis=0)
    for k in np.unique(made.classes[~mine]):  # what the classes differ by is not what is asked
        rows = made.classes == k
        values[rows] += usual - np.median(values[rows], axis=0)
    tested = np.flatnonzero(~discovery & mine)
    found = []
    for k in range(weights.shape[1]):
        fitted = fit_groups(values[discovery & mine, k])
        has = fitted.upper(values[:, k])
        with_it = int(has[tested].sum())
        if min(with_it, len(tested) - with_it) < _GROUP:
            continue
        gain = fitted.gain(values[tested, k])
        found.append(
            Group(
                number=number,
                weights=weights[:, k],
                has=has,
                beside=np.delete(values, k, axis=1),
                tested=tested,
                elsewhere=np.flatnonzero(~discovery & ~mine),
                p=float(stats.ttest_1samp(gain, 0, alternative="greater").pvalue),
                regions=np.zeros(0, np.bool_),
                instead=np.zeros(0, np.float32),
                after=np.full(len(mine), np.nan),
            )
        )
    return found


def _paired(first: list[Group], second: list[Group]) -> list[tuple[Group, ...]]:
    """Pair what is one thing, the most alike first; what is left stays alone."""
    alike = np.zeros((len(first), len(second)))
    for i, j in np.ndindex(alike.shape):
        rows = np.concatenate([first[i].tested, second[j].tested])
        one, other = first[i].has[rows], second[j].has[rows]
        alike[i, j] = (one & other).sum() / (one | other).sum()
    pairs: list[tuple[Group, ...]] = []
    while alike.size and alike.max() > _SAME:
        i, j = np.unravel_index(alike.argmax(), alike.shape)
        pairs.append((first[i], second[j]))
        alike[i], alike[:, j] = 0, 0
    taken = {id(group) for pair in pairs for group in pair}
    alone = [(group,) for group in (*first, *second) if id(group) not in taken]
    return [*pairs, *alone]


def _places(
    made: Made, weights: Array, has: Flags, mine: Flags
) -> tuple[Flags, NDArray[np.float32]]:
    """Find where images have what they share, and what is there in images of other classes.

    A direction is a sum over cells; what a cell has of it beyond the mean of the class's images
    that lack it is what makes the image one of the group. The fewest cells that hold most of it.
    """
    rows = np.flatnonzero(mine)
    cells = np.einsum("c,ncs->ns", weights, made.maps[rows], optimize=True)
    beyond = np.maximum(cells - cells[~has[rows]].mean(0), 0)
    order = np.argsort(-beyond, axis=1)
    sums = np.cumsum(np.take_along_axis(beyond, order, 1), axis=1)
    needed = sums - np.take_along_axis(beyond, order, 1) < _HELD * sums[:, -1:]
    inside = np.zeros_like(needed)
    np.put_along_axis(inside, order, needed, 1)
    regions = np.zeros((len(mine), cells.shape[1]), np.bool_)
    regions[rows] = inside & has[rows][:, None]
    lacking = ~mine & ~has
    source = lacking if lacking.any() else ~mine
    return regions, made.maps[source].mean(0)


def replace(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    made: Made,
    groups: Sequence[Group],
    *,
    scorer: Scorer,
    seed: int,
    batch_size: int,
    device: str,
    progress: Shown,
) -> None:
    """Run the network on the images that test, with the groups' places replaced.

    Images that lack what a group shares get the places of one that has it, drawn at random.
    """
    if not groups:
        return
    rng = np.random.default_rng(seed)
    where = []
    for group in groups:
        cells = group.regions.copy()
        givers = group.tested[group.has[group.tested]]
        takers = group.tested[~group.has[group.tested]]
        cells[takers] = group.regions[rng.choice(givers, len(takers))]
        where.append(cells)
    (here,) = (layer for layer in graph.layers if layer.name == made.layer)
    first = 0
    for names, batch in watched(
        model, graph, images,
        scorer=scorer, batch_size=batch_size, device=device, progress=progress,
    ):  # fmt: skip
        numbers = np.arange(first, first + len(names))
        first += len(names)
        for group, cells in zip(groups, where, strict=True):
            rows = numbers[np.isin(numbers, group.tested)]
            if not len(rows):
                continue
            change = _replaced(cells[rows].reshape(-1, *made.grid), group.instead)
            done = run(model, batch[rows - numbers[0]], [here], {here.name: change}, scorer=scorer)
            own = torch.full((len(rows),), group.number)
            group.after[rows] = log_odds(done.scores.double().cpu(), own).numpy()


def _replaced(cells: Flags, instead: NDArray[np.float32]) -> Change:
    """Give the change that puts other activation into some cells (n, H, W)."""

    def change(maps: Tensor) -> Tensor:
        gone = torch.from_numpy(cells).to(maps.device)[:, None]
        other = torch.from_numpy(instead).to(maps).reshape(1, -1, *cells.shape[1:])
        return torch.where(gone, other + maps.clamp(max=0), maps)

    return change
