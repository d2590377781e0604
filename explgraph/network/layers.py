"""Which layers of a network can be mined, and which are worth it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from explgraph.errors import ExplgraphError
from explgraph.images.folder import checked_size
from explgraph.network.hooks import bare, check_model, undisturbed
from explgraph.network.layout import measure_formats
from explgraph.network.map_formats import MapFormat

__all__ = ["LayerSummary", "list_layers", "suggest_layers"]


class LayerSummary(NamedTuple):
    """A layer that can be mined.

    Attributes
    ----------
    name : str
        Of the module.
    type : str
        The module's class.
    channels : int
        Filters.
    height : int
        Rows of units.
    width : int
        Columns of units.
    calls : int
        How often it runs in a forward pass; above 1 it is addressed as ``"name@k"``, k from 0.
    layout : str
        How its output is read as maps, see `explgraph.network.map_formats`.
    """

    name: str
    type: str
    channels: int
    height: int
    width: int
    calls: int
    layout: str = "NCHW"


def list_layers(model: nn.Module, image_size: int | tuple[int, int]) -> list[LayerSummary]:
    """List the modules whose outputs are feature maps, in the order of execution.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    image_size : int or (int, int)
        Side of a square, or ``(H, W)``, px.

    Raises
    ------
    ExplgraphError
        If the model is in training mode, the size is none, or no module gives maps on images of
        this size.
    """
    check_model(model)
    size = checked_size(image_size, "image_size")
    modules = {name: module for name, module in bare(model).named_modules() if name}
    with undisturbed(model):
        found, calls = measure_formats(model, list(modules), size, absent_ok=True)
    summaries = [
        LayerSummary(layer, type(modules[layer]).__name__, *grid.shape, calls[layer], grid.layout)
        for layer, grid in found.items()
        if isinstance(grid, MapFormat)
    ]
    if not summaries:
        raise ExplgraphError(
            f"no module of the model gives feature maps on images of {size[0]} x {size[1]}"
        )
    return summaries


# branches that only carry a block's input past it
_SIDE_BRANCHES = ("shortcut", "downsample", "skip")
_SUGGESTED_TYPES = ("conv", "norm", "relu", "elu", "silu", "swish", "mish", "activation")


def suggest_layers(summaries: Sequence[LayerSummary], number: int = 3) -> tuple[str, ...]:
    """Suggest layers to mine: for each of the last grid sizes, the last of its widest layers.

    Convolutions, normalisations and activation functions that run once are preferred, and those
    off the side branches of residual blocks. In their place stands the outermost block that ends
    with maps of the same shape: the sum of a residual block, not one of its terms. Where a
    network has fewer grid sizes, layers are taken at even steps of its last half.

    Parameters
    ----------
    summaries : sequence of LayerSummary
        As `list_layers` gives them.
    number : int
        Of layers.

    Returns
    -------
    tuple of str
        Names, the highest layer first; none if no layer runs exactly once.
    """
    once = [s for s in summaries if s.calls == 1]
    if not once:
        return ()
    once = [s for s in once if not any(b in s.name.lower() for b in _SIDE_BRANCHES)] or once
    usual = [s for s in once if any(t in s.type.lower() for t in _SUGGESTED_TYPES)] or once
    # a grid of a few units tells little about places
    fine = [s for s in usual if min(s.height, s.width) >= 4] or usual
    widest: dict[tuple[int, int], LayerSummary] = {}
    for summary in fine:
        grid = (summary.height, summary.width)
        if grid not in widest or summary.channels >= widest[grid].channels:
            widest[grid] = summary
    chosen = sorted(widest.values(), key=fine.index)[-number:]
    if len(chosen) < number:
        last_half = fine[-max(number, len(fine) // 2) :]
        count = min(number, len(last_half))
        steps = [len(last_half) - 1 - k * len(last_half) // count for k in range(count)]
        spare = [last_half[i] for i in steps if last_half[i] not in chosen]
        chosen = sorted(chosen + spare[: number - len(chosen)], key=fine.index)
    names = [_outermost(summary, once).name for summary in reversed(chosen)]
    return tuple(dict.fromkeys(names))


def _outermost(summary: LayerSummary, others: Sequence[LayerSummary]) -> LayerSummary:
    """Find the outermost module around one that gives maps of the same shape, or itself."""
    around = [s for s in others if summary.name.startswith(s.name + ".") and s[2:5] == summary[2:5]]
    return min(around, key=lambda s: len(s.name), default=summary)
