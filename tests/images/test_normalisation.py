"""Values that are doubted, and those of the usual kinds, which are not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from explgraph import creatures
from explgraph.images.normalisation import colours_apart, values_doubt
from explgraph.images.ready import IMAGENET_MEAN, IMAGENET_STD

IMAGENET = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
HALVES = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
RAW = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}
UNIT = {"mean": (0.0,) * 3, "std": (1.0,) * 3}


def colours(kind: str) -> Tensor:
    """Give a batch of colours 0 to 1: drawn creatures, dark, bright, flat, or noise."""
    drawn = torch.from_numpy(creatures.draw(8, seed=2).images).permute(0, 3, 1, 2) / 255
    noise = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return {
        "drawn": drawn,
        "dark": drawn * 0.15,
        "bright": 0.8 + 0.2 * drawn,
        "flat": torch.full((2, 3, 32, 32), 0.6),
        "noise": noise,
    }[kind]


def normalised(images: Tensor, ready: dict[str, Any]) -> Tensor:
    mean, std = (torch.tensor(ready[k]).reshape(3, 1, 1) for k in ("mean", "std"))
    return (images - mean) / std


def standardised(images: Tensor) -> Tensor:
    mean, std = images.mean((1, 2, 3), True), images.std((1, 2, 3), keepdim=True)
    return (images - mean) / std.clamp(min=1e-3)


KINDS = ("drawn", "dark", "bright", "flat", "noise")


@pytest.mark.parametrize("kind", KINDS)
def test_usual_normalisations_are_not_doubted(kind: str) -> None:
    images = colours(kind)
    caffe = 255 * (images - images.mean((0, 2, 3), True))
    for values in (
        normalised(images, IMAGENET), normalised(images, HALVES), images, standardised(images),
        images.mean(1, keepdim=True), caffe,
    ):  # fmt: skip
        assert values_doubt(values, {}) is None
    for ready in (IMAGENET, HALVES, RAW, UNIT):
        assert values_doubt(normalised(images, ready), ready) is None
    assert values_doubt(standardised(images), IMAGENET) is None


@pytest.mark.parametrize("kind", ["drawn", "bright", "noise"])
def test_colours_that_are_not_normalised_are_doubted(kind: str) -> None:
    images = colours(kind)
    for values in (255 * images, normalised(images, IMAGENET) * 60 + 120):
        assert "colours from 0 to 255" in (values_doubt(values, {}) or "")
        for ready in (IMAGENET, HALVES, UNIT):
            assert "expected about" in (values_doubt(values, ready) or "")
    assert "16 bits" in (values_doubt(65535 * images, {}) or "")
    assert values_doubt(255 * images, RAW) is None, "the model takes them so"


def test_colours_from_0_to_1_are_doubted_where_a_mean_is_expected() -> None:
    for kind in ("drawn", "noise"):
        assert "from 0 to 1" in (values_doubt(colours(kind), IMAGENET) or "")
        assert "from 0 to 1" in (values_doubt(colours(kind), HALVES) or "")
        assert values_doubt(colours(kind), UNIT) is None


def test_floats_of_other_channels_are_not_doubted() -> None:
    """Black and white of these are not known, unless pictures show 0 and 1 as such."""
    ready = {"mean": (700.0,) * 4, "std": (250.0,) * 4, "channels": 4}
    images = torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    assert values_doubt(images, ready) is None
    assert values_doubt(images, ready | {"window": [(0, 3000)] * 4}) is None
    shares = {"mean": (0.2,) * 4, "std": (0.1,) * 4, "channels": 4, "window": [(0, 1)] * 4}
    assert values_doubt(images, shares) is None
    assert values_doubt(images * 60 + 120, shares) is not None


def test_means_and_spreads_that_make_a_difference() -> None:
    clip = {"mean": (0.481, 0.458, 0.408), "std": (0.269, 0.261, 0.276)}
    assert not colours_apart(IMAGENET, IMAGENET)
    assert not colours_apart(IMAGENET, clip)
    assert colours_apart(IMAGENET, HALVES)
    assert colours_apart(UNIT, IMAGENET)
    assert colours_apart(IMAGENET, {"mean": (0.5,), "std": (0.5,)})
    assert not colours_apart(IMAGENET, {})
