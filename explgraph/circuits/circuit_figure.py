"""The curve of a circuit as a picture, for papers and talks: what the first candidates keep."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from explgraph.circuits.account import CircuitAccount
from explgraph.explaining.explanation_page import AGAINST, FOR
from explgraph.views.figure_style import Axes, Figure, written

__all__ = ["circuit_figure", "draw_curve"]

_SIZE = (5.2, 3.0)  # inches


def circuit_figure(
    circuit: CircuitAccount[Any], *, path: str | os.PathLike[str] | None = None
) -> Figure:
    """Draw what the first candidates keep, and the circuit beside them.

    Parameters
    ----------
    circuit : Circuit
    path : path, optional
        File to write.

    Returns
    -------
    Figure
        Its one axes counts candidates (logarithmic) and shares.
    """
    figure = Figure(figsize=_SIZE, dpi=150, layout="constrained")
    draw_curve(figure.add_subplot(), circuit)
    return written(figure, path)


def draw_curve(axes: Axes, circuit: CircuitAccount[Any]) -> None:
    """Draw the curve into axes."""
    sizes = np.array([point.size for point in circuit.curve])
    kept, low, high = np.array([point.kept for point in circuit.curve]).T
    axes.axhline(circuit.keep, color=AGAINST, linestyle="--", linewidth=1, label="asked for")
    axes.fill_between(sizes, low, high, color=FOR, alpha=0.18, linewidth=0)
    axes.plot(
        sizes, [p.search for p in circuit.curve], ":", color=FOR, label="images of the search"
    )
    axes.plot(sizes, kept, color=FOR, linewidth=2, label="other images")
    own = circuit.kept
    axes.plot([len(circuit)] * 2, [own.low, own.high], color=AGAINST, linewidth=1.8)
    axes.plot([len(circuit)], [own.value], "o", color=AGAINST, label="the circuit")
    if sizes[-1] > 1:
        axes.set_xscale("log")
    shown = sizes if len(sizes) <= 8 else sizes[[*range(0, len(sizes), 2)]]
    axes.set_xticks(shown, [f"{size:,}" for size in shown])
    axes.minorticks_off()
    axes.set_ylim(bottom=min(0.0, float(np.nanmin([*low, own.low]))))
    axes.set_xlabel(f"{'parts' if circuit.by == 'part' else 'nodes'} kept")
    axes.set_ylabel(f"share of the {circuit.measure} kept")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_title(f"Circuit of {circuit.title}", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
