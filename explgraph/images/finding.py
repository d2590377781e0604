"""Image files, found: in a folder and its subfolders, by their suffixes, sorted naturally."""

from __future__ import annotations

import os
import re
from pathlib import Path

from explgraph.errors import ExplgraphError, warn

__all__ = ["image_files"]

_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
    | {".pgm", ".pbm", ".jp2", ".avif"}
)
# photographs that Pillow alone doesn't read
_UNREADABLE = frozenset(
    {".heic", ".heif", ".jxl", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"}
)


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Give a key that sorts "2" before "10"."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(p)) if i % 2 else (1, p.casefold()) for i, p in enumerate(parts)] + [(1, name)]


def image_files(path: Path) -> list[str]:
    """List the image files of a folder and its subfolders."""
    if not path.is_dir():
        what = "is a file" if path.exists() else "doesn't exist"
        raise ExplgraphError(f"{path} {what}; pass the folder that holds the images")
    try:
        os.scandir(path).close()
    except OSError as err:
        raise ExplgraphError(f"{path} can't be read: {err.strerror or err}") from err

    def refuse(err: OSError) -> None:
        raise ExplgraphError(
            f"the folder {err.filename} can't be read ({err.strerror or err}); its images would be "
            "missing: make it readable, or move it away"
        ) from err

    found: list[Path] = []
    others: list[Path] = []
    been: set[str] = set()  # links may lead back
    for folder, folders, files in os.walk(path, followlinks=True, onerror=refuse):
        here = os.path.realpath(folder)
        folders[:] = [] if here in been else [f for f in folders if not f.startswith(".")]
        if here in been:
            continue
        been.add(here)
        for file in files:
            suffix = Path(file).suffix.lower()
            if file.startswith(".") or suffix not in _SUFFIXES | _UNREADABLE:
                continue
            (found if suffix in _SUFFIXES else others).append(Path(folder) / file)
    for one in found:
        if one.exists() and not one.is_file():
            raise ExplgraphError(
                f"{one} is no file (a pipe, a device or a folder); move it away, or name the "
                "images that are meant"
            )
    if others:
        kinds = ", ".join(sorted({one.suffix.lower() for one in others}))
        warn(
            f"{path}: {len(others)} files of kinds that can't be read ({kinds}) are left out, the "
            f"first {others[0].relative_to(path).as_posix()!r}; save them as .jpg or .png"
        )
    if not found:
        raise ExplgraphError(
            f"{path} holds no image; files ending in {', '.join(sorted(_SUFFIXES))} are looked for"
        )
    return sorted((one.relative_to(path).as_posix() for one in found), key=_natural)
