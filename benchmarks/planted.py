"""Planted filters: whether a filter that answers to two parts is taken apart.

    python benchmarks/planted.py --data ../shared/animalparts --json planted.json

On real maps, in the layer that is looked at, everything else untouched. A first graph gives the
*sources*, the filters that come nearest to holding one part: of the filters with a node of
reliability > 0 the 100 with the largest share (at least 0.3) of squared activation under a Gaussian
of 0.1 of the side around a node of theirs, place by place as parsed. `COUNTS` filters of each kind
are put together from them, each source divided by its standard deviation, and appended to the
layer:

===========  ===================================================================================
sums         A + B
occasions    A in a random half of the images, B in the others
threes       A + B + C
singles      A under a Gaussian of 0.08 of the side around its node: one part and nothing else
===========  ===================================================================================

The nodes of two sources lie at least 0.2 of the diagonal apart, on average over the images; for
three this holds for every two. A second graph is mined. Among its nodes of reliability > 0, a
source is found by a node of the planted filter that is within 0.05 of the diagonal of the source's
own node (of the first graph) on average, or within 0.1 and explains 0.8 of its movement; several
sources need as many nodes. Columns:

==============  ================================================================================
sums both       share of the sums of which both sources are found
sums one        the same, at least one
threes all      share of the threes of which all sources are found
occasions both  share of the occasions of which both are found, each on the images that show it
presence AUC    of the occasions of which both are found: how surely a node's score tells images
                that show its source from those that don't, among the images in which the source's
                own node scores above its lowest third (0.5: not at all)
singles one     share of the singles with exactly one node
singles right   the same, and the node finds the source
nodes           of reliability > 0 on each planted filter, mean
==============  ================================================================================

Beside the graph (method "nodes") stands what a plain method finds on the same planted filters: each
filter's 1, 2 or 3 highest peaks of every image, at least 0.1 of the diagonal apart, refined over
3 x 3 units and put into as many groups by k-means over all images ("peaks, k = 2"; where a group
has no peak it has its centre).
With ``--hold-out`` graphs are mined on every other photograph, where sources are chosen as well,
and judged on the rest. ``--small`` plants a few filters in the creatures' network, for CI.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import quality, recorded, setting
from benchmarks.planting import (
    Found,
    Sources,
    append_filters,
    choose_sources,
    draw_plants,
    held_shares,
    judge,
    peaks,
    plant_maps,
)
from explgraph import creatures, record
from explgraph.activations.memory import Activations

Row = dict[str, Any]

COUNTS = {"sums": 60, "occasions": 60, "threes": 60, "singles": 60}
SMALL = {"sums": 12, "occasions": 12, "threes": 6, "singles": 12}
#: What the nodes' "sums both", mean over the layers, must reach with --small.
LEAST_SUMS = 0.0
COLUMNS = (
    "sources", "sums both", "sums one", "threes all", "occasions both", "presence AUC",
    "singles one", "singles right", "nodes", "seconds",
)  # fmt: skip


# ------------------------------------------------------------------------------------------ running


def mined_nodes(
    activations: Activations,
    mine: Callable[..., Any],
    parse: Callable[[Any, Activations], Any],
    seed: int,
    hold_out: bool,
) -> quality.Nodes:
    """Mine all images or every other one, and parse all of them."""
    images = np.arange(activations.n_images)[:: 2 if hold_out else 1]
    graph = mine(quality.take(activations, images), seed=seed)
    return quality.nodes_of(graph, parse(graph, activations))


def planted(
    activations: Activations,
    layer_index: int,
    mine: Callable[..., Any],
    parse: Callable[[Any, Activations], Any],
    seed: int,
    *,
    counts: Mapping[str, int] = COUNTS,
    hold_out: bool = False,
    first: quality.Nodes | None = None,
    baselines: bool = False,
) -> list[Row]:
    """Plant filters in a layer, mine, and count what is found.

    Parameters
    ----------
    activations : Activations
    layer_index : int
        0 is the lowest layer.
    mine : callable
        ``mine(activations, seed=seed)`` gives a graph.
    parse : callable
        ``parse(graph, activations)`` gives a `Parse`.
    seed : int
        Of mining and of what is planted.
    counts : mapping of str to int
        Planted filters of each kind.
    hold_out : bool
        Mine, and choose sources, on every other image, and judge on the rest.
    first : Nodes, optional
        Of the first graph in all images, if it has been mined; it is the same for all layers.
    baselines : bool
        Add the rows of the plain method.

    Returns
    -------
    list of dict
        The row of the nodes, and those of the baselines.
    """
    size, layer = activations.image_size, activations.layers[layer_index]
    side = float(np.sqrt(size[0] * size[1]))
    maps = activations.maps[layer_index].numpy()
    if first is None:
        first = mined_nodes(activations, mine, parse, seed, hold_out)
    nodes = first.of(layer.name)
    step = 2 if hold_out else 1
    shares = held_shares(maps[::step], layer, nodes.positions[::step], nodes.filter, 0.1 * side)
    chosen = nodes.take(choose_sources(nodes, shares))
    sources = Sources(chosen.filter, chosen.positions, chosen.scores)
    plants = draw_plants(sources, size, counts, seed)
    new = plant_maps(maps, layer, sources, plants, 0.08 * side)

    start = time.perf_counter()
    grown = append_filters(activations, layer_index, new)
    second = mined_nodes(grown, mine, parse, seed, hold_out).of(layer.name)
    seconds = time.perf_counter() - start
    second = second.take(
        np.flatnonzero((second.reliability > 0) & (second.filter >= layer.channels))
    )
    results = {"nodes": Found(second.positions, second.scores, second.filter - layer.channels)}
    for k in (1, 2, 3) if baselines else ():
        results[f"peaks, k = {k}"] = peaks(new, layer, k, float(np.hypot(*size)))

    judged = slice(1, None, 2) if hold_out else slice(None)
    seen = Sources(sources.filter, sources.positions[judged], sources.scores[judged])
    visible = [plant._replace(shown=plant.shown[:, judged]) for plant in plants]
    rows = []
    for method, found in results.items():
        here = found._replace(positions=found.positions[judged], scores=found.scores[judged])
        row = {"layer": layer.name, "method": method, "sources": len(sources.filter)}
        row |= {f"planted {kind}": sum(p.kind == kind for p in plants) for kind in counts}
        row |= judge(seen, visible, here, size)
        rows.append(row | ({"seconds": seconds} if method == "nodes" else {}))
    return rows


def rows_of(
    activations: Activations, layers: Sequence[str], counts: Mapping[str, int], options: Any
) -> Iterator[Row]:
    """Rows of some layers, top first; the first graph is mined once."""
    engine = quality.the_engine()
    names = [layer.name for layer in activations.layers]
    first = mined_nodes(activations, engine.mine, engine.parse, options.seed, options.hold_out)
    for name in layers:
        yield from planted(
            activations,
            names.index(name),
            engine.mine,
            engine.parse,
            options.seed,
            counts=counts,
            hold_out=options.hold_out,
            first=first,
            baselines=True,
        )


def markdown(rows: Sequence[Row]) -> str:
    """Means over the categories."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["network"], row["layer"], row["method"]), []).append(row)
    lines = [
        "| network | layer | method | " + " | ".join(COLUMNS) + " |",
        "|---" * 3 + "|---:" * len(COLUMNS) + "|",
    ]
    for key, group in groups.items():
        cells = []
        for column in COLUMNS:
            known = [row[column] for row in group if np.isfinite(row.get(column, np.nan))]
            digits = {"sources": 0, "seconds": 0}.get(column, 2)
            cells.append(f"{np.mean(known):.{digits}f}" if known else "")
        lines.append("| " + " | ".join([*key, *cells]) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", help="folders of category folders")
    parser.add_argument("--categories", nargs="+", help="names or folders (default: all)")
    parser.add_argument(
        "--networks", nargs="+", choices=quality.NETWORKS, default=["efficientnet-lite0"]
    )
    parser.add_argument("--layers", nargs="+", help="default: the network's, but for the top one")
    parser.add_argument("--hold-out", action="store_true", help="judge on images not mined")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder for recorded activations")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--small", action="store_true", help="creatures, in seconds, for CI")
    options = parser.parse_args(arguments)
    setting.announce()
    if not options.small and not options.data:
        parser.error("--data or --small is needed")

    def scenes() -> Iterator[tuple[str, str, Activations, Sequence[str]]]:
        if options.small:
            pictures = creatures.draw(100, seed=1).tensor()
            layers = creatures.LAYERS
            yield "creatures", "creatures", record(creatures.network(), pictures, layers), layers
            return
        for name in options.networks:
            network = importlib.import_module(quality.NETWORKS[name])
            for folder, category in recorded.categories(options.data, options.categories):
                activations, _ = recorded.crops(
                    folder, network, network.LAYERS, cache=options.cache
                )
                yield name, category, activations, network.LAYERS

    rows: list[Row] = []
    for network_name, category, activations, layers in scenes():
        start = time.perf_counter()
        wanted = options.layers or layers[1:]
        where = {"network": network_name, "category": category, "seed": options.seed}
        counts = SMALL if options.small else COUNTS
        rows += [where | row for row in rows_of(activations, wanted, counts, options)]
        if options.json:
            content = {"hold out": options.hold_out, "rows": rows}
            setting.write(options.json, content)
        seconds = time.perf_counter() - start
        print(f"{network_name}, {category}: {seconds:.0f} s", file=sys.stderr, flush=True)
    print(markdown(rows))
    if options.small:
        found = np.mean([row.get("sums both", 0.0) for row in rows if row["method"] == "nodes"])
        if found < LEAST_SUMS:
            raise SystemExit(f"sums both: {found:.2f}, expected at least {LEAST_SUMS}")
    return rows


if __name__ == "__main__":
    main()
