"""The explorer: one page, complete in itself, that shows a graph in any browser.

The page lies in ``page/`` beside this file, as markup, style and scripts; here they are put
together with what `page_content` says of a graph. The page asks the network for nothing: a
Content-Security-Policy in it forbids that, and allows no script but its own, by its digest. All
names and labels travel as JSON in which every ``<``, ``>`` and ``&`` is escaped, and the scripts
put them into the page as text only.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image

from explgraph.atomic import atomic_write
from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError
from explgraph.graph.file import read
from explgraph.graph.graph import Graph
from explgraph.parsed import Parse
from explgraph.views.page_content import check_images, graph_content, picture_content
from explgraph.views.pictures import Drawable, Pictures, best_sightings, patch, patch_side

__all__ = ["page", "serve", "write_html", "write_thumbnails"]

# in this order they are one script; what a file needs while it runs stands above it
_SCRIPTS = (
    "data",
    "elements",
    "patches",
    "decisions",
    "choice",
    "parts",
    "part_map",
    "nodes",
    "moving",
    "details",
    "images",
    "controls",
    "start",
)


def write_html(
    graph: Graph,
    path: str | os.PathLike[str],
    *,
    images: Drawable | None = None,
    parse: Parse | None = None,
    strip: int = 60,
) -> None:
    """Write the explorer page: see `page` for the options."""
    content = page(graph, images=images, parse=parse, strip=strip, title=_title(graph, path))
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
        their parse. Without them the page has no pictures.
    parse : Parse, optional
        Where all nodes are in `images`, by name. Without it the page knows the places only that
        the graph remembers (``graph.top_images``), and says so.
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
    content = graph_content(graph) | {"title": title}
    if images is not None:
        pictures = Pictures.of(images, graph.image_size, parse)
        check_images(graph, pictures, parse)
        content |= picture_content(graph, pictures, parse, strip)
    return _filled(content, title)


def write_thumbnails(
    graph: Graph,
    folder: str | os.PathLike[str],
    images: Drawable,
    *,
    parse: Parse | None = None,
    size: int = 96,
) -> dict[str, Path]:
    """Write the best patch of each node to a file, for drawings by Graphviz.

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
    pictures = Pictures.of(images, graph.image_size, parse)
    check_images(graph, pictures, parse)
    files = {}
    for number, node in enumerate(graph.node_ids):
        for place in best_sightings(graph, node, pictures, parse, 1):
            side = patch_side(graph, node)
            best, _ = patch(pictures[place.image], place.x, place.y, side, size)
            # a node's id may hold characters that no file's name can
            files[node] = Path(folder) / f"node-{number:05}.png"
            with atomic_write(files[node]) as temporary:
                Image.fromarray(best).save(temporary)
    return files


def _title(graph: Graph, file: str | os.PathLike[str]) -> str:
    """Name a graph by its file or, where that says nothing, by what was mined.

    ``explgraph mine`` calls its files "graph". A graph doesn't know what its model is called; the
    layers' names tell models apart.
    """
    stem = Path(file).stem
    if stem not in ("", "graph"):
        return stem
    layers = few((layer.name for layer in reversed(graph.layers)), 4)
    where = Path(graph.whereabouts["folder"]).name if graph.whereabouts is not None else ""
    images = few([where]) if where else counted(graph.nx.graph["n_images"], "image")
    return f"{images} · {layers}"


def _filled(content: dict[str, Any], title: str) -> str:
    """Put the page together."""
    folder = resources.files("explgraph.views").joinpath("page")

    def text(name: str) -> str:
        return folder.joinpath(name).read_text("utf-8")

    script = "".join(text(f"{name}.js") for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    data = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    for character in "<>&":
        data = data.replace(character, f"\\u{ord(character):04x}")
    values = {
        "TITLE": html.escape(title),
        "DIGEST": digest,
        "DATA": data,
        "STYLE": text("page.css"),
        "SCRIPT": script,
    }
    # in one go, so that a mark in a title or a label is no mark
    return re.sub(f"@({'|'.join(values)})@", lambda mark: values[mark[1]], text("page.html"))


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
    file: str | os.PathLike[str] = ""
    if not isinstance(graph, Graph):
        file, graph = graph, read(graph, Graph)
    title = _title(graph, file)
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
