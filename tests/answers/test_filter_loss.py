"""The loss against the paper's formula written out, its gradient, the templates by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import explgraph
from explgraph.answers.filter_loss import FilterLoss, PartMask, templates


def paper_loss(maps, *, tau, beta, alpha):
    """Eqs. 1 and 2 of the paper for one filter's normalised maps (N, H, W), in plain loops."""
    n, height, width = maps.shape
    shapes = []
    for i in range(height):
        for j in range(width):
            shape = np.empty((height, width))
            for r in range(height):
                for c in range(width):
                    distance = abs(r - i) / height + abs(c - j) / width
                    shape[r, c] = tau * max(1 - beta * distance, -1)
            shapes.append((alpha / (height * width), shape))
    shapes.append((1 - alpha, np.full((height, width), -tau)))
    given = []
    for _, shape in shapes:
        fit = [math.exp((maps[k] * shape).sum()) for k in range(n)]
        given.append([f / sum(fit) for f in fit])
    total = [
        sum(prior * p[k] for (prior, _), p in zip(shapes, given, strict=True)) for k in range(n)
    ]
    return -sum(
        prior * p[k] * math.log(p[k] / total[k])
        for (prior, _), p in zip(shapes, given, strict=True)
        for k in range(n)
    )


def maps_of(seed, n=6, c=3, height=4, width=5):
    """Rectified maps in float64, some of them empty."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(n, c, height, width, generator=generator, dtype=torch.float64)
    maps = maps * (torch.rand(n, c, height, width, generator=generator) > 0.6)
    maps[0, 0] = 0
    return 3 * maps


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("tau", "beta", "alpha"), [(1.0, 4.0, None), (3.0, 2.0, 0.6)])
def test_loss_is_minus_the_mutual_information(seed, tau, beta, alpha):
    maps = maps_of(seed)
    loss = FilterLoss(tau=tau, beta=beta, alpha=alpha)(maps)
    expected = []
    for c in range(maps.shape[1]):
        mine = maps[:, c].numpy()
        mine = mine / mine.max(axis=(1, 2)).mean()
        expected.append(paper_loss(mine, tau=tau, beta=beta, alpha=alpha or 20 / 21))
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)  # templates are float32


def test_gradient_is_eq_4_with_all_templates_and_moving_normalisers():
    tau, beta = 2.0, 4.0
    maps = maps_of(7, c=1).requires_grad_()
    FilterLoss(tau=tau, beta=beta)(maps).backward()
    x = maps.detach()[:, 0].flatten(1).numpy()
    peak = x.max(axis=1).mean()
    t = tau * templates(4, 5, beta=beta).flatten(1).double().numpy()
    prior = np.full(21, 1 / 21)  # alpha = n / (1 + n)
    given = np.exp(x / peak @ t.T)
    given /= given.sum(axis=0)  # p(x | T), (N, templates)
    gain = np.log(given / (given @ prior)[:, None])  # tr(x T) - log(Z_T p(x))
    eq_4 = (given * prior * gain) @ t
    normalisers = (given * prior * (given * gain).sum(axis=0)) @ t
    expected = -(eq_4 - normalisers) / peak
    np.testing.assert_allclose(maps.grad[:, 0].flatten(1).numpy(), expected, rtol=1e-5, atol=1e-9)


def test_templates_by_hand():
    shapes = templates(2, 4, beta=2.0)
    assert shapes.shape == (9, 2, 4)
    # unit (0, 1): 1 - 2 (|rows| / 2 + |columns| / 4)
    np.testing.assert_allclose(shapes[1], [[0.5, 1, 0.5, 0], [-0.5, 0, -0.5, -1]])
    np.testing.assert_allclose(shapes[-1], -np.ones((2, 4)))
    square = templates(5, 5)
    assert square[12, 2, 2] == 1
    assert square[12, 2, 3].item() == pytest.approx(1 - 4 / 5)
    assert square[12, 1, 3].item() == pytest.approx(1 - 8 / 5)
    assert square[12, 0, 0] == -1  # 1 - 16 / 5, cut


def test_mask_by_hand():
    maps = torch.zeros(1, 3, 4, 4)
    maps[0, 0] = 1.0
    maps[0, 0, 1, 2] = 2.0  # a flat map with a peak
    maps[0, 1, 0, 0] = maps[0, 1, 3, 3] = 5.0  # equals: the first one counts
    masked = PartMask(beta=2.0)(maps)
    expected = [[0, 0, 0.5, 0], [0, 0.5, 2, 0.5], [0, 0, 0.5, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(masked[0, 0], expected)
    assert masked[0, 1, 0, 0] == 5
    assert masked[0, 1, 3, 3] == 0
    assert not masked[0, 2].any()


def test_mask_lets_gradients_through_what_it_keeps():
    maps = torch.rand(2, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(PartMask(), maps, eps=1e-7)
    PartMask()(maps).sum().backward()
    kept = PartMask()(maps.detach()) > 0
    assert (maps.grad[~kept] == 0).all()
    assert (maps.grad[kept] > 0).all()


def test_loss_is_bounded_and_blind_to_a_filter_s_scale():
    maps = maps_of(3).float()
    loss = FilterLoss(tau=5.0)
    assert -math.log(len(maps)) <= loss(maps) <= 0
    scale = torch.tensor([0.1, 1, 50])[:, None, None]
    torch.testing.assert_close(loss(maps * scale), loss(maps))
    assert loss(maps[:1]).abs() < 1e-6
    same = maps[1:2].expand(4, -1, -1, -1)
    assert loss(same).abs() < 1e-6
    assert torch.isfinite(loss(torch.zeros(3, 2, 4, 4)))


def test_one_moving_part_beats_everything_else():
    generator = torch.Generator().manual_seed(0)
    shapes = templates(7, 7)[:-1].clamp(min=0)
    one, two = torch.zeros(32, 1, 7, 7), torch.zeros(32, 1, 7, 7)
    for n in range(32):
        first, second = torch.randperm(49, generator=generator)[:2].tolist()
        one[n, 0] = shapes[first]
        two[n, 0] = torch.maximum(shapes[first], shapes[second])
    noise = torch.rand(32, 1, 7, 7, generator=generator)
    loss = FilterLoss()
    assert loss(one) < loss(two) < loss(noise)
    assert loss(one) < loss(one[:1].expand(32, -1, -1, -1))  # it has to move
    assert loss(one) < loss(torch.cat([one[:16], noise[16:]]))


def test_descent_makes_a_filter_fire_at_one_place():
    torch.manual_seed(0)
    raw = torch.randn(24, 2, 6, 6).requires_grad_()
    optimizer = torch.optim.Adam([raw], lr=0.05)
    loss = FilterLoss()

    def kept():
        """Share of the maps that lies around the strongest unit."""
        maps = torch.relu(raw.detach())
        return ((PartMask(beta=2)(maps) > 0) * maps).sum() / maps.sum()

    before = kept()
    for _ in range(150):
        optimizer.zero_grad()
        loss(torch.relu(raw)).backward()
        optimizer.step()
    assert before < 0.55
    assert kept() > 0.7


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    maps = maps_of(5).to(dtype)
    maps[:, 1] = 0
    loss = FilterLoss()(maps)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, FilterLoss()(maps.float()))
    assert PartMask()(maps).dtype == dtype


def test_modules_fit_into_training():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), PartMask())
    loss = explgraph.FilterLoss()
    assert not [*loss.parameters(), *loss.buffers(), *model[2].parameters()]
    maps = model(torch.randn(5, 3, 8, 8))
    (maps.mean() + loss(maps)).backward()
    assert model[0].weight.grad.abs().sum() > 0
    assert repr(loss) == "FilterLoss(tau=2, beta=4, alpha=n / (1 + n))"
    assert repr(FilterLoss(alpha=0.5)) == "FilterLoss(tau=2, beta=4, alpha=0.5)"
    assert repr(PartMask()) == "PartMask(beta=4)"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FilterLoss(tau=0), "tau must be a number above 0, got 0"),
        (lambda: FilterLoss(tau=float("nan")), "tau must be a number above 0, got nan"),
        (lambda: FilterLoss(beta="4"), "beta must be a number above 0, got '4'"),
        (lambda: FilterLoss(alpha=1), "alpha must lie between 0 and 1, got 1"),
        (lambda: PartMask(beta=-1), "beta must be a number above 0, got -1"),
        (lambda: FilterLoss()(torch.rand(4, 5)), r"maps must be float \(N, C, H, W\).*\(4, 5\)"),
        (lambda: PartMask()(torch.ones(1, 1, 2, 2).long()), "maps must be float.*int64"),
        (lambda: FilterLoss()(torch.rand(0, 2, 3, 3)), "none of them 0"),
    ],
)
def test_wrong_inputs(build, message):
    with pytest.raises(explgraph.ExplgraphError, match=message):
        build()
