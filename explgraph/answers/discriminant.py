"""A linear classifier from features whose classes and whose cue go together, as if they didn't.

1. Features are modelled as a class's mean, plus an effect of the cue being present, plus noise that
   is the same for all: ``x = mean[class] + present * effect + noise``, fitted by least squares.
   Every image says something of every term, so that the few in which class and cue disagree have
   only to tell the two apart; weights that make the two independent (`DFR`, below) leave the whole
   fit to those few.
2. *Discriminant*: the best linear classifier of such features if the cue were as frequent in all
   classes: what the cue does counts as noise.
3. *Projection*: a classifier that exists, made blind along the effect: no shift of the features by
   what the cue does moves a score.

All functions are pure and work on float64 arrays.

References
----------
Fisher's linear discriminant with a covariate. The covariance is shrunk as by Ledoit and Wolf, "A
well-conditioned estimator for large-dimensional covariance matrices", JMVA 2004. The projection is
LEACE (Belrose et al., NeurIPS 2023, theorem 4.3) of one binary concept; departure: means and
covariance are those within classes, for over all images the cue's direction would hold what tells
the class, since both go together. DFR, compared with in the documentation: Kirichenko et al., ICLR
2023.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Effects", "Linear", "discriminant", "fit_effects", "projection", "shrunk_covariance"]

Array = NDArray[np.float64]


class Linear(NamedTuple):
    """A linear classifier: ``features @ weight.T + bias``.

    Attributes
    ----------
    weight : (K, D)
    bias : (K,)
    """

    weight: Array
    bias: Array

    def __call__(self, features: Array) -> Array:
        """Give scores (N, K) of features (N, D)."""
        scores: Array = features @ self.weight.T + self.bias
        return scores


class Effects(NamedTuple):
    """What class and cue do to features.

    Attributes
    ----------
    centre, scale : (D,)
        Features' mean and spread; what follows is in these units.
    means : (K, D)
        Of the classes, all at the same share of the cue.
    effect : (D,)
        Of the cue's presence.
    covariance : (D, D)
        Within classes, with the cue and without, shrunk.
    shares : (K,)
        Of images in each class.
    present : float
        Share of images that show the cue.
    """

    centre: Array
    scale: Array
    means: Array
    effect: Array
    covariance: Array
    shares: Array
    present: float


def fit_effects(
    features: Array, classes: NDArray[np.int64], present: NDArray[np.bool_], k: int
) -> Effects:
    """Fit what K classes and a cue do to features.

    Parameters
    ----------
    features : (N, D) float
    classes : (N,) int
        0 to K - 1; each must be there.
    present : (N,) bool
        Must not follow from the class.
    k : int
        Number of classes.
    """
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)  # a feature that never varies tells nothing
    standard = (features - centre) / scale
    share = float(present.mean())
    terms = np.column_stack([np.eye(k)[classes], present - share])
    coefficients = np.linalg.lstsq(terms, standard, rcond=None)[0]
    noise = standard - terms @ coefficients
    return Effects(
        centre,
        scale,
        coefficients[:k],
        coefficients[k],
        shrunk_covariance(noise),
        np.bincount(classes, minlength=k) / len(classes),
        share,
    )


def shrunk_covariance(noise: Array) -> Array:
    """Estimate the covariance (D, D) of centred rows (N, D), drawn towards a multiple of identity.

    So it can be inverted, whatever N is. Ledoit and Wolf 2004, lemma 3.2 to 3.4.
    """
    n, d = noise.shape
    plain = noise.T @ noise / n
    size = np.trace(plain) / d
    apart = np.square(plain - size * np.eye(d)).sum()
    error = (np.square(np.square(noise).sum(axis=1)).sum() / n - np.square(plain).sum()) / n
    much = min(error, apart) / apart if apart > 0 else 0.0
    shrunk: Array = (1 - much) * plain + much * size * np.eye(d)
    return shrunk


def discriminant(effects: Effects) -> Linear:
    """Give classes' log probabilities if the cue were independent, up to what all have alike."""
    spread = effects.present * (1 - effects.present)
    noise = effects.covariance + spread * np.outer(effects.effect, effects.effect)
    rows = np.linalg.lstsq(noise, effects.means.T, rcond=None)[0].T
    bias = np.log(effects.shares) - 0.5 * np.einsum("kd,kd->k", rows, effects.means)
    weight = rows / effects.scale
    return Linear(weight, bias - weight @ effects.centre)


def projection(effects: Effects, plain: Linear) -> Linear:
    """Make a classifier blind to the cue's effect; at the features' mean it scores as before."""
    reads = np.linalg.lstsq(effects.covariance, effects.effect, rcond=None)[0]
    size = reads @ effects.effect
    if not size > 0:  # the cue does nothing to the features
        return plain
    moved = plain.weight @ (effects.scale * effects.effect)  # (K,), by the cue
    reads = reads / size / effects.scale
    return Linear(
        plain.weight - np.outer(moved, reads), plain.bias + moved * (reads @ effects.centre)
    )
