"""Does an answer depend on what the network has learnt? With random weights it must fall apart.

1. The weights are shuffled, each tensor in itself, module by module from the output down
   (*cascading*), at last all. Shuffled weights are as large as learnt ones, and know nothing.
2. With each such network contributions of parts (or nodes) are told anew, in the same images, for
   the same classes. While only modules above the layer are shuffled, the maps are the same.
3. Told is Spearman's rank correlation with the contributions before, image by image, and the areas
   under the *true* network's curves when elements are taken in the order of the shuffled one. The
   first must come near 0, the second near those of a random order.

References
----------
Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, section 3. Departures: weights are
shuffled in place of drawn anew, which every kind of module allows for.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import nn

from explgraph import rows as files
from explgraph.answers.curves import area
from explgraph.answers.faithfulness import Asked, Classes
from explgraph.brief import counted
from explgraph.errors import ExplgraphError, one_line
from explgraph.explaining.attribution import Places, layer_of
from explgraph.explaining.elements import nodes_of, parts_of
from explgraph.explaining.in_order import LayerRun, Order, added_by_units
from explgraph.explaining.intervene import run, watched, with_gradients
from explgraph.explaining.rerun import Rerun
from explgraph.graph.graph import Graph, check_graph
from explgraph.images.batches import AnyImages
from explgraph.images.taken import taken
from explgraph.network.hooks import alone
from explgraph.network.outputs import Outputs, Scorer
from explgraph.network.wrappers import modules_by_name
from explgraph.progress import Shown
from explgraph.whole_numbers import checked_seed, whole

__all__ = ["Randomised", "Stage", "randomised"]

Array = NDArray[np.float64]

_STAGES = 4  # beside the topmost module alone
_DRAWS = 3  # of shuffled weights; images share them, and so what they come to by chance


class Stage(NamedTuple):
    """What became of an answer when some modules' weights were shuffled.

    Attributes
    ----------
    modules : int
        How many had theirs shuffled, from the output down; 0 for none.
    down_to : str
        The last of them.
    rank, rank_size : float
        Spearman's correlation of contributions with those before, and of their sizes (without the
        sign): means over images and three ways to shuffle, 0 where all contributions are equal.
    deletion, insertion : float
        Areas under the true network's curves, in the order that this network gives.
    """

    modules: int
    down_to: str
    rank: float
    rank_size: float
    deletion: float
    insertion: float


class Randomised(NamedTuple):
    """Contributions before and after weights were shuffled: see `randomised`.

    Attributes
    ----------
    elements : str
        ``"parts"`` or ``"nodes"``.
    layer : str
    first : int
        How many were taken away for the areas.
    images : int
        How many were looked at.
    stages : tuple of Stage
        The first with the weights as they are.
    by_chance : tuple of float
        The areas, deletion and insertion, of a random order.
    """

    elements: str
    layer: str
    first: int
    images: int
    stages: tuple[Stage, ...]
    by_chance: tuple[float, float]

    def __repr__(self) -> str:
        last = self.stages[-1]
        return (
            f"Randomised: {self.elements} of {self.layer} in {counted(self.images, 'image')}; with "
            f"all weights shuffled, rank correlation {last.rank:.2f}"
        )

    @property
    def told(self) -> str:
        """What became of the answer, in a sentence."""
        learnt, last = self.stages[0], self.stages[-1]
        return (
            f"With all weights shuffled, what {self.elements} of {self.layer} add has a rank "
            f"correlation of {last.rank:.2f} with what they add (0 is chance), and taking the "
            f"{self.first} first of that order away leaves {last.deletion:.2f} of the score on "
            f"average along the curve (before {learnt.deletion:.2f}, at random "
            f"{self.by_chance[0]:.2f})."
        )

    def table(self) -> list[dict[str, Any]]:
        """Give a row for each stage, and one for a random order."""
        rows = [stage._asdict() for stage in self.stages]
        deletion, insertion = self.by_chance
        rows.append(
            {"modules": 0, "down_to": "random order", "rank": np.nan, "rank_size": np.nan,
             "deletion": deletion, "insertion": insertion}
        )  # fmt: skip
        return rows

    def markdown(self) -> str:
        """Give the table as Markdown."""
        lines = [
            "| weights shuffled | down to | rank | rank of sizes | deletion | insertion |",
            "|---|---|---:|---:|---:|---:|",
        ]
        for row in self.table():
            values = [
                "" if np.isnan(row[name]) else f"{row[name]:.2f}"
                for name in ("rank", "rank_size", "deletion", "insertion")
            ]
            shuffled = counted(row["modules"], "module") if row["modules"] else "none"
            lines.append(f"| {shuffled} | {row['down_to']} | {' | '.join(values)} |")
        return "\n".join(lines)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the table: ``.csv``, ``.json`` or ``.parquet``.

        Raises
        ------
        ExplgraphError
            If the suffix isn't known or the file can't be written.
        """
        files.write(path, files.columns_of(self.table()))


@with_gradients
def randomised(
    model: nn.Module,
    graph: Graph,
    images: AnyImages,
    classes: Classes = None,
    *,
    layer: str | None = None,
    first: int = 3,
    seed: int = 0,
    outputs: Outputs | None = None,
    batch_size: int = 16,
    device: str = "auto",
    progress: Shown = None,
) -> Randomised:
    """Tell what parts (nodes, where a layer has none) add with shuffled weights.

    Parameters
    ----------
    model, graph, images, classes, layer, first, outputs, batch_size, device, progress
        As for `explgraph.answers.faithfulness.faithfulness`. The model is copied.
    seed : int
        Of the shuffling, and of the random order.

    Returns
    -------
    Randomised

    Raises
    ------
    ExplgraphError
        As `faithfulness`, or if the model can't be copied or has no weights.
    """
    check_graph(graph)
    seed, first = checked_seed(seed), whole(first, "first")
    here = layer_of(graph, layer)
    layer = here.name
    scorer = Scorer(outputs)
    images = taken(images, graph.nx.graph["preprocessing"])
    places = Places(graph)
    kind = parts_of(graph, places, layer)
    kind = kind if kind.ids else nodes_of(graph, places, layer)
    asked = Asked(model, classes)
    rerun = Rerun(model, graph.layers, [layer], scorer)
    stages = _stages(model)
    cases = [(k, draw) for k in range(len(stages)) for draw in range(_DRAWS if k else 1)]
    pieces: list[list[tuple[Array, Array]]] = [[] for _ in cases]  # contributions, curves
    chance: list[Array] = []
    carried: list[Array] = []
    n = 0
    for _, batch in watched(
        model, graph, images,
        scorer=scorer, batch_size=batch_size, device=device, progress=progress,
    ):  # fmt: skip
        with alone(model):
            done = rerun.whole(batch)
            numbers = asked.numbers(done.scores, n)
            inside = LayerRun(rerun, layer, done, numbers, 0.0)
            seen = places.seen(done.maps)
            holding = kind.within(inside.activation, seen, inside.activation)
            for (k, draw), kept in zip(cases, pieces, strict=True):
                other = _shuffled(model, stages[k], [seed, draw])
                now = run(other, batch, graph.layers, scorer=scorer).maps
                units, _ = added_by_units(other, scorer, batch, here, numbers)
                own = kind.within(now[layer].to(units).relu(), places.seen(now), units)
                added = own.sums(units)
                order = Order(holding, added, inside.activation)
                kept.append((added.numpy(), _curves(inside, order, first)))
            random = torch.from_numpy(np.random.default_rng([seed, n]).random(added.shape))
            chance.append(_curves(inside, Order(holding, random, inside.activation), first))
            carried.append(
                np.stack([inside.scores, inside.without(torch.ones_like(inside.activation))])
            )
        n += len(batch)
    asked.check_length(n)
    scores, empty = np.concatenate(carried, 1)
    if not (scores - empty).sum() > 0:
        raise ExplgraphError(
            f"the layer {layer!r} does not speak for the classes that are asked about in these "
            "images: scores are no higher with its activation than without; give images that show "
            "them, or other classes"
        )
    told = []
    before = np.concatenate([values for values, _ in pieces[0]])
    for kept in pieces:
        values = np.concatenate([values for values, _ in kept])
        curves = np.concatenate([curves for _, curves in kept], 1)
        told.append(
            [_rank(before, values), _rank(abs(before), abs(values)), *_areas(curves, scores, empty)]
        )
    names = list(_weighted(model))[::-1]
    found = []
    for k, modules in enumerate(stages):
        mean = np.mean([row for (stage, _), row in zip(cases, told, strict=True) if stage == k], 0)
        down_to = names[len(modules) - 1] if modules else ""
        found.append(Stage(len(modules), down_to, *(float(value) for value in mean)))
    return Randomised(
        kind.name, layer, min(first, len(kind.ids)), n, tuple(found),
        _areas(np.concatenate(chance, 1), scores, empty),
    )  # fmt: skip


def _weighted(model: nn.Module) -> dict[str, nn.Module]:
    """Give the modules that have weights of their own, by name, as they are defined."""
    return {
        name: module
        for name, module in modules_by_name(model).items()
        if any(True for _ in module.parameters(recurse=False))
    }


def _stages(model: nn.Module) -> list[list[str]]:
    """Choose which modules are shuffled: none, the topmost, and ever more of them."""
    names = list(_weighted(model))[::-1]
    if not names:
        raise ExplgraphError("the model has no weights, so that none can be shuffled")
    numbers = {0, 1, *(-(-len(names) * k // _STAGES) for k in range(1, _STAGES + 1))}
    return [names[:k] for k in sorted(numbers)]


def _shuffled(model: nn.Module, modules: Sequence[str], seed: Sequence[int]) -> nn.Module:
    """Copy a model with the weights of some modules shuffled, each tensor in itself."""
    if not modules:
        return model
    try:
        other = copy.deepcopy(model)
    except Exception as err:
        raise ExplgraphError(f"the model can't be copied to shuffle it: {one_line(err)}") from err
    known = _weighted(other)
    random = np.random.default_rng(list(seed))
    with torch.no_grad():
        for name in modules:
            for values in known[name].parameters(recurse=False):
                order = torch.from_numpy(random.permutation(values.numel())).to(values.device)
                values.copy_(values.flatten()[order].view_as(values))
    return other


def _curves(inside: LayerRun, order: Order, first: int) -> Array:
    """Give scores without and with only the first 0, 1, ... elements, (2, n, K + 1)."""
    n = len(inside.scores)
    left, kept = [], []
    for k in range(min(first, order.ranked.shape[1]) + 1):
        shares = order.some(torch.full((n,), float(k)))
        left.append(inside.without(shares))
        kept.append(inside.without(1 - shares))
    return np.stack([np.stack(left, 1), np.stack(kept, 1)])


def _areas(curves: Array, scores: Array, empty: Array) -> tuple[float, float]:
    """Give the areas of deletion and insertion, as `Curves.table` does."""
    shares = (curves - empty[:, None]).sum(1) / (scores - empty).sum()
    steps = np.arange(shares.shape[1])
    return area(steps, shares[0]), area(steps, shares[1])


def _rank(a: Array, b: Array) -> float:
    """Give the mean over images of Spearman's correlation; 0 where one has no order."""
    x, y = (rankdata(values, axis=1) for values in (a, b))
    x, y = (values - values.mean(1, keepdims=True) for values in (x, y))
    size = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return float(np.divide((x * y).sum(1), size, out=np.zeros(len(a)), where=size > 0).mean())
