"""A graph's parameters at work: finds its nodes in batches of maps.

Each image's pose is read off the highest layers' maps, says where every node should be, and there
the node's own map is looked at, all as when the graph was mined (`statistics.inference`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph
from explgraph.several_objects import Look
from explgraph.statistics.fitted import Fitted
from explgraph.statistics.inference import Found, infer, scaled
from explgraph.statistics.mixture import Grid
from explgraph.statistics.one_pose import explained
from explgraph.statistics.pose import standing
from explgraph.statistics.pose_reader import own_evidence

__all__ = ["Looked", "Parser"]


class Looked(NamedTuple):
    """What was seen of V nodes in n images.

    Attributes
    ----------
    positions, expected : (n, V, 2)
        px.
    scores : (n, V)
    fit : (n,)
        What the pose explains of where filters fire, nats (`statistics.one_pose`).
    """

    positions: Tensor
    expected: Tensor
    scores: Tensor
    fit: Tensor


class Parser:
    """A graph's parameters, ready to be run over batches of maps on a device."""

    def __init__(self, graph: Graph, device: str | torch.device = "cpu") -> None:
        self.device = device
        self.fitted = Fitted.unpack(graph.fitted, graph.layers, device)
        self.grids = {layer.index: Grid.of(layer, device) for layer in graph.layers}
        self.area = float(graph.image_size[0] * graph.image_size[1])
        self._prepared = self.fitted.prepared(self.grids)
        k = {index: layer.sigma.shape[1] for index, layer in self.fitted.layers.items()}
        where = [
            (a["layer_index"], a["filter"] * k[a["layer_index"]] + a["pattern"])
            for a in graph.nx.nodes.values()
        ]
        self.node_layer = torch.tensor([i for i, _ in where], dtype=torch.int64)
        self.node = torch.tensor([v for _, v in where], dtype=torch.int64)
        self._ids = graph.node_ids
        self.image_size = graph.image_size
        # what is usual isn't known of graphs of an earlier version: then no image is sure
        self.usual_fit = graph.nx.graph["config"].get("usual_fit", math.inf)

    def scaled(self, maps: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Divide rectified maps (n, C, H, W) by their filters' scales, by layer index."""
        return {
            index: scaled(maps[index].to(self.device), layer.scale)
            for index, layer in self.fitted.layers.items()
        }

    @torch.no_grad()
    def __call__(
        self, maps: Mapping[int, Tensor], evidence: Mapping[int, Tensor] | None = None
    ) -> Looked:
        """Positions, expected places and scores of the graph's nodes in a batch.

        Parameters
        ----------
        maps : mapping of int to (n, C, H, W)
            Rectified maps by layer index.
        evidence : mapping of int to (n, C, H, W), optional
            Maps in which nodes are looked for, if others than those that poses are read off.

        Raises
        ------
        ExplgraphError
            If what the graph's parameters make of the maps is not finite.
        """
        patterns, fit = self.found(maps, evidence)
        return Looked(*self.nodes_of(patterns, len(fit)), fit)

    def nodes_of(self, patterns: Mapping[int, Found], n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pick the graph's nodes in n images out of all patterns, by layer index.

        Returns
        -------
        positions, expected : (n, V, 2)
            px, on the CPU.
        scores : (n, V)

        Raises
        ------
        ExplgraphError
            As for a call.
        """
        v = len(self.node)
        positions, expected, scores = (
            torch.empty(shape, dtype=torch.float32, device="cpu")
            for shape in ((n, v, 2), (n, v, 2), (n, v))
        )
        for index, found in patterns.items():
            here = self.node_layer == index
            nodes = self.node[here]
            positions[:, here] = found.positions[:, nodes].cpu()
            expected[:, here] = found.expected[:, nodes].cpu()
            scores[:, here] = found.scores[:, nodes].cpu()
        for what in (positions, expected, scores):
            if not math.isfinite(what.sum()):
                node = int((~what.isfinite()).reshape(n, v, -1).any(2).any(0).nonzero()[0])
                raise ExplgraphError(
                    f"node {self._ids[node]!r} gets a place or score that is not finite; the "
                    "graph's parameters don't go with these activations: check the model's weights "
                    "and the images, or mine the graph again"
                )
        return positions, expected, scores

    @torch.no_grad()
    def found(
        self, maps: Mapping[int, Tensor], evidence: Mapping[int, Tensor] | None = None
    ) -> tuple[dict[int, Found], Tensor]:
        """Look for all patterns of the layers that have nodes.

        Parameters
        ----------
        maps, evidence
            As for a call.

        Returns
        -------
        dict of int to Found, (n,)
            By layer index; and what the pose explains, see `Looked`.
        """
        values = self.scaled(maps)
        poses = self.fitted.poses(values, self.grids, self._prepared)
        fit = explained(self.fitted.reader, values, self.grids, poses, self.area).cpu()
        if evidence is not None and evidence is not maps:
            values = self.scaled(evidence)
        return {
            index: infer(
                self.fitted.layers[index], values[index], poses, self.grids[index], self.area
            )
            for index in sorted(set(self.node_layer.tolist()))
        }, fit

    @torch.no_grad()
    def look(self, maps: Mapping[int, Tensor]) -> Look:
        """Say how well one pose explains each of some images, and where its object stands.

        Parameters
        ----------
        maps : mapping of int to (n, C, H, W)
            Rectified maps by layer index.
        """
        reader, values = self.fitted.reader, self.scaled(maps)
        poses = self.fitted.poses(values, self.grids, self._prepared)
        views = reader.guides.views(values, self.grids)
        evidence = explained(reader, values, self.grids, poses, self.area)
        evidence = evidence + own_evidence(reader, views, poses)
        return Look(evidence.cpu(), standing(reader.model, poses, self.image_size).cpu())
