"""Node evidence against a world in which every effect is known, and against sums written out."""

import blobs
import numpy as np
import pytest
import torch
from small_network import own_places
from torch import nn

import explgraph
from explgraph import ExplgraphError, creatures
from explgraph.answers.evidence import model_outputs, node_evidence, output_count


@pytest.fixture(scope="module")
def setting():
    model = blobs.Net().eval()
    images, *_ = blobs.world(80, seed=0, together=True)
    graph = explgraph.mine(model, images, ["cells"])
    assert len(graph) == 3  # a blob is one thing
    return graph, model, images


def test_nodes_what_no_node_has_and_bias_add_up_to_the_outputs(setting):
    graph, model, images = setting
    found = node_evidence(model, graph, images, [0, 1, 2])
    with torch.no_grad():
        np.testing.assert_allclose(found.outputs, model(images).numpy(), rtol=1e-5, atol=1e-6)
    assert found.nodes == graph.nodes_of("cells")
    assert found.values.shape == (80, 3, len(found.nodes))
    np.testing.assert_allclose(found.rests.without, np.broadcast_to(blobs.BIAS, (80, 3)), atol=1e-5)
    np.testing.assert_allclose(found.rests.residual, 0, atol=1e-4)
    assert not found.rests.no_part.any()
    # every blob moves every output by what is known, whatever of it is a node's
    mass = images.mean(dim=(2, 3)).numpy() / (blobs.BLOB / blobs.SIZE) ** 2
    whole = found.values.sum(2) + found.rests.no_node
    np.testing.assert_allclose(whole, mass @ blobs.HEAD.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.values.sum(2) + found.rests.total, found.outputs, atol=1e-4)


def test_a_node_carries_of_its_filter_what_lies_in_its_place(setting):
    graph, model, images = setting
    found = node_evidence(model, graph, images, [2, 0])
    cells = model.cells(images).detach().numpy()
    area = (blobs.BLOB / blobs.SIZE) ** 2 * cells[0, 0].size
    places = own_places(graph, model, images)
    for v, node in enumerate(found.nodes):
        colour = graph.nx.nodes[node]["filter"]
        for i in (0, 17, 55):
            near = places[i][node].numpy()
            for k, output in enumerate((2, 0)):
                expected = blobs.HEAD[output, colour] / area * (cells[i, colour] * near).sum()
                assert found.values[i, k, v] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_units_are_shared_as_written_out():
    model = creatures.network()
    images = creatures.draw(24, seed=3).tensor()
    graph = explgraph.mine(model, images, ["stage4", "stage3"], seed=0)
    outputs = [4, 0]
    found = node_evidence(model, graph, images, outputs, layer="stage4", batch_size=7)
    maps = explgraph.record(model, images, ["stage4"]).maps[0].requires_grad_()
    logits = model.head(maps.mean((2, 3)))
    nodes = [graph.nx.nodes[node] for node in found.nodes]
    assert max(np.bincount([node["filter"] for node in nodes])) > 1
    places = own_places(graph, model, images)
    for k, output in enumerate(outputs):
        (slope,) = torch.autograd.grad(logits[:, output].sum(), maps, retain_graph=True)
        adds = (slope * maps).detach().numpy()
        for n in (0, 13, 23):
            expected = [
                (adds[n, node["filter"]] * places[n][id_].numpy()).sum()
                for id_, node in zip(found.nodes, nodes, strict=True)
            ]
            np.testing.assert_allclose(found.values[n, k], expected, rtol=1e-3, atol=1e-4)


def test_model_is_left_as_it_was(setting):
    graph, model, images = setting
    before = {name: value.clone() for name, value in model.state_dict().items()}
    node_evidence(model, graph, images[:5], [0])
    assert not model.cells._forward_hooks
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_outputs_without_gradients(setting):
    _, model, images = setting
    names, given = model_outputs(
        model, images, [2, 0], image_size=(blobs.SIZE, blobs.SIZE), batch_size=32
    )
    with torch.no_grad():
        np.testing.assert_allclose(given, model(images)[:, [2, 0]].numpy())
    assert len(names) == 80
    assert output_count(model, images) == 3


class Pair(nn.Module):
    """A layer that gives two tensors of which only one is a grid."""

    def __init__(self):
        super().__init__()
        self.net = blobs.Net()
        self.both = nn.Identity()

    def forward(self, x):
        maps, _ = self.both((self.net.cells(x), x.mean()))
        return self.net.head(maps.mean((2, 3)))


def test_a_layer_may_give_more_than_its_maps(setting):
    _, _, images = setting
    pair = Pair().eval()
    mined = explgraph.mine(pair, images, ["both"])
    found = node_evidence(pair, mined, images, [0, 1, 2])
    np.testing.assert_allclose(found.values.sum(2) + found.rests.total, found.outputs, atol=1e-4)
    np.testing.assert_allclose(found.rests.residual, 0, atol=1e-4)


class NoMatrix(blobs.Net):
    def forward(self, x):
        return self.cells(x)


def test_wrong_inputs(setting):
    graph, model, images = setting
    other = blobs.Net().eval()
    with torch.no_grad():
        other.head.bias += 1
    with pytest.raises(ExplgraphError, match="weights are not those"):
        node_evidence(other, graph, images, [0])
    with pytest.raises(ExplgraphError, match="no layer 'stage9'"):
        node_evidence(model, graph, images, [0], layer="stage9")
    with pytest.raises(ExplgraphError, match="names column 3, but the model gives 3 outputs"):
        node_evidence(model, graph, images, [3])
    with pytest.raises(ExplgraphError, match=r"gives \(1, 3, 8, 8\) for 1 images"):
        output_count(NoMatrix().eval(), images)
    empty = graph.restricted([])
    with pytest.raises(ExplgraphError, match="the graph has no nodes"):
        node_evidence(model, empty, images, [0])
    with pytest.raises(ExplgraphError, match="evaluation mode"):
        model_outputs(blobs.Net(), images, [0], image_size=(32, 32))
