"""Passes over a layer against loops over images, patterns and units in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from explgraph.inference import (
    OWN,
    Anchors,
    Found,
    Pass,
    expect,
    gather,
    infer,
)
from explgraph.mixture import Grid, Patterns

MOST_WEIGHT = 2.0


def a_grid(h, w, stride=8.0):
    x = stride * (0.5 + torch.arange(w, dtype=torch.float32))
    y = stride * (0.5 + torch.arange(h, dtype=torch.float32)) + 3  # not the same along both
    return Grid(x, y, stride**2)


def a_case(seed, n=3, c=3, k=2, h=5, w=6, per_pattern=False, own=True, window=0.0, m=2):
    """A random pass with anchors in layers 4 and 7 (and `OWN`), maps, and what was found before."""
    rng = np.random.default_rng(seed)

    def some(*shape, low=0.0, high=1.0):
        return torch.from_numpy(rng.uniform(low, high, shape)).float()

    found = {
        index: Found(some(n, v, 2, high=48), some(n, v, high=3))
        for index, v in {4: 5, 7: 3, **({OWN: c} if own else {})}.items()
    }
    layer = [4, 7, 4, *([OWN, OWN] if own else [])]
    node = [int(rng.integers(0, found[i].scores.shape[1])) for i in layer]
    u = len(layer)
    anchors = Anchors(
        torch.tensor(layer), torch.tensor(node), some(u, 2, high=48), some(u, low=0.5, high=2)
    )
    rows = c * k if per_pattern else c
    distance = some(rows, m, low=0.5, high=30)
    distance[0, -1] = torch.inf  # no link
    patterns = Patterns(some(c, k, 2, low=8, high=40), some(c, k, low=4, high=14), torch.ones(c, k))
    parent = torch.from_numpy(rng.integers(0, u, (rows, m)))
    fitted = Pass(anchors, parent, distance, patterns, torch.tensor([window]))
    maps = some(n, c, h, w) * (some(n, c, h, w) < 0.7)
    return fitted, maps, a_grid(h, w), found


def look(fitted, maps, grid, found):
    """Expected places and what is found there."""
    expected = expect(fitted, found)
    return expected.flatten(1, 2), infer(fitted, maps, expected, grid)


def expect_by_loops(fitted, found):
    """Expected places (N, C, K, 2)."""
    anchors = fitted.anchors
    c, k = fitted.patterns.sigma.shape
    n = len(next(iter(found.values())).scores)
    places = np.zeros((n, c, k, 2))
    for i in range(n):
        for filter_ in range(c):
            for pattern in range(k):
                row = filter_ if len(fitted.parent) == c else filter_ * k + pattern
                pull, total = np.zeros(2), 0.0
                for u, d in zip(
                    fitted.parent[row].tolist(), fitted.distance[row].tolist(), strict=True
                ):
                    there = found[int(anchors.layer[u])]
                    v = int(anchors.node[u])
                    weight = min(float(there.scores[i, v]) / float(anchors.scale[u]), MOST_WEIGHT)
                    trust = weight / d if d < math.inf else 0.0
                    moved = there.positions[i, v].double() - anchors.mean[u].double()
                    pull += trust * moved.numpy()
                    total += trust
                delta = pull / total if total > 0 else 0 * pull
                places[i, filter_, pattern] = fitted.patterns.mean[filter_, pattern].numpy() + delta
    return places


def look_by_loops(maps, expected, sigma, grid):
    """Positions, and mean activation under each Gaussian, unit by unit."""
    n, c, h, w = maps.shape
    k = sigma.shape[1]
    positions, scores = np.array(expected), np.zeros((n, c, k))
    for i in range(n):
        for f in range(c):
            for p in range(k):
                mass, pull, s = 0.0, np.zeros(2), float(sigma[f, p])
                for row in range(h):
                    for column in range(w):
                        x = np.array([float(grid.x[column]), float(grid.y[row])])
                        far = ((x - expected[i, f, p]) ** 2).sum()
                        part = float(maps[i, f, row, column]) * math.exp(-far / (2 * s * s))
                        mass, pull = mass + part, pull + part * x
                if mass > 0:
                    positions[i, f, p] = pull / mass
                scores[i, f, p] = mass * grid.cell / (2 * math.pi * s * s)
    return positions, scores


# ------------------------------------------------------------------------------------------- expect


@given(seed=st.integers(0, 2**32 - 1), per_pattern=st.booleans(), own=st.booleans())
@settings(max_examples=25, deadline=None)
def test_expected_places_are_the_formula(seed, per_pattern, own):
    fitted, _, _, found = a_case(seed, per_pattern=per_pattern, own=own)
    assert_allclose(expect(fitted, found), expect_by_loops(fitted, found), rtol=1e-4, atol=1e-3)


def test_without_anchors_every_pattern_is_at_its_usual_place():
    fitted, _, _, found = a_case(0)
    none = torch.zeros(0, dtype=torch.int64)
    fitted = fitted._replace(
        anchors=Anchors(none, none, torch.zeros(0, 2), torch.zeros(0)),
        parent=fitted.parent[:, :0],
        distance=fitted.distance[:, :0],
    )
    expected = expect(fitted, found)
    assert_array_equal(expected, fitted.patterns.mean.expand(3, -1, -1, -1))


def test_silent_anchors_say_nothing():
    fitted, _, _, found = a_case(1)
    quiet = {i: f._replace(scores=torch.zeros_like(f.scores)) for i, f in found.items()}
    assert_array_equal(expect(fitted, quiet), fitted.patterns.mean.expand(3, -1, -1, -1))


def test_own_anchors_are_of_the_previous_pass():
    """What the layer found before decides, and nothing else of the layer."""
    fitted, _, _, found = a_case(2)
    only_own = fitted._replace(
        parent=torch.full_like(fitted.parent, 3), distance=torch.ones_like(fitted.distance)
    )
    assert int(only_own.anchors.layer[3]) == OWN
    before = expect(only_own, found)
    node = int(only_own.anchors.node[3])
    shifted = found[OWN].positions.clone()
    shifted[:, node] += torch.tensor([5.0, -2.0])
    after = expect(only_own, {**found, OWN: found[OWN]._replace(positions=shifted)})
    assert_allclose(
        after - before, torch.tensor([5.0, -2.0]).expand_as(after), rtol=1e-4, atol=1e-4
    )
    upper = {i: f._replace(positions=f.positions + 9) for i, f in found.items() if i != OWN}
    assert_array_equal(expect(only_own, {**upper, OWN: found[OWN]}), before)


def test_gather_takes_nodes_of_several_layers_in_the_order_asked():
    *_, found = a_case(3)
    layer, node = torch.tensor([7, OWN, 4, 7]), torch.tensor([2, 0, 4, 0])
    positions, scores = gather(layer, node, found)
    for j, (i, v) in enumerate([(7, 2), (OWN, 0), (4, 4), (7, 0)]):
        assert_array_equal(positions[:, j], found[i].positions[:, v])
        assert_array_equal(scores[:, j], found[i].scores[:, v])


def test_gather_of_nothing():
    *_, found = a_case(3)
    none = torch.zeros(0, dtype=torch.int64)
    positions, scores = gather(none, none, found)
    assert positions.shape == (3, 0, 2)
    assert scores.shape == (3, 0)


# -------------------------------------------------------------------------------------------- infer


@given(
    seed=st.integers(0, 2**32 - 1),
    per_pattern=st.booleans(),
    window=st.sampled_from([0.0, 6.0, 25.0]),
)
@settings(max_examples=25, deadline=None)
def test_infer_is_the_formula(seed, per_pattern, window):
    fitted, maps, grid, found = a_case(seed, per_pattern=per_pattern, window=window)
    places, got = look(fitted, maps, grid, found)
    expected = expect_by_loops(fitted, found)
    if window:  # through a wide window at the squared map; scores are in units of the map again
        sigma = torch.full_like(fitted.patterns.sigma, window)
        positions, squares = look_by_loops(maps.double() ** 2, expected, sigma, grid)
        scores = np.sqrt(squares)
    else:
        positions, scores = look_by_loops(maps, expected, fitted.patterns.sigma, grid)
    assert_allclose(places, expected.reshape(3, 6, 2), rtol=1e-4, atol=1e-3)
    assert_allclose(got.scores, scores.reshape(3, 6), rtol=2e-3, atol=1e-5)
    seen = scores.reshape(3, 6) > 1e-4  # far from any activation, rounding decides
    assert_allclose(got.positions[seen], positions.reshape(3, 6, 2)[seen], atol=0.02)


def test_images_do_not_know_of_each_other():
    fitted, maps, grid, found = a_case(5, n=4, window=20.0)
    _, whole = look(fitted, maps, grid, found)
    for i in range(4):
        here = {index: Found(*(t[i : i + 1] for t in f)) for index, f in found.items()}
        _, one = look(fitted, maps[i : i + 1], grid, here)
        for part, all_of_them in zip(one, whole, strict=True):
            assert_allclose(part[0], all_of_them[i], rtol=1e-5, atol=1e-5)


def a_bump(at, h=8, w=8, spread=5.0):
    """A map (1, 1, H, W) with a bump at [x, y] px."""
    grid = a_grid(h, w)
    far = (grid.x[None, :] - at[0]) ** 2 + (grid.y[:, None] - at[1]) ** 2
    return (-far / (2 * spread**2)).exp()[None, None]


def one_pattern(mean, sigma, window):
    none = torch.zeros(0, dtype=torch.int64)
    return Pass(
        Anchors(none, none, torch.zeros(0, 2), torch.zeros(0)),
        torch.zeros(1, 0, dtype=torch.int64),
        torch.zeros(1, 0),
        Patterns(torch.tensor([[mean]]), torch.tensor([[sigma]]), torch.ones(1, 1)),
        torch.tensor([window]),
    )


def test_a_narrow_window_repeats_the_anchors_a_wide_one_finds_the_part():
    """The mean of a product of Gaussians lies between theirs, by the variances."""
    at, expected = torch.tensor([44.0, 40.0]), [28.0, 31.0]
    maps, grid = a_bump(at), a_grid(8, 8)
    found = {OWN: Found(torch.zeros(1, 1, 2), torch.zeros(1, 1))}
    away = at - torch.tensor(expected)

    at_narrow, narrow = look(one_pattern(expected, 4.0, 0.0), maps, grid, found)
    share = 4.0**2 / (4.0**2 + 5.0**2)
    assert_allclose(narrow.positions[0, 0], torch.tensor(expected) + share * away, atol=1.0)

    at_wide, wide = look(one_pattern(expected, 4.0, 30.0), maps, grid, found)
    share = 30.0**2 / (30.0**2 + 5.0**2 / 2)  # the squared map is half as wide in variance
    assert_allclose(wide.positions[0, 0], torch.tensor(expected) + share * away, atol=0.3)
    assert_array_equal(at_narrow, at_wide)


def test_scores_do_not_depend_on_where_the_window_is_but_on_the_map_under_it():
    grid = a_grid(40, 40)
    flat = torch.full((1, 1, 40, 40), 3.0)
    found = {OWN: Found(torch.zeros(1, 1, 2), torch.zeros(1, 1))}
    for window in (0.0, 20.0):
        _, got = look(one_pattern([160.0, 160.0], 16.0, window), flat, grid, found)
        assert float(got.scores) == pytest.approx(3.0, rel=1e-3)  # a mean, of the map itself
        assert_allclose(got.positions[0, 0], [160, 160], atol=1e-2)


@pytest.mark.parametrize("window", [0.0, 20.0])
def test_without_activation_a_node_is_where_it_is_expected(window):
    fitted, maps, grid, found = a_case(6, window=window)
    maps[1, 2] = 0
    expected, got = look(fitted, maps, grid, found)
    assert (got.scores[1, 4:] == 0).all()
    assert_array_equal(got.positions[1, 4:], expected[1, 4:])
    assert got.positions.isfinite().all()
    assert (got.scores >= 0).all()
