"""Mining: from recorded activations to an explanatory graph.

1. Every filter's map is divided by a scale, so that its squares sum to 1 per image in mean: squared
   activation counts as observations of where the filter fires.
2. *Poses* (`learn_pose`). From a sample of the images, for every grid of units: the filters' peaks
   give each image a pose of a few numbers, and every filter a trajectory, where it is at which
   pose. Which grid knows the object better differs from data to data: that pose is taken which the
   filters of all layers follow most on held-out images.
3. *Part patterns* (`patterns`), filter by filter, from the same sample: a mixture whose patterns
   move by a trajectory or stand still; their number, motions, places, spreads and shares are
   decided by held-out likelihood. Decoys, filters whose maps are exchanged among the images, show
   what chance reaches.
4. In all images the patterns compete for the maps (`inference`): places and scores. Patterns with
   evidence of their own (`reliability`) become nodes, and of a filter without any its first.
5. *Edges* (`linking`) join nodes to those of the layer above that they fire with and sit at, beyond
   what the pose says.

Everything depends on the seed, the settings and the activations only.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from explgraph.activations.checkpoint import Checkpoint
from explgraph.activations.processes import Team
from explgraph.activations.recording import record
from explgraph.activations.store import ActivationStore, open_store
from explgraph.activations.streaming import BLOCK, Images, Source
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.images.batches import AnyImages
from explgraph.images.folder import ImageFolder
from explgraph.mining.assemble import NOTHING, MinedLayer, assemble, versions
from explgraph.mining.learn_pose import Learnt, learn_reader, packed, unpacked
from explgraph.mining.patterns import (
    Motions,
    Patterns,
    Rules,
    find_patterns,
    pose_worth,
    still_places,
)
from explgraph.mining.settings import Settings, rules_for
from explgraph.mining.tracks import Tracks, track
from explgraph.network.forward import checked_device
from explgraph.network.geometry import Layer
from explgraph.statistics.fitted import Fitted, FittedLayer
from explgraph.statistics.inference import infer, scaled
from explgraph.statistics.mixture import Grid, Mixture
from explgraph.statistics.reliability import rated, together, warn_if_weak

__all__ = ["mine", "mine_activations"]


_SAMPLE_BYTES = 1 << 30  # of a grid's maps, in memory at a time
_LEAST_SAMPLE = 64
# times what half of a pose's numbers explain must all of them explain, to be taken: on animals the
# others are noise (0.8 to 1.1 times), on people, whose limbs move, they are not (2.9)
_MORE_NUMBERS = 1.25
_TRIED = 64  # filters of a layer by which a pose is chosen for it
_DECOYS = 128  # filters of a layer that are looked at as decoys, at most
_MOST_SEED = 2**40  # seeds are multiplied to give each layer its own draws


class LayerMaps(NamedTuple):
    """A layer's maps, and how they are read.

    Attributes
    ----------
    images : Images
    source : Source
        Of the activations.
    layer : Layer
    scale : (C,)
        Of the filters (`filter_scale`).
    grid : Grid
    """

    images: Images
    source: Source
    layer: Layer
    scale: Tensor
    grid: Grid

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Go through blocks of maps ``(n, C, H, W)``, each filter divided by its scale."""
        for here, maps in self.images.maps(self.source, self.layer.index):
            yield here, scaled(maps, self.scale)

    def sampled(self, sample: Tensor) -> Tensor:
        """Collect the maps ``(S, C, H, W)`` of some images, ascending."""

        def rows() -> Iterator[tuple[Tensor, Tensor]]:
            for here, maps in self.blocks():
                which = ((sample >= here.start) & (sample < here.stop)).nonzero()[:, 0]
                yield which, maps[sample[which] - here.start]

        return self.images.pick(len(sample), rows())


def mine(
    model: nn.Module | None = None,
    images: AnyImages | None = None,
    layers: Sequence[str] | None = None,
    *,
    store: str | os.PathLike[str] | ActivationStore | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int = 0,
    device: str = "auto",
    batch_size: int = 32,
    settings: Settings | None = None,
    progress: bool = False,
) -> ExplanatoryGraph:
    """Mine an explanatory graph from a trained network and images, or from a store of activations.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode. None, as `images` and `layers` then are, to mine from a `store` that
        was recorded before.
    images : ImageFolder, (N, 3, H, W) tensor, Dataset or DataLoader
        Normalised as the model expects it. One object per image is assumed: a crop, or a
        photograph that shows one.
    layers : sequence of str
        Names of modules whose outputs are feature maps; their order doesn't matter.
    store : path, URL or ActivationStore, optional
        Activations on disk. With a model they are recorded there, as far as they are missing;
        without a store they are held in memory.
    checkpoint : path, optional
        Folder for what is finished, from which an interrupted run goes on: see `mine_activations`.
    seed : int
    device : str
        Where the model runs and the arithmetic of mining is done; "auto" is the GPU if there is
        one.
    batch_size : int
        Images per forward pass; the result does not depend on it beyond rounding.
    settings : Settings, optional
    progress : bool
        Show bars on a terminal.

    Returns
    -------
    ExplanatoryGraph

    Raises
    ------
    ExplgraphError
        See `explgraph.record` and `explgraph.open_store`; also if there is one image only, no
        filter of the layers ever fires, or several processes have no store.
    """
    settings = _checked(settings, seed)
    activations: Source
    if model is None:
        if store is None or images is not None or layers is not None:
            raise ExplgraphError("mine needs a model, images and layers, or else a store alone")
        activations = store if isinstance(store, ActivationStore) else open_store(store)
        preprocessing = activations.preprocessing
    elif images is None or layers is None or isinstance(store, ActivationStore):
        raise ExplgraphError(
            "mine needs images and layers with a model, and the path of a store, if any"
        )
    else:
        if store is None and Team().size > 1:
            raise ExplgraphError(
                "several processes need store=..., a place where all of them can read and write"
            )
        activations = record(
            model,
            images,
            layers,
            store=store,
            batch_size=batch_size,
            device=device,
            progress=progress,
        )
        preprocessing = images.describe() if isinstance(images, ImageFolder) else {}
    return mine_activations(
        activations,
        seed=seed,
        settings=settings,
        preprocessing=preprocessing,
        checkpoint=checkpoint,
        device=device,
        progress=progress,
    )


def mine_activations(
    activations: Source,
    *,
    seed: int = 0,
    settings: Settings | None = None,
    preprocessing: dict[str, Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> ExplanatoryGraph:
    """Mine an explanatory graph from activations that were recorded before: see `mine`.

    Parameters
    ----------
    activations : Activations or another Source
    seed : int
    settings : Settings, optional
    preprocessing : dict, optional
        How images were made ready; kept in the graph.
    checkpoint : path, optional
        Folder for what is finished: an interrupted run that is started again goes on there and
        gives the same graph. Delete it (`explgraph.activations.checkpoint.discard`) once the graph
        is saved.
    device : str
        Where the arithmetic is done; "auto" is the GPU if there is one.
    progress : bool

    Returns
    -------
    ExplanatoryGraph

    Raises
    ------
    ExplgraphError
        If the checkpoint is of another job, there are fewer than two images, or no filter of the
        layers ever fires.
    """
    settings = _checked(settings, seed)
    if len(activations.names) < 2:
        raise ExplgraphError(
            "mining needs two images or more, since patterns found in some are judged on others; "
            f"got {len(activations.names)}"
        )
    target = checked_device(device)
    team = Team()
    bar = tqdm(
        total=2 * len(activations.layers),
        desc="mining",
        unit="step",
        delay=2,
        disable=None if progress and team.rank == 0 else True,
    )
    with bar, torch.no_grad(), ExitStack() as stack:
        kept = folder = None
        if checkpoint is not None:
            kept = Checkpoint(checkpoint, _job(activations, settings, seed), team)
        elif not activations.in_memory:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="explgraph-")))
        images = Images(
            len(activations.names), folder=folder, checkpoint=kept, team=team, device=target
        )
        layers = []
        for layer in reversed(activations.layers):
            layers.append(_layer_maps(images, activations, layer))
            bar.update()
        graph = _mine(images, activations, layers, settings, seed, preprocessing or {}, bar.update)
    if not any(reliability > 0 for _, reliability in graph.nx.nodes(data="reliability")):
        warnings.warn(
            f"no filter follows what moves in these {images.n} images, so that no node is "
            "reliable; give some dozens of images or more, of one kind of object, normalised as "
            "the model expects them (mean, std)",
            ExplgraphWarning,
            stacklevel=2,
        )
    else:
        warn_if_weak(graph.nx.graph["config"])
    return graph


def _job(activations: Source, settings: Settings, seed: int) -> dict[str, Any]:
    """Name what the steps of mining depend on."""
    return {
        "activations": activations.fingerprint,
        "settings": asdict(settings),
        "seed": seed,
        "block": BLOCK,
        "versions": versions(),
    }


def _checked(settings: Settings | None, seed: int) -> Settings:
    """Give the settings, or the defaults; refuse what is neither, and seeds that can't be used."""
    if not isinstance(settings, Settings | None):
        raise ExplgraphError(f"settings must be an explgraph.Settings, got {settings!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < _MOST_SEED:
        raise ExplgraphError(
            f"seed must be a whole number from 0 to {_MOST_SEED - 1}, got {seed!r}"
        )
    return settings or Settings()


def filter_scale(images: Images, maps: Iterable[Tensor]) -> Tensor:
    """Measure each filter's root mean total of squares per image, ``(C,)``; 0 if it never varies.

    Parameters
    ----------
    images : Images
    maps : iterable of (n, C, H, W)
        Of all blocks.
    """

    def moments(block: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        variance, mean = (m.double() for m in torch.var_mean(block, (0, 2, 3), correction=0))
        count = torch.full_like(mean, block[:, 0].numel())
        return count, count * mean, count * (variance + mean.square())

    count, first, second = images.sum(moments(block) for block in maps)
    square = second / count
    deviation = (square - (first / count).square()).clamp(min=0).sqrt()
    # what rounding makes of a constant map is no variation
    return torch.where(deviation > 1e-5 * square.sqrt(), (second / images.n).sqrt(), 0.0).float()


def _layer_maps(images: Images, source: Source, layer: Layer) -> LayerMaps:
    """Measure a layer's scale."""
    scale = filter_scale(images, (maps for _, maps in images.maps(source, layer.index)))
    return LayerMaps(images, source, layer, scale, Grid.of(layer, images.device))


def _mine(
    images: Images,
    activations: Source,
    layers: Sequence[LayerMaps],
    settings: Settings,
    seed: int,
    preprocessing: dict[str, Any],
    tick: Any,
) -> ExplanatoryGraph:
    """Do all the steps: see the module."""
    height, width = activations.image_size
    area = float(height * width)
    sample = _sample(images, layers, settings, seed)
    poses_learnt = _learn_poses(layers, sample, settings, seed, area)
    learnt = _choose_pose(layers, sample, poses_learnt, settings, area, seed)
    reading = Fitted(learnt.reader, {})
    grids = {maps.layer.index: maps.grid for maps in layers}
    prepared = reading.prepared(grids)
    guiding = [m for m in layers if m.layer.index in learnt.reader.guides.layers()]
    poses = images.table(reading.poses(block, grids, prepared) for _, block in _together(guiding))
    sample_poses = images.rows(poses, sample)
    mined: list[MinedLayer] = []
    for maps in layers:
        motions = _motions(learnt, maps.grid)
        patterns, decoys = _find(maps, sample, sample_poses, motions, settings, area, seed)
        mined.append(
            _mine_layer(
                maps, patterns, decoys, poses, sample, sample_poses, motions, settings, area
            )
        )
        tick()
    fitted = Fitted(learnt.reader, {m.layer.index: m.fitted for m in mined})
    return assemble(images, activations, mined, fitted, settings, seed, preprocessing)


def _sample(images: Images, layers: Sequence[LayerMaps], settings: Settings, seed: int) -> Tensor:
    """Draw the images from which poses and patterns are learnt, ascending."""
    bytes_ = max(
        sum(4 * m.layer.channels * m.layer.height * m.layer.width for m in group)
        for group in _by_grid(layers)
    )
    most = min(settings.sample, max(_LEAST_SAMPLE, _SAMPLE_BYTES // bytes_))
    draws = torch.Generator().manual_seed(seed)
    return torch.randperm(images.n, generator=draws)[:most].sort()[0]


def _by_grid(layers: Sequence[LayerMaps]) -> list[list[LayerMaps]]:
    """Put layers with the same grid together, the coarsest grid first."""
    groups: dict[tuple[int, int], list[LayerMaps]] = {}
    for maps in layers:
        groups.setdefault((maps.layer.height, maps.layer.width), []).append(maps)
    return [groups[shape] for shape in sorted(groups, key=math.prod)]


def _learn_poses(
    layers: Sequence[LayerMaps], sample: Tensor, settings: Settings, seed: int, area: float
) -> list[Learnt]:
    """Learn a pose for every grid that has a filter which fires."""
    learnt = []
    for group in _by_grid(layers):
        firing = [maps for maps in group if bool((maps.scale > 0).any())]
        if not firing:
            continue

        def learn(firing: list[LayerMaps] = firing) -> Sequence[Tensor]:
            return packed(_learn_pose(firing, sample, settings, seed, area))

        learnt.append(unpacked(list(firing[0].images.once(learn))))
    if not learnt:
        raise ExplgraphError(NOTHING)
    return learnt


def _learn_pose(
    layers: Sequence[LayerMaps], sample: Tensor, settings: Settings, seed: int, area: float
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
        if options[-1].poses.shape[1] < numbers:
            return options[-1]  # there are no more
    few, all_ = options[0], options[-1]
    if few is all_:
        return few
    worth = [
        sum(_worth(one, layer, maps[layer.layer.index], settings, area, seed) for layer in layers)
        for one in options
    ]
    return all_ if worth[1] > _MORE_NUMBERS * worth[0] else few


def _together(layers: Sequence[LayerMaps]) -> Iterator[tuple[slice, dict[int, Tensor]]]:
    """Go through blocks of several layers' maps side by side, by layer index."""
    indices = [maps.layer.index for maps in layers]
    for blocks in zip(*(maps.blocks() for maps in layers), strict=True):
        yield blocks[0][0], dict(zip(indices, (maps for _, maps in blocks), strict=True))


def _worth(
    learnt: Learnt, layer: LayerMaps, maps: Tensor, settings: Settings, area: float, seed: int
) -> float:
    """Measure what a pose is worth to some filters of a layer, given the sampled images' maps."""
    draws = torch.Generator().manual_seed(seed + layer.layer.index)
    some = torch.randperm(layer.layer.channels, generator=draws)[:_TRIED].sort()[0]
    motions = _motions(learnt, layer.grid)
    moving = Motions(*(column[motions.moves] for column in motions))
    rules = rules_for(layer.grid, settings, area)
    values = maps[:, some.to(maps.device)]
    return float(pose_worth(values, learnt.poses, moving, layer.grid, rules).double().sum())


def _choose_pose(
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


def _motions(learnt: Learnt, grid: Grid) -> Motions:
    """Put a pose's trajectories and the places that never move into one list."""
    model = learnt.reader.model.of(learnt.trajectories)
    moving = Motions(
        model.mean, model.loading, torch.ones_like(learnt.trajectories, dtype=torch.bool)
    )
    still = still_places(grid, model.loading.shape[2])
    return Motions(*(torch.cat(column) for column in zip(moving, still, strict=True)))


def _find(
    maps: LayerMaps,
    sample: Tensor,
    poses: Tensor,
    motions: Motions,
    settings: Settings,
    area: float,
    seed: int,
) -> tuple[Patterns, Decoys]:
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

    def work(here: slice) -> Sequence[Tensor]:
        found = find_patterns(some(here), poses, motions, maps.grid, rules)
        return [*found.mixture, *found[1:]]

    def decoy(here: slice) -> Sequence[Tensor]:
        values = some(chosen[here].to(maps.scale.device))
        shuffled = values.gather(
            0, order[:, here].to(values.device)[..., None, None].expand_as(values)
        )
        found = find_patterns(shuffled, poses, motions, maps.grid, rules)
        filled = _filled(found, rules)
        scale = maps.scale[chosen[here].to(maps.scale.device)]
        there = infer(_fitted(scale, filled), shuffled, poses, maps.grid, area)
        presence = there.scores.T.reshape(*found.motion.shape, len(sample))
        moving = motions.moves[found.motion] & (found.mixture.share > 0)
        return [found.mixture.share, found.gain, found.following, moving, presence]

    *mixture, loading, motion, gain, following = maps.images.shared(c, work)
    share, gained, follow, moves, presence = maps.images.shared(len(chosen), decoy)
    decoys = Decoys(share, gained, follow, moves, presence, math.ceil(c / len(chosen)))
    return _filled(Patterns(Mixture(*mixture), loading, motion, gain, following), rules), decoys


class Decoys(NamedTuple):
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


def _mine_layer(
    maps: LayerMaps,
    patterns: Patterns,
    decoys: Decoys,
    poses: Any,
    sample: Tensor,
    sample_poses: Tensor,
    motions: Motions,
    settings: Settings,
    area: float,
) -> MinedLayer:
    """Look for a layer's patterns in all images, and measure what nodes are like."""
    images, mixture = maps.images, patterns.mixture
    fitted = _fitted(maps.scale, patterns)
    found = track(
        images,
        (infer(fitted, block, poses.read(here), maps.grid, area) for here, block in maps.blocks()),
    )
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
