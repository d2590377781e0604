"""Images in blocks, as stores take them, and digests by which images that changed are noticed.

What a network gives rounds differently in another batch, so batches must not depend on where the
work was interrupted: they don't run from one block into the next.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from explgraph.activations.streaming import BLOCK
from explgraph.errors import ExplgraphError
from explgraph.fed_images import FedImages, inputs_of
from explgraph.images.batches import AnyImages, batches, image_names, subset
from explgraph.images.folder import ImageFolder
from explgraph.images.taken import described

__all__ = ["ImageBlocks", "Runs", "whole_blocks"]

Runs = Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]


class ImageBlocks:
    """Images in blocks.

    Attributes
    ----------
    names : tuple of str
        Of the N images.
    identity : str
        SHA-256 of the names and of how images are made ready, hexadecimal.

    Parameters
    ----------
    images : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
        That can be counted, and taken in any order.
    length : int
        Images in a block, a multiple of `BLOCK`.
    """

    def __init__(self, images: AnyImages, length: int = BLOCK) -> None:
        self.names = image_names(images)
        self._images, self._length = images, length
        ready = described(images)
        self.identity = hashlib.sha256(json.dumps([self.names, ready]).encode()).hexdigest()
        self._digests: dict[int, bytes] = {}

    def batches(
        self, blocks: Sequence[int], batch_size: int
    ) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        """Read some blocks, in batches within them, of `BLOCK` images at most."""
        chosen = [i for block in blocks for i in self._of(block)]
        if isinstance(self._images, ImageFolder):
            # before anything is read: an image that changes meanwhile must not pass for the new one
            self.digests(blocks)
        done, pixels = 0, hashlib.sha256()
        for _, batch in batches(subset(self._images, chosen, BLOCK), BLOCK):
            here = chosen[done : done + len(batch)]
            done += len(batch)
            if not isinstance(self._images, ImageFolder):
                pixels.update(inputs_of(batch)[0].cpu().contiguous().numpy().data)
                if isinstance(batch, FedImages):
                    pixels.update(batch.content())
                block = here[-1] // self._length
                if here[-1] == self._of(block)[-1]:
                    self._digests[block], pixels = pixels.digest(), hashlib.sha256()
            names = tuple(self.names[i] for i in here)
            for start in range(0, len(batch), batch_size):
                piece = slice(start, start + batch_size)
                yield names[piece], batch[piece]

    def digests(self, blocks: Sequence[int]) -> list[bytes]:
        """Give the SHA-256 of some blocks' images, as they were when they were read.

        Of a folder: the photographs' bytes, and what is cut out of them. Of others: their pixels.
        """
        new = [block for block in blocks if block not in self._digests]
        if isinstance(self._images, ImageFolder):
            for block in new:
                text = json.dumps(self._images.subset(self._of(block)).sources())
                self._digests[block] = hashlib.sha256(text.encode()).digest()
        elif new:
            for _ in self.batches(new, BLOCK):
                pass
        return [self._digests[block] for block in blocks]

    def _of(self, block: int) -> range:
        """Give the numbers of a block's images."""
        first = block * self._length
        return range(first, min(first + self._length, len(self.names)))


def whole_blocks(
    runs: Runs, blocks: Sequence[int], n: int, length: int = BLOCK
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Put the batches of each block together; there are `n` images in all."""
    for number in blocks:
        here = min(length, n - number * length)
        pieces: list[dict[str, Tensor]] = []
        while sum(len(next(iter(piece.values()))) for piece in pieces) < here:
            found = next(runs, None)
            if found is None:
                raise ExplgraphError(
                    "images ended before their number; they must give as many as they say"
                )
            pieces.append(found[1])
        yield number, _joined(pieces)


def _joined(pieces: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Put batches together."""
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
