"""Marking parts in the browser while they are learnt: ``teach``."""

from __future__ import annotations

import argparse
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from explgraph.brief import counted
from explgraph.cli.inputs import pictures_for
from explgraph.cli.options import Command, add_graph, add_images, add_model, names, seed
from explgraph.cli.outputs import check_folder
from explgraph.errors import ExplgraphError

if TYPE_CHECKING:
    from explgraph.teaching.teacher import Teacher

__all__ = ["add"]


def add(command: Command) -> None:
    """Add the command of this file."""
    teach = command(
        "teach",
        _teach,
        "mark parts in the browser (from this machine only) while they are learnt",
        "explgraph teach birds-graph/graph.explgraph --images birds \\",
        '    --model torchvision:vgg16 --parts "eye,tail" --out marks --target 0.03',
    )
    add_graph(teach)
    teach.add_argument(
        "--parts",
        type=names,
        default=[],
        metavar="A,B",
        help="what is to be marked; those that the graph has start with its guesses (default: "
        "the page asks)",
    )
    teach.add_argument(
        "--out",
        default="marks",
        metavar="DIR",
        help="marks.csv, marks.json (COCO) and the graph with its names; of a folder that is "
        "there already it goes on (marks)",
    )
    teach.add_argument(
        "--target",
        type=float,
        metavar="SHARE",
        help="expected error, of the images' diagonal, at which it suggests to stop: 0.03, say "
        "(default: when further answers gain little)",
    )
    teach.add_argument(
        "--port", type=int, help="default: the one that DIR remembers, or a free one"
    )
    teach.add_argument("--no-browser", action="store_true", help="only print the address")
    teach.add_argument("--seed", type=seed, default=0)
    add_model(teach, required=True)
    add_images(teach, required=False)


def _teach(options: argparse.Namespace) -> None:
    """Run ``explgraph teach``."""
    from explgraph.explanatory_graph import load
    from explgraph.teaching.checks import checked_names, checked_target
    from explgraph.teaching.server import serve
    from explgraph.teaching.teacher import Teacher

    # what is wrong is said before all images are parsed
    parts, target = checked_names(options.parts), checked_target(options.target)
    check_folder(Path(options.out) / "marks.csv")
    graph = load(options.graph)
    known = pictures_for(options, graph)
    if not known:
        raise ExplgraphError("the graph doesn't know where its images are; give --images")
    with Teacher(
        graph, known["parse"], parts, images=known["images"], out=options.out, target=target,
        seed=options.seed,
    ) as teacher:  # fmt: skip
        serve(teacher, port=options.port, open_browser=not options.no_browser)
        if not options.quiet:
            _tell(teacher, Path(options.out))


def _tell(teacher: Teacher, out: Path) -> None:
    """Say how far it came, and where everything is."""
    progress = teacher.progress()
    if not progress:
        print("nothing was answered")
        return
    last = progress[-1]
    for part, error in last.errors.items():
        known = f"expected error {error:.1%} of the diagonal" if isfinite(error) else "never marked"
        print(f"{part}: {known}")
    print(f"{counted(last.answers, 'image')} of {len(teacher.parse.names):,} answered:")
    for name in ("marks.csv", "marks.json", "graph.explgraph"):
        if (out / name).exists():
            print(f"  {out / name}")
