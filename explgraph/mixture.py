"""One filter's maps as a spatial mixture of part patterns: pure functions.

A squared rectified activation ``s[n, c, u] = a[n, c, u]^2`` counts as that many observations at the
centre ``x_u`` of its unit (Zhang et al., AAAI 2018, eqs. 2-4, take ``a``; squares, because what
lies around a peak counts for too much otherwise). In image ``n`` filter ``c`` is the mixture

    p(x | n) = sum_k w_k N(x; y_k(n), s_k^2 I) + w_0 / area,    w_0 + sum_k w_k = 1

of its part patterns and a uniform background (V_none in the paper). A pattern's place follows its
*motion* ``m_k(n)`` (a trajectory of a pose, px; nothing for what stands still) to the share
``f_k``:

    y_k(n) = mu_k + f_k m_k(n)

In the end each pattern gets a motion of its own, ``y_k(n) = mu_k + L_k z_n`` for poses z, which is
drawn to the one that it was found with (`regress`).

Departures from the paper: spreads are isotropic and fitted, so are the shares and the background's;
places move with a pose in place of the parents' mean displacement.

An isotropic Gaussian separates into a row and a column factor. With ``Gy (K, H)`` and ``Gx (K, W)``
the density over the grid is ``Gy^T Gx``, and with ``R = s / (Gy^T Gx + w_0 / area)`` the expected
counts are ``rowsum((Gy R) * Gx)``; the moments are the same with offsets multiplied in. So nothing
of the size N x C x K x H x W is ever formed. On a CPU the same is done by a compiled kernel, in one
go over every map (`kernel`); the torch code here is for GPUs and for float64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from explgraph import kernel
from explgraph.geometry import Layer

__all__ = [
    "Bounds",
    "Counts",
    "Grid",
    "Mixture",
    "adapted",
    "e_step",
    "gaussians",
    "m_step",
    "peaks",
    "regress",
    "survey",
]

_TINY = 1e-12
# products of two factors stay normal float32 numbers: with subnormal ones processors crawl
_LEAST_EXPONENT = -36.0
# a pattern that moved further than that in proportion would be another trajectory's
_MOST_FOLLOW = 1.5


class Grid(NamedTuple):
    """Unit centres of a layer.

    Attributes
    ----------
    x : (W,)
        px.
    y : (H,)
        px.
    cell : float
        Area that one unit stands for, px^2.
    """

    x: Tensor
    y: Tensor
    cell: float

    @classmethod
    def of(cls, layer: Layer, device: torch.device | str = "cpu") -> Grid:
        """Take the grid of a layer as float32 tensors."""
        x = torch.as_tensor(layer.centres_x, dtype=torch.float32, device=device)
        y = torch.as_tensor(layer.centres_y, dtype=torch.float32, device=device)
        return cls(x, y, layer.stride[0] * layer.stride[1])


class Bounds(NamedTuple):
    """What the M step is held to.

    Attributes
    ----------
    sigma_min, sigma_max : float
        px.
    background : float
        Least share of the background.
    prior : float
        As if so many images more had followed their motion exactly: few images don't fit their
        share of it to noise.
    """

    sigma_min: float
    sigma_max: float
    background: float
    prior: float


class Mixture(NamedTuple):
    """Parameters of the mixtures of F filters with K patterns each.

    Attributes
    ----------
    mean : (F, K, 2)
        Usual place ``[x, y]``, px.
    follow : (F, K)
        Share of its motion that a pattern follows.
    sigma : (F, K)
        Spread, px.
    share : (F, K)
        Of the filter's squared activation; 0 for a pattern that takes no part.
    background : (F,)
        The background's share.
    """

    mean: Tensor
    follow: Tensor
    sigma: Tensor
    share: Tensor
    background: Tensor

    @classmethod
    def empty(cls, filters: int, patterns: int, device: torch.device | str = "cpu") -> Mixture:
        """Make mixtures of the background alone, with room for patterns."""
        zero = torch.zeros(filters, patterns, dtype=torch.float32, device=device)
        return cls(zero[..., None].expand(-1, -1, 2), zero, zero + 1, zero, zero.new_ones(filters))

    def take(self, filters: Tensor) -> Mixture:
        """Keep some filters: indices, or (F,) bool."""
        return Mixture(*(values[filters] for values in self))

    def put(self, filters: Tensor, other: Mixture) -> Mixture:
        """Put others in the place of some filters (indices or (F,) bool)."""
        mine = [values.clone() for values in self]
        for values, new in zip(mine, other, strict=True):
            values[filters] = new
        return Mixture(*mine)

    def places(self, motion: Tensor) -> Tensor:
        """Where patterns are expected, ``(n, F, K, 2)`` px, given their motions of that shape."""
        return self.mean + self.follow[..., None] * motion


class Counts(NamedTuple):
    """What the E step finds in n images.

    Attributes
    ----------
    count : (n, F, K)
        Squared activation that each pattern answers for.
    offset : (n, F, K, 2)
        The same times ``x_u - y``, px.
    square : (n, F, K)
        The same times ``|x_u - y|^2``, px^2.
    total : (n, F)
        All squared activation.
    likelihood : (n, F)
        ``sum_u s log p(x_u)``, nats.
    rest : (n, F, H, W), optional
        Squared activation that the background answers for, unit by unit.
    """

    count: Tensor  # type: ignore[assignment]  # tuples have a method of this name
    offset: Tensor
    square: Tensor
    total: Tensor
    likelihood: Tensor
    rest: Tensor | None = None


def _factors(centre: Tensor, sigma: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Offsets and Gaussian factors along x and y, for centres (..., 2) and spreads (...)."""
    dx = grid.x - centre[..., 0, None]
    dy = grid.y - centre[..., 1, None]
    rate = (-0.5 / sigma.square())[..., None]
    gx = (dx.square() * rate).clamp_(min=_LEAST_EXPONENT).exp_()
    gy = (dy.square() * rate).clamp_(min=_LEAST_EXPONENT).exp_()
    return dx, dy, gx, gy


def e_step(
    maps: Tensor,
    which: Tensor,
    centre: Tensor,
    sigma: Tensor,
    share: Tensor,
    background: Tensor,
    grid: Grid,
    *,
    rest: bool = False,
) -> Counts:
    """Share every map's squared activation out among the patterns of its filter.

    Parameters
    ----------
    maps : (n, C, H, W) float
        Rectified, each filter divided by its scale.
    which : (F,) int64
        The map of each filter: one map may serve several hypotheses.
    centre : (n, F, K, 2) float
        Where each pattern is expected, px.
    sigma : (F, K) float
        px.
    share : (n or 1, F, K) float
        For all images alike, or image by image.
    background : (n or 1, F) float
        Density of the background per px^2: its share over the area.
    grid : Grid
    rest : bool
        Give what the background answers for, too.

    Returns
    -------
    Counts

    References
    ----------
    Zhang et al., AAAI 2018, eqs. 3-6.
    """
    if kernel.serves(maps, centre, sigma, share, background, grid.x, grid.y):
        return Counts(
            *kernel.e_step(maps, which, centre, sigma, share, background, grid.x, grid.y, rest)
        )
    return _e_step(maps, which, centre, sigma, share, background, grid, rest)


def _e_step(
    maps: Tensor,
    which: Tensor,
    centre: Tensor,
    sigma: Tensor,
    share: Tensor,
    background: Tensor,
    grid: Grid,
    rest: bool,
) -> Counts:
    """Do the E step with torch."""
    squares = maps[:, which].square()
    dx, dy, gx, gy = _factors(centre, sigma, grid)
    gy = gy * (share / (2 * math.pi * sigma.square()))[..., None]
    density = gy.transpose(-1, -2) @ gx + background[..., None, None]
    # what is silent has density, too: 0 / density is 0
    ratio = squares / density
    columns = gy @ ratio  # (n, F, K, W)
    rows = gx @ ratio.transpose(-1, -2)  # (n, F, K, H)
    along_x = columns * gx  # activation times responsibility, summed over rows
    along_y = rows * gy
    square = (along_x * dx.square()).sum(-1) + (along_y * dy.square()).sum(-1)
    offset = torch.stack([(along_x * dx).sum(-1), (along_y * dy).sum(-1)], -1)
    return Counts(
        along_x.sum(-1),
        offset,
        square,
        squares.sum((2, 3)),
        (squares * density.log()).sum((2, 3)),
        ratio * background[..., None, None] if rest else None,
    )


def m_step(counts: Counts, mixture: Mixture, motion: Tensor, bounds: Bounds) -> Mixture:
    """Parameters that raise the likelihood most, given who answers for what: the M step.

    Usual place and share of the motion are a regression of where each pattern's activation is on
    its motion, weighted by how much it is; the spread is what that leaves.

    Parameters
    ----------
    counts : Counts
        Of n images.
    mixture : Mixture
        Those that the counts were made with.
    motion : (n, F, K, 2)
        px; 0 for what stands still.
    bounds : Bounds

    Returns
    -------
    Mixture
        A pattern without any activation keeps its place and spread.

    References
    ----------
    Zhang et al., AAAI 2018, eq. 6.
    """
    weight = counts.count.sum(0)
    seen = weight > 1e-6  # less is rounding
    total = weight.clamp(min=1e-9)
    offset = counts.offset.sum(0)
    moved = (counts.count[..., None] * motion).sum(0)
    spread = (counts.count * motion.square().sum(-1)).sum(0)
    together = (counts.offset * motion).sum((0, -1))
    # around their means
    variance = spread - moved.square().sum(-1) / total
    covariance = together - (offset * moved).sum(-1) / total
    prior = bounds.prior / max(len(motion), 1)
    more = (covariance / variance.clamp(min=_TINY) + prior * (1 - mixture.follow)) / (1 + prior)
    follow = (mixture.follow + more).clamp(0, _MOST_FOLLOW)
    follow = torch.where(seen & (variance > 1e-3 * total), follow, mixture.follow)  # px^2
    more = follow - mixture.follow
    step = (offset - more[..., None] * moved) / total[..., None]
    square = (
        counts.square.sum(0)
        - 2 * (offset * step).sum(-1)
        - 2 * more * together
        + weight * step.square().sum(-1)
        + 2 * more * (step * moved).sum(-1)
        + more.square() * spread
    )
    return _updated(
        counts,
        mixture._replace(mean=torch.where(seen[..., None], mixture.mean + step, mixture.mean)),
        follow,
        square,
        bounds,
    )


def regress(
    counts: Counts,
    mixture: Mixture,
    loading: Tensor,
    usual: Tensor,
    poses: Tensor,
    bounds: Bounds,
) -> tuple[Mixture, Tensor]:
    """Do the M step in which every pattern gets a motion of its own.

    Where each pattern's activation is, is regressed on all numbers of the pose, weighted by how
    much it is, and drawn to the motion that it was found with as if ``bounds.prior`` images more
    had shown that.

    Parameters
    ----------
    counts : Counts
        Of n images.
    mixture : Mixture
        Those that the counts were made with.
    loading : (F, K, 2, q)
        The same: ``y_k(n) = mu_k + loading_k z_n``.
    usual : (F, K, 2, q)
        That they are drawn to; 0 for what stands still, which stays where it is.
    poses : (n, q)
    bounds : Bounds

    Returns
    -------
    Mixture, (F, K, 2, q)
    """
    (n, q), (f, k) = poses.shape, mixture.share.shape
    count = counts.count.flatten(1)
    weight = count.sum(0)
    design = torch.cat([poses.new_ones(n, 1), poses], 1)
    outer = (design[:, :, None] * design[:, None]).flatten(1)
    prior = weight.double() * (bounds.prior / n)
    pull = torch.eye(q + 1, dtype=torch.float64, device=poses.device)
    pull[0, 0] = 0
    gram = (count.T @ outer).reshape(f * k, q + 1, q + 1).double() + prior[:, None, None] * pull
    right = (counts.offset.flatten(1, 2).permute(1, 2, 0) @ design).double()  # (F K, 2, q + 1)
    right[..., 1:] += prior[:, None, None] * (usual - loading).flatten(0, 1).double()
    still = (usual == 0).flatten(2).all(2).flatten()
    seen = weight > 1e-6  # less is rounding
    gram[still | ~seen] = torch.eye(q + 1, dtype=torch.float64, device=poses.device)
    change = torch.linalg.solve(gram, right.transpose(1, 2)).transpose(1, 2).to(poses.dtype)
    change[still] = 0
    change[still, :, 0] = (
        counts.offset.flatten(1, 2).sum(0)[still] / weight[still].clamp(min=1e-9)[:, None]
    )
    change[~seen] = 0
    change = change.reshape(f, k, 2, q + 1)
    step = (design @ change.flatten(0, 2).T).reshape(n, f, k, 2)
    square = (
        counts.square - 2 * (counts.offset * step).sum(-1) + counts.count * step.square().sum(-1)
    )
    mixture = mixture._replace(mean=mixture.mean + change[..., 0])
    fitted = _updated(counts, mixture, mixture.follow, square.sum(0), bounds)
    return fitted, loading + change[..., 1:]


def _updated(
    counts: Counts, mixture: Mixture, follow: Tensor, square: Tensor, bounds: Bounds
) -> Mixture:
    """Give mixtures whose places are fitted the spreads (by squares (F, K)) and shares."""
    weight = counts.count.sum(0)
    sigma = (square / weight.clamp(min=1e-9) / 2).clamp(min=0).sqrt()
    share = weight / counts.total.sum(0).clamp(min=1e-9)[:, None]
    taken = share.sum(1)
    background = (1 - taken).clamp(min=bounds.background)
    return Mixture(
        mixture.mean,
        follow,
        torch.where(weight > 1e-6, sigma.clamp(bounds.sigma_min, bounds.sigma_max), mixture.sigma),
        share * ((1 - background) / taken.clamp(min=1e-9))[:, None],
        background,
    )


def adapted(
    counts: Counts, share: Tensor, background: Tensor, prior: float
) -> tuple[Tensor, Tensor]:
    """Shares image by image: what an image shows, beside `prior` of what is usual.

    A part may be absent, or there alone: then what lies where it usually is belongs to others.
    (The mean of a Dirichlet posterior whose prior counts as much as `prior` of activation.)

    Parameters
    ----------
    counts : Counts
        Of n images.
    share : (F, K)
        Usual shares.
    background : (F,)
        The background's.
    prior : float
        In units of a filter's mean total per image.

    Returns
    -------
    share : (n, F, K)
    background : (n, F)
    """
    rest = (counts.total - counts.count.sum(-1)).clamp(min=0)
    norm = prior + counts.count.sum(-1) + rest
    return (
        (prior * share + counts.count) / norm[..., None],
        (prior * background + rest) / norm,
    )


def survey(
    activations: Tensor, expected: Tensor, sigma: float, grid: Grid
) -> tuple[Tensor, Tensor, Tensor]:
    """Where squared activation is around expected places, how spread out, and how much.

    Squares, since what is around a peak counts for too much otherwise. The spread tells what the
    maps know: activation that is even around a place has the spread of the Gaussian itself, a sharp
    peak has none. The papers take the unit that answers best.

    Parameters
    ----------
    activations : (n, C, H, W) float
        Rectified, each filter divided by its scale.
    expected : (n, C, K, 2) float
        px.
    sigma : float
        Of the Gaussian, px.
    grid : Grid

    Returns
    -------
    step : (n, C, K, 2)
        From the expected place to the mean, px; 0 where the map is silent around it.
    variance : (n, C, K)
        Around the mean, along one axis, px^2; 0 likewise.
    scores : (n, C, K)
        Mean square under the Gaussian.
    """
    if kernel.serves(activations, expected, grid.x, grid.y):
        step, variance, mass = kernel.survey(activations, expected, sigma, grid.x, grid.y)
    else:
        step, variance, mass = _survey(activations, expected, sigma, grid)
    return step, variance, mass * (grid.cell / (2 * math.pi * sigma**2))


def _survey(
    activations: Tensor, expected: Tensor, sigma: float, grid: Grid
) -> tuple[Tensor, Tensor, Tensor]:
    """Find steps, variances and the mass under each Gaussian with torch."""
    k = expected.shape[2]
    dx, dy, gx, gy = _factors(expected, expected.new_full((1,), sigma), grid)
    moments = torch.cat([gy, gy * dy, gy * dy.square()], 2)
    rows = moments @ activations.square()  # (n, C, 3 K, W)
    along_x = rows[:, :, :k] * gx
    mass = along_x.sum(-1)
    there = mass > _TINY
    total = mass.clamp(min=_TINY)
    step_y, square_y = (
        (part * gx).sum(-1) / total for part in (rows[:, :, k : 2 * k], rows[:, :, 2 * k :])
    )
    step = torch.stack([(along_x * dx).sum(-1) / total, step_y], -1)
    square = (along_x * dx.square()).sum(-1) / total + square_y
    variance = (square - step.square().sum(-1)).clamp(min=0) / 2
    return torch.where(there[..., None], step, 0), torch.where(there, variance, 0), mass * there


def gaussians(places: Tensor, sigma: float, grid: Grid) -> Tensor:
    """Weights of a layer's units around places, which turn maps into mean activation there.

    Parameters
    ----------
    places : (..., 2) float
        px.
    sigma : float
        px.
    grid : Grid

    Returns
    -------
    (..., H W)
    """
    _, _, gx, gy = _factors(places, places.new_full((), sigma), grid)
    weights = (gy[..., :, None] * gx[..., None, :]).flatten(-2)
    return weights * (grid.cell / (2 * math.pi * sigma**2))


def peaks(activations: Tensor, grid: Grid, reach: float) -> tuple[Tensor, Tensor]:
    """Find each map's highest unit, the first of several, refined to the mean around it.

    Parameters
    ----------
    activations : (n, C, H, W) float
    grid : Grid
    reach : float
        Units at most this far from the highest, along x and along y, take part, px.

    Returns
    -------
    positions : (n, C, 2)
        px; the middle of the grid where the map is zero everywhere.
    scores : (n, C)
        The highest activation.
    """
    if kernel.serves(activations, grid.x, grid.y):
        return kernel.peaks(activations, grid.x, grid.y, reach)
    return _peaks(activations, grid, reach)


def _peaks(activations: Tensor, grid: Grid, reach: float) -> tuple[Tensor, Tensor]:
    """Find peaks with torch."""
    n, c, _, w = activations.shape
    scores, best = activations.flatten(2).max(-1)
    top = torch.stack([grid.x[best % w], grid.y[best // w]], -1)
    near_x = ((grid.x - top[..., 0, None]).abs() <= reach).to(activations.dtype)
    near_y = ((grid.y - top[..., 1, None]).abs() <= reach).to(activations.dtype)
    along_x = (near_y[:, :, None] @ activations)[:, :, 0] * near_x
    along_y = (activations @ near_x[..., None])[..., 0] * near_y
    mass = along_x.sum(-1).clamp(min=_TINY)
    positions = torch.stack([along_x @ grid.x / mass, along_y @ grid.y / mass], -1)
    middle = torch.stack([grid.x.mean(), grid.y.mean()])
    return torch.where((scores > 0)[..., None], positions, middle.expand(n, c, 2)), scores
