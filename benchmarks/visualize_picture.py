"""Draws the pictures of ``docs/visualize.md``, and says what was measured on the way.

    python benchmarks/visualize_picture.py [--out docs/pictures]

Everything in them is drawn and mined anew, in a few minutes on a CPU. ``answers.png``: for a node
of each layer and two parts, the creatures where it is found best with the outline of what it
answers to, and its optimised image. ``inverted.png``: creatures that were not mined, and images
that show the same nodes at the same places.

Printed: how much more strongly optimised images are answered than the best of 300 creatures; which
share of the nodes inversions show, beside the share that other creatures show at the same places;
times, in seconds of one core.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import setting
from explgraph import Parse, creatures, mine
from explgraph.atomic import atomic_write
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.views.figure_style import extent, stroke
from explgraph.views.visualized import as_colours, inversion_figure, revealed, sightings
from explgraph.visualizing.invert import found_again, invert
from explgraph.visualizing.masks import masks
from explgraph.visualizing.maximise import maximise, spectrum
from explgraph.visualizing.responses import Responses, asked

_COUNT, _INVERTED = 4, 4
_MEASURED = 6  # inversions, of which the first are drawn


def chosen(graph: ExplanatoryGraph) -> list[str]:
    """Choose the most reliable node of each layer, and the two most reliable parts."""
    nodes = graph.nx.nodes
    best = [
        max(graph.nodes_of(layer), key=lambda v: nodes[v]["reliability"])
        for layer in reversed(creatures.LAYERS)
    ]
    return [*best, *(part.id for part in graph.parts[:2])]


def best_real(model: torch.nn.Module, graph: ExplanatoryGraph, images: torch.Tensor, parse: Parse,
              what: str) -> float:  # fmt: skip
    """Give the strongest response to any of some images."""
    wanted = asked(graph, what)
    places = parse.positions[:, [parse.nodes.index(node) for node in wanted.nodes]]
    with torch.no_grad():
        given = Responses(model, graph, wanted.nodes)(images, torch.from_numpy(places))
    return float((given @ wanted.weights / wanted.weights.sum()).max())


def small(figure: Figure, path: Path) -> None:
    """Write a figure with 128 colours."""
    figure.canvas.draw()  # type: ignore[attr-defined]
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")
        picture = Image.open(temporary).convert("RGB")
        picture.quantize(128, dither=Image.Dither.NONE).save(temporary, format="png", optimize=True)


def draw_answers(out: Path, model: torch.nn.Module, graph: ExplanatoryGraph) -> None:
    """Draw what nodes and parts answer to."""
    mined = creatures.draw(300, seed=1)
    new = creatures.draw(60, seed=2)
    images, parse = new.tensor(), graph.parse(model, new.tensor())
    known = spectrum(mined.tensor(), graph.image_size)
    before = graph.parse(model, mined.tensor())
    things = chosen(graph)
    figure = Figure(figsize=(7.6, 1.55 * len(things)), dpi=96, layout="constrained")
    axes = figure.subplots(len(things), _COUNT + 1)
    for row, what in zip(axes, things, strict=True):
        start = time.process_time()
        seen = sightings(graph, what, new.images, parse, _COUNT)
        heat = masks(model, graph, images, parse, what)
        middle = time.process_time()
        made = maximise(model, graph, known, what)
        end = time.process_time()
        times = made.response / best_real(model, graph, mined.tensor(), before, what)
        print(
            f"{what}: optimised image answered {times:.1f} times as strongly as the best of 300 "
            f"creatures; {1000 * (middle - start) / len(images):.0f} ms a mask, "
            f"{end - middle:.1f} s to optimise"
        )
        inside = heat.inside()
        for ax, one in zip(row, seen, strict=False):
            ax.imshow(new.images[one.image], extent=extent(new.images[one.image]))
            lined = np.where(inside[one.image], 1.0, 0.0)
            at = np.arange(creatures.SIZE) + 0.5
            line = ax.contour(at, at, lined, [0.5], colors=["white"], linewidths=1.4)
            line.set_path_effects(stroke(2.8, "black"))
            ax.set(xlim=(0, creatures.SIZE), ylim=(creatures.SIZE, 0))
        row[-1].imshow(
            revealed(as_colours(graph, made.image), made.opacity), interpolation="bilinear"
        )
        title = graph.part(what).title if what not in graph.nx else f"node {what}"
        row[0].set_ylabel(title, fontsize=8)
        for ax in row:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
    small(figure, out / "answers.png")


def draw_inverted(out: Path, model: torch.nn.Module, graph: ExplanatoryGraph) -> None:
    """Draw what the graph keeps of creatures, and measure it."""
    new = creatures.draw(_MEASURED + 1, seed=3)
    images = new.tensor()
    start = time.process_time()
    made = invert(model, graph, images[:_MEASURED])
    seconds = (time.process_time() - start) / _MEASURED
    others = graph.parse(model, images[1:])
    chance = found_again(made.before, others)
    print(
        f"inversions of {_MEASURED}: {made.again.mean():.0%} of the nodes found again (least "
        f"{made.again.min():.0%}); in another creature {chance.mean():.0%}; {seconds:.1f} s each"
    )
    few = invert(model, graph, images[:_INVERTED])
    figure = inversion_figure(graph, few, new.images[:_INVERTED])
    small(figure, out / "inverted.png")


def main() -> None:
    """Draw and tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    options = parser.parse_args()
    setting.announce()
    model = creatures.network()
    graph = mine(model, creatures.draw(300, seed=1).tensor(), creatures.LAYERS, seed=0)
    graph.nx.graph["preprocessing"] = {"mean": list(creatures.MEAN), "std": list(creatures.STD)}
    draw_answers(options.out, model, graph)
    draw_inverted(options.out, model, graph)


if __name__ == "__main__":
    main()
