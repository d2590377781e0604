"""Directions along which one group of images falls in two, and other groups don't.

What images of all classes vary by (pose, light, clutter) is natural; what hides in one class alone
varies in that class. So:

1. Numbers are scaled so that within the *other* groups they vary by 1 in every direction
   (whitening). Where there are more numbers than a fifth of these images, principal axes of all
   images come first.
2. Of the group itself the directions that vary most are kept, by more than 1, and among them those
   that are least like a Gaussian and uncorrelated are looked for (independent components):
   something that some images have and others lack, whatever else they show, lies along one.
3. Along a direction two Gaussians are fitted, to be compared with one on other images
   (`gain`). The narrower tail is the smaller group's: direction and threshold tell which images
   are in it.

References
----------
Abid, Zhang, Bagaria and Zou, "Exploring patterns enriched in a dataset with contrastive principal
component analysis", Nature Communications 2018; here a ratio of variances, not a difference.
Independent components: Hyvarinen, "Fast and robust fixed-point algorithms for independent component
analysis", IEEE Transactions on Neural Networks 1999, eq. 20 with tanh, all components at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Groups", "contrast_axes", "fit_groups"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_AXES = 8  # at most: more things at once than hide in a class
_IMAGES_PER_AXIS = 15  # of the group
_IMAGES_PER_NUMBER = 5  # of all others, so that whitening doesn't fit their noise
_SHRINKAGE = 0.1  # of the others' covariance, towards independent numbers
_ITERATIONS = 500
_CONVERGED = 1e-8
_STARTS = (0.03, 0.1, 0.25, 0.5)  # shares of images in the upper group
_FLOOR = 0.01  # of all images' variance: of a group's, at least


class Groups(NamedTuple):
    """Two Gaussians along a direction, and one.

    Attributes
    ----------
    shares, centres, variances : (2,) float64
        Of the lower group and the upper one.
    centre, variance : float
        Of all images.
    """

    shares: Array
    centres: Array
    variances: Array
    centre: float
    variance: float

    def upper(self, values: Array) -> Flags:
        """Tell which values are in the upper group: likelier there, and above its threshold."""
        low, high = self._logs(values).T
        upper: Flags = (high > low) & (values > self.centres[0])
        return upper

    def gain(self, values: Array) -> Array:
        """Give by how much likelier each value is under two Gaussians than one, in nats."""
        low, high = self._logs(values).T
        one = _log_density(values, self.centre, self.variance)
        gain: Array = np.logaddexp(low, high) - one
        return gain

    def _logs(self, values: Array) -> Array:
        logs: Array = np.log(self.shares) + _log_density(
            values[:, None], self.centres, self.variances
        )
        return logs


def contrast_axes(own: Array, others: Array) -> tuple[Array, Array]:
    """Find directions in which a group's images differ among themselves as no others do.

    Parameters
    ----------
    own : (n, d) float
        Images of the group.
    others : (m, d) float
        Other images, each less the mean of its own group.

    Returns
    -------
    (d, q) float64
        Weights: ``(own - middle) @ weights`` has the variance 1 in each direction, and its longer
        tail above.
    (d,) float64
        The middle.
    """
    middle = own.mean(0)
    inside = own - middle
    unit = np.concatenate([inside, others]).std(0)
    unit = np.where(unit > 0, unit, 1.0)
    inside, outside = inside / unit, others / unit
    most = max(1, len(others) // _IMAGES_PER_NUMBER)
    first = np.eye(own.shape[1])
    if own.shape[1] > most:
        both = np.concatenate([inside, outside])
        first = np.linalg.svd(both, full_matrices=False)[2][:most].T
        inside, outside = inside @ first, outside @ first
    spread = outside.T @ outside / len(outside)
    # the floor is for numbers that don't vary at all in the others
    floor = np.trace(spread) / len(spread) or 1.0
    spread = (1 - _SHRINKAGE) * spread + _SHRINKAGE * floor * np.eye(len(spread))
    values, vectors = np.linalg.eigh(spread)
    whitening = vectors / np.sqrt(values)
    _, size, axes = np.linalg.svd(inside @ whitening, full_matrices=False)
    q = max(1, min(_AXES, len(own) // _IMAGES_PER_AXIS))
    q = int((size[:q] ** 2 > len(own)).sum())  # the others vary by 1
    weights = whitening @ axes[:q].T / (size[:q] / np.sqrt(len(own)))
    weights = weights @ _independent(inside @ weights)
    weights *= np.where(((inside @ weights) ** 3).sum(0) < 0, -1.0, 1.0)
    return (first @ weights) / unit[:, None], middle


def _independent(white: Array) -> Array:
    """Rotate uncorrelated numbers of variance 1 (n, q) to independent ones: (q, q)."""
    n, q = white.shape
    rotation = np.eye(q)
    for _ in range(_ITERATIONS):
        bent = np.tanh(white @ rotation.T)
        new = bent.T @ white / n - (1 - bent**2).mean(0)[:, None] * rotation
        left, _, right = np.linalg.svd(new)
        new = left @ right
        turned = np.abs(np.abs((new * rotation).sum(1)) - 1).max(initial=0.0)
        rotation = new
        if turned < _CONVERGED:
            break
    return rotation.T


def fit_groups(values: Array) -> Groups:
    """Fit two Gaussians to numbers (n,), by EM from several shares of the upper one."""
    centre, variance = float(values.mean()), float(values.var()) or 1e-12
    best: tuple[float, tuple[Array, Array, Array]] | None = None
    for share in _STARTS:
        upper = (values >= np.quantile(values, 1 - share)).astype(np.float64)
        before = -np.inf
        for _ in range(_ITERATIONS):
            parts = np.stack([1 - upper, upper])
            size = parts.sum(1) + 1e-9
            centres = parts @ values / size
            square = (parts * (values - centres[:, None]) ** 2).sum(1) / size
            found = (size / size.sum(), centres, np.maximum(square, _FLOOR * variance))
            low, high = Groups(*found, centre, variance)._logs(values).T
            total = np.logaddexp(low, high)
            upper = np.exp(high - total)
            likelihood = float(total.sum())
            if likelihood - before < _CONVERGED * len(values):
                break
            before = likelihood
        if best is None or likelihood > best[0]:
            best = (likelihood, found)
    assert best is not None
    return Groups(*best[1], centre, variance)


def _log_density(values: Array, centre: Array | float, variance: Array | float) -> Array:
    logs: Array = -0.5 * ((values - centre) ** 2 / variance + np.log(2 * np.pi * variance))
    return logs
