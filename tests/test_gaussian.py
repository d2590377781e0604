"""The Gaussian around places against its formula, in float64."""

import numpy as np
import torch

from explgraph.gaussian import factors, on_grid


def test_factors_multiply_to_the_gaussian():
    rng = np.random.default_rng(0)
    x, y = np.arange(7) * 3.0, np.arange(5) * 4.0
    at, sigma = rng.uniform(0, 20, (2, 3, 2)), rng.uniform(1, 9, 3)
    along_x, along_y = on_grid(x, y, at, sigma)
    square = (x - at[..., :1])[..., None, :] ** 2 + (y - at[..., 1:])[..., :, None] ** 2
    expected = np.exp(-square / (2 * sigma**2)[:, None, None])
    np.testing.assert_allclose(along_y[..., None] * along_x[..., None, :], expected, rtol=1e-12)
    single = factors(*(torch.from_numpy(v).float() for v in (x, y, at, sigma)))
    np.testing.assert_allclose(single[0], along_x, rtol=1e-4, atol=1e-7)
