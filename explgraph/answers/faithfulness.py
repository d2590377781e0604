"""Do a graph's parts carry what a network makes of images? Measured by taking away and keeping.

For each image and its class, in one layer:

1. Elements are put in order: parts and nodes by what they add to the score (as `explain` and
   `rationales` tell it: `attribution.added`), and by their activation; whole filters by gradient
   times activation; parts, nodes and single units at random. Every image has an order of its own.
   Where something stands in for what is taken away, the way of contributions begins there, and
   gradients are times the difference to it.
2. The first elements are taken away (*deletion*), or all but these (*insertion*), and the network
   runs on. What stands in for what goes is a choice (`replaced.Replacement`).
3. All is told as a share of what the layer *carries*: the score less the score where all of the
   layer's activation is replaced. *Necessity* is the share that is lost without some elements,
   *sufficiency* the share that is there with these alone. Shares of several images are the sum of
   what is lost, or there, over the sum of what the layers carry.

What is compared must be equal. Ten filters are all that ten filters do, everywhere in the image; a
part is what dozens of filters do in one place. So everything is told twice: at an equal *number* of
elements, and at an equal *share of the layer's activation* (the sum of rectified maps), where the
last element is taken in part.

References
----------
Deletion: Samek et al., IEEE TNNLS 2017, eq. 12; insertion beside it: Petsiuk et al., "RISE", BMVC
2018, section 4.2. Sufficiency and comprehensiveness (here: necessity): DeYoung et al., "ERASER",
ACL 2020, section 4.2. Departures: a layer's units are taken away in place of pixels, and scores are
shares of what the layer carries, so that sufficiency, like necessity, is better the larger it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph import rows
from explgraph.answers.curves import Curve, Curves
from explgraph.atomic import atomic_write
from explgraph.brief import counted
from explgraph.errors import ExplgraphError
from explgraph.explaining.attribution import Places, Seen, layer_of
from explgraph.explaining.elements import (
    Elements,
    Filters,
    Holding,
    Units,
    nodes_of,
    parts_of,
    speaking_parts_of,
)
from explgraph.explaining.in_order import LayerRun, Order, added_by_units
from explgraph.explaining.intervene import watched, with_gradients
from explgraph.explaining.replaced import Replacement, StandIns
from explgraph.explaining.rerun import Rerun
from explgraph.graph.graph import Graph, check_graph
from explgraph.images.batches import AnyImages
from explgraph.images.taken import taken
from explgraph.network.class_names import class_names, class_number, class_title
from explgraph.network.hooks import alone
from explgraph.network.outputs import Outputs, Scorer
from explgraph.progress import Shown
from explgraph.suffixes import DRAWINGS, REPORTS, check_suffix
from explgraph.whole_numbers import checked_seed, whole

__all__ = ["Asked", "Classes", "Faithfulness", "faithfulness"]

Array = NDArray[np.float64]
Classes: TypeAlias = int | str | Sequence[int | str] | None
"""One class for all images or one for each, by number or name; None for that of highest score."""

_DRAWS = 3  # of orders at random, for each image
_SIZES = 6  # points of a curve over the share of activation
_FEWEST = 6  # images: with fewer, no two orders differ by a sign test at 5 %


@with_gradients
def faithfulness(
    model: nn.Module,
    graph: Graph,
    images: AnyImages,
    classes: Classes = None,
    *,
    layer: str | None = None,
    first: int = 3,
    replacement: Replacement = "zero",
    others: AnyImages | None = None,
    beside: Sequence[Elements] = (),
    seed: int = 0,
    outputs: Outputs | None = None,
    batch_size: int = 16,
    device: str = "auto",
    progress: Shown = None,
) -> Faithfulness:
    """Measure how much of a score the parts carry that are said to carry it.

    Parameters
    ----------
    model : torch.nn.Module
        The network that was mined, in evaluation mode.
    graph : ExplanatoryGraph
    images : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
        Of the size that was mined; at best others than those that were mined.
    classes : int, str, or a sequence of these, optional
        One class for all images, by number or name, or one for each. By default the class of the
        highest score in each image.
    layer : str, optional
        By default the highest that has nodes.
    first : int
        How many elements "the first" are. Most graphs have 9 to 16 parts in a layer: with many
        more than a few, the first are nearly all, in whatever order.
    replacement : "zero", "mean" or "resampled"
        What stands in for what is taken away: no activation; the mean over `others`, unit by unit;
        what one of `others` has there, chosen by `seed` and the image's content.
    others : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader, optional
        For "mean" and "resampled"; not `images`, whose own activation would stand in for itself.
    beside : sequence of Elements, optional
        Other things that divide the layer's activation, to be measured as well, in the order of
        what they add (`explgraph.explaining.elements`).
    seed : int
        Of random orders, and of "resampled".
    outputs : callable, optional
        Takes what the model gives, gives scores of (images, classes), where it gives anything
        else than these (`explgraph.network.outputs`).
    batch_size : int
    device : str
        Where the model runs.
    progress : bool or None
        Show a bar: by default in notebooks alone, if True on a terminal too.

    Returns
    -------
    Faithfulness
        Images for whose class the layer adds nothing to the score are left out, and counted.

    Raises
    ------
    ExplgraphError
        If the model isn't the one that was mined or is in training mode, it has no such class, the
        graph has no nodes in the layer, the layer speaks for the class in fewer than six of the
        images, or `others` are missing.
    """
    check_graph(graph)
    seed, first = checked_seed(seed), whole(first, "first")
    here = layer_of(graph, layer)
    layer = here.name
    scorer = Scorer(outputs)
    images = taken(images, graph.nx.graph["preprocessing"])
    stand_ins = StandIns.of(
        replacement, model, graph, [here], others,
        scorer=scorer, seed=seed, batch_size=batch_size, device=device, called="others",
    )  # fmt: skip
    places = Places(graph)
    rankings = list(_rankings(graph, places, layer, beside))
    wanted = Asked(model, classes)
    rerun = Rerun(model, graph.layers, [layer], scorer)
    names: list[str] = []
    pieces: list[_Batch] = []
    for some, batch in watched(
        model, graph, images,
        scorer=scorer, batch_size=batch_size, device=device, progress=progress,
    ):  # fmt: skip
        with alone(model):
            done = rerun.whole(batch)
            numbers = wanted.numbers(done.scores, len(names))
            inside = LayerRun(rerun, layer, done, numbers, stand_ins(layer, batch))
            units, slopes = added_by_units(model, scorer, batch, here, numbers, inside.baseline)
            seen = places.seen(done.maps)
            pieces.append(_measured(inside, rankings, seen, units, slopes, first, seed, len(names)))
        names.extend(some)
    wanted.check_length(len(names))
    return _put_together(wanted, names, pieces, layer, replacement, first)


class Faithfulness(Curves):
    """How much of a score parts, nodes, filters and others carry: what `faithfulness` gives.

    See `explgraph.answers.curves.Curves` for what it holds.
    """

    def __repr__(self) -> str:
        own = self.table()[0]
        return (
            f"Faithfulness: {counted(len(self.names), 'image')}, {self.layer}; the first "
            f"{self.number(self.curves[0])} {own['elements']} lose {own['lost']:.2f} of what it "
            f"carries, and keep {own['kept']:.2f} alone"
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write it in the format of the path's suffix, whole or not at all.

        Parameters
        ----------
        path : path
            ``.md`` (sentences and table), ``.csv`` or ``.parquet`` (the table), ``.json``
            (everything), or ``.png``, ``.svg``, ``.pdf`` (the curves).

        Raises
        ------
        ExplgraphError
            If the suffix isn't known, the file can't be written, or it needs a package that isn't
            there.
        """
        suffix = check_suffix(path, (*REPORTS, *DRAWINGS))
        if suffix in DRAWINGS:
            from explgraph.answers.curves_figure import curves_figure

            curves_figure(self, path=path)
            return
        if suffix in (".csv", ".parquet"):
            rows.write(path, rows.columns_of(self.table()))
            return
        text = f"{self.told}\n\n{self.markdown()}\n"
        if suffix == ".json":
            text = json.dumps(self.as_dict(), indent=1, allow_nan=False) + "\n"
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


class _Ranking(NamedTuple):
    """Elements and what decides their order."""

    elements: Elements
    by: str


def _rankings(
    graph: Graph, places: Places, layer: str, beside: Sequence[Elements]
) -> Iterator[_Ranking]:
    parts, nodes = parts_of(graph, places, layer), nodes_of(graph, places, layer)
    for ours in (parts, nodes) if parts.ids else (nodes,):
        for by in ("contribution", "activation", "random"):
            yield _Ranking(ours, by)
        if ours is parts:
            yield _Ranking(speaking_parts_of(graph, places, layer), "contribution")
    yield _Ranking(Filters(), "gradient x activation")
    for other in beside:
        yield _Ranking(other, "contribution")
    yield _Ranking(Units(), "random")


class Asked:
    """Which class each image is asked about.

    Parameters
    ----------
    model : torch.nn.Module
        Its names are understood.
    classes : int, str, a sequence of these, or None
        As for `faithfulness`.
    """

    def __init__(self, model: nn.Module, classes: Classes) -> None:
        self._model = model
        self._all: Any = classes
        self._each: list[Any] | None = None
        if isinstance(classes, Iterable) and not isinstance(classes, str):
            # arrays and tensors hold numbers of their own kinds
            given = classes.tolist() if hasattr(classes, "tolist") else classes
            self._all, self._each = None, list(given)
        self.names: tuple[str, ...] = ()

    def numbers(self, scores: Tensor, start: int) -> Tensor:
        """Give the numbers (n,) of classes of the images from `start` on, of scores (n, classes).

        Raises
        ------
        ExplgraphError
            If there is no such class, or there are fewer classes than images.
        """
        n, many = scores.shape
        self.names = class_names(self._model, many)
        if self._each is not None:
            wanted = self._each[start : start + n]
            if len(wanted) < n:
                self.check_length(start + n)
        elif self._all is not None:
            wanted = [self._all] * n
        else:
            return scores.argmax(1)
        numbers = [class_number(one, self.names, many) for one in wanted]
        return torch.tensor(numbers, device=scores.device)

    def check_length(self, n: int) -> None:
        """Refuse a list that hasn't one class for each image."""
        if self._each is not None and len(self._each) != n:
            raise ExplgraphError(
                f"classes holds {len(self._each)} classes, but there are {n} images or more; give "
                "one class for all, or one for each image"
            )


class _Batch(NamedTuple):
    """What was measured in n images."""

    numbers: Array
    scores: Array
    empty: Array
    added: Array  # (n,) by all units
    unheld: Array  # (n, 2) shares of the activation that are no part's, no node's
    curves: list[Curve]


def _measured(
    inside: LayerRun,
    rankings: Sequence[_Ranking],
    seen: Seen,
    units: Tensor,
    slopes: Tensor,
    first: int,
    seed: int,
    start: int,
) -> _Batch:
    """Take the elements of all rankings away, and keep them alone, one after the other."""
    within = {
        one.elements.name: one.elements.within(inside.activation, seen, units) for one in rankings
    }
    worth = {"contribution": units, "activation": inside.activation,
             "gradient x activation": slopes}  # fmt: skip
    all_ours = _all_of(inside, next(iter(within.values())))
    sizes: Tensor | None = None
    curves = []
    for elements, by in rankings:
        holding = within[elements.name]
        if by == "random":
            count = holding.sums(inside.activation).shape[1]
            draws = [_shuffled(len(units), count, seed, k, start) for k in range(_DRAWS)]
        else:
            draws = [holding.sums(worth[by])]
        done = []
        for values in draws:
            order = Order(holding, values, inside.activation)
            if sizes is None:  # of the ranking that is asked about
                k = min(first, order.count)
                equal = inside.size(order.some(torch.full((len(units),), float(k))))
                steps = torch.arange(1, _SIZES + 1) / _SIZES
                sizes = torch.cat([equal[:, None], all_ours[:, None] * steps], 1)
            added = holding.sums(units) if by == "contribution" else None
            done.append(_curve(inside, elements.name, by, order, first, sizes, added))
        curves.append(Curve.mean(done))
    unheld = [1 - all_ours, 1 - _all_of(inside, within["nodes"])]
    return _Batch(
        inside.numbers.cpu().numpy(), inside.scores,
        inside.without(torch.ones_like(inside.activation)),
        units.sum((1, 2, 3)).cpu().double().numpy(),
        torch.stack(unheld, 1).numpy(), curves,
    )  # fmt: skip


def _all_of(inside: LayerRun, holding: Holding) -> Tensor:
    """Give the share of the activation that all elements hold, (n,)."""
    everything = torch.ones(holding.sums(inside.activation).shape)
    return inside.size(holding.shares(everything))


def _curve(
    inside: LayerRun,
    name: str,
    by: str,
    order: Order,
    first: int,
    sizes: Tensor,
    added: Tensor | None,
) -> Curve:
    """Measure one order of elements, at numbers of elements and at sizes."""
    n = len(sizes)
    by_number = name != "units"  # one is nothing
    numbers = range(min(first, order.count) + 1) if by_number else ()
    points = [torch.full((n,), float(k)) for k in numbers]
    points += [inside.amount(order, size) for size in sizes.unbind(1)]
    measured: list[list[Array]] = [[], [], []]
    for amount in points:
        shares = order.some(amount)
        measured[0].append(inside.size(shares).numpy())
        measured[1].append(inside.without(shares))
        measured[2].append(inside.without(1 - shares))
    k = len(points) - sizes.shape[1]
    expected = np.full(n, np.nan)
    if added is not None:
        ranked = added.gather(1, order.ranked)
        expected = ranked[:, : min(first, order.count)].sum(1).numpy()
    held, left, kept = (np.stack(values, 1) for values in measured)
    return Curve(
        name, by, order.count, held[:, :k], left[:, :k], kept[:, :k],
        held[:, k:], left[:, k:], kept[:, k:], expected,
    )  # fmt: skip


def _put_together(
    wanted: Asked,
    names: Sequence[str],
    pieces: Sequence[_Batch],
    layer: str,
    replacement: Replacement,
    first: int,
) -> Faithfulness:
    """Join batches, and leave out the images whose score the layer does not carry."""
    numbers, scores, empty, added, unheld = (
        np.concatenate([getattr(piece, name) for piece in pieces])
        for name in ("numbers", "scores", "empty", "added", "unheld")
    )
    kept = np.flatnonzero(scores > empty)
    if len(kept) < _FEWEST:
        asked = {class_title(int(number), wanted.names) for number in numbers}
        what = asked.pop() if len(asked) == 1 else "their classes"
        raise ExplgraphError(
            f"the layer {layer!r} speaks for {what} in {len(kept)} of the {len(names)} images "
            f"(the score is higher with its activation than without), and at least {_FEWEST} are "
            "needed to tell orders from chance; give more images that show it, or another class"
        )
    curves = [
        Curve.joined(rows).take(kept) for rows in zip(*(p.curves for p in pieces), strict=True)
    ]
    return Faithfulness(
        layer, replacement, first,
        tuple(names[i] for i in kept.tolist()),
        tuple(class_title(int(numbers[i]), wanted.names) for i in kept),
        len(names) - len(kept), scores[kept], empty[kept], added[kept], unheld[kept], tuple(curves),
    )  # fmt: skip


def _shuffled(n: int, count: int, seed: int, draw: int, start: int) -> Tensor:
    """Give random values (n, count), each image's its own whatever batch it is in."""
    return torch.stack(
        [
            torch.from_numpy(np.random.default_rng([seed, draw, start + i]).random(count))
            for i in range(n)
        ]
    )
