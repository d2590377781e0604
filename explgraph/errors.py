"""What a user is told of mistakes and of what is doubtful."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "ExplgraphError",
    "ExplgraphWarning",
    "MissingPackageError",
    "nearest",
    "one_line",
    "warn",
]


class ExplgraphError(ValueError):
    """Input that explgraph can't work with; the message says what was found and what to do."""


class MissingPackageError(ExplgraphError, ImportError):
    """A module needs a package that isn't there; the message names the extra that brings it."""


class ExplgraphWarning(UserWarning):
    """Something that a user should know, though the result stands."""


_HERE = str(Path(__file__).parent)


def warn(message: str) -> None:
    """Give an `ExplgraphWarning` that names the line outside of explgraph which led to it."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, ExplgraphWarning, stacklevel=level)


def one_line(err: BaseException) -> str:
    """Give an exception's type and text in one line."""
    return f"{type(err).__name__}: {' '.join(str(err).split())}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which of the known names are nearest, as the end of an error message."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    return f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
