"""Networks that run again from a layer upwards, against whole forward passes."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional

from explgraph import ExplgraphError
from explgraph.explaining.intervene import run
from explgraph.explaining.rerun import Rerun
from explgraph.network.geometry import Layer


def layer(name, index, shape):
    return Layer(name, index, *shape, (2.0, 2.0), (0.5, 0.5), (5.0, 5.0))


class Block(nn.Module):
    """A residual block that changes things in place, and uses one activation function twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(6, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        kept = x
        x = self.relu(self.first(x))
        x = self.second(x)
        x += kept
        return self.relu(x)


class Residual(nn.Module):
    """A stem, three blocks, and a shortcut from the first block to the head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(Block(), Block(), Block())
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        x = functional.relu(self.stem(x))
        x = early = self.blocks[0](x)
        for block in self.blocks[1:]:
            x = block(x)
        return self.head(torch.cat([early.mean((2, 3)), x.mean((2, 3))], 1))


class Dense(nn.Module):
    """Everything below is read again: functions of modules' outputs, and one module three times."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.mix = nn.Conv2d(6, 6, 1)
        self.top = nn.Conv2d(24, 6, 1)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        seen = [self.stem(x).tanh() + 1]
        for _ in range(3):
            seen.append(self.mix(seen[-1]).relu())
        return self.head(self.top(torch.cat(seen, 1)).mean((2, 3)))


class Restless(Dense):
    """Gives something else each time."""

    runs = 0

    def forward(self, x):
        self.runs += 1
        return super().forward(x) + self.runs


class Fickle(Dense):
    """Takes another way with more than one image."""

    def forward(self, x):
        if len(x) > 1:
            self.head(self.mix(self.stem(x)).mean((2, 3)))
        return super().forward(x)


class Gated(Dense):
    """A low output is read by a comparison alone, which NaN passes unseen."""

    least = 0.0

    def forward(self, x):
        low = self.stem(x)
        x = self.top(torch.cat([self.mix(low)] * 4, 1))
        opens = self.opens(low.mean((1, 2, 3)), x.mean((1, 2, 3)))
        return self.head(torch.where(opens[:, None, None, None], x, 0.3 * x).mean((2, 3)))

    def opens(self, low, high):  # noqa: ARG002
        return low > self.least


class Shut(Gated):
    """The gate takes part only where a changed layer gives something else than it does."""

    def opens(self, low, high):
        return (low > self.least) & (high > 0)


class Cleaned(Gated):
    """NaN is taken for nothing."""

    def opens(self, low, high):  # noqa: ARG002
        return (low - self.least).clamp(min=0).nan_to_num() > 0


class Listed(nn.Module):
    """Gives a list, or an object."""

    def __init__(self, layer, kind):
        super().__init__()
        self.layer, self.kind = layer, kind

    def forward(self, x):
        return self.kind(self.layer(x))


class Appends(Dense):
    """Adds to a list that it was given from below."""

    def __init__(self, kind=lambda x: [x]):
        super().__init__()
        self.low = Listed(self.stem, kind)

    def forward(self, x):
        seen = self.low(x)
        seen.append(self.mix(seen[0]))
        seen.append(self.top(torch.cat([seen[-1]] * 4, 1)))
        return self.head(seen[-1].mean((2, 3)) + len(seen))


class Pile:
    def __init__(self, x):
        self.all = [x]

    def __getitem__(self, k):
        return self.all[k]

    def __len__(self):
        return len(self.all)

    def append(self, x):
        self.all.append(x)


def half(maps):
    return 0.5 * maps - 0.2


SHAPE = (6, 8, 8)
CASES = [
    (Residual, ["blocks.0", "blocks.1.second", "blocks.2"], ["blocks.0"]),
    (Residual, ["blocks.0", "blocks.1.second", "blocks.2"], ["blocks.1.second"]),
    (Residual, ["blocks.0", "blocks.1.second", "blocks.2"], ["blocks.2", "blocks.1.second"]),
    (Residual, ["blocks.1.relu@0", "blocks.1.relu@1"], ["blocks.1.relu@1"]),
    (Residual, ["blocks.1.relu@0", "blocks.1.relu@1"], ["blocks.1.relu@0"]),
    (Residual, ["blocks.1.first", "blocks.1"], ["blocks.1.first"]),
    (Dense, ["stem", "mix@1", "top"], ["mix@1"]),
    (Dense, ["mix@0", "mix@2", "top"], ["mix@2"]),
    (Dense, ["stem", "top"], ["top"]),
    (Fickle, ["mix@1", "top"], ["mix@1"]),
]


@pytest.mark.parametrize(("kind", "names", "changed"), CASES)
def test_it_is_as_if_the_whole_had_run(kind, names, changed):
    torch.manual_seed(0)
    model = kind().eval()
    layers = [layer(name, k, SHAPE) for k, name in enumerate(names)]
    again = Rerun(model, layers, changed)
    for n in (3, 2):
        batch = torch.rand(n, 3, 16, 16)
        plain = run(model, batch, layers)
        whole = again.whole(batch)
        assert list(whole.maps) == list(plain.maps)
        torch.testing.assert_close(whole.scores, plain.scores)
        for change in (half, torch.zeros_like, half):  # what is kept outlasts a run
            changes = dict.fromkeys(changed, change)
            expected = run(model, batch, layers, changes)
            found = again.changed(changes)
            torch.testing.assert_close(found.scores, expected.scores)
            assert not torch.equal(found.scores, plain.scores)
            for name, maps in found.maps.items():
                torch.testing.assert_close(maps, expected.maps[name])
    assert not any("forward" in vars(module) for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(("name", "run_again"), [("blocks.1.second", {5, 6}), ("blocks.2", set())])
def test_what_lies_below_does_not_run_again(name, run_again):
    torch.manual_seed(0)
    model = Residual().eval()
    layers = [layer(name, 0, SHAPE)]
    again = Rerun(model, layers, [name])
    again.whole(torch.rand(2, 3, 16, 16))
    count = Counter()
    convolutions = [model.stem, *(c for b in model.blocks for c in (b.first, b.second))]
    usual = nn.Conv2d.forward

    def counted(self, x):
        count[convolutions.index(self)] += 1
        return usual(self, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Conv2d, "forward", counted)
        again.changed({name: half})
    assert set(count) == run_again


def test_only_what_is_read_again_is_kept():
    torch.manual_seed(0)
    model = Residual().eval()
    again = Rerun(model, [layer("blocks.2.second", 0, SHAPE)], ["blocks.2.second"])
    again.whole(torch.rand(2, 3, 16, 16))
    steps = again._known["blocks.2.second"].steps
    assert {step.name for step in steps if step.matters} == {
        "blocks.0", "blocks.1", "blocks.2.second",
    }  # fmt: skip
    kept = [t for t in again._kept["blocks.2.second"] if isinstance(t, torch.Tensor)]
    assert sum(t.untyped_storage().nbytes() > 4 for t in kept) == 3


def test_a_network_that_gives_something_else_each_time_runs_whole():
    torch.manual_seed(0)
    model = Restless().eval()
    again = Rerun(model, [layer("top", 0, SHAPE)], ["top"])
    again.whole(torch.rand(2, 3, 16, 16))
    assert again._known == {"top": None}
    runs = model.runs
    again.changed({"top": half})
    assert model.runs == runs + 1


def test_failures_leave_the_model_as_it_was():
    model = Residual().eval()
    own = model.stem.forward = model.stem.forward  # as wrappers of modules do
    again = Rerun(model, [layer("blocks.2", 0, SHAPE)], ["blocks.2"])
    again.whole(torch.rand(2, 3, 16, 16))
    with pytest.raises(ExplgraphError, match="the model fails"):
        again.changed({"blocks.2": lambda maps: maps / 0 @ "no maps"})
    assert vars(model.stem)["forward"] is own
    others = (module for module in model.modules() if module is not model.stem)
    assert not any("forward" in vars(module) for module in others)


@pytest.mark.parametrize("kind", [Gated, Shut, Cleaned])
@pytest.mark.parametrize("first_opens", [False, True])
def test_what_the_first_image_does_not_show(kind, first_opens):
    torch.manual_seed(0)
    model = kind().eval()
    images = torch.rand(6, 3, 16, 16) * torch.linspace(0.1, 3, 6)[:, None, None, None]
    with torch.no_grad():
        low = model.stem(images).mean((1, 2, 3))
        model.top.bias -= 3  # without a change, Shut stays shut
    model.least = float(low.median())
    images = images[low.argsort(descending=first_opens)]
    layers = [layer("top", 0, SHAPE)]
    again = Rerun(model, layers, ["top"])
    for batch in (images, images.flip(0)):
        torch.testing.assert_close(again.whole(batch).scores, run(model, batch, layers).scores)
        for change in (half, torch.neg, lambda maps: maps + 5):
            expected = run(model, batch, layers, {"top": change}).scores
            torch.testing.assert_close(again.changed({"top": change}).scores, expected)


@pytest.mark.parametrize("kind", [lambda x: [x], Pile])
def test_containers_that_the_model_changes_start_afresh(kind):
    torch.manual_seed(0)
    model = Appends(kind).eval()
    layers = [layer("top", 0, SHAPE)]
    batch = torch.rand(3, 3, 16, 16)
    expected = run(model, batch, layers, {"top": half}).scores
    again = Rerun(model, layers, ["top"])
    again.whole(batch)
    for _ in range(3):
        torch.testing.assert_close(again.changed({"top": half}).scores, expected)
    assert (again._known["top"] is None) == (kind is Pile)
