"""Going through images, whatever holds them: normalised batches with names."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    Subset,
)

from explgraph.errors import ExplgraphError
from explgraph.images.ahead import ahead
from explgraph.images.folder import ImageFolder
from explgraph.images.further import WithInputs
from explgraph.whole_numbers import whole

__all__ = [
    "AnyImages",
    "batches",
    "check_batch_size",
    "count",
    "image_names",
    "subset",
]

T = TypeVar("T")
_FEW = 4  # channels; images that are as narrow, and higher, are not the right way round

AnyImages: TypeAlias = (
    "ImageFolder | Tensor | Dataset[Any] | DataLoader[Any] | list[Any] | tuple[Any, ...] "
    "| str | os.PathLike[str] | Image.Image | NDArray[Any]"
)
"""What functions that ask for images take; `explgraph.images.taken` makes the rest of it."""


def count(images: AnyImages) -> int | None:
    """Give the number of images, or None where a source doesn't know it."""
    if isinstance(images, WithInputs):
        return count(images.images)
    if isinstance(images, Tensor):
        _check_plain([images])
    try:
        if isinstance(images, DataLoader):
            _check_order(images)
            batched: Any = images.batch_sampler
            # the last, incomplete batch may be dropped
            if batched is None or batched.drop_last:
                return None
            return len(images.dataset)  # type: ignore[arg-type]
        return len(images)  # type: ignore[arg-type]
    except TypeError:
        return None


def check_batch_size(batch_size: int) -> None:
    """Refuse what is no number of images."""
    whole(batch_size, "batch_size")


def batches(images: AnyImages, batch_size: int) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Go through images in batches.

    Parameters
    ----------
    images : ImageFolder, tensor, Dataset, DataLoader or sequence of tensors
        A tensor is ``(N, C, H, W)`` float and already normalised, as are the items of the others,
        ``(C, H, W)``, or tuples, lists or mappings that begin with one. A loader keeps its own
        batches. Images are named by the source's ``names``, or else "0", "1", ... (with zeros in
        front, so that names sort like numbers).
    batch_size : int

    Yields
    ------
    names : tuple of str
    batch : (n, C, H, W) float32

    Raises
    ------
    ExplgraphError
        If there is no image, they are of different sizes or channels, not float, not finite, or
        come from a loader that gives them in an order of its own.
    """
    check_batch_size(batch_size)
    if isinstance(images, WithInputs):
        start = 0
        for named, plain in batches(images.images, batch_size):
            yield named, images.fed(plain, start)
            start += len(named)
        images.check_length(start)
        return
    names = _names_of(images)
    total = count(images)
    digits = len(str(total - 1)) if total else 6
    start, shape = 0, None
    for batch in _raw_batches(images, batch_size):
        stop = start + len(batch)
        if names is not None and stop <= len(names):
            here = tuple(names[start:stop])
        else:
            here = tuple(str(i).zfill(digits) for i in range(start, stop))
        stacked = _checked_batch(batch, here, shape)
        shape = tuple(stacked.shape[1:])
        yield here, stacked
        start = stop
    if start == 0:
        raise ExplgraphError("images is empty; at least one image is needed")


def image_names(images: AnyImages) -> tuple[str, ...]:
    """Give all images' names, as `batches` gives them.

    Raises
    ------
    ExplgraphError
        If the images can't be counted beforehand.
    """
    total = count(images)
    if total is None:
        raise ExplgraphError(
            "the number of images must be known to write a store; give an ImageFolder, "
            "a tensor, or a Dataset that has a length"
        )
    digits = len(str(total - 1))
    return tuple(_names_of(images) or (str(i).zfill(digits) for i in range(total)))


def subset(images: AnyImages, indices: Sequence[int], batch_size: int) -> AnyImages:
    """Take some of the images, in the order of `indices`; a loader gets batches of `batch_size`."""
    if isinstance(images, WithInputs):
        return WithInputs(subset(images.images, indices, batch_size), **images.of(indices))
    if isinstance(images, ImageFolder):
        return images.subset(indices)
    if isinstance(images, DataLoader):
        _check_order(images)
        return DataLoader(
            Subset(images.dataset, indices),
            batch_size,
            num_workers=images.num_workers,
            collate_fn=images.collate_fn,
        )
    return Subset(images, indices)  # type: ignore[arg-type]


def _raw_batches(images: AnyImages, batch_size: int) -> Iterator[Tensor | list[Any]]:
    """Go through a source in batches: tensors, or lists of items, as they come."""
    if isinstance(images, Tensor):
        if images.ndim != 4:
            raise ExplgraphError(
                f"images must be an (N, C, H, W) tensor, got the shape {tuple(images.shape)}"
            )
        for start in range(0, len(images), batch_size):
            yield images[start : start + batch_size]
    elif isinstance(images, DataLoader):
        _check_order(images)
        whole, start = count(images), 0
        size = getattr(images.batch_sampler, "batch_size", None)
        try:
            for item in images:
                batch = _first(item)
                start += len(batch)
                # as many as were asked for, or what is left
                short = size is not None and len(batch) != size and start != whole
                if short and not isinstance(images.dataset, IterableDataset):
                    raise ExplgraphError(
                        f"images is a DataLoader whose collate_fn gives {len(batch)} images for "
                        f"{size} items, so that names would not line up with images; "
                        "leave out what is broken in the Dataset (torch.utils.data.Subset)"
                    )
                yield batch
        except RuntimeError as err:
            if "equal size" not in str(err):
                raise
            raise ExplgraphError(
                "images are of different sizes, so that the DataLoader can't stack them; "
                f"bring them to one size ({err})"
            ) from err
    elif isinstance(images, Mapping):
        raise ExplgraphError(
            "images is a mapping; give its images alone, such as images['pixel_values'], and what "
            "else the model takes by explgraph.WithInputs(images, NAME=VALUES)"
        )
    elif hasattr(images, "__getitem__") and hasattr(images, "__len__"):
        source: Any = images
        read, length = source.__getitem__, len(source)
        # only an ImageFolder is known to bear several threads
        items = (
            ahead(read, range(length), 2 * batch_size)
            if isinstance(images, ImageFolder)
            else (read(i) for i in range(length))
        )
        yield from _chunks(items, batch_size)
    elif isinstance(images, Dataset):  # an iterable one
        yield from _chunks(iter(images), batch_size)
    else:
        raise ExplgraphError(
            "images must be an ImageFolder, an (N, C, H, W) tensor, a Dataset or a DataLoader, got "
            f"{type(images).__name__}"
        )


def _check_order(loader: DataLoader[Any]) -> None:
    """Refuse a loader that gives its dataset's items in another order than the dataset.

    Positions and names would belong to other images, and another time to others again.
    """
    if isinstance(loader.dataset, IterableDataset):
        if loader.num_workers > 1 and _names_of(loader.dataset) is not None:
            raise ExplgraphError(
                "images is a DataLoader of an iterable dataset with several workers, so that names "
                "would not line up with images; build it with num_workers=0"
            )
        return
    if not getattr(loader, "in_order", True):
        raise ExplgraphError(
            "images is a DataLoader whose workers give batches as soon as they are ready, so that "
            "names would not line up with images; build it with in_order=True"
        )
    batch_sampler: Any = loader.batch_sampler
    sampler: Any = loader.sampler
    if batch_sampler is not None and type(batch_sampler) is not BatchSampler:
        sampler = batch_sampler
    elif batch_sampler is not None:
        sampler = batch_sampler.sampler
    in_order = type(sampler) is SequentialSampler and len(sampler) == len(loader.dataset)  # type: ignore[arg-type]
    if not in_order:
        raise ExplgraphError(
            "images is a DataLoader that shuffles, or takes its images in an order of its "
            f"sampler's ({type(sampler).__name__}), so that names and positions would not line up "
            "with images; build it with shuffle=False and without a sampler, or give the Dataset "
            "itself (torch.utils.data.Subset takes some of its images)"
        )


def _chunks(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Group items."""
    chunk = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _names_of(images: Any) -> list[str] | None:
    """Give the names that a source has for its images, if it has."""
    if isinstance(images, DataLoader):
        # without batches of its own, what the dataset gives are batches
        unbatched = images.batch_size is None and images.batch_sampler is None
        return None if unbatched else _names_of(images.dataset)
    if isinstance(images, WithInputs):
        return _names_of(images.images)
    if isinstance(images, Subset):
        names = _names_of(images.dataset)
        return None if names is None else [names[i] for i in images.indices]
    names = getattr(images, "names", None)
    if isinstance(images, Tensor) or names is None or not hasattr(images, "__len__"):
        return None
    return [str(n) for n in names] if len(names) == len(images) else None


def _first(item: Any) -> Any:
    """Give the image of a dataset's item, which may have labels behind it."""
    while not isinstance(item, Tensor):
        if isinstance(item, Mapping) and item:
            item = next(iter(item.values()))
        elif isinstance(item, (tuple, list)) and item:
            item = item[0]
        else:
            raise ExplgraphError(
                "images must hold tensors, or tuples or mappings that begin with one, but hold "
                f"{type(item).__name__}; photographs of a folder: explgraph.ImageFolder(path); PIL "
                "images of a Dataset: [image for image, *_ in dataset]"
            )
    return item


def _check_plain(tensors: Sequence[Tensor]) -> None:
    """Refuse tensors that hold no plain values."""
    for tensor in tensors:
        kind = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        if tensor.is_nested or tensor.layout != torch.strided or tensor.is_meta:
            raise ExplgraphError(
                f"images must be plain tensors of (C, H, W) each, got one that is "
                f"{'on the device meta' if tensor.is_meta else kind}; bring it into that form "
                "(to_dense(), or a list of tensors)"
            )


def _checked_batch(
    batch: Tensor | list[Any], names: tuple[str, ...], shape: tuple[int, ...] | None
) -> Tensor:
    """Stack a batch's images if they are all that they should be."""
    items = list(batch) if isinstance(batch, Tensor) else [_first(item) for item in batch]
    _check_plain(items)
    for item, name in zip(items, names, strict=True):
        here = tuple(item.shape)
        if len(here) != 3:
            raise ExplgraphError(f"image {name!r} has the shape {here}, expected (C, H, W)")
        if here[2] <= _FEW < min(here[:2]):
            raise ExplgraphError(
                f"image {name!r} has the shape {here}, which seems to be (H, W, C); expected "
                "(C, H, W): image.permute(2, 0, 1)"
            )
        if not item.is_floating_point():
            raise ExplgraphError(
                f"image {name!r} is {str(item.dtype).removeprefix('torch.')}, expected float that "
                "is normalised as the network takes it; use ImageFolder, or images.float() / 255 "
                "less the mean, over the standard deviation"
            )
        shape = shape or here
        if here[0] != shape[0]:
            raise ExplgraphError(
                f"images are of different channels: {name!r} has {here[0]}, those before it "
                f"{shape[0]}"
            )
        if here != shape:
            raise ExplgraphError(
                f"images are of different sizes: {name!r} is {here[1]} x {here[2]}, those before "
                f"it {shape[1]} x {shape[2]}; bring them to one size (ImageFolder does)"
            )
    stacked = batch if isinstance(batch, Tensor) else torch.stack(items)
    stacked = stacked.detach().float()
    if not math.isfinite(stacked.sum().item()):
        for image, name in zip(stacked, names, strict=True):
            if not image.isfinite().all():
                raise ExplgraphError(f"image {name!r} has pixels that are NaN or infinite")
    return stacked
