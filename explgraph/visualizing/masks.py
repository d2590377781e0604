"""Masks: which pixels a node answers to in an image, at the image's full resolution.

1. A node's response at its place is followed from a blurred copy of the image to the image itself;
   the gradients along the way times the difference tell what every pixel adds: integrated gradients
   (Sundararajan et al., "Axiomatic attribution for deep networks", ICML 2017), which sum up to what
   the response gains by the image's detail.
2. That is blurred by a quarter of the layer's stride, for units place nothing finer, so that
   neighbouring pixels that add and take away cancel out; what takes away is left out: a soft mask.
3. The outline is around the hottest pixels that hold half of the heat, without specks.

Gradients are zero outside the receptive field, so the mask is within it by itself. Plain gradients
and SmoothGrad's fit creatures' parts less well; so does occlusion by patches, but for the top
layer, where neither is clearly better (``benchmarks/masks.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from scipy.ndimage import label
from torch import Tensor, nn

from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph, check_graph
from explgraph.images.batches import AnyImages, batches, count
from explgraph.images.taken import taken
from explgraph.network.forward import fingerprint, of_size, on_device, with_bar
from explgraph.network.hooks import check_model
from explgraph.parsed import Parse, check_parse
from explgraph.parsing import check_weights
from explgraph.visualizing.responses import Asked, Responses, asked

__all__ = ["Masks", "blurred", "integrated", "masks"]

STEPS = 12  # from the blurred image to the image; twice as many change next to nothing
_BLUR = 0.09  # of the shorter side: what is left of the image to begin with has no detail
_SOFT = 0.25  # of the stride; in creatures best for strides of 8 and 16 px ...
_SOFTEST = 0.013  # of the shorter side, at least: 1.5 px of 112, best for their stride of 4
_SPECK = 0.08  # of the heat within the outline: a piece that holds less isn't drawn
_HELD = 0.5  # of the heat, by the outline


@dataclass(frozen=True, eq=False)
class Masks:
    """Which pixels a node, or the nodes of a part, answer to in some images.

    Attributes
    ----------
    id : str
        Of the node or part.
    names : tuple of str
        Of the N images.
    heat : (N, H, W) float32
        0 to 1, the hottest pixel of every image 1; all 0 where the node doesn't answer.
    response : (N,) float32
        How strongly it answers there: rectified activation around its place, in the filter's scale;
        of a part, the weighted mean over its nodes.
    """

    id: str
    names: tuple[str, ...]
    heat: NDArray[np.float32]
    response: NDArray[np.float32]

    def levels(self, share: float = _HELD) -> NDArray[np.float32]:
        """Give the heat ``(N,)`` above which a share of all heat lies: where the outline runs.

        Raises
        ------
        ExplgraphError
            If the share isn't above 0 and below 1.
        """
        if not 0 < share < 1:
            raise ExplgraphError(f"share is {share!r}; expected a number above 0 and below 1")
        hot = -np.sort(-self.heat.reshape(len(self.heat), -1).astype(np.float64), axis=1)
        held = hot.cumsum(1)
        last = (held < share * held[:, -1:]).sum(1).clip(max=hot.shape[1] - 1)
        level: NDArray[np.float32] = hot[np.arange(len(hot)), last].astype(np.float32)
        return level

    def inside(self, share: float = _HELD) -> NDArray[np.bool_]:
        """Give the pixels within the outline, ``(N, H, W)``: the hottest that hold a share of it.

        Pieces that hold less than 8 % of that are left out.

        Raises
        ------
        ExplgraphError
            If the share isn't above 0 and below 1.
        """
        inside = (self.heat >= self.levels(share)[:, None, None]) & (self.heat > 0)
        for within, heat in zip(inside, self.heat, strict=True):
            pieces, count = label(within)
            held = np.bincount(pieces[within], heat[within].astype(np.float64), count + 1)
            within &= (held >= _SPECK * held.sum())[pieces]
        return inside


def masks(
    model: nn.Module,
    graph: Graph,
    images: AnyImages,
    parse: Parse,
    what: str,
    *,
    batch_size: int = 32,
    device: str = "auto",
    progress: bool = False,
) -> Masks:
    """Tell which pixels of some images a node, or all nodes of a part, answer to.

    Parameters
    ----------
    model : torch.nn.Module
        The network that was mined, in evaluation mode.
    graph : ExplanatoryGraph
    images : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
    parse : Parse
        Of these images, by name; it may hold others as well.
    what : str
        A node's id, or a part's id, name or title.
    batch_size : int
    device : str
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    Masks

    Raises
    ------
    ExplgraphError
        If there is no such node or part, the parse lacks a node or an image, or the images are of
        another size.

    Warns
    -----
    ExplgraphWarning
        If the weights are not those that were mined.

    Examples
    --------
    >>> from explgraph import creatures, mine
    >>> from explgraph.visualizing.masks import masks
    >>> model, images = creatures.network(), creatures.draw(60).tensor()
    >>> graph = mine(model, images, ["stage3"], seed=0)
    >>> parse = graph.parse(model, images[:2])
    >>> masks(model, graph, images[:2], parse, graph.node_ids[0]).heat.shape
    (2, 112, 112)
    """
    check_graph(graph)
    check_model(model)
    check_weights(graph, fingerprint(model))
    check_parse(parse)
    wanted = asked(graph, what)
    found = [_row(parse.nodes, node, "node") for node in wanted.nodes]
    names: list[str] = []
    heat, response = [], []
    images = taken(images, graph.nx.graph["preprocessing"])
    with on_device(model, device), torch.inference_mode(False), torch.enable_grad():
        responses = Responses(model, graph, wanted.nodes)
        source = of_size(batches(images, batch_size), graph.image_size)
        for here, batch in with_bar(source, count(images), progress, "masks"):
            rows = [_row(parse.names, name, "image") for name in here]
            places = torch.from_numpy(parse.positions[rows][:, found])
            added, strength = integrated(responses, wanted, batch, places)
            heat.append(soft(added, softness(responses, wanted)).numpy())
            response.append(strength.numpy())
            names.extend(here)
    return Masks(wanted.id, tuple(names), np.concatenate(heat), np.concatenate(response))


def integrated(
    responses: Responses, wanted: Asked, batch: Tensor, places: Tensor, steps: int = STEPS
) -> tuple[Tensor, Tensor]:
    """Give what every pixel adds to the response, and the response.

    Parameters
    ----------
    responses : Responses
        Of the V nodes.
    wanted : Asked
    batch : (n, C, H, W)
    places : (n, V, 2)
        px.
    steps : int
        The more, the nearer do pixels sum up to the response less that to the blurred image.

    Returns
    -------
    (n, H, W)
    (n,)
    """
    plain = blurred(batch, _BLUR * min(batch.shape[2:]))
    weights = (wanted.weights / wanted.weights.sum()).to(responses.device)
    total = torch.zeros_like(batch)
    for step in range(steps):
        image = plain + (step + 0.5) / steps * (batch - plain)
        image.requires_grad_()
        strength = responses(image, places) @ weights
        (gradient,) = torch.autograd.grad(strength.sum(), image)
        total += gradient
    with torch.no_grad():
        strength = (responses(batch, places) @ weights).float().cpu()
    return ((batch - plain) * total).sum(1) / steps, strength


def softness(responses: Responses, wanted: Asked) -> float:
    """Give how far masks are blurred, px: by the strides of the nodes' layers."""
    by_layer = {layer.name: max(layer.stride) for layer in responses.layers}
    strides = torch.tensor([by_layer[layer] for layer in responses.layer_of])
    mean = float(wanted.weights @ strides / wanted.weights.sum())
    return max(_SOFT * mean, _SOFTEST * min(responses.image_size))


def soft(added: Tensor, sigma: float) -> Tensor:
    """Make a soft mask (n, H, W), 0 to 1, of what pixels add; blurred by sigma, px."""
    heat = blurred(added[:, None], sigma)[:, 0].clamp(min=0)
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Blur images (n, C, H, W) by a Gaussian, px; beyond the border they go on as it is."""
    reach = round(3 * sigma)
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float32) / sigma) ** 2)
    line = (line / line.sum()).to(images)
    flat = images.flatten(0, 1)[:, None]
    flat = functional.pad(flat, (reach,) * 4, mode="replicate")
    flat = functional.conv2d(flat, line[None, None, :, None])
    flat = functional.conv2d(flat, line[None, None, None])
    return flat[:, 0].view(images.shape)


def _row(known: tuple[str, ...], name: str, kind: str) -> int:
    """Find a node or an image in a parse."""
    if name not in known:
        raise ExplgraphError(
            f"parse lacks {kind} {name!r}; give graph.parse(model, images) of these images"
        )
    return known.index(name)
