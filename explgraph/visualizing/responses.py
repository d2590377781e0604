"""How strongly nodes answer at given places, as a function of the image that gradients run through.

A node's response is its filter's rectified map, divided by the filter's scale and weighted by a
Gaussian of the node's sigma around a place, summed over the units. All that this wing computes are
gradients of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from explgraph.errors import ExplgraphError, nearest
from explgraph.gaussian import factors
from explgraph.graph.graph import Graph, check_graph
from explgraph.graph.parts import find_part
from explgraph.network.hooks import catch, check_model, model_device, model_dtype
from explgraph.network.map_formats import read_maps
from explgraph.statistics.fitted import Fitted
from explgraph.statistics.mixture import Grid

__all__ = ["Asked", "Responses", "asked"]

_TINY = 1e-6  # px, and scale of a filter that never answered


class Asked(NamedTuple):
    """A node, or a part with all its nodes.

    Attributes
    ----------
    id : str
        Of the node or the part.
    nodes : tuple of str
    weights : (V,)
        Of the nodes, at most 1: how near each is to what its part's nodes do together.
    """

    id: str
    nodes: tuple[str, ...]
    weights: Tensor


def asked(graph: Graph, what: str) -> Asked:
    """Look up a node by its id, or a part by its id, name or title.

    Raises
    ------
    ExplgraphError
        If there is neither.
    """
    check_graph(graph)
    if what in graph.nx:
        return Asked(what, (what,), torch.ones(1))
    if not isinstance(what, str) or "/" in what:
        hint = nearest(str(what), graph.node_ids)
        raise ExplgraphError(f"the graph has no node {what!r}{hint}; see graph.node_ids")
    part = find_part(graph, what)
    weights = [graph.nx.nodes[node]["part_weight"] for node in part.nodes]
    return Asked(part.id, part.nodes, torch.tensor(weights, dtype=torch.float32))


class Responses:
    """Some of a graph's nodes in a model, ready to be asked.

    Parameters
    ----------
    model : torch.nn.Module
        That was mined, in evaluation mode. Its parameters' gradients and its buffers stay as they
        are.
    graph : ExplanatoryGraph
    nodes : sequence of str
        V of the graph's nodes.
    """

    def __init__(self, model: nn.Module, graph: Graph, nodes: Sequence[str]) -> None:
        check_graph(graph)
        check_model(model)
        self.model, self.nodes = model, tuple(nodes)
        self.device, self.dtype = model_device(model), model_dtype(model)
        values = [graph.nx.nodes[node] for node in nodes]
        fitted = Fitted.unpack(graph.fitted, graph.layers, self.device)
        self._columns = {
            layer.name: [k for k, v in enumerate(values) if v["layer_index"] == layer.index]
            for layer in graph.layers
            if any(v["layer_index"] == layer.index for v in values)
        }
        self.layers = [layer for layer in graph.layers if layer.name in self._columns]
        self.layer_of = [v["layer"] for v in values]
        self.image_size = graph.image_size
        self._filters, self._scale, self._sigma, self._grid = {}, {}, {}, {}
        for layer in self.layers:
            here = [values[k] for k in self._columns[layer.name]]
            filters = torch.tensor([v["filter"] for v in here], device=self.device)
            self._filters[layer.name] = filters
            self._scale[layer.name] = fitted.layers[layer.index].scale[filters].clamp(min=_TINY)
            sigma = torch.tensor([v["sigma"] for v in here], device=self.device)
            self._sigma[layer.name] = sigma.clamp(min=_TINY)
            self._grid[layer.name] = Grid.of(layer, self.device)

    def maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Give the maps of the nodes' filters, ``(n, V_layer, H, W)`` by layer.

        Rectified, in their filters' scales; they depend on the batch where gradients are on.
        """
        formats = {layer.name: layer.format for layer in self.layers}

        def keep(name: str, output: Any) -> Tensor:
            # indexing copies: later modules may change the output in place
            own = read_maps(output, len(batch), formats[name], name)[:, self._filters[name]]
            own = own.to(torch.promote_types(own.dtype, torch.float32)).relu()
            return own / self._scale[name][:, None, None]

        # a copy: models may change what they are given, too
        ready = batch.to(self.device, self.dtype).clone()
        maps, _ = catch(self.model, ready, list(formats), keep)
        if batch.requires_grad and torch.is_grad_enabled():
            for name, own in maps.items():
                if not own.requires_grad:
                    raise ExplgraphError(
                        f"layer {name!r}: no gradient reaches the image, so that nothing can be "
                        "drawn; the model must not detach what it computes (torch.no_grad)"
                    )
        return maps

    def weights(self, places: Tensor) -> dict[str, Tensor]:
        """Give the Gaussians, ``(n, V_layer, H, W)`` by layer, around places ``(n, V, 2)`` px."""
        weights = {}
        for name, columns in self._columns.items():
            at, grid = places[:, columns].to(self.device), self._grid[name]
            along_x, along_y = factors(grid.x, grid.y, at, self._sigma[name])
            weights[name] = along_y[..., None] * along_x[..., None, :]
        return weights

    def __call__(self, batch: Tensor, places: Tensor) -> Tensor:
        """Give the responses ``(n, V)`` to images ``(n, C, H, W)`` at places ``(n, V, 2)`` px."""
        maps, weights = self.maps(batch), self.weights(places)
        values = torch.cat([(maps[name] * weights[name]).sum((2, 3)) for name in self._columns], 1)
        order = torch.tensor([k for columns in self._columns.values() for k in columns])
        return values[:, order.argsort().to(self.device)]
