"""What a graph looks like in a notebook: HTML without scripts, every name escaped."""

from __future__ import annotations

import numpy as np

from explgraph.brief import counted
from explgraph.graph.graph import Graph
from explgraph.markup import escaped, table
from explgraph.views.layout import band_positions, colour, thin

__all__ = ["graph_html"]

_DRAWN = 90  # nodes


def graph_html(graph: Graph) -> str:
    """Give a table of a graph's layers, and a small drawing of its most telling nodes."""
    height, width = graph.image_size
    rows = []
    for layer, here, filters in graph.by_layer():
        usual = [
            f"{np.median([a[name] for a in here]):.2f}" if here else ""
            for name in ("reliability", "follows")
        ]
        named = sum(bool(a["label"]) for a in here)
        rows.append([layer.name, len(here), f"{filters} of {layer.channels}", *usual, named])
    head = ["layer", "part nodes", "filters", "median reliability", "median follows", "named"]
    return (
        f"<div><p><b>ExplanatoryGraph</b>: {counted(len(graph), 'part node')}, "
        f"{counted(graph.nx.number_of_edges(), 'link')}, mined from "
        f"{counted(graph.nx.graph['n_images'], 'image')} "
        f"of {width} × {height} px</p>{table(head, rows)}{_drawing(graph)}</div>"
    )


def _drawing(graph: Graph) -> str:
    """Draw the most telling nodes of a graph as SVG."""
    if not len(graph):
        return ""
    drawn = thin(graph, _DRAWN, 3)
    positions = band_positions(drawn)
    xs, ys = zip(*positions.values(), strict=True)
    left, top = min(xs) - 40, min(ys) - 40
    wide, high = max(xs) + 40 - left, max(ys) + 40 - top
    parts = [
        f'<svg viewBox="{left:.0f} {top:.0f} {wide:.0f} {high:.0f}" '
        f'style="width:100%;max-width:640px;max-height:360px" role="img" '
        f'aria-label="drawing of the graph">'
    ]
    for u, v, values in drawn.nx.edges(data=True):
        (x0, y0), (x1, y1) = positions[u], positions[v]
        parts.append(
            f'<path d="M{x0:.0f} {y0:.0f}C{x0:.0f} {(y0 + y1) / 2:.0f} {x1:.0f} '
            f'{(y0 + y1) / 2:.0f} {x1:.0f} {y1:.0f}" fill="none" stroke="#7b8794" '
            f'stroke-width="{1 + 3 * values["consistency"]:.1f}" stroke-opacity=".45"/>'
        )
    for node, (x, y) in positions.items():
        values = drawn.nx.nodes[node]
        red, green, blue = colour(values["reliability"])
        told = escaped(f"{values['label']} {node}".strip(), 200)
        parts.append(
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{12 + 14 * values["support"]:.0f}" '
            f'fill="rgb({red},{green},{blue})" stroke="#04568f" stroke-width="1.5">'
            f"<title>{told}, reliability {values['reliability']:.2f}, "
            f"follows {values['follows']:.2f}</title></circle>"
        )
    more = "" if len(drawn) == len(graph) else f"<p>drawn: the {len(drawn)} most telling</p>"
    return "".join(parts) + "</svg>" + more
