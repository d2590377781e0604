"""How images are made ready for a network: read, cut, normalised; and how they are drawn."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from explgraph.errors import ExplgraphError
from explgraph.images.arrays import Samples, array_of, read_array, shares
from explgraph.images.channels import (
    Channels,
    as_colours,
    channel_count,
    checked_axes,
    checked_channels,
    checked_shown,
    checked_window,
    shown_of,
)
from explgraph.images.crops import INTERPOLATIONS, Crop, fitted, fitted_array, placed, to_original
from explgraph.images.decoding import reason, turned, upright_rgb
from explgraph.paths import check_regular

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "READY",
    "Ready",
    "checked_size",
    "choice",
    "made_ready",
]

READY = (
    "size", "mean", "std", "fit", "crop", "interpolation", "channels", "axes", "shown", "window",
)  # fmt: skip
"""Arguments of `explgraph.ImageFolder` that say how images are made ready and drawn."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Ready:
    """What `explgraph.ImageFolder` says of its arguments of these names, checked."""

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: str
    crop: float = 1.0
    interpolation: str = "bilinear"
    channels: Channels = None
    axes: str | None = None
    shown: tuple[int, ...] | None = None
    window: tuple[tuple[float, float], ...] | None = None

    @classmethod
    def checked(
        cls,
        size: object,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        fit: str = "stretch",
        crop: object = 1.0,
        interpolation: str = "bilinear",
        channels: object = None,
        axes: object = None,
        shown: object = None,
        window: object = None,
    ) -> Ready:
        """Check them.

        Raises
        ------
        ExplgraphError
        """
        height_width = checked_size(size)
        known = checked_channels(channels)
        count = channel_count(known)
        means, stds = _normalisation(known, mean, std)
        choice("fit", fit, ("stretch", "crop", "pad"))
        choice("interpolation", interpolation, tuple(INTERPOLATIONS))
        share = _share(crop, fit)
        if known is None and not (axes is shown is window is None):
            raise ExplgraphError(
                "axes, shown and window are of other channels than red, green and blue, and "
                "channels says which; give channels, too"
            )
        return cls(
            height_width, means, stds, fit, share, interpolation, known, checked_axes(axes),
            checked_shown(shown, count), checked_window(window, count),
        )  # fmt: skip

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Ready:
        """Take what `describe` gave; other keys don't count."""
        return cls.checked(**{key: described[key] for key in READY if key in described})

    def describe(self) -> dict[str, Any]:
        """Give JSON values: arguments of `explgraph.ImageFolder`."""
        described: dict[str, Any] = {
            "size": list(self.size),
            "mean": list(self.mean),
            "std": list(self.std),
            "fit": self.fit,
        }
        # stores and graphs of before these were there are to count as made ready alike
        if self.crop != 1:
            described["crop"] = self.crop
        if self.interpolation != "bilinear":
            described["interpolation"] = self.interpolation
        if self.channels is None:
            return described
        shown = shown_of(self.shown, channel_count(self.channels))
        return described | {
            "channels": self.channels if isinstance(self.channels, int) else list(self.channels),
            "axes": self.axes,
            "shown": list(shown),
            "window": [list(pair) for pair in self._window],
        }

    def check_whole(self, file: str) -> None:
        """Refuse means and deviations that no whole numbers have, for they are made 0 to 1."""
        for argument, values in (("mean", self.mean), ("std", self.std)):
            _check_shares(argument, values, f" of whole numbers, as {file!r} holds,")

    def read(self, photo: Path | Image.Image, largest: int | None) -> Image.Image | Samples:
        """Read a photograph, the right way up: RGB, or (H, W, C) of other channels.

        Raises
        ------
        Exception
            Whatever readers raise.
        """
        if isinstance(photo, Image.Image):
            return turned(photo) if self.channels is None else array_of(photo, self.channels)
        if self.channels is None:
            return upright_rgb(photo, largest)
        return read_array(photo, self.channels, self.axes, largest)

    def cut(self, photo: Image.Image | Samples, crop: Crop) -> Image.Image | Samples:
        """Cut out of a photograph what the network sees."""
        if isinstance(photo, Image.Image):
            return fitted(photo, crop, self.size, self.mean, self.interpolation)
        return fitted_array(photo, crop, self.size, self.mean, self.interpolation)

    def normalised(self, image: Image.Image | Samples) -> Tensor:
        """Give an image as the network takes it, ``(C, H, W)`` float32."""
        pixels = torch.from_numpy(shares(np.array(image))).permute(2, 0, 1)
        mean, std = (
            torch.tensor(v, dtype=torch.float32).reshape(-1, 1, 1) for v in (self.mean, self.std)
        )
        return (pixels - mean).div_(std).contiguous()

    def picture(self, image: Image.Image | Samples) -> Image.Image:
        """Draw what the network sees, RGB."""
        if isinstance(image, Image.Image):
            return image
        return Image.fromarray(as_colours(shares(image), self.shown, self._window))

    @property
    def _window(self) -> tuple[tuple[float, float], ...]:
        return self.window or ((0.0, 1.0),) * channel_count(self.channels)


def made_ready(
    photo: str | os.PathLike[str] | Image.Image,
    name: str,
    *,
    largest: int | None = None,
    **ready: Any,
) -> tuple[Image.Image, Tensor, Callable[[NDArray[np.float64]], NDArray[np.float64]]]:
    """Make one photograph ready, as `ImageFolder` does with those of a folder.

    Parameters
    ----------
    photo : path or PIL image
    name : str
        What the image is called.
    largest : int, optional
        Pixels that its file may have, as `explgraph.ImageFolder` says.
    **ready
        As `ImageFolder.describe` gives it.

    Returns
    -------
    picture : PIL image
        As the network sees it, but not normalised.
    image : (C, H, W) float32
    to_original : callable
        Takes points (..., 2) px of the picture, gives those of the photograph.

    Raises
    ------
    ExplgraphError
        If it can't be read as an image.
    """
    if not isinstance(photo, Image.Image):
        check_regular(photo, f"image {name!r}")
        photo = Path(photo)
    how = Ready.of(ready)
    try:
        whole = how.read(photo, largest)
    except Exception as err:
        raise ExplgraphError(f"image {name!r} can't be read ({reason(err)})") from err
    size = whole.size if isinstance(whole, Image.Image) else (whole.shape[1], whole.shape[0])
    crop = placed(name, name, None, size, how.size, how.fit, how.crop)
    image = how.cut(whole, crop)
    return how.picture(image), how.normalised(image), lambda at: to_original(crop, at)


def choice(argument: str, value: object, known: tuple[str, ...]) -> None:
    """Refuse a word that is not among the known ones."""
    if value not in known:
        raise ExplgraphError(f"{argument} must be one of {', '.join(known)}; got {value!r}")


def _share(crop: object, fit: str) -> float:
    """Refuse a share that is none, or that nothing is cut to."""
    if isinstance(crop, np.floating):
        crop = float(crop)
    if isinstance(crop, bool) or not isinstance(crop, (int, float)) or not 0 < crop <= 1:
        raise ExplgraphError(f"crop must be a share above 0, 1 at most, got {crop!r}")
    if crop != 1 and fit != "crop":
        raise ExplgraphError(f'crop={crop} goes with fit="crop"; got fit={fit!r}')
    return float(crop)


_LARGEST_COLOUR = 3.0  # of mean and std; what is above is of colours from 0 to 255
_MOST_SIDE = 16384  # an image of this side, as the network takes it, is 3 GB


def checked_size(size: object, argument: str = "size") -> tuple[int, int]:
    """Give ``(H, W)`` of a side or two; refuse what is no size, or can't be held."""
    sides: tuple[Any, ...] = (size, size)
    if isinstance(size, Sequence) and not isinstance(size, str):
        sides = tuple(size)
    sides = tuple(int(s) if isinstance(s, np.integer) else s for s in sides)
    whole = all(isinstance(s, int) and not isinstance(s, bool) and s > 0 for s in sides)
    if len(sides) != 2 or not whole:
        raise ExplgraphError(f"{argument} must be a side or (H, W) in whole pixels, got {size!r}")
    if max(sides) > _MOST_SIDE:
        raise ExplgraphError(f"{argument} must be at most {_MOST_SIDE} px a side, got {size!r}")
    return sides[0], sides[1]


def _normalisation(
    channels: Channels, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Check mean and standard deviation; those of ImageNet are only for red, green and blue."""
    if channels in (None, 3):
        mean = IMAGENET_MEAN if mean is None else mean
        std = IMAGENET_STD if std is None else std
    count = channel_count(channels)
    missing = " and ".join(n for n, given in (("mean", mean), ("std", std)) if given is None)
    if mean is None or std is None:
        stated = channels if isinstance(channels, int) else list(channels or ())
        raise ExplgraphError(
            f"{missing} must be given, {count} number{'s' * (count != 1)} each, for there are none "
            "that are usual for such channels: those of the network's training; if nobody knows "
            f"them, mean, std = explgraph.ImageFolder(PATH, channels={stated}, mean=[0] * {count}, "
            f"std=[1] * {count}).mean_and_std() measures them"
        )
    means, stds = _numbers("mean", mean, count), _numbers("std", std, count)
    if min(stds) <= 0:
        raise ExplgraphError(f"std must be above 0, got {list(stds)}")
    if channels is None:
        _check_shares("mean", means, "it")
        _check_shares("std", stds, "it")
    return means, stds


def _numbers(argument: str, values: Sequence[float], count: int) -> tuple[float, ...]:
    """Give a finite number for each channel."""
    try:
        numbers = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count or not all(math.isfinite(v) for v in numbers):
        told = {1: "one number", 3: "three numbers (red, green, blue)"}.get(count)
        raise ExplgraphError(
            f"{argument} must be {told or f'{count} numbers, one for each channel'}, got {values!r}"
        )
    return numbers


def _check_shares(argument: str, numbers: Sequence[float], what: str) -> None:
    """Refuse means and standard deviations of colours that are not 0 to 1."""
    if max(map(abs, numbers)) > _LARGEST_COLOUR:
        as_shares = ", ".join(f"{number / 255:.3f}" for number in numbers)
        raise ExplgraphError(
            f"{argument}: {what} is of colours from 0 to 1, got {tuple(numbers)}; divided by 255 "
            f"that is {as_shares}"
        )
