"""Places and presence, against the formulas in float64 and worlds whose parts are known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from posed import a_grid, tensor

from explgraph.statistics import inference
from explgraph.statistics.fitted import FittedLayer
from explgraph.statistics.inference import infer, responsibilities, scaled
from explgraph.statistics.mixture import Grid

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 112.0
AREA = SIDE**2


def a_layer(rng, c=3, k=2, q=2, sigma=(4.0, 14.0)):
    """Mixtures of some filters, those of the last pattern of the first unused."""
    share = rng.uniform(0.1, 1, (c, k))
    share[0, -1] = 0
    background = rng.uniform(0.05, 0.5, c)
    norm = share.sum(1) + background
    return FittedLayer(
        torch.ones(c),
        tensor(rng.uniform(8, 40, (c, k, 2))),
        tensor(5 * rng.standard_normal((c, k, 2, q))),
        tensor(rng.uniform(*sigma, (c, k))),
        tensor(share / norm[:, None]),
        tensor(background / norm),
        torch.zeros(0),
    )


def infer_by_loops(layer, maps, poses, grid, area):
    """Image by image, filter by filter, in float64."""
    n, c, k = len(maps), *layer.sigma.shape
    mean, loading, sigma, usual, none = (
        getattr(layer, name).double().numpy()
        for name in ("mean", "loading", "sigma", "share", "background")
    )
    x, y = grid.x.double().numpy(), grid.y.double().numpy()[:, None]
    positions, scores, expected = (np.zeros((n, c, k, *rest)) for rest in ((2,), (), (2,)))
    for i, f in np.ndindex(n, c):
        s = maps[i, f].double().numpy() ** 2
        at = mean[f] + loading[f] @ poses[i].double().numpy()
        square = [(x - a) ** 2 + (y - b) ** 2 for a, b in at]
        share, background = usual[f], none[f]
        for _ in range(3):
            parts = [
                w * np.exp(-d / (2 * v**2)) / (2 * np.pi * v**2)
                for w, d, v in zip(share, square, sigma[f], strict=True)
            ]
            density = sum(parts) + background / area
            answers = [s * part / density for part in parts]
            mass = np.array([a.sum() for a in answers])
            rest = s.sum() - mass.sum()
            share = (0.1 * usual[f] + mass) / (0.1 + s.sum())
            background = (0.1 * none[f] + rest) / (0.1 + s.sum())
        for j in range(k):
            expected[i, f, j] = at[j]
            pull = np.array(
                [(answers[j] * (x - at[j, 0])).sum(), (answers[j] * (y - at[j, 1])).sum()]
            )
            place = at[j] + pull / (mass[j] + 0.02)
            positions[i, f, j] = (
                np.clip(place[0], x.min(), x.max()),
                np.clip(place[1], y.min(), y.max()),
            )
            scores[i, f, j] = 1 - math.exp(-2 * mass[j] / usual[f, j]) if usual[f, j] else 0
    return positions, scores, expected


@given(k=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_inference_is_the_formula(k, seed):
    rng = np.random.default_rng(seed)
    layer, grid = a_layer(rng, k=k), a_grid(5, 6)
    maps = tensor(rng.uniform(0, 0.5, (4, 3, 5, 6)) * (rng.random((4, 3, 5, 6)) < 0.7))
    maps[0, 1] = 0
    poses = tensor(rng.standard_normal((4, 2)))
    before = maps.clone()
    found = infer(layer, maps, poses, grid, AREA)
    assert_array_equal(maps, before)
    positions, scores, expected = infer_by_loops(layer, maps, poses, grid, AREA)
    assert found.positions.shape == found.expected.shape == (4, 3 * k, 2)
    assert found.scores.shape == (4, 3 * k)
    # in the order of filters, then patterns
    assert_allclose(found.expected, expected.reshape(4, -1, 2), rtol=1e-5, atol=1e-4)
    assert_allclose(found.scores, scores.reshape(4, -1), atol=2e-4)
    assert_allclose(found.positions, positions.reshape(4, -1, 2), atol=2e-2)


# ----------------------------------------------------------------------------------- a known world

GRID = Grid(8 * torch.arange(14.0) + 4, 8 * torch.arange(14.0) + 4, 64.0)
A, B = np.array([36.0, 40.0]), np.array([76.0, 70.0])


def two_parts(sigma=7.0, share=(0.45, 0.45), at=(A, B)):
    """One filter with two patterns, which stand still."""
    return FittedLayer(
        torch.ones(1),
        tensor([at]),
        torch.zeros(1, 2, 2, 1),
        torch.full((1, 2), sigma),
        tensor([share]),
        torch.tensor([1 - sum(share)]),
        torch.zeros(0),
    )


def beside(place, x, y):
    return place + np.array([x, y])


def bump(place, mass, sigma=7.0):
    """A map (H, W) whose squares are a Gaussian of some mass."""
    gx, gy = (
        np.exp(-((centres.numpy() - p) ** 2) / (2 * sigma**2))
        for centres, p in zip(GRID[:2], place, strict=True)
    )
    return mass * gy[:, None] * gx * GRID.cell / (2 * np.pi * sigma**2)


def look(layer, *squares):
    """What is found in images that are sums of bumps."""
    maps = tensor(np.sqrt(np.stack(squares)))[:, None]
    return infer(layer, maps, torch.zeros(len(maps), 1), GRID, AREA)


def test_presence_tells_who_is_there():
    even = np.full((14, 14), 0.1 / 196)
    found = look(
        two_parts(),
        bump(A, 0.45) + bump(B, 0.45) + even,
        bump(A, 0.9) + even,
        bump(B, 0.9) + even,
        9 * even,
        bump([20.0, 95.0], 0.9) + even,  # something else that the filter answers to
        0 * even,
    )
    assert_allclose(found.scores[0], 1 - math.exp(-2), atol=0.02)  # as much as usual
    assert (found.scores[1:3].diagonal() > 0.95).all()
    assert (found.scores[[1, 2], [1, 0]] < 0.05).all()
    assert (found.scores[3] < 0.5).all()  # it fires everywhere
    assert (found.scores[4] < 0.05).all()
    assert (found.scores[5] == 0).all()


def test_presence_grows_with_what_is_there_of_the_usual():
    """Whatever the pattern's share: nodes can be compared."""
    for share in ((0.6, 0.3), (0.2, 0.7)):
        squares = [bump(A, f * share[0]) + bump(B, share[1]) for f in (0, 0.1, 0.5, 1, 3)]
        scores = look(two_parts(share=share), *squares).scores[:, 0]
        truth = [1 - math.exp(-2 * f) for f in (0, 0.1, 0.5, 1, 3)]
        assert_allclose(scores, truth, atol=0.04)
        assert scores[1] < 0.5 < scores[2]  # half of the usual is there, a tenth is not


def test_an_absent_part_leaves_what_is_near_to_the_other(monkeypatch):
    """Two patterns compete; an image's own shares decide about what lies between them."""
    layer = two_parts(at=(A, beside(A, 20, 0)))
    squares = [bump(A, 0.9), bump(beside(A, 20, 0), 0.9)]
    alone = look(layer, *squares)
    monkeypatch.setattr(inference, "_ROUNDS", 0)
    usual = look(layer, *squares)  # shares that are the same for all images
    for here, absent in ((0, 1), (1, 0)):
        assert alone.scores[here, here] > 0.95
        assert alone.scores[here, absent] < 0.15
        assert usual.scores[here, absent] > 0.3
        at = (A, beside(A, 20, 0))[here]
        assert_allclose(alone.positions[here, here], at, atol=0.6)
        assert abs(usual.positions[here, here, 0] - at[0]) > 1


def test_each_pattern_is_at_its_own_part():
    found = look(two_parts(), bump(beside(A, 4, -3), 0.45) + bump(beside(B, -5, 2), 0.45))
    # drawn back by 0.02 of 0.47
    assert_allclose(found.positions[0], [beside(A, 4, -3), beside(B, -5, 2)], atol=0.5)


@pytest.mark.parametrize("mass", [1e-4, 0.02, 0.5])
def test_next_to_nothing_hardly_moves_a_pattern(mass):
    layer = two_parts(share=(0.9, 0.0))
    found = look(layer, bump(beside(A, 6, 0), mass))
    way = 6 * mass / (mass + 0.02)
    assert float(found.positions[0, 0, 0] - A[0]) == pytest.approx(way, abs=0.35)


def test_positions_are_never_beyond_the_units():
    rng = np.random.default_rng(0)
    layer = a_layer(rng, q=1)._replace(mean=tensor(rng.uniform(-80, 200, (3, 2, 2))))
    maps = tensor(rng.uniform(0, 1, (6, 3, 14, 14)))
    maps[:2] = 0
    for grid in (GRID, GRID._replace(x=GRID.x.flip(0))):  # whichever way they count
        found = infer(layer, maps, torch.randn(6, 1), grid, AREA)
        assert (found.positions >= 4).all()
        assert (found.positions <= 108).all()
    assert (found.expected < 4).any()  # what is expected stays what is expected
    assert (found.expected > 108).any()


def test_without_activation_a_pattern_is_where_it_is_expected():
    rng = np.random.default_rng(1)
    layer = a_layer(rng)
    maps = tensor(rng.uniform(0, 1, (3, 3, 14, 14)))
    maps[1, 2] = 0
    poses = tensor(0.1 * rng.standard_normal((3, 2)))
    found = infer(layer, maps, poses, GRID, AREA)
    assert (found.scores[1, 4:] == 0).all()
    assert_allclose(found.positions[1, 4:], found.expected[1, 4:], atol=1e-4)
    assert_allclose(found.expected, layer.expected(poses).flatten(1, 2))
    assert (found.scores[:, 1] == 0).all()  # the pattern that there is not
    for values in found:
        assert values.isfinite().all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()


def test_images_do_not_know_of_each_other():
    rng = np.random.default_rng(3)
    layer = a_layer(rng)
    maps, poses = tensor(rng.uniform(0, 1, (4, 3, 14, 14))), tensor(rng.standard_normal((4, 2)))
    whole = infer(layer, maps, poses, GRID, AREA)
    for i in range(4):
        one = infer(layer, maps[i : i + 1], poses[i : i + 1], GRID, AREA)
        for part, all_of_them in zip(one, whole, strict=True):
            assert_allclose(part[0], all_of_them[i], rtol=1e-5, atol=1e-4)


@given(n=st.integers(1, 4), q=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_expected_places_are_the_formula(n, q, seed):
    rng = np.random.default_rng(seed)
    layer, poses = a_layer(rng, q=q), tensor(rng.standard_normal((n, q)))
    found = layer.expected(poses)
    assert found.shape == (n, 3, 2, 2)
    for i, c, k, a in np.ndindex(n, 3, 2, 2):
        moved = sum(float(layer.loading[c, k, a, j]) * float(poses[i, j]) for j in range(q))
        truth = float(layer.mean[c, k, a]) + moved
        assert float(found[i, c, k, a]) == pytest.approx(truth, abs=1e-3)


def test_maps_are_divided_by_their_scale():
    maps = torch.rand(2, 3, 4, 5) + 0.5
    before = maps.clone()
    found = scaled(maps, torch.tensor([2.0, 0.0, 0.5]))
    assert_allclose(found[:, 0], maps[:, 0] / 2)
    assert (found[:, 1] == 0).all()  # one that never varies
    assert_allclose(found[:, 2], maps[:, 2] * 2)
    assert_array_equal(maps, before)


@pytest.mark.parametrize("seed", range(3))
def test_responsibilities_are_the_mixtures_own(seed):
    rng = np.random.default_rng(seed)
    layer, grid = a_layer(rng, c=4, k=3), a_grid(7, 9)
    maps = tensor(rng.gamma(0.5, 1, (5, 4, 7, 9)))
    found = infer(layer, maps, tensor(rng.standard_normal((5, 2))), grid, AREA)
    nodes = [11, 0, 4, 3]
    given_ = responsibilities(layer, found, nodes, grid, AREA)
    assert given_.shape == (5, 4, 7, 9)
    places = found.positions.double().numpy().reshape(5, 4, 3, 2)
    share = found.share.double().numpy().reshape(5, 4, 3)
    for (i, v), y, x in (
        (key, y, x) for key in np.ndindex(5, 4) for y in (0, 3, 6) for x in (1, 8)
    ):
        f, own = divmod(nodes[v], 3)
        at = np.array([float(grid.x[x]), float(grid.y[y])])
        density = [
            share[i, f, k]
            * np.exp(-((at - places[i, f, k]) ** 2).sum() / (2 * float(layer.sigma[f, k]) ** 2))
            / (2 * np.pi * float(layer.sigma[f, k]) ** 2)
            for k in range(3)
        ]
        whole = sum(density) + float(found.background[i, f]) / AREA
        assert float(given_[i, v, y, x]) == pytest.approx(density[own] / whole, rel=1e-4, abs=1e-7)
    of_one_filter = responsibilities(layer, found, range(3, 6), grid, AREA).sum(1)
    assert float(of_one_filter.max()) <= 1 + 1e-6


def test_a_pattern_that_an_image_lacks_answers_for_little_there():
    layer, grid = a_layer(np.random.default_rng(0), c=1, k=1, sigma=(8, 8)), a_grid(7, 7, 16, 0)
    layer = layer._replace(share=torch.full((1, 1), 0.9), background=torch.full((1,), 0.1))
    middle = torch.full((1, 1, 2), 56.0)
    layer = layer._replace(mean=middle, loading=torch.zeros(1, 1, 2, 2))
    there, elsewhere = torch.zeros(1, 1, 7, 7), torch.zeros(1, 1, 7, 7)
    there[..., 3, 3], elsewhere[..., 0, 0] = 3.0, 3.0
    found = infer(layer, torch.cat([there, elsewhere]), torch.zeros(2, 2), grid, AREA)
    own = responsibilities(layer, found, [0], grid, AREA)[:, 0]
    assert float((own[0] * there[0]).sum()) > 0.9 * 3
    assert float((own[1] * elsewhere[0]).sum()) < 0.1 * 3
