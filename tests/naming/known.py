"""Stand-in encoders whose truth is known, and images that tell them where a patch is from."""

from __future__ import annotations

import numpy as np


def maps(n, size):
    """Images (n, size, size, 3) whose colours are where they are: 2 x, 2 y, number of the image."""
    column, row = np.meshgrid(2 * np.arange(size) + 1, 2 * np.arange(size) + 1)
    number = np.broadcast_to(np.arange(n)[:, None, None], (n, size, size))
    both = np.broadcast_to(np.stack([column, row], -1), (n, size, size, 2))
    return np.concatenate([both, number[..., None]], -1).astype(np.uint8)


def where(image):
    """Number of the image, and place (px) of a patch's centre, off its colours."""
    colours = np.asarray(image).astype(float)
    middle = colours.shape[0] // 2
    x, y, number = colours[middle - 1 : middle + 1, middle - 1 : middle + 1].mean((0, 1))
    return round(number), np.array([x / 2, y / 2])


class Knowing:
    """Knows which planted part is nearest to the middle of a patch, and whether it is near."""

    def __init__(self, drawn, near=10.0, noise=0.2, d=64, seed=0):
        rng = np.random.default_rng(seed)
        self.words = tuple(drawn.parts)
        self.places = np.stack([drawn.parts[word] for word in self.words], 1).astype(float)
        self.near, self.noise, self.rng = near, noise, rng
        self.axes = np.linalg.qr(rng.standard_normal((d, d)))[0]

    def nearest(self, n, at):
        away = np.nan_to_num(np.linalg.norm(self.places[n] - at, axis=1), nan=np.inf)
        return int(away.argmin()) if away.min() <= self.near else len(self.words)

    def encode_images(self, images):
        vectors = [self.axes[self.nearest(*where(image))] for image in images]
        noise = self.rng.standard_normal((len(images), self.axes.shape[0]))
        return np.array(vectors) + self.noise * noise / np.sqrt(self.axes.shape[0]) * 3

    def encode_texts(self, texts):
        known = {word: k for k, word in enumerate(self.words)}
        other = len(known) + 1
        return np.array([self.axes[known.get(t, other + i)] for i, t in enumerate(texts)])


class Noise:
    """Knows nothing: any numbers for patches and words."""

    def __init__(self, seed, d=64):
        self.rng, self.d = np.random.default_rng(seed), d

    def encode_images(self, images):
        return self.rng.standard_normal((len(images), self.d))

    def encode_texts(self, texts):
        return self.rng.standard_normal((len(texts), self.d))


class Mute(Knowing):
    """Tells parts apart in images, but its words have nothing to do with them."""

    def encode_texts(self, texts):
        return self.rng.standard_normal((len(texts), self.axes.shape[0]))
