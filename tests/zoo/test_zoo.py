"""Networks of timm and torchvision: stated places are right, or the layer is refused, never wrong.

The smallest of each family, with random weights; EXPLGRAPH_ZOO=all tries more. What answers to a
changed patch is found without explgraph's measuring (`answering`).
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from answering import Answer, answers
from architectures import ARCHITECTURES, Architecture, awaken, build

import explgraph
from explgraph.network.geometry import Layer, measure_layers
from explgraph.network.hooks import undisturbed
from explgraph.network.layers import LayerSummary, suggest_layers
from explgraph.network.layout import measure_formats
from explgraph.network.map_formats import MapFormat

pytestmark = pytest.mark.usefixtures("one_thread")

_TRIED = [a for a in ARCHITECTURES if not a.more or os.environ.get("EXPLGRAPH_ZOO") == "all"]
# what a refusal must offer to do
_REMEDY = re.compile("choose|state its layout|leave layout out|say which call")


def chosen(summaries: list[LayerSummary]) -> list[str]:
    """Name the layers that are suggested, and one of the lower half."""
    once = [s.name for s in summaries if s.calls == 1 and min(s.height, s.width) >= 3]
    return list(dict.fromkeys([*suggest_layers(summaries), once[len(once) // 3]]))


@pytest.mark.parametrize("architecture", _TRIED, ids=lambda a: a.spec.replace(":", "-"))
def test_units_are_where_they_answer(architecture: Architecture, row) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other packages, while they build
        model = build(architecture)
        awaken(model, architecture.size)
    modules = dict(model.named_modules())
    size = (architecture.size, architecture.size)
    with undisturbed(model):
        formats, calls = measure_formats(model, [n for n in modules if n], size, absent_ok=True)
    refused = {k: str(f) for k, f in formats.items() if not isinstance(f, MapFormat)}
    for message in refused.values():
        assert "layer '" in message
        assert _REMEDY.search(message), message
    listed = [
        LayerSummary(k, type(modules[k]).__name__, *f.shape, calls[k], f.layout)
        for k, f in formats.items()
        if isinstance(f, MapFormat)
    ]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")  # where an even grid is assumed
        layers = measure_layers(model, chosen(listed), size)
    assumed = sum("an even grid of" in str(warning.message) for warning in told)
    assert len(told) == assumed
    found = answers(model, layers, architecture.size)
    wrong = {layer: found[layer.name] for layer in layers if not found[layer.name].right}
    layouts = [name for name, _ in Counter(s.layout for s in listed).most_common()]
    row(
        ARCHITECTURES.index(architecture),
        architecture.family,
        f"`{architecture.spec}`",
        architecture.kinds,
        ", ".join(f"`{layout}`" for layout in layouts),
        f"{len(listed)} of {len(formats)}",
        len(layers),
        ("wrong" if wrong else "right") + f", {assumed} assumed and told" * (assumed > 0),
    )
    assert not wrong


def _moved(layer: Layer, strides: float) -> Layer:
    return replace(layer, offset=(layer.offset[0] + strides * layer.stride[0], layer.offset[1]))


def test_what_is_wrong_is_seen() -> None:
    """Of each kind of mistake, the test above fails."""
    architecture = next(a for a in ARCHITECTURES if a.family == "ResNet")
    model = build(architecture)
    awaken(model, architecture.size)
    (layer,) = measure_layers(model, ["layer3"], (128, 128))

    def answer(mistaken: Layer) -> Answer:
        return answers(model, [mistaken], architecture.size, most=3)[layer.name]

    assert answer(layer).right
    assert not answer(replace(layer, layout="NCWH")).right
    for strides in (-1, 1):
        assert not answer(_moved(layer, strides)).right
    mirrored = replace(layer, stride=(-layer.stride[0], layer.stride[1]))
    assert not answer(_moved(mirrored, 7)).right
    tokens = next(a for a in ARCHITECTURES if a.family == "DINOv2, registers")
    model = build(tokens)
    awaken(model, tokens.size)
    (layer,) = measure_layers(model, ["blocks.3"], (112, 112))
    assert layer.layout == "N(5+HW)C"
    for mistaken in ("N(4+HW+1)C", "N(5+WH)C"):
        assert not answers(model, [replace(layer, layout=mistaken)], 112, most=3)["blocks.3"].right
    shuffled = torch.randperm(64, generator=torch.Generator().manual_seed(0)) + 5
    mixed = replace(layer, layout="NLC", order=tuple(shuffled.tolist()))
    assert not answers(model, [mixed], 112, most=3)["blocks.3"].right


@pytest.mark.filterwarnings("ignore::explgraph.ExplgraphWarning")  # noise has no pose
@pytest.mark.parametrize("family", ["Swin V2", "DINOv2, registers", "ConvNeXt"])
def test_they_are_mined_and_parsed(family: str) -> None:
    architecture = next(a for a in ARCHITECTURES if a.family == family)
    model = build(architecture)
    awaken(model, architecture.size)
    images = torch.randn(12, 3, architecture.size, architecture.size)
    size = (architecture.size, architecture.size)
    layers = suggest_layers(explgraph.list_layers(model, size), 2)
    graph = explgraph.mine(model, images, layers)
    parse = graph.parse(model, images)
    assert parse.positions.shape == (12, len(graph), 2)
    assert np.isfinite(parse.positions).all()
    assert {layer.name for layer in graph.layers} == set(layers)
