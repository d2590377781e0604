"""An explanation as a page, complete in itself.

It holds no script and asks for nothing (`markup.page`). Names are escaped. A mark on the photograph
leads to its part's row and back.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np

from explgraph import markup
from explgraph.explaining.account import NO_NODE, NO_PART, Account, PartContribution
from explgraph.views.pictures import jpeg, part_side, patch
from explgraph.views.spread import spread

__all__ = ["AGAINST", "FOR", "marked_picture", "page"]

FOR, AGAINST = "#04568f", "#c2570c"
"""Colours, which colour-blind people can tell apart, of what speaks for and against a class."""

_SIDE = 480  # px of the photograph on the page
_TILE = 56  # px of a patch on the page
_BAR = 120  # px of the longest bar
_MARK = 20.0  # px of the page, of a mark's disc

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5em auto; max-width: 76em; padding: 0 1em;
       color: #1f2933; background: #fff }
h1 { font-size: 1.35em; margin: .2em 0 } h2 { font-size: 1.05em; margin: 1.2em 0 .3em }
p { margin: .3em 0 } .quiet { color: #5b6774 }
.doubt { border-left: 4px solid #c2570c; background: #fdf1e7; padding: .5em .8em; margin: .6em 0 }
.all { display: flex; flex-wrap: wrap; gap: 1.5em; align-items: flex-start }
.left { flex: 0 1 480px; position: sticky; top: 1em } .right { flex: 1 1 30em; min-width: 0 }
svg { display: block; max-width: 100%; height: auto }
table { border-collapse: collapse } td, th { padding: .25em .6em .25em 0; text-align: left;
       vertical-align: middle } td.value, th.value { text-align: right;
       font-variant-numeric: tabular-nums; white-space: nowrap }
.parts { overflow-x: auto } tr:target { background: #fff3c4 } a { color: inherit }
.mark:target circle { stroke: #ffd400; stroke-width: 4 } .tiles img { margin-right: 2px }
.tiles, .name { white-space: nowrap } .parts table { width: 100% }
td.bar { width: 99%; min-width: 32px } td.bar svg { width: 100%; max-width: 120px; height: 14px }
.tiles img.here { margin-right: 8px } img { border-radius: 3px; vertical-align: middle }
.legend svg { display: inline-block; vertical-align: middle; margin-right: .4em }
@media (prefers-color-scheme: dark) { body { background: #14181d; color: #e3e8ee }
  .quiet { color: #9aa7b4 } .doubt { background: #3a2617 } tr:target { background: #4a4012 }
  .ink { fill: #e3e8ee } .axis { stroke: #9aa7b4 } }
@media (max-width: 60em) { .left { position: static } }
"""


def page(account: Account) -> str:
    """Give the page."""
    shown, _ = account.shown()
    first = " (the highest)" if account.rank == 1 and account.classes > 1 else ""
    rank = f", rank {account.rank} of {account.classes}{first}" if account.classes > 1 else ""
    body = (
        f"{markup.doubted(account.doubts)}<h1>What carried “{html.escape(account.class_title)}” "
        f"in image {html.escape(account.image)}</h1>\n"
        f"<p>The network's score is <b>{account.score:.3g}</b>{rank}. "
        f"{html.escape(account.told)}</p>\n"
        f'<div class="all"><div class="left">{marked_picture(account)}'
        f'<p class="quiet">A ring is as wide as the part scatters; blue speaks for the class, '
        "orange against it; dashed where it is doubtful that the image shows the part.</p></div>\n"
        f'<div class="right">{_rows(account, shown)}{_removal(account)}{_layers(account)}'
        "</div></div>"
    )
    return markup.page(f"{account.class_title}: {account.image}", _STYLE, body)


def marked_picture(account: Account) -> str:
    """Give the photograph with a mark for each part that is shown, as SVG."""
    height, width = account.image_size
    zoom = _SIDE / width
    shown, _ = account.shown()
    at = np.array([[row.x, row.y] for row in shown]).reshape(-1, 2) * zoom
    marks = spread(at, _MARK + 2, (round(width * zoom), round(height * zoom)))
    rings, drawn = [], []  # all rings lie below all numbers
    for row, (x, y), (mark_x, mark_y) in zip(shown, at.tolist(), marks.tolist(), strict=True):
        colour = FOR if row.contribution >= 0 else AGAINST
        dash = ' stroke-dasharray="5 4"' if row.presence < 0.5 else ""
        ring = f'cx="{x:.1f}" cy="{y:.1f}" r="{row.radius * zoom:.1f}" fill="none"'
        line = ""
        if math.hypot(mark_x - x, mark_y - y) > 6:
            ends = f'x1="{x:.1f}" y1="{y:.1f}" x2="{mark_x:.1f}" y2="{mark_y:.1f}"'
            line = (
                f'<line {ends} stroke="#fff" stroke-width="3"/>'
                f'<line {ends} stroke="{colour}" stroke-width="1.5"/>'
            )
        rings.append(
            f'<circle {ring} stroke="#fff" stroke-width="3.5" stroke-opacity="0.7"/>'
            f'<circle {ring} stroke="{colour}" stroke-width="2"{dash}/>'
        )
        name = html.escape(row.part, quote=True)
        drawn.append(
            f'<a class="mark" id="mark-{name}" href="#row-{name}">'
            f"<title>{html.escape(row.title)} {row.contribution:+.3g}</title>"
            f'{line}<circle cx="{mark_x:.1f}" cy="{mark_y:.1f}" r="{_MARK / 2}" fill="{colour}" '
            'stroke="#fff" stroke-width="1.5"/>'
            f'<text x="{mark_x:.1f}" y="{mark_y + 4:.1f}" font-size="11" font-weight="700" '
            f'font-family="system-ui, sans-serif" text-anchor="middle" fill="#fff">'
            f"{html.escape(row.part.removeprefix('p'))}</text></a>"
        )
    size = f'width="{_SIDE}" height="{height * zoom:.0f}"'
    picture = jpeg(account.picture, 2 * _SIDE)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SIDE} {height * zoom:.0f}" {size} '
        f'role="img" aria-label="{html.escape(account.image, quote=True)}">'
        f'<image href="{picture}" {size} preserveAspectRatio="none"/>{"".join(rings)}'
        f"{''.join(drawn)}</svg>"
    )


def _rows(account: Account, shown: Sequence[PartContribution]) -> str:
    """Give the table of contributions."""
    _, others = account.shown()
    more = len(account.rows) - len(shown)
    rests = [(f"{more} other part{'s' * (more > 1)}", others)] if more else []
    rests += [(NO_PART, account.here.no_part), (NO_NODE, account.here.no_node)]
    longest = max(
        [abs(row.contribution) for row in shown] + [abs(value) for _, value in rests] + [1e-12]
    )
    side = part_side(account.image_size)
    size = max(abs(account.carried), 1e-12)
    lines = []
    for row in shown:
        here = patch(account.picture, row.x, row.y, side, 2 * _TILE)[0]
        tiles = [
            f'<img class="here" {_sized(_TILE)} alt="in this image" src="{jpeg(here, 2 * _TILE)}">'
        ]
        tiles += [
            f'<img {_sized(_TILE)} alt="elsewhere" src="{jpeg(tile, 2 * _TILE)}">'
            for tile in account.elsewhere.get(row.part, ())
        ]
        name = html.escape(row.part, quote=True)
        known = "" if row.presence >= 0.5 else "<br>doubtful"
        lines.append(
            f'<tr id="row-{name}"><td class="name"><a href="#mark-{name}">'
            f"<b>{html.escape(row.title)}</b></a>"
            f'<br><span class="quiet">{row.nodes} node{"s" * (row.nodes > 1)}{known}</span></td>'
            f'<td class="tiles">{"".join(tiles)}</td>'
            f"{_number(row.contribution, size, longest)}</tr>"
        )
    lines += [
        f'<tr><td class="quiet" colspan="2">{text}</td>{_number(value, size, longest)}</tr>'
        for text, value in rests
    ]
    what = "here, and in other images" if account.elsewhere else "here"
    return (
        '<div class="parts"><table><thead><tr><th>part</th>'
        f'<th>{what}</th><th class="value">adds</th><th class="value">share</th><th></th></tr>'
        f"</thead><tbody>{''.join(lines)}</tbody></table></div>"
        f'<p class="quiet">All rows together are the {account.carried:+.3g} that the layer '
        f"carries; without its activation the score would be {account.here.without:.3g}. Of all "
        f"that its units do, for the class and against it, {account.explained:.0%} is the parts' "
        "own.</p>"
    )


def _sized(side: int) -> str:
    return f'width="{side}" height="{side}"'


def _number(value: float, size: float, longest: float) -> str:
    """Give the cells of a contribution: itself, its share, a bar."""
    colour = FOR if value >= 0 else AGAINST
    wide = max(1.0, _BAR * abs(value) / longest)
    return (
        f'<td class="value">{value:+.3g}</td><td class="value">{value / size:+.0%}</td>'
        f'<td class="bar"><svg viewBox="0 0 {_BAR} 14" preserveAspectRatio="none">'
        f'<rect width="{wide:.1f}" height="14" rx="2" '
        f'fill="{colour}"/></svg></td>'
    )


def _removal(account: Account) -> str:
    """Draw what is left of the score as parts are taken away."""
    removal = account.removal
    k = len(removal.parts)
    if not k:
        return ""
    wide, tall, left, top = 520, 210, 46, 10
    lines = (
        ("without the first parts", removal.score, FOR, 'stroke-width="3"'),
        ("expected from the table", removal.expected, FOR, 'stroke-dasharray="2 4"'),
        ("without parts at random", removal.random, "#7b8794", ""),
        ("without as much activation anywhere", removal.equal, "#7b8794", 'stroke-dasharray="6 4"'),
    )
    values = np.concatenate([line[1] for line in lines])
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    unit = max(high - low, 1e-12)

    def place(number: float, value: float) -> str:
        x = left + (wide - left - 12) * number / k
        return f"{x:.1f},{top + (tall - top - 40) * (high - value) / unit:.1f}"

    zero = place(0, 0.0).split(",")[1]
    drawn = [
        f'<line class="axis" x1="{left}" x2="{wide - 12}" y1="{zero}" y2="{zero}" '
        'stroke="#7b8794"/>'
    ]
    for value in (high, low):
        y = float(place(0, value).split(",")[1]) + 4
        drawn.append(
            f'<text class="ink" x="{left - 6}" y="{y:.1f}" font-size="12" '
            f'text-anchor="end">{value:.3g}</text>'
        )
    for number in range(k + 1):
        x = place(number, low).split(",")[0]
        name = "none" if not number else removal.parts[number - 1].removeprefix("p")
        drawn.append(
            f'<text class="ink" x="{x}" y="{tall - 18}" font-size="12" text-anchor="middle">'
            f"{'+ ' * (number > 1)}{html.escape(name)}</text>"
        )
    legend = []
    for text, numbers, colour, extra in lines:
        points = " ".join(place(n, v) for n, v in enumerate(numbers.tolist()))
        look = f'fill="none" stroke="{colour}" stroke-width="1.8" {extra}'
        look = look.replace('stroke-width="1.8" stroke-width="3"', 'stroke-width="3"')
        drawn.append(f'<polyline points="{points}" {look}/>')
        legend.append(
            f'<svg width="34" height="8"><line x1="1" x2="33" y1="4" y2="4" {look}/></svg> {text}'
        )
    said = "</td></tr><tr><td>".join(legend)
    return (
        "<h2>When parts are really taken away</h2>"
        "<p>The class's score as the network gives it without the first part, the first two, ...: "
        "below the curve stands which one goes next. If parts and their order matter, the thick "
        "line falls well below the grey ones.</p>"
        f'<svg viewBox="0 0 {wide} {tall}" width="{wide}" height="{tall}" role="img" '
        f'aria-label="score without parts">{"".join(drawn)}</svg>'
        f'<table class="quiet legend"><tr><td>{said}</td></tr></table>'
    )


def _layers(account: Account) -> str:
    """Tell the layers side by side."""
    if len(account.layers) < 2:
        return ""
    lines = "".join(
        f"<tr><td>{html.escape(one.layer)}{' (above)' * (one.layer == account.layer)}</td>"
        f'<td class="value">{one.carried:+.3g}</td><td class="value">{one.parts:+.3g}</td>'
        f'<td class="value">{one.no_part:+.3g}</td><td class="value">{one.no_node:+.3g}</td>'
        f'<td class="value">{one.residual:+.2g}</td>'
        f'<td class="value">{one.explained:.0%}</td></tr>'
        for one in account.layers
    )
    return (
        "<h2>Layers side by side</h2><p>Each layer accounts for the score by itself; they lie "
        'behind one another and don\'t add up.</p><div class="parts"><table><thead><tr><th>layer'
        '</th><th class="value">carries</th><th class="value">parts</th><th class="value">'
        'nodes of no part</th><th class="value">no node</th><th class="value">error</th>'
        '<th class="value">of parts</th></tr>'
        f"</thead><tbody>{lines}</tbody></table></div>"
    )
