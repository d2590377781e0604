"""Edges against loops and plain formulas in float64, and planted pairs among nodes of one pose."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from explgraph.activations.streaming import BLOCK, Images
from explgraph.mining import habits, linking
from explgraph.mining.habits import Signs
from explgraph.mining.linking import Edges, link
from explgraph.mining.tracks import Tracks, track

AREA = 100.0 * 100.0
MOST_WEIGHT = 2.0


def tracks(nodes, images=None):
    """Nodes (positions, scores, expected) in images that are all there."""
    positions, scores, expected = (torch.as_tensor(x).float() for x in nodes)
    images = images or Images(len(scores))
    return track(images, ((positions[h], scores[h], expected[h]) for h in images))


def joined(below, above, n_parents=5, seed=0, images=None):
    """Link over all images."""
    images = images or Images(len(below[1]))
    return link(
        images, tracks(below, images), tracks(above, images), n_parents, area=AREA, seed=seed
    )


def pairs(edges):
    return set(zip(edges.child.tolist(), edges.parent.tolist(), strict=True))


def loose(n, v, seed, numbers=3):
    """Nodes that follow a pose, each with scores and residuals of its own.

    Positions, scores, expected places; the pose depends on the first of the seeds alone.
    """
    pose = np.random.default_rng([*np.atleast_1d(seed)][:1]).standard_normal((n, numbers))
    rng = np.random.default_rng(seed)
    where = rng.uniform(20, 80, (v, 2))
    expected = where + 6 * np.einsum("nq,vqa->nva", pose, rng.standard_normal((v, numbers, 2)))
    scores = rng.gamma(2.0, 1.0, (n, v)) * (rng.random((n, v)) < 0.9)
    positions = expected + 4 * rng.standard_normal((n, v, 2))
    return positions, scores, expected


# ------------------------------------------------------------------------------------------ tracks


@given(n=st.integers(1, 7), v=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_tracks_are_the_formula(n, v, seed):
    positions, scores, expected = loose(n, v, seed)
    if seed % 3 == 0:
        scores[:, 0] = 0
    nodes = tracks((positions, scores, expected))
    assert nodes.table.shape == (n, v, 5)
    rows = nodes.table.read(slice(0, n)).numpy()
    assert_allclose(rows, np.concatenate([positions, scores[..., None], expected], 2), rtol=1e-6)
    for j in range(v):
        scale = sum(scores[:, j]) / n
        weight = [min(s / scale, MOST_WEIGHT) if scale else 0.0 for s in scores[:, j]]
        assert float(nodes.scale[j]) == pytest.approx(scale, rel=1e-5)
        if scale:
            mean = sum(w * p for w, p in zip(weight, positions[:, j], strict=True)) / sum(weight)
            assert_allclose(nodes.mean[j], mean, rtol=1e-4)


def test_one_strong_image_counts_at_most_twice():
    scores = np.array([[1.0], [1.0], [1.0], [97.0]])
    positions = np.array([[[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]], [[10.0, -4.0]]])
    nodes = tracks((positions, scores, positions))
    # mean score 25: weights 0.04, 0.04, 0.04 and 97 / 25 clipped to 2
    assert_allclose(nodes.mean[0], [20 / 2.12, -8 / 2.12], rtol=1e-6)


@pytest.mark.parametrize("n", [1, BLOCK, 2 * BLOCK + 7])
@pytest.mark.parametrize("folder", [False, True])
def test_keeping_only_some_nodes(n, folder, tmp_path):
    whole = loose(n, 5, 2)
    images = Images(n, folder=tmp_path if folder else None)
    few = tracks(whole).only(images, torch.tensor([3, 0, 4]))
    assert few.table.shape == (n, 3, 5)
    assert len(list(tmp_path.iterdir())) == folder
    alone = tracks([values[:, [3, 0, 4]] for values in whole])
    for one, other in zip(few.read(slice(0, n)), alone.read(slice(0, n)), strict=True):
        assert_array_equal(one, other)
    assert_allclose(few.mean, alone.mean, rtol=1e-6)
    assert_allclose(few.scale, alone.scale, rtol=1e-6)


# ------------------------------------------------------------------------------- what nodes say


def read_signs(nodes):
    """What nodes say in all images."""
    n, v = nodes.table.shape[:2]
    return habits.signs(nodes, AREA, slice(0, n), slice(0, v))


def test_exchanging_gives_every_node_another_image():
    say = read_signs(tracks(loose(40, 30, 0)))
    number = torch.arange(40.0)[:, None].expand(-1, 30)
    marked = Signs(number, torch.stack([number, -number], -1), say.expected)
    other = marked.exchanged(5)
    assert (other.weight != number).all()  # nothing stays
    assert_array_equal(other.weight.sort(0)[0], number)  # nothing is lost
    assert_array_equal(other.residual[..., 0], other.weight)  # what a node says stays together
    assert_array_equal(other.residual[..., 1], -other.weight)
    assert other.expected is say.expected
    assert len({tuple(column.tolist()) for column in other.weight.T}) > 15  # ways of their own
    assert_array_equal(marked.exchanged(5).weight, other.weight)
    assert not (marked.exchanged(6).weight == other.weight).all()


def test_a_single_image_can_not_be_exchanged():
    say = Signs(torch.ones(1, 3), torch.ones(1, 3, 2), torch.ones(1, 3, 2))
    for one, other in zip(say.exchanged(0), say, strict=True):
        assert_array_equal(one, other)


def shared_of(images, *layers):
    looks = [lambda here, some, t=t: habits.signs(t, AREA, here, some) for t in layers]
    return habits.shared_columns(images, looks, [len(t.scale) for t in layers], 0)


@pytest.mark.parametrize("numbers", [0, 1, 5])
def test_the_pose_shows_in_expected_places(numbers):
    n = 200
    below, above = (tracks(loose(n, v, [7, v], numbers)) for v in (9, 12))
    columns = shared_of(Images(n), below, above).read(slice(0, n)).double()
    assert_allclose(columns.T @ columns, np.eye(columns.shape[1]), atol=1e-4)
    # 1, the mean weight, the pose and its squares
    assert columns.shape[1] == 2 + 2 * numbers
    pose = np.random.default_rng(7).standard_normal((n, numbers))
    known = np.concatenate([np.ones((n, 1)), pose], 1)
    left = known - columns.numpy() @ (columns.numpy().T @ known)
    assert_allclose(left, 0, atol=2e-2)


def test_few_images_leave_little_room_for_the_pose():
    for n in (1, 2, 15, 16, 40):
        nodes = tracks(loose(n, 9, 7))
        assert shared_of(Images(n), nodes).shape[1] <= 2 + 2 * (n // 16)


def surprises_by_formula(nodes, shared):
    """Weight and residual beyond what was expected, at length 1: (N, V, 3), plainly."""
    positions, scores, expected = (np.asarray(x, dtype=np.float64) for x in nodes)
    n, v = scores.shape
    result = np.zeros((n, v, 3))
    for j in range(v):
        weight = np.minimum(scores[:, j] / scores[:, j].mean(), MOST_WEIGHT)
        x, y = ((expected[:, j] - np.average(positions[:, j], 0, weight)) / 10).T
        square = np.stack([np.ones(n), x, y, x * x, x * y, y * y], 1)

        def beyond(values, columns, ridge=0.0):
            square = columns.T @ columns + ridge * n * np.eye(columns.shape[1])
            return values - columns @ np.linalg.solve(square, columns.T @ values)

        score = beyond(beyond(weight, square, 1e-6), shared)
        pulled = weight[:, None] * (positions[:, j] - expected[:, j])
        place = beyond(beyond(pulled, weight[:, None] * square, 1e-6), shared)
        values, vectors = np.linalg.eigh(place.T @ place)
        values += 1e-3 * values.sum()  # what hardly varies counts for less
        result[:, j, 0] = score / np.linalg.norm(score)
        result[:, j, 1:] = place @ vectors @ np.diag(values**-0.5) @ vectors.T
    return result


@pytest.mark.parametrize("n", [70, BLOCK * 4 + 3])
def test_strengths_are_the_formula(n):
    below, above = loose(n, 6, [3, 0]), loose(n, 7, [3, 1])
    images = Images(n)
    nodes = [tracks(x) for x in (below, above)]
    shared = shared_of(images, *nodes)
    looks = [lambda here, some, t=t: habits.signs(t, AREA, here, some) for t in nodes]
    table = habits.tabulate(images, looks[1], 7, shared, 100.0)
    found = linking.find_candidates(images, looks[0], slice(0, 6), [table, table], shared, 100.0, 7)
    columns = shared.read(slice(0, n)).double().numpy()
    left, right = (surprises_by_formula(x, columns) for x in (below, above))
    fires = left[..., 0].T @ right[..., 0]
    sits = np.einsum("nva,nua->vu", left[..., 1:], right[..., 1:]) / 2
    strength = (fires + math.sqrt(2) * sits) / (1 + math.sqrt(2))
    assert_allclose(
        np.take_along_axis(strength, found.parent.numpy(), 1), found.strength, atol=2e-3
    )
    assert_allclose(found.strength, -np.sort(-strength, 1), atol=2e-3)
    assert_allclose(found.chance, found.strength)
    # what all is made of is as strong as can be with itself
    alone = linking.find_candidates(images, looks[1], slice(0, 7), [table] * 2, shared, 100.0, 1)
    assert_allclose(alone.strength[:, 0], 1, atol=2e-3)
    assert_array_equal(alone.parent[:, 0], np.arange(7))


@given(
    real=st.lists(st.floats(-1, 1, width=32), max_size=30),
    chance=st.lists(st.floats(-1, 1, width=32), max_size=60),
    exchanges=st.integers(1, 40),
)
@settings(max_examples=100, deadline=None)
def test_least_strength_is_the_formula(real, chance, exchanges):
    least = linking.least_strength(torch.tensor(real), torch.tensor(chance), exchanges)
    good = [
        t
        for t in real
        if t >= 0.01
        and (1 + sum(c >= t for c in chance)) / exchanges <= 0.05 * sum(r >= t for r in real)
    ]
    # 0.01 as float32
    assert least == (min(good) if good else math.inf) or abs(least - 0.01) < 1e-8


# ---------------------------------------------------------------------------------- what is found


def planted(n, v, seed, together, *, scores=False, places=False):
    """Nodes of one pose, of which some pairs (child i, parent i) go together beyond it."""
    below, above = loose(n, v, [seed, 0]), loose(n, v + 3, [seed, 1])
    rng = np.random.default_rng([seed, 2])
    for i in range(together):
        if scores:
            common = rng.gamma(2.0, 1.0, n)
            for nodes in (below, above):
                nodes[1][:, i] = common * rng.uniform(0.7, 1.3, n)
        if places:
            common = 4 * rng.standard_normal((n, 2))
            for nodes in (below, above):
                nodes[0][:, i] = nodes[2][:, i] + common + rng.standard_normal((n, 2))
        # at one thing: what has nothing to do with each other is not rigid
        offset = above[2][:, i].mean(0) - below[2][:, i].mean(0)
        moved = below[0][:, i] - below[2][:, i]
        below[2][:, i] = above[2][:, i] - offset
        below[0][:, i] = below[2][:, i] + moved
    return below, above


@pytest.mark.parametrize(("scores", "places"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("seed", range(3))
def test_pairs_that_go_together_are_found(scores, places, seed):
    below, above = planted(300, 30, seed, 12, scores=scores, places=places)
    edges = joined(below, above)
    true = {(i, i) for i in range(12)}
    assert pairs(edges) >= true
    assert len(pairs(edges) - true) <= 2
    found = edges.coactivation[edges.child == edges.parent]
    assert float(found.min()) > (0.7 if scores and places else 0.25)
    assert float(found.max()) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_moving_with_the_same_pose_is_no_edge(seed):
    """Rigid pairs, as the pose alone makes them."""
    below, above = planted(300, 30, seed, 30)
    distance = below[2] - above[2][:, :30]
    assert_allclose(distance.std(0), 0, atol=1e-6)
    assert len(joined(below, above).child) == 0


def test_what_pulls_all_nodes_alike_is_no_edge():
    """All fire more in some images, less and nearer to the middle at extreme poses."""
    n = 300
    below, above = loose(n, 25, [4, 0]), loose(n, 30, [4, 1])
    loud = np.random.default_rng(1).uniform(0.5, 1.5, n)[:, None]
    for positions, scores, expected in (below, above):
        away = expected - expected.mean(0)
        scores *= loud * np.exp(-((away / 40) ** 2).sum(-1))
        positions -= 0.4 * away
    assert len(joined(below, above).child) == 0


def test_few_edges_are_false():
    """With many candidates that go with nobody, and at the level of many draws."""
    false, all_edges, none = 0, 0, 0
    for seed in range(20):
        found = pairs(joined(*planted(120, 40, seed, 10, scores=True, places=True)))
        false += len(found - {(i, i) for i in range(10)})
        all_edges += len(found)
        none += len(joined(*planted(120, 40, 100 + seed, 0)).child) > 0
    assert all_edges >= 190
    assert false <= 0.08 * all_edges
    assert none <= 4


def test_a_child_has_its_strongest_parents():
    n, rng = 400, np.random.default_rng(0)
    below, above = loose(n, 4, [5, 0]), loose(n, 12, [5, 1])
    own = rng.standard_normal((n, 2)) * 4
    above = tuple(values.copy() for values in above)
    for k in range(8):  # the first say most exactly what child 0 says, all at the same place
        above[1][:, k] = below[1][:, 0]
        above[2][:, k] = below[2][:, 0]
        above[0][:, k] = below[2][:, 0] + own + (0.5 + 0.4 * k) * rng.standard_normal((n, 2))
    below[0][:, 0] = below[2][:, 0] + own
    edges = joined(below, above, 3)
    assert edges.child.tolist() == [0, 0, 0]
    assert edges.parent.tolist() == [0, 1, 2]
    assert (edges.coactivation.diff() < 0).all()
    assert joined(below, above, 1).parent.tolist() == [0]


# --------------------------------------------------------------------------------------- geometry


def weights_of(nodes):
    scores = nodes[1]
    return np.minimum(scores / scores.mean(0), MOST_WEIGHT)


def test_pairs_are_measured_as_the_formula_says():
    below, above = loose(75, 4, [6, 0]), loose(75, 5, [6, 1])
    child, parent = torch.tensor([0, 0, 2, 3]), torch.tensor([4, 1, 2, 0])
    strength = torch.tensor([0.9, 0.5, 0.3, 0.2])
    nodes = [tracks(x) for x in (below, above)]
    edges, distance = linking.measure(Images(75), *nodes, child, parent, strength)
    w_v, w_u = weights_of(below), weights_of(above)
    for e, (v, u) in enumerate(zip(child.tolist(), parent.tolist(), strict=True)):
        a, b, both = below[0][:, v], above[0][:, u], w_v[:, v] * w_u[:, u]
        mean_a, mean_b = np.average(a, 0, w_v[:, v]), np.average(b, 0, w_u[:, u])
        var_a = np.average(((a - mean_a) ** 2).sum(1), 0, w_v[:, v])
        var_b = np.average(((b - mean_b) ** 2).sum(1), 0, w_u[:, u])
        d = np.average((((a - mean_a) - (b - mean_b)) ** 2).sum(1), 0, both)
        offset = np.average(a - b, 0, both)
        assert float(edges.dx[e]) == pytest.approx(offset[0], abs=1e-3)
        assert float(edges.dy[e]) == pytest.approx(offset[1], abs=1e-3)
        assert float(edges.sigma[e]) == pytest.approx(math.sqrt(d / 2), rel=1e-4)
        assert float(edges.consistency[e]) == pytest.approx(1 - d / (var_a + var_b), abs=1e-4)
        usual = math.sqrt(np.average(((a - b) ** 2).sum(1), 0, both))
        assert float(distance[e]) == pytest.approx(usual, rel=1e-4)
    assert_array_equal(edges.coactivation, strength)


def some_edges(child, parent, consistency, strength):
    values = torch.zeros(len(child))
    index = (torch.tensor(child), torch.tensor(parent))
    return Edges(*index, values, values, values, torch.tensor(consistency), torch.tensor(strength))


def test_choosing():
    child = [1, 0, 0, 0, 0, 3, 3]
    parent = [7, 1, 2, 3, 4, 5, 6]
    edges = some_edges(
        child, parent, [0.5, 0.9, 0.9, 0.9, -0.1, 0.9, 0.9], [0.2, 0.5, 0.6, 0.3, 0.9, 0.8, 0.7]
    )
    distance = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 20.0, 5.0])
    every = linking.choose(edges, distance, 5, 20.0)
    # 4 moves less alike than chance has it; by child, the strongest first
    assert every.child.tolist() == [0, 0, 0, 1, 3, 3]
    assert every.parent.tolist() == [2, 1, 3, 7, 5, 6]
    two = linking.choose(edges, distance, 2, 20.0)
    assert two.parent.tolist() == [2, 1, 7, 5, 6]
    # among near-equal parents the near one
    one = linking.choose(edges, distance, 1, 20.0)
    assert one.parent.tolist() == [2, 7, 6]
    # what is less than half as good as the best is no edge
    weak = some_edges([0, 0, 0], [0, 1, 2], [0.9] * 3, [0.6, 0.31, 0.29])
    assert linking.choose(weak, torch.zeros(3), 5, 20.0).parent.tolist() == [0, 1]
    nothing = linking.choose(some_edges([0], [0], [-0.5], [0.9]), torch.zeros(1), 5, 20.0)
    assert len(nothing.child) == 0


# ----------------------------------------------------------------------------- however it is done


def assert_same(one, other):
    assert_array_equal(one.child, other.child)
    assert_array_equal(one.parent, other.parent)
    for a, b in zip(one[2:], other[2:], strict=True):
        assert_allclose(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("n", [150, 1100])
def test_where_tables_are_and_how_many_nodes_at_a_time_does_not_matter(n, tmp_path, monkeypatch):
    nodes = planted(n, 25, 3, 15, scores=True, places=True)
    at_once = joined(*nodes)
    assert len(at_once.child) >= 15
    assert_same(joined(*nodes, images=Images(n, folder=tmp_path)), at_once)
    monkeypatch.setattr(linking, "_CELLS", 7 * 28 * 21)
    monkeypatch.setattr(linking, "_MEASURED", 4)
    assert_same(joined(*nodes), at_once)


class Part:
    """One of two processes, whose sums are added up with those of the other, as it goes."""

    def __init__(self, rank, barrier, slots):
        self.size, self.rank, self._barrier, self._slots = 2, rank, barrier, slots

    def share(self, n):
        return range(n * self.rank // 2, n * (self.rank + 1) // 2)

    def sum(self, values):
        self._slots[self.rank] = list(values)
        self._barrier.wait(30)
        total = tuple(a + b for a, b in zip(*self._slots, strict=True))
        self._barrier.wait(30)
        return total


@pytest.mark.parametrize("n", [150, 1100])
def test_two_processes_link_alike(n):
    import threading
    from concurrent.futures import ThreadPoolExecutor

    nodes = planted(n, 25, 3, 15, scores=True, places=True)
    barrier, slots = threading.Barrier(2), [None, None]
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(joined, *nodes, images=Images(n, team=Part(rank, barrier, slots)))
            for rank in (0, 1)
        ]
        one, other = (job.result() for job in jobs)
    for a, b in zip(one, other, strict=True):
        assert_array_equal(a, b)
    assert_same(one, joined(*nodes))


def test_a_checkpoint_gives_the_same_again(tmp_path):
    from explgraph.activations.checkpoint import Checkpoint
    from explgraph.activations.processes import Team

    nodes = planted(150, 12, 3, 8, scores=True, places=True)

    def resumed():
        return joined(*nodes, images=Images(150, checkpoint=Checkpoint(tmp_path, {}, Team())))

    first = resumed()
    assert_same(first, joined(*nodes))
    for one, other in zip(resumed(), first, strict=True):
        assert_array_equal(one, other)


def test_the_same_seed_gives_the_same_edges():
    nodes = planted(150, 25, 3, 15, scores=True, places=True)
    for one, other in zip(joined(*nodes), joined(*nodes), strict=True):
        assert_array_equal(one, other)
    true = {(i, i) for i in range(15)}
    assert all(pairs(joined(*nodes, seed=seed)) >= true for seed in (1, 2**40))


def test_turning_shifting_and_scaling_change_nothing():
    below, above = planted(200, 20, 1, 12, scores=True, places=True)
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    plain = joined(below, above)
    other = joined(*((p @ turn + 30, 7 * s, e @ turn + 30) for p, s, e in (below, above)))
    assert pairs(other) == pairs(plain)
    assert_allclose(other.coactivation, plain.coactivation, atol=2e-3)
    assert_allclose(other.dx, -plain.dy, atol=1e-2)


# -------------------------------------------------------------------------------- degenerate data


def assert_nothing(edges):
    assert all(len(values) == 0 for values in edges)
    assert edges.child.dtype == edges.parent.dtype == torch.int64


@pytest.mark.parametrize("n", [1, 2, 3, 8, BLOCK, BLOCK + 1])
def test_few_images_tell_nothing(n):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        edges = joined(loose(n, 6, [8, 0]), loose(n, 5, [8, 1]))
    assert_nothing(edges)


@pytest.mark.parametrize(("v", "u"), [(0, 3), (3, 0), (0, 0)])
def test_without_nodes_there_are_no_edges(v, u):
    assert_nothing(joined(loose(40, v, [9, 0]), loose(40, u, [9, 1])))


def test_nodes_that_never_vary_have_no_edges():
    n = 60
    below, above = loose(n, 5, [10, 0]), loose(n, 4, [10, 1])
    still = [(e, np.ones_like(s), e) for _, s, e in (below, above)]
    assert_nothing(joined(*still))
    nailed = [(np.full_like(e, 50), np.ones_like(s), np.full_like(e, 50)) for _, s, e in still]
    assert_nothing(joined(*nailed))
    silent = [(e, np.zeros_like(s), e) for e, s, _ in still]
    assert_nothing(joined(*silent))
    assert_nothing(joined(below, nailed[1]))


def test_still_and_silent_nodes_among_others_stay_alone():
    below, above = planted(200, 15, 2, 10, scores=True, places=True)
    for positions, scores, expected in (below, above):
        scores[:, 0] = 0
        scores[:, 1] = 1
        positions[:, 1] = expected[:, 1] = 50
        positions[:, 2, 1] = expected[:, 2, 1]  # moves along one axis only
    edges = joined(below, above)
    assert all(bool(values.isfinite().all()) for values in edges)
    assert not set(edges.child.tolist()) & {0, 1}
    assert not set(edges.parent.tolist()) & {0, 1}
    assert pairs(edges) >= {(i, i) for i in range(2, 10)}


def test_tracks_are_a_record():
    assert Tracks._fields == ("table", "mean", "scale")
    assert Edges._fields == (
        "child", "parent", "dx", "dy", "sigma", "consistency", "coactivation"
    )  # fmt: skip
