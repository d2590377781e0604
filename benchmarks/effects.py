"""Estimated effects beside true ablation: how far they agree, and what each costs.

    python benchmarks/effects.py --data ../shared/animalparts/n02129604 --json effects.json

Settings: creatures (the network that ships; images that were not mined), and with ``--data`` the
photographs of a folder with EfficientNet-Lite0: the 300 most reliable nodes, 40 images.
``--small`` is for CI.
Columns:

==================  ================================================================================
edges, images       that effects are estimated for, and over
rank correlation    Spearman's, of estimated effects and true ablation of a sample of edges
..., classes        the same for the effects of single nodes on a class's score
..., contributions  the same nodes' contributions in place of their effects
missed              by layer, the highest first: by how much effects, added up over all units, miss
                    what the layer carries of the score, as a share of it
..., contributions  the same for contributions: their residual
by edges, order     by layer, without the highest: share of nodes' effects that goes through the
                    graph's edges; rank correlation of both (`class_effects.layer_effects`)
seconds             of processor time, for all edges and a class, by estimation
check               the same for true ablation of the sample, as the command's ``--check`` does it
ablation            the same for true ablation of all edges, from the sample: for each child a
                    forward pass from its layer upwards
==================  ================================================================================
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import efficientnet_lite0, setting
from explgraph import ExplanatoryGraph, ImageFolder, ablate, creatures, edge_effects, mine
from explgraph.answers.class_effects import layer_effects
from explgraph.answers.effects import check_effects
from explgraph.answers.evidence import node_evidence
from explgraph.answers.significance import rank_correlation
from explgraph.graph.schema import CLASS_EFFECT
from explgraph.images.batches import AnyImages

CLASSES = {"n02129604": 292, "n02509815": 387}
"""ImageNet's numbers of the categories that are one of its classes: tiger, red panda."""


class Setting(NamedTuple):
    """What effects are measured in."""

    name: str
    model: torch.nn.Module
    graph: ExplanatoryGraph
    images: AnyImages
    n_images: int
    target: int


def of_creatures(small: bool) -> Setting:
    """Take the network that ships, and creatures that were not mined; class "guardian"."""
    model = creatures.network()
    mined, n = (60, 8) if small else (300, 32)
    graph = mine(model, creatures.draw(mined, seed=1).tensor(), creatures.LAYERS, seed=0)
    images = creatures.draw(n, seed=2).tensor()
    return Setting("creatures", model, graph, images, n, 1)


def of_photographs(folder: Path, small: bool) -> Setting:
    """Take EfficientNet-Lite0, 40 photographs of a category and its most reliable nodes."""
    network = efficientnet_lite0
    model = network.network()
    images = ImageFolder(folder, size=network.SIZE, mean=network.MEAN, std=network.STD)
    graph = mine(model, images, network.LAYERS, seed=0).prune(top=60 if small else 300)
    n = 4 if small else 40
    some = images.subset(range(0, len(images), len(images) // n)).subset(range(n))
    return Setting(folder.name, model, graph, some, len(some), CLASSES.get(folder.name, 0))


def measure(setting: Setting, sample: int) -> dict[str, Any]:
    """Estimate all effects, ablate a sample, and compare."""
    _, model, graph, images, n_images, target = setting
    began = time.process_time()
    measured = edge_effects(model, graph, images, classes={"it": target})
    seconds = time.process_time() - began
    began = time.process_time()
    check = check_effects(model, measured, images, edges=sample)
    passes = len({child for _, child in check.edges})
    checked = time.process_time() - began
    children = {child for _, child in graph.nx.edges}
    nodes = np.random.default_rng(0).permutation(graph.node_ids)[: sample // 3].tolist()
    truth = [-ablate(model, graph, images, [node]).change[:, target].mean() for node in nodes]
    guess = [measured.nx.nodes[node][CLASS_EFFECT + "it"] for node in nodes]
    layers = layer_effects(measured, "it")[::-1]
    added: dict[str, float] = {}
    left = []
    for one in layers:
        found = node_evidence(model, graph, images, [target], layer=one.layer)
        added |= dict(zip(found.nodes, found.values[:, 0].mean(0).tolist(), strict=True))
        left.append(abs(found.rests.residual.mean()) / abs(one.carried))
    contributions = np.array([added[node] for node in nodes])
    missed = [abs(one.rests.residual) / abs(one.carried) for one in layers]
    return {
        "setting": setting.name,
        "nodes": len(graph),
        "edges": graph.nx.number_of_edges(),
        "images": n_images,
        "rank correlation": check.rank_correlation,
        "rank correlation, classes": rank_correlation(np.array(guess), np.array(truth)),
        "..., contributions": rank_correlation(contributions, np.array(truth)),
        "missed": _listed(missed),
        "missed, contributions": _listed(left),
        "by edges": _listed(one.share for one in layers[1:]),
        "order": _listed(one.rank_correlation for one in layers[1:]),
        "seconds": seconds,
        "check": checked,
        "ablation": checked / passes * len(children),
    }


def _listed(values: Iterable[float]) -> str:
    """Give the layers' values in a cell."""
    return ", ".join(f"{value:.2f}" for value in values)


def markdown(rows: list[dict[str, Any]]) -> str:
    """Give the rows as a table."""
    lines = [f"| {' | '.join(rows[0])} |", "|---" + "|---:" * (len(rows[0]) - 1) + "|"]
    for row in rows:
        cells = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders of photographs")
    parser.add_argument("--small", action="store_true", help="in seconds, for CI")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    setting.announce()
    rows = [measure(of_creatures(options.small), 30 if options.small else 200)]
    rows += [
        measure(of_photographs(folder, options.small), 12 if options.small else 100)
        for folder in options.data
    ]
    print(markdown(rows))
    if options.json:
        setting.write(options.json, rows)


if __name__ == "__main__":
    main()
