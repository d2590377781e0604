"""How a part looks: the few ways in which its nodes' scores vary together.

A part is seen by nodes of many filters. That a horn is there makes all of them answer; that an eye
is yellow makes some answer more and others less. Of the scores of a part's nodes in many images,
labelled or not, the first principal components are its *looks*: directions, of which the first
mostly says whether the part is there, and the others how it is. They keep their size, so that what
many nodes see has a larger say than what few see, where few labels must do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST", "Looks", "find_looks", "numbered"]

Array = NDArray[np.float64]

MOST = 3
"""Of a part. With 2, 3 and 5 families of creatures are wrong in 0.16, 0.15 and 0.16 (12 draws of 15
images), by a network for attributes alone in 0.41, 0.41 and 0.42. With one it was 0.13 and 0.57: it
doesn't tell all that parts show (benchmarks/experiments.md)."""

_SAME = 0.8  # correlation with the part's presence from which on a look says that it is there


class Looks(NamedTuple):
    """Ways in which parts vary.

    Attributes
    ----------
    directions : (M, F)
        Of M nodes' scores; a column is 0 but for nodes of its part, of length 1, or 0 altogether
        where nothing varied further.
    presence : (F,) bool
        Whether it goes with the part's presence, so that more of it means that the part is there.
    """

    directions: Array
    presence: NDArray[np.bool_]


def numbered(member: Sequence[int], parts: int) -> list[tuple[int, int]]:
    """Name the looks of P parts that M nodes belong to: (part, number of the look) each."""
    sizes = np.bincount(np.asarray(member, dtype=np.int64), minlength=parts)
    return [(p, k) for p in range(parts) for k in range(min(MOST, int(sizes[p])))]


def find_looks(scores: Array, member: Sequence[int], present: Array) -> Looks:
    """Find the looks of parts.

    Parameters
    ----------
    scores : (N, M)
        Of the nodes in some images.
    member : sequence of int
        The M nodes' parts, 0 to P - 1.
    present : (N, P)
        Presence of the parts in these images.

    Returns
    -------
    Looks
        In the order of `numbered`. A direction's sign is that in which the part's presence grows.
    """
    of, parts = np.asarray(member), present.shape[1]
    columns = numbered(member, parts)
    directions = np.zeros((scores.shape[1], len(columns)))
    presence = np.zeros(len(columns), dtype=np.bool_)
    moved = scores - scores.mean(0)
    known: dict[int, Array] = {}
    for f, (part, number) in enumerate(columns):
        mine = np.flatnonzero(of == part)
        if part not in known:
            known[part] = _components(moved[:, mine])
        found = known[part]
        if number < len(found):
            together = _correlation(moved[:, mine] @ found[number], present[:, part])
            directions[mine, f] = found[number] * (1 if together >= 0 else -1)
            presence[f] = abs(together) >= _SAME
    return Looks(directions, presence)


def _components(moved: Array) -> Array:
    """Give the principal components of centred rows that vary at all."""
    _, size, vectors = np.linalg.svd(moved, full_matrices=False)
    there: Array = vectors[: int((size > 1e-9 * max(size[0], 1e-9)).sum())]
    return there


def _correlation(first: Array, second: Array) -> float:
    """Correlate two rows; 0 where one doesn't vary."""
    first, second = first - first.mean(), second - second.mean()
    size = float(np.sqrt(first @ first * (second @ second)))
    return float(first @ second) / size if size > 1e-12 else 0.0
