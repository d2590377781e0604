"""A graph's file: an archive with ``graph.json`` (node-link) and ``fitted.safetensors``.

Where the images are is kept as an absolute folder and as one relative to the file, so that both
can be moved together. How named parts are located (``and_or``) is there if it was grown.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import networkx

from explgraph import archive
from explgraph.errors import ExplgraphError
from explgraph.graph.and_or import AndOr
from explgraph.graph.graph import Graph
from explgraph.graph.schema import FORMAT_VERSION, check_version, check_whereabouts
from explgraph.paths import is_file
from explgraph.statistics.fitted import Fitted

__all__ = ["read", "write"]

G = TypeVar("G", bound=Graph)


class _Format(archive.Format):
    def check_version(self, shown: str, found: Any) -> None:
        check_version(shown, found)


_FORMAT = _Format(
    "explgraph", FORMAT_VERSION, "an explanatory graph", "graph",
    "graph.json", "fitted.safetensors", ".explgraph", "mine",
)  # fmt: skip


def write(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write the whole graph to one file, which `explgraph.load` opens.

    Raises
    ------
    ExplgraphError
        If the graph isn't valid any more or the file can't be written.
    """
    graph.validate()
    seen = graph.top_images
    seen = {node: seen[node] for node in graph.node_ids if node in seen}
    content = graph.to_node_link() | {"top_images": seen}
    if graph.whereabouts is not None:
        content["whereabouts"] = graph.whereabouts | {"beside": _beside(graph.whereabouts, path)}
    if graph.grown is not None:
        content["and_or"] = graph.grown.as_dict()
    archive.write(_FORMAT, path, content, graph.fitted)


def read(path: str | os.PathLike[str], kind: type[G]) -> G:
    """Open a graph that `write` wrote, as one of this class.

    Raises
    ------
    ExplgraphError
        If the file is missing, a folder, empty, truncated or damaged, no explanatory graph, or
        of a version that this explgraph doesn't read.
    """

    def build(content: Any, fitted: dict[str, Any]) -> G:
        nx = networkx.DiGraph()
        nx.graph.update(content["graph"])
        for values in content["nodes"]:
            node = values.pop("id")
            if node in nx:
                raise ExplgraphError(f"node {node!r} occurs twice")
            nx.add_nodes_from([(node, values)])
        for values in content["edges"]:
            parent, child = values.pop("source"), values.pop("target")
            if parent not in nx or child not in nx or nx.has_edge(parent, child):
                raise ExplgraphError(
                    f"edge {parent!r} -> {child!r} occurs twice or joins a node that isn't there"
                )
            nx.add_edges_from([(parent, child, values)])
        where = content.get("whereabouts")  # older files have none
        beside = "" if where is None else where.pop("beside")
        grown = AndOr.from_dict(content["and_or"]) if "and_or" in content else None
        graph = kind(nx, fitted, content["top_images"], where, grown)
        if where is not None:  # checked by now
            graph.whereabouts = _moved(where, beside, Path(path).absolute().parent)
            check_whereabouts(graph.whereabouts, graph.image_size)
        _check_parameters(graph)
        return graph

    return archive.read(_FORMAT, path, build)


def _beside(where: dict[str, Any], path: str | os.PathLike[str]) -> str:
    """Say where the images are as seen from the graph's file; empty if there is no way."""
    try:
        return Path(os.path.relpath(where["folder"], Path(path).absolute().parent)).as_posix()
    except ValueError:  # another drive of Windows
        return ""


def _moved(where: dict[str, Any], beside: str, here: Path) -> dict[str, Any]:
    """Take the images beside the file for the graph's, if the first of them is there."""
    photographs = where["photographs"].values()
    if beside and photographs and not Path(beside).anchor:
        folder = Path(os.path.normpath(here / beside))
        if is_file(folder / next(iter(photographs))["file"]):
            return where | {"folder": str(folder)}
    return where


def _check_parameters(graph: Graph) -> None:
    """Check that images can be parsed, if the graph has what parsing needs."""
    if not graph.fitted:
        return
    layers = Fitted.unpack(graph.fitted, graph.layers).layers
    known = {
        (index, *pattern)
        for index, layer in layers.items()
        for pattern in layer.share.nonzero().tolist()
    }
    for node, values in graph.nx.nodes.items():
        if (values["layer_index"], values["filter"], values["pattern"]) not in known:
            raise ExplgraphError(
                f"node {node!r} has no pattern among the parameters of its filter; mine it again"
            )
