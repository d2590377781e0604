"""What options have in common: how their values are read, and groups that several commands take."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from explgraph.suffixes import SUFFIXES

__all__ = [
    "FORMATS",
    "Command",
    "add_by",
    "add_graph",
    "add_images",
    "add_layers",
    "add_model",
    "add_pictured",
    "colours",
    "formats",
    "layout",
    "names",
    "numbered",
    "pairs",
    "positive",
    "seed",
    "setting",
    "size",
    "top",
]

FORMATS = tuple(suffix[1:] for suffix in SUFFIXES)
V = TypeVar("V")


class Command(Protocol):
    """Adds a command, with what it runs and what ``--help`` says of it; gives its parser."""

    def __call__(  # noqa: D102
        self, name: str, run: Callable[[argparse.Namespace], None], about: str, *examples: str
    ) -> argparse.ArgumentParser: ...


def add_graph(parser: argparse.ArgumentParser) -> None:
    """Add the graph's file."""
    parser.add_argument("graph", metavar="GRAPH", help="file written by mine (graph.explgraph)")


def add_layers(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add what names layers."""
    parser.add_argument(
        "--layers",
        required=required,
        type=names,
        metavar="A,B,C",
        help="modules to mine; 'explgraph info --model SPEC' lists them"
        + ("" if required else " (default: those that it suggests)"),
    )
    parser.add_argument(
        "--layout",
        type=layout,
        action="append",
        default=[],
        metavar="[LAYER=]NCHW",
        help="how outputs are read as maps, where that can't be measured: NCHW, NHWC, NLC or "
        "'N(1+HW)C' (tokens, one in front), of all layers or of one; may be given several times",
    )


def add_model(
    parser: argparse.ArgumentParser, *, required: bool, running: bool | None = None
) -> None:
    """Add what names a model and, if it runs (if it is required, by default), where."""
    parser.add_argument(
        "--model",
        required=required,
        metavar="SPEC",
        help="torchvision:NAME, timm:NAME (also timm:hf-hub:USER/NAME) or package.module:factory",
    )
    parser.add_argument(
        "--weights", metavar="FILE", help="safetensors, or a state dict that torch saved"
    )
    if required if running is None else running:
        _add_running(parser)


def _add_running(parser: argparse.ArgumentParser) -> None:
    """Add where and how a model runs."""
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N")


def add_by(parser: argparse.ArgumentParser, told: str) -> None:
    """Add whether things are told of nodes or of parts."""
    parser.add_argument("--by", choices=("node", "part"), default="node", help=f"{told} (node)")


def add_images(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add what names photographs and how they are made ready."""
    parser.add_argument(
        "--images", required=required, metavar="DIR", help="photographs, each showing one object"
    )
    group = parser.add_argument_group(
        "preparing photographs",
        "Defaults: what the graph was mined with; for mine what the model says (timm's and "
        "torchvision's do, and any with .preprocessing), or else as shown.",
    )
    group.add_argument(
        "--size", type=size, metavar="N|HxW", help="px (what the model says, or else runs on)"
    )
    group.add_argument(
        "--mean", type=colours, metavar="R,G,B", help="of colours 0 to 1 (0.485,0.456,0.406)"
    )
    group.add_argument("--std", type=colours, metavar="R,G,B", help="(0.229,0.224,0.225)")
    group.add_argument("--fit", choices=("stretch", "crop", "pad"), help="to the size (stretch)")
    group.add_argument(
        "--crop", type=float, metavar="SHARE", help="of the shorter side, with --fit crop (1)"
    )
    group.add_argument(
        "--interpolation",
        choices=("bilinear", "bicubic", "lanczos", "box", "nearest"),
        help="between pixels (bilinear)",
    )
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


def add_pictured(parser: argparse.ArgumentParser) -> None:
    """Add what the explorer's pictures are made of."""
    add_images(parser, required=False)
    parser.add_argument(
        "--model", metavar="SPEC", help="parse them too, so that every photograph shows all nodes"
    )
    parser.add_argument("--weights", metavar="FILE", help="of the model")
    _add_running(parser)


def layout(text: str) -> tuple[str, str]:
    """Read ``[LAYER=]LAYOUT``; without a layer it is meant for all, "*"."""
    layer, equals, stated = text.rpartition("=")
    if not stated or (equals and not layer):
        raise argparse.ArgumentTypeError(f"expected LAYOUT or LAYER=LAYOUT, got {text!r}")
    return layer or "*", stated


def names(text: str) -> list[str]:
    """Split ``a,b,c``."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"expected names with commas between, got {text!r}")
    return names


def pairs(text: str) -> dict[str, str]:
    """Split ``a=x,b=y``."""
    pairs = [pair.partition("=") for pair in names(text)]
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


def setting(text: str) -> tuple[str, str]:
    """Split ``name=value``."""
    name, equals, value = text.partition("=")
    if not (name.strip() and equals and value.strip()):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name.strip(), value.strip()


def formats(text: str) -> list[str]:
    """Split a list of file formats."""
    if text == "none":
        return []
    formats = [name.lower().removeprefix(".") for name in names(text)]
    if unknown := [name for name in formats if name not in FORMATS]:
        raise argparse.ArgumentTypeError(
            f"no format {unknown[0]!r}; there are {', '.join(FORMATS)}, or none"
        )
    return formats


def numbered(text: str) -> dict[str, int]:
    """Read ``name=number,...``."""
    pairs = [pair.partition("=")[::2] for pair in names(text)]
    if wrong := [name for name, number in pairs if not name or not number.strip().isdecimal()]:
        raise argparse.ArgumentTypeError(f"expected NAME=NUMBER,..., got {wrong[0]!r} in {text!r}")
    return _unique([(name.strip(), int(number)) for name, number in pairs], text)


def seed(text: str) -> int:
    """Read a seed."""
    value = int(text)
    if not 0 <= value < 2**31:
        raise argparse.ArgumentTypeError(f"expected 0 to {2**31 - 1}, got {text}")
    return value


def positive(text: str) -> int:
    """Read a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text}")
    return value


def top(text: str) -> int | float:
    """Read a number of nodes, or a share of them (with a point)."""
    return float(text) if "." in text else int(text)


def size(text: str) -> tuple[int, int]:
    """Read ``224`` or ``HxW``."""
    sides = [positive(side) for side in text.lower().split("x")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"expected N or HxW, got {text!r}")
    return sides[0], sides[-1]


def colours(text: str) -> tuple[float, ...]:
    """Read ``r,g,b``, or one number for all three."""
    values = [float(value) for value in text.split(",")]
    if len(values) not in (1, 3):
        raise argparse.ArgumentTypeError(f"expected one number or three (r,g,b), got {text!r}")
    return tuple(values) if len(values) == 3 else (values[0],) * 3


# for "invalid ... value" in argparse's messages
seed.__name__ = positive.__name__ = "whole number"
top.__name__ = colours.__name__ = "number"
size.__name__ = "size"
