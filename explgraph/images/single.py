"""One image, whatever holds it: as the network takes it, and as people see it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from explgraph.errors import ExplgraphError, nearest
from explgraph.images.batches import AnyImages, batches
from explgraph.images.channels import undone
from explgraph.images.folder import ImageFolder
from explgraph.images.ready import made_ready
from explgraph.images.taken import UNKNOWN, Photographs, photograph, taken
from explgraph.paths import checked_path

__all__ = ["AnyImage", "SingleImage", "single_image"]

AnyImage: TypeAlias = "str | os.PathLike[str] | Image.Image | AnyImages"


class SingleImage(NamedTuple):
    """One image.

    Attributes
    ----------
    name : str
    batch : (1, C, H, W) float32
        Normalised.
    picture : (H, W, 3) uint8
        The same as colours. If only the normalised image is known, its values stretched so that
        the least is black and the largest white.
    to_original : callable or None
        Takes points (..., 2) px of it, gives those of the photograph; None if that isn't known.
    """

    name: str
    batch: Tensor
    picture: NDArray[np.uint8]
    to_original: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None


def single_image(
    image: AnyImage, ready: Mapping[str, Any], images: ImageFolder | None = None
) -> SingleImage:
    """Make one image ready.

    Parameters
    ----------
    image : path, PIL image, (H, W, 3) uint8 array, (C, H, W) or (1, C, H, W) tensor, ...
        Or anything else that holds one image (`explgraph.images.taken`).
        A text that names an image of `images` is that image; any other is a file.
    ready : mapping
        How photographs are made ready, as `ImageFolder.describe` gives it; empty if that isn't
        known, and then only what is made ready already can be taken.
    images : ImageFolder, optional

    Raises
    ------
    ExplgraphError
        If there is no such image, there are several, or it can't be read or made ready.
    """
    if images is not None and isinstance(image, str) and image in images.names:
        image = images.subset([images.names.index(image)])
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        image = photograph(image[0] if image.ndim == 4 and len(image) == 1 else image)
    if isinstance(image, (str, os.PathLike)) and checked_path(image, "image").is_dir():
        image = taken(image, ready)  # a folder of one image
    if isinstance(image, (str, os.PathLike, Image.Image)):
        return _photograph(image, ready, images)
    if isinstance(image, Tensor) and image.ndim == 3:
        image = image[None]
    image = taken(image, ready)
    found = list(batches(image, 1))
    if len(found) != 1:
        raise ExplgraphError(f"image holds {len(found)} images; give one")
    (name,), batch = found[0]
    if isinstance(image, (ImageFolder, Photographs)):
        folder = image
        colours = np.asarray(folder.picture(0))
        return SingleImage(name, batch, colours, lambda at: folder.to_original(0, at))
    return SingleImage(name, batch, undone(batch[0].cpu().numpy(), ready), None)


def _photograph(
    image: str | os.PathLike[str] | Image.Image,
    ready: Mapping[str, Any],
    images: ImageFolder | None,
) -> SingleImage:
    """Make a file, or a photograph in memory, ready."""
    if isinstance(image, Image.Image):
        name = Path(str(getattr(image, "filename", "") or "image")).name
    else:
        name = checked_path(image, "image").name
        if not Path(image).is_file():
            known = "" if images is None else nearest(str(image), images.names)
            raise ExplgraphError(f"image {str(image)!r}: there is no such file{known}")
    if not ready:
        raise ExplgraphError(UNKNOWN.format("image"))
    largest = None if images is None else images.largest
    picture, pixels, to_original = made_ready(image, name, largest=largest, **ready)
    return SingleImage(name, pixels[None], np.asarray(picture), to_original)
