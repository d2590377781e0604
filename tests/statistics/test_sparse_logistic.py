"""Sparse logistic regression against independent solvers, and what its minimum must satisfy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from explgraph.statistics.sparse_logistic import chosen, fitted, log_likelihood, strengths


def rows(n=60, d=12, k=3, seed=0):
    """Features of which two tell the class, on scales of their own."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % k
    features = rng.normal(size=(n, d)) * rng.uniform(0.5, 2, d) + 3
    features[:, 0] += 2 * (labels == 0)
    features[:, 1] -= 2 * (labels == k - 1)
    return features, labels


def test_two_classes_are_an_l1_logistic_regression():
    """With two classes weights are (-a, a), so |w| = sqrt(2) |a|, and the logit's slope is 2 a."""
    from sklearn.linear_model import LogisticRegression

    features, labels = rows(k=2)
    strength = strengths(features, labels, 2)[4]
    fit = fitted(features, labels, 2, strength)
    c = np.sqrt(2) / (len(labels) * strength)
    other = LogisticRegression(l1_ratio=1, solver="saga", C=c, tol=1e-10, max_iter=50_000)
    other.fit(features - features.mean(0), labels)
    np.testing.assert_allclose(fit.weight[:, 1] - fit.weight[:, 0], other.coef_[0], atol=1e-4)
    np.testing.assert_allclose(fit.bias[1] - fit.bias[0], other.intercept_[0], atol=1e-4)
    assert 0 < fit.weight.any(1).sum() < features.shape[1]


def objective(features, labels, strength, weight, bias):
    """The formula of the module, written anew."""
    scores = (features - features.mean(0)) @ weight + bias
    told = -log_likelihood(scores, labels).mean()
    return told + strength * np.sqrt((weight**2).sum(1)).sum()


@pytest.mark.parametrize("seed", range(3))
def test_several_classes_against_a_general_solver(seed):
    """With the root of |w|^2 + 1e-12 in place of |w| it is smooth, and scipy solves it."""
    features, labels = rows(n=30, d=4, seed=seed)
    k, d = 3, 4
    strength = strengths(features, labels, k)[6]
    fit = fitted(features, labels, k, strength)
    mine = objective(features, labels, strength, fit.weight, fit.bias)

    def smooth(values):
        weight, bias = values[: d * k].reshape(d, k), values[d * k :]
        size = np.sqrt((weight**2).sum(1) + 1e-12)
        scores = (features - features.mean(0)) @ weight + bias
        return -log_likelihood(scores, labels).mean() + strength * size.sum()

    theirs = min(
        minimize(smooth, np.random.default_rng(s).normal(size=d * k + k), method="BFGS").fun
        for s in range(2)
    )
    assert mine <= theirs + 1e-6
    assert mine >= theirs - 1e-4


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(8, 40), d=st.integers(1, 60), k=st.integers(2, 4),
    at=st.integers(0, 11), seed=st.integers(0, 99),
)  # fmt: skip
def test_the_minimum_has_a_subgradient_of_zero(n, d, k, at, seed):
    features, labels = rows(max(n, 2 * k), max(d, 2), k, seed)
    strength = strengths(features, labels, k)[at]
    fit = fitted(features, labels, k, strength)
    likely = np.exp(fit.scores(features))
    likely /= likely.sum(1, keepdims=True)
    away = (likely - np.eye(k)[labels]) / len(labels)
    slopes = (features - features.mean(0)).T @ away
    size = np.linalg.norm(fit.weight, axis=1)
    largest = strengths(features, labels, k)[0]
    for slope, weight, long in zip(slopes, fit.weight, size, strict=True):
        if long:
            np.testing.assert_allclose(slope, -strength * weight / long, atol=1e-7 * largest)
        else:
            assert np.linalg.norm(slope) <= strength * (1 + 1e-7)
    np.testing.assert_allclose(away.sum(0), 0, atol=1e-7 * largest)


def test_the_largest_strength_takes_nothing_and_less_takes_more():
    features, labels = rows()
    tried = strengths(features, labels, 3)
    used = [fitted(features, labels, 3, s).weight.any(1).sum() for s in tried[[0, 3, 6, 11]]]
    assert used[0] == 0
    assert used == sorted(used)
    assert used[-1] > used[1] >= 1


def test_the_strength_is_chosen_by_rows_that_are_left_out():
    features, labels = rows(n=90)
    choice = chosen(features, labels, 3)
    assert choice == chosen(features, labels, 3)
    assert choice.right > 0.6
    used = fitted(features, labels, 3, choice.strength).weight.any(1)
    assert used[:2].all()
    # of noise alone nothing is believed
    noise = np.random.default_rng(1).normal(size=(30, 20))
    choice = chosen(noise, np.arange(30) % 3, 3)
    assert choice.strength >= strengths(noise, np.arange(30) % 3, 3)[3]


def test_features_without_any_variation_are_no_trouble():
    features, labels = np.ones((12, 5)), np.arange(12) % 3
    fit = fitted(features, labels, 3, chosen(features, labels, 3).strength)
    assert not fit.weight.any()
    np.testing.assert_allclose(fit.bias, 0, atol=1e-12)
