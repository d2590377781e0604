"""What is put into the explorer page: a graph, its parts and pictures, as columns of plain numbers.

`viewer.page` makes a page of it; the scripts in ``page/`` read it. Names are the page's own:
numbers of nodes, parts and images in place of their ids.

Patches travel as tiles of a few JPEG sheets, the pictures of the image strip one by one, and where
nodes and parts are in them as whole numbers. Nodes beyond a fixed number have no tiles: the page
cuts theirs from the strip.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph
from explgraph.graph.parts import Part, decisions
from explgraph.graph.schema import CLASS_EFFECT, class_effects
from explgraph.parsed import Parse
from explgraph.parsed_parts import ParsedParts, Pooling
from explgraph.views.layout import ordered_layers
from explgraph.views.pictures import (
    Pictures,
    Sighting,
    best_sightings,
    columns_of,
    jpeg,
    part_side,
    part_sightings,
    patch,
    patch_side,
)

__all__ = ["check_images", "graph_content", "picture_content"]

_TILE = 64  # px, of a node's patch; a multiple of JPEG's 16 px blocks: tiles don't run together
_PART_TILE = 96  # px, of a part's: four of them are a tile of the page, on screens of 2 px a point
_BEST = 8  # patches of a node or part
_MOST_TILES = 3000  # of nodes' patches, 2 MB or so
_SHEET = 24  # tiles along the side of a sheet
_QUALITY = 72
_STRIP_SIDE = 320  # px, of the pictures of the strip, at most


def check_images(graph: Graph, pictures: Pictures, parse: Parse | None) -> None:
    """Refuse images that nothing is known of."""
    if parse is not None:
        if missing := [name for name in parse.names if name not in pictures]:
            raise ExplgraphError(
                f"parse is of image {missing[0]!r}, which images lacks; give the images that were "
                "parsed"
            )
        return
    known = {name for seen in graph.top_images.values() for name, *_ in seen}
    if known and not any(name in pictures for name in known):
        raise ExplgraphError(
            f"images holds none of those that the graph was mined from, such as {min(known)!r}; "
            "for other images give their parse, too: parse=graph.parse(model, images)"
        )


# ----------------------------------------------------------------------------------- without images


def graph_content(graph: Graph) -> dict[str, Any]:
    """Give nodes, edges and parts as columns."""
    index = {node: k for k, node in enumerate(graph.node_ids)}
    nodes = list(graph.nx.nodes.values())
    order = [[index[node] for node in band] for band in ordered_layers(graph)]
    edges = sorted(graph.nx.edges(data=True), key=lambda edge: -edge[2]["consistency"])
    numbers = ("x", "y", "sigma", "support", "energy", "reliability", "follows", "receptive_field")
    config = graph.nx.graph
    return {
        "image_size": list(graph.image_size),
        "n_images": config["n_images"],
        "fingerprint": config["model_fingerprint"],
        "layers": [
            {
                "name": layer.name,
                "channels": layer.channels,
                "signs": layer.signs,
                "grid": [layer.width, layer.height],
            }
            for layer in graph.layers
        ],
        "order": order,
        "nodes": {
            "layer": [a["layer_index"] for a in nodes],
            "filter": [a["filter"] for a in nodes],
            "pattern": [a["pattern"] for a in nodes],
            "label": {k: a["label"] for k, a in enumerate(nodes) if a["label"]},
            "effects": {
                name.removeprefix(CLASS_EFFECT): values
                for name, values in _measured(class_effects(nodes), nodes).items()
            },
        }
        | {name: [_rounded(a[name]) for a in nodes] for name in numbers},
        "edges": {
            "parent": [index[u] for u, _, _ in edges],
            "child": [index[v] for _, v, _ in edges],
        }
        | {
            name: [_rounded(a[name]) for _, _, a in edges]
            for name in ("consistency", "coactivation", "dx", "dy", "sigma")
        }
        | _measured(["effect"], [a for _, _, a in edges]),
        "parts": _parts_content(graph, index),
    }


def _measured(names: Sequence[str], values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give attributes that not every graph has as columns, None where one is missing."""
    return {
        name: [_rounded(a[name]) if name in a else None for a in values]
        for name in names
        if any(name in a for a in values)
    }


def _rounded(value: float) -> float:
    """Keep three digits behind the point, which no eye tells from more."""
    value = round(value, 3)
    return int(value) if value == int(value) else value


def _parts_content(graph: Graph, index: Mapping[str, int]) -> dict[str, Any]:
    """Give parts as columns, and what joins them.

    ``links`` is None where the graph lacks what it takes to work them out.
    """
    parts = graph.parts
    number = {part.id: k for k, part in enumerate(parts)}
    members = [[index[node] for node in part.nodes] for part in parts]
    try:
        links = list(graph.part_graph().edges(data=True))
    except ExplgraphError:  # without what mining fitted
        links = None
    return {
        "id": [part.id for part in parts],
        "name": [part.name for part in parts],
        "x": [_rounded(part.place[0]) for part in parts],
        "y": [_rounded(part.place[1]) for part in parts],
        "support": [_rounded(part.support) for part in parts],
        "reliability": [_rounded(part.reliability) for part in parts],
        "follows": [_rounded(part.follows) for part in parts],
        "still": [part.still for part in parts],
        "nodes": members,
        "layers": [
            sorted({graph.nx.nodes[node]["layer_index"] for node in part.nodes}) for part in parts
        ],
        "links": None
        if links is None
        else {
            "a": [number[u] for u, _, _ in links],
            "b": [number[v] for _, v, _ in links],
        }
        | {
            name: [_rounded(a[name]) for _, _, a in links]
            for name in ("dx", "dy", "sigma", "copresence", "links")
        }
        | _measured(["effect"], [a for _, _, a in links]),
        "decided": [
            one._asdict() | {"nodes": list(one.nodes), "place": [_rounded(v) for v in one.place]}
            for one in decisions(graph)
        ],
    }


# -------------------------------------------------------------------------------------- with images


def picture_content(
    graph: Graph, pictures: Pictures, parse: Parse | None, strip: int
) -> dict[str, Any]:
    """Give patches of nodes and parts, and `strip` of the images with what is where in them."""
    found = None if parse is None else _found(graph, parse)
    return (
        _node_patches(graph, pictures, parse)
        | {"part_patches": _part_patches(graph, pictures, found)}
        | {"strip": _strip_content(graph, pictures, parse, found, strip)}
    )


def _found(graph: Graph, parse: Parse) -> ParsedParts:
    """Pool the parts; the parse may be of more nodes than the graph was left with."""
    columns = columns_of(graph, parse)
    pooling = Pooling.of(graph)
    pooled = pooling(
        parse.positions[:, columns], parse.expected[:, columns], parse.scores[:, columns]
    )
    return ParsedParts(pooling.parts, pooling.titles, parse.names, *pooled, parse.image_size)


def _cut(
    pictures: Pictures, places: Sequence[tuple[Sequence[Sighting], float]], size: int
) -> list[list[NDArray[np.uint8]]]:
    """Cut patches, `size` px, around sightings; each thing's with the side of its patches, px."""
    wanted: dict[int, list[tuple[int, int]]] = {}
    for k, (seen, _) in enumerate(places):
        for rank, place in enumerate(seen):
            wanted.setdefault(place.image, []).append((k, rank))
    empty = np.empty((0, 0, 3), np.uint8)
    cut = [[empty] * len(seen) for seen, _ in places]
    for image in sorted(wanted):  # each picture is read once
        picture = pictures[image]
        for k, rank in wanted[image]:
            seen, side = places[k]
            cut[k][rank] = patch(picture, seen[rank].x, seen[rank].y, side, size)[0]
    return cut


def _node_patches(graph: Graph, pictures: Pictures, parse: Parse | None) -> dict[str, Any]:
    """Sheets of nodes' best patches, and which tile is whose; parts take turns to have theirs."""
    if parse is not None:
        columns_of(graph, parse)
    nodes = graph.node_ids
    turns = graph.turns(nodes)
    reliability = graph.nx.nodes(data="reliability")
    places: dict[str, list[Sighting]] = {}
    first: dict[str, int] = {}
    count = 0
    for node in sorted(nodes, key=lambda node: (turns[node], -reliability[node])):
        seen = best_sightings(graph, node, pictures, parse, _BEST)
        if count + len(seen) > _MOST_TILES:
            break
        places[node], first[node] = seen, count
        count += len(seen)
    tiles = _cut(pictures, [(seen, patch_side(graph, v)) for v, seen in places.items()], _TILE)
    return {
        "tile": _TILE,
        "sheet": _SHEET,
        "top_sheets": list(_sheets([colours for mine in tiles for colours in mine], _TILE)),
        "top_tile": [first[node] if places.get(node) else -1 for node in nodes],
        "top": [
            [[pictures.names[s.image], _rounded(s.score)] for s in places.get(node, ())]
            for node in nodes
        ],
        "patch_side": [_rounded(patch_side(graph, node)) for node in nodes],
    }


def _part_patches(graph: Graph, pictures: Pictures, found: ParsedParts | None) -> dict[str, Any]:
    """Sheets of parts' best patches: as `_node_patches`, but all have theirs."""
    side = part_side(graph.image_size)
    places = [part_sightings(part, pictures, found, _BEST) for part in graph.parts]
    cut = _cut(pictures, [(seen, side) for seen in places], _PART_TILE)
    first = np.cumsum([0, *map(len, places)])[:-1].tolist()
    return {
        "tile": _PART_TILE,
        "side": _rounded(side),
        "sheets": list(_sheets([colours for mine in cut for colours in mine], _PART_TILE)),
        "first": [k if seen else -1 for k, seen in zip(first, places, strict=True)],
        "top": [[[pictures.names[s.image], _rounded(s.score)] for s in seen] for seen in places],
    }


def _sheets(tiles: Sequence[NDArray[np.uint8]], size: int) -> Iterator[str]:
    """Lay tiles out in sheets, row by row."""
    per_sheet = _SHEET * _SHEET
    for start in range(0, len(tiles), per_sheet):
        here = tiles[start : start + per_sheet]
        rows = math.ceil(len(here) / _SHEET)
        sheet = np.full((rows * size, _SHEET * size, 3), 128, np.uint8)
        for k, tile in enumerate(here):
            row, column = divmod(k, _SHEET)
            sheet[row * size : (row + 1) * size, column * size : (column + 1) * size] = tile
        yield jpeg(sheet, quality=_QUALITY)


def _strip_content(
    graph: Graph, pictures: Pictures, parse: Parse | None, found: ParsedParts | None, most: int
) -> dict[str, Any]:
    """Pictures of the strip, and where nodes and parts are in them.

    Places are 16-bit numbers from one side before the image (0) to one side behind it (65535).
    Scores are 8-bit: a node's as share of its best one, a part's its presence; 0 where the place
    isn't known or nothing is there.
    """
    known = list(range(len(pictures)))
    if parse is not None:
        known = [pictures.index(name) for name in parse.names]
    chosen = [known[k * len(known) // min(most, len(known))] for k in range(min(most, len(known)))]
    parts = graph.parts
    if parse is not None and found is not None:
        row = {name: n for n, name in enumerate(parse.names)}
        rows = [row[pictures.names[i]] for i in chosen]
        columns = columns_of(graph, parse)
        best = parse.scores[:, columns].max(0)
        nodes = (
            parse.positions[rows][:, columns].astype(float),
            parse.scores[rows][:, columns] / np.maximum(best, 1e-12),
        )
        of_parts = found.positions[rows].astype(float), found.presence[rows].astype(float)
    else:

        def seen(node: str) -> list[Sighting]:
            return best_sightings(graph, node, pictures, None, len(pictures))

        def seen_part(part: Part) -> list[Sighting]:
            return part_sightings(part, pictures, None, len(pictures))

        nodes = _remembered(chosen, graph.node_ids, seen)
        of_parts = _remembered(chosen, parts, seen_part)
    return {
        "names": [pictures.names[i] for i in chosen],
        "pictures": [jpeg(pictures[i], _STRIP_SIDE, quality=_QUALITY) for i in chosen],
        "of": len(known),
        "complete": parse is not None,
        **_as_whole_numbers(*nodes, graph.image_size),
        "parts": _as_whole_numbers(*of_parts, graph.image_size),
    }


def _remembered(
    images: Sequence[int], things: Sequence[Any], seen: Callable[[Any], list[Sighting]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places (n, V, 2) and shares of the best score (n, V) where a graph remembers them."""
    positions = np.zeros((len(images), len(things), 2))
    shares = np.zeros((len(images), len(things)))
    slot = {image: k for k, image in enumerate(images)}
    for v, thing in enumerate(things):
        places = seen(thing)
        for place in places:
            if place.image in slot:
                positions[slot[place.image], v] = place.x, place.y
                shares[slot[place.image], v] = place.score / max(places[0].score, 1e-12)
    return positions, shares


def _as_whole_numbers(
    positions: NDArray[np.float64], shares: NDArray[np.float64], image_size: tuple[int, int]
) -> dict[str, str]:
    """Pack places and shares: see `_strip_content`."""
    height, width = image_size
    whole = (positions / [width, height] + 1) / 3 * 65535
    scores = np.where(shares > 0, np.maximum(np.rint(255 * shares), 1), 0)
    return {
        "positions": _packed(np.rint(whole.clip(0, 65535)).astype("<u2")),
        "scores": _packed(scores.clip(0, 255).astype(np.uint8)),
    }


def _packed(array: NDArray[Any]) -> str:
    """Give an array's bytes as text."""
    return base64.b64encode(array.tobytes()).decode()
