"""How nodes vote, by the formulas written out again."""

import numpy as np
import pytest

from explgraph.answers import voting
from explgraph.answers.voting import Nodes, Template
from explgraph.evaluation.metrics import normalised_scores, top_scores

DIAGONAL = 200.0


def random_nodes(rng, v):
    follows = np.where(rng.random(v) < 0.5, 0.0, rng.random(v))
    return Nodes(
        np.ones(v), rng.random(v), follows, rng.uniform(50, 500, v), DIAGONAL, np.ones(v, bool)
    )


@pytest.mark.parametrize("seed", range(4))
def test_stray_is_half_the_mean_variance_of_differences(seed):
    rng = np.random.default_rng(seed)
    positions, strengths = rng.uniform(0, 150, (12, 5, 2)), rng.uniform(0, 2, (12, 5))
    found = voting.stray(positions, strengths, DIAGONAL)
    w = np.clip(strengths, 0.05, 2)
    for v in range(5):
        variances = []
        for u in range(5):
            weight = w[:, v] * w[:, u]
            gap = positions[:, v] - positions[:, u]
            mean = np.average(gap, axis=0, weights=weight)
            variances.append(np.average(((gap - mean) ** 2).sum(1), weights=weight))
        known, usual = 5 / voting.VOTERS, (0.1 * DIAGONAL) ** 2  # few nodes tell little
        mixed = known * np.mean(variances) / 2 + (1 - known) * usual
        assert found[v] == pytest.approx(max(mixed, 0.01 * usual))


def test_strays_need_images():
    assert voting.stray(np.zeros((2, 3, 2)), np.ones((2, 3)), DIAGONAL).tolist() == [400.0] * 3


@pytest.mark.parametrize("seed", range(4))
def test_a_template_is_the_formula(seed):
    rng = np.random.default_rng(seed)
    nodes = random_nodes(rng, 6)
    positions, strengths = rng.uniform(0, 150, (3, 6, 2)), rng.uniform(0, 2, (3, 6))
    marks = rng.uniform(0, 150, (3, 2))
    sums = voting.shot_sums(positions, strengths, marks)
    found = voting.fit_template(nodes, sums.sum(axis=0), 3)
    spreads = {}
    for v in range(6):
        weight = strengths[:, v] + 1e-3
        gap = marks - positions[:, v]
        offset = np.average(gap, axis=0, weights=weight)
        around = (weight * ((gap - offset) ** 2).sum(1)).sum()
        near = (0.063 * DIAGONAL) ** 2 + (gap**2).sum(1).mean()
        expected = 1.6 * nodes.stray[v] ** 0.75 * 400**0.25 * (near / 800) ** 1.5
        if nodes.follows[v] > 0:
            expected *= np.exp(-3 * (nodes.reliability[v] - 0.4))
        else:  # a still node misses by as much as parts move
            expected = max(expected, 800)
        spreads[v] = (around + 3 * expected) / (weight.sum() + 3)
        row = found.voters.tolist().index(v)
        np.testing.assert_allclose(found.offset[row], offset)
        assert found.spread[row] == pytest.approx(spreads[v])
    assert found.voters.tolist() == sorted(spreads, key=spreads.get)


def test_near_reliable_steady_nodes_are_trusted():
    reliability = np.array([0.5, 0.9, 0.5, 0.5, 0.9])
    follows = np.array([0.5, 0.5, 0.5, 0.5, 0])
    stray = np.array([100, 100, 400, 100, 1.0])
    nodes = Nodes(np.ones(5), reliability, follows, stray, 100, np.ones(5, bool))
    spread = voting.expected_spread(nodes, np.array([100.0, 100, 100, 2500, 100]))
    assert spread[1] < spread[0] < spread[2]
    assert spread[0] < spread[3]
    assert spread[4] >= 2 * 10**2  # what stands still is steady, and knows nothing of the part


def test_the_place_is_where_weighted_votes_balance():
    """At the answer the robust weights' mean is the answer itself, found by many more steps."""
    rng = np.random.default_rng(0)
    spread = rng.uniform(50, 200, 9)
    template = Template(np.arange(9), rng.normal(size=(9, 2)) * 10, spread)
    positions = 80 - template.offset + rng.normal(size=(4, 9, 2)) * np.sqrt(spread)[:, None] / 2
    strengths = rng.uniform(0.5, 2, (4, 9))
    place, scatter, support = voting.vote(template, positions, strengths)
    for i in range(4):
        votes, y = positions[i] + template.offset, place[i]
        for _ in range(500):
            square = ((votes - y) ** 2).sum(1)
            weight = strengths[i] / spread / (1 + square / (0.5 * spread))
            y = np.average(votes, axis=0, weights=weight)
        assert np.linalg.norm(place[i] - y) < 0.5
        square = ((votes - place[i]) ** 2).sum(1)
        weights = strengths[i] / spread
        alone = 9 / voting.VOTERS  # the rest of what 60 votes would scatter by is expected
        mean = alone * np.average(square, weights=weights)
        rms = np.sqrt(mean + (1 - alone) * np.average(spread, weights=weights))
        assert scatter[i] == pytest.approx(rms)
        agree = strengths[i] / (1 + square / (0.5 * spread))
        assert support[i] == pytest.approx(np.average(agree, weights=1 / spread))


def test_far_votes_do_not_move_the_place():
    template = Template(np.arange(10), np.zeros((10, 2)), np.full(10, 25.0))
    positions = np.full((1, 10, 2), 50.0)
    positions[0, 7:] = 190.0
    place, *_ = voting.vote(template, positions, np.ones((1, 10)))
    np.testing.assert_allclose(place, [[50, 50]], atol=0.5)


def test_residuals_are_a_gaussian_process():
    rng = np.random.default_rng(1)
    nodes = random_nodes(rng, 3)
    positions, place = rng.uniform(0, 40, (5, 3, 2)), rng.uniform(0, 40, (5, 2))
    marks = place + rng.normal(size=(5, 2)) * 10
    new, voted = rng.uniform(0, 40, (2, 3, 2)), rng.uniform(0, 40, (2, 2))

    def covariance(p, y, q, z):
        around = ((p - y) - (q - z)) ** 2
        square = around.sum() / 3 / 2 + ((y - z) ** 2).sum() / 2
        return (0.063 * DIAGONAL) ** 2 * np.exp(-square / 2 / (0.126 * DIAGONAL) ** 2)

    known = np.array(
        [[covariance(p, y, q, z) for q, z in zip(positions, place, strict=True)]
         for p, y in zip(positions, place, strict=True)]
    )  # fmt: skip
    known += (0.047 * DIAGONAL) ** 2 * np.eye(5)
    residual = voting.fit_residual(nodes, positions, place, marks)
    found = voting.correct(residual, new, voted, DIAGONAL)
    for i in range(2):
        row = [covariance(new[i], voted[i], q, z) for q, z in zip(positions, place, strict=True)]
        np.testing.assert_allclose(
            found[i], voted[i] + row @ np.linalg.inv(known) @ (marks - place), rtol=1e-8
        )
    # poses unlike all shots are left as they were voted
    far = voting.correct(residual, new + 5000, voted, DIAGONAL)
    np.testing.assert_allclose(far, voted, atol=1e-6)


def test_scores_are_divided_by_their_top_fifth():
    scores = np.arange(20.0)[:, None] * [1, 0]
    top = top_scores(scores)
    assert top[0] == pytest.approx(17.5)
    assert normalised_scores(scores, top)[:, 1].tolist() == [0] * 20
    assert normalised_scores(np.array([[100.0, 1]]), top)[0].tolist() == [2, 2]
