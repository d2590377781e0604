"""Whole numbers that people give: numpy's are taken, and refused is what would fail further in."""

from __future__ import annotations

from numbers import Integral

from explgraph.errors import ExplgraphError

__all__ = ["checked_seed", "whole"]

_MOST_SEED = 2**40  # mining multiplies seeds to give each layer its own draws


def whole(value: object, argument: str, least: int = 1) -> int:
    """Give a whole number as Python's; refuse what is none, or is too small.

    Raises
    ------
    ExplgraphError
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise ExplgraphError(f"{argument} must be a whole number above {least - 1}, got {value!r}")
    return int(value)


def checked_seed(seed: object) -> int:
    """Give a seed; refuse what random generators don't take.

    Raises
    ------
    ExplgraphError
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= int(seed) < _MOST_SEED:
        raise ExplgraphError(
            f"seed must be a whole number from 0 to {_MOST_SEED - 1}, got {seed!r}"
        )
    return int(seed)
