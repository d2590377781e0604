"""Whether images are normalised as they should be: measured on their values.

What is expected is told by a mean and spread of colours 0 to 1 (a model's, or those of the images
that a graph was mined from): then black is ``-mean / std`` and white ``(1 - mean) / std``.

* Values far beyond black or white (by half the distance between them, in a pixel of a hundred),
  or that reach from 0 to 1 where black should be negative, are not normalised so.
* Where nothing is told, only what no network's usual images look like is doubted: a root mean
  square above 10 with hardly a value below 0, as of colours from 0 to 255. Not doubted are colours
  normalised by ImageNet's mean and spread (-2.2 to 2.7), -1 to 1, 0 to 1, grey or in colours, each
  image standardised by itself, and colours from 0 to 255 less their mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

__all__ = ["colours_apart", "values_doubt", "white_of"]

_FAR = 0.5  # of the distance from black to white; resizing overshoots by a tenth
_SHARE = 0.01  # of pixels that must lie so far out: a few are specks
_RAW = 10.0  # root mean square; below it colours up to 255 are of an image that is nearly black
_RAW_KINDS = {255: "colours from 0 to 255", 65535: "samples of 16 bits"}
_OVER = 1.5  # times white: resizing and sums overshoot
_NEGATIVE = 0.05  # share of values that colours brought to 0 to 255 again may have below 0
_APART = 0.5  # units of the spread; the means and spreads in use for photographs differ by less


def values_doubt(batch: Tensor, ready: Mapping[str, Any]) -> str | None:
    """Say what is wrong with a batch's values, or None.

    Parameters
    ----------
    batch : (n, C, H, W) float
    ready : mapping
        ``mean`` and ``std`` that are expected; empty if nothing is known.
    """
    values = batch.detach().float()
    low, high = float(values.min()), float(values.max())
    spread = f"values from {low:.3g} to {high:.3g}"
    usual = _RAW
    if {"mean", "std"} <= ready.keys():
        black, white = _ends(ready, len(ready["mean"]))
        least, most = min(black), max(white)
        if not _of_colours(ready):
            usual = max(usual, *map(abs, black + white))
        else:
            beyond = _FAR * (most - least)
            out = (values < least - beyond) | (values > most + beyond)
            shown = f"{spread}, expected about {least:.1f} to {most:.1f}"
            if float(out.float().mean()) > _SHARE:
                return shown
            if 0 <= low < 0.1 and 0.8 < high <= 1 and least < -0.3:
                return f"{shown}: they seem to be colours from 0 to 1"
            return None
    square = float(values.square().mean()) ** 0.5
    if square > usual and float((values < 0).float().mean()) < _NEGATIVE:
        raw = white_of(high)
        if high <= _OVER * raw:
            return f"{spread}, as {_RAW_KINDS[raw]} have"
    return None


def white_of(high: float) -> int:
    """Give what white is in images whose largest value this is, if they are not normalised."""
    return next((white for white in _RAW_KINDS if high <= _OVER * white), max(_RAW_KINDS))


def colours_apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether black or white comes out differently by two means and spreads, noticeably."""
    if not all({"mean", "std"} <= ready.keys() for ready in (one, other)):
        return False
    if len(one["mean"]) != len(other["mean"]):
        return True
    pairs = zip(_ends(one, len(one["mean"])), _ends(other, len(one["mean"])), strict=True)
    return any(abs(a - b) > _APART for ends in pairs for a, b in zip(*ends, strict=True))


def _ends(ready: Mapping[str, Any], channels: int) -> tuple[list[float], list[float]]:
    """Give what black and white become, by channel."""
    mean: Sequence[float] = ready["mean"]
    std: Sequence[float] = ready["std"]
    black = [-mean[c] / std[c] for c in range(channels)]
    white = [(1 - mean[c]) / std[c] for c in range(channels)]
    return black, white


def _of_colours(ready: Mapping[str, Any]) -> bool:
    """Whether black and white are 0 and 1: not in floats of other channels, taken as they are."""
    window = ready.get("window")  # a model need not say it
    if ready.get("channels") is None:
        return True
    return window is not None and all(tuple(pair) == (0, 1) for pair in window)
