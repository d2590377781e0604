"""Decisions on nodes: names, merged and rejected ones."""

from __future__ import annotations

import copy
import json

import pytest
from random_graphs import HOSTILE, random_graph

from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.graph.labels import read_labels

HEAD = {"format": "explgraph labels", "format_version": 1}


@pytest.fixture
def graph():
    return random_graph(5, nodes=4)


def test_names_are_given_and_taken_away(graph):
    a, b, c, *_ = graph.node_ids
    graph.nx.nodes[b]["label"] = "old"
    graph.nx.nodes[c]["label"] = "kept"
    before = copy.deepcopy(graph)
    named = graph.apply_labels(HEAD | {"labels": {a: "beak", b: ""}})
    assert [named.nx.nodes[v]["label"] for v in (a, b, c)] == ["beak", "", "kept"]
    assert graph == before  # the graph itself stays as it is
    assert named.fitted.keys() == graph.fitted.keys()
    for v in graph.node_ids:
        assert named.nx.nodes[v] | {"label": ""} == graph.nx.nodes[v] | {"label": ""}
    assert set(named.nx.edges) == set(graph.nx.edges)


def test_merged_nodes_share_the_only_name_among_them(graph):
    a, b, c, d, e, f, *_ = graph.node_ids
    named = graph.apply_labels(
        HEAD | {"labels": {b: "eye"}, "merged": [[a, b, c], [e, d]], "rejected": [f]}
    )
    label = named.nx.nodes(data="label")
    assert {label[v] for v in (a, b, c)} == {"eye"}
    assert {label[v] for v in (d, e)} == {e}
    assert len(named) == len(graph) - 1  # merged nodes stay nodes of their own


def test_rejected_nodes_go_with_their_edges(graph):
    gone = graph.node_ids[5]
    left = graph.apply_labels(HEAD | {"rejected": [gone]})
    assert left.node_ids == tuple(v for v in graph.node_ids if v != gone)
    assert set(left.nx.edges) == {edge for edge in graph.nx.edges if gone not in edge}
    assert gone not in left.top_images
    left.validate()


def test_a_file_and_its_content_are_the_same(graph, tmp_path):
    content = HEAD | {"labels": dict(zip(graph.node_ids, HOSTILE, strict=False))}
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    assert graph.apply_labels(path) == graph.apply_labels(content)
    assert graph.apply_labels(str(path)).nx.nodes[graph.node_ids[1]]["label"] == HOSTILE[1]
    assert graph.apply_labels(HEAD) == graph


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "labels"}, "holds no labels; expected an object whose 'format' is"),
        ({"format_version": 2}, "format_version is 2; this explgraph reads 1"),
        ({"format_version": True}, "format_version is True"),
        ({"lables": {}}, "unknown key 'lables'; did you mean 'labels'"),
        ({"labels": [1]}, "labels must map node ids to names"),
        ({"labels": {"a": 3}}, "labels must map node ids to names"),
        ({"merged": {"a": "b"}}, "merged is .* expected a list of groups"),
        ({"merged": [["a"]]}, "merged, group 0, has one node"),
        ({"merged": ["ab"]}, "merged, group 0, is 'ab'; expected a list of node ids"),
        ({"merged": [["a", "b"], ["c", "a"]]}, "merged names 'a' twice"),
        ({"rejected": "a"}, "rejected is 'a'; expected a list of node ids"),
        ({"rejected": [1]}, r"rejected is \[1\]; expected"),
        ({"model_fingerprint": 3}, "model_fingerprint is 3; expected a str"),
    ],
)
def test_faults_are_named(change, message):
    with pytest.raises(ExplgraphError, match=message):
        read_labels(HEAD | change)


def test_files_that_can_not_be_read(tmp_path):
    with pytest.raises(ExplgraphError, match="there is no file"):
        read_labels(tmp_path / "none.json")
    with pytest.raises(ExplgraphError, match="can't read"):
        read_labels(tmp_path)
    (tmp_path / "bad.json").write_text("{,")
    with pytest.raises(ExplgraphError, match=r"bad.json' is no JSON: "):
        read_labels(tmp_path / "bad.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ExplgraphError, match="holds no labels"):
        read_labels(tmp_path / "list.json")


def test_other_graphs_labels_are_refused(graph):
    a, b, *_ = graph.node_ids
    for key, value in (("labels", {a + "9": "x"}), ("merged", [[a, "z"]]), ("rejected", ["z"])):
        with pytest.raises(ExplgraphError, match=f"{key} names .*, which the graph lacks"):
            graph.apply_labels(HEAD | {key: value})
    with pytest.raises(ExplgraphError, match="have the names 'x', 'y'; give them one"):
        graph.apply_labels(HEAD | {"labels": {a: "x", b: "y"}, "merged": [[a, b]]})
    with pytest.raises(ExplgraphError, match=r"U\+0000"):
        graph.apply_labels(HEAD | {"labels": {a: "\0"}})


def test_another_models_labels_warn(graph):
    with pytest.warns(ExplgraphWarning, match="of another model"):
        graph.apply_labels(HEAD | {"model_fingerprint": "ffff"})
    graph.apply_labels(HEAD | {"model_fingerprint": "0123abcd"})
