"""One image explained: whether the parts that come first matter in truth, and what it costs.

    python benchmarks/explain.py --data ../shared/animalparts/n02129604 --json explain.json

Settings: creatures (the network that ships; each attribute that an image shows and whose part is
visible is a class of its own), and with ``--data`` folders of crops with a ``parts.json`` with
EfficientNet-Lite0 (the class of the highest score). Graphs are mined from other images than those
that are explained. ``--small`` is for CI. Columns, medians over the explanations:

=============  ==================================================================================
explained      share of what the layer carries that parts add
own            of all that units do, for the class and against it, what is the parts' own
first, random  share of what the layer carries that is lost in truth without the first three parts;
               without three parts at random
equal          lost when as much activation as the first three parts have is taken away anywhere
order          share of the explanations in which the first three do more than three at random
error          mean distance of true scores from expected ones along the curve, as a share of what
               the layer carries
planted        creatures: share of the explanations in which the first part lies within 0.12 of the
               side from the planted part that decides the class; "by chance" of a part at random
               among those that are said to be there (presence >= 0.5)
doubted        share of the explanations that say that they are little worth
seconds        of processor time for one explanation
=============  ==================================================================================
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import efficientnet_lite0, recorded, setting
from explgraph import ExplgraphWarning, ImageFolder, creatures, mine, mine_activations
from explgraph.activations.memory import Activations
from explgraph.explaining.explanation import Explanation

FIRST = 3
NEAR = 0.12  # of the side

Told = tuple[Explanation, float, float, float]
"""An explanation, its seconds, and whether its first part, or a random one, is the planted one."""


def of_creatures(small: bool) -> Iterator[Told]:
    """Explain what images of creatures show, by the parts that it is known to be shown by."""
    model = creatures.network()
    mined, n = (80, 2) if small else (300, 16)
    graph = mine(model, creatures.draw(mined, seed=1).tensor(), creatures.LAYERS, seed=0)
    drawn = creatures.draw(n, seed=2)
    pictures = drawn.tensor()
    for i in range(n):
        for name, part in creatures.ATTRIBUTES.items():
            if not (drawn.attributes[name][i] and drawn.visible[part][i]):
                continue
            start = time.process_time()
            found = graph.explain(model, pictures[i], name)
            seconds = time.process_time() - start
            near = [
                np.hypot(*(np.array([row.x, row.y]) - drawn.parts[part][i])) < NEAR * creatures.SIZE
                for row in found.rows
            ]
            there = [
                near[k] for k, row in enumerate(found.rows) if row.presence >= 0.5
            ] or near  # fmt: skip
            yield found, seconds, float(near[0]), float(np.mean(there))


def of_photographs(folder: Path, count: int, cache: Path | None) -> Iterator[Told]:
    """Mine every other photograph of a folder, and explain some of the others."""
    network = efficientnet_lite0
    activations, _ = recorded.crops(folder, network, network.LAYERS, cache=cache)
    n = len(activations.names)
    half = torch.arange(0, n, 2)
    mined = Activations(
        activations.layers,
        tuple(activations.names[i] for i in half.tolist()),
        activations.image_size,
        [maps[half] for maps in activations.maps],
        activations.model_fingerprint,
    )
    graph = mine_activations(mined, seed=0)
    model = network.network()
    images = ImageFolder(folder, size=network.SIZE, mean=network.MEAN, std=network.STD)
    others = [images.names.index(name) for name in activations.names[1::2]]
    for i in others[:: max(1, len(others) // count)][:count]:
        start = time.process_time()
        found = graph.explain(model, images.subset([i]))
        yield found, time.process_time() - start, np.nan, np.nan


def measured(name: str, told: Sequence[Told]) -> dict[str, Any]:
    """Give a row of the table."""
    found = [one for one, *_ in told]

    def lost(curve: str) -> list[float]:
        return [
            (one.score - getattr(one.removal, curve)[min(FIRST, len(one.removal.parts))])
            / abs(one.carried)
            for one in found
        ]

    order = np.array(lost("score")) > np.array(lost("random"))
    error = [
        np.abs(one.removal.score - one.removal.expected).mean() / abs(one.carried) for one in found
    ]
    return {
        "setting": name,
        "explanations": len(told),
        "explained": np.median([one.here.parts / abs(one.carried) for one in found]),
        "own": np.median([one.explained for one in found]),
        "first": np.median(lost("score")),
        "random": np.median(lost("random")),
        "equal": np.median(lost("equal")),
        "order": order.mean(),
        "error": np.median(error),
        "planted": np.mean([one[2] for one in told]),
        "by chance": np.mean([one[3] for one in told]),
        "doubted": np.mean([bool(one.doubts) for one in found]),
        "seconds": np.median([one[1] for one in told]),
    }


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Give the rows as a table."""
    lines = [f"| {' | '.join(rows[0])} |", "|---" + "|---:" * (len(rows[0]) - 1) + "|"]
    for row in rows:
        cells = [
            ("" if np.isnan(v) else f"{v:.2f}") if isinstance(v, float) else str(v)
            for v in row.values()
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders of photographs")
    parser.add_argument("--count", type=int, default=12, help="photographs of each folder (12)")
    parser.add_argument("--cache", type=Path, help="folder for recorded activations")
    parser.add_argument("--small", action="store_true", help="in seconds, for CI")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    setting.announce()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)  # counted
        rows = [measured("creatures", list(of_creatures(options.small)))]
        print(markdown(rows), flush=True)
        for folder in options.data:
            told = list(of_photographs(folder, options.count, options.cache))
            rows.append(measured(folder.name, told))
            print(markdown(rows[-1:]), flush=True)
    print(markdown(rows))
    if options.json:
        setting.write(options.json, rows)


if __name__ == "__main__":
    main()
