"""Groups of images with something in common: what `hidden_bias.find_suspicions` found, written."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from explgraph import rows
from explgraph.atomic import atomic_write
from explgraph.brief import counted, few
from explgraph.suffixes import DRAWINGS, SUSPICIONS, TABLES, check_suffix

if TYPE_CHECKING:
    from explgraph.views.pictures import Drawable

__all__ = ["NO_PART", "Suspicion", "Suspicions"]

NO_PART = "no part of the graph"
_COMMON = 0.5  # of a group's images have what they share in a cell: it has a place
_CARRIES = 0.5  # of the lead is on a part: it is this part
_NAMED = 5  # images in a report


class Suspicion(NamedTuple):
    """What some images of a class share, and whether the network leans on it needlessly.

    Numbers are of the half of the images that it wasn't found in; log-odds have natural logarithms
    (logits).

    Attributes
    ----------
    target : str
        The class.
    images : tuple of str
        Names of the M images of the class that have it, in both halves, the most typical first.
    rows : tuple of int
        Their numbers.
    regions : (M, H, W) bool
        Where they have it, on the layer's grid.
    share : float
        Of the class's images have it.
    elsewhere : float
        Of the other classes' images have it.
    fall : float
        By how much the class's log-odds fall without it, beyond what they fall when the same
        places are replaced in images that lack it.
    lead : float
        By how much the log-odds of images that have it are ahead of the rest of the class, all else
        being equal.
    surplus : float
        The lead with it and the lead without it, added up, in standard deviations of the class's
        log-odds: the currency that suspicions are ranked by. About the fall, if images without it
        would be like the others; below 0, if they need it.
    parts : tuple of (str, float)
        Titles of the parts that add most beyond what they add elsewhere in the class, and that.
    errors : (float, float)
        Share of wrong answers with it, and in the rest of the class.
    p_errors, q_errors : float
        Probability of error rates that differ so much by chance; corrected for the number of
        groups. NaN where the class is always right or always wrong, or nothing was tested.
    p, q : float
        Probability of chance doing it all: two groups, that go with the class, fall, and surplus;
        corrected for the number of groups. NaN if nothing was tested.
    suspicious : bool
    """

    target: str
    images: tuple[str, ...]
    rows: tuple[int, ...]
    regions: NDArray[np.bool_]
    share: float
    elsewhere: float
    fall: float
    lead: float
    surplus: float
    parts: tuple[tuple[str, float], ...]
    errors: tuple[float, float]
    p_errors: float
    q_errors: float
    p: float
    q: float
    suspicious: bool

    @property
    def where(self) -> str:
        """Say where it is: "upper left", "along the edges", or "at no fixed place"."""
        common = self.regions.mean(0) >= _COMMON
        height, width = common.shape
        if not common.any():
            return "at no fixed place"
        edge = np.ones_like(common)
        edge[1:-1, 1:-1] = False
        if min(height, width) > 2 and common[edge].mean() >= 0.7 > common[~edge].mean():
            return "along the edges"
        if common.mean() > 0.5:
            return "all over"
        y, x = (float(axis.mean()) for axis in np.nonzero(common))
        row = ("upper", "", "lower")[min(int(3 * (y + 0.5) / height), 2)]
        column = ("left", "", "right")[min(int(3 * (x + 0.5) / width), 2)]
        return f"{row} {column}".strip() if row and column else row or column or "in the middle"

    @property
    def part(self) -> str:
        """Name the part that carries most of the lead, or say that none does."""
        if self.parts and self.lead > 0 and self.parts[0][1] >= _CARRIES * self.lead:
            return self.parts[0][0]
        return NO_PART

    @property
    def told(self) -> str:
        """Say it in a sentence."""
        sentence = (
            f"{self.share:.0%} of {self.target!r} (others: {self.elsewhere:.0%}) share something "
            f"{self.where}, {self.part}; without it the class's log-odds fall by {self.fall:.2g}, "
            f"of which they need {_needed(self)}"
        )
        return sentence


def _needed(one: Suspicion) -> str:
    """Say how much of a fall puts images behind the rest of their class."""
    behind = one.fall - one.lead
    return "nothing to be like the others" if behind <= 0 else f"{behind:.2g} to be like the others"


@dataclass(frozen=True, eq=False)
class Suspicions:
    """What `find_suspicions` found.

    Attributes
    ----------
    suspicions : tuple of Suspicion
        All groups that were found again in the other half of the images; the suspicious ones first,
        each kind by its surplus.
    classes : tuple of str
        That were examined.
    n_images : int
    layer : str
    told : tuple of str
        What was not examined or tested, and why.
    """

    suspicions: tuple[Suspicion, ...]
    classes: tuple[str, ...]
    n_images: int
    layer: str
    told: tuple[str, ...] = field(default=())

    def __repr__(self) -> str:
        first = [f"{one.target}, {one.where} ({one.surplus:+.2f})" for one in self.suspicious]
        return (
            f"Suspicions: {counted(len(self.suspicions), 'group')} in "
            f"{counted(len(self.classes), 'class')}, {len(first):,} suspicious: {few(first)}"
        )

    @property
    def suspicious(self) -> tuple[Suspicion, ...]:
        """The groups that are suspicious."""
        return tuple(one for one in self.suspicions if one.suspicious)

    def markdown(self) -> str:
        """Give the groups as a Markdown table."""
        head = (
            "| class | images | share | others | where | part | fall | lead | surplus | q "
            "| errors | rest | q | |\n|---|---:|---:|---:|---|---|---:|---:|---:|---:|---:|---:|---:"
            "|---|"
        )
        lines = [
            f"| {_cell(one.target)} | {len(one.images)} | {one.share:.0%} | {one.elsewhere:.0%} "
            f"| {one.where} | {_cell(one.part)} | {one.fall:+.2f} | {one.lead:+.2f} "
            f"| {one.surplus:+.2f} | {_number(one.q)} | {one.errors[0]:.1%} | {one.errors[1]:.1%} "
            f"| {_number(one.q_errors)} | {'suspicious' if one.suspicious else ''} |"
            for one in self.suspicions
        ]
        return "\n".join([head, *lines])

    def report(self) -> str:
        """Give the groups and their most typical images in Markdown."""
        text = [f"{self.markdown()}\n"] if self.suspicions else ["No groups were found.\n"]
        for one in self.suspicions:
            shown = ", ".join(_cell(name) for name in one.images[:_NAMED])
            text.append(f"- {_cell(one.told)}. Such as {shown}.\n")
        text += [f"\n{line[0].upper()}{line[1:]}.\n" for line in self.told]
        return "".join(text)

    def write(self, path: str | os.PathLike[str], images: Drawable | None = None) -> None:
        """Write what was found.

        Parameters
        ----------
        path : path
            ``.md`` (the `report`), ``.json`` (all of it, with all images), ``.csv`` or
            ``.parquet`` (a row for each group); with pictures ``.html``, ``.png``, ``.svg`` or
            ``.pdf``.
        images : ImageFolder, (N, H, W, 3) uint8, or list of PIL images, optional
            The same, in colours: needed for pictures.

        Raises
        ------
        ExplgraphError
            If the suffix isn't known, the file can't be written, it needs `images`, or a package
            that isn't there.
        """
        suffix = check_suffix(path, SUSPICIONS)
        if suffix in DRAWINGS:
            from explgraph.answers.suspicion_figure import suspicion_figure

            suspicion_figure(self, images, path=path)
            return
        if suffix == ".html":
            from explgraph.answers.suspicion_page import suspicion_page

            text = suspicion_page(self, images)
        elif suffix == ".md":
            text = self.report()
        elif suffix in TABLES and suffix != ".json":
            rows.write(path, rows.columns_of([_flat(one) for one in self.suspicions]))
            return
        else:
            content = {
                "layer": self.layer,
                "classes": self.classes,
                "n_images": self.n_images,
                "told": self.told,
                "suspicions": [
                    {
                        **rows.finite([_flat(one)])[0],
                        "parts": [{"part": part, "adds": adds} for part, adds in one.parts],
                        "images": one.images,
                        "regions": one.regions.astype(int).tolist(),
                    }
                    for one in self.suspicions
                ],
            }
            text = json.dumps(content) + "\n"
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def _flat(one: Suspicion) -> dict[str, Any]:
    """Give a group's numbers as a row."""
    return {
        "class": one.target,
        "images": len(one.images),
        "where": one.where,
        "part": one.part,
        "share": one.share,
        "elsewhere": one.elsewhere,
        "fall": one.fall,
        "lead": one.lead,
        "surplus": one.surplus,
        "errors": one.errors[0],
        "errors_rest": one.errors[1],
        "p_errors": one.p_errors,
        "q_errors": one.q_errors,
        "p": one.p,
        "q": one.q,
        "suspicious": one.suspicious,
    }


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2g}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")
