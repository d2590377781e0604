"""The demo: explain the shipped network on drawn creatures, where the truth is known.

1. Creatures are drawn and written as picture files, as a user's own photographs would lie there:
   some to be mined, others (another seed) to be measured on.
2. A graph is mined from the former and written in every file format, with a drawing.
3. It is parsed on the latter, and the report says for every planted part whether a node follows it,
   and how far off that node is.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from explgraph import creatures
from explgraph.activations.recording import record
from explgraph.atomic import atomic_write
from explgraph.brief import counted
from explgraph.evaluation.baselines import raw_peaks
from explgraph.evaluation.landmarks import from_creatures
from explgraph.evaluation.planted import planted_parts
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.images.folder import ImageFolder
from explgraph.mining.mining import mine_activations
from explgraph.parsing import parse_activations
from explgraph.progress import Shown, bar
from explgraph.suffixes import SUFFIXES
from explgraph.views.parts_told import parts_told
from explgraph.views.several import write_formats

__all__ = ["demo", "markdown"]

N_MINED = 300
N_NEW = 200
MIN_TRACKING = 0.8
MIN_PURITY = 0.9


def demo(out: str | os.PathLike[str], *, seed: int = 0, progress: Shown = None) -> dict[str, Any]:
    """Run the demo and fill a folder.

    Parameters
    ----------
    out : path
        Folder, made if it is missing: ``mined/`` and ``new/`` (the pictures; ``new/landmarks.csv``
        holds the truth), ``graph.*`` in every format, ``report.md`` and ``report.json``.
    seed : int
        Of mining.
    progress : bool or None
        Show bars: by default in notebooks alone, if True on a terminal too.

    Returns
    -------
    dict
        The figures, as in ``report.json``.

    Raises
    ------
    ExplgraphError
        If the folder can't be written.

    Warns
    -----
    ExplgraphWarning
        If a drawing can't be made; everything else is written all the same.
    """
    # the maps are so small that threads cost more than they give, above all on busy cores
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _demo(Path(out), seed, progress)
    finally:
        torch.set_num_threads(threads)


def _demo(folder: Path, seed: int, progress: Shown) -> dict[str, Any]:
    """Run the demo with the threads that are set."""
    mined = _write_pictures(folder / "mined", N_MINED, 1, progress)
    fresh = _write_pictures(folder / "new", N_NEW, 2, progress)
    options: dict[str, Any] = {
        "size": creatures.SIZE,
        "mean": creatures.MEAN,
        "std": creatures.STD,
    }
    model = creatures.network()
    start = time.perf_counter()
    images = ImageFolder(folder / "mined", names=mined[1], **options)
    activations = record(model, images, creatures.LAYERS, progress=progress)
    graph = mine_activations(
        activations,
        seed=seed,
        preprocessing=images.describe(),
        images=images,
        progress=progress,
    )
    seconds = time.perf_counter() - start
    graph.save(folder / "graph.explgraph")
    formats = [suffix[1:] for suffix in SUFFIXES if suffix != ".gv"]  # the same as .dot
    places = parse_activations(graph, activations)
    write_formats(graph, folder, formats, images=images, parse=places, progress=progress)

    new_images = ImageFolder(folder / "new", names=fresh[1], **options)
    figures = {
        "images_mined": N_MINED,
        "seconds_mining": round(seconds, 2),
        "seed": seed,
        **_measure(graph, model, new_images, fresh[0], progress),
    }
    for name, text in (
        ("report.md", markdown(figures)),
        ("report.json", json.dumps(figures, indent=1) + "\n"),
    ):
        with atomic_write(folder / name) as path:
            path.write_text(text, encoding="utf-8")
    return figures


def markdown(figures: Mapping[str, Any]) -> str:
    """Give the figures of `demo` as a report in Markdown."""
    f = figures
    lines = [
        "# What the demo found",
        "",
        f"Mined {f['images_mined']} drawn creatures in {f['seconds_mining']:.1f} s: "
        f"{counted(f['nodes'], 'part node')}, {counted(f['edges'], 'edge')}; {f['parts_told']}.",
        f"Measured on {f['images_measured']} creatures that were not mined, "
        f"{f['image_size']} x {f['image_size']} px.",
        "",
        f"**{f['parts_followed']} of {f['parts']} planted parts have a node that follows them** "
        f"(tracking at least {f['min_tracking']}); with the filters' raw peaks it is "
        f"{f['parts_followed_by_raw_peaks']}. {f['parts_followed_alone']} have a node that "
        f"follows this part and is nearest to no other (purity at least {f['min_purity']}).",
        f"The chosen nodes are off by {f['median_error_px']:.1f} px (median over the parts).",
        "",
        "| part | node | tracking | purity | off by (px) | follows |",
        "|---|---|---:|---:|---:|---|",
    ]
    lines += [
        f"| {part} | `{row['node']}` | {row['tracking']:.2f} | {row['purity']:.2f} | "
        f"{row['error_px']:.1f} | {'yes' if row['followed'] else 'no'} |"
        for part, row in f["by_part"].items()
    ]
    lines += [
        "",
        "Tracking: how much of the part's movement the node follows (1 all, 0 none: a point that "
        "never moves). Purity: the share of the node's places that are nearest to this part. Nodes "
        "are chosen on one half of these creatures and measured on the other.",
        "",
    ]
    return "\n".join(lines)


def _write_pictures(
    folder: Path, n: int, seed: int, progress: Shown
) -> tuple[creatures.Creatures, list[str]]:
    """Draw creatures into a folder, with a table of their parts; give them and the file names."""
    drawn = creatures.draw(n, seed=seed)
    names = [f"{i:04d}.png" for i in range(n)]
    pictures = bar(zip(names, drawn.images, strict=True), shown=progress, desc="drawing", total=n)
    for name, pixels in pictures:
        with atomic_write(folder / name) as path:
            Image.fromarray(pixels).save(path)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["name", "part", "x", "y"])
    for part, places in from_creatures(drawn, names).parts.items():
        for name, (x, y) in zip(names, places.tolist(), strict=True):
            table.writerow([name, part, *((f"{x:.2f}", f"{y:.2f}") if x == x else ("", ""))])
    with atomic_write(folder / "landmarks.csv") as path:
        path.write_text(text.getvalue(), encoding="utf-8")
    return drawn, names


def _measure(
    graph: ExplanatoryGraph,
    model: creatures.CreatureNet,
    images: ImageFolder,
    drawn: creatures.Creatures,
    progress: Shown,
) -> dict[str, Any]:
    """Measure the graph's nodes, and the filters' raw peaks, against the planted parts."""
    activations = record(model, images, creatures.LAYERS, progress=progress)
    found = parse_activations(graph, activations)
    truth = from_creatures(drawn, found.names).parts
    planted = partial(planted_parts, parts=truth, min_tracking=MIN_TRACKING)
    # without a bound on purity, the node that tracks a part best is chosen
    chosen = planted(found.positions, found.scores, min_purity=0)
    alone = planted(found.positions, found.scores, min_purity=MIN_PURITY)
    peaks = [
        raw_peaks(maps.numpy(), layer)
        for maps, layer in zip(activations.maps, activations.layers, strict=True)
    ]
    positions, scores = (np.concatenate([p[i] for p in peaks], axis=1) for i in (0, 1))
    raw = planted(positions, scores, min_purity=0)
    by_part = {
        part: {
            "node": found.nodes[best.node],
            "tracking": _rounded(best.tracking),
            "purity": _rounded(best.purity),
            "error_px": _rounded(best.error),
            "followed": best.followed,
        }
        for part, best in chosen.items()
    }
    return {
        "parts": len(by_part),
        "parts_followed": sum(best.followed for best in chosen.values()),
        "parts_followed_alone": sum(best.followed for best in alone.values()),
        "parts_followed_by_raw_peaks": sum(best.followed for best in raw.values()),
        "median_error_px": _rounded(np.median([best.error for best in chosen.values()])),
        "images_measured": len(images),
        "image_size": creatures.SIZE,
        "nodes": len(graph),
        "edges": graph.nx.number_of_edges(),
        "parts_told": parts_told(graph),
        "min_tracking": MIN_TRACKING,
        "min_purity": MIN_PURITY,
        "by_part": by_part,
    }


def _rounded(value: Any) -> float:
    """Four digits are all that these measures mean."""
    return round(float(value), 4)
