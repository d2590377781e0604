"""How well part nodes follow parts, beside the baselines: the table of the README.

    python benchmarks/quality.py --data ../shared/animalparts --json quality.json

For every category (a folder of crops with a ``parts.json``) the network's layers are recorded, one
crop per source photograph unless ``--crops all``, and each method is measured with the functions of
`explgraph.evaluation.metrics`. Methods (``--methods``):

==========  ====================================================================================
grid        points that never move, with meaningless scores
peaks       the filters' raw peaks
nmf         50 non-negative matrix factors of the layer, their peaks (as ICE and CRAFT use them)
published   the model of AAAI 2018, without links and with those of least distance (`published.py`)
ridge       ridge regression from activations, trained on all annotations of four fifths of the
            images: the supervised yardstick
nodes       our nodes: all, best half, quarter and tenth by reliability, a random quarter, all
            layers together; share of activation explained; ridge regression from their positions
evidence    the best quarter once more: prior only, the layer's maps taken from other images, and
            every second filter's, measured on the nodes of those
decoys      mined with every second filter's maps exchanged among the images: share of false nodes
halves      mined on every other photograph, measured on these and on the rest; agreement of the
            graphs of both halves
ablations   the best quarter with parts of the method left out (`ABLATIONS`)
==========  ====================================================================================

Rows go to the JSON file after every category: network, category, layer, method, seed, measures,
seconds. The means over the categories are printed as Markdown, with their standard deviation.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import recorded, setting
from benchmarks.published import mine_published
from explgraph.activations.memory import Activations
from explgraph.evaluation import controls
from explgraph.evaluation.baselines import constant_grid, raw_peaks
from explgraph.evaluation.table import metrics

Array = NDArray[np.float64]
Row = dict[str, Any]

NETWORKS = {
    "efficientnet-lite0": "benchmarks.efficientnet_lite0",
    "mobilenet-v2": "benchmarks.mobilenet_v2",
    "vit-s14": "benchmarks.vit_s14",
}
METHODS = (
    "grid", "peaks", "nmf", "published", "ridge", "nodes", "evidence", "decoys", "halves",
    "ablations",
)  # fmt: skip
CUTS = {"all": 1.0, "best half": 0.5, "best quarter": 0.25, "best tenth": 0.1}
#: Fields of `explgraph.Settings` that leave out one ingredient each.
ABLATIONS: dict[str, dict[str, Any]] = {
    "one pattern a filter": {"further_gain": 1.0},
    "further gain 0.02": {"further_gain": 0.02},
    "further gain 0.1": {"further_gain": 0.1},
    "pose of 4 numbers": {"pose": 4},
    "50 trajectories": {"trajectories": 50},
    "300 trajectories": {"trajectories": 300},
    "100 images sampled": {"sample": 100},
}
#: The published model with and without links.
PUBLISHED = {"AAAI 2018, no links": False, "AAAI 2018, links of least distance": True}
COLUMNS = (
    "nodes", "instability", "tracking", "1-shot", "3-shot", "10-shot", "50-shot", "1-shot near",
    "3-shot near", "10-shot near", "ridge", "decoys, quarter", "decoys, tenth", "agreement",
    "energy", "seconds",
)  # fmt: skip
ALL_LAYERS = "all layers"


class Sample(NamedTuple):
    """One category's activations and the landmarks (N, 2) px of the part."""

    activations: Activations
    landmarks: Array

    def take(self, images: Sequence[int] | NDArray[np.int64]) -> Sample:
        """Keep some of the images."""
        index = np.asarray(images)
        return Sample(take(self.activations, index), self.landmarks[index])


class Engine(NamedTuple):
    """What is measured: `mine_activations` and `parse_activations`, or a stand-in for them."""

    mine: Callable[..., Any]
    parse: Callable[[Any, Activations], Any]


class Nodes(NamedTuple):
    """A parsed graph as plain arrays, V nodes in N images."""

    positions: Array
    expected: Array
    scores: Array
    layer: NDArray[np.str_]
    filter: NDArray[np.int64]
    reliability: Array
    energy: Array

    def take(self, nodes: NDArray[Any]) -> Nodes:
        """Keep some of the nodes."""
        return Nodes(*(a[:, nodes] for a in self[:3]), *(a[nodes] for a in self[3:]))

    def of(self, layer: str) -> Nodes:
        """Keep one layer's nodes."""
        return self.take(np.flatnonzero(self.layer == layer))

    def best(self, share: float) -> Nodes:
        """Keep the most reliable share of the nodes."""
        if not len(self.reliability):
            return self
        return self.take(controls.best(self.reliability, share))


def the_engine() -> Engine:
    """Return explgraph itself."""
    from explgraph.mining.mining import mine_activations
    from explgraph.mining.settings import Settings
    from explgraph.parsing import parse_activations

    def mine(activations: Activations, *, seed: int, **options: Any) -> Any:
        return mine_activations(activations, seed=seed, settings=Settings(**options))

    return Engine(mine, parse_activations)


# ------------------------------------------------------------------------------------------- input


def load(folder: Path, network: Any, layers: Sequence[str], part: str, crops: str) -> Sample:
    """Record the layers for one category, clamped as the network clamps them."""
    activations, landmarks = recorded.crops(folder, network, layers, which=crops)
    return Sample(activations, landmarks.parts[part])


def take(activations: Activations, images: NDArray[Any]) -> Activations:
    """Keep some of the images."""
    return Activations(
        activations.layers,
        tuple(activations.names[i] for i in images),
        activations.image_size,
        [maps[torch.from_numpy(images)] for maps in activations.maps],
        activations.model_fingerprint,
    )


def replaced(activations: Activations, maps: Mapping[int, torch.Tensor]) -> Activations:
    """Put other maps in the place of some layers' (by index)."""
    return Activations(
        activations.layers,
        activations.names,
        activations.image_size,
        [maps.get(i, old) for i, old in enumerate(activations.maps)],
        activations.model_fingerprint,
    )


def every_second(activations: Activations, layers: Sequence[int], seed: int) -> Activations:
    """Exchange the maps of every second filter of some layers among the images."""
    rng = np.random.default_rng([seed, 1])
    maps = {}
    for i in layers:
        decoy = np.arange(activations.layers[i].channels) % 2 == 1
        maps[i] = torch.from_numpy(
            controls.permuted_filters(activations.maps[i].numpy(), decoy, rng)
        )
    return replaced(activations, maps)


def nodes_of(graph: Any, parse: Any) -> Nodes:
    """Bring a parse and its graph's attributes into the same order."""
    attributes = [graph.nx.nodes[node] for node in parse.nodes]
    return Nodes(
        np.asarray(parse.positions, dtype=np.float64),
        np.asarray(parse.expected, dtype=np.float64),
        np.asarray(parse.scores, dtype=np.float64),
        np.array([a["layer"] for a in attributes], dtype=np.str_),
        np.array([a["filter"] for a in attributes], dtype=np.int64),
        np.array([a["reliability"] for a in attributes], dtype=np.float64),
        np.array([a["energy"] for a in attributes], dtype=np.float64),
    )


# ---------------------------------------------------------------------------------------- baselines


def nmf_concepts(maps: NDArray[Any], concepts: int = 50, seed: int = 0) -> NDArray[Any]:
    """Compute maps (N, concepts, H, W) of the non-negative factors of maps (N, C, H, W).

    Every unit of every image is one sample, the filters are its features.
    """
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    n, c, h, w = maps.shape
    samples = maps.transpose(0, 2, 3, 1).reshape(-1, c)
    model = NMF(concepts, init="nndsvda", max_iter=100, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        weights = model.fit_transform(samples)
    return weights.reshape(n, h, w, concepts).transpose(0, 3, 1, 2)


def ridge_error(
    features: NDArray[Any], landmarks: Array, image_size: tuple[int, int], folds: int = 5
) -> float:
    """Error of a linear map from features to the part, trained on all but one fold of the images.

    Parameters
    ----------
    features : (N, F) float
        Any features of the images.
    landmarks : (N, 2) float
        px, NaN = unmarked.
    image_size : (int, int)
        ``(H, W)`` px.
    folds : int
        Outer folds, at random (seed 0). The strength is chosen within the training images by
        leave-one-out cross-validation, out of 17 between 1e-4 and 1e4 times the features' mean
        variance per image.

    Returns
    -------
    float
        Mean distance over all marked images, share of the diagonal.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold

    marked = np.isfinite(landmarks[:, 0])
    truth = landmarks[marked]
    # ridge regression depends on scalar products only: N numbers per image hold all of them
    x = np.asarray(features[marked], dtype=np.float32)
    x = x - x.mean(axis=0)
    values, vectors = np.linalg.eigh((x @ x.T).astype(np.float64))
    reduced = vectors * np.sqrt(np.maximum(values, 0))
    strengths = np.logspace(-4, 4, 17) * max(values.mean(), np.finfo(np.float64).tiny)
    errors = []
    for train, test in KFold(folds, shuffle=True, random_state=0).split(reduced):
        model = RidgeCV(strengths).fit(reduced[train], truth[train])
        errors.extend(np.linalg.norm(model.predict(reduced[test]) - truth[test], axis=1))
    return float(np.mean(errors) / np.hypot(*image_size))


def activation_features(maps: NDArray[Any]) -> NDArray[Any]:
    """All activations of an image as one row, each filter over its standard deviation."""
    deviation = maps.std(axis=(0, 2, 3), keepdims=True)
    scaled: NDArray[Any] = maps / np.maximum(deviation, 1e-6)
    return scaled.reshape(len(maps), -1)


# ------------------------------------------------------------------------------------------ methods


def measure(nodes: Nodes, sample: Sample) -> Row:
    """Measures 1 to 3 of nodes."""
    size = sample.activations.image_size
    return metrics.table_row(nodes.positions, nodes.scores, sample.landmarks, size)


def baseline_rows(sample: Sample, methods: Sequence[str], seed: int) -> Iterator[Row]:
    """Rows of the constant grid, raw peaks, NMF, the published model and ridge regression."""
    activations, landmarks = sample
    size = activations.image_size

    def row(layer: str, method: str, start: float, **measures: Any) -> Row:
        seconds = time.perf_counter() - start
        return {"layer": layer, "method": method, **measures, "seconds": seconds}

    if "grid" in methods:
        start = time.perf_counter()
        grid = constant_grid(activations.n_images, size, seed=seed)
        yield row("none", "constant grid", start, **metrics.table_row(*grid, landmarks, size))
    for layer, tensor in reversed(list(zip(activations.layers, activations.maps, strict=True))):
        maps = tensor.numpy()
        if "peaks" in methods:
            start = time.perf_counter()
            table = metrics.table_row(*raw_peaks(maps, layer), landmarks, size)
            yield row(layer.name, "raw peaks", start, **table)
        if "nmf" in methods:
            start = time.perf_counter()
            places = raw_peaks(nmf_concepts(maps, seed=seed), layer)
            table = metrics.table_row(*places, landmarks, size)
            yield row(layer.name, "NMF, 50 concepts", start, **table)
        if "ridge" in methods:
            start = time.perf_counter()
            error = ridge_error(activation_features(maps), landmarks, size)
            yield row(layer.name, "ridge, activations", start, ridge=error)
            places, _ = raw_peaks(maps, layer)
            start = time.perf_counter()
            error = ridge_error(places.reshape(len(places), -1), landmarks, size)
            yield row(layer.name, "ridge, raw peaks", start, ridge=error)
    for label, links in PUBLISHED.items() if "published" in methods else ():
        start = time.perf_counter()
        mined = mine_published(activations, links=links, seed=seed)
        seconds = time.perf_counter() - start
        for name, found in mined.items():
            arrays = (found.positions.flatten(1, 2).numpy(), found.scores.flatten(1).numpy())
            table = metrics.table_row(*arrays, landmarks, size)
            yield {"layer": name, "method": label, **table, "seconds": seconds}


def layer_names(sample: Sample) -> list[str]:
    """Names of the layers, top first."""
    return [layer.name for layer in reversed(sample.activations.layers)]


def best_of_layers(nodes: Nodes, names: Sequence[str], share: float) -> Nodes:
    """Nodes of all layers together, the best share of each."""
    kept = [np.flatnonzero(nodes.layer == name) for name in names]
    kept = [k[controls.best(nodes.reliability[k], share)] for k in kept if len(k)]
    return nodes.take(np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64))


def node_rows(sample: Sample, graph: Any, nodes: Nodes, seed: int) -> Iterator[Row]:
    """Rows of our nodes at several cut-offs."""
    size = sample.activations.image_size
    totals = {
        layer.name: maps.sum(dim=(0, 2, 3), dtype=torch.float64).numpy()
        for layer, maps in zip(sample.activations.layers, sample.activations.maps, strict=True)
    }
    names = layer_names(sample)
    for name in names:
        mine = nodes.of(name)
        for cut, share in CUTS.items():
            row = {"layer": name, "method": f"nodes, {cut}", **measure(mine.best(share), sample)}
            if cut == "all":
                row["energy"] = controls.energy_share(mine.energy, mine.filter, totals[name])
            if cut == "best quarter":
                places = mine.best(share).positions
                flat = places.reshape(len(places), -1)
                row["ridge"] = ridge_error(flat, sample.landmarks, size)
            yield row
        order = np.random.default_rng([seed, 2]).permutation(len(mine.filter))
        chosen = mine.take(order[: max(1, round(0.25 * len(order)))])
        yield {"layer": name, "method": "nodes, a random quarter", **measure(chosen, sample)}
    together = best_of_layers(nodes, names, 0.25)
    row = {"layer": ALL_LAYERS, "method": "nodes, best quarter", **measure(together, sample)}
    flat = together.positions.reshape(len(sample.landmarks), -1)
    yield row | {
        "ridge": ridge_error(flat, sample.landmarks, size),
        "edges": graph.nx.number_of_edges(),
    }


def evidence_rows(
    engine: Engine, sample: Sample, graph: Any, nodes: Nodes, seed: int
) -> Iterator[Row]:
    """Measure the best quarter with its prior alone, and with evidence that is not its own.

    The pose that is read off the layer's own grid is exchanged along with its maps.
    """
    activations = sample.activations
    for index, layer in reversed(list(enumerate(activations.layers))):
        rows = np.flatnonzero(nodes.layer == layer.name)
        if not len(rows):
            continue
        rows = rows[controls.best(nodes.reliability[rows], 0.25)]
        chosen = nodes.take(rows)
        order = controls.derangement(activations.n_images, np.random.default_rng([seed, 0]))
        other = activations.maps[index][torch.from_numpy(order)]
        moved = nodes_of(graph, engine.parse(graph, replaced(activations, {index: other})))
        tables = controls.evidence_rows(
            chosen.positions,
            chosen.scores,
            chosen.expected,
            moved.positions[:, rows],
            moved.scores[:, rows],
            sample.landmarks,
            activations.image_size,
        )
        for name in ("evidence shuffled", "prior only"):
            yield {"layer": layer.name, "method": f"best quarter, {name}", **tables[name]}
        second = rows[nodes.filter[rows] % 2 == 1]
        label = "best quarter's every second filter"
        parsed = engine.parse(graph, every_second(activations, [index], seed))
        exchanged = nodes_of(graph, parsed).take(second)
        yield {"layer": layer.name, "method": label, **measure(nodes.take(second), sample)}
        label += ", evidence shuffled"
        yield {"layer": layer.name, "method": label, **measure(exchanged, sample)}


def decoy_rows(engine: Engine, sample: Sample, seed: int) -> Iterator[Row]:
    """Share of decoys' nodes when every second filter's maps are exchanged before mining."""
    activations = sample.activations
    mixed = every_second(activations, range(len(activations.layers)), seed)
    start = time.perf_counter()
    graph = engine.mine(mixed, seed=seed)
    seconds = time.perf_counter() - start
    nodes = nodes_of(graph, engine.parse(graph, mixed))
    for name in layer_names(sample):
        mine = nodes.of(name)
        decoy = mine.filter % 2 == 1
        yield {
            "layer": name,
            "method": "mined with decoys",
            "nodes": float(len(decoy)),
            "decoys, all": float(decoy.mean()) if len(decoy) else float("nan"),
            "decoys, quarter": controls.decoy_share(mine.reliability, decoy, 0.25),
            "decoys, tenth": controls.decoy_share(mine.reliability, decoy, 0.1),
            "seconds": seconds,
        }


def half_rows(engine: Engine, sample: Sample, seed: int) -> Iterator[Row]:
    """Mined on every other photograph: measured there, on the rest, and against the other half."""
    size = sample.activations.image_size
    images = np.arange(sample.activations.n_images)
    halves = [sample.take(images[k::2]) for k in (0, 1)]
    start = time.perf_counter()
    graphs = [engine.mine(half.activations, seed=seed) for half in halves]
    seconds = (time.perf_counter() - start) / 2
    everywhere = [nodes_of(g, engine.parse(g, sample.activations)) for g in graphs]
    names = layer_names(sample)
    for label, half in (("mined half", 0), ("other half", 1)):
        nodes = nodes_of(graphs[0], engine.parse(graphs[0], halves[half].activations))
        method = f"best quarter, {label}"
        for name in names:
            table = measure(nodes.of(name).best(0.25), halves[half])
            yield {"layer": name, "method": method, **table, "seconds": seconds}
        table = measure(best_of_layers(nodes, names, 0.25), halves[half])
        yield {"layer": ALL_LAYERS, "method": method, **table, "seconds": seconds}
    for name in names:
        shares = []
        for a, b in (everywhere, everywhere[::-1]):
            chosen, others = a.of(name).best(0.25), b.of(name)
            found = controls.found_again(
                chosen.positions,
                chosen.filter.tolist(),
                others.positions,
                others.filter.tolist(),
                size,
            )
            shares.append(found.mean() if len(found) else np.nan)
        agreement = float(np.mean(shares))
        yield {"layer": name, "method": "agreement between halves", "agreement": agreement}


def graph_rows(engine: Engine, sample: Sample, methods: Sequence[str], seed: int) -> Iterator[Row]:
    """Rows of everything that mines."""
    names = layer_names(sample)
    if "nodes" in methods or "evidence" in methods:
        start = time.perf_counter()
        graph = engine.mine(sample.activations, seed=seed)
        seconds = time.perf_counter() - start
        nodes = nodes_of(graph, engine.parse(graph, sample.activations))
        if "nodes" in methods:
            for row in node_rows(sample, graph, nodes, seed):
                yield row | {"seconds": seconds}
        if "evidence" in methods:
            yield from evidence_rows(engine, sample, graph, nodes, seed)
    if "decoys" in methods:
        yield from decoy_rows(engine, sample, seed)
    if "halves" in methods:
        yield from half_rows(engine, sample, seed)
    for label, options in ABLATIONS.items() if "ablations" in methods else ():
        start = time.perf_counter()
        graph = engine.mine(sample.activations, seed=seed, **options)
        seconds = time.perf_counter() - start
        nodes = nodes_of(graph, engine.parse(graph, sample.activations))
        for name in names:
            table = measure(nodes.of(name).best(0.25), sample)
            method = f"best quarter, {label}"
            yield {"layer": name, "method": method, **table, "seconds": seconds}
        for row in evidence_rows(engine, sample, graph, nodes, seed):
            if row["method"] == "best quarter, evidence shuffled":
                yield row | {"method": f"best quarter, {label}, evidence shuffled"}


# ------------------------------------------------------------------------------------------- output


def markdown(rows: Sequence[Row]) -> str:
    """Means over the categories, with the standard deviation over categories, and over seeds.

    With several seeds each category counts with its mean over the seeds; a number in brackets is
    the standard deviation, over the seeds, of the mean over the categories.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["network"], row["layer"], row["method"]), []).append(row)
    columns = [c for c in COLUMNS if any(c in row for row in rows)]
    lines = [
        "| network | layer | method | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for key, group in groups.items():
        cells = [_cell(group, column) for column in columns]
        lines.append("| " + " | ".join([*key, *cells]) + " |")
    return "\n".join(lines)


def _cell(group: Sequence[Row], column: str) -> str:
    """Mean and spread of one column over the rows of one method."""
    seeds = sorted({row["seed"] for row in group})
    categories = sorted({row["category"] for row in group})
    values = np.full((len(seeds), len(categories)), np.nan)
    for row in group:
        if column in row:
            at = seeds.index(row["seed"]), categories.index(row["category"])
            values[at] = row[column]
    known = np.isfinite(values)
    values = values[known.any(axis=1)][:, known.any(axis=0)]
    if not values.size:
        return ""
    by_category = np.nanmean(values, axis=0)
    if column in ("nodes", "seconds"):
        return f"{by_category.mean():.{0 if column == 'nodes' else 1}f}"
    text = f"{by_category.mean():.3f}"
    if len(by_category) > 1:
        text += f" ± {by_category.std(ddof=1):.3f}"
    if len(values) > 1:
        text += f" ({np.nanmean(values, axis=1).std(ddof=1):.3f})"
    return text


def _categories(data: Path, wanted: Sequence[str] | None) -> Iterator[tuple[Path, str]]:
    """Folders with a parts.json and their categories' names; `wanted` by either."""
    found = {}
    for file in sorted(data.glob("*/parts.json")):
        found[file.parent] = str(json.loads(file.read_text()).get("category", file.parent.name))
    unknown = set(wanted or ()) - {f.name for f in found} - set(found.values())
    if not found or unknown:
        raise SystemExit(
            f"no category {', '.join(sorted(unknown))} in {data}; there are "
            f"{', '.join(found.values())}"
            if found
            else f"no */parts.json in {data}"
        )
    for folder, category in found.items():
        if not wanted or folder.name in wanted or category in wanted:
            yield folder, category


def main(arguments: Sequence[str] | None = None, engine: Engine | None = None) -> list[Row]:
    """Run the benchmark; `engine` stands in for explgraph in tests."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of category folders")
    parser.add_argument("--json", type=Path, required=True, help="file for the rows")
    parser.add_argument("--categories", nargs="+", help="names or folders (default: all)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["efficientnet-lite0"])
    parser.add_argument("--layers", nargs="+", help="default: the network's three")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--part", default="head")
    parser.add_argument("--crops", choices=("first", "all"), default="first")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    options = parser.parse_args(arguments)
    setting.announce()

    needs_engine = not set(options.methods) <= {"grid", "peaks", "nmf", "published", "ridge"}
    if needs_engine and engine is None:
        engine = the_engine()
    categories = list(_categories(options.data, options.categories))
    rows: list[Row] = []
    for name in options.networks:
        network = importlib.import_module(NETWORKS[name])
        for folder, category in categories:
            start = time.perf_counter()
            layers = options.layers or network.LAYERS
            sample = load(folder, network, layers, options.part, options.crops)
            for seed in options.seeds:
                found = list(baseline_rows(sample, options.methods, seed))
                if engine is not None and needs_engine:
                    found += graph_rows(engine, sample, options.methods, seed)
                where = {"network": name, "category": category, "part": options.part, "seed": seed}
                rows += [where | row for row in found]
            setting.write(options.json, {"crops": options.crops, "rows": rows})
            seconds = time.perf_counter() - start
            print(f"{name}, {category}: {seconds:.0f} s", file=sys.stderr, flush=True)
    print(markdown(rows))
    return rows


if __name__ == "__main__":
    main()
