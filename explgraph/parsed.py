"""A parse: every node's place and score in some images, with its tables and files."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from explgraph import rows
from explgraph.atomic import atomic_write
from explgraph.brief import counted
from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph, check_graph
from explgraph.images.folder import ImageFolder
from explgraph.images.taken import Photographs
from explgraph.markup import table
from explgraph.parsed_parts import ParsedParts, Pooling
from explgraph.paths import check_regular
from explgraph.statistics.one_pose import HOLDS
from explgraph.suffixes import PARSES, check_suffix

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Parse", "check_parse", "originals", "parts_in"]

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
        return replace(found, _to_original=originals(images, found.image_names))


_VALUES = ("x", "y", "expected_x", "expected_y", "score")
_SIZE = ("height", "width")
_FRAME = ("x0", "y0", "x1", "y1")


def originals(
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


def check_parse(parse: object) -> None:
    """Refuse what is no parse."""
    if not isinstance(parse, Parse):
        raise ExplgraphError(
            "parse must be a Parse, as graph.parse(model, images) gives it, or store[start:stop] "
            f"of a store, got {type(parse).__name__}"
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
