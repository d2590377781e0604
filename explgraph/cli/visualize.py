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
    from explgraph.brief import counted
    from explgraph.explanatory_graph import load
    from explgraph.network.models import load_model

    check_folder(Path(options.out) / "index.html")
    graph = load(options.graph)
    if options.how == ["invert"] and (options.part or options.node):
        raise ExplgraphError(
            "--how invert is of all nodes together; leave --part and --node out, or ask for "
            "exemplars, mask or maximise as well"
        )
    things = [graph.part(part).id for part in options.part] + _nodes(options, graph)
    images = open_photographs(options, graph)
    page = graph.visualize(
        load_model(options.model, weights=options.weights),
        images,
        options.out,
        things or None,
        how=options.how,
        count=options.count,
        steps=options.steps,
        seed=options.seed,
        batch_size=options.batch_size,
        device=options.device,
        progress=not options.quiet,
    )
    if not options.quiet:
        pictures = len(re.findall("<img ", page.read_text(encoding="utf-8")))
        print(f"{counted(pictures, 'picture')}: {page}")


def _nodes(options: argparse.Namespace, graph: ExplanatoryGraph) -> list[str]:
    """Give the nodes that are asked for, checked to be some."""
    for node in options.node:
        if node not in graph.nx:
            raise ExplgraphError(
                f"--node: the graph has no node {node!r}; they are called LAYER/FILTER/PATTERN, "
                f"such as {graph.node_ids[0]!r}"
                if len(graph)
                else "the graph has no nodes"
            )
    return list(options.node)
