"""From a block of maps to poses and nodes: what mining and parsing both do.

1. *The pose.* Every filter of the highest layers is a guide. Its peak is looked for first; the pose
   that fits the guides' places best (`pose.find_poses`) says where each should be; around there,
   in a wide window, it is looked for again, and so on. Last, the poses of mined images are tried:
   if one of them explains the maps clearly better, it was a better start, and is taken up.
2. *Expected places.* Every part pattern moves with the pose in a way of its own.
3. *Evidence.* Around its expected place the pattern's own map gives position and score, by squared
   activation in a Gaussian window. A window pulls what it shows towards its middle, that is towards
   what the pose said; how far, the spread of what it shows tells, and the pull is taken back, up to
   a limit. Of what is left, a short way to something vague is mostly noise and is hardly gone; the
   way to a peak is, and a long way. The longer the way, the less is the evidence trusted to be of
   this part.

Mining fits what is used here, parsing uses it again on other images, so that what was mined is what
is parsed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from explgraph.linking import MOST_WEIGHT
from explgraph.mixture import Grid, Patterns, gaussians, peaks, survey
from explgraph.pose import (
    PoseModel,
    displacements,
    find_poses,
    outer_products,
    squared_length,
)

__all__ = [
    "Found",
    "Guides",
    "Parts",
    "PoseReader",
    "Prepared",
    "Sighting",
    "Stage",
    "View",
    "bank_evidence",
    "expect",
    "infer",
    "look_again",
    "own_evidence",
    "read_poses",
    "scaled",
    "scouted",
    "sight",
]

_TINY = 1e-9
_LEAST_CLARITY = 0.25  # a window's pull to the middle is taken back fourfold at most
_SILENT = 0.02  # of a filter's mean square: less around a place hardly says where the part is
_DOUBT = 0.1  # of the usual evidence, added to every guide's: a single silent one must not decide
_CLEARLY = 0.02  # gain in log evidence per scout from which on another pose is taken up


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
        >= 0.
    """

    positions: Tensor
    scores: Tensor


class Sighting(NamedTuple):
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
        self, seen: Sighting, near: Tensor | None, outer: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Give the poses (n, q) that a sighting speaks for, and where they put the guides."""
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
    bank : (H, q)
        Poses of mined images, which are tried.
    scouts : (S,) int64
        Guides by which they are judged, ascending.
    scout_sigma : (1,)
        Spread of the Gaussian under which they are looked at, px.
    scout_scale : (S,)
        Mean of what is there.
    """

    guides: Guides
    stages: tuple[Stage, ...]
    reach: Tensor
    bank: Tensor
    scouts: Tensor
    scout_sigma: Tensor
    scout_scale: Tensor

    @property
    def model(self) -> PoseModel:
        """How guides move with the pose."""
        return self.stages[-1].model


class Parts(NamedTuple):
    """The part patterns of a layer, and how each moves.

    Attributes
    ----------
    patterns : Patterns
        Their usual places are those at pose 0.
    loading : (C, K, 2, q)
        px for each unit of the pose.
    window : (1,)
        Spread of the window in which the maps are looked at, px.
    """

    patterns: Patterns
    loading: Tensor
    window: Tensor


def sight(views: Sequence[View], expected: Tensor | None, window: float, reach: float) -> Sighting:
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
    Sighting
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
    return Sighting(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))


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
    judges : list of (S, H W, H)
        By layer: weights of units by which scouts judge the bank's H poses.
    """

    outer: list[Tensor]
    judges: list[Tensor]

    @classmethod
    def of(cls, reader: PoseReader, grids: Mapping[int, Grid]) -> Prepared:
        """Prepare a reader for maps on some grids, by layer index."""
        places = reader.model.places(reader.bank)
        sigma = float(reader.scout_sigma)
        layer = reader.guides.layer[reader.scouts]
        judges = [
            gaussians(places[:, reader.scouts[layer == i]], sigma, grids[i]).permute(1, 2, 0)
            for i in reader.guides.layers()
        ]
        return cls([outer_products(stage.model.loading) for stage in reader.stages], judges)


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
        poses, expected = stage.poses(sight(views, expected, window, reach), expected, outer)
    own = own_evidence(reader, views, poses)
    gain, best = (bank_evidence(reader, views, prepared.judges) - own[:, None]).max(1)
    poses = torch.where((gain > _CLEARLY)[:, None], reader.bank[best], poses)
    return look_again(reader, views, poses, outer)


def look_again(
    reader: PoseReader, views: Sequence[View], poses: Tensor, outer: Tensor | None = None
) -> Tensor:
    """Find poses (n, q) once more, from where the last stage's model puts the guides at `poses`."""
    stage, places = reader.stages[-1], reader.model.places(poses)
    window = float(stage.window)
    # without a window only the peaks are known, which a better start lets one judge anew
    seen = sight(views, places if window else None, window, float(reader.reach))
    return stage.poses(seen, places, outer)[0]


def own_evidence(reader: PoseReader, views: Sequence[View], poses: Tensor) -> Tensor:
    """Mean log evidence of the scouts for each image's own pose (n, q): ``(n,)``."""
    scale = reader.scout_scale.clamp(min=_TINY)
    return (torch.cat(scouted(reader, views, poses), 1) / scale + _DOUBT).log().mean(1)


def bank_evidence(reader: PoseReader, views: Sequence[View], judges: Sequence[Tensor]) -> Tensor:
    """Mean log evidence of the scouts, for every image and every pose of the bank, ``(n, H)``."""
    total = reader.bank.new_zeros((len(views[0].maps), len(reader.bank)))
    start = 0
    for (_, square, _), there in zip(_scouts(reader, views), judges, strict=True):
        under = square.transpose(0, 1) @ there  # (S, n, H)
        usual = reader.scout_scale[start : start + len(under)].clamp(min=_TINY)
        total += (under / usual[:, None, None] + _DOUBT).log().sum(0)
        start += len(under)
    return total / len(reader.scouts)


def scouted(reader: PoseReader, views: Sequence[View], poses: Tensor) -> list[Tensor]:
    """Find the scouts' evidence at each image's own pose.

    It is the squared activation under a Gaussian around the place that the pose puts the scout at.

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
    sigma = float(reader.scout_sigma)
    places = reader.model.places(poses)
    return [
        (square * gaussians(places[:, scouts], sigma, grid)).sum(-1)
        for scouts, square, grid in _scouts(reader, views)
    ]


def _scouts(reader: PoseReader, views: Sequence[View]) -> Iterator[tuple[Tensor, Tensor, Grid]]:
    """Go through the scouts, layer by layer: which they are, their squared maps (n, S, H W)."""
    start = 0
    for maps, grid in views:
        stop = start + maps.shape[1]
        here = reader.scouts[(reader.scouts >= start) & (reader.scouts < stop)]
        yield here, maps[:, here - start].square().flatten(2), grid
        start = stop


def expect(parts: Parts, poses: Tensor) -> Tensor:
    """Where the pose puts every pattern.

    Parameters
    ----------
    parts : Parts
    poses : (n, q)

    Returns
    -------
    (n, C, K, 2)
        px.
    """
    return parts.patterns.mean + displacements(parts.loading, poses)


def infer(parts: Parts, maps: Tensor, expected: Tensor, grid: Grid) -> Found:
    """Look around the expected places in a layer's maps.

    With the window's spread ``w``, ``c`` the clarity of what is seen there, ``C = max(c, 1/4)``,
    its mean square ``m`` and a small constant ``t``,

        s = what is seen - expected, over C, up to the outermost units
        position = expected + s |s|^2 / (|s|^2 + w^2 (1 - c)^2 / C)  m / (m + t)
        score = (m / (1 + |s|^2 / w^2))^(1/2)

    A short step to something vague is mostly noise, a peak is believed, and so is a long way: this
    shrinkage suits errors of which most are small and a few large (Carvalho, Polson and Scott, "The
    horseshoe estimator for sparse signals", Biometrika 2010).

    Parameters
    ----------
    parts : Parts
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
    window = float(parts.window)
    step, scores, clarity = _around(maps, expected, window, grid)
    pulled = clarity.clamp(min=_LEAST_CLARITY)
    seen = expected + step / pulled[..., None]
    first, last = (torch.stack([grid.x[i], grid.y[i]]) for i in (0, -1))
    step = seen.clamp(first, last) - expected  # nothing is beyond the units
    way, strength = squared_length(step), scores.square()
    doubt = (window * (1 - clarity)).square() / pulled
    believed = way / (way + doubt).clamp(min=_TINY) * strength / (strength + _SILENT)
    positions = expected + step * believed[..., None]
    scores = scores * window / (window**2 + way).sqrt()
    return Found(positions.flatten(1, 2), scores.flatten(1, 2))
