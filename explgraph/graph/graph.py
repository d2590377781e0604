"""The explanatory graph: its schema, its validation and its file.

An `ExplanatoryGraph` holds a networkx ``DiGraph`` whose nodes are part patterns and whose edges
run from a pattern of an upper layer (nearer the output) to one of a lower layer, and beside it
what parsing needs (``fitted``) and where each pattern was seen best (``top_images``).

One file holds all of it: a zip archive with ``manifest.json`` (format version, sha256 of the
others), ``graph.json`` (node-link form, readable in any editor) and ``fitted.safetensors``.
Nothing in it is ever unpickled, only these three members are read, and none beyond a set size.
Equal graphs give equal bytes.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import networkx
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from explgraph.atomic import atomic_write
from explgraph.errors import ExplgraphError
from explgraph.fitted import Fitted
from explgraph.geometry import Layer
from explgraph.reliability import cut_for

if TYPE_CHECKING:
    import pandas as pd

    from explgraph.parsing import Parse

__all__ = [
    "CLASS_EFFECT",
    "EDGE_FIELDS",
    "FORMAT_VERSION",
    "NODE_FIELDS",
    "ExplanatoryGraph",
    "Field",
    "class_effects",
    "load",
]

FORMAT_VERSION = 2


class Field(NamedTuple):
    """What an attribute of a node or an edge must be."""

    kind: type[str] | type[int] | type[float]
    low: float = -math.inf
    high: float = math.inf
    required: bool = True


NODE_FIELDS: Mapping[str, Field] = {
    "layer": Field(str),
    "layer_index": Field(int, 0),
    "filter": Field(int, 0),
    "pattern": Field(int, 0),
    "x": Field(float),  # px; bounded by the image's size as well
    "y": Field(float),
    "sigma": Field(float, 0),  # px
    "support": Field(float, 0, 1),
    "energy": Field(float, 0, 1),
    "reliability": Field(float, 0, 1),
    "follows": Field(float, 0, 1),
    "receptive_field": Field(float, 0),  # px
    "label": Field(str),
}
EDGE_FIELDS: Mapping[str, Field] = {
    "dx": Field(float),  # px
    "dy": Field(float),
    "sigma": Field(float, 0),  # px
    "consistency": Field(float, 0, 1),
    "coactivation": Field(float),
    "effect": Field(float, required=False),
}
CLASS_EFFECT = "effect_on_"
"""How the attributes of nodes begin that hold their effect on a class; its name follows."""
_GRAPH_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "format_version": int,
    "image_size": list,
    "layers": list,
    "n_images": int,
    "config": dict,
    "seed": (int, type(None)),
    "versions": dict,
    "model_fingerprint": str,
    "preprocessing": dict,
}

# names by which the file formats tell structure from attributes
# fmt: off
_RESERVED = frozenset({
    "id", "source", "target", "key", "viz", "weight", "type", "start", "end", "name", "parent",
    "parents", "pid", "position", "node", "edge", "graph", "directed", "multigraph", "comment",
    "creator", "version", "size", "color", "label",
})
# fmt: on
_LEGAL_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_EXACT_INTEGER = 2**53  # beyond it, programs that hold numbers as doubles lose digits
# what no XML 1.0 document can hold, not even escaped
_ILLEGAL_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

_MANIFEST, _GRAPH, _FITTED = "manifest.json", "graph.json", "fitted.safetensors"
_LIMITS = {_MANIFEST: 2**16, _GRAPH: 2**30, _FITTED: 2**33}  # bytes, unpacked


def check_graph(graph: object) -> None:
    """Refuse what is no graph, such as the path of its file.

    Raises
    ------
    ExplgraphError
    """
    if not isinstance(graph, ExplanatoryGraph):
        raise ExplgraphError(
            f"graph must be an ExplanatoryGraph, got {type(graph).__name__}; open a file with "
            "explgraph.load"
        )


class ExplanatoryGraph:
    """Part patterns of a network's filters, and which of them move together.

    Parameters
    ----------
    nx : networkx.DiGraph
        Nodes ``"<layer>/<filter>/<pattern>"`` with the attributes of `NODE_FIELDS`, edges from
        the upper layer's node to the lower layer's with those of `EDGE_FIELDS`; graph attributes
        ``format_version``, ``image_size`` [H, W], ``layers`` (`Layer.as_dict` each, lowest
        first), ``n_images``, ``config``, ``seed``, ``versions``, ``model_fingerprint`` and
        ``preprocessing``. Further attributes may be added to nodes and edges: str, int, float or
        bool, of one type under one name. Not copied.
    fitted : dict of str to array
        The parameters that parsing needs, any shapes.
    top_images : dict of str to list
        For a node id ``[image name, x, y, score]`` of the images where it scored best, best
        first; positions in px.

    Raises
    ------
    ExplgraphError
        If anything of this doesn't hold; the message names the node or edge and the attribute.
    """

    def __init__(
        self,
        nx: networkx.DiGraph,
        fitted: Mapping[str, NDArray[Any]] | None = None,
        top_images: Mapping[str, list[list[Any]]] | None = None,
    ) -> None:
        self.nx = nx
        self.fitted: dict[str, NDArray[Any]] = dict(fitted or {})
        self.top_images: dict[str, list[list[Any]]] = dict(top_images or {})
        self.validate()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The mined layers in execution order, lowest first."""
        return tuple(Layer.from_dict(values) for values in self.nx.graph["layers"])

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images as the network saw them, px."""
        height, width = self.nx.graph["image_size"]
        return height, width

    @property
    def node_ids(self) -> tuple[str, ...]:
        """The nodes in the graph's order, which is the order of a parse's columns."""
        return tuple(self.nx)

    def nodes_of(self, layer: str, filter: int | None = None) -> tuple[str, ...]:  # noqa: A002
        """Ids of a layer's nodes, or of those of one of its filters, in the graph's order.

        Raises
        ------
        ExplgraphError
            If the graph has no such layer.
        """
        self._check_layers([layer])
        return tuple(
            node
            for node, values in self.nx.nodes.items()
            if values["layer"] == layer and (filter is None or values["filter"] == filter)
        )

    def prune(
        self,
        min_reliability: float | None = None,
        top: float | None = None,
        *,
        fdr: float | None = None,
    ) -> ExplanatoryGraph:
        """Keep the reliable nodes and the edges between them.

        Parameters
        ----------
        min_reliability : float, optional
            Nodes below it go.
        top : int or float, optional
            Of the nodes left, this many of the most reliable stay; a float in (0, 1] is a share
            of them, rounded up. Among equals the one that comes first in the graph stays.
        fdr : float, optional
            Before anything else, nodes go until about this share of those left is false, that is,
            fires where the pose says by chance only: an estimate by decoys
            (`explgraph.reliability`). Nodes without reliability go at any share. It holds for
            nodes of the layers that the graph has, before others were taken out.

        Returns
        -------
        ExplanatoryGraph
            A new graph with the nodes in their old order. ``fitted`` is kept whole, so that the
            nodes that are left are found where they were found before.

        Raises
        ------
        ExplgraphError
            If a value is out of range, or `fdr` is asked of a graph that was mined without decoys.
        """
        keep = list(self.nx)
        reliability = self.nx.nodes(data="reliability")
        if fdr is not None:
            least = self._cut_for(fdr)
            keep = [node for node in keep if reliability[node] >= least]
        if min_reliability is not None:
            if not (isinstance(min_reliability, Real) and 0 <= min_reliability <= 1):
                raise ExplgraphError(
                    f"min_reliability is {min_reliability!r}; expected a number from 0 to 1"
                )
            keep = [node for node in keep if reliability[node] >= min_reliability]
        if top is not None:
            whole = isinstance(top, Integral)
            if isinstance(top, bool) or not (
                (whole and top >= 0) or (not whole and isinstance(top, Real) and 0 < top <= 1)
            ):
                raise ExplgraphError(
                    f"top is {top!r}; expected a number of nodes (int, 0 or more) or a share of "
                    "them (float in (0, 1])"
                )
            count = int(top) if whole else math.ceil(top * len(keep))
            keep = sorted(keep, key=lambda node: -reliability[node])[:count]
        return self._restricted(keep)

    def _cut_for(self, fdr: float) -> float:
        """Least reliability at which the estimated share of false nodes is small enough."""
        if isinstance(fdr, bool) or not (isinstance(fdr, Real) and 0 < fdr <= 1):
            raise ExplgraphError(f"fdr is {fdr!r}; expected a number above 0 and at most 1")
        indices = sorted({index for _, index in self.nx.nodes(data="layer_index")})
        missing = [i for i in indices if f"layer/{i}/decoys" not in self.fitted]
        if missing:
            raise ExplgraphError(
                f"fdr needs the decoys of layer {missing[0]}, which this graph lacks; mine it again"
            )
        found = np.array([a["reliability"] for a in self.nx.nodes.values()])
        decoys = [self.fitted[f"layer/{i}/decoys"] for i in indices]
        return cut_for(found, np.concatenate([np.zeros(0), *decoys]), float(fdr))

    def subgraph(self, layers: Sequence[str]) -> ExplanatoryGraph:
        """Keep the nodes of some layers and the edges between them; ``layers`` stays whole.

        Raises
        ------
        ExplgraphError
            If the graph has no such layer.
        """
        names = [layers] if isinstance(layers, str) else list(layers)
        self._check_layers(names)
        return self._restricted(v for v, layer in self.nx.nodes(data="layer") if layer in names)

    def restricted(self, nodes: Iterable[str]) -> ExplanatoryGraph:
        """Keep these nodes, in the graph's order, and the edges between them.

        Raises
        ------
        ExplgraphError
            If the graph lacks one of them.
        """
        nodes = list(nodes)
        for node in nodes:
            if node not in self.nx:
                raise ExplgraphError(f"the graph has no node {node!r}; see graph.node_ids")
        return self._restricted(nodes)

    def _restricted(self, nodes: Iterable[str]) -> ExplanatoryGraph:
        """Build the graph of some of the nodes; attributes are copied, ``fitted`` is shared."""
        wanted = set(nodes)
        kept = networkx.DiGraph()
        kept.graph.update(copy.deepcopy(self.nx.graph))
        kept.add_nodes_from((v, dict(a)) for v, a in self.nx.nodes.items() if v in wanted)
        kept.add_edges_from(
            (u, v, dict(a)) for u, v, a in self.nx.edges(data=True) if u in wanted and v in wanted
        )
        top_images = {v: copy.deepcopy(seen) for v, seen in self.top_images.items() if v in wanted}
        return ExplanatoryGraph(kept, self.fitted, top_images)

    def parse(
        self,
        model: Any,
        images: Any,
        *,
        batch_size: int = 32,
        device: str = "auto",
        progress: bool = False,
    ) -> Parse:
        """Find every node in images: see `explgraph.parsing.parse`."""
        from explgraph import parsing

        return parsing.parse(
            self, model, images, batch_size=batch_size, device=device, progress=progress
        )

    def write(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write a drawing or another program's file, by suffix: see `explgraph.export.write`."""
        from explgraph import export

        export.write(self, path, **options)

    def apply_labels(self, labels: str | os.PathLike[str] | Mapping[str, Any]) -> ExplanatoryGraph:
        """Take up people's decisions: names, merged nodes, rejected nodes.

        Parameters
        ----------
        labels : path or mapping
            A ``labels.json`` as the explorer page writes it, or its content; the format is
            described in `explgraph.labels`.

        Returns
        -------
        ExplanatoryGraph
            A new graph: named nodes have their names as ``label``, nodes that were merged share
            one, rejected nodes and their edges are gone. ``fitted`` is kept whole, so that the
            nodes that are left are found where they were found before.

        Raises
        ------
        ExplgraphError
            If the labels can't be read, name a node that the graph lacks, or give merged nodes
            different names.

        Warns
        -----
        ExplgraphWarning
            If the labels are of another model's graph.
        """
        from explgraph import labels as decisions

        return decisions.apply_labels(self, labels)

    def to_frame(self, kind: Literal["nodes", "edges"] = "nodes") -> pd.DataFrame:
        """Give the nodes or the edges as a pandas table.

        Returns
        -------
        pandas.DataFrame
            ``"nodes"``: one row per node, indexed by its id, in the graph's order, one column
            per attribute. ``"edges"``: columns ``parent``, ``child`` and the attributes.

        Raises
        ------
        ExplgraphError
            If pandas isn't installed or `kind` is neither.
        """
        if kind not in ("nodes", "edges"):
            raise ExplgraphError(f"kind is {kind!r}; expected 'nodes' or 'edges'")
        try:
            import pandas as pd
        except ImportError as err:
            raise ExplgraphError(
                "to_frame() needs pandas, which isn't installed: pip install 'explgraph[pandas]'"
            ) from err
        if kind == "nodes":
            columns = _columns(NODE_FIELDS, self.nx.nodes.values())
            rows = [[a.get(c) for c in columns] for a in self.nx.nodes.values()]
            return pd.DataFrame(rows, columns=columns, index=pd.Index(list(self.nx), name="node"))
        edges = self._edges()
        columns = _columns(EDGE_FIELDS, (a for _, _, a in edges))
        rows = [[u, v, *(a.get(c) for c in columns)] for u, v, a in edges]
        return pd.DataFrame(rows, columns=["parent", "child", *columns])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole graph to one file, which `explgraph.load` opens.

        Raises
        ------
        ExplgraphError
            If the graph isn't valid any more or the file can't be written.
        """
        self.validate()
        graph_json = json.dumps(
            self.to_node_link() | {"top_images": {v: self.top_images[v] for v in self._seen()}},
            ensure_ascii=False,
            allow_nan=False,
            indent=1,
        )
        members = {
            # a file name may hold bytes that are no UTF-8, which Python keeps as surrogates
            _GRAPH: graph_json.encode("utf-8", "backslashreplace"),
            _FITTED: safetensors_numpy.save(
                {name: np.array(self.fitted[name], order="C") for name in sorted(self.fitted)}
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

    def to_node_link(self) -> dict[str, Any]:
        """Give the graph in the node-link form of networkx, in a canonical order.

        Returns
        -------
        dict
            ``directed``, ``multigraph``, ``graph``, ``nodes`` (``id`` and attributes) and
            ``edges`` (``source``, ``target`` and attributes); plain JSON values, shared with the
            graph.
        """
        known = {name: self.nx.graph[name] for name in _GRAPH_FIELDS}
        known["layers"] = [layer.as_dict() for layer in self.layers]
        for name in sorted(set(self.nx.graph) - set(known)):
            known[name] = self.nx.graph[name]
        for name, value in known.items():
            if isinstance(value, dict):
                known[name] = _sorted(value)
        nodes = self.nx.nodes
        edges = self._edges()
        node_columns = _columns(NODE_FIELDS, nodes.values())
        edge_columns = _columns(EDGE_FIELDS, (a for _, _, a in edges))
        return {
            "directed": True,
            "multigraph": False,
            "graph": known,
            "nodes": [
                {"id": v} | {c: a[c] for c in node_columns if c in a} for v, a in nodes.items()
            ],
            "edges": [
                {"source": u, "target": v} | {c: a[c] for c in edge_columns if c in a}
                for u, v, a in edges
            ],
        }

    def validate(self) -> None:
        """Check the graph against its schema.

        Raises
        ------
        ExplgraphError
            At the first fault: names the node or edge, the attribute, what was found and what
            was expected.
        """
        if not isinstance(self.nx, networkx.DiGraph) or self.nx.is_multigraph():
            raise ExplgraphError(
                f"the graph is a {type(self.nx).__name__}; expected a networkx.DiGraph"
            )
        _check_graph_attributes(self.nx.graph)
        layers, (height, width) = self.layers, self.image_size
        kinds: dict[str, type] = {}
        for node, values in self.nx.nodes.items():
            where = f"node {node!r}"
            if not isinstance(node, str):
                raise ExplgraphError(f"{where}: its id is a {type(node).__name__}; expected a str")
            _check_values(where, values, NODE_FIELDS, kinds)
            _check_node(where, node, values, layers)
            for name, side in (("x", width), ("y", height)):
                if not -side <= values[name] <= 2 * side:
                    raise ExplgraphError(
                        f"{where}: attribute {name!r} is {values[name]!r}; expected pixels within "
                        f"one image side of the image, {-side} to {2 * side}"
                    )
        kinds = {}
        for parent, child, values in self.nx.edges(data=True):
            where = f"edge {parent!r} -> {child!r}"
            _check_values(where, values, EDGE_FIELDS, kinds)
            upper, lower = (self.nx.nodes[v]["layer_index"] for v in (parent, child))
            if upper <= lower:
                raise ExplgraphError(
                    f"{where}: runs from layer_index {upper} to {lower}; expected an edge from an "
                    "upper layer to a lower one"
                )
        _check_fitted(self.fitted)
        _check_top_images(self.top_images, self.nx)

    def _check_layers(self, names: Sequence[str]) -> None:
        """Refuse layers that the graph doesn't have."""
        known = [layer.name for layer in self.layers]
        for name in names:
            if name not in known:
                raise ExplgraphError(
                    f"the graph has no layer {name!r}; its layers are {', '.join(map(repr, known))}"
                )

    def _edges(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Edges in the order of the nodes, whatever order they were added in."""
        rank = {node: k for k, node in enumerate(self.nx)}
        return sorted(self.nx.edges(data=True), key=lambda edge: (rank[edge[0]], rank[edge[1]]))

    def _seen(self) -> list[str]:
        """Nodes that have top images, in the graph's order."""
        return [node for node in self.nx if node in self.top_images]

    def __len__(self) -> int:
        """Count the nodes."""
        return len(self.nx)

    def __eq__(self, other: object) -> bool:
        """Compare everything, the order of the nodes too; the order of edges doesn't count."""
        if not isinstance(other, ExplanatoryGraph):
            return NotImplemented
        return (
            list(self.nx.nodes.items()) == list(other.nx.nodes.items())
            and dict(self.nx.edges) == dict(other.nx.edges)
            and self.nx.graph == other.nx.graph
            and self.top_images == other.top_images
            and self.fitted.keys() == other.fitted.keys()
            and all(_same_array(a, other.fitted[name]) for name, a in self.fitted.items())
        )

    __hash__ = None  # type: ignore[assignment]  # it can change

    def _repr_html_(self) -> str:
        """Show the graph in a notebook."""
        from explgraph.export import notebook

        return notebook.graph_html(self)

    def __repr__(self) -> str:
        height, width = self.image_size
        lines = [
            f"ExplanatoryGraph: {len(self):,} part nodes and {self.nx.number_of_edges():,} links, "
            f"mined from {self.nx.graph['n_images']:,} images of {width} x {height} px; layers "
            "from the output down:"
        ]
        nodes = Counter(layer for _, layer in self.nx.nodes(data="layer"))
        filters = Counter(
            layer for layer, _ in {(a["layer"], a["filter"]) for a in self.nx.nodes.values()}
        )
        lines += [
            f"  {layer.name}: {nodes[layer.name]:,} nodes from {filters[layer.name]:,} of "
            f"{layer.channels:,} filters, {layer.width} x {layer.height} units"
            for layer in reversed(self.layers)
        ]
        return "\n".join(lines)


def load(path: str | os.PathLike[str]) -> ExplanatoryGraph:
    """Open a graph that `ExplanatoryGraph.save` wrote.

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
        graph = ExplanatoryGraph(nx, fitted, content["top_images"])
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
            _check_version(shown, manifest.get("format_version"))
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


def _check_version(where: str, found: Any) -> None:
    """Refuse a format version that this code doesn't read."""
    if type(found) is not int or found < 1:
        raise ExplgraphError(f"{where}: format_version is {found!r}; expected {FORMAT_VERSION}")
    if found < FORMAT_VERSION:
        raise ExplgraphError(
            f"{where} has format version {found}, of explgraph 0.{found}; this explgraph mines in "
            f"another way and reads version {FORMAT_VERSION}: mine again"
        )
    if found > FORMAT_VERSION:
        raise ExplgraphError(
            f"{where} has format version {found}; this explgraph reads version {FORMAT_VERSION}: "
            "update explgraph"
        )


def _check_graph_attributes(graph: Mapping[str, Any]) -> None:
    """Check the attributes of the graph as a whole."""
    for name, kind in _GRAPH_FIELDS.items():
        if name not in graph:
            raise ExplgraphError(f"graph attribute {name!r} is missing")
        if isinstance(graph[name], bool) or not isinstance(graph[name], kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            expected = " or ".join(k.__name__ for k in kinds)
            raise ExplgraphError(
                f"graph attribute {name!r} is {graph[name]!r}; expected {expected}"
            )
    _check_version("the graph", graph["format_version"])
    size = graph["image_size"]
    if len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise ExplgraphError(
            f"graph attribute 'image_size' is {size!r}; expected [height, width], int, px"
        )
    if graph["n_images"] < 1:
        raise ExplgraphError(
            f"graph attribute 'n_images' is {graph['n_images']}; expected 1 or more"
        )
    for name, value in graph.items():
        if name not in _GRAPH_FIELDS:
            _check_name("the graph", name)
        _check_plain(f"graph attribute {name!r}", value)
    _check_layer_table(graph["layers"])


def _check_layer_table(layers: list[Any]) -> None:
    """Check that the layers are whole, numbered by their place and named apart."""
    names = set()
    for index, values in enumerate(layers):
        where = f"graph attribute 'layers', entry {index}"
        try:
            layer = Layer.from_dict(values)
        except (TypeError, AttributeError) as err:
            raise ExplgraphError(f"{where} is {values!r}; expected Layer.as_dict()") from err
        if not isinstance(layer.name, str) or not layer.name or layer.name in names:
            raise ExplgraphError(
                f"{where}: name is {layer.name!r}; expected a name of its own, not empty"
            )
        names.add(layer.name)
        if type(layer.index) is not int or layer.index != index:
            raise ExplgraphError(
                f"{where}: index is {layer.index!r}; expected {index}, lowest layer first"
            )
        for name in ("channels", "height", "width"):
            if type(getattr(layer, name)) is not int or getattr(layer, name) < 1:
                raise ExplgraphError(
                    f"{where}: {name} is {getattr(layer, name)!r}; expected an int, 1 or more"
                )
        for name in ("stride", "offset", "receptive_field"):
            pair = getattr(layer, name)
            if not isinstance(pair, tuple) or [type(v) for v in pair] != [float, float]:
                raise ExplgraphError(f"{where}: {name} is {pair!r}; expected two floats, px")


def _check_values(
    where: str, values: Mapping[str, Any], fields: Mapping[str, Field], kinds: dict[str, type]
) -> None:
    """Check a node's or an edge's attributes; `kinds` gathers the types of the user's own ones."""
    for name, field in fields.items():
        if name not in values:
            if not field.required:
                continue
            raise ExplgraphError(
                f"{where}: attribute {name!r} is missing; expected {_describe(field)}"
            )
        found = values[name]
        # exact types: numpy's float64 is a float that JSON and XML writers spell differently
        if field.kind is not type(found):
            raise ExplgraphError(
                f"{where}: attribute {name!r} is {found!r} of type {type(found).__name__}; "
                f"expected {_describe(field)}"
            )
        if isinstance(found, str):
            _check_text(f"{where}: attribute {name!r}", found)
        elif not field.low <= found <= field.high or not math.isfinite(found):
            raise ExplgraphError(
                f"{where}: attribute {name!r} is {found!r}; expected {_describe(field)}"
            )
    for name in values.keys() - fields.keys():
        _check_name(where, name)
        found = values[name]
        if type(found) not in (str, int, float, bool):
            raise ExplgraphError(
                f"{where}: attribute {name!r} is {found!r} of type {type(found).__name__}; "
                "expected a plain str, int, float or bool (numpy: value.item())"
            )
        _check_plain(f"{where}: attribute {name!r}", found)
        if kinds.setdefault(name, type(found)) is not type(found):
            raise ExplgraphError(
                f"{where}: attribute {name!r} is {found!r} of type {type(found).__name__}; "
                f"expected {kinds[name].__name__} as on others before it"
            )


def _check_node(
    where: str, node: str, values: Mapping[str, Any], layers: tuple[Layer, ...]
) -> None:
    """Check that a node's id, layer, filter and pattern belong together."""
    index = values["layer_index"]
    if index >= len(layers) or layers[index].name != values["layer"]:
        at_index = repr(layers[index].name) if index < len(layers) else "no layer"
        raise ExplgraphError(
            f"{where}: attribute 'layer' is {values['layer']!r} and 'layer_index' is {index}, "
            f"where the graph has {at_index}; expected a layer of graph attribute 'layers'"
        )
    if values["filter"] >= layers[index].channels:
        raise ExplgraphError(
            f"{where}: attribute 'filter' is {values['filter']}; expected at most "
            f"{layers[index].channels - 1}, the layer's last"
        )
    expected = f"{values['layer']}/{values['filter']}/{values['pattern']}"
    if node != expected:
        raise ExplgraphError(
            f"{where}: its id is {node!r}; expected {expected!r}, '<layer>/<filter>/<pattern>'"
        )


def _check_name(where: str, name: Any) -> None:
    """Refuse attribute names that some file format can't carry."""
    if not isinstance(name, str) or not _LEGAL_NAME.fullmatch(name) or name.lower() in _RESERVED:
        raise ExplgraphError(
            f"{where}: attribute name {name!r}; expected letters, digits and _, a letter first, "
            f"and none of {', '.join(sorted(_RESERVED))}"
        )


def _check_text(where: str, text: str) -> None:
    """Refuse characters that XML can't hold."""
    if bad := _ILLEGAL_TEXT.search(text):
        raise ExplgraphError(
            f"{where} holds the character U+{ord(bad[0]):04X}, which files can't carry; remove it"
        )


def _check_plain(where: str, value: Any) -> None:
    """Check that a value comes back from JSON as it was."""
    if type(value) is str:
        _check_text(where, value)
    elif type(value) is dict:
        for key, entry in value.items():
            if type(key) is not str:
                raise ExplgraphError(f"{where}: key {key!r}; expected a str")
            _check_text(f"{where}, key {key!r}", key)
            _check_plain(f"{where}, key {key!r}", entry)
    elif type(value) is list:
        for k, entry in enumerate(value):
            _check_plain(f"{where}, entry {k}", entry)
    elif type(value) is float:
        if not math.isfinite(value):
            raise ExplgraphError(f"{where} is {value!r}; expected a finite number")
    elif type(value) is int:
        if abs(value) > _EXACT_INTEGER:
            raise ExplgraphError(f"{where} is {value!r}; expected an int of at most 2**53")
    elif value is not None and type(value) is not bool:
        raise ExplgraphError(
            f"{where} is {value!r} of type {type(value).__name__}; expected plain JSON values "
            "(dict, list, str, int, float, bool or None)"
        )


def _check_fitted(fitted: Mapping[str, Any]) -> None:
    """Check that the parameters are arrays that safetensors can hold."""
    for name, array in fitted.items():
        if (
            not isinstance(name, str)
            or not isinstance(array, np.ndarray)
            or array.dtype.kind not in "biuf"
            or array.dtype.itemsize > 8
            or not array.dtype.isnative
        ):
            found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise ExplgraphError(
                f"fitted[{name!r}] is {found}; expected a numpy array of bool, int or float under "
                "a name"
            )


def _check_parameters(graph: ExplanatoryGraph) -> None:
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


def _check_top_images(top_images: Mapping[str, Any], nx: networkx.DiGraph) -> None:
    """Check that the images belong to nodes and have a name, a place and a score."""
    for node, seen in top_images.items():
        if node not in nx:
            raise ExplgraphError(f"top_images names {node!r}; expected a node of the graph")
        for entry in seen if isinstance(seen, list) else [seen]:
            if (
                not isinstance(entry, list)
                or [type(value) for value in entry] != [str, float, float, float]
                or not all(map(math.isfinite, entry[1:]))
            ):
                raise ExplgraphError(
                    f"top_images[{node!r}] holds {entry!r}; expected a list of "
                    "[image name, x, y, score], str and finite floats"
                )


def class_effects(nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name the attributes of nodes that hold effects on classes."""
    return sorted(
        {
            name
            for values in nodes
            for name, value in values.items()
            if name.startswith(CLASS_EFFECT) and isinstance(value, float)
        }
    )


def _describe(field: Field) -> str:
    """Say in words what a field takes."""
    if field.kind is str:
        return "str"
    if field.low == -math.inf:
        return f"a finite {field.kind.__name__}"
    if field.high == math.inf:
        return f"a finite {field.kind.__name__}, {field.low:g} or more"
    return f"a {field.kind.__name__} from {field.low:g} to {field.high:g}"


def _columns(fields: Mapping[str, Field], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of all attributes in use: the schema's in its order, then others by name."""
    used = set().union(*rows)
    return [name for name in fields if name in used or fields[name].required] + sorted(
        used - fields.keys()
    )


def _sorted(value: Any) -> Any:
    """Order the keys of nested dicts."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(entry) for entry in value] if isinstance(value, list) else value


def _same_array(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Compare type, shape and values; NaN equals NaN."""
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
