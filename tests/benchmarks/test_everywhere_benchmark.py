"""The benchmark on every kind of data: its own logic, with stand-ins for mining and locating."""

import json
import warnings
from types import SimpleNamespace

import networkx
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import everywhere, quality, recorded
from explgraph.activations.memory import Activations
from explgraph.errors import ExplgraphWarning
from explgraph.evaluation.baselines import raw_peaks
from explgraph.evaluation.metrics import few_shot_error, tracking
from explgraph.network.geometry import Layer

SIZE = (80, 80)
N = 40


@pytest.fixture(scope="module")
def world():
    """Two layers that show nothing of two parts that move about, one unmarked in 8 images."""
    rng = np.random.default_rng(0)
    layers = (
        Layer("low", 0, 8, 8, 8, (10.0, 10.0), (5.0, 5.0), (9.0, 9.0)),
        Layer("top", 1, 8, 4, 4, (20.0, 20.0), (10.0, 10.0), (9.0, 9.0)),
    )
    maps = [torch.from_numpy(rng.random((N, 8, s, s))).float() for s in (8, 4)]
    parts = {name: rng.uniform(15, 65, (N, 2)) for name in ("knee L", "knee R")}
    parts["knee R"][:8] = np.nan
    return Activations(layers, tuple(map(str, range(N))), SIZE, maps), parts


def engine_of(follow, message=None, layers=("low", "top"), count=8):
    """A graph of `count` nodes in each layer at `follow`, (N, 2); the worse ones have noise."""
    rng = np.random.default_rng(1)
    spread = np.tile([0] * 2 + [40] * (count - 2), len(layers))
    noise = rng.normal(0, 1, (N, len(spread), 2)) * spread[:, None]

    def mine(activations, *, seed):
        del activations, seed
        if message:
            warnings.warn(message, ExplgraphWarning, stacklevel=2)
        graph = networkx.DiGraph()
        for layer in layers:
            for c in range(count):
                values = {"layer": layer, "filter": c, "reliability": 1 / (1 + c), "energy": 0.5}
                graph.add_node(f"{layer}/{c}/0", **values)
        return SimpleNamespace(nx=graph)

    def parse(graph, activations):
        del activations
        shape = noise.shape
        return SimpleNamespace(
            nodes=tuple(graph.nx),
            positions=follow[:, None] + noise,
            expected=np.broadcast_to(np.float64(40), shape),
            scores=np.ones(shape[:2]),
        )

    return quality.Engine(mine, parse)


def locate_by(error, coverage):
    def locate(part, place, shots, draws):
        del part, place, draws
        for k in shots:
            yield {"method": "localizer", "k": k, "error": error, "coverage": coverage, "more": 1}

    return locate


DRAWS = everywhere.Draws(3, 2)


def rows_of(world, follow, error=0.01, **options):
    activations, parts = world
    engine = engine_of(follow, **options)
    return everywhere.scene_rows(activations, parts, DRAWS, engine, locate_by(error, 0.9))


def pick(rows, method, layer=None, k=3):
    [row] = [
        r for r in rows if r["method"] == method and r["k"] == k and layer in (None, r["layer"])
    ]
    return row


def test_marks_are_grouped_by_name():
    assert everywhere.groups_of(["head", "front_legs"]) == {
        "head": ["head"],
        "legs": ["front_legs"],
    }
    assert everywhere.groups_of(["head", "feet"])["legs"] == ["feet"]
    joints = ["ankle R", "hip L", "wrist L", "shoulder R", "neck", "head top"]
    assert everywhere.groups_of(joints) == {
        "legs": ["ankle R", "hip L"],
        "arms": ["wrist L", "shoulder R"],
        "head": ["neck", "head top"],
    }
    # a name that is in no group: all are one
    assert everywhere.groups_of(["head", "tail"]) == {"all": ["head", "tail"]}
    assert everywhere.groups_of(["lm0", "lm1"]) == {"all": ["lm0", "lm1"]}


def test_nodes_that_follow_do_not_fail(world):
    _, parts = world
    rows = rows_of(world, parts["knee L"])
    assert {row["group"] for row in rows} == {"legs"}
    assert {row["k"] for row in rows} == {1, 3, 10}
    # judged as a group: one part is followed exactly, so the mean beats the mean mark's
    nodes = pick(rows, "nodes", "low")
    assert nodes["marks"] == 2
    assert nodes["fails"] is False
    assert nodes["own/expected"] < 1
    assert pick(rows, "localizer")["coverage"] == pytest.approx(0.9)
    assert pick(rows, "localizer")["fails"] is False
    assert pick(rows, "nodes", quality.ALL_LAYERS)["fails"] is False
    assert "fails" not in pick(rows, "mean mark")
    assert "fails" not in pick(rows, "nodes, expected", "low")


def test_nodes_that_err_fail(world):
    rng = np.random.default_rng(5)
    rows = rows_of(world, rng.uniform(-200, 280, (N, 2)), error=0.9)
    for k in (1, 3, 10):
        assert pick(rows, "nodes", "top", k)["fails"] is True
        assert pick(rows, "localizer", k=k)["fails"] is True
    assert everywhere.alarms([{"network": "a", "category": "b"} | row for row in rows]) == {
        "graphs": 1,
        "nodes fail": 1,
        "nodes fail, warned": 0,
        "warned": 0,
        "false alarms": 0,
    }


def test_figures_are_those_of_the_metrics(world):
    activations, parts = world
    follow = parts["knee L"]
    rows = rows_of(world, follow)
    kept = np.repeat(follow[:, None], 2, axis=1)  # the best quarter of eight: without noise
    marks = parts.values()
    draws = {"draws": DRAWS.voter}
    expected = np.mean([few_shot_error(kept, np.ones((N, 2)), p, SIZE, 3, **draws) for p in marks])
    assert pick(rows, "nodes", "low")["error"] == pytest.approx(expected)
    follows = np.mean([tracking(kept, p) for p in marks])
    assert pick(rows, "nodes", "low")["tracking"] == pytest.approx(follows)
    still = np.full((N, 2, 2), 40.0)
    frozen = np.mean([few_shot_error(still, np.ones((N, 2)), p, SIZE, 3, **draws) for p in marks])
    assert pick(rows, "nodes, expected", "low")["error"] == pytest.approx(frozen)
    ratio = pick(rows, "nodes", "low")["own/expected"]
    assert ratio == pytest.approx(expected / frozen)
    peaks = raw_peaks(activations.maps[0].numpy(), activations.layers[0])
    raw = np.mean([few_shot_error(*peaks, p, SIZE, 3, **draws) for p in marks])
    assert pick(rows, "raw peaks")["error"] == pytest.approx(raw)
    assert pick(rows, "raw peaks")["layer"] == "low"
    # points that never move vote for the marks' mean: so does the mean mark
    mean = pick(rows, "mean mark")["error"]
    assert frozen == pytest.approx(mean, rel=0.05)
    assert pick(rows, "nodes", "low")["limit"] == pytest.approx(1.05 * min(mean, raw))


def test_cells_by_hand():
    def part(mean, raw, nodes, found):
        return [
            {"method": "mean mark", "layer": "none", "k": 1, "error": mean},
            {"method": "raw peaks", "layer": "low", "k": 1, "error": raw},
            {"method": "nodes", "layer": "low", "k": 1, "error": nodes, "tracking": nodes},
            {"method": "nodes, expected", "layer": "low", "k": 1, "error": 0.4},
            {"method": "localizer", "layer": "none", "k": 1, "error": found, "coverage": 0.8},
        ]

    rows = everywhere.cells([part(0.1, 0.3, 0.1, 0.1), part(0.3, 0.2, 0.32, 0.325)])
    # mean marks 0.2, raw peaks 0.25: the limit is 0.21
    assert pick(rows, "nodes", k=1)["limit"] == pytest.approx(0.21)
    assert pick(rows, "nodes", k=1)["error"] == pytest.approx(0.21)
    assert pick(rows, "localizer", k=1)["fails"] is True  # 0.2125
    assert pick(rows, "nodes", k=1)["own/expected"] == pytest.approx(0.21 / 0.4)
    assert pick(rows, "nodes", k=1)["tracking"] == pytest.approx(0.21)
    better = everywhere.cells([part(0.1, 0.3, 0.1, 0.1), part(0.3, 0.2, 0.318, 0.325)])
    assert pick(better, "nodes", k=1)["fails"] is False
    # no nodes are no answer
    none = everywhere.cells([part(0.1, 0.3, np.nan, 0.1)])
    assert pick(none, "nodes", k=1)["fails"] is True


def test_layer_without_nodes_fails(world):
    rows = rows_of(world, world[1]["knee L"], layers=("low",))
    assert np.isnan(pick(rows, "nodes", "top")["error"])
    assert pick(rows, "nodes", "top")["fails"] is True
    assert pick(rows, "nodes", "low")["fails"] is False
    assert pick(rows, "nodes", quality.ALL_LAYERS)["fails"] is False
    tables = [{"network": "a", "category": "b"} | row for row in rows]
    assert "nan!" in everywhere.details(tables)
    assert "nodes: 3 of 6 cells fail" in everywhere.summary(tables)


def test_parts_with_few_marks_are_left_out(world):
    activations, parts = world
    few = dict(parts, **{"hip L": parts["knee L"].copy()})
    few["hip L"][23:] = np.nan
    rows = everywhere.scene_rows(
        activations, few, DRAWS, engine_of(parts["knee L"]), locate_by(0.1, 0.9)
    )
    assert pick(rows, "mean mark", k=3)["marks"] == 3
    assert pick(rows, "mean mark", k=10)["marks"] == 2


def test_warnings_of_mining_are_kept(world):
    activations, parts = world
    rows = rows_of(world, parts["knee L"], message="the pose is weak")
    assert {row["warned"] for row in rows} == {1}
    assert rows[0]["warnings"] == ["the pose is weak"]

    engine = engine_of(parts["knee L"])

    def loud(given, *, seed):
        warnings.warn("not ours", UserWarning, stacklevel=2)
        return engine.mine(given, seed=seed)

    with pytest.raises(UserWarning, match="not ours"):
        everywhere.mined_scene(activations, parts, engine._replace(mine=loud))


def test_marks_outside_the_image_are_left_out(world):
    activations, parts = world
    outside = {"knee L": np.where(np.arange(N)[:, None] == 3, 81.0, parts["knee L"])}
    place, said = everywhere.mined_scene(activations, outside, engine_of(parts["knee L"]))
    assert said == []
    assert np.flatnonzero(np.isnan(place.parts["knee L"][:, 0])).tolist() == [3]


def test_alarms_are_counted():
    def graph(network, warned, nodes_fail, localizer_fails=False):
        about = {"network": network, "category": "x", "warned": warned}
        return [
            about | {"method": "nodes", "fails": nodes_fail},
            about | {"method": "nodes", "fails": False},
            about | {"method": "localizer", "fails": localizer_fails},
            about | {"method": "mean mark"},
        ]

    rows = graph("a", 2, True) + graph("b", 0, True) + graph("c", 1, False)
    rows += graph("d", 1, False, True) + graph("e", 0, False)
    assert everywhere.alarms(rows) == {
        "graphs": 5,
        "nodes fail": 2,
        "nodes fail, warned": 1,
        "warned": 3,
        "false alarms": 1,
    }


@pytest.fixture
def folder(tmp_path):
    """Three crops of two photographs, in a category folder."""
    crops = tmp_path / "data" / "set"
    crops.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(3):
        pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(crops / f"{i}.png")
    content = {
        "category": "things",
        "parts": ["tip"],
        "images": {f"{i}.png": {"tip": [i, 2 * i]} for i in range(3)},
        "source": {"0.png": "a", "1.png": "a", "2.png": "b"},
    }
    (crops / "parts.json").write_text(json.dumps(content))
    return crops


def test_crops_are_recorded_once(folder, tmp_path):
    runs = []

    def network():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 4, 4), torch.nn.ReLU())
        model.register_forward_hook(lambda *_: runs.append(1))
        return model.eval()

    module = SimpleNamespace(SIZE=32, MEAN=(0.5,) * 3, STD=(0.5,) * 3, CEILING=0.4, network=network)
    cache = tmp_path / "cache"
    first, marks = recorded.crops(folder, module, ["1"], cache=cache)
    assert first.names == ("0.png", "2.png") == marks.names
    np.testing.assert_allclose(marks.parts["tip"], [[0.5, 0.5], [2.5, 4.5]])
    assert first.maps[0].max() == pytest.approx(0.4)
    before = len(runs)
    again, _ = recorded.crops(folder, module, ["1"], cache=cache)
    assert len(runs) == before
    assert again.fingerprint == first.fingerprint
    assert [file.suffix for file in cache.iterdir()] == [".safetensors"]
    # what else is recorded has a file of its own
    every, _ = recorded.crops(folder, module, ["1"], which="all", cache=cache)
    assert len(every.names) == 3
    recorded.crops(folder, module, ["0"], cache=cache)
    assert len(list(cache.iterdir())) == 3


def test_categories_are_found_by_either_name(folder):
    data = folder.parent
    assert recorded.categories([data], None) == [(folder, "things")]
    assert recorded.categories([folder], ["things"]) == [(folder, "things")]
    assert recorded.categories([data], ["set"]) == [(folder, "things")]
    with pytest.raises(SystemExit, match="no category cows; there are things"):
        recorded.categories([data], ["cows"])
    with pytest.raises(SystemExit, match=r"no parts\.json"):
        recorded.categories([data / "elsewhere"], None)


def test_small_run(tmp_path, capsys):
    rows = everywhere.main(["--small", "--json", str(tmp_path / "rows.json")])
    written = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert len(written) == len(rows)
    assert {row["method"] for row in rows} == {
        "mean mark", "raw peaks", "constant grid", "nodes", "nodes, expected", "localizer",
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "cells fail" in printed
    assert "false alarms" in printed
    with pytest.raises(SystemExit):
        everywhere.main([])
