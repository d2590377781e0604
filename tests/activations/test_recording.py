"""Recording against the modules called by hand, and every wrong input's message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from explgraph.activations.memory import Activations
from explgraph.activations.recording import record
from explgraph.errors import ExplgraphError
from explgraph.images.folder import ImageFolder
from explgraph.network.forward import fingerprint, stream
from explgraph.network.geometry import Layer, measure_layers
from explgraph.network.layers import list_layers, suggest_layers, suggestions
from explgraph.network.map_formats import MapFormat, read_maps


class Net(nn.Module):
    """Convolutions with in-place rectifiers after them, a shared module, a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU6(inplace=True))
        self.second = nn.Conv2d(4, 6, 3, 2, 1)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.SiLU()
        self.third = nn.Conv2d(6, 6, 3, 1, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(6, 5)
        self.unused = nn.Conv2d(3, 4, 3)
        self.runs: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.runs.append(len(x))
        x = self.act(self.norm(self.second(self.first(x))))
        x = self.act(self.third(x))
        self.runs.append(-1)  # the head begins
        return self.head(self.pool(x).flatten(1))


@pytest.fixture
def net() -> Net:
    return Net().eval()


@pytest.fixture
def images() -> Tensor:
    return 6 * torch.randn(7, 3, 24, 32, generator=torch.Generator().manual_seed(5))


def by_hand(net: Net, images: Tensor) -> dict[str, Tensor]:
    """What the modules themselves give, rectified at zero."""
    with torch.no_grad():
        conv = net.first[0](images)
        norm = net.norm(net.second(F.relu6(conv)))
        third = net.third(F.silu(norm))
    outputs = {
        "first.0": conv,
        "norm": norm,
        "act@0": F.silu(norm),
        "third": third,
        "act@1": F.silu(third),
    }
    return {k: v.clamp(min=0) for k, v in outputs.items()}


def no_hooks(model: nn.Module) -> bool:
    return not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_records_what_modules_give_in_execution_order(net: Net, images: Tensor) -> None:
    names = ["third", "act@1", "first.0", "norm", "act@0"]
    found = record(net, images, names, batch_size=3)
    expected = by_hand(net, images)
    assert [layer.name for layer in found.layers] == list(expected)
    assert [layer.index for layer in found.layers] == [0, 1, 2, 3, 4]
    for layer, maps in zip(found.layers, found.maps, strict=True):
        torch.testing.assert_close(maps, expected[layer.name])
        assert maps.shape == (7, layer.channels, layer.height, layer.width)
        assert maps.dtype == torch.float32
        assert maps.is_contiguous()
        assert not maps.is_inference()
    # above 6: the module's own output, before the rectifier after it changes it in place
    assert found.maps[0].max() > 6
    assert found.n_images == 7
    assert found.names == tuple("0123456")
    assert found.image_size == (24, 32)
    assert found.model_fingerprint == fingerprint(net)
    assert found.layers == measure_layers(net, names, (24, 32))
    assert no_hooks(net)


class Items(Dataset[Any]):
    def __init__(self, items: Tensor) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index], index


class Endless(IterableDataset[Any]):
    def __init__(self, items: Tensor) -> None:
        self.items = items

    def __iter__(self) -> Any:
        return iter(self.items)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
@pytest.mark.parametrize(
    "source",
    [
        lambda x: x,
        Items,
        Endless,
        lambda x: DataLoader(Items(x), batch_size=3),
        lambda x: DataLoader(Items(x), batch_size=3, drop_last=True),
    ],
)
def test_any_source_and_batch_size(
    net: Net, images: Tensor, source: Callable[[Tensor], Any], batch_size: int
) -> None:
    found = record(net, source(images), ["norm"], batch_size=batch_size)
    n = found.n_images
    assert n in (6, 7)
    torch.testing.assert_close(found.maps[0], by_hand(net, images)["norm"][:n])
    assert len(found.names) == n


def test_folder(net: Net, tmp_path: Path) -> None:
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    folder = ImageFolder(tmp_path, size=(24, 32))
    found = record(net, folder, ["third"])
    assert found.names == ("0.png", "1.png", "2.png")
    together = torch.stack([folder[i] for i in range(3)])
    torch.testing.assert_close(found.maps[0], by_hand(net, together)["third"])


def test_forward_pass_ends_after_the_last_layer(net: Net, images: Tensor) -> None:
    layers = measure_layers(net, ["first.0", "norm"], (24, 32))
    net.runs.clear()
    for names, maps in stream(net, images, layers, image_size=(24, 32), batch_size=4):
        assert list(maps) == ["first.0", "norm"]
        assert len(names) == len(maps["norm"])
    assert net.runs == [4, 3], "the head (-1) never ran, and nothing ran twice"
    assert no_hooks(net)


def test_stream_left_early_removes_its_hooks(net: Net, images: Tensor) -> None:
    layers = measure_layers(net, ["norm"], (24, 32))
    running = stream(net, images, layers, image_size=(24, 32), batch_size=2)
    next(running)
    running.close()
    assert no_hooks(net)


def test_head_that_does_not_fit_is_no_matter() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8 * 8, 2)
    ).eval()
    images = torch.randn(2, 3, 20, 20)  # the head wants 16 x 16
    assert record(model, images, ["1"]).maps[0].shape == (2, 4, 10, 10)
    names = [s.name for s in list_layers(model, 20)]
    assert names == ["0", "1"]


def test_failing_model(images: Tensor) -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.conv(x))

    model = Failing().eval()
    with pytest.raises(ExplgraphError, match=r"\(3, 24, 32\) before layer 'second' has run: Ru"):
        record(model, images, ["second"])
    assert no_hooks(model)


def test_outputs_in_containers(images: Tensor) -> None:
    class Branches(nn.Module):
        def __init__(self, give: Callable[[Tensor], Any]) -> None:
            super().__init__()
            self.conv, self.give = nn.Conv2d(3, 4, 3, 2, 1), give

        def forward(self, x: Tensor) -> Any:
            return self.give(self.conv(x))

    class Wrapped(nn.Module):
        def __init__(self, give: Callable[[Tensor], Any]) -> None:
            super().__init__()
            self.block = Branches(give)

        def forward(self, x: Tensor) -> Any:
            return self.block(x)

    good: list[Callable[[Tensor], Any]] = [
        lambda y: (y, None, y.mean((2, 3))),
        lambda y: {"maps": y, "size": 3},
        lambda y: [[y]],
    ]
    for give in good:
        model = Wrapped(give).eval()
        found = record(model, images, ["block"])
        with torch.no_grad():
            expected = model.block.conv(images).clamp(min=0)
        torch.testing.assert_close(found.maps[0], expected)
    with pytest.raises(ExplgraphError, match=r"'block' gives several tensors.*4, 12, 16"):
        record(Wrapped(lambda y: (y, 2 * y)).eval(), images, ["block"])
    with pytest.raises(ExplgraphError, match=r"'block' has no spatial grid.*gives NoneType"):
        record(Wrapped(lambda _: None).eval(), images, ["block"])


class Transformer(nn.Module):
    """Patches as tokens, behind some that are no patches."""

    def __init__(self, prefix: int, channels_last: bool = False) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.patches, self.prefix = nn.Conv2d(3, 10, 8, 8), prefix
        self.channels_last = channels_last
        self.norm = nn.LayerNorm(10)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.patches(x)
        if self.channels_last:
            return self.norm(maps.permute(0, 2, 3, 1))
        tokens = maps.flatten(2).transpose(1, 2)
        return self.norm(torch.cat([tokens.new_full((len(x), self.prefix, 10), 9.0), tokens], 1))


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
@pytest.mark.parametrize("size", [(32, 48), (48, 48), (24, 80), (36, 51)])
def test_tokens_become_maps(prefix: int, size: tuple[int, int]) -> None:
    model = Transformer(prefix).eval()
    images = torch.randn(3, 3, *size)
    found = record(model, images, ["norm"])
    with torch.no_grad():
        maps = model.patches(images)
        expected = model.norm(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).clamp(min=0)
    torch.testing.assert_close(found.maps[0], expected)


def test_channels_last_becomes_maps() -> None:
    model = Transformer(0, channels_last=True).eval()
    images = torch.randn(3, 3, 32, 48)
    found = record(model, images, ["norm"])
    with torch.no_grad():
        expected = model(images).permute(0, 3, 1, 2).clamp(min=0)
    torch.testing.assert_close(found.maps[0], expected)
    assert found.maps[0].is_contiguous()
    assert [s[2:5] for s in list_layers(model, (32, 48))] == [(10, 4, 6), (10, 4, 6)]


def test_tokens_that_are_no_grid() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.out(x.flatten(2)[:, :, :500].transpose(1, 2))

    with pytest.raises(ExplgraphError, match=r"'out' has no spatial grid .*its 500 or 3 tokens"):
        record(Words().eval(), torch.randn(1, 3, 41, 41), ["out"])


# --- what can be wrong


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["norms"], "no layer 'norms'; did you mean 'norm'"),
        (["first.9"], r"no layer 'first\.9'; did you mean .*'first\.0'"),
        (["zzz@1"], r"no layer 'zzz'; see model\.named_modules"),
        (["pool"], r"'pool' has no spatial grid.*1 x 1 units; choose a layer before the pooling"),
        (["head"], r"'head' has no spatial grid: for 4 images it gives \(4, 5\)"),
        (["unused"], r"'unused' doesn't run in the model's forward pass"),
        (["act"], r"'act' runs 2 times in a forward pass.*'act@0' \.\.\. 'act@1'"),
        (["act@2"], r"'act@2': its module runs 2 times.*last call is 'act@1'"),
        (["norm", "norm"], "layers names 'norm' twice"),
        (["norm", "norm@0"], "layers names 'norm' twice"),
        ([], "layers is empty"),
        ("norm", "layers must be a list of module names, got 'norm'"),
        ([3], "layers must be a list of module names"),
    ],
)
def test_wrong_layers(net: Net, images: Tensor, layers: Any, message: str) -> None:
    with pytest.raises(ExplgraphError, match=message):
        record(net, images, layers)
    assert no_hooks(net)


def test_nearest_names_by_their_end() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.ModuleDict({"stage4_final": nn.Conv2d(3, 4, 3)})

    with pytest.raises(ExplgraphError, match=r"did you mean 'backbone\.stage4_final'"):
        record(Deep().eval(), torch.zeros(1, 3, 8, 8), ["stage4_final"])


def test_training_mode_is_refused(net: Net, images: Tensor) -> None:
    net.norm.train()
    with pytest.raises(ExplgraphError, match=r"module 'norm' is in training mode; call model"):
        record(net, images, ["norm"])
    net.train()
    with pytest.raises(ExplgraphError, match=r"but the model is in training mode"):
        record(net, images, ["norm"])
    with pytest.raises(ExplgraphError, match="training mode"):
        list_layers(net, 24)
    with pytest.raises(ExplgraphError, match=r"model must be a torch\.nn\.Module, got str"):
        record("resnet", images, ["norm"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "kind"), [(float("nan"), "NaN"), (float("inf"), "inf"), (-float("inf"), "inf")]
)
def test_activations_that_are_not_finite(net: Net, images: Tensor, value: float, kind: str) -> None:
    class Poison(nn.Module):
        """Spoil one value of the image that has a mark."""

        def forward(self, x: Tensor) -> Tensor:
            x = x.clone()
            x[:, 3, 2, 1] = torch.where(images_marked(x), value, x[:, 3, 2, 1])
            return x

    def images_marked(x: Tensor) -> Tensor:
        return x[:, 0, 0, 0].abs() > 1e6

    net.first, net.act = net.first[0], Poison().eval()  # without the limit of 6
    net.norm.weight.data[:] = 1
    images[4] = 1e9
    pattern = rf"layer 'act@0' has an activation that is {kind}.*image '4', filter 3; check"
    with pytest.raises(ExplgraphError, match=pattern):
        record(net, images, ["act@0"], batch_size=3)
    assert no_hooks(net)


def test_images_of_different_sizes(net: Net) -> None:
    items = [torch.zeros(3, 24, 32), torch.zeros(3, 24, 33)]
    with pytest.raises(ExplgraphError, match="images are of different sizes: '1' is 24 x 33"):
        record(net, items, ["norm"])


def test_stream_refuses_another_model_or_size(net: Net, images: Tensor) -> None:
    layers = measure_layers(net, ["norm"], (24, 32))
    size = (24, 32)
    with pytest.raises(ExplgraphError, match="16 x 16 px, expected 24 x 32"):
        list(stream(net, images[:, :, :16, :16], layers, image_size=size))
    pattern = r"'norm' gives \(6, 4, 4\) per image, expected .* \(6, 6, 8\)"
    with pytest.raises(ExplgraphError, match=pattern):
        list(stream(net, images[:, :, :16, :16], layers, image_size=(16, 16)))
    net.eval().second = nn.Conv2d(4, 7, 3, 2, 1).eval()
    net.norm = nn.BatchNorm2d(7).eval()
    with pytest.raises(ExplgraphError, match=r"'norm' gives \(7, 6, 8\)"):
        list(stream(net, images, layers, image_size=size))
    other = Layer("other", 0, 6, 6, 8, (4, 4), (0.5, 0.5), (7, 7))
    with pytest.raises(ExplgraphError, match="no layer 'other'"):
        list(stream(net, images, [other], image_size=size))


# --- devices, precision, progress


def test_unknown_and_missing_devices(net: Net, images: Tensor) -> None:
    with pytest.raises(ExplgraphError, match="device 'gpu' isn't known"):
        record(net, images, ["norm"], device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ExplgraphError, match="device 'cuda': torch finds no GPU; use device="):
            record(net, images, ["norm"], device="cuda")
    assert record(net, images, ["norm"], device="cpu").n_images == 7


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_gives_the_same_and_the_model_comes_back(net: Net, images: Tensor) -> None:
    expected = record(net, images, ["norm"], device="cpu")
    found = record(net, images, ["norm"])
    assert found.layers == expected.layers
    torch.testing.assert_close(found.maps[0], expected.maps[0], atol=1e-2, rtol=1e-2)
    assert next(net.parameters()).device.type == "cpu"


def test_model_moves_to_the_device_and_back(net: Net, images: Tensor) -> None:
    moves: list[str] = []
    original = net.to
    net.to = lambda d: (moves.append(str(d)), original(d))[1]  # type: ignore[method-assign]
    net.norm.forward = lambda _: 1 / 0  # type: ignore[method-assign]
    with pytest.raises(ExplgraphError, match="ZeroDivisionError"):
        record(net, images, ["norm"], device=torch.device("cpu"))
    assert moves == ["cpu", "cpu"], "back, though the recording failed"


def test_half_precision_is_recorded_as_float32(net: Net, images: Tensor) -> None:
    expected = by_hand(net, images)["norm"]
    found = record(net.bfloat16(), images, ["norm"])
    assert found.maps[0].dtype == torch.float32
    torch.testing.assert_close(found.maps[0], expected, atol=0.2, rtol=0.1)


def test_gradients_and_modes_of_the_caller_do_not_matter(net: Net, images: Tensor) -> None:
    expected = by_hand(net, images)["norm"]
    with torch.inference_mode():
        found = record(net, images, ["norm"])
    torch.testing.assert_close(found.maps[0], expected)
    found.maps[0][:1] += 1  # an ordinary tensor
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_progress_is_silent_off_a_terminal(net: Net, images: Tensor, capsys: Any) -> None:
    record(net, images, ["norm"], progress=True)
    assert capsys.readouterr() == ("", "")


# --- activations in memory


def layer(name: str = "a", index: int = 0) -> Layer:
    return Layer(name, index, 2, 3, 4, (8.0, 8.0), (4.0, 4.0), (8.0, 8.0))


def test_blocks_cover_all_images() -> None:
    maps = torch.rand(7, 2, 3, 4)
    activations = Activations((layer(),), tuple("abcdefg"), (24, 32), [maps])
    for size in (None, 1, 3, 7, 50):
        found = list(activations.blocks(0, size))
        torch.testing.assert_close(torch.cat([block for _, block in found]), maps)
        assert [i for here, _ in found for i in range(7)[here]] == list(range(7))
    assert activations.model_fingerprint == ""


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ([], "layers and maps must be as many, got 1 and 0"),
        ([torch.rand(2, 2, 3, 5)], r"'a' must be float32 .* \(2, 2, 3, 4\), got .* \(2, 2, 3, 5\)"),
        ([torch.rand(2, 2, 3, 4).double()], r"must be float32.*got torch\.float64"),
        ([torch.rand(2, 2, 3, 4) - 2], "must be rectified, but image 'x', filter 0 is negative"),
        (
            [torch.full((2, 2, 3, 4), float("nan"))],
            "'a' has an activation that is NaN, in image",
        ),
    ],
)
def test_activations_check_themselves(maps: list[Tensor], message: str) -> None:
    with pytest.raises(ExplgraphError, match=message):
        Activations((layer(),), ("x", "y"), (24, 32), maps)


# --- listing, suggesting, fingerprints


def test_list_layers(net: Net) -> None:
    found = list_layers(net, (24, 32))
    assert [(s.name, s.type, s.channels, s.height, s.width, s.calls) for s in found] == [
        ("first.0", "Conv2d", 4, 12, 16, 1),
        ("first.1", "ReLU6", 4, 12, 16, 1),
        ("first", "Sequential", 4, 12, 16, 1),
        ("second", "Conv2d", 6, 6, 8, 1),
        ("norm", "BatchNorm2d", 6, 6, 8, 1),
        ("act", "SiLU", 6, 6, 8, 2),
        ("third", "Conv2d", 6, 6, 8, 1),
    ]
    assert no_hooks(net)
    with pytest.raises(ExplgraphError, match=r"no module of the model gives feature maps.*8 x 8"):
        list_layers(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval(), 8)


def test_suggest_layers() -> None:
    modules: list[nn.Module] = []
    for before, after in ((3, 4), (4, 8), (8, 16), (16, 16)):
        modules += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
        modules += [nn.Conv2d(after, after // 2, 1), nn.Conv2d(after // 2, after, 1)]
    model = nn.Sequential(*modules).eval()
    summaries = list_layers(model, 64)
    assert suggest_layers(summaries) == ("19", "14", "9"), "each stage's last of its widest"
    assert suggest_layers(summaries, number=2) == ("19", "14")
    # one grid size only: at even steps of the last half
    flat = nn.Sequential(*[nn.Conv2d(3, 3, 3, 1, 1) for _ in range(12)]).eval()
    names = suggest_layers(list_layers(flat, 16))
    assert names == ("11", "9", "7")
    assert suggest_layers(list_layers(flat[:2].eval(), 16)) == ("1", "0")
    again = [s._replace(calls=2) for s in list_layers(flat, 16)]
    assert suggest_layers(again) == (), "a name alone doesn't say which call is meant"


def test_suggestions_for_inverted_residuals() -> None:
    """Low grids are left out; of the highest a second layer, not a depthwise one, takes over."""
    modules: list[nn.Module] = []
    for c, stride in ((8, 2), (8, 2), (8, 1), (16, 2), (16, 1), (16, 1)):
        wide = 4 * c
        before = 3 if not modules else modules[-1].num_features  # type: ignore[union-attr]
        modules += [nn.Conv2d(before, wide, 1), nn.BatchNorm2d(wide)]
        modules += [nn.Conv2d(wide, wide, 3, stride, 1, groups=wide), nn.BatchNorm2d(wide)]
        modules += [nn.Conv2d(wide, c, 1), nn.BatchNorm2d(c)]
    modules += [nn.Conv2d(16, 80, 1), nn.BatchNorm2d(80)]
    summaries = list_layers(nn.Sequential(*modules).eval(), 64)
    assert suggest_layers(summaries) == ("37", "31", "19")
    assert [s.layer.name for s in suggestions(summaries, 2)] == ["37", "19"]
    assert all(s.reason for s in suggestions(summaries))


def test_suggestions_can_be_measured(net: Net) -> None:
    names = suggest_layers(list_layers(net, (24, 32)))
    assert names == ("third", "norm", "first.1") or len(names) == 3
    assert [layer.name for layer in measure_layers(net, names, (24, 32))] == list(reversed(names))


def test_fingerprint_tells_weights_apart(net: Net) -> None:
    first = fingerprint(net)
    assert fingerprint(Net().eval()) == first, "the same seed"
    assert len(first) == 64
    with torch.no_grad():
        net.third.weight[0, 0, 0, 0] += 1e-6
    assert fingerprint(net) != first
    assert fingerprint(Net().bfloat16()) != first
    renamed = nn.Sequential(nn.Linear(2, 2))
    other = nn.ModuleDict({"1": renamed[0]})
    assert fingerprint(renamed) != fingerprint(other)


class Residual(nn.Module):
    """A block whose side branch runs last."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, 2, 1)
        self.shortcut = nn.Conv2d(before, after, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.shortcut(x)


def test_suggestions_are_whole_residual_blocks() -> None:
    net = nn.Sequential(Residual(3, 4), Residual(4, 8), Residual(8, 16)).eval()
    assert suggest_layers(list_layers(net, 64)) == ("2", "1", "0")


def test_suggestions_of_a_sequence_of_blocks_are_blocks() -> None:
    """A transformer's blocks are alike: the whole sequence is none of those in its midst."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.wide, self.conv = (
                nn.BatchNorm2d(4),
                nn.Conv2d(4, 8, 1),
                nn.Conv2d(8, 4, 1),
            )

        def forward(self, x: Tensor) -> Tensor:
            return x + self.conv(self.wide(self.norm(x)))

    net = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Sequential(*[Block() for _ in range(12)])).eval()
    names = suggest_layers(list_layers(net, 32), 4)
    # the end of the whole is the last block's
    assert names == ("1", "1.11.wide", "1.10.wide", "1.5")


def test_devices_that_cannot_be_used_leave_the_model_alone(net: Net, images: Tensor) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ExplgraphError, match="'meta' holds no values; use device='cpu'"):
        record(net, images, ["norm"], device="meta")
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name])


@pytest.mark.parametrize("layers", [None, 3, ["norm", 3], "norm"])
def test_layers_that_are_no_list_of_names(net: Net, images: Tensor, layers: Any) -> None:
    with pytest.raises(ExplgraphError, match="layers must be a list of module names, got"):
        record(net, images, layers)


def test_layers_may_be_a_generator(net: Net, images: Tensor) -> None:
    found = record(net, images, (name for name in ("norm", "third")))  # type: ignore[arg-type]
    assert [layer.name for layer in found.layers] == ["norm", "third"]


def test_tokens_of_another_grid_are_refused() -> None:
    """Names and widths agree, but a patch size of half gives four times the tokens."""
    tokens = torch.zeros(2, 193, 5)
    grid = MapFormat("N(1+HW)C", 5, 8, 6)
    assert read_maps(torch.zeros(2, 49, 5), 2, grid, "block").shape == (2, 5, 8, 6)
    with pytest.raises(ExplgraphError, match=r"'block' gives \(193, 5\) per image"):
        read_maps(tokens, 2, grid, "block")
