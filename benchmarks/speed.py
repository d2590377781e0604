"""Speed and memory beside what the same run finds attainable: the table of the README.

    python benchmarks/speed.py --data ../shared/animalparts/n02084071 --json speed.json

Every figure is the best of several repeats, on torch's number of threads. Keys of the JSON file:

==============  ===================================================================================
em_us           one iteration of EM (E and M step), microseconds per image and node: maps of
                14 x 14 units, 20 patterns per filter, half of the units silent
em_us_torch     the same without the compiled kernel
em_efficiency   arithmetic of that iteration, counted as 6 H W operations per image and node, as a
                share of what a large float32 matrix product reaches
mine_over_      mining three layers of EfficientNet-Lite0 (672 x 14 x 14, 1152 and 1280 x 7 x 7),
record          recording excluded, over a bare forward pass of all the images in `--data`
parse_over_     parsing one image, forward pass excluded, over a bare forward pass of one image
forward
==============  ===================================================================================
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

if __package__ in (None, ""):  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import efficientnet_lite0
from explgraph import ImageFolder, kernel, mine_activations, record
from explgraph.atomic import atomic_write
from explgraph.images import batches
from explgraph.mixture import Bounds, Grid, Patterns, from_summaries, summarize
from explgraph.parsing import Parser


class Target(NamedTuple):
    """What a figure should reach, and in which unit it is."""

    goal: str
    unit: str


TARGETS = {
    "em_us": Target("<= 0.05", "us"),
    "em_us_torch": Target("", "us"),
    "em_efficiency": Target(">= 0.15", ""),
    "mine_over_record": Target("<= 1.0", ""),
    "parse_over_forward": Target("<= 0.5", ""),
}


def best_time(work: Callable[[], object], seconds: float = 3.0, least: int = 5) -> float:
    """Shortest of many repeats, s: others may use the machine too."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def matrix_product_rate(size: int = 2048) -> float:
    """Operations per second of a large float32 matrix product."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    return 2 * size**3 / best_time(lambda: a @ b)


def em(
    n: int = 192, c: int = 256, k: int = 20, side: int = 14, block: int = 32
) -> dict[str, float]:
    """Time one iteration over maps in memory, in blocks as mining takes them."""
    torch.manual_seed(0)
    maps = (torch.rand(n, c, side, side) - 0.5).clamp_(min=0)
    pitch = 224 / side
    centres = torch.arange(side) * pitch + pitch / 2
    grid = Grid(centres, centres, pitch**2)
    bounds = Bounds(0.1 / 224**2, pitch / 4, 18.0)
    patterns = Patterns(torch.rand(c, k, 2) * 224, torch.full((c, k), 12.0), torch.ones(c, k))
    delta = torch.randn(n, c, 1, 2) * 15

    def iteration() -> Patterns:
        parts = [
            summarize(maps[i : i + block], delta[i : i + block], patterns, grid, bounds)
            for i in range(0, n, block)
        ]
        return from_summaries(sum(parts[1:], parts[0]), patterns, bounds)

    seconds = best_time(iteration)
    attainable = matrix_product_rate()
    compiled, kernel.available = kernel.available, False
    try:
        plain = best_time(iteration, least=2)
    finally:
        kernel.available = compiled
    nodes = n * c * k
    return {
        "em_us": seconds / nodes * 1e6,
        "em_us_torch": plain / nodes * 1e6,
        "em_efficiency": 6 * side**2 * nodes / seconds / attainable,
    }


def photographs(data: Path) -> dict[str, float]:
    """Time mining and parsing beside bare forward passes over the same photographs."""
    model = efficientnet_lite0.network()
    images = ImageFolder(
        data,
        size=efficientnet_lite0.SIZE,
        mean=efficientnet_lite0.MEAN,
        std=efficientnet_lite0.STD,
    )
    ready = [batch for _, batch in batches(images, 32)]
    single = ready[0][:1]

    @torch.inference_mode()
    def forward(parts: list[torch.Tensor]) -> None:
        for part in parts:
            model(part)

    all_images = best_time(lambda: forward(ready), least=3)
    one_image = best_time(lambda: forward([single]))
    activations = record(model, images, efficientnet_lite0.LAYERS)
    graph = mine_activations(activations)
    mining = best_time(lambda: mine_activations(activations), least=3)
    one = record(model, single, efficientnet_lite0.LAYERS)
    parser = Parser(graph)
    maps = {layer.index: one.maps[layer.index] for layer in one.layers}
    return {
        "mine_over_record": mining / all_images,
        "parse_over_forward": best_time(lambda: parser(maps)) / one_image,
    }


def main() -> None:
    """Measure, print the table, write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--data", type=Path, help="folder of photographs, for the last two figures")
    options = parser.parse_args()
    figures = em()
    if options.data:
        figures |= photographs(options.data)
    print(f"{torch.get_num_threads()} threads, compiled kernel: {kernel.available}\n")
    print("| figure | measured | to reach |\n|---|---:|---:|")
    for key, value in figures.items():
        goal, unit = TARGETS[key]
        print(f"| {key} | {value:.3g} {unit} | {goal} |")
    if options.json:
        with atomic_write(options.json) as path:
            path.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
