"""Groups of images with something in common: what `hidden_bias.find_suspicions` found, written."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from explgraph import rows
from explgraph.answers.suspicion import Suspicion
from explgraph.atomic import atomic_write
from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError
from explgraph.suffixes import DRAWINGS, SUSPICIONS, TABLES, check_suffix

if TYPE_CHECKING:
    from explgraph.views.pictures import Drawable, Pictures

__all__ = ["Suspicions"]

_NAMED = 5  # images in a report


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
    image_size : (int, int)
        px, height and width.
    layer : str
    told : tuple of str
        What was not examined or tested, and why.
    """

    suspicions: tuple[Suspicion, ...]
    classes: tuple[str, ...]
    n_images: int
    image_size: tuple[int, int]
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
            "| errors | rest | q | |\n"
            "|---|---:|---:|---:|---|---|---:|---:|---:|---:|---:|---:|---:|---|"
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

            suspicion_figure(self.suspicions, self._pictures(images), path=path)
            return
        if suffix == ".html":
            from explgraph.answers.suspicion_page import suspicion_page

            head = (
                f"{counted(self.n_images, 'image')} in {counted(len(self.classes), 'class')}, "
                f"layer {self.layer}: {len(self.suspicious)} of "
                f"{counted(len(self.suspicions), 'group')} suspicious"
            )
            text = suspicion_page(self.suspicions, self._pictures(images), head, self.told)
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

    def _pictures(self, images: Drawable | None) -> Pictures:
        """Take the images that were examined, as people see them."""
        from explgraph.views.pictures import Pictures

        if images is None:
            raise ExplgraphError(
                "pictures need images=, the same as were examined: an ImageFolder, or colours"
            )
        pictures = Pictures(images, self.image_size)
        if len(pictures) != self.n_images:
            raise ExplgraphError(
                f"images holds {len(pictures)}, but {self.n_images} were examined; give the same"
            )
        return pictures


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
