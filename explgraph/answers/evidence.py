"""Evidence: what each node of a graph adds to each of a network's outputs.

1. One forward pass catches the maps of the graph's layers (`intervene.run`); they tell where every
   node is in every image.
2. What is a node's own, and what units add, is as for all answers (`attribution`): one backward
   pass for each output where the rest of the network is linear, several otherwise.
3. Nodes, units of no node, the output without the layer's activation (its bias, where the rest is a
   linear layer) and a residual sum to the output.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError
from explgraph.explaining.attribution import Places, Rests, added, layer_of
from explgraph.explaining.by_part import By, Members, check_by
from explgraph.explaining.intervene import is_output, run, watched, with_gradients
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.graph import check_graph
from explgraph.images.batches import AnyImages, batches, count
from explgraph.network.forward import of_size, on_device, with_bar
from explgraph.network.hooks import called, check_model, model_device, model_dtype
from explgraph.network.outputs import Outputs, Scorer
from explgraph.progress import Shown

__all__ = ["Evidence", "model_outputs", "node_evidence", "output_count"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the nodes of one layer, or parts, add to some outputs, image by image.

    Attributes
    ----------
    nodes : tuple of str
        Ids of the layer's V nodes, or of the parts that have some of them.
    names : tuple of str
        Of the N images.
    values : (N, A, V) float32
        Evidence of each node for each of the A outputs, in the output's unit.
    outputs : (N, A) float32
        What the network gives: the sum of `values` over nodes, and `rests`.
    positions : (N, V, 2) float32
        Where the nodes are, px; a part is at the mean of its nodes' places.
    rests : Rests
        Each (N, A): what the outputs are made of beside the nodes' evidence, and by how much all of
        it misses them.
    titles : tuple of str
        Of the V parts; empty for nodes.
    """

    nodes: tuple[str, ...]
    names: tuple[str, ...]
    values: NDArray[Any]
    outputs: NDArray[Any]
    positions: NDArray[Any]
    rests: Rests
    titles: tuple[str, ...] = ()

    def __repr__(self) -> str:
        kind = "parts" if self.titles else "nodes"
        return (
            f"Evidence: {len(self.nodes):,} {kind} ({few(self.titles or self.nodes)}) for "
            f"{counted(self.outputs.shape[1], 'output')} in {counted(len(self.names), 'image')}"
        )

    def by_part(self, graph: ExplanatoryGraph) -> Evidence:
        """Tell the same by parts: sums over each part's nodes.

        Raises
        ------
        ExplgraphError
            If none of the nodes belongs to a part.
        """
        members = Members.of(graph, self.nodes)
        size = np.bincount(members.member[members.member >= 0]).astype(self.positions.dtype)
        places = np.moveaxis(members.sum(np.moveaxis(self.positions, 2, 1)), 1, 2)
        return replace(
            self,
            nodes=members.ids,
            values=members.sum(self.values),
            positions=places / size[:, None],
            rests=self.rests._replace(no_part=members.rest(self.values).astype(np.float64)),
            titles=members.titles,
        )


@with_gradients
def node_evidence(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    columns: Sequence[int],
    *,
    layer: str | None = None,
    by: By = "node",
    outputs: Outputs | None = None,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> Evidence:
    """Measure what each node of a layer adds to some of the network's outputs.

    Parameters
    ----------
    model : torch.nn.Module
        The network that was mined, in evaluation mode; its output is ``(N, scores)``, or `outputs`
        gives these.
    graph : ExplanatoryGraph
    images : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
        Of the size that was mined.
    columns : sequence of int
        Of the model's output.
    layer : str, optional
        By default the highest that has nodes.
    by : "node" or "part"
        With "part", what is said of a part is the sum over its nodes in the layer.
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
    Evidence

    Raises
    ------
    ExplgraphError
        If the graph was mined on another model or has no such layer, no node in it or none of a
        part, the model gives no such outputs, or its layer gives no single grid.
    """
    check_graph(graph)
    check_by(by)
    scorer = Scorer(outputs)
    known = layer_of(graph, layer)
    ids = graph.nodes_of(known.name)
    column = {node: v for v, node in enumerate(graph.node_ids)}
    own = [column[node] for node in ids]
    places = Places(graph)
    names: list[str] = []
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    rests: list[Rests] = []
    for here, batch in watched(
        model, graph, images,
        scorer=scorer, batch_size=batch_size, device=device, progress=progress,
    ):  # fmt: skip
        done = run(model, batch, graph.layers, scorer=scorer, gradients=True)
        given = _columns(done.scores, columns)
        seen = places.seen(done.maps)
        mine = places.own(ids, done.maps[known.name].detach(), seen)
        found = added(model, batch, done, known, columns, scorer=scorer)
        values = found.of(mine)
        rows.append((values.float().cpu(), given.detach().float().cpu(), seen.positions[:, own]))
        rests.append(found.rests(values))
        names.extend(here)
    values_all, given_all, at = (torch.cat(p).numpy() for p in zip(*rows, strict=True))
    told = Evidence(ids, tuple(names), values_all, given_all, at, Rests.joined(rests))
    return told if by == "node" else told.by_part(graph)


def model_outputs(
    model: nn.Module,
    images: AnyImages,
    columns: Sequence[int],
    *,
    image_size: tuple[int, int],
    outputs: Outputs | None = None,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> tuple[tuple[str, ...], NDArray[Any]]:
    """Give images' names and some of the model's outputs, (N, A) float32, without gradients."""
    check_model(model)
    scorer = Scorer(outputs)
    names: list[str] = []
    given = []
    with on_device(model, device), torch.inference_mode():
        source = of_size(batches(images, batch_size), image_size)
        for here, batch in with_bar(source, count(images), progress, "running"):
            result = called(model, batch.to(model_device(model), model_dtype(model)))
            given.append(_columns(scorer(result, len(batch)), columns).float().cpu())
            names.extend(here)
    return tuple(names), torch.cat(given).numpy()


def output_count(
    model: nn.Module, images: AnyImages, *, outputs: Outputs | None = None, device: str = "auto"
) -> int:
    """Give the number of the model's outputs."""
    check_model(model)
    with on_device(model, device), torch.inference_mode():
        _, batch = next(batches(images, 1))
        result = called(model, batch.to(model_device(model), model_dtype(model)))
        return Scorer(outputs)(result, 1).shape[1]


def _columns(scores: Tensor, numbers: Sequence[int]) -> Tensor:
    """Pick columns of a model's scores."""
    if isinstance(numbers, str) or not isinstance(numbers, Iterable):
        raise ExplgraphError(f"columns must be a list of numbers of outputs, got {numbers!r}")
    wrong = [k for k in numbers if not is_output(k, scores.shape[1])]
    if wrong:
        raise ExplgraphError(
            f"columns names column {wrong[0]}, but the model gives "
            f"{counted(scores.shape[1], 'output')}, "
            f"0 to {scores.shape[1] - 1}"
        )
    columns: Tensor = scores[:, list(numbers)]
    return columns
