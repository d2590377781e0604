"""Image files, opened if they aren't too large, and decoded: the right way up, as RGB of 8 bits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from explgraph.errors import ExplgraphError, warn
from explgraph.images.ahead import ahead
from explgraph.progress import Shown, bar

__all__ = [
    "check_pixels",
    "checked_files",
    "colours_of",
    "open_image",
    "photo_sizes",
    "reason",
    "told_size",
    "turned",
    "upright_rgb",
]

T = TypeVar("T")
_OPENING = threading.Lock()


def open_image(path: Path, largest: int | None) -> Image.Image:
    """Open an image file, if it isn't too large.

    Parameters
    ----------
    path : Path
    largest : int or None
        Pixels that it may have; as many as Pillow allows by default.

    Raises
    ------
    ExplgraphError
        If it has more.
    Exception
        Whatever Pillow raises for files that are broken.
    """
    if largest is None:
        try:
            return Image.open(path)
        except Image.DecompressionBombError as err:
            most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
            raise ExplgraphError(
                f"it holds more than {most:,} pixels; if it may be so large, say so: largest= "
                "(--largest)"
            ) from err
    # Pillow has but one limit, for all; while a header is read it is the caller's
    with _OPENING:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            opened = Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    try:
        check_pixels(opened.width * opened.height, largest)
    except ExplgraphError:
        opened.close()
        raise
    return opened


def check_pixels(pixels: float, largest: int | None) -> None:
    """Refuse more pixels than are allowed: as many as Pillow allows, or `largest`."""
    most = largest
    if most is None:
        most = 2 * Image.MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS else None
    if most is not None and pixels > most:
        raise ExplgraphError(
            f"it holds {pixels:,.0f} pixels, or as many samples, and {most:,} are allowed; if it "
            "may be so large, say so: largest= (--largest)"
        )


def told_size(path: Path, largest: int | None) -> tuple[int, int]:
    """Give the ``(width, height)`` that a photograph's header tells, the right way up.

    Raises
    ------
    Exception
        As `open_image`.
    """
    with open_image(path, largest) as photo:
        width, height = photo.size
        return (height, width) if _lies_on_its_side(photo) else (width, height)


def _lies_on_its_side(photo: Image.Image) -> bool:
    """Say whether a photograph is to be turned by a quarter."""
    return photo.getexif().get(0x0112, 1) in (5, 6, 7, 8)


def photo_sizes(
    folder: Path, files: Iterable[str], largest: int | None, progress: Shown
) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Decode all photographs once: sizes ``(width, height)``, and why others are unreadable."""

    def check(file: str) -> tuple[int, int]:
        try:
            opened = open_image(folder / file, largest)
        except UnidentifiedImageError as err:
            if not file.lower().endswith((".tif", ".tiff")):
                raise
            raise ExplgraphError(
                "not an image, or of bands that Pillow doesn't read: channels= says which to take"
            ) from err
        with opened as photo:
            width, height = photo.size
            if photo.format == "JPEG":
                aside = _lies_on_its_side(photo)
                photo.draft("RGB", (1, 1))  # the file is read whole all the same, but faster
                photo.load()
                return (height, width) if aside else (width, height)
            most = _most_told(photo)
            upright = ImageOps.exif_transpose(photo)
            if upright.mode.startswith("I;16") and not most:
                peaks.append(int(np.asarray(upright).max()))
            _eight_bits(upright, most)
        return upright.size

    peaks: list[int] = []  # of photographs of 16 bits
    sizes, broken = checked_files(files, check, progress)
    if peaks and max(peaks) < 4096:
        warn(
            f"{folder}: the {len(peaks)} photographs of 16 bits reach {max(peaks)} at most, so "
            "they are nearly black; if they are of 10 or 12 bits, scale them up first"
        )
    return sizes, broken


def checked_files(
    files: Iterable[str], check: Callable[[str], T], progress: Shown
) -> tuple[dict[str, T], dict[str, str]]:
    """Check all files; give what `check` gave, and why it failed for others."""

    def tried(file: str) -> tuple[T | None, str]:
        try:
            return check(file), ""
        except Exception as err:  # Pillow's readers raise almost anything for broken files
            return None, reason(err)

    found, broken = {}, {}
    files = list(files)
    checked = bar(
        zip(files, ahead(tried, files, 64), strict=True),
        shown=progress,
        desc="checking",
        total=len(files),
        unit="file",
    )
    for file, (one, why) in checked:
        if one is None:
            broken[file] = why
        else:
            found[file] = one
    return found, broken


def reason(err: Exception) -> str:
    """Say in a few words why a file can't be read."""
    if isinstance(err, UnidentifiedImageError):
        return "not an image"
    if isinstance(err, OSError) and err.strerror:
        return err.strerror
    return str(err) or type(err).__name__


def _most_told(photo: Image.Image) -> int:
    """Give the largest sample that a TIFF of 16 bits says there is (tag 281); 0 if it doesn't."""
    told = getattr(photo, "tag_v2", {}).get(281, 0)
    most = told[0] if isinstance(told, tuple) else told
    return most if isinstance(most, int) and 255 < most <= 65535 else 0


def _eight_bits(photo: Image.Image, told: int) -> Image.Image:
    """Turn samples that Pillow would clip into 8 bits.

    16 bits are scaled by 65535, or by the most that a TIFF has `told` of; floats from 0 to 1 by
    that, up to 255 not at all.

    Raises
    ------
    ExplgraphError
        If samples lie in another range.
    """
    if photo.mode != "F" and not photo.mode.startswith("I"):
        return photo
    samples = np.asarray(photo)
    low, high = (float(samples.min()), float(samples.max())) if samples.size else (0.0, 0.0)
    if photo.mode == "F":
        most, kind = (1.0 if high <= 1 else 255.0), "floats from 0 to 1 or to 255"
    else:
        most, kind = float(told or 65535), f"whole numbers up to {told or 65535}"
    if not 0 <= low <= high <= most:  # NaN, too
        raise ExplgraphError(
            f"its samples lie from {low:g} to {high:g}; expected {kind}: save it with 8 or 16 bits"
        )
    # whole numbers must not fall to the one below by rounding
    return Image.fromarray(np.floor(samples * 255.0 / most + 1e-4).astype(np.uint8))


def colours_of(photo: Image.Image) -> Image.Image:
    """Give a photograph in memory as RGB, as it lies; more than 8 bits are scaled, not clipped."""
    return _eight_bits(photo, 0).convert("RGB")


def upright_rgb(path: Path, largest: int | None) -> Image.Image:
    """Read a photograph as RGB, the right way up."""
    with open_image(path, largest) as opened:
        return turned(opened)


def turned(opened: Image.Image) -> Image.Image:
    """Give a photograph as RGB, the right way up, white where it is transparent."""
    most = _most_told(opened)
    photo = ImageOps.exif_transpose(opened)
    photo = _eight_bits(photo, most)
    if photo.has_transparency_data:
        photo = photo.convert("RGBA")
        photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo)
    return photo.convert("RGB")
