"""What a long run has finished, kept in a folder, so that it goes on there after an interruption.

Mining is a fixed sequence of steps over the images: a sum, a best-of list, a table. A step's result
is kept in a file of its number; started again, mining does the same steps in the same order and
takes the results of those that were finished. So nothing of the algorithm's state is written, and
the graph is the same bit by bit. At most the current pass over the images is lost.

Files appear whole or not at all (`atomic_write`), so a process may be killed at any moment. Each
ends with a checksum of the job, its own name and what is in it: damage, files of two steps that
were exchanged, and those of another job are noticed, also what a power failure left.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load, save
from torch import Tensor

from explgraph.activations.processes import Team
from explgraph.atomic import atomic_write
from explgraph.errors import ExplgraphError
from explgraph.paths import checked_path

__all__ = ["Checkpoint", "discard"]

if TYPE_CHECKING:
    from hashlib import _Hash as Digest

SEAL = 32
"""Bytes at the end of a step's file, of its SHA-256."""
_PIECE = 1 << 20  # bytes read at a time
_JOB = "job.json"
# with what a killed process left half written, which begins with a dot
_OURS = re.compile(r"job\.json|\.job-.*\.json|\.?\d{6}\b.*\.(safetensors|npy)")


class Checkpoint:
    """The finished steps of one job.

    Parameters
    ----------
    folder : path
        Made if it is missing. Several processes may share one or have one each.
    job : dict
        What the results depend on, as plain JSON values.
    team : Team

    Raises
    ------
    ExplgraphError
        If the folder holds another job, or can't be read.
    """

    def __init__(self, folder: str | os.PathLike[str], job: dict[str, Any], team: Team) -> None:
        self._folder = checked_path(folder, "checkpoint")
        self._team = team
        self._steps = 0
        self._job = json.dumps(job, sort_keys=True).encode()
        file = self._folder / _JOB
        if file.exists():
            _check_job(file, job)
        else:
            with atomic_write(file) as path:
                path.write_text(json.dumps(job, indent=1), encoding="utf-8")

    def once(self, compute: Callable[[], Sequence[Tensor]]) -> tuple[Tensor, ...]:
        """Give the next step's result: what was kept of it, or what is computed now."""
        file = self._next(".safetensors")
        kept = file.read_bytes() if self._team.rank == 0 and file.exists() else None
        kept = self._team.first(kept)
        if kept is not None:
            digest = self._digest(file)
            digest.update(kept[:-SEAL])
            _check_seal(file, digest, kept[-SEAL:])
            values = load(kept[:-SEAL])
            return tuple(values[str(i)] for i in range(len(values)))
        result = tuple(compute())
        if self._team.rank == 0:
            content = save({str(i): v.detach().cpu().contiguous() for i, v in enumerate(result)})
            digest = self._digest(file)
            digest.update(content)
            with atomic_write(file) as path:
                path.write_bytes(content + digest.digest())
        return result

    def table(self, rows: range) -> tuple[Path, bool, Digest]:
        """Name the file of the next step's table, and say whether all processes have theirs.

        Parameters
        ----------
        rows : range
            Those that this process has.

        Returns
        -------
        file : Path
        done : bool
        digest : hashlib's
            Who writes the file goes on with it over the content, and ends the file with it.

        Raises
        ------
        ExplgraphError
            If the file is there, but damaged or not in its place.
        """
        file = self._next(f"-{rows.start}-{rows.stop}.npy")
        if file.exists():
            digest, left = self._digest(file), file.stat().st_size - SEAL
            with file.open("rb") as content:
                while left > 0 and (piece := content.read(min(_PIECE, left))):
                    digest.update(piece)
                    left -= len(piece)
                _check_seal(file, digest, content.read())
        return file, self._team.all_of(file.exists()), self._digest(file)

    def _digest(self, file: Path) -> Digest:
        """Begin a checksum of what is in a step's file."""
        return hashlib.sha256(self._job + file.name.encode())

    def _next(self, ending: str) -> Path:
        self._steps += 1
        return self._folder / f"{self._steps:06d}{ending}"


def _check_seal(file: Path, digest: Digest, seal: bytes) -> None:
    """Refuse a file that doesn't end with the checksum that it should."""
    if digest.digest() != seal:
        raise ExplgraphError(
            f"the checkpoint {str(file)!r} is damaged, or not in its place; delete its folder"
        )


def _check_job(file: Path, job: dict[str, Any]) -> None:
    """Refuse a folder in which another job has begun, and say what differs."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as err:
        raise ExplgraphError(
            f"the checkpoint {str(file)!r} can't be read ({err}); delete its folder"
        ) from err
    plain = json.loads(json.dumps(job))
    if kept != plain:
        names = sorted(plain.keys() | (kept.keys() if isinstance(kept, dict) else set()))
        differing = [n for n in names if not isinstance(kept, dict) or kept.get(n) != plain.get(n)]
        raise ExplgraphError(
            f"the checkpoint in {str(file.parent)!r} is of another job: {', '.join(differing)} "
            "differ; choose another folder, or delete this one"
        )


def discard(folder: str | os.PathLike[str]) -> None:
    """Delete a checkpoint's files, and its folder if nothing else is in it."""
    place = Path(folder)
    for file in place.iterdir() if place.is_dir() else ():
        if _OURS.fullmatch(file.name):
            file.unlink(missing_ok=True)
    with suppress(OSError):
        place.rmdir()
