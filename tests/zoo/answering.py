"""Which units truly answer to a changed patch, found without explgraph's measuring code.

1. A network is run on images of noise, and on the same with one patch exchanged for other noise.
2. What a layer gave is read by the layout that explgraph states, by code of this file.
3. How much a unit changed is the root of the sum of squares over its filters and draws. Those that
   changed most must lie at the patch, by the places that explgraph states. In random networks
   padding lets some units answer to anything more than others do, and gates and attention let all
   answer alike; so it may also be told from what a unit changes by as a share of what it does where
   the whole image is exchanged, above what it shows at the other patches.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.network.geometry import Layer

__all__ = ["Answer", "answers", "by_units", "raw_outputs"]

# the patches' middles and their side, as shares of the image's side; (x, y), none on a diagonal
# with another, so that what is exchanged or mirrored shows
PLACES = ((0.5, 0.5), (0.3, 0.2), (0.75, 0.3), (0.2, 0.65), (0.65, 0.8))
PATCH = 1 / 8


class Answer(NamedTuple):
    """What a layer answered.

    Attributes
    ----------
    far : float
        How far the unit that changed most, or the middle of those that changed much, lies outside
        its patch, in strides; the worst place but one, for random networks have odd units.
    shift : float
        How far the middles of what changed lie from the patches', on average, in strides (or
        patches, where those are larger).
    """

    far: float
    shift: float

    @property
    def right(self) -> bool:
        """Whether the stated places are where units answer."""
        return self.far <= 1.0 and self.shift <= 0.75


def raw_outputs(model: nn.Module, images: Tensor, names: Collection[str]) -> dict[str, Any]:
    """Run a model, and give what modules gave in their first call."""
    kept: dict[str, Any] = {}

    def hook_for(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            kept.setdefault(name, _clone(output, len(images)))

        return hook

    handles = [model.get_submodule(n).register_forward_hook(hook_for(n)) for n in names]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return kept


def _clone(output: Any, n: int) -> Any:
    """Keep the only tensor that has a row for each of `n` images."""
    if isinstance(output, Tensor):
        return output.clone()  # later modules may change it in place
    if isinstance(output, Mapping):
        output = tuple(output.values())
    tensors = [o for o in output if isinstance(o, Tensor) and o.ndim in (3, 4) and len(o) == n]
    return tensors[0].clone() if len(tensors) == 1 else None


def by_units(raw: Tensor, layer: Layer) -> Tensor:
    """Read an output as ``(N, C, H, W)`` by what is stated of it."""
    axes = re.sub(r"\(.*\)", "L", layer.layout)
    if "L" not in axes:
        return torch.einsum(f"{axes.lower()}->nchw", raw)
    tokens = torch.einsum(f"{axes.lower()}->ncl", raw)
    group = re.search(r"\((.*)\)", layer.layout)
    if layer.order:
        tokens = tokens[:, :, list(layer.order)]
    elif group:
        parts = group[1].split("+")
        before = int(parts[0]) if parts[0].isdigit() else 0
        tokens = tokens[:, :, before : before + layer.height * layer.width]
        if "WH" in parts:
            return tokens.unflatten(2, (layer.width, layer.height)).transpose(2, 3)
    return tokens.unflatten(2, (layer.height, layer.width))


def changed_images(size: int, draws: int) -> tuple[Tensor, NDArray[np.float64], float]:
    """Give noise and changes of it, ``(draws (1 + places), 3, H, W)``, patches' middles, side."""
    generator = torch.Generator().manual_seed(7)
    side = round(PATCH * size)
    corners = [(round(x * size - side / 2), round(y * size - side / 2)) for x, y in PLACES]
    images = []
    for _ in range(draws):
        base = torch.randn(3, size, size, generator=generator)
        images.append(base)
        for x, y in corners:
            image = base.clone()
            patch = torch.randn(3, side, side, generator=generator)
            image[:, y : y + side, x : x + side] = 2 * patch
            images.append(image)
    return torch.stack(images), np.array(corners) + side / 2, float(side)


def answers(
    model: nn.Module, layers: Collection[Layer], size: int, draws: int = 3, most: int = 12
) -> dict[str, Answer]:
    """Find out how far each layer's units that answer are from where they should be."""
    images, middles, side = changed_images(size, draws)
    raw = raw_outputs(model, images, [layer.name for layer in layers])
    found = {}
    for layer in layers:
        maps = by_units(raw[layer.name], layer).double()
        maps = maps.unflatten(0, (draws, 1 + len(middles)))
        change = (maps[:, 1:] - maps[:, :1]).square().sum((0, 2)).sqrt().numpy()
        base = maps[:, 0]
        usual = (base - base.roll(1, 0)).square().sum((0, 1)).sqrt().numpy()
        share = change / np.maximum(usual, 1e-15)
        share /= np.maximum(share.mean((1, 2), keepdims=True), 1e-15)
        own = np.clip(share - np.median(share, 0), 0, None)
        found[layer.name] = min(deviation(read, layer, middles, side) for read in (change, own))
    wrong = [layer for layer in layers if not found[layer.name].right]
    # odd units of random networks are evened out by more draws; what is truly wrong stays
    return found | answers(model, wrong, size, most) if wrong and draws < most else found


def deviation(
    change: NDArray[np.float64], layer: Layer, middles: NDArray[np.float64], side: float
) -> Answer:
    """Compare where units changed, ``(places, H, W)``, with where the patches were."""
    far, shifts = [], []
    stride = np.array(layer.stride)
    for at, values in zip(middles, change, strict=True):
        row, column = np.unravel_index(values.argmax(), values.shape)
        place = np.array([layer.centres_x[column], layer.centres_y[row]])
        heat = np.clip(values - values.max() / 2, 0, None)
        middle = np.array([heat.sum(0) @ layer.centres_x, heat.sum(1) @ layer.centres_y])
        middle /= heat.sum()
        nearest = np.minimum(np.abs(place - at), np.abs(middle - at))
        far.append((np.clip(nearest - side / 2, 0, None) / stride).max())
        shifts.append((middle - at) / np.maximum(stride, side))
    return Answer(float(sorted(far)[-2]), float(np.abs(np.mean(shifts, 0)).max()))
