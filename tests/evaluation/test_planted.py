"""Which planted parts have nodes of their own."""

import numpy as np
import pytest

from explgraph.evaluation.planted import node_parts, part_shares, planted_parts, relations_recovered


def planted(n=60, seed=0):
    """Two parts and a third that is often absent; nodes: eye, foot, centre, one that switches."""
    rng = np.random.default_rng(seed)
    eye = rng.uniform(20, 60, (n, 2))
    foot = rng.uniform(90, 140, (n, 2))
    horn = np.where(rng.random((n, 1)) < 0.5, eye + np.array([0, -15]), np.nan)
    parts = {"eye": eye, "foot": foot, "horn": horn}
    switching = np.where(rng.random((n, 1)) < 0.6, eye, foot)
    places = np.stack(
        [eye + rng.normal(0, 1, (n, 2)), foot + np.array([3, 0]), np.full((n, 2), 75.0), switching],
        axis=1,
    )
    return places, np.ones((n, 4)), parts


def test_part_shares_by_hand():
    places, scores, parts = planted()
    shares = part_shares(places, scores, parts)
    assert shares.shape == (4, 3)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert shares[0].tolist() == [1, 0, 0]
    assert shares[1].tolist() == [0, 1, 0]
    at_eye = (places[:, 3] == parts["eye"]).all(axis=1).mean()
    np.testing.assert_allclose(shares[3], [at_eye, 1 - at_eye, 0])
    # where a node doesn't fire it isn't judged
    quiet = scores.copy()
    quiet[~(places[:, 3] == parts["eye"]).all(axis=1), 3] = 0.1
    assert part_shares(places, quiet, parts)[3].tolist() == [1, 0, 0]
    assert part_shares(places, 0 * scores, parts).sum() == 0


def test_a_part_that_is_nowhere_is_not_followed():
    rng = np.random.default_rng(0)
    places, scores = rng.uniform(0, 50, (12, 3, 2)), np.ones((12, 3))
    report = planted_parts(places, scores, {"a": places[:, 0], "b": np.full((12, 2), np.nan)})
    assert report["a"].followed
    assert not report["b"].followed
    assert np.isnan(report["b"].error)


def test_planted_parts_are_followed_by_their_own_node_only():
    places, scores, parts = planted()
    report = planted_parts(places, scores, parts)
    assert {k: (r.node, r.followed) for k, r in report.items()} == {
        "eye": (0, True),
        "foot": (1, True),
        "horn": (0, False),  # tracked, from the eye: impure
    }
    assert report["foot"].tracking == pytest.approx(1)
    assert report["foot"].error == pytest.approx(0, abs=1e-9)  # its offset is taken off
    assert report["eye"].error < 3
    assert report["horn"].tracking > 0.9
    assert report["horn"].purity == 0


def test_nodes_are_chosen_and_measured_on_different_images():
    """A node that follows a part on the choosing half alone isn't counted."""
    places, scores, parts = planted()
    order = np.random.default_rng(0).permutation(60)
    cheat = places.copy()
    cheat[order[30:], 1] = 75.0
    assert planted_parts(places, scores, parts)["foot"].followed
    assert not planted_parts(cheat, scores, parts)["foot"].followed


def test_node_parts_and_relations():
    places, _, parts = planted()
    names = node_parts(places, parts, min_tracking=0.9)
    assert names[1:3] == ["foot", None]
    assert names[0] in ("eye", "horn")
    labels = ["eye", "head", "foot", None]
    relations = [("eye", "head"), ("foot", "leg"), ("head", "foot")]
    assert relations_recovered([(1, 0), (2, 3)], labels, relations) == pytest.approx(1 / 3)
    assert relations_recovered([], labels, relations) == 0
    assert np.isnan(relations_recovered([], labels, []))
