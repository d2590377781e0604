"""Hidden biases: what some images of a class share, goes with it, and isn't needed.

Nobody has to name what to look for. In the images of a class a mark may hide, a watermark, a
frame, a hand that holds the thing: some have it, and the network counts it as evidence though it
has all that it takes without. Images with the same bias don't show it by errors: they are judged
*better* with the mark.

1. *Found* (`hidden_groups`). In either half of the images: the filters' activation. Directions in
   which the class's images differ among themselves as those of other classes don't
   (`statistics.contrast`), independent of each other. A mixture of two along each: images with and
   without it. So an image can have one thing and lack another, which a partition of the images into
   clusters doesn't tell. What both halves found is one group.
2. *Tested* (`suspicion_tests`), each half's direction on the other, of what both found together
   (Stouffer). A direction counts if two groups are likelier than one. Then
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
   intersection-union test). Benjamini and Hochberg's procedure is over all groups of all classes.
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
Intersection-union tests: Berger 1982. Halves together: Stouffer et al. 1949, equal weights; the
two are of different images, but either direction was found on the other's, so that they are
independent only as far as a direction doesn't hang on the images that it is tested with.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from explgraph.answers.hidden_groups import class_groups, replace
from explgraph.answers.log_odds import Made, made_of
from explgraph.answers.suspicion_tests import judged, suspicion_of
from explgraph.answers.suspicions import Suspicions
from explgraph.brief import counted
from explgraph.errors import ExplgraphError, warn
from explgraph.explaining.attribution import layer_of
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.graph import check_graph
from explgraph.images.batches import AnyImages, count
from explgraph.images.taken import taken
from explgraph.network.class_names import class_names, class_number, class_title
from explgraph.network.hooks import check_model
from explgraph.network.outputs import Outputs, Scorer
from explgraph.progress import Shown
from explgraph.whole_numbers import checked_seed

__all__ = ["MARGIN", "find_suspicions"]

Array = NDArray[np.float64]

MARGIN = 0.1
"""Surplus, in standard deviations of a class's log-odds, that is too small to matter."""
_FEWEST = 60  # images of a class: thirty to look in give two directions, as many to test


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
    groups = [group for number in examined for group in class_groups(made, number, seed, fdr)]
    halves = [half for group in groups for half in group]
    replace(
        model, graph, images, made, halves, scorer=scorer, seed=seed,
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
    rows = [suspicion_of(made, group, margin, names, test=classes is not None) for group in groups]
    return Suspicions(
        suspicions=judged(rows, fdr),
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
