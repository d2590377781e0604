"""What mining fitted, in one record: made by mining, kept in a graph's file, used by parsing.

`Fitted.pack` names every array, `Fitted.unpack` reads them again and checks them whole: shapes,
indices and finite numbers, so that parsing never stumbles over them later.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explgraph.errors import ExplgraphError
from explgraph.network.geometry import Layer
from explgraph.statistics.mixture import Grid
from explgraph.statistics.pose import PoseModel, displacements
from explgraph.statistics.pose_reader import Guides, PoseReader, Prepared, Stage, read_poses

__all__ = ["Fitted", "FittedLayer"]

Arrays = Mapping[str, NDArray[Any]]


class FittedLayer(NamedTuple):
    """The mixtures of a layer's C filters, with K patterns each.

    Attributes
    ----------
    scale : (C,)
        By which a filter's maps are divided: then its squares sum to 1 per image in mean. 0 for
        filters that never vary.
    mean : (C, K, 2)
        Usual place [x, y], px.
    loading : (C, K, 2, q)
        How it moves with the poses, px for each unit.
    sigma : (C, K)
        Spread, px.
    share : (C, K)
        Of the filter's squared activation; 0 for a pattern that there is not.
    background : (C,)
        The background's share.
    decoys : (D,)
        Reliabilities above 0 that patterns of decoys have, descending.
    """

    scale: Tensor
    mean: Tensor
    loading: Tensor
    sigma: Tensor
    share: Tensor
    background: Tensor
    decoys: Tensor

    def expected(self, poses: Tensor) -> Tensor:
        """Where the patterns should be at some poses (n, q): ``(n, C, K, 2)`` px."""
        return self.mean + displacements(self.loading, poses)


class Fitted(NamedTuple):
    """All that parsing needs.

    Attributes
    ----------
    reader : PoseReader
        Of the images' poses.
    layers : dict of int to FittedLayer
        By layer index.
    """

    reader: PoseReader
    layers: dict[int, FittedLayer]

    def prepared(self, grids: Mapping[int, Grid]) -> Prepared:
        """Prepare the reader for maps on some grids, by layer index."""
        return Prepared.of(self.reader, grids)

    def poses(
        self,
        maps: Mapping[int, Tensor],
        grids: Mapping[int, Grid],
        prepared: Prepared | None = None,
    ) -> Tensor:
        """Read poses ``(n, q)`` off maps (n, C, H, W) by layer index, divided by their scale."""
        return read_poses(self.reader, maps, grids, prepared)

    def pack(self) -> dict[str, NDArray[Any]]:
        """Name all arrays: ``layer/<index>/<name>``, ``pose/<name>``, ``pose/<look>/<name>``."""
        arrays: dict[str, Tensor] = {}
        for index, layer in self.layers.items():
            arrays |= {f"layer/{index}/{name}": value for name, value in layer._asdict().items()}
        for name in _PLAIN:
            arrays[f"pose/{name}"] = getattr(self.reader, name)
        for name, value in self.reader.guides._asdict().items():
            arrays[f"pose/guide_{name}"] = value
        for look, stage in enumerate(self.reader.stages):
            here = f"pose/{look}"
            arrays |= {f"{here}/window": stage.window, f"{here}/scale": stage.scale}
            arrays |= {f"{here}/{name}": value for name, value in stage.model._asdict().items()}
        return {name: value.detach().cpu().numpy() for name, value in arrays.items()}

    @classmethod
    def unpack(
        cls, arrays: Arrays, layers: Sequence[Layer], device: str | torch.device = "cpu"
    ) -> Fitted:
        """Read what `pack` named, and check it.

        Parameters
        ----------
        arrays : mapping of str to array
        layers : sequence of Layer
            Those that were mined.
        device : torch.device

        Returns
        -------
        Fitted

        Raises
        ------
        ExplgraphError
            If an array is missing, has another shape or type than it must have, or holds a number
            that can't be; the message names it.
        """
        read = _Reader(arrays, device)
        reader = _unpack_reader(read, "pose", layers)
        q = reader.exemplars.shape[1]
        fitted = {
            layer.index: _unpack_layer(read, f"layer/{layer.index}", layer, q) for layer in layers
        }
        return cls(reader, fitted)


_FAR = 1e6  # px, and poses; images have 16384 px a side at most
_NARROW = 1e-3  # px; the reciprocal's square must be finite in float32
_LARGE = 1e15  # of activations, whose squares must be finite in float32
_LEAST = 1e-6  # of the background's share; mining leaves it more
_WHOLE = 1e-3  # by which shares may miss 1
_PLAIN = ("reach", "exemplars", "checks", "check_sigma", "check_scale")


class _Reader:
    """Arrays by name, checked as they are read."""

    def __init__(self, arrays: Arrays, device: str | torch.device) -> None:
        self._arrays, self._device = arrays, device

    def has(self, start: str) -> bool:
        """Whether there is an array whose name starts so."""
        return any(name.startswith(start) for name in self._arrays)

    def size(self, name: str, axis: int, dims: int, least: int = 0) -> int:
        """Length of an array along an axis."""
        array = self._array(name)
        if array.ndim != dims:
            raise _wrong(name, f"has {array.ndim} dimensions, expected {dims}")
        if array.shape[axis] < least:
            raise _wrong(name, "is empty")
        return int(array.shape[axis])

    def number(
        self, name: str, shape: tuple[int, ...], low: float = -_FAR, high: float = _FAR
    ) -> Tensor:
        """Read finite float32 numbers of a shape, from `low` to `high`."""
        array = self._checked(name, shape, np.float32)
        if not np.isfinite(array).all():
            raise _wrong(name, "holds a number that is not finite")
        if (array < np.float32(low)).any() or (array > np.float32(high)).any():
            raise _wrong(name, f"holds a number that is not from {low:g} to {high:g}")
        return torch.from_numpy(np.array(array)).to(self._device)

    def index(self, name: str, shape: tuple[int, ...], below: int) -> Tensor:
        """Read int64 indices of a shape, 0 or more and less than `below`."""
        array = self._checked(name, shape, np.int64)
        if array.size and not 0 <= array.min() <= array.max() < below:
            raise _wrong(name, f"holds an index that is not from 0 to {below - 1}")
        return torch.from_numpy(np.array(array)).to(self._device)

    def _checked(self, name: str, shape: tuple[int, ...], kind: type) -> NDArray[Any]:
        array = self._array(name)
        if array.dtype != kind or array.shape != shape:
            raise _wrong(name, f"is {array.dtype} {array.shape}, expected {np.dtype(kind)} {shape}")
        return array

    def _array(self, name: str) -> NDArray[Any]:
        if name not in self._arrays:
            raise ExplgraphError(
                f"the graph lacks the parameter {name!r}, so it can't be parsed; mine it again"
            )
        return np.asarray(self._arrays[name])


def _wrong(name: str, what: str) -> ExplgraphError:
    return ExplgraphError(f"the graph's parameter {name!r} {what}; mine it again")


def _unpack_layer(read: _Reader, here: str, layer: Layer, q: int) -> FittedLayer:
    c = layer.channels
    k = read.size(f"{here}/sigma", 1, 2, least=1)
    fitted = FittedLayer(
        read.number(f"{here}/scale", (c,), 0, _LARGE),
        read.number(f"{here}/mean", (c, k, 2)),
        read.number(f"{here}/loading", (c, k, 2, q)),
        read.number(f"{here}/sigma", (c, k), _NARROW),
        read.number(f"{here}/share", (c, k), 0, 1 + _WHOLE),
        read.number(f"{here}/background", (c,), _LEAST, 1 + _WHOLE),
        read.number(f"{here}/decoys", (read.size(f"{here}/decoys", 0, 1),), 0, 1),
    )
    if ((fitted.share.sum(1) + fitted.background - 1).abs() > _WHOLE).any():
        raise _wrong(f"{here}/share", "and the background don't add up to 1")
    return fitted


def _unpack_reader(read: _Reader, here: str, layers: Sequence[Layer]) -> PoseReader:
    u = read.size(f"{here}/guide_layer", 0, 1, least=1)
    channels = {layer.index: layer.channels for layer in layers}
    guides = Guides(
        read.index(f"{here}/guide_layer", (u,), max(channels, default=0) + 1),
        read.index(f"{here}/guide_filter", (u,), max(channels.values(), default=0)),
    )
    for index, filter_ in zip(guides.layer.tolist(), guides.filter.tolist(), strict=True):
        if filter_ >= channels.get(index, 0):
            raise _wrong(f"{here}/guide_filter", f"names filter {filter_} of layer {index}")
    # maps are put side by side layer by layer, so guides and checks must come in that order
    runs = [i for i, _ in itertools.groupby(guides.layer.tolist())]
    if len(set(runs)) < len(runs):
        raise _wrong(f"{here}/guide_layer", "has a layer in two places")
    stages: list[Stage] = []
    while not stages or read.has(f"{here}/{len(stages)}/"):
        look = f"{here}/{len(stages)}"
        q = read.size(f"{look}/loading", 2, 3)
        model = PoseModel(
            read.number(f"{look}/mean", (u, 2)),
            read.number(f"{look}/loading", (u, 2, q)),
            read.number(f"{look}/variance", (u,), _NARROW**2, _FAR**2),
        )
        # the first look is for peaks, the others have a window
        window = read.number(f"{look}/window", (1,), _NARROW if stages else 0)
        stages.append(Stage(window, read.number(f"{look}/scale", (u,), 0, _LARGE), model))
    q = stages[-1].model.loading.shape[2]
    exemplars = read.size(f"{here}/exemplars", 0, 2, least=1)
    checks = read.size(f"{here}/checks", 0, 1, least=1)
    checked = read.index(f"{here}/checks", (checks,), u)
    if (checked.diff() <= 0).any():
        raise _wrong(f"{here}/checks", "is not ascending")
    return PoseReader(
        guides,
        tuple(stages),
        read.number(f"{here}/reach", (1,), 0),
        read.number(f"{here}/exemplars", (exemplars, q)),
        checked,
        read.number(f"{here}/check_sigma", (1,), _NARROW),
        read.number(f"{here}/check_scale", (checks,), 0, _LARGE),
    )
