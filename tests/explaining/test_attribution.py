"""What is a node's own, and what units add, by sums and integrals written out in float64."""

import numpy as np
import pytest
import torch
from small_network import graph_of, network, own_places, pictures
from torch import nn

import explgraph
from explgraph import ExplgraphError, creatures
from explgraph.explaining import attribution
from explgraph.explaining.attribution import (
    MOST,
    TOLERANCE,
    Places,
    Rests,
    added,
    layer_of,
)
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
    return model, graph, nodes, np.array(filters), done, places, places.seen(done.maps)


def test_places_are_as_written_out(setting):
    model, graph, nodes, filters, done, places, seen = setting
    own = places.own(nodes, done.maps["lower"], seen)
    weights = np.stack(
        [
            np.stack([weights[node] for node in nodes])
            for weights in own_places(graph, model, pictures(3, seed=5))
        ]
    )
    np.testing.assert_allclose(own.weights, weights, rtol=1e-3, atol=1e-5)
    maps = np.maximum(done.maps["lower"].detach().double().numpy(), 0)[:, filters]
    np.testing.assert_allclose(own.units.detach(), maps * weights, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        own.activation.detach(), (maps * weights).sum((2, 3)), rtol=1e-3, atol=1e-5
    )
    for number in set(filters.tolist()):
        assert own.weights[:, filters == number].sum(1).max() <= 1 + 1e-6


def test_the_highest_layer_with_nodes_is_chosen(setting):
    graph = setting[1]
    assert layer_of(graph, None).name == "upper"
    assert layer_of(graph, "lower").name == "lower"
    assert layer_of(graph.subgraph(["lower"]), None).name == "lower"
    with pytest.raises(ExplgraphError, match="no nodes in layer 'upper'"):
        layer_of(graph.subgraph(["lower"]), "upper")


def asked(model, images, name, columns, **options):
    """Ask what units of a layer add; give the layer's maps (n, C, H, W) as well."""
    layers = explgraph.record(model, images, [name]).layers
    whole = run(model, images, layers, gradients=True)
    found = added(model, images, whole, layers[0], columns, **options)
    return found, whole.maps[name].detach()


def fine(score, start, maps, n=400):
    """Give what units add to scores (n, K) by an integral of 400 steps in float64."""
    start, maps = start.double(), maps.double()
    total = torch.zeros((*score(maps).shape, *maps.shape[1:]), dtype=torch.float64)
    for k in range(n):
        way = (start + (k + 0.5) / n * (maps - start)).requires_grad_()
        scores = score(way)
        for column in range(scores.shape[1]):
            (slope,) = torch.autograd.grad(scores[:, column].sum(), way, retain_graph=True)
            total[:, column] += slope / n
    return total * (maps - start)[:, None]


@pytest.mark.parametrize("baseline", ["none", "mean", "half"])
def test_units_add_a_fine_integral_in_float64(baseline, monkeypatch):
    model, images = network(positive=False), pictures(3, seed=6)
    exact = network(positive=False).double()
    whole = explgraph.record(model, images, ["lower"])
    maps = run(model, images, whole.layers).maps["lower"]
    start = {
        "none": maps.clamp(max=0),
        "mean": maps.mean(0, keepdim=True),
        "half": maps - 0.5 * maps.relu(),  # shares to keep
    }[baseline]
    given = {} if baseline == "none" else {"baseline": start}
    found, _ = asked(model, images, "lower", [2, 0], **given)

    def score(values):
        return exact.tail(values)[1][:, [2, 0]]

    expected = fine(score, start.expand_as(maps), maps)
    size = expected.abs().sum((2, 3, 4))
    with torch.no_grad():
        scores, without = score(maps.double()), score(start.double().expand_as(maps))
    np.testing.assert_allclose(expected.sum((2, 3, 4)), scores - without, atol=1e-2 * size.max())
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    np.testing.assert_allclose(found.without, without, atol=1e-5)
    missed = (found.units - expected).abs().sum((2, 3, 4))
    assert (missed / size).max() < 0.1
    monkeypatch.setattr(attribution, "TOLERANCE", 0)
    found, _ = asked(model, images, "lower", [2, 0], **given)
    assert found.steps.tolist() == [MOST] * 3
    missed = (found.units - expected).abs().sum((2, 3, 4))
    assert (missed / size).max() < 0.04


def test_where_the_rest_is_linear_one_step_is_exact():
    model, images = network(positive=False), pictures(4, seed=6)
    found, maps = asked(model, images, "upper", [0, 1, 2])
    assert found.steps.tolist() == [1] * 4
    np.testing.assert_allclose(found.residual, 0, atol=1e-5)
    weights = model.head.weight.detach()[None, :, :, None, None] / maps[0, 0].numel()
    np.testing.assert_allclose(found.units, weights * maps.relu()[:, None], atol=1e-6)
    np.testing.assert_allclose(found.without, model.head.bias.detach().expand(4, 3), atol=1e-6)


class Attending(nn.Module):
    """A small vision transformer: patches, one block of attention and an MLP, a class token."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        maps = self.patches(x)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), maps.flatten(2).transpose(1, 2)], 1)
        normed = self.norm(tokens)
        tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        return self.head((tokens + self.mlp(tokens))[:, 0])


def normalised():
    """Convolutions with batch normalisation of random statistics, ReLU and GELU."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.GELU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3),
    )  # fmt: skip
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return model


CASES = {
    "CNN": (lambda: network(positive=False), "lower"),
    "BN, ReLU, GELU": (normalised, "2"),
    "BN, before the ReLU": (normalised, "1"),
    "a small ViT": (Attending, "patches"),
    "creatures": (creatures.network, "stage3"),
}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_it_adds_up_on_networks_of_all_kinds(kind, seed):
    torch.manual_seed(seed)
    make, layer = CASES[kind]
    model = make().eval()
    side = 112 if kind == "creatures" else 32
    images = creatures.draw(5, seed=seed, size=side).tensor()
    columns = [0, 2]
    found, _ = asked(model, images, layer, columns)
    with torch.no_grad():
        np.testing.assert_allclose(found.scores, model(images)[:, columns], rtol=1e-4, atol=1e-5)
    flat = found.units.double().flatten(2)
    np.testing.assert_allclose(
        found.without + flat.sum(2) + found.residual, found.scores, rtol=1e-5, atol=1e-5
    )
    size = torch.maximum(found.carried.abs(), 0.1 * flat.abs().sum(2))
    near = (found.residual.abs() <= 1.01 * TOLERANCE * size).all(1)
    assert (near | (found.steps == MOST)).all()
    assert (found.residual.abs() <= 0.1 * size).all()  # of all the ways that end at MOST
    assert near.double().mean() >= 0.4
    # in the mean, errors of images even out
    assert (found.residual.mean(0).abs() / size.mean(0)).max() < 2 * TOLERANCE
    assert set(found.steps.tolist()) <= {1, 3, 9, 27}


def test_an_image_gets_the_same_alone_and_among_others():
    model = creatures.network()
    images = creatures.draw(4, seed=3).tensor()
    together, _ = asked(model, images, "stage3", [4])
    assert len(set(together.steps.tolist())) > 1  # they go their ways apart
    for i in range(4):
        alone, _ = asked(model, images[i : i + 1], "stage3", [4])
        assert alone.steps[0] == together.steps[i]
        scale = alone.units.abs().max()
        assert (alone.units[0] - together.units[i]).abs().max() < 1e-3 * scale


def test_one_step_at_most_is_the_slope_and_tells_what_it_misses():
    model, images = network(positive=False), pictures(3, seed=6)
    found, maps = asked(model, images, "lower", [1], most=1)
    values = maps.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model.tail(values)[1][:, 1].sum(), values)
    np.testing.assert_allclose(found.units[:, 0], slope * maps.relu(), rtol=1e-4, atol=1e-6)
    assert found.steps.tolist() == [1] * 3
    assert (found.residual.abs() > TOLERANCE * found.carried.abs()).any()


def test_nodes_and_rests_add_up(setting):
    model, graph, nodes, filters, done, places, positions = setting
    layer = next(one for one in graph.layers if one.name == "lower")
    found = added(model, pictures(3, seed=5), done, layer, [1, 2])
    own = places.own(nodes, done.maps["lower"].detach(), positions)
    values = found.of(own)
    by_hand = (found.units[:, :, filters] * own.weights[:, None]).sum((3, 4))
    np.testing.assert_allclose(values, by_hand, rtol=1e-5, atol=1e-6)
    rests = found.rests(values)
    np.testing.assert_allclose(values.sum(2).numpy() + rests.total, found.scores, atol=1e-5)
    np.testing.assert_allclose(rests.residual, found.residual)
    np.testing.assert_allclose(
        rests.no_node, found.units.double().sum((2, 3, 4)) - values.double().sum(2), atol=1e-5
    )
    both = Rests.joined([rests, rests])
    np.testing.assert_array_equal(both.take(slice(3, None)).no_node, rests.no_node)
