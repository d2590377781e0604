"""Models by name, and weights that fit or don't."""

from __future__ import annotations

import importlib.util
import pickle
import sys
import types
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.network.class_names import class_names
from explgraph.network.models import load_model
from explgraph.network.preprocessing import preprocessing

FACTORIES = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

class Nested:
    @staticmethod
    def build():
        return Net()

def number():
    return 3

def needy(argument):
    return Net()

def failing():
    raise KeyError("deep inside")

ready = Net()
constant = 3
"""


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put a module of factories on the path."""
    (tmp_path / "some_zoo.py").write_text(FACTORIES)
    (tmp_path / "broken_zoo.py").write_text("import there_is_no_such_package")
    (tmp_path / "raising_zoo.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    yield "some_zoo"
    for name in ("some_zoo", "broken_zoo", "raising_zoo"):
        sys.modules.pop(name, None)


def test_factories_give_models_in_evaluation_mode(zoo: str) -> None:
    for path in ("Net", "Nested.build"):
        model = load_model(f"{zoo}:{path}")
        assert type(model).__name__ == "Net"
        assert not any(m.training for m in model.modules())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet50", "'resnet50': expected torchvision:NAME, timm:NAME or package.module:factory"),
        ("vgg16", "did you mean torchvision:vgg16 or timm:vgg16?"),
        ("timm/resnet18.a1_in1k", r"timm:timm/resnet18\.a1_in1k"),
        ("some_zoo:", "expected torchvision:NAME"),
        (":Net", "expected torchvision:NAME"),
        ("no_zoo:Net", "module 'no_zoo' can't be imported.*installed or lie in the current folder"),
        ("broken_zoo:Net", "'broken_zoo' can't be imported.*there_is_no_such_package"),
        ("raising_zoo:Net", "importing 'raising_zoo' fails with ZeroDivisionError"),
        ("some_zoo:Nett", "'some_zoo' has no 'Nett'; did you mean 'Net'"),
        ("some_zoo:Nested.make", "has no 'Nested.make'"),
        ("some_zoo:number", r"number\(\) gives int, expected a torch.nn.Module"),
        ("some_zoo:constant", "'constant' is int, expected a function or class"),
        ("some_zoo:ready", "'ready' is Net, expected a function or class"),
        ("some_zoo:needy", r"calling needy\(\) fails with TypeError.*argument"),
        ("some_zoo:failing", r"calling failing\(\) fails with KeyError.*deep inside"),
    ],
)
@pytest.mark.usefixtures("zoo")
def test_wrong_specs(spec: str, message: str) -> None:
    with pytest.raises(ExplgraphError, match=message):
        load_model(spec)


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_missing_package_names_the_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # makes the import fail
    with pytest.raises(ExplgraphError, match=rf"pip install 'explgraph\[{package}\]'"):
        load_model(f"{package}:resnet18")


@pytest.mark.parametrize(
    ("torch_version", "there", "message"),
    [
        ("2.13.0+cpu", "0.29.1", r"torchvision 0.29.1 doesn't go with torch 2.13.0\+cpu, which "
         r"needs torchvision 0.28.\*: pip install 'torchvision==0.28.\*' --index-url "
         "https://download.pytorch.org/whl/cpu"),
        ("2.14.1", "0.28.0", r"torch 2.14.1, which needs torchvision 0.29.\*: pip install "
         r"'torchvision==0.29.\*'$"),
        ("2.5.0", None, r"explgraph\[PACKAGE\]', and before it, for torch 2.5.0: pip install "
         r"'torchvision==0.20.\*'$"),
        ("2.13.0", "0.28.0", r"install it with: pip install 'explgraph\[PACKAGE\]'$"),
        ("3.0.0", "0.29.0", r"install it with: pip install 'explgraph\[PACKAGE\]'$"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_a_torchvision_for_another_torch_is_told(
    package: str,
    torch_version: str,
    there: str | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def version(name: str) -> str:
        assert name == "torchvision"
        if there is None:
            raise PackageNotFoundError(name)
        return there

    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(torch, "__version__", torch_version)
    monkeypatch.setattr("explgraph.network.models.version", version)
    with pytest.raises(ExplgraphError, match=message.replace("PACKAGE", package)):
        load_model(f"{package}:resnet18")


def fake_torchvision(calls: list[Any], error: Exception | None = None) -> Any:
    def get_model(name: str, *, weights: str | None) -> nn.Module:
        calls.append((name, weights))
        if weights is not None and error is not None:
            raise error
        return nn.Sequential(nn.Conv2d(3, 2, 1))

    package = types.ModuleType("torchvision")
    weights = types.SimpleNamespace(DEFAULT=types.SimpleNamespace(meta={"categories": ["a", "b"]}))
    package.models = types.SimpleNamespace(
        list_models=lambda: ["resnet18", "resnet50", "vgg16"],
        get_model=get_model,
        get_model_weights=lambda _: weights,
    )
    return package


def fake_timm(calls: list[Any], error: Exception | None = None) -> Any:
    def create_model(name: str, *, pretrained: bool) -> nn.Module:
        calls.append((name, pretrained))
        if pretrained and error is not None:
            raise error
        return nn.Sequential(nn.Conv2d(3, 2, 1))

    package = types.ModuleType("timm")
    package.list_models = lambda: ["resnet18", "vgg16"]
    package.is_model = lambda name: name in package.list_models()
    package.create_model = create_model
    return package


@pytest.mark.parametrize(
    ("package", "fake", "with_weights", "without"),
    [("torchvision", fake_torchvision, "DEFAULT", None), ("timm", fake_timm, True, False)],
)
def test_zoos(
    package: str,
    fake: Any,
    with_weights: Any,
    without: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[Any] = []
    monkeypatch.setitem(sys.modules, package, fake(calls, URLError("no network")))
    with pytest.raises(
        ExplgraphError, match=rf"{package} has no model 'vgg61'; did you mean 'vgg16'"
    ):
        load_model(f"{package}:vgg61")
    with pytest.raises(ExplgraphError, match=r"weights can't be had.*no network.*--weights FILE"):
        load_model(f"{package}:vgg16")
    torch.save({"0.weight": torch.ones(2, 3, 1, 1), "0.bias": torch.zeros(2)}, tmp_path / "w.pt")
    model = load_model(f"{package}:vgg16", weights=tmp_path / "w.pt")
    assert (model[0].weight == 1).all()
    assert not model.training
    assert calls == [("vgg16", with_weights), ("vgg16", without)], "nothing else is downloaded"
    monkeypatch.setitem(sys.modules, package, fake(calls))
    model = load_model(f"{package}:resnet18")
    assert isinstance(model, nn.Module)
    if package == "torchvision":
        assert class_names(model, 2) == ("a", "b")


def test_torchvision_says_how_photographs_are_made_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = fake_torchvision([])
    values = {"crop_size": [96], "resize_size": [128], "mean": [0.1, 0.2, 0.3], "std": [0.4] * 3}
    weights = package.models.get_model_weights("vgg16").DEFAULT
    weights.transforms = type("ImageClassification", (), values)
    monkeypatch.setitem(sys.modules, "torchvision", package)
    torch.save({"0.weight": torch.ones(2, 3, 1, 1), "0.bias": torch.zeros(2)}, tmp_path / "w.pt")
    for own in (None, tmp_path / "w.pt"):  # weights of one's own were most likely trained alike
        assert preprocessing(load_model("torchvision:vgg16", weights=own)) == {
            "size": (96, 96), "mean": (0.1, 0.2, 0.3), "std": (0.4,) * 3, "fit": "crop",
            "crop": 0.75,
        }  # fmt: skip
    # weights alone of which nothing is known, and networks without any
    monkeypatch.setattr(package.models, "get_model_weights", lambda _: types.SimpleNamespace())
    assert preprocessing(load_model("torchvision:vgg16", weights=tmp_path / "w.pt")) == {}


def test_models_of_the_hub_go_through_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    offline = FileNotFoundError("cannot find the requested files in the local cache")
    monkeypatch.setitem(sys.modules, "timm", fake_timm(calls))
    for name in ("hf-hub:somebody/net.a1_in1k", "hf_hub:somebody/net", "local-dir:/some/folder"):
        load_model(f"timm:{name}")
        assert calls.pop() == (name, True)
    for wrong in ("hub:somebody/net", "hf-hub:"):
        with pytest.raises(ExplgraphError, match=f"timm:{wrong}: expected .*hf-hub:USER/NAME"):
            load_model(f"timm:{wrong}")
    assert not calls, "nothing is asked for"
    monkeypatch.setitem(sys.modules, "timm", fake_timm(calls, offline))
    with pytest.raises(ExplgraphError, match=r"local cache\); check the name .*local-dir:PATH"):
        load_model("timm:hf-hub:somebody/net")


def test_real_timm() -> None:
    try:
        import timm
    except (ImportError, RuntimeError) as err:  # it needs a torchvision that goes with torch
        pytest.skip(f"needs timm: {err}")
    model = timm.create_model("vit_tiny_patch16_384")
    assert preprocessing(model) == {
        "size": (384, 384), "mean": (0.5,) * 3, "std": (0.5,) * 3, "fit": "crop",
        "interpolation": "bicubic",
    }  # fmt: skip
    asked = timm.data.resolve_model_data_config(timm.create_model("resnet18"))
    found = preprocessing(timm.create_model("resnet18"))
    for ours, theirs in (("mean", "mean"), ("std", "std"), ("crop", "crop_pct")):
        assert found[ours] == asked[theirs]
    assert found["size"] == asked["input_size"][1:]
    with pytest.raises(ExplgraphError, match=r"Repo id must be .*check the name USER/NAME"):
        load_model("timm:hf-hub:a/b/c")


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="needs torchvision")
def test_real_torchvision(tmp_path: Path) -> None:
    import torchvision

    state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    torch.save(state, tmp_path / "w.pt")
    model = load_model("torchvision:squeezenet1_1", weights=tmp_path / "w.pt")
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


# --- weights


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return {k: torch.rand_like(v.float()).to(v.dtype) for k, v in model.state_dict().items()}


@pytest.mark.parametrize("form", ["safetensors", "pt", "state_dict", "module.", "both", "legacy"])
def test_weights_in_every_form(zoo: str, form: str, tmp_path: Path) -> None:
    saved: Any = state()
    if form in ("module.", "both"):
        saved = {f"module.{k}": v for k, v in saved.items()}
    if form in ("state_dict", "both"):
        saved = {"state_dict": saved, "epoch": 3}
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(saved, path)
    else:
        torch.save(saved, path, _use_new_zipfile_serialization=form != "legacy")
    told = {
        "state_dict": "taken from 'state_dict'$",
        "module.": r"without 'module\.' in front of their names$",
        "both": r"taken from 'state_dict', without 'module\.' in front of their names$",
    }
    with pytest.warns(ExplgraphWarning, match=told[form]) if form in told else nullcontext():
        model = load_model(f"{zoo}:Net", weights=path)
    assert all(torch.equal(v, state()[k]) for k, v in model.state_dict().items())


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return (exec, ("import sys; sys.evil = True",))


def test_nothing_is_unpickled(zoo: str, tmp_path: Path) -> None:
    with (tmp_path / "w.pt").open("wb") as file:
        pickle.dump({"0.weight": Evil()}, file)
    torch.save({"0.weight": Evil()}, tmp_path / "w2.pt")
    torch.save(nn.Conv2d(3, 4, 3), tmp_path / "w3.pt")
    for name in ("w.pt", "w2.pt", "w3.pt"):
        with pytest.raises(ExplgraphError, match="nothing else is read, for it could run code"):
            load_model(f"{zoo}:Net", weights=tmp_path / name)
    assert not hasattr(sys, "evil")


def test_wrong_weights(zoo: str, tmp_path: Path) -> None:
    def loading(content: Any, name: str = "w.pt") -> str:
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        with pytest.raises(ExplgraphError) as error:
            load_model(f"{zoo}:Net", weights=path)
        assert name in str(error.value)
        assert "\n" not in str(error.value)
        return str(error.value)

    right = state()
    some = {k: v for k, v in right.items() if k != "0.bias"}
    assert "1 missing (0.bias) parameters" in loading(some)
    assert "1 missing (0.bias) and 1 unexpected (2.bias)" in loading(
        some | {"2.bias": right["0.bias"]}
    )
    assert "(a, b, c, ...)" in loading(right | dict.fromkeys("abcd", right["0.bias"]))
    assert "size mismatch for 0.bias" in loading(right | {"0.bias": torch.zeros(5)})
    assert "got list" in loading([1, 2])
    assert "the file is empty" in loading(b"")
    for junk in (b"rubbish", b"PK\x03\x04 rubbish", b"\x80\x02 rubbish"):
        loading(junk)
    assert "can't be read (SafetensorError" in loading(b"rubbish rubbish", "w.safetensors")
    torch.save(right, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    loading(whole[: len(whole) // 2], "cut.pt")
    with pytest.raises(ExplgraphError, match=r"none\.pt'.*No such file"):
        load_model(f"{zoo}:Net", weights=tmp_path / "none.pt")
    with pytest.raises(ExplgraphError, match="Is a directory"):
        load_model(f"{zoo}:Net", weights=tmp_path)
