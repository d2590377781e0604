"""What stores on disk have in common: zarr groups that are written block by block of images.

A store is a zarr group (format 3) in a folder or at any URL that fsspec knows. Every array has a
chunk for each block of images, which is compressed (lz4) and carries a checksum (CRC-32C) that is
checked whenever it is read. Texts (the images' names) are JSON in UTF-8.

Beside them, ``seals`` holds for each block a SHA-256 of every array's chunk, with the array's name,
the block's number and what the store was made of, and one of the block's images (`ImageBlocks`). It
is written after the chunks. So a block is finished if its chunks are those of its seals, and chunks
that were exchanged, or come from another store, are noticed whenever they are read.

An attribute of the group says what the store was made of and its version and, once all blocks are
there, carries a checksum of itself. Chunks appear whole or not at all, so what was interrupted goes
on where it was, with at most one block of images (for each process) done again; what is damaged is
done again, too. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from explgraph.activations.image_blocks import ImageBlocks
from explgraph.activations.processes import Team
from explgraph.atomic import locked
from explgraph.errors import ExplgraphError
from explgraph.paths import check_regular

if TYPE_CHECKING:
    import zarr

__all__ = ["Array", "Blocks", "Kind", "explained", "fill", "keep_text", "kept_text", "open_blocks"]

_SEALS = "seals"
_DIGEST = 32  # bytes of a SHA-256
_MOST_TEXT = 2**30  # bytes of names
_FINISHED = ("content", "checksum")  # in the description of a finished store only


class Kind(NamedTuple):
    """A kind of stores, and how users are told of it.

    Attributes
    ----------
    attribute : str
        Of the group, that describes a store.
    version : int
    what : str
        A store is.
    maker : str
        What makes one.
    verb, done : str
        "record", "recorded from".
    origins : tuple of (str, str)
        Keys of the description that must be the same to go on with a store, and what else it was
        made of if they aren't; ``{}`` is the value.
    texts : tuple of str
        Names of what is text.
    """

    attribute: str
    version: int
    what: str
    maker: str
    verb: str
    done: str
    origins: tuple[tuple[str, str], ...]
    texts: tuple[str, ...] = ("names",)


class Array(NamedTuple):
    """One of a store's arrays, whose first dimension goes with the images: `chunk` a block.

    Users know it as `what`.
    """

    shape: tuple[int, ...]
    chunk: int
    dtype: str
    what: str
    fill: float = 0
    shuffle: str = "noshuffle"

    @property
    def chunks(self) -> tuple[int, ...]:
        """The shape of a chunk."""
        return (self.chunk, *self.shape[1:])


@contextmanager
def explained(kind: Kind, where: str) -> Iterator[None]:
    """Turn what zarr and file systems raise into a line for the user."""
    try:
        yield
    except ExplgraphError:
        raise
    except Exception as err:  # zarr raises almost anything for what is damaged
        reason = " ".join(str(err).split()) or type(err).__name__
        raise ExplgraphError(
            f"store {where}: {reason}; if it is damaged, delete it and {kind.verb} again"
        ) from err


def _zarr() -> Any:
    """Give the zarr package."""
    try:
        import zarr
    except ImportError as err:
        raise ExplgraphError(
            "a store needs zarr, which isn't installed: pip install 'explgraph[store]' "
            "(Python 3.11 or later)"
        ) from err
    return zarr


class Blocks:
    """The blocks of a store that is open: checked whenever they are read.

    Attributes
    ----------
    about : dict
        The description; the ``checksum`` of a finished store is of all that, texts included.
    texts : dict of str to tuple of str

    Parameters
    ----------
    kind : Kind
    path : str
    group : zarr.Group
    about, texts
    arrays : mapping of str to Array
        All in equally many chunks.

    Raises
    ------
    ExplgraphError
        If an array is missing, or is another one.
    """

    def __init__(
        self,
        kind: Kind,
        path: str,
        group: zarr.Group,
        about: dict[str, Any],
        texts: Mapping[str, tuple[str, ...]],
        arrays: Mapping[str, Array],
    ) -> None:
        self.about, self.texts = about, texts
        self._kind, self._path = kind, path
        self._arrays = _with_seals(arrays)
        begun = {name: value for name, value in about.items() if name not in _FINISHED}
        self._key = _checksum(begun, texts)
        self._opened = {
            name: _open(kind, path, group, name, array) for name, array in self._arrays.items()
        }

    def __len__(self) -> int:
        """Give the number of blocks."""
        return self._arrays[_SEALS].shape[0]

    def read(self, name: str, number: int) -> NDArray[Any]:
        """Read an array's chunk of a block.

        Raises
        ------
        ExplgraphError
            If it is missing, damaged, or not what was written there.
        """
        seals = self._chunk(_SEALS, number)[0]
        return self._checked(name, number, seals)

    def rows(self, name: str, here: slice) -> NDArray[Any]:
        """Read some images' rows of an array that has one for each."""
        array = self._arrays[name]
        rows = np.empty((here.stop - here.start, *array.shape[1:]), array.dtype)
        for number in range(here.start // array.chunk, math.ceil(here.stop / array.chunk)):
            first = number * array.chunk
            start, stop = max(first, here.start), min(first + array.chunk, here.stop)
            values = self.read(name, number)
            rows[start - here.start : stop - here.start] = values[start - first : stop - first]
        return rows

    def write(self, number: int, values: Mapping[str, NDArray[Any]], origin: bytes) -> None:
        """Write a block, and its seals when all of it is there; `origin` is its images' digest."""
        seals = [self._seal(name, number, values[name], origin) for name in self._of_images()]
        for name in self._arrays:
            there = Path(self._path, self._file(name, number))
            if there.exists() and not there.is_file():  # a pipe, which zarr 3.0 waits at
                there.unlink()
        for name in self._of_images():
            self._opened[name][self._where(name, number)] = values[name]
        row = np.frombuffer(b"".join([*seals, origin]), np.uint8).reshape(1, -1, _DIGEST)
        self._opened[_SEALS][self._where(_SEALS, number)] = row

    def origin(self, number: int) -> bytes:
        """Give the digest of a block's images; empty if the block isn't there as it was written."""
        if not self._has(_SEALS, number):
            return b""
        try:
            seals = self._chunk(_SEALS, number)[0]
            for name in self._of_images():
                self._checked(name, number, seals)
        except Exception:  # whatever is wrong with it, it will be made again
            return b""
        return bytes(seals[-1].tobytes())

    def content(self) -> str:
        """Digest what all images were: SHA-256, hexadecimal."""
        digest = hashlib.sha256()
        for number in range(len(self)):
            digest.update(self._chunk(_SEALS, number)[0, -1].tobytes())
        return digest.hexdigest()

    def _of_images(self) -> list[str]:
        return [name for name in self._arrays if name != _SEALS]

    def _where(self, name: str, number: int) -> slice:
        """Say which rows a chunk is."""
        array = self._arrays[name]
        return slice(number * array.chunk, min((number + 1) * array.chunk, array.shape[0]))

    def _chunk(self, name: str, number: int) -> NDArray[Any]:
        """Read a chunk as it is."""
        _check_files(self._path, self._file(name, number))
        return np.ascontiguousarray(self._opened[name][self._where(name, number)])

    def _checked(self, name: str, number: int, seals: NDArray[Any]) -> NDArray[Any]:
        """Read a chunk, and compare it with its seal."""
        values = self._chunk(name, number)
        seal = seals[self._of_images().index(name)].tobytes()
        if self._seal(name, number, values, seals[-1].tobytes()) == seal:
            return values
        there = all(self._has(one, number) for one in (name, _SEALS))
        what = "damaged, or not in its place," if there else "missing"
        raise ExplgraphError(
            f"chunk {number} of {self._arrays[name].what} is {what} in the store {self._path!r}; "
            f"{self._kind.verb} again, only what is missing or damaged will be"
        )

    def _seal(self, name: str, number: int, values: NDArray[Any], origin: bytes) -> bytes:
        """Digest a chunk, its place, and what it was made of."""
        digest = hashlib.sha256(json.dumps([self._key, name, number]).encode() + origin)
        digest.update(np.ascontiguousarray(values).data)
        return digest.digest()

    def _has(self, name: str, number: int) -> bool:
        """Whether a chunk has been written.

        zarr has no public way to ask, so its file is looked for.
        """
        from fsspec.core import url_to_fs

        files, root = url_to_fs(self._path)
        return bool(files.exists(f"{root}/{self._file(name, number)}"))

    def _file(self, name: str, number: int) -> str:
        """Name a chunk's file within the store as the specification of zarr 3 does."""
        zeros = ("0" for _ in self._arrays[name].shape[1:])
        return "/".join([name, "c", str(number), *zeros])


# that zarr looks for to learn what a folder is, of its older format too
_DESCRIPTIONS = "zarr.json", ".zgroup", ".zattrs", ".zarray", ".zmetadata"


def _check_files(path: str, *files: str) -> None:
    """Refuse a store on disk that has pipes or devices in place of some of its files."""
    for file in files:
        check_regular(Path(path, file), f"{file!r} of the store {path!r}")


def _with_seals(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Add the array of seals: for each block one of every array, and one of the images."""
    number = max(math.ceil(array.shape[0] / array.chunk) for array in arrays.values())
    return {**arrays, _SEALS: Array((number, len(arrays) + 1, _DIGEST), 1, "uint8", "the seals")}


def _open(kind: Kind, path: str, group: zarr.Group, name: str, is_: Array) -> Any:
    """Open one of a store's arrays; refuse a store in which it is missing or another one."""
    with explained(kind, f"{path!r}, {is_.what}, can't be opened"):
        _check_files(path, f"{name}/zarr.json")
        array: Any = group.get(name)
        found = "nothing"
        if array is not None:
            found = f"{getattr(array, 'dtype', 'a group')} of {getattr(array, 'shape', ())}"
            same = (is_.shape, is_.chunks, is_.dtype)
            if (tuple(array.shape), tuple(array.chunks), str(array.dtype)) == same:
                return array
    raise ExplgraphError(
        f"the store {path!r} is damaged: {is_.what} should be {is_.dtype} of {is_.shape}, found "
        f"{found}; delete it and {kind.verb} again"
    )


def open_blocks(
    kind: Kind,
    path: str,
    arrays: Callable[[dict[str, Any], Mapping[str, tuple[str, ...]]], Mapping[str, Array]],
) -> Blocks:
    """Open a finished store.

    Parameters
    ----------
    kind : Kind
    path : str
    arrays : callable
        Names the arrays of a store of some description and texts.

    Raises
    ------
    ExplgraphError
        If there is no store, it isn't finished, another version wrote it, or its description
        doesn't fit its checksum or its arrays.
    """
    zarr = _zarr()
    with explained(kind, f"{path!r} can't be opened"):
        _check_files(path, *_DESCRIPTIONS)
        try:
            group = zarr.open_group(path, mode="r")
        except FileNotFoundError as err:
            raise ExplgraphError(f"{path!r} is no {kind.what}; {kind.maker} makes one") from err
        about = _read_about(kind, group, path)
        texts = {name: _read_text(kind, path, group, name) for name in kind.texts}
        if about.get("checksum") is None:
            raise ExplgraphError(
                f"the store {path!r} isn't finished; run the same command or call again, it goes "
                "on where it was"
            )
        if about["checksum"] != _checksum(about, texts):
            raise ExplgraphError(
                f"the store {path!r} is damaged: its description doesn't fit its checksum; delete "
                f"it and {kind.verb} again"
            )
        blocks = Blocks(kind, path, group, about, texts, arrays(about, texts))
        if about["content"] != blocks.content():
            raise ExplgraphError(
                f"the store {path!r} is damaged: seals are missing, or not in their place; "
                f"{kind.verb} again, only what is missing or damaged will be"
            )
        return blocks


def keep_text(kind: Kind, path: str, name: str, text: str) -> None:
    """Put a text beside a finished store's arrays, or another one in its place.

    It is no part of what the store is: neither of its checksum nor of what it was made of.
    """
    content = np.frombuffer(json.dumps([text]).encode(), dtype=np.uint8)
    with explained(kind, f"{path!r} can't be written"):
        from zarr.codecs import Crc32cCodec

        place = Path(path, name)
        if os.path.lexists(place) and not place.is_dir():
            place.unlink()  # zarr would want a folder
        array = (
            _zarr()
            .open_group(path, mode="r+")
            .create_array(
                name, shape=content.shape, chunks=content.shape, dtype="uint8",
                compressors=[Crc32cCodec()], config={"write_empty_chunks": True}, overwrite=True,
            )
        )  # fmt: skip
        array[:] = content


def kept_text(kind: Kind, path: str, name: str) -> str | None:
    """Give what `keep_text` put there; None if it did not."""
    with explained(kind, f"{path!r}, {name}"):
        _check_files(path, f"{name}/zarr.json")
        group = _zarr().open_group(path, mode="r")
        if name not in group:
            return None
        texts = _read_text(kind, path, group, name)
        if len(texts) != 1:
            raise ExplgraphError(
                f"the store {path!r} is damaged: {name} holds {len(texts)} texts, expected one; "
                f"{kind.verb} again"
            )
        return texts[0]


def _read_text(kind: Kind, path: str, group: zarr.Group, name: str) -> tuple[str, ...]:
    """Read what is text."""
    _check_files(path, f"{name}/zarr.json", f"{name}/c/0")
    array: Any = group.get(name)
    shape: tuple[int, ...] = tuple(getattr(array, "shape", ()))
    # zarr would make room for whatever the description says
    if len(shape) != 1 or shape != tuple(array.chunks) or not 0 < shape[0] <= _MOST_TEXT:
        raise ExplgraphError(
            f"the store {path!r} is damaged: {name} should be text, found {shape} bytes; delete "
            f"it and {kind.verb} again"
        )
    try:
        text = json.loads(np.asarray(array[:]).tobytes().decode())
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as err:
        raise ExplgraphError(
            f"the store {path!r} is damaged: {name} isn't JSON; delete it and {kind.verb} again"
        ) from err
    if not isinstance(text, list) or not all(isinstance(one, str) for one in text):
        raise ExplgraphError(
            f"the store {path!r} is damaged: {name} are no texts; delete it and {kind.verb} again"
        )
    return tuple(text)


def _read_about(kind: Kind, group: zarr.Group, path: str) -> dict[str, Any]:
    """Give a store's description, if this version understands it."""
    about = dict(group.attrs).get(kind.attribute)
    if not isinstance(about, dict):
        raise ExplgraphError(f"{path!r} is a zarr group, but no {kind.what}")
    if about.get("version") != kind.version:
        raise ExplgraphError(
            f"the store {path!r} is of version {about.get('version')!r}, this explgraph reads "
            f"{kind.version}; use the explgraph that wrote it, or {kind.verb} again"
        )
    return about


def _checksum(about: dict[str, Any], texts: Mapping[str, Sequence[str]]) -> str:
    """Digest a description, its own checksum aside, and the texts: SHA-256, hexadecimal."""
    content = {k: v for k, v in about.items() if k != "checksum"}
    content |= {name: list(text) for name, text in texts.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def fill(
    kind: Kind,
    path: str | os.PathLike[str],
    about: dict[str, Any],
    texts: Mapping[str, tuple[str, ...]],
    arrays: Mapping[str, Array],
    images: ImageBlocks,
    blocks: Callable[[list[int]], Iterable[tuple[int, Mapping[str, NDArray[Any]]]]],
) -> None:
    """Make a store, or go on with one; several processes share out the blocks.

    What is there is checked, and compared with the images; what is missing or damaged is made.

    Parameters
    ----------
    kind : Kind
    path : str or path
    about : dict
        Its description, as JSON values.
    texts : mapping of str to tuple of str
    arrays : mapping of str to Array
        All in equally many chunks.
    images : ImageBlocks
    blocks : callable
        Gives, for the numbers of the blocks that are missing, each block's number and what belongs
        in the arrays' chunk of that number.

    Raises
    ------
    ExplgraphError
        If the place can't be written, or holds something else or what was made of something else.
    """
    with _sweeping(str(path)):
        _fill(kind, str(path), about, texts, arrays, images, blocks)


@contextmanager
def _sweeping(path: str) -> Iterator[None]:
    """Delete what killed processes left half written, if nobody else is writing in this folder."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # nothing there yet, a URL, or Windows
        yield
        return
    try:
        if Team().rank == 0 and locked(handle):
            for left in Path(path).rglob("*.partial"):  # as zarr names them
                left.unlink(missing_ok=True)
        yield
    finally:
        os.close(handle)


def _fill(
    kind: Kind,
    shown: str,
    about: dict[str, Any],
    texts: Mapping[str, tuple[str, ...]],
    arrays: Mapping[str, Array],
    images: ImageBlocks,
    blocks: Callable[[list[int]], Iterable[tuple[int, Mapping[str, NDArray[Any]]]]],
) -> None:
    """Do what `fill` says."""
    team = Team()
    about = {"version": kind.version, **about}
    with explained(kind, f"{shown!r} can't be written"):
        if team.rank == 0:
            _begin(kind, shown, about, texts, _with_seals(arrays))
        team.all_of(True)
        store = Blocks(kind, shown, _zarr().open_group(shown, mode="r+"), about, texts, arrays)
        missing, others = torch.zeros(len(store)), torch.zeros(len(store))
        origins = {number: store.origin(number) for number in team.share(len(store))}
        missing[[number for number, origin in origins.items() if not origin]] = 1
        there = [number for number, origin in origins.items() if origin]
        for number, now in zip(there, images.digests(there), strict=True):
            others[number] = origins[number] != now
        # nobody writes before all have looked
        missing, others = team.sum([missing, others])
    if others.any():
        number = int(others.nonzero()[0])
        first = next(iter(arrays.values())).chunk * number
        raise ExplgraphError(
            f"the store {shown!r} was {kind.done} other images: {images.names[first]!r}, or one of "
            f"those after it, has changed since; {kind.verb} into another place, or delete it"
        )
    left = missing.nonzero().flatten().tolist()
    mine = [left[i] for i in team.share(len(left))]
    for number, values in blocks(mine) if mine else ():
        with explained(kind, f"{shown!r} can't be written"):
            store.write(number, values, *images.digests([number]))
    team.all_of(True)
    if team.rank == 0:
        with explained(kind, f"{shown!r} can't be written"):
            about |= {"content": store.content()}
            group = _zarr().open_group(shown, mode="r+")
            group.attrs[kind.attribute] = about | {"checksum": _checksum(about, texts)}
    team.all_of(True)


def _begin(
    kind: Kind,
    path: str,
    about: dict[str, Any],
    texts: Mapping[str, tuple[str, ...]],
    arrays: Mapping[str, Array],
) -> None:
    """Make a store's arrays, or see that those that are there are of the same making."""
    elsewhere = ExplgraphError(f"{path!r} holds something else; choose another place for the store")
    if Path(path).is_dir() and any(Path(path).iterdir()) and not Path(path, "zarr.json").exists():
        raise elsewhere
    _check_files(path, *_DESCRIPTIONS)
    group = _zarr().open_group(path, mode="a")
    if kind.attribute in group.attrs:
        kept = _read_about(kind, group, path)
        for name, what in kind.origins:
            if kept.get(name) != about[name]:
                raise ExplgraphError(
                    f"the store {path!r} was {kind.done} {what.format(repr(kept.get(name)))}; "
                    f"{kind.verb} into another place, or delete it"
                )
        return
    if len(dict(group.attrs)) or not set(group.keys()) <= {*arrays, *texts}:
        raise elsewhere
    from zarr.codecs import BloscCodec, Crc32cCodec

    encoded = {
        name: np.frombuffer(json.dumps(list(text)).encode(), dtype=np.uint8)
        for name, text in texts.items()
    }
    whole = {name: Array(text.shape, len(text), "uint8", name) for name, text in encoded.items()}
    for name, array in {**arrays, **whole}.items():
        group.create_array(
            name,
            shape=array.shape,
            chunks=array.chunks,
            dtype=array.dtype,
            fill_value=array.fill,
            compressors=[
                BloscCodec(cname="lz4", clevel=5, shuffle=array.shuffle),  # type: ignore[arg-type]
                Crc32cCodec(),
            ],
            chunk_key_encoding={"name": "default", "separator": "/"},  # as in `Blocks`
            config={"write_empty_chunks": True},
            overwrite=True,
        )
    for name, text in encoded.items():
        group[name][:] = text
    group.attrs[kind.attribute] = about  # last: now it is a store
