"""A drawing of an And-Or graph: parts on the left, their templates, the nodes that vote.

A template is a marked image around the part, with its nodes where they usually are, by number; a
line's width says how much what it leads to is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from explgraph.brief import counted
from explgraph.graph.and_or import AndOr, AndOrPart, AndOrTemplate, Voter
from explgraph.graph.graph import Graph
from explgraph.views.and_or_pose import pose, shots_seen
from explgraph.views.draw_patches import Patches
from explgraph.views.figure_style import PALETTE, Figure, Sign, to_rgb
from explgraph.views.layout import colour, own_name
from explgraph.views.pictures import part_side
from explgraph.views.sheet import INK, LINE, MARGIN, QUIET, Entry, Paper, Sheet, legend_height
from explgraph.views.spread import spread

__all__ = ["draw_and_or"]

_TILE, _WIDE_TILE = 15.0, 24.0  # mm, of parts and templates
_PATCH, _WIDE_PATCH = 6.6, 8.2  # mm, of a node
_TO_TEMPLATES, _WIDE_TO_TEMPLATES = 8.0, 17.0  # mm between columns
_TO_NODES, _WIDE_TO_NODES = 13.0, 36.0
_SPACE = 1.0  # mm between nodes
_HEAD = 4.2  # mm above a tile
_FOOT = 3 * LINE + 1.4  # mm below, for three lines of text
_BETWEEN = 5.0  # mm between parts
_DISC = 3.3  # mm, of a node's number
_ROOM_FOR_PARTS = 30.0  # mm, beside a node: with less, only the node is named
_WIDEST = 1.25  # mm of a letter: figures are wide
_MOST = 8  # nodes of a template, unless told otherwise
_THICKEST = 3.2  # pt
_BEST = 4  # patches of a part
_COLOURS = (PALETTE[6], PALETTE[5], PALETTE[2])  # of templates: three at most are ever fitted


class _Column(NamedTuple):
    """Where the columns are and how large what is in them, mm."""

    part: float
    template: float
    node: float
    tile: float
    patch: float


def draw_and_or(
    graph: Graph, grown: AndOr, patches: Patches, paper: Paper, most: int | None
) -> Figure:
    """Draw an And-Or graph.

    Parameters
    ----------
    graph : Graph
    grown : AndOr
        Of its nodes.
    patches : Patches
    paper : Paper
    most : int, optional
        Nodes of each template, at most; 8 by default.
    """
    narrow = paper.narrow
    tile = _TILE if narrow else _WIDE_TILE
    template = MARGIN + tile + (_TO_TEMPLATES if narrow else _WIDE_TO_TEMPLATES)
    node = template + tile + (_TO_NODES if narrow else _WIDE_TO_NODES)
    columns = _Column(MARGIN, template, node, tile, _PATCH if narrow else _WIDE_PATCH)
    shown = [
        [one.telling(_MOST if most is None else most) for one in part.templates]
        for part in grown.parts
    ]
    orders = [_order(part, votes) for part, votes in zip(grown.parts, shown, strict=True)]
    heights = [
        max(len(part.templates) * (_HEAD + tile + _FOOT), _nodes_height(len(order), columns))
        for part, order in zip(grown.parts, orders, strict=True)
    ]
    total = sum(heights) + (len(heights) - 1) * _BETWEEN + MARGIN
    legend = _legend(grown.images)
    sheet = Sheet(paper, total + LINE + legend_height(legend, paper.width))
    top = MARGIN
    for part, votes, order, height in zip(grown.parts, shown, orders, heights, strict=True):
        _part(sheet, graph, part, votes, order, patches, columns, top, height)
        top += height + _BETWEEN
    sheet.legend(total + LINE, legend)
    return sheet.figure


def _order(part: AndOrPart, votes: list[tuple[Voter, ...]]) -> dict[str, int]:
    """Give nodes their numbers, from 1 down: those of the first templates first."""
    count = len(part.templates)
    share: dict[str, list[float]] = {}
    for t, voters in enumerate(votes):
        for voter in voters:
            share.setdefault(voter.node, [0.0] * count)[t] = max(voter.share, 1e-12)

    def middle(node: str) -> tuple[float, float]:
        values = share[node]
        return sum(t * s for t, s in enumerate(values)) / sum(values), -max(values)

    return {node: k for k, node in enumerate(sorted(share, key=middle), 1)}


def _nodes_height(count: int, columns: _Column) -> float:
    """Say how high a column of nodes is."""
    return _HEAD + count * (columns.patch + _SPACE)


def _part(
    sheet: Sheet,
    graph: Graph,
    part: AndOrPart,
    votes: list[tuple[Voter, ...]],
    order: Mapping[str, int],
    patches: Patches,
    columns: _Column,
    top: float,
    height: float,
) -> None:
    """Draw a part with all that is below it."""
    tile = columns.tile
    step = height / len(part.templates)
    middle = top + (height - tile) / 2
    room = columns.template - columns.part - 1.5
    sheet.text(columns.part, middle - 2.1, part.name, size=7, bold=True, room=room)
    seen = [
        found
        for one in part.templates
        for found in shots_seen(
            one, patches, -(-_BEST // len(part.templates)), part_side(graph.image_size),
            sheet.pixels(tile / 2),
        )
    ]  # fmt: skip
    for k in range(_BEST):
        row, column = divmod(k, 2)
        x, y = columns.part + column * tile / 2, middle + row * tile / 2
        if k < len(seen):
            sheet.picture(x, y, tile / 2, tile / 2, seen[k][1])
        else:
            sheet.blank(x, y, tile / 2)
    sheet.box(columns.part, middle, tile, tile, edge=INK, line=1.2)
    told = [counted(part.marks, "mark"), f"within {part.radius:.0f} px"]
    if part.presence is not None:
        told.append(f"in {part.presence:.0%}")
    for k, line in enumerate(told):
        sheet.text(columns.part, middle + tile + 1.9 + k * LINE, line, colour=QUIET, room=room)
    nodes = (height - _nodes_height(len(order), columns)) / 2 + top + _HEAD
    place = {node: nodes + (k - 1) * (columns.patch + _SPACE) for node, k in order.items()}
    for t, (template, voters) in enumerate(zip(part.templates, votes, strict=True)):
        y = top + t * step + (step - _HEAD - tile - _FOOT) / 2 + _HEAD
        tint = _COLOURS[t % len(_COLOURS)]
        sheet.line(
            [columns.part + tile, columns.template], [middle + tile / 2, y + tile / 2],
            width=_width(template.share), colour=tint,
        )  # fmt: skip
        heaviest = max(max(voter.share for voter in voters), 1e-9)
        for voter in voters:
            sheet.line(
                [columns.template + tile, columns.node],
                [y + tile / 2, place[voter.node] + columns.patch / 2],
                width=_width(voter.share / heaviest), colour=tint,
            )  # fmt: skip
        _template(sheet, graph, t, template, voters, order, patches, columns, y)
    for node, number in order.items():
        _node(sheet, graph, node, number, votes, patches, columns, place[node])


def _template(
    sheet: Sheet,
    graph: Graph,
    t: int,
    template: AndOrTemplate,
    voters: tuple[Voter, ...],
    order: Mapping[str, int],
    patches: Patches,
    columns: _Column,
    y: float,
) -> None:
    """Draw a template: its nodes around the part, on a marked image if there is one."""
    x, tile = columns.template, columns.tile
    tint = _COLOURS[t % len(_COLOURS)]
    sheet.text(x, y - 2.1, f"template {t + 1}", size=7, bold=True, colour=tint)
    found = pose(graph, template, voters, patches, sheet.pixels(tile))
    if found.picture is None:
        sheet.blank(x, y, tile)
    else:
        sheet.picture(x, y, tile, tile, found.picture)
    sheet.box(x, y, tile, tile, edge=tint, line=1.6)
    # in tenths of a mm; the part, which stays, and the nodes
    at = np.concatenate([[[0.5, 0.5]], found.at]) * tile * 10
    at = spread(at, (_DISC + 0.2) * 10, (round(tile * 10),) * 2, still=1)[1:] / 10
    for voter, (right, down) in zip(voters, at.tolist(), strict=True):
        sheet.badge(x + right, y + down, _sign(order[voter.node], tint), _DISC)
    sheet.mark(x + tile / 2, y + tile / 2, "white", "P", 2.2)
    told = [f"speaks in {template.share:.0%}", counted(len(template.shots), "mark")]
    if more := len(template.voters) - len(voters):
        share = sum(voter.share for voter in template.voters) - sum(v.share for v in voters)
        told.append(f"{more} more: {share:.0%}")
    for k, line in enumerate(told):
        sheet.text(x, y + tile + 1.9 + k * LINE, line, colour=QUIET, room=tile + 1)


def _node(
    sheet: Sheet,
    graph: Graph,
    node: str,
    number: int,
    votes: list[tuple[Voter, ...]],
    patches: Patches,
    columns: _Column,
    y: float,
) -> None:
    """Draw a node: its number and best patch, what it is and how templates use it."""
    values, x, side = graph.nx.nodes[node], columns.node, columns.patch
    cut = patches.of_node(node, 1, sheet.pixels(side))
    if cut:
        sheet.picture(x, y, side, side, cut[0])
    else:
        red, green, blue = colour(values["reliability"])
        sheet.blank(x, y, side, f"#{red:02x}{green:02x}{blue:02x}")
    sheet.box(x, y, side, side, edge=QUIET, line=0.8)
    sheet.badge(x + side + 2.4, y + side / 2 - 1.7, _sign(number, "#ffffff"), _DISC)
    name, room = f"{values['layer']} {own_name(node)}", sheet.width - x - side - 4.8
    if values.get("part") and room > _ROOM_FOR_PARTS:
        name += f", {graph.part(values['part']).title}"
    sheet.text(x + side + 4.6, y + side / 2 - 1.7, name, room=room)
    at = x + side + 1.0
    used = [(t, voter) for t, voters in enumerate(votes) for voter in voters if voter.node == node]
    brief = len(used) > 1 and room <= _ROOM_FOR_PARTS
    for t, voter in used:
        told = f"{voter.share:.0%}"
        if voter.agreement is not None and not brief:
            told += f", agrees {voter.agreement:.0%}"
        sheet.text(at, y + side / 2 + 1.7, told, colour=_COLOURS[t % len(_COLOURS)])
        at += len(told) * _WIDEST + 1.5


def _sign(number: int, tint: str) -> Sign:
    """Give a node's number on the colour of its template."""
    red, green, blue = to_rgb(tint)
    ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.45 else "white"
    return Sign(str(number), tint, "o", ink)


def _width(share: float) -> float:
    """Width of a line, pt."""
    return 0.3 + (_THICKEST - 0.3) * share


def _legend(images: int) -> list[Entry]:
    """Say what lines and figures mean."""
    return [
        (_width(0.1), QUIET, "little used"),
        (_width(1.0), QUIET, f"most used, in {counted(images, 'image')}"),
        (0, "", "6%: of the vote"),
        (0, "", "agrees 90%: of its votes within the radius"),
        (0, "", "52 more: 64%: other nodes, their vote"),
        (0, "", "95/1: filter 95, its pattern 1"),
    ]
