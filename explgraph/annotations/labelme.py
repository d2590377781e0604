"""LabelMe: a JSON file for each image, with points and rectangles.

The format is that of https://github.com/wkentaro/labelme. Coordinates are those of the drawing
area, in which the first pixel spans 0 to 1, so they are taken as they are. A ``point`` is a mark
of the part that its label names; a ``rectangle`` is an object's box. Shapes of one ``group_id``
are of one object. Other shapes aren't looked at, nor is the image that may be within the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from explgraph.annotations.annotated import (
    Annotations,
    Box,
    Mark,
    Photo,
    around,
    bad,
    grouped,
    number,
    numbers,
)

__all__ = ["is_labelme", "read"]


def is_labelme(content: Any) -> bool:
    """Whether JSON is laid out like LabelMe's."""
    return (
        isinstance(content, dict)
        and isinstance(content.get("shapes"), list)
        and isinstance(content.get("imagePath"), str)
    )


def read(files: Mapping[str, Path], contents: Mapping[str, Mapping[str, Any]]) -> Annotations:
    """Read LabelMe's files.

    Parameters
    ----------
    files : mapping of str to Path
        By path within the folder that was given.
    contents : mapping of str to dict
        Their JSON.

    Raises
    ------
    ExplgraphError
        If a shape isn't as the format has it.
    """
    photos = []
    parts: dict[str, None] = {}
    for name, content in contents.items():
        photo = _photo(files[name], name, content)
        parts |= dict.fromkeys(part for thing in photo.things for part in thing.marks)
        photos.append(photo)
    return Annotations("LabelMe file", photos, tuple(parts))


def _photo(file: Path, name: str, content: Mapping[str, Any]) -> Photo:
    """Read one file."""
    boxes: list[tuple[str, Box, object]] = []
    marks: list[tuple[str, Mark, object]] = []
    for at, shape in enumerate(content["shapes"]):
        entry = f"shapes[{at}]"
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise bad(file, entry, f"expected a shape with a label, found {shape!r:.80}")
        kind = shape.get("shape_type")
        if kind not in ("point", "rectangle"):
            continue
        given, count = shape.get("points"), 1 if kind == "point" else 2
        if not isinstance(given, list) or len(given) != count:
            raise bad(file, entry, f"a {kind} must have {count} points, found {given!r:.80}")
        places = [numbers(file, entry, "a point [x, y]", place, 2) for place in given]
        group = shape.get("group_id")
        if not isinstance(group, (int, str, type(None))):
            raise bad(file, entry, f"group_id must be a number or null, found {group!r:.80}")
        if kind == "point":
            marks.append((shape["label"], Mark(places[0][0], places[0][1]), group))
        else:
            boxes.append((shape["label"], around((x, y) for x, y in places), group))
    width, height = number(content.get("imageWidth")), number(content.get("imageHeight"))
    size = (int(width), int(height)) if width >= 1 and height >= 1 else None
    beside = PurePosixPath(name).parent / content["imagePath"].replace("\\", "/")
    stem = str(PurePosixPath(name).with_suffix(""))
    things = grouped(file, "shapes", boxes, marks)
    return Photo((str(beside), content["imagePath"]), things, size, (stem,))
