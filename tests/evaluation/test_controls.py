"""What tells echoes and decoys from nodes that know something."""

import numpy as np
import pytest

from explgraph.errors import ExplgraphError
from explgraph.evaluation import controls

SIZE = (200, 150)  # H, W: diagonal 250


def test_derangements_leave_nothing_in_place_and_are_uniform():
    rng = np.random.default_rng(0)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(9000):
        order = tuple(controls.derangement(4, rng).tolist())
        assert sorted(order) == [0, 1, 2, 3]
        assert all(i != j for i, j in enumerate(order))
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 9  # all derangements of four
    assert max(counts.values()) - min(counts.values()) < 250
    with pytest.raises(ExplgraphError, match="at least two images"):
        controls.derangement(1, rng)


def test_permuted_filters_keep_the_others_and_move_each_by_its_own_permutation():
    maps = np.random.default_rng(0).random((12, 6, 3, 3)).astype(np.float32)
    chosen = np.arange(6) % 2 == 1
    exchanged = controls.permuted_filters(maps, chosen, np.random.default_rng(1))
    np.testing.assert_array_equal(exchanged[:, ::2], maps[:, ::2])
    orders = []
    for c in (1, 3, 5):
        matches = (exchanged[:, None, c] == maps[None, :, c]).all(axis=(2, 3))
        assert (matches.sum(axis=1) == 1).all()
        assert not matches.diagonal().any()
        orders.append(tuple(matches.argmax(axis=1)))
    assert len(set(orders)) == 3


def toy_evidence(own, n=80, v=40, seed=0):
    """Nodes that follow a part by their parents' word and, as far as `own` goes, by their maps."""
    rng = np.random.default_rng(seed)
    landmarks = rng.uniform(20, 130, (n, 2))
    expected = landmarks[:, None] + rng.normal(0, 15, (n, v, 2))
    evidence = landmarks[:, None] + rng.normal(0, 4, (n, v, 2))
    scores = np.ones((n, v))
    order = controls.derangement(n, rng)
    places = (1 - own) * expected + own * evidence
    shuffled = (1 - own) * expected + own * evidence[order]
    return controls.evidence_rows(
        places, scores, expected, shuffled, scores, landmarks, SIZE, shots=(3,)
    )


def test_an_echo_is_exposed_by_shuffled_evidence_and_by_its_prior():
    echo, real = toy_evidence(own=0.02), toy_evidence(own=0.9)
    assert list(echo) == ["nodes", "evidence shuffled", "prior only"]
    # by the table alone the echo looks like a good tracker ...
    assert echo["nodes"]["tracking"] > 0.5
    # ... but it is as good with other images' evidence, and no better than its prior
    assert echo["evidence shuffled"]["tracking"] > echo["nodes"]["tracking"] - 0.05
    assert echo["nodes"]["3-shot"] > 0.95 * echo["prior only"]["3-shot"]
    assert real["evidence shuffled"]["tracking"] < 0
    assert real["nodes"]["3-shot"] < 0.75 * real["evidence shuffled"]["3-shot"]
    assert real["nodes"]["3-shot"] < 0.95 * real["prior only"]["3-shot"]


def test_best_and_decoy_share_by_hand():
    reliability = [0.1, 0.9, 0.5, 0.9, 0.2, 0.3, 0.0, 0.05]
    assert controls.best(reliability, 0.25).tolist() == [1, 3]
    assert controls.best(reliability, 0.5).tolist() == [1, 3, 2, 5]
    assert controls.best(reliability, 1e-6).tolist() == [1]
    decoy = [True, False, False, True, True, False, True, True]
    assert controls.decoy_share(reliability, decoy) == 0.5
    assert controls.decoy_share(reliability, decoy, share=0.5) == 0.25
    assert np.isnan(controls.decoy_share([], []))


def test_energy_share_by_hand():
    # filter 0 (total 6): two nodes explain 1/2 and 1/3; filter 1 (total 4) has no node
    assert controls.energy_share([0.5, 1 / 3], [0, 0], [6.0, 4.0]) == pytest.approx(5 / 10)
    assert np.isnan(controls.energy_share([], [], [0.0]))


def test_found_again_needs_the_same_filter_movement_and_place():
    rng = np.random.default_rng(0)
    walk = rng.normal(0, 10, (50, 2))
    a = np.stack(
        [
            walk + np.array([50, 50]),
            walk + np.array([90, 90]),
            walk + np.array([20, 20]),
            np.full((50, 2), 5.0),
        ],
        axis=1,
    )
    b = np.stack(
        [
            walk + np.array([52, 50]) + rng.normal(0, 1, (50, 2)),  # filter 0: found
            rng.normal(90, 10, (50, 2)),  # filter 1: same place, own movement
            walk + np.array([60, 20]),  # filter 2: moves alike, 40 px away (bound: 25)
            np.full((50, 2), 5.0),  # filter 3: neither ever moves
            walk + np.array([90, 90]),  # right for node 1, but on filter 9
        ],
        axis=1,
    )
    found = controls.found_again(a, [("l", 0), ("l", 1), ("l", 2), ("l", 3)], b,
                          [("l", 0), ("l", 1), ("l", 2), ("l", 3), ("l", 9)], SIZE)  # fmt: skip
    assert found.tolist() == [True, False, False, False]


def test_found_again_against_corrcoef():
    rng = np.random.default_rng(1)
    base = rng.normal(0, 10, (40, 1, 2))
    a = base + rng.normal(0, 8, (40, 30, 2))
    b = base + rng.normal(0, 8, (40, 25, 2))
    fa, fb = rng.integers(0, 4, 30), rng.integers(0, 4, 25)
    found = controls.found_again(a, fa.tolist(), b, fb.tolist(), SIZE, min_correlation=0.6)
    for v in range(30):
        correlations = [
            np.corrcoef((a[:, v] - a[:, v].mean(0)).ravel(), (b[:, u] - b[:, u].mean(0)).ravel())[
                0, 1
            ]
            for u in range(25)
            if fa[v] == fb[u]
        ]
        assert found[v] == (max(correlations, default=0) > 0.6)
    assert 0 < found.mean() < 1
