"""A network's last linear layer: which it is, what goes into it, and putting other weights there.

Networks that classify end with a linear layer of some features, and its outputs are what they give.
It is found by trying, not by name: the ``nn.Linear`` that ran last and gave the scores.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from explgraph.errors import ExplgraphError
from explgraph.images.batches import AnyImages, batches, count
from explgraph.network.forward import of_size, on_device, with_bar
from explgraph.network.hooks import called, hooked, model_device, model_dtype
from explgraph.network.outputs import Scorer
from explgraph.network.wrappers import modules_by_name
from explgraph.progress import Shown

__all__ = ["LastLayer", "features", "last_layer", "with_weights"]

_SAME = 1e-3  # of the largest score: arithmetic in another order, or in half precision


class LastLayer(NamedTuple):
    """The linear layer that gives a network's scores.

    Attributes
    ----------
    name : str
        Of its module.
    columns : tuple of int
        Which of its outputs is each score.
    """

    name: str
    columns: tuple[int, ...]


def last_layer(
    model: nn.Module, images: AnyImages, scorer: Scorer, *, device: str = "auto"
) -> LastLayer:
    """Find it, by running a few images.

    Raises
    ------
    ExplgraphError
        If there is none, or it isn't a plain one.
    """
    modules = modules_by_name(model)
    linear = {name: module for name, module in modules.items() if isinstance(module, nn.Linear)}
    calls: Counter[str] = Counter()
    ran: dict[str, tuple[Tensor, Tensor]] = {}

    def hook_for(name: str) -> Any:
        def hook(_module: nn.Module, inputs: Any, output: Any) -> None:
            calls[name] += 1
            ran.pop(name, None)  # the last to run is to stand last
            ran[name] = (inputs[0].detach(), output.detach())

        return hook

    with on_device(model, device), torch.no_grad():
        _, batch = next(batches(images, 8))
        batch = batch.to(model_device(model), model_dtype(model))
        with hooked(model, {name: hook_for(name) for name in linear}):
            scores = scorer(called(model, batch), len(batch))
    for name, (given, output) in reversed(ran.items()):
        columns = _columns(output, scores)
        if columns is None:
            continue
        if given.ndim != 2 or calls[name] > 1:
            continue
        if linear[name].bias is None:
            raise ExplgraphError(
                f"the model's last linear layer {name!r} has no bias, so that a threshold can't be "
                "set; give it one: nn.Linear(..., bias=True), of zeros"
            )
        return LastLayer(name, columns)
    shown = (
        f"; the last that ran is {next(reversed(ran))!r}, which gives "
        f"{tuple(next(reversed(ran.values()))[1].shape)}"
        if ran
        else ": no nn.Linear runs in it"
    )
    raise ExplgraphError(
        "the model has no last linear layer whose outputs its scores are"
        f"{shown}, while there are scores of the shape {tuple(scores.shape)}; if a softmax or the "
        "like comes after it, give the scores before that by outputs=; otherwise take the parts "
        "away in each pass: explgraph.without(model, graph, parts)"
    )


def _columns(output: Tensor, scores: Tensor) -> tuple[int, ...] | None:
    """Find each score among a layer's outputs (n, m); None if one isn't there."""
    if output.ndim != 2 or len(output) != len(scores):
        return None
    near = (output[:, None, :] - scores[:, :, None]).abs().amax(0)
    close = near <= _SAME * float(scores.abs().max())
    if not bool(close.any(1).all()):
        return None
    columns = tuple(near.argmin(1).tolist())
    return columns if len(set(columns)) == len(columns) else None


def features(
    model: nn.Module,
    images: AnyImages,
    last: LastLayer,
    *,
    image_size: tuple[int, int],
    scorer: Scorer,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """Give images' names, what goes into the last layer, (N, D), and scores, (N, classes)."""
    names: list[str] = []
    into: list[Tensor] = []
    scores: list[Tensor] = []

    def hook(_module: nn.Module, inputs: Any, _output: Any) -> None:
        into.append(inputs[0].detach().to("cpu", torch.float64))

    with on_device(model, device), torch.no_grad():
        source = of_size(batches(images, batch_size), image_size)
        home, dtype = model_device(model), model_dtype(model)
        for here, batch in with_bar(source, count(images), progress, "running"):
            with hooked(model, {last.name: hook}):
                given = called(model, batch.to(home, dtype))
            scores.append(scorer(given, len(batch)).detach().to("cpu", torch.float64))
            names.extend(here)
    return tuple(names), torch.cat(into), torch.cat(scores)


def with_weights(
    model: nn.Module, last: LastLayer, rows: dict[int, tuple[Tensor, Tensor]]
) -> nn.Module:
    """Give a copy of a model with other weights for some of its scores.

    Parameters
    ----------
    model : torch.nn.Module
    last : LastLayer
    rows : dict of int to ((D,), ())
        Of each score that changes, the weights and the bias.
    """
    changed = copy.deepcopy(model)
    layer = modules_by_name(changed)[last.name]
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        for score, (weight, bias) in rows.items():
            layer.weight[last.columns[score]] = weight.to(layer.weight)
            layer.bias[last.columns[score]] = bias.to(layer.bias)
    return changed
