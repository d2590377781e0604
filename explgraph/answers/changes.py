"""What differs between two graphs' networks: pairs, tests, what became of every part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from explgraph.answers.at_places import APART
from explgraph.answers.compared import Change, Kind, Match, State
from explgraph.answers.paired import Things, distances, exchange_p, matched
from explgraph.answers.sides import Look, Side

__all__ = ["Pairing", "changes_of", "matches_of", "pair_up"]

Array = NDArray[np.float64]

_HALF = 0.5  # what the other network's maps keep less of has vanished
_BY_CHANCE = 2000  # pairs at least, of things matched with images exchanged
_EACH = 40  # exchanges for each test: one change can stand out among all at a rate of 5 %
_LEAST, _MOST = 999, 20_000  # exchanges, unless told otherwise
_ROUNDING = 1e-9  # differences that are none


class Pairing(NamedTuple):
    """Which of A's and B's things were matched.

    Attributes
    ----------
    partner, elsewhere : mapping of int to int
        By A's number B's: matched beyond chance, and in the same place or in another.
    told : mapping of int to (float, float, float)
        By A's number: similarity, p, q.
    apart : (V, W) float64
        Distances, px of network A's image.
    beyond_chance : float
        Share of the pairs.
    """

    partner: Mapping[int, int]
    elsewhere: Mapping[int, int]
    told: Mapping[int, tuple[float, float, float]]
    apart: Array
    beyond_chance: float


class _Test(NamedTuple):
    """Something changed if the means of all `differences` (N,) are above 0."""

    kind: Kind
    side: int
    thing: int
    column: int
    before: float
    after: float
    strength: float
    differences: tuple[Array, ...]


def pair_up(
    sides: Sequence[Side], at_b: Array, image_size: tuple[int, int], *, fdr: float, seed: int
) -> Pairing:
    """Match A's things with B's, which are `at_b` (N, W, 2) px of network A's image."""
    seen = Things(sides[0].at, sides[0].there), Things(at_b, sides[1].there)
    fewer = min(len(side.ids) for side in sides)
    pairs = matched(*seen, exchanges=math.ceil(_BY_CHANCE / fewer), seed=seed)
    q = false_discovery_control(pairs.p)
    apart = distances(*seen)
    limit = APART * math.sqrt(image_size[0] * image_size[1])
    partner: dict[int, int] = {}
    elsewhere: dict[int, int] = {}
    told = {}
    for m, (one, other) in enumerate(zip(pairs.one.tolist(), pairs.other.tolist(), strict=True)):
        told[one] = float(pairs.similarity[m]), float(pairs.p[m]), float(q[m])
        if q[m] <= fdr:
            (partner if apart[one, other] <= limit else elsewhere)[one] = other
    return Pairing(partner, elsewhere, told, apart, float((q <= fdr).mean()))


def changes_of(
    sides: Sequence[Side],
    looks: Sequence[Look],
    pairing: Pairing,
    classes: Sequence[str],
    *,
    margin: float,
    fdr: float,
    permutations: int | None,
    seed: int,
) -> tuple[Change, ...]:
    """Test what vanished, appeared, moved, changed its effect on one of K classes."""
    alone = sorted(set(range(len(sides[1].ids))) - set(pairing.partner.values()))
    things = (range(len(sides[0].ids)), alone)
    tests = [*_gone(looks, pairing.elsewhere, margin), *_effects(looks, things, margin)]
    columns = np.stack([column for test in tests for column in test.differences], 1)
    columns[np.abs(columns) < _ROUNDING] = 0
    count = min(max(_LEAST, _EACH * len(tests)), _MOST) if permutations is None else permutations
    each = iter(exchange_p(columns, permutations=count, seed=seed))
    # all of a test's differences must hold; an effect may change either way
    p = [
        min(1.0, max(next(each) for _ in test.differences) * (2 if test.kind == "effect" else 1))
        for test in tests
    ]
    changes = [
        Change(
            test.kind,
            "ab"[test.side],
            sides[test.side].ids[test.thing],
            sides[test.side].titles[test.thing],
            classes[test.column] if test.kind == "effect" else "",
            test.before,
            test.after,
            test.strength,
            float(one),
            float(corrected),
            bool(corrected <= fdr),
        )
        for test, one, corrected in zip(tests, p, false_discovery_control(p), strict=True)
    ]
    # of what moved it isn't told again that it vanished here and appeared there
    told = set()
    for test, change in zip(tests, changes, strict=True):
        if test.kind == "moved" and change.changed:
            told |= {("vanished", test.thing), ("appeared", pairing.elsewhere[test.thing])}
    kept = [
        change
        for test, change in zip(tests, changes, strict=True)
        if (test.kind, test.thing) not in told
    ]
    return tuple(sorted(kept, key=lambda change: (not change.changed, -change.strength)))


def _gone(looks: Sequence[Look], elsewhere: Mapping[int, int], margin: float) -> list[_Test]:
    """Test what vanished (of A), appeared (in B), or both: moved."""

    def gone(side: int, thing: int) -> tuple[Array, ...]:
        one, two = (looks[side].answers[net][:, thing] for net in (side, 1 - side))
        return _HALF * one - two, one - two - margin

    def share(side: int, net: int, thing: int) -> float:
        return float(looks[side].answers[net][:, thing].mean())

    tests = []
    kinds: tuple[tuple[Kind, int], ...] = (("vanished", 0), ("appeared", 1))
    for kind, side in kinds:
        for thing in range(looks[side].answers[0].shape[1]):
            a, b = share(side, 0, thing), share(side, 1, thing)
            strength = _root(a) - _root(b) if kind == "vanished" else _root(b) - _root(a)
            tests.append(_Test(kind, side, thing, -1, a, b, strength, gone(side, thing)))
    for thing, other in elsewhere.items():
        here, there = share(0, 1, thing), share(1, 1, other)
        columns = (*gone(0, thing), *gone(1, other))
        tests.append(_Test("moved", 0, thing, -1, here, there, _root(there) - _root(here), columns))
    return tests


def _effects(looks: Sequence[Look], things: Sequence[Sequence[int]], margin: float) -> list[_Test]:
    """Test effects on classes."""
    tests = []
    for side, chosen in enumerate(things):
        one, other = looks[side].effects
        for thing in chosen:
            for column in range(one.shape[2]):
                difference = other[:, thing, column] - one[:, thing, column]
                a, b = (float(effect[:, thing, column].mean()) for effect in (one, other))
                beyond = math.copysign(1.0, b - a) * difference - margin
                tests.append(_Test("effect", side, thing, column, a, b, abs(b - a), (beyond,)))
    return tests


def _root(share: float) -> float:
    return math.sqrt(max(share, 0.0))


def matches_of(
    sides: Sequence[Side],
    looks: Sequence[Look],
    pairing: Pairing,
    changes: Sequence[Change],
    at_b: Array,
) -> tuple[Match, ...]:
    """Say what became of every thing."""
    flagged = {(one.kind, one.part) for one in changes if one.changed}  # kinds know whose
    rows = []
    used: set[int] = set()
    for thing, name in enumerate(sides[0].ids):
        other = pairing.partner.get(thing)
        state: State = "alone" if other is None else "same"
        if ("moved", name) in flagged:
            other, state = pairing.elsewhere[thing], "moved"
        elif ("vanished", name) in flagged:
            other, state = None, "vanished"
        if other is None:
            rows.append(_alone(sides, looks, 0, thing, state))
            continue
        used.add(other)
        weight = sides[0].there[:, thing] * sides[1].there[:, other]
        way = weight @ (at_b[:, other] - sides[0].at[:, thing]) / weight.sum()
        similarity, p, q = pairing.told[thing]
        rows.append(
            _alone(sides, looks, 0, thing, state)._replace(
                b=sides[1].ids[other],
                title_b=sides[1].titles[other],
                similarity=similarity,
                p=p,
                q=q,
                distance=float(pairing.apart[thing, other]),
                dx=float(way[0]),
                dy=float(way[1]),
            )
        )
    for other, name in enumerate(sides[1].ids):
        if other not in used:
            state = "appeared" if ("appeared", name) in flagged else "alone"
            rows.append(_alone(sides, looks, 1, other, state))
    return tuple(rows)


def _alone(
    sides: Sequence[Side], looks: Sequence[Look], side: int, thing: int, state: State
) -> Match:
    """Give a thing without a partner."""
    named = [("", ""), ("", "")]
    named[side] = sides[side].ids[thing], sides[side].titles[thing]
    (a, title_a), (b, title_b) = named
    shares = (float(answers[:, thing].mean()) for answers in looks[side].answers)
    return Match(a, b, title_a, title_b, state, *(math.nan,) * 6, *shares)
