"""Filters taken apart: data drawn from the model, whose parts and motions are known."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from posed import MovingParts, rms, tensor

from explgraph.mining import patterns
from explgraph.mining.patterns import Motions, find_patterns, still_places
from explgraph.mining.settings import Settings, rules_for
from explgraph.statistics.mixture import Bounds, Mixture
from explgraph.statistics.pose import displacements

pytestmark = pytest.mark.usefixtures("one_thread")
SPREAD = 7.0  # px


def rules_of(world, **settings):
    return rules_for(world.grid, Settings(**settings), world.SIDE**2)


def find(world, filters, motions=None, rules=None):
    """Take filters apart by the rules of mining."""
    maps = tensor(np.stack(filters, 1))
    return find_patterns(
        maps, world.poses, motions or world.motions, world.grid, rules or rules_of(world)
    )


def alive(found, c):
    return (found.mixture.share[c] > 0).nonzero()[:, 0].tolist()


def places_of(world, found, c, k):
    """Where a pattern is expected, (n, 2)."""
    moved = displacements(found.loading[c, k], world.poses)
    return (found.mixture.mean[c, k] + moved).double().numpy()


def assert_found(world, found, c, parts, *, near, share=None):
    """Each part (places, ...) has one pattern that is where it is in the images, and no other.

    Whether it moves by the very candidate is seen from how it moves around its usual place.
    """
    patterns_ = alive(found, c)
    assert len(patterns_) == len(parts)
    left = set(patterns_)
    for part, (places, *_) in enumerate(parts):
        off = {k: rms(places_of(world, found, c, k) - places) for k in left}
        k = min(off, key=off.get)
        assert off[k] < near
        moved = places_of(world, found, c, k) - places
        assert rms(moved - moved.mean(0)) < near / 2
        if share is not None:
            assert float(found.mixture.share[c, k]) == pytest.approx(share[part], abs=0.04)
        left.remove(k)


def shares(world, parts, noise):
    """Of all squares in the image; parts are partly beyond its edges in some."""
    mass = np.array([(world.map(part, noise=0.0, scaled=False) ** 2).sum() for part in parts])
    return mass / (mass.sum() + noise * world.n)


@pytest.mark.parametrize("units", [14, 7])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_filter_has_as_many_patterns_as_parts(units, number):
    """Of 48 filters with one or two parts all, of those with three nearly all.

    (A motion of its own costs a little where a candidate is the very truth, as here.)
    """
    wrong = 0
    for seed in range(3):
        world = MovingParts(seed, units=units, moving=7.0)
        filters = []
        for first in range(0, 48, 3):
            chosen = world.apart(number, first)
            filters.append([(world.places(i), world.strengths(), SPREAD) for i in chosen])
        found = find(world, [world.map(*parts) for parts in filters])
        for c, parts in enumerate(filters):
            try:
                assert_found(world, found, c, parts, near=2.5 if units == 14 else 3.5,
                             share=shares(world, parts, 0.1))  # fmt: skip
            except AssertionError:
                wrong += 1
                continue
            k = alive(found, c)
            # narrower than half a unit a Gaussian at unit centres is no density
            assert_allclose(found.mixture.sigma[c, k], SPREAD if units == 14 else 8.0, atol=0.5)
            assert_allclose(found.mixture.follow[c, k], 1, atol=0.06 if units == 14 else 0.3)
            assert (found.following[c, k] > 0.02).all()
            assert (found.gain[c, k] > 0.1).all()
        background = 1 - found.mixture.share.sum(1)
        assert_allclose(found.mixture.background, background, atol=1e-5)
    assert wrong <= (3 if number == 3 else 0)


@pytest.mark.parametrize("units", [14, 7])
@pytest.mark.parametrize("often", [0.5, 0.25])
def test_parts_on_occasion_are_two_patterns(units, often):
    """Part A in some images, part B in the others: each with its motion."""
    world = MovingParts(5, units=units)
    filters = []
    for first in range(0, 48, 6):
        a, b = (world.places(i) for i in world.apart(2, first))
        there = world.rng.random(world.n) < often
        filters.append(
            [(a, there * world.strengths(), SPREAD), (b, ~there * world.strengths(), SPREAD)]
        )
    found = find(world, [world.map(*parts) for parts in filters])
    for c, parts in enumerate(filters):
        assert_found(world, found, c, parts, near=4.0, share=shares(world, parts, 0.1))
        assert (found.following[c, alive(found, c)] > 0.03).all()


def test_the_motions_are_the_right_candidates():
    """Where no other candidate is near."""
    world = MovingParts(1)
    pairs = [world.apart(2, first) for first in range(0, 48, 4)]
    filters = [
        world.map(*((world.places(i), world.strengths(), SPREAD) for i in pair)) for pair in pairs
    ]
    found = find(world, filters)
    for c, pair in enumerate(pairs):
        assert sorted(found.motion[c, alive(found, c)].tolist()) == sorted(pair)


def test_a_still_part_has_a_still_pattern():
    world = MovingParts(2)
    spots = world.rng.uniform(24, 88, (8, 2))
    parts = [(np.tile(spot, (world.n, 1)), world.strengths(), SPREAD) for spot in spots]
    found = find(world, [world.map(part) for part in parts])
    for c, part in enumerate(parts):
        assert_found(world, found, c, [part], near=0.5, share=[1 / 1.1])
        assert not world.motions.moves[found.motion[c, 0]]
        assert found.gain[c, 0] > 1
    assert (found.following == 0).all()
    assert (found.mixture.follow == 0).all()


def with_still_parts(world):
    """Filters of a part that moves and one that stands still, well away from each other."""
    filters = []
    for first in range(0, 48, 3):
        moving, spot = world.places(first), world.rng.uniform(20, 92, 2)
        if rms(moving - spot) > 40:
            still = np.tile(spot, (world.n, 1))
            filters.append(
                [(moving, world.strengths(), SPREAD), (still, world.strengths(), SPREAD)]
            )
    return filters


def test_what_moves_and_what_stands_still_in_one_filter():
    world = MovingParts(3)
    filters = with_still_parts(world)
    assert len(filters) >= 6
    found = find(world, [world.map(*parts) for parts in filters])
    for c, parts in enumerate(filters):
        strong = [k for k in alive(found, c) if found.mixture.share[c, k] > 0.1]
        assert len(strong) == 2
        moves, stands = strong  # what moves comes first
        for k, (places, *_) in zip(strong, parts, strict=True):
            assert rms(places_of(world, found, c, k) - places) < 1.6
            assert float(found.mixture.share[c, k]) == pytest.approx(0.476, abs=0.06)
        assert world.motions.moves[found.motion[c, moves]]
        assert not world.motions.moves[found.motion[c, stands]]
        assert found.following[c, moves] > 0.05
        assert found.following[c, stands] == 0


def test_no_pattern_is_left_with_less_than_the_least_share():
    for seed in (3, 17):
        world = MovingParts(seed)
        found = find(world, [world.map(*parts) for parts in with_still_parts(world)])
        share = found.mixture.share
        assert (share[share > 0] >= 0.04).all()


def test_filters_of_noise_have_none():
    for seed in range(3):
        world = MovingParts(seed)
        found = find(world, [world.map(noise=1.0) for _ in range(12)])
        assert (found.mixture.share == 0).all()
        assert (found.following == 0).all()
        assert_allclose(found.mixture.background, 1)


@pytest.mark.parametrize("n", [40, 160])
def test_what_hops_about_follows_nothing(n):
    """A spot somewhere in each image follows nothing, of however many motions the best is taken."""
    world = MovingParts(4, n=n)
    hops = [
        world.map((world.rng.uniform(8, 104, (n, 2)), world.strengths(), SPREAD)) for _ in range(40)
    ]
    follower = world.map((world.places(3), world.strengths(), SPREAD))
    found = find(world, [*hops, follower])
    best = found.following.amax(1)
    assert (best[:-1] < 0.1).all()
    assert (best[:-1] > 0.03).float().mean() <= 0.1
    assert best[-1] > 0.5


@pytest.mark.parametrize("n", [60, 160])
def test_decoys_hardly_follow(n):
    """Filters whose maps are exchanged among the images, as mining looks at them."""
    world = MovingParts(6, n=n)
    filters = []
    for _ in range(60):
        parts = [(world.places(i), world.strengths(), SPREAD) for i in world.apart(2)]
        filters.append(world.map(*parts)[world.rng.permutation(n)])
    found = find(world, filters, motions=world.moving)
    best = found.following.amax(1)
    assert (best > 0).float().mean() < 0.2
    assert best.max() < 0.1


def test_a_part_beside_its_guide_that_moves_less():
    """Usual place and share of the motion, the latter as if 20 images more followed exactly."""
    world = MovingParts(7, n=40, moving=6.0)
    offset = (6.0, -5.0)
    parts = [(world.places(i, offset, 0.6), world.strengths(), SPREAD) for i in range(0, 48, 3)]
    found = find(world, [world.map(part) for part in parts])
    exact = 0
    for c, i in enumerate(range(0, 48, 3)):
        (k,) = alive(found, c)
        if found.motion[c, k] != i:  # another candidate moves alike
            continue
        exact += 1
        assert float(found.mixture.follow[c, k]) == pytest.approx((0.6 * 40 + 20) / 60, abs=0.02)
        truth = world.motions.mean[i] + torch.tensor(offset)
        assert_allclose(found.mixture.mean[c, k], truth, atol=1.5)
    assert exact >= 6


def test_a_weak_part_beside_a_strong_one():
    """A share of 0.08 is found, one of 0.03 is none."""
    world = MovingParts(8)
    rules = rules_of(world)._replace(further_gain=0.001)
    filters = []
    for weak in (0.08, 0.03):
        for first in (0, 9, 30, 40):
            a, b = (world.places(i) for i in world.apart(2, first, least=35.0))
            strong = (a, (0.98 - weak) * world.strengths(), SPREAD)
            filters += [world.map(strong, (b, weak * world.strengths(), 6.0), noise=0.02)]
    found = find(world, filters, rules=rules)
    numbers = [len(alive(found, c)) for c in range(8)]
    assert numbers == [2] * 4 + [1] * 4


def test_a_first_pattern_must_gain_more_than_chance_does():
    """Parts that are broad and weak: those that add less than 0.005 nats are none."""
    world = MovingParts(30, moving=6.0)
    filters = [
        world.map((world.places(i), weak * world.strengths(), 12.0), noise=1 - weak)
        for weak in (0.05, 0.06)
        for i in range(0, 48, 3)
    ]
    rules = rules_of(world)
    gain = find(world, filters, rules=rules._replace(first_gain=0.0)).gain[:, 0]
    assert ((gain > 0.0026) & (gain < 0.0048)).sum() >= 5
    assert ((gain > 0.0052) & (gain < 0.0098)).sum() >= 5
    found = find(world, filters, rules=rules).mixture.share[:, 0] > 0
    clear = (gain - 0.005).abs() > 2e-4
    assert_array_equal(found[clear], (gain > 0.005)[clear])


@pytest.mark.parametrize(("away", "number"), [(8.0, 1), (26.0, 2)])
def test_parts_that_are_close_are_one(away, number):
    """Two that move alike, and a candidate at each of them."""
    world = MovingParts(9)
    candidates = list(range(0, 48, 6))
    filters = [
        [
            (world.places(i), world.strengths(), 4.0),
            (world.places(i, (away, 0.0)), world.strengths(), 4.0),
        ]
        for i in candidates
    ]
    beside = Motions(
        world.moving.mean[candidates] + torch.tensor([away, 0.0]),
        world.moving.loading[candidates],
        world.moving.moves[candidates],
    )
    motions = Motions(*(torch.cat(p) for p in zip(world.moving, beside, strict=True)))
    world.moved = torch.cat([world.moved[:, :48], world.moved[:, candidates]], 1)
    found = find(world, [world.map(*parts) for parts in filters], motions=motions)
    for c, parts in enumerate(filters):
        k = alive(found, c)
        assert len(k) == number
        if number == 2:
            assert_found(world, found, c, parts, near=3.0)


def test_a_region_is_no_part():
    """Spreads are recovered up to 0.12 of the side, and none is wider."""
    world = MovingParts(10)
    wide = [5.0, 9.0, 12.5, 20.0, 24.0]
    filters = [world.map((world.places(4), world.strengths(), s)) for s in wide]
    found = find(world, filters)
    sigma = found.mixture.sigma[:, 0]
    assert_allclose(sigma[:3], wide[:3], rtol=0.06)
    assert_allclose(found.mixture.sigma.amax(1)[3:], 0.12 * world.SIDE, rtol=1e-5)
    assert (found.mixture.sigma <= 0.12 * world.SIDE + 1e-3).all()


def test_a_pattern_need_not_explain_all():
    """Without any noise the background still has a fiftieth."""
    world = MovingParts(11)
    found = find(world, [world.map((world.places(4), world.strengths(), SPREAD), noise=0.0)])
    assert_allclose(found.mixture.background, 0.02, rtol=1e-4)
    assert_allclose(found.mixture.share.sum(1), 0.98, rtol=1e-4)


def log_likelihood(world, squares, mean, moved, share, sigma, background):
    """Sum over units of squares times log density, image by image, of one pattern, in float64."""
    x, y = world.grid.x.double().numpy(), world.grid.y.double().numpy()
    at = mean + moved
    square = (x - at[:, :1])[:, None] ** 2 + ((y - at[:, 1:]) ** 2)[:, :, None]
    density = share * np.exp(-square / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    return (squares * np.log(density + background / world.SIDE**2)).sum((1, 2))


@pytest.mark.parametrize("share", [0.9, 0.5])
def test_the_gain_is_what_the_true_density_gains(share):
    """Over an even one, per unit of activation: held-out data don't flatter."""
    world = MovingParts(12, moving=5.0)
    filters = [
        world.map((world.places(i), share * world.strengths(), SPREAD), noise=1 - share)
        for i in range(0, 48, 6)
    ]
    found = find(world, filters)
    for c, i in enumerate(range(0, 48, 6)):
        squares = filters[c] ** 2
        mean = world.motions.mean[i].double().numpy()
        moved = world.moved[:, i].double().numpy()
        true = log_likelihood(world, squares, mean, moved, share, SPREAD, 1 - share).sum()
        truth = true / squares.sum() + np.log(world.SIDE**2)
        assert float(found.gain[c, 0]) == pytest.approx(truth, rel=0.02)


def test_following_is_what_other_images_motions_lose():
    """By the true density, less three standard errors; others are a third and two thirds ahead."""
    n = 48
    world = MovingParts(13, n=n, moving=5.0)
    candidates = range(0, 48, 4)
    filters = [
        world.map((world.places(i), 0.8 * world.strengths(), SPREAD), noise=0.2) for i in candidates
    ]
    found = find(world, filters)
    ratios = []
    for c, i in enumerate(candidates):
        squares = filters[c] ** 2
        mean = world.motions.mean[i].double().numpy()
        lost, total = [], []
        for half in (0, 1):
            moved = world.moved[half::2, i].double().numpy()
            here = squares[half::2]
            own = log_likelihood(world, here, mean, moved, 0.8, SPREAD, 0.2)
            turns = [round(len(moved) / 3), round(len(moved) * 2 / 3)]
            others = [
                log_likelihood(world, here, mean, np.roll(moved, t, 0), 0.8, SPREAD, 0.2)
                for t in turns
            ]
            lost.append(own - np.mean(others, 0))
            total.append(here.sum((1, 2)))
        lost, total = np.concatenate(lost), np.concatenate(total)
        loss = lost.sum() / total.sum()
        error = np.sqrt(((lost - loss * total) ** 2).sum()) / total.sum()
        (k,) = alive(found, c)
        assert error > 0.04 * loss  # so that a wrong number of errors shows
        ratios.append(float(found.following[c, k]) / (loss - 3 * error))
    assert_allclose(ratios, 1, atol=0.12)
    assert np.mean(ratios) == pytest.approx(1, abs=0.03)


def some_filters(world):
    """One of every kind."""
    a, b, c = (world.places(i) for i in world.apart(3, 7))
    still = np.tile([30.0, 70.0], (world.n, 1))

    def part(places):
        return places, world.strengths(), SPREAD

    return [
        world.map(part(a)),
        world.map(part(a), part(b)),
        0 * world.map(part(a)),
        world.map(part(a), part(b), part(c)),
        world.map(part(still)),
        world.map(noise=1.0),
        world.map(part(b), part(still)),
        world.map((world.rng.uniform(8, 104, (world.n, 2)), world.strengths(), SPREAD)),
    ]


def assert_same(one, other, filters, others):
    """The same patterns, but for rounding, whatever room there is for more."""
    k = min(one.motion.shape[1], other.motion.shape[1])
    for a, b in ((one, other), (other, one)):
        assert (a.mixture.share[filters if a is one else others][:, k:] == 0).all()
        del b
    there = one.mixture.share[filters][:, :k] > 0
    assert_array_equal(there, other.mixture.share[others][:, :k] > 0)
    for name in ("motion", "gain", "following"):
        a, b = getattr(one, name)[filters][:, :k], getattr(other, name)[others][:, :k]
        assert_allclose(a[there], b[there], rtol=1e-3, atol=1e-4)
    for name in ("mean", "follow", "sigma", "share"):
        a, b = (getattr(v.mixture, name) for v in (one, other))
        assert_allclose(a[filters][:, :k][there], b[others][:, :k][there], rtol=1e-3, atol=1e-3)


def test_a_few_strong_images_do_not_decide():
    """Ten times the activation in a tenth of the images, where another part is shown."""
    world = MovingParts(5)
    a, b = world.apart(2)
    few = np.arange(world.n) % 10 == 3
    mass = np.where(few, 10.0, 1.0)
    maps = world.map(
        (world.places(a), np.where(few, 0, mass), SPREAD),
        (world.places(b), np.where(few, mass, 0), SPREAD),
    )
    found = find(world, [maps])
    share = found.mixture.share[0]
    assert share.max() > 0.7
    strongest = found.motion[0, share.argmax()]
    assert rms(world.places(int(strongest)) - world.places(a)) < 5


@pytest.mark.parametrize("follow", [1.0, 0.8])
def test_a_pattern_gets_a_motion_of_its_own(follow):
    """A part that moves like no candidate: between two of them."""
    world = MovingParts(8, n=300)
    # the candidates of one half of the pose's numbers only
    loading = world.motions.loading[:24]
    between = follow * (0.6 * loading[4] + 0.4 * loading[9])
    moved = np.einsum("iq,nq->ni", between.double().numpy(), world.poses.double().numpy())
    middle = np.array([56.0, 60.0])
    near = world.motions.mean.clone()
    near[4] = near[9] = tensor(middle)
    motions = world.motions._replace(mean=near)
    keep = ~motions.moves | (torch.arange(len(near)) < 24)
    motions = Motions(*(column[keep] for column in motions))
    maps = tensor(world.map((middle + moved, world.strengths(), 6.0), noise=0.02)[:, None])
    found = find_patterns(maps, world.poses, motions, world.grid, rules_of(world))
    first = int(found.mixture.share[0].argmax())
    own = found.loading[0, first]
    assert own[:, 3:].square().mean() < 0.02 * own[:, :3].square().mean()
    there = found.mixture.mean[0, first] + displacements(own, world.poses)
    kept = motions.loading[found.motion[0, first]] * found.mixture.follow[0, first]
    before = found.mixture.mean[0, first] + displacements(kept, world.poses)
    truth = middle + moved
    assert rms(there.double().numpy() - truth) < 0.35 * rms(before.double().numpy() - truth)


def test_filters_do_not_know_of_each_other():
    world = MovingParts(14, n=90)
    filters = some_filters(world)
    together = find(world, filters)
    order = [5, 3, 0, 7, 6, 2, 4, 1]
    turned = find(world, [filters[c] for c in order])
    assert_same(together, turned, torch.tensor(order), torch.arange(8))
    for c, one in enumerate(filters):
        assert_same(together, find(world, [one]), torch.tensor([c]), torch.tensor([0]))


@pytest.mark.parametrize("cells", [1, 50_000])
def test_how_much_is_done_at_a_time_does_not_matter(monkeypatch, cells):
    world = MovingParts(14, n=60)
    filters = some_filters(world)
    whole = find(world, filters)
    monkeypatch.setattr(patterns, "_CELLS", cells)
    assert_same(whole, find(world, filters), torch.arange(8), torch.arange(8))


@pytest.mark.parametrize("otherwise", ["noise", "silence"])
def test_what_holds_in_one_half_of_the_images_only_is_no_pattern(otherwise):
    """Every second image is held out in turn."""
    world = MovingParts(23)
    there = np.arange(world.n) % 2 == 0
    filters = []
    for i in range(0, 48, 8):
        part = (world.places(i), world.strengths(), SPREAD)
        half = world.map(part)
        other = world.map(noise=1.0) if otherwise == "noise" else 0 * half
        filters.append(np.where(there[:, None, None], half, other))
    found = find(world, filters)
    for c in range(len(filters)):
        assert not (found.mixture.share[c] > 0.3).any()
        assert (found.following[c] == 0).all()


def test_the_order_of_images_hardly_matters():
    """Which halves they fall into is chance; what is clear is found by any."""
    world = MovingParts(15)
    filters = some_filters(world)[:5]
    found = find(world, filters)
    order = torch.randperm(world.n, generator=torch.Generator().manual_seed(0))
    world.poses = world.poses[order]
    turned = find(world, [one[order.numpy()] for one in filters])
    assert_array_equal((turned.mixture.share > 0).sum(1), (found.mixture.share > 0).sum(1))
    for c in (0, 1, 3, 4):
        assert set(turned.motion[c].tolist()) == set(found.motion[c].tolist())


def test_strength_does_not_matter():
    world = MovingParts(16, n=90)
    filters = some_filters(world)
    found, louder = find(world, filters), find(world, [3 * one for one in filters])
    assert_same(found, louder, torch.arange(8), torch.arange(8))


def test_what_is_found_has_converged():
    """Ten iterations of EM more move nothing by a tenth of a unit."""
    world = MovingParts(17)
    filters = some_filters(world)
    found = find(world, filters)
    search = patterns._Search(
        tensor(np.stack(filters, 1)), world.poses, world.motions, world.grid, rules_of(world)
    )
    more = search.fit(None, torch.arange(8), found.mixture, found.motion, 10)
    there = found.mixture.share > 0.1
    there[7] = False  # what hops about has no place
    assert (more.mean - found.mixture.mean)[there].abs().max() < 0.3
    assert (more.sigma - found.mixture.sigma)[there].abs().max() < 0.3
    assert (more.share - found.mixture.share)[there].abs().max() < 0.01


def test_silent_filters_have_nothing():
    world = MovingParts(18, n=20)
    filters = [np.zeros((20, 14, 14)), world.map((world.places(0), world.strengths(), SPREAD))]
    found = find(world, filters)
    assert (found.mixture.share[0] == 0).all()
    assert (found.gain[0] == 0).all()
    assert (found.following[0] == 0).all()
    alone = find(world, filters[:1])
    for values in (*alone.mixture, *alone[1:]):
        assert values.isfinite().all()
    assert (alone.mixture.share == 0).all()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_hardly_any_images_are_no_trouble(n):
    world = MovingParts(19, n=n)
    filters = [
        world.map((world.places(0), world.strengths(), SPREAD)),
        world.map(noise=1.0),
        np.zeros((n, 14, 14)),
    ]
    found = find(world, filters)
    for values in (*found.mixture, *found[1:]):
        assert values.isfinite().all()
    assert (found.following >= 0).all()
    if n == 1:  # there is no other image
        assert (found.following == 0).all()


def test_one_unit_is_no_trouble():
    world = MovingParts(20, n=12, units=1)
    found = find(world, [np.abs(world.rng.standard_normal((12, 1, 1)))])
    for values in (*found.mixture, *found[1:]):
        assert values.isfinite().all()


@pytest.mark.parametrize("units", [1, 7, 14, 28, 56])
def test_still_places_are_spread_over_the_units(units):
    world = MovingParts(0, n=2, units=units)
    still = still_places(world.grid, 5)
    assert not still.moves.any()
    assert still.loading.shape == (len(still.mean), 2, 5)
    assert (still.loading == 0).all()
    assert len(set(map(tuple, still.mean.tolist()))) == len(still.mean) <= 14**2
    # none is further from a unit than the rule of proposing sees
    x, y = torch.meshgrid(world.grid.x, world.grid.y, indexing="xy")
    away = torch.cdist(torch.stack([x.flatten(), y.flatten()], -1), still.mean).amin(1)
    assert away.max() <= 0.08 * world.SIDE


def brute_rules(world):
    return patterns.Rules(
        world.SIDE**2, 9.0, 11.0, 11.0, Bounds(4.0, 13.0, 0.02, 20.0), 0.005, 0.05, 0.04
    )


def evened(squares):
    """No image counts for more than the mean one: squares (n, C, H, W), image by image."""
    total = squares.sum((2, 3))
    most = total.mean(0)
    even = squares * np.minimum(1, most / total)[..., None, None]
    return even / even.sum((2, 3)).mean(0)[:, None, None]


def test_candidates_gather_what_is_beyond_chance():
    """Under Gaussians unit by unit: beyond the places in other images, less two standard errors."""
    world = MovingParts(21, n=9, units=7)
    a, b = world.apart(2, 5)
    maps = tensor(
        np.stack(
            [
                world.map((world.places(a), world.strengths(), SPREAD)),
                world.map((world.places(b), world.strengths(), SPREAD)),
            ],
            1,
        )
    )
    search = patterns._Search(maps, world.poses, world.motions, world.grid, brute_rules(world))
    empty = Mixture.empty(2, 1)
    which, none = torch.arange(2), torch.zeros(2, 1, dtype=torch.int64)
    found = search.gathered(which, empty, none, moving=True)
    x, y = np.meshgrid(world.grid.x.double(), world.grid.y.double())
    squares = evened(maps.double().numpy() ** 2)

    def under(at):
        away = (x - at[0]) ** 2 + (y - at[1]) ** 2
        return np.exp(-away / (2 * 81)) * world.grid.cell / (2 * np.pi * 81)

    for candidate in (a, b, 0, 30, 47):
        weights = np.array([under(at) for at in world.places(candidate)])
        weights -= weights.mean(0)
        for c in range(2):
            beyond = (squares[:, c] * weights).sum((1, 2))
            truth = beyond.mean() - 2 * beyond.std() / np.sqrt(8)
            assert float(found[c, candidate]) == pytest.approx(truth, rel=1e-3, abs=1e-4)
    assert (found[:, 48:] < 0).all()
    still = search.gathered(which, empty, none, moving=False)
    assert (still[:, :48] < 0).all()
    for candidate in (48, 60, 70):
        weights = under(world.motions.mean[candidate].double().numpy())
        truth = (squares * weights).sum((2, 3)).mean(0)
        assert_allclose(still[:, candidate], truth, rtol=1e-3)


def test_a_pose_is_worth_what_filters_follow_of_it():
    """Nothing where it is that of other images, or where filters don't move by it."""
    world = MovingParts(24, n=120)
    filters = some_filters(world)
    maps, rules = tensor(np.stack(filters, 1)), rules_of(world)
    worth = patterns.pose_worth(maps, world.poses, world.moving, world.grid, rules)
    following = find(world, filters, motions=world.moving).following.sum(1)
    assert worth.shape == (8,)
    assert_allclose(worth, following, rtol=1e-3, atol=1e-4)
    assert (worth[[0, 1, 3, 6]] > 0.2).all()
    assert (worth[[2, 4, 5]] == 0).all()
    order = torch.randperm(world.n, generator=torch.Generator().manual_seed(0))
    false = patterns.pose_worth(maps, world.poses[order], world.moving, world.grid, rules)
    assert (false < 0.05 * worth[0]).all()
