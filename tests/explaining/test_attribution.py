"""What is a node's own, and what it adds to a score, by sums written out in float64."""

import numpy as np
import pytest
import torch
from small_network import graph_of, network, pictures

from explgraph import ExplgraphError
from explgraph.explaining.attribution import REACH, Places, adds, layer_of
from explgraph.explaining.intervene import run


@pytest.fixture(scope="module")
def setting():
    model = network(positive=False)
    graph = graph_of(model)
    nodes = graph.nodes_of("lower")
    filters = [graph.nx.nodes[node]["filter"] for node in nodes]
    assert max(np.bincount(filters)) > 1  # so that there is something to share
    done = run(model, pictures(3, seed=5), graph.layers, gradients=True)
    places = Places(graph)
    return graph, nodes, np.array(filters), done, places, places.positions(done.maps)


def by_hand(setting, place, sharing):
    graph, nodes, filters, _, _, positions = setting
    layer = next(each for each in graph.layers if each.name == "lower")
    column = {node: v for v, node in enumerate(graph.node_ids)}
    sigma = np.array([graph.nx.nodes[node]["sigma"] for node in nodes])
    at = positions[:, [column[node] for node in nodes]].double().numpy()
    x = (layer.centres_x - at[..., :1]) / sigma[:, None]
    y = (layer.centres_y - at[..., 1:]) / sigma[:, None]
    square = y[..., :, None] ** 2 + x[..., None, :] ** 2
    weights = np.exp(-square / 2) if place == "gaussian" else (square <= REACH**2) * 1.0
    result = np.zeros_like(weights)
    for v, own in enumerate(filters):
        rivals = np.flatnonzero(filters == own)
        if sharing == "each":
            result[:, v] = weights[:, v]
        elif sharing == "split":
            result[:, v] = weights[:, v] / np.maximum(weights[:, rivals].sum(1), 1)
        else:
            mine = rivals[square[:, rivals].argmin(1)] == v
            result[:, v] = weights[:, v] * mine
    return result


@pytest.mark.parametrize("place", ["gaussian", "reach"])
@pytest.mark.parametrize("sharing", ["each", "split", "nearest"])
def test_places_and_sharing_are_as_written_out(setting, place, sharing):
    _, nodes, filters, done, places, positions = setting
    own = places.own(nodes, done.maps["lower"], positions, place=place, sharing=sharing)
    weights = by_hand(setting, place, sharing)
    maps = np.maximum(done.maps["lower"].detach().double().numpy(), 0)[:, filters]
    np.testing.assert_allclose(own.units.detach(), maps * weights, rtol=1e-3, atol=1e-5)
    slope = torch.autograd.grad(done.scores[:, 1].sum(), done.maps["lower"], retain_graph=True)[0]
    added = (slope.double().numpy()[:, filters] * maps * weights).sum((2, 3))
    found = adds(done.scores[:, 1], done.maps, {"lower": own})["lower"]
    np.testing.assert_allclose(found, added, rtol=1e-3, atol=1e-5)


def test_what_is_shared_is_there_once(setting):
    _, nodes, filters, done, places, positions = setting
    for sharing in ("split", "nearest"):
        for place in ("gaussian", "reach"):
            weights = places.weights(
                nodes, positions, done.maps["lower"], place=place, sharing=sharing
            )
            for number in set(filters.tolist()):
                assert weights[:, filters == number].sum(1).max() <= 1 + 1e-6


def test_nodes_in_one_place_are_not_counted_twice(setting):
    _, nodes, filters, done, places, positions = setting
    number = np.bincount(filters).argmax()
    same = [node for node, own in zip(nodes, filters, strict=True) if own == number]
    middle = torch.full_like(positions, 15.5)  # all are equally far where sigmas are equal
    like = done.maps["lower"]
    weights = places.weights(same, middle, like, place="reach", sharing="nearest")
    alone = places.weights(same, middle, like, place="reach").amax(1)
    torch.testing.assert_close(weights.sum(1), alone)


def test_the_highest_layer_with_nodes_is_chosen(setting):
    graph = setting[0]
    assert layer_of(graph, None) == "upper"
    assert layer_of(graph.subgraph(["lower"]), None) == "lower"
    with pytest.raises(ExplgraphError, match="no nodes in layer 'upper'"):
        layer_of(graph.subgraph(["lower"]), "upper")
