"""Hidden biases: what some images of a class share, goes with it, and isn't needed.

Nobody has to name what to look for. In the images of a class a mark may hide, a watermark, a
frame, a hand that holds the thing: some have it, and the network counts it as evidence though it
has all that it takes without. Images with the same bias don't show it by errors: they are judged
*better* with the mark.

1. *Found.* In either half of the images: the filters' activation. Directions in which the class's
   images differ among themselves as those of other classes don't (`statistics.contrast`),
   independent of each other. A mixture of two along each: images with and without it. So an image
   can have one thing and lack another, which a partition of the images into clusters doesn't tell.
2. *Tested*, on the other one. A direction counts if two groups are likelier than one. Then
   a. what they share goes with the class: images of other classes have it, beyond what is usual
      in theirs, more seldom (Fisher's exact test);
   b. it moves the score: where it is, each image's maps are replaced by the mean of images of
      other classes that lack it, the network goes on in truth, and the log-odds fall by more than
      if the same place is replaced in images of the class that lack it (Welch's t-test);
   c. it is *surplus*. With a mark, images are ahead of the rest of the class, and without it they
      aren't behind. But where it is one of several ways to be of the class (guardians have horns
      or wings), they aren't ahead with it, and far behind without. So the lead before and after
      the replacement, added up, is above a margin; all else that the directions tell being equal.
   All of a, b, c must hold: p is the largest of theirs and of the test for two groups (an
   intersection-union test). The halves change places, and Benjamini and Hochberg's procedure is
   over all groups of both ways and all classes; what both find is told once, as the better one.
3. Whether errors are more or less frequent is tested, too (Fisher, both sides), and told. It is no
   reason for suspicion by itself: where a part is hidden, errors are more frequent in any network.

References
----------
Lapuschkin et al., "Unmasking Clever Hans predictors", Nature Communications 2019: heat maps of a
class are clustered and people look at the clusters. Departures: filters' evidence in place of heat
maps, so that a mark may be anywhere; other classes tell what is natural; groups are tested.
Eyuboglu et al., "Domino", ICLR 2022, and d'Eon et al., "The Spotlight", FAccT 2022, look for groups
with many errors, by an embedding and the errors themselves; here errors aren't looked at to find
groups, so that they can test them. Dreyer et al., "Understanding the (extra-)ordinary", CVPR
workshops 2024: prototypes as a mixture over concepts' relevances.
Intersection-union tests: Berger 1982.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from explgraph.answers.log_odds import Made, log_odds, made_of
from explgraph.answers.suspicion import Suspicion
from explgraph.answers.suspicions import Suspicions
from explgraph.brief import counted
from explgraph.errors import ExplgraphError, warn
from explgraph.explaining.attribution import layer_of
from explgraph.explaining.intervene import Change, run, watched
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.graph import check_graph
from explgraph.images.batches import AnyImages, count
from explgraph.images.taken import taken
from explgraph.network.class_names import class_names, class_number, class_title
from explgraph.network.hooks import check_model
from explgraph.network.outputs import Outputs, Scorer
from explgraph.progress import Shown
from explgraph.statistics.contrast import Groups, contrast_axes, fit_groups
from explgraph.whole_numbers import checked_seed

__all__ = ["MARGIN", "find_suspicions"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

MARGIN = 0.1
"""Surplus, in standard deviations of a class's log-odds, that is too small to matter."""
_FEWEST = 60  # images of a class: thirty to look in give two directions, as many to test
_GROUP = 5  # images of the half that tests, with it and without: fewer tell nothing
_HELD = 0.9  # of what an image has of a direction lies in the cells that are replaced


def find_suspicions(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    classes: ArrayLike | Sequence[str] | None = None,
    *,
    target: int | str | Sequence[int | str] | None = None,
    layer: str | None = None,
    margin: float = MARGIN,
    fdr: float = 0.05,
    seed: int = 0,
    outputs: Outputs | None = None,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> Suspicions:
    """Find what some images of a class share and the network counts without needing it.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode; gives scores of two classes or more, of which one is right.
    graph : ExplanatoryGraph
        Mined on this model.
    images : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
        For instance some that the network was trained on; two hundred or more of each class. Twice
        gone through, in the same order. A layer's maps of all are held in memory.
    classes : (N,) int or str, optional
        Each image's class: its number in the model's output, or its name where the model says it.
        Without, the network's own answers are taken, and nothing is tested.
    target : int, str, or sequence of these, optional
        Classes that are examined; by default all that have enough images.
    layer : str, optional
        By default the highest that has nodes.
    margin : float
        A surplus up to this, in standard deviations of the class's log-odds, is no reason for
        suspicion.
    fdr : float
        Share of false ones among the suspicious groups that is put up with.
    seed : int
        Of the halves.
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
    Suspicions
        The suspicious groups first, by how much their lead is surplus.

    Raises
    ------
    ExplgraphError
        If the graph is another model's; `classes` has the wrong length or names what is no class;
        no class has enough images; a class of `target` has too few; an option is out of range.

    Warns
    -----
    ExplgraphWarning
        If `classes` aren't given, a class has too few images, or it is never right.

    References
    ----------
    See the module.
    """
    check_graph(graph)
    check_model(model)
    _check_numbers(margin, fdr)
    seed = checked_seed(seed)
    scorer = Scorer(outputs)
    images = taken(images, graph.nx.graph["preprocessing"])
    layer = layer_of(graph, layer).name
    reading = _Reading(model, classes, count(images))
    made = made_of(
        model, graph, images, reading, layer=layer, scorer=scorer,
        batch_size=batch_size, device=device, progress=progress,
    )  # fmt: skip
    reading.check_length(len(made.names))
    names = class_names(model, made.scores.shape[1])
    examined, told = _examined(made, target, names)
    discovery = _half(made.classes, seed)
    pooled = made.maps.mean(2, dtype=np.float64)
    groups = [
        group
        for number in examined
        for half in (discovery, ~discovery)
        for group in _found(made, pooled, number, half, test=classes is not None, fdr=fdr)
    ]
    _replace(
        model, graph, images, made, groups, scorer=scorer, seed=seed,
        batch_size=batch_size, device=device, progress=progress,
    )  # fmt: skip
    wrong = made.scores.argmax(1) != made.classes
    if classes is None:
        told.append(
            "classes were not given: images are grouped by the network's answers, and nothing is "
            "tested"
        )
    rates = {number: float(wrong[made.classes == number].mean()) for number in examined}
    told += [
        f"{class_title(number, names)!r} is never right in the images; if its number or name is "
        "right, no group can differ in its errors"
        for number, rate in rates.items()
        if rate == 1
    ]
    for line in told:
        warn(line)
    if classes is not None:
        told += [
            f"{class_title(number, names)!r} is never wrong in the images, so that no group can "
            "differ in its errors"
            for number, rate in rates.items()
            if rate == 0
        ]
    rows = [_row(made, group, wrong, margin, names, classes is not None) for group in groups]
    return Suspicions(
        suspicions=_judged(rows, fdr),
        classes=tuple(class_title(number, names) for number in examined),
        n_images=len(made.names),
        image_size=graph.image_size,
        layer=layer,
        told=tuple(told),
    )


# ------------------------------------------------------------------------------------ the arguments


def _check_numbers(margin: float, fdr: float) -> None:
    """Refuse options that are out of range."""
    if not 0 <= margin < np.inf:
        raise ExplgraphError(f"margin must be 0 or more, got {margin!r}")
    if not 0 < fdr < 1:
        raise ExplgraphError(f"fdr must be above 0 and below 1, got {fdr!r}")


class _Reading:
    """Gives images' classes, as people say them or the network answers."""

    def __init__(
        self, model: nn.Module, classes: ArrayLike | Sequence[str] | None, n: int | None
    ) -> None:
        self._model = model
        self._given: list[Any] | None = None
        self._numbers: NDArray[np.int64] | None = None
        if classes is not None:
            given = np.asarray(classes)
            if given.ndim != 1 or given.dtype.kind not in "iuUO":
                raise ExplgraphError(
                    "classes must be (N,), a class's number or name for each image, got "
                    f"{given.dtype} of the shape {given.shape}"
                )
            self._given = given.tolist()
            if n is not None:
                self.check_length(n)

    def check_length(self, n: int) -> None:
        """Refuse classes that aren't one for each image."""
        if self._given is not None and len(self._given) != n:
            raise ExplgraphError(
                f"classes holds {len(self._given)}, but there are {n} images; give one for each, "
                "in their order"
            )

    def __call__(self, scores: Array, first: int) -> NDArray[np.int64]:
        if self._given is None:
            answers: NDArray[np.int64] = scores.argmax(1).astype(np.int64)
            return answers
        if self._numbers is None:
            k = scores.shape[1]
            known = class_names(self._model, k)
            numbers = {}
            for one in dict.fromkeys(self._given):
                try:
                    numbers[one] = class_number(one, known, k)
                except ExplgraphError as err:
                    raise ExplgraphError(f"classes: {err}") from err
            self._numbers = np.array([numbers[one] for one in self._given], np.int64)
        if first + len(scores) > len(self._numbers):
            raise ExplgraphError(
                f"classes holds {len(self._numbers)}, but there are more images; give one for each"
            )
        next_ones: NDArray[np.int64] = self._numbers[first : first + len(scores)]
        return next_ones


def _examined(
    made: Made, target: int | str | Sequence[int | str] | None, names: Sequence[str]
) -> tuple[list[int], list[str]]:
    """Choose the classes that have enough images; say which haven't."""
    sizes = np.bincount(made.classes, minlength=made.scores.shape[1])
    enough = [int(k) for k in np.flatnonzero(sizes >= _FEWEST)]
    if target is not None:
        listed: list[Any] = [target]
        if not isinstance(target, (str, Integral)):
            listed = list(cast("Sequence[int | str]", target))
        chosen = [class_number(one, names, len(sizes)) for one in listed]
        for number in chosen:
            if number not in enough:
                raise ExplgraphError(
                    f"target {class_title(number, names)!r} has "
                    f"{counted(int(sizes[number]), 'image')}; at least {_FEWEST} are needed to "
                    "look and to test, better hundreds"
                )
        told = []
    else:
        chosen = enough
        few = [k for k in np.flatnonzero(sizes) if k not in enough]
        told = [
            f"{class_title(int(k), names)!r} has only {counted(int(sizes[k]), 'image')} and is not "
            f"examined; at least {_FEWEST} are needed"
            for k in few[:3]
        ]
        if len(few) > 3:
            told.append(f"{len(few) - 3} more classes have too few images")
    if not chosen:
        raise ExplgraphError(
            f"no class has the {_FEWEST} images that are needed; "
            f"{class_title(int(sizes.argmax()), names)!r} has the most, {int(sizes.max())}; give "
            "more images"
        )
    if (sizes > 0).sum() < 2 or len(made.names) - sizes[chosen].max() < _FEWEST:
        raise ExplgraphError(
            "what is natural is told by images of other classes, and there are "
            f"{len(made.names) - int(sizes[chosen].max())} of these beside "
            f"{class_title(chosen[int(sizes[chosen].argmax())], names)!r}; give at least {_FEWEST}"
        )
    return chosen, told


# --------------------------------------------------------------------------------------- the groups


@dataclass
class _Group:
    """Images of a class that share something, and what was measured of it."""

    number: int
    weights: Array  # (C,) of the filters' means, along the direction
    has: Flags  # (N,) all images of any class that have it
    beside: Array  # (N, q - 1) the other directions
    tested: NDArray[np.int64]  # images of the class in the half that tests
    regions: Flags  # (N, S) where it is, in all images of the class that have it
    instead: NDArray[np.float32]  # (C, S)
    p: float  # of two groups, and of going with the class
    share: float
    elsewhere: float
    after: Array  # (N,) log-odds when it is replaced; NaN where that wasn't tried


def _half(classes: NDArray[np.int64], seed: int) -> Flags:
    """Choose half of each class's images at random."""
    rng = np.random.default_rng(seed)
    half = np.zeros(len(classes), np.bool_)
    for number in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(classes == number))
        half[rows[: len(rows) // 2]] = True
    return half


def _found(
    made: Made, pooled: Array, number: int, discovery: Flags, *, test: bool, fdr: float
) -> list[_Group]:
    """Find groups of one class in one half, and keep those that the other half has as well."""
    from scipy import stats  # takes a second to import

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
        fitted: Groups = fit_groups(values[discovery & mine, k])
        has = fitted.upper(values[:, k])
        with_it = int(has[tested].sum())
        if min(with_it, len(tested) - with_it) < _GROUP:
            continue
        p = float(
            stats.ttest_1samp(fitted.gain(values[tested, k]), 0, alternative="greater").pvalue
        )
        if p > fdr:
            continue  # one group
        elsewhere = ~discovery & ~mine
        table = [
            [with_it, len(tested) - with_it],
            [int((has & elsewhere).sum()), int((~has & elsewhere).sum())],
        ]
        goes = float(stats.fisher_exact(table, alternative="greater").pvalue)
        regions, instead = _places(made, weights[:, k], has, mine)
        found.append(
            _Group(
                number=number,
                weights=weights[:, k],
                has=has,
                beside=np.delete(values, k, axis=1),
                tested=tested,
                regions=regions,
                instead=instead,
                p=max(p, goes) if test else np.nan,
                share=with_it / len(tested),
                elsewhere=float(has[elsewhere].mean()),
                after=np.full(len(mine), np.nan),
            )
        )
    return found


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


def _replace(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    made: Made,
    groups: Sequence[_Group],
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


# ---------------------------------------------------------------------------------------- the tests


def _row(
    made: Made, group: _Group, wrong: Flags, margin: float, names: Sequence[str], test: bool
) -> Suspicion:
    """Measure and test one group."""
    from scipy import stats

    rows = group.tested
    has = group.has[rows]
    before, after = made.odds[rows], group.after[rows]
    fall = before - after
    spread = float(before.std()) or 1.0
    lead, _ = _difference(before, has, group.beside[rows])
    both, error = _difference((before + after) / 2, has, group.beside[rows])
    surplus = 2 * both / spread
    errors = np.array(
        [[wrong[rows][mask].sum(), (~wrong[rows][mask]).sum()] for mask in (has, ~has)]
    )
    p = p_errors = np.nan
    if test:
        falls = stats.ttest_ind(
            fall[has], fall[~has], equal_var=False, alternative="greater"
        ).pvalue
        above = both - margin * spread / 2
        p_surplus = (
            stats.t.sf(above / error, int(has.sum()) - 1) if error > 0 else float(above <= 0)
        )
        p = max(group.p, float(falls), float(p_surplus))
        p = 1.0 if np.isnan(p) else p
        if errors.sum(0).all():
            p_errors = float(stats.fisher_exact(errors).pvalue)
    mine = made.classes == group.number
    members = np.flatnonzero(mine & group.has)
    typical = np.einsum("c,ncs->n", group.weights, made.maps[members], optimize=True)
    members = members[np.argsort(-typical, kind="stable")]
    regions = group.regions[members].reshape(-1, *made.grid)
    by_part = made.parts[mine & group.has].mean(0) - made.parts[mine & ~group.has].mean(0)
    first = np.argsort(-by_part, kind="stable")[:3]
    return Suspicion(
        target=class_title(group.number, names),
        images=tuple(made.names[i] for i in members),
        rows=tuple(int(i) for i in members),
        regions=regions,
        share=group.share,
        elsewhere=group.elsewhere,
        fall=float(fall[has].mean() - fall[~has].mean()),
        lead=lead,
        surplus=float(surplus),
        parts=tuple((made.titles[k], float(by_part[k])) for k in first if by_part[k] > 0),
        errors=(float(wrong[rows][has].mean()), float(wrong[rows][~has].mean())),
        p_errors=float(p_errors),
        q_errors=float("nan"),
        p=float(p),
        q=float("nan"),
        suspicious=False,
    )


def _difference(values: Array, has: Flags, beside: Array) -> tuple[float, float]:
    """Regress values on membership and other directions: its coefficient and standard error.

    The error holds where groups vary differently (HC1: MacKinnon and White 1985).
    """
    design = np.column_stack([has, np.ones(len(has)), beside])
    solved = np.linalg.pinv(design)
    coefficients = solved @ values
    residual = values - design @ coefficients
    free = max(len(values) - design.shape[1], 1)
    error = np.sqrt((solved[0] ** 2 * residual**2).sum() * len(values) / free)
    return float(coefficients[0]), float(error)


def _judged(rows: list[Suspicion], fdr: float) -> tuple[Suspicion, ...]:
    """Correct for the number of groups, put what is suspicious first, tell each group once."""
    from scipy.stats import false_discovery_control

    for p, q in (("p", "q"), ("p_errors", "q_errors")):
        known = [k for k, row in enumerate(rows) if not np.isnan(getattr(row, p))]
        if known:
            corrected = false_discovery_control([getattr(rows[k], p) for k in known])
            for k, value in zip(known, corrected.tolist(), strict=True):
                rows[k] = rows[k]._replace(**{q: value})
    rows = [row._replace(suspicious=bool(row.q <= fdr)) for row in rows]
    rows.sort(key=lambda row: (not row.suspicious, -row.surplus))
    told: list[Suspicion] = []
    for row in rows:
        if not any(_same(row, other) for other in told):
            told.append(row)
    return tuple(told)


def _same(one: Suspicion, other: Suspicion) -> bool:
    """Whether two groups are one, found in either half: most of their images are the same."""
    both = len({*one.rows} & {*other.rows})
    return one.target == other.target and 2 * both > len({*one.rows} | {*other.rows})
