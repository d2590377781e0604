"""How well masks of nodes agree with the true outlines of creatures' parts.

    python benchmarks/masks.py --json masks.json

Creatures are mined. Nodes that follow a part (tracking at least 0.7 on these) are looked up in
other creatures that show the part and the node (score at least 0.5), and the intersection over
union (IoU) of what each method marks with the part's pixels is taken, mean over nodes and images.

The rule is the same for all methods: each keeps its highest pixels, as many as the part has. Two
need no such help and are given beside: "mask's outline" is drawn where half of the heat is, and
"receptive field" is the disc that the field measures, around the node's place.

* mask: `explgraph.visualizing.masks`
* gradient: its magnitude, blurred as the mask is; SmoothGrad: its mean over noisy copies
* occlusion: what a blurred patch of a tenth of the side takes from the response
* activation: the filter's map, upsampled; own activation: weighted by the node's Gaussian before
* disc: around the node's place
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import setting
from explgraph import Parse, creatures, mine
from explgraph.evaluation.landmarks import from_creatures
from explgraph.evaluation.planted import node_parts
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.visualizing.masks import Masks, blurred, integrated, soft, softness
from explgraph.visualizing.responses import Responses, asked

OUTLINED = tuple(part for part in creatures.PARTS if part not in ("chest", "rump"))
OWN, FIELD = "mask's outline", "receptive field"
_COPIES, _NOISE = 12, 0.15  # SmoothGrad
_PATCH = 11.0  # px of 112
_FEWEST = 15  # pixels: less of a part is no outline to compare with


class Node:
    """A node in some creatures, asked by every method."""

    def __init__(
        self, model: Any, graph: ExplanatoryGraph, parse: Parse, node: str, rows: list[int]
    ) -> None:
        self.wanted = asked(graph, node)
        self.responses = Responses(model, graph, [node])
        self.layer = self.responses.layers[0]
        self.sigma = softness(self.responses, self.wanted)
        self.at = torch.from_numpy(parse.positions[rows][:, [parse.nodes.index(node)]])
        side = torch.arange(creatures.SIZE) + 0.5
        x, y = self.at[:, 0, 0, None, None], self.at[:, 0, 1, None, None]
        self.distance = (
            (side[None, None] - x).square() + (side[None, :, None] - y).square()
        ).sqrt()

    def gradient(self, batch: Tensor) -> Tensor:
        """Its magnitude, (n, H, W)."""
        image = batch.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.responses(image, self.at).sum(), image)
        return gradient.abs().sum(1)

    def occlusion(self, batch: Tensor) -> Tensor:
        """Give what patches take away, (n, H, W), each as far as it covers a pixel."""
        plain, side = blurred(batch, 0.09 * creatures.SIZE), creatures.SIZE
        places = torch.arange(_PATCH / 4, side, 0.7 * _PATCH)
        pixels = torch.arange(side) + 0.5
        whole = self.responses(batch, self.at)[:, 0]
        lost, covered = torch.zeros(len(batch), side, side), torch.zeros(side, side)
        for y in places:
            for x in places:
                patch = ((pixels[:, None] - y).abs() < _PATCH / 2).float() * (
                    (pixels[None] - x).abs() < _PATCH / 2
                )
                rest = self.responses(torch.where(patch > 0, plain, batch), self.at)[:, 0]
                lost += (whole - rest)[:, None, None] * patch
                covered += patch
        return blurred((lost / covered.clamp(min=1))[:, None], self.sigma)[:, 0]

    def methods(self, batch: Tensor, *, occlusion: bool) -> dict[str, Tensor]:
        """Give what each method gives, (n, H, W); keep the seconds that a mask took."""
        generator = torch.Generator().manual_seed(0)
        start = time.process_time()
        added, _ = integrated(self.responses, self.wanted, batch, self.at)
        self.heat = soft(added, self.sigma)
        self.seconds = (time.process_time() - start) / len(batch)
        noisy = sum(
            self.gradient(batch + _NOISE * torch.randn(batch.shape, generator=generator))
            for _ in range(_COPIES)
        )
        given = {
            "mask": self.heat,
            "gradient": blurred(self.gradient(batch)[:, None], self.sigma)[:, 0],
            "SmoothGrad": blurred(torch.as_tensor(noisy)[:, None], self.sigma)[:, 0],
        }
        with torch.no_grad():
            if occlusion:
                given["occlusion"] = self.occlusion(batch)
            maps = self.responses.maps(batch)[self.layer.name]
            own = maps * self.responses.weights(self.at)[self.layer.name]
            for name, grid in (("own activation", own), ("activation", maps)):
                given[name] = functional.interpolate(grid, (creatures.SIZE,) * 2, mode="bilinear")[
                    :, 0
                ]
        return given | {"disc": -self.distance}


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    return float((one & other).sum() / (one | other).sum())


def highest(values: Tensor, count: int) -> NDArray[np.bool_]:
    """So many of the highest pixels of (H, W)."""
    mask = torch.zeros(values.numel(), dtype=torch.bool)
    mask[values.flatten().topk(count).indices] = True
    return mask.view(values.shape).numpy()


def measure(
    images: int, new: int, seed: int, nodes: int, *, occlusion: bool
) -> list[dict[str, Any]]:
    """Rows of layers, nodes and methods for one draw of creatures."""
    model = creatures.network()
    mined, other = creatures.draw(images, seed=2 * seed), creatures.draw(new, seed=2 * seed + 1)
    graph = mine(model, mined.tensor(), creatures.LAYERS, seed=seed)
    before = graph.parse(model, mined.tensor())
    follows = node_parts(before.positions, from_creatures(mined).parts, min_tracking=0.7)
    tensors = other.tensor()
    parse = graph.parse(model, tensors)
    truth = {part: other.mask(part) for part in OUTLINED}
    random = np.random.default_rng(seed)
    rows = []
    for layer in creatures.LAYERS:
        here = [v for v, node in enumerate(parse.nodes) if graph.nx.nodes[node]["layer"] == layer]
        here = [v for v in here if follows[v] in OUTLINED]
        for v in random.permutation(here)[:nodes].tolist():
            part, node = str(follows[v]), parse.nodes[v]
            large = truth[part].sum((1, 2)) >= _FEWEST
            shown = np.flatnonzero((parse.scores[:, v] >= 0.5) & other.visible[part] & large)[:6]
            if not len(shown):
                continue
            asked_of = Node(model, graph, parse, node, shown.tolist())
            given = asked_of.methods(tensors[shown], occlusion=occlusion)
            drawn = Masks(node, (), asked_of.heat.numpy(), np.zeros(0, np.float32)).inside()
            field = (asked_of.distance <= min(asked_of.layer.receptive_field) / 2).numpy()
            for k, i in enumerate(shown.tolist()):
                true = truth[part][i]
                found = {m: iou(highest(v[k], int(true.sum())), true) for m, v in given.items()}
                found |= {OWN: iou(drawn[k], true), FIELD: iou(field[k], true)}
                rows += [
                    {
                        "seed": seed,
                        "layer": layer,
                        "node": node,
                        "part": part,
                        "method": method,
                        "iou": value,
                        "seconds": asked_of.seconds,
                    }
                    for method, value in found.items()
                ]
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """IoU by method and layer."""
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    lines = ["| method | " + " | ".join(layers) + " |", "|---" * (len(layers) + 1) + "|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = [
            np.mean([r["iou"] for r in rows if r["method"] == method and r["layer"] == layer])
            for layer in layers
        ]
        lines.append(f"| {method} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--images", type=int, default=300, help="creatures to mine")
    parser.add_argument("--new", type=int, default=100, help="creatures to measure on")
    parser.add_argument("--nodes", type=int, default=12, help="of each layer and seed")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="a trial, in seconds")
    options = parser.parse_args()
    setting.announce()
    if options.small:
        options.images, options.new, options.nodes, options.seeds = 60, 20, 4, 1
    rows = []
    for seed in range(options.seeds):
        rows += measure(
            options.images, options.new, seed, options.nodes, occlusion=not options.small
        )
    print(table(rows))
    pairs = len({(r["seed"], r["node"]) for r in rows})
    seconds = np.median([r["seconds"] for r in rows])
    print(f"\n{pairs} nodes; a mask takes {1000 * seconds:.0f} ms (median)")
    if options.json:
        setting.write(options.json, rows)


if __name__ == "__main__":
    main()
