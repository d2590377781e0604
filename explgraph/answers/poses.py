"""How far the poses of images lie apart, and which images stand for all of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["next_medoid", "pose_distance"]

Array = NDArray[np.float64]


def pose_distance(positions: NDArray[Any]) -> Array:
    """Say how far nodes of two images lie apart on average, seen from their centre.

    Parameters
    ----------
    positions : (N, M, 2) px
        Of nodes that tell a pose: the reliable ones (`Nodes.posed`), or a part's voters.

    Returns
    -------
    (N, N) px
    """
    pose = positions.astype(np.float32)
    pose -= np.median(pose, axis=1, keepdims=True)
    x, y = np.ascontiguousarray(np.moveaxis(pose, 2, 0))
    distance = np.empty((len(pose), len(pose)))
    for i in range(len(pose)):
        # distances, not squares: a few nodes gone astray don't make a pose
        distance[i] = np.sqrt((x - x[i]) ** 2 + (y - y[i]) ** 2).mean(axis=1)
    return distance


def next_medoid(distance: Array, done: Collection[int]) -> int:
    """Give the image that brings all images nearest to one that was taken (greedy k-medoids).

    Parameters
    ----------
    distance : (N, N)
        Of `pose_distance`.
    done : collection of int
        Those that were taken; fewer than N.
    """
    taken = list(done)
    nearest_one = distance[taken].min(axis=0) if taken else distance.max(axis=0)
    cost = np.minimum(distance, nearest_one).sum(axis=1)
    cost[taken] = np.inf
    return int(cost.argmin())
