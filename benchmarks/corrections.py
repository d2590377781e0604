"""A rejected cue: networks that tell one thing by another are taught not to, by corrections.

Run by ``benchmarks/part_head.py --only rejected``.

Networks that learnt attributes of creatures of which two pairs agree in 95 % (`benchmarks/bias.py`)
go on learning from the same creatures, 200 steps, with `RejectedParts` on 20 further ones of the
same bias, by marks of the cue (3 px of noise) or by the graph's nearest part; against the same
steps with the same 20 images' labels in place of the penalty, and with nothing. *located*: 300 of
the creatures that it learns from beside the 20; a localizer finds in them what the marks say.
*kept*: the same, with the other scores held to the old network's, in the images and what they are
changed to. Errors are of 1,000 creatures without bias. `find_bias` says, of 600 further creatures
of the same bias, by how much the cue moves the target, as a share of what attributes do to their
own, and with what q. `explain`: what the part nearest to the cue adds to the target's score where
the cue is, less what it adds where it isn't, as a share of the score's spread; 16 creatures of each
kind, without bias. After training both ask with ``graph.with_weights(network)``.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import explgraph
from benchmarks.bias import AGREEMENT, COLUMNS, planted_pairs
from benchmarks.upper_half import logits, lower_maps, train_attributes
from explgraph import creatures

LAYERS = ("stage4", "stage3")
NOISE = 3  # px, of marks
KINDS = ("nothing", "20 labels", "marks", "graph's part", "located", "kept")  # of corrections
KEEP = 0.3  # of what other scores move by; their errors rise less, the target's falls less
LOCATED = 300  # creatures without marks, in which a localizer finds what 20 marks say
WEIGHT = 1.0  # of RejectedParts; with 0.1 the worst group of boots by beaks stays 0.65 wrong


def upper(model: creatures.CreatureNet) -> list[nn.Parameter]:
    """Parameters of the stages that are trained with corrections."""
    return [*model.stage3.parameters(), *model.stage4.parameters()]


def rejected(seed: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Train biased networks on, with corrections and without."""
    pairs = planted_pairs(seed)
    together = dict.fromkeys(pairs, AGREEMENT)
    data = creatures.draw(options.train, seed=1_000_000 + seed, cooccurrence=together)
    model = train_attributes(data, seed=seed, epochs=options.epochs)
    fresh = creatures.draw(options.tested, seed=7_000_000 + seed)
    corrections = creatures.draw(20, seed=5_000_000 + seed, cooccurrence=together)
    pictures = corrections.tensor()
    maps, targets = lower_maps(data, 2), data.targets()[:, len(creatures.FAMILIES) :]
    seen = creatures.draw(options.mined, seed=6_000_000 + seed, cooccurrence=together).tensor()
    graph = explgraph.mine(model, seen, list(LAYERS), seed=0, progress=False)
    parse = graph.parse(model, pictures).parts
    further = torch.cat([pictures, data.tensor()[:LOCATED]])
    looked = graph.parse(model, further)
    rng = np.random.default_rng(seed)

    examined = creatures.draw(
        options.mined + 400, seed=8_000_000 + seed, cooccurrence=together
    )  # as many again as `benchmarks/bias.py` looks at

    def errors(network: creatures.CreatureNet, target: str, source: str) -> tuple[float, float]:
        wrong = (logits(network, fresh)[:, COLUMNS[target]] > 0) != fresh.attributes[target]
        groups = [
            (fresh.attributes[target] == a) & (fresh.attributes[source] == b)
            for a in (False, True) for b in (False, True)
        ]  # fmt: skip
        return float(max(wrong[group].mean() for group in groups)), float(wrong.mean())

    def relation(
        network: creatures.CreatureNet, target: str, source: str, part: str
    ) -> dict[str, Any]:
        known = graph.with_weights(network)
        bias = explgraph.find_bias(
            network, known, examined.tensor(), examined.attributes, columns=COLUMNS,
        )  # fmt: skip
        found = next(r for r in bias.relations if (r.target, r.source) == (target, source))
        column, has = COLUMNS[target], fresh.attributes[source]
        spread = float(logits(network, fresh)[:, column].std())
        added = {}
        for there in (True, False):
            some = fresh.tensor()[np.flatnonzero(has == there)[: options.explained]]
            told = [known.explain(network, image, column) for image in some]
            rows = [row for one in told for row in one.rows if row.part == part]
            added[there] = sum(row.contribution for row in rows) / len(told)
        return {
            "strength": found.strength, "q": found.q, "suspicious": bool(found.kind),
            "own": next(
                float(bias.own_effects[k])
                for k, name in enumerate(bias.attributes) if name == target
            ),
            "explain": (added[True] - added[False]) / spread,
        }  # fmt: skip

    relations = [r for a, b in pairs for r in ((a, b), (b, a))]
    before = {relation: errors(model, *relation) for relation in relations}
    for target, source in relations:
        if before[target, source][0] < options.biased:
            continue  # it doesn't tell one by the other
        true = corrections.parts[creatures.ATTRIBUTES[source]]
        away = np.nanmedian(np.linalg.norm(parse.positions - true[:, None], axis=-1), axis=0)
        part = parse.parts[int(away.argmin())]
        marks = np.clip(true + rng.normal(0, NOISE, true.shape), 0, creatures.SIZE)
        column = COLUMNS[target]
        truth = torch.from_numpy(corrections.attributes[target]).float()
        asked = relation(model, target, source, part)
        for kind in options.kinds:
            network = copy.deepcopy(model)
            of, where = pictures, marks if kind == "marks" else None
            if kind in ("located", "kept"):
                of = further
                where = located(graph, looked, marks)
            penalty = explgraph.RejectedParts(model, graph, part, of, target=column, marks=where)
            extra = _extra(kind, network, pictures, truth, column, penalty)
            began = time.process_time()
            go_on(network, maps, targets, extra, options.steps)
            trained = time.process_time() - began
            worst, every = errors(network, target, source)
            others = [errors(network, *r)[1] - before[r][1] for r in relations if r[0] != target]
            yield {
                "seed": seed, "target": target, "cue": source, "corrections": kind,
                "part": part, "px": float(away.min()),
                "before": before[target, source], "after": (worst, every),
                "ratio": worst / before[target, source][0],
                "others": float(np.mean(others)),
                "asked before": asked, "asked after": relation(network, target, source, part),
                "seconds": trained,
            }  # fmt: skip


def located(
    graph: explgraph.ExplanatoryGraph, parse: explgraph.Parse, marks: np.ndarray
) -> np.ndarray:
    """Give where a localizer finds what was marked in the first images of a parse, in all."""
    known = np.full((len(parse.names), 2), np.nan)
    known[: len(marks)] = marks
    localizer = explgraph.Localizer(graph).fit(parse, {"cue": known})
    found = localizer.predict(parse).positions["cue"].copy()
    found[: len(marks)] = np.where(np.isfinite(marks), marks, found[: len(marks)])
    return found


def _extra(
    kind: str,
    network: nn.Module,
    pictures: Tensor,
    truth: Tensor,
    column: int,
    penalty: explgraph.RejectedParts,
) -> Callable[[], Tensor]:
    """Give what is added to the loss."""
    if kind == "nothing":
        return lambda: torch.zeros(())
    if kind == "20 labels":
        told = nn.functional.binary_cross_entropy_with_logits
        return lambda: told(network(pictures)[:, column], truth)
    if kind != "kept":
        return lambda: WEIGHT * penalty(network)
    old, others = copy.deepcopy(network), torch.arange(len(creatures.OUTPUTS)) != column

    def kept() -> Tensor:
        both = torch.cat(penalty.pairs())
        scores = network(both)
        with torch.no_grad():
            before = old(both)
        moved = (scores - before)[:, others].square().mean()
        return WEIGHT * penalty.change(*scores.chunk(2)) + KEEP * moved

    return kept


def go_on(
    network: creatures.CreatureNet, maps: Tensor, targets: Tensor, extra: Any, steps: int
) -> None:
    """Train the upper stages and the head further, on maps of stage 2 and something more."""
    random = torch.Generator().manual_seed(0)
    learning = [*upper(network), *network.head.parameters()]
    optimizer = torch.optim.AdamW(learning, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1e-3, total_steps=steps, pct_start=0.2
    )
    families = len(creatures.FAMILIES)
    for _ in range(steps):
        rows = torch.randint(len(maps), (32,), generator=random)
        here = network.stage4(network.stage3(maps[rows].float()))
        loss = nn.functional.binary_cross_entropy_with_logits(
            network.head(here.mean((2, 3)))[:, families:], targets[rows]
        )
        loss = loss + extra()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
