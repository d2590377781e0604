"""Determinism: what else than the seed a graph depends on, and by how much.

    python benchmarks/determinism.py --images 200 --json determinism.json

A graph of creatures is mined, and again with one thing changed. Columns:

==============  =================================================================================
same file       whether the saved graphs are the same, byte by byte
nodes           of the other graph
same nodes      nodes that both have, as a share of those that either has
same edges      the same of edges
typical, most   distance between the places of a node that both have, in images that were not mined
                and in which it is there (score >= 0.5): median and largest, px of 112
==============  =================================================================================

``--small`` takes fewer images, for CI; the exit code is 1 if the same run isn't the same file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks import setting
from explgraph import ExplanatoryGraph, Parse, creatures, mine, record


class Row(NamedTuple):
    """How far a graph is from the first one."""

    changed: str
    same_file: bool
    nodes: int
    same_nodes: float
    same_edges: float
    typical: float
    most: float


def main(arguments: list[str] | None = None) -> int:
    """Mine with one thing changed after the other, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--small", action="store_true", help="fewer images, for CI")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    setting.announce()
    n = 48 if options.small else options.images
    model, layers = creatures.network(), creatures.LAYERS[: 2 if options.small else None]
    drawn, fresh = creatures.draw(n, seed=1).tensor(), creatures.draw(50, seed=2).tensor()
    other = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def run(images: torch.Tensor = drawn, threads: int = 1, **more: Any) -> ExplanatoryGraph:
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            try:
                if "dtype" in more:
                    place = folder / more["dtype"]
                    record(model, images, layers, store=place, **more)
                    return mine(store=place)
                return mine(model, images, layers, **more)
            finally:
                torch.set_num_threads(before)

        changes: dict[str, Callable[[], ExplanatoryGraph]] = {
            "nothing": run,
            "threads: 2, not 1": lambda: run(threads=2),
            "batches of 7, not 32": lambda: run(batch_size=7),
            "a store, float16": lambda: run(dtype="float16"),
            "a store, uint8": lambda: run(dtype="uint8"),
            "the order of the images": lambda: run(images=drawn[other]),
            "the seed": lambda: run(seed=1),
        }
        first = run()
        parse = first.parse(model, fresh)
        rows = []
        for changed, again in changes.items():
            graph = again()
            rows.append(compared(changed, first, graph, parse, graph.parse(model, fresh), folder))
            print(rows[-1], flush=True)
    print("\n" + table(rows, len(first)))
    if options.json is not None:
        setting.write(options.json, [row._asdict() for row in rows])
    return int(not rows[0].same_file)


def compared(
    changed: str, one: ExplanatoryGraph, two: ExplanatoryGraph, a: Parse, b: Parse, folder: Path
) -> Row:
    """Compare two graphs, and where their nodes are."""
    files = []
    for graph in (one, two):
        graph.save(folder / "graph")
        files.append((folder / "graph").read_bytes())
    both = sorted({*a.nodes} & {*b.nodes})
    i, j = ([p.nodes.index(node) for node in both] for p in (a, b))
    there = (a.scores[:, i] >= 0.5) & (b.scores[:, j] >= 0.5)
    apart = np.linalg.norm(a.positions[:, i] - b.positions[:, j], axis=-1)[there]
    edges = [{*graph.nx.edges} for graph in (one, two)]
    return Row(
        changed,
        files[0] == files[1],
        len(two),
        len(both) / len({*a.nodes} | {*b.nodes}),
        len(edges[0] & edges[1]) / max(1, len(edges[0] | edges[1])),
        float(np.median(apart)),
        float(apart.max()),
    )


def table(rows: list[Row], nodes: int) -> str:
    """Give the table in Markdown."""
    lines = [
        f"| changed ({nodes} nodes) | same file | nodes | same nodes | same edges | typical px | "
        "most px |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    lines.extend(
        f"| {row.changed} | {'yes' if row.same_file else 'no'} | {row.nodes} | "
        f"{row.same_nodes:.2f} | {row.same_edges:.2f} | {row.typical:.2g} | {row.most:.2g} |"
        for row in rows
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
