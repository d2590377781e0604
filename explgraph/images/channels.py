"""Which channels of image files a network takes, and how people see them.

Pictures of other than red, green and blue have no colours of their own. Some of their channels are
*shown* as colours, or one as grey, and a *window* says which of their values are black and white.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from explgraph.errors import ExplgraphError

__all__ = [
    "Channels",
    "as_colours",
    "channel_count",
    "checked_axes",
    "checked_channels",
    "checked_shown",
    "checked_window",
    "shown_of",
    "undone",
]

Channels: TypeAlias = "int | tuple[int, ...] | None"
"""So many; or these bands of each file, from 0; or red, green and blue, whatever a file holds."""

_MOST = 1024  # channels: the widest instruments have some hundreds of bands
_FINITE = np.finfo(np.float32).max


def checked_channels(channels: object) -> Channels:
    """Give how many channels there are, or which; refuse what is neither."""
    if channels is None:
        return None
    if _is_whole(channels, 1, _MOST):
        return int(channels)
    if isinstance(channels, Sequence) and not isinstance(channels, str):
        bands = tuple(channels)
        if 0 < len(bands) <= _MOST and all(_is_whole(band, 0, _MOST - 1) for band in bands):
            return tuple(int(band) for band in bands)
    raise ExplgraphError(
        f"channels must be a number of channels (1 to {_MOST}), or a list of the bands of each "
        f"file that are taken, counted from 0; got {channels!r}"
    )


def channel_count(channels: Channels) -> int:
    """Count them."""
    return 3 if channels is None else channels if isinstance(channels, int) else len(channels)


def checked_axes(axes: object) -> str | None:
    """Give how arrays are laid out, None if their shape tells; refuse what is no such layout."""
    if axes is not None and axes not in ("HWC", "CHW"):
        raise ExplgraphError(f"axes must be 'HWC' or 'CHW', got {axes!r}")
    return None if axes is None else str(axes)


def checked_shown(shown: object, count: int) -> tuple[int, ...] | None:
    """Give which channels pictures show: one, or three; None for the usual ones."""
    if shown is None:
        return None
    found = tuple(shown) if isinstance(shown, Sequence) and not isinstance(shown, str) else ()
    if len(found) not in (1, 3) or not all(_is_whole(c, 0, count - 1) for c in found):
        raise ExplgraphError(
            f"shown must be one channel (grey) or three (red, green, blue), of 0 to {count - 1}; "
            f"got {shown!r}"
        )
    return tuple(int(c) for c in found)


def checked_window(window: object, count: int) -> tuple[tuple[float, float], ...] | None:
    """Give each channel's values that are drawn black and white; None if they are to be measured.

    Raises
    ------
    ExplgraphError
        If this is no pair of numbers, the lower one first, and no such pair for each channel.
    """
    if window is None:
        return None
    try:
        pairs = np.array(window, dtype=np.float64)
    except (TypeError, ValueError):
        pairs = np.zeros(0)
    if pairs.shape == (2,):
        pairs = np.broadcast_to(pairs, (count, 2))
    if (
        pairs.shape != (count, 2)
        or not (pairs[:, 0] < pairs[:, 1]).all()
        or (np.abs(pairs).max() > _FINITE)
    ):
        raise ExplgraphError(
            "window must be two numbers, the value that is drawn black and the one that is drawn "
            f"white, or two for each of the {count} channels; got {window!r}"
        )
    return tuple((float(low), float(high)) for low, high in pairs)


def shown_of(shown: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """Give the channels that pictures show: the first three, or the first of fewer."""
    if shown is not None:
        return tuple(shown)
    return (0, 1, 2) if count >= 3 else (0,)


def as_colours(
    values: NDArray[np.floating], shown: Sequence[int] | None, window: Sequence[Sequence[float]]
) -> NDArray[np.uint8]:
    """Draw images (..., H, W, C), not normalised, as colours (..., H, W, 3).

    Parameters
    ----------
    values : (..., H, W, C)
    shown : sequence of int or None
        See `shown_of`.
    window : (C, 2)
        The value of each channel that is drawn black, and the one that is drawn white.
    """
    chosen = list(shown_of(shown, values.shape[-1]))
    low, high = np.array(window, dtype=np.float64)[chosen].T
    shares = (values[..., chosen].astype(np.float64) - low) / (high - low)
    grey_or_colours = np.rint(255 * shares.clip(0, 1)).astype(np.uint8)
    colours: NDArray[np.uint8] = np.broadcast_to(grey_or_colours, (*values.shape[:-1], 3)).copy()
    return colours


def undone(images: NDArray[Any], ready: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Turn what a network takes, ``(..., C, H, W)``, into colours ``(..., H, W, 3)``.

    Parameters
    ----------
    images : (..., C, H, W)
        Normalised.
    ready : mapping
        How photographs were made ready (`ImageFolder.describe`). Empty if that isn't known: colours
        are stretched from each image's darkest to its brightest then.
    """
    values = np.moveaxis(np.asarray(images, dtype=np.float64), -3, -1)
    count = values.shape[-1]
    if "std" in ready and len(ready.get("mean", ())) == count:
        values = values * np.array(ready["std"]) + np.array(ready["mean"])
        window = ready.get("window") or [(0.0, 1.0)] * count
        return as_colours(values, ready.get("shown"), window)
    values = values[..., list(shown_of(None, count))]
    low, high = values.min((-3, -2, -1), keepdims=True), values.max((-3, -2, -1), keepdims=True)
    values = (values - low) / np.maximum(high - low, 1e-12)
    return as_colours(values, None, [(0.0, 1.0)] * count)


def _is_whole(value: object, low: int, high: int) -> TypeGuard[int]:
    """Whether this is a whole number of a range."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        return False
    return bool(low <= value <= high)
