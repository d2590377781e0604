"""Evidence: what each node of a graph adds to each of a network's outputs.

1. One forward pass catches the maps of the graph's layers (`intervene.run`); they tell where every
   node is in every image.
2. One backward pass per output gives that output's gradient with respect to a layer's maps.
   Gradient times activation is what a unit adds to the output, to first order. Below nothing but
   average pooling and a linear layer it is exact: an image's units add up to the output less its
   bias.
3. A unit counts for the node of its filter that is nearest to it in this image, in units of the
   node's sigma, and for none if all are further than `REACH` sigmas. Nothing counts twice, and
   units count in full, so that nodes add up to what the output is. `rationales` weighs units by
   how near they are instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.answers.intervene import Places, class_scores, run, watched, with_gradients
from explgraph.errors import ExplgraphError
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.graph import check_graph
from explgraph.images.batches import AnyImages, batches, count
from explgraph.network.forward import of_size, on_device, with_bar
from explgraph.network.geometry import Layer
from explgraph.network.hooks import check_model, model_device, model_dtype
from explgraph.statistics.mixture import Grid

__all__ = ["REACH", "Evidence", "model_outputs", "node_evidence", "output_count"]

REACH = 3.0
"""How far from a node its units may lie, in sigmas; 99 % of an isotropic Gaussian lie within."""

_TINY = 1e-6  # px


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the nodes of one layer add to some outputs, image by image.

    Attributes
    ----------
    nodes : tuple of str
        Ids of the layer's V nodes.
    names : tuple of str
        Of the N images.
    values : (N, A, V) float32
        Evidence of each node for each of the A outputs, in the output's unit.
    outputs : (N, A) float32
        What the network gives. Less the sum of `values` over nodes it is what the nodes don't
        account for: the output's bias, units without a node, and what is not linear.
    positions : (N, V, 2) float32
        Where the nodes are, px.
    """

    nodes: tuple[str, ...]
    names: tuple[str, ...]
    values: NDArray[Any]
    outputs: NDArray[Any]
    positions: NDArray[Any]


@with_gradients
def node_evidence(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    outputs: Sequence[int],
    *,
    layer: str | None = None,
    batch_size: int = 32,
    device: str = "auto",
    progress: bool = False,
) -> Evidence:
    """Measure what each node of a layer adds to some of the network's outputs.

    Parameters
    ----------
    model : torch.nn.Module
        The network that was mined, in evaluation mode; its output is ``(N, outputs)``.
    graph : ExplanatoryGraph
    images : ImageFolder, (N, 3, H, W) tensor, Dataset or DataLoader
        Of the size that was mined.
    outputs : sequence of int
        Columns of the model's output.
    layer : str, optional
        A layer of the graph; by default its top one.
    batch_size : int
    device : str
        Where the model runs.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    Evidence

    Raises
    ------
    ExplgraphError
        If the graph was mined on another model or has no such layer or no node in it, the model
        gives no such outputs, or its layer gives no single grid.
    """
    check_graph(graph)
    known = {known.name: known for known in graph.layers}
    if layer is not None and layer not in known:
        raise ExplgraphError(f"layer {layer!r} isn't in the graph; it has {', '.join(known)}")
    chosen = known[layer] if layer is not None else graph.layers[-1]
    ids = graph.nodes_of(chosen.name)
    if not ids:
        raise ExplgraphError(f"the graph has no node in layer {chosen.name!r}; choose another")
    column = {node: v for v, node in enumerate(graph.node_ids)}
    own = [column[node] for node in ids]
    places, owners = Places(graph), _Owners.of(graph, chosen, ids)
    names: list[str] = []
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    for here, batch in watched(
        model, graph, images, batch_size=batch_size, device=device, progress=progress
    ):
        done = run(model, batch, graph.layers, gradients=True)
        given = _columns(done.scores, outputs)
        maps = done.maps[chosen.name]
        positions = places.positions(done.maps)[:, own]
        owner = owners(positions)
        rectified = maps.detach().float().cpu().clamp(min=0)
        sums = []
        for k in range(len(outputs)):
            (slope,) = torch.autograd.grad(
                given[:, k].sum(), maps, retain_graph=True, materialize_grads=True
            )
            sums.append(owners.add_up(owner, rectified * slope.float().cpu()))
        rows.append((torch.stack(sums, dim=1), given.detach().float().cpu(), positions))
        names.extend(here)
    values, given_all, positions_all = (torch.cat(p).numpy() for p in zip(*rows, strict=True))
    return Evidence(ids, tuple(names), values, given_all, positions_all)


def model_outputs(
    model: nn.Module,
    images: AnyImages,
    outputs: Sequence[int],
    *,
    image_size: tuple[int, int],
    batch_size: int = 32,
    device: str = "auto",
    progress: bool = False,
) -> tuple[tuple[str, ...], NDArray[Any]]:
    """Give images' names and some of the model's outputs, (N, A) float32, without gradients."""
    check_model(model)
    names: list[str] = []
    given = []
    with on_device(model, device), torch.inference_mode():
        source = of_size(batches(images, batch_size), image_size)
        for here, batch in with_bar(source, count(images), progress, "running"):
            result = model(batch.to(model_device(model), model_dtype(model)))
            scores = class_scores(result, len(batch))
            given.append(_columns(scores, outputs).float().cpu())
            names.extend(here)
    return tuple(names), torch.cat(given).numpy()


def output_count(model: nn.Module, images: AnyImages, *, device: str = "auto") -> int:
    """Give the number of the model's outputs."""
    check_model(model)
    with on_device(model, device), torch.inference_mode():
        _, batch = next(batches(images, 1))
        result = model(batch.to(model_device(model), model_dtype(model)))
        return class_scores(result, 1).shape[1]


def _columns(scores: Tensor, outputs: Sequence[int]) -> Tensor:
    """Pick columns of a model's scores."""
    wrong = [k for k in outputs if not 0 <= k < scores.shape[1]]
    if wrong:
        raise ExplgraphError(
            f"outputs names column {wrong[0]}, but the model gives {scores.shape[1]} outputs, "
            f"0 to {scores.shape[1] - 1}"
        )
    columns: Tensor = scores[:, list(outputs)]
    return columns


@dataclass(frozen=True, eq=False)
class _Owners:
    """Which node a unit counts for. Nodes by filter: F filters of up to K nodes each."""

    filters: Tensor  # (F,) of the layer
    node: Tensor  # (F, K) index, repeated where a filter has fewer
    sigma: Tensor  # (F, K) px
    centres: Tensor  # (U, 2) px
    number: int  # of nodes, V

    @classmethod
    def of(cls, graph: ExplanatoryGraph, layer: Layer, ids: Sequence[str]) -> _Owners:
        """Group a layer's nodes by filter."""
        groups: dict[int, list[int]] = {}
        for v, name in enumerate(ids):
            groups.setdefault(graph.nx.nodes[name]["filter"], []).append(v)
        most = max(map(len, groups.values()))
        # a repeated node is no nearer than itself
        node = torch.tensor([g + g[:1] * (most - len(g)) for g in groups.values()])
        sigma = torch.tensor([graph.nx.nodes[name]["sigma"] for name in ids]).float()
        grid = Grid.of(layer)
        centres = torch.cartesian_prod(grid.y, grid.x).flip(1)
        return cls(torch.tensor(list(groups)), node, sigma[node], centres, len(ids))

    def __call__(self, positions: Tensor) -> Tensor:
        """Give the owner of each unit, (n, F, U), V for none; `positions` (n, V, 2) px."""
        owners = []
        for place in positions:  # one by one, for the distances take memory
            offset = place[self.node][:, :, None] - self.centres
            far = offset.norm(dim=-1) / self.sigma[..., None].clamp(min=_TINY)
            near, which = far.min(dim=1)
            owner = self.node.gather(1, which)
            owners.append(owner.masked_fill(near > REACH, self.number))
        return torch.stack(owners)

    def add_up(self, owners: Tensor, units: Tensor) -> Tensor:
        """Add up units' values (n, C, H, W) over those that each node owns: (n, V)."""
        values = units[:, self.filters].flatten(1)
        sums = units.new_zeros(len(units), self.number + 1)
        return sums.scatter_add_(1, owners.flatten(1), values)[:, :-1]
