"""Activations of a planted world: filters that follow moving parts, others that follow nothing.

An object moves about, its four parts with it and a little by themselves (or two objects of two
parts each move independently). Every part shows in every image as a bump in the maps of the filters
that follow it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from explgraph.activations.memory import Activations
from explgraph.network.geometry import Layer

PARTS = {"a": (36, 42), "b": (64, 88), "c": (128, 88), "d": (156, 42)}
"""Usual places [x, y], px."""
OBJECT = {"a": 0, "b": 0, "c": 1, "d": 1}
IMAGE_SIZE = (128, 192)

KINDS = ("a", "b", "c", "d", "ab", "cd", "decoy", "silent", "constant")
"""A filter's kind: the parts that it follows, or why it follows none. A decoy's maps are those of
a filter with one part, exchanged among the images."""


@dataclass(frozen=True)
class World:
    """Activations and their truth.

    Attributes
    ----------
    activations : Activations
        Layers ``low`` and ``top``.
    parts : dict of str to (N, 2)
        True places [x, y], px.
    kinds : dict of str to tuple of str
        By layer: each filter's kind.
    """

    activations: Activations
    parts: dict[str, np.ndarray]
    kinds: dict[str, tuple[str, ...]]

    def kind(self, graph, node):
        """The kind of a node's filter."""
        values = graph.nx.nodes[node]
        return self.kinds[values["layer"]][values["filter"]]


def a_layer(name, index, channels, stride, image_size=IMAGE_SIZE):
    """A layer whose units are the cells of a grid over the image."""
    height, width = (side // stride for side in image_size)
    return Layer(
        name, index, channels, height, width, (float(stride),) * 2, (stride / 2,) * 2, (40.0, 40.0)
    )


def bumps(layer, places, strength, spread=9.0):
    """Maps (N, H, W): a bump at places (N, 2) of some strength (N,)."""
    x = np.exp(-((layer.centres_x - places[:, :1]) ** 2) / (2 * spread**2))
    y = np.exp(-((layer.centres_y - places[:, 1:]) ** 2) / (2 * spread**2))
    return strength[:, None, None] * y[:, :, None] * x[:, None, :]


def plant(n=80, seed=0, strides=None, counts=None, scale=1.0, two_objects=False):
    """Build a world.

    Parameters
    ----------
    n : int
        Images.
    seed : int
    strides : dict of str to int
        Layers, lowest first, and the size of their units, px.
    counts : dict of str to int
        How many filters of each kind a layer has; 4 of each part, 2 of the rest, 8 decoys.
    scale : float
        All activations are multiplied by it.
    two_objects : bool
        Whether parts a and b move independently of c and d; otherwise all move together.
    """
    rng = np.random.default_rng(seed)
    strides = strides or {"low": 8, "top": 16}
    counts = counts or {k: 8 if k == "decoy" else 4 if k in PARTS else 2 for k in KINDS}
    kinds = tuple(kind for kind in KINDS for _ in range(counts.get(kind, 0)))
    motion = rng.uniform(-20, 20, (n, 2, 2))
    parts = {
        part: np.array(PARTS[part])
        + motion[:, OBJECT[part] if two_objects else 0]
        + rng.uniform(-4, 4, (n, 2))
        for part in PARTS
    }
    layers = tuple(
        a_layer(name, index, len(kinds), stride)
        for index, (name, stride) in enumerate(strides.items())
    )
    maps = []
    for layer in layers:
        values = np.zeros((n, len(kinds), layer.height, layer.width))
        for c, kind in enumerate(kinds):
            if kind == "constant":
                values[:, c] = 3.0
            elif kind != "silent":
                follows = kind if kind != "decoy" else "abcd"[c % 4]
                for part in follows:
                    values[:, c] += bumps(layer, parts[part], rng.uniform(0.5, 1.5, n))
                values[:, c] += 0.02 * rng.random(values[:, c].shape)
                if kind == "decoy":
                    values[:, c] = values[rng.permutation(n), c]
                # filters differ in how strongly they fire
                values[:, c] *= 10 ** rng.uniform(-2, 2)
        maps.append(torch.from_numpy(scale * values).float())
    names = tuple(f"{i:03d}.png" for i in range(n))
    return World(
        Activations(layers, names, IMAGE_SIZE, maps),
        parts,
        {layer.name: kinds for layer in layers},
    )
