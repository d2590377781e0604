"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from explgraph.errors import ExplgraphError
from explgraph.paths import checked_path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["atomic_write", "locked"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_STEM = 50  # characters of a long name that tell whose temporary file it is
_swept: set[tuple[Path, str]] = set()  # places in which this process has looked for left-overs


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary file that replaces `path` if the block succeeds, and vanishes otherwise.

    The temporary file lies in the same folder (which is made if it is missing) and has the same
    suffix, for writers that choose their format by it. What a process that was killed left there is
    deleted by the next one that writes the same file.

    Raises
    ------
    ExplgraphError
        If the folder can't be made or written to, or the disk is full.
    """
    target = checked_path(path)
    prefix = f".{target.stem[:_STEM]}-explgraph-"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent, prefix, target.suffix)
        handle, temporary = _begun(target, prefix)
    except OSError as err:
        raise ExplgraphError(
            f"can't write {str(target)!r}: {err.strerror or err}; choose a folder that is writable"
        ) from err
    try:
        # mkstemp makes files private; a result should be as readable as any other new file
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        if fcntl is None:
            os.close(handle)  # Windows doesn't rename what is open
        yield temporary
        os.replace(temporary, target)
    except IsADirectoryError as err:
        raise ExplgraphError(f"can't write {str(target)!r}: a folder is in its place") from err
    except OSError as err:
        if err.errno not in _FULL:
            raise
        raise ExplgraphError(
            f"can't write {str(target)!r}: {err.strerror}; make room, or choose another place"
        ) from err
    finally:
        temporary.unlink(missing_ok=True)
        if fcntl is not None:
            os.close(handle)


def _begun(target: Path, prefix: str) -> tuple[int, Path]:
    """Make a temporary file, and lock it as long as it is being written."""
    while True:
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=target.suffix, dir=target.parent)
        if fcntl is not None:
            with suppress(OSError):  # no locks here: nobody sweeps, either
                fcntl.flock(handle, fcntl.LOCK_EX)
        # somebody may have swept it away before it was locked
        if fcntl is None or os.path.exists(name):
            return handle, Path(name)
        os.close(handle)


def locked(handle: int) -> bool:
    """Lock an open file or folder for this process, until it is closed; False if another has it.

    Where there are no locks (Windows, some network drives), everything counts as another's.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sweep(folder: Path, prefix: str, suffix: str) -> None:
    """Delete temporary files that nobody writes any more."""
    if fcntl is None or (folder / prefix, suffix) in _swept:
        return
    _swept.add((folder / prefix, suffix))
    for entry in os.scandir(folder):
        if entry.name.startswith(prefix) and entry.name.endswith(suffix):
            with suppress(OSError):
                handle = os.open(entry.path, os.O_RDWR | os.O_NOFOLLOW)
                try:
                    if locked(handle):
                        os.unlink(entry.path)
                finally:
                    os.close(handle)
