"""Mining one layer, once poses are known: patterns, those of decoys, and what nodes are like."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from explgraph.activations.streaming import Images, Table
from explgraph.mining.assemble import MinedLayer
from explgraph.mining.choose_pose import motions_of
from explgraph.mining.layer_maps import LayerMaps
from explgraph.mining.learn_pose import Learnt
from explgraph.mining.patterns import Motions, Patterns, Rules, find_patterns
from explgraph.mining.settings import Settings, rules_for
from explgraph.mining.tracks import Tracks, track
from explgraph.progress import Part, Stages
from explgraph.statistics.fitted import FittedLayer
from explgraph.statistics.inference import infer
from explgraph.statistics.mixture import Mixture
from explgraph.statistics.reliability import rated, together

__all__ = ["LAYER", "mine_layer"]

# s that stages took with 187 photographs: how far each moves the bar
_PATTERNS, _LOOKING = 8.5, 0.5
LAYER = _PATTERNS + _LOOKING
"""How long a layer takes in all, in the same unit."""
_DECOYS = 128  # filters of a layer that are looked at as decoys, at most


class _Decoys(NamedTuple):
    """Patterns (D, K) of decoys, their presence in the sample (D, K, S), and what each stands for.

    Attributes
    ----------
    share, gain, following : (D, K)
    moving : (D, K) bool
    presence : (D, K, S)
    times : int
        Filters that each stands for.
    """

    share: Tensor
    gain: Tensor
    following: Tensor
    moving: Tensor
    presence: Tensor
    times: int


def mine_layer(
    maps: LayerMaps,
    learnt: Learnt,
    poses: Table,
    sample: Tensor,
    sample_poses: Tensor,
    settings: Settings,
    *,
    area: float,
    seed: int,
    stages: Stages,
) -> MinedLayer:
    """Find a layer's patterns in the sample, look for them in all images, and measure them.

    Parameters
    ----------
    maps : LayerMaps
    learnt : Learnt
        The pose, and trajectories along which patterns may move.
    poses : Table (N, q)
        Of all images.
    sample : (S,) int64
        Images from which patterns are learnt, ascending.
    sample_poses : (S, q)
    settings : Settings
    area : float
        Of an image, px^2.
    seed : int
    stages : Stages
        The bar, which goes on by `LAYER`.

    Returns
    -------
    MinedLayer
    """
    motions = motions_of(learnt, maps.grid)
    with stages.stage(_PATTERNS, f"{maps.layer.name}: patterns") as part:
        patterns, decoys = _find(maps, sample, sample_poses, motions, settings, area, seed, part)
    images, mixture = maps.images, patterns.mixture
    fitted = _fitted(maps.scale, patterns)
    with stages.stage(_LOOKING, f"{maps.layer.name}: places") as part:

        def places() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
            for here, block in maps.blocks():
                yield infer(fitted, block, poses.read(here), maps.grid, area)[:3]
                part(len(block) / images.n)

        found = track(images, places())
    support = _support(images, found)
    alive = (mixture.share > 0).flatten()
    moving = motions.moves[patterns.motion].flatten()
    presence = images.rows(found.table, sample)[..., 2]
    filters = torch.arange(len(alive), device=alive.device) // mixture.share.shape[1]
    company, false_company = together(presence, alive, filters, decoys.presence.flatten(0, 1).T)
    following = patterns.following.flatten()
    reliability = rated(patterns.gain.flatten(), moving, following, company)
    false = rated(
        decoys.gain.flatten(), decoys.moving.flatten(), decoys.following.flatten(), false_company
    )
    false = false[(false > 0) & (decoys.share.flatten() > 0)].repeat_interleave(decoys.times)
    centred = sample_poses - sample_poses.mean(0)
    covariance = centred.T @ centred / max(len(centred) - 1, 1)
    moved = torch.einsum("ckiq,qr,ckir->ck", fitted.loading, covariance, fitted.loading) / 2
    explained = (moved / (moved + mixture.sigma.square())).flatten()
    return MinedLayer(
        layer=maps.layer,
        fitted=fitted._replace(decoys=false.sort(descending=True)[0]),
        found=found,
        energy=mixture.share.flatten(),
        support=support,
        gain=patterns.gain.flatten(),
        reliability=torch.where(alive, reliability, 0.0),
        follows=torch.where(following > 0, explained, 0.0).clamp(0, 1),
        kept=_kept(alive & (support >= settings.min_support), reliability, mixture.share.shape[1]),
        following=float(patterns.following.sum(1)[maps.scale > 0].mean().nan_to_num()),
    )


def _find(
    maps: LayerMaps,
    sample: Tensor,
    poses: Tensor,
    motions: Motions,
    settings: Settings,
    area: float,
    seed: int,
    part: Part,
) -> tuple[Patterns, _Decoys]:
    """Find a layer's patterns, and those of decoys."""
    c = maps.layer.channels
    rules = rules_for(maps.grid, settings, area)
    draws = torch.Generator().manual_seed(seed + maps.layer.index)
    chosen = torch.randperm(c, generator=draws)[:_DECOYS].sort()[0]
    order = torch.rand(len(sample), len(chosen), generator=draws, dtype=torch.float32).argsort(0)
    sampled: list[Tensor] = []

    def some(which: slice | Tensor) -> Tensor:
        if not sampled:  # only if there is work left, and never into a checkpoint
            sampled.append(maps.sampled(sample))
        return sampled[0][:, which]

    def ticking(filters: float) -> None:
        part(filters / (c + len(chosen)))

    def work(here: slice) -> Sequence[Tensor]:
        found = find_patterns(some(here), poses, motions, maps.grid, rules, ticking)
        return [*found.mixture, *found[1:]]

    def decoy(here: slice) -> Sequence[Tensor]:
        values = some(chosen[here].to(maps.scale.device))
        shuffled = values.gather(
            0, order[:, here].to(values.device)[..., None, None].expand_as(values)
        )
        found = find_patterns(shuffled, poses, motions, maps.grid, rules, ticking)
        filled = _filled(found, rules)
        scale = maps.scale[chosen[here].to(maps.scale.device)]
        there = infer(_fitted(scale, filled), shuffled, poses, maps.grid, area)
        presence = there.scores.T.reshape(*found.motion.shape, len(sample))
        moving = motions.moves[found.motion] & (found.mixture.share > 0)
        return [found.mixture.share, found.gain, found.following, moving, presence]

    *mixture, loading, motion, gain, following = maps.images.shared(c, work)
    share, gained, follow, moves, presence = maps.images.shared(len(chosen), decoy)
    decoys = _Decoys(share, gained, follow, moves, presence, math.ceil(c / len(chosen)))
    return _filled(Patterns(Mixture(*mixture), loading, motion, gain, following), rules), decoys


def _filled(patterns: Patterns, rules: Rules) -> Patterns:
    """Give patterns that there are not a spread that can be divided by."""
    mixture = patterns.mixture
    sigma = torch.where(mixture.share > 0, mixture.sigma, rules.start)
    return patterns._replace(mixture=mixture._replace(sigma=sigma))


def _fitted(scale: Tensor, patterns: Patterns) -> FittedLayer:
    """Put what parsing needs of a layer together; decoys are added later."""
    mixture = patterns.mixture
    return FittedLayer(
        scale,
        mixture.mean,
        patterns.loading,
        mixture.sigma,
        mixture.share,
        mixture.background,
        scale.new_zeros(0),
    )


def _kept(there: Tensor, reliability: Tensor, patterns: int) -> Tensor:
    """Which patterns become nodes: the reliable ones; of a filter without any, its first."""
    reliable = (there & (reliability > 0)).reshape(-1, patterns)
    first = torch.zeros_like(reliable)
    first[:, 0] = there.reshape(-1, patterns)[:, 0] & ~reliable.any(1)
    return (reliable | first).flatten()


def _support(images: Images, found: Tracks) -> Tensor:
    """Share of images in which a node is there rather than not."""
    (count,) = images.sum(((found.read(here)[1] >= 0.5).sum(0),) for here in images)
    return (count / images.n).float()
