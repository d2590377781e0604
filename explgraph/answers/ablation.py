"""Taking nodes away in truth, and what becomes of each class's score.

What a node holds of its filter's map, in an image, is found with the network whole
(`attribution.Places`). That is replaced, by nothing or by what other images have there
(`replaced`), and the network goes on, from the lowest layer that changes (`rerun`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph import rows
from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError
from explgraph.explaining.attribution import Places
from explgraph.explaining.by_part import different_titles, find_parts, nodes_named
from explgraph.explaining.intervene import watched
from explgraph.explaining.replaced import Replacement, StandIns, taken_away
from explgraph.explaining.rerun import Rerun
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.graph import check_graph
from explgraph.images.batches import AnyImages
from explgraph.images.taken import taken
from explgraph.network.hooks import alone
from explgraph.network.outputs import Outputs, Scorer
from explgraph.progress import Shown
from explgraph.whole_numbers import checked_seed

__all__ = ["Ablation", "PartAblation", "ablate", "ablate_parts", "lowest_layer"]


class Ablation(NamedTuple):
    """Class scores with all nodes, and without the chosen ones.

    Attributes
    ----------
    names : tuple of str
        Of the N images.
    before : (N, classes) float64
        What the whole model gives.
    after : (N, classes) float64
        What it gives without the nodes.
    """

    names: tuple[str, ...]
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    def __repr__(self) -> str:
        n, classes = self.before.shape
        return (
            f"Ablation: {counted(n, 'image')}, {counted(classes, 'class')}; "
            f"{_most_changed(self.change.mean(0))}"
        )

    @property
    def change(self) -> NDArray[np.float64]:
        """By how much each class's score changes, ``after - before``, (N, classes)."""
        return self.after - self.before

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a row for each image and class: ``.csv``, ``.json`` or ``.parquet``.

        Columns are ``image``, ``class`` (its number), ``before`` and ``after``.

        Raises
        ------
        ExplgraphError
            If the suffix isn't known, the file can't be written, or it is a .parquet and pandas
            and pyarrow aren't there.
        """
        classes = range(self.before.shape[1])
        values = {"before": self.before, "after": self.after}
        rows.write(path, rows.grid(("image", self.names), ("class", classes), values))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Ablation:
        """Read what `write` wrote.

        Raises
        ------
        ExplgraphError
            If the file can't be read or isn't such a table.
        """
        kinds = {"before": float, "after": float}
        names, classes, table = rows.read_grid(path, ("image", str), ("class", int), kinds)
        if classes != tuple(range(len(classes))):
            raise ExplgraphError(
                f"path {str(path)!r} holds the classes {classes[0]} to {classes[-1]}; expected 0, "
                "1, ... in this order; write it again"
            )
        return cls(names, table["before"], table["after"])


class PartAblation(NamedTuple):
    """Class scores with all nodes, and without each part by itself.

    Attributes
    ----------
    ids, titles : tuple of str
        Of the P parts.
    names : tuple of str
        Of the N images.
    before : (N, classes) float64
        What the whole model gives.
    after : (P, N, classes) float64
        What it gives without the part.
    """

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    names: tuple[str, ...]
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    def __repr__(self) -> str:
        if not self.ids:
            return "PartAblation: no parts"
        mean = self.change.mean(1)
        most = int(np.abs(mean).max(1).argmax())
        return (
            f"PartAblation: {counted(len(self.ids), 'part')}, "
            f"{counted(len(self.names), 'image')}; most without "
            f"{few([self.titles[most]])}: {_most_changed(mean[most])}"
        )

    @property
    def change(self) -> NDArray[np.float64]:
        """By how much each class's score changes, ``after - before``, (P, N, classes)."""
        return self.after - self.before

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a row for each part, image and class: ``.csv``, ``.json`` or ``.parquet``.

        Columns are ``part`` (its id), ``image``, ``class`` (its number), ``before`` and ``after``.

        Raises
        ------
        ExplgraphError
            As `Ablation.write`.
        """
        p, n, classes = self.after.shape
        part, image, number = np.indices((p, n, classes)).reshape(3, -1)
        columns = {
            "part": np.array(self.ids, dtype=object)[part],
            "image": np.array(self.names, dtype=object)[image],
            "class": number,
            "before": np.broadcast_to(self.before, self.after.shape).ravel(),
            "after": self.after.ravel(),
        }
        rows.write(path, columns)


def _most_changed(mean: NDArray[np.float64]) -> str:
    """Tell the class whose score changes most."""
    if not mean.size:
        return "no classes"
    most = int(np.abs(mean).argmax())
    return f"class {most} changes most, by {mean[most]:+.3g} on average"


def ablate(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    nodes: Iterable[str],
    *,
    replacement: Replacement = "zero",
    seed: int = 0,
    outputs: Outputs | None = None,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> Ablation:
    """Run a network without some of its nodes, or without whole parts.

    What each node answers for in its filter's map is found with the network whole; then that is
    taken away, and the network goes on with what is left.

    Parameters
    ----------
    model : torch.nn.Module
        The network that was mined, in evaluation mode.
    graph : ExplanatoryGraph
    images : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
        Of the size that was mined.
    nodes : iterable of str
        Ids of the graph's nodes; a part's id, name or title stands for all its nodes, in all
        layers.
    replacement : "zero", "mean" or "resampled"
        What stands in for what is taken away: no activation; the mean over `images`, unit by
        unit; what another one of `images` has there, chosen by `seed` and the image's content.
    seed : int
        Of "resampled".
    outputs : callable, optional
        Takes what the model gives, gives scores of (images, classes), where it gives anything
        else than these (`explgraph.network.outputs`).
    batch_size : int
    device : str
        Where the model runs.
    progress : bool or None
        Show a bar: by default in notebooks alone, if True on a terminal too.

    Returns
    -------
    Ablation
        Class scores before and after.

    Raises
    ------
    ExplgraphError
        If the graph lacks a node or part, the model isn't the one that was mined or is in training
        mode, or there isn't one score per class.
    """
    check_graph(graph)
    chosen = nodes_named(graph, nodes)
    if not chosen:
        raise ExplgraphError("nodes is empty; name at least one node or part of the graph")
    names, before, (after,) = _ablated(
        model, graph, images, [chosen],
        replacement=replacement, seed=seed, outputs=outputs, batch_size=batch_size, device=device,
        progress=progress,
    )  # fmt: skip
    return Ablation(names, before, after)


def ablate_parts(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    parts: str | Iterable[str] | None = None,
    *,
    replacement: Replacement = "zero",
    seed: int = 0,
    outputs: Outputs | None = None,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> PartAblation:
    """Run a network without each of some parts, one part at a time.

    Parameters
    ----------
    model, graph, images, replacement, seed, outputs, batch_size, device, progress
        As for `ablate`.
    parts : iterable of str, optional
        Ids, names or titles; by default all parts of the graph.

    Returns
    -------
    PartAblation
        Class scores before, and after all nodes of a part were taken away.

    Raises
    ------
    ExplgraphError
        As `ablate`, and if the graph has no parts.
    """
    check_graph(graph)
    chosen = find_parts(graph, parts)
    if not chosen:
        raise ExplgraphError("parts is empty; name at least one part of the graph")
    titles = different_titles(graph.parts)
    names, before, after = _ablated(
        model, graph, images, [part.nodes for part in chosen],
        replacement=replacement, seed=seed, outputs=outputs, batch_size=batch_size, device=device,
        progress=progress,
    )  # fmt: skip
    ids = tuple(part.id for part in chosen)
    return PartAblation(ids, tuple(titles[part] for part in ids), names, before, np.stack(after))


def _ablated(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    groups: Sequence[Sequence[str]],
    *,
    replacement: Replacement,
    seed: int,
    outputs: Outputs | None,
    batch_size: int,
    device: str,
    progress: Shown,
) -> tuple[tuple[str, ...], NDArray[np.float64], list[NDArray[np.float64]]]:
    """Give images' names, scores (N, classes), and those without each group of nodes."""
    places = Places(graph)
    scorer = Scorer(outputs)
    images = taken(images, graph.nx.graph["preprocessing"])
    inside = {graph.nx.nodes[node]["layer"] for nodes in groups for node in nodes}
    changed = [layer for layer in graph.layers if layer.name in inside]
    stand_ins = StandIns.of(
        replacement, model, graph, changed, images,
        scorer=scorer, seed=checked_seed(seed), batch_size=batch_size, device=device,
    )  # fmt: skip
    rerun = Rerun(model, graph.layers, (lowest_layer(graph, nodes) for nodes in groups), scorer)
    all_names: list[str] = []
    scores: list[list[Tensor]] = []
    source = watched(
        model, graph, images,
        scorer=scorer, batch_size=batch_size, device=device, progress=progress,
    )  # fmt: skip
    for names, batch in source:
        all_names.extend(names)
        with alone(model):  # other threads' runs would change what its modules keep to themselves
            whole = rerun.whole(batch)
            seen = places.seen(whole.maps)
            instead = {layer.name: stand_ins(layer.name, batch) for layer in changed}
            changes = [taken_away(graph, places, nodes, seen, instead) for nodes in groups]
            without = [rerun.changed(change).scores for change in changes]
        scores.append([whole.scores, *without])
    before, *after = (
        torch.cat(column).double().cpu().numpy() for column in zip(*scores, strict=True)
    )
    return tuple(all_names), before, after


def lowest_layer(graph: ExplanatoryGraph, nodes: Iterable[str]) -> str:
    """Give the lowest layer that some nodes are of."""
    lowest: int = min(graph.nx.nodes[node]["layer_index"] for node in nodes)
    return graph.layers[lowest].name
