"""A network of two layers and a graph of it, small enough to be run by hand."""

import warnings

import torch
from torch import nn

import explgraph
from explgraph import creatures, mine
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.parser import Parser

SIZE = 32


class TwoLayers(nn.Module):
    """Convolutions "lower" and "upper", each rectified in place afterwards, then the mean."""

    def __init__(self, *, positive: bool) -> None:
        super().__init__()
        self.lower = nn.Conv2d(3, 6, 5, stride=2, padding=2)
        self.upper = nn.Conv2d(6, 8, 5, stride=2, padding=2)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 3)
        generator = torch.Generator().manual_seed(3)
        for parameter in self.parameters():
            values = torch.randn(parameter.shape, generator=generator)
            # the convolutions of a positive network never cut anything off: it is linear
            parameter.data = values.abs() if positive and parameter.ndim == 4 else 0.3 * values
        if positive:
            self.lower.bias.data.zero_()
            self.upper.bias.data.zero_()

    def tail(self, lower):
        """Go on from the lower layer's maps; give the upper layer's maps and the class scores."""
        upper = self.upper(lower.relu())
        return upper, self.head(upper.relu().mean((2, 3)))

    def forward(self, x):
        """Give three class scores."""
        return self.head(self.relu(self.upper(self.relu(self.lower(x)))).mean((2, 3)))


def pictures(n=40, seed=1):
    """Positive images (n, 3, 32, 32)."""
    return creatures.draw(n, seed=seed, size=SIZE).tensor() / 4 + 0.5


def network(*, positive=True):
    """The network in evaluation mode."""
    return TwoLayers(positive=positive).eval()


def graph_of(model, n=80):
    """Mine a graph of both layers."""
    with warnings.catch_warnings():  # what the network doesn't know is no node's fault
        warnings.filterwarnings("ignore", "no filter follows|filters hardly", ExplgraphWarning)
        graph = mine(model, pictures(n), ["upper", "lower"], seed=0)
    if not graph.nx.number_of_edges():
        raise ExplgraphError("the small network's graph has no edges; choose another seed")
    return graph


def own_places(graph, model, images):
    """By image and node, the weights (H, W) of what the node answers for, in float64.

    Of the mixture's parameters; what of them each image has, and where, is from the parser.
    """
    parser = Parser(graph)
    recorded = explgraph.record(model, images, [layer.name for layer in graph.layers]).maps
    maps = dict(zip((layer.index for layer in graph.layers), recorded, strict=True))
    found, _ = parser.found(maps)
    told = [{} for _ in images]
    for node, values in graph.nx.nodes.items():
        layer, c = graph.layers[values["layer_index"]], values["filter"]
        sigma = parser.fitted.layers[layer.index].sigma[c].double()
        here = found[layer.index]
        rows = range(c * len(sigma), (c + 1) * len(sigma))
        x, y = torch.from_numpy(layer.centres_x), torch.from_numpy(layer.centres_y)
        for i, weights in enumerate(told):
            density = []
            for row, spread in zip(rows, sigma, strict=True):
                at = here.positions[i, row].double()
                square = (y[:, None] - at[1]) ** 2 + (x[None] - at[0]) ** 2
                height = here.share[i, row].double() / (2 * torch.pi * spread**2)
                density.append(height * torch.exp(-square / (2 * spread**2)))
            none = here.background[i, c].double() / parser.area
            weights[node] = density[values["pattern"]] / (sum(density) + none)
    return told


def place(graph, node, position):
    """The weights (H, W) of a node's place, by the formula, in float64."""
    values = graph.nx.nodes[node]
    layer = graph.layers[values["layer_index"]]
    x = torch.from_numpy(layer.centres_x) - float(position[0])
    y = torch.from_numpy(layer.centres_y) - float(position[1])
    square = y[:, None] ** 2 + x[None, :] ** 2
    return torch.exp(-square / (2 * values["sigma"] ** 2))
