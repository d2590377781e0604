"""Effects on classes that a graph holds: by parts, whether they add up, through which edges.

`effects.edge_effects` stores with every node what a class's score loses without it, and with the
graph what the score is beside these, layer by layer.

Effects follow the chain rule: what a class's score loses without a child is the sum, over all that
lies above, of what that loses without the child times what the score loses without it. So a
parent's effect on the class times the edge's effect, summed over a child's parents, is the part of
the child's own effect that goes through edges. It is all of it where every unit of the layer above
is some parent's, each weighed alike by what lies above, in all images: before average pooling and a
linear layer, in a graph of all edges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from explgraph.answers.significance import rank_correlation
from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError, nearest
from explgraph.explaining.attribution import Rests
from explgraph.explaining.by_part import Members
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.graph import check_graph
from explgraph.graph.schema import CLASS_EFFECT

__all__ = [
    "ACCOUNTS",
    "STORED",
    "LayerEffects",
    "PartEffects",
    "layer_effects",
    "part_effects",
]

ACCOUNTS = "accounts"
"""The graph's attribute ``{class: {layer: {what: mean over images}}}``, with `STORED`."""
STORED = ("score", "without", "units")
"""The score; the score without the layer's activation; the sum of the effects of all its units."""


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
    rests : Rests
        Each (L,): what the class's mean score is made of beside these, and by how much all of it
        misses the score, for effects are of first order.
    """

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    layers: tuple[str, ...]
    values: NDArray[np.float64]
    rests: Rests

    def __repr__(self) -> str:
        order = np.argsort(-np.abs(self.values).max(0), kind="stable")
        shown = [f"{self.titles[p]} {self.values[-1, p]:+.3g}" for p in order.tolist()]
        return (
            f"PartEffects: {counted(len(self.ids), 'part')}; in {few(self.layers[-1:])} "
            f"{few(shown)}"
        )


class LayerEffects(NamedTuple):
    """Effects of a layer's nodes on a class: do they add up, do they go through the graph's edges.

    Attributes
    ----------
    layer : str
    nodes : tuple of str
        Ids of the layer's V nodes.
    score : float
        The class's, mean over the images.
    rests : Rests
        What the score is made of beside the nodes' effects. Its residual is what is not linear
        between the layer and the score: where it is large, what is lost without one node says
        little of what is lost without several.
    own : (V,) float64
        Nodes' effects on the class.
    through : (V,) float64
        Sum over a node's parents in the next layer that has nodes: the parent's effect on the
        class, times the effect of the edge. NaN in the highest layer.
    """

    layer: str
    nodes: tuple[str, ...]
    score: float
    rests: Rests
    own: NDArray[np.float64]
    through: NDArray[np.float64]

    @property
    def carried(self) -> float:
        """What the layer carries of the score."""
        return self.score - float(self.rests.without)

    @property
    def share(self) -> float:
        """Share of the nodes' effects, for and against, that goes through edges; NaN at the top.

        ``sum of through * sign(own) / sum of |own|``: 1 if edges tell all. It may be below 0.
        """
        size = float(np.abs(self.own).sum())
        return float((self.through * np.sign(self.own)).sum()) / size if size else float("nan")

    @property
    def rank_correlation(self) -> float:
        """Spearman's, of nodes' effects and what of them goes through edges; NaN at the top."""
        if np.isnan(self.through).any():
            return float("nan")
        return rank_correlation(self.own, self.through)

    def __repr__(self) -> str:
        through = "" if np.isnan(self.share) else f", {self.share:.0%} of it through edges"
        return (
            f"LayerEffects: {few([self.layer])} carries {self.carried:.3g} of {self.score:.3g}; "
            f"{counted(len(self.nodes), 'node')} {self.own.sum():+.3g}{through}"
        )


def layer_effects(graph: ExplanatoryGraph, name: str) -> tuple[LayerEffects, ...]:
    """Say of each layer how nearly effects on a class add up, and what of them goes through edges.

    Parameters
    ----------
    graph : ExplanatoryGraph
        As `edge_effects` gave it.
    name : str
        The class's name, as it was given to `edge_effects`.

    Returns
    -------
    tuple of LayerEffects
        Of the layers that have nodes, lowest first.

    Raises
    ------
    ExplgraphError
        If no effects on such a class were measured.
    """
    check_graph(graph)
    effect = CLASS_EFFECT + name
    account = _account(graph, name)
    layers = [layer.name for layer in graph.layers if graph.nodes_of(layer.name)]
    values: dict[str, float] = dict(graph.nx.nodes(data=effect))
    found = []
    for layer, above in zip(layers, [*layers[1:], None], strict=True):
        nodes = graph.nodes_of(layer)
        own = np.array([values[node] for node in nodes])
        through = np.full(len(nodes), np.nan)
        if above is not None:
            parents = set(graph.nodes_of(above))
            for v, node in enumerate(nodes):
                through[v] = sum(
                    values[parent] * share
                    for parent, _, share in graph.nx.in_edges(node, data="effect")
                    if parent in parents
                )
        score, without, units = (account[layer][key] for key in STORED)
        rests = (without, 0.0, units - own.sum(), score - without - units)
        found.append(
            LayerEffects(layer, nodes, score, Rests(*map(np.asarray, rests)), own, through)
        )
    return tuple(found)


def _account(graph: ExplanatoryGraph, name: str) -> Mapping[str, Mapping[str, float]]:
    """Give what `edge_effects` stored of a class's score, by layer, and check that it is there."""
    effect = CLASS_EFFECT + name
    stored = graph.nx.graph.get(ACCOUNTS)
    account = stored.get(name) if isinstance(stored, dict) else None
    layers = [layer.name for layer in graph.layers if graph.nodes_of(layer.name)]
    whole = isinstance(account, dict) and all(
        isinstance(account.get(layer), dict)
        and all(isinstance(account[layer].get(key), float) for key in STORED)
        for layer in layers
    )
    if whole and all(effect in values for values in graph.nx.nodes.values()):
        return cast(Mapping[str, Mapping[str, float]], account)
    keys = {key for values in graph.nx.nodes.values() for key in values}
    classes = sorted(k.removeprefix(CLASS_EFFECT) for k in keys if k.startswith(CLASS_EFFECT))
    raise ExplgraphError(
        f"name is {name!r}, but the graph's nodes have no effect on it"
        f"{nearest(name, [k for k in classes if k != name])}; measure it first: graph = "
        f"explgraph.edge_effects(model, graph, images, classes={{{name!r}: NUMBER}})"
    )


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
        What is said of a part is the sum over its nodes, layer by layer, of what is lost without
        each alone; `ablate` takes a whole part away in truth.

    Raises
    ------
    ExplgraphError
        If no effects on such a class were measured, or no node belongs to a part.
    """
    check_graph(graph)
    of_layers = layer_effects(graph, name)
    members = Members.of(graph, graph.node_ids)
    layers = tuple(one.layer for one in of_layers)
    by_layer = np.zeros((len(layers), len(graph)))
    for v, attributes in enumerate(graph.nx.nodes.values()):
        by_layer[layers.index(attributes["layer"]), v] = attributes[CLASS_EFFECT + name]
    rests = Rests(*map(np.array, zip(*(one.rests for one in of_layers), strict=True)))
    return PartEffects(
        members.ids, members.titles, layers, members.sum(by_layer),
        rests._replace(no_part=members.rest(by_layer)),
    )  # fmt: skip
