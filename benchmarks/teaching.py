"""What a teacher's questions are worth, whether the error it states holds, and how long one waits.

    python benchmarks/teaching.py --data ../shared/animalparts ../shared/landmarks --json t.json

For every set (a folder of crops with a ``parts.json``; EfficientNet-Lite0, one crop per source
photograph) a graph is mined, and a simulated annotator answers `explgraph.Teacher` from the true
marks, with 3 px of noise (`NOISE`, of the network's image, in x and in y); of a part that isn't
marked in an image it says that it isn't visible. Questions about the graph it skips. What is taught
together: an animal's head; its feet or legs; all marks of any other set that half
of the images show. Errors are mean distances
from the true marks (without noise) in all other images that show the part, shares of the diagonal,
means over the parts.

1. *Asked over random*: the error after `ASKED` questions, over that of a `Localizer` fitted to
   `RANDOM` images chosen at random (more where a part is in none of them); images are drawn from
   all, as the teacher's are, or (``shown``) from those that show a part, which nobody who marks
   knows beforehand.
2. *Stop*: targets are `TARGETS` times the error after `LAST` answers (mean of all runs). *Needed*
   is the first answer after which the true error is below the target; targets that need more than
   half of `LAST` are left out. A run is *right* if at the stop (the first answer from the third on
   after which the stated error is below the target) the true error is below it, too, and the stop
   comes at no more than twice the answers needed (three at least); *early* if the error is not;
   *late* otherwise. Every run but the first begins with an image at random, so that runs differ.
   ``bias``: mean of the log of stated over true error, from the third answer on.
3. *Seconds* of processor time from an answer to the next question, the median of answers 10 to 20,
   of three parts at most.

Rows go to the JSON file after every set. ``--small`` takes creatures, for CI.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import efficientnet_lite0, everywhere, localization, quality, recorded, setting
from explgraph import Localizer, Teacher
from explgraph.errors import ExplgraphWarning
from explgraph.teaching.expected import FIRST

Array = NDArray[np.float64]
Row = dict[str, Any]

NOISE = 3.0
ASKED, RANDOM, LAST = 5, 10, 20
TARGETS = (1.1, 1.25, 1.5, 2.0)
SIDES = {"front_legs": "feet and legs", "feet": "feet and legs", "head": "heads"}


class Times(NamedTuple):
    """How often things are drawn."""

    random: int
    asked: int
    stop: int


def taught(parts: Mapping[str, Array], category: str) -> dict[str, list[str]]:
    """Say which marks are taught together, by the kind of set."""
    if set(parts) <= set(SIDES):
        return {SIDES[name]: [name] for name in parts}
    # what half of the images show: of the others too few marks are there to judge
    return {category: [p for p, xy in parts.items() if np.isfinite(xy[:, 0]).mean() > 0.5]}


class Annotator:
    """Answers from true marks with noise, the same for the same seed."""

    def __init__(self, marks: Mapping[str, Array], size: tuple[int, int], seed: int) -> None:
        rng = np.random.default_rng(seed)
        height, width = size
        self.marks = {
            name: np.clip(true + NOISE * rng.standard_normal(true.shape), 0, [width, height])
            for name, true in marks.items()
        }

    def says(self, row: int, parts: Sequence[str]) -> dict[str, Any]:
        """Give an answer."""
        places = {part: self.marks[part][row] for part in parts}
        return {p: tuple(xy) if np.isfinite(xy).all() else None for p, xy in places.items()}


def missed(
    places: Mapping[str, Array], marks: Mapping[str, Array], done: Sequence[int], diagonal: float
) -> float:
    """Mean error in all other images, share of the diagonal; NaN if a part has no mark yet."""
    errors = []
    for part, true in marks.items():
        rest = np.isfinite(true[:, 0])
        rest[list(done)] = False
        if part not in places:
            return float(np.nan)
        errors.append(np.linalg.norm(places[part] - true, axis=1)[rest].mean() / diagonal)
    return float(np.mean(errors))


def conversation(
    place: localization.Scene, names: Sequence[str], answers: int, seed: int, first: bool
) -> list[Row]:
    """Teach, and give for each answer the true and the stated error and the seconds."""
    parse, marks = place.parse, {name: place.parts[name] for name in names}
    annotator = Annotator(marks, parse.image_size, seed)
    teacher = Teacher(place.graph, parse, names)
    rng = np.random.default_rng([seed, 1])
    diagonal = float(np.hypot(*parse.image_size))
    done: list[int] = []
    rows: list[Row] = []
    image = None if first else parse.names[int(rng.integers(len(parse.names)))]
    question = teacher.question(image=image)
    while question is not None and len(done) < answers:
        start = time.process_time()
        if question.kind != "mark":
            teacher.answer(question, None)
            question = teacher.question()
            continue
        done.append(question.row)
        told = teacher.answer(question, annotator.says(question.row, names))
        question = teacher.question()
        seconds = time.process_time() - start
        error = missed(teacher.guesses().positions, marks, done, diagonal)
        rows.append({"error": error, "stated": told.error, "stop": told.stop, "seconds": seconds})
    return rows


def at_random(
    place: localization.Scene, names: Sequence[str], seed: int, shown: bool
) -> tuple[float, int]:
    """Give the error with marks of images at random, and how many images it took to have one."""
    parse, marks = place.parse, {name: place.parts[name] for name in names}
    annotator = Annotator(marks, parse.image_size, seed)
    rng = np.random.default_rng([seed, 2])
    seen = np.any([np.isfinite(true[:, 0]) for true in marks.values()], axis=0)
    order = rng.permutation(len(parse.names))
    order = order[seen[order]] if shown else order
    for count in range(RANDOM, len(order) + 1):
        done = order[:count]
        shots = {name: localization.only(annotator.marks[name], done) for name in names}
        if all(np.isfinite(shot).any() for shot in shots.values()):
            break
    found = Localizer(place.graph).fit(parse, shots).predict(parse)
    diagonal = float(np.hypot(*parse.image_size))
    return missed(found.positions, marks, done, diagonal), count


def stopping(runs: Sequence[Sequence[Row]]) -> Row:
    """Judge the stop of some runs of one set."""
    final = float(np.mean([run[-1]["error"] for run in runs]))
    counts = {"right": 0, "early": 0, "late": 0}
    bias = []
    for run in runs:
        told = [(k, row["error"], row["stated"]) for k, row in enumerate(run, 1)]
        bias += [np.log(s / e) for k, e, s in told if k >= FIRST and np.isfinite(e) and e > 0]
        for times in TARGETS:
            target = times * final
            needed = next((k for k, error, _ in told if error <= target), LAST)
            if needed > LAST / 2:
                continue
            at = next(((k, e) for k, e, s in told if k >= FIRST and s <= target), None)
            if at is not None and at[1] > target:
                counts["early"] += 1
            elif at is not None and at[0] <= 2 * max(needed, FIRST):
                counts["right"] += 1
            else:
                counts["late"] += 1
    return counts | {"bias": float(np.mean(bias)), "spread": float(np.std(bias)), "final": final}


def set_rows(place: localization.Scene, category: str, times: Times) -> Iterator[Row]:
    """Give a row for each kind of mark that is taught."""
    for kind, names in taught(place.parts, category).items():
        start = time.perf_counter()
        asked = [
            conversation(place, names, ASKED, seed, True)[-1]["error"]
            for seed in range(times.asked)
        ]
        drawn = [at_random(place, names, 100 + s, False) for s in range(times.random)]
        shown = [at_random(place, names, 100 + s, True)[0] for s in range(times.random)]
        runs = [conversation(place, names, LAST, s, s == 0) for s in range(times.stop)]
        timed = conversation(place, names[:3], LAST, 0, True) if len(names) > 3 else runs[0]
        by_chance = float(np.mean([error for error, _ in drawn]))
        yield {
            "set": category, "kind": kind, "parts": len(names),
            "images": len(place.parse.names), "nodes": len(place.graph),
            "asked": float(np.mean(asked)), "random": by_chance,
            "ratio": float(np.mean(asked)) / by_chance,
            "shown": float(np.mean(asked)) / float(np.mean(shown)),
            **stopping(runs),
            "seconds": float(np.median([row["seconds"] for row in timed[9:]])),
            "took": time.perf_counter() - start,
        }  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """Means by kind."""
    lines = [
        "| kind | sets | 5 asked | 10 random | ratio | over 10 that show it | right stops | early |"
        " late | bias | seconds |",
        "|---|" + "---:|" * 10,
    ]
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    for kind in kinds:
        of = [row for row in rows if row["kind"] == kind]
        counts = {name: sum(row[name] for row in of) for name in ("right", "early", "late")}
        total = sum(counts.values())
        cells = [
            kind, str(len(of)),
            *(f"{np.mean([row[name] for row in of]):.4f}" for name in ("asked", "random")),
            *(f"{np.mean([row[name] for row in of]):.2f}" for name in ("ratio", "shown")),
            f"{counts['right']} of {total}", str(counts["early"]), str(counts["late"]),
            f"{np.mean([row['bias'] for row in of]):+.2f}",
            f"{max(row['seconds'] for row in of):.2f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    right = sum(row["right"] for row in rows)
    total = sum(row[name] for row in rows for name in ("right", "early", "late"))
    return "\n".join([*lines, f"\nstops: {right} of {total} right ({right / total:.0%})"])


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", help="folders of sets, or sets")
    parser.add_argument("--categories", nargs="+", help="names or folders (default: all)")
    parser.add_argument("--draws", type=int, default=20, help="of random images")
    parser.add_argument("--noises", type=int, default=3, help="seeds of noise, and runs that stop")
    parser.add_argument("--cache", type=Path, help="folder for recorded activations")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--small", action="store_true", help="creatures, in seconds, for CI")
    options = parser.parse_args(arguments)
    setting.announce()
    if not options.small and not options.data:
        parser.error("--data or --small is needed")

    def scenes() -> Iterator[tuple[str, localization.Scene]]:
        if options.small:
            yield "creatures", localization.of_creatures(60)
            return
        network, engine = efficientnet_lite0, quality.the_engine()
        for folder, category in recorded.categories(options.data, options.categories):
            maps, marks = recorded.crops(folder, network, network.LAYERS, cache=options.cache)
            yield category, everywhere.mined_scene(maps, marks.parts, engine)[0]

    noises = options.noises
    times = Times(2, 1, 1) if options.small else Times(options.draws, noises, noises)
    rows: list[Row] = []
    for category, place in scenes():
        # each fit of a graph of weak poses would warn again
        warnings.simplefilter("ignore", ExplgraphWarning)
        for row in set_rows(place, category, times):
            rows.append(row)
            told = f"{category}, {row['kind']}: {row['ratio']:.2f}, {row['took']:.0f} s"
            print(told, file=sys.stderr, flush=True)
            if options.json:
                setting.write(options.json, rows)
    print(table(rows))
    return rows


if __name__ == "__main__":
    main()
