"""What a part adds to a score: what is a node's own, and what units add. All answers take it here.

*Own.* A node holds of its filter's rectified activation what it answers for in the filter's mixture
(`Places`): of each unit its responsibility there, where patterns compete with one another and with
the background. So nothing counts twice, and what no pattern answers for is no node's. It is what
the node's place and score are of, too. A part has what its nodes have.

*Adds.* Let ``a`` be a layer's maps, ``a0`` the same without activation (rectified, 0; what is below
zero stays), ``S`` a score as the rest of the network computes it. A unit ``u`` adds (`added`)

    adds_u = (a_u - a0_u) * mean over t in (0, 1] of dS/da_u at a0 + t (a - a0)

so that over all units they sum to ``S(a) - S(a0)``. For every image then

    score = nodes + units of no node + score without the layer's activation + residual

(`Rests`). The residual is the numerical error of the mean. It is measured, and decides how many
steps the way has: one, with the slope at ``a``, where the rest of the network is linear (as average
pooling and a linear layer are), otherwise the midpoints of 3, 9, 27 pieces, until it is small. The
pieces are equal in ``sqrt(t)``: what biases and normalisation do to the slope, they do near the
beginning of the way, where the activation is small beside them.

*One step.* `answers.effects` and `answers.rationales`, which trees grow from, take one step on
purpose: the slope at ``a`` tells what is lost if one thing alone is taken away and all else stays,
the whole way what all add together. Where the rest is linear that is the same. Where it isn't they
are different questions. Of creatures (`benchmarks/effects.py --small`) effects order nodes as true
ablation of each does, rank correlation 0.98, contributions by 0.73; a tree of guardians at stage 3
is 0.73 right by one step and 0.51 by the whole way. But what one step gives misses what stage 3
carries by more than its size: that is told as residual, too.

References
----------
Sundararajan et al., "Axiomatic attribution for deep networks", ICML 2017, eqs. 1 and 3, section 5;
for inner layers: Dhamdhere et al., "How important is a neuron?", ICLR 2019, whose conductance
runs from the input. Departures: the way is straight in the layer's own maps, layers below play no
part; it begins where the layer's rectified activation is 0, which is what taking away gives; the
number of steps follows from the error, image by image, where they take 20 to 300 for 5 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.errors import ExplgraphError
from explgraph.explaining.intervene import Change, Run, run
from explgraph.graph.graph import Graph
from explgraph.network.geometry import Layer
from explgraph.network.gradients import gradients_of
from explgraph.network.outputs import Scorer
from explgraph.parser import Parser
from explgraph.statistics.inference import Found, responsibilities

__all__ = ["MOST", "TOLERANCE", "Added", "Owned", "Places", "Rests", "Seen", "added", "layer_of"]

Array = NDArray[np.float64]

TOLERANCE = 0.02
"""Residual that is put up with, as a share of what the layer carries of the score."""
MOST = 27
"""Steps at most. Errors fall with their number: of creatures and photographs they are then 0.1 to
4 % of what the layer carries (medians of layers); three times as many cost three times as much."""

_LINEAR = 1e-3  # the same where one step is enough: no more than rounding, lest chance meet it
_CANCELLED = 0.1  # of what units do, for and against: with less left, the rest can't be met closely
_AT_ONCE = 8  # points of the way in a batch, where that is smaller


class Owned(NamedTuple):
    """What is the own of nodes of one layer.

    Attributes
    ----------
    filters : list of int
        Of the V nodes.
    weights : (n, V, H, W)
        The share that each has in the units of its filter, 0 to 1.
    units : (n, V, H, W)
        The part of its filter's rectified activation that is each node's.
    """

    filters: list[int]
    weights: Tensor
    units: Tensor

    @property
    def activation(self) -> Tensor:
        """Of each node, (n, V)."""
        return self.units.sum((2, 3))


class Seen(NamedTuple):
    """What was seen of a graph's V nodes in a batch.

    Attributes
    ----------
    positions, expected : (n, V, 2)
        px.
    scores : (n, V)
        Presence, 0 to 1.
    patterns : dict of int to Found
        By layer index, all patterns of its filters; nodes are some of them.
    """

    positions: Tensor
    expected: Tensor
    scores: Tensor
    patterns: dict[int, Found]


class Places:
    """Where a graph's nodes are in a batch, and what is their own there."""

    def __init__(self, graph: Graph) -> None:
        self._parser = Parser(graph)
        self._layers = graph.layers
        self._values = graph.nx.nodes

    def seen(self, maps: Mapping[str, Tensor]) -> Seen:
        """Find all nodes in the maps that `intervene.run` gave."""
        own = {
            layer.index: maps[layer.name].detach().to("cpu", torch.float32).clamp(min=0)
            for layer in self._layers
        }
        patterns, fit = self._parser.found(own)
        return Seen(*self._parser.nodes_of(patterns, len(fit)), patterns)

    def weights(self, nodes: Sequence[str], seen: Seen, like: Tensor) -> Tensor:
        """Give the share that nodes of one layer have in each unit of their filters.

        Parameters
        ----------
        nodes : sequence of str
        seen : Seen
            As `seen` gives it.
        like : Tensor
            Whose device and type the weights shall have.

        Returns
        -------
        (n, len(nodes), H, W)
            0 to 1; of one filter, 1 at most together.
        """
        index = self._values[nodes[0]]["layer_index"]
        layer = self._parser.fitted.layers[index]
        k = layer.sigma.shape[1]
        patterns = [
            self._values[node]["filter"] * k + self._values[node]["pattern"] for node in nodes
        ]
        own = responsibilities(
            layer, seen.patterns[index], patterns, self._parser.grids[index], self._parser.area
        )
        return own.to(like)

    def filters(self, nodes: Sequence[str]) -> list[int]:
        """Give the nodes' filters."""
        return [self._values[node]["filter"] for node in nodes]

    def own(self, nodes: Sequence[str], maps: Tensor, seen: Seen) -> Owned:
        """Give what is the nodes' own in their layer's maps: see `weights`.

        Parameters
        ----------
        maps : (n, C, H, W)
            As `intervene.run` gave them; what is given depends on them, unless they are detached.
        """
        maps = _exact(maps)
        filters, weights = self.filters(nodes), self.weights(nodes, seen, maps)
        return Owned(filters, weights, maps[:, filters].relu() * weights)


class Rests(NamedTuple):
    """What scores are made of beside the contributions that are told, in the score's unit.

    Contributions and these sum to the score.

    Attributes
    ----------
    without : (...) float64
        The score when all of the layer's activation is taken away.
    no_part : (...) float64
        What nodes of no part add; 0 where nodes are told.
    no_node : (...) float64
        What units that no node answers for add.
    residual : (...) float64
        By how much all of this misses the score: see `explgraph.explaining.attribution`.
    """

    without: Array
    no_part: Array
    no_node: Array
    residual: Array

    def __repr__(self) -> str:
        told = [f"{np.mean(values):+.3g} {name}" for name, values in self._asdict().items()]
        return f"Rests: means are {', '.join(told)}"

    @property
    def total(self) -> Array:
        """All of it, (...)."""
        total: Array = self.without + self.no_part + self.no_node + self.residual
        return total

    def take(self, images: Any) -> Rests:
        """Keep some of the images."""
        return Rests(*(values[images] for values in self))

    @classmethod
    def joined(cls, rests: Sequence[Rests]) -> Rests:
        """Put those of several batches together."""
        return cls(*(np.concatenate(values) for values in zip(*rests, strict=True)))


class Added(NamedTuple):
    """What every unit of a layer adds to K scores of the images of a batch.

    Attributes
    ----------
    units : (n, K, C, H, W)
        In the score's unit.
    scores, without : (n, K) float64
        With the layer's activation as it is, and where the way begins; on the CPU.
    steps : (n,) int64
        That the way had.
    """

    units: Tensor
    scores: Tensor
    without: Tensor
    steps: Tensor

    @property
    def carried(self) -> Tensor:
        """What the layer carries of the scores, (n, K)."""
        return self.scores - self.without

    @property
    def residual(self) -> Tensor:
        """By how much units miss what the layer carries, (n, K)."""
        return self.carried - _on_cpu(self.units.flatten(2).sum(2))

    def of(self, own: Owned) -> Tensor:
        """Give what nodes add, (n, K, V)."""
        each = [(of[:, own.filters] * own.weights).sum((2, 3)) for of in self.units.unbind(1)]
        return torch.stack(each, 1)

    def rests(self, nodes: Tensor) -> Rests:
        """Give what the scores are made of beside what all nodes add (n, K, V): each (n, K)."""
        residual = self.residual
        no_node = self.carried - residual - _on_cpu(nodes.sum(2))
        told = (self.without, torch.zeros_like(no_node), no_node, residual)
        return Rests(*(values.numpy() for values in told))


def added(
    model: nn.Module,
    batch: Tensor,
    whole: Run,
    layer: Layer,
    columns: Sequence[int],
    *,
    scorer: Scorer | None = None,
    baseline: Tensor | None = None,
    most: int = MOST,
) -> Added:
    """Give what every unit of a layer adds to some scores: see the module for the formula.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    batch : (n, 3, H, W)
        On the model's device, of its type.
    whole : Run
        Of this batch with gradients, the layer among its maps.
    layer : Layer
    columns : sequence of int
        The K scores.
    scorer : Scorer, optional
        As for `intervene.run`.
    baseline : (n, C, H, W), optional
        Where the way begins, or of a shape that broadcasts to it: the layer's maps with some of
        the activation taken away, or others in their place, such as their mean over images. By
        default all activation is taken away: ``maps.clamp(max=0)``.
    most : int
        Steps at most. With 1 it is the slope at the maps, whatever the error: what is lost if
        little is taken away.

    Returns
    -------
    Added
        It takes the memory of K times the maps.

    Raises
    ------
    ExplgraphError
        As `intervene.run`, which runs the model once where the way begins, and once for every step
        beyond the first.
    """
    name = layer.name
    given = whole.maps[name].detach()
    maps = _exact(given)
    start = maps.clamp(max=0) if baseline is None else baseline.to(maps).expand_as(maps)
    way = maps - start

    def others(maps: Tensor) -> dict[str, Change]:
        return {name: lambda _: maps.to(given)}

    def slopes(done: Run) -> Tensor:
        each = [gradients_of(done.scores[:, k].sum(), [done.maps[name]])[0] for k in columns]
        return torch.stack(each, 1).to(maps)

    begun = run(model, batch, [layer], others(start), scorer=scorer)
    scores, without = (_on_cpu(one.scores.detach()[:, list(columns)]) for one in (whole, begun))
    units = slopes(whole) * way[:, None]
    steps = torch.ones(len(batch), dtype=torch.int64)
    left = _too_far(units, scores - without, _LINEAR) if most > 1 else []
    total = {row: torch.zeros_like(units[row]) for row in left}
    n = 1
    while left and 3 * n <= most:
        n *= 3
        # of three pieces the middle one's midpoint is that of the piece which they are of
        roots = [(k + 0.5) / n for k in range(n) if n == 3 or k % 3 != 1]
        wanted = [(row, root) for row in left for root in roots]
        size = max(len(batch), _AT_ONCE)
        for first in range(0, len(wanted), size):
            rows, at = zip(*wanted[first : first + size], strict=True)
            root = torch.tensor(at, device=maps.device, dtype=maps.dtype)[:, None, None, None]
            changes = others(start[list(rows)] + root**2 * way[list(rows)])
            done = run(model, batch[list(rows)], [layer], changes, scorer=scorer, gradients=True)
            for row, slope in zip(rows, 2 * root[:, None] * slopes(done), strict=True):
                total[row] += slope
            del done  # and all that gradients need
        for row in left:
            units[row] = total[row] / n * way[row]
            steps[row] = n
        far = _too_far(units[left], (scores - without)[left], TOLERANCE)
        left = [left[k] for k in far]
    return Added(units, scores, without, steps)


def _too_far(units: Tensor, carried: Tensor, tolerance: float) -> list[int]:
    """Give the images, by number, whose units (n, K, ...) miss what is carried (n, K) by far."""
    flat = units.flatten(2)
    missed = (carried - _on_cpu(flat.sum(2))).abs()
    size = torch.maximum(carried.abs(), _CANCELLED * _on_cpu(flat.abs().sum(2)))
    return (missed > tolerance * size).any(1).nonzero()[:, 0].tolist()


def _exact(maps: Tensor) -> Tensor:
    """Give maps in the type in which units are summed: float16 is too coarse."""
    return maps.to(torch.promote_types(maps.dtype, torch.float32))


def _on_cpu(values: Tensor) -> Tensor:
    """Give values as float64; not every device has it."""
    return values.cpu().double()


def layer_of(graph: Graph, layer: str | None) -> Layer:
    """Choose the highest layer that has nodes, or check the one that was chosen.

    Nodes of several layers would count the same thing several times over.
    """
    if not len(graph):
        raise ExplgraphError("the graph has no nodes; mine again, or prune less")
    known = {one.name: one for one in graph.layers if graph.nodes_of(one.name)}
    if layer is None:
        return next(reversed(known.values()))
    if not graph.nodes_of(layer):
        raise ExplgraphError(f"the graph has no nodes in layer {layer!r}; choose another")
    return known[layer]
