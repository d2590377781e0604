"""YOLO: a text file for each image, a line for each box, in shares of the image's size.

The format is that of https://docs.ultralytics.com/datasets/detect: ``CLASS CX CY WIDTH HEIGHT``,
the image spanning 0 to 1; a sixth number, a prediction's confidence, isn't looked at. Classes are
named by ``data.yaml`` (``names``), ``classes.txt`` or ``obj.names`` in the folder or up to two
above; without them they are numbers. Longer lines are polygons (or turned boxes), whose upright
box is taken, or, where ``data.yaml`` has ``kpt_shape``, boxes with keypoints behind them, which
aren't read. Without ``data.yaml`` the two can't be told apart, and such lines are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from explgraph.annotations.annotated import (
    Annotations,
    Box,
    Photo,
    Thing,
    around,
    bad,
    numbers,
)
from explgraph.errors import ExplgraphError, MissingPackageError
from explgraph.textfiles import read_text

__all__ = ["NOT_LABELS", "read"]

NOT_LABELS = frozenset(
    {"classes.txt", "train.txt", "val.txt", "test.txt", "train2017.txt", "val2017.txt"}
    | {"readme.txt", "readme.dataset.txt", "readme.roboflow.txt", "requirements.txt", "notes.txt"}
)
"""Text files that lie about in such folders, and are of no image."""

_LONGEST = 256_000  # characters of data.yaml: a thousand times the usual; its reader is slow
_BEYOND = 0.01  # by how much rounding may lead out of the image


def read(folder: Path, files: Mapping[str, Path]) -> Annotations:
    """Read YOLO's files.

    Parameters
    ----------
    folder : Path
        That was given.
    files : mapping of str to Path
        By path within it.

    Raises
    ------
    ExplgraphError
        If a line isn't as the format has it, or of a class that has no name.
    """
    names, keypoints = _described(folder)
    photos = []
    for name, file in files.items():
        things = [
            _thing(file, f"line {k}", line.split(), names, keypoints)
            for k, line in enumerate(read_text(file).splitlines(), start=1)
            if line.strip()
        ]
        stem = PurePosixPath(name).with_suffix("")
        # images/train/1.jpg goes with labels/train/1.txt
        beside = PurePosixPath(*("images" if part == "labels" else part for part in stem.parts))
        photos.append(Photo((), things, None, (str(beside), stem.name), shares=True))
    return Annotations("YOLO files", photos)


def _thing(
    file: Path,
    entry: str,
    fields: list[str],
    names: Mapping[int, str] | None,
    keypoints: int | None,
) -> Thing:
    """Read one line; `keypoints` are the numbers of them, None if it isn't known, 0 if polygons."""
    try:
        index = int(fields[0])
    except ValueError:
        raise bad(
            file, entry, f"expected the number of a class first, found {fields[0]!r:.80}"
        ) from None
    if names is not None and index not in names:
        raise bad(file, entry, f"class {fields[0]:.20} has no name; there are {len(names)}, from 0")
    label = str(index) if names is None else names[index]
    values = numbers(file, entry, "all after the class", fields[1:], len(fields) - 1)
    if len(values) in (4, 5) or (keypoints and len(values) in (4 + keypoints, 5 + keypoints)):
        cx, cy, width, height = values[:4]
        box: Box = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
    elif keypoints == 0 and len(values) >= 6 and len(values) % 2 == 0:
        box = around(zip(values[::2], values[1::2], strict=True))
    else:
        why = "CLASS CX CY WIDTH HEIGHT"
        if keypoints is None and len(values) > 5:
            why += (
                "; whether more is a polygon or keypoints is said by data.yaml, which is neither "
                "in the folder nor above: put it there"
            )
        raise bad(file, entry, f"has {len(fields)} numbers, expected {why}")
    if min(box) < -_BEYOND or max(box) > 1 + _BEYOND:
        raise bad(
            file, entry, "coordinates must be shares of the image's size, from 0 to 1, found "
            f"{' '.join(fields[1:5]):.80}"
        )  # fmt: skip
    return Thing(label, box, {})


def _described(folder: Path) -> tuple[dict[int, str] | None, int | None]:
    """Give the classes' names, and how many numbers of keypoints lines have; None: not told."""
    above = (folder, *folder.resolve().parents[:2])
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if file := next((at / name for at in above if (at / name).is_file()), None):
            return _of_yaml(file)
    told = [at / name for name in ("classes.txt", "obj.names") for at in above]
    if file := next((file for file in told if file.is_file()), None):
        listed = [line.strip() for line in read_text(file).splitlines()]
        return {k: label for k, label in enumerate(listed) if label}, None
    return None, None


def _of_yaml(file: Path) -> tuple[dict[int, str] | None, int]:
    """Read ``data.yaml``: names as a list or by number, and ``kpt_shape``."""
    try:
        import yaml
    except ImportError as err:
        raise MissingPackageError(
            f"{str(file)!r} needs PyYAML, which isn't installed: pip install 'explgraph[yolo]', or "
            "put the classes' names, a line each, into classes.txt and take data.yaml away"
        ) from err
    text = read_text(file)
    if len(text) > _LONGEST:
        raise ExplgraphError(
            f"{str(file)!r} has {len(text):,} characters; at most {_LONGEST:,} are read"
        )
    try:
        content: Any = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as err:
        if isinstance(err, ExplgraphError):
            raise
        told = " ".join(str(err).split())
        raise ExplgraphError(f"{str(file)!r} isn't YAML: {told[:200]}") from err
    content = content if isinstance(content, dict) else {}
    given, shape = content.get("names"), content.get("kpt_shape")
    by_number = dict(enumerate(given)) if isinstance(given, list) else given
    if by_number is not None and not (
        isinstance(by_number, dict)
        and all(isinstance(k, int) and isinstance(v, (str, int)) for k, v in by_number.items())
    ):
        raise ExplgraphError(f"{str(file)!r}: names must be a list of names, or names by number")
    if shape is not None and not (
        isinstance(shape, list) and len(shape) == 2 and all(isinstance(v, int) for v in shape)
    ):
        raise ExplgraphError(
            f"{str(file)!r}: kpt_shape must be [count, 2 or 3], found {shape!r:.80}"
        )
    names = None if by_number is None else {k: str(v) for k, v in by_number.items()}
    return names, shape[0] * shape[1] if shape else 0
