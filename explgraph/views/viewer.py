"""The explorer: one page, complete in itself, that shows a graph in any browser.

`viewer.html` beside this file is the page; here the graph and its pictures are put into it. The
page asks the network for nothing: a Content-Security-Policy in it forbids that, and allows no
script but its own, by its digest. All names and labels travel as JSON in which every ``<``, ``>``
and ``&`` is escaped, and the script puts them into the page as text only.

Patches travel as tiles of a few JPEG sheets, the pictures of the image strip one by one, and where
the nodes are in them as whole numbers.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
import os
import re
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explgraph.atomic import atomic_write
from explgraph.errors import ExplgraphError
from explgraph.graph.file import read
from explgraph.graph.graph import Graph
from explgraph.graph.schema import CLASS_EFFECT, class_effects
from explgraph.parsing import Parse
from explgraph.views.layout import ordered_layers
from explgraph.views.pictures import (
    Drawable,
    Pictures,
    best_sightings,
    columns_of,
    mean_patch,
    patch,
    patch_side,
)

__all__ = ["page", "serve", "write_html", "write_thumbnails"]

_TILE = 64  # px; a multiple of JPEG's 16 px blocks, so that tiles don't run into each other
_MEAN_OF = 8  # best patches that the mean patch is made of
_TOP = 8  # best patches shown of a node
_MOST_TILES = 6000  # of best patches; then only the most reliable nodes have them
_SHEET = 24  # tiles along the side of a sheet
_QUALITY = 72
_STRIP_SIDE = 320  # px, of the pictures of the strip, at most


def write_html(
    graph: Graph,
    path: str | os.PathLike[str],
    *,
    images: Drawable | None = None,
    parse: Parse | None = None,
    strip: int = 60,
) -> None:
    """Write the explorer page: see `page` for the options."""
    content = page(graph, images=images, parse=parse, strip=strip, title=Path(path).stem)
    with atomic_write(path) as temporary:
        temporary.write_text(content, encoding="utf-8", errors="backslashreplace")


def page(
    graph: Graph,
    *,
    images: Drawable | None = None,
    parse: Parse | None = None,
    strip: int = 60,
    title: str = "explanatory graph",
) -> str:
    """Make the explorer page of a graph.

    Parameters
    ----------
    graph : ExplanatoryGraph
    images : ImageFolder, (N, H, W, 3) uint8 colours or list of PIL images, optional
        Where the patches are cut from: those that the graph was mined from, or others along with
        their parse. Nodes are plain dots without.
    parse : Parse, optional
        Where all nodes are in `images`, by name. Without it the page knows the places only that
        the graph remembers (``graph.top_images``).
    strip : int
        At most so many images are put into the page whole, evenly chosen.
    title : str
        Of the page.

    Returns
    -------
    str
        HTML; a few hundred kB for a graph without images, a few MB with.

    Raises
    ------
    ExplgraphError
        If the images and the parse don't fit the graph or each other.
    """
    if isinstance(strip, bool) or not isinstance(strip, int) or strip < 0:
        raise ExplgraphError(f"strip is {strip!r}; expected a number of images, 0 or more")
    if parse is not None and images is None:
        raise ExplgraphError("parse needs the images that were parsed; give images=, too")
    content = _graph_content(graph) | {"title": title}
    if images is not None:
        pictures = Pictures(images, graph.image_size, None if parse is None else parse.names)
        _check_names(graph, pictures, parse)
        content |= _patch_content(graph, pictures, parse)
        content["strip"] = _strip_content(graph, pictures, parse, strip)
    return _filled(content, title)


def write_thumbnails(
    graph: Graph,
    folder: str | os.PathLike[str],
    images: Drawable,
    *,
    parse: Parse | None = None,
    size: int = 96,
) -> dict[str, Path]:
    """Write the mean patch of each node to a file, for drawings by Graphviz.

    ``graph.write("x.svg", pictures=write_thumbnails(graph, "thumbnails", images))`` draws the
    nodes with them.

    Parameters
    ----------
    graph : ExplanatoryGraph
    folder : path
        Made if it is missing.
    images, parse
        As for `page`.
    size : int
        Side of the files' pictures, px.

    Returns
    -------
    dict of str to Path
        Node id to PNG file; nodes that were seen in none of the images have none.
    """
    pictures = Pictures(images, graph.image_size, None if parse is None else parse.names)
    _check_names(graph, pictures, parse)
    means, _ = _node_patches(graph, pictures, parse, size)
    files = {}
    for number, node in enumerate(graph.node_ids):
        if node in means:
            # a node's id may hold characters that no file's name can
            files[node] = Path(folder) / f"node-{number:05}.png"
            with atomic_write(files[node]) as temporary:
                Image.fromarray(means[node]).save(temporary)
    return files


# ------------------------------------------------------------------------------------- the content


def _graph_content(graph: Graph) -> dict[str, Any]:
    """Nodes and edges as columns."""
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
            {"name": layer.name, "channels": layer.channels, "grid": [layer.width, layer.height]}
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
            for name in ("consistency", "dx", "dy", "sigma")
        }
        | _measured(["effect"], [a for _, _, a in edges]),
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


def _check_names(graph: Graph, pictures: Pictures, parse: Parse | None) -> None:
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


def _node_patches(
    graph: Graph, pictures: Pictures, parse: Parse | None, size: int
) -> tuple[dict[str, NDArray[np.uint8]], dict[str, list[tuple[NDArray[np.uint8], str, float]]]]:
    """Mean patch of each node, and its best patches with image and score."""
    if parse is not None:
        columns_of(graph, parse)
    places = {
        node: best_sightings(graph, node, pictures, parse, _MEAN_OF) for node in graph.node_ids
    }
    wanted: dict[int, list[tuple[str, int]]] = {}
    for node, seen in places.items():
        for rank, place in enumerate(seen):
            wanted.setdefault(place.image, []).append((node, rank))
    cut: dict[str, list[Any]] = {node: [None] * len(seen) for node, seen in places.items()}
    for image in sorted(wanted):  # each picture is read once
        picture = pictures[image]
        for node, rank in wanted[image]:
            place = places[node][rank]
            cut[node][rank] = patch(picture, place.x, place.y, patch_side(graph, node), size)
    means = {node: mean_patch(patches) for node, patches in cut.items() if patches}
    best = {
        node: [
            (patches[rank][0], pictures.names[places[node][rank].image], places[node][rank].score)
            for rank in range(min(_TOP, len(patches)))
        ]
        for node, patches in cut.items()
    }
    return means, best


def _patch_content(graph: Graph, pictures: Pictures, parse: Parse | None) -> dict[str, Any]:
    """Sheets of mean patches and of best patches, and which tile is whose."""
    means, best = _node_patches(graph, pictures, parse, _TILE)
    nodes = graph.node_ids
    reliable = sorted(nodes, key=lambda node: -graph.nx.nodes[node]["reliability"])
    tiles: list[NDArray[np.uint8]] = []
    first: dict[str, int] = {}
    for node in reliable:
        if len(tiles) + len(best[node]) > _MOST_TILES:
            break
        first[node] = len(tiles)
        tiles += [colours for colours, _, _ in best[node]]
    drawn = [node for node in nodes if node in means]
    number = {node: k for k, node in enumerate(drawn)}
    return {
        "tile": _TILE,
        "sheet": _SHEET,
        "mean_sheets": list(_sheets([means[node] for node in drawn])),
        "mean_tile": [number.get(node, -1) for node in nodes],
        "top_sheets": list(_sheets(tiles)),
        "top_tile": [first.get(node, -1) for node in nodes],
        "top": [
            [[name, _rounded(score)] for _, name, score in best[node]] if node in first else []
            for node in nodes
        ],
        "patch_side": [_rounded(patch_side(graph, node)) for node in nodes],
    }


def _sheets(tiles: Sequence[NDArray[np.uint8]]) -> Iterator[str]:
    """Lay tiles out in square sheets, row by row."""
    per_sheet = _SHEET * _SHEET
    for start in range(0, len(tiles), per_sheet):
        here = tiles[start : start + per_sheet]
        rows = math.ceil(len(here) / _SHEET)
        sheet = np.full((rows * _TILE, _SHEET * _TILE, 3), 128, np.uint8)
        for k, tile in enumerate(here):
            row, column = divmod(k, _SHEET)
            sheet[row * _TILE : (row + 1) * _TILE, column * _TILE : (column + 1) * _TILE] = tile
        yield _jpeg(Image.fromarray(sheet))


def _jpeg(picture: Image.Image) -> str:
    """Encode a picture as a data address."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _strip_content(
    graph: Graph, pictures: Pictures, parse: Parse | None, most: int
) -> dict[str, Any]:
    """Pictures of the strip, and where every node is in them.

    Places are 16-bit numbers from one side before the image (0) to one side behind it (65535),
    scores 8-bit shares of the node's best; 0 where the place isn't known or the node isn't there.
    """
    known = list(range(len(pictures)))
    if parse is not None:
        known = [pictures.index(name) for name in parse.names]
    chosen = [known[k * len(known) // min(most, len(known))] for k in range(min(most, len(known)))]
    nodes = graph.node_ids
    positions = np.zeros((len(chosen), len(nodes), 2))
    shares = np.zeros((len(chosen), len(nodes)))
    if parse is not None:
        row = {name: n for n, name in enumerate(parse.names)}
        rows = [row[pictures.names[i]] for i in chosen]
        columns = columns_of(graph, parse)
        positions = parse.positions[rows][:, columns].astype(float)
        best = parse.scores[:, columns].max(0)
        shares = parse.scores[rows][:, columns] / np.maximum(best, 1e-12)
    else:
        slot = {image: k for k, image in enumerate(chosen)}
        for v, node in enumerate(nodes):
            seen = best_sightings(graph, node, pictures, None, len(pictures))
            for place in seen:
                if place.image in slot:
                    positions[slot[place.image], v] = place.x, place.y
                    shares[slot[place.image], v] = place.score / seen[0].score
    height, width = graph.image_size
    whole = (positions / [width, height] + 1) / 3 * 65535
    scores = np.where(shares > 0, np.maximum(np.rint(255 * shares), 1), 0)
    data = [_jpeg(_small(pictures[i])) for i in chosen]
    return {
        "names": [pictures.names[i] for i in chosen],
        "pictures": data,
        "of": len(known),
        "complete": parse is not None,
        "positions": _packed(np.rint(whole.clip(0, 65535)).astype("<u2")),
        "scores": _packed(scores.clip(0, 255).astype(np.uint8)),
    }


def _small(picture: NDArray[np.uint8]) -> Image.Image:
    """Shrink a picture that is larger than the page shows it."""
    drawn = Image.fromarray(picture)
    drawn.thumbnail((_STRIP_SIDE, _STRIP_SIDE))
    return drawn


def _packed(array: NDArray[Any]) -> str:
    """Give an array's bytes as text."""
    return base64.b64encode(array.tobytes()).decode()


def _filled(content: dict[str, Any], title: str) -> str:
    """Put the content into the page."""
    template = resources.files("explgraph.views").joinpath("viewer.html").read_text("utf-8")
    script = template.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    data = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    for character in "<>&":
        data = data.replace(character, f"\\u{ord(character):04x}")
    values = {"TITLE": html.escape(title), "DIGEST": digest, "DATA": data}
    # in one go, so that a mark in a title or a label is no mark
    return re.sub("@(TITLE|DIGEST|DATA)@", lambda mark: values[mark[1]], template)


# ------------------------------------------------------------------------------------- the server


def serve(
    graph: Graph | str | os.PathLike[str],
    images: Drawable | None = None,
    *,
    parse: Parse | None = None,
    port: int = 0,
    open_browser: bool = True,
) -> None:
    """Show a graph in the browser, from a server on this machine only, until Ctrl-C.

    Parameters
    ----------
    graph : ExplanatoryGraph or path
        A path is of a file that ``graph.save`` wrote.
    images, parse
        As for `page`.
    port : int
        0 takes a free one.
    open_browser : bool
        Open the page; otherwise its address is only printed.

    Raises
    ------
    ExplgraphError
        If the graph can't be read or the port is taken.
    """
    with serving(graph, images, parse=parse, port=port) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        print(f"The explorer is at {address} (Ctrl-C ends it)", flush=True)
        if open_browser:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


@contextmanager
def serving(
    graph: Graph | str | os.PathLike[str],
    images: Drawable | None = None,
    *,
    parse: Parse | None = None,
    port: int = 0,
) -> Iterator[ThreadingHTTPServer]:
    """Give a server that is bound to 127.0.0.1 and knows one page; `serve` runs it."""
    title = "explanatory graph"
    if not isinstance(graph, Graph):
        title = Path(graph).stem
        graph = read(graph, Graph)
    content = page(graph, images=images, parse=parse, title=title).encode()
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, content))
    except (OSError, OverflowError) as err:
        raise ExplgraphError(
            f"can't serve on port {port}: {getattr(err, 'strerror', None) or err}; "
            "port=0 takes a free one"
        ) from err
    with server:
        yield server


class _Handler(BaseHTTPRequestHandler):
    """Answers ``/`` with the page and everything else with 404."""

    def __init__(self, content: bytes, *arguments: Any) -> None:
        self._content = content
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer a request."""
        host = (self.headers.get("Host") or "").rpartition(":")[0]
        if host not in ("127.0.0.1", "localhost"):
            self.send_error(403)  # another site's name that was made to point here
        elif self.path.partition("?")[0] != "/":
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(self._content)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(self._content)

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002
        """Stay quiet."""
