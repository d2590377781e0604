"""What a layer's activation may be divided into: parts, nodes, whole filters, single units.

Whatever is to be kept or taken away, ranked or compared, is a set of *elements*. Of an element two
things are asked, batch by batch (`Holding`): which share of each unit some elements hold together,
and which sums over units (of activation, of contributions) are each element's. Nodes, and parts by
their nodes, hold what is their own when all nodes of the layer are told (`attribution.Places`); a
filter holds its whole map; a unit itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from explgraph.explaining.attribution import Places, Seen
from explgraph.graph.graph import Graph

__all__ = [
    "Elements",
    "Filters",
    "Groups",
    "Holding",
    "Units",
    "nodes_of",
    "parts_of",
    "speaking_parts_of",
]


class Holding(Protocol):
    """What a kind's E elements hold in one batch."""

    def shares(self, chosen: Tensor) -> Tensor:
        """Give the share (n, C, H, W) of each unit that elements hold together, 0 to 1.

        `chosen` is (n, E): how much of each element, 0 to 1, on the CPU.
        """

    def sums(self, units: Tensor) -> Tensor:
        """Sum values of units (n, C, H, W) over what is each element's, (n, E) float64, on the CPU.

        What several elements of a kind hold counts once.
        """


class Elements(Protocol):
    """A kind of elements, such as parts or filters."""

    @property
    def name(self) -> str:
        """What they are called, in the plural."""

    def within(self, maps: Tensor, seen: Seen, added: Tensor) -> Holding:
        """Say what they hold in a batch.

        Parameters
        ----------
        maps : (n, C, H, W)
            Of the layer, rectified.
        seen : Seen
            Of all the graph's nodes (`attribution.Places.seen`).
        added : (n, C, H, W)
            What units add to the score that is asked about.
        """


class Groups(NamedTuple):
    """Groups of nodes of one layer: parts, or each node by itself.

    Attributes
    ----------
    name : str
    places : Places
    nodes : tuple of str
        All nodes of the layer: they share units where they overlap.
    ids : tuple of str
        Of the E groups.
    group : (V,) int64
        Each node's group; E for none.
    speaking : bool
        Whether a group has in each image only its nodes that add to the score.
    """

    name: str
    places: Places
    nodes: tuple[str, ...]
    ids: tuple[str, ...]
    group: Tensor
    speaking: bool = False

    def within(self, maps: Tensor, seen: Seen, added: Tensor) -> _HeldByNodes:
        """See `Elements`."""
        weights = self.places.weights(self.nodes, seen, maps)
        filters = torch.tensor(self.places.filters(self.nodes), device=maps.device)
        group = self.group.expand(len(maps), -1)
        found = _HeldByNodes(maps.shape, weights, filters, group, len(self.ids))
        if not self.speaking:
            return found
        return found._replace(group=torch.where(found.by_node(added) > 0, group, len(self.ids)))


class _HeldByNodes(NamedTuple):
    shape: Sequence[int]
    weights: Tensor  # (n, V, H, W): all nodes of the layer split its units
    filters: Tensor  # (V,)
    group: Tensor  # (n, V)
    total: int  # groups

    def by_node(self, units: Tensor) -> Tensor:
        return _on_cpu((units[:, self.filters] * self.weights).sum((2, 3)))

    def shares(self, chosen: Tensor) -> Tensor:
        none = chosen.new_zeros(len(chosen), 1)
        by_node = torch.cat([chosen, none], 1).gather(1, self.group)
        own = by_node[:, :, None, None].to(self.weights) * self.weights
        return own.new_zeros(tuple(self.shape)).index_add_(1, self.filters, own).clamp_(max=1)

    def sums(self, units: Tensor) -> Tensor:
        total = torch.zeros(len(units), self.total + 1, dtype=torch.float64)
        return total.scatter_add_(1, self.group, self.by_node(units))[:, :-1]


def nodes_of(graph: Graph, places: Places, layer: str) -> Groups:
    """Give a layer's nodes as elements."""
    nodes = tuple(graph.nodes_of(layer))
    return Groups("nodes", places, nodes, nodes, torch.arange(len(nodes)))


def parts_of(graph: Graph, places: Places, layer: str) -> Groups:
    """Give the parts that have nodes in a layer as elements: what these nodes hold."""
    nodes = tuple(graph.nodes_of(layer))
    own = [graph.nx.nodes[node].get("part", "") for node in nodes]
    ids = tuple(part.id for part in graph.parts if part.id in own)
    number = {part: k for k, part in enumerate(ids)}
    group = torch.tensor([number.get(part, len(ids)) for part in own], dtype=torch.int64)
    return Groups("parts", places, nodes, ids, group)


def speaking_parts_of(graph: Graph, places: Places, layer: str) -> Groups:
    """Give the same, each part having only those of its nodes that add to the score."""
    return parts_of(graph, places, layer)._replace(name="parts' nodes for it", speaking=True)


class Filters(NamedTuple):
    """Whole filters, wherever they fire."""

    name: str = "filters"

    def within(self, maps: Tensor, seen: Seen, added: Tensor) -> _HeldByFilters:  # noqa: ARG002
        """See `Elements`."""
        return _HeldByFilters(maps.shape)


class _HeldByFilters(NamedTuple):
    shape: Sequence[int]

    def shares(self, chosen: Tensor) -> Tensor:
        return chosen[:, :, None, None].expand(tuple(self.shape))

    def sums(self, units: Tensor) -> Tensor:
        return _on_cpu(units.sum((2, 3)))


class Units(NamedTuple):
    """Single units."""

    name: str = "units"

    def within(self, maps: Tensor, seen: Seen, added: Tensor) -> _HeldByUnits:  # noqa: ARG002
        """See `Elements`."""
        return _HeldByUnits(maps.shape)


class _HeldByUnits(NamedTuple):
    shape: Sequence[int]

    def shares(self, chosen: Tensor) -> Tensor:
        return chosen.view(tuple(self.shape))

    def sums(self, units: Tensor) -> Tensor:
        return _on_cpu(units.flatten(1))


def _on_cpu(values: Tensor) -> Tensor:
    """Give values as float64; not every device has it."""
    return values.cpu().double()
