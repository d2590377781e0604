"""An And-Or graph as a page, complete in itself, without scripts.

Parts unfold to their templates, and these to the nodes that vote.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from explgraph import markup
from explgraph.brief import counted
from explgraph.graph.and_or import AndOr, AndOrPart, AndOrTemplate, Voter
from explgraph.graph.graph import Graph
from explgraph.views.and_or_pose import pose, shots_seen
from explgraph.views.draw_patches import Patches
from explgraph.views.pictures import jpeg, part_side
from explgraph.views.spread import spread

__all__ = ["page"]

_ROWS = 8  # nodes of a template that are there without unfolding, unless told otherwise
_POSE = 190  # px of a template's sketch
_TILE = 44  # px of a patch
_PATCHES = 3  # of a node
_SHOTS = 6  # marked images of a template
_MARK = 15.0  # px of a node's disc
_BAR = 90  # px of the longest bar
_INK = "#04568f"

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5em auto; max-width: 72em; padding: 0 1em;
       color: #1f2933; background: #fff }
h1 { font-size: 1.35em; margin: .2em 0 } p { margin: .3em 0 } .quiet { color: #5b6774 }
details { border-left: 2px solid #d5dbe1; margin: .5em 0 .5em .2em; padding-left: .9em }
summary { cursor: pointer } summary b { font-size: 1.1em }
.template { display: flex; flex-wrap: wrap; gap: .4em 1.4em; align-items: flex-start }
.pose { flex: 0 0 auto } .votes { flex: 1 1 28em; min-width: 0; overflow-x: auto }
table { border-collapse: collapse } td, th { padding: .15em .8em .15em 0; text-align: left;
       vertical-align: middle; white-space: nowrap; font-weight: 400; line-height: 1.25 }
th { color: #5b6774 }
td.value, th.value { text-align: right; font-variant-numeric: tabular-nums }
.all { overflow-x: auto } img { border-radius: 3px; vertical-align: middle; margin-right: 2px }
svg { display: block } .shots { max-width: 190px; margin-top: 4px }
.frame { fill: #eef1f4 }
@media (prefers-color-scheme: dark) { body { background: #14181d; color: #e3e8ee }
  .quiet, th { color: #9aa7b4 } details { border-color: #3a444e } .frame { fill: #262d34 }
  .bar { fill: #6aaede } }
"""


def page(graph: Graph, grown: AndOr, patches: Patches, most: int | None = None) -> str:
    """Give the page.

    Parameters
    ----------
    graph : Graph
    grown : AndOr
        Of its nodes.
    patches : Patches
    most : int, optional
        Nodes of each template, at most; by default those that make up nine tenths of the vote, most
        of them folded.
    """
    body = (
        "<h1>How named parts are located</h1>"
        '<p class="quiet">A part is where one of its templates says, the one whose nodes agree '
        "best (OR). In a template nodes vote together, each from its own place (AND). How often "
        f"templates speak, and nodes agree, was measured in {counted(grown.images, 'image')}.</p>"
        f"{_overview(grown)}"
        f"{''.join(_part(graph, part, patches, most) for part in grown.parts)}"
    )
    return markup.page("Parts, templates, nodes", _STYLE, body)


def _overview(grown: AndOr) -> str:
    """Give a table with a row for each part."""
    rows = "".join(
        f"<tr><td>{html.escape(part.name)}</td>{_value(f'{part.marks:,}')}"
        f"{_value(f'{part.radius:.0f} px')}"
        f"{_value('' if part.presence is None else f'{part.presence:.0%}')}"
        f"{_value(f'{len(part.templates)}')}"
        f"{_value(f'{len(AndOr(grown.images, (part,)).nodes):,}')}</tr>"
        for part in grown.parts
    )
    heads = ("marks", "within", "in images", "templates", "nodes")
    head = "".join(f'<th class="value">{name}</th>' for name in heads)
    return (
        f'<div class="all"><table><thead><tr><th>part</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        '<p class="quiet">within: the radius that holds the part nine times in ten, median over '
        "the images. Below: of the vote, a node's mean share; agrees, how often its vote lies "
        "within the radius; to it, the way from the node to the part; spread, how far off its vote "
        "is expected to be.</p>"
    )


def _part(graph: Graph, part: AndOrPart, patches: Patches, most: int | None) -> str:
    """Give a part and, unfolding, its templates."""
    inner = "".join(
        _template(graph, number, template, patches, most)
        for number, template in enumerate(part.templates, 1)
    )
    return (
        f'<details class="or" open><summary><b>{html.escape(part.name)}</b>: '
        f"{html.escape(part.told)}</summary>{inner}</details>"
    )


def _template(
    graph: Graph, number: int, template: AndOrTemplate, patches: Patches, most: int | None
) -> str:
    """Give a template: its pose, the images that it was fitted to, its nodes."""
    telling = template.telling(most)
    rows = telling[: most or _ROWS]
    told = f"template {number}: speaks in {template.share:.0%} of the images"
    told += f"; from {counted(len(template.shots), 'mark')}"
    if template.error is not None:
        told += f", which the others locate {template.error:.1f} px off"
    heaviest = max(max(voter.share for voter in telling), 1e-9)
    folded = ""
    if more := telling[len(rows) :]:
        folded = (
            f"<details><summary>{counted(len(more), 'node')} more of those that make up nine "
            f"tenths of the vote</summary>{_votes(graph, more, len(rows), heaviest, patches)}"
            "</details>"
        )
    rest = template.rest_told(len(telling))
    return (
        f'<details class="and" open><summary>{told}</summary><div class="template">'
        f'<div class="pose">{_pose(graph, template, rows, patches)}'
        f"{_shots(graph, template, patches)}</div>"
        f'<div class="votes">{_votes(graph, rows, 0, heaviest, patches)}{folded}'
        f'<p class="quiet">{rest}</p></div></div></details>'
    )


def _pose(graph: Graph, template: AndOrTemplate, voters: Sequence[Voter], patches: Patches) -> str:
    """Draw the nodes, by their numbers, around the part."""
    found = pose(graph, template, voters, patches, 2 * _POSE)
    size = f'width="{_POSE}" height="{_POSE}"'
    below = f'<rect class="frame" {size} rx="4"/>'
    if found.picture is not None:
        below = f'<image href="{jpeg(found.picture, 2 * _POSE)}" {size}/>'
    at = np.concatenate([[[0.5, 0.5]], found.at]) * _POSE  # the part, which stays, and the nodes
    marks = spread(at, _MARK + 1, (_POSE, _POSE), still=1)[1:]
    drawn = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_MARK / 2}" fill="{_INK}" stroke="#fff"/>'
        f'<text x="{x:.1f}" y="{y + 3.5:.1f}" font-size="10" font-weight="700" '
        f'font-family="system-ui, sans-serif" text-anchor="middle" fill="#fff">{k}</text>'
        for k, (x, y) in enumerate(marks.tolist(), 1)
    )
    middle = _POSE / 2
    cross = f"M{middle - 7},{middle}h14M{middle},{middle - 7}v14"
    return (
        f'<svg viewBox="0 0 {_POSE} {_POSE}" {size} role="img" aria-label="nodes around the part">'
        f'{below}<path d="{cross}" stroke="#fff" stroke-width="5"/>'
        f'<path d="{cross}" stroke="#c2570c" stroke-width="2.5"/>{drawn}</svg>'
    )


def _shots(graph: Graph, template: AndOrTemplate, patches: Patches) -> str:
    """Show marked images around their marks."""
    seen = shots_seen(template, patches, _SHOTS, part_side(graph.image_size), 2 * _TILE)
    tiles = "".join(
        f'<img {_sized(_TILE)} alt="" title="{html.escape(shot.image, quote=True)}" '
        f'src="{jpeg(cut, 2 * _TILE)}">'
        for shot, cut in seen
    )
    if not tiles:
        names = [shot.image for shot in template.shots[:_SHOTS]]
        more = len(template.shots) - len(names)
        tiles = html.escape(", ".join(names)) + f" and {more} more" * (more > 0)
    return f'<div class="shots quiet">marked: {tiles}</div>'


def _votes(
    graph: Graph, voters: Sequence[Voter], before: int, heaviest: float, patches: Patches
) -> str:
    """Give a table of nodes and what their votes are."""
    pictured = any(patches.of_node(voter.node, 1, 2 * _TILE) for voter in voters)
    rows = []
    for number, voter in enumerate(voters, before + 1):
        values = graph.nx.nodes[voter.node]
        tiles = "".join(
            f'<img {_sized(_TILE)} alt="" src="{jpeg(cut, 2 * _TILE)}">'
            for cut in patches.of_node(voter.node, _PATCHES, 2 * _TILE)
        )
        part, reliability = values.get("part", ""), f"{values['reliability']:.2f}"
        title = html.escape(graph.part(part).title) if part else ""
        belongs = f'<br><span class="quiet">{title}</span>' * bool(part)
        agrees = "" if voter.agreement is None else f"{voter.agreement:.0%}"
        rows.append(
            f"<tr>{_value(str(number))}{f'<td>{tiles}</td>' * pictured}"
            f"<td>{html.escape(voter.node)}{belongs}</td>{_value(f'{voter.share:.1%}')}"
            f'<td><svg width="{_BAR}" height="10"><rect class="bar" height="10" rx="2" '
            f'width="{max(1.0, _BAR * voter.share / heaviest):.1f}" fill="{_INK}"/></svg></td>'
            f"{_value(agrees)}{_value(f'{round(voter.dx):+d}, {round(voter.dy):+d}')}"
            f"{_value(f'{voter.spread:.1f}')}{_value(reliability)}</tr>"
        )
    head = (
        f'<th class="value">#</th>{"<th>found in</th>" * pictured}<th>node</th>'
        '<th class="value">of the vote</th><th></th><th class="value">agrees</th>'
        '<th class="value">to it, px</th><th class="value">spread, px</th>'
        '<th class="value">reliability</th>'
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _value(text: str) -> str:
    return f'<td class="value">{text}</td>'


def _sized(side: int) -> str:
    return f'width="{side}" height="{side}"'
