"""Rationales against the formula, by hand on a small network."""

import numpy as np
import pytest
import torch
from small_network import graph_of, network, pictures, place

from explgraph import ExplgraphError
from explgraph.answers.rationales import rationales


@pytest.fixture(scope="module")
def model_and_graph():
    model = network(positive=False)
    return model, graph_of(model)


@pytest.mark.parametrize("layer", ["lower", "upper"])
def test_contributions_are_gradient_times_activation_in_the_places(model_and_graph, layer):
    model, graph = model_and_graph
    images = pictures(3, seed=4)
    found = rationales(model, graph, images, 2, layer=layer, batch_size=2)
    positions = graph.parse(model, images).positions
    column = {node: k for k, node in enumerate(graph.node_ids)}
    exact = network(positive=False).double()
    assert found.nodes == graph.nodes_of(layer)
    for i, image in enumerate(images.double()):
        lower = exact.lower(image[None]).detach().requires_grad_()
        upper, scores = exact.tail(lower)
        maps = {"lower": lower, "upper": upper}[layer]
        (gradient,) = torch.autograd.grad(scores[0, 2], maps)
        assert found.scores[i] == pytest.approx(scores[0, 2].item(), abs=1e-5)
        assert found.first[i] == (scores[0].argmax().item() == 2)
        shares = {v: place(graph, v, positions[i, column[v]]) for v in found.nodes}
        for k, node in enumerate(found.nodes):
            c = graph.nx.nodes[node]["filter"]
            crowd = sum(w for v, w in shares.items() if graph.nx.nodes[v]["filter"] == c)
            mine = maps[0, c].relu() * shares[node] / crowd.clamp(min=1)
            assert found.activations[i, k] == pytest.approx(mine.sum().item(), rel=1e-3, abs=1e-6)
            part = (mine * gradient[0, c]).sum().item()
            assert found.contributions[i, k] == pytest.approx(part, rel=1e-3, abs=1e-5)
    np.testing.assert_allclose(found.contributions.sum(1) + found.rest, found.scores)


def test_the_top_layer_is_the_default(model_and_graph):
    model, graph = model_and_graph
    assert rationales(model, graph, pictures(2), 0).nodes == graph.nodes_of("upper")
    low = graph.subgraph(["lower"])
    assert rationales(model, low, pictures(2), 0).nodes == graph.nodes_of("lower")


def test_some_images_can_be_taken(model_and_graph):
    model, graph = model_and_graph
    found = rationales(model, graph, pictures(4), 0)
    some = found.take(np.array([True, False, False, True]))
    assert some.names == (found.names[0], found.names[3])
    np.testing.assert_array_equal(some.contributions, found.contributions[[0, 3]])


def test_wrong_inputs_are_told(model_and_graph):
    model, graph = model_and_graph
    with pytest.raises(ExplgraphError, match=r"target is class 3, .* 3 classes, 0 to 2"):
        rationales(model, graph, pictures(2), 3)
    with pytest.raises(ExplgraphError, match="no layer 'middle'"):
        rationales(model, graph, pictures(2), 0, layer="middle")
    with pytest.raises(ExplgraphError, match="no nodes in layer 'upper'"):
        rationales(model, graph.subgraph(["lower"]), pictures(2), 0, layer="upper")
    with pytest.raises(ExplgraphError, match="has no nodes"):
        rationales(model, graph.prune(top=0), pictures(2), 0)
    with pytest.raises(ExplgraphError, match="weights are not those"):
        rationales(network(), graph, pictures(2), 0)
