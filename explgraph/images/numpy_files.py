"""Arrays of numpy on disk, each an image: what they must hold, and where their channels are."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from explgraph.errors import ExplgraphError
from explgraph.images.channels import Channels
from explgraph.images.decoding import check_pixels

__all__ = ["ARRAYS", "arranged", "numpy_file"]

ARRAYS = frozenset({".npy", ".npz"})
_NAMED = "image"  # the array of an .npz that is read where there are several


def numpy_file(path: Path, largest: int | None) -> NDArray[Any]:
    """Read the array of an .npy or .npz file."""
    if path.suffix.lower() == ".npy":
        with path.open("rb") as opened:
            return _numpy(opened, path.stat().st_size, largest)
    with zipfile.ZipFile(path) as archive:
        held = [one for one in archive.infolist() if one.filename.endswith(".npy")]
        if len(held) > 1:
            held = [one for one in held if one.filename == f"{_NAMED}.npy"]
        if len(held) != 1:
            names = ", ".join(one.filename.removesuffix(".npy") for one in archive.infolist()[:5])
            raise ExplgraphError(
                f"it holds {names or 'nothing'}; expected one array, or one that is called "
                f"{_NAMED!r}: np.savez(file, {_NAMED}=array)"
            )
        with archive.open(held[0]) as member:
            return _numpy(member, held[0].file_size, largest)


def _numpy(opened: IO[bytes], length: int, largest: int | None) -> NDArray[Any]:
    """Read an array, if its header tells of an image that isn't too large, and all of it is there.

    Raises
    ------
    ExplgraphError
    ValueError
        If this is no array of numpy.
    """
    version = npy.read_magic(opened)
    if version not in ((1, 0), (2, 0)):  # later ones only name fields of records in other scripts
        raise ExplgraphError(f"it is an .npy file of version {version}; expected 1.0 or 2.0")
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = header(opened)
    if dtype.hasobject or dtype.kind not in "biuf":
        raise ExplgraphError(
            f"it holds {'Python objects' if dtype.hasobject else dtype}, expected an array of "
            "numbers; nothing is ever unpickled"
        )
    if len(shape) not in (2, 3) or 0 in shape:
        raise ExplgraphError(
            f"it has the shape {shape}; expected one image, (H, W), (H, W, C) or (C, H, W)"
        )
    check_pixels(math.prod(shape) / 3, largest)
    if math.prod(shape) * dtype.itemsize > length - opened.tell():
        raise ExplgraphError("it is cut off")
    opened.seek(0)
    array: NDArray[Any] = npy.read_array(opened, allow_pickle=False)
    return array


def arranged(array: NDArray[Any], channels: Channels, axes: str | None) -> NDArray[Any]:
    """Give an array (H, W), (H, W, B) or (B, H, W) as (H, W, B).

    Its channels are the axis, first or last, that has as many as are expected. Where bands are
    chosen, so that nobody says how many there are, they are the shorter axis of the two.
    """
    if array.ndim == 2:
        return array[..., None]
    first, last = array.shape[0], array.shape[2]
    if axes is None:
        at_front, at_end = first < last, last < first
        if isinstance(channels, int):
            at_front, at_end = first == channels, last == channels
            if not at_front and not at_end:
                raise ExplgraphError(
                    f"it has the shape {array.shape}, expected {channels} channels, first or last"
                )
        if at_front == at_end:
            raise ExplgraphError(
                f"it has the shape {array.shape}, which doesn't tell which axis the channels are; "
                "say so by axes='HWC' or axes='CHW' (--axes)"
            )
        axes = "CHW" if at_front else "HWC"
    return np.moveaxis(array, 0, -1) if axes == "CHW" else array
