"""Parts as they are known so far, fitted anew only where something was said."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from explgraph.answers.located import Located
from explgraph.answers.part_templates import FittedPart
from explgraph.answers.poses import pose_distance
from explgraph.answers.prepared import Found, Prepared, answered, prepare
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.parsed import Parse

__all__ = ["Fits"]

Array = NDArray[np.float64]


class Fits:
    """Fitted parts, and where they are in all images.

    Attributes
    ----------
    parts : dict of str to FittedPart
        Those that are marked somewhere.
    found : dict of str to Found
        Of the same.
    """

    def __init__(self, graph: ExplanatoryGraph, parse: Parse) -> None:
        self.graph, self.parse = graph, parse
        self.seen: Prepared = prepare(graph, parse)
        self.parts: dict[str, FittedPart] = {}
        self.found: dict[str, Found] = {}
        self._marked: dict[str, bytes] = {}

    @cached_property
    def distance(self) -> Array:
        """How far images' poses lie apart, (N, N) px."""
        return pose_distance(self.parse.positions, self.seen.nodes.reliability)

    def update(self, marked: Mapping[str, tuple[Array, NDArray[np.bool_]]]) -> None:
        """Fit the parts of which other things are said than before.

        Parameters
        ----------
        marked : mapping of str to ((N, 2), (N,) bool)
            By part: places, px, NaN where unmarked; images without it.
        """
        parts: dict[str, FittedPart] = {}
        found: dict[str, Found] = {}
        for name, (places, gone) in marked.items():
            if not np.isfinite(places).any():
                continue
            content = places.tobytes() + gone.tobytes()
            if self._marked.get(name) == content and name in self.parts:
                parts[name], found[name] = self.parts[name], self.found[name]
                continue
            self._marked[name] = content
            parts[name] = self.seen.fit(places, gone)
            found[name] = self.seen.locate(name, parts[name])
        self.parts, self.found = parts, found

    def located(self) -> Located:
        """Give where the parts are in all images."""
        return answered(self.parse, self.found)
