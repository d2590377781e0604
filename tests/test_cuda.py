"""The same on a GPU within rounding; skipped where there is none.

Where there is none, tensors without values stand in for those on a GPU, to see at least that the
formulas mix none of them with tensors on the CPU.
"""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from planted import plant
from posed import GRIDS, MovingParts, a_reader, maps_at, rms, tensor

from explgraph import creatures
from explgraph.activations.recording import record
from explgraph.mining.learn_pose import learn_reader
from explgraph.mining.mining import mine, mine_activations
from explgraph.mining.patterns import find_patterns
from explgraph.mining.settings import Settings, rules_for
from explgraph.statistics import mixture, pose
from explgraph.statistics.fitted import FittedLayer
from explgraph.statistics.inference import infer
from explgraph.statistics.mixture import Bounds, Counts, Grid, Mixture
from explgraph.statistics.pose import PoseModel
from explgraph.statistics.pose_reader import PoseReader, Stage, read_poses

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def moved(value, device):
    """The same tuple of tensors on another device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: moved(item, device) for name, item in value.items()}
    if isinstance(value, tuple):
        items = [moved(item, device) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value


def on_both(work, *arguments):
    """What a function gives on the CPU, and on the GPU."""
    here = work(*arguments)
    there = work(*(moved(value, "cuda") for value in arguments))
    first = there[0] if isinstance(there, tuple) else there
    if isinstance(first, torch.Tensor):
        assert first.device.type == "cuda"
    return here, moved(there, "cpu")


def assert_close(one, other):
    """Same nodes and edges, but for those that rounding decides about."""
    nodes, others = set(one.nx), set(other.nx)
    assert len(nodes & others) >= 0.95 * len(nodes | others)
    edges, other_edges = set(one.nx.edges), set(other.nx.edges)
    assert len(edges & other_edges) >= 0.9 * len(edges | other_edges)
    off = [
        abs(one.nx.nodes[node][name] - other.nx.nodes[node][name])
        for node in nodes & others
        for name in ("x", "y", "sigma")
    ]
    assert np.quantile(off, 0.95) < 0.1


@pytest.mark.cuda
@needs_gpu
def test_recording():
    images = creatures.draw(40, seed=1).tensor()
    network = creatures.network()
    on_gpu = record(network, images, creatures.LAYERS, device="cuda")
    on_cpu = record(network, images, creatures.LAYERS, device="cpu")
    for one, other in zip(on_gpu.maps, on_cpu.maps, strict=True):
        assert one.device.type == "cpu"
        assert_allclose(one, other, rtol=1e-2, atol=1e-2 * float(other.max()))  # TF32


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize("n", [80, 200])
def test_mining(n, tmp_path):
    activations = plant(n).activations
    graph = mine_activations(activations, device="cuda")
    assert_close(graph, mine_activations(activations))
    assert mine_activations(activations, device="cuda", checkpoint=tmp_path) == graph
    assert mine_activations(activations, device="cuda", checkpoint=tmp_path) == graph


@pytest.mark.cuda
@needs_gpu
def test_parsing(tmp_path):
    images = creatures.draw(40, seed=1).tensor()
    network = creatures.network()
    graph = mine(network, images, creatures.LAYERS, device="cuda", store=tmp_path / "s")
    on_gpu, on_cpu = (graph.parse(network, images, device=d) for d in ("cuda", "cpu"))
    far = np.linalg.norm(on_gpu.positions - on_cpu.positions, axis=-1)
    assert np.quantile(far, 0.99) < 0.5  # px
    assert np.quantile(np.abs(on_gpu.scores - on_cpu.scores), 0.99) < 0.05


def an_e_step(own):
    """Maps of 5 images, 7 filters of 4 maps with 3 patterns each."""
    draws = torch.Generator().manual_seed(0)

    def uniform(*size):
        return torch.rand(*size, generator=draws)

    grid = Grid(8 * torch.arange(13.0) + 4, 8 * torch.arange(11.0) + 4, 64.0)
    images = 5 if own else 1
    return (
        (uniform(5, 4, 11, 13) - 0.4).clamp(min=0),
        torch.tensor([0, 3, 1, 1, 2, 0, 3]),
        100 * uniform(5, 7, 3, 2),
        5 + 10 * uniform(7, 3),
        0.3 * uniform(images, 7, 3),
        1e-5 + 1e-5 * uniform(images, 7),
        grid,
    )


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize("own", [False, True])
def test_the_e_step_and_the_m_step(own):
    case = an_e_step(own)
    here, there = on_both(lambda *values: mixture.e_step(*values, rest=True), *case)
    for name in Counts._fields:
        one, other = getattr(here, name), getattr(there, name)
        assert_allclose(other, one, rtol=2e-4, atol=2e-4 * float(one.abs().max()))
    mixed = Mixture(case[2][0], 0 * case[3] + 0.8, case[3], case[4][0], 1e4 * case[5][0])
    motion = case[2] - case[2][0]
    bounds = Bounds(2.0, 20.0, 0.02, 20.0)
    for one, other in zip(
        *on_both(mixture.m_step, moved(here, "cpu"), mixed, motion, bounds), strict=True
    ):
        assert_allclose(other, one, rtol=1e-3, atol=1e-3)
    for one, other in zip(
        *on_both(mixture.adapted, here, case[4][0], 1e4 * case[5][0], 0.1), strict=True
    ):
        assert_allclose(other, one, rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
@needs_gpu
def test_surveys_peaks_and_gaussians():
    maps, _, centre, *_, grid = an_e_step(False)
    expected = centre[:, :4]
    for one, other in zip(*on_both(mixture.survey, maps, expected, 9.0, grid), strict=True):
        assert_allclose(other, one, rtol=1e-3, atol=2e-2)
    for one, other in zip(*on_both(mixture.peaks, maps, grid, 20.0), strict=True):
        assert_allclose(other, one, rtol=1e-5, atol=1e-3)
    one, other = on_both(mixture.gaussians, expected, 9.0, grid)
    assert_allclose(other, one, rtol=1e-3, atol=1e-7)


def a_planted_reader():
    """A reader with poses to try, and noisy maps of 40 images."""
    draws = torch.Generator().manual_seed(0)
    reader = a_reader(0, exemplars=torch.randn(70, 2, generator=draws).numpy())
    poses = torch.randn(40, 2, generator=draws)
    return reader, maps_at(reader, reader.model.places(poses), noise=0.2)


@pytest.mark.cuda
@needs_gpu
def test_reading_poses():
    reader, maps = a_planted_reader()
    on_cpu = read_poses(reader, maps, GRIDS)
    on_gpu = read_poses(*(moved(value, "cuda") for value in (reader, maps, GRIDS)))
    assert on_gpu.device.type == "cuda"
    off = (on_gpu.cpu() - on_cpu).norm(dim=1)
    assert off.quantile(0.95) < 5e-3  # rounding may decide which exemplar is taken up


@pytest.mark.cuda
@needs_gpu
def test_learning_poses():
    draws = torch.Generator().manual_seed(1)
    reader = a_reader(0)
    positions = reader.model.places(torch.randn(200, 2, generator=draws))
    positions = positions + torch.randn(positions.shape, generator=draws)
    weights = torch.rand(positions.shape[:2], generator=draws) + 0.5
    places = []
    for device in ("cpu", "cuda"):
        at, w = positions.to(device), weights.to(device)
        start = pose.principal_poses(at, w, 8, 0)
        assert start.shape == (200, 2)
        model = pose.fit_poses(at, w, start, n_iter=5, floor=0.1)
        found = pose.find_poses(model, at, w, model.mean.expand_as(at))
        places.append(model.places(found).cpu())  # axes may be turned
    assert_allclose(*places, atol=0.05)


@pytest.mark.cuda
@needs_gpu
def test_learning_readers():
    truth = a_reader(0)
    poses = tensor(np.random.default_rng(0).uniform(-1.6, 1.6, (120, 2)))
    maps = maps_at(truth, truth.model.places(poses), 0.05)
    places = []
    for device in ("cpu", "cuda"):
        here, grids = moved(maps, device), moved(GRIDS, device)
        reader = learn_reader(here, grids, side=160.0, numbers=8, trajectories=20, seed=0).reader
        assert reader.guides.layer.device.type == device
        found = reader.model.places(read_poses(reader, here, grids)).cpu()
        names = zip(reader.guides.layer.tolist(), reader.guides.filter.tolist(), strict=True)
        places.append({name: found[:, u] for u, name in enumerate(names)})
    both = set(places[0]) & set(places[1])
    assert len(both) >= 0.9 * len(places[0])
    for name in both:
        assert rms(places[0][name] - places[1][name]) < 0.1


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize("units", [7, 14])
def test_patterns(units):
    world = MovingParts(0, units=units)
    filters = [world.map(noise=1.0), np.zeros((world.n, units, units))]
    for number in (1, 2, 3):
        for first in (0, 7, 30):
            parts = [(world.places(i), world.strengths(), 7.0) for i in world.apart(number, first)]
            filters.append(world.map(*parts))
    spot = np.tile([40.0, 60.0], (world.n, 1))
    filters.append(world.map((spot, world.strengths(), 7.0)))
    rules = rules_for(world.grid, Settings(), world.SIDE**2)
    here, there = on_both(
        find_patterns, tensor(np.stack(filters, 1)), world.poses, world.motions, world.grid, rules
    )
    k = min(here.motion.shape[1], there.motion.shape[1])
    alive = here.mixture.share[:, :k] > 0
    assert torch.equal(alive, there.mixture.share[:, :k] > 0)
    assert torch.equal(here.motion[:, :k][alive], there.motion[:, :k][alive])
    for one, other in zip((*here.mixture, *here[2:]), (*there.mixture, *there[2:]), strict=True):
        if one.ndim > 1:
            one, other = one[:, :k][alive], other[:, :k][alive]
        assert_allclose(other, one, rtol=5e-3, atol=5e-3)


C, K = 4, 3


def a_fitted_layer(device="cpu", draws=None):
    def uniform(*size):
        return torch.rand(*size, generator=draws, device=device)

    return FittedLayer(
        torch.ones(C, device=device),
        40 + 80 * uniform(C, K, 2),
        5 * uniform(C, K, 2, 2),
        5 + 10 * uniform(C, K),
        0.3 * uniform(C, K),
        0.1 + uniform(C),
        torch.zeros(0, device=device),
    )


@pytest.mark.cuda
@needs_gpu
def test_finding_parts():
    draws = torch.Generator().manual_seed(2)
    layer = a_fitted_layer(draws=draws)
    maps = torch.rand(9, C, 20, 20, generator=draws) / 12
    poses = torch.randn(9, 2, generator=draws)
    here, there = on_both(infer, layer, maps, poses, GRIDS[3], 160.0**2)
    for one, other in zip(here, there, strict=True):
        assert_allclose(other, one, rtol=1e-3, atol=5e-3)


# ------------------------------------------------------------------------------------ without a GPU

N, H, W, U, Q = 5, 6, 7, 8, 2


def elsewhere(values):
    return all(value.device.type == "meta" for value in values if value is not None)


def test_the_mixture_stays_on_its_device():
    case = moved(an_e_step(True), "meta")
    counts = mixture.e_step(*case, rest=True)
    assert elsewhere(counts)
    assert counts.rest.shape == (5, 7, 11, 13)
    mixed = Mixture(case[2][0], case[3], case[3], case[4][0], case[5][0])
    after = mixture.m_step(counts, mixed, case[2], Bounds(0.1, 1.0, 0.1, 9.0))
    assert elsewhere(after)
    assert elsewhere([after.places(case[2])])
    assert elsewhere(Mixture.empty(3, 2, "meta"))
    assert elsewhere(mixture.adapted(counts, case[4][0], case[5][0], 0.1))
    maps, expected, grid = case[0], case[2][:, :4], case[-1]
    assert elsewhere(mixture.survey(maps, expected, 9.0, grid))
    assert elsewhere([mixture.gaussians(expected, 9.0, grid)])
    assert elsewhere(mixture.peaks(maps, grid, 9.0))


def a_model():
    return PoseModel(*(torch.rand(U, *rest, device="meta") for rest in ((2,), (2, Q), ())))


def test_poses_stay_on_their_device():
    model = a_model()
    positions, weights = torch.rand(N, U, 2, device="meta"), torch.rand(N, U, device="meta")
    poses = pose.find_poses(model, positions, weights, positions)
    assert elsewhere([poses, model.places(poses), model.explained()])
    assert elsewhere(pose.fit_poses(positions, weights, poses, n_iter=3, floor=0.1))


def test_reading_poses_stays_on_its_device():
    """Numbers and indices alone are on the CPU here, for their values are needed."""
    reader, maps = a_planted_reader()
    model, scale = moved(reader.model, "meta"), reader.check_scale.to("meta")
    stages = tuple(Stage(stage.window, stage.scale.to("meta"), model) for stage in reader.stages)
    reader = PoseReader(
        reader.guides, stages, reader.reach, reader.exemplars.to("meta"), reader.checks,
        reader.check_sigma, scale,
    )  # fmt: skip
    poses = read_poses(reader, moved(maps, "meta"), moved(GRIDS, "meta"))
    assert elsewhere([poses])
    assert poses.shape == (40, 2)


def test_finding_parts_stays_on_its_device():
    layer = a_fitted_layer("meta")
    maps, poses = torch.rand(N, C, H, W, device="meta"), torch.rand(N, Q, device="meta")
    grid = Grid(torch.rand(W, device="meta"), torch.rand(H, device="meta"), 64.0)
    assert elsewhere([layer.expected(poses)])
    found = infer(layer, maps, poses, grid, 64.0)
    assert elsewhere(found)
    assert found.positions.shape == (N, C * K, 2)
