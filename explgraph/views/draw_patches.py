"""What drawings show of nodes and parts: their best patches, and which come first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from explgraph.graph.graph import Graph
from explgraph.graph.parts import Part
from explgraph.parsed_parts import ParsedParts
from explgraph.parsing import Parse, parts_in
from explgraph.views.pictures import (
    Drawable,
    Pictures,
    Sighting,
    best_sightings,
    columns_of,
    part_side,
    part_sightings,
    patch,
    patch_side,
)

__all__ = ["Patches"]

_WHOLE = 0.9  # of a patch is picture; a node at an image's border shows mostly grey
_SPARE = 2  # times as many are looked at, for those that are whole


class Patches:
    """Cuts the best patches of nodes and parts out of images, if there are any.

    Parameters
    ----------
    graph : Graph
    images : ImageFolder, (N, H, W, 3) uint8 colours or list of PIL images, or None
        Without any, everything has no patch.
    parse : Parse or None
        Of the images; without it, what the graph remembers of those that it was mined from.
    """

    def __init__(self, graph: Graph, images: Drawable | None, parse: Parse | None) -> None:
        self._graph = graph
        self._parse = parse
        self._found: ParsedParts | None = None
        if parse is not None:
            columns_of(graph, parse)
            self._found = parts_in(graph, parse) if graph.parts else None
        names = None if parse is None else parse.names
        self.pictures = None if images is None else Pictures(images, graph.image_size, names)
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def of_part(self, part: Part, count: int, size: int) -> list[NDArray[np.uint8]]:
        """Give a part's best patches, (size, size, 3) each; fewer where it was seen less often."""
        if self.pictures is None:
            return []
        seen = part_sightings(part, self.pictures, self._found, _SPARE * count)
        return self._cut(seen, part_side(self._graph.image_size), count, size)

    def of_node(self, node: str, count: int, size: int) -> list[NDArray[np.uint8]]:
        """Give a node's best patches, (size, size, 3) each; fewer where it was seen less often."""
        if self.pictures is None:
            return []
        seen = best_sightings(self._graph, node, self.pictures, self._parse, _SPARE * count)
        return self._cut(seen, patch_side(self._graph, node), count, size)

    def of_nodes(self, nodes: Sequence[str]) -> tuple[NDArray[np.uint8], list[Sighting]] | None:
        """Give the image in which the worst seen of some nodes is seen best, and where all are.

        None if no image is known to show all of them.
        """
        if self.pictures is None:
            return None
        seen = [
            {place.image: place for place in best_sightings(
                self._graph, node, self.pictures, self._parse, len(self.pictures)
            )}
            for node in nodes
        ]  # fmt: skip
        best = [max((place.score for place in places.values()), default=1.0) for places in seen]
        shared = sorted(set.intersection(*(set(places) for places in seen)))
        if not shared:
            return None
        image = max(
            shared,
            key=lambda i: min(p[i].score / b for p, b in zip(seen, best, strict=True)),
        )
        return self._picture(image), [places[image] for places in seen]

    def _cut(
        self, seen: Sequence[Sighting], side: float, count: int, size: int
    ) -> list[NDArray[np.uint8]]:
        """Cut the first patches that lie in their images, and others if those are too few."""
        cut = [patch(self._picture(p.image), p.x, p.y, side, size) for p in seen]
        whole = sorted(range(len(cut)), key=lambda k: (cut[k][1].mean() < _WHOLE, k))
        return [cut[k][0] for k in whole[:count]]

    def _picture(self, image: int) -> NDArray[np.uint8]:
        """Give an image, read once."""
        assert self.pictures is not None
        if image not in self._kept:
            self._kept[image] = self.pictures[image]
        return self._kept[image]
