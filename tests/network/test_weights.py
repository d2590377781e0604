"""Checkpoints as trainers write them: where their weights are is found by what fits the model."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.network.weights import load_weights


class Net(nn.Module):
    """Two levels of names, a buffer, and a number that is no float."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)))


def net(seed: int = 1) -> Net:
    torch.manual_seed(seed)
    model = Net()
    with torch.no_grad():
        for value in model.state_dict().values():
            value.copy_(torch.rand(value.shape) * 9)
    return model.eval()


def named(before: str, seed: int = 1) -> dict[str, torch.Tensor]:
    return {before + name: value for name, value in net(seed).state_dict().items()}


def loaded(content: Any, tmp_path: Any, model: nn.Module | None = None, place: str = "") -> Net:
    """Save something, load it into a fresh model, and give that model."""
    path = tmp_path / "run.ckpt"
    torch.save(content, path)
    fresh = net(7) if model is None else model
    load_weights(fresh, f"{path}{place}")
    return fresh


def assert_same(model: nn.Module, seed: int = 1) -> None:
    expected = net(seed).state_dict().values()
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), expected, strict=True)
    )


@pytest.mark.parametrize(
    ("wrap", "told"),
    [
        (nn.DataParallel, r"without 'module\.' in front"),
        (lambda m: nn.DataParallel(nn.Sequential(OrderedDict(net=m))), r"'module\.net\.' in front"),
        (lambda m: torch.compile(m, backend="eager"), r"without '_orig_mod\.' in front"),
        (
            lambda m: nn.Sequential(OrderedDict(model=torch.compile(m, backend="eager"))),
            r"without 'model\._orig_mod\.' in front",
        ),
        (AveragedModel, r"'module\.' in front.*, but for n_averaged, which the model hasn't$"),
        (lambda m: AveragedModel(nn.DataParallel(m)), r"'module\.module\.' in front.*n_averaged"),
    ],
)
def test_what_wrappers_put_in_front_is_found(wrap: Any, told: str, tmp_path: Any) -> None:
    with pytest.warns(ExplgraphWarning, match=told):
        assert_same(loaded(wrap(net()).state_dict(), tmp_path))


@pytest.mark.parametrize("part", ["state_dict", "model_state_dict", "model", "ema", "net.weights"])
def test_the_mapping_that_holds_the_weights_is_found(part: str, tmp_path: Any) -> None:
    content: Any = named("")
    for key in reversed(part.split(".")):
        content = {"epoch": 3, "best": 0.5, "name": "run", "classes": ["a", "b"], key: content}
    optimizer = torch.optim.Adam(net().parameters())
    content["optimizer"] = optimizer.state_dict()
    with pytest.warns(ExplgraphWarning, match=rf"run\.ckpt': taken from '{part}'$"):
        assert_same(loaded(content, tmp_path))


def lightning(state: dict[str, torch.Tensor], **more: Any) -> dict[str, Any]:
    """Give a checkpoint as Lightning's trainer writes it."""
    optimizer = torch.optim.SGD(net().parameters(), lr=0.1, momentum=0.9)
    net()(torch.rand(2, 3, 8, 8)).sum().backward()
    return {
        "epoch": 4,
        "global_step": 100,
        "pytorch-lightning_version": "2.6.0",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 5}}}},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5), "dirpath": "x"}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "net": "small"},
        **more,
    }


def test_lightning_s_checkpoints(tmp_path: Any) -> None:
    with pytest.warns(ExplgraphWarning, match=r"from 'state_dict', without 'model\.' in front of "):
        assert_same(loaded(lightning(named("model.")), tmp_path))
    state = {"loss.weight": torch.ones(2), **named("net._orig_mod."), "metric.total": torch.ones(1)}
    told = r"'net\._orig_mod\.' in front of their names, but for loss\.weight, metric\.total, which"
    with pytest.warns(ExplgraphWarning, match=told):
        assert_same(loaded(lightning(state), tmp_path))


def test_safetensors_and_numbers_beside_tensors(tmp_path: Any) -> None:
    save_file(named("model."), tmp_path / "w.safetensors")
    model = net(7)
    with pytest.warns(ExplgraphWarning, match=r"w\.safetensors': without 'model\.' in front"):
        load_weights(model, tmp_path / "w.safetensors")
    assert_same(model)
    assert_same(loaded({**named(""), "epoch": 3, "note": "good"}, tmp_path))


def test_plain_weights_say_nothing(tmp_path: Any) -> None:
    assert_same(loaded(named(""), tmp_path))


def test_parts_that_were_wrapped_by_themselves(tmp_path: Any) -> None:
    """As the ImageNet example of torch trains VGG, and as parts are compiled."""
    trained = net()
    trained.body = nn.DataParallel(trained.body)  # type: ignore[assignment]
    with pytest.warns(ExplgraphWarning, match=r"without 'module\.' in the middle of names"):
        assert_same(loaded(trained.state_dict(), tmp_path))
    with pytest.warns(ExplgraphWarning, match=r"taken from 'model', .*'module\.' in the middle"):
        assert_same(loaded({"model": nn.DataParallel(trained).state_dict()}, tmp_path))
    within = net(7)
    within.head = torch.compile(within.head, backend="eager")  # type: ignore[assignment]
    with pytest.warns(ExplgraphWarning, match=r"without '_orig_mod\.' in the middle"):
        assert_same(loaded(named(""), tmp_path, within))


def test_weights_go_into_the_model_inside_its_wrappers(tmp_path: Any) -> None:
    assert_same(loaded(named(""), tmp_path, nn.DataParallel(net(7))).module)
    with pytest.warns(ExplgraphWarning, match=r"without 'module\.'"):
        assert_same(loaded(named("module."), tmp_path, nn.DataParallel(net(7))).module)


def test_two_places_that_fit_are_a_question(tmp_path: Any) -> None:
    both = {"model": named("module."), "ema": named("", seed=2), "epoch": 1}
    question = (
        r"fits the model in 2 places with different values, 'model\.module' and 'ema'; .*#ema"
    )
    with pytest.raises(ExplgraphError, match=question):
        loaded(both, tmp_path)
    with pytest.warns(ExplgraphWarning, match="taken from 'ema'"):
        assert_same(loaded(both, tmp_path, place="#ema"), seed=2)
    with pytest.warns(ExplgraphWarning, match="taken from 'model'"):
        assert_same(loaded(both, tmp_path, place="#model.module"))
    wrong = r"has no 'emma' that fits the model; did you mean 'ema'.*'model\.module', 'ema'"
    with pytest.raises(ExplgraphError, match=wrong):
        loaded(both, tmp_path, place="#emma")
    flat = {**named(""), **named("ema.", seed=2)}
    with pytest.raises(ExplgraphError, match=r"'\.' and 'ema'"):
        loaded(flat, tmp_path)
    with pytest.warns(
        ExplgraphWarning, match=r"but for ema\.body\.0\.weight, .*, \.\.\., which the"
    ):
        assert_same(loaded(flat, tmp_path, place="#."))
    # the same weights twice are no question
    with pytest.warns(ExplgraphWarning, match="taken from 'model'"):
        assert_same(loaded({"model": named(""), "ema": named("")}, tmp_path))


def test_shapes_tell_places_apart(tmp_path: Any) -> None:
    larger = {f"teacher.{k}": torch.cat([v, v]) for k, v in named("").items() if v.ndim}
    larger["teacher.body.1.num_batches_tracked"] = torch.tensor(1)
    with pytest.warns(ExplgraphWarning, match=r"without 'student\.' .* but for teacher\."):
        assert_same(loaded({**larger, **named("student.")}, tmp_path))


def test_a_file_s_own_hash(tmp_path: Any) -> None:
    torch.save(named(""), tmp_path / "run#2.pt")
    model = net(7)
    load_weights(model, tmp_path / "run#2.pt")
    assert_same(model)


def test_nothing_is_loaded_in_part(tmp_path: Any) -> None:
    before = {k: v.clone() for k, v in net(7).state_dict().items()}
    model = net(7)
    state = named("model.")
    bias = state.pop("model.head.bias")

    def refused(content: Any, message: str) -> None:
        with pytest.raises(ExplgraphError, match=message):
            loaded(content, tmp_path, model)
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())

    refused(
        {"state_dict": state},
        r"1 missing \(head\.bias\) parameters \(taken from 'state_dict', without 'model\.' in ",
    )
    more = {**state, "model.head.bias": bias, "model.tail.bias": bias}
    refused(more, r"1 unexpected \(tail\.bias\) parameters \(without 'model\.'")
    refused({**named(""), "head.bias": torch.ones(3)}, r"head\.bias: \(3,\) in the file, \(2,\) in")
    refused({"other": {"x": bias}}, r"9 missing \(body\.0\.weight, .*, \.\.\.\) and 1 unexpected")
    refused(named("") | {"a\nb\x1b": bias}, r"1 unexpected \('a\\nb\\x1b'\) parameters")
    refused({"model": {"epoch": 3}}, r"got dict in which 'model' is dict; save model\.state_dict")


def test_objects_in_a_checkpoint_are_named_with_the_remedy(tmp_path: Any) -> None:
    content = {"state_dict": named(""), "args": argparse.Namespace(lr=1)}
    message = (
        r"but argparse\.Namespace\), and nothing else is read, for it could run code; where you "
        r"trust the file, open it by torch\.load\(FILE, weights_only=False\), and save"
    )
    with pytest.raises(ExplgraphError, match=message):
        loaded(content, tmp_path)
