"""Reading ahead."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ahead"]

S = TypeVar("S")
T = TypeVar("T")
_THREADS = min(4, os.cpu_count() or 1)


def ahead(do: Callable[[S], T], over: Iterable[S], number: int) -> Iterator[T]:
    """Map with a few threads, at most `number` results before they are asked for."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="explgraph-images") as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for value in over:
                waiting.append(pool.submit(do, value))
                if len(waiting) > number:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
