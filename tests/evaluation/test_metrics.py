"""Each measure against hand-computed cases and plain loops, and what each of them rewards."""

import itertools

import numpy as np
import pytest

from explgraph.errors import ExplgraphError
from explgraph.evaluation import metrics as m
from explgraph.evaluation.baselines import constant_grid

SIZE = (200, 150)  # H, W: diagonal 250
DIAGONAL = 250.0


def world(n=60, v=30, seed=0, noise=10.0, marked=1.0):
    """Nodes that follow a landmark from some offset, more or less well, and their scores."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(20, 130, (n, 2))
    gain = rng.uniform(0, 1, (v, 1))
    places = 75 + gain * (truth[:, None] - 75) + rng.normal(0, noise, (n, v, 2))
    landmarks = np.where(rng.random((n, 1)) < marked, truth, np.nan)
    return places, rng.gamma(2.0, 1.0, (n, v)), landmarks


# ------------------------------------------------------------------------------------ instability


def test_instability_by_hand():
    landmarks = np.array([[0.0, 0.0]] * 3)
    places = np.array([[[3, 4], [0, 0]], [[6, 8], [0, 0]], [[0, 100], [0, 9]]], dtype=float)
    scores = np.array([[3, 1], [2, 1], [1, 1]], dtype=float)
    # node 0 on its two best images: distances 5 and 10, std with ddof 1 = 5 / sqrt 2
    # node 1 ties everywhere: the first two images, both at distance 0
    both = m.location_instability(places, scores, landmarks, SIZE, images=2)
    assert both == pytest.approx(5 / np.sqrt(2) / DIAGONAL / 2, rel=1e-12)
    strongest = m.location_instability(places, scores, landmarks, SIZE, images=2, nodes=1)
    assert strongest == pytest.approx(5 / np.sqrt(2) / DIAGONAL, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_instability_against_loops(seed):
    places, scores, landmarks = world(n=40, v=25, seed=seed, marked=0.8)
    rows = [i for i in range(40) if not np.isnan(landmarks[i, 0])]
    ranked = []
    for v in range(25):
        images = sorted(rows, key=lambda i: -scores[i, v])[:20]
        distances = [np.hypot(*(places[i, v] - landmarks[i])) for i in images]
        mean = sum(distances) / 20
        spread = (sum((d - mean) ** 2 for d in distances) / 19) ** 0.5
        ranked.append((sum(scores[i, v] for i in images) / 20, spread))
    kept = [spread for _, spread in sorted(ranked, reverse=True)[:10]]
    result = m.location_instability(places, scores, landmarks, SIZE, nodes=10)
    assert result == pytest.approx(sum(kept) / 10 / DIAGONAL, rel=1e-12)


def test_instability_rewards_frozen_nodes_and_tracking_does_not():
    """The trap: a part circles around a point that never moves, at a constant distance."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 100)
    landmarks = 75 + 40 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    frozen = np.full((100, 20, 2), 75.0)
    follower = landmarks[:, None] + rng.normal(0, 5, (100, 20, 2))
    scores = np.ones((100, 20))
    assert m.location_instability(frozen, scores, landmarks, SIZE) == pytest.approx(0, abs=1e-12)
    assert m.location_instability(follower, scores, landmarks, SIZE) > 0.01
    assert m.tracking(frozen, landmarks) == pytest.approx(0, abs=1e-12)
    assert m.tracking(follower, landmarks) == pytest.approx(1 - 25 / 800, abs=0.01)
    assert m.few_shot_error(frozen, scores, landmarks, SIZE, 3) > 0.15
    assert m.few_shot_error(follower, scores, landmarks, SIZE, 3) < 0.02


# --------------------------------------------------------------------------------------- tracking


def test_a_constant_point_tracks_exactly_nothing():
    _, _, landmarks = world()
    grid, _ = constant_grid(60, SIZE)
    assert m.tracking(grid, landmarks) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(m.node_tracking(grid, landmarks), 0, atol=1e-12)


def test_a_perfect_follower_has_one_wherever_it_sits():
    _, _, landmarks = world()
    places = landmarks[:, None] + np.array([[0.0, 0.0], [40, -7], [-300, 90]])
    assert m.tracking(places, landmarks) == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(m.node_tracking(places, landmarks), 1, atol=1e-12)


def test_a_node_that_moves_the_wrong_way_is_worse_than_a_constant():
    _, _, landmarks = world()
    places = 100 - landmarks[:, None]
    # residual = 100 - 2 landmark: four times the variance
    np.testing.assert_allclose(m.node_tracking(places, landmarks), -3)
    assert m.tracking(places, landmarks) == pytest.approx(-3)


@pytest.mark.parametrize("seed", range(5))
def test_tracking_against_loops(seed):
    places, _, landmarks = world(n=41, v=30, seed=seed, marked=0.9)
    rows = np.flatnonzero(~np.isnan(landmarks[:, 0]))
    rng = np.random.default_rng(7)
    values = []
    for _ in range(5):
        order = rows[rng.permutation(len(rows))]
        first, second = order[: len(rows) // 2], order[len(rows) // 2 :]

        def variance(points):
            mean = sum(points) / len(points)
            return sum(((p - mean) ** 2).sum() for p in points) / len(points)

        by_node = [variance([places[i, v] - landmarks[i] for i in first]) for v in range(30)]
        chosen = sorted(range(30), key=by_node.__getitem__)[:20]
        error = sum(variance([places[i, v] - landmarks[i] for i in second]) for v in chosen) / 20
        values.append(1 - error / variance([landmarks[i] for i in second]))
    result = m.tracking(places, landmarks, seed=7)
    assert result == pytest.approx(sum(values) / 5, rel=1e-10)


def test_choosing_among_many_random_nodes_gains_nothing():
    """Nodes are judged on images on which they weren't chosen."""
    rng = np.random.default_rng(0)
    landmarks = rng.uniform(50, 100, (40, 2))
    places = rng.uniform(70, 80, (40, 3000, 2))
    assert np.nanmax(m.node_tracking(places, landmarks)) > 0.1  # some fit by luck
    assert m.tracking(places, landmarks) < 0.02


# --------------------------------------------------------------------------------------- few shots


def test_scores_are_normalised_by_their_top_fifth():
    scores = np.array([[10, 0], [8, 0], [1, 0], [0, 0], [4, 0], [0, 0], [0, 0], [0, 0], [0, 0]])
    # nine images: the top fifth is one image
    np.testing.assert_allclose(m.normalised_scores(scores)[:, 0], scores[:, 0] / 10)
    np.testing.assert_array_equal(m.normalised_scores(scores)[:, 1], 0)
    many = np.concatenate([[100.0], np.ones(19)])[:, None]  # top fifth: 100, 1, 1, 1
    np.testing.assert_allclose(m.normalised_scores(many)[:2, 0], [2, 1 / 25.75])


def slow_few_shot(places, scores, landmarks, k, near=False, draws=3, nodes=60):
    """The same voter, one number at a time."""
    n, v = scores.shape
    z = np.zeros((n, v))
    for j in range(v):
        top = sorted(scores[:, j])[-(n // 5) :]
        z[:, j] = [min(2.0, s / (sum(top) / len(top))) for s in scores[:, j]]
    rows = np.flatnonzero(~np.isnan(landmarks[:, 0]))
    rng = np.random.default_rng(0)
    draw_errors = []
    for _ in range(draws):
        order = rows[rng.permutation(len(rows))]
        shots, rest = order[:k], order[k:]
        mean = sum(landmarks[i] for i in shots) / k
        prior = 100.0
        if k > 1:
            prior += sum(((landmarks[i] - mean) ** 2).sum() for i in shots) / (k - 1)
        offsets, variances = [], []
        for j in range(v):
            w = [z[i, j] + 1e-3 for i in shots]
            gaps = [landmarks[i] - places[i, j] for i in shots]
            o = sum(a * g for a, g in zip(w, gaps, strict=True)) / sum(w)
            spread = sum(a * ((g - o) ** 2).sum() for a, g in zip(w, gaps, strict=True))
            p = 400 + 0.3 * (o**2).sum() if near else prior
            offsets.append(o)
            variances.append((spread + 3 * p) / (sum(w) + 3))
        voters = sorted(range(v), key=variances.__getitem__)[:nodes]
        errors = []
        for i in rest:
            weight = [z[i, j] / variances[j] ** 2 + 1e-12 for j in voters]
            votes = [places[i, j] + offsets[j] for j in voters]
            at = sum(a * b for a, b in zip(weight, votes, strict=True)) / sum(weight)
            for _ in range(5):
                pull = [a / (np.hypot(*(b - at)) + 5) for a, b in zip(weight, votes, strict=True)]
                at = sum(a * b for a, b in zip(pull, votes, strict=True)) / sum(pull)
            errors.append(np.hypot(*(at - landmarks[i])))
        draw_errors.append(sum(errors) / len(errors))
    return sum(draw_errors) / draws / DIAGONAL


@pytest.mark.parametrize(("k", "near"), list(itertools.product((1, 3, 10), (False, True))))
def test_few_shot_against_loops(k, near):
    places, scores, landmarks = world(n=31, v=20, seed=k, marked=0.9)
    fast = m.few_shot_error(
        places, scores, landmarks, SIZE, k, prior="near" if near else "neutral", draws=3, nodes=8
    )
    slow = slow_few_shot(places, scores, landmarks, k, near, nodes=8)
    assert fast == pytest.approx(slow, rel=1e-10)


def test_a_constant_predicts_the_mean_of_the_shots():
    rng = np.random.default_rng(3)
    landmarks = rng.uniform(0, 150, (30, 2))
    grid, _ = constant_grid(30, SIZE, rows=3, columns=3)
    error = m.few_shot_error(grid, np.ones((30, 9)), landmarks, SIZE, 4)
    rng = np.random.default_rng(0)
    expected = []
    for _ in range(20):
        order = rng.permutation(30)
        guess = landmarks[order[:4]].mean(axis=0)
        expected.append(np.linalg.norm(landmarks[order[4:]] - guess, axis=1).mean())
    assert error == pytest.approx(np.mean(expected) / DIAGONAL, rel=1e-9)


def test_a_perfect_follower_needs_one_shot_and_the_voter_finds_it_among_noise():
    places, scores, landmarks = world(n=80, v=200)
    exact = landmarks[:, None] + np.array([[30.0, -20.0]])
    alone = m.few_shot_error(exact, scores[:, :1], landmarks, SIZE, 1)
    assert alone == pytest.approx(0, abs=1e-12)
    rng = np.random.default_rng(1)
    noise = rng.uniform(0, 150, places.shape)
    mixed = np.concatenate([noise, np.repeat(exact, 20, axis=1)], axis=1)
    weights = np.ones(mixed.shape[:2])
    assert m.few_shot_error(mixed, weights, landmarks, SIZE, 10) < 0.06
    assert m.few_shot_error(noise, weights[:, :200], landmarks, SIZE, 10) > 0.15


def test_geometric_median_ignores_a_minority():
    votes = np.array([[[0.0, 0.0]] * 7 + [[100.0, 0.0]] * 3])
    found = m._geometric_median(votes, np.ones((1, 10)))
    assert found[0, 0] < 12 < 30  # the mean is 30
    assert found[0, 1] == 0


def test_few_shot_without_images_left_is_nan_and_wrong_shots_are_refused():
    places, scores, landmarks = world(n=10)
    assert np.isnan(m.few_shot_error(places, scores, landmarks, SIZE, 10))
    with pytest.raises(ExplgraphError, match="shots must be at least 1, found 0"):
        m.few_shot_error(places, scores, landmarks, SIZE, 0)


# ------------------------------------------------------------------------------------- invariances


def test_permuting_nodes_and_moving_everything_changes_nothing():
    places, scores, landmarks = world(v=80, marked=0.9)
    row = m.table_row(places, scores, landmarks, SIZE)
    order = np.random.default_rng(1).permutation(80)
    shuffled = m.table_row(places[:, order], scores[:, order], landmarks, SIZE)
    assert shuffled == pytest.approx(row, rel=1e-9)
    shift = np.array([13.0, -40.0])
    moved = m.table_row(places + shift, scores, landmarks + shift, SIZE)
    assert moved == pytest.approx(row, rel=1e-9)
    assert m.table_row(places, 7 * scores, landmarks, SIZE) == pytest.approx(row, rel=1e-9)


def test_errors_scale_with_the_diagonal():
    places, scores, landmarks = world()
    row = m.table_row(places, scores, landmarks, SIZE)
    wide = m.table_row(places, scores, landmarks, (400, 300))
    assert wide["instability"] == pytest.approx(row["instability"] / 2)
    assert wide["3-shot"] == pytest.approx(row["3-shot"] / 2)
    assert wide["tracking"] == row["tracking"]


def test_table_row_has_every_measure():
    places, scores, landmarks = world(n=30, marked=0.8)
    row = m.table_row(places, scores, landmarks, SIZE, shots=(1, 3))
    assert list(row) == [
        "nodes", "images", "instability", "tracking", "1-shot", "3-shot", "1-shot near",
        "3-shot near",
    ]  # fmt: skip
    assert row["nodes"] == 30
    assert row["images"] == (~np.isnan(landmarks[:, 0])).sum()
    assert row["3-shot"] == m.few_shot_error(places, scores, landmarks, SIZE, 3)
    empty = m.table_row(places[:, :0], scores[:, :0], landmarks, SIZE, shots=(1, 3))
    assert list(empty) == list(row)
    assert np.isnan(empty["tracking"])


def test_too_few_images_give_nan_not_warnings():
    places, scores, _ = world(n=5)
    unmarked = np.full((5, 2), np.nan)
    row = m.table_row(places, scores, unmarked, SIZE)
    assert row["images"] == 0
    assert all(np.isnan(row[k]) for k in row if k not in ("nodes", "images"))
    assert np.isnan(m.tracking(places, np.full((5, 2), 3.0)))  # nothing to follow
    assert np.isnan(m.node_tracking(places, unmarked)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": np.zeros((5, 3))}, r"positions must be \(images, nodes, 2\).*\(5, 3\)"),
        ({"landmarks": np.zeros((4, 2))}, r"landmarks must be \(5, 2\).*\(4, 2\).*NaN"),
        ({"scores": np.zeros((5, 4))}, r"scores must be \(5, 3\).*\(5, 4\)"),
        ({"scores": -np.ones((5, 3))}, "scores must be finite and not negative"),
        ({"positions": np.full((5, 3, 2), np.nan)}, "positions must be finite"),
    ],
)
def test_wrong_arrays_are_named(change, message):
    arrays = {
        "positions": np.zeros((5, 3, 2)),
        "scores": np.zeros((5, 3)),
        "landmarks": np.zeros((5, 2)),
    } | change
    with pytest.raises(ExplgraphError, match=message):
        m.table_row(*arrays.values(), SIZE)
