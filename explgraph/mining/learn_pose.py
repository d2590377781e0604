"""Learning to read poses off one grid's layers, from a sample of images: see `pose_reader`.

The guides' peaks give first poses (their principal components that are no chance) and a first model
of how guides move with them; the guides are then looked for around where that puts them, in
narrower windows, and the model is learnt again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from explgraph.statistics.mixture import Grid
from explgraph.statistics.pose import PoseModel, distinct_guides, fit_poses, principal_poses
from explgraph.statistics.pose_reader import (
    Guides,
    Observed,
    PoseReader,
    Stage,
    check_evidence,
    observe,
    read_poses,
)

__all__ = ["Learnt", "learn_reader"]

# lengths are shares of the image's side
_WINDOWS = (0.3, 0.2)  # of the looks after the peaks; a third look changes nothing
_FIRST_ITERATIONS, _ITERATIONS = 15, 5  # of fitting poses to peaks, and to later looks
_GUIDES = 2000  # the best explained, at most; and at most half of all: the others follow nothing
_CHECKS = 300  # that judge exemplars
_EXEMPLARS = 256
_REACH = 0.16  # of a peak's refinement
_CHECK_SIGMA = 0.12
_DISTINCT = 0.04  # least distance of trajectories
_FLOOR = 1e-4  # least variance of a guide, of the image's area: a hundredth of its side
_BLOCK = 32  # images at a time


class Learnt(NamedTuple):
    """A reader, and what it says of the sample.

    Attributes
    ----------
    reader : PoseReader
    trajectories : (A,) int64
        Guides along which filters are looked at: well explained, and not alike.
    poses : (S, q)
    """

    reader: PoseReader
    trajectories: Tensor
    poses: Tensor


def learn_reader(
    maps: Mapping[int, Tensor],
    grids: Mapping[int, Grid],
    *,
    side: float,
    numbers: int,
    trajectories: int,
    seed: int,
) -> Learnt:
    """Learn how the filters of some layers of one grid move together.

    Parameters
    ----------
    maps : mapping of int to (S, C, H, W)
        Sampled images' maps by layer index; rectified, each filter divided by its scale.
    grids : mapping of int to Grid
    side : float
        Of the image (root of its area), px.
    numbers : int
        That a pose has at most.
    trajectories : int
        At most.
    seed : int

    Returns
    -------
    Learnt
    """
    n = len(next(iter(maps.values())))
    device = next(iter(maps.values())).device
    blocks = [slice(i, min(i + _BLOCK, n)) for i in range(0, n, _BLOCK)]
    counts = [(index, values.shape[1]) for index, values in maps.items()]
    guides = Guides(
        torch.cat([torch.full((c,), i, dtype=torch.int64, device=device) for i, c in counts]),
        torch.cat([torch.arange(c, device=device) for _, c in counts]),
    )
    reach = _REACH * side

    def part(here: slice) -> dict[int, Tensor]:
        return {index: values[here] for index, values in maps.items()}

    def look(guides: Guides, expected: Tensor | None, window: float) -> Observed:
        seen = [
            observe(
                guides.views(part(here), grids),
                None if expected is None else expected[here],
                window,
                reach,
            )
            for here in blocks
        ]
        return Observed(*(torch.cat(column) for column in zip(*seen, strict=True)))

    def learn(seen: Observed, window: float, poses: Tensor | None, n_iter: int) -> Stage:
        scale = seen.scores.mean(0)
        weights = seen.weights(scale)
        if poses is None:
            poses = principal_poses(seen.positions, weights, numbers, seed)
        model = fit_poses(seen.positions, weights, poses, n_iter=n_iter, floor=_FLOOR * side**2)
        return Stage(scale.new_tensor([window]), scale, model)

    seen = look(guides, None, 0.0)
    stage = learn(seen, 0.0, None, _FIRST_ITERATIONS)
    best = stage.model.explained().topk(min(_GUIDES, math.ceil(len(guides.layer) / 2)))[1].sort()[0]
    guides = Guides(*(values[best] for values in guides))
    seen = Observed(*(values[:, best] for values in seen))
    stages = [Stage(stage.window, stage.scale[best], stage.model.of(best))]
    poses, expected = stages[0].poses(seen, None)
    for window in _WINDOWS:
        seen = look(guides, expected, window * side)
        stages.append(learn(seen, window * side, poses, _ITERATIONS))
        poses, expected = stages[-1].poses(seen, expected)

    checks = stages[-1].model.explained().topk(min(_CHECKS, len(best)))[1].sort()[0]
    some = torch.linspace(0, n - 1, min(_EXEMPLARS, n), dtype=torch.float32).long()
    reader = PoseReader(
        guides,
        tuple(stages),
        expected.new_tensor([reach]),
        poses[some],
        checks,
        expected.new_tensor([_CHECK_SIGMA * side]),
        expected.new_ones(len(checks)),
    )
    usual = sum(
        (
            torch.cat(check_evidence(reader, guides.views(part(here), grids), poses[here]), 1)
            .double()
            .sum(0)
            for here in blocks
        ),
        torch.zeros((), dtype=torch.float64, device=device),
    )
    reader = reader._replace(check_scale=(usual / n).float())
    read = torch.cat([read_poses(reader, part(here), grids) for here in blocks])
    chosen = distinct_guides(reader.model, read, trajectories, _DISTINCT * side)
    return Learnt(reader, chosen, read)


def packed(learnt: Learnt) -> list[Tensor]:
    """All tensors of what was learnt in a row, for `unpacked`."""
    reader = learnt.reader
    stages = [t for s in reader.stages for t in (s.window, s.scale, *s.model)]
    rest = (reader.reach, reader.exemplars, reader.checks, reader.check_sigma, reader.check_scale)
    return [*reader.guides, *rest, learnt.trajectories, learnt.poses, *stages]


def unpacked(tensors: list[Tensor]) -> Learnt:
    """Put together what `packed` laid in a row."""
    stages = [
        Stage(tensors[i], tensors[i + 1], PoseModel(*tensors[i + 2 : i + 5]))
        for i in range(9, len(tensors), 5)
    ]
    reader = PoseReader(Guides(*tensors[:2]), tuple(stages), *tensors[2:7])
    return Learnt(reader, tensors[7], tensors[8])
