"""The file that a decision tree is kept in, to be opened again: an archive.

What other programs and people read of a tree is written by `tree_files`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from explgraph import archive
from explgraph.answers.modes import ROOT, Array, Mode
from explgraph.answers.rationales import Rationales, checked_positive
from explgraph.explaining.attribution import Rests

__all__ = ["Kept", "read", "write"]

_FORMAT = archive.Format(
    "explgraph decision tree", 2, "a decision tree", "tree", "tree.json", again="grow"
)


class Kept(NamedTuple):
    """What a file holds of a tree: see `decision_tree.DecisionTree`."""

    modes: tuple[Mode, ...]
    nodes: tuple[str, ...]
    unit: Array
    objective: dict[int, float]
    fitted: Rationales
    positive: NDArray[np.bool_]


def write(
    path: str | os.PathLike[str],
    fitted: Rationales,
    positive: NDArray[np.bool_],
    modes: Sequence[Mode],
    unit: Array,
    objective: Mapping[int, float],
) -> None:
    """Write all of a tree to one file.

    Raises
    ------
    ExplgraphError
        If the file can't be written.
    """
    content = {
        "nodes": fitted.nodes,
        "titles": fitted.titles,
        "told": fitted.told,
        "class_title": fitted.class_title,
        "names": fitted.names,
        "objective": objective,
        "modes": [
            {"parent": mode.parent, "children": mode.children, "images": mode.images}
            for mode in modes
        ],
    }
    names = ["activations", "contributions", "scores", "first"]
    names += ["places"] * (fitted.places is not None)
    arrays = {name: getattr(fitted, name) for name in names}
    arrays |= fitted.rests._asdict() | {
        "unit": unit,
        "positive": positive,
        "directions": np.stack([mode.direction for mode in modes]),
        "weights": np.stack([mode.weights for mode in modes]),
        "bias": np.array([mode.bias for mode in modes]),
    }
    archive.write(_FORMAT, path, content, arrays)


def read(path: str | os.PathLike[str]) -> Kept:
    """Open a file that `write` wrote.

    Raises
    ------
    ExplgraphError
        If the file is missing, damaged or no tree.
    """
    return archive.read(_FORMAT, path, _build)


def _build(content: Any, given: dict[str, Any]) -> Kept:
    """Take what a file holds, and check it."""
    arrays, check = archive.Arrays(given), archive.check
    nodes, names = archive.texts(content["nodes"], "nodes"), tuple(content["names"])
    v, n, m = len(nodes), len(names), len(content["modes"])
    check(all(isinstance(name, str) for name in names), "an image's name is no text")
    found = Rationales(
        nodes, names,
        arrays.take("activations", (n, v)),
        arrays.take("contributions", (n, v)),
        arrays.take("scores", (n,)),
        arrays.take("first", (n,), dtype=np.bool_),
        Rests(*(arrays.take(name, (n,)) for name in Rests._fields)),
        archive.texts(content.get("titles", ()), "titles"),
        archive.texts(content.get("told", ()), "told"),
        arrays.take("places", (n, v, 2)) if "places" in given else None,
        str(content.get("class_title", "")),
    )  # fmt: skip
    for known in (found.titles, found.told):
        check(len(known) in (0, v), f"{len(known)} titles for {v} parts")
    positive = checked_positive(arrays.take("positive", (n,), dtype=np.bool_), found)
    directions, weights = (arrays.take(name, (m, v)) for name in ("directions", "weights"))
    bias = arrays.take("bias", (m,)).tolist()
    modes = tuple(
        Mode(values["parent"], tuple(values["children"]), tuple(values["images"]), *own)
        for values, *own in zip(content["modes"], directions, weights, bias, strict=True)
    )
    check(modes[ROOT].images == tuple(range(positive.sum())), "the root lacks images of the class")
    for number, mode in enumerate(modes):
        whole = all(type(k) is int and k >= 0 for k in (*mode.children, *mode.images))
        above = () if mode.parent is None else modes[mode.parent].children
        check(
            whole
            and (mode.parent is None if number == ROOT else number in above)
            and all(child > number and modes[child].parent == number for child in mode.children)
            and bool(mode.children or len(mode.images) == 1)
            and not (mode.children and sorted(mode.images)
                     != sorted(i for child in mode.children for i in modes[child].images)),
            f"mode {number} doesn't fit the modes above and below it",
        )  # fmt: skip
    objective = {int(k): float(value) for k, value in content["objective"].items()}
    check(bool(np.isfinite([*objective.values()]).all()), "objective is not finite")
    unit = arrays.take("unit", (v,))
    arrays.finish()
    return Kept(modes, nodes, unit, objective, found, positive)
