"""Photographs in a folder: found, cropped, resized and normalised.

One object per image is assumed: a crop, or a photograph that shows one. Whole photographs with
several objects are cut up by a table of boxes (`ImageFolder`, ``boxes=``).

Points in a photograph are ``[x, y]`` px like everywhere in explgraph (the first pixel's centre is
at ``(0.5, 0.5)``), of the photograph the right way up, after its EXIF orientation.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from explgraph.errors import ExplgraphError, nearest, warn
from explgraph.images.ahead import ahead
from explgraph.images.crops import Crop, fitted, placed, to_original
from explgraph.images.decoding import photo_sizes, reason, turned, upright_rgb
from explgraph.images.finding import image_files
from explgraph.paths import check_regular, checked_path
from explgraph.progress import Shown
from explgraph.textfiles import read_csv

__all__ = ["ImageFolder", "made_ready", "normalised"]

Box: TypeAlias = Sequence[float]
Boxes: TypeAlias = Mapping[str, "Box | Sequence[Box]"]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageFolder(Dataset[Tensor]):
    """The photographs of a folder and its subfolders, each showing one object.

    A photograph that shows several objects, or one that is small in it, is cut up by `boxes`.
    Files that are no images by their suffix, and hidden ones, are ignored. Images are turned the
    right way up (EXIF), converted to RGB (what is transparent turns white; the first frame of
    animations), brought to `size` and normalised.

    Parameters
    ----------
    path : path
        Folder.
    size : int or (int, int)
        Side of a square, or ``(H, W)``, px: the size that the network takes.
    mean : (3,) float
        Subtracted from the colours, which are 0 to 1; ImageNet's by default.
    std : (3,) float
        What colours are divided by then; ImageNet's by default.
    fit : {"stretch", "crop", "pad"}
        How a photograph or box of another shape is brought to `size`: stretched; its middle cut
        out; or shown whole between margins of the mean colour.
    boxes : path or mapping, optional
        Boxes ``(x0, y0, x1, y1)`` px that cut one object each out of the photographs: a CSV file
        with the columns ``name,x0,y0,x1,y1``, or a mapping from a photograph's name to a box or a
        list of boxes. Photographs without a box are left out. Several boxes of one photograph are
        named ``name#0``, ``name#1``, ...; what lies outside the photograph is cut off.
    names : sequence of str, optional
        Use only these, in this order: photographs (with all their boxes), or ``name#k``. So that
        one crop per photograph can be had, for instance.
    unreadable : {"refuse", "skip"}
        What to do about images that can't be decoded. All are read once at the start; they are
        named in the error, or in a warning and in `skipped`.
    progress : bool or None
        Show a bar while they are read, on a terminal, if it takes longer than two seconds.

    Attributes
    ----------
    path : Path
    size : (int, int)
        ``(H, W)`` px.
    names : tuple of str
        Path within the folder with ``/``, sorted naturally ("2.png" before "10.png").
    all_names : frozenset of str
        Also of the photographs and crops that weren't chosen.
    skipped : tuple of str
        Unreadable images that were skipped.

    Raises
    ------
    ExplgraphError
        If the folder is missing or holds no image, an image is unreadable, or boxes or names don't
        fit the folder's files.

    Warns
    -----
    ExplgraphWarning
        If unreadable images are skipped.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size: int | Sequence[int] = 224,
        mean: Sequence[float] = _IMAGENET_MEAN,
        std: Sequence[float] = _IMAGENET_STD,
        fit: Literal["stretch", "crop", "pad"] = "stretch",
        boxes: str | os.PathLike[str] | Boxes | None = None,
        names: Sequence[str] | None = None,
        unreadable: Literal["refuse", "skip"] = "refuse",
        progress: Shown = None,
    ) -> None:
        self.path = checked_path(path)
        self.size = checked_size(size)
        self.mean, self.std = _colours("mean", mean), _colours("std", std)
        if min(self.std) <= 0:
            raise ExplgraphError(f"std must be above 0, got {list(self.std)}")
        _choice("fit", fit, ("stretch", "crop", "pad"))
        _choice("unreadable", unreadable, ("refuse", "skip"))
        self.fit = fit
        files = image_files(self.path)
        crops: list[_Named] = [(f, f, None) for f in files]
        if boxes is not None:
            crops = _boxed(files, boxes)
        self.all_names = frozenset(files) | {name for name, _, _ in crops}
        if names is not None:
            crops = _chosen(crops, names)
        needed = dict.fromkeys(file for _, file, _ in crops)
        sizes, broken = photo_sizes(self.path, needed, progress)
        self.skipped = tuple(broken)
        if broken:
            listed = _listed(f"{name} ({reason})" for name, reason in broken.items())
            message = f"{self.path}: unreadable image file{'s' * (len(broken) > 1)}: {listed}"
            if unreadable == "refuse":
                raise ExplgraphError(
                    f'{message}; mend or remove what is broken, or pass unreadable="skip"'
                )
            if len(broken) == len(sizes) + len(broken):
                raise ExplgraphError(f"{message}; no readable image is left")
            warn(f"{message}; skipped")
        self._crops = tuple(
            placed(name, file, box, sizes[file], self.size, fit)
            for name, file, box in crops
            if file in sizes
        )
        self.names = tuple(crop.name for crop in self._crops)

    def __len__(self) -> int:
        return len(self._crops)

    def __getitem__(self, index: int) -> Tensor:
        """Give a normalised image, ``(3, H, W)`` float32."""
        return normalised(self.picture(index), self.mean, self.std)

    def __repr__(self) -> str:
        height, width = self.size
        return (
            f"ImageFolder({str(self.path)!r}, {len(self)} images, {height} x {width}, {self.fit})"
        )

    def picture(self, index: int) -> Image.Image:
        """Give an image as the network sees it, but not normalised: RGB, for drawings."""
        crop = self._crops[index]
        try:
            photo = upright_rgb(self.path / crop.file)
        except Exception as err:
            raise ExplgraphError(
                f"{self.path / crop.file}: can't be read any more ({reason(err)})"
            ) from err
        return fitted(photo, crop, self.size, self.mean)

    def to_original(self, index: int, points: ArrayLike) -> NDArray[np.float64]:
        """Give points of an image as points of the photograph that it was made from.

        Parameters
        ----------
        index : int
            Of the image.
        points : (..., 2) float
            ``[x, y]`` px of the image as the network sees it.

        Returns
        -------
        (..., 2) float64
            ``[x, y]`` px of the photograph, the right way up.
        """
        at = np.asarray(points, dtype=np.float64)
        if at.ndim == 0 or at.shape[-1] != 2:
            raise ExplgraphError(f"points must be (..., 2) [x, y], got the shape {at.shape}")
        return to_original(self._crops[index], at)

    def subset(self, indices: Iterable[int]) -> ImageFolder:
        """Give a folder with only some of the images, in the order of `indices`."""
        chosen = [int(i) for i in indices]
        for i in chosen:
            if not -len(self) <= i < len(self):
                raise ExplgraphError(f"indices: {i} is out of range for {len(self)} images")
        if not chosen:
            raise ExplgraphError("indices is empty; choose at least one image")
        other = object.__new__(ImageFolder)
        other.__dict__.update(self.__dict__)
        other._crops = tuple(self._crops[i] for i in chosen)
        other.names = tuple(crop.name for crop in other._crops)
        repeated = [name for name, times in Counter(other.names).items() if times > 1]
        if repeated:
            raise ExplgraphError(f"indices names {repeated[0]!r} more than once")
        return other

    def sources(self) -> list[Any]:
        """Give what each image is cut out of, and the SHA-256 of its file, as JSON values."""

        def digest(file: str) -> str:
            try:
                return hashlib.sha256((self.path / file).read_bytes()).hexdigest()
            except OSError as err:
                raise ExplgraphError(
                    f"{self.path / file}: can't be read any more ({reason(err)})"
                ) from err

        files = list(dict.fromkeys(crop.file for crop in self._crops))
        sums = dict(zip(files, ahead(digest, files, 8), strict=True))
        return [[crop.file, crop.source, crop.target, sums[crop.file]] for crop in self._crops]

    def cuts(self) -> dict[str, tuple[Any, ...]]:
        """Say for each image, by name, of which file it is cut, what of it, and where that goes."""
        return {crop.name: (crop.file, crop.source, crop.target) for crop in self._crops}

    @classmethod
    def from_cuts(
        cls, path: str | os.PathLike[str], cuts: Mapping[str, Sequence[Any]], **ready: Any
    ) -> ImageFolder:
        """Give images that `cuts` told of, without looking at the folder or at any file.

        Parameters
        ----------
        path : path
            Folder.
        cuts : mapping of str to (str, (4,) float, (4,) int)
            By the images' names: the file within the folder, what is cut out of it, where it goes.
        **ready
            As `describe` gives it.
        """
        images = object.__new__(cls)
        images.path = checked_path(path)
        images.size = checked_size(ready["size"])
        images.mean, images.std = _colours("mean", ready["mean"]), _colours("std", ready["std"])
        images.fit = ready["fit"]
        images.skipped = ()
        images._crops = tuple(
            Crop(name, file, tuple(source), tuple(target))
            for name, (file, source, target) in cuts.items()
        )
        images.names = tuple(cuts)
        return images

    def describe(self) -> dict[str, Any]:
        """Give the preprocessing as JSON values: arguments of `ImageFolder` for other images."""
        return {
            "size": list(self.size),
            "mean": list(self.mean),
            "std": list(self.std),
            "fit": self.fit,
        }


def _choice(argument: str, value: object, known: tuple[str, ...]) -> None:
    """Refuse a word that is not among the known ones."""
    if value not in known:
        raise ExplgraphError(f"{argument} must be one of {', '.join(known)}; got {value!r}")


def _listed(values: Iterable[str]) -> str:
    """List a few values, and say how many there are more."""
    every = list(values)
    more = f" and {len(every) - 10} more" if len(every) > 10 else ""
    return ", ".join(every[:10]) + more


_LARGEST_COLOUR = 3.0  # of mean and std; what is above is of colours from 0 to 255
_MOST_SIDE = 16384  # an image of this side, as the network takes it, is 3 GB


def checked_size(size: object, argument: str = "size") -> tuple[int, int]:
    """Give ``(H, W)`` of a side or two; refuse what is no size, or can't be held."""
    sides: tuple[Any, ...] = (size, size)
    if isinstance(size, Sequence) and not isinstance(size, str):
        sides = tuple(size)
    whole = all(isinstance(s, int) and not isinstance(s, bool) and s > 0 for s in sides)
    if len(sides) != 2 or not whole:
        raise ExplgraphError(f"{argument} must be a side or (H, W) in whole pixels, got {size!r}")
    if max(sides) > _MOST_SIDE:
        raise ExplgraphError(f"{argument} must be at most {_MOST_SIDE} px a side, got {size!r}")
    return sides[0], sides[1]


def _colours(argument: str, values: Sequence[float]) -> tuple[float, float, float]:
    """Give three finite numbers."""
    try:
        numbers = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 3 or not all(math.isfinite(v) for v in numbers):
        raise ExplgraphError(f"{argument} must be three numbers (red, green, blue), got {values!r}")
    if max(map(abs, numbers)) > _LARGEST_COLOUR:
        as_shares = ", ".join(f"{number / 255:.3f}" for number in numbers)
        raise ExplgraphError(
            f"{argument} is of colours from 0 to 1, got {values!r}; divided by 255 that is "
            f"{as_shares}"
        )
    return numbers[0], numbers[1], numbers[2]


_Named: TypeAlias = "tuple[str, str, Box | None]"  # name, file, box


def _boxed(files: list[str], boxes: str | os.PathLike[str] | Boxes) -> list[_Named]:
    """Give one entry per box, in the order of the files."""
    table = boxes if isinstance(boxes, Mapping) else _read_boxes(Path(boxes))
    known = set(files)
    for name in table:
        if name not in known:
            raise ExplgraphError(
                f"boxes name {name!r}, which is no image of the folder{nearest(name, files)}"
            )
    crops: list[_Named] = []
    for file in files:
        given: Any = table.get(file, ())
        many = [given] if len(given) and not hasattr(given[0], "__len__") else list(given)
        for k, box in enumerate(many):
            numbers = [float(v) for v in box]
            if len(numbers) != 4 or not all(math.isfinite(v) for v in numbers):
                raise ExplgraphError(
                    f"boxes: {file!r} has {list(box)!r}, expected four numbers x0, y0, x1, y1"
                )
            crops.append((f"{file}#{k}" if len(many) > 1 else file, file, numbers))
    if not crops:
        raise ExplgraphError("boxes is empty; give at least one photograph a box")
    return crops


def _read_boxes(path: Path) -> dict[str, list[Box]]:
    """Read a CSV file with the columns name, x0, y0, x1, y1; others are ignored."""
    columns = ("name", "x0", "y0", "x1", "y1")
    table: dict[str, list[Box]] = {}
    for line, row in read_csv(path, columns, "boxes")[1]:
        try:
            box = [float(row[c]) for c in columns[1:]]
        except ValueError as err:
            raise ExplgraphError(
                f"boxes {str(path)!r}, line {line}: expected four numbers x0,y0,x1,y1 after the "
                f"name, got {[row[c] for c in columns[1:]]}"
            ) from err
        table.setdefault(row["name"], []).append(box)
    return table


def _chosen(crops: list[_Named], names: Sequence[str]) -> list[_Named]:
    """Keep the crops that are named, or whose photograph is, in the order of `names`."""
    if isinstance(names, str):
        raise ExplgraphError(f"names must be a list of names, got {names!r}")
    by_name: dict[str, list[_Named]] = {}
    for crop in crops:
        for key in {crop[0], crop[1]}:
            by_name.setdefault(key, []).append(crop)
    kept: dict[str, _Named] = {}
    for name in names:
        if name not in by_name:
            raise ExplgraphError(
                f"names has {name!r}, which is no image of the folder{nearest(name, by_name)}"
            )
        for crop in by_name[name]:
            if crop[0] in kept:
                raise ExplgraphError(f"names has {crop[0]!r} more than once")
            kept[crop[0]] = crop
    if not kept:
        raise ExplgraphError("names is empty; choose at least one image")
    return list(kept.values())


def normalised(picture: Image.Image, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Give a picture as the network takes it, ``(3, H, W)`` float32."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    less, over = (torch.tensor(v, dtype=torch.float32).reshape(3, 1, 1) for v in (mean, std))
    return pixels.float().div_(255).sub_(less).div_(over).contiguous()


def made_ready(
    photo: str | os.PathLike[str] | Image.Image,
    name: str,
    *,
    size: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    fit: str,
) -> tuple[Image.Image, Tensor, Callable[[NDArray[np.float64]], NDArray[np.float64]]]:
    """Make one photograph ready, as `ImageFolder` does with those of a folder.

    Parameters
    ----------
    photo : path or PIL image
    name : str
        What the image is called.
    size, mean, std, fit
        As `ImageFolder.describe` gives them.

    Returns
    -------
    picture : PIL image
        As the network sees it, but not normalised.
    image : (3, H, W) float32
    to_original : callable
        Takes points (..., 2) px of the picture, gives those of the photograph.

    Raises
    ------
    ExplgraphError
        If it can't be read as an image.
    """
    if not isinstance(photo, Image.Image):
        check_regular(photo, f"image {name!r}")
    try:
        whole = turned(photo) if isinstance(photo, Image.Image) else upright_rgb(Path(photo))
    except Exception as err:
        raise ExplgraphError(f"image {name!r} can't be read ({reason(err)})") from err
    height, width = checked_size(size)
    crop = placed(name, name, None, whole.size, (height, width), fit)
    picture = fitted(whole, crop, (height, width), mean)
    return picture, normalised(picture, mean, std), lambda at: to_original(crop, at)
