"""One filter's maps as a spatial mixture of part patterns: pure functions.

A rectified activation ``a[n, c, u] >= 0`` counts as that many observations at the centre ``x_u``
of its unit (Zhang et al., AAAI 2018, eqs. 2-4). In image ``n`` filter ``c`` is the mixture

    p(x | n) ~ sum_k N(x; mu_k + delta[n, k], s_k^2 I) + tau / area

over its K patterns and a uniform background. Departures from the paper: isotropic spreads are
fitted for every pattern within bounds, components weigh the same, positions are posterior means
in place of the best unit, and mining holds the means where a mean shift put them.

An isotropic Gaussian separates into a row and a column factor. With ``Gy (K, H)`` and ``Gx (K, W)``
the density over the grid is ``Gy^T Gx``, and with ``R = a / (Gy^T Gx + tau / area)`` the expected
counts are ``rowsum((Gy R) * Gx)``; the moments are the same with offsets multiplied in. So nothing
of the size N x C x K x H x W is ever formed. On a CPU the same is done by a compiled kernel, in one
go over every map (`kernel`); the torch code here is for GPUs, for gradients and for float64.
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
    "Grid",
    "Patterns",
    "Summary",
    "from_summaries",
    "gaussians",
    "peaks",
    "summarize",
    "survey",
]

_TINY = 1e-12
# products of two factors stay normal float32 numbers: with subnormal ones processors crawl
_LEAST_EXPONENT = -36.0


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
    """What a mixture is held to.

    Attributes
    ----------
    background : float
        Density of the background, per px^2, in units of one component.
    sigma_min, sigma_max : float
        px.
    """

    background: float
    sigma_min: float
    sigma_max: float


class Patterns(NamedTuple):
    """Parameters of the part patterns of every filter.

    Attributes
    ----------
    mean : (C, K, 2)
        Usual place ``[x, y]``, px.
    sigma : (C, K)
        Spread, px.
    alive : (C, K) float
        1, or 0 for a pattern that takes no part.
    """

    mean: Tensor
    sigma: Tensor
    alive: Tensor


class Summary(NamedTuple):
    """Sums over images, units and patterns that one iteration needs; they add up over batches.

    Attributes
    ----------
    counts : (C, K)
        Activation that each pattern answers for.
    offset : (C, K, 2)
        The same times ``x_u - mu_k - delta``, px.
    square : (C, K)
        The same times ``|x_u - mu_k - delta|^2``, px^2.
    total : (C,)
        All activation.
    bound : float64 scalar
        ``sum a log p(x_u | n)``, the objective that the iterations climb; float64 since it sums
        over everything.
    """

    counts: Tensor
    offset: Tensor
    square: Tensor
    total: Tensor
    bound: Tensor


def _factors(centre: Tensor, sigma: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Offsets and Gaussian factors along x and y, for centres (..., 2) and spreads (...)."""
    dx = grid.x - centre[..., 0, None]
    dy = grid.y - centre[..., 1, None]
    rate = (-0.5 / sigma.square())[..., None]
    gx = (dx.square() * rate).clamp_(min=_LEAST_EXPONENT).exp_()
    gy = (dy.square() * rate).clamp_(min=_LEAST_EXPONENT).exp_()
    return dx, dy, gx, gy


def summarize(
    activations: Tensor, displacement: Tensor, patterns: Patterns, grid: Grid, bounds: Bounds
) -> Summary:
    """Do the E step: expected counts and moments of every part pattern over a batch of maps.

    Parameters
    ----------
    activations : (n, C, H, W) float
        Rectified, each filter divided by its scale.
    displacement : (n, C, K or 1, 2) float
        How far each image's pose says that the pattern has moved, px.
    patterns : Patterns
    grid : Grid
    bounds : Bounds

    Returns
    -------
    Summary
        Summed over the batch.

    References
    ----------
    Zhang et al., AAAI 2018, eqs. 3-6.
    """
    if kernel.serves(activations, displacement, *patterns, grid.x, grid.y):
        return Summary(
            *kernel.summarize(
                activations, displacement, *patterns, grid.x, grid.y, bounds.background
            )
        )
    return _summarize(activations, displacement, patterns, grid, bounds)


def _summarize(
    activations: Tensor, displacement: Tensor, patterns: Patterns, grid: Grid, bounds: Bounds
) -> Summary:
    """Do the E step with torch."""
    n, c = activations.shape[:2]
    k = patterns.sigma.shape[1]
    centre = (patterns.mean + displacement).expand(n, c, k, 2)
    dx, dy, gx, gy = _factors(centre, patterns.sigma, grid)
    gy = gy * (patterns.alive / (2 * math.pi * patterns.sigma.square()))[..., None]
    density = gy.transpose(-1, -2) @ gx + bounds.background
    ratio = activations / density
    columns = gy @ ratio  # (n, C, K, W)
    rows = gx @ ratio.transpose(-1, -2)  # (n, C, K, H)
    along_x = columns * gx  # activation times responsibility, summed over rows
    along_y = rows * gy
    square = (along_x * dx.square()).sum((0, 3)) + (along_y * dy.square()).sum((0, 3))
    offset = torch.stack([(along_x * dx).sum((0, 3)), (along_y * dy).sum((0, 3))], -1)
    per_filter = (activations * density.log()).sum((0, 2, 3)).double()
    return Summary(
        along_x.sum((0, 3)), offset, square, activations.sum((0, 2, 3)), per_filter.sum()
    )


def from_summaries(
    summary: Summary, patterns: Patterns, bounds: Bounds, hold: bool = False
) -> Patterns:
    """Means and spreads that raise the bound most, given the expected counts: the M step.

    Within `bounds` it is the exact maximum of the expected log-likelihood: the best mean does not
    depend on the spread, and in the spread the likelihood has one hill.

    Parameters
    ----------
    summary : Summary
        Over all images.
    patterns : Patterns
        Those that the summary was made with.
    bounds : Bounds
    hold : bool
        Leave the means where they are and fit the spreads around them.

    Returns
    -------
    Patterns
        A pattern without any activation stays as it is.

    References
    ----------
    Zhang et al., AAAI 2018, eq. 6.
    """
    alive = summary.counts > _TINY
    count = summary.counts.clamp(min=_TINY)
    step = summary.offset / count[..., None]
    if hold:
        step = torch.zeros_like(step)
    variance = (summary.square / count - step.square().sum(-1)) / 2
    sigma = variance.clamp(min=0).sqrt().clamp(bounds.sigma_min, bounds.sigma_max)
    mean, kind = patterns.mean, patterns.mean.dtype  # sums over all images may be float64
    return Patterns(
        torch.where(alive[..., None], (mean + step).to(kind), mean),
        torch.where(alive, sigma.to(kind), patterns.sigma),
        patterns.alive,
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
