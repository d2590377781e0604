"""Activations on disk: recorded once, mined as often as wished, in bounded memory.

A store is a zarr group (format 3) in a folder or at any URL that fsspec knows:

``0``, ``1``, ...
    One array ``(N, C, H, W)`` for each layer, the lowest first, in chunks of `BLOCK` images;
    float16, or uint8 as shares of 255 of each filter's maximum in the chunk. Every chunk is
    compressed (lz4) and carries a checksum (CRC-32C), which is checked whenever it is read.
``scale0``, ``scale1``, ...
    Those maxima ``(chunks, C)``, for uint8.
``names``
    The images' names, as JSON in UTF-8.

The group's attribute ``explgraph`` says what was recorded from which model and images, its version,
and, once all chunks are there, carries a checksum of itself. Chunks appear whole or not at all, so
recording that was interrupted goes on where it was, with at most one block of images (for each
process) recorded again. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from explgraph.activations.processes import Team
from explgraph.activations.streaming import BLOCK
from explgraph.errors import ExplgraphError
from explgraph.images.ahead import ahead
from explgraph.images.batches import (
    AnyImages,
    batches,
    check_batch_size,
    image_names,
    images_fingerprint,
    subset,
)
from explgraph.images.folder import ImageFolder
from explgraph.network.forward import (
    checked_layers,
    fingerprint,
    on_device,
    rectified_maps,
    with_bar,
)
from explgraph.network.geometry import Layer, measure_layers

if TYPE_CHECKING:
    import zarr

__all__ = ["STORE_VERSION", "ActivationStore", "open_store", "record_to_store"]

STORE_VERSION = 1
_DTYPES = ("float16", "uint8")
_LARGEST = 65504.0  # of float16


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
    model_fingerprint, images_fingerprint : str
        Of the weights and of the images that were recorded.
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
    _group: zarr.Group = field(compare=False)

    def __repr__(self) -> str:
        layers = ", ".join(layer.name for layer in self.layers)
        return f"ActivationStore({self.path!r}, {self.n_images} images, {layers}, {self.dtype})"

    @property
    def n_images(self) -> int:
        """Number of images, N."""
        return len(self.names)

    @property
    def in_memory(self) -> bool:
        """False; `explgraph.Activations` are in memory."""
        return False

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
        start, stop : int
            Of the images; all by default.

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
            with _explained(f"{self.path!r}, layer {layer_index}, images {here.start} and on"):
                return self._read(layer_index, here)

        yield from zip(blocks, ahead(read, blocks, 1), strict=True)

    def _read(self, layer_index: int, here: slice) -> Tensor:
        """Give some images' maps."""
        array = _array(self._group, str(layer_index))
        maps = torch.from_numpy(np.asarray(array[here])).float()
        chunks = slice(here.start // BLOCK, math.ceil(here.stop / BLOCK))
        for chunk in range(chunks.start, chunks.stop):
            # zarr fills in zeros where a chunk is missing
            part = maps[max(0, chunk * BLOCK - here.start) : (chunk + 1) * BLOCK - here.start]
            if not part.any() and not _has_chunk(self.path, layer_index, chunk):
                raise ExplgraphError(
                    f"chunk {chunk} of layer {layer_index} is missing in the store {self.path!r}; "
                    "record again, only what is missing will be"
                )
        if self.dtype == "uint8":
            scale = torch.from_numpy(np.asarray(_array(self._group, f"scale{layer_index}")[chunks]))
            of_images = torch.arange(here.start, here.stop) // BLOCK - chunks.start
            maps *= (scale / 255)[of_images, :, None, None]
        return maps


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Turn what zarr and file systems raise into a line for the user."""
    try:
        yield
    except ExplgraphError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as err:
        reason = " ".join(str(err).split()) or type(err).__name__
        raise ExplgraphError(
            f"store {where}: {reason}; if it is damaged, delete it and record again"
        ) from err


def _zarr() -> Any:
    """Give the zarr package."""
    try:
        import zarr
    except ImportError as err:
        raise ExplgraphError(
            "a store needs zarr, which isn't installed: pip install 'explgraph[store]' "
            "(Python 3.11 or later)"
        ) from err
    return zarr


def _array(group: zarr.Group, name: str) -> Any:
    """Give one of a store's arrays."""
    return group[name]


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
    zarr = _zarr()
    shown = str(path)
    with _explained(f"{shown!r} can't be opened"):
        try:
            group = zarr.open_group(shown, mode="r")
        except FileNotFoundError as err:
            raise ExplgraphError(
                f"{shown!r} is no store of activations; explgraph record makes one"
            ) from err
        about = _read_about(group, shown)
        names = _read_names(group)
    if about.get("checksum") is None:
        raise ExplgraphError(
            f"the recording of the store {shown!r} isn't finished; run the same command or call "
            "again, it goes on where it was"
        )
    if about["checksum"] != _checksum(about, names):
        raise ExplgraphError(
            f"the store {shown!r} is damaged: its description doesn't fit its checksum; delete it "
            "and record again"
        )
    layers = tuple(Layer.from_dict(values) for values in about["layers"])
    for layer in layers:
        shape = (len(names), layer.channels, layer.height, layer.width)
        array: Any = group.get(str(layer.index))
        if array is None or tuple(array.shape) != shape or str(array.dtype) != about["dtype"]:
            found = "nothing" if array is None else f"{array.dtype} of {tuple(array.shape)}"
            raise ExplgraphError(
                f"the store {shown!r} is damaged: layer {layer.name!r} should be {about['dtype']} "
                f"of {shape}, found {found}; delete it and record again"
            )
    return ActivationStore(
        shown,
        layers,
        names,
        (about["image_size"][0], about["image_size"][1]),
        about["model"],
        about["images"],
        about["preprocessing"],
        about["dtype"],
        about["checksum"],
        group,
    )


def _read_about(group: zarr.Group, shown: str) -> dict[str, Any]:
    """Give a store's description, if this version understands it."""
    about = dict(group.attrs).get("explgraph")
    if not isinstance(about, dict):
        raise ExplgraphError(f"{shown!r} is a zarr group, but no store of activations")
    if about.get("version") != STORE_VERSION:
        raise ExplgraphError(
            f"the store {shown!r} is of version {about.get('version')!r}, this explgraph reads "
            f"{STORE_VERSION}; use the explgraph that wrote it, or record again"
        )
    return about


def _read_names(group: zarr.Group) -> tuple[str, ...]:
    """Give the images' names."""
    return tuple(json.loads(np.asarray(_array(group, "names")[:]).tobytes()))


def _checksum(about: dict[str, Any], names: Sequence[str]) -> str:
    """Digest a description, its own checksum aside, and the names: SHA-256, hexadecimal."""
    content = {k: v for k, v in about.items() if k != "checksum"} | {"names": list(names)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def record_to_store(
    model: nn.Module,
    images: AnyImages,
    layers: Sequence[str],
    path: str | os.PathLike[str],
    *,
    dtype: str = "float16",
    batch_size: int = 32,
    device: str | torch.device = "auto",
    progress: bool = False,
) -> ActivationStore:
    """Record into a store, or go on with one, or open it if it is finished: see `record`."""
    if dtype not in _DTYPES:
        raise ExplgraphError(f"dtype must be one of {', '.join(_DTYPES)}; got {dtype!r}")
    check_batch_size(batch_size)
    names = image_names(images)
    team = Team()
    with torch.inference_mode(False), on_device(model, device):
        first = next(batches(subset(images, [0], 1), 1))[1]
        size = (int(first.shape[2]), int(first.shape[3]))
        measured = measure_layers(model, checked_layers(layers), size)
        about = {
            "version": STORE_VERSION,
            "layers": [layer.as_dict() for layer in measured],
            "image_size": list(size),
            "model": fingerprint(model),
            "images": images_fingerprint(images),
            "preprocessing": images.describe() if isinstance(images, ImageFolder) else {},
            "dtype": dtype,
        }
        with _explained(f"{str(path)!r} can't be written"):
            if team.rank == 0:
                _begin(str(path), about, names)
            team.all_of(True)
            group = _zarr().open_group(str(path), mode="r+")
            missing = _missing(str(path), len(measured), math.ceil(len(names) / BLOCK))
            team.all_of(True)  # nobody writes before all have looked
        mine = [missing[i] for i in team.share(len(missing))]
        if mine:
            source = _blocks_of(images, names, mine, batch_size)
            runs = with_bar(rectified_maps(model, source, measured), len(mine) * BLOCK, progress)
            for block, caught in _whole_blocks(runs, mine, len(names)):
                with _explained(f"{str(path)!r} can't be written"):
                    _write(group, block, [caught[layer.name] for layer in measured], dtype)
    team.all_of(True)
    if team.rank == 0:
        with _explained(f"{str(path)!r} can't be written"):
            group.attrs["explgraph"] = about | {"checksum": _checksum(about, names)}
    team.all_of(True)
    return open_store(path)


def _begin(path: str, about: dict[str, Any], names: Sequence[str]) -> None:
    """Make a store's arrays, or see that those that are there are of the same recording."""
    zarr = _zarr()
    if Path(path).is_dir() and any(Path(path).iterdir()) and not Path(path, "zarr.json").exists():
        raise ExplgraphError(f"{path!r} holds something else; choose another place for the store")
    group = zarr.open_group(path, mode="a")
    if "explgraph" in group.attrs:
        _check_same(path, _read_about(group, path), about)
        return
    ours = {f"{kind}{i}" for i in range(len(about["layers"])) for kind in ("", "scale")}
    if len(dict(group.attrs)) or not set(group.keys()) <= ours | {"names"}:
        raise ExplgraphError(f"{path!r} holds something else; choose another place for the store")
    from zarr.codecs import BloscCodec, Crc32cCodec

    def array(name: str, shape: tuple[int, ...], chunk: int, dtype: str) -> Any:
        return group.create_array(
            name,
            shape=shape,
            chunks=(chunk, *shape[1:]),
            dtype=dtype,
            # without shuffling: long runs of zeros are what there is to compress
            compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle"), Crc32cCodec()],
            chunk_key_encoding={"name": "default", "separator": "/"},  # as in `_has_chunk`
            config={"write_empty_chunks": True},
            overwrite=True,
        )

    for layer in map(Layer.from_dict, about["layers"]):
        shape = (len(names), layer.channels, layer.height, layer.width)
        array(str(layer.index), shape, BLOCK, about["dtype"])
        if about["dtype"] == "uint8":
            chunks = math.ceil(len(names) / BLOCK)
            array(f"scale{layer.index}", (chunks, layer.channels), 1, "float32")
    text = np.frombuffer(json.dumps(list(names)).encode(), dtype=np.uint8)
    array("names", text.shape, len(text), "uint8")[:] = text
    group.attrs["explgraph"] = about  # last: now it is a store


def _check_same(path: str, kept: dict[str, Any], about: dict[str, Any]) -> None:
    """Refuse a store that was recorded from something else, and say what differs."""
    for name, what in (
        ("model", "other weights"),
        ("images", "other images"),
        ("preprocessing", "images made ready in another way"),
        ("image_size", "images of another size"),
        ("layers", "other layers"),
        ("dtype", f"dtype {kept.get('dtype')!r}"),
    ):
        if kept.get(name) != about[name]:
            raise ExplgraphError(
                f"the store {path!r} was recorded from {what}; record into another place, or "
                "delete it"
            )


def _missing(path: str, n_layers: int, n_blocks: int) -> list[int]:
    """List the blocks of which not all chunks are there."""
    return [b for b in range(n_blocks) if not all(_has_chunk(path, i, b) for i in range(n_layers))]


def _has_chunk(path: str, layer: int, chunk: int) -> bool:
    """Whether a chunk of images has been written.

    zarr has no public way to ask, so its file is looked for, by the name that the specification
    of zarr 3 gives it.
    """
    from fsspec.core import url_to_fs

    files, root = url_to_fs(path)
    return bool(files.exists(f"{root}/{layer}/c/{chunk}/0/0/0"))


def _blocks_of(
    images: AnyImages, names: Sequence[str], blocks: Sequence[int], batch_size: int
) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Read some blocks of images, in batches that don't run from one block into the next.

    What a network gives rounds differently in another batch, so batches must not depend on where
    a recording was interrupted.
    """
    chosen = [i for b in blocks for i in range(b * BLOCK, min((b + 1) * BLOCK, len(names)))]
    done = 0
    for _, batch in batches(subset(images, chosen, BLOCK), BLOCK):
        here = tuple(names[i] for i in chosen[done : done + len(batch)])
        done += len(batch)
        for start in range(0, len(batch), batch_size):
            piece = slice(start, start + batch_size)
            yield here[piece], batch[piece]


def _whole_blocks(
    runs: Iterable[tuple[tuple[str, ...], dict[str, Tensor]]], blocks: Sequence[int], n: int
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Put a block's batches together."""
    running = iter(runs)
    for block in blocks:
        length = min(BLOCK, n - block * BLOCK)
        pieces: list[dict[str, Tensor]] = []
        while sum(len(next(iter(piece.values()))) for piece in pieces) < length:
            pieces.append(next(running)[1])
        yield block, {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


def _write(group: zarr.Group, block: int, maps: Sequence[Tensor], dtype: str) -> None:
    """Write a block's chunks."""
    start = block * BLOCK
    for index, values in enumerate(maps):
        here = slice(start, start + len(values))
        if dtype == "uint8":
            scale = values.amax((0, 2, 3))
            factor = torch.where(scale > 0, 255 / scale, 0.0)
            _array(group, f"scale{index}")[block] = scale.numpy()
            kept = (values * factor[:, None, None]).round().to(torch.uint8)
        else:
            kept = values.clamp(max=_LARGEST).half()
        _array(group, str(index))[here] = kept.numpy()
