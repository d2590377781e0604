"""Where a graph's images are: remembered as JSON values when it is mined, found again for pictures.

A record names a folder and, of the images that pictures need, the file within it, what is cut out
of it, and a digest of the file. It travels in the graph's own file, which may be a stranger's. So
nothing but files that the record names is looked at, only below the folder, never on another host,
and a file is decoded only if its length and its first 64 KiB are those that the digest is of:
whoever made the record had that image already, and learns nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from explgraph.errors import ExplgraphError
from explgraph.images.crops import check_source
from explgraph.images.folder import ImageFolder
from explgraph.paths import is_file

__all__ = ["found", "only", "whereabouts"]

_HEAD = 1 << 16  # bytes: enough to tell photographs apart, and read at once


def whereabouts(images: ImageFolder, names: Iterable[str] | None = None) -> dict[str, Any]:
    """Say where images are.

    Parameters
    ----------
    images : ImageFolder
    names : iterable of str, optional
        Of the images; those that the folder lacks are left out. All by default.

    Returns
    -------
    dict
        ``folder``, an absolute path, and ``photographs``: by the images' names ``file`` (within
        the folder), ``source`` and ``target`` (as `ImageFolder.cuts` gives them) and ``digest``.
    """
    wanted = set(images.names if names is None else names)
    digests: dict[str, str] = {}
    photographs = {}
    for name, (file, source, target) in images.cuts().items():
        if name not in wanted:
            continue
        if file not in digests:  # of several boxes
            try:
                digests[file] = _digest(images.path / file)
            except ExplgraphError:  # gone since it was mined, which is no reason to lose the graph
                continue
        photographs[name] = {
            "file": file, "source": [*map(float, source)], "target": [*target],
            "digest": digests[file],
        }  # fmt: skip
    return {"folder": os.path.abspath(images.path), "photographs": photographs}


def only(record: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Keep some of the images that a record has."""
    wanted = set(names)
    kept = {name: one for name, one in record["photographs"].items() if name in wanted}
    return {**record, "photographs": kept}


def found(record: Mapping[str, Any], ready: Mapping[str, Any]) -> ImageFolder:
    """Open the images of a record, if all of them are there, and the same as they were.

    Parameters
    ----------
    record : mapping
        Checked (`explgraph.graph.schema`).
    ready : mapping
        How they were made ready, as `ImageFolder.describe` gives it.

    Raises
    ------
    ExplgraphError
        If an image is missing, another one than it was, can't be decoded, or is so large that
        Pillow warns of it; says which, and where it was looked for.
    """
    folder = Path(record["folder"])
    shown = f"{str(folder)!r:.200}"  # whatever a stranger wrote
    cuts = {}
    checked: dict[str, bool] = {}
    for name, one in record["photographs"].items():
        file = one["file"]
        if file not in checked:
            checked[file] = is_file(folder / file)
            if not checked[file]:
                raise ExplgraphError(f"{shown} has no image {file!r:.80} any more")
            if _digest(folder / file) != one["digest"]:
                raise ExplgraphError(f"{file!r:.80} in {shown} is another image than it was")
        cuts[name] = (file, one["source"], one["target"])
    images = ImageFolder.from_cuts(folder, cuts, **ready)
    # a stranger's few bytes may unpack to gigabytes
    sizes, broken = images.sizes(checked, Image.MAX_IMAGE_PIXELS, False)
    for file, reason in broken.items():
        raise ExplgraphError(f"{file!r:.80} in {shown} can't be read as an image ({reason})")
    for file, source, _ in cuts.values():
        check_source(file, source, sizes[file])
    return images


def _digest(path: Path) -> str:
    """SHA-256 of a file's length and beginning, hexadecimal."""
    try:
        with path.open("rb") as opened:
            length = os.fstat(opened.fileno()).st_size
            return hashlib.sha256(f"{length}:".encode() + opened.read(_HEAD)).hexdigest()
    except OSError as err:
        raise ExplgraphError(f"{str(path)!r} can't be read: {err.strerror or err}") from err
