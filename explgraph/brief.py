"""Numbers of things and many names in a few words, for what is told in a line."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["counted", "few"]

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


def counted(number: int, what: str) -> str:
    """Say how many of something there are.

    Examples
    --------
    >>> counted(1, "image"), counted(1200, "class")
    ('1 image', '1,200 classes')
    """
    ending = "" if number == 1 else "es" if what.endswith("s") else "s"
    return f"{number:,} {what}{ending}"
