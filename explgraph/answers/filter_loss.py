"""Filters that stand for one part: a layer and a loss for training loops of your own.

An ordinary filter fires at several places of an image. Two plain torch modules teach the filters
of a layer to fire at one, with no annotation of parts:

1. `PartMask`, behind the layer's ReLU, keeps of every map what lies around its strongest unit, so
   that the layers above can use nothing else.
2. `FilterLoss`, added to the task's loss, rewards maps that look like a single peak, wherever it
   is: it is minus the mutual information of maps and *templates*, of which there is one for every
   unit at which a part may be, and one for its absence.

In a training loop::

    mask, filter_loss = PartMask(), FilterLoss()
    maps = relu(conv(x))  # (N, C, H, W)
    loss = task_loss(head(mask(maps).mean((2, 3))), targets) + filter_loss(maps)

References
----------
Zhang, Wu, Zhu: Interpretable Convolutional Neural Networks, CVPR 2018 (arXiv 1710.00935).
"""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor, nn

from explgraph.errors import ExplgraphError

__all__ = ["FilterLoss", "PartMask", "templates"]

_TINY = 1e-12


def templates(height: int, width: int, *, beta: float = 4.0) -> Tensor:
    """Make the ideal maps of a filter that stands for one part, without the paper's factor tau.

    The template of a unit is 1 there and falls linearly with the L1 distance, down to -1. The
    negative template, for images without the part, is -1 everywhere.

    Parameters
    ----------
    height, width : int
        Units of a map.
    beta : float
        How fast templates fall: to 0 at 1 / beta of the map's side.

    Returns
    -------
    (height * width + 1, height, width) float32
        Positive templates row by row, then the negative one.

    References
    ----------
    CVPR 2018, section 3, "Part templates". Departure: maps need not be square; distances are
    divided by the side that they run along.
    """
    rows, columns = torch.arange(height) / height, torch.arange(width) / width
    vertical = (rows[:, None] - rows).abs()
    horizontal = (columns[:, None] - columns).abs()
    distance = vertical[:, None, :, None] + horizontal[None, :, None, :]
    positive = (1 - beta * distance).clamp(min=-1).reshape(-1, height, width)
    return torch.cat([positive, -torch.ones(1, height, width)])


class PartMask(nn.Module):
    """Keep of every map what lies around its strongest unit.

    A map ``x`` becomes ``relu(x * T)`` with the template ``T`` of its strongest unit (the first of
    equals). Gradients flow through what is kept; which unit it is has none.

    Parameters
    ----------
    beta : float
        How narrow the kept region is: nothing is left from the L1 distance 1 / beta of the side.

    References
    ----------
    CVPR 2018, section 3, "During the forward-propagation process". Departure: without the
    template's factor tau, as in the authors' code, so that peaks keep their value.
    """

    def __init__(self, *, beta: float = 4.0) -> None:
        super().__init__()
        self.beta = _positive("beta", beta)

    def extra_repr(self) -> str:
        """Show the option."""
        return f"beta={self.beta:g}"

    def forward(self, maps: Tensor) -> Tensor:
        """Mask maps (N, C, H, W) >= 0; the same shape comes back."""
        _check_maps(maps)
        height, width = maps.shape[2:]
        positive = templates(height, width, beta=self.beta)[:-1].to(maps)
        return torch.relu(maps * positive[maps.flatten(2).argmax(dim=2)])


class FilterLoss(nn.Module):
    """Minus the mutual information of maps and templates, averaged over filters.

    Of one filter's maps ``x`` in a batch and templates ``T``, with ``fit = sum_u x[u] T[u]``:
    ``p(x | T)`` is the softmax of ``tau fit`` over the batch's images, ``p(T)`` is `alpha` in equal
    shares for the positive templates and ``1 - alpha`` for the negative one, and

        loss = - sum_T p(T) sum_x p(x | T) log(p(x | T) / p(x)),  p(x) = sum_T p(T) p(x | T).

    It lies between minus the logarithm of the batch's size and 0: there is nothing to learn from a
    batch of one image.

    Parameters
    ----------
    tau : float
        How sharply maps must fit: what ``tau fit`` is for a map of a single unit, of the filter's
        usual peak, and this unit's template. With 1 two peaks are worth more than one, from 2 on
        one is.
    beta : float
        How fast templates fall; see `templates`.
    alpha : float, optional
        Probability that the part is there, in (0, 1). By default ``n / (1 + n)`` for n units, as
        in the paper: all templates are equally probable.

    References
    ----------
    CVPR 2018, eqs. 1 and 2. Departures: (1) maps are divided by the filter's mean peak in the
    batch, a constant for the gradient, so that `tau` means the same in every network and a filter
    gains nothing by merely growing; the paper takes ``tau = 0.5 / n`` for raw activations. (2) The
    gradient is that of eq. 1. The paper's eq. 4 holds the normalisers ``Z`` constant and keeps one
    template per map, by the image's category; here all templates count and no category is needed.
    """

    def __init__(self, *, tau: float = 2.0, beta: float = 4.0, alpha: float | None = None) -> None:
        super().__init__()
        self.tau = _positive("tau", tau)
        self.beta = _positive("beta", beta)
        if alpha is not None and not 0 < alpha < 1:
            raise ExplgraphError(f"alpha must lie between 0 and 1, got {alpha!r}")
        self.alpha = alpha

    def extra_repr(self) -> str:
        """Show the options."""
        alpha = "n / (1 + n)" if self.alpha is None else f"{self.alpha:g}"
        return f"tau={self.tau:g}, beta={self.beta:g}, alpha={alpha}"

    def forward(self, maps: Tensor) -> Tensor:
        """Compute the loss of maps (N, C, H, W) >= 0: a scalar."""
        _check_maps(maps)
        c, height, width = maps.shape[1:]
        units = height * width
        # sums of exponentials need more than half precision
        flat = maps.flatten(2).to(torch.promote_types(maps.dtype, torch.float32))
        peak = flat.detach().amax(dim=2).mean(dim=0).clamp(min=_TINY)
        shapes = templates(height, width, beta=self.beta).flatten(1).to(flat)
        fit = (flat / peak[:, None]) @ (self.tau * shapes).T  # (N, C, templates)
        log_prior = self._log_prior(units).to(flat)
        log_given = fit.log_softmax(dim=0)
        log_any = (log_given + log_prior).logsumexp(dim=2, keepdim=True)
        joint = (log_given + log_prior).exp()
        return -(joint * (log_given - log_any)).sum() / c

    def _log_prior(self, units: int) -> Tensor:
        """Logarithm of every template's probability, (units + 1,)."""
        alpha = units / (1 + units) if self.alpha is None else self.alpha
        return torch.tensor([math.log(alpha / units)] * units + [math.log(1 - alpha)])


def _positive(name: str, value: float) -> float:
    """Refuse what is no positive number."""
    if not isinstance(value, Real) or not 0 < value < math.inf:
        raise ExplgraphError(f"{name} must be a number above 0, got {value!r}")
    return float(value)


def _check_maps(maps: Tensor) -> None:
    """Refuse what can't be rectified maps; values aren't looked at, it would cost time."""
    if maps.ndim != 4 or not maps.is_floating_point() or 0 in maps.shape:
        raise ExplgraphError(
            f"maps must be float (N, C, H, W), none of them 0, got {maps.dtype} of the shape "
            f"{tuple(maps.shape)}; put the module behind a layer that keeps the grid"
        )
