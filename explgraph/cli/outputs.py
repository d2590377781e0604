"""Where results go: files that can be written, and tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from explgraph.atomic import atomic_write
from explgraph.errors import ExplgraphError
from explgraph.suffixes import check_suffix

__all__ = ["check_folder", "check_out", "print_table"]


class _Tried(Exception):
    """Ends a trial of writing."""


def check_folder(file: Path) -> None:
    """Refuse a place that can't be written, before any work is done."""
    if file.is_dir():
        raise ExplgraphError(f"can't write {str(file)!r}: a folder is in its place")
    made = [folder for folder in (file.parent, *file.parent.parents) if not folder.exists()]
    try:
        with suppress(_Tried), atomic_write(file):
            raise _Tried
    finally:
        # what fails later should leave no empty folders behind
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


def check_out(file: str | None, suffixes: Sequence[str], option: str = "--out") -> None:
    """Refuse a file whose suffix isn't known or that can't be written, before any work is done."""
    if file is not None:
        check_suffix(file, suffixes, option)
        check_folder(Path(file))


def print_table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> None:
    """Print columns of text, aligned."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        aligned = (cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        print("  ".join(aligned).rstrip())
