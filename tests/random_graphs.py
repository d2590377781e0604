"""Valid explanatory graphs for tests: seeded ones of any size, and a hypothesis strategy."""

from __future__ import annotations

import networkx
import numpy as np
import torch
from hypothesis import strategies as st

from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.network.geometry import Layer
from explgraph.statistics.fitted import Fitted, FittedLayer
from explgraph.statistics.pose import PoseModel
from explgraph.statistics.pose_reader import Guides, PoseReader, Stage

HOSTILE = (
    'it\'s a "beak"',
    "<script>alert('x')</script>",
    "&amp; &#65; <b>&</b> ]]> -->",
    "back\\slash \\N \\n \\",
    "Flügel 翼 🐦",
    "מקור العين",
    "two\nlines\tand\r\nmore",
    " spaces ",
    "a/b/3",
    "%s %d {0} ${x} `$(x)`",
    "x" * 5_000,
)


def random_graph(
    seed=0,
    *,
    layers=("features.28", "features.21", "features.14"),
    nodes=30,
    parents=3,
    labels=(),
    image_size=(224, 224),
):
    """A valid graph: `layers` from the output down, `nodes` in each (an int, or one per layer)."""
    rng = np.random.default_rng(seed)
    counts = [nodes] * len(layers) if isinstance(nodes, int) else list(nodes)
    names, counts = list(layers)[::-1], counts[::-1]
    height, width = image_size
    table = []
    for index, name in enumerate(names):
        side = min(7 * 2 ** (len(names) - 1 - index), *image_size)
        stride = (width / side, height / side)
        table.append(
            Layer(
                name=name,
                index=index,
                channels=max(8, counts[index]),
                height=side,
                width=side,
                stride=stride,
                offset=(stride[0] / 2, stride[1] / 2),
                receptive_field=(30.0 + 40 * index, 30.0 + 40 * index),
            )
        )
    nx = networkx.DiGraph(
        format_version=2,
        image_size=[height, width],
        layers=[layer.as_dict() for layer in table],
        n_images=200,
        config={"tau": 0.1, "parents": parents, "top": [0.25, None, True]},
        seed=seed,
        versions={"explgraph": "0.1.0", "torch": "2.0"},
        model_fingerprint="0123abcd",
        preprocessing={},
    )
    ids = {}
    labels = list(labels)
    for layer, count in reversed(list(zip(table, counts, strict=True))):
        # two patterns share a filter now and then
        filters = sorted(rng.integers(0, layer.channels, count).tolist())
        ids[layer.index] = []
        for k, filter_ in enumerate(filters):
            pattern = filters[:k].count(filter_)
            node = f"{layer.name}/{filter_}/{pattern}"
            ids[layer.index].append(node)
            nx.add_node(
                node,
                layer=layer.name,
                layer_index=layer.index,
                filter=filter_,
                pattern=pattern,
                x=float(rng.uniform(0, width)),
                y=float(rng.uniform(0, height)),
                sigma=float(rng.uniform(2, 30)),
                support=float(rng.uniform()),
                energy=float(rng.uniform()),
                reliability=float(rng.uniform()),
                follows=float(rng.uniform()),
                receptive_field=layer.receptive_field[0],
                label=labels.pop() if labels else "",
            )
        above = ids.get(layer.index + 1, [])
        for node in ids[layer.index] if above else []:
            for parent in rng.permutation(above)[:parents].tolist():
                nx.add_edge(
                    parent,
                    node,
                    dx=nx.nodes[node]["x"] - nx.nodes[parent]["x"],
                    dy=nx.nodes[node]["y"] - nx.nodes[parent]["y"],
                    sigma=float(rng.uniform(1, 20)),
                    consistency=float(rng.uniform()),
                    coactivation=float(rng.uniform()),
                )
    fitted = _fitted(nx, table, seed) | {
        # what else somebody keeps there
        "mu": rng.normal(size=(len(nx), 2)).astype(np.float32),
        "scale": np.array(rng.uniform()),
        "active": rng.uniform(size=(3, 4, 2)) > 0.5,
        "empty": np.zeros((0, 2), np.int64),
    }
    top_images = {
        node: [
            [f"birds/{k:03}.jpg", float(rng.uniform(0, width)), float(rng.uniform(0, height)), 1.5]
            for k in rng.integers(0, 200, 3)
        ]
        for node in list(nx)[::2]
    }
    return ExplanatoryGraph(nx, fitted, top_images)


def _fitted(nx, table, seed):
    """Parameters that images can be parsed with."""
    draws = torch.Generator().manual_seed(seed)

    def some(*shape):
        return torch.rand(shape, generator=draws, dtype=torch.float32)

    layers = {}
    for layer in table:
        patterns = [a["pattern"] for a in nx.nodes.values() if a["layer_index"] == layer.index]
        c, k = layer.channels, max(patterns, default=0) + 1
        layers[layer.index] = FittedLayer(
            scale=some(c),
            mean=100 * some(c, k, 2),
            loading=10 * some(c, k, 2, 2),
            sigma=20 * some(c, k) + 2,
            share=torch.full((c, k), 1 / (k + 1)),
            background=torch.full((c,), 1 / (k + 1)),
            decoys=(some(5) / 10).sort(descending=True)[0],
        )
    u = table[-1].channels
    model = PoseModel(100 * some(u, 2), 10 * some(u, 2, 2), some(u) + 1)
    reader = PoseReader(
        Guides(torch.full((u,), table[-1].index), torch.arange(u)),
        tuple(Stage(torch.tensor([window]), some(u), model) for window in (0.0, 30.0)),
        reach=torch.tensor([20.0]),
        exemplars=some(3, 2),
        checks=torch.arange(u),
        check_sigma=torch.tensor([12.0]),
        check_scale=some(u),
    )
    return Fitted(reader, layers).pack()


# text that XML can hold; the rest is refused by validation
_text = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(
        st.characters(
            exclude_categories=("Cs",),
            exclude_characters=[chr(c) for c in range(32) if chr(c) not in "\t\n\r"]
            + ["\ufffe", "\uffff"],
        ),
        max_size=30,
    ),
)


@st.composite
def graphs(draw):
    """Valid graphs of up to three layers with hostile names and labels, and a user's attributes."""
    layers = draw(st.lists(_text.filter(bool), min_size=1, max_size=3, unique=True))
    counts = draw(st.lists(st.integers(0, 6), min_size=len(layers), max_size=len(layers)))
    graph = random_graph(
        draw(st.integers(0, 2**32)),
        layers=layers,
        nodes=counts,
        parents=draw(st.integers(0, 3)),
        labels=draw(st.lists(_text, max_size=4)),
        image_size=draw(st.sampled_from([(224, 224), (32, 48)])),
    )
    # igraph refuses a GraphML file with a subnormal number
    finite = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
    kinds = {"finite": finite, "whole": st.integers(-(2**53), 2**53), "flag": st.booleans()}
    for name, values in (kinds | {"text": _text}).items():
        for attributes in graph.nx.nodes.values():
            if draw(st.booleans()):
                attributes[f"user_{name}"] = draw(values)
    for *_, attributes in graph.nx.edges(data=True):
        attributes["dx"] = draw(finite)
        if draw(st.booleans()):
            attributes["effect"] = draw(finite)
    graph.validate()
    return graph
