"""Reading a module's output as feature maps ``(N, C, H, W)``, and writing maps back into it.

A layout says what the dimensions of an output are: N images, C filters, H rows, W columns.

- ``"NCHW"`` and ``"NHWC"``, or these letters in any other order.
- ``"N(HW)C"``: tokens ``(N, H W, C)``, row by row; ``"N(WH)C"``: column by column. ``"N(1+HW+4)C"``
  has one token before the grid and four behind it that stand for no place (class tokens,
  registers). ``"NC(HW)"`` and ``"(HW)NC"`` have the same dimensions in other orders.
- ``"NLC"``: tokens whose order is none of these; `MapFormat.order` lists them.

Which layout a layer has is measured (`layout`), or stated by the user.

What is below zero is cut off by default. Where both signs of a module's C channels are wanted, they
are 2 C filters: first the channels, then the channels with the other sign.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from explgraph.errors import ExplgraphError

__all__ = [
    "SIGNS",
    "MapFormat",
    "only_grid",
    "read_maps",
    "stated_format",
    "tensors_of",
    "write_maps",
]

SIGNS = ("positive", "both")
_TOKENS = re.compile(r"\((?:(\d{1,4})\+)?(HW|WH)(?:\+(\d{1,4}))?\)")
# how many leading tokens (class token, registers) are looked for where "NLC" is stated
_MOST_PREFIX_TOKENS = 16


class _Layout(NamedTuple):
    """A layout taken apart: axes like "NCHW" or "NLC", and which of L's tokens are the grid."""

    axes: str
    before: int = 0
    after: int = 0
    by_column: bool = False


def _taken_apart(layout: str) -> _Layout:
    """Take a layout apart.

    Raises
    ------
    ExplgraphError
        If it is none.
    """
    if isinstance(layout, str):
        group = _TOKENS.search(layout)
        axes = _TOKENS.sub("L", layout)
        if sorted(axes) in (sorted("NCHW"), sorted("NCL")):
            before, order, after = group.groups() if group else (None, None, None)
            return _Layout(axes, int(before or 0), int(after or 0), order == "WH")
    raise ExplgraphError(
        f"layout {layout!r} isn't known; expected letters for images, filters, rows and columns as "
        "'NCHW' or 'NHWC', or for tokens 'N(HW)C', 'N(1+HW)C' (one class token in front) or 'NLC'"
    )


@dataclass(frozen=True)
class MapFormat:
    """How a module's output is read as feature maps.

    Attributes
    ----------
    layout : str
        See the module.
    channels, height, width : int
        Shape of one image's maps.
    order : tuple of int
        Which token stands for each unit, row by row; empty where the layout says it.
    signs : str
        "positive", or "both": the second half of the channels is the first with the other sign.

    Raises
    ------
    ExplgraphError
        If the layout or the signs aren't known, or the order isn't one of so many units.
    """

    layout: str
    channels: int
    height: int
    width: int
    order: tuple[int, ...] = ()
    signs: str = "positive"

    def __post_init__(self) -> None:
        _taken_apart(self.layout)
        if self.signs not in SIGNS:
            raise ExplgraphError(f"signs must be {' or '.join(SIGNS)}, got {self.signs!r}")
        if self.both and self.channels % 2:
            raise ExplgraphError(
                f"both signs of a module's channels are an even number of filters, got "
                f"{self.channels}"
            )
        if self.order or "L" in self.layout:
            whole = all(type(token) is int and token >= 0 for token in self.order)
            if not whole or not len(set(self.order)) == len(self.order) == self.height * self.width:
                raise ExplgraphError(
                    f"layout {self.layout!r}: order must name {self.height * self.width} tokens, "
                    "each once"
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        return self.channels, self.height, self.width

    @property
    def both(self) -> bool:
        """Whether filters are both signs of channels."""
        return self.signs == "both"

    @property
    def images_axis(self) -> int:
        """Which dimension of the output counts the images."""
        return _taken_apart(self.layout).axes.index("N")

    def at_other_size(
        self, shape: Sequence[int], growth: tuple[float, float], layer: str
    ) -> MapFormat:
        """Give the format on images of another size.

        Parameters
        ----------
        shape : sequence of int
            Of the whole output, one number for each of the layout's axes.
        growth : (float, float)
            How many times as high and as wide the images are.
        layer : str
            Named in errors.

        Raises
        ------
        ExplgraphError
            If the tokens make no grid that has grown like the images.
        """
        parts = _taken_apart(self.layout)
        sizes = dict(zip(parts.axes, shape, strict=True))
        if "H" in sizes:
            return MapFormat(self.layout, sizes["C"], sizes["H"], sizes["W"])
        count = sizes["L"] - parts.before - parts.after
        wanted = self.height * growth[0], self.width * growth[1]
        grids = [
            (h, count // h)
            for h in range(1, count + 1)
            if count % h == 0 and max(abs(h - wanted[0]), abs(count // h - wanted[1])) <= 1
        ]
        if self.order or len(grids) != 1:
            raise ExplgraphError(f"layer {layer!r}: its tokens are no grid on other images")
        return MapFormat(self.layout, sizes["C"], *grids[0])


def _fits(tensor: Tensor, n: int, grid: MapFormat) -> bool:
    """Whether a tensor has the shape that a format tells of."""
    parts = _taken_apart(grid.layout)
    if tensor.ndim != len(parts.axes):
        return False
    sizes = dict(zip(parts.axes, tensor.shape, strict=True))
    if (sizes["N"], sizes["C"] * (1 + grid.both)) != (n, grid.channels):
        return False
    if "H" in sizes:
        return (sizes["H"], sizes["W"]) == (grid.height, grid.width)
    units = grid.height * grid.width
    if grid.order:
        return sizes["L"] > max(grid.order) and len(grid.order) == units
    return sizes["L"] == parts.before + units + parts.after


def _view(tensor: Tensor, grid: MapFormat) -> Tensor:
    """View a tensor as ``(N, C, H, W)``, or ``(N, C, L)`` where the tokens have an order."""
    parts = _taken_apart(grid.layout)
    if "H" in parts.axes:
        return tensor.permute([parts.axes.index(a) for a in "NCHW"])
    tokens = tensor.permute([parts.axes.index(a) for a in "NCL"])
    if grid.order:
        return tokens
    tokens = tokens[:, :, parts.before : tokens.shape[2] - parts.after]
    if parts.by_column:
        return _folded(tokens, grid.width, grid.height).transpose(2, 3)
    return _folded(tokens, grid.height, grid.width)


def _folded(tokens: Tensor, slow: int, fast: int) -> Tensor:
    """View ``(N, C, slow * fast)`` as ``(N, C, slow, fast)``."""
    n, c, _ = tokens.shape
    return tokens.view(n, c, slow, fast)


def read_maps(output: Any, n: int, grid: MapFormat, layer: str) -> Tensor:
    """Read a module's output as maps whose format is known.

    Parameters
    ----------
    output : Tensor, or nested tuples, lists and mappings with one tensor of 3 or 4 dimensions
    n : int
        Number of images.
    grid : MapFormat
    layer : str
        Named in errors.

    Returns
    -------
    (n, C, H, W) float

    Raises
    ------
    ExplgraphError
        If the output has another shape.
    """
    tensor = only_grid(output, n, layer, grid.images_axis)
    if not _fits(tensor, n, grid):
        raise ExplgraphError(
            f"layer {layer!r} gives {tuple(tensor.shape[1:])} per image, expected the maps "
            f"(C, H, W) = {grid.shape} in the layout {grid.layout}; the model or the image size "
            "isn't the one that the layer was measured on"
        )
    maps = _view(tensor, grid)
    if grid.order:
        index = torch.tensor(grid.order, device=tensor.device)
        maps = _folded(maps.index_select(2, index), grid.height, grid.width)
    return torch.cat([maps, -maps], 1) if grid.both else maps


def write_maps(tensor: Tensor, maps: Tensor, grid: MapFormat) -> None:
    """Write maps ``(n, C, H, W)`` in their places in a tensor that `read_maps` read them from."""
    view = _view(tensor, grid)
    if grid.both:
        # each side counts above zero alone: there the other says the same
        above, below = maps.relu().chunk(2, 1)
        maps = above - below
    if grid.order:
        view[:, :, list(grid.order)] = maps.flatten(2)
    else:
        view.copy_(maps)


def tensors_of(output: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and mappings."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        return [t for value in output.values() for t in tensors_of(value)]
    if isinstance(output, (tuple, list)):
        return [t for value in output for t in tensors_of(value)]
    return []


def only_grid(output: Any, n: int, layer: str, axis: int | None = 0) -> Tensor:
    """Pick the one tensor of an output that can hold a grid for each of `n` images.

    Parameters
    ----------
    output : any
    n : int
    layer : str
        Named in errors.
    axis : int, optional
        Which counts the images; None for the first or, of three, the second.
    """
    tensors = [t for t in tensors_of(output) if t.is_floating_point()]
    grids = [t for t in tensors if t.ndim in (3, 4)]
    fit = [t for t in grids if t.shape[axis or 0] == n]
    if axis is None and not fit:
        fit = [t for t in grids if t.ndim == 3 and t.shape[1] == n]
    if len(fit) == 1:
        return fit[0]
    shapes = ", ".join(str(tuple(t.shape)) for t in tensors) or type(output).__name__
    if not fit:
        raise ExplgraphError(
            f"layer {layer!r} has no spatial grid: for {n} images it gives {shapes}, expected "
            "(N, C, H, W) maps or (N, tokens, D) tokens; choose a layer before the pooling or, "
            "where it cuts images into windows, the block around it"
        )
    raise ExplgraphError(
        f"layer {layer!r} gives several tensors that could be its maps: {shapes}; choose a module "
        "with a single output"
    )


def stated_format(
    layout: str, shape: Sequence[int], image_size: tuple[int, int], layer: str
) -> MapFormat:
    """Read an output's shape by the layout that the user states.

    Tokens are the grid whose shape is nearest to the image's; with ``"NLC"`` behind the fewest
    leading tokens that leave a grid of square patches.

    Parameters
    ----------
    layout : str
    shape : sequence of int
        Of the output.
    image_size : (int, int)
        ``(H, W)`` px.
    layer : str
        Named in errors.

    Raises
    ------
    ExplgraphError
        If the layout isn't known or doesn't fit the shape.
    """
    parts = _taken_apart(layout)
    if len(parts.axes) != len(shape):
        raise ExplgraphError(
            f"layer {layer!r} gives {tuple(shape)}, which isn't the layout {layout!r}"
        )
    sizes = dict(zip(parts.axes, shape, strict=True))
    if "H" in sizes:
        return MapFormat(layout, sizes["C"], sizes["H"], sizes["W"])
    if "L" in layout:
        before, height, width = _square_patches(sizes["L"], image_size, layer)
        tokens = f"({before}+HW)" if before else "(HW)"
        return MapFormat(layout.replace("L", tokens), sizes["C"], height, width)
    count = sizes["L"] - parts.before - parts.after
    grids = [(h, count // h) for h in range(2, count // 2 + 1) if count % h == 0]
    if not grids:
        raise ExplgraphError(
            f"layer {layer!r}: {max(count, 0)} tokens, which the layout {layout!r} leaves of "
            f"{sizes['L']}, make no grid of rows and columns"
        )
    wanted = math.log(image_size[0] / image_size[1])
    return MapFormat(
        layout, sizes["C"], *min(grids, key=lambda g: abs(math.log(g[0] / g[1]) - wanted))
    )


def _square_patches(tokens: int, image_size: tuple[int, int], layer: str) -> tuple[int, int, int]:
    """Find a grid of square patches behind the fewest leading tokens: how many, rows, columns."""
    height, width = image_size
    sides = range(1, min(image_size) // 2 + 1)
    exact = [s for s in sides if height % s == 0 and width % s == 0]
    # patches that leave nothing over go first: others give many more counts to coincide with
    for patches in (exact, sides):
        by_count = {(height // s) * (width // s): (height // s, width // s) for s in patches}
        for before in range(min(_MOST_PREFIX_TOKENS, tokens) + 1):
            if tokens - before in by_count:
                return (before, *by_count[tokens - before])
    raise ExplgraphError(
        f"layer {layer!r}: its {tokens} tokens are no grid of square patches on an image of "
        f"{height} x {width}, with up to {_MOST_PREFIX_TOKENS} leading tokens left out"
    )
