"""TIFFs of several bands, pages, or more bits than Pillow gives."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explgraph.errors import ExplgraphError
from explgraph.images.decoding import check_pixels

__all__ = ["is_all", "tiff_file"]


def is_all(photo: Image.Image) -> bool:
    """Whether Pillow gives all that is in a TIFF: all pages, bands and bits."""

    def tag(number: int, default: int) -> set[int]:
        value: Any = photo.tag_v2.get(number, default)  # type: ignore[attr-defined]
        return set(value) if isinstance(value, tuple) else {value}

    if getattr(photo, "n_frames", 1) > 1:
        return False
    bits, kinds, (bands,) = tag(258, 1), tag(339, 1), tag(277, 1)
    if photo.mode == "F" or photo.mode.startswith("I"):
        signed = 2 in kinds
        return bands == 1 and not signed
    return bands == len(photo.getbands()) and max(bits) <= 8


def tiff_file(path: Path, largest: int | None) -> NDArray[Any]:
    """Read the bands of a TIFF's first page, or a band of each page that is like it: (H, W, B)."""
    try:
        import tifffile
    except ImportError as err:
        raise ExplgraphError(
            "Pillow doesn't read all of this TIFF (its bands, bits or pages), and tifffile, which "
            "does, isn't installed: pip install 'explgraph[tiff]'"
        ) from err
    # a file of microscopes' may name others that hold its images: those aren't looked at
    with tifffile.TiffFile(path, is_ome=False) as opened:
        first: Any = opened.pages[0]
        pages = [first]
        if first.axes == "YX":
            # smaller copies of the image may follow
            pages += [page for page in opened.pages[1:] if _alike(page, first)]
        elif first.axes not in ("YXS", "SYX"):
            raise ExplgraphError(f"its axes are {first.axes}; expected rows, columns and bands")
        check_pixels(math.prod(first.shape) * len(pages) / 3, largest)
        try:
            read = [page.asarray() for page in pages]
        except ValueError as err:
            if "imagecodecs" not in str(err):
                raise
            raise ExplgraphError(f"{err}: pip install 'explgraph[tiff]'") from err
        told = first.tags.get(274)
    samples = np.stack(read, -1) if first.axes == "YX" else read[0]
    if first.axes == "SYX":
        samples = np.moveaxis(samples, 0, -1)
    return _upright(samples, 1 if told is None else told.value)


def _alike(page: Any, first: Any) -> bool:
    """Whether a page is as large as the first, and no smaller copy of the image or its mask."""
    return (page.shape, page.dtype, page.subfiletype & 5) == (first.shape, first.dtype, 0)


def _upright(samples: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn (H, W, B) the right way up, as the tag 274 of TIFF and EXIF says."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    down = -1 if orientation in (3, 4, 7, 8) else 1
    across = -1 if orientation in (2, 3, 6, 7) else 1
    return samples[::down, ::across]
