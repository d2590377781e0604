"""Parsing: where every node of a graph is in new images, and how strongly.

Each image's pose is read off the highest layers' maps, says where every node should be, and there
the node's own map is looked at, all as when the graph was mined (`inference`); on the mined images
that gives back what mining found.
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph import rows
from explgraph.activations.memory import Activations
from explgraph.atomic import atomic_write
from explgraph.brief import counted
from explgraph.errors import ExplgraphError, warn
from explgraph.graph.graph import Graph, check_graph
from explgraph.graph.several import pose_fit, warn_if_several_parsed
from explgraph.graph.weak_pose import warn_if_weak
from explgraph.images.batches import AnyImages, batches, count
from explgraph.images.folder import ImageFolder
from explgraph.images.taken import Photographs, taken
from explgraph.markup import table
from explgraph.network.forward import (
    checked_device,
    fingerprint,
    of_size,
    on_device,
    rectified_maps,
    stream,
    with_bar,
)
from explgraph.network.geometry import Layer
from explgraph.network.hooks import check_model
from explgraph.parsed_parts import ParsedParts, Pooling
from explgraph.paths import check_regular
from explgraph.progress import Shown
from explgraph.several_objects import MOST, SURE, Look, enlarged, find_frames, placed
from explgraph.statistics.fitted import Fitted
from explgraph.statistics.inference import Found, infer, scaled
from explgraph.statistics.mixture import Grid
from explgraph.statistics.one_pose import HOLDS, explained
from explgraph.statistics.pose import standing
from explgraph.statistics.pose_reader import own_evidence
from explgraph.suffixes import PARSES, check_suffix
from explgraph.whole_numbers import whole

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Parse", "check_parse", "check_weights", "parse", "parse_activations", "parts_in"]

_IMAGES = 8  # shown in a notebook
_BEST = 4  # nodes of each


@dataclass(frozen=True, eq=False)
class Parse:
    """Every node's place and score in some images.

    Attributes
    ----------
    nodes : tuple of str
        Ids of the V nodes, the keys of ``graph.nx`` in their order.
    names : tuple of str
        Of the N images.
    positions : (N, V, 2) float32
        ``[x, y]`` px of the image as the network saw it. Always finite: where the score is 0, the
        expected place.
    expected : (N, V, 2) float32
        Where the image's pose alone puts the node, before its own map is looked at, px.
    scores : (N, V) float32
        Presence, 0 to 1: how much the node answers for in its filter's map, of what it does when
        its part is there.
    image_size : (int, int)
        ``(H, W)`` px.
    pose_fit : (N,) float32 or None
        How much of where filters fire one pose explains, as a share of what is usual in the mined
        images: about 1 where the image shows one object as they do. Below 0.4 one pose does not
        hold (`one_pose_fails`). Of an object (``objects=``) it is that of its own pose in its
        frame. None if the graph doesn't know what is usual.
    frames : (N, 4) float32 or None
        ``[x0, y0, x1, y1]`` px of the image: the part of it that an object was looked for in. None
        unless several objects were asked for.
    """

    nodes: tuple[str, ...]
    names: tuple[str, ...]
    positions: NDArray[np.float32]
    expected: NDArray[np.float32]
    scores: NDArray[np.float32]
    image_size: tuple[int, int]
    _to_original: Callable[[int, NDArray[Any]], NDArray[Any]] | None = field(
        default=None, repr=False, compare=False
    )
    _pooling: Pooling | None = field(default=None, repr=False, compare=False)
    pose_fit: NDArray[np.float32] | None = None
    frames: NDArray[np.float32] | None = None
    _image_names: tuple[str, ...] | None = field(default=None, repr=False)

    @property
    def image_names(self) -> tuple[str, ...]:
        """Name of the image that each row is of: that in `names` without an object's ``#k``."""
        return self.names if self._image_names is None else self._image_names

    @property
    def one_pose_fails(self) -> NDArray[np.bool_]:
        """Whether one pose does not hold, ``(N,)``: several objects, as a rule.

        It explains less than 0.4 of what is usual. False where that isn't known.
        """
        if self.pose_fit is None:
            return np.zeros(len(self.names), dtype=bool)
        failing: NDArray[np.bool_] = self.pose_fit < HOLDS
        return failing

    def __repr__(self) -> str:
        height, width = self.image_size
        there = (
            f"; {self.scores.astype(bool).sum(1).mean():.0f} present per image"
            if self.names
            else ""
        )
        return f"Parse: {self._counted()} of {width} x {height} px{there}{self._doubt()}"

    def _counted(self) -> str:
        """Say how many nodes there are, and in what."""
        images = counted(len(set(self.image_names)), "image")
        objects = "" if self.frames is None else f"{counted(len(self.names), 'object')} in "
        return f"{counted(len(self.nodes), 'node')} in {objects}{images}"

    def _doubt(self) -> str:
        """Say in how many rows one pose does not hold, if any."""
        failing = int(self.one_pose_fails.sum())
        return f"; one pose does not hold in {failing:,}" if failing else ""

    @property
    def parts(self) -> ParsedParts:
        """Place, presence and radius of every part of the graph in these images.

        Raises
        ------
        ExplgraphError
            If the parse was read from a file, which doesn't say what the parts are.
        """
        if self._pooling is None:
            raise ExplgraphError(
                "the parts are those of a graph: use graph.parts_in(parse), with the graph that "
                "was parsed"
            )
        return self._pooled(self._pooling)

    def _pooled(self, pooling: Pooling) -> ParsedParts:
        """Pool the parts from the nodes."""
        return ParsedParts(
            pooling.parts,
            pooling.titles,
            self.names,
            *pooling(self.positions, self.expected, self.scores),
            self.image_size,
            self._to_original,
        )

    @property
    def has_original(self) -> bool:
        """Whether the photographs' sizes are known, which `to_original` needs."""
        return self._to_original is not None

    def to_original(self, points: NDArray[Any] | None = None) -> NDArray[np.float64]:
        """Give positions in pixels of the original photographs.

        Parameters
        ----------
        points : (N, ..., 2), optional
            px of the image as the network saw it; `positions` by default.

        Returns
        -------
        (N, ..., 2)

        Raises
        ------
        ExplgraphError
            If the images weren't an `ImageFolder`, or `points` has another number of images.
        """
        if self._to_original is None:
            raise ExplgraphError(
                "to_original() needs the photographs' sizes: parse an explgraph.ImageFolder"
            )
        points = self.positions if points is None else np.asarray(points)
        if len(points) != len(self.names):
            raise ExplgraphError(
                f"points must be (N, ..., 2) with N = {len(self.names)}, got {points.shape}"
            )
        return np.stack([self._to_original(i, p) for i, p in enumerate(points)])

    def _repr_html_(self) -> str:
        """Show the first images, and the nodes that were found best in them, in a notebook."""
        best = self.scores.max(0, initial=0)
        share = self.scores / np.maximum(best, 1e-12)
        rows = []
        for n, name in enumerate(self.names[:_IMAGES]):
            found = [
                f"{self.nodes[v]} at ({self.positions[n, v, 0]:.0f}, {self.positions[n, v, 1]:.0f})"
                for v in np.argsort(-share[n], kind="stable")[:_BEST]
                if share[n, v] > 0
            ]
            rows.append([name, int((self.scores[n] > 0).sum()), "; ".join(found)])
        more = len(self.names) - len(rows)
        return (
            f"<div><p><b>Parse</b>: {self._counted()} of "
            f"{self.image_size[1]} × {self.image_size[0]} px{self._doubt()}</p>"
            f"{table(['image', 'nodes present', 'nearest to their best'], rows, most=240)}"
            + (f"<p>and {more:,} more images</p>" if more > 0 else "")
            + "</div>"
        )

    def to_frame(self) -> pd.DataFrame:
        """Give one row per image and node as a pandas table.

        Returns
        -------
        pandas.DataFrame
            Columns ``image``, ``node``, ``x``, ``y``, ``expected_x``, ``expected_y``, ``score``;
            where they are known ``pose_fit``, and of objects ``image_name`` and ``x0``, ``y0``,
            ``x1``, ``y1`` (`frames`).

        Raises
        ------
        ExplgraphError
            If pandas isn't installed.
        """
        return rows.pandas().DataFrame(self._columns())

    def _columns(self) -> dict[str, NDArray[Any]]:
        """Give the table's columns."""
        values = {
            "x": self.positions[..., 0],
            "y": self.positions[..., 1],
            "expected_x": self.expected[..., 0],
            "expected_y": self.expected[..., 1],
            "score": self.scores,
        }
        if self.pose_fit is not None:
            values["pose_fit"] = self._along(self.pose_fit)
        if self.frames is not None:
            values["image_name"] = self._along(np.array(self.image_names, dtype=object))
            values |= {n: self._along(self.frames[:, k]) for k, n in enumerate(_FRAME)}
        return rows.grid(("image", self.names), ("node", self.nodes), values)

    def _along(self, values: NDArray[Any]) -> NDArray[Any]:
        """Repeat what is known of rows (N,) for every node."""
        return np.repeat(values[:, None], len(self.nodes), axis=1)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write places and scores in the format of the path's suffix, whole or not at all.

        Parameters
        ----------
        path : path
            ``.csv``, ``.json`` or ``.parquet``: a row for each image and node, with the columns of
            `to_frame`, ``photo_x`` and ``photo_y`` (px of the original photograph, if the images
            were an `ImageFolder`), and the ``height`` and ``width`` of the network's image. Or
            ``.npz``: the arrays by name, ``photo`` among them.

        Raises
        ------
        ExplgraphError
            If the suffix isn't known, the file can't be written, or it is a .parquet and pandas
            and pyarrow aren't there.
        """
        photo = self.to_original() if self.has_original else None
        if check_suffix(path, PARSES) != ".npz":
            more = {} if photo is None else {"photo_x": photo[..., 0], "photo_y": photo[..., 1]}
            height, width = (np.full(self.scores.shape, side) for side in self.image_size)
            more |= {"height": height, "width": width}
            rows.write(path, self._columns() | {name: v.ravel() for name, v in more.items()})
            return
        arrays: dict[str, Any] = {
            "nodes": np.array(self.nodes, dtype=np.str_),
            "names": np.array(self.names, dtype=np.str_),
            "positions": self.positions,
            "expected": self.expected,
            "scores": self.scores,
            "image_size": np.array(self.image_size),
        }
        if photo is not None:
            arrays["photo"] = photo
        if self.pose_fit is not None:
            arrays["pose_fit"] = self.pose_fit
        if self.frames is not None:
            arrays |= {"frames": self.frames, "image_names": np.array(self.image_names, np.str_)}
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def read(cls, path: str | os.PathLike[str], images: ImageFolder | None = None) -> Parse:
        """Read what `write` wrote.

        Parameters
        ----------
        path : path
            ``.csv``, ``.json``, ``.parquet`` or ``.npz``.
        images : ImageFolder, optional
            The photographs that were parsed, for `to_original`.

        Returns
        -------
        Parse
            The same numbers.

        Raises
        ------
        ExplgraphError
            If the file can't be read or holds no parse, or the images are others.
        """
        shown = f"path {str(path)!r}"
        if check_suffix(path, PARSES) == ".npz":
            *plain, more = _read_npz(path)
            found = cls(*plain, **more)
        else:
            kinds = {**dict.fromkeys(_VALUES, float), **dict.fromkeys(_SIZE, int)}
            told = {**dict.fromkeys(("pose_fit", *_FRAME), float), "image_name": str}
            names, nodes, table = rows.read_grid(
                path, ("image", str), ("node", str), kinds | told, optional=tuple(told)
            )
            x, y, *others, score = (table[key].astype(np.float32) for key in _VALUES)
            if any((table[side] != table[side][0, 0]).any() for side in _SIZE):
                raise ExplgraphError(
                    f"{shown} holds images of several sizes; expected one height and one width"
                )
            height, width = (int(table[side][0, 0]) for side in _SIZE)
            places = np.stack([x, y], axis=-1), np.stack(others, axis=-1)
            more = {}
            if "pose_fit" in table:
                more["pose_fit"] = table["pose_fit"][:, 0].astype(np.float32)
            if all(key in table for key in ("image_name", *_FRAME)):
                more["frames"] = np.stack([table[key][:, 0] for key in _FRAME], 1)
                more["frames"] = more["frames"].astype(np.float32)
                more["_image_names"] = tuple(table["image_name"][:, 0].tolist())
            found = cls(nodes, names, *places, score, (height, width), **more)
        if not (found.scores >= 0).all() or min(found.image_size) < 1:
            raise ExplgraphError(
                f"{shown} holds a score below 0, or a side; expected what Parse.write writes"
            )
        if images is None:
            return found
        known = tuple(dict.fromkeys(found.image_names))
        if tuple(images.names) != known or images.size != found.image_size:
            raise ExplgraphError(
                f"images holds {len(images)} of {images.size[0]} x {images.size[1]} px, {shown} "
                f"{len(known)} of {found.image_size[0]} x {found.image_size[1]} px or of "
                "other names; give the photographs that were parsed, in the same order"
            )
        return replace(found, _to_original=_originals(images, found.image_names))


_VALUES = ("x", "y", "expected_x", "expected_y", "score")
_SIZE = ("height", "width")
_FRAME = ("x0", "y0", "x1", "y1")


def _originals(
    images: ImageFolder | Photographs, names: tuple[str, ...]
) -> Callable[[int, NDArray[Any]], NDArray[Any]]:
    """Give what takes a row's points to its photograph; rows are of images of some names."""
    number = {name: i for i, name in enumerate(images.names)}
    of = [number[name] for name in names]
    return lambda row, points: images.to_original(of[row], points)


def _read_npz(path: str | os.PathLike[str]) -> tuple[Any, ...]:
    """Read what a `Parse` is made of."""
    shown = f"path {str(path)!r}"
    keys = ("nodes", "names", "positions", "expected", "scores", "image_size")
    check_regular(path, shown)
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            if missing := [key for key in keys if key not in file]:
                raise ExplgraphError(
                    f"{shown} lacks the array {missing[0]!r}; expected {', '.join(keys)}"
                )
            nodes, names, *numbers, size = (file[key] for key in keys)
            told = {key: file[key] for key in ("pose_fit", "frames", "image_names") if key in file}
    except (
        OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error, struct.error
    ) as err:  # fmt: skip
        if isinstance(err, ExplgraphError):
            raise
        raise ExplgraphError(f"{shown} can't be read as .npz: {err}") from err
    n, v = names.size, nodes.size
    shapes: dict[str, tuple[int, ...]]
    shapes = {"nodes": (v,), "names": (n,), "positions": (n, v, 2), "expected": (n, v, 2),
              "scores": (n, v), "image_size": (2,)}  # fmt: skip
    more = {"pose_fit": (n,), "frames": (n, 4), "image_names": (n,)}
    shapes |= {key: more[key] for key in told}
    arrays = (nodes, names, *numbers, size, *told.values())
    for (key, shape), array in zip(shapes.items(), arrays, strict=True):
        kind = (
            "U" if key in ("nodes", "names", "image_names") else "i" if key == "image_size" else "f"
        )
        finite = kind == "U" or np.isfinite(array).all()
        if array.shape != shape or array.dtype.kind != kind or not finite:
            raise ExplgraphError(
                f"{shown}: {key} is {array.dtype} {array.shape}; expected finite values of the "
                f"shape {shape}, as Parse.write writes them"
            )
    floats = (array.astype(np.float32, copy=False) for array in numbers)
    if "image_names" in told:
        told["_image_names"] = tuple(told.pop("image_names").tolist())
    for key in told.keys() - {"_image_names"}:
        told[key] = told[key].astype(np.float32, copy=False)
    return (tuple(nodes.tolist()), tuple(names.tolist()), *floats, tuple(size.tolist()), told)


def parse(
    model: nn.Module,
    graph: Graph,
    images: AnyImages,
    *,
    objects: int = 1,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> Parse:
    """Find every node of a graph in images.

    Parameters
    ----------
    model : torch.nn.Module
        The network that was mined, in evaluation mode.
    graph : ExplanatoryGraph
    images : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
        Of the size that was mined.
    objects : int
        Look for so many in an image, at most: see `several_objects`.
    batch_size : int
    device : str
        Where the model runs and nodes are looked for; "auto" is the GPU if there is one.
    progress : bool or None
        Show a bar: by default in notebooks alone, if True on a terminal too.

    Returns
    -------
    Parse

    Raises
    ------
    ExplgraphError
        If the model lacks a layer or its shape differs, or the images have another size.

    Warns
    -----
    ExplgraphWarning
        If the weights are not those that were mined, the poses of the mined images told little, or
        one pose does not hold in many of these images.
    """
    check_graph(graph)
    check_objects(objects)
    images = taken(images, graph.nx.graph["preprocessing"])
    if objects > 1:
        return _parse_objects(model, graph, images, objects, batch_size, device, progress)
    parser = Parser(graph, checked_device(device))
    warn_if_weak(graph.nx.graph["config"])
    names: list[str] = []
    parts: list[Looked] = []
    for here, maps in stream_layers(
        model, graph, images, batch_size=batch_size, device=device, progress=progress
    ):
        names.extend(here)
        parts.append(parser({layer.index: maps[layer.name] for layer in graph.layers}))
    original = images.to_original if isinstance(images, (ImageFolder, Photographs)) else None
    found = _parse(graph, tuple(names), parts, original)
    warn_if_several_parsed(found.pose_fit, graph.nx.graph["config"])
    return found


def check_objects(objects: int) -> int:
    """Give the number of objects to look for, if it can be."""
    whole(objects, "objects")
    if objects > MOST:
        raise ExplgraphError(
            f"objects must be a whole number from 1 to {MOST}, got {objects}; for more, cut the "
            "photographs up by boxes (ImageFolder's boxes=)"
        )
    return objects


class ObjectRows(NamedTuple):
    """Objects of one image: what was seen of each, and its frame (k, 4) px."""

    looked: Looked
    frames: Tensor


def parse_batch(
    parser: Parser, model: nn.Module, layers: Sequence[Layer], batch: Tensor, objects: int
) -> list[ObjectRows]:
    """Find the objects of each image of a batch (n, C, H, W), by running the model over pieces.

    The model must be where it is to run, and the images of the size that was mined.
    """
    size = len(batch)

    def maps_of(images: Tensor) -> dict[int, Tensor]:
        # not torch.split, by which images would lose what the model takes beside them
        pieces = [images[start : start + size] for start in range(0, len(images), size)]
        named = ((tuple(map(str, range(len(piece)))), piece) for piece in pieces)
        runs = [maps for _, maps in rectified_maps(model, named, layers)]
        return {layer.index: torch.cat([maps[layer.name] for maps in runs]) for layer in layers}

    def look(images: Tensor) -> Look:
        parts = (images[start : start + size] for start in range(0, len(images), size))
        looks = [parser.look(maps_of(part)) for part in parts]
        return Look(*(torch.cat(part) for part in zip(*looks, strict=True)))

    height, width = batch.shape[2:]
    whole = batch.new_tensor([[0, 0, width, height]])
    maps = maps_of(batch)
    looked = parser(maps)
    found = [ObjectRows(Looked(*(part[i : i + 1] for part in looked)), whole) for i in range(size)]
    unsure = [i for i in range(size) if float(looked.fit[i]) < SURE * parser.usual_fit]
    if not unsure:
        return found
    evidence = parser.look({index: values[unsure] for index, values in maps.items()}).evidence
    frames = find_frames(batch[unsure], evidence, objects, look)
    for i, here in zip(unsure, frames, strict=True):
        if len(here):
            cut = enlarged(batch[i : i + 1].expand(len(here), -1, -1, -1), here)
            seen = parser(maps_of(cut))
            positions, expected = (placed(part, here, (height, width)) for part in seen[:2])
            found[i] = ObjectRows(seen._replace(positions=positions, expected=expected), here)
    return found


def object_names(image: str, objects: int) -> list[str]:
    """Name an image's objects: as boxes are, by ``#k`` where there are several."""
    return [image] if objects == 1 else [f"{image}#{k}" for k in range(objects)]


def _parse_objects(
    model: nn.Module,
    graph: Graph,
    images: AnyImages,
    objects: int,
    batch_size: int,
    device: str,
    progress: Shown,
) -> Parse:
    """Find every node of several objects in images."""
    check_model(model)
    check_weights(graph, fingerprint(model))
    warn_if_weak(graph.nx.graph["config"])
    parser = Parser(graph, checked_device(device))
    names: list[str] = []
    image_names: list[str] = []
    found: list[ObjectRows] = []
    with on_device(model, device):
        source = of_size(batches(images, batch_size), graph.image_size)
        for here, batch in with_bar(source, count(images), progress, "parsing"):
            for image, rows in zip(
                here, parse_batch(parser, model, graph.layers, batch, objects), strict=True
            ):
                names += object_names(image, len(rows.frames))
                image_names += [image] * len(rows.frames)
                found.append(rows)
    original = None
    if isinstance(images, (ImageFolder, Photographs)):
        original = _originals(images, tuple(image_names))
    parsed = _parse(graph, tuple(names), [rows.looked for rows in found], original)
    return replace(
        parsed,
        frames=torch.cat([rows.frames for rows in found]).numpy(),
        _image_names=tuple(image_names),
    )


def stream_layers(
    model: nn.Module,
    graph: Graph,
    images: AnyImages,
    *,
    batch_size: int,
    device: str,
    progress: Shown,
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Go through the rectified maps of a graph's layers, as they were measured when it was mined.

    Parameters are those of `parse`; what is given is that of `forward.stream`. Other weights than
    the mined ones are warned of.
    """
    check_model(model)
    check_weights(graph, fingerprint(model))
    return stream(
        model,
        images,
        graph.layers,
        image_size=graph.image_size,
        batch_size=batch_size,
        device=device,
        progress=progress,
    )


def check_parse(parse: object) -> None:
    """Refuse what is no parse."""
    if not isinstance(parse, Parse):
        raise ExplgraphError(
            "parse must be a Parse, as graph.parse(model, images) gives it, or store[start:stop] "
            f"of a store, got {type(parse).__name__}"
        )


def check_weights(graph: Graph, fingerprint: str) -> None:
    """Warn of other weights than those that were mined, if both are known."""
    mined = graph.nx.graph["model_fingerprint"]
    if "" not in (mined, fingerprint) and mined != fingerprint:
        warn(
            "the model's weights are not those that the graph was mined with; "
            "nodes may sit elsewhere"
        )


def parse_activations(graph: Graph, activations: Activations) -> Parse:
    """Find every node of a graph in images whose activations were recorded.

    Parameters
    ----------
    graph : ExplanatoryGraph
    activations : Activations
        In memory, of the layers that were mined.

    Returns
    -------
    Parse

    Raises
    ------
    ExplgraphError
        If the layers or the images' size aren't those that were mined.
    """
    check_graph(graph)
    if [layer.as_dict() for layer in activations.layers] != graph.nx.graph["layers"]:
        raise ExplgraphError("activations are of other layers than the graph's")
    if tuple(activations.image_size) != graph.image_size:
        raise ExplgraphError(
            "activations are of images of {} x {} px, but the graph was mined with {} x {}".format(
                *activations.image_size, *graph.image_size
            )
        )
    check_weights(graph, activations.model_fingerprint)
    return parse_evidence(graph, activations, activations)


def parse_evidence(graph: Graph, activations: Activations, evidence: Activations) -> Parse:
    """Look for nodes in other maps than those that tell the pose, image by image."""
    parser = Parser(graph)
    parts = [
        parser(blocks, shown)
        for blocks, shown in zip(_lockstep(activations), _lockstep(evidence), strict=True)
    ]
    return _parse(graph, activations.names, parts, None)


def _lockstep(activations: Activations, size: int = 64) -> Iterator[dict[int, Tensor]]:
    """Go through all layers' maps in the same blocks of images."""
    indices = [layer.index for layer in activations.layers]
    for blocks in zip(*(activations.blocks(i, size) for i in indices), strict=True):
        yield {i: block for i, (_, block) in zip(indices, blocks, strict=True)}


def _parse(
    graph: Graph,
    names: tuple[str, ...],
    parts: list[Looked],
    to_original: Callable[[int, NDArray[Any]], NDArray[Any]] | None,
) -> Parse:
    """Put the batches together."""
    positions, expected, scores, fit = (torch.cat(p).numpy() for p in zip(*parts, strict=True))
    return Parse(
        graph.node_ids,
        names,
        positions,
        expected,
        scores,
        graph.image_size,
        to_original,
        Pooling.of(graph),
        pose_fit(fit, graph.nx.graph["config"]),
    )


def parts_in(graph: Graph, parse: Parse) -> ParsedParts:
    """Give every part's place, presence and radius, from a parse of the graph's nodes.

    Raises
    ------
    ExplgraphError
        If the parse is of other nodes.
    """
    check_graph(graph)
    check_parse(parse)
    if parse.nodes != graph.node_ids:
        raise ExplgraphError(
            f"parse is of {len(parse.nodes):,} nodes, graph has {len(graph):,} or others; give the "
            "graph that was parsed"
        )
    return parse._pooled(Pooling.of(graph))


class Looked(NamedTuple):
    """What was seen of V nodes in n images.

    Attributes
    ----------
    positions, expected : (n, V, 2)
        px.
    scores : (n, V)
    fit : (n,)
        What the pose explains of where filters fire, nats (`statistics.one_pose`).
    """

    positions: Tensor
    expected: Tensor
    scores: Tensor
    fit: Tensor


class Parser:
    """A graph's parameters, ready to be run over batches of maps on a device."""

    def __init__(self, graph: Graph, device: str | torch.device = "cpu") -> None:
        self.device = device
        self.fitted = Fitted.unpack(graph.fitted, graph.layers, device)
        self.grids = {layer.index: Grid.of(layer, device) for layer in graph.layers}
        self.area = float(graph.image_size[0] * graph.image_size[1])
        self._prepared = self.fitted.prepared(self.grids)
        k = {index: layer.sigma.shape[1] for index, layer in self.fitted.layers.items()}
        where = [
            (a["layer_index"], a["filter"] * k[a["layer_index"]] + a["pattern"])
            for a in graph.nx.nodes.values()
        ]
        self.node_layer = torch.tensor([i for i, _ in where], dtype=torch.int64)
        self.node = torch.tensor([v for _, v in where], dtype=torch.int64)
        self._ids = graph.node_ids
        self.image_size = graph.image_size
        # what is usual isn't known of graphs of an earlier version: then no image is sure
        self.usual_fit = graph.nx.graph["config"].get("usual_fit", math.inf)

    def scaled(self, maps: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Divide rectified maps (n, C, H, W) by their filters' scales, by layer index."""
        return {
            index: scaled(maps[index].to(self.device), layer.scale)
            for index, layer in self.fitted.layers.items()
        }

    @torch.no_grad()
    def __call__(
        self, maps: Mapping[int, Tensor], evidence: Mapping[int, Tensor] | None = None
    ) -> Looked:
        """Positions, expected places and scores of the graph's nodes in a batch.

        Parameters
        ----------
        maps : mapping of int to (n, C, H, W)
            Rectified maps by layer index.
        evidence : mapping of int to (n, C, H, W), optional
            Maps in which nodes are looked for, if others than those that poses are read off.

        Raises
        ------
        ExplgraphError
            If what the graph's parameters make of the maps is not finite.
        """
        found, fit = self.found(maps, evidence)
        n, v = len(fit), len(self.node)
        positions, expected, scores = (
            torch.empty(shape, dtype=torch.float32, device="cpu")
            for shape in ((n, v, 2), (n, v, 2), (n, v))
        )
        for index, patterns in found.items():
            here = self.node_layer == index
            nodes = self.node[here]
            positions[:, here] = patterns.positions[:, nodes].cpu()
            expected[:, here] = patterns.expected[:, nodes].cpu()
            scores[:, here] = patterns.scores[:, nodes].cpu()
        for what in (positions, expected, scores):
            if not math.isfinite(what.sum()):
                node = int((~what.isfinite()).reshape(n, v, -1).any(2).any(0).nonzero()[0])
                raise ExplgraphError(
                    f"node {self._ids[node]!r} gets a place or score that is not finite; the "
                    "graph's parameters don't go with these activations: check the model's weights "
                    "and the images, or mine the graph again"
                )
        return Looked(positions, expected, scores, fit)

    @torch.no_grad()
    def found(
        self, maps: Mapping[int, Tensor], evidence: Mapping[int, Tensor] | None = None
    ) -> tuple[dict[int, Found], Tensor]:
        """Look for all patterns of the layers that have nodes.

        Parameters
        ----------
        maps, evidence
            As for a call.

        Returns
        -------
        dict of int to Found, (n,)
            By layer index; and what the pose explains, see `Looked`.
        """
        values = self.scaled(maps)
        poses = self.fitted.poses(values, self.grids, self._prepared)
        fit = explained(self.fitted.reader, values, self.grids, poses, self.area).cpu()
        if evidence is not None and evidence is not maps:
            values = self.scaled(evidence)
        return {
            index: infer(
                self.fitted.layers[index], values[index], poses, self.grids[index], self.area
            )
            for index in sorted(set(self.node_layer.tolist()))
        }, fit

    @torch.no_grad()
    def look(self, maps: Mapping[int, Tensor]) -> Look:
        """Say how well one pose explains each of some images, and where its object stands.

        Parameters
        ----------
        maps : mapping of int to (n, C, H, W)
            Rectified maps by layer index.
        """
        reader, values = self.fitted.reader, self.scaled(maps)
        poses = self.fitted.poses(values, self.grids, self._prepared)
        views = reader.guides.views(values, self.grids)
        evidence = explained(reader, values, self.grids, poses, self.area)
        evidence = evidence + own_evidence(reader, views, poses)
        return Look(evidence.cpu(), standing(reader.model, poses, self.image_size).cpu())
