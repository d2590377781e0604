"""Models in wrappers are the models inside: names, weights, graphs, answers."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from small_network import network, pictures
from torch import distributed, nn
from torch.optim.swa_utils import AveragedModel

import explgraph
from explgraph.answers.ablation import ablate
from explgraph.answers.effects import edge_effects
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.network.class_names import class_names
from explgraph.network.forward import fingerprint
from explgraph.network.hooks import split_layer
from explgraph.network.wrappers import bare, modules_by_name, plain_name, wrapper_of

pytestmark = pytest.mark.usefixtures("one_thread")


class LightningModule(nn.Module):
    """As Lightning has it: a forward pass that only says that there is none."""

    def forward(self, *args: Any, **options: Any) -> Any:
        return super().forward(*args, **options)  # type: ignore[misc]

    @property
    def trainer(self) -> Any:
        raise RuntimeError("not attached to a Trainer")


class Trained(LightningModule):
    """What most people write: one network, a loss, and a forward pass that hands on."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.loss = network(), nn.CrossEntropyLoss()
        self.eval()

    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x)


class Unwritten(LightningModule):
    """Without a forward pass: the steps of training call the network."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()
        self.eval()


class Prepares(Trained):
    """It does something to images: taking it away would give other answers."""

    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x - 0.5)


class Finishes(Trained):
    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x).softmax(1)


class Twice(Trained):
    def forward(self, x: torch.Tensor) -> Any:
        return self.net(self.net(x))


class Two(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.student, self.teacher = network(), network()
        self.eval()


class ModelEma(nn.Module):
    """As timm keeps averages, of every version: all in ``module``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.module, self.decay = model, 0.99

    def forward(self, *args: Any, **options: Any) -> Any:
        return self.module(*args, **options)


def adapted() -> nn.Module:
    """Stand in for peft: adapters are in the model, which lies in two wrappers."""

    class PeftModel(nn.Module):
        __module__ = "peft.peft_model"
        active_peft_config = None

        def __init__(self) -> None:
            super().__init__()
            self.base_model = nn.Sequential(OrderedDict(model=network()))

    return PeftModel().eval()


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


WRAPPERS = {
    "DataParallel": (lambda: nn.DataParallel(network()).eval(), "module."),
    "compiled": (lambda: compiled(network()), "_orig_mod."),
    "averaged": (lambda: AveragedModel(network()).eval(), "module."),
    "averaged by timm": (lambda: ModelEma(network()).eval(), "module."),
    "Lightning": (Trained, "net."),
    "Lightning without forward": (Unwritten, "net."),
    "LoRA": (adapted, "base_model.model."),
    "nested": (lambda: nn.DataParallel(compiled(Trained())).eval(), "module._orig_mod.net."),
}


def mined(model: nn.Module, layers: list[str]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)  # of so few images
        return explgraph.mine(model, pictures(24), layers, seed=0)


@pytest.fixture(scope="module")
def plain() -> Any:
    model = network()
    return model, mined(model, ["upper"]), pictures(3)


def alike(one: Any, other: Any) -> bool:
    return (
        dict(one.nx.nodes) == dict(other.nx.nodes)
        and dict(one.nx.edges) == dict(other.nx.edges)
        and one.nx.graph == other.nx.graph
    )


@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_wrapped_model_s_graph_is_the_model_s(kind: str, plain: Any) -> None:
    model, graph, images = plain
    make, before = WRAPPERS[kind]
    wrapped = make()
    assert type(bare(wrapped)) is type(model)
    assert wrapper_of(wrapped) == before
    assert [*modules_by_name(wrapped)] == [name for name, _ in model.named_modules()]
    assert fingerprint(wrapped) == fingerprint(model)
    assert alike(mined(wrapped, ["upper"]), graph)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of other weights, say
        found = ablate(wrapped, graph, images, graph.node_ids[:2])
    np.testing.assert_array_equal(found.after, ablate(model, graph, images, graph.node_ids[:2])[2])


def test_distributed_data_parallel(plain: Any, tmp_path: Any) -> None:
    model, graph, images = plain
    distributed.init_process_group(
        "gloo", store=distributed.FileStore(str(tmp_path / "s"), 1), rank=0, world_size=1
    )
    try:
        wrapped = nn.parallel.DistributedDataParallel(network()).eval()
    finally:
        distributed.destroy_process_group()
    assert wrapper_of(wrapped) == "module."
    expected = graph.parse(model, images)
    np.testing.assert_array_equal(graph.parse(wrapped, images).positions, expected.positions)


@pytest.mark.parametrize("kind", [Prepares, Finishes, Twice, Two])
def test_what_does_more_than_hand_on_is_the_model_itself(kind: Any) -> None:
    model = kind()
    assert bare(model) is model
    if kind is not Two:
        layers = explgraph.list_layers(model, 32)
        assert layers[0].name == "net.lower"


def test_prompts_in_front_of_images_are_a_part_of_the_model() -> None:
    model = adapted()
    model.active_peft_config = type("", (), {"is_prompt_learning": True})  # type: ignore[assignment]
    assert bare(model) is model


def test_names_outside_and_inside(plain: Any) -> None:
    model, graph, _ = plain
    wrapped = nn.DataParallel(Trained()).eval()
    for name in ("upper", "module.net.upper"):
        assert split_layer(wrapped, name) == ("upper", None)
    assert split_layer(wrapped, "module.net.relu@1") == ("relu", 1)
    assert plain_name(wrapped, "module.net.upper") == "upper"
    named = explgraph.record(wrapped, pictures(2), ["module.net.upper"]).layers
    assert named == explgraph.record(model, pictures(2), ["upper"]).layers
    assert named[0].name in {layer.name for layer in graph.layers}
    with pytest.raises(ExplgraphError, match=r"no layer 'uper'; did you mean 'upper'"):
        split_layer(wrapped, "uper")


def test_classes_are_named_inside_or_outside() -> None:
    wrapped = Trained()
    wrapped.class_names = ("a", "b", "c")
    assert class_names(wrapped, 3) == ("a", "b", "c")
    wrapped.net.classes = ["x", "y", "z"]
    assert class_names(wrapped, 3) == ("x", "y", "z")


class Body(nn.Module):
    """A network with a part to wrap."""

    def __init__(self) -> None:
        super().__init__()
        small = network()
        self.body = nn.Sequential(small.lower, nn.ReLU(), small.upper, nn.ReLU())
        self.head = small.head

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.body(x).mean((2, 3)))


@pytest.fixture(scope="module")
def parted() -> Any:
    model = Body().eval()
    return model, pictures(3), mined(model, ["body.0", "body.2"])


def in_place(model: Any) -> Any:
    model.compile(backend="eager")


def part(model: Any) -> Any:
    model.body = compiled(model.body)


def function(model: Any) -> Any:
    model.forward = compiled(model.forward)


def parallel(model: Any) -> Any:
    model.body = nn.DataParallel(model.body).eval()


# the switch that lets compiled code run as it was written
switch = pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="needs torch 2.6")


@pytest.mark.parametrize(
    "change", [*(pytest.param(f, marks=switch) for f in (in_place, part, function)), parallel]
)
def test_hooks_act_in_parts_that_are_compiled_or_parallel(change: Any, parted: Any) -> None:
    """The compiled code is there, and has no hooks: it was made before them."""
    plain, images, graph = parted
    model = Body().eval()
    change(model)
    with torch.no_grad():
        before = model(images)
    assert [*modules_by_name(model)] == [*modules_by_name(plain)]
    assert fingerprint(model) == fingerprint(plain)
    found, expected = graph.parse(model, images), graph.parse(plain, images)
    np.testing.assert_array_equal(found.positions, expected.positions)
    effects, usual = (edge_effects(m, graph, images).nx.edges for m in (model, plain))
    assert dict(effects) == dict(usual)
    without, so = (ablate(m, graph, images, graph.node_ids[:2]) for m in (model, plain))
    np.testing.assert_array_equal(without.after, so.after)
    assert not np.allclose(without.after, without.before)
    with torch.no_grad():
        torch.testing.assert_close(model(images), before)


@switch
def test_compiled_models_stay_compiled_afterwards(parted: Any) -> None:
    runs = []

    def backend(graph: Any, _: Any) -> Any:
        runs.append(1)
        return graph.forward

    _, images, graph = parted
    model = Body().eval()
    model.body = torch.compile(model.body, backend=backend)  # type: ignore[assignment]
    graph.parse(model, images)
    assert not runs, "as it was written"
    with torch.no_grad():
        model(images)
    assert runs
