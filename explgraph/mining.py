"""Mining: from recorded activations to an explanatory graph, the highest layer first.

1. Every filter's map is divided by its standard deviation; its peak is the first guess.
2. *Bearings.* The top layer has nothing above it and takes its bearings from itself: the filters
   whose peaks move most consistently with their companions', and pairs of filters that are each
   other's best companion, are the anchors; each filter's most consistent anchors predict its
   displacement, the filter is found again near its expected place, and the anchors are chosen
   again. Each lower layer takes its bearings from the reliable nodes of the layer above.
3. With the displacements at hand, every filter is split into part patterns by EM (`mixture`).
4. A pattern's *reliability* is what its own filter says of its displacement (`contrast`). Patterns
   without support are left out, and those that earn no reliability, except for the strongest of
   each filter; the rest are fitted again, found in a wide window, and become nodes. Their links to
   nodes of the layer above are the edges.

Everything depends on the seed, the settings and the activations only.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import networkx
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from explgraph.checkpoint import Checkpoint
from explgraph.errors import ExplgraphError
from explgraph.geometry import Layer
from explgraph.graph import FORMAT_VERSION, ExplanatoryGraph
from explgraph.images import ImageFolder
from explgraph.images import Images as AnyImages
from explgraph.inference import OWN, Anchors, Found, Pass, displaced, gather, infer
from explgraph.linking import (
    Links,
    Motion,
    Tracks,
    displacements,
    link,
    track,
)
from explgraph.mixture import (
    Bounds,
    Grid,
    Patterns,
    Summary,
    from_summaries,
    locate,
    peaks,
    summarize,
)
from explgraph.processes import Team
from explgraph.recording import checked_device, record
from explgraph.store import ActivationStore, open_store
from explgraph.streaming import BLOCK, Images, Source, Table

__all__ = ["Settings", "contrast", "mine", "mine_activations"]


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
        is, as a share of the image's side. Wider: nodes follow their own evidence; narrower: they
        repeat their parents.
    n_parents : int
        Links of each pattern (15 in the paper).
    anchors : float
        Share of the top layer's filters that the others take their bearings from, beside pairs
        that are each other's best companion.
    rounds : int
        How often the top layer takes its bearings.
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
    window: float = 0.14
    n_parents: int = 15
    anchors: float = 0.25
    rounds: int = 2
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
            ("anchors", float, 0, 1),
            ("rounds", int, 0, math.inf),
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


# the rest is fixed: shares of the image's side or area, see the module docstring of `linking`
_REACH = 0.16  # of a peak's refinement
_LEAST_VARIANCE = 0.003
_FLOOR = 1e-4
_EVIDENCE_SIGMA = 0.14  # of the window in which a node's own evidence is tested
_PERMUTATIONS = 4
_SAMPLE = 1024  # images whose displacements others are compared with
_MOST_SEED = 2**40  # seeds are multiplied to give each image its own draws


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
    """A fitted pass and how the EM went.

    Attributes
    ----------
    fitted : Pass
    delta : Table
        ``(N, C, 2)``: displacements that the anchors predict, px.
    energy : (C, K)
        Share of the filter's activation that each pattern answers for.
    bounds : list of float
        The bound per unit of activation, by iteration.
    converged : bool
    """

    fitted: Pass
    delta: Table
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


@dataclass
class MinedLayer:
    """A mined layer: what parsing needs, and what the nodes are like.

    Attributes
    ----------
    layer : Layer
    scale : (C,)
        Standard deviation of each filter's activation; 0 for filters that never vary.
    reach : float
        Of the peaks' refinement, px.
    passes : tuple of Pass
        In order; the last gives the positions.
    found : Tracks
        The patterns in the mined images.
    anchored : Tracks
        The anchors of the last pass.
    energy, support, reliability : (V,)
    kept : (V,) bool
        Which patterns become nodes.
    convergence : list of dict
    """

    layer: Layer
    scale: Tensor
    reach: float
    passes: tuple[Pass, ...]
    found: Tracks
    anchored: Tracks
    energy: Tensor
    support: Tensor
    reliability: Tensor
    kept: Tensor
    convergence: list[dict[str, Any]]

    def anchors(self) -> Anchors:
        """Take the nodes of any reliability as bearings for the layer below."""
        node = (self.kept & (self.reliability > 0)).nonzero()[:, 0]
        layer = torch.full_like(node, self.layer.index)
        return Anchors(layer, node, self.found.mean[node], self.found.scale[node])


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
        for layer in reversed(activations.layers):
            mined[layer.index] = _mine_layer(images, activations, layer, mined, settings, seed)
            bar.update()
        return _graph(images, activations, mined, settings, seed, preprocessing or {})


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


def scaled(maps: Tensor, scale: Tensor) -> Tensor:
    """Divide each filter's maps by its scale; filters without one become zero."""
    factor = torch.where(scale > 0, 1 / scale, 0.0)
    return maps * factor[:, None, None]


def _mine_layer(
    images: Images,
    source: Source,
    layer: Layer,
    mined: dict[int, MinedLayer],
    settings: Settings,
    seed: int,
) -> MinedLayer:
    """Mine one layer, those above it being in `mined`."""
    frame = Frame.of(layer, source.image_size, settings, images.device)
    scale = filter_scale(images, (maps for _, maps in images.maps(source, layer.index)))
    bench = Bench(images, source, layer, scale, frame, settings, seed + layer.index)
    if source.in_memory:
        bench = bench._replace(ready=images.keep(maps for _, maps in bench.maps()))
    first = track(images, (peaks(maps, frame.grid, frame.reach) for _, maps in bench.maps()))
    fits, own, anchors = _bearings(bench, first, mined)
    found = {index: m.found for index, m in mined.items()} | {OWN: own}
    anchored = _track_anchors(images, anchors, found)
    k = max(1, round(settings.patterns * layer.height * layer.width))
    last = _fit(bench, first, anchors, anchored, k)
    reliability = contrast(bench, last.fitted, first, anchored)

    fires = (scale > 0)[:, None].expand(-1, k)
    reliable = reliability.reshape(-1, k) > 0
    strongest = torch.zeros_like(reliable).scatter(1, last.energy.argmax(1, keepdim=True), True)
    wanted = fires & (reliable | strongest) & ~_repeats(last)
    last = _climb(bench, last.fitted, last.delta, wanted)
    last = last._replace(
        fitted=last.fitted._replace(window=torch.tensor([settings.window * frame.side]))
    )
    result = track(images, _look(bench, last))
    support = _support(images, result)
    energy = last.energy.flatten()
    kept = last.fitted.patterns.alive.flatten().bool() & (energy > 0)
    kept &= support >= settings.min_support
    return MinedLayer(
        layer=layer,
        scale=scale,
        reach=frame.reach,
        passes=tuple(fit.fitted for fit in (*fits, last)),
        found=result,
        anchored=anchored,
        energy=energy,
        support=support,
        reliability=reliability,
        kept=kept,
        convergence=[_report(layer, i, fit) for i, fit in enumerate((*fits, last))],
    )


def _look(bench: Bench, fit: Fit) -> Iterator[Found]:
    """Find a pass's patterns, block by block."""
    for here, maps in bench.maps():
        expected = displaced(fit.fitted.patterns, fit.delta.read(here))
        yield infer(fit.fitted, maps, expected, bench.frame.grid)


def _repeats(fit: Fit) -> Tensor:
    """Find patterns that sit where a stronger one of their filter does, ``(C, K)`` bool."""
    patterns = fit.fitted.patterns
    apart = torch.cdist(patterns.mean, patterns.mean)
    reach = (patterns.sigma[:, :, None] + patterns.sigma[:, None]) / 2
    k = patterns.sigma.shape[1]
    first = torch.arange(k)[:, None] > torch.arange(k)
    energy = fit.energy
    stronger = (energy[:, None] > energy[:, :, None]) | (
        (energy[:, None] == energy[:, :, None]) & first
    )
    return ((apart < reach) & stronger).any(2)


def _report(layer: Layer, number: int, fit: Fit) -> dict[str, Any]:
    """How a pass's EM went, as plain values."""
    return {
        "layer": layer.name,
        "pass": number,
        "n_iter": len(fit.bounds),
        "converged": fit.converged,
        "lower_bound": fit.bounds[-1],
    }


def _bearings(
    bench: Bench, first: Tracks, mined: dict[int, MinedLayer]
) -> tuple[list[Fit], Tracks, Anchors]:
    """Find what a layer takes its bearings from.

    Returns
    -------
    list of Fit
        The layer's own passes that lead there; none where the layer above has reliable nodes.
    Tracks
        What the last of them found; the peaks if there are none.
    Anchors
        For the pass that comes next.
    """
    if mined:
        above = mined[min(mined)].anchors()
        if len(above.node):
            return [], first, above
    fits: list[Fit] = []
    own = first
    for _ in range(bench.settings.rounds):
        anchors = _own_anchors(bench, own)
        anchored = _track_anchors(bench.images, anchors, {OWN: own})
        fits.append(_fit(bench, own, anchors, anchored, 1))
        own = track(bench.images, _look(bench, fits[-1]))
    return fits, own, _own_anchors(bench, own)


def _own_anchors(bench: Bench, own: Tracks) -> Anchors:
    """Take the filters that move most consistently with their companions, and mutual pairs.

    The pairs keep parts in play that few filters follow: a tail is not outvoted by the head.
    """
    filters = torch.arange(len(own.scale), device=own.scale.device)
    links = _link(bench, own, own, filters)
    chosen = torch.zeros_like(filters, dtype=torch.bool)
    rho = links.rho.clamp(max=2)
    most = math.ceil(bench.settings.anchors * len(filters))
    chosen[rho.mean(1).topk(most, largest=False)[1]] = True
    best = links.parent[:, 0]
    chosen |= (best[best] == filters) & (rho[:, 0] < 1)
    node = chosen.nonzero()[:, 0]
    return Anchors(torch.full_like(node, OWN), node, own.mean[node], own.scale[node])


def _track_anchors(images: Images, anchors: Anchors, found: Mapping[int, Tracks]) -> Tracks:
    """Where anchors are in all images."""
    layers = set(anchors.layer.tolist()) or {OWN}

    def rows(here: slice) -> Tensor:
        there = {index: Found(*found[index].read(here)) for index in layers}
        positions, scores = gather(anchors.layer, anchors.node, there)
        return torch.cat([positions, scores[..., None]], -1)

    return Tracks(images.table(rows(here) for here in images), anchors.mean, anchors.scale)


def _link(
    bench: Bench,
    filters: Tracks,
    candidates: Tracks,
    candidate_filter: Tensor,
    among: Tensor | None = None,
) -> Links:
    """Link filters with the lengths of this image size; a filter is no parent of itself."""
    area = bench.frame.side**2
    return link(
        bench.images,
        filters,
        candidates,
        bench.settings.n_parents,
        floor=_FLOOR * area,
        least_variance=_LEAST_VARIANCE * area,
        child_group=torch.arange(len(filters.scale), device=filters.scale.device),
        candidate_group=candidate_filter,
        among=among,
    )


def _link_anchors(
    bench: Bench, filters: Tracks, anchors: Anchors, anchored: Tracks, among: Tensor | None = None
) -> Links:
    """Link filters to anchors; those of other layers are no filter of this one."""
    own = torch.where(anchors.layer == OWN, anchors.node, -1)
    return _link(bench, filters, anchored, own, among)


def _fit(bench: Bench, filters: Tracks, anchors: Anchors, anchored: Tracks, k: int) -> Fit:
    """Link filters to anchors, then split each filter into `k` patterns by EM."""
    links = _link_anchors(bench, filters, anchors, anchored)
    delta = bench.images.table(displacements(links, anchored.motion(here)) for here in bench.images)
    mean = filters.mean[:, None] if k == 1 else _draw_starts(bench, delta, k)
    shape = mean.shape[:2]
    sigma = mean.new_full(shape, bench.frame.bounds.sigma_max)
    fitted = Pass(
        anchors,
        links.parent,
        links.distance,
        Patterns(mean, sigma, mean.new_ones(shape)),
        torch.zeros(1),
    )
    return _climb(bench, fitted, delta)


def _climb(bench: Bench, fitted: Pass, delta: Table, alive: Tensor | None = None) -> Fit:
    """Run EM until the bound hardly rises any more, with some of the patterns or all."""
    patterns = fitted.patterns
    if alive is not None:
        patterns = patterns._replace(alive=alive.float())
    frame = bench.frame
    bounds: list[float] = []
    converged = False
    while len(bounds) < bench.settings.max_iter and not converged:
        summary = Summary(
            *bench.images.sum(
                summarize(maps, delta.read(here)[:, :, None], patterns, frame.grid, frame.bounds)
                for here, maps in bench.maps()
            )
        )
        patterns = from_summaries(summary, patterns, frame.bounds)
        bounds.append(summary.bound.item() / max(summary.total.sum().item(), 1e-12))
        converged = len(bounds) > 1 and bounds[-1] - bounds[-2] < bench.settings.tol
    energy = (summary.counts / summary.total.clamp(min=1e-12)[:, None]).float()
    return Fit(fitted._replace(patterns=patterns), delta, energy, bounds, converged)


def _draw_starts(bench: Bench, delta: Table, k: int) -> Tensor:
    """Draw `k` units of each filter by squared activation, where they are without displacement.

    By the largest of ``log a^2`` plus Gumbel noise that depends on the seed and the image's
    number only, so that it does not matter how images are shared out. Where fewer than `k` units
    are active, the rest start in the middle.
    """
    grid = bench.frame.grid
    middle = torch.stack([grid.x.mean(), grid.y.mean()])

    def draw(image: int, maps: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        c, _, w = maps.shape
        noise = torch.Generator().manual_seed(bench.seed * 1_000_003 + image)
        uniform = torch.rand(c, maps[0].numel(), generator=noise).clamp(1e-20, 1)
        gumbel = -uniform.log().neg().log()
        key, unit = (2 * maps.flatten(1).log() + gumbel.to(maps.device)).topk(k, 1)
        place = torch.stack([grid.x[unit % w], grid.y[unit // w]], -1) - shift[:, None]
        return key, torch.where(key.isinf()[..., None], middle, place)

    def draws() -> Iterator[tuple[Tensor, Tensor]]:
        for here, maps in bench.maps():
            for i, (image, shift) in enumerate(zip(maps, delta.read(here), strict=True)):
                yield draw(here.start + i, image, shift)

    return bench.images.largest(k, draws())[1]


def _support(images: Images, found: Tracks) -> Tensor:
    """Share of images where a node scores at least 0.2 of the mean of its top fifth."""

    def scores() -> Iterator[Tensor]:
        return (found.read(here)[1] for here in images)

    least = 0.2 * images.mean_of_largest(0.2, scores)
    (count,) = images.sum((((s >= least) & (s > 0)).sum(0),) for s in scores())
    return (count / images.n).float()


def contrast(bench: Bench, fitted: Pass, filters: Tracks, anchored: Tracks) -> Tensor:
    """How much a pattern's own filter says of where the anchors expect it: the reliability.

    A pattern's score at its expected place is compared with its score at the places expected in
    *other* images:

        reliability = (mean_n D - 2 sd_n(D) / sqrt(N)) / mean_n S(e_n),    D = S(e_n) - S(e_m)

    with ``S`` the activation under a wide Gaussian and ``S(e_m)`` its mean over several random
    ``m`` (of a random thousand, if there are more images). The links that predict the displacement
    in one half of the images are learnt on the other half, so that links found by chance predict
    nothing. A node that only repeats its
    parents has 0: its filter fires as much elsewhere.

    Parameters
    ----------
    bench : Bench
    fitted : Pass
        Its patterns and anchors; its links are learnt anew.
    filters, anchored : Tracks
        The filters' peaks, and the anchors.

    Returns
    -------
    (C K,)
        In [0, 1].
    """
    images, patterns, anchors = bench.images, fitted.patterns, fitted.anchors
    n = images.n
    if n < 4 or not len(anchors.node):
        return torch.zeros_like(patterns.sigma).flatten()
    draws = torch.Generator().manual_seed(bench.seed)
    half = torch.zeros(n, dtype=torch.bool)
    half[torch.randperm(n, generator=draws)[: n // 2]] = True
    links = [_link_anchors(bench, filters, anchors, anchored, learn) for learn in (half, ~half)]

    def predict(here: slice) -> Tensor:
        """Displacements by the links of the other half."""
        ours, others = (displacements(some, anchored.motion(here)) for some in links)
        return torch.where(half[here, None, None].to(ours.device), others, ours)

    delta = images.table(predict(here) for here in images)
    others = [torch.randperm(n, generator=draws) for _ in range(_PERMUTATIONS)]
    sample = torch.randperm(n, generator=draws)[:_SAMPLE].sort()[0]
    elsewhere = images.rows(delta, sample)
    sigma = torch.full_like(patterns.sigma, _EVIDENCE_SIGMA * bench.frame.side)

    def compare(here: slice, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def score(shift: Tensor) -> Tensor:
            return locate(maps, displaced(patterns, shift), sigma, bench.frame.grid)[1].double()

        there = score(delta.read(here))
        chance = sum(score(elsewhere[order[here] % len(sample)]) for order in others)
        gain = there - chance / _PERMUTATIONS
        return there.sum(0), gain.sum(0), gain.square().sum(0)

    there, gain, square = images.sum(compare(here, maps) for here, maps in bench.maps())
    deviation = ((square - gain.square() / n).clamp(min=0) / (n - 1)).sqrt()
    low = gain / n - 2 * deviation / math.sqrt(n)
    return (low / (there / n).clamp(min=1e-12)).clamp(0, 1).flatten().float()


def _graph(
    images: Images,
    activations: Source,
    mined: dict[int, MinedLayer],
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
        config=asdict(settings)
        | {"convergence": [c for m in mined.values() for c in m.convergence]},
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
        fitted |= pack(layer)
    for layer in mined.values():
        _add_edges(graph, images, layer, ids)
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
    k = mined.passes[-1].patterns.sigma.shape[1]
    nodes = mined.kept.nonzero()[:, 0]
    nodes = nodes[mined.reliability[nodes].argsort(descending=True, stable=True)]
    mean = mined.passes[-1].patterns.mean.flatten(0, 1)
    sigma = mined.passes[-1].patterns.sigma.flatten()
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
    graph: networkx.DiGraph, images: Images, mined: MinedLayer, ids: dict[int, dict[int, str]]
) -> None:
    """Link a layer's nodes to those nodes above that predict them best.

    A parent less than half as consistent as the child's best predicts little and is no edge.
    """
    fitted = mined.passes[-1]
    anchors = fitted.anchors
    if not (anchors.layer != OWN).all() or not len(anchors.node):
        return
    c, k = fitted.patterns.sigma.shape
    parent_ids = [
        ids[i].get(u) for i, u in zip(anchors.layer.tolist(), anchors.node.tolist(), strict=True)
    ]
    nodes = torch.tensor(list(ids[mined.layer.index]), dtype=torch.int64)
    rows = nodes // k if len(fitted.parent) == c else nodes
    block = 256
    for start in range(0, len(nodes), block):
        here, row = nodes[start : start + block], rows[start : start + block]
        edges = _measure_edges(images, mined.found, here, mined.anchored, fitted.parent[row])
        # where good anchors are few, the rest of a filter's M best are there by chance only
        least = 0.5 * edges["consistency"].amax(1, keepdim=True).clamp(min=1e-9)
        linked = (fitted.distance[row].isfinite() & (edges["consistency"] >= least)).tolist()
        columns = {name: values.tolist() for name, values in edges.items()}
        for i, v in enumerate(here.tolist()):
            for j, a in enumerate(fitted.parent[row[i]].tolist()):
                if linked[i][j] and parent_ids[a] is not None:
                    values = {name: column[i][j] for name, column in columns.items()}
                    graph.add_edge(parent_ids[a], ids[mined.layer.index][v], **values)


def _measure_edges(
    images: Images, found: Tracks, nodes: Tensor, anchored: Tracks, parent: Tensor
) -> dict[str, Tensor]:
    """Attributes ``(V, M)`` of the edges from anchors to some nodes: see `linking`."""

    def sums(child: Motion, up: Motion) -> tuple[Tensor, ...]:
        both = child.weight[:, :, None] * up.weight[:, parent]
        apart = child.moved[:, :, None] - up.moved[:, parent]
        of_nodes = (
            m.sum(0) for n in (child, up) for m in (n.weight, n.square(), n.weight.square())
        )
        return (
            both.sum(0),
            (both[..., None] * apart).sum(0),
            (both * apart.square().sum(-1)).sum(0),
            *of_nodes,
        )

    both, pull, square, *of_nodes = images.sum(
        sums(found.motion(here, nodes), anchored.motion(here)) for here in images
    )
    variance, variance_up = (of_nodes[i + 1] / of_nodes[i].clamp(min=1e-9) for i in (0, 3))
    total = both.clamp(min=1e-12)
    distance = square / total
    rho = distance / (variance[:, None] + variance_up[parent]).clamp(min=1e-9)
    norm = (of_nodes[2][:, None] * of_nodes[5][parent]).sqrt().clamp(min=1e-12)
    offset = found.mean[nodes][:, None] - anchored.mean[parent] + pull / total[..., None]
    edges = {
        "dx": offset[..., 0],
        "dy": offset[..., 1],
        "sigma": (distance / 2).sqrt(),
        "consistency": (1 - rho).clamp(0, 1),
        "coactivation": (both / norm).clamp(0, 1),
    }
    return {name: values.float() for name, values in edges.items()}


def pack(mined: MinedLayer) -> dict[str, np.ndarray[Any, Any]]:
    """Name the parameters that parsing needs: ``"<layer index>/<pass>/<parameter>"``."""
    index = mined.layer.index
    arrays = {f"{index}/scale": mined.scale, f"{index}/reach": torch.tensor([mined.reach])}
    for number, fitted in enumerate(mined.passes):
        prefix = f"{index}/{number}"
        arrays |= {f"{prefix}/anchor_{n}": t for n, t in fitted.anchors._asdict().items()}
        arrays |= {f"{prefix}/{n}": t for n, t in fitted.patterns._asdict().items()}
        arrays |= {
            f"{prefix}/parent": fitted.parent,
            f"{prefix}/distance": fitted.distance,
            f"{prefix}/window": fitted.window,
        }
    return {name: tensor.cpu().numpy() for name, tensor in arrays.items()}
