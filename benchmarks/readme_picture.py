"""Draws ``docs/pictures/explgraph.png``: creatures, the part nodes found on them, and their graph.

    python benchmarks/readme_picture.py [--out docs/pictures/explgraph.png]

Everything in it is mined anew from drawn creatures, a few seconds on a CPU: the graph's most
reliable nodes of different places, a patch of each, their links, and where new creatures that
were not mined have them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, FancyBboxPatch
from numpy.typing import NDArray
from PIL import Image

from explgraph import ExplanatoryGraph, Parse, creatures, mine
from explgraph.atomic import atomic_write
from explgraph.views.figure_style import MARKERS, PALETTE
from explgraph.views.pictures import Pictures, best_sightings, patch, patch_side

TEXT, QUIET = "#1b2530", "#566370"
SHOWN = {"stage4": 3, "stage3": 5, "stage2": 6}
CREATURES = 5


def best_patch(
    graph: ExplanatoryGraph, node: str, pictures: Pictures, parse: Parse
) -> NDArray[np.uint8]:
    """Cut the best patch that lies within its image."""
    cut = [
        patch(pictures[p.image], p.x, p.y, patch_side(graph, node), 96)
        for p in best_sightings(graph, node, pictures, parse, 12)
    ]
    return max(cut, key=lambda c: c[1].mean())[0]


def chosen_nodes(graph: ExplanatoryGraph, pictures: Pictures, parse: Parse) -> dict[str, list[str]]:
    """Reliable nodes of each layer that sit apart from each other, linked where possible."""
    chosen: dict[str, list[str]] = {}
    above: list[str] = []
    for layer, count in SHOWN.items():
        ranked = sorted(
            graph.nodes_of(layer),
            key=lambda v: (
                -graph.nx.nodes[v]["reliability"] - 0.3 * any(u in above for u in graph.nx.pred[v])
            ),
        )
        # the surest, and of those the ones that are there in most images
        ranked = [v for v in ranked if graph.nx.nodes[v]["support"] > 0.45][: len(ranked) // 4]
        picked: list[str] = []
        for gap in (16, 11, 7, 4, 0):  # px, on average over the images
            for v in ranked:
                at = parse.positions[:, parse.nodes.index(v)]
                others = [parse.positions[:, parse.nodes.index(u)] for u in picked]
                far = all(np.linalg.norm(at - o, axis=1).mean() >= gap for o in others)
                if v in picked or not far or len(picked) == count:
                    continue
                # a plain colour tells a reader nothing
                if best_patch(graph, v, pictures, parse).std((0, 1)).max() > 30:
                    picked.append(v)
        # from left to right as in the first creature that faces right
        chosen[layer] = sorted(picked, key=lambda v: graph.nx.nodes[v]["x"])
        above = picked
    return chosen


def show_creature(
    ax: Axes,
    picture: NDArray[np.uint8],
    n: int,
    parse: Parse,
    signs: dict[str, tuple[str, str]],
) -> None:
    """One creature with its nodes."""
    ax.imshow(picture, extent=(0, picture.shape[1], picture.shape[0], 0), interpolation="bicubic")
    for node, (colour, marker) in signs.items():
        k = parse.nodes.index(node)
        if parse.scores[n, k] < 0.5:  # not there
            continue
        x, y = parse.positions[n, k]
        ax.scatter(x, y, s=58, c=colour, marker=marker, edgecolors="black", linewidths=1.0)
    ax.set_xlim(0, picture.shape[1])
    ax.set_ylim(picture.shape[0], 0)
    bare(ax)


def bare(ax: Axes) -> None:
    """Take the frame and the ticks off."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def figure_of(seed: int = 0) -> Figure:
    """Mine, parse new creatures, draw."""
    world = creatures.draw(400, seed=seed)
    network = creatures.network()
    graph = mine(network, world.tensor(), creatures.LAYERS, seed=0)
    mined = graph.parse(network, world.tensor())
    pictures = Pictures(world.images, graph.image_size, mined.names)
    nodes = chosen_nodes(graph, pictures, mined)
    fresh = creatures.draw(60, seed=seed + 1000)
    parse = graph.parse(network, fresh.tensor())
    drawn = [v for band in nodes.values() for v in band]
    signs = {
        v: (PALETTE[k % len(PALETTE)], MARKERS[row])
        for row, band in enumerate(nodes.values())
        for k, v in enumerate(band)
    }
    # creatures with all their parts in sight
    complete = np.sum([fresh.visible[p] for p in fresh.visible], axis=0)
    best = sorted(np.argsort(-complete, kind="stable")[:CREATURES].tolist())

    figure = Figure(figsize=(11, 5.9), dpi=96, facecolor="white")
    places: dict[str, Axes] = {}
    boxes = {"stage4": (0.80, 0.135), "stage3": (0.565, 0.125), "stage2": (0.345, 0.115)}
    for layer, (bottom, size) in boxes.items():
        band = nodes[layer]
        wide = size * 5.9 / 11
        step = min(0.118, 0.8 / len(band))
        left = 0.55 - step * (len(band) - 1) / 2 - wide / 2
        figure.add_artist(
            FancyBboxPatch(
                (0.085, bottom - 0.018), 0.895, size + 0.036, boxstyle="round,pad=0.004",
                transform=figure.transFigure, fc="#eef1f5", ec="none", zorder=-5,
            )
        )  # fmt: skip
        field = max(each.receptive_field[0] for each in graph.layers if each.name == layer)
        figure.text(0.012, bottom + size / 2 + 0.02, layer, fontsize=11, color=TEXT, weight="bold")
        figure.text(
            0.012, bottom + size / 2 - 0.02, f"sees {field:.0f} px", fontsize=8.5, color=QUIET
        )
        for k, v in enumerate(band):
            ax = figure.add_axes((left + step * k, bottom, wide, size))
            ax.imshow(best_patch(graph, v, pictures, mined))
            bare(ax)
            colour, marker = signs[v]
            for spine in ax.spines.values():
                spine.set_visible(True)
                spine.set_color(colour)
                spine.set_linewidth(3)
            ax.scatter(
                0.12, 0.88, s=48, c=colour, marker=marker, edgecolors="black", linewidths=1,
                transform=ax.transAxes, zorder=4,
            )  # fmt: skip
            places[v] = ax
    for u, v, values in graph.nx.subgraph(drawn).edges(data=True):
        figure.add_artist(
            ConnectionPatch(
                (0.5, 0), (0.5, 1), "axes fraction", "axes fraction",
                axesA=places[u], axesB=places[v], color="#6b7a89",
                lw=0.4 + 2.2 * values["consistency"], alpha=0.2 + 0.6 * values["consistency"],
                zorder=-1,
            )
        )  # fmt: skip
    for k, n in enumerate(best):
        ax = figure.add_axes((0.012 + 0.197 * k, 0.008, 0.19, 0.30))
        show_creature(ax, fresh.images[n], n, parse, signs)
    return figure


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--out", type=Path, default=Path("docs/pictures/explgraph.png"))
    out = options.parse_args().out
    figure = figure_of()
    with atomic_write(out) as temporary:
        figure.savefig(temporary)
        with Image.open(temporary) as picture:
            picture.convert("RGB").save(temporary, optimize=True)
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
