"""Paths that people give: refused where the operating system would with words of its own."""

from __future__ import annotations

import os
from pathlib import Path

from explgraph.errors import ExplgraphError

__all__ = ["checked_path", "is_file"]

_LONGEST = 255  # bytes of a name, of every file system in use


def checked_path(path: object, argument: str = "path") -> Path:
    """Give a path; refuse what can be none.

    Raises
    ------
    ExplgraphError
        If it is no str or os.PathLike, is empty, has a NUL character, or a name in it is too long.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(text, str):
        raise ExplgraphError(f"{argument} must be a path (str or os.PathLike), got {path!r}")
    if not text or "\0" in text:
        raise ExplgraphError(f"{argument} is {text!r}, which no file can be called")
    for name in Path(text).parts:
        if len(os.fsencode(name)) > _LONGEST:
            raise ExplgraphError(
                f"{argument} has a name of {len(name)} characters, {name[:20]!r}...; at most "
                f"{_LONGEST} bytes are possible"
            )
    return Path(text)


def is_file(path: Path) -> bool:
    """Whether there is a file that may be opened: pipes would wait, devices may do anything."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long; a NUL
        return False
