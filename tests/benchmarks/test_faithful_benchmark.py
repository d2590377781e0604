"""What the benchmark of faithfulness compares with: concepts and planted places as elements."""

import pytest
import torch
from numpy.testing import assert_allclose

from benchmarks.faithful import Concepts, Planted
from explgraph.network.geometry import Layer

pytestmark = pytest.mark.usefixtures("one_thread")
pytest.importorskip("sklearn")


def factored(n=6, seed=0):
    """Maps (n, 5, 4, 4) of three factors that share no filter, and the factors' own maps."""
    random = torch.Generator().manual_seed(seed)
    weights = torch.rand((n, 3, 4, 4), generator=random) + 0.1
    factors = torch.tensor([[1.0, 2, 0, 0, 0], [0, 0, 3, 0, 0], [0, 0, 0, 1, 1]])
    return torch.einsum("nkhw,kc->nchw", weights, factors)


def test_concepts_rebuild_what_they_hold():
    maps, units = factored(seed=1), torch.randn(6, 5, 4, 4)
    holding = Concepts(factored(40), concepts=3).within(maps, None, units)
    all_three = holding.shares(torch.ones(6, 3))
    assert_allclose(all_three, torch.ones_like(maps), atol=0.03)
    sums = holding.sums(units)
    assert_allclose(sums.sum(1), units.double().sum((1, 2, 3)), atol=0.15)
    filters = [[0, 1], [2], [3, 4]]
    expected = torch.stack([units[:, some].sum((1, 2, 3)) for some in filters], 1)
    order = [
        int((sums - one[:, None]).abs().mean(0).argmin()) for one in expected.double().unbind(1)
    ]
    assert sorted(order) == [0, 1, 2]  # each concept is one of the factors
    for k, some in zip(order, filters, strict=True):
        one = holding.shares(torch.eye(3)[k].expand(6, 3))
        held = one.mean((0, 2, 3)) > 0.5
        assert held.nonzero().flatten().tolist() == some


def test_planted_places_hold_all_filters_there():
    layer = Layer("x", 0, 5, 7, 7, (16.0, 16.0), (8.0, 8.0), (30.0, 30.0))
    places = torch.tensor([[[40.0, 56.0], [1e4, 1e4]]])  # a unit's centre, and nowhere
    maps = torch.rand(1, 5, 7, 7)
    holding = Planted(places, layer).within(maps, None, maps)
    shares = holding.shares(torch.tensor([[1.0, 1.0]]))
    assert_allclose(shares[0, :, 3, 2], 1.0)
    assert float(shares.sum()) < 5 * 1.5
    assert_allclose(holding.sums(maps)[0], [float((maps * shares).sum()), 0], atol=1e-5)
