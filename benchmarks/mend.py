"""Mending planted biases: how much of what the bias cost comes back, and what is lost.

    OMP_NUM_THREADS=1 python benchmarks/mend.py --json mend.json

Networks learn the attributes of creatures of which two pairs of attributes agree in 95 % (those of
`bias.py`), or of which 95 % with an attribute have a painted square in a corner, and 5 % of the
others. Mending sees fresh creatures with the same bias; all figures are of creatures without any:
the worst of four groups (target attribute x what must not tell it), and all. *Regained* is the rise
of the worst group as a share of what a network has over it that was trained without the bias.

What must not count is told in three ways, to keep faults of finding apart from those of mending:
the part that `find_bias` says carries most (*found*; of the three in its report the first that
mending doesn't refuse for want of images); the part that lies nearest to where the bias
was planted (*planted*); and the labels of the other attribute, or of the square (*labels*). Beside
them: `without` of the found part, a logistic regression on the same features with weights that make
class and cue independent (*reweighted*, by labels), and mending what needs none: the wrong part,
and networks trained without the bias (each seed's first
relation alone).
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

import explgraph
from benchmarks import setting
from benchmarks.bias import AGREEMENT, COLUMNS, planted_pairs
from benchmarks.upper_half import train_attributes
from explgraph import creatures
from explgraph.answers import mend as mending

SQUARE = 14  # px
CORNER = (7, 7)  # its middle where it isn't moved, px
MOVED = 3  # px, at most
COLOUR = (250, 40, 200)

Bools = NDArray[np.bool_]
MENDING = (mending.features, mending.ablate)  # which run the network


def marked(
    data: creatures.Creatures, attribute: str, agreement: float, seed: int
) -> tuple[creatures.Creatures, Bools]:
    """Paint a square into a corner of pictures, so that it agrees with an attribute."""
    rng = np.random.default_rng((seed, 1))
    has = data.attributes[attribute]
    there = np.where(rng.random(len(has)) < agreement, has, ~has)
    images = data.images.copy()
    for i in np.flatnonzero(there):
        x, y = rng.integers(0, 2 * MOVED + 1, 2)
        images[i, y : y + SQUARE, x : x + SQUARE] = COLOUR
    return replace(data, images=images), there


class Setting:
    """A planted bias: creatures that have it, creatures that don't, networks of both."""

    def __init__(self, kind: str, seed: int, options: argparse.Namespace) -> None:
        self.kind, self.seed, self.options = kind, seed, options
        if kind == "pairs":
            self.pairs = planted_pairs(seed)
            self.relations = [r for a, b in self.pairs for r in ((a, b), (b, a))]
        else:
            self.pairs = []
            target = planted_pairs(seed)[0][0]
            self.relations = [(target, "square")]

    def draw(self, n: int, seed: int, biased: bool) -> tuple[creatures.Creatures, dict[str, Bools]]:
        """Draw creatures; give their labels, the square's among them."""
        together = dict.fromkeys(self.pairs, AGREEMENT) if biased else None
        data = creatures.draw(n, seed=seed, cooccurrence=together)
        if self.kind == "pairs":
            return data, data.attributes
        (target, _), *_ = self.relations
        data, there = marked(data, target, AGREEMENT if biased else 0.5, seed)
        return data, {**data.attributes, "square": there}

    def network(self, biased: bool) -> creatures.CreatureNet:
        """Train a network, or read the one that was trained before."""
        folder = self.options.networks
        name = f"{self.kind}-{self.seed}-{'biased' if biased else 'clean'}.safetensors"
        if folder is not None and (folder / name).exists():
            model = creatures.network(pretrained=False)
            model.load_state_dict(load_file(folder / name))
            return model
        data, _ = self.draw(self.options.train, 1_000_000 + self.seed, biased)
        model = train_attributes(data, seed=self.seed, epochs=self.options.epochs)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(model.state_dict(), folder / name)
        return model

    def graph(self, model: Any, images: Tensor, name: str) -> explgraph.ExplanatoryGraph:
        """Mine a network, or read the graph that was mined before."""
        folder = self.options.networks
        known = None if folder is None else folder / f"{self.kind}-{self.seed}-{name}.explgraph"
        if known is not None and known.exists():
            return explgraph.load(known)
        graph = explgraph.mine(
            model, images[: self.options.mined], ["stage4", "stage3"], seed=0, progress=False
        )
        if known is not None:
            graph.save(known)
        return graph

    def place(self, data: creatures.Creatures, source: str) -> NDArray[np.floating]:
        """Give where a source is, (N, 2) px, in creatures that have it or would."""
        if source == "square":
            return np.tile(np.array(CORNER, float) + MOVED, (len(data), 1))
        return data.parts[creatures.ATTRIBUTES[source]]


def pooled(model: creatures.CreatureNet, pictures: Tensor) -> Tensor:
    """Give what goes into the last layer, (N, 128)."""
    stages = torch.nn.Sequential(model.stage1, model.stage2, model.stage3, model.stage4)
    with torch.no_grad():
        return torch.cat([stages(some).mean((2, 3)) for some in pictures.split(100)])


def by_group(scores: NDArray[np.floating], truth: Bools, cue: Bools) -> tuple[float, float]:
    """Give the share of right answers in the worst group, and in all images."""
    right = (scores > 0) == truth
    worst = min(right[(truth == a) & (cue == b)].mean() for a in (0, 1) for b in (0, 1))
    return float(worst), float(right.mean())


def nearest_part(
    graph: explgraph.ExplanatoryGraph, parse: explgraph.Parse, places: NDArray[np.floating]
) -> str:
    """Name the part whose median distance to places (N, 2) is least, of those with 5 nodes."""
    parts = parse.parts
    large = [p for p, part in enumerate(parts.parts) if len(graph.part(part).nodes) >= 5]
    distance = np.linalg.norm(parts.positions - places[:, None], axis=-1)
    usual = np.nanmedian(distance, axis=0)
    return parts.parts[min(large, key=lambda p: usual[p])]


def kept(function: Callable[..., Any], at: list[int]) -> Callable[..., Any]:
    """Keep what a function gives: the network's runs are the same for all ways of mending it."""
    known: dict[Any, Any] = {}

    def inside(*args: Any, **options: Any) -> Any:
        key = tuple(args[k] if isinstance(args[k], tuple) else id(args[k]) for k in at)
        if key not in known:
            known[key] = (args, function(*args, **options))  # args stay alive, so ids stay theirs
        return known[key][1]

    return inside


def reweighted(features: NDArray[Any], truth: Bools, cue: Bools) -> Callable[[Any], Any]:
    """Fit a logistic regression with weights that make class and cue independent.

    Kirichenko et al. 2023, with weights in place of a balanced subset, so that no image is lost;
    the penalty is chosen on images that are left out in turn.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    group = 2 * truth + cue
    share = np.bincount(group, minlength=4) / len(group)
    weight = truth.mean() * truth + (1 - truth.mean()) * ~truth
    weight = weight * (cue.mean() * cue + (1 - cue.mean()) * ~cue) / share[group]

    def fit(rows: NDArray[Any], penalty: float) -> Any:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=500))
        return model.fit(
            features[rows], truth[rows], logisticregression__sample_weight=weight[rows]
        )

    def loss(penalty: float) -> float:
        total = 0.0
        for some, others in StratifiedKFold(4, shuffle=True, random_state=0).split(features, group):
            z = fit(some, penalty).decision_function(features[others])
            total += float(weight[others] @ np.logaddexp(0, np.where(truth[others], -z, z)))
        return total

    best = min((1e-3, 1e-2, 1e-1, 1.0), key=loss)
    chosen = fit(np.arange(len(truth)), best)
    return lambda new: chosen.decision_function(new)


def mended(
    model: Any, graph: Any, named: list[str], *given: Any, measured: Any, **options: Any
) -> dict[str, Any]:
    """Mend by the first of some parts that isn't refused; measure the outcome."""
    for part in named:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", explgraph.ExplgraphWarning)
                done = explgraph.mend(model, graph, part, *given, **options)
        except explgraph.ExplgraphError as err:
            refused = {"part": part, "after": measured(model.head, model), "refused": str(err)}
            continue
        return {
            "part": part,
            "after": measured(done.model.head, model),
            "changed": done.changed,
            "gained": done.gained,
            "strength": done.strength,
            "told": list(done.gain.interval),
        }
    return refused


def run(kind: str, seed: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Mend one network in all ways; a row for each way and relation."""
    planted = Setting(kind, seed, options)
    biased, clean = planted.network(True), planted.network(False)
    seen, labels = planted.draw(options.images, 5_000_000 + seed, True)
    fresh, truth = planted.draw(options.tested, 7_000_000 + seed, False)
    images, pictures = seen.tensor(), fresh.tensor()
    mending.features = kept(MENDING[0], [0, 1])
    mending.ablate = kept(MENDING[1], [0, 1, 2, 3])
    graphs = {id(biased): planted.graph(biased, images, "biased")}
    if not options.small:
        graphs[id(clean)] = planted.graph(clean, images, "clean")
    into = {id(model): pooled(model, pictures) for model in (biased, clean)}
    for graph in graphs.values():
        graph.parse = kept(graph.parse, [0, 1])
    bias = None
    if kind == "pairs":
        asked = {name: seen.attributes[name][: options.asked] for name in creatures.ATTRIBUTES}
        bias = explgraph.find_bias(
            biased, graphs[id(biased)], images[: options.asked], asked, columns=COLUMNS, by="part"
        )
    for target, source in planted.relations:
        column = COLUMNS[target]
        flagged = bias is None or (target, source) in [
            (r.target, r.source) for r in bias.suspicious
        ]
        if not flagged:
            continue  # no one would mend it

        def measured(
            head: torch.nn.Linear, model: Any, target: str = target, source: str = source,
            column: int = column,
        ) -> tuple[float, float]:  # fmt: skip
            with torch.no_grad():
                scores = head(into[id(model)])[:, column].numpy()
            return by_group(scores, truth[target], truth[source])

        states = [(biased, "biased"), (clean, "clean")]
        first = (target, source) == planted.relations[0] and not options.small
        for model, state in states[: 1 + first]:
            graph = graphs[id(model)]
            near = nearest_part(graph, graph.parse(model, images), planted.place(seen, source))
            cues: dict[str, tuple[list[str], Any]] = {
                "planted": ([near], "effect"),
                "labels": ([near], labels[source]),
            }
            if model is biased:
                cues["planted, presence"] = ([near], "presence")
            if bias is not None and model is biased:
                titles = [title for title, _ in bias.where(target, source, most=len(graph.parts))]
                cues |= {
                    "found": (titles[:3], "effect"),
                    "found, presence": (titles[:3], "presence"),
                    "wrong": (titles[-1:], "effect"),
                }
            base = {
                "kind": kind,
                "seed": seed,
                "network": state,
                "target": target,
                "source": source,
            }
            before = measured(model.head, model)
            without_bias = measured(clean.head, clean)
            for cue, (named, present) in cues.items():
                for how in ("projection", "last"):
                    row = base | {"cue": cue, "how": how, "before": before, "clean": without_bias}
                    yield row | mended(
                        model, graph, named, images, labels[target], column,
                        how=how, present=present, seed=seed, measured=measured,
                    )  # fmt: skip
            if model is biased:
                features = pooled(biased, images).numpy()
                half = np.random.default_rng(seed).permutation(len(images))[: len(images) // 2]
                fitted = reweighted(features[half], labels[target][half], labels[source][half])
                after = by_group(fitted(into[id(model)].numpy()), truth[target], truth[source])
                yield base | {"cue": "labels", "how": "reweighted", "before": before,
                              "clean": without_bias, "after": after}  # fmt: skip
                some = slice(0, options.taken)
                chosen = titles[0] if bias is not None else near
                less = explgraph.without(
                    model, graph, chosen, replacement="mean", images=images[: options.mined]
                )
                with torch.no_grad():
                    scores = torch.cat([less(p)[:, column] for p in pictures[some].split(100)])
                yield base | {
                    "cue": "found" if bias is not None else "planted",
                    "how": "without",
                    "part": chosen,
                    "before": before,
                    "clean": without_bias,
                    "after": by_group(scores.numpy(), truth[target][some], truth[source][some]),
                }


def regained(row: dict[str, Any]) -> float:
    """Give the rise of the worst group as a share of what it is worse than without the bias."""
    lost = row["clean"][0] - row["before"][0]
    return (row["after"][0] - row["before"][0]) / lost


def markdown(rows: list[dict[str, Any]]) -> str:
    """Give a line for each way of mending: means over relations, and the worst of them."""
    lines = [
        "| biased by | what must not count is told by | how | relations | worst group before "
        "| after | without the bias | regained: mean, least | half regained "
        "| all: change, least |\n|---|---|---|---:|---:|---:|---:|---|---:|---|"
    ]
    keys = dict.fromkeys((r["network"], r["kind"], r["cue"], r["how"]) for r in rows)
    for key in keys:
        mine = [r for r in rows if (r["network"], r["kind"], r["cue"], r["how"]) == key]
        worst = {k: np.mean([r[k][0] for r in mine]) for k in ("before", "after", "clean")}
        change = [r["after"][1] - r["before"][1] for r in mine]
        back = [regained(r) for r in mine] if key[0] == "biased" else [np.nan]
        half = f"{sum(b >= 0.5 for b in back)} of {len(back)}" if key[0] == "biased" else ""
        told = f"{np.mean(back):.2f}, {min(back):.2f}" if key[0] == "biased" else ""
        lines.append(
            f"| {key[1] if key[0] == 'biased' else f'nothing ({key[1]})'} | {key[2]} | {key[3]} "
            f"| {len(mine)} | {worst['before']:.3f} | {worst['after']:.3f} | {worst['clean']:.3f} "
            f"| {told} | {half} | {np.mean(change):+.3f}, {min(change):+.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--pairs", type=int, nargs="*", default=range(3), metavar="SEED")
    parser.add_argument("--square", type=int, nargs="*", default=range(2), metavar="SEED")
    parser.add_argument("--train", type=int, default=3000, help="creatures to train on")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int, default=1200, help="labelled creatures to mend by")
    parser.add_argument("--asked", type=int, default=600, help="of them, to find the bias")
    parser.add_argument("--mined", type=int, default=200, help="of them, to mine")
    parser.add_argument("--tested", type=int, default=1000, help="creatures without bias")
    parser.add_argument("--taken", type=int, default=300, help="of them, run without a part")
    parser.add_argument("--networks", type=Path, metavar="DIR", help="keep trained networks there")
    parser.add_argument(
        "--small",
        action="store_true",
        help="a square alone, in seconds, and no network without bias is mended",
    )
    options = parser.parse_args()
    setting.announce()
    if options.small:
        options.pairs, options.square, options.train, options.epochs = (), (0,), 400, 2
        options.images, options.mined, options.tested, options.taken = 400, 60, 200, 40
    rows: list[dict[str, Any]] = []
    for kind in ("pairs", "square"):
        for seed in getattr(options, kind):
            for row in run(kind, seed, options):
                rows.append(row)
                print(json.dumps(row), flush=True)
    print(markdown(rows))
    if options.json is not None:
        setting.write(options.json, rows)


if __name__ == "__main__":
    main()
