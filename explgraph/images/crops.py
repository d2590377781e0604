"""Which part of a photograph goes where in the network's image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explgraph.errors import ExplgraphError

__all__ = [
    "INTERPOLATIONS",
    "Crop",
    "check_source",
    "fitted",
    "fitted_array",
    "own_resolution",
    "placed",
    "to_original",
]

INTERPOLATIONS: Mapping[str, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}
"""Ways of finding colours between pixels, by name."""


@dataclass(frozen=True)
class Crop:
    """One image: which part of which photograph goes where.

    ``source`` (x0, y0, x1, y1) px of the photograph is drawn on ``target`` (left, top, width,
    height) px of the network's image.
    """

    name: str
    file: str
    source: tuple[float, float, float, float]
    target: tuple[int, int, int, int]


def placed(
    name: str,
    file: str,
    box: Sequence[float] | None,
    photo: tuple[int, int],
    size: tuple[int, int],
    fit: str,
    share: float = 1.0,
) -> Crop:
    """Work out which part of a photograph goes where; a crop keeps this share of it."""
    x0, y0, x1, y1 = (0.0, 0.0, *map(float, photo)) if box is None else box
    x0, y0, x1, y1 = max(0.0, x0), max(0.0, y0), min(photo[0], x1), min(photo[1], y1)
    if x1 <= x0 or y1 <= y0:
        raise ExplgraphError(
            f"boxes: {list(box or ())} of {file!r} holds nothing of the photograph, which is "
            f"{photo[0]} x {photo[1]} (x0 < x1 and y0 < y1 are expected)"
        )
    height, width = size
    target = (0, 0, width, height)
    wide, high = x1 - x0, y1 - y0
    if fit == "crop":
        scale = share * min(wide / width, high / height)
        cut_x, cut_y = (wide - scale * width) / 2, (high - scale * height) / 2
        # rounding must not lead beyond the photograph
        x0, y0, x1, y1 = (
            x0 + max(cut_x, 0),
            y0 + max(cut_y, 0),
            x1 - max(cut_x, 0),
            y1 - max(cut_y, 0),
        )
    elif fit == "pad":
        scale = max(wide / width, high / height)
        inner = max(1, min(width, round(wide / scale))), max(1, min(height, round(high / scale)))
        target = ((width - inner[0]) // 2, (height - inner[1]) // 2, *inner)
    return Crop(name, file, (x0, y0, x1, y1), target)


def check_source(file: str, source: Sequence[float], photo: tuple[int, int]) -> None:
    """Refuse what isn't in a photograph of this ``(width, height)``: it was another when cut up."""
    if source[2] > photo[0] or source[3] > photo[1]:
        raise ExplgraphError(
            f"{file!r} is {photo[0]} x {photo[1]} px, too small for the box {list(source)} that "
            "is to be cut out of it"
        )


def fitted(
    photo: Image.Image,
    crop: Crop,
    size: tuple[int, int],
    mean: Sequence[float],
    interpolation: str = "bilinear",
) -> Image.Image:
    """Cut out of a photograph what the network sees, between margins of the mean colour."""
    left, top, width, height = crop.target
    check_source(crop.file, crop.source, photo.size)
    picture = photo.resize(
        (width, height), INTERPOLATIONS[interpolation], box=crop.source, reducing_gap=None
    )
    if (height, width) == size:
        return picture
    margin = tuple(min(255, max(0, round(255 * m))) for m in mean)
    canvas = Image.new("RGB", (size[1], size[0]), margin)
    canvas.paste(picture, (left, top))
    return canvas


def fitted_array(
    samples: NDArray[Any],
    crop: Crop,
    size: tuple[int, int],
    mean: Sequence[float],
    interpolation: str = "bilinear",
) -> NDArray[Any]:
    """Cut out of samples (H, W, C) what the network sees, as `fitted` does with photographs."""
    left, top, width, height = crop.target
    check_source(crop.file, crop.source, (samples.shape[1], samples.shape[0]))
    cut = np.empty((*size, samples.shape[2]), samples.dtype)
    if (height, width) != size:
        whole = samples.dtype == np.uint8
        cut[:] = np.clip(np.rint(255 * np.array(mean)), 0, 255) if whole else mean
    for c in range(samples.shape[2]):
        band = Image.fromarray(samples[..., c]).resize(
            (width, height), INTERPOLATIONS[interpolation], box=crop.source
        )
        cut[top : top + height, left : left + width, c] = np.asarray(band)
    return cut


def own_resolution(crop: Crop, size: tuple[int, int], longest: int) -> tuple[Crop, tuple[int, int]]:
    """Give a crop, and the ``(H, W)`` of its image, in the photograph's own pixels and proportions.

    The longer side is `longest` px at most. What lies at a share of the width and of the height of
    the network's image lies at the same shares of this one.
    """
    x0, y0, x1, y1 = crop.source
    left, top, width, height = crop.target
    wide, high = (x1 - x0) / width, (y1 - y0) / height  # px of the photograph for one of the image
    share = min(1.0, longest / max(size[1] * wide, size[0] * high))
    along, down = wide * share, high * share
    target = (
        round(left * along),
        round(top * down),
        max(1, round(width * along)),
        max(1, round(height * down)),
    )
    own = (
        max(round(size[0] * down), target[1] + target[3]),
        max(round(size[1] * along), target[0] + target[2]),
    )
    return replace(crop, target=target), own


def to_original(crop: Crop, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give points (..., 2) px of an image as points of its photograph."""
    x0, y0, x1, y1 = crop.source
    left, top, width, height = crop.target
    scale = np.array([(x1 - x0) / width, (y1 - y0) / height])
    original: NDArray[np.float64] = np.array([x0, y0]) + (at - [left, top]) * scale
    return original
