"""Train the network of explgraph.creatures and write its weights.

    OMP_NUM_THREADS=1 python benchmarks/train_creatures.py

draws TRAIN creatures, trains on their families and attributes (plain cross entropies; the positions
of the parts are never looked at), prints the accuracy on fresh creatures, and writes
``explgraph/creatures/creatures.safetensors`` in half precision with these figures in its metadata.
The same machine, thread count and versions give the same weights.

The weights that ship: 97.0 % of fresh creatures' families are right and 97.5 % of their attributes;
training took 721 s on one thread of a busy machine.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from explgraph import creatures
from explgraph.atomic import atomic_write

TRAIN, EPOCHS, BATCH, SEED, TEST_SEED = 20_000, 8, 32, 1_000_003, 2_000_003


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of the family plus the attributes' mean binary cross entropy."""
    families = len(creatures.FAMILIES)
    one = torch.nn.functional.cross_entropy(logits[:, :families], targets[:, :families])
    many = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[:, families:], targets[:, families:]
    )
    return one + 3 * many


def fit(
    model: creatures.CreatureNet, data: creatures.Creatures, *, epochs: int, seed: int
) -> creatures.CreatureNet:
    """Train in place: AdamW, one cycle of the learning rate, pictures mirrored at random."""
    torch.manual_seed(seed)
    # twice as fast on a CPU as the default order in memory
    model.train().to(memory_format=torch.channels_last)
    targets = data.targets()
    steps = epochs * (len(data) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.004, total_steps=steps, pct_start=0.2
    )
    for epoch in range(epochs):
        began, total = time.perf_counter(), 0.0
        for rows in torch.randperm(len(data))[: len(data) // BATCH * BATCH].split(BATCH):
            pictures = normalise(data.images[rows.numpy()])
            mirrored = torch.rand(BATCH) < 0.5
            pictures[mirrored] = pictures[mirrored].flip(-1)
            value = loss(model(pictures), targets[rows])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            total += value.item() / (len(data) // BATCH)
        print(
            f"epoch {epoch + 1}: loss {total:.3f}, {time.perf_counter() - began:.0f} s", flush=True
        )
    return model.eval()


def normalise(images: NDArray[np.uint8]) -> Tensor:
    """Turn (N, H, W, 3) uint8 into the network's input (N, 3, H, W)."""
    mean, std = torch.tensor(creatures.MEAN), torch.tensor(creatures.STD)
    return ((torch.from_numpy(images).float() / 255 - mean) / std).permute(0, 3, 1, 2)


def accuracy(model: creatures.CreatureNet, data: creatures.Creatures) -> dict[str, float]:
    """Share of right answers: of the families, and of each attribute."""
    with torch.no_grad():
        logits = torch.cat([model(normalise(part)) for part in np.array_split(data.images, 20)])
    families, targets = len(creatures.FAMILIES), data.targets()
    guessed = logits[:, :families].argmax(1) == targets[:, :families].argmax(1)
    right = ((logits > 0) == (targets > 0.5)).float().mean(0)[families:]
    return {
        "family": guessed.float().mean().item(),
        **dict(zip(data.attributes, right.tolist(), strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = Path(creatures.__file__).with_name("creatures.safetensors")
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--train", type=int, default=TRAIN, help="number of creatures")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()

    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    began = time.perf_counter()
    data = creatures.draw(options.train, seed=SEED)
    print(f"{len(data)} creatures drawn in {time.perf_counter() - began:.0f} s", flush=True)
    model = creatures.network(pretrained=False)
    fit(model, data, epochs=options.epochs, seed=SEED)
    seconds = time.perf_counter() - began

    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    # What ships is what is measured.
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    right = accuracy(model, creatures.draw(2000, seed=TEST_SEED))
    for name, share in right.items():
        print(f"{name:12s} {share:.3f}")
    print(f"trained in {seconds:.0f} s, {torch.get_num_threads()} thread(s)")
    arguments = f"--train {options.train} --epochs {options.epochs}"
    metadata = {
        "command": f"OMP_NUM_THREADS=1 python benchmarks/train_creatures.py {arguments}",
        "seed": str(SEED),
        "family_accuracy": f"{right.pop('family'):.4f}",
        "mean_attribute_accuracy": f"{np.mean(list(right.values())):.4f}",
        "seconds": f"{seconds:.0f}",
        "torch": torch.__version__,
    }
    with atomic_write(options.out) as path:
        path.write_bytes(save(weights, metadata))


if __name__ == "__main__":
    main()
