"""Grouping patterns into parts, against planted groups and brute force."""

import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from explgraph.statistics.grouping import (
    correlations,
    group,
    halved,
    presence_curve,
    trajectory_points,
    two_halves,
    typicality,
)

SIDE = 224.0


def planted(parts=8, each=30, noise=40, seed=0):
    """Patterns of two for every filter, around trajectories that are apart, and some of none."""
    draws = np.random.default_rng(seed)
    centres: list[np.ndarray] = []
    while len(centres) < parts:
        one = np.append(draws.uniform(0, SIDE, 2), draws.normal(0, 15, 6))
        if all(np.linalg.norm(one - other) > 0.35 * SIDE for other in centres):
            centres.append(one)
    truth = np.repeat(np.arange(parts), each)
    points = np.array(centres)[truth] + draws.normal(0, 3, (parts * each, 8))
    far = []
    while len(far) < noise:
        one = np.append(draws.uniform(-SIDE, 2 * SIDE, 2), draws.normal(0, 60, 6))
        if all(np.linalg.norm(one - other) > 0.3 * SIDE for other in [*centres, *far]):
            far.append(one)
    points = np.concatenate([points, np.array(far).reshape(-1, 8)])
    truth = np.append(truth, np.full(noise, -1))
    weight = draws.uniform(0.2, 1, len(points))
    order = draws.permutation(len(points))
    return points[order], weight[order], truth[order], halved(draws.permutation(len(points)) // 2)


def test_distances_of_points_are_those_of_trajectories():
    draws = np.random.default_rng(0)
    mean, loading = draws.normal(size=(5, 2)), draws.normal(size=(5, 2, 3))
    poses = draws.normal(size=(400, 3)) @ draws.normal(size=(3, 3)) + 2
    points = trajectory_points(mean, loading, poses)
    places = mean + np.einsum("vij,nj->nvi", loading, poses)
    truth = np.sqrt(np.square(places[:, :, None] - places[:, None]).sum(-1).mean(0))
    found = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.testing.assert_allclose(found, truth, rtol=1e-9)
    np.testing.assert_allclose(points[:, :2], places.mean(0), rtol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_planted_groups_are_found_and_what_belongs_to_none(seed):
    points, weight, truth, half = planted(seed=seed)
    found = group(points, weight, np.ones(len(points)), half, SIDE)
    known = truth >= 0
    assert adjusted_rand_score(truth[known], found.part[known]) > 0.99
    assert (found.part[~known] >= 0).mean() < 0.1
    assert len(found.centre) == 8
    assert (found.agreement > 0.9).all()
    total = [weight[found.part == k].sum() for k in range(8)]
    assert total == sorted(total, reverse=True)


def test_parts_that_stand_still_come_last():
    points, weight, truth, half = planted()
    total = np.array([weight[truth == k].sum() for k in range(8)])
    still = [total.argmax(), total.argmin()]
    draws = np.random.default_rng(3)
    follows = np.where(np.isin(truth, still), 0.05, 0.4) * draws.uniform(0.5, 1.5, len(truth))
    found = group(points, weight, follows, half, SIDE)
    planted_as = [np.bincount(truth[(found.part == k) & (truth >= 0)]).argmax() for k in range(8)]
    moving = [k for k in np.argsort(-total) if k not in still]
    assert planted_as == [*moving, *still]


def test_the_order_of_patterns_does_not_matter():
    points, weight, _, half = planted()
    found = group(points, weight, np.ones(len(points)), half, SIDE)
    order = np.random.default_rng(1).permutation(len(points))
    again = group(points[order], weight[order], np.ones(len(points)), half[order], SIDE)
    np.testing.assert_array_equal(again.part, found.part[order])
    np.testing.assert_allclose(again.centre, found.centre)


def test_what_one_half_of_the_filters_shows_is_no_part():
    points, weight, truth, half = planted()
    weight[(truth == 3) & half] = 0
    found = group(points, weight, np.ones(len(points)), half, SIDE)
    assert len(found.centre) == 7
    assert not np.isin(np.flatnonzero(truth == 3), np.flatnonzero(found.part >= 0)).any()


def test_unreliable_patterns_belong_to_none_and_move_nothing():
    points, weight, _, half = planted()
    draws = np.random.default_rng(2)
    more = points[draws.integers(0, len(points), 200)] + draws.normal(0, 5, (200, 8))
    found = group(points, weight, np.ones(len(points)), half, SIDE)
    again = group(
        np.concatenate([points, more]), np.append(weight, np.zeros(200)),
        np.ones(len(points) + 200),
        np.append(half, draws.random(200) < 0.5), SIDE,
    )  # fmt: skip
    np.testing.assert_array_equal(again.part[: len(points)], found.part)
    assert (again.part[len(points) :] == -1).all()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_hardly_any_patterns(number):
    points = np.zeros((number, 4))
    found = group(points, np.ones(number), np.ones(number), np.arange(number) % 2 == 0, SIDE)
    assert len(found.part) == number
    assert (found.part == (0 if number == 2 else -1)).all()


def test_memory_is_bounded_for_many_patterns():
    draws = np.random.default_rng(0)
    points = draws.normal(0, 60, (100_000, 10))
    tracemalloc.start()
    group(points, draws.random(100_000), np.ones(100_000), draws.random(100_000) < 0.5, SIDE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400e6


def test_typicality_is_one_at_the_centre_and_falls():
    points = np.array([[0.0, 0.0], [0.05 * SIDE, 0.0], [SIDE, 0.0]])
    near = typicality(points, np.zeros((3, 2)), SIDE)
    np.testing.assert_allclose(near, [1, np.exp(-0.5), 0], atol=1e-12)


def test_a_part_of_two_things_is_divided():
    points, weight, truth, _ = planted(parts=2, noise=0)
    second = two_halves(points, weight, SIDE)
    assert adjusted_rand_score(truth, second) == 1
    assert not two_halves(np.ones((5, 4)), np.ones(5), SIDE).any()


# ---------------------------------------------------------------------------------------- presence


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_presences_are_true_to_their_numbers(share):
    """Of two planted groups of images; at least as often as is said."""
    draws = np.random.default_rng(0)
    there = draws.random(40000) < share
    values = np.where(there, 0.7, 0.3) + draws.normal(0, 0.12, 40000)
    offset, slope = presence_curve(values)
    said = 1 / (1 + np.exp(-(offset + slope * values)))
    assert slope > 0
    for low in (0.5, 0.7, 0.9):
        here = (said >= low) & (said < low + 0.1)
        assert there[here].mean() == pytest.approx(said[here].mean(), abs=0.08)
    assert there[said >= 0.9].mean() > 0.9
    assert (said >= 0.5).mean() == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("values", [np.full(20, 0.4), np.zeros(3), np.linspace(0, 1, 50)])
def test_curves_of_one_group_are_finite(values):
    offset, slope = presence_curve(values)
    assert np.isfinite([offset, slope]).all()
    assert slope >= 0


def test_what_every_image_shows_is_said_to_be_there():
    draws = np.random.default_rng(0)
    values = 0.3 + draws.normal(0, 0.03, 60)
    offset, slope = presence_curve(values)
    said = 1 / (1 + np.exp(-(offset + slope * np.append(values, [0.15, 0.0]))))
    assert (said[:60] > 0.8).all()
    assert np.median(said[:60]) == pytest.approx(0.95, abs=0.01)
    assert said[60] == pytest.approx(0.5, abs=0.05)
    assert said[61] < 0.05


def test_correlations_are_numpys():
    draws = np.random.default_rng(0)
    values = draws.normal(size=(50, 4)) @ draws.normal(size=(4, 4))
    np.testing.assert_allclose(correlations(values), np.corrcoef(values.T), atol=1e-12)
    values[:, 2] = 3.0
    assert (correlations(values)[2] == 0).all()
