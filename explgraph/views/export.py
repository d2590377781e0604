"""Writing a graph in the format that a path's suffix names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from numbers import Real
from tempfile import TemporaryDirectory
from typing import Any

from explgraph import rows
from explgraph.atomic import atomic_write
from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph
from explgraph.paths import checked_path
from explgraph.suffixes import DRAWINGS, PART_GRAPHS, SUFFIXES, check_suffix
from explgraph.views.dot import can_render, dot_source, render
from explgraph.views.files import FORMATS, PartGraph
from explgraph.views.layout import thin
from explgraph.views.remembered import remembered_for
from explgraph.views.viewer import write_html, write_thumbnails

__all__ = ["write", "write_parts"]

_OPTIONS: dict[str, tuple[str, ...]] = {
    ".html": ("images", "parse", "strip"),
    **dict.fromkeys((".dot", ".gv"), ("pictures",)),
    **dict.fromkeys(DRAWINGS, ("images", "parse", "pictures", "time_limit")),
}
_DRAWN = 60  # nodes of a drawing, unless told otherwise


def write(
    graph: Graph,
    path: str | os.PathLike[str],
    *,
    max_nodes: int | None = None,
    **options: Any,
) -> None:
    """Write a graph in the format of the path's suffix, whole or not at all.

    Parameters
    ----------
    graph : ExplanatoryGraph
        The graph, checked again before it is written.
    path : path
        ``.dot``/``.gv`` (Graphviz), ``.svg``, ``.png``, ``.pdf`` (drawings), ``.graphml``,
        ``.gexf`` (Gephi), ``.gml``, ``.json`` (node-link), ``.cyjs`` (Cytoscape) or ``.html`` (the
        explorer page).
    max_nodes : int, optional
        At most so many nodes, of every part and layer the most telling. Drawings hold 60 unless
        told otherwise, all other files everything.
    **options
        ``images`` and ``parse`` for drawings and pages, whose patches are cut from them; by default
        from the images that the graph remembers. ``pictures`` (node id to picture file) for .dot
        and for drawings by Graphviz, ``time_limit`` (s) for the latter, and the others of
        `explgraph.views.viewer.write_html` for .html.

    Raises
    ------
    ExplgraphError
        If the suffix or an option isn't known, the graph isn't valid, the file can't be written,
        or a drawing can't be made.

    Warns
    -----
    ExplgraphWarning
        If there are no pictures since the remembered images are gone, or others than they were.
    """
    suffix = check_suffix(path, SUFFIXES)
    graph.validate()
    known = _OPTIONS.get(suffix, ())
    if unknown := options.keys() - known:
        takes = ", ".join(("max_nodes", *known))
        raise ExplgraphError(f"a {suffix} file has no option {min(unknown)!r}; it takes {takes}")
    pictures, limit = options.get("pictures") or {}, options.get("time_limit", 1.0)
    if not isinstance(pictures, Mapping):
        raise ExplgraphError(
            f"pictures must be a mapping of nodes' ids to files, got {type(pictures).__name__}"
        )
    if isinstance(limit, bool) or not isinstance(limit, Real) or not float(limit) > 0:
        raise ExplgraphError(f"time_limit must be seconds, a number above 0, got {limit!r}")
    if (suffix == ".html" or suffix in DRAWINGS) and not options.keys() - {"strip"}:
        images = remembered_for(graph, path)
        if images is not None:
            options["images"] = images
    if suffix == ".html":
        part = graph if max_nodes is None else thin(graph, max_nodes)
        write_html(part, path, **options)
        return
    if suffix in DRAWINGS:
        _draw(graph, path, _DRAWN if max_nodes is None else max_nodes, options)
        return
    part = graph if max_nodes is None else thin(graph, max_nodes)
    if suffix in FORMATS:
        content = FORMATS[suffix](part).encode()
    else:
        content = dot_source(part, whole=graph, **options).encode()
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def _draw(
    graph: Graph, path: str | os.PathLike[str], max_nodes: int, options: dict[str, Any]
) -> None:
    """Write a drawing: of patches, or of discs where no images are known and Graphviz is there.

    Without matplotlib Graphviz draws the patches, too, one for each node.
    """
    by_graphviz = options.keys() & {"pictures", "time_limit"}
    by_patches = options.keys() & {"images", "parse"}
    if by_graphviz and by_patches:
        raise ExplgraphError(
            f"{min(by_graphviz)} is for drawings by Graphviz, {min(by_patches)} for those of "
            "patches; give one or the other"
        )
    kind = checked_path(path).suffix[1:].lower()
    there = find_spec("matplotlib") is not None
    if by_graphviz or not there or not (by_patches or not can_render(kind)):
        with TemporaryDirectory(prefix="explgraph-") as folder:
            if by_patches:
                images, parse = (options.pop(name, None) for name in ("images", "parse"))
                if images is None:
                    raise ExplgraphError("parse needs the images that were parsed; give images=")
                if can_render(kind):
                    few = thin(graph, max_nodes)
                    options["pictures"] = write_thumbnails(few, folder, images, parse=parse)
            content = render(graph, kind, max_nodes=max_nodes, **options)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        return
    from explgraph.views.draw import draw  # with matplotlib, which other files need not wait for

    draw(graph, "nodes", most=max_nodes, path=path, **options)


def write_parts(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write the graph of a graph's parts in the format of the path's suffix, whole or not at all.

    Parameters
    ----------
    graph : ExplanatoryGraph
        The graph, checked again before it is written.
    path : path
        ``.graphml``, ``.gexf``, ``.gml``, ``.json`` (node-link), ``.cyjs`` (Cytoscape), or
        ``.csv``: a row for each part, without what joins them.

    Raises
    ------
    ExplgraphError
        If the suffix isn't known, the graph isn't valid, has no parts or lacks the parameters of
        mining, or the file can't be written.
    """
    suffix = check_suffix(path, PART_GRAPHS)
    graph.validate()
    parts = PartGraph(graph)
    if suffix == ".csv":
        table = [{"part": node.pop("id")} | node for node in parts.to_node_link()["nodes"]]
        rows.write(path, rows.columns_of(table))
        return
    with atomic_write(path) as temporary:
        temporary.write_bytes(FORMATS[suffix](parts).encode())
