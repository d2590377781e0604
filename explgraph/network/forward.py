"""Running a network over images: rectified maps of some of its layers, batch by batch.

The model runs in evaluation and inference mode, each forward pass only as far as the last layer
(`hooks.catch`). What the modules give is checked (finite) and rectified at zero.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from explgraph.errors import ExplgraphError, one_line
from explgraph.images.batches import AnyImages, batches, count
from explgraph.images.taken import described
from explgraph.network.geometry import Layer
from explgraph.network.hooks import alone, catch, check_model, model_device, model_dtype
from explgraph.network.map_formats import read_maps
from explgraph.network.preprocessing import warn_if_unlike
from explgraph.network.wrappers import plain_state
from explgraph.progress import Shown, bar

__all__ = [
    "check_finite",
    "checked_device",
    "checked_layers",
    "fingerprint",
    "of_size",
    "on_device",
    "rectified_maps",
    "stream",
    "with_bar",
]

T = TypeVar("T")


def stream(
    model: nn.Module,
    images: AnyImages,
    layers: Sequence[Layer],
    *,
    image_size: tuple[int, int],
    batch_size: int = 32,
    device: str | torch.device = "auto",
    progress: Shown = None,
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Go through the rectified activations of layers that were measured before.

    Parameters
    ----------
    model, images, batch_size, device, progress
        As for `explgraph.record`.
    layers : sequence of Layer
        As `explgraph.record` and `measure_layers` give them.
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
        As `explgraph.record`, and if the images are of another size or a layer gives other shapes
        than they were measured with.
    """
    check_model(model)
    checked_layers([layer.name for layer in layers])
    with on_device(model, device):
        source = _noticed(model, images, of_size(batches(images, batch_size), image_size))
        yield from with_bar(rectified_maps(model, source, layers), count(images), progress)


def _noticed(
    model: nn.Module, images: AnyImages, source: Iterator[tuple[tuple[str, ...], Tensor]]
) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Pass batches on; warn if the first of a Dataset isn't as the model's images should be.

    What is in memory or in a folder was compared with the graph's images (`images.taken`).
    """
    for k, (names, batch) in enumerate(source):
        if k == 0 and not isinstance(images, Tensor) and not described(images):
            warn_if_unlike(model, images, batch)
        yield names, batch


def fingerprint(model: nn.Module) -> str:
    """Give a digest of a model's weights: names, types, shapes and bytes of its state.

    Returns
    -------
    str
        SHA-256, hexadecimal.
    """
    digest = hashlib.sha256()
    for name, value in plain_state(model).items():
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
    except (RuntimeError, TypeError) as err:
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
    with alone(model) if target != before else nullcontext():  # while it is elsewhere
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


def rectified_maps(
    model: nn.Module,
    source: Iterator[tuple[tuple[str, ...], Tensor]],
    layers: Sequence[Layer],
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Run the model over batches and give each layer's rectified maps."""
    formats = {layer.name: layer.format for layer in layers}
    device, dtype = model_device(model), model_dtype(model)
    for names, batch in source:

        def keep(layer: str, output: Any, names: tuple[str, ...] = names) -> Tensor:
            maps = read_maps(output, len(names), formats[layer], layer)
            check_finite(maps, layer, names)
            # a tensor made in inference mode could not be changed later
            with torch.inference_mode(False), torch.no_grad():
                return maps.to("cpu", torch.float32).clamp(min=0).contiguous()

        with torch.inference_mode():
            caught, _ = catch(model, batch.to(device, dtype), list(formats), keep)
        yield names, {name: caught[name] for name in formats}


def with_bar(
    runs: Iterable[tuple[tuple[str, ...], T]],
    total: int | None,
    progress: Shown,
    told: str = "recording",
) -> Iterator[tuple[tuple[str, ...], T]]:
    """Show a progress bar beside."""
    with bar(shown=progress, total=total, desc=told, unit="image") as shown:
        for names, caught in runs:
            yield names, caught
            shown.update(len(names))
