"""Questions about the graph itself: whether two things are the same, whether one is noise.

Marks teach more, so these are rare: none before `FIRST` images were answered, one after every
`EVERY` images at most, and only what matters to the parts that are taught:

1. *Noise*: a part of the graph that stands still and of which less is certain than of most, whose
   nodes vote for a part that is taught. It is asked if without those votes the left-out marks would
   be missed by less, and by more than what a further mark is expected to gain: both are errors, so
   they can be weighed against each other. Only the part with most votes is tried.
2. *Two parts that may be one*: the nodes nearest to what is taught lie half in one part of the
   graph and half in another, which lie at the same place in most images. The name that is taught
   would be given to neither.
3. *One part that may be two*: the nodes nearest to two things that are taught lie in one part.

Of the last two nothing about places depends, only which part gets which name. They are asked once
five more marks gain less than `IDLE` of the error, so that a mark is no longer worth much.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from explgraph.parsed import parts_in
from explgraph.teaching.fits import Fits
from explgraph.teaching.question import Kind
from explgraph.teaching.record import Record

__all__ = ["Doubt", "next_doubt"]

FIRST = 5
EVERY = 5
IDLE = 0.25
VOTES = 0.05
"""Share of a taught part's votes from which noise among them matters."""
CLOSE = 0.06
"""Share of the diagonal within which two parts lie at one place: as near as votes count as rigid
(`voting.NEAR`)."""
NAMED = 5
"""Nodes that get a taught part's name, as `Localizer.label` gives it."""


class Doubt(NamedTuple):
    """A question about the graph: see `Question`."""

    kind: Kind
    things: tuple[str, ...]
    reason: str


def next_doubt(fits: Fits, record: Record, gain: float, error: float) -> Doubt | None:
    """Give a question about the graph, if one is due and worth more than a mark.

    Parameters
    ----------
    fits : Fits
    record : Record
    gain, error : float
        Of the last `Progress`.
    """
    answered = len(record.answered())
    asked = [one for one in record.asked.values() if one.kind != "mark"]
    if answered < FIRST + EVERY * len(asked) or answered % EVERY or not np.isfinite(gain):
        return None
    known = {frozenset(one.things) for one in asked}
    doubt = _noise(fits, known, gain / 5)
    if doubt is None and gain < IDLE * error:
        doubt = _joined(fits, known) or _apart(fits, known)
    return doubt


def _noise(fits: Fits, known: set[frozenset[str]], worth: float) -> Doubt | None:
    """Find a part without whose votes marks that are left out would be missed by less."""
    parts = [one for one in fits.graph.parts if one.still and frozenset([one.id]) not in known]
    usual = np.median([one.reliability for one in fits.graph.parts] or [0.0])
    ids = fits.graph.node_ids
    votes: Counter[str] = Counter()
    for fitted in fits.parts.values():
        for template in fitted.templates:
            for v, trust in zip(template.voters, 1 / template.spread, strict=True):
                votes[ids[v]] += trust / (1 / template.spread).sum() / len(fitted.templates)
    share = {
        one.id: sum(votes[node] for node in one.nodes) / len(fits.parts)
        for one in parts
        if one.reliability <= usual
    }
    best = max(share, key=lambda part: share[part], default=None)
    if best is None or share[best] < VOTES:
        return None
    out = set(fits.graph.part(best).nodes)
    without = np.array([node not in out for node in ids], dtype=np.bool_)
    without &= fits.seen.nodes.votes
    gained = fits.gained_by(without) / fits.seen.nodes.diagonal
    if not gained > worth:
        return None
    return Doubt(
        "noise", (best,), "It stands still whatever the object does, and leads the guesses astray."
    )


def _holders(fits: Fits) -> dict[str, list[tuple[str, str]]]:
    """By taught part, its nearest nodes and the graph's parts that hold them, nearest first."""
    localizer = fits.localizer()
    nodes = fits.graph.nx.nodes
    return {
        name: [(v, nodes[v].get("part", "")) for v in localizer.nodes_of(name, NAMED)]
        for name in fits.parts
    }


def _apart(fits: Fits, known: set[frozenset[str]]) -> Doubt | None:
    """Find two parts of the graph at what is taught as one."""
    for name, nodes in _holders(fits).items():
        count = Counter(part for _, part in nodes if part)
        pair = [part for part, _ in count.most_common(2)]
        if len(pair) < 2 or 2 * count[pair[0]] > len(nodes) or frozenset(pair) in known:
            continue
        pooled = parts_in(fits.graph, fits.parse)
        first, second = (pooled.positions[:, pooled.parts.index(part)] for part in pair)
        there = _both(pooled.presence, [pooled.parts.index(part) for part in pair])
        gap = np.linalg.norm(first - second, axis=1)[there]
        if len(gap) and np.median(gap) < CLOSE * fits.seen.nodes.diagonal:
            told = f"Both lie where you mark {name}, so that neither can be called so."
            return Doubt("same", (pair[0], pair[1]), told)
    return None


def _both(presence: NDArray[np.float32], pair: list[int]) -> NDArray[np.bool_]:
    """Say which images show both parts."""
    first, second = (presence[:, pair] >= 0.5).T
    return np.asarray(first & second)


def _joined(fits: Fits, known: set[frozenset[str]]) -> Doubt | None:
    """Find one part of the graph at two things that are taught."""
    holder: dict[str, tuple[str, str]] = {}
    for name, nodes in _holders(fits).items():
        count = Counter(part for _, part in nodes if part)
        part, held = next(iter(count.most_common(1)), ("", 0))
        if not part or 2 * held <= len(nodes):
            continue
        node = next(v for v, of in nodes if of == part)
        if part in holder:
            other, twin = holder[part]
            if twin != node and frozenset([twin, node]) not in known:
                told = f"One part of the graph lies where you mark {other} and where you mark "
                return Doubt("same", (twin, node), f"{told}{name}.")
        holder.setdefault(part, (name, node))
    return None
