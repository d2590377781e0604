"""Reading the pose of an image off its maps: what mining learns, and parsing does again.

A pose reader looks at one grid's layers. Every filter of them is a guide. Its peak is looked for
first; the pose that fits the guides' places best (`pose.find_poses`) says where each should be;
around there, in a wide window, it is looked for again, and so on. Last, the poses of some mined
images, the *exemplars*, are tried: if one of them explains the maps clearly better, as the *checks*
(the best guides) tell, it was a better start, and is taken up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from explgraph.statistics.mixture import Grid, gaussians, peaks, survey
from explgraph.statistics.pose import PoseModel, find_poses, outer_products

__all__ = [
    "Guides",
    "Observed",
    "PoseReader",
    "Prepared",
    "Stage",
    "View",
    "check_evidence",
    "exemplar_evidence",
    "look_again",
    "observe",
    "own_evidence",
    "read_poses",
]

MOST_WEIGHT = 2.0
"""Of a guide in one image, over its usual one: a single strong image must not decide for all."""
_TINY = 1e-9
_LEAST_CLARITY = 0.25  # a window's pull to the middle is taken back fourfold at most
_DOUBT = 0.1  # of the usual evidence, added to every check's: a single silent one must not decide
_CLEARLY = 0.02  # gain in log evidence per check from which on another pose is taken up


class Observed(NamedTuple):
    """Where guides seem to be in some images.

    Attributes
    ----------
    positions : (n, U, 2)
        px.
    scores : (n, U)
        >= 0.
    clarity : (n, U)
        Share of the way from the expected place to the guide's peak that its window lets through:
        0 where activation is even, near 1 for a sharp peak.
    """

    positions: Tensor
    scores: Tensor
    clarity: Tensor

    def weights(self, scale: Tensor) -> Tensor:
        """How much each guide counts, ``(n, U)``; `scale` (U,) are its usual scores."""
        return (self.scores / scale.clamp(min=_TINY)).clamp(max=MOST_WEIGHT) * self.clarity


class Guides(NamedTuple):
    """The filters that poses are read off, those of a layer in a row.

    Attributes
    ----------
    layer, filter : (U,) int64
        Index of the layer, and number of its filter.
    """

    layer: Tensor
    filter: Tensor

    def views(self, maps: Mapping[int, Tensor], grids: Mapping[int, Grid]) -> list[View]:
        """Pick the guides' maps from those of all filters, by layer index."""
        return [View(maps[i][:, self.filter[self.layer == i]], grids[i]) for i in self.layers()]

    def layers(self) -> list[int]:
        """Name the guides' layers in their order."""
        return list(dict.fromkeys(self.layer.tolist()))


class View(NamedTuple):
    """Some guides of one layer in some images.

    Attributes
    ----------
    maps : (n, U, H, W)
        Rectified, each filter divided by its scale.
    grid : Grid
    """

    maps: Tensor
    grid: Grid


class Stage(NamedTuple):
    """One look at the guides, and what it says of the pose.

    Attributes
    ----------
    window : (1,)
        Spread of the window around the expected places, px; 0 looks for the peaks.
    scale : (U,)
        Mean score of each guide.
    model : PoseModel
    """

    window: Tensor
    scale: Tensor
    model: PoseModel

    def poses(
        self, seen: Observed, near: Tensor | None, outer: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Give the poses (n, q) that an observation speaks for, and where they put the guides."""
        near = self.model.mean.expand_as(seen.positions) if near is None else near
        weights = seen.weights(self.scale)
        poses = find_poses(self.model, seen.positions, weights, near, outer=outer)
        return poses, self.model.places(poses)


class PoseReader(NamedTuple):
    """What is needed to read poses off maps; the last stage's model is the one that counts.

    Attributes
    ----------
    guides : Guides
    stages : tuple of Stage
        The first looks for peaks.
    reach : (1,)
        Of the peaks' refinement, px.
    exemplars : (H, q)
        Poses of mined images, which are tried.
    checks : (S,) int64
        Guides by which they are judged, ascending.
    check_sigma : (1,)
        Spread of the Gaussian under which they are looked at, px.
    check_scale : (S,)
        Mean of what is there.
    """

    guides: Guides
    stages: tuple[Stage, ...]
    reach: Tensor
    exemplars: Tensor
    checks: Tensor
    check_sigma: Tensor
    check_scale: Tensor

    @property
    def model(self) -> PoseModel:
        """How guides move with the pose."""
        return self.stages[-1].model


def observe(
    views: Sequence[View], expected: Tensor | None, window: float, reach: float
) -> Observed:
    """Look for the guides: the peaks of their maps, or what is around their expected places.

    Parameters
    ----------
    views : sequence of View
        Of all guides.
    expected : (n, U, 2), optional
        px.
    window : float
        Spread of the window around it, px.
    reach : float
        Of the peaks' refinement, px.

    Returns
    -------
    Observed
    """
    parts = []
    start = 0
    for maps, grid in views:
        if expected is None:
            positions, scores = peaks(maps, grid, reach)
            parts.append((positions, scores, torch.ones_like(scores)))
            continue
        there = expected[:, start : start + maps.shape[1]]
        start += maps.shape[1]
        step, scores, clarity = _around(maps, there[:, :, None], window, grid)
        step = step / clarity.clamp(min=_LEAST_CLARITY)[..., None]
        parts.append((there + step[:, :, 0], scores[:, :, 0], clarity[:, :, 0]))
    return Observed(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))


def _around(
    maps: Tensor, expected: Tensor, window: float, grid: Grid
) -> tuple[Tensor, Tensor, Tensor]:
    """Look around places (n, C, K, 2): steps from there, scores, clarity."""
    step, variance, scores = survey(maps, expected, window, grid)
    # a window of variance s^2 lets 1 - variance / s^2 of the way to a Gaussian peak through
    clarity = (1 - variance / window**2).clamp(0, 1)
    return step, scores.sqrt(), torch.where(scores > 0, clarity, 0.0)


class Prepared(NamedTuple):
    """What a reader needs for all images alike; for one image it is half of the work.

    Attributes
    ----------
    outer : list of (U, q q)
        By stage: `pose.outer_products` of its model.
    check_weights : list of (S, H W, H)
        By layer: weights of units by which checks judge the H exemplars.
    """

    outer: list[Tensor]
    check_weights: list[Tensor]

    @classmethod
    def of(cls, reader: PoseReader, grids: Mapping[int, Grid]) -> Prepared:
        """Prepare a reader for maps on some grids, by layer index."""
        places = reader.model.places(reader.exemplars)
        sigma = float(reader.check_sigma)
        layer = reader.guides.layer[reader.checks]
        check_weights = [
            gaussians(places[:, reader.checks[layer == i]], sigma, grids[i]).permute(1, 2, 0)
            for i in reader.guides.layers()
        ]
        return cls([outer_products(stage.model.loading) for stage in reader.stages], check_weights)


def read_poses(
    reader: PoseReader,
    maps: Mapping[int, Tensor],
    grids: Mapping[int, Grid],
    prepared: Prepared | None = None,
) -> Tensor:
    """Find the poses of some images.

    Parameters
    ----------
    reader : PoseReader
    maps : mapping of int to (n, C, H, W)
        By layer index; rectified, each filter divided by its scale.
    grids : mapping of int to Grid
    prepared : Prepared, optional
        For this reader and these grids.

    Returns
    -------
    (n, q)
    """
    views = reader.guides.views(maps, grids)
    prepared = prepared or Prepared.of(reader, grids)
    reach = float(reader.reach)
    expected = None
    for stage, outer in zip(reader.stages, prepared.outer, strict=True):
        window = float(stage.window)
        poses, expected = stage.poses(observe(views, expected, window, reach), expected, outer)
    own = own_evidence(reader, views, poses)
    gain, best = (exemplar_evidence(reader, views, prepared.check_weights) - own[:, None]).max(1)
    poses = torch.where((gain > _CLEARLY)[:, None], reader.exemplars[best], poses)
    return look_again(reader, views, poses, outer)


def look_again(
    reader: PoseReader, views: Sequence[View], poses: Tensor, outer: Tensor | None = None
) -> Tensor:
    """Find poses (n, q) once more, from where the last stage's model puts the guides at `poses`."""
    stage, places = reader.stages[-1], reader.model.places(poses)
    window = float(stage.window)
    # without a window only the peaks are known, which a better start lets one judge anew
    seen = observe(views, places if window else None, window, float(reader.reach))
    return stage.poses(seen, places, outer)[0]


def own_evidence(reader: PoseReader, views: Sequence[View], poses: Tensor) -> Tensor:
    """Mean log evidence of the checks for each image's own pose (n, q): ``(n,)``."""
    scale = reader.check_scale.clamp(min=_TINY)
    return (torch.cat(check_evidence(reader, views, poses), 1) / scale + _DOUBT).log().mean(1)


def exemplar_evidence(
    reader: PoseReader, views: Sequence[View], check_weights: Sequence[Tensor]
) -> Tensor:
    """Mean log evidence of the checks, for every image and every exemplar, ``(n, H)``."""
    total = reader.exemplars.new_zeros((len(views[0].maps), len(reader.exemplars)))
    start = 0
    for (_, square, _), there in zip(_checks(reader, views), check_weights, strict=True):
        under = square.transpose(0, 1) @ there  # (S, n, H)
        usual = reader.check_scale[start : start + len(under)].clamp(min=_TINY)
        total += (under / usual[:, None, None] + _DOUBT).log().sum(0)
        start += len(under)
    return total / len(reader.checks)


def check_evidence(reader: PoseReader, views: Sequence[View], poses: Tensor) -> list[Tensor]:
    """Find the checks' evidence at each image's own pose.

    It is the squared activation under a Gaussian around the place that the pose puts the check at.

    Parameters
    ----------
    reader : PoseReader
    views : sequence of View
        Of all guides.
    poses : (n, q)

    Returns
    -------
    list of (n, S)
        Layer by layer.
    """
    sigma = float(reader.check_sigma)
    places = reader.model.places(poses)
    return [
        (square * gaussians(places[:, checks], sigma, grid)).sum(-1)
        for checks, square, grid in _checks(reader, views)
    ]


def _checks(reader: PoseReader, views: Sequence[View]) -> Iterator[tuple[Tensor, Tensor, Grid]]:
    """Go through the checks, layer by layer: which they are, their squared maps (n, S, H W)."""
    start = 0
    for maps, grid in views:
        stop = start + maps.shape[1]
        here = reader.checks[(reader.checks >= start) & (reader.checks < stop)]
        yield here, maps[:, here - start].square().flatten(2), grid
        start = stop
