"""Rationales against the formula, by hand on a small network."""

import numpy as np
import pytest
import torch
from small_network import graph_of, network, own_places, pictures

from explgraph import ExplgraphError
from explgraph.answers.rationales import rationales


@pytest.fixture(scope="module")
def model_and_graph():
    model = network(positive=False)
    return model, graph_of(model)


@pytest.mark.parametrize("layer", ["lower", "upper"])
def test_contributions_are_slope_times_activation_in_the_places_in_float64(model_and_graph, layer):
    model, graph = model_and_graph
    images = pictures(3, seed=4)
    found = rationales(model, graph, images, 2, layer=layer, batch_size=2)
    all_places = own_places(graph, model, images)
    exact = network(positive=False).double()

    def score(maps):
        return exact.tail(maps)[1] if layer == "lower" else exact.head(maps.relu().mean((2, 3)))

    assert found.nodes == graph.nodes_of(layer)
    for i, image in enumerate(images.double()):
        with torch.no_grad():
            lower = exact.lower(image[None])
            maps = lower if layer == "lower" else exact.upper(lower.relu())
            scores, without = score(maps)[0], score(maps.clamp(max=0))[0, 2].item()
        maps.requires_grad_()
        (slope,) = torch.autograd.grad(score(maps)[:, 2].sum(), maps)
        units = (slope[0] * maps[0].relu()).detach()
        assert found.scores[i] == pytest.approx(scores[2].item(), abs=1e-5)
        assert found.first[i] == (scores.argmax().item() == 2)
        places = all_places[i]
        for k, node in enumerate(found.nodes):
            c = graph.nx.nodes[node]["filter"]
            mine = (maps[0, c].detach().relu() * places[node]).sum().item()
            assert found.activations[i, k] == pytest.approx(mine, rel=1e-3, abs=1e-6)
            part = (units[c] * places[node]).sum().item()
            assert found.contributions[i, k] == pytest.approx(part, rel=1e-3, abs=1e-5)
        assert found.rests.without[i] == pytest.approx(without, abs=1e-5)
        missed = scores[2].item() - without - units.sum().item()
        assert found.rests.residual[i] == pytest.approx(missed, abs=1e-5)
        assert layer == "lower" or abs(missed) < 1e-9
    np.testing.assert_allclose(found.contributions.sum(1) + found.rest, found.scores)
    np.testing.assert_allclose(found.rests.total, found.rest, atol=1e-5)
    assert not found.rests.no_part.any()


def test_a_sentence_says_what_the_mean_score_is_made_of(model_and_graph):
    model, graph = model_and_graph
    found = rationales(model, graph, pictures(4, seed=4), 2, layer="lower")
    told = found.adds_up
    without, _, no_node, residual = (values.mean() for values in found.rests)
    assert f"The mean score, {found.scores.mean():.3g}, is nodes " in told
    assert f"nodes {found.contributions.sum(1).mean():+.3g}, what no node " in told
    assert f"answers for {no_node:+.3g}, and {without:.3g} without" in told
    assert (
        f"miss it by {abs(residual):.2g}, and by {abs(found.rests.residual).max():.2g} in" in told
    )
    assert "nodes of no part " in found.by_part(graph).adds_up


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
