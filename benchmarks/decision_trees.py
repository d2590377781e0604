"""Decision trees: are planted ways to be in a class found, do modes stand for the network.

    python benchmarks/decision_trees.py --data ../shared/animalparts --json trees.json

Settings: the guardians among creatures (horns or wings, not both) with the network that ships, over
several draws; with ``--data`` also photographs (tigers, red pandas; EfficientNet-Lite0), where
every other photograph is fitted to and the rest measured, and the other categories are what the
class is told from. ``--small`` is for CI. Columns, all on images that nothing was fitted to:

==================  ================================================================================
ARI, ARI new        adjusted Rand index of images and planted ways: as merged, and as new images are
                    routed (depth 1; creatures only)
depth, modes        of the tree; depth 0 is one rationale for the whole class
parts               that a mode has, mean
contribution error  to fitness, accuracy, prediction error, explained variance: see
                    `explgraph.answers.tree_measures.Measures`; contributions are measured against
                    true ablation of the 12 parts that contribute most
CART                prediction error and explained variance of a regression tree (scikit-learn) on
                    the same contributions, with as many leaves as there are modes (at least 2)
==================  ================================================================================
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score
from sklearn.tree import DecisionTreeRegressor

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import efficientnet_lite0, setting
from benchmarks.effects import CLASSES, markdown
from explgraph import DecisionTree, ExplanatoryGraph, ImageFolder, ablate, creatures, mine
from explgraph.answers.rationales import Rationales, rationales
from explgraph.evaluation.landmarks import read_landmarks
from explgraph.explaining.attribution import Rests

REMOVED = 12
GUARDIAN = 1
DEPTHS = (0, 1, 2, 3, 5, 10, 1000)


class Half(NamedTuple):
    """Images that are fitted to, or measured on.

    Attributes
    ----------
    found : Rationales
    positive : (N,) bool
        Which are of the class.
    ways : (N,) or None
        Planted ways to be in it.
    """

    found: Rationales
    positive: NDArray[np.bool_]
    ways: NDArray[np.bool_] | None


def guardians(model: torch.nn.Module, graph: ExplanatoryGraph, n: int, seed: int) -> Half:
    """Draw creatures; those that are guardians, and seen as such, are the class."""
    drawn = creatures.draw(n, seed=seed)
    found = rationales(model, graph, drawn.tensor(), GUARDIAN)
    with torch.no_grad():
        families = model(drawn.tensor())[:, : len(creatures.FAMILIES)].argmax(1).numpy()
    right = (families == GUARDIAN) & (drawn.labels == GUARDIAN)
    return Half(found, right, drawn.attributes["horns"])


def of_creatures(small: bool) -> list[dict[str, Any]]:
    """Measure trees of guardians."""
    model = creatures.network()
    mined, n = (100, 120) if small else (300, 400)
    rows = []
    for layer in ("stage4",) if small else ("stage4", "stage3"):
        graph = mine(model, creatures.draw(mined, seed=1).tensor(), creatures.LAYERS, seed=0)
        graph = graph.subgraph([layer])
        for seed in range(1 if small else 3):
            fitted = guardians(model, graph, n, 100 + seed)
            new = guardians(model, graph, n, 200 + seed)
            truth = None
            if not seed:
                mine_only = creatures.draw(n, seed=200).tensor()[torch.from_numpy(new.positive)]
                truth = removed(model, graph, mine_only, new, GUARDIAN)
            rows += table(f"guardians, {layer}, draw {seed}", fitted, new, truth)
    return rows


def of_photographs(data: Path, category: str) -> list[dict[str, Any]]:
    """Measure the tree of a category that is one of ImageNet's classes."""
    network, target = efficientnet_lite0, CLASSES[category]
    model = network.network()

    def folder(name: str) -> ImageFolder:
        images = ImageFolder(data / name, size=network.SIZE, mean=network.MEAN, std=network.STD)
        return images.subset(read_landmarks(data / name / "parts.json").one_per_source())

    mine_all = folder(category)
    halves = [mine_all.subset(range(k, len(mine_all), 2)) for k in (0, 1)]
    graph = mine(model, halves[0], network.LAYERS, seed=0).subgraph(network.LAYERS[:1])
    others = [folder(p.name) for p in sorted(data.glob("n*")) if p.name != category]
    measured = []
    for k, half in enumerate(halves):
        parts = [rationales(model, graph, half, target)]
        # as many others as there are of the class
        per = -(-len(half) // len(others))
        parts += [
            rationales(model, graph, other.subset(range(k, 2 * per, 2)), target) for other in others
        ]
        positive = np.arange(sum(len(part.names) for part in parts)) < len(half)
        names = tuple(name for part in parts for name in part.names)
        columns = ("activations", "contributions", "scores", "first")
        joined = (np.concatenate([getattr(part, name) for part in parts]) for name in columns)
        rests = Rests.joined([part.rests for part in parts])
        found = Rationales(parts[0].nodes, names, *joined, rests)
        measured.append(Half(found, positive, None))
    truth = removed(model, graph, halves[1], measured[1], target)
    return table(f"{category}, {network.LAYERS[0]}", *measured, truth)


def removed(
    model: torch.nn.Module, graph: ExplanatoryGraph, images: Any, half: Half, target: int
) -> dict[str, NDArray[np.float64]]:
    """Take away, one by one, the parts that contribute most to the class's images."""
    size = np.abs(half.found.contributions[half.positive]).mean(0)
    truth = {}
    for d in np.argsort(-size)[:REMOVED].tolist():
        values = np.full(len(half.positive), np.nan)
        node = half.found.nodes[d]
        values[half.positive] = -ablate(model, graph, images, [node]).change[:, target]
        truth[node] = values
    return truth


def table(
    setting: str, fitted: Half, new: Half, truth: dict[str, NDArray[np.float64]] | None
) -> list[dict[str, Any]]:
    """Grow a tree and measure it by depth, beside CART."""
    began = time.perf_counter()
    tree = DecisionTree.grow(fitted.found, fitted.positive)
    seconds = time.perf_counter() - began
    known, fresh = fitted.found.take(fitted.positive), new.found.take(new.positive)
    indices: dict[str, float | str] = {"ARI": "", "ARI new": ""}
    if fitted.ways is not None and new.ways is not None:
        merged = np.empty(len(known.names), int)
        for number in tree.modes[0].children:
            merged[list(tree.modes[number].images)] = number
        routed = [path[-1] for path in tree.route(fresh, 1)]
        indices = {
            "ARI": adjusted_rand_score(fitted.ways[fitted.positive], merged),
            "ARI new": adjusted_rand_score(new.ways[new.positive], routed),
        }
    rows = []
    for measures in tree.measure(new.found, new.positive, depths=DEPTHS, removed=truth):
        cart = DecisionTreeRegressor(max_leaf_nodes=max(2, measures.modes), random_state=0)
        guess = cart.fit(known.contributions, known.scores).predict(fresh.contributions)
        missed = guess - fresh.scores
        row = {name.replace("_", " "): value for name, value in measures._asdict().items()}
        if truth is None:
            row["contribution error"] = ""
        rows.append(
            {"setting": setting, "images": len(known.names)}
            | (indices if measures.depth == 1 else dict.fromkeys(indices, ""))
            | row
            | {
                "CART: prediction error": np.abs(missed).mean() / np.ptp(fresh.scores),
                "CART: explained variance": 1 - (missed**2).mean() / fresh.scores.var(),
                "seconds": seconds,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of the categories' folders")
    parser.add_argument("--small", action="store_true", help="in seconds, for CI")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument(
        "--settings",
        nargs="+",
        choices=("creatures", *CLASSES),
        default=("creatures", *CLASSES),
        help="only these; photographs need --data",
    )
    options = parser.parse_args()
    setting.announce()
    rows = of_creatures(options.small) if "creatures" in options.settings else []
    if options.data:
        for category in CLASSES:
            if category in options.settings:
                rows += of_photographs(options.data, category)
    print(markdown(rows))
    if options.json:
        setting.write(options.json, rows)


if __name__ == "__main__":
    main()
