"""Parses on disk: any number of images, in bounded memory.

Images are parsed block by block, and each block's rows are written when it is done, so memory holds
one block of rows whatever the number of images (their names aside). A store
(`activations.zarr_blocks`) holds:

``positions``, ``expected``
    ``(N, V, 2)`` float32, px.
``scores``
    ``(N, V)`` float32.
``fit``
    ``(N,)`` float32: what each image's pose explains, nats.
``frames``
    ``(N, K, 4)`` float32, px: only where up to K > 1 objects were looked for. The arrays above have
    a K behind their N then; what an image has fewer objects is NaN.
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
from torch import Tensor, nn

from explgraph.activations.image_blocks import ImageBlocks, Runs, whole_blocks
from explgraph.activations.streaming import BLOCK as BATCH
from explgraph.activations.zarr_blocks import Array, Blocks, Kind, explained, fill, open_blocks
from explgraph.brief import counted
from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph
from explgraph.graph.several import pose_fit, warn_if_several_parsed
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
from explgraph.object_rows import check_objects, object_names, parse_batch
from explgraph.parsed import Parse
from explgraph.parser import Parser
from explgraph.parsing import check_weights
from explgraph.progress import Shown

__all__ = ["ParseStore", "open_parse", "parse_to_store"]

BLOCK = 8 * BATCH
"""Images in a block: 5 MB for each thousand nodes."""

_KIND = Kind(
    "explgraph_parse",
    3,
    "store of a parse",
    "graph.parse(model, images, out=...)",
    "parse",
    "parsed from",
    (
        ("graph", "another graph"),
        ("model", "other weights"),
        ("images", "other images"),
        ("preprocessing", "images made ready in another way"),
        ("objects", "another number of objects in an image"),
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
    objects : int
        That were looked for in an image, at most. Of more than one, a slice of images holds a row
        for every object in them.
    """

    path: str
    nodes: tuple[str, ...]
    names: tuple[str, ...]
    image_size: tuple[int, int]
    model_fingerprint: str
    images_fingerprint: str
    graph_fingerprint: str
    objects: int
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
            read = {
                name: self._blocks.rows(name, here) for name in (*_ROWS, *_framed(self.objects))
            }
            photo = self._blocks.rows("photo", here) if self._blocks.about["photo"] else None
        names = self.names[here]
        more: dict[str, Any] = {}
        if self.objects > 1:
            there = np.isfinite(read["fit"])
            read = {name: values[there] for name, values in read.items()}
            rows = there.nonzero()[0].tolist()
            more = {"frames": read["frames"], "_image_names": tuple(names[i] for i in rows)}
            photo = None if photo is None else photo[rows]
            counted = zip(names, there.sum(1).tolist(), strict=True)
            names = tuple(name for image, k in counted for name in object_names(image, k))
        usual = {"usual_fit": self._blocks.about["usual_fit"]}
        return Parse(
            self.nodes, names, read["positions"], read["expected"], read["scores"], self.image_size,
            None if photo is None else partial(_to_photo, photo),
            pose_fit=pose_fit(read["fit"], usual), **more,
        )  # fmt: skip

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
        about["objects"],
        blocks,
    )


def _arrays_of(about: dict[str, Any], texts: Mapping[str, tuple[str, ...]]) -> dict[str, Array]:
    """Name the arrays of a store of some description."""
    n, v = len(texts["names"]), len(texts["nodes"])
    return _arrays(n, v, photo=about["photo"], objects=about["objects"])


Images = Iterator[tuple[tuple[str, ...], Tensor]]
_ROWS = ("positions", "expected", "scores", "fit")


def _framed(objects: int) -> tuple[str, ...]:
    """Name the array that there is of several objects alone."""
    return ("frames",) if objects > 1 else ()


def _arrays(n: int, v: int, *, photo: bool, objects: int) -> dict[str, Array]:
    """Name the arrays of a store of `n` images and `v` nodes."""
    k = () if objects == 1 else (objects,)
    shapes: dict[str, tuple[int, ...]] = {"positions": (n, *k, v, 2), "expected": (n, *k, v, 2)}
    shapes |= {"scores": (n, *k, v), "fit": (n, *k)}
    shapes |= dict.fromkeys(_framed(objects), (n, *k, 4))
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
    objects: int = 1,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> ParseStore:
    """Parse to disk, or go on with a parse that was interrupted, or open it if it is finished.

    Parameters
    ----------
    model, graph, images, objects, device, progress
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
    check_objects(objects)
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
        "objects": objects,
        "usual_fit": graph.nx.graph["config"].get("usual_fit", 0.0),
    }
    parser = Parser(graph, checked_device(device))

    def blocks(missing: list[int]) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
        source = of_size(blocks_of.batches(missing, batch_size), graph.image_size)
        if objects == 1:
            runs = _rows(parser, graph, rectified_maps(model, source, graph.layers))
        else:
            runs = _object_rows(parser, model, graph, source, objects)
        runs = with_bar(runs, len(missing) * BLOCK, progress)
        for block, rows in whole_blocks(runs, missing, len(names), BLOCK):
            values = {name: part.numpy() for name, part in rows.items()}
            if folder is not None:
                here = range(block * BLOCK, block * BLOCK + len(values["fit"]))
                ends = np.stack([folder.to_original(i, [[0, 0], [1, 1]]) for i in here])
                values["photo"] = np.concatenate([ends[:, 1] - ends[:, 0], ends[:, 0]], axis=1)
            yield block, values

    with torch.inference_mode(False), on_device(model, device):
        arrays = _arrays(len(names), len(graph), photo=folder is not None, objects=objects)
        texts = {"names": names, "nodes": graph.node_ids}
        fill(_KIND, path, about, texts, arrays, blocks_of, blocks)
    store = open_parse(path)
    if objects == 1:
        fits = [block.pose_fit for block in store.blocks()]
        known = [fit for fit in fits if fit is not None]
        warn_if_several_parsed(np.concatenate(known) if known else None, graph.nx.graph["config"])
    return store


def _rows(parser: Parser, graph: Graph, runs: Any) -> Runs:
    """Find the nodes, batch by batch."""
    for names, maps in runs:
        found = parser({layer.index: maps[layer.name] for layer in graph.layers})
        yield names, found._asdict()


def _object_rows(
    parser: Parser, model: nn.Module, graph: Graph, source: Images, objects: int
) -> Runs:
    """Find the nodes of several objects in every image; NaN for those that it lacks."""
    for names, batch in source:
        rows = parse_batch(parser, model, graph.layers, batch, objects)
        seen = [{**one.looked._asdict(), "frames": one.frames} for one in rows]
        yield (
            names,
            {
                name: torch.stack([_filled(one[name], objects) for one in seen])
                for name in (*_ROWS, "frames")
            },
        )


def _filled(values: Tensor, objects: int) -> Tensor:
    """Fill (k, ...) up to so many objects with NaN."""
    return torch.cat(
        [values, values.new_full((objects - len(values), *values.shape[1:]), torch.nan)]
    )


def _graph_fingerprint(graph: Graph) -> str:
    """Give a digest of what parsing takes from a graph: SHA-256, hexadecimal."""
    layers = [layer.as_dict() for layer in graph.layers]
    digest = hashlib.sha256(json.dumps([graph.node_ids, graph.image_size, layers]).encode())
    for name, values in sorted(graph.fitted.items()):
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
