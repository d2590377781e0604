"""Networks with some parts only, or without some, against runs by hand."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from small_network import graph_of, network, pictures
from torch import nn

import explgraph
from explgraph import ExplgraphError, ablate, only, without
from explgraph.explaining.attribution import Places
from explgraph.explaining.intervene import run
from explgraph.explaining.replaced import StandIns, held, replaced
from explgraph.network.outputs import Scorer

KINDS = ("zero", "mean", "resampled")


@pytest.fixture(scope="module")
def world():
    model = network(positive=False)
    return model, graph_of(model), pictures(12, seed=9)


def upper_nodes(graph, n=5):
    return list(graph.nodes_of("upper"))[:n]


def shares(model, graph, images, nodes, layer):
    """What nodes hold of a layer, with the network whole."""
    places = Places(graph)
    maps = run(model, images, graph.layers).maps
    return held(places, nodes, places.seen(maps), maps[layer]), maps[layer]


@pytest.mark.parametrize("kind", KINDS)
def test_without_is_what_ablation_gives(world, kind):
    model, graph, images = world
    nodes = [*upper_nodes(graph), *list(graph.nodes_of("lower"))[:4]]
    model_without = without(model, graph, nodes, replacement=kind, images=images, seed=4)
    found = ablate(model, graph, images, nodes, replacement=kind, seed=4)
    with torch.no_grad():
        assert_allclose(model_without(images).numpy(), found.after, atol=1e-5)
    assert np.abs(found.change).max() > 1e-3


def test_in_a_linear_tail_what_is_kept_and_what_is_taken_add_up(world):
    """Behind the top layer are a mean and a linear map: scores are sums over units."""
    model, graph, images = world
    nodes = upper_nodes(graph, 9)
    with torch.no_grad():
        kept = only(model, graph, nodes)(images)
        taken = without(model, graph, nodes)(images)
        whole, none = model(images), model.head.bias.detach()
    assert_allclose(kept + taken, whole + none, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_only_is_the_network_with_all_else_replaced_by_hand(world, kind):
    model, graph, images = world
    nodes = upper_nodes(graph)
    share, maps = shares(model, graph, images, nodes, "upper")
    activation = maps.double().relu()
    instead = {
        "zero": torch.zeros_like(activation),
        "mean": activation.mean(0, keepdim=True).expand_as(activation),
        "resampled": None,
    }[kind]
    made = only(model, graph, nodes, replacement=kind, images=images)
    with torch.no_grad():
        given = made(images).double()
        if instead is None:
            instead = made._stand_ins("upper", images).double()
            own = (instead - activation).abs().flatten(1).amax(1)
            assert (own > 1e-3).all()  # never an image's own
            every = [(instead - one).abs().flatten(1).amax(1).min() for one in activation]
            assert max(every) < 1e-5 or all(
                (activation - one).abs().flatten(1).amax(1).min() < 1e-5 for one in instead
            )
        gone = 1 - share.double()
        after = torch.where(instead > 0, (1 - gone) * maps + gone * instead, activation * share)
        after = after.relu()
        by_hand = after.mean((2, 3)) @ model.head.weight.double().T + model.head.bias
    assert_allclose(given, by_hand, atol=1e-4)


def test_what_else_a_filter_answers_to_stays(world):
    model, graph, images = world
    node = upper_nodes(graph, 1)[0]
    share, maps = shares(model, graph, images, [node], "upper")
    seen = []
    made = without(model, graph, node)
    handle = model.upper.register_forward_hook(lambda *given: seen.append(given[-1].detach()))
    try:
        with torch.no_grad():
            made(images)
    finally:
        handle.remove()
    changed = seen[-1]
    own = graph.nx.nodes[node]["filter"]
    others = [c for c in range(8) if c != own]
    assert torch.equal(changed[:, others], maps[:, others])
    far = share[:, own] < 1e-6
    assert_allclose(changed[:, own][far], maps[:, own][far], atol=1e-5)
    below = maps[:, own] < 0  # nothing to take away
    assert torch.equal(changed[:, own][below], maps[:, own][below])


def test_an_image_is_replaced_by_the_same_one_in_any_company(world):
    model, graph, images = world
    made = only(model, graph, upper_nodes(graph), replacement="resampled", images=images, seed=1)
    other = only(model, graph, upper_nodes(graph), replacement="resampled", images=images, seed=2)
    with torch.no_grad():
        together = made(images)
        alone = torch.cat([made(one[None]) for one in images])
        backwards = made(images.flip(0)).flip(0)
        assert_allclose(alone, together, atol=1e-5)
        assert_allclose(backwards, together, atol=1e-5)
        assert (other(images) - together).abs().max() > 1e-3


def test_a_layer_without_nodes_is_replaced_whole(world):
    model, graph, images = world
    nodes = list(graph.nodes_of("lower"))[:6]
    with torch.no_grad():
        both = only(model, graph, nodes, layers=["lower", "upper"])(images)
    assert_allclose(both, model.head.bias.detach().expand_as(both), atol=1e-6)
    with pytest.raises(ExplgraphError, match=r"parts is empty: .* lies in upper"):
        only(model, graph, nodes, layers=["upper"])


def test_parts_stand_for_their_nodes(world):
    model, graph, images = world
    part = graph.parts[0]
    with torch.no_grad():
        named = without(model, graph, part.title if part.name else part.id)(images)
        listed = without(model, graph, part.nodes)(images)
        here = without(model, graph, part.id, layers=part.layers[0])
    assert torch.equal(named, listed)
    assert set(here.nodes) == {
        v for v in part.nodes if graph.nx.nodes[v]["layer"] == part.layers[0]
    }


def test_gradients_reach_inputs_and_parameters(world):
    model, graph, images = world
    model = copy.deepcopy(model)
    nodes = upper_nodes(graph)
    made = without(model, graph, nodes, replacement="mean", images=images)
    given = images[:3].clone().requires_grad_()
    made(given)[:, 0].sum().backward()
    share, maps = shares(model, graph, images[:3], nodes, "upper")
    mean = run(model, images, graph.layers).maps["upper"].relu().mean(0)
    pooled = replaced(maps, share, mean).relu().mean((2, 3)).sum(0)
    assert_allclose(model.head.weight.grad[0], pooled.detach(), atol=1e-4)
    by_hand = images[:3].clone().requires_grad_()
    again = run(model, by_hand, ()).scores  # the same network, unchanged
    assert again.shape == (3, 3)
    assert float(given.grad.abs().sum()) > 0
    step = 1e-2
    towards = given.grad / given.grad.norm()
    with torch.no_grad():
        ahead, behind = made(images[:3] + step * towards), made(images[:3] - step * towards)
    slope = float((ahead - behind)[:, 0].sum()) / (2 * step)
    assert slope == pytest.approx(float(given.grad.norm()), rel=0.25)  # places move a little


def test_under_autocast_scores_are_nearly_the_same(world):
    model, graph, images = world
    made = only(model, graph, upper_nodes(graph))
    with torch.no_grad():
        exact = made(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            coarse = made(images)
    assert coarse.dtype == torch.bfloat16
    assert_allclose(coarse.float(), exact, atol=0.05 * float(exact.abs().max()))


class Normed(nn.Module):
    """The small network behind a batch norm, called by a keyword, giving a mapping."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.net = network(positive=False)

    def forward(self, pixels):
        return {"logits": self.net(self.norm(pixels)), "other": pixels.mean()}


def test_it_trains_and_is_called_as_the_model_is():
    model = Normed().eval()
    graph = explgraph.mine(model, pictures(60), ["net.upper"], seed=0)
    made = without(model, graph, list(graph.node_ids)[:3])
    images = pictures(4, seed=3)
    with torch.no_grad():
        given = made(pixels=images)
    assert set(given) == {"logits", "other"}
    assert not torch.equal(given["logits"], model(images)["logits"])
    made.train()
    made(images)["logits"].sum().backward()
    assert model.training
    assert model.norm.training
    assert int(model.norm.num_batches_tracked) == 1  # looking for nodes leaves statistics alone
    assert list(made.state_dict()) == [f"model.{name}" for name in model.state_dict()]


def test_a_copy_of_it_does_the_same(world):
    model, graph, images = world
    made = only(model, graph, upper_nodes(graph), replacement="mean", images=images)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(made)(images), made(images))
    assert "only 5 nodes of upper" in repr(made)


def test_reference_images_are_taken_evenly_however_many_there_are(world):
    model, graph, _ = world
    many = pictures(80, seed=4)
    layers = [layer for layer in graph.layers if layer.name == "upper"]
    donors = StandIns.of("resampled", model, graph, layers, many, scorer=Scorer())
    assert donors("upper", many[:9]).shape == (9, 8, 8, 8)
    mean = StandIns.of("mean", model, graph, layers, many, scorer=Scorer(), batch_size=7)
    truth = run(model, many, layers).maps["upper"].double().relu().mean(0)
    assert_allclose(mean("upper", many[:1]), truth, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"parts": "wheel"}, "no node 'wheel'"),
        ({"parts": []}, "parts is empty"),
        ({"layers": ["middle"]}, "layers names 'middle'"),
        ({"replacement": "noise"}, "replacement is 'noise'; expected one of 'zero', 'mean'"),
        ({"replacement": "mean"}, "replacement 'mean' needs images="),
        ({"replacement": "resampled", "images": torch.zeros(3, 3, 32, 32)}, "two different images"),
        ({"replacement": "mean", "images": torch.zeros(1, 3, 32, 32)}, "needs at least two images"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_can_not_be_made_is_refused(world, options, told):
    model, graph, _ = world
    asked = {"parts": upper_nodes(graph), **options}
    for make in (only, without):
        with pytest.raises(ExplgraphError, match=told):
            make(model, graph, **asked)


@pytest.mark.parametrize("wrapped", [nn.DataParallel, partial(torch.compile, backend="eager")])
def test_wrapped_networks_give_the_same(world, wrapped):
    model, graph, images = world
    plain, made = (only(one, graph, upper_nodes(graph)) for one in (model, wrapped(model).eval()))
    with torch.inference_mode():
        assert torch.equal(made(images[:4]), plain(images[:4]))


def test_another_model_and_other_inputs_are_refused(world):
    model, graph, _ = world
    with pytest.raises(ExplgraphError, match="weights are not those"):
        only(network(positive=True), graph, upper_nodes(graph))
    with pytest.raises(ExplgraphError, match="its weights are bfloat16: rounded, they are others"):
        only(copy.deepcopy(model).bfloat16(), graph, upper_nodes(graph))
    made = without(model, graph, upper_nodes(graph))
    with pytest.raises(ExplgraphError, match="model lacks parts already"):
        only(made, graph, upper_nodes(graph))
    with pytest.raises(ExplgraphError, match="a tensor of images"):
        made("picture.png")
    with pytest.raises(ExplgraphError, match=r"H, W\), got one of \(3, 32, 32\)"):
        made(torch.zeros(3, 32, 32))
    assert made(torch.zeros(0, 3, 32, 32)).shape == (0, model(torch.zeros(1, 3, 32, 32)).shape[1])
    with pytest.raises(ExplgraphError, match="image size"):
        made(torch.zeros(1, 3, 48, 48))
