"""The main job, as a user runs it: `explgraph mine` on photographs with an ImageNet network.

    python benchmarks/real_photographs.py --data ../shared/animalparts/n02084071

Mines one category with EfficientNet-Lite0, one crop per source photograph, by the command line, in
a process of its own whose time and peak memory are printed; prints `explgraph evaluate`'s table for
the head; then mines again with every second filter's maps exchanged among the images (decoys,
`benchmarks/quality.py`). Last the figures that the project asks for, on the 14 x 14 layer, the best
quarter of the nodes by reliability: tracking >= 0.65, 3-shot <= 0.075, decoys <= 0.10. Ends with 1
if one of them isn't reached.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import efficientnet_lite0, quality, setting

ROOT = Path(__file__).resolve().parents[1]
MODEL = "benchmarks.efficientnet_lite0:network"
LAYER = "_blocks.10._bn0"


def explgraph(*arguments: str) -> tuple[float, float]:
    """Run a command from the repository; give seconds and the peak memory in GiB."""
    start = time.perf_counter()
    # the installed program: python -m explgraph would take the source tree, which lies there
    program = Path(sys.executable).with_name("explgraph")
    process = subprocess.Popen([program, *arguments], cwd=ROOT)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.perf_counter() - start, used.ru_maxrss / 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a category's folder")
    parser.add_argument("--out", type=Path, help="keep the graph and its files here")
    options = parser.parse_args(arguments)
    setting.announce()
    data = options.data.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        out = (options.out or Path(scratch)).resolve()
        common = ["--images", str(data), "--model", MODEL]
        seconds, memory = explgraph(
            "mine", *common, "--one-per-source", str(data / "parts.json"),
            "--layers", ",".join(efficientnet_lite0.LAYERS), "--size", str(efficientnet_lite0.SIZE),
            "--mean", str(efficientnet_lite0.MEAN[0]), "--std", str(efficientnet_lite0.STD[0]),
            "--out", str(out),
        )  # fmt: skip
        print(f"explgraph mine: {seconds:.1f} s, at most {memory:.2f} GiB\n", flush=True)
        rows_file = Path(scratch) / "quality.json"
        explgraph(
            "evaluate", str(out / "graph.explgraph"), *common, "--parts", "head",
            "--landmarks", str(data / "parts.json"), "--out", str(rows_file),
        )  # fmt: skip
        rows = json.loads(rows_file.read_text())
        print(flush=True)
        decoys = quality.main(
            ["--data", str(data.parent), "--categories", data.name, "--methods", "decoys",
             "--json", str(Path(scratch) / "decoys.json")]
        )  # fmt: skip
    (best,) = (r for r in rows if (r["layer"], r["method"]) == (LAYER, "nodes, best quarter"))
    (false,) = (r["decoys, quarter"] for r in decoys if r["layer"] == LAYER)
    print(f"\n{LAYER}, best quarter by reliability, {best['nodes']:.0f} nodes:")
    reached = True
    for name, found, good in (
        ("tracking >= 0.65", best["tracking"], best["tracking"] >= 0.65),
        ("3-shot <= 0.075", best["3-shot"], best["3-shot"] <= 0.075),
        ("decoys <= 0.10", false, false <= 0.10),
    ):
        print(f"  {name}: {found:.3f} {'reached' if good else 'MISSED'}")
        reached &= bool(good)
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
