"""Mending a network: ``mend``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from explgraph.brief import counted
from explgraph.cli.inputs import open_photographs, read_outputs
from explgraph.cli.options import (
    Command,
    add_graph,
    add_images,
    add_model,
    add_outputs,
    class_,
    names,
    seed,
)
from explgraph.cli.outputs import check_out
from explgraph.errors import ExplgraphError
from explgraph.suffixes import REPORTS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import nn

    from explgraph.images.batches import AnyImages

__all__ = ["add"]


def add(command: Command) -> None:
    """Add the command."""
    mend = command(
        "mend",
        _mend,
        "change the network's last layer so that parts no longer tell a class",
        "explgraph mend birds-graph/graph.explgraph --images birds --labels crested.csv \\",
        "    --model package.module:factory --class crest --parts 'part 3' \\",
        "    --out mended.safetensors --report mended.md",
    )
    add_graph(mend)
    mend.add_argument(
        "--labels",
        required=True,
        metavar="FILE",
        help="CSV with the columns name and label (1 and 0: is it of the class?) or class (numbers "
        "or names, of classes that exclude each other), and present (1 and 0) for --cue labels",
    )
    mend.add_argument(
        "--class",
        dest="target",
        type=class_,
        required=True,
        metavar="NAME|N",
        help="the class: its number in the model's output, or its name where the model says it",
    )
    mend.add_argument(
        "--parts",
        type=names,
        required=True,
        metavar="A,B",
        help="what must not tell it: parts by id, name or title, or nodes by id",
    )
    mend.add_argument(
        "--how",
        choices=("projection", "last"),
        help="make the last layer blind to what the parts say, or fit it anew to these images "
        "(default: last with --cue labels, projection otherwise)",
    )
    mend.add_argument(
        "--cue",
        choices=("effect", "presence", "labels"),
        default="effect",
        help="what tells the images apart: whether the parts speak for the class, whether they are "
        "there, or the labels' column present (default: effect)",
    )
    mend.add_argument(
        "--kept-back",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="of the images, to measure what was gained (0.5)",
    )
    mend.add_argument(
        "--out",
        metavar="FILE.safetensors",
        help="the mended network's weights, for --weights and load_state_dict",
    )
    mend.add_argument("--report", metavar="FILE", help=f"what was gained: {', '.join(REPORTS)}")
    mend.add_argument("--seed", type=seed, default=0, help="of the images that are kept back")
    add_model(mend, required=True)
    add_outputs(mend)
    add_images(mend, required=True)


def _mend(options: argparse.Namespace) -> None:
    """Run ``explgraph mend``."""
    from explgraph.answers.label_files import read_labels
    from explgraph.answers.mend import mend
    from explgraph.explanatory_graph import load
    from explgraph.network.models import load_model

    check_out(options.out, (".safetensors",))
    check_out(options.report, REPORTS, "--report")
    graph = load(options.graph)
    images = open_photographs(options, graph)
    read = read_labels(options.labels, images.names, images.all_names)
    present: Any = options.cue
    if present == "labels":
        if read.present is None:
            raise ExplgraphError(
                f"--cue labels needs a column 'present' in {options.labels!r}: 1 where the image "
                "shows what must not tell the class, else 0"
            )
        present = read.present
    model = load_model(options.model, weights=options.weights)
    labels: ArrayLike = (
        _numbers(read.classes, model, images, options) if read.yes is None else read.yes
    )
    done = mend(
        model,
        graph,
        options.parts,
        images,
        labels,
        options.target,
        how=options.how,
        present=present,
        kept_back=options.kept_back,
        seed=options.seed,
        outputs=read_outputs(options),
        batch_size=options.batch_size,
        device=options.device,
        progress=not options.quiet,
    )
    if options.out is not None:
        done.save(options.out)
    if options.report is not None:
        done.write(options.report)
    if not options.quiet or (options.out is None and options.report is None):
        print(f"{counted(len(images), 'image')}, {len(done.tested)} of them kept back\n")
        print(done.report(), end="")


def _numbers(
    classes: tuple[str, ...], model: nn.Module, images: AnyImages, options: argparse.Namespace
) -> list[int]:
    """Give the numbers of classes, which may be written as names."""
    from explgraph.answers.evidence import output_count
    from explgraph.network.class_names import class_names, class_number

    n = output_count(model, images, outputs=read_outputs(options), device=options.device)
    known = class_names(model, n)
    try:
        return [class_number(class_(name), known, n) for name in classes]
    except ExplgraphError as error:
        raise ExplgraphError(f"{options.labels!r}, column 'class': {error}") from None
