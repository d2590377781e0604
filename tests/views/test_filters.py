"""Figures of filters: where they look, and how their maps are shared out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle
from random_graphs import random_graph
from test_pictures import parse_of
from torch import nn

from explgraph import creatures, mine
from explgraph.errors import ExplgraphError
from explgraph.network.geometry import measure_layers
from explgraph.views import filters

SIZE = (60, 80)


@pytest.fixture
def graph():
    return random_graph(3, layers=("upper", "lower"), nodes=4, image_size=SIZE)


def image_of(ax, which=0):
    return np.asarray(ax.get_images()[which].get_array())


def known_network():
    """One linear filter that looks 2 px to the right of its middle, and hardly beyond 3 px."""
    conv = nn.Conv2d(3, 2, 9, padding=4, bias=False)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[0, :, 4, 6] = 1.0
        conv.weight[0, :, 3:6, 5:8] += 0.1
        for row, column in ((0, 4), (8, 4), (4, 0), (4, 8)):  # 9 px in theory
            conv.weight[0, :, row, column] = 1e-3
    return nn.Sequential(conv, nn.ReLU()).eval()


def test_the_effective_field_is_where_the_weights_are():
    model = known_network()
    image = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0)) * 0.1
    image[0, :, 17, 30] = 9.0
    image[1, :, 25, 11] = 9.0
    (layer,) = measure_layers(model, ["0"], (40, 50))
    fields = filters.effective_field(model, image, layer, 0)
    assert [field.unit for field in fields] == [(17, 28), (25, 9)]
    for field, (row, column) in zip(fields, [(17, 30), (25, 11)], strict=True):
        assert field.centre == (column - 2 + 0.5, row + 0.5)
        wanted = np.zeros((40, 50))
        wanted[row - 1 : row + 2, column - 1 : column + 2] = 0.1
        wanted[row, column] += 1.0
        for dy, dx in ((-4, 0), (4, 0), (0, -4), (0, 4)):
            wanted[row + dy, column - 2 + dx] = 1e-3
        np.testing.assert_allclose(field.weight, wanted / wanted.sum(), atol=1e-6)
        # 1.1 + 5 * 0.1 of 1.904 lie up to 2 px away; for 90 % the column at 3 px is needed
        assert field.size == 7
    assert filters.effective_field(model, image, layer, 1)[0].size == 0  # a filter that is silent
    with pytest.raises(ExplgraphError, match="no filter 2; expected 0 to 1"):
        filters.effective_field(model, image, layer, 2)


def test_a_map_is_split_by_the_mixture(graph):
    parse = parse_of(graph)
    layer = graph.layers[0]
    filter_ = max(
        (a["filter"] for a in graph.nx.nodes.values() if a["layer"] == layer.name),
        key=lambda f: len(graph.nodes_of(layer.name, f)),
    )
    maps = np.random.default_rng(0).uniform(0, 1, (4, layer.height, layer.width))
    nodes, shares = filters.split(graph, parse, layer.name, filter_, maps)
    assert nodes == graph.nodes_of(layer.name, filter_)
    assert shares.shape == (4, len(nodes) + 1, layer.height, layer.width)
    np.testing.assert_allclose(shares.sum(1), maps)
    n, row, column = 2, 5, 7
    x, y = layer.centres_x[column], layer.centres_y[row]
    density = []
    for node in nodes:
        mx, my = parse.expected[n, parse.nodes.index(node)]
        s, share = (graph.nx.nodes[node][name] for name in ("sigma", "energy"))
        gauss = np.exp(-((x - mx) ** 2 + (y - my) ** 2) / 2 / s**2) / (2 * np.pi * s**2)
        density.append(share * gauss)
    rest = max(1 - sum(graph.nx.nodes[node]["energy"] for node in nodes), 0.02)
    total = sum(density) + rest / (SIZE[0] * SIZE[1])
    np.testing.assert_allclose(
        shares[n, :-1, row, column], [maps[n, row, column] * d / total for d in density], rtol=1e-5
    )


def test_the_filter_figure_of_a_creature_part():
    world = creatures.draw(24, seed=1)
    model = creatures.network()
    graph = mine(model, world.tensor(), ["stage3"], seed=0)
    best = max(graph.node_ids, key=lambda v: graph.nx.nodes[v]["energy"])
    filter_ = graph.nx.nodes[best]["filter"]
    chosen = [int(name) for name, *_ in graph.top_images[best][:2]]
    images, pictures = world.tensor()[chosen], world.images[chosen]
    figure = filters.filter_figure(model, graph, images, pictures, "stage3", filter_)
    assert len(figure.axes) == 6
    (layer,) = graph.layers
    parse = graph.parse(model, images)
    fields = filters.effective_field(model, images, layer, filter_)
    nodes = graph.nodes_of("stage3", filter_)
    for n in range(2):
        left, middle, right = figure.axes[3 * n : 3 * n + 3]
        boxes = [p for p in left.patches if isinstance(p, Rectangle)]
        middles = np.array([p.get_center() for p in boxes])
        np.testing.assert_allclose(middles, np.tile(fields[n].centre, (4, 1)))
        assert {p.get_width() for p in boxes} == {layer.receptive_field[0], fields[n].size}
        # what lies outside the theoretical field has no gradient
        x, y = fields[n].centre
        ys, xs = np.mgrid[:112, :112] + 0.5
        half = layer.receptive_field[0] / 2
        outside = (np.abs(xs - x) > half) | (np.abs(ys - y) > half)
        assert fields[n].weight[outside].max() < 1e-9
        assert 0 < fields[n].size <= layer.receptive_field[0]
        # the map is brightest at its strongest unit
        heat = image_of(middle, 1)
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        assert abs(column + 0.5 - x) <= 1
        assert abs(row + 0.5 - y) <= 1
        at = np.concatenate([c.get_offsets() for c in right.collections])
        wanted = parse.positions[n, [parse.nodes.index(v) for v in nodes]]
        np.testing.assert_allclose(at, wanted, atol=1e-4)
    with pytest.raises(ExplgraphError, match="no layer 'stage9'; its layers are 'stage3'"):
        filters.filter_figure(model, graph, images, pictures, "stage9", 0)
