"""What is said of a circuit: its members, and how far they stand for the network.

`circuit.Circuit` is this as users have it; what draws and writes needs no more than this.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from explgraph import rows
from explgraph.brief import counted, few
from explgraph.circuits.trials import Measure
from explgraph.explaining.by_part import By
from explgraph.explaining.replaced import Replacement
from explgraph.graph.graph import Graph

__all__ = ["HEAD", "CircuitAccount", "Kept", "Member", "Point"]

G = TypeVar("G", bound=Graph)

HEAD = ("member", "id", "nodes", "adds (estimate)", "kept less without it")
_STANDS_IN = {
    "zero": "no activation",
    "mean": "its mean over images",
    "resampled": "another image's",
}


class Kept(NamedTuple):
    """A share of what the layers carry, with a 95 % interval over images.

    Attributes
    ----------
    value, low, high : float
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.0%} ({self.low:.0%} to {self.high:.0%})"


class Member(NamedTuple):
    """A part or a node of a circuit.

    Attributes
    ----------
    id, title : str
        Its id; its name, or "part 3".
    nodes : int
        That it has in the layers.
    contribution : float
        What it adds, estimated on the images of the search, as a share of what the layers carry.
    necessity : float
        By how much less the circuit keeps without it, on images that were not used to find it.
    """

    id: str
    title: str
    nodes: int
    contribution: float
    necessity: float


class Point(NamedTuple):
    """What the first candidates in the order of their contributions keep.

    Attributes
    ----------
    size : int
        How many.
    search : float
        On the images of the search.
    kept : Kept
        On the other images.
    """

    size: int
    search: float
    kept: Kept


@dataclass(frozen=True, eq=False, repr=False)
class CircuitAccount(Generic[G]):
    """Parts or nodes that a class's score is left with when all else in their layers is replaced.

    What a set of candidates *keeps* is the measure with it, less the
    measure with everything in the layers replaced, over what the whole network has more than that;
    measures are means over images. 1 is as much as the whole network, 0 as nothing.

    Attributes
    ----------
    graph : ExplanatoryGraph
        The circuit's nodes and the edges between them. Nodes have two attributes more,
        ``contribution`` (their own) and ``necessity`` (their member's); see `Member`.
    members : tuple of Member
        The parts or nodes, the most necessary first.
    kept : Kept
        By the circuit, on images that were not used to find it.
    kept_in_search : float
        The same on the images of the search: at least `keep`, where that can be reached.
    ceiling : Kept
        By all candidates together.
    necessity : Kept
        What is lost when the circuit alone is replaced and all else stays.
    by_chance : float
        Kept by as many candidates at random, mean over several draws; NaN if all are members.
    curve : tuple of Point
    order : tuple of str
        Ids of all candidates, the largest estimated contribution first.
    keep : float
        What was asked for.
    reached : bool
        Whether that much is kept on the images of the search.
    minimal : bool
        Whether each member was left out by itself on the images of the search, and none can be.
    runs : int
        Sets of candidates that the network was run with to find the circuit.
    classes : tuple of (int, str)
        Numbers and names.
    by, layers, replacement, measure
        As they were asked for.
    whole, nothing : float
        The measure with nothing replaced, and with everything in the layers.
    images : (int, int)
        How many the circuit was found on, and measured on.
    doubts : tuple of str
        Why the circuit may be little worth; empty if nothing speaks against it.
    """

    graph: G
    members: tuple[Member, ...]
    kept: Kept
    kept_in_search: float
    ceiling: Kept
    necessity: Kept
    by_chance: float
    curve: tuple[Point, ...]
    order: tuple[str, ...]
    keep: float
    reached: bool
    minimal: bool
    runs: int
    classes: tuple[tuple[int, str], ...]
    by: By
    layers: tuple[str, ...]
    replacement: Replacement
    measure: Measure
    whole: float
    nothing: float
    images: tuple[int, int]
    doubts: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self.members)

    @property
    def title(self) -> str:
        """The classes' names."""
        return few(name for _, name in self.classes)

    @property
    def told(self) -> tuple[str, ...]:
        """Say in some sentences what was asked and what was found, measured on other images."""
        found, measured = self.images
        few_layers = few(self.layers)
        by_chance = (
            "" if self.by_chance != self.by_chance
            else f"; as many at random keep {self.by_chance:.0%}"
        )  # fmt: skip
        keep, them = ("keeps", "it") if len(self) == 1 else ("keep", "them")
        return (
            f"{counted(len(self), self.by)} of {len(self.order):,} {keep} {self.kept} of what "
            f"{few_layers} carries of the {self.measure}{by_chance}",
            f"Without {them}, all else in place, {self.necessity} of it is lost; all "
            f"{len(self.order):,} together keep {self.ceiling}",
            f"The {self.measure} is {self.whole:.3g} with the whole network and {self.nothing:.3g} "
            f"with all of {few_layers} replaced by {_STANDS_IN[self.replacement]}",
            f"Found on {counted(found, 'image')} by {counted(self.runs, 'run')} over them, "
            f"measured on {measured:,} others; the search asked for {self.keep:.0%} and has "
            f"{self.kept_in_search:.0%}"
            + (", and no member can be left out" if self.minimal else ""),
        )

    def table(self) -> list[dict[str, Any]]:
        """Give a row for each member."""
        return [member._asdict() for member in self.members]

    def as_dict(self) -> dict[str, Any]:
        """Give all but the graph as JSON values."""
        given = {
            "by": self.by,
            "classes": [{"number": number, "name": name} for number, name in self.classes],
            "layers": list(self.layers),
            "replacement": self.replacement,
            "measure": self.measure,
            "keep": self.keep,
            "reached": self.reached,
            "minimal": self.minimal,
            "runs": self.runs,
            "images": {"search": self.images[0], "measured": self.images[1]},
            "whole": self.whole,
            "nothing": self.nothing,
            "kept": self.kept._asdict(),
            "kept_in_search": self.kept_in_search,
            "ceiling": self.ceiling._asdict(),
            "necessity": self.necessity._asdict(),
            "by_chance": self.by_chance,
            "doubts": list(self.doubts),
            "members": self.table(),
            "nodes": list(self.graph.node_ids),
            "order": list(self.order),
            "curve": [
                {"size": one.size, "search": one.search, **one.kept._asdict()} for one in self.curve
            ],
        }
        (finite,) = rows.finite([given])
        return finite

    def cells(self) -> list[list[str]]:
        """Give the members' rows as they are read."""
        return [
            [member.title, member.id, f"{member.nodes:,}", f"{member.contribution:+.1%}",
             f"{member.necessity:+.1%}"]
            for member in self.members
        ]  # fmt: skip
