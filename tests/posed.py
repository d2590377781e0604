"""A planted pose model, and maps of two layers in which its guides fire at given places."""

from __future__ import annotations

import numpy as np
import torch

from explgraph.mining.patterns import Motions, still_places
from explgraph.statistics.mixture import Grid
from explgraph.statistics.pose import PoseModel, displacements
from explgraph.statistics.pose_reader import Guides, PoseReader, Stage


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
        Stage(torch.tensor([w]), torch.full((u,), 0.4 if w else 1.0), model) for w in (0.0, *looks)
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


class MovingParts:
    """Poses, candidate motions and still ones, and maps drawn from the mixture.

    Every part follows a candidate; a map's squares are Gaussians around its parts, and noise. Half
    of the candidates move with the first `q` numbers of a pose, half with the others, with a
    standard deviation of `moving` times the root of `q`, px.
    """

    SIDE = 112.0
    CANDIDATES = 24

    def __init__(self, seed=0, n=160, units=14, q=3, moving=9.0):
        self.rng = np.random.default_rng(seed)
        self.n, c = n, self.CANDIDATES
        pitch = self.SIDE / units
        at = pitch * (0.5 + torch.arange(units, dtype=torch.float32))
        self.grid = Grid(at, at.clone(), pitch**2)
        self.poses = tensor(self.rng.standard_normal((n, 2 * q)))
        loading = np.zeros((2 * c, 2, 2 * q))
        loading[:c, :, :q] = self.rng.normal(0, moving, (c, 2, q))
        loading[c:, :, q:] = self.rng.normal(0, moving, (c, 2, q))
        self.moving = Motions(
            tensor(self.rng.uniform(24, 88, (2 * c, 2))),
            tensor(loading),
            torch.ones(2 * c, dtype=torch.bool),
        )
        still = still_places(self.grid, 2 * q)
        self.motions = Motions(*(torch.cat(both) for both in zip(self.moving, still, strict=True)))
        self.moved = displacements(self.motions.loading, self.poses)  # (n, A, 2)

    def places(self, candidate, offset=(0.0, 0.0), follow=1.0):
        """Places (n, 2) of what follows a candidate to a share, beside it."""
        moved = self.moved[:, candidate].double().numpy()
        return self.motions.mean[candidate].double().numpy() + np.array(offset) + follow * moved

    def apart(self, number, first=None, least=28.0):
        """Draw candidates that keep away from each other, root mean square over the images."""
        order = self.rng.permutation(2 * self.CANDIDATES).tolist()
        chosen = [order.pop() if first is None else first]
        for one in order:
            far = [rms(self.places(one) - self.places(other)) > least for other in chosen]
            if all(far) and len(chosen) < number:
                chosen.append(one)
        assert len(chosen) == number
        return chosen

    def strengths(self):
        return self.rng.uniform(0.5, 1.5, self.n)

    def map(self, *parts, noise=0.1, scaled=True):
        """One filter's maps (n, H, W): parts are places (n, 2), masses (n,) and a spread, px."""
        x, y = self.grid.x.double().numpy(), self.grid.y.double().numpy()
        squares = noise * self.rng.gamma(0.5, 2.0, (self.n, len(y), len(x))) / (len(x) * len(y))
        for places, mass, sigma in parts:
            gx = np.exp(-((x - places[:, :1]) ** 2) / (2 * sigma**2))
            gy = np.exp(-((y - places[:, 1:]) ** 2) / (2 * sigma**2))
            density = gy[:, :, None] * gx[:, None] * self.grid.cell / (2 * np.pi * sigma**2)
            squares += np.reshape(mass, (-1, 1, 1)) * density
        return np.sqrt(squares / (squares.sum((1, 2)).mean() if scaled else 1))


def rms(away):
    """Root mean square length of vectors (n, 2)."""
    return float(np.sqrt((np.asarray(away) ** 2).sum(-1).mean()))
