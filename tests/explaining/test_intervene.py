"""Maps that are watched or changed while a network runs."""

from collections import OrderedDict
from typing import NamedTuple

import pytest
import torch
from small_network import SIZE, graph_of, network, pictures
from torch import nn

from explgraph import ExplgraphError, ExplgraphWarning
from explgraph.explaining.attribution import Places
from explgraph.explaining.intervene import run, watched
from explgraph.network.geometry import Layer
from explgraph.network.outputs import Scorer


def layer(name, index, shape, layout="NCHW"):
    return Layer(name, index, *shape, (2.0, 2.0), (0.5, 0.5), (5.0, 5.0), layout)


LAYERS = (layer("lower", 0, (6, 16, 16)), layer("upper", 1, (8, 8, 8)))


def test_maps_are_those_before_later_modules_change_them_in_place():
    model, images = network(positive=False), pictures(3)
    done = run(model, images, LAYERS)
    with torch.no_grad():
        lower = model.lower(images)
        upper, scores = model.tail(lower)
    assert (lower < 0).any()
    torch.testing.assert_close(done.maps["lower"], lower)
    torch.testing.assert_close(done.maps["upper"], upper)
    torch.testing.assert_close(done.scores, scores)


def test_a_change_is_what_the_network_goes_on_with():
    model, images = network(positive=False), pictures(2)
    done = run(model, images, LAYERS, {"lower": lambda maps: 0.5 * maps - 1})
    with torch.no_grad():
        upper, scores = model.tail(0.5 * model.lower(images) - 1)
    torch.testing.assert_close(done.maps["upper"], upper)
    torch.testing.assert_close(done.scores, scores)


def test_gradients_reach_every_layer():
    model, images = network(positive=False).double(), pictures(2).double()
    done = run(model, images, LAYERS, gradients=True)
    lower, upper = torch.autograd.grad(done.scores[:, 1].sum(), [*done.maps.values()])
    maps = model.lower(images).detach().requires_grad_()
    (expected,) = torch.autograd.grad(model.tail(maps)[1][:, 1].sum(), maps)
    torch.testing.assert_close(lower, expected)
    maps = model.upper(model.lower(images).relu()).detach().requires_grad_()
    score = model.head(maps.relu().mean((2, 3)))[:, 1].sum()
    torch.testing.assert_close(upper, torch.autograd.grad(score, maps)[0])


def test_the_caller_s_mode_of_gradients_does_not_matter():
    model = network()
    with torch.inference_mode():
        done = run(model, pictures(1), LAYERS, gradients=True)
    assert torch.autograd.grad(done.scores.sum(), done.maps["lower"])[0].abs().max() > 0


class Tokens(nn.Module):
    """A block that gives (tokens, extra): a class token and 4 x 4 patches, 5 channels each."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 5, 8, 8)
        self.block = Block()
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens, _ = self.block(torch.cat([tokens.mean(1, keepdim=True), tokens], 1))
        return {"logits": self.head(tokens.mean(1))}


class Block(nn.Module):
    def forward(self, tokens):
        return 2 * tokens, None


def test_tokens_in_a_tuple_are_changed_and_the_class_token_is_kept():
    torch.manual_seed(0)
    model, images = Tokens().eval(), torch.rand(2, 3, SIZE, SIZE)
    block = (layer("block", 0, (5, 4, 4), "N(1+HW)C"),)
    done = run(model, images, block, {"block": torch.zeros_like}, gradients=True)
    tokens = 2 * model.patch(images).flatten(2).mean(2)
    torch.testing.assert_close(done.scores, model.head(tokens / 17))
    (gradient,) = torch.autograd.grad(done.scores[:, 0].sum(), done.maps["block"])
    expected = model.head.weight[0].detach()[None, :, None, None] / 17
    torch.testing.assert_close(gradient, expected.expand(2, 5, 4, 4))


class Named(NamedTuple):
    """A module's output with names."""

    extra: None
    tokens: torch.Tensor


@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (lambda t: {"extra": None, "tokens": t}, lambda given: given["tokens"]),
        (lambda t: OrderedDict(tokens=t), lambda given: given["tokens"]),
        (lambda t: Named(None, t), lambda given: given.tokens),
        (lambda t: [None, (t,)], lambda given: given[1][0]),
    ],
    ids=["dict", "ordered", "named", "nested"],
)
def test_outputs_of_any_form_are_changed(wrap, unwrap):
    class Wraps(nn.Module):
        def forward(self, tokens):
            self.given = wrap(2 * tokens)
            return self.given

    class Unwraps(Tokens):
        def forward(self, x):
            tokens = self.patch(x).flatten(2).transpose(1, 2)
            return self.head(unwrap(self.block(tokens)).mean(1))

    torch.manual_seed(0)
    model, images = Unwraps().eval(), torch.rand(2, 3, SIZE, SIZE)
    model.block = Wraps()
    block = (layer("block", 0, (5, 4, 4), "N(HW)C"),)
    done = run(model, images, block, {"block": torch.zeros_like}, gradients=True)
    torch.testing.assert_close(done.scores, model.head.bias.expand(2, 2))
    assert torch.autograd.grad(done.scores[:, 0].sum(), done.maps["block"])[0].abs().max() > 0
    # what the module itself keeps is left alone
    assert unwrap(model.block.given).abs().max() > 0


def test_what_is_seen_in_maps_is_what_parsing_gives():
    model = network()
    graph = graph_of(model)
    places = Places(graph)
    images = pictures(3, seed=9)
    seen = places.seen(run(model, images, graph.layers).maps)
    parse = graph.parse(model, images)
    parsed = (parse.positions, parse.expected, parse.scores)
    for given, known in zip(seen[:3], parsed, strict=True):
        torch.testing.assert_close(given, torch.from_numpy(known), atol=1e-3, rtol=0)
    nodes = graph.nodes_of("lower")[:2]
    weights = places.weights(nodes, seen, torch.zeros(1, dtype=torch.float64))
    assert weights.dtype == torch.float64
    assert weights.shape == (3, 2, 16, 16)


class Fails(nn.Module):
    def __init__(self, lower):
        super().__init__()
        self.lower = lower

    def forward(self, x):
        return self.lower(x).reshape(7, -1)


def test_scores_that_are_no_numbers_are_told():
    model = network()
    with torch.no_grad():
        model.head.bias[0] = torch.nan
    with pytest.raises(ExplgraphError, match="scores that are NaN or infinite"):
        run(model, pictures(2), LAYERS)


def test_failures_are_told_and_leave_no_hooks():
    inner = network()
    model = Fails(inner.lower).eval()
    with pytest.raises(ExplgraphError, match="the model fails on images of size"):
        run(model, pictures(1), LAYERS[:1])
    assert not inner.lower._forward_hooks
    assert all(p.requires_grad for p in inner.parameters())
    inner.forward = inner.lower.forward
    with pytest.raises(ExplgraphError, match="'lower' doesn't run"):
        run(inner, pictures(1), LAYERS)


def test_scores_that_hang_on_chance_are_told():
    plain = network()
    graph, images = graph_of(plain), pictures(3)
    model = network()
    options = {"scorer": Scorer(), "batch_size": 2, "device": "cpu"}
    assert len(list(watched(model, graph, images, **options))) == 2
    model.head.register_forward_hook(lambda _module, _inputs, out: out * torch.rand_like(out))
    with pytest.warns(ExplgraphWarning, match="gives other scores each time"):
        list(watched(model, graph, images, **options))
