"""Filters that stand for one part: a loss and a layer for training loops of your own.

An ordinary filter fires at several places of an image. Two plain torch modules teach the filters
of a layer to fire at one place, with no annotation of parts:

1. `PartMask`, behind the layer's ReLU, keeps of every map what lies around its strongest unit, so
   that the layers above can only use that.
2. `FilterLoss`, added to the task's loss, rewards maps that look like a single peak and that the
   position of the peak explains: the mutual information of maps and *templates* (`templates`), one
   template for each unit at which a part may be, and one for its absence.

    mask, interpretable = PartMask(), FilterLoss()
    maps = relu(conv(x))                      # (N, C, H, W)
    logits = head(mask(maps).mean((2, 3)))
    loss = task_loss(logits, targets) + weight * interpretable(maps)

References
----------
Zhang, Wu, Zhu: Interpretable Convolutional Neural Networks, CVPR 2018 (arXiv 1710.00935).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from explgraph.errors import ExplgraphError

__all__ = ["FilterLoss", "PartMask", "templates"]


def templates(height: int, width: int, *, beta: float = 4.0) -> Tensor:
    """Ideal maps of a filter that stands for one part, without the factor tau.

    The template of unit ``u`` falls from 1 at ``u`` to -1, linearly in the L1 distance. The
    negative template, for images without the part, is -1 everywhere.

    Parameters
    ----------
    height, width : int
        Units of a map.
    beta : float
        How fast templates fall: they reach 0 at the distance 1 / beta of the map's side.

    Returns
    -------
    (height * width + 1, height, width) float32
        Positive templates row by row, then the negative one.

    References
    ----------
    CVPR 2018, section 3, "Part templates". Departure: maps need not be square; distances are
    divided by the side that they run along.
    """
    rows = torch.arange(height).float() / height
    columns = torch.arange(width).float() / width
    vertical = (rows[:, None] - rows).abs()
    horizontal = (columns[:, None] - columns).abs()
    distance = vertical[:, None, :, None] + horizontal[None, :, None, :]
    positive = (1 - beta * distance).clamp(min=-1).reshape(-1, height, width)
    return torch.cat([positive, -torch.ones(1, height, width)])


class PartMask(nn.Module):
    """Keep of each map what lies around its strongest unit.

    ``relu(x * T)`` with the template ``T`` of the map's strongest unit (the first of equals). The
    gradient goes through what is kept; the choice of the unit has none.

    Parameters
    ----------
    beta : float
        How narrow the kept region is: nothing is left from the L1 distance 1 / beta of the side.

    References
    ----------
    CVPR 2018, section 3, "During the forward propagation". Departure: the template's factor tau
    is left out, as in the authors' code, so that peaks keep their value.
    """

    def __init__(self, *, beta: float = 4.0) -> None:
        super().__init__()
        self.beta = _positive("beta", beta)

    def extra_repr(self) -> str:
        """Show the options."""
        return f"beta={self.beta:g}"

    def forward(self, maps: Tensor) -> Tensor:
        """Mask rectified maps (N, C, H, W); the same shape comes back."""
        _check(maps)
        height, width = maps.shape[2:]
        positive = templates(height, width, beta=self.beta)[:-1].to(maps)
        return torch.relu(maps * positive[maps.flatten(2).argmax(2)])


class FilterLoss(nn.Module):
    """Minus the mutual information between a filter's maps and the templates, averaged over filters.

    With ``fit[x, T] = sum_u x[u] T[u]``, ``p(x | T)`` is the softmax of ``tau * fit`` over the
    batch's images, ``p(T)`` is `alpha` shared by the positive templates and ``1 - alpha`` for the
    negative one, ``p(x) = sum_T p(T) p(x | T)``, and

        loss = - sum_T p(T) sum_x p(x | T) log(p(x | T) / p(x)).

    It lies between minus the logarithm of the number of images and 0. A batch of one image teaches
    nothing: its loss is 0.

    Parameters
    ----------
    tau : float
        How sharply a map must fit: what a map gains that is 0 but for one unit of the usual
        strength, if that unit is the template's.
    beta : float
        How fast templates fall; see `templates`.
    alpha : float, optional
        Prior probability that the part is there; by default ``n / (1 + n)`` for n units, as in the
        paper, which makes all templates equally probable.

    References
    ----------
    CVPR 2018, eqs. 1 and 2. Departures: (1) maps are divided by the filter's mean peak over the
    batch (a constant for the gradient), so that `tau` means the same in every network, and a
    filter can't gain by growing; the paper takes ``tau = 0.5 / n`` of raw activations. (2) The
    gradient is that of eq. 1 itself, normalisers ``Z`` included. The paper's eq. 4 treats them as
    constants and keeps one template per map, chosen by the image's category; here all templates
    count, and no category is needed.
    """
