"""What all formats are read into: photographs, the objects in them, their boxes and marks.

Points are ``[x, y]`` px of the photograph, the first pixel's centre at (0.5, 0.5), whatever the
format counts from; boxes are ``(x0, y0, x1, y1)`` px, edges of pixels at whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from explgraph.errors import ExplgraphError

__all__ = [
    "Annotations",
    "Box",
    "Mark",
    "Photo",
    "Thing",
    "around",
    "bad",
    "grouped",
    "number",
    "numbers",
    "turned_box",
]

Box: TypeAlias = tuple[float, float, float, float]


class Mark(NamedTuple):
    """Where a part was marked, px, and what the program says of it."""

    x: float
    y: float
    occluded: bool = False
    likelihood: float = 1.0


class Thing(NamedTuple):
    """An object in a photograph.

    ``label`` is its class, "" where the format has none. ``loose``: a mark that the program keeps
    by itself, so that it isn't told which object it is of.
    """

    label: str
    box: Box | None
    marks: Mapping[str, Mark]
    loose: bool = False


@dataclass(frozen=True)
class Photo:
    """A photograph, as a file of annotations tells of it.

    ``names`` are paths by which it may be known, the likeliest first, ``stems`` such paths without
    suffix. ``size`` is (width, height) px, where it is told. ``shares``: boxes are shares of the
    size, which isn't told.
    """

    names: tuple[str, ...]
    things: Sequence[Thing]
    size: tuple[int, int] | None = None
    stems: tuple[str, ...] = ()
    shares: bool = False

    @property
    def name(self) -> str:
        """What messages call it."""
        return (self.names or self.stems)[0]


@dataclass(frozen=True)
class Annotations:
    """What a file, or a folder of files, tells.

    ``kind`` is what the format is called. ``parts`` are all that can be marked, whether they are
    or not. ``explicit``: names are those of images as an `ImageFolder` has them, ``name#k`` among
    them. ``sources`` says which photograph an image was cut from, by name.
    """

    kind: str
    photos: Sequence[Photo]
    parts: Sequence[str] = ()
    explicit: bool = False
    sources: Mapping[str, str] | None = None

    def only(self, classes: str | Iterable[str] | None, argument: str, what: str) -> Annotations:
        """Keep the objects of some classes.

        Parameters
        ----------
        classes : str or sequence of str, optional
            ``"*"`` keeps all. Without it there must be one class.
        argument : str
            Which takes it, for messages.
        what : {"marks", "boxes"}
            That objects must have to count.

        Raises
        ------
        ExplgraphError
            If there are several classes and none is chosen, or a chosen one isn't there.
        """
        if classes == "*":
            return self
        counts: dict[str, int] = {}
        for photo in self.photos:
            for thing in photo.things:
                if not thing.loose and (thing.marks if what == "marks" else thing.box):
                    counts[thing.label] = counts.get(thing.label, 0) + 1
        told = ", ".join(
            f"{label or '(none)'} ({count:,})"
            for label, count in sorted(counts.items(), key=lambda item: -item[1])[:_SHOWN]
        ) + (", ..." if len(counts) > _SHOWN else "")
        if classes is None:
            if len(counts) > 1:
                raise ExplgraphError(
                    f"the {self.kind} has {what} of {len(counts)} classes: {told}; choose by "
                    f"{argument} ('*' for all)"
                )
            return self
        kept = {classes} if isinstance(classes, str) else set(classes)
        if missing := sorted(kept - counts.keys()):
            raise ExplgraphError(
                f"{argument} has {missing[0]!r}, of which the {self.kind} has no {what}; it has "
                f"{told or 'none at all'}"
            )
        photos = [
            Photo(
                photo.names,
                [thing for thing in photo.things if thing.loose or thing.label in kept],
                photo.size,
                photo.stems,
                photo.shares,
            )
            for photo in self.photos
        ]
        marked, others = _marked(photos), _marked(self.photos)
        parts = [part for part in self.parts if part in marked or part not in others]
        return Annotations(self.kind, photos, parts, self.explicit, self.sources)


def _marked(photos: Iterable[Photo]) -> set[str]:
    """Give the parts that are marked anywhere."""
    return {part for photo in photos for thing in photo.things for part in thing.marks}


_SHOWN = 8  # classes that a message lists


def bad(file: Path, entry: str, what: str) -> ExplgraphError:
    """Give an error that names the file and the entry."""
    return ExplgraphError(f"{str(file)!r}, {entry}: {what}")


def number(value: Any) -> float:
    """Turn a JSON value or a text into a float; NaN if it isn't a finite number."""
    if isinstance(value, bool):
        return math.nan
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return found if math.isfinite(found) else math.nan


def numbers(file: Path, entry: str, what: str, values: Any, count: int) -> list[float]:
    """Turn a sequence of `count` values into finite floats, or say what is wrong."""
    given = values if isinstance(values, (list, tuple)) else ()
    plain = set(map(type, given)) <= {int, float}  # as almost always, and a hundred thousand times
    try:
        found = list(map(float, given)) if plain else [number(value) for value in given]
    except OverflowError:
        found = [math.nan]
    if len(found) != count or not all(map(math.isfinite, found)):
        shown = repr(values) if len(repr(values)) < 80 else repr(values)[:80] + "..."
        raise bad(file, entry, f"{what} must be {count} numbers, found {shown}")
    return found


def around(points: Iterable[tuple[float, float]]) -> Box:
    """Give the box around points."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def turned_box(box: Box, degrees: float, pivot: tuple[float, float]) -> Box:
    """Give the box around one that is turned clockwise about a point."""
    if not degrees:
        return box
    x0, y0, x1, y1 = box
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [(x - pivot[0], y - pivot[1]) for x in (x0, x1) for y in (y0, y1)]
    return around((pivot[0] + cos * x - sin * y, pivot[1] + sin * x + cos * y) for x, y in corners)


def grouped(
    file: Path,
    entry: str,
    boxes: Sequence[tuple[str, Box, object]],
    marks: Sequence[tuple[str, Mark, object]],
) -> list[Thing]:
    """Put boxes and marks that share a group together; None is no group.

    Parameters
    ----------
    file : Path
    entry : str
        For messages.
    boxes : sequence of (class, box, group)
    marks : sequence of (part, mark, group)

    Returns
    -------
    list of Thing
        Marks without a group are loose.
    """
    things: list[Thing] = []
    by_group: dict[object, tuple[list[tuple[str, Box]], dict[str, Mark]]] = {}
    for label, box, group in boxes:
        if group is None:
            things.append(Thing(label, box, {}))
        else:
            by_group.setdefault(group, ([], {}))[0].append((label, box))
    for part, mark, group in marks:
        if group is None:
            things.append(Thing("", None, {part: mark}, loose=True))
            continue
        of_group = by_group.setdefault(group, ([], {}))[1]
        if part in of_group:
            raise bad(file, entry, f"the group {group!r} has {part!r} twice; keep one, or part it")
        of_group[part] = mark
    for group, (members, marked) in by_group.items():
        if marked and len(members) > 1:
            raise bad(
                file, entry, f"the group {group!r} has {len(members)} boxes, and marks; part it"
            )
        if not members:
            things.append(Thing("", None, marked))
        things += [Thing(label, box, marked) for label, box in members]
    return things
