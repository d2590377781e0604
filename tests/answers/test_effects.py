"""Effects against true ablation, done by hand on a small network."""

import sys
import threading

import numpy as np
import pytest
import readers
import torch
from numpy.testing import assert_array_equal
from small_network import TwoLayers, graph_of, network, own_places, pictures
from torch import nn

import explgraph
from explgraph import ExplgraphError, creatures
from explgraph.answers import ablation, class_effects, effects
from explgraph.answers.evidence import node_evidence
from explgraph.answers.rationales import rationales
from explgraph.explaining.attribution import Places
from explgraph.explaining.intervene import run
from explgraph.parsing import parse_activations


@pytest.fixture(scope="module")
def linear():
    model = network()
    return model, graph_of(model)


@pytest.fixture(scope="module")
def curved():
    model = network(positive=False)
    return model, graph_of(model)


def by_hand(model, graph, images, taken):
    """Scores of all nodes (N, V) and classes (N, 3) after nodes are taken away, in float64."""
    all_places = own_places(graph, model, images)
    model = network(positive=bool((model.upper.weight > 0).all())).double()

    def without(maps, layer, places):
        maps = maps.clone()
        for c in {
            graph.nx.nodes[v]["filter"] for v in taken if graph.nx.nodes[v]["layer"] == layer
        }:
            gone = sum(
                places[v]
                for v in taken
                if (graph.nx.nodes[v]["layer"], graph.nx.nodes[v]["filter"]) == (layer, c)
            )
            maps[0, c] -= gone * maps[0, c].relu()
        return maps

    nodes, classes = [], []
    for image, places in zip(images.double(), all_places, strict=True):
        with torch.no_grad():
            lower = without(model.lower(image[None]), "lower", places)
            upper = without(model.upper(lower.relu()), "upper", places)
            classes.append(model.head(upper.relu().mean((2, 3)))[0])
        maps = {"lower": lower, "upper": upper}
        nodes.append(
            [
                (maps[a["layer"]][0, a["filter"]].relu() * places[v]).sum()
                for v, a in graph.nx.nodes.items()
            ]
        )
    return np.array(nodes, dtype=float), torch.stack(classes).numpy()


def some(items, n):
    items = list(items)
    return [items[k] for k in np.random.default_rng(0).permutation(len(items))[:n]]


def test_in_a_linear_network_effects_are_those_of_ablation(linear):
    model, graph = linear
    images = pictures(5, seed=2)
    measured = effects.edge_effects(model, graph, images, classes={"first": 0, "third": 2})
    whole, scores = by_hand(model, graph, images, [])
    column = {node: k for k, node in enumerate(graph.node_ids)}
    for parent, child in some(graph.nx.edges, 12):
        left, _ = by_hand(model, graph, images, [child])
        k = column[parent]
        lost = 1 - left[:, k].sum() / whole[:, k].sum()
        assert measured.nx.edges[parent, child]["effect"] == pytest.approx(lost, abs=1e-4)
        assert lost > 1e-3
    for node in some(graph.nx, 8):
        _, after = by_hand(model, graph, images, [node])
        lost = (scores - after).mean(0)
        values = measured.nx.nodes[node]
        assert values["effect_on_first"] == pytest.approx(lost[0], rel=1e-3, abs=1e-5)
        assert values["effect_on_third"] == pytest.approx(lost[2], rel=1e-3, abs=1e-5)


def test_the_graph_is_copied_and_can_be_saved(linear, tmp_path):
    model, graph = linear
    measured = explgraph.edge_effects(model, graph, pictures(3), classes={"a": 1})
    assert all("effect" not in values for values in graph.nx.edges.values())
    assert all("effect_on_a" not in values for values in graph.nx.nodes.values())
    measured.save(tmp_path / "graph.explgraph")
    assert explgraph.load(tmp_path / "graph.explgraph") == measured


def test_drawings_and_pages_show_effects(linear, tmp_path):
    from explgraph.views.page_content import graph_content

    model, graph = linear
    measured = explgraph.edge_effects(model, graph, pictures(3), classes={"a": 1})
    measured.write(tmp_path / "graph.dot")
    text = (tmp_path / "graph.dot").read_text()
    assert text.count("effect on a ") == len(graph)
    assert text.count("score is lost without") == graph.nx.number_of_edges()
    content = graph_content(measured)
    assert len(content["edges"]["effect"]) == graph.nx.number_of_edges()
    assert list(content["nodes"]["effects"]) == ["a"]
    plain = graph_content(graph)
    assert "effect" not in plain["edges"]
    assert plain["nodes"]["effects"] == {}


def test_batches_make_no_difference(curved):
    model, graph = curved
    images = pictures(7, seed=3)
    one = effects.edge_effects(model, graph, images, classes={"a": 0})
    other = effects.edge_effects(model, graph, images, classes={"a": 0}, batch_size=3)
    for edge, values in one.nx.edges.items():
        assert other.nx.edges[edge]["effect"] == pytest.approx(values["effect"], abs=1e-5)
    for node, values in one.nx.nodes.items():
        assert other.nx.nodes[node]["effect_on_a"] == pytest.approx(values["effect_on_a"], abs=1e-5)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_caller_s_mode_makes_no_difference(curved, mode):
    model, graph = curved
    one = effects.edge_effects(model, graph, pictures(3), classes={"a": 1})
    contributions = rationales(model, graph, pictures(3), 1).contributions
    evidence = node_evidence(model, graph, pictures(3), [1]).values
    with mode():
        other = effects.edge_effects(model, graph, pictures(3), classes={"a": 1})
        assert_array_equal(rationales(model, graph, pictures(3), 1).contributions, contributions)
        assert_array_equal(node_evidence(model, graph, pictures(3), [1]).values, evidence)
    assert other == one
    assert any(values["effect"] for values in one.nx.edges.values())


def test_the_model_stays_as_it_was(curved):
    model, graph = curved
    before = {name: value.clone() for name, value in model.state_dict().items()}
    explgraph.ablate(model, graph, pictures(2), graph.node_ids[:2])
    effects.edge_effects(model, graph, pictures(2))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("n", [1, 6])
def test_ablation_is_what_it_says(curved, n):
    model, graph = curved
    images = pictures(4, seed=5)
    taken = some(graph.nx, n)
    found = explgraph.ablate(model, graph, images, taken, batch_size=3)
    _, before = by_hand(model, graph, images, [])
    _, after = by_hand(model, graph, images, taken)
    np.testing.assert_allclose(found.before, before, atol=1e-5)
    np.testing.assert_allclose(found.after, after, atol=1e-5)
    np.testing.assert_allclose(found.change, after - before, atol=2e-5)
    assert np.abs(found.change).max() > 1e-3
    assert found.names == ("0", "1", "2", "3")


def test_the_check_compares_with_true_ablation(curved):
    model, graph = curved
    images = pictures(4, seed=6)
    measured = effects.edge_effects(model, graph, images)
    check = effects.check_effects(model, measured, images, edges=5, batch_size=3)
    assert len(check.edges) == 5
    whole, _ = by_hand(model, graph, images, [])
    column = {node: k for k, node in enumerate(graph.node_ids)}
    for (parent, child), ablated, estimated in zip(
        check.edges, check.ablated, check.estimated, strict=True
    ):
        left, _ = by_hand(model, graph, images, [child])
        k = column[parent]
        assert ablated == pytest.approx(1 - left[:, k].sum() / whole[:, k].sum(), abs=1e-4)
        assert estimated == measured.nx.edges[parent, child]["effect"]


def test_rank_correlation_is_that_of_ranks():
    def ranks(values):
        return np.array([(values < v).sum() + (values == v).sum() / 2 for v in values])

    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 6, (2, 15)).astype(float)  # with ties
        assert effects.rank_correlation(a, b) == pytest.approx(
            np.corrcoef(ranks(a), ranks(b))[0, 1]
        )
    assert effects.rank_correlation(np.ones(4), np.arange(4.0)) == 0


def test_on_creatures_estimates_agree_with_ablation():
    model = creatures.network()
    graph = explgraph.mine(model, creatures.draw(60, seed=1).tensor(), ["stage4", "stage3"])
    graph = graph.prune(top=0.3)
    images = creatures.draw(8, seed=2).tensor()
    measured = explgraph.edge_effects(model, graph, images)
    assert effects.check_effects(model, measured, images, edges=40).rank_correlation >= 0.8


def test_effects_are_gradients_written_out_node_by_node_and_image_by_image(curved):
    """One backward pass serves many parents: each for itself, in float64, gives the same."""
    model, graph = curved
    images = pictures(5, seed=8)
    images[1:3] = 0  # of what has a negative bias there is nothing
    measured = effects.edge_effects(model, graph, images, classes={"a": 2}, batch_size=4)
    all_places = own_places(graph, model, images)
    exact = network(positive=False).double()
    lost = dict.fromkeys(graph.nx.edges, 0.0)
    total = dict.fromkeys(graph.nx, 0.0)
    on_class = dict.fromkeys(graph.nx, 0.0)
    absent = 0
    for i, image in enumerate(images.double()):
        lower = exact.lower(image[None]).detach().requires_grad_()
        upper, scores = exact.tail(lower)
        maps, places = {"lower": lower, "upper": upper}, all_places[i]

        def own(node, maps=maps, places=places):
            values = graph.nx.nodes[node]
            return maps[values["layer"]][0, values["filter"]].relu() * places[node]

        slopes = torch.autograd.grad(scores[0, 2], list(maps.values()), retain_graph=True)
        slopes = dict(zip(maps, slopes, strict=True))
        for node, values in graph.nx.nodes.items():
            total[node] += own(node).sum().item()
            slope = slopes[values["layer"]][0, values["filter"]]
            on_class[node] += (slope * own(node)).sum().item() / len(images)
        for parent, child in graph.nx.edges:
            absent += not own(parent).any() or not own(child).any()
            (slope,) = torch.autograd.grad(own(parent).sum(), lower, retain_graph=True)
            slope = slope[0, graph.nx.nodes[child]["filter"]]
            lost[parent, child] += (slope * own(child)).sum().item()
    assert 0 < absent < len(images) * len(lost)
    for (parent, child), loss in lost.items():
        expected = loss / total[parent] if total[parent] else 0.0
        found = measured.nx.edges[parent, child]["effect"]
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
    for node, expected in on_class.items():
        found = measured.nx.nodes[node]["effect_on_a"]
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_a_long_wait_is_told_ahead(curved, monkeypatch, capsys):
    model, graph = curved
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(effects.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    effects.edge_effects(model, graph, pictures(4), progress=True)
    said = capsys.readouterr().err
    assert f"effects of {len(graph)} nodes over 4 images: about " in said
    assert "fewer nodes (graph.prune(top=...), or --top) or images take less" in said
    effects.edge_effects(model, graph, pictures(4))
    assert capsys.readouterr().err == ""


def test_an_absent_parent_has_no_effects(linear):
    _, graph = linear
    silent = network()
    silent.upper.weight.data.zero_()
    graph = graph.restricted(graph.node_ids)
    graph.nx.graph["model_fingerprint"] = ""  # an unknown model is let through
    measured = effects.edge_effects(silent, graph, pictures(2))
    assert {values["effect"] for values in measured.nx.edges.values()} == {0.0}


class SideBranch(TwoLayers):
    """The scores come from the lower layer alone."""

    def forward(self, x):
        lower = self.lower(x)
        self.upper(lower.relu())
        return lower.relu().mean((2, 3))


def test_a_layer_that_the_scores_do_not_depend_on_has_no_effect_on_them(linear):
    _, graph = linear
    graph = graph.restricted(graph.node_ids)
    graph.nx.graph["model_fingerprint"] = ""
    model = SideBranch(positive=True).eval()
    measured = effects.edge_effects(model, graph, pictures(2), classes={"a": 0})
    assert {measured.nx.nodes[v]["effect_on_a"] for v in graph.nodes_of("upper")} == {0.0}
    assert any(measured.nx.nodes[v]["effect_on_a"] for v in graph.nodes_of("lower"))
    assert any(values["effect"] for values in measured.nx.edges.values())


class TwoOutputs(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.lower, self.upper = inner.lower, inner.upper
        self.inner = [inner]

    def forward(self, x):
        scores = self.inner[0](x)
        return scores, scores


def test_wrong_inputs_are_told(linear):
    model, graph = linear
    images = pictures(2)
    with pytest.raises(ExplgraphError, match="weights are not those"):
        effects.edge_effects(network(positive=False), graph, images)
    with pytest.raises(ExplgraphError, match="weights are not those"):
        explgraph.ablate(network(positive=False), graph, images, graph.node_ids[:1])
    wrapped = torch.nn.Sequential(network()).eval()  # the same weights, by other names
    with pytest.raises(ExplgraphError, match=r"no layer 'lower'; did you mean '0\.lower'"):
        effects.edge_effects(wrapped, graph, images)
    with pytest.raises(ExplgraphError, match="no node 'upper/999/0'"):
        explgraph.ablate(model, graph, images, ["upper/999/0"])
    with pytest.raises(ExplgraphError, match="nodes is empty"):
        explgraph.ablate(model, graph, images, [])
    with pytest.raises(ExplgraphError, match="has no nodes"):
        effects.edge_effects(model, graph.prune(top=0), images)
    with pytest.raises(ExplgraphError, match=r"'cat' is number 3, but .* 3 classes"):
        effects.edge_effects(model, graph, images, classes={"cat": 3})
    with pytest.raises(ExplgraphError, match="class name 'red panda'"):
        effects.edge_effects(model, graph, images, classes={"red panda": 1})
    with pytest.raises(ExplgraphError, match="3 are needed"):
        effects.check_effects(model, graph, images)
    with pytest.raises(ExplgraphError, match="32 x 32"):
        effects.edge_effects(model, graph, torch.rand(2, 3, 48, 48))
    with pytest.raises(ExplgraphError, match="evaluation mode"):
        effects.edge_effects(network().train(), graph, images)
    graph = graph.restricted(graph.node_ids)
    graph.nx.graph["model_fingerprint"] = ""
    with pytest.raises(ExplgraphError, match="one tensor of"):
        effects.edge_effects(TwoOutputs(model).eval(), graph, images)
    with pytest.raises(ExplgraphError, match="no layer"):
        effects.edge_effects(nn.Sequential(nn.Flatten()).eval(), graph, images)


@pytest.mark.parametrize("graph", ["g.explgraph", None])
def test_what_is_no_graph_is_told(linear, graph):
    model, _ = linear
    x = pictures(2)
    for asked in (
        lambda: effects.edge_effects(model, graph, x),
        lambda: ablation.ablate(model, graph, x, ["a"]),
        lambda: effects.check_effects(model, graph, x),
        lambda: rationales(model, graph, x, 0),
        lambda: node_evidence(model, graph, x, [0]),
        lambda: explgraph.DecisionTree.fit(model, graph, x, 0),
        lambda: explgraph.Localizer(graph),
        lambda: explgraph.find_bias(model, graph, x, {}),
        lambda: parse_activations(graph, None),
    ):
        with pytest.raises(ExplgraphError, match=r"graph must be an ExplanatoryGraph.*load"):
            asked()


def test_a_parse_and_a_model_are_asked_for(linear):
    _, graph = linear
    with pytest.raises(ExplgraphError, match=r"parse must be a Parse, .* got NoneType"):
        explgraph.Localizer(graph).fit(None, {})
    with pytest.raises(ExplgraphError, match=r"model must be a torch\.nn\.Module, got NoneType"):
        graph.parse(None, pictures(2))
    with pytest.raises(ExplgraphError, match=r"model must be a torch\.nn\.Module, got NoneType"):
        explgraph.find_bias(None, graph, pictures(2), {})


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_scores_go_to_a_file_and_back(tmp_path, suffix):
    readers.needed(suffix)
    found = ablation.Ablation(("a.png", "b.png"), *np.random.default_rng(0).normal(size=(2, 2, 3)))
    file = tmp_path / f"scores{suffix}"
    found.write(file)
    again = ablation.Ablation.read(file)
    assert again.names == found.names
    assert_array_equal(again.before, found.before)
    assert_array_equal(again.after, found.after)
    table = readers.frame(file).set_index(["image", "class"])
    assert table.loc[("b.png", 2), "after"] == pytest.approx(found.after[1, 2])


def test_files_that_hold_no_scores(tmp_path):
    (tmp_path / "scores.csv").write_text("image,class,before,after\na,1,0.5,0.5\n")
    with pytest.raises(ExplgraphError, match="holds the classes 1 to 1; expected 0, 1"):
        ablation.Ablation.read(tmp_path / "scores.csv")


class Keeps(nn.Module):
    """Keeps something to itself for what comes later."""

    def forward(self, x):
        self.kept = x.mean((1, 2, 3))[:, None]


class Stateful(TwoLayers):
    def __init__(self):
        super().__init__(positive=True)
        self.keeps = Keeps()

    def forward(self, x):
        lower = self.lower(x)
        self.keeps(lower)
        return self.tail(lower)[1] * self.keeps.kept


def test_other_threads_wait_until_a_batch_is_done(linear, monkeypatch):
    _, graph = linear
    model, images = Stateful().eval(), pictures(2)
    chosen = [node for node in graph.node_ids if graph.nx.nodes[node]["layer"] == "upper"][:2]
    expected = ablation.ablate(model, graph, images, chosen)
    usual, threads = effects.Rerun.changed, []

    def changed(self, changes):
        other = threading.Thread(target=run, args=(model, 3 * images, graph.layers))
        threads.append(other)
        other.start()
        other.join(0.2)  # long enough, if nothing holds it back
        return usual(self, changes)

    monkeypatch.setattr(effects.Rerun, "changed", changed)
    found = ablation.ablate(model, graph, images, chosen)
    for thread in threads:
        thread.join()
    assert threads
    assert_array_equal(found.after, expected.after)


def planted(graph, silent):
    """A linear network and a graph in which every unit of a filter is its one node's.

    All nodes of the layers are linked. Filters of the upper layer that have no node don't matter
    for any class, but for those in `silent`.
    """
    model, nodes = network(), {}
    for node, values in graph.nx.nodes.items():
        nodes.setdefault((values["layer"], values["filter"]), node)
    graph = graph.restricted([node for node in graph.nx if node in nodes.values()])
    graph.nx.graph["model_fingerprint"] = ""
    upper, lower = (graph.nodes_of(layer) for layer in ("upper", "lower"))
    edge = {"dx": 0.0, "dy": 0.0, "sigma": 1.0, "consistency": 1.0, "coactivation": 1.0}
    graph.nx.add_edges_from((parent, child, edge) for parent in upper for child in lower)
    used = {graph.nx.nodes[node]["filter"] for node in upper} | set(silent)
    unused = sorted(set(range(model.upper.out_channels)) - used)
    model.head.weight.data[:, unused] = 0
    return model, graph


def everything(_places, nodes, _seen, like):
    """Weights of nodes that hold all of their filters."""
    return torch.ones(len(like), len(nodes), *like.shape[2:]).to(like)


def test_in_a_linear_network_all_of_a_child_s_effect_goes_through_edges(linear, monkeypatch):
    model, graph = planted(linear[1], silent=())
    monkeypatch.setattr(Places, "weights", everything)
    images = pictures(6, seed=3)
    measured = effects.edge_effects(model, graph, images, classes={"a": 0, "b": 2})
    for name, number in (("a", 0), ("b", 2)):
        lower, upper = class_effects.layer_effects(measured, name)
        assert (lower.layer, upper.layer) == ("lower", "upper")
        np.testing.assert_allclose(lower.through, lower.own, rtol=1e-3)
        assert lower.share == pytest.approx(1, abs=1e-3)
        assert lower.rank_correlation == pytest.approx(1)
        assert np.isnan([upper.share, upper.rank_correlation]).all()
        with torch.no_grad():
            scores = model(images)[:, number].mean().item()
        for one in (lower, upper):
            assert one.score == pytest.approx(scores, rel=1e-4)
            assert one.own.sum() + one.rests.total == pytest.approx(one.score, rel=1e-4)
            assert abs(one.rests.residual) < 1e-4 * abs(one.carried)
    # an edge less is what goes through it less, by hand
    (parent, *_), (child, *_) = (measured.nodes_of(layer) for layer in ("upper", "lower"))
    gone = measured.nx.edges[parent, child]["effect"] * measured.nx.nodes[parent]["effect_on_a"]
    fewer = measured.restricted(measured.node_ids)
    fewer.nx.remove_edge(parent, child)
    left = class_effects.layer_effects(fewer, "a")[0]
    whole = class_effects.layer_effects(measured, "a")[0]
    assert whole.through[0] - left.through[0] == pytest.approx(gone)
    sign = np.sign(whole.own[0])
    assert whole.share - left.share == pytest.approx(sign * gone / np.abs(whole.own).sum())


def test_what_goes_past_the_edges_is_told(linear, monkeypatch):
    """A filter without a node matters: its way is no edge's."""
    _, graph = linear
    away = [node for node in graph.nodes_of("upper") if graph.nx.nodes[node]["filter"] == 0]
    rest = graph.restricted([node for node in graph.nx if node not in away])
    model, graph = planted(rest, silent=[0])
    monkeypatch.setattr(Places, "weights", everything)
    images = pictures(4, seed=3)
    measured = effects.edge_effects(model, graph, images, classes={"a": 0})
    found = class_effects.layer_effects(measured, "a")[0]
    exact = network().double()
    exact.head.weight.data = model.head.weight.data.double()
    lower = exact.lower(images.double()).detach()
    for k, node in enumerate(found.nodes):
        without = lower.clone()
        without[:, graph.nx.nodes[node]["filter"]] = 0
        both = [exact.tail(maps)[0].relu().mean((2, 3))[:, 0] for maps in (lower, without)]
        past = (both[0] - both[1]).mean().item() * exact.head.weight[0, 0].item()
        assert found.own[k] - found.through[k] == pytest.approx(past, rel=1e-3)


def test_effects_of_each_layer_and_what_they_miss_make_the_score(curved):
    model, graph = curved
    images = pictures(5, seed=8)
    measured = effects.edge_effects(model, graph, images, classes={"a": 2}, batch_size=2)
    lower, upper = class_effects.layer_effects(measured, "a")
    with torch.no_grad():
        score = model(images)[:, 2].mean().item()
        maps = model.lower(images)
        without = model.tail(maps.clamp(max=0))[1][:, 2].mean().item()
    for one in (lower, upper):
        assert one.score == pytest.approx(score, abs=1e-5)
        assert one.own.sum() + one.rests.total == pytest.approx(score, abs=1e-5)
        assert one.rests.no_part == 0
    assert lower.rests.without == pytest.approx(without, abs=1e-5)
    assert abs(upper.rests.residual) < 1e-5  # mean and linear layer above
    assert abs(lower.rests.residual) > 0.01 * abs(lower.carried)
    # a node less is no node's more
    fewer = measured.restricted(measured.node_ids[1:])
    other = {one.layer: one for one in class_effects.layer_effects(fewer, "a")}
    node = measured.node_ids[0]
    before = {one.layer: one for one in (lower, upper)}[measured.nx.nodes[node]["layer"]]
    after = other[before.layer]
    effect = measured.nx.nodes[node]["effect_on_a"]
    assert after.rests.no_node - before.rests.no_node == pytest.approx(effect, abs=1e-6)
    # other classes that were measured before stay
    more = effects.edge_effects(model, measured, images, classes={"b": 0})
    assert class_effects.layer_effects(more, "a")[0].score == lower.score
    damaged = graph.restricted(graph.node_ids)
    for stored in ({}, {"a": 3}, {"a": {"lower": {"score": 1.0}}}):
        damaged.nx.graph[class_effects.ACCOUNTS] = stored
        with pytest.raises(ExplgraphError, match="no effect on it; measure it first"):
            class_effects.layer_effects(damaged, "a")
