"""Batches of images that know what the model takes beside them.

`FedImages` are made by `images.further.WithInputs` and taken apart where the model is called
(`network.hooks.called`). Between, they are tensors like any other, which keep each image's inputs
with it through slicing, copying, moving, and repeating one image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["FedImages", "for_each", "inputs_of", "rows_of"]


# what may put rows in another order: its results don't know whose they are
_MIXING = {"flip", "gather", "index_select", "movedim", "permute", "roll", "sort", "transpose"}


class FedImages(Tensor):
    """A batch of images (n, 3, H, W) with the inputs of its rows."""

    further: Mapping[str, Any]

    @classmethod
    def of(cls, batch: Tensor, further: Mapping[str, Any]) -> FedImages:
        """Put a batch and its further inputs together."""
        with torch._C.DisableTorchFunctionSubclass():
            fed = batch.as_subclass(cls)
        fed.further = further
        return fed

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Any = (),
        kwargs: Any = None,
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
        source = next((a for a in args if isinstance(a, cls) and hasattr(a, "further")), None)
        if (
            source is None
            or getattr(func, "__name__", "") in _MIXING
            or not isinstance(result, Tensor)
            or isinstance(result, cls)
        ):
            return result
        with torch._C.DisableTorchFunctionSubclass():
            if result.ndim != 4 or source.ndim != 4:
                return result
            n, m = len(source), len(result)
        if func is Tensor.__getitem__:
            rows = isinstance(args[1], list) and all(type(row) is int for row in args[1])
            if not rows and not isinstance(args[1], slice):
                return result
            return cls.of(result, rows_of(source.further, args[1]))
        if m == n:
            return cls.of(result, source.further)
        if n == 1:  # copies of one image
            return cls.of(result, rows_of(source.further, [0] * m))
        return result

    def apart(self) -> tuple[Tensor, dict[str, Any]]:
        """Give the images, and what the model takes beside them, on their device in their type."""
        with torch._C.DisableTorchFunctionSubclass():
            images = self.as_subclass(Tensor)
        ready = {}
        for name, value in self.further.items():
            if isinstance(value, Tensor):
                kind = images.dtype if value.is_floating_point() else value.dtype
                ready[name] = value.to(images.device, kind)
            else:
                ready[name] = value
        return images, ready

    def content(self) -> bytes:
        """Give what further inputs hold, to be digested."""
        parts = []
        for name, value in sorted(self.further.items()):
            held = value.cpu().numpy().tolist() if isinstance(value, Tensor) else value
            parts.append(f"{name}={held!r}")
        return "\n".join(parts).encode("utf-8", "backslashreplace")


def inputs_of(batch: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Take a batch and its further inputs apart; most have none."""
    return batch.apart() if isinstance(batch, FedImages) else (batch, {})


def for_each(value: object) -> bool:
    """Whether an input holds a value for each image."""
    return isinstance(value, (Tensor, list))


def rows_of(inputs: Mapping[str, Any], which: slice | Sequence[int]) -> dict[str, Any]:
    """Take some rows of inputs."""
    some = {}
    for name, value in inputs.items():
        if not for_each(value):
            some[name] = value
        elif isinstance(which, slice) or isinstance(value, Tensor):
            some[name] = value[which]
        else:
            some[name] = [value[i] for i in which]
    return some
