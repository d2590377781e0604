"""Files appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from explgraph.errors import ExplgraphError
from explgraph.paths import checked_path

__all__ = ["atomic_write"]


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary file that replaces `path` if the block succeeds, and vanishes otherwise.

    The temporary file lies in the same folder (which is made if it is missing) and has the same
    suffix, for writers that choose their format by it.

    Raises
    ------
    ExplgraphError
        If the folder can't be made or written to.
    """
    target = checked_path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent
        )
        os.close(handle)
    except OSError as err:
        raise ExplgraphError(
            f"can't write {str(target)!r}: {err.strerror or err}; choose a folder that is writable"
        ) from err
    temporary = Path(name)
    try:
        # mkstemp makes files private; a result should be as readable as any other new file
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        yield temporary
        os.replace(temporary, target)
    except IsADirectoryError as err:
        raise ExplgraphError(f"can't write {str(target)!r}: a folder is in its place") from err
    finally:
        temporary.unlink(missing_ok=True)
