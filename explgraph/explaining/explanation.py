"""One image's explanation as users have it: an account that writes and shows itself."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from explgraph import rows
from explgraph.atomic import atomic_write
from explgraph.brief import counted
from explgraph.explaining import explanation_page
from explgraph.explaining.account import Account
from explgraph.markup import escaped, table
from explgraph.suffixes import DRAWINGS, EXPLANATIONS, check_suffix

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Explanation"]


class Explanation(Account):
    """Which parts carried a class's score in an image: what `graph.explain` gives.

    See `explgraph.explaining.account.Account` for what it holds.
    """

    def __repr__(self) -> str:
        best = ", ".join(f"{row.title} {row.contribution:+.2g}" for row in self.rows[:3])
        return (
            f"Explanation({self.image!r}: {self.class_title} {self.score:.3g} = {best}, ...; "
            f"{self.unexplained:+.2g} unexplained)"
        )

    def to_frame(self) -> pd.DataFrame:
        """Give a row for each part and one for each of the two rests as a pandas table.

        Returns
        -------
        pandas.DataFrame
            Columns ``part``, ``title``, ``contribution``, ``share``, ``x``, ``y``, ``presence``,
            ``radius``, ``nodes``, and ``photo_x``, ``photo_y`` where the photograph is known.

        Raises
        ------
        ExplgraphError
            If pandas isn't installed.
        """
        return rows.pandas().DataFrame(self.table())

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the explanation in the format of the path's suffix, whole or not at all.

        Parameters
        ----------
        path : path
            ``.html`` (a page, complete in itself, without scripts), ``.svg``, ``.png``, ``.pdf``
            (the picture), ``.json`` (all numbers), or ``.csv`` (the rows of `to_frame`).

        Raises
        ------
        ExplgraphError
            If the suffix isn't known, the file can't be written, or it is a picture and
            matplotlib isn't installed.
        """
        suffix = check_suffix(path, EXPLANATIONS)
        if suffix == ".csv":
            rows.write(path, rows.columns_of(self.table()))
            return
        if suffix in DRAWINGS:
            from explgraph.explaining.explanation_figure import explanation_figure

            explanation_figure(self, path=path)
            return
        if suffix == ".html":
            text = explanation_page.page(self)
        else:
            text = json.dumps(self.as_dict(), indent=1, allow_nan=False) + "\n"
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")

    def _repr_html_(self) -> str:
        """Show doubts, picture and table in a notebook."""
        doubts = "".join(f"<p><b>{escaped(doubt, 400)}</b></p>" for doubt in self.doubts)
        shown, others = self.shown()
        found: list[list[object]] = [
            [row.title, f"{row.contribution:+.3g}", f"{row.share:+.0%}", f"{row.presence:.2f}"]
            for row in shown
        ]
        more = len(self.rows) - len(found)
        size = max(abs(self.carried), 1e-12)
        if more > 0:
            told = counted(more, "other part")
            found.append([told, f"{others:+.3g}", f"{others / size:+.0%}", ""])
        found.append(
            ["unexplained", f"{self.unexplained:+.3g}",
             f"{self.unexplained / size:+.0%}", ""]
        )  # fmt: skip
        return (
            f"<div>{doubts}<p><b>{escaped(self.image)}</b>: {escaped(self.class_title)}, score "
            f"{self.score:.3g} (rank {self.rank} of {self.classes}); "
            f"{escaped(self.layer)} carries {self.carried:.3g} of it</p>"
            f"{explanation_page.marked_picture(self)}"
            f"{table(['part', 'adds', 'share', 'presence'], found)}</div>"
        )
