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
    "add_outputs",
    "add_pictured",
    "channels",
    "class_",
    "formats",
    "names",
    "numbered",
    "numbers",
    "of_layer",
    "pairs",
    "positive",
    "seed",
    "setting",
    "size",
    "top",
    "whole_numbers",
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
        type=of_layer,
        action="append",
        default=[],
        metavar="[LAYER=]NCHW",
        help="how outputs are read as maps, where that can't be measured: NCHW, NHWC, NLC or "
        "'N(1+HW)C' (tokens, one in front), of all layers or of one; may be given several times",
    )
    parser.add_argument(
        "--signs",
        type=of_layer,
        action="append",
        default=[],
        metavar="[LAYER=]both",
        help="'both': what layers give below zero makes filters of its own, for layers without a "
        "ReLU; 'positive', the default: it counts as nothing; may be given several times",
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
        "--weights",
        metavar="FILE",
        help="safetensors, or a state dict or checkpoint that torch saved; FILE#PLACE where it "
        "holds several that fit",
    )
    if required if running is None else running:
        _add_running(parser)


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add what reads scores off the model's output."""
    parser.add_argument(
        "--outputs",
        metavar="SPEC",
        help="package.module:function that takes what the model gives and gives scores of "
        "(images, classes), where the model gives anything else",
    )


def _add_running(parser: argparse.ArgumentParser) -> None:
    """Add where and how a model runs."""
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N")


def add_by(parser: argparse.ArgumentParser, told: str, default: str = "node") -> None:
    """Add whether things are told of nodes or of parts."""
    parser.add_argument(
        "--by", choices=("node", "part"), default=default, help=f"{told} ({default})"
    )


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
        "--mean", type=numbers, metavar="R,G,B", help="of colours 0 to 1 (0.485,0.456,0.406)"
    )
    group.add_argument("--std", type=numbers, metavar="R,G,B", help="(0.229,0.224,0.225)")
    group.add_argument(
        "--channels",
        type=channels,
        metavar="N|B,B,B",
        help="of grey images, TIFFs of several bands, .npy and .npz: how many, or which bands, "
        "from 0; needs --mean and --std (red, green and blue)",
    )
    group.add_argument(
        "--axes", choices=("HWC", "CHW"), help="where arrays have their channels (as many fit)"
    )
    group.add_argument(
        "--shown",
        type=whole_numbers,
        metavar="R,G,B",
        help="which channels pictures show as colours, or one as grey (0,1,2)",
    )
    group.add_argument(
        "--window",
        type=numbers,
        metavar="LOW,HIGH",
        help="values that pictures show as black and white (0,1 for 8 bits; else measured)",
    )
    group.add_argument(
        "--largest",
        type=positive,
        metavar="PIXELS",
        help="of an image file; larger ones are refused (178956970)",
    )
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
        "--boxes",
        metavar="FILE",
        help="one object each is cut out: CSV name,x0,y0,x1,y1, COCO, CVAT, Label Studio, "
        "CUB-200-2011, or the folder of LabelMe's, Pascal VOC's or YOLO's files",
    )
    group.add_argument(
        "--box-class", type=names, metavar="A,B", help="only boxes of these classes ('*': all)"
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


def of_layer(text: str) -> tuple[str, str]:
    """Read ``[LAYER=]VALUE``; without a layer it is meant for all, "*"."""
    layer, equals, stated = text.rpartition("=")
    if not stated or (equals and not layer):
        raise argparse.ArgumentTypeError(f"expected VALUE or LAYER=VALUE, got {text!r}")
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


def class_(text: str) -> int | str:
    """Read a class's number or name."""
    return int(text) if text.removeprefix("-").isdecimal() else text


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


def numbers(text: str) -> tuple[float, ...]:
    """Read numbers, one for each channel or one for all."""
    return tuple(float(value) for value in text.split(","))


def whole_numbers(text: str) -> tuple[int, ...]:
    """Read whole numbers."""
    return tuple(int(value) for value in text.split(","))


def channels(text: str) -> int | tuple[int, ...]:
    """Read ``4``, a number of channels, or bands with commas: ``3,2,1``, or ``0,`` for one."""
    if "," in text:
        return whole_numbers(text.removesuffix(","))
    return positive(text)


# for "invalid ... value" in argparse's messages
seed.__name__ = positive.__name__ = "whole number"
top.__name__ = numbers.__name__ = "number"
whole_numbers.__name__ = channels.__name__ = "whole number"
size.__name__ = "size"
