"""Where things are in photographs: ``parse``, ``evaluate``, ``locate``."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explgraph.atomic import atomic_write
from explgraph.cli.inputs import open_others, open_photographs
from explgraph.cli.options import Command, add_graph, add_images, add_model, names, positive, seed
from explgraph.cli.outputs import check_folder, finite, open_table
from explgraph.errors import ExplgraphError, nearest
from explgraph.textfiles import read_csv

if TYPE_CHECKING:
    from explgraph.answers.localize import Localizer
    from explgraph.images.folder import ImageFolder
    from explgraph.parsing import Parse

__all__ = ["add"]

_TABLES = (".csv", ".json", ".npz")


def add(command: Command) -> None:
    """Add the commands."""
    parsing = command(
        "parse",
        _parse,
        "find every node of a graph in photographs",
        "explgraph parse birds-graph/graph.explgraph --images new \\",
        "    --model torchvision:vgg16 --out places.csv",
        "explgraph parse birds-graph/graph.explgraph --images million \\",
        "    --model torchvision:vgg16 --out places.zarr",
    )
    add_graph(parsing)
    parsing.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help=f"places and scores: {', '.join(_TABLES)}, or .zarr, which is written block by block "
        "in bounded memory and goes on where it was after an interruption",
    )
    add_model(parsing, required=True)
    add_images(parsing, required=True)

    evaluate = command(
        "evaluate",
        _evaluate,
        "measure how well nodes follow marked parts, beside baselines",
        "explgraph evaluate birds-graph/graph.explgraph --images new \\",
        "    --landmarks new/parts.json --model torchvision:vgg16 --out quality.md",
    )
    add_graph(evaluate)
    evaluate.add_argument(
        "--landmarks",
        required=True,
        metavar="FILE",
        help="marked parts: parts.json, a CSV (name,part,x,y), or CUB-200-2011's part_locs.txt",
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
        help=".md (the table) or .json (every row); may be given twice",
    )
    evaluate.add_argument("--seed", type=seed, default=0)
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
    )
    add_graph(locate)
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
        type=positive,
        metavar="K",
        help="only name the K photographs whose marks would help most",
    )
    add_model(locate, required=True)
    add_images(locate, required=True)


def _parse(options: argparse.Namespace) -> None:
    """Run ``explgraph parse``."""
    from explgraph.explanatory_graph import load
    from explgraph.network.models import load_model

    out, suffix = Path(options.out), Path(options.out).suffix.lower()
    if suffix not in (*_TABLES, ".zarr"):
        raise ExplgraphError(
            f"--out {options.out!r}: suffix {out.suffix!r}; expected one of "
            f"{', '.join((*_TABLES, '.zarr'))}"
        )
    if suffix in _TABLES:
        check_folder(out)
    graph = load(options.graph)
    images = open_photographs(options, graph)
    model = load_model(options.model, weights=options.weights)
    how = {
        "batch_size": options.batch_size,
        "device": options.device,
        "progress": not options.quiet,
    }
    if suffix == ".zarr":
        graph.parse(model, images, out=options.out, **how)
    else:
        _write_parse(graph.parse(model, images, **how), out)
    if not options.quiet:
        print(f"{len(graph)} nodes in {len(images)} images: {out}")


def _write_parse(found: Parse, out: Path) -> None:
    """Write places and scores; ``photo`` are places in the original photographs."""
    import numpy as np

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
            with open_table(path) as text:
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
    from explgraph.evaluation import table as evaluation
    from explgraph.evaluation.landmarks import read_landmarks
    from explgraph.explanatory_graph import load
    from explgraph.network.models import load_model

    for out in map(Path, options.out):
        if out.suffix.lower() not in (".md", ".json"):
            raise ExplgraphError(f"--out {str(out)!r}: expected a .md or a .json file")
        check_folder(out)
    graph = load(options.graph)
    landmarks = read_landmarks(options.landmarks)
    images = open_photographs(options, graph)
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
        text = table if out.suffix.lower() == ".md" else json.dumps(finite(rows), indent=1)
        with atomic_write(out) as path:
            path.write_text(text + "\n", encoding="utf-8")
    if not options.quiet or not options.out:
        parts = options.parts or list(landmarks.parts)
        print(f"{len(images)} images; mean over {', '.join(parts)}; errors per image diagonal\n")
        print(table)


def _locate(options: argparse.Namespace) -> None:
    """Run ``explgraph locate``."""
    import numpy as np

    from explgraph.answers.localize import Localizer
    from explgraph.explanatory_graph import load
    from explgraph.network.models import load_model
    from explgraph.parsing import parse

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
            check_folder(file)
    graph = load(options.graph)
    images = open_photographs(options, graph)
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
        images = open_others(options, options.new, graph)
        found = parse(graph, model, images, progress=not options.quiet, **running)
    rows = _located(localizer, found)
    if out is not None:
        with atomic_write(out) as path, open_table(path) as text:
            if out.suffix.lower() == ".json":
                text.write(json.dumps(finite(rows), indent=1) + "\n")
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
    import numpy as np

    from explgraph.evaluation.landmarks import read_landmarks

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
    import numpy as np

    row_of = {name: i for i, name in enumerate(names)}
    absent: dict[str, Any] = {}
    for _, row in read_csv(file, ("name", "part"), "--absent")[1]:
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
