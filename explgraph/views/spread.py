"""Marks on an image, moved as little as it takes for none to hide another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["spread"]


def spread(
    at: NDArray[np.float64], apart: float, size: tuple[int, int], *, still: int = 0
) -> NDArray[np.float64]:
    """Move points (n, 2) as little as it takes for each to be `apart` from all others, px.

    What is outside the image is brought to its border. The first `still` points stay.
    """
    low, high = apart / 2, np.array(size) - apart / 2
    moved = np.clip(at, low, high)
    # the same place: each goes another way
    angle = 2.4 * np.arange(len(at))
    moved = moved + 0.02 * apart * np.stack([np.cos(angle), np.sin(angle)], 1)
    moved[:still] = at[:still]
    for _ in range(200):
        gap = moved[:, None] - moved[None]
        distance = np.linalg.norm(gap, axis=2)
        np.fill_diagonal(distance, np.inf)
        near = np.maximum(0.0, apart - distance)
        if not near.any():
            break
        push = (gap / np.maximum(distance, 1e-9)[..., None] * near[..., None]).sum(1) / 2
        push[:still] = 0
        moved = np.clip(moved + push, low, high)
    return moved
