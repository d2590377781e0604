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
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from explgraph.brief import counted
from explgraph.errors import ExplgraphError, nearest, warn
from explgraph.images.ahead import ahead
from explgraph.paths import check_regular, checked_path
from explgraph.progress import Shown, bar
from explgraph.textfiles import read_csv

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PREPROCESSING",
    "ImageFolder",
    "check_source",
    "made_ready",
    "normalised",
    "photo_sizes",
]

Box: TypeAlias = Sequence[float]
Boxes: TypeAlias = Mapping[str, "Box | Sequence[Box]"]

_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
    | {".pgm", ".pbm", ".jp2", ".avif"}
)
# photographs that Pillow alone doesn't read
_UNREADABLE = frozenset(
    {".heic", ".heif", ".jxl", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"}
)
PREPROCESSING = ("size", "mean", "std", "fit", "crop", "interpolation")
"""Arguments of `ImageFolder` that say how a photograph is made ready."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class _Crop:
    """One image: which part of which photograph goes where.

    ``source`` (x0, y0, x1, y1) px of the photograph is drawn on ``target`` (left, top, width,
    height) px of the network's image.
    """

    name: str
    file: str
    source: tuple[float, float, float, float]
    target: tuple[int, int, int, int]


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
    crop : float
        With ``fit="crop"``, the share of the shorter side that is kept, 0 to 1: many networks are
        evaluated on the middle 0.875 (`explgraph.preprocessing` tells a model's).
    interpolation : {"bilinear", "bicubic", "lanczos", "box", "nearest"}
        How colours between pixels are found, which networks were trained with one of.
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
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        fit: Literal["stretch", "crop", "pad"] = "stretch",
        crop: float = 1.0,
        interpolation: str = "bilinear",
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
        self.crop, self.interpolation = _checked_cut(fit, crop, interpolation)
        files = _image_files(self.path)
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
            _placed(name, file, box, sizes[file], self.size, fit, self.crop)
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
            f"ImageFolder({str(self.path)!r}, {counted(len(self), 'image')}, {height} x {width}, "
            f"{self.fit})"
        )

    def picture(self, index: int) -> Image.Image:
        """Give an image as the network sees it, but not normalised: RGB, for drawings."""
        crop = self._crops[index]
        try:
            photo = _upright_rgb(self.path / crop.file)
        except Exception as err:
            raise ExplgraphError(
                f"{self.path / crop.file}: can't be read any more ({_reason(err)})"
            ) from err
        return _fitted(photo, crop, self.size, self.mean, self.interpolation)

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
        return _to_original(self._crops[index], at)

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
                    f"{self.path / file}: can't be read any more ({_reason(err)})"
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
        images.crop, images.interpolation = _checked_cut(
            images.fit, ready.get("crop", 1.0), ready.get("interpolation", "bilinear")
        )
        images.skipped = ()
        images._crops = tuple(
            _Crop(name, file, tuple(source), tuple(target))
            for name, (file, source, target) in cuts.items()
        )
        images.names = tuple(cuts)
        return images

    def describe(self) -> dict[str, Any]:
        """Give the preprocessing as JSON values: arguments of `ImageFolder` for other images."""
        ready: dict[str, Any] = {
            "size": list(self.size),
            "mean": list(self.mean),
            "std": list(self.std),
            "fit": self.fit,
        }
        # stores and graphs of before these were there are to count as made ready alike
        if self.crop != 1:
            ready["crop"] = self.crop
        if self.interpolation != "bilinear":
            ready["interpolation"] = self.interpolation
        return ready


_RESAMPLING: Mapping[str, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}


def _checked_cut(fit: str, crop: float, interpolation: str) -> tuple[float, str]:
    """Refuse a share that is none, or that nothing is cut to, and an unknown interpolation."""
    _choice("interpolation", interpolation, tuple(_RESAMPLING))
    if isinstance(crop, bool) or not isinstance(crop, (int, float)) or not 0 < crop <= 1:
        raise ExplgraphError(f"crop must be a share above 0, 1 at most, got {crop!r}")
    if crop != 1 and fit != "crop":
        raise ExplgraphError(f'crop={crop} goes with fit="crop"; got fit={fit!r}')
    return float(crop), interpolation


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


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Give a key that sorts "2" before "10"."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(p)) if i % 2 else (1, p.casefold()) for i, p in enumerate(parts)] + [(1, name)]


def _image_files(path: Path) -> list[str]:
    """List the image files of a folder and its subfolders."""
    if not path.is_dir():
        what = "is a file" if path.exists() else "doesn't exist"
        raise ExplgraphError(f"{path} {what}; pass the folder that holds the images")
    try:
        os.scandir(path).close()
    except OSError as err:
        raise ExplgraphError(f"{path} can't be read: {err.strerror or err}") from err

    def refuse(err: OSError) -> None:
        raise ExplgraphError(
            f"the folder {err.filename} can't be read ({err.strerror or err}); its images would be "
            "missing: make it readable, or move it away"
        ) from err

    found: list[Path] = []
    others: list[Path] = []
    been: set[str] = set()  # links may lead back
    for folder, folders, files in os.walk(path, followlinks=True, onerror=refuse):
        here = os.path.realpath(folder)
        folders[:] = [] if here in been else [f for f in folders if not f.startswith(".")]
        if here in been:
            continue
        been.add(here)
        for file in files:
            suffix = Path(file).suffix.lower()
            if file.startswith(".") or suffix not in _SUFFIXES | _UNREADABLE:
                continue
            (found if suffix in _SUFFIXES else others).append(Path(folder) / file)
    for one in found:
        if one.exists() and not one.is_file():
            raise ExplgraphError(
                f"{one} is no file (a pipe, a device or a folder); move it away, or name the "
                "images that are meant"
            )
    if others:
        kinds = ", ".join(sorted({one.suffix.lower() for one in others}))
        warn(
            f"{path}: {len(others)} files of kinds that can't be read ({kinds}) are left out, the "
            f"first {others[0].relative_to(path).as_posix()!r}; save them as .jpg or .png"
        )
    if not found:
        raise ExplgraphError(
            f"{path} holds no image; files ending in {', '.join(sorted(_SUFFIXES))} are looked for"
        )
    return sorted((one.relative_to(path).as_posix() for one in found), key=_natural)


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


def photo_sizes(
    folder: Path, files: Iterable[str], progress: Shown
) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Decode all photographs once: sizes ``(width, height)``, and why others are unreadable."""

    def check(file: str) -> tuple[int, int] | str:
        try:
            with Image.open(folder / file) as photo:
                width, height = photo.size
                if photo.format == "JPEG":
                    turned = photo.getexif().get(0x0112, 1) in (5, 6, 7, 8)
                    photo.draft("RGB", (1, 1))  # the file is read whole all the same, but faster
                    photo.load()
                    return (height, width) if turned else (width, height)
                most = _most_told(photo)
                upright = ImageOps.exif_transpose(photo)
                if upright.mode.startswith("I;16") and not most:
                    peaks.append(int(np.asarray(upright).max()))
                _eight_bits(upright, most)
            return upright.size
        except Exception as err:  # Pillow's readers raise almost anything for broken files
            return _reason(err)

    sizes, broken = {}, {}
    peaks: list[int] = []  # of photographs of 16 bits
    files = list(files)
    checked = bar(
        zip(files, ahead(check, files, 64), strict=True),
        shown=progress,
        desc="checking",
        total=len(files),
        unit="file",
    )
    for file, found in checked:
        if isinstance(found, str):
            broken[file] = found
        else:
            sizes[file] = found
    if peaks and max(peaks) < 4096:
        warn(
            f"{folder}: the {len(peaks)} photographs of 16 bits reach {max(peaks)} at most, so "
            "they are nearly black; if they are of 10 or 12 bits, scale them up first"
        )
    return sizes, broken


def _reason(err: Exception) -> str:
    """Say in a few words why a file can't be read."""
    if isinstance(err, UnidentifiedImageError):
        return "not an image"
    if isinstance(err, OSError) and err.strerror:
        return err.strerror
    return str(err) or type(err).__name__


def _placed(
    name: str,
    file: str,
    box: Box | None,
    photo: tuple[int, int],
    size: tuple[int, int],
    fit: str,
    share: float = 1.0,
) -> _Crop:
    """Work out which part of a photograph goes where."""
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
    return _Crop(name, file, (x0, y0, x1, y1), target)


def check_source(file: str, source: Sequence[float], photo: tuple[int, int]) -> None:
    """Refuse what isn't in a photograph of this ``(width, height)``: it was another when cut up."""
    if source[2] > photo[0] or source[3] > photo[1]:
        raise ExplgraphError(
            f"{file!r} is {photo[0]} x {photo[1]} px, too small for the box {list(source)} that "
            "is to be cut out of it"
        )


def _fitted(
    photo: Image.Image,
    crop: _Crop,
    size: tuple[int, int],
    mean: Sequence[float],
    interpolation: str,
) -> Image.Image:
    """Cut out of a photograph what the network sees, between margins of the mean colour."""
    left, top, width, height = crop.target
    check_source(crop.file, crop.source, photo.size)
    picture = photo.resize(
        (width, height), _RESAMPLING[interpolation], box=crop.source, reducing_gap=None
    )
    if (height, width) == size:
        return picture
    margin = tuple(min(255, max(0, round(255 * m))) for m in mean)
    canvas = Image.new("RGB", (size[1], size[0]), margin)
    canvas.paste(picture, (left, top))
    return canvas


def _to_original(crop: _Crop, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give points (..., 2) px of an image as points of its photograph."""
    x0, y0, x1, y1 = crop.source
    left, top, width, height = crop.target
    scale = np.array([(x1 - x0) / width, (y1 - y0) / height])
    original: NDArray[np.float64] = np.array([x0, y0]) + (at - [left, top]) * scale
    return original


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
    crop: float = 1.0,
    interpolation: str = "bilinear",
) -> tuple[Image.Image, Tensor, Callable[[NDArray[np.float64]], NDArray[np.float64]]]:
    """Make one photograph ready, as `ImageFolder` does with those of a folder.

    Parameters
    ----------
    photo : path or PIL image
    name : str
        What the image is called.
    size, mean, std, fit, crop, interpolation
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
        whole = _turned(photo) if isinstance(photo, Image.Image) else _upright_rgb(Path(photo))
    except Exception as err:
        raise ExplgraphError(f"image {name!r} can't be read ({_reason(err)})") from err
    height, width = checked_size(size)
    share, interpolation = _checked_cut(fit, crop, interpolation)
    cut = _placed(name, name, None, whole.size, (height, width), fit, share)
    picture = _fitted(whole, cut, (height, width), mean, interpolation)
    return picture, normalised(picture, mean, std), lambda at: _to_original(cut, at)


def _most_told(photo: Image.Image) -> int:
    """Give the largest sample that a TIFF of 16 bits says there is (tag 281); 0 if it doesn't."""
    told = getattr(photo, "tag_v2", {}).get(281, 0)
    most = told[0] if isinstance(told, tuple) else told
    return most if isinstance(most, int) and 255 < most <= 65535 else 0


def _eight_bits(photo: Image.Image, told: int) -> Image.Image:
    """Turn samples that Pillow would clip into 8 bits.

    16 bits are scaled by 65535, or by the most that a TIFF has `told` of; floats from 0 to 1 by
    that, up to 255 not at all.

    Raises
    ------
    ExplgraphError
        If samples lie in another range.
    """
    if photo.mode != "F" and not photo.mode.startswith("I"):
        return photo
    samples = np.asarray(photo)
    low, high = (float(samples.min()), float(samples.max())) if samples.size else (0.0, 0.0)
    if photo.mode == "F":
        most, kind = (1.0 if high <= 1 else 255.0), "floats from 0 to 1 or to 255"
    else:
        most, kind = float(told or 65535), f"whole numbers up to {told or 65535}"
    if not 0 <= low <= high <= most:  # NaN, too
        raise ExplgraphError(
            f"its samples lie from {low:g} to {high:g}; expected {kind}: save it with 8 or 16 bits"
        )
    # whole numbers must not fall to the one below by rounding
    return Image.fromarray(np.floor(samples * 255.0 / most + 1e-4).astype(np.uint8))


def _upright_rgb(path: Path) -> Image.Image:
    """Read a photograph as RGB, the right way up."""
    with Image.open(path) as opened:
        return _turned(opened)


def _turned(opened: Image.Image) -> Image.Image:
    """Give a photograph as RGB, the right way up, white where it is transparent."""
    most = _most_told(opened)
    photo = ImageOps.exif_transpose(opened)
    photo = _eight_bits(photo, most)
    if photo.has_transparency_data:
        photo = photo.convert("RGBA")
        photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo)
    return photo.convert("RGB")
