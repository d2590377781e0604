"""What a template looks like: its nodes around the part, on a marked image if there is one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from explgraph.graph.and_or import AndOrTemplate, Shot, Voter
from explgraph.graph.graph import Graph
from explgraph.views.draw_patches import Patches
from explgraph.views.pictures import Colours, part_side

__all__ = ["Pose", "pose", "shots_seen"]

_ROOM = 1.15  # of the way to the farthest node, to the border


class Pose(NamedTuple):
    """A template's mean pose.

    Attributes
    ----------
    picture : (size, size, 3) uint8 or None
        A marked image around the part.
    at : (n, 2)
        Where the nodes are, as shares of the side from the upper left corner; the part is in the
        middle.
    """

    picture: Colours | None
    at: NDArray[np.float64]


def pose(
    graph: Graph, template: AndOrTemplate, voters: Sequence[Voter], patches: Patches, size: int
) -> Pose:
    """Lay out some nodes of a template.

    Parameters
    ----------
    graph : Graph
    template : AndOrTemplate
    voters : sequence of Voter
        Those that are shown. Who is farther off than the image is wide is on the border.
    patches : Patches
    size : int
        Of the picture, px.
    """
    farthest = max(max(abs(voter.dx), abs(voter.dy)) for voter in voters)
    side = min(max(2 * _ROOM * farthest, part_side(graph.image_size)), min(graph.image_size))
    at = np.array([[-voter.dx, -voter.dy] for voter in voters]) / side + 0.5
    seen = shots_seen(template, patches, 1, side, size, centred=True)
    return Pose(seen[0][1] if seen else None, np.clip(at, 0.0, 1.0))


def shots_seen(
    template: AndOrTemplate, patches: Patches, count: int, side: float, size: int,
    *, centred: bool = False,
) -> list[tuple[Shot, Colours]]:  # fmt: skip
    """Give marked images around their marks: those first that others locate best."""
    best = sorted(template.shots, key=lambda s: math.inf if s.error is None else s.error)
    found = []
    for shot in best:
        cut = patches.around(shot.image, shot.x, shot.y, side, size, centred=centred)
        if cut is not None:
            found.append((shot, cut))
        if len(found) == count:
            break
    return found
