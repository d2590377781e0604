"""How far to trust a network's answers about attributes: each answer's risk, and all in a table."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from explgraph import rows
from explgraph.answers.reading import Reading, probability
from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError

__all__ = ["Judged", "Judgement", "judge"]

Array = NDArray[np.float64]


class Judgement(NamedTuple):
    """An answer that is in doubt.

    Attributes
    ----------
    image : str
        The image's name.
    attribute : str
        What the answer is about.
    answer : bool
        The network's.
    risk : float
        In [0, 1]: the probability that it is wrong.
    """

    image: str
    attribute: str
    answer: bool
    risk: float


@dataclass(frozen=True, eq=False)
class Judged:
    """How far to trust the network's answers for some images.

    Attributes
    ----------
    names : tuple of str
        Of the N images.
    attributes : tuple of str
        A of them.
    biased : tuple of str
        Those that are the target of an unexpected relation.
    outputs : (N, A) float64
        The network's, in logits; above 0 it answers yes.
    corrected : (N, A) float64
        Log-odds of each attribute by all of the outputs, if attributes have nothing to do with
        each other (`reading`).
    risk : (N, A) float64
        In [0, 1]: the probability, by `corrected`, that the network's answer is wrong.
    """

    names: tuple[str, ...]
    attributes: tuple[str, ...]
    biased: tuple[str, ...]
    outputs: Array
    corrected: Array
    risk: Array

    def __repr__(self) -> str:
        return (
            f"Judged: {counted(len(self.names), 'image')}, "
            f"{counted(len(self.attributes), 'attribute')} "
            f"({few(self.attributes)}); biased: {few(self.biased)}"
        )

    @property
    def image_risk(self) -> Array:
        """How likely some answer about a biased attribute is wrong, by image, ``(N,)`` in [0, 1].

        As if answers went wrong independently: ``1 - prod (1 - risk)``.
        """
        _, risk = self._of_biased()
        probability: Array = 1 - np.prod(1 - risk, axis=1)
        return probability

    def worst(self, most: int = 20) -> list[Judgement]:
        """Give the answers about biased attributes that are most likely wrong, worst first."""
        columns, risk = self._of_biased()
        order = np.argsort(-risk, axis=None, kind="stable")[:most]
        return [
            Judgement(
                self.names[n],
                self.biased[k],
                bool(self.outputs[n, columns[k]] > 0),
                float(risk[n, k]),
            )
            for n, k in zip(*np.unravel_index(order, risk.shape), strict=True)
        ]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a row for each image and attribute: ``.csv``, ``.json`` or ``.parquet``.

        Columns are ``image``, ``attribute``, ``biased``, ``output``, ``corrected`` and ``risk``.

        Raises
        ------
        ExplgraphError
            If the suffix isn't known, the file can't be written, or it is a .parquet and pandas
            and pyarrow aren't there.
        """
        biased = [name in self.biased for name in self.attributes]
        values = {
            "biased": np.tile(biased, (len(self.names), 1)),
            "output": self.outputs,
            "corrected": self.corrected,
            "risk": self.risk,
        }
        rows.write(path, rows.grid(("image", self.names), ("attribute", self.attributes), values))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Judged:
        """Read what `write` wrote.

        Raises
        ------
        ExplgraphError
            If the file can't be read or isn't such a table.
        """
        kinds = {"biased": bool, "output": float, "corrected": float, "risk": float}
        names, attributes, table = rows.read_grid(path, ("image", str), ("attribute", str), kinds)
        flags, risk = table.pop("biased"), table["risk"]
        if (flags != flags[0]).any() or (risk < 0).any() or (risk > 1).any():
            raise ExplgraphError(
                f"path {str(path)!r} holds a risk that isn't from 0 to 1, or an attribute that is "
                "biased in some images only; expected what Judged.write writes"
            )
        biased = tuple(name for name, flag in zip(attributes, flags[0], strict=True) if flag)
        return cls(names, attributes, biased, *table.values())

    def _of_biased(self) -> tuple[list[int], Array]:
        """Columns of the biased attributes, and the risk there."""
        columns = [self.attributes.index(name) for name in self.biased]
        return columns, self.risk[:, columns]


def judge(
    attributes: tuple[str, ...],
    names: tuple[str, ...],
    outputs: Array,
    reading: Reading,
    biased: Collection[str],
) -> Judged:
    """Compare the network's answers with what its outputs say if attributes are independent."""
    corrected = reading.log_odds(outputs)
    return Judged(
        names,
        attributes,
        tuple(name for name in attributes if name in biased),
        outputs,
        corrected,
        probability(np.where(outputs > 0, -corrected, corrected)),
    )
