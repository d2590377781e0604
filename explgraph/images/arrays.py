"""Image files as arrays of any number of channels: arrays of numpy, TIFFs, and what Pillow reads.

Whole numbers of 8 and 16 bits are divided by the largest of their type; those of 8 bits stay as
they are until then, so that they are resized as Pillow resizes photographs. Floats are taken as
they are. What else there is (wider whole numbers, NaN) is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from explgraph.errors import ExplgraphError
from explgraph.images.channels import Channels, channel_count
from explgraph.images.decoding import checked_files, open_image, turned
from explgraph.images.numpy_files import ARRAYS, arranged, numpy_file
from explgraph.images.tiffs import is_all, tiff_file
from explgraph.progress import Shown

__all__ = ["Samples", "array_of", "array_sizes", "read_array", "shares"]

Samples: TypeAlias = "NDArray[np.uint8] | NDArray[np.float32]"

_TIFFS = frozenset({".tif", ".tiff"})
# how Pillow calls bands that it would give as something else than 8 bits each
_PLAIN = {"1": "L", "La": "LA", "RGBa": "RGBA", "YCbCr": "RGB", "HSV": "RGB"}
_ASKED = 4096  # pixels of an image, at most, that the window is measured at
_FILES = 256  # images, at most: the values of more are hardly others
_DARK, _BRIGHT = 1, 99  # percentiles that are black and white


class Told(NamedTuple):
    """What is told of a folder's files.

    Attributes
    ----------
    sizes : dict
        ``(width, height)`` px of those that can be read.
    broken : dict
        Why others can't.
    whole, floats : str
        A file of whole numbers, and one of floats; "" if there is none.
    window : tuple of (float, float)
        Two values of each channel that nearly all others lie between; 0 and 1 if all samples are of
        8 bits.
    """

    sizes: dict[str, tuple[int, int]]
    broken: dict[str, str]
    whole: str
    floats: str
    window: tuple[tuple[float, float], ...]


class _Checked(NamedTuple):
    """What is told of a file: size, whether its numbers are whole, and (n, C) of its pixels."""

    size: tuple[int, int]
    whole: bool
    some: Samples


def array_sizes(
    folder: Path,
    files: Iterable[str],
    channels: Channels,
    axes: str | None,
    largest: int | None,
    progress: Shown,
) -> Told:
    """Read all files once."""
    files = list(files)
    asked = set(files[:_FILES])

    def check(file: str) -> _Checked:
        samples, whole = _read(folder / file, channels, axes, largest)
        height, width, count = samples.shape
        pixels = samples.reshape(-1, count)
        step = math.ceil(len(pixels) / _ASKED)
        # a copy, lest all images stay in memory
        some = pixels[::step].copy() if file in asked else pixels[:0].copy()
        return _Checked((width, height), whole, some)

    found, broken = checked_files(files, check, progress)
    some = [one.some for one in found.values()]
    window = ((0.0, 1.0),) * channel_count(channels)
    if not all(one.dtype == np.uint8 for one in some) and any(map(len, some)):
        values = np.concatenate([shares(one) for one in some])
        low, high = np.percentile(values, [_DARK, _BRIGHT], axis=0)
        # what is the same everywhere has to be drawn, too
        window = tuple(
            (float(a), float(b) if b > a else float(a) + 1) for a, b in zip(low, high, strict=True)
        )
    whole = next((file for file, one in found.items() if one.whole), "")
    floats = next((file for file, one in found.items() if not one.whole), "")
    return Told({file: one.size for file, one in found.items()}, broken, whole, floats, window)


def read_array(path: Path, channels: Channels, axes: str | None, largest: int | None) -> Samples:
    """Read a file as (H, W, C), the right way up: uint8, or float32.

    Raises
    ------
    ExplgraphError
        If it has other channels, or samples that aren't taken.
    Exception
        Whatever readers raise for files that are broken.
    """
    return _read(path, channels, axes, largest)[0]


def array_of(photo: Image.Image, channels: Channels) -> Samples:
    """Give what Pillow has opened as (H, W, C), the right way up: uint8, or float32."""
    return _of_photo(photo, channels)[0]


def shares(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Give samples as they are normalised: those of 8 bits from 0 to 1, others as they are."""
    values: NDArray[np.float32] = samples.astype(np.float32)
    return values / np.float32(255) if samples.dtype == np.uint8 else values


def _read(
    path: Path, channels: Channels, axes: str | None, largest: int | None
) -> tuple[Samples, bool]:
    """Read a file; say whether its numbers are whole."""
    suffix = path.suffix.lower()
    if suffix in ARRAYS:
        return _taken(arranged(numpy_file(path, largest), channels, axes), channels)
    try:
        with open_image(path, largest) as photo:
            if photo.format != "TIFF" or is_all(photo):
                return _of_photo(photo, channels)
    except UnidentifiedImageError:
        if suffix not in _TIFFS:
            raise
    return _taken(tiff_file(path, largest), channels)


# ------------------------------------------------------------------------------- what Pillow reads


def _of_photo(photo: Image.Image, channels: Channels) -> tuple[Samples, bool]:
    """Give a photograph's bands; grey or colours where one channel or three are asked for."""
    upright = ImageOps.exif_transpose(photo)
    if upright.mode in ("P", "PA"):
        upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    if upright.mode in _PLAIN:
        upright = upright.convert(_PLAIN[upright.mode])
    deep = upright.mode == "F" or upright.mode.startswith("I")
    if not deep and channels in (1, 3):
        upright = turned(upright)
        if channels == 1:
            upright = upright.convert("L")
    samples = np.asarray(upright)
    if upright.mode == "I":
        samples = _sixteen_bits(samples)
    if samples.ndim == 2:
        samples = samples[..., None]
    if deep and channels == 3:
        samples = samples.repeat(3, axis=2)
    return _taken(samples, channels)


def _sixteen_bits(samples: NDArray[Any]) -> NDArray[np.uint16]:
    """Take 16 bits out of 32, as which some versions of Pillow give them."""
    if samples.size and (samples.min() < 0 or samples.max() > 65535):
        raise ExplgraphError(_wrong_samples(samples))
    return samples.astype(np.uint16)


# ------------------------------------------------------------------------------- samples


def _taken(samples: NDArray[Any], channels: Channels) -> tuple[Samples, bool]:
    """Choose the channels of (H, W, B) and scale them; say whether they are whole numbers."""
    bands = samples.shape[2]
    told = f"it has {bands} channel{'s' * (bands != 1)}"
    if isinstance(channels, tuple):
        if max(channels) >= bands:
            raise ExplgraphError(f"{told}, so no {max(channels)} (counted from 0)")
        samples = samples[..., list(channels)]
    elif bands != channel_count(channels):
        raise ExplgraphError(
            f"{told}, expected {channel_count(channels)}; a list, such as "
            f"channels={list(range(min(bands, channel_count(channels))))}, chooses among them"
        )
    return _scaled(samples), samples.dtype.kind != "f"


def _scaled(samples: NDArray[Any]) -> Samples:
    """Bring samples into the types that images are resized in."""
    kind, size = samples.dtype.kind, samples.dtype.itemsize
    if kind == "b":
        return samples.astype(np.uint8) * np.uint8(255)
    if kind == "u" and size == 1:
        return np.ascontiguousarray(samples)
    if kind in "iu" and size <= 2:
        most = np.iinfo(samples.dtype).max
        return np.ascontiguousarray(samples.astype(np.float32) / np.float32(most))
    if kind == "f":
        with np.errstate(over="ignore"):
            floats = np.ascontiguousarray(samples, dtype=np.float32)
        if np.isfinite(floats).all():
            return floats
    raise ExplgraphError(_wrong_samples(samples))


def _wrong_samples(samples: NDArray[Any]) -> str:
    """Say which samples there are, and which are taken."""
    if samples.dtype.kind == "f":
        bad = int((~np.isfinite(samples)).sum())
        held = f"{bad:,} of its samples are NaN or infinite" if bad else "its samples are too large"
        return f"{held}; put numbers in their place: np.nan_to_num(array)"
    return (
        f"its samples are {samples.dtype} from {samples.min()} to {samples.max()}; expected whole "
        "numbers of 8 or 16 bits, or floats, which are taken as they are: array.astype('float32')"
    )
