"""Photographs in a folder: found, cropped, resized and normalised.

One object per image is assumed: a crop, or a photograph that shows one. Whole photographs with
several objects are cut up by a table of boxes (`ImageFolder`, ``boxes=``), or parsed with
``objects=``.

Points in a photograph are ``[x, y]`` px like everywhere in explgraph (the first pixel's centre is
at ``(0.5, 0.5)``), of the photograph the right way up, after its EXIF orientation.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from explgraph.annotations.boxes import Boxed, Boxes, boxed
from explgraph.brief import counted
from explgraph.errors import ExplgraphError, nearest, warn
from explgraph.images.ahead import ahead
from explgraph.images.arrays import Samples, array_sizes, shares
from explgraph.images.channels import channel_count
from explgraph.images.crops import Crop, own_resolution, placed, to_original
from explgraph.images.decoding import photo_sizes, reason, told_size
from explgraph.images.finding import image_files
from explgraph.images.ready import Ready, choice
from explgraph.paths import checked_path
from explgraph.progress import Shown
from explgraph.whole_numbers import whole

__all__ = ["ImageFolder"]


class ImageFolder(Dataset[Tensor]):
    """The photographs of a folder and its subfolders, each showing one object.

    A photograph that shows several objects, or one that is small in it, is cut up by `boxes`.
    Files that are no images by their suffix, and hidden ones, are ignored. Images are turned the
    right way up (EXIF), converted to RGB (what is transparent turns white; the first frame of
    animations), brought to `size` and normalised.

    Images of other channels than red, green and blue are read as `channels` says: grey ones,
    TIFFs of several bands (or pages), arrays of numpy (``.npy``; ``.npz`` of one array, or of one
    that is called ``image``; pickled objects are refused). Whole numbers of 8 and 16 bits are
    divided by the largest number of their type, so that 255 and 65535 are 1, and floats are taken
    as they are.

    Parameters
    ----------
    path : path
        Folder.
    size : int or (int, int)
        Side of a square, or ``(H, W)``, px: the size that the network takes.
    mean : (C,) float, optional
        Subtracted from the colours, which are 0 to 1; ImageNet's for red, green and blue. For
        other channels they have to be given: those of the network's training. If nobody knows
        them, `mean_and_std` measures them.
    std : (C,) float, optional
        What colours are divided by then; likewise.
    fit : {"stretch", "crop", "pad"}
        How a photograph or box of another shape is brought to `size`: stretched; its middle cut
        out; or shown whole between margins of the mean colour.
    crop : float
        With ``fit="crop"``, the share of the shorter side that is kept, 0 to 1: many networks are
        evaluated on the middle 0.875 (`explgraph.preprocessing` tells a model's).
    interpolation : {"bilinear", "bicubic", "lanczos", "box", "nearest"}
        How colours between pixels are found, which networks were trained with one of.
    boxes : path or mapping, optional
        Boxes ``(x0, y0, x1, y1)`` px that cut one object each out of the photographs: a file of
        COCO, CVAT, Label Studio, LabelMe or CUB-200-2011, a folder of YOLO's, Pascal VOC's or
        LabelMe's, a CSV file with the columns ``name,x0,y0,x1,y1``, or a mapping from a
        photograph's name to a box or a list of boxes. Photographs without a box are left out.
        Several boxes of one photograph are named ``name#0``, ``name#1``, ...; what lies outside
        the photograph is cut off.
    box_class : str or sequence of str, optional
        Which classes' boxes to use, where a file has several; ``"*"`` for all.
    names : sequence of str, optional
        Use only these, in this order: photographs (with all their boxes), or ``name#k``. So that
        one crop per photograph can be had, for instance.
    unreadable : {"refuse", "skip"}
        What to do about images that can't be decoded. All are read once at the start; they are
        named in the error, or in a warning and in `skipped`.
    channels : int or sequence of int, optional
        How many channels each file has, or which bands are taken, in this order, counted from 0.
        Red, green and blue by default, whatever files hold, and arrays aren't looked for. With 1,
        photographs in colour turn grey; with 3, grey ones are read as colours; with any other
        number, files must have just as many.
    axes : {"HWC", "CHW"}, optional
        Where the channels of arrays are. By default that axis, first or last, that has as many as
        `channels` says; if `channels` lists bands, the shorter of the two.
    shown : sequence of int, optional
        The three channels that pictures show as red, green and blue, or one as grey; by default the
        first three, or the first of fewer.
    window : (float, float) or (C, 2) float, optional
        Which values pictures show as black and white, before normalisation, of all channels or of
        each. By default 0 and 1 if all files have 8 bits; else the 1st and 99th percentile of
        each channel, over at most 256 images. It changes nothing that the network sees.
    largest : int, optional
        How many pixels an image file may have: 179 million by default, twice Pillow's
        ``Image.MAX_IMAGE_PIXELS``. An array may have as many samples as an RGB image of so many
        pixels.
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
    labels : dict of str to str
        The boxes' classes, by image, where the file of boxes tells them.

    Raises
    ------
    ExplgraphError
        If the folder is missing or holds no image, an image is unreadable, or boxes or names don't
        fit the folder's files.

    Warns
    -----
    ExplgraphWarning
        If unreadable images are skipped, files are left out that are images or videos of kinds that
        can't be read, or some hold whole numbers and others floats.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size: int | Sequence[int] = 224,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        fit: Literal["stretch", "crop", "pad"] = "stretch",
        crop: float = 1.0,
        interpolation: str = "bilinear",
        boxes: str | os.PathLike[str] | Boxes | None = None,
        box_class: str | Sequence[str] | None = None,
        names: Sequence[str] | None = None,
        unreadable: Literal["refuse", "skip"] = "refuse",
        channels: int | Sequence[int] | None = None,
        axes: Literal["HWC", "CHW"] | None = None,
        shown: Sequence[int] | None = None,
        window: Sequence[float] | Sequence[Sequence[float]] | None = None,
        largest: int | None = None,
        progress: Shown = None,
    ) -> None:
        self.path = checked_path(path)
        self._ready = Ready.checked(
            size, mean, std, fit, crop, interpolation, channels, axes, shown, window
        )
        self.largest = None if largest is None else whole(largest, "largest")
        choice("unreadable", unreadable, ("refuse", "skip"))
        files = image_files(self.path, arrays=channels is not None)
        crops: list[_Named] = [(f, f, None) for f in files]
        if boxes is not None:
            crops = [(b.name, b.file, b) for b in boxed(files, boxes, self.path, box_class)]
        elif box_class is not None:
            raise ExplgraphError("box_class chooses among boxes; give boxes (--boxes) as well")
        self.all_names = frozenset(files) | {name for name, _, _ in crops}
        if names is not None:
            crops = _chosen(crops, names)
        self.labels = {name: box.label for name, _, box in crops if box is not None and box.label}
        needed = dict.fromkeys(file for _, file, _ in crops)
        sizes, broken = self.sizes(needed, self.largest, progress)
        self.skipped = tuple(broken)
        if broken:
            listed = _listed(f"{name} ({reason})" for name, reason in broken.items())
            if len(broken) > 1 and len(set(broken.values())) == 1:
                listed = f"{_listed(broken)} ({next(iter(broken.values()))}, all of them)"
            message = f"{self.path}: unreadable image file{'s' * (len(broken) > 1)}: {listed}"
            if unreadable == "refuse":
                raise ExplgraphError(
                    f'{message}; mend or remove what is broken, or pass unreadable="skip" '
                    "(--unreadable skip)"
                )
            if len(broken) == len(sizes) + len(broken):
                raise ExplgraphError(f"{message}; no readable image is left")
            warn(f"{message}; skipped")
        self._photo_sizes = sizes
        self._crops = tuple(
            placed(name, file, box and box.within(sizes[file]), sizes[file], self.size, fit, crop)
            for name, file, box in crops
            if file in sizes
        )
        self.names = tuple(crop.name for crop in self._crops)

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)`` px."""
        return self._ready.size

    @property
    def mean(self) -> tuple[float, ...]:
        """What is subtracted from each channel."""
        return self._ready.mean

    @property
    def std(self) -> tuple[float, ...]:
        """What each channel is divided by."""
        return self._ready.std

    @property
    def fit(self) -> str:
        """How other shapes are brought to the size."""
        return self._ready.fit

    def __len__(self) -> int:
        return len(self._crops)

    def __getitem__(self, index: int) -> Tensor:
        """Give a normalised image, ``(C, H, W)`` float32."""
        return self._ready.normalised(self._samples(index))

    def __repr__(self) -> str:
        height, width = self.size
        told = f"{counted(len(self), 'image')}, {height} x {width}, {self._ready.fit}"
        if self._ready.channels is not None:
            told += f", {counted(channel_count(self._ready.channels), 'channel')}"
        return f"ImageFolder({str(self.path)!r}, {told})"

    def picture(self, index: int, longest: int | None = None) -> Image.Image:
        """Give an image as the network sees it, but not normalised: RGB, for drawings.

        Of other channels than red, green and blue, those that are `shown`, within the `window`.
        With `longest` the same part of the photograph in its own resolution and proportions, for
        people to look at: its longer side has at most so many px.
        """
        return self._ready.picture(self._samples(index, longest))

    def mean_and_std(self) -> tuple[list[float], list[float]]:
        """Measure each channel's mean and standard deviation over all images, not normalised.

        What `mean` and `std` are for a network that was trained on such images by them. Those of
        the network's training are better, where they are known.

        Examples
        --------
        >>> mean, std = explgraph.ImageFolder(
        ...     "fields", channels=4, mean=[0] * 4, std=[1] * 4
        ... ).mean_and_std()  # doctest: +SKIP
        """
        totals = np.zeros((2, channel_count(self._ready.channels)))
        pixels = 0
        for crop, samples in zip(
            self._crops, ahead(self._samples, range(len(self)), 64), strict=True
        ):
            left, top, width, height = crop.target
            inside = np.asarray(samples)[top : top + height, left : left + width]
            values = shares(inside).astype(np.float64)
            totals += values.sum((0, 1)), (values**2).sum((0, 1))
            pixels += width * height
        mean, square = totals / pixels
        return mean.tolist(), np.sqrt(np.maximum(square - mean**2, 0)).tolist()

    def _samples(self, index: int, longest: int | None = None) -> Image.Image | Samples:
        """Give an image as the network sees it, or as `picture` says, but not normalised."""
        crop = self._crops[index]
        path = self.path / crop.file
        try:
            photo = self._ready.read(path, self.largest)
        except Exception as err:
            raise ExplgraphError(f"{path}: can't be read any more ({reason(err)})") from err
        if longest is None:
            return self._ready.cut(photo, crop)
        crop, size = own_resolution(crop, self.size, longest)
        return replace(self._ready, size=size).cut(photo, crop)

    def sizes(
        self, files: Iterable[str], largest: int | None, progress: Shown
    ) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
        """Read files once: their sizes ``(width, height)``, and why others can't be read."""
        ready = self._ready
        if ready.channels is None:
            return photo_sizes(self.path, files, largest, progress)
        told = array_sizes(self.path, files, ready.channels, ready.axes, largest, progress)
        if told.whole:
            ready.check_whole(told.whole)
        if told.whole and told.floats:
            warn(
                f"{self.path} holds whole numbers ({told.whole!r}), which are divided by the "
                f"largest of their type, and floats ({told.floats!r}), which are taken as they "
                "are; save all alike if that isn't meant"
            )
        if ready.window is None:
            self._ready = replace(ready, window=told.window)
        return told.sizes, told.broken

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

    def photo_size(self, file: str) -> tuple[int, int] | None:
        """Give a photograph's (width, height) px, None if its file can't be read."""
        if file not in self._photo_sizes and self._ready.channels is None:
            # `from_cuts` looked at no file
            with suppress(Exception):  # Pillow's readers raise almost anything for broken files
                self._photo_sizes[file] = told_size(self.path / file, self.largest)
        elif file not in self._photo_sizes:
            self._photo_sizes |= self.sizes([file], self.largest, False)[0]
        return self._photo_sizes.get(file)

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
        images._ready = Ready.of(ready)
        images.largest = None
        images.skipped = ()
        images.labels = {}
        images._photo_sizes = {}
        images._crops = tuple(
            Crop(name, file, tuple(source), tuple(target))
            for name, (file, source, target) in cuts.items()
        )
        images.names = tuple(cuts)
        images.all_names = frozenset(cuts) | {file for file, _, _ in cuts.values()}
        return images

    def describe(self) -> dict[str, Any]:
        """Give the preprocessing as JSON values: arguments of `ImageFolder` for other images."""
        return self._ready.describe()


def _listed(values: Iterable[str]) -> str:
    """List a few values, and say how many there are more."""
    every = list(values)
    more = f" and {len(every) - 10} more" if len(every) > 10 else ""
    return ", ".join(every[:10]) + more


_Named: TypeAlias = tuple[str, str, Boxed | None]  # name, file, box


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
                f"names (at the shell --list) has {name!r}, which is no image of the folder"
                f"{nearest(name, by_name)}"
            )
        for crop in by_name[name]:
            if crop[0] in kept:
                raise ExplgraphError(
                    f"names (at the shell --list) has {crop[0]!r} more than once; once is enough"
                )
            kept[crop[0]] = crop
    if not kept:
        raise ExplgraphError("names is empty; choose at least one image")
    return list(kept.values())
