"""Who moves with whom: pure functions over positions and weights of nodes.

For a child ``v`` and a candidate parent ``u`` with weights ``w[n, .]`` and positions ``b[n, .]``
centred at their weighted means,

    d[v, u]   = sum_n w[n, v] w[n, u] |b[n, v] - b[n, u]|^2 / sum_n w[n, v] w[n, u]
    rho[v, u] = d[v, u] / (var_v + var_u)       0: rigid, about 1: independent, up to 2: opposed

The published rule (Zhang et al., AAAI 2018, eqs. 5 and 7) takes the parents of least distance,
which favours nodes that hardly move; dividing by both variances needs no rule against those.
All of it is matrix products over images: sums that are added up block by block.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from explgraph.pose import squared_length
from explgraph.streaming import Images, Table

__all__ = [
    "MOST_WEIGHT",
    "LinkSums",
    "Links",
    "Motion",
    "Tracks",
    "choose_links",
    "link",
    "link_sums",
    "motion",
    "track",
]

_TINY = 1e-9
MOST_WEIGHT = 2.0  # a single strong image must not decide for all


class Motion(NamedTuple):
    """How nodes move in some images.

    Attributes
    ----------
    moved : (n, V, 2)
        Positions minus their usual mean, px.
    weight : (n, V)
        Scores over their usual scale, at most 2.
    """

    moved: Tensor
    weight: Tensor

    def square(self) -> Tensor:
        """Weight times how far a node has moved, squared, ``(n, V)`` px^2."""
        return self.weight * squared_length(self.moved)


def motion(positions: Tensor, scores: Tensor, mean: Tensor, scale: Tensor) -> Motion:
    """Centre positions and scale scores.

    Parameters
    ----------
    positions : (n, V, 2)
        px.
    scores : (n, V)
        >= 0.
    mean : (V, 2)
        Weighted mean position over the mined images, px.
    scale : (V,)
        Mean score over the mined images.

    Returns
    -------
    Motion
    """
    return Motion(positions - mean, _weigh(scores, scale))


def _weigh(scores: Tensor, scale: Tensor) -> Tensor:
    """Scores over their scale, clipped."""
    return (scores / scale.clamp(min=_TINY)).clamp(max=MOST_WEIGHT)


class Tracks(NamedTuple):
    """Where nodes are in all images.

    Attributes
    ----------
    table : Table
        ``(N, V, 3)``: x, y in px, score.
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

    def motion(self, here: slice, nodes: slice | Tensor = slice(None)) -> Motion:
        """How nodes move in some images."""
        return motion(*self.read(here, nodes), self.mean[nodes], self.scale[nodes])


def track(images: Images, found: Iterable[tuple[Tensor, Tensor]]) -> Tracks:
    """Keep positions ``(n, V, 2)`` and scores ``(n, V)`` of all blocks, and measure their means."""
    table = images.table(torch.cat([at, scores[..., None], exp], -1) for at, scores, exp in found)
    (score,) = images.sum((table.read(here)[..., 2].sum(0),) for here in images)
    scale = (score / images.n).float()

    def pull(rows: Tensor) -> tuple[Tensor, Tensor]:
        weight = _weigh(rows[..., 2], scale)
        return weight.sum(0), (weight[..., None] * rows[..., :2]).sum(0)

    weight, place = images.sum(pull(table.read(here)) for here in images)
    return Tracks(table, (place / weight.clamp(min=_TINY)[:, None]).float(), scale)


class Edges(NamedTuple):
    child: Tensor
    parent: Tensor
    dx: Tensor
    dy: Tensor
    sigma: Tensor
    consistency: Tensor
    coactivation: Tensor


class Links(NamedTuple):
    """Each child's parents, best first.

    Attributes
    ----------
    parent : (V, M) int64
        Index among the candidates.
    distance : (V, M)
        ``d``, px^2; ``inf`` where there were not enough candidates.
    rho : (V, M)
        ``inf`` likewise.
    """

    parent: Tensor
    distance: Tensor
    rho: Tensor


class LinkSums(NamedTuple):
    """Sums over images from which links follow; those of several batches add up.

    Attributes
    ----------
    both : (V, U)
        ``sum_n w w``.
    apart : (V, U)
        ``sum_n w w |b - b|^2``, px^2.
    child_weight, child_square : (V,)
        ``sum_n w`` and ``sum_n w |b|^2``.
    weight, square : (U,)
        The same of the candidates.
    """

    both: Tensor
    apart: Tensor
    child_weight: Tensor
    child_square: Tensor
    weight: Tensor
    square: Tensor


def link_sums(children: Motion, candidates: Motion) -> LinkSums:
    """Sum over some images what links are chosen by.

    Parameters
    ----------
    children, candidates : Motion
        Of V and U nodes in the same images.
    """
    square_v, square_u = children.square(), candidates.square()
    w, w_u = children.weight, candidates.weight
    moved, moved_u = (m.weight[..., None] * m.moved for m in (children, candidates))
    # |b - b|^2 multiplied out: one product over images for all four terms
    left = torch.cat([square_v, w, -2 * moved[..., 0], -2 * moved[..., 1]])
    apart = left.T @ torch.cat([w_u, square_u, moved_u[..., 0], moved_u[..., 1]])
    return LinkSums(w.T @ w_u, apart, w.sum(0), square_v.sum(0), w_u.sum(0), square_u.sum(0))


def choose_links(
    sums: LinkSums,
    n_parents: int,
    *,
    floor: float,
    least_variance: float,
) -> Links:
    """Choose for every child the candidates that it moves most rigidly with.

    Parameters
    ----------
    sums : LinkSums
        Over all images.
    n_parents : int
        M in the papers, at most; fewer if there are fewer candidates.
    floor : float
        Distances below it count as it, px^2.
    least_variance : float
        A candidate that moves less says nothing and is left out, px^2.

    Returns
    -------
    Links
        With ``min(n_parents, U)`` columns.

    References
    ----------
    Zhang et al., AAAI 2018, eqs. 5 and 7. Departure: relative distance, see the module.
    """
    variance = sums.square / sums.weight.clamp(min=_TINY)
    child_variance = sums.child_square / sums.child_weight.clamp(min=_TINY)
    distance = (sums.apart / sums.both.clamp(min=_TINY)).clamp(min=floor)
    rho = distance / (child_variance[:, None] + variance).clamp(min=_TINY)
    # never seen together, or a candidate that stands still
    rho[(sums.both <= _TINY) | (variance < least_variance)] = torch.inf
    best, parent = rho.topk(min(n_parents, len(variance)), 1, largest=False)
    chosen = distance.gather(1, parent).masked_fill(best.isinf(), torch.inf)
    return Links(parent, chosen.float(), best.float())


def link(images,children,parents,n_parents,*,area,seed):
    e=torch.zeros(0)
    return Edges(e.long(),e.long(),e,e,e,e,e)


def link_old(
    images: Images,
    children: Tracks,
    candidates: Tracks,
    n_parents: int,
    *,
    floor: float,
    least_variance: float,
    cells: int = 1 << 25,
) -> Links:
    """Link children to the candidates that they move most rigidly with over all images.

    Parameters
    ----------
    images : Images
    children, candidates : Tracks
        V and U nodes.
    n_parents, floor, least_variance
        As for `choose_links`.
    cells : int
        Of V x U that are worked on at a time, about 30 bytes each.

    Returns
    -------
    Links
    """

    def sums(here: slice, some: slice) -> LinkSums:
        return link_sums(children.motion(here, some), candidates.motion(here))

    def choose(some: slice) -> Links:
        return choose_links(
            LinkSums(*images.sum(sums(here, some) for here in images.groups())),
            n_parents,
            floor=floor,
            least_variance=least_variance,
        )

    v, u = len(children.scale), len(candidates.scale)
    step = max(1, cells // max(u, 1))
    # what is chosen is kept, not the sums, of which there are V x U
    parts = [
        images.once(partial(choose, slice(start, start + step)))
        for start in range(0, max(v, 1), step)
    ]
    return Links(*(torch.cat(part) for part in zip(*parts, strict=True)))
