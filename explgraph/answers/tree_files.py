"""Decision trees as files: a page, Graphviz's DOT, node-link JSON.

The page holds no scripts and nothing from elsewhere (`markup.page`); modes unfold in place. Names
are escaped. With pictures, a mode's parts are lettered where they are in its images, and each has a
few patches where it is strongest in them.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Callable, Mapping, Sequence
from string import ascii_lowercase  # numbers are those of parts
from typing import Any, NamedTuple

import networkx
from numpy.typing import NDArray

from explgraph.atomic import atomic_write
from explgraph.errors import ExplgraphError
from explgraph.explaining.explanation_page import AGAINST, FOR
from explgraph.markup import doubted, page
from explgraph.suffixes import TREES, check_suffix
from explgraph.views.pictures import Pictures, jpeg, part_side, patch
from explgraph.views.spread import spread

__all__ = ["Seen", "write"]

_PARTS = 8  # shown of a mode
_PICTURES = 5
_SIDE = 150  # px of a picture on the page
_PATCHES = 3  # of a part
_PATCH = 48  # px of a patch on the page
_BAR = 120  # px of the longest bar
_MARKS = 4  # parts that are marked in a picture: with more, marks would hide it
_MARK = 15.0  # px of a mark's disc


class Seen(NamedTuple):
    """Where a tree's V nodes or parts are in the N images that it was fitted to.

    Attributes
    ----------
    names : sequence of str
        Of the images.
    called : sequence of str
        Of the nodes or parts, as the tree calls them.
    places : (N, V, 2)
        px.
    activations : (N, V)
    """

    names: Sequence[str]
    called: Sequence[str]
    places: NDArray[Any]
    activations: NDArray[Any]


def write(
    tree: networkx.DiGraph,
    path: str | os.PathLike[str],
    *,
    depth: int = 4,
    pictures: Pictures | None = None,
    seen: Seen | None = None,
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
    seen : Seen, optional
        Where nodes are in them, for marks and patches.

    Raises
    ------
    ExplgraphError
        If the suffix isn't known, pictures lack an image, or the file can't be written.
    """
    suffix = check_suffix(path, TREES)
    if pictures is not None and suffix != ".html":
        raise ExplgraphError(f"a {suffix} file has no pictures; write .html with them")
    text = (
        _page(tree, depth, pictures, seen) if suffix == ".html" else _WRITERS[suffix](tree, depth)
    )
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
        some = list(values["parts"].items())[:_PARTS]
        parts = [f"{value:+.2f} {_told(tree, node)}" for node, value in some]
        text = "\n".join([_title(tree, number), *parts, f"{values['bias']:+.2f} besides"])
        lines.append(f"  {number} [label={_quoted(text)}];")
    for coarse, fine in tree.edges:
        if tree.nodes[fine]["depth"] <= depth:
            width = 0.5 + 4 * tree.nodes[fine]["n_images"] / n
            lines.append(f"  {coarse} -> {fine} [penwidth={width:.2f}];")
    return "\n".join([*lines, "}", ""])


def _title(tree: networkx.DiGraph, number: int) -> str:
    """Name a mode."""
    n = tree.nodes[number]["n_images"]
    images = "1 image" if n == 1 else f"{n} images"
    whole = tree.graph.get("class_title") or "the class"
    return f"{whole}: {images}" if number == 0 else f"mode {number}: {images}"


def _told(tree: networkx.DiGraph, node: str) -> str:
    """Give what people call a node or part."""
    told: str = tree.graph.get("told", {}).get(node, node)
    return told


def _quoted(text: str) -> str:
    """Quote a label for Graphviz, which reads backslashes and entities in it."""
    text = text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
    return '"' + text.replace("\n", "\\l") + '\\l"'


_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 64em; padding: 0 1em;
       color: #1f2933; background: #fff }
details { border-left: 2px solid #d5dbe1; margin: .4em 0 .4em .3em; padding-left: 1em }
summary { cursor: pointer; font-weight: 600 }
td { padding: 0 .6em .15em 0; white-space: nowrap; vertical-align: middle }
td.value { text-align: right; font-variant-numeric: tabular-nums }
.rows { overflow-x: auto } .images { display: flex; flex-wrap: wrap; gap: 4px; margin: .3em 0 }
td img { border-radius: 3px; margin-right: 2px; vertical-align: middle }
.quiet { color: #5b6774 } p { margin: .3em 0 }
.doubt { border-left: 4px solid #c2570c; background: #fdf1e7; padding: .5em .8em; margin: .6em 0 }
@media (prefers-color-scheme: dark) { body { background: #14181d; color: #e3e8ee }
  .quiet { color: #9aa7b4 } .doubt { background: #3a2617 } details { border-color: #3a444e } }
"""


def _page(tree: networkx.DiGraph, depth: int, pictures: Pictures | None, seen: Seen | None) -> str:
    """Give the page."""
    n_modes = len(tree[0])
    modes = "1 decision mode" if n_modes == 1 else f"{n_modes} decision modes"
    name = tree.graph.get("class_title", "")
    title = f"Decision tree of {name}" if name else "Decision tree"
    lettered = " Letters in the pictures are those of the rows." if pictures and seen else ""
    body = (
        f"{doubted(tree.graph.get('doubts', ()))}<h1>{html.escape(title)}: {modes}</h1>\n"
        '<p class="quiet">Each mode is one way in which the network decides for the class: the '
        "parts that count and what they add to the class's score, mean over the mode's images. "
        f"Below a mode lie the finer ones that it was merged from.{lettered}</p>\n"
        f'<p class="quiet">{html.escape(tree.graph.get("adds_up", ""))}</p>\n'
        f"{_section(tree, 0, depth, pictures, seen)}"
    )
    return page(title, _STYLE, body)


def _section(
    nx: networkx.DiGraph, number: int, depth: int, pictures: Pictures | None, seen: Seen | None
) -> str:
    """Give a mode and, unfolding, those below it."""
    values = nx.nodes[number]
    shown = list(values["parts"].items())[:_PARTS]
    longest = max((abs(value) for _, value in shown), default=1.0)
    drawn = pictures is not None and seen is not None
    rows = "".join(
        f"<tr>{f'<td>{k}</td>' * drawn}<td>{html.escape(_told(nx, node))}</td>"
        f"{_patches(node, values['names'], pictures, seen)}"
        f'<td class="value">{value:+.3f}</td>'
        f'<td><svg width="{_BAR}" height="10"><rect height="10" rx="2" '
        f'width="{max(1.0, _BAR * abs(value) / longest):.1f}" '
        f'fill="{AGAINST if value < 0 else FOR}"/></svg></td></tr>'
        for k, (node, value) in zip(ascii_lowercase, shown, strict=False)
    )
    more = len(values["parts"]) - len(shown)
    besides = f"and {more} more parts; " if more > 0 else ""
    marked = [node for node, _ in shown[:_MARKS]]
    images = "".join(_picture(pictures, seen, name, marked) for name in values["names"][:_PICTURES])
    finer = (
        "".join(_section(nx, below, depth, pictures, seen) for below in nx[number])
        if values["depth"] < depth
        else ""
    )
    unfolded = " open" if values["depth"] < 2 else ""
    return (
        f"<details{unfolded}><summary>{html.escape(_title(nx, number))}</summary>"
        f'<div class="images">{images}</div><div class="rows"><table>{rows}</table></div>'
        f'<p class="quiet">{besides}{values["bias"]:+.3f} besides</p>{finer}</details>'
    )


def _patches(node: str, names: Sequence[str], pictures: Pictures | None, seen: Seen | None) -> str:
    """Give a cell with a part's patches, where it is strongest in a mode's images."""
    if pictures is None or seen is None:
        return ""
    column = list(seen.called).index(node)
    here = [n for n, name in enumerate(seen.names) if name in set(names)]
    best = sorted(here, key=lambda n: -seen.activations[n, column])[:_PATCHES]
    side = part_side(pictures.image_size)
    size = f'width="{_PATCH}" height="{_PATCH}"'
    tiles = ""
    for n in best:
        x, y = seen.places[n, column].tolist()
        cut = patch(pictures[seen.names[n]], x, y, side, 2 * _PATCH)[0]
        tiles += f'<img {size} alt="" src="{jpeg(cut, 2 * _PATCH)}">'
    return f"<td>{tiles}</td>"


def _picture(pictures: Pictures | None, seen: Seen | None, name: str, marked: Sequence[str]) -> str:
    """Give a small picture with letters where parts are, or only the image's name."""
    told = html.escape(name, quote=True)
    if pictures is None:
        return f"<code>{told}</code> "
    picture = pictures[name]
    tall, wide = picture.shape[:2]
    zoom = _SIDE / tall
    box = f'width="{wide * zoom:.0f}" height="{_SIDE}"'
    marks = ""
    if seen is not None and marked:
        columns = [list(seen.called).index(node) for node in marked]
        at = seen.places[list(seen.names).index(name), columns].astype(float) * zoom
        placed = spread(at, _MARK + 1, (round(wide * zoom), _SIDE))
        marks = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_MARK / 2}" fill="{FOR}" stroke="#fff"/>'
            f'<text x="{x:.1f}" y="{y + 3.5:.1f}" font-size="10" font-weight="700" '
            f'font-family="system-ui, sans-serif" text-anchor="middle" fill="#fff">{k}</text>'
            for k, (x, y) in zip(ascii_lowercase, placed.tolist(), strict=False)
        )
    return (
        f'<svg {box} role="img" aria-label="{told}"><title>{told}</title>'
        f'<image href="{jpeg(picture, 2 * _SIDE)}" {box} preserveAspectRatio="none"/>{marks}</svg>'
    )


_WRITERS: Mapping[str, Callable[[networkx.DiGraph, int], str]] = {
    ".dot": _dot,
    ".gv": _dot,
    ".json": _json,
}
