"""Where things are in photographs: ``parse``, ``evaluate``, ``locate``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explgraph.brief import counted
from explgraph.cli.faithful import add_faithful, evaluate_faithful, faithful_only
from explgraph.cli.inputs import classes, open_others, open_photographs
from explgraph.cli.options import (
    Command,
    add_by,
    add_graph,
    add_images,
    add_model,
    names,
    positive,
    seed,
)
from explgraph.cli.outputs import check_out
from explgraph.errors import ExplgraphError, warn
from explgraph.suffixes import AND_ORS, DRAWINGS, MARKS, PARSES, REPORTS, TABLES

if TYPE_CHECKING:
    from explgraph.evaluation.landmarks import Landmarks
    from explgraph.images.folder import ImageFolder
    from explgraph.parsed import Parse

__all__ = ["add"]


def add(command: Command) -> None:
    """Add the commands."""
    parsing = command(
        "parse",
        _parse,
        "find every node, or every part, of a graph in photographs",
        "explgraph parse birds-graph/graph.explgraph --images new \\",
        "    --model torchvision:vgg16 --out places.csv",
        "explgraph parse birds-graph/graph.explgraph --images million \\",
        "    --model torchvision:vgg16 --out places.zarr",
        "explgraph parse birds-graph/graph.explgraph --images new --by part \\",
        "    --model torchvision:vgg16 --out parts.csv",
        "explgraph parse birds-graph/graph.explgraph --images flocks --objects 3 \\",
        "    --model torchvision:vgg16 --out places.csv",
    )
    add_graph(parsing)
    add_by(parsing, "places of nodes, or of parts with their presence and radius")
    parsing.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help=f"places and scores: {', '.join(PARSES)}, or .zarr, which is written block by block "
        "in bounded memory and goes on where it was after an interruption; of parts "
        f"{', '.join(TABLES)}",
    )
    _add_objects(parsing)
    add_model(parsing, required=True)
    add_images(parsing, required=True)

    evaluate = command(
        "evaluate",
        _evaluate,
        "measure how well nodes follow marks, or whether parts carry scores, beside baselines",
        "explgraph evaluate birds-graph/graph.explgraph --images new \\",
        "    --landmarks new/parts.json --model torchvision:vgg16 --out quality.md",
        "explgraph evaluate birds-graph/graph.explgraph --images new --faithful \\",
        "    --model torchvision:vgg16 --out faithful.md --out faithful.png",
    )
    add_graph(evaluate)
    _add_landmarks(
        evaluate,
        "marked parts: COCO, DeepLabCut, CVAT, Label Studio, LabelMe, CUB-200-2011, parts.json or "
        "a CSV (name,part,x,y)",
        required=False,
    )
    evaluate.add_argument(
        "--parts", type=names, metavar="A,B", help="only these parts (default: all)"
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
        help=f".md (the table) or {', '.join(TABLES)} (every row); with --faithful also a picture "
        f"of the curves, {', '.join(DRAWINGS)}; may be given several times",
    )
    evaluate.add_argument("--seed", type=seed, default=0)
    add_faithful(evaluate)
    add_model(evaluate, required=True)
    add_images(evaluate, required=True)

    locate = command(
        "locate",
        _locate,
        "locate named parts in photographs, some of which are marked, or suggest which to mark",
        "explgraph locate birds-graph/graph.explgraph --images birds --suggest 6 \\",
        "    --model torchvision:vgg16",
        "explgraph locate birds-graph/graph.explgraph --images birds --landmarks marks.csv \\",
        "    --model torchvision:vgg16 --new other --out parts.csv --labelled named.explgraph",
        "explgraph locate birds-graph/graph.explgraph --images birds --landmarks marks.csv \\",
        "    --model torchvision:vgg16 --out parts.csv --and-or parts.html",
    )
    add_graph(locate)
    _add_landmarks(
        locate,
        "marked parts of some of the photographs; see evaluate for the formats",
        required=False,
    )
    locate.add_argument(
        "--absent",
        metavar="FILE",
        help="CSV name,part: photographs known not to show a part, to tell presence by",
    )
    locate.add_argument("--new", metavar="DIR", help="locate in these photographs (--images)")
    _add_objects(locate, " of --new")
    locate.add_argument(
        "--out", metavar="FILE", help=f"places and uncertainties: {', '.join(TABLES)}"
    )
    locate.add_argument(
        "--marks",
        metavar="FILE",
        help="places as marks of the photographs, to open in other programs: COCO (.json) or "
        "name,part,x,y (.csv)",
    )
    locate.add_argument(
        "--labelled",
        metavar="FILE",
        help="the graph with its nodes named, and how parts are located: .explgraph",
    )
    locate.add_argument(
        "--and-or",
        metavar="FILE",
        help="how parts are located, by which templates and nodes, and how often in the "
        f"photographs of --images: {', '.join(AND_ORS)}",
    )
    locate.add_argument(
        "--suggest",
        type=positive,
        metavar="K",
        help="only name the K photographs whose marks would help most",
    )
    add_model(locate, required=True)
    add_images(locate, required=True)


def _add_landmarks(parser: argparse.ArgumentParser, told: str, *, required: bool) -> None:
    """Add what is marked, and of which objects."""
    parser.add_argument("--landmarks", required=required, metavar="FILE", help=told)
    parser.add_argument(
        "--landmark-class",
        type=names,
        metavar="A,B",
        help="only marks of objects of these classes ('*': all)",
    )


def _add_objects(parser: argparse.ArgumentParser, where: str = "") -> None:
    """Add ``--objects``."""
    parser.add_argument(
        "--objects",
        type=positive,
        default=1,
        metavar="K",
        help=f"look for up to K objects in each photograph{where}, each named NAME#k (default: 1, "
        "and its single pose is believed)",
    )


def _told(found: Parse) -> str:
    """Say how many objects were found, and in how many images one pose does not hold."""
    from explgraph.graph.several import many

    told = "" if found.frames is None else f"{len(found.names)} objects in "
    told += f"{len(set(found.image_names))} images"
    failing = int(found.one_pose_fails.sum())
    doubt = found.frames is None and many(failing, len(found.names))
    return told + (f" (one pose does not hold in {failing})" if doubt else "")


def _parse(options: argparse.Namespace) -> None:
    """Run ``explgraph parse``."""
    from explgraph.explaining.by_part import find_parts
    from explgraph.explanatory_graph import load
    from explgraph.network.models import load_model

    by_part = options.by == "part"
    stored = Path(options.out).suffix.lower() == ".zarr"
    if by_part:
        check_out(options.out, TABLES, "--out of parts")
    elif not stored:
        check_out(options.out, (*PARSES, ".zarr"))
    graph = load(options.graph)
    if by_part:
        find_parts(graph, None)  # are there any?
    images = open_photographs(options, graph)
    model = load_model(options.model, weights=options.weights)
    how = {
        "batch_size": options.batch_size,
        "device": options.device,
        "progress": not options.quiet,
    }
    if stored:
        graph.parse(model, images, out=options.out, objects=options.objects, **how)
        where = f"{len(images)} images"
    else:
        found = graph.parse(model, images, objects=options.objects, **how)
        (found.parts if by_part else found).write(options.out)
        where = _told(found)
    if not options.quiet:
        told = counted(len(graph.parts), "part") if by_part else counted(len(graph), "node")
        print(f"{told} in {where}: {options.out}")


def _evaluate(options: argparse.Namespace) -> None:
    """Run ``explgraph evaluate``."""
    if options.faithful:
        evaluate_faithful(options)
        return
    if only := faithful_only(options):
        raise ExplgraphError(f"{only} goes with --faithful, which isn't given")
    if options.landmarks is None:
        raise ExplgraphError(
            "evaluate needs --landmarks, marked parts that nodes should follow, or --faithful, to "
            "see whether parts carry a class's score"
        )
    from explgraph.evaluation import table as evaluation
    from explgraph.evaluation.landmarks import read_landmarks
    from explgraph.explanatory_graph import load
    from explgraph.network.models import load_model

    for out in options.out:
        check_out(out, REPORTS)
    graph = load(options.graph)
    landmarks = read_landmarks(options.landmarks, object_class=classes(options.landmark_class))
    images = open_photographs(options, graph)
    if not options.all_crops:
        images = images.subset(landmarks.to_network(images).one_per_source())
    model = load_model(options.model, weights=options.weights)
    rows = evaluation.evaluate(
        model,
        graph,
        images,
        landmarks,
        parts=options.parts,
        seed=options.seed,
        batch_size=options.batch_size,
        device=options.device,
        progress=not options.quiet,
    )
    for out in options.out:
        evaluation.write(rows, out)
    if not options.quiet or not options.out:
        parts = options.parts or list(landmarks.parts)
        _tell(landmarks)
        print(
            f"{counted(len(images), 'image')}; mean over {', '.join(parts)}; errors per image "
            "diagonal\n"
        )
        print(evaluation.markdown(rows))


def _locate(options: argparse.Namespace) -> None:
    """Run ``explgraph locate``."""
    import numpy as np

    from explgraph.answers.label_files import read_absent
    from explgraph.answers.localize import Localizer
    from explgraph.explanatory_graph import load
    from explgraph.network.models import load_model

    if options.landmarks is None and options.suggest is None:
        raise ExplgraphError(
            "locate needs --landmarks, where some photographs are marked, or --suggest K, to be "
            "told which to mark"
        )
    if options.objects > 1 and options.new is None:
        raise ExplgraphError(
            "--objects needs --new, photographs in which up to K objects are located; marks are of "
            "one object in each photograph of --images (boxes cut out others)"
        )
    if options.suggest is None and not (options.out or options.marks or options.and_or):
        raise ExplgraphError(
            f"--landmarks needs --out, the file for the places: {', '.join(TABLES)} (or --marks, "
            "--and-or)"
        )
    check_out(options.out, TABLES)
    check_out(options.marks, MARKS, "--marks")
    check_out(options.labelled, (".explgraph",), "--labelled")
    check_out(options.and_or, AND_ORS, "--and-or")
    graph = load(options.graph)
    images = open_photographs(options, graph)
    marks, label = ({}, None) if options.landmarks is None else _marks_within(options, images)
    absent = {} if options.absent is None else read_absent(options.absent, images.names, marks)
    model = load_model(options.model, weights=options.weights)
    found = graph.parse(
        model, images,
        batch_size=options.batch_size, device=options.device, progress=not options.quiet,
    )  # fmt: skip
    localizer = Localizer(graph)
    if options.suggest is not None:
        known = [i for i in range(len(images)) if any(np.isfinite(p[i, 0]) for p in marks.values())]
        for i in localizer.suggest(found, options.suggest, marked=known):
            print(found.names[i])
        return
    localizer.fit(found, marks, absent=absent)
    if options.and_or is not None or options.labelled is not None:
        and_or = localizer.and_or(found)
        if options.and_or is not None:
            pictured = Path(options.and_or).suffix.lower() in (".html", *DRAWINGS)
            if pictured:
                and_or.write(options.and_or, images=images, parse=found)
            else:
                and_or.write(options.and_or)
        if options.labelled is not None:
            localizer.label().with_and_or(and_or).save(options.labelled)
    if options.new is not None:
        images = open_others(options, options.new, graph)
        found = graph.parse(
            model, images, objects=options.objects,
            batch_size=options.batch_size, device=options.device, progress=not options.quiet,
        )  # fmt: skip
    located = localizer.predict(found)
    if options.out is not None:
        located.write(options.out)
    if options.marks is not None:
        located.landmarks().write(options.marks, images, label=label)
    if not options.quiet:
        for part, radii in located.uncertainty.items():
            shots = int(np.isfinite(marks[part][:, 0]).sum())
            print(
                f"{part}: from {counted(shots, 'mark')}, within {np.median(radii):.0f} px "
                "(median) nine times "
                f"in ten; by {', '.join(localizer.nodes_of(part, 3))}"
            )
        files = (options.out, options.marks, options.and_or)
        written = ", ".join(file for file in files if file is not None)
        print(
            f"{counted(len(localizer.parts), 'part')} in {counted(len(found.names), 'image')}: "
            f"{written} (places and uncertainty in px)"
        )


def _tell(landmarks: Landmarks) -> None:
    """Say what marks were taken for, unless they are laid out as explgraph has them."""
    if landmarks.objects is not None:
        print(landmarks)


def _marks_within(options: argparse.Namespace, images: ImageFolder) -> tuple[dict[str, Any], str]:
    """Read landmarks in the network's pixels, and what they call the objects.

    Parts that the crop cuts off count as unmarked.
    """
    import numpy as np

    from explgraph.evaluation.landmarks import read_landmarks

    file = options.landmarks
    landmarks = read_landmarks(file, object_class=classes(options.landmark_class))
    if not options.quiet and options.suggest is None:
        _tell(landmarks)
    height, width = images.size
    marks, left_out = {}, []
    for part, places in landmarks.to_network(images).parts.items():
        with np.errstate(invalid="ignore"):
            inside = np.all((places >= 0) & (places <= [width, height]), axis=1)
        outside = np.flatnonzero(~inside & np.isfinite(places).all(1))
        if len(outside):
            at = ", ".join(f"{value:.0f}" for value in places[outside[0]])
            left_out.append(
                f"{len(outside)} of {np.isfinite(places).all(1).sum()} marks of {part!r} lie "
                f"outside what the network sees of their images and are left out "
                f"({images.names[outside[0]]!r}: {at} px of {width} x {height})"
            )
        if inside.any():
            marks[part] = np.where(inside[:, None], places, np.nan)
    if not marks:
        raise ExplgraphError(f"--landmarks {file!r} marks no part within any of the photographs")
    for message in left_out:
        warn(message)
    return marks, landmarks.label
