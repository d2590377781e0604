"""Links against loops over the formulas in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from explgraph import linking
from explgraph.linking import motion, track
from explgraph.streaming import BLOCK, Images

MOST_WEIGHT = 2.0


def tracks(positions, scores):
    """Nodes in images that are all there."""
    images = Images(len(scores))
    return track(images, ((positions[here], scores[here]) for here in images))


def link(children, candidates, n_parents, **options):
    """Link over all images."""
    images = Images(children.table.shape[0])
    return linking.link(images, children, candidates, n_parents, **options)


def whole(nodes):
    """How nodes move in all images."""
    return nodes.motion(slice(0, nodes.table.shape[0]))


def draw(n, v, seed, silent=()):
    """Positions (N, V, 2) in a picture of 100 px, scores (N, V), some of them 0."""
    rng = np.random.default_rng(seed)
    positions = 50 + 12 * rng.standard_normal((n, v, 2))
    scores = rng.gamma(1.0, 2.0, (n, v)) * (rng.random((n, v)) < 0.8)
    scores[:, list(silent)] = 0
    return torch.from_numpy(positions).float(), torch.from_numpy(scores).float()


def motion_by_loops(positions, scores):
    """The same as `track` and `motion`, one number at a time."""
    p, s = positions.double().tolist(), scores.double().tolist()
    n, v = scores.shape
    weight = np.zeros((n, v))
    mean, scale = np.zeros((v, 2)), np.zeros(v)
    for j in range(v):
        scale[j] = sum(s[i][j] for i in range(n)) / n
        for i in range(n):
            weight[i, j] = min(s[i][j] / scale[j], MOST_WEIGHT) if scale[j] > 0 else 0.0
        total = sum(weight[:, j])
        for axis in (0, 1):
            pull = sum(weight[i, j] * p[i][j][axis] for i in range(n))
            mean[j, axis] = pull / total if total > 0 else 0.0
    moved = np.array(
        [[[p[i][j][a] - mean[j, a] for a in (0, 1)] for j in range(v)] for i in range(n)]
    )
    return moved.reshape(n, v, 2), weight, mean, scale


def apart(moved, weight, moved_u, weight_u, floor):
    """``d[v, u]`` and ``rho[v, u]``, one by one; inf where never seen together."""
    n, v, u = len(moved), moved.shape[1], moved_u.shape[1]

    def variance(b, w, j):
        total = sum(w[:, j])
        square = sum(w[i, j] * (b[i, j, 0] ** 2 + b[i, j, 1] ** 2) for i in range(n))
        return square / total if total > 0 else 0.0

    d, rho = np.full((v, u), np.inf), np.full((v, u), np.inf)
    for j in range(v):
        for k in range(u):
            both = sum(weight[i, j] * weight_u[i, k] for i in range(n))
            if both == 0:
                continue
            square = sum(
                weight[i, j] * weight_u[i, k] * math.dist(moved[i, j], moved_u[i, k]) ** 2
                for i in range(n)
            )
            d[j, k] = max(square / both, floor)
            both_variances = variance(moved, weight, j) + variance(moved_u, weight_u, k)
            rho[j, k] = d[j, k] / max(both_variances, 1e-9)  # where nothing moves at all
    return d, rho, np.array([variance(moved_u, weight_u, k) for k in range(u)])


# ------------------------------------------------------------------------------------------ motion


@given(n=st.integers(1, 7), v=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_motion_is_the_formula(n, v, seed):
    positions, scores = draw(n, v, seed, silent=[0] if seed % 3 == 0 else [])
    nodes = tracks(positions, scores)
    found = whole(nodes)
    moved, weight, mean, scale = motion_by_loops(positions, scores)
    assert_allclose(nodes.scale, scale, rtol=1e-5)
    assert_allclose(found.weight, weight, rtol=1e-5, atol=1e-6)
    alive = scale > 0
    assert_allclose(nodes.mean[alive], mean[alive], rtol=1e-5)
    assert_allclose(found.moved[:, alive], moved[:, alive], atol=1e-4)
    # seen from the mean nothing has moved, as the weights see it
    assert_allclose((found.weight[..., None] * found.moved).sum(0)[alive], 0, atol=1e-2)
    square = weight * (moved**2).sum(-1)
    assert_allclose(found.square()[:, alive], square[:, alive], rtol=1e-4, atol=1e-2)
    assert (found.square()[:, ~alive] == 0).all()


def test_one_strong_image_counts_at_most_twice():
    scores = torch.tensor([[1.0], [1.0], [1.0], [97.0]])
    positions = torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]], [[10.0, -4.0]]])
    nodes = tracks(positions, scores)
    found = whole(nodes)
    # mean score 25: weights 0.04, 0.04, 0.04 and 97 / 25 clipped to 2
    assert_allclose(found.weight[:, 0], [0.04, 0.04, 0.04, 2.0], rtol=1e-6)
    assert_allclose(nodes.mean[0], [20 / 2.12, -8 / 2.12], rtol=1e-6)


def test_other_images_are_seen_from_the_mined_mean_and_scale():
    mined = tracks(*draw(12, 4, 0))
    new_positions, new_scores = draw(3, 4, 1)
    found = motion(new_positions, new_scores, mined.mean, mined.scale)
    assert_allclose(found.moved, new_positions - mined.mean, rtol=1e-6)
    assert_allclose(found.weight, (new_scores / mined.scale).clamp(max=2), rtol=1e-6)
    again = motion(*mined.read(slice(2, 9)), mined.mean, mined.scale)
    for one, other in zip(again, mined.motion(slice(2, 9)), strict=True):
        assert_array_equal(one, other)


def test_taking_nodes():
    every = tracks(*draw(6, 5, 2))
    nodes = torch.tensor([3, 0])
    some = every.motion(slice(1, 4), nodes)
    assert_array_equal(some.moved, whole(every).moved[1:4, [3, 0]])
    assert_array_equal(some.weight, whole(every).weight[1:4, [3, 0]])


@pytest.mark.parametrize("n", [1, BLOCK, 2 * BLOCK + 7])
@pytest.mark.parametrize("folder", [False, True])
def test_keeping_only_some_nodes(n, folder, tmp_path):
    positions, scores = draw(n, 5, 2)
    every = tracks(positions, scores)
    images = Images(n, folder=tmp_path if folder else None)
    nodes = torch.tensor([3, 0, 4])
    few = every.only(images, nodes)
    assert few.table.shape == (n, 3, 3)
    assert len(list(tmp_path.iterdir())) == folder
    found = few.read(slice(0, n))
    assert_array_equal(found[0], positions[:, nodes])
    assert_array_equal(found[1], scores[:, nodes])
    for one, other in zip(few.motion(slice(0, n)), whole(every), strict=True):
        assert_array_equal(one, other[:, nodes])
    # as if there had never been other nodes
    alone = tracks(positions[:, nodes], scores[:, nodes])
    assert_allclose(few.mean, alone.mean, rtol=1e-6)
    assert_allclose(few.scale, alone.scale, rtol=1e-6)


def test_keeping_no_node():
    none = tracks(*draw(4, 3, 0)).only(Images(4), torch.zeros(0, dtype=torch.int64))
    assert none.table.shape == (4, 0, 3)
    assert none.mean.shape == (0, 2)


# -------------------------------------------------------------------------------------------- link


@given(
    n=st.integers(1, 6),
    v=st.integers(1, 5),
    u=st.integers(1, 6),
    m=st.integers(1, 8),
    floor=st.sampled_from([1e-3, 40.0, 400.0]),
    least=st.sampled_from([0.0, 60.0, 200.0]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_link_is_the_formula(n, v, u, m, floor, least, seed):
    children, candidates = draw(n, v, [seed, 0]), draw(n, u, [seed, 1], silent=[0])
    found = link(tracks(*children), tracks(*candidates), m, floor=floor, least_variance=least)
    moved, weight, *_ = motion_by_loops(*children)
    moved_u, weight_u, *_ = motion_by_loops(*candidates)
    d, rho, variance = apart(moved, weight, moved_u, weight_u, floor)
    rho[:, variance < least] = np.inf

    assert found.parent.shape == found.distance.shape == found.rho.shape == (v, min(m, u))
    assert found.parent.dtype == torch.int64
    # variances are in the hundreds, d is a difference of sums: float32 leaves 1e-3 of them
    assert_allclose(found.rho, np.sort(rho, 1)[:, :m], rtol=2e-3, atol=1e-4)
    for j in range(v):
        assert len(set(found.parent[j].tolist())) == min(m, u)
        for k, parent in enumerate(found.parent[j].tolist()):
            assert float(found.rho[j, k]) == pytest.approx(rho[j, parent], rel=2e-3, abs=1e-4)
            linked = rho[j, parent] < np.inf
            distance = d[j, parent] if linked else np.inf
            assert float(found.distance[j, k]) == pytest.approx(distance, rel=2e-3, abs=0.05)


def rigid_groups(n=60, groups=3, members=8, noise=0.5, seed=0):
    """Nodes that follow one of several points each, ``group[v] = v % groups``."""
    rng = np.random.default_rng(seed)
    points = 50 + 12 * rng.standard_normal((n, groups, 2))
    group = np.arange(groups * members) % groups
    arms = rng.uniform(-20, 20, (groups * members, 2))
    positions = points[:, group] + arms + noise * rng.standard_normal((n, len(group), 2))
    scores = rng.uniform(0.5, 2, (n, len(group)))
    return torch.from_numpy(positions).float(), torch.from_numpy(scores).float(), group


def test_parents_are_those_of_the_same_rigid_group():
    positions, scores, group = rigid_groups()
    lower, upper = slice(0, 12), slice(12, 24)

    def found(scores):
        children, candidates = (tracks(positions[:, s], scores[:, s]) for s in (lower, upper))
        return link(children, candidates, 3, floor=0.01, least_variance=30)

    parents = found(scores).parent
    assert_array_equal(group[upper][parents], np.repeat(group[lower][:, None], 3, 1))
    even = found(torch.ones_like(scores))
    # noise of 0.5 px in x and y, twice, against a variance of 2 * 12^2 px^2 twice; 60 images
    assert_allclose(even.distance, 1.0, rtol=0.6)
    assert_allclose(even.rho, 1.0 / (2 * 2 * 144), rtol=0.9)


def test_distances_do_not_decide_alone():
    """A candidate that hardly moves is nearer to an independent child than a true companion is."""
    rng = np.random.default_rng(0)
    child = 12 * rng.standard_normal((400, 2))
    companion = child + 8 * rng.standard_normal((400, 2))
    lazy = 0.5 * rng.standard_normal((400, 2))
    positions = torch.from_numpy(np.stack([companion, 1.5 * companion + 3, lazy], 1)).float()
    ones = torch.ones(400, 3)
    one = tracks(torch.from_numpy(child)[:, None].float(), ones[:, :1])
    found = link(one, tracks(positions, ones), 3, floor=1e-3, least_variance=0.0)
    assert found.parent[0].tolist() == [0, 1, 2]
    assert float(found.rho[0, 0]) == pytest.approx(128 / (288 + 288 + 128), rel=0.15)
    assert float(found.rho[0, 2]) == pytest.approx(1, rel=0.05)  # independent
    # and with a least variance it is out
    found = link(one, tracks(positions, ones), 3, floor=1e-3, least_variance=1.0)
    assert found.parent[0, :2].tolist() == [0, 1]
    assert torch.isinf(found.rho[0, 2])
    assert torch.isinf(found.distance[0, 2])


def opposed(nodes):
    """Nodes that move the other way."""
    n = nodes.table.shape[0]
    positions, scores = nodes.read(slice(0, n))
    return tracks(2 * nodes.mean - positions, scores)


def test_opposed_motion_has_rho_two():
    positions, scores = draw(50, 1, 3)
    here = tracks(positions, scores)
    there = opposed(here)
    # with weights on both sides d is no longer 4 var exactly, unless all weights are equal
    even = tracks(positions, torch.ones(50, 1))
    against = opposed(even)
    assert float(link(even, against, 1, floor=0, least_variance=0).rho) == pytest.approx(2)
    assert float(link(here, there, 1, floor=0, least_variance=0).rho) > 1.5


@pytest.mark.parametrize("cells", [1, 9, 20, 1000])
def test_blocks_of_children_do_not_matter(cells):
    children, candidates = tracks(*draw(30, 11, 4)), tracks(*draw(30, 9, 5))
    options = {"floor": 1.0, "least_variance": 20.0}
    at_once = link(children, candidates, 4, **options)
    pieces = link(children, candidates, 4, cells=cells, **options)
    assert_array_equal(pieces.parent, at_once.parent)
    assert_allclose(pieces.distance, at_once.distance, rtol=1e-4)
    assert_allclose(pieces.rho, at_once.rho, rtol=1e-4)


def test_blocks_of_images_add_up():
    """Many blocks against one, and a table in a file against one in memory."""
    n = 2 * BLOCK + 7
    positions, scores = draw(n, 6, 8)
    nodes = tracks(positions, scores)
    sums = linking.link_sums(whole(nodes), whole(nodes))
    options = {"floor": 1.0, "least_variance": 20.0}
    at_once = linking.choose_links(sums, 4, **options)
    blocks = link(nodes, nodes, 4, **options)
    assert_array_equal(blocks.parent, at_once.parent)
    assert_allclose(blocks.distance, at_once.distance, rtol=1e-3)


def test_moving_everything_alike_changes_nothing():
    (positions, scores), (upper, upper_scores) = draw(40, 6, 6), draw(40, 5, 7)
    options = {"floor": 0.1, "least_variance": 1.0}
    plain = link(tracks(positions, scores), tracks(upper, upper_scores), 3, **options)
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    other = link(
        tracks(positions @ turn + 30, 7 * scores), tracks(upper @ turn - 5, upper_scores), 3,
        **options,
    )  # fmt: skip
    assert_array_equal(other.parent, plain.parent)
    assert_allclose(other.distance, plain.distance, rtol=1e-3)


# --------------------------------------------------------------------------------------- edge cases


def test_one_image_gives_no_links():
    """In a single image nothing moves, so nobody says anything about anybody."""
    positions, scores = draw(1, 4, 10)
    moved = tracks(positions, scores + 1)
    assert_allclose(whole(moved).moved, 0, atol=1e-5)
    found = link(moved, moved, 2, floor=1, least_variance=1)
    assert found.rho.isinf().all()
    assert found.distance.isinf().all()


def test_without_candidates_there_are_no_links():
    children = tracks(*draw(5, 3, 11))
    nobody = tracks(torch.zeros(5, 0, 2), torch.zeros(5, 0))
    found = link(children, nobody, 15, floor=1, least_variance=1)
    assert found.parent.shape == found.distance.shape == found.rho.shape == (3, 0)


def test_without_children_there_are_no_links():
    nobody = tracks(torch.zeros(5, 0, 2), torch.zeros(5, 0))
    candidates = tracks(*draw(5, 3, 12))
    found = link(nobody, candidates, 2, floor=1, least_variance=1)
    assert found.parent.shape == found.distance.shape == (0, 2)
    assert found.parent.dtype == torch.int64


def test_silent_nodes_are_nobodys_parents_and_have_none():
    positions, scores = draw(20, 4, 13, silent=[1])
    moved = tracks(positions, scores)
    assert_array_equal(whole(moved).weight[:, 1], torch.zeros(20))
    found = link(moved, moved, 4, floor=1, least_variance=1)
    assert found.rho[1].isinf().all()
    linked = found.rho.isfinite()
    assert not ((found.parent == 1) & linked).any()
    assert linked[0].sum() == linked[2].sum() == 3  # all but the silent one


def test_never_seen_together_is_no_link():
    positions, _ = draw(20, 2, 14)
    scores = torch.zeros(20, 2)
    scores[:10, 0] = scores[10:, 1] = 1
    moved = tracks(positions, scores)
    found = link(
        tracks(*moved.read(slice(0, 20), torch.tensor([0]))),
        tracks(*moved.read(slice(0, 20), torch.tensor([1]))),
        1,
        floor=1,
        least_variance=0,
    )
    assert found.rho.isinf().all()
