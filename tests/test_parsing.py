"""Parsing: on mined images it gives back what mining found; on others each image stands alone."""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np
import pytest
import readers
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from planted import IMAGE_SIZE, PARTS, plant
from torch import nn

import explgraph
from explgraph import creatures
from explgraph.activations.memory import Activations
from explgraph.activations.recording import record
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.evaluation.metrics import node_tracking
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.images.folder import ImageFolder
from explgraph.mining import mining
from explgraph.mining.mining import mine, mine_activations
from explgraph.parsed import Parse
from explgraph.parsing import parse, parse_activations, parse_evidence

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def planted():
    """A planted world, its graph, and what mining itself found, by layer index."""
    world = plant(50)
    kept = []
    once = mining.mine_layer

    def watched(*args, **options):
        kept.append(once(*args, **options))
        return kept[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mining, "mine_layer", watched)
        graph = mine_activations(world.activations)
    return world, graph, {m.layer.index: m for m in kept}


@pytest.fixture(scope="module")
def network():
    return creatures.network()


@pytest.fixture(scope="module")
def mined(network):
    """Forty creatures and their graph."""
    images = creatures.draw(40, seed=3).tensor()
    return images, mine(network, images, creatures.LAYERS)


def take(activations, images):
    return Activations(
        activations.layers,
        tuple(activations.names[n] for n in images),
        activations.image_size,
        [maps[images] for maps in activations.maps],
        activations.model_fingerprint,
    )


def assert_same(one, other, atol=1e-3, presence=1e-5):
    """Equal parses but for rounding, px."""
    assert one.nodes == other.nodes
    assert one.names == other.names
    assert_allclose(one.scores, other.scores, rtol=1e-4, atol=presence)
    assert_allclose(one.expected, other.expected, atol=atol)
    assert_allclose(one.positions, other.positions, atol=atol)


# ---------------------------------------------------------------------------- on the mined images


def test_parsing_gives_back_what_mining_found(planted):
    world, graph, mined = planted
    found = parse_activations(graph, world.activations)
    mined_at = {i: m.found.read(slice(0, 50)) for i, m in mined.items()}
    for j, a in enumerate(graph.nx.nodes.values()):
        layer = mined[a["layer_index"]]
        positions, scores = mined_at[a["layer_index"]]
        k = layer.fitted.sigma.shape[1]
        v = a["filter"] * k + a["pattern"]
        assert_allclose(found.positions[:, j], positions[:, v], atol=1e-3)
        assert_allclose(found.scores[:, j], scores[:, v], rtol=1e-4, atol=1e-6)


def test_top_images_are_the_best_scores(planted):
    world, graph, _ = planted
    found = parse_activations(graph, world.activations)
    for j, node in enumerate(found.nodes):
        seen = graph.top_images[node]
        order = np.argsort(-found.scores[:, j])
        assert 0 < len(seen) <= len(order)
        assert_allclose([s for *_, s in seen], found.scores[order[: len(seen)], j], rtol=1e-4)
        for name, x, y, score in seen:
            n = found.names.index(name)
            assert_allclose([x, y], found.positions[n, j], atol=1e-3)
            assert score == pytest.approx(found.scores[n, j], rel=1e-4)


def test_the_network_gives_what_its_recording_gives(network, mined):
    images, graph = mined
    found = graph.parse(network, images)
    assert_same(parse_activations(graph, record(network, images, creatures.LAYERS)), found, 0.02)
    assert found.image_size == (112, 112)
    assert found.nodes == graph.node_ids == tuple(graph.nx)
    assert found.names == tuple(f"{i:02d}" for i in range(40))
    for node, seen in graph.top_images.items():
        assert seen[0][3] == pytest.approx(found.scores[:, found.nodes.index(node)].max(), rel=1e-3)


def test_shapes_types_and_where_silent_nodes_are(planted):
    world, graph, _ = planted
    maps = [m.clone() for m in world.activations.maps]
    maps[0][3] = 0  # an image in which the lower layer is silent
    maps[0][5, :16] = 0
    maps[1][7] = 0
    for m in maps:
        m[9] = 0
    found = parse_activations(graph, dataclasses.replace(world.activations, maps=maps))
    n, v = 50, len(graph.node_ids)
    assert found.positions.shape == found.expected.shape == (n, v, 2)
    assert found.scores.shape == (n, v)
    for values in (found.positions, found.expected, found.scores):
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
    silent = found.scores == 0
    low = np.array([a["layer"] == "low" for a in graph.nx.nodes.values()])
    assert silent[3, low].all()
    assert not silent[3, ~low].all()
    assert silent[9].all()
    assert_array_equal(found.positions[silent], found.expected[silent])
    assert (found.scores >= 0).all()


def test_a_nodes_expected_place_is_the_poses_alone(planted):
    """Whatever its own filter shows, which is one of many that tell the pose."""
    world, graph, _ = planted
    found = parse_activations(graph, world.activations)
    maps = [m.clone() for m in world.activations.maps]
    filters = [0, 5, 10, 15]  # one of each part
    maps[0][:, filters] = maps[0][:, filters].flip(0)  # as in other images
    others = parse_activations(graph, dataclasses.replace(world.activations, maps=maps))
    theirs = np.array(
        [a["layer"] == "low" and a["filter"] in filters for a in graph.nx.nodes.values()]
    )
    assert theirs.sum() >= 4
    away = np.linalg.norm(others.expected - found.expected, axis=-1)
    assert away.mean() < 1  # px; parts move by 20
    assert_allclose(others.positions[:, ~theirs], found.positions[:, ~theirs], atol=4)
    assert np.abs(others.positions[:, theirs] - found.positions[:, theirs]).max() > 4
    # and of the other image's part little is left where this one's should be
    assert others.scores[:, theirs].mean() < 0.8 * found.scores[:, theirs].mean()


def test_nodes_can_be_looked_for_in_other_maps_than_the_poses(planted):
    world, graph, _ = planted
    found = parse_activations(graph, world.activations)
    others = dataclasses.replace(
        world.activations, maps=[m.flip(0) for m in world.activations.maps]
    )
    mixed = parse_evidence(graph, world.activations, others)
    assert_array_equal(mixed.expected, found.expected)
    assert mixed.names == found.names
    assert_same(parse_evidence(graph, world.activations, world.activations), found)
    best = [v for v, a in enumerate(graph.nx.nodes.values()) if a["reliability"] > 0.8]
    # parts are 16 px away in mean; measured: 0.63
    assert mixed.scores[:, best].mean() < 0.75 * found.scores[:, best].mean()


# --------------------------------------------------------------------------------- on other images


def test_planted_parts_are_found_in_other_images():
    world = plant(60)
    graph = mine_activations(take(world.activations, range(40)))
    found = parse_activations(graph, take(world.activations, range(40, 60)))
    best = {}
    for j, a in enumerate(graph.nx.nodes.values()):
        key = a["layer"], a["filter"]
        if world.kinds[key[0]][key[1]] in PARTS:
            best.setdefault(key, j)  # a filter's most reliable node comes first
    assert len(best) == 32
    for (layer, c), j in best.items():
        truth = world.parts[world.kinds[layer][c]][40:]
        assert node_tracking(found.positions[:, [j]], truth)[0] > 0.9  # measured: 0.98
        stride = {"low": 8, "top": 16}[layer]
        miss = np.linalg.norm(found.positions[:, j] - truth, axis=-1)
        assert miss.mean() < 0.3 * stride  # measured: 0.15


def test_images_are_parsed_one_by_one_as_all_at_once(planted):
    world, graph, _ = planted
    whole = parse_activations(graph, world.activations)
    for n in (0, 17, 49):
        one = parse_activations(graph, take(world.activations, [n]))
        assert one.names == (whole.names[n],)
        assert_allclose(one.positions[0], whole.positions[n], atol=1e-3)
        assert_allclose(one.expected[0], whole.expected[n], atol=1e-3)
        assert_allclose(one.scores[0], whole.scores[n], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 40])
def test_the_batch_size_does_not_matter(network, mined, batch_size):
    images, graph = mined
    whole = graph.parse(network, images)
    # the network itself rounds differently, by about 1e-6 of an activation
    found = graph.parse(network, images, batch_size=batch_size)
    assert_same(found, whole, atol=0.02, presence=1e-3)


def test_a_pruned_graphs_nodes_stay_where_they_are(planted):
    world, graph, _ = planted
    whole = parse_activations(graph, world.activations)
    for kept in (graph.prune(top=7), graph.prune(min_reliability=0.2), graph.subgraph(["low"])):
        assert 0 < len(kept.node_ids) < len(graph.node_ids)
        found = parse_activations(kept, world.activations)
        columns = [whole.nodes.index(v) for v in kept.node_ids]
        assert found.nodes == kept.node_ids
        assert_array_equal(found.positions, whole.positions[:, columns])
        assert_array_equal(found.expected, whole.expected[:, columns])
        assert_array_equal(found.scores, whole.scores[:, columns])


def test_a_graph_without_nodes_gives_an_empty_parse(planted):
    world, graph, _ = planted
    found = parse_activations(graph.prune(top=0), world.activations)
    assert found.nodes == ()
    assert found.positions.shape == (50, 0, 2)
    assert found.scores.shape == (50, 0)


def test_a_saved_graph_parses_the_same(planted, tmp_path):
    world, graph, _ = planted
    graph.save(tmp_path / "g.explgraph")
    again = explgraph.load(tmp_path / "g.explgraph")
    assert again == graph
    one, other = (parse_activations(g, world.activations) for g in (again, graph))
    assert one.nodes == other.nodes
    assert_array_equal(one.positions, other.positions)
    assert_array_equal(one.expected, other.expected)
    assert_array_equal(one.scores, other.scores)


def test_parsing_changes_nothing(planted):
    world, graph, _ = planted
    fitted = {name: values.copy() for name, values in graph.fitted.items()}
    maps = [m.clone() for m in world.activations.maps]
    parse_activations(graph, world.activations)
    for name, values in graph.fitted.items():
        assert_array_equal(values, fitted[name])
    for m, old in zip(world.activations.maps, maps, strict=True):
        assert_array_equal(m, old)


# ------------------------------------------------------------------------------ what doesn't fit


class Small(nn.Module):
    """A network whose layers have creatures' names."""

    def __init__(self, channels=64, stride=2, first="stage2"):
        super().__init__()
        widths = {"stage2": 40, "stage3": 80, "stage4": channels}
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        before = 8
        for name, width in widths.items():
            conv = nn.Conv2d(before, width, 3, stride, 1)
            self.add_module(name if name != "stage2" else first, conv)
            before = width

    def forward(self, x):
        for module in self.children():
            x = module(x)
        return x


def refused(graph, model, images, match):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)  # other weights
        with pytest.raises(ExplgraphError, match=match):
            parse(model, graph, images)


def test_other_weights_only_warn(network, mined):
    images, graph = mined
    other = creatures.network(pretrained=False).eval()
    with pytest.warns(ExplgraphWarning, match="weights are not those that the graph was mined"):
        found = graph.parse(other, images[:1])
    assert np.isfinite(found.positions).all()
    with pytest.warns(ExplgraphWarning, match="weights are not those that the graph was mined"):
        again = parse_activations(graph, record(other, images[:1], creatures.LAYERS))
    assert_same(again, found, 0.02)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph.parse(network, images[:1])


def test_a_graph_that_knows_no_weights_does_not_warn(mined):
    images, graph = mined
    unknown = graph.prune()
    unknown.nx.graph["model_fingerprint"] = ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unknown.parse(creatures.network(pretrained=False).eval(), images[:1])


def test_a_model_without_the_layer_is_refused(mined):
    images, graph = mined
    refused(graph, Small(first="stage_2").eval(), images, r"no layer 'stage2'.*stage_2")


def test_a_model_with_other_channels_is_refused(mined):
    images, graph = mined
    channels = graph.layers[2].channels
    refused(
        graph,
        Small(channels=channels + 1).eval(),
        images,
        rf"layer 'stage4' gives \({channels + 1}, 7, 7\) per image, .*\({channels}, 7, 7\)",
    )


def test_a_model_with_another_grid_is_refused(mined):
    images, graph = mined
    model = Small(graph.layers[2].channels, stride=1).eval()
    refused(
        graph, model, images, r"layer 'stage2' gives \(40, 56, 56\) per image, .*\(40, 28, 28\)"
    )


def test_images_of_another_size_are_refused(network, mined):
    _, graph = mined
    images = creatures.draw(2, size=64).tensor()
    refused(graph, network, images, "64 x 64 px, expected 112 x 112")


@pytest.mark.parametrize(("height", "width"), [(111, 111), (109, 112), (112, 110)])
def test_images_of_nearly_the_same_size_are_refused(network, mined, height, width):
    """They give maps of the same shape."""
    images, graph = mined
    refused(graph, network, images[:2, :, :height, :width], rf"{height} x {width}.*112 x 112")


def test_activations_of_another_image_size_are_refused(planted):
    world, graph, _ = planted
    other = dataclasses.replace(world.activations, image_size=(64, 96))
    with pytest.raises(ExplgraphError, match=r"64 x 96.*128 x 192"):
        parse_activations(graph, other)


def test_a_model_in_training_mode_is_refused(mined):
    images, graph = mined
    model = creatures.network()
    model.stage3.train()
    refused(graph, model, images, r"evaluation mode.*'stage3'.*model\.eval\(\)")


def test_images_that_are_none_are_refused(network, mined):
    images, graph = mined
    refused(graph, network, images[:0], "images is empty")
    spoilt = images[:2].clone()
    spoilt[1, 0, 3, 3] = math.nan
    refused(graph, network, spoilt, "image '1' has pixels that are NaN")
    with pytest.raises(ExplgraphError, match="batch_size must be a whole number above 0, got 0"):
        graph.parse(network, images, batch_size=0)


def test_activations_of_other_layers_are_refused(planted):
    world, graph, _ = planted
    other = plant(3, strides={"low": 8})
    with pytest.raises(ExplgraphError, match="other layers than the graph's"):
        parse_activations(graph, other.activations)
    renamed = tuple(
        dataclasses.replace(layer, name=layer.name + "_") for layer in world.activations.layers
    )
    with pytest.raises(ExplgraphError, match="other layers than the graph's"):
        parse_activations(graph, dataclasses.replace(world.activations, layers=renamed))


def test_a_graph_that_lost_its_parameters_is_refused(planted):
    world, graph, _ = planted
    empty = ExplanatoryGraph(graph.nx)
    with pytest.raises(ExplgraphError, match=r"lacks the parameter '.*', so it can't be parsed"):
        parse_activations(empty, world.activations)
    for name in graph.fitted:
        less = ExplanatoryGraph(graph.nx, {k: v for k, v in graph.fitted.items() if k != name})
        with pytest.raises(ExplgraphError, match=f"lacks the parameter '{name}'"):
            parse_activations(less, world.activations)


# ----------------------------------------------------------------------- original pictures, tables


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of several sizes, each one a creature that was stretched to it."""
    path = tmp_path_factory.mktemp("pictures")
    sizes = [(112, 112), (224, 112), (168, 280), (90, 130), (300, 200)]
    drawn = creatures.draw(len(sizes), seed=9)
    for i, (pixels, size) in enumerate(zip(drawn.images, sizes, strict=True)):
        Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path / f"{i}.png")
    return path, sizes


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_to_original(network, mined, folder, fit):
    path, sizes = folder
    images = ImageFolder(path, size=112, mean=creatures.MEAN, std=creatures.STD, fit=fit)
    found = mined[1].parse(network, images)
    assert found.names == tuple(f"{i}.png" for i in range(5))
    original = found.to_original()
    assert original.shape == found.positions.shape
    assert_array_equal(
        found.to_original(found.expected)[2], images.to_original(2, found.expected[2])
    )
    for i, (width, height) in enumerate(sizes):
        # by hand, about the middles: all of it, the largest square, or a square around it
        scale = {
            "stretch": np.array([width, height]) / 112,
            "crop": np.full(2, min(width, height)) / 112,
            "pad": np.full(2, max(width, height)) / 112,
        }[fit]
        by_hand = (found.positions[i] - 56) * scale + np.array([width, height]) / 2
        assert_allclose(original[i], by_hand, atol=1.01 * scale.max())  # whole pixels of 112
    # and back again
    corners = np.tile([[0.0, 0.0], [112.0, 112.0]], (5, 1, 1))
    if fit == "stretch":
        assert_allclose(found.to_original(corners)[:, 1], sizes)


def test_stretched_pictures_keep_their_parts(network, mined, folder):
    """The network sees nearly the same picture: nodes sit at the same share of the photograph."""
    path, sizes = folder
    images = ImageFolder(path, size=112, mean=creatures.MEAN, std=creatures.STD)
    found = mined[1].parse(network, images)
    plain = mined[1].parse(network, creatures.draw(5, seed=9).tensor())
    share = found.to_original() / np.array(sizes)[:, None]
    reliability = np.array([a["reliability"] for a in mined[1].nx.nodes.values()])
    best = np.argsort(-reliability)[:50]
    miss = np.abs(share - plain.positions / 112)[:, best]
    assert np.median(miss) < 0.01  # of the side; measured: 0.001


def test_to_original_needs_photographs(network, mined, folder):
    images, graph = mined
    found = graph.parse(network, images[:2])
    with pytest.raises(ExplgraphError, match=r"parse an explgraph\.ImageFolder"):
        found.to_original()
    pictures = ImageFolder(folder[0], size=112, mean=creatures.MEAN, std=creatures.STD)
    found = graph.parse(network, pictures)
    with pytest.raises(ExplgraphError, match=r"N = 5, got \(2, 3, 2\)"):
        found.to_original(np.zeros((2, 3, 2)))


def test_to_frame(planted):
    pandas = pytest.importorskip("pandas")
    world, graph, _ = planted
    found = parse_activations(graph, world.activations)
    frame = found.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    columns = ["image", "node", "x", "y", "expected_x", "expected_y", "score"]
    assert list(frame.columns) == columns  # too few filters tell the pose for `pose_fit`
    assert len(frame) == 50 * len(graph.node_ids)
    rng = np.random.default_rng(0)
    indexed = frame.set_index(["image", "node"])
    for _ in range(20):
        n, v = rng.integers(50), rng.integers(len(graph.node_ids))
        row = indexed.loc[(found.names[n], found.nodes[v])]
        wanted = [*found.positions[n, v], *found.expected[n, v], found.scores[n, v]]
        assert_array_equal(row.to_numpy(dtype=np.float32), wanted)


def test_parse_runs_without_gradients(planted):
    world, graph, _ = planted
    with torch.enable_grad():
        found = parse_activations(graph, world.activations)
    assert isinstance(found.positions, np.ndarray)
    assert found.image_size == IMAGE_SIZE


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet", ".npz"])
def test_a_parse_goes_to_a_file_and_back(mined, folder, tmp_path, suffix):
    readers.needed(suffix)
    images, graph = mined
    pictures = ImageFolder(folder[0], size=112, mean=creatures.MEAN, std=creatures.STD)
    for given in (images[:3], pictures):
        found = graph.parse(creatures.network(), given)
        file = tmp_path / f"places{suffix}"
        found.write(file)
        again = Parse.read(file, given if given is pictures else None)
        for name in ("nodes", "names", "image_size"):
            assert getattr(again, name) == getattr(found, name)
        for name in ("positions", "expected", "scores"):
            assert getattr(again, name).dtype == np.float32
            assert_array_equal(getattr(again, name), getattr(found, name))
        with pytest.raises(ExplgraphError, match=r"give the photographs that were parsed"):
            Parse.read(file, pictures.subset([1, 0]))
        if suffix == ".npz":
            continue
        table = readers.frame(file)
        assert_allclose(table["score"], found.scores.ravel(), rtol=1e-6)
        assert set(zip(table["height"], table["width"], strict=True)) == {(112, 112)}
        assert list(table["node"][: len(found.nodes)]) == list(found.nodes)
        if given is pictures:
            assert_allclose(table["photo_x"], found.to_original()[..., 0].ravel(), rtol=1e-6)
            assert_array_equal(again.to_original(), found.to_original())
        else:
            assert "photo_x" not in table


def test_files_that_hold_no_parse(mined, tmp_path):
    images, graph = mined
    file = tmp_path / "places.csv"
    graph.parse(creatures.network(), images[:2]).write(file)
    head, *lines = file.read_text().splitlines()
    for wrong, message in (
        ([head, *lines[1:]], "expected each of the one once with each of the other"),
        ([head.replace("score", "scores"), *lines], "lacks the column 'score'"),
        ([head, *lines[:-1], lines[-1][:-3] + "224"], "images of several sizes"),
        ([head, *(line.replace(",112,112", ",-1,112") for line in lines)], "score below 0, or a"),
    ):
        file.write_text("\n".join(wrong))
        with pytest.raises(ExplgraphError, match=message):
            Parse.read(file)
    with pytest.raises(ExplgraphError, match=r"suffix '\.txt'; expected one of .*\.npz"):
        Parse.read(tmp_path / "places.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"can't be read as \.npz: .*No such file"),
        (b"PK\x03\x04", r"can't be read as \.npz"),
        (b"", r"can't be read as \.npz"),
        ({"names": None}, "lacks the array 'names'"),
        ({"nodes": np.array(["a", {}])}, r"can't be read as \.npz: Object arrays"),
        ({"scores": np.ones((1, 2))}, r"scores is float64 \(1, 2\); expected .* \(1, 1\)"),
        ({"scores": np.full((1, 1), np.nan)}, r"scores is .* expected finite"),
        ({"names": np.ones(1)}, r"names is float64"),
    ],
)
def test_arrays_that_are_no_parse(tmp_path, content, message):
    file = tmp_path / "places.npz"
    places = np.ones((1, 1, 2))
    whole = {"nodes": ["a"], "names": ["x"], "positions": places, "expected": places,
             "scores": np.ones((1, 1)), "image_size": [2, 3]}  # fmt: skip
    if isinstance(content, dict):
        np.savez(file, **{k: v for k, v in (whole | content).items() if v is not None})
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(ExplgraphError, match=message):
        Parse.read(file)
