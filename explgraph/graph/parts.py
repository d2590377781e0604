"""Parts of a graph: nodes of all filters and layers that sit at the same thing.

Mining finds them (`statistics.grouping`). In a graph every node names its part (attribute ``part``,
empty for none) and says how near it is to what the part's nodes do together (``part_weight``); what
else is known of the parts is in the graph's attribute ``parts``, a list of `RECORD`.

People decide: parts get names, are merged, split and rejected. Such decisions are kept in a
``labels.json`` (`explgraph.graph.labels`) with the nodes and the place of each part, by which they
find the parts again in a graph that was mined anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import networkx
import numpy as np
from numpy.typing import NDArray

from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError, nearest
from explgraph.graph.labels import DecidedPart
from explgraph.network.geometry import Layer
from explgraph.statistics.fitted import Fitted
from explgraph.statistics.grouping import STILL, trajectory_points, two_halves, typicality

__all__ = [
    "RECORD",
    "Part",
    "apply_decisions",
    "check_parts",
    "decisions",
    "find_part",
    "merged",
    "part_graph",
    "parts_of",
    "rejected",
    "renamed",
    "split",
    "turns",
    "weights",
]

RECORD: Mapping[str, type] = {
    "id": str,
    "name": str,
    "reliability": float,
    "support": float,
    "offset": float,
    "slope": float,
    "together": dict,
    "rejected": list,
    "decided": bool,
}
"""What the graph says of a part: see `Part`; its presence in an image is
``1 / (1 + exp(-(offset + slope s)))`` for the weighted mean score s of its nodes; ``together``: by
the other parts' ids, the correlation of presences in the mined images; ``rejected``: the nodes that
it had when people rejected it, empty for a part that there is; ``decided``: whether people named,
merged, split or rejected it."""

_EXEMPLARS = 16
_FOUND = 0.5  # of a part's filters are those of a part that was decided on, if it is the same
_PLACE = 0.2  # of the image's side that their usual places may be apart
_SAME = 0.01  # the same, of one and the same graph: rounding


class Graph(Protocol):
    """What is needed of a graph (`graph.Graph`, which uses this module)."""

    nx: networkx.DiGraph
    fitted: dict[str, NDArray[Any]]
    top_images: dict[str, list[list[Any]]]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Those mined."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width, px."""


@dataclass(frozen=True)
class Part:
    """Something that nodes of many filters sit at.

    Attributes
    ----------
    id : str
        ``"p1"``, ``"p2"`` ...: those that move first, then the one of most reliability.
    name : str
        As people gave it; empty if none has.
    nodes : tuple of str
        Its nodes in the graph, the most telling first: by reliability times ``part_weight``.
    layers : tuple of str
        That they are in, lowest first.
    place : (float, float)
        Usual place ``[x, y]``, px.
    support : float
        Share of the mined images that show it.
    reliability : float
        How far two halves of the filters agree on which nodes it has, 0 to 1.
    follows : float
        How much of its nodes' movement the pose explains, mean by how much they say of the part,
        0 to 1; near 0 for what stands still, such as the corners of the photographs (`still`).
    exemplars : tuple of (str, float, float, float)
        Images that show it best: name, x, y (px), score; best first.
    """

    id: str
    name: str
    nodes: tuple[str, ...]
    layers: tuple[str, ...]
    place: tuple[float, float]
    support: float
    reliability: float
    follows: float
    exemplars: tuple[tuple[str, float, float, float], ...]

    def __repr__(self) -> str:
        return (
            f"Part({self.id!r}, {few([self.title])!r}: {counted(len(self.nodes), 'node')} in "
            f"{counted(len(self.layers), 'layer')}, support {self.support:.0%}, reliability "
            f"{self.reliability:.2f})"
        )

    @property
    def title(self) -> str:
        """Its name, or "part 3"."""
        return self.name or f"part {self.id.removeprefix('p')}"

    @property
    def still(self) -> bool:
        """Whether it stands still, whatever the object does: often background."""
        return self.follows < STILL


def weights(graph: Graph) -> NDArray[np.float64]:
    """Give how much each node says of its part's place and presence, (V,); 0 for those of none."""
    return np.array(
        [
            values["reliability"] * values["part_weight"] if values.get("part") else 0.0
            for values in graph.nx.nodes.values()
        ]
    )


def parts_of(graph: Graph) -> tuple[Part, ...]:
    """Give the parts that have nodes in a graph, in the order of its ``parts``."""
    weight = dict(zip(graph.nx, weights(graph), strict=True))
    members: dict[str, list[str]] = {}
    for node, values in graph.nx.nodes.items():
        if values.get("part"):
            members.setdefault(values["part"], []).append(node)
    found = []
    for record in graph.nx.graph.get("parts", []):
        nodes = sorted(members.get(record["id"], []), key=lambda node: -weight[node])
        if not nodes:
            continue
        share = np.array([weight[node] for node in nodes])
        share = share / share.sum() if share.sum() > 0 else np.full(len(nodes), 1 / len(nodes))
        x, y = (
            float(share @ np.array([graph.nx.nodes[node][axis] for node in nodes]))
            for axis in ("x", "y")
        )
        layers = {graph.nx.nodes[v]["layer_index"]: graph.nx.nodes[v]["layer"] for v in nodes}
        found.append(
            Part(
                record["id"],
                record["name"],
                tuple(nodes),
                tuple(layers[index] for index in sorted(layers)),
                (x, y),
                record["support"],
                record["reliability"],
                float(share @ np.array([graph.nx.nodes[node]["follows"] for node in nodes])),
                _exemplars(graph, nodes, share),
            )
        )
    return tuple(found)


def _exemplars(
    graph: Graph, nodes: Sequence[str], share: NDArray[np.float64]
) -> tuple[tuple[str, float, float, float], ...]:
    """Images that several nodes score best in, and where: of the most telling node there."""
    total: dict[str, float] = {}
    place: dict[str, tuple[float, float]] = {}
    for node, much in zip(nodes, share, strict=True):
        for name, x, y, score in graph.top_images.get(node, []):
            total[name] = total.get(name, 0.0) + float(much) * score
            place.setdefault(name, (x, y))  # nodes come in their order
    best = sorted(total, key=lambda name: (-total[name], name))[:_EXEMPLARS]
    return tuple((name, *place[name], total[name]) for name in best)


def find_part(graph: Graph, part: str) -> Part:
    """Find a part by its id, its name or, without one, its title.

    Raises
    ------
    ExplgraphError
        If there is none, or several parts have the name.
    """
    parts = parts_of(graph)
    if not parts:
        raise ExplgraphError(
            "the graph has no parts; it was mined from images in which nodes of different filters "
            "agree on none, or its parts were rejected"
        )
    found = [one for one in parts if part == one.id]
    found = found or [one for one in parts if part and part == one.name]
    found = found or [one for one in parts if part == one.title]
    if len(found) > 1:
        raise ExplgraphError(
            f"the name {part!r} is that of several parts: {', '.join(one.id for one in found)}; "
            "give an id"
        )
    if not found:
        known = [one.id for one in parts] + [one.name for one in parts if one.name]
        raise ExplgraphError(
            f"the graph has no part {part!r}{nearest(str(part), known)}; its parts are "
            f"{', '.join(known)}"
        )
    return found[0]


def turns(graph: Graph, nodes: Iterable[str]) -> dict[str, int]:
    """Say in which turn nodes come: see `Graph.turns`."""
    weight = dict(zip(graph.nx, weights(graph), strict=True))
    found: dict[str, int] = {}
    count: dict[str, int] = {}
    wanted = list(nodes)
    for node in wanted:
        if node not in graph.nx:
            raise ExplgraphError(f"the graph has no node {node!r}; see graph.node_ids")
    for node in sorted(wanted, key=lambda node: -weight[node]):
        part = graph.nx.nodes[node].get("part", "")
        if part:
            found[node] = count.get(part, 0)
            count[part] = found[node] + 1
    last = max(count.values(), default=0)
    return {node: found.get(node, last) for node in wanted}


def check_parts(nx: networkx.DiGraph) -> None:
    """Check what a graph says of its parts.

    Raises
    ------
    ExplgraphError
    """
    records = nx.graph.get("parts", [])
    where = "graph attribute 'parts'"
    if not isinstance(records, list):
        raise ExplgraphError(f"{where} is {type(records).__name__}; expected a list")
    known: set[str] = set()
    for record in records:
        if not isinstance(record, dict) or record.keys() != RECORD.keys():
            raise ExplgraphError(f"{where} holds {record!r}; expected {', '.join(RECORD)}")
        for name, kind in RECORD.items():
            if type(record[name]) is not kind:
                raise ExplgraphError(
                    f"{where}: {name!r} is {record[name]!r}; expected {kind.__name__}"
                )
        if not all(type(value) is float for value in record["together"].values()):
            raise ExplgraphError(f"{where}: together is {record['together']!r}; expected floats")
        if not record["id"] or record["id"] in known:
            raise ExplgraphError(f"{where}: the id {record['id']!r} is empty or occurs twice")
        known.add(record["id"])
    for node, values in nx.nodes.items():
        part = values.get("part", "")
        if part and (part not in known or "part_weight" not in values):
            raise ExplgraphError(
                f"node {node!r}: part is {part!r}, with part_weight "
                f"{values.get('part_weight')!r}; expected one of {', '.join(sorted(known))}, and a "
                "number"
            )


# --------------------------------------------------------------------------------------- decisions


def renamed(graph: Graph, part: str, name: str) -> None:
    """Give a part a name; see `Graph.name_part`."""
    one = find_part(graph, part)
    if not isinstance(name, str):
        raise ExplgraphError(f"name must be a str, got {name!r}")
    for other in parts_of(graph):
        if other.id != one.id and name in (other.id, f"part {other.id.removeprefix('p')}"):
            raise ExplgraphError(
                f"name is {name!r}, as another part is called that has no name; choose another"
            )
    _record(graph, one.id).update(name=name, decided=True)


def merged(graph: Graph, parts: Sequence[str], name: str | None) -> None:
    """Make several parts one, the first of them; see `Graph.merge_parts`."""
    if isinstance(parts, str) or len(parts) < 2:
        raise ExplgraphError(f"parts must be two parts or more, got {parts!r}")
    found = [find_part(graph, part) for part in parts]
    ids = [one.id for one in found]
    if len(set(ids)) < len(ids):
        raise ExplgraphError(f"parts names a part twice: {', '.join(ids)}")
    names = sorted({one.name for one in found} - {""})
    if name is None and len(names) > 1:
        raise ExplgraphError(
            f"the parts have the names {', '.join(map(repr, names))}; say which by name=..."
        )
    records = [_record(graph, one.id) for one in found]
    size = np.array([len(one.nodes) for one in found], dtype=np.float64)
    first = records[0]
    for key in ("reliability", "offset", "slope"):
        first[key] = float(np.average([record[key] for record in records], weights=size))
    first["support"] = max(record["support"] for record in records)
    first["name"] = name if name is not None else names[0] if names else ""
    first["decided"] = True
    first["together"] = {
        other: max(record["together"].get(other, 0.0) for record in records)
        for other in first["together"]
        if other not in ids
    }
    for values in graph.nx.nodes.values():
        if values.get("part") in ids:
            values["part"] = ids[0]
    _drop(graph, ids[1:])


def split(graph: Graph, part: str) -> None:
    """Make two parts of one, by what its nodes do; see `Graph.split_part`."""
    one = find_part(graph, part)
    points = trajectories(graph)
    index = {node: v for v, node in enumerate(graph.nx)}
    mine = np.array([index[node] for node in one.nodes])
    weight = np.array([graph.nx.nodes[node]["reliability"] for node in one.nodes])
    side = float(np.sqrt(np.prod(graph.image_size)))
    second = two_halves(points[mine], weight, side)
    if not second.any():
        raise ExplgraphError(f"part {one.id!r} can't be split: its nodes do all the same")
    # beyond the last one: an id that was merged away or rejected is not used again
    number = 1 + max(_number(record["id"]) for record in graph.nx.graph["parts"])
    _record(graph, one.id)["decided"] = True
    new = _copied(graph, one.id, f"p{number}")["id"]
    for which, label in ((~second, one.id), (second, new)):
        _assign(graph, [one.nodes[i] for i in np.flatnonzero(which)], label, points, index)


def _copied(graph: Graph, part: str, new: str) -> dict[str, Any]:
    """Put a part like another one after it."""
    records = graph.nx.graph["parts"]
    record = _record(graph, part)
    copied = {**record, "id": new, "together": dict(record["together"])}
    records.insert(records.index(record) + 1, copied)
    for other in records:
        if part in other["together"]:
            other["together"][new] = other["together"][part]
    return copied


def rejected(graph: Graph, part: str) -> None:
    """Take a part away; its nodes stay, and belong to none; see `Graph.reject_part`."""
    one = find_part(graph, part)
    for node in one.nodes:
        graph.nx.nodes[node].update(part="", part_weight=0.0)
    _record(graph, one.id).update(rejected=list(one.nodes), decided=True)


def decisions(graph: Graph) -> tuple[DecidedPart, ...]:
    """Say what people decided on the parts, with what finds them again."""
    found = []
    living = {part.id: part for part in parts_of(graph)}
    for record in graph.nx.graph.get("parts", []):
        nodes = record["rejected"] or (living[record["id"]].nodes if record["id"] in living else ())
        nodes = tuple(node for node in nodes if node in graph.nx)
        if record["decided"] and nodes:
            place = _usual(graph, nodes)
            found.append(
                DecidedPart(record["id"], record["name"], bool(record["rejected"]), nodes, place)
            )
    return tuple(found)


def apply_decisions(graph: Graph, decided: Sequence[DecidedPart]) -> list[DecidedPart]:
    """Take decisions on parts up, in place; give those whose part was not found.

    In the graph that they were made in, they hold node by node. In another one a part is taken for
    the decided one if at least half of its filters are that one's and it is usually where that one
    was; several such parts become one.
    """
    if not decided:
        return []
    side = float(np.sqrt(np.prod(graph.image_size)))
    if all(_is_here(graph, part, _SAME * side) for part in decided):
        _apply_to_the_same(graph, decided)
        return []
    missing = []
    filters = {part.id: _filters(part.nodes) for part in decided}
    taken: dict[str, list[str]] = {}
    for one in parts_of(graph):
        mine = _filters(one.nodes)
        place = np.array(_usual(graph, one.nodes))
        shared = {
            part.id: len(mine & filters[part.id]) / len(mine)
            for part in decided
            if np.linalg.norm(place - part.place) <= _PLACE * side
        }
        best = max(shared, key=lambda part: shared[part], default=None)
        if best is not None and shared[best] >= _FOUND:
            taken.setdefault(best, []).append(one.id)
    for part in decided:
        here = taken.get(part.id, [])
        if not here:
            missing.append(part)
            continue
        if len(here) > 1:
            merged(graph, here, part.name)
        if part.rejected:
            rejected(graph, here[0])
        else:
            _record(graph, here[0]).update(name=part.name, decided=True)
    return missing


def _apply_to_the_same(graph: Graph, decided: Sequence[DecidedPart]) -> None:
    """Take up decisions that were made in this graph."""
    points = trajectories(graph)
    index = {node: v for v, node in enumerate(graph.nx)}
    records: list[dict[str, Any]] = graph.nx.graph.setdefault("parts", [])
    known = {record["id"]: record for record in records}
    for part in decided:
        whole = [one.id for one in parts_of(graph) if set(one.nodes) <= set(part.nodes)]
        whole.sort(key=lambda one: one != part.id)  # keeps its id
        held_by_them = sum(a.get("part") in whole for a in graph.nx.nodes.values())
        if len(whole) > 1 and held_by_them == len(part.nodes) and not part.rejected:
            merged(graph, whole, part.name)
            records = graph.nx.graph["parts"]
            continue
        if part.id not in known:  # split off another one
            there = [graph.nx.nodes[node].get("part", "") for node in part.nodes]
            source = next((label for label in there if label in known), None)
            if source is None:
                continue  # its nodes belonged to none: nothing is known of them
            known[part.id] = _copied(graph, source, part.id)
        out = list(part.nodes) if part.rejected else []
        known[part.id].update(name=part.name, rejected=out, decided=True)
        if part.rejected:
            for node in part.nodes:
                graph.nx.nodes[node].update(part="", part_weight=0.0)
        elif {v for v, a in graph.nx.nodes.items() if a.get("part") == part.id} != set(part.nodes):
            _assign(graph, part.nodes, part.id, points, index)
    held = {values.get("part") for values in graph.nx.nodes.values()}
    gone = [record["id"] for record in records if record["id"] not in held]
    _drop(graph, [name for name in gone if not known[name]["rejected"]])


def _assign(
    graph: Graph,
    nodes: Sequence[str],
    part: str,
    points: NDArray[np.float64],
    index: Mapping[str, int],
) -> None:
    """Make nodes those of a part, and say how typical they are of it."""
    nodes = sorted(nodes, key=index.__getitem__)  # sums don't depend on who asks
    here = np.array([index[node] for node in nodes])
    weight = np.array([graph.nx.nodes[node]["reliability"] for node in nodes])
    centre = np.average(points[here], axis=0, weights=weight if weight.sum() > 0 else None)
    side = float(np.sqrt(np.prod(graph.image_size)))
    for node, much in zip(nodes, typicality(points[here], centre, side), strict=True):
        graph.nx.nodes[node].update(part=part, part_weight=float(much))


def _is_here(graph: Graph, part: DecidedPart, near: float) -> bool:
    """Whether a graph has all nodes of a part, where they were."""
    if not part.nodes or any(node not in graph.nx for node in part.nodes):
        return False
    return bool(np.linalg.norm(np.subtract(_usual(graph, part.nodes), part.place)) <= near)


def _usual(graph: Graph, nodes: Sequence[str]) -> tuple[float, float]:
    """Mean of nodes' usual places, px."""
    places = [(graph.nx.nodes[node]["x"], graph.nx.nodes[node]["y"]) for node in nodes]
    x, y = np.mean(places, axis=0)
    return float(x), float(y)


def _filters(nodes: Sequence[str]) -> set[str]:
    """Name the filters of nodes."""
    return {node.rpartition("/")[0] for node in nodes}


def _number(part: str) -> int:
    """Read the number in an id; 0 if it is none of ours."""
    digits = part.removeprefix("p")
    return int(digits) if digits.isdecimal() else 0


def _record(graph: Graph, part: str) -> dict[str, Any]:
    record: dict[str, Any] = next(r for r in graph.nx.graph["parts"] if r["id"] == part)
    return record


def _drop(graph: Graph, ids: Sequence[str]) -> None:
    """Forget some parts."""
    kept = [record for record in graph.nx.graph["parts"] if record["id"] not in ids]
    for record in kept:
        record["together"] = {k: r for k, r in record["together"].items() if k not in ids}
    graph.nx.graph["parts"] = kept


# ------------------------------------------------------------------------------ what parts do


def trajectories(graph: Graph) -> NDArray[np.float64]:
    """Lay the nodes' trajectories out, (V, d) px: see `statistics.grouping.trajectory_points`.

    Raises
    ------
    ExplgraphError
        If the graph lacks the parameters of mining.
    """
    fitted = Fitted.unpack(graph.fitted, graph.layers)
    mean, loading = [], []
    for values in graph.nx.nodes.values():
        layer = fitted.layers[values["layer_index"]]
        mean.append(layer.mean[values["filter"], values["pattern"]].numpy())
        loading.append(layer.loading[values["filter"], values["pattern"]].numpy())
    q = fitted.reader.exemplars.shape[1]
    return trajectory_points(
        np.array(mean, dtype=np.float64).reshape(-1, 2),
        np.array(loading, dtype=np.float64).reshape(-1, 2, q),
        fitted.reader.exemplars.numpy().astype(np.float64),
    )


def part_graph(graph: Graph) -> networkx.DiGraph:
    """Make the graph of the parts; see `Graph.part_graph`."""
    parts = parts_of(graph)
    made = networkx.DiGraph()
    if not parts:
        return made
    points, weight = trajectories(graph), weights(graph)
    index = {node: v for v, node in enumerate(graph.nx)}
    records = {record["id"]: record for record in graph.nx.graph["parts"]}
    centre: dict[str, NDArray[np.float64]] = {}
    for part in parts:
        mine = np.array([index[node] for node in part.nodes])
        share = weight[mine] if weight[mine].sum() > 0 else np.ones(len(mine))
        centre[part.id] = np.average(points[mine], axis=0, weights=share)
        made.add_node(
            part.id,
            name=part.name,
            x=part.place[0],
            y=part.place[1],
            support=part.support,
            reliability=part.reliability,
            follows=part.follows,
            nodes=len(part.nodes),
            layers=", ".join(part.layers),
        )
    links: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for parent, child, values in graph.nx.edges(data=True):
        pair = tuple(graph.nx.nodes[v].get("part", "") for v in (parent, child))
        if "" not in pair and pair[0] != pair[1]:
            link = parent, values.get("effect", np.nan)
            links.setdefault((pair[0], pair[1]), []).append(link)
    for (upper, lower), there in sorted(links.items()):
        back = links.get((lower, upper), [])
        if len(back) > len(there) or (len(back) == len(there) and lower < upper):
            continue  # the other way
        move = centre[lower] - centre[upper]
        edge: dict[str, Any] = {
            "dx": float(move[0]),
            "dy": float(move[1]),
            "sigma": float(np.sqrt(np.square(move[2:]).sum() / 2)),
            "copresence": records[upper]["together"].get(lower, 0.0),
            "links": len(there) + len(back),
        }
        shares: dict[str, float] = {}
        for parent, effect in there:
            if np.isfinite(effect):
                shares[parent] = shares.get(parent, 0.0) + effect
        if shares:
            edge["effect"] = float(np.mean(list(shares.values())))
        made.add_edge(upper, lower, **edge)
    return made
