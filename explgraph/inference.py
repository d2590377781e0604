"""One pass over a layer: anchors say where every pattern should be, then its own map is looked at.

Mining fits passes, parsing runs them again on other images; both call `infer`, so that what was
mined is what is parsed. Both work on a block of images at a time.

1. The first pass knows nothing yet: every filter's peak (`mixture.peaks`).
2. Each later pass has *anchors*: nodes of upper layers, or of the layer's own previous pass. Every
   pattern (or every filter, for all its patterns) has a few of them as parents, which predict its
   displacement (`linking.displacements`), hence its expected place.
3. Around the expected place the pattern's own map gives position and score (`mixture.locate`).
   The passes that only prepare the next one look through the pattern's own narrow Gaussian. The
   last pass looks through a wide window at the squared map: a narrow window would mostly give
   back what the anchors said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from explgraph.linking import Links, displacements, motion
from explgraph.mixture import Grid, Patterns, locate

__all__ = [
    "OWN",
    "Anchors",
    "Found",
    "Pass",
    "displaced",
    "expect",
    "gather",
    "infer",
]

OWN = -1
"""Stands for the layer's own previous pass where an anchor's layer is named."""


class Found(NamedTuple):
    """Nodes of one layer in some images, in the order of filters, then patterns.

    Attributes
    ----------
    positions : (n, V, 2)
        px.
    scores : (n, V)
        >= 0.
    """

    positions: Tensor
    scores: Tensor


class Anchors(NamedTuple):
    """Nodes that a pass takes its bearings from.

    Attributes
    ----------
    layer : (U,) int64
        Index of the layer, or `OWN`.
    node : (U,) int64
        Index among that layer's nodes.
    mean : (U, 2)
        Mean position over the mined images, px.
    scale : (U,)
        Mean score over the mined images.
    """

    layer: Tensor
    node: Tensor
    mean: Tensor
    scale: Tensor


class Pass(NamedTuple):
    """Fitted parameters of a pass.

    Attributes
    ----------
    anchors : Anchors
    parent : (C, M) or (C K, M) int64
        Index among the anchors, for every filter or every pattern.
    distance : like `parent`
        ``d`` of `linking.link`, px^2; ``inf`` for no link.
    patterns : Patterns
    window : (1,)
        Spread of the window in which the map is looked at, px; 0 is the pattern's own spread.
    """

    anchors: Anchors
    parent: Tensor
    distance: Tensor
    patterns: Patterns
    window: Tensor


def gather(layer: Tensor, node: Tensor, found: Mapping[int, Found]) -> tuple[Tensor, Tensor]:
    """Collect positions ``(N, U, 2)`` and scores ``(N, U)`` of nodes from several layers."""
    some = next(iter(found.values()))
    n = some.scores.shape[0]
    positions = some.positions.new_empty((n, len(node), 2))
    scores = some.scores.new_empty((n, len(node)))
    for index in sorted(set(layer.tolist())):
        here = layer == index
        positions[:, here] = found[index].positions[:, node[here]]
        scores[:, here] = found[index].scores[:, node[here]]
    return positions, scores


def expect(fitted: Pass, found: Mapping[int, Found]) -> Tensor:
    """Where the anchors put every pattern.

    Parameters
    ----------
    fitted : Pass
    found : mapping of int to Found
        Of the layers that the anchors come from; `OWN` for the layer's previous pass.

    Returns
    -------
    (n, C, K, 2)
        px.
    """
    anchors = fitted.anchors
    positions, scores = gather(anchors.layer, anchors.node, found)
    links = Links(fitted.parent, fitted.distance, fitted.distance)
    delta = displacements(links, motion(positions, scores, anchors.mean, anchors.scale))
    return displaced(fitted.patterns, delta)


def displaced(patterns: Patterns, delta: Tensor) -> Tensor:
    """Add displacements of the filters ``(n, C, 2)`` or patterns ``(n, C K, 2)`` to their places.

    Returns
    -------
    (n, C, K, 2)
        px.
    """
    c, k = patterns.sigma.shape
    return patterns.mean + delta.reshape(len(delta), c, -1, 2).expand(-1, -1, k, -1)


def infer(fitted: Pass, maps: Tensor, expected: Tensor, grid: Grid) -> Found:
    """Look around the expected places in a layer's maps.

    Parameters
    ----------
    fitted : Pass
    maps : (n, C, H, W)
        Rectified, each filter divided by its scale.
    expected : (n, C, K, 2)
        As `expect` gives them, px.
    grid : Grid

    Returns
    -------
    Found
        Of the ``C K`` patterns.
    """
    window = float(fitted.window)
    if window:
        wide = torch.full_like(fitted.patterns.sigma, window)
        positions, scores = locate(maps.square(), expected, wide, grid)
        scores = scores.sqrt()
    else:
        positions, scores = locate(maps, expected, fitted.patterns.sigma, grid)
    return Found(positions.flatten(1, 2), scores.flatten(1, 2))
