"""Parses on disk: any number of images, in bounded memory.

Images are parsed block by block, and each block's rows are written when it is done, so memory holds
one block of rows whatever the number of images (their names aside). A store
(`activations.zarr_blocks`) holds:

``positions``, ``expected``
    ``(N, V, 2)`` float32, px.
``scores``
    ``(N, V)`` float32.
``photo``
    ``(N, 4)`` float64: what px of the image times (the first two) and plus (the last two) is px of
    the photograph; only of an `ImageFolder`.
``names``, ``nodes``
    Texts.

A run that was interrupted goes on where it was and ends with the same store; on another model,
other images or another graph it is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from explgraph.activations.image_blocks import ImageBlocks, Runs, whole_blocks
from explgraph.activations.streaming import BLOCK as BATCH
from explgraph.activations.zarr_blocks import Array, Blocks, Kind, explained, fill, open_blocks
from explgraph.brief import counted
from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph
from explgraph.graph.weak_pose import warn_if_weak
from explgraph.images.batches import AnyImages, check_batch_size
from explgraph.images.folder import ImageFolder
from explgraph.images.taken import Photographs, taken
from explgraph.network.forward import (
    checked_device,
    fingerprint,
    of_size,
    on_device,
    rectified_maps,
    with_bar,
)
from explgraph.network.hooks import check_model
from explgraph.parsing import Parse, Parser, check_weights
from explgraph.progress import Shown

__all__ = ["ParseStore", "open_parse", "parse_to_store"]

BLOCK = 8 * BATCH
"""Images in a block: 5 MB for each thousand nodes."""

_KIND = Kind(
    "explgraph_parse",
    2,
    "store of a parse",
    "graph.parse(model, images, out=...)",
    "parse",
    "parsed from",
    (
        ("graph", "another graph"),
        ("model", "other weights"),
        ("images", "other images"),
        ("preprocessing", "images made ready in another way"),
    ),
    ("names", "nodes"),
)


@dataclass(frozen=True, repr=False)
class ParseStore:
    """Every node's place and score in many images, on disk.

    Made by `ExplanatoryGraph.parse` with ``out=...`` and by `open_parse`. A slice of it is a
    `Parse` of these images: ``store[2000:3000]``; `blocks` goes through all.

    Attributes
    ----------
    path : str
        Folder or URL.
    nodes : tuple of str
        Ids of the V nodes.
    names : tuple of str
        Of the N images.
    image_size : (int, int)
        ``(H, W)`` px.
    model_fingerprint : str
        Of the weights.
    images_fingerprint : str
        Of the images that were parsed.
    graph_fingerprint : str
        Of the graph whose nodes they are.
    """

    path: str
    nodes: tuple[str, ...]
    names: tuple[str, ...]
    image_size: tuple[int, int]
    model_fingerprint: str
    images_fingerprint: str
    graph_fingerprint: str
    _blocks: Blocks = field(compare=False)

    def __repr__(self) -> str:
        return (
            f"ParseStore({self.path!r}, {counted(len(self.nodes), 'node')} in "
            f"{counted(len(self), 'image')})"
        )

    def __len__(self) -> int:
        """Give the number of images, N."""
        return len(self.names)

    def __getitem__(self, images: slice) -> Parse:
        """Read a run of images.

        Raises
        ------
        ExplgraphError
            If `images` is no slice of neighbouring images, or their rows are damaged or missing.
        """
        if not isinstance(images, slice) or images.step not in (None, 1):
            raise ExplgraphError(
                f"a store of a parse gives neighbouring images, store[start:stop]; got {images!r}"
            )
        start, stop, _ = images.indices(len(self))
        here = slice(start, max(start, stop))
        with explained(_KIND, f"{self.path!r}, images {here.start} to {here.stop}"):
            positions, expected, scores = (
                self._blocks.rows(name, here) for name in ("positions", "expected", "scores")
            )
            photo = self._blocks.rows("photo", here) if self._blocks.about["photo"] else None
        to_original = None if photo is None else partial(_to_photo, photo)
        return Parse(
            self.nodes, self.names[here], positions, expected, scores, self.image_size, to_original
        )

    def blocks(self, size: int = BLOCK) -> Iterator[Parse]:
        """Go through all images, so many at a time; multiples of `BLOCK` are read once."""
        if size < 1:
            raise ExplgraphError(f"size must be a whole number above 0, got {size!r}")
        for start in range(0, len(self), size):
            yield self[start : start + size]


def _to_photo(photo: NDArray[np.float64], image: int, points: NDArray[Any]) -> NDArray[Any]:
    """Give an image's points as points of its photograph."""
    original: NDArray[Any] = np.asarray(points, np.float64) * photo[image, :2] + photo[image, 2:]
    return original


def open_parse(path: str | os.PathLike[str]) -> ParseStore:
    """Open a parse that was written to disk.

    Parameters
    ----------
    path : str or path
        Folder, or URL (``s3://bucket/birds``; fsspec's package for it must be installed).

    Raises
    ------
    ExplgraphError
        If there is none, it isn't finished, another version wrote it, or what it says of itself
        doesn't fit its checksum or its arrays.
    """
    shown = str(path)
    blocks = open_blocks(_KIND, shown, _arrays_of)
    about = blocks.about
    return ParseStore(
        shown,
        blocks.texts["nodes"],
        blocks.texts["names"],
        (about["image_size"][0], about["image_size"][1]),
        about["model"],
        about["content"],
        about["graph"],
        blocks,
    )


def _arrays_of(about: dict[str, Any], texts: Mapping[str, tuple[str, ...]]) -> dict[str, Array]:
    """Name the arrays of a store of some description."""
    return _arrays(len(texts["names"]), len(texts["nodes"]), photo=about["photo"])


def _arrays(n: int, v: int, *, photo: bool) -> dict[str, Array]:
    """Name the arrays of a store of `n` images and `v` nodes."""
    shapes = {"positions": (n, v, 2), "expected": (n, v, 2), "scores": (n, v)}
    nan = float("nan")
    arrays = {k: Array(shape, BLOCK, "float32", k, nan, "shuffle") for k, shape in shapes.items()}
    if photo:
        arrays["photo"] = Array((n, 4), BLOCK, "float64", "photo", nan, "shuffle")
    return arrays


def parse_to_store(
    model: nn.Module,
    graph: Graph,
    images: AnyImages,
    path: str | os.PathLike[str],
    *,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> ParseStore:
    """Parse to disk, or go on with a parse that was interrupted, or open it if it is finished.

    Parameters
    ----------
    model, graph, images, device, progress
        As for `explgraph.parsing.parse`; the number of images must be known, and they can be taken
        in any order.
    path : str or path
        Folder, or URL.
    batch_size : int
        At most 32 are taken at a time.

    Returns
    -------
    ParseStore
        With what `parse` gives, but for rounding where batches are others.

    Raises
    ------
    ExplgraphError
        As `parse`, and if the graph has no nodes, `path` can't be written, or holds something else
        or the parse of other images, by another model or graph.

    Warns
    -----
    ExplgraphWarning
        As `parse`.
    """
    check_model(model)
    check_batch_size(batch_size)
    if not len(graph):
        raise ExplgraphError("the graph has no nodes; mine again, or prune less")
    images = taken(images, graph.nx.graph["preprocessing"])
    blocks_of, weights = ImageBlocks(images, BLOCK), fingerprint(model)
    names = blocks_of.names
    check_weights(graph, weights)
    warn_if_weak(graph.nx.graph["config"])
    folder = images if isinstance(images, (ImageFolder, Photographs)) else None
    about = {
        "graph": _graph_fingerprint(graph),
        "model": weights,
        "images": blocks_of.identity,
        "preprocessing": folder.describe() if folder is not None else {},
        "image_size": list(graph.image_size),
        "photo": folder is not None,
    }
    parser = Parser(graph, checked_device(device))

    def blocks(missing: list[int]) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
        source = of_size(blocks_of.batches(missing, batch_size), graph.image_size)
        runs = with_bar(rectified_maps(model, source, graph.layers), len(missing) * BLOCK, progress)
        for block, rows in whole_blocks(_rows(parser, graph, runs), missing, len(names), BLOCK):
            values = {name: part.numpy() for name, part in rows.items()}
            if folder is not None:
                here = range(block * BLOCK, block * BLOCK + len(values["scores"]))
                ends = np.stack([folder.to_original(i, [[0, 0], [1, 1]]) for i in here])
                values["photo"] = np.concatenate([ends[:, 1] - ends[:, 0], ends[:, 0]], axis=1)
            yield block, values

    with torch.inference_mode(False), on_device(model, device):
        arrays = _arrays(len(names), len(graph), photo=folder is not None)
        texts = {"names": names, "nodes": graph.node_ids}
        fill(_KIND, path, about, texts, arrays, blocks_of, blocks)
    return open_parse(path)


def _rows(parser: Parser, graph: Graph, runs: Runs) -> Runs:
    """Find the nodes, batch by batch."""
    for names, maps in runs:
        found = parser({layer.index: maps[layer.name] for layer in graph.layers})
        yield names, dict(zip(("positions", "expected", "scores"), found, strict=True))


def _graph_fingerprint(graph: Graph) -> str:
    """Give a digest of what parsing takes from a graph: SHA-256, hexadecimal."""
    layers = [layer.as_dict() for layer in graph.layers]
    digest = hashlib.sha256(json.dumps([graph.node_ids, graph.image_size, layers]).encode())
    for name, values in sorted(graph.fitted.items()):
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
