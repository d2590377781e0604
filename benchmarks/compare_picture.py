"""Draws ``docs/pictures/compare.png``: a network beside one that no longer sees a cue.

    python benchmarks/compare_picture.py [--cue horns] [--out docs/pictures/compare.png]

The upper stages of the creatures' network are trained to see every picture as if it were drawn
without the cue (`compare.blind_to`), both networks are mined, and the two graphs are compared.
Left: the part that vanished, where it was seen best. Middle: by how much of what either network's
maps do at the place of each part goes with the part's presence. Right: effects on the cue's class.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

import explgraph
from benchmarks.compare import blind_to, mined
from explgraph import creatures
from explgraph.answers.compared import Change
from explgraph.atomic import atomic_write
from explgraph.views.pictures import part_side, patch

BEFORE, AFTER = "#04568f", "#c2570c"
SHOWN, TILES, TILE = 8, 4, 120


def show_bars(ax: Axes, tests: list[Change], title: str) -> None:
    """Draw what was before and after, part by part."""
    at = np.arange(len(tests))
    ax.barh(at - 0.2, [one.before for one in tests], 0.36, color=BEFORE, label="before")
    ax.barh(at + 0.2, [one.after for one in tests], 0.36, color=AFTER, label="after")
    ax.set_yticks(at, [one.title + (" *" if one.changed else "") for one in tests], fontsize=8)
    ax.tick_params(axis="x", labelsize=8)
    ax.axvline(0, color="0.3", lw=0.8)
    ax.invert_yaxis()
    ax.set_title(title, fontsize=9, loc="left")
    ax.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cue", default="horns", choices=creatures.ATTRIBUTES)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/compare.png"))
    options = parser.parse_args()
    options.train, options.epochs, options.mined = 800, 4, 200
    models = creatures.network(), blind_to(options.cue, options.seed, options)
    graphs = [mined(model, options, options.seed) for model in models]
    drawn = creatures.draw(300, seed=6_000_000 + options.seed)
    images = drawn.tensor()
    output = creatures.OUTPUTS.index(options.cue)
    found = explgraph.compare(*graphs, images, models=models, classes={options.cue: output})
    print(found.report())
    gone = [one for one in found.changes if one.kind == "vanished"][:SHOWN]
    effects = {one.part: one for one in found.changes if one.kind == "effect" and one.graph == "a"}

    figure = Figure(figsize=(10, 3.1), dpi=90, layout="constrained")
    left, shares, added = figure.subplots(1, 3, width_ratios=[1, 1.3, 1.1])
    parts = graphs[0].parse(models[0], images).parts
    number = parts.parts.index(gone[0].part)
    best = np.argsort(-parts.presence[:, number])[:TILES]
    side = part_side(graphs[0].image_size)
    tiles = [
        patch(drawn.images[row], *map(float, parts.positions[row, number]), side, TILE)[0]
        for row in best
    ]
    left.imshow(np.concatenate([np.concatenate(tiles[k : k + 2], 1) for k in (0, 2)], 0))
    left.axis("off")
    left.set_title(f"what vanished first: {gone[0].title}", fontsize=9, loc="left")
    show_bars(shares, gone, "maps that go with the part, share")
    show_bars(added, [effects[one.part] for one in gone], f"effect on {options.cue}, SD")
    shares.legend(fontsize=8, frameon=False, loc="lower right")
    with atomic_write(options.out) as temporary:
        figure.savefig(temporary, format="png")


if __name__ == "__main__":
    main()
