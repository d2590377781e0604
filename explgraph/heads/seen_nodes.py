"""Where nodes and parts are in maps, and whether, so that gradients run back to the maps.

The same as `parser` and `parsed_parts` compute, in torch from end to end. Two things are constants
for the gradient:

*Poses.* They say where each node should be before its own map is looked at. Reading them (peaks,
the choice among exemplars, trust in guides, roots of what silent guides show) has no finite
derivative (`benchmarks/part_head.py --only poses`). Held, slopes tell most of what places do when
all maps change at random: correlation 0.71, size 0.69 of it.

*The mixture's parameters.* They are what was mined.

Without gradients the compiled kernel does the work, as in parsing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from explgraph.graph.graph import Graph
from explgraph.parsed_parts import MOST_LOGIT, Pooling
from explgraph.parser import Parser
from explgraph.statistics.fitted import FittedLayer
from explgraph.statistics.inference import infer, scaled

__all__ = ["NodeFinder", "PartPlaces", "SeenNodes"]

_TINY = 1e-12


class SeenNodes(NamedTuple):
    """What was seen of V nodes in n images.

    Attributes
    ----------
    positions, expected : (n, V, 2)
        px.
    scores : (n, V)
        Presence, 0 to 1.
    """

    positions: Tensor
    expected: Tensor
    scores: Tensor


class NodeFinder:
    """Finds some of a graph's nodes in maps, differentiably.

    Parameters
    ----------
    graph : ExplanatoryGraph
    nodes : sequence of str
        V of its nodes, in the order of what is given.
    """

    def __init__(self, graph: Graph, nodes: Sequence[str]) -> None:
        self._parser = Parser(graph)
        self.layers = graph.layers
        self._parts: dict[int, tuple[Tensor, FittedLayer, Tensor]] = {}
        self._like: dict[tuple[torch.device, torch.dtype], Any] = {}
        values = [graph.nx.nodes[node] for node in nodes]
        order: list[int] = []
        for index, layer in self._parser.fitted.layers.items():
            here = [v for v, one in enumerate(values) if one["layer_index"] == index]
            if not here:
                continue
            order += here
            k = layer.sigma.shape[1]
            # filters are apart from one another, so that those without nodes need no look
            filters = sorted({values[v]["filter"] for v in here})
            row = {number: i for i, number in enumerate(filters)}
            some = torch.tensor(filters)
            rows = [row[values[v]["filter"]] * k + values[v]["pattern"] for v in here]
            own = layer._asdict()
            less = layer._replace(
                **{name: value[some] for name, value in own.items() if name != "decoys"}
            )
            self._parts[index] = (some, less, torch.tensor(rows))
        self._order = torch.tensor(order).argsort() if order else torch.empty(0, dtype=torch.int64)

    @torch.no_grad()
    def poses(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Read the poses (n, q) off rectified maps, by the names of all the graph's layers."""
        fitted, grids, prepared, _, _ = self._like_maps(maps)
        own = {
            layer.index: scaled(maps[layer.name], fitted.layers[layer.index].scale)
            for layer in self.layers
        }
        poses: Tensor = fitted.poses(own, grids, prepared)
        return poses

    def __call__(self, maps: Mapping[str, Tensor], poses: Tensor) -> SeenNodes:
        """Find the nodes in rectified maps (n, C, H, W), by layer, of images of some poses.

        What is given is on the maps' device and of their type, and depends on them.
        """
        _, grids, _, parts, order = self._like_maps(maps)
        found = []
        for layer in self.layers:
            if layer.index in parts:
                some, fitted, rows = parts[layer.index]
                here = scaled(maps[layer.name][:, some], fitted.scale)
                seen = infer(fitted, here, poses, grids[layer.index], self._parser.area)
                found.append(
                    (seen.positions[:, rows], seen.expected[:, rows], seen.scores[:, rows])
                )
        return SeenNodes(*(torch.cat(part, 1)[:, order] for part in zip(*found, strict=True)))

    def _like_maps(self, maps: Mapping[str, Tensor]) -> Any:
        """Give the parameters on the maps' device, of their type; they are kept."""
        first = next(iter(maps.values()))
        device, dtype = first.device, first.dtype
        if (device, dtype) not in self._like:
            parser = self._parser
            held = (parser.fitted, parser.grids, self._parts, self._order)
            fitted, grids, parts, order = _like(held, device, dtype)
            self._like[device, dtype] = fitted, grids, fitted.prepared(grids), parts, order
        return self._like[device, dtype]


def _like(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Move all tensors in tuples, lists and mappings, and give those of numbers a type."""
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else value.dtype)
    if isinstance(value, Mapping):
        return {key: _like(one, device, dtype) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        values = [_like(one, device, dtype) for one in value]
        return type(value)(*values) if hasattr(value, "_fields") else type(value)(values)
    return value


class PartPlaces:
    """Pools parts from nodes as `Pooling` does, differentiably.

    Parameters
    ----------
    pooling : Pooling
        Of the graph's V nodes and P parts.
    """

    def __init__(self, pooling: Pooling) -> None:
        v, p = len(pooling.member), len(pooling.parts)
        shares, exact = torch.zeros(v, p).double(), torch.zeros(v, p).double()
        for k in range(p):
            mine, weight, place = map(torch.from_numpy, pooling.of_part(k))
            shares[mine, k] = weight / weight.sum()
            exact[mine, k] = place / place.sum()  # what cancels in the mean move
        self._held = (
            shares, exact, torch.from_numpy(pooling.offset), torch.from_numpy(pooling.slope)
        )  # fmt: skip

    def __call__(self, seen: SeenNodes) -> Tensor:
        """Give x, y (px) and presence of the parts, (n, P, 3), of all the graph's nodes."""
        like = seen.scores
        shares, exact, offset, slope = (value.to(like) for value in self._held)
        usual = torch.einsum("nvi,vp->npi", seen.expected, exact)
        votes = (seen.positions - seen.expected) * seen.scores[..., None]
        total = seen.scores @ exact
        move = torch.einsum("nvi,vp->npi", votes, exact) / total.clamp(min=_TINY)[..., None]
        logit = (offset + slope * (seen.scores @ shares)).clamp(-MOST_LOGIT, MOST_LOGIT)
        return torch.cat([usual + move, logit.sigmoid()[..., None]], -1)
