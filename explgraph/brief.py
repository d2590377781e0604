"""Many names in a few words, for what tells of itself in a line: results' ``repr``."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["few"]

_LONGEST = 40  # letters of a name


def few(names: Iterable[object], most: int = 3) -> str:
    """Name the first of some things, and say how many more there are.

    Examples
    --------
    >>> few(["head", "tail", "left wing", "right wing", "beak"])
    'head, tail, left wing and 2 more'
    """
    told = [str(name) for name in names]
    shown = ", ".join(
        name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}..." for name in told[:most]
    )
    more = len(told) - most
    return f"{shown} and {more:,} more" if more > 0 else shown or "none"
