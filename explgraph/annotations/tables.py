"""explgraph's own layouts: CSVs of marks and of boxes, and ``parts.json``.

Marks: columns ``name``, ``part``, ``x``, ``y`` in any order, one row per marked part; an empty x
or y means unmarked, and so does 0 (or false) in a column ``visible``. A column ``likelihood`` is
that of the mark. Boxes: columns ``name``, ``x0``, ``y0``, ``x1``, ``y1``. Pixel centres at integer
+ 0.5, as everywhere in explgraph.

``parts.json``: ``{"parts": ["head"], "images": {"1.jpg": {"head": [42.0, 52.5]}}, "source":
{...}}``, null for unmarked parts; ``source`` (which photograph a crop was cut from) may be
missing. Pixel centres count as integers there, so 0.5 is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explgraph.annotations.annotated import Annotations, Mark, Photo, Thing, bad, number
from explgraph.errors import ExplgraphError
from explgraph.textfiles import read_csv

__all__ = ["read_boxes", "read_marks", "read_parts_json"]

_SEEN = frozenset({"", "1", "1.0", "2", "2.0", "true", "yes"})  # 2: visible, as COCO counts
_UNSEEN = frozenset({"0", "0.0", "false", "no"})
_HALF = 0.5  # from a pixel's index to its centre


def read_marks(file: Path) -> Annotations:
    """Read a table with the columns name, part, x, y.

    Raises
    ------
    ExplgraphError
        If it has other columns, or a row is not as it should be.
    """
    found: dict[str, dict[str, Mark]] = {}
    parts: dict[str, None] = {}
    for line, row in read_csv(file, ("name", "part", "x", "y"))[1]:
        entry = f"line {line}"
        name, part = row["name"], row["part"]
        if not name.strip() or not part.strip():
            raise bad(file, entry, "name and part must not be empty")
        if bool(row["x"].strip()) != bool(row["y"].strip()):
            raise bad(file, entry, "x and y must both be there, or neither (unmarked)")
        parts[part] = None
        marks = found.setdefault(name, {})
        seen, likelihood = _seen(file, entry, row)
        if not row["x"].strip() or not seen:
            continue
        if part in marks:
            raise bad(file, entry, f"{part!r} of {name!r} is marked twice; keep one row")
        x, y = _place(file, entry, row["x"], row["y"])
        marks[part] = Mark(x, y, likelihood=likelihood)
    photos = [Photo((name,), [Thing("", None, marks)]) for name, marks in found.items()]
    return Annotations("CSV", photos, tuple(parts), explicit=True)


def _seen(file: Path, entry: str, row: Mapping[str, str]) -> tuple[bool, float]:
    """Say whether a part shows, and how likely, by columns that need not be there."""
    said = row.get("visible", "").strip().lower()
    if said not in _SEEN | _UNSEEN:
        raise bad(
            file, entry, f"visible must be 0, 1, 2, true or false, found {row['visible']!r:.80}"
        )
    likely = row.get("likelihood", "").strip() or "1"
    if not 0 <= number(likely) <= 1:
        raise bad(file, entry, f"likelihood must be a number from 0 to 1, found {likely!r:.80}")
    return said in _SEEN, number(likely)


def read_boxes(file: Path) -> dict[str, list[list[float]]]:
    """Read a table with the columns name, x0, y0, x1, y1; others are ignored.

    Raises
    ------
    ExplgraphError
        If a column is missing or a value no number.
    """
    columns = ("name", "x0", "y0", "x1", "y1")
    table: dict[str, list[list[float]]] = {}
    for line, row in read_csv(file, columns, "boxes")[1]:
        try:
            box = [float(row[c]) for c in columns[1:]]
        except ValueError as err:
            raise ExplgraphError(
                f"boxes {str(file)!r}, line {line}: expected four numbers x0,y0,x1,y1 after the "
                f"name, got {[row[c] for c in columns[1:]]}"
            ) from err
        table.setdefault(row["name"], []).append(box)
    return table


def read_parts_json(file: Path, content: Any) -> Annotations:
    """Read the layout of parts.json.

    Raises
    ------
    ExplgraphError
        If it is laid out in another way.
    """
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, dict) or not all(isinstance(v, dict) for v in images.values()):
        raise ExplgraphError(
            f'{str(file)!r} must hold {{"images": {{NAME: {{PART: [x, y] or null}}}}}}, or be of '
            "COCO, LabelMe or Label Studio (JSON or JSON-MIN), found "
            f"{', '.join(map(repr, content)) if isinstance(content, dict) else 'no object'}"
        )
    photos = []
    for name, marked in images.items():
        marks = {}
        for part, place in marked.items():
            if place is None:
                continue
            if not isinstance(place, list) or len(place) != 2:
                raise ExplgraphError(
                    f"{str(file)!r}: {part!r} of {name!r} must be [x, y] or null, found "
                    f"{place!r:.80}"
                )
            x, y = _place(file, f"{part!r} of {name!r}", *place)
            marks[part] = Mark(x + _HALF, y + _HALF)
        photos.append(Photo((name,), [Thing("", None, marks)]))
    parts = content.get("parts") or list(dict.fromkeys(p for m in images.values() for p in m))
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise ExplgraphError(f"{str(file)!r}: parts must be a list of names, found {parts!r:.80}")
    told = content.get("source")
    sources = (
        {name: str(told.get(name, name)) for name in images} if isinstance(told, dict) else None
    )
    return Annotations("parts.json", photos, tuple(parts), explicit=True, sources=sources)


def _place(file: Path, entry: str, x: Any, y: Any) -> tuple[float, float]:
    """Turn x and y into finite numbers."""
    place = number(x), number(y)
    if place != tuple(v for v in place if v == v):
        raise bad(file, entry, f"x and y must be numbers, found {x!r:.40}, {y!r:.40}")
    return place
