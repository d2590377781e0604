"""The compiled kernel of `mixture`: which tensors it takes, and filters shared out over threads.

The extension ``_kernel`` (kernel.c) is optional: where no compiler was found at installation,
`mixture` works with torch alone, several times as slowly (`told` says which it is). Both give the
same results within rounding. Every filter is summed by one thread in one order, so results don't
depend on the number of threads; threads are Python's, no OpenMP is needed.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import torch
from torch import Tensor

try:
    from explgraph.statistics import _kernel
except ImportError:  # no compiler at installation
    available = False
else:
    available = True

__all__ = ["available", "e_step", "peaks", "serves", "survey", "told"]

# units x patterns that are worth a thread of their own: about a millisecond
_SHARE = 1 << 22


def told() -> str:
    """Say in a line whether the kernel is in use, as `explgraph info` and the benchmarks do."""
    if available:
        return "compiled kernel: in use"
    return "compiled kernel: not there, torch does its work, more slowly (no compiler was found)"


def serves(*tensors: Tensor) -> bool:
    """Whether the kernel is there and takes these tensors: float32, on the CPU, no gradients."""
    return available and all(
        t.dtype == torch.float32
        and t.device.type == "cpu"
        and not (t.requires_grad and torch.is_grad_enabled())
        for t in tensors
    )


def e_step(
    activations: Tensor,
    which: Tensor,
    centre: Tensor,
    sigma: Tensor,
    share: Tensor,
    background: Tensor,
    x: Tensor,
    y: Tensor,
    rest: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Do the work of `mixture.e_step`; shapes as there, the results in its order."""
    n, c, h, w = activations.shape
    filters, k = sigma.shape
    shares = len(share)
    inputs = _ready(
        activations=(activations, (n, c, h, w)),
        which=(which, (filters,)),
        centre=(centre, (n, filters, k, 2)),
        sigma=(sigma, (filters, k)),
        share=(share, (n if shares == n else 1, filters, k)),
        background=(background, (shares, filters)),
        x=(x, (w,)),
        y=(y, (h,)),
    )
    if which.dtype != torch.int64:
        raise ValueError(f"which is {which.dtype}, expected torch.int64")
    if filters and not 0 <= int(which.min()) <= int(which.max()) < c:
        raise ValueError(f"which names maps {which.tolist()}, there are {c}")
    shape = (n, filters, k)
    count, offset, square, total, bound = _empty(shape, (*shape, 2), shape, shape[:2], shape[:2])
    left = _empty((n, filters, h, w))[0] if rest else None
    addresses = [t.data_ptr() for t in (*inputs, count, offset, square, total, bound)]
    addresses.append(0 if left is None else left.data_ptr())

    def work(first: int, last: int) -> None:
        _kernel.e_step(n, c, filters, k, h, w, shares, first, last, *addresses)

    _share(work, filters, n * k * h * w)
    return count, offset, square, total, bound, left


def survey(
    activations: Tensor, expected: Tensor, sigma: float, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Do the work of `mixture.survey`; gives steps, variances and the mass under each Gaussian."""
    n, c, h, w = activations.shape
    k = expected.shape[2]
    inputs = _ready(
        activations=(activations, (n, c, h, w)),
        expected=(expected, (n, c, k, 2)),
        x=(x, (w,)),
        y=(y, (h,)),
    )
    step, variance, mass = _empty((n, c, k, 2), (n, c, k), (n, c, k))
    addresses = [t.data_ptr() for t in (*inputs, step, variance, mass)]

    def work(first: int, last: int) -> None:
        _kernel.survey(n, c, k, h, w, first, last, sigma, *addresses)

    _share(work, c, n * k * h * w)
    return step, variance, mass


def peaks(activations: Tensor, x: Tensor, y: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """Do the work of `mixture.peaks`."""
    n, c, h, w = activations.shape
    middle = torch.stack([x.mean(), y.mean()])
    inputs = _ready(
        activations=(activations, (n, c, h, w)), x=(x, (w,)), y=(y, (h,)), middle=(middle, (2,))
    )
    positions, scores = _empty((n, c, 2), (n, c))
    addresses = [t.data_ptr() for t in (*inputs, positions, scores)]

    def work(first: int, last: int) -> None:
        _kernel.peaks(n, c, h, w, first, last, reach, *addresses)

    _share(work, c, n * h * w)
    return positions, scores


def _ready(**inputs: tuple[Tensor, tuple[int, ...]]) -> list[Tensor]:
    """Lay tensors out as the kernel reads them; it has no way to notice a wrong shape itself."""
    for name, (tensor, shape) in inputs.items():
        if tensor.shape != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
    return [tensor.contiguous() for tensor, _ in inputs.values()]


def _empty(*shapes: tuple[int, ...]) -> list[Tensor]:
    """Make room for what the kernel writes, whatever torch's default type and device are."""
    return [torch.empty(shape, dtype=torch.float32, device="cpu") for shape in shapes]


def _share(work: Callable[[int, int], None], filters: int, cost: int) -> None:
    """Run ``work(first, last)`` over all filters, in pieces that torch's number of threads take.

    Filters that are silent in most images cost little, so there are more pieces than threads.
    """
    threads = min(torch.get_num_threads(), filters, max(1, filters * cost // _SHARE))
    if threads < 2:
        work(0, filters)
        return
    piece = math.ceil(filters / (8 * threads))
    starts = iter(range(0, filters, piece))  # next() is one step under the GIL
    failures: list[BaseException] = []

    def run() -> None:
        try:
            for first in starts:
                work(first, min(first + piece, filters))
        except BaseException as failure:  # raised again below
            failures.append(failure)

    others = [threading.Thread(target=run) for _ in range(threads - 1)]
    for thread in others:
        thread.start()
    run()
    for thread in others:
        thread.join()
    if failures:
        raise failures[0]
