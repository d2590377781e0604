"""The And-Or graph of named parts as users have it: it writes and draws itself.

What it holds is kept in the explanatory graph (`graph.and_or`); `Localizer.and_or` measures it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from explgraph.brief import counted, few
from explgraph.graph.and_or import AndOr, AndOrPart
from explgraph.graph.graph import Graph
from explgraph.markup import escaped, table
from explgraph.parsed import Parse
from explgraph.rows import pandas
from explgraph.views.pictures import Drawable

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["AndOrGraph"]


class AndOrGraph:
    """How named parts are located: a part (OR) by templates (AND), these by nodes, and how often.

    What `Localizer.and_or` gives, and ``graph.and_or`` of a graph that keeps it.

    Parameters
    ----------
    graph : ExplanatoryGraph
        Whose nodes vote.
    grown : explgraph.graph.and_or.AndOr

    Attributes
    ----------
    graph, grown
        As given.
    nx : networkx.DiGraph
        From parts to templates to nodes, with plain scalars as attributes. Vertices are called
        ``"head (part)"``, ``"head (template 1)"`` and by the nodes' ids; all have ``kind``
        ("part", "template", "node"), ``logic`` ("or": one of those below; "and": all) and
        ``name``. A part has ``marks``, ``radius`` (px, median of what is stated) and, where it is
        known, ``presence`` (share of the images that show it); a template ``share`` (of the images,
        in which it speaks), ``marks``, ``shots`` (names of the marked images, a JSON list) and, of
        several marks, ``error`` (px, of shots that were left out); a node ``layer``, ``filter``,
        ``pattern``, ``reliability`` and ``part`` (of the explanatory graph, empty for none). The
        edge from a part to a template has its ``share``; that to a node ``dx``, ``dy`` (from the
        node to the part, px), ``spread`` (px), ``share`` (of the vote, mean over the images in
        which the template speaks) and ``agreement`` (share of these images in which the vote lies
        within the radius). A node is an OR over its filter's units.
    """

    def __init__(self, graph: Graph, grown: AndOr) -> None:
        grown.check(graph.nx)
        self.graph = graph
        self.grown = grown
        self.nx = grown.network(graph.nx.nodes)

    @property
    def parts(self) -> tuple[AndOrPart, ...]:
        """The parts, each with its templates and their voters."""
        return self.grown.parts

    @property
    def told(self) -> list[str]:
        """What is known of each part, in a sentence."""
        return [f"{part.name}: {part.told}" for part in self.parts]

    def __repr__(self) -> str:
        templates = sum(len(part.templates) for part in self.parts)
        return (
            f"AndOrGraph: {counted(len(self.parts), 'part')} "
            f"({few(part.name for part in self.parts)}), {counted(templates, 'template')}, "
            f"{counted(len(self.grown.nodes), 'node')}; used in "
            f"{counted(self.grown.images, 'image')}"
        )

    def table(self) -> list[dict[str, Any]]:
        """Give a row for each vote: part, template, node and what the edge and the node have."""
        return self.grown.table(self.graph.nx.nodes)

    def to_frame(self) -> pd.DataFrame:
        """Give `table` as a pandas table.

        Raises
        ------
        ExplgraphError
            If pandas isn't installed.
        """
        return pandas().DataFrame(self.table())

    def write(
        self,
        path: str | os.PathLike[str],
        *,
        images: Drawable | None = None,
        parse: Parse | None = None,
        most: int | None = None,
    ) -> None:
        """Write it in the format of the path's suffix, whole or not at all.

        Parameters
        ----------
        path : path
            ``.html`` (a page, complete in itself, without scripts), ``.svg``, ``.png``, ``.pdf``
            (drawings), ``.dot``/``.gv`` (Graphviz), or with all nodes ``.json`` (node-link),
            ``.graphml``, ``.gexf`` (Gephi), ``.gml``, ``.cyjs`` (Cytoscape), ``.csv`` (`table`).
        images : ImageFolder, (N, H, W, 3) uint8 colours or list of PIL images, optional
            Where patches are cut from, for pages and drawings; by default those that the graph
            remembers.
        parse : Parse, optional
            Of `images`, by the graph.
        most : int, optional
            Nodes of each template, at most; for drawings, DOT and pages.

        Raises
        ------
        ExplgraphError
            If the suffix isn't known or has no such option, the images and the parse don't fit the
            graph, or the file can't be written.

        Warns
        -----
        ExplgraphWarning
            If there are no pictures since the images that the graph remembers are gone, or others
            than they were.
        """
        from explgraph.views import and_or_files  # with what draws

        and_or_files.write(self.graph, self.grown, path, images=images, parse=parse, most=most)

    def draw(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        images: Drawable | None = None,
        parse: Parse | None = None,
        width: float = 174.0,
        dpi: int = 300,
        most: int | None = None,
    ) -> Figure:
        """Draw it for a paper or a talk: see `ExplanatoryGraph.draw`, with ``what="and-or"``.

        Parameters
        ----------
        path : path, optional
        images, parse
            As of `write`.
        width : float
            mm in print.
        dpi : int
        most : int, optional
            Nodes of each template, at most; as many as there is room for by default.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ExplgraphError
            If matplotlib isn't installed, an argument is out of range, or the images and the parse
            don't fit the graph.
        """
        from explgraph.views.and_or_files import draw

        return draw(
            self.graph, self.grown,
            images=images, parse=parse, width=width, dpi=dpi, most=most, path=path,
        )  # fmt: skip

    def _repr_html_(self) -> str:
        """Show what is known of the parts, and their heaviest nodes, in a notebook."""
        told = "".join(f"<p>{escaped(sentence, 400)}.</p>" for sentence in self.told)
        cells: list[list[object]] = [
            [part.name, number, voter.node, f"{voter.share:.0%}",
             "" if voter.agreement is None else f"{voter.agreement:.0%}"]
            for part in self.parts
            for number, template in enumerate(part.templates, 1)
            for voter in template.telling(_SHOWN)
        ]  # fmt: skip
        head = ["part", "template", "node", "of the vote", "agrees"]
        return f"<div>{told}{table(head, cells)}</div>"


_SHOWN = 3  # nodes of a template that have a row in a notebook; pages and files hold more
