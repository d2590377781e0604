"""The cut that decoys give, against trying every one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explgraph.reliability import cut_for

rates = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.3, 0.5, 0.8, 0.9]), max_size=40)


def cut_by_trying(reliability, decoys, fdr):
    """The least of the nodes' reliabilities at which so few are false."""
    for cut in sorted({r for r in reliability if r > 0}):
        nodes = sum(r >= cut for r in reliability)
        false = sum(d >= cut for d in decoys)
        if (1 + false) / nodes <= fdr:
            return cut
    return math.inf


@given(reliability=rates, decoys=rates, fdr=st.sampled_from([0.03, 0.1, 0.25, 0.5, 1.0]))
@settings(max_examples=200, deadline=None)
def test_the_cut_is_the_least_that_holds(reliability, decoys, fdr):
    found = cut_for(np.array(reliability), np.array(decoys), fdr)
    assert found == cut_by_trying(reliability, decoys, fdr)
    assert found > 0


@given(reliability=rates, decoys=rates)
@settings(max_examples=50, deadline=None)
def test_decoys_of_no_reliability_may_be_left_out(reliability, decoys):
    fdr = 0.25
    some = np.array([d for d in decoys if d > 0])
    found = cut_for(np.array(reliability), np.array(decoys), fdr)
    assert found == cut_for(np.array(reliability), some, fdr)


def test_a_stricter_rate_cuts_higher():
    rng = np.random.default_rng(0)
    reliability, decoys = rng.random(400) ** 0.5, 0.6 * rng.random(400)
    cuts = [cut_for(reliability, decoys, fdr) for fdr in (0.01, 0.05, 0.1, 0.2, 0.5)]
    assert cuts == sorted(cuts, reverse=True)
    assert len(set(cuts)) > 3


@pytest.mark.parametrize("fdr", [0.05, 0.1, 0.3])
def test_so_few_nodes_are_false(fdr):
    """Nodes that follow nothing are as reliable as decoys; over many draws the rate holds."""
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(400):
        chance = rng.exponential(0.05, 150)
        real = rng.exponential(0.4, 100)
        cut = cut_for(np.concatenate([chance, real]), rng.exponential(0.05, 150), fdr)
        false, true = (chance >= cut).sum(), (real >= cut).sum()
        shares.append(false / max(false + true, 1))
    assert np.mean(shares) <= fdr
    assert np.mean(shares) > 0.5 * fdr  # not by taking hardly any


def test_fewer_nodes_than_one_in_the_rate_have_no_cut():
    none = np.zeros(0)
    assert cut_for(np.full(19, 0.5), none, 0.05) == math.inf
    assert cut_for(np.full(20, 0.5), none, 0.05) == 0.5
    assert cut_for(none, none, 0.5) == math.inf
    assert cut_for(np.zeros(50), none, 0.5) == math.inf
