"""Take gradients through a network, and say what keeps it from giving any."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from explgraph.errors import ExplgraphError, one_line

__all__ = ["gradients_of"]


def gradients_of(
    output: Tensor, inputs: Sequence[Tensor], weights: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Differentiate what a network gave; its graph is kept, to be gone through again.

    Parameters
    ----------
    output : (...)
        One number, or any shape with `weights` of the same.
    inputs : sequence of Tensor
        What it depends on, or doesn't: zeros then.
    weights : (...), optional
        Of each number of the output in the sum that is differentiated.

    Returns
    -------
    tuple of Tensor
        Of the inputs' shapes.

    Raises
    ------
    ExplgraphError
        If the forward pass changed in place what the gradient needs.
    """
    try:
        return torch.autograd.grad(
            output, inputs, weights, retain_graph=True, materialize_grads=True
        )
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as err:
        if "inplace operation" not in str(err):
            raise
        raise ExplgraphError(
            "no gradient can be taken through the model, for its forward pass changes in place "
            "what the gradient needs (as x += ... and x.relu_() do); let it make new tensors there "
            f"(x = x + ..., x.relu()): {one_line(err)}"
        ) from err
