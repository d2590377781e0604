"""Models by name: ``torchvision:NAME``, ``timm:NAME``, ``package.module:factory``.

timm knows models of the Hugging Face hub, too (``timm:hf-hub:user/name``), and of folders
(``timm:local-dir:path``). What a model says of how its images are made ready comes with it
(`explgraph.network.preprocessing`).

Weights come with the named model (torchvision and timm download theirs once), or from a file of
one's own (`weights`). Functions that read scores off outputs are named alike.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast
from urllib.error import URLError

import torch
from torch import nn

from explgraph.errors import ExplgraphError, nearest, one_line
from explgraph.network.outputs import Outputs
from explgraph.network.preprocessing import of_transforms
from explgraph.network.weights import load_weights

__all__ = ["load_model", "load_outputs"]


def load_model(spec: str, *, weights: str | os.PathLike[str] | None = None) -> nn.Module:
    """Build a model and put it into evaluation mode.

    Parameters
    ----------
    spec : str
        ``"torchvision:NAME"`` or ``"timm:NAME"`` (optional packages, imported only now),
        ``"timm:hf-hub:USER/NAME"``, or ``"package.module:factory"``, a function or class without
        arguments that gives a ``torch.nn.Module``.
    weights : path, optional
        Safetensors file, or a state dict or checkpoint that torch saved: see `network.weights`. By
        default torchvision and timm give their pretrained weights, and a factory whatever it gives.

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
        load_weights(model, weights)
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
    found = _imported(f"model {spec!r}", module_name, path)
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


def load_outputs(spec: str) -> Outputs:
    """Import a function that reads scores off what a model gives.

    Parameters
    ----------
    spec : str
        ``"package.module:function"``; see `explgraph.network.outputs`.

    Raises
    ------
    ExplgraphError
        If there is no such function.
    """
    module_name, colon, path = spec.partition(":")
    if not (module_name and colon and path):
        hint = "; columns are named by --columns" if "=" in spec else ""
        raise ExplgraphError(f"outputs {spec!r}: expected package.module:function{hint}")
    found = _imported(f"outputs {spec!r}", module_name, path)
    if not callable(found) or isinstance(found, type):
        raise ExplgraphError(
            f"outputs {spec!r}: {path!r} is "
            f"{'a class' if isinstance(found, type) else type(found).__name__}, expected a "
            "function that takes what the model gives and gives scores of (images, classes)"
        )
    return cast(Outputs, found)


def _imported(what: str, module_name: str, path: str) -> Any:
    """Import a module and give what a path of attributes leads to."""
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as err:
        raise ExplgraphError(
            f"{what}: the module {module_name!r} can't be imported ({one_line(err)}); "
            "it must be installed or lie in the current folder"
        ) from err
    except (Exception, SystemExit) as err:
        raise ExplgraphError(
            f"{what}: importing {module_name!r} fails with {one_line(err)}"
        ) from err
    module = found
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            names = [n for n in vars(module) if not n.startswith("_")]
            raise ExplgraphError(f"{what}: {module_name!r} has no {path!r}{nearest(path, names)}")
        found = getattr(found, attribute)
    return found
