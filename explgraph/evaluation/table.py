"""The measures of `metrics` for a graph, with the baselines beside it.

For every marked part and every layer of the graph a row each for

* points that never move (the bar that any method must clear) and the layer's raw peaks;
* the graph's nodes, all of them and the best quarter by reliability;
* two controls that unmask echoes, on the best quarter: the layer's maps taken from other images
  while the pose's predictions stay, and the places that the pose predicts alone.

Mine on some photographs and evaluate on others, if you can: `evaluate` doesn't know which were
mined.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from explgraph import rows as files
from explgraph.activations.memory import Activations
from explgraph.atomic import atomic_write
from explgraph.errors import ExplgraphError, nearest
from explgraph.evaluation import controls, metrics
from explgraph.evaluation.baselines import constant_grid, raw_peaks
from explgraph.evaluation.landmarks import Landmarks
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.graph import check_graph
from explgraph.graph.weak_pose import warn_if_weak
from explgraph.images.folder import ImageFolder
from explgraph.images.taken import taken
from explgraph.network.hooks import check_model
from explgraph.parsing import parse_activations, parse_evidence, stream_layers
from explgraph.progress import Shown, bar
from explgraph.suffixes import REPORTS, check_suffix

__all__ = ["COLUMNS", "evaluate", "markdown", "read", "write"]

Row = dict[str, Any]

COLUMNS = (
    "nodes", "instability", "tracking", "1-shot", "3-shot", "10-shot", "50-shot",
)  # fmt: skip
"""What `markdown` shows of a row."""


def evaluate(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: ImageFolder,
    landmarks: Landmarks,
    *,
    parts: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> list[Row]:
    """Measure how well a graph's nodes follow marked parts, beside the baselines.

    Parameters
    ----------
    model : torch.nn.Module
        The network that was mined, in evaluation mode.
    graph : ExplanatoryGraph
    images : ImageFolder
        At least two photographs; at best others than those that were mined.
    landmarks : Landmarks
        In pixels of the image files (`explgraph.evaluation.landmarks.read_landmarks`).
    parts : sequence of str, optional
        Which parts; all by default.
    seed : int
        Of splits, draws and shuffles.
    batch_size : int
    device : str
        Where the model runs.
    progress : bool or None
        Show bars: by default in notebooks alone, if True on a terminal too.

    Returns
    -------
    list of dict
        ``part``, ``layer`` (None for the grid, "all layers" for nodes of all), ``method``, and
        the measures of `explgraph.evaluation.metrics.table_row`.

    Raises
    ------
    ExplgraphError
        As parsing does, and if a part isn't in the landmarks or none of the images is marked.
    """
    check_graph(graph)
    check_model(model)
    wanted = list(parts or landmarks.parts)
    for part in wanted:
        if part not in landmarks.parts:
            raise ExplgraphError(
                f"the landmarks have no part {part!r}{nearest(part, landmarks.parts)}; there are "
                f"{', '.join(landmarks.parts)}"
            )
    folder = taken(images, graph.nx.graph["preprocessing"])
    if not isinstance(folder, ImageFolder):
        raise ExplgraphError(
            f"images must be an ImageFolder or a folder's path, got {type(images).__name__}"
        )
    images = folder
    marked = landmarks.to_network(images)
    height, width = graph.image_size
    with np.errstate(invalid="ignore"):
        seen = [
            ((marked.parts[part] >= 0) & (marked.parts[part] <= [width, height])).all(1).sum()
            for part in wanted
        ]
    if max(seen) < 2 <= len(images):
        raise ExplgraphError(
            f"{max(seen)} of the {len(images)} images are marked with {', '.join(wanted)} inside "
            "the image, at least two must be; check that the landmarks are of these images"
        )
    warn_if_weak(graph.nx.graph["config"])
    activations = _activations(model, graph, images, batch_size, device, progress)
    methods = _methods(graph, activations, seed)
    rows: list[Row] = []
    total = 2 + 5 * len(graph.layers)
    told = bar(methods, shown=progress, total=total, desc="measuring", unit="method")
    for layer, method, positions, scores in told:
        for part in wanted:
            table = metrics.table_row(
                positions, scores, marked.parts[part], graph.image_size, seed=seed
            )
            rows.append({"part": part, "layer": layer, "method": method, **table})
    return rows


def _activations(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: ImageFolder,
    batch_size: int,
    device: str,
    progress: Shown,
) -> Activations:
    """Record the graph's layers as they were measured when it was mined."""
    if images.size != graph.image_size:
        raise ExplgraphError(
            f"the images are {images.size[0]} x {images.size[1]} px (H x W), the graph was mined "
            f"on {graph.image_size[0]} x {graph.image_size[1]}; use the same size"
        )
    names: list[str] = []
    pieces: dict[str, list[torch.Tensor]] = {layer.name: [] for layer in graph.layers}
    for here, caught in stream_layers(
        model, graph, images, batch_size=batch_size, device=device, progress=progress
    ):
        names.extend(here)
        for name, block in caught.items():
            pieces[name].append(block)
    maps = [torch.cat(pieces[layer.name]) for layer in graph.layers]
    # other weights were warned of already
    return Activations(graph.layers, tuple(names), graph.image_size, maps, "")


def _methods(
    graph: ExplanatoryGraph, activations: Activations, seed: int
) -> Iterator[tuple[str | None, str, Any, Any]]:
    """Give layer, method, positions (N, V, 2) and scores (N, V), one method after the other."""
    size = graph.image_size
    yield (
        None,
        "points that never move",
        *constant_grid(activations.n_images, size, seed=seed),
    )
    parse = parse_activations(graph, activations)
    reliability = np.array([values["reliability"] for values in graph.nx.nodes.values()])
    index = np.array([values["layer_index"] for values in graph.nx.nodes.values()], dtype=np.int64)
    together = []
    for layer in reversed(graph.layers):
        maps = activations.maps[layer.index]
        yield (layer.name, "raw peaks", *raw_peaks(maps.numpy(), layer))
        nodes = np.flatnonzero(index == layer.index)
        yield layer.name, "nodes, all", parse.positions[:, nodes], parse.scores[:, nodes]
        best = nodes[controls.best(reliability[nodes], 0.25)] if len(nodes) else nodes
        together.append(best)
        yield layer.name, "nodes, best quarter", parse.positions[:, best], parse.scores[:, best]
        order = controls.derangement(activations.n_images, np.random.default_rng([seed, 0]))
        others = list(activations.maps)
        others[layer.index] = maps[torch.from_numpy(order)]
        shuffled = parse_evidence(
            graph, activations, Activations(activations.layers, activations.names, size, others)
        )
        yield (
            layer.name,
            "best quarter, evidence shuffled",
            shuffled.positions[:, best],
            shuffled.scores[:, best],
        )
        yield (
            layer.name,
            "best quarter, pose's prediction alone",
            parse.expected[:, best],
            parse.scores[:, best],
        )
    best = np.concatenate(together)
    yield "all layers", "nodes, best quarter", parse.positions[:, best], parse.scores[:, best]


def write(rows: Sequence[Row], path: str | os.PathLike[str]) -> None:
    """Write rows of `evaluate` in the format of the path's suffix, whole or not at all.

    Parameters
    ----------
    rows : sequence of dict
    path : path
        ``.md`` (as `markdown`, means over the parts), or ``.csv``, ``.json`` or ``.parquet``
        (every row).

    Raises
    ------
    ExplgraphError
        If the suffix isn't known, the file can't be written, or it is a .parquet and pandas and
        pyarrow aren't there.
    """
    if check_suffix(path, REPORTS) != ".md":
        files.write(path, files.columns_of(rows))
        return
    with atomic_write(path) as temporary:
        temporary.write_text(markdown(rows) + "\n", encoding="utf-8", errors="backslashreplace")


def read(path: str | os.PathLike[str]) -> list[Row]:
    """Read what `write` wrote as ``.csv``, ``.json`` or ``.parquet``.

    Raises
    ------
    ExplgraphError
        If the file can't be read or isn't such a table.
    """
    kinds: dict[str, type] = {"part": str, "layer": str, "method": str}
    kinds |= dict.fromkeys(metrics.MEASURES, float)
    table = files.read(path, kinds, gaps=("layer", *metrics.MEASURES))
    columns = [column.tolist() for column in table.values()]
    return [dict(zip(table, row, strict=True)) for row in zip(*columns, strict=True)]


def markdown(rows: Sequence[Row]) -> str:
    """Give rows of `evaluate` as a Markdown table: means over the parts.

    Errors are shares of the image's diagonal. A measure that couldn't be taken for any part (too
    few marked images) is left empty.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["layer"] or "", row["method"]), []).append(row)
    lines = [
        f"| layer | method | {' | '.join(COLUMNS)} |",
        "|---|---" + "|---:" * len(COLUMNS) + "|",
    ]
    for (layer, method), group in groups.items():
        cells = []
        for column in COLUMNS:
            values = [row[column] for row in group if np.isfinite(row[column])]
            digits = 0 if column == "nodes" else 3
            cells.append(f"{np.mean(values):.{digits}f}" if values else "")
        lines.append(f"| {layer} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)
