"""Mining: from recorded activations to an explanatory graph.

1. Every filter's map is divided by a scale, so that its squares sum to 1 per image in mean: squared
   activation counts as observations of where the filter fires.
2. *Poses* (`learn_pose`, `choose_pose`). From a sample of the images, for every grid of units: the
   filters' peaks give each image a pose of a few numbers, and every filter a trajectory, where it
   is at which pose. Which grid knows the object better differs from data to data: that pose is
   taken which the filters of all layers follow most on held-out images.
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

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from explgraph.activations.checkpoint import Checkpoint
from explgraph.activations.processes import Team
from explgraph.activations.recording import record
from explgraph.activations.store import ActivationStore, open_store
from explgraph.activations.streaming import BLOCK, Images, Source
from explgraph.errors import ExplgraphError, warn
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.schema import check_whereabouts
from explgraph.graph.several import usual_fit, warn_if_several
from explgraph.graph.weak_pose import warn_if_weak
from explgraph.images.batches import AnyImages
from explgraph.images.folder import ImageFolder
from explgraph.images.taken import described, taken
from explgraph.images.whereabouts import only, whereabouts
from explgraph.mining.assemble import assemble, versions
from explgraph.mining.choose_pose import choose_pose, learn_poses
from explgraph.mining.layer_maps import LayerMaps, by_grid, layer_maps, side_by_side
from explgraph.mining.mine_layer import LAYER, mine_layer
from explgraph.mining.settings import Settings
from explgraph.network.forward import checked_device
from explgraph.network.geometry import Signs
from explgraph.network.layers import layers_for
from explgraph.network.layout import Layouts
from explgraph.network.preprocessing import ready_for
from explgraph.progress import Shown, Stages
from explgraph.statistics.fitted import Fitted
from explgraph.statistics.one_pose import explained
from explgraph.whole_numbers import checked_seed

__all__ = ["ENOUGH", "FEW", "mine", "mine_activations"]


_SAMPLE_BYTES = 1 << 30  # of a grid's maps, in memory at a time
_LEAST_SAMPLE = 64
# images: nodes mined from so few, or fewer, follow parts in other images less than half as well as
# those from 160; those from so many four fifths (benchmarks/few_images.py)
FEW, ENOUGH = 20, 40
# how far stages move the bar, as `mine_layer.LAYER`
_SCALES, _POSES, _EDGES = 0.1, 7.5, 3.5


def mine(
    model: nn.Module | None = None,
    images: AnyImages | None = None,
    layers: Sequence[str] | None = None,
    *,
    store: str | os.PathLike[str] | ActivationStore | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int = 0,
    layout: Layouts = None,
    signs: Signs = "positive",
    device: str = "auto",
    batch_size: int = 32,
    settings: Settings | None = None,
    progress: Shown = None,
) -> ExplanatoryGraph:
    """Mine an explanatory graph from a trained network and images, or from a store of activations.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode. None, as `images` and `layers` then are, to mine from a `store` that
        was recorded before.
    images : path of a folder, ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
        Tensors are normalised as the model expects it; a folder, or a list of photographs, is made
        ready as the model says (`explgraph.images.taken`). One object per image is assumed: a
        crop, or a photograph that shows one.
    layers : sequence of str, optional
        Names of modules whose outputs are feature maps; their order doesn't matter. By default
        those that `explgraph.suggest_layers` suggests.
    store : path, URL or ActivationStore, optional
        Activations on disk. With a model they are recorded there, as far as they are missing;
        without a store they are held in memory.
    checkpoint : path, optional
        Folder for what is finished, from which an interrupted run goes on: see `mine_activations`.
    seed : int
    layout : str or mapping of str to str, optional
        See `explgraph.record`.
    signs : {"positive", "both"} or mapping of str to str
        Whether what layers give below zero makes filters of its own: see `explgraph.record`.
    device : str
        Where the model runs and the arithmetic of mining is done; "auto" is the GPU if there is
        one.
    batch_size : int
        Images per forward pass; the result does not depend on it beyond rounding.
    settings : Settings, optional
    progress : bool or None
        Show bars: by default in notebooks alone, if True on a terminal too.

    Returns
    -------
    ExplanatoryGraph

    Raises
    ------
    ExplgraphError
        See `explgraph.record` and `explgraph.open_store`; also if there is one image only, no
        filter of the layers ever fires, or several processes have no store.

    Warns
    -----
    ExplgraphWarning
        If there are few images, no node is reliable, or poses tell little; if images aren't
        normalised as the model says, or are of quite another size than it was trained with.
    """
    settings, seed = _checked(settings, seed)
    activations: Source
    if model is None:
        if store is None or images is not None or layers is not None:
            raise ExplgraphError("mine needs a model and images, or else a store alone")
        if signs not in ("positive", {}):
            raise ExplgraphError(
                "signs is for recording, a store keeps what it was recorded with; leave it out, "
                "or give model and images as well"
            )
        activations = store if isinstance(store, ActivationStore) else open_store(store)
        preprocessing = activations.preprocessing
    elif images is None or isinstance(store, ActivationStore):
        raise ExplgraphError("mine needs images with a model, and the path of a store, if any")
    else:
        if store is None and Team().size > 1:
            raise ExplgraphError(
                "several processes need store=..., a place where all of them can read and write"
            )
        images = taken(images, lambda: ready_for(model, progress))
        if layers is None:
            layers = layers_for(model, images, progress)
        activations = record(
            model,
            images,
            layers,
            store=store,
            layout=layout,
            signs=signs,
            batch_size=batch_size,
            device=device,
            progress=progress,
        )
        preprocessing = described(images)
    return mine_activations(
        activations,
        seed=seed,
        settings=settings,
        preprocessing=preprocessing,
        images=images if isinstance(images, ImageFolder) else None,
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
    images: ImageFolder | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    progress: Shown = None,
) -> ExplanatoryGraph:
    """Mine an explanatory graph from activations that were recorded before: see `mine`.

    Parameters
    ----------
    activations : Activations or another Source
    seed : int
    settings : Settings, optional
    preprocessing : dict, optional
        How images were made ready; kept in the graph.
    images : ImageFolder, optional
        What the activations are of: the graph remembers where those are that nodes are seen best
        in (`ExplanatoryGraph.with_images`). A store knows by itself.
    checkpoint : path, optional
        Folder for what is finished: an interrupted run that is started again goes on there and
        gives the same graph. Delete it (`explgraph.activations.checkpoint.discard`) once the graph
        is saved.
    device : str
        Where the arithmetic is done; "auto" is the GPU if there is one.
    progress : bool or None

    Returns
    -------
    ExplanatoryGraph

    Raises
    ------
    ExplgraphError
        If the checkpoint is of another job, there are fewer than two images, or no filter of the
        layers ever fires.
    """
    settings, seed = _checked(settings, seed)
    if len(activations.names) < 2:
        raise ExplgraphError(
            "mining needs two images or more, since patterns found in some are judged on others; "
            f"got {len(activations.names)}"
        )
    target = checked_device(device)
    where = None if images is not None else _whereabouts(activations)
    team = Team()
    stages = Stages(
        len(activations.layers) * (_SCALES + LAYER) + _POSES + _EDGES,
        shown=progress if team.rank == 0 else False,
        about="mining",
    )
    with stages.bar, torch.no_grad(), ExitStack() as stack:
        kept = folder = None
        if checkpoint is not None:
            kept = Checkpoint(checkpoint, _job(activations, settings, seed), team)
        elif not activations.in_memory:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="explgraph-")))
        rows = Images(
            len(activations.names), folder=folder, checkpoint=kept, team=team, device=target
        )
        layers = []
        for layer in reversed(activations.layers):
            with stages.stage(_SCALES, f"{layer.name}: scales"):
                layers.append(layer_maps(rows, activations, layer))
        graph = _mine(rows, activations, layers, settings, seed, preprocessing or {}, stages)
    if not any(reliability > 0 for _, reliability in graph.nx.nodes(data="reliability")):
        warn(
            f"no filter follows what moves in these {rows.n} images, so that no node is "
            f"reliable; give {ENOUGH} images or more, of one kind of object, normalised as "
            "the model expects them (mean, std)"
        )
    elif rows.n <= FEW:
        warn(
            f"{rows.n} images are few to mine from: nodes from {FEW} or fewer follow parts in "
            "other images less than half as well as nodes from 160, as was measured, and nodes "
            f"from {ENOUGH} four fifths as well; give {ENOUGH} or more"
        )
    else:
        warn_if_weak(graph.nx.graph["config"])
        warn_if_several(graph.nx.graph["config"], rows.n)
    seen = {name for top in graph.top_images.values() for name, *_ in top}
    if images is not None:
        graph.whereabouts = whereabouts(images, seen)
    elif where is not None:
        graph.whereabouts = only(where, seen)
    return graph


def _whereabouts(activations: Source) -> dict[str, Any] | None:
    """Say where a store's images are; warn if that can't be read: pictures alone need it."""
    if not isinstance(activations, ActivationStore):
        return None
    try:
        record = activations.whereabouts
        if record is not None:
            check_whereabouts(record, activations.image_size)
    except ExplgraphError as err:
        warn(
            f"the graph won't know where its images are: {err}; mining goes on. Give pages and "
            "drawings images=, or record once more: what is recorded stays"
        )
        return None
    return record


def _job(activations: Source, settings: Settings, seed: int) -> dict[str, Any]:
    """Name what the steps of mining depend on."""
    return {
        "activations": activations.fingerprint,
        "settings": asdict(settings),
        "seed": seed,
        "block": BLOCK,
        "versions": versions(),
    }


def _checked(settings: Settings | None, seed: int) -> tuple[Settings, int]:
    """Give the settings, or the defaults, and the seed; refuse what can't be used."""
    if not isinstance(settings, Settings | None):
        raise ExplgraphError(f"settings must be an explgraph.Settings, got {settings!r}")
    return settings or Settings(), checked_seed(seed)


def _mine(
    images: Images,
    activations: Source,
    layers: Sequence[LayerMaps],
    settings: Settings,
    seed: int,
    preprocessing: dict[str, Any],
    stages: Stages,
) -> ExplanatoryGraph:
    """Do all the steps: see the module."""
    height, width = activations.image_size
    area = float(height * width)
    sample = _sample(images, layers, settings, seed)
    with stages.stage(_POSES, "poses") as part:
        poses_learnt = learn_poses(layers, sample, settings, seed, area, part)
        learnt = choose_pose(layers, sample, poses_learnt, settings, area, seed)
        reading = Fitted(learnt.reader, {})
        grids = {maps.layer.index: maps.grid for maps in layers}
        prepared = reading.prepared(grids)
        guiding = [m for m in layers if m.layer.index in learnt.reader.guides.layers()]

        def read() -> Iterator[Tensor]:
            for _, block in side_by_side(guiding):
                read = reading.poses(block, grids, prepared)
                much = explained(learnt.reader, block, grids, read, area)
                yield torch.cat([read, much[:, None]], 1)

        with_fit = images.table(read())
        # a few numbers for each image, as little as its name
        poses = images.keep(with_fit.read(here)[:, :-1] for here in images)
        fit = images.rows(with_fit, torch.arange(images.n))[:, -1]
    sample_poses = images.rows(poses, sample)
    mined = [
        mine_layer(
            maps, learnt, poses, sample, sample_poses, settings,
            area=area, seed=seed, stages=stages,
        )
        for maps in layers
    ]  # fmt: skip
    fitted = Fitted(learnt.reader, {m.layer.index: m.fitted for m in mined})
    with stages.stage(_EDGES, "edges"):
        return assemble(
            images, activations, mined, fitted, sample, settings, seed, preprocessing,
            told=usual_fit(fit, len(learnt.reader.checks)),
        )  # fmt: skip


def _sample(images: Images, layers: Sequence[LayerMaps], settings: Settings, seed: int) -> Tensor:
    """Draw the images from which poses and patterns are learnt, ascending."""
    bytes_ = max(
        sum(4 * m.layer.channels * m.layer.height * m.layer.width for m in group)
        for group in by_grid(layers)
    )
    most = min(settings.sample, max(_LEAST_SAMPLE, _SAMPLE_BYTES // bytes_))
    draws = torch.Generator().manual_seed(seed)
    return torch.randperm(images.n, generator=draws)[:most].sort()[0]
