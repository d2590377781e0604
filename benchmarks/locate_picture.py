"""Draws ``docs/pictures/locate.png``: six marked creatures, and the parts located in others.

    python benchmarks/locate_picture.py [--out docs/pictures/locate.png]

Everything in it is drawn and mined anew, in seconds on a CPU. Crosses: marks; dots: where the
localizer finds the parts, with the circle that holds the part nine times in ten.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from explgraph import Localizer, creatures, mine
from explgraph.atomic import atomic_write
from explgraph.evaluation.landmarks import from_creatures
from explgraph.views.figures import PALETTE

PARTS = ("eye", "horn", "chest", "rump")
MARKED, SHOWN = 6, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/locate.png"))
    options = parser.parse_args()
    model = creatures.network()
    drawn, new = creatures.draw(150, seed=1), creatures.draw(SHOWN, seed=2)
    graph = mine(model, drawn.tensor(), creatures.LAYERS, seed=0)
    parse = graph.parse(model, drawn.tensor())
    localizer = Localizer(graph)
    shots = localizer.suggest(parse, MARKED)
    marks = {}
    for part, places in from_creatures(drawn).parts.items():
        if part in PARTS:
            marks[part] = np.where(np.isin(np.arange(150), shots)[:, None], places, np.nan)
    localizer.fit(parse, marks)
    found = graph.parse(model, new.tensor())
    located = localizer.predict(found)
    positions, uncertainty = located.positions, located.uncertainty

    figure = Figure(figsize=(9, 3.3), dpi=90, layout="constrained")
    axes = figure.subplots(2, SHOWN)
    side = creatures.SIZE
    for column in range(SHOWN):
        above, below = axes[:, column]
        above.imshow(drawn.images[shots[column]], extent=(0, side, side, 0))
        below.imshow(new.images[column], extent=(0, side, side, 0))
        for part, colour in zip(PARTS, PALETTE, strict=False):
            above.plot(*marks[part][shots[column]], "x", color=colour, mew=2)
            if part == "horn" and not new.attributes["horns"][column]:
                continue  # a place is given for absent parts, too
            centre = positions[part][column]
            below.plot(*centre, "o", color=colour, ms=4, label=part)
            below.add_patch(Circle(centre, uncertainty[part][column], fill=False, color=colour))
        for ax in (above, below):
            ax.set(xlim=(0, side), ylim=(side, 0))
            ax.axis("off")
    axes[0, 0].set_title(f"{MARKED} marked images, chosen by suggest", loc="left", fontsize=9)
    axes[1, 0].set_title("located in others, with 90 % radius", loc="left", fontsize=9)
    full = int(np.argmax(new.attributes["horns"]))
    figure.legend(
        *axes[1, full].get_legend_handles_labels(), loc="outside lower center", ncol=4, fontsize=9
    )
    with atomic_write(options.out) as path:
        figure.savefig(path, format="png")


if __name__ == "__main__":
    main()
