"""How outputs are read as maps: what was put there is found, whatever the order of dimensions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import explgraph
from explgraph.activations.recording import record
from explgraph.cli.entry import main, parser
from explgraph.cli.inputs import read_by_layer
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.explaining.intervene import run
from explgraph.network.geometry import measure_layers
from explgraph.network.layers import list_layers
from explgraph.network.map_formats import MapFormat, read_maps, write_maps

pytestmark = pytest.mark.usefixtures("one_thread")


class Arranged(nn.Module):
    """Maps of 8 x 8 patches, arranged in some way and passed on by a module of its own."""

    def __init__(
        self, arrange: Callable[[Tensor], Tensor], channels: int = 5, patch: int = 8
    ) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.patches = nn.Conv2d(3, channels, patch, patch)
        self.out, self.arrange = nn.Identity(), arrange
        self.head = nn.Linear(channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        arranged = self.out(self.arrange(self.patches(x)))
        sizes = list(arranged.shape)
        channel = sizes.index(self.head.in_features, 1)
        rest = [d for d in range(arranged.ndim) if d != channel and sizes[d] != len(x)]
        return self.head(arranged.mean(rest)) if len(rest) + 2 == arranged.ndim else x.mean((2, 3))


def tokens(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)


def with_extra(before: int, after: int, middle: bool = False) -> Callable[[Tensor], Tensor]:
    """Put tokens that see nothing before, behind or in the midst of the grid."""

    def arrange(maps: Tensor) -> Tensor:
        grid, (n, c) = tokens(maps), maps.shape[:2]
        half = grid.shape[1] // 2
        parts = [maps.new_ones(n, before, c), grid, maps.new_ones(n, after, c)]
        if middle:
            parts[1:2] = [grid[:, :half], maps.new_ones(n, 1, c), grid[:, half:]]
        return torch.cat(parts, 1)

    return arrange


def unrolled(maps: Tensor) -> Tensor:
    """Tokens as Hiera has them: what lies in one place of 2 x 2 cells stands together, twice."""
    n, c, h, w = maps.shape
    x = maps.permute(0, 2, 3, 1)
    for _ in range(2):
        h, w = h // 2, w // 2
        x = x.reshape(-1, h, 2, w, 2, c).permute(0, 2, 4, 1, 3, 5).reshape(-1, h, w, c)
    return x.reshape(n, -1, c)


def windows(maps: Tensor) -> Tensor:
    """Tokens window by window, of 2 x 2."""
    n, c, h, w = maps.shape
    return maps.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(n, -1, c)


ARRANGEMENTS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "as it is": (lambda m: m, "NCHW"),
    "channels last": (lambda m: m.permute(0, 2, 3, 1), "NHWC"),
    "columns before rows": (lambda m: m.transpose(2, 3), "NCWH"),
    "all the other way": (lambda m: m.permute(0, 3, 2, 1), "NWHC"),
    "tokens": (tokens, "N(HW)C"),
    "tokens, filters first": (lambda m: m.flatten(2), "NC(HW)"),
    "tokens, images second": (lambda m: tokens(m).transpose(0, 1), "(HW)NC"),
    "column by column": (lambda m: tokens(m.transpose(2, 3)), "N(WH)C"),
    "class token": (with_extra(1, 0), "N(1+HW)C"),
    "class token last": (with_extra(0, 1), "N(HW+1)C"),
    "registers on both sides": (with_extra(2, 3), "N(2+HW+3)C"),
    "class token in the midst": (with_extra(0, 0, middle=True), "NLC"),
    "mean as class token": (
        lambda m: torch.cat([tokens(m).mean(1, keepdim=True), tokens(m)], 1),
        "N(1+HW)C",
    ),
    "windows": (windows, "NLC"),
    "unrolled": (unrolled, "NLC"),
    "unrolled behind a class token": (lambda m: F.pad(unrolled(m), (0, 0, 1, 0)), "NLC"),
    "serpentine": (
        lambda m: tokens(
            torch.stack([r.flip(-1) if i % 2 else r for i, r in enumerate(m.unbind(2))], 2)
        ),
        "NLC",
    ),
}


# the channels are as many as rows and columns, fewer, and odd: shapes tell nothing
@pytest.mark.parametrize(("channels", "size"), [(8, (64, 64)), (5, (64, 64)), (7, (32, 64))])
@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_what_was_arranged_is_read_back(name: str, channels: int, size: tuple[int, int]) -> None:
    arrange, layout = ARRANGEMENTS[name]
    model = Arranged(arrange, channels).eval()
    images = torch.randn(3, 3, *size)
    found = record(model, images, ["out"])
    assert found.layers[0].layout == layout
    with torch.no_grad():
        torch.testing.assert_close(found.maps[0], model.patches(images).clamp(min=0))
    assert found.layers[0].stride == (8.0, 8.0)
    assert found.layers[0].offset == (4.0, 4.0)


@pytest.mark.parametrize("name", ["channels last", "tokens, images second", "unrolled"])
def test_maps_are_written_where_they_were_read(name: str) -> None:
    arrange, _ = ARRANGEMENTS[name]
    model = Arranged(arrange, 5).eval()
    (layer,) = measure_layers(model, ["out"], (64, 64))
    images = torch.randn(2, 3, 64, 64)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:4, 5] = 1
    with torch.no_grad():
        output = model.arrange(model.patches(images))
        expected = model.arrange(model.patches(images) * mask)
    write_maps(output, read_maps(output, 2, layer.format, "out") * mask, layer.format)
    torch.testing.assert_close(output, expected)


def test_changes_reach_the_output_through_an_order_of_its_own() -> None:
    model = Arranged(unrolled).eval()
    layers = measure_layers(model, ["out"], (64, 64))
    images, mask = torch.randn(2, 3, 64, 64), torch.zeros(1, 1, 8, 8)
    mask[..., 1, 6] = 1
    done = run(model, images, layers, {"out": lambda maps: maps * mask}, gradients=True)
    with torch.no_grad():
        expected = model.head((model.patches(images) * mask).mean((2, 3)))
    torch.testing.assert_close(done.scores, expected)
    (gradient,) = torch.autograd.grad(done.scores[:, 0].sum(), done.maps["out"])
    expected = model.head.weight[0].detach()[None, :, None, None] / 64
    torch.testing.assert_close(gradient, expected.expand(2, 5, 8, 8))


class Swin(nn.Module):
    """Channels-last maps with attention in windows that are shifted."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.qkv = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8), nn.Linear(8, 24)
        self.block = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).permute(0, 2, 3, 1)
        n, h, w, c = x.shape
        shifted = self.norm(x).roll((-1, -1), (1, 2))
        cut = shifted.reshape(n, h // 2, 2, w // 2, 2, c).transpose(2, 3).reshape(-1, 4, c)
        out = F.scaled_dot_product_attention(*self.qkv(cut).chunk(3, -1))
        out = out.reshape(n, h // 2, w // 2, 2, 2, c).transpose(2, 3).reshape(n, h, w, c)
        return self.block(x + out.roll((1, 1), (1, 2)))


def test_channels_last_of_equal_sides() -> None:
    """8 x 8 units and 8 filters, as torchvision's swin_t has 96 x 96 and 96 at 384 px."""
    model = Swin().eval()
    images = torch.randn(2, 3, 32, 32)
    found = record(model, images, ["block", "norm", "patches"])
    assert [layer.layout for layer in found.layers] == ["NCHW", "NHWC", "NHWC"]
    with torch.no_grad():
        expected = model(images).permute(0, 3, 1, 2).clamp(min=0)
    torch.testing.assert_close(found.maps[2], expected)
    listed = {s.name: (s[2:5], s.layout) for s in list_layers(model, 32)}
    assert listed["block"] == ((8, 8, 8), "NHWC")


def test_a_deep_mixer_keeps_its_places() -> None:
    class Mixer(nn.Module):
        """Every block mixes all places by linear layers across the tokens."""

        def __init__(self) -> None:
            super().__init__()
            self.patches, self.out = nn.Conv2d(3, 36, 8, 8), nn.Identity()
            self.across = nn.ModuleList(nn.Linear(36, 36) for _ in range(6))
            self.along = nn.ModuleList(nn.Linear(36, 36) for _ in range(6))

        def forward(self, x: Tensor) -> Tensor:
            x = tokens(self.patches(x))
            for across, along in zip(self.across, self.along, strict=True):
                x = x + across(x.transpose(1, 2)).transpose(1, 2)
                x = x + along(x)
            return self.out(x)

    (layer,) = measure_layers(Mixer().eval(), ["out"], (48, 48))
    assert (layer.layout, layer.height, layer.width) == ("N(HW)C", 6, 6)


# --- what can't be found is refused


class Queries(nn.Module):
    """36 tokens that gather from the image by attention and stand for no place of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.out = nn.Conv2d(3, 12, 4, 4), nn.Identity()
        self.queries = nn.Parameter(torch.randn(1, 36, 12))

    def forward(self, x: Tensor) -> Tensor:
        seen = tokens(self.patches(x))
        queries = self.queries.expand(len(x), -1, -1)
        return self.out(F.scaled_dot_product_attention(queries, seen, seen))


def test_tokens_that_stand_for_no_place_are_refused() -> None:
    with pytest.raises(ExplgraphError, match=r"'out' has no spatial grid that can be found.*--lay"):
        measure_layers(Queries().eval(), ["out"], (48, 48))
    assert "out" not in [s.name for s in list_layers(Queries().eval(), 48)]


def test_an_order_that_depends_on_the_image_is_refused() -> None:
    def by_brightness(maps: Tensor) -> Tensor:
        grid = tokens(maps)
        # alike for all images of a batch, as the first has it
        return grid[:, grid[0].sum(1).argsort()]

    with pytest.raises(ExplgraphError, match="order of its tokens is not the same for all images"):
        measure_layers(Arranged(by_brightness).eval(), ["out"], (64, 64))


@pytest.mark.parametrize("dims", [(2,), (3,), (2, 3)])
def test_mirrored_maps_are_refused(dims: tuple[int, ...]) -> None:
    with pytest.raises(ExplgraphError, match="'out' has no spatial grid that can be found"):
        measure_layers(Arranged(lambda m: m.flip(dims)).eval(), ["out"], (64, 64))


def test_shuffled_rows_are_refused_as_maps() -> None:
    mixed = torch.tensor([3, 6, 1, 0, 7, 5, 2, 4])
    with pytest.raises(ExplgraphError, match="'out' has no spatial grid that can be found"):
        measure_layers(Arranged(lambda m: m[:, :, mixed]).eval(), ["out"], (64, 64))


def test_a_single_row_is_told() -> None:
    with pytest.raises(ExplgraphError, match=r"'patches' has a single row or column.*\(5, 1, 7\)"):
        measure_layers(Arranged(lambda m: m, 5).eval(), ["patches"], (8, 56))


# --- what the user states


def test_what_is_stated_is_taken_where_nothing_shows_it() -> None:
    model = Queries().eval()
    for stated in ("N(HW)C", {"out": "NLC"}):
        with pytest.warns(ExplgraphWarning, match="'out' look can't be measured.*6 x 6 units"):
            (layer,) = measure_layers(model, ["out"], (48, 48), stated)
        assert (layer.layout, layer.height, layer.width) == ("N(HW)C", 6, 6)
    with pytest.warns(ExplgraphWarning, match="can't be measured"):
        found = record(model, torch.randn(2, 3, 48, 48), ["out"], layout="N(3+WH+3)C")
    assert found.layers[0].format == MapFormat("N(3+WH+3)C", 12, 5, 6)
    assert found.maps[0].shape == (2, 12, 5, 6)


def test_what_measuring_contradicts_is_refused() -> None:
    model = Arranged(lambda m: m.permute(0, 2, 3, 1), 8).eval()
    with pytest.raises(ExplgraphError, match=r"stated as 'NCHW', but .* shows 'NHWC' of 8 x 8"):
        record(model, torch.randn(2, 3, 64, 64), ["out"], layout="NCHW")
    assert record(model, torch.randn(2, 3, 64, 64), ["out"], layout="NHWC").layers[0].height == 8
    # left open which tokens they are, and found
    model = Arranged(unrolled).eval()
    (layer,) = measure_layers(model, ["out"], (64, 64), "NLC")
    assert len(layer.order) == 64
    with pytest.raises(ExplgraphError, match="in an order of their own"):
        measure_layers(model, ["out"], (64, 64), "N(HW)C")


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("BCHW", r"layout 'BCHW' isn't known; expected .*'NCHW'"),
        ("NCH", "layout 'NCH' isn't known"),
        ("N(HWC", "isn't known"),
        ("N(HH)C", "isn't known"),
        ("", "layout '' isn't known"),
        ("N(HW)C", r"'out' gives \(4, 8, 8, 5\), which isn't the layout 'N\(HW\)C'"),
        ({"in": "NHWC"}, "layout names 'in', which isn't among the layers out"),
        ({"out": 3}, "layout 3 isn't known"),
        (3, "layout must be text like 'NHWC', or such texts by layer, got int"),
    ],
)
def test_layouts_that_are_none(stated: object, message: str) -> None:
    model = Arranged(lambda m: m.permute(0, 2, 3, 1)).eval()
    with pytest.raises(ExplgraphError, match=message):
        measure_layers(model, ["out"], (64, 64), stated)  # type: ignore[arg-type]


def test_tokens_that_are_no_grid_even_if_stated() -> None:
    with pytest.raises(ExplgraphError, match=r"3 tokens.* no grid of square patches"):
        measure_layers(Arranged(lambda m: tokens(m)[:, :3]).eval(), ["out"], (64, 64), "NLC")
    with pytest.raises(ExplgraphError, match="37 tokens, which the layout"):
        measure_layers(Arranged(lambda m: tokens(m)[:, :37]).eval(), ["out"], (64, 64), "N(HW)C")


def test_orders_are_checked() -> None:
    for order in ((0, 1, 2), (0, 1, 2, 2), (0, 1, 2, -1), (0.0, 1, 2, 3)):
        with pytest.raises(ExplgraphError, match="order must name 4 tokens, each once"):
            MapFormat("NLC", 3, 2, 2, order)  # type: ignore[arg-type]
    assert np.prod(MapFormat("NLC", 3, 2, 2, (3, 1, 2, 0)).shape) == 12


def test_other_sizes_and_numbers_of_images_do_not_matter() -> None:
    """One image, and as many as there are rows, tokens or filters."""
    model = Arranged(ARRANGEMENTS["tokens, images second"][0], 4).eval()
    for n in (1, 4, 8, 64):
        images = torch.randn(n, 3, 64, 64)
        with torch.no_grad():
            expected = model.patches(images).clamp(min=0)
        torch.testing.assert_close(record(model, images, ["out"], batch_size=n).maps[0], expected)


def test_the_command_line_states_layouts(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["mine", "--images", "i", "--model", "m:m", "--layers", "a,b", "--out", "o"]

    def stated(*given: str) -> dict[str, str]:
        return read_by_layer(parser().parse_args([*command, *given]), "layout")

    assert stated() == {}
    assert stated("--layout", "NHWC") == {"a": "NHWC", "b": "NHWC"}
    both = stated("--layout", "NHWC", "--layout", "b=N(1+HW)C")
    assert both == {"a": "NHWC", "b": "N(1+HW)C"}
    assert stated("--layout", "b=NCHW") == {"b": "NCHW"}
    with pytest.raises(ExplgraphError, match="--layout is given twice for 'b'"):
        stated("--layout", "b=NCHW", "--layout", "b=NHWC")
    for wrong in ("", "=NCHW", "a="):
        with pytest.raises(SystemExit):
            stated("--layout", wrong)
    assert "expected VALUE or LAYER=VALUE" in capsys.readouterr().err
    alone = ["mine", "--store", "s", "--out", "o", "--layout", "NHWC"]
    with pytest.raises(SystemExit):
        main(alone)
    assert "--layout is for recording" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::explgraph.ExplgraphWarning")  # noise has no pose
def test_graphs_keep_orders_and_check_them(tmp_path: Path) -> None:
    model, images = Arranged(unrolled).eval(), torch.rand(16, 3, 64, 64)
    graph = explgraph.mine(model, images, ["patches", "out"])
    graph.save(tmp_path / "g.explgraph")
    found = explgraph.load(tmp_path / "g.explgraph")
    assert found.layers == graph.layers
    assert len(found.layers[1].order) == 64
    expected = graph.parse(model, images).positions
    np.testing.assert_array_equal(found.parse(model, images).positions, expected)
    found.nx.graph["layers"][1]["order"] = [1, 1]
    with pytest.raises(ExplgraphError, match="entry 1: layout 'NLC': order must name 64 tokens"):
        found.validate()
    found.nx.graph["layers"][1] |= {"order": [], "layout": "XYZ"}
    with pytest.raises(ExplgraphError, match="entry 1: layout 'XYZ' isn't known"):
        found.validate()


@pytest.mark.parametrize("shift", [1, 2])
def test_a_cyclic_shift_is_no_grid(shift: int) -> None:
    """Units that were brought round would be placed outside of the image."""
    model = Arranged(lambda maps: maps.roll((shift, shift), (2, 3))).eval()
    with pytest.raises(ExplgraphError, match="no spatial grid"):
        record(model, torch.rand(2, 3, 64, 64), ["out"])
    assert record(model, torch.rand(2, 3, 64, 64), ["patches"]).layers[0].layout == "NCHW"


def test_a_network_that_hangs_on_chance_is_told() -> None:
    model = Arranged(lambda maps: F.dropout(maps, 0.1)).eval()
    with pytest.warns(ExplgraphWarning, match="layer 'out' gives something else each time"):
        record(model, torch.rand(2, 3, 64, 64), ["patches", "out"])
    record(model, torch.rand(2, 3, 64, 64), ["patches"])  # of what comes later it isn't known


def test_maps_of_nan_are_refused_without_a_warning_of_numpy() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Conv2d(3, 8, 4, stride=4)

        def forward(self, images: Tensor) -> Tensor:
            return self.out(images * torch.nan)

    with pytest.raises(ExplgraphError, match="no spatial grid that can be found"):
        measure_layers(Broken().eval(), ["out"], (32, 32))
