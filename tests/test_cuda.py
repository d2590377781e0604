"""The same on a GPU within rounding; skipped where there is none.

Where there is none, tensors without values stand in for those on a GPU, to see at least that the
formulas mix none of them with tensors on the CPU.
"""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from planted import plant
from posed import GRIDS, a_grid, a_reader, maps_at

from explgraph import creatures, linking, mixture, pose
from explgraph.inference import Parts, PoseReader, Stage, expect, infer, read_poses
from explgraph.linking import Habit, Signs
from explgraph.mining import mine, mine_activations
from explgraph.mixture import Bounds, Grid, Patterns
from explgraph.pose import PoseModel
from explgraph.recording import record
from explgraph.reliability import choose, contrast
from explgraph.streaming import Images

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def assert_close(one, other):
    """Same nodes and edges, but for those that rounding decides about."""
    nodes, others = set(one.nx), set(other.nx)
    assert len(nodes & others) >= 0.98 * len(nodes | others)
    edges, other_edges = set(one.nx.edges), set(other.nx.edges)
    assert len(edges & other_edges) >= 0.95 * len(edges | other_edges)
    for node in nodes & others:
        for name in ("x", "y", "sigma"):
            assert one.nx.nodes[node][name] == pytest.approx(other.nx.nodes[node][name], abs=0.1)


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
    assert_allclose(on_gpu.scores, on_cpu.scores, rtol=0.05, atol=0.05)


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


def a_planted_reader():
    """A reader with poses to try, and noisy maps of 40 images."""
    draws = torch.Generator().manual_seed(0)
    reader = a_reader(0, bank=torch.randn(70, 2, generator=draws).numpy())
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
    assert off.quantile(0.95) < 5e-3  # rounding may decide which pose of the bank is taken up


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
def test_finding_parts():
    draws = torch.Generator().manual_seed(2)
    patterns = Patterns(
        40 + 80 * torch.rand(C, K, 2, generator=draws), torch.ones(C, K), torch.ones(C, K)
    )
    parts = Parts(patterns, torch.randn(C, K, 2, 2, generator=draws), torch.tensor([20.0]))
    maps, poses = torch.rand(9, C, 20, 20, generator=draws), torch.randn(9, 2, generator=draws)
    case = (parts, maps, poses, a_grid(20, 20))
    found = []
    for device in ("cpu", "cuda"):
        there, values, z, grid = (moved(value, device) for value in case)
        found.append([t.cpu() for t in infer(there, values, expect(there, z), grid)])
    for one, other in zip(*found, strict=True):
        assert_allclose(one, other, rtol=1e-3, atol=5e-3)


# ------------------------------------------------------------------------------------ without a GPU

N, C, K, H, W, U, M, Q = 5, 4, 3, 6, 7, 8, 2, 2


def stand_ins():
    """Patterns and maps on a device that is not the CPU, and holds no values."""
    patterns = Patterns(
        torch.rand(C, K, 2, device="meta"),
        torch.ones(C, K, device="meta"),
        torch.ones(C, K, device="meta"),
    )
    grid = Grid(torch.rand(W, device="meta"), torch.rand(H, device="meta"), 64.0)
    maps = torch.rand(N, C, H, W, device="meta")
    return patterns, grid, maps


def elsewhere(values):
    return all(value.device.type == "meta" for value in values)


def test_the_mixture_stays_on_its_device():
    patterns, grid, maps = stand_ins()
    delta = torch.rand(N, C, 2, device="meta")
    bounds = Bounds(0.1, 1.0, 9.0)
    summary = mixture.summarize(maps, delta[:, :, None], patterns, grid, bounds)
    assert elsewhere(summary)
    assert elsewhere(mixture.from_summaries(summary, patterns, bounds))
    expected = patterns.mean + delta[:, :, None]
    assert elsewhere(mixture.survey(maps, expected, 9.0, grid))
    assert elsewhere([mixture.gaussians(expected, 9.0, grid)])
    assert elsewhere(mixture.peaks(maps, grid, 9.0))


def test_linking_stays_on_its_device():
    say = Signs(*(torch.rand(N, C, *rest, device="meta") for rest in ((), (2,), (2,))))
    assert elsewhere(say.exchanged(0))
    plain, weighted, level, pulled = sums = linking._place_sums(say)
    assert elsewhere(sums)
    own = [
        linking._regress(plain, level[..., None], N),
        linking._regress(weighted, pulled, N),
    ]
    shared, common = torch.rand(N, 4, device="meta"), torch.rand(4, 3, C, device="meta")
    scale = linking._scales(linking._squares(common), 100.0, N)
    assert elsewhere([scale])
    assert elsewhere([Habit(torch.cat(own, 1), common, scale).surprises(say, shared)])


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
    model, scale = moved(reader.model, "meta"), reader.scout_scale.to("meta")
    stages = tuple(Stage(stage.window, stage.scale.to("meta"), model) for stage in reader.stages)
    reader = PoseReader(
        reader.guides, stages, reader.reach, reader.bank.to("meta"), reader.scouts,
        reader.scout_sigma, scale,
    )  # fmt: skip
    poses = read_poses(reader, moved(maps, "meta"), moved(GRIDS, "meta"))
    assert elsewhere([poses])
    assert poses.shape == (40, 2)


def test_reliability_stays_on_its_device():
    _, grid, maps = stand_ins()
    places, images = torch.rand(N, U, 2, device="meta"), Images(N, device="meta")
    found = contrast(
        images, [(slice(0, N), maps)], lambda which: places[which], torch.arange(N), 9.0, grid, 0
    )
    assert elsewhere(found)
    assert elsewhere(choose(found.real, places[0], K, 9.0))


def test_finding_parts_stays_on_its_device():
    patterns, grid, maps = stand_ins()
    loading, window = torch.rand(C, K, 2, Q, device="meta"), torch.ones(1)
    parts = Parts(patterns, loading, window)
    expected = expect(parts, torch.rand(N, Q, device="meta"))
    assert elsewhere([expected])
    assert elsewhere(infer(parts, maps, expected, grid))
