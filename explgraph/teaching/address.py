"""The page's address: a free port and a random token, the same again after a restart.

A browser that has the page open should find the server again when that was ended or killed and is
started anew. So the folder of the marks keeps port and token, in ``address.json``. Only the user
may read that file (0600); who can read it as this user can read and write the marks themselves, so
the token opens nothing more. A file that others may read, that belongs to somebody else, or that
came here with a copy of the folder from another place counts as nothing: there is a new token then.
"""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from explgraph.atomic import atomic_write

__all__ = ["FILE", "OPENING", "Address"]

FILE = "address.json"
OPENING = "open.html"
_BYTES = 32  # of the token: nobody guesses 256 bits
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")  # what 32 bytes are in base64
_LONGEST = 10_000  # bytes of the file; ours have some hundred


class Address(NamedTuple):
    """Where the page is.

    Attributes
    ----------
    token : str
    port : int
        0 before one was chosen.
    """

    token: str
    port: int

    @property
    def url(self) -> str:
        """The address to open."""
        return f"http://127.0.0.1:{self.port}/{self.token}/"

    @classmethod
    def kept(cls, folder: Path | None) -> Address:
        """Give the address that a folder keeps; else a new token, without a port."""
        new = cls(secrets.token_urlsafe(_BYTES), 0)
        if folder is None:
            return new
        try:
            told = json.loads(_private(folder / FILE))
            token, port = told["token"], told["port"]
            ours = told["of"] == _place(folder)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return new
        well = isinstance(token, str) and _TOKEN.fullmatch(token) and type(port) is int
        return cls(token, port) if ours and well and 0 < port < 2**16 else new

    def keep(self, folder: Path) -> None:
        """Write the address into a folder, for this user only."""
        content = {"token": self.token, "port": self.port, "of": _place(folder)}
        _write_private(folder / FILE, json.dumps(content))

    @contextmanager
    def opening(self, folder: Path | None) -> Iterator[Path]:
        """Give a file, for this user only, that leads browsers to the page; it goes in the end.

        All users of a machine see what programs were started with: the address must not be there.
        """
        with tempfile.TemporaryDirectory() as other:  # private, too
            file = (folder or Path(other)) / OPENING
            _write_private(
                file,
                '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
                f'<meta http-equiv="refresh" content="0; url={self.url}">'
                f'<a href="{self.url}">Teach</a>\n',
            )
            try:
                yield file
            finally:
                file.unlink(missing_ok=True)


def _write_private(file: Path, text: str) -> None:
    """Write a file that only this user may read."""
    with atomic_write(file) as temporary:
        temporary.chmod(0o600)  # while it is empty
        temporary.write_text(text, encoding="utf-8")


def _private(file: Path) -> bytes:
    """Read a file that is this user's alone."""
    handle = os.open(
        file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    )
    with os.fdopen(handle, "rb") as opened:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{file} is no file")
        if os.name == "posix" and (found.st_uid != os.geteuid() or found.st_mode & 0o077):
            raise OSError(f"{file} is not this user's alone")
        return opened.read(_LONGEST)


def _place(folder: Path) -> list[str]:
    """Say which folder of which machine this is."""
    return [platform.node(), os.fsencode(folder.resolve()).decode("utf-8", "backslashreplace")]
