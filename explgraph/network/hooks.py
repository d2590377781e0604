"""Run a model and catch what named modules give, as feature maps.

1. Forward hooks are put on the modules and removed again whatever happens.
2. The forward pass ends as soon as every layer has been caught, so that heads need not run.
3. Outputs are read as maps ``(N, C, H, W)``: as they are, from channels-last ``(N, H, W, C)``, or
   from a vision transformer's tokens ``(N, tokens, D)``.

Threads may share a model: forward passes of one model with hooks are run one at a time, and a hook
acts in the thread only that put it on, so that other calls of the model, the user's own among them,
run as if there was none.

A layer is addressed by its module's name in ``model.named_modules()``, or as ``"name@k"``, the
k-th call (from 0) of a module that runs more than once in a forward pass.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from explgraph.errors import ExplgraphError, nearest, one_line

__all__ = [
    "MapFormat",
    "Widths",
    "alone",
    "catch",
    "check_model",
    "feature_widths",
    "find_format",
    "find_formats",
    "hooked",
    "model_device",
    "model_dtype",
    "only_grid",
    "read_maps",
    "split_layer",
    "tensors_of",
]

T = TypeVar("T")

# how many leading tokens (class token, registers) are looked for in front of a token grid
_MOST_PREFIX_TOKENS = 16


Hook = Callable[[nn.Module, Any, Any], Any]

_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_GUARD = threading.Lock()  # over the locks, and over torch's numbering of hooks


class _AllCaught(BaseException):
    """Ends a forward pass early; no ``Exception``, lest a model's own handlers swallow it."""


@dataclass(frozen=True)
class MapFormat:
    """How a module's output is read as feature maps.

    Attributes
    ----------
    kind : {"maps", "channels_last", "tokens"}
        Order of the output's dimensions: ``(N, C, H, W)``, ``(N, H, W, C)``, ``(N, tokens, D)``.
    channels, height, width : int
        Shape of one image's maps.
    """

    kind: Literal["maps", "channels_last", "tokens"]
    channels: int
    height: int
    width: int


def split_layer(model: nn.Module, layer: str) -> tuple[str, int | None]:
    """Split ``"name@k"`` into the module's name and the call; the call is None without ``@``.

    Raises
    ------
    ExplgraphError
        If the model has no such module (the nearest names are offered) or the call is no number.
    """
    modules = {name for name, _ in model.named_modules() if name}
    if layer in modules:
        return layer, None
    name, at, call = layer.rpartition("@")
    if at and name in modules:
        if not call.isdecimal():
            raise ExplgraphError(
                f"layer {layer!r}: after '@' the number of the call is expected, counted from 0, "
                f"as in '{name}@0'"
            )
        return name, int(call)
    wanted = name if at else layer
    # the end of a long path is what tells names apart, so compare that too
    ends = [m for m in modules if m.endswith("." + wanted.rpartition(".")[2])]
    hint = nearest(wanted, modules) or nearest(wanted, ends)
    raise ExplgraphError(
        f"the model has no layer {wanted!r}{hint or '; see model.named_modules() for the names'}"
    )


def check_model(model: nn.Module) -> None:
    """Refuse what is no module, and a model in training mode.

    Raises
    ------
    ExplgraphError
        In training mode, batch normalisation and dropout make an image's activations depend on
        chance and on the other images, and recording would change the model's statistics.
    """
    if not isinstance(model, nn.Module):
        raise ExplgraphError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    for name, module in model.named_modules():
        if module.training:
            where = f"its module {name!r}" if name else "the model"
            raise ExplgraphError(
                f"the model must be in evaluation mode, but {where} is in training mode; "
                "call model.eval() first"
            )


@contextmanager
def alone(model: nn.Module) -> Iterator[None]:
    """Keep other threads that use explgraph away from a model."""
    with _GUARD:
        lock = _LOCKS.setdefault(model, threading.RLock())
    with lock:
        yield


@contextmanager
def hooked(model: nn.Module, hooks: Mapping[str, Hook]) -> Iterator[None]:
    """Put forward hooks on modules, by name, for this thread alone; remove them again."""
    mine = threading.get_ident()
    modules = dict(model.named_modules())
    handles: list[RemovableHandle] = []

    def here_only(hook: Hook) -> Hook:
        def inside(module: nn.Module, inputs: Any, output: Any) -> Any:
            return hook(module, inputs, output) if threading.get_ident() == mine else None

        return inside

    with alone(model):
        try:
            with _GUARD:
                handles.extend(
                    modules[name].register_forward_hook(here_only(hook))
                    for name, hook in hooks.items()
                )
            yield
        finally:
            with _GUARD:
                for handle in handles:
                    handle.remove()


def catch(
    model: nn.Module,
    batch: Tensor,
    layers: Sequence[str],
    keep: Callable[[str, Any], T],
    *,
    whole: bool = False,
    absent_ok: bool = False,
) -> tuple[dict[str, T], dict[str, int]]:
    """Run the model on a batch and keep something of each layer's output.

    Parameters
    ----------
    model : torch.nn.Module
    batch : (N, 3, H, W) float
    layers : sequence of str
        Module names, or ``"name@k"``; a plain name is the module's first call.
    keep : callable
        ``keep(layer, output)`` is called as soon as the module is done (later modules may change
        the output in place); what it returns is kept.
    whole : bool
        Run the whole forward pass, to count the calls; otherwise it ends with the last layer.
    absent_ok : bool
        Leave out layers that don't run, if any does.

    Returns
    -------
    kept : dict
        ``{layer: keep(layer, output)}`` in the order of execution.
    calls : dict
        How often each layer's module ran (at least, unless `whole`).

    Raises
    ------
    ExplgraphError
        If the forward pass fails or ends before every layer has run.
    """
    wanted: dict[str, dict[int, str]] = {}
    for layer in layers:
        name, call = split_layer(model, layer)
        first = wanted.setdefault(name, {}).setdefault(call or 0, layer)
        if layers.count(layer) > 1 or first != layer:
            raise ExplgraphError(f"layers names {first!r} twice; name each layer once")
    calls = dict.fromkeys(wanted, 0)
    kept: dict[str, T] = {}

    def hook_for(name: str) -> Hook:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            layer = wanted[name].get(calls[name])
            calls[name] += 1
            if layer is not None:
                kept[layer] = keep(layer, output)
                if len(kept) == len(layers) and not whole:
                    raise _AllCaught

        return hook

    failure: Exception | None = None
    try:
        with hooked(model, {name: hook_for(name) for name in wanted}):
            model(batch)
    except _AllCaught:
        pass
    except ExplgraphError:
        raise
    except Exception as err:
        failure = err  # a head that doesn't fit the image's size is no concern of ours
    missing = [layer for layer in layers if layer not in kept and not (absent_ok and kept)]
    if missing and failure is not None:
        raise ExplgraphError(
            f"the model fails on images of size {tuple(batch.shape[1:])} before layer "
            f"{missing[0]!r} has run: {one_line(failure)}"
        ) from failure
    if missing:
        name, call = split_layer(model, missing[0])
        times = calls[name]
        raise ExplgraphError(
            f"layer {missing[0]!r}: its module runs {times} times in a forward pass, so the last "
            f"call is '{name}@{times - 1}'"
            if times and call
            else f"layer {missing[0]!r} doesn't run in the model's forward pass (its hooks are "
            "never called); choose another, see explgraph.list_layers"
        )
    return kept, {layer: calls[split_layer(model, layer)[0]] for layer in layers}


def tensors_of(output: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and mappings."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        return [t for value in output.values() for t in tensors_of(value)]
    if isinstance(output, (tuple, list)):
        return [t for value in output for t in tensors_of(value)]
    return []


def only_grid(output: Any, n: int, layer: str) -> Tensor:
    """Pick the one tensor of an output that can hold a grid for each of `n` images."""
    tensors = [t for t in tensors_of(output) if t.is_floating_point()]
    fit = [t for t in tensors if t.ndim in (3, 4) and t.shape[0] == n]
    if len(fit) == 1:
        return fit[0]
    shapes = ", ".join(str(tuple(t.shape)) for t in tensors) or type(output).__name__
    if not fit:
        raise ExplgraphError(
            f"layer {layer!r} has no spatial grid: for {n} images it gives {shapes}, expected "
            "(N, C, H, W) maps or (N, tokens, D) tokens; choose a layer before the pooling"
        )
    raise ExplgraphError(
        f"layer {layer!r} gives several tensors that could be its maps: {shapes}; choose a module "
        "with a single output"
    )


def _aspect_error(height: int, width: int, image_size: tuple[int, int]) -> float:
    """How far a grid's shape is from the image's: ``|log|`` of the ratio of the aspect ratios."""
    return abs(math.log((height / width) / (image_size[0] / image_size[1])))


class Widths(NamedTuple):
    """Widths that occur in a model: of its convolutions, and of its vectors and matrices."""

    maps: frozenset[int]
    vectors: frozenset[int]


def feature_widths(model: nn.Module) -> Widths:
    """Give the widths in a model, which help to tell the dimensions of its outputs apart."""
    sizes = [tuple(p.shape) for p in model.parameters()]
    return Widths(
        frozenset(s[0] for s in sizes if len(s) == 4),
        frozenset(n for s in sizes if len(s) <= 2 for n in s),
    )


def find_format(
    output: Any,
    n: int,
    image_size: tuple[int, int],
    layer: str,
    widths: Widths,
) -> MapFormat:
    """Find out how a module's output is to be read as maps.

    Channels-last is taken only where it fits the image's shape clearly better than channels-first,
    a linear layer or normalisation is as wide as the last dimension, and no convolution as the
    first.
    Tokens are a grid of square patches, ``(H // s) (W // s)`` of them for a whole ``s`` (that
    divides the image's sides, if one fits), after the fewest leading tokens (class token,
    registers) that leave such a number.

    Parameters
    ----------
    output : Tensor, or nested tuples, lists and mappings with one tensor of 3 or 4 dimensions
    n : int
        Number of images.
    image_size : (int, int)
        ``(H, W)`` px.
    layer : str
        Named in errors.
    widths : Widths
        In the model, see `feature_widths`.

    Raises
    ------
    ExplgraphError
        If there is no spatial grid, or it is not clear which tensor holds it.
    """
    tensor = only_grid(output, n, layer)
    if tensor.ndim == 3:
        grid = _token_format(tensor, image_size, layer)
    else:
        _, a, b, c = tensor.shape
        grid = MapFormat("maps", a, b, c)
        if (
            _aspect_error(a, b, image_size) < 0.02
            and _aspect_error(b, c, image_size) > 0.1
            and c in widths.vectors
            and a not in widths.maps
        ):
            grid = MapFormat("channels_last", c, a, b)
    # far more units than pixels are no grid, but for instance the windows of windowed attention
    if not (2 <= grid.height <= 2 * image_size[0] and 2 <= grid.width <= 2 * image_size[1]):
        raise ExplgraphError(
            f"layer {layer!r} has no spatial grid: one image of {image_size[0]} x {image_size[1]} "
            f"gives {tuple(tensor.shape[1:])}, that is {grid.height} x {grid.width} units; choose "
            "a layer before the pooling"
        )
    return grid


def _token_format(tensor: Tensor, image_size: tuple[int, int], layer: str) -> MapFormat:
    """Find the grid in ``(N, tokens, D)``, see `find_format`."""
    tokens, depth = int(tensor.shape[1]), int(tensor.shape[2])
    height, width = image_size
    sides = range(1, min(image_size) // 2 + 1)
    exact = [s for s in sides if height % s == 0 and width % s == 0]
    # patches that leave nothing over go first: others give many more counts to coincide with
    for patches in (exact, sides):
        by_count = {(height // s) * (width // s): (height // s, width // s) for s in patches}
        for prefix in range(min(_MOST_PREFIX_TOKENS, tokens) + 1):
            if tokens - prefix in by_count:
                return MapFormat("tokens", depth, *by_count[tokens - prefix])
    raise ExplgraphError(
        f"layer {layer!r} has no spatial grid: its {tokens} tokens are no grid of square patches "
        f"on an image of {height} x {width}, with up to {_MOST_PREFIX_TOKENS} leading tokens left "
        "out; choose another layer"
    )


def read_maps(output: Any, n: int, shape: tuple[int, int, int], layer: str) -> Tensor:
    """Read a module's output as maps whose shape is known.

    Parameters
    ----------
    output : Tensor, or nested tuples, lists and mappings with one tensor of 3 or 4 dimensions
    n : int
        Number of images.
    shape : (int, int, int)
        ``(C, H, W)`` that `find_format` found.
    layer : str
        Named in errors.

    Returns
    -------
    (n, C, H, W) float
        A view of the output.

    Raises
    ------
    ExplgraphError
        If the output has another shape.
    """
    tensor = only_grid(output, n, layer)
    channels, height, width = shape
    if tensor.shape[1:] == shape:
        return tensor
    if tensor.shape[1:] == (height, width, channels):
        return tensor.permute(0, 3, 1, 2)
    prefix = tensor.shape[1] - height * width
    tokens = tensor.ndim == 3 and tensor.shape[2] == channels
    if tokens and 0 <= prefix <= _MOST_PREFIX_TOKENS:
        return tensor[:, -height * width :].transpose(1, 2).reshape(n, *shape)
    raise ExplgraphError(
        f"layer {layer!r} gives {tuple(tensor.shape[1:])} per image, expected the maps (C, H, W) = "
        f"{shape}; the model or the image size isn't the one that the layer was measured on"
    )


def find_formats(
    model: nn.Module, batch: Tensor, layers: Collection[str]
) -> tuple[dict[str, MapFormat], dict[str, int]]:
    """Run the whole model once and find each layer's grid.

    Parameters
    ----------
    model : torch.nn.Module
    batch : (N, 3, H, W) float
        One or two images are enough.
    layers : collection of str

    Returns
    -------
    grids : dict
        By layer, in the order of execution.
    calls : dict
        How often each layer's module ran.

    Raises
    ------
    ExplgraphError
        For an unknown layer, one without a spatial grid, one that doesn't run, and one that runs
        more than once but is not addressed by call.
    """
    n, size = batch.shape[0], (int(batch.shape[2]), int(batch.shape[3]))
    widths = feature_widths(model)
    found, calls = catch(
        model,
        batch,
        list(layers),
        lambda layer, output: _try(lambda: find_format(output, n, size, layer, widths)),
        whole=True,
    )
    for layer, times in calls.items():
        if times > 1 and split_layer(model, layer)[1] is None:
            raise ExplgraphError(
                f"layer {layer!r} runs {times} times in a forward pass; say which call is meant: "
                f"'{layer}@0' ... '{layer}@{times - 1}'"
            )
    for grid in found.values():
        if isinstance(grid, ExplgraphError):
            raise grid
    return {layer: g for layer, g in found.items() if isinstance(g, MapFormat)}, calls


def _try(find: Callable[[], MapFormat]) -> MapFormat | ExplgraphError:
    """Give back the error in place of raising it, for later, when it is known to matter."""
    try:
        return find()
    except ExplgraphError as err:
        return err


def model_device(model: nn.Module) -> torch.device:
    """Give the device of the model's first parameter or buffer; the CPU if it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def model_dtype(model: nn.Module) -> torch.dtype:
    """Give the floating type of the model's first parameter; float32 if it has none."""
    for tensor in model.parameters():
        if tensor.is_floating_point():
            return tensor.dtype
    return torch.float32
