"""The explanatory graph as users have it: what it holds, and what can be done with it.

Apart from `graph`, which knows neither images nor other programs' files: parsing and views look at
graphs, and a graph parses and writes itself by them.
"""

from __future__ import annotations

import os
from typing import Any, overload

from torch import nn

from explgraph import parsing
from explgraph.graph import file
from explgraph.graph.graph import Graph
from explgraph.images.batches import AnyImages
from explgraph.parse_store import ParseStore, parse_to_store
from explgraph.views import notebook

__all__ = ["ExplanatoryGraph", "load"]


class ExplanatoryGraph(Graph):
    """Part patterns of a network's filters, and which of them move together.

    What `explgraph.mine` gives and `explgraph.load` opens; its parameters and what it holds are
    described in `explgraph.graph.graph.Graph`.
    """

    @overload
    def parse(
        self,
        model: nn.Module,
        images: AnyImages,
        *,
        out: None = None,
        batch_size: int = 32,
        device: str = "auto",
        progress: bool = False,
    ) -> parsing.Parse: ...
    @overload
    def parse(
        self,
        model: nn.Module,
        images: AnyImages,
        *,
        out: str | os.PathLike[str],
        batch_size: int = 32,
        device: str = "auto",
        progress: bool = False,
    ) -> ParseStore: ...
    def parse(
        self,
        model: nn.Module,
        images: AnyImages,
        *,
        out: str | os.PathLike[str] | None = None,
        batch_size: int = 32,
        device: str = "auto",
        progress: bool = False,
    ) -> parsing.Parse | ParseStore:
        """Find every node in images: see `explgraph.parsing.parse`.

        With ``out``, a folder or URL, the parse is written there block by block, for any number of
        images; what was interrupted goes on where it was (`explgraph.parse_store`).
        """
        if out is None:
            return parsing.parse(
                self, model, images, batch_size=batch_size, device=device, progress=progress
            )
        return parse_to_store(
            self, model, images, out, batch_size=batch_size, device=device, progress=progress
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole graph to one file, which `explgraph.load` opens.

        Raises
        ------
        ExplgraphError
            If the graph isn't valid any more or the file can't be written.
        """
        file.write(self, path)

    def write(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write a drawing or another program's file, by suffix: see `views.export.write`."""
        from explgraph.views import export  # with what draws, which mining needn't wait for

        export.write(self, path, **options)

    def _repr_html_(self) -> str:
        """Show the graph in a notebook."""
        return notebook.graph_html(self)


def load(path: str | os.PathLike[str]) -> ExplanatoryGraph:
    """Open a graph that `ExplanatoryGraph.save` wrote.

    Raises
    ------
    ExplgraphError
        If the file is missing, a folder, empty, truncated or damaged, no explanatory graph, or
        of a version that this explgraph doesn't read.
    """
    return file.read(path, ExplanatoryGraph)
