"""Speed and memory beside what the same run finds attainable: the table of docs/results.md.

    python benchmarks/speed.py --data ../shared/animalparts/n02084071 --json speed.json

Figures of the first part are the best of several repeats, on torch's number of threads. Those of
the second part come from processes of their own, so that memory is theirs alone. Keys of the JSON
file:

==================  ================================================================================
em_us               one iteration of EM (E and M step), microseconds per image and node: maps of
                    14 x 14 units, 20 patterns per filter, half of the units silent
em_us_torch         the same without the compiled kernel
em_efficiency       arithmetic of that iteration, counted as 6 H W operations per image and node, as
                    a share of what a large float32 matrix product reaches
mine_over_record    mining three layers of EfficientNet-Lite0 (672 x 14 x 14, 1152 and 1280 x
                    7 x 7), recording excluded, over a bare forward pass of all images in `--data`
parse_over_forward  parsing one image, forward pass excluded, over a bare forward pass of one image
memory_gb           most memory of mining 20,000 images from a store on disk (a layer of
                    512 x 14 x 14, synthetic), GB
memory_ratio        the same over that of mining 2,000 images
time_ratio          time of mining 20,000 images over that of mining 2,000
store_read_us       reading a filter's map of 14 x 14 units from the store, microseconds
store_bytes         of a map in the store (392 as float16, uncompressed)
mine_us             mining from the store, microseconds per map (image x filter)
two_process_        time of mining 2,000 images from the store by one process over that by two; each
speedup             has one thread and one core
link_gb             most memory of linking children to 20,000 candidates over 1,000 images, GB
link_s              time of linking 100,000 children so; measured on a tenth of them (they are
                    worked on 1,677 at a time, so that memory does not depend on it), times ten
link_efficiency     arithmetic of that, counted as 12 operations per image and pair, as a share of
                    what a large float32 matrix product reaches
==================  ================================================================================
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import efficientnet_lite0, setting
from explgraph import ImageFolder, mine, mine_activations, open_store, record
from explgraph.activations.processes import joined
from explgraph.activations.streaming import BLOCK, Images
from explgraph.images.batches import batches
from explgraph.mining.linking import link
from explgraph.mining.tracks import Tracks, track
from explgraph.parser import Parser
from explgraph.statistics import kernel
from explgraph.statistics.mixture import Bounds, Grid, Mixture, e_step, m_step


class Target(NamedTuple):
    """What a figure should reach, and in which unit it is."""

    goal: str
    unit: str


TARGETS = {
    "em_us": Target("<= 0.02", "us"),
    "em_us_torch": Target("", "us"),
    "em_efficiency": Target(">= 0.15", ""),
    "mine_over_record": Target("<= 0.6", ""),
    "parse_over_forward": Target("<= 0.4", ""),
    "memory_gb": Target("< 2", "GB"),
    "memory_ratio": Target("<= 1.10", ""),
    "time_ratio": Target("<= 10.5", ""),
    "store_read_us": Target("", "us"),
    "store_bytes": Target("", ""),
    "mine_us": Target("", "us"),
    "two_process_speedup": Target(">= 1.7", ""),
    "link_gb": Target("< 3", "GB"),
    "link_s": Target("", "s"),
    "link_efficiency": Target("", ""),
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


def em(n: int = 192, c: int = 256, k: int = 20, side: int = 14) -> dict[str, float]:
    """Time one iteration over a sample's maps in memory."""
    torch.manual_seed(0)
    maps = (torch.rand(n, c, side, side) - 0.5).clamp_(min=0)
    pitch = 224 / side
    centres = torch.arange(side) * pitch + pitch / 2
    grid = Grid(centres, centres, pitch**2)
    bounds = Bounds(pitch / 2, 27.0, 0.02, 20.0)
    mixture = Mixture(
        torch.rand(c, k, 2) * 224,
        torch.ones(c, k),
        torch.full((c, k), 12.0),
        torch.full((c, k), 0.9 / k),
        torch.full((c,), 0.1),
    )
    motion = torch.randn(n, c, k, 2) * 15
    which, area = torch.arange(c), 224.0**2

    def iteration() -> Mixture:
        counts = e_step(
            maps,
            which,
            mixture.places(motion),
            mixture.sigma,
            mixture.share[None],
            mixture.background[None] / area,
            grid,
        )
        return m_step(counts, mixture, motion, bounds)

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


# ------------------------------------------------------------ what runs in a process of its own


class Blobs(Dataset[Tensor]):
    """Small images, 14 x 14 px: in each colour a blob that moves about, two of them together."""

    def __init__(self, n: int) -> None:
        draws = torch.Generator().manual_seed(0)
        self.centre = 3 + 8 * torch.rand(n, 3, 2, generator=draws)
        self.centre[:, 1] = 13 - self.centre[:, 0]
        self.at = torch.arange(14) + 0.5

    def __len__(self) -> int:
        return len(self.centre)

    def __getitem__(self, index: int) -> Tensor:
        x, y = ((-(self.at - self.centre[index, :, None, i]).square() / 4).exp() for i in (0, 1))
        noise = torch.Generator().manual_seed(index)
        return y[:, :, None] * x[:, None] + 0.1 * torch.randn(3, 14, 14, generator=noise)


def mixer(filters: int = 512) -> nn.Module:
    """Give filters that look for some of the blobs each."""
    model = nn.Sequential(nn.Conv2d(3, filters, 3, padding=1), nn.ReLU()).eval()
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(model[0].weight.shape, generator=draws))
        model[0].bias.fill_(-0.3)
    return model


def record_worker(store: str, n: str) -> dict[str, float]:
    """Make the store."""
    start = time.perf_counter()
    kept = record(mixer(), Blobs(int(n)), ["1"], store=store)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    for _ in kept.blocks(0, BLOCK):
        pass
    maps = kept.n_images * kept.layers[0].channels
    size = sum(file.stat().st_size for file in Path(store).rglob("*") if file.is_file())
    return {
        "record_s": seconds,
        "read_us": (time.perf_counter() - start) / maps * 1e6,
        "bytes": size / maps,
    }


def mine_worker(store: str, core: str = "") -> dict[str, float]:
    """Mine from a store; with a core named, on one core for each process."""
    with joined() as team:
        if core:
            torch.set_num_threads(1)
            os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[team.rank]})
        kept = open_store(store)
        start = time.perf_counter()
        graph = mine(store=kept)
        seconds = time.perf_counter() - start
        # one process tells, of several
        return {"s": seconds, "nodes": len(graph)} if team.rank == 0 else {}


def link_worker(children: str) -> dict[str, float]:
    """Link nodes that move at random to 20,000 candidates."""
    n, v, u = 1000, int(children), 20_000
    with tempfile.TemporaryDirectory() as folder:
        images = Images(n, folder=Path(folder))

        def nodes(number: int, seed: int) -> Tracks:
            draws = torch.Generator().manual_seed(seed)

            def places() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
                for here in images:
                    shape = (here.stop - here.start, number)
                    at, expected = (224 * torch.rand(*shape, 2, generator=draws) for _ in "ab")
                    yield at, torch.rand(shape, generator=draws), expected

            return track(images, places())

        tracks = nodes(v, 0), nodes(u, 1)
        start = time.perf_counter()
        link(images, *tracks, 5, area=224.0**2, seed=0)
        seconds = time.perf_counter() - start
    return {"s": seconds, "efficiency": 12 * n * v * u / seconds / matrix_product_rate()}


WORKERS = {"record": record_worker, "mine": mine_worker, "link": link_worker}


def worker(*arguments: str, processes: int = 1) -> dict[str, float]:
    """Run one of `WORKERS` as a program; what it gives, and the most memory that it had, GB."""
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launch if processes > 1 else []), __file__, "--worker", *arguments]
    threads = {"OMP_NUM_THREADS": "1"} if processes > 1 else {}
    done = subprocess.run(
        command, env=os.environ | threads, stdout=subprocess.PIPE, text=True, check=True
    )
    told: dict[str, float] = json.loads(done.stdout)
    return told


def large(images: int, link_children: int) -> dict[str, float]:
    """Memory and time of mining many images from disk, by one process and by two; of linking."""
    with tempfile.TemporaryDirectory() as folder:
        few, many = (str(Path(folder) / name) for name in ("few", "many"))
        worker("record", few, str(images // 10))
        recorded = worker("record", many, str(images))
        small, big = worker("mine", few), worker("mine", many)
        one, two = (worker("mine", few, "core", processes=p) for p in (1, 2))
        maps = images * 512
        linked = worker("link", str(link_children))
    return {
        "memory_gb": big["gb"],
        "memory_ratio": big["gb"] / small["gb"],
        "time_ratio": big["s"] / small["s"],
        "store_read_us": recorded["read_us"],
        "store_bytes": recorded["bytes"],
        "mine_us": big["s"] / maps * 1e6,
        "two_process_speedup": one["s"] / two["s"],
        "link_gb": linked["gb"],
        "link_s": linked["s"] * 100_000 / link_children,
        "link_efficiency": linked["efficiency"],
    }


def main() -> None:
    """Measure, print the table, write the figures."""
    if sys.argv[1:2] == ["--worker"]:
        told = WORKERS[sys.argv[2]](*sys.argv[3:])
        if told:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps(told | {"gb": peak / 1e9}))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--data", type=Path, help="folder of photographs, for mine_over_record")
    parser.add_argument(
        "--images", type=int, default=20_000, help="in the large store; 0: no store"
    )
    parser.add_argument("--link-children", type=int, default=10_000, help="of 100,000")
    options = parser.parse_args()
    setting.announce()
    figures = em()
    if options.data:
        figures |= photographs(options.data)
    if options.images:
        figures |= large(options.images, options.link_children)
    print("| figure | measured | to reach |\n|---|---:|---:|")
    for key, value in figures.items():
        goal, unit = TARGETS[key]
        print(f"| {key} | {value:.3g} {unit} | {goal} |")
    if options.json:
        setting.write(options.json, figures)


if __name__ == "__main__":
    main()
