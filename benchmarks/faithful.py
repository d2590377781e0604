r"""Do the parts that are said to carry a score carry it? Deletion, insertion, shuffled weights.

    python benchmarks/faithful.py --json faithful.json --data ../shared/animalparts/n02084071 \
        ../shared/animalparts/n02121808 ../shared/animalparts/n02374451 \
        ../shared/animalparts/n01503061

Settings: creatures (the network that ships; each attribute that an image shows and whose part is
visible is asked about), and with ``--data`` folders of crops with a ``parts.json``, by two
networks: EfficientNet-Lite0 with its 1000 classes, and MobileNetV2 with a linear classifier of the
folders (logistic regression on the mean activations of the top layer). All that is fitted (graph,
classifier, NMF, what stands in) is fitted on every other photograph of the folders; of those
between ``--count`` are measured, each on the class that the network puts first. ``--small`` is for
CI. Columns are those of `explgraph.answers.curves.COLUMNS`. Beside the graph's elements stand

NMF concepts   50 non-negative factors of the same layer's maps, in the order of what they add. A
               concept has of each unit what its factor rebuilds of it; all concepts together have
               no more than there is, and what they don't rebuild is no concept's. (CRAFT and ICE
               rebuild maps by the same factors, with more than there is where these overshoot.)
planted parts  creatures: all units of the layer within a Gaussian of 0.06 of the side around the
               true places of the planted parts, in the order of what they add: what perfect
               knowledge of places would give.

Then what is left of the order of parts when weights are shuffled (`explgraph.answers.randomised`).
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import efficientnet_lite0, mobilenet_v2, recorded, setting
from explgraph import ExplgraphWarning, ImageFolder, creatures, mine, mine_activations, record
from explgraph.activations.memory import Activations
from explgraph.answers.faithfulness import faithfulness
from explgraph.answers.randomised import randomised
from explgraph.explaining.attribution import Seen
from explgraph.gaussian import factors
from explgraph.statistics.mixture import Grid

Row = dict[str, Any]

CONCEPTS = 50


class Concepts:
    """Non-negative factors of a layer's maps, as elements of it.

    Every unit of every image is one sample, the filters are its features (as in
    `benchmarks.quality`).

    Parameters
    ----------
    maps : (N, C, H, W)
        Rectified, of other images than those that are measured.
    """

    name = "NMF concepts"

    def __init__(self, maps: Tensor, concepts: int = CONCEPTS, seed: int = 0) -> None:
        from sklearn.decomposition import NMF

        samples = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).float().numpy()
        self._model = NMF(concepts, init="nndsvda", max_iter=100, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it need not converge
            self._model.fit(samples)

    def within(self, maps: Tensor, seen: Seen, added: Tensor) -> _HeldByConcepts:  # noqa: ARG002
        """See `explgraph.explaining.elements.Elements`."""
        n, c, h, w = maps.shape
        samples = maps.permute(0, 2, 3, 1).reshape(-1, c).numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            weights = torch.from_numpy(self._model.transform(samples))
        weights = weights.reshape(n, h, w, -1).permute(0, 3, 1, 2)
        factors = torch.from_numpy(self._model.components_)
        return _HeldByConcepts(maps, weights.to(maps), factors.to(maps))


class _HeldByConcepts(NamedTuple):
    maps: Tensor
    weights: Tensor  # (n, K, H, W)
    factors: Tensor  # (K, C)

    def shares(self, chosen: Tensor) -> Tensor:
        weights = self.weights * chosen[:, :, None, None].to(self.weights)
        rebuilt = torch.einsum("nkhw,kc->nchw", weights, self.factors)
        return (rebuilt / self.maps.clamp(min=1e-12)).clamp(0, 1)

    def sums(self, units: Tensor) -> Tensor:
        rebuilt = torch.einsum("nkhw,kc->nchw", self.weights, self.factors)
        rate = units / torch.maximum(self.maps, rebuilt).clamp(min=1e-12)
        per_place = torch.einsum("nchw,kc->nkhw", rate, self.factors)
        return (per_place * self.weights).double().sum((2, 3))


class Planted:
    """Places of planted parts as elements of a layer; all images must be in one batch.

    Parameters
    ----------
    places : (n, P, 2)
        px.
    layer : Layer
    """

    name = "planted parts"

    def __init__(self, places: Tensor, layer: Any) -> None:
        grid = Grid.of(layer)
        sigma = torch.full(places.shape[:2], 0.06 * creatures.SIZE)
        along_x, along_y = factors(grid.x, grid.y, places, sigma)
        self._weights = along_y[..., None] * along_x[..., None, :]

    def within(self, maps: Tensor, seen: Seen, added: Tensor) -> _HeldThere:  # noqa: ARG002
        """See `explgraph.explaining.elements.Elements`."""
        if len(maps) != len(self._weights):
            raise ValueError("all images must be in one batch")
        return _HeldThere(self._weights.to(maps), maps.shape)


class _HeldThere(NamedTuple):
    weights: Tensor  # (n, P, H, W)
    shape: Sequence[int]

    def shares(self, chosen: Tensor) -> Tensor:
        there = (self.weights * chosen[:, :, None, None].to(self.weights)).sum(1)
        return there.clamp(max=1)[:, None].expand(tuple(self.shape))

    def sums(self, units: Tensor) -> Tensor:
        split = self.weights / self.weights.sum(1, keepdim=True).clamp(min=1)
        return torch.einsum("nphw,nchw->np", split.double(), units.double())


class Classifier(nn.Module):
    """MobileNetV2 with a linear classifier on top."""

    def __init__(self, weight: Tensor, bias: Tensor, names: Sequence[str]) -> None:
        super().__init__()
        bare = mobilenet_v2.network()
        self.features, self.preprocessing = bare.features, bare.preprocessing
        self.head = nn.Linear(weight.shape[1], weight.shape[0])
        self.head.load_state_dict({"weight": weight, "bias": bias})
        self.class_names = tuple(names)

    def forward(self, x: Tensor) -> Tensor:
        """Give scores (n, folders)."""
        return self.head(self.features(x).mean(dim=(2, 3)))


class Setting(NamedTuple):
    """A network, a graph, and what it is measured on."""

    name: str
    model: nn.Module
    graph: Any
    images: Any  # that are measured
    others: Tensor  # whose activation stands in
    maps: list[Tensor]  # of each layer, lowest first, of other images
    classes: Any = None
    planted: Tensor | None = None  # (n, P, 2) px


def of_creatures(small: bool) -> Setting:
    """Creatures, each asked about the attributes that it shows; mined on others."""
    model = creatures.network()
    mined, n = (60, 4) if small else (300, 15)
    layers = list(creatures.LAYERS[: 1 if small else 2])
    pictures = creatures.draw(mined, seed=1).tensor()
    graph = mine(model, pictures, layers, seed=0)
    drawn = creatures.draw(n, seed=2)
    asked = [
        (i, name)
        for i in range(n)
        for name, part in creatures.ATTRIBUTES.items()
        if drawn.attributes[name][i] and drawn.visible[part][i]
    ]
    names, at = [name for _, name in asked], [i for i, _ in asked]
    places = np.stack([drawn.parts[part][at] for part in creatures.PARTS], 1)
    return Setting(
        "creatures", model, graph, drawn.tensor()[at], creatures.draw(32, seed=3).tensor(),
        list(record(model, pictures[:100], layers).maps), names,
        torch.nan_to_num(torch.from_numpy(places).float(), nan=-1e4),  # far from all units
    )  # fmt: skip


def of_photographs(
    folders: Sequence[Path], network: Any, count: int, cache: Path | None
) -> Iterator[Setting]:
    """Photographs of several categories: every other one mined, some of the others measured."""
    known = [recorded.crops(folder, network, network.LAYERS, cache=cache)[0] for folder in folders]
    halves = [(list(range(0, len(a.names), 2)), list(range(1, len(a.names), 2))) for a in known]
    if network is mobilenet_v2:
        model, accuracy = _classifier(folders, known, halves)
        print(f"MobileNetV2's classifier: {accuracy:.2f} of the others right", flush=True)
    else:
        model = network.network()
    images = [
        ImageFolder(folder, size=network.SIZE, mean=network.MEAN, std=network.STD)
        for folder in folders
    ]
    others = torch.cat(
        [
            torch.stack([some[some.names.index(a.names[i])] for i in half[:8]])
            for some, a, (half, _) in zip(images, known, halves, strict=True)
        ]
    )
    for folder, some, a, (half, rest) in zip(folders, images, known, halves, strict=True):
        mined = Activations(
            a.layers, tuple(a.names[i] for i in half), a.image_size, [m[half] for m in a.maps]
        )
        graph = mine_activations(mined, seed=0)
        chosen = rest[:: max(1, len(rest) // count)][:count]
        shown = some.subset([some.names.index(a.names[i]) for i in chosen])
        name = f"{network.__name__.rpartition('.')[2]}, {folder.name}"
        yield Setting(name, model, graph, shown, others, mined.maps)


def _classifier(
    folders: Sequence[Path], known: Sequence[Activations], halves: Sequence[Any]
) -> tuple[nn.Module, float]:
    """Fit a linear classifier of the folders on the mined photographs' mean activations."""
    from sklearn.linear_model import LogisticRegression

    def told(which: int) -> tuple[Any, Any]:
        x = [a.maps[-1][half[which]].mean((2, 3)) for a, half in zip(known, halves, strict=True)]
        return torch.cat(x).numpy(), np.repeat(np.arange(len(x)), [len(values) for values in x])

    if len(folders) < 3:
        raise SystemExit("--data needs at least three folders, which the classifier tells apart")
    fitted = LogisticRegression(max_iter=2000).fit(*told(0))
    weight, bias = (torch.tensor(v, dtype=torch.float32) for v in (fitted.coef_, fitted.intercept_))
    model = Classifier(weight, bias, [folder.name for folder in folders]).eval()
    return model, float(fitted.score(*told(1)))


def measured(one: Setting, layer: str, replacement: str, first: int, concepts: Any) -> list[Row]:
    """Measure a layer: rows of the table, with what they are of."""
    beside = [concepts]
    if one.planted is not None:
        known = next(known for known in one.graph.layers if known.name == layer)
        beside.append(Planted(one.planted, known))
    start = time.process_time()
    found = faithfulness(
        one.model, one.graph, one.images, one.classes,
        layer=layer, replacement=replacement, others=one.others, first=first, beside=beside,
        batch_size=16 if one.planted is None else len(one.images),
    )  # fmt: skip
    about = {
        "setting": one.name, "layer": layer, "replacement": replacement, "first": first,
        "images": len(found.names), "left_out": found.left_out,
        "no_part": float(found.unheld[:, 0].mean()), "no_node": float(found.unheld[:, 1].mean()),
        "residual": float(found.share(found.carried - found.added)),
        "seconds": time.process_time() - start,
    }  # fmt: skip
    print(f"\n{one.name}: {found.told}\n\n{found.markdown()}", flush=True)
    return [about | row for row in found.table()]


def shuffled(one: Setting, layer: str, first: int) -> list[Row]:
    """Shuffle weights: rows of the table, with what they are of."""
    found = randomised(one.model, one.graph, one.images, one.classes, layer=layer, first=first)
    print(f"\n{one.name}: {found!r}\n\n{found.markdown()}", flush=True)
    about = {"setting": one.name, "layer": layer, "first": first}
    return [about | row for row in found.table()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders of photographs")
    parser.add_argument("--count", type=int, default=16, help="photographs of each folder (16)")
    parser.add_argument("--first", type=int, nargs="*", default=[3, 10], help="elements (3 10)")
    parser.add_argument(
        "--replacement", nargs="*", default=["zero", "mean", "resampled"], help="what stands in"
    )
    parser.add_argument("--layers", type=int, default=2, help="of the graph, the top ones (2)")
    parser.add_argument(
        "--shuffle", type=int, default=1, help="folders of which weights are shuffled (1)"
    )
    parser.add_argument("--cache", type=Path, help="folder for recorded activations")
    parser.add_argument("--small", action="store_true", help="in seconds, for CI")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    setting.announce()
    if options.small:
        options.first, options.replacement, options.layers = [3], ["zero"], 1
    rows: list[Row] = []
    stages: list[Row] = []

    def settings() -> Iterator[tuple[Setting, bool]]:
        yield of_creatures(options.small), True
        for network in (efficientnet_lite0, mobilenet_v2) if options.data else ():
            known = of_photographs(options.data, network, options.count, options.cache)
            for k, one in enumerate(known):
                yield one, k < options.shuffle

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)  # of weak poses
        for one, shuffle in settings():
            for layer in list(reversed(one.graph.layers))[: options.layers]:
                concepts = Concepts(one.maps[layer.index], 12 if options.small else CONCEPTS)
                for replacement in options.replacement:
                    for first in options.first:
                        rows += measured(one, layer.name, replacement, first, concepts)
                if shuffle:
                    stages += shuffled(one, layer.name, min(options.first))
                if options.json:
                    setting.write(options.json, {"rows": rows, "shuffled": stages})


if __name__ == "__main__":
    main()
