"""Parts as they are known so far, fitted anew only where something was said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from explgraph.answers.localize import Localizer
from explgraph.answers.located import Located
from explgraph.answers.part_templates import FittedPart
from explgraph.answers.poses import pose_distance
from explgraph.answers.prepared import Found, Prepared, answered, may_vote, prepare
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.parsed import Parse, parts_in
from explgraph.teaching.question import Guess

__all__ = ["Fits", "Marks"]

Array = NDArray[np.float64]
Marks = tuple[Array, NDArray[np.bool_]]
"""Of a part: places (N, 2) px, NaN where it is unmarked; (N,) whether it is known to be absent."""

USUAL = 0.1
"""Of the diagonal: how far what people mean is from the middle of one of the graph's parts."""


class Fits:
    """Fitted parts, and where they are in all images.

    Attributes
    ----------
    graph : ExplanatoryGraph
        With what was decided on its parts.
    seen : Prepared
    parts : dict of str to FittedPart
        Those that are marked somewhere.
    found : dict of str to Found
        Of the same.
    marks : dict of str to (N, 2) px
        That they were fitted to, NaN where unmarked.
    """

    def __init__(self, graph: ExplanatoryGraph, parse: Parse) -> None:
        self.graph, self.parse = graph, parse
        self.seen: Prepared = prepare(graph, parse)
        self._distance: tuple[list[int], Array] | None = None
        self.parts: dict[str, FittedPart] = {}
        self.found: dict[str, Found] = {}
        self.marks: dict[str, Marks] = {}
        self._of_graph: dict[str, tuple[Array, Array]] | None = None

    def decide(self, graph: ExplanatoryGraph) -> None:
        """Take up another graph of the same nodes: rejected parts' nodes no longer vote."""
        votes = may_vote(graph)
        self.graph, self._of_graph = graph, None
        if (votes != self.seen.nodes.votes).any():
            self.seen = self.seen._replace(nodes=self.seen.nodes._replace(votes=votes))
            self._distance, self.marks = None, {}

    def update(self, marks: Mapping[str, Marks]) -> None:
        """Fit the parts of which other things are said than before."""
        parts: dict[str, FittedPart] = {}
        found: dict[str, Found] = {}
        for name, said in marks.items():
            if not np.isfinite(said[0]).any():
                continue
            before = self.marks.get(name)
            if before is not None and all(
                np.array_equal(a, b, equal_nan=True) for a, b in zip(said, before, strict=True)
            ):
                parts[name], found[name] = self.parts[name], self.found[name]
                continue
            parts[name] = self.seen.fit(*said)
            found[name] = self.seen.locate(name, parts[name])
        self.parts, self.found = parts, found
        self.marks = {
            name: (said[0].copy(), said[1].copy()) for name, said in marks.items() if name in parts
        }

    def distance(self, rows: Sequence[int]) -> Array:
        """Say how far the poses of some images lie apart, pair by pair, px."""
        if self._distance is None or self._distance[0] != list(rows):
            chosen = self.seen.nodes.posed()
            apart = pose_distance(self.parse.positions[np.ix_(np.array(rows), chosen)])
            self._distance = list(rows), apart
        return self._distance[1]

    def gained_by(self, votes: NDArray[np.bool_]) -> float:
        """Say by how much less left-out marks are missed, px, if only these nodes vote."""
        others = self.seen._replace(nodes=self.seen.nodes._replace(votes=votes))
        gains = [
            float(part.errors.mean() - others.fit(*self.marks[name]).errors.mean())
            for name, part in self.parts.items()
            if part.shots > 1
        ]
        return float(np.mean(gains)) if gains else 0.0

    def guesses_in(self, row: int, parts: Sequence[str]) -> dict[str, Guess]:
        """Guess every part of which something is known, in an image."""
        guesses = {}
        for part in parts:
            if part in self.found:
                found = self.found[part]
                x, y = found.place[row].tolist()
                guesses[part] = Guess((x, y), float(found.radius[row]), float(found.presence[row]))
            elif part in self.of_graph:
                place, radius = (values[row] for values in self.of_graph[part])
                x, y = place.tolist()
                guesses[part] = Guess((x, y), float(radius), math.nan)
        return guesses

    @property
    def of_graph(self) -> dict[str, tuple[Array, Array]]:
        """Places (N, 2) and radii (N,) of the graph's parts, by id, name and title."""
        if self._of_graph is None:
            pooled = parts_in(self.graph, self.parse)
            radius = np.hypot(pooled.radius.astype(np.float64), USUAL * self.seen.nodes.diagonal)
            self._of_graph = {
                text: (pooled.positions[:, k].astype(np.float64), radius[:, k])
                for k, part in enumerate(self.graph.parts)
                for text in (part.id, part.name, part.title)
                if text
            }
        return self._of_graph

    def localizer(self) -> Localizer:
        """Give a localizer of the parts that are marked somewhere."""
        marks = {name: places for name, (places, _) in self.marks.items()}
        return Localizer.of_parts(self.graph, self.seen, self.parts, self.parse.names, marks)

    def located(self) -> Located:
        """Give where the parts are in all images."""
        return answered(self.parse, self.found)
