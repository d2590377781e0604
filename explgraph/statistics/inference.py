"""From a block of maps to nodes: where every part pattern is in an image, and whether it is there.

1. The pose says where each pattern should be (`Fitted.poses`, `FittedLayer.expected`).
2. The patterns of a filter compete for its map (`mixture.e_step`). Shares are taken up from the
   image itself, twice, beside a little of what is usual: what lies where an absent part usually is
   belongs to others.
3. A pattern's position is the mean of what it answers for, drawn back to where it is expected where
   that is next to nothing; its score says how much that is, of what it is when the part is there.

What a pattern answers for can be told unit by unit, too (`responsibilities`).

Mining fits what is used here, parsing uses it again on other images, so that what was mined is what
is parsed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from explgraph.statistics.fitted import FittedLayer
from explgraph.statistics.mixture import Grid, adapted, e_step

__all__ = ["Found", "infer", "responsibilities", "scaled"]

_USUAL = 0.1  # of a filter's mean activation: weight of the usual shares against an image's own
_ROUNDS = 2  # of taking up an image's own shares; a third changes nothing
_STEEP = 2.0  # the usual activation counts as 0.86 of a presence, a tenth of it as 0.18
_SILENT = 0.02  # of a filter's mean activation: less hardly says where a part is


def scaled(maps: Tensor, scale: Tensor) -> Tensor:
    """Divide each filter's maps by its scale; filters without one become zero."""
    factor = torch.where(scale > 0, 1 / scale, 0.0)
    return maps * factor[:, None, None]


class Found(NamedTuple):
    """Nodes of one layer in some images, in the order of filters, then patterns.

    Attributes
    ----------
    positions : (n, V, 2)
        px.
    scores : (n, V)
        Presence, 0 to 1.
    expected : (n, V, 2)
        px.
    share : (n, V)
        Of its filter's squared activation in this image, as the mixture has it.
    background : (n, C)
        What is left of it for no pattern.
    """

    positions: Tensor
    scores: Tensor
    expected: Tensor
    share: Tensor
    background: Tensor


def infer(layer: FittedLayer, maps: Tensor, poses: Tensor, grid: Grid, area: float) -> Found:
    """Look for every pattern in a layer's maps.

    Parameters
    ----------
    layer : FittedLayer
    maps : (n, C, H, W)
        Rectified, each filter divided by its scale.
    poses : (n, q)
    grid : Grid
    area : float
        Of the image, px^2.

    Returns
    -------
    Found
        Of the ``C K`` patterns. With ``c`` the squared activation that a pattern answers for and
        ``w`` its share, which is what it usually answers for, the score is ``1 - exp(-2 c / w)``.
    """
    expected = layer.expected(poses)
    which = torch.arange(len(layer.scale), device=maps.device)
    share, background = layer.share[None], layer.background[None]
    for left in range(_ROUNDS, -1, -1):
        counts = e_step(maps, which, expected, layer.sigma, share, background / area, grid)
        if left:
            share, background = adapted(counts, layer.share, layer.background, _USUAL)
    mass = counts.count
    weight = 1 / (mass + _SILENT)  # offset / mass * mass / (mass + silent)
    first, last = (torch.stack([grid.x[i], grid.y[i]]) for i in (0, -1))
    seen = expected + counts.offset * weight[..., None]
    # where next to nothing is seen, the expected place may be beyond the outermost units
    positions = seen.clamp(torch.minimum(first, last), torch.maximum(first, last))
    presence = -torch.expm1(-_STEEP * mass / layer.share.clamp(min=1e-9))
    return Found(
        positions.flatten(1, 2),
        presence.flatten(1, 2),
        expected.flatten(1, 2),
        share.flatten(1, 2),
        background,
    )


def responsibilities(
    layer: FittedLayer, found: Found, nodes: Sequence[int], grid: Grid, area: float
) -> Tensor:
    """Say what some patterns answer for of each unit of their filters' maps.

    The mixture's own responsibilities, with each pattern where it was found: of a unit at ``x``
    pattern ``k`` has ``w_k N(x; y_k, s_k^2 I)`` over the same of all patterns of its filter and the
    background's ``w_0 / area``.

    Parameters
    ----------
    layer : FittedLayer
    found : Found
        What `infer` gave for the layer.
    nodes : sequence of int
        Numbers of V' patterns, ``filter * K + pattern``.
    grid : Grid
    area : float
        Of the image, px^2.

    Returns
    -------
    (n, V', H, W)
        0 to 1; patterns of one filter and its background add up to 1.
    """
    k = layer.sigma.shape[1]
    which = torch.as_tensor(nodes, dtype=torch.int64, device=found.share.device)
    filters, row = torch.unique(which // k, return_inverse=True)
    sigma = layer.sigma[filters]
    n = len(found.share)
    places = found.positions.view(n, -1, k, 2)[:, filters]
    height = found.share.view(n, -1, k)[:, filters] / (2 * math.pi * sigma**2)
    along_x, along_y = (
        torch.exp(-((centres - places[..., axis, None]) ** 2) / (2 * sigma[..., None] ** 2))
        for axis, centres in enumerate((grid.x, grid.y))
    )
    density = height[..., None, None] * along_y[..., None] * along_x[..., None, :]
    whole = density.sum(2) + (found.background[:, filters] / area)[..., None, None]
    responsible: Tensor = density[:, row, which % k] / whole[:, row]
    return responsible
