"""The baseline of the published model."""

import numpy as np
import pytest
import torch

from benchmarks.published import (
    Bounds,
    Patterns,
    Places,
    best_units,
    fit_patterns,
    mine_published,
    parents_by_distance,
)
from explgraph import metrics
from explgraph.geometry import Layer
from explgraph.mixture import Grid
from explgraph.recording import Activations


def layer(name, index, channels, side):
    stride = 64 / side
    return Layer(name, index, channels, side, side, (stride,) * 2, (stride / 2,) * 2, (9, 9))


def blobs(places, side, width=5.0):
    """Maps (N, C, side, side) with a blob at places (N, C, 2) in images of 64 px."""
    at = (np.arange(side) + 0.5) * 64 / side
    dx, dy = (at - places[..., i, None] for i in (0, 1))
    gx, gy = (np.exp(-0.5 * (d / width) ** 2) for d in (dx, dy))
    return torch.from_numpy(gy[..., :, None] * gx[..., None, :]).float()


@pytest.fixture
def world():
    """Upper filters are at an object, lower ones 10 px to the right of it and anywhere else."""
    rng = np.random.default_rng(0)
    place = rng.uniform(12, 44, (60, 1, 2))
    upper = place + rng.normal(0, 1, (60, 20, 2))
    lower = np.repeat(place + np.array([10.0, 0.0]), 4, axis=1)
    elsewhere = rng.uniform(4, 60, (60, 4, 2))
    maps = [blobs(lower, 16) + blobs(elsewhere, 16), blobs(upper, 8)]
    layers = (layer("low", 0, 4, 16), layer("high", 1, 20, 8))
    return Activations(layers, tuple(map(str, range(60))), (64, 64), maps), lower[:, 0]


def test_best_units_are_those_of_the_formula():
    rng = np.random.default_rng(1)
    maps = torch.from_numpy(rng.random((3, 2, 8, 8))).float()
    patterns = Patterns(
        torch.from_numpy(rng.uniform(0, 64, (2, 3, 2))).float(),
        torch.from_numpy(rng.uniform(5, 20, (2, 3))).float(),
    )
    moved = torch.from_numpy(rng.normal(0, 8, (3, 2, 3, 2))).float()
    grid = Grid.of(layer("a", 0, 2, 8))
    found = best_units(maps, patterns, moved, grid)
    units = np.stack(np.meshgrid(grid.x, grid.y), -1).reshape(-1, 2)
    for n, c, k in np.ndindex(3, 2, 3):
        centre = (patterns.mean[c, k] + moved[n, c, k]).double().numpy()
        variance = float(patterns.sigma[c, k]) ** 2
        density = np.exp(-((units - centre) ** 2).sum(1) / (2 * variance)) / variance
        answer = maps[n, c].double().numpy().ravel() * density
        assert np.allclose(found.positions[n, c, k], units[answer.argmax()])
        assert np.isclose(found.scores[n, c, k], answer.max(), rtol=1e-5)


def test_fitting_is_an_iteration_of_em():
    """Activation itself is counted; all patterns weigh the same; unit by unit in float64."""
    rng = np.random.default_rng(3)
    maps = torch.from_numpy(rng.random((4, 2, 8, 8))).float()
    maps[:, 1, :3] = 0
    patterns = Patterns(
        torch.from_numpy(rng.uniform(10, 54, (2, 3, 2))).float(),
        torch.from_numpy(rng.uniform(5, 15, (2, 3))).float(),
    )
    moved = torch.from_numpy(rng.normal(0, 6, (4, 2, 1, 2))).float()
    grid = Grid.of(layer("a", 0, 2, 8))
    found = fit_patterns(maps, moved, patterns, grid, Bounds(1e-4, 6.0, 14.0))
    units = np.stack(np.meshgrid(grid.x, grid.y), -1)
    for c in range(2):
        weight, first, second = np.zeros(3), np.zeros((3, 2)), np.zeros(3)
        for n in range(4):
            away = units - (patterns.mean[c] + moved[n, c]).double().numpy()[:, None, None]
            variance = patterns.sigma[c].double().numpy()[:, None, None] ** 2
            part = np.exp(-(away**2).sum(-1) / (2 * variance)) / (2 * np.pi * variance)
            answer = maps[n, c].double().numpy() * part / (part.sum(0) + 1e-4)
            weight += answer.sum((1, 2))
            first += (answer[..., None] * away).sum((1, 2))
            second += (answer * (away**2).sum(-1)).sum((1, 2))
        step = first / weight[:, None]
        sigma = np.sqrt((second / weight - (step**2).sum(1)) / 2).clip(6, 14)
        assert np.allclose(found.mean[c], patterns.mean[c].numpy() + step, atol=1e-3)
        assert np.allclose(found.sigma[c], sigma, rtol=1e-3)


def test_parents_are_those_of_least_distance_among_the_restless():
    rng = np.random.default_rng(2)
    child = rng.normal(32, 6, (40, 1, 1, 2))
    noise = np.array([1.0, 3.0, 8.0, 12.0])[:, None, None]
    upper = child + rng.normal(0, 1, (40, 4, 1, 2)) * noise
    upper = np.concatenate([upper, np.full((40, 4, 1, 2), 32.0)], axis=1)  # four stand still
    weights = rng.uniform(0.5, 1, (40, 8, 1))
    places = Places(torch.from_numpy(upper), torch.from_numpy(weights))
    alone = Places(torch.from_numpy(child), torch.ones(40, 1, 1, dtype=torch.float64))
    assert parents_by_distance(alone, places, 3).tolist() == [[0, 1, 2]]
    w = places.weights().numpy()
    distance = []
    for u in range(4):
        between = (child - upper)[:, u, 0]
        # both centred at their own weighted means
        between = between - (child[:, 0, 0].mean(0) - np.average(upper[:, u, 0], 0, w[:, u]))
        distance.append((w[:, u] * (between**2).sum(1)).sum() / w[:, u].sum())
    assert np.argsort(distance).tolist() == [0, 1, 2, 3]


def test_links_follow_what_fixed_places_do_not(world):
    activations, truth = world
    fixed = mine_published(activations, links=False)["low"]
    linked = mine_published(activations, links=True)["low"]
    size = activations.image_size

    def error(places):
        positions, scores = places.positions.flatten(1, 2), places.scores.flatten(1)
        return metrics.few_shot_error(positions.numpy(), scores.numpy(), truth, size, 3)

    # a unit is 4 px, 0.044 of the diagonal
    assert error(linked) < 0.05 < error(fixed)
    assert linked.positions.shape == (60, 4, 5, 2)


def test_the_same_seed_gives_the_same_places(world):
    activations, _ = world
    one, two = (mine_published(activations, links=True, n_iter=3, seed=4) for _ in range(2))
    for name in ("high", "low"):
        assert torch.equal(one[name].positions, two[name].positions)
    other = mine_published(activations, links=True, n_iter=3, seed=5)
    assert not torch.equal(one["low"].positions, other["low"].positions)
