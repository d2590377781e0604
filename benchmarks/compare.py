"""Two graphs compared: planted changes are to be found, and nothing where there is none.

    OMP_NUM_THREADS=1 python benchmarks/compare.py --json compare.json

Planted, for ten seeds and as many cues, each the attribute of a creature:

*blind*: the upper stages of the creatures' network are trained to give, for any picture, the maps
(of stages 3 and 4) that the shipped network gives for the same picture drawn without the cue. What
they answered to in the cue is gone; all else is as it was.

*dropped*: stage 4 and head learn a class that at least two of three cues make; then they go on
learning, and of the three cues the first no longer counts: the class is there if both others are,
and by a coin if one of them is. Attributes are learnt all the while, so that filters for the cue
live on.

*kept*: the control of both: as *dropped*, but the class goes on being made by all three cues.

Networks are mined before and after, from the same 150 creatures, and compared on 200 others. A
cue can only be seen to go where a part is there for it: one whose presence goes with that attribute
more than with any other, by a correlation of 0.6 or more. So the cue is chosen once the network
before is mined, and before anything is planted: of all ten in turn, by seed, or of the three that
make the class, the first that has such a part. A change is right if its part goes with the cue.
Where it sits is told beside it, by the drawn part that is the nearest (median over images that show
it).

*same*: the shipped network, mined twice under other seeds; mined from two halves of the images.

*networks*: two different ones, on photographs (``--photographs FOLDER``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

import explgraph
from benchmarks import setting
from benchmarks.upper_half import lower_maps, train
from explgraph import creatures
from explgraph.answers.compared import Change

LAYERS = ["stage4", "stage3"]
FAMILIES = len(creatures.FAMILIES)
KIND = 0  # the output that learns the class which cues make
CUES = tuple(creatures.ATTRIBUTES)
CLEAR = 0.6  # correlation of a part that is there for a cue

Label = Callable[[creatures.Creatures], np.ndarray]


def cues_of(seed: int) -> list[str]:
    """Give all cues in turn, another one first for each seed."""
    return [*CUES[seed % 10 :], *CUES[: seed % 10]]


def three_of(seed: int) -> list[str]:
    """Draw three cues, another one first for each seed."""
    first, *others = cues_of(seed)
    return [first, *map(str, np.random.default_rng(seed).permutation(others)[:2])]


def blind_to(cue: str, seed: int, options: argparse.Namespace) -> creatures.CreatureNet:
    """Train a network that sees every picture as if it were drawn without the cue."""
    torch.manual_seed(seed)
    teacher, student = creatures.network(), creatures.network()
    drawn = {"n": options.train, "seed": 2_000_000 + seed}
    seen = lower_maps(creatures.draw(**drawn), 2)
    without = lower_maps(creatures.draw(**drawn, fixed={cue: False}), 2)
    with torch.no_grad():
        middle = torch.cat([teacher.stage3(maps.float()) for maps in without.split(100)])
        top = torch.cat([teacher.stage4(maps) for maps in middle.split(100)])
    given: list[Tensor] = []
    hook = student.stage3.register_forward_hook(lambda *call: given.append(call[2]))

    def step(maps: Tensor, rows: Tensor, _done: float) -> Tensor:
        error = nn.functional.mse_loss
        return error(maps, top[rows]) / top.var() + error(given.pop(), middle[rows]) / middle.var()

    for _ in train(student, seen, 2, step, epochs=options.epochs, rate=0.002):
        pass
    hook.remove()
    return student


def taught(
    start: nn.Module, label: Label, seed: int, options: argparse.Namespace
) -> creatures.CreatureNet:
    """Go on training stage 4 and head on a class and all attributes, from a network's weights."""
    torch.manual_seed(seed)
    model = creatures.network(pretrained=False)
    model.load_state_dict(start.state_dict())
    data = creatures.draw(options.train, seed=3_000_000 + seed)
    targets = data.targets()
    targets[:, KIND] = torch.from_numpy(label(data)).float()

    def step(maps: Tensor, rows: Tensor, _done: float) -> Tensor:
        logits = model.head(maps.mean(dim=(2, 3)))
        cross = nn.functional.binary_cross_entropy_with_logits
        return 3 * cross(logits[:, KIND], targets[rows, KIND]) + cross(
            logits[:, FAMILIES:], targets[rows, FAMILIES:]
        )

    for _ in train(model, lower_maps(data, 3), 3, step, epochs=options.epochs, rate=0.001):
        pass
    return model


def two_of(cues: Sequence[str]) -> Label:
    """Give the class that at least two of three cues make."""
    return lambda data: sum(data.attributes[cue].astype(int) for cue in cues) >= 2


def both_of(cues: Sequence[str], seed: int) -> Label:
    """Give the class that two cues make, by a coin where they disagree."""

    def label(data: creatures.Creatures) -> np.ndarray:
        one, other = (data.attributes[cue] for cue in cues)
        coin = np.random.default_rng(seed).random(len(one)) < 0.5
        return np.where(one == other, one, coin)

    return label


class Part(NamedTuple):
    """What a part really is: the nearest drawn part, the attribute it goes with, how far."""

    sits: str
    goes: str
    correlation: float


def truth_of(graph: Any, model: nn.Module, data: creatures.Creatures) -> dict[str, Part]:
    """Say what the parts of a graph really are."""
    found = graph.parse(model, data.tensor()).parts
    parts = {}
    for k, part in enumerate(found.parts):
        apart = {
            name: float(np.median(np.hypot(*(found.positions[seen, k] - at[seen]).T)))
            for (name, at), seen in zip(data.parts.items(), data.visible.values(), strict=True)
        }
        together = {
            name: abs(float(np.corrcoef(found.presence[:, k], has)[0, 1]))
            for name, has in data.attributes.items()
        }
        goes = max(together, key=together.__getitem__)
        parts[part] = Part(min(apart, key=apart.__getitem__), goes, together[goes])
    return parts


def with_part(cues: Sequence[str], parts: dict[str, Part]) -> str:
    """Choose the first cue that a part goes with; the first of all if none has any."""
    seen = {part.goes for part in parts.values() if part.correlation >= CLEAR}
    return next((cue for cue in cues if cue in seen), cues[0])


def mined(model: nn.Module, options: argparse.Namespace, seed: int, **of: Any) -> Any:
    """Mine creatures that depend on the seed alone."""
    data = creatures.draw(options.mined, seed=4_000_000 + seed).tensor()
    return explgraph.mine(model, data[of.get("images", slice(None))], LAYERS, seed=of.get("of", 0))


def planted(
    name: str, seed: int, options: argparse.Namespace, known: dict[int, Any]
) -> dict[str, Any]:
    """Plant a change and compare; what learnt a class by three cues is kept by seed."""
    began = time.process_time()
    data = creatures.draw(options.images, seed=5_000_000 + seed)
    before: nn.Module = creatures.network()
    cues = cues_of(seed)
    if name == "blind":
        graph = mined(before, options, seed)
    else:
        cues = three_of(seed)
        if seed not in known:
            taught_before = taught(before, two_of(cues), seed, options)
            known[seed] = taught_before, mined(taught_before, options, seed)
        before, graph = known[seed]
    parts = {"a": truth_of(graph, before, data)}
    cue = with_part(cues, parts["a"])
    others = [other for other in cues if other != cue]
    classes = {cue: FAMILIES + CUES.index(cue)} if name == "blind" else {"kind": KIND}
    if name == "blind":
        after = blind_to(cue, seed, options)
    else:
        label = two_of(cues) if name == "kept" else both_of(others, seed)
        after = taught(before, label, seed + 500_000, options)
    other = mined(after, options, seed)
    parts["b"] = truth_of(other, after, data)
    prepared = time.process_time() - began
    found = explgraph.compare(
        graph, other, data.tensor(), models=(before, after), classes=classes, seed=seed
    )

    def told(change: Change) -> str:
        part = parts[change.graph][change.part]
        on = f" on {change.class_title}" if change.kind == "effect" else ""
        return f"{change.kind}{on}: at {part.sits}, with {part.goes}"

    kind = "vanished" if name == "blind" else "effect"
    tested = sorted((c for c in found.changes if c.kind == kind), key=lambda c: -c.strength)
    right = [parts[change.graph][change.part].goes == cue for change in tested]
    changed = [parts[change.graph][change.part].goes == cue for change in found.changed]
    return {
        "planted": name,
        "seed": seed,
        "cue": cue,
        "passed": cues.index(cue) if name == "blind" else None,
        "rank": 1 + right.index(True) if any(right) else None,
        "rank_of_all": 1 + changed.index(True) if any(changed) else None,
        "told": bool(right) and bool(tested[0].changed),
        "first": told(found.changed[0]) if found.changed else "",
        "first_of_kind": told(tested[0]),
        "before": tested[0].before,
        "after": tested[0].after,
        "strength": tested[0].strength,
        "next": next((c.strength for c, mine in zip(tested, right, strict=True) if not mine), 0.0),
        "changed": [told(change) for change in found.changed],
        "others": sum(not mine for mine in changed),
        "states": {s: found.count(s) for s in ("same", "moved", "vanished", "appeared", "alone")},
        "seconds": prepared,
        "compare_seconds": time.process_time() - began - prepared,
    }


def same(seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare a network with itself, mined anew, and from two halves of the images."""
    model = creatures.network()
    data = creatures.draw(options.images, seed=5_000_000 + seed)
    half = options.mined // 2
    graphs = {
        "another seed": [mined(model, options, seed, of=k) for k in (seed, 1000 + seed)],
        "two halves": [
            mined(model, options, seed, of=k, images=part)
            for k, part in ((0, slice(half)), (1, slice(half, None)))
        ],
    }
    rows = []
    for name, (one, other) in graphs.items():
        found = explgraph.compare(one, other, data.tensor(), models=model, seed=seed)
        fewer = min(len(one.parts), len(other.parts))
        rows.append(
            {
                "planted": name,
                "seed": seed,
                "tests": len(found.changes),
                "changed": len(found.changed),
                "same": found.count("same") / fewer,
                "beyond_chance": found.beyond_chance,
                "similarity": float(np.nanmedian([m.similarity for m in found.matches])),
            }
        )
    return rows


def networks(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare two different networks on photographs that neither was mined from."""
    from benchmarks import efficientnet_lite0, mobilenet_v2

    both = efficientnet_lite0, mobilenet_v2
    models = tuple(one.network() for one in both)
    rows = []
    for category in options.categories:
        told = json.loads((folder / category / "parts.json").read_text(encoding="utf-8"))
        first = {}
        for crop, source in told["source"].items():
            first.setdefault(source, crop)  # one crop of each photograph
        names = sorted(first.values())
        graphs = [
            explgraph.mine(
                model,
                explgraph.ImageFolder(
                    folder / category, size=one.SIZE, mean=one.MEAN, std=one.STD, names=names[::2]
                ),
                one.LAYERS,
                seed=0,
            )
            for model, one in zip(models, both, strict=True)
        ]
        # each network has its own way of making photographs ready
        photographs = [folder / category / name for name in names[1::2]]
        began = time.process_time()
        found = explgraph.compare(*graphs, photographs, models=models, classes=[])
        distances = [m.distance for m in found.matches if m.b and m.a]
        states = ("same", "moved", "vanished", "appeared", "alone")
        rows.append(
            {
                "planted": "networks",
                "category": told["category"],
                "images": len(photographs),
                "parts": [len(graph.parts) for graph in graphs],
                "beyond_chance": found.beyond_chance,
                "same": found.count("same") / min(len(graph.parts) for graph in graphs),
                "distance": float(np.median(distances)) if distances else None,
                "states": {state: found.count(state) for state in states},
                "changed": [change.told() for change in found.changed],
                "compare_seconds": time.process_time() - began,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """Give a table for each question."""
    lines: list[str] = []
    for name in ("blind", "dropped", "kept"):
        mine = [row for row in rows if row["planted"] == name]
        if not mine:
            continue
        lines += [
            f"\n| {name}: seed | cue | rank of its part | among all changes | strength (next "
            "other part) | told | first of all changes | changes (of other parts) |",
            "|---:|---|---:|---:|---|---|---|---:|",
        ]
        for row in mine:
            lines.append(
                f"| {row['seed']} | {row['cue']} | {row['rank']} | {row['rank_of_all'] or '-'} "
                f"| {row['strength']:.2f} ({row['next']:.2f}) | {'yes' if row['told'] else 'no'} "
                f"| {row['first'] or '-'} | {len(row['changed'])} ({row['others']}) |"
            )
        first = sum(row["rank"] == 1 for row in mine)
        lines.append(f"\n{name}: rank 1 in {first} of {len(mine)}")
    for name in ("another seed", "two halves"):
        mine = [row for row in rows if row["planted"] == name]
        if mine:
            lines.append(
                f"\n{name}: nothing changed in {sum(not row['changed'] for row in mine)} of "
                f"{len(mine)}, {sum(row['tests'] for row in mine)} tests; "
                f"{np.mean([row['same'] for row in mine]):.2f} of the parts found again, "
                f"{np.mean([row['beyond_chance'] for row in mine]):.2f} matched beyond chance"
            )
    mine = [row for row in rows if row["planted"] == "networks"]
    if mine:
        lines += [
            "\n| photographs | images | parts | matched beyond chance | the same | px apart "
            "| vanished, appeared, moved |",
            "|---|---:|---|---:|---:|---:|---|",
        ]
        for row in mine:
            states = row["states"]
            apart = "-" if row["distance"] is None else f"{row['distance']:.1f}"
            lines.append(
                f"| {row['category']} | {row['images']} | {' and '.join(map(str, row['parts']))} "
                f"| {row['beyond_chance']:.2f} | {row['same']:.2f} | {apart} "
                f"| {states['vanished']}, {states['appeared']}, {states['moved']} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--seeds", type=int, nargs="*", default=range(10), metavar="SEED")
    parser.add_argument("--what", nargs="*", default=["blind", "dropped", "kept", "same"])
    parser.add_argument("--photographs", type=Path, metavar="FOLDER")
    parser.add_argument("--categories", nargs="*", default=["n02084071", "n02121808"])
    parser.add_argument("--train", type=int, default=800, help="creatures to train on")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--mined", type=int, default=150, help="creatures to mine")
    parser.add_argument("--images", type=int, default=200, help="creatures to compare on")
    parser.add_argument("--small", action="store_true", help="little of all, to see that it runs")
    options = parser.parse_args()
    setting.announce()
    if options.small:
        options.seeds, options.train, options.epochs = [0], 64, 1
        options.mined, options.images = 40, 40
        options.what = ["dropped"]
    # that few creatures are mined, and that outputs hardly differ, is meant
    warnings.simplefilter("ignore", explgraph.ExplgraphWarning)
    rows: list[dict[str, Any]] = []
    known: dict[int, Any] = {}
    for seed in options.seeds:
        for what in options.what:
            new = same(seed, options) if what == "same" else [planted(what, seed, options, known)]
            rows += new
            for row in new:
                print(json.dumps(row), flush=True)
    if options.photographs is not None:
        rows += networks(options.photographs, options)
    print(markdown(rows))
    if options.json is not None:
        setting.write(options.json, rows)


if __name__ == "__main__":
    main()
