"""How much of where an image's guides fire one pose explains.

The pose that was read off an image puts every check (the guides that explain best) at a place.
`explained` says how likely the check's activation is under a Gaussian around it and a background:
the log-likelihood, in nats per unit of activation, over activation that is anywhere, on average
over the checks. Eight numbers are read off some hundred filters, so what they fit by chance is next
to nothing, in images that were mined as in others.

Where several objects fire the same filters, one pose explains those of one object at most, and one
that lies between them none. What share of the usual it is (the median of the mined images) tells
them from images of one object, whatever the network and the kind of image: `HOLDS`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from explgraph.statistics.mixture import Grid, gaussians
from explgraph.statistics.pose_reader import PoseReader

__all__ = ["HOLDS", "explained"]

HOLDS = 0.4
"""Share of what is usual that one pose must explain: see benchmarks/several_objects.py.

Chosen on creatures, dogs and mice; measured on the other sets.
"""
_BACKGROUND = 0.3  # of activation is anywhere, about what mixtures leave to it
_TINY = 1e-9


def explained(
    reader: PoseReader,
    maps: Mapping[int, Tensor],
    grids: Mapping[int, Grid],
    poses: Tensor,
    area: float,
) -> Tensor:
    """Measure how much of where checks fire each image's pose explains.

    Parameters
    ----------
    reader : PoseReader
    maps : mapping of int to (n, C, H, W)
        By layer index; rectified, each filter divided by its scale.
    grids : mapping of int to Grid
    poses : (n, q)
        Of these images.
    area : float
        Of an image, px^2.

    Returns
    -------
    (n,)
        Nats per unit of activation; 0 is no better than anywhere.
    """
    layers, filters = (values[reader.checks] for values in reader.guides)
    places = reader.model.of(reader.checks).places(poses)
    sigma = float(reader.check_sigma)
    gained = weights = poses.new_zeros(len(poses))
    for index in reader.guides.layers():
        here = layers == index
        squares = maps[index][:, filters[here]].square().flatten(2)
        density = gaussians(places[:, here], sigma, grids[index]) * (area / grids[index].cell)
        nats = torch.log1p((density - 1) * (1 - _BACKGROUND))
        total = squares.sum(2)
        # a filter's squares sum to one on average: what fires more than usual counts once
        weight = total.clamp(max=1)
        mean = (squares * nats).sum(2) / total.clamp(min=_TINY)
        gained = gained + (mean * weight).sum(1)
        weights = weights + weight.sum(1)
    return gained / weights.clamp(min=_TINY)
