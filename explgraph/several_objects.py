"""Where the objects are in images that show several: parts of the image, one for each.

A network answers to things of the size that it was trained on, and a pose is known for objects as
large as in the mined images. So a photograph of several objects is looked at again piece by piece,
each brought to the whole image's size:

1. Pieces of some sizes and shapes, all over the image (`_PIECES`), are run through the network, and
   the pose of each is read. How well it explains the piece (the mean log evidence of the checks:
   `statistics.pose_reader`) says whether an object stands there as in the mined images.
2. Of the pieces that hardly overlap, those are objects that explain more than the whole image does,
   and nearer to the best piece than to it. Where fewer than two do, the image has one object, and
   is looked at as a whole.
3. Each is moved and resized a little, as long as it explains more.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

__all__ = ["MOST", "enlarged", "find_frames", "placed"]

MOST = 8
"""Objects in an image, at most: smaller ones are not found."""
# width and height as shares of the image's, and how many places along x and y: what is side by side
# in a photograph may have been stretched to the network's square, or padded to it
_PIECES = ((0.7, 0.7, 3, 3), (0.5, 0.5, 4, 4), (0.5, 1.0, 3, 1), (1.0, 0.5, 1, 3))
_SMALL = (0.36, 0.36, 5, 5)  # beside these where more than two objects are looked for
_OVERLAP = 0.2  # of the smaller of two pieces: more is the same object twice
_MOVE, _GROW = 0.1, 1.15  # of a piece's side, at first; half as much in the second round
_SHARE = 0.1
_ROUNDS = 2


def enlarged(images: Tensor, frames: Tensor) -> Tensor:
    """Cut pieces out of images and bring each to the images' size.

    Parameters
    ----------
    images : (n, 3, H, W)
    frames : (n, 4)
        x0, y0, x1, y1 px of the image; beyond its border the border goes on.

    Returns
    -------
    (n, 3, H, W)
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


def placed(points: Tensor, frames: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Take points (n, V, 2) in enlarged pieces (n, 4) to the images that these are cut from, px."""
    size = points.new_tensor(image_size[::-1])
    scale = (frames[:, 2:] - frames[:, :2]) / size
    return points * scale[:, None] + frames[:, None, :2]


def find_frames(images: Tensor, objects: int, evidence: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Find the piece of every image in which each object stands.

    Parameters
    ----------
    images : (n, 3, H, W)
        As the network takes them.
    objects : int
        In an image, at most.
    evidence : callable
        Gives for images (n, 3, H, W) how well the pose that is read explains each, ``(n,)``.

    Returns
    -------
    list of (k, 4)
        For every image its objects, those that are explained best first: x0, y0, x1, y1 px. None
        (k = 0) where one object, or none, is all that is found.
    """
    n, _, height, width = images.shape
    pieces = _pieces(height, width, objects)
    whole = evidence(images)
    found = torch.stack([evidence(enlarged(images, piece.expand(n, 4))) for piece in pieces], 1)
    apart = _overlap(pieces) <= _OVERLAP
    frames = []
    for i in range(n):
        chosen = _choose(found[i], apart, objects)
        best = found[i, chosen].max()
        more = found[i, chosen] > whole[i] + _SHARE * (best - whole[i])
        chosen = [c for c, good in zip(chosen, more.tolist(), strict=True) if good]
        if best <= whole[i] or len(chosen) < 2:
            frames.append(pieces.new_empty((0, 4)))
            continue
        frames.append(_moved(images[i], pieces[chosen], found[i, chosen], evidence))
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


def _choose(found: Tensor, apart: Tensor, objects: int) -> list[int]:
    """Choose the two pieces apart that explain most together, then the best ones apart from all."""
    pair = (found[:, None] + found[None]).masked_fill(~apart, -torch.inf)
    first, second = divmod(int(pair.argmax()), len(found))
    chosen = [first, second]
    while len(chosen) < objects:
        free = found.masked_fill(~apart[chosen].all(0), -torch.inf)
        if not bool(free.isfinite().any()):
            break
        chosen.append(int(free.argmax()))
    return chosen


def _moved(
    image: Tensor, frames: Tensor, found: Tensor, evidence: Callable[[Tensor], Tensor]
) -> Tensor:
    """Move and resize an image's pieces (k, 4) as long as that explains more; best first."""
    for turn in range(_ROUNDS):
        move, grow = _MOVE / 2**turn, _GROW ** (0.5**turn)
        moves = torch.tensor(
            [
                [move, 0, 1],
                [-move, 0, 1],
                [0, move, 1],
                [0, -move, 1],
                [0, 0, grow],
                [0, 0, 1 / grow],
            ]
        )
        side = frames[:, 2:] - frames[:, :2]
        middle = (frames[:, 2:] + frames[:, :2]) / 2
        centre = middle[:, None] + moves[:, :2] * side[:, None]
        half = side[:, None] * moves[:, 2:] / 2
        tried = torch.cat([centre - half, centre + half], 2)  # (k, 6, 4)
        cut = enlarged(
            image.expand(tried.shape[0] * tried.shape[1], *image.shape), tried.flatten(0, 1)
        )
        gained, best = evidence(cut).reshape(tried.shape[:2]).max(1)
        better = gained > found
        frames = torch.where(better[:, None], tried[torch.arange(len(tried)), best], frames)
        found = torch.where(better, gained, found)
    return frames[found.argsort(descending=True, stable=True)]
