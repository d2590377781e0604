"""Quick training for benchmarks and notebooks: the upper stages of the creatures' network alone.

The lower stages keep the shipped weights and are run once, so an epoch costs a fraction of a whole
one. What is learnt of parts and of attributes is learnt in the upper stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from explgraph import creatures

STAGES = ("stage1", "stage2", "stage3", "stage4")
BATCH = 32

Step = Callable[[Tensor, Tensor, float], Tensor]
"""Maps of stage 4 (n, C, H, W), rows of the batch (n,), share of training done -> loss."""


def lower_maps(data: creatures.Creatures, stages: int) -> Tensor:
    """Run the shipped network's first stages: (N, C, H, W) in half precision."""
    shipped = creatures.network()
    lower = nn.Sequential(*(getattr(shipped, name) for name in STAGES[:stages]))
    with torch.no_grad():
        return torch.cat([lower(pictures).half() for pictures in data.tensor().split(100)])


def train(
    model: creatures.CreatureNet, maps: Tensor, stages: int, step: Step, *, epochs: int, rate: float
) -> Iterator[int]:
    """Train what follows the first `stages` on their maps, in place, and count the steps.

    AdamW, one cycle of the learning rate up to `rate`; ``torch.manual_seed`` decides the order.
    """
    upper = nn.Sequential(*(getattr(model, name) for name in STAGES[stages:]))
    # twice as fast on a CPU as the default order in memory
    learning = nn.ModuleList([upper, model.head]).train().to(memory_format=torch.channels_last)
    steps = epochs * (len(maps) // BATCH)
    optimizer = torch.optim.AdamW(learning.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps, pct_start=0.2
    )
    done = 0
    for _ in range(epochs):
        for rows in torch.randperm(len(maps))[: len(maps) // BATCH * BATCH].split(BATCH):
            loss = step(upper(maps[rows].float()), rows, done / steps)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            done += 1
            yield done
    model.eval().to(memory_format=torch.contiguous_format)


def new_network(stages: int, seed: int) -> creatures.CreatureNet:
    """Make a network whose first stages are the shipped ones, and the rest random by `seed`."""
    torch.manual_seed(seed)
    model = creatures.network(pretrained=False)
    shipped = creatures.network()
    for name in STAGES[:stages]:
        getattr(model, name).load_state_dict(getattr(shipped, name).state_dict())
    return model


def train_attributes(
    data: creatures.Creatures, *, seed: int, stages: int = 2, epochs: int = 4
) -> creatures.CreatureNet:
    """Train a network on the attributes of creatures, from random upper stages."""
    model = new_network(stages, seed)
    families = len(creatures.FAMILIES)
    targets = data.targets()[:, families:]

    def step(maps: Tensor, rows: Tensor, _done: float) -> Tensor:
        logits = model.head(maps.mean(dim=(2, 3)))[:, families:]
        return nn.functional.binary_cross_entropy_with_logits(logits, targets[rows])

    for _ in train(model, lower_maps(data, stages), stages, step, epochs=epochs, rate=0.004):
        pass
    return model


def logits(model: nn.Module, data: creatures.Creatures) -> np.ndarray:
    """Give the outputs for creatures: (N, 13)."""
    with torch.no_grad():
        return torch.cat([model(pictures) for pictures in data.tensor().split(100)]).numpy()
