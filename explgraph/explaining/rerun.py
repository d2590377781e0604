"""Running a network again from a layer upwards: what lies below gives what it gave before.

Whoever takes nodes away one by one runs the network many times over on the same images, and each
time nothing changes below the node's layer. So:

1. *Steps* (`_learn`), once for each layer, from one image: which modules have run when the layer
   has, and which of them lie in no other such module. Those are not run again; the modules that
   the layer itself lies in are.
2. What *matters* of their outputs (a layer's own, a shortcut's that is added later on) is found by
   trying: with NaN in an output's place, does all come out above as it did? Many at a time, in
   halves where it doesn't. Infinities, and a changed layer, must show the same: comparisons are
   blind to NaN. Outputs that don't matter are not kept.
3. `Rerun.whole` runs a batch, keeps what matters, and tries it on the whole batch: other images may
   read what the first one didn't. `Rerun.changed` runs the batch again, changed.

That a network gives the same again is tried in steps 2 and 3, not believed: one that doesn't, or
whose modules run in another order for another batch, runs whole, as slowly as ever. Between `whole`
and the last `changed` a caller holds `hooks.alone`: modules may keep things to themselves.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Number
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from explgraph.errors import ExplgraphError
from explgraph.explaining.intervene import Change, Run, mapped, run
from explgraph.network.geometry import Layer
from explgraph.network.hooks import alone, split_layer
from explgraph.network.outputs import Scorer
from explgraph.network.wrappers import bare, modules_by_name

__all__ = ["Rerun"]

Call = Callable[[], Any]
Around = Callable[[str, Call], Any]
"""Is called in a module's place with its name and what runs it; gives its output."""

_FILLERS = (torch.nan, torch.inf, -torch.inf)  # in the place of what doesn't matter
_CLOSE = 1e-4  # of the largest value: outputs alike; arithmetic on a GPU may not repeat exactly


class _Step(NamedTuple):
    """A module's call before the layer has run."""

    name: str
    enters: bool  # runs, for the layer lies in it
    matters: bool  # otherwise: whether what it gives is read again


class _Steps(NamedTuple):
    """All of them for one layer, the last being the layer's own; how often modules ran by then."""

    steps: tuple[_Step, ...]
    calls: Counter[str]


class _Elsewhere(BaseException):
    """Modules run in another order; no ``Exception``, lest a model's own handlers swallow it."""


class Rerun:
    """Runs batches whole, and again with some layers' maps changed.

    Parameters
    ----------
    model : torch.nn.Module
    layers : sequence of Layer
    starts : iterable of str
        Layers that will be the lowest to be changed.
    scorer : Scorer, optional
        See `intervene.run`.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Layer],
        starts: Iterable[str],
        scorer: Scorer | None = None,
    ) -> None:
        self._model = bare(model)
        self._layers = tuple(layers)
        self._scorer = scorer or Scorer()
        self._starts = tuple(dict.fromkeys(starts))
        self._known: dict[str, _Steps | None] | None = None
        self._batch = torch.empty(0)
        self._order: list[str] = []
        self._kept: dict[str, list[Any]] = {}

    def whole(self, batch: Tensor) -> Run:
        """Run a batch, unchanged, and keep what `changed` needs.

        Raises
        ------
        ExplgraphError
            As `intervene.run`.
        """
        if self._known is None:
            one = batch[:1]
            self._known = {
                name: _learn(self._model, self._layers, name, one, self._scorer)
                for name in self._starts
            }
        keepers = {name: _Keeper(steps) for name, steps in self._known.items() if steps is not None}

        def around(name: str, call: Call) -> Any:
            for keeper in keepers.values():
                call = keeper.follow(name, call)
            return call()

        with _around(self._model, around if keepers else None):
            done = run(self._model, batch, self._layers, scorer=self._scorer)
        self._batch, self._order = batch, list(done.maps)
        self._kept = {
            name: keeper.kept
            for name, keeper in keepers.items()
            if keeper.complete and self._repeats(name, keeper.kept, done)
        }
        return done

    def _repeats(self, start: str, kept: Sequence[Any], whole: Run) -> bool:
        """Whether a batch comes out again as it did, from what was kept of it."""
        steps = (self._known or {})[start]
        layers = self._from(start)
        try:
            done = (
                _again(self._model, self._batch, layers, steps, kept, {}, self._scorer)
                if steps
                else None
            )
        except (ExplgraphError, _Elsewhere):
            return False
        return done is not None and _same(done, whole)

    def _from(self, start: str) -> list[Layer]:
        """Give the layers from one upwards."""
        above = self._order[self._order.index(start) :]
        return [layer for layer in self._layers if layer.name in above]

    def changed(self, changes: Mapping[str, Change]) -> Run:
        """Run the same batch again with some layers' maps changed.

        Parameters
        ----------
        changes : mapping of str to callable
            By layer; see `intervene.Change`.

        Returns
        -------
        Run
            `maps` from the lowest changed layer upwards.

        Raises
        ------
        ExplgraphError
            As `intervene.run`.
        """
        start = min(changes, key=self._order.index)
        layers = self._from(start)
        steps = (self._known or {}).get(start)
        if steps is not None and start in self._kept:
            try:
                done = _again(
                    self._model, self._batch, layers, steps, self._kept[start], changes,
                    self._scorer,
                )  # fmt: skip
                if not any(bool(maps.isnan().any()) for maps in done.maps.values()):
                    return done
            except _Elsewhere:
                self._kept.pop(start)
            except ExplgraphError:
                pass  # the change may lead to what was not kept; the whole will tell
        return run(self._model, self._batch, layers, changes, scorer=self._scorer)


class _Keeper:
    """Goes along the steps of a layer while the whole model runs, and keeps what matters."""

    def __init__(self, steps: _Steps) -> None:
        self._steps = steps.steps
        self._at = 0
        self._inside = False  # a module that is not run again
        self._lost = False
        self.kept: list[Any] = []

    @property
    def complete(self) -> bool:
        """Whether the model took all the steps."""
        return self._at == len(self._steps) and not self._lost

    def follow(self, name: str, call: Call) -> Call:
        """Give what is to be run in the place of a call."""
        if self._inside or self._lost or self._at == len(self._steps):
            return call
        step = self._steps[self._at]
        if step.name != name:
            self._lost = True
            return call
        self._at += 1
        if step.enters:
            self.kept.append(None)
            return call

        def keeping() -> Any:
            self._inside = True
            output = call()
            self._inside = False
            self.kept.append(mapped(output, Tensor.clone if step.matters else _filled))
            return output

        return keeping


def _filled(tensor: Tensor, filler: float = torch.nan) -> Tensor:
    """Give one number in a tensor's shape, in no memory; what is no number stays."""
    if not tensor.is_floating_point():
        return tensor.clone()
    return tensor.new_full((), filler).expand(tensor.shape)


def _copied(output: Any) -> bool:
    """Whether `mapped` copies all of an output that a model might change in place."""
    if isinstance(output, Mapping):
        return all(_copied(value) for value in output.values())
    if isinstance(output, (tuple, list)):
        return all(_copied(value) for value in output)
    return output is None or isinstance(output, (Tensor, Number, str, bytes))


@contextmanager
def _around(model: nn.Module, around: Around | None) -> Iterator[None]:
    """Let a function stand around all modules' ``forward``, for this thread alone."""
    mine = threading.get_ident()

    def stands(name: str, forward: Callable[..., Any], around: Around) -> Callable[..., Any]:
        def inside(*args: Any, **options: Any) -> Any:
            if threading.get_ident() != mine:
                return forward(*args, **options)
            return around(name, lambda: forward(*args, **options))

        return inside

    if around is None:
        yield
        return
    with alone(model):
        before: list[tuple[dict[str, Any], Any]] = []
        try:
            for name, module in modules_by_name(model).items():
                if name:
                    own = vars(module)
                    before.append((own, own.get("forward")))
                    own["forward"] = stands(name, module.forward, around)
            yield
        finally:
            for own, forward in before:
                if forward is None:
                    own.pop("forward", None)
                else:
                    own["forward"] = forward


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _again(
    model: nn.Module,
    batch: Tensor,
    layers: Sequence[Layer],
    steps: _Steps,
    kept: Sequence[Any],
    changes: Mapping[str, Change],
    scorer: Scorer,
) -> Run:
    """Run a model with what was kept in the place of the modules that gave it."""
    at = 0

    def around(name: str, call: Call) -> Any:
        nonlocal at
        if at == len(steps.steps):
            return call()
        step, given = steps.steps[at], kept[at]
        if step.name != name:
            raise _Elsewhere
        at += 1
        # a copy, of lists that don't matter as well: what comes next may change it in place
        return call() if step.enters else mapped(given, Tensor.clone if step.matters else _itself)

    left_out = steps.calls - Counter(step.name for step in steps.steps)
    with _around(model, around):
        done = run(model, batch, layers, changes, scorer=scorer, left_out=left_out)
    if at < len(steps.steps):
        raise _Elsewhere
    return done


def _learn(
    model: nn.Module, layers: Sequence[Layer], start: str, image: Tensor, scorer: Scorer
) -> _Steps | None:
    """Find a layer's steps, and which outputs matter; None if the model has to be run whole."""
    switch = hasattr(torch.compiler, "set_stance")  # see `wrappers.not_compiled`
    if not switch and any(hasattr(module, "_orig_mod") for module in model.modules()):
        return None  # torch.compile would compile it anew each time
    target, number = split_layer(model, start)
    calls: Counter[str] = Counter()
    running: list[tuple[int, str]] = []
    ended: list[tuple[int, str, Any]] = []
    found: list[tuple[int, _Step, Any]] = []
    until: Counter[str] = Counter()

    def around(name: str, call: Call) -> Any:
        began = calls.total()
        this_call = calls[name]
        calls[name] += 1
        running.append((began, name))
        output = call()
        running.pop()
        if not found:
            ended[:] = [one for one in ended if one[0] < began]
            ended.append((began, name, mapped(output, Tensor.clone)))
            if (name, this_call) == (target, number or 0):
                found.extend((t, _Step(n, False, True), given) for t, n, given in ended)
                found.extend((t, _Step(n, True, False), None) for t, n in running)
                until.update(calls)
        return output

    try:
        with _around(model, around):
            whole = run(model, image, layers, scorer=scorer)
    except ExplgraphError:
        return None  # of one image alone; the batch will tell
    found.sort(key=lambda one: one[0])
    steps = [step for _, step, _ in found]
    kept = [given for *_, given in found]
    names = list(whole.maps)
    above = [layer for layer in layers if names.index(layer.name) >= names.index(start)]

    if not steps or not all(_copied(value) for value in kept):
        return None
    # a comparison in which NaN changes nothing may be one that infinity changes, or that takes
    # part only where the layer gives something else than it does
    tests: list[tuple[float, dict[str, Change], Run]] = [(f, {}, whole) for f in _FILLERS]
    opposite: dict[str, Change] = {start: torch.neg}
    try:
        changed = run(model, image, layers, opposite, scorer=scorer)
        if _same(changed, changed):  # not where there is NaN
            tests += [(filler, opposite, changed) for filler in _FILLERS]
    except ExplgraphError:
        pass  # the model can't take it

    def works(tests: Sequence[tuple[float, dict[str, Change], Run]]) -> bool:
        for filler, changes, expected in tests:
            given = [
                value
                if step.enters or step.matters
                else mapped(value, partial(_filled, filler=filler))
                for step, value in zip(steps, kept, strict=True)
            ]
            try:
                done = _again(
                    model, image, above, _Steps(tuple(steps), until), given, changes, scorer
                )
            except (ExplgraphError, _Elsewhere):
                return False
            if not _same(done, expected):
                return False
        return True

    def drop(some: Sequence[int], tests: Sequence[tuple[float, dict[str, Change], Run]]) -> None:
        """Keep no more of some outputs than matters."""
        if not some:
            return
        for k in some:
            steps[k] = steps[k]._replace(matters=False)
        if works(tests):
            return
        for k in some:
            steps[k] = steps[k]._replace(matters=True)
        if len(some) > 1:
            drop(some[: len(some) // 2], tests)
            drop(some[len(some) // 2 :], tests)

    if not works(tests[:1]):
        return None
    skipped = [k for k, step in enumerate(steps[:-1]) if not step.enters]
    drop(skipped, tests[:1])  # one test is enough for most models, and all take longer
    if not works(tests):
        for k in skipped:
            steps[k] = steps[k]._replace(matters=True)
        if not works(tests):
            return None
        drop(skipped, tests)
    return _Steps(tuple(steps), until)


def _same(done: Run, expected: Run) -> bool:
    """Whether a run's maps and scores are those of another, to rounding."""
    pairs = [(maps, expected.maps[name]) for name, maps in done.maps.items()]
    return all(_alike(a, b) for a, b in [*pairs, (done.scores, expected.scores)])


def _alike(values: Tensor, expected: Tensor) -> bool:
    """Whether values are as expected, to rounding; NaN never is."""
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return bool(((values - expected).abs() <= _CLOSE * scale).all())
