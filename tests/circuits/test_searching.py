"""The search against all subsets, on functions of sets that are known."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from explgraph.circuits.searching import search, sizes


def smallest(n, value, keep):
    """The size of the smallest set that keeps enough, by trying all of them."""
    for size in range(1, n + 1):
        if any(value(frozenset(some)) >= keep for some in combinations(range(n), size)):
            return size
    return None


def asked_of(value):
    """What the search asks, and a list of what was asked."""
    seen = []

    def keeps(sets):
        seen.extend(sets)
        return [value(one) for one in sets]

    return keeps, seen


@pytest.mark.parametrize("seed", range(30))
def test_of_what_adds_up_the_smallest_set_is_found(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 11))
    worth = rng.normal(0.3, 1, n)
    worth[0] = abs(worth[0]) + 0.1
    keep = 0.8 * worth[worth > 0].sum()

    def value(some):
        return float(sum(worth[k] for k in some))

    keeps, seen = asked_of(value)
    found = search(np.argsort(-worth).tolist(), keeps, keep, 400)
    assert len(found.members) == smallest(n, value, keep)
    assert found.kept == pytest.approx(value(found.members))
    assert found.kept >= keep
    assert found.minimal
    assert found.asked == len(seen) == len(set(seen))  # nothing is asked twice


@pytest.mark.parametrize("seed", range(30))
def test_whatever_the_order_nothing_can_be_left_out(seed):
    rng = np.random.default_rng(100 + seed)
    n = int(rng.integers(2, 40))
    worth = rng.exponential(1, n)
    pairs = rng.integers(0, n, (n, 2))  # what counts only together

    def value(some):
        return float(sum(worth[k] for k in some)) + sum(
            2.0 for a, b in pairs.tolist() if a in some and b in some
        )

    keep = 0.7 * value(frozenset(range(n)))
    found = search(rng.permutation(n).tolist(), asked_of(value)[0], keep, 4000)
    assert value(found.members) >= keep
    assert found.minimal
    assert all(value(frozenset(found.members) - {one}) < keep for one in found.members)


def test_a_pair_that_counts_together_alone_is_kept_and_others_are_left_out():
    def value(some):
        return 1.0 * ({3, 8} <= some) + 0.01 * len(some)

    found = search(range(12), asked_of(value)[0], 1.0, 400)
    assert sorted(found.members) == [3, 8]


def test_what_can_not_be_reached_is_told():
    worth = [0.4, 0.3, -0.2]

    def value(some):
        return sum(worth[k] for k in some)

    found = search(range(3), asked_of(value)[0], 0.9, 100)
    assert found.members == (0, 1)
    assert found.kept == found.most == pytest.approx(0.7)
    assert found.minimal


@pytest.mark.parametrize("most", [20, 40, 90, 400])
def test_no_more_is_asked_than_may_be(most):
    rng = np.random.default_rng(0)
    worth = rng.exponential(1, 200)

    def value(some):
        return float(sum(worth[k] for k in some))

    keep = 0.9 * worth.sum()
    keeps, seen = asked_of(value)
    found = search(rng.permutation(200).tolist(), keeps, keep, most)
    assert len(seen) <= most
    assert value(found.members) >= keep
    minimal = all(value(frozenset(found.members) - {one}) < keep for one in found.members)
    assert minimal or not found.minimal  # what isn't isn't said to be


def test_more_questions_give_smaller_sets():
    rng = np.random.default_rng(1)
    worth = rng.exponential(1, 200)

    def value(some):
        return float(sum(worth[k] for k in some))

    order = rng.permutation(200).tolist()
    keep = 0.5 * worth.sum()
    found = [len(search(order, asked_of(value)[0], keep, n).members) for n in (20, 100, 2000)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]


def test_an_order_that_is_wrong_by_a_little_is_mended():
    rng = np.random.default_rng(2)
    worth = rng.exponential(1, 100)

    def value(some):
        return float(sum(worth[k] for k in some))

    keep = 0.8 * worth.sum()
    estimated = worth * rng.uniform(0.6, 1.6, 100)
    found = search(np.argsort(-estimated).tolist(), asked_of(value)[0], keep, 2000)
    best = int(np.searchsorted(np.cumsum(np.sort(worth)[::-1]), keep)) + 1
    first = np.cumsum(worth[np.argsort(-estimated)])
    assert best <= len(found.members) <= best + 1
    assert len(found.members) < int(np.searchsorted(first, keep)) + 1


def test_sizes_go_up_to_all_of_them():
    for n in range(1, 300):
        tried = sizes(n)
        assert tried[0] == 1
        assert tried[-1] == n
        assert tried == sorted(set(tried))
        assert all(b <= 2 * a for a, b in pairwise(tried))
