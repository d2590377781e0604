"""Where units look: the grid of a layer and its measured place on the input image.

One convention holds everywhere in explgraph: a point is ``[x, y]``, x to the right, y down, in
pixels of the image as the network saw it, and the centre of the first pixel is at
``(0.5, 0.5)``. So an image of width ``W`` covers ``0 <= x <= W``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Layer"]


@dataclass(frozen=True)
class Layer:
    """A layer's grid of units and where they look.

    Attributes
    ----------
    name : str
        Module name as the user passed it.
    index : int
        Position among the recorded layers by execution; 0 is the lowest (nearest the image).
    channels, height, width : int
        Shape of one image's feature maps, ``(C, H, W)``.
    stride : (float, float)
        Distance between neighbouring unit centres, px, along x and y.
    offset : (float, float)
        Centre ``[x, y]`` of the first unit (row 0, column 0), px.
    receptive_field : (float, float)
        Width and height of the theoretical receptive field of an interior unit, px; not clipped
        to the image.
    """

    name: str
    index: int
    channels: int
    height: int
    width: int
    stride: tuple[float, float]
    offset: tuple[float, float]
    receptive_field: tuple[float, float]

    @property
    def centres_x(self) -> NDArray[np.float64]:
        """Unit centres along x, ``(W,)`` px."""
        return self.offset[0] + self.stride[0] * np.arange(self.width, dtype=np.float64)

    @property
    def centres_y(self) -> NDArray[np.float64]:
        """Unit centres along y, ``(H,)`` px."""
        return self.offset[1] + self.stride[1] * np.arange(self.height, dtype=np.float64)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` turns them back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Layer:
        """Build a layer from the values of `as_dict`."""
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**fields)
