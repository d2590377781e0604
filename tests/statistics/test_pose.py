"""Poses against loops over the formulas in float64, and against planted poses."""

import math
import operator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from posed import poses_by_loops, tensor

from explgraph.statistics.pose import (
    PoseModel,
    displacements,
    distinct_guides,
    find_poses,
    fit_poses,
    outer_products,
    principal_poses,
    squared_length,
)

FLOOR = 0.5  # px^2


pytestmark = pytest.mark.usefixtures("one_thread")


def a_model(rng, u=30, q=3, spread=15.0, variance=1.0):
    """Guides in a picture of 200 px, which each unit of the pose moves by about `spread`."""
    return PoseModel(
        tensor(rng.uniform(40, 160, (u, 2))),
        tensor(spread * rng.standard_normal((u, 2, q))),
        torch.full((u,), float(variance)),
    )


def a_world(seed, n=60, u=30, q=3, noise=1.0, spread=15.0):
    """A model, poses (n, q), and where guides are then seen (n, U, 2); `noise` may be (U,)."""
    rng = np.random.default_rng(seed)
    model = a_model(rng, u, q, spread)
    poses = rng.standard_normal((n, q))
    errors = rng.standard_normal((n, u, 2)) * np.broadcast_to(noise, (u,))[:, None]
    return model, poses, tensor(places_by_loops(model, poses) + errors)


def places_by_loops(model, poses):
    """Where the guides are, one number at a time."""
    mean, loading = (t.double().tolist() for t in model[:2])
    return np.array(
        [
            [
                [mean[u][a] + sum(map(operator.mul, loading[u][a], row)) for a in (0, 1)]
                for u in range(len(mean))
            ]
            for row in np.asarray(poses, float).tolist()
        ]
    ).reshape(len(poses), len(mean), 2)  # fmt: skip


def least_squares(model, positions):
    """Poses that put all guides nearest to where they were seen."""
    n = len(positions)
    moved = (positions - model.mean).double().reshape(n, -1).numpy()
    return np.linalg.lstsq(model.loading.double().flatten(0, 1).numpy(), moved.T, rcond=None)[0].T


def ones(positions):
    return torch.ones(positions.shape[:2])


def still(model, positions):
    """Where guides are believed to be of whose pose nothing is known."""
    return model.mean.expand_as(positions)


def rms(a):
    return float(np.sqrt(np.square(np.asarray(a, float)).mean()))


# ---------------------------------------------------------------------------------- where parts are


@given(
    n=st.integers(0, 4), u=st.integers(0, 4), q=st.integers(1, 4), seed=st.integers(0, 2**32 - 1)
)
@settings(max_examples=40, deadline=None)
def test_places_are_the_formula(n, u, q, seed):
    rng = np.random.default_rng(seed)
    model, poses = a_model(rng, u, q), rng.standard_normal((n, q))
    places = places_by_loops(model, poses)
    assert_allclose(model.places(tensor(poses)), places, rtol=1e-5, atol=1e-3)
    moved = displacements(model.loading, tensor(poses))
    assert moved.shape == (n, u, 2)
    assert_allclose(moved, places - model.mean.numpy(), rtol=1e-4, atol=1e-3)


def test_displacements_keep_the_shape_of_the_parts():
    rng = np.random.default_rng(0)
    loading, poses = tensor(rng.standard_normal((5, 4, 2, 3))), tensor(rng.standard_normal((6, 3)))
    moved = displacements(loading, poses)
    assert moved.shape == (6, 5, 4, 2)
    for i, c, k, a in np.ndindex(6, 5, 4, 2):
        by_hand = sum(float(loading[c, k, a, j]) * float(poses[i, j]) for j in range(3))
        assert float(moved[i, c, k, a]) == pytest.approx(by_hand, abs=1e-5)


def test_a_hand_computed_model():
    model = PoseModel(
        torch.tensor([[10.0, 20.0], [50.0, 60.0]]),
        torch.tensor([[[3.0], [4.0]], [[0.0], [0.0]]]),
        torch.tensor([12.5, 7.0]),
    )
    assert model.places(torch.tensor([[2.0], [-1.0]])).tolist() == [
        [[16, 28], [50, 60]],
        [[7, 16], [50, 60]],
    ]
    assert_allclose(model.explained(), [0.5, 0])  # variance of a pose (9 + 16) / 2 along an axis
    few = model.of(torch.tensor([1]))
    assert few.mean.tolist() == [[50, 60]]
    assert few.variance.tolist() == [7]
    assert few.loading.shape == (1, 2, 1)


# ------------------------------------------------------------------------------------ finding poses


@given(
    n=st.integers(1, 4),
    u=st.integers(1, 6),
    q=st.integers(1, 3),
    sweeps=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_find_poses_is_the_formula(n, u, q, sweeps, seed):
    rng = np.random.default_rng(seed)
    model, _, positions = a_world([seed, 1], n, u, q, noise=20.0)
    model = model._replace(variance=tensor(rng.uniform(5, 400, u)))
    weights = tensor(rng.gamma(1.0, 1.0, (n, u)) * (rng.random((n, u)) < 0.8))
    near = positions + tensor(10 * rng.standard_normal(positions.shape))
    found = find_poses(model, positions, weights, near, sweeps)
    truth = poses_by_loops(model, positions, weights, near, sweeps)
    assert_allclose(found, truth, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_exact_observations_give_the_planted_poses(seed):
    model, poses, positions = a_world(seed, noise=0)
    model = model._replace(variance=torch.full((30,), 0.01))  # the prior hardly counts
    found = find_poses(model, positions, ones(positions), still(model, positions))
    assert_allclose(found, poses, atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_grossly_wrong_guides_do_no_harm_as_they_do_to_least_squares(seed):
    model, poses, positions = a_world(seed, n=100)
    rng = np.random.default_rng([seed, 9])
    wrong = tensor(rng.random((100, 30, 1)) < 1 / 3).bool()
    anywhere = tensor(rng.uniform(0, 200, positions.shape))
    misled = torch.where(wrong, anywhere, positions)
    clean = find_poses(model, positions, ones(positions), still(model, positions))
    # from far away it takes a few sweeps; reading looks at the guides several times
    found = find_poses(model, misled, ones(misled), still(model, misled), sweeps=8)
    off, off_clean = (np.linalg.norm(z.numpy() - poses, axis=1) for z in (found, clean))
    assert rms(off_clean) < 0.03
    assert np.median(off) < 1.5 * np.median(off_clean)  # 1.2 if the wrong ones were left out
    assert rms(off) < 0.06
    assert rms(np.linalg.norm(least_squares(model, misled) - poses, axis=1)) > 10 * rms(off)


def test_silent_guides_do_not_count():
    model, _, positions = a_world(1)
    weights = ones(positions)
    weights[:, ::3] = 0
    heard = torch.arange(30) % 3 != 0
    found = find_poses(model, positions, weights, still(model, positions))
    nonsense = torch.where(heard[:, None], positions, -1e4)
    assert_array_equal(find_poses(model, nonsense, weights, still(model, positions)), found)
    alone = find_poses(
        model.of(heard), positions[:, heard], weights[:, heard], still(model, positions)[:, heard]
    )
    assert_allclose(alone, found, atol=1e-5)


def test_without_any_guide_the_pose_is_the_usual_one():
    model, _, positions = a_world(2)
    weights = ones(positions)
    weights[4] = 0
    found = find_poses(model, positions, weights, still(model, positions))
    assert (found[4] == 0).all()
    assert (found[[3, 5]].abs().amax(1) > 0.1).all()


def test_images_do_not_know_of_each_other():
    model, _, positions = a_world(3)
    weights = torch.rand(positions.shape[:2], generator=torch.Generator().manual_seed(0))
    together = find_poses(model, positions, weights, still(model, positions))
    for i in (0, 17, 59):
        here = slice(i, i + 1)
        alone = find_poses(model, positions[here], weights[here], still(model, positions)[here])
        assert_allclose(alone[0], together[i], rtol=1e-5, atol=1e-5)


def test_weak_evidence_is_pulled_to_the_usual_pose():
    """With Gaussian noise, one guide's: precision of the evidence over that plus the prior's."""
    model = PoseModel(torch.zeros(1, 2), torch.tensor([[[2.0], [0.0]]]), torch.tensor([4.0]))
    positions = torch.tensor([[[1.0, 0.0]]])
    # seen where it is believed to be, its trust is 5/3: (5/3 2 1 / 4) / (5/3 4 / 4 + 1)
    found = find_poses(model, positions, ones(positions), positions, sweeps=1)
    assert float(found) == pytest.approx((5 / 6) / (8 / 3))


def test_what_is_believed_at_first_decides_between_two_stories():
    """Half of the guides tell of one pose, half of another: the start picks its own."""
    rng = np.random.default_rng(5)
    model = a_model(rng, u=20, q=1)
    one, other = torch.tensor([[2.0]]), torch.tensor([[-2.0]])
    positions = torch.where(
        (torch.arange(20) % 2 == 0)[:, None], model.places(one), model.places(other)
    )
    for true in (one, other):
        found = find_poses(model, positions, ones(positions), model.places(true))
        assert float(found) == pytest.approx(float(true), abs=0.2)


# ----------------------------------------------------------------------------------------- learning


def learn(positions, weights=None, most=8, n_iter=15, poses=None):
    weights = ones(positions) if weights is None else weights
    if poses is None:
        poses = principal_poses(positions, weights, most, 0)
    return fit_poses(positions, weights, poses, n_iter=n_iter, floor=FLOOR)


def poses_in(model, positions, weights=None):
    """Poses of the images that were learnt from."""
    weights = ones(positions) if weights is None else weights
    return find_poses(model, positions, weights, still(model, positions))


@pytest.mark.parametrize(("seed", "q"), [(0, 1), (1, 2), (2, 4)])
def test_learning_finds_where_the_guides_were(seed, q):
    """Poses may be turned; the places that they stand for are the planted ones."""
    truth, poses, positions = a_world(seed, n=200, u=40, q=q)
    model = learn(positions)
    assert model.loading.shape == (40, 2, q)
    found = poses_in(model, positions)
    assert rms(model.places(found) - truth.places(tensor(poses))) < 0.4
    # nothing of the planted subspace is missing
    basis = np.linalg.qr(model.loading.double().flatten(0, 1).numpy())[0]
    planted = np.linalg.qr(truth.loading.double().flatten(0, 1).numpy())[0]
    assert np.linalg.svd(basis.T @ planted)[1].min() > 0.999
    # other images
    new_poses = np.random.default_rng([seed, 1]).standard_normal((50, q))
    new = truth.places(tensor(new_poses))
    assert rms(model.places(poses_in(model, new)) - new) < 0.4


def test_poses_are_about_whitened():
    _, _, positions = a_world(0, n=300)
    found = poses_in(learn(positions), positions).double().numpy()
    assert_allclose(found.mean(0), 0, atol=0.05)
    assert_allclose(np.cov(found.T, bias=True), np.eye(3), atol=0.05)


def test_wrong_guides_do_not_spoil_what_is_learnt():
    truth, poses, positions = a_world(4, n=200, u=40)
    rng = np.random.default_rng(4)
    wrong = tensor(rng.random((200, 40, 1)) < 0.2).bool()
    misled = torch.where(wrong, tensor(rng.uniform(0, 200, positions.shape)), positions)
    model = learn(misled)
    places = truth.places(tensor(poses))
    assert rms(model.places(poses_in(model, misled)) - places) < 1
    # principal components alone are spoilt by them
    once = learn(misled, n_iter=1, poses=poses_of_components(misled, 3))
    assert rms(once.places(poses_of_components(misled, 3)) - places) > 2


def poses_of_components(positions, q):
    """Whitened principal components, by numpy."""
    flat = positions.double().flatten(1).numpy()
    u = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[0]
    return tensor(u[:, :q] * np.sqrt(len(flat)))


def test_each_guides_noise_is_told():
    """Gaussian noise of 1 and 6 px: as a t distribution's, it has the spread of the best fit."""
    noise = np.where(np.arange(60) % 3 == 0, 6.0, 1.0)
    _, _, positions = a_world(5, n=300, u=60, noise=noise)
    model = learn(positions)
    variance = model.variance.numpy()
    as_t = spread_as_t(np.random.default_rng(0).standard_normal((100_000, 2)))
    assert 0.5 < as_t < 1
    assert_allclose(variance, as_t * noise**2, rtol=0.3)
    assert np.median(variance[noise == 6]) / 36 == pytest.approx(as_t, rel=0.06)
    assert np.median(variance[noise == 1]) == pytest.approx(as_t, rel=0.12)
    explained = model.explained()
    assert explained[noise == 1].mean() > explained[noise == 6].mean()
    assert ((explained > 0) & (explained < 1)).all()


def spread_as_t(draws):
    """Variance of the t distribution, of 3 degrees of freedom in 2-D, that fits draws best."""
    square, variance = (draws**2).sum(1), 1.0
    for _ in range(100):
        variance = (5 / (3 + square / variance) * square).mean() / 2
    return variance


def test_planted_t_noise_has_its_variance():
    rng = np.random.default_rng(6)
    truth = a_model(rng, u=40)
    poses = rng.standard_normal((400, 3))
    # 2-D t: a Gaussian whose variance is shared by both axes
    chi = rng.chisquare(3, (400, 40, 1)) / 3
    errors = 3 * rng.standard_normal((400, 40, 2)) / np.sqrt(chi)
    model = learn(truth.places(tensor(poses)) + tensor(errors))
    assert np.median(model.variance) == pytest.approx(9, rel=0.1)
    assert_allclose(model.variance, 9, rtol=0.4)


def test_half_the_weight_is_twice_the_variance():
    """A guide of weight w in an image has noise of variance / w there."""
    rng = np.random.default_rng(7)
    truth = a_model(rng, u=40, q=2)
    poses = rng.standard_normal((400, 2))
    weights = np.where(rng.random((400, 40)) < 0.5, 0.5, 1.5)
    errors = rng.standard_normal((400, 40, 2)) * 3 / np.sqrt(weights)[..., None]
    model = learn(truth.places(tensor(poses)) + tensor(errors), tensor(weights))
    # the median over guides: of all images alike, a Gaussian of variance 9 for weight 1
    as_t = spread_as_t(rng.standard_normal((100_000, 2)))
    assert np.median(model.variance) == pytest.approx(9 * as_t, rel=0.1)


def test_variance_has_a_floor():
    _, _, positions = a_world(8, noise=0)
    model = learn(positions)
    assert_allclose(model.variance, FLOOR)


def test_rare_guides_are_held_still():
    """As if one image more had shown the guide stand still: one sighting moves it half as far."""
    n = 50
    poses = poses_of_components(torch.randn(n, 5, 2, generator=torch.Generator().manual_seed(0)), 1)
    truth = torch.tensor([10.0, -20.0])
    positions = 100 + poses[:, :1, None] * truth
    rare = int(poses[:, 0].abs().argmax())
    positions = positions.expand(n, 3, 2).clone()
    weights = torch.ones(n, 3)
    weights[:, 1] = 0.0
    weights[:, 2] = 0.0
    weights[rare, 1] = 1.0
    weights[[rare, (rare + 1) % n], 2] = 1.0
    model = fit_poses(positions, weights, poses, n_iter=1, floor=FLOOR)
    sign = torch.sign((model.loading[0, :, 0] * truth).sum())
    assert_allclose(sign * model.loading[0, :, 0], truth * n / (n + 1), rtol=1e-3)
    # one image says nothing of movement, two say little
    assert_allclose(model.loading[1, :, 0], 0, atol=0.05)
    z = poses[[rare, (rare + 1) % n], 0].double()
    about = (z - z.mean()).square().sum()
    shrunk = truth * float(about / (about + 1))
    assert_allclose(sign * model.loading[2, :, 0], shrunk, rtol=0.02)


def test_guides_that_never_fire_say_nothing():
    _, _, positions = a_world(9)
    weights = ones(positions)
    weights[:, 7] = 0
    model = learn(positions, weights)
    assert all(values.isfinite().all() for values in model)
    assert (model.loading[7] == 0).all()
    assert float(model.explained()[7]) == 0
    others = torch.arange(30) != 7
    without = learn(positions[:, others], weights[:, others])
    places = model.of(others).places(poses_in(model, positions, weights))
    alone = without.places(poses_in(without, positions[:, others]))
    assert_allclose(places, alone, atol=0.2)


def test_one_step_is_weighted_least_squares():
    """The M step against numpy, guide by guide, the prior as one more row of data."""
    rng = np.random.default_rng(10)
    n, u, q = 40, 5, 2
    raw = rng.standard_normal((n, q))
    values, vectors = np.linalg.eigh(np.cov(raw.T, bias=True))
    poses = (raw - raw.mean(0)) @ vectors / np.sqrt(values)
    positions, weights = rng.uniform(0, 100, (n, u, 2)), rng.gamma(1.0, 1.0, (n, u))
    model = fit_poses(tensor(positions), tensor(weights), tensor(raw), n_iter=1, floor=0.0)
    design = np.c_[np.ones(n), poses]
    for j in range(u):
        root = np.sqrt(weights[:, j, None])
        middle = (weights[:, j, None] * positions[:, j]).sum(0) / weights[:, j].sum()
        rows = np.r_[root * design, np.diag(np.sqrt([1e-3, *[1] * q]))]
        targets = np.r_[root * (positions[:, j] - middle), np.zeros((1 + q, 2))]
        solution = np.linalg.lstsq(rows, targets, rcond=None)[0]
        there = middle + design @ solution
        # the poses are known up to signs of axes; what is predicted is not
        found = model.mean[j].numpy() + poses @ align(
            model.loading[j].double().numpy(), solution[1:]
        )
        assert_allclose(found, there, rtol=1e-3, atol=0.02)
        away = weights[:, j] * ((positions[:, j] - there) ** 2).sum(1)
        assert float(model.variance[j]) == pytest.approx(
            away.sum() / 2 / weights[:, j].sum(), rel=1e-3
        )


def align(loading, like):
    """Turn the axes of a loading (2, q) as those of another, ``(q, 2)``."""
    signs = np.sign((loading * like.T).sum(0))
    return (loading * signs).T


# ----------------------------------------------------------------------------- principal components


@pytest.mark.parametrize("q", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_as_many_components_as_were_planted(q, seed):
    _, _, positions = a_world(seed, n=150, u=60, q=q, noise=4.0)
    found = principal_poses(positions, ones(positions), 8, seed)
    assert found.shape == (150, q)


@pytest.mark.parametrize("most", [1, 2, 4])
def test_never_more_components_than_allowed(most):
    _, _, positions = a_world(0, n=100, u=60, q=6)
    assert principal_poses(positions, ones(positions), most, 0).shape == (100, most)


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_the_one_component_that_there_must_be(seed):
    rng = np.random.default_rng(seed)
    positions = tensor(rng.normal(100, 10, (100, 40, 2)))
    weights = tensor(rng.gamma(2.0, 0.5, (100, 40)))
    assert principal_poses(positions, weights, 8, seed).shape == (100, 1)


def test_a_single_guides_noise_is_no_component():
    """One guide moves wildly: it would be the first component, and says nothing of the others."""
    rng = np.random.default_rng(0)
    positions = rng.normal(100, 1, (100, 30, 2))
    positions[:, 4] += rng.normal(0, 60, (100, 2))
    found = principal_poses(tensor(positions), torch.ones(100, 30), 8, 0)
    assert found.shape[1] == 1


def test_components_are_those_of_numpy():
    _, poses, positions = a_world(3, n=80, u=50, q=2, noise=0.1)
    found = principal_poses(positions, ones(positions), 8, 0).double().numpy()
    true = poses_of_components(positions, 2).double().numpy() / np.sqrt(80)
    assert_allclose(np.abs(found.T @ true), np.eye(2), atol=1e-4)
    assert_allclose(found.T @ found, np.eye(2), atol=1e-5)
    # of images, not of guides: the planted poses lie in their span
    centred = poses - poses.mean(0)
    assert rms(centred - found @ (found.T @ centred)) < 0.02


def test_silent_guides_are_no_component():
    _, _, positions = a_world(4, n=100, u=40, q=1)
    weights = ones(positions)
    weights[:, 30:] = 0
    wild = positions.clone()
    wild[:, 30:] = 1e4 * torch.rand(100, 1, 1, generator=torch.Generator().manual_seed(0))
    found = principal_poses(wild, weights, 8, 0)
    plain = principal_poses(positions, weights, 8, 0)
    assert found.shape == (100, 1)
    assert abs(float(found[:, 0] @ plain[:, 0])) == pytest.approx(1, abs=1e-3)


def test_the_seed_decides():
    _, _, positions = a_world(5)
    one, again = (principal_poses(positions, ones(positions), 8, 3) for _ in range(2))
    assert_array_equal(one, again)


# --------------------------------------------------------------------------------------- edge cases


@pytest.mark.parametrize(
    "case", ["one image", "two images", "all silent", "no movement", "one guide", "few images"]
)
def test_degenerate_inputs_stay_finite(case):
    n = {"one image": 1, "two images": 2, "few images": 5}.get(case, 40)
    _, _, positions = a_world(11, n=n, u=1 if case == "one guide" else 12)
    weights = ones(positions)
    if case == "all silent":
        weights = torch.zeros_like(weights)
    if case == "no movement":
        positions = positions[:1].expand_as(positions).contiguous()
    poses = principal_poses(positions, weights, 8, 0)
    assert 1 <= poses.shape[1] <= min(8, n)
    assert poses.isfinite().all()
    model = fit_poses(positions, weights, poses, n_iter=5, floor=FLOOR)
    assert all(values.isfinite().all() for values in model)
    assert (model.variance >= FLOOR).all()
    assert model.explained().isfinite().all()
    found = find_poses(model, positions, weights, still(model, positions))
    assert found.isfinite().all()
    assert found.shape == poses.shape
    if case in ("one image", "all silent", "no movement"):
        assert_allclose(model.explained(), 0, atol=1e-6)
        assert_allclose(found, 0, atol=1e-4)
    if case in ("one image", "no movement"):
        assert_allclose(model.mean, positions[0], atol=1e-3)


# --------------------------------------------------------------------------------- distinct guides


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("most", [3, 100])
def test_distinct_guides_are_taken_best_first(seed, most):
    """Against the rule in loops over pairs and images."""
    rng = np.random.default_rng(seed)
    model = PoseModel(
        tensor(rng.uniform(0, 60, (20, 2))),
        tensor(5 * rng.standard_normal((20, 2, 2))),
        tensor(rng.uniform(1, 90, 20)),
    )
    poses = tensor(rng.standard_normal((15, 2)))
    places = model.places(poses).double().numpy()
    taken = []
    for u in np.argsort(-model.explained().numpy(), kind="stable"):
        off = [math.sqrt(((places[:, u] - places[:, v]) ** 2).sum(-1).mean()) for v in taken]
        if len(taken) < most and sum(d < 20 for d in off) < 2:
            taken.append(int(u))
    assert distinct_guides(model, poses, most, 20.0).tolist() == taken
    assert len(taken) == 3 or most == 100


def test_of_guides_that_move_alike_the_two_best_explained_are_taken():
    still_one = torch.zeros(5, 2, 1)
    model = PoseModel(torch.full((5, 2), 9.0), still_one, torch.tensor([4.0, 2, 1, 3, 5]))
    moved = model._replace(loading=still_one + 1)
    assert distinct_guides(moved, torch.randn(4, 1), 5, 1.0).tolist() == [2, 1]


def test_outer_products_are_the_formula_and_may_be_given():
    rng = np.random.default_rng(5)
    loading = torch.tensor(rng.standard_normal((6, 2, 3)), dtype=torch.float32)
    outer = outer_products(loading)
    for u, i, j in np.ndindex(6, 3, 3):
        truth = sum(float(loading[u, axis, i]) * float(loading[u, axis, j]) for axis in (0, 1))
        assert float(outer[u, 3 * i + j]) == pytest.approx(truth, abs=1e-5)
    model = PoseModel(torch.zeros(6, 2), loading, torch.ones(6))
    seen = torch.tensor(rng.standard_normal((4, 6, 2)), dtype=torch.float32)
    near, weights = torch.zeros(4, 6, 2), torch.ones(4, 6)
    found = find_poses(model, seen, weights, near)
    assert torch.equal(find_poses(model, seen, weights, near, outer=outer), found)


def test_squared_lengths():
    vectors = torch.tensor([[[3.0, 4.0], [0.0, -2.0]]])
    assert squared_length(vectors).tolist() == [[25.0, 4.0]]
    assert vectors[0, 0].tolist() == [3, 4]
