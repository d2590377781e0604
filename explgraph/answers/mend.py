"""Mending a network that tells a class by parts that it must not be told by.

1. The images are put into four groups: of the class or not, with the *cue* or without. The cue is
   what the parts say: by default whether they speak for the class, which is what its score loses
   without them (`ablate`, the mean in their place), cut in two where it falls apart into much and
   little; or whether they are there; or what the user's own labels say.
2. A share of each group is kept back. By the others the last layer is made blind to what the cue
   does to its features (projection), or fitted anew as if class and cue had nothing to do with each
   other (`discriminant`). All other layers stay: what a network has learnt of the class beside the
   cue is there, though it hardly used it.
3. A network is left as it is where the cue moves the class's score little, beside what the class
   itself does: it does not tell the class by it. And where what was fitted is no better: fitted
   again with a fifth of these images left out in turn, its mean accuracy over the four groups must
   be better there by more than its standard error.
   itself does: it doesn't tell the class by it. And where other weights are no better: fitted again
   with a fifth of these images left out in turn, their mean accuracy over the four groups must be
   better there by more than its standard error.
4. What was gained is measured on the images that were kept back.

References
----------
That the last layer is enough: Kirichenko, Izmailov and Wilson, "Last Layer Re-Training is
Sufficient for Robustness to Spurious Correlations", ICLR 2023. Departures: groups come from a
graph's parts, not from labels; the classifier is fitted to all images by a model of what class and
cue do to features, in place of a logistic regression on as many images as the smallest group has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from explgraph.answers.ablation import ablate
from explgraph.answers.counter_groups import GROUPS, gain, group_of, split
from explgraph.answers.discriminant import (
    Effects,
    Linear,
    discriminant,
    fit_effects,
    projection,
)
from explgraph.answers.mended import Mended
from explgraph.brief import counted
from explgraph.errors import ExplgraphError, warn
from explgraph.explaining.by_part import different_titles, find_parts, nodes_named
from explgraph.explaining.intervene import check_mined
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.graph import check_graph
from explgraph.images.batches import AnyImages, batches
from explgraph.images.taken import taken
from explgraph.network.class_names import class_names, class_number, class_title
from explgraph.network.forward import on_device
from explgraph.network.hooks import called, model_device, model_dtype
from explgraph.network.last_layer import LastLayer, features, last_layer, with_weights
from explgraph.network.outputs import Outputs, Scorer
from explgraph.network.wrappers import modules_by_name
from explgraph.progress import Shown
from explgraph.whole_numbers import checked_seed

__all__ = ["How", "ReadBy", "mend"]

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

How: TypeAlias = Literal["projection", "last"]
"""The last layer is made blind to what the cue does to features; or fitted anew."""
ReadBy: TypeAlias = Literal["effect", "presence"]
"""Whether the parts speak for the class; whether they are there."""

_FOLDS = 5
_MARGIN = 0.2  # of the class's own effect; less is no reason for suspicion to `find_bias` either
_SAME = 1e-3  # of the largest score: arithmetic in another order, or in half precision
_FEWEST = 4  # images of a group: of fewer, even if all are right, a half may be wrong (Wilson)
_CUES = {
    "effect": ("which the parts hardly speak for", "which the parts speak for"),
    "presence": ("without the parts", "with the parts"),
    "labels": ("labelled as without", "labelled as with"),
}


def mend(
    model: nn.Module,
    graph: ExplanatoryGraph,
    parts: str | Iterable[str],
    images: AnyImages,
    labels: ArrayLike,
    target: int | str,
    *,
    how: How | None = None,
    present: ReadBy | ArrayLike = "effect",
    kept_back: float = 0.5,
    seed: int = 0,
    outputs: Outputs | None = None,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> Mended:
    """Mend a network that tells a class by parts that it must not be told by.

    The network's last linear layer gets other weights, in a copy; all else stays as it is, so that
    the mended network is as fast as before, and its weights fit the same code.

    Parameters
    ----------
    model : torch.nn.Module
        The network that was mined, in evaluation mode. Neither moved nor changed.
    graph : ExplanatoryGraph
    parts : iterable of str
        Ids, names or titles of parts, or ids of nodes: what must not tell the class.
    images : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
        Labelled images. They may have the same bias, as long as some of the class lack the cue and
        some others have it: some dozens of each are good.
    labels : (N,) bool or int
        True and false: whether the image is of the class; the network says yes where the class's
        score is above 0, and that score's weights alone change. Whole numbers: each image's class,
        of classes that exclude each other; the network says the one with the highest score.
    target : int or str
        The class: its number in the model's output, or its name where the model says it.
    how : "projection" or "last", optional
        Make the last layer blind to what the cue does to its features: nothing is added to what it
        was. Or fit it anew to these images, which gives more where the cue is told well, but takes
        up whatever else goes together with the class in them. By default "last" where labels tell
        the cue, "projection" where parts do.
    present : "effect", "presence" or (N,) bool
        How the cue is read: by whether the parts speak for the class in an image; by whether they
        are there; or as labels say it, where it is known.
    kept_back : float
        Share of images, of each group, on which what was gained is measured.
    seed : int
        Of the images that are kept back, and left out in turn.
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
    Mended

    Raises
    ------
    ExplgraphError
        If the graph is another model's or has no such part; labels are of another length or say
        one thing alone; a group has too few images to tell anything; the model has no last linear
        layer; an option isn't known.

    Warns
    -----
    ExplgraphWarning
        If nothing was gained.
    """
    check_graph(graph)
    check_mined(model, graph)
    if how is None:
        how = "projection" if isinstance(present, str) else "last"
    if how not in get_args(How):
        raise ExplgraphError(f"how is {how!r}; expected 'projection' or 'last'")
    if not 0 < kept_back < 1:
        raise ExplgraphError(f"kept_back must lie between 0 and 1, got {kept_back!r}")
    rng = np.random.default_rng(checked_seed(seed))
    named = (parts,) if isinstance(parts, str) else tuple(parts)
    nodes = nodes_named(graph, named)
    if not nodes:
        raise ExplgraphError("parts is empty: name at least one part or node")
    images = taken(images, graph.nx.graph["preprocessing"])
    running: dict[str, Any] = {"batch_size": batch_size, "device": device, "progress": progress}
    scorer = Scorer(outputs)
    last = last_layer(model, images, scorer, device=device)
    found = features(model, images, last, image_size=graph.image_size, scorer=scorer, **running)
    names, into, given = found[0], found[1].numpy(), found[2].numpy()
    known = class_names(model, given.shape[1])
    number = class_number(target, known, given.shape[1])
    truth = _Truth.of(labels, number, len(names), given.shape[1], how, known)
    read = _Cue.of(model, graph, nodes, named, images, number, present, outputs, running)
    cue, told = read.present, read.told
    if len(cue) != len(names):
        raise ExplgraphError(f"present holds {len(cue)} values, but there are {len(names)} images")
    groups = group_of(truth.of_target, cue)
    _check_groups(groups, class_title(number, known), _CUES[told], kept_back)
    back = split(groups, kept_back, rng)

    plain = _plain(model, last, truth.outputs)
    before = truth.right(given)

    def fitted(some: Bools) -> Linear:
        effects = fit_effects(into[some], truth.classes[some], cue[some], truth.k)
        if how == "projection":
            return projection(effects, plain)
        best = discriminant(effects)
        if truth.exclusive:
            return best
        # yes or no: the row of "yes" against "no"
        return Linear(np.diff(best.weight, axis=0), np.diff(best.bias))

    left_out = np.zeros(len(names), dtype=np.bool_)
    for fold in _folds(groups, ~back, rng):
        scores = truth.replaced(given[fold], fitted(~back & ~fold)(into[fold]))
        left_out[fold] = truth.rows(fold).right(scores)
    trial = gain(before[~back], left_out[~back], groups[~back])
    effects = fit_effects(into[~back], truth.classes[~back], cue[~back], truth.k)
    row = truth.outputs.index(number)
    of_class, of_cue = truth.apart(effects) * effects.scale, effects.effect * effects.scale
    moved = float(plain.weight[row] @ of_cue)
    own = float(plain.weight[row] @ of_class)
    strength = abs(moved / own) if own else 0.0
    changed = strength > _MARGIN and trial.change > trial.error
    new = fitted(~back) if changed else plain
    rows = {
        score: (torch.from_numpy(new.weight[k]), torch.tensor(new.bias[k]))
        for k, score in enumerate(truth.outputs)
    }
    better = with_weights(model, last, rows if changed else {})
    after = truth.replaced(given, new(into)) if changed else given
    if changed:
        _check_changed(better, images, last, after, scorer, device)
    done = Mended(
        model=better,
        how=how,
        changed=changed,
        target=class_title(number, known),
        parts=_titles(graph, named),
        nodes=nodes,
        layer=last.name,
        strength=strength,
        effect=moved,
        effect_after=float(new.weight[row] @ of_cue),
        tested=tuple(name for name, kept in zip(names, back, strict=True) if kept),
        groups=groups[back],
        right=before[back],
        right_after=truth.right(after)[back],
        _present_as=_CUES[told],
    )
    if not done.gained:
        warn(done.verdict)
    return done


class _Truth(NamedTuple):
    """What images show, and when a network's scores say so.

    Attributes
    ----------
    labels : (N,) int64
        0 and 1, no and yes; or the number of each image's class.
    classes : (N,) int64
        The same, counted from 0 without gaps.
    k : int
        How many there are.
    outputs : list of int
        The scores that change.
    target : int
        The class's score.
    exclusive : bool
        Whether the highest score decides.
    """

    labels: NDArray[np.int64]
    classes: NDArray[np.int64]
    k: int
    outputs: list[int]
    target: int
    exclusive: bool

    @classmethod
    def of(
        cls, labels: ArrayLike, target: int, n: int, scores: int, how: str, known: tuple[str, ...]
    ) -> _Truth:
        """Check a user's labels of n images."""
        given = np.asarray(labels)
        if given.shape != (n,) or given.dtype.kind not in "biu":
            raise ExplgraphError(
                f"labels must be ({n},), true and false or whole numbers, one for each image; got "
                f"{given.dtype} of the shape {given.shape}"
            )
        there, classes = np.unique(given, return_inverse=True)
        exclusive = given.dtype.kind != "b"
        called = class_title(target, known)
        if exclusive and (there[0] < 0 or there[-1] >= scores):
            wrong = there[0] if there[0] < 0 else there[-1]
            raise ExplgraphError(
                f"labels holds class {wrong}, but the model gives scores for {scores} classes, 0 "
                f"to {scores - 1}; labels of yes and no are of bool"
            )
        if len(there) < 2 or (exclusive and target not in there):
            raise ExplgraphError(
                f"labels: {'no' if exclusive and target not in there else 'each'} image is "
                f"{called if exclusive else f'labelled {bool(there[0])}'}; mending needs images of "
                f"{called} and others"
            )
        if exclusive and how == "last" and len(there) < scores:
            raise ExplgraphError(
                f"labels holds {counted(len(there), 'class')} of the model's {scores}, and how is "
                "'last', which fits all of them anew; add images of the others, or take "
                "how='projection'"
            )
        outputs = list(range(scores)) if exclusive else [target]
        return cls(
            given.astype(np.int64), classes.astype(np.int64), len(there), outputs, target, exclusive
        )

    @property
    def of_target(self) -> Bools:
        """Which images are of the class."""
        of_target: Bools = np.equal(self.labels, self.target if self.exclusive else 1)
        return of_target

    def apart(self, effects: Effects) -> Array:
        """Give what features (D,) of the class have over those of others, in the effects' units."""
        mine = np.unique(self.labels).tolist().index(self.target if self.exclusive else 1)
        others = np.arange(self.k) != mine
        apart: Array = effects.means[mine] - effects.means[others].mean(0)
        return apart

    def rows(self, some: Bools) -> _Truth:
        """Give some of the images."""
        return self._replace(labels=self.labels[some], classes=self.classes[some])

    def right(self, scores: Array) -> Bools:
        """Tell for which images scores (N, all) say what they show."""
        said = scores.argmax(1) if self.exclusive else scores[:, self.target] > 0
        right: Bools = np.equal(said, self.labels)
        return right

    def replaced(self, scores: Array, new: Array) -> Array:
        """Put new values (N, outputs) in the place of those scores that change."""
        changed = scores.copy()
        changed[:, self.outputs] = new
        return changed


class _Cue(NamedTuple):
    """Which images have the cue.

    Attributes
    ----------
    present : (N,) bool
    told : str
        How it was read, a key of `_CUES`.
    """

    present: Bools
    told: str

    @classmethod
    def of(
        cls,
        model: nn.Module,
        graph: ExplanatoryGraph,
        nodes: tuple[str, ...],
        named: tuple[str, ...],
        images: AnyImages,
        target: int,
        present: ReadBy | ArrayLike,
        outputs: Outputs | None,
        running: dict[str, Any],
    ) -> _Cue:
        """Read it as the user says."""
        if not isinstance(present, str):
            labelled = np.asarray(present)
            if labelled.ndim != 1 or not np.isin(labelled, (0, 1)).all():
                raise ExplgraphError(
                    "present must be 'effect', 'presence', or (N,) of true and false, got "
                    f"{labelled.dtype} of the shape {labelled.shape}"
                )
            return cls(labelled.astype(np.bool_), "labels")
        if present not in get_args(ReadBy):
            raise ExplgraphError(
                f"present is {present!r}; expected 'effect', 'presence', or (N,) of true and false"
            )
        if present == "effect":
            found = ablate(
                model, graph, images, nodes, replacement="mean", outputs=outputs, **running
            )
            return cls(_much(-found.change[:, target]), present)
        parse = graph.parse(model, images, **running)
        places = {node: v for v, node in enumerate(parse.nodes)}
        pooled = parse.parts
        column = {part: p for p, part in enumerate(pooled.parts)}
        there = []
        for name in named:
            if name in places:
                there.append(parse.scores[:, places[name]])
            else:
                (part,) = find_parts(graph, name)
                there.append(pooled.presence[:, column[part.id]])
        return cls(np.asarray(np.max(there, axis=0) >= 0.5), present)


def _much(values: Array) -> Bools:
    """Cut values in two where both sides lie nearest to their means (two-means clustering)."""
    order = np.sort(values)
    n = np.arange(1, len(order))
    below, whole = np.cumsum(order)[:-1], order.sum()
    # between the two sides' means; the cut with the most is that with the least within
    between = below**2 / n + (whole - below) ** 2 / n[::-1]
    between[order[1:] == order[:-1]] = -np.inf  # equal values stay together
    return np.asarray(values >= order[1:][between.argmax()])


def _titles(graph: ExplanatoryGraph, named: tuple[str, ...]) -> tuple[str, ...]:
    """Call parts by their titles, nodes by their ids."""
    titles = different_titles(graph.parts)
    return tuple(
        name if name in graph.nx else titles[find_parts(graph, name)[0].id] for name in named
    )


def _check_groups(
    groups: NDArray[np.int64], target: str, cue: tuple[str, str], kept_back: float
) -> None:
    """Refuse groups in which nothing could be tested."""
    for number, (of_class, present) in enumerate(GROUPS):
        n = int((groups == number).sum())
        tested = round(kept_back * n)
        if min(tested, n - tested) < _FEWEST:
            raise ExplgraphError(
                f"{counted(n, 'image')} {'of' if of_class else 'not of'} {target} {cue[present]} "
                f"{'is' if n == 1 else 'are'} too few: {_FEWEST} at least are needed to mend by, "
                f"and {_FEWEST} to be kept back; add such images, name other parts, or say by "
                "present= (at the shell --cue) how that which must not count is told"
            )


def _folds(groups: NDArray[np.int64], some: Bools, rng: np.random.Generator) -> list[Bools]:
    """Part some of the images into folds that have their share of each group."""
    number = np.full(len(groups), -1)
    for group in range(len(GROUPS)):
        rows = rng.permutation(np.flatnonzero(some & (groups == group)))
        number[rows] = np.arange(len(rows)) % _FOLDS
    return [number == fold for fold in range(_FOLDS)]


def _plain(model: nn.Module, last: LastLayer, outputs: list[int]) -> Linear:
    """Give the last layer's weights for some scores."""
    layer = modules_by_name(model)[last.name]
    assert isinstance(layer, nn.Linear)
    columns = [last.columns[score] for score in outputs]
    weight, bias = (
        value[columns].detach().to("cpu", torch.float64).numpy()
        for value in (layer.weight, layer.bias)
    )
    return Linear(weight, bias)


def _check_changed(
    better: nn.Module,
    images: AnyImages,
    last: LastLayer,
    expected: Array,
    scorer: Scorer,
    device: str,
) -> None:
    """Refuse a layer whose weights are made of something else whenever it runs."""
    with on_device(better, device), torch.no_grad():
        _, batch = next(batches(images, 4))
        given = called(better, batch.to(model_device(better), model_dtype(better)))
        scores = scorer(given, len(batch)).to("cpu", torch.float64).numpy()
    if np.abs(scores - expected[: len(scores)]).max() > _SAME * np.abs(expected).max():
        raise ExplgraphError(
            f"the model's last layer {last.name!r} doesn't keep the weights that are put into it: "
            "they are computed from others, or shared with another layer; take that away first "
            "(torch.nn.utils.parametrize.remove_parametrizations)"
        )
