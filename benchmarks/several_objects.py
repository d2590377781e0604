"""Images of several objects: whether it is told that one pose fails, and each object is found.

    python benchmarks/several_objects.py --json several_objects.json
    python benchmarks/several_objects.py --data ../shared/animalparts ../shared/landmarks
    python benchmarks/several_objects.py --data ../shared/animalparts ../shared/landmarks --flags
    python benchmarks/several_objects.py --small

A set is mined from images of one object each. Others, which weren't mined, are put together in
twos (for creatures in threes, too): scaled to 0.45 to 0.6 of the side each and laid on one canvas
where they hardly overlap, or side by side, stretched to the network's square. Of single images and
of these are told

"fails"
    in which share of the images one pose does not hold (`Parse.one_pose_fails`): false alarms for
    single ones;
"several"
    in which share ``parse(objects=k)`` finds more than one object, and k;
"found"
    the share of objects of which a row of the parse has its marks at most a quarter of the
    object's side from the truth (the mean over its marked parts, as a localizer fitted to 10 marks
    in mined images puts them), each row for one object; beside it what the single pose finds, and
    the mean error of what is nearest to each object, in shares of its side.

``--flags`` tells "fails" alone, in a tenth of the time, beside how far filters follow the mined
images' poses (nats, the best layer's). ``--data`` takes photographs in place of creatures: mined
with EfficientNet-Lite0. The thresholds (`statistics.one_pose.HOLDS`, `several_objects`) were chosen
on creatures, dogs (n02084071) and mice (only the first); the others have no part in them.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import setting
from explgraph import ExplgraphWarning, creatures
from explgraph.activations.recording import record
from explgraph.answers.localize import Localizer
from explgraph.evaluation.landmarks import read_landmarks
from explgraph.images.folder import ImageFolder
from explgraph.mining.mining import mine_activations
from explgraph.parsed import Parse

Array = NDArray[np.floating]

_SIDES = {2: (0.45, 0.6), 3: (0.4, 0.48)}  # of tiles, as shares of the canvas
_OVERLAP = 0.1  # of the smaller tile, at most
_NEAR = 0.25  # of an object's side
_MARKS = 10


class Canvas(NamedTuple):
    """Composites: n pictures of k objects with P marks.

    Attributes
    ----------
    images : (n, H, W, 3) uint8
    marks : (n, k, P, 2)
        px; NaN where a part isn't marked.
    boxes : (n, k, 4)
        x0, y0, x1, y1 px of each object's tile.
    """

    images: NDArray[np.uint8]
    marks: Array
    boxes: Array


def compose(
    images: NDArray[np.uint8], marks: Array, k: int, seed: int, *, stretched: bool = False
) -> Canvas:
    """Lay images (n, H, W, 3), each with marks (n, P, 2) px, on canvases of their size, k on each.

    Parameters
    ----------
    images : (n, S, S, 3) uint8
    marks : (n, P, 2)
    k : int
        2 or 3.
    seed : int
        Of their order and places.
    stretched : bool
        Side by side, each the k-th part of the width; otherwise scaled, anywhere, on colours of
        the first one.
    """
    draws = np.random.default_rng(seed)
    size = images.shape[1]
    order = draws.permutation(len(images))[: len(images) // k * k].reshape(-1, k)
    pictures, places, boxes = [], [], []
    for group in order:
        tiles = _side_by_side(k, size) if stretched else _scattered(draws, k, size)
        ground = Image.fromarray(images[group[0]]).resize((4, 4))
        canvas = np.asarray(ground.resize((size, size), Image.Resampling.BICUBIC)).copy()
        here = []
        for i, (x0, y0, x1, y1) in zip(group, tiles, strict=True):
            tile = Image.fromarray(images[i]).resize(
                (x1 - x0, y1 - y0), Image.Resampling.BICUBIC, reducing_gap=None
            )
            canvas[y0:y1, x0:x1] = np.asarray(tile)
            here.append(marks[i] * [(x1 - x0) / size, (y1 - y0) / size] + [x0, y0])
        pictures.append(canvas)
        places.append(here)
        boxes.append(tiles)
    return Canvas(np.stack(pictures), np.array(places), np.array(boxes, dtype=float))


def _side_by_side(k: int, size: int) -> NDArray[np.int64]:
    edges = np.linspace(0, size, k + 1).astype(int)
    return np.array([[a, 0, b, size] for a, b in pairwise(edges)])


def _scattered(draws: np.random.Generator, k: int, size: int) -> NDArray[np.int64]:
    """Draw tiles (k, 4) that hardly overlap."""
    while True:
        side = np.round(draws.uniform(*_SIDES[k], k) * size).astype(int)
        corner = np.round(draws.uniform(0, 1, (k, 2)) * (size - side)[:, None]).astype(int)
        tiles = np.concatenate([corner, corner + side[:, None]], axis=1)
        low = np.maximum(tiles[:, None, :2], tiles[None, :, :2])
        high = np.minimum(tiles[:, None, 2:], tiles[None, :, 2:])
        shared = np.clip(high - low, 0, None).prod(2) / np.minimum.outer(side, side) ** 2
        if (shared[~np.eye(k, dtype=bool)] <= _OVERLAP).all():
            return tiles


class Case(NamedTuple):
    """A set: the graph, its network, how pictures become its input, other pictures, a localizer."""

    name: str
    graph: Any
    model: Any
    mean: float
    std: float
    images: NDArray[np.uint8]
    marks: Array
    localizer: Localizer

    def tensor(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """Normalise pictures (n, S, S, 3)."""
        values = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255
        return (values - self.mean) / self.std


def _fitted(graph: Any, found: Parse, marks: Array, parts: Sequence[str]) -> Localizer:
    """Fit a localizer to the first marks of each part."""
    given = {}
    for k, part in enumerate(parts):
        place = marks[:, k].astype(float).copy()
        known = np.flatnonzero(np.isfinite(place).all(1))
        place[known[_MARKS:]] = np.nan
        if len(known):
            given[part] = place
    return Localizer(graph).fit(found, given)


def creature_case(mined: int, others: int, seed: int) -> Case:
    """Mine creatures, one in a picture."""
    model = creatures.network()
    drawn = creatures.draw(mined, seed=seed)
    graph = mine_activations(record(model, drawn.tensor(), creatures.LAYERS), seed=seed)
    marks = np.stack(list(drawn.parts.values()), axis=1)
    localizer = _fitted(graph, graph.parse(model, drawn.tensor()), marks, creatures.PARTS)
    other = creatures.draw(others, seed=seed + 1000)
    return Case(
        "creatures", graph, model, creatures.MEAN[0], creatures.STD[0], other.images,
        np.stack(list(other.parts.values()), axis=1), localizer,
    )  # fmt: skip


def photograph_case(folder: Path, others: int, seed: int) -> Case:
    """Mine six in ten photographs of a folder, one of each source."""
    from benchmarks import efficientnet_lite0 as network

    images = ImageFolder(folder, size=network.SIZE, mean=network.MEAN, std=network.STD)
    landmarks = read_landmarks(folder / "parts.json").to_network(images)
    images = images.subset(landmarks.one_per_source())
    landmarks = landmarks.align(images.names)
    order = np.random.default_rng(seed).permutation(len(images))
    mined, rest = (np.sort(part) for part in np.split(order, [len(order) * 6 // 10]))
    model = network.network()
    marks = np.stack(list(landmarks.parts.values()), axis=1)
    first = images.subset(mined.tolist())
    graph = mine_activations(record(model, first, list(network.LAYERS)), seed=seed)
    localizer = _fitted(graph, graph.parse(model, first), marks[mined], list(landmarks.parts))
    rest = rest[:others]
    pictures = np.stack([np.asarray(images.picture(int(i))) for i in rest])
    return Case(
        folder.name, graph, model, network.MEAN[0], network.STD[0], pictures, marks[rest], localizer
    )


def _errors(case: Case, parse: Parse, canvas: Canvas) -> tuple[float, float]:
    """Share of objects found, and the mean error of what is nearest to each, in their sides."""
    located = case.localizer.predict(parse).positions
    part_names = list(creatures.PARTS if case.name == "creatures" else located)
    if case.name != "creatures":
        part_names = part_names[: canvas.marks.shape[2]]
    columns = [k for k, part in enumerate(part_names) if part in located]
    places = np.stack([located[part_names[k]] for k in columns], axis=1)
    side = np.sqrt((canvas.boxes[..., 2:] - canvas.boxes[..., :2]).prod(-1))
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(parse.image_names):
        rows.setdefault(name, []).append(row)
    found, nearest, count = 0, [], 0
    for n, mine in enumerate(rows.values()):
        truth = canvas.marks[n][:, columns]
        away = np.linalg.norm(places[mine][:, None] - truth[None], axis=-1) / side[n][:, None]
        marked = np.isfinite(away).any(2).all(0)
        if not marked.any():
            continue
        error = np.full(away.shape[:2], np.inf)
        error[:, marked] = np.nanmean(away[:, marked], axis=2)
        count += int(marked.sum())
        nearest += error[:, marked].min(0).tolist()
        while error.size and error.min() <= _NEAR:  # the nearest two belong together
            row, one = np.unravel_index(error.argmin(), error.shape)
            found += 1
            error[row], error[:, one] = np.inf, np.inf
    return found / max(count, 1), float(np.mean(nearest))


def flags(case: Case, seed: int = 0) -> dict[str, Any]:
    """Tell in which share of single images, and of composites, one pose does not hold."""
    config = case.graph.nx.graph["config"]
    row: dict[str, Any] = {
        "set": case.name, "n": len(case.images), "follow": max(config["following"].values()),
    }  # fmt: skip
    pairs = {
        name: compose(case.images, case.marks, 2, seed, stretched=name == "side by side").images
        for name in ("two", "side by side")
    }
    for name, images in {"one": case.images, **pairs}.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExplgraphWarning)
            found = case.graph.parse(case.model, case.tensor(images))
        row[name] = float(found.one_pose_fails.mean())
    return row


def measure(case: Case, seed: int = 0) -> list[dict[str, Any]]:
    """Give a row for single images and for each kind of composite."""
    kinds: dict[str, tuple[int, Mapping[str, Any]]] = {
        "two": (2, {}),
        "side by side": (2, {"stretched": True}),
    }
    if case.name == "creatures":
        kinds["three"] = (3, {})
    boxes = np.tile([0.0, 0, *case.images.shape[2:0:-1]], (len(case.images), 1, 1))
    canvases = {"one": (2, Canvas(case.images, case.marks[:, None], boxes))}
    for kind, (k, how) in kinds.items():
        canvases[kind] = (k, compose(case.images, case.marks, k, seed, **how))
    rows = []
    for kind, (k, canvas) in canvases.items():
        images = case.tensor(canvas.images)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExplgraphWarning)
            start = time.process_time()
            single = case.graph.parse(case.model, images)
            middle = time.process_time()
            several = case.graph.parse(case.model, images, objects=k)
            stop = time.process_time()
        counted = np.unique(np.array(several.image_names), return_counts=True)[1]
        found, error = _errors(case, several, canvas)
        found_single, error_single = _errors(case, single, canvas)
        rows.append(
            {
                "set": case.name, "images": kind, "n": len(images),
                "fails": float(single.one_pose_fails.mean()),
                "several": float((counted > 1).mean()), "all k": float((counted == k).mean()),
                "found": found, "found, one pose": found_single,
                "error": error, "error, one pose": error_single,
                "s per image": (stop - middle) / len(images),
                "s per image, one pose": (middle - start) / len(images),
            }
        )  # fmt: skip
        print(table(rows[-1:], head=len(rows) == 1), flush=True)
    return rows


def table(rows: Sequence[Mapping[str, Any]], *, head: bool = True) -> str:
    """Give rows as a table in Markdown."""
    keys = list(rows[0])
    lines = ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)] if head else []
    for row in rows:
        cells = (f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values())
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", type=Path, nargs="+", help="folders of photographs and parts.json"
    )
    parser.add_argument("--others", type=int, default=60, help="images that aren't mined, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--flags", action="store_true", help="only where one pose does not hold")
    parser.add_argument("--small", action="store_true", help="few creatures, in seconds")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args(arguments)
    setting.announce()
    rows: list[dict[str, Any]] = []
    if options.data is None:
        few = options.small
        case = creature_case(120 if few else 200, 12 if few else 120, options.seed)
        rows += _rows(case, options, first=True)
    else:
        found = [
            f
            for d in options.data
            for f in sorted([*d.glob("parts.json"), *d.glob("*/parts.json")])
        ]
        if not found:
            raise SystemExit(f"no parts.json in {', '.join(map(str, options.data))}")
        for file in found:
            case = photograph_case(file.parent, options.others, options.seed)
            rows += _rows(case, options, first=not rows)
    if options.json is not None:
        setting.write(options.json, rows)
    return 0


def _rows(case: Case, options: argparse.Namespace, *, first: bool) -> list[dict[str, Any]]:
    """Measure a set; what `measure` finds it prints itself."""
    if not options.flags:
        return measure(case, options.seed)
    rows = [flags(case, options.seed)]
    print(table(rows, head=first), flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
