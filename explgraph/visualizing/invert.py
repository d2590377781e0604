"""Inversion: an image that shows the same nodes at the same places, and nothing else.

What a graph keeps of an image is what an image must have for its nodes to be found where they are.
As in Mahendran and Vedaldi, "Understanding deep image representations by inverting them" (CVPR
2015), an image is sought whose maps are those of the original,

    min_x  sum over layers  |W (f(x) - f(x0))|^2 / |W f(x0)|^2  +  a TV(x)  +  b |x|^6,

where W is a Gaussian of its sigma around the place of each node, in the map of its filter: what a
filter does elsewhere, and all other filters, are free. TV, the mean square of neighbouring pixels'
difference, and the sixth power of the colours keep x from being noise. It begins with the mean
colour everywhere: but for that and its contrast, nothing of the original gets in except by nodes.

Whether that went well is asked of the graph: the inverted image is parsed like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph, check_graph
from explgraph.images.batches import AnyImages, batches, count
from explgraph.images.further import check_without_inputs
from explgraph.images.taken import taken
from explgraph.network.forward import of_size, on_device
from explgraph.parsed import Parse
from explgraph.parsing import parse
from explgraph.visualizing.responses import Responses
from explgraph.whole_numbers import whole

__all__ = ["Inverted", "found_again", "invert"]

_SMOOTH = 0.1  # weight of total variation, the image's spread being 1
_BOUNDED = 0.05  # weight of the norm, which counts from twice the spread on
_RATE = 0.2  # of the image's spread, a step
_BATCH = 4  # images at once
_THERE = 0.5  # score
_SAME = 0.05  # of the image's diagonal: nodes nearer than that are at the same place


@dataclass(frozen=True, eq=False)
class Inverted:
    """Images that show the same nodes at the same places as others.

    Attributes
    ----------
    images : (N, C, H, W) float32
        As the network takes them.
    before, after : Parse
        Of the originals, and of these images; the same names and nodes.
    """

    images: NDArray[np.float32]
    before: Parse
    after: Parse

    @property
    def again(self) -> NDArray[np.float64]:
        """Share of the nodes of each original that are found again, ``(N,)``: `found_again`."""
        return found_again(self.before, self.after)


def found_again(before: Parse, after: Parse) -> NDArray[np.float64]:
    """Give the share of nodes that are in other images as well, at the same places.

    Parameters
    ----------
    before, after : Parse
        Of N images each, by one graph.

    Returns
    -------
    (N,)
        Of the nodes with a score of at least 0.5 before, those with such a score after, within 5 %
        of the image's diagonal; NaN where there are none before.
    """
    near = np.linalg.norm(after.positions - before.positions, axis=2)
    there = before.scores >= _THERE
    same = there & (after.scores >= _THERE) & (near <= _SAME * np.hypot(*before.image_size))
    counted = there.sum(1)
    return np.where(counted > 0, same.sum(1) / np.maximum(counted, 1), np.nan)


def invert(
    model: nn.Module,
    graph: Graph,
    images: AnyImages,
    *,
    steps: int = 150,
    device: str = "auto",
    progress: bool = False,
) -> Inverted:
    """Make an image, for each of some images, that shows the same nodes at the same places.

    Parameters
    ----------
    model : torch.nn.Module
        The network that was mined, in evaluation mode.
    graph : ExplanatoryGraph
        Of whose nodes nothing is left out; prune it to see what fewer nodes keep.
    images : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
        Few: each takes `steps` passes through the network and back.
    steps : int
        Of the descent.
    device : str
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    Inverted

    Raises
    ------
    ExplgraphError
        If the graph has no nodes, the images are of another size, or steps is no whole number above
        0.

    Warns
    -----
    ExplgraphWarning
        If the weights are not those that were mined.
    """
    check_graph(graph)
    if not len(graph):
        raise ExplgraphError("the graph has no nodes; mine again, or prune less")
    steps = whole(steps, "steps")
    check_without_inputs(images)
    images = taken(images, graph.nx.graph["preprocessing"])
    before = parse(model, graph, images, device=device)
    made = []
    total = count(images)
    with (
        on_device(model, device),
        torch.inference_mode(False),
        torch.enable_grad(),
        tqdm(
            total=None if total is None else total * steps,
            desc="inverting",
            delay=2,
            disable=None if progress else True,
        ) as bar,
    ):
        responses = Responses(model, graph, graph.node_ids)
        places, done = torch.from_numpy(before.positions), 0
        for names, batch in of_size(batches(images, _BATCH), graph.image_size):
            here = places[done : done + len(names)]
            made.append(_descent(responses, batch.float(), here, steps, bar))
            done += len(names)
    inverted = torch.cat(made)
    after = parse(model, graph, inverted, device=device)
    after = Parse(
        after.nodes, before.names, after.positions, after.expected, after.scores, after.image_size
    )
    return Inverted(inverted.numpy(), before, after)


def _descent(
    responses: Responses, batch: Tensor, places: Tensor, steps: int, bar: tqdm[None]
) -> Tensor:
    """Go down the gradient from the mean colour; give images (n, C, H, W)."""
    with torch.no_grad():
        wanted = responses.maps(batch)
    weights = responses.weights(places)
    scale = {name: _weighed(weights[name], maps) for name, maps in wanted.items()}
    colour = batch.mean((2, 3), keepdim=True)
    spread = batch.std((1, 2, 3), keepdim=True).clamp(min=1e-6)
    step = torch.zeros_like(batch, requires_grad=True)
    optimizer = torch.optim.Adam([step], lr=_RATE)
    for _ in range(steps):
        image = colour + spread * step
        cost = _misfit(responses.maps(image), wanted, weights, scale).cpu() + _prior(step)
        (step.grad,) = torch.autograd.grad(cost.sum(), step)
        optimizer.step()
        bar.update(len(batch))
    low, high = batch.amin((2, 3), keepdim=True), batch.amax((2, 3), keepdim=True)
    return (colour + spread * step.detach()).clamp(low, high)


def _misfit(
    maps: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    scale: Mapping[str, Tensor],
) -> Tensor:
    """Measure how far maps are from those wanted, around the nodes' places: ``(n,)``."""
    each = [_weighed(weights[name], maps[name] - wanted[name]) / scale[name] for name in wanted]
    return torch.stack(each).mean(0)


def _weighed(weights: Tensor, maps: Tensor) -> Tensor:
    """Give each image's weighted sum of squares, (n,), and a little more than 0."""
    return (weights * maps.square()).sum((1, 2, 3)) + 1e-9


def _prior(image: Tensor) -> Tensor:
    """Weigh what speaks against images of spread 1 by themselves: ``(n,)``."""
    down = (image[:, :, 1:] - image[:, :, :-1]).square().sum(1).mean((1, 2))
    right = (image[..., 1:] - image[..., :-1]).square().sum(1).mean((1, 2))
    norm = (image / 2).pow(6).mean((1, 2, 3))
    return _SMOOTH * (down + right) + _BOUNDED * norm
