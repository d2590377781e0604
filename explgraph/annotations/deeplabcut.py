"""DeepLabCut: ``CollectedData_SCORER.csv`` and what its networks write, of one or several animals.

Three lines of header (scorer, bodyparts, coords), with one for ``individuals`` before bodyparts
where there are several animals. Rows are named by one column (``labeled-data/VIDEO/IMG.png``) or
by three (``labeled-data,VIDEO,IMG.png``). Coordinates are indices of pixels from 0, so half a
pixel is added. Empty cells aren't marked. ``likelihood`` is there in predictions; ``visible``,
which Lightning Pose adds, counts as COCO's v. What DeepLabCut marks for the individual ``single``
is of no animal in particular.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from explgraph.annotations.annotated import Annotations, Mark, Photo, Thing, bad, number
from explgraph.errors import ExplgraphError
from explgraph.textfiles import read_text

__all__ = ["is_deeplabcut", "read"]

_HALF = 0.5  # from a pixel's index to its centre
_HEADERS = ("scorer", "individuals", "bodyparts", "coords")
_COORDS = ("x", "y", "likelihood", "visible")
_NO_NUMBER = frozenset({"", "nan", "na", "none"})


class _Column(NamedTuple):
    at: int
    individual: str
    part: str
    coord: str


def is_deeplabcut(file: Path) -> bool:
    """Whether a CSV begins like one of DeepLabCut."""
    with io.StringIO(read_text(file)) as lines:
        return next(iter(lines), "").split(",")[0].strip().strip('"').lower() == "scorer"


def read(file: Path) -> Annotations:
    """Read a CSV of DeepLabCut.

    Raises
    ------
    ExplgraphError
        If the lines of the header are others, a row is of another length, names no image or is
        there twice, or a value is no number.
    """
    table = csv.reader(io.StringIO(read_text(file), newline=""), skipinitialspace=True)
    header: dict[str, list[str]] = {}
    photos: dict[str, Photo] = {}
    columns: list[_Column] = []
    try:
        for row in table:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            entry = f"line {table.line_num}"
            if "coords" not in header:
                if cells[0].lower() not in _HEADERS:
                    raise bad(
                        file, entry, "the header of a DeepLabCut file is scorer, (individuals,) "
                        f"bodyparts, coords, found {cells[0]!r:.80}"
                    )  # fmt: skip
                header[cells[0].lower()] = cells
                if "coords" in header:
                    columns = _columns(file, header)
                continue
            if len(cells) != len(header["coords"]):
                raise bad(
                    file, entry, f"{len(cells)} values for {len(header['coords'])} columns; "
                    "numbers have a decimal point, not a comma"
                )  # fmt: skip
            name = "/".join(filter(None, cells[: columns[0].at])).replace("\\", "/")
            if name.isdigit():
                raise bad(
                    file, entry, "rows are frames of a video, by number; explgraph reads images: "
                    "extract the frames, and name each row by its image file"
                )  # fmt: skip
            if not name or name in photos:
                what = f"{name!r} is there twice" if name in photos else "the image has no name"
                raise bad(file, entry, what)
            photos[name] = Photo((name,), _things(file, entry, cells, columns))
    except csv.Error as err:
        raise ExplgraphError(f"{str(file)!r}, line {table.line_num}: is no CSV ({err})") from err
    if not columns:
        raise ExplgraphError(f"{str(file)!r} is no whole DeepLabCut file: it has no line of coords")
    parts = tuple(dict.fromkeys(column.part for column in columns))
    return Annotations("DeepLabCut file", list(photos.values()), parts)


def _columns(file: Path, header: dict[str, list[str]]) -> list[_Column]:
    """Say what each column of values is."""
    if "bodyparts" not in header:
        raise ExplgraphError(f"{str(file)!r} has no line of bodyparts before that of coords")
    coords = header["coords"]
    first = next((at for at, cell in enumerate(coords) if at and cell), len(coords))
    found: list[_Column] = []
    for at in range(first, len(coords)):
        names = [header[line][at] if at < len(header[line]) else "" for line in header]
        told = dict(zip(header, names, strict=True))
        coord = coords[at].lower()
        if coord not in _COORDS or not told["bodyparts"]:
            raise ExplgraphError(
                f"{str(file)!r}, column {at + 1}: expected a bodypart and one of "
                f"{', '.join(_COORDS)}, found {told['bodyparts']!r:.80} and {coords[at]!r:.80}"
            )
        found.append(_Column(at, told.get("individuals", ""), told["bodyparts"], coord))
    what = [column[1:] for column in found]
    if twice := next((w for w in what if what.count(w) > 1), None):
        raise ExplgraphError(
            f"{str(file)!r} has the columns of {' '.join(filter(None, twice))!r} twice; are there "
            "two scorers? keep one"
        )
    for individual, part in dict.fromkeys(w[:2] for w in what):
        if not {(individual, part, "x"), (individual, part, "y")} <= set(what):
            raise ExplgraphError(f"{str(file)!r}: {part!r} needs a column x and one y")
    if not found:
        raise ExplgraphError(f"{str(file)!r} has no bodypart")
    return found


def _things(file: Path, entry: str, cells: Sequence[str], columns: list[_Column]) -> list[Thing]:
    """Read the animals of a row."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    for at, individual, part, coord in columns:
        said = values.setdefault((individual, part), {})
        if cells[at].lower() in _NO_NUMBER:
            continue
        said[coord] = number(cells[at])
        if said[coord] != said[coord]:
            raise bad(file, entry, f"{coord} of {part!r} must be a number, found {cells[at]!r:.80}")
    animals: dict[str, dict[str, Mark]] = {}
    for (individual, part), said in values.items():
        marks = animals.setdefault(individual, {})
        if ("x" in said) != ("y" in said):
            raise bad(file, entry, f"{part!r} must have both x and y, or neither")
        seen, likely = said.get("visible", 2), said.get("likelihood", 1.0)
        if seen not in (0, 1, 2) or not 0 <= likely <= 1:
            raise bad(
                file, entry, f"{part!r}: visible must be 0, 1 or 2 and likelihood from 0 to 1, "
                f"found {seen:g} and {likely:g}"
            )  # fmt: skip
        if "x" in said and seen:
            marks[part] = Mark(said["x"] + _HALF, said["y"] + _HALF, seen == 1, likely)
    things = []
    for individual, marks in animals.items():
        if individual == "single":
            things += [Thing("", None, {part: mark}, loose=True) for part, mark in marks.items()]
        elif marks:
            things.append(Thing("", None, marks))
    return things
