"""COCO: objects' boxes and keypoints as one JSON file, read and written.

The format is that of https://cocodataset.org/#format-data. A keypoint is the index of a pixel,
counted from 0, so half a pixel is added; boxes ``[x, y, width, height]`` are in whole coordinates
(the first pixel spans 0 to 1), so nothing is. A keypoint with v = 0 is not labelled, v = 1 is
occluded, v = 2 visible. Crowds (``iscrowd``) are left out; segmentations aren't looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from explgraph.annotations.annotated import (
    Annotations,
    Box,
    Mark,
    Photo,
    Thing,
    around,
    bad,
    number,
    numbers,
)
from explgraph.errors import ExplgraphError

__all__ = ["Marked", "content_of", "is_coco", "read"]

_HALF = 0.5  # from a pixel's index to its centre


def is_coco(content: Any) -> bool:
    """Whether JSON is laid out like COCO."""
    return (
        isinstance(content, dict)
        and isinstance(content.get("images"), list)
        and isinstance(content.get("annotations"), list)
    )


def read(file: Path, content: Mapping[str, Any]) -> Annotations:
    """Read COCO from JSON.

    Raises
    ------
    ExplgraphError
        If an entry isn't as the format has it, or refers to one that isn't there.
    """
    categories = _categories(file, content.get("categories", []))
    names: dict[Any, str] = {}
    sizes: dict[Any, tuple[int, int] | None] = {}
    for at, image in enumerate(content["images"]):
        entry = f"images[{at}]"
        if not isinstance(image, dict) or not isinstance(image.get("file_name"), str):
            raise bad(file, entry, f"expected an image with id and file_name, found {image!r:.80}")
        key = _key(file, entry, image.get("id"))
        if key in names:
            raise bad(file, entry, f"the id {key!r} is there twice")
        names[key] = image["file_name"]
        width, height = number(image.get("width")), number(image.get("height"))
        sizes[key] = (int(width), int(height)) if width >= 1 and height >= 1 else None
    things: dict[Any, list[Thing]] = {key: [] for key in names}
    for at, given in enumerate(content["annotations"]):
        entry = f"annotations[{at}]"
        if not isinstance(given, dict):
            raise bad(file, entry, f"expected an object, found {given!r:.80}")
        key = _key(file, entry, given.get("image_id"))
        if key not in names:
            raise bad(file, entry, f"image_id {key!r} is no image of the file")
        if given.get("iscrowd") in (1, True):
            continue
        things[key].append(_thing(file, entry, given, categories))
    parts = dict.fromkeys(part for _, listed in categories.values() for part in listed)
    parts |= dict.fromkeys(p for many in things.values() for t in many for p in t.marks)
    photos = [Photo((names[key],), things[key], sizes[key]) for key in names]
    return Annotations("COCO file", photos, tuple(parts))


def _key(file: Path, entry: str, value: Any) -> Any:
    """Give an id, which may be a number or a text."""
    if not isinstance(value, (int, str)):
        raise bad(file, entry, f"an id is missing or no number, found {value!r:.80}")
    return value


def _categories(file: Path, given: Any) -> dict[Any, tuple[str, list[str]]]:
    """Give the classes' names and the names of their keypoints, by id."""
    found: dict[Any, tuple[str, list[str]]] = {}
    for at, category in enumerate(given if isinstance(given, list) else [given]):
        entry = f"categories[{at}]"
        if not isinstance(category, dict) or not isinstance(category.get("name"), str):
            raise bad(file, entry, f"expected a category with id and name, found {category!r:.80}")
        parts = category.get("keypoints") or []
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            raise bad(file, entry, f"keypoints must be a list of names, found {parts!r:.80}")
        if len(set(parts)) < len(parts):
            raise bad(file, entry, "a keypoint's name is there twice")
        found[_key(file, entry, category.get("id"))] = category["name"], parts
    return found


def _thing(
    file: Path,
    entry: str,
    given: Mapping[str, Any],
    categories: Mapping[Any, tuple[str, list[str]]],
) -> Thing:
    """Read one object."""
    label, parts = "", list[str]()
    if categories:
        key = _key(file, entry, given.get("category_id"))
        if key not in categories:
            raise bad(file, entry, f"category_id {key!r} is no category of the file")
        label, parts = categories[key]
    box = None
    if given.get("bbox") is not None:
        x, y, width, height = numbers(file, entry, "bbox [x, y, width, height]", given["bbox"], 4)
        box = (x, y, x + width, y + height) if width > 0 and height > 0 else None
    flat = given.get("keypoints")
    if flat is None:
        return Thing(label, box, {})
    if not isinstance(flat, list) or len(flat) % 3 or (parts and len(flat) != 3 * len(parts)):
        told = f"{3 * len(parts)} numbers, x, y, v for each of the category's {len(parts)}"
        raise bad(
            file, entry, f"keypoints must be {told if parts else 'numbers x, y, v in turn'}; found "
            f"{len(flat) if isinstance(flat, list) else flat!r:.80}"
        )  # fmt: skip
    parts = parts or [f"keypoint {k + 1}" for k in range(len(flat) // 3)]
    values = numbers(file, entry, "keypoints", flat, len(flat))
    marks = {}
    for k, part in enumerate(parts):
        px, py, seen = values[3 * k : 3 * k + 3]
        if seen not in (0, 1, 2):
            raise bad(
                file, entry, f"v of {part!r} must be 0, 1 or 2, found {flat[3 * k + 2]!r:.80}"
            )
        if seen:
            marks[part] = Mark(px + _HALF, py + _HALF, occluded=seen == 1)
    return Thing(label, box, marks)


class Marked(NamedTuple):
    """An object to be written: of which photograph, its box if it is known, where parts are, px."""

    file: str
    size: tuple[int, int]
    box: Box | None
    marks: Mapping[str, tuple[float, float]]


def content_of(objects: Sequence[Marked], parts: Sequence[str], label: str) -> dict[str, Any]:
    """Give marked objects as COCO has them; `read` gives the marks back.

    All marks are written as visible (v = 2). Without a box, that around the marks is written.
    """
    files = {one.file: one.size for one in objects}
    ids = {name: k + 1 for k, name in enumerate(files)}
    annotations: list[dict[str, Any]] = []
    for one in objects:
        if not one.marks:
            continue
        flat: list[float] = []
        for part in parts:
            place = one.marks.get(part)
            flat += [0, 0, 0] if place is None else [place[0] - _HALF, place[1] - _HALF, 2]
        x0, y0, x1, y1 = one.box or around(one.marks.values())
        annotations.append({
            "id": len(annotations) + 1, "image_id": ids[one.file], "category_id": 1,
            "keypoints": flat, "num_keypoints": len(one.marks),
            "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0,
        })  # fmt: skip
    if not annotations:
        raise ExplgraphError("there is no mark to write")
    return {
        "images": [
            {"id": ids[name], "file_name": name, "width": size[0], "height": size[1]}
            for name, size in files.items()
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": label, "keypoints": list(parts), "skeleton": []}],
    }
