"""How well parts are located from few marks: errors, coverage, what suggestions are worth.

    python benchmarks/localization.py --data ../shared/animalparts --json localization.json

For every category of photographs (EfficientNet-Lite0, three layers, one crop per photograph; parts
of its ``parts.json``) or for creatures (``--small``, or without ``--data``) a graph is mined, and
each part is located in all marked images but the shots, which are drawn ``--draws`` times. Errors
are mean distances, shares of the diagonal. Methods:

==================  ================================================================================
localizer           `explgraph.Localizer`, all nodes; `coverage`: share of images in which the part
                    lies within the uncertainty, which should be 0.9
suggested           the same, marks in the images that `Localizer.suggest` names, once
neutral voter       `metrics.few_shot_error`: the best quarter of each layer's nodes, as
                    in the table of `quality.py`, and all nodes; "near" expects near nodes to be
                    more rigid
mean mark           the marks' mean place in every image
ridge, LAYER        ridge regression from all of a layer's activations, from four fifths of all
                    marks (`quality.ridge_error`)
==================  ================================================================================

Rows go to the JSON file: category, part, method, k, error, coverage, templates (mean number),
images (marked ones). The means over categories are printed, by kind of part: heads, and others.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import efficientnet_lite0, quality, setting
from explgraph import (
    ExplanatoryGraph,
    ImageFolder,
    Localizer,
    Parse,
    creatures,
    mine_activations,
    parse_activations,
    record,
)
from explgraph.activations.memory import Activations
from explgraph.evaluation.landmarks import from_creatures, read_landmarks
from explgraph.evaluation.metrics import few_shot_error

Array = NDArray[np.float64]
Row = dict[str, Any]

SHOTS = (1, 3, 6, 10, 50)


class Scene(NamedTuple):
    """Images with marked parts, and a graph of them."""

    activations: Activations
    parts: Mapping[str, Array]
    graph: ExplanatoryGraph
    parse: Parse


def inside(parts: Mapping[str, Array], image_size: tuple[int, int]) -> dict[str, Array]:
    """Leave out marks outside the image."""
    height, width = image_size
    kept = {}
    for name, places in parts.items():
        with np.errstate(invalid="ignore"):
            seen = np.all((places >= 0) & (places <= [width, height]), axis=1)
        kept[name] = np.where(seen[:, None], places, np.nan)
    return kept


def scene(activations: Activations, parts: Mapping[str, Array]) -> Scene:
    """Mine images and parse them. Marks outside the image are left out."""
    graph = mine_activations(activations, seed=0)
    marks = inside(parts, activations.image_size)
    return Scene(activations, marks, graph, parse_activations(graph, activations))


def of_creatures(n: int) -> Scene:
    """Draw creatures."""
    drawn = creatures.draw(n, seed=1)
    activations = record(creatures.network(), drawn.tensor(), creatures.LAYERS)
    return scene(activations, from_creatures(drawn).parts)


def of_photographs(folder: Path) -> Scene:
    """Record a category's photographs."""
    network = efficientnet_lite0
    sample = quality.load(folder, network, network.LAYERS, "head", "first")
    images = ImageFolder(folder, size=network.SIZE, mean=network.MEAN, std=network.STD)
    marks = read_landmarks(folder / "parts.json").to_network(images)
    return scene(sample.activations, marks.align(sample.activations.names).parts)


def draws_of(places: Array, k: int, draws: int) -> list[tuple[NDArray[np.int64], Any]]:
    """Shots and the other marked images, as `few_shot_error` draws them."""
    marked = np.flatnonzero(np.isfinite(places[:, 0]))
    rng = np.random.default_rng(0)
    orders = [marked[rng.permutation(len(marked))] for _ in range(draws)]
    return [(order[:k], order[k:]) for order in orders]


def only(places: Array, shots: Any) -> Array:
    """Leave only the marks of the shots."""
    marks = np.full(places.shape, np.nan)
    marks[shots] = places[shots]
    return marks


def mean_mark_error(places: Array, k: int, draws: int, image_size: tuple[int, int]) -> float:
    """Error of the marks' mean place, share of the diagonal."""
    errors = [
        np.linalg.norm(places[shot].mean(axis=0) - places[rest], axis=1).mean()
        for shot, rest in draws_of(places, k, draws)
    ]
    return float(np.mean(errors) / np.hypot(*image_size))


def localizer_rows(
    part: str, place: Scene, shots: Sequence[int], draws: int, *, suggest: bool = True
) -> Iterator[Row]:
    """Rows of the localizer, with random marks and with suggested ones."""
    places = place.parts[part]
    diagonal = float(np.hypot(*place.graph.image_size))
    marked = np.flatnonzero(np.isfinite(places[:, 0]))
    candidates = Parse(
        place.parse.nodes,
        tuple(place.parse.names[i] for i in marked),
        place.parse.positions[marked],
        place.parse.expected[marked],
        place.parse.scores[marked],
        place.parse.image_size,
    )
    for k in shots:
        if len(marked) < k + 20:
            continue
        choices = {"localizer": draws_of(places, k, draws)}
        if suggest:
            suggested = marked[Localizer(place.graph).suggest(candidates, k)]
            choices["suggested"] = [(suggested, np.setdiff1d(marked, suggested))]
        for method, chosen in choices.items():
            # every draw is a part of its own, so that what needs no marks is computed once
            localizer = Localizer(place.graph).fit(
                place.parse, {str(i): only(places, shot) for i, (shot, _) in enumerate(chosen)}
            )
            located = localizer.predict(place.parse)
            found, radius = located.positions, located.uncertainty
            errors, covered, templates = [], [], []
            for i, (_, rest) in enumerate(chosen):
                miss = np.linalg.norm(found[str(i)][rest] - places[rest], axis=1)
                errors.append(miss.mean() / diagonal)
                covered.append((miss <= radius[str(i)][rest]).mean())
                templates.append(len(localizer.templates(str(i))))
            yield {
                "method": method,
                "k": k,
                "error": float(np.mean(errors)),
                "coverage": float(np.mean(covered)),
                "templates": float(np.mean(templates)),
            }


def baseline_rows(part: str, place: Scene, shots: Sequence[int], draws: int) -> Iterator[Row]:
    """Rows of voters, of the mean mark and of ridge regression."""
    places, size = place.parts[part], place.graph.image_size
    nodes = quality.nodes_of(place.graph, place.parse)
    names = [layer.name for layer in place.graph.layers]
    quarter = quality.best_of_layers(nodes, names, 0.25)
    marked = int(np.isfinite(places[:, 0]).sum())
    for k in (k for k in shots if marked >= k + 20):
        error = mean_mark_error(places, k, draws, size)
        yield {"method": "mean mark", "k": k, "error": error}
        for method, kept, prior in (
            ("neutral voter, best quarter", quarter, "neutral"),
            ("near voter, best quarter", quarter, "near"),
            ("neutral voter, all nodes", nodes, "neutral"),
        ):
            error = few_shot_error(
                kept.positions, kept.scores, places, size, k, prior=prior, draws=draws
            )  # fmt: skip
            yield {"method": method, "k": k, "error": error}
    for layer, maps in zip(place.activations.layers, place.activations.maps, strict=True):
        error = quality.ridge_error(quality.activation_features(maps.numpy()), places, size)
        yield {"method": f"ridge, {layer.name}", "k": 4 * marked // 5, "error": error}


def markdown(rows: Sequence[Row]) -> str:
    """Means over categories and parts: heads, other parts."""
    lines = ["| part | method | k | error | coverage |", "|---|---|---:|---:|---:|"]
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        kind = "head" if row["part"] == "head" else "others"
        k = row["k"] if not row["method"].startswith("ridge") else 0
        groups.setdefault((kind, row["method"], k), []).append(row)
    for (kind, method, k), group in sorted(groups.items()):
        error = f"{np.mean([row['error'] for row in group]):.4f}"
        covered = [row["coverage"] for row in group if "coverage" in row]
        share = f"{np.mean(covered):.3f} ({min(covered):.2f}-{max(covered):.2f})" if covered else ""
        lines.append(f"| {kind} | {method} | {k or '4/5 of all'} | {error} | {share} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of category folders")
    parser.add_argument("--categories", nargs="+", help="names or folders (default: all)")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--small", action="store_true", help="creatures, in seconds, for CI")
    options = parser.parse_args(arguments)
    setting.announce()
    if options.small:
        shots, draws = (1, 3, 10), 2
        scenes = iter([("creatures", of_creatures(100))])
    else:
        shots, draws = SHOTS, options.draws
        scenes = (
            ((name, of_photographs(folder))
             for folder, name in quality._categories(options.data, options.categories))
            if options.data
            else iter([("creatures", of_creatures(200))])
        )  # fmt: skip
    rows: list[Row] = []
    start = time.perf_counter()
    for category, place in scenes:
        for part, places in place.parts.items():
            where = {"category": category, "part": part}
            where["images"] = int(np.isfinite(places[:, 0]).sum())
            rows += [where | row for row in localizer_rows(part, place, shots, draws)]
            rows += [where | row for row in baseline_rows(part, place, shots, draws)]
        if options.json:
            setting.write(options.json, rows)
        seconds = time.perf_counter() - start
        print(f"{category}: {seconds:.0f} s so far", file=sys.stderr, flush=True)
    print(markdown(rows))
    return rows


if __name__ == "__main__":
    main()
