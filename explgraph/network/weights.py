"""Weights out of files: safetensors, state dicts, and checkpoints of all kinds that hold one.

Checkpoints keep a state dict beside other things (an optimizer's state, numbers, settings), and
name its tensors as the wrapper had them that was trained: ``module.``, ``model.``, ``_orig_mod.``
and whatever else. Neither is looked up in a list: in every mapping of a file each beginning of
names is tried, and what gives the model all its tensors, in their shapes, is what is meant. If that
is so in several places whose tensors differ, the user chooses: ``FILE#PLACE``. Nothing is loaded in
part, and what was left out is told.

Files are read by torch's reader for plain values (``weights_only=True``); nothing is unpickled.
"""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from explgraph.errors import ExplgraphError, nearest, one_line, warn
from explgraph.network.wrappers import bare
from explgraph.paths import check_regular

__all__ = ["load_weights"]

_DEEP = 4  # mappings within mappings
_SHOWN = 3  # names in a message
_TOP = "."  # calls what lies in no mapping and has nothing in front
# of parts that were wrapped by themselves: in the middle of names
_WRAPPED = {"module", "_orig_mod"}


def load_weights(model: nn.Module, weights: str | os.PathLike[str]) -> None:
    """Put the weights of a file into a model, all of them.

    Parameters
    ----------
    model : torch.nn.Module
        Wrapped or not.
    weights : path
        ``.safetensors``, or what torch saved: a state dict, or mappings with one in them.
        ``FILE#PLACE`` names the place in a file with several that fit: ``run.ckpt#ema``.

    Raises
    ------
    ExplgraphError
        If the file can't be read without running what it holds, or the model doesn't find all its
        tensors in it, finds more than them, or finds them in several places.

    Warns
    -----
    ExplgraphWarning
        Says where in the file the weights were, what their names began with, and what was left out.
    """
    file, place = _split(weights)
    what = f"weights {str(file)!r}"
    inner = bare(model)
    wanted = inner.state_dict()
    found = _chosen(file, [*_places(_read(file, what), wanted)], place)
    if found.missing or found.unexpected or found.mismatched:
        raise ExplgraphError(f"{what} don't fit the model: {found.told_misfits()}")
    try:
        inner.load_state_dict(found.state)
    except RuntimeError as err:
        raise ExplgraphError(f"{what} don't fit the model: {one_line(err)}") from err
    if told := found.told():
        warn(f"{what}: {told}")


def _split(weights: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """Split ``FILE#PLACE``; a file may have a # in its own name."""
    path = Path(weights)
    name, hash_, place = str(path).rpartition("#")
    return (path, None) if not hash_ or path.exists() else (Path(name), place)


class _Place(NamedTuple):
    """Where in a file a model's tensors may be.

    Attributes
    ----------
    path : tuple of str
        Keys of the mappings that it lies in.
    prefix : str
        What its names begin with.
    state : dict of str to Tensor
        By the model's names.
    missing, unexpected, mismatched : list of str
        Names that the file lacks, names of the place that the model doesn't have, and what is to be
        said of those with another shape.
    left : list of str
        Names beside the place.
    within : list of str
        What was left out of the middle of names: "module.".
    """

    path: tuple[str, ...]
    prefix: str
    state: dict[str, Tensor]
    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]
    left: list[str]
    within: list[str]

    @property
    def name(self) -> str:
        """What a user calls it."""
        return ".".join([*self.path, *filter(None, [self.prefix.rstrip(".")])]) or _TOP

    @property
    def whole(self) -> bool:
        """Whether the model has all its tensors here."""
        return not self.missing and not self.mismatched

    def told(self) -> str:
        """Say where it is."""
        parts = [f"taken from {'.'.join(self.path)!r}"] if self.path else []
        if self.prefix:
            parts.append(f"without {self.prefix!r} in front of their names")
        if self.within:
            parts.append(f"without {' and '.join(map(repr, self.within))} in the middle of names")
        if self.left:
            parts.append(f"but for {_named(self.left)}, which the model hasn't")
        return ", ".join(parts)

    def told_misfits(self) -> str:
        """Say what is wrong with it."""
        if not self.missing and not self.unexpected:
            return "; ".join(self.mismatched[:_SHOWN])
        parts = [
            f"{len(names)} {kind} ({_named(names)})"
            for kind, names in (("missing", self.missing), ("unexpected", self.unexpected))
            if names
        ]
        where = self._replace(left=[]).told()
        return (
            f"{' and '.join(parts)} parameters{f' ({where})' if where else ''}; they must come "
            "from the same architecture"
        )


def _named(names: Sequence[str]) -> str:
    """Name some; what no terminal should be sent is spelled out."""
    shown = [name if name.isprintable() else repr(name) for name in names[:_SHOWN]]
    return f"{', '.join(shown)}{', ...' if len(names) > _SHOWN else ''}"


def _chosen(file: Path, places: list[_Place], name: str | None) -> _Place:
    """Choose the one place that fits, or the named one; if none does the one that nearly does."""
    what = f"weights {str(file)!r}"
    fitting = [place for place in places if place.whole]
    if name is not None:
        known = {place.name: place for place in fitting}
        if name not in known:
            there = ", ".join(map(repr, known)) or "no place"
            raise ExplgraphError(
                f"{what} has no {name!r} that fits the model{nearest(name, known)}; what fits is "
                f"{there}"
            )
        return known[name]
    if not fitting:
        return max(places, key=lambda p: (-len(p.missing), -len(p.unexpected)))
    first, *others = fitting
    if different := [place for place in others if not _same(place, first)]:
        names = [place.name for place in (first, *different)]
        raise ExplgraphError(
            f"{what} fits the model in {len(names)} places with different values, "
            f"{' and '.join(map(repr, names))}; say which is meant: {f'{file}#{names[-1]}'!r}, for "
            "one"
        )
    return first


def _same(one: _Place, other: _Place) -> bool:
    """Whether two places hold the same values."""
    return all(torch.equal(value, other.state[name]) for name, value in one.state.items())


def _places(content: Any, wanted: Mapping[str, Tensor]) -> Iterator[_Place]:
    """Go through the places in a file where the model's tensors, or some of them, may be."""
    for path, tensors in _mappings(content):
        found = list(_in_mapping(path, tensors, {key: key for key in wanted}, wanted))
        if not any(place.whole for place in found):
            own, given = _unwrapped(wanted), _unwrapped(tensors)
            if (
                own is not None
                and given is not None
                and (set(own) | set(given)) != (set(wanted) | set(tensors))
            ):
                named = {name: tensors[raw] for name, raw in given.items()}
                again = list(_in_mapping(path, named, own, wanted))
                if any(place.whole for place in again):
                    parts = {part for name in (*tensors, *wanted) for part in name.split(".")}
                    within = sorted(f"{part}." for part in parts & _WRAPPED)
                    found = [place._replace(within=within) for place in again]
        yield from found


def _in_mapping(
    path: tuple[str, ...],
    tensors: Mapping[str, Tensor],
    own: Mapping[str, str],
    wanted: Mapping[str, Tensor],
) -> Iterator[_Place]:
    """Try every beginning of a mapping's names.

    `own` gives the model's name (a key of `wanted`) of each name that is looked for.
    """
    votes: Counter[str] = Counter({"": 0})
    for name in tensors:
        parts = name.split(".")
        for k in range(len(parts)):
            if ".".join(parts[k:]) in own:
                votes["".join(part + "." for part in parts[:k])] += 1
    most = max(votes.values())
    full = [prefix for prefix, n in votes.items() if n == len(own)]
    for prefix in full or [next(prefix for prefix, n in votes.items() if n == most)]:
        state = {
            raw: tensors[prefix + name] for name, raw in own.items() if prefix + name in tensors
        }
        # others' places within this one, and an averaged model's count, are nothing unexpected
        inside = tuple(p for p in full if p != prefix and p.startswith(prefix))
        used = {prefix + name for name in own}
        left = [name for name in tensors if name not in used]
        beside = [
            name
            for name in left
            if not name.startswith(prefix) or name.startswith(inside) or name == "n_averaged"
        ]
        yield _Place(
            path,
            prefix,
            state,
            [raw for raw in own.values() if raw not in state],
            [name.removeprefix(prefix) for name in left if name not in beside],
            [
                f"size mismatch for {name}: {tuple(value.shape)} in the file, "
                f"{tuple(wanted[name].shape)} in the model"
                for name, value in state.items()
                if not is_lazy(wanted[name]) and value.shape != wanted[name].shape
            ],
            beside,
            [],
        )


def _mappings(
    content: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Go through the mappings in a file that hold tensors by name, the outermost first."""
    if not isinstance(content, Mapping) or len(path) > _DEEP:
        return
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if tensors:
        yield path, tensors
    for key, value in content.items():
        if isinstance(key, str):
            yield from _mappings(value, (*path, key))


def _unwrapped(names: Mapping[str, Any]) -> dict[str, str] | None:
    """Give names without the wrappers of parts, and what they were; None if some become alike."""
    plain = {".".join(p for p in name.split(".") if p not in _WRAPPED): name for name in names}
    return plain if len(plain) == len(names) else None


def _read(path: Path, what: str) -> Any:
    """Read a file with a state dict in it, without running anything that it may hold."""
    check_regular(path, what)
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise ExplgraphError(f"{what}: the file is empty")
    except OSError as err:
        raise ExplgraphError(f"{what}: {err.strerror or err}") from err
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch, about how others wrote the file
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as err:
        kind = re.search(r"GLOBAL (\S+)", str(err))
        raise ExplgraphError(
            f"{what}: not only tensors and plain values"
            f"{f' (but {kind[1]})' if kind else ''}, and nothing else is read, for it could run "
            "code; where you trust the file, open it by torch.load(FILE, weights_only=False), and "
            "save model.state_dict(), or the state dict in it, alone by torch.save"
        ) from err
    except Exception as err:  # torch's reader raises almost anything for broken files
        raise ExplgraphError(
            f"{what} can't be read ({one_line(err)}); expected safetensors (by the suffix) or a "
            "state dict that torch saved"
        ) from err
    if not any(True for _ in _mappings(content)):
        raise ExplgraphError(
            f"{what}: expected a state dict (names and tensors), or mappings with one in them, got "
            f"{_kind_of(content)}; save model.state_dict()"
        )
    return content


def _kind_of(content: object) -> str:
    """Say what was found in place of a state dict."""
    kind = type(content).__name__
    if isinstance(content, Mapping):
        for key, value in content.items():
            if not isinstance(key, str):
                return f"{kind} with the key {key!r}"
            if not isinstance(value, Tensor):
                return f"{kind} in which {key!r} is {type(value).__name__}"
    return kind
