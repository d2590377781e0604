"""Who goes with whom: edges from a layer's nodes to nodes of the layer above.

An edge says *fires with* and *sits at*. Every node follows the pose, so moving alike says nothing;
what counts is what two nodes' own maps say beyond the pose, in the same images:

1. *What a node says by itself* (`Signs` in `habits`): its weight (the score in units of its usual
   score), and its residual, how far its own map puts it from where the pose expected it.
2. *What was to be expected* is taken out of both by regression (`Habit`): on a square of the node's
   own expected place, and on what all nodes share: the pose, its square, and how strongly the
   image fires as a whole (`shared_columns`). A residual counts as much as its node's weight.
3. *Strength.* What is left is scaled to unit length over the images, so that inner products are
   correlations: ``s`` of the weights, ``r`` of the residuals (mean over two axes, whitened).

       strength = (s + sqrt(2) r) / (1 + sqrt(2))        in [-1, 1]

   the sum of the two evidences in units of what each has by chance (there are two axes).
4. *Chance.* The same is done with the candidates' images exchanged, before the regression, each
   candidate's in a way of its own. An edge must be so strong that exchanged images give at most
   5 % as many: the false discovery rate. One exchange for many nodes, up to 20 for few.
5. *Geometry* of what is left: nodes that move less alike than independent ones would are no pair,
   and among parents of about the same strength those near the child come first (`choose`).

Places of a child ``v`` and a parent ``u``, ``b`` from their weighted means and with weights ``w``:

    d = sum_n w[n, v] w[n, u] |b[n, v] - b[n, u]|^2 / sum_n w[n, v] w[n, u]
    rho = d / (var_v + var_u)                      0: rigid, about 1: independent, up to 2: opposed

is the *consistency* ``1 - rho`` of an edge. The published rule (Zhang et al., AAAI 2018, eqs. 5
and 7) chooses parents by ``d`` alone, as earlier versions did by ``rho``: since all nodes follow
the pose, nearly all pairs are consistent then.

All of it is matrix products over images: sums that are added up block by block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from explgraph.activations.streaming import Images, Table
from explgraph.mining.habits import (
    NODES,
    Look,
    exchanged,
    fit_habit,
    runs,
    shared_columns,
    signs,
    tabulate,
)
from explgraph.mining.tracks import Tracks, weigh
from explgraph.statistics.pose import squared_length

__all__ = ["Edges", "link"]

_TINY = 1e-9
_FALSE = 0.05  # share of edges that may be there by chance
_EXCHANGES = 20  # the fewest that can tell of a single edge that it isn't by chance
_PAIRS = 1 << 22  # of nodes, from which on one exchange is enough
_SPARE = 3  # times as many candidates as edges are measured, for the near ones to be found
_NEAR = 0.2  # of the side: a parent so far from its child counts 0.6 as much
_TELLING = 0.5  # of the best parent's strength; what is weaker is no edge
_LEAST = 0.01  # strength that is more than rounding
_CELLS = 1 << 26  # pairs of nodes that are worked on at a time, about 15 bytes each
_MEASURED = 1 << 16  # and edges


class Edges(NamedTuple):
    """Edges, by child, the strongest of each child first.

    Attributes
    ----------
    child, parent : (E,) int64
        Indices among the children and among the candidates.
    dx, dy : (E,)
        Mean of the child's place less the parent's where both fire, px.
    sigma : (E,)
        By how much that varies, along one axis, px: ``sqrt(d / 2)``.
    consistency : (E,)
        ``1 - rho``, in [0, 1]: 1 is rigid.
    coactivation : (E,)
        Strength, in (0, 1]: by how much the two nodes' scores and residual places go together
        beyond the pose and beyond chance; a mean of correlations, see the module. Of pairs whose
        images were exchanged at most a twentieth as many are as strong as the weakest edge.
    """

    child: Tensor
    parent: Tensor
    dx: Tensor
    dy: Tensor
    sigma: Tensor
    consistency: Tensor
    coactivation: Tensor


# ------------------------------------------------------------------------------- who goes with whom


class Candidates(NamedTuple):
    """Each child's strongest candidates, and the strongest by chance.

    Attributes
    ----------
    strength : (V, K)
        Descending.
    parent : (V, K) int64
    chance : (V, R K)
        Strengths with images exchanged R times.
    """

    strength: Tensor
    parent: Tensor
    chance: Tensor


def find_candidates(
    images: Images,
    look: Look,
    some: slice,
    parents: list[Table],
    shared: Table,
    side: float,
    most: int,
) -> Candidates:
    """Find the candidates that go with some children.

    Parameters
    ----------
    images : Images
    look : callable
        What children say.
    some : slice
        Which of them.
    parents : list of Table
        Surprises of the candidates, then of the same with images exchanged.
    shared : Table
    side : float
        Of the image, px.
    most : int
        K, at most.

    Returns
    -------
    Candidates
    """
    habit = fit_habit(images, look, some, shared, side)

    def products(here: slice) -> Iterator[Tensor]:
        left = habit.surprises(look(here, some), shared.read(here)).flatten(0, 1)
        for table in parents:
            yield left.T @ table.read(here).flatten(0, 1)

    real, *exchanged = images.sum(list(products(here)) for here in images.groups())
    k = min(most, real.shape[1])
    strength, parent = real.topk(k, 1)
    chance = [values.topk(k, 1)[0] for values in exchanged]
    return Candidates(strength, parent, torch.cat(chance, 1))


def least_strength(real: Tensor, chance: Tensor, exchanges: int) -> float:
    """Find the strength from which on at most 5 % are there by chance.

    Parameters
    ----------
    real, chance : (...)
        Strengths, as they are and with images exchanged.
    exchanges : int
        How often they were exchanged.

    Returns
    -------
    float
        ``inf`` if there is none.

    References
    ----------
    Barber & Candes, Annals of Statistics 2015: the one that is added keeps the rate for few, too.
    """
    found = real[real >= _LEAST].flatten().sort(descending=True)[0]
    by_chance = chance.flatten().sort()[0]
    above = len(by_chance) - torch.searchsorted(by_chance, found)
    many = torch.arange(1, len(found) + 1, device=found.device)
    good = ((1 + above) <= _FALSE * exchanges * many).nonzero()
    return found[good[-1, 0]].item() if len(good) else math.inf


def link(
    images: Images,
    children: Tracks,
    parents: Tracks,
    n_parents: int,
    *,
    area: float,
    seed: int,
) -> Edges:
    """Link children to those nodes above that go with them beyond the pose: see the module.

    Parameters
    ----------
    images : Images
    children, parents : Tracks
        Nodes of a layer, and of the layer above.
    n_parents : int
        Edges to each child, at most.
    area : float
        Of the image, px^2.
    seed : int
        Of what images are exchanged for.

    Returns
    -------
    Edges
        None for children that no candidate goes with.
    """
    v, u = len(children.scale), len(parents.scale)
    if not (v and u):
        return _no_edges(images.device)
    side = math.sqrt(area)
    below, above = (partial(signs, tracks, area) for tracks in (children, parents))
    shared = shared_columns(images, (below, above), (v, u), seed)
    exchanges = min(max(_PAIRS // max(v, u) ** 2, 1), _EXCHANGES)
    looks = [above, *(partial(exchanged, above, (seed, r)) for r in range(exchanges))]
    tables = [tabulate(images, look, u, shared, side) for look in looks]
    step = max(1, _CELLS // (u * len(tables)))

    def find(some: slice) -> Candidates:
        return find_candidates(images, below, some, tables, shared, side, _SPARE * n_parents)

    # what is found is kept, not the sums, of which there are V x U
    parts = [images.once(partial(find, some)) for some in runs(v, min(step, NODES))]
    found = Candidates(*(torch.cat(part) for part in zip(*parts, strict=True)))
    least = least_strength(found.strength, found.chance, exchanges)
    child, rank = (found.strength >= least).nonzero(as_tuple=True)
    if not len(child):
        return _no_edges(images.device)
    edges, distance = measure(
        images, children, parents, child, found.parent[child, rank], found.strength[child, rank]
    )
    return choose(edges, distance, n_parents, _NEAR * side)


def _no_edges(device: torch.device) -> Edges:
    """Nobody goes with anybody."""
    index = torch.zeros(0, dtype=torch.int64, device=device)
    value = torch.zeros(0, device=device)
    return Edges(index, index, value, value, value, value, value)


# ----------------------------------------------------------------------------------------- geometry


def measure(
    images: Images,
    children: Tracks,
    parents: Tracks,
    child: Tensor,
    parent: Tensor,
    strength: Tensor,
) -> tuple[Edges, Tensor]:
    """Measure how pairs of nodes lie.

    Parameters
    ----------
    images : Images
    children, parents : Tracks
    child, parent : (E,) int64
        The pairs.
    strength : (E,)

    Returns
    -------
    Edges
        ``consistency`` may be below 0 here.
    distance : (E,)
        Root mean square of the distance where both fire, px.
    """
    variance, variance_up = (_variances(images, nodes) for nodes in (children, parents))
    parts = [
        images.once(partial(_pair_moments, images, children, parents, child[some], parent[some]))
        for some in runs(len(child), _MEASURED)
    ]
    both, pull, apart = (torch.cat(part) for part in zip(*parts, strict=True))
    both = both.clamp(min=_TINY)
    apart, pull = apart / both, pull / both[:, None]
    usual = (children.mean[child] - parents.mean[parent]).double()
    rho = apart / (variance[child] + variance_up[parent]).clamp(min=_TINY)
    square = squared_length(usual) + 2 * (usual * pull).sum(-1) + apart
    offset = usual + pull
    values = (offset[:, 0], offset[:, 1], (apart / 2).sqrt(), 1 - rho, strength.clamp(max=1))
    edges = Edges(child, parent, *(value.float() for value in values))
    return edges, square.clamp(min=0).sqrt().float()


def _moved(nodes: Tracks, here: slice, which: slice | Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``(n, V)``, and places from the means ``(n, V, 2)``, px."""
    positions, scores = nodes.read(here, which)
    return weigh(scores, nodes.scale[which]), positions - nodes.mean[which]


def _variances(images: Images, nodes: Tracks) -> Tensor:
    """Weighted variances of all nodes' places, ``(V,)`` px^2."""

    def sums(here: slice) -> tuple[Tensor, Tensor]:
        weight, moved = _moved(nodes, here, slice(None))
        return weight.sum(0), (weight * squared_length(moved)).sum(0)

    weight, square = images.sum(sums(here) for here in images)
    return square / weight.clamp(min=_TINY)


def _pair_moments(
    images: Images, children: Tracks, parents: Tracks, child: Tensor, parent: Tensor
) -> tuple[Tensor, ...]:
    """Sum up ``w w``, ``w w (b - b)`` and ``w w |b - b|^2`` of pairs of nodes."""

    def sums(here: slice) -> tuple[Tensor, Tensor, Tensor]:
        (weight, moved), (weight_up, moved_up) = (
            _moved(nodes, here, which) for nodes, which in ((children, child), (parents, parent))
        )
        both, apart = weight * weight_up, moved - moved_up
        return both.sum(0), (both[..., None] * apart).sum(0), (both * squared_length(apart)).sum(0)

    return images.sum(sums(here) for here in images)


def choose(edges: Edges, distance: Tensor, n_parents: int, near: float) -> Edges:
    """Choose each child's parents among pairs that go together.

    Parameters
    ----------
    edges : Edges
    distance : (E,)
        How far the two usually are from each other, px.
    n_parents : int
        Of each child, at most.
    near : float
        A parent so far from its child counts ``exp(-1/2)`` as much, px.

    Returns
    -------
    Edges
        Those that are more consistent than independent nodes would be, and at least half as good
        as the child's best.
    """
    kept = edges.consistency > 0
    edges, distance = Edges(*(values[kept] for values in edges)), distance[kept]
    if not len(edges.child):
        return edges
    worth = edges.coactivation * (-0.5 * (distance / near).square()).exp()
    order = worth.argsort(descending=True, stable=True)
    order = order[edges.child[order].argsort(stable=True)]
    counts = edges.child.bincount()
    first = (counts.cumsum(0) - counts)[edges.child[order]]
    rank = torch.arange(len(order), device=order.device) - first
    good = (rank < n_parents) & (worth[order] >= _TELLING * worth[order][first])
    order = order[good]
    order = order[edges.coactivation[order].argsort(descending=True, stable=True)]
    order = order[edges.child[order].argsort(stable=True)]
    return Edges(*(values[order] for values in edges))
