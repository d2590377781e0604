"""Curves of faithfulness as a picture: deletion and insertion, by number and by activation."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from explgraph.answers.curves import Curve, Curves
from explgraph.brief import counted
from explgraph.views.figure_style import PALETTE, Axes, Figure, plain, short, written

__all__ = ["curves_figure"]

_QUIET = "#5b6774"
_WIDTH, _HEIGHT = 7.6, 5.6  # inches
# what is measured in its colour, how it is ordered by its line
_COLOURS = {
    "parts": PALETTE[6],
    "parts' nodes for it": PALETTE[2],
    "nodes": PALETTE[1],
    "filters": PALETTE[5],
    "units": PALETTE[7],
}
_LINES = {"contribution": "-", "gradient x activation": "-", "activation": "--", "random": ":"}


def curves_figure(found: Curves, *, path: str | os.PathLike[str] | None = None) -> Figure:
    """Draw what is left without the first elements, and what these give by themselves.

    Parameters
    ----------
    found : Curves
    path : path, optional
        File to write.

    Returns
    -------
    Figure
        Axes are labelled ``"deletion, number"``, ``"insertion, number"``, ``"deletion,
        activation"`` and ``"insertion, activation"``.
    """
    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=150)
    axes = figure.subplots(2, 2, sharey="row")
    figure.subplots_adjust(left=0.09, right=0.985, top=0.86, bottom=0.2, wspace=0.08, hspace=0.42)
    for row, kind in enumerate(("deletion", "insertion")):
        for column, across in enumerate(("number", "activation")):
            ax = axes[row, column]
            ax.set_label(f"{kind}, {across}")
            for curve in reversed(found.curves):  # what is asked about on top
                _line(ax, found, curve, kind, across)
            _dressed(ax, kind, across, found.curves[0].elements, first=not column)
    handles, titles = axes[0, 1].get_legend_handles_labels()
    figure.legend(
        handles[::-1], titles[::-1], loc="lower center", ncols=3, fontsize=7.5, frameon=False,
        handlelength=2.4,
    )  # fmt: skip
    asked = sorted(set(found.classes))
    what = short(asked[0], 40) if len(asked) == 1 else counted(len(asked), "class")
    figure.text(
        0.02, 0.965, plain(f"Do they carry the score? {short(found.layer, 40)}, {what}, "
                           f"{counted(len(found.names), 'image')}"),
        fontsize=10.5, fontweight="bold",
    )  # fmt: skip
    figure.text(
        0.02, 0.928,
        plain("shares of what the layer carries of the score; in place of what is taken away: "
              + found.instead),
        fontsize=8, color=_QUIET,
    )  # fmt: skip
    return written(figure, path)


def _line(ax: Axes, found: Curves, curve: Curve, kind: str, across: str) -> None:
    """Draw one curve."""
    deleted = kind == "deletion"
    if across == "number":
        if not curve.held.shape[1]:
            return
        x: NDArray[np.float64] = np.arange(curve.held.shape[1], dtype=np.float64)
        values = curve.left if deleted else curve.kept
    else:
        x = np.append(0.0, curve.held_equal[:, 1:].mean(0))
        values = (curve.left_equal if deleted else curve.kept_equal)[:, 1:]
        whole = found.scores if deleted else found.empty
        values = np.concatenate([whole[:, None], values], 1)
    ours = curve is found.curves[0]
    ax.plot(
        x, found.share(found.there(values)), _LINES.get(curve.order, "-"),
        color=_COLOURS.get(curve.elements, PALETTE[3]), linewidth=2.4 if ours else 1.3,
        label=curve.title,
    )  # fmt: skip


def _dressed(ax: Axes, kind: str, across: str, elements: str, *, first: bool) -> None:
    """Label axes."""
    deleted = kind == "deletion"
    size = "equal number" if across == "number" else "equal activation"
    better = "lower is better" if deleted else "higher is better"
    ax.set_title(f"{kind}, {size} ({better})", fontsize=8, loc="left")
    if across == "number":
        ax.set_xlabel("first elements", fontsize=7.5)
        ax.locator_params(axis="x", integer=True)
    else:
        ax.set_xlabel(f"share of the layer's activation, up to all {elements}", fontsize=7.5)
    if first:
        ax.set_ylabel("left without them" if deleted else "there with them alone", fontsize=7.5)
    ax.tick_params(labelsize=7)
    ax.axhline(0, color=_QUIET, linewidth=0.6)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
