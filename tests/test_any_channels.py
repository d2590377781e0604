"""Networks of other channels than three, from end to end: every answer, drawing and command.

The truth is the network of red, green and blue. One of more channels gets its colours in another
order and rubbish in the others, which its first convolution gives no weight; one of a single
channel has the sum of its weights, and grey images. So all answers must be the same.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import explgraph
from explgraph import creatures
from explgraph.answers.evidence import node_evidence
from explgraph.cli import entry as cli
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.views import figures
from explgraph.views.filters import filter_figure
from explgraph.views.part_figure import part_figure
from explgraph.views.remembered import remembered
from explgraph.views.visualized import answers_figure, as_colours, inversion_figure
from explgraph.visualizing.invert import invert
from explgraph.visualizing.masks import masks
from explgraph.visualizing.maximise import maximise

ORDER = {4: [2, 0, None, 1], 6: [None, 1, None, 0, 2, None], 1: []}
LAYERS = ["stage4", "stage3"]
SEED = 5
N = 36
SIZE = 64


def network_of(channels: int) -> nn.Module:
    """The creatures' network for so many channels; `explgraph` finds it as a model, too."""
    model = creatures.network()
    first = model.stage1[0]
    other = nn.Conv2d(channels, 24, 3, 2, 1, bias=False)
    with torch.no_grad():
        other.weight.zero_()
        if channels == 1:
            other.weight.copy_(first.weight.sum(1, keepdim=True))
        for k, colour in enumerate(ORDER.get(channels, [])):
            if colour is not None:
                other.weight[:, k] = first.weight[:, colour]
    model.stage1[0] = other
    return model.eval()


def four() -> nn.Module:
    """For ``--model``."""
    return network_of(4)


def arranged(pictures: np.ndarray, channels: int) -> np.ndarray:
    """Colours (N, H, W, 3) from 0 to 1 as images of so many channels."""
    if channels == 1:
        return pictures[..., :1]
    rubbish = np.random.default_rng(SEED).random((*pictures.shape[:3], channels))
    for k, colour in enumerate(ORDER[channels]):
        if colour is not None:
            rubbish[..., k] = pictures[..., colour]
    return rubbish


class World(NamedTuple):
    """A network, images as it takes them, what was mined, and the same of three channels."""

    channels: int
    model: nn.Module
    images: torch.Tensor
    graph: explgraph.ExplanatoryGraph
    usual: nn.Module
    usual_images: torch.Tensor
    usual_graph: explgraph.ExplanatoryGraph


def tensors(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy((values - 0.5) / 0.25).permute(0, 3, 1, 2).float().contiguous()


@pytest.fixture(scope="module", params=[1, 4], ids=["1 channel", "4 channels"])
def world(request: Any, one_thread: Any) -> World:  # noqa: ARG001
    pictures = creatures.draw(N, seed=SEED, size=SIZE).images / 255
    if request.param == 1:
        pictures = np.repeat(pictures.mean(-1, keepdims=True), 3, -1)
    model, usual = network_of(request.param), creatures.network()
    images, usual_images = tensors(arranged(pictures, request.param)), tensors(pictures)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)
        graph = explgraph.mine(model, images, LAYERS, seed=0)
        usual_graph = explgraph.mine(usual, usual_images, LAYERS, seed=0)
    return World(request.param, model, images, graph, usual, usual_images, usual_graph)


def test_layers_are_listed(world: World) -> None:
    told = explgraph.list_layers(world.model, SIZE)
    assert told == explgraph.list_layers(world.usual, SIZE)
    assert told == explgraph.list_layers(world.model, SIZE, channels=world.channels)
    with pytest.raises(ExplgraphError, match=r"fails on images of size .5, 64, 64\)"):
        explgraph.list_layers(world.model, SIZE, channels=5)


def test_graphs_and_parses_are_the_same(world: World) -> None:
    assert world.graph.layers == world.usual_graph.layers
    assert world.graph.node_ids == world.usual_graph.node_ids
    mine = world.graph.parse(world.model, world.images[:12])
    usual = world.usual_graph.parse(world.usual, world.usual_images[:12])
    np.testing.assert_allclose(mine.positions, usual.positions, atol=0.05)
    np.testing.assert_allclose(mine.scores, usual.scores, atol=0.01)


def test_answers_are_the_same(world: World) -> None:
    some = slice(0, 12)
    graph = world.graph.prune(top=16)
    fewer = same(graph, world)
    images, usual_images = world.images[some], world.usual_images[some]
    np.testing.assert_allclose(
        explgraph.ablate(world.model, graph, images, graph.node_ids[:3]).after,
        explgraph.ablate(world.usual, fewer, usual_images, graph.node_ids[:3]).after,
        rtol=1e-3, atol=1e-3,
    )  # fmt: skip
    np.testing.assert_allclose(
        node_evidence(world.model, graph, images, [0, 5]).values,
        node_evidence(world.usual, fewer, usual_images, [0, 5]).values,
        rtol=1e-3, atol=1e-3,
    )  # fmt: skip
    ours = explgraph.edge_effects(world.model, graph, images, classes={"first": 0})
    theirs = explgraph.edge_effects(world.usual, fewer, usual_images, classes={"first": 0})
    for node in graph.node_ids:
        a, b = (g.nx.nodes[node]["effect_on_first"] for g in (ours, theirs))
        assert a == pytest.approx(b, rel=1e-2, abs=1e-3)
    tree = explgraph.DecisionTree.fit(world.model, graph, world.images, 0, layer="stage4")
    usual = explgraph.DecisionTree.fit(world.usual, fewer, world.usual_images, 0, layer="stage4")
    one, two = tree.explain(images[:1]), usual.explain(usual_images[:1])
    assert one.contributions == pytest.approx(two.contributions, rel=1e-2, abs=1e-2)
    labels = creatures.draw(N, seed=SEED).attributes
    names = list(labels)[:2]
    found = explgraph.find_bias(
        world.model, graph, world.images, {n: labels[n] for n in names},
        columns={n: creatures.OUTPUTS.index(n) for n in names}, permutations=99,
    )  # fmt: skip
    assert found.attributes == tuple(names)


def same(graph: explgraph.ExplanatoryGraph, world: World) -> explgraph.ExplanatoryGraph:
    """The nodes of a graph in the graph of three channels."""
    return world.usual_graph.restricted(world.usual_graph.nx.subgraph(graph.node_ids))


def test_an_explanation_is_the_same(world: World) -> None:
    ours = world.graph.explain(world.model, world.images[0])
    theirs = world.usual_graph.explain(world.usual, world.usual_images[0])
    assert ours.score == pytest.approx(theirs.score, rel=1e-4)
    assert [row.part for row in ours.rows] == [row.part for row in theirs.rows]
    np.testing.assert_allclose(
        [row.contribution for row in ours.rows], [row.contribution for row in theirs.rows],
        rtol=1e-2, atol=1e-3,
    )  # fmt: skip
    assert ours.picture.shape == (SIZE, SIZE, 3)


def test_what_nodes_answer_to(world: World, tmp_path: Path) -> None:
    graph, images = world.graph, world.images[:3]
    parse = graph.parse(world.model, images)
    what = graph.parts[0].id
    shown = as_colours(graph, images.numpy())
    assert shown.shape == (3, SIZE, SIZE, 3)
    heat = masks(world.model, graph, images, parse, what)
    usual = masks(
        world.usual, world.usual_graph, world.usual_images[:3],
        world.usual_graph.parse(world.usual, world.usual_images[:3]), what,
    )  # fmt: skip
    np.testing.assert_allclose(heat.heat, usual.heat, atol=0.02)
    optimised = maximise(world.model, graph, images, what, steps=2)
    assert optimised.image.shape == (world.channels, SIZE, SIZE)
    inverted = invert(world.model, graph, images[:1], steps=2)
    assert as_colours(graph, inverted.images).shape == (1, SIZE, SIZE, 3)
    answers_figure(graph, what, shown, parse, masks=heat, optimised=optimised)
    inversion_figure(graph, inverted, shown[:1])
    layer, number = graph.nx.nodes[graph.node_ids[0]]["layer"], graph.nx.nodes[graph.node_ids[0]]
    filter_figure(world.model, graph, images[:1], shown[:1], layer, number["filter"],
                  path=tmp_path / "filter.png")  # fmt: skip
    assert (tmp_path / "filter.png").is_file()


def test_wrong_channels_are_told(world: World) -> None:
    other = torch.zeros(2, world.channels + 1, SIZE, SIZE)
    told = f"fails on images of size .{world.channels + 1}, 64, 64."
    for use in (
        lambda: world.graph.parse(world.model, other),
        lambda: world.graph.explain(world.model, other[0]),
        lambda: explgraph.ablate(world.model, world.graph, other, world.graph.node_ids[:1]),
        lambda: explgraph.edge_effects(world.model, world.graph, other),
        lambda: explgraph.mine(world.model, other, LAYERS),
    ):
        with pytest.raises(ExplgraphError, match=told):
            use()
    mixed = [torch.zeros(world.channels, SIZE, SIZE), other[0]]
    with pytest.raises(ExplgraphError, match="different channels: '1' has"):
        world.graph.parse(world.model, mixed)


# ------------------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    """Creatures as arrays of four bands and 16 bits, (4, H, W)."""
    place: Path = tmp_path_factory.mktemp("bands")
    for i, image in enumerate(arranged(creatures.draw(N, seed=SEED).images / 255, 4)):
        np.save(place / f"{i}.npy", np.rint(np.moveaxis(image, -1, 0) * 65535).astype(np.uint16))
    return place


READY = {
    "size": 112, "channels": 4, "mean": [0.5] * 4, "std": [0.25] * 4, "shown": [1, 3, 0],
    "window": [0, 1],
}  # fmt: skip


@pytest.fixture(scope="module")
def mined(folder: Path, one_thread: Any) -> explgraph.ExplanatoryGraph:  # noqa: ARG001
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)
        return explgraph.mine(four(), explgraph.ImageFolder(folder, **READY), LAYERS, seed=0)


def test_pictures_of_files_are_the_creatures(
    folder: Path, mined: explgraph.ExplanatoryGraph, tmp_path: Path
) -> None:
    """Chosen channels show true colours, from remembered files, too."""
    true = creatures.draw(N, seed=SEED).images
    images = explgraph.ImageFolder(folder, **READY)
    for i in (0, 7):
        seen = np.asarray(images.picture(images.names.index(f"{i}.npy"))).astype(int)
        assert np.abs(seen - true[i]).max() <= 1
    mined.save(tmp_path / "a.explgraph")
    again = explgraph.load(tmp_path / "a.explgraph")
    assert again.nx.graph["preprocessing"] == images.describe()
    kept = remembered(again)
    assert kept is not None
    name = kept.names[0]
    assert torch.equal(kept[0], images[images.names.index(name)])
    seen = np.asarray(kept.picture(0)).astype(int)
    assert np.abs(seen - true[int(Path(name).stem)]).max() <= 1
    found = again.explain(four(), folder / name)
    assert np.abs(found.picture.astype(int) - true[int(Path(name).stem)]).max() <= 1
    again.draw(tmp_path / "a.svg", most=4)
    again.write(tmp_path / "a.html")
    assert "data:image/" in (tmp_path / "a.html").read_text(encoding="utf-8")
    parse = again.parse(four(), images)
    part_figure(again, parse, images)
    figures.patches(again, again.node_ids[0], images)


def test_a_part_is_located(folder: Path, mined: explgraph.ExplanatoryGraph) -> None:
    drawn = creatures.draw(N, seed=SEED)
    images = explgraph.ImageFolder(folder, **READY)
    order = [int(Path(name).stem) for name in images.names]
    truth = drawn.parts["head"][order]
    parse = mined.parse(four(), images)
    marks = np.where(np.arange(N)[:, None] < 10, truth, np.nan)
    located = explgraph.Localizer(mined).fit(parse, {"head": marks}).predict(parse)
    miss = np.linalg.norm(located.positions["head"][10:] - truth[10:], axis=1)
    still = np.linalg.norm(truth[:10].mean(0) - truth[10:], axis=1)
    assert np.nanmedian(miss) < 0.5 * np.nanmedian(still)


def test_commands(folder: Path, tmp_path: Path, capsys: Any) -> None:
    model = ["--model", "tests.test_any_channels:four"]
    ready = ["--images", str(folder), "--size", "112", "--channels", "4", "--mean", "0.5", "--std",
             "0.25", "--shown", "1,3,0", "--window", "0,1"]  # fmt: skip

    def run(*arguments: Any) -> tuple[int, str]:
        code = cli.main([*map(str, arguments), "--quiet"])
        said = capsys.readouterr()
        return code, said.out + said.err

    assert run("mine", *ready, *model, "--layers", "stage4", "--out", tmp_path / "out",
               "--formats", "html")[0] == 0  # fmt: skip
    graph = explgraph.load(tmp_path / "out" / "graph.explgraph")
    told = graph.nx.graph["preprocessing"]
    assert (told["channels"], told["mean"], told["shown"]) == (4, [0.5] * 4, [1, 3, 0])
    assert told["window"] == [[0, 1]] * 4
    saved = tmp_path / "out" / "graph.explgraph"
    # later commands need not be told
    code, _ = run("parse", saved, "--images", folder, *model, "--out", tmp_path / "places.csv")
    assert code == 0
    code, _ = run("explain", saved, folder / "0.npy", *model, "--out", tmp_path / "why")
    assert code == 0
    assert json.loads((tmp_path / "why" / "0.json").read_text())["image"] == "0.npy"
    code, said = run("mine", *ready[:6], *model, "--layers", "stage4", "--out", tmp_path / "b")
    assert code == 1
    assert "mean and std must be given, 4 numbers each" in said
    code, said = run("mine", *ready[:4], *model, "--layers", "stage4", "--out", tmp_path / "b")
    assert code == 1
    assert "arrays are read if you say which channels they have: channels=3 (--channels)" in said
