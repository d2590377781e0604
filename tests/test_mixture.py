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
from scipy.optimize import minimize

from explgraph import kernel, mixture
from explgraph.geometry import Layer
from explgraph.mixture import Bounds, Counts, Grid, Mixture

BACKENDS = ("torch", "any processor", "AVX2", "AVX-512")
SHAPES = [  # n, C, K, H, W
    (3, 4, 20, 14, 14),
    (2, 3, 3, 7, 7),
    (2, 2, 4, 28, 28),
    (1, 2, 6, 13, 33),  # one image, neither square nor a multiple of a vector
    (2, 1, 5, 29, 3),  # one filter
    (3, 2, 1, 1, 9),
    (2, 3, 2, 1, 1),  # one unit
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


def make(shape, seed=0, *, zeros=0.5, own=False, dead=0.2, pitch=16.0, filters=None):
    """Give the arguments of an E step: sparse maps, and patterns around them; all float32.

    With `own`, shares are image by image. Some shares are 0. `filters` may be more or fewer than
    maps; which maps they have is drawn.
    """
    n, c, k, h, w = shape
    draw = torch.Generator().manual_seed(seed)

    def uniform(*size):
        return torch.rand(*size, generator=draw)

    maps = (uniform(n, c, h, w) - zeros).clamp(min=0)
    maps[uniform(n, c, h) < 0.2] = 0  # some rows without anything
    grid = Grid(torch.arange(w) * pitch + 8, torch.arange(h) * pitch + 5, pitch * pitch)
    side = pitch * max(h, w)
    if filters is None:
        filters, which = c, torch.arange(c)
    else:
        which = torch.randint(c, (filters,), generator=draw)
    centre = uniform(n, filters, k, 2) * torch.tensor([w * pitch, h * pitch])
    sigma = (0.03 + 0.1 * uniform(filters, k)) * side
    images = n if own else 1
    share = uniform(images, filters, k) * (uniform(filters, k) >= dead)
    rest = 0.02 + 0.3 * uniform(images, filters)
    norm = share.sum(-1) + rest
    background = rest / norm / (h * w * pitch**2)
    return maps, which, centre, sigma, share / norm[..., None], background, grid


def written_out(maps, which, centre, sigma, share, background, grid, **_):
    """The E step by loops over images, filters and patterns, units as arrays, in float64."""
    n, filters, k, _ = centre.shape
    x, y = grid.x.double().numpy(), grid.y.double().numpy()[:, None]
    found = {
        "count": np.zeros((n, filters, k)),
        "offset": np.zeros((n, filters, k, 2)),
        "square": np.zeros((n, filters, k)),
        "total": np.zeros((n, filters)),
        "likelihood": np.zeros((n, filters)),
        "rest": np.zeros((n, filters, *maps.shape[2:])),
    }
    for i, f in np.ndindex(n, filters):
        s = maps[i, which[f]].double().numpy() ** 2
        own = share[i if len(share) > 1 else 0, f].double().numpy()
        none = float(background[i if len(background) > 1 else 0, f])
        parts = []
        for j in range(k):
            m, v = centre[i, f, j].double().numpy(), float(sigma[f, j]) ** 2
            square = (x - m[0]) ** 2 + (y - m[1]) ** 2
            parts.append(own[j] * np.exp(-square / (2 * v)) / (2 * np.pi * v))
        density = none + sum(parts)
        for j in range(k):
            m, responsible = centre[i, f, j].double().numpy(), s * parts[j] / density
            found["count"][i, f, j] = responsible.sum()
            found["offset"][i, f, j] = (
                (responsible * (x - m[0])).sum(),
                (responsible * (y - m[1])).sum(),
            )
            square = (x - m[0]) ** 2 + (y - m[1]) ** 2
            found["square"][i, f, j] = (responsible * square).sum()
        found["total"][i, f] = s.sum()
        found["likelihood"][i, f] = (s * np.log(density)).sum()
        found["rest"][i, f] = s * none / density
    return found


def assert_agree(found, truth, sigma):
    """Demand 1e-5 of each pattern's own size, or of a thousandth of its map's activation."""
    least = 1e-3 * truth["total"][..., None]
    count, square = truth["count"], truth["square"]
    wide = float(sigma.max())
    sizes = {
        "count": count + least,
        "offset": (np.sqrt(count * square) + least * wide)[..., None],
        "square": square + least * wide**2,
        "total": truth["total"],
        "likelihood": np.abs(truth["likelihood"]),
        "rest": truth["rest"] + 1e-3 * truth["total"][..., None, None],
    }
    for name, size in sizes.items():
        if name == "rest" and found.rest is None:
            continue
        error = np.abs(getattr(found, name).double().numpy() - truth[name])
        assert (error <= 2e-5 * size).all(), (name, (error / (size + 1e-30)).max())


# ------------------------------------------------------------------------------------------- E step


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_e_step_is_the_formula(backend, shape, own):
    case = make(shape, own=own)
    found = mixture.e_step(*case, rest=True)
    assert_agree(found, written_out(*case), case[3])
    for values in found:
        assert values.dtype == torch.float32
    n, c, k, h, w = shape
    assert found.count.shape == found.square.shape == (n, c, k)
    assert found.offset.shape == (n, c, k, 2)
    assert found.total.shape == found.likelihood.shape == (n, c)
    assert found.rest.shape == (n, c, h, w)
    without = mixture.e_step(*case)
    assert without.rest is None
    for one, other in zip(without[:5], found[:5], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("own", [False, True])
def test_filters_may_share_a_map_and_come_in_any_order(backend, own):
    case = make((3, 4, 3, 7, 9), own=own, filters=11)
    assert len(set(case[1].tolist())) < 11
    assert case[1].tolist() != sorted(case[1].tolist())
    found = mixture.e_step(*case, rest=True)
    assert_agree(found, written_out(*case), case[3])
    few = make((3, 6, 2, 7, 9), own=own, filters=2)
    assert_agree(mixture.e_step(*few, rest=True), written_out(*few), few[3])


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, most) for most in (6, 3, 6, 18, 36))),
    zeros=st.sampled_from([0.0, 0.5, 0.95]),
    own=st.booleans(),
    filters=st.sampled_from([None, 1, 5]),
    seed=st.integers(0, 1000),
)
def test_any_shape_on_every_backend(shape, zeros, own, filters, seed):
    case = make(shape, seed, zeros=zeros, own=own, filters=filters)
    truth = written_out(*case)
    maps, grid = case[0], case[-1]
    expected = make(shape, seed)[2]
    seen = look_around(maps, expected, 40.0, grid)
    for backend in BACKENDS:
        with pytest.MonkeyPatch.context() as patch:
            try:
                use(backend, patch)
            except pytest.skip.Exception:
                continue
            assert_agree(mixture.e_step(*case, rest=True), truth, case[3])
            assert_found(mixture.survey(maps, expected, 40.0, grid), seen, 40.0)
    if kernel.available:
        kernel._kernel.limit(len(BACKENDS))


def test_silent_maps_and_absent_patterns_have_nothing(backend):
    case = make((4, 3, 4, 14, 14), dead=0)
    maps, share = case[0], case[4]
    maps[:, 1] = 0
    maps[2, 0] = 0  # in one image
    share[0, 0, 2] = 0
    found = mixture.e_step(*case, rest=True)
    assert_agree(found, written_out(*case), case[3])
    for values in found:
        assert (values[:, 1] == 0).all()
        assert (values[2, 0] == 0).all()
        assert values.isfinite().all()
    assert (found.count[:, 0, 2] == 0).all()
    assert (found.square[:, 0, 2] == 0).all()


def test_all_is_shared_out(backend):
    found = mixture.e_step(*make((4, 3, 4, 14, 14)), rest=True)
    shared = found.count.sum(-1) + found.rest.sum((-1, -2))
    torch.testing.assert_close(shared, found.total, rtol=1e-5, atol=1e-6)


def test_the_background_alone(backend):
    """Without patterns that take part the likelihood is that of an even density."""
    maps, which, centre, sigma, share, background, grid = make((3, 2, 2, 7, 7))
    found = mixture.e_step(
        maps, which, centre, sigma, 0 * share, 0 * background + 1e-4, grid, rest=True
    )
    torch.testing.assert_close(found.rest, maps.square(), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.likelihood, found.total * np.log(1e-4), rtol=1e-5, atol=0)
    assert (found.count == 0).all()


def test_hardly_any_activation_is_no_trouble(backend):
    case = list(make((2, 2, 3, 14, 14)))
    case[0] = case[0] * 1e-22  # whose squares are subnormal
    found = mixture.e_step(*case, rest=True)
    for values in found:
        assert values.isfinite().all()


def test_far_from_every_pattern_the_background_answers(backend):
    maps, which, centre, sigma, share, background, grid = make((2, 2, 3, 14, 14))
    found = mixture.e_step(maps, which, centre + 1e4, sigma, share, background, grid, rest=True)
    torch.testing.assert_close(found.rest, maps.square(), rtol=1e-4, atol=1e-7)
    assert (found.count <= 1e-4 * found.total[..., None]).all()


def test_no_images_give_no_rows(backend):
    maps, which, centre, sigma, share, background, grid = make((2, 2, 3, 14, 14))
    found = mixture.e_step(maps[:0], which, centre[:0], sigma, share, background, grid)
    assert found.count.shape == (0, 2, 3)
    assert found.likelihood.shape == (0, 2)


def test_no_filters_and_no_patterns_are_no_trouble(backend):
    maps, which, centre, sigma, share, background, grid = make((2, 3, 2, 7, 7))
    none = mixture.e_step(
        maps, which, centre[:, :, :0], sigma[:, :0], share[:, :, :0], background, grid, rest=True
    )
    assert none.count.shape == (2, 3, 0)
    torch.testing.assert_close(none.rest, maps.square(), rtol=1e-5, atol=1e-7)
    nobody = mixture.e_step(
        maps, which[:0], centre[:, :0], sigma[:0], share[:, :0], background[:, :0], grid
    )
    assert nobody.count.shape == (2, 0, 2)


def test_layouts_in_memory_do_not_matter(backend):
    case = make((3, 4, 5, 14, 14), own=True)
    plain = mixture.e_step(*case, rest=True)

    def turned(values):
        return values.transpose(0, 1).contiguous().transpose(0, 1)

    maps, which, *rest, grid = case
    other = mixture.e_step(
        maps.contiguous(memory_format=torch.channels_last),
        which,
        *(turned(values) for values in rest),
        grid,
        rest=True,
    )
    for a, b in zip(plain, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("own", [False, True])
def test_images_and_filters_do_not_know_of_each_other(backend, own):
    maps, which, centre, sigma, share, background, grid = make((5, 6, 3, 14, 14), own=own)
    whole = mixture.e_step(maps, which, centre, sigma, share, background, grid)
    for i, f in ((0, 0), (3, 5), (4, 2)):
        here = slice(i, i + 1) if own else slice(0, 1)
        alone = mixture.e_step(
            maps[i : i + 1],
            which[f : f + 1],
            centre[i : i + 1, f : f + 1],
            sigma[f : f + 1],
            share[here, f : f + 1],
            background[here, f : f + 1],
            grid,
        )
        for a, b in zip(alone[:5], whole[:5], strict=True):
            torch.testing.assert_close(a[0, 0], b[i, f], rtol=1e-5, atol=1e-4)


def test_the_number_of_threads_changes_no_bit(backend, monkeypatch):
    if backend == "torch":
        pytest.skip("torch promises no such thing")
    monkeypatch.setattr(kernel, "_SHARE", 1)
    case = make((5, 37, 3, 14, 14), own=True)
    maps, centre, grid = case[0], case[2], case[-1]
    results = []
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            results.append(
                (
                    *mixture.e_step(*case, rest=True),
                    *mixture.survey(maps, centre, 40.0, grid),
                    *mixture.peaks(maps, grid, 40.0),
                )
            )
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


def doubled(case):
    """The same arguments in float64."""
    return [
        Grid(v.x.double(), v.y.double(), v.cell)
        if isinstance(v, Grid)
        else v.double()
        if v.is_floating_point()
        else v
        for v in case
    ]


def test_float64_stays_float64():
    case = doubled(make((2, 2, 3, 9, 9), own=True))
    found, truth = mixture.e_step(*case, rest=True), written_out(*case)
    for name, values in found._asdict().items():
        assert values.dtype == torch.float64
        np.testing.assert_allclose(values, truth[name], rtol=1e-9, atol=1e-10)


def test_the_moments_are_the_likelihoods_slopes():
    """By centre offset / s^2, by s square / s^3 - 2 count / s, by the share count / share."""
    maps, which, centre, sigma, share, background, grid = doubled(make((2, 2, 3, 9, 9), dead=0))
    values = [v.clone().requires_grad_() for v in (centre, sigma, share, background)]
    found = mixture.e_step(maps, which, *values, grid, rest=True)
    found.likelihood.sum().backward()
    found = Counts(*(v.detach() for v in found))
    slopes = (
        found.offset / sigma.square()[..., None],
        (found.square / sigma**3 - 2 * found.count / sigma).sum(0),
        (found.count / share).sum(0, keepdim=True),
        (found.rest.sum((-1, -2)) / background).sum(0, keepdim=True),
    )
    for value, slope in zip(values, slopes, strict=True):
        torch.testing.assert_close(value.grad, slope, rtol=1e-8, atol=1e-10)


# ------------------------------------------------------------------------------------------- M step

FREE = Bounds(1e-3, 1e4, 0.0, 0.0)


def a_fit(seed=0, n=12, c=2, k=2, side=14, pitch=16.0, dtype=torch.float32):
    """Maps of blobs that move, mixtures that are near them, and motions; image by image."""
    rng = np.random.default_rng(seed)
    whole = side * pitch
    centres = (np.arange(side) + 0.5) * pitch
    mean = rng.uniform(0.25, 0.75, (c, k, 2)) * whole
    motion = rng.normal(0, 0.08 * whole, (n, c, k, 2))
    follow = rng.uniform(0, 1.3, (c, k))
    spread = rng.uniform(0.05, 0.1, (c, k)) * whole
    maps = 0.05 * rng.random((n, c, side, side))
    for i, f, j in np.ndindex(n, c, k):
        x, y = mean[f, j] + follow[f, j] * motion[i, f, j]
        square = (centres - x) ** 2 + (centres[:, None] - y) ** 2
        maps[i, f] += rng.uniform(0, 1.5) * np.exp(-square / (4 * spread[f, j] ** 2))
    start = Mixture(
        tensor(mean + rng.normal(0, 0.05 * whole, mean.shape), dtype),
        tensor(rng.uniform(0.5, 1, (c, k)), dtype),
        tensor(rng.uniform(0.06, 0.15, (c, k)) * whole, dtype),
        torch.full((c, k), 0.4, dtype=dtype),
        torch.full((c,), 1 - 0.4 * k, dtype=dtype),
    )
    grid = Grid(*[tensor(centres, dtype)] * 2, pitch**2)
    return tensor(maps, dtype), start, tensor(motion, dtype), grid


def tensor(values, dtype=torch.float32):
    return torch.from_numpy(np.asarray(values)).to(dtype)


def counted(maps, mixed, motion, grid, area):
    which = torch.arange(maps.shape[1])
    return mixture.e_step(
        maps,
        which,
        mixed.places(motion),
        mixed.sigma,
        mixed.share[None],
        mixed.background[None] / area,
        grid,
        rest=True,
    )


def area_of(grid):
    return grid.cell * len(grid.x) * len(grid.y)


def responsible(maps, mixed, motion, grid):
    """Responsibilities times squared activation, (n, C, K, H, W), and offsets of units, float64."""
    place = mixed.places(motion).double().numpy()
    dx = grid.x.double().numpy() - place[..., 0, None, None]
    dy = grid.y.double().numpy()[:, None] - place[..., 1, None, None]
    variance = mixed.sigma.double().numpy()[..., None, None] ** 2
    part = np.exp(-(dx**2 + dy**2) / (2 * variance)) / (2 * np.pi * variance)
    part = part * mixed.share.double().numpy()[..., None, None]
    none = mixed.background.double().numpy()[:, None, None] / area_of(grid)
    squares = maps.double().numpy() ** 2
    density = part.sum(2) + none
    return part * (squares / density)[:, :, None], squares * none / density


@pytest.mark.parametrize("prior", [0.0, 3.0, 40.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_m_step_is_the_weighted_regression(backend, seed, prior):
    """By least squares over units and images: as if `prior` images more followed exactly."""
    maps, mixed, motion, grid = a_fit(seed)
    found = mixture.m_step(
        counted(maps, mixed, motion, grid, area_of(grid)), mixed, motion, FREE._replace(prior=prior)
    )
    weights, _ = responsible(maps, mixed, motion, grid)
    n = len(maps)
    units = np.stack(np.meshgrid(grid.x.double(), grid.y.double()), -1)  # H W 2
    for f, j in np.ndindex(2, 2):
        w = weights[:, f, j]
        m = motion[:, f, j].double().numpy()
        usual = (w.sum((1, 2))[:, None] * m).sum(0) / w.sum()
        scatter = (w.sum((1, 2)) * ((m - usual) ** 2).sum(1)).sum()
        # rows of a least-squares problem in (mean x, mean y, follow)
        rows, values = [], []
        for axis in (0, 1):
            here = np.zeros((*w.shape, 3))
            here[..., axis] = 1
            here[..., 2] = m[:, axis, None, None]
            rows.append((here * np.sqrt(w)[..., None]).reshape(-1, 3))
            values.append((units[..., axis] * np.sqrt(w)).ravel())
        rows.append([[0, 0, np.sqrt(prior / n * scatter)]])
        values.append([np.sqrt(prior / n * scatter)])
        x, y, follow = np.linalg.lstsq(np.concatenate(rows), np.concatenate(values), rcond=None)[0]
        follow_held = min(max(follow, 0), 1.5)
        if follow_held != follow:  # the places that go with it
            middle = [(w * units[..., a]).sum() / w.sum() for a in (0, 1)]
            x, y = np.array(middle) - follow_held * usual
        place = np.array([x, y]) + follow_held * m
        away = ((units - place[:, None, None]) ** 2).sum(-1)
        sigma = np.sqrt((w * away).sum() / w.sum() / 2)
        assert float(found.follow[f, j]) == pytest.approx(follow_held, abs=2e-4)
        np.testing.assert_allclose(found.mean[f, j], [x, y], atol=0.02)
        assert float(found.sigma[f, j]) == pytest.approx(sigma, rel=1e-3)


@pytest.mark.parametrize(("low", "high"), [(1e-3, 1e4), (12.0, 14.0)])
def test_the_m_step_is_best_by_a_numerical_optimiser(low, high):
    """Of the expected log-likelihood within the bounds, over all parameters at once, in float64."""
    maps, mixed, motion, grid = a_fit(3, dtype=torch.float64, c=1)
    bounds = Bounds(low, high, 0.0, 0.0)
    found = mixture.m_step(counted(maps, mixed, motion, grid, area_of(grid)), mixed, motion, bounds)
    weights, none = responsible(maps, mixed, motion, grid)
    units = np.stack(np.meshgrid(grid.x, grid.y), -1)
    total = (maps.numpy() ** 2).sum()
    for j in range(2):
        w, m = weights[:, 0, j], motion[:, 0, j].numpy()

        def loss(p, w=w, m=m):
            place = p[:2] * 100 + p[2] * m
            away = ((units - place[:, None, None]) ** 2).sum(-1)
            sigma = p[3] * 10
            return (w * (away / (2 * sigma**2) + 2 * np.log(sigma))).sum() / w.sum()

        best = minimize(
            loss,
            [1.0, 1.0, 0.5, (max(low, 1) + min(high, 30)) / 20],
            bounds=[(None, None), (None, None), (0, 1.5), (low / 10, high / 10)],
            method="L-BFGS-B",
            options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 2000},
        ).x
        np.testing.assert_allclose(found.mean[0, j], best[:2] * 100, atol=0.05)
        assert float(found.follow[0, j]) == pytest.approx(best[2], abs=1e-3)
        assert float(found.sigma[0, j]) == pytest.approx(best[3] * 10, rel=1e-3)
        assert float(found.share[0, j]) == pytest.approx(w.sum() / total, rel=1e-6)
    assert float(found.background[0]) == pytest.approx(none.sum() / total, rel=1e-6)


def test_shares_are_what_each_answers_for(backend):
    maps, mixed, motion, grid = a_fit(4)
    counts = counted(maps, mixed, motion, grid, area_of(grid))
    found = mixture.m_step(counts, mixed, motion, FREE)
    weights, none = responsible(maps, mixed, motion, grid)
    total = (maps.double().numpy() ** 2).sum((0, 2, 3))
    np.testing.assert_allclose(found.share, weights.sum((0, 3, 4)) / total[:, None], rtol=1e-4)
    np.testing.assert_allclose(found.background, none.sum((0, 2, 3)) / total, rtol=1e-3)


def test_the_background_keeps_its_least_share(backend):
    maps, mixed, motion, grid = a_fit(4)
    counts = counted(maps, mixed, motion, grid, area_of(grid))
    usual = mixture.m_step(counts, mixed, motion, FREE)
    held = mixture.m_step(counts, mixed, motion, FREE._replace(background=0.5))
    assert (usual.background < 0.5).all()
    torch.testing.assert_close(held.background, torch.full((2,), 0.5))
    torch.testing.assert_close(held.share.sum(1), torch.full((2,), 0.5))
    torch.testing.assert_close(  # in the same proportions
        held.share / held.share.sum(1, keepdim=True), usual.share / usual.share.sum(1, keepdim=True)
    )


def test_a_pattern_follows_neither_backwards_nor_twice():
    maps, mixed, motion, grid = a_fit(5)
    still = mixed._replace(follow=0 * mixed.follow)
    counts = counted(maps, still, motion, grid, area_of(grid))
    backwards = mixture.m_step(counts, still, -motion, FREE)
    assert (backwards.follow == 0).all()
    slow = mixture.m_step(counts, still, motion / 20, FREE)
    assert (slow.follow == 1.5).all()


def test_what_is_silent_or_absent_stays_as_it_is(backend):
    maps, mixed, motion, grid = a_fit(6)
    maps[:, 1] = 0
    mixed.share[0, 1] = 0
    counts = counted(maps, mixed, motion, grid, area_of(grid))
    found = mixture.m_step(counts, mixed, motion, Bounds(1.0, 50.0, 0.02, 5.0))
    for name in ("mean", "follow", "sigma"):
        before, after = getattr(mixed, name), getattr(found, name)
        assert torch.equal(after[1], before[1])
        assert torch.equal(after[0, 1], before[0, 1])
    assert found.share[0, 1] == 0
    assert all(values.isfinite().all() for values in found)


def test_what_stands_still_has_no_share_of_a_motion(backend):
    maps, mixed, motion, grid = a_fit(7)
    motion[:, :, 0] = 0
    motion[:, :, 1] = 40.0  # the same in all images: no motion either
    counts = counted(maps, mixed, motion, grid, area_of(grid))
    found = mixture.m_step(counts, mixed, motion, FREE._replace(prior=5.0))
    assert torch.equal(found.follow, mixed.follow)
    assert (found.mean - mixed.mean).abs().min() > 1e-3


def penalty(counts, mixed, sigma, motion, prior):
    """What following the motion otherwise than exactly costs, nats, (C,), with some spreads."""
    weight, m = counts.count.double()[..., None], motion.double()
    usual = (weight * m).sum(0) / weight.sum(0)
    scatter = (weight * (m - usual).square()).sum((0, -1))
    cost = prior / len(motion) * scatter * (1 - mixed.follow.double()).square()
    return (cost / (2 * sigma.double().square())).sum(1)


def a_posed_fit(seed, n=16, k=2, q=3, dtype=torch.float32):
    """Maps, mixtures, poses, loadings, and those that they are drawn to; the last stands still."""
    maps, mixed, _, grid = a_fit(seed, n=n, k=k, dtype=dtype)
    rng = np.random.default_rng([seed, 7])
    poses = rng.standard_normal((n, q))
    usual = rng.normal(0, 8, (2, k, 2, q))
    usual[1, k - 1] = 0
    loading = usual + rng.normal(0, 3, usual.shape) * (usual != 0)
    return maps, mixed, grid, *(tensor(v, dtype) for v in (poses, loading, usual))


def counted_at(maps, mixed, loading, poses, grid):
    moved = torch.einsum("fkiq,nq->nfki", loading, poses)
    places = mixed._replace(follow=torch.ones_like(mixed.follow))
    return counted(maps, places, moved, grid, area_of(grid)), places, moved


@pytest.mark.parametrize("prior", [0.0, 3.0, 40.0])
@pytest.mark.parametrize("seed", range(2))
def test_own_motions_are_the_weighted_ridge_regression(backend, seed, prior):
    """By least squares over units and images, drawn to the usual loading."""
    maps, mixed, grid, poses, loading, usual = a_posed_fit(seed)
    counts, places, moved = counted_at(maps, mixed, loading, poses, grid)
    found, own = mixture.regress(counts, mixed, loading, usual, poses, FREE._replace(prior=prior))
    weights, _ = responsible(maps, places, moved, grid)
    n, q = poses.shape
    units = np.stack(np.meshgrid(grid.x.double(), grid.y.double()), -1)
    z = np.column_stack([np.ones(n), poses.double().numpy()])
    for f, j in np.ndindex(2, 2):
        w = weights[:, f, j]
        still = bool((usual[f, j] == 0).all())
        place = np.zeros((n, 2))
        for axis in (0, 1):
            design = np.broadcast_to(z[:, None, None], (*w.shape, q + 1)) * np.sqrt(w)[..., None]
            values = units[..., axis] * np.sqrt(w)
            pull = np.sqrt(prior / n * w.sum()) * np.eye(q + 1)[1:]
            to = pull[:, 1:] @ usual[f, j, axis].double().numpy()
            columns = slice(0, 1) if still else slice(None)
            rows = np.concatenate([design.reshape(-1, q + 1), pull])[:, columns]
            solution = np.linalg.lstsq(rows, np.concatenate([values.ravel(), to]), rcond=None)[0]
            solution = np.pad(solution, (0, q + 1 - len(solution)))
            assert float(found.mean[f, j, axis]) == pytest.approx(solution[0], abs=0.03)
            np.testing.assert_allclose(own[f, j, axis], solution[1:], atol=0.03)
            place[:, axis] = z @ solution
        away = ((units - place[:, None, None]) ** 2).sum(-1)
        sigma = np.sqrt((w * away).sum() / w.sum() / 2)
        assert float(found.sigma[f, j]) == pytest.approx(sigma, rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_with_own_motions_the_likelihood_never_falls(seed):
    maps, mixed, grid, poses, loading, usual = a_posed_fit(seed, dtype=torch.float64)
    likelihood = None
    for _ in range(10):
        counts, _, _ = counted_at(maps, mixed, loading, poses, grid)
        now = counts.likelihood.sum(0)
        assert likelihood is None or (now >= likelihood - 1e-9 * now.abs()).all()
        likelihood = now
        mixed, loading = mixture.regress(counts, mixed, loading, usual, poses, FREE)
        assert (loading[1, 1] == 0).all()


def test_silent_patterns_keep_their_motions(backend):
    maps, mixed, grid, poses, loading, usual = a_posed_fit(3)
    maps[:, 0] = 0
    counts, _, _ = counted_at(maps, mixed, loading, poses, grid)
    found, own = mixture.regress(counts, mixed, loading, usual, poses, FREE)
    assert torch.equal(found.mean[0], mixed.mean[0])
    assert torch.equal(own[0], loading[0])
    assert torch.equal(found.sigma[0], mixed.sigma[0])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, 4),
    background=st.sampled_from([0.0, 0.02, 0.3]),
    prior=st.sampled_from([0.0, 2.0, 20.0]),
    high=st.sampled_from([15.0, 1e4]),
)
def test_the_likelihood_never_falls(seed, k, background, prior, high):
    """By no more than what the prior gains; where there is none, not at all."""
    maps, mixed, motion, grid = a_fit(seed, n=8, k=k, dtype=torch.float64)
    mixed = mixed._replace(
        share=torch.full_like(mixed.share, 0.6 / k),
        background=torch.full_like(mixed.background, 0.4),
        sigma=mixed.sigma.clamp(max=high),
    )
    bounds = Bounds(8.0, high, background, prior)
    for _ in range(12):
        counts = counted(maps, mixed, motion, grid, area_of(grid))
        after = mixture.m_step(counts, mixed, motion, bounds)
        new = counted(maps, after, motion, grid, area_of(grid))
        gain = new.likelihood.sum(0) - counts.likelihood.sum(0)
        paid = penalty(counts, after, mixed.sigma, motion, prior)
        paid = paid - penalty(counts, mixed, mixed.sigma, motion, prior)
        assert (gain >= paid - 1e-9 * counts.likelihood.sum(0).abs()).all()
        assert (after.sigma >= 8).all()
        assert (after.sigma <= high).all()
        assert (after.background >= background - 1e-12).all()
        np.testing.assert_allclose(after.share.sum(1) + after.background, 1)
        mixed = after


@pytest.mark.parametrize("seed", range(2))
def test_parameters_come_back_from_data_of_the_model(backend, seed):
    """Units drawn from three patterns and a background, then EM from a poor start."""
    rng = np.random.default_rng(seed)
    n, side, pitch = 40, 28, 8.0
    centres = (np.arange(side) + 0.5) * pitch
    whole = side * pitch
    mean = np.array([[70.0, 70.0], [150.0, 80.0], [110.0, 150.0]])
    follow = np.array([1.0, 0.4, 0.0])
    sigma = np.array([9.0, 13.0, 17.0])
    share, background = np.array([0.2, 0.35, 0.25]), 0.2
    motion = rng.normal(0, 14, (n, 3, 2))
    maps = np.zeros((n, side, side))
    for i in range(n):
        density = np.full((side, side), background / whole**2)
        for j in range(3):
            at = mean[j] + follow[j] * motion[i, j]
            square = (centres - at[0]) ** 2 + (centres[:, None] - at[1]) ** 2
            density += (
                share[j] * np.exp(-square / (2 * sigma[j] ** 2)) / (2 * np.pi * sigma[j] ** 2)
            )
        drawn = rng.multinomial(20_000, (density / density.sum()).ravel())
        maps[i] = np.sqrt(drawn.reshape(side, side) / 20_000)  # squares are what is counted
    grid = Grid(*[tensor(centres)] * 2, pitch**2)
    mixed = Mixture(
        tensor(mean + rng.uniform(-20, 20, mean.shape))[None],
        torch.full((1, 3), 0.7),
        torch.full((1, 3), 25.0),
        torch.full((1, 3), 0.3),
        torch.tensor([0.1]),
    )
    moved = tensor(motion)[:, None]
    for _ in range(60):
        counts = counted(tensor(maps)[:, None], mixed, moved, grid, whole**2)
        mixed = mixture.m_step(counts, mixed, moved, Bounds(2.0, 60.0, 0.01, 0.0))
    np.testing.assert_allclose(mixed.mean[0], mean, atol=0.5)
    np.testing.assert_allclose(mixed.follow[0], follow, atol=0.03)
    np.testing.assert_allclose(mixed.sigma[0], sigma, rtol=0.03)
    np.testing.assert_allclose(mixed.share[0], share, atol=0.015)
    assert float(mixed.background) == pytest.approx(background, abs=0.015)


# --------------------------------------------------------------------------------- shares by image


@pytest.mark.parametrize("prior", [0.05, 0.5, 3.0])
def test_adapted_shares_are_the_mean_of_the_dirichlet_posterior(prior):
    """Of whose density, prior times likelihood, the mean is taken on a grid of the simplex."""
    usual, none = np.array([0.5, 0.3]), 0.2
    seen, total = np.array([0.6, 2.0]), 3.0
    share, background = mixture.adapted(
        Counts(
            tensor([[seen]]),
            torch.zeros(1, 1, 2, 2),
            torch.zeros(1, 1, 2),
            torch.tensor([[total]]),
            torch.zeros(1, 1),
        ),
        tensor([usual]),
        tensor([none]),
        prior,
    )
    count = np.array([*(prior * usual + seen), prior * none + total - seen.sum()])
    # the posterior's mean by drawing from gamma variables, independent of the formula
    rng = np.random.default_rng(0)
    drawn = rng.gamma(count, size=(400_000, 3))
    mean = (drawn / drawn.sum(1, keepdims=True)).mean(0)
    np.testing.assert_allclose([*share[0, 0], background[0, 0]], mean, atol=2e-3)
    np.testing.assert_allclose(share.sum(-1) + background, 1, rtol=1e-6)


def test_an_image_without_activation_has_the_usual_shares(backend):
    case = make((3, 2, 3, 7, 7))
    case[0][1] = 0
    counts = mixture.e_step(*case)
    usual, none = case[4][0], 1 - case[4][0].sum(-1)
    share, background = mixture.adapted(counts, usual, none, 0.1)
    assert share.shape == (3, 2, 3)
    assert background.shape == (3, 2)
    torch.testing.assert_close(share[1], usual)
    torch.testing.assert_close(background[1], none)
    # the others are between what is usual and what they show
    seen = counts.count / counts.total[..., None].clamp(min=1e-9)
    low, high = torch.minimum(seen, usual), torch.maximum(seen, usual)
    there = counts.total > 0
    assert ((share >= low - 1e-5) & (share <= high + 1e-5))[there].all()


# ------------------------------------------------------------------------------------------ mixture


def test_mixtures_are_taken_and_put_back():
    _, mixed, _, _ = a_fit(0, c=5)
    some = torch.tensor([3, 1])
    few = mixed.take(some)
    for values, all_of_them in zip(few, mixed, strict=True):
        assert torch.equal(values, all_of_them[[3, 1]])
    before = [values.clone() for values in mixed]
    changed = mixed.put(some, Mixture(*(values + 1 for values in few)))
    for values, old, kept in zip(changed, before, mixed, strict=True):
        assert torch.equal(values[some], old[some] + 1)
        assert torch.equal(values[[0, 2, 4]], old[[0, 2, 4]])
        assert torch.equal(kept, old)  # not written to
    mask = torch.tensor([False, True, False, True, False])
    for one, other in zip(mixed.take(mask), mixed.take(torch.tensor([1, 3])), strict=True):
        assert torch.equal(one, other)


def test_an_empty_mixture_is_the_background():
    empty = Mixture.empty(3, 2)
    assert empty.mean.shape == (3, 2, 2)
    assert (empty.share == 0).all()
    assert (empty.background == 1).all()
    assert (empty.sigma > 0).all()


def test_places_are_means_and_shares_of_motions():
    _, mixed, motion, _ = a_fit(1)
    places = mixed.places(motion)
    for i, f, j in np.ndindex(12, 2, 2):
        truth = mixed.mean[f, j] + mixed.follow[f, j] * motion[i, f, j]
        np.testing.assert_allclose(places[i, f, j], truth, rtol=1e-6)


# ----------------------------------------------------------------------------- survey and gaussians


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
    maps, _, expected, *_, grid = make(shape)
    found = mixture.survey(maps, expected, sigma, grid)
    assert_found(found, look_around(maps, expected, sigma, grid), sigma)
    assert found[0].shape == expected.shape
    assert found[1].shape == found[2].shape == expected.shape[:-1]


def test_a_survey_of_silence_is_where_it_was_expected(backend):
    maps, _, expected, *_, grid = make((3, 2, 4, 14, 14))
    maps[1] = 0
    maps[2] = 0
    maps[2, :, 0, 0] = 1  # far from where it is looked for
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
    maps, *_, grid = make((1, 1, 1, 5, 7))
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
    maps, _, places, *_, grid = make((3, 2, 1, 14, 14))
    expected = places[:, :, 0]
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
    maps, *_, grid = make(shape, zeros=0.6)
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


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("which", lambda t: t[:1]),
        ("centre", lambda t: t[:2]),
        ("sigma", lambda t: t[:, :3]),
        ("share", lambda t: t[:2]),
        ("background", lambda t: t[:2]),
        ("x", lambda t: t[1:]),
    ],
)
def test_a_wrong_shape_is_named(monkeypatch, name, change):
    """The kernel reads memory without looking, so what it is given is looked at before."""
    use("any processor", monkeypatch)
    case = make((3, 2, 4, 14, 14), own=True)
    names = ("maps", "which", "centre", "sigma", "share", "background")
    given_ = dict(zip(names, case, strict=False)) | {"x": case[-1].x, "y": case[-1].y}
    given_[name] = change(given_[name])
    grid = Grid(given_.pop("x"), given_.pop("y"), 256.0)
    with pytest.raises(ValueError, match="has shape"):
        mixture.e_step(**given_, grid=grid)
    kernel._kernel.limit(len(BACKENDS))


@pytest.mark.parametrize("wrong", [-1, 2])
def test_a_map_that_there_is_not_is_named(monkeypatch, wrong):
    use("any processor", monkeypatch)
    case = list(make((3, 2, 4, 14, 14)))
    case[1] = torch.tensor([0, wrong])
    with pytest.raises(ValueError, match="there are 2"):
        mixture.e_step(*case)
    case[1] = torch.tensor([0, 1], dtype=torch.int32)  # of which other bytes would be read
    with pytest.raises(ValueError, match="int32"):
        mixture.e_step(*case)
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
