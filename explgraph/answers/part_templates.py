"""What a localizer knows of one part: templates fitted to marks, and how far they can be trusted.

Templates are voted for (`voting`); shots that are left out say how many there should be, how large
the radius is, and how probable a part's presence. See `localize` for the method and its sources.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from explgraph.answers import voting
from explgraph.answers.voting import Nodes, Residual, Template

__all__ = ["FittedPart", "Guess", "feature", "fit_part", "guess", "left_out", "logistic"]

Array = NDArray[np.float64]

LEVEL = 0.9
"""Share of images in which the part lies within the uncertainty."""
USUAL = 1.5
"""Radius of that, in units of scatter and spread, before shots are left out."""
USUAL_SHOTS = 10
"""How many left-out shots that counts as much as."""
FEW = 20
"""With so many shots a template's offsets and spreads add as much variance as votes scatter by."""
TEMPLATES = 3
"""At most."""
FOLDS = 20
"""Into which more shots than that are dealt to be left out."""
TEMPLATE_SHOTS = 3
"""That each template needs at least."""


class FittedPart(NamedTuple):
    """A part fitted to k shots.

    Attributes
    ----------
    templates : tuple of Template
    residual : Residual
    shots : int
        k.
    ratio : float
        Radius over the scale of `Guess`.
    presence : (float, float) or None
        Slope and intercept over log support.
    group : (k,) int
        Which template each shot was fitted to.
    errors : (k,) px
        How far off each was located by the others; NaN for a single one.
    """

    templates: tuple[Template, ...]
    residual: Residual
    shots: int
    ratio: float
    presence: tuple[float, float] | None
    group: NDArray[np.int64]
    errors: Array


class Guess(NamedTuple):
    """What templates say about N images.

    Attributes
    ----------
    place : (N, 2) px
    scale : (N,) px
    support : (N,)
    template : (N,) int
        Which one speaks.
    """

    place: Array
    scale: Array
    support: Array
    template: NDArray[np.int64]


def fit_part(
    nodes: Nodes,
    positions: Array,
    strengths: Array,
    marks: Array,
    bare: Array,
    bare_strengths: Array,
) -> FittedPart:
    """Fit a part to its k shots, and to images known to lack it (`bare`)."""
    k = len(marks)
    one = np.zeros(k, dtype=np.int64)
    sums = voting.shot_sums(positions, strengths, marks)
    whole = left_out(nodes, sums, positions, strengths, marks, one)
    best, best_group = whole, one
    for count in range(2, min(TEMPLATES, k // TEMPLATE_SHOTS) + 1):
        group = _poses(nodes, positions, marks, count)
        if np.bincount(group, minlength=count).min() < TEMPLATE_SHOTS:
            break
        parted = left_out(nodes, sums, positions, strengths, marks, group)
        gain = best[0] - parted[0]
        if not gain.mean() > 2 * gain.std(ddof=1) / np.sqrt(k):
            break
        best, best_group = parted, group
    errors, left = best
    templates = _templates(nodes, sums, best_group, best_group >= 0)
    found = guess(nodes, templates, k, positions, strengths)
    residual = voting.fit_residual(nodes, positions, found.place, marks)
    presence = None
    if len(bare):
        elsewhere = guess(nodes, templates, k, bare, bare_strengths)
        presence = _platt(feature(left.support), feature(elsewhere.support))
    return FittedPart(
        templates, residual, k, _ratio(errors / left.scale if k > 1 else errors), presence,
        best_group, errors if k > 1 else np.full(k, np.nan),
    )  # fmt: skip


def _templates(
    nodes: Nodes, sums: Array, group: NDArray[np.int64], kept: NDArray[np.bool_]
) -> tuple[Template, ...]:
    """Fit a template to each group of those shots that are kept."""
    templates = []
    for g in range(group.max() + 1):
        mine = kept & (group == g)
        templates.append(voting.fit_template(nodes, sums[mine].sum(axis=0), int(mine.sum())))
    return tuple(templates)


def guess(
    nodes: Nodes, templates: Sequence[Template], shots: int, positions: Array, strengths: Array
) -> Guess:
    """Let the template speak whose votes agree best, image by image."""
    said = [voting.vote(template, positions, strengths) for template in templates]
    few = 1 + FEW * len(templates) / shots  # fewer shots, less sure offsets and spreads
    scales = np.stack(
        [
            np.sqrt(scatter * np.sqrt(few * template.spread[0]))
            for template, (_, scatter, _) in zip(templates, said, strict=True)
        ]
    )
    best = np.stack([support for _, _, support in said]).argmax(axis=0)
    rows = np.arange(len(positions))
    return Guess(
        np.stack([place for place, _, _ in said])[best, rows],
        np.maximum(scales[best, rows], 1e-3 * nodes.diagonal),
        np.stack([support for _, _, support in said])[best, rows],
        best,
    )


def left_out(
    nodes: Nodes,
    sums: Array,
    positions: Array,
    strengths: Array,
    marks: Array,
    group: NDArray[np.int64],
) -> tuple[Array, Guess]:
    """Locate each shot by the others: errors (k,) px, and what was guessed.

    Many shots are left out several at a time. A single one is located by itself. `sums` are those
    of `voting.shot_sums`.
    """
    k = len(marks)
    errors = np.zeros(k)
    guesses = Guess(np.zeros((k, 2)), np.zeros(k), np.zeros(k), np.zeros(k, dtype=np.int64))
    # dealt group by group, so that no group is left out as a whole
    fold = np.empty(k, dtype=np.int64)
    fold[np.argsort(group, kind="stable")] = np.arange(k) % FOLDS
    for f in range(min(k, FOLDS)):
        rest, out = (fold != f) | (k == 1), fold == f
        templates = _templates(nodes, sums, group, rest)
        found = guess(nodes, templates, int(rest.sum()), positions, strengths)
        residual = voting.fit_residual(nodes, positions[rest], found.place[rest], marks[rest])
        place = voting.correct(residual, positions[out], found.place[out], nodes.diagonal)
        errors[out] = np.linalg.norm(place - marks[out], axis=1)
        for whole, part in zip(guesses, found, strict=True):
            whole[out] = part[out]
    return errors, guesses


def _poses(nodes: Nodes, positions: Array, marks: Array, count: int) -> NDArray[np.int64]:
    """Part shots into poses: k-means of reliable nodes' places around the mark."""
    from scipy.cluster.vq import kmeans2  # takes half a second to import

    chosen = nodes.posed()
    pose = (positions[:, chosen] - marks[:, None]).reshape(len(marks), -1)
    # from the pose farthest from the mean, then ever the one farthest from those taken
    centres = [pose[((pose - pose.mean(axis=0)) ** 2).sum(axis=1).argmax()]]
    while len(centres) < count:
        gap = np.stack([((pose - c) ** 2).sum(axis=1) for c in centres]).min(axis=0)
        centres.append(pose[gap.argmax()])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty")  # the caller looks
        _, group = kmeans2(pose, np.stack(centres), iter=20, minit="matrix")
    return np.asarray(group, dtype=np.int64)


def _ratio(ratios: Array) -> float:
    """Radius that holds `LEVEL` of the errors, in units of the scale.

    The quantile of what left-out shots missed, pooled with a Rayleigh distribution that stands for
    what is usual and counts as `USUAL_SHOTS`.
    """
    k = len(ratios) if len(ratios) > 1 else 0
    grid = (np.arange(100) + 0.5) / 100
    usual = USUAL * np.sqrt(np.log1p(-grid) / np.log1p(-LEVEL))
    values = np.concatenate([ratios[:k], usual])
    weights = np.concatenate([np.ones(k), np.full(100, USUAL_SHOTS / 100)])
    order = np.argsort(values)
    below = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(below, LEVEL)])


# ----------------------------------------------------------------------------------------- presence


def feature(support: Array) -> Array:
    """Log of the support, which is never quite 0."""
    feature: Array = np.log(support + 0.01)
    return feature


def logistic(x: Array) -> Array:
    """Turn log odds into probabilities."""
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def _platt(there: Array, gone: Array) -> tuple[float, float]:
    """Fit a logistic curve to supports with the part and without: slope >= 0 and intercept.

    References
    ----------
    Platt 1999: targets (n + 1) / (n + 2) and 1 / (m + 2) keep few images from certainty.
    scikit-learn's is in a private module, and its public classes calibrate a classifier, by folds
    that few images don't bear; its regression takes no targets between 0 and 1.
    """
    x = np.concatenate([there, gone])
    target = np.concatenate(
        [
            np.full(len(there), (len(there) + 1) / (len(there) + 2)),
            np.full(len(gone), 1 / (len(gone) + 2)),
        ]
    )
    design = np.stack([x - x.mean(), np.ones(len(x))], axis=1)
    beta = np.zeros(2)
    for _ in range(50):
        p = logistic(design @ beta)
        curvature = design.T @ (design * (p * (1 - p))[:, None]) + np.diag([1e-2, 1e-9])
        beta = beta + np.linalg.solve(
            curvature, design.T @ (target - p) - np.array([1e-2 * beta[0], 0.0])
        )
    slope = max(float(beta[0]), 0.0)
    return slope, float(beta[1]) - slope * float(x.mean())
