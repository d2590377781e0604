"""Draws ``docs/pictures/tree.png``: the two ways to be a guardian, and the parts that tell them.

    python benchmarks/tree_picture.py [--out docs/pictures/tree.png]

Everything in it is drawn and mined anew, in seconds on a CPU. A row is a decision mode; a mark is
where the nodes are that are nearest to one part of the mode's creatures and add most to the class's
score in them: named by the part, for creatures' parts are known.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from explgraph import DecisionTree, creatures, mine
from explgraph.atomic import atomic_write
from explgraph.evaluation.landmarks import from_creatures
from explgraph.views.figure_style import MARKERS, PALETTE

GUARDIAN = creatures.OUTPUTS.index("guardian")
SHOWN, PARTS = 5, 3
AT_THE_HORN = ("head", "eye", "ear")  # all creatures have these, and no family is told by them


def nearest(at: NDArray[np.float64], parts: dict[str, NDArray[np.float64]]) -> str:
    """Name the part that a node is nearest to, of those that most of the creatures have."""
    away = {
        part: np.nanmedian(np.linalg.norm(at - places, axis=1))
        for part, places in parts.items()
        if np.isfinite(places[:, 0]).mean() > 0.5
    }
    return min(away, key=lambda part: away[part]).replace("_", " ")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/tree.png"))
    options = parser.parse_args()
    model = creatures.network()
    drawn = creatures.draw(240, seed=2)
    graph = mine(model, creatures.draw(200, seed=1).tensor(), ["stage4", "stage3"], seed=0)
    positive = drawn.labels == GUARDIAN
    tree = DecisionTree.fit(model, graph, drawn.tensor(), GUARDIAN, positive=positive)
    parse = graph.parse(model, drawn.tensor())
    parts = {k: v for k, v in from_creatures(drawn).parts.items() if k not in AT_THE_HORN}
    looks = {}  # the same part looks the same in all rows
    modes = tree.modes[0].children
    figure = Figure(figsize=(10, 2.2 * len(modes)), dpi=90, layout="constrained")
    axes = figure.subplots(len(modes), SHOWN, squeeze=False)
    of_class = np.flatnonzero(positive)
    for row, number in zip(axes, modes, strict=True):
        mode = tree.modes[number]
        held: dict[str, list[str]] = {}
        adds = tree.parts_of(number)
        here = of_class[list(mode.images)]
        for node in adds:
            at = parse.positions[here, parse.nodes.index(node)]
            part = nearest(at, {name: places[here] for name, places in parts.items()})
            held.setdefault(part, []).append(node)
        total = {part: sum(adds[node] for node in nodes) for part, nodes in held.items()}
        told = sorted(total, key=lambda part: -total[part])[:PARTS]
        for part in told:
            looks.setdefault(part, (PALETTE[len(looks)], MARKERS[len(looks)]))
        for ax, i in zip(row, here, strict=False):
            ax.imshow(drawn.images[i], extent=(0, creatures.SIZE, creatures.SIZE, 0))
            for part in told:
                columns = [parse.nodes.index(node) for node in held[part]]
                weight = [max(adds[node], 1e-6) for node in held[part]]
                place = np.average(parse.positions[i, columns], axis=0, weights=weight)
                colour, marker = looks[part]
                nodes = f"{len(columns)} node{'s' * (len(columns) > 1)}"
                label = f"{part} {total[part]:+.1f} ({nodes})"
                ax.plot(*place, marker, color=colour, mec="black", mew=1.2, ms=10, label=label)
        for ax in row:
            ax.set(xlim=(0, creatures.SIZE), ylim=(creatures.SIZE, 0))
            ax.axis("off")
        row[0].set_title(
            f"{len(mode.images)} of {len(of_class)} guardians: by {told[0]}", loc="left"
        )
        row[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    with atomic_write(options.out) as path:
        figure.savefig(path, format="png")


if __name__ == "__main__":
    main()
