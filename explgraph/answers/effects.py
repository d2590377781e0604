"""Causes, not only company: what happens elsewhere when a node's activation is taken away.

An edge of the graph says that two nodes go together. Whether the lower one *drives* the upper
one is another question, asked of the network itself:

1. A node's activation is what its filter gives within the node's place in that image (a Gaussian
   around its position, overlapping ones not sharing: `attribution`). Its score here is its sum.
2. Taking a child's activation away changes the parent's score, to first order, by the gradient of
   the parent's score with respect to the child's maps, times the child's activation
   (`edge_effects`). One backward pass over a batch of images serves all edges of a parent, and
   one serves all nodes' effects on a class.
3. `ablate` takes nodes away in truth and gives what becomes of each class's score; `check_effects`
   does so for a sample of edges and says how far the estimates are to be trusted.

References
----------
Gradient times activation as an estimate of ablation: Molchanov et al., ICLR 2017, eq. 4 (pruning);
Nanda 2023 and Syed et al. 2023 (attribution patching). Departures: a node's place in one filter's
map is taken away, not a whole map or position, and it is taken to zero.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import networkx
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph import rows
from explgraph.errors import ExplgraphError, nearest
from explgraph.explaining.attribution import Owned, Places, adds
from explgraph.explaining.by_part import Members, different_titles, find_parts, nodes_named
from explgraph.explaining.intervene import Change, Run, is_output, run, watched, with_gradients
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.graph import check_graph
from explgraph.graph.schema import CLASS_EFFECT
from explgraph.images.batches import AnyImages

__all__ = [
    "Ablation",
    "Check",
    "PartAblation",
    "PartEffects",
    "ablate",
    "ablate_parts",
    "check_effects",
    "edge_effects",
    "part_effects",
    "rank_correlation",
]

Edge = tuple[str, str]


class Ablation(NamedTuple):
    """Class scores with all nodes, and without the chosen ones.

    Attributes
    ----------
    names : tuple of str
        Of the N images.
    before : (N, classes) float64
        What the whole model gives.
    after : (N, classes) float64
        What it gives without the nodes.
    """

    names: tuple[str, ...]
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    @property
    def change(self) -> NDArray[np.float64]:
        """By how much each class's score changes, ``after - before``, (N, classes)."""
        return self.after - self.before

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a row for each image and class: ``.csv``, ``.json`` or ``.parquet``.

        Columns are ``image``, ``class`` (its number), ``before`` and ``after``.

        Raises
        ------
        ExplgraphError
            If the suffix isn't known, the file can't be written, or it is a .parquet and pandas
            and pyarrow aren't there.
        """
        classes = range(self.before.shape[1])
        values = {"before": self.before, "after": self.after}
        rows.write(path, rows.grid(("image", self.names), ("class", classes), values))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Ablation:
        """Read what `write` wrote.

        Raises
        ------
        ExplgraphError
            If the file can't be read or isn't such a table.
        """
        kinds = {"before": float, "after": float}
        names, classes, table = rows.read_grid(path, ("image", str), ("class", int), kinds)
        if classes != tuple(range(len(classes))):
            raise ExplgraphError(
                f"path {str(path)!r} holds the classes {classes[0]} to {classes[-1]}; expected 0, "
                "1, ... in this order; write it again"
            )
        return cls(names, table["before"], table["after"])


class PartAblation(NamedTuple):
    """Class scores with all nodes, and without each part by itself.

    Attributes
    ----------
    ids, titles : tuple of str
        Of the P parts.
    names : tuple of str
        Of the N images.
    before : (N, classes) float64
        What the whole model gives.
    after : (P, N, classes) float64
        What it gives without the part.
    """

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    names: tuple[str, ...]
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    @property
    def change(self) -> NDArray[np.float64]:
        """By how much each class's score changes, ``after - before``, (P, N, classes)."""
        return self.after - self.before

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a row for each part, image and class: ``.csv``, ``.json`` or ``.parquet``.

        Columns are ``part`` (its id), ``image``, ``class`` (its number), ``before`` and ``after``.

        Raises
        ------
        ExplgraphError
            As `Ablation.write`.
        """
        p, n, classes = self.after.shape
        part, image, number = np.indices((p, n, classes)).reshape(3, -1)
        columns = {
            "part": np.array(self.ids, dtype=object)[part],
            "image": np.array(self.names, dtype=object)[image],
            "class": number,
            "before": np.broadcast_to(self.before, self.after.shape).ravel(),
            "after": self.after.ravel(),
        }
        rows.write(path, columns)


class PartEffects(NamedTuple):
    """What a class's score loses without each part, layer by layer.

    Layers lie behind one another, so that each accounts for the score by itself: don't add them up.

    Attributes
    ----------
    ids, titles : tuple of str
        Of the P parts, in the graph's order.
    layers : tuple of str
        The L layers that have nodes, lowest first.
    values : (L, P) float64
        Sum of the effects of a part's nodes in the layer, in units of the score; 0 where it has
        none there.
    rest : (L,) float64
        The same of the layer's nodes of no part.
    """

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    layers: tuple[str, ...]
    values: NDArray[np.float64]
    rest: NDArray[np.float64]


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


@with_gradients
def edge_effects(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    *,
    classes: Mapping[str, int] | None = None,
    batch_size: int = 16,
    device: str = "auto",
    progress: bool = False,
) -> ExplanatoryGraph:
    """Measure what every child does to its parents, and every node to the scores of classes.

    Parameters
    ----------
    model : torch.nn.Module
        The network that was mined, in evaluation mode.
    graph : ExplanatoryGraph
    images : ImageFolder, (N, 3, H, W) tensor, Dataset or DataLoader
        Of the size that was mined; some dozens are enough. Effects are means over them, so give
        images that show what is asked about (for a class: images of it).
    classes : mapping of str to int, optional
        Class names and their numbers in the model's output.
    batch_size : int
    device : str
        Where the model runs.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    ExplanatoryGraph
        A copy. Each edge has ``effect``: the share of the parent's score that is lost when the
        child's activation is taken away; below 0 the child holds the parent down. The scores are
        summed over the images first, so that images in which the parent is absent don't count.
        Each node has ``effect_on_NAME`` for each class: what the class's score loses when the
        node's activation is taken away, in units of that score, mean over the images.

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
    classes = dict(classes or {})
    for name in classes:
        if not re.fullmatch("[A-Za-z0-9_]+", name):
            raise ExplgraphError(
                f"class name {name!r}: it becomes a part of an attribute's name, so use letters, "
                "digits and _ only"
            )
    measured = graph.restricted(graph.node_ids)
    places = Places(graph)
    by_layer = {layer.name: graph.nodes_of(layer.name) for layer in graph.layers}
    lost = dict.fromkeys(graph.nx.edges, 0.0)
    total = dict.fromkeys(graph.nx, 0.0)
    supports = {name: dict.fromkeys(graph.nx, 0.0) for name in classes}
    n_images = 0
    for names, batch in watched(
        model, graph, images, batch_size=batch_size, device=device, progress=progress
    ):
        n_images += len(names)
        done = run(model, batch, graph.layers, gradients=True)
        _check_classes(classes, done.scores.shape[1])
        positions = places.positions(done.maps)
        own = {
            layer: places.own(nodes, done.maps[layer].detach(), positions)
            for layer, nodes in by_layer.items()
            if nodes
        }
        for name, number in classes.items():
            for layer, parts in adds(done.scores[:, number], done.maps, own).items():
                for node, part in zip(by_layer[layer], parts.sum(0).tolist(), strict=True):
                    supports[name][node] += part
        for layer, mine in own.items():
            for node, score in zip(by_layer[layer], mine.activation.sum(0).tolist(), strict=True):
                total[node] += score
        for parent in (node for node in graph.nx if graph.nx[node]):
            for child, loss in _losses(graph, places, done, own, parent, positions).items():
                lost[parent, child] += loss
    for (parent, child), loss in lost.items():
        measured.nx.edges[parent, child]["effect"] = loss / total[parent] if total[parent] else 0.0
    for name, of_nodes in supports.items():
        networkx.set_node_attributes(
            measured.nx,
            {node: value / n_images for node, value in of_nodes.items()},
            CLASS_EFFECT + name,
        )
    measured.validate()
    return measured


def part_effects(graph: ExplanatoryGraph, name: str) -> PartEffects:
    """Add nodes' effects on a class up to those of parts.

    Parameters
    ----------
    graph : ExplanatoryGraph
        As `edge_effects` gave it.
    name : str
        The class's name, as it was given to `edge_effects`.

    Returns
    -------
    PartEffects
        What is said of a part is the sum over its nodes, layer by layer. Each node counts as if
        it alone were taken away; `ablate` takes a whole part away in truth.

    Raises
    ------
    ExplgraphError
        If no effects on such a class were measured, or no node belongs to a part.
    """
    check_graph(graph)
    effect = CLASS_EFFECT + name
    if not all(effect in values for values in graph.nx.nodes.values()):
        known = {key for values in graph.nx.nodes.values() for key in values}
        classes = sorted(k.removeprefix(CLASS_EFFECT) for k in known if k.startswith(CLASS_EFFECT))
        raise ExplgraphError(
            f"name is {name!r}, but the graph's nodes have no effect on it"
            f"{nearest(name, classes)}; measure it first: graph = "
            f"explgraph.edge_effects(model, graph, images, classes={{{name!r}: NUMBER}})"
        )
    members = Members.of(graph, graph.node_ids)
    layers = tuple(layer.name for layer in graph.layers if graph.nodes_of(layer.name))
    by_layer = np.zeros((len(layers), len(graph)))
    for v, attributes in enumerate(graph.nx.nodes.values()):
        by_layer[layers.index(attributes["layer"]), v] = attributes[effect]
    return PartEffects(
        members.ids, members.titles, layers, members.sum(by_layer), members.rest(by_layer)
    )


def _losses(
    graph: ExplanatoryGraph,
    places: Places,
    done: Run,
    own: Mapping[str, Owned],
    parent: str,
    positions: Tensor,
) -> dict[str, float]:
    """Estimate what a parent's score loses without each of its children, summed over the batch."""
    upper = done.maps[graph.nx.nodes[parent]["layer"]]
    score = places.own([parent], upper, positions).activation[:, 0]
    children: dict[str, list[str]] = {}
    for child in graph.nx[parent]:
        children.setdefault(graph.nx.nodes[child]["layer"], []).append(child)
    theirs = {}
    for layer, here in children.items():
        row = {node: k for k, node in enumerate(graph.nodes_of(layer))}
        theirs[layer] = own[layer].take([row[child] for child in here])
    losses: dict[str, float] = {}
    for layer, parts in adds(score, done.maps, theirs).items():
        losses.update(zip(children[layer], parts.sum(0).tolist(), strict=True))
    return losses


def _check_classes(classes: Mapping[str, int], n: int) -> None:
    """Refuse classes that the model doesn't have."""
    for name, number in classes.items():
        if not is_output(number, n):
            raise ExplgraphError(
                f"class {name!r} is number {number!r}, but the model gives scores for {n} classes, "
                f"0 to {n - 1}"
            )


def ablate(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    nodes: Iterable[str],
    *,
    batch_size: int = 32,
    device: str = "auto",
    progress: bool = False,
) -> Ablation:
    """Run a network without some of its nodes, or without whole parts.

    Each node's place is found with the network whole; then the activation of its filter within
    that place is taken away (places of one filter that overlap count once), and the network goes
    on with what is left.

    Parameters
    ----------
    model : torch.nn.Module
        The network that was mined, in evaluation mode.
    graph : ExplanatoryGraph
    images : ImageFolder, (N, 3, H, W) tensor, Dataset or DataLoader
        Of the size that was mined.
    nodes : iterable of str
        Ids of the graph's nodes; a part's id, name or title stands for all its nodes, in all
        layers.
    batch_size : int
    device : str
        Where the model runs.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    Ablation
        Class scores before and after.

    Raises
    ------
    ExplgraphError
        If the graph lacks a node or part, the model isn't the one that was mined or is in training
        mode, or its output isn't one score per class.
    """
    check_graph(graph)
    chosen = nodes_named(graph, nodes)
    if not chosen:
        raise ExplgraphError("nodes is empty; name at least one node or part of the graph")
    names, before, (after,) = _ablated(
        model, graph, images, [chosen], batch_size=batch_size, device=device, progress=progress
    )
    return Ablation(names, before, after)


def ablate_parts(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    parts: str | Iterable[str] | None = None,
    *,
    batch_size: int = 32,
    device: str = "auto",
    progress: bool = False,
) -> PartAblation:
    """Run a network without each of some parts, one part at a time.

    Parameters
    ----------
    model, graph, images, batch_size, device, progress
        As for `ablate`.
    parts : iterable of str, optional
        Ids, names or titles; by default all parts of the graph.

    Returns
    -------
    PartAblation
        Class scores before, and after all nodes of a part were taken away.

    Raises
    ------
    ExplgraphError
        As `ablate`, and if the graph has no parts.
    """
    check_graph(graph)
    chosen = find_parts(graph, parts)
    if not chosen:
        raise ExplgraphError("parts is empty; name at least one part of the graph")
    titles = different_titles(graph.parts)
    names, before, after = _ablated(
        model, graph, images, [part.nodes for part in chosen],
        batch_size=batch_size, device=device, progress=progress,
    )  # fmt: skip
    ids = tuple(part.id for part in chosen)
    return PartAblation(ids, tuple(titles[part] for part in ids), names, before, np.stack(after))


def _ablated(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    groups: Sequence[Sequence[str]],
    *,
    batch_size: int,
    device: str,
    progress: bool,
) -> tuple[tuple[str, ...], NDArray[np.float64], list[NDArray[np.float64]]]:
    """Give images' names, scores (N, classes), and those without each group of nodes."""
    places = Places(graph)
    seen: list[str] = []
    scores: list[list[Tensor]] = []
    source = watched(model, graph, images, batch_size=batch_size, device=device, progress=progress)
    for names, batch in source:
        seen.extend(names)
        whole = run(model, batch, graph.layers)
        positions = places.positions(whole.maps)
        changes = [_without(graph, places, nodes, positions) for nodes in groups]
        without = [run(model, batch, graph.layers, change).scores for change in changes]
        scores.append([whole.scores, *without])
    before, *after = (
        torch.cat(column).double().cpu().numpy() for column in zip(*scores, strict=True)
    )
    return tuple(seen), before, after


def _without(
    graph: ExplanatoryGraph, places: Places, nodes: Sequence[str], positions: Tensor
) -> dict[str, Change]:
    """Give the changes that take nodes away, by layer."""

    def change(here: Sequence[str]) -> Change:
        def without(maps: Tensor) -> Tensor:
            gone = places.own(here, maps, positions, sharing="split")
            index = torch.tensor(gone.filters, device=maps.device)
            return maps.index_add(1, index, gone.units.to(maps), alpha=-1)

        return without

    layers = dict.fromkeys(graph.nx.nodes[node]["layer"] for node in nodes)
    return {
        name: change([node for node in nodes if graph.nx.nodes[node]["layer"] == name])
        for name in layers
    }


def check_effects(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    *,
    edges: int = 100,
    seed: int = 0,
    batch_size: int = 16,
    device: str = "auto",
    progress: bool = False,
) -> Check:
    """Compare the effects of some edges with true ablation.

    Parameters
    ----------
    model, images, batch_size, device, progress
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
    children = dict.fromkeys(child for _, child in sample)
    source = watched(model, graph, images, batch_size=batch_size, device=device, progress=progress)
    for _, batch in source:
        whole = run(model, batch, graph.layers)
        positions = places.positions(whole.maps)
        for child in children:
            changed = run(model, batch, graph.layers, _without(graph, places, [child], positions))
            for k, (parent, other) in enumerate(sample):
                if other == child:
                    layer = graph.nx.nodes[parent]["layer"]
                    for into, maps in ((total, whole.maps), (left, changed.maps)):
                        into[k] += places.own([parent], maps[layer], positions).units.sum().item()
    ablated = np.divide(total - left, total, out=np.zeros(len(sample)), where=total > 0)
    estimated = np.array([graph.nx.edges[edge]["effect"] for edge in sample])
    return Check(tuple(sample), estimated, ablated, rank_correlation(estimated, ablated))


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's correlation; 0 where all values of one are equal."""
    from scipy.stats import spearmanr  # takes a second to import

    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a, b).statistic)
