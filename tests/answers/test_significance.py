"""Regression and permutation p-values against other formulas and simulations."""

import numpy as np
import pytest
from scipy import stats

from explgraph import ExplgraphError
from explgraph.answers.significance import permutation_p, regression_weights

NAMES = ("a", "b", "c", "d")


def labels_of(seed, n=200):
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 4)) < 0.5
    labels[:, 1] = np.where(rng.random(n) < 0.9, labels[:, 0], ~labels[:, 0])
    return labels


def nothing():
    return np.zeros((4, 4), int)


@pytest.mark.parametrize("seed", range(3))
def test_weights_give_the_coefficients_of_least_squares(seed):
    labels = labels_of(seed)
    outputs = np.random.default_rng(seed).normal(size=(200, 3))
    design = np.column_stack([np.ones(200), labels])
    expected = np.linalg.lstsq(design, outputs, rcond=None)[0][1:]
    np.testing.assert_allclose(regression_weights(labels, NAMES) @ outputs, expected, atol=1e-12)


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_p_values_agree_with_the_t_test(margin):
    rng = np.random.default_rng(5)
    labels = labels_of(5)
    truth = np.array([[2, 0.3, 0, 0], [0.6, 1, -0.6, 0], [0, 0, 1, 0], [0, 0.4, 0, 1]])
    outputs = labels @ truth.T + rng.normal(size=(200, 4))
    weights = regression_weights(labels, NAMES)
    p = permutation_p(outputs, labels, weights, nothing(), margin, permutations=4000, seed=0)
    design = np.column_stack([np.ones(200), labels])
    fit, rest, *_ = np.linalg.lstsq(design, outputs, rcond=None)
    error = np.sqrt(np.diag(np.linalg.inv(design.T @ design))[1:, None] * rest / 195).T
    effects = np.abs(fit[1:].T)
    expected = stats.t.sf((effects - margin) / error, 195) + stats.t.cdf(
        (-effects - margin) / error, 195
    )
    np.testing.assert_allclose(p, expected, atol=0.03)


def test_an_expected_effect_is_missing_only_if_it_is_small():
    rng = np.random.default_rng(1)
    labels = rng.random((300, 4)) < 0.5
    truth = np.array([[1, 1, 0, -1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    outputs = labels @ truth.T + 0.5 * rng.normal(size=(300, 4))
    expected = nothing()
    expected[0, 1], expected[0, 2], expected[0, 3], expected[1, 3] = 1, 1, -1, -1
    weights = regression_weights(labels, NAMES)
    p = permutation_p(outputs, labels, weights, expected, 0.4, permutations=999, seed=0)
    assert p[0, 1] == p[0, 3] == 1  # there, with the right sign
    assert p[0, 2] < 0.01  # expected, not there
    assert p[1, 3] < 0.01
    expected[0, 1] = -1  # there, but with the other sign
    p = permutation_p(outputs, labels, weights, expected, 0.4, permutations=999, seed=0)
    assert p[0, 1] == pytest.approx(1 / 1000)


def skewed(seed, sign=1):
    """Labels of which the first is rare, and outputs with skewed noise; one effect of 0.5."""
    rng = np.random.default_rng(seed)
    labels = rng.random((150, 4)) < [0.08, 0.5, 0.5, 0.5]
    outputs = rng.exponential(1, (150, 4)) + labels * 2.0
    outputs[:, 1] += 0.5 * labels[:, 0]
    return labels, sign * outputs


@pytest.mark.parametrize("wanted", [0, 1, -1])
def test_an_effect_of_the_other_sign_is_judged_alike(wanted):
    labels, outputs = skewed(3)
    weights = regression_weights(labels, NAMES)
    options = {"margin": 0.4, "permutations": 500, "seed": 1}
    expected = np.full((4, 4), wanted)
    one = permutation_p(outputs, labels, weights, expected, **options)
    other = permutation_p(-outputs, labels, weights, -expected, **options)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("sign", [1, -1])
def test_an_effect_at_the_margin_is_called_no_more_than_the_rate(sign):
    called = 0
    for seed in range(200):
        labels, outputs = skewed(seed, sign)
        weights = regression_weights(labels, NAMES)
        p = permutation_p(outputs, labels, weights, nothing(), 0.5, permutations=200, seed=seed)
        called += p[1, 0] <= 0.05
    assert called <= 19  # 10 at most expected; P(more than 19) < 0.5 %


def test_false_discoveries_are_kept_to_the_rate():
    found = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = labels_of(seed, n=60)
        outputs = 3 * labels + rng.normal(size=(60, 4))  # each depends on itself alone
        weights = regression_weights(labels, NAMES)
        p = permutation_p(outputs, labels, weights, nothing(), 0, permutations=300, seed=seed)
        found += (stats.false_discovery_control(p[~np.eye(4, dtype=bool)]) <= 0.1).any()
    assert found <= 12  # 6 expected at a rate of 0.1; P(more than 12) < 0.5 %


def test_permutations_are_those_of_the_seed():
    labels = labels_of(0)
    outputs = np.random.default_rng(0).normal(size=(200, 4))
    weights = regression_weights(labels, NAMES)

    def p(seed):
        return permutation_p(outputs, labels, weights, nothing(), 0.0, permutations=300, seed=seed)

    np.testing.assert_array_equal(p(1), p(1))
    assert (p(1) != p(2)).any()
    assert p(1).min() >= 1 / 301


def test_labels_that_follow_from_others_are_refused():
    labels = labels_of(0)
    labels[:, 3] = labels[:, 0]
    with pytest.raises(ExplgraphError, match="attribute 'a' follows from d in all images"):
        regression_weights(labels, NAMES)
    one_of_three = np.eye(3, dtype=bool)[np.arange(60) % 3]
    with pytest.raises(ExplgraphError, match="'x' follows from y, z in all images"):
        regression_weights(one_of_three, ("x", "y", "z"))
    assert regression_weights(one_of_three[:, :2], ("x", "y")).shape == (2, 60)
    with pytest.raises(ExplgraphError, match="9 images are too few for 4 attributes"):
        regression_weights(labels_of(0, n=9), NAMES)
