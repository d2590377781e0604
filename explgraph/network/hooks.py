"""Run a model and catch what named modules give.

1. Forward hooks are put on the modules and removed again whatever happens.
2. The forward pass ends as soon as every layer has been caught, so that heads need not run.

Threads may share a model: forward passes of one model with hooks are run one at a time, and a hook
acts in the thread only that put it on, so that other calls of the model, the user's own among them,
run as if there was none.

A layer is addressed by its module's name in ``model.named_modules()``, or as ``"name@k"``, the
k-th call (from 0) of a module that runs more than once in a forward pass.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils import checkpoint
from torch.utils.hooks import RemovableHandle

from explgraph.errors import ExplgraphError, nearest, one_line
from explgraph.fed_images import FedImages, inputs_of
from explgraph.network.wrappers import bare, modules_by_name, not_compiled, plain_name

__all__ = [
    "alone",
    "called",
    "catch",
    "check_model",
    "hooked",
    "layer_name",
    "model_device",
    "model_dtype",
    "split_layer",
    "standing_in",
    "told_failure",
    "undisturbed",
]

T = TypeVar("T")

Hook = Callable[[nn.Module, Any, Any], Any]

_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_GUARD = threading.Lock()  # over the locks, and over torch's numbering of hooks


class _AllCaught(BaseException):
    """Ends a forward pass early; no ``Exception``, lest a model's own handlers swallow it."""


def split_layer(
    model: nn.Module, layer: str, modules: Mapping[str, nn.Module] | None = None
) -> tuple[str, int | None]:
    """Split ``"name@k"`` into the module's name and the call; the call is None without ``@``.

    Whoever splits many gives the model's `modules_by_name`.

    Raises
    ------
    ExplgraphError
        If the model has no such module (the nearest names are offered) or the call is no number.
    """
    modules = modules_by_name(model) if modules is None else modules
    if layer not in modules:
        layer = plain_name(model, layer)  # as a model that is wrapped names it
    for wrapper in _WRAPPERS:  # as it was named when it was still wrapped
        if layer not in modules and layer.startswith(wrapper):
            layer = layer.removeprefix(wrapper)
    if layer and layer in modules:
        return layer, None
    name, at, call = layer.rpartition("@")
    if at and name and name in modules:
        if not call.isdecimal():
            raise ExplgraphError(
                f"layer {layer!r}: after '@' the number of the call is expected, counted from 0, "
                f"as in '{name}@0'"
            )
        return name, int(call)
    wanted = name if at else layer
    # the end of a long path is what tells names apart, so compare that too
    ends = [m for m in modules if m.endswith("." + wanted.rpartition(".")[2])]
    hint = nearest(wanted, filter(None, modules)) or nearest(wanted, ends)
    raise ExplgraphError(
        f"the model has no layer {wanted!r}{hint or '; see model.named_modules() for the names'}"
    )


def layer_name(model: nn.Module, layer: str) -> str:
    """Give a layer's name as the model inside its wrappers has it."""
    name, call = split_layer(model, layer)
    return name if call is None else f"{name}@{call}"


def called(model: nn.Module, batch: Tensor) -> Any:
    """Run the model inside its wrappers on a batch, with what it takes beside images."""
    images, further = inputs_of(batch)
    return bare(model)(images, **further)


@contextmanager
def standing_in(model: nn.Module, image: Tensor | None) -> Iterator[None]:
    """Let images that explgraph makes have the further inputs of another, in this thread."""
    if not isinstance(image, FedImages):
        yield
        return
    mine = threading.get_ident()

    def hook(_module: nn.Module, args: Any, options: Any) -> Any:
        if threading.get_ident() != mine:
            return None
        copies = image.expand(len(args[0]), -1, -1, -1)
        _, further = inputs_of(copies.to(args[0]))
        return args, {**further, **options}

    with alone(model):
        handle = bare(model).register_forward_pre_hook(hook, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()


def told_failure(err: Exception) -> str:
    """Say why a forward pass failed, and what to do where the model wants more than images."""
    hint = ""
    if isinstance(err, TypeError) and "missing" in str(err) and "argument" in str(err):
        hint = (
            "; what a model takes beside images is given with them: "
            "explgraph.WithInputs(images, NAME=VALUES)"
        )
    return one_line(err) + hint


def check_model(model: nn.Module) -> None:
    """Refuse what is no module, and a model in training mode.

    Raises
    ------
    ExplgraphError
        In training mode, batch normalisation and dropout make an image's activations depend on
        chance and on the other images, and recording would change the model's statistics.
    """
    if not isinstance(model, nn.Module):
        raise ExplgraphError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    for name, module in modules_by_name(model).items():
        if module.training:
            where = f"its module {name!r}" if name else "the model"
            own = type(module).train is not nn.Module.train
            raise ExplgraphError(
                f"the model must be in evaluation mode, but {where} is in training mode; "
                "call model.eval() first"
                + f" (if {type(module).__name__}.train keeps it from that, set .training = False)"
                * own
            )


# how the names of modules begin in a model that is wrapped to run in parallel, or compiled
_WRAPPERS = ("module.", "_orig_mod.")


@contextmanager
def alone(model: nn.Module) -> Iterator[None]:
    """Keep other threads that use explgraph away from a model."""
    with _GUARD:
        lock = _LOCKS.setdefault(bare(model), threading.RLock())
    with lock:
        yield


@contextmanager
def hooked(model: nn.Module, hooks: Mapping[str, Hook]) -> Iterator[None]:
    """Put forward hooks on modules, by name, for this thread alone; remove them again."""
    mine = threading.get_ident()
    modules = modules_by_name(model)
    handles: list[RemovableHandle] = []

    def here_only(hook: Hook) -> Hook:
        def inside(module: nn.Module, inputs: Any, output: Any) -> Any:
            return hook(module, inputs, output) if threading.get_ident() == mine else None

        return inside

    with alone(model), not_compiled(), _without_checkpoints():
        try:
            with _GUARD:
                handles.extend(
                    modules[name].register_forward_hook(here_only(hook))
                    for name, hook in hooks.items()
                )
            yield
        finally:
            with _GUARD:
                for handle in handles:
                    handle.remove()


# how torch starts a checkpoint that is reentrant, and one that isn't
_FUNCTION, _GENERATOR = "CheckpointFunction", "_checkpoint_without_reentrant_generator"
_PLAIN_THREADS: Counter[int] = Counter()


@contextmanager
def _without_checkpoints() -> Iterator[None]:
    """Let ``torch.utils.checkpoint`` keep what it would compute again, in this thread.

    Again means after the hooks are gone, or outside the positive stand-in: something else then.
    """
    thread = threading.get_ident()
    with _GUARD:
        _PLAIN_THREADS[thread] += 1
        if not isinstance(getattr(checkpoint, _FUNCTION), _Plain):
            plain = _Plain(getattr(checkpoint, _FUNCTION), getattr(checkpoint, _GENERATOR))
            setattr(checkpoint, _FUNCTION, plain)
            setattr(checkpoint, _GENERATOR, plain.generator)
    try:
        yield
    finally:
        with _GUARD:
            _PLAIN_THREADS[thread] -= 1
            if not _PLAIN_THREADS[thread]:
                del _PLAIN_THREADS[thread]
            plain = getattr(checkpoint, _FUNCTION)
            if not _PLAIN_THREADS and isinstance(plain, _Plain):
                setattr(checkpoint, _FUNCTION, plain.reentrant)
                setattr(checkpoint, _GENERATOR, plain.other)


class _Plain:
    """Stands in for torch's two kinds of checkpoints, in threads that want none."""

    def __init__(self, reentrant: Any, other: Any) -> None:
        self.reentrant, self.other = reentrant, other

    def apply(self, function: Callable[..., Any], preserve: bool, *inputs: Any) -> Any:
        if threading.get_ident() in _PLAIN_THREADS:
            return function(*inputs)
        return self.reentrant.apply(function, preserve, *inputs)

    def generator(self, *args: Any, **options: Any) -> Any:
        if threading.get_ident() in _PLAIN_THREADS:
            return iter((None,))
        return self.other(*args, **options)


def catch(
    model: nn.Module,
    batch: Tensor,
    layers: Sequence[str],
    keep: Callable[[str, Any], T],
    *,
    whole: bool = False,
    absent_ok: bool = False,
) -> tuple[dict[str, T], dict[str, int]]:
    """Run the model on a batch and keep something of each layer's output.

    Parameters
    ----------
    model : torch.nn.Module
    batch : (N, C, H, W) float
    layers : sequence of str
        Module names, or ``"name@k"``; a plain name is the module's first call.
    keep : callable
        ``keep(layer, output)`` is called as soon as the module is done (later modules may change
        the output in place); what it returns is kept.
    whole : bool
        Run the whole forward pass, to count the calls; otherwise it ends with the last layer.
    absent_ok : bool
        Leave out layers that don't run, if any does.

    Returns
    -------
    kept : dict
        ``{layer: keep(layer, output)}`` in the order of execution.
    calls : dict
        How often each layer's module ran (at least, unless `whole`).

    Raises
    ------
    ExplgraphError
        If the forward pass fails or ends before every layer has run.
    """
    wanted: dict[str, dict[int, str]] = {}
    modules = modules_by_name(model)
    split = {layer: split_layer(model, layer, modules) for layer in layers}
    for layer in layers:
        name, call = split[layer]
        first = wanted.setdefault(name, {}).setdefault(call or 0, layer)
        if layers.count(layer) > 1 or first != layer:
            raise ExplgraphError(f"layers names {first!r} twice; name each layer once")
    calls = dict.fromkeys(wanted, 0)
    kept: dict[str, T] = {}

    def hook_for(name: str) -> Hook:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            layer = wanted[name].get(calls[name])
            calls[name] += 1
            if layer is not None:
                kept[layer] = keep(layer, output)
                if len(kept) == len(layers) and not whole:
                    raise _AllCaught(kept)

        return hook

    failure: Exception | None = None
    try:
        with hooked(model, {name: hook_for(name) for name in wanted}):
            called(model, batch)
    except _AllCaught as done:
        if done.args[0] is not kept:  # a model that catches layers of one inside it (`Around`)
            raise
    except ExplgraphError:
        raise
    except Exception as err:
        failure = err  # a head that doesn't fit the image's size is no concern of ours
    missing = [layer for layer in layers if layer not in kept and not (absent_ok and kept)]
    if missing and failure is not None:
        raise ExplgraphError(
            f"the model fails on images of size {tuple(batch.shape[1:])} before layer "
            f"{missing[0]!r} has run: {told_failure(failure)}"
        ) from failure
    if missing:
        name, call = split[missing[0]]
        times = calls[name]
        raise ExplgraphError(
            f"layer {missing[0]!r}: its module runs {times} times in a forward pass, so the last "
            f"call is '{name}@{times - 1}'"
            if times and call
            else f"layer {missing[0]!r} doesn't run in the model's forward pass (its hooks are "
            "never called); choose another, see explgraph.list_layers"
        )
    return kept, {layer: calls[split[layer][0]] for layer in layers}


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Record gradients inside; put torch's random numbers and the model's buffers back after.

    One thread does the work: there are many small operations, which several threads slow down
    badly where other processes keep the cores busy.
    """
    threads = torch.get_num_threads()
    device = model_device(model)
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        try:
            torch.set_num_threads(1)
            yield
        finally:
            torch.set_num_threads(threads)
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


def model_device(model: nn.Module) -> torch.device:
    """Give the device of the model's first parameter or buffer; the CPU if it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def model_dtype(model: nn.Module) -> torch.dtype:
    """Give the floating type of the model's first parameter; float32 if it has none."""
    for tensor in model.parameters():
        if tensor.is_floating_point():
            return tensor.dtype
    return torch.float32
