"""Who moves with whom: pure functions over positions and weights of nodes.

For a child ``v`` and a candidate parent ``u`` with weights ``w[n, .]`` and positions ``b[n, .]``
centred at their weighted means,

    d[v, u]   = sum_n w[n, v] w[n, u] |b[n, v] - b[n, u]|^2 / sum_n w[n, v] w[n, u]
    rho[v, u] = d[v, u] / (var_v + var_u)       0: rigid, about 1: independent, up to 2: opposed

The published rule (Zhang et al., AAAI 2018, eqs. 5 and 7) takes the parents of least distance,
which favours nodes that hardly move; dividing by both variances needs no rule against those.
All of it is matrix products over images, taken over blocks of children.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Links", "Motion", "displacements", "link", "motion"]

_TINY = 1e-9
_MOST_WEIGHT = 2.0  # a single strong image must not decide for all


class Motion(NamedTuple):
    """How nodes move over the images.

    Attributes
    ----------
    moved : (N, V, 2)
        Positions minus `mean`, px.
    weight : (N, V)
        Score over `scale`, at most 2.
    mean : (V, 2)
        Weighted mean position, px.
    scale : (V,)
        Mean score.
    """

    moved: Tensor
    weight: Tensor
    mean: Tensor
    scale: Tensor

    @property
    def variance(self) -> Tensor:
        """Weighted variance of each node's position, x and y together, ``(V,)`` px^2."""
        square = self.weight * self.moved.square().sum(-1)
        return square.sum(0) / self.weight.sum(0).clamp(min=_TINY)

    def take(self, nodes: Tensor) -> Motion:
        """Keep some of the nodes."""
        return Motion(
            self.moved[:, nodes], self.weight[:, nodes], self.mean[nodes], self.scale[nodes]
        )

    def of_images(self, images: Tensor) -> Motion:
        """Keep some of the images; means and scales stay those of all."""
        return Motion(self.moved[images], self.weight[images], self.mean, self.scale)


def motion(
    positions: Tensor, scores: Tensor, mean: Tensor | None = None, scale: Tensor | None = None
) -> Motion:
    """Centre positions and scale scores.

    Parameters
    ----------
    positions : (N, V, 2)
        px.
    scores : (N, V)
        >= 0.
    mean, scale : (V, 2) and (V,), optional
        Those of the mined images, when these images are others.

    Returns
    -------
    Motion
    """
    if scale is None:
        scale = scores.mean(0)
    weight = (scores / scale.clamp(min=_TINY)).clamp(max=_MOST_WEIGHT)
    if mean is None:
        total = weight.sum(0).clamp(min=_TINY)
        mean = (weight[..., None] * positions).sum(0) / total[:, None]
    return Motion(positions - mean, weight, mean, scale)


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


def link(
    children: Motion,
    candidates: Motion,
    n_parents: int,
    *,
    floor: float,
    least_variance: float,
    child_group: Tensor | None = None,
    candidate_group: Tensor | None = None,
    block: int = 4096,
) -> Links:
    """Choose for every child the candidates that it moves most rigidly with.

    Parameters
    ----------
    children, candidates : Motion
        Over the same images.
    n_parents : int
        M in the papers, at most; fewer if there are fewer candidates.
    floor : float
        Distances below it count as it, px^2.
    least_variance : float
        A candidate that moves less says nothing and is left out, px^2.
    child_group, candidate_group : (V,) and (U,) int, optional
        A child and a candidate of equal group are not linked: a node is no parent of itself,
        nor of its filter's other patterns.
    block : int
        Children at a time.

    Returns
    -------
    Links
        With ``min(n_parents, U)`` columns.

    References
    ----------
    Zhang et al., AAAI 2018, eqs. 5 and 7. Departure: relative distance, see the module.
    """
    n_candidates = candidates.scale.shape[0]
    m = min(n_parents, n_candidates)
    variance = candidates.variance
    useless = variance < least_variance
    square_u = candidates.weight * candidates.moved.square().sum(-1)
    x_u, y_u = (candidates.weight * candidates.moved[..., i] for i in (0, 1))
    child_variance = children.variance
    parts: list[Links] = []
    for start in range(0, children.scale.shape[0], block):
        here = slice(start, start + block)
        w = children.weight[:, here]
        moved = children.moved[:, here]
        square_v = w * moved.square().sum(-1)
        both = w.T @ candidates.weight
        apart = square_v.T @ candidates.weight + w.T @ square_u
        apart -= 2 * ((w * moved[..., 0]).T @ x_u + (w * moved[..., 1]).T @ y_u)
        distance = (apart / both.clamp(min=_TINY)).clamp(min=floor)
        rho = distance / (child_variance[here, None] + variance).clamp(min=_TINY)
        # never seen together, or a candidate that stands still
        rho[(both <= _TINY) | useless] = torch.inf
        if child_group is not None and candidate_group is not None:
            rho[child_group[here, None] == candidate_group] = torch.inf
        best, parent = rho.topk(m, 1, largest=False)
        chosen = distance.gather(1, parent).masked_fill(best.isinf(), torch.inf)
        parts.append(Links(parent, chosen, best))
    if not parts:
        empty = child_variance.new_zeros((0, m))
        return Links(empty.long(), empty, empty)
    return Links(*(torch.cat(part) for part in zip(*parts, strict=True)))


def displacements(links: Links, parents: Motion, block: int = 64) -> Tensor:
    """How far the parents say that each child has moved in each image.

    ``delta[n, v] = sum_u c b[n, u] / sum_u c`` with ``c = w[n, u] / d[v, u]``; 0 where no parent
    has any weight.

    Parameters
    ----------
    links : Links
    parents : Motion
        Of the candidates that the links were chosen from.
    block : int
        Images at a time.

    Returns
    -------
    (N, V, 2)
        px.

    References
    ----------
    Zhang et al., AAAI 2018, eq. 5.
    """
    n, v = parents.weight.shape[0], links.parent.shape[0]
    delta = parents.moved.new_zeros((n, v, 2))
    if links.parent.shape[1] == 0:
        return delta
    trust = 1 / links.distance
    for start in range(0, n, block):
        here = slice(start, start + block)
        c = parents.weight[here][:, links.parent] * trust
        total = c.sum(-1)
        for i in (0, 1):
            pull = (c * parents.moved[here, :, i][:, links.parent]).sum(-1)
            delta[here, :, i] = torch.where(total > _TINY, pull / total.clamp(min=_TINY), 0.0)
    return delta
