"""The fewest parts or nodes that keep a class's score: ``circuit``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from explgraph.brief import counted
from explgraph.cli.inputs import open_others, open_photographs, read_outputs
from explgraph.cli.options import (
    Command,
    add_graph,
    add_images,
    add_model,
    add_outputs,
    names,
    positive,
    seed,
)
from explgraph.cli.outputs import check_out, print_table
from explgraph.suffixes import CIRCUITS

if TYPE_CHECKING:
    from explgraph.circuits.circuit import Circuit
    from explgraph.explanatory_graph import ExplanatoryGraph

__all__ = ["add"]

_SHOWN = 12  # members


def add(command: Command) -> None:
    """Add the command of this file."""
    circuit = command(
        "circuit",
        _circuit,
        "find the fewest parts that keep a class's score when all else is replaced",
        "explgraph circuit birds-graph/graph.explgraph --images robins --reference birds \\",
        "    --model torchvision:vgg16 --class robin --out robin.explgraph --out robin.html",
        "explgraph circuit birds-graph/graph.explgraph --images birds --by node \\",
        "    --model torchvision:vgg16 --class robin,jay --keep 0.8 --out birds.md",
    )
    add_graph(circuit)
    circuit.add_argument(
        "--class",
        dest="classes",
        type=_classes,
        required=True,
        metavar="NAME|N,...",
        help="the class, by its number in the model's output, or its name where the model says it; "
        "of several each image counts for the one that is highest in it",
    )
    circuit.add_argument(
        "--keep",
        type=float,
        default=0.9,
        metavar="SHARE",
        help="of what the layers carry of the score (0.9)",
    )
    circuit.add_argument(
        "--by", choices=("part", "node"), default="part", help="what the circuit is made of (part)"
    )
    circuit.add_argument(
        "--layers",
        type=names,
        metavar="A,B",
        help="where all else is replaced (default: the one nearest to the output)",
    )
    circuit.add_argument(
        "--candidates",
        type=names,
        metavar="A,B",
        help="parts or nodes to choose among (default: all in the layers)",
    )
    circuit.add_argument(
        "--replacement",
        choices=("mean", "resampled", "zero"),
        default="mean",
        help="what stands in: the mean over images, another image's activation, or none (mean)",
    )
    circuit.add_argument(
        "--reference",
        metavar="DIR",
        help="photographs whose activation stands in, made ready alike; where all of --images show "
        "the class, give some that don't (default: those that the circuit is found on)",
    )
    circuit.add_argument(
        "--measure",
        choices=("score", "accuracy"),
        default="score",
        help="what is to be kept: the score, or how often it is the highest of all (score)",
    )
    circuit.add_argument(
        "--runs",
        type=positive,
        default=400,
        metavar="N",
        help="sets of candidates that are tried at most (400)",
    )
    circuit.add_argument("--seed", type=seed, default=0, help="of the images' halves")
    circuit.add_argument(
        "--out",
        action="append",
        default=[],
        metavar="FILE",
        help=f"{', '.join(CIRCUITS)}: the circuit's graph, its page, report, numbers, table, "
        "picture; may be given several times",
    )
    add_model(circuit, required=True)
    add_outputs(circuit)
    add_images(circuit, required=True)


def _classes(text: str) -> list[int | str]:
    """Read numbers and names of classes."""
    return [int(one) if one.removeprefix("-").isdecimal() else one for one in names(text)]


def _circuit(options: argparse.Namespace) -> None:
    """Run ``explgraph circuit``."""
    from explgraph.explanatory_graph import load
    from explgraph.network.models import load_model

    for out in options.out:
        check_out(out, CIRCUITS)
    graph = load(options.graph)
    images = open_photographs(options, graph)
    reference = None
    if options.reference is not None:
        reference = open_others(options, options.reference, graph)
    found = graph.circuit(
        load_model(options.model, weights=options.weights), images, options.classes,
        keep=options.keep, by=options.by, layers=options.layers, candidates=options.candidates,
        replacement=options.replacement, reference=reference, measure=options.measure,
        runs=options.runs, seed=options.seed, outputs=read_outputs(options),
        batch_size=options.batch_size, device=options.device, progress=not options.quiet,
    )  # fmt: skip
    for out in options.out:
        found.write(Path(out))
    if not options.quiet or not options.out:
        _print(found)
    if options.out and not options.quiet:
        print(f"written: {', '.join(options.out)}")


def _print(found: Circuit[ExplanatoryGraph]) -> None:
    """Print what a circuit is."""
    print(f"circuit of {found.title}")
    for sentence in found.told:
        print(f"{sentence}.")
    print()
    cells = found.cells()
    shown = cells[:_SHOWN]
    if more := len(cells) - len(shown):
        shown = [*shown, [f"{counted(more, 'member')} more", "", "", "", ""]]
    print_table(("member", "id", "nodes", "adds (estimate)", "kept less without it"), shown)
