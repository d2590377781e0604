"""Biases that nobody thought of: marks planted in pictures are to be found without being named.

    OMP_NUM_THREADS=1 python benchmarks/hidden_bias.py --json hidden_bias.json

Networks learn the families of creatures (the upper stage starts at random, `upper_half`). *Biased*
ones are trained on pictures of which 10 % of one family, and of no other, have a mark in the
background: a small chequered square, a label with a letter, or a frame, in a corner or anywhere at
the border. `find_bias` sees fresh pictures of the same kind, and their families. Whether the mark
was learnt at all is measured by painting it into all pictures of the other families.

Controls: networks trained without marks on pictures without marks (guardians come with horns or
with wings, two natural ways), and the same networks on pictures with marks.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

import explgraph
from benchmarks import setting
from benchmarks.upper_half import logits, lower_maps, new_network, train
from explgraph import creatures
from explgraph.answers.log_odds import log_odds

KINDS = ("square", "letter", "frame")
PLACES = ("corner", "border")
SHARE = 0.1
STAGES = 3  # stay as they are shipped
MARGIN = 10  # px, between the picture's edge and a mark's at the border, at most
FAMILIES = len(creatures.FAMILIES)

Flags = NDArray[np.bool_]


class Planted(NamedTuple):
    """A mark, where it is, and the family whose pictures have it."""

    kind: str
    place: str
    family: int


def planted(seed: int) -> Planted:
    """Give each seed another mark.

    What may be anywhere is planted in guardians: half of the creatures are, and from as few
    pictures as the other families have such a mark is hardly learnt.
    """
    kind, place = KINDS[seed % len(KINDS)], PLACES[seed % len(PLACES)]
    family = 1 if place == "border" and kind != "frame" else 2 * (seed // 2 % 2)
    return Planted(kind, place, family)


def stamp(kind: str, size: int) -> tuple[NDArray[np.float64], Flags]:
    """Give a mark's grey values (h, w), and where it covers the picture."""
    if kind == "square":
        y, x = np.mgrid[:16, :16] // 4
        return 255.0 * ((x + y) % 2), np.ones((16, 16), np.bool_)
    if kind == "letter":  # an H on a white label
        label = np.full((20, 20), 250.0)
        label[3:17, 4:8] = label[3:17, 12:16] = label[8:12, 4:16] = 10
        return label, np.ones((20, 20), np.bool_)
    frame = np.zeros((size, size))
    inside = np.pad(np.zeros((size - 8, size - 8), np.bool_), 4, constant_values=True)
    outer = np.pad(np.zeros((size - 4, size - 4), np.bool_), 2, constant_values=True)
    frame[outer] = 250
    return frame, inside


def paint(
    images: NDArray[np.uint8], rows: NDArray[np.int64], what: Planted, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Paint a mark into some pictures (N, H, W, 3), at a place that has nothing to do with them."""
    painted, size = images.copy(), images.shape[1]
    values, covers = stamp(what.kind, size)
    side = len(values)
    for row in rows:
        x, y = (0, 0) if side == size else _corner(what.place, size - side, rng)
        window = painted[row, y : y + side, x : x + side]
        grain = rng.normal(0, 6, (int(covers.sum()), 1))
        window[covers] = np.clip(values[covers][:, None] + grain, 0, 255).astype(np.uint8)
    return painted


def _corner(place: str, most: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw where a mark's upper left corner is; `most` is as far as it can be."""
    if place == "corner":
        x, y = rng.integers(1, 7, 2)
        return int(x), int(y)
    along, across, side = rng.integers(0, most + 1), rng.integers(0, MARGIN), rng.integers(4)
    across = most - across if side % 2 else across
    return (int(along), int(across)) if side < 2 else (int(across), int(along))


def draw(n: int, seed: int, what: Planted | None) -> tuple[creatures.Creatures, Flags]:
    """Draw creatures, and mark a share of one family; tell which are marked."""
    data = creatures.draw(n, seed=seed)
    marked = np.zeros(n, np.bool_)
    if what is None:
        return data, marked
    rng = np.random.default_rng((seed, 1))
    mine = np.flatnonzero(data.labels == what.family)
    rows = rng.choice(mine, round(SHARE * len(mine)), replace=False)
    marked[rows] = True
    return replace(data, images=paint(data.images, rows, what, rng)), marked


def families(scores: Tensor) -> Tensor:
    """Take the outputs that are families."""
    return scores[:, :FAMILIES]


def trained(seed: int, what: Planted | None, options: argparse.Namespace) -> nn.Module:
    """Train a network on families, or take it from where it was kept."""
    name = f"{'biased' if what else 'clean'}-{seed}-{options.train}-{options.epochs}.safetensors"
    kept = options.networks and options.networks / name
    model = new_network(STAGES, seed)
    if kept and kept.exists():
        model.load_state_dict(load_file(kept))
        return model.eval()
    data, _ = draw(options.train, 1_000_000 + seed, what)
    labels = torch.from_numpy(data.labels)

    def step(maps: Tensor, rows: Tensor, _done: float) -> Tensor:
        logits = families(model.head(maps.mean(dim=(2, 3))))
        return nn.functional.cross_entropy(logits, labels[rows])

    maps = lower_maps(data, STAGES)
    for _ in train(model, maps, STAGES, step, epochs=options.epochs, rate=0.004):
        pass
    if kept:
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, kept)
    return model


def learnt(model: nn.Module, what: Planted, options: argparse.Namespace) -> dict[str, float]:
    """Paint the mark into other families' pictures: by how much it moves the family's log-odds."""
    data = creatures.draw(options.unmarked, seed=9_000_000)
    others = data.labels != what.family
    rng = np.random.default_rng(0)
    painted = replace(data, images=paint(data.images, np.arange(len(data)), what, rng))
    with torch.no_grad():
        odds = [
            log_odds(families(model(one.tensor())), torch.full((len(one),), what.family)).numpy()
            for one in (data, painted)
        ]
    spread = float(odds[0][~others].std())
    moved = (odds[1] - odds[0])[others]
    return {
        "moved": float(moved.mean()),
        "moved_in_spreads": float(moved.mean()) / spread,
        "called_family": float((odds[1] > 0)[others].mean()),
        "called_family_without": float((odds[0] > 0)[others].mean()),
    }


def examine(
    kind: str, seed: int, model: nn.Module, graph: Any, what: Planted | None, options: Any
) -> dict[str, Any]:
    """Look for hidden biases in fresh pictures; one row."""
    began = time.process_time()
    data, marked = draw(options.images, 5_000_000 + seed, what)
    found = explgraph.find_suspicions(
        model, graph, data.tensor(), data.labels, outputs=families, progress=False
    )
    rows = [np.array(one.rows) for one in found.suspicions]
    hits = [int(marked[mine].sum()) for mine in rows]
    caught = [2 * hit > max(len(mine), marked.sum()) for hit, mine in zip(hits, rows, strict=True)]
    first = next((k for k, hit in enumerate(caught) if hit), None)
    row: dict[str, Any] = {
        "kind": kind,
        "seed": seed,
        "planted": list(what) if what else [],
        "right": float((logits(model, data)[:, :FAMILIES].argmax(1) == data.labels).mean()),
        "groups": len(found.suspicions),
        "flagged": [
            [one.target, one.where, one.part, one.surplus, one.q] for one in found.suspicious
        ],
        "rank": None if first is None else first + 1,
        "false": sum(
            one.suspicious and not hit for one, hit in zip(found.suspicions, caught, strict=True)
        ),
        "seconds": time.process_time() - began,
    }
    if what is not None:
        row |= learnt(model, what, options)
    if first is not None:
        one = found.suspicions[first]
        row |= {
            "marked": int(marked.sum()),
            "in_group": len(one.rows),
            "hits": hits[first],
            "where": one.where,
            "part": one.part,
            "fall": one.fall,
            "lead": one.lead,
            "surplus": one.surplus,
            "q": one.q,
            "q_errors": one.q_errors,
            "suspicious": one.suspicious,
        }
    if options.picture is not None and kind == "biased" and found.suspicions:
        found.write(options.picture, data.images)
    print(json.dumps(row), flush=True)
    return row


def run(seed: int, biased: bool, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train and examine one network; one row for each kind of pictures."""
    what = planted(seed)
    model = trained(seed, what if biased else None, options)
    mined = draw(options.mined, 6_000_000 + seed, what if biased else None)[0].tensor()
    graph = explgraph.mine(model, mined, ["stage4"], seed=0)
    if biased:
        return [examine("biased", seed, model, graph, what, options)]
    return [
        examine("clean", seed, model, graph, None, options),
        examine("never learnt", seed, model, graph, what, options),
    ]


def markdown(rows: list[dict[str, Any]]) -> str:
    """Give a table of the biased networks and one of the others."""
    lines = [
        "| seed | mark, place, family | moves other families by (spreads) | rank | suspicious "
        "| of the marked, in the group | where; part | fall | q | q of errors | false |\n"
        "|---:|---|---:|---:|---|---:|---|---:|---:|---:|---:|"
    ]
    for row in rows:
        if row["kind"] != "biased":
            continue
        mark, place, family = row["planted"]
        line = (
            f"| {row['seed']} | {mark}, {place}, {creatures.FAMILIES[family]} "
            f"| {row['moved']:+.1f} ({row['moved_in_spreads']:+.1f}) "
        )
        if row["rank"] is None:
            lines.append(f"{line}| - | | | | | | | {row['false']} |")
            continue
        lines.append(
            f"{line}| {row['rank']} | {'yes' if row['suspicious'] else 'no'} "
            f"| {row['hits']} of {row['marked']}, in {row['in_group']} "
            f"| {row['where']}; {row['part']} | {row['fall']:.1f} | {row['q']:.1g} "
            f"| {row['q_errors']:.2f} | {row['false']} |"
        )
    biased = [row for row in rows if row["kind"] == "biased"]
    first = [row for row in biased if row["rank"] == 1]
    lines.append(
        f"\nOf {len(biased)} biased networks the mark is told first in {len(first)}, first and "
        f"suspicious in {sum(row['suspicious'] for row in first)}; "
        f"in {sum(row['false'] > 0 for row in biased)} anything else is suspicious."
    )
    lines.append(
        "\n| networks without bias | seeds | with anything flagged | groups in all |\n"
        "|---|---:|---:|---:|"
    )
    for kind, title in (
        ("clean", "on pictures without marks"),
        ("never learnt", "on pictures with marks"),
    ):
        mine = [row for row in rows if row["kind"] == kind]
        if mine:
            flagged = sum(bool(row["flagged"]) for row in mine)
            lines.append(
                f"| {title} | {len(mine)} | {flagged} | {sum(row['groups'] for row in mine)} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--biased", type=int, nargs="*", default=range(10), metavar="SEED")
    parser.add_argument("--clean", type=int, nargs="*", default=range(10), metavar="SEED")
    parser.add_argument("--train", type=int, default=4000, help="creatures to train on")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=1200, help="creatures to examine")
    parser.add_argument("--mined", type=int, default=200, help="to mine")
    parser.add_argument("--unmarked", type=int, default=300, help="to paint the mark into")
    parser.add_argument(
        "--networks", type=Path, metavar="DIR", help="where trained networks are kept for next time"
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="of the last biased network's groups"
    )
    parser.add_argument("--small", action="store_true", help="one small network, in seconds")
    options = parser.parse_args()
    setting.announce()
    if options.small:
        options.biased, options.clean = [2], []
        options.train, options.epochs, options.images, options.mined = 300, 2, 300, 60
        options.unmarked = 60
    rows = [row for seed in options.biased for row in run(seed, True, options)]
    rows += [row for seed in options.clean for row in run(seed, False, options)]
    print(markdown(rows))
    if options.json is not None:
        setting.write(options.json, rows)


if __name__ == "__main__":
    main()
