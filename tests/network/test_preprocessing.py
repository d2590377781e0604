"""How a model's photographs are made ready: what it says, what is found out, what is doubted."""

from __future__ import annotations

import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_network import SIZE, network
from torch import Tensor, nn

import explgraph
from explgraph import creatures, preprocessing
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.images.folder import ImageFolder
from explgraph.images.ready import IMAGENET_MEAN, IMAGENET_STD
from explgraph.network.preprocessing import (
    image_size,
    of_transforms,
    ready_for,
    told,
    warn_if_unlike,
)

TIMM = {  # as timm writes it for one of its networks
    "input_size": (3, 224, 256),
    "interpolation": "bicubic",
    "crop_pct": 0.95,
    "crop_mode": "center",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.25, 0.25, 0.25),
    "num_classes": 10,
}


class Net(nn.Module):
    """Takes images of one side alone, if one is stated."""

    def __init__(self, side: int | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        if self.side is not None and x.shape[2] != self.side:
            raise ValueError(f"Input height ({x.shape[2]}) doesn't match model ({self.side}).")
        result: Tensor = self.conv(x).mean((2, 3))
        return result


def with_attribute(name: str, value: Any) -> nn.Module:
    model: Any = Net().eval()
    setattr(model, name, value)
    return model


def test_what_timm_says_is_taken_up() -> None:
    expected = {
        "size": (224, 256),
        "mean": (0.5,) * 3,
        "std": (0.25,) * 3,
        "fit": "crop",
        "crop": 0.95,
        "interpolation": "bicubic",
    }
    for name in ("pretrained_cfg", "default_cfg"):
        assert preprocessing(with_attribute(name, TIMM)) == expected
    config = types.SimpleNamespace(**TIMM)  # older versions, and what people make of it
    assert preprocessing(with_attribute("pretrained_cfg", config)) == expected
    whole = TIMM | {"crop_pct": 1.0, "interpolation": "bilinear"}
    assert preprocessing(with_attribute("pretrained_cfg", whole)).keys() == {
        "size", "mean", "std", "fit"
    }  # fmt: skip
    for mode, fit in (("squash", "stretch"), ("border", "pad")):
        found = preprocessing(with_attribute("pretrained_cfg", TIMM | {"crop_mode": mode}))
        assert (found["fit"], "crop" in found) == (fit, False)
    wrapped = nn.DataParallel(with_attribute("pretrained_cfg", TIMM))
    assert preprocessing(wrapped) == expected


@pytest.mark.parametrize(
    "config", [None, {}, {"input_size": (3, 224, 224)}, TIMM | {"input_size": 224}, 3]
)
def test_what_says_nothing(config: Any) -> None:
    assert preprocessing(with_attribute("pretrained_cfg", config)) == {}


def test_a_models_own_word_comes_first() -> None:
    model: Any = with_attribute("pretrained_cfg", TIMM)
    model.preprocessing = {"size": 64}
    assert preprocessing(model) == {"size": 64}
    model.preprocessing = {"sise": 64}
    with pytest.raises(ExplgraphError, match=r"model.preprocessing has 'sise'; expected .*size"):
        preprocessing(model)
    model.preprocessing = nn.Identity()  # a step of the network that happens to be called so
    assert preprocessing(model)["size"] == (224, 256)
    with pytest.raises(ExplgraphError, match=r"must be a torch.nn.Module, got str"):
        preprocessing("vgg16")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"mean": ("a", "b", "c"), "std": (1, 1, 1)}, "mean must be three numbers"),
        ({"mean": 0.5, "std": 0.5}, "mean must be three numbers .* got 0.5"),
        ({"std": (0, 0, 0)}, "std must be above 0"),
        ({"mean": (124, 116, 104)}, "mean: it is of colours from 0 to 1.* divided by 255"),
        ({"size": "64"}, "size must be a side"),
        ({"crop": None}, "crop must be a share"),
        ({"channels": "rgb"}, "channels must be a number"),
        ({"interpolation": 3}, "interpolation must be one of"),
    ],
)
def test_what_a_model_says_wrongly_is_told(said: dict[str, Any], message: str) -> None:
    model = with_attribute("preprocessing", {"size": 32} | said)
    for use in (
        preprocessing,
        ready_for,
        lambda model: explgraph.record(model, torch.randn(2, 3, 32, 32), ["conv"]),
    ):
        with pytest.raises(ExplgraphError, match=f"^model.preprocessing: {message}"):
            use(model)


@pytest.mark.parametrize(
    "said",
    [{"input_size": (3, 0, 0)}, {"std": (0, 0, 0)}, {"crop_pct": "a"}, {"mean": (0.5, 0.5)}],
)
def test_what_only_looks_like_timm_s_says_nothing(said: dict[str, Any]) -> None:
    assert preprocessing(with_attribute("pretrained_cfg", TIMM | said)) == {}


def test_a_wrapped_model_may_say_it_itself() -> None:
    wrapped: Any = nn.DataParallel(Net().eval())
    wrapped.preprocessing = {"size": 48}
    assert preprocessing(wrapped) == {"size": 48}
    inner = with_attribute("preprocessing", {"size": 64})
    assert preprocessing(nn.DataParallel(inner)) == {"size": 64}


def test_what_is_implied_need_not_be_said() -> None:
    said = {"size": 32, "mean": [0.1, 0.2], "std": [0.3, 0.4]}
    assert preprocessing(with_attribute("preprocessing", said)) == said | {"channels": 2}
    shared = with_attribute("preprocessing", {"crop": 0.9})
    assert preprocessing(shared) == {"crop": 0.9, "fit": "crop"}
    grey = TIMM | {"input_size": (1, 28, 28), "mean": (0.1,), "std": (0.3,)}
    assert preprocessing(with_attribute("pretrained_cfg", grey))["channels"] == 1
    with pytest.raises(ExplgraphError, match="lacks mean or std; they have 4 numbers each"):
        ready_for(with_attribute("preprocessing", {"channels": 4}))


def test_what_torchvision_says_is_taken_up() -> None:
    values = {
        "crop_size": [224], "resize_size": [256], "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4],
        "interpolation": types.SimpleNamespace(value="bicubic"),
    }  # fmt: skip
    kind = type("ImageClassification", (), values)
    assert of_transforms(kind()) == {
        "size": (224, 224), "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4), "fit": "crop",
        "crop": 0.875, "interpolation": "bicubic",
    }  # fmt: skip
    segmenter = type("SemanticSegmentation", (), values | {"crop_size": None})
    assert of_transforms(segmenter())["size"] == (256, 256)
    assert of_transforms(segmenter())["fit"] == "stretch"
    assert of_transforms(type("ObjectDetection", (), {})()) == {}
    assert of_transforms(None) == {}


def test_a_photograph_is_made_ready_as_torchvision_does(tmp_path: Path) -> None:
    # shorter side to 40 / 0.8 = 50, then the middle 40 x 40, by Pillow alone
    pixels = np.random.default_rng(0).integers(0, 256, (100, 150, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.png")
    resized = Image.fromarray(pixels).resize((75, 50), Image.Resampling.BICUBIC)
    # 39 wide, so that the middle begins at a whole pixel of the resized image
    exact = ImageFolder(tmp_path, size=(40, 39), fit="crop", crop=0.8, interpolation="bicubic")
    near = np.asarray(resized.crop((18, 5, 57, 45)), float)
    inside = np.s_[2:-2, 2:-2]  # at its edges the filter sees no more than is cut out
    np.testing.assert_allclose(np.asarray(exact.picture(0), float)[inside], near[inside], atol=2)
    np.testing.assert_allclose(exact.to_original(0, [[0, 0], [39, 40]]), [[36, 10], [114, 90]])
    again = ImageFolder(tmp_path, **exact.describe())
    assert torch.equal(again[0], exact[0])
    with pytest.raises(ExplgraphError, match=r"crop=0.8 goes with fit=.crop.; got fit='pad'"):
        ImageFolder(tmp_path, fit="pad", crop=0.8)
    with pytest.raises(ExplgraphError, match=r"crop must be a share above 0, 1 at most, got 1.5"):
        ImageFolder(tmp_path, fit="crop", crop=1.5)
    with pytest.raises(ExplgraphError, match="interpolation must be one of bilinear, bicubic"):
        ImageFolder(tmp_path, interpolation="cubic")


def test_the_size_that_a_model_runs_on_is_found() -> None:
    assert image_size(Net().eval()) == (224, 224)
    assert image_size(Net(96).eval()) == (96, 96)
    spectral = nn.Sequential(nn.Conv2d(5, 4, 3)).eval()
    assert image_size(spectral) == image_size(spectral, 5) == (224, 224)
    with pytest.raises(ExplgraphError, match="takes images of 5 channels, and these have 3"):
        image_size(spectral, 3)
    with pytest.raises(ExplgraphError, match=r"none of the usual sizes.*\(77\).*ImageFolder"):
        image_size(Net(77).eval())


def test_the_size_is_found_with_the_channels_that_the_first_convolution_takes() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU()).eval()
    assert image_size(model) == image_size(model, 4) == (224, 224)
    told = r"takes images of 4 channels, and these have 3; give channels=4 \(--channels 4\)"
    with pytest.raises(ExplgraphError, match=told):
        image_size(model, 3)


def test_what_a_model_does_not_say_is_told() -> None:
    with pytest.warns(ExplgraphWarning, match="doesn't say how .* 96 x 96 px, stretched.*0.485"):
        found = ready_for(Net(96).eval())
    assert found == {
        "size": (96, 96), "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "fit": "stretch"
    }  # fmt: skip
    known = with_attribute("pretrained_cfg", TIMM)
    assert ready_for(known, progress=False) == preprocessing(known)
    assert told(ready_for(known, progress=False)) == (
        "224 x 256 px, centre crop 0.95, bicubic, mean 0.5,0.5,0.5, std 0.25,0.25,0.25"
    )


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("white", [255, 65535])
def test_what_is_to_be_said_of_images_that_are_taken_raw(channels: int, white: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, channels, 32, 32, generator=generator) * white
    model: Any = Net().eval()
    with pytest.warns(ExplgraphWarning, match="don't seem to be normalised") as told_of:
        warn_if_unlike(model, images, images)
    remedy = str(told_of[0].message).rpartition("model.preprocessing = ")[2]
    model.preprocessing = eval(remedy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_unlike(model, images, images)


def test_images_unlike_the_models_are_told(tmp_path: Path) -> None:
    known, unknown = with_attribute("pretrained_cfg", TIMM), Net().eval()
    proper = torch.randn(4, 3, 224, 256)
    for model in (known, unknown):
        warn_if_unlike(model, proper, proper)
        with pytest.warns(ExplgraphWarning, match="don't seem to be normalised: values from"):
            warn_if_unlike(model, proper, proper * 60 + 120)
    colours = torch.rand(4, 3, 224, 256)
    warn_if_unlike(unknown, colours, colours)
    with pytest.warns(ExplgraphWarning, match="colours from 0 to 1"):
        warn_if_unlike(known, colours, colours)
    for side in (100, 520):
        other = torch.randn(1, 3, side, side)
        with pytest.warns(ExplgraphWarning, match=f"{side} x {side} px, .* with 224 x 256"):
            warn_if_unlike(known, other, other)
        warn_if_unlike(unknown, other, other)
    for size in ((112, 128), (448, 512)):
        warn_if_unlike(known, proper, torch.randn(1, 3, *size))
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    with pytest.warns(ExplgraphWarning, match=r"by its own word mean=\(0.5, 0.5, 0.5\)"):
        warn_if_unlike(known, ImageFolder(tmp_path), proper)
    warn_if_unlike(known, ImageFolder(tmp_path, **preprocessing(known)), proper)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for k, picture in enumerate(creatures.draw(24, seed=1).images):
        Image.fromarray(picture).save(folder / f"{k:02}.png")
    return folder


def test_a_folder_is_mined_and_parsed_as_the_model_says(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = creatures.network()
    graph = explgraph.mine(model, pictures, ["stage4"])
    assert "as the model says: 112 x 112 px" in capsys.readouterr().err
    images = ImageFolder(pictures, **preprocessing(model))
    assert graph == explgraph.mine(model, images, ["stage4"])
    assert graph.nx.graph["preprocessing"] == images.describe()
    assert graph.whereabouts is not None
    assert Path(graph.whereabouts["folder"]) == pictures
    expected = graph.parse(model, images)
    for source in (pictures, str(pictures), list(creatures.draw(24, seed=1).images)):
        found = graph.parse(model, source)
        np.testing.assert_array_equal(found.positions, expected.positions)
        assert found.has_original


def test_answers_take_a_folder(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = creatures.network()
    graph = explgraph.mine(model, pictures, ["stage4"], progress=False).prune(top=5)
    assert capsys.readouterr().err == ""
    images = ImageFolder(pictures, **preprocessing(model))
    node = graph.node_ids[0]
    one, other = (explgraph.ablate(model, graph, source, [node]) for source in (images, pictures))
    np.testing.assert_array_equal(one.after, other.after)
    graph.parse(model, pictures, out=tmp_path / "places.zarr")
    effects = (explgraph.edge_effects(model, graph, s, progress=False) for s in (images, pictures))
    assert next(effects) == next(effects)
    tree = explgraph.DecisionTree.fit(model, graph, pictures, 0)
    assert tree.explain(pictures / "03.png").score == tree.explain(images.subset([3])).score
    graph.with_images(str(pictures)).write(tmp_path / "page.html")
    graph.write(tmp_path / "other.html", images=pictures)


def test_layers_are_suggested_where_none_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    model, images = network(positive=True), torch.rand(12, 3, SIZE, SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)  # noise has no parts
        graph = explgraph.mine(model, images)
    suggested = explgraph.suggest_layers(explgraph.list_layers(model, SIZE))
    assert {layer.name for layer in graph.layers} == set(suggested)
    assert capsys.readouterr().err == f"layers as suggested: {', '.join(suggested)}\n"
