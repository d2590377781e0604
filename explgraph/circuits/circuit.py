"""A circuit as users have it: an account that writes and shows itself."""

from __future__ import annotations

import json
import os

from explgraph import rows
from explgraph.atomic import atomic_write
from explgraph.brief import counted, few
from explgraph.circuits import circuit_page
from explgraph.circuits.account import HEAD, CircuitAccount, G
from explgraph.graph import file
from explgraph.markup import escaped, table
from explgraph.suffixes import CIRCUITS, DRAWINGS, check_suffix
from explgraph.views.pictures import Drawable
from explgraph.views.remembered import remembered_for

__all__ = ["Circuit"]

_SHOWN = 12  # members that have a row in a notebook; pages and files hold all


class Circuit(CircuitAccount[G]):
    """Parts or nodes that a class's score is left with when all else in their layers is replaced.

    What `graph.circuit` gives. See `explgraph.circuits.account.CircuitAccount` for what it holds.
    """

    def __repr__(self) -> str:
        little = "" if self.reached else f", less than the {self.keep:.0%} asked for"
        doubted = f"; {counted(len(self.doubts), 'doubt')}" if self.doubts else ""
        classes = few((name for _, name in self.classes), 1)
        return (
            f"Circuit{little}: {counted(len(self), self.by)} of {len(self.order):,} "
            f"({few((member.title for member in self.members), 2)}) keep {self.kept} of the "
            f"{self.measure} of {classes} in {few(self.layers)}{doubted}"
        )

    def markdown(self) -> str:
        """Give what was found as Markdown: doubts, sentences, a table of the members."""
        lines = [f"# Circuit of {self.title}", ""]
        lines += [f"**{doubt[0].upper()}{doubt[1:]}.**\n" for doubt in self.doubts]
        lines += [f"{sentence}." for sentence in self.told]
        lines += ["", "| " + " | ".join(HEAD) + " |", "|---" * 2 + "|---:" * 3 + "|"]
        lines += [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in self.cells()]
        return "\n".join(lines) + "\n"

    def write(self, path: str | os.PathLike[str], *, images: Drawable | None = None) -> None:
        """Write the circuit in the format of the path's suffix, whole or not at all.

        Parameters
        ----------
        path : path
            ``.explgraph`` (the circuit's graph, as `ExplanatoryGraph.save`), ``.html`` (a page,
            complete in itself, without scripts), ``.md``, ``.json`` (all numbers), ``.csv`` (a row
            for each member), or ``.svg``, ``.png``, ``.pdf`` (the curve). Drawings and the explorer
            page are the graph's: ``circuit.graph.write``.
        images : ImageFolder, (N, H, W, 3) uint8 colours or list of PIL images, optional
            That the graph was mined from: the page shows patches of each member. By default those
            that the graph remembers.

        Raises
        ------
        ExplgraphError
            If the suffix isn't known, the file can't be written, or it is a picture and
            matplotlib isn't installed.

        Warns
        -----
        ExplgraphWarning
            If the images that the graph remembers are lost, so that the page has no patches.
        """
        suffix = check_suffix(path, CIRCUITS)
        if suffix == ".explgraph":
            file.write(self.graph, path)
        elif suffix == ".csv":
            rows.write(path, rows.columns_of(self.table()))
        elif suffix in DRAWINGS:
            from explgraph.circuits.circuit_figure import circuit_figure

            circuit_figure(self, path=path)
        else:
            if suffix == ".html":
                known = remembered_for(self.graph, path) if images is None else images
                text = circuit_page.page(self, circuit_page.patches(self, known))
            elif suffix == ".md":
                text = self.markdown()
            else:
                text = json.dumps(self.as_dict(), indent=1, allow_nan=False) + "\n"
            with atomic_write(path) as temporary:
                temporary.write_text(text, encoding="utf-8", errors="surrogateescape")

    def _repr_html_(self) -> str:
        """Show doubts, sentences, the curve and the first members in a notebook."""
        doubts = "".join(f"<p><b>{escaped(doubt, 400)}</b></p>" for doubt in self.doubts)
        told = "".join(f"<p>{escaped(sentence, 400)}.</p>" for sentence in self.told)
        cells: list[list[object]] = [list(row) for row in self.cells()[:_SHOWN]]
        more = len(self) - len(cells)
        if more > 0:
            cells.append([f"{counted(more, 'member')} more", "", "", "", ""])
        return (
            f"<div>{doubts}<p><b>Circuit of {escaped(self.title)}</b></p>{told}"
            f"{circuit_page.curve(self)}{table(list(HEAD), cells)}</div>"
        )


def _escaped(cell: str) -> str:
    """Keep a name from breaking a table of Markdown."""
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
