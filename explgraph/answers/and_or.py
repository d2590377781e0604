"""How the templates and nodes of a fitted part are used in some images.

Measured, nothing is fitted: in every image the template of greatest support speaks
(`part_templates.guess`), and its nodes share the vote by their weights at the place that they come
to (`voting.shares`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from explgraph.answers import voting
from explgraph.answers.part_templates import FittedPart
from explgraph.answers.prepared import Prepared
from explgraph.graph.and_or import AndOrPart, AndOrTemplate, Shot, Voter

__all__ = ["used"]

Array = NDArray[np.float64]


def used(
    name: str,
    part: FittedPart,
    shots: Sequence[tuple[str, float, float]],
    nodes: Sequence[str],
    seen: Prepared,
) -> AndOrPart:
    """Measure how a part's templates and their nodes are used in N images.

    Parameters
    ----------
    name : str
    part : FittedPart
    shots : sequence of (str, float, float)
        Image and mark (px) of each shot.
    nodes : sequence of V str
        Their ids.
    seen : Prepared
        The images, in the units of the fit.
    """
    said, place, radius, presence = seen.locate(name, part)
    positions, strengths = seen.positions, seen.strengths
    off = [None if np.isnan(error) else float(error) for error in part.errors]
    templates = []
    for t, template in enumerate(part.templates):
        here = said.template == t
        share, near = _votes(
            template, positions[here], strengths[here], said.place[here], place[here], radius[here]
        )
        voters = zip(
            template.voters.tolist(), template.offset.tolist(), np.sqrt(template.spread).tolist(),
            share.tolist(), near,
            strict=True,
        )  # fmt: skip
        templates.append(
            AndOrTemplate(
                float(here.mean()),
                tuple(
                    Shot(*shot, error)
                    for shot, error, group in zip(shots, off, part.group.tolist(), strict=True)
                    if group == t
                ),
                tuple(Voter(nodes[v], *offset, *rest) for v, offset, *rest in voters),
            )
        )
    known = np.isfinite(presence).all()
    return AndOrPart(
        name,
        float(np.median(radius)),
        float(presence.mean()) if known else None,
        tuple(templates),
    )


def _votes(
    template: voting.Template, positions: Array, strengths: Array, voted: Array, place: Array,
    radius: Array,
) -> tuple[Array, list[float] | list[None]]:  # fmt: skip
    """Give each of M voters its mean share in the vote, and how often its vote lies in the radius.

    Nobody votes in no images.
    """
    if not len(positions):
        return np.zeros(len(template.voters)), [None] * len(template.voters)
    share = voting.shares(template, positions, strengths, voted)
    votes = positions[:, template.voters] + template.offset
    near = np.linalg.norm(votes - place[:, None], axis=2) <= radius[:, None]
    return share.mean(axis=0), near.mean(axis=0).tolist()
