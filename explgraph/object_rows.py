"""The rows that an image of several objects gets in a parse: one for each object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from explgraph.errors import ExplgraphError
from explgraph.network.forward import rectified_maps
from explgraph.network.geometry import Layer
from explgraph.parser import Looked, Parser
from explgraph.several_objects import MOST, SURE, Look, enlarged, find_frames, placed
from explgraph.whole_numbers import whole

__all__ = ["ObjectRows", "check_objects", "object_names", "parse_batch"]


def check_objects(objects: int) -> int:
    """Give the number of objects to look for, if it can be."""
    whole(objects, "objects")
    if objects > MOST:
        raise ExplgraphError(
            f"objects must be a whole number from 1 to {MOST}, got {objects}; for more, cut the "
            "photographs up by boxes (ImageFolder's boxes=)"
        )
    return objects


class ObjectRows(NamedTuple):
    """Objects of one image: what was seen of each, and its frame (k, 4) px."""

    looked: Looked
    frames: Tensor


def parse_batch(
    parser: Parser, model: nn.Module, layers: Sequence[Layer], batch: Tensor, objects: int
) -> list[ObjectRows]:
    """Find the objects of each image of a batch (n, C, H, W), by running the model over pieces.

    The model must be where it is to run, and the images of the size that was mined.
    """
    size = len(batch)

    def maps_of(images: Tensor) -> dict[int, Tensor]:
        # not torch.split, by which images would lose what the model takes beside them
        pieces = [images[start : start + size] for start in range(0, len(images), size)]
        named = ((tuple(map(str, range(len(piece)))), piece) for piece in pieces)
        runs = [maps for _, maps in rectified_maps(model, named, layers)]
        return {layer.index: torch.cat([maps[layer.name] for maps in runs]) for layer in layers}

    def look(images: Tensor) -> Look:
        parts = (images[start : start + size] for start in range(0, len(images), size))
        looks = [parser.look(maps_of(part)) for part in parts]
        return Look(*(torch.cat(part) for part in zip(*looks, strict=True)))

    height, width = batch.shape[2:]
    whole = batch.new_tensor([[0, 0, width, height]])
    maps = maps_of(batch)
    looked = parser(maps)
    found = [ObjectRows(Looked(*(part[i : i + 1] for part in looked)), whole) for i in range(size)]
    unsure = [i for i in range(size) if float(looked.fit[i]) < SURE * parser.usual_fit]
    if not unsure:
        return found
    evidence = parser.look({index: values[unsure] for index, values in maps.items()}).evidence
    frames = find_frames(batch[unsure], evidence, objects, look)
    for i, here in zip(unsure, frames, strict=True):
        if len(here):
            cut = enlarged(batch[i : i + 1].expand(len(here), -1, -1, -1), here)
            seen = parser(maps_of(cut))
            positions, expected = (placed(part, here, (height, width)) for part in seen[:2])
            found[i] = ObjectRows(seen._replace(positions=positions, expected=expected), here)
    return found


def object_names(image: str, objects: int) -> list[str]:
    """Name an image's objects: as boxes are, by ``#k`` where there are several."""
    return [image] if objects == 1 else [f"{image}#{k}" for k in range(objects)]
