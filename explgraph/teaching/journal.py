"""A journal on disk: a line for each event, only ever added to; nothing that was written is lost.

Each line is a JSON object, written, flushed and synced before the next step is taken. A kill can
only tear the last line, and what can't be read there is dropped on opening. Damage anywhere else is
no tear, and is refused. One process holds a folder at a time; the lock goes with the process.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from explgraph.atomic import locked
from explgraph.errors import ExplgraphError
from explgraph.paths import check_regular, checked_path

__all__ = ["FILE", "Event", "Journal"]

Event = dict[str, Any]
FILE = "answers.jsonl"
_LOCK = "teaching.lock"


class Journal:
    """The events of a folder, in their order.

    Parameters
    ----------
    folder : path, or None
        Is made if it is missing; with None nothing is written.

    Raises
    ------
    ExplgraphError
        If another process holds the folder, it can't be written to, or its journal is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self.events: list[Event] = []
        self.folder: Path | None = None
        self._file: IO[bytes] | None = None
        self._lock: IO[str] | None = None
        if folder is None:
            return
        self.folder = checked_path(folder, "out")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _hold(self.folder)
            self._open(self.folder / FILE)
        except OSError as err:
            self.close()
            raise ExplgraphError(
                f"can't write to out, {str(folder)!r}: {err.strerror or err}; choose a folder that "
                "is writable"
            ) from err
        except ExplgraphError:
            self.close()
            raise

    def _open(self, path: Path) -> None:
        """Read what there is, and cut off what a kill has torn."""
        check_regular(path, repr(str(path)))
        self._file = path.open("a+b")
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].splitlines(), 1):
            self.events.append(_event(line, f"{str(path)!r}, line {number},"))
        if whole < len(content):
            self._file.truncate(whole)
            os.fsync(self._file.fileno())

    def add(self, event: Mapping[str, Any]) -> Event:
        """Write an event, and give it as reading would give it again.

        Raises
        ------
        ExplgraphError
            If it can't be written; then it did not happen.
        """
        line = json.dumps(event, allow_nan=False, ensure_ascii=True)
        if self._file is not None:
            start = self._file.seek(0, os.SEEK_END)
            try:
                self._file.write(line.encode() + b"\n")
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as err:
                self._back_to(start)
                raise ExplgraphError(
                    f"can't write {str(self._file.name)!r}: {err.strerror or err}; the answer was "
                    "not taken. Make room and give it again"
                ) from err
        elif self.folder is not None:
            raise ExplgraphError("the teacher was closed; open its folder again")
        again: Event = json.loads(line)
        self.events.append(again)
        return again

    def _back_to(self, start: int) -> None:
        """Cut off half a line, by another handle, since this one may hold on to its rest."""
        assert self._file is not None
        path = self._file.name
        with suppress(OSError):  # what it held on to is cut off below
            self._file.close()
        os.truncate(path, start)
        self._file = open(path, "a+b")  # noqa: SIM115

    def close(self) -> None:
        """Let go of the folder."""
        for file in (self._file, self._lock):
            if file is not None:
                file.close()
        self._file = self._lock = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _event(line: bytes, where: str) -> Event:
    """Read a line."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError) as err:
        raise ExplgraphError(
            f"{where} is no JSON ({err}); put a copy of the file in its place, or begin in another "
            "folder"
        ) from err
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise ExplgraphError(f"{where} is no event of a teacher: {line[:80]!r}")
    return event


def _hold(folder: Path) -> IO[str]:
    """Lock a folder for this process, until the file is closed."""
    path = folder / _LOCK
    check_regular(path, repr(str(path)))
    lock = path.open("a+", encoding="utf-8")
    if not _locked(lock.fileno()):
        lock.seek(0)
        holder = lock.read(200).strip() or "another process"
        lock.close()
        raise ExplgraphError(
            f"out, {str(folder)!r}, is being taught in by {holder}; close that teacher, or choose "
            "another folder"
        )
    lock.seek(0)
    lock.truncate()
    lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    lock.flush()
    return lock


def _locked(handle: int) -> bool:
    """Lock a file, by what the system has."""
    if sys.platform == "win32":
        import msvcrt

        try:
            # a byte behind the text, which others may read
            os.lseek(handle, 1000, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    return locked(handle)
