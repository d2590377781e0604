"""What was marked, as files that other programs read: ``marks.csv`` and ``marks.json`` (COCO)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from explgraph import rows
from explgraph.annotations.annotated import Photo
from explgraph.errors import ExplgraphError
from explgraph.evaluation.landmarks import Landmarks
from explgraph.evaluation.whose_marks import Marked
from explgraph.images.folder import ImageFolder
from explgraph.parsed import Parse
from explgraph.teaching.question import Place

__all__ = ["landmarks_of", "write_marks"]


def landmarks_of(
    said: Mapping[int, Mapping[str, Place | None]], parts: list[str], parse: Parse
) -> Landmarks:
    """Give marks of the images that have any, in pixels of the files where those are known."""
    marked = sorted(row for row, told in said.items() if any(told.values()))
    places = {part: np.full((len(parse.names), 2), np.nan) for part in parts}
    for row in marked:
        for part, place in said[row].items():
            if place is not None:
                places[part][row] = place
    if parse.has_original:
        places = {part: parse.to_original(there) for part, there in places.items()}
    height, width = parse.image_size
    names = tuple(parse.names[row] for row in marked)
    objects = None
    if not parse.has_original:  # the images are files of this size, as far as anybody knows
        photos = (Photo((name,), (), (width, height)) for name in names)
        objects = tuple(Marked(photo, None, False, "") for photo in photos)
    return Landmarks(names, {p: there[marked] for p, there in places.items()}, objects=objects)


def write_marks(
    folder: Path,
    said: Mapping[int, Mapping[str, Place | None]],
    parts: list[str],
    parse: Parse,
    images: ImageFolder | None,
) -> None:
    """Write both files; without any mark those that there are go.

    In the CSV a part that isn't visible has a row as well, ``visible`` 0 and no place.
    """
    table, coco = folder / "marks.csv", folder / "marks.json"
    found = landmarks_of(said, parts, parse)
    if found.names and (images is not None or found.objects is not None):
        found.write(coco, images)
    else:
        _remove(coco)
    row = {name: i for i, name in enumerate(found.names)}
    lines: list[tuple[str, str, float, float, int]] = []
    for i in sorted(said):
        name = parse.names[i]
        for part, place in said[i].items():
            x, y = found.parts[part][row[name]] if place is not None else (np.nan, np.nan)
            lines.append((name, part, float(x), float(y), int(place is not None)))
    if not lines:
        _remove(table)
        return
    columns = dict(
        zip(("name", "part", "x", "y", "visible"), zip(*lines, strict=True), strict=True)
    )
    kinds = {"name": object, "part": object, "x": float, "y": float, "visible": np.int64}
    rows.write(table, {key: np.array(v, dtype=kinds[key]) for key, v in columns.items()})


def _remove(file: Path) -> None:
    """Remove a file that would tell marks which there are no longer."""
    try:
        file.unlink(missing_ok=True)
    except OSError as err:
        raise ExplgraphError(
            f"can't remove {str(file)!r}, which holds marks that were taken back: "
            f"{err.strerror or err}; move it away"
        ) from err
