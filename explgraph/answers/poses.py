"""How far the poses of images lie apart, and which images stand for all of them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from explgraph.answers import voting

__all__ = ["next_medoid", "pose_distance"]

Array = NDArray[np.float64]


def pose_distance(positions: NDArray[np.float32], reliability: Array) -> Array:
    """Say how far the reliable nodes of two images lie apart on average, seen from their centre.

    Parameters
    ----------
    positions : (N, V, 2) px
    reliability : (V,)

    Returns
    -------
    (N, N) px
    """
    chosen = np.argsort(-reliability, kind="stable")[: voting.POSE]
    places = positions[:, chosen].astype(np.float64)
    pose = places - np.median(places, axis=1, keepdims=True)
    # distances, not squares: a few nodes gone astray don't make a pose
    return np.stack([np.linalg.norm(pose - one, axis=2).mean(axis=1) for one in pose])


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
