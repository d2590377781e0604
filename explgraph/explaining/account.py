"""What is said of an image's score: the numbers and pictures of an explanation.

`explanation.Explanation` is this as users have it; what draws and writes needs no more than this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from explgraph import rows

__all__ = ["NO_NODE", "NO_PART", "SHOWN", "Account", "LayerAccount", "PartContribution", "Removal"]

SHOWN = 8
"""Parts that have a mark and a row, in every form of an explanation; others are told together."""
NO_PART = "nodes of no part"
NO_NODE = "what no node answers for"


class PartContribution(NamedTuple):
    """What one part adds to the score.

    Attributes
    ----------
    part, title : str
        Its id; its name or "part 3".
    contribution : float
        Of its nodes in the layer, in units of the score; below 0 it speaks against the class.
    share : float
        The same over the size of what the layer carries.
    x, y : float
        Where it is in the image, px.
    presence : float
        Whether the image shows it, 0 to 1.
    radius : float
        How far its nodes scatter, px.
    nodes : int
        That it has in the layer.
    """

    part: str
    title: str
    contribution: float
    share: float
    x: float
    y: float
    presence: float
    radius: float
    nodes: int


class Removal(NamedTuple):
    """What is left of the score when the first k parts are taken away in truth, k = 0 to K.

    Attributes
    ----------
    parts : tuple of str
        Ids of the K parts, in the order in which they are taken away.
    score : (K + 1,) float64
        What the network gives without the first k.
    expected : (K + 1,) float64
        The score less their contributions.
    random : (K + 1,) float64
        Without k parts at random, mean over several orders of all parts.
    equal : (K + 1,) float64
        Without as much activation as the first k parts have, at random units of the layer, mean
        over several draws.
    """

    parts: tuple[str, ...]
    score: NDArray[np.float64]
    expected: NDArray[np.float64]
    random: NDArray[np.float64]
    equal: NDArray[np.float64]


class LayerAccount(NamedTuple):
    """How far one layer's parts go.

    Attributes
    ----------
    layer : str
    without : float
        The score when all of the layer's activation is taken away.
    carried : float
        The score less that.
    parts : float
        What parts add.
    no_part, no_node : float
        What nodes of no part, and units that no node answers for add.
    residual : float
        By how much all three miss `carried`: the numerical error of `attribution.added`.
    explained : float
        0 to 1: of all that units add to the score or take from it, what is the parts' own.
    """

    layer: str
    without: float
    carried: float
    parts: float
    no_part: float
    no_node: float
    residual: float
    explained: float


@dataclass(frozen=True, eq=False)
class Account:
    """Which parts carried a class's score in an image, how much, and where.

    Attributes
    ----------
    image : str
        Its name.
    class_number : int
        Of the model's output.
    class_title : str
        Its name, or "class 17".
    score : float
        What the model gives for the class: its output as it is (a logit, as a rule).
    rank : int
        1 if no class has a higher score.
    classes : int
        How many there are.
    layer : str
        Whose nodes the parts' contributions are of.
    rows : tuple of PartContribution
        The largest contribution first.
    removal : Removal
    layers : tuple of LayerAccount
        All layers side by side, the one nearest to the output first. They lie behind one another:
        each accounts for the score by itself.
    doubts : tuple of str
        Why the explanation may be little worth; empty if nothing speaks against it.
    image_size : (int, int)
        ``(H, W)`` px.
    picture : (H, W, 3) uint8
        The image as the network saw it.
    elsewhere : dict of str to tuple of (h, w, 3) uint8
        By part's id, patches of other images that show it best; empty if no images are known.
    """

    image: str
    class_number: int
    class_title: str
    score: float
    rank: int
    classes: int
    layer: str
    rows: tuple[PartContribution, ...]
    removal: Removal
    layers: tuple[LayerAccount, ...]
    doubts: tuple[str, ...]
    image_size: tuple[int, int]
    picture: NDArray[np.uint8] = field(repr=False)
    elsewhere: Mapping[str, tuple[NDArray[np.uint8], ...]] = field(repr=False)
    _to_original: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = field(
        default=None, repr=False
    )

    @property
    def told(self) -> str:
        """Say in a sentence what the parts add and what is left."""
        missed = ""
        if abs(self.residual) > 0.005 * abs(self.carried):  # three digits don't hide it
            missed = f"; {self.residual:+.2g} is the error of these estimates"
        return (
            f"Layer {self.layer} carries {self.carried:.3g} of the score: its parts add "
            f"{self.here.parts:+.3g}, {self.unexplained:+.3g} is unexplained{missed}."
        )

    @property
    def here(self) -> LayerAccount:
        """What is said of the layer that the parts' contributions are of."""
        return next(account for account in self.layers if account.layer == self.layer)

    @property
    def carried(self) -> float:
        """What the layer carries of the score: contributions, `unexplained` and `residual`."""
        return self.here.carried

    @property
    def unexplained(self) -> float:
        """What no part adds: nodes of no part, and units that no node answers for."""
        return self.here.no_part + self.here.no_node

    @property
    def residual(self) -> float:
        """By how much contributions and `unexplained` miss `carried`: a numerical error."""
        return self.here.residual

    @property
    def explained(self) -> float:
        """Of all that units add to the score or take from it, what is the parts' own, 0 to 1."""
        return self.here.explained

    def shown(self, most: int = SHOWN) -> tuple[list[PartContribution], float]:
        """Give the largest contributions, for or against, in their order; and the others' sum.

        The page, the picture, the terminal and notebooks have a row for each of these.

        What is less than a thirtieth of the largest is with the others: no eye could see its bar.
        """
        large = sorted(self.rows, key=lambda row: -abs(row.contribution))[:most]
        least = abs(large[0].contribution) / 30 if large else 0.0
        large = [row for row in large if abs(row.contribution) >= least]
        some = [row for row in self.rows if row in large]
        return some, sum(row.contribution for row in self.rows if row not in large)

    def table(self) -> list[dict[str, Any]]:
        """Give a row for each part, then one for each of the two rests.

        They sum to `carried` but for `residual`.
        """
        size = max(abs(self.carried), 1e-12)
        told = [row._asdict() | self._photo(row) for row in self.rows]
        for title, value in ((NO_PART, self.here.no_part), (NO_NODE, self.here.no_node)):
            empty = dict.fromkeys(("x", "y", "presence", "radius"), float("nan"))
            rest = {"part": "", "title": title, "contribution": value, "share": value / size}
            photo = {} if self._to_original is None else dict.fromkeys(_PHOTO, float("nan"))
            told.append(rest | empty | {"nodes": 0} | photo)
        return told

    def _photo(self, row: PartContribution) -> dict[str, float]:
        """Give the place in the original photograph, where that is known."""
        if self._to_original is None:
            return {}
        x, y = self._to_original(np.array([row.x, row.y])).tolist()
        return dict(zip(_PHOTO, (x, y), strict=True))

    def as_dict(self) -> dict[str, Any]:
        """Give all numbers as JSON values."""
        return {
            "image": self.image,
            "class": self.class_number,
            "class_title": self.class_title,
            "score": self.score,
            "rank": self.rank,
            "classes": self.classes,
            "layer": self.layer,
            "without_layer": self.here.without,
            "carried": self.carried,
            "unexplained": self.unexplained,
            "residual": self.residual,
            "explained": self.explained,
            "doubts": list(self.doubts),
            "image_size": list(self.image_size),
            "parts": rows.finite(self.table()),
            "removal": {
                name: list(value) if name == "parts" else value.tolist()
                for name, value in self.removal._asdict().items()
            },
            "layers": [account._asdict() for account in self.layers],
        }


_PHOTO = ("photo_x", "photo_y")
