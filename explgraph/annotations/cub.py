"""CUB-200-2011 and what is laid out like it (NABirds): one object in each image, its parts and box.

``images.txt`` (``ID PATH``), ``parts/parts.txt`` (``ID NAME``), ``parts/part_locs.txt``
(``IMAGE PART X Y VISIBLE``) and ``bounding_boxes.txt`` (``IMAGE X Y WIDTH HEIGHT``). Parts that
aren't visible aren't marked. Its documentation doesn't say what coordinates count from; parts are
taken for indices of pixels from 0, so half a pixel is added, and boxes for edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from explgraph.annotations.annotated import (
    Annotations,
    Box,
    Mark,
    Photo,
    Thing,
    bad,
    number,
    numbers,
)
from explgraph.errors import ExplgraphError
from explgraph.textfiles import read_text

__all__ = ["BOXES", "PARTS", "read_boxes", "read_parts"]

PARTS = "part_locs.txt"
BOXES = "bounding_boxes.txt"
_HALF = 0.5  # from a pixel's index to its centre


def read_parts(file: Path) -> Annotations:
    """Read ``part_locs.txt``, with ``parts.txt`` beside it and ``images.txt`` there or above.

    Raises
    ------
    ExplgraphError
        If one of them is missing, or a line isn't as the format has it.
    """
    part_names = _numbered(file, (file.parent / "parts.txt",))
    image_names = _numbered(file, (file.parent / "images.txt", file.parent.parent / "images.txt"))
    marks: dict[str, dict[str, Mark]] = {image: {} for image in image_names}
    for number_, line in enumerate(read_text(file).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        entry = f"line {number_}"
        if len(fields) != 5 or fields[4] not in ("0", "1"):
            raise bad(
                file, entry, f"expected '<image id> <part id> <x> <y> <visible 0 or 1>', found "
                f"{line!r:.80}"
            )  # fmt: skip
        image, part, x, y, visible = fields
        if image not in image_names or part not in part_names:
            missing, where = (
                (image, "images.txt") if image not in image_names else (part, "parts.txt")
            )
            raise bad(file, entry, f"id {missing:.40} isn't in {where}")
        at = [number(x), number(y)]
        if at != [v for v in at if v == v]:
            raise bad(file, entry, f"x and y must be numbers, found {x!r:.40}, {y!r:.40}")
        if visible == "1":
            marks[image][part_names[part]] = Mark(at[0] + _HALF, at[1] + _HALF)
    photos = [Photo((image_names[i],), [Thing("", None, marks[i])]) for i in image_names]
    return Annotations("CUB-200-2011 files", photos, tuple(part_names.values()))


def read_boxes(file: Path) -> Annotations:
    """Read ``bounding_boxes.txt``, with ``images.txt`` beside it.

    Raises
    ------
    ExplgraphError
        If that is missing, or a line isn't as the format has it.
    """
    image_names = _numbered(file, (file.parent / "images.txt",))
    boxes: dict[str, Box] = {}
    for number_, line in enumerate(read_text(file).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        entry = f"line {number_}"
        if fields[0] not in image_names or fields[0] in boxes:
            what = "is there twice" if fields[0] in boxes else "isn't in images.txt"
            raise bad(file, entry, f"id {fields[0]:.40} {what}")
        x, y, width, height = numbers(file, entry, "x y width height", fields[1:], 4)
        boxes[fields[0]] = (x, y, x + width, y + height)
    photos = [
        Photo((name,), [Thing("", boxes[i], {})] if i in boxes else [])
        for i, name in image_names.items()
    ]
    return Annotations("CUB-200-2011 files", photos)


def _numbered(file: Path, candidates: Sequence[Path]) -> dict[str, str]:
    """Read ``<id> <name>`` lines (names may hold spaces) of the first candidate that exists."""
    found = next((c for c in candidates if c.is_file()), None)
    if found is None:
        raise ExplgraphError(
            f"{str(file)!r} needs {candidates[0].name} of CUB-200-2011, looked for "
            f"{' and '.join(repr(str(c)) for c in candidates)}"
        )
    entries = [line.strip().split(maxsplit=1) for line in read_text(found).splitlines()]
    if bad_one := next((e for e in entries if len(e) == 1), None):
        raise ExplgraphError(
            f"{str(found)!r}: expected '<id> <name>' lines, found {bad_one[0]!r:.80}"
        )
    return {entry[0]: entry[1] for entry in entries if entry}
