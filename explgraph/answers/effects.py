"""Causes, not only company: what happens elsewhere when a node's activation is taken away.

An edge of the graph says that two nodes go together. Whether the lower one *drives* the upper
one is another question, asked of the network itself:

1. What is a node's own is as for all answers (`explaining.attribution`): of its filter's activation
   what it answers for. Its score here is its sum.
2. Taking a child's own away changes the parent's score, to first order, by the gradient of the
   parent's score with respect to the child's maps, times what is the child's own (`edge_effects`).
   One backward pass over a batch of images serves all edges of a parent.
3. Effects on a class are the same, with the class's score in the parent's place:
   `attribution.added` with one step. What they, units of no node and the score without the layer
   miss is told (`class_effects`).
4. `check_effects` takes nodes' own away in truth, for a sample of edges, and says how far the
   estimates are to be trusted.

References
----------
Gradient times activation as an estimate of ablation: Molchanov et al., ICLR 2017, eq. 4 (pruning);
Nanda 2023 and Syed et al. 2023 (attribution patching). Departures: a node's place in one filter's
map is taken away, not a whole map or position, and it is taken to zero.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import networkx
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.answers.ablation import lowest_layer
from explgraph.answers.class_effects import ACCOUNTS, STORED
from explgraph.answers.significance import rank_correlation
from explgraph.brief import counted
from explgraph.errors import ExplgraphError
from explgraph.explaining.attribution import Owned, Places, added
from explgraph.explaining.intervene import Change, Run, is_output, run, watched, with_gradients
from explgraph.explaining.rerun import Rerun
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.graph import check_graph
from explgraph.graph.schema import CLASS_EFFECT
from explgraph.images.batches import AnyImages, count
from explgraph.images.taken import taken
from explgraph.network.gradients import gradients_of
from explgraph.network.hooks import alone
from explgraph.network.outputs import Outputs, Scorer
from explgraph.progress import Shown, ahead_of, bar, move

__all__ = [
    "Check",
    "check_effects",
    "edge_effects",
]

Edge = tuple[str, str]

_TRIED = 4  # backward passes that are timed before a word on how long all take


class Check(NamedTuple):
    """Estimated effects of some edges beside true ablation, on the same images.

    Attributes
    ----------
    edges : tuple of (str, str)
        Parent and child.
    estimated, ablated : (E,) float64
        Shares of the parent's score.
    rank_correlation : float
        Spearman's.
    """

    edges: tuple[Edge, ...]
    estimated: NDArray[np.float64]
    ablated: NDArray[np.float64]
    rank_correlation: float

    def __repr__(self) -> str:
        return (
            f"Check: {counted(len(self.edges), 'edge')}, rank correlation "
            f"{self.rank_correlation:.2f}"
        )


@with_gradients
def edge_effects(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    *,
    classes: Mapping[str, int] | None = None,
    outputs: Outputs | None = None,
    batch_size: int = 16,
    device: str = "auto",
    progress: Shown = None,
) -> ExplanatoryGraph:
    """Measure what every child does to its parents, and every node to the scores of classes.

    Parameters
    ----------
    model : torch.nn.Module
        The network that was mined, in evaluation mode.
    graph : ExplanatoryGraph
    images : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
        Of the size that was mined; some dozens are enough. Effects are means over them, so give
        images that show what is asked about (for a class: images of it).
    classes : mapping of str to int, optional
        Class names and their numbers in the model's output.
    outputs : callable, optional
        Takes what the model gives, gives scores of (images, classes), where it gives anything
        else than these (`explgraph.network.outputs`).
    batch_size : int
    device : str
        Where the model runs.
    progress : bool or None
        Show a bar: by default in notebooks alone, if True on a terminal too.

    Returns
    -------
    ExplanatoryGraph
        A copy. Each edge has ``effect``: the share of the parent's score that is lost when the
        child's activation is taken away; below 0 the child holds the parent down. The scores are
        summed over the images first, so that images in which the parent is absent don't count.
        Each node has ``effect_on_NAME`` for each class: what the class's score loses when the
        node's own is taken away, in units of that score, mean over the images. What is a node's own
        is as for all answers (`explgraph.explaining.attribution`). `layer_effects` says how nearly
        they add up, and how much of them goes through edges.

    Raises
    ------
    ExplgraphError
        If the model isn't the one that was mined or is in training mode, the graph has no nodes,
        the model has no such class, or a class's name can't be a part of an attribute's.

    Notes
    -----
    Estimates of first order: `check_effects` says how good they are. Where a node is followed by
    an activation function that is flat there, the estimate is 0 although ablation isn't.
    """
    check_graph(graph)
    scorer = Scorer(outputs)
    if not isinstance(classes, Mapping | None):
        raise ExplgraphError(
            f"classes must be a mapping of names to numbers in the model's output, such as "
            f"{{'robin': 15}}, got {classes!r}"
        )
    classes = dict(classes or {})
    for name in classes:
        if not isinstance(name, str) or not re.fullmatch("[A-Za-z0-9_]+", name):
            raise ExplgraphError(
                f"class name {name!r}: it becomes a part of an attribute's name, so use letters, "
                "digits and _ only"
            )
    measured = graph.restricted(graph.node_ids)
    places = Places(graph)
    by_layer = {
        layer.name: graph.nodes_of(layer.name)
        for layer in graph.layers
        if graph.nodes_of(layer.name)
    }
    upward = [
        family for family in (_Family.of_layer(graph, name) for name in by_layer) if family.edges
    ]
    lost = dict.fromkeys(graph.nx.edges, 0.0)
    total = dict.fromkeys(graph.nx, 0.0)
    supports = {name: dict.fromkeys(graph.nx, 0.0) for name in classes}
    sums = {name: {layer: np.zeros(3) for layer in by_layer} for name in classes}
    known = {layer.name: layer for layer in graph.layers}
    n_images = 0
    images = taken(images, graph.nx.graph["preprocessing"])
    n = count(images)
    told = _Told(
        "effects",
        f"effects of {counted(len(graph), 'node')} over {n} images",
        "fewer nodes (graph.prune(top=...), or --top) or images take less, in proportion",
        n,
        progress,
    )
    with told.bar:
        for names, batch in watched(
            model, graph, images,
            scorer=scorer, batch_size=batch_size, device=device, progress=False,
        ):  # fmt: skip
            n_images += len(names)
            done = run(model, batch, graph.layers, scorer=scorer, gradients=True)
            _check_classes(classes, done.scores.shape[1])
            seen = places.seen(done.maps)
            own = {
                layer: places.own(nodes, done.maps[layer].detach(), seen)
                for layer, nodes in by_layer.items()
            }
            planned = [(family, family.passes(own)) for family in upward]
            asked = len(by_layer) * bool(classes)
            told.plan(len(names), 1 + asked + sum(len(passes) for _, passes in planned))
            told.tick()
            for layer, nodes in by_layer.items() if classes else ():
                found = added(
                    model, batch, done, known[layer], [*classes.values()], scorer=scorer, most=1
                )
                parts = found.of(own[layer]).sum(0).tolist()
                units = (found.carried - found.residual).sum(0)
                scores = torch.stack([found.scores.sum(0), found.without.sum(0), units]).numpy()
                for k, name in enumerate(classes):
                    sums[name][layer] += scores[:, k]
                    for node, part in zip(nodes, parts[k], strict=True):
                        supports[name][node] += part
                told.tick()
            for layer, mine in own.items():
                for node, score in zip(
                    by_layer[layer], mine.activation.sum(0).tolist(), strict=True
                ):
                    total[node] += score
            for family, passes in planned:
                losses = torch.zeros(len(family.edges), dtype=torch.float64)
                for rows in passes:
                    losses += family.losses(rows, done.maps, own)
                    told.tick()
                for edge, loss in zip(family.edges, losses.tolist(), strict=True):
                    lost[edge] += loss
    for (parent, child), loss in lost.items():
        measured.nx.edges[parent, child]["effect"] = loss / total[parent] if total[parent] else 0.0
    for name, of_nodes in supports.items():
        networkx.set_node_attributes(
            measured.nx,
            {node: value / n_images for node, value in of_nodes.items()},
            CLASS_EFFECT + name,
        )
    if classes:
        measured.nx.graph[ACCOUNTS] = dict(measured.nx.graph.get(ACCOUNTS, {})) | {
            name: {
                layer: dict(zip(STORED, (values / n_images).tolist(), strict=True))
                for layer, values in of_layers.items()
            }
            for name, of_layers in sums.items()
        }
    measured.validate()
    return measured


class _Family(NamedTuple):
    """The edges from one layer's nodes down to their children.

    A backward pass gives, for every image of a batch, the gradient of *one* parent's score; which
    parent may differ from image to image, for images know nothing of one another. A parent that is
    absent from an image, or all of whose children are, needs no pass there. So there are as many
    passes as the image with most work has parents.

    Attributes
    ----------
    layer : str
        The parents'.
    edges : tuple of (str, str)
        Grouped by parent.
    parents : list of int
        Number of each parent within its layer.
    of : list of list of int
        Each parent's edges, by number.
    children : list of (str, int)
        Each edge's child: its layer, its number there.
    """

    layer: str
    edges: tuple[Edge, ...]
    parents: list[int]
    of: list[list[int]]
    children: list[tuple[str, int]]

    @classmethod
    def of_layer(cls, graph: ExplanatoryGraph, layer: str) -> _Family:
        """Look a layer's edges up."""
        number = {
            node: k for known in graph.layers for k, node in enumerate(graph.nodes_of(known.name))
        }
        parents = [node for node in graph.nodes_of(layer) if graph.nx[node]]
        edges = tuple((parent, child) for parent in parents for child in graph.nx[parent])
        of: list[list[int]] = [[] for _ in parents]
        row = {parent: k for k, parent in enumerate(parents)}
        for e, (parent, _) in enumerate(edges):
            of[row[parent]].append(e)
        children = [(graph.nx.nodes[child]["layer"], number[child]) for _, child in edges]
        return cls(layer, edges, [number[parent] for parent in parents], of, children)

    def passes(self, own: Mapping[str, Owned]) -> list[list[tuple[int, int]]]:
        """Plan backward passes: (image, parent) pairs, each image at most once in each."""
        there = {layer: (mine.units > 0).flatten(2).any(2).cpu() for layer, mine in own.items()}
        active = torch.stack([there[layer][:, k] for layer, k in self.children], 1)
        wanted = [
            active[:, edges].any(1) & there[self.layer][:, k]
            for k, edges in zip(self.parents, self.of, strict=True)
        ]
        passes: list[list[tuple[int, int]]] = []
        taken = [0] * len(active)
        for parent, images in enumerate(wanted):
            for image in images.nonzero()[:, 0].tolist():
                if taken[image] == len(passes):
                    passes.append([])
                passes[taken[image]].append((image, parent))
                taken[image] += 1
        return passes

    def losses(
        self,
        rows: Sequence[tuple[int, int]],
        maps: Mapping[str, Tensor],
        own: Mapping[str, Owned],
    ) -> Tensor:
        """Estimate what parents lose without their children, (edges,), by one backward pass.

        Parameters
        ----------
        rows : sequence of (int, int)
            As `passes` planned them.
        maps, own : by layer
        """
        upper = maps[self.layer]
        image = torch.tensor([i for i, _ in rows], device=upper.device)
        node = torch.tensor([self.parents[p] for _, p in rows], device=upper.device)
        weights = own[self.layer].weights
        channel = torch.tensor(own[self.layer].filters, device=upper.device)[node]
        slope = torch.zeros_like(upper)
        # the score's own gradient: a rectified map's, weighted
        on = upper.detach()[image, channel] > 0
        slope[image, channel] = (weights[image, node] * on).to(slope)
        layers = sorted({self.children[e][0] for _, p in rows for e in self.of[p]})
        gradients = gradients_of(upper, [maps[name] for name in layers], slope)
        losses = torch.zeros(len(self.edges), dtype=torch.float64)
        for name, gradient in zip(layers, gradients, strict=True):
            mine = own[name]
            here = [
                (i, self.children[e][1], e)
                for i, p in rows
                for e in self.of[p]
                if self.children[e][0] == name
            ]
            images, children, edges = (list(column) for column in zip(*here, strict=True))
            filters = [mine.filters[k] for k in children]
            parts = (gradient[images, filters] * mine.units[images, children]).sum((1, 2))
            losses.index_add_(0, torch.tensor(edges), parts.double().cpu())
        return losses


class _Told:
    """A bar over images that moves with every pass over a batch, and the word ahead.

    Parameters
    ----------
    doing : str
    what, fewer : str
        Of what the word ahead says how long it takes; how to have it sooner.
    images : int, optional
        If known.
    shown : bool or None
    """

    def __init__(self, doing: str, what: str, fewer: str, images: int | None, shown: Shown) -> None:
        self._what, self._fewer, self._images, self._shown = what, fewer, images, shown
        self.bar = bar(shown=shown, total=images, desc=doing, unit="image", fractions=True)
        self._batch = self._passes = self._seen = 0
        self._began = self._first = time.monotonic()

    def plan(self, batch: int, passes: int) -> None:
        """Know how many passes a batch of images takes, the first being the forward pass."""
        self._batch, self._passes = batch, passes

    def tick(self) -> None:
        """Say that a pass is done; after some passes of the first batch, how long all will take."""
        move(self.bar, self._batch / self._passes)
        self._seen += 1
        if self._seen == 1:
            self._first = time.monotonic()
        if self._seen == min(1 + _TRIED, self._passes) and self._images is not None:
            one = (time.monotonic() - self._first) / max(1, self._seen - 1)
            a_batch = self._first - self._began + one * (self._passes - 1)
            ahead_of(a_batch * self._images / self._batch, self._what, self._fewer, self._shown)


def _check_classes(classes: Mapping[str, int], n: int) -> None:
    """Refuse classes that the model doesn't have."""
    for name, number in classes.items():
        if not is_output(number, n):
            raise ExplgraphError(
                f"class {name!r} is number {number!r}, but the model gives scores for {n} classes, "
                f"0 to {n - 1}"
            )


def check_effects(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    *,
    edges: int = 100,
    seed: int = 0,
    outputs: Outputs | None = None,
    batch_size: int = 16,
    device: str = "auto",
    progress: Shown = None,
) -> Check:
    """Compare the effects of some edges with true ablation.

    Parameters
    ----------
    model, images, outputs, batch_size, device, progress
        As for `edge_effects`; the same images.
    graph : ExplanatoryGraph
        As `edge_effects` gave it.
    edges : int
        At most so many are drawn, all alike.
    seed : int

    Returns
    -------
    Check

    Raises
    ------
    ExplgraphError
        As `edge_effects`, and if the graph's edges have no effects or are fewer than 3.
    """
    check_graph(graph)
    known = [edge for edge, values in graph.nx.edges.items() if "effect" in values]
    if len(known) < 3:
        raise ExplgraphError(
            f"{len(known)} edges of the graph have an effect, and 3 are needed to compare; "
            "measure them first: graph = explgraph.edge_effects(model, graph, images)"
        )
    order = np.random.default_rng(seed).permutation(len(known))[:edges]
    sample = [known[k] for k in sorted(order.tolist())]
    places = Places(graph)
    total, left = np.zeros(len(sample)), np.zeros(len(sample))
    of_child: dict[str, list[int]] = {}
    for k, (_, child) in enumerate(sample):
        of_child.setdefault(child, []).append(k)
    asked = {graph.nx.nodes[node]["layer"] for edge in sample for node in edge}
    by_layer = {layer.name: graph.nodes_of(layer.name) for layer in graph.layers}
    by_layer = {layer: nodes for layer, nodes in by_layer.items() if layer in asked}
    where = {node: (layer, k) for layer, of in by_layer.items() for k, node in enumerate(of)}
    images = taken(images, graph.nx.graph["preprocessing"])
    scorer = Scorer(outputs)
    rerun = Rerun(model, graph.layers, (lowest_layer(graph, [child]) for child in of_child), scorer)
    source = watched(
        model, graph, images,
        scorer=scorer, batch_size=batch_size, device=device, progress=False,
    )  # fmt: skip
    n = count(images)
    told = _Told(
        "checking",
        f"ablation of {counted(len(of_child), 'node')} over {n} images, to check effects",
        "fewer edges (edges=..., or --check) or images take less, in proportion",
        n,
        progress,
    )
    with told.bar:
        for names, batch in source:
            with alone(model):  # as in `ablation`
                whole = rerun.whole(batch)
                told.plan(len(names), 1 + len(of_child))
                told.tick()
                seen = places.seen(whole.maps)
                own = {
                    layer: places.own(nodes, whole.maps[layer], seen)
                    for layer, nodes in by_layer.items()
                }

                def score(parent: str, done: Run, own: Mapping[str, Owned] = own) -> float:
                    layer, k = where[parent]
                    maps = done.maps[layer][:, own[layer].filters[k]]
                    weights = own[layer].weights[:, k]
                    return float((maps.to(weights).relu() * weights).sum())

                for child, edges_of in of_child.items():
                    layer, k = where[child]
                    changed = rerun.changed({layer: _without(own[layer], k)})
                    for e in edges_of:
                        total[e] += score(sample[e][0], whole)
                        left[e] += score(sample[e][0], changed)
                    told.tick()
    ablated = np.divide(total - left, total, out=np.zeros(len(sample)), where=total > 0)
    estimated = np.array([graph.nx.edges[edge]["effect"] for edge in sample])
    return Check(tuple(sample), estimated, ablated, rank_correlation(estimated, ablated))


def _without(own: Owned, k: int) -> Change:
    """Give the change that takes away what is a node's own."""

    def changed(maps: Tensor) -> Tensor:
        weights = own.weights[:, k]
        gone = maps[:, own.filters[k]].to(weights).relu() * weights
        index = torch.tensor([own.filters[k]], device=maps.device)
        return maps.index_add(1, index, gone[:, None].to(maps), alpha=-1)

    return changed
