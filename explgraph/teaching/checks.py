"""What people say, refused where it is no name, no target or no answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import zip_longest
from typing import Any

import numpy as np

from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError, nearest
from explgraph.parsed import Parse
from explgraph.teaching.question import Kind
from explgraph.views.pictures import Drawable, Pictures

__all__ = [
    "check_images",
    "checked_name",
    "checked_names",
    "checked_said",
    "checked_target",
    "checked_who",
    "differs",
]

_LONGEST = 100  # characters of a part's name
_JOINERS = "\u200c\u200d"  # print nothing by themselves; Persian, and some emoji, need them


def checked_names(parts: Iterable[str]) -> list[str]:
    """Give parts' names, each once; refuse a single text, whose letters would be parts."""
    if isinstance(parts, (str, bytes)):
        raise ExplgraphError(f"parts is {parts!r}; expected a list of names, [{parts!r}]")
    if not isinstance(parts, Iterable):
        raise ExplgraphError(f"parts is {parts!r:.80}; expected a list of names")
    return list(dict.fromkeys(checked_name(name) for name in parts))


def checked_name(name: object) -> str:
    """Refuse what is no part's name."""
    text = name.strip() if isinstance(name, str) else ""
    printable = all(one.isprintable() or one in _JOINERS for one in text)
    if not text.strip(_JOINERS) or len(text) > _LONGEST or not printable:
        raise ExplgraphError(
            f"a part's name must be a text of 1 to {_LONGEST} printable characters, got "
            f"{name!r:.120}"
        )
    return text


def checked_who(who: object) -> str:
    """Refuse what names nobody: it goes into the journal."""
    if not isinstance(who, str):
        raise ExplgraphError(f"who must be a text that tells a person from others, got {who!r:.80}")
    return who


def checked_target(target: float | None) -> float | None:
    """Refuse what is no error."""
    if target is None:
        return None
    if isinstance(target, bool) or not isinstance(target, (int, float)) or not 0 < target < 1:
        raise ExplgraphError(
            f"target must be a share of the image's diagonal, above 0 and below 1, got {target!r}"
        )
    return float(target)


def checked_said(
    kind: Kind, said: Any, parts: Sequence[str], image_size: tuple[int, int]
) -> bool | dict[str, list[float] | None] | None:
    """Refuse an answer that is none; give it as JSON has it."""
    if kind != "mark":
        if said is not None and not isinstance(said, bool):
            raise ExplgraphError(f"said must be True, False or None (skip), got {said!r:.80}")
        return said
    if not isinstance(said, Mapping):
        raise ExplgraphError(
            f"said must map parts to (x, y) px or None, got {said!r:.80}; {{}} skips the image"
        )
    height, width = image_size
    taken: dict[str, list[float] | None] = {}
    for part, place in said.items():
        if part not in parts:
            raise ExplgraphError(
                f"said names the part {part!r:.120}{nearest(str(part), parts)}; taught are "
                f"{', '.join(parts) or 'none: add_part'}"
            )
        if place is None:
            taken[part] = None
            continue
        try:
            x, y = _numbers(place)
        except (TypeError, ValueError, OverflowError, RuntimeError) as err:
            raise ExplgraphError(
                f"said[{part!r}] is {place!r:.80}; expected (x, y) px, or None if it isn't visible"
            ) from err
        if not (math.isfinite(x + y) and 0 <= x <= width and 0 <= y <= height):
            raise ExplgraphError(
                f"said[{part!r}] is ({x:g}, {y:g}), outside the image of {width} x {height} px "
                "(width x height); give pixels of the network's image"
            )
        taken[part] = [x, y]
    return taken


def differs(key: str, begun: Mapping[str, Any], told: Any) -> str:
    """Say by what a folder's beginning differs from what is to be taught now."""
    there = begun.get(key)
    if key != "names" or not isinstance(there, list):
        return f"{key} ({there!r:.80}, not {told!r:.80})"
    lists = zip_longest(there, told, fillvalue="none")
    first, other = next(pair for pair in lists if pair[0] != pair[1])
    return (
        f"set of images ({len(there):,}, not {len(told):,}; where it first differs {first!r:.80}, "
        f"not {other!r:.80})"
    )


def check_images(images: Drawable | None, parse: Parse) -> None:
    """Refuse images that aren't those of a parse: marks would be written of others."""
    if images is None:
        return
    pictures = Pictures.of(images, parse.image_size, parse)
    lacking = [name for name in parse.names if name not in pictures]
    if lacking:
        raise ExplgraphError(
            f"images lacks {len(lacking):,} of the parse's {counted(len(parse.names), 'image')} "
            f"({few(lacking, 3)}); give the images that were parsed"
        )


def _numbers(place: Any) -> list[float]:
    """Give numbers; refuse what Python makes some of, though nobody means it as a place."""
    if isinstance(place, (str, bytes, Mapping, Set)):  # "12" isn't (1, 2), and sets have no order
        raise TypeError(place)
    values = list(place)
    if any(isinstance(value, (str, bytes, bool, np.bool_)) for value in values):
        raise TypeError(place)
    return [float(value) for value in values]
