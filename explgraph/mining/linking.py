"""Who goes with whom: edges from a layer's nodes to nodes of the layer above.

An edge says *fires with* and *sits at*. Every node follows the pose, so moving alike says nothing;
what counts is what two nodes' own maps say beyond the pose, in the same images:

1. *What a node says by itself* (`Signs`): its weight (the score in units of its usual score), and
   its residual, how far its own map puts it from where the pose expected it.
2. *What was to be expected* is taken out of both by regression (`Habit`): on a square of the
   node's own expected place, and on what all nodes share: the pose, its square, and how strongly
   the image fires as a whole (`shared_columns`). A residual counts as much as its node's weight.
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
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from explgraph.pose import squared_length
from explgraph.streaming import Images, Table

__all__ = ["MOST_WEIGHT", "Edges", "Tracks", "link", "track"]

_TINY = 1e-9
MOST_WEIGHT = 2.0  # a single strong image must not decide for all
_FALSE = 0.05  # share of edges that may be there by chance
_EXCHANGES = 20  # the fewest that can tell of a single edge that it isn't by chance
_PAIRS = 1 << 22  # of nodes, from which on one exchange is enough
_SPARE = 3  # times as many candidates as edges are measured, for the near ones to be found
_NEAR = 0.2  # of the side: a parent so far from its child counts 0.6 as much
_TELLING = 0.5  # of the best parent's strength; what is weaker is no edge
_LEAST = 0.01  # strength that is more than rounding
_SKETCH = 32  # random mixtures of expected places, in which the pose shows
_POSE = 16  # numbers of the pose that are taken out, at most
_IMAGES_PER_NUMBER = 8  # at least
_SPREAD = 0.1  # of the side: about what expected places vary by
_CELLS = 1 << 26  # pairs of nodes that are worked on at a time, about 15 bytes each
_NODES = 1 << 12  # and nodes
_MEASURED = 1 << 16  # and edges
_FIRES = 1 / (1 + math.sqrt(2))  # share of the weights' correlation in the strength
_SITS = 1 - _FIRES  # and of the residuals'


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
        weight = _weigh(rows[..., 2], scale)
        return weight.sum(0), (weight[..., None] * rows[..., :2]).sum(0)

    weight, place = images.sum(pull(table.read(here)) for here in images)
    return Tracks(table, (place / weight.clamp(min=_TINY)[:, None]).float(), scale)


def _weigh(scores: Tensor, scale: Tensor) -> Tensor:
    """Scores over their scale, clipped."""
    return (scores / scale.clamp(min=_TINY)).clamp(max=MOST_WEIGHT)


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


# ------------------------------------------------------------------------ what nodes say themselves


class Signs(NamedTuple):
    """What some nodes' own maps say in some images.

    Attributes
    ----------
    weight : (n, V)
        Scores over their usual scale, at most 2.
    residual : (n, V, 2)
        Positions less expected places, px.
    expected : (n, V, 2)
        Expected places from the nodes' means, in units of about what they vary by.
    """

    weight: Tensor
    residual: Tensor
    expected: Tensor

    def exchanged(self, seed: int) -> Signs:
        """Give every node what its map says of another image; the same for the same seed.

        Every node's images are exchanged along one ring, in steps of its own.
        """
        n, v = self.weight.shape
        draws = torch.Generator().manual_seed(seed)
        ring = torch.randperm(n, generator=draws)
        step = torch.randint(1, max(n, 2), (v,), generator=draws)
        other = ring[(ring.argsort()[:, None] + step) % n].to(self.weight.device)
        residual = self.residual.gather(0, other[..., None].expand(-1, -1, 2))
        return Signs(self.weight.gather(0, other), residual, self.expected)


Look = Callable[[slice, slice], Signs]
"""What nodes say: of some images, some nodes."""


def signs(tracks: Tracks, area: float, here: slice, some: slice) -> Signs:
    """Read what nodes say.

    Parameters
    ----------
    tracks : Tracks
    area : float
        Of the image, px^2.
    here, some : slice
        Images and nodes.

    Returns
    -------
    Signs
    """
    rows = tracks.table.read(here, some)
    position, score, expected = rows[..., :2], rows[..., 2], rows[..., 3:]
    return Signs(
        _weigh(score, tracks.scale[some]),
        position - expected,
        (expected - tracks.mean[some]) / (_SPREAD * math.sqrt(area)),
    )


def _exchanged(look: Look, seed: tuple[int, int], here: slice, some: slice) -> Signs:
    """Read what nodes say of other images of the group: see `Signs.exchanged`."""
    own = np.random.SeedSequence((*seed, here.start, some.start)).generate_state(1)
    return look(here, some).exchanged(int(own[0]))


# --------------------------------------------------------------------------------- what is expected


def shared_columns(images: Images, looks: Iterable[Look], sizes: Iterable[int], seed: int) -> Table:
    """Find what all nodes share: the pose, and how strongly an image fires.

    The expected places of all nodes are linear in a few numbers of pose. Random mixtures of them
    span these numbers (Halko et al., SIAM Review 2011); principal components give them back. Their
    squares belong to it: nodes fire less, and are drawn elsewhere, at extreme poses of either
    sign.

    Parameters
    ----------
    images : Images
    looks : iterable of callable
        What the nodes of each layer say.
    sizes : iterable of int
        How many nodes these are.
    seed : int
        Of the mixtures.

    Returns
    -------
    Table
        ``(N, p)``, orthonormal over all images; they span a constant, too.
    """
    table = images.keep(_sketches(images, list(zip(looks, sizes, strict=True)), seed))
    (gram,) = images.sum((_gram(table.read(here)),) for here in images)
    basis = _components(gram, min(_POSE, images.n // (2 * _IMAGES_PER_NUMBER)))

    def columns(here: slice) -> Tensor:
        rows = table.read(here).double()
        pose = rows @ basis
        return torch.cat([rows[:, :2], pose, pose.square()], 1)

    (gram,) = images.sum((_gram(columns(here)),) for here in images)
    straight = _orthonormal(gram)
    return images.keep((columns(here) @ straight).float() for here in images)


def _sketches(images: Images, layers: list[tuple[Look, int]], seed: int) -> Iterator[Tensor]:
    """Give 1, the mean weight and random mixtures of expected places, ``(n, 2 + _SKETCH)``."""
    draws = torch.Generator().manual_seed(seed)
    runs = [(look, some) for look, size in layers for some in _runs(size, _NODES)]
    mixtures = [
        torch.randn(2 * (some.stop - some.start), _SKETCH, generator=draws, dtype=torch.float32).to(
            images.device
        )
        for _, some in runs
    ]
    nodes = sum(size for _, size in layers)
    for here in images:
        one = torch.ones(here.stop - here.start, 1, dtype=torch.float32, device=images.device)
        weight, mixed = torch.zeros_like(one), one.new_zeros(len(one), _SKETCH)
        for (look, some), mixture in zip(runs, mixtures, strict=True):
            say = look(here, some)
            weight += say.weight.sum(1, keepdim=True) / nodes
            mixed += say.expected.flatten(1) @ mixture
        yield torch.cat([one, weight, mixed], 1)


def _gram(columns: Tensor) -> Tensor:
    """Inner products of columns (n, p) over images, float64."""
    return columns.double().T @ columns.double()


def _components(gram: Tensor, most: int) -> Tensor:
    """Find the principal components of columns, from the third on.

    Parameters
    ----------
    gram : (p, p) float64
        Inner products of the columns, the first of which is 1.
    most : int
        Components, at most.

    Returns
    -------
    (p, q) float64
        Columns times it have mean 0, variance 1 and no correlation.
    """
    n, mean = gram[0, 0], gram[0, 2:] / gram[0, 0]
    values, vectors = torch.linalg.eigh(gram[2:, 2:] / n - mean[:, None] * mean)
    values, vectors = values.flip(0)[:most], vectors.flip(1)[:, :most]
    # less is rounding: of the columns, and of places of which the columns are mixtures
    real = values > 1e-6 * (values[:1].sum() + 1)
    vectors = vectors[:, real] / values[real].sqrt()
    return torch.cat([-(mean @ vectors)[None], torch.zeros_like(vectors[:1]), vectors])


def _orthonormal(gram: Tensor) -> Tensor:
    """Turn columns with these inner products ``(p, p)`` into orthonormal ones by ``(p, q)``."""
    scale = gram.diagonal().clamp(min=_TINY).rsqrt()
    values, vectors = torch.linalg.eigh(scale[:, None] * gram * scale)
    real = values > 1e-6
    columns: Tensor = scale[:, None] * vectors[:, real] / values[real].sqrt()
    return columns


class Habit(NamedTuple):
    """What is expected of nodes, and how much they differ from it.

    Attributes
    ----------
    own : (6, 3, V)
        Weight and residual, x and y, by the expected place (`_POWERS`).
    common : (p, 3, V)
        What the shared columns tell of the rest.
    scale : (4, V)
        Makes what is left orthonormal over the images: of the weight; of the residual xx, xy, yy.
    """

    own: Tensor
    common: Tensor
    scale: Tensor

    def surprises(self, say: Signs, shared: Tensor) -> Tensor:
        """Give what nodes say beyond what was expected, ``(n, 3, V)``: weight, residual x, y."""
        left = _beyond_place(say, self.own)
        left -= (shared @ self.common.flatten(1)).view_as(left)
        weight, xx, xy, yy = self.scale
        x, y = left[:, 1], left[:, 2]
        return torch.stack([weight * left[:, 0], xx * x + xy * y, xy * x + yy * y], 1)


_POWERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))  # of x and y
_MOMENTS = (*_POWERS, *((i, degree - i) for degree in (3, 4) for i in range(degree + 1)))
_PRODUCTS = [[_MOMENTS.index((a + c, b + d)) for c, d in _POWERS] for a, b in _POWERS]


def _powers(expected: Tensor, wanted: Iterable[tuple[int, int]]) -> Iterator[Tensor]:
    """Give powers ``x^i y^j`` of expected places, ``(n, V)``; products are faster than powers."""
    one = torch.ones_like(expected[..., 0])
    x, y = [one], [one]
    for _ in range(4):
        x.append(x[-1] * expected[..., 0])
        y.append(y[-1] * expected[..., 1])
    for i, j in wanted:
        yield x[i] * y[j]


def _beyond_place(say: Signs, own: Tensor) -> Tensor:
    """Weights, and weighted residuals, less what the expected place tells, ``(n, 3, V)``."""
    left = torch.stack([say.weight, *say.residual.unbind(-1)], 1)
    for power, told in zip(_powers(say.expected, _POWERS), own, strict=True):
        left -= power[:, None] * told
    left[:, 1:] *= say.weight[:, None]
    return left


def _place_sums(say: Signs) -> tuple[Tensor, ...]:
    """Sum up two regressions on the expected place: of weights, and, weighted, of residuals.

    Returns
    -------
    plain, weighted : (15, V)
        Moments of the expected place (`_MOMENTS`), and weighted.
    level : (6, V)
        Products of the weights with powers of the place.
    pulled : (6, V, 2)
        Products of the residuals, weighted.
    """
    square = say.weight.square()
    pull = square[..., None] * say.residual
    plain, weighted, level, pulled = [], [], [], []
    for number, power in enumerate(_powers(say.expected, _MOMENTS)):
        plain.append(power.sum(0))
        weighted.append((power * square).sum(0))
        if number < len(_POWERS):
            level.append((power * say.weight).sum(0))
            pulled.append((power[..., None] * pull).sum(0))
    return torch.stack(plain), torch.stack(weighted), torch.stack(level), torch.stack(pulled)


def _regress(moments: Tensor, product: Tensor, n: int) -> Tensor:
    """Find the coefficients of a regression on the expected place.

    Parameters
    ----------
    moments : (15, V)
    product : (6, V, m)
    n : int
        Number of images.

    Returns
    -------
    (6, m, V)
        A place that never varies tells nothing.
    """
    square = moments[torch.tensor(_PRODUCTS)].permute(2, 0, 1)
    ridge = 1e-6 * n * torch.eye(len(_POWERS), dtype=square.dtype, device=square.device)
    coefficients: Tensor = torch.linalg.solve(square + ridge, product.transpose(0, 1))
    return coefficients.permute(1, 2, 0)


def fit_habit(images: Images, look: Look, some: slice, shared: Table, side: float) -> Habit:
    """Fit what is expected of some nodes.

    Parameters
    ----------
    images : Images
    look : callable
        What nodes say.
    some : slice
        Which nodes.
    shared : Table
        ``(N, p)`` orthonormal columns.
    side : float
        Of the image, px.

    Returns
    -------
    Habit
    """
    plain, weighted, level, pulled = images.sum(
        _place_sums(look(here, some)) for here in images.groups()
    )
    own = [_regress(plain, level[..., None], images.n), _regress(weighted, pulled, images.n)]
    by_place = torch.cat(own, 1).float()

    def sums(here: slice) -> tuple[Tensor, Tensor]:
        left = _beyond_place(look(here, some), by_place)
        return shared.read(here).T @ left.flatten(1), _squares(left)

    common, square = images.sum(sums(here) for here in images.groups())
    common = common.view(len(common), 3, -1)
    variance = (square - _squares(common)) / images.n
    return Habit(by_place, common.float(), _scales(variance, side, images.n).float())


def _squares(left: Tensor) -> Tensor:
    """Sum up squares of weights, and xx, xy, yy of residuals: ``(n, 3, V)`` to ``(4, V)``."""
    weight, x, y = left.unbind(1)
    pairs = ((weight, weight), (x, x), (x, y), (y, y))
    return torch.stack([(one * other).sum(0) for one, other in pairs])


def _scales(variance: Tensor, side: float, n: int) -> Tensor:
    """Find what makes weights and residuals orthonormal and worth their shares of the strength.

    A little is added to variances, so that what never varies stays nothing.

    Parameters
    ----------
    variance : (4, V)
        Of weights, and xx, xy, yy of weighted residuals (px^2), over the images.
    side : float
        Of the image, px.
    n : int
        Number of images.

    Returns
    -------
    (4, V)
        Of the weight; of the residual xx, xy, yy.
    """
    weight, xx, xy, yy = variance
    least = 1e-3 * (xx + yy).clamp(min=0) + (1e-4 * side) ** 2
    xx, yy = xx.clamp(min=0) + least, yy.clamp(min=0) + least
    # with d = sqrt(det C), the inverse of the root of a symmetric C (2 x 2) is
    # (adj C + d) / (d sqrt(tr C + 2 d))
    d = (xx * yy - xy.square()).clamp(min=least.square()).sqrt()
    share = math.sqrt(_SITS / (2 * n)) / (d * (xx + yy + 2 * d).sqrt())
    fires = (_FIRES / (n * (weight.clamp(min=0) + 1e-4))).sqrt()
    return torch.stack([fires, share * (yy + d), -share * xy, share * (xx + d)])


def tabulate(images: Images, look: Look, size: int, shared: Table, side: float) -> Table:
    """Keep the surprises of all nodes of a layer, ``(N, 3, V)``."""
    runs = list(_runs(size, _NODES))
    habits = [fit_habit(images, look, some, shared, side) for some in runs]

    def rows(here: slice) -> Tensor:
        columns = shared.read(here)
        parts = [
            habit.surprises(look(here, some), columns)
            for habit, some in zip(habits, runs, strict=True)
        ]
        return torch.cat(parts, 2)

    return images.table(rows(here) for here in images.groups())


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
    looks = [above, *(partial(_exchanged, above, (seed, r)) for r in range(exchanges))]
    tables = [tabulate(images, look, u, shared, side) for look in looks]
    step = max(1, _CELLS // (u * len(tables)))

    def find(some: slice) -> Candidates:
        return find_candidates(images, below, some, tables, shared, side, _SPARE * n_parents)

    # what is found is kept, not the sums, of which there are V x U
    parts = [images.once(partial(find, some)) for some in _runs(v, min(step, _NODES))]
    found = Candidates(*(torch.cat(part) for part in zip(*parts, strict=True)))
    least = least_strength(found.strength, found.chance, exchanges)
    child, rank = (found.strength >= least).nonzero(as_tuple=True)
    if not len(child):
        return _no_edges(images.device)
    edges, distance = measure(
        images, children, parents, child, found.parent[child, rank], found.strength[child, rank]
    )
    return choose(edges, distance, n_parents, _NEAR * side)


def _runs(size: int, length: int) -> Iterator[slice]:
    """Go through so many things, some at a time."""
    for start in range(0, size, length):
        yield slice(start, min(start + length, size))


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
        for some in _runs(len(child), _MEASURED)
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
    return _weigh(scores, nodes.scale[which]), positions - nodes.mean[which]


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
