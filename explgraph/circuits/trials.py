"""True runs of a network that has some of its parts or nodes alone, and estimates of their worth.

1. Candidates hold shares of units of some layers: what the patterns of their nodes answer for
   (`statistics.inference.responsibilities`). A set of candidates keeps what its members hold; all
   else in these layers is replaced (`explaining.replaced`).
2. *True runs*: for a batch the network runs once whole, where the nodes are found, and then from
   the lowest of the layers upwards for each set that is asked (`Rerun`).
3. *Estimates* say in which order candidates are worth trying. Let every unit of the layers be kept
   to a share s, from 0 (all is replaced) to 1 (the whole network). The mean over s of the gradient
   of the class's score by a unit's share is what keeping the unit adds; these add up to the score
   less that with all replaced, up to the error of the mean over `_STEPS` points. A candidate's
   estimate is the sum over what it holds.

References
----------
The path: Sundararajan et al., "Axiomatic attribution for deep networks", ICML 2017, eqs. 1 and 3,
here of shares of units, not of pixels, from what stands in to what is there; of several layers at
once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.explaining.intervene import Change, Run, run, watched
from explgraph.explaining.replaced import StandIns, replaced
from explgraph.explaining.rerun import Rerun
from explgraph.graph.graph import Graph
from explgraph.images.batches import AnyImages, subset
from explgraph.network.geometry import Layer
from explgraph.network.gradients import gradients_of
from explgraph.network.hooks import alone
from explgraph.network.outputs import Scorer
from explgraph.parsing import Parser
from explgraph.statistics.inference import responsibilities

__all__ = ["Asked", "Measure", "Trials"]

Measure: TypeAlias = Literal["score", "accuracy"]
"""What is kept: the class's score, or the share of images in which it is the highest of all."""

_STEPS = 8  # midpoints of the way; what they miss changes an order little, and runs have the say


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
        self._parser = Parser(graph)
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
        """Estimate what each candidate's nodes add to the score, in its unit, mean over images.

        With the measure "accuracy", to the score's lead over the highest of all others.
        """
        total = {name: torch.zeros(len(n), dtype=torch.float64) for name, n in self._nodes.items()}
        for batch, own in self._batches(indices, classes):
            whole = run(self._model, batch, self._graph.layers, scorer=self._scorer)
            worth = self._adds(batch, own)
            for name, held in self._held(whole).items():
                adds = (worth[name][:, held.filters] * held.shares).sum((0, 2, 3))
                total[name] += adds.double().cpu()
        return {
            node: value / len(indices)
            for name, nodes in self._nodes.items()
            for (node, _), value in zip(nodes, total[name].tolist(), strict=True)
        }

    def _adds(self, batch: Tensor, own: Tensor) -> dict[str, Tensor]:
        """Give what keeping each unit adds to the class's score, (n, C, H, W), by layer."""
        total: dict[str, Tensor] = {}
        for k in range(_STEPS):
            shares: dict[str, Tensor] = {}

            def change(name: str, step: int = k, shares: dict[str, Tensor] = shares) -> Change:
                def changed(maps: Tensor) -> Tensor:
                    share = torch.full_like(maps, (step + 0.5) / _STEPS, requires_grad=True)
                    shares[name] = share
                    return replaced(maps, 1 - share, self._stand_ins(name, batch))

                return changed

            changes = {layer.name: change(layer.name) for layer in self._layers}
            done = run(
                self._model, batch, self._layers, changes, scorer=self._scorer, gradients=True
            )
            score = self._aim(done.scores, own).sum()
            names = list(shares)
            slopes = gradients_of(score, [shares[name] for name in names])
            for name, slope in zip(names, slopes, strict=True):
                slope = slope.detach().float() / _STEPS
                total[name] = total[name] + slope if name in total else slope
        return total

    def _held(self, whole: Run) -> dict[str, _Held]:
        """Find what the candidates' nodes hold, by layer: what their patterns answer for."""
        own = {
            layer.index: whole.maps[layer.name].detach().to("cpu", torch.float32).relu()
            for layer in self._graph.layers
        }
        found, _ = self._parser.found(own)
        held = {}
        for layer in self._layers:
            fitted, grid = self._parser.fitted.layers[layer.index], self._parser.grids[layer.index]
            nodes = [self._graph.nx.nodes[node] for node, _ in self._nodes[layer.name]]
            patterns = [a["filter"] * fitted.sigma.shape[1] + a["pattern"] for a in nodes]
            shares = responsibilities(fitted, found[layer.index], patterns, grid, self._parser.area)
            held[layer.name] = _Held(
                [p for _, p in self._nodes[layer.name]],
                [a["filter"] for a in nodes],
                shares.to(whole.maps[layer.name]),
            )
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

    def _aim(self, scores: Tensor, own: Tensor) -> Tensor:
        """Give what gradients are taken of: accuracy has none."""
        mine = scores.gather(1, own[:, None])[:, 0]
        if self._measure == "score" or scores.shape[1] == 1:
            return mine
        return mine - scores.scatter(1, own[:, None], -torch.inf).amax(1)
