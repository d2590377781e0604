"""Going over images in blocks: sums, best-of lists and tables that never hold all images.

The steps of mining see images only through this module. A quantity over images is a generator with
one item for each block of images, handed to `Images`:

    count, moment = images.sum(statistics(maps) for here, maps in ...)

Blocks always begin at multiples of `BLOCK` and are added up in float64, so it makes no
difference (beyond float64's rounding) where maps come from or who works on which block. Memory
depends on a block and on what is summed, not on the number of images; what grows with it, a row
for each image, is kept in a `Table`, in memory for small jobs and in a file otherwise.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explgraph.activations.checkpoint import Checkpoint
from explgraph.activations.processes import Team
from explgraph.atomic import atomic_write
from explgraph.errors import ExplgraphError
from explgraph.network.geometry import Layer

if TYPE_CHECKING:
    from hashlib import _Hash as Digest

__all__ = ["BLOCK", "Images", "Source", "Table"]

BLOCK = 32
"""Images at a time."""
_GROUP = 256  # at a time in matrix products over images alone, which like them long
_MANY = 1000  # images from which on there are such groups


class Source(Protocol):
    """Where mining takes activations from: `Activations`, or a store on disk.

    Attributes
    ----------
    layers : tuple of Layer
        In the order of execution.
    names : sequence of str
        Of the N images.
    image_size : (int, int)
        ``(H, W)`` px.
    model_fingerprint : str
    fingerprint : str
        Of the activations.
    in_memory : bool
        Whether they are in memory, and so few.
    """

    @property
    def layers(self) -> tuple[Layer, ...]: ...  # noqa: D102
    @property
    def names(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def image_size(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def model_fingerprint(self) -> str: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    @property
    def in_memory(self) -> bool: ...  # noqa: D102

    def blocks(
        self, layer_index: int, size: int | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Go through a layer's maps: which images, and their ``(n, C, H, W)`` float32 >= 0."""
        ...


class Table:
    """A row of float32 numbers, of some shape, for every image of this process.

    Attributes
    ----------
    shape : tuple of int
        Of the rows that there are, ``(n, ...)``.

    Parameters
    ----------
    rows : range
        The images that have a row.
    parts : iterable of (n, ...) float32
        The rows of one block of images after the other; None if the file is there already.
    file : Path, optional
        Where rows are kept (.npy); in memory by default.
    device : torch.device
        Where rows are given.
    digest : hashlib's, optional
        Goes on over what is written, and ends the file.
    """

    def __init__(
        self,
        rows: range,
        parts: Iterable[Tensor] | None,
        file: Path | None = None,
        device: str | torch.device = "cpu",
        digest: Digest | None = None,
    ) -> None:
        self._first = rows.start
        self._device = device
        self._file = file
        self._rows = torch.empty(0)
        if file is None:
            self._rows = _collect(len(rows), parts or (), device)
            self.shape = tuple(self._rows.shape)
            return
        if parts is not None:
            _write(file, len(rows), parts, digest)
        with file.open("rb") as begin:
            np.lib.format.read_magic(begin)
            self.shape = np.lib.format.read_array_header_1_0(begin)[0]

    def read(self, here: slice | Tensor, nodes: slice | Tensor = slice(None)) -> Tensor:
        """Give the rows of some images, of all nodes (the second dimension) or of some."""
        if isinstance(here, slice):
            here = slice(here.start - self._first, here.stop - self._first)
        else:
            here = here - self._first
        if self._file is None:
            return self._rows[here][:, nodes]
        if not math.prod(self.shape):
            empty = torch.empty(self.shape, dtype=torch.float32, device=self._device)
            return empty[here][:, nodes]
        # opened anew: pages of a map that stays open would count as our memory
        file = np.load(self._file, mmap_mode="r")
        # laid out as torch would have it: rounding depends on the order of sums
        values = np.array(file[_plain(here)][:, _plain(nodes)], order="C")
        return torch.from_numpy(values).to(self._device)


def _plain(index: slice | Tensor) -> slice | NDArray[np.int64]:
    """Give an index that numpy takes."""
    return index if isinstance(index, slice) else index.cpu().numpy()


def _collect(n: int, parts: Iterable[Tensor], device: str | torch.device) -> Tensor:
    """Put the rows of blocks into one tensor, without a second copy of all."""
    rows, done = torch.empty(0), 0
    for part in parts:
        if not done:
            rows = torch.empty((n, *part.shape[1:]), dtype=torch.float32, device=device)
        rows[done : done + len(part)] = part
        done += len(part)
    return rows


def _write(file: Path, n: int, parts: Iterable[Tensor], digest: Digest | None) -> None:
    """Write the rows of blocks to a .npy file."""
    with atomic_write(file) as path, path.open("wb") as out:

        def put(content: bytes | memoryview) -> None:
            out.write(content)
            if digest is not None:
                digest.update(content)

        begun = False
        for part in parts:
            if not begun:
                header, begun = io.BytesIO(), True
                about = {"descr": "<f4", "fortran_order": False, "shape": (n, *part.shape[1:])}
                np.lib.format.write_array_header_1_0(header, about)
                put(header.getvalue())
            put(part.cpu().contiguous().numpy().data)
        if digest is not None:
            out.write(digest.digest())  # readers of .npy take no notice of what follows


class Images:
    """The images that are mined, in blocks, and what can be gathered over them.

    With several processes every one of them has a run of blocks of its own, and gathers the same
    over all of them. With a checkpoint, what is gathered is kept, and not gathered again after an
    interruption.

    Attributes
    ----------
    n : int
        Number of images.
    device : torch.device
        Where work is done.

    Parameters
    ----------
    n : int
    folder : Path, optional
        Where tables are kept; in memory by default.
    checkpoint : Checkpoint, optional
        It keeps tables, too.
    team : Team, optional
        The processes; those of ``torch.distributed`` by default, if that was set up.
    device : torch.device

    Raises
    ------
    ExplgraphError
        If there are fewer blocks of images than processes.
    """

    def __init__(
        self,
        n: int,
        *,
        folder: Path | None = None,
        checkpoint: Checkpoint | None = None,
        team: Team | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.n = n
        self.device = torch.device(device)
        self._team = team or Team()
        self._folder = folder
        self._tables = 0
        self._checkpoint = checkpoint
        # shares are made of whole groups, so that these are the same however many share
        self._group = _GROUP if n >= _MANY else BLOCK
        groups = math.ceil(n / self._group)
        if groups < self._team.size:
            raise ExplgraphError(
                f"{n} images are {groups} groups of {self._group}, too few for {self._team.size} "
                f"processes; start at most {groups}"
            )
        share = self._team.share(groups)
        self._rows = range(share.start * self._group, min(share.stop * self._group, n))

    def __iter__(self) -> Iterator[slice]:
        """Go through this process's blocks."""
        return self._runs(BLOCK)

    def groups(self) -> Iterator[slice]:
        """Go through this process's images in larger groups, for what needs no maps."""
        return self._runs(self._group)

    def _runs(self, length: int) -> Iterator[slice]:
        """Go through this process's images, so many at a time."""
        for start in range(self._rows.start, self._rows.stop, length):
            yield slice(start, min(start + length, self._rows.stop))

    def maps(self, source: Source, layer_index: int) -> Iterator[tuple[slice, Tensor]]:
        """Go through a layer's maps in the same blocks."""
        for here, maps in source.blocks(layer_index, BLOCK, self._rows.start, self._rows.stop):
            yield here, maps.to(self.device)

    def keep(self, parts: Iterable[Tensor]) -> Table:
        """Keep a row for every image in memory."""
        return Table(self._rows, parts, device=self.device)

    def table(self, parts: Iterable[Tensor]) -> Table:
        """Keep a row for every image where tables are kept."""
        if self._checkpoint is not None:
            file, done, digest = self._checkpoint.table(self._rows)
            return Table(self._rows, None if done else parts, file, self.device, digest)
        if self._folder is None:
            return self.keep(parts)
        self._tables += 1
        return Table(self._rows, parts, self._folder / f"{self._tables}.npy", self.device)

    def once(self, compute: Callable[[], Sequence[Tensor]]) -> tuple[Tensor, ...]:
        """Give what `compute` gathers, without gathering it again after an interruption."""
        checkpoint, self._checkpoint = self._checkpoint, None  # one step, whatever is in it
        try:
            if checkpoint is None:
                return tuple(compute())
            return tuple(value.to(self.device) for value in checkpoint.once(compute))
        finally:
            self._checkpoint = checkpoint

    def sum(self, parts: Iterable[Sequence[Tensor]]) -> tuple[Tensor, ...]:
        """Add up the blocks' tensors, in float64."""

        def add() -> Sequence[Tensor]:
            total: list[Tensor] = []
            for part in parts:
                if not total:
                    total = [value.to(torch.float64, copy=True) for value in part]
                else:
                    for sum_, value in zip(total, part, strict=True):
                        sum_ += value
            return self._team.sum(total)

        return self.once(add)

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

        def choose() -> tuple[Tensor, Tensor]:
            best: tuple[Tensor, Tensor] | None = None
            for part in parts:
                best = _largest(k, part if best is None else _joined(best, part))
            if best is None:
                raise ValueError("there are no blocks")
            everybodys = map(self._team.gather, _filled(k, *best))
            keys, values = _largest(k, _joined(*zip(*everybodys, strict=True)))
            there = int(self._team.sum([torch.tensor([best[0].shape[1]])])[0])
            return keys[:, :there], values[:, :there]

        keys, values = self.once(choose)
        return keys, values

    def rows(self, table: Table, chosen: Tensor) -> Tensor:
        """Collect a table's rows of some images from all processes: as many as memory bears."""

        def collect() -> Sequence[Tensor]:
            mine = (chosen >= self._rows.start) & (chosen < self._rows.stop)
            shape = (len(chosen), *table.shape[1:])
            rows = torch.zeros(shape, dtype=torch.float32, device=self.device)
            rows[mine] = table.read(chosen[mine])
            return self._team.sum([rows])

        return self.once(collect)[0].float()

    def pick(self, n: int, parts: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Collect `n` rows from all processes, as many as memory bears.

        Parameters
        ----------
        n : int
        parts : iterable of (m,) int64 and (m, ...)
            Which of the rows a block has, and these rows.

        Returns
        -------
        (n, ...) float32
        """

        def collect() -> Sequence[Tensor]:
            rows = torch.empty(0)
            for number, (which, part) in enumerate(parts):
                if not number:
                    rows = torch.zeros(
                        (n, *part.shape[1:]), dtype=torch.float32, device=self.device
                    )
                rows[which] = part
            return self._team.sum([rows])

        return self.once(collect)[0].float()

    def shared(self, n: int, work: Callable[[slice], Sequence[Tensor]]) -> tuple[Tensor, ...]:
        """Share `n` things out among the processes, and put together what each of them gives.

        Parameters
        ----------
        n : int
        work : callable
            Gives a run of things (a slice) tensors with a row for each; the second dimension may be
            longer for some than for others, and is filled up with zeros.

        Returns
        -------
        tuple of (n, ...)
        """

        def compute() -> Sequence[Tensor]:
            if n < self._team.size:  # somebody would have nothing to show
                return work(slice(0, n))
            mine = self._team.share(n)
            parts = work(slice(mine.start, mine.stop))
            whole = []
            for part in parts:
                shape = [n, *part.shape[1:]]
                if part.ndim > 1:
                    width = torch.tensor([part.shape[1]], device=self.device)
                    shape[1] = int(torch.cat(self._team.gather(width)).max())
                full = torch.zeros(shape, dtype=part.dtype, device=part.device)
                full[(slice(mine.start, mine.stop), *(slice(s) for s in part.shape[1:]))] = part
                whole.append(full)
            added = self._team.sum(whole)
            return [value.to(part.dtype) for value, part in zip(added, parts, strict=True)]

        return self.once(compute)


def _joined(*best: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Put lists of keys (V, m) and values (V, m, ...) side by side."""
    keys, values = (torch.cat(parts, 1) for parts in zip(*best, strict=True))
    return keys, values


def _largest(k: int, best: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Keep the `k` largest keys (V, m) of each row, and their values (V, m, ...)."""
    keys, values = best
    chosen, index = keys.topk(min(k, keys.shape[1]), 1)
    rest = values.shape[2:]
    index = index.reshape(*index.shape, *(1 for _ in rest)).expand(*index.shape, *rest)
    return chosen, values.gather(1, index)


def _filled(k: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Fill up to `k` keys in every row with the least."""
    v, m = keys.shape
    missing = values.new_zeros((v, k - m, *values.shape[2:]))
    return _joined((keys, values), (keys.new_full((v, k - m), -torch.inf), missing))
