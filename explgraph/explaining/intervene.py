"""Run a network with its feature maps watched or changed.

1. Forward hooks hand each layer's maps to a function that may change them, and put what it gives
   back into the module's output, in a copy: what later modules do in place harms nothing.
2. The whole forward pass runs, to the output. Parameters are frozen meanwhile, and the lowest
   layer's maps start the graph that gradients run through: what lies below costs no memory.
3. What of the model's output are scores of classes, `network.outputs.Scorer` tells.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from numbers import Integral
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from explgraph.brief import few
from explgraph.errors import ExplgraphError, warn
from explgraph.graph.graph import Graph
from explgraph.images.batches import AnyImages, batches, count
from explgraph.images.taken import taken
from explgraph.network.forward import fingerprint, of_size, on_device, with_bar
from explgraph.network.geometry import Layer
from explgraph.network.hooks import (
    called,
    check_model,
    hooked,
    model_device,
    model_dtype,
    split_layer,
    told_failure,
)
from explgraph.network.map_formats import only_grid, read_maps, write_maps
from explgraph.network.outputs import Scorer
from explgraph.network.wrappers import Around, bare
from explgraph.progress import Shown

__all__ = [
    "Change",
    "Run",
    "changing",
    "check_mined",
    "check_ran",
    "is_output",
    "mapped",
    "run",
    "watched",
    "with_gradients",
]

# scores are the same to this share of the largest: a GPU may add up in another order
_SAME = 1e-3
# a mask or a best box may differ by a pixel where values are nearly equal
_MIXED = 1e-2

F = TypeVar("F", bound=Callable[..., Any])
Change = Callable[[Tensor], Tensor]
"""Takes a layer's maps (n, C, H, W) as the module gave them, and gives those to go on with."""


class Run(NamedTuple):
    """One forward pass.

    Attributes
    ----------
    maps : dict of str to (n, C, H, W)
        What each layer's module gave, after the change; the output depends on these very tensors.
    scores : (n, classes)
        Of the model's output.
    """

    maps: dict[str, Tensor]
    scores: Tensor


def run(
    model: nn.Module,
    batch: Tensor,
    layers: Sequence[Layer],
    changes: Mapping[str, Change] | None = None,
    *,
    scorer: Scorer | None = None,
    gradients: bool = False,
    left_out: Mapping[str, int] | None = None,
) -> Run:
    """Run a model on a batch and keep, or change, some layers' maps.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    batch : (n, 3, H, W)
        On the model's device, of its type.
    layers : sequence of Layer
    changes : mapping of str to callable, optional
        By layer; see `Change`. It sees what the changes below have made of its layer.
    scorer : Scorer, optional
        Reads scores off the output; by default one that was told nothing.
    gradients : bool
        Keep the graph from the lowest of `layers` upwards.
    left_out : mapping of str to int, optional
        How many calls of a module won't happen, before those that are wanted: see `rerun`.

    Raises
    ------
    ExplgraphError
        If the forward pass fails, a layer doesn't run, or there isn't one score per class.
    """
    scorer = scorer or Scorer()
    try:
        with (
            changing(
                model, layers, changes or {}, len(batch), gradients=gradients, left_out=left_out
            ) as maps,
            _frozen(model),
            torch.inference_mode(False),
            torch.set_grad_enabled(gradients),
        ):
            output = called(model, batch)
            check_ran(layers, maps)
            scores = scorer(output, len(batch))
    except ExplgraphError:
        raise
    except torch.OutOfMemoryError:
        raise
    except Exception as err:
        raise ExplgraphError(
            f"the model fails on images of size {tuple(batch.shape[1:])}: {told_failure(err)}"
        ) from err
    if gradients and not scores.requires_grad:
        raise ExplgraphError(scorer.cut_off)
    return Run(maps, scores)


@contextmanager
def changing(
    model: nn.Module,
    layers: Sequence[Layer],
    changes: Mapping[str, Change],
    n: int,
    *,
    gradients: bool = False,
    left_out: Mapping[str, int] | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Watch and change some layers' maps while the model runs once, however it is called.

    Parameters
    ----------
    model, layers, changes, left_out
        As for `run`.
    n : int
        Number of images that it runs on.
    gradients : bool
        Let the graph that gradients run through begin at the lowest of `layers`, if it doesn't
        begin below.

    Yields
    ------
    dict of str to (n, C, H, W)
        Filled while the model runs; see `Run`.
    """
    wanted = {split_layer(model, layer.name): layer for layer in layers}
    calls = {name: (left_out or {}).get(name, 0) for name, _ in wanted}
    maps: dict[str, Tensor] = {}

    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            call = calls[name]
            calls[name] += 1
            layer = wanted.get((name, call)) or (wanted.get((name, None)) if not call else None)
            if layer is None:
                return None
            grid = layer.format
            given = only_grid(output, n, layer.name, grid.images_axis)
            here = read_maps(given, n, grid, layer.name)
            if layer.name in changes:
                here = changes[layer.name](here)
            if gradients and not torch.is_grad_enabled():
                raise ExplgraphError(
                    f"the model runs its layer {layer.name!r} under torch.no_grad (or "
                    "inference_mode), so that no gradient tells what follows from it; take that "
                    "out of its forward pass"
                )
            if gradients and not here.requires_grad:
                here = here.detach().requires_grad_()
            maps[layer.name] = here
            passed_on = given.clone()
            write_maps(passed_on, here, grid)
            return mapped(output, lambda tensor: passed_on if tensor is given else tensor)

        return hook

    with hooked(model, {name: hook_for(name) for name in calls}):
        yield maps


def check_ran(layers: Sequence[Layer], maps: Mapping[str, Tensor]) -> None:
    """Refuse a model some of whose layers didn't run."""
    if missing := [layer.name for layer in layers if layer.name not in maps]:
        raise ExplgraphError(
            f"layer {missing[0]!r} doesn't run in the model's forward pass, though the "
            "graph was mined from it; give the model that was mined"
        )


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Want no gradients of the parameters."""
    learning = [p for p in model.parameters() if p.requires_grad]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def is_output(number: object, n: int) -> bool:
    """Whether something is the number of one of a model's n outputs."""
    whole = isinstance(number, Integral) and not isinstance(number, bool)
    return whole and 0 <= int(cast(Integral, number)) < n


def with_gradients(function: F) -> F:
    """Let a function take gradients whatever mode its caller is in."""

    @wraps(function)
    def inside(*args: Any, **options: Any) -> Any:
        with torch.inference_mode(False), torch.enable_grad():
            return function(*args, **options)

    return cast(F, inside)


def mapped(output: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Put others in the place of all tensors in nested tuples, lists and mappings."""
    if isinstance(output, Tensor):
        return function(output)
    if isinstance(output, Mapping):
        changed: Any = copy.copy(output)
        changed.update({key: mapped(value, function) for key, value in output.items()})
        return changed
    if isinstance(output, (tuple, list)):
        values = [mapped(value, function) for value in output]
        return type(output)(*values) if hasattr(output, "_fields") else type(output)(values)
    return output


def watched(
    model: nn.Module,
    graph: Graph,
    images: AnyImages,
    *,
    scorer: Scorer,
    batch_size: int,
    device: str,
    progress: Shown = None,
) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Go through images in batches on the model's device, the model checked to be the graph's.

    Raises
    ------
    ExplgraphError
        If the model is in training mode or not the one that was mined, the graph has no nodes, or
        the images are of another size.

    Warns
    -----
    ExplgraphWarning
        If the model gives other scores when it runs again on the first image, or the function that
        reads scores gives others beside another image.
    """
    check_mined(model, graph)
    images = taken(images, graph.nx.graph["preprocessing"])
    inside = bare(model)
    with on_device(model, device), inside.asked() if isinstance(inside, Around) else nullcontext():
        home, dtype = model_device(model), model_dtype(model)
        source = of_size(batches(images, batch_size), graph.image_size)
        ready = ((names, batch.to(home, dtype)) for names, batch in source)
        for k, (names, batch) in enumerate(with_bar(ready, count(images), progress, "running")):
            if k == 0:
                _warn_of_doubtful_scores(model, batch[:2], scorer)
            yield names, batch


def check_mined(model: nn.Module, graph: Graph) -> None:
    """Refuse a model in training mode or another than the graph's, and a graph without nodes."""
    check_model(model)
    if not len(graph):
        raise ExplgraphError("the graph has no nodes; mine again, or prune less")
    for layer in graph.layers:  # where names differ, they say more than that weights do
        split_layer(model, layer.name)
    if graph.nx.graph["model_fingerprint"] not in ("", fingerprint(model)):
        raise ExplgraphError(
            "the model's weights are not those that the graph was mined with, so that its nodes "
            "tell nothing about this model; give the model that was mined, or mine this one"
            + _trained(model)
            + _precision(model)
        )


def _trained(model: nn.Module) -> str:
    """Say which graph to go on with where the mined network was trained further."""
    if isinstance(bare(model), Around):
        return " (the graph that a head looks with, trained as it is, is head.current_graph())"
    return " (trained further, it is taken for the mined one by graph.with_weights(model))"


def _precision(model: nn.Module) -> str:
    """Say what a cast of the weights does, if there may have been one."""
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()} - {torch.float32}
    if not kinds:
        return ""
    return (
        f" (its weights are {few(sorted(str(kind).removeprefix('torch.') for kind in kinds))}: "
        "rounded, they are others; for speed give the model as it was, under torch.autocast)"
    )


def _warn_of_doubtful_scores(model: nn.Module, images: Tensor, scorer: Scorer) -> None:
    """Warn if an image's scores are others again, or beside another image."""
    try:
        first, second = (run(model, images[:1], (), scorer=scorer).scores for _ in range(2))
        if len(images) == 1:  # beside a paler copy, if there is no other
            images = images.expand(2, -1, -1, -1) * images.new_tensor([[[[1.0]]], [[[0.5]]]])
        # the model's own way is its own: only what users make of it is tried
        both = run(model, images, (), scorer=scorer).scores if scorer.told else first
    except ExplgraphError:
        return  # whoever runs it next is told
    if float((both[:1] - first).abs().max()) > _MIXED * float(first.abs().max()):
        warn(
            "outputs gives the first image other scores when a second one is beside it, so that "
            "images are mixed and what is said of one hangs on others; compute each row from its "
            "own image (a softmax or mean over dimension 0?)"
        )
    if float((first - second).abs().max()) > _SAME * float(first.abs().max()):
        warn(
            "the model gives other scores each time for the same image, though it is in "
            "evaluation mode: what follows hangs on chance; take what is drawn at random out of "
            "its forward pass (noise, or F.dropout(x) without training=self.training)"
        )
