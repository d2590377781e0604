"""Groups of images with something in common, drawn: a row each, what they share outlined."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from explgraph.answers.suspicion import Suspicion
from explgraph.errors import ExplgraphError
from explgraph.views.figure_style import Figure, bare_axes, extent, plain, short, stroke, written
from explgraph.views.pictures import Pictures

__all__ = ["in_pixels", "suspicion_figure"]

_ROWS = 6
_COLUMNS = 6


def suspicion_figure(
    groups: Sequence[Suspicion], pictures: Pictures, *, path: str | os.PathLike[str] | None = None
) -> Figure:
    """Draw the first groups, each by its most typical images.

    Parameters
    ----------
    groups : sequence of Suspicion
    pictures : Pictures
        The images that were examined.
    path : path, optional
        File to write.

    Raises
    ------
    ExplgraphError
        If there are no groups.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    groups = groups[:_ROWS]
    if not groups:
        raise ExplgraphError("no groups were found, so that there is nothing to draw")
    figure, axes = bare_axes(len(groups), _COLUMNS)
    for k, one in enumerate(groups):
        row = axes[k * _COLUMNS : (k + 1) * _COLUMNS]
        for ax, number, region in zip(row, one.rows, one.regions, strict=False):
            picture = pictures[number]
            inside = in_pixels(region, picture.shape[:2])
            dim = np.where(inside[..., None], picture, picture // 2 + 90).astype(np.uint8)
            ax.imshow(dim, extent=extent(dim))
            lines = ax.contour(
                np.pad(inside.astype(float), 1), levels=[0.5], colors="#E69F00", linewidths=1.6,
                extent=(-1, dim.shape[1] + 1, -1, dim.shape[0] + 1),
            )  # fmt: skip
            lines.set_path_effects(stroke(3, "black"))
            ax.set_xlim(0, dim.shape[1])
            ax.set_ylim(dim.shape[0], 0)
            ax.set_title(plain(short(pictures.names[number], 18)), fontsize=6)
        for ax in row[len(one.rows) :]:
            ax.remove()
        mark = "suspicious: " if one.suspicious else ""
        told = row[0].annotate(
            plain(f"{mark}{short(one.target, 30)}, {one.share:.0%} of its images (others "
                  f"{one.elsewhere:.0%}), {one.where}, {short(one.part, 30)}; log-odds fall by "
                  f"{one.fall:.1f}, surplus {one.surplus:+.1f}"),
            (0, 1), (0, 14), xycoords="axes fraction", textcoords="offset points", fontsize=8,
            weight="bold" if one.suspicious else "normal",
        )  # fmt: skip
        told.set_in_layout(False)  # it is as wide as the row
    figure.suptitle(" ", fontsize=8)  # room for the first row's text
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(h_pad=0.14)  # inches: a line of text above each row
    return written(figure, path)


def in_pixels(region: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Give cells (H, W) as pixels, each as wide as the image has room for."""
    y, x = (np.arange(n) * m // n for n, m in zip(size, region.shape, strict=True))
    inside: NDArray[np.bool_] = region[y[:, None], x]
    return inside
