"""Measured centres and receptive fields against the arithmetic of strides and paddings."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn

from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.network.geometry import Layer, measure_layers


@dataclass
class Field:
    """Textbook arithmetic: first centre, stride and size along one axis, step by step."""

    centre: float = 0.5
    stride: float = 1.0
    size: float = 1.0

    def window(self, kernel: int, stride: int = 1, pad: int = 0, dilation: int = 1) -> Field:
        span = dilation * (kernel - 1)
        return Field(
            self.centre + self.stride * (span / 2 - pad),
            self.stride * stride,
            self.size + self.stride * span,
        )


def check(layer: Layer, x: Field, y: Field) -> None:
    """Compare with what was computed, to better than 0.01 px."""
    assert layer.stride == pytest.approx((x.stride, y.stride), abs=1e-6)
    assert layer.offset == pytest.approx((x.centre, y.centre), abs=1e-2)
    assert layer.receptive_field == pytest.approx((x.size, y.size), abs=1e-2)


def test_centres_are_offset_plus_stride() -> None:
    layer = Layer("a", 0, 4, 2, 3, (16.0, 8.0), (15.5, 3.5), (40.0, 20.0))
    np.testing.assert_array_equal(layer.centres_x, [15.5, 31.5, 47.5])
    np.testing.assert_array_equal(layer.centres_y, [3.5, 11.5])
    assert Layer.from_dict(layer.as_dict()) == layer


def test_single_pixel() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1)).eval()
    (layer,) = measure_layers(model, ["0"], (7, 9))
    check(layer, Field(), Field())
    assert (layer.channels, layer.height, layer.width) == (2, 7, 9)


def test_asymmetric_padding_and_non_square() -> None:
    model = nn.Sequential(
        nn.ZeroPad2d((0, 1, 2, 1)), nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 4, (5, 1))
    ).eval()
    below, above = measure_layers(model, ["3", "1"], (40, 66))
    check(below, Field().window(3, 2, 0), Field().window(3, 2, 2))
    check(above, Field().window(3, 2, 0), Field().window(3, 2, 2).window(5))
    assert [below.name, above.name] == ["1", "3"]
    assert [below.index, above.index] == [0, 1]


def test_dilation_and_anisotropic_stride() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=(1, 2), padding=(2, 4), dilation=(2, 4)), nn.ReLU()
    ).eval()
    (layer,) = measure_layers(model, ["1"], (32, 32))
    check(layer, Field().window(3, 2, 4, 4), Field().window(3, 1, 2, 2))


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_max_pooling(ceil_mode: bool) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 3, 7, stride=2, padding=3),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1, 1, False, ceil_mode),
    ).eval()
    (layer,) = measure_layers(model, ["2"], (62, 45))
    expected = Field().window(7, 2, 3).window(3, 2, 1)
    check(layer, expected, expected)


def test_field_larger_than_the_image() -> None:
    convolutions = [m for _ in range(12) for m in (nn.Conv2d(2, 2, 5, padding=2), nn.ReLU())]
    model = nn.Sequential(nn.Conv2d(3, 2, 3, 2, 1), *convolutions).eval()
    (layer,) = measure_layers(model, ["24"], (32, 48))
    expected = Field().window(3, 2, 1)
    for _ in range(12):
        expected = expected.window(5, 1, 2)
    assert expected.size > 48
    check(layer, expected, expected)


def test_padding_that_depends_on_the_size() -> None:
    class Same(nn.Conv2d):
        """TensorFlow's "same": what is odd is padded at the right."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pads = []
            for axis in (3, 2):
                k, s = self.kernel_size[axis - 2], self.stride[axis - 2]
                need = max(0, (-(-x.shape[axis] // s) - 1) * s + k - x.shape[axis])
                pads += [need // 2, need - need // 2]
            return F.conv2d(F.pad(x, pads), self.weight, self.bias, self.stride)

    model = nn.Sequential(*[Same(c, 4, 5, 2) for c in (3, 4, 4, 4)]).eval()
    (layer,) = measure_layers(model, ["3"], (128, 72))
    y = x = Field()
    sides = {"y": 128, "x": 72}
    for _ in range(4):
        pad = {a: max(0, (-(-n // 2) - 1) * 2 + 5 - n) // 2 for a, n in sides.items()}
        y, x = y.window(5, 2, pad["y"]), x.window(5, 2, pad["x"])
        sides = {a: -(-n // 2) for a, n in sides.items()}
    check(layer, x, y)


class Residual(nn.Module):
    """A residual block whose branches differ in size, written with in-place operations."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.deep = nn.Sequential(
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels),
            nn.BatchNorm2d(channels),
            nn.ReLU6(inplace=True),
            nn.Conv2d(channels, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.deep(x)
        out += x
        return F.relu(out, inplace=True)


def test_residual_and_depthwise() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), Residual(6, 3), Residual(6, 7)).eval()
    layers = measure_layers(model, ["2.deep.3", "2", "1"], (64, 64))
    assert [layer.name for layer in layers] == ["1", "2.deep.3", "2"]
    first = Field().window(3, 2, 1).window(3, 1, 1)
    check(layers[0], first, first)
    for layer in layers[1:]:
        check(layer, first.window(7, 1, 3), first.window(7, 1, 3))


def test_dead_rectifiers_do_not_matter() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 2, 3, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2)
    ).eval()
    with torch.no_grad():
        for module in model:
            if isinstance(module, nn.Conv2d):
                module.bias.fill_(-100.0)
                module.weight[0] = 0
    (layer,) = measure_layers(model, ["4"], (64, 64))
    expected = Field().window(3, 2, 1).window(3, 2, 1).window(2, 2)
    check(layer, expected, expected)


def test_taps_that_are_zero_do_not_count() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 5, padding=2)).eval()
    with torch.no_grad():
        model[0].weight[..., 3:] = 0  # the right two columns of every kernel
    (layer,) = measure_layers(model, ["0"], (32, 32))
    check(layer, Field(centre=-0.5, size=3), Field().window(5, 1, 2))


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_upsampling(mode: str) -> None:
    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Conv2d(3, 4, 4, 4)
            self.out = nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(F.interpolate(self.down(x), scale_factor=2, mode=mode))

    (layer,) = measure_layers(Up().eval(), ["out"], (64, 64))
    # units look two by two at the same cells of 4 px, around 1 + 2 j on the average
    assert layer.stride == pytest.approx((2.0, 2.0))
    assert layer.offset == pytest.approx((1.0, 1.0))


def test_transposed_convolution() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.ConvTranspose2d(4, 4, 2, 2)).eval()
    (layer,) = measure_layers(model, ["1"], (64, 64))
    assert layer.stride == pytest.approx((4.0, 4.0))
    assert layer.offset == pytest.approx((2.0, 2.0))


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int, by_hand: bool) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)
        self.by_hand = by_hand

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        squeezed = x.mean((2, 3), keepdim=True) if self.by_hand else F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.up(F.silu(self.down(squeezed))))


@pytest.mark.parametrize("by_hand", [False, True])
def test_squeeze_and_excitation_is_as_without(by_hand: bool) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), Gate(6, by_hand), nn.SiLU(), nn.Conv2d(6, 6, 3, 2, 1)
    ).eval()
    (layer,) = measure_layers(model, ["3"], (64, 96))
    expected = Field().window(3, 2, 1).window(3, 2, 1)
    check(layer, expected, expected)


class HandNorm(nn.Module):
    """A normalisation over the filters, written out by hand (as ConvNeXt's)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(1, keepdim=True)
        return centred / (centred.pow(2).mean(1, keepdim=True) + 1e-6).sqrt()


def test_normalisation_by_hand_and_tiny_scales() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dw, self.norm = nn.Conv2d(8, 8, 7, padding=3, groups=8), HandNorm()
            self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
            self.gamma = nn.Parameter(1e-6 * torch.ones(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm(self.dw(x)).permute(0, 2, 3, 1)
            y = self.gamma * self.down(F.gelu(self.up(y)))
            return x + y.permute(0, 3, 1, 2)

    model = nn.Sequential(nn.Conv2d(3, 8, 4, 4), *[Block() for _ in range(6)]).eval()
    (layer,) = measure_layers(model, ["6"], (64, 64))
    expected = Field().window(4, 4)
    for _ in range(6):
        expected = expected.window(7, 1, 3)
    check(layer, expected, expected)


class Vit(nn.Module):
    """A vision transformer in small, of one input size."""

    def __init__(self, prefix: int = 1, grid: tuple[int, int] = (4, 6), fused: bool = True) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.prefix = nn.Parameter(torch.randn(1, prefix, 16))
        self.places = nn.Parameter(torch.randn(1, prefix + grid[0] * grid[1], 16))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
            if fused
            else HandAttention(16)
            for _ in range(3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.prefix.expand(len(x), -1, -1), tokens], 1) + self.places
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


class HandAttention(nn.Module):
    """Attention with its softmax written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(F.layer_norm(x, x.shape[-1:])).chunk(3, -1)
        return x + self.out((q @ k.transpose(1, 2) / 4).softmax(-1) @ v)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_tokens_of_a_vision_transformer(prefix: int, fused: bool) -> None:
    model = Vit(prefix, fused=fused).eval()
    layers = measure_layers(model, ["blocks.2", "blocks.0"], (32, 48))
    for layer in layers:
        assert (layer.channels, layer.height, layer.width) == (16, 4, 6)
        assert layer.stride == pytest.approx((8.0, 8.0))
        assert layer.offset == pytest.approx((4.0, 4.0)), "the middle of the patch"
        assert layer.receptive_field == (48.0, 32.0), "attention sees everything"


def test_windowed_attention_has_its_window_as_field() -> None:
    class Windows(nn.Module):
        """Attention within windows of 2 x 2 patches, maps channels-last."""

        def __init__(self) -> None:
            super().__init__()
            self.patches, self.qkv = nn.Conv2d(3, 12, 4, 4), nn.Linear(12, 36)
            self.norm = nn.LayerNorm(12)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.patches(x).permute(0, 2, 3, 1)
            n, h, w, c = x.shape
            cut = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(2, 3).reshape(-1, 4, c)
            out = F.scaled_dot_product_attention(*self.qkv(cut).chunk(3, -1))
            out = out.reshape(n, h // 2, w // 2, 2, 2, c).transpose(2, 3).reshape(n, h, w, c)
            return self.norm(x + out)

    (layer,) = measure_layers(Windows().eval(), ["norm"], (32, 48))
    assert (layer.channels, layer.height, layer.width) == (12, 8, 12)
    assert layer.stride == pytest.approx((4.0, 4.0))
    assert layer.offset == pytest.approx((2.0, 2.0))
    assert layer.receptive_field == (8.0, 8.0)


def test_mixing_of_all_places_is_sensible() -> None:
    class Mixer(nn.Module):
        """Patches, then linear layers across all of them; nothing is cut off."""

        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 16, 8, 8)
            self.across = nn.ModuleList(nn.Linear(36, 36) for _ in range(2))
            self.out = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = self.patches(x).flatten(2)
            for across in self.across:
                tokens = tokens + across(tokens)
            return self.out(tokens.transpose(1, 2))

    (layer,) = measure_layers(Mixer().eval(), ["out"], (48, 48))
    truth = 4 + 8 * np.arange(6)
    assert np.abs(layer.centres_x - truth).max() < 4
    assert np.abs(layer.centres_y - truth).max() < 4
    assert layer.receptive_field == (48.0, 48.0)


@pytest.mark.parametrize("product", ["matmul", "bmm", "einsum"])
def test_attention_without_a_softmax_tells_no_place(product: str) -> None:
    """As in EfficientViT: what all tokens give is summed up and handed to each of them."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.qkv = nn.Conv2d(3, 12, 8, 8), nn.Conv2d(12, 36, 1)
            self.out = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.patches(x)
            q, k, v = self.qkv(x).flatten(2).chunk(3, 1)
            q, k = q.relu(), k.relu()
            if product == "einsum":
                summed = torch.einsum("nct,ndt->ncd", v, k)
                attended = torch.einsum("ncd,ndt->nct", summed, q)
            elif product == "bmm":
                attended = torch.bmm(torch.bmm(v, k.transpose(1, 2)), q)
            else:
                attended = v @ k.transpose(1, 2) @ q
            # so much that where it looks most is where it doesn't stand
            return self.out(x + 100 * attended.view_as(x))

    (layer,) = measure_layers(Linear().eval(), ["out"], (48, 64))
    assert layer.layout == "NCHW"
    assert layer.stride == (8.0, 8.0)
    assert layer.offset == (4.0, 4.0)
    assert layer.receptive_field == (64.0, 48.0)  # but what is gathered is seen


def test_products_with_what_a_model_holds_are_no_attention() -> None:
    """Resizing by a matrix, as some networks do."""

    class Resized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 5, 4, 4)
            self.register_buffer("pairs", torch.eye(8).repeat_interleave(2, 0) / 2)
            self.out = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.patches(x) @ self.pairs
            return self.out(self.pairs.T.expand(len(x), 5, 8, 16) @ x)

    (layer,) = measure_layers(Resized().eval(), ["out"], (64, 64))
    assert (layer.height, layer.width) == (8, 8)
    assert layer.stride == (8.0, 8.0)
    assert layer.offset == (4.0, 4.0)


def test_grids_that_meet_without_being_aligned() -> None:
    """Units stand at the mean place of what they see, not in the middle of the wider field."""

    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fine = nn.Conv2d(3, 6, 1, 4)  # centres 0.5 + 4 k
            self.coarse = nn.Conv2d(3, 6, 33, 16, 16)  # centres 0.5 + 16 k
            self.up, self.out = nn.Upsample(scale_factor=4), nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.fine(x) + self.up(self.coarse(x)))

    up, out = measure_layers(Pyramid().eval(), ["up", "out"], (128, 128))
    # four units stand for one of the coarse grid, 6 px to the left of them on the mean
    assert up.offset == (-5.5, -5.5)
    assert out.stride == (4.0, 4.0)
    # both look equally much
    assert out.offset == pytest.approx((-2.5, -2.5), abs=1.0)
    for offset, field in zip(out.offset, out.receptive_field, strict=True):
        # wide enough for all that is seen from there
        assert field / 2 >= up.receptive_field[0] / 2 + abs(offset + 5.5) - 1e-6


def test_backbone_frozen_by_no_grad_is_measured() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return self.conv(x)

    with torch.inference_mode():
        (layer,) = measure_layers(Frozen().eval(), ["conv"], (32, 32))
    check(layer, Field().window(3, 2, 1), Field().window(3, 2, 1))


def test_no_gradient_warns_and_assumes_an_even_grid() -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x.detach())

    with pytest.warns(ExplgraphWarning, match="'conv'.*can't be measured.*even grid of 16 x 20"):
        (layer,) = measure_layers(Detached().eval(), ["conv"], (32, 40))
    assert (layer.stride, layer.offset) == ((2.0, 2.0), (1.0, 1.0))


def test_calls_of_a_shared_module() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.relu = (
                nn.Conv2d(3, 4, 3, 2, 1),
                nn.Conv2d(4, 4, 3, 2, 1),
                nn.ReLU(),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.relu(self.b(self.relu(self.a(x))))

    model = Shared().eval()
    layers = measure_layers(model, ["relu@1", "relu@0"], (32, 32))
    assert [(layer.name, layer.height) for layer in layers] == [("relu@0", 16), ("relu@1", 8)]
    first = Field().window(3, 2, 1)
    check(layers[0], first, first)
    check(layers[1], first.window(3, 2, 1), first.window(3, 2, 1))
    with pytest.raises(ExplgraphError, match=r"'relu' runs 2 times.*'relu@0' \.\.\. 'relu@1'"):
        measure_layers(model, ["relu"], (32, 32))
    with pytest.raises(ExplgraphError, match=r"runs 2 times.*last call is 'relu@1'"):
        measure_layers(model, ["relu@2"], (32, 32))
    with pytest.raises(ExplgraphError, match="after '@' the number of the call"):
        measure_layers(model, ["relu@last"], (32, 32))


def test_model_is_left_as_it_was() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.register_buffer("runs", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.runs += 1
            return self.norm(self.conv(x + 0 * torch.rand(1)))

    model = Counting().eval()
    model.conv.weight.requires_grad_(False)
    model.conv.bias.grad = torch.full((4,), 7.0)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    measure_layers(model, ["norm"], (16, 16))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True]
    assert torch.equal(model.conv.bias.grad, torch.full((4,), 7.0))
    assert model.norm.weight.grad is None
    assert not model.training
    assert not any(m._forward_hooks for m in model.modules())


def test_half_precision() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU()).bfloat16().eval()
    (layer,) = measure_layers(model, ["2"], (32, 32))
    check(layer, Field().window(3, 2, 1), Field().window(3, 2, 1))


def overlapping(window: dict[str, Any]) -> dict[str, Any]:
    """Pad by less than the window, as networks do, lest a unit see nothing but padding."""
    (ky, kx), (dy, dx) = window["kernel"], window["dilation"]
    if window["kind"] == "average":
        dy = dx = 1
    spans = (dx * (kx - 1), dx * (kx - 1), dy * (ky - 1), dy * (ky - 1))
    return window | {"pads": tuple(min(p, s) for p, s in zip(window["pads"], spans, strict=True))}


Windows = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["conv", "depthwise", "max", "average"]),
        "kernel": st.tuples(st.integers(1, 5), st.integers(1, 5)),
        "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "dilation": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "pads": st.tuples(*[st.integers(0, 3)] * 4),  # left, right, top, bottom
    }
).map(overlapping)


def build(windows: list[dict[str, Any]]) -> tuple[nn.Sequential, Field, Field]:
    """Build a network, and compute along x and y."""
    modules: list[nn.Module] = [nn.Conv2d(3, 4, 1)]
    x, y = Field(), Field()
    for w in windows:
        (ky, kx), (sy, sx), (dy, dx), (left, _, top, _) = (
            *(w["kernel"], w["stride"], w["dilation"], w["pads"]),
        )
        if w["kind"] == "average":
            dy = dx = 1
            window: nn.Module = nn.AvgPool2d((ky, kx), (sy, sx))
        elif w["kind"] == "max":
            window = nn.MaxPool2d((ky, kx), (sy, sx), 0, (dy, dx))
        else:
            groups = 4 if w["kind"] == "depthwise" else 1
            window = nn.Conv2d(4, 4, (ky, kx), (sy, sx), 0, (dy, dx), groups)
        modules += [nn.ZeroPad2d(w["pads"]), window, nn.BatchNorm2d(4), nn.ReLU(inplace=True)]
        x, y = x.window(kx, sx, left, dx), y.window(ky, sy, top, dy)
    return nn.Sequential(*modules).eval(), x, y


@given(
    windows=st.lists(Windows, min_size=1, max_size=5),
    height=st.integers(20, 70),
    width=st.integers(20, 70),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_stacks(windows: list[dict[str, Any]], height: int, width: int) -> None:
    model, x, y = build(windows)
    for axis, size in (("x", width), ("y", height)):
        for w in windows:
            i = 1 if axis == "x" else 0
            k, s = w["kernel"][i], w["stride"][i]
            d = 1 if w["kind"] == "average" else w["dilation"][i]
            pads = w["pads"][:2] if axis == "x" else w["pads"][2:]
            assume(size > d * (k - 1))
            size = (size + sum(pads) - d * (k - 1) - 1) // s + 1
            assume(size >= 2)
    (layer,) = measure_layers(model, [str(len(model) - 1)], (height, width))
    check(layer, x, y)


@pytest.mark.photos
def test_efficientnet_lite0() -> None:
    """Each convolution of stride 2 pads by one more at the right (see its static padding)."""
    package = pytest.importorskip("efficientnet_lite_pytorch")
    model = package.EfficientNet.from_name("efficientnet-lite0").eval()
    start = time.perf_counter()
    layers = measure_layers(model, ["_bn1", "_blocks.15._bn0", "_blocks.10._bn0"], (224, 224))
    took = time.perf_counter() - start
    steps = [  # kernel, stride of the stem and the depthwise convolutions
        *((3, 2), (3, 1), (3, 2), (3, 1), (5, 2), (5, 1), (3, 2), (3, 1), (3, 1)),
        *((5, 1), (5, 1), (5, 1), (5, 2), (5, 1), (5, 1), (5, 1), (3, 1)),
    ]
    fields, here, side = [], Field(), 224
    for kernel, stride in steps:
        out = -(-side // stride)
        here = here.window(kernel, stride, max(0, (out - 1) * stride + kernel - side) // 2)
        side = out
        fields.append(here)
    # _bn0 of block b comes before its depthwise convolution, which is step b + 1
    for layer, field in zip(layers, (fields[10], fields[15], fields[16]), strict=True):
        check(layer, field, field)
    assert layers[0].offset == (15.5, 15.5)
    assert layers[2].offset == (31.5, 31.5), "not 16, as an even grid would have it"
    assert took < 10, "about 1 s on an idle core"
