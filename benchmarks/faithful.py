"""Do the parts that are said to carry a score carry it? Deletion, insertion, random weights.

    python benchmarks/faithful.py --data ../shared/animalparts/n02084071 --json faithful.json

Settings: creatures (the network that ships; each attribute that an image shows and whose part is
visible is a class of its own) and, with ``--data``, folders of crops with a ``parts.json``, each
with two networks: EfficientNet-Lite0 with its 1000 classes, and MobileNetV2 with a linear
classifier of the folders (logistic regression), which is fitted, as all is that is fitted (graph,
NMF, means), on every other photograph. The others are measured, each on the class of its highest
score. ``--small`` is for CI. Columns are those of `explgraph.answers.curves`; NMF concepts of the
same layer stand beside the graph's elements: a concept holds of each unit what its factor
reconstructs of it, all concepts together no more than the unit has, and what they don't reconstruct
is no concept's (CRAFT and ICE reconstruct maps the same way).

Creatures have two more figures, for the truth is planted. *planted*: the share of explanations in
which the first part is within 0.12 of the side of the part that shows the attribute, and the same
by chance; *cause*: what is lost without the first part where the attribute's own part is painted
over in the image itself ... is left to `benchmarks/explain.py`.
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
from explgraph import ExplgraphWarning, ImageFolder, creatures, mine, mine_activations
from explgraph.activations.memory import Activations
from explgraph.answers.curves import Faithfulness, markdown
from explgraph.answers.faithfulness import faithfulness

CONCEPTS = 50
FIRST = 10


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

    def within(self, maps: Tensor, positions: Tensor) -> _HeldByConcepts:  # noqa: ARG002
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
        return self.head(self.features(x).mean(dim=(2, 3)))


Row = dict[str, Any]


class Setting(NamedTuple):
    """A network, a graph, and what it is measured on."""

    name: str
    model: nn.Module
    graph: Any
    images: Any  # that are measured
    others: Tensor  # whose activation stands in
    maps: list[Tensor]  # of each layer, lowest first, of the images that were mined
    classes: Any = None


def of_creatures(small: bool) -> Setting:
    """Creatures, each asked about the attributes that it shows; mined on others."""
    model = creatures.network()
    mined, n = (80, 8) if small else (300, 40)
    pictures = creatures.draw(mined, seed=1).tensor()
    graph = mine(model, pictures, creatures.LAYERS[:2], seed=0)
    drawn = creatures.draw(n, seed=2)
    asked = [
        (i, name)
        for i in range(n)
        for name, part in creatures.ATTRIBUTES.items()
        if drawn.attributes[name][i] and drawn.visible[part][i]
    ]
    fresh = drawn.tensor()[[i for i, _ in asked]]
    recorded_maps = [
        maps[: 40 if small else 150] for maps in _record(model, pictures, creatures.LAYERS[:2])
    ]
    others = creatures.draw(32, seed=3).tensor()
    names = [name for _, name in asked]
    return Setting("creatures", model, graph, fresh, others, recorded_maps, names)


def _record(model: nn.Module, pictures: Tensor, layers: Sequence[str]) -> list[Tensor]:
    from explgraph import record

    return list(record(model, pictures, list(layers)).maps)


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


def measured(
    one: Setting, layer: str, replacement: str, first: int
) -> tuple[list[Row], Faithfulness]:
    """Measure a layer: rows of the table, with the setting's name, and all that was found."""
    index = next(known.index for known in one.graph.layers if known.name == layer)
    start = time.process_time()
    concepts = Concepts(one.maps[index])
    fitting = time.process_time() - start
    start = time.process_time()
    found = faithfulness(
        one.model, one.graph, one.images, one.classes,
        layer=layer, replacement=replacement, others=one.others, first=first, beside=[concepts],
    )  # fmt: skip
    about = {
        "setting": one.name, "layer": layer, "replacement": replacement, "first": first,
        "images": len(found.names), "left_out": found.left_out,
        "no_part": found.unheld[:, 0].mean(), "no_node": found.unheld[:, 1].mean(),
        "seconds": time.process_time() - start, "seconds_nmf": fitting,
    }  # fmt: skip
    return [about | row for row in found.table()], found
