"""Paths that people give: refused where the operating system would with words of its own."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from explgraph.errors import ExplgraphError

__all__ = ["check_regular", "checked_path", "is_file"]

# where shells put what ``<(command)`` writes
_OF_SHELLS = "/dev/fd/", "/dev/stdin", "/proc/self/fd/"
_LONGEST = 255  # bytes of a name, of every file system in use


def checked_path(path: object, argument: str = "path") -> Path:
    """Give a path; refuse what can be none.

    Raises
    ------
    ExplgraphError
        If it is no str or os.PathLike, is empty, has a NUL character or one that no file system
        can write, or a name in it is too long.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(text, str):
        raise ExplgraphError(f"{argument} must be a path (str or os.PathLike), got {path!r}")
    if not text or "\0" in text:
        raise ExplgraphError(f"{argument} is {text!r}, which no file can be called")
    for name in Path(text).parts:
        try:
            long = len(os.fsencode(name)) > _LONGEST
        except UnicodeEncodeError as err:
            raise ExplgraphError(
                f"{argument} is {text!r}, which no file can be called: half a character"
            ) from err
        if long:
            raise ExplgraphError(
                f"{argument} has a name of {len(name)} characters, {name[:20]!r}...; at most "
                f"{_LONGEST} bytes are possible"
            )
    return Path(text)


def check_regular(path: str | os.PathLike[str], shown: str, *, piped: bool = False) -> None:
    """Refuse pipes and devices, which may keep whoever reads them waiting for ever.

    What isn't there, and folders, are left to whoever opens them.

    Parameters
    ----------
    path : path
    shown : str
        What errors call it.
    piped : bool
        Let through what a shell pipes in.

    Raises
    ------
    ExplgraphError
    """
    if piped and os.fspath(path).startswith(_OF_SHELLS):
        return
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        what = "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
        raise ExplgraphError(f"{shown} is {what}; give a file")


def is_file(path: Path) -> bool:
    """Whether there is a file that may be opened: pipes would wait, devices may do anything."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long; a NUL
        return False
