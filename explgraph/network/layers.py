"""Which layers of a network can be mined, and which are worth it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from torch import nn

from explgraph.errors import ExplgraphError
from explgraph.images.batches import AnyImages, batches
from explgraph.images.further import WithInputs
from explgraph.images.ready import checked_size
from explgraph.network.hooks import check_model, standing_in, undisturbed
from explgraph.network.layout import measure_formats
from explgraph.network.map_formats import MapFormat
from explgraph.network.preprocessing import first_takes
from explgraph.network.wrappers import modules_by_name
from explgraph.progress import Shown, say
from explgraph.whole_numbers import whole

__all__ = [
    "LayerSummary",
    "Suggestion",
    "layers_for",
    "list_layers",
    "suggest_layers",
    "suggestions",
]


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


def list_layers(
    model: nn.Module,
    image_size: int | tuple[int, int],
    channels: int | None = None,
    *,
    images: WithInputs | None = None,
) -> list[LayerSummary]:
    """List the modules whose outputs are feature maps, in the order of execution.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    image_size : int or (int, int)
        Side of a square, or ``(H, W)``, px.
    channels : int, optional
        Of the images; by default 3, or as many as the network's first convolution takes, if more
        layers run on those.
    images : WithInputs, optional
        Where the model takes more than images: some, with what it takes for the first. They tell
        the channels, too.

    Raises
    ------
    ExplgraphError
        If the model is in training mode, the size is none, the model can't be run on images, or no
        module gives maps on images of this size.
    """
    check_model(model)
    size = checked_size(image_size, "image_size")
    modules = {name: module for name, module in modules_by_name(model).items() if name}
    example = None if images is None else next(batches(images, 1))[1]
    if channels is not None:
        tried = [whole(channels, "channels")]
    elif example is not None:
        tried = [int(example.shape[1])]
    else:
        first = first_takes(model)
        tried = [3] if first in (None, 3) else [3, first]
    with standing_in(model, example), undisturbed(model):
        found, calls = _formats(model, list(modules), size, tried)
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


def _formats(
    model: nn.Module, layers: Collection[str], size: tuple[int, int], tried: Sequence[int]
) -> tuple[dict[str, MapFormat | ExplgraphError], dict[str, int]]:
    """Measure formats on images of as many channels as most layers run on."""
    ran, failure = [], None
    for channels in tried:
        try:
            ran.append(measure_formats(model, layers, size, channels=channels, absent_ok=True))
        except ExplgraphError as err:
            failure = err
    if not ran and failure is not None:
        raise failure
    return max(ran, key=lambda one: len(one[0]))


# branches that only carry a block's input past it
_SIDE_BRANCHES = ("shortcut", "downsample", "skip")
# share of a network's layers; with layers that end below, parts were located worse
# (`benchmarks/everywhere.py --layers suggested`)
_LOWEST = 0.4
_SUGGESTED_TYPES = ("conv", "norm", "relu", "elu", "silu", "swish", "mish", "activation")


class Suggestion(NamedTuple):
    """A layer that is worth mining, and why.

    Attributes
    ----------
    layer : LayerSummary
    reason : str
        Half a sentence.
    """

    layer: LayerSummary
    reason: str


def suggest_layers(summaries: Sequence[LayerSummary], number: int = 3) -> tuple[str, ...]:
    """Suggest layers to mine: of each of the last grid sizes, the last of its widest layers.

    None of the lowest two fifths of a network, whose filters know edges and colours, no parts:
    where there are fewer grid sizes above than `number`, more layers of the highest grid are taken,
    the next widest first, and then layers at even steps.

    Convolutions, normalisations and activation functions that run once are preferred, and those
    off the side branches of residual blocks. In their place stands the outermost block that ends
    with maps of the same shape: the sum of a residual block, not one of its terms. A sequence of
    blocks stands for the last of them only.

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

    Raises
    ------
    ExplgraphError
        If it is given anything else, such as the model.
    """
    listed = tuple(summaries) if isinstance(summaries, Iterable) else (summaries,)
    if not all(isinstance(summary, LayerSummary) for summary in listed):
        raise ExplgraphError(
            "summaries must be what explgraph.list_layers(model, image_size) gives, got "
            f"{type(summaries).__name__}"
        )
    number = whole(number, "number")
    return tuple(suggestion.layer.name for suggestion in suggestions(listed, number))


def layers_for(model: nn.Module, images: AnyImages, progress: Shown = None) -> tuple[str, ...]:
    """Give the layers that are suggested for a model on some images, and say which.

    Raises
    ------
    ExplgraphError
        As `list_layers`, or if none can be suggested.
    """
    _, channels, height, width = map(int, next(batches(images, 1))[1].shape)
    further = images if isinstance(images, WithInputs) else None
    layers = suggest_layers(list_layers(model, (height, width), channels, images=further))
    if not layers:
        raise ExplgraphError(
            "no layer can be suggested, since each runs several times; name some, as 'name@0': "
            "explgraph.list_layers(model, image_size) lists them"
        )
    say(f"layers as suggested: {', '.join(layers)}", progress)
    return layers


def suggestions(summaries: Sequence[LayerSummary], number: int = 3) -> tuple[Suggestion, ...]:
    """Suggest layers as `suggest_layers` does, with reasons."""
    once = [s for s in summaries if s.calls == 1]
    if not once:
        return ()
    once = [s for s in once if not any(b in s.name.lower() for b in _SIDE_BRANCHES)] or once
    usual = [s for s in once if any(t in s.type.lower() for t in _SUGGESTED_TYPES)] or once
    # a grid of a few units tells little about places
    fine = [s for s in usual if min(s.height, s.width) >= 4] or usual
    upper = fine[math.ceil(_LOWEST * len(fine)) - 1 :]
    widest: dict[tuple[int, int], LayerSummary] = {}
    for summary in fine:
        grid = (summary.height, summary.width)
        if grid not in widest or summary.channels >= widest[grid].channels:
            widest[grid] = summary
    chosen = {
        summary: f"the widest and last of its grid, {summary.height} x {summary.width}"
        for summary in [s for s in fine if s in widest.values() and s in upper][-number:]
    }
    for summary in _more(upper, list(chosen)):
        if len(chosen) < number:
            chosen[summary] = "of the highest grid too: layers of finer grids lie too low"
    last_half = fine[-max(number, len(fine) // 2) :]
    count = min(number, len(last_half))
    for k in range(count):
        spare = last_half[len(last_half) - 1 - k * len(last_half) // count]
        if len(chosen) < number and spare not in chosen:
            chosen[spare] = "at even steps of the network's last half, of one grid"
    found: dict[str, Suggestion] = {}
    for summary in sorted(chosen, key=fine.index, reverse=True):
        layer = _outermost(summary, once)
        found.setdefault(layer.name, Suggestion(layer, chosen[summary]))
    return tuple(found.values())


def _more(upper: Sequence[LayerSummary], chosen: Sequence[LayerSummary]) -> list[LayerSummary]:
    """Give further layers of the highest grid that was chosen, of other widths, widest first."""
    if not chosen:
        return []
    top = chosen[-1]
    runs: list[list[LayerSummary]] = []
    for s in upper:
        if s[3:5] != top[3:5] or s.channels >= top.channels:
            continue
        if not runs or runs[-1][-1].channels != s.channels:
            runs.append([])
        runs[-1].append(s)
    last: dict[int, LayerSummary] = {}
    for run in runs:
        # a further convolution of the same width is, in inverted residuals, of each filter by
        # itself: what it gives fires nearly everywhere and tells badly where parts are
        further = [k for k, s in enumerate(run) if "conv" in s.type.lower()][1:]
        last[run[0].channels] = run[max(1, further[0]) - 1] if further else run[-1]
    # narrower than half, it is what a block is squeezed to
    return [last[c] for c in sorted(last, reverse=True) if c >= top.channels / 2]


def _outermost(summary: LayerSummary, others: Sequence[LayerSummary]) -> LayerSummary:
    """Find the outermost module that ends with a module's maps, of the same shape, or itself."""
    around = [s for s in others if summary.name.startswith(s.name + ".") and s[2:5] == summary[2:5]]
    ending = [s for s in around if _is_last(summary.name, s.name, others)]
    return min(ending, key=lambda s: len(s.name), default=summary)


def _is_last(name: str, container: str, others: Sequence[LayerSummary]) -> bool:
    """Tell that a module is in the last of the numbered blocks that stand in a container, if any.

    A transformer is one sequence of blocks of one shape: its end is that of the last one alone.
    """
    number = name[len(container) + 1 :].partition(".")[0]
    inside = (s.name[len(container) + 1 :] for s in others if s.name.startswith(container + "."))
    numbers = [int(n) for n in (i.partition(".")[0] for i in inside) if n.isdecimal()]
    return not number.isdecimal() or int(number) == max(numbers)
