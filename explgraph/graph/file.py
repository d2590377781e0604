"""A graph's file.

One file holds all of a graph: a zip archive with ``manifest.json`` (format version, sha256 of the
others), ``graph.json`` (node-link form, readable in any editor) and ``fitted.safetensors``.
Nothing in it is ever unpickled, only these three members are read, and none beyond a set size.
Equal graphs give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

import networkx
import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from explgraph.atomic import atomic_write
from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph
from explgraph.graph.schema import FORMAT_VERSION, check_version
from explgraph.statistics.fitted import Fitted

__all__ = ["read", "write"]

G = TypeVar("G", bound=Graph)
_MANIFEST, _GRAPH, _FITTED = "manifest.json", "graph.json", "fitted.safetensors"
_LIMITS = {_MANIFEST: 2**16, _GRAPH: 2**30, _FITTED: 2**33}  # bytes, unpacked


def write(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write the whole graph to one file, which `explgraph.load` opens.

    Raises
    ------
    ExplgraphError
        If the graph isn't valid any more or the file can't be written.
    """
    graph.validate()
    seen = graph.top_images
    graph_json = json.dumps(
        graph.to_node_link() | {"top_images": {v: seen[v] for v in graph.node_ids if v in seen}},
        ensure_ascii=False,
        allow_nan=False,
        indent=1,
    )
    members = {
        # a file name may hold bytes that are no UTF-8, which Python keeps as surrogates
        _GRAPH: graph_json.encode("utf-8", "backslashreplace"),
        _FITTED: safetensors_numpy.save(
            {name: np.array(graph.fitted[name], order="C") for name in sorted(graph.fitted)}
        ),
    }
    manifest = {
        "format": "explgraph",
        "format_version": FORMAT_VERSION,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
    }
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, data in {
            _MANIFEST: json.dumps(manifest, indent=1).encode(),
            **members,
        }.items():
            # a fixed date and system: the same graph gives the same bytes everywhere
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_STORED if name == _FITTED else zipfile.ZIP_DEFLATED
            archive.writestr(info, data)


def read(path: str | os.PathLike[str], kind: type[G]) -> G:
    """Open a graph that `write` wrote, as one of this class.

    Raises
    ------
    ExplgraphError
        If the file is missing, a folder, empty, truncated or damaged, no explanatory graph, or
        of a version that this explgraph doesn't read.
    """
    shown = repr(str(path))
    if Path(path).is_dir():
        raise ExplgraphError(f"{shown} is a folder; give the graph file itself (*.explgraph)")
    try:
        with open(path, "rb") as file:
            start = file.read(4)
            if not start:
                raise ExplgraphError(f"{shown} is empty; it was not written to its end")
            if start != b"PK\x03\x04":
                raise ExplgraphError(
                    f"{shown} is not an explanatory graph; expected a file that graph.save() wrote"
                )
            manifest, members = _read_members(file, shown)
    except FileNotFoundError as err:
        raise ExplgraphError(f"there is no file {shown}; check the path") from err
    except OSError as err:
        raise ExplgraphError(f"can't read {shown}: {err.strerror or err}") from err
    for name, data in members.items():
        if hashlib.sha256(data).hexdigest() != manifest["sha256"].get(name):
            raise ExplgraphError(f"{shown} is damaged: {name} doesn't match its checksum")
    try:
        content = json.loads(members[_GRAPH])
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
        fitted = safetensors_numpy.load(members[_FITTED])
        graph = kind(nx, fitted, content["top_images"])
        _check_parameters(graph)
        return graph
    except ExplgraphError as err:
        raise ExplgraphError(f"{shown} holds no valid graph: {err}") from err
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        SafetensorError,
    ) as err:
        raise ExplgraphError(f"{shown} holds no valid graph: {type(err).__name__}: {err}") from err


def _read_members(file: Any, shown: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read the manifest, then the other two members; refuses other versions before those."""
    try:
        with zipfile.ZipFile(file) as archive:
            found = Counter(archive.namelist())
            if _MANIFEST not in found:
                raise ExplgraphError(
                    f"{shown} is a zip archive but not an explanatory graph: it holds "
                    f"{', '.join(sorted(found)[:3]) or 'nothing'}, expected {_MANIFEST}"
                )
            manifest = json.loads(_read_member(archive, _MANIFEST, shown))
            if not isinstance(manifest, dict) or manifest.get("format") != "explgraph":
                raise ExplgraphError(
                    f"{shown} is not an explanatory graph: its {_MANIFEST} is another program's"
                )
            check_version(shown, manifest.get("format_version"))
            if not isinstance(manifest.get("sha256"), dict):
                raise ExplgraphError(f"{shown} is damaged: its {_MANIFEST} has no checksums")
            for name in (_GRAPH, _FITTED):
                if found[name] != 1:
                    raise ExplgraphError(
                        f"{shown} is damaged: it holds {name} {found[name]} times, expected once"
                    )
            return manifest, {
                name: _read_member(archive, name, shown) for name in (_GRAPH, _FITTED)
            }
    except zipfile.BadZipFile as err:
        raise ExplgraphError(
            f"{shown} is truncated or damaged ({err}); copy or mine it again"
        ) from err
    except ExplgraphError:
        raise
    # what zipfile, zlib and json raise at content that only looks like an archive
    except (
        ValueError,
        EOFError,
        RuntimeError,
        LookupError,
        OverflowError,
        struct.error,
        zlib.error,
    ) as err:
        raise ExplgraphError(f"{shown} is damaged ({err}); copy or mine it again") from err


def _read_member(archive: zipfile.ZipFile, name: str, shown: str) -> bytes:
    """Read one member, unless it is larger than any graph's would be."""
    info = archive.getinfo(name)
    if info.file_size > _LIMITS[name]:
        raise ExplgraphError(
            f"{shown}: {name} claims {info.file_size:,} bytes; at most {_LIMITS[name]:,} are read"
        )
    with archive.open(info) as member:
        return member.read(_LIMITS[name])


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
