"""A positive stand-in for a network, whose gradients show which pixels a unit can see.

The gradient of a unit of the trained network is zero where a rectifier is closed, where another
unit won a max pooling, and where weights cancel, so that its extent varies from image to image.
Inside ``with PositiveNetwork():`` the same forward pass runs with these operations replaced:

1. Convolutions and linear layers average with random positive weights (a tap that is exactly zero
   in all of them stays out), without a bias, and are scaled to a maximum of 1. They are of low rank
   over the filters, since only places matter: a few maps are mixed from all of the input's,
   convolved, and mixed into all of the output's. That makes large networks cheap to probe.
2. Max pooling averages; rectifiers, normalisations and clipping pass everything on.
3. What gathers from the whole image and so knows no place is cut off: global pooling (the gates
   of squeeze-and-excitation networks) and, unless asked for, attention.

All values stay positive, so that nothing cancels and no activation function is shut: a gradient is
not zero exactly within the theoretical receptive field. Everything else (padding, slicing,
additions, resizing, a module's own code) is the network's own. Neither parameters nor buffers are
touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["PositiveNetwork"]

_NORMALISATIONS = frozenset(
    {"batch_norm", "layer_norm", "group_norm", "instance_norm", "local_response_norm", "rms_norm"}
)
_RECTIFIERS = frozenset(
    {"relu", "relu_", "relu6", "hardtanh", "hardtanh_", "clamp", "clamp_", "clip", "clip_"}
)
_PRODUCTS = frozenset({"matmul", "__matmul__", "bmm", "einsum"})
_CONVOLUTIONS = {
    "conv2d": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "conv_transpose2d": (
        *("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
    ),
}
# maps that stand for all filters in a convolution; with one, a normalisation over the filters that
# is written out by hand would leave nothing
_RANK = 4


class PositiveNetwork(TorchFunctionMode):
    """Context in which every torch function does what the module docstring says.

    Parameters
    ----------
    seed : int
        Of the weights.
    attention : bool
        Let attention gather from all tokens, evenly, in place of cutting it off.
    changed : int
        Where so many images of a batch, more than one, are changes of the first, what gathers from
        the whole image is cut off by giving all of them what the first has.

    Attributes
    ----------
    attended : bool
        Whether attention has run so far.
    """

    def __init__(self, seed: int = 0, *, attention: bool = False, changed: int = 1) -> None:
        super().__init__()
        self.attended = False
        self._changed = changed
        self._attention = attention
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "_set_grad_enabled":
            return None  # a backbone that a model freezes by no_grad is to be measured all the same
        if name in _CONVOLUTIONS:
            given = dict(zip(_CONVOLUTIONS[name], args, strict=False)) | kwargs
            return self._convolve(func, transposed=name != "conv2d", **given)
        if name == "linear":
            given = dict(zip(("input", "weight"), args, strict=False)) | kwargs
            return self._mix_linear(given["input"], given["weight"])
        if name in _NORMALISATIONS or name in _RECTIFIERS:
            return args[0] if args else kwargs["input"]
        if name == "max_pool2d":
            return _mean_pool(func, args, kwargs)
        if name in {"multi_head_attention_forward", "scaled_dot_product_attention", "softmax"}:
            return self._attend(func, args, kwargs)
        if name in _PRODUCTS and self._is_linear_attention(name, args):
            return self._attend(func, args, kwargs)
        if name in _PARAMETER_OPERATIONS and not all(isinstance(a, nn.Parameter) for a in args):
            neutral = _PARAMETER_OPERATIONS[name]
            args = tuple(neutral(a) if isinstance(a, nn.Parameter) else a for a in args)
        result = func(*args, **kwargs)
        if self._changed > 1:
            if _is_global(args, result) and result.shape[0] == self._changed:
                return result[:1].expand_as(result).clone()
            return result
        return result.detach() if _is_global(args, result) and result.requires_grad else result

    def _weights(self, source: Tensor, *shape: int) -> Tensor:
        """Positive weights like `source`, their sum about 1 over the second dimension."""
        weights = 0.5 + torch.rand(shape, generator=self._generator, dtype=torch.float32)
        return (weights / shape[1]).to(source)

    def _convolve(
        self,
        func: Callable[..., Tensor],
        *,
        transposed: bool,
        input: Tensor,  # noqa: A002
        weight: Tensor,
        bias: Any = None,  # noqa: ARG002
        groups: int = 1,
        **rest: Any,
    ) -> Tensor:
        """Run a convolution, also a transposed one, with positive weights of low rank."""
        filters = weight.shape[1] * groups if transposed else weight.shape[0]
        kernel = torch.ones(weight.shape[2:], dtype=torch.float32)
        for axis, taps in enumerate(kernel.shape):
            if taps > 2:
                # outer taps weigh most: the far ends of deep networks must not underflow to zero
                ramp = torch.full((taps,), 0.2 / (taps - 2), dtype=torch.float32)
                ramp[[0, -1]] = 0.4
                if self._changed > 1:
                    # inner ones where the mean place counts: what is padded shifts it less
                    ramp = 1.0 + torch.minimum(torch.arange(taps), torch.arange(taps).flip(0))
                kernel *= ramp[:, None] if axis == 0 else ramp
        alive = (weight.detach() != 0).flatten(0, 1).any(0).cpu()
        kernel *= alive if alive.any() else 1
        few = F.conv2d(input, self._weights(input, _RANK, input.shape[1], 1, 1))
        few = func(
            few, kernel.to(input).expand(_RANK, 1, *kernel.shape), None, groups=_RANK, **rest
        )
        return F.conv2d(_scaled(few), self._weights(input, filters, _RANK, 1, 1))

    def _mix_linear(self, source: Tensor, weight: Tensor) -> Tensor:
        """Run a linear layer with positive weights of low rank."""
        few = F.linear(source, self._weights(source, _RANK, weight.shape[1]))
        return F.linear(_scaled(few), self._weights(source, weight.shape[0], _RANK))

    def _attend(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run attention, or give zeros for what it would have gathered."""
        result = func(*args, **kwargs)
        weights = result if getattr(func, "__name__", "") == "softmax" else None
        if weights is not None and not _is_attention(args, kwargs, weights):
            return result
        self.attended = True
        if self._attention:
            return result
        if isinstance(result, tuple):
            return (torch.zeros_like(result[0]), *result[1:])
        return torch.zeros_like(result)

    def _is_linear_attention(self, name: str, args: tuple[Any, ...]) -> bool:
        """Tell products of what tokens give with what tokens give: attention without a softmax."""
        given = args[1:] if name == "einsum" else args
        factors = [f for f in given if isinstance(f, Tensor) and f.ndim >= 3]
        return sum(map(self._hangs_on_images, factors)) > 1

    def _hangs_on_images(self, values: Tensor) -> bool:
        """Tell what is computed from the images from what a model holds."""
        if self._changed == 1:
            return values.requires_grad and not isinstance(values, nn.Parameter)
        if len(values) % self._changed:
            return False
        by_image = values.reshape(self._changed, -1)
        return not torch.equal(by_image[0], by_image[-1])


_PARAMETER_OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    # a bias or scale that is a parameter must make nothing negative, nor vanish
    "add": torch.zeros_like,
    "add_": torch.zeros_like,
    "mul": torch.ones_like,
    "mul_": torch.ones_like,
}


def _scaled(values: Tensor) -> Tensor:
    """Scale to a maximum of 1, without a gradient through the scale."""
    if not values.numel():
        return values
    largest = values.detach().abs().amax()
    return values / torch.where(largest > 0, largest, 1)


def _pair(value: Any) -> tuple[int, int]:
    """Give ``(rows, columns)`` of an int or a pair."""
    if isinstance(value, int):
        return value, value
    return (int(value[0]), int(value[-1]))


def _mean_pool(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Average over the windows of a max pooling."""
    names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
    given = dict(zip(names, args, strict=False)) | kwargs
    source: Tensor = given["input"]
    kernel = _pair(given["kernel_size"])
    stride = _pair(given.get("stride") or kernel)
    padding, dilation = _pair(given.get("padding", 0)), _pair(given.get("dilation", 1))
    shape = func(*args, **kwargs).shape
    # ceil_mode lets the last window reach beyond the padding
    beyond = [
        max(0, (shape[2 + a] - 1) * stride[a] + dilation[a] * (kernel[a] - 1) + 1 - reach)
        for a, reach in ((a, source.shape[2 + a] + 2 * padding[a]) for a in (0, 1))
    ]
    padded = F.pad(source, (padding[1], padding[1] + beyond[1], padding[0], padding[0] + beyond[0]))
    channels = source.shape[1]
    window = torch.full(
        (channels, 1, *kernel), 1 / math.prod(kernel), dtype=source.dtype, device=source.device
    )
    pooled = F.conv2d(padded, window, None, stride, 0, dilation, channels)
    return pooled[:, :, : shape[2], : shape[3]]


def _is_attention(args: tuple[Any, ...], kwargs: dict[str, Any], weights: Tensor) -> bool:
    """Tell the weights of tokens for tokens from other uses of softmax."""
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    return (
        weights.ndim >= 3
        and dim in (-1, weights.ndim - 1)
        and weights.shape[-1] > 1
        and weights.shape[-2] > 1
    )


def _is_global(args: tuple[Any, ...], result: Any) -> bool:
    """Tell whether a function pooled maps over all their positions."""
    source = args[0] if args else None
    if not (
        isinstance(source, Tensor)
        and isinstance(result, Tensor)
        and source.ndim == 4
        and result.ndim >= 2
        and result.shape[0] == source.shape[0]
        and result.numel() < source.numel()
    ):
        return False
    left = [d for d in result.shape[1:] if d > 1]
    return len(left) <= 1 and all(d in (source.shape[1], source.shape[3]) for d in left)
