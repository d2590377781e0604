"""Reading poses, against loops in float64 and planted poses."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from posed import GRIDS, a_grid, a_reader, bumps, maps_at, poses_by_loops, tensor

from explgraph.statistics.pose import find_poses
from explgraph.statistics.pose_reader import (
    Guides,
    Observed,
    Prepared,
    View,
    check_evidence,
    exemplar_evidence,
    look_again,
    observe,
    own_evidence,
    read_poses,
)

pytestmark = pytest.mark.usefixtures("one_thread")


# ------------------------------------------------------------------------------------------ observe


def test_peaks_are_looked_for_without_an_expectation():
    grid, other = a_grid(20, 20), a_grid(10, 10, 16.0, 0.0)
    rng = np.random.default_rng(0)
    places = tensor(rng.uniform(40, 120, (4, 5, 2)))
    views = [
        View(2 * bumps(grid, places[:, :2], 9.0), grid),
        View(bumps(other, places[:, 2:], 12.0), other),
    ]
    seen = observe(views, None, 0.0, 30.0)
    assert_allclose(seen.positions, places, atol=3.5)  # the refinement is cut off at whole units
    assert_array_equal(seen.clarity, torch.ones(4, 5))
    highest = torch.cat([maps.amax((2, 3)) for maps, _ in views], 1)
    assert_array_equal(seen.scores, highest)


@pytest.mark.parametrize(("spread", "window"), [(8.0, 12.0), (12.0, 25.0), (20.0, 30.0)])
def test_the_pull_to_the_middle_is_undone_exactly(spread, window):
    """A Gaussian bump in a Gaussian window: the mean between is moved back to the bump."""
    grid = a_grid(80, 80, 4.0)
    rng = np.random.default_rng(1)
    places = tensor(rng.uniform(130, 190, (6, 3, 2)))
    expected = places + tensor(rng.uniform(-20, 20, (6, 3, 2)))
    seen = observe([View(bumps(grid, places, spread), grid)], expected, window, 0.0)
    assert_allclose(seen.positions, places, atol=0.05)
    # the squared bump has half the variance
    clarity = window**2 / (window**2 + spread**2 / 2)
    assert_allclose(seen.clarity, clarity, rtol=2e-3)
    # root of the mean square under the window
    a = spread**2 / 2
    far = (places - expected).double().square().sum(-1)
    mean = a / (a + window**2) * torch.exp(-far / (2 * (a + window**2)))
    assert_allclose(seen.scores, mean.sqrt(), rtol=5e-3)


def test_observing_is_the_formula_in_each_layer():
    """Loops over units, and the order of guides over several views."""
    rng = np.random.default_rng(2)
    grids, counts, window = (a_grid(5, 6), a_grid(4, 3, 12.0)), (2, 3), 15.0
    views = [
        View(tensor(rng.uniform(0, 1, (3, c, len(g.y), len(g.x)))), g)
        for g, c in zip(grids, counts, strict=True)
    ]
    expected = tensor(rng.uniform(0, 45, (3, 5, 2)))
    seen = observe(views, expected, window, 0.0)
    u = 0
    for maps, grid in views:
        for f in range(maps.shape[1]):
            for i in range(3):
                there = expected[i, u].double().numpy()
                mean, variance, mass = about(maps[i, f], there, window, grid)
                clarity = min(max(1 - variance / window**2, 0), 1)
                place = there + (mean - there) / max(clarity, 0.25)
                assert_allclose(seen.positions[i, u], place, atol=2e-2)
                assert float(seen.clarity[i, u]) == pytest.approx(clarity, abs=1e-3)
                assert float(seen.scores[i, u]) == pytest.approx(math.sqrt(mass), rel=1e-3)
            u += 1


def about(image, place, sigma, grid, power=2):
    """Mean, variance along an axis and mean of a power of a map under a Gaussian."""
    mass, first, second = 0.0, np.zeros(2), 0.0
    for row, y in enumerate(grid.y.tolist()):
        for column, x in enumerate(grid.x.tolist()):
            unit = np.array([x, y])
            far = ((unit - place) ** 2).sum()
            w = float(image[row, column]) ** power * math.exp(-far / (2 * sigma**2))
            mass, first, second = mass + w, first + w * unit, second + w * (unit @ unit)
    if mass == 0:
        return place, 0.0, 0.0
    mean = first / mass
    variance = (second / mass - mean @ mean) / 2
    return mean, variance, mass * grid.cell / (2 * math.pi * sigma**2)


def test_even_and_silent_maps_say_nothing():
    grid = a_grid(60, 60, 4.0)
    maps = torch.ones(1, 2, 60, 60)
    maps[:, 1] = 0
    expected = torch.tensor([[[119.0, 122.0], [50.0, 60.0]]])
    seen = observe([View(maps, grid)], expected, 15.0, 0.0)
    assert float(seen.clarity[0, 0]) < 0.01
    assert float(seen.scores[0, 1]) == 0
    assert_allclose(seen.positions, expected, atol=0.05)
    assert_allclose(seen.weights(torch.ones(2)), 0, atol=0.01)


def test_a_broad_hump_is_corrected_fourfold_at_most():
    grid = a_grid(200, 200, 4.0)
    place = torch.tensor([[[430.0, 400.0]]])
    expected = torch.tensor([[[400.0, 400.0]]])
    seen = observe([View(bumps(grid, place, 60.0), grid)], expected, 15.0, 0.0)
    share = 15**2 / (15**2 + 60**2 / 2)  # 1 / 9
    assert float(seen.clarity) == pytest.approx(share, rel=0.02)
    assert_allclose(seen.positions[0, 0], [400 + 4 * share * 30, 400], atol=0.2)


def test_weights_are_clipped_scores_times_clarity():
    seen = Observed(
        torch.zeros(1, 4, 2),
        torch.tensor([[3.0, 30.0, 3.0, 3.0]]),
        torch.tensor([[1.0, 1.0, 0.25, 1.0]]),
    )
    weights = seen.weights(torch.tensor([6.0, 6.0, 6.0, 0.0]))
    assert_allclose(weights, [[0.5, 2, 0.125, 2]])


# ------------------------------------------------------------------------------------------- guides


def test_guides_pick_their_maps_layer_by_layer():
    maps = {i: torch.rand(3, 6, 4, 5) for i in (2, 5, 7)}
    grids = {i: a_grid(4, 5, float(i)) for i in maps}
    guides = Guides(torch.tensor([7, 7, 2]), torch.tensor([5, 0, 3]))
    views = guides.views(maps, grids)
    assert len(views) == 2
    assert_array_equal(views[0].maps, maps[7][:, [5, 0]])
    assert_array_equal(views[1].maps, maps[2][:, [3]])
    assert views[0].grid is grids[7]
    assert views[1].grid is grids[2]


# -------------------------------------------------------------------------------------------- poses


def read_by_loops(reader, maps):
    """The poses of images, one after the other in float64, and the exemplars' gains."""
    layer, filter_ = reader.guides.layer.tolist(), reader.guides.filter.tolist()
    views = [(maps[i][:, f].double(), GRIDS[i]) for i, f in zip(layer, filter_, strict=True)]
    n, u = len(maps[layer[0]]), len(layer)

    def looked(stage, places):
        """Where guides seem to be, and their weights."""
        seen, weights = np.zeros((n, u, 2)), np.zeros((n, u))
        for i, g in np.ndindex(n, u):
            window = float(stage.window)
            mean, variance, square = about(views[g][0][i], places[i, g], window, views[g][1])
            clarity = 1 - variance / window**2
            seen[i, g] = places[i, g] + (mean - places[i, g]) / max(clarity, 0.25)
            weights[i, g] = min(math.sqrt(square) / float(stage.scale[g]), 2) * clarity
        return seen, weights

    def places_of(stage, poses):
        mean, loading = (t.double().numpy() for t in stage.model[:2])
        return mean + np.einsum("uaj,nj->nua", loading, poses)

    def evidence(image, place):
        """Mean log evidence of the checks."""
        logs = []
        for s, g in enumerate(reader.checks.tolist()):
            sigma, (values, grid) = float(reader.check_sigma), views[g]
            square = about(values[image], place[g], sigma, grid)[2]
            logs.append(math.log(square / float(reader.check_scale[s]) + 0.1))
        return np.mean(logs)

    first, *looks = reader.stages
    peaks = observe(reader.guides.views(maps, GRIDS), None, 0.0, float(reader.reach))
    near = np.broadcast_to(first.model.mean.double().numpy(), (n, u, 2))
    weights = peaks.scores / first.scale
    poses = poses_by_loops(first.model, peaks.positions, weights.clamp(max=2), near, 4)
    places = places_of(first, poses)
    for stage in looks:
        seen, weights = looked(stage, places)
        poses = poses_by_loops(stage.model, torch.from_numpy(seen), weights, places, 4)
        places = places_of(stage, poses)
    gains = np.zeros(n)
    exemplars = reader.exemplars.double().numpy()
    there = places_of(reader.stages[-1], exemplars)
    for i in range(n):
        values = [evidence(i, place) for place in there]
        gains[i] = max(values) - evidence(i, places[i])
        if gains[i] > 0.02:
            poses[i] = exemplars[np.argmax(values)]
    places = places_of(reader.stages[-1], poses)
    seen, weights = looked(reader.stages[-1], places)
    stage = reader.stages[-1]
    return poses_by_loops(stage.model, torch.from_numpy(seen), weights, places, 4), gains


@pytest.mark.parametrize("seed", range(4))
def test_reading_poses_is_the_formula(seed):
    """Every stage with a model and scales of its own, in maps of several bumps and noise."""
    rng = np.random.default_rng([seed, 20])
    reader = a_reader(seed, u=8, exemplars=rng.standard_normal((3, 2)), checks=[0, 2, 3, 5, 7])
    stages = [
        stage._replace(
            scale=stage.scale * tensor(rng.uniform(0.5, 2, 8)),
            model=stage.model._replace(
                mean=stage.model.mean + tensor(rng.uniform(-3, 3, (8, 2))),
                variance=tensor(rng.uniform(2, 30, 8)),
            ),
        )
        for stage in reader.stages
    ]
    reader = reader._replace(stages=tuple(stages), check_scale=tensor(rng.uniform(0.02, 0.5, 5)))
    maps = maps_at(reader, reader.model.places(tensor(rng.standard_normal((5, 2)))), 0.1, seed)
    lures = maps_at(reader, reader.model.places(tensor(rng.standard_normal((5, 2)))), 0.1, seed)
    maps = {k: m + lures[k] * tensor(rng.uniform(0, 1.3, (5, 4, 1, 1))) for k, m in maps.items()}
    maps[3][2, 1] = 0  # one is silent in one image
    truth, gains = read_by_loops(reader, maps)
    clear = np.abs(gains - 0.02) > 1e-3  # elsewhere rounding decides about the exemplars
    assert clear.sum() >= 4
    assert_allclose(read_poses(reader, maps, GRIDS)[clear], truth[clear], atol=5e-3)


@pytest.mark.parametrize("seed", range(3))
def test_planted_poses_are_read(seed):
    reader = a_reader(seed)
    poses = tensor(np.random.default_rng([seed, 1]).uniform(-1.5, 1.5, (10, 2)))
    maps = maps_at(reader, reader.model.places(poses), noise=0.05)
    found = read_poses(reader, maps, GRIDS)
    assert found.shape == (10, 2)
    assert_allclose(found, poses, atol=0.08)  # 1 px


def test_a_third_of_the_guides_may_be_elsewhere():
    reader = a_reader(3)
    rng = np.random.default_rng(4)
    poses = tensor(rng.uniform(-1.5, 1.5, (20, 2)))
    places = reader.model.places(poses)
    wrong = tensor(rng.random((20, 24, 1)) < 1 / 3).bool()
    misled = torch.where(wrong, tensor(rng.uniform(10, 150, places.shape)), places)
    found = read_poses(reader, maps_at(reader, misled), GRIDS)
    off = (found - poses).norm(dim=1)
    assert off.median() < 0.1
    assert (off < 0.3).float().mean() >= 0.9


def test_a_pose_does_not_depend_on_the_other_images():
    reader = a_reader(5, exemplars=np.random.default_rng(5).standard_normal((70, 2)))
    poses = tensor(np.random.default_rng(6).standard_normal((6, 2)))
    maps = maps_at(reader, reader.model.places(poses), noise=0.3)
    together = read_poses(reader, maps, GRIDS)
    for i in range(6):
        alone = read_poses(reader, {k: m[i : i + 1] for k, m in maps.items()}, GRIDS)
        assert_allclose(alone[0], together[i], atol=1e-4)


def a_riddle(exemplars):
    """Maps of an image at a pose from which its highest peaks lead away.

    Most guides fire more strongly where another pose would have them, though that is told by
    fewer of them than the true one.
    """
    rng = np.random.default_rng(7)
    reader = a_reader(7, q=1, exemplars=exemplars, looks=(25.0, 20.0))
    loading = np.where(rng.random((24, 2, 1)) < 0.5, 25.0, -25.0)
    model = reader.model._replace(loading=tensor(loading))
    reader = reader._replace(stages=tuple(stage._replace(model=model) for stage in reader.stages))
    true, false = torch.tensor([[1.6]]), torch.tensor([[-1.6]])
    maps = maps_at(reader, model.places(true))
    lures = maps_at(reader, model.places(false))
    first = torch.arange(24) < 14
    for index in maps:
        here = (reader.guides.layer == index).nonzero()[:, 0]
        lured = reader.guides.filter[here[first[here]]]
        maps[index][:, lured] += 1.2 * lures[index][:, lured]
    return reader, maps, true, false


def test_an_exemplar_is_taken_up_where_the_peaks_mislead():
    reader, maps, true, false = a_riddle([[-1.4], [0.0], [1.4]])
    misled = read_poses(reader._replace(exemplars=torch.zeros(1, 1)), maps, GRIDS)
    assert_allclose(misled, false, atol=0.2)  # the peaks' story
    found = read_poses(reader, maps, GRIDS)
    assert_allclose(found, true, atol=0.1)  # not the exemplar's, which is only the start
    # without that exemplar it stays
    without = read_poses(reader._replace(exemplars=torch.tensor([[-1.4], [0.0]])), maps, GRIDS)
    assert_allclose(without, false, atol=0.2)


@pytest.mark.parametrize(("gain", "taken"), [(0.012, False), (0.018, False), (0.022, True)])
def test_an_exemplar_must_be_clearly_better(gain, taken):
    """The checks' usual evidence is chosen such that the exemplar gains a given little."""
    reader, maps, _, _ = a_riddle([[1.4]])
    views = reader.guides.views(maps, GRIDS)
    alone = reader._replace(exemplars=torch.zeros(1, 1), check_scale=torch.full((24,), 1e6))
    misled = read_poses(alone, maps, GRIDS)
    lured = alone._replace(exemplars=misled[:1])  # an exemplar that is no better
    assert_allclose(read_poses(lured, maps, GRIDS), misled, atol=0.02)

    def gained(scale):
        scaled = reader._replace(check_scale=torch.full((24,), scale))
        weights = Prepared.of(scaled, GRIDS).check_weights
        there = exemplar_evidence(scaled, views, weights)[0, 0]
        return scaled, float(there - own_evidence(scaled, views, misled)[0])

    low, high = 0.1, 1e3  # the gain falls with the scale
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if gained(middle)[1] > gain else (low, middle)
    scaled, reached = gained(low)
    assert reached == pytest.approx(gain, abs=1e-3)
    found = read_poses(scaled, maps, GRIDS)
    assert_allclose(found, 1.6 if taken else -1.6, atol=0.25)


def test_exemplars_are_not_taken_up_where_the_start_was_right():
    exemplars = np.random.default_rng(9).uniform(-2, 2, (100, 2))
    reader = a_reader(8, exemplars=exemplars)
    poses = tensor(np.random.default_rng(10).uniform(-1.5, 1.5, (10, 2)))
    maps = maps_at(reader, reader.model.places(poses))
    found = read_poses(reader, maps, GRIDS)
    alone = read_poses(reader._replace(exemplars=torch.zeros(1, 2)), maps, GRIDS)
    assert_allclose(found, alone, atol=0.02)


def test_silent_images_have_the_usual_pose_and_stay_finite():
    reader = a_reader(9)
    maps = {index: torch.zeros(2, 12, 20, 20) for index in GRIDS}
    found = read_poses(reader, maps, GRIDS)
    assert_allclose(found, 0, atol=1e-6)


def test_a_stage_starts_from_the_usual_places():
    reader = a_reader(10)
    stage = reader.stages[0]
    rng = np.random.default_rng(11)
    seen = Observed(
        tensor(rng.uniform(40, 120, (3, 24, 2))), tensor(rng.random((3, 24))), torch.ones(3, 24)
    )
    poses, places = stage.poses(seen, None)
    usual = stage.model.mean.expand(3, 24, 2)
    assert_array_equal(
        poses, find_poses(stage.model, seen.positions, seen.weights(stage.scale), usual)
    )
    assert_array_equal(places, stage.model.places(poses))


def test_looking_again_starts_from_the_poses():
    """Around where the last model puts the guides; a reader of peaks alone weighs those anew."""
    reader = a_reader(16)
    poses = tensor(np.random.default_rng(17).standard_normal((4, 2)))
    maps = maps_at(reader, reader.model.places(poses), noise=0.3)
    views, stage = reader.guides.views(maps, GRIDS), reader.stages[-1]
    near = reader.model.places(poses + 0.2)
    seen = observe(views, near, 25.0, 20.0)
    truth = find_poses(stage.model, seen.positions, seen.weights(stage.scale), near)
    assert_allclose(look_again(reader, views, poses + 0.2), truth, atol=1e-5)
    reader = reader._replace(stages=reader.stages[:1])
    stage, seen = reader.stages[0], observe(views, None, 0.0, 20.0)
    truth = find_poses(stage.model, seen.positions, seen.weights(stage.scale), near)
    assert_allclose(look_again(reader, views, poses + 0.2), truth, atol=1e-5)


def test_checks_evidence_is_the_square_under_a_gaussian():
    reader = a_reader(12, checks=[1, 4, 13, 20])
    poses = tensor(np.random.default_rng(13).standard_normal((3, 2)))
    rng = np.random.default_rng(14)
    maps = {index: tensor(rng.random((3, 12, 20, 20))) for index in GRIDS}
    parts = check_evidence(reader, reader.guides.views(maps, GRIDS), poses)
    assert [part.shape for part in parts] == [(3, 2), (3, 2)]
    found = torch.cat(parts, 1)
    places = reader.model.places(poses).double().numpy()
    for s, u in enumerate([1, 4, 13, 20]):
        layer, filter_ = int(reader.guides.layer[u]), int(reader.guides.filter[u])
        for i in range(3):
            image = maps[layer][i, filter_]
            truth = about(image, places[i, u], 12.0, GRIDS[layer])[2]
            assert float(found[i, s]) == pytest.approx(truth, rel=1e-3)


def test_evidence_is_judged_by_the_checks_own_scales():
    """Mean log of what is under the Gaussians over what is usual, for each exemplar."""
    rng = np.random.default_rng(15)
    reader = a_reader(15, u=8, exemplars=rng.standard_normal((5, 2)), checks=[0, 2, 3, 5, 7])
    reader = reader._replace(check_scale=tensor(rng.uniform(0.02, 0.5, 5)))
    maps = {index: tensor(rng.random((3, 4, 20, 20))) for index in GRIDS}
    views = reader.guides.views(maps, GRIDS)
    found = exemplar_evidence(reader, views, Prepared.of(reader, GRIDS).check_weights)
    places = reader.model.places(reader.exemplars).double().numpy()
    assert found.shape == (3, 5)
    for i, h in np.ndindex(3, 5):
        logs = []
        for s, u in enumerate(reader.checks.tolist()):
            layer, filter_ = int(reader.guides.layer[u]), int(reader.guides.filter[u])
            square = about(maps[layer][i, filter_], places[h, u], 12.0, GRIDS[layer])[2]
            logs.append(math.log(square / float(reader.check_scale[s]) + 0.1))
        assert float(found[i, h]) == pytest.approx(np.mean(logs), abs=2e-3)
    for h in range(5):  # an image's own pose is judged in the same way
        own = own_evidence(reader, views, reader.exemplars[[h, h, h]])
        assert_allclose(own, found[:, h], atol=1e-4)
