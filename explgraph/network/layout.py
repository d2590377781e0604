"""Which values of a module's output belong to which place of the image, measured on the model.

The shape of an output doesn't say it: equal sides look alike in every layout, and tokens may come
in any order, with class tokens anywhere. So:

1. The model is run on four images of noise in one batch. The second is brighter everywhere, the
   third the more, the lower down, the fourth the more, the farther right. How much more a value
   changes by the third than by the second says how far down it looks, on the mean; by the fourth,
   how far right.
2. Under each layout that the dimensions allow, units get places. The right layout is that under
   which places go down with the rows, alike in all columns, and right with the columns, alike in
   all rows. If there is none, or more than one, the layer is refused; its layout may be stated.
3. Tokens that don't change stand for no place (class tokens, registers). The others may have any
   order that makes a grid; an order that depends on the image is refused.

The model is run as its positive stand-in (`structure.PositiveNetwork`), in which nothing cancels
and attention is cut off: what attention gathers says where a token looks, not where it stands. So
the branch of a block that is attention alone is refused; the sum behind it isn't. Only a model that
can't be run in this way is measured as it is.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.errors import ExplgraphError, warn
from explgraph.network.hooks import catch, model_device, model_dtype
from explgraph.network.map_formats import MapFormat, only_grid, stated_format, tensors_of
from explgraph.network.structure import PositiveNetwork

__all__ = ["Layouts", "Undecided", "measure_formats", "noise"]

Array = NDArray[np.float64]
Layouts = str | Mapping[str, str] | None
"""What the user states: nothing, one layout for all layers, or layouts by layer."""

_IMAGES = 4
# large beside rounding, small beside what bends activation functions
_CHANGE = 0.25
# ... of the colours, in turn: what changes all alike is taken out again by normalisations
_COLOUR = (1.0, 0.6, 0.3)
# so many filters, rows and columns of maps are looked at, evenly chosen; all tokens are
_LOOKED_AT = 24
# Under the right layout nearly all that places differ by lies between rows, and between columns.
_EXPLAINED = 0.7
# Rounding moves places by about 1e-5 of the image, filters that see one place in different ways by
# more; even units that see everything have their middles spread over a tenth of it or so.
_LEAST_RANGE = 0.02
# and over no less than this share of what they are spread over along the other axis
_LEAST_OF_OTHER = 0.1
# So many of the rows at each side count as outermost; the middles of others may go back by this
# share of their mean distance, as rounding and the mixing of all places have it.
_OUTER = 0.15
_BACK = 0.5
# and theirs by this share of the range: rows that a cyclic shift brought round go back by all of it
_OUTER_BACK = 0.5
# a value that changes by less than this share of what is usual sees nothing of the image
_SEES = 1e-4
# so many values of each layer are compared between two runs on the same images,
_SAMPLE = 1000
# and are the same to this share of the largest: a GPU may add up in another order
_SAME = 1e-3
# The gap between neighbouring rows of tokens in an order of their own, beside the rows' distance.
_GAP = 0.3
# so many class tokens and registers that do see the image (as their mean) are looked for
_MOST_OTHER_TOKENS = 16
# and their places lie so near to the grid's middle, beside its size
_MIDDLE = 0.1


class Undecided(ExplgraphError):
    """Places show no layout of an output of this shape, one image's."""

    def __init__(self, message: str, shape: tuple[int, int, int]) -> None:
        super().__init__(message)
        self.shape = shape


class _Seen(NamedTuple):
    """What one run showed of a layer: its output's shape, and the format or why there is none."""

    shape: tuple[int, ...]
    found: MapFormat | ExplgraphError


def measure_formats(
    model: nn.Module,
    layers: Collection[str],
    size: tuple[int, int],
    stated: Layouts = None,
    *,
    channels: int = 3,
    absent_ok: bool = False,
) -> tuple[dict[str, MapFormat | ExplgraphError], dict[str, int]]:
    """Measure how the outputs of some layers are read as maps.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode; run inside `hooks.undisturbed`.
    layers : collection of str
    size : (int, int)
        ``(H, W)`` px of the images.
    stated : str or mapping, optional
        Layouts that the user states, see `map_formats`.
    channels : int
        Of the images.
    absent_ok : bool
        Leave out layers that don't run.

    Returns
    -------
    formats : dict
        By layer, in the order of execution; an error where there is none.
    calls : dict
        How often each layer's module ran.

    Raises
    ------
    ExplgraphError
        For an unknown layer, one that doesn't run, and layouts of layers that aren't among them.

    Warns
    -----
    ExplgraphWarning
        If a layer gives something else when it runs again on the same images.
    """
    told = _by_layer(stated, layers)

    def run(
        wanted: Collection[str], *, standin: bool, seed: int = 0
    ) -> tuple[dict[str, _Seen], dict[str, int]]:
        def keep(layer: str, output: Any) -> _Seen:
            shape: tuple[int, ...] = ()
            try:
                tensor = only_grid(output, _IMAGES, layer, axis=None)
                shape = tuple(tensor.shape)
                return _Seen(shape, _format_of(tensor, size, layer))
            except ExplgraphError as err:
                return _Seen(shape, err)

        images = _images(size, channels, seed).to(
            model_device(model), torch.float32 if standin else model_dtype(model)
        )
        with torch.no_grad(), PositiveNetwork(changed=_IMAGES) if standin else nullcontext():
            return catch(model, images, list(wanted), keep, whole=True, absent_ok=absent_ok)

    # as it is, to learn which layers run, and of which errors the model itself is the cause; twice,
    # to learn whether it gives the same again
    with torch.no_grad():
        images = _images(size, channels, 0).to(model_device(model), model_dtype(model))
        (ran, calls), (again, _) = (
            catch(model, images, list(layers), _sample, whole=True, absent_ok=absent_ok)
            for _ in range(2)
        )
    _warn_of_chance(ran, again)
    standin = True
    try:
        seen, _ = run(list(ran), standin=True)
    except ExplgraphError:  # a model that can't be run in this way
        standin, seen = False, {}
    if unseen := [layer for layer in ran if layer not in seen]:
        seen |= run(unseen, standin=False)[0]
    seen = {layer: seen[layer] for layer in ran if layer in seen}
    special = [k for k, s in seen.items() if isinstance(s.found, MapFormat) and s.found.order]
    if special:
        others, _ = run(special, standin=standin, seed=1)
        for layer in special:
            if others[layer].found != seen[layer].found:
                seen[layer] = seen[layer]._replace(
                    found=ExplgraphError(
                        f"layer {layer!r}: the order of its tokens is not the same for all images, "
                        "so that they are no grid; choose another layer"
                    )
                )
    return {k: _decided(k, s, told.get(k), size) for k, s in seen.items()}, calls


def _sample(_layer: str, output: Any) -> list[Tensor]:
    """Keep some of the values that a module gives."""
    tensors = [t.detach().flatten() for t in tensors_of(output) if t.is_floating_point()]
    return [t[:: math.ceil(len(t) / _SAMPLE)].float().cpu() for t in tensors if len(t)]


def _warn_of_chance(first: Mapping[str, list[Tensor]], second: Mapping[str, list[Tensor]]) -> None:
    """Warn if a layer gave something else when it ran again on the same images."""
    for layer, values in first.items():
        for a, b in zip(values, second.get(layer, []), strict=False):
            largest = float(a.abs().nan_to_num(0, 0, 0).max())  # NaN is told of elsewhere
            if a.shape != b.shape or not torch.allclose(
                a, b, rtol=0, atol=_SAME * largest, equal_nan=True
            ):
                warn(
                    f"layer {layer!r} gives something else each time for the same images, though "
                    "the model is in evaluation mode: nothing that explgraph finds will come out "
                    "the same again; take what is drawn at random out of its forward pass (noise, "
                    "or F.dropout(x) without training=self.training)"
                )
                return


def _by_layer(stated: Layouts, layers: Collection[str]) -> dict[str, str]:
    """Give the stated layout of each layer that has one."""
    if stated is None:
        return {}
    if isinstance(stated, str):
        return dict.fromkeys(layers, stated)
    if not isinstance(stated, Mapping):
        raise ExplgraphError(
            f"layout must be text like 'NHWC', or such texts by layer, got {type(stated).__name__}"
        )
    if unknown := [layer for layer in stated if layer not in layers]:
        raise ExplgraphError(
            f"layout names {unknown[0]!r}, which isn't among the layers {', '.join(layers)}"
        )
    return dict(stated)


def _decided(
    layer: str, seen: _Seen, stated: str | None, size: tuple[int, int]
) -> MapFormat | ExplgraphError:
    """Bring together what was measured and what is stated."""
    if stated is None or not seen.shape:
        return seen.found
    try:
        wanted = stated_format(stated, seen.shape, size, layer)
    except ExplgraphError as err:
        return err
    if isinstance(seen.found, ExplgraphError) or wanted == seen.found:
        return wanted
    if "L" in stated and stated == _axes(seen.found.layout):
        return seen.found  # which tokens they are was left open
    return ExplgraphError(
        f"layer {layer!r}: its layout was stated as {stated!r}, but which values change where the "
        f"image is changed shows {_told(seen.found)}; leave layout out, or state this"
    )


def _axes(layout: str) -> str:
    """Give a layout with L for its tokens."""
    before, bracket, rest = layout.partition("(")
    return before + "L" + rest.partition(")")[2] if bracket else layout


def _told(grid: MapFormat) -> str:
    """Give a format in words."""
    tokens = ", its tokens in an order of their own" if grid.order else ""
    return f"{grid.layout!r} of {grid.height} x {grid.width} units{tokens}"


def noise(size: tuple[int, int], channels: int, seed: int = 0) -> Tensor:
    """Positive noise to run a model on, ``(1, C, H, W)`` in 0.5 ... 1."""
    generator = torch.Generator().manual_seed(seed)
    return 0.5 + 0.5 * torch.rand((1, channels, *size), generator=generator, dtype=torch.float32)


def _images(size: tuple[int, int], channels: int, seed: int) -> Tensor:
    """Give noise, and the same brighter everywhere, towards the bottom, towards the right."""
    height, width = size
    base = noise(size, channels, seed)
    y = (torch.arange(height, dtype=torch.float32)[:, None] + 0.5) / height
    x = (torch.arange(width, dtype=torch.float32)[None] + 0.5) / width
    changes = torch.stack([torch.zeros(size), torch.ones(size), y.expand(size), x.expand(size)])
    colour = torch.tensor([_COLOUR[k % 3] for k in range(channels)])
    return base + _CHANGE * changes[:, None] * colour[:, None, None]


def _format_of(tensor: Tensor, size: tuple[int, int], layer: str) -> MapFormat:
    """Find out how a layer's output for the four images is read."""
    axis = 0 if tensor.shape[0] == _IMAGES else 1
    values = tensor.detach().movedim(axis, 0)
    if values.ndim == 4:
        return _maps_format(values, size, layer)
    found = _tokens_format(values)
    if found is None:
        count = " or ".join(str(n) for n in values.shape[1:])
        raise ExplgraphError(
            f"layer {layer!r} has no spatial grid that can be found: which of its {count} tokens "
            "change where the image is changed shows no rows and columns; choose another layer, or "
            "state its layout (layout='NLC', --layout NLC)"
        )
    if axis == 1:
        tokens, _, rest = found.layout.removeprefix("N").partition("C")
        both = ("C", rest) if not tokens else (tokens, "C")
        found = MapFormat("N".join(both), *found.shape, found.order)
    return found


def _maps_format(values: Tensor, size: tuple[int, int], layer: str) -> MapFormat:
    """Find the layout of ``(4, a, b, c)``."""
    shape = [int(n) for n in values.shape[1:]]
    if shape.count(1) > 1:
        raise ExplgraphError(
            f"layer {layer!r} has no spatial grid: one image of {size[0]} x {size[1]} gives "
            f"{tuple(shape)}, that is 1 x 1 units; choose a layer before the pooling"
        )
    few = values
    for dim, n in enumerate(shape, 1):
        if n > _LOOKED_AT:
            chosen = torch.linspace(0, n - 1, _LOOKED_AT, dtype=torch.float64).round().long()
            few = few.index_select(dim, chosen.to(few.device))
    few = few.cpu().double()
    fitting = []
    for filters, rows, columns in permutations(range(3)):
        if filters == 1 or min(shape[rows], shape[columns]) < 2:
            continue  # no network has its filters between rows and columns
        y, x = _places(few, filters)
        if rows > columns:
            y, x = y.T, x.T
        if _is_grid(y, x):
            fitting.append((filters, rows, columns))
    if len(fitting) == 1:
        filters, rows, columns = fitting[0]
        letters = {filters: "C", rows: "H", columns: "W"}
        layout = "N" + "".join(letters[axis] for axis in range(3))
        return MapFormat(layout, shape[filters], shape[rows], shape[columns])
    if 1 in shape:
        raise ExplgraphError(
            f"layer {layer!r} has a single row or column of units: one image of {size[0]} x "
            f"{size[1]} gives {tuple(shape)}; two rows and two columns at least are needed: choose "
            "a lower layer, or larger images"
        )
    raise Undecided(
        f"layer {layer!r} has no spatial grid that can be found: which of its {tuple(shape)} "
        "values change where the image is changed shows no rows and columns; choose another layer, "
        "or state its layout (layout='NCHW', --layout NCHW)",
        (shape[0], shape[1], shape[2]),
    )


def _tokens_format(values: Tensor) -> MapFormat | None:
    """Find the grid in ``(4, tokens, D)`` or ``(4, D, tokens)``."""
    for filters, axes in ((1, "NLC"), (0, "NCL")):
        depth = int(values.shape[1 + filters])
        chosen = torch.linspace(0, depth - 1, min(depth, _LOOKED_AT), dtype=torch.float64)
        few = values.index_select(1 + filters, chosen.round().long().to(values.device))
        y, x = _places(few.cpu().double(), filters)
        seeing = np.flatnonzero(~np.isnan(y))
        if len(seeing) < 4 or min(np.ptp(y[seeing]), np.ptp(x[seeing])) < _LEAST_RANGE:
            continue
        some = range(1, min(_MOST_OTHER_TOKENS, len(seeing) - 4) + 1)
        cuts = [seeing, *(seeing[k:] for k in some), *(seeing[:-k] for k in some)]
        for find in (_regular_tokens, _sorted_tokens):
            for tokens in cuts:
                found = find(y, x, tokens, axes, depth)
                if found is not None:
                    return found
    return None


def _grids(count: int) -> Iterator[tuple[int, int]]:
    """All numbers of rows and columns, two at least, of so many units."""
    return ((h, count // h) for h in range(2, count // 2 + 1) if count % h == 0)


def _regular_tokens(
    y: Array, x: Array, tokens: NDArray[np.intp], axes: str, depth: int
) -> MapFormat | None:
    """Find a grid of tokens row by row, or column by column."""
    for height, width in _grids(len(tokens)):
        for order in ("HW", "WH"):
            places = [
                p[tokens].reshape(height, width)
                if order == "HW"
                else p[tokens].reshape(width, height).T
                for p in (y, x)
            ]
            if not _is_grid(*places):
                continue
            if not _all_over(places, (y, x), tokens):
                continue
            before, after = int(tokens[0]), len(y) - 1 - int(tokens[-1])
            if before + len(tokens) + after == len(y):
                parts = [str(before)] * (before > 0) + [order] + [str(after)] * (after > 0)
                return MapFormat(axes.replace("L", f"({'+'.join(parts)})"), depth, height, width)
            rows = (
                tokens.reshape(height, width)
                if order == "HW"
                else (tokens.reshape(width, height).T)
            )
            return MapFormat(axes, depth, height, width, tuple(rows.ravel().tolist()))
    return None


def _sorted_tokens(
    y: Array, x: Array, tokens: NDArray[np.intp], axes: str, depth: int
) -> MapFormat | None:
    """Find a grid of tokens in an order of their own: by where they look."""
    down = tokens[np.argsort(y[tokens], kind="stable")]
    for height, width in _grids(len(tokens)):
        rows = down.reshape(height, width)
        rows = np.take_along_axis(rows, np.argsort(x[rows], axis=1, kind="stable"), 1)
        # sorting makes rows and columns of anything; only those of a grid lie apart
        if (
            _apart(y[rows])
            and _apart(x[rows].T)
            and _is_grid(y[rows], x[rows])
            and _all_over([y[rows], x[rows]], (y, x), tokens)
        ):
            return MapFormat(axes, depth, height, width, tuple(rows.ravel().tolist()))
    return None


def _all_over(grid: Sequence[Array], places: tuple[Array, Array], tokens: NDArray[np.intp]) -> bool:
    """Whether tokens outside a grid see nothing, or all of it, on the mean its middle."""
    return all(
        np.abs(np.nan_to_num(np.delete(of_all, tokens), nan=of_grid.mean()) - of_grid.mean()).max(
            initial=0
        )
        < _MIDDLE * np.ptp(of_grid)
        for of_grid, of_all in zip(grid, places, strict=True)
    )


def _apart(places: Array) -> bool:
    """Whether gaps lie between neighbouring rows of places."""
    gaps = places[1:].min(1) - places[:-1].max(1)
    return bool((gaps > _GAP * np.diff(places.mean(1))).all())


def _places(values: Tensor, filters: int) -> tuple[Array, Array]:
    """Measure how far down and right each unit looks, as shares of the image; NaN if nowhere.

    Parameters
    ----------
    values : (4, ...) float64
        What the four images gave.
    filters : int
        Which of the dimensions after the first holds filters.
    """
    whole, down, right = (values[1:] - values[:1]).movedim(1 + filters, 1).numpy()
    # all filters of a unit look at one place, some more, some less, some with the other sign
    weight = (whole * whole).sum(0)
    known = weight[weight > 0]  # none where all is NaN
    seeing = weight > _SEES**2 * np.median(known) if len(known) else weight > 0
    weight = np.where(seeing, weight, np.nan)
    return (whole * down).sum(0) / weight, (whole * right).sum(0) / weight


def _is_grid(y: Array, x: Array) -> bool:
    """Whether places go down with the rows, and right with the columns, and nothing else."""
    if np.isnan(y).mean() > 0.5:
        return False
    ranges = sorted(float(np.nanmax(p) - np.nanmin(p)) for p in (y, x))
    return ranges[0] > _LEAST_OF_OTHER * ranges[1] and _ascends(y) and _ascends(x.T)


def _ascends(places: Array) -> bool:
    """Whether places, NaN where unknown, ascend from row to row, alike in all columns."""
    if np.isnan(places).any():
        some = ~np.isnan(places).all(1)
        # a unit of which nothing is known counts as what is usual in its row
        usual = np.nanmean(places[some], axis=1, keepdims=True)
        known = np.flatnonzero(some)
        places = np.where(np.isnan(places[some]), usual, places[some])
    else:
        known = np.arange(len(places))
    rows = places.mean(1)
    if len(rows) < 2 or np.ptp(rows) < _LEAST_RANGE or rows[-1] <= rows[0]:
        return False
    if rows.var() < _EXPLAINED * places.var():
        return False
    # padding may turn the order of the outermost rows round, but no others'
    steps, outer = np.diff(rows), math.ceil(_OUTER * (len(rows) - 1))
    inner = steps[outer : len(steps) - outer]
    back = _BACK * np.ptp(rows) / (len(rows) - 1)
    if (inner < -back).any() or (steps < -_OUTER_BACK * np.ptp(rows)).any():
        return False
    return bool(np.corrcoef(known, rows)[0, 1] > _EXPLAINED)
