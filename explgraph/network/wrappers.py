"""Looking through what models are wrapped in: the model inside, its modules' names, its weights.

Wrappers that are known to pass images on as they are: ``DataParallel``,
``DistributedDataParallel``, ``torch.compile`` (the module that it gives), ``AveragedModel``, and
peft's around a model with adapters. Others are asked: a Lightning module, and a module that holds
nothing but one called ``module``, are looked through if they hand on to one module inside what they
are given and give back what that gives, which is tried with a mark in the place of images. One that
prepares images, or changes what comes out, is left as it is: it is the model.

Explgraph runs the model inside, on one device, so that names, weights and graphs are the same with
a wrapper and without. Wrappers around parts of a model are looked through in names alone.

Networks are also built upon: `Around` is a module of ours that goes on from layers of a network,
and in which that network's modules and weights keep their names.

Code that ``torch.compile`` made ignores hooks: inside `not_compiled` the modules run as they were
written.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

__all__ = [
    "Around",
    "bare",
    "modules_by_name",
    "not_compiled",
    "plain_name",
    "plain_state",
    "wrapper_of",
]

_WITH_MODULE = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)

_ASKED: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


class Around(nn.Module):
    """A module that goes on from layers of a network, ``model``, and is asked in its place.

    It is no wrapper: what it gives is its own. But layers have the names that they have in the
    network (`modules_by_name`), and the network's state alone says whether it is the one that was
    mined (`plain_state`).
    """

    model: nn.Module

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Hold while questions are asked what hangs on an image and not on what is changed."""
        yield


def bare(model: nn.Module) -> nn.Module:
    """Give the model inside all wrappers around it."""
    while path := _inside(model):
        model = model.get_submodule(path)
    return model


def wrapper_of(model: nn.Module) -> str:
    """Give what names of the model's modules begin with outside its wrappers: "module.", or ""."""
    before = ""
    while path := _inside(model):
        before += path + "."
        model = model.get_submodule(path)
    return before


def modules_by_name(model: nn.Module) -> dict[str, nn.Module]:
    """Give all modules by name, as ``named_modules`` does, but without any wrapper's part of it."""
    return dict(_walk(model, "", set()))


def _walk(module: nn.Module, name: str, known: set[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Go through a module and those in it, each once."""
    module = bare(module)
    if module in known:
        return
    known.add(module)
    yield name, module
    if isinstance(module, Around):
        module = bare(module.model)
        known.add(module)
    for child, below in module._modules.items():
        if below is not None:
            yield from _walk(below, f"{name}.{child}" if name else child, known)


def plain_name(model: nn.Module, name: str) -> str:
    """Give a module's name, or a parameter's, without the wrappers' part of it."""
    name = name.removeprefix(wrapper_of(model))
    inside = bare(model)
    if isinstance(inside, Around):
        return plain_name(inside.model, name.removeprefix("model."))
    for long, short in _inner(model):
        if name.startswith(long):
            name = short + name.removeprefix(long)
    return name


def plain_state(model: nn.Module) -> dict[str, Any]:
    """Give the model's state by names without any wrapper's part; of `Around` the network's."""
    inside = bare(model)
    if isinstance(inside, Around):
        return plain_state(inside.model)
    inner = _inner(model)
    state: dict[str, Any] = {}
    for name, value in bare(model).state_dict().items():
        for long, short in inner:
            if name.startswith(long):
                name = short + name.removeprefix(long)
        state[name] = value
    return state


def _inner(model: nn.Module) -> list[tuple[str, str]]:
    """Give how names begin inside wrappers around parts of a model, and without them.

    The innermost first: what stands before it is then still as it was.
    """
    changed = []
    for name, module in bare(model).named_modules():
        if name and (path := _inside(module)):
            changed.append((f"{name}.{path}.", f"{name}."))
    return sorted(changed, key=lambda pair: -len(pair[0]))


def _inside(module: nn.Module) -> str:
    """Give where in a wrapper the module is that it passes images on to; "" for what is none."""
    if isinstance(module, _WITH_MODULE):
        return "module"
    children = [name for name, _ in module.named_children()]
    if "_orig_mod" in children:
        return "_orig_mod"
    kinds = type(module).__mro__
    if any(kind.__name__ == "PeftModel" and kind.__module__.startswith("peft.") for kind in kinds):
        # adapters lie in the model itself; prompts are put in front of what it is given
        prompts = getattr(module.active_peft_config, "is_prompt_learning", False)
        return "" if prompts else "base_model.model"
    lightning = any(kind.__name__ == "LightningModule" for kind in kinds)
    if lightning or children == ["module"]:
        if module not in _ASKED:
            _ASKED[module] = _passed_on_to(module)
        return _ASKED[module]
    return ""


def _passed_on_to(module: nn.Module) -> str:
    """Find the child that a module passes images on to, without doing anything else; "" if none.

    Its ``forward`` runs with a stand-in for the module, whose children take down what they are
    given. Nothing can be done to the mark that stands for images, so that it fails elsewhere.
    """
    weighty = [name for name, child in module.named_children() if _has_tensors(child)]
    if _has_tensors(module, recurse=False) or not weighty:
        return ""
    forward = type(module).forward
    if forward is nn.Module.forward or _unwritten(type(module)):
        return weighty[0] if len(weighty) == 1 else ""
    mark, result = object(), object()
    calls: list[str] = []

    class Standin:
        def __getattr__(self, name: str) -> Any:
            child = module._modules.get(name)
            if child is None:
                return getattr(module, name)

            def called(*args: Any, **options: Any) -> Any:
                given = (*args, *options.values())
                if len(given) != 1 or given[0] is not mark:
                    raise TypeError
                calls.append(name)
                return result

            return called

    try:
        given = forward(Standin(), mark)
    except Exception:  # whatever other people's code makes of a mark
        return ""
    return calls[0] if given is result and len(calls) == 1 and calls[0] in weighty else ""


def _has_tensors(module: nn.Module, *, recurse: bool = True) -> bool:
    """Whether a module has parameters or buffers."""
    return any(True for of in (module.parameters, module.buffers) for _ in of(recurse))


def _unwritten(kind: type) -> bool:
    """Whether a Lightning module has no forward pass of its own, only that which says so."""
    first = next(k for k in kind.__mro__ if "forward" in vars(k))
    return first.__name__ == "LightningModule"


_EAGER_LOCK = threading.Lock()  # over the two below
_EAGER_RUNS = 0
_BEFORE: list[Any] = []


@contextmanager
def not_compiled() -> Iterator[None]:
    """Let what ``torch.compile`` compiled run as it was written, in all threads meanwhile.

    Before torch 2.6 there is no such switch; parts that are compiled then keep their hooks quiet,
    and layers in them are refused as not running.
    """
    global _EAGER_RUNS
    # without it nothing was ever compiled, and importing it takes seconds
    switch = getattr(torch.compiler, "set_stance", None) if "torch._dynamo" in sys.modules else None
    if switch is None:
        yield
        return
    with _EAGER_LOCK:
        _EAGER_RUNS += 1
        if _EAGER_RUNS == 1:
            _BEFORE.append(switch("force_eager"))
    try:
        yield
    finally:
        with _EAGER_LOCK:
            _EAGER_RUNS -= 1
            if _EAGER_RUNS == 0:
                _BEFORE.pop().__exit__(None, None, None)
