"""What of a model's output are the scores of its classes.

A classifier gives ``(images, classes)``. Detectors, segmenters, models of several heads or with
outputs of a class of their own give something else; for these the user says it by a function of
what the model gives, `Outputs`: wherever an answer needs scores it takes one as ``outputs=``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from explgraph.errors import ExplgraphError, one_line

__all__ = ["Outputs", "Scorer"]

Outputs: TypeAlias = Callable[[Any], Tensor]
"""Takes what the model gives for n images, gives scores (n, classes) that depend on it."""

_DEEP = 4  # containers within containers
_TOLD = 4  # entries of a container that errors tell of
# what people call scores of classes, most surely first
_NAMES = ("logits", "scores", "out", "output", "pred", "pred_logits")


class Scorer:
    """Reads the scores of classes off a model's output.

    Parameters
    ----------
    outputs : callable, optional
        See `Outputs`. Without it, a tensor of (images, classes) is taken as it is; of tuples,
        lists, mappings and objects what they call "logits", or else the only tensor of
        (images, classes).

    Raises
    ------
    ExplgraphError
        If it can't be called.
    """

    def __init__(self, outputs: Outputs | None = None) -> None:
        if outputs is not None and not callable(outputs):
            hint = ""
            if isinstance(outputs, Mapping) or _listed(outputs):
                hint = "; which columns are meant is said by columns="
            raise ExplgraphError(
                "outputs must be a function that takes what the model gives and gives scores of "
                f"(images, classes), got {type(outputs).__name__}{hint}"
            )
        self._outputs = outputs
        self._classes: int | None = None

    def __call__(self, output: Any, n: int) -> Tensor:
        """Give the scores (n, classes) of n images.

        Raises
        ------
        ExplgraphError
            If there are none, or not the same number of classes as before.
        """
        scores = _found(output, n) if self._outputs is None else self._made(output, n)
        if not bool(scores.isfinite().all()):
            raise ExplgraphError(
                "the model gives scores that are NaN or infinite; check its weights and how the "
                "images are normalised"
                if self._outputs is None
                else f"outputs gives scores that are NaN or infinite, from {_told(output)}; give "
                "what isn't there a finite score (0, or a low one)"
            )
        if self._classes is None:
            self._classes = scores.shape[1]
        if scores.shape[1] != self._classes:
            raise ExplgraphError(
                f"{self._who} scores for {scores.shape[1]} classes, and for {self._classes} in the "
                "batch before; it must be the same classes for all images"
            )
        return scores

    @property
    def told(self) -> bool:
        """Whether the user says how scores are read."""
        return self._outputs is not None

    @property
    def _who(self) -> str:
        """What gives the scores."""
        return "the model gives" if self._outputs is None else "outputs gives"

    @property
    def cut_off(self) -> str:
        """Say why scores may not depend on a layer's maps, and what to do."""
        if self._outputs is None:
            return (
                "no gradient leads from the model's output back to its layers: a part of its "
                "forward pass runs under torch.no_grad, or detaches what it takes; take that out"
            )
        return (
            "no gradient leads from the scores that outputs gives back to the model's layers: it, "
            "or the model, detaches them (torch.no_grad, .detach(), .item(), .numpy(), argmax), or "
            "makes them anew; compute them from what the model gives by torch's functions"
        )

    def _made(self, output: Any, n: int) -> Tensor:
        """Let the user's function make the scores."""
        assert self._outputs is not None
        try:
            scores: Any = self._outputs(output)
        except torch.OutOfMemoryError:
            raise
        except Exception as err:
            raise ExplgraphError(
                f"outputs fails on what the model gives, {_told(output)} for {n} images: "
                f"{one_line(err)}"
            ) from err
        given = "" if isinstance(scores, Tensor) else type(scores).__name__
        if isinstance(scores, Tensor):
            if scores.ndim != 2 or len(scores) != n or not scores.shape[1]:
                given = str(tuple(scores.shape))
            elif not scores.is_floating_point():
                given = str(scores.dtype).removeprefix("torch.")
        if given:
            raise ExplgraphError(
                f"outputs gives {given} for {n} images, expected a float tensor of (images, "
                f"classes), ({n}, ...); the model gives {_told(output)}"
            )
        return scores  # type: ignore[no-any-return]


def _listed(value: object) -> bool:
    return isinstance(value, (list, tuple, set, range))


def _found(output: Any, n: int) -> Tensor:
    """Find the one score per class in a model's output."""
    entries = [(path, t) for path, t in _entries(output) if t.is_floating_point()]
    named = [t for path, t in entries if path in ('["logits"]', ".logits")]
    fit = [t for t in named or (t for _, t in entries) if t.ndim == 2 and t.shape[0] == n]
    if len(fit) == 1 and fit[0].shape[1]:
        return fit[0]
    line = _line(entries, n) if not _per_image(output, n) else ""
    say = (
        f"say how they follow from it: outputs={line}"
        if line
        else "say how they follow from it by outputs=, a function of what the model gives"
    )
    raise ExplgraphError(
        f"the model gives {_told(output)} for {n} images; expected one tensor of (images, classes),"
        f" the scores of classes; {say} (at the shell --outputs package.module:function)"
    )


def _line(entries: list[tuple[str, Tensor]], n: int) -> str:
    """Write the line that reads scores off the likeliest entry; nothing if none can be."""
    shaped = {1: "[:, None]", 2: "", 3: ".amax(1)", 4: ".mean((2, 3))"}
    usable = [
        (path, t) for path, t in entries if t.ndim in shaped and t.shape[0] == n and t.numel()
    ]

    def surely(entry: tuple[str, Tensor]) -> int:
        name = entry[0].rpartition(".")[2].strip('[]"')
        return _NAMES.index(name) if name in _NAMES else len(_NAMES)

    if not usable:
        return ""
    path, tensor = min(usable, key=surely)
    return f"lambda out: out{path}{shaped[tensor.ndim]}"


def _per_image(output: Any, n: int) -> bool:
    """Whether a model gives a list with something of its own for each image, as detectors do."""
    return _listed(output) and len(output) == n and not any(isinstance(v, Tensor) for v in output)


def _fields(output: Any) -> list[tuple[str, Any]] | None:
    """Give a container's entries, with how Python reaches each; None for what is none."""
    if isinstance(output, Mapping):
        return [
            (f'["{key}"]' if isinstance(key, str) else f"[{key!r}]", value)
            for key, value in output.items()
        ]
    if isinstance(output, (tuple, list)):
        names = getattr(output, "_fields", None)
        if names is not None:
            return [(f".{name}", value) for name, value in zip(names, output, strict=True)]
        return [(f"[{k}]", value) for k, value in enumerate(output)]
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return [(f".{f.name}", getattr(output, f.name, None)) for f in dataclasses.fields(output)]
    # other objects with fields; modules, functions and arrays have none that are meant
    own = getattr(output, "__dict__", None)
    if isinstance(own, dict) and not isinstance(output, torch.nn.Module) and not callable(output):
        return [(f".{k}", value) for k, value in own.items() if not k.startswith("_")]
    return None


def _entries(output: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Go through the tensors in an output, with how Python reaches each."""
    if isinstance(output, Tensor):
        yield path, output
    elif depth < _DEEP:
        for name, value in _fields(output) or ():
            yield from _entries(value, path + name, depth + 1)


def _told(output: Any, depth: int = 0) -> str:
    """Say what a model gave: types, keys and shapes."""
    if isinstance(output, Tensor):
        kind = "" if output.is_floating_point() else f"{str(output.dtype).removeprefix('torch.')} "
        return f"{kind}{tuple(output.shape)}"
    fields = _fields(output)
    if fields is None or depth == _DEEP:
        return type(output).__name__
    plain = type(output) in (list, tuple)
    shown = [
        _told(value, depth + 1)
        if plain
        else f"{name.strip('.[]').strip(chr(34))}: {_told(value, depth + 1)}"
        for name, value in fields[:_TOLD]
    ]
    more = f", and {len(fields) - _TOLD} more" if len(fields) > _TOLD else ""
    return f"{type(output).__name__} of ({'; '.join(shown)}{more})"
