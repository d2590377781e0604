"""Deletion, insertion and shuffled weights against formulas: behind the top layer all is linear."""

import json
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from small_network import graph_of, network, pictures

import explgraph
from explgraph import ExplgraphError, ExplgraphWarning, creatures
from explgraph.answers.curves import area
from explgraph.answers.faithfulness import faithfulness
from explgraph.answers.randomised import randomised
from explgraph.explaining.attribution import Places
from explgraph.explaining.elements import Filters, Units, nodes_of, parts_of, speaking_parts_of
from explgraph.explaining.intervene import run

pytestmark = pytest.mark.usefixtures("one_thread")

FIRST = 2


@pytest.fixture(scope="module")
def world():
    model = network(positive=False)
    model.head.weight.data.neg_()  # what it sees speaks for its classes
    return model, graph_of(model), pictures(14, seed=9)


@pytest.fixture(scope="module")
def found(world):
    model, graph, images = world
    return faithfulness(model, graph, images, 1, first=FIRST, batch_size=5)


@pytest.fixture(scope="module")
def truth(world):
    """Maps of the top layer, what its units add to class 1, and where nodes are; float64."""
    model, graph, images = world
    with torch.no_grad():
        done = run(model, images, graph.layers)
        maps = done.maps["upper"].double().relu()
        rate = model.head.weight[1].double() / maps[0, 0].numel()
    seen = Places(graph).seen(done.maps)
    return maps, maps * rate[:, None, None], seen, done.scores[:, 1].double().numpy()


def kept(found, images):
    """Numbers of the images that count."""
    names = [str(i).zfill(len(str(len(images) - 1))) for i in range(len(images))]
    return [names.index(name) for name in found.names]


def test_scores_are_what_the_layer_carries(world, found, truth):
    model, _, images = world
    _, units, _, scores = truth
    used = kept(found, images)
    assert_allclose(found.scores, scores[used], atol=1e-5)
    assert_allclose(found.empty, float(model.head.bias.detach()[1]), atol=1e-5)
    assert_allclose(found.carried, units.sum((1, 2, 3)).numpy()[used], atol=1e-5)
    assert_allclose(found.added, found.carried, atol=1e-4)  # contributions add up
    expected = scores > float(model.head.bias.detach()[1])
    assert found.left_out == (~expected).sum() == len(images) - len(used)


def by_hand(world, truth, groups, worth):
    """Give scores without, and with only, the first 0, 1, ... groups of nodes, and their sizes."""
    _, graph, images = world
    maps, units, seen, scores = truth
    places = Places(graph)
    nodes = graph.nodes_of("upper")
    split = places.weights(nodes, seen, maps).double()
    filters = places.filters(nodes)
    each = (worth[:, filters] * split).sum((2, 3)).numpy()
    own = np.stack([each[:, [nodes.index(v) for v in group]].sum(1) for group in groups], 1)
    left, alone, size = (np.zeros((len(images), FIRST + 1)) for _ in range(3))
    for i in range(len(images)):
        order = np.argsort(-own[i], kind="stable")
        for k in range(FIRST + 1):
            some = [v for g in order[:k] for v in groups[g]]
            share = torch.zeros_like(maps[i])
            for v in some:
                share[filters[nodes.index(v)]] += split[i, nodes.index(v)]
            left[i, k] = scores[i] - (units[i] * share).sum()
            alone[i, k] = scores[i] - (units[i] * (1 - share)).sum()
            size[i, k] = (maps[i] * share).sum() / maps[i].sum()
    return left, alone, size


@pytest.mark.parametrize("kind", ["parts", "nodes"])
@pytest.mark.parametrize("by", ["contribution", "activation"])
def test_the_first_are_taken_away_and_kept(world, found, truth, kind, by):
    _, graph, images = world
    maps, units, *_ = truth
    nodes = graph.nodes_of("upper")
    groups = [[v] for v in nodes]
    if kind == "parts":
        own = [[v for v in part.nodes if v in nodes] for part in graph.parts]
        groups = [group for group in own if group]
    worth = units if by == "contribution" else maps
    left, alone, size = by_hand(world, truth, groups, worth)
    used = kept(found, images)
    curve = found.curve(kind, by)
    assert curve.total == len(groups) >= FIRST
    assert_allclose(curve.left, left[used], atol=1e-4)
    assert_allclose(curve.kept, alone[used], atol=1e-4)
    assert_allclose(curve.held, size[used], atol=1e-5)


def test_filters_go_whole(world, found, truth):
    _, _, images = world
    _, units, _, scores = truth
    used = kept(found, images)
    ranked = np.sort(units.sum((2, 3)).numpy(), axis=1)[:, ::-1]
    curve = found.curve("filters", "gradient x activation")
    expected = scores[:, None] - np.pad(ranked[:, :FIRST].cumsum(1), ((0, 0), (1, 0)))
    assert_allclose(curve.left, expected[used], atol=1e-4)


def test_sizes_are_equal(found):
    ours = found.curves[0]
    assert_allclose(ours.held_equal[:, 0], ours.held[:, -1], rtol=0.011)
    for curve in found.curves:
        if curve.elements == "parts' nodes for it":  # there may be less of these
            assert (curve.held_equal <= 1.02 * ours.held_equal).all()
        else:
            assert_allclose(curve.held_equal, ours.held_equal, rtol=0.02)
    # taken in the one order or the other, all of ours are all of ours
    again = found.curve("parts", "activation")
    assert_allclose(ours.left_equal[:, -1], again.left_equal[:, -1], atol=0.02)


def test_random_units_lose_as_much_as_they_hold(found):
    """In the mean over units, what is lost is in proportion to the activation."""
    units = found.curve("units", "random")
    assert units.left.shape[1] == 0
    lost = found.share(found.lost(units.left_equal))
    assert_allclose(lost, units.held_equal.mean(0), atol=0.15)


def test_shares_are_ratios_of_sums(found):
    row, curve = found.table()[0], found.curves[0]
    carried = (found.scores - found.empty).sum()
    assert row["lost"] == pytest.approx((found.scores - curve.left[:, -1]).sum() / carried)
    assert row["kept"] == pytest.approx((curve.kept[:, -1] - found.empty).sum() / carried)
    assert row["lost_low"] <= row["lost"] <= row["lost_high"]
    assert row["expected"] == pytest.approx(curve.expected.sum() / carried)
    means = (curve.left - found.empty[:, None]).sum(0) / carried
    assert row["deletion"] == pytest.approx(np.mean([means[:-1], means[1:]]))


def test_areas_are_trapezoids():
    assert area(np.array([0.0, 1, 3]), np.array([1.0, 0.5, 0.5])) == pytest.approx(1.75 / 3)
    assert area(np.array([0.2]), np.array([0.7])) == 0.7


def test_batches_change_nothing(world, found):
    model, graph, images = world
    classes = np.full(len(images), 1)
    again = faithfulness(model, graph, images, classes, first=FIRST, batch_size=32)
    for a, b in zip(found.curves, again.curves, strict=True):
        assert_allclose(a.left, b.left, atol=1e-4)
        assert_allclose(a.kept_equal, b.kept_equal, atol=1e-3)


@pytest.mark.parametrize("replacement", ["mean", "resampled"])
def test_what_stands_in_stands_in(world, replacement):
    model, graph, images = world
    others = 0.3 * pictures(9, seed=11)
    found = faithfulness(
        model, graph, images, 1, first=FIRST, replacement=replacement, others=others
    )
    if replacement == "mean":
        with torch.no_grad():
            maps = run(model, others, graph.layers).maps["upper"].relu().mean(0)
            expected = model.head(maps.mean((1, 2)))[1]
        assert_allclose(found.empty, float(expected), atol=1e-4)
    else:
        with torch.no_grad():
            scores = model(others)[:, 1].numpy()
        assert all(abs(scores - empty).min() < 1e-4 for empty in found.empty)
    # contributions begin where it stands, and say how far they miss
    assert_allclose(found.added, found.carried, rtol=0.03)
    assert found.instead in found.told


def test_elements_hold_what_they_hold(world, truth):
    _, graph, images = world
    maps, units, seen, _ = truth
    maps, units = maps.float(), units.float()
    places = Places(graph)
    for kind in (
        parts_of(graph, places, "upper"), nodes_of(graph, places, "upper"), Filters(), Units()
    ):  # fmt: skip
        holding = kind.within(maps, seen, units)
        sums = holding.sums(units)
        shares = holding.shares(torch.ones(sums.shape))
        assert shares.shape == maps.shape
        assert 0 <= float(shares.min()) <= float(shares.max()) <= 1
        # together they have what they have one by one: nothing counts twice
        if kind.name in ("filters", "units", "nodes"):
            assert_allclose((units * shares).sum((1, 2, 3)), sums.sum(1), atol=1e-4)
    whole = parts_of(graph, places, "upper").within(maps, seen, units)
    speaking = speaking_parts_of(graph, places, "upper").within(maps, seen, units)
    assert (speaking.sums(units) >= whole.sums(units) - 1e-6).all()
    assert (speaking.sums(units) >= 0).all()
    assert (speaking.sums(maps) <= whole.sums(maps) + 1e-4).all()
    assert len(images) == len(maps)


def test_files(found, tmp_path):
    for suffix in ("md", "csv", "json", "png"):
        found.write(tmp_path / f"found.{suffix}")
    text = (tmp_path / "found.md").read_text()
    assert text == f"{found.told}\n\n{found.markdown()}\n"
    assert len((tmp_path / "found.csv").read_text().splitlines()) == 1 + len(found.curves)
    whole = json.loads((tmp_path / "found.json").read_text())
    assert_allclose(whole["curves"][0]["left"], found.curves[0].left)
    assert whole["table"][0]["lost"] == pytest.approx(found.table()[0]["lost"])
    assert whole["curves"][-1]["left"] == [[]] * len(found.names)
    with pytest.raises(ExplgraphError, match="suffix"):
        found.write(tmp_path / "found.xls")


def test_a_picture_has_every_curve(found):
    from explgraph.answers.curves_figure import curves_figure

    figure = curves_figure(found)
    axes = {ax.get_label(): ax for ax in figure.axes}
    by_number = axes["deletion, number"].get_lines()
    curve = found.curve("parts", "contribution")
    shares = (curve.left - found.empty[:, None]).sum(0) / found.carried.sum()
    drawn = {line.get_label(): line.get_ydata() for line in by_number}
    assert_allclose(drawn["parts by contribution"], shares)
    assert len(axes["insertion, activation"].get_lines()) == len(found.curves) + 1  # and the axis
    assert "random units" not in drawn


def test_errors(world):
    model, graph, images = world
    with pytest.raises(ExplgraphError, match=r"speaks for class 1 in \d of the 3 images"):
        faithfulness(model, graph, images[:3], 1)
    with pytest.raises(ExplgraphError, match="class 7"):
        faithfulness(model, graph, images, 7)
    with pytest.raises(ExplgraphError, match="classes holds 3 classes"):
        faithfulness(model, graph, images, [1, 1, 1])
    with pytest.raises(ExplgraphError, match=r"class 1\.5"):
        faithfulness(model, graph, images, 1.5)
    with pytest.raises(ExplgraphError, match="classes holds 99 classes"):
        faithfulness(model, graph, images, [1] * 99)
    with pytest.raises(ExplgraphError, match="no nodes"):
        faithfulness(model, graph.subgraph([]), images)
    with pytest.raises(ExplgraphError, match="needs others="):
        faithfulness(model, graph, images, replacement="mean")
    with pytest.raises(ExplgraphError, match="replacement is 'noise'"):
        faithfulness(model, graph, images, replacement="noise")
    with pytest.raises(ExplgraphError, match="first must be"):
        faithfulness(model, graph, images, first=0)
    with pytest.raises(ExplgraphError, match="no layer 'middle'"):
        faithfulness(model, graph, images, layer="middle")


@pytest.fixture(scope="module")
def drawn():
    """A graph of the network that knows creatures, and pictures of horns."""
    model, pictures = creatures.network(), creatures.draw(60, seed=1).tensor()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)
        graph = explgraph.mine(model, pictures, ["stage4"], seed=0)
    shown = creatures.draw(30, seed=2)
    horned = shown.attributes["horns"] & shown.visible["horn"]
    return model, graph, shown.tensor()[horned]


def test_planted_the_first_parts_carry_what_random_ones_dont(drawn):
    model, graph, images = drawn
    found = faithfulness(model, graph, images, "horns", first=3)
    rows = {(row["elements"], row["order"]): row for row in found.table()}
    ours, chance = rows["parts", "contribution"], rows["parts", "random"]
    assert ours["lost"] > 2 * max(chance["lost"], 0)
    assert ours["kept"] > 2 * max(chance["kept"], 0)
    assert ours["deletion"] < rows["parts", "activation"]["deletion"]
    assert ours["equal_lost"] > rows["units", "random"]["equal_lost"]
    assert "of horns" in found.told
    assert str(found.left_out) in found.told or not found.left_out


def test_with_shuffled_weights_the_answer_falls_apart(drawn):
    model, graph, images = drawn
    before = {name: values.clone() for name, values in model.state_dict().items()}
    images = images[:6]
    found = randomised(model, graph, images, "horns", first=3)
    assert all(torch.equal(values, before[k]) for k, values in model.state_dict().items())
    first, *shuffled = found.stages
    assert (first.modules, first.rank) == (0, 1.0)
    assert [stage.modules for stage in shuffled] == [1, 6, 11, 16, 21]
    assert (shuffled[0].down_to, shuffled[-1].down_to) == ("head", "stage1.0")
    assert all(abs(stage.rank) < 0.4 for stage in shuffled)
    assert all(stage.deletion > first.deletion + 0.1 for stage in shuffled)
    expected = faithfulness(model, graph, images, "horns", first=3).table()[0]
    assert first.deletion == pytest.approx(expected["deletion"], abs=0.02)
    assert f"{found.stages[-1].rank:.2f}" in found.told
    assert len(found.table()) == len(found.markdown().splitlines()) - 2 == 7


def test_a_model_without_weights_cannot_be_shuffled(world):
    from explgraph.answers.randomised import _stages

    with pytest.raises(ExplgraphError, match="no weights"):
        _stages(torch.nn.ReLU())
    assert world
