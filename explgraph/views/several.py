"""A graph in several formats at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from explgraph.errors import ExplgraphError, warn
from explgraph.graph.graph import Graph
from explgraph.parsed import Parse
from explgraph.progress import Shown, bar
from explgraph.views.export import write
from explgraph.views.pictures import Drawable

__all__ = ["write_formats"]


def write_formats(
    graph: Graph,
    folder: str | os.PathLike[str],
    formats: Sequence[str],
    *,
    images: Drawable | None = None,
    parse: Parse | None = None,
    progress: Shown = None,
) -> list[Path]:
    """Write ``graph.FORMAT`` files; one that can't be made does not cost the others.

    Parameters
    ----------
    graph : ExplanatoryGraph
    folder : path
    formats : sequence of str
        Suffixes without the dot.
    images, parse
        For the explorer page's pictures (`explgraph.views.viewer.page`); drawings have those that
        the graph remembers, as the page has without `images`.
    progress : bool or None
        Show a bar: by default in notebooks alone, if True on a terminal too.

    Returns
    -------
    list of Path
        The files that were written.

    Warns
    -----
    ExplgraphWarning
        Once for each reason why files can't be made (drawings without Graphviz, for instance).
    """
    written = []
    failed: dict[str, list[str]] = {}
    for suffix in bar(formats, shown=progress, desc="writing", unit="file"):
        path = Path(folder) / f"graph.{suffix}"
        try:
            if suffix == "html" and images is not None:
                write(graph, path, images=images, parse=parse)
            else:
                write(graph, path)
        except ExplgraphError as err:
            failed.setdefault(str(err), []).append(path.name)
        else:
            written.append(path)
    for reason, names in failed.items():
        warn(f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not written: {reason}")
    return written
