"""Biased representations: planted biases are to be found, and nothing where there is none.

    OMP_NUM_THREADS=1 python benchmarks/bias.py --json bias.json

Networks learn the attributes of creatures (the upper stages start at random, `upper_half`).
*Biased* ones are trained on creatures of which two pairs of attributes, drawn at random by the
seed, agree in 95 %; the others on creatures whose attributes are independent. `find_bias` sees
fresh creatures of the same kind. How the images are judged is measured on creatures without any
bias. A second control looks at networks trained without bias through images that have it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

import explgraph
from benchmarks import setting
from benchmarks.upper_half import train_attributes
from explgraph import creatures
from explgraph.answers.relations import Bias

AGREEMENT = 0.95
COLUMNS = {name: len(creatures.FAMILIES) + k for k, name in enumerate(creatures.ATTRIBUTES)}

Pair = tuple[str, str]


def planted_pairs(seed: int) -> list[Pair]:
    """Draw two pairs of attributes."""
    first, second, third, fourth = (
        str(name)
        for name in np.random.default_rng(seed).permutation(list(creatures.ATTRIBUTES))[:4]
    )
    return [(first, second), (third, fourth)]


def examine(
    model: creatures.CreatureNet, seed: int, pairs: list[Pair], options: argparse.Namespace
) -> Bias:
    """Mine a graph of a network and look for its biases, on images that have those of `pairs`."""
    data = creatures.draw(
        options.images, seed=5_000_000 + seed, cooccurrence=dict.fromkeys(pairs, AGREEMENT)
    )
    images = data.tensor()
    graph = explgraph.mine(model, images[: options.mined], ["stage4", "stage3"], seed=0)
    return explgraph.find_bias(
        model,
        graph,
        images,
        data.attributes,
        columns=COLUMNS,
        landmarks=data.parts,
        parts=creatures.ATTRIBUTES,
    )


def ranked(scores: dict[Pair, float], pairs: list[Pair]) -> list[int]:
    """Give the ranks of some pairs (either way round) among all, 1 being the greatest score."""
    best: dict[frozenset[str], float] = {}
    for pair, score in scores.items():
        best[frozenset(pair)] = max(score, best.get(frozenset(pair), -np.inf))
    order = sorted(best, key=lambda pair: -best[pair])
    return [order.index(frozenset(pair)) + 1 for pair in pairs]


def auc(risk: np.ndarray, wrong: np.ndarray) -> float:
    """Probability that a wrong answer has the greater risk than a right one (Mann-Whitney)."""
    risk, wrong = risk.ravel(), wrong.ravel()
    bad = int(wrong.sum())
    if bad in (0, len(wrong)):
        return float("nan")
    ranks = rankdata(risk)[wrong].sum()
    return float((ranks - bad * (bad + 1) / 2) / (bad * (len(wrong) - bad)))


def judged(
    model: creatures.CreatureNet, bias: Bias, options: argparse.Namespace
) -> dict[str, float]:
    """Compare the answers that are in doubt with the wrong ones, on images without bias."""
    data = creatures.draw(options.unbiased_images, seed=7_000_000)
    found = bias.judge(model, data.tensor())
    columns = [bias.attributes.index(name) for name in found.biased]
    truth = np.stack([data.attributes[name] for name in found.biased], axis=1)
    outputs = found.outputs[:, columns]
    wrong = (outputs > 0) != truth
    risk, doubt = found.risk[:, columns], -np.abs(outputs)
    return {
        "right": float(1 - wrong.mean()),
        "right_corrected": float(((found.corrected[:, columns] > 0) == truth).mean()),
        "auc": auc(risk, wrong),
        "auc_doubt": auc(doubt, wrong),
        "auc_within": float(np.mean([auc(risk[:, k], wrong[:, k]) for k in range(len(columns))])),
        "auc_images": auc(found.image_risk, wrong.any(axis=1)),
    }


def run(seed: int, biased: bool, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train and examine one network; one row for each kind of images."""
    pairs = planted_pairs(seed)
    began = time.process_time()
    data = creatures.draw(
        options.train,
        seed=1_000_000 + seed,
        cooccurrence=dict.fromkeys(pairs, AGREEMENT) if biased else None,
    )
    model = train_attributes(data, seed=seed, epochs=options.epochs)
    trained = time.process_time() - began
    rows = []
    for images in ("biased",) if biased else ("unbiased", "biased"):
        began = time.process_time()
        bias = examine(model, seed, pairs if images == "biased" else [], options)
        flagged = [(r.target, r.source) for r in bias.suspicious]
        real = {frozenset(pair) for pair in pairs} if biased else set()
        row: dict[str, Any] = {
            "seed": seed,
            "network": "biased" if biased else "unbiased",
            "images": images,
            "planted": pairs if biased else [],
            "flagged": flagged,
            "false": [pair for pair in flagged if frozenset(pair) not in real],
            "found": len({frozenset(pair) for pair in flagged} & real),
            "strongest": max(abs(r.strength) for r in bias.relations),
            "own_at_part": float(np.nanmean(bias.own_at_part)),
            "train_seconds": trained,
            "find_seconds": time.process_time() - began,
        }
        if biased:
            by_effect = {(r.target, r.source): abs(r.strength) for r in bias.relations}
            by_cosine = {(r.target, r.source): abs(r.similarity) for r in bias.relations}
            by_order = {(r.target, r.source): -k for k, r in enumerate(bias.relations)}
            row["rank"] = ranked(by_order, pairs)
            row["rank_effect"] = ranked(by_effect, pairs)
            row["rank_cosine"] = ranked(by_cosine, pairs)
            hits = [r for r in bias.suspicious if frozenset((r.target, r.source)) in real]
            row["at_source"] = float(np.mean([r.at_source for r in hits])) if hits else float("nan")
            row["at_target"] = float(np.mean([r.at_target for r in hits])) if hits else float("nan")
            if bias.judged.biased:
                row.update(judged(model, bias, options))
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """Give a table of the biased networks and one of the others."""
    lines = [
        "| seed | planted pairs | their ranks | by cosine | flagged (false) | at source, at target "
        "| answers right, corrected | AUC of failures | the network's own doubt "
        "| within attributes | of images |\n|---:|---|---|---|---|---|---|---:|---:|---:|---:|"
    ]
    for row in rows:
        if row["network"] == "biased" and "auc" in row:
            planted = ", ".join(" - ".join(pair) for pair in row["planted"])
            lines.append(
                f"| {row['seed']} | {planted} | {row['rank']} | {row['rank_cosine']} "
                f"| {len(row['flagged'])} ({len(row['false'])}) "
                f"| {row['at_source']:.2f}, {row['at_target']:.2f} "
                f"| {row['right']:.3f}, {row['right_corrected']:.3f} | {row['auc']:.3f} "
                f"| {row['auc_doubt']:.3f} | {row['auc_within']:.3f} | {row['auc_images']:.3f} |"
            )
    lines.append(
        "\n| networks without bias | seeds | with anything flagged | greatest strength "
        "| own evidence at own part |\n|---|---:|---:|---:|---:|"
    )
    for images in ("unbiased", "biased"):
        mine = [r for r in rows if r["network"] == "unbiased" and r["images"] == images]
        if mine:
            lines.append(
                f"| on {images} images | {len(mine)} | {sum(bool(r['flagged']) for r in mine)} "
                f"| {max(r['strongest'] for r in mine):.2f} "
                f"| {np.mean([r['own_at_part'] for r in mine]):.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--biased", type=int, nargs="*", default=range(5), metavar="SEED")
    parser.add_argument("--unbiased", type=int, nargs="*", default=range(10), metavar="SEED")
    parser.add_argument("--train", type=int, default=3000, help="creatures to train on")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int, default=600, help="labelled creatures to examine")
    parser.add_argument("--mined", type=int, default=200, help="of them, to mine")
    parser.add_argument("--unbiased-images", type=int, default=1000, help="to judge")
    options = parser.parse_args()
    setting.announce()
    rows = [row for seed in options.biased for row in run(seed, True, options)]
    rows += [row for seed in options.unbiased for row in run(seed, False, options)]
    print(markdown(rows))
    if options.json is not None:
        setting.write(options.json, rows)


if __name__ == "__main__":
    main()
