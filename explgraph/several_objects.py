"""Where the objects are in images that show several: parts of the image, one for each.

A network answers to things of the size that it was trained on, and a pose is known for objects as
large as in the mined images. So an image in which one pose does not hold is looked at again piece
by piece, each brought to the whole image's size:

1. Pieces of some sizes and shapes, all over the image (`_PIECES`), are run through the network, and
   the pose of each is read. How well it explains the piece (`Look.evidence`) says whether an object
   stands there as in the mined images.
2. The two pieces are chosen that hardly overlap and explain most together. Where they don't explain
   more than the whole image's pose does, by `_MORE`, the image has one object, and is looked at
   as a whole. Otherwise further pieces are taken that explain nearly as much.
3. Each is moved to where its pose says that the object stands as usual, and a little to all sides,
   as long as it explains more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

__all__ = ["MOST", "SURE", "Look", "enlarged", "find_frames", "placed"]

MOST = 8
"""Objects in an image, at most: smaller ones are not found."""
SURE = 0.75
"""Share of what one pose usually explains from which on an image is not looked at any further.

Seven in ten images of one object have more, one in ten of two.
"""
# width and height as shares of the image's, and how many places along x and y: what is side by side
# in a photograph may have been stretched to the network's square, or padded to it
_PIECES = ((0.7, 0.7, 3, 3), (0.5, 0.5, 4, 4), (0.5, 1.0, 3, 1), (1.0, 0.5, 1, 3))
_SMALL = (0.36, 0.36, 5, 5)  # beside these where more than two objects are looked for
_OVERLAP = 0.2  # of the smaller of two pieces: more is the same object twice
_MOVE, _GROW = 0.1, 1.15  # of a piece's side, at first; half as much in the second round
# by which two pieces must explain more than the whole image, nats: chosen on creatures and dogs
_MORE = 0.2
_NEARLY = 0.5  # of the way from the whole image to the best piece: what a third object explains
_ROUNDS = 2


class Look(NamedTuple):
    """What a look at n images says.

    Attributes
    ----------
    evidence : (n,)
        How well the pose that is read explains each image: nats per unit of activation
        (`statistics.one_pose`) and the mean log evidence of the checks (`pose_reader`). The one
        tells sharply where an object stands, the other whether it is one.
    usual : (n, 4)
        x0, y0, x1, y1 px: the piece of the image in which the object would stand as usual.
    """

    evidence: Tensor
    usual: Tensor


def enlarged(images: Tensor, frames: Tensor) -> Tensor:
    """Cut pieces out of images and bring each to the images' size.

    Parameters
    ----------
    images : (n, C, H, W)
    frames : (n, 4)
        x0, y0, x1, y1 px of the image; beyond its border the border goes on.

    Returns
    -------
    (n, C, H, W)
    """
    n, _, height, width = images.shape
    low, high = frames[:, :2], frames[:, 2:]
    at = []
    for axis, side in enumerate((width, height)):
        share = (torch.arange(side, dtype=torch.float32) + 0.5) / side
        place = low[:, axis, None] + (high - low)[:, axis, None] * share
        at.append(place / side * 2 - 1)
    x, y = at
    grid = torch.stack(
        [x[:, None].expand(n, height, width), y[..., None].expand(n, height, width)], 3
    )
    return grid_sample(images, grid, "bicubic", padding_mode="border", align_corners=False)


def _within(pieces: Tensor, frames: Tensor, image: Tensor) -> Tensor:
    """Take pieces (..., 4) of enlarged frames (..., 4) to the image of (1, C, H, W) px."""
    size = frames.new_tensor(image.shape[:1:-1]).repeat(2)
    scale = frames[..., 2:] - frames[..., :2]
    return torch.cat([frames[..., :2]] * 2, -1) + pieces * torch.cat([scale] * 2, -1) / size


def placed(points: Tensor, frames: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Take points (n, V, 2) in enlarged pieces (n, 4) to the images that these are cut from, px."""
    size = points.new_tensor(image_size[::-1])
    scale = (frames[:, 2:] - frames[:, :2]) / size
    return points * scale[:, None] + frames[:, None, :2]


def find_frames(
    images: Tensor, whole: Tensor, objects: int, look: Callable[[Tensor], Look]
) -> list[Tensor]:
    """Find the piece of every image in which each object stands.

    Parameters
    ----------
    images : (n, C, H, W)
        As the network takes them.
    whole : (n,)
        Evidence of the whole images.
    objects : int
        In an image, at most.
    look : callable
        Looks at images (n, C, H, W).

    Returns
    -------
    list of (k, 4)
        For every image its objects, those that are explained best first: x0, y0, x1, y1 px. None
        (k = 0) where one object, or none, is all that is found.
    """
    n, _, height, width = images.shape
    pieces = _pieces(height, width, objects)
    looks = [look(enlarged(images, piece.expand(n, 4))) for piece in pieces]
    evidence = torch.stack([one.evidence for one in looks], 1)
    usual = torch.stack([one.usual for one in looks], 1)
    apart = _overlap(pieces) <= _OVERLAP
    frames = []
    for i, (found, alone, standing) in enumerate(zip(evidence, whole, usual, strict=True)):
        chosen = _choose(found, float(alone), apart, objects)
        if not chosen:
            frames.append(pieces.new_empty((0, 4)))
            continue
        image = images[i : i + 1]  # with what the model takes beside it
        first = _within(standing[chosen], pieces[chosen], image)
        frames.append(_moved(image, pieces[chosen], first, found[chosen], look))
    return frames


def _pieces(height: int, width: int, objects: int) -> Tensor:
    """All pieces that are looked at, ``(P, 4)`` px."""
    pieces = []
    for x, y, columns, rows in (*_PIECES, *((_SMALL,) if objects > 2 else ())):
        left, top = (
            torch.linspace(0, 1 - share, number, dtype=torch.float32)
            if number > 1
            else torch.zeros(1)
            for share, number in ((x, columns), (y, rows))
        )
        corner = torch.cartesian_prod(left, top)
        pieces.append(torch.cat([corner, corner + torch.tensor([x, y])], 1))
    return torch.cat(pieces) * torch.tensor([width, height, width, height])


def _overlap(pieces: Tensor) -> Tensor:
    """Shares of the smaller of any two pieces that both have, ``(P, P)``."""
    low = torch.maximum(pieces[:, None, :2], pieces[None, :, :2])
    high = torch.minimum(pieces[:, None, 2:], pieces[None, :, 2:])
    area = (pieces[:, 2:] - pieces[:, :2]).prod(1)
    return (high - low).clamp(min=0).prod(2) / torch.minimum(area[:, None], area[None])


def _choose(found: Tensor, alone: float, apart: Tensor, objects: int) -> list[int]:
    """Choose pieces by their evidence (P,), and that of the whole image; none if that is enough."""
    pair = (found[:, None] + found[None]).masked_fill(~apart, -torch.inf)
    first, second = divmod(int(pair.argmax()), len(found))
    if float(pair.max()) / 2 <= alone + _MORE:
        return []
    chosen = [first, second]
    least = alone + _NEARLY * (float(found[chosen].max()) - alone)
    while len(chosen) < objects:
        free = found.masked_fill(~apart[chosen].all(0), -torch.inf)
        if float(free.max()) <= least:
            break
        chosen.append(int(free.argmax()))
    return chosen


def _moved(
    image: Tensor, frames: Tensor, usual: Tensor, found: Tensor, look: Callable[[Tensor], Look]
) -> Tensor:
    """Move and resize an image's pieces (k, 4) as long as that explains more; best first."""
    for turn in range(_ROUNDS):
        move, grow = _MOVE / 2**turn, _GROW ** (0.5**turn)
        moves = frames.new_tensor(
            [
                (move, 0, 1),
                (-move, 0, 1),
                (0, move, 1),
                (0, -move, 1),
                (0, 0, grow),
                (0, 0, 1 / grow),
            ]
        )
        side = (frames[:, 2:] - frames[:, :2])[:, None]
        centre = (frames[:, 2:] + frames[:, :2])[:, None] / 2 + moves[:, :2] * side
        half = side * moves[:, 2:] / 2
        tried = torch.cat([torch.cat([centre - half, centre + half], 2), usual[:, None]], 1)
        k, m = tried.shape[:2]
        seen = look(enlarged(image.expand(k * m, -1, -1, -1), tried.flatten(0, 1)))
        gained, best = seen.evidence.reshape(k, m).max(1)
        better, rows = gained > found, torch.arange(k)
        standing = _within(seen.usual.reshape(k, m, 4), tried, image)[rows, best]
        usual = torch.where(better[:, None], standing, usual)
        frames = torch.where(better[:, None], tried[rows, best], frames)
        found = torch.where(better, gained, found)
    return frames[found.argsort(descending=True, stable=True)]
