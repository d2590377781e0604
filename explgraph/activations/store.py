"""Activations on disk: recorded once, mined as often as wished, in bounded memory.

A store (`zarr_blocks`) holds, for each layer, the lowest first:

``0``, ``1``, ...
    One array ``(N, C, H, W)`` in chunks of `BLOCK` images; float16, or uint8 as shares of 255 of
    each filter's maximum in the chunk.
``scale0``, ``scale1``, ...
    Those maxima ``(chunks, C)``, for uint8.

Beside that ``whereabouts``, JSON: where the images were when it was last recorded, for pictures.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.activations.image_blocks import ImageBlocks, whole_blocks
from explgraph.activations.processes import Team
from explgraph.activations.streaming import BLOCK
from explgraph.activations.zarr_blocks import (
    Array,
    Blocks,
    Kind,
    explained,
    fill,
    keep_text,
    kept_text,
    open_blocks,
)
from explgraph.brief import counted
from explgraph.errors import ExplgraphError, warn
from explgraph.images.ahead import ahead
from explgraph.images.batches import AnyImages, batches, check_batch_size, subset
from explgraph.images.folder import ImageFolder
from explgraph.images.taken import described
from explgraph.images.whereabouts import whereabouts
from explgraph.network.forward import (
    checked_layers,
    fingerprint,
    on_device,
    rectified_maps,
    with_bar,
)
from explgraph.network.geometry import Layer, Signs, measure_layers
from explgraph.network.hooks import standing_in
from explgraph.network.layout import Layouts
from explgraph.network.preprocessing import warn_if_unlike
from explgraph.progress import Shown

__all__ = ["STORE_VERSION", "ActivationStore", "open_store", "record_to_store"]

STORE_VERSION = 2
_DTYPES = ("float16", "uint8")
_WHEREABOUTS = "whereabouts"
_LARGEST = 65504.0  # of float16
_LEAST = 2.0**-14  # of a layer's greatest: below, float16 loses digits, and all of the smaller ones
_KIND = Kind(
    "explgraph",
    STORE_VERSION,
    "store of activations",
    "explgraph record",
    "record",
    "recorded from",
    (
        ("model", "other weights"),
        ("images", "other images"),
        ("preprocessing", "images made ready in another way"),
        ("image_size", "images of another size"),
        ("layers", "other layers"),
        ("dtype", "dtype {}"),
    ),
)


@dataclass(frozen=True, repr=False)
class ActivationStore:
    """Rectified activations of some layers for some images, on disk.

    Made by `explgraph.record` with ``store=...`` and by `open_store`.

    Attributes
    ----------
    path : str
        Folder or URL.
    layers : tuple of Layer
        In the order of execution.
    names : tuple of str
        Of the N images.
    image_size : (int, int)
        ``(H, W)`` px of the images as the network saw them.
    model_fingerprint : str
        Of the weights.
    images_fingerprint : str
        Of the images that were recorded.
    preprocessing : dict
        How images were made ready (`ImageFolder.describe`), if that is known.
    dtype : str
        "float16" or "uint8".
    fingerprint : str
        SHA-256 of all that, hexadecimal.
    """

    path: str
    layers: tuple[Layer, ...]
    names: tuple[str, ...]
    image_size: tuple[int, int]
    model_fingerprint: str
    images_fingerprint: str
    preprocessing: dict[str, Any]
    dtype: str
    fingerprint: str
    _blocks: Blocks = field(compare=False)

    def __repr__(self) -> str:
        layers = ", ".join(layer.name for layer in self.layers)
        return (
            f"ActivationStore({self.path!r}, {counted(self.n_images, 'image')}, {layers}, "
            f"{self.dtype})"
        )

    @property
    def n_images(self) -> int:
        """Number of images, N."""
        return len(self.names)

    @property
    def in_memory(self) -> bool:
        """False; `explgraph.Activations` are in memory."""
        return False

    @property
    def whereabouts(self) -> dict[str, Any] | None:
        """Where the images are (`explgraph.images.whereabouts`); None if they were no folder's.

        Not checked: a store may be a stranger's, or damaged.
        """
        text = kept_text(_KIND, self.path, _WHEREABOUTS)
        try:
            record: dict[str, Any] | None = None if text is None else json.loads(text)
        except (ValueError, RecursionError) as err:
            raise ExplgraphError(
                f"the store {self.path!r} is damaged: {_WHEREABOUTS} isn't JSON; record again"
            ) from err
        return record

    def blocks(
        self, layer_index: int, size: int | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Go through a layer's maps in blocks of images, reading ahead.

        Parameters
        ----------
        layer_index : int
            0 is the lowest layer.
        size : int, optional
            Images in a block; all in one by default.
        start : int
            Number of the first image.
        stop : int, optional
            Number after the last one; by default all that follow.

        Yields
        ------
        slice
            Of the images.
        (n, C, H, W) float32
            Their maps.

        Raises
        ------
        ExplgraphError
            If a chunk is damaged or missing.
        """
        end = self.n_images if stop is None else stop
        step = size or max(1, end - start)
        blocks = [slice(first, min(first + step, end)) for first in range(start, end, step)]

        def read(here: slice) -> Tensor:
            with explained(
                _KIND, f"{self.path!r}, layer {layer_index}, images {here.start} and on"
            ):
                return self._read(layer_index, here)

        yield from zip(blocks, ahead(read, blocks, 1), strict=True)

    def _read(self, layer_index: int, here: slice) -> Tensor:
        """Give some images' maps."""
        layer = self.layers[layer_index]
        maps = torch.empty((here.stop - here.start, layer.channels, layer.height, layer.width))
        for number in range(here.start // BLOCK, math.ceil(here.stop / BLOCK)):
            first = number * BLOCK
            start, stop = max(first, here.start), min(first + BLOCK, here.stop)
            part = self._blocks.read(str(layer_index), number)[start - first : stop - first]
            kept = maps[start - here.start : stop - here.start].copy_(torch.from_numpy(part))
            if self.dtype == "uint8":
                scale = torch.from_numpy(self._blocks.read(f"scale{layer_index}", number)[0])
                kept *= (scale / 255)[:, None, None]
        return maps


def open_store(path: str | os.PathLike[str]) -> ActivationStore:
    """Open a store that was recorded before.

    Parameters
    ----------
    path : str or path
        Folder, or URL (``s3://bucket/birds``; fsspec's package for it must be installed).

    Raises
    ------
    ExplgraphError
        If there is no store, its recording isn't finished, another version wrote it, or what it
        says of itself doesn't fit its checksum or its arrays.
    """
    shown = str(path)
    blocks = open_blocks(_KIND, shown, _arrays_of)
    about = blocks.about
    return ActivationStore(
        shown,
        tuple(Layer.from_dict(values) for values in about["layers"]),
        blocks.texts["names"],
        (about["image_size"][0], about["image_size"][1]),
        about["model"],
        about["content"],
        about["preprocessing"],
        about["dtype"],
        about["checksum"],
        blocks,
    )


def _arrays_of(about: dict[str, Any], texts: Mapping[str, tuple[str, ...]]) -> dict[str, Array]:
    """Name the arrays of a store of some description."""
    layers = tuple(Layer.from_dict(values) for values in about["layers"])
    return _arrays(layers, len(texts["names"]), about["dtype"])


def _arrays(layers: Sequence[Layer], n: int, dtype: str) -> dict[str, Array]:
    """Name the arrays of a store of `n` images."""
    # without shuffling: long runs of zeros are what there is to compress
    arrays = {
        str(x.index): Array((n, x.channels, x.height, x.width), BLOCK, dtype, f"layer {x.name!r}")
        for x in layers
    }
    if dtype == "uint8":
        for x in layers:
            shape = (math.ceil(n / BLOCK), x.channels)
            arrays[f"scale{x.index}"] = Array(
                shape, 1, "float32", f"the scales of layer {x.name!r}"
            )
    return arrays


def record_to_store(
    model: nn.Module,
    images: AnyImages,
    layers: Sequence[str],
    path: str | os.PathLike[str],
    *,
    dtype: str = "float16",
    layout: Layouts = None,
    signs: Signs = "positive",
    batch_size: int = 32,
    device: str | torch.device = "auto",
    progress: Shown = None,
) -> ActivationStore:
    """Record into a store, or go on with one, or open it if it is finished: see `record`."""
    if dtype not in _DTYPES:
        raise ExplgraphError(f"dtype must be one of {', '.join(_DTYPES)}; got {dtype!r}")
    check_batch_size(batch_size)
    blocks_of = ImageBlocks(images)
    names = blocks_of.names
    with torch.inference_mode(False), on_device(model, device):
        first = next(batches(subset(images, [0], 1), 1))[1]
        channels, height, width = (int(n) for n in first.shape[1:])
        size = (height, width)
        with standing_in(model, first):
            measured = measure_layers(
                model, checked_layers(layers), size, layout, signs, channels=channels
            )
        warn_if_unlike(model, images, first)
        about = {
            "layers": [layer.as_dict() for layer in measured],
            "image_size": list(size),
            "model": fingerprint(model),
            "images": blocks_of.identity,
            "preprocessing": described(images),
            "dtype": dtype,
        }

        # of each layer's filters, which fire, and which of them as strongly as float16 needs
        fires = [torch.zeros(layer.channels) for layer in measured]
        held = [torch.zeros(layer.channels) for layer in measured]

        def blocks(missing: list[int]) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
            source = blocks_of.batches(missing, batch_size)
            runs = with_bar(rectified_maps(model, source, measured), len(missing) * BLOCK, progress)
            for block, caught in whole_blocks(runs, missing, len(names)):
                kept = [caught[layer.name] for layer in measured]
                for index, values in enumerate(kept):
                    most = values.amax((0, 2, 3))
                    fires[index] += most > 0
                    held[index] += most >= _LEAST
                yield block, _encoded(kept, [layer.name for layer in measured], dtype)

        arrays = _arrays(measured, len(names), dtype)
        fill(_KIND, path, about, {"names": names}, arrays, blocks_of, blocks)
        team = Team()
        firing, enough = team.sum(fires), team.sum(held)
        if dtype == "float16" and team.rank == 0:
            for layer, some, well in zip(measured, firing, enough, strict=True):
                _warn_of_faint(layer, int(((some > 0) & (well == 0)).sum()))
        if isinstance(images, ImageFolder) and team.rank == 0:
            keep_text(_KIND, str(path), _WHEREABOUTS, json.dumps(whereabouts(images)))
    return open_store(path)


def _warn_of_faint(layer: Layer, number: int) -> None:
    """Say that float16 loses digits of some filters, or all of them.

    It is no error: next to a network's ordinary filters, such ones may be dead but for noise.
    """
    if number:
        warn(
            f"layer {layer.name!r}: {number} of {layer.channels} filters stay below {_LEAST:g} in "
            "all images that were recorded now, where float16 loses digits or everything, so that "
            "they may lose nodes; if they matter, record with dtype='uint8' (--dtype uint8), which "
            "scales each filter by itself"
        )


def _encoded(maps: Sequence[Tensor], names: Sequence[str], dtype: str) -> dict[str, NDArray[Any]]:
    """Give a block's chunks, of layers of these names."""
    chunks = {}
    for index, values in enumerate(maps):
        if dtype == "uint8":
            scale = values.amax((0, 2, 3))
            chunks[f"scale{index}"] = scale[None].numpy()
            # divided first: 255 / scale would overflow for the least scales
            share = values / torch.where(scale > 0, scale, 1.0)[:, None, None]
            kept = (share * 255).round().to(torch.uint8)
        else:
            most = float(values.max()) if values.numel() else 0.0
            if most > _LARGEST or 0 < most < _LEAST:
                raise ExplgraphError(
                    f"layer {names[index]!r} has activations up to {most:g}, float16 holds those "
                    f"from {_LEAST:g} to {_LARGEST:g}; record with dtype='uint8' (--dtype uint8), "
                    "which scales each filter by itself"
                )
            kept = values.half()
        chunks[str(index)] = kept.numpy()
    return chunks
