"""Which pose images get: how many numbers it has, and from which grid's layers it is read.

For every grid of units a pose is learnt (`learn_pose`); filters that follow it far, on held-out
images, decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from explgraph.errors import ExplgraphError
from explgraph.mining.assemble import NOTHING
from explgraph.mining.layer_maps import LayerMaps, by_grid
from explgraph.mining.learn_pose import Learnt, learn_reader, packed, unpacked
from explgraph.mining.patterns import Motions, pose_worth, still_places
from explgraph.mining.settings import Settings, rules_for
from explgraph.progress import Part
from explgraph.statistics.mixture import Grid

__all__ = ["choose_pose", "learn_poses", "motions_of"]

# times what half of a pose's numbers explain must all of them explain, to be taken: on animals the
# others are mostly noise (0.8 to 1.4 times; other filters give others), on people, whose limbs
# move, and on elephants they are not (1.6)
_MORE_NUMBERS = 1.5
_TRIED = 64  # filters of a layer by which a pose is chosen for it


def learn_poses(
    layers: Sequence[LayerMaps],
    sample: Tensor,
    settings: Settings,
    seed: int,
    area: float,
    part: Part,
) -> list[Learnt]:
    """Learn a pose for every grid that has a filter which fires; `part` moves the bar."""
    learnt = []
    grids = by_grid(layers)
    for group in grids:
        firing = [maps for maps in group if bool((maps.scale > 0).any())]
        if not firing:
            continue

        def ticking(done: float) -> None:
            part(done / len(grids))

        def learn(firing: list[LayerMaps] = firing) -> Sequence[Tensor]:
            return packed(_learn_pose(firing, sample, settings, seed, area, ticking))

        learnt.append(unpacked(list(firing[0].images.once(learn))))
    if not learnt:
        raise ExplgraphError(NOTHING)
    return learnt


def _learn_pose(
    layers: Sequence[LayerMaps],
    sample: Tensor,
    settings: Settings,
    seed: int,
    area: float,
    part: Part,
) -> Learnt:
    """Learn the pose of one grid: with half the numbers, unless all explain clearly more.

    The last numbers of many hardly tell where parts are, and other filters or images would have
    given others: nodes would not be found again.
    """
    maps = {one.layer.index: one.sampled(sample) for one in layers}
    options: list[Learnt] = []
    for numbers in sorted({max(1, settings.pose // 2), settings.pose}):
        options.append(
            learn_reader(
                maps,
                {one.layer.index: one.grid for one in layers},
                side=math.sqrt(area),
                numbers=numbers,
                trajectories=settings.trajectories,
                seed=seed + layers[0].layer.index,
            )
        )
        part(1 / 4)  # measuring what either is worth takes about as long
        if options[-1].poses.shape[1] < numbers:
            return options[-1]  # there are no more
    few, all_ = options[0], options[-1]
    if few is all_:
        return few
    worth = [0.0, 0.0]
    for k, one in enumerate(options):
        for layer in layers:
            worth[k] += _worth(one, layer, maps[layer.layer.index], settings, area, seed)
            part(1 / 4 / len(layers))
    return all_ if worth[1] > _MORE_NUMBERS * worth[0] else few


def _worth(
    learnt: Learnt, layer: LayerMaps, maps: Tensor, settings: Settings, area: float, seed: int
) -> float:
    """Measure what a pose is worth to some filters of a layer, given the sampled images' maps."""
    draws = torch.Generator().manual_seed(seed + layer.layer.index)
    some = torch.randperm(layer.layer.channels, generator=draws)[:_TRIED].sort()[0]
    motions = motions_of(learnt, layer.grid)
    moving = Motions(*(column[motions.moves] for column in motions))
    rules = rules_for(layer.grid, settings, area)
    values = maps[:, some.to(maps.device)]
    return float(pose_worth(values, learnt.poses, moving, layer.grid, rules).double().sum())


def choose_pose(
    layers: Sequence[LayerMaps],
    sample: Tensor,
    learnt: Sequence[Learnt],
    settings: Settings,
    area: float,
    seed: int,
) -> Learnt:
    """Choose the pose that the filters of all layers follow most.

    One for all, that of the layers of one grid: with a pose of its own for a fine layer, nodes were
    not found again when other filters were appended to it.
    """
    if len(learnt) == 1:
        return learnt[0]

    def worth() -> Sequence[Tensor]:
        total = torch.zeros(len(learnt), dtype=torch.float64)
        for maps in layers:
            values = maps.sampled(sample)
            for number, one in enumerate(learnt):
                total[number] += _worth(one, maps, values, settings, area, seed)
        return [total]

    return learnt[int(layers[0].images.once(worth)[0].argmax())]


def motions_of(learnt: Learnt, grid: Grid) -> Motions:
    """Put a pose's trajectories and the places that never move into one list."""
    model = learnt.reader.model.of(learnt.trajectories)
    moving = Motions(
        model.mean, model.loading, torch.ones_like(learnt.trajectories, dtype=torch.bool)
    )
    still = still_places(grid, model.loading.shape[2])
    return Motions(*(torch.cat(column) for column in zip(moving, still, strict=True)))
