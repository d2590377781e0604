"""A graph as text that other programs read.

Every function gives the whole file. Node ids, edges and all attributes are kept with their
types; lists and dicts of the graph as a whole become JSON text where a format has only scalars.

GraphML
    http://graphml.graphdrawing.org/specification.html; read by networkx, igraph, Gephi, yEd,
    Cytoscape, graphology.
GEXF 1.2
    https://gexf.net; Gephi's own format, with position, size and colour. Programs take ``x`` and
    ``y`` for the place in the drawing, so the pattern's place in the image is called
    ``image_x`` and ``image_y`` here. Graph attributes are JSON in ``meta/description``.
GML
    Himsolt, "GML: a portable graph file format", 1997. 7-bit text; names have letters and
    digits only (``layer_index`` is ``layerIndex``), ``label`` is the node's id, as networkx
    expects, and the user's label is ``partLabel``; truth values are 1 and 0; integers beyond
    32 bits are reals.
JSON
    The node-link form of networkx (``networkx.node_link_graph(..., edges="edges")``).
Cytoscape.js JSON
    https://js.cytoscape.org/#notation/elements-json; for cytoscape.js and Cytoscape.

Other graphs (`Other`) are written the same way: that of the parts (`PartGraph`) is laid out as the
parts lie in the image, its nodes are called by the parts' names, and an edge weighs as much as it
has links; an edge of an And-Or graph (`and_or_files`) as much as it is used.

networkx writes GraphML and GEXF, too, but less arrives in the readers of the tests (tried with
3.6): of GraphML, carriage returns come back as line feeds everywhere and graphology finds none of
the graph's attributes; GEXF holds no attributes of the graph at all.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import networkx

from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph
from explgraph.views.layout import band_positions, colour

__all__ = [
    "FORMATS",
    "Other",
    "PartGraph",
    "cytoscape_json",
    "gexf",
    "gml",
    "graphml",
    "node_link_json",
]

_WEIGHTS = ("consistency", "links", "share")  # of edges of nodes, of parts, of an And-Or graph
_STRUCTURE = ("id", "source", "target")
_XML_TYPES = {str: "string", int: "long", float: "double", bool: "boolean"}


class Other(Protocol):
    """A graph that isn't the explanatory graph itself, ready to be written."""

    def to_node_link(self) -> dict[str, Any]:
        """Give it in the node-link form of networkx; nodes have ``name``."""

    @property
    def positions(self) -> Mapping[str, tuple[float, float]]:
        """Places in the drawing, y down."""


class PartGraph:
    """The graph of a graph's parts, ready to be written.

    Parameters
    ----------
    graph : Graph

    Raises
    ------
    ExplgraphError
        If it has no parts, or lacks the parameters of mining.
    """

    def __init__(self, graph: Graph) -> None:
        self._nx = graph.part_graph()
        self._image_size = list(graph.image_size)
        if not len(self._nx):
            raise ExplgraphError(
                "the graph has no parts that could be written; write the graph itself, or mine "
                "from more images"
            )

    def to_node_link(self) -> dict[str, Any]:
        """Give it in the node-link form of networkx; the graph's attribute is ``image_size``."""
        content: dict[str, Any] = networkx.node_link_data(self._nx, edges="edges")
        # in the order of other graphs' files: what an entry is, then what is known of it
        nodes = [{"id": v} | values for v, values in self._nx.nodes.items()]
        edges = [{"source": u, "target": v} | values for u, v, values in self._nx.edges(data=True)]
        return content | {
            "graph": {"image_size": self._image_size}, "nodes": nodes, "edges": edges,
        }  # fmt: skip

    @property
    def positions(self) -> dict[str, tuple[float, float]]:
        """Usual places ``[x, y]``, px."""
        return {v: (values["x"], values["y"]) for v, values in self._nx.nodes.items()}


def graphml(graph: Graph | Other) -> str:
    """Give the graph as GraphML."""
    content = graph.to_node_link()
    attributes = _scalars(content["graph"])
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">',
    ]
    for scope, rows in (
        ("graph", [attributes]),
        ("node", content["nodes"]),
        ("edge", content["edges"]),
    ):
        lines += [
            f' <key id="{scope}_{name}" for="{scope}" attr.name="{name}" attr.type="{kind}"/>'
            for name, kind in _types(rows).items()
        ]

    def data(scope: str, values: Mapping[str, Any]) -> str:
        return "".join(
            f'<data key="{scope}_{name}">{_xml(value)}</data>'
            for name, value in values.items()
            if name not in _STRUCTURE
        )

    lines.append(f' <graph edgedefault="directed">{data("graph", attributes)}')
    lines += [
        f'  <node id="{_xml(node["id"])}">{data("node", node)}</node>' for node in content["nodes"]
    ]
    lines += [
        f'  <edge source="{_xml(edge["source"])}" target="{_xml(edge["target"])}">'
        f"{data('edge', edge)}</edge>"
        for edge in content["edges"]
    ]
    return "\n".join([*lines, " </graph>", "</graphml>", ""])


def gexf(graph: Graph | Other) -> str:
    """Give the graph as GEXF with a layout.

    A node's size grows with its support, its colour with its reliability; an edge's weight is
    its consistency; a node without a label is labelled by its id.
    """
    content = graph.to_node_link()
    positions = _positions(graph)
    nodes = [
        _renamed(node, {"x": "image_x", "y": "image_y"}.get) | {"label": _called(node)}
        for node in content["nodes"]
    ]
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<gexf xmlns="http://www.gexf.net/1.2draft" xmlns:viz="http://www.gexf.net/1.2draft/viz" '
        'version="1.2">',
        f" <meta><creator>explgraph</creator><description>{_xml(_json(content['graph']))}"
        "</description></meta>",
        ' <graph defaultedgetype="directed" mode="static">',
    ]
    for scope, rows in (("node", nodes), ("edge", content["edges"])):
        lines.append(f'  <attributes class="{scope}" mode="static">')
        lines += [
            f'   <attribute id="{name}" title="{name}" type="{kind}"/>'
            for name, kind in _types(rows).items()
            if name != "label"
        ]
        lines.append("  </attributes>")

    def attributes(values: Mapping[str, Any]) -> str:
        entries = "".join(
            f'<attvalue for="{name}" value="{_xml(value)}"/>'
            for name, value in values.items()
            if name not in (*_STRUCTURE, "label")
        )
        return f"<attvalues>{entries}</attvalues>"

    lines.append("  <nodes>")
    for node in nodes:
        x, y = positions[node["id"]]
        red, green, blue = colour(node.get("reliability", 1.0))
        lines.append(
            f'   <node id="{_xml(node["id"])}" label="{_xml(node["label"])}">{attributes(node)}'
            f'<viz:size value="{10 + 30 * node.get("support", 0.5):.1f}"/>'
            f'<viz:position x="{x}" y="{-y}" z="0.0"/>'  # Gephi's y points up
            f'<viz:color r="{red}" g="{green}" b="{blue}"/></node>'
        )
    lines += ["  </nodes>", "  <edges>"]
    lines += [
        f'   <edge id="{k}" source="{_xml(edge["source"])}" target="{_xml(edge["target"])}" '
        f'weight="{_weight(edge)!r}">{attributes(edge)}</edge>'
        for k, edge in enumerate(content["edges"])
    ]
    return "\n".join([*lines, "  </edges>", " </graph>", "</gexf>", ""])


def gml(graph: Graph | Other) -> str:
    """Give the graph as GML, in ASCII."""
    content = graph.to_node_link()
    lines = ['Creator "explgraph"', "graph [", " directed 1"]

    def pairs(values: Mapping[str, Any]) -> list[str]:
        named = _renamed({k: v for k, v in values.items() if k not in _STRUCTURE}, _gml_name)
        return [f"  {name} {_gml_value(value)}" for name, value in named.items()]

    lines += pairs(_scalars(content["graph"]))
    number = {node["id"]: k for k, node in enumerate(content["nodes"])}
    for node, k in zip(content["nodes"], number.values(), strict=True):
        lines += [" node [", f"  id {k}", f"  label {_gml_value(node['id'])}", *pairs(node), " ]"]
    for edge in content["edges"]:
        source, target = number[edge["source"]], number[edge["target"]]
        lines += [" edge [", f"  source {source}", f"  target {target}", *pairs(edge), " ]"]
    return "\n".join([*lines, "]", ""])


def node_link_json(graph: Graph | Other) -> str:
    """Give the graph as node-link JSON."""
    return json.dumps(graph.to_node_link(), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def cytoscape_json(graph: Graph | Other) -> str:
    """Give the graph as Cytoscape.js JSON with a layout; ``name`` is the label or the id."""
    content = graph.to_node_link()
    positions = _positions(graph)
    elements = {
        "nodes": [
            {
                "data": node | {"name": _called(node)},
                "position": dict(zip("xy", positions[node["id"]], strict=True)),
            }
            for node in content["nodes"]
        ],
        # a node's id has two slashes, a part's begins with p, or all end with a bracket: an edge's
        # can't be the same
        "edges": [{"data": {"id": f"e{k}"} | edge} for k, edge in enumerate(content["edges"])],
    }
    document = {
        "format_version": "1.0",
        "generated_by": "explgraph",
        "target_cytoscapejs_version": "~3.0",
        "data": {"name": "explanatory graph"} | _scalars(content["graph"]),
        "elements": elements,
        "layout": {"name": "preset"},  # else cytoscape.js drops the positions
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


FORMATS: Mapping[str, Callable[[Graph | Other], str]] = {
    ".graphml": graphml,
    ".gexf": gexf,
    ".gml": gml,
    ".json": node_link_json,
    ".cyjs": cytoscape_json,
}


def _positions(graph: Graph | Other) -> Mapping[str, tuple[float, float]]:
    """Lay a graph out, y down."""
    return band_positions(graph) if isinstance(graph, Graph) else graph.positions


def _called(node: Mapping[str, Any]) -> str:
    """Say what people call a node or a part."""
    called: str = node.get("label") or node.get("name") or node["id"]
    return called


def _weight(edge: Mapping[str, Any]) -> float:
    """Say how much an edge weighs."""
    return float(next(edge[name] for name in _WEIGHTS if name in edge))


def _json(value: Any) -> str:
    """Give JSON on one line, in ASCII."""
    return json.dumps(value, allow_nan=False)


def _scalars(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn what is no scalar into JSON text."""
    return {
        name: value if type(value) in _XML_TYPES else _json(value) for name, value in values.items()
    }


def _types(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """XML's name for the type of each attribute in use, in order of appearance."""
    return {
        name: _XML_TYPES[type(value)]
        for row in rows
        for name, value in row.items()
        if name not in _STRUCTURE
    }


def _xml(value: Any) -> str:
    """Write a value so that it survives in an element as well as in an attribute."""
    if isinstance(value, str):
        # what some reader takes for white space or the end of a line
        breaks = "[\t\n\r\x7f-\x9f\u2028\u2029]"
        return re.sub(breaks, lambda m: f"&#{ord(m[0])};", html.escape(value))
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _renamed(values: Mapping[str, Any], name_of: Callable[[str], str | None]) -> dict[str, Any]:
    """Give attributes their names in a format, where it has its own; two mustn't become one."""
    renamed: dict[str, Any] = {}
    for name, value in values.items():
        new = name_of(name) or name
        if new in renamed:
            raise ExplgraphError(
                f"attribute {name!r} would be written as {new!r}, which another attribute is "
                "called already; rename one of them"
            )
        renamed[new] = value
    return renamed


def _gml_name(name: str) -> str:
    """Spell a name in letters and digits."""
    if name == "label":
        return "partLabel"
    first, *others = [part for part in name.split("_") if part]
    return first + "".join(part[0].upper() + part[1:] for part in others)


def _gml_value(value: Any) -> str:
    """Write a value in GML's 7-bit text."""
    if isinstance(value, str):
        text = html.escape(value, quote=False).replace('"', "&quot;")
        return '"' + re.sub("[^ -~]", lambda m: f"&#{ord(m[0])};", text) + '"'
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int):
        return str(value) if -(2**31) <= value < 2**31 else f"{value}.0"
    text = repr(value).upper()
    if "E" in text and "." not in text:  # a real number has a point
        return text.replace("E", ".0E")
    return text
