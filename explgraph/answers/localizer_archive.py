"""The file that a localizer is kept in, to be opened again: an archive."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from explgraph import archive
from explgraph.answers.part_templates import FittedPart
from explgraph.answers.prepared import may_vote
from explgraph.answers.voting import Nodes, Residual, Template
from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph, check_graph

__all__ = ["Kept", "Shot", "read", "write"]

_FORMAT = archive.Format(
    "explgraph localizer", 2, "a localizer", "localizer", "localizer.json", again="fit"
)
_OF_NODES = ("top", "reliability", "follows", "stray")

Shot = tuple[str, float, float]
"""A marked image and where the mark is, px."""


class Kept(NamedTuple):
    """What a file holds of a localizer: see `localize.Localizer`."""

    nodes: Nodes
    parts: dict[str, FittedPart]
    shots: dict[str, list[Shot]]


def write(path: str | os.PathLike[str], graph: Graph, kept: Kept) -> None:
    """Write all of a localizer to one file.

    Raises
    ------
    ExplgraphError
        If the file can't be written.
    """
    height, width = graph.image_size
    content: dict[str, Any] = {
        "nodes": graph.node_ids, "height": height, "width": width, "parts": [],
    }  # fmt: skip
    arrays = {name: getattr(kept.nodes, name) for name in _OF_NODES}
    for k, (name, part) in enumerate(kept.parts.items()):
        content["parts"].append(
            {"name": name, "shots": kept.shots[name], "ratio": part.ratio,
             "presence": part.presence, "templates": len(part.templates)}
        )  # fmt: skip
        arrays |= {f"{k}/group": part.group, f"{k}/errors": part.errors}
        for t, template in enumerate(part.templates):
            arrays |= {f"{k}/template {t}/{n}": a for n, a in template._asdict().items()}
        arrays |= {f"{k}/residual/{n}": a for n, a in part.residual._asdict().items()}
    archive.write(_FORMAT, path, content, arrays)


def read(path: str | os.PathLike[str], graph: Graph) -> Kept:
    """Open what `write` wrote, and check it.

    Raises
    ------
    ExplgraphError
        If the file is missing, damaged or no localizer, or the graph is another.
    """

    def build(content: Any, given: dict[str, Any]) -> Kept:
        arrays = archive.Arrays(given)
        size = content["height"], content["width"]
        if (tuple(content["nodes"]), size) != (graph.node_ids, graph.image_size):
            raise ExplgraphError(
                f"it was fitted with a graph of {len(content['nodes'])} nodes on images of "
                f"{size[0]} x {size[1]} px, and graph has {len(graph)} others or another "
                "size; give the graph that it was fitted with"
            )
        nodes = Nodes(
            **{name: arrays.take(name, (len(graph),)) for name in _OF_NODES},
            diagonal=float(np.hypot(*graph.image_size)),
            votes=may_vote(graph),
        )
        for name in ("reliability", "follows"):
            known = [values[name] for values in graph.nx.nodes.values()]
            archive.check(
                np.array_equal(getattr(nodes, name), known),
                f"graph's nodes have another {name}; give the graph that it was fitted with",
            )
        names = archive.texts((part["name"] for part in content["parts"]), "parts")
        archive.check(bool(names), "it has no part")
        told = dict(zip(names, content["parts"], strict=True))
        shots = {name: _shots(values["shots"], graph) for name, values in told.items()}
        parts = {
            name: _part(values, len(shots[name]), arrays, str(k), len(graph))
            for k, (name, values) in enumerate(told.items())
        }
        arrays.finish()
        return Kept(nodes, parts, shots)

    check_graph(graph)
    return archive.read(_FORMAT, path, build)


def _shots(told: Any, graph: Graph) -> list[Shot]:
    """Read which images are marked, and where."""
    height, width = graph.image_size
    for image, x, y in told:
        archive.check(
            isinstance(image, str)
            and type(x) is type(y) is float
            and 0 <= x <= width
            and 0 <= y <= height,
            f"a mark is {image!r:.80}, {x!r:.20}, {y!r:.20}",
        )
    archive.check(len(told) > 0, "a part has no mark")
    return [(image, x, y) for image, x, y in told]


def _part(
    values: Mapping[str, Any], shots: int, arrays: archive.Arrays, here: str, v: int
) -> FittedPart:
    """Read a part that V nodes' votes locate."""

    def indices(name: str) -> NDArray[np.int64]:
        found = arrays.take(f"{here}/{name}", (None,), 0, v - 1, dtype=np.int64)
        archive.check(len({*found.tolist()}) == len(found), f"{here}/{name} names a node twice")
        return found

    def template(name: str) -> Template:
        voters = indices(f"{name}/voters")
        m = len(voters)
        archive.check(m > 0, f"{here}/{name} has no voter")
        return Template(
            voters,
            arrays.take(f"{here}/{name}/offset", (m, 2)),
            arrays.take(f"{here}/{name}/spread", (m,), 1e-12),  # votes are divided by it
        )

    ratio, presence = values["ratio"], values["presence"]
    numbers = [ratio, *(presence or ())]
    archive.check(
        len(numbers) == (1 if presence is None else 3)
        and all(type(x) is float and np.isfinite(x) for x in numbers),
        f"ratio and presence are {ratio!r}, {presence!r}",
    )
    templates = tuple(template(f"template {t}") for t in range(values["templates"]))
    archive.check(bool(templates), "a part has no template")
    last = len(templates) - 1
    group = arrays.take(f"{here}/group", (shots,), 0, last, dtype=np.int64)
    archive.check(len({*group.tolist()}) == len(templates), "a template was fitted to no mark")
    nodes = indices("residual/nodes")
    residual = Residual(
        nodes,
        arrays.take(f"{here}/residual/pose", (shots, 2 * len(nodes) + 2)),
        arrays.take(f"{here}/residual/weights", (shots, 2)),
    )
    return FittedPart(
        templates, residual, shots, ratio, None if presence is None else tuple(presence),
        group, arrays.take(f"{here}/errors", (shots,), 0, gaps=True),
    )  # fmt: skip
