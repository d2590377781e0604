"""Where units look: the grid of a layer and its measured place on the input image.

One convention holds everywhere in explgraph: a point is ``[x, y]``, x to the right, y down, in
pixels of the image as the network saw it, and the centre of the first pixel is at
``(0.5, 0.5)``. So an image of width ``W`` covers ``0 <= x <= W``.

Unit centres and receptive fields are measured (`measure_layers`), by gradients:

1. A positive stand-in of the network (`structure.PositiveNetwork`) is run on an image of the size
   in question; the gradient of a unit is not zero exactly in its receptive field.
2. The left (upper) edges of the fields of units whose field begins within the image lie on a
   line, the right edges of those whose field ends within the image on another. Their slope is the
   stride, half their sum the centre, their distance the receptive field's size. Where branches of
   several grids meet after upsampling and aren't aligned (pyramids), the field's middle may lie far
   from the mean place of what is seen; then that is the centre.
3. Where the image is too small for that, the same is done on an image that is longer along one
   axis at a time, and checked against the fields seen at the actual size.
4. Where that fails, because the model takes one size only or mixes all places, the centre is the
   centroid of the gradient's magnitude, above its level far away, around where it is strongest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.errors import ExplgraphError, warn
from explgraph.network.gradients import gradients_of
from explgraph.network.hooks import (
    catch,
    check_model,
    layer_name,
    model_device,
    split_layer,
    undisturbed,
)
from explgraph.network.layout import Layouts, Undecided, measure_formats, noise
from explgraph.network.map_formats import SIGNS, MapFormat, only_grid, read_maps
from explgraph.network.structure import PositiveNetwork

__all__ = ["Layer", "Signs", "measure_layers"]

Array = NDArray[np.float64]
Signs = str | Mapping[str, str]
"""Which signs of values count: "positive" or "both", for all layers or by layer."""

# A longer image is longer by a multiple of this and of the coarsest stride: padding that depends on
# the size (TensorFlow's "same") then stays as it was.
_STEP = 192
_STEPS = (1, 2, 4, 8, 16, 24)
# so many neighbouring units are compared where upsampling makes them look in turns
_RUN = 16
# the middle of a field may lie so far from the mean place of what is seen, in strides
_ASIDE = 0.25


@dataclass(frozen=True)
class Layer:
    """A layer's grid of units and where they look.

    Attributes
    ----------
    name : str
        Module name as the user passed it.
    index : int
        Position among the recorded layers by execution; 0 is the lowest (nearest the image).
    channels, height, width : int
        Shape of one image's feature maps, ``(C, H, W)``.
    stride : (float, float)
        Distance between neighbouring unit centres, px, along x and y.
    offset : (float, float)
        Centre ``[x, y]`` of the first unit (row 0, column 0), px.
    receptive_field : (float, float)
        Width and height of the theoretical receptive field of an interior unit, px; not clipped
        to the image.
    layout : str
        How the module's output is read as maps, see `map_formats`.
    order : tuple of int
        Which token stands for each unit, row by row; empty where the layout says it.
    signs : str
        "positive" where what is below zero counts as nothing, "both" where it makes filters of its
        own: the second half of the channels.
    """

    name: str
    index: int
    channels: int
    height: int
    width: int
    stride: tuple[float, float]
    offset: tuple[float, float]
    receptive_field: tuple[float, float]
    layout: str = "NCHW"
    order: tuple[int, ...] = ()
    signs: str = "positive"

    @property
    def format(self) -> MapFormat:
        """How the module's output is read as maps."""
        return MapFormat(
            self.layout, self.channels, self.height, self.width, self.order, self.signs
        )

    def filter_name(self, number: int) -> str:
        """Name a filter: "12", or "12-" for what channel 12 gives below zero.

        Examples
        --------
        >>> layer = Layer("out", 0, 32, 7, 7, (8.0, 8.0), (4.0, 4.0), (8.0, 8.0), signs="both")
        >>> layer.filter_name(12), layer.filter_name(16 + 12)
        ('12', '12-')
        """
        half = self.channels // 2
        return f"{number - half}-" if self.signs == "both" and number >= half else str(number)

    @property
    def centres_x(self) -> NDArray[np.float64]:
        """Unit centres along x, ``(W,)`` px."""
        return self.offset[0] + self.stride[0] * np.arange(self.width, dtype=np.float64)

    @property
    def centres_y(self) -> NDArray[np.float64]:
        """Unit centres along y, ``(H,)`` px."""
        return self.offset[1] + self.stride[1] * np.arange(self.height, dtype=np.float64)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` turns them back."""
        known = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        if not self.order:
            del known["order"]
        if self.signs == "positive":
            del known["signs"]
        return known

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Layer:
        """Build a layer from the values of `as_dict`."""
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**fields)


class _Axis(NamedTuple):
    """What is measured along one axis, px."""

    stride: float
    offset: float
    field: float


def measure_layers(
    model: nn.Module,
    layers: Sequence[str],
    image_size: tuple[int, int],
    layout: Layouts = None,
    signs: Signs = "positive",
    *,
    channels: int = 3,
) -> tuple[Layer, ...]:
    """Measure where the units of some layers look.

    Centres and receptive fields are exact for networks of convolutions, poolings and paddings of
    any stride, dilation and asymmetry, with branches and residuals. What gathers from the whole
    image (global pooling in squeeze-and-excitation gates, attention) tells no place and is left
    out; only the receptive field of a layer after attention is that which attention gives it.
    The model's parameters, buffers and gradients and torch's random numbers stay as they were.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode.
    layers : sequence of str
        Module names, ``"name@k"`` for the k-th call of a module that runs more than once.
    image_size : (int, int)
        ``(H, W)`` px.
    layout : str or mapping of str to str, optional
        How outputs are read as maps, for all layers or by layer, where that can't be measured: see
        `map_formats`.
    signs : {"positive", "both"} or mapping of str to str
        What counts of each layer: what it gives above zero, or both signs, as twice as many
        filters.
    channels : int
        Of the images.

    Returns
    -------
    tuple of Layer
        In the order of execution, whatever the order of `layers`.

    Raises
    ------
    ExplgraphError
        For an unknown layer, one without a spatial grid or whose layout can't be found, one that
        doesn't run or runs more than once, a stated layout that measuring contradicts, and a model
        in training mode.

    Warns
    -----
    ExplgraphWarning
        If no gradient reaches the image, so that an even grid over the image is assumed, and if a
        layer gives something else each time for the same images.
    """
    check_model(model)
    both = _of_both_signs(signs, layers)
    with undisturbed(model):
        formats, calls = measure_formats(model, layers, image_size, layout, channels=channels)
        for layer, times in calls.items():
            if times > 1 and split_layer(model, layer)[1] is None:
                raise ExplgraphError(
                    f"layer {layer!r} runs {times} times in a forward pass; say which call is "
                    f"meant: '{layer}@0' ... '{layer}@{times - 1}'"
                )
        grids: dict[str, MapFormat] = {}
        for layer, found in formats.items():
            if isinstance(found, Undecided):
                grids[layer] = _by_fields(model, layer, image_size, found, channels)
            elif isinstance(found, ExplgraphError):
                raise found
            else:
                grids[layer] = found
        axes = _measure(model, grids, image_size, channels)
    return tuple(
        Layer(
            name=layer_name(model, layer),
            index=index,
            channels=grid.channels * (1 + (layer in both)),
            height=grid.height,
            width=grid.width,
            stride=(axes[layer][1].stride, axes[layer][0].stride),
            offset=(axes[layer][1].offset, axes[layer][0].offset),
            receptive_field=(axes[layer][1].field, axes[layer][0].field),
            layout=grid.layout,
            order=grid.order,
            signs="both" if layer in both else "positive",
        )
        for index, (layer, grid) in enumerate(grids.items())
    )


def _of_both_signs(signs: Signs, layers: Sequence[str]) -> set[str]:
    """Name the layers of which both signs count."""
    if not isinstance(signs, str | Mapping):
        raise ExplgraphError(
            f"signs must be 'positive' or 'both', or these by layer, got {type(signs).__name__}"
        )
    by_layer = dict.fromkeys(layers, signs) if isinstance(signs, str) else dict(signs)
    for layer, chosen in by_layer.items():
        if layer not in layers:
            raise ExplgraphError(
                f"signs names {layer!r}, which isn't among the layers {', '.join(layers)}"
            )
        if chosen not in SIGNS:
            raise ExplgraphError(f"signs must be 'positive' or 'both', got {chosen!r}")
    return {layer for layer, chosen in by_layer.items() if chosen == "both"}


def _by_fields(
    model: nn.Module, layer: str, size: tuple[int, int], undecided: Undecided, channels: int
) -> MapFormat:
    """Find a layout by fields that move evenly from unit to unit, where their middles don't.

    Those of a few rows don't where padding takes a part of most fields.
    """
    a, b, c = undecided.shape
    fitting = []
    for grid in (MapFormat("NCHW", a, b, c), MapFormat("NHWC", c, a, b)):
        try:
            probe = _Probe(model, {layer: grid}, size, channels)
        except ExplgraphError:
            continue
        axes = _from_edges(probe, layer)
        for axis in (0, 1):
            axes[axis] = axes[axis] or _from_longer(model, {layer: grid}, probe, axis)[layer]
        # rows that a cyclic shift brought round see what lies at the other end
        if all(a and _agrees(probe, layer, axis, a, a.stride) for axis, a in enumerate(axes)):
            fitting.append(grid)
    if len(fitting) != 1:
        raise undecided
    return fitting[0]


_Extent = tuple[int, int] | None


class _Probe:
    """One forward pass of the positive network, kept for the gradients of any unit."""

    def __init__(
        self,
        model: nn.Module,
        grids: dict[str, MapFormat],
        size: tuple[int, int],
        channels: int,
        *,
        measured_on: tuple[int, int] | None = None,
        attention: bool = False,
    ) -> None:
        self.size, self.channels = size, channels
        self.attended: dict[str, bool] = {}
        self._image = noise(size, channels).to(model_device(model)).requires_grad_()
        base = measured_on or size
        growth = size[0] / base[0], size[1] / base[1]
        self._generator = torch.Generator().manual_seed(1)
        self._extents: dict[tuple[str, int, int], list[_Extent]] = {}
        self._middles: dict[tuple[str, int, int], tuple[float, float]] = {}

        def keep(layer: str, output: Any) -> Tensor:
            self.attended[layer] = network.attended
            grid = grids[layer]
            if growth != (1, 1):
                shape = only_grid(output, 1, layer, grid.images_axis).shape
                grid = grid.at_other_size(shape, growth, layer)
            return read_maps(output, 1, grid, layer).clone()

        with PositiveNetwork(attention=attention) as network:
            self._maps, _ = catch(model, self._image, list(grids), keep)

    def grid(self, layer: str) -> tuple[int, int]:
        """Rows and columns of a layer on this image."""
        return int(self._maps[layer].shape[2]), int(self._maps[layer].shape[3])

    def magnitude(self, layer: str, row: int, column: int) -> Array:
        """Gradient of a unit, absolute, the largest over the colours, ``(H, W)``."""
        unit = self._maps[layer][0, :, row, column]
        # filters are weighted at random, for a plain sum over them may be constant
        weights = 0.5 + torch.rand(unit.shape, generator=self._generator, dtype=torch.float32)
        if not unit.requires_grad:
            return np.zeros(self.size)
        (gradient,) = gradients_of(unit @ weights.to(unit), [self._image])
        magnitude: Array = gradient[0].abs().amax(0).cpu().double().numpy()
        return magnitude

    def middle(self, layer: str, unit: tuple[int, int], axis: int) -> float:
        """Mean place that a unit's gradient has along one axis (0: y), px."""
        self.extents(layer, [unit])
        return self._middles[(layer, *unit)][axis]

    def extents(self, layer: str, units: Iterable[tuple[int, int]]) -> list[dict[int, _Extent]]:
        """Receptive fields of units ``(row, column)``: by row along y, and by column along x."""
        along: list[dict[int, _Extent]] = [{}, {}]
        for unit in units:
            key = (layer, *unit)
            if key not in self._extents:
                magnitude = self.magnitude(layer, *unit)
                seen = magnitude > 0
                self._extents[key] = [_extent(seen.any(1)), _extent(seen.any(0))]
                self._middles[key] = _middle(magnitude.sum(1)), _middle(magnitude.sum(0))
            for axis in (0, 1):
                along[axis][unit[axis]] = self._extents[key][axis]
        return along


def _middle(along: Array) -> float:
    """Mean place of a gradient along one axis, px; NaN if there is none."""
    total = along.sum()
    return float(along @ (np.arange(len(along)) + 0.5) / total) if total > 0 else math.nan


def _extent(seen: Any) -> _Extent:
    """First and last edge of what is seen, ``(n,)`` bool, px; None if nothing is."""
    where = np.flatnonzero(seen)
    return (int(where[0]), int(where[-1]) + 1) if where.size else None


def _measure(
    model: nn.Module, grids: dict[str, MapFormat], size: tuple[int, int], channels: int
) -> dict[str, list[_Axis]]:
    """Measure the layers along ``[y, x]``."""
    try:
        probe = _Probe(model, grids, size, channels)
    except ExplgraphError as err:
        return {layer: _assumed(layer, grid, size, str(err)) for layer, grid in grids.items()}
    found = {layer: _from_edges(probe, layer) for layer in grids}
    for axis in (0, 1):
        clipped = {layer: grid for layer, grid in grids.items() if found[layer][axis] is None}
        for layer, measured in _from_longer(model, clipped, probe, axis).items():
            found[layer][axis] = measured
    axes = {}
    for layer, grid in grids.items():
        if None in found[layer]:
            centroids = _from_centroids(probe, layer)
            found[layer] = [f or c for f, c in zip(found[layer], centroids, strict=True)]
        axes[layer] = [f for f in found[layer] if f is not None]
        if len(axes[layer]) < 2:
            axes[layer] = _assumed(layer, grid, size, "its gradients tell no place")
    attended = {layer: grid for layer, grid in grids.items() if probe.attended[layer]}
    if attended:
        wide = _Probe(model, attended, size, channels, attention=True)
        for layer, grid in attended.items():
            extents = wide.extents(layer, [(grid.height // 2, grid.width // 2)])
            axes[layer] = [
                axis._replace(field=max([axis.field, *(float(e[1] - e[0]) for e in seen if e)]))
                for axis, seen in zip(axes[layer], (e.values() for e in extents), strict=True)
            ]
    return axes


def _from_edges(probe: _Probe, layer: str) -> list[_Axis | None]:
    """Measure where fields begin and end within the image itself, along ``[y, x]``."""
    rows, columns = probe.grid(layer)
    last = probe.extents(layer, [(rows - 1, columns - 1)])
    found: list[_Axis | None] = [None, None]
    # the last unit's field is the one that begins latest
    if not any(e and e[0] > 0 for seen in last for e in seen.values()):
        return found
    for run in (3, _RUN):
        units = [(min(i, rows - 1), min(i, columns - 1)) for i in range(run)]
        units += [(rows - 1 - r, columns - 1 - c) for r, c in units]
        for axis, extents in enumerate(probe.extents(layer, units)):
            size, count = probe.size[axis], (rows, columns)[axis]
            middle = (count - 1) / 2
            lows = {j: e[0] for j, e in extents.items() if e and e[0] > 0 and j >= middle}
            highs = {j: e[1] for j, e in extents.items() if e and e[1] < size and j <= middle}
            if found[axis] is None:
                fitted = _fit(lows, highs, size / count, tolerance=0.25)
                if fitted is not None and run == _RUN:
                    inside = [
                        unit
                        for unit in dict.fromkeys(units)
                        if (e := extents[unit[axis]]) and e[0] > 0 and e[1] < size
                    ]
                    fitted = _as_seen(probe, layer, axis, fitted, inside)
                found[axis] = fitted
        if None not in found:
            break
    return found


def _from_longer(
    model: nn.Module, grids: dict[str, MapFormat], probe: _Probe, axis: int
) -> dict[str, _Axis | None]:
    """Measure along one axis (0: y) on images that are longer along it."""
    found: dict[str, _Axis | None] = dict.fromkeys(grids)
    if not grids:
        return found
    length, other = probe.size[axis], probe.size[1 - axis]
    counts = {layer: probe.grid(layer)[axis] for layer in grids}
    coarsest = min(counts.values())
    stride = length // coarsest if length % coarsest == 0 else _STEP
    step = stride * math.ceil(_STEP / stride)
    # the other axis is kept short to save time, unless the model can't do with it
    short = min(other, max(64, 2 * math.ceil(max(other / probe.grid(k)[1 - axis] for k in grids))))
    open_layers = dict(grids)
    for growth in _STEPS:
        try:
            long_probe = _longer_probe(
                model, open_layers, axis, probe, length + growth * step, short
            )
        except ExplgraphError:
            if short == other:
                break
            short = other
            try:
                long_probe = _longer_probe(
                    model, open_layers, axis, probe, length + growth * step, short
                )
            except ExplgraphError:
                break
        for layer in list(open_layers):
            more = long_probe.grid(layer)[axis] - counts[layer]
            if more < 4:
                continue  # too few units to say what stride is expected
            measured = _interior(long_probe, layer, axis, growth * step / more)
            if measured is not None:
                del open_layers[layer]
                if _agrees(probe, layer, axis, measured):
                    found[layer] = measured
        if not open_layers:
            break
    return found


def _longer_probe(
    model: nn.Module,
    grids: dict[str, MapFormat],
    axis: int,
    probe: _Probe,
    length: int,
    short: int,
) -> _Probe:
    """Probe an image that is long along `axis`."""
    longer = (length, short) if axis == 0 else (short, length)
    return _Probe(model, grids, longer, probe.channels, measured_on=probe.size)


def _interior(probe: _Probe, layer: str, axis: int, stride: float) -> _Axis | None:
    """Measure in the middle of a long image; None if that is too near its ends."""
    count, across = probe.grid(layer)[axis], probe.grid(layer)[1 - axis] // 2
    middle, length = count // 2, probe.size[axis]

    def see(units: Iterable[int]) -> dict[int, tuple[int, int]]:
        """Give the fields of units, none if one is empty or reaches the image's ends."""
        ends = [(u, across) if axis == 0 else (across, u) for u in units]
        seen = probe.extents(layer, ends)[axis]
        inside = {j: e for j, e in seen.items() if e and e[0] > 0 and e[1] < length}
        return inside if len(inside) == len(seen) else {}

    if not see([middle]):
        return None
    for run in (2, _RUN):
        first = max(0, middle - run // 2)
        seen = see(range(first, min(first + run, count)))
        lows, highs = {j: e[0] for j, e in seen.items()}, {j: e[1] for j, e in seen.items()}
        measured = _fit(lows, highs, stride, tolerance=0.3)
        if measured is not None:
            break
    if measured is None:
        return None
    if run == _RUN:
        units = [(j, across) if axis == 0 else (across, j) for j in seen]
        return _as_seen(probe, layer, axis, measured, units)
    # padding within the network may cut fields short before they reach the image's ends
    left = middle - int((lows[middle] - 1) // measured.stride)
    right = middle + int((length - 1 - highs[middle]) // measured.stride)
    for j in {max(0, left), min(count - 1, right)}:
        shift = (j - middle) * measured.stride
        if see([j]).get(j) != (lows[middle] + shift, highs[middle] + shift):
            return None
    return measured


def _as_seen(
    probe: _Probe, layer: str, axis: int, measured: _Axis, units: Sequence[tuple[int, int]]
) -> _Axis:
    """Take the mean place of what upsampled units see where it's far from their fields' middles."""
    # upsampled units look in turns, usually of a power of two
    whole = 1 << (len(units).bit_length() - 1) if units else 0
    away = [
        probe.middle(layer, unit, axis) - measured.offset - measured.stride * unit[axis]
        for unit in sorted(units, key=lambda unit: unit[axis])[:whole]
    ]
    aside = sum(away) / whole if whole else 0.0
    if abs(aside) <= _ASIDE * measured.stride:
        return measured
    # as wide as to hold all that is seen
    return _Axis(measured.stride, measured.offset + aside, measured.field + 2 * abs(aside))


def _agrees(probe: _Probe, layer: str, axis: int, measured: _Axis, slack: float = 1e-6) -> bool:
    """Check that the first and last unit see nothing outside the fields that were measured.

    They may by `slack`, px.
    """
    rows, columns = probe.grid(layer)
    seen = probe.extents(layer, [(0, 0), (rows - 1, columns - 1)])[axis]
    return all(
        abs((e[0] + e[1]) / 2 - centre) <= (measured.field - (e[1] - e[0])) / 2 + slack
        for j, e in seen.items()
        if e is not None
        for centre in [measured.offset + measured.stride * j]
    )


def _fit(
    lows: dict[int, int], highs: dict[int, int], stride: float, tolerance: float
) -> _Axis | None:
    """Fit lines to where the fields of units begin and end; None if there are none.

    Parameters
    ----------
    lows, highs : dict
        ``{unit: edge}`` px, of consecutive units.
    stride : float
        About what is expected, px.
    tolerance : float
        Relative, of the stride.
    """
    low, high = _line(lows), _line(highs)
    if low is None or high is None or low[0] != high[0]:
        return None
    if abs(low[0] / stride - 1) > tolerance:
        return None
    return _Axis(low[0], (low[1] + high[1]) / 2, high[1] - low[1])


def _line(edges: dict[int, int]) -> tuple[float, float] | None:
    """Fit ``edge = offset + stride * unit``; upsampled units may lie around it in turns."""
    units = sorted(edges)
    for period in range(1, len(units) // 2 + 1):
        steps = {edges[a] - edges[b] for a, b in zip(units[period:], units, strict=False)}
        if len(steps) == 1:
            stride = steps.pop() / period
            offsets = [edges[j] - stride * j for j in units[:period]]
            return stride, sum(offsets) / period
    return None


def _from_centroids(probe: _Probe, layer: str) -> list[_Axis | None]:
    """Measure along ``[y, x]`` by where the gradient is strongest, for units in the middle."""
    counts = probe.grid(layer)
    units = [
        (round(share * (counts[0] - 1)), round(share * (counts[1] - 1)))
        for share in (0.25, 0.4, 0.5, 0.6, 0.75)
    ]
    cell = [max(1, round(probe.size[axis] / counts[axis])) for axis in (0, 1)]
    centroids: list[dict[int, float]] = [{}, {}]
    for unit in dict.fromkeys(units):
        magnitude = probe.magnitude(layer, *unit)
        above = np.clip(magnitude - np.median(magnitude), 0, None)
        if above.sum() <= 0:
            return [None, None]
        # the brightest cell and its surroundings: what is mixed in from afar is everywhere
        means = sliding_window_view(above, cell).mean((2, 3))
        top = np.unravel_index(means.argmax(), means.shape)
        near = [slice(max(0, t - c // 2), t + c + c // 2) for t, c in zip(top, cell, strict=True)]
        for axis in (0, 1):
            share = above[near[0], near[1]].sum(1 - axis)
            places = np.arange(probe.size[axis])[near[axis]] + 0.5
            centroids[axis][unit[axis]] = float(share @ places / share.sum())
    extents = probe.extents(layer, [units[2]])
    found: list[_Axis | None] = []
    for axis in (0, 1):
        expected = probe.size[axis] / counts[axis]
        at = np.array(list(centroids[axis]), dtype=np.float64)
        stride, offset = expected, float("nan")
        if len(at) > 1:
            stride, offset = np.polyfit(at, list(centroids[axis].values()), 1).tolist()
        field = max((float(e[1] - e[0]) for e in extents[axis].values() if e), default=0.0)
        usable = math.isfinite(offset) and abs(stride / expected - 1) < 0.35
        found.append(_Axis(stride, offset, field) if usable else None)
    return found


def _assumed(layer: str, grid: MapFormat, size: tuple[int, int], reason: str) -> list[_Axis]:
    """Give an even grid over the image, along ``[y, x]``, with a warning."""
    warn(
        f"where the units of layer {layer!r} look can't be measured ({reason}); "
        f"an even grid of {grid.height} x {grid.width} units over the image is assumed"
    )
    return [
        _Axis(n / count, n / count / 2, float(n))
        for n, count in zip(size, (grid.height, grid.width), strict=True)
    ]
