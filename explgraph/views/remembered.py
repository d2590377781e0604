"""The images that a graph was mined from, where it remembers them: what pictures are cut from.

A graph's file may come from anybody. What is looked at, and why that gives nothing away, is said in
`explgraph.images.whereabouts`.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.graph.graph import Graph
from explgraph.images.folder import ImageFolder
from explgraph.images.taken import taken
from explgraph.images.whereabouts import found

__all__ = ["HOW", "opened", "remembered", "remembered_for"]

HOW = "give images=, an explgraph.ImageFolder of them (in the shell --images DIR)"


def opened(graph: Graph, images: Any) -> Any:
    """Open the folder that a path names, made ready as the mined images were; others as they are.

    Raises
    ------
    ExplgraphError
        If the folder can't be read.
    """
    if isinstance(images, (str, os.PathLike)):
        return taken(images, graph.nx.graph["preprocessing"])
    return images


def remembered(graph: Graph) -> ImageFolder | None:
    """Open the images that nodes of a graph were seen best in.

    Returns
    -------
    ImageFolder or None
        None if the graph was not told where they are, as when a tensor was mined.

    Raises
    ------
    ExplgraphError
        If one is missing or another one than it was; says which, and where it was looked for.
    """
    ready = graph.nx.graph["preprocessing"]
    if graph.whereabouts is None or not ready or not graph.whereabouts["photographs"]:
        return None
    if not {"size", "mean", "std", "fit"} <= ready.keys() or tuple(ready["size"]) != (
        graph.image_size
    ):
        raise ExplgraphError(
            f"the graph says that its images were made ready by {ready}, which is not how its "
            f"images of {graph.image_size} px were"
        )
    return found(graph.whereabouts, ready)


def remembered_for(graph: Graph, path: str | os.PathLike[str]) -> ImageFolder | None:
    """Open them for a file; if they are lost, warn that it has no pictures, and how to give them.

    Warns
    -----
    ExplgraphWarning
    """
    try:
        return remembered(graph)
    except ExplgraphError as err:
        warnings.warn(
            f"{os.fspath(path)} has no pictures: {err}; {HOW}", ExplgraphWarning, stacklevel=4
        )
        return None
