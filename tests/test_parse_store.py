"""Parses on disk against those in memory; interruptions, damage, and memory that doesn't grow."""

import gc
import json
import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from small_network import SIZE, graph_of, network, pictures
from torch.utils.data import DataLoader, Dataset

import explgraph
from explgraph import ExplgraphError, ExplgraphWarning, open_parse, parse_store
from explgraph.activations.streaming import BLOCK

zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")

pytestmark = pytest.mark.usefixtures("one_thread")
N = 2 * BLOCK + 7
ARRAYS = ("positions", "expected", "scores")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of one batch, so that few images make several."""
    monkeypatch.setattr(parse_store, "BLOCK", BLOCK)


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def graph(model):
    return graph_of(model)


@pytest.fixture(scope="module")
def images():
    return pictures(N, seed=11)


@pytest.fixture(scope="module")
def memory(graph, model, images):
    return graph.parse(model, images)


@pytest.fixture
def place(graph, model, images, tmp_path):
    """A finished store, to be read or damaged."""
    graph.parse(model, images, out=tmp_path / "p.zarr")
    return tmp_path / "p.zarr"


def assert_same(found, expected, atol=1e-3):
    """Up to rounding: a thousandth of a pixel, and of the scores' range."""
    assert (found.nodes, found.names) == (expected.nodes, expected.names)
    assert found.image_size == expected.image_size
    for name in ARRAYS:
        assert getattr(found, name).dtype == np.float32
        assert_allclose(getattr(found, name), getattr(expected, name), rtol=0, atol=atol)


class Counted(Dataset):
    """Images that are made when they are asked for; what was asked for is kept."""

    def __init__(self, images):
        self.images, self.seen = images, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.seen.append(int(index))
        return self.images[index], 0


# ----------------------------------------------------------------------------------------- results


@pytest.mark.parametrize("batch_size", [32, 7, 50])
def test_it_is_the_parse_in_memory(graph, model, images, memory, tmp_path, batch_size):
    store = graph.parse(model, images, out=tmp_path / "p", batch_size=batch_size)
    assert repr(store) == f"ParseStore('{tmp_path / 'p'}', {len(graph)} nodes in {N} images)"
    assert len(store) == N
    assert_same(store[:], memory)
    loader = DataLoader(Counted(images), batch_size=5)
    assert_same(graph.parse(model, loader, out=tmp_path / "q")[:], memory)


def test_slices_and_blocks_are_parses_of_these_images(place, memory):
    store = open_parse(place)
    for here in (slice(0, 5), slice(30, 40), slice(-3, None), slice(60, 999), slice(5, 2)):
        found = store[here]
        assert found.names == memory.names[here]
        assert_allclose(found.positions, memory.positions[here], rtol=0, atol=1e-3)
        assert found.scores.shape == memory.scores[here].shape
    for size in (BLOCK, 10, 500):
        parts = list(store.blocks(size))
        assert [len(part.names) for part in parts[:-1]] == [size] * (len(parts) - 1)
        assert sum((part.names for part in parts), ()) == memory.names
        joined = np.concatenate([part.scores for part in parts])
        assert_array_equal(joined, store[:].scores)
    assert len(store[3:9].to_frame()) == 6 * len(store.nodes)
    with pytest.raises(ExplgraphError, match="neighbouring images, "):
        store[::2]
    with pytest.raises(ExplgraphError, match="neighbouring images"):
        store[3]
    with pytest.raises(ExplgraphError, match="size must be a whole number above 0, got 0"):
        next(store.blocks(0))
    with pytest.raises(ExplgraphError, match=r"parse an explgraph\.ImageFolder"):
        store[:2].to_original()


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_photographs_keep_the_way_back(graph, model, tmp_path, fit):
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(BLOCK + 3):
        pixels = rng.integers(0, 255, (40 + i, 90 - i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
    folder = explgraph.ImageFolder(tmp_path / "photos", size=SIZE, fit=fit)
    memory = graph.parse(model, folder)
    store = graph.parse(model, folder, out=tmp_path / "p.zarr")
    assert_same(store[:], memory)
    found = open_parse(tmp_path / "p.zarr")[20:34]
    points = rng.uniform(0, SIZE, (14, 3, 2))
    expected = np.stack([folder.to_original(20 + i, p) for i, p in enumerate(points)])
    assert_allclose(found.to_original(points), expected, rtol=1e-9, atol=1e-9)
    again = explgraph.ImageFolder(tmp_path / "photos", size=SIZE, fit=fit, mean=[0, 0, 0])
    with pytest.raises(ExplgraphError, match="was parsed from other images"):
        graph.parse(model, again, out=tmp_path / "p.zarr")


# ------------------------------------------------------------------------------------------ memory


class Endless(Dataset):
    """As many images as wished, none of which is kept."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return torch.full((3, SIZE, SIZE), 0.5 + index % 7 / 20)


def peak(graph, model, n, monkeypatch, **options):
    """Most bytes of live tensors while nodes are looked for, and most that Python allocates."""
    most = []

    def watched(parser, maps):
        # other tests' torch.compile leaves tensors without storage
        kinds = (torch.Tensor, torch.nn.Parameter)
        live = [t for t in gc.get_objects() if type(t) in kinds and not t.is_meta]
        sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in live}
        most.append(sum(sizes.values()))
        return once(parser, maps)

    once = parse_store.Parser.__call__
    with monkeypatch.context() as patch:
        patch.setattr(parse_store.Parser, "__call__", watched)
        tracemalloc.start()
        graph.parse(model, Endless(n), **options)
        allocated = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return max(most), allocated


def test_memory_does_not_grow_with_the_number_of_images(graph, model, tmp_path, monkeypatch):
    rows = 20 * len(graph)  # bytes of an image
    graph.parse(model, Endless(3), out=tmp_path / "warm")
    few, many = 3 * BLOCK, 12 * BLOCK
    tensors, python = peak(graph, model, few, monkeypatch, out=tmp_path / "few")
    more_tensors, more_python = peak(graph, model, many, monkeypatch, out=tmp_path / "many")
    assert more_tensors < tensors + 2 * BLOCK * rows  # of (many - few) * rows
    assert more_python < python + 2 * BLOCK * rows
    # the same watch sees memory grow where it does
    held = [peak(graph, model, n, monkeypatch)[0] for n in (few, many)]
    assert held[1] - held[0] > 0.9 * (many - few) * rows


# ----------------------------------------------------------------------------- stale, interrupted


KILLED = """
import os, signal, sys
sys.path.append(sys.argv[1])
import torch
from small_network import network, pictures
import explgraph
from explgraph import parse_store
from explgraph.activations.streaming import BLOCK

class Deadly(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = images
    def __len__(self):
        return len(self.images)
    def __getitem__(self, index):
        if index == BLOCK + 9 and len(self.images) > 16:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.images[index]

torch.set_num_threads(1)
parse_store.BLOCK = BLOCK
graph = explgraph.load(sys.argv[2])
graph.parse(network(), Deadly(pictures(int(sys.argv[4]), seed=11)), out=sys.argv[3])
"""


@pytest.mark.filterwarnings("ignore")
def test_a_killed_run_goes_on_to_the_same_result(graph, model, images, tmp_path):
    graph.save(tmp_path / "graph.explgraph")
    where = [str(tmp_path / "graph.explgraph"), str(tmp_path / "killed"), str(N)]
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", KILLED, here, *where], timeout=120)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(ExplgraphError, match=r"isn't finished; run the same command or call again"):
        open_parse(tmp_path / "killed")
    source = Counted(images)
    graph.parse(model, source, out=tmp_path / "killed")
    # those of the finished block only to see that they are what they were
    assert source.seen == list(range(N))
    graph.parse(model, Counted(images), out=tmp_path / "whole")
    found, whole = open_parse(tmp_path / "killed"), open_parse(tmp_path / "whole")
    for name in ARRAYS:
        assert_array_equal(getattr(found[:], name), getattr(whole[:], name))
    source.seen.clear()
    ran = []
    handle = model.register_forward_pre_hook(lambda *_: ran.append(1))
    graph.parse(model, source, out=tmp_path / "killed")  # finished: nothing is done again
    handle.remove()
    assert source.seen == list(range(N))
    assert not ran


@pytest.mark.parametrize("name", ARRAYS)
def test_a_block_of_which_a_part_is_missing_is_done_again(graph, model, images, place, name):
    before = open_parse(place)[:]
    chunk = place / name / "c" / "1" / "0"
    chunk = chunk if name == "scores" else chunk / "0"
    chunk.unlink()
    with pytest.raises(ExplgraphError, match=rf"chunk 1 of {name} is missing .*; parse again"):
        open_parse(place)[30:40]
    open_parse(place)[:BLOCK]
    graph.parse(model, images, out=place)
    for each in ARRAYS:
        assert_array_equal(getattr(open_parse(place)[:], each), getattr(before, each))


def test_other_images_models_and_graphs_are_refused(graph, model, images, place, tmp_path):
    other = network()
    with torch.no_grad():
        next(iter(other.parameters())).view(-1)[0] += 1
    with (
        pytest.warns(ExplgraphWarning, match="weights are not those"),
        pytest.raises(ExplgraphError, match="was parsed from other weights; parse into another pl"),
    ):
        graph.parse(other, images, out=place)
    for changed in (images.flip(0), images[:-1]):
        with pytest.raises(ExplgraphError, match="was parsed from other images"):
            graph.parse(model, changed, out=place)
    with pytest.raises(ExplgraphError, match="was parsed from another graph"):
        graph.prune(top=0.5).parse(model, images, out=place)
    graph.save(tmp_path / "graph.explgraph")
    refitted = explgraph.load(tmp_path / "graph.explgraph")
    name = next(name for name in sorted(refitted.fitted) if "sigma" in name)
    refitted.fitted[name] = refitted.fitted[name] * 1.01
    with pytest.raises(ExplgraphError, match="was parsed from another graph"):
        refitted.parse(model, images, out=place)


def test_wrong_inputs_are_told_before_anything_is_written(graph, model, images, tmp_path):
    with pytest.raises(ExplgraphError, match="has no nodes"):
        graph.prune(top=0).parse(model, images, out=tmp_path / "p")
    with pytest.raises(ExplgraphError, match="batch_size must be a whole number above 0"):
        graph.parse(model, images, out=tmp_path / "p", batch_size=0)
    with pytest.raises(ExplgraphError, match="the number of images must be known"):
        graph.parse(model, iter(images), out=tmp_path / "p")
    assert not (tmp_path / "p").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ExplgraphError, match="can't be written"):
        graph.parse(model, images, out=tmp_path / "file")
    with pytest.raises(ExplgraphError, match="holds something else; choose another place"):
        graph.parse(model, images, out=tmp_path)
    with pytest.raises(ExplgraphError, match="images are 16 x 32 px, expected 32 x 32"):
        graph.parse(model, images[:, :, :16], out=tmp_path / "p")


# ------------------------------------------------------------------------------------------ damage


def test_damage_is_noticed_on_opening(place, tmp_path):
    other = shutil.copytree(place, tmp_path / "other")
    file = other / "zarr.json"
    content = json.loads(file.read_text())
    content["attributes"]["explgraph_parse"]["image_size"] = [1, 2]
    file.write_text(json.dumps(content))
    with pytest.raises(ExplgraphError, match="doesn't fit its checksum; delete it and parse again"):
        open_parse(other)
    content["attributes"]["explgraph_parse"]["version"] = 99
    file.write_text(json.dumps(content))
    with pytest.raises(ExplgraphError, match="is of version 99, this explgraph reads 3"):
        open_parse(other)
    names = zarr.open_group(str(place), mode="r+")["names"]
    names[:] = np.frombuffer(np.asarray(names[:]).tobytes().replace(b'"00"', b'"xx"'), np.uint8)
    with pytest.raises(ExplgraphError, match="doesn't fit its checksum"):
        open_parse(place)


def test_another_array_and_other_things_are_refused(place, model, images, tmp_path):
    shutil.rmtree(place / "scores")
    with pytest.raises(ExplgraphError, match=r"scores should be float32 of .* found nothing"):
        open_parse(place)
    with pytest.raises(ExplgraphError, match=r"is no store of a parse; graph\.parse"):
        open_parse(tmp_path / "nothing")
    explgraph.record(model, images[:3], ["upper"], store=tmp_path / "a")
    with pytest.raises(ExplgraphError, match="is a zarr group, but no store of a parse"):
        open_parse(tmp_path / "a")


def test_a_changed_bit_is_noticed_on_reading(place):
    file = place / "positions" / "c" / "1" / "0" / "0"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    store = open_parse(place)
    store[:BLOCK]
    with pytest.raises(ExplgraphError, match=r"images 32 to 40: .*(checksum|crc32c).*parse again"):
        store[BLOCK:40]


@pytest.mark.parametrize("name", [*ARRAYS, "seals"])
def test_exchanged_blocks_are_noticed_and_parsed_again(graph, model, images, place, name):
    before = open_parse(place)[:]
    one, two = (place / name / "c" / str(i) for i in (0, 1))
    one.rename(place / "aside")
    two.rename(one)
    (place / "aside").rename(two)
    with pytest.raises(ExplgraphError, match=r"or not in (its|their) place.*; parse again"):
        open_parse(place)[:]
    found = graph.parse(model, images, out=place)[:]
    for each in ARRAYS:
        assert_array_equal(getattr(found, each), getattr(before, each))


def test_one_image_that_changes_is_noticed(graph, model, images, place):
    other = images.clone()
    other[BLOCK + 1] += 0.01
    with pytest.raises(ExplgraphError, match="was parsed from other images"):
        graph.parse(model, other, out=place)
