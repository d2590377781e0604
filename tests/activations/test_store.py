"""Activations on disk against those in memory, and everything that can be wrong with a store."""

import contextlib
import itertools
import json
import os
import shutil

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import explgraph
from explgraph import creatures
from explgraph.activations import store
from explgraph.activations.recording import record
from explgraph.activations.store import open_store
from explgraph.activations.streaming import BLOCK
from explgraph.errors import ExplgraphError, ExplgraphWarning

zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")

N = 2 * BLOCK + 5
LAYERS = ["stage4", "stage3"]


@pytest.fixture(scope="module")
def network():
    return creatures.network()


@pytest.fixture(scope="module")
def images():
    return creatures.draw(N, seed=1).tensor()


@pytest.fixture(scope="module")
def memory(network, images):
    return record(network, images, LAYERS)


@pytest.fixture(scope="module")
def recorded(network, images, tmp_path_factory):
    """A folder with a store of each kind, not to be changed."""
    folder = tmp_path_factory.mktemp("stores")
    for dtype in ("float16", "uint8"):
        record(network, images, LAYERS, store=folder / dtype, dtype=dtype)
    return folder


@pytest.fixture
def place(recorded, tmp_path):
    """A copy of the float16 store, to be damaged."""
    return shutil.copytree(recorded / "float16", tmp_path / "copy")


def maps_of(found, index):
    return torch.cat([maps for _, maps in found.blocks(index, BLOCK)])


# ------------------------------------------------------------------------------ what is in a store


@pytest.mark.parametrize(("dtype", "error"), [("float16", 2**-11), ("uint8", 1 / 510)])
def test_maps_are_those_in_memory_within_rounding(recorded, memory, dtype, error):
    found = open_store(recorded / dtype)
    assert found.layers == memory.layers
    assert found.names == memory.names
    assert found.image_size == memory.image_size
    assert found.model_fingerprint == memory.model_fingerprint
    assert found.n_images == N
    assert not found.in_memory
    for layer, maps in zip(found.layers, memory.maps, strict=True):
        kept = maps_of(found, layer.index)
        assert kept.dtype == torch.float32
        assert (kept >= 0).all()
        if dtype == "float16":  # relative, down to its least number
            assert ((kept - maps).abs() <= error * maps + 2**-25).all()
        else:  # of the filter's maximum in its chunk
            for start in range(0, N, BLOCK):
                here = slice(start, start + BLOCK)
                most = maps[here].amax((0, 2, 3))[:, None, None]
                assert ((kept[here] - maps[here]).abs() <= 1.001 * error * most).all()


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
@pytest.mark.parametrize("size", [None, 1, 10, BLOCK, 50, 1000])
def test_blocks_of_any_size(recorded, dtype, size):
    found = open_store(recorded / dtype)
    whole = maps_of(found, 1)
    for start, stop in ((0, None), (7, 60), (BLOCK, N)):
        pieces = list(found.blocks(1, size, start, stop))
        assert pieces[0][0].start == start
        assert all(a.stop == b.start for (a, _), (b, _) in itertools.pairwise(pieces))
        assert all(len(maps) == here.stop - here.start for here, maps in pieces)
        assert_array_equal(torch.cat([maps for _, maps in pieces]), whole[start:stop])


def test_any_url_of_fsspec(network, images, memory):
    found = record(network, images, LAYERS, store="memory://some/where")
    for layer, maps in zip(found.layers, memory.maps, strict=True):
        assert_allclose(maps_of(found, layer.index), maps, rtol=1e-3, atol=1e-6)
    assert open_store("memory://some/where").fingerprint == found.fingerprint


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_batches_do_not_run_over_blocks(network, images, tmp_path, batch_size, memory):
    seen = []
    handle = network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    try:
        found = record(network, images, LAYERS, store=tmp_path / "s", batch_size=batch_size)
    finally:
        handle.remove()
    blocks = [BLOCK, BLOCK, 5]
    wanted = [min(batch_size, b - i) for b in blocks for i in range(0, b, batch_size)]
    assert seen[-len(wanted) :] == wanted
    assert_allclose(maps_of(found, 1), memory.maps[1], rtol=1e-3, atol=1e-3)


class Items(Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], index


@pytest.mark.parametrize(
    "source",
    [Items, TensorDataset, lambda x: DataLoader(Items(x), batch_size=7), list],
    ids=["dataset", "tensors", "loader", "list"],
)
def test_any_source_that_can_be_counted(network, images, recorded, tmp_path, source):
    found = record(network, source(images), LAYERS, store=tmp_path / "s")
    wanted = open_store(recorded / "float16")
    assert found.names == wanted.names
    for layer in found.layers:
        assert_array_equal(maps_of(found, layer.index), maps_of(wanted, layer.index))


def test_a_folder_of_photographs(network, tmp_path):
    for i, pixels in enumerate(creatures.draw(BLOCK + 2, seed=3).images):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    ready = {"size": 112, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    folder = explgraph.ImageFolder(tmp_path, **ready)
    found = record(network, folder, LAYERS, store=tmp_path / "store")
    assert found.names == folder.names
    assert found.preprocessing == folder.describe()
    in_memory = record(network, folder, LAYERS)
    assert_allclose(maps_of(found, 0), in_memory.maps[0], rtol=1e-3, atol=1e-6)
    graph = explgraph.mine(store=found)
    assert graph.nx.graph["preprocessing"] == folder.describe()
    # a picture is exchanged for another
    Image.fromarray(creatures.draw(1, seed=9).images[0]).save(tmp_path / "3.png")
    with pytest.raises(ExplgraphError, match="was recorded from other images"):
        record(network, folder, LAYERS, store=tmp_path / "store")


# ------------------------------------------------------------------------------------------ mining


def test_mining_a_store_is_mining_its_maps(recorded, network, images, tmp_path):
    found = open_store(recorded / "float16")
    maps = [maps_of(found, layer.index) for layer in found.layers]
    in_memory = explgraph.Activations(
        found.layers, found.names, found.image_size, maps, found.model_fingerprint
    )
    graph = explgraph.mine_activations(in_memory)
    assert explgraph.mine(store=found) == graph
    assert explgraph.mine(store=recorded / "float16", checkpoint=tmp_path / "c") == graph
    assert explgraph.mine(network, images, LAYERS, store=tmp_path / "s") == graph
    assert explgraph.mine(network, images, LAYERS, store=tmp_path / "s") == graph


def test_mine_says_what_it_needs(network, images, recorded):
    with pytest.raises(ExplgraphError, match="needs a model and images, or else a store"):
        explgraph.mine()
    with pytest.raises(ExplgraphError, match="needs a model and images, or else a store"):
        explgraph.mine(images=images, store=recorded / "uint8")
    with pytest.raises(ExplgraphError, match="needs images with a model"):
        explgraph.mine(network, store=recorded / "uint8")
    with pytest.raises(ExplgraphError, match="the path of a store"):
        explgraph.mine(network, images, LAYERS, store=open_store(recorded / "uint8"))


# ------------------------------------------------------------------------------ stale, interrupted


def test_a_finished_store_is_not_recorded_again(network, images, place):
    seen = []
    handle = network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        before = (place / "zarr.json").read_bytes()
        record(network, images, LAYERS, store=place)
        largest = max(map(len, seen), default=0)
    finally:
        handle.remove()
    assert largest <= 4  # only to measure unit centres
    assert (place / "zarr.json").read_bytes() == before


@pytest.mark.parametrize("layer", ["0", "1"])
def test_only_missing_chunks_are_recorded(network, images, place, memory, layer):
    (place / layer / "c" / "1" / "0" / "0" / "0").unlink()
    seen = []
    handle = network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    try:
        found = record(network, images, LAYERS, store=place)
    finally:
        handle.remove()
    assert seen.count(BLOCK) == 1
    for layer, maps in zip(found.layers, memory.maps, strict=True):
        assert_allclose(maps_of(found, layer.index), maps, rtol=1e-3, atol=1e-6)


def test_a_stale_store_is_noticed(network, images, place):
    other = creatures.network()
    with torch.no_grad():
        next(iter(other.parameters())).view(-1)[0] += 1
    with pytest.raises(ExplgraphError, match=r"was recorded from other weights; record into ano"):
        record(other, images, LAYERS, store=place)
    with pytest.raises(ExplgraphError, match="was recorded from other images"):
        record(network, images.flip(0), LAYERS, store=place)
    with pytest.raises(ExplgraphError, match="was recorded from other images"):
        record(network, images[:-1], LAYERS, store=place)
    with pytest.raises(ExplgraphError, match="was recorded from other layers"):
        record(network, images, LAYERS[:1], store=place)
    with pytest.raises(ExplgraphError, match="was recorded from dtype 'float16'"):
        record(network, images, LAYERS, store=place, dtype="uint8")


def test_an_unfinished_store_is_not_opened(network, images, tmp_path, monkeypatch):
    def interrupted(*given):
        if written:
            raise KeyboardInterrupt
        written.append(given)
        return encoded(*given)

    encoded, written = store._encoded, []
    monkeypatch.setattr(store, "_encoded", interrupted)
    with pytest.raises(KeyboardInterrupt):
        record(network, images, LAYERS, store=tmp_path / "s")
    with pytest.raises(ExplgraphError, match=r"isn't finished; run the same command or call again"):
        open_store(tmp_path / "s")


# ------------------------------------------------------------------------------------------ damage


def change(place, edit):
    """Edit a store's description."""
    file = place / "zarr.json"
    content = json.loads(file.read_text())
    edit(content["attributes"]["explgraph"])
    file.write_text(json.dumps(content))


def test_damage_is_noticed_on_opening(place, recorded, tmp_path):
    change(place, lambda about: about["layers"][0].update(channels=7))
    with pytest.raises(ExplgraphError, match="doesn't fit its checksum; delete it"):
        open_store(place)
    change(place, lambda about: about.update(version=99))
    with pytest.raises(ExplgraphError, match=r"is of version 99, this explgraph reads 2"):
        open_store(place)
    place = shutil.copytree(recorded / "float16", tmp_path / "other")
    shutil.rmtree(place / "0")
    with pytest.raises(ExplgraphError, match=r"layer 'stage3' should be .* found nothing"):
        open_store(place)
    zarr.create_array(str(place), name="0", shape=(3, 2), dtype="float32")
    with pytest.raises(ExplgraphError, match=r"found float32 of \(3, 2\)"):
        open_store(place)


def test_names_are_part_of_the_checksum(place):
    names = zarr.open_group(str(place), mode="r+")["names"]
    text = np.asarray(names[:]).tobytes().replace(b'"00"', b'"xx"')
    names[:] = np.frombuffer(text, dtype=np.uint8)
    with pytest.raises(ExplgraphError, match="doesn't fit its checksum"):
        open_store(place)


def test_a_changed_bit_is_noticed_on_reading(place):
    file = place / "1" / "c" / "1" / "0" / "0" / "0"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    found = open_store(place)
    next(found.blocks(1, BLOCK))
    with pytest.raises(ExplgraphError, match=r"layer 1, images 32 and on: .*(checksum|crc32c)"):
        list(found.blocks(1, BLOCK))


def test_a_missing_chunk_is_noticed_on_reading(place):
    (place / "1" / "c" / "2" / "0" / "0" / "0").unlink()
    with pytest.raises(
        ExplgraphError, match=r"chunk 2 of layer 'stage4' is missing .* record again"
    ):
        list(open_store(place).blocks(1, BLOCK))


def test_places_that_are_no_stores(tmp_path, network, images):
    with pytest.raises(ExplgraphError, match="is no store of activations; explgraph record makes"):
        open_store(tmp_path / "nothing")
    zarr.create_group(str(tmp_path / "group"), attributes={"some": "thing"})
    with pytest.raises(ExplgraphError, match="is a zarr group, but no store of activations"):
        open_store(tmp_path / "group")
    with pytest.raises(ExplgraphError, match="holds something else; choose another place"):
        record(network, images, LAYERS, store=tmp_path / "group")
    with pytest.raises(ExplgraphError, match="holds something else; choose another place"):
        record(network, images, LAYERS, store=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ExplgraphError, match="can't be written"):
        record(network, images, LAYERS, store=tmp_path / "file")
    with pytest.raises(ExplgraphError, match=r"store 'nosuch://x' can't be"):
        record(network, images, LAYERS, store="nosuch://x")


class Endless(IterableDataset):
    def __iter__(self):
        return iter(torch.zeros(3, 3, 112, 112))


def test_wrong_input(network, images, tmp_path):
    with pytest.raises(ExplgraphError, match=r"dtype must be one of float16, uint8; got 'int8'"):
        record(network, images, LAYERS, store=tmp_path / "s", dtype="int8")
    with pytest.raises(ExplgraphError, match="the number of images must be known"):
        record(network, Endless(), LAYERS, store=tmp_path / "s")
    with pytest.raises(ExplgraphError, match="batch_size must be a whole number above 0, got 0"):
        record(network, images, LAYERS, store=tmp_path / "s", batch_size=0)
    assert not (tmp_path / "s").exists()


def test_too_much_for_the_memory_is_refused_before_recording(network, images, monkeypatch):
    monkeypatch.setattr("explgraph.activations.recording.os.sysconf", lambda _: 1000)
    with pytest.raises(ExplgraphError, match=r"take 0 GB, this machine has .*store=\.\.\., --st"):
        record(network, images, LAYERS)


# ------------------------------------------------------------------------------- numbers and scales


def test_a_missing_scale_is_noticed_and_recorded_again(network, images, memory, recorded, tmp_path):
    """zarr would fill in zeros, and the layer be silent."""
    place = shutil.copytree(recorded / "uint8", tmp_path / "copy")
    (place / "scale1" / "c" / "0" / "0").unlink()
    with pytest.raises(ExplgraphError, match=r"chunk 0 of the scales of layer 'stage4' is missing"):
        maps_of(open_store(place), 1)
    record(network, images, LAYERS, store=place, dtype="uint8")
    found = maps_of(open_store(place), 1)
    assert (found - memory.maps[1]).abs().max() <= memory.maps[1].max() / 255


def test_a_scale_that_is_none_is_noticed(recorded, tmp_path):
    place = shutil.copytree(recorded / "uint8", tmp_path / "copy")
    group = zarr.open_group(place, mode="r+")
    group["scale0"][0, 3] = np.nan
    with pytest.raises(ExplgraphError, match="is damaged, or not in its place"):
        maps_of(open_store(place), 0)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
@pytest.mark.parametrize("file", ["zarr.json", "0/zarr.json", "names/c/0", "0/c/1/0/0/0"])
def test_pipes_in_a_store_are_not_waited_for(place, network, images, file):
    wanted = open_store(place)
    (place / file).unlink()
    os.mkfifo(place / file)
    with pytest.raises(ExplgraphError, match=f"'{file}' of the store '.*' is a pipe"):
        maps_of(open_store(place), 0)
    if "/c/" in file and file[0] == "0":  # what is missing is recorded again
        assert record(network, images, LAYERS, store=place) == wanted
        maps_of(open_store(place), 0)


@pytest.mark.parametrize("times", [1e6, 1e-8])
def test_what_float16_cannot_hold_is_refused_with_the_remedy(tmp_path, times):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2, 1, bias=False), torch.nn.ReLU()).eval()
    with torch.no_grad():
        model[0].weight *= times
    some = torch.rand(5, 3, 16, 16)
    with pytest.raises(ExplgraphError, match=r"layer '1' has activations up to .*dtype='uint8'"):
        record(model, some, ["1"], store=tmp_path / "half")
    record(model, some, ["1"], store=tmp_path / "eighth", dtype="uint8")
    truth = record(model, some, ["1"]).maps[0]
    kept = maps_of(open_store(tmp_path / "eighth"), 0)
    assert (kept - truth).abs().max() <= truth.max() / 255


class Faint(torch.nn.Module):
    """Four filters, the second and third of which are faint by some factor."""

    def __init__(self, factor):
        super().__init__()
        torch.manual_seed(0)
        self.filters = torch.nn.Conv2d(3, 4, 3, 2, 1, bias=False)
        self.maps = torch.nn.Identity()
        self.register_buffer("factor", torch.tensor([1.0, factor, factor, 1.0])[:, None, None])

    def forward(self, x):
        return self.maps(self.filters(x).relu() * self.factor)


def test_filters_that_float16_would_lose_are_told_of(tmp_path):
    model, some = Faint(1e-8).eval(), torch.rand(BLOCK + 3, 3, 16, 16)
    with pytest.warns(ExplgraphWarning, match=r"'maps': 2 of 4 filters stay below .*dtype='uint8'"):
        record(model, some, ["maps"], store=tmp_path / "half")


@pytest.mark.parametrize("factor", [1e-8, 1e-37])
def test_uint8_keeps_the_faintest_filters(tmp_path, factor):
    model, some = Faint(factor).eval(), torch.rand(5, 3, 16, 16)
    record(model, some, ["maps"], store=tmp_path / "eighth", dtype="uint8")
    truth = record(model, some, ["maps"]).maps[0]
    most = truth.amax((0, 2, 3))[:, None, None]
    assert (most > 0).all()
    kept = maps_of(open_store(tmp_path / "eighth"), 0)
    assert ((kept - truth).abs() <= most / 500).all()


# ------------------------------------------------------------------------------------ in its place


TWINS = ["0", "2"]  # two layers of one shape


def twins(seed=0):
    torch.manual_seed(seed)
    convolutions = torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.Conv2d(4, 4, 3, 1, 1)
    return torch.nn.Sequential(convolutions[0], torch.nn.ReLU(), convolutions[1]).eval()


def swapped(one, two):
    """Exchange two files or folders."""
    aside = one.with_name("aside")
    one.rename(aside)
    two.rename(one)
    aside.rename(two)


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_whatever_is_not_in_its_place_is_noticed_and_recorded_again(tmp_path, dtype):
    model, some = twins(), torch.randn(2 * BLOCK + 3, 3, 16, 16)
    place, other = tmp_path / "s", tmp_path / "other"
    record(model, some, TWINS, store=place, dtype=dtype)
    record(model, some.flip(0), TWINS, store=other, dtype=dtype)
    whole = [maps_of(open_store(place), i) for i in (0, 1)]
    layers = ["0/c", "1/c"] + ["scale0/c", "scale1/c"] * (dtype == "uint8")

    def foreign(name, number):
        shutil.copytree(other / name / str(number), copy / name / str(number), dirs_exist_ok=True)

    damages = {
        **{f"two chunks of {n}": [(f"{n}/0", f"{n}/1")] for n in (*layers, "seals/c")},
        "two layers": list(zip(layers[::2], layers[1::2], strict=True)),
        "two blocks, and their seals": [(f"{n}/0", f"{n}/1") for n in (*layers, "seals/c")],
    }
    for what, pairs in damages.items():
        copy = shutil.copytree(place, tmp_path / "copy")
        for one, two in pairs:
            swapped(copy / one, copy / two)
        assert_noticed_and_mended(copy, model, some, dtype, whole, what)
    for name in layers:
        copy = shutil.copytree(place, tmp_path / "copy")
        foreign(name, 1)
        assert_noticed_and_mended(copy, model, some, dtype, whole, name)
    copy = shutil.copytree(place, tmp_path / "copy")
    for name in (*layers, "seals/c"):
        foreign(name, 1)
    with pytest.raises(ExplgraphError, match="seals are missing, or not in their place"):
        open_store(copy)
    with pytest.raises(ExplgraphError, match="was recorded from other images"):
        record(model, some, TWINS, store=copy, dtype=dtype)


def assert_noticed_and_mended(copy, model, some, dtype, whole, what):
    with pytest.raises(ExplgraphError, match=r"or not in (its|their) place"):
        pytest.fail(f"{what}: {[maps_of(open_store(copy), i).sum() for i in (0, 1)]}")
    record(model, some, TWINS, store=copy, dtype=dtype)
    for i, maps in enumerate(whole):
        assert_array_equal(maps_of(open_store(copy), i), maps)
    shutil.rmtree(copy)


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_no_file_of_a_store_can_change_or_vanish(tmp_path, dtype):
    """Whatever happens to one file: another graph never comes of it."""
    model, some = twins(), torch.randn(BLOCK + 3, 3, 16, 16)
    place = tmp_path / "s"
    record(model, some, TWINS, store=place, dtype=dtype)
    whole = [maps_of(open_store(place), i) for i in (0, 1)]
    rng = np.random.default_rng(0)
    for file in sorted(p for p in place.rglob("*") if p.is_file()):
        content = file.read_bytes()
        flipped = bytearray(content)
        flipped[rng.integers(len(content))] ^= 1 << rng.integers(8)
        for damaged in (None, b"", content[:-1], bytes(flipped), b"[" * 100_000, b"null"):
            file.unlink() if damaged is None else file.write_bytes(damaged)
            try:
                found = open_store(place)
                for i, maps in enumerate(whole):
                    assert_array_equal(maps_of(found, i), maps)
            except ExplgraphError:
                pass
            with contextlib.suppress(ExplgraphError):
                found = record(model, some, TWINS, store=place, dtype=dtype)
                for i, maps in enumerate(whole):
                    assert_array_equal(maps_of(found, i), maps)
            file.write_bytes(content)


# ------------------------------------------------------------------------------- images that change


@pytest.mark.parametrize("source", [lambda x: x, Items, list], ids=["tensor", "dataset", "list"])
@pytest.mark.parametrize("number", [1, BLOCK + 2])
def test_any_image_that_changes_is_noticed(tmp_path, source, number):
    model, some = twins(), torch.randn(2 * BLOCK, 3, 16, 16)
    before = record(model, source(some), TWINS, store=tmp_path / "s")
    other = some.clone()
    other[number, 1, 7, 7] += 0.5
    with pytest.raises(ExplgraphError, match=r"was recorded from other images: '.*', or one of t"):
        record(model, source(other), TWINS, store=tmp_path / "s")
    after = record(model, source(other), TWINS, store=tmp_path / "t")
    assert before.images_fingerprint != after.images_fingerprint
    assert before.fingerprint != after.fingerprint


def test_photographs_of_equal_size_that_are_exchanged_are_noticed(tmp_path):
    """While the recording is interrupted, and after it: no time and no size tells of it."""
    model, photos = twins(), tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for i in range(BLOCK + 4):
        pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{i}.bmp")
        os.utime(photos / f"{i}.bmp", (0, 0))
    folder = explgraph.ImageFolder(photos, size=16)
    whole = record(model, folder, TWINS, store=tmp_path / "s")
    unfinished = shutil.copytree(tmp_path / "s", tmp_path / "u")
    shutil.rmtree(unfinished / "1" / "c" / "1")
    swapped(photos / "3.bmp", photos / "7.bmp")
    for place in (tmp_path / "s", unfinished):
        with pytest.raises(ExplgraphError, match=r"recorded from other images: '0.bmp', or one"):
            record(model, folder, TWINS, store=place)
    swapped(photos / "3.bmp", photos / "7.bmp")
    found = record(model, folder, TWINS, store=unfinished)
    assert_array_equal(maps_of(found, 1), maps_of(whole, 1))
    # what had not been recorded yet may change: it is recorded as it is now
    shutil.rmtree(unfinished / "1" / "c" / "1")
    swapped(photos / "33.bmp", photos / "34.bmp")
    found = record(model, folder, TWINS, store=unfinished)
    fresh = record(model, folder, TWINS, store=tmp_path / "fresh")
    assert found.fingerprint == fresh.fingerprint
    assert_array_equal(maps_of(found, 1), maps_of(fresh, 1))


def test_what_a_killed_process_left_half_written_is_deleted(network, images, place):
    left = place / "1" / "c" / "2" / "0" / "0" / "0.0123456789abcdef.partial"
    left.write_bytes(b"half")
    record(network, images, LAYERS, store=place)
    assert not left.exists()


def test_a_store_of_an_earlier_version_is_refused_with_the_remedy(place):
    change(place, lambda about: about.update(version=1))
    with pytest.raises(ExplgraphError, match=r"version 1, this explgraph reads 2; .*record again"):
        open_store(place)
