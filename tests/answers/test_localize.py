"""Locating parts: planted worlds with exact answers, simulated draws, creatures, wrong inputs."""

import re
from dataclasses import replace

import damaged
import numpy as np
import pytest
import readers
from random_graphs import random_graph

import explgraph
from explgraph import ExplgraphError, Localizer, Parse, creatures
from explgraph.answers import part_templates, voting
from explgraph.answers.located import Located
from explgraph.evaluation.landmarks import from_creatures

SIZE = (120, 160)
DIAGONAL = 200.0


def planted(n=40, seed=0, noise=0.0, nodes=8, jumpy=()):
    """A body that moves about, with nodes fixed to it; `jumpy` nodes are anywhere.

    Returns the graph, its parse, and the body's place (N, 2).
    """
    rng = np.random.default_rng(seed)
    graph = random_graph(seed, layers=("top",), nodes=nodes, image_size=SIZE)
    for attributes in graph.nx.nodes.values():
        attributes["reliability"] = 0.5
    body = rng.uniform([50, 40], [110, 80], (n, 2))
    ways = rng.uniform(-30, 30, (nodes, 2))
    positions = body[:, None] + ways + noise * rng.standard_normal((n, nodes, 2))
    for v in jumpy:
        positions[:, v] = rng.uniform([0, 0], [160, 120], (n, 2))
    return graph, parse_of(graph, positions), body


def parse_of(graph, positions, scores=None):
    positions = np.asarray(positions, np.float32)
    names = tuple(f"{i}.png" for i in range(len(positions)))
    scores = np.ones(positions.shape[:2]) if scores is None else scores
    scores = np.asarray(scores, np.float32)
    return Parse(graph.node_ids, names, positions, positions, scores, graph.image_size)


@pytest.mark.parametrize("k", [43, 44, 60])
def test_no_template_is_left_out_as_a_whole(k):
    """Three shots of one group that would share a fold, did folds go by number alone."""
    graph, parse, body = planted(k, noise=3)
    nodes = voting.Nodes(
        np.ones(8), np.full(8, 0.5), np.ones(8), np.full(8, 100.0), DIAGONAL, np.ones(8, bool)
    )
    group = np.zeros(k, dtype=np.int64)
    group[[0, 20, 40]] = 1
    positions = parse.positions.astype(np.float64)
    sums = voting.shot_sums(positions, np.ones((k, 8)), body)
    errors, guess = part_templates.left_out(nodes, sums, positions, np.ones((k, 8)), body, group)
    assert np.isfinite(errors).all()
    assert np.isfinite(guess.scale).all()
    assert (errors < 20).all()
    assert len(graph)


def only(places, shots):
    marks = np.full(places.shape, np.nan)
    marks[shots] = places[shots]
    return marks


@pytest.mark.parametrize("shots", [[3], [1, 2, 7], list(range(12))])
def test_a_rigid_world_is_located_exactly(shots):
    graph, parse, body = planted()
    parts = {"beak": body + np.array([9, -4]), "tail": body - np.array([20, 3])}
    localizer = Localizer(graph).fit(parse, {name: only(p, shots) for name, p in parts.items()})
    located = localizer.predict(parse)
    positions, uncertainty = located.positions, located.uncertainty
    assert localizer.parts == ("beak", "tail")
    for name, truth in parts.items():
        np.testing.assert_allclose(positions[name], truth, atol=1e-3)
        assert (uncertainty[name] > 0).all()
        assert uncertainty[name].shape == (40,)


def test_jumpy_nodes_do_not_disturb():
    """They are known without marks, so that one shot is enough."""
    graph, parse, body = planted(n=60, nodes=16, jumpy=range(7))
    positions = Localizer(graph).fit(parse, {"a": only(body, [5])}).predict(parse).positions
    assert np.linalg.norm(positions["a"] - body, axis=1).mean() < 0.01 * DIAGONAL


def test_new_images_and_other_units_of_score():
    graph, parse, body = planted()
    localizer = Localizer(graph).fit(parse, {"a": only(body, [0, 1])})
    one = Parse(parse.nodes, ("x",), parse.positions[[9]], parse.expected[[9]],
                parse.scores[[9]], SIZE)  # fmt: skip
    np.testing.assert_allclose(localizer.predict(one).positions["a"], body[[9]], atol=1e-3)
    rng = np.random.default_rng(0)
    positions = parse.positions + rng.normal(size=parse.positions.shape)
    scores = rng.uniform(0.1, 1, parse.scores.shape)
    unit = 10 ** rng.uniform(-3, 3, parse.scores.shape[1])
    answers = [
        Localizer(graph).fit(p, {"a": only(body, [0, 1])}).predict(p).positions["a"]
        for p in (parse_of(graph, positions, scores), parse_of(graph, positions, scores * unit))
    ]
    np.testing.assert_allclose(*answers, rtol=1e-4)


def test_images_of_any_size_are_treated_alike():
    graph, parse, body = planted(noise=6.0)
    big = random_graph(0, layers=("top",), nodes=8, image_size=(360, 480))
    for attributes in big.nx.nodes.values():
        attributes["reliability"] = 0.5
    marks = only(body, [0, 4, 8, 9])
    small = Localizer(graph).fit(parse, {"a": marks}).predict(parse)
    thrice = parse_of(big, 3 * parse.positions)
    large = Localizer(big).fit(thrice, {"a": 3 * marks}).predict(thrice)
    np.testing.assert_allclose(large.positions["a"], 3 * small.positions["a"], rtol=1e-4)
    np.testing.assert_allclose(large.uncertainty["a"], 3 * small.uncertainty["a"], rtol=1e-4)


def test_uncertainty_covers_nine_in_ten_whatever_the_noise():
    for noise in (2.0, 6.0, 12.0):
        covered = []
        for seed in range(8):
            graph, parse, body = planted(n=120, seed=seed, noise=0.0, nodes=20)
            rng = np.random.default_rng(seed)
            # the part itself moves against the body: an error that all nodes share
            part = body + noise * rng.standard_normal(body.shape)
            part = np.clip(part, 0, [160, 120])
            localizer = Localizer(graph).fit(parse, {"a": only(part, list(range(40)))})
            located = localizer.predict(parse)
            positions, uncertainty = located.positions, located.uncertainty
            miss = np.linalg.norm(positions["a"] - part, axis=1)[40:]
            covered.append((miss <= uncertainty["a"][40:]).mean())
        assert 0.85 <= np.mean(covered) <= 0.97, noise


def two_poses(n=60, seed=0, noise=3.0):
    """Objects that every second image shows upside down, with a part that then is elsewhere."""
    graph, parse, body = planted(n=n, seed=seed, noise=noise, nodes=16)
    left = np.arange(n) % 2 == 0
    positions = parse.positions.copy()
    turned = 2 * body[:, None] - positions
    positions[~left] = turned[~left]
    part = np.clip(body + np.where(left, -40, 40)[:, None] * [1, 0.0], 0, [160, 120])
    return graph, parse_of(graph, positions), part, left


def test_two_poses_get_two_templates_and_one_pose_gets_one():
    graph, parse, part, _ = two_poses()
    localizer = Localizer(graph).fit(parse, {"a": only(part, list(range(16)))})
    assert len(localizer.templates("a")) == 2
    error = np.linalg.norm(localizer.predict(parse).positions["a"] - part, axis=1)[16:]
    assert np.median(error) < 0.05 * DIAGONAL
    few = Localizer(graph).fit(parse, {"a": only(part, [0, 1, 2])})
    assert len(few.templates("a")) == 1
    for seed in range(5):
        graph, parse, body = planted(seed=seed, noise=4.0)
        one = Localizer(graph).fit(parse, {"a": only(body, list(range(16)))})
        assert len(one.templates("a")) == 1


def test_presence_is_calibrated():
    """The part is there in half of the images; where it isn't, its nodes are anywhere, or faint."""
    rng = np.random.default_rng(0)
    graph, parse, body = planted(n=400, noise=5.0, nodes=12)
    there = rng.random(400) < 0.5
    positions = parse.positions.copy()
    lost = rng.uniform([0, 0], [160, 120], positions.shape)
    # some nodes are lost though the part is there, and most though not all where it isn't
    gone = rng.random(positions.shape[:2]) < np.where(there, 0.3, 0.6)[:, None]
    positions[gone] = lost[gone]
    parse = parse_of(graph, positions)
    known = np.arange(400) < 100
    marks = only(body, np.flatnonzero(known & there))
    localizer = Localizer(graph).fit(parse, {"a": marks, "b": marks}, absent={"a": known & ~there})
    presence = localizer.predict(parse).presence
    assert np.isnan(presence["b"]).all()
    p, truth = presence["a"][~known], there[~known]
    assert (p[truth][:, None] > p[~truth]).mean() > 0.8
    for low, high in ((0, 0.3), (0.3, 0.7), (0.7, 1.01)):
        here = (p >= low) & (p < high)
        assert here.sum() > 15
        assert abs(p[here].mean() - truth[here].mean()) < 0.15


def test_suggested_images_stand_for_all_poses():
    """Three poses, one of them in three images only: each is suggested once, the usual first."""
    rng = np.random.default_rng(0)
    ways = rng.uniform(-30, 30, (3, 10, 2))
    kind = np.array([0] * 20 + [1] * 12 + [2] * 3)
    positions = rng.uniform(40, 80, (35, 1, 2)) + ways[kind] + rng.normal(size=(35, 10, 2))
    graph = random_graph(1, layers=("top",), nodes=10, image_size=SIZE)
    localizer = Localizer(graph)
    picked = localizer.suggest(parse_of(graph, positions), 3)
    assert kind[picked].tolist() == [0, 1, 2]
    more = localizer.suggest(parse_of(graph, positions), 2, marked=picked[:1])
    assert kind[more].tolist() == [1, 2]
    every = localizer.suggest(parse_of(graph, positions), 35)
    assert sorted(every) == list(range(35))


@pytest.fixture(scope="module")
def animals():
    model = creatures.network()
    drawn, new = creatures.draw(120, seed=1), creatures.draw(100, seed=2)
    graph = explgraph.mine(model, drawn.tensor(), creatures.LAYERS, seed=0)
    return graph, drawn, graph.parse(model, drawn.tensor()), new, graph.parse(model, new.tensor())


def test_creatures_parts_are_located_from_ten_marks(animals):
    graph, drawn, parse, new, other = animals
    parts = {k: v for k, v in from_creatures(drawn).parts.items() if k in ("head", "eye", "horn")}
    marks = {name: only(p, np.flatnonzero(np.isfinite(p[:, 0]))[:10]) for name, p in parts.items()}
    lacking = ~drawn.attributes["horns"] & (np.arange(120) < 30)
    localizer = Localizer(graph).fit(parse, marks, absent={"horn": lacking})
    located = localizer.predict(other)
    positions, uncertainty = located.positions, located.uncertainty
    for name, truth in from_creatures(new).parts.items():
        if name in parts:
            miss = np.linalg.norm(positions[name] - truth, axis=1)
            seen = np.isfinite(miss)
            assert miss[seen].mean() < 0.03 * np.hypot(112, 112)
            assert (miss[seen] <= uncertainty[name][seen]).mean() > 0.85
    presence = located.presence["horn"]
    horned = new.attributes["horns"]
    assert (presence[horned][:, None] > presence[~horned]).mean() > 0.9
    assert np.mean((presence - horned) ** 2) < 0.15


def test_nodes_get_the_parts_names(animals, tmp_path):
    graph, drawn, parse, new, other = animals
    truth = from_creatures(drawn).parts
    marks = {
        name: only(truth[name], np.flatnonzero(np.isfinite(truth[name][:, 0]))[:5])
        for name in ("head", "eye")
    }
    localizer = Localizer(graph).fit(parse, marks)
    graph.nx.nodes[graph.node_ids[0]]["label"] = "old"
    labelled = localizer.label(most=3)
    named = {v: name for v, name in labelled.nx.nodes(data="label") if name not in ("", "old")}
    assert set(localizer.nodes_of("head", 3)) <= set(named)
    assert set(named.values()) == {"head", "eye"}
    assert not any(graph.nx.nodes[v]["label"] in ("head", "eye") for v in graph.node_ids)
    # they lie on the part, also in new images
    seen = from_creatures(new).parts
    for node, name in named.items():
        gap = other.positions[:, other.nodes.index(node)] - seen[name]
        assert np.nanmean(np.linalg.norm(gap, axis=1)) < 0.1 * np.hypot(112, 112)
    labelled.write(tmp_path / "graph.json")
    assert '"head"' in (tmp_path / "graph.json").read_text()


WRONG = {
    "no part": ({}, None, "landmarks names no part"),
    "no mark": ({"a": "none"}, None, r"landmarks\['a'\] marks none of the 40 images; mark one"),
    "shape": ({"a": "short"}, None, r"landmarks\['a'\] has the shape \(39, 2\); expected \(40, 2"),
    "half": ({"a": "half"}, None, "'3.png' is .*expected two numbers, or NaN twice"),
    "outside": ({"a": "outside"}, None, "'3.png' is .* outside the image of 160 x 120 px"),
    "unknown part": ({"a": "good"}, {"b": "none"}, "absent names the part 'b', which landmarks"),
    "both": ({"a": "good"}, {"a": "all"}, r"absent\['a'\] says that image 3 lacks the part, but"),
    "flags": ({"a": "good"}, {"a": "numbers"}, r"absent\['a'\] must be \(40,\) bool"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_marks_are_told(case):
    landmarks, absent, told = WRONG[case]
    graph, parse, body = planted()
    some = {
        "none": np.full((40, 2), np.nan),
        "short": body[1:],
        "half": np.where(only(body, [3, 4]) == body[3, 0], np.nan, only(body, [3, 4])),
        "outside": only(body + 200, [3]),
        "good": only(body, [3]),
    }
    flags = {"none": np.zeros(40, bool), "all": np.ones(40, bool), "numbers": np.zeros(40)}
    with pytest.raises(ExplgraphError, match=told):
        Localizer(graph).fit(
            parse,
            {part: some[kind] for part, kind in landmarks.items()},
            absent=absent and {part: flags[kind] for part, kind in absent.items()},
        )


def test_wrong_uses_are_told():
    graph, parse, body = planted()
    _, foreign, _ = planted(seed=1, nodes=9)
    localizer = Localizer(graph)
    with pytest.raises(ExplgraphError, match="knows no part yet; call fit first"):
        localizer.predict(parse)
    with pytest.raises(ExplgraphError, match="no part 'a' was fitted; there are none"):
        localizer.nodes_of("a")
    with pytest.raises(ExplgraphError, match="holds 9 nodes, others than the graph's 8"):
        localizer.fit(foreign, {"a": body})
    localizer.fit(parse, {"beak": body})
    with pytest.raises(ExplgraphError, match="holds 9 nodes, others than the graph's 8"):
        localizer.predict(foreign)
    with pytest.raises(ExplgraphError, match=r"no part 'baek' was fitted.*'beak'"):
        localizer.nodes_of("baek")
    for k in (0, 41):
        with pytest.raises(ExplgraphError, match=f"k is {k}; expected 1 to 40"):
            localizer.suggest(parse, k)
    with pytest.raises(ExplgraphError, match="marked names image 40"):
        localizer.suggest(parse, 2, marked=[40])
    small = Parse(parse.nodes, parse.names, parse.positions, parse.expected, parse.scores, (9, 9))
    with pytest.raises(ExplgraphError, match="is of images of 9 x 9 px"):
        localizer.predict(small)
    empty = random_graph(0, layers=("top",), nodes=0)
    with pytest.raises(ExplgraphError, match="no nodes"):
        Localizer(empty).suggest(parse_of(empty, np.zeros((3, 0, 2))), 1)


def test_few_voters_do_not_make_a_radius_small():
    """Two nodes that always agree don't say that the part does."""
    graph, parse, body = planted(60, nodes=2)
    part = body + np.random.default_rng(5).normal(0, 6, body.shape)  # moves by itself
    localizer = Localizer(graph).fit(parse, {"a": only(part, [0])})
    located = localizer.predict(parse)
    miss = np.linalg.norm(located.positions["a"] - part, axis=1)
    assert (miss <= located.uncertainty["a"])[1:].mean() >= 0.85


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_located_parts_go_to_a_file_and_back(tmp_path, suffix):
    readers.needed(suffix)
    graph, parse, body = planted(noise=4.0)
    gone = np.arange(40) >= 30
    localizer = Localizer(graph).fit(
        parse, {"a": only(body, range(6)), "b": only(body, [7])}, absent={"a": gone}
    )
    for given in (parse, replace(parse, _to_original=lambda _, points: 2 * points + [1, 0])):
        located = localizer.predict(given)
        file = tmp_path / f"parts{suffix}"
        located.write(file)
        again = Located.read(file)
        assert again.names == parse.names
        for name in ("positions", "uncertainty", "presence", "photo"):
            known, found = getattr(located, name), getattr(again, name)
            assert (known is None) == (found is None) == (name == "photo" and given is parse)
            for part in known or ():
                atol = 5e-4 if suffix == ".csv" else 0  # px: people read it
                np.testing.assert_allclose(found[part], known[part], rtol=0, atol=atol)
        if suffix == ".csv":
            numbers = re.findall(r"\d\.(\d+)", file.read_text(encoding="utf-8"))
            assert numbers
            assert max(map(len, numbers)) <= 3
        table = readers.frame(file).set_index(["part", "image"])
        rounded = {"abs": 5e-4}
        assert table.loc[("b", "3.png"), "x"] == pytest.approx(
            located.positions["b"][3, 0], **rounded
        )
        assert np.isnan(table.loc[("b", "3.png"), "presence"])
        presence = table.loc[("a", "3.png"), "presence"]
        assert presence == pytest.approx(located.presence["a"][3], **rounded)
        if given is not parse:
            y = located.positions["a"][9, 1]
            assert table.loc[("a", "9.png"), "photo_y"] == pytest.approx(2 * y, abs=1e-3)


def test_files_that_hold_no_parts(tmp_path):
    (tmp_path / "parts.csv").write_text("part,image,x,y\na,b,1,2\n")
    with pytest.raises(ExplgraphError, match="lacks the column 'uncertainty'"):
        Located.read(tmp_path / "parts.csv")


def same(located, other):
    return all(
        np.array_equal(getattr(located, name)[part], getattr(other, name)[part], equal_nan=True)
        for name in ("positions", "uncertainty", "presence")
        for part in located.positions
    )


@pytest.fixture(scope="module")
def fitted():
    """A localizer of two parts, one of which has several templates and can be absent."""
    graph, parse, body = planted(40, noise=4.0)
    flipped = np.where((np.arange(40) % 2 == 0)[:, None], body, body + np.array([0, 25]))
    marks = {"a": only(flipped, range(24)), "b": only(body, [3])}
    return Localizer(graph).fit(parse, marks, absent={"a": np.arange(40) > 30}), parse


@pytest.mark.parametrize("seed", range(5))
def test_a_loaded_localizer_gives_the_same_answers(seed, tmp_path):
    graph, parse, body = planted(30, seed=seed, noise=3.0)
    k = 1 + 4 * seed
    localizer = Localizer(graph).fit(
        parse, {"ü": only(body, range(k)), "b": only(body, [9])}, absent={"ü": np.arange(30) > 27}
    )
    localizer.save(tmp_path / "parts.localizer")
    again = Localizer.load(tmp_path / "parts.localizer", graph)
    assert again.parts == localizer.parts
    other = parse_of(graph, parse.positions + np.float32(0.5), 0.9 * parse.scores)
    for seen in (parse, other):
        assert same(again.predict(seen), localizer.predict(seen))
    assert again.nodes_of("b") == localizer.nodes_of("b")
    assert again.label() == localizer.label()
    assert again.suggest(parse, 3) == localizer.suggest(parse, 3)
    first = (tmp_path / "parts.localizer").read_bytes()
    again.save(tmp_path / "parts.localizer")
    assert (tmp_path / "parts.localizer").read_bytes() == first


def test_a_damaged_localizer_is_refused(fitted, tmp_path):
    localizer, parse = fitted
    localizer.save(tmp_path / "x")
    damaged.refused_or_the_same(
        tmp_path / "x",
        lambda file: Localizer.load(file, localizer.graph),
        lambda found: same(found.predict(parse), localizer.predict(parse)),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, _: c["parts"].append(c["parts"][0]), "parts are not different texts"),
        (
            lambda c, _: c["parts"][0].update(shots=[["1.png", 3.0, 4.0]]),
            r"0/group is int64 \(24,\), expected",
        ),
        (lambda c, _: c["parts"][0].update(ratio=float("nan")), "ratio and presence are nan"),
        (lambda c, _: c["parts"][0].update(presence=[1.0]), "ratio and presence"),
        (lambda c, _: c["parts"][0].update(templates=0), "a part has no template"),
        (lambda c, _: c["parts"][0].pop("shots"), "KeyError: 'shots'"),
        (lambda c, _: c["parts"][1].update(shots=[["1.png", 3.0, -4.0]]), "a mark is '1.png', 3.0"),
        (
            lambda c, _: c["parts"][1].update(shots=[["1.png", True, 4.0]]),
            "a mark is '1.png', True",
        ),
        (lambda c, _: c["parts"][1].update(shots=[]), "a part has no mark"),
        (lambda c, _: c["parts"][1].update(shots=3), "TypeError: 'int' object is not iterable"),
        (lambda _, a: a["0/group"].fill(7), "0/group holds a number that is not from 0 to"),
        (lambda c, _: c["parts"][0].update(templates=9), "KeyError: '0/template"),
        (lambda _, a: a["0/errors"].fill(-1), "0/errors holds a number that is not from 0"),
        (lambda c, _: c["parts"].pop(), "arrays that it shouldn't: 1/errors"),
        (lambda c, _: c.update(height=7), "on images of 7 x 160 px"),
        (lambda _, a: a.pop("top"), "KeyError: 'top'"),
        (lambda _, a: a["top"].fill(np.nan), "top holds a number that is not from"),
        (lambda _, a: a.update(follows=a["follows"] + 1), "graph's nodes have another follows"),
        (lambda _, a: a["1/residual/nodes"].fill(2), "residual/nodes names a node twice"),
        (lambda _, a: a["1/template 0/voters"].fill(99), "voters holds a number .* 0 to 7"),
        (lambda _, a: a["1/template 0/spread"].fill(-1), "spread holds a number"),
    ],
)
def test_a_wrong_localizer_is_refused(fitted, tmp_path, change, message):
    fitted[0].save(tmp_path / "x")
    damaged.edited(tmp_path / "x", change)
    with pytest.raises(ExplgraphError, match=f"holds no valid localizer: .*{message}"):
        Localizer.load(tmp_path / "x", fitted[0].graph)


def test_a_localizer_of_another_graph(fitted, tmp_path):
    localizer, _ = fitted
    localizer.save(tmp_path / "x")
    with pytest.raises(ExplgraphError, match=r"a graph of 8 nodes .* graph has 5 others"):
        Localizer.load(tmp_path / "x", planted(nodes=5)[0])
    with pytest.raises(ExplgraphError, match="knows no part yet"):
        Localizer(localizer.graph).save(tmp_path / "y")
    localizer.graph.save(tmp_path / "x")
    with pytest.raises(ExplgraphError, match=r"is not a localizer: .* of the format 'explgraph'"):
        Localizer.load(tmp_path / "x", localizer.graph)


def test_what_is_located_unpacks_and_presence_is_asked_for_alone(fitted):
    localizer, parse = fitted
    located = localizer.predict(parse)
    positions, uncertainty = located
    assert positions is located.positions
    assert uncertainty is located.uncertainty
    for part, there in localizer.presence(parse).items():
        np.testing.assert_array_equal(there, located.presence[part])


def test_the_graph_s_parts_get_the_names(animals):
    """The part of the graph that is named lies where the named thing is, in new images."""
    graph, drawn, parse, new, other = animals
    truth = from_creatures(drawn).parts
    marks = {
        name: only(truth[name], np.flatnonzero(np.isfinite(truth[name][:, 0]))[:8])
        for name in ("eye", "chest", "wing")
    }
    labelled = Localizer(graph).fit(parse, marks).label(most=5)
    named = {part.name: part for part in labelled.parts if part.name}
    assert set(named) == {"eye", "chest", "wing"}
    assert not any(part.name for part in graph.parts)
    places, seen = labelled.parts_in(other), from_creatures(new).parts
    for name, part in named.items():
        labels = [labelled.nx.nodes[v]["label"] for v in part.nodes]
        assert labels.count(name) > list(labelled.nx.nodes(data="label")).count(name) / 2
        gap = np.linalg.norm(places.positions - seen[name][:, None], axis=-1)
        assert places.titles[np.nanmean(gap, 0).argmin()] == name


def test_marks_of_a_part_of_the_graph_rename_none(animals):
    graph, drawn, parse, *_ = animals
    graph = graph.name_part("p4", "back")
    eye = only(from_creatures(drawn).parts["eye"], np.arange(8))
    for name in ("p3", "part 2", "back"):  # ids, titles, names, though it sits at another one
        labelled = Localizer(graph).fit(parse, {name: eye}).label()
        assert [part.name for part in labelled.parts if part.name] == ["back"]
        assert name in {label for _, label in labelled.nx.nodes(data="label")}


def test_one_part_gets_the_name_that_more_of_its_nodes_have(animals):
    graph = animals[0]
    localizer = Localizer(graph)
    ids = graph.part("p1").nodes
    apart = graph.part("p2").nodes[0]
    two = {ids[0]: "pupil", ids[1]: "lid", ids[2]: "lid"}
    assert localizer._graph_parts(two) == {"p1": "lid"}
    assert localizer._graph_parts({ids[0]: "lid", apart: "lid"}) == {}  # half isn't most
