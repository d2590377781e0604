"""The circuit of a class: parts or nodes its score needs, found on some images, judged on others.

1. Images are divided in two by chance. One half finds the circuit; the other measures it.
2. Everything in the layers that no node of the circuit holds is replaced (`explaining.replaced`).
   What a set of candidates *keeps* is its share of the score that the layers carry:

       kept(S) = (score(S) - score(nothing)) / (score(whole) - score(nothing))

   with scores as means over images, "nothing" everything in the layers replaced, and "whole" the
   network as it is.
3. Candidates are ordered by estimates (`trials`), and a small set that keeps enough is looked for
   by true runs (`searching`).
4. On the other half: what the circuit keeps, with an interval (bootstrap over images); what all
   candidates do; what is lost when the circuit alone is taken away; what as many at random keep.

By default the layer nearest to the output that candidates have nodes in is asked. Layers lie behind
one another: of several, each must carry the score with what its nodes hold, and what is lost in one
is lost for those above.

References
----------
Faithfulness, and its completeness by what is left without the circuit: Wang et al.,
"Interpretability in the wild", ICLR 2023, section 4; as a share between an empty and the whole
network: Marks et al., "Sparse feature circuits", 2024, section 4. Bootstrap: Efron and Tibshirani,
1993, chapter 13. Departures: what is kept are shares of units in the maps of a CNN's layers; the
circuit is measured on other images than those it was found on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from numbers import Real
from typing import Any, NamedTuple, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from torch import nn

from explgraph.brief import counted, few
from explgraph.circuits.account import Kept, Member, Point
from explgraph.circuits.circuit import Circuit
from explgraph.circuits.judging import Judge
from explgraph.circuits.searching import Found, search, sizes
from explgraph.circuits.trials import Asked, Measure, Trials
from explgraph.errors import ExplgraphError, warn
from explgraph.explaining.by_part import (
    By,
    check_by,
    different_titles,
    find_parts,
    names_of_nodes,
    nodes_named,
)
from explgraph.explaining.intervene import run, watched, with_gradients
from explgraph.explaining.replaced import Replacement, StandIns, check_replacement
from explgraph.graph.graph import Graph, check_graph
from explgraph.images.batches import AnyImages, count, subset
from explgraph.images.taken import taken
from explgraph.network.class_names import class_names, class_number, class_title
from explgraph.network.geometry import Layer
from explgraph.network.outputs import Outputs, Scorer
from explgraph.progress import Shown, Stages
from explgraph.whole_numbers import checked_seed, whole

__all__ = ["find_circuit"]

G = TypeVar("G", bound=Graph)

_LEAST = 20  # images: with fewer than ten to measure on, resampling them says little of others
_CHANCE = 8  # random sets beside the circuit
_REACHED = 1e-6  # sums over images come out again to this


class _Candidate(NamedTuple):
    """What may be a member."""

    id: str
    title: str
    nodes: tuple[str, ...]  # in the layers


class _Halves(NamedTuple):
    """Which images are for the search and which for measuring, and the class of each."""

    classes: NDArray[np.int64]
    search: list[int]
    measure: list[int]

    def of(self, half: Sequence[int]) -> list[int]:
        """Give the classes of a half's images."""
        chosen: list[int] = self.classes[list(half)].tolist()
        return chosen


@with_gradients
def find_circuit(
    model: nn.Module,
    graph: G,
    images: AnyImages,
    classes: int | str | Sequence[int | str],
    *,
    keep: float = 0.9,
    by: By = "part",
    layers: str | Sequence[str] | None = None,
    candidates: Iterable[str] | None = None,
    replacement: Replacement = "mean",
    reference: AnyImages | None = None,
    measure: Measure = "score",
    labels: Sequence[int | str] | None = None,
    runs: int = 400,
    seed: int = 0,
    outputs: Outputs | None = None,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> Circuit[G]:
    """Find the circuit of a class: see `ExplanatoryGraph.circuit`."""
    check_graph(graph)
    check_by(by)
    check_replacement(replacement)
    if measure not in get_args(Measure):
        raise ExplgraphError(f"measure is {measure!r}; expected 'score' or 'accuracy'")
    if isinstance(keep, bool) or not isinstance(keep, Real) or not 0 < keep <= 1:
        raise ExplgraphError(f"keep is {keep!r}; expected a share above 0 and at most 1")
    runs, seed, keep = whole(runs, "runs"), checked_seed(seed), float(keep)
    images = taken(images, graph.nx.graph["preprocessing"])
    inside, known = _candidates(graph, by, layers, candidates)
    scorer = Scorer(outputs)
    running = {"scorer": scorer, "batch_size": batch_size, "device": device}
    stages = Stages(4, shown=progress, about="circuit")
    with stages.bar:
        with stages.stage(1, "looking at images"):
            halves, named = _halves(model, graph, images, classes, labels, seed, running)
            half = subset(images, halves.search, batch_size)
            stand_ins = StandIns.of(
                replacement, model, graph, inside, half if reference is None else reference,
                seed=seed, **running,
            )  # fmt: skip
        trials = Trials(
            model, graph, inside, [one.nodes for one in known], images, stand_ins, measure,
            **running,
        )  # fmt: skip
        with stages.stage(1, "estimating"):
            adds = trials.estimates(halves.search, halves.of(halves.search))
        worth = [sum(adds[node] for node in one.nodes) for one in known]
        order = sorted(range(len(known)), key=lambda k: -worth[k])
        judge = Judge(trials, halves.search, halves.of(halves.search), seed)
        _check_carried(judge, named, [one.name for one in inside], replacement)
        with stages.stage(1, "searching") as part:
            tried: dict[frozenset[int], float] = {}

            def keeps(sets: Sequence[frozenset[int]]) -> list[float]:
                values = [kept.value for kept in judge.kept([Asked(one) for one in sets])]
                tried.update(zip(sets, values, strict=True))
                part(len(sets) / runs)
                return values

            found = search(order, keeps, keep - _REACHED, max(runs, len(sizes(len(known)))))
        with stages.stage(1, "measuring"):
            measured = _measured(trials, halves, order, found, tried, seed)
    circuit = _told(
        graph, known, order, worth, adds, found, measured, judge, named,
        keep=keep, by=by, layers=tuple(one.name for one in inside), replacement=replacement,
        measure=measure,
    )  # fmt: skip
    for doubt in circuit.doubts:
        warn(f"circuit of {circuit.title}: {doubt}")
    return circuit


def _candidates(
    graph: Graph, by: By, layers: str | Sequence[str] | None, names: Iterable[str] | None
) -> tuple[list[Layer], list[_Candidate]]:
    """Choose layers, and what may be a member: parts or nodes that lie in them."""
    chosen = set(graph.node_ids if names is None else nodes_named(graph, names))
    if by == "part":
        parts = find_parts(graph, None)
        chosen &= {node for part in parts for node in part.nodes}
    layer_of = dict(graph.nx.nodes(data="layer"))
    held = {layer_of[node] for node in chosen}
    known = [layer.name for layer in graph.layers]
    if not chosen:
        raise ExplgraphError(
            "candidates is empty: no node"
            + (" of a part" if by == "part" else "")
            + " is left to choose among; name parts or nodes of the graph, or none for all of them"
        )
    if layers is None:
        # nothing lies between it and the score that could go another way
        inside = {next(name for name in reversed(known) if name in held)}
    else:
        inside = {layers} if isinstance(layers, str) else set(layers)
        if unknown := sorted(inside.difference(known)):
            raise ExplgraphError(
                f"layers names {unknown[0]!r}, which the graph wasn't mined from; its layers are "
                f"{', '.join(known)}"
            )
        if not inside or (empty := sorted(inside.difference(held))):
            raise ExplgraphError(
                "layers is empty; name one of " + ", ".join(n for n in known if n in held)
                if not inside
                else f"layers names {empty[0]!r}, in which no candidate has a node, so that nothing"
                " could be kept there; leave it out"
            )
    if by == "part":
        titles = different_titles(graph.parts)
        named = [(part.id, titles[part.id], part.nodes) for part in graph.parts]
    else:
        nodes = [node for node in graph.nx if node in chosen]
        named = [
            (node, title, (node,))
            for node, title in zip(nodes, names_of_nodes(graph, nodes), strict=True)
        ]
    found = [
        _Candidate(
            id_, title, tuple(v for v in nodes if v in chosen and layer_of[v] in inside)
        )
        for id_, title, nodes in named
    ]  # fmt: skip
    return (
        [layer for layer in graph.layers if layer.name in inside],
        [one for one in found if one.nodes],
    )


def _halves(
    model: nn.Module,
    graph: Graph,
    images: AnyImages,
    classes: int | str | Sequence[int | str],
    labels: Sequence[int | str] | None,
    seed: int,
    running: dict[str, Any],
) -> tuple[_Halves, tuple[tuple[int, str], ...]]:
    """Look at all images once: of which class each is, and for which half."""
    n = count(images)
    if n is None:
        raise ExplgraphError(
            "images don't know how many they are, so that they can't be divided in two; give a "
            "folder, a tensor, or a Dataset that has a length"
        )
    if n < _LEAST:
        raise ExplgraphError(
            f"images holds {n}, too few: half of them find the circuit and half measure it, "
            f"{_LEAST // 2} each at the least; give {_LEAST} or more, some hundreds if you can"
        )
    scores = np.concatenate(
        [
            run(model, batch, (), scorer=running["scorer"]).scores.double().cpu().numpy()
            for _, batch in watched(model, graph, images, progress=False, **running)
        ]
    )
    names = class_names(model, scores.shape[1])
    if isinstance(classes, Iterable) and not isinstance(classes, str):
        asked: list[Any] = list(classes)
    else:
        asked = [] if classes is None else [classes]
    numbers = [class_number(one, names, scores.shape[1]) for one in asked]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ExplgraphError(
            f"classes is {classes!r}; expected a class's number or name, or several different ones"
        )
    titles = tuple((number, class_title(number, names)) for number in numbers)
    if labels is None:
        of = np.array(numbers)[scores[:, numbers].argmax(1)]
    else:
        if len(labels) != n:
            raise ExplgraphError(
                f"labels holds {counted(len(labels), 'class')} for {n} images; give one each"
            )
        of = np.array([class_number(label, names, scores.shape[1]) for label in labels])
        if other := sorted(set(of.tolist()).difference(numbers)):
            raise ExplgraphError(
                f"labels names class {class_title(other[0], names)!r}, which isn't among classes; "
                "leave its images out, or give them as reference= alone"
            )
    search: list[int] = []
    measure: list[int] = []
    random = np.random.default_rng(seed)
    for number, title in titles:
        mine = random.permutation(np.flatnonzero(of == number)).tolist()
        if len(mine) < 2:
            raise ExplgraphError(
                f"class {title!r}: {counted(len(mine), 'image')} of {n} "
                + ("has" if len(mine) == 1 else "have")
                + (
                    " this label"
                    if labels is not None
                    else " it as the highest of the classes asked"
                )
                + ", and each half needs one at the least; give images that show it, or leave the "
                "class out"
            )
        # what is odd goes where fewer are
        half = (len(mine) + (len(search) <= len(measure))) // 2
        search += mine[:half]
        measure += mine[half:]
    return _Halves(of, sorted(search), sorted(measure)), titles


def _check_carried(
    judge: Judge, classes: Sequence[tuple[int, str]], layers: Sequence[str], replacement: str
) -> None:
    """Refuse a class whose score isn't carried by the layers, or that no image shows."""
    carried = judge.carried()
    if carried.low > 0:
        return
    raise ExplgraphError(
        f"classes: {few(name for _, name in classes)} has {judge.whole.mean():.3g} with the whole "
        f"network and {judge.nothing.mean():.3g} with all of {few(layers)} replaced "
        f"({replacement}), {carried.value:+.2g} more ({carried.low:+.2g} to {carried.high:+.2g}): "
        "nothing that a circuit could keep. Give images that show the class; where all of them do, "
        "give others whose activation stands in (reference=, at the shell --reference), or have it "
        "replaced by zero (replacement=)"
    )


class _Measured(NamedTuple):
    """What was measured on the other half."""

    kept: Kept
    ceiling: Kept
    necessity: Kept
    by_chance: list[float]
    without: list[float]  # each member: what the others keep
    curve: tuple[Point, ...]
    whole: float
    nothing: float
    images: int


def _measured(
    trials: Trials,
    halves: _Halves,
    order: Sequence[int],
    found: Found,
    tried: dict[frozenset[int], float],
    seed: int,
) -> _Measured:
    """Measure a circuit on the images that it was not found on."""
    judge = Judge(trials, halves.measure, halves.of(halves.measure), seed)
    members = frozenset(found.members)
    everything = frozenset(order)
    random = np.random.default_rng(seed)
    drawn = [
        frozenset(random.choice(len(order), len(members), replace=False).tolist())
        for _ in range(_CHANCE if members != everything else 0)
    ]
    singly = [members - {one} for one in found.members]
    prefixes = [frozenset(order[:k]) for k in sizes(len(order))]
    asked = [members, everything, *drawn, *singly, *prefixes]
    kept = judge.kept([Asked(one) for one in asked] + [Asked(members, away=True)])
    own, ceiling, *rest, necessity = kept
    by_chance, rest = rest[: len(drawn)], rest[len(drawn) :]
    curve = tuple(
        Point(len(prefix), tried[prefix], point)
        for prefix, point in zip(prefixes, rest[len(singly) :], strict=True)
    )
    return _Measured(
        own, ceiling, necessity,
        [one.value for one in by_chance], [one.value for one in rest[: len(singly)]], curve,
        float(judge.whole.mean()), float(judge.nothing.mean()), len(halves.measure),
    )  # fmt: skip


def _told(
    graph: G,
    known: Sequence[_Candidate],
    order: Sequence[int],
    worth: Sequence[float],
    adds: dict[str, float],
    found: Found,
    measured: _Measured,
    judge: Judge,
    classes: tuple[tuple[int, str], ...],
    *,
    keep: float,
    by: By,
    layers: tuple[str, ...],
    replacement: Replacement,
    measure: Measure,
) -> Circuit[G]:
    """Put the circuit together."""
    # estimates of an accuracy are of a lead in the score: of all that they add up to
    size = judge.carried().value if measure == "score" else max(sum(map(abs, worth)), 1e-12)
    members = [
        Member(
            known[k].id, known[k].title, len(known[k].nodes), worth[k] / size,
            measured.kept.value - left,
        )
        for k, left in zip(found.members, measured.without, strict=True)
    ]  # fmt: skip
    members.sort(key=lambda member: -member.necessity)
    nodes = {node: k for k in found.members for node in known[k].nodes}
    necessity = {member.id: member.necessity for member in members}
    own = graph.restricted(nodes)
    for node, k in nodes.items():
        own.nx.nodes[node]["contribution"] = adds[node] / size
        own.nx.nodes[node]["necessity"] = necessity[known[k].id]
    own.validate()
    by_chance = float(np.mean(measured.by_chance)) if measured.by_chance else float("nan")
    reached = found.kept >= keep - _REACHED
    return Circuit(
        own, tuple(members), measured.kept, found.kept, measured.ceiling, measured.necessity,
        by_chance, measured.curve, tuple(known[k].id for k in order), keep, reached, found.minimal,
        found.asked, classes, by, layers, replacement, measure, measured.whole, measured.nothing,
        (len(judge.whole), measured.images),
        tuple(_doubts(found, measured, keep, by_chance, by, layers, reached=reached)),
    )  # fmt: skip


def _doubts(
    found: Found,
    measured: _Measured,
    keep: float,
    by_chance: float,
    by: By,
    layers: Sequence[str],
    *,
    reached: bool,
) -> Iterator[str]:
    """Say why a circuit may be little worth."""
    if not reached:
        if by == "part":
            what = "nodes of no part carry the rest, or units that no node answers for: by='node'"
        else:
            what = "units that no node answers for carry the rest: another replacement"
        fewer = ", or fewer layers" if len(layers) > 1 else ", or another layer"
        yield (
            f"{keep:.0%} can't be kept; the most that any of the sets tried keeps is "
            f"{found.most:.0%}, and this one has {found.kept:.0%}. {what[0].upper()}{what[1:]}"
            f"{fewer} may keep more"
        )
    elif measured.kept.high < keep:
        yield (
            f"on images that it was not found on it keeps {measured.kept}, less than the "
            f"{keep:.0%} that were asked for; give more images, or a higher keep"
        )
    if by_chance >= measured.kept.low:
        yield (
            f"as many at random keep {by_chance:.0%}, so that it says little which ones are members"
        )
    if not found.minimal:
        yield (
            f"it may be larger than need be: {counted(found.asked, 'run')} were not enough to "
            "leave out each member; give more by runs="
        )
    if not measured.kept.high - measured.kept.low <= 1:
        yield (
            f"how much is kept is hardly known: {measured.kept.low:.0%} to "
            f"{measured.kept.high:.0%}, more than all that {few(layers)} "
            f"{'carry' if len(layers) > 1 else 'carries'}; give more images, or some that show "
            "the class more clearly"
        )
