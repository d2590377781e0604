"""Which planted parts of creatures have a node of their own, layer by layer.

    python benchmarks/creature_parts.py --json creature_parts.json

Creatures are mined, others are parsed; for every part the node that follows it best is chosen on
one half of these and measured on the other (`explgraph.metrics.planted_parts`): among the nodes of
each layer, of all layers, and among the filters' raw peaks. Beside them how much of the part's
movement the middle of the creature (the mean of its visible parts) tells. Errors are in px of 112.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

if __package__ in (None, ""):  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from explgraph import creatures, metrics
from explgraph.atomic import atomic_write
from explgraph.landmarks import from_creatures
from explgraph.mining import mine_activations
from explgraph.parsing import parse_activations
from explgraph.recording import record

ALL, PEAKS = "all layers", "raw peaks"


def measure(images: int, new: int, seed: int) -> list[dict[str, Any]]:
    """Rows of all parts and layers for one draw of creatures."""
    model = creatures.network()
    mined, other = creatures.draw(images, seed=2 * seed), creatures.draw(new, seed=2 * seed + 1)
    graph = mine_activations(record(model, mined.tensor(), creatures.LAYERS), seed=seed)
    activations = record(model, other.tensor(), creatures.LAYERS)
    found = parse_activations(graph, activations)
    parts = from_creatures(other).parts
    layer = np.array([graph.nx.nodes[node]["layer"] for node in found.nodes])
    groups = {name: layer == name for name in reversed(creatures.LAYERS)} | {ALL: layer != ""}
    chosen = {
        name: (found.positions[:, here], found.scores[:, here]) for name, here in groups.items()
    }
    peaks = [
        metrics.raw_peaks(maps.numpy(), layer)
        for maps, layer in zip(activations.maps, activations.layers, strict=True)
    ]
    chosen[PEAKS] = tuple(np.concatenate([p[i] for p in peaks], axis=1) for i in (0, 1))
    middle = np.nanmean(np.stack(list(parts.values())), axis=0)[:, None]
    rows = []
    for name, (positions, scores) in chosen.items():
        best = metrics.planted_parts(positions, scores, parts, min_purity=0)
        alone = metrics.planted_parts(positions, scores, parts)
        for part, result in best.items():
            rows.append(
                {
                    "seed": seed,
                    "where": name,
                    "part": part,
                    "tracking": result.tracking,
                    "error": result.error,
                    "followed": result.followed,
                    "followed alone": alone[part].followed,
                    "middle": float(metrics.node_tracking(middle, parts[part])[0]),
                }
            )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Errors and tracking by part and layer, and how many parts are followed: means over seeds."""
    where = list(dict.fromkeys(row["where"] for row in rows))
    lines = [
        "| part | the middle tells | "
        + " | ".join(f"{name}: px (tracking)" for name in where)
        + " |",
        "|---" * (len(where) + 2) + "|",
    ]

    def mean(column: str, **which: str) -> float:
        return float(
            np.mean([row[column] for row in rows if all(row[k] == v for k, v in which.items())])
        )

    for part in dict.fromkeys(row["part"] for row in rows):
        cells = [
            f"{mean('error', part=part, where=name):.1f} "
            f"({mean('tracking', part=part, where=name):.2f})"
            for name in where
        ]
        lines.append(f"| {part} | {mean('middle', part=part):.2f} | " + " | ".join(cells) + " |")
    for column in ("followed", "followed alone"):
        cells = [f"{mean(column, where=name):.2f}" for name in where]
        lines.append(f"| share {column} | | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--images", type=int, default=300, help="creatures to mine")
    parser.add_argument("--new", type=int, default=400, help="creatures to measure on")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    rows = [row for s in range(options.seeds) for row in measure(options.images, options.new, s)]
    print(table(rows))
    if options.json:
        with atomic_write(options.json) as path:
            path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
