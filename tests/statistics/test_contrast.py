"""Directions in which one group falls in two, planted under variation that others have as well."""

import numpy as np
import pytest
from scipy import stats

from explgraph.statistics.contrast import contrast_axes, fit_groups


def planted(seed, n=240, d=12):
    """Images of a group with a mark in 12 %, others, and the mark's direction."""
    rng = np.random.default_rng(seed)
    turned = np.linalg.qr(rng.standard_normal((d, d)))[0]
    mixing = turned * np.linspace(1, 3, d) @ turned.T
    has = rng.random(n) < 0.12
    own = rng.standard_normal((n, d)) @ mixing
    # 6 of the natural spreads along the direction in which little is natural
    own += has[:, None] * 6 * turned[:, 0]
    others = rng.standard_normal((2 * n, d)) @ mixing
    return own, others, has


@pytest.mark.parametrize("seed", range(5))
def test_a_mark_under_natural_variation_is_a_direction_of_its_own(seed):
    own, others, has = planted(seed)
    weights, middle = contrast_axes(own, others - others.mean(0))
    values = (own - middle) @ weights
    np.testing.assert_allclose(values.std(0), 1, rtol=1e-6)
    assert (stats.skew(values) >= -1e-9).all()
    found = [fit_groups(v).upper(v) for v in values.T]
    agreement = max((mine & has).sum() / (mine | has).sum() for mine in found)
    assert agreement > 0.9


def test_a_group_that_varies_as_others_do_hardly_has_any():
    own, others, _ = planted(0)
    narrow = others[:240] * 0.5
    weights, _ = contrast_axes(narrow, others - others.mean(0))
    assert weights.shape == (12, 0)
    assert contrast_axes(own, others)[0].shape[1] >= 1


def test_more_numbers_than_images_and_numbers_that_do_not_vary():
    own, others, _ = planted(1)
    wide = np.zeros((12, 600))
    wide[:, :400] = np.random.default_rng(0).standard_normal((12, 400))
    weights, middle = contrast_axes(own @ wide, (others - others.mean(0)) @ wide)
    assert np.isfinite(weights).all()
    assert middle.shape == (600,)


def test_gain_is_the_difference_of_log_densities():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 400), rng.normal(7, 0.5, 60)])
    fitted = fit_groups(values)
    np.testing.assert_allclose(fitted.shares, [400 / 460, 60 / 460], atol=1e-3)
    np.testing.assert_allclose(fitted.centres, [0, 7], atol=0.2)
    two = sum(
        share * stats.norm.pdf(values, centre, np.sqrt(variance))
        for share, centre, variance in zip(
            fitted.shares, fitted.centres, fitted.variances, strict=True
        )
    )
    one = stats.norm.pdf(values, values.mean(), values.std())
    np.testing.assert_allclose(fitted.gain(values), np.log(two / one), atol=1e-6)
    assert (fitted.upper(values) == (np.arange(460) >= 400)).mean() > 0.995
    assert not fitted.upper(np.array([-30.0]))[0]
