"""Creatures and a graph of their network, for what is made of it."""

import pytest

from explgraph import creatures, mine


@pytest.fixture(scope="package")
def creature_net():
    return creatures.network()


@pytest.fixture(scope="package")
def drawn():
    return creatures.draw(60, seed=1)


@pytest.fixture(scope="package")
def graph_of_creatures(creature_net, drawn):
    """Of the two lower layers, which take half the time."""
    return mine(creature_net, drawn.tensor(), ["stage3", "stage2"], seed=0)


@pytest.fixture(scope="package")
def parse_of_creatures(creature_net, drawn, graph_of_creatures):
    return graph_of_creatures.parse(creature_net, drawn.tensor())
