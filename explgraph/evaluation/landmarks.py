"""Where people marked the parts: reading landmark files.

Three layouts are read (`read_landmarks`), all of them in pixels of the image *file*:

``parts.json``
    ``{"parts": ["head"], "images": {"1.jpg": {"head": [42.0, 52.5]}}, "source": {"1.jpg": "a"}}``,
    null for unmarked parts; ``source`` (which photograph a crop was cut from) may be missing.
    Pixel centres count as integers there, so 0.5 is added.
CSV
    Columns ``name``, ``part``, ``x``, ``y`` in any order, one row per marked part; an empty x or y
    means unmarked, and so does 0 (or false) in a column ``visible`` and less than 0.6 (what
    DeepLabCut takes) in a column ``likelihood``. Pixel centres at integer + 0.5, as everywhere in
    explgraph.
CUB-200-2011
    ``part_locs.txt`` (``<image id> <part id> <x> <y> <visible>``) with ``parts.txt`` beside it and
    ``images.txt`` beside it or one folder up. Parts that aren't visible are unmarked. Pixel centres
    are taken to count as integers from 0, so 0.5 is added.

`Landmarks.to_network` maps them to the pixels that the network saw.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError, nearest, warn
from explgraph.images.folder import ImageFolder
from explgraph.paths import checked_path
from explgraph.textfiles import read_csv, read_text

__all__ = ["Landmarks", "from_creatures", "read_landmarks", "warn_of_strays"]

Array = NDArray[np.float64]

_SEEN = frozenset({"", "1", "1.0", "2", "2.0", "true", "yes"})  # 2: visible, as COCO counts
_UNSEEN = frozenset({"0", "0.0", "false", "no"})
_LIKELY = 0.6


class _Placed(Protocol):
    """What is needed of an `ImageFolder`: names, and where its pixels lie in the image files."""

    @property
    def names(self) -> Sequence[str]: ...

    def to_original(self, index: int, points: ArrayLike) -> Array: ...


class _Drawn(Protocol):
    """What is needed of `explgraph.creatures.Creatures`."""

    @property
    def parts(self) -> Mapping[str, NDArray[np.float32]]: ...

    @property
    def visible(self) -> Mapping[str, NDArray[np.bool_]]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Marked parts of a set of images.

    Attributes
    ----------
    names : tuple of str
        Images' names, N of them.
    parts : dict of str to (N, 2) float64
        Each part's place [x, y], px, NaN where it isn't marked.
    sources : tuple of str, or None
        The photograph that each image was cut from, where that is known. Crops of one photograph
        belong on the same side of a split.
    """

    names: tuple[str, ...]
    parts: dict[str, Array]
    sources: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        shown = f"{counted(len(self.parts), 'part')} ({few(self.parts)})"
        return f"Landmarks: {shown} in {counted(len(self.names), 'image')}"

    def align(self, names: Sequence[str]) -> Landmarks:
        """Put the images into another order, leaving out some.

        Parameters
        ----------
        names : sequence of str
            The images to come, for instance ``parse.names``. Those without any landmark are
            unmarked in every part.

        Returns
        -------
        Landmarks
            With exactly these `names`; ``sources`` of images without landmarks are their names.

        Raises
        ------
        ExplgraphError
            If none of the names has landmarks.

        Warns
        -----
        ExplgraphWarning
            If some of the names have no landmarks, and some landmarks are of no name: they may be
            meant for each other.
        """
        if not set(names) <= set(self.names):
            warn_of_strays("landmarks", self.names, names, names)
        return self._aligned(names)

    def _aligned(self, names: Sequence[str]) -> Landmarks:
        """Put the images into another order, leaving out some."""
        row = {name: i for i, name in enumerate(self.names)}
        index = np.array([row.get(name, -1) for name in names], dtype=np.int64)
        if not (index >= 0).any():
            raise ExplgraphError(
                f"none of the {len(names)} images has landmarks: they are named like "
                f"{_first(names)}, the landmarks' images like {_first(self.names)}; names are "
                "paths relative to the folder of the images"
            )
        found = index >= 0
        parts = {k: np.where(found[:, None], p[index], np.nan) for k, p in self.parts.items()}
        sources = None
        if self.sources is not None:
            sources = tuple(
                self.sources[i] if i >= 0 else name for i, name in zip(index, names, strict=True)
            )
        return Landmarks(tuple(names), parts, sources)

    def one_per_source(self) -> list[int]:
        """Give the first image of every photograph as indices; all if ``sources`` is None."""
        first: dict[str, int] = {}
        for i, source in enumerate(self.sources or self.names):
            first.setdefault(source, i)
        return list(first.values())

    def to_network(self, images: _Placed) -> Landmarks:
        """Align to the images of a folder, in pixels as the network sees them.

        Parameters
        ----------
        images : ImageFolder
            Which stretched, cut or padded the image files that the landmarks were marked in.

        Returns
        -------
        Landmarks
            In the folder's order. A part outside the cut keeps a place outside the image.

        Warns
        -----
        ExplgraphWarning
            If there are landmarks of images that the folder doesn't have.
        """
        if isinstance(images, ImageFolder):
            warn_of_strays("landmarks", self.names, images.names, images.all_names)
            aligned = self._aligned(images.names)
        else:
            aligned = self.align(images.names)
        mapped = {name: part.copy() for name, part in aligned.parts.items()}
        for i in range(len(aligned.names)):
            # x and y are each mapped linearly, so the images of two points tell the whole map
            origin, one = np.asarray(images.to_original(i, np.array([[0.0, 0.0], [1.0, 1.0]])))
            for part in mapped.values():
                part[i] = (part[i] - origin) / (one - origin)
        return Landmarks(aligned.names, mapped, aligned.sources)


def warn_of_strays(
    what: str, marked: Collection[str], images: Sequence[str], known: Collection[str]
) -> None:
    """Warn of what is marked in images that are not there.

    Parameters
    ----------
    what : str
        "landmarks", say.
    marked : collection of str
        Names of the images that are marked.
    images : sequence of str
        Names of those that are asked for.
    known : collection of str
        Names that are no mistake, such as those of images that weren't chosen.
    """
    strays = [name for name in marked if name not in known]
    # where no name is right there is an error to come, which says more
    if strays and not set(images).isdisjoint(marked):
        listed = ", ".join(map(repr, strays[:3])) + (", ..." if len(strays) > 3 else "")
        warn(
            f"{what} of {len(strays)} of {len(marked)} images are left out, since no image has "
            f"their name: {listed}{nearest(strays[0], images)}"
        )


def read_landmarks(path: str | os.PathLike[str]) -> Landmarks:
    """Read a landmark file; the layout follows from its name.

    Parameters
    ----------
    path : path
        ``*.json`` (the layout of parts.json), ``*.csv``, or ``part_locs.txt`` of CUB-200-2011.

    Returns
    -------
    Landmarks
        In pixels of the image files, pixel centres at integer + 0.5.

    Raises
    ------
    ExplgraphError
        If the file can't be read or isn't what its name says; names the file and the entry.
    """
    file = checked_path(path)
    readers = {".json": _read_json, ".csv": _read_csv, ".txt": _read_cub}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise ExplgraphError(
            f"can't tell the layout of the landmark file {str(file)!r}: expected *.json (as "
            "parts.json), *.csv (name,part,x,y) or CUB-200-2011's part_locs.txt"
        )
    landmarks = reader(file)
    if not landmarks.names or not landmarks.parts:
        raise ExplgraphError(f"{str(file)!r} holds no landmarks")
    return landmarks


def from_creatures(creatures: _Drawn, names: Sequence[str] | None = None) -> Landmarks:
    """Landmarks of drawn creatures: the places of all parts that can be seen.

    Parameters
    ----------
    creatures : Creatures
        As drawn by `explgraph.creatures.draw`.
    names : sequence of str, optional
        The images' names; without it those that `batches` gives to the pictures' tensor, numbers
        from 0 with zeros in front.

    Returns
    -------
    Landmarks
        NaN where a part is absent, hidden or out of the frame.
    """
    parts = {
        name: np.where(creatures.visible[name][:, None], place, np.nan).astype(np.float64)
        for name, place in creatures.parts.items()
    }
    digits = len(str(len(creatures) - 1))
    numbers = (f"{i:0{digits}d}" for i in range(len(creatures)))
    return Landmarks(tuple(names or numbers), parts)


# ----------------------------------------------------------------------------------------- layouts


def _read_json(file: Path) -> Landmarks:
    """Read the layout of parts.json."""
    try:
        content = json.loads(read_text(file))
    except ExplgraphError:
        raise
    except (ValueError, RecursionError) as err:
        raise ExplgraphError(f"{str(file)!r} isn't JSON: {err}") from err
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, dict) or not all(isinstance(v, dict) for v in images.values()):
        raise ExplgraphError(
            f'{str(file)!r} must hold {{"images": {{NAME: {{PART: [x, y] or null}}}}}}, found '
            f"{', '.join(map(repr, content)) if isinstance(content, dict) else 'no object'}"
        )
    places: dict[tuple[str, str], tuple[float, float]] = {}
    for name, marked in images.items():
        for part, place in marked.items():
            if place is None:
                continue
            if not isinstance(place, list) or len(place) != 2:
                raise ExplgraphError(
                    f"{str(file)!r}: {part!r} of {name!r} must be [x, y] or null, found {place!r}"
                )
            places[name, part] = _point(file, f"{part!r} of {name!r}", place[0], place[1], 0.5)
    parts = content.get("parts") or list(dict.fromkeys(p for m in images.values() for p in m))
    sources = content.get("source")
    if isinstance(sources, dict):
        sources = tuple(str(sources.get(name, name)) for name in images)
    else:
        sources = None
    return _assemble(list(images), parts, places, sources)


def _read_csv(file: Path) -> Landmarks:
    """Read a table with the columns name, part, x, y."""
    names: dict[str, None] = {}
    parts: dict[str, None] = {}
    places: dict[tuple[str, str], tuple[float, float]] = {}
    for line, row in read_csv(file, ("name", "part", "x", "y"))[1]:
        entry = f"line {line}"
        name, part = row["name"], row["part"]
        if not name.strip() or not part.strip():
            raise ExplgraphError(f"{str(file)!r}, {entry}: name and part must not be empty")
        if bool(row["x"].strip()) != bool(row["y"].strip()):
            raise ExplgraphError(
                f"{str(file)!r}, {entry}: x and y must both be there, or neither (unmarked)"
            )
        names[name] = parts[part] = None
        if not row["x"].strip() or not row["y"].strip() or not _is_seen(file, entry, row):
            continue
        if (name, part) in places:
            raise ExplgraphError(
                f"{str(file)!r}, {entry}: {part!r} of {name!r} is marked twice; keep one row"
            )
        places[name, part] = _point(file, entry, row["x"], row["y"])
    return _assemble(list(names), list(parts), places, None)


def _is_seen(file: Path, entry: str, row: Mapping[str, str]) -> bool:
    """Whether a row's columns ``visible`` and ``likelihood``, if there, say that the part shows."""
    said = row.get("visible", "").strip().lower()
    if said not in _SEEN | _UNSEEN:
        raise ExplgraphError(
            f"{str(file)!r}, {entry}: visible must be 0, 1, 2, true or false, found "
            f"{row['visible']!r}"
        )
    likely = row.get("likelihood", "").strip() or "1"
    try:
        likelihood = float(likely)
    except ValueError:
        likelihood = np.nan
    if not 0 <= likelihood <= 1:
        raise ExplgraphError(
            f"{str(file)!r}, {entry}: likelihood must be a number from 0 to 1, found {likely!r}"
        )
    return said in _SEEN and likelihood >= _LIKELY


def _read_cub(file: Path) -> Landmarks:
    """Read part_locs.txt with its parts.txt and images.txt."""
    part_names = _numbered(file, (file.parent / "parts.txt",))
    image_names = _numbered(file, (file.parent / "images.txt", file.parent.parent / "images.txt"))
    places: dict[tuple[str, str], tuple[float, float]] = {}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        entry = f"line {number}"
        if len(fields) != 5 or fields[4] not in ("0", "1"):
            raise ExplgraphError(
                f"{str(file)!r}, {entry}: expected '<image id> <part id> <x> <y> <visible 0 or "
                f"1>', found {line!r}"
            )
        image, part, x, y, visible = fields
        if image not in image_names or part not in part_names:
            missing, where = (
                (image, "images.txt") if image not in image_names else (part, "parts.txt")
            )
            raise ExplgraphError(f"{str(file)!r}, {entry}: id {missing} isn't in {where}")
        if visible == "1":
            key = image_names[image], part_names[part]
            places[key] = _point(file, entry, x, y, 0.5)
    return _assemble(list(image_names.values()), list(part_names.values()), places, None)


def _numbered(file: Path, candidates: Sequence[Path]) -> dict[str, str]:
    """Read ``<id> <name>`` lines (names may hold spaces) of the first candidate that exists."""
    found = next((c for c in candidates if c.is_file()), None)
    if found is None:
        raise ExplgraphError(
            f"{str(file)!r} needs {candidates[0].name} of CUB-200-2011, looked for "
            f"{' and '.join(repr(str(c)) for c in candidates)}"
        )
    entries = [line.strip().split(maxsplit=1) for line in read_text(found).splitlines()]
    if bad := next((e for e in entries if len(e) == 1), None):
        raise ExplgraphError(f"{str(found)!r}: expected '<id> <name>' lines, found {bad[0]!r}")
    return {entry[0]: entry[1] for entry in entries if entry}


def _point(file: Path, entry: str, x: Any, y: Any, shift: float = 0.0) -> tuple[float, float]:
    """Turn x and y into finite numbers."""
    try:
        point = float(x) + shift, float(y) + shift
    except (TypeError, ValueError):
        point = np.nan, np.nan
    if not np.isfinite(point).all():
        raise ExplgraphError(f"{str(file)!r}, {entry}: x and y must be numbers, found {x!r}, {y!r}")
    return point


def _assemble(
    names: Sequence[str],
    parts: Sequence[str],
    places: Mapping[tuple[str, str], tuple[float, float]],
    sources: tuple[str, ...] | None,
) -> Landmarks:
    """Build landmarks from the marked points; what isn't among them is NaN."""
    unmarked = (np.nan, np.nan)
    return Landmarks(
        tuple(names),
        {
            part: np.array([places.get((name, part), unmarked) for name in names]).reshape(-1, 2)
            for part in parts
        },
        sources,
    )


def _first(names: Sequence[str]) -> str:
    """Quote the first name, if there is one."""
    return repr(names[0]) if names else "(no names)"
