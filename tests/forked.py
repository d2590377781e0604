"""A job of recording and mining, done by processes that are forked, and killed, again and again.

Run as a program by tests, so that torch is imported once and no threads are running when it forks:

    python forked.py kills FOLDER     kill the job at random moments; print what happened as JSON
    python forked.py ranks P FOLDER   do it by P processes
    python forked.py death P FOLDER   the same, but the last process dies in the middle
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from explgraph import mine  # imported before forking, since it takes long
from explgraph.activations import streaming
from explgraph.errors import ExplgraphError

if sys.version_info >= (3, 11):
    import zarr  # noqa: F401  before forking, since it takes long

LAYERS = ("0", "2")
N = 4 * streaming.BLOCK + 9


class Slow(nn.Sequential):
    """Two convolutions; every forward pass takes a while, and leaves a mark in a file."""

    def __init__(self, marks: Path | None = None) -> None:
        super().__init__(
            nn.Conv2d(3, 12, 5, 4, 2), nn.ReLU(), nn.Conv2d(12, 10, 3, 2, 1), nn.ReLU()
        )
        self.marks = marks
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 5)

    def forward(self, x: Tensor) -> Tensor:
        if self.marks is not None and len(x) > 4:  # not those that measure unit centres
            time.sleep(0.05)
            with self.marks.open("a") as file:
                file.write(f"{len(x)}\n")
        return super().forward(x)


def images() -> Tensor:
    """Blobs of colour that move about, over noise."""
    generator = torch.Generator().manual_seed(1)
    centre = 20 + 24 * torch.rand(N, 2, generator=generator)
    at = torch.arange(64) + 0.5
    blob = [(-(at - centre[:, i, None]).square() / 60).exp() for i in (0, 1)]
    colour = torch.tensor([2.0, -1.0, 1.0])[:, None, None]
    noise = 0.3 * torch.randn(N, 3, 64, 64, generator=generator)
    return colour * (blob[1][:, :, None] * blob[0][:, None])[:, None] + noise


def job(folder: Path) -> None:
    """Record, mine, and save the graph in the first process."""
    model = Slow(folder / "marks").eval()
    graph = mine(model, images(), LAYERS, store=folder / "store", checkpoint=folder / "checkpoint")
    if not distributed.is_initialized() or distributed.get_rank() == 0:
        graph.save(folder / "graph.explgraph")


def fork(work: Callable[..., None], *arguments: object) -> int:
    """Start a process; its exit code says whether it came to its end."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work(*arguments)
        code = 0
    except KeyboardInterrupt:
        code = 130
    except ExplgraphError as err:
        print(err, file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def recorded(folder: Path) -> bool:
    """Whether recording has finished."""
    file = folder / "store" / "zarr.json"
    return file.exists() and '"checksum"' in file.read_text()


def kills(folder: Path) -> dict[str, object]:
    """Kill the job at random moments until it has been killed often enough in both halves."""
    rng = random.Random(0)
    killed = {"recording": 0, "mining": 0}
    rounds = []
    while min(killed.values()) < 6 or sum(killed.values()) < 24:
        place = folder / str(len(rounds))
        place.mkdir()
        before, done = sum(killed.values()), False
        while not done:
            pid = fork(job, place)
            end = time.monotonic() + rng.uniform(0.05, 0.6)
            while not (done := os.waitpid(pid, os.WNOHANG)[0] == pid):
                if time.monotonic() > end:
                    half = "mining" if recorded(place) else "recording"
                    os.kill(pid, rng.choice((signal.SIGKILL, signal.SIGINT)))
                    done = os.waitpid(pid, 0)[1] == 0
                    killed[half] += not done
                    break
                time.sleep(0.002)
        marks = (place / "marks").read_text().split()
        rounds.append({"kills": sum(killed.values()) - before, "batches": len(marks)})
    return {"killed": killed, "rounds": rounds}


def ranks(number: int, folder: Path, *, dying: bool = False) -> list[int]:
    """Do the job by several processes; give their exit codes."""

    def work(rank: int) -> None:
        torch.set_num_threads(1)
        distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=number
        )
        if dying and rank == number - 1:
            from explgraph.mining import mining

            mining.mine_layer = lambda *_, **__: os._exit(7)
        job(folder)

    pids = [fork(work, rank) for rank in range(number)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    (folder / "meeting").unlink(missing_ok=True)
    return codes


if __name__ == "__main__":
    torch.set_num_threads(1)
    what, *numbers, place = sys.argv[1:]
    if what == "kills":
        print(json.dumps(kills(Path(place))))
    else:
        print(json.dumps(ranks(int(numbers[0]), Path(place), dying=what == "death")))
