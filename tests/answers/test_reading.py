"""Log-odds against Bayes' rule over all labels, on planted effects."""

import itertools

import numpy as np
import pytest
from scipy import stats

from explgraph.answers.reading import fit_reading, probability

EFFECTS = np.array([[4.0, 3.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.5, 4.0]])
SPREAD = np.array([[1.0, 0.3, 0.0], [0.3, 1.0, 0.0], [0.0, 0.0, 1.5]])


def world(seed, n, agreement):
    """Outputs of a biased network: attributes 0 and 1 agree in so many images."""
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 3)) < 0.5
    labels[:, 1] = np.where(rng.random(n) < agreement, labels[:, 0], ~labels[:, 0])
    noise = rng.multivariate_normal(np.zeros(3), SPREAD, n)
    return labels, labels @ EFFECTS.T - 3 + noise


def fitted(n=3000):
    labels, outputs = world(0, n, 0.9)
    design = np.column_stack([np.ones(n), labels])
    effects = np.linalg.lstsq(design, outputs, rcond=None)[0][1:].T
    return fit_reading(outputs, labels, effects)


def test_log_odds_are_linear_discriminant_analysis():
    labels, outputs = world(0, 3000, 0.9)
    reading = fit_reading(outputs, labels, EFFECTS)
    centre = labels.mean(axis=0)
    residual = outputs - outputs.mean(axis=0) - (labels - centre) @ EFFECTS.T
    spread = residual.T @ residual / 2996
    for t in range(3):
        others = [s for s in range(3) if s != t]
        within = spread + sum(np.outer(EFFECTS[:, s], EFFECTS[:, s]) for s in others) / 4
        middle = outputs.mean(axis=0) + EFFECTS @ (0.5 - centre)
        present = stats.multivariate_normal(middle + EFFECTS[:, t] / 2, within)
        absent = stats.multivariate_normal(middle - EFFECTS[:, t] / 2, within)
        expected = present.logpdf(outputs) - absent.logpdf(outputs)
        np.testing.assert_allclose(reading.log_odds(outputs)[:, t], expected, rtol=1e-5, atol=1e-5)


def test_a_reading_fitted_on_biased_images_is_right_about_unbiased_ones():
    reading = fitted()
    labels, outputs = world(1, 4000, 0.5)
    read = reading.log_odds(outputs)
    right, plain = (read > 0) == labels, (outputs > 0) == labels
    # the best that can be done: Bayes' rule over all eight combinations of labels
    combinations = np.array(list(itertools.product((0, 1), repeat=3)))
    fit = stats.multivariate_normal(np.zeros(3), SPREAD)
    likelihood = np.stack([fit.pdf(outputs - (EFFECTS @ c - 3)) for c in combinations], axis=1)
    best = (likelihood @ combinations) / likelihood.sum(axis=1, keepdims=True)
    limit = ((best > 0.5) == labels).mean(axis=0)
    assert (right.mean(axis=0) > limit - 0.03).all()  # other labels as Gaussian cost a little
    assert right[:, 0].mean() > plain[:, 0].mean() + 0.05
    assert right[:, 1].mean() > plain[:, 1].mean()


def test_probabilities_hold():
    reading = fitted()
    labels, outputs = world(2, 6000, 0.5)
    chance = probability(reading.log_odds(outputs))[:, :2]
    for low in (0.1, 0.3, 0.5, 0.7):
        here = (chance >= low) & (chance < low + 0.2)
        assert labels[:, :2][here].mean() == pytest.approx(chance[here].mean(), abs=0.08)


def test_copies_among_the_outputs_do_no_harm():
    labels, outputs = world(0, 400, 0.9)
    twice = outputs[:, [0, 1, 1]]
    design = np.column_stack([np.ones(400), labels])
    effects = np.linalg.lstsq(design, twice, rcond=None)[0][1:].T
    read = fit_reading(twice, labels, effects).log_odds(twice)
    assert np.isfinite(read).all()
    assert ((read > 0) == labels)[:, :2].mean() > 0.8


def test_probability_does_not_overflow():
    np.testing.assert_allclose(probability(np.array([-1e4, 0, 1e4])), [0, 0.5, 1])
    np.testing.assert_allclose(probability(np.array([2.0])), 1 / (1 + np.exp(-2)))
