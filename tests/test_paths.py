"""Paths and other arguments that can't be what they should: told in our words."""

import os

import numpy as np
import pytest
import torch

import explgraph
from explgraph import creatures
from explgraph.answers.ablation import ablate_parts
from explgraph.errors import ExplgraphError
from explgraph.evaluation.landmarks import read_landmarks
from explgraph.explaining.intervene import is_output
from explgraph.graph.labels import read_labels
from explgraph.images.ready import made_ready
from explgraph.network.models import load_model
from explgraph.paths import checked_path
from explgraph.textfiles import read_text
from explgraph.views.viewer import page
from explgraph.visualizing.invert import invert
from explgraph.visualizing.masks import masks
from explgraph.visualizing.maximise import maximise

pytestmark = pytest.mark.usefixtures("one_thread")

READY = {"size": (24, 32), "mean": (0.5,) * 3, "std": (1.0,) * 3, "fit": "stretch"}
WRONG = [3.5, None, b"a", "", "a\0b", "a" * 300, "b/" + "é" * 200, "a\ud800"]


@pytest.mark.parametrize("path", WRONG, ids=lambda p: repr(p)[:12])
def test_what_can_be_no_path_is_refused(path):
    for use in (
        checked_path,
        explgraph.load,
        explgraph.ImageFolder,
        explgraph.Parse.read,
        read_landmarks,
    ):
        with pytest.raises(ExplgraphError, match=r"must be a path|can be called|at most"):
            use(path)


def test_good_paths_stay_what_they_are(tmp_path):
    for path in (tmp_path, str(tmp_path), tmp_path / ("é" * 100)):
        assert str(checked_path(path)) == str(path)


PIPES = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")


@PIPES
@pytest.mark.parametrize(
    "use",
    [
        explgraph.load,
        explgraph.Parse.read,
        read_text,
        read_labels,
        lambda path: load_model("explgraph.creatures:network", weights=path),
        lambda path: made_ready(path, "x", **READY),
    ],
    ids=["graph", "parse", "text", "labels", "weights", "image"],
)
def test_pipes_are_not_waited_for(tmp_path, use):
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(ExplgraphError, match=r"pipe\.npz' is a pipe; give a file|'x' is a pipe"):
        use(tmp_path / "pipe.npz")


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="the system has no such devices")
def test_devices_are_not_read():
    for use in (explgraph.load, read_text):
        with pytest.raises(ExplgraphError, match="'/dev/zero' is a device or a socket; give a f"):
            use("/dev/zero")


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="the system has no /dev/fd")
def test_what_a_shell_pipes_in_is_text():
    there, here = os.pipe()
    os.write(here, b"a,b\n")
    os.close(here)
    try:
        assert read_text(f"/dev/fd/{there}") == "a,b\n"
    finally:
        os.close(there)


@pytest.fixture(scope="module")
def mined():
    network = creatures.network()
    images = creatures.draw(12, seed=0).tensor()
    return network, images, explgraph.mine(network, images, creatures.LAYERS)


def test_graphs_are_not_written_there(mined):
    for path in ("a\0b.explgraph", "a" * 300 + ".html", 7):
        for write in (mined[2].save, mined[2].write):
            with pytest.raises(ExplgraphError):
                write(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.to_sparse(),
        lambda x: x.to("meta"),
        lambda x: torch.nested.nested_tensor([x[0], x[1]]),
        lambda x: [x[0].to_sparse()],
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_images_that_hold_no_plain_values_are_refused(mined, change):
    network, images, graph = mined
    with pytest.raises(ExplgraphError, match="images must be plain tensors"):
        graph.parse(network, change(images))


def test_devices_sizes_filters_and_numbers(mined):
    network, images, graph = mined
    with pytest.raises(ExplgraphError, match="device None isn't known"):
        graph.parse(network, images, device=None)
    for size in ("a", 2.5, (4,), 60_000, 0):
        with pytest.raises(ExplgraphError, match="image_size must be"):
            explgraph.list_layers(network, size)
    with pytest.raises(ExplgraphError, match="filter must be a whole number, got 'a'"):
        graph.nodes_of("stage2", filter="a")
    for wrong in ("a", 1.0, True, -1, 5, None):
        assert not is_output(wrong, 5)
    assert is_output(np.int64(4), 5)


def test_numbers_of_numpy_are_numbers(mined):
    network, images, _ = mined
    settings = explgraph.Settings(apart=np.float32(0.25), sample=np.int64(100))
    assert settings == explgraph.Settings(apart=0.25, sample=100)
    assert type(settings.sample) is int
    graph = explgraph.mine(network, images, creatures.LAYERS, seed=np.int64(3))
    assert type(graph.nx.graph["seed"]) is int


def test_numbers_of_numpy_say_the_same_of_images(mined):
    network, images, graph = mined
    two = np.int64(2)
    node = graph.node_ids[0]
    found = maximise(network, graph, images, node, steps=two, seed=np.int64(1))
    same = maximise(network, graph, images, node, steps=2, seed=1)
    np.testing.assert_array_equal(found.image, same.image)
    parse = graph.parse(network, images[:2], batch_size=two)
    assert parse.positions.shape[0] == 2
    few = graph.restricted(graph.node_ids[:3])
    assert len(invert(network, few, images[:1], steps=two).images) == 1


@pytest.mark.parametrize("seed", ["a", 2**70, -1, True, 1.0, None])
def test_seeds(mined, seed):
    network, images, graph = mined
    for use in (
        lambda: graph.explain(network, images[0], seed=seed),
        lambda: maximise(network, graph, images, graph.node_ids[0], seed=seed),
        lambda: explgraph.mine(network, images, creatures.LAYERS, seed=seed),
    ):
        with pytest.raises(ExplgraphError, match=r"seed must be a whole number from 0 to .*, got"):
            use()


def test_arguments_of_other_kinds(mined, tmp_path):
    network, images, graph = mined
    node = graph.node_ids[0]
    for use, told in (
        (lambda: graph.explain(network, "a" * 5000), "image has a name of 5000 characters"),
        (lambda: graph.explain(network, ""), "image is '', which no file can be called"),
        (lambda: graph.explain(network, images[0], images="photos"), "photos doesn't exist"),
        (lambda: graph.with_images("photos"), "photos doesn't exist; pass the folder"),
        (
            lambda: graph.with_images(images),
            "images must be an ImageFolder or a folder's path, got Tensor",
        ),
        (lambda: graph.draw(5), "path must be a path .* got 5"),
        (lambda: graph.draw(tmp_path / ("a" * 300)), "path has a name of 300 characters"),
        (lambda: graph.draw(images=np.zeros((2, 112, 112, 3), np.uint8), parse=3), "parse must be"),
        (
            lambda: page(graph, images=np.zeros((2, 112, 112, 3), np.uint8), parse=3),
            r"parse must be .* store\[start:stop\] of a store, got int",
        ),
        (
            lambda: graph.write(tmp_path / "g.svg", pictures="a"),
            "pictures must be .* got str",
        ),
        (lambda: graph.write(tmp_path / "g.dot", pictures=[1]), "pictures must be a mapping"),
        (lambda: graph.write(tmp_path / "g.svg", time_limit="a"), "time_limit must be seconds"),
        (lambda: graph.parts_in(None), "parse must be a Parse, .*, got NoneType"),
        (lambda: masks(network, graph, images[:1], None, node), "parse must be a Parse"),
        (lambda: explgraph.edge_effects(network, graph, images, classes=["a"]), "classes must be"),
        (lambda: explgraph.edge_effects(network, graph, images, classes=5), "a mapping .* got 5"),
        (lambda: explgraph.edge_effects(network, graph, images, classes={1: 1}), "class name 1"),
        (lambda: explgraph.ablate(network, graph, images, 5), "nodes must be names, .* got 5"),
        (lambda: explgraph.ablate(network, graph, images, None), "nodes must be .* got None"),
        (lambda: ablate_parts(network, graph, images, [5]), "parts must be names, .* got 5"),
        (lambda: explgraph.suggest_layers(network, 64), r"summaries must be .*list_layers\("),
        (lambda: explgraph.suggest_layers([], 0), "number must be a whole number above 0"),
    ):
        with pytest.raises(ExplgraphError, match=told):
            use()


def test_factories_that_leave_are_told(tmp_path, monkeypatch):
    (tmp_path / "leaving.py").write_text("import sys\ndef factory():\n    sys.exit(0)\n")
    (tmp_path / "gone.py").write_text("raise SystemExit\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ExplgraphError, match=r"calling factory\(\) fails with SystemExit"):
        load_model("leaving:factory")
    with pytest.raises(ExplgraphError, match="importing 'gone' fails with SystemExit"):
        load_model("gone:factory")
