"""Mining: from recorded activations to an explanatory graph.

1. Every filter's map is divided by its standard deviation.
2. *The pose.* The filters of the highest layers, those that share the top layer's grid, are the
   guides: their peaks and, in two looks more, what is around their expected places give every
   image a pose of a few numbers, and every guide a trajectory: where it is at which pose (`pose`).
3. *Part patterns*, layer by layer. Every filter is held against the guides' trajectories; the few
   along which it fires most clearly (`reliability`) are the beginnings of its part patterns. A
   mean shift moves each to where its filter fires, EM fits the spreads (`mixture`). Patterns
   without support or reliability are left out, except for the strongest of each filter; the rest
   are found in a window around where the pose expects them, and become nodes.
4. *Edges* join nodes to the nodes of the layer above that they move most rigidly with (`linking`).

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
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from explgraph.checkpoint import Checkpoint
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.geometry import Layer
from explgraph.graph import FORMAT_VERSION, ExplanatoryGraph
from explgraph.images import ImageFolder
from explgraph.images import Images as AnyImages
from explgraph.inference import (
    Found,
    Guides,
    Parts,
    PoseReader,
    Prepared,
    Sighting,
    Stage,
    expect,
    infer,
    read_poses,
    scaled,
    scouted,
    sight,
)
from explgraph.linking import Motion, Tracks, link, track
from explgraph.mixture import (
    Bounds,
    Grid,
    Patterns,
    Summary,
    from_summaries,
    summarize,
    survey,
)
from explgraph.pose import (
    PoseModel,
    displacements,
    distinct_guides,
    fit_poses,
    principal_poses,
    squared_length,
)
from explgraph.processes import Team
from explgraph.recording import checked_device, record
from explgraph.reliability import Chosen, choose, contrast, cut_for
from explgraph.store import ActivationStore, open_store
from explgraph.streaming import BLOCK, Images, Source, Table

__all__ = ["Settings", "mine", "mine_activations"]


@dataclass(frozen=True)
class Settings:
    """What mining can be told; the defaults are those of the quality table.

    Attributes
    ----------
    patterns : float
        Most patterns per filter, as a share of the layer's units (at least one).
    background : float
        Density of the background in units of one component spread evenly over the image.
    sigma_max : float
        Largest spread of a pattern, as a share of the image's side (root of its area).
    window : float
        Spread of the window around the expected place in which a node's own map decides where it
        is, as a share of the image's side. Wider: nodes follow their own evidence, noise included;
        narrower: they repeat the pose. (benchmarks/experiments.md has the trade-off.)
    n_parents : int
        Edges to each node, at most (15 in the paper).
    pose : int
        Numbers that an image's pose has, at most.
    looks : int
        How often the guides are looked for again after their peaks.
    trajectories : int
        How many guides' trajectories filters are held against, at most.
    max_iter : int
        EM iterations, at most.
    tol : float
        EM ends when the bound rises by less than this per unit of activation.
    min_support : float
        Patterns present in a smaller share of the images are left out.
    """

    patterns: float = 0.02
    background: float = 0.1
    sigma_max: float = 0.12
    window: float = 0.16
    n_parents: int = 15
    pose: int = 8
    looks: int = 2
    trajectories: int = 300
    max_iter: int = 20
    tol: float = 1e-3
    min_support: float = 0.05

    def __post_init__(self) -> None:
        for name, kind, low, high in (
            ("patterns", float, 0, 1),
            ("background", float, 0, math.inf),
            ("sigma_max", float, 0, 1),
            ("window", float, 0, 1),
            ("n_parents", int, 0, math.inf),
            ("pose", int, 0, math.inf),
            ("looks", int, -1, math.inf),
            ("trajectories", int, 0, math.inf),
            ("max_iter", int, 0, math.inf),
            ("tol", float, -1, math.inf),
            ("min_support", float, -1, 1),
        ):
            value = getattr(self, name)
            fits = isinstance(value, (int, kind)) and not isinstance(value, bool)
            if not (fits and low < value <= high and math.isfinite(value)):
                what = "a whole number" if kind is int else "a number"
                raise ExplgraphError(
                    f"{name} must be {what} above {low} and at most {high}, got {value!r}"
                )


# the rest is fixed: shares of the image's side or area
_REACH = 0.16  # of a peak's refinement
_LEAST_VARIANCE = 0.003
_FLOOR = 1e-4
_LOOKS = (0.3, 0.2)  # windows of the first look after the peaks, and of those that follow
_FIRST_ITERATIONS, _ITERATIONS = 15, 5  # of fitting poses to peaks, and to later sightings
_GUIDES = 2000
_SCOUTS = 300
_BANK = 256
_SCOUT_SIGMA = 0.12
_DISTINCT = 0.04  # least distance of trajectories
_CONTRAST_SIGMA = 0.08
_SETTLE_SIGMA = 0.1
_SETTLE_STEPS = 2
_REPEATED = 0.03
_CHANCE = 0.05  # of patterns beyond each filter's best
_APART = 0.1  # of the trajectories of one filter
_SAMPLE = 512  # images from which poses are learnt, and whose places stand for all others'
_MOST_SEED = 2**40  # seeds are multiplied to give each layer its own draws


class Frame(NamedTuple):
    """A layer's grid and the lengths that follow from the image's size."""

    grid: Grid
    bounds: Bounds
    reach: float
    side: float

    @classmethod
    def of(
        cls,
        layer: Layer,
        image_size: tuple[int, int],
        settings: Settings,
        device: torch.device,
    ) -> Frame:
        """Turn shares of the image into pixels."""
        area = float(image_size[0] * image_size[1])
        side = math.sqrt(area)
        grid = Grid.of(layer, device)
        sigma_max = settings.sigma_max * side
        bounds = Bounds(
            settings.background / area, min(math.sqrt(grid.cell) / 4, sigma_max), sigma_max
        )
        return cls(grid, bounds, _REACH * side, side)


class Fit(NamedTuple):
    """Fitted part patterns and how the EM went.

    Attributes
    ----------
    parts : Parts
    energy : (C, K)
        Share of the filter's activation that each pattern answers for.
    bounds : list of float
        The bound per unit of activation, by iteration.
    converged : bool
    """

    parts: Parts
    energy: Tensor
    bounds: list[float]
    converged: bool


class Bench(NamedTuple):
    """What mining a layer works on.

    Attributes
    ----------
    images : Images
    source : Source
        Of the activations.
    layer : Layer
    scale : (C,)
        Of the filters (`filter_scale`).
    frame : Frame
    settings : Settings
    seed : int
    ready : Table, optional
        The maps divided by the filters' scales, where they are few.
    """

    images: Images
    source: Source
    layer: Layer
    scale: Tensor
    frame: Frame
    settings: Settings
    seed: int
    ready: Table | None = None

    def maps(self) -> Iterator[tuple[slice, Tensor]]:
        """Go through blocks of maps ``(n, C, H, W)``, each filter divided by its scale."""
        if self.ready is not None:
            yield from ((here, self.ready.read(here)) for here in self.images)
            return
        for here, maps in self.images.maps(self.source, self.layer.index):
            yield here, scaled(maps, self.scale)


class Bearings(NamedTuple):
    """The pose of every image, and where guides are at which pose.

    Attributes
    ----------
    reader : PoseReader
    poses : Table
        ``(N, q)``.
    sample : (S,) int64
        Some images.
    sample_poses : (S, q)
        Theirs.
    trajectories : (A,) int64
        Guides along which filters are looked at.
    """

    reader: PoseReader
    poses: Table
    sample: Tensor
    sample_poses: Tensor
    trajectories: Tensor


@dataclass
class MinedLayer:
    """A mined layer: what parsing needs, and what the nodes are like.

    Attributes
    ----------
    layer : Layer
    scale : (C,)
        Standard deviation of each filter's activation; 0 for filters that never vary.
    parts : Parts
    found : Tracks
        The patterns in the mined images.
    energy, support, reliability : (V,)
    kept : (V,) bool
        Which patterns become nodes.
    decoys : (D,)
        Reliabilities above 0 that patterns of decoys have, descending.
    convergence : dict
    """

    layer: Layer
    scale: Tensor
    parts: Parts
    found: Tracks
    energy: Tensor
    support: Tensor
    reliability: Tensor
    kept: Tensor
    decoys: Tensor
    convergence: dict[str, Any]


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
        See `explgraph.record` and `explgraph.store.open_store`; also if no filter of the layers
        ever fires, or several processes have no store.
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
        If the checkpoint is of another job, or no filter of the layers ever fires.
    """
    settings = _checked(settings, seed)
    target = checked_device(device)
    team = Team()
    mined: dict[int, MinedLayer] = {}
    bar = tqdm(
        total=len(activations.layers),
        desc="mining",
        unit="layer",
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
        benches = [
            _bench(images, activations, layer, settings, seed)
            for layer in reversed(activations.layers)
        ]
        bearings = _take_bearings(benches)
        for bench in benches:
            mined[bench.layer.index] = _mine_layer(bench, bearings)
            bar.update()
        graph = _graph(images, activations, mined, bearings, settings, seed, preprocessing or {})
    if not any(reliability > 0 for _, reliability in graph.nx.nodes(data="reliability")):
        warnings.warn(
            f"no filter follows what moves in these {images.n} images, so that no node is "
            "reliable; give some dozens of images or more, of one kind of object, normalised as "
            "the model expects them (mean, std)",
            ExplgraphWarning,
            stacklevel=2,
        )
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
    """Measure each filter's standard deviation, ``(C,)``; 0 if it never varies.

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
    return torch.where(deviation > 1e-5 * square.sqrt(), deviation, 0.0).float()


def _bench(images: Images, source: Source, layer: Layer, settings: Settings, seed: int) -> Bench:
    """Measure a layer's scale and make its maps ready."""
    frame = Frame.of(layer, source.image_size, settings, images.device)
    scale = filter_scale(images, (maps for _, maps in images.maps(source, layer.index)))
    bench = Bench(images, source, layer, scale, frame, settings, seed + layer.index)
    if source.in_memory:
        bench = bench._replace(ready=images.keep(maps for _, maps in bench.maps()))
    return bench


def _take_bearings(benches: Sequence[Bench]) -> Bearings:
    """Find the pose of every image.

    Parameters
    ----------
    benches : sequence of Bench
        Of all layers, top first.
    """
    firing = [bench for bench in benches if bool((bench.scale > 0).any())] or benches
    top = firing[0]
    shape = top.layer.height, top.layer.width
    benches = [b for b in firing if (b.layer.height, b.layer.width) == shape]
    images, settings, frame = top.images, top.settings, top.frame
    grids = {bench.layer.index: bench.frame.grid for bench in benches}
    draws = torch.Generator().manual_seed(top.seed)
    sample = torch.randperm(images.n, generator=draws)[:_SAMPLE].sort()[0]
    guides = Guides(
        torch.cat([torch.full_like(b.scale, b.layer.index, dtype=torch.int64) for b in benches]),
        torch.cat([torch.arange(len(b.scale), device=b.scale.device) for b in benches]),
    )

    def look(guides: Guides, expected: Tensor | None, window: float) -> Sighting:
        """Look for the guides in the sample."""

        def rows() -> Iterator[tuple[Tensor, Tensor]]:
            for which, maps in _sampled(benches, sample):
                near = None if expected is None else expected[which]
                seen = sight(guides.views(maps, grids), near, window, frame.reach)
                rest = [seen.scores[..., None], seen.clarity[..., None]]
                yield which, torch.cat([seen.positions, *rest], -1)

        table = images.pick(len(sample), rows())
        return Sighting(table[..., :2], table[..., 2], table[..., 3])

    def learn(seen: Sighting, window: float, poses: Tensor | None, n_iter: int) -> Stage:
        """Learn how the guides move."""
        scale = seen.scores.mean(0)
        weights = seen.weights(scale)

        def fit() -> PoseModel:
            start = poses
            if start is None:
                start = principal_poses(seen.positions, weights, settings.pose, top.seed)
            floor = _FLOOR * frame.side**2
            return fit_poses(seen.positions, weights, start, n_iter=n_iter, floor=floor)

        return Stage(scale.new_tensor([window]), scale, PoseModel(*images.once(fit)))

    seen = look(guides, None, 0.0)
    stage = learn(seen, 0.0, None, _FIRST_ITERATIONS)
    best = stage.model.explained().topk(min(_GUIDES, len(guides.layer)))[1].sort()[0]
    guides = Guides(*(values[best] for values in guides))
    seen = Sighting(*(values[:, best] for values in seen))
    stages = [Stage(stage.window, stage.scale[best], stage.model.of(best))]
    poses, expected = stages[0].poses(seen, None)
    for number in range(settings.looks):
        window = _LOOKS[min(number, len(_LOOKS) - 1)] * frame.side
        seen = look(guides, expected, window)
        stages.append(learn(seen, window, poses, _ITERATIONS))
        poses, expected = stages[-1].poses(seen, expected)

    scouts = stages[-1].model.explained().topk(min(_SCOUTS, len(best)))[1].sort()[0]
    banked = min(_BANK, len(sample))
    bank = torch.linspace(0, len(sample) - 1, banked, dtype=torch.float32).long()
    reader = PoseReader(
        guides,
        tuple(stages),
        expected.new_tensor([frame.reach]),
        poses[bank],
        scouts,
        expected.new_tensor([_SCOUT_SIGMA * frame.side]),
        expected.new_ones(len(scouts)),
    )
    (usual,) = images.sum(
        (torch.cat(scouted(reader, guides.views(maps, grids), poses[which]), 1).sum(0),)
        for which, maps in _sampled(benches, sample)
    )
    reader = reader._replace(scout_scale=(usual / len(sample)).float())
    ready = Prepared.of(reader, grids)
    table = images.table(read_poses(reader, maps, grids, ready) for _, maps in _together(benches))
    sampled = images.rows(table, sample)
    trajectories = distinct_guides(
        reader.model, sampled, settings.trajectories, _DISTINCT * frame.side
    )
    return Bearings(reader, table, sample, sampled, trajectories)


def _together(benches: Sequence[Bench]) -> Iterator[tuple[slice, dict[int, Tensor]]]:
    """Go through blocks of several layers' maps side by side, by layer index."""
    indices = [bench.layer.index for bench in benches]
    for blocks in zip(*(bench.maps() for bench in benches), strict=True):
        yield blocks[0][0], dict(zip(indices, (maps for _, maps in blocks), strict=True))


def _sampled(
    benches: Sequence[Bench], sample: Tensor
) -> Iterator[tuple[Tensor, dict[int, Tensor]]]:
    """Go through the maps of a sample of images: which of them, and their maps."""
    for here, maps in _together(benches):
        which = ((sample >= here.start) & (sample < here.stop)).nonzero()[:, 0]
        inside = sample[which] - here.start
        yield which, {index: values[inside] for index, values in maps.items()}


def _mine_layer(bench: Bench, bearings: Bearings) -> MinedLayer:
    """Mine one layer."""
    images, settings, frame, scale = bench.images, bench.settings, bench.frame, bench.scale
    k = max(1, round(settings.patterns * bench.layer.height * bench.layer.width))
    chosen, decoys, model = _choose(bench, bearings, k)
    # where few guides move, a filter has fewer trajectories than patterns
    best = torch.where(chosen.contrast.isfinite(), chosen.trajectory, 0)
    mean = model.mean[best]
    reliability = chosen.contrast.clamp(0, 1)
    fires = (scale > 0)[:, None].expand_as(best)
    # beyond a filter's best pattern, those that are hardly chance; in a small layer, those that
    # are better than all decoys
    real, false = (values.flatten().numpy(force=True) for values in (reliability, decoys))
    clear = reliability > false.max(initial=0)
    wanted = fires & (clear | (reliability >= cut_for(real, false, _CHANCE)))
    wanted[:, 0] = fires[:, 0]
    parts = Parts(
        Patterns(mean, torch.full_like(reliability, frame.bounds.sigma_max), wanted.float()),
        model.loading[best],
        mean.new_tensor([settings.window * frame.side]),
    )
    parts = _settle(bench, bearings, parts)
    wanted &= ~_repeats(parts.patterns, _REPEATED * frame.side)
    fit = _climb(
        bench,
        bearings,
        parts._replace(patterns=parts.patterns._replace(alive=wanted.float())),
    )
    found = track(images, _look(bench, bearings, fit.parts))
    support = _support(images, found)
    energy = fit.energy.flatten()
    kept = fit.parts.patterns.alive.flatten().bool() & (energy > 0)
    kept &= support >= settings.min_support
    return MinedLayer(
        layer=bench.layer,
        scale=scale,
        parts=fit.parts,
        found=found,
        energy=energy,
        support=support,
        reliability=reliability.flatten(),
        kept=kept,
        decoys=decoys,
        convergence={
            "layer": bench.layer.name,
            "n_iter": len(fit.bounds),
            "converged": fit.converged,
            "lower_bound": fit.bounds[-1],
        },
    )


def _choose(bench: Bench, bearings: Bearings, k: int) -> tuple[Chosen, Tensor, PoseModel]:
    """Choose the trajectories of every filter's patterns.

    Returns
    -------
    Chosen
    decoys : (D,)
        What decoys reach, descending.
    PoseModel
        Of the trajectories.
    """
    side = bench.frame.side
    best = bearings.trajectories
    model = bearings.reader.model.of(best)

    def places(which: Tensor | slice) -> Tensor:
        if isinstance(which, slice):
            return model.places(bearings.poses.read(which))
        return model.places(bearings.sample_poses[which])

    measured = contrast(
        bench.images,
        bench.maps(),
        places,
        bearings.sample,
        _CONTRAST_SIGMA * side,
        bench.frame.grid,
        bench.seed,
    )
    # a filter's own trajectory follows its own noise
    guides = bearings.reader.guides
    own = torch.where(guides.layer == bench.layer.index, guides.filter, -1)[best]
    itself = torch.arange(bench.layer.channels, device=own.device)[:, None] == own
    chosen, decoys = (
        choose(values.masked_fill(itself, -torch.inf), model.mean, k, _APART * side)
        for values in (measured.real, measured.decoy)
    )
    # a filter that follows nothing has its node where it fires most
    strongest = measured.present.masked_fill(itself, -torch.inf).argmax(1)
    lost = chosen.contrast[:, 0] <= 0
    chosen.trajectory[lost, 0] = strongest[lost]
    found = decoys.contrast.flatten()
    return chosen, found[found > 0].sort(descending=True)[0], model


def _look(bench: Bench, bearings: Bearings, parts: Parts) -> Iterator[Found]:
    """Find patterns, block by block."""
    for here, maps in bench.maps():
        expected = expect(parts, bearings.poses.read(here))
        yield infer(parts, maps, expected, bench.frame.grid)


def _settle(bench: Bench, bearings: Bearings, parts: Parts) -> Parts:
    """Move every pattern to where its filter fires along its trajectory: a mean shift."""
    patterns = parts.patterns
    window = _SETTLE_SIGMA * bench.frame.side

    def pull(here: slice, maps: Tensor) -> tuple[Tensor, Tensor]:
        expected = expect(parts._replace(patterns=patterns), bearings.poses.read(here))
        step, _, scores = survey(maps, expected, window, bench.frame.grid)
        weight = scores.sqrt()
        return weight.sum(0), (weight[..., None] * step).sum(0)

    for _ in range(_SETTLE_STEPS):
        weight, step = bench.images.sum(pull(here, maps) for here, maps in bench.maps())
        shift = step / weight.clamp(min=1e-9)[..., None]
        patterns = patterns._replace(mean=patterns.mean + shift.to(patterns.mean.dtype))
    return parts._replace(patterns=patterns)


def _repeats(patterns: Patterns, reach: float) -> Tensor:
    """Find patterns that have settled where a more reliable one of their filter has.

    Returns
    -------
    (C, K) bool
        Patterns come in the order of their reliability.
    """
    near = torch.cdist(patterns.mean, patterns.mean) < reach
    order = torch.arange(near.shape[1], device=near.device)
    return (near & (order[:, None] > order) & patterns.alive.bool()[:, None]).any(2)


def _climb(bench: Bench, bearings: Bearings, parts: Parts) -> Fit:
    """Fit the patterns' spreads by EM, until the bound hardly rises any more; places are held."""
    frame, patterns = bench.frame, parts.patterns
    bounds: list[float] = []
    converged = False
    while len(bounds) < bench.settings.max_iter and not converged:
        summary = Summary(
            *bench.images.sum(
                summarize(
                    maps,
                    displacements(parts.loading, bearings.poses.read(here)),
                    patterns,
                    frame.grid,
                    frame.bounds,
                )
                for here, maps in bench.maps()
            )
        )
        patterns = from_summaries(summary, patterns, frame.bounds, hold=True)
        bounds.append(summary.bound.item() / max(summary.total.sum().item(), 1e-12))
        converged = len(bounds) > 1 and bounds[-1] - bounds[-2] < bench.settings.tol
    energy = (summary.counts / summary.total.clamp(min=1e-12)[:, None]).float()
    return Fit(parts._replace(patterns=patterns), energy, bounds, converged)


def _support(images: Images, found: Tracks) -> Tensor:
    """Share of images where a node scores at least 0.2 of the mean of its top fifth."""

    def scores() -> Iterator[Tensor]:
        return (found.read(here)[1] for here in images)

    least = 0.2 * images.mean_of_largest(0.2, scores)
    (count,) = images.sum((((s >= least) & (s > 0)).sum(0),) for s in scores())
    return (count / images.n).float()


def _graph(
    images: Images,
    activations: Source,
    mined: dict[int, MinedLayer],
    bearings: Bearings,
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
        config=asdict(settings) | {"convergence": [m.convergence for m in mined.values()]},
        seed=seed,
        versions=_versions(),
        model_fingerprint=activations.model_fingerprint,
        preprocessing=preprocessing,
    )
    fitted: dict[str, np.ndarray[Any, Any]] = {}
    top_images: dict[str, list[list[Any]]] = {}
    ids: dict[int, dict[int, str]] = {}
    for index, layer in mined.items():
        ids[index] = _add_nodes(graph, images, layer, activations, top_images)
        fitted |= pack_layer(layer)
    fitted |= pack_reader(bearings)
    for upper, lower in pairwise(m for m in mined.values() if ids[m.layer.index]):
        _add_edges(graph, images, upper, lower, ids, settings)
    if not graph:
        raise ExplgraphError(
            "no filter of the layers fires at varying places in these images; "
            "check the layers, the weights and the normalisation (mean, std)"
        )
    return ExplanatoryGraph(graph, fitted, top_images)


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
    k = mined.parts.patterns.sigma.shape[1]
    nodes = mined.kept.nonzero()[:, 0]
    nodes = nodes[mined.reliability[nodes].argsort(descending=True, stable=True)]
    mean = mined.parts.patterns.mean.flatten(0, 1)
    sigma = mined.parts.patterns.sigma.flatten()
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
            receptive_field=float(max(layer.receptive_field)),
            label="",
        )
        top_images[name] = [[activations.names[int(n)], *rest] for n, *rest in shown if rest[-1]]
    return ids


def _best_images(images: Images, found: Tracks, nodes: Tensor) -> list[list[list[float]]]:
    """Find where each node scores highest: number of the image, x, y, score; best first."""

    def rows(here: slice) -> tuple[Tensor, Tensor]:
        rows = found.table.read(here, nodes).transpose(0, 1).double()
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
) -> None:
    """Link a layer's nodes to those nodes above that they move most rigidly with.

    Where any of them is reliable, others don't count.
    A parent less than half as consistent as the child's best is there by chance, and no edge.
    """
    device = upper.reliability.device
    parents = torch.tensor(list(ids[upper.layer.index]), dtype=torch.int64, device=device)
    reliable = upper.reliability[parents] > 0
    parents = parents[reliable] if reliable.any() else parents
    nodes = torch.tensor(list(ids[lower.layer.index]), dtype=torch.int64, device=device)
    area = float(graph.graph["image_size"][0] * graph.graph["image_size"][1])
    children, candidates = lower.found.only(images, nodes), upper.found.only(images, parents)
    links = link(
        images,
        children,
        candidates,
        settings.n_parents,
        floor=_FLOOR * area,
        least_variance=_LEAST_VARIANCE * area,
    )
    child_ids = [ids[lower.layer.index][v] for v in nodes.tolist()]
    parent_ids = [ids[upper.layer.index][u] for u in parents.tolist()]
    block = 256
    for start in range(0, len(nodes), block):
        here = slice(start, start + block)
        edges = _measure_edges(images, children, here, candidates, links.parent[here])
        consistency = edges["consistency"].masked_fill(links.distance[here].isinf(), 0)
        least = 0.5 * consistency.amax(1, keepdim=True).clamp(min=1e-9)
        linked = (consistency >= least).tolist()
        columns = {name: values.tolist() for name, values in edges.items()}
        for i, row in enumerate(links.parent[here].tolist()):
            for j, u in enumerate(row):
                if linked[i][j]:
                    values = {name: column[i][j] for name, column in columns.items()}
                    graph.add_edge(parent_ids[u], child_ids[start + i], **values)


def _measure_edges(
    images: Images, children: Tracks, here: slice, parents: Tracks, parent: Tensor
) -> dict[str, Tensor]:
    """Attributes ``(V, M)`` of the edges to some of the children: see `linking`."""

    def sums(child: Motion, up: Motion) -> tuple[Tensor, ...]:
        both = child.weight[:, :, None] * up.weight[:, parent]
        apart = child.moved[:, :, None] - up.moved[:, parent]
        of_nodes = (
            m.sum(0) for n in (child, up) for m in (n.weight, n.square(), n.weight.square())
        )
        return (
            both.sum(0),
            (both[..., None] * apart).sum(0),
            (both * squared_length(apart)).sum(0),
            *of_nodes,
        )

    both, pull, square, *of_nodes = images.sum(
        sums(children.motion(block, here), parents.motion(block)) for block in images
    )
    variance, variance_up = (of_nodes[i + 1] / of_nodes[i].clamp(min=1e-9) for i in (0, 3))
    total = both.clamp(min=1e-12)
    distance = square / total
    rho = distance / (variance[:, None] + variance_up[parent]).clamp(min=1e-9)
    norm = (of_nodes[2][:, None] * of_nodes[5][parent]).sqrt().clamp(min=1e-12)
    offset = children.mean[here][:, None] - parents.mean[parent] + pull / total[..., None]
    edges = {
        "dx": offset[..., 0],
        "dy": offset[..., 1],
        "sigma": (distance / 2).sqrt(),
        "consistency": (1 - rho).clamp(0, 1),
        "coactivation": (both / norm).clamp(0, 1),
    }
    return {name: values.float() for name, values in edges.items()}


def pack_layer(mined: MinedLayer) -> dict[str, np.ndarray[Any, Any]]:
    """Name the parameters of a layer that parsing and pruning need: ``"<layer index>/<name>"``."""
    arrays = {
        "scale": mined.scale,
        "decoys": mined.decoys,
        "loading": mined.parts.loading,
        "window": mined.parts.window,
        **mined.parts.patterns._asdict(),
    }
    return {f"{mined.layer.index}/{name}": t.cpu().numpy() for name, t in arrays.items()}


def pack_reader(bearings: Bearings) -> dict[str, np.ndarray[Any, Any]]:
    """Name the parameters by which poses are read: ``"pose/<name>"``, ``"pose/<stage>/<name>"``."""
    reader = bearings.reader
    rest = {k: v for k, v in reader._asdict().items() if k not in ("guides", "stages")}
    arrays = rest | {f"guide_{name}": value for name, value in reader.guides._asdict().items()}
    for number, stage in enumerate(reader.stages):
        arrays |= {f"{number}/window": stage.window, f"{number}/scale": stage.scale}
        arrays |= {f"{number}/{name}": value for name, value in stage.model._asdict().items()}
    return {f"pose/{name}": tensor.cpu().numpy() for name, tensor in arrays.items()}
