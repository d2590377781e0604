"""The same on a GPU within rounding; skipped where there is none.

Where there is none, tensors without values stand in for those on a GPU, to see at least that the
formulas mix none of them with tensors on the CPU.
"""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from planted import plant

from explgraph import creatures, linking, mixture
from explgraph.inference import OWN, Anchors, Found, Pass, displaced, expect, infer
from explgraph.linking import Motion
from explgraph.mining import mine, mine_activations
from explgraph.mixture import Bounds, Grid, Patterns
from explgraph.recording import record

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


# ------------------------------------------------------------------------------------ without a GPU

N, C, K, H, W, U, M = 5, 4, 3, 6, 7, 8, 2


def stand_ins():
    """A pass and its input on a device that is not the CPU, and holds no values."""
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
    assert elsewhere(mixture.locate(maps, displaced(patterns, delta), patterns.sigma, grid))
    assert elsewhere(mixture.peaks(maps, grid, 9.0))


def test_linking_stays_on_its_device():
    children = Motion(torch.rand(N, C, 2, device="meta"), torch.rand(N, C, device="meta"))
    anchors = Motion(torch.rand(N, U, 2, device="meta"), torch.rand(N, U, device="meta"))
    sums = linking.link_sums(children.only(torch.ones(N) > 0), anchors)
    assert elsewhere(sums)
    links = linking.choose_links(
        sums, M, floor=1.0, least_variance=1.0,
        child_group=torch.arange(C, device="meta"),
        candidate_group=torch.arange(U, device="meta"),
    )  # fmt: skip
    assert elsewhere(links)
    assert elsewhere([linking.displacements(links, anchors)])


def test_a_pass_stays_on_its_device(monkeypatch):
    monkeypatch.setattr("explgraph.inference.gather", lambda *_: (positions, scores))
    patterns, grid, maps = stand_ins()
    positions, scores = torch.rand(N, U, 2, device="meta"), torch.rand(N, U, device="meta")
    number = torch.zeros(U, dtype=torch.int64, device="meta")
    anchors = Anchors(number, number, positions[0], scores[0])
    parent = torch.zeros(C, M, dtype=torch.int64, device="meta")
    fitted = Pass(anchors, parent, torch.ones(C, M, device="meta"), patterns, None)
    expected = expect(fitted, {OWN: Found(positions, scores)})
    assert elsewhere([expected])
    for window in (0.0, 3.0):
        assert elsewhere(infer(fitted._replace(window=window), maps, expected, grid))
