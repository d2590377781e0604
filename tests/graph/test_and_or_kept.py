"""An And-Or graph kept with its graph: files, damage, and what is left when nodes go."""

import copy

import damaged
import pytest
from grown import grown
from random_graphs import HOSTILE, random_graph

import explgraph
from explgraph import AndOrGraph, ExplgraphError
from explgraph.graph.and_or import AndOr


@pytest.fixture
def graph():
    graph = random_graph(0, nodes=8)
    graph.grown = grown(graph, ("head", *HOSTILE), templates=(2, 1, 3))
    graph.validate()
    return graph


def test_it_goes_to_a_file_and_back(graph, tmp_path):
    graph.save(tmp_path / "x.explgraph")
    again = explgraph.load(tmp_path / "x.explgraph")
    assert again == graph
    assert again.grown == graph.grown
    assert again.and_or.graph is again
    assert dict(again.and_or.nx.edges) == dict(graph.and_or.nx.edges)
    assert repr(again).splitlines()[-1].startswith("located: head, it's a")
    first = (tmp_path / "x.explgraph").read_bytes()
    again.save(tmp_path / "x.explgraph")
    assert (tmp_path / "x.explgraph").read_bytes() == first


def test_files_without_are_read(graph, tmp_path):
    bare = graph.with_and_or(None)
    bare.save(tmp_path / "x.explgraph")
    again = explgraph.load(tmp_path / "x.explgraph")
    assert again.and_or is None
    assert again == bare
    assert again != graph
    assert graph.and_or is not None


def test_other_programs_files_are_the_same(graph, tmp_path):
    for one, name in ((graph, "a"), (graph.with_and_or(None), "b")):
        one.write(tmp_path / f"{name}.graphml")
    assert (tmp_path / "a.graphml").read_bytes() == (tmp_path / "b.graphml").read_bytes()


def test_nodes_that_go_take_their_votes_with_them(graph):
    keep = set(graph.node_ids[::2])
    before = graph.grown
    left = graph.restricted(keep).grown
    assert {part.name for part in left.parts} == {part.name for part in before.parts}
    for one, other in zip(left.parts, before.parts, strict=True):
        assert one.marks == other.marks
        for some, all_ in zip(one.templates, other.templates, strict=True):
            assert some.voters == tuple(v for v in all_.voters if v.node in keep)
            assert some.share == all_.share
    alone = before.parts[0].templates[1].voters[0].node
    one = graph.restricted([alone])
    assert all(len(t.voters) == 1 for part in one.grown.parts for t in part.templates)
    assert set(one.and_or.nx.nodes) >= {alone, "head (part)"}
    # nothing of it is left, in a graph of the nodes that don't vote
    small = AndOr(before.images, before.parts[:1])
    graph.grown = small
    others = [v for v in graph.node_ids if v not in small.nodes]
    assert graph.restricted(others).and_or is None
    # rejected nodes are gone, too
    rejected = small.nodes[0]
    labels = {"format": "explgraph labels", "format_version": 1, "rejected": [rejected]}
    assert rejected not in graph.apply_labels(labels).grown.nodes
    assert graph.prune(top=5).grown is None or len(graph.prune(top=5).grown.nodes) <= 5


def test_with_and_or(graph):
    bare = graph.with_and_or(None)
    again = bare.with_and_or(graph.and_or)
    assert again == graph
    assert bare.grown is None
    some = bare.restricted(graph.node_ids[:9]).with_and_or(graph.and_or)
    assert set(some.grown.nodes) == set(graph.grown.nodes) & set(graph.node_ids[:9])
    with pytest.raises(ExplgraphError, match="must be an AndOrGraph, got dict; give"):
        bare.with_and_or({})
    other = random_graph(1, layers=("other",), nodes=20)
    with pytest.raises(ExplgraphError, match="this graph has none of them, or is of other images"):
        other.with_and_or(graph.and_or)
    large = random_graph(0, nodes=8, image_size=(300, 300))
    with pytest.raises(ExplgraphError, match="this graph has none of them, or is of other images"):
        large.with_and_or(graph.and_or)
    with pytest.raises(ExplgraphError, match="votes twice, or is none of the graph's"):
        AndOrGraph(other, graph.grown)


def part(content):
    return content["and_or"]["parts"][0]


def voter(content):
    return part(content)["templates"][0]["voters"][0]


WRONG = [
    (lambda c: c.update(and_or=None), "TypeError"),
    (lambda c: c.update(and_or=[]), "TypeError"),
    (lambda c: c["and_or"].pop("images"), "KeyError: 'images'"),
    (lambda c: c["and_or"].update(images=0), "images is 0; expected 1 or more"),
    (lambda c: c["and_or"].update(images=True), "images is True"),
    (lambda c: c["and_or"].update(parts=[]), "the And-Or graph has no part"),
    (lambda c: c["and_or"].update(parts={"a": 1}), "TypeError"),
    (lambda c: part(c).update(name=3), "part 3 has no name of its own"),
    (lambda c: part(c).update(name=["a"]), r"part \['a'\] has no name of its own"),
    (lambda c: part(c).update(name=HOSTILE[0]), "has no name of its own"),
    (lambda c: part(c).update(name="a\x07"), r"holds the character U\+0007"),
    (lambda c: part(c).update(radius=-1.0), "part 'head': radius is -1.0; expected a float from 0"),
    (lambda c: part(c).update(radius=3), "radius is 3; expected a float"),
    (lambda c: part(c).update(radius=float("nan")), "radius is nan"),
    (lambda c: part(c).update(presence="half"), "presence is 'half'; expected .* 0 to 1 or None"),
    (lambda c: part(c).update(templates=[]), "part 'head' has no template"),
    (lambda c: part(c)["templates"][0].update(share=1.5), "template 1: share is 1.5; expected"),
    (lambda c: part(c)["templates"][1].update(voters=[]), "template 2 has no shot or no voter"),
    (lambda c: part(c)["templates"][1].update(shots=[]), "template 2 has no shot or no voter"),
    (lambda c: part(c)["templates"][0].update(shots=["a.png"]), "TypeError"),
    (lambda c: part(c)["templates"][0]["shots"][0].update(image=7), "a shot's image is 7"),
    (
        lambda c: part(c)["templates"][0]["shots"][0].update(x=1e9),
        "shot 'a.png': x is 1000000000",
    ),
    (lambda c: part(c)["templates"][0]["shots"][0].update(error=-1.0), "error is -1.0"),
    (lambda c: voter(c).update(node="features.28/9/9"), "votes twice, or is none of the graph's"),
    (lambda c: voter(c).update(node=["x"]), "votes twice, or is none of the graph's"),
    (lambda c: voter(c).update(dx=None), "dx is None; expected a float"),
    (lambda c: voter(c).update(spread=0.0), "spread is 0.0"),
    (lambda c: voter(c).update(share=-0.1), "share is -0.1"),
    (lambda c: voter(c).update(agreement=2.0), "agreement is 2.0; expected .* 0 to 1 or None"),
    (lambda c: voter(c).update(colour="red"), "TypeError: .*unexpected .*'colour'"),
    (lambda c: voter(c).pop("dy"), "TypeError: .*missing 1 required .*'dy'"),
    (lambda c: part(c)["templates"][0]["voters"].append(voter(c)), "votes twice"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_damaged_values_are_told(graph, change, message, tmp_path):
    graph.save(tmp_path / "x.explgraph")
    damaged.edited(tmp_path / "x.explgraph", lambda content, _: change(content))
    with pytest.raises(ExplgraphError, match=f"holds no valid graph: .*{message}"):
        explgraph.load(tmp_path / "x.explgraph")


def test_a_graph_is_checked_before_it_is_written(graph, tmp_path):
    wrong = copy.deepcopy(graph.grown.as_dict())
    wrong["parts"][0]["radius"] = float("inf")
    graph.grown = AndOr.from_dict(wrong)
    with pytest.raises(ExplgraphError, match="radius is inf"):
        graph.save(tmp_path / "x.explgraph")
    assert not list(tmp_path.iterdir())


def test_the_bytes_of_a_file_may_go_wrong(graph, tmp_path):
    graph.save(tmp_path / "x.explgraph")
    damaged.refused_or_the_same(
        tmp_path / "x.explgraph", explgraph.load, lambda found: found == graph, flips=40
    )
