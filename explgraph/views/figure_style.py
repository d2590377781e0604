"""What figures share: bare axes in an image's pixels, colours and markers, names, files.

Colours are those of Okabe and Ito, which colour-blind people can tell apart; layers have markers
of their own as well.
"""

from __future__ import annotations

import os
import re
import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from explgraph.atomic import atomic_write
from explgraph.errors import ExplgraphError, MissingPackageError
from explgraph.paths import checked_path

try:
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle, Rectangle
    from matplotlib.patheffects import AbstractPathEffect, withStroke
except ImportError as err:
    raise MissingPackageError(
        "figures need matplotlib, which isn't installed: pip install 'explgraph[draw]'"
    ) from err

__all__ = [
    "MARKERS",
    "PALETTE",
    "Axes",
    "Circle",
    "Figure",
    "Rectangle",
    "Sign",
    "bare_axes",
    "extent",
    "faded",
    "overlay",
    "pale",
    "part_sign",
    "placed_axes",
    "plain",
    "short",
    "show",
    "stroke",
    "to_rgb",
    "written",
]

PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_INCH = 1.5  # of a small picture
_DPI = 120
_SHAPES = ("o", "s", "D", "p")  # with room for a number
# text stays text, in fonts that publishers take; pictures keep their pixels; the same each time
_FILES: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "explgraph",
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "image.composite_image": False,
}
_UNDATED = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


class Sign(NamedTuple):
    """How a part is drawn."""

    number: str
    colour: str
    marker: str
    ink: str  # colour of what is written on it


def part_sign(part: str, k: int) -> Sign:
    """Give a part its number, and the same colour and shape in all figures, unlike 31 others'.

    Parameters
    ----------
    part : str
        Its id.
    k : int
        Stands in for the number where the id has none.
    """
    number = part.removeprefix("p")
    k = int(number) - 1 if number.isdecimal() else k
    colour = PALETTE[k % len(PALETTE)]
    marker = _SHAPES[k // len(PALETTE) % len(_SHAPES)]
    light = float(np.dot(to_rgb(colour), [0.299, 0.587, 0.114]))
    return Sign(number, colour, marker, "black" if light > 0.45 else "white")


def bare_axes(rows: int, columns: int, inch: float = _INCH) -> tuple[Figure, list[Axes]]:
    """Give a figure of bare axes."""
    figure = Figure(figsize=(inch * columns, inch * rows + 0.45), dpi=_DPI, layout="constrained")
    axes = [figure.add_subplot(rows, columns, k + 1) for k in range(rows * columns)]
    for ax in axes:
        _bare(ax)
    return figure, axes


def placed_axes(
    figure: Figure, corner: tuple[float, float], size: tuple[float, float], label: str
) -> Axes:
    """Place bare axes by their upper left corner, inches from the figure's."""
    wide, tall = figure.get_size_inches()
    ax = figure.add_axes(
        (corner[0] / wide, 1 - (corner[1] + size[1]) / tall, size[0] / wide, size[1] / tall),
        label=label,
    )
    _bare(ax)
    return ax


def _bare(ax: Axes) -> None:
    """Take ticks and frame away."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def extent(picture: NDArray[Any]) -> tuple[float, float, float, float]:
    """Edges of an image in its own px: left, right, bottom, top."""
    return 0.0, float(picture.shape[1]), float(picture.shape[0]), 0.0


def show(ax: Axes, picture: NDArray[np.uint8]) -> None:
    """Draw a picture so that the axes count px from its upper left corner."""
    ax.imshow(picture, extent=extent(picture))


def overlay(ax: Axes, heat: NDArray[np.float64], colours: str) -> None:
    """Draw heat (0 to 1) over a picture, the hotter the less transparent."""
    ax.imshow(
        heat, extent=extent(heat), cmap=colours, vmin=0, vmax=1,
        alpha=np.clip(heat, 0, 1) ** 0.6 * 0.85,
    )  # fmt: skip


def faded(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give a picture in dim greys, for something bright on top."""
    grey = picture.astype(float) @ [0.299, 0.587, 0.114]
    faded: NDArray[np.uint8] = np.repeat((grey * 0.55)[..., None], 3, 2).astype(np.uint8)
    return faded


def pale(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give a picture light and in dull colours, for something dark on top."""
    grey = picture.astype(float) @ [0.299, 0.587, 0.114]
    dull = 0.6 * picture + 0.4 * grey[..., None]
    light: NDArray[np.uint8] = (115 + 140 * dull / 255).astype(np.uint8)
    return light


def stroke(width: float, colour: str) -> list[AbstractPathEffect]:
    """Outline lines or letters, so that they are seen on anything; points."""
    return [withStroke(linewidth=width, foreground=colour)]


# What no font draws and SVG, which is XML, can't hold. Names of files may have it, and bytes that
# aren't UTF-8 are surrogates in Python.
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def plain(text: str) -> str:
    """Keep matplotlib from reading formulas into a text, and from what files can't hold."""
    return _UNWRITABLE.sub("\ufffd", " ".join(text.split())).replace("$", r"\$")


def short(text: str, most: int) -> str:
    """Cut the middle out of a long text."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2 - 1]}...{text[-(most // 2 - 2) :]}"


def written(figure: Figure, path: str | os.PathLike[str] | None) -> Figure:
    """Write a figure to a file, if asked to."""
    if path is not None:
        known = figure.canvas.get_supported_filetypes()
        suffix = checked_path(path).suffix.lower()
        if suffix[1:] not in known:
            raise ExplgraphError(
                f"can't write {str(path)!r}: suffix {suffix!r}; expected one of "
                f"{', '.join('.' + kind for kind in sorted(known))}"
            )
        with (
            atomic_write(path) as temporary,
            mpl.rc_context(_FILES),
            warnings.catch_warnings(),
        ):
            # an empty box stands for a character that the font lacks, and says so by itself
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            figure.savefig(temporary, metadata=_UNDATED.get(suffix))
    return figure
