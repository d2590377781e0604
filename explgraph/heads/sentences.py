"""What a head's weights say, as sentences about parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from explgraph.brief import few

__all__ = ["Sentence", "report", "sentences"]

_TOLD = 0.05  # effects below are written as 0.0


class Sentence(NamedTuple):
    """What one look of a part does to a class's score.

    Attributes
    ----------
    label : str
        The class.
    part, title : str
        The part's id and title, or a node's id.
    look : int
        Number of the look, from 0.
    effect : float
        What the score gains from the look's usual low to its usual high.
    there : bool
        Whether more of it means that the part is there; otherwise it is a matter of how it looks.
    low, high : str
        Names of the images that have least and most of it.
    """

    label: str
    part: str
    title: str
    look: int
    effect: float
    there: bool
    low: str
    high: str

    def __str__(self) -> str:
        what = f"{self.title} ({self.part})" if self.part != self.title else self.title
        if self.title == f"part {self.part.removeprefix('p')}":
            what = self.title
        if self.there:
            return f"{self.label}: {self.effect:+.1f} if {what} is there"
        return (
            f"{self.label}: {self.effect:+.1f} if {what} looks as in {few([self.high])}, not as in "
            f"{few([self.low])}"
        )


def sentences(
    classes: Sequence[str],
    called: Sequence[tuple[str, str, int]],
    effects: NDArray[np.float64],
    there: NDArray[np.bool_],
    ends: Sequence[tuple[str, str]],
    most: int | None,
) -> tuple[Sentence, ...]:
    """Make sentences of effects (F, K), the weightiest first within each class.

    Parameters
    ----------
    classes : sequence of str
    called : sequence of (str, str, int)
        Title, id and number of each of the F looks.
    effects : (F, K)
    there : (F,) bool
    ends : sequence of (str, str)
        Images that have least and most of each.
    most : int, optional
        For each class.
    """
    found = []
    for k, label in enumerate(classes):
        order = np.argsort(-np.abs(effects[:, k]), kind="stable")
        used = [f for f in order.tolist() if effects[f, k]]
        for f in used[:most]:
            title, part, look = called[f]
            found.append(
                Sentence(label, part, title, look, float(effects[f, k]), bool(there[f]), *ends[f])
            )
    return tuple(found)


def report(first: str, told: Sequence[Sentence], *, weighted: bool) -> str:
    """Put a head's sentences below a line that says what it is; `weighted`: any weight isn't 0."""
    if not told and weighted:  # states of modules don't hold how looks vary
        return (
            f"{first}; its weights weren't fitted here, nor loaded by PartHead.load: no sentences"
        )
    if not told:
        return f"{first}; it has no weights yet: head.fit(images, labels)"
    return "\n".join([first, *(f"  {one}" for one in told if abs(one.effect) >= _TOLD)])
