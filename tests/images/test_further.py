"""Models that take more than images: every image's inputs go where it goes.

The model here multiplies images by one of their inputs, so that all that is said of it is what is
said of a plain one about images that were multiplied before.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_network import TwoLayers, network, pictures
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import explgraph
from explgraph.answers.ablation import ablate
from explgraph.answers.decision_tree import DecisionTree
from explgraph.answers.effects import check_effects, edge_effects
from explgraph.answers.evidence import model_outputs, node_evidence, output_count
from explgraph.answers.rationales import rationales
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.fed_images import FedImages, inputs_of
from explgraph.images.batches import batches, image_names, subset
from explgraph.images.further import WithInputs
from explgraph.visualizing.invert import invert
from explgraph.visualizing.masks import masks
from explgraph.visualizing.maximise import maximise

pytestmark = pytest.mark.usefixtures("one_thread")

N = 80
GAINS = 0.5 + torch.rand(N, generator=torch.Generator().manual_seed(5))


class Gained(TwoLayers):
    """The small network, which wants a number and a note for each image, and something for all."""

    def forward(self, x: Tensor, gain: Tensor, notes: Any, mode: str) -> Any:  # type: ignore[override]
        assert type(x) is type(gain) is Tensor
        assert mode == "times"
        assert gain.shape == (len(x),)
        assert gain.dtype == x.dtype
        # the note says the number, too
        assert [round(float(g), 3) for g in gain] == [float(note) for note in notes]
        return super().forward(x * gain[:, None, None, None])


NOTES = [f"{gain:.3f}" for gain in GAINS.tolist()]


def gained() -> Gained:
    return Gained(positive=True).eval()


class Labelled(Dataset[Any]):
    """Images with labels behind them, as most datasets are."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.names = [f"image {k}" for k in range(len(images))]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> Any:
        return self.images[k], k % 3


def fed(images: Any, which: slice = slice(None)) -> WithInputs:
    return WithInputs(images, gain=GAINS[which], notes=NOTES[which], mode="times")


@pytest.fixture(scope="module")
def setting() -> Any:
    images = pictures(N)
    times = images * GAINS[:, None, None, None]
    plain = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)
        graph = explgraph.mine(plain, times, ["upper", "lower"], seed=0)
    return images, times, plain, graph


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("kind", ["tensor", "dataset", "loader", "list"])
def test_inputs_stay_with_their_images(kind: str, batch_size: int, setting: Any) -> None:
    images, times, plain, _ = setting
    source: Any = {
        "tensor": images,
        "dataset": Labelled(images),
        "loader": DataLoader(Labelled(images), batch_size=3),
        "list": list(images),
    }[kind]
    found = explgraph.record(gained(), fed(source), ["upper"], batch_size=batch_size)
    with torch.no_grad():
        maps = plain.upper(plain.lower(times).relu()).relu()
    torch.testing.assert_close(found.maps[0], maps, rtol=1e-4, atol=1e-5)
    assert type(found.maps[0]) is Tensor
    assert found.names[3] == ("image 3" if kind in ("dataset", "loader") else "03")


def test_mining_and_parsing(setting: Any) -> None:
    images, times, plain, graph = setting
    model = gained()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)
        mined = explgraph.mine(model, fed(images), ["upper", "lower"], seed=0)
    assert mined.node_ids == graph.node_ids
    parse = graph.parse(model, fed(images), batch_size=6)
    expected = graph.parse(plain, times)
    np.testing.assert_allclose(parse.positions, expected.positions, atol=1e-2)
    np.testing.assert_allclose(parse.scores, expected.scores, atol=1e-3)
    some = slice(11, 20)
    part = graph.parse(model, fed(images[some], some))
    np.testing.assert_allclose(part.scores, expected.scores[some], atol=1e-3)


@pytest.mark.parametrize("batch_size", [3, 64])
def test_several_objects(batch_size: int, setting: Any, tmp_path: Any) -> None:
    """Pieces of an image are looked at with what the model takes beside the image."""
    images, _, plain, graph = setting
    some = slice(0, 12)
    small = torch.nn.functional.avg_pool2d(images[:24], (1, 2))
    images = torch.cat([small[:12], small[12:]], 3)
    gains = GAINS[some, None, None, None]
    expected = graph.parse(plain, images * gains, objects=2, batch_size=batch_size)
    assert any("#" in name for name in expected.names)
    held = fed(images, some)
    found = graph.parse(gained(), held, objects=2, batch_size=batch_size)
    stored = graph.parse(gained(), held, objects=2, batch_size=batch_size, out=tmp_path / "p.zarr")
    for parse in (found, stored[:]):
        assert parse.names == expected.names
        np.testing.assert_allclose(parse.frames, expected.frames, atol=1e-3)
        np.testing.assert_allclose(parse.positions, expected.positions, atol=1e-2)
        np.testing.assert_allclose(parse.scores, expected.scores, atol=1e-3)


def arrays(found: Any) -> list[Any]:
    values = found._asdict() if hasattr(found, "_asdict") else vars(found)
    return [v for v in values.values() if isinstance(v, np.ndarray) and v.dtype.kind == "f"]


def test_all_answers(setting: Any) -> None:
    images, times, plain, graph = setting
    some = slice(8, 20)
    mine, usual = (gained(), graph, fed(images[some], some)), (plain, graph, times[some])
    nodes = graph.node_ids[:2]
    for ask in (
        lambda *of: rationales(*of, 1, batch_size=5),
        lambda *of: node_evidence(*of, [0, 2], batch_size=5),
        lambda *of: ablate(*of, nodes, batch_size=5),
        lambda model, _, given: model_outputs(model, given, [1], image_size=(32, 32))[1:],
        lambda *of: check_effects(of[0], edge_effects(*of), of[2], edges=4, batch_size=5),
    ):
        found, expected = ask(*mine), ask(*usual)
        if isinstance(found, tuple) and not hasattr(found, "_asdict"):
            pairs = list(zip(found, expected, strict=True))
        else:
            pairs = list(zip(arrays(found), arrays(expected), strict=True))
        assert pairs
        for one, other in pairs:
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
    assert output_count(mine[0], mine[2]) == 3
    tree = DecisionTree.fit(*mine, 1, positive=[True] * 6 + [False] * 6)
    again = DecisionTree.fit(*usual, 1, positive=[True] * 6 + [False] * 6)
    np.testing.assert_allclose(tree.fitted.scores, again.fitted.scores, rtol=1e-4)
    one = slice(13, 14)
    assert tree.explain(fed(images[one], one)).score == pytest.approx(
        again.explain(times[one]).score, rel=1e-4
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)
        why = graph.explain(mine[0], fed(images[one], one), 2)
        so = graph.explain(plain, times[one], 2)
    assert why.score == pytest.approx(so.score, rel=1e-4)
    np.testing.assert_allclose(why.removal.score, so.removal.score, rtol=1e-3)


def test_bias_and_its_judgement(setting: Any) -> None:
    images, times, plain, graph = setting
    labels = {"a": np.arange(N) % 3 < 1, "b": np.arange(N) % 4 < 2}
    options = {"columns": {"a": 0, "b": 2}, "permutations": 99}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)
        bias = explgraph.find_bias(gained(), graph, fed(images), labels, **options)
        expected = explgraph.find_bias(plain, graph, times, labels, **options)
    np.testing.assert_allclose(bias.own_effects, expected.own_effects, rtol=1e-3, atol=1e-4)
    judged = bias.judge(gained(), fed(images[5:9], slice(5, 9)))
    np.testing.assert_allclose(judged.outputs, expected.judged.outputs[5:9], rtol=1e-4)


@pytest.mark.python311
def test_stores_notice_other_inputs(setting: Any, tmp_path: Any) -> None:
    images, times, plain, graph = setting
    store = explgraph.record(gained(), fed(images), ["upper"], store=tmp_path / "a.zarr")
    usual = explgraph.record(plain, times, ["upper"])
    kept = torch.cat([block.float() for _, block in store.blocks(0, 64)])
    torch.testing.assert_close(kept, usual.maps[0], rtol=1e-2, atol=1e-2)
    explgraph.record(gained(), fed(images), ["upper"], store=tmp_path / "a.zarr")
    other = WithInputs(images, gain=GAINS.flip(0), notes=NOTES[::-1], mode="times")
    with pytest.raises(ExplgraphError, match="other images"):
        explgraph.record(gained(), other, ["upper"], store=tmp_path / "a.zarr")
    parsed = graph.parse(gained(), fed(images), out=tmp_path / "b.zarr")
    expected = graph.parse(plain, times).scores
    np.testing.assert_allclose(parsed[:].scores, expected, atol=1e-3)


def test_photographs_have_inputs(tmp_path: Any) -> None:
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    folder = explgraph.ImageFolder(tmp_path, size=32)
    found = explgraph.record(gained(), fed(folder, slice(0, 3)), ["upper"])
    assert found.names == ("0.png", "1.png", "2.png")
    times = torch.stack([folder[k] * GAINS[k] for k in range(3)])
    expected = explgraph.record(network(), times, ["upper"]).maps[0]
    torch.testing.assert_close(found.maps[0], expected, rtol=1e-4, atol=1e-5)


def test_all_that_is_taken_as_images_has_inputs(tmp_path: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 40, 40, 3), dtype=np.uint8)
    for k, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{k:02}.png")
    model: Any = gained()
    model.preprocessing = {"size": 32, "mean": (0.2,) * 3, "std": (0.3,) * 3}
    some = slice(0, 24)
    folder = explgraph.ImageFolder(tmp_path, **model.preprocessing)
    expected = explgraph.record(model, fed(folder, some), ["upper"]).maps[0]
    files = sorted(tmp_path.iterdir())
    for images in (tmp_path, str(tmp_path), files, pixels, list(pixels)):
        torch.testing.assert_close(
            explgraph.record(model, fed(images, some), ["upper"]).maps[0], expected
        )
    floats = torch.stack([folder[k] for k in range(24)]).numpy()
    found = explgraph.record(model, fed(floats, some), ["upper"]).maps[0]
    torch.testing.assert_close(found, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)
        graph = explgraph.mine(model, fed(tmp_path, some), ["upper"])
        # made ready as the mined images were
        parses = [graph.parse(model, fed(images, some)) for images in (folder, tmp_path)]
    np.testing.assert_array_equal(parses[0].positions, parses[1].positions)
    with pytest.raises(ExplgraphError, match="input 'gain' holds 3 values for 24 images"):
        explgraph.record(model, fed(tmp_path, slice(0, 3)), ["upper"])


def test_some_of_the_images() -> None:
    images = torch.rand(6, 3, 4, 4)
    which = WithInputs(images, a=torch.arange(6), b=list("uvwxyz"), c=None)
    chosen = subset(which, [4, 1, 5], 2)
    (_, first), (_, second) = batches(chosen, 2)
    assert inputs_of(first)[1]["a"].tolist() + inputs_of(second)[1]["a"].tolist() == [4, 1, 5]
    assert inputs_of(second)[1]["b"] == ["z"]
    assert inputs_of(first)[1]["c"] is None
    torch.testing.assert_close(
        torch.cat([inputs_of(first)[0], inputs_of(second)[0]]), images[[4, 1, 5]]
    )
    assert image_names(which) == tuple("012345")
    again = WithInputs(which, d=1.5, c="x")
    assert {k: v for k, v in again.inputs.items() if k in "cd"} == {"c": "x", "d": 1.5}


def test_what_is_done_to_a_batch_keeps_rows_together() -> None:
    ((_, batch),) = batches(WithInputs(torch.rand(4, 3, 5, 5), a=torch.arange(4.0), b=2), 9)
    assert isinstance(batch, FedImages)

    def rows(some: Tensor) -> Any:
        images, further = inputs_of(some)
        assert type(images) is Tensor
        return further["a"].tolist() if further else None

    assert rows(batch[1:3]) == [1, 2]
    assert rows(batch[:1].expand(3, -1, -1, -1)) == [0, 0, 0]
    assert rows(batch[2:3] * torch.rand(2, 1, 5, 5)) == [2, 2]
    for same in (batch.double(), batch.clone(), batch.detach(), batch * 2, batch.contiguous()):
        assert rows(same) == [0, 1, 2, 3]
    assert inputs_of(batch.double())[1]["a"].dtype == torch.float64
    assert rows(batch[[1, 0, 3]]) == [1, 0, 3]
    # whose rows these are isn't known
    assert rows(batch.flip(0)) is rows(batch[torch.tensor([1, 0])]) is None
    assert rows(batch.mean((2, 3))) is None
    assert batch.shape == (4, 3, 5, 5)
    assert type(batch.sum()) is Tensor


def test_layers_are_listed_with_the_first_image_s_inputs(setting: Any) -> None:
    images, _, plain, _ = setting
    model = gained()
    assert explgraph.list_layers(model, 32, images=fed(images)) == explgraph.list_layers(plain, 32)
    assert not model._forward_pre_hooks
    message = r"missing .* arguments.*; what a model takes beside .* explgraph\.WithInputs\(images,"
    with pytest.raises(ExplgraphError, match=message):
        explgraph.list_layers(model, 32)
    with pytest.raises(ExplgraphError, match=message):
        explgraph.record(model, images, ["upper"])


def test_a_model_without_them_is_told(setting: Any) -> None:
    images, _, _, graph = setting
    with pytest.raises(ExplgraphError, match=r"missing .*; what a model takes beside"):
        rationales(gained(), graph, images[:2], 1)


def test_pictures_of_nodes(setting: Any) -> None:
    """Masks cover images that have inputs; images that are drawn have none."""
    images, times, plain, graph = setting
    some, model, node = slice(3, 7), gained(), graph.node_ids[0]
    mine, usual = fed(images[some], some), times[some]
    shown = masks(model, graph, mine, graph.parse(model, mine), node)
    expected = masks(plain, graph, usual, graph.parse(plain, usual), node)
    np.testing.assert_allclose(shown.heat, expected.heat, atol=1e-4)
    for draw in (lambda: maximise(model, graph, mine, node), lambda: invert(model, graph, mine)):
        with pytest.raises(
            ExplgraphError, match=r"further inputs \(gain, notes, mode\), and images"
        ):
            draw()


def test_wrong_inputs() -> None:
    images = torch.rand(4, 3, 4, 4)
    for value in (torch.rand(3), [1, 2, 3], np.arange(5), tuple("abcdef")):
        with pytest.raises(ExplgraphError, match=r"input 'a' holds \d values for 4 images"):
            WithInputs(images, a=value)
    for more in (2, 6):
        loader = DataLoader(list(images), batch_size=2)
        with pytest.raises(ExplgraphError, match="input 'a' holds"):
            list(batches(WithInputs(loader, a=[0.0] * more), 2))
    with pytest.raises(ExplgraphError, match="WithInputs needs what the model takes"):
        WithInputs(images)
    with pytest.raises(ExplgraphError, match=r"mapping; give its images alone.*WithInputs"):
        list(batches({"pixel_values": images}, 2))  # type: ignore[arg-type]
    with pytest.raises(ExplgraphError, match="a tensor without a dimension; give a number"):
        WithInputs(images, a=torch.tensor(1.0))
    assert "a, b beside Tensor" in repr(WithInputs(images, a=[1] * 4, b=2))


def test_datasets_of_tuples_are_as_they_were(setting: Any) -> None:
    """What lies behind images is no input unless it is said."""
    _, times, plain, graph = setting
    found, expected = graph.parse(plain, Labelled(times)), graph.parse(plain, times)
    np.testing.assert_array_equal(found.scores, expected.scores)
