"""How many images mining needs: what is learnt from few, judged on others.

    python benchmarks/few_images.py --data ../shared/animalparts ../shared/landmarks \
        --categories bird cat n02509815 upright --cache /tmp/cache --json few.json

From every set 8, 12, 20, 40, 80 and 160 images are drawn and mined; all graphs are then parsed in
the same `HELD` images, which none of them was mined from. Creatures are a set of their own.

===============  ===================================================================================
nodes            all of them, and the share with evidence of its own (reliability above 0)
reliability      mean of the best quarter, as mining says on its own images
follow           nats per unit of activation that filters lose with other images' poses, at best
                 (`explgraph.graph.weak_pose`)
tracking         of the marks' movement in held-out images, by the best quarter's nodes
error            of marks in held-out images located by the best quarter, from 3 marked ones, over
                 that of the 3 marks' mean place: 1 is worth nothing
warned           share of the runs in which mining issued a warning
===============  ===================================================================================

*Enough* are the fewest images with which, on average over the sets, nodes gain over the marks' mean
at least `SHARE` of what they gain with the most images. The warning of `explgraph.mine` names that.

``--small`` takes creatures alone, for CI.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import localization, quality, recorded, setting
from explgraph import creatures, record
from explgraph.activations.memory import Activations
from explgraph.errors import ExplgraphWarning
from explgraph.evaluation.landmarks import from_creatures
from explgraph.evaluation.metrics import few_shot_error, tracking

Array = NDArray[np.float64]
Row = dict[str, Any]

NUMBERS = (8, 12, 20, 40, 80, 160)
HELD = 30
SHOTS = 3
SHARE = 0.8
#: Marked held-out images that a part needs besides the shots.
LEAST_MARKED = 10
_COLUMNS = ("nodes", "evidence", "reliability", "follow", "tracking", "error", "warned")


def scene_rows(
    activations: Activations,
    parts: Mapping[str, Array],
    numbers: Sequence[int],
    draws: int,
    engine: quality.Engine,
) -> Iterator[Row]:
    """Mine some of a set's images, for each number and draw, and judge on others."""
    marks = localization.inside(parts, activations.image_size)
    for draw in range(draws):
        order = np.random.default_rng([draw, 0]).permutation(len(activations.names))
        held = np.sort(order[:HELD])
        unseen = quality.take(activations, held)
        there = {part: places[held] for part, places in marks.items()}
        for n in numbers:
            chosen = np.sort(order[HELD : HELD + n])
            if len(chosen) == n:
                yield {"n": n, "draw": draw} | judged(
                    quality.take(activations, chosen), unseen, there, engine
                )


def judged(
    seen: Activations, unseen: Activations, marks: Mapping[str, Array], engine: quality.Engine
) -> Row:
    """Mine from some images and measure on others."""
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ExplgraphWarning)
        graph = engine.mine(seen, seed=0)
        parse = engine.parse(graph, unseen)
    seconds = time.perf_counter() - start
    nodes = quality.nodes_of(graph, parse)
    names = [layer.name for layer in seen.layers]
    best = quality.best_of_layers(nodes, names, 0.25)
    size = unseen.image_size
    follows, errors = [], []
    for places in marks.values():
        if np.isfinite(places[:, 0]).sum() < SHOTS + LEAST_MARKED:
            continue
        mean = localization.mean_mark_error(places, SHOTS, 20, size)
        error = mean
        if best.positions.shape[1]:
            follows.append(tracking(best.positions, places))
            error = few_shot_error(best.positions, best.scores, places, size, SHOTS, draws=20)
        errors.append(error / mean)
    following = graph.nx.graph["config"].get("following", {})
    return {
        "nodes": len(graph),
        "evidence": float(np.mean(nodes.reliability > 0)),
        "reliability": float(best.reliability.mean()) if len(best.reliability) else 0.0,
        "follow": max(following.values(), default=float("nan")),
        "tracking": float(np.nanmean(follows)) if follows else float("nan"),
        "error": float(np.mean(errors)),
        "warned": bool([w for w in caught if issubclass(w.category, ExplgraphWarning)]),
        "seconds": seconds,
    }


def means(rows: Sequence[Row], column: str) -> dict[int, float]:
    """Give a column's mean over draws and then sets, for numbers of images that all sets have."""
    sets = sorted({row["set"] for row in rows})
    by_set = {
        (name, n): [row[column] for row in rows if (row["set"], row["n"]) == (name, n)]
        for name in sets
        for n in sorted({row["n"] for row in rows})
    }
    numbers = sorted({n for _, n in by_set})
    return {
        n: float(np.mean([np.nanmean(by_set[name, n]) for name in sets]))
        for n in numbers
        if all(by_set[name, n] for name in sets)
    }


def enough(rows: Sequence[Row]) -> int | None:
    """Give the fewest images with which nodes gain `SHARE` of what they gain with the most.

    None if they gain nothing.
    """
    gain = {n: 1 - error for n, error in means(rows, "error").items()}
    most = gain[max(gain)]
    if most <= 0:
        return None
    return min(n for n in gain if all(gain[m] >= SHARE * most for m in gain if m >= n))


def markdown(rows: Sequence[Row]) -> str:
    """Write a table: a line for each set and number of images, and their means."""
    lines = ["| set | images | " + " | ".join(_COLUMNS) + " |"]
    lines.append("|---|---:|" + "---:|" * len(_COLUMNS))
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["set"], row["n"]), []).append(row)
    for (name, n), group in groups.items():
        cells = [_told(np.nanmean([row[c] for row in group]), c) for c in _COLUMNS]
        lines.append("| " + " | ".join([name, str(n), *cells]) + " |")
    mean = {column: means(rows, column) for column in _COLUMNS}
    for n in mean["error"]:
        cells = [_told(mean[column][n], column) for column in _COLUMNS]
        lines.append("| " + " | ".join(["**all**", str(n), *cells]) + " |")
    return "\n".join([*lines, f"\nenough: {enough(rows) or 'none of these'} images"])


def _told(value: Any, column: str) -> str:
    """Format a value."""
    return f"{value:.0f}" if column == "nodes" else f"{value:.2f}"


def main(arguments: Sequence[str] | None = None, engine: quality.Engine | None = None) -> list[Row]:
    """Run the benchmark; `engine` stands in for explgraph in variants."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", help="folders of sets, or sets")
    parser.add_argument("--categories", nargs="+", help="names or folders (default: all)")
    parser.add_argument("--network", choices=quality.NETWORKS, default="efficientnet-lite0")
    parser.add_argument("--draws", type=int, default=2, help="of images, for each number")
    parser.add_argument("--cache", type=Path, help="folder for recorded activations")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--small", action="store_true", help="creatures, in seconds, for CI")
    options = parser.parse_args(arguments)
    setting.announce()

    def scenes() -> Iterator[tuple[str, Activations, Mapping[str, Array]]]:
        drawn = creatures.draw(HELD + (20 if options.small else max(NUMBERS)), seed=1)
        layers = creatures.LAYERS[-1:] if options.small else creatures.LAYERS
        maps = record(creatures.network(), drawn.tensor(), layers)
        yield "creatures", maps, from_creatures(drawn).parts
        if options.small or not options.data:
            return
        network = importlib.import_module(quality.NETWORKS[options.network])
        for folder, name in recorded.categories(options.data, options.categories):
            maps, landmarks = recorded.crops(folder, network, network.LAYERS, cache=options.cache)
            yield name, maps, landmarks.parts

    engine = engine or quality.the_engine()
    numbers, draws = ((8, 20), 1) if options.small else (NUMBERS, options.draws)
    rows: list[Row] = []
    for name, activations, parts in scenes():
        for row in scene_rows(activations, parts, numbers, draws, engine):
            rows.append({"set": name} | row)
            if options.json:
                setting.write(options.json, rows)
            print(f"{name}, {row['n']}: {row['seconds']:.0f} s", file=sys.stderr, flush=True)
    print(markdown(rows))
    return rows


if __name__ == "__main__":
    main()
