"""What a node adds to a score: gradient times activation, over what is the node's own.

Behind a layer the network is, to first order, linear in the layer's maps: the gradient of a score
times the activation, unit by unit, is what the units add to it. Which units are a node's is a
matter of two choices, `Place` and `Sharing`. Questions differ, so callers do:

=============  ==========  =========  ==============================================================
who asks       place       sharing    why
=============  ==========  =========  ==============================================================
`effects`      gaussian    each       what is lost if this node *alone* is taken away; two nodes in
                                      one place would both take it
`ablate`       gaussian    split      what several nodes that are taken away *together* had, once
`rationales`   gaussian    split      the same, told node by node: nothing counts twice, and what is
                                      far from all nodes is left as unexplained
`evidence`     reach       nearest    nodes shall add up to the output, so units count in full, and
                                      each for one node
=============  ==========  =========  ==============================================================

One node's numbers differ by a factor of up to about 3 between them, for a Gaussian holds a part
only of what a filter gives around a place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from explgraph.errors import ExplgraphError
from explgraph.gaussian import factors
from explgraph.graph.graph import Graph
from explgraph.network.gradients import gradients_of
from explgraph.parser import Parser
from explgraph.statistics.mixture import Grid

__all__ = ["REACH", "Owned", "Place", "Places", "Sharing", "adds", "layer_of"]

Place: TypeAlias = Literal["gaussian", "reach"]
"""How far a node reaches: a Gaussian of its sigma around its position, 1 there; or all units within
`REACH` sigmas, in full."""
Sharing: TypeAlias = Literal["each", "split", "nearest"]
"""What nodes of one filter do where their places overlap: each has it all; they split it in
proportion where it would count more than once; or the nearest (in its sigmas) has it all."""

REACH = 3.0
"""In sigmas; 99 % of an isotropic Gaussian lie within."""

_TINY = 1e-6  # px


class Owned(NamedTuple):
    """What is the own of nodes of one layer.

    Attributes
    ----------
    filters : list of int
        Of the V nodes.
    units : (n, V, H, W)
        The part of its filter's rectified activation that is each node's.
    """

    filters: list[int]
    units: Tensor

    @property
    def activation(self) -> Tensor:
        """Of each node, (n, V)."""
        return self.units.sum((2, 3))


class Places:
    """Where a graph's nodes are in a batch, and what is their own there."""

    def __init__(self, graph: Graph) -> None:
        self._parser = Parser(graph)
        self._layers = graph.layers
        self._number = {node: k for k, node in enumerate(graph.node_ids)}
        self._values = graph.nx.nodes

    def positions(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Find all nodes ``(n, V, 2)`` px in the maps that `intervene.run` gave."""
        return self.parse(maps)[0]

    def parse(self, maps: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Give positions and expected places (n, V, 2) px and scores (n, V) of all nodes."""
        own = {
            layer.index: maps[layer.name].detach().to("cpu", torch.float32).clamp(min=0)
            for layer in self._layers
        }
        return self._parser(own)[:3]

    def weights(
        self,
        nodes: Sequence[str],
        positions: Tensor,
        like: Tensor,
        *,
        place: Place = "gaussian",
        sharing: Sharing = "each",
    ) -> Tensor:
        """Give the share that nodes of one layer have in each unit of their filters.

        Parameters
        ----------
        nodes : sequence of str
            They share among themselves: give all of the layer that are to share.
        positions : (n, V, 2)
            As `positions` gives them.
        like : Tensor
            Whose device and type the weights shall have.
        place, sharing : str

        Returns
        -------
        (n, len(nodes), H, W)
            0 to 1.
        """
        grid = Grid.of(self._layers[self._values[nodes[0]]["layer_index"]])
        at = positions[:, [self._number[node] for node in nodes]]
        sigma = torch.tensor([self._values[node]["sigma"] for node in nodes]).clamp(min=_TINY)
        along_x, along_y = factors(grid.x, grid.y, at, sigma)
        near = along_y[..., None] * along_x[..., None, :]
        weights = near if place == "gaussian" else (near >= math.exp(-(REACH**2) / 2)).to(near)
        if sharing != "each":
            weights = _shared(weights, near, self.filters(nodes), sharing)
        return weights.to(like)

    def filters(self, nodes: Sequence[str]) -> list[int]:
        """Give the nodes' filters."""
        return [self._values[node]["filter"] for node in nodes]

    def own(
        self,
        nodes: Sequence[str],
        maps: Tensor,
        positions: Tensor,
        *,
        place: Place = "gaussian",
        sharing: Sharing = "each",
    ) -> Owned:
        """Give what is the nodes' own in their layer's maps: see `weights`.

        Parameters
        ----------
        maps : (n, C, H, W)
            As `intervene.run` gave them; what is given depends on them, unless they are detached.
        """
        # sums over units are too coarse in float16
        maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
        return self.weighted(
            nodes, maps, self.weights(nodes, positions, maps, place=place, sharing=sharing)
        )

    def weighted(self, nodes: Sequence[str], maps: Tensor, weights: Tensor) -> Owned:
        """Give what is the nodes' own, whose `weights` are known."""
        filters = self.filters(nodes)
        return Owned(filters, maps[:, filters].to(weights).relu() * weights)


def _shared(weights: Tensor, near: Tensor, filters: Sequence[int], sharing: Sharing) -> Tensor:
    """Let nodes of one filter share units: split them, or leave each to the nearest."""
    order = {number: k for k, number in enumerate(dict.fromkeys(filters))}
    group = torch.tensor([order[number] for number in filters])
    n, v, h, w = near.shape
    shape = (n, len(order), h, w)
    if sharing == "split":
        return weights / weights.new_zeros(shape).index_add_(1, group, weights)[:, group].clamp(1)
    which, number = group[:, None, None].expand_as(near), torch.arange(v)[:, None, None]
    nearest = near.new_zeros(shape).scatter_reduce_(1, which, near, "amax")[:, group]
    claims = torch.where(near == nearest, number, v)  # of several, the first has it
    owner = torch.full(shape, v).scatter_reduce_(1, which, claims, "amin")[:, group]
    return weights * (owner == number)


def adds(score: Tensor, maps: Mapping[str, Tensor], own: Mapping[str, Owned]) -> dict[str, Tensor]:
    """Give what nodes add to a score, to first order: gradient times what is their own.

    Below nothing but average pooling and a linear layer that is exact.

    Parameters
    ----------
    score : (n,)
        Of each image, as it depends on `maps`.
    maps : mapping of str to (n, C, H, W)
        By layer, as `intervene.run` gave them.
    own : mapping of str to Owned
        By layer.

    Returns
    -------
    dict of str to (n, V)
        By layer, in the score's unit.
    """
    gradients = gradients_of(score.sum(), [maps[layer] for layer in own])
    return {
        layer: (gradient[:, mine.filters] * mine.units).sum((2, 3)).detach()
        for (layer, mine), gradient in zip(own.items(), gradients, strict=True)
    }


def layer_of(graph: Graph, layer: str | None) -> str:
    """Choose the highest layer that has nodes, or check the one that was chosen.

    Nodes of several layers would count the same thing several times over.
    """
    if not len(graph):
        raise ExplgraphError("the graph has no nodes; mine again, or prune less")
    if layer is None:
        return next(known.name for known in reversed(graph.layers) if graph.nodes_of(known.name))
    if not graph.nodes_of(layer):
        raise ExplgraphError(f"the graph has no nodes in layer {layer!r}; choose another")
    return layer
