"""Making graphs: ``demo``, ``record``, ``mine``."""

from __future__ import annotations

import argparse
import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explgraph.brief import counted
from explgraph.cli.inputs import open_for_model, read_by_layer, read_settings
from explgraph.cli.options import (
    FORMATS,
    Command,
    add_images,
    add_layers,
    add_model,
    formats,
    seed,
    setting,
)
from explgraph.cli.outputs import check_folder
from explgraph.errors import ExplgraphError

if TYPE_CHECKING:
    from explgraph.activations.memory import Activations
    from explgraph.activations.processes import Team
    from explgraph.activations.store import ActivationStore

__all__ = ["add"]

# the fields of `explgraph.Settings`, which --help can't ask without waiting for torch
_SETTINGS = (
    "sample",
    "pose",
    "trajectories",
    "further_gain",
    "apart",
    "min_support",
    "n_parents",
)


def add(command: Command) -> None:
    """Add the commands."""
    demo = command(
        "demo", _demo, "mine drawn creatures, offline, and report", "explgraph demo --out demo"
    )
    demo.add_argument("--out", default="explgraph-demo", metavar="DIR", help="folder to fill")
    demo.add_argument("--seed", type=seed, default=0)

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
    add_layers(recording, required=True)
    add_model(recording, required=True)
    add_images(recording, required=True)

    mine = command(
        "mine",
        _mine,
        "mine a graph from a folder of photographs, each showing one object",
        "explgraph mine --images birds --model torchvision:vgg16 \\",
        "    --layers features.28,features.21,features.14 --out birds-graph --set n_parents=8",
        "torchrun --nproc-per-node 8 -m explgraph mine --store birds.zarr --out birds-graph",
    )
    mine.add_argument(
        "--store",
        metavar="PLACE",
        help="activations on disk: those that 'explgraph record' kept, or, with a model, a place "
        "to keep them; an interrupted run goes on where it was",
    )
    add_layers(mine, required=False)
    mine.add_argument("--out", required=True, metavar="DIR", help="folder for graph.*")
    mine.add_argument(
        "--formats",
        type=formats,
        default=["graphml", "json", "dot", "svg", "html"],
        metavar="A,B",
        help=f"files beside graph.explgraph, or 'none'; of {', '.join(FORMATS)} "
        "(default: graphml,json,dot,svg,html)",
    )
    mine.add_argument("--seed", type=seed, default=0)
    mine.add_argument(
        "--set",
        dest="settings",
        type=setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"a setting of mining: {', '.join(_SETTINGS)} (explgraph.Settings says what they are "
        "and their defaults); may be given several times",
    )
    add_model(mine, required=False, running=True)
    add_images(mine, required=False)
    mine.set_defaults(wrong=mine.error)


def _demo(options: argparse.Namespace) -> None:
    """Run ``explgraph demo``."""
    from explgraph.creatures import demo

    check_folder(Path(options.out) / "graph.explgraph")
    start = time.perf_counter()
    figures = demo.demo(options.out, seed=options.seed, progress=not options.quiet)
    if options.quiet:
        return
    out = Path(options.out)
    print(demo.markdown(figures))
    print(f"Written to {out}{os.sep} in {time.perf_counter() - start:.0f} s. To look at it:")
    print(f"  explgraph view {out / 'graph.explgraph'}")
    if find_spec("matplotlib") is not None:
        print(f"  explgraph draw {out / 'graph.explgraph'} parts.png")
    print("To measure more, or to mine again with other settings:")
    print(
        f"  explgraph evaluate {out / 'graph.explgraph'} --images {out / 'new'} "
        f"--landmarks {out / 'new' / 'landmarks.csv'} --model explgraph.creatures:network"
    )


def _record(options: argparse.Namespace) -> None:
    """Run ``explgraph record``."""
    from explgraph.activations.processes import joined
    from explgraph.activations.recording import record
    from explgraph.network.models import load_model

    with joined(options.device) as team:
        alone = team.rank == 0
        start = time.perf_counter()
        model = load_model(options.model, weights=options.weights)
        store = record(
            model,
            open_for_model(options, model, alone),
            options.layers,
            store=options.store,
            dtype=options.dtype,
            layout=read_by_layer(options, "layout"),
            signs=read_by_layer(options, "signs"),
            batch_size=options.batch_size,
            device=options.device,
            progress=alone and not options.quiet,
        )
        if alone and not options.quiet:
            print(
                f"{counted(store.n_images, 'image')}, {counted(len(store.layers), 'layer')}: "
                "recorded in "
                f"{time.perf_counter() - start:.1f} s to {options.store}"
            )


def _mine(options: argparse.Namespace) -> None:
    """Run ``explgraph mine``."""
    from explgraph.activations.processes import joined

    needed = ("images", "model")
    missing = [f"--{name}" for name in needed if getattr(options, name) is None]
    if missing and (options.store is None or len(missing) < len(needed)):
        options.wrong(f"the following arguments are required: {', '.join(missing)}")
    for option in ("layout", "signs"):
        if missing and getattr(options, option):
            options.wrong(f"--{option} is for recording: give --images and --model with it")
    if missing and options.layers is not None:
        options.wrong("a store has its layers: leave --layers out, or give --images and --model")
    with joined(options.device) as team:
        _mine_together(options, Path(options.out), team)


def _mine_together(options: argparse.Namespace, folder: Path, team: Team) -> None:
    """Mine with all processes; the first one writes and tells."""
    from explgraph.activations.checkpoint import discard
    from explgraph.activations.memory import Activations
    from explgraph.activations.recording import record
    from explgraph.activations.store import open_store
    from explgraph.mining.mining import mine_activations
    from explgraph.network.layers import layers_for
    from explgraph.network.models import load_model
    from explgraph.parsing import parse_activations
    from explgraph.views.parts_told import parts_told
    from explgraph.views.several import write_formats

    first = team.rank == 0
    settings = read_settings(options.settings)
    progress = first and not options.quiet
    if first:
        check_folder(folder / "graph.explgraph")
    if team.size > 1 and options.store is None:
        raise ExplgraphError(
            "several processes need --store, a place where all of them can read and write"
        )
    images = None
    if options.images is not None:
        model = load_model(options.model, weights=options.weights)
        images = open_for_model(options, model, first)
        if options.layers is None:
            options.layers = list(layers_for(model, images, progress=False))
            if progress:
                print(f"layers: {', '.join(options.layers)}, as suggested; --layers names others")
    start = time.perf_counter()
    activations: Activations | ActivationStore
    if images is None:
        activations = open_store(options.store)
        preprocessing = activations.preprocessing
    else:
        preprocessing = images.describe()
        activations = record(
            model,
            images,
            options.layers,
            store=options.store,
            layout=read_by_layer(options, "layout"),
            signs=read_by_layer(options, "signs"),
            batch_size=options.batch_size,
            device=options.device,
            progress=progress,
        )
    recorded = time.perf_counter()
    checkpoint = folder / "unfinished" if options.store is not None else None
    graph = mine_activations(
        activations,
        seed=options.seed,
        settings=settings,
        preprocessing=preprocessing,
        images=images,
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
            f"{counted(len(graph), 'node')} and {counted(graph.nx.number_of_edges(), 'edge')} from "
            f"{counted(activations.n_images, 'image')}: recorded in {recorded - start:.1f} s, "
            "mined in "
            f"{mined - recorded:.1f} s, written in {time.perf_counter() - mined:.1f} s"
        )
        print(parts_told(graph))
        print(f"{folder}{os.sep}: {', '.join(['graph.explgraph', *(f.name for f in files)])}")
        print(f"To look at it: explgraph view {folder / 'graph.explgraph'}")
