"""Parts: whether nodes are grouped into a dozen things that are the same in other images.

    python benchmarks/parts.py --data ../shared/animalparts ../shared/landmarks --json parts.json

One graph is mined for each set (a folder of crops with a ``parts.json``), and one of each half of
its images. Columns:

==============  =================================================================================
parts           of the graph
joined          share of the nodes of reliability > 0 that belong to a part
best node       error of the best part over that of the best node: with the mean offset from ten
                marks, the part (node) chosen on a random half of the marked images and measured on
                the other, mean over the marks and draws
localizer       the same part's error over that of `explgraph.Localizer` with ten marks
again           share of the parts of either half's graph that the other half's has, too: usual
                places within a tenth of the side, and at least half of the filters that have nodes
                there at all
distinct        parts among the twelve nodes that are shown first (`Graph.turns`), least of layers
time            of grouping, as a share of mining
==============  =================================================================================

Creatures, of which the planted parts are known, are parsed in images that were not mined:

==============  =================================================================================
followed once   planted parts that exactly one part follows (tracking >= 0.8) and none better, of
                those that nodes or raw peaks follow
rand            adjusted Rand index of nodes of parts (by the planted part nearest to most of their
                places) against parts; "rand, moving" of those that follow something
said 0.9        of the presences of at least 0.9 that are said of parts that follow a planted part,
                the share that is right
==============  =================================================================================

Controls, with the same number of groups: "random groups" of the same sizes; "places", k-means of
the nodes' usual places; "filters", one group for each filter. They are measured where it makes
sense. ``--small`` takes creatures only, for CI.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import localization, quality, recorded, setting
from explgraph import Localizer, creatures, record
from explgraph.activations.memory import Activations
from explgraph.evaluation.baselines import raw_peaks
from explgraph.evaluation.landmarks import from_creatures
from explgraph.evaluation.metrics import node_tracking
from explgraph.evaluation.planted import part_shares
from explgraph.mining import assemble

Array = NDArray[np.float64]
Row = dict[str, Any]

SHOTS = 10
DRAWS = 20
LEAST = 40  # marked images that a mark needs
NODES = 1500  # of the most reliable, that the best is chosen among
FOLLOWED = 0.8
SHOWN = 12
COLUMNS = (
    "parts", "joined", "best node", "localizer", "again", "distinct", "time", "followed once",
    "rand", "rand, moving", "said 0.9",
)  # fmt: skip


def mined(activations: Activations, engine: quality.Engine) -> tuple[Any, Any, float]:
    """Mine and parse; give the share of time that grouping took."""
    spent = [0.0]
    once = assemble._add_parts

    def timed(*args: Any) -> None:
        start = time.perf_counter()
        once(*args)
        spent[0] += time.perf_counter() - start

    assemble._add_parts = timed
    try:
        start = time.perf_counter()
        graph = engine.mine(activations, seed=0)
        share = spent[0] / (time.perf_counter() - start)
    finally:
        assemble._add_parts = once
    return graph, engine.parse(graph, activations), share


def groups_of(graph: Any) -> dict[str, NDArray[np.int64]]:
    """Numbers of the nodes' groups (V,), -1 for none, by method: the parts, and the controls."""
    from sklearn.cluster import KMeans

    number = {part.id: k for k, part in enumerate(graph.parts)}
    values = list(graph.nx.nodes.values())
    parts = np.array([number.get(a["part"], -1) for a in values])
    some = np.flatnonzero([a["reliability"] > 0 for a in values])
    draws = np.random.default_rng(0)
    shuffled, places = np.full(len(parts), -1), np.full(len(parts), -1)
    shuffled[some] = draws.permutation(parts[some])
    if number:
        xy = np.array([[values[v]["x"], values[v]["y"]] for v in some])
        found = KMeans(min(len(number), len(some)), n_init=3, random_state=0).fit(xy)
        places[some] = found.labels_
    filters = np.unique([f"{a['layer_index']}/{a['filter']}" for a in values], return_inverse=True)[
        1
    ]
    return {"parts": parts, "random groups": shuffled, "places": places, "filters": filters}


def pooled(graph: Any, parse: Any, group: NDArray[np.int64]) -> Array:
    """Give places of groups in every image, (N, G, 2), pooled as parts are."""
    from explgraph.parsed_parts import Pooling

    count = int(group.max()) + 1
    values = list(graph.nx.nodes.values())
    names = tuple(map(str, range(count)))
    weight = np.array([max(a["reliability"], 1e-6) for a in values])
    if np.array_equal(group, groups_of(graph)["parts"]):
        weight = weight * np.array([max(a["part_weight"], 1e-6) for a in values])
    sigma = np.array([a["sigma"] for a in values])
    pool = Pooling(names, names, group, weight, sigma, np.zeros(count), np.zeros(count))
    return pool(parse.positions, parse.expected, parse.scores)[0].astype(np.float64)


def best_error(places: Array, marks: Array, seed: int = 0) -> float:
    """Error with the mean offset from ten marks, px: the best of (N, G, 2), chosen on a half."""
    known = np.flatnonzero(np.isfinite(marks[:, 0]))
    draws = np.random.default_rng(seed)
    errors = []
    for _ in range(DRAWS):
        order = draws.permutation(known)
        choosing, judging = order[: len(order) // 2], order[len(order) // 2 :]
        offset = marks[choosing][:, None] - places[choosing]
        spread = np.linalg.norm(offset - offset.mean(0), axis=-1).mean(0)
        best = int(spread.argmin())
        some = choosing[:SHOTS]
        move = (marks[some] - places[some, best]).mean(0)
        missed = np.linalg.norm(places[judging, best] + move - marks[judging], axis=-1)
        errors.append(missed.mean())
    return float(np.mean(errors))


def localizer_error(graph: Any, parse: Any, marks: Array, seed: int = 0) -> float:
    """Error of the localizer with ten marks on the same kind of images, px."""
    known = np.flatnonzero(np.isfinite(marks[:, 0]))
    draws = np.random.default_rng(seed)
    errors = []
    for _ in range(5):
        order = draws.permutation(known)
        judging = order[len(order) // 2 :]
        shown = np.full_like(marks, np.nan)
        shown[order[:SHOTS]] = marks[order[:SHOTS]]
        found = Localizer(graph).fit(parse, {"part": shown}).predict(parse).positions["part"]
        errors.append(np.linalg.norm(found[judging] - marks[judging], axis=-1).mean())
    return float(np.mean(errors))


def found_again(
    one: Any, other: Any, groups: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> list[bool]:
    """Say for every group of nodes of two graphs, (V,) each, whether the other has it."""
    found = []
    side = float(np.sqrt(np.prod(one.image_size)))
    told = [_told(graph, group) for graph, group in zip((one, other), groups, strict=True)]
    for mine, theirs, graph in ((*told, other), (*told[::-1], one)):
        there = {node.rpartition("/")[0] for node in graph.node_ids}
        for place, filters in mine:
            known = filters & there
            shares = [
                len(known & like) / max(len(known), 1)
                for at, like in theirs
                if np.linalg.norm(place - at) <= 0.1 * side
            ]
            found.append(max(shares, default=0.0) >= 0.5)
    return found


def _told(graph: Any, group: NDArray[np.int64]) -> list[tuple[Array, set[str]]]:
    """Usual place and filters of every group; nodes count by their reliability."""
    values = list(graph.nx.nodes.values())
    filters = np.array([node.rpartition("/")[0] for node in graph.node_ids])
    xy = np.array([[a["x"], a["y"]] for a in values])
    much = np.array([max(a["reliability"] * (a["part_weight"] or 1), 1e-9) for a in values])
    return [
        (np.average(xy[mine], axis=0, weights=much[mine]), set(filters[mine]))
        for mine in (group == k for k in range(int(group.max(initial=-1)) + 1))
        if mine.any()
    ]


def distinct(graph: Any) -> int:
    """Count the parts among the nodes of a layer that are shown first; least of the layers."""
    counts = []
    for layer in graph.layers:
        nodes = graph.nodes_of(layer.name)
        turns = graph.turns(nodes)
        first = sorted(nodes, key=turns.__getitem__)[:SHOWN]
        counts.append(len({graph.nx.nodes[node]["part"] for node in first} - {""}))
    return min(counts)


def set_rows(
    activations: Activations, marks: Mapping[str, Array], engine: quality.Engine
) -> list[Row]:
    """Rows of one set of photographs."""
    graph, parse, share = mined(activations, engine)
    known = {
        name: np.asarray(place, dtype=np.float64)
        for name, place in localization.inside(marks, activations.image_size).items()
        if np.isfinite(place[:, 0]).sum() >= LEAST
    }
    reliable = np.array([a["reliability"] for a in graph.nx.nodes.values()])
    nodes = np.argsort(-reliable, kind="stable")[:NODES]
    node = {
        k: best_error(parse.positions[:, nodes].astype(np.float64), p) for k, p in known.items()
    }
    local = {k: localizer_error(graph, parse, p) for k, p in known.items()}
    rows = []
    for method, group in groups_of(graph).items():
        row: Row = {"method": method, "parts": int(group.max()) + 1}
        row["joined"] = float((group[reliable > 0] >= 0).mean())
        if known and row["parts"] and method != "filters":
            places = pooled(graph, parse, group)
            error = {k: best_error(places, p) for k, p in known.items()}
            row["best node"] = sum(error.values()) / sum(node.values())
            row["localizer"] = sum(error.values()) / sum(local.values())
        rows.append(row)
    order = np.random.default_rng(0).permutation(activations.n_images)
    middle = len(order) // 2
    halves = [
        engine.mine(quality.take(activations, np.sort(half)), seed=0)
        for half in (order[:middle], order[middle:])
    ]
    found = [groups_of(half) for half in halves]
    for row in rows:
        if row["method"] != "filters":
            again = found_again(*halves, (found[0][row["method"]], found[1][row["method"]]))
            row["again"] = float(np.mean(again)) if again else np.nan
    rows[0] |= {"distinct": distinct(graph), "time": share}
    return rows


def creature_rows(images: int, new: int, engine: quality.Engine) -> list[Row]:
    """Rows of creatures, judged on images that were not mined."""
    from sklearn.metrics import adjusted_rand_score

    network = creatures.network()
    activations = record(network, creatures.draw(images, seed=0).tensor(), creatures.LAYERS)
    graph, _, share = mined(activations, engine)
    world = creatures.draw(new, seed=1)
    seen = record(network, world.tensor(), creatures.LAYERS)
    parse = engine.parse(graph, seen)
    marks = {k: np.asarray(p, dtype=np.float64) for k, p in from_creatures(world).parts.items()}
    nearest = part_shares(parse.positions, parse.scores, marks).argmax(1)
    candidates = [parse.positions]
    candidates += [
        raw_peaks(m.numpy(), la)[0] for m, la in zip(seen.maps, seen.layers, strict=True)
    ]

    def follows(positions: Array, place: Array) -> Array:
        found: Array = np.nan_to_num(node_tracking(positions, place), nan=-1.0)
        return found

    possible = [
        k for k, p in marks.items() if max(follows(c, p).max() for c in candidates) >= FOLLOWED
    ]
    values = list(graph.nx.nodes.values())
    moving = np.array([a["follows"] > 0 for a in values])
    rows = []
    for method, group in groups_of(graph).items():
        row: Row = {"method": method, "parts": int(group.max()) + 1}
        some = group >= 0
        row["joined"] = float((group[np.array([a["reliability"] > 0 for a in values])] >= 0).mean())
        row["rand"] = adjusted_rand_score(nearest[some], group[some])
        row["rand, moving"] = adjusted_rand_score(nearest[some & moving], group[some & moving])
        if method != "filters" and row["parts"]:
            places = pooled(graph, parse, group)
            table = np.array([follows(places, marks[k]) for k in possible])  # (M, G)
            all_ = np.array([follows(places, p) for p in marks.values()])
            own = all_.argmax(0)  # the planted part that each follows best
            names = list(marks)
            once = [
                ((table[m] >= FOLLOWED) & (own == names.index(k))).sum() == 1
                for m, k in enumerate(possible)
            ]
            row["followed once"] = float(np.mean(once)) if once else np.nan
            row["possible"] = len(possible)
        if method == "parts" and row["parts"]:
            right = said = 0
            presence = parse.parts.presence
            for g in range(row["parts"]):
                if all_[:, g].max() >= FOLLOWED:
                    sure = presence[:, g] >= 0.9
                    said += int(sure.sum())
                    right += int(np.isfinite(marks[names[own[g]]][sure, 0]).sum())
            row["said 0.9"] = right / said if said else np.nan
            row |= {"distinct": distinct(graph), "time": share}
        rows.append(row)
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """Give a table of all rows, and the mean over the photographs' sets."""
    shown = [name for name in COLUMNS if any(name in row for row in rows)]
    lines = ["| set | network | groups | " + " | ".join(shown) + " |"]
    lines.append("|---" * 3 + "|---:" * len(shown) + "|")
    photographs = [row for row in rows if row["category"] != "creatures"]
    means = []
    for method in dict.fromkeys(row["method"] for row in photographs):
        same = [row for row in photographs if row["method"] == method]
        mean = {
            name: float(np.nanmean([row[name] for row in same if name in row]))
            for name in shown
            if any(name in row for row in same)
        }
        means.append({"category": "mean", "network": "", "method": method} | mean)
    for row in [*rows, *means]:
        cells = [
            f"{row[name]:.{0 if name in ('parts', 'distinct') else 2}f}"
            if np.isfinite(row.get(name, np.nan))
            else ""
            for name in shown
        ]
        lines.append(
            "| " + " | ".join([row["category"], row["network"], row["method"], *cells]) + " |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="folders of sets, or sets")
    parser.add_argument("--categories", nargs="+", help="names or folders (default: all)")
    parser.add_argument(
        "--networks", nargs="+", choices=quality.NETWORKS, default=["efficientnet-lite0"]
    )
    parser.add_argument("--cache", type=Path, help="folder for recorded activations")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--small", action="store_true", help="creatures only, fewer, for CI")
    options = parser.parse_args(arguments)
    setting.announce()
    engine = quality.the_engine()
    where = {"network": "creatures", "category": "creatures"}
    size = (100, 60) if options.small else (300, 300)
    rows = [where | row for row in creature_rows(*size, engine)]
    sets = recorded.categories(options.data, options.categories) if options.data else []
    for name in options.networks:
        network = importlib.import_module(quality.NETWORKS[name])
        for folder, category in [] if options.small else sets:
            start = time.perf_counter()
            activations, marks = recorded.crops(
                folder, network, network.LAYERS, cache=options.cache
            )
            where = {"network": name, "category": category}
            rows += [where | row for row in set_rows(activations, marks.parts, engine)]
            print(f"{name}, {category}: {time.perf_counter() - start:.0f} s", flush=True)
            if options.json:
                setting.write(options.json, rows)
    if options.json:
        setting.write(options.json, rows)
    print(markdown(rows))
    return rows


if __name__ == "__main__":
    main()
