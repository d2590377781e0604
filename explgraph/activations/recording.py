"""Recording: a model and images give rectified activations, layer by layer.

1. The layers are put in the order of execution and their unit centres are measured
   (`geometry.measure_layers`).
2. The model runs over the images in batches, in evaluation and inference mode, each forward pass
   only as far as the last layer (`hooks.catch`).
3. What the modules give is checked (finite) and rectified at zero.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import torch
from torch import Tensor, nn
from tqdm import tqdm

from explgraph.errors import ExplgraphError
from explgraph.geometry import Layer, measure_layers, noise, undisturbed
from explgraph.hooks import (
    catch,
    check_model,
    feature_widths,
    find_grid,
    model_device,
    model_dtype,
    one_line,
    read_maps,
)
from explgraph.images import Images, batches, count

if TYPE_CHECKING:
    from explgraph.store import ActivationStore

__all__ = [
    "Activations",
    "LayerSummary",
    "fingerprint",
    "list_layers",
    "of_size",
    "record",
    "stream",
    "suggest_layers",
]


@dataclass(frozen=True)
class Activations:
    """Rectified activations of some layers for some images, in memory.

    Attributes
    ----------
    layers : tuple of Layer
        In the order of execution.
    names : tuple of str
        Of the N images.
    image_size : (int, int)
        ``(H, W)`` px of the images as the network saw them.
    maps : list of (N, C, H, W) float32
        One tensor for each layer, >= 0.
    model_fingerprint : str
        Of the model's weights (`fingerprint`), empty if it isn't known.

    Raises
    ------
    ExplgraphError
        If shapes don't fit each other, or an activation is negative or not finite; names the
        layer, the image and the filter.
    """

    layers: tuple[Layer, ...]
    names: tuple[str, ...]
    image_size: tuple[int, int]
    maps: list[Tensor]
    model_fingerprint: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        # plain strings: numpy's own kind would not be plain JSON later
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        if not self.layers or len(self.layers) != len(self.maps):
            raise ExplgraphError(
                f"layers and maps must be as many, got {len(self.layers)} and {len(self.maps)}"
            )
        if not self.names:
            raise ExplgraphError("names is empty; at least one image is needed")
        for layer, values in zip(self.layers, self.maps, strict=True):
            shape = (len(self.names), layer.channels, layer.height, layer.width)
            if tuple(values.shape) != shape or values.dtype != torch.float32:
                raise ExplgraphError(
                    f"maps of layer {layer.name!r} must be float32 of the shape (N, C, H, W) = "
                    f"{shape}, got {values.dtype} of {tuple(values.shape)}"
                )
            check_finite(values, layer.name, self.names)
            if values.numel() and values.min() < 0:
                n, c = (values < 0).nonzero()[0, :2].tolist()
                raise ExplgraphError(
                    f"maps of layer {layer.name!r} must be rectified, but image {self.names[n]!r}, "
                    f"filter {c} is negative"
                )

    @property
    def n_images(self) -> int:
        """Number of images, N."""
        return len(self.names)

    @property
    def in_memory(self) -> bool:
        """True; those of a store are not."""
        return True

    @property
    def fingerprint(self) -> str:
        """A digest of the activations and the names of their images: SHA-256, hexadecimal."""
        about = [[layer.as_dict() for layer in self.layers], self.names, self.image_size]
        digest = hashlib.sha256(json.dumps(about).encode())
        for maps in self.maps:
            digest.update(maps.contiguous().numpy().data)
        return digest.hexdigest()

    def blocks(
        self, layer_index: int, size: int | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Go through a layer's maps in blocks of images.

        Parameters
        ----------
        layer_index : int
            0 is the lowest layer.
        size : int, optional
            Images in a block; all in one by default.
        start, stop : int
            Of the images; all by default.

        Yields
        ------
        slice
            Of the images.
        (n, C, H, W) float32
            Their maps; not to be changed.
        """
        maps = self.maps[layer_index]
        end = self.n_images if stop is None else stop
        step = size or max(1, self.n_images)
        for first in range(start, end, step):
            here = slice(first, min(first + step, end))
            yield here, maps[here]


@overload
def record(
    model: nn.Module,
    images: Images,
    layers: Sequence[str],
    *,
    store: None = None,
    dtype: str = "float16",
    batch_size: int = 32,
    device: str | torch.device = "auto",
    progress: bool = False,
) -> Activations: ...
@overload
def record(
    model: nn.Module,
    images: Images,
    layers: Sequence[str],
    *,
    store: str | os.PathLike[str],
    dtype: str = "float16",
    batch_size: int = 32,
    device: str | torch.device = "auto",
    progress: bool = False,
) -> ActivationStore: ...
def record(
    model: nn.Module,
    images: Images,
    layers: Sequence[str],
    *,
    store: str | os.PathLike[str] | None = None,
    dtype: str = "float16",
    batch_size: int = 32,
    device: str | torch.device = "auto",
    progress: bool = False,
) -> Activations | ActivationStore:
    """Record what some modules give for some images, rectified at zero.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode; it is moved to `device` and back again.
    images : ImageFolder, (N, 3, H, W) tensor, Dataset or DataLoader
        One object per image is assumed. See `images.batches`.
    layers : sequence of str
        Names of modules as in ``model.named_modules()``, in any order; ``"name@k"`` is the k-th
        call (from 0) of a module that runs more than once in a forward pass.
    store : path or URL, optional
        Where activations are kept (see `explgraph.store`); in memory by default. Recording that
        was interrupted goes on where it was, and what is finished is not recorded again. Needs
        images that can be counted and taken in any order.
    dtype : str
        Of a store: "float16", or "uint8", which takes half the place.
    batch_size : int
        Images at a time; at most 32 with a store.
    device : str or torch.device
        "auto" is the GPU if there is one, otherwise where the model is.
    progress : bool
        Show a bar, on a terminal, if it takes longer than two seconds.

    Returns
    -------
    Activations or ActivationStore

    Raises
    ------
    ExplgraphError
        For unknown layers (the nearest names are offered), layers without a spatial grid, a model
        in training mode, images that don't fit, activations that are NaN or infinite or too many
        for this machine's memory, and a store that was recorded from something else.
    """
    check_model(model)
    if store is not None:
        from explgraph.store import record_to_store

        return record_to_store(
            model,
            images,
            layers,
            store,
            dtype=dtype,
            batch_size=batch_size,
            device=device,
            progress=progress,
        )
    names = checked_layers(layers)
    # the maps are ordinary tensors, whatever mode the caller is in
    with torch.inference_mode(False), on_device(model, device):
        source = batches(images, batch_size)
        first = next(source)
        size = (int(first[1].shape[2]), int(first[1].shape[3]))
        measured = measure_layers(model, names, size)
        total = count(images)
        shapes = [(layer.channels, layer.height, layer.width) for layer in measured]
        _check_memory(4 * (total or 0) * sum(map(math.prod, shapes)))
        # one tensor from the start where the number of images is known: no second copy at the end
        maps = [
            torch.empty((total or 0, *shape), dtype=torch.float32, device="cpu") for shape in shapes
        ]
        pieces: list[list[Tensor]] = [[] for _ in measured]
        seen: list[str] = []
        runs = run(model, itertools.chain([first], source), measured)
        for here, caught in with_bar(runs, total, progress):
            for i, layer in enumerate(measured):
                if total is None:
                    pieces[i].append(caught[layer.name])
                else:
                    maps[i][len(seen) : len(seen) + len(here)] = caught[layer.name]
            seen.extend(here)
    if total is None:
        maps = [torch.cat(piece) for piece in pieces]
    return Activations(
        measured, tuple(seen), size, [m[: len(seen)] for m in maps], fingerprint(model)
    )


def _check_memory(need: int) -> None:
    """Refuse to hold more bytes than the machine has, before a long run over the images."""
    if not hasattr(os, "sysconf"):
        return  # Windows doesn't tell
    have = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need > have:
        raise ExplgraphError(
            f"the activations take {need / 1e9:.0f} GB, this machine has {have / 1e9:.0f} GB of "
            "memory; keep them on disk (store=..., --store)"
        )


def stream(
    model: nn.Module,
    images: Images,
    layers: Sequence[Layer],
    *,
    image_size: tuple[int, int],
    batch_size: int = 32,
    device: str | torch.device = "auto",
    progress: bool = False,
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Go through the rectified activations of layers that were measured before.

    Parameters
    ----------
    model, images, batch_size, device, progress
        As for `record`.
    layers : sequence of Layer
        As `record` and `measure_layers` give them.
    image_size : (int, int)
        ``(H, W)`` px that they were measured with.

    Yields
    ------
    names : tuple of str
    maps : dict
        ``{layer name: (n, C, H, W) float32 >= 0}`` on the CPU, in the order of `layers`.

    Raises
    ------
    ExplgraphError
        As `record`, and if the images are of another size or a layer gives other shapes than
        they were measured with.
    """
    check_model(model)
    checked_layers([layer.name for layer in layers])
    with on_device(model, device):
        source = of_size(batches(images, batch_size), image_size)
        yield from with_bar(run(model, source, layers), count(images), progress)


class LayerSummary(NamedTuple):
    """A layer that can be mined.

    Attributes
    ----------
    name : str
        Of the module.
    type : str
        The module's class.
    channels, height, width : int
        Shape of one image's maps, ``(C, H, W)``.
    calls : int
        How often it runs in a forward pass; above 1 it is addressed as ``"name@k"``, k from 0.
    """

    name: str
    type: str
    channels: int
    height: int
    width: int
    calls: int


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
        If the model is in training mode or no module gives maps on images of this size.
    """
    check_model(model)
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    modules = {name: module for name, module in model.named_modules() if name}
    with undisturbed(model), torch.no_grad():
        batch, widths = noise(model, size, n=2), feature_widths(model)

        def summarise(layer: str, output: Any) -> LayerSummary | None:
            try:
                grid = find_grid(output, len(batch), size, layer, widths)
            except ExplgraphError:
                return None
            kind = type(modules[layer]).__name__
            return LayerSummary(layer, kind, grid.channels, grid.height, grid.width, 1)

        found, calls = catch(model, batch, list(modules), summarise, whole=True, absent_ok=True)
    summaries = [s._replace(calls=calls[s.name]) for s in found.values() if s is not None]
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


def fingerprint(model: nn.Module) -> str:
    """Give a digest of a model's weights: names, types, shapes and bytes of its state.

    Returns
    -------
    str
        SHA-256, hexadecimal.
    """
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            flat = value.detach().reshape(-1).contiguous().cpu()
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_finite(values: Tensor, layer: str, names: Sequence[str]) -> None:
    """Refuse activations ``(n, C, H, W)`` that are NaN or infinite, naming image and filter."""
    # a sum is a quick test that a bad value can't pass
    if math.isfinite(values.sum().item()):
        return
    bad = (~values.isfinite()).flatten(2).any(2).nonzero()
    if len(bad):
        n, c = bad[0].tolist()
        kind = "NaN" if values[n, c].isnan().any() else "infinite"
        raise ExplgraphError(
            f"layer {layer!r} has an activation that is {kind}, in image {names[n]!r}, filter {c}; "
            "check the weights and the normalisation of the images (mean, std)"
        )


def checked_layers(layers: Sequence[str]) -> list[str]:
    """Give the layers' names as a list."""
    names = list(layers) if isinstance(layers, Iterable) else [layers]
    if isinstance(layers, str) or not all(isinstance(name, str) for name in names):
        raise ExplgraphError(f"layers must be a list of module names, got {layers!r}")
    if not names:
        raise ExplgraphError("layers is empty; name at least one module")
    return names


def checked_device(device: str | torch.device) -> torch.device:
    """Give the device that is meant, "auto" being the GPU if there is one; refuse others."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError as err:
        raise ExplgraphError(f"device {device!r} isn't known; auto, cpu or cuda are") from err
    if target.type == "cuda" and not torch.cuda.is_available():
        raise ExplgraphError(f"device {str(device)!r}: torch finds no GPU; use device='cpu'")
    if target.type == "meta":
        raise ExplgraphError("device 'meta' holds no values; use device='cpu'")
    return target


@contextmanager
def on_device(model: nn.Module, device: str | torch.device) -> Iterator[None]:
    """Move a model to a device, and back where it was at the end."""
    homes = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    before = model_device(model)
    if len(homes) > 1 or (device == "auto" and not torch.cuda.is_available()):
        yield  # a model that is spread over devices stays as it is
        return
    target = checked_device(device)
    try:
        try:
            model.to(target)
        except (RuntimeError, AssertionError, NotImplementedError) as err:
            raise ExplgraphError(
                f"device {str(device)!r} can't be used ({one_line(err)}); use device='cpu'"
            ) from err
        yield
    finally:
        model.to(before)


def of_size(
    source: Iterator[tuple[tuple[str, ...], Tensor]], image_size: tuple[int, int]
) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Pass batches on, and refuse images of another size."""
    for names, batch in source:
        if tuple(batch.shape[2:]) != tuple(image_size):
            raise ExplgraphError(
                "images are {} x {} px, expected {} x {}; resize them (ImageFolder's size)".format(
                    *batch.shape[2:], *image_size
                )
            )
        yield names, batch


def run(
    model: nn.Module,
    source: Iterator[tuple[tuple[str, ...], Tensor]],
    layers: Sequence[Layer],
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Run the model over batches and give each layer's rectified maps."""
    shapes = {layer.name: (layer.channels, layer.height, layer.width) for layer in layers}
    device, dtype = model_device(model), model_dtype(model)
    for names, batch in source:

        def keep(layer: str, output: Any, names: tuple[str, ...] = names) -> Tensor:
            maps = read_maps(output, len(names), shapes[layer], layer)
            check_finite(maps, layer, names)
            # a tensor made in inference mode could not be changed later
            with torch.inference_mode(False), torch.no_grad():
                return maps.to("cpu", torch.float32).clamp(min=0).contiguous()

        with torch.inference_mode():
            caught, _ = catch(model, batch.to(device, dtype), list(shapes), keep)
        yield names, {name: caught[name] for name in shapes}


def with_bar(
    runs: Iterator[tuple[tuple[str, ...], dict[str, Tensor]]], total: int | None, progress: bool
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Show a progress bar beside."""
    # disable=None: only on a terminal
    disable = None if progress else True
    with tqdm(total=total, desc="recording", unit="image", delay=2, disable=disable) as bar:
        for names, caught in runs:
            yield names, caught
            bar.update(len(names))
