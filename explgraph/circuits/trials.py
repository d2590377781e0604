"""True runs of a network that has some of its parts or nodes alone, and estimates of their worth.

1. Candidates hold shares of units of some layers (`explaining.attribution.Places`). A set of
   candidates keeps what its members hold; all else in these layers is replaced
   (`explaining.replaced`).
2. *True runs*: for a batch the network runs once whole, where the nodes are found, and then from
   the lowest of the layers upwards for each set that is asked (`Rerun`).
3. *Estimates* say in which order candidates are worth trying: what units add to the class's score
   on the way from what stands in to what is there (`explaining.attribution.added`), layer by layer.
   A candidate's is the sum over what it holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.explaining.attribution import Places, added
from explgraph.explaining.intervene import Change, Run, run, watched
from explgraph.explaining.replaced import StandIns, replaced
from explgraph.explaining.rerun import Rerun
from explgraph.graph.graph import Graph
from explgraph.images.batches import AnyImages, subset
from explgraph.network.geometry import Layer
from explgraph.network.hooks import alone
from explgraph.network.outputs import Scorer

__all__ = ["Asked", "Measure", "Trials"]

Measure: TypeAlias = Literal["score", "accuracy"]
"""What is kept: the class's score, or the share of images in which it is the highest of all."""

_STEPS = 3  # of the way at most: what they miss changes an order little, and runs have the say


class Asked(NamedTuple):
    """A set of candidates that the network is run with.

    Attributes
    ----------
    members : frozenset of int
        Candidates' numbers.
    away : bool
        Whether they alone are replaced, and all else is kept.
    """

    members: frozenset[int]
    away: bool = False


class _Held(NamedTuple):
    """What nodes of a layer hold in a batch.

    Attributes
    ----------
    candidates : list of int
        Of which candidate each of the V nodes is.
    filters : list of int
    shares : (n, V, H, W)
        Of each unit of the node's filter, 0 to 1.
    """

    candidates: list[int]
    filters: list[int]
    shares: Tensor

    def by(self, members: Collection[int], channels: int) -> Tensor:
        """Give the share of each unit that some candidates hold, (n, C, H, W)."""
        n, _, *grid = self.shares.shape
        shares = self.shares.new_zeros(n, channels, *grid)
        chosen = [k for k, of in enumerate(self.candidates) if of in members]
        filters = torch.tensor([self.filters[k] for k in chosen], device=shares.device).long()
        return shares.index_add_(1, filters, self.shares[:, chosen]).clamp_(max=1)


class Trials:
    """Runs a network on some images with some of the candidates.

    Parameters
    ----------
    model : torch.nn.Module
    graph : Graph
    layers : sequence of Layer
        Where all but candidates is replaced.
    candidates : sequence of sequence of str
        The nodes of each.
    images : AnyImages
        As `taken` gives them.
    stand_ins : StandIns
    measure : "score" or "accuracy"
    scorer, batch_size, device
        As for `intervene.watched`.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: Graph,
        layers: Sequence[Layer],
        candidates: Sequence[Sequence[str]],
        images: AnyImages,
        stand_ins: StandIns,
        measure: Measure,
        *,
        scorer: Scorer,
        batch_size: int,
        device: str,
    ) -> None:
        self._model, self._graph, self._images = model, graph, images
        self._layers, self._candidates = tuple(layers), tuple(map(tuple, candidates))
        self._stand_ins, self._measure = stand_ins, measure
        self._scorer, self._batch_size, self._device = scorer, batch_size, device
        self._places = Places(graph)
        self._rerun = Rerun(model, graph.layers, [self._layers[0].name], scorer)
        self._nodes = {
            layer.name: [
                (node, p)
                for p, nodes in enumerate(candidates)
                for node in nodes
                if graph.nx.nodes[node]["layer"] == layer.name
            ]
            for layer in self._layers
        }

    def values(
        self, asked: Sequence[Asked], indices: Sequence[int], classes: Sequence[int]
    ) -> NDArray[np.float64]:
        """Give what the measure is with each set, image by image.

        Parameters
        ----------
        asked : sequence of Asked
        indices : sequence of int
            Of the n images to be asked.
        classes : sequence of int
            Of each of these, the class's number.

        Returns
        -------
        (1 + len(asked), n) float64
            The first row is the whole network's.
        """
        found: list[Tensor] = []
        for batch, own in self._batches(indices, classes):
            with alone(self._model):  # other threads' runs would change what modules keep
                whole = self._rerun.whole(batch)
                held = self._held(whole)
                instead = {layer.name: self._stand_ins(layer.name, batch) for layer in self._layers}
                values = [self._measured(whole.scores, own)]
                for one in asked:
                    changes = {
                        layer.name: self._change(one, held[layer.name], instead[layer.name])
                        for layer in self._layers
                    }
                    values.append(self._measured(self._rerun.changed(changes).scores, own))
            found.append(torch.stack(values).double().cpu())
        return torch.cat(found, 1).numpy()

    def estimates(self, indices: Sequence[int], classes: Sequence[int]) -> dict[str, float]:
        """Estimate what each candidate's nodes add to the score, in its unit, mean over images."""
        total = {name: torch.zeros(len(n), dtype=torch.float64) for name, n in self._nodes.items()}
        for batch, own in self._batches(indices, classes):
            columns, column = torch.unique(own, return_inverse=True)
            whole = run(self._model, batch, self._graph.layers, scorer=self._scorer, gradients=True)
            for layer, held in zip(self._layers, self._held(whole).values(), strict=True):
                maps = whole.maps[layer.name].detach()
                instead = self._stand_ins(layer.name, batch)
                units = added(
                    self._model, batch, whole, layer, columns.tolist(),
                    scorer=self._scorer, most=_STEPS,
                    baseline=replaced(maps, torch.ones_like(maps), instead),
                ).units[range(len(batch)), column]  # fmt: skip
                adds = (units[:, held.filters] * held.shares).sum((0, 2, 3))
                total[layer.name] += adds.double().cpu()
        return {
            node: value / len(indices)
            for name, nodes in self._nodes.items()
            for (node, _), value in zip(nodes, total[name].tolist(), strict=True)
        }

    def _held(self, whole: Run) -> dict[str, _Held]:
        """Find what the candidates' nodes hold, by layer."""
        seen = self._places.seen(whole.maps)
        held = {}
        for name, nodes in self._nodes.items():
            ids = [node for node, _ in nodes]
            shares = self._places.weights(ids, seen, whole.maps[name].detach())
            held[name] = _Held([p for _, p in nodes], self._places.filters(ids), shares)
        return held

    def _change(self, one: Asked, held: _Held, instead: Tensor | float) -> Change:
        """Replace what a set doesn't hold, or what it holds."""

        def changed(maps: Tensor) -> Tensor:
            shares = held.by(one.members, maps.shape[1])
            return replaced(maps, shares if one.away else 1 - shares, instead)

        return changed

    def _batches(
        self, indices: Sequence[int], classes: Sequence[int]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through some images, with their classes."""
        source = watched(
            self._model, self._graph, subset(self._images, indices, self._batch_size),
            scorer=self._scorer, batch_size=self._batch_size, device=self._device, progress=False,
        )  # fmt: skip
        start = 0
        for _, batch in source:
            own = torch.tensor(classes[start : start + len(batch)], device=batch.device)
            start += len(batch)
            yield batch, own

    def _measured(self, scores: Tensor, own: Tensor) -> Tensor:
        """Read the measure off scores (n, classes)."""
        if self._measure == "accuracy":
            return (scores.argmax(1) == own).double()
        return scores.gather(1, own[:, None])[:, 0]
