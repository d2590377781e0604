"""Draws ``docs/pictures/effects.png``: what a class depends on, and how well effects are estimated.

    python benchmarks/effects_picture.py [--out docs/pictures/effects.png]

Everything in it is drawn and mined anew, in seconds on a CPU. Left: dragons, and the nodes that
their score depends on most (red: it falls without them; blue: it rises; area: how much). Middle:
what the families' scores of dragons do without the nodes that follow wings, and without those that
follow horns: they get less of a dragon and more of a beast. Right: the estimated effects of edges
beside true ablation.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from explgraph import ablate, creatures, edge_effects, mine
from explgraph.answers.effects import Check, check_effects
from explgraph.atomic import atomic_write
from explgraph.evaluation.landmarks import from_creatures
from explgraph.evaluation.planted import node_parts
from explgraph.graph.schema import CLASS_EFFECT

DRAGON = creatures.OUTPUTS.index("dragon")
SHOWN, NODES, EDGES = 2, 25, 150
FOR, AGAINST = "#d62728", "#1f77b4"
PARTS = "0.35", "0.7"  # colours


def show_changes(ax: Axes, changes: dict[str, NDArray[np.float64]]) -> None:
    """Draw by how much each family's score changes, for each of the parts taken away."""
    at = np.arange(len(creatures.FAMILIES))
    for number, (label, change) in enumerate(changes.items()):
        ax.barh(at + 0.4 * number - 0.2, change, 0.36, color=PARTS[number], label=label)
    ax.axvline(0, color="0.3", lw=0.8)
    ax.set_yticks(at, creatures.FAMILIES)
    ax.set_title("dragons' scores change by", fontsize=10)
    ax.legend(fontsize=8, frameon=False, handlelength=1, loc="right", bbox_to_anchor=(1, 0.72))


def show_check(ax: Axes, check: Check) -> None:
    """Draw estimated effects beside true ablation."""
    ax.axline((0, 0), slope=1, color="0.7", lw=0.8)
    ax.plot(check.ablated, check.estimated, "o", ms=3, alpha=0.5, color=AGAINST, mew=0)
    ax.set_title(f"effects of {len(check.edges)} links", fontsize=10)
    ax.set_xlabel("true ablation", fontsize=8)
    ax.set_ylabel("estimated", fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/effects.png"))
    options = parser.parse_args()
    model = creatures.network()
    graph = mine(model, creatures.draw(200, seed=1).tensor(), ["stage4", "stage3"], seed=0)
    drawn = creatures.draw(200, seed=2)
    dragons = np.flatnonzero(drawn.labels == creatures.FAMILIES.index("dragon"))
    images = drawn.tensor()[dragons]
    graph = edge_effects(model, graph, images, classes={"dragon": DRAGON})
    effect = np.array([a[CLASS_EFFECT + "dragon"] for a in graph.nx.nodes.values()])
    parse = graph.parse(model, images)
    parts = {name: places[dragons] for name, places in from_creatures(drawn).parts.items()}
    follows = np.array([str(part) for part in node_parts(parse.positions, parts)])

    figure = Figure(figsize=(11, 3), dpi=90, layout="constrained")
    *pictures, scores, check = figure.subplots(1, SHOWN + 2, width_ratios=[1] * SHOWN + [1.2, 1])
    strongest = np.argsort(-np.abs(effect))[:NODES]
    for i, ax in enumerate(pictures):
        ax.imshow(drawn.images[dragons[i]], extent=(0, creatures.SIZE, creatures.SIZE, 0))
        colour = np.where(effect[strongest] > 0, FOR, AGAINST)
        area = 130 * np.abs(effect[strongest]) / np.abs(effect).max()
        ax.scatter(*parse.positions[i, strongest].T, area, colour, edgecolors="w", linewidths=0.4)
        ax.set(xlim=(0, creatures.SIZE), ylim=(creatures.SIZE, 0))
        ax.axis("off")
    pictures[0].set_title(f"the {NODES} nodes that matter most", fontsize=10, loc="left")
    pictures[1].set_title("to being a dragon", fontsize=10, loc="left")
    changes = {}
    for part in ("wing", "horn"):
        nodes = [node for node, name in zip(parse.nodes, follows, strict=True) if name == part]
        change = ablate(model, graph, images, nodes).change.mean(0)
        changes[f"no {part}: {len(nodes)} nodes"] = change[: len(creatures.FAMILIES)]
    show_changes(scores, changes)
    show_check(check, check_effects(model, graph, images, edges=EDGES))
    for ax in (scores, check):
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    with atomic_write(options.out) as path:
        figure.savefig(path, format="png")


if __name__ == "__main__":
    main()
