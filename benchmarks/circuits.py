"""Circuits: few parts, the right ones, and what they cost.

    python benchmarks/circuits.py --json circuits.json
    python benchmarks/circuits.py --photographs ../shared/animalparts --json circuits.json

*Creatures.* Each attribute and each family is a class, whose planted causes are known: an
attribute's own part; of families, which have horns, wings, both or neither, horn and wing. Images
are those that show the class (an attribute: with its part visible); what stands in is the mean over
all creatures. The graph is mined from other images. Columns:

=============  ==================================================================================
parts          in the circuit at ``keep=0.9``
kept           by it, on images that it was not found on
reached        whether 0.9 can be kept by parts
precision      share of the circuit's parts that lie at a planted cause: within 0.12 of the side of
               where it is, or would be, median over images; "by chance" the same of all parts
recall         share of the planted causes at which one of the circuit's parts lies
on it          share of the circuit's parts that lie on what the planted cause paints, for shapes
               are larger than the point that marks them: within half a unit of the top layer (8 px)
               of a pixel that it changes, median over images; "on it by chance" of all parts
through        of what the planted cause does to the score, the share that goes through the circuit:
               the same creatures are drawn without it, and what the circuit's parts hold is
               exchanged for what is there then; "all" through all parts together
idle           share of the circuit's parts through which less than 0.02 of it goes
slope          parts that it takes to keep as much by gradient times activation, the most first;
               on the same images; as many as there are and one more where all don't
nodes          in the circuit by nodes; "slope nodes" that it takes by gradient times activation
=============  ==================================================================================

*Photographs* (``--photographs``, a folder of folders): EfficientNet-Lite0, a graph of tigers' crops
(`n02129604`), the 300 most reliable nodes as candidates, 200 photographs of tigers, reference: 20
of each folder. Columns: how many parts or nodes, what they, all, and random ones keep, and
processor time.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn
from torch.utils.data import ConcatDataset

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import efficientnet_lite0, recorded, setting
from explgraph import (
    ExplanatoryGraph,
    ExplgraphWarning,
    ImageFolder,
    creatures,
    mine,
    mine_activations,
)
from explgraph.circuits.circuit import Circuit
from explgraph.circuits.judging import Judge
from explgraph.circuits.trials import Asked, Trials
from explgraph.explaining.attribution import Places
from explgraph.explaining.by_part import By
from explgraph.explaining.intervene import run
from explgraph.explaining.replaced import Replacement, StandIns
from explgraph.network.gradients import gradients_of
from explgraph.network.outputs import Scorer

KEEP = 0.9
NEAR = 0.12  # of the side
IDLE = 0.02
HALF_UNIT = 8.0  # px, of stage4
CHANGED = 0.1  # of a standard deviation of colours, 6 of 255: more than rounding
# what circuits of photographs are of, and what stands in
WAYS: list[tuple[By, Replacement]] = [
    ("part", "mean"),
    ("node", "mean"),
    ("node", "resampled"),
    ("node", "zero"),
]
TIGERS, TIGER = "n02129604", 292  # folder; class of ImageNet
FEW = ("horns", "dragon")  # classes that --small asks about
RUNNING: dict[str, Any] = {"scorer": Scorer(), "batch_size": 32, "device": "cpu"}


class Exchanged:
    """Stands in for each image's activation what its picture without the planted cause has."""

    def __init__(self, model: nn.Module, graph: ExplanatoryGraph, shown: Tensor, without: Tensor):
        maps = run(model, without, graph.layers).maps
        self._row = {_key(image): k for k, image in enumerate(shown)}
        self._maps = {name: values.detach().relu() for name, values in maps.items()}

    def __call__(self, layer: str, batch: Tensor) -> Tensor:
        """Give what stands in for a layer's activation in images (n, 3, H, W)."""
        return self._maps[layer][[self._row[_key(image)] for image in batch]]


def _key(image: Tensor) -> int:
    return zlib.crc32(image.contiguous().numpy().tobytes())


def slopes(
    model: nn.Module, graph: ExplanatoryGraph, layer_name: str, images: Tensor, number: int
) -> dict[str, float]:
    """Give gradient times activation of what each node of a layer holds, mean over images."""
    places = Places(graph)
    nodes = graph.nodes_of(layer_name)
    total = torch.zeros(len(nodes), dtype=torch.float64)
    for batch in images.split(32):
        done = run(model, batch, graph.layers, gradients=True)
        maps = done.maps[layer_name]
        own = places.own(nodes, maps.detach(), places.seen(done.maps))
        (slope,) = gradients_of(done.scores[:, number].sum(), [maps])
        total += (slope[:, own.filters] * own.units).sum((0, 2, 3)).double()
    return dict(zip(nodes, (total / len(images)).tolist(), strict=True))


def as_many(judge: Judge, worth: Sequence[float], kept: float) -> int:
    """Say how many candidates it takes to keep as much, in the order of their worth."""
    order = sorted(range(len(worth)), key=lambda k: -worth[k])
    low, step = 0, 16
    while low < len(order):
        tried = range(low + 1, min(low + step, len(order)) + 1)
        found = judge.kept([Asked(frozenset(order[:k])) for k in tried])
        enough = [k for k, one in zip(tried, found, strict=True) if one.value >= kept - 1e-6]
        if enough:
            return enough[0]
        low += step
    return len(order) + 1


def compared(
    model: nn.Module,
    graph: ExplanatoryGraph,
    circuit: Circuit[ExplanatoryGraph],
    images: Tensor,
    reference: Tensor,
    number: int,
) -> int:
    """Say how many it takes by gradient times activation to keep what a circuit keeps."""
    (name,) = circuit.layers
    layers = [layer for layer in graph.layers if layer.name == name]
    nodes_of = {part.id: part.nodes for part in graph.parts}
    candidates = [
        [node for node in nodes_of.get(one, (one,)) if graph.nx.nodes[node]["layer"] == name]
        for one in circuit.order
    ]
    stand_ins = StandIns.of("mean", model, graph, layers, reference, **RUNNING)
    trials = Trials(model, graph, layers, candidates, images, stand_ins, "score", **RUNNING)
    judge = Judge(trials, range(len(images)), [number] * len(images), 0)
    members = {member.id for member in circuit.members}
    own = frozenset(k for k, one in enumerate(circuit.order) if one in members)
    (kept,) = judge.kept([Asked(own)])
    worth = slopes(model, graph, name, images, number)
    return as_many(judge, [sum(worth[node] for node in nodes) for nodes in candidates], kept.value)


def through(
    model: nn.Module,
    graph: ExplanatoryGraph,
    circuit: Circuit[ExplanatoryGraph],
    shown: Tensor,
    without: Tensor,
    number: int,
) -> tuple[float, float, float]:
    """Say what of the planted cause's effect goes through a circuit, and all; idle members."""
    layers = [layer for layer in graph.layers if layer.name in circuit.layers]
    nodes_of = {part.id: part.nodes for part in graph.parts}
    candidates = [
        [node for node in nodes_of[one] if graph.nx.nodes[node]["layer"] in circuit.layers]
        for one in circuit.order
    ]
    exchanged: Any = Exchanged(model, graph, shown, without)
    trials = Trials(model, graph, layers, candidates, shown, exchanged, "score", **RUNNING)
    members = {member.id for member in circuit.members}
    own = [k for k, one in enumerate(circuit.order) if one in members]
    asked = [frozenset(own), frozenset(range(len(candidates))), *(frozenset([k]) for k in own)]
    whole, *left = trials.values(
        [Asked(one, away=True) for one in asked], range(len(shown)), [number] * len(shown)
    )
    with torch.no_grad():
        gone = float((torch.from_numpy(whole) - model(without)[:, number]).mean())
    share = [float((whole - values).mean()) / gone for values in left]
    return share[0], share[1], float(np.mean([one < IDLE for one in share[2:]]))


def on_changed(shown: Tensor, without: Tensor, at: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Say which parts lie on pixels that differ between pictures; `at` is (images, parts, 2) px."""
    found = []
    for one, other, places in zip(shown, without, at, strict=True):
        changed = ((one - other).abs().amax(0) > CHANGED).numpy()
        if changed.any():
            far = distance_transform_edt(~changed)
            x, y = places.astype(int).clip(0, creatures.SIZE - 1).T
            found.append(far[y, x])
    near: NDArray[np.bool_] = np.median(found, axis=0) <= HALF_UNIT
    return near


def of_creatures(small: bool, classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Find the circuits of what creatures show."""
    model = creatures.network()
    graph = mine(
        model, creatures.draw(80 if small else 300, seed=1).tensor(), creatures.LAYERS, seed=0
    )
    n = 100 if small else 200
    drawn = creatures.draw(n, seed=2)
    pictures = drawn.tensor()
    has = drawn.attributes
    family = np.array(drawn.label_names)[drawn.labels]
    # where the cue is, or would be
    full = creatures.draw(n, seed=2, fixed={"horns": True, "wings": True})
    bare = creatures.draw(n, seed=2, fixed={"horns": False, "wings": False}).tensor()
    at = graph.parse(model, pictures, progress=False).parts.positions
    column = {part.id: k for k, part in enumerate(graph.parts)}
    for name in classes:
        if name in creatures.ATTRIBUTES:
            causes: tuple[str, ...] = (creatures.ATTRIBUTES[name],)
            chosen = has[name] & drawn.visible[causes[0]]
            without = creatures.draw(n, seed=2, fixed={name: False}).tensor()
        else:
            causes = ("horn", "wing")
            chosen = family == name
            without = full.tensor() if name == "beast" else bare
        which = np.flatnonzero(chosen)[: 30 if small else None]
        number = creatures.OUTPUTS.index(name)
        shown = pictures[which]
        circuit = graph.circuit(model, shown, name, reference=pictures, keep=KEEP, progress=False)
        near = np.zeros((len(graph.parts), len(causes)), dtype=bool)
        for c, cause in enumerate(causes):
            place = full.parts[cause][which][:, None]
            distance = np.hypot(*np.moveaxis(at[which] - place, 2, 0))  # (images, parts)
            near[:, c] = np.median(distance, axis=0) < NEAR * creatures.SIZE
        members = [column[member.id] for member in circuit.members]
        on_it = on_changed(pictures[which], without[which], at[which])
        of_cue, of_all, idle = through(model, graph, circuit, shown, without[which], number)
        nodes: dict[str, Any] = {}
        if not small:
            with_nodes = graph.circuit(
                model, shown, name, by="node", reference=pictures, keep=KEEP, progress=False
            )
            nodes = {
                "nodes": len(with_nodes),
                "nodes kept": with_nodes.kept.value,
                "slope nodes": compared(model, graph, with_nodes, shown, pictures, number),
            }
        yield {
            "class": name,
            "images": len(which),
            "parts": len(circuit),
            "kept": circuit.kept.value,
            "reached": circuit.reached,
            "precision": near[members].any(1).mean(),
            "by chance": near.any(1).mean(),
            "recall": near[members].any(0).mean(),
            "on it": on_it[members].mean(),
            "on it by chance": on_it.mean(),
            "through": of_cue,
            "all": of_all,
            "idle": idle,
            "slope": compared(model, graph, circuit, shown, pictures, number),
            **nodes,
        }


def of_photographs(data: Path, cache: Path | None) -> Iterator[dict[str, Any]]:
    """Find the circuit of tigers."""
    network = efficientnet_lite0
    activations, _ = recorded.crops(data / TIGERS, network, network.LAYERS, cache=cache)
    graph = mine_activations(activations, seed=0)
    model = network.network()

    def images(folder: Path, most: int) -> ImageFolder:
        found = ImageFolder(folder, size=network.SIZE, mean=network.MEAN, std=network.STD)
        return found.subset(range(min(most, len(found))))

    folders = sorted(folder for folder in data.iterdir() if folder.is_dir())
    reference = ConcatDataset([images(folder, 20) for folder in folders])
    tigers = images(data / TIGERS, 200)
    top = network.LAYERS[0]
    best = graph.subgraph([top]).prune(top=300).node_ids
    for by, replacement in WAYS:
        start, clock = time.process_time(), time.perf_counter()
        circuit = graph.circuit(
            model, tigers, TIGER,
            keep=KEEP, by=by, candidates=best if by == "node" else None, replacement=replacement,
            reference=reference, progress=False,
        )  # fmt: skip
        yield {
            "photographs": len(tigers),
            "by": by,
            "replacement": replacement,
            "layer": ", ".join(circuit.layers),
            "candidates": len(circuit.order),
            "members": len(circuit),
            "kept": circuit.kept.value,
            "low": circuit.kept.low,
            "high": circuit.kept.high,
            "all": circuit.ceiling.value,
            "by chance": circuit.by_chance,
            "runs": circuit.runs,
            "processor s": time.process_time() - start,
            "seconds": time.perf_counter() - clock,
        }


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Give the rows as a table, and the mean of numbers below it."""
    lines = [f"| {' | '.join(rows[0])} |", "|---" + "|---:" * (len(rows[0]) - 1) + "|"]
    for row in rows:
        cells = [f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


MEANS = (
    "kept", "precision", "by chance", "recall", "on it", "on it by chance", "through", "all", "idle"
)  # fmt: skip


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Give the means over classes: all of them, and those that parts can keep so much of."""
    told: dict[str, Any] = {}
    reached = [row for row in rows if row["reached"]]
    for which, some in (("all", rows), *([("reached", reached)] if reached else ())):
        means = {name: float(np.mean([row[name] for row in some])) for name in MEANS}
        for ours, theirs in (("parts", "slope"), ("nodes", "slope nodes")):
            if ours in some[0]:
                means[f"{ours} / {theirs}"] = sum(r[ours] for r in some) / sum(
                    r[theirs] for r in some
                )
        told[which] = {"classes": len(some)} | means
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--classes", nargs="*", choices=creatures.OUTPUTS, help="of creatures (all of them)"
    )
    parser.add_argument("--photographs", type=Path, help="folder of folders of photographs")
    parser.add_argument("--cache", type=Path, help="folder for recorded activations")
    parser.add_argument("--small", action="store_true", help="in seconds, for CI")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    setting.announce()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)  # a column says it
        rows = []
        for row in of_creatures(
            options.small, options.classes or (FEW if options.small else creatures.OUTPUTS)
        ):
            rows.append(row)
            print(f"{row['class']}: {row['parts']} parts", file=sys.stderr, flush=True)
        print(markdown(rows), flush=True)
        means = summary(rows)
        for which, told in means.items():
            print(which, ", ".join(f"{name} {value:.2f}" for name, value in told.items()))
        result: dict[str, Any] = {"rows": rows, "means": means}
        if options.photographs:
            result["photographs"] = list(of_photographs(options.photographs, options.cache))
            print(markdown(result["photographs"]), flush=True)
    if options.json:
        setting.write(options.json, result)


if __name__ == "__main__":
    main()
