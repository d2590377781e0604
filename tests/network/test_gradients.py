"""Networks whose forward pass changes in place what gradients need."""

import pytest
import torch
from small_network import TwoLayers, graph_of, network, pictures
from torch import nn

import explgraph
from explgraph import ExplgraphError
from explgraph.network.geometry import measure_layers
from explgraph.network.gradients import gradients_of

TOLD = "no gradient can be taken through the model, for its forward pass changes in place"


def test_gradients():
    x, y, other = (torch.rand(3, requires_grad=True) for _ in range(3))
    product = x * y
    for _ in range(2):
        of_x, of_other = gradients_of(product, [x, other], torch.tensor([1.0, 0.0, 2.0]))
        torch.testing.assert_close(of_x, y.detach() * torch.tensor([1.0, 0.0, 2.0]))
        assert not of_other.any()
    with pytest.raises(RuntimeError, match="grad"):  # a mistake of ours is no message to a user
        gradients_of(torch.ones(()), [x])


class Below(nn.Module):
    """What the second convolution took is changed once it is done."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.lower, self.upper = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.gate = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        low = self.lower(x)
        gate = low.sigmoid()
        out = self.upper(gate)
        gate.add_(1)
        return self.gate(out)


def test_places():
    with pytest.raises(ExplgraphError, match=TOLD):
        measure_layers(Below().eval(), ["gate"], (32, 32))


class Above(TwoLayers):
    """Only what lies above the layers can't be differentiated."""

    def forward(self, x):
        upper = self.upper(self.lower(x).relu())
        gate = upper.sigmoid()
        gated = gate * upper
        gate.mul_(0)
        return self.head(gated.relu().mean((2, 3)))


def test_explanations_and_effects():
    plain = network()
    graph = graph_of(plain)
    model = Above(positive=True).eval()
    with pytest.raises(ExplgraphError, match=TOLD):
        graph.explain(model, pictures(1)[0])
    with pytest.raises(ExplgraphError, match=TOLD):
        explgraph.edge_effects(model, graph, pictures(2), classes={"first": 0})
