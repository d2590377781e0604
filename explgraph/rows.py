"""Tables as files: ``.csv``, ``.json`` (a list of rows) or ``.parquet``, by suffix.

Results write themselves by `write` and read themselves by `read`, which checks every value. Numbers
are written as short as they can be to be read back as they were. What isn't known (NaN, None) is an
empty cell of a CSV and null elsewhere. In a CSV a text that spreadsheets would take for a formula,
for it begins with ``=``, ``+``, ``-`` or ``@``, has an apostrophe before it; `read` takes it away,
as does all that reads a CSV (`explgraph.textfiles`).
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explgraph.atomic import atomic_write
from explgraph.errors import ExplgraphError
from explgraph.suffixes import TABLES, check_suffix
from explgraph.textfiles import guarded, read_csv, read_json

__all__ = [
    "Columns",
    "columns_of",
    "finite",
    "grid",
    "pandas",
    "read",
    "read_grid",
    "write",
]

Columns = Mapping[str, NDArray[Any]]
"""Of equal length, by name; texts are of dtype object."""


def write(path: str | os.PathLike[str], columns: Columns) -> None:
    """Write a table in the format of the path's suffix, whole or not at all.

    Raises
    ------
    ExplgraphError
        If the suffix isn't known, the file can't be written, or it is a .parquet and pandas and
        pyarrow aren't there.
    """
    suffix = check_suffix(path, TABLES)
    if suffix == ".parquet":
        frame = _pandas(path).DataFrame(dict(columns))
        with atomic_write(path) as temporary:
            frame.to_parquet(temporary, index=False)
        return
    plain = [_plain(column, suffix) for column in columns.values()]
    # names of files that aren't UTF-8 come out as they are on disk
    with (
        atomic_write(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        if suffix == ".csv":
            table = csv.writer(file, lineterminator="\n")
            table.writerow(map(guarded, columns))
            # before Python 3.13 a lone \r is not quoted if lines end with \n, and breaks its row
            quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
            for row in zip(*plain, strict=True):
                broken = any(isinstance(value, str) and "\r" in value for value in row)
                (quoted if broken else table).writerow(row)
        else:
            lines = (json.dumps(dict(zip(columns, row, strict=True)), allow_nan=False)
                     for row in zip(*plain, strict=True))  # fmt: skip
            file.write("[\n" + ",\n".join(lines) + "\n]\n")


def grid(
    outer: tuple[str, Sequence[object]],
    inner: tuple[str, Sequence[object]],
    values: Columns,
) -> dict[str, NDArray[Any]]:
    """Give the columns of arrays over two names, (N, M): all M rows of the first of N, and so on.

    Parameters
    ----------
    outer, inner : (str, sequence)
        Columns' names and the N and M names or numbers in them.
    values : mapping of str to (N, M)
    """
    (first, n_values), (second, m_values) = outer, inner
    names = {
        first: np.repeat(_as_column(n_values), len(m_values)),
        second: np.tile(_as_column(m_values), len(n_values)),
    }
    return names | {name: np.asarray(array).ravel() for name, array in values.items()}


def _as_column(values: Sequence[object]) -> NDArray[Any]:
    return np.array(values, dtype=object if any(isinstance(v, str) for v in values) else None)


def read_grid(
    path: str | os.PathLike[str],
    outer: tuple[str, type],
    inner: tuple[str, type],
    kinds: Mapping[str, type],
    **options: Collection[str],
) -> tuple[tuple[Any, ...], tuple[Any, ...], dict[str, NDArray[Any]]]:
    """Read a table of which `grid` gave the columns.

    Parameters
    ----------
    path : path
    outer, inner : (str, type)
        Columns' names and types.
    kinds : mapping of str to type
        Of the values; these and ``options`` are those of `read`.

    Returns
    -------
    tuple, tuple, dict of str to (N, M)
        Names by first appearance, and values.

    Raises
    ------
    ExplgraphError
        As `read`, and if any two names don't meet in just one row.
    """
    table = read(path, {**dict((outer, inner)), **kinds}, **options)
    first, second = table.pop(outer[0]).tolist(), table.pop(inner[0]).tolist()
    n_index, m_index = (
        {name: i for i, name in enumerate(dict.fromkeys(c))} for c in (first, second)
    )
    n, m = len(n_index), len(m_index)
    place = [n_index[a] * m + m_index[b] for a, b in zip(first, second, strict=True)]
    order = np.argsort(place)
    if not np.array_equal(np.array(place)[order], np.arange(n * m)):
        raise ExplgraphError(
            f"path {str(path)!r} has {len(place)} rows for {n} in the column {outer[0]!r} and {m} "
            f"in {inner[0]!r}; expected each of the one once with each of the other; write it again"
        )
    values = {name: column[order].reshape(n, m) for name, column in table.items()}
    return tuple(n_index), tuple(m_index), values


def columns_of(table: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Turn rows into columns; None stays None among texts."""
    columns = {}
    for name in table[0] if table else ():
        values = [row[name] for row in table]
        text = any(isinstance(value, str | None) for value in values)
        columns[name] = np.array(values, dtype=object if text else None)
    return columns


def finite(table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put null, which JSON has, in place of NaN, which it lacks."""
    return [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in table
    ]


def _plain(column: NDArray[Any], suffix: str) -> list[Any]:
    """Give a column's values as csv and json take them."""
    if column.dtype.kind == "f":
        texts = column.astype(str).tolist()  # the shortest that give the number back
        if suffix == ".json":
            return [float(t) if math.isfinite(float(t)) else None for t in texts]
        return ["" if text == "nan" else text for text in texts]
    if column.dtype.kind == "b" and suffix == ".csv":
        return ["true" if value else "false" for value in column.tolist()]
    values: list[Any] = column.tolist()
    return list(map(guarded, values)) if suffix == ".csv" else values


def read(
    path: str | os.PathLike[str],
    kinds: Mapping[str, type],
    *,
    gaps: Collection[str] = (),
    optional: Collection[str] = (),
) -> dict[str, NDArray[Any]]:
    """Read a table that `write` wrote, or another program with the same columns.

    Parameters
    ----------
    path : path
    kinds : mapping of str to type
        The columns that there must be, of str, bool, int or float; others are left out.
    gaps : collection of str
        Columns in which values may be missing: texts are None then, numbers NaN.
    optional : collection of str
        Columns that may be missing; then they are left out.

    Returns
    -------
    dict of str to array
        In the order of `kinds`; object, bool, int64 or float64.

    Raises
    ------
    ExplgraphError
        If the file can't be read, is no such table, has no row, or a value is missing or of
        another type; the message names the place.
    """
    suffix = check_suffix(path, TABLES)
    shown = repr(str(path))
    columns, rows = _READERS[suffix](path)
    kinds = {name: kinds[name] for name in kinds if name in columns or name not in optional}
    if missing := [name for name in kinds if name not in columns]:
        raise ExplgraphError(
            f"path {shown} lacks the column {missing[0]!r}; expected {', '.join(kinds)}, found "
            f"{', '.join(map(str, columns)) or 'nothing'}; give a file of this kind of result"
        )
    where = [columns.index(name) for name in kinds]
    found: list[list[Any]] = [[] for _ in kinds]
    entry = "row" if suffix != ".csv" else "line"
    for number, row in rows:
        for (name, kind), at, values in zip(kinds.items(), where, found, strict=True):
            values.append(_value(row[at], kind, name in gaps, f"{shown}, {entry} {number}: {name}"))
    if not found or not found[0]:
        raise ExplgraphError(f"path {shown} has no rows; expected one at least")
    return {
        name: np.array(values, dtype=object if kind is str else kind)
        for (name, kind), values in zip(kinds.items(), found, strict=True)
    }


_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_CALLED = {str: "a text", bool: "true or false", int: "a whole number", float: "a finite number"}


def _value(value: Any, kind: type, gap: bool, where: str) -> Any:
    """Read a cell: a text of a CSV, or what JSON or pandas made of one."""
    if gap and (value is None or value == "" or value != value):
        return None if kind is str else math.nan
    try:
        if kind is str and isinstance(value, str):
            return value
        if kind is bool:
            return _FLAGS[str(value).lower()]
        if kind is int and not isinstance(value, (bool, float)) and abs(int(value)) < 2**63:
            return int(value)
        if kind is float and not isinstance(value, bool) and math.isfinite(float(value)):
            return float(value)
    except (TypeError, ValueError, KeyError, OverflowError):
        pass
    raise ExplgraphError(f"{where} is {value!r}; expected {_CALLED[kind]}; write the file again")


_Rows = tuple[list[str], Iterable[tuple[int, Sequence[Any]]]]


def _read_json(path: str | os.PathLike[str]) -> _Rows:
    """Read a list of objects."""
    content = read_json(path, "path")
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise ExplgraphError(
            f"path {str(path)!r} holds no table; expected a list of rows, [{{COLUMN: VALUE}}]"
        )
    columns = list(content[0]) if content else []

    def rows() -> Iterator[tuple[int, Sequence[Any]]]:
        for number, row in enumerate(content, start=1):
            if row.keys() != set(columns):
                raise ExplgraphError(
                    f"path {str(path)!r}, row {number}: columns {', '.join(row)}; expected "
                    f"{', '.join(columns)}, as in the first row"
                )
            yield number, [row[name] for name in columns]

    return columns, rows()


def _read_parquet(path: str | os.PathLike[str]) -> _Rows:
    """Read a Parquet file by pandas."""
    pandas = _pandas(path)
    try:
        frame = pandas.read_parquet(path)
    except (OSError, ValueError) as err:  # pyarrow's errors are among these
        raise ExplgraphError(f"path {str(path)!r} can't be read as Parquet: {err}") from err
    columns = [frame[name].tolist() for name in frame]
    return list(frame), enumerate(zip(*columns, strict=True), start=1)


def _read_csv(path: str | os.PathLike[str]) -> _Rows:
    """Read a CSV in which names may be no UTF-8."""
    columns, rows = read_csv(path, (), exact=True)
    return columns, ((line, list(row.values())) for line, row in rows)


_READERS: Mapping[str, Callable[[str | os.PathLike[str]], _Rows]] = {
    ".csv": _read_csv,
    ".json": _read_json,
    ".parquet": _read_parquet,
}


def pandas() -> Any:
    """Give pandas, for `to_frame`.

    Raises
    ------
    ExplgraphError
        If it isn't installed.
    """
    try:
        import pandas as installed
    except ImportError as err:
        raise ExplgraphError(
            "to_frame() needs pandas, which isn't installed: pip install 'explgraph[pandas]'"
        ) from err
    return installed


def _pandas(path: str | os.PathLike[str]) -> Any:
    """Give pandas, if it can do Parquet."""
    try:
        import pandas
        import pyarrow  # noqa: F401
    except ImportError as err:
        raise ExplgraphError(
            f"path {str(path)!r}: .parquet needs pandas and pyarrow, and {err.name} isn't "
            "installed: pip install 'explgraph[parquet]', or write .csv or .json"
        ) from err
    return pandas
