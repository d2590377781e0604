"""Boxes as `ImageFolder` takes them: from a mapping, from a CSV, or from a program's files."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
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
    """An image that is to be cut out: its name, the file, and the object's class or "".

    ``box`` is (x0, y0, x1, y1), in shares of the photograph's size if ``shares``, else px. ``told``
    is the (width, height) px that the file of boxes gives the photograph, if it does.
    """

    name: str
    file: str
    box: Sequence[float]
    label: str = ""
    told: tuple[int, int] | None = None
    shares: bool = False

    def within(self, size: tuple[int, int]) -> Sequence[float]:
        """Give the box px, in a photograph of this size.

        Raises
        ------
        ExplgraphError
            If the file of boxes told another size.
        """
        check_size(self.file, self.told, size)
        return [v * s for v, s in zip(self.box, size * 2, strict=True)] if self.shares else self.box


def boxed(
    files: Sequence[str],
    boxes: str | os.PathLike[str] | Boxes,
    folder: Path,
    classes: str | Iterable[str] | None,
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

    Raises
    ------
    ExplgraphError
        If boxes can't be read, aren't four numbers, are of no file, or there are none.
    """
    if not isinstance(boxes, Mapping):
        path = checked_path(boxes, "boxes")
        if path.is_dir() or (path.suffix.lower() in _OF_PROGRAMS and not _is_table(path)):
            found = read_annotations(path, "boxes").only(
                classes, "box_class (--box-class)", "boxes"
            )
            return _from_annotations(found, files, folder)
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
    return _of_table(files, boxes)


def _is_table(path: Path) -> bool:
    """Whether a text file is a CSV, in spite of its suffix."""
    return path.suffix.lower() == ".txt" and "x0" in read_text(path).split("\n", 1)[0]


def _of_table(files: Sequence[str], table: Mapping[str, Any]) -> list[Boxed]:
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
            images.append(Boxed(f"{file}#{k}" if len(many) > 1 else file, file, numbers))
    if not images:
        raise ExplgraphError("boxes is empty; give at least one photograph a box")
    return images


def _from_annotations(found: Annotations, files: Sequence[str], folder: Path) -> list[Boxed]:
    """Name the boxes of each file that a program's annotations are of."""
    photo_of = {
        file: found.photos[index]
        for index, file in find_photos(found.photos, files, folder, "boxes").items()
    }
    images: list[Boxed] = []
    without = 0
    for file in files:
        photo = photo_of.get(file)
        if photo is None:
            continue
        whole = [t for t in photo.things if t.box and t.box[0] < t.box[2] and t.box[1] < t.box[3]]
        without += sum(not t.marks for t in photo.things) - sum(not t.marks for t in whole)
        for k, thing in enumerate(whole):
            name = f"{file}#{k}" if len(whole) > 1 else file
            box = thing.box or ()
            images.append(Boxed(name, file, box, thing.label, photo.size, photo.shares))
    if without:
        warn(f"{without:,} objects of the {found.kind} have no box, or an empty one; left out")
    if not images:
        raise ExplgraphError(f"none of the images has a box in the {found.kind}")
    return images
