"""What nodes and parts of a graph answer to, drawn into a folder with a page.

`ExplanatoryGraph.visualize` and ``explgraph visualize``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph, check_graph
from explgraph.images.batches import AnyImages
from explgraph.images.folder import ImageFolder
from explgraph.images.taken import Photographs, taken
from explgraph.parsing import parse
from explgraph.paths import checked_path
from explgraph.progress import Shown
from explgraph.views import visualized
from explgraph.views.visualized_page import write_page
from explgraph.visualizing.invert import invert
from explgraph.visualizing.masks import masks
from explgraph.visualizing.maximise import maximise, spectrum
from explgraph.visualizing.responses import asked

__all__ = ["HOW", "visualize"]

HOW = ("exemplars", "mask", "maximise", "invert")
_USUAL = 3  # parts that are drawn where none are asked for


def visualize(
    model: nn.Module,
    graph: Graph,
    images: AnyImages,
    folder: str | os.PathLike[str],
    what: str | Sequence[str] | None = None,
    *,
    how: Sequence[str] = HOW,
    count: int = 4,
    steps: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> Path:
    """Draw what nodes and parts answer to: see `ExplanatoryGraph.visualize`."""
    check_graph(graph)
    place = checked_path(folder, "folder")
    ways = set(_checked_ways(how))
    things = _things(graph, what, ways)
    photographs = taken(images, graph.nx.graph["preprocessing"])
    if not isinstance(photographs, (ImageFolder, Photographs)):
        raise ExplgraphError(
            f"images must be photographs, which can be drawn, got {type(images).__name__}; give an "
            "ImageFolder, a folder's path, or a list of PIL images"
        )
    shown = progress is not False and progress is not None
    optimising = {} if steps is None else {"steps": steps}
    pictures: list[tuple[str, Path]] = []
    if things:
        found = parse(
            model, graph, photographs, batch_size=batch_size, device=device, progress=progress
        )
    known = spectrum(photographs, graph.image_size) if things and "maximise" in ways else None
    for one in things:
        heat = optimised = None
        if "mask" in ways:
            seen = visualized.sightings(graph, one, photographs, found, count)
            chosen = photographs.subset([s.image for s in seen])
            heat = masks(
                model, graph, chosen, found, one,
                batch_size=batch_size, device=device, progress=shown,
            )  # fmt: skip
        if known is not None:
            optimised = maximise(
                model, graph, known, one, seed=seed, device=device, progress=shown, **optimising
            )
        file = place / f"{_file_name(one)}.png"
        visualized.answers_figure(
            graph, one, photographs, found,
            exemplars="exemplars" in ways, masks=heat, optimised=optimised, count=count, path=file,
        )  # fmt: skip
        pictures.append((_title(graph, one), file))
    if "invert" in ways:
        few: Any = photographs.subset(range(min(count, len(photographs))))
        inverted = invert(model, graph, few, device=device, progress=shown, **optimising)
        file = place / "inverted.png"
        visualized.inversion_figure(graph, inverted, few, path=file)
        pictures.append(("What the graph keeps of images", file))
    write_page(place / "index.html", pictures)
    return place / "index.html"


def _checked_ways(how: Sequence[str]) -> Sequence[str]:
    """Refuse ways that aren't known, and none."""
    if isinstance(how, str) or not how or any(way not in HOW for way in how):
        raise ExplgraphError(f"how must be some of {', '.join(HOW)}; got {how!r}")
    return how


def _things(graph: Graph, what: str | Sequence[str] | None, ways: set[str]) -> list[str]:
    """Name the nodes and parts to draw, once each; by default the most reliable parts."""
    wanted = [what] if isinstance(what, str) else list(what or ())
    if ways == {"invert"}:
        if wanted:
            raise ExplgraphError(
                "invert is of all nodes together: leave out which nodes and parts, or ask for "
                "exemplars, mask or maximise as well"
            )
        return []
    wanted = wanted or [part.id for part in graph.parts[:_USUAL]] or [graph.part("p1").id]
    return list(dict.fromkeys(asked(graph, one).id for one in wanted))


def _title(graph: Graph, what: str) -> str:
    """Name a node or part, a part whose title others have by its id as well."""
    if what in graph.nx:
        return what
    title = graph.part(what).title
    alike = sum(part.title == title for part in graph.parts) > 1
    return f"{title} ({what})" if alike else title


def _file_name(what: str) -> str:
    """Make a file's name of an id."""
    return re.sub(r"[^\w.-]+", "-", what)
