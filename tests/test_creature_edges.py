"""What the benchmark of edges counts, against hand-made graphs."""

from typing import NamedTuple

import networkx
import numpy as np
import pytest

from benchmarks.creature_edges import exchanged_figures, in_graph, share_together, touching
from explgraph.creatures import RELATIONS, draw
from explgraph.landmarks import from_creatures


class Graph(NamedTuple):
    """As much of a graph as is looked at."""

    nx: networkx.DiGraph


def graph():
    """Nodes a, b below c, d, e; the filters of b, d are odd."""
    nx = networkx.DiGraph()
    for node, layer, number in (("a", 0, 0), ("b", 0, 1), ("c", 1, 0), ("d", 1, 1), ("e", 1, 2)):
        nx.add_node(node, layer_index=layer, filter=number)
    for parent, child, consistency in (("c", "a", 0.5), ("d", "a", 0.75), ("e", "b", 0.25)):
        nx.add_edge(parent, child, consistency=consistency)
    return Graph(nx)


def test_which_parts_touch():
    parts = from_creatures(draw(60, seed=0)).parts
    attached = touching(parts, 0)
    assert attached == {frozenset(p) for p in RELATIONS.items()} | {frozenset((p,)) for p in parts}
    near = touching(parts, 14)
    assert near > attached
    on_head = {"eye", "snout", "ear", "horn"}
    assert all(pair <= on_head for pair in near - attached)
    assert {frozenset(p) for p in (("eye", "horn"), ("eye", "snout"), ("ear", "horn"))} <= near
    assert frozenset(("snout", "horn")) not in near
    assert frozenset(("rump", "chest")) not in near


def test_share_of_edges_that_join_what_belongs_together():
    layer = np.array([0, 0, 1, 1, 1, 1])
    part = ["eye", None, "eye", "head", "rump", None]
    together = {frozenset(("eye",)), frozenset(("eye", "head"))}
    pairs = np.array([(0, 2), (0, 4), (0, 5), (1, 2)])
    # of the two edges between nodes of parts one; of three nodes above two would do
    assert share_together(pairs, part, layer, together) == pytest.approx((1 / 2, 2 / 3))
    assert np.isnan(share_together(pairs[2:], part, layer, together)).all()


def test_edges_of_exchanged_filters():
    pairs, consistency = in_graph(graph())
    assert sorted(zip(pairs.tolist(), consistency, strict=True)) == [
        ([0, 2], 0.5), ([0, 3], 0.75), ([1, 4], 0.25)
    ]  # fmt: skip
    told = exchanged_figures(graph(), pairs)
    assert told["exchanged"] == pytest.approx(2 / 3)
    assert told["exchanged, nodes"] == pytest.approx(2 / 5)
    assert told["exchanged, pairs"] == pytest.approx(4 / 6)  # all of b's, and a's with d
    assert exchanged_figures(graph(), pairs[:0])["exchanged"] == 0
