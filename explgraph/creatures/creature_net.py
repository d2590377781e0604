"""A small network that has learnt the drawn world (see ``benchmarks/train_creatures.py``)."""

from __future__ import annotations

from importlib import resources

import torch
from safetensors.torch import load
from torch import Tensor, nn

from explgraph.creatures.world import MEAN, OUTPUTS, SIZE, STD

__all__ = ["CreatureNet", "network"]


class _Residual(nn.Module):
    """Two 3 x 3 convolutions around a shortcut; halves the grid when `stride` is 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride), rectified."""
        hidden = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x))


class CreatureNet(nn.Module):
    """A small residual network: pictures (N, 3, H, W) to logits (N, 13), see `world.OUTPUTS`."""

    def __init__(self) -> None:
        super().__init__()
        self.class_names = OUTPUTS
        self.preprocessing = {"size": (SIZE, SIZE), "mean": MEAN, "std": STD}
        self.stage1 = nn.Sequential(
            nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU()
        )
        self.stage2 = _Residual(24, 40, 2)
        self.stage3 = _Residual(40, 80, 2)
        self.stage4 = _Residual(80, 128, 2)
        self.head = nn.Linear(128, len(OUTPUTS))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of every output."""
        x = self.stage4(self.stage3(self.stage2(self.stage1(x))))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


def network(pretrained: bool = True) -> CreatureNet:
    """Return the network that knows creatures, in eval mode.

    It was trained on families and attributes alone, never on the position of a part: what its
    filters know about parts they found by themselves. ``--model explgraph.creatures:network``
    names it at the command line.

    Parameters
    ----------
    pretrained : bool
        Load the shipped weights; otherwise they are random (``torch.manual_seed`` decides).

    Returns
    -------
    CreatureNet
        Stages 1 to 4 have strides 2, 4, 8 and 16 px.
    """
    model = CreatureNet()
    if pretrained:
        stored = (
            resources.files("explgraph.creatures").joinpath("creatures.safetensors").read_bytes()
        )
        # Stored in half precision; batch counters stay integers.
        weights = {
            name: value.float() if value.is_floating_point() else value
            for name, value in load(stored).items()
        }
        model.load_state_dict(weights)
    return model.eval()
