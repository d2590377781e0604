"""The And-Or graph of named parts: a part (OR) by templates (AND), a template by nodes that vote.

`Localizer.and_or` measures it (`answers.and_or`), a graph keeps it (`Graph.grown`) and its file
holds it; views draw it. What nodes are is the graph's to say, so only what votes do is kept here,
and nodes that are gone from the graph are gone from it.

References
----------
Zhang, Cao, Wu, Zhu: Growing Interpretable Part Graphs on ConvNets via Multi-Shot Learning, AAAI
2017 (arXiv 1611.04246), fig. 2. Zhang et al.: Mining Object Parts from CNNs via Active
Question-Answering, CVPR 2017 (arXiv 1704.03173). A latent pattern there is a node here; each is an
OR over the units of its filter.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import networkx

from explgraph.brief import counted
from explgraph.errors import ExplgraphError
from explgraph.graph.schema import check_text

__all__ = [
    "NOTHING_GROWN",
    "AndOr",
    "AndOrPart",
    "AndOrTemplate",
    "Shot",
    "Voter",
    "part_id",
    "template_id",
]

NOTHING_GROWN = (
    "the graph keeps nothing of how named parts are located; give "
    "graph.with_and_or(localizer.and_or(parse)), in the shell what explgraph locate --labelled "
    "writes"
)
"""What is told where an And-Or graph is asked for that isn't there."""

_TELLING = 0.9
"""Of the vote: nodes that make it up are shown. Votes have tails: most of the up to 60 voters of a
template share the last tenth."""
_FARTHEST = 1e6  # px, of anything
_KEPT = ("layer", "filter", "pattern", "reliability")  # that is told of a node


class Shot(NamedTuple):
    """An image in which a part is marked.

    Attributes
    ----------
    image : str
        Its name.
    x, y : float
        The mark, px.
    error : float or None
        How far off the part is located there by the other shots, px; None for a single one.
    """

    image: str
    x: float
    y: float
    error: float | None


class Voter(NamedTuple):
    """A node of a template.

    Attributes
    ----------
    node : str
        Its id in the graph.
    dx, dy : float
        From the node to the part, px.
    spread : float
        How far off its vote is expected to be, px.
    share : float
        Of the vote, mean over the images in which the template speaks; 0 if it does in none.
    agreement : float or None
        Share of these images in which its vote lies within the part's stated radius; None if there
        are none.
    """

    node: str
    dx: float
    dy: float
    spread: float
    share: float
    agreement: float | None


@dataclass(frozen=True)
class AndOrTemplate:
    """A template: an AND of nodes, fitted to some of a part's shots.

    Attributes
    ----------
    share : float
        Of the images, in which it speaks for the part.
    shots : tuple of Shot
        That it was fitted to.
    voters : tuple of Voter
        The surest first.
    """

    share: float
    shots: tuple[Shot, ...]
    voters: tuple[Voter, ...]

    @property
    def error(self) -> float | None:
        """How far off its shots are located by the others, px, mean; None for a single one."""
        known = [shot.error for shot in self.shots if shot.error is not None]
        return sum(known) / len(known) if known else None

    def telling(self, most: int | None = None) -> tuple[Voter, ...]:
        """Give the voters that make up nine tenths of the vote, the heaviest first.

        Where the template speaks nowhere, the vote is what their spreads would make it.
        """
        heavy = sorted(self.voters, key=lambda voter: -self._weight(voter))
        whole, some, kept = sum(map(self._weight, heavy)), 0.0, 0
        while kept < len(heavy) and some < _TELLING * whole:
            some += self._weight(heavy[kept])
            kept += 1
        return tuple(heavy[: kept if most is None else min(kept, most)])

    def rest_told(self, shown: int) -> str:
        """Say how many voters there are beside the heaviest, and what they make of the vote."""
        more = len(self.voters) - shown
        if more <= 0:
            return ""
        told = f"and {counted(more, 'node')} more"
        if self.share > 0:
            heavy = sorted((voter.share for voter in self.voters), reverse=True)
            told += f", {sum(heavy[shown:]):.0%} of the vote"
        return told

    def _weight(self, voter: Voter) -> float:
        return voter.share if self.share > 0 else voter.spread**-2


@dataclass(frozen=True)
class AndOrPart:
    """A part: an OR over its templates.

    Attributes
    ----------
    name : str
    radius : float
        Within which it is nine times in ten, px: the median over the images.
    presence : float or None
        Share of the images that show it, as its presence says; None where that isn't known.
    templates : tuple of AndOrTemplate
    """

    name: str
    radius: float
    presence: float | None
    templates: tuple[AndOrTemplate, ...]

    @property
    def marks(self) -> int:
        """In how many images it is marked."""
        return sum(len(template.shots) for template in self.templates)

    @property
    def told(self) -> str:
        """What is known of it, in a sentence."""
        there = "" if self.presence is None else f", in {self.presence:.0%} of the images"
        told = (
            f"{counted(self.marks, 'mark')}{there}, within {self.radius:.0f} px nine times in ten; "
        )
        if len(self.templates) == 1:
            return told + f"one template of {counted(len(self.templates[0].voters), 'node')}"
        *first, last = [f"{template.share:.0%}" for template in self.templates]
        return told + (
            f"{counted(len(self.templates), 'template')}, which speak in {', '.join(first)} and "
            f"{last} of the images"
        )


@dataclass(frozen=True)
class AndOr:
    """What was grown for named parts, and how it was used in some images.

    Attributes
    ----------
    images : int
        In which it was measured.
    parts : tuple of AndOrPart
    """

    images: int
    parts: tuple[AndOrPart, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        """Ids of all nodes that vote, those of the first parts first."""
        votes = (v for part in self.parts for one in part.templates for v in one.voters)
        return tuple(dict.fromkeys(voter.node for voter in votes))

    def restricted(self, nodes: Collection[str]) -> AndOr | None:
        """Keep the votes of some nodes; None if nothing is left.

        Shares stay those of the whole vote. A template without voters goes, and a part without
        templates.
        """
        parts = []
        for part in self.parts:
            templates = [
                replace(one, voters=tuple(voter for voter in one.voters if voter.node in nodes))
                for one in part.templates
            ]
            if left := tuple(one for one in templates if one.voters):
                parts.append(replace(part, templates=left))
        return AndOr(self.images, tuple(parts)) if parts else None

    def network(self, nodes: Mapping[str, Mapping[str, Any]]) -> networkx.DiGraph:
        """Give it as a graph of networkx, with plain JSON scalars as attributes.

        Parameters
        ----------
        nodes : mapping of str to mapping
            The attributes of the explanatory graph's nodes.
        """
        nx = networkx.DiGraph(images=self.images)
        for part in self.parts:
            above = part_id(part.name)
            known = {} if part.presence is None else {"presence": part.presence}
            nx.add_node(
                above, kind="part", logic="or", name=part.name, marks=part.marks,
                radius=part.radius, **known,
            )  # fmt: skip
            for number, template in enumerate(part.templates, 1):
                here = template_id(part.name, number)
                off = {} if template.error is None else {"error": template.error}
                nx.add_node(
                    here, kind="template", logic="and", name=f"{part.name} {number}",
                    share=template.share, marks=len(template.shots),
                    shots=json.dumps([shot.image for shot in template.shots]), **off,
                )  # fmt: skip
                nx.add_edge(above, here, share=template.share)
                for voter in template.voters:
                    values = nodes[voter.node]
                    nx.add_node(
                        voter.node, kind="node", logic="or", name=voter.node,
                        part=values.get("part", ""), **{name: values[name] for name in _KEPT},
                    )  # fmt: skip
                    edge = voter._asdict()
                    del edge["node"]
                    nx.add_edge(
                        here, voter.node,
                        **{name: value for name, value in edge.items() if value is not None},
                    )  # fmt: skip
        return nx

    def table(self, nodes: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Give a row for each vote; ``nodes`` as for `network`."""
        rows = []
        for part in self.parts:
            for number, template in enumerate(part.templates, 1):
                above = {"part": part.name, "template": number, "speaks": template.share}
                for voter in template.voters:
                    values = nodes[voter.node]
                    rows.append(
                        above
                        | voter._asdict()
                        | {
                            "agreement": math.nan if voter.agreement is None else voter.agreement,
                            "layer": values["layer"],
                            "reliability": values["reliability"],
                            "part_of_graph": values.get("part", ""),
                        }
                    )
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain JSON values, as a graph's file holds it."""
        return {
            "images": self.images,
            "parts": [
                {
                    "name": part.name,
                    "radius": part.radius,
                    "presence": part.presence,
                    "templates": [
                        {
                            "share": one.share,
                            "shots": [shot._asdict() for shot in one.shots],
                            "voters": [voter._asdict() for voter in one.voters],
                        }
                        for one in part.templates
                    ],
                }
                for part in self.parts
            ],
        }

    @classmethod
    def from_dict(cls, content: Any) -> AndOr:
        """Make it of what `as_dict` gave; `check` says whether the values are right.

        Raises
        ------
        KeyError, TypeError
            If it is laid out in another way.
        """
        return cls(
            content["images"],
            tuple(
                AndOrPart(
                    part["name"],
                    part["radius"],
                    part["presence"],
                    tuple(
                        AndOrTemplate(
                            one["share"],
                            tuple(Shot(**shot) for shot in one["shots"]),
                            tuple(Voter(**voter) for voter in one["voters"]),
                        )
                        for one in part["templates"]
                    ),
                )
                for part in content["parts"]
            ),
        )

    def check(self, nodes: Collection[str]) -> None:
        """Check all values; the nodes that vote are to be among these.

        Raises
        ------
        ExplgraphError
            At the first fault: says where it is, what was found and what was expected.
        """
        if type(self.images) is not int or self.images < 1:
            raise ExplgraphError(f"the And-Or graph: images is {self.images!r}; expected 1 or more")
        if not self.parts:
            raise ExplgraphError("the And-Or graph has no part")
        names: set[str] = set()
        for part in self.parts:
            where = f"the And-Or graph: part {part.name!r:.80}"
            if not isinstance(part.name, str) or part.name in names:
                raise ExplgraphError(f"{where} has no name of its own")
            check_text(where, part.name)
            names.add(part.name)
            _check_number(where, "radius", part.radius, 0, _FARTHEST)
            _check_number(where, "presence", part.presence, 0, 1, unknown=True)
            if not part.templates:
                raise ExplgraphError(f"{where} has no template")
            for number, template in enumerate(part.templates, 1):
                _check_template(f"{where}, template {number}", template, nodes)


def part_id(part: str) -> str:
    """Give a part's name in the graph of networkx: no template's, and no node's, which end in 0-9.

    Examples
    --------
    >>> part_id("head")
    'head (part)'
    """
    return f"{part} (part)"


def template_id(part: str, number: int) -> str:
    """Give a template's name in the graph of networkx; they are numbered from 1.

    Examples
    --------
    >>> template_id("head", 1)
    'head (template 1)'
    """
    return f"{part} (template {number})"


def _check_template(where: str, template: AndOrTemplate, nodes: Collection[str]) -> None:
    """Check a template."""
    _check_number(where, "share", template.share, 0, 1)
    if not template.shots or not template.voters:
        raise ExplgraphError(f"{where} has no shot or no voter")
    for shot in template.shots:
        if not isinstance(shot.image, str):
            raise ExplgraphError(f"{where}: a shot's image is {shot.image!r:.80}; expected a name")
        told = f"{where}, shot {shot.image!r:.80}"
        for name in ("x", "y"):
            _check_number(told, name, getattr(shot, name), 0, _FARTHEST)
        _check_number(told, "error", shot.error, 0, _FARTHEST, unknown=True)
    seen: set[str] = set()
    for voter in template.voters:
        told = f"{where}, node {voter.node!r:.80}"
        if not isinstance(voter.node, str) or voter.node not in nodes or voter.node in seen:
            raise ExplgraphError(f"{told} votes twice, or is none of the graph's")
        seen.add(voter.node)
        for name in ("dx", "dy"):
            _check_number(told, name, getattr(voter, name), -_FARTHEST, _FARTHEST)
        _check_number(told, "spread", voter.spread, 1e-6, _FARTHEST)
        _check_number(told, "share", voter.share, 0, 1)
        _check_number(told, "agreement", voter.agreement, 0, 1, unknown=True)


def _check_number(
    where: str, name: str, found: Any, low: float, high: float, *, unknown: bool = False
) -> None:
    """Check that something is a plain number within bounds, or None if it may be unknown."""
    if found is None and unknown:
        return
    if type(found) is not float or not math.isfinite(found) or not low <= found <= high:
        raise ExplgraphError(
            f"{where}: {name} is {found!r:.80}; expected a float from {low:g} to {high:g}"
            + " or None" * unknown
        )
