"""An And-Or graph in files: for other programs, as DOT, as a drawing or a page.

Laid out from left to right: parts, their templates, the nodes that vote. In DOT, as in drawings and
pages, a template has the nodes that make up nine tenths of its vote
(`graph.and_or.AndOrTemplate.telling`), the heaviest first; all are in other programs' files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from numbers import Integral
from typing import TYPE_CHECKING, Any

import networkx

from explgraph import rows
from explgraph.atomic import atomic_write
from explgraph.brief import counted
from explgraph.errors import ExplgraphError
from explgraph.graph.and_or import AndOr, part_id, template_id
from explgraph.graph.graph import Graph
from explgraph.parsed import Parse
from explgraph.suffixes import AND_ORS, DRAWINGS, check_suffix
from explgraph.views.and_or_page import page
from explgraph.views.dot import quoted_id, quoted_label, quoted_tooltip, rendered
from explgraph.views.draw_patches import Patches
from explgraph.views.files import FORMATS
from explgraph.views.layout import colour, own_name
from explgraph.views.pictures import Drawable
from explgraph.views.remembered import remembered_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["AndOrFile", "dot_source", "draw", "write"]

_ACROSS, _DOWN = 400.0, 60.0  # between columns, and between nodes, of a layout
_LAST = {"part": 0, "template": 1, "node": 2}  # the column of each kind
_MOST = 8  # nodes of a template in DOT, unless told otherwise


_OPTIONS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys((".html", *DRAWINGS), ("images", "parse", "most")),
    **dict.fromkeys((".dot", ".gv"), ("most",)),
}


def write(
    graph: Graph,
    grown: AndOr,
    path: str | os.PathLike[str],
    *,
    images: Drawable | None = None,
    parse: Parse | None = None,
    most: int | None = None,
) -> None:
    """Write an And-Or graph in the format of the path's suffix, whole or not at all.

    Parameters
    ----------
    graph : Graph
    grown : AndOr
        Of its nodes.
    path : path
        As `AndOrGraph.write` says.
    images, parse
        Where patches are cut from, for pages and drawings.
    most : int, optional
        Nodes of each template, at most; for pages, drawings and DOT.

    Raises
    ------
    ExplgraphError
        If the suffix isn't known or has no such option, or the file can't be written.

    Warns
    -----
    ExplgraphWarning
        If the images that the graph remembers are gone, or others than they were.
    """
    suffix = check_suffix(path, AND_ORS)
    given = {"images": images, "parse": parse, "most": most}
    known = _OPTIONS.get(suffix, ())
    for name, value in given.items():
        if value is not None and name not in known:
            raise ExplgraphError(
                f"a {suffix} file has no option {name!r}; it takes {', '.join(known) or 'none'}"
            )
    most = _checked_most(most)
    if suffix in DRAWINGS and find_spec("matplotlib") is not None:
        draw(graph, grown, path, images=images, parse=parse, most=most)
        return
    if suffix == ".csv":
        rows.write(path, rows.columns_of(grown.table(graph.nx.nodes)))
        return
    if suffix == ".html":
        content = page(graph, grown, _patches(graph, path, images, parse), most).encode(
            "utf-8", "backslashreplace"  # names of files may be no UTF-8
        )  # fmt: skip
    elif suffix in FORMATS:
        content = FORMATS[suffix](AndOrFile(graph, grown)).encode()
    else:
        source = dot_source(graph, grown, most)
        content = rendered(source, suffix[1:]) if suffix in DRAWINGS else source.encode()
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def draw(
    graph: Graph,
    grown: AndOr,
    path: str | os.PathLike[str] | None = None,
    *,
    images: Drawable | None = None,
    parse: Parse | None = None,
    width: float = 174.0,
    dpi: int = 300,
    most: int | None = None,
) -> Figure:
    """Draw an And-Or graph by matplotlib: see `AndOrGraph.draw`."""
    from explgraph.views.draw_and_or import draw_and_or
    from explgraph.views.figure_style import written
    from explgraph.views.sheet import checked_paper

    paper = checked_paper(width, dpi)
    patches = _patches(graph, path or "the drawing", images, parse)
    return written(draw_and_or(graph, grown, patches, paper, _checked_most(most)), path)


def _patches(
    graph: Graph, path: str | os.PathLike[str], images: Drawable | None, parse: Parse | None
) -> Patches:
    """Open the images that are given, or that the graph remembers."""
    if images is None and parse is not None:
        raise ExplgraphError("parse needs the images that were parsed; give images=, too")
    return Patches(graph, remembered_for(graph, path) if images is None else images, parse)


class AndOrFile:
    """An And-Or graph, ready to be written (`files.Other`).

    Parameters
    ----------
    graph : Graph
    grown : AndOr
        Of its nodes.
    """

    def __init__(self, graph: Graph, grown: AndOr) -> None:
        self._nx = grown.network(graph.nx.nodes)
        self._image_size = list(graph.image_size)

    def to_node_link(self) -> dict[str, Any]:
        """Give it in the node-link form of networkx, with ``images`` and ``image_size``."""
        content: dict[str, Any] = networkx.node_link_data(self._nx, edges="edges")
        nodes = [{"id": v} | values for v, values in self._nx.nodes.items()]
        edges = [{"source": u, "target": v} | values for u, v, values in self._nx.edges(data=True)]
        return content | {
            "graph": self._nx.graph | {"image_size": self._image_size},
            "nodes": nodes, "edges": edges,
        }  # fmt: skip

    @property
    def positions(self) -> Mapping[str, tuple[float, float]]:
        """Places in three columns: what is joined to others lies beside their middle."""
        kinds = dict(self._nx.nodes(data="kind"))
        nodes = [v for v, kind in kinds.items() if kind == "node"]
        down = {v: _DOWN * k for k, v in enumerate(nodes)}
        for kind in ("template", "part"):
            for v in (v for v, found in kinds.items() if found == kind):
                below = [down[u] for u in self._nx[v]]
                down[v] = sum(below) / len(below)
        return {v: (_ACROSS * _LAST[kind], down[v]) for v, kind in kinds.items()}


def dot_source(graph: Graph, grown: AndOr, most: int | None = None) -> str:
    """Give it as DOT: the wider a line, the more what it leads to is used.

    Parameters
    ----------
    graph : Graph
    grown : AndOr
    most : int, optional
        Nodes of a template, at most: 8 by default.
    """
    lines = [
        "digraph and_or {",
        '  graph [rankdir=LR, ranksep=1.4, nodesep=0.12, fontname="Helvetica", bgcolor="white", '
        'outputorder=edgesfirst, tooltip="And-Or graph"];',
        '  node [style="filled,rounded", shape=box, color="#7b8794", fontname="Helvetica", '
        'fontsize=10, margin="0.12,0.05"];',
        '  edge [color="#7b8794", arrowhead=none];',
    ]
    seen: set[str] = set()
    for part in grown.parts:
        above = part_id(part.name)
        text = f"{part.name}\n{counted(part.marks, 'mark')}, within {part.radius:.0f} px"
        lines.append(
            f"  {quoted_id(above)} [label={quoted_label(text)}, shape=ellipse, style=filled, "
            f'fillcolor="#fdf1e7", tooltip={quoted_tooltip(f"{part.name}: {part.told}")}];'
        )
        for number, template in enumerate(part.templates, 1):
            here = template_id(part.name, number)
            text = (
                f"template {number}\nspeaks in {template.share:.0%}, "
                f"{counted(len(template.shots), 'mark')}"
            )
            tooltip = "fitted to " + ", ".join(shot.image for shot in template.shots)
            lines.append(
                f"  {quoted_id(here)} [label={quoted_label(text)}, "
                f'fillcolor="#f4f6f8", tooltip={quoted_tooltip(tooltip[:200])}];'
            )
            lines.append(
                f"  {quoted_id(above)} -> {quoted_id(here)} "
                f"[penwidth={0.5 + 4 * template.share:.2f}];"
            )
            shown = template.telling(_MOST if most is None else most)
            heaviest = max(max(voter.share for voter in shown), 1e-9)
            for voter in shown:
                if voter.node not in seen:
                    seen.add(voter.node)
                    lines.append(f"  {_node(graph, voter.node)}")
                tooltip = (
                    f"{voter.share:.1%} of the vote; ({voter.dx:+.0f}, {voter.dy:+.0f}) px, "
                    f"spread {voter.spread:.0f} px"
                )
                if voter.agreement is not None:
                    tooltip += f"; agrees in {voter.agreement:.0%}"
                lines.append(
                    f"  {quoted_id(here)} -> {quoted_id(voter.node)} "
                    f"[penwidth={0.4 + 3.6 * voter.share / heaviest:.2f}, "
                    f"tooltip={quoted_tooltip(tooltip)}];"
                )
            if more := template.rest_told(len(shown)):
                rest = quoted_id(f"{here} more")
                lines.append(
                    f"  {rest} [label={quoted_label(more)}, shape=plaintext, style=solid, "
                    'fontcolor="#5b6774"];'
                )
                lines.append(f"  {quoted_id(here)} -> {rest} [style=dotted];")
    return "\n".join([*lines, "}", ""])


def _node(graph: Graph, node: str) -> str:
    """One node's statement."""
    values = graph.nx.nodes[node]
    red, green, blue = colour(values["reliability"])
    ink = "#1f2933" if values["reliability"] < 0.7 else "white"
    part = values.get("part", "")
    told = f"{node}\nreliability {values['reliability']:.2f}" + f"\npart {part}" * bool(part)
    text = f"{values['layer']} {own_name(node)}"
    return (
        f'{quoted_id(node)} [label={quoted_label(text)}, fontsize=9, fontcolor="{ink}", '
        f'fillcolor="#{red:02x}{green:02x}{blue:02x}", tooltip={quoted_tooltip(told)}];'
    )


def _checked_most(most: int | None) -> int | None:
    """Refuse what is no number of nodes."""
    if most is not None and (isinstance(most, bool) or not isinstance(most, Integral) or most < 1):
        raise ExplgraphError(f"most is {most!r}; expected a whole number, 1 or more")
    return None if most is None else int(most)
