"""Labels and expectations from files.

Attributes are a CSV whose first column is ``name``, with a column for each attribute, of 1 and 0
(or true/false, yes/no). Expectations are a CSV with the columns ``target``, ``source`` and
``relation``: 1 if it is right that the source speaks for the target, -1 against it. Absences are a
CSV with the columns ``name`` and ``part``: images known not to show a part.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from explgraph.errors import ExplgraphError, nearest
from explgraph.rows import read_csv

__all__ = ["read_absent", "read_attributes", "read_expected"]

_YES_NO = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def read_attributes(
    path: str | os.PathLike[str], names: Sequence[str]
) -> dict[str, NDArray[np.bool_]]:
    """Read attributes' labels for some images.

    Parameters
    ----------
    path : path
    names : sequence of str
        Of the N images; the file may hold others as well, in any order.

    Returns
    -------
    dict of str to (N,) bool

    Raises
    ------
    ExplgraphError
        If the file can't be read, has other columns or values, or lacks an image.
    """
    columns, rows = _read(path)
    if columns[:1] != ["name"] or len(columns) < 3:
        raise ExplgraphError(
            f"{str(path)!r} must have the columns name and at least two attributes in its first "
            f"line, found {', '.join(columns) or 'nothing'}"
        )
    labels: dict[str, list[bool]] = {}
    for line, row in rows:
        if row[0] in labels:
            raise ExplgraphError(f"{str(path)!r}, line {line}: {row[0]!r} is there twice")
        for column, value in zip(columns[1:], row[1:], strict=True):
            if value.lower() not in _YES_NO:
                raise ExplgraphError(
                    f"{str(path)!r}, line {line}: {column!r} of {row[0]!r} must be 1 or 0, got "
                    f"{value!r}"
                )
        labels[row[0]] = [_YES_NO[value.lower()] for value in row[1:]]
    missing = [name for name in names if name not in labels]
    if missing:
        raise ExplgraphError(
            f"{str(path)!r} has no labels for {len(missing)} of {len(names)} images, such as "
            f"{missing[0]!r}; label them, or choose images with --list"
        )
    table = np.array([labels[name] for name in names])
    return {column: table[:, k] for k, column in enumerate(columns[1:])}


def read_expected(path: str | os.PathLike[str]) -> dict[tuple[str, str], int]:
    """Read which relations people expect: ``{(target, source): 1 or -1}``.

    Raises
    ------
    ExplgraphError
        If the file can't be read or has other columns or values.
    """
    columns, rows = _read(path)
    if columns != ["target", "source", "relation"]:
        raise ExplgraphError(
            f"{str(path)!r} must have the columns target, source, relation in its first line, "
            f"found {', '.join(columns) or 'nothing'}"
        )
    expected = {}
    for line, (target, source, relation) in rows:
        if relation not in ("1", "+1", "-1"):
            raise ExplgraphError(
                f"{str(path)!r}, line {line}: relation must be 1 or -1, got {relation!r}"
            )
        expected[target, source] = int(relation)
    return expected


def read_absent(
    path: str | os.PathLike[str], names: Sequence[str], parts: Collection[str]
) -> dict[str, NDArray[np.bool_]]:
    """Read which images are known not to show a part.

    Parameters
    ----------
    path : path
    names : sequence of str
        Of the N images.
    parts : collection of str
        Those that are marked.

    Returns
    -------
    dict of str to (N,) bool
        By part, as `explgraph.Localizer.fit` takes it.

    Raises
    ------
    ExplgraphError
        If the file can't be read, has other columns, or names another image or part.
    """
    columns, rows = _read(path)
    if not {"name", "part"} <= set(columns):
        raise ExplgraphError(
            f"{str(path)!r} must have the columns name, part in its first line, found "
            f"{', '.join(columns) or 'nothing'}"
        )
    row_of = {name: i for i, name in enumerate(names)}
    absent: dict[str, NDArray[np.bool_]] = {}
    for line, values in rows:
        row = dict(zip(columns, values, strict=True))
        if row["name"] not in row_of:
            raise ExplgraphError(
                f"{str(path)!r}, line {line} names {row['name']!r}, which the images lack"
                f"{nearest(row['name'], names)}"
            )
        flags = absent.setdefault(row["part"], np.zeros(len(names), dtype=np.bool_))
        flags[row_of[row["name"]]] = True
    if unknown := sorted(absent.keys() - set(parts)):
        raise ExplgraphError(
            f"{str(path)!r} names the part {unknown[0]!r}{nearest(unknown[0], parts)}; marked are "
            f"{', '.join(parts)}"
        )
    return absent


def _read(path: str | os.PathLike[str]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read a CSV without the spaces around its values."""
    columns, rows = read_csv(path)
    return columns, [(line, [value.strip() for value in row]) for line, row in rows]
