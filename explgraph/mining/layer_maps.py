"""A layer's maps as mining reads them: block by block, every filter divided by its scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from explgraph.activations.streaming import Images, Source
from explgraph.errors import ExplgraphError
from explgraph.network.geometry import Layer
from explgraph.statistics.inference import scaled
from explgraph.statistics.mixture import Grid

__all__ = ["LayerMaps", "by_grid", "filter_scale", "layer_maps", "side_by_side"]


# between these, squares and their sums are within the range of float32
_SQUARES = (1e-15, 1e15)


class LayerMaps(NamedTuple):
    """A layer's maps, and how they are read.

    Attributes
    ----------
    images : Images
    source : Source
        Of the activations.
    layer : Layer
    scale : (C,)
        Of the filters (`filter_scale`).
    grid : Grid
    """

    images: Images
    source: Source
    layer: Layer
    scale: Tensor
    grid: Grid

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Go through blocks of maps ``(n, C, H, W)``, each filter divided by its scale."""
        for here, maps in self.images.maps(self.source, self.layer.index):
            yield here, scaled(maps, self.scale)

    def sampled(self, sample: Tensor) -> Tensor:
        """Collect the maps ``(S, C, H, W)`` of some images, ascending."""

        def rows() -> Iterator[tuple[Tensor, Tensor]]:
            for here, maps in self.blocks():
                which = ((sample >= here.start) & (sample < here.stop)).nonzero()[:, 0]
                yield which, maps[sample[which] - here.start]

        return self.images.pick(len(sample), rows())


def filter_scale(images: Images, maps: Iterable[Tensor]) -> Tensor:
    """Measure each filter's root mean total of squares per image, ``(C,)``; 0 if it never varies.

    Parameters
    ----------
    images : Images
    maps : iterable of (n, C, H, W)
        Of all blocks.
    """

    def moments(block: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        largest = float(block.amax()) if block.numel() else 0.0
        if largest and not _SQUARES[0] < largest < _SQUARES[1]:
            block = block.double()
        variance, mean = (m.double() for m in torch.var_mean(block, (0, 2, 3), correction=0))
        count = torch.full_like(mean, block[:, 0].numel())
        return count, count * mean, count * (variance + mean.square())

    count, first, second = images.sum(moments(block) for block in maps)
    square = second / count
    deviation = (square - (first / count).square()).clamp(min=0).sqrt()
    # what rounding makes of a constant map is no variation
    return torch.where(deviation > 1e-5 * square.sqrt(), (second / images.n).sqrt(), 0.0).float()


def layer_maps(images: Images, source: Source, layer: Layer) -> LayerMaps:
    """Measure a layer's scale."""
    scale = filter_scale(images, (maps for _, maps in images.maps(source, layer.index)))
    if not scale.isfinite().all():
        raise ExplgraphError(
            f"layer {layer.name!r} has activations so large that their sums leave the range of "
            "float32; check the weights and the normalisation (mean, std)"
        )
    return LayerMaps(images, source, layer, scale, Grid.of(layer, images.device))


def by_grid(layers: Sequence[LayerMaps]) -> list[list[LayerMaps]]:
    """Put layers with the same grid together, the coarsest grid first."""
    groups: dict[tuple[int, int], list[LayerMaps]] = {}
    for maps in layers:
        groups.setdefault((maps.layer.height, maps.layer.width), []).append(maps)
    return [groups[shape] for shape in sorted(groups, key=math.prod)]


def side_by_side(layers: Sequence[LayerMaps]) -> Iterator[tuple[slice, dict[int, Tensor]]]:
    """Go through blocks of several layers' maps side by side, by layer index."""
    indices = [maps.layer.index for maps in layers]
    for blocks in zip(*(maps.blocks() for maps in layers), strict=True):
        yield blocks[0][0], dict(zip(indices, (maps for _, maps in blocks), strict=True))
