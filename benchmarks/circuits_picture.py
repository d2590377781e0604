"""Draws ``docs/pictures/circuit.png``: the circuit of dragons in three of them, and its curve.

    python benchmarks/circuits_picture.py [--out docs/pictures/circuit.png]

Everything in it is drawn and mined anew, in seconds on a CPU. Discs are the circuit's parts where
they are in that image; their area says how much less the circuit keeps without them, their number
which part it is. Right: what the first parts in the order of their contributions keep.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from explgraph import creatures, mine
from explgraph.atomic import atomic_write
from explgraph.circuits.circuit_figure import draw_curve
from explgraph.views.figure_style import part_sign

SHOWN = 3
LARGEST = 700.0  # area of a disc, points^2


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/circuit.png"))
    options = parser.parse_args()
    model = creatures.network()
    graph = mine(model, creatures.draw(200, seed=1).tensor(), ["stage4", "stage3"], seed=0)
    drawn = creatures.draw(240, seed=2)
    pictures = drawn.tensor()
    dragons = (drawn.labels == drawn.label_names.index("dragon")).nonzero()[0]
    circuit = graph.circuit(model, pictures[dragons], "dragon", reference=pictures)
    print(circuit)
    clear = [i for i in dragons if drawn.visible["horn"][i] and drawn.visible["wing"][i]][:SHOWN]
    places = graph.parse(model, pictures[clear]).parts.positions
    column = {part.id: k for k, part in enumerate(graph.parts)}
    most = max(member.necessity for member in circuit.members)

    figure = Figure(figsize=(9.6, 2.6), dpi=130, layout="constrained")
    grid = figure.add_gridspec(1, SHOWN + 1, width_ratios=[1] * SHOWN + [1.9])
    for k, i in enumerate(clear):
        axes = figure.add_subplot(grid[k])
        axes.imshow(drawn.images[i])
        axes.set_axis_off()
        for member in circuit.members:
            sign = part_sign(member.id, column[member.id])
            x, y = places[k, column[member.id]] - 0.5
            area = LARGEST * max(member.necessity, 0.02) / most
            axes.scatter(x, y, s=area, color=sign.colour, alpha=0.7, edgecolor="white", zorder=2)
            axes.annotate(
                sign.number, (x, y), ha="center", va="center", fontsize=7, color=sign.ink, zorder=3
            )
    draw_curve(figure.add_subplot(grid[SHOWN]), circuit)
    with atomic_write(options.out) as path:
        figure.savefig(path, format=options.out.suffix[1:])
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
