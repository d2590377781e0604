"""The graph: its nodes and edges, taking parts of it, naming them, tables of it."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import networkx
import numpy as np
from numpy.typing import NDArray

from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError, nearest, warn
from explgraph.graph import parts as parts_
from explgraph.graph.and_or import AndOr
from explgraph.graph.labels import Labels, read_labels, write_labels
from explgraph.graph.parts import Part
from explgraph.graph.schema import (
    EDGE_FIELDS,
    GRAPH_FIELDS,
    NODE_FIELDS,
    attributes_in_use,
    check,
    check_whereabouts,
)
from explgraph.network.geometry import Layer
from explgraph.rows import pandas
from explgraph.statistics.reliability import cut_for

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Graph", "check_graph"]

G = TypeVar("G", bound="Graph")


def check_graph(graph: object) -> None:
    """Refuse what is no graph, such as the path of its file.

    Raises
    ------
    ExplgraphError
    """
    if not isinstance(graph, Graph):
        raise ExplgraphError(
            f"graph must be an ExplanatoryGraph, got {type(graph).__name__}; open a file with "
            "explgraph.load"
        )


class Graph:
    """Part patterns of a network's filters, and which of them go together.

    `explgraph.ExplanatoryGraph` is the same, able to parse images and to write itself.

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
    whereabouts : dict, optional
        Where the images of `top_images` are, for pictures (`explgraph.images.whereabouts`). Other
        programs' files don't get to know it, and graphs are equal without.
    grown : AndOr, optional
        How named parts are located by the nodes; `ExplanatoryGraph.and_or` shows it.

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
        whereabouts: dict[str, Any] | None = None,
        grown: AndOr | None = None,
    ) -> None:
        self.nx = nx
        self.fitted: dict[str, NDArray[Any]] = dict(fitted or {})
        self.top_images: dict[str, list[list[Any]]] = dict(top_images or {})
        self.whereabouts = whereabouts
        self.grown = grown
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
            If the graph has no such layer, or the layer no such filter.
        """
        self._check_layers([layer])
        if filter is not None and (isinstance(filter, bool) or not isinstance(filter, Integral)):
            raise ExplgraphError(f"filter must be a whole number, got {filter!r}")
        channels = next(one.channels for one in self.layers if one.name == layer)
        if filter is not None and not 0 <= filter < channels:
            raise ExplgraphError(
                f"layer {layer!r} has no filter {filter}; expected 0 to {channels - 1}"
            )
        return tuple(
            node
            for node, values in self.nx.nodes.items()
            if values["layer"] == layer and (filter is None or values["filter"] == filter)
        )

    def by_layer(self) -> list[tuple[Layer, list[dict[str, Any]], int]]:
        """Give each layer's nodes' values and how many filters they are of, the top layer first."""
        held = []
        for layer in reversed(self.layers):
            nodes = [self.nx.nodes[node] for node in self.nodes_of(layer.name)]
            held.append((layer, nodes, len({values["filter"] for values in nodes})))
        return held

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that the nodes form, those that move first; see `Part`."""
        return parts_.parts_of(self)

    def part(self, part: str) -> Part:
        """Give a part by its id or its name.

        Raises
        ------
        ExplgraphError
            If there is none, or several parts have the name.
        """
        return parts_.find_part(self, part)

    def turns(self, nodes: Iterable[str]) -> dict[str, int]:
        """Say in which turn nodes come if parts take turns to name their most telling ones.

        What is shown first is then not one part over and over. Nodes of no part come after all
        others; in a graph without parts all come in the first turn.

        Raises
        ------
        ExplgraphError
            If the graph lacks one of the nodes.
        """
        return parts_.turns(self, nodes)

    def part_graph(self) -> networkx.DiGraph:
        """Give the graph of the parts.

        Returns
        -------
        networkx.DiGraph
            Nodes are the parts' ids, with ``name``, ``x``, ``y`` (usual place, px), ``support``,
            ``reliability``, ``follows``, ``nodes`` (how many) and ``layers``. An edge joins two
            parts whose nodes are linked, from the part whose nodes are the parents more often to
            what it consists of or goes with: ``dx``, ``dy`` (usual displacement, px), ``sigma``
            (how much it changes with the pose, px: small for what is rigid), ``copresence``
            (correlation of presences in the mined images), ``links`` (edges between their nodes)
            and, where measured, ``effect``: what the lower part's nodes account for of an upper
            node's score, mean over the upper nodes that have such links.

        Raises
        ------
        ExplgraphError
            If there are parts, and the graph lacks the parameters of mining.
        """
        return parts_.part_graph(self)

    def name_part(self: G, part: str, name: str) -> G:
        """Name a part (by id or name): gives a new graph. An empty name takes it away.

        Raises
        ------
        ExplgraphError
            If there is no such part.
        """
        return self._decided(lambda graph: parts_.renamed(graph, part, name))

    def merge_parts(self: G, parts: Sequence[str], name: str | None = None) -> G:
        """Make several parts (by ids or names) one, the first of them: gives a new graph.

        Parameters
        ----------
        parts : sequence of str
        name : str, optional
            Of the whole; the only name among them by default.

        Raises
        ------
        ExplgraphError
            If there is no such part, one is named twice, or they have several names.
        """
        return self._decided(lambda graph: parts_.merged(graph, parts, name))

    def split_part(self: G, part: str) -> G:
        """Make two parts of one (by id or name), by what its nodes do: gives a new graph.

        The first keeps the id; the second has a new one, and comes after it.

        Raises
        ------
        ExplgraphError
            If there is no such part, or its nodes all do the same.
        """
        return self._decided(lambda graph: parts_.split(graph, part))

    def reject_part(self: G, part: str) -> G:
        """Take a part (by id or name) away: gives a new graph. Its nodes stay, without a part.

        Raises
        ------
        ExplgraphError
            If there is no such part.
        """
        return self._decided(lambda graph: parts_.rejected(graph, part))

    def _decided(self: G, decide: Callable[[Graph], None]) -> G:
        """Do something to the parts of a copy."""
        graph = self._restricted(self.nx)
        decide(graph)
        graph.validate()
        return graph

    def prune(
        self: G,
        min_reliability: float | None = None,
        top: float | None = None,
        *,
        fdr: float | None = None,
        by: Literal["node", "part"] = "node",
    ) -> G:
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
            (`statistics.reliability`). Nodes without reliability go at any share. It holds for
            nodes of the layers that the graph has, before others were taken out.
        by : "node" or "part"
            With "part", `top` is of every part, the most telling nodes of each (`Part.nodes`);
            nodes of no part go.

        Returns
        -------
        Graph
            A new graph with the nodes in their old order. ``fitted`` is kept whole, so that the
            nodes that are left are found where they were found before.

        Raises
        ------
        ExplgraphError
            If a value is out of range, or `fdr` is asked of a graph that was mined without decoys.
        """
        if by not in ("node", "part"):
            raise ExplgraphError(f"by is {by!r}; expected 'node' or 'part'")
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
            if by == "part":
                left = set(keep)
                members = [[v for v in part.nodes if v in left] for part in self.parts]
            else:
                members = [sorted(keep, key=lambda node: -reliability[node])]
            keep = [
                node
                for nodes in members
                for node in nodes[: int(top) if whole else math.ceil(top * len(nodes))]
            ]
        elif by == "part":
            keep = [node for node in keep if self.nx.nodes[node].get("part")]
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

    def subgraph(self: G, layers: Sequence[str]) -> G:
        """Keep the nodes of some layers and the edges between them; ``layers`` stays whole.

        Raises
        ------
        ExplgraphError
            If the graph has no such layer.
        """
        names = [layers] if isinstance(layers, str) else list(layers)
        self._check_layers(names)
        return self._restricted(v for v, layer in self.nx.nodes(data="layer") if layer in names)

    def restricted(self: G, nodes: Iterable[str]) -> G:
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

    def _restricted(self: G, nodes: Iterable[str]) -> G:
        """Build the graph of some of the nodes; attributes are copied, ``fitted`` is shared."""
        wanted = set(nodes)
        kept = networkx.DiGraph()
        kept.graph.update(copy.deepcopy(self.nx.graph))
        kept.add_nodes_from((v, dict(a)) for v, a in self.nx.nodes.items() if v in wanted)
        kept.add_edges_from(
            (u, v, dict(a)) for u, v, a in self.nx.edges(data=True) if u in wanted and v in wanted
        )
        top_images = {v: copy.deepcopy(seen) for v, seen in self.top_images.items() if v in wanted}
        grown = None if self.grown is None else self.grown.restricted(wanted)
        return type(self)(kept, self.fitted, top_images, self.whereabouts, grown)

    def apply_labels(self: G, labels: str | os.PathLike[str] | Mapping[str, Any]) -> G:
        """Take up people's decisions: names, merged nodes, rejected nodes, and those on parts.

        Parameters
        ----------
        labels : path or mapping
            A ``labels.json`` as the explorer page writes it, or its content: ``format``
            ("explgraph labels") and ``format_version`` (1), and as far as there are any,
            ``labels`` (node id to name), ``merged`` (lists of node ids), ``rejected`` (node ids)
            and ``model_fingerprint``.

        Returns
        -------
        Graph
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
            If the labels are of another model's graph, or a part that was decided on is not found.
        """
        decided = read_labels(labels)
        for what, nodes in (
            ("labels", decided.labels),
            ("merged", [node for group in decided.merged for node in group]),
            ("rejected", decided.rejected),
        ):
            for node in nodes:
                if node not in self.nx:
                    raise ExplgraphError(
                        f"{what} names {node!r}, which the graph lacks"
                        f"{nearest(node, self.node_ids)}; are the labels of another graph?"
                    )
        mined_with = self.nx.graph["model_fingerprint"]
        if decided.model_fingerprint and mined_with and decided.model_fingerprint != mined_with:
            warn(
                "the labels were given to a graph of another model; its parts of the same id may "
                "be others"
            )
        names = {
            node: decided.labels.get(node, label) for node, label in self.nx.nodes(data="label")
        }
        for group in decided.merged:
            found = sorted({names[node] for node in group} - {""})
            if len(found) > 1:
                raise ExplgraphError(
                    f"merged nodes {', '.join(group)} have the names "
                    f"{', '.join(map(repr, found))}; give them one, in labels"
                )
            names.update(dict.fromkeys(group, found[0] if found else group[0]))
        rejected = set(decided.rejected)
        kept = self.restricted(node for node in self.node_ids if node not in rejected)
        for node, attributes in kept.nx.nodes.items():
            attributes["label"] = names[node]
        missing = parts_.apply_decisions(kept, decided.parts)
        if missing:
            names_ = ", ".join(repr(part.name or part.id) for part in missing)
            warn(
                f"no part of this graph is like {names_} of the labels (half of its filters, near "
                "where it was); look for it among graph.parts and name it again"
            )
        kept.validate()
        return kept

    def write_labels(self, path: str | os.PathLike[str]) -> None:
        """Write what was decided on the parts, and nodes' names, as a ``labels.json``.

        `apply_labels` takes it up again, in this graph or in one that was mined anew.

        Raises
        ------
        ExplgraphError
            If the file can't be written.
        """
        names = {node: label for node, label in self.nx.nodes(data="label") if label}
        fingerprint = self.nx.graph["model_fingerprint"]
        write_labels(Labels(names, (), (), fingerprint, parts_.decisions(self)), path)

    def to_frame(self, kind: Literal["nodes", "edges", "parts"] = "nodes") -> pd.DataFrame:
        """Give the nodes, the edges or the parts as a pandas table.

        Returns
        -------
        pandas.DataFrame
            ``"nodes"``: one row per node, indexed by its id, in the graph's order, one column
            per attribute. ``"edges"``: columns ``parent``, ``child`` and the attributes.
            ``"parts"``: one row per part, indexed by its id, with ``name``, ``x``, ``y``,
            ``support``, ``reliability``, ``follows``, ``nodes`` (how many) and ``layers``: see
            `graph.parts.Part`.

        Raises
        ------
        ExplgraphError
            If pandas isn't installed or `kind` is none of these.
        """
        if kind not in ("nodes", "edges", "parts"):
            raise ExplgraphError(f"kind is {kind!r}; expected 'nodes', 'edges' or 'parts'")
        pd = pandas()
        if kind == "nodes":
            columns = attributes_in_use(NODE_FIELDS, self.nx.nodes.values())
            rows = [[a.get(c) for c in columns] for a in self.nx.nodes.values()]
            return pd.DataFrame(rows, columns=columns, index=pd.Index(list(self.nx), name="node"))
        if kind == "parts":
            ids = pd.Index([part.id for part in self.parts], name="part")
            columns = ["name", "x", "y", "support", "reliability", "follows", "nodes", "layers"]
            rows = [
                [
                    *(p.name, *p.place, p.support, p.reliability, p.follows),
                    *(len(p.nodes), ", ".join(p.layers)),
                ]
                for p in self.parts
            ]
            return pd.DataFrame(rows, columns=columns, index=ids)
        edges = self._edges()
        columns = attributes_in_use(EDGE_FIELDS, (a for _, _, a in edges))
        rows = [[u, v, *(a.get(c) for c in columns)] for u, v, a in edges]
        return pd.DataFrame(rows, columns=["parent", "child", *columns])

    def to_node_link(self) -> dict[str, Any]:
        """Give the graph in the node-link form of networkx, in a canonical order.

        Returns
        -------
        dict
            ``directed``, ``multigraph``, ``graph``, ``nodes`` (``id`` and attributes) and
            ``edges`` (``source``, ``target`` and attributes); plain JSON values, shared with the
            graph.
        """
        known = {name: self.nx.graph[name] for name in GRAPH_FIELDS}
        known["layers"] = [layer.as_dict() for layer in self.layers]
        for name in sorted(set(self.nx.graph) - set(known)):
            known[name] = self.nx.graph[name]
        for name, value in known.items():
            if isinstance(value, dict):
                known[name] = _sorted(value)
        nodes = self.nx.nodes
        edges = self._edges()
        node_columns = attributes_in_use(NODE_FIELDS, nodes.values())
        edge_columns = attributes_in_use(EDGE_FIELDS, (a for _, _, a in edges))
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
        check(self.nx, self.fitted, self.top_images)
        if self.whereabouts is not None:
            check_whereabouts(self.whereabouts, self.image_size)
        parts_.check_parts(self.nx)
        if self.grown is not None:
            self.grown.check(self.nx)

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

    def __len__(self) -> int:
        """Count the nodes."""
        return len(self.nx)

    def __eq__(self, other: object) -> bool:
        """Compare everything, the order of the nodes too; the order of edges doesn't count."""
        if not isinstance(other, Graph):
            return NotImplemented
        return (
            list(self.nx.nodes.items()) == list(other.nx.nodes.items())
            and dict(self.nx.edges) == dict(other.nx.edges)
            and self.nx.graph == other.nx.graph
            and self.top_images == other.top_images
            and self.grown == other.grown
            and self.fitted.keys() == other.fitted.keys()
            and all(_same_array(a, other.fitted[name]) for name, a in self.fitted.items())
        )

    __hash__ = None  # type: ignore[assignment]  # it can change

    def __repr__(self) -> str:
        height, width = self.image_size
        lines = [
            f"ExplanatoryGraph: {counted(len(self), 'part node')} and "
            f"{counted(self.nx.number_of_edges(), 'link')}, "
            f"mined from {counted(self.nx.graph['n_images'], 'image')} of {width} x {height} px; "
            "layers "
            "from the output down:"
        ]
        lines += [
            f"  {layer.name}: {counted(len(nodes), 'node')} from {filters:,} of "
            f"{counted(layer.channels, 'filter')}, "
            f"{layer.width} x {layer.height} units"
            for layer, nodes, filters in self.by_layer()
        ]
        if parts := self.parts:
            named = sum(bool(part.name) for part in parts)
            held = sum(len(part.nodes) for part in parts)
            lines.append(
                f"{counted(len(parts), 'part')} {'holds' if len(parts) == 1 else 'hold'} {held:,} "
                "of the nodes" + (f"; {named} named" * (named > 0))
            )
        if self.grown is not None:
            lines.append(f"located: {few(part.name for part in self.grown.parts)}")
        return "\n".join(lines)


def _sorted(value: Any) -> Any:
    """Order the keys of nested dicts."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(entry) for entry in value] if isinstance(value, list) else value


def _same_array(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Compare type, shape and values; NaN equals NaN."""
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
