"""Whether edges say something: between nodes of which planted parts of creatures they are.

    python benchmarks/creature_edges.py --json creature_edges.json

Creatures are mined, and found again in the same pictures. Nodes are linked once from that parse by
`mining.linking` alone ("linked"), whatever mining does with it; the graph's own edges stand
beside ("in the graph"). Rows are means over seeds:

================  ==================================================================================
together          of the edges between nodes that belong to a planted part
                  (`node_parts`), the share that joins the same part or two that touch
attached          the same, but only parts that are drawn onto one another touch
same              the same, for the same part alone
chance            what the row above would be if each of these edges' children had any node of a
                  planted part of its parent's layer for its parent
exchanged         of all edges, the share with a node of an exchanged filter, if every second
                  filter's maps are exchanged among the pictures before mining; "nodes" and "pairs"
                  say how many of these there are
parents           median number of a node's parents, of nodes that have a layer above
none              share of these nodes that have no parent
consistency       median
edges             how many
================  ==================================================================================

Parts *touch* if one is drawn onto the other (`creatures.RELATIONS`, the skeleton's tree: an eye
lies on the head, a wing is hung on the chest), or if their places are at most an eighth of the
picture's side (14 px of 112) apart in the median picture that shows both: with the shapes' radii
of 4 to 9 px their outlines meet then. Those are the eye, the horn, the ear and the snout among
each other, apart from snouts with ears and with horns.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import setting
from explgraph import creatures
from explgraph.activations.memory import Activations
from explgraph.activations.recording import record
from explgraph.activations.streaming import Images
from explgraph.evaluation import controls
from explgraph.evaluation.landmarks import from_creatures
from explgraph.evaluation.planted import node_parts
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.mining.linking import link
from explgraph.mining.mining import mine_activations
from explgraph.mining.tracks import Tracks, track
from explgraph.parsed import Parse
from explgraph.parsing import parse_activations

NEAR = 1 / 8
"""Of the picture's side: parts whose places are usually no further apart touch."""
PARENTS = 5
Pairs = NDArray[np.int64]


def column(graph: ExplanatoryGraph, name: str) -> NDArray[Any]:
    """Give an attribute of all nodes, in the graph's order."""
    return np.array([values[name] for values in graph.nx.nodes.values()])


def linked(graph: ExplanatoryGraph, found: Parse, seed: int) -> tuple[Pairs, NDArray[Any]]:
    """Link nodes to those of the layer above.

    Returns
    -------
    pairs : (E, 2) int
        Child and parent.
    consistency : (E,)
    """
    images = Images(len(found.names))
    layer = column(graph, "layer_index")
    there = [np.flatnonzero(layer == index) for index in np.unique(layer)]

    def tracks(nodes: NDArray[np.int64]) -> Tracks:
        arrays = (found.positions, found.scores, found.expected)
        tensors = [torch.from_numpy(np.ascontiguousarray(a[:, nodes])) for a in arrays]
        at, score, expected = tensors
        return track(images, ((at[here], score[here], expected[here]) for here in images))

    pairs, consistency = [], []
    area = float(np.prod(found.image_size))
    for lower, upper in pairwise(there):
        edges = link(images, tracks(lower), tracks(upper), PARENTS, area=area, seed=seed)
        pairs.append(np.stack([lower[edges.child], upper[edges.parent]], 1))
        consistency.append(edges.consistency.numpy())
    return np.concatenate(pairs), np.concatenate(consistency)


def in_graph(graph: ExplanatoryGraph) -> tuple[Pairs, NDArray[Any]]:
    """Give the graph's own edges as `linked` does."""
    number = {node: i for i, node in enumerate(graph.nx)}
    edges = list(graph.nx.edges(data="consistency"))
    pairs = np.array([(number[child], number[parent]) for parent, child, _ in edges], np.int64)
    return pairs.reshape(-1, 2), np.array([value for *_, value in edges])


def touching(parts: Mapping[str, NDArray[Any]], near: float) -> set[frozenset[str]]:
    """Find which parts touch, each one itself included.

    Parameters
    ----------
    parts : mapping of str to (N, 2)
        Places of all parts, px, NaN where absent.
    near : float
        px; 0 for parts alone that are drawn onto each other.
    """
    pairs = {frozenset(pair) for pair in creatures.RELATIONS.items()}
    for one, place in parts.items():
        for other, there in parts.items():
            distance = np.linalg.norm(place - there, axis=1)
            if one == other or np.nanmedian(distance) <= near:
                pairs.add(frozenset((one, other)))
    return pairs


def share_together(
    pairs: Pairs, part: list[str | None], layer: NDArray[Any], together: set[frozenset[str]]
) -> tuple[float, float]:
    """Share of edges that join parts that belong together, and what it would be by chance.

    Parameters
    ----------
    pairs : (E, 2) int
        Child and parent.
    part, layer : (V,)
        Of the nodes.
    together : set of frozenset of str

    Returns
    -------
    share, chance : float
        Of the edges between nodes that belong to parts; NaN if there are none.
    """
    known = [(v, u) for v, u in pairs.tolist() if part[v] and part[u]]
    if not known:
        return float("nan"), float("nan")
    names = np.array([name or "" for name in part])
    hits, chances = [], []
    for v, u in known:
        others = names[(layer == layer[u]) & (names != "")]
        fits = {
            name for name in set(others.tolist()) if frozenset((names[v].item(), name)) in together
        }
        hits.append(names[u] in fits)
        chances.append(np.isin(others, list(fits)).mean())
    return float(np.mean(hits)), float(np.mean(chances))


def figures(
    graph: ExplanatoryGraph,
    found: Parse,
    drawn: creatures.Creatures,
    edges: tuple[Pairs, NDArray[Any]],
) -> dict[str, float]:
    """Measure edges between nodes of creatures that are as they were drawn."""
    pairs, consistency = edges
    layer = column(graph, "layer_index")
    parts = from_creatures(drawn).parts
    part = node_parts(found.positions, parts)
    side = found.image_size[0]
    told: dict[str, float] = {}
    for name, together in {
        "together": touching(parts, NEAR * side),
        "attached": touching(parts, 0),
        "same": {frozenset((name,)) for name in parts},
    }.items():
        told[name], told[f"{name}, chance"] = share_together(pairs, part, layer, together)
    count = np.bincount(pairs[:, 0], minlength=len(layer))[layer < layer.max()]
    return told | {
        "parents": float(np.median(count)),
        "none": float((count == 0).mean()),
        "consistency": float(np.median(consistency)) if len(pairs) else float("nan"),
        "edges": float(len(pairs)),
    }


def exchanged_figures(graph: ExplanatoryGraph, pairs: Pairs) -> dict[str, float]:
    """Measure edges where every second filter's maps were exchanged."""
    decoy = column(graph, "filter") % 2 == 1
    layer = column(graph, "layer_index")
    touched, possible = 0, 0
    for lower, upper in pairwise(np.unique(layer).tolist()):
        below, above = decoy[layer == lower], decoy[layer == upper]
        touched += int((below[:, None] | above).sum())
        possible += len(below) * len(above)
    return {
        "exchanged": float(decoy[pairs].any(1).mean()) if len(pairs) else 0.0,
        "exchanged, nodes": float(decoy.mean()),
        "exchanged, pairs": touched / max(possible, 1),
    }


def exchange(recorded: Activations, seed: int) -> Activations:
    """Exchange every second filter's maps among the pictures."""
    draws = np.random.default_rng(seed)
    maps = [
        torch.from_numpy(
            controls.permuted_filters(m.numpy(), np.arange(m.shape[1]) % 2 == 1, draws)
        )
        for m in recorded.maps
    ]
    return replace(recorded, maps=maps)


def measure(images: int, seed: int) -> list[dict[str, Any]]:
    """Rows of one draw of creatures: linked here, and in the graph."""
    drawn = creatures.draw(images, seed=2 * seed)
    recorded = record(creatures.network(), drawn.tensor(), creatures.LAYERS)
    rows: dict[str, dict[str, Any]] = {
        where: {"seed": seed, "where": where} for where in ("linked", "in the graph")
    }
    graph = mine_activations(recorded, seed=seed)
    found = parse_activations(graph, recorded)
    decoys = exchange(recorded, seed)
    other = mine_activations(decoys, seed=seed)
    refound = parse_activations(other, decoys)
    for where, (edges, among) in {
        "linked": (linked(graph, found, seed), linked(other, refound, seed)),
        "in the graph": (in_graph(graph), in_graph(other)),
    }.items():
        rows[where] |= figures(graph, found, drawn, edges) | exchanged_figures(other, among[0])
    return list(rows.values())


GOALS = {"together": ">= 0.8", "exchanged": "<= 0.05", "parents": "<= 5"}


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds."""
    where = list(dict.fromkeys(row["where"] for row in rows))
    names = [name for name in rows[0] if name not in ("seed", "where")]
    lines = ["| | " + " | ".join(where) + " | to reach |", "|---" * (len(where) + 2) + "|"]
    for name in names:
        cells = [f"{np.mean([r[name] for r in rows if r['where'] == w]):.3g}" for w in where]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {GOALS.get(name, '')} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--images", type=int, default=300, help="creatures to mine")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="100 creatures, one seed")
    options = parser.parse_args()
    setting.announce()
    if options.small:
        options.images, options.seeds = 100, 1
    rows = [row for seed in range(options.seeds) for row in measure(options.images, seed)]
    print(table(rows))
    if options.json:
        setting.write(options.json, rows)


if __name__ == "__main__":
    main()
