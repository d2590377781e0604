"""A circuit as a page, complete in itself, without scripts; and its curve as SVG."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from explgraph import markup
from explgraph.circuits.account import HEAD, CircuitAccount, Member
from explgraph.graph.parts import find_part
from explgraph.views.pictures import (
    Drawable,
    Pictures,
    best_sightings,
    jpeg,
    part_side,
    part_sightings,
    patch,
    patch_side,
)

__all__ = ["curve", "page", "patches"]

_WIDE, _TALL = 560, 260  # px of the curve
_LEFT, _BOTTOM, _EDGE = 46, 40, 14
_PATCHES = 4  # of each member
_TILE, _SHARP = (
    56,
    112,
)  # side of a patch on the page; of its picture, for screens of twice as many px
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5em auto; max-width: 60em; padding: 0 1em;
       color: #1f2933; background: #fff }
h1 { font-size: 1.35em; margin: .2em 0 } h2 { font-size: 1.05em; margin: 1.2em 0 .3em }
p { margin: .3em 0 } .quiet { color: #5b6774 }
.doubt { border-left: 4px solid #c2570c; background: #fdf1e7; padding: .5em .8em; margin: .6em 0 }
svg { display: block; max-width: 100%; height: auto } .members { overflow-x: auto }
table { border-collapse: collapse } td, th { padding: .25em 1em .25em 0; text-align: left }
td.tiles { white-space: nowrap } .tiles img { margin-right: 3px; border-radius: 3px }
td.value, th.value { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
@media (prefers-color-scheme: dark) { body { background: #14181d; color: #e3e8ee }
  .quiet { color: #9aa7b4 } .doubt { background: #3a2617 }
  .ink { fill: #e3e8ee } .axis { stroke: #9aa7b4 } }
"""


def patches(circuit: CircuitAccount[Any], images: Drawable | None) -> dict[str, list[str]]:
    """Cut patches of each member where it was seen best, as addresses that hold them.

    Parameters
    ----------
    circuit : CircuitAccount
    images : ImageFolder, (N, H, W, 3) uint8 colours or list of PIL images, optional
        That the graph was mined from. Without them no member has patches.

    Returns
    -------
    dict of str to list of str
        By the member's id.
    """
    if images is None:
        return {}
    graph = circuit.graph
    pictures = Pictures.of(images, graph.image_size, None)
    found = {}
    for member in circuit.members:
        if circuit.by == "part":
            side = part_side(graph.image_size)
            seen = part_sightings(find_part(graph, member.id), pictures, None, _PATCHES)
        else:
            side = patch_side(graph, member.id)
            seen = best_sightings(graph, member.id, pictures, None, _PATCHES)
        found[member.id] = [
            jpeg(patch(pictures[one.image], one.x, one.y, side, _SHARP)[0], _SHARP) for one in seen
        ]
    return found


def page(circuit: CircuitAccount[Any], shown: Mapping[str, Sequence[str]]) -> str:
    """Give the page, with the members' patches that `patches` gave."""
    told = "".join(f"<p>{html.escape(sentence)}.</p>" for sentence in circuit.told)
    body = (
        f"{markup.doubted(circuit.doubts)}<h1>Circuit of “{html.escape(circuit.title)}”</h1>{told}"
        f"<h2>How much is kept by how many</h2>{curve(circuit)}"
        '<p class="quiet">Line: the first candidates in the order of their estimated '
        "contributions, on images that were not used to find the circuit; band: 95 % interval over "
        "images; dotted: on the images of the search. Disc: the circuit. Dashed: what was asked "
        "for.</p>"
        f'<h2>Members</h2><div class="members">{_members(circuit, shown)}</div>'
    )
    return markup.page(f"Circuit of {circuit.title}", _STYLE, body)


def _members(circuit: CircuitAccount[Any], shown: Mapping[str, Sequence[str]]) -> str:
    """Give the table of the members, numbers aligned, patches where there are any."""

    def line(row: Sequence[str], tag: str, tiles: str) -> str:
        look = ' class="value"'
        title, *rest = (
            f"<{tag}{look * (k > 1)}>{html.escape(cell)}</{tag}>" for k, cell in enumerate(row)
        )
        return f"<tr>{title}{tiles}{''.join(rest)}</tr>"

    def tiles(member: Member) -> str:
        drawn = "".join(
            f'<img width="{_TILE}" height="{_TILE}" alt="" src="{address}">'
            for address in shown.get(member.id, ())
        )
        return f'<td class="tiles">{drawn}</td>' if shown else ""

    rows = "".join(
        line(cells, "td", tiles(member))
        for member, cells in zip(circuit.members, circuit.cells(), strict=True)
    )
    head = line(HEAD, "th", "<th></th>" if shown else "")
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def curve(circuit: CircuitAccount[Any]) -> str:
    """Draw what the first candidates keep; sizes on a logarithmic axis, since the first matter."""
    points = circuit.curve
    values = [v for one in points for v in (one.search, *one.kept)] + [*circuit.kept, circuit.keep]
    known = [v for v in values if math.isfinite(v)]
    low, high = min(0.0, *known), max(1.0, *known)
    # an interval that is far off must not flatten everything else
    low, high = max(low, -1.0), min(high, 2.0)
    last = max(math.log(points[-1].size), 1e-9)

    def x(size: float) -> float:
        return _LEFT + (_WIDE - _LEFT - _EDGE) * math.log(size) / last

    def y(value: float) -> float:
        part = (min(max(value, low), high) - low) / (high - low)
        return _TALL - _BOTTOM - (_TALL - _BOTTOM - _EDGE) * part

    def line(pairs: Sequence[tuple[float, float]], look: str) -> str:
        return f'<polyline points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in pairs)}" {look}/>'

    drawn = []
    for value in (0.0, 0.5, 1.0):
        at = y(value)
        drawn.append(
            f'<line class="axis" x1="{_LEFT}" x2="{_WIDE - _EDGE}" y1="{at:.1f}" y2="{at:.1f}" '
            'stroke="#c8ced5" stroke-width="1"/>'
            f'<text class="ink" x="{_LEFT - 6}" y="{at + 4:.1f}" font-size="12" '
            f'text-anchor="end">{value:.0%}</text>'
        )
    taken = -math.inf
    for one in points:
        if x(one.size) - taken < 26:
            continue
        taken = x(one.size)
        drawn.append(
            f'<text class="ink" x="{taken:.1f}" y="{_TALL - 22}" font-size="12" '
            f'text-anchor="middle">{one.size:,}</text>'
        )
    several = "parts" if circuit.by == "part" else "nodes"
    drawn.append(
        f'<text class="ink" x="{(_WIDE + _LEFT) / 2}" y="{_TALL - 4}" font-size="12" '
        f'text-anchor="middle">{several} kept</text>'
    )
    sure = [one for one in points if all(map(math.isfinite, one.kept))]
    band = [(x(one.size), y(one.kept.high)) for one in sure]
    band += [(x(one.size), y(one.kept.low)) for one in reversed(sure)]
    corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in band)
    drawn.append(f'<polygon points="{corners}" fill="#56B4E9" fill-opacity="0.25"/>')
    asked = y(circuit.keep)
    drawn.append(
        line([(_LEFT, asked), (_WIDE - _EDGE, asked)],
             'fill="none" stroke="#c2570c" stroke-width="1.5" stroke-dasharray="6 4"')
    )  # fmt: skip
    drawn.append(
        line([(x(one.size), y(one.search)) for one in points],
             'fill="none" stroke="#04568f" stroke-width="1.3" stroke-dasharray="2 3"')
    )  # fmt: skip
    drawn.append(
        line([(x(one.size), y(one.kept.value)) for one in sure],
             'fill="none" stroke="#04568f" stroke-width="2.2"')
    )  # fmt: skip
    at = x(len(circuit))
    if math.isfinite(circuit.kept.low):
        drawn.append(
            line([(at, y(circuit.kept.low)), (at, y(circuit.kept.high))],
                 'fill="none" stroke="#c2570c" stroke-width="2"')
        )  # fmt: skip
    drawn.append(
        f'<circle cx="{at:.1f}" cy="{y(circuit.kept.value):.1f}" r="5.5" fill="#c2570c" '
        'stroke="#fff" stroke-width="1.5"/>'
    )
    return (
        f'<svg viewBox="0 0 {_WIDE} {_TALL}" width="{_WIDE}" height="{_TALL}" role="img" '
        f'aria-label="what the first candidates keep">{"".join(drawn)}</svg>'
    )
