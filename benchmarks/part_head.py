"""Networks of parts: few labels, training end to end, and a rejected cue.

    OMP_NUM_THREADS=1 python benchmarks/part_head.py --json part_head.json

*few*: families of creatures from 5 labelled images each. `PartHead` knows a graph, mined from other
images, and 200 images without labels; the probes are logistic regressions on the means of the same
layers' maps, standardised, with a strength that is chosen by leaving images out: on each layer, on
both, and on principal components of both from the same 200 images by the head's own fit. What is
told is the best probe in the mean over all draws, chosen in hindsight. Networks: the shipped one,
which learnt families and attributes (*shipped*); others that learnt attributes alone, whose upper
stages were random (*attributes*).

*end to end*: 20 labelled images of each family. The head's fit, then 30 steps in which stage 4 is
trained with it, by labels, marks of two parts in the same images, and `FilterLoss`; against a
linear layer on the means of stage 4, with the probe's weights to begin with, and the same steps by
labels. Three rates of both. *Tracking* of parts before and after is that of
`explgraph.evaluation.metrics`, of the part that followed each planted one best in the unlabelled
images; mean over the planted parts.

*rejected*: networks that are taught not to tell one thing by another, see `corrections`.

*poses*: how well gradients of places with the pose held, and through it, tell what places do when
the image changes.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

import explgraph
from benchmarks import setting
from benchmarks.corrections import KINDS, rejected
from benchmarks.upper_half import train_attributes
from explgraph import creatures
from explgraph.evaluation.metrics import node_tracking
from explgraph.statistics import sparse_logistic

LAYERS = ("stage4", "stage3")
UNLABELLED = 200
MARKED = ("horn", "wing")
STEPS, RATES = 30, (3e-4, 1e-3, 3e-3)

Floats = NDArray[np.floating]


# -------------------------------------------------------------------------------------- few labels


class World:
    """A network, its graph, and creatures: unlabelled, to label some of, to test."""

    def __init__(self, kind: str, seed: int, options: argparse.Namespace) -> None:
        self.kind, self.seed = kind, seed
        if kind == "shipped":
            self.model = creatures.network()
        else:
            data = creatures.draw(options.train, seed=1_000_000 + seed)
            self.model = train_attributes(data, seed=seed, epochs=options.epochs)
        mined = creatures.draw(options.mined, seed=11 + seed).tensor()
        self.graph = explgraph.mine(self.model, mined, list(LAYERS), seed=0, progress=False)
        self.drawn = creatures.draw(UNLABELLED + options.pool + options.tested, seed=77 + seed)
        self.images, self.labels = self.drawn.tensor(), self.drawn.labels
        self.pool = np.arange(UNLABELLED, UNLABELLED + options.pool)
        self.tested = np.arange(UNLABELLED + options.pool, len(self.labels))
        self.parse = self.graph.parse(self.model, self.images)
        self.means = dict(zip(LAYERS, pooled(self.model, self.images), strict=True))

    def draw(self, seed: int, each: int) -> NDArray[np.int64]:
        """Choose images to be labelled, as many of each family."""
        rng = np.random.default_rng(seed)
        of = [self.pool[self.labels[self.pool] == k] for k in range(len(creatures.FAMILIES))]
        return np.concatenate([rng.choice(some, each, replace=False) for some in of])

    def error(self, scores: Floats) -> float:
        """Share of wrong families among the tested, of their scores."""
        return float((scores.argmax(1) != self.labels[self.tested]).mean())

    def head(self, rows: NDArray[np.int64], **options: Any) -> explgraph.PartHead:
        """Fit a head to some labelled images, and those without labels."""
        told = [*range(UNLABELLED), *rows]
        parse = explgraph.Parse(
            self.parse.nodes, tuple(self.parse.names[i] for i in told), self.parse.positions[told],
            self.parse.expected[told], self.parse.scores[told], self.parse.image_size,
        )  # fmt: skip
        labels = [None] * UNLABELLED + self.labels[rows].tolist()
        head = explgraph.PartHead(self.model, self.graph, creatures.FAMILIES, **options)
        return head.fit(parse, labels)

    def scores(self, head: explgraph.PartHead) -> Floats:
        """Give a head's scores of the tested images, from the parse."""
        nodes = torch.from_numpy(self.parse.scores[self.tested])
        with torch.no_grad():
            return head._scores(nodes).numpy()


def pooled(model: nn.Module, images: Tensor) -> list[Floats]:
    """Give the means over the grid of the rectified maps of the layers."""
    maps = [explgraph.record(model, some, list(LAYERS[::-1])).maps for some in images.split(200)]
    found = [torch.cat(each).relu().mean((2, 3)).numpy() for each in zip(*maps, strict=True)]
    return found[::-1]


def probe(features: Floats, labels: NDArray[np.int64]) -> Any:
    """Fit a logistic regression to standardised features; its strength is chosen by folds of 5."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = StratifiedKFold(min(5, int(np.bincount(labels).min())), shuffle=True, random_state=0)

    def model(strength: float) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))

    def loss(strength: float) -> float:
        total = 0.0
        for some, others in folds.split(features, labels):
            told = model(strength).fit(features[some], labels[some])
            likely = told.predict_log_proba(features[others])
            total -= likely[np.arange(len(others)), labels[others]].sum()
        return total

    return model(min(np.logspace(-4, 2, 7), key=loss)).fit(features, labels)


def few(world: World, draws: int, each: int) -> Iterator[dict[str, Any]]:
    """Compare the head with probes, draw by draw."""
    both = np.concatenate([world.means[name] for name in LAYERS], 1)
    scaled = both / np.maximum(both[:UNLABELLED].std(0), 1e-9)
    moved = scaled - scaled[:UNLABELLED].mean(0)
    directions = np.linalg.svd(moved[:UNLABELLED], full_matrices=False)[2][:20]
    known = {**world.means, "both": both}
    for draw in range(draws):
        rows = world.draw(draw, each)
        labels = world.labels[rows]
        errors = {
            f"probe on {name}": world.error(
                probe(values[rows], labels).decision_function(values[world.tested])
            )
            for name, values in known.items()
        }
        components = (moved @ directions.T).astype(np.float64)
        strength = sparse_logistic.chosen(components[rows], labels, 3).strength
        fit = sparse_logistic.fitted(components[rows], labels, 3, strength)
        errors["sparse probe on components of both"] = world.error(
            fit.scores(components[world.tested])
        )
        head = world.head(rows)
        errors["PartHead"] = world.error(world.scores(head))
        used = int(head.weight.any(1).sum())
        yield {"draw": draw, "each": each, "looks used": used, "errors": errors}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Give means over draws, and the head's error over the best probe's."""
    names = list(rows[0]["errors"])
    errors = {name: np.array([row["errors"][name] for row in rows]) for name in names}
    mean = {name: float(values.mean()) for name, values in errors.items()}
    best = min((name for name in names if name != "PartHead"), key=lambda name: mean[name])
    return {
        "mean": mean,
        "standard error": {
            name: float(values.std() / np.sqrt(len(rows))) for name, values in errors.items()
        },
        "best probe": best,
        "ratio": mean["PartHead"] / mean[best],
        "better in": float((errors["PartHead"] < errors[best]).mean()),
        "looks used": float(np.mean([row["looks used"] for row in rows])),
    }


# -------------------------------------------------------------------------------------- end to end


def still(model: creatures.CreatureNet) -> list[nn.Parameter]:
    """Let stage 4 alone learn: few labels, little to learn; gives its parameters."""
    for stage in (model.stage1, model.stage2, model.stage3):
        stage.requires_grad_(False)
    return list(model.stage4.parameters())


def tuned(world: World, rows: NDArray[np.int64], rate: float, steps: int) -> float:
    """Train the upper stages and a linear layer on the mean of stage 4: ordinary fine-tuning."""
    model = copy.deepcopy(world.model)
    start = probe(world.means["stage4"][rows], world.labels[rows])
    scaler, logistic = start[0], start[1]
    weight = logistic.coef_ / scaler.scale_
    model.head = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(weight))
        model.head.bias.copy_(torch.from_numpy(logistic.intercept_ - weight @ scaler.mean_))
    loop(world, rows, [*still(model), *model.head.parameters()], model, rate, steps)
    with torch.no_grad():
        some = world.images[world.tested].split(100)
        return world.error(torch.cat([model(part) for part in some]).numpy())


def loop(
    world: World,
    rows: NDArray[np.int64],
    learning: list[nn.Parameter],
    model: nn.Module,
    rate: float,
    steps: int,
    more: Any = None,
) -> None:
    """Train by labels, half of the labelled images in a step, mirrored at random."""
    random = torch.Generator().manual_seed(world.seed)
    optimizer = torch.optim.AdamW(learning, lr=rate, weight_decay=0.02)
    labels = torch.from_numpy(world.labels)
    for _ in range(steps):
        some = torch.from_numpy(rows)[torch.randperm(len(rows), generator=random)[: len(rows) // 2]]
        images = world.images[some]
        mirrored = torch.rand(len(some), generator=random) < 0.5
        images[mirrored] = images[mirrored].flip(-1)
        if more is None:
            loss = nn.functional.cross_entropy(model(images), labels[some])
        else:
            out = model.look(images)
            loss = nn.functional.cross_entropy(out.scores, labels[some])
            loss = loss + more(out, some, mirrored)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def end_to_end(world: World, draws: int, each: int, steps: int) -> Iterator[dict[str, Any]]:
    """Train networks with the head, and without, draw by draw."""
    parts = world.parse.parts.positions
    marks: dict[str, Tensor] = {}
    for name in MARKED:
        away = np.linalg.norm(parts - world.drawn.parts[name][:, None], axis=-1)
        nearest = world.parse.parts.titles[int(np.nanmedian(away[:UNLABELLED], axis=0).argmin())]
        marks[nearest] = torch.from_numpy(world.drawn.parts[name])
    filters = explgraph.FilterLoss()
    for draw in range(draws):
        rows = world.draw(1000 + draw, each)
        row: dict[str, Any] = {"draw": draw, "each": each}
        fitted = world.head(rows)
        row["fitted"] = world.error(world.scores(fitted))
        for rate in RATES:
            row[f"ordinary {rate:g}"] = tuned(world, rows, rate, steps)
            head = copy.deepcopy(fitted)

            def more(
                out: Any, some: Tensor, mirrored: Tensor, head: explgraph.PartHead = head
            ) -> Tensor:
                there = {}
                for title, places in marks.items():
                    here = places[some].clone()
                    here[mirrored, 0] = creatures.SIZE - here[mirrored, 0]
                    there[title] = here.numpy()
                placed = head.place_loss(out.places, there)
                return placed + 0.1 * filters(out.maps["stage4"])

            loop(world, rows, [*still(head.model), head.weight, head.bias], head, rate, steps, more)
            with torch.no_grad():
                outs = [head.look(part) for part in world.images[world.tested].split(100)]
            row[f"PartHead {rate:g}"] = world.error(torch.cat([o.scores for o in outs]).numpy())
            after = torch.cat([o.places for o in outs])[..., :2].numpy()
            row[f"tracking {rate:g}"] = follows(world, after)
        row["tracking"] = follows(world, world.parse.parts.positions[world.tested])
        yield row


def follows(world: World, positions: Floats) -> float:
    """Give how the parts that are tracked best in other images follow planted ones, the mean."""
    before, each = world.parse.parts.positions[:UNLABELLED], []
    for places in world.drawn.parts.values():
        best = int(node_tracking(before, places[:UNLABELLED]).argmax())
        each.append(node_tracking(positions, places[world.tested])[best])
    return float(np.mean(each))


# ------------------------------------------------------------------------------------------- poses


def poses(world: World, images: int) -> dict[str, float]:
    """Compare slopes of places with what places do, in float64, along random changes of maps."""
    from explgraph.heads.seen_nodes import NodeFinder, PartPlaces
    from explgraph.parsed_parts import Pooling

    finder = NodeFinder(world.graph, world.graph.node_ids)
    pool = PartPlaces(Pooling.of(world.graph))
    recorded = explgraph.record(world.model, world.images[:images], list(LAYERS[::-1])).maps
    maps = {
        layer.name: values.double()
        for layer, values in zip(world.graph.layers, recorded, strict=True)
    }
    random = torch.Generator().manual_seed(0)
    way = {
        name: values * torch.randn(values.shape, generator=random, dtype=torch.float64)
        for name, values in maps.items()
    }
    free = NodeFinder.poses.__wrapped__  # without its no_grad

    def places(held: bool) -> Callable[[Tensor], Tensor]:
        def at(share: Tensor) -> Tensor:
            moved = {name: (values + share * way[name]).relu() for name, values in maps.items()}
            seen = finder(moved, finder.poses(maps) if held else free(finder, moved))
            return pool(seen)[..., :2].flatten()

        return at

    step, none = 1e-4, torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        true = (places(False)(none + step) - places(False)(none - step)) / (2 * step)
    found = {}
    for name, held in (("held", True), ("through", False)):
        began = time.process_time()
        slope = torch.autograd.functional.jvp(places(held), none, none + 1)[1]
        found[f"{name}: seconds"] = time.process_time() - began
        found[f"{name}: correlation"] = float(np.corrcoef(slope.numpy(), true.numpy())[0, 1])
        found[f"{name}: size"] = float(slope.norm() / true.norm())
    return found


# --------------------------------------------------------------------------------------------- all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--small", action="store_true", help="a few draws, in seconds")
    parser.add_argument("--only", choices=("few", "end", "rejected", "poses"))
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--end-draws", type=int, default=10)
    parser.add_argument("--attributes", type=int, nargs="*", default=[0, 7], metavar="SEED")
    parser.add_argument("--rejected", type=int, nargs="*", default=[0, 1, 2], metavar="SEED")
    parser.add_argument("--train", type=int, default=3000, help="creatures to train networks on")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--mined", type=int, default=200)
    parser.add_argument("--pool", type=int, default=800, help="creatures to label some of")
    parser.add_argument("--tested", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=200, help="with corrections")
    parser.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS, help="of corrections")
    parser.add_argument("--explained", type=int, default=16, help="creatures with the cue")
    parser.add_argument("--biased", type=float, default=0.3, help="worst group's error at least")
    options = parser.parse_args()
    setting.announce()
    warnings.simplefilter("ignore", explgraph.ExplgraphWarning)
    if options.small:
        options.draws, options.end_draws, options.attributes, options.rejected = 2, 0, [], []
        options.mined, options.pool, options.tested = 80, 100, 100
    found: dict[str, Any] = {}
    told = (options.only,) if options.only else ("few", "end", "rejected", "poses")
    worlds = [("shipped", 0), *(("attributes", seed) for seed in options.attributes)]
    for kind, seed in worlds if {"few", "end", "poses"} & {*told} else []:
        world = World(kind, seed, options)
        name = f"{kind} {seed}"
        if "few" in told:
            rows = list(few(world, options.draws, 5))
            found[f"few, {name}"] = {"rows": rows, **summary(rows)}
            print(name, json.dumps(summary(rows)), flush=True)
        if "end" in told:
            rows = []
            for row in end_to_end(world, options.end_draws, 20, STEPS):
                rows.append(row)
                print(name, json.dumps(row), flush=True)
            found[f"end to end, {name}"] = rows
        if "poses" in told:
            found[f"poses, {name}"] = poses(world, 4 if options.small else 16)
            print(name, json.dumps(found[f"poses, {name}"]), flush=True)
    if "rejected" in told:
        found["rejected"] = []
        for seed in options.rejected:
            for row in rejected(seed, options):
                found["rejected"].append(row)
                print(json.dumps(row), flush=True)
    if options.json is not None:
        setting.write(options.json, found)


if __name__ == "__main__":
    main()
