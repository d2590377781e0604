"""Two graphs compared: what is the same, appeared, vanished, moved, changed its effect on a class.

Mining groups nodes anew each time, and finds some parts in one run that it doesn't in the next. So
what one graph has and the other hasn't says little about the networks. Here parts say where and
when to look, and what is compared is what the two *networks* do there:

1. Both networks run over the same photographs; each graph's nodes are found in them.
2. Parts (or nodes) are matched one to one by where and when they are present: the optimal
   assignment of their similarities. Chance is measured by exchanging the images of one side.
   Matched things that are nearer than two parts of one graph can be are the same.
3. *Vanished*: of a part of A, network A's maps at its place go with its presence, image by image;
   those of network B at the same place do so by less than half. *Appeared* is the same of B's
   parts. A part without a partner that both networks' maps go with was only grouped otherwise.
4. *Moved*: a part that vanished at its place, while the one it is matched with appeared elsewhere.
5. *Effects*: by how much more what is at the part's place adds to a class's score (gradient times
   activation) when the part is present, in either network.
6. All of these are paired differences over the images, tested by exchanging the two networks image
   by image, beyond a margin, and corrected together (Benjamini and Hochberg).

One network, mined twice however differently, gives differences of exactly 0.

References
----------
Benjamini and Hochberg 1995, the false discovery rate; exchange of signs as a test of paired
differences: Fisher, "The design of experiments" (1935), section 21.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control
from torch import nn

from explgraph.answers.at_places import APART, FirstPass, Running, first_pass, second_pass
from explgraph.answers.compared import Change, Kind, Match, State
from explgraph.answers.comparison import Comparison
from explgraph.answers.paired import (
    Seen,
    answering,
    distances,
    exchange_p,
    folds,
    matched,
)
from explgraph.answers.side_by_side import classes_of, cut_patches, frame, pictures_of, shared
from explgraph.brief import counted
from explgraph.errors import ExplgraphError
from explgraph.explaining.by_part import By, check_by, different_titles, names_of_nodes
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.graph import check_graph
from explgraph.images.batches import AnyImages
from explgraph.images.taken import taken
from explgraph.network.outputs import Outputs, Scorer
from explgraph.parsed_parts import Pooling
from explgraph.progress import Shown
from explgraph.whole_numbers import whole

__all__ = ["compare"]

Array = NDArray[np.float64]

_LEAST = 20  # images: 2^-20 is the least p that exchange can give, 16 are left to fit a line on
_HALF = 0.5  # what the other network's maps keep less of has vanished
_BY_CHANCE = 2000  # pairs at least, of things matched with images exchanged
_MOST = 20_000  # exchanges by which changes are tested, unless more are asked for
_PATCHES = 3  # of a part on the page


class _Side(NamedTuple):
    """One of the two: what is compared of its V things (parts or nodes), in N images."""

    graph: ExplanatoryGraph
    model: nn.Module
    first: FirstPass
    ids: tuple[str, ...]
    titles: tuple[str, ...]
    # of parts (N, P, 2), px of this network's image, and which of them each thing is at
    places: Array
    of: NDArray[np.int64]
    at: Array  # (N, V, 2) px of this network's image
    there: Array  # (N, V)


class _Looked(NamedTuple):
    """What both networks do at the places of one side's things."""

    # (N, V) of network A and B, each image's part in the share that goes with the presence
    answers: tuple[Array, Array]
    # (N, V, K), each image's part in the effect on a class
    effects: tuple[Array, Array]


class _Test(NamedTuple):
    """Differences (N,) whose mean is above 0, in all columns, if something changed."""

    kind: Kind
    side: int
    thing: int
    column: int
    before: float
    after: float
    strength: float
    differences: tuple[Array, ...]
    two_sided: bool = False


def compare(
    graph_a: ExplanatoryGraph,
    graph_b: ExplanatoryGraph,
    images: AnyImages,
    *,
    models: nn.Module | tuple[nn.Module, nn.Module],
    images_b: AnyImages | None = None,
    classes: int | str | Sequence[int | str] | Mapping[str, Any] | None = None,
    by: By = "part",
    margin: float = 0.05,
    fdr: float = 0.05,
    permutations: int | None = None,
    seed: int = 0,
    outputs: Outputs | tuple[Outputs | None, Outputs | None] | None = None,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> Comparison:
    """Compare two graphs: of two checkpoints, two networks, or two choices of layers.

    Parameters
    ----------
    graph_a, graph_b : ExplanatoryGraph
        Before and after, where that makes sense.
    images : path of a folder, ImageFolder, list of PIL images, (N, C, H, W) tensor, ...
        Some hundreds that neither graph was mined from, best. A folder's path or photographs are
        made ready as each graph's images were; what is made ready already goes to both networks.
    models : torch.nn.Module, or (torch.nn.Module, torch.nn.Module)
        The networks that were mined, in evaluation mode; one if both graphs are of it.
    images_b : images, optional
        The same ones as network B wants them, in the same order or under the same names, where
        `images` are made ready already and the two want them otherwise.
    classes : int, str, sequence of these, or mapping, optional
        Effects on which are compared: numbers of outputs or names that both models know; a mapping
        has names of yours, and for each a number, or A's and B's. By default those that come first
        in a tenth of the images, eight at most, if both networks have as many outputs.
    by : "part" or "node"
        With "node", nodes that belong to parts are matched and tested in place of their parts; each
        at its part's place.
    margin : float
        Changes that are no larger don't count: of a share of the maps' variance, and of an effect
        in standard deviations.
    fdr : float
        Share of false ones among what is told to have changed.
    permutations : int, optional
        Exchanges by which each change is tested; by default as many as a single change needs to
        stand out among all tests (40 for each; from 999 to 20,000).
    seed : int
    outputs : callable, or (callable, callable), optional
        Takes what the model gives, gives scores of (images, classes), where it gives anything else
        than these (`explgraph.network.outputs`); one for both, or A's and B's.
    batch_size : int
    device : str
        Where the models run.
    progress : bool or None
        Show a bar: by default in notebooks alone, if True on a terminal too.

    Returns
    -------
    Comparison
        ``matches`` say what became of each part, ``changes`` what was tested, by strength. A part
        *vanished* if network B's maps, at the place of A's part, go with its presence by less than
        half as much as network A's do.

    Raises
    ------
    ExplgraphError
        If one is no graph or has no parts, a model isn't the one that its graph was mined from, the
        images are fewer than 20 or not the same for both, or there is no such class.

    Notes
    -----
    What B's maps *say* counts by how much of their variance it is, not by whether a decoder could
    read it: of a cue that a network was trained to overlook a regression still finds traces.

    A presence tells nothing in images where the thing is always there to the same degree: such a
    part can't be found to have vanished. Effects are to first order, and go by covariance: two
    parts that come and go together share them.
    """
    check_by(by)
    for name, graph in (("graph_a", graph_a), ("graph_b", graph_b)):
        _check_graph(graph, name)
    for name, share in (("margin", margin), ("fdr", fdr)):
        if not 0 <= share < 1:
            raise ExplgraphError(f"{name} must be from 0 to below 1, got {share!r}")
    if permutations is not None:
        whole(permutations, "permutations")
    pair = _two(models)
    read = outputs if isinstance(outputs, tuple) else (outputs, outputs)
    running = [Running(Scorer(one), batch_size, device, progress) for one in read]
    graphs = (graph_a, graph_b)
    given = images if images_b is None else images_b
    ready = [
        taken(source, graph.nx.graph["preprocessing"])
        for source, graph in zip((images, given), graphs, strict=True)
    ]
    first = [first_pass(*each) for each in zip(pair, graphs, ready, running, strict=True)]
    names = shared(first[0].names, first[1].names, _LEAST)
    sides = [
        _side(graph, model, _of_names(one, names), by)
        for graph, model, one in zip(graphs, pair, first, strict=True)
    ]
    doubts: list[str] = []
    columns = classes_of(classes, pair, [side.first.scores for side in sides], doubts)
    to_b = frame(ready[0], graph_a.image_size, ready[1], graph_b.image_size, names)
    to_a = frame(ready[1], graph_b.image_size, ready[0], graph_a.image_size, names)
    # A's and B's places, as network A and B see them
    seen = [[sides[0].places, to_b(sides[0].places)], [to_a(sides[1].places), sides[1].places]]
    looks = [
        second_pass(
            pair[net],
            graphs[net],
            ready[net],
            dict(zip(names, np.concatenate([seen[0][net], seen[1][net]], 1), strict=True)),
            [column[net] for _, column in columns],
            running[net],
        )
        for net in (0, 1)
    ]
    fold = folds(len(names), seed)
    scales = _scales(sides, columns, doubts)
    starts = (0, sides[0].places.shape[1])
    looked = [
        _looked(side, looks, start, fold, scales) for side, start in zip(sides, starts, strict=True)
    ]
    at_b = to_a(sides[1].at)
    pairs = matched(
        Seen(sides[0].at.astype(np.float64), sides[0].there),
        Seen(at_b, sides[1].there),
        exchanges=math.ceil(_BY_CHANCE / min(len(side.ids) for side in sides)),
        seed=seed,
    )
    q = np.ones(len(pairs.p))
    if len(pairs.p):
        q = false_discovery_control(pairs.p)
    apart = distances(Seen(sides[0].at, sides[0].there), Seen(at_b, sides[1].there))
    limit = APART * math.sqrt(graph_a.image_size[0] * graph_a.image_size[1])
    partner: dict[int, int] = {}
    elsewhere: dict[int, int] = {}
    for m in np.flatnonzero(q <= fdr):
        one, other = int(pairs.one[m]), int(pairs.other[m])
        (partner if apart[one, other] <= limit else elsewhere)[one] = other
    tests = _gone(looked, margin, elsewhere)
    alone = sorted(set(range(len(sides[1].ids))) - set(partner.values()))
    tests += _effects(looked, (range(len(sides[0].ids)), alone), margin)
    changes, flagged = _tested(tests, sides, [title for title, _ in columns], fdr, permutations, seed)
    matches = _matches(
        sides, looked, at_b, apart, partner, elsewhere, flagged,
        {int(one): (float(s), float(p), float(v)) for one, s, p, v in
         zip(pairs.one, pairs.similarity, pairs.p, q, strict=True)},
    )  # fmt: skip
    doubts += _few(len(names))
    seen_most = {(one.graph, one.part) for one in changes if one.changed}
    pictures = pictures_of(ready[0], graph_a, first[0].names)
    patches = {}
    for key, side, at in zip("ab", sides, (sides[0].at, at_b), strict=True):
        shown = [k for k, name in enumerate(side.ids) if by == "part" or (key, name) in seen_most]
        tiles = cut_patches(
            pictures, names, at[:, shown], side.there[:, shown], graph_a.image_size, _PATCHES
        )
        patches |= {(key, side.ids[k]): found for k, found in zip(shown, tiles, strict=True)}
    return Comparison(
        by,
        matches,
        changes,
        tuple(title for title, _ in columns),
        len(names),
        float((q <= fdr).mean()) if len(q) else 0.0,
        fdr,
        margin,
        tuple(doubts),
        patches,
    )


def _check_graph(graph: object, name: str) -> None:
    """Refuse what is no graph, or has no parts."""
    try:
        check_graph(graph)
    except ExplgraphError as err:
        raise ExplgraphError(f"{name}: {err}") from err
    assert isinstance(graph, ExplanatoryGraph)
    if not graph.parts:
        raise ExplgraphError(
            f"{name} has no parts, by whose places networks are compared; mine more images, or "
            "layers in which nodes of different filters sit at the same thing"
        )


def _two(models: object) -> tuple[nn.Module, nn.Module]:
    """Give the two models."""
    if isinstance(models, nn.Module):
        return models, models
    listed = tuple(models) if isinstance(models, (tuple, list)) else ()
    if len(listed) != 2 or not all(isinstance(one, nn.Module) for one in listed):
        raise ExplgraphError(
            "models must be the two networks that were mined, (model_a, model_b), or one if both "
            f"graphs are of it, got {type(models).__name__}"
        )
    return listed[0], listed[1]


def _of_names(first: FirstPass, names: Sequence[str]) -> FirstPass:
    """Keep the images of some names, in that order."""
    row = {name: number for number, name in enumerate(first.names)}
    return first.take([row[name] for name in names])


def _side(graph: ExplanatoryGraph, model: nn.Module, first: FirstPass, by: By) -> _Side:
    """Say where and when a graph's parts, or the nodes of them, are present.

    Presence is the mean score of the part's nodes: a part's own presence curve, fitted when the
    graph was mined, would only bend it.
    """
    pooling = Pooling.of(graph)
    places = pooling(first.positions, first.expected, first.present)[0].astype(np.float64)
    scores = first.present.astype(np.float64)
    if by == "part":
        titles = different_titles(graph.parts)
        there = []
        for k in range(len(pooling.parts)):
            mine = pooling.member == k
            weight = pooling.weight[mine] if pooling.weight[mine].any() else np.ones(mine.sum())
            there.append(scores[:, mine] @ weight / weight.sum())
        of = np.arange(len(pooling.parts))
        named = tuple(titles[part] for part in pooling.parts)
        return _Side(
            graph, model, first, pooling.parts, named, places, of, places, np.stack(there, 1)
        )
    mine = np.flatnonzero(pooling.member >= 0)
    ids = tuple(graph.node_ids[v] for v in mine)
    at = first.positions[:, mine].astype(np.float64)
    return _Side(
        graph, model, first, ids, names_of_nodes(graph, ids), places, pooling.member[mine], at,
        scores[:, mine],
    )  # fmt: skip


def _scales(
    sides: Sequence[_Side], columns: Sequence[tuple[str, tuple[int, int]]], doubts: list[str]
) -> list[Array]:
    """Give each network's standard deviation of the classes' scores, (K,).

    Networks whose scores are larger throughout have no larger effects. But a class that has come to
    differ hardly at all has lost its effects: a network's deviation counts as a quarter of the
    other one's, at least.
    """
    spread = [
        np.array([side.first.scores[:, column[net]].std() for _, column in columns])
        for net, side in enumerate(sides)
    ]
    for k, (title, _) in enumerate(columns):
        for net, name in enumerate("AB"):
            if spread[net][k] < spread[1 - net][k] / 4:
                doubts.append(
                    f"network {name} hardly tells images apart by its score of {title}: its effects "
                    "there are measured in the other network's terms"
                )
    return [np.maximum(np.maximum(spread[n], spread[1 - n] / 4), 1e-12) for n in (0, 1)]


def _looked(
    side: _Side,
    looks: Sequence[Any],
    start: int,
    fold: NDArray[np.int64],
    scales: Sequence[Array],
) -> _Looked:
    """Relate what both networks do at one side's places to the presence of its things."""
    answers, effects = [], []
    centred = side.there - side.there.mean(0)
    there = centred / np.maximum(centred.std(0), 1e-9)
    for look, scale in zip(looks, scales, strict=True):
        found = np.zeros(side.there.shape)
        for place in np.unique(side.of):
            mine = np.flatnonzero(side.of == place)
            says = look.says[:, start + place].astype(np.float64)
            found[:, mine] = answering(says, side.there[:, mine], fold)
        answers.append(found)
        adds = look.adds[:, start + side.of] / scale
        effects.append((adds - adds.mean(0)) * there[..., None])
    return _Looked((answers[0], answers[1]), (effects[0], effects[1]))


def _root(share: float) -> float:
    return math.sqrt(max(share, 0.0))


def _gone(
    looked: Sequence[_Looked], margin: float, elsewhere: Mapping[int, int]
) -> list[_Test]:
    """Tests of what vanished (of A), appeared (in B), or both: moved."""

    def gone(side: int, thing: int) -> tuple[Array, ...]:
        one, two = (looked[side].answers[net][:, thing] for net in (side, 1 - side))
        return _HALF * one - two, one - two - margin

    tests = []
    kinds: tuple[tuple[Kind, int], ...] = (("vanished", 0), ("appeared", 1))
    for kind, side in kinds:
        for thing in range(looked[side].answers[0].shape[1]):
            a, b = (answers[:, thing].mean() for answers in looked[side].answers)
            strength = (_root(a) - _root(b)) * (1 if side == 0 else -1)
            tests.append(_Test(kind, side, thing, -1, a, b, strength, gone(side, thing)))
    for thing, other in elsewhere.items():
        here = looked[0].answers[1][:, thing].mean()
        there = looked[1].answers[1][:, other].mean()
        columns = (*gone(0, thing), *gone(1, other))
        strength = _root(there) - _root(here)
        tests.append(_Test("moved", 0, thing, -1, here, there, strength, columns))
    return tests


def _effects(
    looked: Sequence[_Looked], things: Sequence[Sequence[int]], margin: float
) -> list[_Test]:
    """Tests of effects on classes."""
    tests = []
    for side, chosen in enumerate(things):
        one, other = looked[side].effects
        for thing in chosen:
            for column in range(one.shape[2]):
                difference = other[:, thing, column] - one[:, thing, column]
                sign = 1.0 if difference.mean() >= 0 else -1.0
                a, b = one[:, thing, column].mean(), other[:, thing, column].mean()
                columns = (sign * difference - margin,)
                tests.append(
                    _Test("effect", side, thing, column, a, b, abs(b - a), columns, two_sided=True)
                )
    return tests


def _tested(
    tests: Sequence[_Test],
    sides: Sequence[_Side],
    titles: Sequence[str],
    fdr: float,
    permutations: int | None,
    seed: int,
) -> tuple[tuple[Change, ...], set[tuple[Kind, int]]]:
    """Give all changes by strength, and which things vanished, appeared, moved."""
    columns = np.stack([column for test in tests for column in test.differences], 1)
    # a difference of rounding alone is none
    columns[np.abs(columns) < 1e-9] = 0
    count = permutations if permutations is not None else min(max(999, 40 * len(tests)), _MOST)
    p_columns = exchange_p(columns, permutations=count, seed=seed)
    p, start = [], 0
    for test in tests:
        stop = start + len(test.differences)
        worst = p_columns[start:stop].max()  # all of them must hold
        p.append(min(1.0, worst * (2 if test.two_sided else 1)))
        start = stop
    q = false_discovery_control(p)
    changes = [
        Change(
            test.kind,
            "ab"[test.side],
            sides[test.side].ids[test.thing],
            sides[test.side].titles[test.thing],
            titles[test.column] if test.column >= 0 else "",
            float(test.before),
            float(test.after),
            float(test.strength),
            float(one),
            float(corrected),
            bool(corrected <= fdr),
        )
        for test, one, corrected in zip(tests, p, q, strict=True)
    ]
    flagged = {
        (test.kind, test.thing)
        for test, change in zip(tests, changes, strict=True)
        if change.changed
    }
    changes.sort(key=lambda change: (not change.changed, -change.strength))
    return tuple(changes), flagged


def _matches(
    sides: Sequence[_Side],
    looked: Sequence[_Looked],
    at_b: Array,
    apart: Array,
    partner: Mapping[int, int],
    elsewhere: Mapping[int, int],
    flagged: set[tuple[Kind, int]],
    told: Mapping[int, tuple[float, float, float]],
) -> tuple[Match, ...]:
    """Say what became of every thing."""
    rows = []
    taken_by: set[int] = set()
    for thing, name in enumerate(sides[0].ids):
        other = partner.get(thing)
        state: State = "alone" if other is None else "same"
        if ("moved", thing) in flagged:
            other, state = elsewhere[thing], "moved"
        elif ("vanished", thing) in flagged:
            other, state = None, "vanished"
        shares = [float(answers[:, thing].mean()) for answers in looked[0].answers]
        if other is None:
            nothing = (math.nan,) * 6
            rows.append(Match(name, "", sides[0].titles[thing], "", state, *nothing, *shares))
            continue
        taken_by.add(other)
        weight = sides[0].there[:, thing] * sides[1].there[:, other]
        way = weight @ (at_b[:, other] - sides[0].at[:, thing]) / max(weight.sum(), 1e-12)
        rows.append(
            Match(
                name, sides[1].ids[other], sides[0].titles[thing], sides[1].titles[other], state,
                *told[thing], float(apart[thing, other]), float(way[0]), float(way[1]), *shares,
            )  # fmt: skip
        )
    for other, name in enumerate(sides[1].ids):
        if other not in taken_by:
            state = "appeared" if ("appeared", other) in flagged else "alone"
            shares = [float(answers[:, other].mean()) for answers in looked[1].answers]
            nothing = (math.nan,) * 6
            rows.append(Match("", name, "", sides[1].titles[other], state, *nothing, *shares))
    return tuple(rows)


def _few(n: int) -> list[str]:
    """Doubt few images."""
    if n >= 100:
        return []
    return [f"{counted(n, 'image')} tell only the largest changes; some hundreds are better"]
