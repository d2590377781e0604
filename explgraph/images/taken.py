"""What is taken as images: the one rule by which every function that asks for images reads them.

==========================================  ========================================================
`ImageFolder`                               as it is
path of a folder                            an `ImageFolder` of it
path of a file, PIL image, uint8 array      a photograph: a colour image ``(H, W, 3)``, grey
                                            ``(H, W)`` or ``(H, W, 1)``, transparent ``(H, W, 4)``
list of these; ``(N, H, W, 3)`` uint8       photographs
``(N, C, H, W)`` float tensor or array      made ready and normalised already
torch ``Dataset``, ``DataLoader``           as tensors ``(C, H, W)``, made ready and normalised
`WithInputs`                                what it holds, likewise
==========================================  ========================================================

So whole numbers from 0 to 255 are colours, red first and channels last as PIL has them (OpenCV has
blue first: ``image[..., ::-1]``), and floats are what the network takes, with channels first.
Folders and photographs are made ready as the mined images were, or, for mining, as the model says
(`explgraph.network.preprocessing`). All else is refused with what to write in its place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from explgraph.errors import ExplgraphError, warn
from explgraph.images.batches import AnyImages
from explgraph.images.folder import ImageFolder
from explgraph.images.further import WithInputs
from explgraph.images.normalisation import colours_apart, values_doubt
from explgraph.images.ready import READY, made_ready
from explgraph.paths import checked_path

__all__ = ["UNKNOWN", "Photographs", "described", "photograph", "taken"]

Ready: TypeAlias = Mapping[str, Any]

UNKNOWN = (
    "the graph doesn't say how its images were normalised, for it was mined from a tensor; "
    "give an ImageFolder of the {}, or a normalised tensor"
)
_COLOURS = (1, 3, 4)  # channels: grey, red, green and blue, and with transparency
_LOOKED_AT = 32  # images of a tensor whose values are looked at


class Photographs(Dataset[Tensor]):
    """Photographs in a list, made ready as those of an `ImageFolder` are.

    Parameters
    ----------
    photos : sequence of PIL image, path or uint8 array
    ready : mapping
        As `ImageFolder.describe` gives it.

    Attributes
    ----------
    names : tuple of str
        Of the files, if all have one of their own; "0", "1", ... otherwise.
    size : (int, int)
    """

    def __init__(self, photos: Sequence[Any], ready: Ready) -> None:
        self._photos = [photograph(photo) for photo in photos]
        # as a folder without images checks and fills it
        self._ready = ImageFolder.from_cuts(".", {}, **ready).describe()
        files = [_file_name(photo) for photo in self._photos]
        if len(set(files)) < len(files) or not all(files):
            digits = len(str(len(files) - 1))
            files = [str(i).zfill(digits) for i in range(len(files))]
        self.names = tuple(files)
        height, width = self._ready["size"]
        self.size: tuple[int, int] = (height, width)

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> Tensor:
        """Give a normalised image, ``(3, H, W)`` float32."""
        image: Tensor = self._made(index)[1]
        return image

    def subset(self, indices: Iterable[int]) -> Photographs:
        """Give some of the images, in the order of `indices`, with the names that they have."""
        chosen = list(indices)
        some = Photographs([self._photos[i] for i in chosen], self._ready)
        some.names = tuple(self.names[i] for i in chosen)
        return some

    def picture(self, index: int) -> Image.Image:
        """Give an image as the network sees it, but not normalised."""
        picture: Image.Image = self._made(index)[0]
        return picture

    def to_original(self, index: int, points: ArrayLike) -> NDArray[np.float64]:
        """Give points (..., 2) px of an image as points of its photograph."""
        places: NDArray[np.float64] = self._made(index)[2](np.asarray(points, dtype=np.float64))
        return places

    def describe(self) -> dict[str, Any]:
        """Give the preprocessing as JSON values, as `ImageFolder.describe` does."""
        return dict(self._ready)

    def _made(self, index: int) -> Any:
        return made_ready(self._photos[index], self.names[index], **self._ready)


def taken(images: Any, ready: Ready | Callable[[], Ready]) -> AnyImages:
    """Take what a user gives as images: see the module.

    Parameters
    ----------
    images : ImageFolder, path, PIL image, array, tensor, Dataset, DataLoader, or list of these
    ready : mapping, or callable that gives one
        How photographs are made ready, as `ImageFolder.describe` gives it: those that a graph was
        mined from; empty if that isn't known. A callable is asked only if it is needed, and then
        nothing is compared.

    Returns
    -------
    ImageFolder, Photographs, tensor, Dataset or DataLoader

    Raises
    ------
    ExplgraphError
        If it is nothing of the kind, or how photographs are made ready isn't known.

    Warns
    -----
    ExplgraphWarning
        If images are normalised otherwise than `ready` says.
    """
    if isinstance(images, WithInputs):
        within = taken(images.images, ready)
        return images if within is images.images else WithInputs(within, **images.inputs)
    if isinstance(images, np.ndarray):
        images = _of_array(images)
    if isinstance(images, (str, os.PathLike)):
        path = checked_path(images, "images")
        if path.is_dir():
            return ImageFolder(path, **_known(ready, "folder"))
        if not path.is_file():
            raise ExplgraphError(
                f"images: {path} doesn't exist; pass the folder that holds the images, or a file"
            )
    if _is_photograph(images):
        images = [images]
    if isinstance(images, (list, tuple)) and len(images):
        if _is_photograph(images[0]):
            return Photographs(images, _known(ready, "photographs"))
        if any(isinstance(image, np.ndarray) for image in images):
            images = [_of_item(image) for image in images]
    if not callable(ready):
        _compare(images, ready)
    checked: AnyImages = images
    return checked


def described(images: Any) -> dict[str, Any]:
    """Give how photographs are made ready, as JSON values; empty for what was ready before."""
    if isinstance(images, WithInputs):
        return described(images.images)
    return images.describe() if isinstance(images, (ImageFolder, Photographs)) else {}


def photograph(photo: Any) -> Image.Image | Path:
    """Give a photograph as a PIL image or the path of its file.

    Raises
    ------
    ExplgraphError
        If it is neither, nor a uint8 array of colours.
    """
    if isinstance(photo, Image.Image):
        return photo
    if isinstance(photo, (str, os.PathLike)):
        path = checked_path(photo, "image")
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "doesn't exist"
            raise ExplgraphError(
                f"image {str(path)!r} {what}; a list of images holds files, PIL images or uint8 "
                "arrays, all of one kind"
            )
        return path
    told = type(photo).__name__
    if isinstance(photo, np.ndarray):
        shape: tuple[int, ...] = photo.shape
        colours = len(shape) == 2 or (len(shape) == 3 and shape[2] in _COLOURS)
        if photo.dtype == np.uint8 and colours and photo.size:
            return Image.fromarray(photo[..., 0] if shape[2:] == (1,) else photo)
        told = f"{photo.dtype} of the shape {shape}"
    raise ExplgraphError(
        f"images holds {told} among photographs; expected PIL images, paths of files, or "
        "(H, W, 3) uint8 arrays"
    )


def _is_photograph(thing: Any) -> bool:
    """Whether something is a photograph, rather than what was made ready of one."""
    if isinstance(thing, np.ndarray):
        return thing.dtype == np.uint8 and thing.ndim in (2, 3)
    return isinstance(thing, (str, os.PathLike, Image.Image))


def _of_array(images: NDArray[Any]) -> Any:
    """Give an array of images as a list of colours or as a tensor."""
    if images.dtype == np.uint8 and images.size:
        if images.ndim == 2 or (images.ndim == 3 and images.shape[2] in _COLOURS):
            return images
        if images.ndim == 3 or (images.ndim == 4 and images.shape[3] in _COLOURS):
            return list(images)
    if images.dtype.kind == "f" and images.ndim == 4 and not _channels_last(images.shape[1:]):
        return torch.from_numpy(np.ascontiguousarray(images))
    hint = ""
    if images.dtype.kind == "f" and images.ndim == 4:
        hint = "; np.moveaxis(images, 3, 1) brings channels to the front"
    elif images.dtype.kind == "f" and images.ndim == 3:
        hint = "; images[None] is one image"
    elif images.dtype == np.uint8:
        if images.ndim == 4 and images.shape[1] in _COLOURS:
            hint = "; np.moveaxis(images, 1, 3) brings channels to the end"
    elif images.dtype.kind in "iub":
        hint = "; images.astype(np.uint8), if they lie from 0 to 255"
    raise ExplgraphError(
        f"images is a {images.dtype} array of the shape {images.shape}; expected colours "
        f"(N, H, W, 3) of uint8, or (N, C, H, W) of float, normalised as the network takes it{hint}"
    )


def _channels_last(shape: Sequence[int]) -> bool:
    """Whether (a, b, c) can only be (H, W, channels)."""
    return shape[2] in _COLOURS and shape[0] not in _COLOURS


def _of_item(image: Any) -> Any:
    """Give a list's item as what `explgraph.images.batches.batches` takes."""
    if not isinstance(image, np.ndarray):
        return image
    if image.dtype.kind == "f" and image.ndim == 3 and not _channels_last(image.shape):
        return torch.from_numpy(np.ascontiguousarray(image))
    raise ExplgraphError(
        f"images holds a {image.dtype} array of the shape {image.shape}; expected (H, W, 3) uint8 "
        "colours, or (C, H, W) float, normalised as the network takes it"
    )


def _known(ready: Ready | Callable[[], Ready], what: str) -> Ready:
    """Give how photographs are made ready; refuse if that isn't known."""
    known = ready() if callable(ready) else ready
    if not {"size", "mean", "std"} <= known.keys() and not callable(ready):
        raise ExplgraphError(UNKNOWN.format(what))
    return {name: known[name] for name in READY if name in known}


def _file_name(photo: Image.Image | Path) -> str:
    """Give the name of a photograph's file, or ""."""
    path = photo if isinstance(photo, Path) else Path(str(getattr(photo, "filename", "") or ""))
    return path.name


def _compare(images: Any, ready: Ready) -> None:
    """Warn if images are normalised otherwise than a graph's were."""
    if isinstance(images, (ImageFolder, Photographs)):
        here = images.describe()
        if colours_apart(here, ready):
            warn(
                f"the images are normalised by mean {_numbers(here['mean'])} and std "
                f"{_numbers(here['std'])}, those that the graph was mined from by mean "
                f"{_numbers(ready['mean'])} and std {_numbers(ready['std'])}; filters fire "
                "elsewhere: give ImageFolder the same, or the folder's path alone"
            )
    elif isinstance(images, Tensor) and images.ndim == 4 and images.is_floating_point():
        doubt = (
            values_doubt(images[:_LOOKED_AT], ready) if "mean" in ready and len(images) else None
        )
        if doubt is not None:
            warn(
                f"the images have {doubt}; those that the graph was mined from were colours 0 to 1 "
                f"less {_numbers(ready['mean'])}, over {_numbers(ready['std'])}: normalise them "
                "alike, or give the folder's path"
            )


def _numbers(values: Sequence[float]) -> str:
    """Tell numbers briefly."""
    return "(" + ", ".join(f"{value:.3g}" for value in values) + ")"
