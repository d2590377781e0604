"""How nodes vote for a part: offsets from a few shots, trust, robust votes, residuals.

Pure functions over the V nodes of a parse, for `explgraph.answers.localize`, where the method is
told. Places are px; lengths that are constants are shares of the image's diagonal, so that images
of any size are treated alike. A *shot* is an image in which the part is marked.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Nodes",
    "Residual",
    "Template",
    "fit_residual",
    "fit_template",
    "posed",
    "shares",
    "shot_sums",
    "stray",
    "vote",
]

Array = NDArray[np.float64]

VOTERS = 60
"""Nodes of least spread that vote."""
PRIOR_SHOTS = 3
"""How many shots the spread that is expected beforehand counts as much as."""
NEAR = 0.063
"""From this distance on, share of the diagonal, a node counts as ever less rigid."""
PARTNERS = 400
"""Nodes that a node's straying is measured against, about."""
TYPICAL = 0.4
"""Reliability of a node that is trusted as much as its straying says."""
TAIL = 0.5
"""Squared distance, in units of a node's spread, from which its vote counts half."""
REACH, AMPLITUDE, NOISE = 0.126, 0.063, 0.047
"""Of residuals, shares of the diagonal: the change of pose that matters, their size, noise."""
POSE = 200
"""Reliable nodes whose places are an image's pose."""


class Nodes(NamedTuple):
    """What a fit knows of the V nodes before it sees a mark.

    Attributes
    ----------
    top : (V,)
        Score of the best images, by which scores are divided (`metrics.top_scores`).
    reliability, follows : (V,)
        The graph's.
    stray : (V,) px^2
        How much a node moves against reliable nodes (`stray`).
    diagonal : float
        Of the image, px.
    votes : (V,) bool
        Whether a node may vote: those of parts that people rejected may not.
    """

    top: Array
    reliability: Array
    follows: Array
    stray: Array
    diagonal: float
    votes: NDArray[np.bool_]

    def posed(self) -> NDArray[np.int64]:
        """Give the nodes whose places are an image's pose: the most reliable that may vote."""
        return posed(self.reliability, self.votes)


class Template(NamedTuple):
    """An AND of nodes: where each sees the part from its own place, and how surely.

    Attributes
    ----------
    voters : (M,) int
        Nodes, the surest first.
    offset : (M, 2) px
        Part - node.
    spread : (M,) px^2
        Expected squared error of a node's vote.
    """

    voters: NDArray[np.int64]
    offset: Array
    spread: Array


class Residual(NamedTuple):
    """What votes missed in the shots, as a function of the pose.

    Attributes
    ----------
    nodes : (P,) int
        Those whose places are the pose.
    pose : (k, 2 P + 2) px
        Of the shots.
    weights : (k, 2) px
        Of the shots' kernels.
    """

    nodes: NDArray[np.int64]
    pose: Array
    weights: Array


def posed(reliability: Array, votes: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Give the most reliable of V nodes that may vote."""
    allowed = np.flatnonzero(votes)
    return allowed[np.argsort(-reliability[allowed], kind="stable")[:POSE]]


def stray(positions: Array, strengths: Array, diagonal: float) -> Array:
    """Measure, without any mark, how much each node moves against the others.

    Half the mean, over about `PARTNERS` of the nodes, of the variance of the difference of places
    (summed over x and y; images weighted by both strengths). They are every so-manieth node rather
    than the most reliable ones, most of which sit at one part and would call all others strays.

    Parameters
    ----------
    positions : (N, V, 2) px
    strengths : (N, V)
    diagonal : float
        px; with fewer than three images the answer is a tenth of it, squared, for all, and with
        fewer than `VOTERS` nodes it is drawn there.

    Returns
    -------
    (V,) px^2
    """
    n, v = strengths.shape
    usual = (0.1 * diagonal) ** 2
    if n < 3:
        return np.full(v, usual)
    partners = np.arange(0, v, max(1, v // PARTNERS))
    w = np.clip(strengths, 0.05, 2)
    total = w.T @ w[:, partners]
    variance = np.zeros_like(total)
    for x in np.moveaxis(positions - positions.mean(axis=0), 2, 0):
        wx = w * x
        first = (wx.T @ w[:, partners] - w.T @ wx[:, partners]) / total
        square = (wx * x).T @ w[:, partners] + w.T @ (wx * x)[:, partners]
        variance += (square - 2 * wx.T @ wx[:, partners]) / total - first**2
    mean: Array = np.maximum(variance, 0).mean(axis=1) / 2
    # few nodes tell little about each other
    known = min(1, v / VOTERS)
    mean = known * mean + (1 - known) * usual
    # a node that copies others exactly isn't surer than a part can be marked
    return np.maximum(mean, 0.01 * usual)


def expected_spread(nodes: Nodes, distance2: Array) -> Array:
    """Spread that is expected of nodes at squared distances (V,) px^2 from the part.

    What stands still misses a part by as much as parts usually move, however steady it is.
    """
    usual = (0.1 * nodes.diagonal) ** 2
    near = (NEAR * nodes.diagonal) ** 2
    far = (near + distance2) / (2 * usual)
    rigid = far * np.sqrt(far)  # to the power of 1.5, which takes ten times as long
    moving: Array = 1.6 * nodes.stray**0.75 * usual**0.25 * rigid
    trusted = moving * np.exp(-3 * (nodes.reliability - TYPICAL))
    spread: Array = np.where(nodes.follows > 0, trusted, np.maximum(2 * usual, moving))
    return spread


def shot_sums(positions: Array, strengths: Array, marks: Array) -> Array:
    """Give what a template is fitted from, shot by shot: sums over shots make a template.

    Parameters
    ----------
    positions : (k, V, 2) px
        Of the nodes in the shots.
    strengths : (k, V)
    marks : (k, 2) px

    Returns
    -------
    (k, 5, V)
        Weight w; w dx; w dy; w d^2 (d: from the node to the part, px); d^2.
    """
    weight = strengths + 1e-3
    dx, dy = np.moveaxis(marks[:, None] - positions, 2, 0)
    square = dx**2 + dy**2
    return np.stack([weight, weight * dx, weight * dy, weight * square, square], axis=1)


def fit_template(nodes: Nodes, sums: Array, shots: int) -> Template:
    """Fit offsets and spreads to some shots.

    Parameters
    ----------
    nodes : Nodes
    sums : (5, V)
        Of `shot_sums`, over the shots.
    shots : int
        How many.

    Returns
    -------
    Template
    """
    total, squares = sums[0], sums[3]
    offset = sums[1:3] / total
    seen = np.maximum(squares - total * (offset**2).sum(axis=0), 0)
    expected = expected_spread(nodes, sums[4] / shots)
    spread = (seen + PRIOR_SHOTS * expected) / (total + PRIOR_SHOTS)
    voters = _least(np.where(nodes.votes, spread, np.inf), min(VOTERS, int(nodes.votes.sum())))
    return Template(voters, offset.T[voters], spread[voters])


def _least(values: Array, count: int) -> NDArray[np.int64]:
    """Give the places of the least values, the least first."""
    chosen = np.sort(np.argpartition(values, count - 1)[:count])
    return chosen[np.argsort(values[chosen], kind="stable")]


def vote(template: Template, positions: Array, strengths: Array) -> tuple[Array, Array, Array]:
    """Let a template's nodes vote.

    From the geometric median of the votes it climbs to a place of greatest agreement (redescending
    weights, those of a Student distribution), which far votes don't move.

    Parameters
    ----------
    template : Template
    positions : (N, V, 2) px
    strengths : (N, V)

    Returns
    -------
    place : (N, 2) px
    scatter : (N,) px
        Root mean squared distance of the votes; with fewer than `VOTERS`, mixed with their spread.
    support : (N,)
        In [0, 2]: strength of the voters that agree on the place.
    """
    # x and y by themselves: summing over an axis of two is slow, and this is where time goes
    x, y = np.ascontiguousarray(np.moveaxis(positions[:, template.voters] + template.offset, 2, 0))
    ballots = strengths[:, template.voters] / template.spread + 1e-12
    share = ballots / ballots.sum(axis=1, keepdims=True)
    floor = np.sqrt(template.spread.min()) / 4
    reach = TAIL * template.spread

    def mean(pull: Array) -> tuple[Array, Array]:
        total = pull.sum(axis=1)
        here = (np.einsum("nv,nv->n", pull, one) / total for one in (x, y))
        return next(here)[:, None], next(here)[:, None]

    def squared() -> Array:
        dx, dy = x - px, y - py
        square: Array = dx * dx + dy * dy
        return square

    px, py = mean(share)
    for _ in range(5):
        px, py = mean(share / (np.sqrt(squared()) + floor))
    for _ in range(15):
        px, py = mean(share / (1 + squared() / reach))
    place = np.concatenate([px, py], axis=1)
    squares = squared()
    agree = 1 / (1 + squares / reach)
    trust = 1 / template.spread
    support = (strengths[:, template.voters] * agree * trust).sum(axis=1) / trust.sum()
    # few voters may agree by chance: for those that are missing, what is expected of all counts
    alone = len(template.voters) / VOTERS
    scattered = alone * squares + (1 - alone) * template.spread
    return place, np.sqrt((share * scattered).sum(axis=1)), support


def shares(template: Template, positions: Array, strengths: Array, place: Array) -> Array:
    """Say how much each voter counts at the place that `vote` came to.

    The place is the mean of the votes, weighted by these: strength over spread, times how well the
    vote agrees with the place.

    Parameters
    ----------
    template : Template
    positions : (N, V, 2) px
    strengths : (N, V)
    place : (N, 2) px
        As `vote` gives it.

    Returns
    -------
    (N, M)
        They sum to 1 over the M voters.
    """
    votes = positions[:, template.voters] + template.offset
    squares = ((votes - place[:, None]) ** 2).sum(axis=2)
    ballots = strengths[:, template.voters] / template.spread + 1e-12
    pull = ballots / (1 + squares / (TAIL * template.spread))
    share: Array = pull / pull.sum(axis=1, keepdims=True)
    return share


def _pose(nodes: NDArray[np.int64], positions: Array, place: Array) -> Array:
    """Places of nodes around the voted place, and that place: (N, 2 P + 2) px."""
    around = (positions[:, nodes] - place[:, None]) / np.sqrt(len(nodes))
    pose: Array = np.concatenate([around.reshape(len(place), -1), place], axis=1) / np.sqrt(2)
    return pose


def _kernel(one: Array, other: Array, diagonal: float) -> Array:
    """Covariance of residuals at poses (N, F) and (k, F), px^2."""
    square = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    covariance: Array = (AMPLITUDE * diagonal) ** 2 * np.exp(
        -np.maximum(square, 0) / (2 * (REACH * diagonal) ** 2)
    )
    return covariance


def fit_residual(nodes: Nodes, positions: Array, place: Array, marks: Array) -> Residual:
    """Regress what the votes missed in k shots on the pose: a Gaussian process.

    Parameters
    ----------
    nodes : Nodes
    positions : (k, V, 2) px
    place : (k, 2) px
        Voted.
    marks : (k, 2) px

    Returns
    -------
    Residual
    """
    chosen = nodes.posed()
    pose = _pose(chosen, positions, place)
    covariance = _kernel(pose, pose, nodes.diagonal)
    noisy = covariance + (NOISE * nodes.diagonal) ** 2 * np.eye(len(pose))
    return Residual(chosen, pose, np.asarray(np.linalg.solve(noisy, marks - place), np.float64))


def correct(residual: Residual, positions: Array, place: Array, diagonal: float) -> Array:
    """Add to voted places (N, 2) what shots of like pose missed."""
    pose = _pose(residual.nodes, positions, place)
    better: Array = place + _kernel(pose, residual.pose, diagonal) @ residual.weights
    return better
