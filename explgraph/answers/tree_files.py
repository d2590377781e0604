"""Decision trees as files: a page, Graphviz's DOT, node-link JSON.

The page holds no scripts and nothing from elsewhere; modes unfold in place. Names are escaped.
"""

from __future__ import annotations

import base64
import html
import io
import json
import os
from collections.abc import Callable, Mapping

import networkx
from PIL import Image

from explgraph.atomic import atomic_write
from explgraph.errors import ExplgraphError
from explgraph.suffixes import TREES, check_suffix
from explgraph.views.pictures import Pictures

__all__ = ["write"]

_PARTS = 8  # shown of a mode
_PICTURES = 8
_SIDE = 72  # px of a picture on the page


def write(
    tree: networkx.DiGraph,
    path: str | os.PathLike[str],
    *,
    depth: int = 4,
    pictures: Pictures | None = None,
) -> None:
    """Write a tree in the format of the path's suffix, whole or not at all.

    Parameters
    ----------
    tree : networkx.DiGraph
        As `explgraph.DecisionTree.nx` gives it.
    path : path
        ``.html`` (a page), ``.dot``/``.gv`` (Graphviz) or ``.json`` (node-link, as networkx has
        it).
    depth : int
        How many levels below the root are shown; JSON holds all of them.
    pictures : Pictures, optional
        For a page: those that the tree was fitted to.

    Raises
    ------
    ExplgraphError
        If the suffix isn't known, pictures lack an image, or the file can't be written.
    """
    suffix = check_suffix(path, TREES)
    if pictures is not None and suffix != ".html":
        raise ExplgraphError(f"a {suffix} file has no pictures; write .html with them")
    text = _page(tree, depth, pictures) if suffix == ".html" else _WRITERS[suffix](tree, depth)
    with atomic_write(path) as temporary:
        # names of files may be no UTF-8
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def _json(tree: networkx.DiGraph, _depth: int) -> str:
    """Give all modes as node-link JSON."""
    return json.dumps(networkx.node_link_data(tree, edges="edges"), indent=1) + "\n"


def _dot(tree: networkx.DiGraph, depth: int) -> str:
    """Give the upper levels as DOT: an edge is as wide as its share of the images is large."""
    n = tree.nodes[0]["n_images"]
    lines = [
        "digraph decision_tree {",
        '  graph [rankdir=TB, fontname="Helvetica"];',
        '  node [shape=box, style="rounded,filled", fillcolor="#f4f6f8", color="#7b8794", '
        'fontname="Helvetica", fontsize=10];',
        '  edge [color="#7b8794", arrowsize=0.5];',
    ]
    for number, values in tree.nodes.items():
        if values["depth"] > depth:
            continue
        parts = [f"{value:+.2f} {node}" for node, value in list(values["parts"].items())[:_PARTS]]
        text = "\n".join([_title(number, values), *parts, f"{values['bias']:+.2f} besides"])
        lines.append(f"  {number} [label={_quoted(text)}];")
    for coarse, fine in tree.edges:
        if tree.nodes[fine]["depth"] <= depth:
            width = 0.5 + 4 * tree.nodes[fine]["n_images"] / n
            lines.append(f"  {coarse} -> {fine} [penwidth={width:.2f}];")
    return "\n".join([*lines, "}", ""])


def _title(number: int, values: Mapping[str, object]) -> str:
    """Name a mode."""
    n = values["n_images"]
    images = "1 image" if n == 1 else f"{n} images"
    return f"the class: {images}" if number == 0 else f"mode {number}: {images}"


def _quoted(text: str) -> str:
    """Quote a label for Graphviz, which reads backslashes and entities in it."""
    text = text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
    return '"' + text.replace("\n", "\\l") + '\\l"'


_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em;
       color: #1f2933; background: #fff }
details { border-left: 2px solid #d5dbe1; margin: .4em 0 .4em .3em; padding-left: 1em }
summary { cursor: pointer; font-weight: 600 }
td { padding: 0 .6em 0 0; white-space: nowrap } td.value { text-align: right }
.bar { display: inline-block; height: .7em; background: #04568f } .bar.less { background: #c2570c }
img { margin: 2px; border-radius: 3px } p { color: #5b6774; margin: .3em 0 }
"""


def _page(tree: networkx.DiGraph, depth: int, pictures: Pictures | None) -> str:
    """Give the page."""
    n_modes = len(tree[0])
    modes = "1 decision mode" if n_modes == 1 else f"{n_modes} decision modes"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Decision tree</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>Decision tree: {modes}</h1>\n"
        "<p>Each mode is one way in which the network decides for the class: the parts that count "
        "and what they add to the class's score, mean over the mode's images. Below a mode lie "
        "the finer ones that it was merged from.</p>\n"
        f"{_section(tree, 0, depth, pictures)}\n</body></html>\n"
    )


def _section(nx: networkx.DiGraph, number: int, depth: int, pictures: Pictures | None) -> str:
    """Give a mode and, unfolding, those below it."""
    values = nx.nodes[number]
    shown = list(values["parts"].items())[:_PARTS]
    longest = max((abs(value) for _, value in shown), default=1.0)
    rows = "".join(
        f'<tr><td>{html.escape(node)}</td><td class="value">{value:+.3f}</td>'
        f'<td><span class="bar{" less" if value < 0 else ""}" '
        f'style="width:{10 * abs(value) / longest:.2f}em"></span></td></tr>'
        for node, value in shown
    )
    more = len(values["parts"]) - len(shown)
    besides = f"and {more} more parts; " if more > 0 else ""
    images = "".join(_picture(pictures, name) for name in values["names"][:_PICTURES])
    finer = (
        "".join(_section(nx, below, depth, pictures) for below in nx[number])
        if values["depth"] < depth
        else ""
    )
    unfolded = " open" if values["depth"] < 2 else ""
    return (
        f"<details{unfolded}><summary>{_title(number, values)}</summary><div>{images}</div>"
        f"<table>{rows}</table><p>{besides}{values['bias']:+.3f} besides</p>{finer}</details>"
    )


def _picture(pictures: Pictures | None, name: str) -> str:
    """Give a small picture, or only the image's name."""
    told = html.escape(name, quote=True)
    if pictures is None:
        return f"<code>{told}</code> "
    content = io.BytesIO()
    small = Image.fromarray(pictures[name])
    small.thumbnail((_SIDE, _SIDE))
    small.save(content, "JPEG", quality=80)
    data = base64.b64encode(content.getvalue()).decode()
    return f'<img src="data:image/jpeg;base64,{data}" alt="{told}" title="{told}">'


_WRITERS: Mapping[str, Callable[[networkx.DiGraph, int], str]] = {
    ".dot": _dot,
    ".gv": _dot,
    ".json": _json,
}
