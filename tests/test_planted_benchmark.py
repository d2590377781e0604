"""The benchmark of planted filters: its own logic, with stand-ins for mining."""

import json
from types import SimpleNamespace

import networkx
import numpy as np
import pytest
import torch

from benchmarks import planted, planting, recorded
from explgraph.geometry import Layer
from explgraph.recording import Activations

SIZE = (140, 140)
DIAGONAL = float(np.hypot(*SIZE))
HOMES = np.array([[35.0, 35.0], [105.0, 35.0], [35.0, 105.0], [105.0, 105.0]])
COUNTS = {"sums": 6, "occasions": 6, "threes": 4, "singles": 4}


@pytest.fixture(scope="module")
def world():
    """Four filters that hold one moving part each, and two that fire all over, in 40 images."""
    rng = np.random.default_rng(0)
    places = HOMES + rng.uniform(-15, 15, (40, 4, 2))
    layer = Layer("low", 0, 6, 14, 14, (10.0, 10.0), (5.0, 5.0), (9.0, 9.0))
    top = Layer("top", 1, 2, 7, 7, (20.0, 20.0), (10.0, 10.0), (9.0, 9.0))
    at = layer.centres_x
    y, x = (np.exp(-((at - places[..., i : i + 1]) ** 2) / (2 * 8.0**2)) for i in (1, 0))
    blobs = 5 * y[..., :, None] * x[..., None, :]
    noise = rng.uniform(0.5, 1, (40, 2, 14, 14))
    maps = [torch.from_numpy(np.concatenate([blobs, noise], axis=1)).float()]
    maps.append(torch.ones(40, 2, 7, 7))
    return Activations((layer, top), tuple(map(str, range(40))), SIZE, maps), places


def engine_of(places, answer):
    """A graph of one true node for each of the first four filters, and `answer` for the planted.

    `answer(kind, sources, shown)` lists positions (N, 2), scores (N,) and reliability of the nodes
    of a planted filter. What was planted is read off the maps.
    """

    def nodes(activations):
        count = activations.layers[0].channels
        maps = activations.maps[0].numpy()
        n = len(maps)
        base = [(c, places[:, c], np.ones(n), 1.0) for c in range(4)]
        base += [(c, np.full((n, 2), 70.0), np.ones(n), 1.0) for c in (4, 5)]
        base.append((0, np.full((n, 2), 5.0), np.ones(n), 1.0))  # a second, wrong node
        base.append((1, places[:, 2], np.ones(n), 0.0))  # of no reliability
        for c in range(6, count):
            sources, shown = what(maps[:, c], maps[:, :4])
            base += [(c, *node) for node in answer(sources, shown)]
        return base

    def mine(activations, *, seed):
        del seed
        graph = networkx.DiGraph()
        for i, (c, _, _, reliability) in enumerate(nodes(activations)):
            values = {"layer": "low", "filter": c, "reliability": reliability, "energy": 0.5}
            graph.add_node(f"low/{c}/{i}", **values)
        return SimpleNamespace(nx=graph)

    def parse(graph, activations):
        _, positions, scores, _ = zip(*nodes(activations), strict=True)
        stacked = np.stack(positions, axis=1)
        return SimpleNamespace(
            nodes=tuple(graph.nx),
            positions=stacked,
            expected=stacked,
            scores=np.stack(scores, axis=1),
        )

    return mine, parse


def what(planted_map, filters):
    """Which filters (N, 4, H, W) are in a planted map (N, H, W), and in which images: (S, N)."""
    n = len(planted_map)
    peak = filters.reshape(n, 4, -1).argmax(axis=-1)
    fires = (np.take_along_axis(planted_map.reshape(n, -1), peak, axis=1) > 1).T
    sources = np.flatnonzero(fires.mean(axis=1) > 0.4)
    return sources, fires[sources]


def by_kind(row):
    keys = ("sums both", "occasions both", "threes all", "singles one")
    return tuple(row.get(key) for key in keys)


def run(world, answer, **options):
    activations, places = world
    mine, parse = engine_of(places, answer)
    return planted.planted(activations, 0, mine, parse, 0, counts=COUNTS, **options)


def test_what_is_planted(world):
    activations, places = world
    sources = planting.Sources(np.arange(4), places, np.ones((40, 4)))
    plants = planting.draw_plants(sources, SIZE, COUNTS, 0)
    layer, maps = activations.layers[0], activations.maps[0].numpy()
    spread = 0.08 * 140
    new = planting.plant_maps(maps, layer, sources, plants, spread)
    assert [p.kind for p in plants] == [kind for kind, n in COUNTS.items() for _ in range(n)]
    assert len({(p.kind, p.sources) for p in plants}) == len(plants)
    unit = maps / maps.std(axis=(0, 2, 3), keepdims=True)
    for p, plant in enumerate(plants):
        assert len(plant.sources) == {"threes": 3, "singles": 1}.get(plant.kind, 2)
        if plant.kind == "occasions":
            assert plant.shown.sum(axis=1).tolist() == [20, 20]
            assert (plant.shown[0] ^ plant.shown[1]).all()
        else:
            assert plant.shown.all()
        for n in (0, 17, 39):
            shown = [s for s, seen in zip(plant.sources, plant.shown[:, n], strict=True) if seen]
            expected = unit[n, shown].sum(axis=0)
            if plant.kind == "singles":
                x, y = places[n, shown[0]]
                gap = (layer.centres_x - x)[None] ** 2 + (layer.centres_y - y)[:, None] ** 2
                expected = expected * np.exp(-gap / (2 * spread**2))
            np.testing.assert_allclose(new[n, p], expected, atol=1e-5)


def test_near_sources_are_not_put_together():
    places = np.tile([[50.0, 50.0], [60.0, 50.0], [100.0, 100.0]], (10, 1, 1))
    sources = planting.Sources(np.arange(3), places, np.ones((10, 3)))
    plants = planting.draw_plants(sources, SIZE, COUNTS, 3)
    pairs = {p.sources for p in plants if p.kind == "sums"}
    assert pairs == {(0, 2), (1, 2)}
    assert not [p for p in plants if p.kind == "threes"]
    assert sum(p.kind == "singles" for p in plants) == 3


def test_share_that_a_node_holds(world):
    activations, places = world
    maps, layer = activations.maps[0].numpy(), activations.layers[0]
    filters = np.array([0, 3, 0, 4])
    nodes = np.stack([places[:, 0], places[:, 3], places[:, 1], places[:, 0]], axis=1)
    shares = planting.held_shares(maps, layer, nodes, filters, 14.0)
    # blobs squared have spread 8 / sqrt(2); around their middle a Gaussian window of 14 keeps
    # w^2 / (w^2 + s^2) of them, and the image's border next to nothing
    assert shares[:2] == pytest.approx(14**2 / (14**2 + 32), abs=0.02)
    assert shares[2] < 0.01
    assert 0.02 < shares[3] < 0.1  # noise: 2 pi 14^2 / 140^2, less what is outside the image


def test_sources_are_filters_with_one_part(world):
    activations, _ = world
    rows = run(world, lambda *_: [])
    assert rows[0]["sources"] == 4
    rows = planted.planted(
        activations, 0, *engine_of(world[1] * 0 + 5, lambda *_: []), 0, counts=COUNTS
    )
    assert rows[0]["sources"] == 0  # no node holds its filter
    assert not {"sums both", "singles one"} & set(rows[0])


def test_all_is_found_by_nodes_at_the_sources(world):
    places = world[1]
    rng = np.random.default_rng(1)

    def answer(sources, shown):
        # out of place where the source isn't shown, and silent there
        for s, seen in zip(sources, shown, strict=True):
            yield np.where(seen[:, None], places[:, s], 0), rng.uniform(1, 2, 40) * seen, 0.5

    [row] = run(world, lambda *found: list(answer(*found)))
    assert by_kind(row) == (1, 1, 1, 1)
    assert row["sums one"] == row["singles right"] == 1
    assert row["nodes"] == pytest.approx((6 * 2 + 6 * 2 + 4 * 3 + 4) / 20)


def test_presence_is_judged_by_scores(world):
    places = world[1]

    def sure(of):
        # the source's own score is 1 everywhere, so that no image is above its lowest third
        def answer(sources, shown):
            return [(places[:, s], of(seen), 1.0) for s, seen in zip(sources, shown, strict=True)]

        activations = world[0]
        mine, parse = engine_of(places, answer)

        def parse_with_scores(graph, activations):
            found = parse(graph, activations)
            found.scores[:, :4] = np.linspace(0, 1, 40)[:, None]
            return found

        [row] = planted.planted(activations, 0, mine, parse_with_scores, 0, counts=COUNTS)
        return row["presence AUC"]

    assert sure(lambda seen: seen.astype(float)) == 1
    assert sure(lambda seen: 1.0 - seen) == 0
    assert sure(lambda seen: np.ones(len(seen))) == 0.5

    # scores that err only where the source itself is weak are right: those images don't count
    weak = np.arange(40) < 13
    assert sure(lambda seen: np.where(weak, 1.0 - seen, seen)) == 1


@pytest.mark.parametrize("reliability", [None, 0.0])
def test_nothing_is_found_without_reliable_nodes(world, reliability):
    places = world[1]

    def answer(sources, shown):
        del shown
        if reliability is None:
            return []
        return [(places[:, s], np.ones(40), reliability) for s in sources]

    [row] = run(world, answer)
    assert by_kind(row) == (0, 0, 0, 0)
    assert row["nodes"] == row["sums one"] == 0
    assert "presence AUC" not in row


def test_one_node_is_not_two(world):
    """A node at one source finds half of a sum, and a single twice over is no single."""
    places = world[1]

    def first(sources, shown):
        del shown
        return [(places[:, sources[0]], np.ones(40), 1.0)]

    [row] = run(world, first)
    assert by_kind(row) == (0, 0, 0, 1)
    assert row["sums one"] == 1

    def twice(sources, shown):
        return first(sources, shown) * 2

    [row] = run(world, twice)
    assert by_kind(row) == (0, 0, 0, 0)
    assert row["singles right"] == 0


def test_single_found_elsewhere_is_one_but_not_right(world):
    [row] = run(world, lambda *_: [(np.full((40, 2), 70.0), np.ones(40), 1.0)])
    assert row["singles one"] == 1
    assert row["singles right"] == 0


def test_finding_is_by_distance_or_by_following():
    rng = np.random.default_rng(2)
    truth = rng.uniform(40, 100, (400, 2))
    step = np.array([1.0, 0.0]) * DIAGONAL
    still = np.tile(truth.mean(axis=0), (400, 1))
    nodes = np.stack(
        [
            truth + 0.049 * step,  # near
            truth + 0.099 * step,  # less near, but follows
            truth + 0.101 * step,  # follows from too far
            still,  # near nothing: 0.12 of the diagonal away, on average
            truth + rng.choice([-1, 1], (400, 1)) * 0.08 * step,  # less near, follows badly
        ],
        axis=1,
    )
    found, distance = planting.finds(nodes, truth, DIAGONAL)
    assert found.tolist() == [True, True, False, False, False]
    assert distance[:3] == pytest.approx(np.array([0.049, 0.099, 0.101]) * DIAGONAL)


def test_sources_share_no_node():
    near, far = 1.0, 50.0

    def assigned(found, distance):
        return planting.assign(np.array(found, dtype=bool), np.array(distance)).tolist()

    assert assigned([[1], [1]], [[near], [near]]).count(-1) == 1
    assert assigned([[1, 1], [1, 0]], [[near, far], [near, far]]) == [1, 0]
    # all three are served, although the nearest node of each is the same
    assert assigned(
        [[1, 1, 0], [1, 0, 1], [1, 0, 0]], [[near, far, 0], [near, 0, far], [near, 0, 0]]
    ) == [1, 2, 0]
    assert assigned(np.zeros((2, 0)), np.zeros((2, 0))) == [-1, -1]
    assert assigned([[0, 0]], [[near, near]]) == [-1]


def test_auc_counts_pairs():
    rng = np.random.default_rng(0)
    present, absent = rng.integers(0, 5, 30), rng.integers(0, 5, 20)
    pairs = [(p > a) + 0.5 * (p == a) for p in present for a in absent]
    assert planting.auc(present, absent) == pytest.approx(np.mean(pairs))
    assert np.isnan(planting.auc(present, absent[:0]))


def test_hold_out_mines_half_and_judges_the_rest(world):
    activations, places = world
    seen = []

    def answer(sources, shown):
        # right on the mined images only
        wrong = np.tile([[True, False]], (1, 20))[0][: shown.shape[1], None]
        del shown
        return [(np.where(wrong, places[:, s], 0.0), np.ones(40), 1.0) for s in sources]

    _, parse = engine_of(places, answer)
    mine_all, _ = engine_of(places, answer)

    def mine(given, *, seed):
        seen.append(given.names)
        whole = activations
        if given.layers[0].channels > 6:
            whole = SimpleNamespace(layers=given.layers, maps=grown[0].maps)
        return mine_all(whole, seed=seed)

    grown = []
    original = planted.append_filters

    def append(*arguments):
        grown.append(original(*arguments))
        return grown[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planted, "append_filters", append)
        [row] = planted.planted(activations, 0, mine, parse, 0, counts=COUNTS, hold_out=True)
    assert seen == [activations.names[::2]] * 2
    assert row["sums both"] == 0
    assert row["sources"] == 4


def test_plain_method_takes_apart_what_is_plain(world):
    """Clean blobs far apart: two peaks in two groups find the parts of a sum."""
    rows = {row["method"]: row for row in run(world, lambda *_: [], baselines=True)}
    assert list(rows) == ["nodes", "peaks, k = 1", "peaks, k = 2", "peaks, k = 3"]
    assert rows["peaks, k = 2"]["sums both"] == 1
    assert rows["peaks, k = 3"]["threes all"] == 1
    assert rows["peaks, k = 1"]["sums both"] == 0
    assert rows["peaks, k = 1"]["singles right"] == 1


def test_only_the_layer_grows(world):
    activations, _ = world
    new = np.ones((40, 3, 14, 14), dtype=np.float32)
    grown = planting.append_filters(activations, 0, new)
    assert [layer.channels for layer in grown.layers] == [9, 2]
    assert torch.equal(grown.maps[0][:, :6], activations.maps[0])
    assert (grown.maps[0][:, 6:] == 1).all()
    assert grown.maps[1] is activations.maps[1]
    assert activations.layers[0].channels == 6


def test_recorded_activations_are_kept(tmp_path, world):
    activations, _ = world
    recorded.write(activations, tmp_path / "a.safetensors")
    again = recorded.read(tmp_path / "a.safetensors")
    assert again.fingerprint == activations.fingerprint
    assert again.layers == activations.layers


def test_small_run(tmp_path, capsys):
    rows = planted.main(["--small", "--json", str(tmp_path / "rows.json")])
    assert {row["layer"] for row in rows} == {"stage3", "stage2"}
    for row in rows:
        for name in ("sums both", "singles one", "occasions both"):
            assert 0 <= row[name] <= 1
        assert row["planted sums"] == planted.SMALL["sums"]
    assert len(json.loads((tmp_path / "rows.json").read_text())["rows"]) == len(rows)
    assert "| creatures | stage3 | nodes |" in capsys.readouterr().out


def test_small_run_guards_the_sums(monkeypatch):
    row = {"layer": "stage3", "method": "nodes", "sums both": 0.5}
    monkeypatch.setattr(planted, "rows_of", lambda *_: iter([row]))
    monkeypatch.setattr(planted, "LEAST_SUMS", 0.6)
    with pytest.raises(SystemExit, match=r"sums both: 0.50, expected at least 0.6"):
        planted.main(["--small"])
    monkeypatch.setattr(planted, "LEAST_SUMS", 0.5)
    planted.main(["--small"])
