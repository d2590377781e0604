"""The mixture against the formulas written out in float64, on every backend."""
# ruff: noqa: ARG001 the fixture `backend` chooses what runs; few tests need its name

import importlib.util
import itertools
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explgraph import kernel, mixture
from explgraph.geometry import Layer
from explgraph.mixture import Bounds, Grid, Patterns

BACKENDS = ("torch", "any processor", "AVX2", "AVX-512")
SHAPES = [  # n, C, K, H, W
    (3, 4, 20, 14, 14),
    (2, 3, 3, 7, 7),
    (2, 2, 4, 28, 28),
    (1, 2, 6, 13, 33),  # one image, neither square nor a multiple of a vector
    (2, 1, 5, 29, 3),  # one filter
    (3, 2, 1, 1, 9),
    (2, 3, 2, 1, 1),  # one unit
    (20, 2, 2, 5, 4),  # more images than are summed in float32
]


def use(backend, monkeypatch):
    if backend == "torch":
        monkeypatch.setattr(kernel, "available", False)
        return
    if not kernel.available:
        pytest.skip("the kernel was not compiled at installation")
    level = BACKENDS.index(backend) - 1
    if kernel._kernel.limit(level) != level:
        kernel._kernel.limit(len(BACKENDS))
        pytest.skip(f"this processor has no {backend}")


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    use(request.param, monkeypatch)
    yield request.param
    if kernel.available:
        kernel._kernel.limit(len(BACKENDS))


def make(shape, seed=0, *, zeros=0.5, per_pattern=False, dead=0.1, pitch=16.0):
    """Sparse maps, patterns and displacements; all float32."""
    n, c, k, h, w = shape
    draw = torch.Generator().manual_seed(seed)

    def uniform(*size):
        return torch.rand(*size, generator=draw)

    maps = (uniform(n, c, h, w) - zeros).clamp(min=0)
    maps[uniform(n, c, h) < 0.2] = 0  # some rows without anything
    grid = Grid(torch.arange(w) * pitch + 8, torch.arange(h) * pitch + 5, pitch * pitch)
    side = pitch * max(h, w)
    mean = uniform(c, k, 2) * torch.tensor([w * pitch, h * pitch])
    sigma = (0.03 + 0.1 * uniform(c, k)) * side
    alive = (uniform(c, k) >= dead).float()
    displacement = (uniform(n, c, k if per_pattern else 1, 2) - 0.5) * 0.2 * side
    bounds = Bounds(0.1 / (h * w * pitch * pitch), 0.02 * side, 0.2 * side)
    return maps, displacement, Patterns(mean, sigma, alive), grid, bounds


def written_out(maps, displacement, patterns, grid, bounds):
    """The E step unit by unit: offsets and responsibilities as whole arrays, in float64."""
    a = maps.double().numpy()[:, :, None]
    mean, sigma, alive = (t.double().numpy() for t in patterns)
    centre = mean + displacement.double().numpy()  # n C K 2
    dx = grid.x.double().numpy() - centre[..., 0, None, None]
    dy = grid.y.double().numpy()[:, None] - centre[..., 1, None, None]
    s2 = sigma[..., None, None] ** 2
    square = dx**2 + dy**2
    part = alive[..., None, None] * np.exp(-square / (2 * s2)) / (2 * np.pi * s2)
    density = part.sum(2, keepdims=True) + bounds.background
    share = a * part / density
    return {
        "counts": share.sum((0, 3, 4)),
        "offset": np.stack([(share * d).sum((0, 3, 4)) for d in (dx, dy)], -1),
        "square": (share * square).sum((0, 3, 4)),
        "total": a.sum((0, 2, 3, 4)),
        "bound": (a * np.log(density)).sum(),
    }


def assert_agree(found, truth, bounds):
    """Demand 1e-5 of each pattern's own size, or of a thousandth of its filter's activation."""
    least = 1e-3 * truth["total"][:, None]
    count, square = truth["counts"], truth["square"]
    sizes = {
        "counts": count + least,
        "offset": (np.sqrt(count * square) + least * bounds.sigma_max)[..., None],
        "square": square + least * bounds.sigma_max**2,
        "total": truth["total"],
        "bound": np.abs(truth["bound"]),
    }
    for name, size in sizes.items():
        error = np.abs(getattr(found, name).double().numpy() - truth[name])
        assert (error <= 1e-5 * size).all(), (name, (error / size).max())


@pytest.mark.parametrize("per_pattern", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_e_step_is_the_formula(backend, shape, per_pattern):
    case = make(shape, per_pattern=per_pattern)
    found = mixture.summarize(*case)
    assert_agree(found, written_out(*case), case[-1])
    assert found.counts.dtype == torch.float32
    assert found.bound.dtype == torch.float64


def test_a_summary_has_the_shapes_it_promises(backend):
    found = mixture.summarize(*make((3, 4, 5, 6, 7)))
    assert found.counts.shape == found.square.shape == (4, 5)
    assert found.offset.shape == (4, 5, 2)
    assert found.total.shape == (4,)
    assert found.bound.shape == ()


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, most) for most in (18, 3, 9, 20, 40))),
    zeros=st.sampled_from([0.0, 0.5, 0.95]),
    per_pattern=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_shape_on_every_backend(shape, zeros, per_pattern, seed):
    case = make(shape, seed, zeros=zeros, per_pattern=per_pattern)
    truth = written_out(*case)
    expected = case[2].mean + case[1]
    seen = look_around(case[0], expected, 40.0, case[3])
    for backend in BACKENDS:
        with pytest.MonkeyPatch.context() as patch:
            try:
                use(backend, patch)
            except pytest.skip.Exception:
                continue
            assert_agree(mixture.summarize(*case), truth, case[-1])
            assert_found(mixture.survey(case[0], expected, 40.0, case[3]), seen, 40.0)
    if kernel.available:
        kernel._kernel.limit(len(BACKENDS))


def test_constant_maps_put_single_patterns_in_their_middle(backend):
    grid = Grid(torch.arange(9) * 10.0, torch.arange(9) * 10.0, 100.0)
    ones = torch.ones(2, 1, 1)
    patterns = Patterns(ones[:1, :, :1].expand(1, 1, 2) * 40, ones[0] * 8, ones[0])
    bounds = Bounds(1e-6, 1.0, 20.0)
    maps = torch.ones(2, 1, 9, 9)
    delta = torch.zeros(2, 1, 1, 2)
    found = mixture.summarize(maps, delta, patterns, grid, bounds)
    assert_agree(found, written_out(maps, delta, patterns, grid, bounds), bounds)
    assert found.offset.abs().max() < 1e-3
    assert found.total.item() == 162


def test_silent_filters_and_dead_patterns_have_nothing(backend):
    maps, delta, patterns, grid, bounds = make((4, 3, 4, 14, 14), dead=0)
    maps[:, 1] = 0
    patterns.alive[0, 2] = 0
    found = mixture.summarize(maps, delta, patterns, grid, bounds)
    assert_agree(found, written_out(maps, delta, patterns, grid, bounds), bounds)
    for values in (found.counts, found.offset, found.square, found.total):
        assert (values[1] == 0).all()
        assert values.isfinite().all()
    assert found.counts[0, 2] == found.square[0, 2] == 0
    after = mixture.from_summaries(found, patterns, bounds)
    assert torch.equal(after.mean[1], patterns.mean[1])
    assert torch.equal(after.sigma[1], patterns.sigma[1])
    assert torch.equal(after.mean[0, 2], patterns.mean[0, 2])
    assert torch.equal(after.alive, patterns.alive)


def test_subnormal_activations_are_no_trouble(backend):
    maps, *rest = make((2, 2, 3, 14, 14))
    found = mixture.summarize(maps * 1e-42, *rest)
    for values in found:
        assert values.isfinite().all()


def test_layouts_in_memory_do_not_matter(backend):
    maps, delta, patterns, grid, bounds = make((3, 4, 5, 14, 14), per_pattern=True)
    plain = mixture.summarize(maps, delta, patterns, grid, bounds)
    turned = mixture.summarize(
        maps.contiguous(memory_format=torch.channels_last),
        delta.transpose(0, 1).contiguous().transpose(0, 1),
        Patterns(*(t.transpose(0, 1).contiguous().transpose(0, 1) for t in patterns)),
        grid,
        bounds,
    )
    for a, b in zip(plain, turned, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("piece", [1, 5, 16, 17])
def test_batches_add_up(backend, piece):
    maps, delta, patterns, grid, bounds = make((35, 3, 4, 14, 14))
    whole = mixture.summarize(maps, delta, patterns, grid, bounds)
    parts = [
        mixture.summarize(maps[i : i + piece], delta[i : i + piece], patterns, grid, bounds)
        for i in range(0, len(maps), piece)
    ]
    joined = mixture.Summary(*map(sum, zip(*parts, strict=True)))
    truth = {name: values.double().numpy() for name, values in whole._asdict().items()}
    assert_agree(joined, truth, bounds)


def test_the_number_of_threads_changes_no_bit(backend, monkeypatch):
    if backend == "torch":
        pytest.skip("torch promises no such thing")
    monkeypatch.setattr(kernel, "_SHARE", 1)
    case = make((9, 37, 5, 14, 14))
    maps, delta, patterns, grid, _ = case
    expected = patterns.mean + delta
    results = []
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            results.append(
                (
                    *mixture.summarize(*case),
                    *mixture.survey(maps, expected, 40.0, grid),
                    *mixture.peaks(maps, grid, 40.0),
                )
            )
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def test_the_moments_are_the_bound_s_slope(backend):
    """d bound / d mean = offset / s^2;  d bound / d s = square / s^3 - 2 count / s."""
    case = make((4, 2, 3, 14, 14), dead=0)
    maps, delta, patterns, grid, bounds = case
    found = mixture.summarize(*case)

    def bound(mean, sigma):
        return written_out(maps, delta, Patterns(mean, sigma, patterns.alive), grid, bounds)[
            "bound"
        ]

    mean, sigma, _ = (t.double() for t in patterns)
    step = 1e-3
    scale = found.total.max().item() / sigma.min().item()
    for c, k in itertools.product(range(2), range(3)):
        for axis in range(2):
            e = torch.zeros_like(mean)
            e[c, k, axis] = step
            slope = (bound(mean + e, sigma) - bound(mean - e, sigma)) / (2 * step)
            expected = found.offset[c, k, axis] / sigma[c, k] ** 2
            assert slope == pytest.approx(expected.item(), abs=1e-6 * scale)
        e = torch.zeros_like(sigma)
        e[c, k] = step
        slope = (bound(mean, sigma + e) - bound(mean, sigma - e)) / (2 * step)
        s = sigma[c, k]
        expected = found.square[c, k] / s**3 - 2 * found.counts[c, k] / s
        assert slope == pytest.approx(expected.item(), abs=1e-6 * scale)


def test_gradients_flow_through_torch():
    maps, delta, patterns, grid, bounds = make((3, 2, 3, 14, 14), dead=0)
    mean = patterns.mean.clone().requires_grad_()
    found = mixture.summarize(maps, delta, patterns._replace(mean=mean), grid, bounds)
    found.bound.backward()
    expected = found.offset / patterns.sigma.square()[..., None]
    torch.testing.assert_close(mean.grad, expected.detach(), rtol=1e-4, atol=1e-6)


def test_float64_stays_float64():
    maps, delta, patterns, grid, bounds = make((2, 2, 3, 9, 9))
    case = (
        maps.double(),
        delta.double(),
        Patterns(*(t.double() for t in patterns)),
        Grid(grid.x.double(), grid.y.double(), grid.cell),
        bounds,
    )
    found = mixture.summarize(*case)
    truth = written_out(*case)
    assert found.counts.dtype == torch.float64
    np.testing.assert_allclose(found.counts, truth["counts"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.bound, truth["bound"], rtol=1e-12)


def test_the_m_step_is_the_weighted_mean_and_spread(backend):
    case = make((6, 2, 3, 14, 14), dead=0)
    patterns, bounds = case[2], case[4]
    wide = bounds._replace(sigma_min=1e-3, sigma_max=1e3)
    after = mixture.from_summaries(mixture.summarize(*case), patterns, wide)
    truth = written_out(*case)
    step = truth["offset"] / truth["counts"][..., None]
    mean = patterns.mean.double().numpy() + step
    variance = (truth["square"] / truth["counts"] - (step**2).sum(-1)) / 2
    np.testing.assert_allclose(after.mean, mean, rtol=1e-4)
    np.testing.assert_allclose(after.sigma, np.sqrt(variance), rtol=1e-4)


def test_the_m_step_is_best_within_its_bounds(backend):
    """No other parameters raise the expected log-likelihood, also where a bound holds."""
    case = make((6, 2, 3, 14, 14), dead=0)
    patterns = case[2]
    found = mixture.summarize(*case)
    spread = mixture.from_summaries(found, patterns, Bounds(0, 1e-3, 1e3)).sigma
    low, high = spread.flatten().sort()[0][[1, 4]].tolist()
    bounds = Bounds(0, low, high)
    best = mixture.from_summaries(found, patterns, bounds)
    assert (best.sigma == low).sum() == (best.sigma == high).sum() == 2

    def expected(mean, sigma):
        move = (mean - patterns.mean).double()
        square = found.square - 2 * (move * found.offset).sum(-1)
        square = square + move.square().sum(-1) * found.counts
        return -square / (2 * sigma.double().square()) - 2 * found.counts * sigma.double().log()

    top = expected(best.mean, best.sigma)
    slack = 1e-5 * top.abs()
    for dx, dy, factor in itertools.product((-2, 0, 2), (-2, 0, 2), (0.8, 0.95, 1, 1.05, 1.3)):
        mean = best.mean + torch.tensor([float(dx), float(dy)])
        sigma = (best.sigma * factor).clamp(low, high)
        assert (expected(mean, sigma) <= top + slack).all()


@pytest.mark.parametrize(("low", "high"), [(1e-3, 1e3), (20.0, 26.0)])
def test_held_means_stay_and_get_the_best_spread_around_them(backend, low, high):
    """Against trying spreads, with the expected log-likelihood summed unit by unit."""
    case = make((4, 2, 3, 9, 9), dead=0)
    maps, delta, patterns, grid, bounds = case
    bounds = bounds._replace(sigma_min=low, sigma_max=high)
    held = mixture.from_summaries(mixture.summarize(*case), patterns, bounds, hold=True)
    assert torch.equal(held.mean, patterns.mean)
    assert torch.equal(held.alive, patterns.alive)

    # responsibilities and distances from the held means, as whole arrays
    a = maps.double().numpy()[:, :, None]
    mean, sigma, _ = (t.double().numpy() for t in patterns)
    centre = mean + delta.double().numpy()
    square = (grid.x.double().numpy() - centre[..., 0, None, None]) ** 2
    square = square + (grid.y.double().numpy()[:, None] - centre[..., 1, None, None]) ** 2
    s2 = sigma[..., None, None] ** 2
    part = np.exp(-square / (2 * s2)) / (2 * np.pi * s2)
    share = a * part / (part.sum(2, keepdims=True) + bounds.background)
    tried = np.geomspace(max(low, 1.0), min(high, 200.0), 4001)
    for c, k in itertools.product(range(2), range(3)):
        count, moment = share[:, c, k].sum(), (share[:, c, k] * square[:, c, k]).sum()
        expected = -moment / (2 * tried**2) - count * np.log(2 * np.pi * tried**2)
        best = tried[expected.argmax()]
        assert held.sigma[c, k].item() == pytest.approx(best, rel=2e-3)
    free = mixture.from_summaries(mixture.summarize(*case), patterns, bounds)
    assert not torch.equal(free.mean, patterns.mean)
    assert (held.sigma >= free.sigma - 1e-4).all()  # around the mean the spread is least


def test_held_patterns_without_activation_stay_as_they_are(backend):
    case = make((4, 2, 3, 9, 9), dead=0)
    case[0][:, 1] = 0
    held = mixture.from_summaries(mixture.summarize(*case), case[2], case[4], hold=True)
    assert torch.equal(held.sigma[1], case[2].sigma[1])
    assert torch.equal(held.mean, case[2].mean)


def test_the_bound_never_falls_with_means_held(backend):
    maps, delta, patterns, grid, bounds = make((8, 4, 6, 14, 14))
    last = -np.inf
    for _ in range(20):
        found = mixture.summarize(maps, delta, patterns, grid, bounds)
        assert found.bound.item() >= last - 1e-6 * abs(last)
        last = found.bound.item()
        patterns = mixture.from_summaries(found, patterns, bounds, hold=True)


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_never_falls(backend, seed):
    maps, delta, patterns, grid, bounds = make((8, 4, 6, 14, 14), seed)
    last = -np.inf
    for _ in range(30):
        found = mixture.summarize(maps, delta, patterns, grid, bounds)
        assert found.bound.item() >= last - 1e-6 * abs(last)
        last = found.bound.item()
        patterns = mixture.from_summaries(found, patterns, bounds)
        assert (patterns.sigma >= bounds.sigma_min * (1 - 1e-6)).all()
        assert (patterns.sigma <= bounds.sigma_max * (1 + 1e-6)).all()


def test_parameters_come_back_from_data_of_the_model(backend):
    """Units drawn from three displaced patterns and a background, then EM from a poor start."""
    rng = np.random.default_rng(0)
    n, side, pitch = 24, 28, 8.0
    centres = (np.arange(side) + 0.5) * pitch
    mean = np.array([[60.0, 70.0], [150.0, 80.0], [110.0, 140.0]])
    sigma = np.array([9.0, 13.0, 17.0])
    background = 0.3 / (side * pitch) ** 2
    delta = rng.uniform(-15, 15, (n, 2))
    maps = np.zeros((n, side, side))
    for i in range(n):
        density = np.full((side, side), background)
        for m, s in zip(mean + delta[i], sigma, strict=True):
            square = (centres - m[0]) ** 2 + (centres[:, None] - m[1]) ** 2
            density += np.exp(-square / (2 * s**2)) / (2 * np.pi * s**2)
        maps[i] = rng.multinomial(20_000, (density / density.sum()).ravel()).reshape(side, side)
    grid = Grid(*[torch.tensor(centres, dtype=torch.float32)] * 2, pitch**2)
    bounds = Bounds(background, 2.0, 40.0)
    start = torch.tensor(mean + rng.uniform(-25, 25, mean.shape), dtype=torch.float32)
    patterns = Patterns(start[None], torch.full((1, 3), 30.0), torch.ones(1, 3))
    shifts = torch.tensor(delta, dtype=torch.float32)[:, None, None]
    observed = torch.tensor(maps, dtype=torch.float32)[:, None]
    for _ in range(60):
        found = mixture.summarize(observed, shifts, patterns, grid, bounds)
        patterns = mixture.from_summaries(found, patterns, bounds)
    np.testing.assert_allclose(patterns.mean[0], mean, atol=0.3)
    np.testing.assert_allclose(patterns.sigma[0], sigma, rtol=0.02)


def look_around(maps, expected, sigma, grid):
    """Means, spreads and masses of squared maps under Gaussians, unit by unit in float64."""
    a = maps.double().numpy()[:, :, None] ** 2
    centre = expected.double().numpy()
    dx = grid.x.double().numpy() - centre[..., 0, None, None]
    dy = grid.y.double().numpy()[:, None] - centre[..., 1, None, None]
    weight = a * np.exp(-(dx**2 + dy**2) / (2 * sigma**2))
    mass = weight.sum((-1, -2))
    there = mass > 1e-12
    safe = np.where(there, mass, 1)
    step = np.stack([(weight * v).sum((-1, -2)) / safe for v in (dx, dy)], -1)
    away = (dx - step[..., 0, None, None]) ** 2 + (dy - step[..., 1, None, None]) ** 2
    variance = (weight * away).sum((-1, -2)) / safe / 2
    scores = mass * grid.cell / (2 * np.pi * sigma**2)
    return step * there[..., None], variance * there, scores * there


def assert_found(found, truth, sigma):
    """Compare surveys; far from all activation, rounding of the exponent shows."""
    step, variance, scores = truth
    np.testing.assert_allclose(found[2], scores, rtol=1e-4, atol=1e-9)
    clear = scores > 1e-6
    np.testing.assert_allclose(found[0][clear], step[clear], rtol=1e-4, atol=1e-2)
    # a difference of squares in float32
    size = (step**2).sum(-1) + sigma**2
    assert (np.abs(found[1].numpy() - variance)[clear] < 1e-4 * size[clear] + 0.02).all()
    assert all(values.isfinite().all() for values in found)


@pytest.mark.parametrize("sigma", [12.0, 40.0, 300.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_survey_is_mean_spread_and_mass(backend, shape, sigma):
    maps, delta, patterns, grid, _ = make(shape, per_pattern=True)
    expected = patterns.mean + delta
    found = mixture.survey(maps, expected, sigma, grid)
    assert_found(found, look_around(maps, expected, sigma, grid), sigma)
    assert found[0].shape == expected.shape
    assert found[1].shape == found[2].shape == expected.shape[:-1]


def test_a_survey_of_silence_is_where_it_was_expected(backend):
    maps, delta, patterns, grid, _ = make((3, 2, 4, 14, 14))
    maps[1] = 0
    maps[2] = 0
    maps[2, :, 0, 0] = 1  # far from where it is looked for
    expected = patterns.mean + delta
    expected[2] = 210.0
    step, variance, scores = mixture.survey(maps, expected, 5.0, grid)
    for values in (step, variance, scores):
        assert (values[1:] == 0).all()
    assert (scores[0] > 0).any()


def test_a_survey_of_one_unit_finds_it_from_everywhere(backend):
    grid = Grid(torch.arange(14) * 16.0 + 8, torch.arange(14) * 16.0 + 8, 256.0)
    maps = torch.zeros(1, 1, 14, 14)
    maps[0, 0, 5, 3] = 2
    expected = torch.tensor([[[[56.0, 88.0], [60.0, 80.0], [40.0, 100.0]]]])
    step, variance, scores = mixture.survey(maps, expected, 20.0, grid)
    torch.testing.assert_close(expected + step, torch.tensor([56.0, 88.0]).expand(1, 1, 3, 2))
    torch.testing.assert_close(variance, torch.zeros(1, 1, 3), rtol=0, atol=1e-3)
    assert scores[0, 0, 0].item() == pytest.approx(4 * 256 / (2 * np.pi * 400))


def test_a_survey_of_an_even_map_has_the_windows_own_spread(backend):
    grid = Grid(torch.arange(60) * 4.0, torch.arange(60) * 4.0, 16.0)
    place = torch.tensor([[[[121.0, 117.5]]]])
    step, variance, scores = mixture.survey(torch.full((1, 1, 60, 60), 3.0), place, 15.0, grid)
    assert variance.item() == pytest.approx(15.0**2, rel=1e-3)
    assert scores.item() == pytest.approx(9, rel=1e-4)
    np.testing.assert_allclose(step, 0, atol=1e-3)


@pytest.mark.parametrize("lead", [(), (3,), (2, 4)])
def test_gaussians_are_the_formula(lead):
    maps, _, _, grid, _ = make((1, 1, 1, 5, 7))
    places = torch.rand(*lead, 2, generator=torch.Generator().manual_seed(0)) * 100
    weights = mixture.gaussians(places, 30.0, grid)
    assert weights.shape == (*lead, 35)
    for index in np.ndindex(*lead):
        place = places[index].double().numpy()
        for row, column in itertools.product(range(5), range(7)):
            square = (float(grid.x[column]) - place[0]) ** 2 + (float(grid.y[row]) - place[1]) ** 2
            density = grid.cell * np.exp(-square / 2 / 900) / (2 * np.pi * 900)
            found = weights[(*index, row * 7 + column)].item()  # units in the order of a flat map
            assert found == pytest.approx(density, rel=1e-4)
            assert maps.flatten(2)[0, 0, row * 7 + column] == maps[0, 0, row, column]


def test_gaussians_under_squared_maps_are_a_surveys_scores():
    maps, delta, patterns, grid, _ = make((3, 2, 1, 14, 14))
    expected = (patterns.mean + delta)[:, :, 0]
    scores = (maps.flatten(2).square() * mixture.gaussians(expected, 40.0, grid)).sum(-1)
    truth = mixture.survey(maps, expected[:, :, None], 40.0, grid)[2]
    np.testing.assert_allclose(scores, truth[:, :, 0], rtol=1e-4)
    inside = torch.tensor([110.0, 110.0])
    grid = Grid(torch.arange(56) * 4.0 + 2, torch.arange(56) * 4.0 + 2, 16.0)
    assert mixture.gaussians(inside, 20.0, grid).sum().item() == pytest.approx(1, rel=1e-4)


def highest(maps, grid, reach):
    """Peaks by looping over maps, in float64."""
    x, y = grid.x.double().numpy(), grid.y.double().numpy()
    n, c = maps.shape[:2]
    positions = np.empty((n, c, 2))
    scores = np.empty((n, c))
    for i, j in itertools.product(range(n), range(c)):
        a = maps[i, j].double().numpy()
        h, w = np.unravel_index(a.argmax(), a.shape)
        scores[i, j] = a[h, w]
        near = (np.abs(y - y[h]) <= reach)[:, None] & (np.abs(x - x[w]) <= reach)
        part = a * near
        if a[h, w] > 0:
            positions[i, j] = (part * x).sum() / part.sum(), (part * y[:, None]).sum() / part.sum()
        else:
            positions[i, j] = x.mean(), y.mean()
    return positions, scores


@pytest.mark.parametrize("reach", [0.0, 32.0, 50.0, 1e4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_peaks_are_the_highest_units_refined(backend, shape, reach):
    maps, _, _, grid, _ = make(shape, zeros=0.6)
    maps = (maps * 8).round() / 8  # several units share the highest value
    maps[0, 0] = 0
    positions, scores = mixture.peaks(maps, grid, reach)
    places, heights = highest(maps, grid, reach)
    np.testing.assert_allclose(positions, places, rtol=1e-6, atol=1e-3)
    np.testing.assert_array_equal(scores, heights.astype(np.float32))


def test_the_grid_of_a_layer():
    grid = Grid.of(Layer("a", 0, 4, 2, 3, (16.0, 8.0), (15.5, 3.5), (40.0, 20.0)))
    assert grid.x.tolist() == [15.5, 31.5, 47.5]
    assert grid.y.tolist() == [3.5, 11.5]
    assert grid.cell == 128


def test_a_wrong_shape_is_named(monkeypatch):
    use("any processor", monkeypatch)
    maps, delta, patterns, grid, bounds = make((3, 2, 4, 14, 14))
    with pytest.raises(ValueError, match=r"displacement has shape \(2, 2, 1, 2\), expected \(3,"):
        mixture.summarize(maps, delta[:2], patterns, grid, bounds)
    with pytest.raises(ValueError, match=r"x has shape \(13,\), expected \(14,\)"):
        mixture.summarize(maps, delta, patterns, grid._replace(x=grid.x[1:]), bounds)
    kernel._kernel.limit(len(BACKENDS))


def test_a_failure_in_a_thread_is_raised(monkeypatch):
    monkeypatch.setattr(kernel, "_SHARE", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    done = []

    def work(first, last):
        if first <= 50 < last:
            raise MemoryError("no room")
        done.append((first, last))

    with pytest.raises(MemoryError, match="no room"):
        kernel._share(work, 100, 10)


def test_every_filter_is_done_once(monkeypatch):
    monkeypatch.setattr(kernel, "_SHARE", 1)
    for threads, filters in itertools.product((1, 2, 7), (0, 1, 2, 5, 100)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        done = []
        kernel._share(lambda first, last, d=done: d.extend(range(first, last)), filters, 10)
        assert sorted(done) == list(range(filters))


def test_without_the_extension_torch_does_the_work(monkeypatch):
    import explgraph

    monkeypatch.delattr(explgraph, "_kernel", raising=False)
    monkeypatch.setitem(sys.modules, "explgraph._kernel", None)
    spec = importlib.util.spec_from_file_location("kernel_without", kernel.__file__)
    without = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(without)
    assert not without.available
    assert not without.serves(torch.zeros(1))
