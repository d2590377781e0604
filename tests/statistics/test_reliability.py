"""Company beyond chance, against planted presences; the decoys' cut, against trying all."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explgraph.statistics.reliability import cut_for, rated, together

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


# ----------------------------------------------------------------------------------------- company


def presences(n, seed, strength=0.7, chance=300):
    """Presences of 80 nodes of 40 filters that share three causes, of others alone, and decoys.

    Nodes of other filters that have no cause in common are the last `chance`.
    """
    rng = np.random.default_rng(seed)
    causes = rng.standard_normal((n, 3))
    weights = rng.standard_normal((3, 80))
    weights *= strength / np.sqrt((weights**2).sum(0))
    joined = causes @ weights + np.sqrt(1 - strength**2) * rng.standard_normal((n, 80))
    alone = rng.standard_normal((n, chance))
    decoys = rng.standard_normal((n, 500))
    squashed = (torch.from_numpy(1 / (1 + np.exp(-2 * v))).float() for v in (joined, alone, decoys))
    joined, alone, decoys = squashed
    filters = torch.cat([torch.arange(40).repeat_interleave(2), 40 + torch.arange(chance)])
    return torch.cat([joined, alone], 1), filters, decoys


@pytest.mark.parametrize("n", [80, 400])
def test_who_goes_with_others_has_company(n):
    presence, filters, decoys = presences(n, 0, chance=20)
    alive = torch.ones(len(filters), dtype=torch.bool)
    company, false = together(presence, alive, filters, decoys)
    assert company.shape == filters.shape
    assert false.shape == (500,)
    assert (company[:80] > 0).float().mean() > 0.9
    assert (company[80:] > 0).float().mean() <= 0.1
    assert (false > 0).float().mean() < 0.03  # what chance explains, and three deviations more
    assert ((company >= 0) & (company <= 1)).all()


def test_company_is_the_share_that_causes_explain():
    """With clear causes: half of the variance; less what chance explains."""
    presence, filters, decoys = presences(800, 1, strength=0.7, chance=2)
    company, _ = together(presence, torch.ones(82, dtype=torch.bool), filters, decoys)
    assert float(company[:80].mean()) == pytest.approx(0.43, abs=0.06)


def test_weak_company_is_noticed():
    """A node that has one twentieth of its variance in common with others, over 400 images."""
    found = []
    for seed in range(4):
        presence, filters, _ = presences(400, seed, strength=0.9, chance=2)
        rng = np.random.default_rng([seed, 1])
        cause = presence[:, :80].numpy() @ rng.standard_normal(80)
        cause = (cause - cause.mean()) / cause.std()
        weak = np.sqrt(0.07) * cause[:, None] + np.sqrt(0.93) * rng.standard_normal((400, 40))
        company = together(
            presence, torch.ones(82, dtype=torch.bool), filters, torch.from_numpy(weak).float()
        )[1]
        found.append((company > 0).float().mean())
    assert np.mean(found) > 0.8


def test_a_filters_own_nodes_are_no_company():
    """Two nodes of one filter share out its activation, so that they always have to do with it."""
    rng = np.random.default_rng(2)
    one = torch.from_numpy(rng.random((300, 50))).float()
    presence = torch.stack([one, 1 - one], 2).flatten(1)
    filters = torch.arange(50).repeat_interleave(2)
    company, _ = together(presence, torch.ones(100, dtype=torch.bool), filters, presence[:, :0])
    assert (company > 0).float().mean() < 0.05


def test_nodes_that_there_are_not_are_no_company():
    presence, filters, decoys = presences(200, 3, chance=20)
    alive = torch.ones(100, dtype=torch.bool)
    alive[:80] = False
    company, false = together(presence, alive, filters, decoys)
    assert (company[:80] > 0).float().mean() < 0.1
    without = together(presence[:, 80:], alive[80:], filters[80:], decoys)
    torch.testing.assert_close(company[80:], without[0])
    torch.testing.assert_close(false, without[1])


@pytest.mark.parametrize("n", [1, 5, 20])
def test_few_images_and_presences_that_never_vary_are_no_trouble(n):
    presence, filters, decoys = presences(n, 4, chance=20)
    presence[:, :4] = 0
    presence[:, 4:8] = 1
    company, false = together(presence, torch.ones(100, dtype=torch.bool), filters, decoys)
    assert company.isfinite().all()
    assert false.isfinite().all()
    assert (company[:8] == 0).all()
    if n < 8:  # so few images tell nothing
        assert (company == 0).all()
    nobody = torch.zeros(100, dtype=torch.bool)
    assert (together(presence, nobody, filters, decoys)[0] == 0).all()


def test_gains_count_with_evidence_of_their_kind():
    """Those of what stands still by a quarter."""
    gain = torch.tensor([0.0, 0.5, 0.5, 0.5, 0.5, 2.0, -1.0])
    moving = torch.tensor([True, True, True, False, False, True, True])
    following = torch.tensor([1.0, 0.1, 0.0, 0.1, 0.0, 0.3, 1.0])
    company = torch.tensor([0.0, 0.0, 0.1, 0.0, 0.1, 0.0, 0.0])
    found = rated(gain, moving, following, company)
    truth = [0, 1 - math.exp(-0.5), 0, 0, 1 - math.exp(-0.125), 1 - math.exp(-2), 0]
    np.testing.assert_allclose(found, truth, rtol=1e-6)
