"""Parts of a graph: what they hold, people's decisions on them, the graph between them."""

import copy

import networkx as nx
import numpy as np
import pytest

import explgraph
from explgraph import creatures
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.graph.parts import trajectories
from explgraph.statistics.fitted import Fitted

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def graph():
    images = creatures.draw(80, seed=0).tensor()
    return explgraph.mine(creatures.network(), images, creatures.LAYERS)


def ids(graph):
    return [part.id for part in graph.parts]


def members(graph):
    return {part.id: set(part.nodes) for part in graph.parts}


def test_a_node_belongs_to_one_part_or_to_none(graph):
    assert 6 <= len(graph.parts) <= 25
    seen = [node for part in graph.parts for node in part.nodes]
    assert len(set(seen)) == len(seen)
    for node, values in graph.nx.nodes.items():
        assert (values["part"] != "") == (node in seen)
        assert values["reliability"] > 0 or not values["part"]
    assert ids(graph) == [f"p{k + 1}" for k in range(len(graph.parts))]


def test_parts_that_stand_still_are_told_and_come_last(graph):
    parse = graph.parse(creatures.network(), creatures.draw(80, seed=1).tensor())
    number = {node: v for v, node in enumerate(graph.nx)}
    moved = [
        parse.expected[:, [number[node] for node in part.nodes]].std(0).mean()
        for part in graph.parts
    ]
    still = [part.still for part in graph.parts]
    assert 0 < sum(still) < len(still)
    assert still == sorted(still)
    assert max(m for m, s in zip(moved, still, strict=True) if s) < 1  # px
    assert min(m for m, s in zip(moved, still, strict=True) if not s) > 2


def test_what_a_part_says(graph):
    for part in graph.parts:
        assert graph.part(part.id) == graph.part(part.title) == part
        assert part.title == f"part {part.id[1:]}"
        values = [graph.nx.nodes[node] for node in part.nodes]
        weight = np.array([a["reliability"] * a["part_weight"] for a in values])
        assert (np.diff(weight) <= 0).all()
        place = weight @ np.array([[a["x"], a["y"]] for a in values]) / weight.sum()
        np.testing.assert_allclose(part.place, place)
        order = [layer.name for layer in graph.layers]
        assert list(part.layers) == [n for n in order if n in {a["layer"] for a in values}]
        assert 0 <= part.support <= 1
        assert 0.5 < part.reliability <= 1
        scores = [score for *_, score in part.exemplars]
        assert scores == sorted(scores, reverse=True)
        assert 0 < len(scores) <= 16


def test_parts_survive_a_file(graph, tmp_path):
    decided = graph.name_part("p1", "head").merge_parts(["p2", "p3"]).reject_part("p4")
    decided.save(tmp_path / "graph.explgraph")
    again = explgraph.load(tmp_path / "graph.explgraph")
    assert again == decided
    assert again.parts == decided.parts


@pytest.mark.parametrize("suffix", [".graphml", ".gexf", ".gml", ".json", ".cyjs", ".html", ".dot"])
def test_files_hold_the_part_of_each_node(graph, tmp_path, suffix):
    graph.write(tmp_path / f"graph{suffix}")
    if suffix == ".graphml":
        read = nx.read_graphml(tmp_path / "graph.graphml")
        assert {v: a["part"] for v, a in read.nodes.items()} == dict(graph.nx.nodes(data="part"))


def test_tables(graph):
    table = graph.to_frame("parts")
    assert list(table.index) == ids(graph)
    for part in graph.parts:
        row = table.loc[part.id]
        assert (row["x"], row["y"]) == part.place
        assert row["nodes"] == len(part.nodes)
        assert row["follows"] == part.follows
    assert f"{len(graph.parts)} parts hold" in repr(graph)


def test_the_best_of_every_part_are_kept(graph):
    pruned = graph.prune(top=3, by="part")
    for part, before in zip(pruned.parts, graph.parts, strict=True):
        assert part.nodes == before.nodes[:3]
    assert len(pruned) == sum(min(3, len(part.nodes)) for part in graph.parts)
    assert len(graph.prune(by="part")) == sum(len(part.nodes) for part in graph.parts)
    half = graph.prune(top=0.5, by="part")
    assert [len(p.nodes) for p in half.parts] == [-(-len(p.nodes) // 2) for p in graph.parts]
    with pytest.raises(ExplgraphError, match="by is 'layer'; expected 'node' or 'part'"):
        graph.prune(by="layer")


# --------------------------------------------------------------------------------------- decisions


def test_naming(graph):
    named = graph.name_part("p2", "horn")
    assert named.part("horn").nodes == graph.part("p2").nodes
    assert named.part("horn").title == "horn"
    assert graph.part("p2").name == ""  # the graph itself is as it was
    assert named.name_part("horn", "").parts == graph.parts


def test_merging(graph):
    merged = graph.name_part("p3", "ear").merge_parts(["p1", "p3"])
    assert set(merged.part("ear").nodes) == members(graph)["p1"] | members(graph)["p3"]
    assert merged.part("ear").id == "p1"
    assert "p3" not in ids(merged)
    with pytest.raises(ExplgraphError, match="have the names 'ear', 'eye'; say which"):
        graph.name_part("p1", "eye").name_part("p3", "ear").merge_parts(["p1", "p3"])
    for wrong, told in (
        ("p1", "two parts or more"),
        (["p1"], "two parts"),
        (["p1", "p1"], "twice"),
    ):
        with pytest.raises(ExplgraphError, match=told):
            graph.merge_parts(wrong)


def test_splitting(graph):
    split = graph.split_part("p1")
    new = f"p{len(graph.parts) + 1}"
    assert ids(split)[:2] == ["p1", new]
    assert members(split)["p1"] | members(split)[new] == members(graph)["p1"]
    assert not members(split)["p1"] & members(split)[new]
    points = dict(zip(graph.nx, trajectories(graph), strict=True))
    one, other = (np.array([points[v] for v in members(split)[k]]) for k in ("p1", new))
    whole = np.concatenate([one, other])
    inner = sum(np.square(p - p.mean(0)).sum() for p in (one, other))
    assert inner < 0.8 * np.square(whole - whole.mean(0)).sum()
    again = split.merge_parts(["p1", new])
    assert members(again) == members(graph)


def test_rejecting(graph):
    rejected = graph.reject_part("p2")
    assert ids(rejected) == [k for k in ids(graph) if k != "p2"]
    assert rejected.node_ids == graph.node_ids
    assert all(rejected.nx.nodes[v]["part"] == "" for v in graph.part("p2").nodes)


def test_unknown_parts_are_told(graph):
    with pytest.raises(ExplgraphError, match=r"no part 'p99'.*its parts are p1, p2"):
        graph.part("p99")
    two = graph.name_part("p1", "eye").name_part("p2", "eye")
    with pytest.raises(ExplgraphError, match="several parts: p1, p2; give an id"):
        two.part("eye")
    nothing = graph
    for part in ids(graph):
        nothing = nothing.reject_part(part)
    assert nothing.parts == ()
    assert nothing.part_graph().number_of_nodes() == 0
    with pytest.raises(ExplgraphError, match="the graph has no parts"):
        nothing.part("p1")


def test_decisions_are_taken_up_by_the_same_graph(graph, tmp_path):
    decided = graph.name_part("p1", "head").merge_parts(["p2", "p3"], "x").split_part("p1")
    decided = decided.reject_part("p5")
    decided.write_labels(tmp_path / "labels.json")
    assert graph.apply_labels(tmp_path / "labels.json") == decided
    assert decided.apply_labels(tmp_path / "labels.json") == decided


def test_decisions_survive_mining_again(graph, tmp_path):
    """On other creatures: what is found again keeps its name, what isn't is told."""
    decided = graph.name_part("p1", "face").reject_part("p2")
    decided.write_labels(tmp_path / "labels.json")
    images = creatures.draw(80, seed=7).tensor()
    other = explgraph.mine(creatures.network(), images, creatures.LAYERS)
    again = other.apply_labels(tmp_path / "labels.json")
    face = {v.rpartition("/")[0] for v in graph.part("p1").nodes}
    mine = {v.rpartition("/")[0] for v in again.part("face").nodes}
    assert len(mine & face) >= 0.5 * len(mine)
    assert len(again.parts) < len(other.parts)  # the rejected one, or what was merged


def test_what_is_not_found_again_is_told(graph):
    labels = {
        "format": "explgraph labels",
        "format_version": 1,
        "parts": [{"id": "p1", "name": "antler", "nodes": ["stage2/0/9"], "place": [1.0, 1.0]}],
    }
    with pytest.warns(ExplgraphWarning, match="no part of this graph is like 'antler'"):
        again = graph.apply_labels(labels)
    assert again == graph


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("p1", "expected an object of id, name"),
        ({"id": "p1", "colour": "red"}, "expected an object of id, name"),
        ({"id": "", "nodes": [], "place": [0, 0]}, "expected texts"),
        ({"id": "p1", "nodes": [], "place": [0]}, r"place is \[0\]"),
        ({"id": "p1", "nodes": [], "place": [0, float("nan")]}, "place is"),
        ({"id": "p1", "nodes": "a", "place": [0, 0]}, "expected a list of node ids"),
        ({"id": "p1", "nodes": [], "place": [0, 0], "rejected": 1}, "true or false"),
    ],
)
def test_wrong_labels_of_parts_are_told(graph, entry, told):
    labels = {"format": "explgraph labels", "format_version": 1, "parts": [entry]}
    with pytest.raises(ExplgraphError, match=told):
        graph.apply_labels(labels)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r.append(dict(r[0])), "occurs twice"),
        (lambda r: r[0].update(name=3), "'name' is 3; expected str"),
        (lambda r: r[0].pop("slope"), "expected id, name"),
        (lambda r: r[0].update(slope=float("inf")), "finite number"),
        (lambda r: r.pop(0), "part is 'p1'"),
    ],
)
def test_wrong_records_are_told(graph, change, told):
    other = graph.restricted(graph.node_ids)
    other.nx.graph["parts"] = copy.deepcopy(graph.nx.graph["parts"])
    change(other.nx.graph["parts"])
    with pytest.raises(ExplgraphError, match=told):
        other.validate()


# --------------------------------------------------------------------------------- between parts


def test_the_graph_of_the_parts_is_that_of_their_nodes(graph):
    made = graph.part_graph()
    assert list(made) == ids(graph)
    fitted = Fitted.unpack(graph.fitted, graph.layers)
    poses = fitted.reader.exemplars
    expected = {index: layer.expected(poses) for index, layer in fitted.layers.items()}

    def middle(part):
        """Place of a part at every pose, by brute force."""
        values = [graph.nx.nodes[v] for v in graph.part(part).nodes]
        weight = np.array([a["reliability"] * a["part_weight"] for a in values])
        places = np.array(
            [expected[a["layer_index"]][:, a["filter"], a["pattern"]].numpy() for a in values]
        )
        return np.einsum("v,vni->ni", weight / weight.sum(), places)

    part_of = dict(graph.nx.nodes(data="part"))
    assert made.number_of_edges() > 3
    for upper, lower, values in made.edges(data=True):
        move = middle(lower) - middle(upper)
        np.testing.assert_allclose([values["dx"], values["dy"]], move.mean(0), atol=1e-3)
        rigid = np.sqrt(np.square(move - move.mean(0)).sum(-1).mean() / 2)
        assert values["sigma"] == pytest.approx(rigid, rel=1e-3)
        links = [{part_of[u], part_of[v]} for u, v in graph.nx.edges]
        assert values["links"] == links.count({upper, lower})
        assert -1 <= values["copresence"] <= 1
        assert "effect" not in values


def test_effects_between_parts_are_shares(graph):
    """Of an upper node's score what the lower part's nodes account for, mean over upper nodes."""
    other = graph.restricted(graph.node_ids)
    for number, (_, _, values) in enumerate(other.nx.edges(data=True)):
        values["effect"] = float(number)
    part_of = dict(other.nx.nodes(data="part"))
    for upper, lower, values in other.part_graph().edges(data=True):
        sums = [
            sum(a["effect"] for _, v, a in other.nx.out_edges(u, data=True) if part_of[v] == lower)
            for u in other.nx
            if part_of[u] == upper and any(part_of[v] == lower for v in other.nx.succ[u])
        ]
        assert values["effect"] == pytest.approx(np.mean(sums))


def test_names_that_others_have_are_refused(graph):
    for name in ("p2", "part 2"):
        with pytest.raises(ExplgraphError, match="choose another"):
            graph.name_part("p1", name)
    with pytest.raises(ExplgraphError, match="no part ''"):
        graph.part("")


def test_parts_take_turns(graph):
    layer = graph.layers[1].name
    nodes = graph.nodes_of(layer)
    turns = graph.turns(nodes)
    assert list(turns) == list(nodes)
    for part in graph.parts:
        mine = [node for node in part.nodes if node in turns]
        assert [turns[node] for node in mine] == list(range(len(mine)))
    most = max(turns[node] for node in nodes if graph.nx.nodes[node]["part"])
    assert {turns[v] for v in nodes if not graph.nx.nodes[v]["part"]} <= {most + 1}
    first = sorted(nodes, key=turns.__getitem__)[:8]
    assert len({graph.nx.nodes[v]["part"] for v in first}) == 8
    with pytest.raises(ExplgraphError, match="no node 'x'"):
        graph.turns(["x"])
