"""Image files, found: in a folder and its subfolders, by their suffixes, sorted naturally."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

from PIL import Image, features

from explgraph.errors import ExplgraphError, warn
from explgraph.images.numpy_files import ARRAYS

__all__ = ["image_files"]

_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
    | {".pgm", ".pbm", ".jp2"}
)
_HEIF = frozenset({".heic", ".heif", ".hif"})
# photographs that Pillow reads with a plugin, or from some version on
_PERHAPS = _HEIF | {".avif", ".jxl"}
_NEVER = frozenset({".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".dcm", ".nii"})
_VIDEOS = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv"}
)
_HOW = {
    **dict.fromkeys(_HEIF, "pip install 'explgraph[heif]', or save them as .jpg"),
    ".avif": "pip install -U pillow (11.3 or later), or save them as .jpg",
    ".jxl": "pip install pillow-jxl-plugin and import pillow_jxl first, or save them as .png",
    ".dcm": "save their pixels as arrays: np.save(file, pydicom.dcmread(path).pixel_array)",
    ".nii": "save their slices as arrays of numpy, .npy",
    **dict.fromkeys(_VIDEOS, "frames of videos aren't read; save some: ffmpeg -i FILE %05d.png"),
}


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Give a key that sorts "2" before "10"."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(p)) if i % 2 else (1, p.casefold()) for i, p in enumerate(parts)] + [(1, name)]


def image_files(path: Path, *, arrays: bool = False) -> list[str]:
    """List the image files of a folder and its subfolders.

    Parameters
    ----------
    path : Path
    arrays : bool
        Arrays of numpy are images, too.

    Raises
    ------
    ExplgraphError
        If this is no folder, can't be read, or holds no image.

    Warns
    -----
    ExplgraphWarning
        If there are images that can't be read, or videos.
    """
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

    read = _SUFFIXES | _also_read() | (ARRAYS if arrays else frozenset())
    known = _SUFFIXES | _PERHAPS | _NEVER | _VIDEOS | ARRAYS
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
            if file.startswith(".") or suffix not in known:
                continue
            (found if suffix in read else others).append(Path(folder) / file)
    for one in found:
        if one.exists() and not one.is_file():
            raise ExplgraphError(
                f"{one} is no file (a pipe, a device or a folder); move it away, or name the "
                "images that are meant"
            )
    # arrays beside photographs may be anything
    told = [one for one in others if one.suffix.lower() not in ARRAYS or not found]
    left_out = [
        _left_out(path, told, how) for how in sorted({_how(one.suffix.lower()) for one in told})
    ]
    if not found:
        raise ExplgraphError(
            f"{path} holds no image; files ending in {', '.join(sorted(read))} are looked for"
            + "".join(f"; {one}" for one in left_out)
        )
    for message in left_out:
        warn(f"{path}: {message}")
    return sorted((one.relative_to(path).as_posix() for one in found), key=_natural)


def _also_read() -> frozenset[str]:
    """Give the suffixes that Pillow reads because of its version or a plugin."""
    heif = not _HEIF & Image.registered_extensions().keys()
    if heif and importlib.util.find_spec("pillow_heif") is not None:
        importlib.import_module("pillow_heif").register_heif_opener()
    there = _PERHAPS & Image.registered_extensions().keys()
    # Pillow knows the suffix even where it was built without the library
    without = "avif" in features.modules and not features.check("avif")
    return there - {".avif"} if without else there


def _how(suffix: str) -> str:
    """Say what to do about files of a suffix."""
    if suffix in ARRAYS:
        return "arrays are read if you say which channels they have: channels=3 (--channels)"
    return _HOW.get(suffix, "save them as .jpg or .png")


def _left_out(path: Path, files: list[Path], how: str) -> str:
    """Name files that are left out, and what to do about them."""
    here = [one for one in files if _how(one.suffix.lower()) == how]
    kinds = ", ".join(sorted({one.suffix.lower() for one in here}))
    first = min((one.relative_to(path).as_posix() for one in here), key=_natural)
    return (
        f"{len(here)} files of kinds that can't be read ({kinds}) are left out, the first "
        f"{first!r}; {how}"
    )
