"""Parsing: where every node of a graph is in new images, and how strongly.

What finds nodes is `parser`, what is given is a `parsed.Parse`; on the mined images parsing gives
back what mining found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.activations.memory import Activations
from explgraph.errors import ExplgraphError, warn
from explgraph.graph.graph import G, Graph, check_graph
from explgraph.graph.several import pose_fit, warn_if_several_parsed
from explgraph.graph.weak_pose import warn_if_weak
from explgraph.images.batches import AnyImages, batches, count
from explgraph.images.folder import ImageFolder
from explgraph.images.taken import Photographs, taken
from explgraph.network.forward import (
    checked_device,
    fingerprint,
    of_size,
    on_device,
    stream,
    with_bar,
)
from explgraph.network.hooks import check_model, split_layer
from explgraph.object_rows import ObjectRows, check_objects, object_names, parse_batch
from explgraph.parsed import Parse, originals
from explgraph.parsed_parts import Pooling
from explgraph.parser import Looked, Parser
from explgraph.progress import Shown

__all__ = [
    "check_weights",
    "parse",
    "parse_activations",
    "parse_evidence",
    "stream_layers",
    "with_weights",
]


def parse(
    model: nn.Module,
    graph: Graph,
    images: AnyImages,
    *,
    objects: int = 1,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> Parse:
    """Find every node of a graph in images.

    Parameters
    ----------
    model : torch.nn.Module
        The network that was mined, in evaluation mode.
    graph : ExplanatoryGraph
    images : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
        Of the size that was mined.
    objects : int
        Look for so many in an image, at most: see `several_objects`.
    batch_size : int
    device : str
        Where the model runs and nodes are looked for; "auto" is the GPU if there is one.
    progress : bool or None
        Show a bar: by default in notebooks alone, if True on a terminal too.

    Returns
    -------
    Parse

    Raises
    ------
    ExplgraphError
        If the model lacks a layer or its shape differs, or the images have another size.

    Warns
    -----
    ExplgraphWarning
        If the weights are not those that were mined, the poses of the mined images told little, or
        one pose does not hold in many of these images.
    """
    check_graph(graph)
    check_objects(objects)
    images = taken(images, graph.nx.graph["preprocessing"])
    if objects > 1:
        return _parse_objects(model, graph, images, objects, batch_size, device, progress)
    parser = Parser(graph, checked_device(device))
    warn_if_weak(graph.nx.graph["config"])
    names: list[str] = []
    parts: list[Looked] = []
    for here, maps in stream_layers(
        model, graph, images, batch_size=batch_size, device=device, progress=progress
    ):
        names.extend(here)
        parts.append(parser({layer.index: maps[layer.name] for layer in graph.layers}))
    original = images.to_original if isinstance(images, (ImageFolder, Photographs)) else None
    found = _parse(graph, tuple(names), parts, original)
    warn_if_several_parsed(found.pose_fit, graph.nx.graph["config"])
    return found


def _parse_objects(
    model: nn.Module,
    graph: Graph,
    images: AnyImages,
    objects: int,
    batch_size: int,
    device: str,
    progress: Shown,
) -> Parse:
    """Find every node of several objects in images."""
    check_model(model)
    check_weights(graph, fingerprint(model))
    warn_if_weak(graph.nx.graph["config"])
    parser = Parser(graph, checked_device(device))
    names: list[str] = []
    image_names: list[str] = []
    found: list[ObjectRows] = []
    with on_device(model, device):
        source = of_size(batches(images, batch_size), graph.image_size)
        for here, batch in with_bar(source, count(images), progress, "parsing"):
            for image, rows in zip(
                here, parse_batch(parser, model, graph.layers, batch, objects), strict=True
            ):
                names += object_names(image, len(rows.frames))
                image_names += [image] * len(rows.frames)
                found.append(rows)
    original = None
    if isinstance(images, (ImageFolder, Photographs)):
        original = originals(images, tuple(image_names))
    parsed = _parse(graph, tuple(names), [rows.looked for rows in found], original)
    return replace(
        parsed,
        frames=torch.cat([rows.frames for rows in found]).numpy(),
        _image_names=tuple(image_names),
    )


def stream_layers(
    model: nn.Module,
    graph: Graph,
    images: AnyImages,
    *,
    batch_size: int,
    device: str,
    progress: Shown,
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Go through the rectified maps of a graph's layers, as they were measured when it was mined.

    Parameters are those of `parse`; what is given is that of `forward.stream`. Other weights than
    the mined ones are warned of.
    """
    check_model(model)
    check_weights(graph, fingerprint(model))
    return stream(
        model,
        images,
        graph.layers,
        image_size=graph.image_size,
        batch_size=batch_size,
        device=device,
        progress=progress,
    )


def check_weights(graph: Graph, fingerprint: str) -> None:
    """Warn of other weights than those that were mined, if both are known."""
    mined = graph.nx.graph["model_fingerprint"]
    if "" not in (mined, fingerprint) and mined != fingerprint:
        warn(
            "the model's weights are not those that the graph was mined with; "
            "nodes may sit elsewhere"
        )


def with_weights(graph: G, model: nn.Module) -> G:
    """Take a model for the one that was mined: see `ExplanatoryGraph.with_weights`."""
    if not isinstance(model, nn.Module):
        raise ExplgraphError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    for layer in graph.layers:
        split_layer(model, layer.name)
    now = fingerprint(model)
    if graph.nx.graph["model_fingerprint"] in ("", now):
        return graph
    trained = graph.restricted(graph.node_ids)
    trained.nx.graph["model_fingerprint"] = now
    return trained


def parse_activations(graph: Graph, activations: Activations) -> Parse:
    """Find every node of a graph in images whose activations were recorded.

    Parameters
    ----------
    graph : ExplanatoryGraph
    activations : Activations
        In memory, of the layers that were mined.

    Returns
    -------
    Parse

    Raises
    ------
    ExplgraphError
        If the layers or the images' size aren't those that were mined.
    """
    check_graph(graph)
    if [layer.as_dict() for layer in activations.layers] != graph.nx.graph["layers"]:
        raise ExplgraphError("activations are of other layers than the graph's")
    if tuple(activations.image_size) != graph.image_size:
        raise ExplgraphError(
            "activations are of images of {} x {} px, but the graph was mined with {} x {}".format(
                *activations.image_size, *graph.image_size
            )
        )
    check_weights(graph, activations.model_fingerprint)
    return parse_evidence(graph, activations, activations)


def parse_evidence(graph: Graph, activations: Activations, evidence: Activations) -> Parse:
    """Look for nodes in other maps than those that tell the pose, image by image."""
    parser = Parser(graph)
    parts = [
        parser(blocks, shown)
        for blocks, shown in zip(_lockstep(activations), _lockstep(evidence), strict=True)
    ]
    return _parse(graph, activations.names, parts, None)


def _lockstep(activations: Activations, size: int = 64) -> Iterator[dict[int, Tensor]]:
    """Go through all layers' maps in the same blocks of images."""
    indices = [layer.index for layer in activations.layers]
    for blocks in zip(*(activations.blocks(i, size) for i in indices), strict=True):
        yield {i: block for i, (_, block) in zip(indices, blocks, strict=True)}


def _parse(
    graph: Graph,
    names: tuple[str, ...],
    parts: list[Looked],
    to_original: Callable[[int, NDArray[Any]], NDArray[Any]] | None,
) -> Parse:
    """Put the batches together."""
    positions, expected, scores, fit = (torch.cat(p).numpy() for p in zip(*parts, strict=True))
    return Parse(
        graph.node_ids,
        names,
        positions,
        expected,
        scores,
        graph.image_size,
        to_original,
        Pooling.of(graph),
        pose_fit(fit, graph.nx.graph["config"]),
    )
