"""Where parts are in images: pooled from nodes, against brute force and planted creatures."""

import dataclasses

import numpy as np
import pytest

import explgraph
from explgraph import creatures
from explgraph.errors import ExplgraphError
from explgraph.evaluation.landmarks import from_creatures
from explgraph.evaluation.metrics import node_tracking

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def graph():
    images = creatures.draw(120, seed=0).tensor()
    return explgraph.mine(creatures.network(), images, creatures.LAYERS)


@pytest.fixture(scope="module")
def new():
    return creatures.draw(100, seed=1)


@pytest.fixture(scope="module")
def parse(graph, new):
    return graph.parse(creatures.network(), new.tensor())


def test_places_are_pooled_as_the_formula_says(graph, parse):
    parts = parse.parts
    assert parts.parts == tuple(part.id for part in graph.parts)
    index = {node: v for v, node in enumerate(parse.nodes)}
    for k, part in enumerate(graph.parts):
        record = graph.nx.graph["parts"][k]
        for n in (0, 17):
            top, bottom, usual, exact, score, said = np.zeros(2), 0.0, np.zeros(2), 0.0, 0.0, 0.0
            for node in part.nodes:
                a, v = graph.nx.nodes[node], index[node]
                weight = a["reliability"] * a["part_weight"]
                w = weight / a["sigma"] ** 2
                move = np.subtract(parse.positions[n, v], parse.expected[n, v], dtype=np.float64)
                top += w * parse.scores[n, v] * move
                bottom += w * parse.scores[n, v]
                usual += w * parse.expected[n, v]
                exact += w
                score += weight * parse.scores[n, v]
                said += weight
            place = usual / exact + top / max(bottom, 1e-12)
            np.testing.assert_allclose(parts.positions[n, k], place, atol=1e-3)
            odds = record["offset"] + record["slope"] * score / said
            assert parts.presence[n, k] == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-4)


def test_some_part_follows_the_head(parse, new):
    """On images that were not mined, better than the mean of the nodes' own errors."""
    marks = from_creatures(new)
    marks = getattr(marks, "parts", marks)
    for name in ("head", "eye"):
        follows = node_tracking(parse.parts.positions, np.asarray(marks[name], dtype=np.float64))
        assert np.nanmax(follows) > 0.8


def test_a_part_said_to_be_present_is_there(parse, new):
    """Of the presences of 0.9 that are said of followed parts about nine in ten hold."""
    marks = from_creatures(new)
    right = said = 0
    for place in map(np.asarray, getattr(marks, "parts", marks).values()):
        follows = np.nan_to_num(node_tracking(parse.parts.positions, place.astype(np.float64)))
        if follows.max() >= 0.8:
            sure = parse.parts.presence[:, follows.argmax()] >= 0.9
            said += sure.sum()
            right += np.isfinite(place[sure, 0]).sum()
    assert said > 50
    assert right >= 0.85 * said


def test_absent_nodes_leave_the_part_where_the_pose_puts_it(graph, parse):
    silent = dataclasses.replace(parse, scores=np.zeros_like(parse.scores))
    parts = graph.parts_in(silent)
    assert np.isfinite(parts.positions).all()
    moved = dataclasses.replace(silent, positions=parse.positions + 50)
    np.testing.assert_allclose(graph.parts_in(moved).positions, parts.positions)
    assert (parts.presence <= parse.parts.presence + 1e-6).all()


def test_named_parts_and_files(graph, parse, tmp_path):
    named = graph.name_part("p1", "head")
    assert named.parts_in(parse).titles[0] == "head"
    parts = parse.parts
    frame = parts.to_frame()
    assert list(frame.columns) == ["image", "part", "x", "y", "presence", "radius"]
    assert len(frame) == len(parts.names) * len(parts.parts)
    parts.write(tmp_path / "parts.csv")
    lines = (tmp_path / "parts.csv").read_text("utf-8").splitlines()
    assert lines[0] == "image,part,x,y,presence,radius"
    assert len(lines) == 1 + len(frame)
    assert "100 images" in repr(parts)
    with pytest.raises(ExplgraphError, match="photographs' sizes"):
        parts.to_original()


def test_parses_from_files_need_the_graph(graph, parse, tmp_path):
    parse.write(tmp_path / "parse.npz")
    read = explgraph.Parse.read(tmp_path / "parse.npz")
    with pytest.raises(ExplgraphError, match=r"graph\.parts_in"):
        _ = read.parts
    np.testing.assert_array_equal(graph.parts_in(read).positions, parse.parts.positions)
    with pytest.raises(ExplgraphError, match="graph that was parsed"):
        graph.prune(top=3).parts_in(read)


def test_a_graph_without_parts(graph, parse):
    nothing = graph
    for part in graph.parts:
        nothing = nothing.reject_part(part.id)
    assert nothing.parts_in(parse).positions.shape == (100, 0, 2)
