"""How far parts are from where people marked them: marks as supervision in training."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from explgraph.errors import ExplgraphError

__all__ = ["checked_marks", "place_loss"]

_NEAR = 0.02
"""Share of the diagonal below which an error counts by its square: what marks themselves are
accurate to; beyond it by its size, so that one wrong mark doesn't rule all."""


def checked_marks(marks: ArrayLike | Tensor, n: int, called: str) -> NDArray[np.float32]:
    """Give marks (n, 2) of one thing in n images, px; refuse what is none."""
    given = marks.detach().cpu() if isinstance(marks, Tensor) else marks
    try:
        found = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError) as err:
        raise ExplgraphError(
            f"{called} must be ({n}, 2) px, NaN where there is none, got {given!r:.80}"
        ) from err
    if found.shape != (n, 2):
        raise ExplgraphError(f"{called} must be ({n}, 2) px, got {found.shape}")
    return found


def place_loss(places: Tensor, marks: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Give the mean Huber loss of places, in shares of the image's diagonal.

    Parameters
    ----------
    places : (n, P, 2 or more)
        x, y (px) of parts, and more that isn't looked at.
    marks : (n, P, 2)
        px; NaN = unmarked, which counts nothing.
    image_size : (int, int)
        H, W px.

    Returns
    -------
    scalar
        Of an error of e diagonals ``e^2 / 0.04`` up to 0.02, then ``e - 0.01``; 0 without marks.

    Raises
    ------
    ExplgraphError
        If a shape is wrong.
    """
    if places.ndim != 3 or places.shape[2] < 2 or marks.shape != (*places.shape[:2], 2):
        raise ExplgraphError(
            f"places must be (n, P, 2 or more) and marks (n, P, 2), got {tuple(places.shape)} and "
            f"{tuple(marks.shape)}"
        )
    marks = marks.to(places)
    marked = marks.isfinite().all(-1)
    away = (places[..., :2][marked] - marks[marked]) / math.hypot(*image_size)
    square = away.square().sum(-1)
    # the root's slope is infinite at 0, where it isn't wanted
    size = square.clamp(min=_NEAR**2).sqrt()
    error = torch.where(square < _NEAR**2, square / (2 * _NEAR), size - _NEAR / 2)
    return error.sum() / max(len(error), 1)
