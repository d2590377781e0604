"""`PartHead`: places as a parse has them, right gradients, weights that do what they say."""

import copy
import dataclasses
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

import explgraph
from explgraph import ExplgraphError, ExplgraphWarning, creatures
from explgraph.evaluation.metrics import tracking
from explgraph.heads import head_archive
from explgraph.heads.looks import find_looks, numbered
from explgraph.heads.place_loss import place_loss
from explgraph.heads.seen_nodes import NodeFinder, PartPlaces
from explgraph.network.forward import fingerprint
from explgraph.parsed_parts import Pooling

FAMILIES = creatures.FAMILIES


@pytest.fixture(scope="module")
def world():
    """A graph of creatures, other creatures, and their parse."""
    model = creatures.network()
    graph = explgraph.mine(
        model, creatures.draw(120, seed=1).tensor(), ["stage4", "stage3"], seed=0, progress=False
    )
    drawn = creatures.draw(160, seed=2)
    pictures = drawn.tensor()
    return model, graph, drawn, pictures, graph.parse(model, pictures)


def few_labels(drawn, each=5):
    """Labels of the first creatures of each family, None for all others."""
    labels = [None] * len(drawn)
    for k in range(len(FAMILIES)):
        for i in np.flatnonzero(drawn.labels == k)[:each]:
            labels[i] = FAMILIES[k]
    return labels


@pytest.fixture(scope="module")
def head(world):
    model, graph, drawn, _, parse = world
    return explgraph.PartHead(model, graph, FAMILIES).fit(parse, few_labels(drawn))


@pytest.mark.parametrize("gradients", [False, True])
def test_places_are_those_of_a_parse(world, head, gradients):
    model, graph, _, pictures, parse = world
    some = pictures[:12]
    nodes = explgraph.PartHead(model, graph, FAMILIES, by="node")
    with torch.set_grad_enabled(gradients):
        parts, each = head.places(some).detach(), nodes.places(some).detach()
    pooled = parse.parts
    assert head.titles == pooled.titles
    assert nodes.titles == parse.nodes
    # of summation in another order, and of the kernel
    np.testing.assert_allclose(parts[..., :2], pooled.positions[:12], atol=2e-3)
    np.testing.assert_allclose(parts[..., 2], pooled.presence[:12], atol=1e-4)
    np.testing.assert_allclose(each[..., :2], parse.positions[:12], atol=2e-3)
    np.testing.assert_allclose(each[..., 2], parse.scores[:12], atol=1e-4)


def test_gradients_are_those_of_finite_differences(world):
    """In float64, with the poses held, along random changes of what fires."""
    model, graph, _, pictures, _ = world
    finder, pool = NodeFinder(graph, graph.node_ids), PartPlaces(Pooling.of(graph))
    caught = explgraph.record(model, pictures[:2], [one.name for one in graph.layers]).maps
    maps = {layer.name: values.double() for layer, values in zip(graph.layers, caught, strict=True)}
    poses = finder.poses(maps)
    weights = torch.Generator().manual_seed(0)
    say = torch.randn(2, len(graph.parts), 3, generator=weights, dtype=torch.float64)

    def value(maps):
        return (pool(finder(maps, poses)) * say).sum()

    for name in maps:
        own = {key: one.clone().requires_grad_(key == name) for key, one in maps.items()}
        (slope,) = torch.autograd.grad(value(own), own[name])
        assert slope.dtype == torch.float64
        for seed in range(3):
            random = torch.Generator().manual_seed(seed)
            way = torch.randn(own[name].shape, generator=random, dtype=torch.float64)
            way = way * maps[name]  # what is silent stays so
            ends = [value(maps | {name: maps[name] + s * 1e-6 * way}) for s in (1, -1)]
            expected = (ends[0] - ends[1]) / 2e-6
            torch.testing.assert_close((slope * way).sum(), expected, rtol=1e-5, atol=1e-7)


def test_gradients_reach_weights_and_images(world, head):
    images = world[3][:4].clone().requires_grad_()
    out = head.look(images)
    (out.scores[:, 0].sum() + out.places[..., :2].sum()).backward()
    assert images.grad.abs().sum() > 0
    assert all(head.model.get_parameter(name).grad.abs().sum() > 0
               for name in ("stage4.conv2.weight", "stage1.0.weight"))  # fmt: skip
    assert head.weight.grad.abs().sum() > 0
    assert set(out.maps) == {"stage3", "stage4"}
    head.zero_grad()


def test_it_tells_families_from_five_labelled_images_each(world, head):
    _, _, drawn, pictures, _ = world
    labelled = np.array([label is not None for label in few_labels(drawn)])
    with torch.no_grad():
        said = head(pictures).argmax(1).numpy()
    assert (said == drawn.labels)[~labelled].mean() > 0.6  # a third by chance
    assert head.left_out > 0.5


def test_sentences_are_what_the_scores_do(world, head):
    """The look's swing times its weight, from scores of the parse alone; nothing unused is told."""
    _, _, _, _, parse = world
    told = head.sentences()
    assert told
    weight = head.weight.detach().numpy()
    assert len(told) == (weight != 0).sum()
    looks = parse.scores[:, head._rows] @ head.directions.numpy()
    low, high = np.percentile(looks, (10, 90), axis=0)
    for one in told:
        f = head._looks.index((head._parts.index(one.part), one.look))
        k = FAMILIES.index(one.label)
        assert one.effect == pytest.approx((high - low)[f] * weight[f, k], rel=1e-3, abs=1e-5)
        assert one.high == parse.names[looks[:, f].argmax()]
        if one.there:
            there = parse.parts.presence[:, parse.parts.parts.index(one.part)]
            assert np.corrcoef(there, looks[:, f])[0, 1] > 0.75
        assert one.title in str(one)
    sizes = [abs(one.effect) for one in told if one.label == "beast"]
    assert sizes == sorted(sizes, reverse=True)
    assert str(told[0]) in str(head)
    assert "left out" in head.report(most=1)
    assert "\n" not in repr(head)
    assert repr(head) == str(head).splitlines()[0]


def test_contributions_of_parts_sum_to_the_scores(world, head):
    some = world[3][:6]
    with torch.no_grad():
        shares = head.contributions(some)
        assert shares.shape == (6, len(head.titles), 3)
        torch.testing.assert_close(shares.sum(1) + head.bias, head(some))


def test_it_is_explained_as_any_network(world, head):
    _, graph, _, pictures, _ = world
    found = graph.explain(head, pictures[:1], "dragon", images=None)
    top = found.layers[0]
    assert found.class_title == "dragon"
    assert found.score == pytest.approx(float(head(pictures[:1])[0, 2].detach()), abs=1e-4)
    whole = top.without + top.parts + top.no_part + top.no_node + top.residual
    assert whole == pytest.approx(found.score, abs=1e-4)
    assert abs(top.residual) <= 0.1 * max(abs(top.carried), 0.1)
    assert sum(row.contribution for row in found.rows) == pytest.approx(top.parts, abs=1e-5)


def test_layers_keep_their_names_and_the_network_its_fingerprint(world, head):
    model, _, _, pictures, _ = world
    assert fingerprint(head) == fingerprint(model)
    first = explgraph.record(head, pictures[:2], ["stage4"]).maps[0]
    torch.testing.assert_close(first, explgraph.record(model, pictures[:2], ["stage4"]).maps[0])
    torch.testing.assert_close(
        explgraph.record(head, pictures[:2], ["model.stage4"]).maps[0], first
    )


def test_a_file_holds_the_read_out(world, head, tmp_path):
    model, graph, _, pictures, _ = world
    head.save(tmp_path / "a.head")
    again = explgraph.PartHead.load(tmp_path / "a.head", model, graph)
    with torch.no_grad():
        assert torch.equal(again(pictures[:4]), head(pictures[:4]))
    assert str(again) == str(head)
    again.save(tmp_path / "b.head")
    assert (tmp_path / "a.head").read_bytes() == (tmp_path / "b.head").read_bytes()
    with pytest.raises(ExplgraphError, match="graph lacks"):
        explgraph.PartHead.load(tmp_path / "a.head", model, graph.reject_part(graph.parts[0].id))
    damaged = (tmp_path / "a.head").read_bytes()
    (tmp_path / "c.head").write_bytes(damaged[:-50])
    with pytest.raises(ExplgraphError, match=r"damaged|truncated"):
        explgraph.PartHead.load(tmp_path / "c.head", model, graph)


def test_a_file_fits_the_graph_and_the_head(world, head, tmp_path):
    model, graph, _, pictures, _ = world
    head.save(tmp_path / "a.head")
    kept = head_archive.read(tmp_path / "a.head", graph)
    for change, message in (
        ({"usual": kept.usual[1:]}, "usual is"),
        ({"weight": kept.weight[:, 1:]}, "weight is"),
        ({"nodes": kept.nodes[1:]}, "other nodes"),
        ({"by": "filter"}, "by is"),
        ({"ends": kept.ends[1:]}, "ends are"),
    ):
        head_archive.write(tmp_path / "b.head", kept._replace(**change))
        with pytest.raises(ExplgraphError, match=message):
            explgraph.PartHead.load(tmp_path / "b.head", model, graph)
    for parts in (None, [graph.parts[1].id, graph.parts[0].id]):
        one = explgraph.PartHead(model, graph, FAMILIES, by="node", parts=parts)
        with torch.no_grad():
            one.weight.normal_()
        one.save(tmp_path / "c.head")
        again = explgraph.PartHead.load(tmp_path / "c.head", model, graph)
        assert again.titles == one.titles
        with torch.no_grad():
            assert torch.equal(again(pictures[:2]), one(pictures[:2]))


def test_its_state_is_a_state_dict(world, head):
    _, graph, _, pictures, _ = world
    other = explgraph.PartHead(creatures.network(), graph, FAMILIES)
    assert not other(pictures[:2]).any()
    assert "no weights yet" in str(other)
    other.load_state_dict(load(save(head.state_dict())))
    with torch.no_grad():
        assert torch.equal(other(pictures[:4]), head(pictures[:4]))
    # which looks vary how is in files alone: it says so, rather than that there are no weights
    assert "no weights yet" not in str(other)
    assert "PartHead.load" in str(other)


def test_nodes_and_some_parts_can_be_read(world):
    model, graph, drawn, pictures, parse = world
    labels = few_labels(drawn)
    second = graph.parts[1]
    one = explgraph.PartHead(model, graph, FAMILIES, parts=[second.title]).fit(parse, labels)
    assert {told.part for told in one.sentences()} <= {second.id}
    assert one.places(pictures[:2]).shape == (2, 1, 3)
    nodes = explgraph.PartHead(model, graph, FAMILIES, by="node", parts=[graph.parts[0].id])
    nodes.fit(parse, labels, strength=0.05)
    assert set(nodes.titles) == set(graph.parts[0].nodes)
    assert np.isnan(nodes.left_out)
    assert all(told.there and told.title in graph.parts[0].nodes for told in nodes.sentences())


def test_looks_are_principal_components_of_a_part():
    rng = np.random.default_rng(0)
    member = [0, 1, 0, 0, 1, 0]
    scores = rng.random((50, 6))
    scores[:, [0, 2]] += 3 * rng.random((50, 1))
    looks = find_looks(scores, member, scores[:, :2])
    assert numbered(member, 2) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    mine = [0, 2, 3, 5]
    _, vectors = np.linalg.eigh(np.cov(scores[:, mine].T))
    for k in range(3):
        cosine = looks.directions[mine, k] @ vectors[:, -1 - k]
        assert abs(cosine) == pytest.approx(1, abs=1e-9)
    assert not looks.directions[[1, 4], :3].any()
    assert looks.presence[0]
    assert looks.directions[0, 0] > 0


# ----------------------------------------------------------------------------------- training


def test_a_plain_loop_trains_the_network_with_it(world):
    """Labels, marks and FilterLoss: the loss falls, marks are met better, parts are tracked."""
    model, graph, drawn, pictures, parse = world
    own = explgraph.PartHead(copy.deepcopy(model), graph, FAMILIES).fit(parse, few_labels(drawn))
    parts, marks = own.titles, {}
    for planted in ("horn", "wing"):
        seen = drawn.parts[planted]
        error = np.nanmedian(np.linalg.norm(parse.parts.positions - seen[:, None], axis=-1), axis=0)
        marks[parts[int(error.argmin())]] = seen
    rows = torch.arange(24)
    labels = torch.from_numpy(drawn.labels[:24])
    some = {name: values[:24] for name, values in marks.items()}
    before = {name: values.detach().clone() for name, values in own.named_parameters()}
    learning = [*own.model.stage4.parameters(), own.weight, own.bias]
    optimizer = torch.optim.Adam(learning, lr=1e-3)
    filter_loss = explgraph.FilterLoss()
    losses = []
    for _ in range(6):
        out = own.look(pictures[rows])
        placed = own.place_loss(out.places, some)
        loss = nn.functional.cross_entropy(out.scores, labels) + 20 * placed
        loss = loss + 0.1 * filter_loss(out.maps["stage4"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append((loss.item(), placed.item()))
    assert losses[-1][0] < losses[0][0]
    assert losses[-1][1] < losses[0][1]
    assert torch.equal(own.model.stage1[0].weight, before["model.stage1.0.weight"])
    assert not torch.equal(own.model.stage4.conv1.weight, before["model.stage4.conv1.weight"])
    now = own.current_graph()
    assert now.node_ids == graph.node_ids
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = now.parse(own.model, pictures[24:84])
    kept, old = (
        np.mean([tracking(p.parts.positions, drawn.parts[name][24:84])
                 for name in ("head", "horn", "wing")])
        for p in (again, dataclasses.replace(
            parse, names=parse.names[24:84], positions=parse.positions[24:84],
            expected=parse.expected[24:84], scores=parse.scores[24:84], pose_fit=None))
    )  # fmt: skip
    assert kept > old - 0.1


def test_a_trained_network_is_no_longer_the_mined_one(world, head):
    _, graph, _, pictures, _ = world
    own = explgraph.PartHead(creatures.network(), graph, FAMILIES)
    assert own.current_graph() is graph
    with torch.no_grad():
        own.model.stage4.conv1.weight.add_(1e-3)
    with pytest.raises(ExplgraphError, match=r"head\.current_graph\(\)"):
        graph.explain(own, pictures[:1], 0)
    own.load_state_dict({**head.state_dict(), **{
        name: value for name, value in own.state_dict().items() if name.startswith("model.")
    }})  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)
        assert own.current_graph().explain(own, pictures[:1], 0).class_title == "beast"


def test_place_loss_is_its_formula():
    places = torch.tensor([[[10.0, 20, 0.5], [0, 0, 1]], [[30, 40, 1], [5, 5, 0]]])
    marks = torch.tensor([[[10.0, 20], [3, 4]], [[float("nan")] * 2, [5, 6]]])
    diagonal = np.hypot(30, 40)
    errors = np.array([0, 5 / diagonal, 1 / diagonal])
    expected = np.where(errors < 0.02, errors**2 / 0.04, errors - 0.01).mean()
    loss = place_loss(places.requires_grad_(), marks, (30, 40))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert places.grad.isfinite().all()
    assert place_loss(places, marks * float("nan"), (30, 40)).item() == 0


# ------------------------------------------------------------------------------------ refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": None}, "two at least"),
        ({"classes": 3}, "two at least"),
        ({"classes": b"ab"}, "two at least"),
        ({"parts": 3}, "parts is 3; expected a list"),
        ({"classes": ["one"]}, "two at least"),
        ({"classes": "beast"}, "two at least"),
        ({"classes": ["a", "a"]}, "different names"),
        ({"by": "filter"}, "'node' or 'part'"),
        ({"parts": ["hoof"]}, "no part 'hoof'"),
        ({"model": nn.Linear(2, 2)}, "no layer"),
        ({"model": "net"}, r"torch\.nn\.Module"),
        ({"graph": "birds.explgraph"}, "graph"),
    ],
)
def test_what_is_no_head_is_refused(world, change, message):
    model, graph, *_ = world
    given = {"model": model, "graph": graph, "classes": FAMILIES} | change
    with pytest.raises(ExplgraphError, match=message):
        explgraph.PartHead(**given)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0] * 7, "labels holds 7"),
        (["beast", "unicorn"] + [None] * 158, "'unicorn' is no class"),
        ([3] + [None] * 159, "neither the name"),
        ([0, 0, 1, 1, 2] + [None] * 155, "1 image of dragon"),
        ([True] * 160, "neither the name"),
        (None, "labels is None"),
        (2, "labels is 2"),
        ("b" * 160, "labels is 'b"),
        ({i: i % 3 for i in range(160)}, "labels is {"),
    ],
)
def test_labels_that_say_nothing_are_refused(world, labels, message):
    model, graph, _, _, parse = world
    with pytest.raises(ExplgraphError, match=message):
        explgraph.PartHead(model, graph, FAMILIES).fit(parse, labels)


@pytest.mark.parametrize("kind", [torch.from_numpy, np.asarray, np.ndarray.tolist])
def test_labels_are_taken_as_networks_are_given_them(world, kind):
    model, graph, drawn, _, parse = world
    head = explgraph.PartHead(model, graph, np.array(FAMILIES), parts=["part 1"])
    assert head.fit(parse, kind(drawn.labels), strength=1.0).class_names == FAMILIES


@pytest.mark.parametrize("strength", [0, -1, "1", [1], True, float("nan"), float("inf")])
def test_what_is_no_strength_is_refused(world, strength):
    model, graph, drawn, _, parse = world
    with pytest.raises(ExplgraphError, match="strength must be a number above 0"):
        explgraph.PartHead(model, graph, FAMILIES).fit(parse, drawn.labels, strength=strength)


@pytest.mark.parametrize("wrong", [None, [1], "x", np.zeros((1, 3, 112, 112), np.float32)])
def test_what_is_no_tensor_is_refused_by_name(head, wrong):
    for call in (head, head.places, head.look, head.contributions):
        with pytest.raises(ExplgraphError, match="images must be a tensor"):
            call(wrong)
    with pytest.raises(ExplgraphError, match="places must be"):
        head.place_loss(wrong, {})
    places = torch.zeros(2, len(head.titles), 3)
    with pytest.raises(ExplgraphError, match="marks of"):
        head.place_loss(places, {head.titles[0]: wrong})
    marks = torch.full((2, 2), 5.0, requires_grad=True)  # are data, whatever made them
    assert head.place_loss(places, {head.titles[0]: marks}) > 0
    for most in (-1, "x", 1.5):
        with pytest.raises(ExplgraphError, match="most must be"):
            head.sentences(most)


def test_other_inputs_are_refused(world, head):
    model, graph, _, pictures, parse = world
    other = dataclasses.replace(parse, nodes=parse.nodes[::-1])
    with pytest.raises(ExplgraphError, match="other"):
        explgraph.PartHead(model, graph, FAMILIES).fit(other, [0, 1, 2])
    with pytest.raises(ExplgraphError, match="as they were mined"):
        head(pictures[:1, :, :64])
    places = torch.zeros(2, len(head.titles), 3)
    with pytest.raises(ExplgraphError, match="marks of"):
        head.place_loss(places, {head.titles[0]: np.zeros((3, 2))})
    with pytest.raises(ExplgraphError, match="no part 'hoof'"):
        head.place_loss(places, {"hoof": np.zeros((2, 2))})
    with pytest.raises(ExplgraphError, match="marks must be"):
        head.place_loss(places, torch.zeros(2, 1, 2))
