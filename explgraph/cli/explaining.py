"""One image's score by parts: ``explain``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from explgraph.cli.inputs import made_ready_as, open_photographs, read_list, read_outputs
from explgraph.cli.options import (
    Command,
    add_graph,
    add_images,
    add_model,
    add_outputs,
    names,
    seed,
)
from explgraph.cli.outputs import check_folder, print_table
from explgraph.errors import ExplgraphError, MissingPackageError
from explgraph.suffixes import EXPLANATIONS

if TYPE_CHECKING:
    from explgraph.explaining.explanation import Explanation

__all__ = ["add"]

_FORMATS = tuple(suffix[1:] for suffix in EXPLANATIONS)


def add(command: Command) -> None:
    """Add the command of this file."""
    explain = command(
        "explain",
        _explain,
        "say which parts carried a class's score in an image, how much, and where",
        "explgraph explain birds-graph/graph.explgraph robin.jpg \\",
        "    --model torchvision:vgg16 --out robin",
        "explgraph explain birds-graph/graph.explgraph a.jpg b.jpg --class robin \\",
        "    --class-names classes.txt --model birds:network --out why --formats html,json",
    )
    add_graph(explain)
    explain.add_argument("files", nargs="+", metavar="IMAGE", help="photographs to explain")
    explain.add_argument(
        "--class",
        dest="target",
        metavar="NAME|N",
        help="the class, by name or by number in the model's output (default: the highest score)",
    )
    explain.add_argument(
        "--class-names",
        metavar="FILE",
        help="names of all classes, a line each (default: the model's own, if it has any)",
    )
    explain.add_argument(
        "--layer",
        metavar="A",
        help="whose nodes stand for the parts (default: the one nearest to the output)",
    )
    explain.add_argument(
        "--out", metavar="DIR", help="folder for a picture, a page and the numbers of each image"
    )
    explain.add_argument(
        "--formats",
        type=_formats,
        default=["html", "png", "json"],
        metavar="A,B",
        help=f"files of each image; of {', '.join(_FORMATS)} (default: html,png,json)",
    )
    explain.add_argument("--seed", type=seed, default=0, help="of what is taken away at random")
    add_model(explain, required=True, running=False)
    add_outputs(explain)
    explain.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    add_images(explain, required=False)


def _formats(text: str) -> list[str]:
    """Split a list of file formats."""
    formats = [name.lower().removeprefix(".") for name in names(text)]
    if unknown := [name for name in formats if name not in _FORMATS]:
        raise argparse.ArgumentTypeError(
            f"no format {unknown[0]!r}; there are {', '.join(_FORMATS)}"
        )
    return list(dict.fromkeys(formats))


def _explain(options: argparse.Namespace) -> None:
    """Run ``explgraph explain``."""
    from explgraph.explanatory_graph import load
    from explgraph.network.models import load_model

    if options.out is not None:
        check_folder(Path(options.out) / "explanation.json")
    graph = load(options.graph)
    for file in options.files:
        if Path(file).is_dir():
            raise ExplgraphError(f"IMAGE {file!r} is a folder; name the photographs in it")
        if not Path(file).is_file():
            raise ExplgraphError(f"IMAGE {file!r}: there is no such file")
    # a graph of a tensor doesn't know it
    graph.nx.graph["preprocessing"] = {"fit": "stretch"} | made_ready_as(options, graph)
    elsewhere = None if options.images is None else open_photographs(options, graph)
    named = None if options.class_names is None else read_list(options.class_names, "--class-names")
    model = load_model(options.model, weights=options.weights)
    outputs = read_outputs(options)
    written: list[str] = []
    for file, stem in zip(options.files, _different_stems(options.files), strict=True):
        found = graph.explain(
            model, Path(file), options.target,
            layer=options.layer, classes=named, images=elsewhere, seed=options.seed,
            outputs=outputs, device=options.device,
        )  # fmt: skip
        if options.out is not None:
            written += _write(found, Path(options.out), stem, options.formats)
        if not options.quiet or options.out is None:
            _print(found)
    if written and not options.quiet:
        print(f"written: {', '.join(written)}")


def _different_stems(files: list[str]) -> list[str]:
    """Give each photograph's files a stem of their own: a, a-2, a-3, without those of others."""
    stems = [Path(file).stem for file in files]
    # on some disks A and a are one file
    taken = {stem.casefold() for stem in stems}
    first: set[str] = set()
    different = []
    for stem in stems:
        new, number = stem, 1
        while new.casefold() in (taken if number > 1 else first):
            number += 1
            new = f"{stem}-{number}"
        first.add(stem.casefold())
        taken.add(new.casefold())
        different.append(new)
    return different


def _write(found: Explanation, folder: Path, stem: str, formats: list[str]) -> list[str]:
    """Write an explanation's files; a picture that needs matplotlib costs no other file."""
    written, missing = [], None
    for name in formats:
        try:
            found.write(folder / f"{stem}.{name}")
        except MissingPackageError as err:
            missing = err
        else:
            written.append(str(folder / f"{stem}.{name}"))
    if missing is not None and not written:
        raise missing
    if missing is not None:
        print(f"no picture: {missing}")
    return written


def _print(found: Explanation) -> None:
    """Print what an explanation says."""
    rank = f", rank {found.rank} of {found.classes}" if found.classes > 1 else ""
    print(f"{found.image}: {found.class_title}, score {found.score:.3g}{rank}")
    print(f"{found.told}\n")
    shown, others = found.shown()
    more = len(found.rows) - len(shown)
    size = max(abs(found.carried), 1e-12)
    told = [
        (row.title, f"{row.contribution:+.3g}", f"{row.share:+.0%}",
         f"{row.x:.0f}, {row.y:.0f}", f"{row.presence:.2f}")
        for row in shown
    ]  # fmt: skip
    rests = [(f"{more} other part{'s' * (more > 1)}", others)] if more else []
    rests.append(("unexplained", found.unexplained))
    told += [(name, f"{value:+.3g}", f"{value / size:+.0%}", "", "") for name, value in rests]
    print_table(("part", "adds", "share", "at x, y", "presence"), told)
    removal = found.removal
    if removal.parts:
        # of those in the table: the more are taken away, the less it matters in which order
        k = max(1, len([row for row in shown if row.part in removal.parts]))
        parts = "part" if k == 1 else f"{k} parts"
        print(
            f"\nreally without the first {parts}: {removal.score[k]:.3g} "
            f"(expected {removal.expected[k]:.3g}; without as many at random "
            f"{removal.random[k]:.3g})\n"
        )
