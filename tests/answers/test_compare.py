"""Two graphs compared: in a world where all is known, against formulas, and what is refused."""

import copy
import dataclasses
import json

import blobs
import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

import explgraph
from explgraph import ExplgraphError
from explgraph.answers.comparison import Comparison
from explgraph.answers.paired import Things, answering, distances, exchange_p, matched, similarity
from explgraph.answers.side_by_side import classes_of, frame
from explgraph.images.taken import taken

HEAD = ((4.0, 2.0, 0.0), (0.0, 0.0, 3.0), (0.0, 1.0, 1.0))
"""Class, colour: by how much a blob of the colour moves the class."""
RED, GREEN, BLUE = range(3)
CLASSES = {"one": 0, "two": 1}


class Wide(nn.Module):
    """Three filters for each colour, of other gains; classes read the colours."""

    def __init__(self):
        super().__init__()
        self.cells = nn.Sequential(
            nn.Conv2d(3, 9, blobs.CELL, blobs.CELL, groups=3, bias=False), nn.ReLU()
        )
        self.head = nn.Linear(9, 3, bias=False)
        with torch.no_grad():
            gains = torch.tensor([1.0, 0.8, 1.2] * 3)[:, None, None, None]
            self.cells[0].weight.copy_(gains.expand(-1, 1, blobs.CELL, blobs.CELL) / 16)
            self.head.weight.copy_(torch.tensor(HEAD).repeat_interleave(3, 1))

    def forward(self, x):
        """Give three scores."""
        return self.head(self.cells(x).mean((2, 3)))


def changed(model, how):
    """Give a copy of the network in which red is muted, or unheard by class "one"."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        if how == "muted":
            other.cells[0].weight[:3] = 0
        elif how == "unheard":
            other.head.weight[0, :3] = 0
        else:
            other.head.weight *= 7  # all scores
    return other.eval()


@pytest.fixture(scope="module")
def world(one_thread):  # noqa: ARG001
    """Images, labels (N, 3), the network and graphs of it and of what is made of it."""
    images, labels, _ = blobs.world(240, 0, together=True)
    model = Wide().eval()
    models = {"itself": model} | {
        how: changed(model, how) for how in ("muted", "unheard", "louder")
    }
    mined = images[:160]
    graphs = {how: explgraph.mine(one, mined, ["cells"], seed=0) for how, one in models.items()}
    return images, np.stack([labels[name] for name in blobs.NAMES], 1), models, graphs


def colours(graph, model, images, labels):
    """Give the colour that each part of a graph goes with."""
    there = graph.parse(model, images).parts
    return {
        part: int(np.argmax([np.corrcoef(there.presence[:, k], has)[0, 1] for has in labels.T]))
        for k, part in enumerate(there.parts)
    }


@pytest.fixture(scope="module")
def found(world):
    """Compare the network with each of the others."""
    images, labels, models, graphs = world
    one = graphs["itself"], models["itself"]
    all_found = {
        how: explgraph.compare(
            one[0], graphs[how], images, models=(one[1], models[how]), classes=CLASSES
        )
        for how in models
    }
    named = {how: colours(graphs[how], models[how], images, labels) for how in models}
    return all_found, named


def test_a_network_is_the_same_as_itself(found):
    same = found[0]["itself"]
    assert not same.changed
    assert {match.state for match in same.matches} == {"same"}
    assert all(match.a == match.b and match.distance < 1e-3 for match in same.matches)
    assert same.beyond_chance == 1
    assert all(change.strength == 0 for change in same.changes)


def test_what_is_muted_vanishes_first_and_nothing_else(found):
    """Things from the other side, it appears."""
    muted, named = found[0]["muted"], found[1]["itself"]
    assert muted.changed[0].kind == "vanished"
    gone = [change for change in muted.changed if change.kind == "vanished"]
    assert gone
    assert {named[change.part] for change in gone} == {RED}
    assert all(change.after < 0.1 for change in gone)
    # mining groups green otherwise, which is no change
    assert {m.state for m in muted.matches if m.a and named[m.a] != RED} <= {"same", "alone"}
    # of a class that red didn't move nothing changes
    assert not [c for c in muted.changed if c.kind == "effect" and c.class_title == "two"]


def test_the_other_way_round_it_appears(world, found):
    images, _, models, graphs = world
    back = explgraph.compare(
        graphs["muted"], graphs["itself"], images, models=(models["muted"], models["itself"]),
        classes=CLASSES,
    )  # fmt: skip
    named = found[1]["itself"]
    gone = {change.part for change in found[0]["muted"].changed if change.kind == "vanished"}
    assert {change.part for change in back.changed if change.kind == "appeared"} == gone
    assert {m.b for m in back.matches if m.state == "appeared"} == gone
    assert all(named[part] == RED for part in gone)


def test_an_effect_changes_while_the_part_lives_on(found):
    """The class no longer hears red: only effects change, red's on that class the most."""
    unheard, named = found[0]["unheard"], found[1]["itself"]
    assert {change.kind for change in unheard.changed} == {"effect"}
    assert {change.class_title for change in unheard.changed} == {"one"}
    assert named[unheard.changed[0].part] == RED
    assert abs(unheard.changed[0].after) < 0.1 < unheard.changed[0].before
    assert {match.state for match in unheard.matches} == {"same"}


def test_what_moved_is_found_where_it_is(one_thread):  # noqa: ARG001
    """Red and green blobs come together, elsewhere: one network sees these, the other those."""
    images, _, _ = blobs.world(200, 1, agreement=1.0, together=True)
    models = [Wide().eval() for _ in range(2)]
    with torch.no_grad():
        models[0].cells[0].weight[3:6] = 0
        models[1].cells[0].weight[:3] = 0
    graphs = [explgraph.mine(model, images[:120], ["cells"], seed=0) for model in models]
    found = explgraph.compare(*graphs, images, models=tuple(models), classes=[])
    filters = [
        {part.id: {graph.nx.nodes[node]["filter"] // 3 for node in part.nodes}
         for part in graph.parts} for graph in graphs
    ]  # fmt: skip
    moved = [match for match in found.matches if match.state == "moved"]
    assert moved
    for match in moved:
        assert filters[0][match.a] == {RED}
        assert filters[1][match.b] == {GREEN}
        assert (match.dx, match.dy) == pytest.approx(blobs.OFFSET[GREEN], abs=1.5)
    assert {m.state for m in found.matches if filters[0].get(m.a) == {BLUE}} == {"same"}
    assert {change.kind for change in found.changed} == {"moved"}


def test_scores_that_are_larger_throughout_are_no_change(found):
    assert not found[0]["louder"].changed


def test_effects_are_those_of_the_formula(world, found):
    """The cells' only layer is linear: what a place adds is head times its share of activation."""
    images, _, models, graphs = world
    graph, model = graphs["itself"], models["itself"]
    parse = graph.parse(model, images)
    parts = parse.parts
    with torch.no_grad():
        maps, scores = model.cells(images).double(), model(images).double().numpy()
    layer = graph.layers[0]
    x, y = (torch.from_numpy(np.asarray(c)) for c in (layer.centres_x, layer.centres_y))
    at = torch.from_numpy(parts.positions.astype(np.float64)).clamp(0, blobs.SIZE)
    square = (x - at[..., None, :1]) ** 2 + ((y - at[..., 1:]) ** 2)[..., None]
    near = torch.exp(-square / (2 * (0.06 * blobs.SIZE) ** 2))
    share = near / (near.sum(1, keepdim=True) + np.exp(-2.0))
    units = torch.einsum("c,nchw->nhw", model.head.weight[0].detach().double(), maps) / 64
    adds = torch.einsum("nhw,nphw->np", units, share).numpy() / scores[:, 0].std()
    values = {c.part: c for c in found[0]["itself"].changes
              if c.kind == "effect" and c.class_title == "one"}  # fmt: skip
    for k, part in enumerate(graph.parts):
        members = [graph.node_ids.index(node) for node in part.nodes]
        weight = [graph.nx.nodes[n]["reliability"] * graph.nx.nodes[n]["part_weight"]
                  for n in part.nodes]  # fmt: skip
        there = parse.scores[:, members].astype(np.float64) @ weight
        expected = np.cov(adds[:, k], there, bias=True)[0, 1] / there.std()
        assert values[part.id].before == pytest.approx(expected, abs=2e-3)


def test_nodes_are_compared_too(world, found):
    images, _, models, graphs = world
    nodes = explgraph.compare(
        graphs["itself"], graphs["muted"], images, models=(models["itself"], models["muted"]),
        classes=[], by="node",
    )  # fmt: skip
    gone = {match.a for match in nodes.matches if match.state == "vanished"}
    graph, named = graphs["itself"], found[1]["itself"]
    red = {node for node, values in graph.nx.nodes.items() if named[values["part"]] == RED}
    assert gone
    assert gone <= red
    assert {graph.nx.nodes[node]["filter"] for node in gone} <= {0, 1, 2}
    assert len(nodes.matches) == len(graph)


def test_it_writes_and_shows_itself(found, tmp_path):
    muted = found[0]["muted"]
    assert isinstance(muted, Comparison)
    assert repr(muted).startswith("Comparison over 240 images; ")
    assert "\n" not in repr(muted)
    named = dataclasses.replace(
        muted, matches=(muted.matches[0]._replace(title_a="<b>|"), *muted.matches[1:])
    )
    for suffix in ("html", "md", "csv", "json"):
        named.write(tmp_path / f"found.{suffix}")
    page = (tmp_path / "found.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;|" in page
    assert "<b>|" not in page
    assert "<script" not in page
    assert page.count("data:image/jpeg;base64,") >= 3 * len(muted.matches)
    rows = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert len(rows) == len(muted.changes)
    assert rows[0]["kind"] == "vanished"
    assert rows[0]["strength"] == pytest.approx(muted.changes[0].strength)
    report = (tmp_path / "found.md").read_text(encoding="utf-8")
    assert "| <b>\\| |" in report
    assert f"| {len(muted.changed) - 1:,} more |" in muted.markdown(most=1)
    assert " more |" not in muted.markdown(most=len(muted.changed))
    assert "<table>" in muted._repr_html_()
    assert "nothing changed" in repr(found[0]["itself"])
    with pytest.raises(ExplgraphError, match=r"suffix '.txt'"):
        muted.write(tmp_path / "found.txt")


def test_what_cannot_be_compared_is_refused(world):
    images, _, models, graphs = world
    graph, model = graphs["itself"], models["itself"]

    def compare(*args, models=model, **options):
        return explgraph.compare(*args, models=models, **options)

    with pytest.raises(ExplgraphError, match=r"graph_b: graph must be an ExplanatoryGraph"):
        compare(graph, "b.explgraph", images)
    bare = graph.restricted(graph.nx)
    for values in bare.nx.nodes.values():
        values.update(part="", part_weight=0.0)
    with pytest.raises(ExplgraphError, match="graph_a has no parts"):
        compare(bare, graph, images)
    with pytest.raises(ExplgraphError, match=r"19 images are too few .* at least 20"):
        compare(graph, graph, images[:19])
    with pytest.raises(ExplgraphError, match="network B: the model's weights are not those"):
        compare(graph, graphs["muted"], images)
    with pytest.raises(ExplgraphError, match="models must be the two networks"):
        compare(graph, graph, images, models=[model])
    with pytest.raises(ExplgraphError, match="class 'robin'"):
        compare(graph, graph, images[:20], classes=["robin"])
    with pytest.raises(ExplgraphError, match="fdr must be from 0 to below 1, got 5"):
        compare(graph, graph, images, fdr=5)
    with pytest.raises(ExplgraphError, match=r"permutations is 38: no p-value is below 0\.051"):
        compare(graph, graph, images, permutations=38)
    with pytest.raises(ExplgraphError, match="by is 'filter'"):
        compare(graph, graph, images, by="filter")


def test_few_images_are_doubted(world):
    images, _, models, graphs = world
    few = explgraph.compare(
        graphs["itself"], graphs["muted"], images[:40],
        models=(models["itself"], models["muted"]), permutations=99,
    )  # fmt: skip
    assert few.doubts == ("40 images tell only the largest changes; some hundreds are better",)


# ------------------------------------------------------------------------------------ statistics


def test_shares_are_those_of_the_formula():
    """Fitted on the other folds, brute force; of independent things about nothing."""
    rng = np.random.default_rng(0)
    there = rng.random((200, 2))
    says = there[:, :1] * rng.normal(size=(1, 5)) + 0.3 * rng.normal(size=(200, 5))
    fold = rng.permutation(200) % 4
    total = np.square(says - says.mean(0)).sum() / 200
    found = answering(says, there, fold, total)
    for thing in range(2):
        for n in (0, 17, 133):
            other = fold != fold[n]
            mean = says[other].mean(0)
            slope = [np.polyfit(there[other, thing], says[other, c], 1)[0] for c in range(5)]
            left = says[n] - mean - np.array(slope) * (there[n, thing] - there[other, thing].mean())
            expected = np.square(says[n] - mean).sum() - np.square(left).sum()
            assert found[n, thing] == pytest.approx(expected / total)
    assert found[:, 0].mean() > 0.3
    assert abs(found[:, 1].mean()) < 0.03
    assert not answering(np.ones((200, 3)), there, fold, 1.0).any()
    assert not answering(says, np.ones((200, 1)), fold, total).any()


def test_p_values_are_right_by_chance_and_small_otherwise():
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(60, 400)) ** 3
    p = exchange_p(noise, permutations=499, seed=0)
    for level in (0.05, 0.2, 0.5):
        assert abs((p <= level).mean() - level) < 0.06
    some = exchange_p(noise[:, :3] + [0.0, 5.0, -5.0], permutations=499, seed=0)
    assert some[1] == pytest.approx(1 / 500)
    assert some[2] > 0.9
    assert exchange_p(np.zeros((60, 1)), permutations=99, seed=0) == 1


def test_exchange_of_few_images_is_that_of_all_signs():
    """Ten images have 1024 ways to exchange: the exact probability."""
    values = np.random.default_rng(2).normal(0.4, 1, 10)
    signs = np.array(np.meshgrid(*[(-1, 1)] * 10)).reshape(10, -1)
    exact = ((signs * values[:, None]).sum(0) >= values.sum() - 1e-9).mean()
    assert exchange_p(values[:, None], permutations=20_000, seed=0)[0] == pytest.approx(
        exact, abs=0.01
    )


def test_similarities_are_those_of_the_formula():
    rng = np.random.default_rng(3)
    one = Things(rng.normal(size=(80, 3, 2)), rng.random((80, 3)))
    other = Things(one.at[:, :2] + 0.1 * rng.normal(size=(80, 2, 2)), one.there[:, :2] ** 2)
    found, apart = similarity(one, other), distances(one, other)
    for v in range(3):
        for w in range(2):
            a, b = one.there[:, v], other.there[:, w]
            squares = np.square(one.at[:, v, None] - other.at[None, :, w]).sum(-1)
            weight = np.outer(a, b)
            near = np.average(np.diag(squares), weights=np.diag(weight))
            where = 1 - near / np.average(squares, weights=weight)
            when = np.corrcoef(a, b)[0, 1]
            assert found[v, w] == pytest.approx((when + where) / 2)
            assert apart[v, w] == pytest.approx(np.sqrt(near))
    assert found[0, 0] > 0.9
    assert np.isinf(distances(one, Things(other.at, 0 * other.there))).all()


def test_matching_is_the_best_of_all_and_has_its_chance():
    rng = np.random.default_rng(4)
    one = Things(rng.normal(size=(60, 5, 2)), rng.random((60, 5)))
    order = np.array([3, 0, 4])
    other = Things(
        one.at[:, order] + 0.2 * rng.normal(size=(60, 3, 2)),
        one.there[:, order] + 0.1 * rng.random((60, 3)),
    )
    pairs = matched(one, other, exchanges=100, seed=0)
    assert dict(zip(pairs.one.tolist(), pairs.other.tolist(), strict=True)) == {3: 0, 0: 1, 4: 2}
    assert (pairs.p < 0.01).all()
    rows = linear_sum_assignment(similarity(one, other), maximize=True)
    assert (pairs.one == rows[0]).all()
    strangers = Things(rng.normal(size=(60, 3, 2)), rng.random((60, 3)))
    assert matched(one, strangers, exchanges=100, seed=0).p.min() > 0.01


# ---------------------------------------------------------------------------------------- frames


def test_places_go_by_way_of_the_photographs():
    """Two networks see photographs of other sizes, one of them cropped."""
    photos = [np.full((40 + 20 * k, 90, 3), 9 * k, np.uint8) for k in range(3)]
    ready = {"mean": [0.5] * 3, "std": [0.5] * 3}
    one = taken(photos, {"size": [32, 48], **ready})
    other = taken(photos, {"size": [64, 64], "fit": "crop", **ready})
    names = list(one.names)
    places = np.random.default_rng(5).random((3, 4, 2)) * [48, 32]
    there = frame(one, (32, 48), other, (64, 64), names)(places)
    for n in range(3):
        expected = one.to_original(n, places[n])
        assert other.to_original(n, there[n]) == pytest.approx(expected, abs=1e-6)
    back = frame(other, (64, 64), one, (32, 48), names)(there)
    assert back == pytest.approx(places)
    shares = frame(torch.zeros(3), (32, 48), torch.zeros(3), (64, 96), names)(places)
    assert shares == pytest.approx(places * 2)


def test_classes_are_found_in_both_networks():
    model = Wide()
    model.class_names = ("ant", "bee", "cat")
    scores = [np.array([[3.0, 1, 0], [2, 3, 1], [4, 1, 1]]), np.eye(3)[[0, 0, 1]]]
    doubts = []

    def columns(classes):
        return classes_of(classes, (model, model), scores, doubts)

    assert columns(None) == [("ant", (0, 0)), ("bee", (1, 1))]
    assert columns("cat") == [("cat", (2, 2))]
    assert columns([1, "ant"]) == [("bee", (1, 1)), ("ant", (0, 0))]
    assert columns({"mine": 2, "both": (0, "bee")}) == [("mine", (2, 2)), ("both", (0, 1))]
    assert not doubts
    for wrong, match in (
        ([1, "bee"], "classes names 'bee' twice"),
        ({"mine": (1, 2, 3)}, "expected a class, or A's and B's"),
        (3.5, "classes must be numbers or names"),
        (7, "class 7, but the model gives scores for 3"),
    ):
        with pytest.raises(ExplgraphError, match=match):
            columns(wrong)
    assert classes_of(None, (model, nn.Linear(2, 2)), [scores[0], np.eye(2)], doubts) == []
    assert "network A has 3 outputs, B 2" in doubts[0]
