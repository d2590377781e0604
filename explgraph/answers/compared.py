"""What a comparison of two graphs holds: pairs of parts or nodes, and what changed.

Apart from `comparison`, where it writes itself, so that the page needs nothing of that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from explgraph.brief import counted, few

__all__ = ["Change", "Compared", "Kind", "Match", "State", "in_short"]

Kind: TypeAlias = Literal["vanished", "appeared", "moved", "effect"]
State: TypeAlias = Literal["same", "moved", "vanished", "appeared", "alone"]
"""What became of a part: it is the same; the same thing in another place; only one network's maps
answer to it; or (*alone*) both networks' do, but only one graph has it as a part of its own."""


def in_short(value: float, digits: int = 2) -> str:
    """Tell a number with some digits, 0 without a sign, and nothing where it isn't known."""
    return "" if math.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


class Match(NamedTuple):
    """A part (or node) of one graph and that of the other one that is the same thing, if any is.

    Attributes
    ----------
    a, b : str
        Their ids; empty where there is none.
    title_a, title_b : str
    state : {"same", "moved", "vanished", "appeared", "alone"}
    similarity : float
        1 if always at the same place at the same time, 0 as by chance; NaN without a partner.
    p, q : float
        Of such a similarity with images exchanged; `q` corrected for the number of pairs.
    distance : float
        Root mean square distance, px of network A's image.
    dx, dy : float
        Mean way from A's to B's, px of network A's image.
    answers_a, answers_b : float
        Share of the variance of network A's (B's) maps at the place that goes with the presence of
        the part: of A's one at its place or, if there is none, of B's.
    """

    a: str
    b: str
    title_a: str
    title_b: str
    state: State
    similarity: float
    p: float
    q: float
    distance: float
    dx: float
    dy: float
    answers_a: float
    answers_b: float


class Change(NamedTuple):
    """Something that was tested: whether it differs between the two networks.

    Attributes
    ----------
    kind : {"vanished", "appeared", "moved", "effect"}
    graph : {"a", "b"}
        Whose part it is.
    part, title : str
        The part or node, by id and name.
    class_title : str
        The class that an effect is on; else empty.
    before, after : float
        Of network A and B. An effect: by how many standard deviations of the class's score what is
        at the place adds more for each of the part's presence. Vanished, appeared: shares of the
        variance of the maps at the part's place that go with its presence. Moved: the same shares
        of network B's maps: of A's part at A's place, and of its partner at the partner's place.
    strength : float
        What changes are ranked by, in standard deviations for each of the part's presence: of the
        class's score, or (roots of the shares) of what the maps do at the place; of what moved
        the lesser of what it lost here and gained there.
    p, q : float
        Probability of so much without a change beyond `Compared.margin`; `q` corrected for the
        number of all tests.
    changed : bool
        Whether q is at most `Compared.fdr`.
    """

    kind: Kind
    graph: str
    part: str
    title: str
    class_title: str
    before: float
    after: float
    strength: float
    p: float
    q: float
    changed: bool

    def told(self) -> str:
        """Say it in a few words."""
        numbers = f"{in_short(self.before)} to {in_short(self.after)}"
        whose = f"{few([self.title])} of {self.graph.upper()}"
        if self.kind == "effect":
            return f"{whose}: its effect on {few([self.class_title])}, {numbers}"
        return f"{whose} {self.kind}, {numbers}"


@dataclass(frozen=True, eq=False, repr=False)
class Compared:
    """Two graphs side by side, over the same photographs.

    Attributes
    ----------
    by : {"part", "node"}
    matches : tuple of Match
        A's parts or nodes in the graph's order, then B's that have no partner.
    changes : tuple of Change
        All that was tested: what changed, then the rest, either the strongest first.
    classes : tuple of str
        Effects on which were compared.
    images : int
        How many both networks saw.
    beyond_chance : float
        Share of the parts or nodes (of the graph that has fewer) that the assignment matched with
        one that is more similar than by chance, wherever that sits.
    fdr, margin : float
    doubts : tuple of str
        What should be known before it is believed.
    patches : dict of (str, str) to tuple of str
        For pages: by graph ("a", "b") and id, JPEGs as data addresses.
    """

    by: str
    matches: tuple[Match, ...]
    changes: tuple[Change, ...]
    classes: tuple[str, ...]
    images: int
    beyond_chance: float
    fdr: float
    margin: float
    doubts: tuple[str, ...]
    patches: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)

    @property
    def changed(self) -> tuple[Change, ...]:
        """What changed, the strongest first: tests whose q is at most `fdr`."""
        return tuple(change for change in self.changes if change.changed)

    def count(self, state: State) -> int:
        """Count the parts or nodes of a state."""
        return sum(match.state == state for match in self.matches)

    def summary(self) -> str:
        """Say in a line how many are the same, moved, vanished, appeared, and what changed most."""
        states: tuple[State, ...] = ("same", "moved", "vanished", "appeared", "alone")
        told = ", ".join(f"{self.count(state)} {state}" for state in states if self.count(state))
        effects = sum(change.kind == "effect" for change in self.changed)
        told = f"{counted(len(self.matches), self.by)}: {told}"
        if self.classes:
            told += (
                f"; {counted(effects, 'effect')} on {counted(len(self.classes), 'class')} changed"
            )
        most = f"; most: {self.changed[0].told()}" if self.changed else "; nothing changed"
        return told + most
