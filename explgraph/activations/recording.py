"""Recording: a model and images give rectified activations, layer by layer.

1. The layers are put in the order of execution and their unit centres are measured
   (`geometry.measure_layers`).
2. The model runs over the images in batches (`forward.rectified_maps`), and its maps are kept in
   memory (`Activations`) or on disk (`store.record_to_store`).
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor, nn

from explgraph.activations.memory import Activations
from explgraph.activations.store import ActivationStore, record_to_store
from explgraph.errors import ExplgraphError
from explgraph.images.batches import AnyImages, batches, count
from explgraph.images.taken import taken
from explgraph.network.forward import (
    checked_layers,
    fingerprint,
    on_device,
    rectified_maps,
    with_bar,
)
from explgraph.network.geometry import Signs, measure_layers
from explgraph.network.hooks import check_model, standing_in
from explgraph.network.layout import Layouts
from explgraph.network.preprocessing import ready_for, warn_if_unlike
from explgraph.progress import Shown

__all__ = ["record"]


@overload
def record(
    model: nn.Module,
    images: AnyImages,
    layers: Sequence[str],
    *,
    store: None = None,
    dtype: str = "float16",
    layout: Layouts = None,
    signs: Signs = "positive",
    batch_size: int = 32,
    device: str | torch.device = "auto",
    progress: Shown = None,
) -> Activations: ...
@overload
def record(
    model: nn.Module,
    images: AnyImages,
    layers: Sequence[str],
    *,
    store: str | os.PathLike[str],
    dtype: str = "float16",
    layout: Layouts = None,
    signs: Signs = "positive",
    batch_size: int = 32,
    device: str | torch.device = "auto",
    progress: Shown = None,
) -> ActivationStore: ...
def record(
    model: nn.Module,
    images: AnyImages,
    layers: Sequence[str],
    *,
    store: str | os.PathLike[str] | None = None,
    dtype: str = "float16",
    layout: Layouts = None,
    signs: Signs = "positive",
    batch_size: int = 32,
    device: str | torch.device = "auto",
    progress: Shown = None,
) -> Activations | ActivationStore:
    """Record what some modules give for some images, rectified at zero.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode; it is moved to `device` and back again.
    images : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
        One object per image is assumed. See `explgraph.images.batches.batches`.
    layers : sequence of str
        Names of modules as in ``model.named_modules()``, in any order; ``"name@k"`` is the k-th
        call (from 0) of a module that runs more than once in a forward pass.
    store : path or URL, optional
        Where activations are kept (see `activations.store`); in memory by default. Recording that
        was interrupted goes on where it was, and what is finished is not recorded again. Needs
        images that can be counted and taken in any order.
    dtype : str
        Of a store: "float16", or "uint8", which takes half the place.
    layout : str or mapping of str to str, optional
        How outputs are read as maps, "NCHW" or "NHWC" for example, of all layers or by layer. It is
        measured on the model; state it where that fails. See `explgraph.network.map_formats`.
    signs : {"positive", "both"} or mapping of str to str
        What counts, of all layers or by layer: what a layer gives above zero, or both signs. Then a
        layer of C channels has 2 C filters; those from C on, named "0-" ..., are what the channels
        give below zero. For layers without a ReLU (transformers, linear outputs).
    batch_size : int
        Images at a time; at most 32 with a store.
    device : str or torch.device
        "auto" is the GPU if there is one, otherwise where the model is.
    progress : bool or None
        Show a bar, on a terminal, if it takes longer than two seconds.

    Returns
    -------
    Activations or ActivationStore

    Raises
    ------
    ExplgraphError
        For unknown layers (the nearest names are offered), layers without a spatial grid or whose
        layout can't be found, a stated layout that measuring contradicts, a model
        in training mode, images that don't fit, activations that are NaN or infinite or too many
        for this machine's memory, and a store that was recorded from something else.
    """
    check_model(model)
    images = taken(images, lambda: ready_for(model, progress))
    if store is not None:
        return record_to_store(
            model,
            images,
            layers,
            store,
            dtype=dtype,
            layout=layout,
            signs=signs,
            batch_size=batch_size,
            device=device,
            progress=progress,
        )
    names = checked_layers(layers)
    # the maps are ordinary tensors, whatever mode the caller is in
    with torch.inference_mode(False), on_device(model, device):
        source = batches(images, batch_size)
        first = next(source)
        channels, height, width = (int(n) for n in first[1].shape[1:])
        size = (height, width)
        with standing_in(model, first[1][:1]):
            measured = measure_layers(model, names, size, layout, signs, channels=channels)
        warn_if_unlike(model, images, first[1])
        total = count(images)
        shapes = [(layer.channels, layer.height, layer.width) for layer in measured]
        _check_memory(4 * (total or 0) * sum(map(math.prod, shapes)))
        # one tensor from the start where the number of images is known: no second copy at the end
        maps = [
            torch.empty((total or 0, *shape), dtype=torch.float32, device="cpu") for shape in shapes
        ]
        pieces: list[list[Tensor]] = [[] for _ in measured]
        seen: list[str] = []
        runs = rectified_maps(model, itertools.chain([first], source), measured)
        for here, caught in with_bar(runs, total, progress):
            for i, layer in enumerate(measured):
                if total is None:
                    pieces[i].append(caught[layer.name])
                else:
                    maps[i][len(seen) : len(seen) + len(here)] = caught[layer.name]
            seen.extend(here)
    if total is None:
        maps = [torch.cat(piece) for piece in pieces]
    return Activations(
        measured, tuple(seen), size, [m[: len(seen)] for m in maps], fingerprint(model)
    )


def _check_memory(need: int) -> None:
    """Refuse to hold more bytes than the machine has, before a long run over the images."""
    if not hasattr(os, "sysconf"):
        return  # Windows doesn't tell
    have = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need > have:
        raise ExplgraphError(
            f"the activations take {need / 1e9:.0f} GB, this machine has {have / 1e9:.0f} GB of "
            "memory; keep them on disk (store=..., --store)"
        )
