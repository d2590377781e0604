"""A comparison as a page, complete in itself.

It holds no script and asks for nothing (`markup.page`). Names are escaped.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

from explgraph import markup
from explgraph.answers.compared import Change, Compared, Match, in_short
from explgraph.brief import counted
from explgraph.explaining.explanation_page import AGAINST, FOR

__all__ = ["page"]

_BAR = 150  # px of the longest bar
_TILE = 64  # px of a patch on the page
_MOST = 40  # changes that are shown
_ROWS = 120  # parts or nodes that are shown

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5em auto; max-width: 70em; padding: 0 1em;
       color: #1f2933; background: #fff }
h1 { font-size: 1.35em; margin: .2em 0 } h2 { font-size: 1.05em; margin: 1.5em 0 .3em }
p { margin: .3em 0; max-width: 52em } .quiet { color: #5b6774 }
.doubt { border-left: 4px solid #c2570c; background: #fdf1e7; padding: .5em .8em; margin: .6em 0 }
.wide { overflow-x: auto } table { border-collapse: collapse }
td, th { padding: .3em .8em .3em 0; text-align: left; vertical-align: middle }
th { font-weight: 600; color: #5b6774 } td.value, th.value { text-align: right;
       font-variant-numeric: tabular-nums; white-space: nowrap }
tr + tr td { border-top: 1px solid #e4e7eb } td.tiles, td.what { white-space: nowrap }
.tiles img { margin-right: 3px; border-radius: 3px; vertical-align: middle }
svg { display: block } .state { white-space: nowrap }
.vanished, .appeared, .moved, .effect { font-weight: 600 }
@media (prefers-color-scheme: dark) { body { background: #14181d; color: #e3e8ee }
  .quiet, th { color: #9aa7b4 } .doubt { background: #3a2617 } tr + tr td { border-color: #2d3640 }
  .ink { fill: #e3e8ee } }
"""

_SAID = {
    "vanished": "vanished",
    "appeared": "appeared",
    "moved": "moved",
    "effect": "changed effect",
}


def page(found: Compared) -> str:
    """Give the page."""
    changed = found.changed
    shown = changed[:_MOST]
    said = f"{counted(len(changed), 'change')}" if changed else "nothing changed"
    body = (
        f"{markup.doubted(found.doubts)}<h1>Two networks compared: {said}</h1>\n"
        f"<p>Over {counted(found.images, 'image')} that both saw. {html.escape(found.summary())}."
        f'</p><p class="quiet">{len(found.changes):,} things were tested; of what is told to have '
        f"changed a share of {found.fdr:.0%} may be by chance. Differences up to {found.margin:g} "
        "don't count.</p>"
        f"{_changes(found, shown, len(changed))}{_matches(found)}"
    )
    return markup.page("Two networks compared", _STYLE, body)


def _changes(found: Compared, shown: tuple[Change, ...], total: int) -> str:
    """Give the table of what changed."""
    if not shown:
        return ""
    longest = max(max(abs(one.before), abs(one.after)) for one in shown)
    lines = []
    for one in shown:
        what = _SAID[one.kind]
        on = f"<br>on <b>{html.escape(one.class_title)}</b>" if one.class_title else ""
        lines.append(
            f'<tr><td class="what"><b>{html.escape(one.title)}</b><br><span class="quiet">of '
            f"{one.graph.upper()}</span></td>{_tiles(found, one.graph, one.part)}"
            f'<td><span class="{one.kind}">{what}</span>{on}</td>'
            f"<td>{_bars(one, longest)}</td>"
            f'<td class="value">{in_short(one.strength)}</td>'
            f'<td class="value">{one.q:.2g}</td></tr>'
        )
    more = f'<p class="quiet">and {total - len(shown):,} more</p>' if total > len(shown) else ""
    return (
        '<h2>What changed most</h2><div class="wide"><table><thead><tr><th></th><th></th>'
        "<th></th><th>network A (blue), B (orange)</th>"
        '<th class="value">strength</th><th class="value">q</th></tr></thead><tbody>'
        f"{''.join(lines)}</tbody></table></div>{more}"
        '<p class="quiet">Vanished, appeared: the share of the variance of what a network’s maps '
        "do at the part’s place that goes with the part’s presence. Moved: the same of network B, "
        "of A’s part at A’s place and of its partner at the partner’s. Effect: standard "
        "deviations of the class’s score, for each of the part’s presence, that are added at the "
        "part’s place. The strength is told in standard deviations for all of them.</p>"
    )


def _bars(one: Change, longest: float) -> str:
    """Draw before and after, one below the other."""
    half = any(value < -0.005 for value in (one.before, one.after))
    zero = _BAR / 2 if half else 0.0
    room = (_BAR / 2 if half else _BAR) / max(longest, 1e-12)
    drawn = []
    for k, (value, colour) in enumerate(((one.before, FOR), (one.after, AGAINST))):
        wide = max(1.0, abs(value) * room)
        left = zero - wide if half and value < 0 else zero
        drawn.append(
            f'<rect x="{left:.1f}" y="{2 + 17 * k}" width="{wide:.1f}" height="13" rx="2" '
            f'fill="{colour}"/><text class="ink" x="{_BAR + 8}" y="{13 + 17 * k}" '
            f'font-size="12" font-family="system-ui, sans-serif">{in_short(value)}</text>'
        )
    told = f"from {in_short(one.before)} to {in_short(one.after)}"
    size = f'width="{_BAR + 50}" height="36"'
    return f'<svg {size} role="img" aria-label="{told}">{"".join(drawn)}</svg>'


def _tiles(found: Compared, graph: str, part: str) -> str:
    """Give the cell of a part's patches."""
    tiles = "".join(
        f'<img width="{_TILE}" height="{_TILE}" alt="" src="{tile}">'
        for tile in found.patches.get((graph, part), ())
    )
    return f'<td class="tiles">{tiles}</td>'


def _matches(found: Compared) -> str:
    """Give the table of what became of each part or node."""
    rows = "".join(_row(found, one) for one in found.matches[:_ROWS])
    more = len(found.matches) - _ROWS
    hidden = f'<p class="quiet">and {more:,} more</p>' if more > 0 else ""
    return (
        f"<h2>{found.by.title()}s side by side</h2>"
        '<p class="quiet">Matched one to one by where and when they are present: 1 if always '
        "together, 0 as by chance. <i>Alone</i>: both networks’ maps go with it, but only one "
        f"graph has it as a {found.by} of its own; mining grouped it otherwise.</p>"
        f'<div class="wide"><table><thead><tr><th>A</th><th></th><th>B</th><th></th><th></th>'
        '<th class="value">similar</th><th class="value">apart</th>'
        f'<th class="value">A’s maps</th><th class="value">B’s maps</th></tr></thead><tbody>'
        f"{rows}</tbody></table></div>{hidden}"
    )


def _row(found: Compared, one: Match) -> str:
    """Give a line of that table."""
    apart = f"{in_short(one.distance, 1)} px" if one.a and one.b else ""
    if one.state == "moved":
        apart += f"<br>({one.dx:+.0f}, {one.dy:+.0f})"
    return (
        f"<tr>{''.join(_named(found, *each) for each in _ends(one))}"
        f'<td class="state"><span class="{one.state}">{one.state}</span></td>'
        f'<td class="value">{in_short(one.similarity)}</td><td class="value">{apart}</td>'
        f'<td class="value">{in_short(one.answers_a)}</td>'
        f'<td class="value">{in_short(one.answers_b)}</td></tr>'
    )


def _ends(one: Match) -> Iterable[tuple[str, str, str]]:
    return (("a", one.a, one.title_a), ("b", one.b, one.title_b))


def _named(found: Compared, graph: str, part: str, title: str) -> str:
    if not part:
        return '<td class="quiet">none</td><td></td>'
    return f'<td class="what">{html.escape(title)}</td>{_tiles(found, graph, part)}'
