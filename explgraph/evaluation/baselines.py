"""Baselines that belong beside every result."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from explgraph.network.geometry import Layer

__all__ = ["constant_grid", "raw_peaks"]

Array = NDArray[np.float64]


def constant_grid(
    n_images: int, image_size: tuple[int, int], *, rows: int = 14, columns: int = 14, seed: int = 0
) -> tuple[Array, Array]:
    """Points that never move, with scores that mean nothing: what every method has to beat.

    Parameters
    ----------
    n_images : int
        N.
    image_size : (int, int)
        ``(H, W)`` px.
    rows, columns : int
        The points are the centres of this many equal cells.
    seed : int
        Of the scores. They are random (uniform), because equal scores would favour whichever
        images come first.

    Returns
    -------
    positions, scores : (N, rows * columns, 2) px and (N, rows * columns)
        Points row by row.
    """
    height, width = image_size
    x = (np.arange(columns) + 0.5) * width / columns
    y = (np.arange(rows) + 0.5) * height / rows
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    scores = np.random.default_rng(seed).random((n_images, len(points)))
    return np.tile(points, (n_images, 1, 1)), scores


def raw_peaks(maps: NDArray[Any], layer: Layer) -> tuple[Array, Array]:
    """Each filter's strongest unit: the plainest part detector that a network has.

    Parameters
    ----------
    maps : (N, C, H, W) float
        Rectified activations of one layer.
    layer : Layer
        Where its units look.

    Returns
    -------
    positions, scores : (N, C, 2) px and (N, C)
        Centre of the strongest unit (the first of equals; unit 0 where nothing fires), and its
        activation over the filter's standard deviation across all units and images, which makes
        filters comparable; 0 for a filter that is constant.
    """
    n, c, _, width = maps.shape
    flat = maps.reshape(n, c, -1)
    unit = flat.argmax(axis=-1)
    peak = np.take_along_axis(flat, unit[..., None], axis=-1)[..., 0].astype(np.float64)
    deviation = np.array([flat[:, i].astype(np.float64).std() for i in range(c)])
    scores = np.divide(peak, deviation, out=np.zeros_like(peak), where=deviation > 0)
    return np.stack([layer.centres_x[unit % width], layer.centres_y[unit // width]], -1), scores
