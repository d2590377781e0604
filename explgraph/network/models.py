"""Models by name: ``torchvision:NAME``, ``timm:NAME``, ``package.module:factory``.

timm knows models of the Hugging Face hub, too (``timm:hf-hub:user/name``), and of folders
(``timm:local-dir:path``). What a model says of how its images are made ready comes with it
(`explgraph.network.preprocessing`).

Weights come with the named model (torchvision and timm download theirs once), or from a file of
one's own: safetensors, or a state dict saved by torch, which is read without unpickling code.
"""

from __future__ import annotations

import importlib
import os
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from explgraph.errors import ExplgraphError, nearest, one_line
from explgraph.network.preprocessing import of_transforms
from explgraph.paths import check_regular

__all__ = ["load_model"]


def load_model(spec: str, *, weights: str | os.PathLike[str] | None = None) -> nn.Module:
    """Build a model and put it into evaluation mode.

    Parameters
    ----------
    spec : str
        ``"torchvision:NAME"`` or ``"timm:NAME"`` (optional packages, imported only now),
        ``"timm:hf-hub:USER/NAME"``, or ``"package.module:factory"``, a function or class without
        arguments that gives a ``torch.nn.Module``.
    weights : path, optional
        Safetensors file, or a state dict that torch saved. By default torchvision and timm give
        their pretrained weights, and a factory whatever it gives.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ExplgraphError
        If the package, module, name or file is missing, the factory gives no module, weights
        can't be downloaded, or they don't fit the model.
    """
    source, colon, name = spec.partition(":")
    if not (source and colon and name):
        hint = ""
        if re.fullmatch(r"\w[\w.\-/]*", spec):  # the name alone
            hint = f"; did you mean torchvision:{spec} or timm:{spec}?"
        raise ExplgraphError(
            f"model {spec!r}: expected torchvision:NAME, timm:NAME or package.module:factory{hint}"
        )
    pretrained = weights is None
    if source == "torchvision":
        model = _from_torchvision(name, pretrained)
    elif source == "timm":
        model = _from_timm(name, pretrained)
    else:
        model = _from_factory(source, name)
    if weights is not None:
        _load_weights(model, Path(weights))
    return model.eval()


def _optional(package: str) -> Any:
    """Import an optional package."""
    try:
        return importlib.import_module(package)
    except (ImportError, OSError, RuntimeError) as err:  # as of builds for another torch
        raise ExplgraphError(
            f"model {package}:...: the package {package} can't be imported ({one_line(err)}); "
            f"{_remedy(package)}"
        ) from err


def _remedy(package: str) -> str:
    """Say how a package is installed, with the torchvision that goes with the torch there is.

    Since torch 2.0 and torchvision 0.15 both have gone up by one at a time; timm imports it, too.
    pip would change torch for the newest torchvision, or leave one that doesn't import.
    """
    install = f"install it with: pip install 'explgraph[{package}]'"
    numbers = re.match(r"2\.(\d+)[^+]*\+?(\w*)", torch.__version__)
    if numbers is None:
        return install
    fits = f"0.{int(numbers[1]) + 15}."
    # where torch came from: PyPI's torchvision is built for PyPI's torch
    index = f" --index-url https://download.pytorch.org/whl/{numbers[2]}" * bool(numbers[2])
    fitting = f"pip install 'torchvision=={fits}*'{index}"
    try:
        there = version("torchvision")
    except PackageNotFoundError:
        return f"{install}, and before it, for torch {torch.__version__}: {fitting}"
    if there.startswith(fits):
        return install
    return (
        f"torchvision {there} doesn't go with torch {torch.__version__}, which needs "
        f"torchvision {fits}*: {fitting}"
    )


def _from_torchvision(name: str, pretrained: bool) -> nn.Module:
    """Build a model of torchvision."""
    models = _optional("torchvision").models
    known = models.list_models()
    if name not in known:
        raise ExplgraphError(f"torchvision has no model {name!r}{nearest(name, known)}")
    weights = "DEFAULT" if pretrained else None
    model = _built(lambda: models.get_model(name, weights=weights), f"torchvision:{name}")
    if pretrained:
        meta = models.get_model_weights(name).DEFAULT.meta
        names: Any = tuple(meta.get("categories", ()))
        model.class_names = names  # where `class_names` looks
    # own weights of the architecture were most likely trained alike
    known_weights = getattr(models.get_model_weights(name), "DEFAULT", None)
    transforms = getattr(known_weights, "transforms", None)
    ready: Any = of_transforms(transforms()) if callable(transforms) else {}
    if ready:
        model.preprocessing = ready  # where `preprocessing` looks
    return model


def _from_timm(name: str, pretrained: bool) -> nn.Module:
    """Build a model of timm, which carries by itself how its images are made ready."""
    timm = _optional("timm")
    place, colon, where = name.partition(":")
    if colon:
        if place not in _PLACES or not where:
            raise ExplgraphError(
                f"model timm:{name}: expected timm:NAME, timm:hf-hub:USER/NAME, or "
                "timm:local-dir:PATH"
            )
        return _built(
            lambda: timm.create_model(name, pretrained=pretrained), f"timm:{name}", _FROM_HUB
        )
    if not timm.is_model(name):
        known = timm.list_models()
        raise ExplgraphError(f"timm has no model {name!r}{nearest(name, known)}")
    return _built(lambda: timm.create_model(name, pretrained=pretrained), f"timm:{name}")


_PLACES = ("hf-hub", "hf_hub", "local-dir")
"""Where timm looks for models beside its own: the Hugging Face hub; a folder."""
_FROM_FILE = (
    "download them where there is a network and pass the file with --weights FILE "
    "(weights=... in Python)"
)
_FROM_HUB = (
    "check the name USER/NAME and the network (private models need a token of the hub), or "
    "download the model's folder elsewhere and name it: timm:local-dir:PATH"
)


def _built(build: Callable[[], nn.Module], spec: str, else_: str = _FROM_FILE) -> nn.Module:
    """Build a model whose weights may have to be downloaded."""
    try:
        return build()
    except (URLError, OSError, RuntimeError, ValueError) as err:
        # without a network, each download library fails in its own way
        raise ExplgraphError(
            f"model {spec}: its pretrained weights can't be had ({one_line(err)}); {else_}"
        ) from err


def _from_factory(module_name: str, path: str) -> nn.Module:
    """Call ``package.module:factory``."""
    spec = f"{module_name}:{path}"
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as err:
        raise ExplgraphError(
            f"model {spec!r}: the module {module_name!r} can't be imported ({one_line(err)}); "
            "it must be installed or lie in the current folder"
        ) from err
    except (Exception, SystemExit) as err:
        raise ExplgraphError(
            f"model {spec!r}: importing {module_name!r} fails with {one_line(err)}"
        ) from err
    module = found
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            names = [n for n in vars(module) if not n.startswith("_")]
            raise ExplgraphError(
                f"model {spec!r}: {module_name!r} has no {path!r}{nearest(path, names)}"
            )
        found = getattr(found, attribute)
    if not callable(found) or isinstance(found, nn.Module):
        raise ExplgraphError(
            f"model {spec!r}: {path!r} is {type(found).__name__}, expected a function or class "
            "without arguments that gives a torch.nn.Module"
        )
    try:
        model = found()
    except ExplgraphError:
        raise
    except (Exception, SystemExit) as err:
        raise ExplgraphError(
            f"model {spec!r}: calling {path}() fails with {one_line(err)}"
        ) from err
    if not isinstance(model, nn.Module):
        raise ExplgraphError(
            f"model {spec!r}: {path}() gives {type(model).__name__}, expected a torch.nn.Module"
        )
    return model


def _load_weights(model: nn.Module, path: Path) -> None:
    """Put the weights of a file into a model."""
    state = _state_dict(path)
    keys = model.state_dict().keys()
    # checkpoints of torch's parallel training name every parameter "module. ..."
    if not any(k.startswith("module.") for k in keys):
        state = {k.removeprefix("module."): v for k, v in state.items()}
    missing = [k for k in keys if k not in state]
    unexpected = [k for k in state if k not in keys]
    if missing or unexpected:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise ExplgraphError(
            f"weights {str(path)!r} don't fit the model: {' and '.join(parts)} parameters; "
            "they must come from the same architecture"
        )
    try:
        model.load_state_dict(state)
    except RuntimeError as err:
        raise ExplgraphError(f"weights {str(path)!r} don't fit the model: {one_line(err)}") from err


def _kind_of(state: object) -> str:
    """Say what was found in place of a state dict."""
    kind = type(state).__name__
    if isinstance(state, Mapping):
        for key, value in state.items():
            if not isinstance(key, str):
                return f"{kind} with the key {key!r}"
            if not isinstance(value, Tensor):
                return f"{kind} in which {key!r} is {type(value).__name__}"
    return kind


def _state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict, without running anything that the file may hold."""
    check_regular(path, f"weights {str(path)!r}")
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise ExplgraphError(f"weights {str(path)!r}: the file is empty")
    except OSError as err:
        raise ExplgraphError(f"weights {str(path)!r}: {err.strerror or err}") from err
    state: Any
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch, about how others wrote the file
                state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as err:
        raise ExplgraphError(
            f"weights {str(path)!r}: not a plain state dict of tensors, and nothing else is read, "
            "for it could run code; save model.state_dict(), or safetensors"
        ) from err
    except Exception as err:  # torch's reader raises almost anything for broken files
        raise ExplgraphError(
            f"weights {str(path)!r} can't be read ({one_line(err)}); "
            "expected safetensors (by the suffix) or a state dict "
            "that torch saved"
        ) from err
    for entry in ("state_dict", "model_state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(entry), Mapping):
            state = state[entry]
    if not isinstance(state, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise ExplgraphError(
            f"weights {str(path)!r}: expected a state dict (names and tensors), got "
            f"{_kind_of(state)}; save model.state_dict()"
        )
    return dict(state)
