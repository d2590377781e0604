"""``evaluate --faithful``: whether parts carry the scores that they are said to carry."""

from __future__ import annotations

import argparse
from typing import Any

from explgraph.cli.inputs import open_others, open_photographs, read_outputs
from explgraph.cli.options import add_outputs, positive
from explgraph.cli.outputs import check_out
from explgraph.errors import ExplgraphError
from explgraph.suffixes import DRAWINGS, REPORTS

__all__ = ["add_faithful", "evaluate_faithful", "faithful_only"]


def add_faithful(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``evaluate --faithful``."""
    group = parser.add_argument_group(
        "--faithful", "take parts away, or keep them alone, and see what becomes of a class's score"
    )
    group.add_argument(
        "--faithful",
        action="store_true",
        help="measure that, in place of how well nodes follow marks",
    )
    group.add_argument(
        "--class",
        dest="target",
        metavar="NAME|N",
        help="the class, by name or by number in the model's output (default: each image's class "
        "of the highest score)",
    )
    group.add_argument("--layer", metavar="A", help="whose nodes (default: the highest)")
    group.add_argument(
        "--first", type=positive, default=3, metavar="K", help="how many elements (3)"
    )
    group.add_argument(
        "--replacement",
        choices=("zero", "mean", "resampled"),
        default="zero",
        help="what stands in for what is taken away: nothing, the mean of --others, or what one of "
        "them has there (zero)",
    )
    group.add_argument("--others", metavar="DIR", help="photographs for --replacement")
    group.add_argument(
        "--shuffle",
        action="store_true",
        help="also shuffle the model's weights, with which the answer must fall apart (minutes)",
    )
    add_outputs(parser)


def faithful_only(options: argparse.Namespace) -> str:
    """Give an option that was given and means nothing without ``--faithful``; "" for none."""
    given = {
        "--class": options.target is not None,
        "--layer": options.layer is not None,
        "--others": options.others is not None,
        "--shuffle": options.shuffle,
        "--outputs": options.outputs is not None,
    }
    return next((option for option, is_given in given.items() if is_given), "")


def evaluate_faithful(options: argparse.Namespace) -> None:
    """Run ``explgraph evaluate --faithful``."""
    from explgraph.answers.faithfulness import faithfulness
    from explgraph.answers.randomised import randomised
    from explgraph.explanatory_graph import load
    from explgraph.network.models import load_model

    for option in ("landmarks", "parts"):
        if getattr(options, option) is not None:
            raise ExplgraphError(f"--faithful needs no marks: leave out --{option}, or --faithful")
    if options.replacement != "zero" and options.others is None:
        raise ExplgraphError(
            f"--replacement {options.replacement} needs --others, a folder of photographs whose "
            "activation stands in for what is taken away"
        )
    for out in options.out:
        check_out(out, (*REPORTS, *DRAWINGS))
    graph = load(options.graph)
    images = open_photographs(options, graph)
    others = None if options.others is None else open_others(options, options.others, graph)
    model = load_model(options.model, weights=options.weights)
    how: dict[str, Any] = {
        "layer": options.layer,
        "first": options.first,
        "seed": options.seed,
        "outputs": read_outputs(options),
        "batch_size": options.batch_size,
        "device": options.device,
        "progress": not options.quiet,
    }
    found = faithfulness(
        model, graph, images, options.target,
        replacement=options.replacement, others=others, **how,
    )  # fmt: skip
    for out in options.out:
        found.write(out)
    if not options.quiet or not options.out:
        print(f"{found.told}\n\n{found.markdown()}")
    if options.shuffle:
        shuffled = randomised(model, graph, images, options.target, **how)
        print(f"\n{shuffled.told}\n\n{shuffled.markdown()}")
