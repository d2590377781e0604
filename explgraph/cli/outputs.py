"""Where results go: files that can be written, tables in them and on the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from explgraph.atomic import atomic_write
from explgraph.errors import ExplgraphError
from explgraph.views.suffixes import SUFFIXES

__all__ = ["check_folder", "check_graph_suffix", "finite", "open_table", "print_table"]


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


def check_graph_suffix(out: Path) -> None:
    """Refuse files that no graph is written to."""
    if out.suffix.lower() not in (*SUFFIXES, ".explgraph"):
        raise ExplgraphError(
            f"can't write {str(out)!r}: suffix {out.suffix!r}; expected one of "
            f"{', '.join(SUFFIXES)} or .explgraph"
        )


def open_table(path: Path) -> TextIO:
    """Open a .csv for writing; names of files that aren't UTF-8 come out as they are on disk."""
    return path.open("w", newline="", encoding="utf-8", errors="surrogateescape")


def finite(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put null, which JSON has, in place of NaN, which it lacks."""
    return [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in rows
    ]


def print_table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> None:
    """Print columns of text, aligned."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        aligned = (cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        print("  ".join(aligned).rstrip())
