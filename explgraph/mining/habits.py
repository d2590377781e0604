"""What nodes' own maps say in an image, what was to be expected of them, and what is left.

Steps 1 and 2 of `linking`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from explgraph.activations.streaming import Images, Table
from explgraph.mining.tracks import Tracks, weigh

__all__ = [
    "NODES",
    "Habit",
    "Look",
    "Signs",
    "exchanged",
    "fit_habit",
    "runs",
    "shared_columns",
    "signs",
    "tabulate",
]

_TINY = 1e-9
_SKETCH = 32  # random mixtures of expected places, in which the pose shows
_POSE = 16  # numbers of the pose that are taken out, at most
_IMAGES_PER_NUMBER = 8  # at least
_SPREAD = 0.1  # of the side: about what expected places vary by
NODES = 1 << 12
"""Nodes that are worked on at a time."""
_FIRES = 1 / (1 + math.sqrt(2))  # share of the weights' correlation in the strength
_SITS = 1 - _FIRES  # and of the residuals'


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
        weigh(score, tracks.scale[some]),
        position - expected,
        (expected - tracks.mean[some]) / (_SPREAD * math.sqrt(area)),
    )


def exchanged(look: Look, seed: tuple[int, int], here: slice, some: slice) -> Signs:
    """Read what nodes say of other images of the group: see `Signs.exchanged`."""
    own = np.random.SeedSequence((*seed, here.start, some.start)).generate_state(1)
    return look(here, some).exchanged(int(own[0]))


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
    pieces = [(look, some) for look, size in layers for some in runs(size, NODES)]
    mixtures = [
        torch.randn(2 * (some.stop - some.start), _SKETCH, generator=draws, dtype=torch.float32).to(
            images.device
        )
        for _, some in pieces
    ]
    nodes = sum(size for _, size in layers)
    for here in images:
        one = torch.ones(here.stop - here.start, 1, dtype=torch.float32, device=images.device)
        weight, mixed = torch.zeros_like(one), one.new_zeros(len(one), _SKETCH)
        for (look, some), mixture in zip(pieces, mixtures, strict=True):
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
    pieces = list(runs(size, NODES))
    habits = [fit_habit(images, look, some, shared, side) for some in pieces]

    def rows(here: slice) -> Tensor:
        columns = shared.read(here)
        parts = [
            habit.surprises(look(here, some), columns)
            for habit, some in zip(habits, pieces, strict=True)
        ]
        return torch.cat(parts, 2)

    return images.table(rows(here) for here in images.groups())


def runs(size: int, length: int) -> Iterator[slice]:
    """Go through so many things, some at a time."""
    for start in range(0, size, length):
        yield slice(start, min(start + length, size))
