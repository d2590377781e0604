"""Text files and tables that users give."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Sequence
from typing import Any

from explgraph.errors import ExplgraphError
from explgraph.paths import check_regular, checked_path

__all__ = ["guarded", "read_csv", "read_json", "read_text", "wrong_columns"]

_LONGEST = 500  # characters of what was found that a message quotes

# How spreadsheets recognise formulas, the wide signs of East Asian ones included. Behind a text's
# own apostrophes, too, so that one that `guarded` puts there can be told from them.
_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")


def guarded(value: object) -> object:
    """Put an apostrophe before a text that spreadsheets would take for a formula."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _unguarded(text: str) -> str:
    """Take it away again."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def read_text(path: str | os.PathLike[str], option: str = "", *, escape: bool = False) -> str:
    """Read a text file; errors name it, and the option or argument that it is of.

    With `escape`, bytes that aren't UTF-8, which names of files may have, are kept as Python does.
    """
    found = checked_path(path, option or "path")
    check_regular(found, _shown(path, option), piped=True)
    try:
        text = found.read_bytes()  # ends of lines stay as they are
        return text.decode("utf-8-sig", "surrogateescape" if escape else "strict")
    except OSError as err:
        raise ExplgraphError(
            f"{_shown(path, option)} can't be read: {err.strerror or err}"
        ) from err
    except UnicodeDecodeError as err:
        raise ExplgraphError(f"{_shown(path, option)} isn't a text file (UTF-8)") from err


def read_json(path: str | os.PathLike[str], option: str = "") -> Any:
    """Read a JSON file; errors name it, and the option or argument that it is of."""
    text = read_text(path, option)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as err:
        raise ExplgraphError(f"{_shown(path, option)} isn't JSON: {err}") from err


def read_csv(
    path: str | os.PathLike[str], needed: Sequence[str], option: str = "", *, exact: bool = False
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Read a CSV with a line of columns' names.

    Parameters
    ----------
    path : path
    needed : sequence of str
        Columns that it must have; it may have others.
    option : str
        Or argument, that the file is of.
    exact : bool
        Keep space before values, and names that aren't UTF-8, as `explgraph.rows` writes them.

    Returns
    -------
    columns : list of str
    rows : list of (int, dict)
        Each row's line and its values by column. Space before a value doesn't count, unless
        `exact`. Nor does an apostrophe before what spreadsheets would take for a formula: it is
        how explgraph writes such texts (`guarded`).

    Raises
    ------
    ExplgraphError
        If the file can't be read, lacks a column, or a row has another number of values.
    """
    shown = _shown(path, option)
    # lines may end within quotes
    text = io.StringIO(read_text(path, option, escape=exact), newline="")
    table = csv.reader(text, skipinitialspace=not exact)
    rows = []
    try:
        columns = [_unguarded(column.strip()) for column in next(table, [])]
        if not set(needed) <= set(columns):
            raise wrong_columns(path, ", ".join(needed), columns, option)
        if len(set(columns)) < len(columns):
            twice = next(column for column in columns if columns.count(column) > 1)
            raise ExplgraphError(f"{shown} has the column {twice!r} twice")
        for row in table:
            if row and len(row) != len(columns):
                raise ExplgraphError(
                    f"{shown}, line {table.line_num}: {len(row)} values for {len(columns)} "
                    f"columns, {', '.join(columns)}; numbers have a decimal point, not a comma"
                )
            if row:
                rows.append((table.line_num, dict(zip(columns, map(_unguarded, row), strict=True))))
    except csv.Error as err:
        raise ExplgraphError(f"{shown}, line {table.line_num}: is no CSV ({err})") from err
    return columns, rows


def wrong_columns(
    path: str | os.PathLike[str], needed: str, found: Sequence[str], option: str = ""
) -> ExplgraphError:
    """Say which columns a table must have, and which it has."""
    return ExplgraphError(
        f"{_shown(path, option)} must have the columns {needed} in its first line, found "
        f"{(', '.join(found) or 'nothing')[:_LONGEST]}"
    )


def _shown(path: str | os.PathLike[str], option: str) -> str:
    """Name a file."""
    return f"{option} {str(path)!r}".strip()
