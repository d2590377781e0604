"""Answers by parts against sums over their nodes, written out, and creatures' planted parts."""

import blobs
import damaged
import numpy as np
import pytest
from small_network import graph_of, network, pictures

import explgraph
from explgraph import DecisionTree, ExplgraphError, creatures
from explgraph.answers import ablation, effects
from explgraph.answers.class_effects import part_effects
from explgraph.answers.evidence import node_evidence
from explgraph.answers.rationales import rationales
from explgraph.answers.relations import Bias
from explgraph.evaluation.landmarks import from_creatures
from explgraph.explaining import by_part


@pytest.fixture(scope="module")
def small():
    """A linear network and its graph: one part has a name, the nodes of another have none."""
    model = network()
    graph = graph_of(model).name_part("p3", "claw").reject_part("p2")
    assert any(not values["part"] for values in graph.nx.nodes.values())
    return model, graph


@pytest.fixture(scope="module")
def animals():
    model, drawn = creatures.network(), creatures.draw(120, seed=1)
    graph = explgraph.mine(model, drawn.tensor(), creatures.LAYERS, seed=0)
    return model, graph, creatures.draw(60, seed=3)


def sums(graph, nodes, values):
    """Sums over parts in the graph's order, {id: (...)}, and over nodes of none: node by node."""
    found = {record["id"]: [] for record in graph.nx.graph["parts"]} | {"": []}
    for v, node in enumerate(nodes):
        found[graph.nx.nodes[node]["part"]].append(values[..., v].astype(np.float64))
    rest = sum(found.pop(""), np.zeros(values.shape[:-1]))
    return {part: sum(of_nodes) for part, of_nodes in found.items() if of_nodes}, rest


@pytest.mark.parametrize("layer", ["lower", "upper"])
def test_rationales_are_sums(small, layer):
    model, graph = small
    images = pictures(5, seed=4)
    nodes = rationales(model, graph, images, 2, layer=layer)
    parts = rationales(model, graph, images, 2, layer=layer, by="part")
    for name in ("contributions", "activations"):
        wanted, rest = sums(graph, nodes.nodes, getattr(nodes, name))
        assert parts.nodes == tuple(wanted)
        np.testing.assert_allclose(getattr(parts, name), np.stack([*wanted.values()], 1))
        assert np.abs(rest).max() > 0
        if name == "contributions":
            np.testing.assert_allclose(parts.rest, nodes.rest + rest)
            np.testing.assert_allclose(parts.rests.no_part, rest)
            np.testing.assert_array_equal(parts.rests.no_node, nodes.rests.no_node)
    for found in (parts, nodes):
        np.testing.assert_allclose(found.contributions.sum(1) + found.rest, nodes.scores)
        np.testing.assert_allclose(found.rests.total, found.rest, atol=1e-4)
    titles = {part.id: part.title for part in graph.parts}
    assert parts.called == parts.titles == tuple(titles[part] for part in parts.nodes)
    assert "claw" in parts.titles
    assert nodes.called == nodes.nodes
    some = parts.take([3, 1])
    assert (some.titles, some.names) == (parts.titles, (parts.names[3], parts.names[1]))


def test_evidence_is_a_sum(small):
    model, graph = small
    nodes = node_evidence(model, graph, pictures(4), [0, 2])
    parts = node_evidence(model, graph, pictures(4), [0, 2], by="part")
    wanted, rest = sums(graph, nodes.nodes, nodes.values)
    assert parts.nodes == tuple(wanted)
    np.testing.assert_allclose(parts.values, np.stack([*wanted.values()], -1), rtol=1e-5)
    np.testing.assert_allclose(parts.values.sum(-1) + rest, nodes.values.sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(parts.outputs, nodes.outputs)
    np.testing.assert_allclose(parts.rests.no_part, rest, rtol=1e-5)
    np.testing.assert_allclose(parts.values.sum(-1) + parts.rests.total, nodes.outputs, rtol=1e-4)
    for k, part in enumerate(parts.nodes):
        mine = [v for v, node in enumerate(nodes.nodes) if graph.nx.nodes[node]["part"] == part]
        np.testing.assert_allclose(
            parts.positions[:, k], nodes.positions[:, mine].mean(1), rtol=1e-5
        )


def test_effects_on_a_class_are_sums_layer_by_layer(small):
    model, graph = small
    measured = effects.edge_effects(model, graph, pictures(4), classes={"a": 0, "b": 1})
    found = part_effects(measured, "b")
    assert found.layers == ("lower", "upper")
    assert found.ids == tuple(part.id for part in graph.parts)
    for i, layer in enumerate(found.layers):
        nodes = graph.nodes_of(layer)
        given = np.array([measured.nx.nodes[node]["effect_on_b"] for node in nodes])
        wanted, rest = sums(graph, nodes, given)
        for k, part in enumerate(found.ids):
            assert found.values[i, k] == pytest.approx(wanted.get(part, 0.0))
        assert found.rests.no_part[i] == pytest.approx(float(rest)) != 0
    np.testing.assert_allclose(found.rests.residual, 0, atol=1e-2)  # of scores of hundreds
    # all of a layer's nodes together have what they share, each of it once: in a linear network
    # their effects are what happens in truth
    lost = -explgraph.ablate(model, graph, pictures(4), graph.nodes_of("upper")).change[:, 1].mean()
    told = found.values[1].sum() + found.rests.no_part[1]
    assert told == pytest.approx(lost, rel=1e-3)


def test_a_part_stands_for_its_nodes_in_ablation(small):
    model, graph = small
    part = graph.part("claw")
    wanted = explgraph.ablate(model, graph, pictures(3), part.nodes)
    for name in ("claw", "p3", ["claw"], ["p3", part.nodes[0]]):
        found = explgraph.ablate(model, graph, pictures(3), name)
        np.testing.assert_array_equal(found.after, wanted.after)
    assert np.abs(wanted.change).max() > 0
    both = by_part.nodes_named(graph, ["part 4", "claw"])
    assert set(both) == {*graph.part("p4").nodes, *part.nodes}
    assert both == tuple(node for node in graph.nx if node in both)


def test_names_that_are_nobody_s_are_told(small):
    model, graph = small
    with pytest.raises(ExplgraphError, match="no node 'clw', and no part of this name; did you"):
        explgraph.ablate(model, graph, pictures(2), ["clw"])
    with pytest.raises(ExplgraphError, match="nodes is empty; name at least one node or part"):
        explgraph.ablate(model, graph, pictures(2), [])
    with pytest.raises(ExplgraphError, match="no node '', and no part"):  # many have no name
        by_part.nodes_named(graph, [""])
    two = graph.name_part("p1", "claw")
    with pytest.raises(ExplgraphError, match="'claw' is that of several parts: p1, p3; give an id"):
        by_part.nodes_named(two, "claw")
    # their titles say which is which
    assert by_part.different_titles(two.parts)["p3"] == "claw (p3)"
    assert set(by_part.nodes_named(two, "claw (p3)")) == set(graph.part("p3").nodes)
    bare = graph.restricted(node for node in graph.nx if not graph.nx.nodes[node]["part"])
    with pytest.raises(ExplgraphError, match="its parts are none"):
        by_part.nodes_named(bare, "claw")
    with pytest.raises(ExplgraphError, match=r"none of the \d+ nodes that are asked belongs to"):
        rationales(model, bare, pictures(2), 0, by="part")
    with pytest.raises(ExplgraphError, match="the graph has no parts; name nodes instead"):
        by_part.find_parts(bare, None)
    for ask in (rationales, node_evidence):
        with pytest.raises(ExplgraphError, match="by is 'layer'; expected 'node' or 'part'"):
            ask(model, graph, pictures(2), 0, by="layer")
    measured = effects.edge_effects(model, graph, pictures(2), classes={"wing": 0})
    with pytest.raises(ExplgraphError, match=r"no effect on it; did you mean 'wing'\?; measure it"):
        part_effects(measured, "wings")


def test_parts_are_found_by_what_they_are_called(small):
    _, graph = small
    assert by_part.find_parts(graph, None) == graph.parts
    assert by_part.find_parts(graph, ["claw", "p1", "p3"]) == (graph.part("p3"), graph.part("p1"))
    assert by_part.find_parts(graph, "part 4") == (graph.part("p4"),)
    node = graph.node_ids[0]
    with pytest.raises(ExplgraphError, match=f"'{node}' is a node, not a part; the graph's parts"):
        by_part.find_parts(graph, [node])


def test_parts_are_taken_away_one_at_a_time(small):
    model, graph = small
    images = pictures(5, seed=6)
    found = ablation.ablate_parts(model, graph, images, ["p4", "claw"], batch_size=2)
    assert (found.ids, found.titles) == (("p4", "p3"), ("part 4", "claw"))
    for k, part in enumerate(found.ids):
        alone = explgraph.ablate(model, graph, images, graph.part(part).nodes)
        np.testing.assert_allclose(found.change[k], alone.change, rtol=1e-4)
        assert found.names == alone.names
    assert ablation.ablate_parts(model, graph, images).ids == tuple(p.id for p in graph.parts)
    with pytest.raises(ExplgraphError, match="parts is empty; name at least one part"):
        ablation.ablate_parts(model, graph, images, [])


TRUTH = {"yellow_eyes": "eye", "bib": "chest", "striped": "rump"}


@pytest.mark.parametrize("attribute", TRUTH)
def test_a_creature_s_attribute_is_told_by_the_part_that_has_it(animals, attribute):
    """By contributions and by ablation, it is the part that lies nearest to it in truth."""
    model, graph, drawn = animals
    images, output = drawn.tensor(), creatures.OUTPUTS.index(attribute)
    places = graph.parts_in(graph.parse(model, images))
    gap = places.positions - from_creatures(drawn).parts[TRUTH[attribute]][:, None]
    nearest = places.parts[int(np.nanmean(np.linalg.norm(gap, axis=-1), 0).argmin())]

    has = drawn.attributes[attribute]
    found = rationales(model, graph, images, output, by="part")
    more = found.contributions[has].mean(0) - found.contributions[~has].mean(0)
    assert found.nodes[int(more.argmax())] == nearest
    change = {
        part.id: explgraph.ablate(model, graph, images[has][:12], part.id).change[:, output].mean()
        for part in graph.parts
    }
    assert min(change, key=change.get) == nearest
    assert change[nearest] < -2


def test_trees_of_parts(animals, tmp_path):
    model, graph, drawn = animals
    graph = graph.name_part("p1", "eyes")
    target, images = creatures.OUTPUTS.index("yellow_eyes"), drawn.tensor()
    has = drawn.attributes["yellow_eyes"]
    tree = DecisionTree.fit(model, graph, images, target, positive=has, by="part")
    titles = {part.title for part in graph.parts}
    assert set(tree.nodes) <= {part.id for part in graph.parts}
    assert set(tree.called) <= titles
    for number in range(len(tree.modes)):
        assert set(tree.parts_of(number)) <= titles
    assert next(iter(tree.parts_of(0))) == "eyes"

    new = creatures.draw(6, seed=9).tensor()
    found = rationales(model, graph, new, target, by="part")
    for told, predicted in zip(tree.explain_all(found), tree.predict(found), strict=True):
        assert set(told.contributions) <= titles
        total = told.bias + sum(told.contributions.values())
        assert predicted == pytest.approx(total)
        assert told.score == pytest.approx(total + told.residual)
    told = tree.explain(new[0])
    assert told.contributions == pytest.approx(tree.explain_all(found)[0].contributions, abs=1e-4)

    tree.save(tmp_path / "tree")
    loaded = DecisionTree.load(tmp_path / "tree")
    assert loaded.called == tree.called
    assert loaded.explain_all(found) == tree.explain_all(found)
    damaged.edited(tmp_path / "tree", lambda content, _: content.pop("titles"))  # an older file
    assert DecisionTree.load(tmp_path / "tree").called == tree.nodes
    tree.write(tmp_path / "tree.html")
    tree.write(tmp_path / "tree.dot")
    for file in ("tree.html", "tree.dot"):
        assert "eyes" in (tmp_path / file).read_text()

    # what is taken away in truth may be named by ids and by titles
    lost = {
        name: -explgraph.ablate(model, graph, images, name).change[:, target]
        for name in ("eyes", "p1")
    }
    by_title, by_id = (
        tree.measure(tree.fitted, has, depths=[1], removed={name: lost[name]})
        for name in ("eyes", "p1")
    )
    assert by_title == by_id
    with pytest.raises(ExplgraphError, match=r"removed names 'eys', .* did you mean 'eyes'"):
        tree.measure(tree.fitted, has, removed={"eys": lost["p1"]})
    plain = DecisionTree.fit(model, graph, images, target, positive=has)
    with pytest.raises(ExplgraphError, match="of other nodes than the tree's"):
        plain.explain_all(found)


def test_a_bias_names_parts(tmp_path):
    """Red's and green's blobs are parts of their own, made by hand; blue's belongs to none."""
    model = blobs.Net().eval()
    images, labels, _ = blobs.world(300, seed=0, agreement=0.92, together=True)
    graph = explgraph.mine(model, images[:150], ["cells"], seed=0)
    known = {"support": 0.5, "reliability": 1.0, "offset": 0.0, "slope": 1.0}
    others = {"together": {}, "rejected": [], "decided": False}
    graph.nx.graph["parts"] = [
        {"id": "p1", "name": "", **known, **others},
        {"id": "p2", "name": "green|blob", **known, **others},
    ]
    for values in graph.nx.nodes.values():
        values.update(part=("p1", "p2", "")[values["filter"]], part_weight=1.0)
    graph.validate()
    nodes = explgraph.find_bias(model, graph, images, labels, permutations=999)
    parts = explgraph.find_bias(model, graph, images, labels, permutations=999, by="part")
    assert str(parts.relations) == str(nodes.relations)  # NaN isn't NaN
    wanted, rest = sums(graph, nodes.nodes, nodes.node_effects)
    np.testing.assert_allclose(parts.node_effects, np.stack([*wanted.values()], -1))
    assert rest[2, 2] > 1  # blue's own effect, as far as it lies in the node's place
    assert np.abs(rest[:2, 2]).max() < 0.2
    assert parts.nodes == ("p1", "p2")
    (first, effect), *_ = parts.where("red", "green")
    assert first == "green|blob"
    assert effect == nodes.where("red", "green")[0][1]
    head, _, row, *_ = parts.markdown().splitlines()
    assert head.endswith("| carried by |")
    assert r"| unexpected | green\|blob +" in row
    assert "carried by" not in nodes.markdown()
    parts.save(tmp_path / "bias")
    loaded = Bias.load(tmp_path / "bias")
    assert loaded.where("red", "green") == parts.where("red", "green")
    assert loaded.markdown() == parts.markdown()
