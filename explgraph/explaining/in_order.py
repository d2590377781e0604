"""Elements of a layer in an order: the first taken away, or kept alone, and the network runs on.

1. `added_by_units` says what each unit adds to its image's score; sums over what elements hold
   (`elements`) put these in order.
2. `Order.some` gives what the first elements hold, the last in part.
3. `LayerRun` replaces it, or all else, in a batch that has run, and gives the scores.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.explaining.attribution import MOST, added
from explgraph.explaining.elements import Holding
from explgraph.explaining.intervene import Change, Run, run
from explgraph.explaining.replaced import replaced
from explgraph.explaining.rerun import Rerun
from explgraph.network.geometry import Layer
from explgraph.network.outputs import Scorer

__all__ = ["LayerRun", "Order", "added_by_units"]

Array = NDArray[np.float64]

_CLOSE = 0.01  # sizes are equal to this share


def added_by_units(
    model: nn.Module,
    scorer: Scorer,
    batch: Tensor,
    layer: Layer,
    numbers: Tensor,
    baseline: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Give what each unit of a layer adds to the score of its image's class, in two ways.

    Parameters
    ----------
    batch : (n, 3, H, W)
    numbers : (n,)
        Of the images' classes.
    baseline : (n, C, H, W), optional
        The layer's maps where all is replaced; by default without activation.

    Returns
    -------
    along the way from the baseline, by gradient times activation : (n, C, H, W)
        See `attribution.added`. The first sum to the score less the score at the baseline, but for
        its residual.
    """
    whole_way: dict[int, Tensor] = {}
    one_step: dict[int, Tensor] = {}
    for number in sorted(set(numbers.tolist())):
        rows = (numbers == number).nonzero()[:, 0]
        some = batch[rows]
        start = None if baseline is None else baseline[rows]
        whole = run(model, some, [layer], scorer=scorer, gradients=True)
        for found, most in ((whole_way, MOST), (one_step, 1)):
            units = added(
                model, some, whole, layer, [number], scorer=scorer, baseline=start, most=most
            ).units[:, 0]
            found.update(zip(rows.tolist(), units, strict=True))
    return tuple(  # type: ignore[return-value]
        torch.stack([found[i] for i in range(len(batch))]) for found in (whole_way, one_step)
    )


class LayerRun:
    """A batch in the middle of its run, at one layer.

    Parameters
    ----------
    rerun : Rerun
        That has just run the batch.
    layer : str
    whole : Run
        What it gave.
    numbers : (n,)
        Of each image's class.
    instead : (n, C, H, W), or what broadcasts to it
        What stands in for what is replaced.

    Attributes
    ----------
    activation : (n, C, H, W)
        Rectified maps of the layer, at least float32.
    baseline : (n, C, H, W)
        The maps where all is replaced.
    scores : (n,) float64
        Of each image's class.
    """

    def __init__(
        self, rerun: Rerun, layer: str, whole: Run, numbers: Tensor, instead: Tensor | float
    ) -> None:
        self._rerun, self._layer, self.numbers, self._instead = rerun, layer, numbers, instead
        maps = whole.maps[layer]
        self.activation = maps.to(torch.promote_types(maps.dtype, torch.float32)).relu()
        self.baseline = replaced(maps, torch.ones_like(maps), instead)
        self._total = self._sum(self.activation).clamp(min=1e-12)
        self.scores = self._own(whole.scores)

    def _own(self, scores: Tensor) -> Array:
        """Pick each image's class, (n,)."""
        own = scores.detach().gather(1, self.numbers[:, None])[:, 0]
        return own.cpu().double().numpy()

    def without(self, gone: Tensor) -> Array:
        """Give scores (n,) where shares (n, C, H, W) of units are replaced."""

        def change(maps: Tensor) -> Tensor:
            return replaced(maps, gone.to(maps), self._instead)

        changes: dict[str, Change] = {self._layer: change}
        return self._own(self._rerun.changed(changes).scores)

    def size(self, shares: Tensor) -> Tensor:
        """Give the share of the layer's activation that shares of units are, (n,) on the CPU."""
        return self._sum(self.activation * shares.to(self.activation)) / self._total

    def _sum(self, units: Tensor) -> Tensor:
        return units.sum((1, 2, 3)).cpu().double()

    def amount(self, order: Order, size: Tensor) -> Tensor:
        """Give how many elements (n,), the last in part, hold shares (n,) of the activation."""
        wanted = size.clone()
        for _ in range(4):  # where elements overlap, the sum of their sizes is not their size
            amount = order.amount(wanted * self._total)
            found = self.size(order.some(amount))
            if bool(((found - size).abs() <= _CLOSE * size).all()):
                break
            wanted = wanted * (size / found.clamp(min=1e-12)).clamp(0.5, 2)
        return amount


class Order:
    """Elements of a batch, in an order of each image's own.

    Parameters
    ----------
    holding : Holding
    values : (n, E)
        On the CPU. The largest come first, of equals the first.
    activation : (n, C, H, W)
        Of the layer.

    Attributes
    ----------
    ranked : (n, E) int64
        Numbers of the elements in order, on the CPU.
    """

    def __init__(self, holding: Holding, values: Tensor, activation: Tensor) -> None:
        self.ranked = values.argsort(dim=1, descending=True, stable=True)
        self._holding = holding
        self._upto = holding.sums(activation).gather(1, self.ranked).cumsum(1)

    @property
    def count(self) -> int:
        """How many elements there are."""
        return self.ranked.shape[1]

    def some(self, amount: Tensor) -> Tensor:
        """Give the shares of units that the first `amount` (n,) hold, the last in part."""
        rank = torch.arange(self.count)
        taken = (amount[:, None] - rank).clamp(0, 1)
        chosen = torch.zeros(self.ranked.shape).scatter_(1, self.ranked, taken.float())
        return self._holding.shares(chosen)

    def amount(self, sizes: Tensor) -> Tensor:
        """Give how many (n,) have activation `sizes` (n,), if it adds up."""
        sizes = sizes[:, None]
        k = (self._upto < sizes).sum(1, keepdim=True).clamp(max=self.count - 1)
        upto = self._upto.gather(1, k)
        before = torch.where(k > 0, self._upto.gather(1, (k - 1).clamp(min=0)), 0.0)
        part = ((sizes - before) / (upto - before).clamp(min=1e-12)).clamp(0, 1)
        return (k + part)[:, 0]
