"""Contrast against loops over images, filters and trajectories, and against planted followers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from explgraph.mixture import Grid
from explgraph.reliability import choose, contrast
from explgraph.streaming import BLOCK, Images

SIGMA = 14.0  # px


def a_grid(h, w, stride=8.0):
    x = stride * (0.5 + torch.arange(w, dtype=torch.float32))
    y = stride * (0.5 + torch.arange(h, dtype=torch.float32)) + 3  # not the same along both
    return Grid(x, y, stride**2)


def tensor(values):
    return torch.from_numpy(np.asarray(values)).float()


def measure(maps, places, grid, sample=None, sigma=SIGMA, seed=0, asked=None):
    """Contrast of maps (N, C, H, W) with places (N, A, 2) that are all there."""
    n = len(maps)
    sample = torch.arange(n) if sample is None else sample

    def give(which):
        if asked is not None:
            asked.append(which)
        return places[which] if isinstance(which, slice) else places[sample[which]]

    images = Images(n)
    blocks = ((here, maps[here]) for here in images)
    return contrast(images, blocks, give, sample, sigma, grid, seed)


def under(image, place, sigma, grid):
    """Mean of a map's (H, W) square under the Gaussian around a place, unit by unit."""
    total = 0.0
    for row, y in enumerate(grid.y.tolist()):
        for column, x in enumerate(grid.x.tolist()):
            far = (x - place[0]) ** 2 + (y - place[1]) ** 2
            total += float(image[row, column]) ** 2 * math.exp(-far / (2 * sigma**2))
    return total * grid.cell / (2 * math.pi * sigma**2)


def contrast_by_loops(maps, own, places, sample, sigma, grid):
    """The formula, with the images' own places (N, A, 2), or those of others in their stead."""
    n, c = maps.shape[:2]
    found = np.zeros((c, own.shape[1]))
    for f in range(c):
        for a in range(own.shape[1]):
            here = [under(maps[i, f], own[i, a].tolist(), sigma, grid) for i in range(n)]
            there = [
                np.mean([under(maps[i, f], places[m, a].tolist(), sigma, grid) for m in sample])
                for i in range(n)
            ]
            more = np.subtract(here, there)
            error = more.std(ddof=1) / math.sqrt(n)
            found[f, a] = max(-1, (more.mean() - 3 * error) / np.mean(here))
    return found if n > 3 else np.minimum(found, 0)  # so few images say nothing


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(3, 6), some=st.booleans())
@settings(max_examples=10, deadline=None)
def test_contrast_is_the_formula(seed, n, some):
    rng = np.random.default_rng(seed)
    maps = rng.uniform(0, 1, (n, 2, 4, 5)) * (rng.random((n, 2, 4, 5)) < 0.7)
    places = rng.uniform(0, 40, (n, 3, 2))
    sample = torch.from_numpy(np.sort(rng.permutation(n)[: n - 1])) if some else torch.arange(n)
    asked = []
    grid = a_grid(4, 5)
    found = measure(tensor(maps), tensor(places), grid, sample, seed=seed % 1000, asked=asked)
    truth = contrast_by_loops(maps, places, places, sample.tolist(), SIGMA, grid)
    assert found.real.shape == found.decoy.shape == (2, 3)
    assert_allclose(found.real, truth, atol=2e-3)
    for f, a in np.ndindex(2, 3):
        there = np.mean([under(maps[i, f], places[i, a], SIGMA, grid) for i in range(n)])
        assert float(found.present[f, a]) == pytest.approx(there, rel=1e-3, abs=1e-6)
    # the last places asked for are those of other images, which stand in for the images' own
    other = sample[asked[-1]]
    assert len(other) == n
    assert not (other == torch.arange(n)).any()
    truth = contrast_by_loops(maps, places[other.numpy()], places, sample.tolist(), SIGMA, grid)
    assert_allclose(found.decoy, truth, atol=2e-3)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [2, 5, 40])
def test_decoys_look_at_other_images_of_the_sample(seed, size):
    n = 2 * BLOCK + 9
    sample = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:size].sort()[0]
    asked = []
    measure(
        torch.rand(n, 1, 2, 2), torch.rand(n, 1, 2) * 16, a_grid(2, 2), sample, 5.0, seed, asked
    )
    others = [sample[which] for which in asked if not isinstance(which, slice)]
    others = torch.cat(others[math.ceil(size / 64) :])  # after those of the sample
    assert others.shape == (n,)
    assert not (others == torch.arange(n)).any()
    assert len(set(others.tolist())) > 0.6 * size  # drawn with replacement, all over the sample


# -------------------------------------------------------------------------------- planted followers

H, W = 14, 18
GRID = a_grid(H, W)


def bumps(places, spread=9.0):
    """Maps (N, 1, H, W) with a bump of some strength at places (N, 2)."""
    x, y = GRID.x.numpy(), GRID.y.numpy()
    gx = np.exp(-((x - places[:, :1]) ** 2) / (2 * spread**2))
    gy = np.exp(-((y - places[:, 1:]) ** 2) / (2 * spread**2))
    return (gy[:, :, None] * gx[:, None])[:, None]


def a_world(n=120, seed=0):
    """Two trajectories that move independently, and maps of filters that follow something.

    0 follows the first, 1 the second, 2 what moves otherwise, 3 is fixed, 4 is the first one's,
    exchanged among the images, 5 fires anywhere.
    """
    rng = np.random.default_rng(seed)
    places = rng.uniform(30, 90, (n, 3, 2))
    strength = rng.uniform(0.5, 1.5, (n, 6, 1, 1))
    follow = np.concatenate([bumps(places[:, i]) for i in range(3)], 1)
    fixed = bumps(np.full((n, 2), 60.0))
    exchanged = follow[rng.permutation(n), :1]
    noise = rng.uniform(0, 1, (n, 1, H, W))
    maps = np.concatenate([follow, fixed, exchanged, noise], 1) * strength
    return tensor(maps), tensor(places[:, :2])


@pytest.mark.parametrize("seed", range(3))
def test_followers_have_contrast_and_nobody_else(seed):
    found = measure(*a_world(seed=seed), GRID)
    real, decoy = found.real.numpy(), found.decoy.numpy()
    assert real[0, 0] > 0.5
    assert real[1, 1] > 0.5
    real[0, 0] = real[1, 1] = 0
    assert (real < 0.1).all()  # other trajectory, other movement, fixed, exchanged, noise
    assert (decoy < 0.1).all()  # also those of followers
    assert (real >= -1).all()
    assert found.real.max() <= 1


def test_the_more_noise_the_less_contrast():
    maps, places = a_world()
    draws = torch.Generator().manual_seed(0)
    noise = torch.rand(maps.shape, generator=draws)
    values = [
        float(measure(maps + share * noise, places, GRID).real[0, 0]) for share in (0, 0.5, 2)
    ]
    assert values[0] > values[1] > values[2]


def test_a_filters_strength_does_not_matter():
    maps, places = a_world()
    found, stronger = measure(maps, places, GRID), measure(maps * 7, places, GRID)
    assert_allclose(stronger.real, found.real, rtol=1e-3, atol=1e-4)
    assert_allclose(stronger.decoy, found.decoy, rtol=1e-3, atol=1e-4)
    assert_allclose(stronger.present, 49 * found.present, rtol=1e-3)


def test_silent_filters_have_none():
    maps, places = a_world(n=40)
    maps[:, 1] = 0
    found = measure(maps, places, GRID)
    assert (found.real[1] <= 0).all()
    assert (found.decoy[1] <= 0).all()
    assert all(values.isfinite().all() for values in found)


def test_where_nobody_fires_there_is_none():
    """A trajectory that leaves the image: what is there is rounding."""
    maps, places = a_world(n=40)
    found = measure(maps, torch.cat([places, places - 500], 1), GRID)
    assert (found.real[:, 2:] < 1e-3).all()
    assert all(values.isfinite().all() for values in found)


@pytest.mark.parametrize("n", [1, 2])
def test_hardly_any_images_stay_finite(n):
    maps, places = a_world(n=n)
    found = measure(maps, places, GRID)
    assert all(values.isfinite().all() for values in found)
    if n == 1:  # there is no other image
        assert_allclose(found.real, 0, atol=1e-5)


def test_of_what_follows_nothing_decoys_are_the_same():
    """Real and decoy contrasts of filters that fire anywhere are alike in distribution."""
    rng = np.random.default_rng(0)
    n, filters, trajectories = 64, 150, 8
    places = tensor(rng.uniform(20, 120, (n, trajectories, 2)))
    spots = rng.uniform(0, 140, (filters, n, 2))
    maps = tensor(np.concatenate([bumps(at) for at in spots], 1))
    found = measure(maps, places, GRID)
    real, decoy = (np.sort(values.flatten().numpy()) for values in found[:2])
    shares = np.linspace(0.05, 0.95, 19)
    assert_allclose(np.quantile(real, shares), np.quantile(decoy, shares), atol=0.06)
    # the best of a filter's trajectories, which is what is chosen
    best, best_decoy = (values.amax(1).numpy() for values in found[:2])
    assert np.mean(best) == pytest.approx(np.mean(best_decoy), abs=0.05)
    wins = np.mean(best > best_decoy)
    assert 0.35 < wins < 0.65
    assert np.mean(real > 0) < 0.02  # three standard errors


# ------------------------------------------------------------------------------------------- choose


def choose_by_loops(values, mean, k, apart):
    """The best trajectory left, again and again."""
    c, a = values.shape
    trajectory = np.zeros((c, min(k, a)), int)
    best = np.full((c, min(k, a)), -np.inf)
    for f in range(c):
        left = list(range(a))
        for j in range(min(k, a)):
            if not left:
                break
            t = max(left, key=lambda t: values[f, t])
            trajectory[f, j], best[f, j] = t, values[f, t]
            left = [o for o in left if o != t and math.dist(mean[o], mean[t]) >= apart]
    return trajectory, best


@given(
    c=st.integers(1, 4),
    a=st.integers(1, 8),
    k=st.integers(1, 6),
    apart=st.sampled_from([0.0, 10.0, 40.0, 1e3]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=80, deadline=None)
def test_choosing_is_the_greedy_rule(c, a, k, apart, seed):
    rng = np.random.default_rng(seed)
    values, mean = rng.uniform(-1, 1, (c, a)).astype(np.float32), rng.uniform(0, 100, (a, 2))
    values[rng.random((c, a)) < 0.2] = -np.inf
    found = choose(tensor(values), tensor(mean), k, apart)
    trajectory, best = choose_by_loops(values, mean, k, apart)
    assert found.trajectory.shape == found.contrast.shape == (c, min(k, a))
    assert found.trajectory.dtype == torch.int64
    assert_array_equal(found.contrast, best)
    there = np.isfinite(best)
    assert_array_equal(found.trajectory[there], trajectory[there])


def test_a_hand_made_choice():
    mean = torch.tensor([[0.0, 0.0], [3.0, 4.0], [50.0, 0.0], [90.0, 0.0]])
    values = torch.tensor([[0.9, 0.8, 0.1, -0.5], [-torch.inf, 0.2, -torch.inf, -torch.inf]])
    found = choose(values, mean, 3, 6.0)  # the second is 5 px from the first
    assert found.trajectory[0].tolist() == [0, 2, 3]
    assert_allclose(found.contrast[0], [0.9, 0.1, -0.5])
    assert found.trajectory[1, 0] == 1
    assert_allclose(found.contrast[1], [0.2, -np.inf, -np.inf])
    assert choose(values, mean, 3, 5.0).trajectory[0].tolist() == [0, 1, 2]  # apart by just as much
    assert_allclose(values[0], [0.9, 0.8, 0.1, -0.5])  # not written to


def test_fewer_trajectories_than_wanted():
    found = choose(torch.zeros(2, 3), torch.eye(3)[:, :2] * 100, 7, 1.0)
    assert found.trajectory.shape == (2, 3)
    assert sorted(found.trajectory[0].tolist()) == [0, 1, 2]
    for k, a in ((0, 3), (2, 0)):
        none = choose(torch.zeros(2, a), torch.zeros(a, 2), k, 1.0)
        assert none.trajectory.shape == none.contrast.shape == (2, 0)
        assert none.trajectory.dtype == torch.int64
