"""Mining: from recorded activations to an explanatory graph.

1. Every filter's map is divided by a scale, so that its squares sum to 1 per image in mean: squared
   activation counts as observations of where the filter fires.
2. *Poses* (`learn_pose`). From a sample of the images, for every grid of units: the filters' peaks
   give each image a pose of a few numbers, and every filter a trajectory, where it is at which
   pose. Which grid knows the object better differs from data to data: a layer moves by the pose
   that its filters follow most on held-out images, the coarsest unless a finer one is worth twice
   as much.
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
import platform
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import networkx
import torch
from torch import Tensor, nn
from tqdm import tqdm

from explgraph.checkpoint import Checkpoint
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.fitted import Fitted, FittedLayer
from explgraph.geometry import Layer
from explgraph.graph import FORMAT_VERSION, ExplanatoryGraph
from explgraph.images import ImageFolder
from explgraph.images import Images as AnyImages
from explgraph.inference import infer, scaled
from explgraph.learn_pose import Learnt, learn_reader, packed, unpacked
from explgraph.linking import Tracks, link, track
from explgraph.mixture import Bounds, Grid, Mixture
from explgraph.patterns import (
    STILL,
    Motions,
    Patterns,
    Rules,
    find_patterns,
    pose_worth,
    still_places,
)
from explgraph.processes import Team
from explgraph.recording import checked_device, record
from explgraph.reliability import rated, together, warn_if_weak
from explgraph.store import ActivationStore, open_store
from explgraph.streaming import BLOCK, Images, Source

__all__ = ["Settings", "mine", "mine_activations"]


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
            fits = isinstance(value, (int, kind)) and not isinstance(value, bool)
            if not (fits and low < value <= high and math.isfinite(value)):
                what = "a whole number" if kind is int else "a number"
                raise ExplgraphError(
                    f"{name} must be {what} above {low} and at most {high}, got {value!r}"
                )


# the rest is fixed: shares of the image's side, unless said otherwise
_LOOK = 0.08  # of the Gaussian under which candidates gather: about as wide as parts show
_START = 0.1  # spread of a new pattern
_SIGMA_MAX = 0.12  # wider, a pattern is a region, no part
_FIRST_GAIN = 0.005  # nats: what chance hardly adds to the likelihood
_LEAST_SHARE = 0.04  # of a filter's activation
_LEAST_BACKGROUND = 0.02  # of a filter's activation: a pattern must not need to explain all
_PRIOR = 20.0  # images: see `mixture.Bounds`
_SAMPLE_BYTES = 1 << 30  # of a grid's maps, in memory at a time
_LEAST_SAMPLE = 64
_FINER = 0.5  # what a finer grid's pose counts for: it is read off fewer filters, that see less
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


class MinedLayer(NamedTuple):
    """A mined layer.

    Attributes
    ----------
    layer : Layer
    fitted : FittedLayer
    found : Tracks
        The patterns in the mined images.
    energy, support, gain, reliability, follows : (V,)
    kept : (V,) bool
        Which patterns become nodes.
    following : float
        How far filters that fire follow the pose, nats per unit of activation, on average.
    """

    layer: Layer
    fitted: FittedLayer
    found: Tracks
    energy: Tensor
    support: Tensor
    gain: Tensor
    reliability: Tensor
    follows: Tensor
    kept: Tensor
    following: float


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
        See `explgraph.record` and `explgraph.store.open_store`; also if there is one image only, no
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
        gives the same graph. Delete it (`explgraph.checkpoint.discard`) once the graph is saved.
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
        "versions": _versions(),
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
    learnt = _learn_poses(layers, sample, settings, seed, area)
    chosen = [_choose_pose(maps, sample, learnt, settings, area, seed) for maps in layers]
    used = sorted(set(chosen))
    learnt = [learnt[number] for number in used]
    readers = tuple(one.reader for one in learnt)
    reading = Fitted(readers, {})
    grids = {maps.layer.index: maps.grid for maps in layers}
    prepared = reading.prepared(grids)
    guiding = [m for m in layers if any(m.layer.index in r.guides.layers() for r in readers)]
    poses = images.table(reading.poses(block, grids, prepared) for _, block in _together(guiding))
    sample_poses = images.rows(poses, sample)
    mined: list[MinedLayer] = []
    for maps, number in zip(layers, chosen, strict=True):
        motions = _motions(learnt, used.index(number), maps.grid)
        patterns, decoys = _find(maps, sample, sample_poses, motions, settings, area, seed)
        mined.append(
            _mine_layer(
                maps, patterns, decoys, poses, sample, sample_poses, motions, settings, area
            )
        )
        tick()
    fitted = Fitted(readers, {m.layer.index: m.fitted for m in mined})
    return _graph(images, activations, mined, fitted, settings, seed, preprocessing)


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
        raise ExplgraphError(_NOTHING)
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


_NOTHING = (
    "no filter of the layers fires at varying places in these images; "
    "check the layers, the weights and the normalisation (mean, std)"
)


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
    motions = _motions([learnt], 0, layer.grid)
    moving = Motions(*(column[motions.family != STILL] for column in motions))
    rules = _rules(layer.grid, settings, area)
    values = maps[:, some.to(maps.device)]
    return float(pose_worth(values, learnt.poses, moving, layer.grid, rules).double().sum())


def _choose_pose(
    maps: LayerMaps,
    sample: Tensor,
    learnt: Sequence[Learnt],
    settings: Settings,
    area: float,
    seed: int,
) -> int:
    """Choose the pose that a layer's filters move by: the coarsest that explains them as well.

    A finer grid's pose is read off fewer filters that see less, and each knows itself: it must
    be worth twice as much.
    """
    if len(learnt) < 2:
        return 0

    def worth() -> Sequence[Tensor]:
        values = maps.sampled(sample)
        found = [_worth(one, maps, values, settings, area, seed) for one in learnt]
        return [torch.tensor([found[0], *(_FINER * w for w in found[1:])], dtype=torch.float64)]

    return int(maps.images.once(worth)[0].argmax())


def _motions(learnt: Sequence[Learnt], number: int, grid: Grid) -> Motions:
    """Put one pose's trajectories and the places that never move into one list."""
    widths = [one.reader.exemplars.shape[1] for one in learnt]
    model = learnt[number].reader.model.of(learnt[number].trajectories)
    loading = model.mean.new_zeros((len(model.mean), 2, sum(widths)))
    start = sum(widths[:number])
    loading[:, :, start : start + widths[number]] = model.loading
    moving = Motions(model.mean, loading, torch.full_like(learnt[number].trajectories, number))
    still = still_places(grid, sum(widths))
    return Motions(*(torch.cat(column) for column in zip(moving, still, strict=True)))


def _rules(grid: Grid, settings: Settings, area: float) -> Rules:
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
    rules = _rules(maps.grid, settings, area)
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
        moving = (motions.family[found.motion] != STILL) & (found.mixture.share > 0)
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
    moving = (motions.family[patterns.motion] != STILL).flatten()
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


def _graph(
    images: Images,
    activations: Source,
    mined: Sequence[MinedLayer],
    fitted: Fitted,
    settings: Settings,
    seed: int,
    preprocessing: dict[str, Any],
) -> ExplanatoryGraph:
    """Put nodes and edges into a networkx graph, and the parameters beside it."""
    graph = networkx.DiGraph(
        format_version=FORMAT_VERSION,
        image_size=list(activations.image_size),
        layers=[layer.as_dict() for layer in activations.layers],
        n_images=images.n,
        config=asdict(settings) | {"following": {m.layer.name: m.following for m in mined}},
        seed=seed,
        versions=_versions(),
        model_fingerprint=activations.model_fingerprint,
        preprocessing=preprocessing,
    )
    top_images: dict[str, list[list[Any]]] = {}
    ids: dict[int, dict[int, str]] = {}
    for layer in mined:
        ids[layer.layer.index] = _add_nodes(graph, images, layer, activations, top_images)
    for upper, lower in pairwise(m for m in mined if ids[m.layer.index]):
        _add_edges(graph, images, upper, lower, ids, settings, seed)
    if not graph:
        raise ExplgraphError(_NOTHING)
    return ExplanatoryGraph(graph, fitted.pack(), top_images)


def _versions() -> dict[str, str]:
    """Versions of what made the graph."""
    versions = {"python": platform.python_version()}
    for package in ("explgraph", "torch", "numpy", "networkx"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # run from a folder that was never installed
            versions[package] = "unknown"
    return versions


_TOP_IMAGES = 16


def _add_nodes(
    graph: networkx.DiGraph,
    images: Images,
    mined: MinedLayer,
    activations: Source,
    top_images: dict[str, list[list[Any]]],
) -> dict[int, str]:
    """Add a layer's kept patterns as nodes, the most reliable first; give their ids."""
    layer = mined.layer
    k = mined.fitted.sigma.shape[1]
    nodes = mined.kept.nonzero()[:, 0]
    nodes = nodes[mined.gain[nodes].argsort(descending=True, stable=True)]
    nodes = nodes[mined.reliability[nodes].argsort(descending=True, stable=True)]
    mean = mined.fitted.mean.flatten(0, 1)
    sigma = mined.fitted.sigma.flatten()
    height, width = activations.image_size
    best = _best_images(images, mined.found, nodes)
    ids: dict[int, str] = {}
    for v, shown in zip(nodes.tolist(), best, strict=True):
        name = f"{layer.name}/{v // k}/{v % k}"
        ids[v] = name
        graph.add_node(
            name,
            layer=layer.name,
            layer_index=layer.index,
            filter=v // k,
            pattern=v % k,
            x=min(max(mean[v, 0].item(), 0.0), float(width)),
            y=min(max(mean[v, 1].item(), 0.0), float(height)),
            sigma=sigma[v].item(),
            support=mined.support[v].item(),
            energy=min(mined.energy[v].item(), 1.0),
            reliability=mined.reliability[v].item(),
            follows=mined.follows[v].item(),
            receptive_field=float(max(layer.receptive_field)),
            label="",
        )
        top_images[name] = [[activations.names[int(n)], *rest] for n, *rest in shown if rest[-1]]
    return ids


def _best_images(images: Images, found: Tracks, nodes: Tensor) -> list[list[list[float]]]:
    """Find where each node scores highest: number of the image, x, y, score; best first."""

    def rows(here: slice) -> tuple[Tensor, Tensor]:
        rows = found.table.read(here, nodes)[..., :3].transpose(0, 1).double()
        number = torch.arange(here.start, here.stop, device=rows.device).expand(len(nodes), -1)
        return rows[..., 2], torch.cat([number[..., None], rows], -1)

    best: list[list[list[float]]]
    best = images.largest(_TOP_IMAGES, (rows(here) for here in images))[1].tolist()
    return best


def _add_edges(
    graph: networkx.DiGraph,
    images: Images,
    upper: MinedLayer,
    lower: MinedLayer,
    ids: dict[int, dict[int, str]],
    settings: Settings,
    seed: int,
) -> None:
    """Link a layer's nodes to those nodes above that they fire with and sit at."""
    parents, children = (
        torch.tensor(list(ids[m.layer.index]), dtype=torch.int64, device=m.reliability.device)
        for m in (upper, lower)
    )
    edges = link(
        images,
        lower.found.only(images, children),
        upper.found.only(images, parents),
        settings.n_parents,
        area=float(graph.graph["image_size"][0] * graph.graph["image_size"][1]),
        seed=seed + lower.layer.index,
    )
    names = [
        [ids[m.layer.index][v] for v in nodes.tolist()]
        for m, nodes in ((upper, parents), (lower, children))
    ]
    values = {name: column.tolist() for name, column in edges._asdict().items()}
    for i, (u, v) in enumerate(zip(values.pop("parent"), values.pop("child"), strict=True)):
        graph.add_edge(
            names[0][u], names[1][v], **{name: column[i] for name, column in values.items()}
        )
