"""The compiled kernel under gcc's sanitizers, with shapes and numbers of every kind (`faults`).

The kernel is compiled with ``-fsanitize=address,undefined`` into a temporary folder and takes the
place of the installed one in a process of its own, where it is called by random tensors: none,
one, many images, filters and units, zeros, infinite and huge numbers, NaN; also shapes that don't
fit. What it gives for ordinary numbers is compared with torch's work.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path

ABOUT = {"kernel": "calls of the compiled kernel, under sanitizers"}
_SOURCE = Path("explgraph/statistics/kernel.c")


def run(tries: int, seed: int, told: list[str]) -> Counter[str]:
    """Compile and call it; nothing is counted where there is no source, gcc or sanitizer."""
    import explgraph

    source = Path(explgraph.__file__).parents[1] / _SOURCE
    if not source.exists():
        source = Path(__file__).parents[1] / _SOURCE
    row: Counter[str] = Counter()
    gcc = shutil.which("gcc")
    if gcc is None or not source.exists():
        print("kernel: not tried, there is no gcc, or no source")
        return row
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        built = Path(folder) / "_kernel.abi3.so"
        command = [
            gcc, "-shared", "-fPIC", "-O1", "-g", "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all", f"-I{sysconfig.get_path('include')}", str(source),
            "-o", str(built), "-lm",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"kernel: not tried, gcc can't build it so ({done.stderr.splitlines()[:1]})")
            return row
        library = subprocess.run(
            [gcc, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
        )
        env = os.environ | {
            "LD_PRELOAD": library.stdout.strip(),
            "ASAN_OPTIONS": "detect_leaks=0,halt_on_error=1",
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run(
            [sys.executable, __file__, str(built), str(tries), str(seed)],
            capture_output=True, text=True, env=env,
        )  # fmt: skip
    lines = done.stdout.splitlines()
    row.update(json.loads(lines[-1]) if lines and done.returncode == 0 else {})
    if done.returncode:
        row["tried"] += 1
        row["raw"] += 1
        told.append(f"kernel: {done.stderr[-2000:]}")
    return row


def _called(tries: int, seed: int) -> Counter[str]:
    """Call the kernel, and torch."""
    import torch

    from explgraph.statistics import kernel, mixture

    row: Counter[str] = Counter()
    for i in range(tries):
        rng = random.Random(f"{seed} kernel {i}")
        torch.manual_seed(rng.randrange(2**31))
        n, c, k = rng.choice((0, 1, 2, 5)), rng.choice((0, 1, 3, 9)), rng.choice((1, 2, 7, 16))
        h, w = rng.choice((1, 2, 3, 7, 16, 31)), rng.choice((1, 2, 5, 8, 17, 33))
        maps = torch.rand(n, c, h, w) * rng.choice((0, 1, 1, 1e-20, 1e20))
        strange = rng.random() < 0.3
        if strange and maps.numel():
            maps.view(-1)[rng.randrange(maps.numel())] = rng.choice(
                (float("nan"), float("inf"), 3e38, -1.0)
            )
        x, y = torch.arange(w) * 4.0 + 2, torch.arange(h) * 4.0 + 2
        expected = torch.rand(n, c, k, 2) * rng.choice((1, 40, 40, 1e6))
        ordinary = not strange and maps.max() == maps.clamp(max=1).max() if maps.numel() else False
        row["tried"] += 1
        try:
            if rng.random() < 0.1:  # what doesn't fit is refused
                kernel.survey(maps, expected[..., :1], 4.0, x, y)
                row["wrong"] += expected.numel() > 0
                row["right"] += expected.numel() == 0
                continue
            sigma = rng.choice((1e-3, 4.0, 1e4))
            kernel.survey(maps, expected, sigma, x, y)
            kernel.peaks(maps, x, y, rng.choice((0.0, 1e-3, 9.0, 1e4)))
            centre = expected.contiguous()
            share = torch.rand(1, c, k)
            kernel.e_step(
                maps, torch.arange(c), centre, torch.rand(c, k) + sigma, share,
                torch.rand(1, c), x, y, rng.random() < 0.5,
            )  # fmt: skip
        except ValueError:
            row["clear error"] += 1
            continue
        if ordinary and sigma == 4.0:
            grid = mixture.Grid(x, y, 16.0)
            found = mixture.survey(maps, expected, sigma, grid)
            kernel.available = False
            truth = mixture.survey(maps, expected, sigma, grid)
            kernel.available = True
            same = all(
                torch.allclose(a, b, rtol=1e-3, atol=1e-3)
                for a, b in zip(found, truth, strict=True)
            )
            row["right" if same else "wrong"] += 1
        else:
            row["right"] += 1
    return row


def _main() -> None:
    import importlib.util

    import explgraph.statistics

    name = "explgraph.statistics._kernel"
    spec = importlib.util.spec_from_file_location(name, sys.argv[1])
    if spec is None or spec.loader is None:
        raise SystemExit("no kernel")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = explgraph.statistics._kernel = module
    spec.loader.exec_module(module)
    print(json.dumps(_called(int(sys.argv[2]), int(sys.argv[3]))))


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    _main()
