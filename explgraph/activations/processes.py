"""Processes that share out the images, on ``torch.distributed``.

Every process runs the same program over its own images; what it sums up is added to what the
others have (`Team.sum`), so that all of them go on with the same numbers. Started by

    torchrun --nproc-per-node P -m explgraph mine ...

or by a program that has called ``torch.distributed.init_process_group`` itself. If a process dies,
torchrun ends the others; what was checkpointed is not lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, distributed

from explgraph.errors import ExplgraphError

__all__ = ["Team", "joined"]

T = TypeVar("T")


class Team:
    """The processes that work together: those of ``torch.distributed``, or this one alone.

    Attributes
    ----------
    size : int
        How many there are.
    rank : int
        Which of them this is, from 0.
    """

    def __init__(self) -> None:
        together = distributed.is_available() and distributed.is_initialized()
        self.size = distributed.get_world_size() if together else 1
        self.rank = distributed.get_rank() if together else 0
        # NCCL exchanges what lies on GPUs only
        on_gpu = together and distributed.get_backend() == "nccl"
        self._device = torch.device("cuda" if on_gpu else "cpu")

    def share(self, n: int) -> range:
        """Give this process's share of `n` things, a run of them."""
        return range(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def sum(self, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Add up tensors of equal shapes over the processes."""
        if self.size == 1:
            return tuple(values)
        flat = torch.cat([value.double().flatten() for value in values]).to(self._device)
        _exchanged(lambda: distributed.all_reduce(flat))
        parts = torch.split(flat.to(values[0].device), [value.numel() for value in values])
        return tuple(p.reshape(v.shape) for p, v in zip(parts, values, strict=True))

    def gather(self, value: Tensor) -> list[Tensor]:
        """Collect tensors of equal shape and type from all processes, in the order of ranks."""
        if self.size == 1:
            return [value]
        sent = value.to(self._device).contiguous()
        parts = [torch.empty_like(sent) for _ in range(self.size)]
        _exchanged(lambda: distributed.all_gather(parts, sent))
        return [part.to(value.device) for part in parts]

    def first(self, content: bytes | None) -> bytes | None:
        """Give everybody what the first process has: bytes, or None."""
        if self.size == 1:
            return content
        length = torch.tensor([-1 if content is None else len(content)], device=self._device)
        _exchanged(lambda: distributed.broadcast(length, 0))
        if length < 0:
            return None
        sent = torch.empty(int(length), dtype=torch.uint8, device=self._device)
        if self.rank == 0 and content:
            sent[:] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        _exchanged(lambda: distributed.broadcast(sent, 0))
        return sent.cpu().numpy().tobytes()

    def all_of(self, truth: bool) -> bool:
        """Whether something is true for every process; all of them wait here for each other."""
        (number,) = self.sum([torch.tensor([int(truth)])])
        return int(number) == self.size


def _exchanged(exchange: Callable[[], T]) -> T:
    """Exchange something with the others; say what it means if that fails."""
    try:
        return exchange()
    except RuntimeError as err:
        reason = str(err).splitlines()[0]
        raise ExplgraphError(
            f"another process has ended or can't be reached ({reason}); its own message says why. "
            "Run the same command again: it goes on where it was"
        ) from err


@contextmanager
def joined(device: str | torch.device = "auto") -> Iterator[Team]:
    """Join the processes that torchrun has started, if it has.

    Parameters
    ----------
    device : str or torch.device
        Where the work is done: by NCCL if that is a GPU ("auto": if there is one), otherwise gloo.

    Yields
    ------
    Team
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        yield Team()
        return
    gpu = torch.cuda.is_available() and str(device) != "cpu"
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    _exchanged(lambda: distributed.init_process_group("nccl" if gpu else "gloo"))
    try:
        yield Team()
    finally:
        distributed.destroy_process_group()
