"""Masks: what they say of networks in which it is known what every pixel adds."""

import numpy as np
import pytest
import small_network
import torch
from torch import nn

from explgraph import creatures
from explgraph.errors import ExplgraphError
from explgraph.views.visualized import sightings
from explgraph.visualizing.masks import Masks, blurred, integrated, masks, soft
from explgraph.visualizing.responses import Responses, asked


@pytest.fixture(scope="module")
def model():
    return small_network.network(positive=True)


@pytest.fixture(scope="module")
def graph(model):
    return small_network.graph_of(model)


@pytest.fixture(scope="module")
def images():
    return small_network.pictures(4, seed=2)


@pytest.fixture(scope="module")
def parse(model, graph, images):
    return graph.parse(model, images)


def by_pixel(model, graph, node, place):
    """Gradient of a node's response, pixel by pixel, in float64 through the network's own layers.

    The network is linear on positive images, so that it is the same for all of them.
    """
    image = torch.full((1, 3, small_network.SIZE, small_network.SIZE), 0.5, dtype=torch.float64)
    image.requires_grad_()
    maps = model.double().lower(image)
    if graph.nx.nodes[node]["layer"] == "upper":
        maps = model.upper(maps)
    values = graph.nx.nodes[node]
    scale = graph.fitted[f"layer/{values['layer_index']}/scale"][values["filter"]]
    weight = small_network.place(graph, node, place)
    response = (maps[0, values["filter"]] * weight).sum() / float(scale)
    (gradient,) = torch.autograd.grad(response, image)
    model.float()
    return gradient[0]


@pytest.mark.parametrize("layer", ["lower", "upper"])
def test_pixels_add_what_they_add_in_a_linear_network(model, graph, images, parse, layer):
    node = graph.nodes_of(layer)[0]
    places = torch.from_numpy(parse.positions[:, [parse.nodes.index(node)]])
    responses = Responses(model, graph, [node])
    added, strength = integrated(responses, asked(graph, node), images, places)
    plain = blurred(images, 0.09 * small_network.SIZE).double()
    for i in range(len(images)):
        gradient = by_pixel(model, graph, node, places[i, 0])
        expected = ((images[i].double() - plain[i]) * gradient).sum(0)
        torch.testing.assert_close(added[i].double(), expected, rtol=1e-3, atol=1e-5)
    # they sum up to what the response gains by the image's detail
    with torch.no_grad():
        less = responses(plain.float(), places)[:, 0]
    torch.testing.assert_close(added.sum((1, 2)), strength - less, rtol=1e-3, atol=1e-3)


def test_masks_are_these_pixels_blurred(model, graph, images, parse):
    node = graph.nodes_of("upper")[0]
    found = masks(model, graph, images, parse, node)
    assert found.heat.shape == (4, 32, 32)
    assert found.heat.dtype == np.float32
    assert found.names == parse.names
    places = torch.from_numpy(parse.positions[:, [parse.nodes.index(node)]])
    added, strength = integrated(
        Responses(model, graph, [node]), asked(graph, node), images, places
    )
    # the stride of "upper" is 4 px
    np.testing.assert_allclose(found.heat, soft(added, 1.0), atol=1e-5)
    np.testing.assert_allclose(found.response, strength, rtol=1e-5)
    # whatever the batches, and twice the same
    again = masks(model, graph, images, parse, node, batch_size=3)
    np.testing.assert_allclose(again.heat, found.heat, atol=1e-5)
    assert masks(model, graph, images, parse, node).heat.tobytes() == found.heat.tobytes()


def test_a_mask_is_within_the_receptive_field(model, graph, images, parse):
    node = graph.nodes_of("lower")[0]
    values = graph.nx.nodes[node]
    layer = graph.layers[values["layer_index"]]
    places = parse.positions[:, [parse.nodes.index(node)]]
    added, _ = integrated(
        Responses(model, graph, [node]), asked(graph, node), images, torch.from_numpy(places)
    )
    reach = 4.5 * values["sigma"] + layer.receptive_field[0] / 2 + layer.stride[0]
    side = np.arange(small_network.SIZE) + 0.5
    for i in range(len(images)):
        far = np.abs(side - places[i, 0, 0]) > reach
        assert np.abs(added[i].numpy()[:, far]).max(initial=0) < 1e-3 * added[i].abs().max()


def test_the_outline_holds_its_share():
    heat = np.zeros((2, 2, 3), np.float32)
    heat[0] = [[1, 0.5, 0.25], [0.25, 0, 0]]
    found = Masks("node", ("a", "b"), heat, np.ones(2, np.float32))
    assert found.inside(0.5).sum((1, 2)).tolist() == [1, 0]
    assert found.inside(0.7).sum((1, 2)).tolist() == [2, 0]
    assert found.levels(0.7).tolist() == [0.5, 0]
    # the last pixel by itself holds 0.05 / 0.95 of the heat inside
    specks = np.array([[[0.9, 0, 0.05, 0], [0, 0, 0, 0.04]]], np.float32)
    assert Masks("node", ("a",), specks, np.ones(1, np.float32)).inside(0.95).sum() == 1
    with pytest.raises(ExplgraphError, match="share is 1"):
        found.inside(1)


def test_blurring_keeps_what_is_even_and_spreads_a_point_by_its_sigma():
    assert torch.allclose(blurred(torch.full((1, 2, 20, 20), 0.7), 2.0), torch.tensor(0.7))
    point = torch.zeros(1, 1, 41, 41)
    point[..., 20, 20] = 1
    spread = blurred(point, 2.0)[0, 0]
    at = torch.arange(41.0) - 20
    assert float(spread.sum()) == pytest.approx(1, abs=1e-4)
    assert float((spread.sum(0) * at.square()).sum()) == pytest.approx(4, rel=0.06)


def test_the_model_stays_as_it_was(model, graph, images, parse):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    masks(model, graph, images, parse, graph.node_ids[0])
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_go_where_the_model_fails(model, graph, images, parse):
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.lower, self.upper = model.lower, model.upper

        def forward(self, x):
            self.lower(x)
            raise ValueError("no more")

    failing = Failing().eval()
    with pytest.warns(match="weights"), pytest.raises(ExplgraphError, match="no more"):
        masks(failing, graph, images, parse, graph.nodes_of("upper")[0])
    assert not any(module._forward_hooks for module in failing.modules())


def test_a_model_that_lets_no_gradient_through_is_told_so(model, graph, images, parse):
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.lower, self.upper = model.lower, model.upper

        def forward(self, x):
            with torch.no_grad():
                return self.upper(self.lower(x).relu())

    with pytest.warns(match="weights"), pytest.raises(ExplgraphError, match="no gradient"):
        masks(Detached().eval(), graph, images, parse, graph.node_ids[0])


def test_what_isnt_there_is_refused(model, graph, images, parse):
    with pytest.raises(ExplgraphError, match="no node 'upper/999/0'"):
        masks(model, graph, images, parse, "upper/999/0")
    with pytest.raises(ExplgraphError, match="no part"):
        masks(model, graph, images, parse, "nose")
    with pytest.raises(ExplgraphError, match="images are 40 x 40"):
        masks(model, graph, torch.zeros(1, 3, 40, 40), parse, graph.node_ids[0])
    with pytest.raises(ExplgraphError, match="parse lacks image"):
        masks(model, graph, small_network.pictures(12), parse, graph.node_ids[0])
    with pytest.raises(ExplgraphError, match="evaluation mode"):
        masks(small_network.TwoLayers(positive=True), graph, images, parse, graph.node_ids[0])


def test_sightings_are_the_best_first(graph, parse):
    drawn = creatures.draw(4, seed=2, size=small_network.SIZE).images
    node = parse.nodes[int(parse.scores.min(0).argmax())]
    scores = [one.score for one in sightings(graph, node, drawn, parse)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(parse.scores[:, parse.nodes.index(node)].max())
