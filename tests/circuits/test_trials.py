"""True runs and estimates against runs by hand, in float64."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from small_network import graph_of, network, pictures

from explgraph.circuits.trials import Asked, Trials
from explgraph.explaining.intervene import run
from explgraph.explaining.replaced import StandIns
from explgraph.network.outputs import Scorer
from explgraph.parser import Parser
from explgraph.statistics.inference import responsibilities

RUNNING = {"scorer": Scorer(), "batch_size": 5, "device": "cpu"}
N = 12


@pytest.fixture(scope="module", params=[True, False], ids=["linear", "rectified"])
def world(request):
    model = network(positive=request.param)
    return model, graph_of(model), pictures(N, seed=9), request.param


def trials(world, layers, candidates, measure="score", replacement="mean"):
    model, graph, images, _ = world
    inside = [layer for layer in graph.layers if layer.name in layers]
    stand_ins = StandIns.of(replacement, model, graph, inside, images, **RUNNING)
    return Trials(model, graph, inside, candidates, images, stand_ins, measure, **RUNNING)


def held(world, layer_name, nodes):
    """What nodes of a layer hold together, (N, C, H, W) float64."""
    model, graph, images, _ = world
    maps = run(model, images, graph.layers).maps
    parser = Parser(graph)
    found, _ = parser.found({one.index: maps[one.name].detach().relu() for one in graph.layers})
    (layer,) = (one for one in graph.layers if one.name == layer_name)
    fitted = parser.fitted.layers[layer.index]
    shares = torch.zeros(maps[layer_name].shape, dtype=torch.float64)
    for node in nodes:
        a = graph.nx.nodes[node]
        if a["layer"] == layer_name:
            pattern = a["filter"] * fitted.sigma.shape[1] + a["pattern"]
            own = responsibilities(
                fitted, found[layer.index], [pattern], parser.grids[layer.index], parser.area
            )
            shares[:, a["filter"]] += own[:, 0].double()
    return shares, maps[layer_name].detach().double()


def groups(graph, layers, size=4):
    nodes = [node for node in graph.node_ids if graph.nx.nodes[node]["layer"] in layers]
    return [nodes[k : k + size] for k in range(0, len(nodes), size)]


@pytest.mark.parametrize("away", [False, True])
def test_a_set_in_the_upper_layer_is_a_run_by_hand(world, away):
    graph = world[1]
    candidates = groups(graph, ["upper"])
    some = [0, 2, 3]
    classes = [k % 3 for k in range(N)]
    whole, found = trials(world, ["upper"], candidates).values(
        [Asked(frozenset(some), away)], range(N), classes
    )
    shares, maps = held(world, "upper", [node for k in some for node in candidates[k]])
    mean = maps.relu().mean(0)
    left = 1 - shares if away else shares
    exact = network(positive=world[3]).double()
    # what stands in for nothing is no activation: units below zero stay as they are
    mixed = torch.where(
        mean > 0, left * maps + (1 - left) * mean, maps.clamp(max=0) + left * maps.relu()
    )
    with torch.no_grad():
        expected = exact.head(mixed.relu().mean((2, 3)))
        plain = exact.head(maps.relu().mean((2, 3)))
    rows = np.arange(N)
    assert_allclose(found, expected.numpy()[rows, classes], rtol=1e-5, atol=1e-4)
    assert_allclose(whole, plain.numpy()[rows, classes], rtol=1e-5, atol=1e-4)
    assert np.abs(found - whole).max() > 1e-3


def test_of_two_layers_the_lower_is_replaced_first(world):
    candidates = groups(world[1], ["lower", "upper"])
    some = list(range(0, len(candidates), 2))
    _, found = trials(world, ["lower", "upper"], candidates, replacement="zero").values(
        [Asked(frozenset(some))], range(N), [1] * N
    )
    nodes = [node for k in some for node in candidates[k]]
    exact = network(positive=world[3]).double()
    shares, maps = held(world, "lower", nodes)
    with torch.no_grad():
        upper = exact.upper(shares * maps.relu())
        above, _ = held(world, "upper", nodes)
        expected = exact.head((above * upper.relu()).mean((2, 3)))[:, 1]
    assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-4)


def test_whatever_the_batches_and_the_images_values_are_the_same(world):
    candidates = groups(world[1], ["upper"])
    asked = [Asked(frozenset([0])), Asked(frozenset([1, 2]))]
    all_at_once = trials(world, ["upper"], candidates).values(asked, range(N), [0] * N)
    some = trials(world, ["upper"], candidates).values(asked, [7, 2, 3], [0] * 3)
    assert_allclose(some, all_at_once[:, [7, 2, 3]], atol=1e-5)


def test_accuracy_is_whether_the_class_is_the_highest(world):
    model, graph, images, _ = world
    with torch.no_grad():
        highest = model(images).argmax(1)
    found = trials(world, ["upper"], groups(graph, ["upper"]), measure="accuracy").values(
        [], range(N), [int(highest[0])] * N
    )
    assert_allclose(found[0], (highest == highest[0]).double())


@pytest.mark.parametrize("layer", ["upper", "lower"])
def test_estimates_are_a_fine_integral(world, layer, monkeypatch):
    """Of all units' shares, from what stands in to what is there; nodes have what they hold."""
    monkeypatch.setattr("explgraph.circuits.trials._STEPS", 27)
    candidates = groups(world[1], [layer])
    found = trials(world, [layer], candidates).estimates(range(N), [2] * N)
    shares, maps = zip(*(held(world, layer, [node]) for (node) in found), strict=True)
    mean = maps[0].relu().mean(0)
    exact = network(positive=world[3]).double()
    total = torch.zeros_like(maps[0])
    steps = 400
    for k in range(steps):
        share = torch.full_like(maps[0], (k + 0.5) / steps, requires_grad=True)
        stays = torch.where(mean > 0, maps[0], maps[0].relu())
        mixed = maps[0] + (1 - share) * (mean - stays)
        score = exact.head(mixed.relu().mean((2, 3))) if layer == "upper" else exact.tail(mixed)[1]
        total += torch.autograd.grad(score[:, 2].sum(), share)[0] / steps
    expected = [float((total * own).sum() / N) for own in shares]
    scale = np.abs(expected).max()
    assert_allclose(list(found.values()), expected, atol=(1e-4 if world[3] else 0.1) * scale)


@pytest.mark.parametrize("world", [True], indirect=True, ids=["linear"])
def test_in_a_linear_network_an_estimate_is_what_is_lost(world):
    candidates = groups(world[1], ["lower"])
    runs = trials(world, ["lower"], candidates)
    adds = runs.estimates(range(N), [0] * N)
    whole, *without = runs.values(
        [Asked(frozenset([k]), True) for k in range(len(candidates))], range(N), [0] * N
    )
    lost = [float((whole - values).mean()) for values in without]
    assert_allclose([sum(adds[node] for node in c) for c in candidates], lost, atol=1e-3)
