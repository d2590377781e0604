"""One file for a whole object: what graphs, localizers, biases and trees are saved as.

A zip archive with ``manifest.json`` (format, its version, sha256 of the others), a JSON file
(readable in any editor) and ``*.safetensors`` (arrays). Nothing in it is ever unpickled, only these
three members are read, and none beyond a set size. Equal objects give equal bytes. What is read is
checked whole: by the sums here, and value by value by whoever builds the object (`Arrays`).
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from explgraph.atomic import atomic_write
from explgraph.errors import ExplgraphError
from explgraph.paths import check_regular, checked_path

__all__ = ["Arrays", "Format", "check", "read", "texts", "write"]

T = TypeVar("T")
_MANIFEST = "manifest.json"
_MOST = 2**16, 2**28, 2**33  # bytes of the manifest, the JSON file and the arrays, unpacked
# by which text that people or programs write is compressed at most; blanks are by a thousand
_DENSE = 100
_SMALL = 2**22  # bytes that cost nobody anything, however they are packed
_MOST_NUMBER = 1e60  # what is computed of it must be finite, too


class Format(NamedTuple):
    """A kind of archive.

    Attributes
    ----------
    name : str
        In the manifest.
    version : int
    what : str
        With its article: "an explanatory graph".
    noun : str
        Without: "graph".
    content, arrays : str
        Members' names.
    suffix : str
        That such files usually have.
    again : str
        How a new one is made: "mine".
    """

    name: str
    version: int
    what: str
    noun: str
    content: str
    arrays: str = "arrays.safetensors"
    suffix: str = ".zip"
    again: str = "make"

    def check_version(self, shown: str, found: Any) -> None:
        """Refuse a version that this code doesn't read."""
        if type(found) is not int or found != self.version:
            raise ExplgraphError(
                f"{shown}: format_version is {found!r}; this explgraph reads {self.version}: "
                f"update explgraph, or {self.again} the {self.noun} again"
            )


def write(
    form: Format, path: str | os.PathLike[str], content: Any, arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Write an object, whole or not at all.

    Raises
    ------
    ExplgraphError
        If the file can't be written.
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1)
    if len(text) > _MOST[1]:
        raise ExplgraphError(
            f"{form.what} of {len(text):,} characters can't be written to {str(path)!r}; at most "
            f"{_MOST[1]:,} are read: prune it, or take fewer images"
        )
    members = {
        # a file name may hold bytes that are no UTF-8, which Python keeps as surrogates
        form.content: text.encode("utf-8", "backslashreplace"),
        form.arrays: safetensors_numpy.save(
            {name: np.array(arrays[name], order="C") for name in sorted(arrays)}
        ),
    }
    manifest = {
        "format": form.name,
        "format_version": form.version,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
    }
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, data in {_MANIFEST: json.dumps(manifest, indent=1).encode(), **members}.items():
            # a fixed date and system: the same object gives the same bytes everywhere
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o644 << 16
            stored = name == form.arrays
            info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            archive.writestr(info, data)


def read(
    form: Format,
    path: str | os.PathLike[str],
    build: Callable[[Any, dict[str, NDArray[Any]]], T],
) -> T:
    """Open what `write` wrote.

    Parameters
    ----------
    form : Format
    path : path
    build : callable
        Makes the object of the content and the arrays, and checks them.

    Raises
    ------
    ExplgraphError
        If the file is missing, a folder, empty, truncated or damaged, of another format, or of
        a version that this explgraph doesn't read, or `build` finds something wrong.
    """
    shown = repr(str(path))
    if checked_path(path).is_dir():
        raise ExplgraphError(
            f"{shown} is a folder; give the {form.noun} file itself (*{form.suffix})"
        )
    check_regular(path, shown)
    try:
        with open(path, "rb") as file:
            start = file.read(4)
            if not start:
                raise ExplgraphError(f"{shown} is empty; it was not written to its end")
            if start != b"PK\x03\x04":
                raise ExplgraphError(
                    f"{shown} is not {form.what}; expected a file that {form.noun}.save() wrote"
                )
            manifest, members = _members(form, file, shown)
    except FileNotFoundError as err:
        raise ExplgraphError(f"there is no file {shown}; check the path") from err
    except OSError as err:
        raise ExplgraphError(f"can't read {shown}: {err.strerror or err}") from err
    for name, data in members.items():
        if hashlib.sha256(data).hexdigest() != manifest["sha256"].get(name):
            raise ExplgraphError(f"{shown} is damaged: {name} doesn't match its checksum")
    try:
        return build(
            json.loads(members[form.content]), safetensors_numpy.load(members[form.arrays])
        )
    except ExplgraphError as err:
        raise ExplgraphError(f"{shown} holds no valid {form.noun}: {err}") from err
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        MemoryError,
        RecursionError,
        SafetensorError,
    ) as err:
        raise ExplgraphError(
            f"{shown} holds no valid {form.noun}: {type(err).__name__}: {err}"
        ) from err


def _members(form: Format, file: Any, shown: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read the manifest, then the other two members; refuses other versions before those."""
    try:
        with zipfile.ZipFile(file) as archive:
            found = Counter(archive.namelist())
            if _MANIFEST not in found:
                raise ExplgraphError(
                    f"{shown} is a zip archive but not {form.what}: it holds "
                    f"{', '.join(sorted(found)[:3]) or 'nothing'}, expected {_MANIFEST}"
                )
            manifest = json.loads(_member(archive, _MANIFEST, _MOST[0], shown))
            if not isinstance(manifest, dict) or manifest.get("format") != form.name:
                told = manifest.get("format") if isinstance(manifest, dict) else None
                other = f"of the format {told!r}" if told else "another program's"
                raise ExplgraphError(f"{shown} is not {form.what}: its {_MANIFEST} is {other}")
            form.check_version(shown, manifest.get("format_version"))
            if not isinstance(manifest.get("sha256"), dict):
                raise ExplgraphError(f"{shown} is damaged: its {_MANIFEST} has no checksums")
            for name in (form.content, form.arrays):
                if found[name] != 1:
                    raise ExplgraphError(
                        f"{shown} is damaged: it holds {name} {found[name]} times, expected once"
                    )
            return manifest, {
                name: _member(archive, name, most, shown)
                for name, most in zip((form.content, form.arrays), _MOST[1:], strict=True)
            }
    except zipfile.BadZipFile as err:
        raise ExplgraphError(
            f"{shown} is truncated or damaged ({err}); copy or {form.again} it again"
        ) from err
    except ExplgraphError:
        raise
    # what zipfile, zlib and json raise at content that only looks like an archive
    except (
        ValueError,
        EOFError,
        RuntimeError,
        LookupError,
        OverflowError,
        MemoryError,
        struct.error,
        zlib.error,
    ) as err:
        raise ExplgraphError(f"{shown} is damaged ({err}); copy or {form.again} it again") from err


def _member(archive: zipfile.ZipFile, name: str, most: int, shown: str) -> bytes:
    """Read one member, unless it is larger than any object's would be."""
    info = archive.getinfo(name)
    if info.file_size > most:
        raise ExplgraphError(
            f"{shown}: {name} claims {info.file_size:,} bytes; at most {most:,} are read"
        )
    if info.file_size > _SMALL and info.file_size > _DENSE * info.compress_size:
        raise ExplgraphError(
            f"{shown}: {name} claims {info.file_size:,} bytes, packed into {info.compress_size:,}; "
            f"nothing that explgraph writes is packed more than {_DENSE} times"
        )
    with archive.open(info) as member:
        return member.read(most)


# --------------------------------------------------------------------------------- value by value


class Arrays:
    """Arrays that were read, each checked as it is taken."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._left = dict(arrays)

    def take(
        self,
        name: str,
        shape: tuple[int | None, ...],
        low: float = -_MOST_NUMBER,
        high: float = _MOST_NUMBER,
        *,
        dtype: type = np.float64,
        gaps: bool = False,
    ) -> NDArray[Any]:
        """Give an array of a shape (None: any length) and type, with values from `low` to `high`.

        Numbers must be finite, or NaN if there may be gaps.
        """
        array = self._left.pop(name)
        fits = array.ndim == len(shape) and all(
            length in (None, found) for length, found in zip(shape, array.shape, strict=True)
        )
        check(
            fits and array.dtype == dtype,
            f"{name} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}",
        )
        inside = np.isfinite(array) & (array >= low) & (array <= high)
        if gaps:
            inside |= np.isnan(array)
        check(bool(inside.all()), f"{name} holds a number that is not from {low:g} to {high:g}")
        return array

    def finish(self) -> None:
        """Refuse arrays that weren't taken."""
        check(not self._left, f"it holds arrays that it shouldn't: {', '.join(sorted(self._left))}")


def check(right: bool, message: str) -> None:
    """Raise an ExplgraphError unless something is right."""
    if not right:
        raise ExplgraphError(message)


def texts(values: Iterable[Any], what: str) -> tuple[str, ...]:
    """Give different texts."""
    found = tuple(values)
    fits = all(isinstance(value, str) for value in found) and len({*found}) == len(found)
    check(fits, f"{what} are not different texts")
    return found
