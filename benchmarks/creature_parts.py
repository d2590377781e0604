"""Which planted parts of creatures have a node of their own, layer by layer.

    python benchmarks/creature_parts.py --json creature_parts.json

Creatures are mined, others are parsed; for every part the node that follows it best is chosen on
one half of these and measured on the other (`planted_parts`): among the nodes of each layer, of all
layers, and among the filters' raw peaks. Beside them how much of the part's movement the middle of
the creature tells. Errors are in px of 112.

"place known" is an upper bound, not a method: every filter of every layer is looked at around the
place that all marks of the mined creatures, by ridge regression from their poses, put the part at.
What no filter follows even so, nodes can't follow in this network.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import setting
from explgraph import creatures
from explgraph.activations.memory import Activations
from explgraph.activations.recording import record
from explgraph.evaluation.baselines import raw_peaks
from explgraph.evaluation.landmarks import from_creatures
from explgraph.evaluation.planted import PlantedPart, planted_parts
from explgraph.evaluation.table import metrics
from explgraph.mining.mining import mine_activations
from explgraph.parser import Parser
from explgraph.parsing import parse_activations
from explgraph.statistics.fitted import FittedLayer
from explgraph.statistics.inference import infer

ALL, PEAKS, KNOWN = "all layers", "raw peaks", "place known"
_SPREAD = 0.08  # of what is looked at around a known place, as a share of the side


class Look(NamedTuple):
    """Maps by layer index, each filter divided by its scale, and the images' poses (N, q)."""

    maps: dict[int, torch.Tensor]
    poses: torch.Tensor

    @classmethod
    @torch.no_grad()
    def at(cls, parser: Parser, activations: Activations) -> Look:
        """Look at recorded images."""
        maps = parser.scaled(
            {layer.index: activations.maps[layer.index] for layer in activations.layers}
        )
        return cls(maps, parser.fitted.poses(maps, parser.grids))


def _following(layer: FittedLayer, area: float) -> FittedLayer:
    """Give every filter one pattern that is wherever the "pose" says, and answers for half."""
    c = len(layer.scale)
    half = torch.full((c, 1), 0.5)
    return FittedLayer(
        layer.scale,
        torch.zeros(c, 1, 2),
        torch.eye(2).expand(c, 1, 2, 2),
        torch.full((c, 1), _SPREAD * area**0.5),
        half,
        half[:, 0],
        torch.zeros(0),
    )


@torch.no_grad()
def filters_around(
    parser: Parser, mined: Look, other: Look, marks: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Look at all F filters around a part that is marked in the mined images.

    Parameters
    ----------
    parser : Parser
        Of the graph that was mined.
    mined, other : Look
    marks : (N, 2)
        px, NaN where the part is absent.

    Returns
    -------
    positions : (M, F, 2)
        In the M other images, px.
    scores : (M, F)
    """
    from sklearn.linear_model import RidgeCV

    marked = np.isfinite(marks[:, 0])
    model = RidgeCV(np.logspace(-3, 3, 13)).fit(mined.poses.numpy()[marked], marks[marked])
    place = torch.from_numpy(model.predict(other.poses.numpy())).float()
    found = [
        infer(
            _following(layer, parser.area),
            other.maps[index],
            place,
            parser.grids[index],
            parser.area,
        )
        for index, layer in parser.fitted.layers.items()
    ]
    return (
        torch.cat([f.positions for f in found], 1).numpy(),
        torch.cat([f.scores for f in found], 1).numpy(),
    )


def measure(images: int, new: int, seed: int) -> list[dict[str, Any]]:
    """Rows of all parts and layers for one draw of creatures."""
    model = creatures.network()
    mined, other = creatures.draw(images, seed=2 * seed), creatures.draw(new, seed=2 * seed + 1)
    recorded = record(model, mined.tensor(), creatures.LAYERS)
    activations = record(model, other.tensor(), creatures.LAYERS)
    graph = mine_activations(recorded, seed=seed)
    found = parse_activations(graph, activations)
    parts, marks = from_creatures(other).parts, from_creatures(mined).parts
    layer = np.array([graph.nx.nodes[node]["layer"] for node in found.nodes])
    groups = {name: layer == name for name in reversed(creatures.LAYERS)} | {ALL: layer != ""}
    chosen = {
        name: (found.positions[:, here], found.scores[:, here]) for name, here in groups.items()
    }
    peaks = [
        raw_peaks(maps.numpy(), layer)
        for maps, layer in zip(activations.maps, activations.layers, strict=True)
    ]
    chosen[PEAKS] = tuple(np.concatenate([p[i] for p in peaks], axis=1) for i in (0, 1))
    parser = Parser(graph)
    looks = [Look.at(parser, images) for images in (recorded, activations)]

    def follow(nodes: Any) -> list[dict[str, PlantedPart]]:
        """Choose every part's node, by tracking and among those that are pure."""
        return [planted_parts(*nodes, parts, min_purity=p) for p in (0, 0.9)]

    reports = {name: follow(nodes) for name, nodes in chosen.items()}
    rows = []
    for part, marked in parts.items():
        known = follow(filters_around(parser, *looks, marks[part]))
        for name, (best, alone) in (reports | {KNOWN: known}).items():
            rows.append(
                {
                    "seed": seed,
                    "where": name,
                    "part": part,
                    "tracking": best[part].tracking,
                    "error": best[part].error,
                    "followed": best[part].followed,
                    "followed alone": alone[part].followed,
                    "middle": float(metrics.node_tracking(other.centre[:, None], marked)[0]),
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
    setting.announce()
    rows = [row for s in range(options.seeds) for row in measure(options.images, options.new, s)]
    print(table(rows))
    if options.json:
        setting.write(options.json, rows)


if __name__ == "__main__":
    main()
