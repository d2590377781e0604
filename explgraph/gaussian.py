"""The Gaussian around a place, 1 in its middle, on a grid of points."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["factors", "on_grid"]

Array = NDArray[Any]


def factors(x: Tensor, y: Tensor, at: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Give its factors along x and y, ``exp(-d^2 / (2 sigma^2))``; it is their product.

    Parameters
    ----------
    x : (W,)
        Of the grid's columns, px.
    y : (H,)
        Of its rows, px.
    at : (..., 2)
        Places [x, y], px.
    sigma : (...)
        px.

    Returns
    -------
    (..., W)
    (..., H)
    """
    rate = -0.5 / sigma[..., None].square()
    return ((x - at[..., :1]).square() * rate).exp(), ((y - at[..., 1:]).square() * rate).exp()


def on_grid(x: Array, y: Array, at: Array, sigma: Array) -> tuple[Array, Array]:
    """Give the same of numpy arrays."""
    along_x, along_y = factors(*(torch.from_numpy(values) for values in (x, y, at, sigma)))
    return along_x.numpy(), along_y.numpy()
