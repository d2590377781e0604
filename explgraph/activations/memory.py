"""Activations in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError
from explgraph.network.forward import check_finite
from explgraph.network.geometry import Layer

__all__ = ["Activations"]


@dataclass(frozen=True)
class Activations:
    """Rectified activations of some layers for some images, in memory.

    Attributes
    ----------
    layers : tuple of Layer
        In the order of execution.
    names : tuple of str
        Of the N images.
    image_size : (int, int)
        ``(H, W)`` px of the images as the network saw them.
    maps : list of (N, C, H, W) float32
        One tensor for each layer, >= 0.
    model_fingerprint : str
        Of the model's weights (`fingerprint`), empty if it isn't known.

    Raises
    ------
    ExplgraphError
        If shapes don't fit each other, or an activation is negative or not finite; names the
        layer, the image and the filter.
    """

    layers: tuple[Layer, ...]
    names: tuple[str, ...]
    image_size: tuple[int, int]
    maps: list[Tensor]
    model_fingerprint: str = ""

    def __repr__(self) -> str:
        height, width = self.image_size
        layers = few(f"{x.name} {x.channels} x {x.height} x {x.width}" for x in self.layers)
        return (
            f"Activations: {counted(len(self.names), 'image')} of {width} x {height} px; {layers}"
        )

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        # plain strings: numpy's own kind would not be plain JSON later
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        if not self.layers or len(self.layers) != len(self.maps):
            raise ExplgraphError(
                f"layers and maps must be as many, got {len(self.layers)} and {len(self.maps)}"
            )
        if not self.names:
            raise ExplgraphError("names is empty; at least one image is needed")
        for layer, values in zip(self.layers, self.maps, strict=True):
            shape = (len(self.names), layer.channels, layer.height, layer.width)
            if tuple(values.shape) != shape or values.dtype != torch.float32:
                raise ExplgraphError(
                    f"maps of layer {layer.name!r} must be float32 of the shape (N, C, H, W) = "
                    f"{shape}, got {values.dtype} of {tuple(values.shape)}"
                )
            check_finite(values, layer.name, self.names)
            if values.numel() and values.min() < 0:
                n, c = (values < 0).nonzero()[0, :2].tolist()
                raise ExplgraphError(
                    f"maps of layer {layer.name!r} must be rectified, but image {self.names[n]!r}, "
                    f"filter {c} is negative"
                )

    @property
    def n_images(self) -> int:
        """Number of images, N."""
        return len(self.names)

    @property
    def in_memory(self) -> bool:
        """True; those of a store are not."""
        return True

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the activations and the names of their images, hexadecimal."""
        about = [[layer.as_dict() for layer in self.layers], self.names, self.image_size]
        digest = hashlib.sha256(json.dumps(about).encode())
        for maps in self.maps:
            digest.update(maps.contiguous().numpy().data)
        return digest.hexdigest()

    def blocks(
        self, layer_index: int, size: int | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Go through a layer's maps in blocks of images.

        Parameters
        ----------
        layer_index : int
            0 is the lowest layer.
        size : int, optional
            Images in a block; all in one by default.
        start : int
            Number of the first image.
        stop : int, optional
            Number after the last one; by default all that follow.

        Yields
        ------
        slice
            Of the images.
        (n, C, H, W) float32
            Their maps; not to be changed.
        """
        maps = self.maps[layer_index]
        end = self.n_images if stop is None else stop
        step = size or max(1, self.n_images)
        for first in range(start, end, step):
            here = slice(first, min(first + step, end))
            yield here, maps[here]
