"""What nodes and parts answer to, as pictures: ``visualize``."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from explgraph.cli.inputs import open_photographs
from explgraph.cli.options import Command, add_graph, add_images, add_model, positive, seed
from explgraph.cli.outputs import check_folder
from explgraph.errors import ExplgraphError

if TYPE_CHECKING:
    from explgraph.explanatory_graph import ExplanatoryGraph

__all__ = ["add"]

_HOW = ("exemplars", "mask", "maximise", "invert")


def add(command: Command) -> None:
    """Add the command."""
    visualize = command(
        "visualize",
        _visualize,
        "draw what nodes or parts answer to, and what the graph keeps of images",
        "explgraph visualize birds-graph/graph.explgraph --images birds \\",
        "    --model torchvision:vgg16 --part p1 --part p2 --out seen",
        "explgraph visualize birds-graph/graph.explgraph --images birds \\",
        "    --model torchvision:vgg16 --how invert --out kept",
    )
    add_graph(visualize)
    visualize.add_argument(
        "--part",
        action="append",
        default=[],
        metavar="P",
        help="a part's id or name, all its nodes together; may be given several times "
        "(default: the three most reliable parts, if no node is asked for)",
    )
    visualize.add_argument(
        "--node",
        action="append",
        default=[],
        metavar="ID",
        help="a node, LAYER/FILTER/PATTERN; may be given several times",
    )
    visualize.add_argument(
        "--how",
        nargs="+",
        choices=_HOW,
        default=list(_HOW),
        help="exemplars: the patches where it was found best; mask: heat and outline of what it "
        "answers to; maximise: the image it answers to most; invert: images that show the same "
        "nodes as the first images given (default: all)",
    )
    visualize.add_argument(
        "--out", required=True, metavar="DIR", help="folder for index.html and its pictures"
    )
    visualize.add_argument(
        "--count", type=positive, default=4, metavar="N", help="images of each row (4)"
    )
    visualize.add_argument(
        "--steps", type=positive, metavar="N", help="of maximise (128) and invert (150)"
    )
    visualize.add_argument("--seed", type=seed, default=0, help="of maximise")
    add_model(visualize, required=True)
    add_images(visualize, required=True)


def _visualize(options: argparse.Namespace) -> None:
    """Run ``explgraph visualize``."""
    from explgraph.explaining.by_part import different_titles
    from explgraph.explanatory_graph import load
    from explgraph.network.models import load_model
    from explgraph.views import visualized
    from explgraph.views.visualized_page import write_page
    from explgraph.visualizing.invert import invert
    from explgraph.visualizing.masks import masks
    from explgraph.visualizing.maximise import maximise, spectrum
    from explgraph.visualizing.responses import asked

    folder = Path(options.out)
    check_folder(folder / "index.html")
    graph = load(options.graph)
    ways = set(options.how)
    things = list(dict.fromkeys(asked(graph, one).id for one in _things(options, graph, ways)))
    images = open_photographs(options, graph)
    model = load_model(options.model, weights=options.weights)
    running = {"device": options.device, "progress": not options.quiet}
    batched = running | {"batch_size": options.batch_size}
    steps = {} if options.steps is None else {"steps": options.steps}
    pictures: list[tuple[str, Path]] = []
    if things:
        found = graph.parse(model, images, **batched)
    known = spectrum(images, graph.image_size) if things and "maximise" in ways else None
    titles = different_titles(graph.parts)
    for what in things:
        heat = optimised = None
        if "mask" in ways:
            seen = visualized.sightings(graph, what, images, found, options.count)
            chosen = images.subset([one.image for one in seen])
            heat = masks(model, graph, chosen, found, what, **batched)
        if known is not None:
            optimised = maximise(model, graph, known, what, seed=options.seed, **steps, **running)
        file = folder / f"{_file_name(what)}.png"
        visualized.answers_figure(
            graph, what, images, found,
            exemplars="exemplars" in ways, masks=heat, optimised=optimised, count=options.count,
            path=file,
        )  # fmt: skip
        pictures.append((titles.get(what, what), file))
    if "invert" in ways:
        few = images.subset(range(min(options.count, len(images))))
        inverted = invert(model, graph, few, **steps, **running)
        file = folder / "inverted.png"
        visualized.inversion_figure(graph, inverted, few, path=file)
        pictures.append(("What the graph keeps of images", file))
    write_page(folder / "index.html", pictures)
    if not options.quiet:
        counted = f"{len(pictures)} picture{'s' * (len(pictures) != 1)}"
        print(f"{counted}: {folder / 'index.html'}")


def _things(options: argparse.Namespace, graph: ExplanatoryGraph, ways: set[str]) -> list[str]:
    """Which nodes and parts to draw."""
    if ways == {"invert"}:
        if options.part or options.node:
            raise ExplgraphError(
                "--how invert is of all nodes together; leave --part and --node out, or ask for "
                "exemplars, mask or maximise as well"
            )
        return []
    for node in options.node:
        if node not in graph.nx:
            raise ExplgraphError(
                f"--node: the graph has no node {node!r}; they are called LAYER/FILTER/PATTERN, "
                f"such as {graph.node_ids[0]!r}"
                if len(graph)
                else "the graph has no nodes"
            )
    parts = [graph.part(part).id for part in options.part]
    if not parts and not options.node:
        parts = [part.id for part in graph.parts[:3]] or [graph.part("p1").id]
    return [*parts, *options.node]


def _file_name(what: str) -> str:
    """Make a file's name of an id."""
    return re.sub(r"[^\w.-]+", "-", what)
