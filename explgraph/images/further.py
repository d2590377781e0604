"""What a model takes beside images: constants, and values of each image that go where it goes.

`WithInputs` holds images and their further inputs; batches of it carry them (`fed_images`) to where
the model is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from explgraph.brief import few
from explgraph.errors import ExplgraphError
from explgraph.fed_images import FedImages, for_each, rows_of

__all__ = ["WithInputs", "check_without_inputs"]


class WithInputs(Dataset[Any]):
    """Images with what the model takes beside them.

    It is taken wherever images are, and the model is called as
    ``model(batch, **inputs)`` with the inputs of the batch's images.

    Parameters
    ----------
    images : path of a folder, ImageFolder, (N, C, H, W) tensor, Dataset, DataLoader, ...
        Photographs of a folder are made ready as ever, but places are not told in their own pixels,
        and the graph doesn't remember where they are.
    **inputs
        By the names of the model's arguments. Tensors, arrays, lists and tuples hold a value for
        each of the N images, in their order; anything else (numbers, texts, None) is the same for
        all. For a tensor that is the same for all: ``tensor.expand(N, ...)``.

    Raises
    ------
    ExplgraphError
        If there are no inputs, or not one for each image.
    """

    images: Any

    def __init__(self, images: Any, **inputs: Any) -> None:
        if isinstance(images, WithInputs):
            images, inputs = images.images, {**images.inputs, **inputs}
        if not inputs:
            raise ExplgraphError(
                "WithInputs needs what the model takes beside images, by the names of its "
                "arguments: WithInputs(images, age=ages)"
            )
        self.images = images
        self.inputs = {name: _rows(name, value) for name, value in inputs.items()}
        # a loader's length is that of its batches; a path or a photograph is not counted yet
        if isinstance(images, (Tensor, Dataset, list, tuple)):
            with suppress(TypeError):  # the number will be known at the end
                self.check_length(len(self.images))

    def __repr__(self) -> str:
        return f"WithInputs: {few(self.inputs)} beside {type(self.images).__name__}"

    def check_length(self, n: int) -> None:
        """Refuse inputs that are not one for each of n images."""
        for name, value in self.inputs.items():
            if for_each(value) and len(value) != n:
                raise ExplgraphError(
                    f"input {name!r} holds {len(value)} values for {n} images; give one for each, "
                    "in their order"
                )

    def of(self, which: Sequence[int]) -> dict[str, Any]:
        """Give the inputs of some images."""
        return rows_of(self.inputs, which)

    def fed(self, batch: Tensor, start: int) -> FedImages:
        """Put a batch that begins with image number `start` together with its inputs."""
        rows = rows_of(self.inputs, slice(start, start + len(batch)))
        if any(for_each(value) and len(value) < len(batch) for value in rows.values()):
            self.check_length(start + len(batch))
        return FedImages.of(batch, rows)


def check_without_inputs(images: object) -> None:
    """Refuse images with further inputs, where others are drawn that can have none."""
    if isinstance(images, WithInputs):
        raise ExplgraphError(
            f"images hold further inputs ({', '.join(images.inputs)}), and images that are drawn "
            "have none; give the model a forward pass of images alone, and plain images"
        )


def _rows(name: str, value: Any) -> Any:
    """Bring an input into its form: a tensor or a list of values for each image, or a constant."""
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(v, Tensor) and v.shape == value[0].shape for v in value):
            return torch.stack(list(value))
        if value and all(isinstance(v, (int, float, bool, np.number, np.bool_)) for v in value):
            value = np.asarray(value)
        else:
            return list(value)
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            return value.tolist()
        value = torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Tensor):
        if value.ndim == 0:
            raise ExplgraphError(
                f"input {name!r} is a tensor without a dimension; give a number, which is the same "
                "for all images, or (N, ...) with a value for each"
            )
        return value.detach()
    return value
