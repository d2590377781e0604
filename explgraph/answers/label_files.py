"""Labels, expectations and absences from files.

Attributes are a CSV whose first column is ``name``, with a column for each attribute, of 1 and 0
(or true/false, yes/no). Expectations are a CSV with the columns ``target``, ``source`` and
``relation``: 1 if it is right that the source speaks for the target, -1 against it. Absences are a
CSV with the columns ``name`` and ``part``: images known not to show a part. Labels of one class are
a CSV with the columns ``name`` and ``label``, 1 or 0, or ``class``, its number or name; and, if it
is known, ``present``, 1 or 0: whether the image shows what must not tell the class. Where all
classes are asked for, ``class`` has to be there, or they are the folders that images lie in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from explgraph.errors import ExplgraphError, nearest
from explgraph.evaluation.landmarks import warn_of_strays
from explgraph.textfiles import read_csv, wrong_columns

__all__ = [
    "Labels",
    "folder_classes",
    "read_absent",
    "read_attributes",
    "read_expected",
    "read_labels",
]

T = TypeVar("T")

_YES_NO = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def read_attributes(
    path: str | os.PathLike[str], names: Sequence[str], known: Collection[str] = ()
) -> dict[str, NDArray[np.bool_]]:
    """Read attributes' labels for some images.

    Parameters
    ----------
    path : path
    names : sequence of str
        Of the N images, in any order.
    known : collection of str
        Of images that may be in the file as well, since they are there but weren't chosen.

    Returns
    -------
    dict of str to (N,) bool

    Raises
    ------
    ExplgraphError
        If the file can't be read, has other columns or values, or lacks an image.

    Warns
    -----
    ExplgraphWarning
        If the file has labels for images that aren't there.
    """
    columns, lines = read_csv(path, ())
    if columns[:1] != ["name"] or len(columns) < 3:
        raise wrong_columns(path, "name and at least two attributes", columns)
    labels = _of_images(
        path, lines, names, known,
        lambda line, name, row: [_yes(path, line, name, *cell) for cell in row.items()],
    )  # fmt: skip
    table = np.array([labels[name] for name in names])
    return {column: table[:, k] for k, column in enumerate(columns[1:])}


class Labels(NamedTuple):
    """Labels of one class.

    Attributes
    ----------
    yes : (N,) bool, or None
        Whether the image is of the class; None where classes are given.
    classes : tuple of str
        Of the N images, as they are written; empty where yes and no are given.
    present : (N,) bool, or None
        Whether it shows what must not tell the class; None where that isn't given.
    """

    yes: NDArray[np.bool_] | None
    classes: tuple[str, ...]
    present: NDArray[np.bool_] | None


def read_labels(
    path: str | os.PathLike[str], names: Sequence[str], known: Collection[str] = ()
) -> Labels:
    """Read labels of one class for some images.

    Parameters
    ----------
    path, names, known
        As for `read_attributes`.

    Raises
    ------
    ExplgraphError
        If the file can't be read, has other columns or values, or lacks an image.

    Warns
    -----
    ExplgraphWarning
        If the file has labels for images that aren't there.
    """
    columns, lines = read_csv(path, ())
    what = columns[1] if len(columns) > 1 else ""
    if columns[:1] != ["name"] or what not in ("label", "class") or columns[2:] not in (
        [], ["present"],
    ):  # fmt: skip
        raise wrong_columns(path, "name, label or class, and present if it is known", columns)
    rows = _of_images(path, lines, names, known, lambda line, _name, row: (line, row))

    def said(column: str) -> NDArray[np.bool_]:
        given = ((name, *rows[name]) for name in names)
        return np.array([_yes(path, line, name, column, row[column]) for name, line, row in given])

    return Labels(
        said("label") if what == "label" else None,
        tuple(rows[name][1]["class"].strip() for name in names) if what == "class" else (),
        said("present") if "present" in columns else None,
    )


def _yes(path: str | os.PathLike[str], line: int, name: str, column: str, value: str) -> bool:
    """Read 1 and 0, and what else is written for them."""
    if value.strip().lower() not in _YES_NO:
        raise ExplgraphError(
            f"{str(path)!r}, line {line}: {column!r} of {name!r} must be 1 or 0, got {value!r}"
        )
    return _YES_NO[value.strip().lower()]


def _of_images(
    path: str | os.PathLike[str],
    lines: Iterable[tuple[int, dict[str, str]]],
    names: Sequence[str],
    known: Collection[str],
    value: Callable[[int, str, dict[str, str]], T],
) -> dict[str, T]:
    """Give what a file's lines say of images by name; each of `names` must be there."""
    labels: dict[str, T] = {}
    for line, row in lines:
        name = row.pop("name").strip()
        if name in labels:
            raise ExplgraphError(f"{str(path)!r}, line {line}: {name!r} is there twice")
        labels[name] = value(line, name, row)
    if missing := [name for name in names if name not in labels]:
        raise ExplgraphError(
            f"{str(path)!r} has no labels for {len(missing)} of {len(names)} images, such as "
            f"{missing[0]!r}; label them, or choose images with --list"
        )
    warn_of_strays(f"labels in {str(path)!r}", labels, names, {*names, *known})
    return labels


def read_expected(path: str | os.PathLike[str]) -> dict[tuple[str, str], int]:
    """Read which relations people expect: ``{(target, source): 1 or -1}``.

    Raises
    ------
    ExplgraphError
        If the file can't be read or has other columns or values.
    """
    columns = ("target", "source", "relation")
    expected = {}
    for line, row in read_csv(path, columns)[1]:
        target, source, relation = (row[column].strip() for column in columns)
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
    row_of = {name: i for i, name in enumerate(names)}
    absent: dict[str, NDArray[np.bool_]] = {}
    for line, row in read_csv(path, ("name", "part"))[1]:
        name, part = row["name"].strip(), row["part"].strip()
        if name not in row_of:
            raise ExplgraphError(
                f"{str(path)!r}, line {line} names {name!r}, which the images lack"
                f"{nearest(name, names)}"
            )
        absent.setdefault(part, np.zeros(len(names), dtype=np.bool_))[row_of[name]] = True
    if unknown := sorted(absent.keys() - set(parts)):
        raise ExplgraphError(
            f"{str(path)!r} names the part {unknown[0]!r}{nearest(unknown[0], parts)}; marked are "
            f"{', '.join(parts)}"
        )
    return absent


def folder_classes(names: Sequence[str]) -> list[str] | None:
    """Give the folders that images lie in as their classes; None if they all lie in one.

    Parameters
    ----------
    names : sequence of str
        Of the N images, such as ``robin/12.jpg``.
    """
    folders = [name.rpartition("/")[0].rpartition("/")[2] for name in names]
    return folders if all(folders) and len(set(folders)) > 1 else None
