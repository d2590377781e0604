"""What a model calls its classes, where it says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

from torch import nn

from explgraph.errors import ExplgraphError, nearest
from explgraph.network.wrappers import bare

__all__ = ["attribute", "checked_names", "class_names", "class_number", "class_title"]


def class_names(model: nn.Module, n: int) -> tuple[str, ...]:
    """Give the names of a model's n classes, or nothing where it doesn't know them.

    Looked for are ``model.class_names`` (as `explgraph.network.models.load_model` sets it for
    torchvision, and the creatures' network has), ``model.classes``, and ``model.config.id2label``
    (Hugging Face), of the model within wrappers, then of the outermost. What hasn't n texts isn't
    taken.
    """
    found: list[Any] = []
    for one in (bare(model), model):
        labels = attribute(attribute(one, "config"), "id2label")
        found += [attribute(one, "class_names"), attribute(one, "classes")]
        if isinstance(labels, Mapping):
            # read from JSON, the numbers are texts
            known = {str(k): v for k, v in labels.items()}
            found.append([known.get(str(k)) for k in range(n)])
    for names in found:
        if (
            isinstance(names, Sequence)
            and not isinstance(names, str)
            and len(names) == n
            and all(isinstance(name, str) and name for name in names)
        ):
            # lone surrogates, which no file can hold, are spelled out
            return tuple(name.encode("utf-8", "backslashreplace").decode() for name in names)
    return ()


def attribute(thing: object, name: str) -> Any:
    """Give an attribute, or None where it fails: other people's properties may, with anything."""
    try:
        return getattr(thing, name, None)
    except Exception:
        return None


def checked_names(names: Sequence[str], n: int) -> tuple[str, ...]:
    """Refuse a caller's names that aren't one text for each of n classes."""
    listed = () if isinstance(names, str) or not isinstance(names, Iterable) else tuple(names)
    if not listed or not all(isinstance(name, str) for name in listed):
        shown = repr(names)
        raise ExplgraphError(
            f"classes must be a list of {n} names, one for each output of the model, got "
            f"{shown if len(shown) <= 60 else shown[:57] + '...'}"
        )
    for name in listed:
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise ExplgraphError(
                f"classes holds {name!r}, which no file can hold: a part of it is no character "
                "(a lone surrogate); read the names as UTF-8, or write it otherwise"
            )
    if len(listed) != n:
        raise ExplgraphError(
            f"classes holds {len(listed)} names, but the model gives scores for {n} classes; give "
            "one name for each, in the order of the output"
        )
    return listed


def class_number(target: int | str, names: Sequence[str], n: int) -> int:
    """Find a class by its number or its name.

    Raises
    ------
    ExplgraphError
        If there is no such class, or several have the name.
    """
    if isinstance(target, str):
        where = [k for k, name in enumerate(names) if name == target]
        if len(where) == 1:
            return where[0]
        if len(where) > 1:
            raise ExplgraphError(
                f"class {target!r} is the name of {len(where)} classes, {where[0]} and {where[1]} "
                "among them; give the number"
            )
        if target.strip().isdecimal():
            target = int(target)
        elif not names:
            raise ExplgraphError(
                f"class {target!r}: the model doesn't say what its classes are called; give the "
                "number, or tell the model all names (model.class_names = [...])"
            )
        else:
            raise ExplgraphError(
                f"the model has no class {target!r}{nearest(target, names)}; it has {n}, such as "
                f"{names[0]!r}"
            )
    if isinstance(target, bool) or not isinstance(target, Integral) or not 0 <= target < n:
        scores = f"scores for {n} classes, 0 to {n - 1}" if n > 1 else "one score, class 0"
        raise ExplgraphError(f"class {target!r}, but the model gives {scores}")
    return int(target)


def class_title(number: int, names: Sequence[str]) -> str:
    """Call a class by its name, or "class 17"."""
    return names[number] if names else f"class {number}"
