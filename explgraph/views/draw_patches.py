"""What drawings show of nodes and parts: their best patches, and which come first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from explgraph.graph.graph import Graph
from explgraph.graph.parts import Part
from explgraph.parsed import Parse, parts_in
from explgraph.parsed_parts import ParsedParts
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

__all__ = ["Patches", "sees"]


def sees(graph: Graph, node: str) -> str:
    """Say how far the units of a node's layer see."""
    field: float = graph.nx.nodes[node]["receptive_field"]
    return "sees all" if field >= max(graph.image_size) else f"sees {field:.0f} px"


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
        self._pictures = None if images is None else Pictures.of(images, graph.image_size, parse)
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def of_part(self, part: Part, count: int, size: int) -> list[NDArray[np.uint8]]:
        """Give a part's best patches, (size, size, 3) each; fewer where it was seen less often."""
        if self._pictures is None:
            return []
        seen = part_sightings(part, self._pictures, self._found, count)
        return self._cut(seen, part_side(self._graph.image_size), size)

    def of_node(self, node: str, count: int, size: int) -> list[NDArray[np.uint8]]:
        """Give a node's best patches, (size, size, 3) each; fewer where it was seen less often."""
        if self._pictures is None:
            return []
        seen = best_sightings(self._graph, node, self._pictures, self._parse, count)
        return self._cut(seen, patch_side(self._graph, node), size)

    def of_nodes(self, nodes: Sequence[str]) -> tuple[NDArray[np.uint8], list[Sighting]] | None:
        """Give the image in which the worst seen of some nodes is seen best, and where all are.

        None if no image is known to show all of them.
        """
        if self._pictures is None:
            return None
        seen = [
            {place.image: place for place in best_sightings(
                self._graph, node, self._pictures, self._parse, len(self._pictures)
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

    def around(
        self, image: str, x: float, y: float, side: float, size: int, *, centred: bool
    ) -> NDArray[np.uint8] | None:
        """Give what is around a place of an image, (size, size, 3); None if it isn't there.

        With the place in the middle, grey beyond the image's border, or moved into the image.
        """
        if self._pictures is None or image not in self._pictures:
            return None
        k = self._pictures.index(image)
        if centred:
            return patch(self._picture(k), x, y, side, size)[0]
        return self._cut([Sighting(k, x, y, 1.0)], side, size)[0]

    def _cut(self, seen: Sequence[Sighting], side: float, size: int) -> list[NDArray[np.uint8]]:
        """Cut patches; what lies at an image's border is moved into it, so that none is grey."""
        cut = []
        for place in seen:
            picture = self._picture(place.image)
            high, wide = picture.shape[:2]
            x = float(np.clip(place.x, min(side, wide) / 2, wide - min(side, wide) / 2))
            y = float(np.clip(place.y, min(side, high) / 2, high - min(side, high) / 2))
            cut.append(patch(picture, x, y, side, size)[0])
        return cut

    def _picture(self, image: int) -> NDArray[np.uint8]:
        """Give an image, read once."""
        if self._pictures is not None and image not in self._kept:
            self._kept[image] = self._pictures[image]
        return self._kept[image]
