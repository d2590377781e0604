"""Where nodes are in all images, and how strongly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from explgraph.activations.streaming import Images, Table

__all__ = ["MOST_WEIGHT", "Tracks", "track", "weigh"]

_TINY = 1e-9
MOST_WEIGHT = 2.0  # a single strong image must not decide for all


class Tracks(NamedTuple):
    """Where nodes are in all images.

    Attributes
    ----------
    table : Table
        ``(N, V, 5)`` float32: x, y in px; score; where the pose expects them, x, y in px.
    mean : (V, 2)
        Weighted mean position, px.
    scale : (V,)
        Mean score.
    """

    table: Table
    mean: Tensor
    scale: Tensor

    def read(self, here: slice, nodes: slice | Tensor = slice(None)) -> tuple[Tensor, Tensor]:
        """Give positions ``(n, V, 2)`` and scores ``(n, V)`` in some images."""
        rows = self.table.read(here, nodes)
        return rows[..., :2], rows[..., 2]

    def only(self, images: Images, nodes: Tensor) -> Tracks:
        """Keep some nodes."""
        table = images.table(self.table.read(here, nodes) for here in images)
        return Tracks(table, self.mean[nodes], self.scale[nodes])


def track(images: Images, found: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Tracks:
    """Keep where nodes are, and measure their means.

    Parameters
    ----------
    images : Images
    found : iterable of (n, V, 2), (n, V) and (n, V, 2)
        Positions, scores and expected places of one block of images after the other.

    Returns
    -------
    Tracks
    """
    table = images.table(torch.cat([at, score[..., None], to], -1) for at, score, to in found)
    (score,) = images.sum((table.read(here)[..., 2].sum(0),) for here in images)
    scale = (score / images.n).float()

    def pull(rows: Tensor) -> tuple[Tensor, Tensor]:
        weight = weigh(rows[..., 2], scale)
        return weight.sum(0), (weight[..., None] * rows[..., :2]).sum(0)

    weight, place = images.sum(pull(table.read(here)) for here in images)
    return Tracks(table, (place / weight.clamp(min=_TINY)[:, None]).float(), scale)


def weigh(scores: Tensor, scale: Tensor) -> Tensor:
    """Scores over their scale, clipped."""
    return (scores / scale.clamp(min=_TINY)).clamp(max=MOST_WEIGHT)
