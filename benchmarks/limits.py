"""Why nodes are not more exact: what the marks could make of the same poses and nodes.

    python benchmarks/limits.py --data ../shared/animalparts --json limits.json

Everything here sees the marks of the head that nodes are measured by, so it is an upper bound, not
a method. Errors are shares of the diagonal, means over the images, at the 14 x 14 layer:

===================  ===========================================================================
nodes                best quarter, each with its offset from all marks; median vote
median               the same, median over the images
without worst tenth  the same, mean over the other images
best 40              of the same nodes the 40 that follow the head best
pose, linear         ridge regression from the pose's numbers, tenfold cross-validation
pose, curved         a Gaussian process from the same numbers, likewise
wrong                share of images in which the nodes are off by more than 0.12
restarted            error in these, when their pose is looked for from a mined one that is right
                     (the likeliest of those that put the head within 0.05)
better               share of these in which that ends where the maps fit clearly better
===================  ===========================================================================
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import efficientnet_lite0, quality, setting
from explgraph.evaluation import controls
from explgraph.mining.mining import mine_activations
from explgraph.parser import Parser
from explgraph.parsing import parse_activations
from explgraph.statistics.pose_reader import exemplar_evidence, look_again, own_evidence

LAYER = "_blocks.10._bn0"
_WRONG, _RIGHT = 0.12, 0.05
_CLEARLY = 0.005  # of mean log evidence per check


def votes(places: NDArray[np.floating], marks: NDArray[np.floating]) -> NDArray[np.floating]:
    """Median vote (N, 2) of nodes (N, V, 2) with their usual offsets from marks."""
    offset = np.nanmedian(marks[:, None] - places, axis=0)
    return np.median(places + offset, axis=1)


@torch.no_grad()
def measure(sample: quality.Sample) -> dict[str, float]:
    """One category's row."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import (
        RBF,
        ConstantKernel,
        DotProduct,
        WhiteKernel,
    )
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict

    activations, landmarks = sample
    marked = np.isfinite(landmarks[:, 0])
    marks = landmarks[marked]
    diagonal = float(np.hypot(*activations.image_size))

    def off(places: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.linalg.norm(places - marks, axis=-1) / diagonal

    graph = mine_activations(activations)
    nodes = quality.nodes_of(graph, parse_activations(graph, activations))
    rows = np.flatnonzero(nodes.layer == LAYER)
    rows = rows[controls.best(nodes.reliability[rows], 0.25)]
    places = nodes.positions[marked][:, rows]
    error = off(votes(places, marks))
    rest = np.sort(error)[: len(error) - max(1, len(error) // 10)]
    straying = [np.median(off(votes(places[:, [v]], marks))) for v in range(len(rows))]
    best = np.argsort(straying)[:40]

    parser = Parser(graph)
    chosen = torch.from_numpy(marked)
    maps = parser.scaled(
        {layer.index: activations.maps[layer.index][chosen] for layer in activations.layers}
    )
    (index,) = (layer.index for layer in graph.layers if layer.name == LAYER)
    here = parser.node[torch.from_numpy(rows)]
    offset = np.median(marks[:, None] - nodes.expected[marked][:, rows], axis=0)

    def head(poses: Tensor) -> NDArray[np.floating]:
        expected = parser.fitted.layers[index].expected(poses).flatten(1, 2)[:, here].numpy()
        return np.median(expected + offset, axis=1)

    poses = parser.fitted.poses(maps, parser.grids)
    reader = parser.fitted.reader
    seen = reader.guides.views(maps, parser.grids)
    tried = exemplar_evidence(reader, seen, parser.fitted.prepared(parser.grids).check_weights)
    miss = np.linalg.norm(head(reader.exemplars)[None] - marks[:, None], axis=-1) / diagonal
    start = torch.from_numpy(np.where(miss < _RIGHT, tried.numpy(), -np.inf).argmax(1))
    ended = reader.exemplars[start]
    for _ in range(4):
        ended = look_again(reader, seen, ended)
    gain = (own_evidence(reader, seen, ended) - own_evidence(reader, seen, poses)).numpy()
    wrong = error > _WRONG

    folds = KFold(10, shuffle=True, random_state=0)
    z = poses.numpy().astype(np.float64)
    curved = GaussianProcessRegressor(
        ConstantKernel() * DotProduct() + ConstantKernel() * RBF(3.0) + WhiteKernel(0.3)
    )
    middle, scale = marks.mean(0), marks.std()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        bent = cross_val_predict(curved, z, (marks - middle) / scale, cv=folds)
    straight = cross_val_predict(RidgeCV(np.logspace(-2, 3, 11)), z, marks, cv=folds)
    return {
        "nodes": float(error.mean()),
        "median": float(np.median(error)),
        "without worst tenth": float(rest.mean()),
        "best 40": float(off(votes(places[:, best], marks)).mean()),
        "pose, linear": float(off(straight).mean()),
        "pose, curved": float(off(bent * scale + middle).mean()),
        "wrong": float(wrong.mean()),
        "restarted": float(off(head(ended))[wrong].mean()),
        "better": float((gain[wrong] > _CLEARLY).mean()),
    }


def main() -> None:
    """Measure all categories, print the means, write the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of category folders")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    setting.announce()
    rows = []
    for file in sorted(options.data.glob("*/parts.json")):
        sample = quality.load(
            file.parent, efficientnet_lite0, efficientnet_lite0.LAYERS, "head", "first"
        )
        rows.append({"category": file.parent.name} | measure(sample))
        print(rows[-1], file=sys.stderr, flush=True)
    print("| | mean over categories |\n|---|---:|")
    for column in rows[0]:
        if column != "category":
            print(f"| {column} | {np.nanmean([row[column] for row in rows]):.3f} |")
    if options.json:
        setting.write(options.json, rows)


if __name__ == "__main__":
    main()
