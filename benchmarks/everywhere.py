"""Everywhere: whether nodes and localizer are worth having on every kind of data, and if not, said.

    python benchmarks/everywhere.py --data ../shared/animalparts ../shared/landmarks \
        --networks efficientnet-lite0 mobilenet-v2 vit-s14 --json everywhere.json

For every set (a folder of crops with a ``parts.json``) and network a graph is mined on one crop per
source photograph; each group of marks (`GROUPS`: head, arms, legs; all marks of a set in which some
mark belongs to none of these) is then located in all marked images but 1, 3 and 10. Methods:

=================  =================================================================================
nodes              the best quarter of a layer by reliability, or of every layer ("all layers"),
                   with the neutral voter (`metrics.few_shot_error`)
nodes, expected    the same nodes where the pose alone puts them, before their own map is looked at
localizer          `explgraph.Localizer`, the whole graph
mean mark          the marks' mean place in every image
raw peaks          the lowest layer's filters' peaks with the neutral voter
constant grid      points that never move with the neutral voter
=================  =================================================================================

Errors are mean distances, shares of the diagonal, means over the marks of a group. A *cell* (set,
network, group, k; for nodes also the layer) *fails* where the error exceeds `LIMIT` times the
better of mean mark and raw peaks, or where there are no nodes. Further columns: ``tracking``
(`metrics.tracking`), ``own/expected`` (error of the nodes over that of the same nodes
where they are expected: below 1, their own map adds something), ``coverage`` (share of images in
which the part lies within the localizer's uncertainty, which should be 0.9), ``warned`` (how many
`ExplgraphWarning` mining issued). A graph whose nodes fail should have warned; a graph that warned
though neither nodes nor localizer fail in any cell is a false alarm.

Layers are those of the networks' modules, or with ``--layers suggested`` what
`explgraph.suggest_layers` says of the network.

Rows go to the JSON file after every graph. ``--small`` takes creatures, for CI.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import localization, quality, recorded, setting
from explgraph import creatures, record
from explgraph.activations.memory import Activations
from explgraph.errors import ExplgraphWarning
from explgraph.evaluation.baselines import constant_grid, raw_peaks
from explgraph.evaluation.landmarks import from_creatures
from explgraph.evaluation.metrics import few_shot_error, tracking
from explgraph.network.layers import list_layers, suggest_layers

Array = NDArray[np.float64]
Row = dict[str, Any]

SHOTS = (1, 3, 10)
LIMIT = 1.05
#: A part is measured if as many images are marked besides the shots.
LEAST_IMAGES = 20
GROUPS = {
    "head": ("head", "neck", "head top"),
    "arms": ("shoulder", "elbow", "wrist"),
    "legs": ("front_legs", "feet", "hip", "knee", "ankle"),
}
#: Methods whose failing is counted.
JUDGED = ("nodes", "localizer")


class Draws(NamedTuple):
    """How often shots are drawn for the voter and for the localizer."""

    voter: int
    localizer: int


Locate = Callable[[str, localization.Scene, Sequence[int], int], Iterator[Row]]
"""Part, scene, shots, draws -> rows with k, error and coverage."""


def groups_of(parts: Sequence[str]) -> dict[str, list[str]]:
    """Put marks into groups by their names, left and right (``"hip R"``) together."""
    kind = {name: group for group, names in GROUPS.items() for name in names}
    found: dict[str, list[str]] = {}
    for part in parts:
        group = kind.get(part) or kind.get(part.removesuffix(" L").removesuffix(" R"))
        if group is None:
            return {"all": list(parts)}
        found.setdefault(group, []).append(part)
    return found


def locate(part: str, place: localization.Scene, shots: Sequence[int], draws: int) -> Iterator[Row]:
    """Rows of the library's localizer."""
    return localization.localizer_rows(part, place, shots, draws, suggest=False)


def mined_scene(
    activations: Activations, parts: Mapping[str, Array], engine: quality.Engine
) -> tuple[localization.Scene, list[str]]:
    """Mine and parse, and give the warnings of mining."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ExplgraphWarning)
        graph = engine.mine(activations, seed=0)
    for other in caught:
        if not issubclass(other.category, ExplgraphWarning):
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    said = [str(w.message) for w in caught if issubclass(w.category, ExplgraphWarning)]
    marks = localization.inside(parts, activations.image_size)
    parse = engine.parse(graph, activations)
    return localization.Scene(activations, marks, graph, parse), said


def voters(place: localization.Scene) -> Iterator[tuple[str, str, Array, Array]]:
    """Give what votes: method, layer, positions (N, V, 2) px, scores (N, V)."""
    activations = place.activations
    nodes = quality.nodes_of(place.graph, place.parse)
    names = quality.layer_names(quality.Sample(activations, np.zeros((0, 2))))
    kept = {name: nodes.of(name).best(0.25) for name in names}
    kept[quality.ALL_LAYERS] = quality.best_of_layers(nodes, names, 0.25)
    for layer, best in kept.items():
        yield "nodes", layer, best.positions, best.scores
        yield "nodes, expected", layer, best.expected, best.scores
    lowest = activations.layers[0]
    peaks = raw_peaks(activations.maps[0].numpy(), lowest)
    yield "raw peaks", lowest.name, *peaks
    yield "constant grid", "none", *constant_grid(activations.n_images, activations.image_size)


def part_rows(
    part: str, place: localization.Scene, draws: Draws, locate: Locate = locate
) -> Iterator[Row]:
    """Rows of one part: method, layer, k, error, and what belongs to the method."""
    places, size = place.parts[part], place.activations.image_size
    marked = int(np.isfinite(places[:, 0]).sum())
    shots = [k for k in SHOTS if marked >= k + LEAST_IMAGES]
    for k in shots:
        error = localization.mean_mark_error(places, k, draws.voter, size)
        yield {"method": "mean mark", "layer": "none", "k": k, "error": error}
    for method, layer, positions, scores in voters(place):
        found = positions.shape[1] > 0
        follows = tracking(positions, places) if found and method != "constant grid" else np.nan
        for k in shots:
            error = np.nan
            if found:
                error = few_shot_error(positions, scores, places, size, k, draws=draws.voter)
            row = {"method": method, "layer": layer, "k": k, "error": error}
            yield row | ({"tracking": follows} if np.isfinite(follows) else {})
    for row in locate(part, place, shots, draws.localizer):
        yield {"layer": "none", **{key: row[key] for key in ("method", "k", "error", "coverage")}}


def cells(rows_of_parts: Sequence[Sequence[Row]]) -> list[Row]:
    """Means over the parts of a group, and which cells fail.

    Parameters
    ----------
    rows_of_parts : sequence of sequence of dict
        Of `part_rows`, for each part of the group.

    Returns
    -------
    list of dict
        Mean error, tracking and coverage for each method, layer and k; ``own/expected`` of nodes;
        ``limit``, and ``fails`` for the methods that are judged.
    """
    merged: dict[tuple[str, str, int], list[Row]] = {}
    for row in (row for rows in rows_of_parts for row in rows):
        merged.setdefault((row["method"], row["layer"], row["k"]), []).append(row)
    found = {}
    for (method, layer, k), rows in merged.items():
        means = {
            name: float(np.mean([row[name] for row in rows if name in row]))
            for name in ("error", "tracking", "coverage")
            if any(name in row for row in rows)
        }
        about = {"method": method, "layer": layer, "k": k, "marks": len(rows)}
        found[method, layer, k] = about | means
    best: dict[int, float] = {}
    for (method, _, k), row in found.items():
        if method in ("mean mark", "raw peaks"):
            best[k] = min(best.get(k, np.inf), row["error"])
    for (method, layer, k), row in found.items():
        if method in JUDGED:
            row["limit"] = LIMIT * best[k]
            row["fails"] = not row["error"] <= row["limit"]
        if method == "nodes" and found["nodes, expected", layer, k]["error"] > 0:
            row["own/expected"] = row["error"] / found["nodes, expected", layer, k]["error"]
    return list(found.values())


def scene_rows(
    activations: Activations,
    parts: Mapping[str, Array],
    draws: Draws,
    engine: quality.Engine,
    locate: Locate = locate,
) -> list[Row]:
    """Mine one graph and measure it: all rows of one set and network."""
    start = time.perf_counter()
    place, said = mined_scene(activations, parts, engine)
    about = {"warned": len(said), "warnings": said, "seconds": time.perf_counter() - start}
    rows: list[Row] = []
    for group, names in groups_of(list(parts)).items():
        measured = cells([list(part_rows(name, place, draws, locate)) for name in names])
        rows += [{"group": group} | row | about for row in measured]
    return rows


# ------------------------------------------------------------------------------------------- output


def alarms(rows: Sequence[Row]) -> Row:
    """Count graphs that fail, that warned, and that warned for nothing."""
    graphs: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        graphs.setdefault((row["network"], row["category"]), []).append(row)
    failing = {
        key: any(row["method"] == "nodes" and row["fails"] for row in group)
        for key, group in graphs.items()
    }
    broken = {key: any(row.get("fails") for row in group) for key, group in graphs.items()}
    warned = {key: group[0]["warned"] > 0 for key, group in graphs.items()}
    return {
        "graphs": len(graphs),
        "nodes fail": sum(failing.values()),
        "nodes fail, warned": sum(failing[key] and warned[key] for key in graphs),
        "warned": sum(warned.values()),
        "false alarms": sum(warned[key] and not broken[key] for key in graphs),
    }


def details(rows: Sequence[Row]) -> str:
    """Error for each group and method, failing ones marked with an exclamation mark."""
    header = ["network", "set", "group", "method", "layer", *(f"{k} marks" for k in SHOTS)]
    header += ["tracking", "own/expected", "coverage", "warned"]
    lines = ["| " + " | ".join(header) + " |", "|---" * 5 + "|---:" * (len(header) - 5) + "|"]
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("network", "category", "group", "method", "layer"))
        groups.setdefault(key, []).append(row)
    for key, group in groups.items():
        errors = {row["k"]: f"{row['error']:.3f}" + "!" * row.get("fails", 0) for row in group}
        cells = [errors.get(k, "") for k in SHOTS]
        for name in ("tracking", "own/expected", "coverage"):
            known = [row[name] for row in group if name in row]
            cells.append(f"{np.mean(known):.2f}" if known else "")
        lines.append("| " + " | ".join([*key, *cells, str(group[0]["warned"])]) + " |")
    return "\n".join(lines)


def summary(rows: Sequence[Row]) -> str:
    """Mean errors, failing cells by network, layer and method; then the warnings."""
    lines = ["| network | method | layer | " + " | ".join(f"{k} marks" for k in SHOTS)]
    lines[0] += " | failing | share | coverage |"
    lines.append("|---" * 3 + "|---:" * (len(SHOTS) + 3) + "|")
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["network"], row["method"], row["layer"]), []).append(row)
    for key, group in groups.items():
        cells = []
        for k in SHOTS:
            known = [row["error"] for row in group if row["k"] == k]
            cells.append(f"{np.nanmean(known):.3f}" if np.isfinite(known).any() else "")
        fails = [row["fails"] for row in group if "fails" in row]
        cells += [f"{sum(fails)} of {len(fails)}", f"{np.mean(fails):.2f}"] if fails else ["", ""]
        covered = [row["coverage"] for row in group if "coverage" in row]
        cells.append(f"{np.mean(covered):.2f}" if covered else "")
        lines.append("| " + " | ".join([*key, *cells]) + " |")
    for method in JUDGED:
        fails = [
            row["fails"]
            for row in rows
            if row["method"] == method and row["layer"] != quality.ALL_LAYERS
        ]
        if fails:
            lines.append(f"\n{method}: {sum(fails)} of {len(fails)} cells fail")
    counted = ", ".join(f"{name} {number}" for name, number in alarms(rows).items())
    return "\n".join([*lines, f"\n{counted}"])


def main(arguments: Sequence[str] | None = None, engine: quality.Engine | None = None) -> list[Row]:
    """Run the benchmark; `engine` stands in for explgraph in variants."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", help="folders of sets, or sets")
    parser.add_argument("--categories", nargs="+", help="names or folders (default: all)")
    parser.add_argument(
        "--networks", nargs="+", choices=quality.NETWORKS, default=["efficientnet-lite0"]
    )
    parser.add_argument(
        "--layers",
        choices=("benchmark", "suggested"),
        default="benchmark",
        help="those of the benchmarks, or what the library suggests",
    )
    parser.add_argument("--draws", type=int, default=20, help="of the voter's shots")
    parser.add_argument("--localizer-draws", type=int, default=5)
    parser.add_argument("--cache", type=Path, help="folder for recorded activations")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--small", action="store_true", help="creatures, in seconds, for CI")
    options = parser.parse_args(arguments)
    setting.announce()
    if not options.small and not options.data:
        parser.error("--data or --small is needed")

    def scenes() -> Iterator[tuple[str, str, Activations, Mapping[str, Array]]]:
        if options.small:
            drawn = creatures.draw(100, seed=1)
            maps = record(creatures.network(), drawn.tensor(), creatures.LAYERS)
            yield "creatures", "creatures", maps, from_creatures(drawn).parts
            return
        for name in options.networks:
            network = importlib.import_module(quality.NETWORKS[name])
            layers = network.LAYERS
            if options.layers == "suggested":
                layers = suggest_layers(list_layers(network.network(), network.SIZE))
            for folder, category in recorded.categories(options.data, options.categories):
                maps, marks = recorded.crops(folder, network, layers, cache=options.cache)
                yield name, category, maps, marks.parts

    draws = Draws(2, 2) if options.small else Draws(options.draws, options.localizer_draws)
    engine = engine or quality.the_engine()
    rows: list[Row] = []
    for name, category, activations, parts in scenes():
        start = time.perf_counter()
        found = scene_rows(activations, parts, draws, engine)
        rows += [{"network": name, "category": category} | row for row in found]
        if options.json:
            setting.write(options.json, rows)
        seconds = time.perf_counter() - start
        print(f"{name}, {category}: {seconds:.0f} s", file=sys.stderr, flush=True)
    print(details(rows), summary(rows), sep="\n\n")
    return rows


if __name__ == "__main__":
    main()
