"""Optimised images: what nodes would answer to most, in the spectrum of the user's own images.

Activation maximisation as in Fel et al., "Unlocking Feature Visualization for Deeper Networks with
MAgnitude Constrained Optimization" (MACO, NeurIPS 2023, section 3):

1. The magnitude of every spatial frequency is the mean over the user's images, ``r = E |F(x)|``,
   and stays so; only the phase is sought, ``x = F^-1(r exp(i phi))``. So an image can't be made
   more "exciting" by contrast or by grain that no photograph has.
2. ``phi`` goes up the gradient of the response to the image as random transformations leave it,
   ``max E_tau L(tau(x))``. Here these are shifts, zooms and noise, and the nodes' places go along:
   nodes answer at places.
3. Which of the image matters is told by the gradient's magnitude, summed over the steps,
   ``alpha = sum_t |dL / dx_t|``: the rest is random phase, and shown transparent.

All nodes of a part are asked together, by the weighted mean of the logarithms of their responses,
so that none is left out for another's sake.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph, check_graph
from explgraph.images.batches import AnyImages, batches
from explgraph.images.further import check_without_inputs
from explgraph.images.taken import taken
from explgraph.network.forward import fingerprint, of_size, on_device
from explgraph.network.hooks import check_model
from explgraph.parsing import check_weights
from explgraph.visualizing.masks import blurred
from explgraph.visualizing.responses import Responses, asked
from explgraph.whole_numbers import checked_seed, whole

__all__ = ["Optimised", "Spectrum", "maximise", "spectrum"]

_SHIFT = 0.04  # of the side, at most
_ZOOM = 0.06  # at most; more would ask for the part in another size than nodes know it in
_NOISE = 0.1  # of the images' spread
_COPIES = 4  # transformed ones, each step
_STARTS = 16  # random phases, of which the one that is answered most is taken
_RATE = 0.3  # radians, about, in the first steps
_FAINT = 1e-2  # response, in a filter's scale, below which more or less is the same
_MOST = 256  # images for the spectrum: its mean has settled long before
_SOFT = 0.018  # of the shorter side: blur of the opacity, as that of masks
_SEEN = 0.98  # quantile of the gradients' magnitude that is opaque


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What images have in common: how much of every spatial frequency, and which colours.

    Attributes
    ----------
    magnitude : (C, H, W // 2 + 1)
        Mean over the images of the magnitude of the real Fourier transform.
    mean : (C,)
        Mean colour, as the network takes it.
    low, high : (C,)
        Range of the colours.
    spread : float
        Standard deviation within an image, mean over the images.
    shape : (int, int, int)
        ``(C, H, W)``.
    """

    magnitude: Tensor
    mean: Tensor
    low: Tensor
    high: Tensor
    spread: float
    shape: tuple[int, int, int]

    def image(self, phase: Tensor) -> Tensor:
        """Give the images (..., C, H, W) of phases (..., C, H, W // 2 + 1), within the range."""
        waves = torch.polar(self.magnitude.expand_as(phase), phase)
        image = torch.fft.irfft2(waves, s=self.shape[1:]) + self.mean[:, None, None]
        within: Tensor = image.clamp(self.low[:, None, None], self.high[:, None, None])
        return within


@dataclass(frozen=True, eq=False)
class Optimised:
    """The image that a node, or all nodes of a part, answer to most.

    Attributes
    ----------
    id : str
        Of the node or part.
    image : (C, H, W) float32
        As the network takes it.
    opacity : (H, W) float32
        0 to 1: how much of it matters.
    place : (float, float)
        Where the nodes are, on average ``[x, y]``, px.
    response : float
        How strongly they answer, as `Masks.response`.
    """

    id: str
    image: NDArray[np.float32]
    opacity: NDArray[np.float32]
    place: tuple[float, float]
    response: float


def spectrum(images: AnyImages, image_size: tuple[int, int]) -> Spectrum:
    """Measure the spectrum of images, of the first 256 if there are more.

    Raises
    ------
    ExplgraphError
        If there are none, or they are of another size.
    """
    waves, means, lows, highs, spreads = [], [], [], [], []
    for _, batch in of_size(batches(images, 32), image_size):
        here = batch.float()
        waves.append(torch.fft.rfft2(here).abs().sum(0))
        means.append(here.mean((2, 3)))
        lows.append(here.amin((0, 2, 3)))
        highs.append(here.amax((0, 2, 3)))
        spreads.append(here.std((1, 2, 3)))
        if sum(map(len, means)) >= _MOST:
            break
    mean = torch.cat(means)
    magnitude = torch.stack(waves).sum(0) / len(mean)
    magnitude[:, 0, 0] = 0  # the mean colour has no phase
    return Spectrum(
        magnitude,
        mean.mean(0),
        torch.stack(lows).amin(0),
        torch.stack(highs).amax(0),
        float(torch.cat(spreads).mean()),
        (len(magnitude), *image_size),
    )


def maximise(
    model: nn.Module,
    graph: Graph,
    images: AnyImages | Spectrum,
    what: str,
    *,
    steps: int = 128,
    seed: int = 0,
    device: str = "auto",
    progress: bool = False,
) -> Optimised:
    """Make the image that a node, or all nodes of a part together, answer to most.

    It has the spectrum of the user's images; nodes are asked at their usual places.

    Parameters
    ----------
    model : torch.nn.Module
        The network that was mined, in evaluation mode.
    graph : ExplanatoryGraph
    images : ImageFolder, (N, C, H, W) tensor, Dataset, DataLoader or Spectrum
        Whose spectrum it gets: those that were mined, say. For several nodes, measure it once, by
        `spectrum`.
    what : str
        A node's id, or a part's id, name or title.
    steps : int
        Of the ascent.
    seed : int
        Of the phases to begin with and of the transformations.
    device : str
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    Optimised

    Raises
    ------
    ExplgraphError
        If there is no such node or part, there are no images or they are of another size, or steps
        is no whole number above 0.

    Warns
    -----
    ExplgraphWarning
        If the weights are not those that were mined.
    """
    check_graph(graph)
    check_model(model)
    check_without_inputs(images)
    check_weights(graph, fingerprint(model))
    wanted = asked(graph, what)
    steps = whole(steps, "steps")
    seed = checked_seed(seed)
    if images is None:
        raise ExplgraphError(
            "images is None; give the images whose spectrum the optimised image shall have: those "
            "that were mined (--images DIR), or explgraph.creatures.draw(100).tensor()"
        )
    known = images
    if not isinstance(known, Spectrum):
        known = spectrum(taken(known, graph.nx.graph["preprocessing"]), graph.image_size)
    usual = [(graph.nx.nodes[node]["x"], graph.nx.nodes[node]["y"]) for node in wanted.nodes]
    places = torch.tensor(usual, dtype=torch.float32)
    with on_device(model, device), torch.inference_mode(False), torch.enable_grad():
        responses = Responses(model, graph, wanted.nodes)
        weights = (wanted.weights / wanted.weights.sum()).to(responses.device)
        bar = tqdm(
            total=steps, desc=f"optimising {wanted.id}", delay=2, disable=None if progress else True
        )
        with bar:
            phase, importance = _ascent(responses, weights, known, places, steps, seed, bar)
        with torch.no_grad():
            image = known.image(phase)
            response = float((responses(image[None], places[None]) @ weights)[0])
    opacity = blurred(importance[None, None], _SOFT * min(graph.image_size))[0, 0]
    most = float(opacity.flatten().quantile(_SEEN))
    opacity = (opacity / max(most, torch.finfo(torch.float32).tiny)).clamp(0, 1)
    x, y = (wanted.weights @ places / wanted.weights.sum()).tolist()
    return Optimised(wanted.id, image.numpy(), opacity.numpy(), (x, y), response)


def _ascent(
    responses: Responses,
    weights: Tensor,
    known: Spectrum,
    places: Tensor,
    steps: int,
    seed: int,
    bar: tqdm[None],
) -> tuple[Tensor, Tensor]:
    """Go up the gradient; give the phase, and the gradients' summed magnitude ``(H, W)``."""
    generator = torch.Generator().manual_seed(seed)

    def answered(batch: Tensor, at: Tensor) -> Tensor:
        strength: Tensor = (responses(batch, at) + _FAINT).log() @ weights
        return strength

    starts = torch.rand((_STARTS, *known.magnitude.shape), generator=generator)
    starts = (2 * starts - 1) * math.pi
    with torch.no_grad():
        best = torch.cat([answered(known.image(s)[None], places[None]) for s in starts]).argmax()
    phase = starts[best].clone().requires_grad_()
    optimizer = torch.optim.NAdam([phase], lr=_RATE)
    importance = torch.zeros(known.shape[1:])
    for _ in range(steps):
        image = known.image(phase)
        seen, at = _transformed(image, places, known.spread, generator)
        gained = answered(seen, at).mean().float()
        # of the image for its importance, and from there on of the phase
        (by_pixel,) = torch.autograd.grad(gained, image, retain_graph=True)
        (by_phase,) = torch.autograd.grad(image, phase, by_pixel)
        importance += by_pixel.abs().mean(0)
        phase.grad = -by_phase
        optimizer.step()
        bar.update(1)
    return phase.detach(), importance


def _transformed(
    image: Tensor, places: Tensor, spread: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Shift, zoom and grain an image (C, H, W) at random; places (V, 2) go along."""

    def random(*shape: int) -> Tensor:
        return 2 * torch.rand(shape, generator=generator) - 1

    zoom, shift = 1 + _ZOOM * random(_COPIES), 2 * _SHIFT * random(_COPIES, 2)
    matrix = torch.zeros(_COPIES, 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = zoom
    matrix[:, :, 2] = shift
    many = image.expand(_COPIES, -1, -1, -1)
    grid = functional.affine_grid(matrix, list(many.shape), align_corners=False)
    seen = functional.grid_sample(many, grid, padding_mode="reflection", align_corners=False)
    seen = seen + _NOISE * spread * torch.randn(seen.shape, generator=generator)
    # the grid goes from -1 to 1 over the image
    half = torch.tensor([image.shape[2], image.shape[1]]) / 2
    at = ((places / half - 1 - shift[:, None]) / zoom[:, None, None] + 1) * half
    return seen, at
