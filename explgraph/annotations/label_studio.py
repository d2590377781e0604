"""Label Studio: its JSON export, and JSON-MIN, with keypoints and rectangles.

The format is that of https://labelstud.io/guide/export. Places are per cent of the image's width
and height, which stand beside them; the image spans 0 to 100. Of several annotations of a task
that which is marked as ground truth counts, else the last that wasn't cancelled; predictions
don't. Keypoints that are within a rectangle's region (``parentID``) or linked to it by a relation
are its object's; JSON-MIN doesn't tell. Turned rectangles become the upright ones around them.
Files that were uploaded are named ``xxxxxxxx-NAME`` by Label Studio: both names are looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from explgraph.annotations.annotated import (
    Annotations,
    Box,
    Mark,
    Photo,
    Thing,
    bad,
    grouped,
    number,
    numbers,
    turned_box,
)

__all__ = ["is_label_studio", "read"]

_KINDS = ("keypointlabels", "rectanglelabels")
_IMAGE = re.compile(r"\.(png|jpe?g|jfif|webp|bmp|gif|tiff?|avif|heic)([?#]|$)", re.IGNORECASE)
_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio puts before names


def is_label_studio(content: Any) -> bool:
    """Whether JSON is a list of tasks, of either export."""
    if not isinstance(content, list) or not content:
        return False
    first = content[0]
    return isinstance(first, dict) and (
        isinstance(first.get("data"), dict) or any(True for _ in _minimal(first))
    )


def read(file: Path, content: Sequence[Any]) -> Annotations:
    """Read tasks that Label Studio exported.

    Raises
    ------
    ExplgraphError
        If an entry isn't as the format has it, an image was turned, or none is told.
    """
    photos = []
    parts: dict[str, None] = {}
    seen: set[tuple[str, ...]] = set()
    for at, task in enumerate(content):
        entry = f"task {task['id']!r}" if isinstance(task, dict) and "id" in task else f"[{at}]"
        if not isinstance(task, dict):
            raise bad(file, entry, f"expected a task, found {task!r:.80}")
        names = _names(task)
        if not names or names in seen:
            what = f"{names[-1]!r} is there twice" if names else "names no image"
            raise bad(file, entry, what)
        seen.add(names)
        whole = isinstance(task.get("data"), dict)
        results = _results(file, entry, task) if whole else list(_minimal(task))
        things, size = _things(file, entry, results)
        parts |= dict.fromkeys(part for thing in things for part in thing.marks)
        photos.append(Photo(names, things, size))
    return Annotations("Label Studio file", photos, tuple(parts))


def _minimal(task: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the regions of a task of JSON-MIN, as the whole export has them."""
    for values in task.values():
        for value in values if isinstance(values, list) else ():
            for kind in _KINDS:
                if isinstance(value, dict) and kind in value:
                    yield {**value, "type": kind, "value": value}


def _names(task: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the names under which the image may be in a folder, the likeliest first."""
    data = task["data"] if isinstance(task.get("data"), dict) else task
    texts = [value for value in data.values() if isinstance(value, str) and _IMAGE.search(value)]
    found: list[str] = []
    for text in [*texts[:1], task.get("file_upload")]:
        if not isinstance(text, str) or not text:
            continue
        address = urlsplit(text)
        local = parse_qs(address.query).get("d", [""])[0]  # /data/local-files/?d=PATH
        path = local or unquote(address.path)
        uploaded = "/data/upload/" in path or text is task.get("file_upload")
        name = path.rsplit("/", 1)[-1] if uploaded or address.netloc else path
        found += [name]
        if uploaded:
            found += [_UPLOADED.sub("", name)]
    return tuple(dict.fromkeys(name for name in found if name))


def _results(file: Path, entry: str, task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give the regions of the annotation that counts."""
    given = task.get("annotations", task.get("completions", []))
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise bad(file, entry, "annotations must be a list of objects; export JSON or JSON-MIN")
    done = [one for one in given if not one.get("was_cancelled")]
    chosen = next((one for one in done if one.get("ground_truth")), done[-1] if done else {})
    results = chosen.get("result", [])
    if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
        raise bad(file, entry, "result must be a list of objects")
    return results


def _things(
    file: Path, entry: str, results: Sequence[Mapping[str, Any]]
) -> tuple[list[Thing], tuple[int, int] | None]:
    """Read the objects of a task, and the image's size."""
    boxes: list[tuple[str, Box, object]] = []
    marks: list[tuple[str, Mark, object]] = []
    size: tuple[int, int] | None = None
    of = _objects(results)
    for result in results:
        kind = result.get("type")
        if kind not in _KINDS:
            continue
        value = result.get("value")
        labels = value.get(kind) if isinstance(value, dict) else None
        if not isinstance(value, dict) or not isinstance(labels, list) or len(labels) != 1:
            raise bad(file, entry, f"a region must have one label, found {labels!r:.80}")
        width, height = (number(result.get(f"original_{side}")) for side in ("width", "height"))
        if not (width >= 1 and height >= 1):
            raise bad(file, entry, "a region must tell original_width and original_height")
        if result.get("image_rotation") not in (None, 0):
            raise bad(file, entry, "the image was turned in Label Studio, which is not followed")
        size = int(width), int(height)
        label, group = str(labels[0]), of.get(str(result.get("id")))
        corner = [value.get("x"), value.get("y")]
        if kind == "keypointlabels":
            x, y = numbers(file, entry, f"x and y of {label!r}", corner, 2)
            marks.append((label, Mark(x / 100 * width, y / 100 * height), group))
            continue
        sides = [value.get("width"), value.get("height")]
        x, y, wide, high = numbers(file, entry, f"the box of {label!r}", corner + sides, 4)
        degrees = number(value.get("rotation") or 0)
        x0, y0 = x / 100 * width, y / 100 * height
        box = (x0, y0, x0 + wide / 100 * width, y0 + high / 100 * height)
        boxes.append(
            (label, turned_box(box, 0 if degrees != degrees else degrees, (x0, y0)), group)
        )
    return grouped(file, entry, boxes, marks), size


def _objects(results: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Say by the regions' ids which rectangle each belongs to: itself, its parent, its relation."""
    boxes = {str(r.get("id")) for r in results if r.get("type") == "rectanglelabels"}
    links = [(str(r.get("id")), str(r.get("parentID"))) for r in results]
    links += [
        (str(r.get("from_id")), str(r.get("to_id"))) for r in results if r.get("type") == "relation"
    ]
    of: dict[str, str] = {}
    for one, other in links:
        of |= {
            region: box for region, box in ((one, other), (other, one))
            if box in boxes and region not in boxes and region != "None"
        }  # fmt: skip
    return of | {box: box for box in set(of.values())}
