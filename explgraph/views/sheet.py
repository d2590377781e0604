"""A sheet of paper that drawings are laid out on, in millimetres from its upper left corner.

Journals print figures one or two columns wide. Sizes here are those in print, so letters and lines
are as large as they say, whatever program shows the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import NamedTuple, TypeAlias

import numpy as np
from matplotlib.patches import FancyArrowPatch
from numpy.typing import NDArray

from explgraph.errors import ExplgraphError
from explgraph.views.figure_style import Figure, Rectangle, Sign, plain, short

__all__ = [
    "INK",
    "LINE",
    "MARGIN",
    "QUIET",
    "SMALL",
    "Entry",
    "Paper",
    "Sheet",
    "checked_paper",
    "legend_height",
]

INK, QUIET = "#1b2530", "#5b6774"
SMALL = 6.0  # pt, the least that is legible in print
LINE = 3.0  # mm from line to line of such letters
MARGIN = 1.5  # mm
_EMPTY = "#e4e8ec"  # where a patch would be
_MM = 25.4  # of an inch
_POINT = 72 / _MM  # of a mm
_COARSEST, _FINEST = 50, 1200  # pixels per inch
_LETTER = 0.19  # mm of width for each pt of a letter's size, on average, in matplotlib's font
_BOLD = 1.12  # so much wider are bold ones
_SAMPLE = 5.0  # mm of a line in a legend
_LEAST_WIDTH, _MOST_WIDTH = 60.0, 400.0  # mm
_NARROW = 110.0  # mm


Entry: TypeAlias = "tuple[float, str, str]"
"""Of a legend: a line's width (pt; 0 for none), its colour, and what it means."""


def legend_height(entries: Sequence[Entry], width: float) -> float:
    """Say how high a legend is on a sheet of some width, mm."""
    return LINE + max(down for _, down, _ in _flow(entries, width))


def _flow(entries: Sequence[Entry], width: float) -> list[tuple[float, float, Entry]]:
    """Place a legend's entries, x and y in mm, in as many lines as they take."""
    placed = []
    x, y = MARGIN, 0.0
    for entry in entries:
        room = (_SAMPLE + 1) * (entry[0] > 0) + len(entry[2]) * _LETTER * SMALL
        if x > MARGIN and x + room > width:
            x, y = MARGIN, y + LINE
        placed.append((x, y, entry))
        x += room + 3
    return placed


class Paper(NamedTuple):
    """What is drawn on: its width, mm, and how many pixels an inch of a picture has."""

    width: float
    dpi: int

    @property
    def narrow(self) -> bool:
        """Whether it is one column of a journal, which what is drawn on it allows for."""
        return self.width <= _NARROW


def checked_paper(width: float, dpi: int) -> Paper:
    """Give a paper; refuse what nothing can be drawn on."""
    if (
        isinstance(width, bool)
        or not isinstance(width, Real)
        or not _LEAST_WIDTH <= width <= _MOST_WIDTH
    ):
        raise ExplgraphError(
            f"width is {width!r}; expected {_LEAST_WIDTH:g} to {_MOST_WIDTH:g} mm, such as 84 for "
            "one column of a journal, 174 for two"
        )
    if isinstance(dpi, bool) or not isinstance(dpi, int) or not _COARSEST <= dpi <= _FINEST:
        raise ExplgraphError(
            f"dpi is {dpi!r}; expected a whole number from {_COARSEST} to {_FINEST}, such as 300 "
            "for print, 150 for a page"
        )
    return Paper(float(width), dpi)


class Sheet:
    """Draws on a figure of a size in mm.

    Parameters
    ----------
    paper : Paper
    height : float
        mm.

    Attributes
    ----------
    figure : Figure
        With one axes, whose unit is the mm, y down.
    """

    def __init__(self, paper: Paper, height: float) -> None:
        self.width, self.height = paper.width, height
        self._dpi = paper.dpi
        self.figure = Figure(
            figsize=(paper.width / _MM, height / _MM), dpi=paper.dpi, facecolor="white"
        )
        self._ax = self.figure.add_axes((0, 0, 1, 1))
        self._ax.set_axis_off()
        self._keep()

    def _keep(self) -> None:
        """Undo what showing a picture does to the axes."""
        self._ax.set_xlim(0, self.width)
        self._ax.set_ylim(self.height, 0)
        self._ax.set_aspect("auto")

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = SMALL,
        colour: str = INK,
        bold: bool = False,
        align: str = "left",
        room: float | None = None,
    ) -> None:
        """Write a line of text, its middle at y; cut to `room` mm if that is given."""
        if room is not None:
            text = short(text, max(4, int(room / (_LETTER * size))))
        self._ax.text(
            x, y, plain(text), fontsize=size, color=colour, ha=align, va="center_baseline",
            fontweight="bold" if bold else "normal", zorder=6,
        )  # fmt: skip

    def name(self, x: float, y: float, text: str, room: float) -> float:
        """Write a module's name in bold, in two lines if it takes them; give the last one's y.

        ``_blocks.15._bn0`` is broken at a point, since its number tells it from others.
        """
        most = max(4, int(room / (_LETTER * _BOLD * 7.0)))
        first, rest = text, ""
        if len(text) > most:
            cut = text.rfind(".", 1, most + 1)
            if cut > 0:
                first, rest = text[:cut], text[cut:]
        self.text(x, y, first, size=7, bold=True, room=room / _BOLD)
        if rest:
            y += LINE
            self.text(x, y, rest, size=7, bold=True, room=room / _BOLD)
        return y

    def picture(
        self, x: float, y: float, width: float, height: float, colours: NDArray[np.uint8]
    ) -> None:
        """Show a picture."""
        self._ax.imshow(
            colours, extent=(x, x + width, y + height, y), interpolation="none", zorder=3
        )
        self._keep()

    def pixels(self, length: float) -> int:
        """Count the pixels of a length when the sheet is printed."""
        return max(8, round(length / _MM * self._dpi))

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        edge: str = "none",
        face: str = "none",
        line: float = 1.0,
        depth: float = 4.0,
    ) -> None:
        """Draw a rectangle."""
        self._ax.add_patch(
            Rectangle(
                (x, y), width, height, edgecolor=edge, facecolor=face, linewidth=line,
                zorder=depth, joinstyle="miter",
            )
        )  # fmt: skip

    def blank(self, x: float, y: float, side: float, colour: str = _EMPTY) -> None:
        """Draw a square where there is no picture."""
        self.box(x, y, side, side, face=colour, depth=3)

    def badge(self, x: float, y: float, sign: Sign, size: float = 3.0) -> None:
        """Draw a part's number on its colour and shape, `size` mm wide."""
        points = size * _POINT
        wide = points * (1.1 if sign.marker == "D" else 1.0)
        self._ax.scatter(
            x, y, s=wide**2 * (0.72 if sign.marker == "D" else 1.0), c=sign.colour,
            marker=sign.marker, edgecolors="black", linewidths=0.5, zorder=7,
        )  # fmt: skip
        self._ax.text(
            x, y, sign.number, color=sign.ink,
            fontsize=max(SMALL, points * (0.75 if len(sign.number) < 2 else 0.65)),
            fontweight="bold", ha="center", va="center_baseline", zorder=8,
        )  # fmt: skip

    def mark(self, x: float, y: float, colour: str, marker: str, size: float = 2.5) -> None:
        """Draw a mark that is seen on anything."""
        self._ax.scatter(
            x, y, s=(size * _POINT) ** 2, c=colour, marker=marker, edgecolors="black",
            linewidths=0.7, zorder=7,
        )  # fmt: skip

    def line(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        *,
        width: float,
        colour: str,
    ) -> None:
        """Draw a line beneath the pictures; its width in pt."""
        self._ax.plot(xs, ys, linewidth=width, color=colour, zorder=1, solid_capstyle="butt")

    def legend(self, y: float, entries: Sequence[Entry]) -> None:
        """Explain lines, from the left of y on."""
        for x, down, (width, colour, told) in _flow(entries, self.width):
            at = y + down
            if width:
                self.line([x, x + _SAMPLE], [at, at], width=width, colour=colour)
            self.text(x + (_SAMPLE + 1) * (width > 0), at, told, colour=QUIET)

    def arrow(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        *,
        width: float,
        colour: str,
        bend: float = 0.0,
    ) -> None:
        """Draw an arrow beneath the pictures; its width in pt, its bend a share of its length."""
        self._ax.add_patch(
            FancyArrowPatch(
                start, end, arrowstyle="-|>", mutation_scale=4.5 + 1.2 * width, linewidth=width,
                color=colour, shrinkA=0, shrinkB=0, zorder=2,
                connectionstyle=f"arc3,rad={bend}", capstyle="butt", joinstyle="miter",
            )
        )  # fmt: skip
