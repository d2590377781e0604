"""The search for a small set that keeps enough: order, halve, leave out.

What a set keeps is asked of `Keeps`, and every set that is asked costs a run of the network, so
questions are put in rounds of several sets, and no more than a given number is asked.

1. *Prefixes.* Candidates come in an order, the most promising first. The first 1, 2, 3, 4, 6, 8,
   ... are tried, then the sizes between the largest that keeps too little and the smallest that
   keeps enough.
2. *Leaving out.* Begun with twice as many, for the order is estimated: what is measured may think
   better of those behind. Each member (or, where questions are short, each of some groups of them)
   is left out by itself. Those without which enough is kept go, the most superfluous first, as
   many at once as can; then all that is left is tried again, until nothing more can go.

The result is minimal, if questions lasted: no member can be left out. That no other set is smaller
is not said; to know would take all of them.

References
----------
Subset selection by a ranking and backward elimination: Kohavi and John, "Wrappers for feature
subset selection", Artificial Intelligence 1997, section 3. Circuits by a threshold on estimated
effects: Marks et al., "Sparse feature circuits", 2024, section 3; by elimination, edge by edge:
Conmy et al. (ACDC), NeurIPS 2023, algorithm 1. Departure: prefixes by estimates, elimination by
what is measured, in the order of what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

__all__ = ["Found", "Keeps", "search", "sizes"]

Keeps: TypeAlias = Callable[[Sequence[frozenset[int]]], Sequence[float]]
"""Gives what each of some sets of candidates, by their numbers, keeps."""

_AT_ONCE = 16  # sets of a round: the more, the fewer rounds, but the more is asked in vain


class Found(NamedTuple):
    """What a search found.

    Attributes
    ----------
    members : tuple of int
        In the given order.
    kept : float
        By them.
    most : float
        The most that any of the sets that were tried keeps.
    minimal : bool
        Whether each member was left out by itself, and none can be.
    asked : int
        Sets that were tried.
    """

    members: tuple[int, ...]
    kept: float
    most: float
    minimal: bool
    asked: int


class _Asked:
    """Asks what sets keep, each once, and counts."""

    def __init__(self, keeps: Keeps, most: int) -> None:
        self._keeps, self._limit = keeps, most
        self.known: dict[frozenset[int], float] = {}

    @property
    def left(self) -> int:
        """How many more may be asked."""
        return self._limit - len(self.known)

    def __call__(self, sets: Sequence[frozenset[int]]) -> list[float]:
        """Give what each set keeps; NaN never is among what a network gives."""
        new = list(dict.fromkeys(some for some in sets if some not in self.known))
        if new:
            self.known.update(zip(new, self._keeps(new), strict=True))
        return [self.known[some] for some in sets]


def sizes(n: int) -> list[int]:
    """Give 1, 2, 3, 4, 6, 8, 12, ..., n: every size is within a half of one of them."""
    tried = {n}
    power = 1
    while power < n:
        tried |= {power, min(n, power + power // 2)}
        power *= 2
    return sorted(tried)


def search(order: Sequence[int], keeps: Keeps, keep: float, most: int) -> Found:
    """Look for a small set of candidates that keeps enough.

    Parameters
    ----------
    order : sequence of int
        The candidates, the most promising first; at least one.
    keeps : callable
    keep : float
        What is enough. Where no prefix of the order keeps it, as much as one of them does is.
    most : int
        Sets to be asked.

    Returns
    -------
    Found
        Its ``kept`` is at least `keep`, or what most is kept by a prefix.
    """
    ask = _Asked(keeps, most)
    first = _prefix(order, ask, keep)
    enough = min(keep, ask.known[frozenset(first)])
    members, minimal = first, len(first) == 1
    wide = list(order[: 2 * len(first)])
    # where not even all of these keep enough, some speak against the class: then without them
    if not minimal and (ask.left < 2 or ask([frozenset(wide)])[0] >= enough):
        members, minimal = _reduced(wide, ask, enough)
    if len(members) > len(first) or (members == first and not minimal):
        members, minimal = _reduced(first, ask, enough)
    return Found(
        tuple(members),
        ask.known[frozenset(members)],
        max(ask.known.values()),
        minimal,
        len(ask.known),
    )


def _reduced(members: list[int], ask: _Asked, enough: float) -> tuple[list[int], bool]:
    """Leave out what can be; say whether each that is left was tried."""
    while len(members) > 1 and ask.left >= 2:
        groups = _groups(members, ask.left)
        without = ask([frozenset(members).difference(group) for group in groups])
        order_out = sorted(range(len(groups)), key=lambda k: -without[k])  # stable
        free = [groups[k] for k in order_out if without[k] >= enough]
        if not free:
            return members, all(len(group) == 1 for group in groups)
        gone = _gone(members, free, ask, enough)
        members = [member for member in members if member not in gone]
    return members, len(members) == 1


def _prefix(order: Sequence[int], ask: _Asked, keep: float) -> list[int]:
    """Give the shortest prefix that keeps enough, or the one that keeps most."""
    tried = sizes(len(order))
    found = dict(zip(tried, ask([frozenset(order[:k]) for k in tried]), strict=True))
    if max(found.values()) < keep:
        keep = max(found.values())
    while True:
        enough = min(k for k, kept in found.items() if kept >= keep)
        below = max((k for k in found if k < enough), default=0)
        between = range(below + 1, enough)
        some = between[:: -(-len(between) // _AT_ONCE)] if between else ()
        if not some or ask.left < len(some):
            return list(order[:enough])
        found |= zip(some, ask([frozenset(order[:k]) for k in some]), strict=True)


def _groups(members: Sequence[int], left: int) -> list[list[int]]:
    """Divide members, in their order, so that half of the questions that are left can try each."""
    size = -(-len(members) // max(1, left // 2))
    return [list(members[k : k + size]) for k in range(0, len(members), size)]


def _gone(
    members: Sequence[int], free: Sequence[Sequence[int]], ask: _Asked, enough: float
) -> set[int]:
    """Leave out as many of the groups, each of which can go by itself, as can go together."""
    whole = frozenset(members)
    tried = [k for k in sizes(len(free)) if k > 1][: max(0, ask.left)]
    sets = [whole.difference(*free[:k]) for k in tried]
    tried = [k for k, some in zip(tried, sets, strict=True) if some]  # nothing keeps nothing
    kept = ask([some for some in sets if some])
    most = max((k for k, value in zip(tried, kept, strict=True) if value >= enough), default=1)
    return {member for group in free[:most] for member in group}
