"""What stores on disk have in common: zarr groups that are written block by block of images.

A store is a zarr group (format 3) in a folder or at any URL that fsspec knows. Every array has a
chunk for each block of images, which is compressed (lz4) and carries a checksum (CRC-32C) that is
checked whenever it is read. Texts (the images' names) are JSON in UTF-8.

An attribute of the group says what the store was made of and its version and, once all chunks are
there, carries a checksum of itself. Chunks appear whole or not at all, so what was interrupted goes
on where it was, with at most one block of images (for each process) done again. Nothing is ever
unpickled.
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
from torch import Tensor

from explgraph.activations.processes import Team
from explgraph.activations.streaming import BLOCK
from explgraph.errors import ExplgraphError
from explgraph.images.batches import AnyImages, batches, subset

if TYPE_CHECKING:
    import zarr

__all__ = [
    "Array",
    "Kind",
    "Runs",
    "array_of",
    "check_array",
    "explained",
    "fill",
    "has_chunk",
    "in_batches",
    "keep_text",
    "kept_text",
    "open_group",
    "whole_blocks",
]

Runs = Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]


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
    """One of a store's arrays, whose first dimension goes with the images: `chunk` a block."""

    shape: tuple[int, ...]
    chunk: int
    dtype: str
    fill: float = 0
    shuffle: str = "noshuffle"


@contextmanager
def explained(kind: Kind, where: str) -> Iterator[None]:
    """Turn what zarr and file systems raise into a line for the user."""
    try:
        yield
    except ExplgraphError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as err:
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


def array_of(group: zarr.Group, name: str) -> Any:
    """Give one of a store's arrays."""
    return group[name]


def open_group(
    kind: Kind, path: str
) -> tuple[zarr.Group, dict[str, Any], dict[str, tuple[str, ...]]]:
    """Open a finished store.

    Returns
    -------
    group : zarr.Group
    about : dict
        Its description; its ``checksum`` is of all that, texts included.
    texts : dict of str to tuple of str

    Raises
    ------
    ExplgraphError
        If there is no store, it isn't finished, another version wrote it, or its description
        doesn't fit its checksum.
    """
    zarr = _zarr()
    with explained(kind, f"{path!r} can't be opened"):
        try:
            group = zarr.open_group(path, mode="r")
        except FileNotFoundError as err:
            raise ExplgraphError(f"{path!r} is no {kind.what}; {kind.maker} makes one") from err
        about = _read_about(kind, group, path)
        texts = {
            name: tuple(json.loads(np.asarray(array_of(group, name)[:]).tobytes()))
            for name in kind.texts
        }
    if about.get("checksum") is None:
        raise ExplgraphError(
            f"the store {path!r} isn't finished; run the same command or call again, it goes on "
            "where it was"
        )
    if about["checksum"] != _checksum(about, texts):
        raise ExplgraphError(
            f"the store {path!r} is damaged: its description doesn't fit its checksum; delete it "
            f"and {kind.verb} again"
        )
    return group, about, texts


def keep_text(kind: Kind, path: str, name: str, text: str) -> None:
    """Put a text beside a finished store's arrays, or another one in its place.

    It is no part of what the store is: neither of its checksum nor of what it was made of.
    """
    content = np.frombuffer(text.encode(errors="surrogatepass"), dtype=np.uint8)
    with explained(kind, f"{path!r} can't be written"):
        group = _zarr().open_group(path, mode="r+")
        array = group.create_array(
            name, shape=content.shape, chunks=content.shape, dtype="uint8", overwrite=True
        )
        array[:] = content


def kept_text(kind: Kind, path: str, group: zarr.Group, name: str) -> str | None:
    """Give what `keep_text` put there; None if it did not."""
    with explained(kind, f"{path!r}, {name}"):
        array: Any = group.get(name)
        if array is None:
            return None
        return np.asarray(array[:]).tobytes().decode(errors="surrogatepass")


def check_array(kind: Kind, path: str, group: zarr.Group, name: str, what: str, is_: Array) -> None:
    """Refuse a store in which an array is missing or another one."""
    array: Any = group.get(name)
    if array is None or tuple(array.shape) != is_.shape or str(array.dtype) != is_.dtype:
        found = "nothing" if array is None else f"{array.dtype} of {tuple(array.shape)}"
        raise ExplgraphError(
            f"the store {path!r} is damaged: {what} should be {is_.dtype} of {is_.shape}, found "
            f"{found}; delete it and {kind.verb} again"
        )


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
    texts: Mapping[str, Sequence[str]],
    arrays: Mapping[str, Array],
    blocks: Callable[[list[int]], Iterable[tuple[int, Mapping[str, Any]]]],
) -> None:
    """Make a store, or go on with one; several processes share out the blocks.

    Parameters
    ----------
    kind : Kind
    path : str or path
    about : dict
        Its description, as JSON values.
    texts : mapping of str to sequence of str
    arrays : mapping of str to Array
        All in equally many chunks.
    blocks : callable
        Gives, for the numbers of the blocks that are missing, each block's number and what belongs
        in the arrays' chunk of that number.

    Raises
    ------
    ExplgraphError
        If the place can't be written, or holds something else or what was made of something else.
    """
    shown, team = str(path), Team()
    about = {"version": kind.version, **about}
    with explained(kind, f"{shown!r} can't be written"):
        if team.rank == 0:
            _begin(kind, shown, about, texts, arrays)
        team.all_of(True)
        group = _zarr().open_group(shown, mode="r+")
        number = max(math.ceil(a.shape[0] / a.chunk) for a in arrays.values())
        opened = [array_of(group, name) for name in arrays]
        missing = [b for b in range(number) if not all(has_chunk(shown, a, b) for a in opened)]
        team.all_of(True)  # nobody writes before all have looked
    mine = [missing[i] for i in team.share(len(missing))]
    for block, values in blocks(mine) if mine else ():
        with explained(kind, f"{shown!r} can't be written"):
            for name, part in values.items():
                chunk = arrays[name].chunk
                array_of(group, name)[block * chunk : block * chunk + len(part)] = part
    team.all_of(True)
    if team.rank == 0:
        with explained(kind, f"{shown!r} can't be written"):
            group.attrs[kind.attribute] = about | {"checksum": _checksum(about, texts)}
    team.all_of(True)


def _begin(
    kind: Kind,
    path: str,
    about: dict[str, Any],
    texts: Mapping[str, Sequence[str]],
    arrays: Mapping[str, Array],
) -> None:
    """Make a store's arrays, or see that those that are there are of the same making."""
    elsewhere = ExplgraphError(f"{path!r} holds something else; choose another place for the store")
    if Path(path).is_dir() and any(Path(path).iterdir()) and not Path(path, "zarr.json").exists():
        raise elsewhere
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
    whole = {name: Array(text.shape, len(text), "uint8") for name, text in encoded.items()}
    for name, array in {**arrays, **whole}.items():
        group.create_array(
            name,
            shape=array.shape,
            chunks=(array.chunk, *array.shape[1:]),
            dtype=array.dtype,
            fill_value=array.fill,
            compressors=[
                BloscCodec(cname="lz4", clevel=5, shuffle=array.shuffle),  # type: ignore[arg-type]
                Crc32cCodec(),
            ],
            chunk_key_encoding={"name": "default", "separator": "/"},  # as in `has_chunk`
            config={"write_empty_chunks": True},
            overwrite=True,
        )
    for name, text in encoded.items():
        array_of(group, name)[:] = text
    group.attrs[kind.attribute] = about  # last: now it is a store


def has_chunk(path: str, array: Any, chunk: int) -> bool:
    """Whether a chunk of images of one of a store's arrays has been written.

    zarr has no public way to ask, so its file is looked for, by the name that the specification
    of zarr 3 gives it.
    """
    from fsspec.core import url_to_fs

    files, root = url_to_fs(path)
    name = "/".join([root, array.path, "c", str(chunk), *("0" for _ in array.shape[1:])])
    return bool(files.exists(name))


def in_batches(
    images: AnyImages,
    names: Sequence[str],
    blocks: Sequence[int],
    batch_size: int,
    block: int = BLOCK,
) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Read some blocks of images, in batches that don't run from one block into the next.

    What a network gives rounds differently in another batch, so batches must not depend on where
    the work was interrupted. They hold at most `BLOCK` images; `block` is a multiple of that.
    """
    chosen = [i for b in blocks for i in range(b * block, min((b + 1) * block, len(names)))]
    done = 0
    for _, batch in batches(subset(images, chosen, BLOCK), BLOCK):
        here = tuple(names[i] for i in chosen[done : done + len(batch)])
        done += len(batch)
        for start in range(0, len(batch), batch_size):
            piece = slice(start, start + batch_size)
            yield here[piece], batch[piece]


def whole_blocks(
    runs: Runs, blocks: Sequence[int], n: int, block: int = BLOCK
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Put the batches of each block together; there are `n` images in all."""
    for number in blocks:
        length = min(block, n - number * block)
        pieces: list[dict[str, Tensor]] = []
        while sum(len(next(iter(piece.values()))) for piece in pieces) < length:
            pieces.append(next(runs)[1])
        yield number, {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
