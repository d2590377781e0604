"""A parse made ready for locating parts: what no mark changes is found once.

`explgraph.Localizer` fits all parts at once; `explgraph.Teacher` fits a part anew whenever
something was said of it, and leaves the others as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from explgraph.answers import voting
from explgraph.answers.located import Located
from explgraph.answers.part_templates import FittedPart, Guess, feature, fit_part, guess, logistic
from explgraph.answers.voting import Nodes
from explgraph.errors import ExplgraphError
from explgraph.evaluation.metrics import normalised_scores, top_scores
from explgraph.graph.graph import Graph
from explgraph.graph.parts import decisions
from explgraph.parsed import Parse

__all__ = ["Found", "Prepared", "answered", "located", "may_vote", "normalised", "prepare"]

Array = NDArray[np.float64]


class Found(NamedTuple):
    """Where one part is in N images: what its templates say, and what is told: see `Located`."""

    said: Guess
    place: Array
    radius: Array
    presence: Array


class Prepared(NamedTuple):
    """N parsed images, in the units in which V nodes vote.

    Attributes
    ----------
    nodes : Nodes
    positions : (N, V, 2) px
    strengths : (N, V)
    """

    nodes: Nodes
    positions: Array
    strengths: Array

    def fit(self, places: Array, gone: NDArray[np.bool_]) -> FittedPart:
        """Fit a part to the images in which it is marked.

        Parameters
        ----------
        places : (N, 2) px
            NaN = unmarked; one mark at least.
        gone : (N,) bool
            Images that are known not to show the part.
        """
        shots = np.flatnonzero(np.isfinite(places[:, 0]))
        missing = np.flatnonzero(gone)
        return fit_part(
            self.nodes,
            self.positions[shots], self.strengths[shots], places[shots],
            self.positions[missing], self.strengths[missing],
        )  # fmt: skip

    def locate(self, name: str, part: FittedPart) -> Found:
        """Locate a part in all of the images.

        Raises
        ------
        ExplgraphError
            If a place isn't finite; names the part.
        """
        with np.errstate(all="ignore"):  # what comes of it is checked
            said = guess(self.nodes, part.templates, part.shots, self.positions, self.strengths)
            place = voting.correct(part.residual, self.positions, said.place, self.nodes.diagonal)
            radius = part.ratio * said.scale
        if not (np.isfinite(place).all() and np.isfinite(radius).all()):
            raise ExplgraphError(
                f"part {name!r} gets a place that is not finite; what was fitted doesn't go "
                "with this parse: fit it again"
            )
        presence = np.full(len(place), np.nan)
        if part.presence is not None:
            slope, intercept = part.presence
            presence = logistic(slope * feature(said.support) + intercept)
        return Found(said, place, radius, presence)


def prepare(graph: Graph, parse: Parse) -> Prepared:
    """Find out what depends on no mark: nodes' best scores, and how much they stray."""
    positions = parse.positions.astype(np.float64)
    scores = parse.scores.astype(np.float64)
    top = top_scores(scores)
    strengths = normalised_scores(scores, top)
    reliability, follows = (
        np.array([values[name] for values in graph.nx.nodes.values()])
        for name in ("reliability", "follows")
    )
    diagonal = float(np.hypot(*parse.image_size))
    stray = voting.stray(positions, strengths, diagonal)
    nodes = Nodes(top, reliability, follows, stray, diagonal, may_vote(graph))
    return Prepared(nodes, positions, strengths)


def may_vote(graph: Graph) -> NDArray[np.bool_]:
    """Say which nodes may vote, (V,): all but those of parts that people rejected.

    Raises
    ------
    ExplgraphError
        If there is none.
    """
    out = {node for one in decisions(graph) if one.rejected for node in one.nodes}
    votes = np.array([node not in out for node in graph.node_ids], dtype=np.bool_)
    if not votes.any():
        raise ExplgraphError("every node belongs to a part that was rejected, so nothing can vote")
    return votes


def normalised(nodes: Nodes, parse: Parse) -> Prepared:
    """Give other images in the units of those that `nodes` are known from."""
    strengths = normalised_scores(parse.scores, nodes.top)
    return Prepared(nodes, parse.positions.astype(np.float64), strengths)


def located(parse: Parse, seen: Prepared, parts: Mapping[str, FittedPart]) -> Located:
    """Locate parts in the images of a parse, in pixels of the photographs as well."""
    return answered(parse, {name: seen.locate(name, part) for name, part in parts.items()})


def answered(parse: Parse, found: Mapping[str, Found]) -> Located:
    """Give what was found of parts as an answer."""
    photo = None
    if parse.has_original:
        photo = {name: parse.to_original(one.place) for name, one in found.items()}
    return Located(
        parse.names,
        {name: one.place for name, one in found.items()},
        {name: one.radius for name, one in found.items()},
        {name: one.presence for name, one in found.items()},
        photo,
    )
