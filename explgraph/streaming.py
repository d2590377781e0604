"""Going over images in blocks: sums, best-of lists and tables that never hold all images.

Mining sees images only through this module. A quantity over images is a generator with one item
for each block of images, handed to `Images`:

    count, moment = images.sum(statistics(maps) for here, maps in ...)

Blocks always begin at multiples of `BLOCK` and are added up in float64, so it makes no
difference (beyond float64's rounding) where maps come from or who works on which block. Memory
depends on a block and on what is summed, not on the number of images; what grows with it, a row
for each image, is kept in a `Table`, in memory for small jobs and in a file otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from explgraph.geometry import Layer

__all__ = ["BLOCK", "Images", "Source", "Table"]

BLOCK = 32
"""Images at a time."""


class Source(Protocol):
    """Where mining takes activations from: `recording.Activations`, or a store on disk.

    Attributes
    ----------
    layers : tuple of Layer
        In the order of execution.
    names : sequence of str
        Of the N images.
    image_size : (int, int)
        ``(H, W)`` px.
    model_fingerprint : str
    """

    @property
    def layers(self) -> tuple[Layer, ...]: ...  # noqa: D102
    @property
    def names(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def image_size(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def model_fingerprint(self) -> str: ...  # noqa: D102

    def blocks(
        self, layer_index: int, size: int | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Go through a layer's maps: which images, and their ``(n, C, H, W)`` float32 >= 0."""
        ...


class Table:
    """A row of float32 numbers, of some shape, for every image.

    Parameters
    ----------
    n : int
        Number of images.
    parts : iterable of (n, ...) float32
        The rows of one block of images after the other.
    file : Path, optional
        Where rows are kept; in memory by default.
    device : torch.device
        Where rows are given.
    """

    def __init__(
        self,
        n: int,
        parts: Iterable[Tensor],
        file: Path | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.device = device
        self._file = file
        self._rows = torch.empty(0)
        row = torch.Size()
        if file is None:
            done = 0
            for part in parts:
                if not done:
                    self._rows = torch.empty((n, *part.shape[1:]), device=device)
                self._rows[done : done + len(part)] = part
                done += len(part)
            row = self._rows.shape[1:]
        else:
            with file.open("wb") as out:
                for part in parts:
                    out.write(part.cpu().contiguous().numpy().data)
                    row = part.shape[1:]
        self.shape = torch.Size((n, *row))

    def read(self, here: slice | Tensor, nodes: slice | Tensor = slice(None)) -> Tensor:
        """Give the rows of some images, of all nodes (the second dimension) or of some."""
        if self._file is None or not math.prod(self.shape):
            rows = self._rows.reshape(self.shape)[here][:, nodes]
        else:
            # opened anew: pages of a map that stays open would count as our memory
            file = np.memmap(self._file, np.float32, "r", shape=tuple(self.shape))
            rows = torch.from_numpy(np.array(file[_plain(here)][:, _plain(nodes)]))
        return rows.to(self.device)


def _plain(index: slice | Tensor) -> slice | np.ndarray:
    """Give an index that numpy takes."""
    return index if isinstance(index, slice) else index.cpu().numpy()


class Images:
    """The images that are mined, in blocks, and what can be gathered over them.

    Parameters
    ----------
    n : int
        Number of images.
    folder : Path, optional
        Where tables are kept; in memory by default.
    device : torch.device
        Where work is done.
    """

    def __init__(
        self, n: int, folder: Path | None = None, device: str | torch.device = "cpu"
    ) -> None:
        self.n = n
        self.device = torch.device(device)
        self._folder = folder
        self._tables = 0

    @property
    def few(self) -> bool:
        """Whether everything about the images may stay in memory."""
        return self._folder is None

    def __iter__(self) -> Iterator[slice]:
        """Go through the blocks."""
        for start in range(0, self.n, BLOCK):
            yield slice(start, min(start + BLOCK, self.n))

    def maps(self, source: Source, layer_index: int) -> Iterator[tuple[slice, Tensor]]:
        """Go through a layer's maps in the same blocks."""
        for here, maps in source.blocks(layer_index, BLOCK):
            yield here, maps.to(self.device)

    def sum(self, parts: Iterable[Sequence[Tensor]]) -> tuple[Tensor, ...]:
        """Add up the blocks' tensors, in float64."""
        total: list[Tensor] = []
        for part in parts:
            if not total:
                total = [value.to(torch.float64, copy=True) for value in part]
            else:
                for sum_, value in zip(total, part, strict=True):
                    sum_ += value
        return tuple(total)

    def largest(self, k: int, parts: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Keep the `k` largest keys of each row, and what belongs to them.

        Parameters
        ----------
        k : int
        parts : iterable of (V, m) and (V, m, ...)
            Keys and values of a block, with any m.

        Returns
        -------
        keys : (V, min(k, all))
            Descending.
        values : (V, min(k, all), ...)
        """
        best: tuple[Tensor, Tensor] | None = None
        for part in parts:
            keys, values = (
                part
                if best is None
                else (torch.cat(pair, 1) for pair in zip(best, part, strict=True))
            )
            best = _largest(k, keys, values)
        if best is None:
            raise ValueError("there are no blocks")
        return best

    def table(self, parts: Iterable[Tensor]) -> Table:
        """Keep a row for every image."""
        self._tables += 1
        file = self._folder / f"{self._tables}.f32" if self._folder else None
        return Table(self.n, parts, file, self.device)

    def mean_of_largest(self, share: float, blocks: Callable[[], Iterable[Tensor]]) -> Tensor:
        """Take the mean of each column's largest values.

        The smallest of them is found exactly, byte by byte: numbers >= 0 are ordered as the
        integers with the same bits.

        Parameters
        ----------
        share : float
            Of the images, rounded up to a whole number of images.
        blocks : callable
            Gives the values of all blocks, ``(n, V)`` float32 >= 0, each time anew.

        Returns
        -------
        (V,) float32
        """
        most = max(1, math.ceil(share * self.n))
        least = left = torch.zeros(0)
        for shift in (24, 16, 8, 0):
            (counts,) = self.sum((_count_bytes(values, least, shift),) for values in blocks())
            if shift == 24:
                least = torch.zeros(len(counts), dtype=torch.int64, device=self.device)
                left = torch.full_like(least, most)
            at_least = counts.flip(1).cumsum(1).flip(1)
            byte = (at_least >= left[:, None]).sum(1) - 1
            above = torch.nn.functional.pad(at_least, (0, 1)).gather(1, byte[:, None] + 1)[:, 0]
            left = left - above.long()
            least = least << 8 | byte
        smallest = least.int().view(torch.float32)
        (above,) = self.sum(
            (torch.where(values > smallest, values, 0.0).double().sum(0),) for values in blocks()
        )
        return ((above + left * smallest.double()) / most).float()


def _largest(k: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Keep the `k` largest keys (V, m) of each row, and their values (V, m, ...)."""
    best, index = keys.topk(min(k, keys.shape[1]), 1)
    rest = values.shape[2:]
    index = index.reshape(*index.shape, *(1 for _ in rest)).expand(*index.shape, *rest)
    return best, values.gather(1, index)


def _count_bytes(values: Tensor, prefix: Tensor, shift: int) -> Tensor:
    """Count a byte's values, ``(V, 256)``, over the numbers whose bits before it are `prefix`."""
    bits = values.contiguous().view(torch.int32).long()
    counted = (bits >> (shift + 8) == prefix) if len(prefix) else torch.ones_like(bits)
    counts = torch.zeros(values.shape[1], 256, device=values.device)
    return counts.scatter_add_(1, (bits >> shift & 255).T, counted.T.float())
