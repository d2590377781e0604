"""A world in which every effect is known: coloured blobs, and a network written by hand.

Attribute k is a square blob in colour channel k, somewhere. The network's only layer averages each
channel over cells; its head adds up the cells with known weights, so that attribute 0's output
rests on attribute 1's blob as well. A blob's presence moves an output by exactly its weight.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

SIZE, CELL, BLOB = 32, 4, 8
NAMES = ("red", "green", "blue")
HEAD = np.array([[4.0, 3.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.2, 4.0]])
"""Output, colour: by how much a blob of the colour moves the output."""
OFFSET = np.array([[0, 0], [8, 4], [4, 12]])
"""Where the colours' blobs are within an object, if there is one, [x, y] px."""
BIAS = np.array([-3.5, -2.0, -2.1])


class Net(nn.Module):
    """Cells, averaged over the image, into the head."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Sequential(
            nn.Conv2d(3, 3, CELL, CELL, groups=3, bias=False), nn.ReLU(inplace=True)
        )
        self.head = nn.Linear(3, 3)
        with torch.no_grad():
            self.cells[0].weight.fill_(1 / CELL**2)
            area = (BLOB / SIZE) ** 2
            self.head.weight.copy_(torch.from_numpy(HEAD / area))
            self.head.bias.copy_(torch.from_numpy(BIAS))

    def forward(self, x):
        return self.head(self.cells(x).mean((2, 3)))


def world(n, seed, agreement=0.5, noise=0.2, together=False):
    """Images (n, 3, 32, 32), labels and blobs' centres of n images.

    `agreement` is the share of images in which red and green are both there or both not; blobs'
    strengths vary by `noise`. They move independently, or `together` with an object.
    """
    rng = np.random.default_rng(seed)
    has = rng.random((n, 3)) < 0.5
    has[:, 1] = np.where(rng.random(n) < agreement, has[:, 0], ~has[:, 0])
    corner = CELL * rng.integers(0, (SIZE - BLOB) // CELL + 1, (n, 3, 2))
    if together:
        corner = corner[:, :1] // 2 // CELL * CELL + OFFSET
    strength = 1 + noise * rng.standard_normal((n, 3))
    images = np.zeros((n, 3, SIZE, SIZE), np.float32)
    for i, k in zip(*np.nonzero(has), strict=True):
        x, y = corner[i, k]
        images[i, k, y : y + BLOB, x : x + BLOB] = strength[i, k]
    centres = np.where(has[..., None], corner + BLOB / 2, np.nan)
    labels = {name: has[:, k] for k, name in enumerate(NAMES)}
    landmarks = {f"{name} blob": centres[:, k] for k, name in enumerate(NAMES)}
    return torch.from_numpy(images), labels, landmarks
