"""An explanation as a picture: the photograph with marks, the parts with tiles and bars, a check.

On the left the photograph and, below, what is left of the score as parts are taken away in truth;
on the right a row for each part: its patch in this image, its best elsewhere, what it adds.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np

from explgraph.explaining.account import NO_NODE, NO_PART, Account, PartContribution
from explgraph.explaining.explanation_page import AGAINST, FOR
from explgraph.views.figure_style import (
    Axes,
    Circle,
    Figure,
    Rectangle,
    extent,
    placed_axes,
    plain,
    short,
    stroke,
    written,
)
from explgraph.views.pictures import part_side, patch
from explgraph.views.spread import spread

__all__ = ["explanation_figure"]

_PHOTO = 3.6  # width of the photograph, inches
_CURVE = 1.6  # height of the curve
_TILE = 0.62  # side of a patch
_GAP = 0.12
_TEXT = 1.15  # width of a part's title
_BAR = 1.5  # width of the longest bar
_QUIET = "#5b6774"
_APART = 13.0  # least distance of two marks, points


def explanation_figure(account: Account, *, path: str | os.PathLike[str] | None = None) -> Figure:
    """Draw an explanation.

    Parameters
    ----------
    account : Explanation
    path : path, optional
        File to write.

    Returns
    -------
    Figure
        Axes are labelled ``"photograph"``, ``"removal"``, ``"bars"``, and ``"here ID"`` and
        ``"elsewhere ID"`` for each part that has a row.
    """
    shown, others = account.shown()
    more = len(account.rows) - len(shown)
    rests = [(f"{more} other part{'s' * (more > 1)}", others)] if more else []
    rests += [(NO_PART, account.here.no_part), (NO_NODE, account.here.no_node)]
    tiles = 1 + max((len(account.elsewhere.get(row.part, ())) for row in shown), default=0)
    height, width = account.image_size
    photo = (_PHOTO, _PHOTO * height / width)
    doubts = [line for doubt in account.doubts for line in _broken(doubt, 110)]
    head = 0.62 + 0.16 * len(doubts)
    curve = bool(account.removal.parts)
    left_tall = photo[1] + curve * (_CURVE + 0.75)
    row_tall, rest_tall = _TILE + 0.08, 0.27
    right_tall = 0.25 + len(shown) * row_tall + len(rests) * rest_tall
    right = _PHOTO + 3 * _GAP
    bars = right + _TEXT + tiles * (_TILE + 0.03) + 0.15
    size = (bars + _BAR + 1.0, head + max(left_tall, right_tall) + _GAP)
    figure = Figure(figsize=size, dpi=150)

    _head(figure, account, doubts)
    ax = placed_axes(figure, (_GAP, head), photo, "photograph")
    _photograph(ax, account, shown, photo[1] * 72)
    if curve:
        _curve(figure, (0.55, head + photo[1] + 0.4), (_PHOTO - 0.45, _CURVE - 0.1), account)

    tall = right_tall - 0.25
    ax = placed_axes(figure, (bars, head + 0.25), (_BAR + 0.9, tall), "bars")
    values = [row.contribution for row in shown] + [value for _, value in rests]
    low, high = min(0.0, *values), max(0.0, *values)
    span = max(high - low, 1e-12)
    # room for numbers on either side
    ax.set_xlim(low - 0.28 * span * (low < 0), low + span * (_BAR + 0.9) / _BAR)
    ax.set_ylim(tall, 0)
    ax.patch.set_visible(False)
    side = part_side(account.image_size)
    top = 0.0
    _told(figure, (right, head + 0.02), "part", 7, _QUIET)
    _told(figure, (right + _TEXT, head + 0.02), "here", 7, _QUIET)
    if tiles > 1:
        _told(figure, (right + _TEXT + _TILE + 0.09, head + 0.02), "in other images", 7, _QUIET)
    _told(figure, (bars, head + 0.02), "adds to the score", 7, _QUIET)
    for row in shown:
        corner = (right, head + 0.25 + top)
        _title(figure, corner, row)
        cut = patch(account.picture, row.x, row.y, side, 128)[0]
        x = right + _TEXT
        placed_axes(figure, (x, corner[1]), (_TILE, _TILE), f"here {row.part}").imshow(cut)
        for k, tile in enumerate(account.elsewhere.get(row.part, ())):
            at = (x + 0.06 + (k + 1) * (_TILE + 0.03), corner[1])
            placed_axes(figure, at, (_TILE, _TILE), f"elsewhere {row.part}").imshow(tile)
        _bar(ax, top + _TILE / 2, 0.26, row.contribution, span)
        top += row_tall
    for text, value in rests:
        _told(figure, (right, head + 0.25 + top + 0.08), text, 7.5, _QUIET)
        _bar(ax, top + rest_tall / 2, 0.16, value, span, quiet=True)
        top += rest_tall
    ax.axvline(0, color=_QUIET, linewidth=0.8)
    return written(figure, path)


def _broken(text: str, most: int) -> list[str]:
    """Break a text into lines."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return lines


def _told(
    figure: Figure, at: tuple[float, float], text: str, size: float, colour: str, weight: str = ""
) -> None:
    """Write a text whose upper left corner is at a place, inches."""
    wide, tall = figure.get_size_inches()
    figure.text(
        at[0] / wide, 1 - at[1] / tall, plain(text), fontsize=size, color=colour, va="top",
        fontweight=weight or "normal",
    )  # fmt: skip


def _head(figure: Figure, account: Account, doubts: Sequence[str]) -> None:
    """Write what is explained, and why it is in doubt."""
    y = 0.1
    for line in doubts:
        _told(figure, (_GAP, y), line, 8, "#a33c00", "bold")
        y += 0.16
    title = f"{short(account.class_title, 40)} in image {short(account.image, 40)}"
    rank = f", rank {account.rank} of {account.classes}" if account.classes > 1 else ""
    title = f"{title}: score {account.score:.3g}{rank}"
    _told(figure, (_GAP, y), title, 10.5, "black", "bold")
    _told(figure, (_GAP, y + 0.22), account.told, 8, _QUIET)


def _photograph(
    ax: Axes, account: Account, shown: Sequence[PartContribution], points: float
) -> None:
    """Draw the photograph, `points` high, with a ring and a number for each part."""
    height, width = account.image_size
    ax.imshow(account.picture, extent=extent(account.picture), interpolation="bilinear")
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    unit = height / points  # px of a point
    at = np.array([[row.x, row.y] for row in shown]).reshape(-1, 2)
    marks = spread(at, _APART * unit, (width, height)).tolist()
    for row, (mark_x, mark_y) in zip(shown, marks, strict=True):
        colour = FOR if row.contribution >= 0 else AGAINST
        style = "-" if row.presence >= 0.5 else "--"
        for wide, edge in ((2.6, "white"), (1.4, colour)):
            ax.add_patch(
                Circle((row.x, row.y), row.radius, fill=False, linewidth=wide, edgecolor=edge,
                       linestyle="-" if edge == "white" else style, zorder=3)
            )  # fmt: skip
        if math.hypot(mark_x - row.x, mark_y - row.y) > 3 * unit:
            ax.plot([mark_x, row.x], [mark_y, row.y], color=colour, linewidth=1.2, zorder=4,
                    path_effects=stroke(2.4, "white"))  # fmt: skip
        _disc(ax, mark_x, mark_y, row)


def _disc(ax: Axes, x: float, y: float, row: PartContribution) -> None:
    """Draw a part's number on a disc."""
    colour = FOR if row.contribution >= 0 else AGAINST
    ax.scatter(x, y, s=120, c=colour, edgecolors="white", linewidths=1.0, zorder=6, clip_on=False)
    ax.text(
        x, y, row.part.removeprefix("p"), color="white", fontsize=6.5, fontweight="bold",
        ha="center", va="center_baseline", zorder=7,
    )  # fmt: skip


def _title(figure: Figure, corner: tuple[float, float], row: PartContribution) -> None:
    """Write a part's number and title beside its patches."""
    ax = placed_axes(figure, (corner[0], corner[1]), (0.24, _TILE), f"mark {row.part}")
    ax.set_xlim(0, 0.24)
    ax.set_ylim(_TILE, 0)
    ax.patch.set_visible(False)
    _disc(ax, 0.1, _TILE / 2, row)
    y = corner[1] + _TILE / 2 - 0.13
    _told(figure, (corner[0] + 0.26, y), short(row.title, 15), 8, "black", "bold")
    nodes = f"{row.nodes} node{'s' * (row.nodes > 1)}" if row.presence >= 0.5 else "doubtful"
    _told(figure, (corner[0] + 0.26, y + 0.15), nodes, 6.5, _QUIET)


def _bar(ax: Axes, y: float, tall: float, value: float, span: float, quiet: bool = False) -> None:
    """Draw a contribution and write it at the bar's end."""
    colour = FOR if value >= 0 else AGAINST
    ax.add_patch(
        Rectangle((min(value, 0.0), y - tall / 2), abs(value), tall, facecolor=colour,
                  alpha=0.45 if quiet else 1.0, linewidth=0)
    )  # fmt: skip
    ax.text(
        value + 0.03 * span * (1 if value >= 0 else -1), y, f"{value:+.2g}", fontsize=7.5,
        va="center_baseline", ha="left" if value >= 0 else "right",
    )  # fmt: skip


def _curve(
    figure: Figure, corner: tuple[float, float], size: tuple[float, float], account: Account
) -> None:
    """Draw what is left of the score without the first k parts."""
    removal = account.removal
    wide, tall = figure.get_size_inches()
    ax = figure.add_axes(
        (corner[0] / wide, 1 - (corner[1] + size[1]) / tall, size[0] / wide, size[1] / tall),
        label="removal",
    )
    k = np.arange(len(removal.parts) + 1)
    ax.plot(k, removal.equal, "--", color="#7b8794", linewidth=1.2, label="as much, anywhere")
    ax.plot(k, removal.random, "-", color="#7b8794", linewidth=1.2, label="parts at random")
    ax.plot(k, removal.expected, ":", color=FOR, linewidth=1.2, label="expected")
    ax.plot(k, removal.score, "-o", color=FOR, linewidth=2, markersize=3, label="first parts")
    numbers = [part.removeprefix("p") for part in removal.parts]
    ax.set_xticks(k, ["none", *numbers[:1], *(f"+ {number}" for number in numbers[1:])])
    ax.tick_params(labelsize=7)
    ax.set_title("score when parts are really taken away", fontsize=8, loc="left")
    ax.axhline(0, color=_QUIET, linewidth=0.6)
    for name in ("top", "right"):
        ax.spines[name].set_visible(False)
    ax.legend(fontsize=6, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4,
              handlelength=1.6, columnspacing=1.0)  # fmt: skip
