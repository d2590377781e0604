"""What moves all parts of an image together: a pose of a few numbers for every image.

Where guide ``u`` (a filter of the highest layers) is in image ``n`` is modelled as

    b[n, u] = mean_u + loading_u z_n + noise, z_n ~ N(0, I), noise ~ t_3(0, variance_u / w[n, u])

with the *pose* ``z_n`` of a few numbers, shared by all guides (a factor analysis with heavy-tailed
noise). An object's shift, size and mirroring and the turning of its head move many parts, in the
same way in every image; so the peaks of some hundred filters, many of them wrong, determine the
pose well, and the pose predicts where any part should be. The papers predict a part from its 15
best parents; that parents err together then goes unnoticed.

Pure functions over tensors in memory; lengths in px.

References
----------
Zhang et al., AAAI 2018, eq. 5, is what this replaces. Ghahramani and Hinton, "The EM algorithm for
mixtures of factor analyzers" (1996), and Lange, Little and Taylor, "Robust statistical modeling
using the t distribution" (JASA 1989) have the model. Departure: poses are point estimates, for
their posterior spread is small beside the errors that guides have in common.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "PoseModel",
    "displacements",
    "distinct_guides",
    "find_poses",
    "fit_poses",
    "outer_products",
    "principal_poses",
    "squared_length",
    "standing",
]

_FREEDOM = 3.0  # degrees of freedom of the noise
_SWEEPS = 4  # how often guides are weighted anew
_LEARNING_SWEEPS = 2  # the same within an iteration of learning
_TINY = 1e-9
_MOST_SCALE = 1.5  # of an object beside the usual one: a pose says no more reliably


class PoseModel(NamedTuple):
    """How guides move with the pose.

    Attributes
    ----------
    mean : (U, 2)
        Place at pose 0, px.
    loading : (U, 2, q)
        px for each unit of the pose.
    variance : (U,)
        Of the noise along one axis, px^2.
    """

    mean: Tensor
    loading: Tensor
    variance: Tensor

    def places(self, poses: Tensor) -> Tensor:
        """Where the guides are at some poses (n, q): ``(n, U, 2)`` px."""
        return self.mean + displacements(self.loading, poses)

    def of(self, guides: Tensor) -> PoseModel:
        """Keep some guides."""
        return PoseModel(*(values[guides] for values in self))

    def explained(self) -> Tensor:
        """Share of each guide's movement that the pose explains, ``(U,)``."""
        moved = self.loading.square().sum((1, 2)) / 2
        return moved / (moved + self.variance)


def displacements(loading: Tensor, poses: Tensor) -> Tensor:
    """How far parts have moved at some poses.

    Parameters
    ----------
    loading : (..., 2, q)
        px.
    poses : (n, q)

    Returns
    -------
    (n, ..., 2)
        px.
    """
    flat = loading.reshape(-1, loading.shape[-1])
    return (poses @ flat.T).reshape(len(poses), *loading.shape[:-1])


def squared_length(vectors: Tensor) -> Tensor:
    """Squared lengths of vectors (..., 2); several times as fast as torch's sum of two numbers."""
    x, y = vectors.unbind(-1)
    return x.square().add_(y.square())


def _trust(model: PoseModel, positions: Tensor, weights: Tensor, places: Tensor) -> Tensor:
    """Weights times how well guides fit, ``(n, U)``: the E step of the t distribution."""
    away = squared_length(positions - places)
    return weights * (_FREEDOM + 2) / (_FREEDOM + weights * away / model.variance)


def outer_products(loading: Tensor) -> Tensor:
    """Products of loadings (U, 2, q) with themselves, over x and y: ``(U, q q)``."""
    x, y = loading.unbind(1)
    return (x[:, :, None] * x[:, None] + y[:, :, None] * y[:, None]).flatten(1)


def standing(model: PoseModel, poses: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Say in which pieces of their images objects of some poses would stand as at pose 0.

    Parameters
    ----------
    model : PoseModel
    poses : (n, q)
    image_size : (int, int)
        H, W px.

    Returns
    -------
    (n, 4)
        x0, y0, x1, y1 px: the image's frame, moved and scaled by as much as the middle of the
        guides and their spread about it. Exact guides count more.
    """
    weight = (1 / model.variance / (1 / model.variance).sum())[:, None]
    places = model.places(poses)
    usual, middle = (weight * model.mean).sum(0), (weight * places).sum(1)
    spread = (weight * (places - middle[:, None]).square()).sum((1, 2))
    scale = (spread / (weight * (model.mean - usual).square()).sum().clamp(min=_TINY)).sqrt()
    scale = scale.clamp(1 / _MOST_SCALE, _MOST_SCALE)[:, None]
    corner = middle - scale * usual
    return torch.cat([corner, corner + scale * scale.new_tensor(image_size[::-1])], 1)


def find_poses(
    model: PoseModel,
    positions: Tensor,
    weights: Tensor,
    near: Tensor,
    sweeps: int = _SWEEPS,
    outer: Tensor | None = None,
) -> Tensor:
    """Find the poses of images in which the guides were seen.

    Parameters
    ----------
    model : PoseModel
    positions : (n, U, 2)
        Where each guide was seen, px.
    weights : (n, U)
        How surely, >= 0, about 1 on average.
    near : (n, U, 2)
        Where the guides are believed to be at first, px: guides that are far from there are
        distrusted, until a pose is found that fits them.
    sweeps : int
        How often guides are weighted anew.
    outer : (U, q q), optional
        The loadings' `outer_products`, if they are at hand: for one image they are most of the
        work.

    Returns
    -------
    (n, q)
    """
    q = model.loading.shape[2]
    outer = outer_products(model.loading) if outer is None else outer
    eye = torch.eye(q, dtype=torch.float64, device=outer.device)
    moved = positions - model.mean
    poses = positions.new_zeros((len(positions), q))
    for sweep in range(sweeps):
        precise = _trust(model, positions, weights, model.places(poses) if sweep else near)
        precise = precise / model.variance
        precision = (precise @ outer).reshape(-1, q, q).double() + eye
        pull = (precise[..., None] * moved).flatten(1) @ model.loading.flatten(0, 1)
        poses = torch.linalg.solve(precision, pull.double()[..., None])[..., 0].to(moved.dtype)
    return poses


def fit_poses(
    positions: Tensor, weights: Tensor, poses: Tensor, *, n_iter: int, floor: float
) -> PoseModel:
    """Learn how guides move with the pose.

    Parameters
    ----------
    positions : (n, U, 2)
        px.
    weights : (n, U)
        >= 0, about 1 on average.
    poses : (n, q)
        Where to begin.
    n_iter : int
        At least 1.
    floor : float
        Least variance of the noise, px^2.

    Returns
    -------
    PoseModel
        Whose poses of these images are about centred, uncorrelated and of unit variance.
    """
    trust = weights
    for i in range(n_iter):
        poses = _whitened(poses)
        model = _regress(positions, weights, trust, poses, floor)
        if i < n_iter - 1:
            poses = find_poses(model, positions, weights, model.places(poses), _LEARNING_SWEEPS)
            trust = _trust(model, positions, weights, model.places(poses))
    return model


def _whitened(poses: Tensor) -> Tensor:
    """Centre poses and turn them so that they are uncorrelated and of unit variance."""
    centred = poses.double() - poses.double().mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(poses))
    used = values > 1e-9 * values[-1].clamp(min=_TINY)
    scale = torch.where(used, values.clamp(min=_TINY).rsqrt(), 0.0)
    whitened: Tensor = centred @ vectors * scale
    return whitened.to(poses.dtype)


def _regress(
    positions: Tensor, weights: Tensor, trust: Tensor, poses: Tensor, floor: float
) -> PoseModel:
    """Regress every guide's place on the poses: the M step."""
    n, u, _ = positions.shape
    design = torch.cat([poses.new_ones(n, 1), poses], 1)
    p = design.shape[1]
    middle = (trust[..., None] * positions).sum(0) / trust.sum(0).clamp(min=_TINY)[:, None]
    outer = (design[:, :, None] * design[:, None]).flatten(1)
    gram = (trust.T @ outer).reshape(u, p, p).double()
    # as if one image more had shown the guide stand still: guides that fire rarely don't overfit
    prior = torch.ones(p, dtype=torch.float64, device=gram.device)
    prior[0] = 1e-3
    moved = positions - middle
    right = torch.stack([(trust * moved[..., i]).T @ design for i in (0, 1)], -1).double()
    solution = torch.linalg.solve(gram + prior.diag(), right).to(positions.dtype)  # (U, p, 2)
    loading = solution[:, 1:].transpose(1, 2).contiguous()
    model = PoseModel(middle + solution[:, 0], loading, middle[:, 0])
    away = squared_length(positions - model.places(poses))
    variance = (trust * away).sum(0) / (2 * weights.sum(0)).clamp(min=_TINY)
    return model._replace(variance=variance.clamp(min=floor))


def principal_poses(positions: Tensor, weights: Tensor, most: int, seed: int) -> Tensor:
    """Guess poses: the principal components of the guides' places that are no chance.

    A component counts if it explains more than the first one does after every guide's places were
    exchanged among the images (parallel analysis: Horn, Psychometrika 1965). So a world of few
    filters gets no component for a single filter's noise.

    Parameters
    ----------
    positions : (n, U, 2)
        px.
    weights : (n, U)
    most : int
        Components, at most.
    seed : int

    Returns
    -------
    (n, q)
        1 <= q <= `most`.
    """
    draws = torch.Generator().manual_seed(seed)
    drawn = torch.rand(weights.shape, generator=draws, dtype=torch.float32)
    order = drawn.argsort(0).to(weights.device)
    values, vectors = _components(positions, weights)
    chance, _ = _components(
        positions.gather(0, order[..., None].expand_as(positions)), weights.gather(0, order)
    )
    q = max(1, min(most, int((values > chance[0]).sum())))
    return vectors[:, :q].to(positions.dtype)


def distinct_guides(model: PoseModel, poses: Tensor, most: int, apart: float) -> Tensor:
    """Choose guides that the pose explains well, no three of which move alike.

    In the order of how well they are explained, each one is taken unless it is too close to two
    that were taken before: otherwise the object's most rigid part, a head, would be all there is.
    Two, so that a filter, which is not held against itself, has the other.

    Parameters
    ----------
    model : PoseModel
    poses : (n, q)
        Of some images.
    most : int
        Guides, at most.
    apart : float
        Least distance of two guides, root mean square over the images, px.

    Returns
    -------
    (A,) int64
        The best explained first; at least one.
    """
    order = model.explained().argsort(descending=True, stable=True)
    places = model.of(order).places(poses).transpose(0, 1).flatten(1)
    close = (torch.cdist(places, places) < apart * len(poses) ** 0.5).cpu()
    alike = torch.zeros(len(order), dtype=torch.int64)
    taken: list[int] = []
    for i in range(len(order)):
        if len(taken) < most and alike[i] < 2:
            taken.append(i)
            alike += close[i]
    return order[torch.tensor(taken)]


def _components(positions: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Principal components of weighted places over images: values (n,) descending, vectors."""
    total = weights.sum(0).clamp(min=_TINY)
    middle = (weights[..., None] * positions).sum(0) / total[:, None]
    moved = (weights[..., None] * (positions - middle)).flatten(1).double()
    values, vectors = torch.linalg.eigh(moved @ moved.T)
    return values.flip(0), vectors.flip(1)
