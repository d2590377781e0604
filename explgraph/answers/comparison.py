"""Two graphs compared, as users have it: what `compare` gives, which writes and shows itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from explgraph import rows
from explgraph.answers import comparison_page
from explgraph.answers.compared import Compared, in_short
from explgraph.atomic import atomic_write
from explgraph.brief import counted
from explgraph.markup import escaped, table
from explgraph.suffixes import COMPARISONS, check_suffix

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison"]


class Comparison(Compared):
    """What two graphs have in common over the same photographs, and what changed.

    See `explgraph.answers.compared.Compared` for what it holds.
    """

    def __repr__(self) -> str:
        return f"Comparison over {counted(self.images, 'image')}; {self.summary()}"

    def to_frame(self) -> pd.DataFrame:
        """Give a row for each change that was tested, the strongest first.

        Returns
        -------
        pandas.DataFrame
            With the fields of `explgraph.answers.compared.Change` as columns.

        Raises
        ------
        ExplgraphError
            If pandas isn't installed.
        """
        return rows.pandas().DataFrame(self._columns())

    def _columns(self) -> rows.Columns:
        return rows.columns_of([change._asdict() for change in self.changes])

    def markdown(self, most: int = 20) -> str:
        """Give what changed, and what became of the parts, as two tables.

        Parameters
        ----------
        most : int
            Changes, at most; if nothing changed, as many of what was tested.
        """
        shown = self.changed or self.changes
        head = "| what | whose | on class | before | after | strength | p | q |"
        if not self.changed:
            head = head.replace("what", "what (nothing changed: tested)", 1)
        changes = [
            f"| {one.kind} | {_cell(one.title)} of {one.graph.upper()} | {_cell(one.class_title)} "
            f"| {in_short(one.before)} | {in_short(one.after)} | {in_short(one.strength)} "
            f"| {one.p:.2g} | {one.q:.2g} |"
            for one in shown[:most]
        ]
        if (more := len(shown) - most) > 0:
            changes.append(f"| {more:,} more | | | | | | | |")
        matches = [
            f"| {_cell(one.title_a)} | {_cell(one.title_b)} | {one.state} "
            f"| {in_short(one.similarity)} | {in_short(one.distance, 1)} "
            f"| {in_short(one.answers_a)} | {in_short(one.answers_b)} |"
            for one in self.matches
        ]
        return "\n".join(
            [
                head,
                "|---|---|---|---:|---:|---:|---:|---:|",
                *changes,
                "",
                f"| {self.by} of A | {self.by} of B | | similarity | apart, px | A's maps answer "
                "| B's maps answer |",
                "|---|---|---|---:|---:|---:|---:|",
                *matches,
            ]
        )

    def report(self) -> str:
        """Give summary, doubts and tables as Markdown."""
        doubts = "".join(f"\n{doubt[0].upper()}{doubt[1:]}.\n" for doubt in self.doubts)
        return f"{self!r}\n{doubts}\n{self.markdown()}\n"

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the comparison in the format of the path's suffix, whole or not at all.

        Parameters
        ----------
        path : path
            ``.html`` (a page, complete in itself, without scripts), ``.md`` (summary and tables),
            or ``.csv``, ``.json`` or ``.parquet``: the rows of `to_frame`.

        Raises
        ------
        ExplgraphError
            If the suffix isn't known, the file can't be written, or it is a .parquet and pandas
            and pyarrow aren't there.
        """
        suffix = check_suffix(path, COMPARISONS)
        if suffix not in (".html", ".md"):
            rows.write(path, self._columns())
            return
        text = comparison_page.page(self) if suffix == ".html" else self.report()
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")

    def _repr_html_(self) -> str:
        """Show what changed, and what became of the parts, in a notebook."""
        doubts = "".join(f"<p><b>{escaped(doubt, 400)}</b></p>" for doubt in self.doubts)
        changes: list[list[object]] = [
            [one.kind, one.title, one.graph.upper(), one.class_title, in_short(one.before),
             in_short(one.after), in_short(one.strength)]
            for one in self.changed[:20]
        ]  # fmt: skip
        matches: list[list[object]] = [
            [one.title_a, one.title_b, one.state, in_short(one.similarity)] for one in self.matches
        ]
        told: Sequence[str] = (
            f"<p>{escaped(repr(self), 400)}</p>",
            doubts,
            table(["what", "whose", "", "on", "before", "after", "strength"], changes)
            if changes
            else "",
            table([f"{self.by} of A", f"{self.by} of B", "", "similarity"], matches),
        )
        return f"<div>{''.join(told)}</div>"


def _cell(text: str) -> str:
    """Keep a table's bars and lines apart from a name's."""
    return " ".join(text.replace("|", "\\|").split())
