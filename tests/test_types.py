"""What a checker that trusts our annotations catches: wrong calls, and only these."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """\
import torch
import explgraph

graph: explgraph.ExplanatoryGraph = explgraph.load("birds.explgraph")
model: torch.nn.Module = torch.nn.Identity()
images = explgraph.ImageFolder("birds")
found: explgraph.Parse = graph.parse(model, images, batch_size=8, device="cpu", progress=True)
graph.parse(model, "birds")
explgraph.mine(model, "birds")
graph.write("graph.svg", max_nodes=40, time_limit=3.0)
graph.write("graph.html", images=images, parse=found)
explgraph.Parse.read("places.csv", images).write("again.parquet")
explgraph.ablate(model, graph, images, ["stage4/1/0"]).write("scores.csv")

graph.parse(images, model)  # wrong
graph.parse(model, images, batchsize=8)  # wrong
graph.parse(model, 3)  # wrong
graph.write("graph.svg", max_node=40)  # wrong
graph.write("graph.svg", max_nodes="40")  # wrong
graph.write("graph.html", parse=graph)  # wrong
explgraph.ablate(graph, model, images, ["stage4/1/0"])  # wrong
explgraph.find_bias(graph, model, images, {})  # wrong
found.write(3)  # wrong
"""


def test_wrong_calls_are_caught(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "calls.py").write_text(CODE)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary",
         "--config-file", Path(__file__).parents[1] / "pyproject.toml", tmp_path / "calls.py"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    told = [line.split(":")[:2] for line in done.stdout.splitlines() if ": error:" in line]
    found = {int(number) for file, number in told if file.endswith("calls.py")}
    assert found == {n for n, line in enumerate(CODE.splitlines(), 1) if "# wrong" in line}
