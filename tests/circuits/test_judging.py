"""Shares and their intervals against formulas."""

import numpy as np
import pytest

from explgraph.circuits.judging import _drawn, interval, share


def test_a_share_is_of_means():
    values, whole, nothing = np.array([3.0, 1.0]), np.array([5.0, 4.0]), np.array([1.0, 0.0])
    found = share(values, whole, nothing, _drawn(2, 0))
    assert found.value == pytest.approx((2 - 0.5) / (4.5 - 0.5))
    assert found.low <= found.value <= found.high


def test_an_interval_is_that_of_a_mean():
    values = np.random.default_rng(0).normal(2, 3, 200)
    found = interval(values, _drawn(200, 1))
    error = values.std() / np.sqrt(200)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_in_19_of_20_worlds_the_interval_holds_the_truth():
    rng = np.random.default_rng(2)
    hits = 0
    for world in range(100):
        carried = rng.normal(4, 1, 60)
        kept = 0.7 * carried + rng.normal(0, 1, 60)
        found = share(kept, carried, np.zeros(60), _drawn(60, world))
        hits += found.low <= 0.7 <= found.high
    assert 0.88 < hits / 100 < 1


def test_where_nothing_is_carried_nothing_is_known():
    zeros = np.zeros(5)
    assert all(np.isnan(share(zeros, zeros, zeros, _drawn(5, 0))))
