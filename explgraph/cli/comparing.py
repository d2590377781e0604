"""Two graphs side by side: ``compare``."""

from __future__ import annotations

import argparse
import re
from typing import Any

from explgraph.cli.inputs import open_photographs, read_outputs
from explgraph.cli.options import (
    Command,
    add_by,
    add_images,
    add_model,
    add_outputs,
    names,
    positive,
    seed,
)
from explgraph.cli.outputs import check_out
from explgraph.errors import ExplgraphError
from explgraph.suffixes import COMPARISONS

__all__ = ["add"]


def add(command: Command) -> None:
    """Add the command."""
    compare = command(
        "compare",
        _compare,
        "compare two checkpoints, networks or choices of layers: what is the same, vanished, "
        "appeared, moved, changed its effect on a class",
        "explgraph compare before/graph.explgraph after/graph.explgraph --images birds \\",
        "    --model birds.model:network --weights before.pt --weights-b after.pt \\",
        "    --out changed.html",
    )
    compare.add_argument("graph", metavar="A", help="graph of the one (graph.explgraph)")
    compare.add_argument("other", metavar="B", help="graph of the other one")
    compare.add_argument(
        "--classes",
        type=names,
        metavar="A,B=K,C=K:L",
        help="classes on which effects are compared: names that the models know, or numbers of "
        "outputs; NAME=K calls them, K:L are those of A and of B (default: those that come first "
        "in a tenth of the images)",
    )
    add_by(compare, "match and test parts, or the nodes of parts", default="part")
    compare.add_argument(
        "--margin", type=float, default=0.05, metavar="S", help="changes that don't count (0.05)"
    )
    compare.add_argument(
        "--fdr", type=float, default=0.05, metavar="Q", help="rate of false discoveries (0.05)"
    )
    compare.add_argument(
        "--permutations",
        type=positive,
        metavar="N",
        help="exchanges by which a change is tested (default: as many as are needed)",
    )
    compare.add_argument("--seed", type=seed, default=0)
    compare.add_argument(
        "--out",
        action="append",
        default=[],
        metavar="FILE",
        help=f"{', '.join(COMPARISONS)} (a page; all that was tested; a report); may be given "
        "several times",
    )
    add_model(compare, required=True)
    compare.add_argument(
        "--model-b", metavar="SPEC", help="of B, if it is another (default: that of --model)"
    )
    compare.add_argument("--weights-b", metavar="FILE", help="of B's model")
    add_outputs(compare)
    add_images(compare, required=True)


def _compare(options: argparse.Namespace) -> None:
    """Run ``explgraph compare``."""
    from explgraph.answers.compare import compare
    from explgraph.explanatory_graph import load
    from explgraph.network.models import load_model

    for out in options.out:
        check_out(out, COMPARISONS)
    classes = _classes(options.classes)
    graphs = load(options.graph), load(options.other)
    model = load_model(options.model, weights=options.weights)
    other = model
    if options.model_b is not None or options.weights_b is not None:
        other = load_model(options.model_b or options.model, weights=options.weights_b)
    images, images_b = (open_photographs(options, graph) for graph in graphs)
    found = compare(
        *graphs,
        images,
        models=(model, other),
        images_b=images_b,
        classes=classes,
        by=options.by,
        margin=options.margin,
        fdr=options.fdr,
        permutations=options.permutations,
        seed=options.seed,
        outputs=read_outputs(options),
        batch_size=options.batch_size,
        device=options.device,
        progress=not options.quiet,
    )
    for out in options.out:
        found.write(out)
    if not options.quiet or not options.out:
        print(found.report(), end="")


def _classes(listed: list[str] | None) -> dict[str, Any] | None:
    """Read classes: what they are to be called, and their names or numbers."""
    if listed is None:
        return None
    found: dict[str, Any] = {}
    for one in listed:
        named = re.fullmatch(r"(.+)=(\d+)(?::(\d+))?", one)
        if named is None and "=" in one:
            raise ExplgraphError(
                f"--classes: {one!r}; expected a name, a number, NAME=K or NAME=K:L, such as "
                "robin=15:7"
            )
        name = one if named is None else named[1]
        if name in found:
            raise ExplgraphError(f"--classes names {name!r} twice")
        if named is None:
            found[name] = one
        else:
            found[name] = int(named[2]) if named[3] is None else (int(named[2]), int(named[3]))
    return found
