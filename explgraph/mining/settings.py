"""What mining can be told, and what is fixed: shares of the image in place of pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real

from explgraph.errors import ExplgraphError
from explgraph.mining.patterns import Rules
from explgraph.statistics.mixture import Bounds, Grid

__all__ = ["Settings", "rules_for"]


@dataclass(frozen=True)
class Settings:
    """What mining can be told; the defaults are those of the tables.

    Attributes
    ----------
    sample : int
        Images from which poses and patterns are learnt, at most; fewer where layers are large.
    pose : int
        Numbers that an image's pose has, at most, for every grid; half as many are taken where
        they explain nearly as much.
    trajectories : int
        How many trajectories filters are held against, at most, for every grid.
    further_gain : float
        What a filter's further patterns must add to the held-out likelihood, as a share of what
        the first one added. Lower: more patterns, and filters of one part are split up.
    apart : float
        Least distance of two patterns of a filter, as a share of the image's side (root of its
        area).
    min_support : float
        Patterns present in a smaller share of the images are left out.
    n_parents : int
        Edges to each node, at most (15 in the paper).
    """

    sample: int = 512
    pose: int = 8
    trajectories: int = 150
    further_gain: float = 0.05
    apart: float = 0.1
    min_support: float = 0.05
    n_parents: int = 5

    def __post_init__(self) -> None:
        for name, kind, low, high in (
            ("sample", int, 1, math.inf),
            ("pose", int, 0, math.inf),
            ("trajectories", int, 0, math.inf),
            ("further_gain", float, 0, 1),
            ("apart", float, 0, 1),
            ("min_support", float, -1, 1),
            ("n_parents", int, 0, math.inf),
        ):
            value = getattr(self, name)
            real = Integral if kind is int else Real  # numpy's numbers, too
            fits = isinstance(value, real) and not isinstance(value, bool)
            if not (fits and low < value <= high and math.isfinite(value)):
                what = "a whole number" if kind is int else "a number"
                raise ExplgraphError(
                    f"{name} must be {what} above {low} and at most {high}, got {value!r}"
                )
            object.__setattr__(self, name, kind(value))


# the rest is fixed: shares of the image's side, unless said otherwise
_LOOK = 0.08  # of the Gaussian under which candidates gather: about as wide as parts show
_START = 0.1  # spread of a new pattern
_SIGMA_MAX = 0.12  # wider, a pattern is a region, no part
_FIRST_GAIN = 0.005  # nats: what chance hardly adds to the likelihood
_LEAST_SHARE = 0.04  # of a filter's activation
_LEAST_BACKGROUND = 0.02  # of a filter's activation: a pattern must not need to explain all
_PRIOR = 20.0  # images: see `mixture.Bounds`


def rules_for(grid: Grid, settings: Settings, area: float) -> Rules:
    """Turn shares of the image into pixels."""
    side, pitch = math.sqrt(area), math.sqrt(grid.cell)
    # narrower, a Gaussian at unit centres is no density any more
    least = pitch / 2
    bounds = Bounds(least, max(_SIGMA_MAX * side, 1.5 * least), _LEAST_BACKGROUND, _PRIOR)
    return Rules(
        area=area,
        look=max(_LOOK * side, least),
        start=max(_START * side, least),
        apart=settings.apart * side,
        bounds=bounds,
        first_gain=_FIRST_GAIN,
        further_gain=settings.further_gain,
        least_share=_LEAST_SHARE,
    )
