"""CVAT: "CVAT for images 1.1", an ``annotations.xml`` with boxes, points and skeletons.

The format is that of https://docs.cvat.ai/docs/other/xml_format. Coordinates are those of the
drawing area, in which the first pixel spans 0 to 1, so they are taken as they are. Points that are
``outside`` aren't marked; ``occluded`` ones are marked as such. A skeleton is one object. Points
by themselves are of the part that their label names: of several in one shape, each has its number
after the name. Shapes of one ``group_id`` are of one object. Turned boxes become the upright ones
around them. Polygons, polylines, masks, ellipses, cuboids and tags aren't looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree.ElementTree import Element

from explgraph.annotations.annotated import (
    Annotations,
    Box,
    Mark,
    Photo,
    Thing,
    bad,
    grouped,
    number,
    turned_box,
)
from explgraph.errors import ExplgraphError

__all__ = ["read"]


def read(file: Path, root: Element) -> Annotations:
    """Read what CVAT exported.

    Raises
    ------
    ExplgraphError
        If it is of a video, or a shape isn't as the format has it.
    """
    if root.find("track") is not None:
        raise ExplgraphError(
            f"{str(file)!r} is of a video (it has tracks); export it as 'CVAT for images 1.1'"
        )
    images = root.findall("image")
    many = _counts(file, images)
    photos = []
    parts: dict[str, None] = {}
    seen: set[str] = set()
    for at, image in enumerate(images):
        name = image.get("name", "")
        entry = f"image {name!r}" if name else f"image number {at + 1}"
        if not name or name in seen:
            raise bad(file, entry, "is there twice" if name else "has no name")
        seen.add(name)
        width, height = number(image.get("width")), number(image.get("height"))
        size = (int(width), int(height)) if width >= 1 and height >= 1 else None
        things = _things(file, entry, image, many)
        parts |= dict.fromkeys(part for thing in things for part in thing.marks)
        photos.append(Photo((name,), things, size))
    return Annotations("CVAT file", photos, tuple(parts))


def _counts(file: Path, images: list[Element]) -> dict[str, int]:
    """Say how many points a label's shapes have; labels of one point are left out."""
    counts: dict[str, set[int]] = {}
    for image in images:
        for shape in image.findall("points"):
            counts.setdefault(shape.get("label", ""), set()).add(shape.get("points", "").count(";"))
    for label, found in counts.items():
        if len(found) > 1:
            raise ExplgraphError(
                f"{str(file)!r}: shapes {label!r} have {min(found) + 1} points in places and "
                f"{max(found) + 1} in others, so that it isn't told which is which; give each "
                "part a label of its own, or use a skeleton"
            )
    return {label: found.pop() + 1 for label, found in counts.items() if max(found)}


def _things(file: Path, entry: str, image: Element, many: Mapping[str, int]) -> list[Thing]:
    """Read the objects of an image."""
    boxes: list[tuple[str, Box, object]] = []
    marks: list[tuple[str, Mark, object]] = []
    skeletons: list[Thing] = []
    for shape in image:
        label = shape.get("label", "")
        group = shape.get("group_id") if shape.get("group_id") not in (None, "", "0") else None
        if shape.tag == "box":
            boxes.append((label, _box(file, entry, shape), group))
        elif shape.tag == "points":
            occluded = shape.get("occluded") == "1"
            points = _points(file, entry, shape) if shape.get("outside") != "1" else []
            for k, (x, y) in enumerate(points):
                part = f"{label} {k + 1}" if label in many else label
                # the points of one shape are of one object
                of = group or (shape if label in many else None)
                marks.append((part, Mark(x, y, occluded), of))
        elif shape.tag == "skeleton":
            skeletons.append(Thing(label, None, _skeleton(file, entry, shape)))
    return skeletons + grouped(file, entry, boxes, marks)


def _skeleton(file: Path, entry: str, skeleton: Element) -> dict[str, Mark]:
    """Read the points of a skeleton."""
    marks: dict[str, Mark] = {}
    for point in skeleton.findall("points"):
        label = point.get("label", "")
        if point.get("outside") == "1":
            continue
        places = _points(file, entry, point)
        if len(places) != 1 or label in marks:
            raise bad(file, entry, f"{label!r} of a skeleton must be one point")
        marks[label] = Mark(*places[0], point.get("occluded") == "1")
    return marks


def _points(file: Path, entry: str, shape: Element) -> list[tuple[float, float]]:
    """Read ``x,y;x,y``."""
    text = shape.get("points", "")
    places = [tuple(number(value) for value in pair.split(",")) for pair in text.split(";")]
    if any(len(place) != 2 or place[0] != place[0] or place[1] != place[1] for place in places):
        raise bad(
            file, entry, f"points of {shape.get('label', '')!r} must be x,y;x,y, found {text!r:.80}"
        )
    return [(place[0], place[1]) for place in places]


def _box(file: Path, entry: str, shape: Element) -> Box:
    """Read a box, turned or not."""
    x0, y0, x1, y1 = (number(shape.get(key)) for key in ("xtl", "ytl", "xbr", "ybr"))
    degrees = number(shape.get("rotation", 0))
    if any(value != value for value in (x0, y0, x1, y1, degrees)):
        raise bad(file, entry, "a box must have numbers xtl, ytl, xbr, ybr")
    return turned_box((x0, y0, x1, y1), degrees, ((x0 + x1) / 2, (y0 + y1) / 2))
