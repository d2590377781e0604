"""Learning to read poses: planted poses come back, and what follows nothing is no guide."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from posed import GRIDS, a_reader, bumps, maps_at, rms, tensor

from explgraph.mining import choose_pose
from explgraph.mining.learn_pose import learn_reader, packed, unpacked
from explgraph.mining.settings import Settings
from explgraph.statistics.mixture import Grid
from explgraph.statistics.pose_reader import check_evidence, read_poses

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 160.0


def learn(maps, grids=GRIDS, side=SIDE, numbers=8, trajectories=20, seed=0):
    return learn_reader(
        maps, grids, side=side, numbers=numbers, trajectories=trajectories, seed=seed
    )


def a_world(seed=0, n=120, q=2, noise=0.05, hop=0):
    """Maps of planted guides, of which the last `hop` of each layer are anywhere; their places."""
    rng = np.random.default_rng([seed, 3])
    truth = a_reader(seed, q=q)
    poses = tensor(rng.uniform(-1.6, 1.6, (n, q)))
    places = truth.model.places(poses)
    anywhere = truth.guides.filter >= 12 - hop
    places[:, anywhere] = tensor(rng.uniform(10, 150, (n, int(anywhere.sum()), 2)))
    return truth, maps_at(truth, places, noise, seed), poses, places


def places_by_filter(guides, places):
    """Places (n, 2) of each filter, by layer and number."""
    return {
        (layer, filter_): places[:, u].double().numpy()
        for u, (layer, filter_) in enumerate(
            zip(guides.layer.tolist(), guides.filter.tolist(), strict=True)
        )
    }


@pytest.mark.parametrize("seed", range(3))
def test_planted_poses_are_learnt(seed):
    """Where the guides are in images that were not learnt from."""
    truth, maps, poses, _ = a_world(seed)
    learnt = learn(maps)
    assert learnt.reader.exemplars.shape[1] == 2  # as many numbers as there are
    fresh = tensor(np.random.default_rng([seed, 9]).uniform(-1.5, 1.5, (40, 2)))
    there = truth.model.places(fresh)
    read = read_poses(learnt.reader, maps_at(truth, there, 0.05, seed + 10), GRIDS)
    true = places_by_filter(truth.guides, there)
    found = places_by_filter(learnt.reader.guides, learnt.reader.model.places(read))
    for name, places in found.items():
        assert rms(places - true[name]) < 2.5
    # and the pose is the planted one but for a turn of its axes
    design = np.column_stack([np.ones(40), read.double().numpy()])
    rest = fresh.double().numpy() - design @ np.linalg.lstsq(design, fresh.double().numpy())[0]
    assert rms(rest) < 0.15 * rms(fresh)
    assert len(poses) == 120


@pytest.mark.parametrize("q", [1, 3])
def test_a_pose_has_as_many_numbers_as_move_the_guides(q):
    _, maps, _, _ = a_world(4, q=q)
    assert learn(maps).reader.exemplars.shape[1] == q
    assert learn(maps, numbers=1).reader.exemplars.shape[1] == 1


@pytest.mark.parametrize("seed", [0, 3])
def test_what_follows_nothing_is_no_guide(seed):
    truth, maps, _, _ = a_world(seed, hop=6, n=150)
    reader = learn(maps).reader
    assert (reader.guides.filter < 6).all()
    read = read_poses(reader, maps, GRIDS)
    true = places_by_filter(truth.guides, a_world(seed, hop=6, n=150)[3])
    for name, places in places_by_filter(reader.guides, reader.model.places(read)).items():
        assert rms(places - true[name]) < 3


def test_a_third_of_the_sightings_may_be_wrong():
    """In every image other guides fire elsewhere, more strongly than where they should."""
    truth, maps, _, places = a_world(2, n=200)
    rng = np.random.default_rng(5)
    for index, grid in GRIDS.items():
        here = (truth.guides.layer == index).nonzero()[:, 0]
        away = bumps(grid, rng.uniform(10, 150, (200, 12, 2)), 9.0)
        wrong = tensor(rng.random((200, 12, 1, 1)) < 0.3)
        maps[index] = maps[index] + 1.2 * wrong * away
        assert len(here) == 12
    reader = learn(maps).reader
    read = read_poses(reader, maps, GRIDS)
    true = places_by_filter(truth.guides, places)
    off = [
        rms(found - true[name])
        for name, found in places_by_filter(reader.guides, reader.model.places(read)).items()
    ]
    assert np.median(off) < 4


def test_guides_are_sorted_and_lie_in_rows():
    _, maps, _, _ = a_world(1)
    reader = learn(maps).reader
    layer, filter_ = reader.guides
    assert len(reader.guides.layers()) == len(set(layer.tolist()))
    order = [i for i in maps if i in layer.tolist()]
    assert reader.guides.layers() == order
    for index in order:
        assert (filter_[layer == index].diff() > 0).all()
    assert (reader.checks.diff() > 0).all()
    assert len(reader.check_scale) == len(reader.checks)
    for stage in reader.stages:
        assert len(stage.scale) == len(stage.model.mean) == len(layer)


def test_a_guides_noise_is_never_less_than_a_hundredth_of_the_side():
    """However well it is explained: no guide decides alone."""
    truth, maps, _, _ = a_world(3, q=1, noise=0.0)
    variance = learn(maps).reader.model.variance
    assert (variance >= 1.6**2 - 1e-4).all()
    assert (variance - 1.6**2).abs().min() < 1e-4
    assert truth.exemplars.shape == (1, 1)


def test_of_the_guides_that_move_alike_two_are_trajectories():
    """A hundredth or three of the side apart they move alike, a twentieth apart they don't."""
    rng = np.random.default_rng(6)
    grid, n = GRIDS[3], 100
    poses = rng.uniform(-1, 1, (n, 2))

    def count(apart):
        # four rows of guides that move alike, rows move differently
        places = np.zeros((n, 16, 2))
        for row in range(4):
            loading = 18 * rng.standard_normal((2, 2)) + 12 * np.eye(2)
            base = np.array([50.0 + 20 * (row % 2), 50.0 + 20 * (row // 2)])
            for u in range(4):
                places[:, 4 * row + u] = base + [apart * SIDE * u, 0] + poses @ loading.T
        maps = {3: bumps(grid, places, 8.0)}
        # as many that are anywhere: guides are the better half
        anywhere = bumps(grid, rng.uniform(10, 150, (n, 16, 2)), 8.0)
        learnt = learn({3: torch.cat([maps[3], anywhere], 1)}, {3: grid}, trajectories=16)
        guides = learnt.reader.guides.filter[learnt.trajectories]
        assert (guides < 16).all()
        return [int((guides // 4 == row).sum()) for row in range(4)]

    assert count(0.005) == [2, 2, 2, 2]
    assert count(0.012) == [2, 2, 2, 2]  # three hundredths and more only between the outermost
    assert count(0.06) == [4, 4, 4, 4]


def test_trajectories_are_the_best_explained_and_not_alike():
    _, maps, _, _ = a_world(5, n=150)
    learnt = learn(maps)
    reader = learnt.reader
    explained = reader.model.explained()[learnt.trajectories]
    assert (explained.diff() <= 0).all()
    assert len(set(learnt.trajectories.tolist())) == len(learnt.trajectories)
    assert explained[0] == reader.model.explained().max()
    few = learn(maps, trajectories=3)
    assert few.trajectories.tolist() == learnt.trajectories[:3].tolist()


def test_checks_have_what_is_usual_as_their_scale():
    """Of one exemplar alone that no image is better explained by."""
    _, maps, _, _ = a_world(6, n=50)
    reader = learn(maps).reader
    # the poses of all images are among the exemplars: there are so few
    assert len(reader.exemplars) == 50
    views = reader.guides.views(maps, GRIDS)
    usual = torch.cat(check_evidence(reader, views, reader.exemplars), 1).double().mean(0)
    assert_allclose(reader.check_scale, usual, rtol=1e-4)


def test_exemplars_are_poses_of_images_all_over_the_sample():
    _, maps, _, places = a_world(7, n=60)
    truth = places_by_filter(a_world(7, n=60)[0].guides, places)
    reader = learn(maps).reader
    found = places_by_filter(reader.guides, reader.model.places(reader.exemplars))
    for name, at in found.items():
        assert rms(at - truth[name]) < 3


def test_lengths_are_shares_of_the_side():
    _, maps, _, _ = a_world(8)
    grids = {i: Grid(2 * g.x, 2 * g.y, 4 * g.cell) for i, g in GRIDS.items()}
    one, double = learn(maps), learn(maps, grids, 2 * SIDE)
    assert one.trajectories.tolist() == double.trajectories.tolist()
    assert_allclose(double.reader.exemplars, one.reader.exemplars, atol=2e-3)
    assert_allclose(double.reader.model.mean, 2 * one.reader.model.mean, atol=0.05)
    assert_allclose(double.reader.model.loading, 2 * one.reader.model.loading, atol=0.1)


def test_the_same_again():
    _, maps, _, _ = a_world(9)
    one, two = learn(maps, seed=3), learn(maps, seed=3)
    for a, b in zip(packed(one), packed(two), strict=True):
        assert torch.equal(a, b)


def test_what_is_packed_comes_back():
    _, maps, _, _ = a_world(10)
    learnt = learn(maps)
    back = unpacked([values.clone() for values in packed(learnt)])
    assert len(back.reader.stages) == len(learnt.reader.stages)
    assert torch.equal(back.trajectories, learnt.trajectories)
    assert torch.equal(read_poses(back.reader, maps, GRIDS), read_poses(learnt.reader, maps, GRIDS))
    for a, b in zip(packed(back), packed(learnt), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("n", [2, 3, 33])
def test_hardly_any_images_and_silent_filters_are_no_trouble(n):
    _, maps, _, _ = a_world(11, n=n)
    maps[3][:, :6] = 0
    maps[6][0] = 0
    learnt = learn(maps)
    for values in packed(learnt):
        assert values.isfinite().all()
    assert len(learnt.trajectories) >= 1
    assert read_poses(learnt.reader, maps, GRIDS).isfinite().all()


def test_one_filter_is_no_trouble():
    maps = {3: bumps(GRIDS[3], np.random.default_rng(0).uniform(40, 120, (30, 1, 2)), 9.0)}
    learnt = learn(maps, {3: GRIDS[3]})
    assert len(learnt.reader.guides.layer) == 1
    for values in packed(learnt):
        assert values.isfinite().all()


def a_pose_of(sizes, n=150, channels=60):
    """What mining learns from a layer whose filters move with numbers of some sizes, px."""
    rng = np.random.default_rng(len(sizes))
    grid = Grid(*[torch.arange(14, dtype=torch.float32) * 16 + 8] * 2, 256.0)
    poses = rng.standard_normal((n, len(sizes)))
    loading = rng.standard_normal((channels, 2, len(sizes))) * sizes
    places = rng.uniform(80, 144, (channels, 2)) + np.einsum("ciq,nq->nci", loading, poses)
    x, y = (axis.double().numpy() for axis in (grid.x, grid.y))
    gx = np.exp(-((x - places[..., :1]) ** 2) / (4 * 14**2))
    gy = np.exp(-((y - places[..., 1:]) ** 2) / (4 * 14**2))
    maps = gy[..., :, None] * gx[..., None, :]
    maps = tensor(maps / np.sqrt((maps**2).sum((2, 3)).mean(0))[:, None, None])
    layer = SimpleNamespace(
        layer=SimpleNamespace(index=0, channels=channels), grid=grid, sampled=lambda _: maps
    )
    learnt = choose_pose._learn_pose([layer], None, Settings(pose=4), 0, 224.0**2, lambda _: None)
    return learnt.poses.shape[1]


def test_all_numbers_of_a_pose_are_taken_where_they_tell_of_parts():
    assert a_pose_of([14, 13, 12, 11]) == 4


def test_half_the_numbers_are_taken_where_the_others_hardly_move_anything():
    assert a_pose_of([18, 15, 2, 2]) == 2


def test_no_more_numbers_than_there_are():
    assert a_pose_of([15]) == 1
