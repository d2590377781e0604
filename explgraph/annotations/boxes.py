"""Boxes as `ImageFolder` takes them: from a mapping, from a CSV, or from a program's files."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from explgraph.annotations.annotated import Annotations
from explgraph.annotations.photographs import check_size, find_photos
from explgraph.annotations.recognising import read_annotations
from explgraph.annotations.tables import read_boxes
from explgraph.errors import ExplgraphError, nearest, warn
from explgraph.paths import checked_path
from explgraph.textfiles import read_text

__all__ = ["Boxed", "Boxes", "boxed"]

_Box: TypeAlias = Sequence[float]
Boxes: TypeAlias = Mapping[str, "_Box | Sequence[_Box]"]


# all else is read as a CSV, whatever it is called; a shell's pipe has no suffix
_OF_PROGRAMS = frozenset({".json", ".xml", ".txt", ".zip", ".yaml", ".yml", ".h5", ".slp"})


class Boxed(NamedTuple):
    """An image: its name, the file, the box (x0, y0, x1, y1) px, the object's class or ""."""

    name: str
    file: str
    box: Sequence[float]
    label: str


def boxed(
    files: Sequence[str],
    boxes: str | os.PathLike[str] | Boxes,
    folder: Path,
    classes: str | Iterable[str] | None,
    size_of: Callable[[str], tuple[int, int] | None],
) -> list[Boxed]:
    """Give an image for each box, in the order of the files.

    Parameters
    ----------
    files : sequence of str
        Of the folder.
    boxes : path or mapping
    folder : Path
    classes : str or sequence of str, optional
        Of objects that are wanted; `Annotations.only` says more.
    size_of : callable
        Gives the (width, height) px of a file, None if it can't be read.

    Raises
    ------
    ExplgraphError
        If boxes can't be read, aren't four numbers, are of no file, or there are none.
    """
    table: Mapping[str, Any]
    labels: Mapping[str, Sequence[str]] = {}
    if not isinstance(boxes, Mapping):
        path = checked_path(boxes, "boxes")
        if path.is_dir() or (path.suffix.lower() in _OF_PROGRAMS and not _is_table(path)):
            found = read_annotations(path, "boxes").only(
                classes, "box_class (--box-class)", "boxes"
            )
            table, labels = _from_annotations(found, files, folder, size_of)
            return _images(files, table, labels)
        boxes = read_boxes(path)
    if classes is not None:
        raise ExplgraphError(
            "box_class is for boxes from files that tell of classes; a mapping or a CSV "
            "(name,x0,y0,x1,y1) has none"
        )
    known = set(files)
    for name in boxes:
        if name not in known:
            raise ExplgraphError(
                f"boxes name {name!r}, which is no image of the folder{nearest(name, files)}"
            )
    return _images(files, boxes, labels)


def _is_table(path: Path) -> bool:
    """Whether a text file is a CSV, in spite of its suffix."""
    return path.suffix.lower() == ".txt" and "x0" in read_text(path).split("\n", 1)[0]


def _images(
    files: Sequence[str], table: Mapping[str, Any], labels: Mapping[str, Sequence[str]]
) -> list[Boxed]:
    """Name the boxes of each file."""
    images: list[Boxed] = []
    for file in files:
        given: Any = table.get(file, ())
        many = [given] if len(given) and not hasattr(given[0], "__len__") else list(given)
        for k, box in enumerate(many):
            numbers = [float(v) for v in box]
            if len(numbers) != 4 or not all(math.isfinite(v) for v in numbers):
                raise ExplgraphError(
                    f"boxes: {file!r} has {list(box)!r}, expected four numbers x0, y0, x1, y1"
                )
            name = f"{file}#{k}" if len(many) > 1 else file
            images.append(Boxed(name, file, numbers, labels[file][k] if file in labels else ""))
    if not images:
        raise ExplgraphError("boxes is empty; give at least one photograph a box")
    return images


def _from_annotations(
    found: Annotations,
    files: Sequence[str],
    folder: Path,
    size_of: Callable[[str], tuple[int, int] | None],
) -> tuple[dict[str, list[list[float]]], dict[str, list[str]]]:
    """Give boxes px, and classes, by file."""
    table: dict[str, list[list[float]]] = {}
    labels: dict[str, list[str]] = {}
    without = 0
    for index, file in find_photos(found.photos, files, folder, "boxes").items():
        photo = found.photos[index]
        for thing in photo.things:
            if thing.box is None or thing.box[2] <= thing.box[0] or thing.box[3] <= thing.box[1]:
                without += not thing.marks
                continue
            size = size_of(file)
            check_size(file, photo.size, size)
            scale = (size or (1, 1)) * 2 if photo.shares else (1, 1, 1, 1)
            table.setdefault(file, []).append(
                [v * s for v, s in zip(thing.box, scale, strict=True)]
            )
            labels.setdefault(file, []).append(thing.label)
    if without:
        warn(f"{without:,} objects of the {found.kind} have no box, or an empty one; left out")
    if not table:
        raise ExplgraphError(f"none of the images has a box in the {found.kind}")
    return table, labels
