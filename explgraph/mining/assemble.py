"""From what was found in every layer to the graph: nodes, the images that show them best, edges."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import Any, NamedTuple

import networkx
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explgraph.activations.streaming import Images, Source
from explgraph.errors import ExplgraphError
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.schema import FORMAT_VERSION
from explgraph.mining.linking import link
from explgraph.mining.settings import Settings
from explgraph.mining.tracks import Tracks
from explgraph.network.geometry import Layer
from explgraph.statistics.fitted import Fitted, FittedLayer
from explgraph.statistics.grouping import (
    correlations,
    group,
    halved,
    presence_curve,
    trajectory_points,
    typicality,
)

__all__ = ["NOTHING", "MinedLayer", "assemble", "versions"]

NOTHING = (
    "no filter of the layers fires at varying places in these images; "
    "check the layers, the weights and the normalisation (mean, std)"
)


class MinedLayer(NamedTuple):
    """A mined layer.

    Attributes
    ----------
    layer : Layer
    fitted : FittedLayer
    found : Tracks
        The patterns in the mined images.
    energy, support, gain, reliability, follows : (V,)
    kept : (V,) bool
        Which patterns become nodes.
    following : float
        How far filters that fire follow the pose, nats per unit of activation, on average.
    """

    layer: Layer
    fitted: FittedLayer
    found: Tracks
    energy: Tensor
    support: Tensor
    gain: Tensor
    reliability: Tensor
    follows: Tensor
    kept: Tensor
    following: float


def assemble(
    images: Images,
    activations: Source,
    mined: Sequence[MinedLayer],
    fitted: Fitted,
    sample: Tensor,
    settings: Settings,
    seed: int,
    preprocessing: dict[str, Any],
    *,
    told: Mapping[str, Any],
) -> ExplanatoryGraph:
    """Put nodes and edges into a networkx graph, and the parameters beside it.

    What mining tells of the images in numbers (`told`) goes into the graph's ``config``.
    """
    graph = networkx.DiGraph(
        format_version=FORMAT_VERSION,
        image_size=list(activations.image_size),
        layers=[layer.as_dict() for layer in activations.layers],
        n_images=images.n,
        config=asdict(settings)
        | {"following": {m.layer.name: m.following for m in mined}}
        | dict(told),
        seed=seed,
        versions=versions(),
        model_fingerprint=activations.model_fingerprint,
        preprocessing=preprocessing,
    )
    top_images: dict[str, list[list[Any]]] = {}
    ids: dict[int, dict[int, str]] = {}
    for layer in mined:
        ids[layer.layer.index] = _add_nodes(graph, images, layer, activations, top_images)
    for upper, lower in pairwise(m for m in mined if ids[m.layer.index]):
        _add_edges(graph, images, upper, lower, ids, settings, seed)
    if not graph:
        raise ExplgraphError(NOTHING)
    _add_parts(graph, images, mined, ids, fitted, sample)
    return ExplanatoryGraph(graph, fitted.pack(), top_images)


def _add_parts(
    graph: networkx.DiGraph,
    images: Images,
    mined: Sequence[MinedLayer],
    ids: Mapping[int, Mapping[int, str]],
    fitted: Fitted,
    sample: Tensor,
) -> None:
    """Group the nodes into parts, and measure in which of the sampled images parts show."""
    mean, loading, filters, reliability, scores = [], [], [], [], []
    first = 0
    for layer in mined:
        k = layer.fitted.sigma.shape[1]
        nodes = torch.tensor(list(ids[layer.layer.index]), dtype=torch.int64).to(layer.gain.device)
        mean.append(layer.fitted.mean.flatten(0, 1)[nodes])
        loading.append(layer.fitted.loading.flatten(0, 1)[nodes])
        filters.append(first + nodes // k)
        first += layer.layer.channels
        reliability.append(layer.reliability[nodes])
        scores.append(images.rows(layer.found.table, sample)[:, nodes, 2])
    side = math.sqrt(math.prod(graph.graph["image_size"]))
    points = trajectory_points(
        _array(torch.cat(mean)), _array(torch.cat(loading)), _array(fitted.reader.exemplars)
    )
    weight, presence = _array(torch.cat(reliability)), _array(torch.cat(scores, 1))
    follows = np.array([values["follows"] for values in graph.nodes.values()])
    groups = group(points, weight, follows, halved(torch.cat(filters).cpu().numpy()), side)
    near = typicality(points, groups.centre[groups.part], side) if len(groups.centre) else weight
    names = [f"p{number + 1}" for number in range(len(groups.centre))]
    for node, part, much in zip(graph, groups.part.tolist(), near.tolist(), strict=True):
        there = part >= 0
        graph.nodes[node].update(
            part=names[part] if there else "", part_weight=much if there else 0.0
        )
    shown = np.empty((len(presence), len(names)))
    graph.graph["parts"] = []
    for number, name in enumerate(names):
        mine = groups.part == number
        score = presence[:, mine] @ (weight * near)[mine] / (weight * near)[mine].sum()
        offset, slope = presence_curve(score)
        shown[:, number] = 1 / (1 + np.exp(-(offset + slope * score)))
        graph.graph["parts"].append(
            {
                "id": name,
                "name": "",
                "reliability": float(groups.agreement[number]),
                "support": float((shown[:, number] >= 0.5).mean()),
                "offset": offset,
                "slope": slope,
                "together": {},
                "rejected": [],
                "decided": False,
            }
        )
    together = correlations(shown)
    for number, record in enumerate(graph.graph["parts"]):
        record["together"] = {
            other: float(together[number, k]) for k, other in enumerate(names) if k != number
        }


def _array(values: Tensor) -> NDArray[np.float64]:
    """Take a tensor to numpy, in float64."""
    return values.detach().cpu().double().numpy()


def versions() -> dict[str, str]:
    """Versions of what made the graph."""
    versions = {"python": platform.python_version()}
    for package in ("explgraph", "torch", "numpy", "networkx"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # run from a folder that was never installed
            versions[package] = "unknown"
    return versions


_TOP_IMAGES = 16


def _add_nodes(
    graph: networkx.DiGraph,
    images: Images,
    mined: MinedLayer,
    activations: Source,
    top_images: dict[str, list[list[Any]]],
) -> dict[int, str]:
    """Add a layer's kept patterns as nodes, the most reliable first; give their ids."""
    layer = mined.layer
    k = mined.fitted.sigma.shape[1]
    nodes = mined.kept.nonzero()[:, 0]
    nodes = nodes[mined.gain[nodes].argsort(descending=True, stable=True)]
    nodes = nodes[mined.reliability[nodes].argsort(descending=True, stable=True)]
    mean = mined.fitted.mean.flatten(0, 1)
    sigma = mined.fitted.sigma.flatten()
    height, width = activations.image_size
    best = _best_images(images, mined.found, nodes)
    ids: dict[int, str] = {}
    for v, shown in zip(nodes.tolist(), best, strict=True):
        name = f"{layer.name}/{layer.filter_name(v // k)}/{v % k}"
        ids[v] = name
        graph.add_node(
            name,
            layer=layer.name,
            layer_index=layer.index,
            filter=v // k,
            pattern=v % k,
            x=min(max(mean[v, 0].item(), 0.0), float(width)),
            y=min(max(mean[v, 1].item(), 0.0), float(height)),
            sigma=sigma[v].item(),
            support=mined.support[v].item(),
            energy=min(mined.energy[v].item(), 1.0),
            reliability=mined.reliability[v].item(),
            follows=mined.follows[v].item(),
            receptive_field=float(max(layer.receptive_field)),
            label="",
        )
        top_images[name] = [[activations.names[int(n)], *rest] for n, *rest in shown if rest[-1]]
    return ids


def _best_images(images: Images, found: Tracks, nodes: Tensor) -> list[list[list[float]]]:
    """Find where each node scores highest: number of the image, x, y, score; best first."""

    def rows(here: slice) -> tuple[Tensor, Tensor]:
        rows = found.table.read(here, nodes)[..., :3].transpose(0, 1).double()
        number = torch.arange(here.start, here.stop, device=rows.device).expand(len(nodes), -1)
        return rows[..., 2], torch.cat([number[..., None], rows], -1)

    best: list[list[list[float]]]
    best = images.largest(_TOP_IMAGES, (rows(here) for here in images))[1].tolist()
    return best


def _add_edges(
    graph: networkx.DiGraph,
    images: Images,
    upper: MinedLayer,
    lower: MinedLayer,
    ids: dict[int, dict[int, str]],
    settings: Settings,
    seed: int,
) -> None:
    """Link a layer's nodes to those nodes above that they fire with and sit at."""
    parents, children = (
        torch.tensor(list(ids[m.layer.index]), dtype=torch.int64, device=m.reliability.device)
        for m in (upper, lower)
    )
    edges = link(
        images,
        lower.found.only(images, children),
        upper.found.only(images, parents),
        settings.n_parents,
        area=float(graph.graph["image_size"][0] * graph.graph["image_size"][1]),
        seed=seed + lower.layer.index,
    )
    names = [
        [ids[m.layer.index][v] for v in nodes.tolist()]
        for m, nodes in ((upper, parents), (lower, children))
    ]
    values = {name: column.tolist() for name, column in edges._asdict().items()}
    for i, (u, v) in enumerate(zip(values.pop("parent"), values.pop("child"), strict=True)):
        graph.add_edge(
            names[0][u], names[1][v], **{name: column[i] for name, column in values.items()}
        )
