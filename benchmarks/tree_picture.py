"""Draws ``docs/pictures/tree.png``: the two ways to be a guardian, and the parts that tell them.

    python benchmarks/tree_picture.py [--out docs/pictures/tree.png]

Everything in it is drawn and mined anew, in seconds on a CPU. A row is a decision mode; dots are
the nodes that add most to the class's score in the mode's images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from explgraph import DecisionTree, creatures, mine
from explgraph.atomic import atomic_write
from explgraph.views.figures import PALETTE

GUARDIAN = creatures.OUTPUTS.index("guardian")
SHOWN, NODES = 6, 3


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
    modes = tree.modes[0].children
    figure = Figure(figsize=(9, 1.9 * len(modes)), dpi=90, layout="constrained")
    axes = figure.subplots(len(modes), SHOWN, squeeze=False)
    of_class = np.flatnonzero(positive)
    for row, number in zip(axes, modes, strict=True):
        mode = tree.modes[number]
        parts = list(tree.parts_of(number).items())[:NODES]
        for ax, i in zip(row, of_class[list(mode.images)], strict=False):
            ax.imshow(drawn.images[i], extent=(0, creatures.SIZE, creatures.SIZE, 0))
            for (node, adds), colour in zip(parts, PALETTE, strict=False):
                place = parse.positions[i, parse.nodes.index(node)]
                ax.plot(*place, "o", color=colour, mec="w", ms=7, label=f"{node} {adds:+.2f}")
        for ax in row:
            ax.set(xlim=(0, creatures.SIZE), ylim=(creatures.SIZE, 0))
            ax.axis("off")
        row[0].set_title(f"{len(mode.images)} of {len(of_class)} guardians", loc="left", fontsize=9)
        row[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)
    with atomic_write(options.out) as path:
        figure.savefig(path, format="png")


if __name__ == "__main__":
    main()
