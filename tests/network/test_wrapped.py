"""Models that are wrapped, checkpointed, frozen, or of other floating types, and what is said."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
from torch import nn
from torch.utils import checkpoint

import explgraph
from explgraph import creatures
from explgraph.answers.decision_tree import DecisionTree
from explgraph.answers.effects import edge_effects
from explgraph.answers.evidence import node_evidence
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.network.forward import fingerprint
from explgraph.network.geometry import measure_layers
from explgraph.network.hooks import catch

pytestmark = pytest.mark.usefixtures("one_thread")

UPPER = creatures.LAYERS[:2]


@pytest.fixture(scope="module")
def mined():
    network, images = creatures.network(), creatures.draw(24, seed=0).tensor()
    return network, images, explgraph.mine(network, images, UPPER)


class Compiled(nn.Module):
    """As torch.compile wraps a model."""

    def __init__(self, model):
        super().__init__()
        self._orig_mod = model

    def forward(self, _):
        raise AssertionError("what is compiled has no hooks")


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, Compiled, lambda m: nn.DataParallel(Compiled(m))]
)
def test_wrapped_models_are_those_within(mined, wrap):
    network, images, graph = mined
    wrapped = wrap(network)  # in training mode, as wrappers are at first
    assert fingerprint(wrapped) == fingerprint(network)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of other weights, say
        found = graph.parse(wrapped, images[:3])
    expected = graph.parse(network, images[:3])
    torch.testing.assert_close(found.positions, expected.positions)
    effects, usual = (edge_effects(m, graph, images[:3]).nx.edges for m in (wrapped, network))
    assert dict(effects) == dict(usual)
    names = [name for name, _ in wrapped.named_modules() if name.endswith(UPPER[0])][-1:]
    (layer,) = measure_layers(wrapped, names, (112, 112))
    assert layer.name == UPPER[0]
    bare_name = measure_layers(network, names, (112, 112))[0]
    assert bare_name == layer
    assert explgraph.list_layers(wrapped, 32) == explgraph.list_layers(network, 32)


class Checkpointed(nn.Module):
    """A network of which a part is computed again in the backward pass, or isn't."""

    def __init__(self, reentrant):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.c = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.b = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.head, self.reentrant = nn.Linear(8, 3), reentrant

    def forward(self, x):
        x = self.a(x)
        if self.reentrant is None:
            x = self.b(x)
        else:
            x = checkpoint.checkpoint(self.b, x, use_reentrant=self.reentrant)
        return self.head(self.c(x).mean((2, 3)))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_change_nothing(reentrant):
    model, plain = Checkpointed(reentrant).eval(), Checkpointed(None).eval()
    images, layers = torch.rand(10, 3, 64, 64), ["a", "b.0", "b", "c"]
    before = checkpoint.CheckpointFunction, checkpoint._checkpoint_without_reentrant_generator
    assert measure_layers(model, layers, (64, 64)) == measure_layers(plain, layers, (64, 64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)  # of noise, which has no pose
        graph = explgraph.mine(plain, images, ["b", "c"])
        found, expected = (edge_effects(m, graph, images) for m in (model, plain))
    assert dict(found.nx.edges) == dict(expected.nx.edges)
    after = checkpoint.CheckpointFunction, checkpoint._checkpoint_without_reentrant_generator
    assert after == before


def test_checkpoints_of_other_threads_go_on():
    """One thread is within a forward pass of explgraph's, another trains meanwhile."""
    inside, trained = threading.Event(), threading.Event()
    runs = []

    class Counts(nn.Module):
        def forward(self, x):
            runs.append(1)
            return x * x

    def train():
        inside.wait(30)
        for reentrant in (True, False):
            x = torch.ones(2, requires_grad=True)
            checkpoint.checkpoint(Counts(), x, use_reentrant=reentrant).sum().backward()
        trained.set()

    thread = threading.Thread(target=train)
    thread.start()
    model = nn.Sequential(nn.Conv2d(3, 2, 1)).eval()

    def keep(_layer, _output):
        inside.set()
        assert trained.wait(30)

    catch(model, torch.rand(1, 3, 4, 4), ["0"], keep)
    thread.join()
    assert len(runs) == 4, "each was computed again"


class Frozen(nn.Module):
    """A forward pass without gradients."""

    def __init__(self, mode):
        super().__init__()
        self.inner, self.mode = creatures.network(), mode

    def forward(self, x):
        with self.mode():
            return self.inner(x)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_forward_passes_without_gradients_are_told(mined, mode):
    _, images, _ = mined
    model = Frozen(mode).eval()
    # whose weights are the same
    graph = explgraph.mine(Frozen(torch.no_grad).eval(), images, [f"inner.{k}" for k in UPPER])
    for ask in (
        lambda: edge_effects(model, graph, images),
        lambda: DecisionTree.fit(model, graph, images, 0),
        lambda: node_evidence(model, graph, images, [0]),
    ):
        with pytest.raises(ExplgraphError, match=r"'inner\..*' under torch\.no_grad"):
            ask()


def test_a_head_without_gradients_is_told(mined):
    _, images, graph = mined
    half = creatures.network()
    half.head.register_forward_hook(lambda _module, _inputs, output: output.detach())
    with pytest.raises(ExplgraphError, match="no gradient leads from the model's output back"):
        node_evidence(half, graph, images, [0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_trees_of_models_of_other_types(mined, dtype):
    _, images, _ = mined
    model = creatures.network().to(dtype)
    graph = explgraph.mine(model, images, UPPER)
    with torch.no_grad():
        target = int(model(images.to(dtype)).argmax(1).mode().values)
    tree = DecisionTree.fit(model, graph, images, target)
    assert tree.positive.any()
    with pytest.raises(ExplgraphError, match="columns must be a list of numbers of outputs, got 0"):
        node_evidence(model, graph, images, 0)


def test_a_train_that_returns_itself_can_be_satisfied():
    class Stuck(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def train(self, mode=True):  # noqa: ARG002
            return self

        def forward(self, x):
            return self.conv(x)

    model = Stuck().eval()
    with pytest.raises(ExplgraphError, match=r"if Stuck\.train keeps it from that, set \.training"):
        explgraph.list_layers(model, 32)
    for module in model.modules():
        module.training = False
    assert explgraph.list_layers(model, 32)[0].name == "conv"


def test_warnings_name_the_line_that_led_to_them(mined):
    _, images, graph = mined
    with pytest.warns(ExplgraphWarning, match="weights are not those") as said:
        graph.parse(creatures.network().double(), images[:2])
    assert said[0].filename == __file__


@pytest.mark.parametrize("times", [1e-25, 1e25, 1e35])
def test_activations_of_any_size_are_mined(mined, times):
    class Times(nn.Module):
        def __init__(self):
            super().__init__()
            self.below, self.out = creatures.network().stage1, nn.Identity()

        def forward(self, x):
            return self.out(self.below(x) * times)

    assert len(explgraph.mine(Times().eval(), mined[1], ["out"])) > 0


def test_activations_that_no_sum_can_hold_are_told():
    model = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    with pytest.raises(ExplgraphError, match="'0' has activations so large that their sums leave"):
        explgraph.mine(model, 2e38 * torch.rand(8, 3, 32, 32), ["0"])
