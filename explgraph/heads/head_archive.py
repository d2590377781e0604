"""The file that a head is kept in, to be opened again: an archive."""

from __future__ import annotations

import os
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from explgraph import archive
from explgraph.explaining.by_part import By
from explgraph.graph.graph import Graph, check_graph
from explgraph.heads.looks import numbered
from explgraph.parsed_parts import Pooling

__all__ = ["Kept", "read", "write"]

_FORMAT = archive.Format(
    "explgraph part head", 1, "a part head", "head", "head.json", suffix=".head", again="fit"
)

Array = NDArray[np.float64]


class Kept(NamedTuple):
    """What a file holds of a head: see `part_head.PartHead`.

    F features are looks of parts, or nodes; M nodes are read; there are K classes.
    """

    classes: tuple[str, ...]
    by: By
    parts: tuple[str, ...]
    nodes: tuple[str, ...]
    ends: list[tuple[str, str]]
    strength: float
    left_out: float
    weight: Array  # (F, K)
    bias: Array  # (K,)
    directions: Array  # (M, F); (0, 0) by nodes
    usual: Array  # (M,)
    swing: Array  # (2, F)
    there: NDArray[np.bool_]  # (F,)


_ARRAYS = ("weight", "bias", "directions", "usual", "swing", "there")
_NUMBERS = ("strength", "left_out")


def write(path: str | os.PathLike[str], kept: Kept) -> None:
    """Write what was fitted to one file.

    Raises
    ------
    ExplgraphError
        If the file can't be written.
    """
    content = {name: getattr(kept, name) for name in ("classes", "by", "parts", "nodes", "ends")}
    for name in _NUMBERS:
        value = getattr(kept, name)
        content[name] = None if np.isnan(value) else value
    archive.write(_FORMAT, path, content, {name: getattr(kept, name) for name in _ARRAYS})


def read(path: str | os.PathLike[str], graph: Graph) -> Kept:
    """Open what `write` wrote, and check it.

    Raises
    ------
    ExplgraphError
        If the file is missing, damaged or no head, or the graph is another.
    """

    def build(content: Any, given: dict[str, Any]) -> Kept:
        classes = archive.texts(content["classes"], "classes")
        by = content["by"]
        archive.check(by in get_args(By), f"by is {by!r}")
        parts = archive.texts(content["parts"], "parts")
        nodes = archive.texts(content["nodes"], "nodes")
        pooling = Pooling.of(graph)
        known = {part: k for k, part in enumerate(pooling.parts)}
        fits = {*parts} <= {*known} and {*nodes} <= {*graph.node_ids}
        archive.check(fits, "it reads parts or nodes that graph lacks; give the head's graph")
        place = {known[part]: k for k, part in enumerate(parts)}
        of = dict(zip(graph.node_ids, pooling.member.tolist(), strict=True))
        mine = tuple(node for node in graph.node_ids if of[node] in place)
        archive.check(
            nodes == mine or (by == "node" and nodes == graph.node_ids),
            "graph's parts have other nodes than the head's; give the head's graph",
        )
        m, k = len(nodes), len(classes)
        looks = numbered([place[of[node]] for node in mine], len(parts)) if by == "part" else ()
        features = len(looks) if by == "part" else m
        arrays = archive.Arrays(given)
        kept = Kept(
            classes, by, parts, nodes,
            [(str(low), str(high)) for low, high in content["ends"]],
            _number(content["strength"]),
            _number(content["left_out"]),
            arrays.take("weight", (features, k)),
            arrays.take("bias", (k,)),
            arrays.take("directions", (m, features) if by == "part" else (0, 0)),
            arrays.take("usual", (m,)),
            arrays.take("swing", (2, features)),
            arrays.take("there", (features,), dtype=np.bool_),
        )  # fmt: skip
        arrays.finish()
        archive.check(len(kept.ends) == features, "ends are not those of its looks")
        return kept

    check_graph(graph)
    return archive.read(_FORMAT, path, build)


def _number(value: float | None) -> float:
    """Give a number, NaN where it wasn't measured, which JSON has no word for."""
    return float("nan") if value is None else float(value)
