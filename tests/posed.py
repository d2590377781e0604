"""A planted pose model, and maps of two layers in which its guides fire at given places."""

from __future__ import annotations

import numpy as np
import torch

from explgraph.mixture import Grid
from explgraph.pose import PoseModel
from explgraph.pose_reader import Guides, PoseReader, Stage


def a_grid(h, w, stride=8.0, down=3.0):
    x = stride * (0.5 + torch.arange(w, dtype=torch.float32))
    y = stride * (0.5 + torch.arange(h, dtype=torch.float32)) + down  # not the same along both
    return Grid(x, y, stride**2)


def tensor(values):
    return torch.from_numpy(np.asarray(values)).float()


def bumps(grid, places, spread):
    """Maps (n, C, H, W) with a Gaussian bump of height 1 at places (n, C, 2)."""
    places = torch.as_tensor(places).double()
    gx, gy = (
        (-(centres.double() - places[..., axis, None]).square() / (2 * spread**2)).exp()
        for axis, centres in enumerate((grid.x, grid.y))
    )
    return (gy[..., :, None] * gx[..., None, :]).float()


GRIDS = {3: a_grid(20, 20, 8.0, 0.0), 6: a_grid(20, 20, 8.0, 0.0)}
SPREAD = 9.0


def a_reader(seed, u=24, q=2, exemplars=None, looks=(40.0, 25.0), checks=None):
    """A reader of a planted model whose guides are filters of two layers, in mixed order."""
    rng = np.random.default_rng(seed)
    model = PoseModel(
        tensor(rng.uniform(60, 100, (u, 2))),
        tensor(12 * rng.standard_normal((u, 2, q))),
        torch.full((u,), 4.0),
    )
    half = u // 2
    guides = Guides(
        torch.tensor([6] * half + [3] * (u - half)),
        torch.from_numpy(np.concatenate([rng.permutation(half), rng.permutation(u - half)])),
    )
    stages = [
        Stage(torch.tensor([w]), torch.full((u,), s), model)
        for w, s in zip((0.0, *looks), (1, 0.4, 0.4), strict=True)
    ]
    return PoseReader(
        guides,
        tuple(stages),
        torch.tensor([20.0]),
        torch.zeros(1, q) if exemplars is None else tensor(exemplars),
        torch.arange(u) if checks is None else torch.tensor(checks),
        torch.tensor([12.0]),
        torch.full((u if checks is None else len(checks),), 0.2),
    )


def maps_at(reader, places, noise=0.0, seed=0):
    """Maps of both layers in which the guides are at places (n, U, 2)."""
    rng = np.random.default_rng(seed)
    maps = {}
    for index, grid in GRIDS.items():
        here = (reader.guides.layer == index).nonzero()[:, 0]
        values = torch.zeros(len(places), len(here), 20, 20)
        values[:, reader.guides.filter[here]] = bumps(grid, places[:, here], SPREAD)
        maps[index] = values + tensor(noise * rng.random(values.shape))
    return maps


def poses_by_loops(model, positions, weights, near, sweeps):
    """The E step of the t distribution and ridge regression, image by image, guide by guide."""
    mean, loading, variance = (t.double().numpy() for t in model)
    q = loading.shape[2]
    found = np.zeros((len(positions), q))
    for i in range(len(positions)):
        there = np.asarray(near[i], float)
        for _ in range(sweeps):
            precision, pull = np.eye(q), np.zeros(q)
            for u in range(len(mean)):
                w, v = float(weights[i, u]), float(variance[u])
                b = positions[i, u].double().numpy()
                away = ((b - there[u]) ** 2).sum()
                trust = w * (3 + 2) / (3 + w * away / v)  # t with 3 degrees of freedom in 2-D
                for a in (0, 1):
                    precision += trust / v * np.outer(loading[u, a], loading[u, a])
                    pull += trust / v * (b[a] - mean[u, a]) * loading[u, a]
            found[i] = np.linalg.solve(precision, pull)
            there = mean + loading @ found[i]
    return found
