"""Drawings for papers and talks: parts, nodes, a filter taken apart, layers, an And-Or graph.

All by matplotlib, with text as text and patches as they are; sizes are those in print (`sheet`).
"""

from __future__ import annotations

import os
from numbers import Integral

from explgraph.errors import ExplgraphError
from explgraph.graph.and_or import NOTHING_GROWN
from explgraph.graph.graph import Graph
from explgraph.graph.parts import find_part
from explgraph.parsed import Parse
from explgraph.views.draw_and_or import draw_and_or
from explgraph.views.draw_filter import chosen_filter, draw_filter, telling_filter
from explgraph.views.draw_layers import draw_layers
from explgraph.views.draw_nodes import draw_nodes
from explgraph.views.draw_parts import draw_parts
from explgraph.views.draw_patches import Patches
from explgraph.views.figure_style import Figure, written
from explgraph.views.pictures import Drawable
from explgraph.views.sheet import checked_paper

__all__ = ["WHAT", "draw"]

WHAT = ("parts", "nodes", "filter", "layers", "and-or")
_PARTS = 12  # at most, unless told otherwise


def draw(
    graph: Graph,
    what: str = "parts",
    *,
    images: Drawable | None = None,
    parse: Parse | None = None,
    width: float = 174.0,
    dpi: int = 300,
    most: int | None = None,
    filter: str | None = None,  # noqa: A002
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw a graph: see `ExplanatoryGraph.draw`.

    Parameters
    ----------
    graph : ExplanatoryGraph
    what : "parts", "nodes", "filter", "layers" or "and-or"
    images : ImageFolder, (N, H, W, 3) uint8 colours or list of PIL images, optional
        What patches are cut from; without any, plain squares are drawn.
    parse : Parse, optional
        Of the images.
    width : float
        mm.
    dpi : int
    most : int, optional
    filter : str, optional
    path : path, optional
        File to write.

    Returns
    -------
    Figure

    Raises
    ------
    ExplgraphError
    """
    if what not in WHAT:
        raise ExplgraphError(f"what is {what!r}; expected one of {', '.join(WHAT)}")
    if filter is not None and what != "filter":
        raise ExplgraphError(f"filter is {filter!r}, which goes with what='filter', not {what!r}")
    if most is not None and (isinstance(most, bool) or not isinstance(most, Integral) or most < 1):
        raise ExplgraphError(f"most is {most!r}; expected a whole number, 1 or more")
    if parse is not None and images is None:
        raise ExplgraphError("parse needs the images that were parsed; give images=, too")
    if not len(graph):
        raise ExplgraphError("the graph has no nodes to draw")
    most = None if most is None else int(most)
    paper = checked_paper(width, dpi)
    patches = Patches(graph, images, parse)
    if what == "parts":
        parts = list(graph.parts[: most or _PARTS])
        if not parts:
            find_part(graph, "")  # says why there are none
        figure = draw_parts(graph, parts, patches, paper)
    elif what == "nodes":
        figure = draw_nodes(graph, list(graph.parts[:_PARTS]), patches, paper, most)
    elif what == "filter":
        layer, number = telling_filter(graph) if filter is None else chosen_filter(graph, filter)
        figure = draw_filter(graph, layer, number, patches, paper, most)
    elif what == "and-or":
        if graph.grown is None:
            raise ExplgraphError(NOTHING_GROWN)
        figure = draw_and_or(graph, graph.grown, patches, paper, most)
    else:
        figure = draw_layers(graph, patches, paper, most)
    return written(figure, path)
