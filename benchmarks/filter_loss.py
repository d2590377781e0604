"""Filters that stand for one part: train with FilterLoss and PartMask, and without.

    OMP_NUM_THREADS=1 python benchmarks/filter_loss.py --json filter_loss.json

For each seed, the two upper stages and the head of the creatures' network go on training from the
shipped weights on fresh creatures, on families and attributes, twice with the same pictures in the
same order: as usual, and with `PartMask` behind stage 4 and `FilterLoss` on its maps, whose weight
falls from 1 to 0 as (1 - share of the steps done)^2 (the paper's falls as well). On fresh creatures
the raw filters of stage 4 are measured (each filter's strongest unit, before the mask; means over
the parts), and the answers. Times are the process's own, medians over steps, of what is trained.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

import explgraph
from benchmarks import setting
from benchmarks.train_creatures import loss as task_loss
from benchmarks.upper_half import lower_maps, train
from explgraph import creatures
from explgraph.answers.filter_loss import FilterLoss, PartMask
from explgraph.evaluation.baselines import constant_grid, raw_peaks
from explgraph.evaluation.table import metrics

LAYER, STAGES = "stage4", 2
STILL = "points that never move"


class Masked(nn.Module):
    """The creatures' network with something between stage 4 and its pooling."""

    def __init__(self, model: creatures.CreatureNet, mask: nn.Module) -> None:
        super().__init__()
        self.model, self.mask = model, mask

    def head(self, maps: Tensor) -> Tensor:
        """Give the logits for maps of stage 4."""
        return self.model.head(self.mask(maps).mean(dim=(2, 3)))


def run(
    data: creatures.Creatures,
    maps: Tensor,
    test: creatures.Creatures,
    *,
    seed: int,
    interpretable: bool,
    epochs: int,
) -> dict[str, float]:
    """Train one network and measure it."""
    torch.manual_seed(seed)
    model = creatures.network()
    masked = Masked(model, PartMask() if interpretable else nn.Identity())
    filter_loss, targets = FilterLoss(), data.targets()

    def step(maps: Tensor, rows: Tensor, done: float) -> Tensor:
        value = task_loss(masked.head(maps), targets[rows])
        return value + (1 - done) ** 2 * filter_loss(maps) if interpretable else value

    took, began = [], time.process_time()
    for _ in train(model, maps, STAGES, step, epochs=epochs, rate=0.001):
        took.append(time.process_time() - began)
        began = time.process_time()
    return {"seconds": float(np.median(took)), **measure(masked, test)}


def measure(masked: Masked, test: creatures.Creatures) -> dict[str, float]:
    """Give accuracies, and how the raw filters of stage 4 follow the parts."""
    activations = explgraph.record(masked.model, test.tensor(), [LAYER])
    with torch.no_grad():
        logits = masked.head(activations.maps[0])
    families, truth = len(creatures.FAMILIES), test.targets()
    right = logits[:, :families].argmax(1) == truth[:, :families].argmax(1)
    attributes = (logits > 0)[:, families:] == (truth > 0.5)[:, families:]
    peaks = raw_peaks(activations.maps[0].numpy(), activations.layers[0])
    return {
        "family": right.float().mean().item(),
        "attributes": attributes.float().mean().item(),
        **follow(*peaks, test),
    }


def follow(
    positions: np.ndarray, scores: np.ndarray, test: creatures.Creatures
) -> dict[str, float]:
    """Measure how points follow the parts."""
    size = (creatures.SIZE, creatures.SIZE)
    return {
        "instability": mean(
            metrics.location_instability(positions, scores, part, size)
            for part in test.parts.values()
        ),
        "tracking": mean(metrics.tracking(positions, part) for part in test.parts.values()),
        **{
            f"tracking_{name}": metrics.tracking(positions, part)
            for name, part in test.parts.items()
        },
    }


def mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def markdown(rows: list[dict[str, Any]]) -> str:
    """Give a row per run, then the means."""
    head = (
        "| training | seed | family right | attributes right | instability | tracking "
        "| tracking, head | CPU ms a step |\n|---|---|---:|---:|---:|---:|---:|---:|"
    )
    keys = ("family", "attributes", "instability", "tracking", "tracking_head", "seconds")
    lines = [head]
    for kind in ("ordinary", "FilterLoss, PartMask"):
        mine = [row for row in rows if row["training"] == kind]
        average = {key: mean(row[key] for row in mine) for key in keys}
        for seed, row in [*((row["seed"], row) for row in mine), ("**mean**", average)]:
            lines.append(
                f"| {kind} | {seed} "
                f"| {100 * row['family']:.1f} % | {100 * row['attributes']:.1f} % "
                f"| {row['instability']:.4f} | {row['tracking']:+.2f} "
                f"| {row['tracking_head']:+.2f} | {1000 * row['seconds']:.0f} |"
            )
    still = next(row for row in rows if row["training"] == STILL)
    lines.append(f"| {STILL} | | | | {still['instability']:.4f} | {still['tracking']:+.2f} | | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--train", type=int, default=4000, help="creatures to train on")
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    setting.announce()
    test = creatures.draw(options.test, seed=2_000_003)
    points = constant_grid(len(test), (creatures.SIZE, creatures.SIZE))
    rows = [{"training": STILL, **follow(*points, test)}]
    for seed in options.seeds:
        data = creatures.draw(options.train, seed=1_000_003 + seed)
        maps = lower_maps(data, STAGES)
        for kind in ("ordinary", "FilterLoss, PartMask"):
            row = run(
                data, maps, test,
                seed=seed, interpretable=kind != "ordinary", epochs=options.epochs,
            )  # fmt: skip
            rows.append({"training": kind, "seed": seed, **row})
            print(json.dumps(rows[-1]), flush=True)
    print(markdown(rows))
    if options.json is not None:
        setting.write(options.json, rows)


if __name__ == "__main__":
    main()
