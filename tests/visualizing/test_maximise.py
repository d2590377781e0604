"""Optimised images: they are answered, and have the spectrum that they must have."""

import numpy as np
import pytest
import torch

from explgraph import creatures
from explgraph.errors import ExplgraphError
from explgraph.visualizing.maximise import Spectrum, _transformed, maximise, spectrum
from explgraph.visualizing.responses import Responses

STEPS = 12


@pytest.fixture(scope="module")
def node(graph_of_creatures):
    known = graph_of_creatures.nx.nodes
    return max(graph_of_creatures.nodes_of("stage2"), key=lambda v: known[v]["reliability"])


def best_real(model, graph, drawn, parse, nodes, weights):
    """The strongest response to any of the real images."""
    places = torch.from_numpy(parse.positions[:, [parse.nodes.index(v) for v in nodes]])
    with torch.no_grad():
        given = Responses(model, graph, nodes)(drawn.tensor(), places)
    return float((given @ torch.tensor(weights) / sum(weights)).max())


def test_a_node_answers_more_than_to_any_real_image(
    creature_net, graph_of_creatures, drawn, parse_of_creatures, node
):
    made = maximise(creature_net, graph_of_creatures, drawn.tensor(), node, steps=STEPS)
    real = best_real(creature_net, graph_of_creatures, drawn, parse_of_creatures, [node], [1.0])
    assert made.response > 1.2 * real
    # and what it tells of its image is so
    at = torch.tensor([[made.place]])
    with torch.no_grad():
        given = Responses(creature_net, graph_of_creatures, [node])(
            torch.from_numpy(made.image)[None], at
        )
    assert float(given) == pytest.approx(made.response, rel=1e-4)
    # it matters around the node, not in the corners
    assert made.opacity.min() >= 0
    assert made.opacity.max() == 1
    x, y = (int(value) for value in made.place)
    near = made.opacity[max(0, y - 8) : y + 8, max(0, x - 8) : x + 8].mean()
    corners = [made.opacity[:8, :8].mean(), made.opacity[-8:, -8:].mean()]
    assert near > 5 * max(corners)


def test_a_part_is_answered_by_its_nodes_together(
    creature_net, graph_of_creatures, drawn, parse_of_creatures
):
    graph = graph_of_creatures
    part = graph.parts[-1]
    made = maximise(creature_net, graph, drawn.tensor(), part.id, steps=STEPS)
    weights = [graph.nx.nodes[v]["part_weight"] for v in part.nodes]
    assert made.id == part.id
    assert made.response > best_real(
        creature_net, graph, drawn, parse_of_creatures, part.nodes, weights
    )


def test_the_same_seed_gives_the_same_bytes(creature_net, graph_of_creatures, drawn, node):
    known = spectrum(drawn.tensor()[:8], (112, 112))
    one, same, other = (
        maximise(creature_net, graph_of_creatures, known, node, steps=3, seed=seed)
        for seed in (0, 0, 1)
    )
    assert one.image.tobytes() == same.image.tobytes()
    assert one.opacity.tobytes() == same.opacity.tobytes()
    assert one.image.tobytes() != other.image.tobytes()


def test_images_have_the_mean_magnitude(drawn):
    images = drawn.tensor()
    known = spectrum(images, (112, 112))
    expected = np.abs(np.fft.fft2(images.numpy().astype(np.float64))).mean(0)
    generator = torch.Generator().manual_seed(0)
    phase = 6 * torch.rand(known.magnitude.shape, generator=generator)
    free = Spectrum(known.magnitude, known.mean, known.low - 99, known.high + 99, 1, known.shape)
    made = free.image(phase).numpy().astype(np.float64)
    np.testing.assert_allclose(made.mean((1, 2)), images.mean((0, 2, 3)), atol=1e-4)
    found = np.abs(np.fft.fft2(made))
    # but for what has no phase of its own: the mean, and the columns that mirror themselves
    np.testing.assert_allclose(found[:, 1:, 1:56], expected[:, 1:, 1:56], rtol=1e-3, atol=1e-2)
    within = known.image(phase)
    assert (within >= known.low[:, None, None]).all()
    assert (within <= known.high[:, None, None]).all()


def test_places_go_along_with_the_image():
    image = torch.zeros(1, 60, 80)
    image[0, 19:22, 29:32] = 1  # around (30.5, 20.5)
    generator = torch.Generator().manual_seed(3)
    seen, at = _transformed(image, torch.tensor([[30.5, 20.5]]), 0.0, generator)
    assert len(at.unique(dim=0)) == len(seen)
    x, y = torch.arange(80) + 0.5, torch.arange(60) + 0.5
    for one, (place,) in zip(seen[:, 0], at, strict=True):
        middle = [float((one.sum(0) @ x) / one.sum()), float((one.sum(1) @ y) / one.sum())]
        assert middle == pytest.approx(place.tolist(), abs=0.15)


def test_the_model_stays_as_it_was(creature_net, graph_of_creatures, drawn, node):
    before = {name: value.clone() for name, value in creature_net.state_dict().items()}
    state = torch.get_rng_state()
    maximise(creature_net, graph_of_creatures, drawn.tensor()[:2], node, steps=1)
    assert all(p.grad is None and p.requires_grad for p in creature_net.parameters())
    assert all(torch.equal(v, before[k]) for k, v in creature_net.state_dict().items())
    assert not any(module._forward_hooks for module in creature_net.modules())
    assert torch.equal(state, torch.get_rng_state())


def test_what_cant_be_is_refused(creature_net, graph_of_creatures, drawn, node):
    images = drawn.tensor()[:2]
    for steps in (0, -1, 1.5, True):
        with pytest.raises(ExplgraphError, match="steps"):
            maximise(creature_net, graph_of_creatures, images, node, steps=steps)
    with pytest.raises(ExplgraphError, match="--images DIR"):
        maximise(creature_net, graph_of_creatures, None, node)
    with pytest.raises(ExplgraphError, match="expected 112 x 112"):
        maximise(creature_net, graph_of_creatures, creatures.draw(2, size=64).tensor(), node)
    with pytest.raises(ExplgraphError, match="no node"):
        maximise(creature_net, graph_of_creatures, images, "stage2/0/99")
