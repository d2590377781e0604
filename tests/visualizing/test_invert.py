"""Inversions: the graph finds its nodes in them."""

import numpy as np
import pytest
import torch

from explgraph import creatures
from explgraph.errors import ExplgraphError
from explgraph.parsed import Parse
from explgraph.visualizing.invert import found_again, invert


@pytest.fixture(scope="module")
def new():
    return creatures.draw(2, seed=7).tensor()


def test_most_nodes_are_found_again_at_their_places(creature_net, graph_of_creatures, new):
    made = invert(creature_net, graph_of_creatures, new, steps=60)
    assert made.images.shape == (2, 3, 112, 112)
    assert made.images.dtype == np.float32
    # what the images show is asked of the graph once more
    parse = graph_of_creatures.parse(creature_net, torch.from_numpy(made.images))
    np.testing.assert_array_equal(parse.positions, made.after.positions)
    np.testing.assert_array_equal(parse.scores, made.after.scores)
    # beside what another creature has in common with it
    other = graph_of_creatures.parse(creature_net, new.flip(0))
    chance = found_again(made.before, other)
    assert made.again.min() > 0.75
    assert made.again.min() > chance.max() + 0.3
    # and it isn't the image itself
    assert (
        np.abs(made.images - new.numpy()).mean((1, 2, 3)) > 0.3 * new.std((1, 2, 3)).numpy()
    ).all()
    again = invert(creature_net, graph_of_creatures, new, steps=2)
    same = invert(creature_net, graph_of_creatures, new, steps=2)
    assert again.images.tobytes() == same.images.tobytes()


def test_nodes_found_again_are_counted_by_score_and_place():
    before = Parse(
        ("a", "b", "c", "d"), ("0", "1"), np.zeros((2, 4, 2), np.float32),
        np.zeros((2, 4, 2), np.float32),
        np.array([[0.9, 0.9, 0.9, 0.1], [0, 0, 0, 0]], np.float32), (30, 40),
    )  # fmt: skip
    places = np.zeros((2, 4, 2), np.float32)
    places[0, 1] = [2.0, 1.6]  # 2.56 px away: more than 5 % of 50 px
    places[0, 2] = [1.5, 1.9]  # 2.42 px
    after = Parse(
        before.nodes, before.names, places, before.expected,
        np.array([[0.6, 0.9, 0.5, 0.9], [1, 1, 1, 1]], np.float32), (30, 40),
    )  # fmt: skip
    found = found_again(before, after)
    assert found[0] == pytest.approx(2 / 3)
    assert np.isnan(found[1])


def test_what_cant_be_is_refused(creature_net, graph_of_creatures, new):
    with pytest.raises(ExplgraphError, match="steps"):
        invert(creature_net, graph_of_creatures, new, steps=0)
    with pytest.raises(ExplgraphError, match="expected 112 x 112"):
        invert(creature_net, graph_of_creatures, new[..., :64])
    with pytest.raises(ExplgraphError, match="has no nodes"):
        invert(creature_net, graph_of_creatures.restricted([]), new)
