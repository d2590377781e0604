"""What a measurement of faithfulness found: its curves, their areas, a table, a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from explgraph.brief import counted

__all__ = ["COLUMNS", "Curve", "Curves", "area", "markdown"]

Array = NDArray[np.float64]
Row = dict[str, Any]

_DRAWS = 1000  # of images, for an interval
_RANGE = (2.5, 97.5)  # per cent

COLUMNS = {
    "elements": "elements",
    "order": "order",
    "total": "of",
    "activation": "hold",
    "lost": "lost without",
    "expected": "expected",
    "kept": "kept alone",
    "deletion": "area, deletion",
    "insertion": "area, insertion",
    "equal_lost": "lost, equal",
    "equal_kept": "kept, equal",
    "equal_deletion": "deletion, equal",
    "equal_insertion": "insertion, equal",
}
"""Columns of `markdown`: their names in `Curves.table`, and above the columns."""


class Curve(NamedTuple):
    """One kind of elements in one order, in N images.

    Attributes
    ----------
    elements, order : str
        Such as ``"parts"`` and ``"contribution"``.
    total : int
        How many elements there are.
    held, left, kept : (N, K + 1) float64
        Without, or with none but, the first 0, 1, ... K elements: the share of the layer's
        activation that they hold, the score that is left without them, the score that they keep by
        themselves. (N, 0) of units.
    held_equal, left_equal, kept_equal : (N, S + 1) float64
        The same at equal shares of activation: first that of the first K of what is asked about,
        then S steps up to what all of these hold.
    expected : (N,) float64
        What the first K add to the score by their contributions; NaN where that isn't told.
    """

    elements: str
    order: str
    total: int
    held: Array
    left: Array
    kept: Array
    held_equal: Array
    left_equal: Array
    kept_equal: Array
    expected: Array

    @classmethod
    def mean(cls, draws: Sequence[Curve]) -> Curve:
        """Give the mean of several draws of one random order."""
        one = draws[0]
        return cls(
            *one[:3], *(np.mean(values, 0) for values in zip(*(d[3:] for d in draws), strict=True))
        )

    @classmethod
    def joined(cls, batches: Sequence[Curve]) -> Curve:
        """Give the images of several batches as one."""
        one = batches[0]
        return cls(
            *one[:3],
            *(np.concatenate(values) for values in zip(*(b[3:] for b in batches), strict=True)),
        )

    def take(self, images: NDArray[Any]) -> Curve:
        """Give some of the images."""
        return Curve(*self[:3], *(values[images] for values in self[3:]))

    @property
    def title(self) -> str:
        """Elements and order in a few words."""
        if self.order == "random":
            return f"random {self.elements}"
        return f"{self.elements} by {self.order}"


@dataclass(frozen=True, eq=False)
class Curves:
    """How much of a score parts, nodes, filters and others carry.

    Attributes
    ----------
    layer : str
    replacement : str
        What stood in for what was taken away.
    first : int
        How many elements "the first" are, at most.
    names : tuple of str
        Of the N images.
    classes : tuple of str
        The title of the class that each was asked about.
    left_out : int
        Images whose score is no higher with the layer's activation than without.
    scores, empty : (N,) float64
        The class's score, and the one that is there where the layer's activation is replaced.
    added : (N,) float64
        What all units of the layer add by their contributions.
    unheld : (N, 2) float64
        The share of the layer's activation that is no part's (no node's, in a layer without parts),
        and no node's.
    curves : tuple of Curve
        The first is what is asked about: parts (or nodes) by contribution.
    """

    layer: str
    replacement: str
    first: int
    names: tuple[str, ...]
    classes: tuple[str, ...]
    left_out: int
    scores: Array
    empty: Array
    added: Array
    unheld: Array
    curves: tuple[Curve, ...]

    @property
    def carried(self) -> Array:
        """Give what the layer carries of each image's score, (N,)."""
        return self.scores - self.empty

    @property
    def instead(self) -> str:
        """Say what stood in for what was taken away."""
        return {
            "zero": "nothing",
            "mean": "the mean over other images",
            "resampled": "another image's activation",
        }[self.replacement]

    def curve(self, elements: str, order: str) -> Curve:
        """Find a curve."""
        return next(c for c in self.curves if (c.elements, c.order) == (elements, order))

    def share(self, values: Array) -> Array:
        """Give amounts of score (N, ...) as shares of what the layers carry, (...)."""
        share: Array = values.sum(0) / self.carried.sum()
        return share

    def lost(self, left: Array) -> Array:
        """Give what is lost where scores (N, ...) are left, (N, ...)."""
        lost: Array = self.scores.reshape(-1, *[1] * (left.ndim - 1)) - left
        return lost

    def there(self, kept: Array) -> Array:
        """Give what is there where scores (N, ...) are kept, (N, ...)."""
        there: Array = kept - self.empty.reshape(-1, *[1] * (kept.ndim - 1))
        return there

    def number(self, curve: Curve) -> int:
        """Give how many of a curve's elements are the first."""
        return min(self.first, curve.total)

    def _interval(self, values: Array) -> tuple[float, float]:
        """Give the 95 % interval of a share (percentiles of the bootstrap over images)."""
        n = len(values)
        drawn = np.random.default_rng(0).integers(n, size=(_DRAWS, n))
        shares = values[drawn].sum(1) / self.carried[drawn].sum(1)
        low, high = np.percentile(shares, _RANGE)
        return float(low), float(high)

    def table(self) -> list[Row]:
        """Give a row for each curve.

        Returns
        -------
        list of dict
            ``elements``, ``order``, ``total``; ``activation``: the share of the layer's that the
            first hold; of what the layer carries ``lost`` without them, ``expected`` to be lost by
            their contributions, ``kept`` by them alone, with 95 % intervals
            ``lost_low``, ... ``kept_high``; ``deletion`` and ``insertion``: areas under the curves
            up to the first, as means; ``equal_...``: the same where as much activation is taken, or
            kept, as the first of the first row hold, and areas up to what all of these hold.
        """
        rows = []
        # some kinds hold less than is asked: their curves end, and go on level
        sizes = np.append(0.0, self.curves[0].held_equal[:, 1:].mean(0))
        for curve in self.curves:
            row: Row = {"elements": curve.elements, "order": curve.order, "total": curve.total}
            numbers = dict.fromkeys(
                ("activation", "lost", "lost_low", "lost_high", "expected", "kept", "kept_low",
                 "kept_high", "deletion", "insertion"),
                np.nan,
            )  # fmt: skip
            if curve.held.shape[1]:
                lost, kept = self.lost(curve.left), self.there(curve.kept)
                low, high = self._interval(lost[:, -1])
                least, most = self._interval(kept[:, -1])
                steps = np.arange(curve.held.shape[1])
                numbers |= {
                    "activation": float(curve.held[:, -1].mean()),
                    "lost": float(self.share(lost[:, -1])), "lost_low": low, "lost_high": high,
                    "expected": float(self.share(curve.expected)),
                    "kept": float(self.share(kept[:, -1])), "kept_low": least, "kept_high": most,
                    "deletion": area(steps, 1 - self.share(lost)),
                    "insertion": area(steps, self.share(kept)),
                }  # fmt: skip
            lost, kept = self.lost(curve.left_equal), self.there(curve.kept_equal)
            numbers |= {
                "equal_activation": float(curve.held_equal[:, 0].mean()),
                "equal_lost": float(self.share(lost[:, 0])),
                "equal_kept": float(self.share(kept[:, 0])),
                "equal_deletion": area(sizes, np.append(1.0, 1 - self.share(lost[:, 1:]))),
                "equal_insertion": area(sizes, np.append(0.0, self.share(kept[:, 1:]))),
            }
            rows.append(row | numbers)
        return rows

    @property
    def told(self) -> str:
        """What was measured and what it means for this graph and these images, in sentences."""
        rows = {(row["elements"], row["order"]): row for row in self.table()}
        own, kind = self.table()[0], self.curves[0].elements
        k = self.number(self.curves[0])
        by_chance = rows[(kind, "random")]
        units, filters = rows[("units", "random")], rows[("filters", "gradient x activation")]
        asked = sorted(set(self.classes))
        what = asked[0] if len(asked) == 1 else counted(len(asked), "class")
        text = (
            f"{counted(len(self.names), 'image')} of {what}; {self.instead} stands in for what is "
            f"taken away. Of what {self.layer} carries of the score, the {k} first {kind} (of "
            f"{own['total']}; order and places are each image's own) carry {own['lost']:.2f} "
            f"({own['lost_low']:.2f} to {own['lost_high']:.2f}), {k} at random "
            f"{by_chance['lost']:.2f}. They hold {own['activation']:.2f} of the layer's activation;"
            f" as much in the best whole filters carries {filters['equal_lost']:.2f}, at random "
            f"units {units['equal_lost']:.2f}. Kept alone they give {own['kept']:.2f}. "
            f"{self.unheld[:, 0].mean():.2f} of the layer's activation is no "
            f"{kind.removesuffix('s')}'s"
        )
        rest = float(self.share(self.carried - self.added))
        text += f"; contributions of all units add up but for {abs(rest):.3f}"
        if self.left_out:
            text += f". {counted(self.left_out, 'image')} left out: nothing there speaks for it"
        return text + "."

    def markdown(self) -> str:
        """Give the table as Markdown; see `table`."""
        return markdown(self.table())

    def as_dict(self) -> dict[str, Any]:
        """Give everything as JSON values: the table, and every curve in every image."""
        return {
            "layer": self.layer,
            "replacement": self.replacement,
            "first": self.first,
            "told": self.told,
            "left_out": self.left_out,
            "table": [{k: _plain(v) for k, v in row.items()} for row in self.table()],
            "images": [
                {"image": name, "class": title, "score": float(score), "empty": float(empty),
                 "added": float(added)}
                for name, title, score, empty, added in zip(
                    self.names, self.classes, self.scores, self.empty, self.added, strict=True
                )
            ],
            "curves": [
                {name: _plain(value) for name, value in curve._asdict().items()}
                for curve in self.curves
            ],
        }  # fmt: skip


def markdown(rows: Sequence[Row]) -> str:
    """Give rows of `Curves.table` as a Markdown table; what wasn't measured is empty."""
    lines = [f"| {' | '.join(COLUMNS.values())} |", "|---|---" + "|---:" * (len(COLUMNS) - 2) + "|"]
    for row in rows:
        cells = [
            ("" if np.isnan(value) else f"{value:.2f}") if isinstance(value, float) else str(value)
            for value in (row[name] for name in COLUMNS)
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def area(x: NDArray[Any], y: Array) -> float:
    """Give the mean of a curve over its range, by the trapezoid rule."""
    if x[-1] <= x[0]:
        return float(y[0])
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum() / (x[-1] - x[0]))


def _plain(value: Any) -> Any:
    """Give arrays as lists, and what isn't known as None."""
    if isinstance(value, np.ndarray):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return None if np.isnan(value) else float(value)
    return value
