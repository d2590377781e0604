"""Biases planted by hand, and mended; the formulas against independent ones; wrong inputs."""

import copy
import json

import blobs
import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.covariance import ledoit_wolf
from torch import nn

import explgraph
from explgraph import ExplgraphError, ExplgraphWarning, mend
from explgraph.answers.counter_groups import gain, split, wilson
from explgraph.answers.discriminant import (
    Linear,
    discriminant,
    fit_effects,
    projection,
    shrunk_covariance,
)
from explgraph.network.weights import load_weights


@pytest.fixture(scope="module")
def model():
    """Tells red by green as well: see `blobs.HEAD`."""
    return blobs.Net().eval()


@pytest.fixture(scope="module")
def biased():
    return blobs.world(600, seed=0, agreement=0.9, together=True)


@pytest.fixture(scope="module")
def fresh():
    """Images without the bias."""
    return blobs.world(400, seed=1, together=True)


@pytest.fixture(scope="module")
def graph(model, biased):
    return explgraph.mine(model, biased[0][:150], ["cells"], seed=0)


def node(graph, colour):
    """The best node of a colour's filter."""
    return graph.nodes_of("cells", blobs.NAMES.index(colour))[0]


def group_accuracy(model, fresh, target="red", cue="green"):
    images, labels, _ = fresh
    with torch.no_grad():
        said = model(images)[:, blobs.NAMES.index(target)].numpy() > 0
    right = said == labels[target]
    return [
        right[(labels[target] == of_class) & (labels[cue] == present)].mean()
        for of_class in (False, True)
        for present in (False, True)
    ]


# --------------------------------------------------------------------------------------- formulas


@pytest.mark.parametrize(("n", "d"), [(40, 60), (300, 5), (50, 1)])
def test_covariance_is_ledoit_and_wolf_s(n, d):
    rng = np.random.default_rng(n)
    noise = rng.standard_normal((n, d)) @ rng.standard_normal((d, d))
    known = ledoit_wolf(noise, assume_centered=True)[0]
    np.testing.assert_allclose(shrunk_covariance(noise), known, rtol=1e-9, atol=1e-12)


def drawn(n, seed, agreement):
    """Gaussian features with a known effect of class and cue, and a known covariance."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((4, 4))
    of_class, effect = np.array([2.0, 0, 1, 0]), np.array([1.0, 3, 0, 0])
    y = rng.random(n) < 0.5
    cue = np.where(rng.random(n) < agreement, y, ~y)
    noise = rng.standard_normal((n, 4)) @ mixing
    features = 5 + np.outer(y, of_class) + np.outer(cue, effect) + noise
    return features, y, cue, of_class, effect, mixing.T @ mixing


def test_discriminant_is_the_best_one_where_the_cue_says_nothing():
    features, y, cue, of_class, effect, covariance = drawn(20_000, 0, 0.95)
    best = discriminant(fit_effects(features, y.astype(int), cue, 2))
    row = best.weight[1] - best.weight[0]
    share = cue.mean()
    known = np.linalg.solve(covariance + share * (1 - share) * np.outer(effect, effect), of_class)
    assert row @ known / np.linalg.norm(row) / np.linalg.norm(known) > 0.995
    # least squares on images in which class and cue are independent is the same direction
    free, truth, *_ = drawn(20_000, 0, 0.5)
    plain = np.linalg.lstsq(np.column_stack([free, np.ones(len(free))]), truth, rcond=None)[0][:-1]
    assert row @ plain / np.linalg.norm(row) / np.linalg.norm(plain) > 0.99
    # and its threshold is right where the cue is independent
    said = free @ row + best.bias[1] - best.bias[0] > 0
    assert abs((said & ~truth).mean() - (~said & truth).mean()) < 0.02


def test_projection_leaves_nothing_of_the_cue_and_all_else():
    features, y, cue, *_ = drawn(500, 2, 0.9)
    effects = fit_effects(features, y.astype(int), cue, 2)
    plain = Linear(np.random.default_rng(0).standard_normal((3, 4)), np.arange(3.0))
    blind = projection(effects, plain)
    np.testing.assert_allclose(blind.weight @ (effects.scale * effects.effect), 0, atol=1e-12)
    np.testing.assert_allclose(blind(features.mean(0)), plain(features.mean(0)))
    # LEACE, theorem 4.3, written down as in the paper, on the residuals within classes
    white = np.linalg.inv(np.linalg.cholesky(effects.covariance))
    seen = white @ effects.effect
    onto = np.linalg.inv(white) @ np.outer(seen, seen) / (seen @ seen) @ white
    standard = (features - effects.centre) / effects.scale
    erased = (standard - standard @ onto.T) * effects.scale + effects.centre
    np.testing.assert_allclose(blind(features), plain(erased))


def test_a_cue_without_an_effect_changes_nothing():
    some = np.random.default_rng(0).standard_normal((40, 3))
    features = np.concatenate([some, some])  # each image with the cue and without
    effects = fit_effects(features, np.tile(np.arange(40) % 2, 2), np.arange(80) < 40, 2)
    np.testing.assert_allclose(effects.effect, 0, atol=1e-12)
    plain = Linear(np.ones((1, 3)), np.ones(1))
    exact = effects._replace(effect=np.zeros(3))
    np.testing.assert_array_equal(projection(exact, plain).weight, plain.weight)


@pytest.mark.parametrize(("right", "n"), [(0, 4), (3, 10), (200, 200)])
def test_intervals_are_wilson_s(right, n):
    known = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson(right, n) == pytest.approx((known.low, known.high), abs=1e-4)


def test_gain_is_the_mean_over_groups():
    groups = np.repeat(np.arange(4), (100, 4, 6, 90))
    before, after = np.ones(200, bool), np.ones(200, bool)
    before[groups == 1] = False
    assert gain(before, after, groups).change == 0.25
    low, high = gain(before, before, groups).interval
    assert low == pytest.approx(-high)
    assert 0.05 < high < 0.25  # six images that stay right are no proof
    drawn = split(groups, 0.5, np.random.default_rng(0))
    assert np.bincount(groups[drawn]).tolist() == [50, 2, 3, 45]


# ---------------------------------------------------------------------------------------- mending


@pytest.mark.parametrize("how", ["last", "projection"])
@pytest.mark.parametrize("present", ["effect", "presence", "labels"])
def test_the_planted_bias_is_mended(model, graph, biased, fresh, how, present):
    images, labels, _ = biased
    before = copy.deepcopy(model.state_dict())
    cue = labels["green"] if present == "labels" else present
    done = mend(model, graph, node(graph, "green"), images, labels["red"], 0, how=how, present=cue)
    assert min(group_accuracy(model, fresh)) < 0.8
    assert min(group_accuracy(done.model, fresh)) > 0.93
    assert done.changed
    assert done.gained
    # images whose cue is misread count for the other side
    least = blobs.HEAD[0, 1] - (0.4 if present == "labels" else 0.8)
    assert least < done.effect < blobs.HEAD[0, 1] + 0.4
    assert done.strength == pytest.approx(blobs.HEAD[0, 1] / blobs.HEAD[0, 0], abs=0.25)
    assert abs(done.effect_after) < 0.2 * abs(done.effect) + 0.2
    for name, value in model.state_dict().items():  # neither the model, nor other scores
        assert torch.equal(value, before[name])
        changed = done.model.state_dict()[name]
        assert (
            torch.equal(value[1:], changed[1:])
            if name.startswith("head")
            else torch.equal(value, changed)
        )


def test_what_was_kept_back_is_what_is_reported(model, graph, biased):
    images, labels, _ = biased
    done = mend(model, graph, [node(graph, "green")], images, labels["red"], 0, seed=0)
    rows = [int(name) for name in done.tested]
    assert len(rows) == pytest.approx(300, abs=2)
    with torch.no_grad():
        for net, right in ((model, done.right), (done.model, done.right_after)):
            said = net(images[rows])[:, 0].numpy() > 0
            np.testing.assert_array_equal(said == labels["red"][rows], right)
    everyone, *groups = done.accuracies
    assert everyone.images == len(rows) == sum(group.images for group in groups)
    assert everyone.after == pytest.approx(done.right_after.mean())
    assert done.worst.before == min(group.before for group in groups)
    assert done.gain.change == pytest.approx(
        np.mean([group.after - group.before for group in groups])
    )
    again = mend(model, graph, [node(graph, "green")], images, labels["red"], 0, seed=0)
    assert torch.equal(again.model.head.weight, done.model.head.weight)
    assert again.tested == done.tested


@pytest.mark.parametrize("how", ["last", "projection"])
def test_a_network_without_the_bias_is_left_as_it_is(model, graph, biased, fresh, how):
    images, labels, _ = biased
    with pytest.warns(ExplgraphWarning, match="Nothing was gained"):
        done = mend(
            model, graph, node(graph, "red"), images, labels["green"], 1,
            how=how, present=labels["red"],
        )  # fmt: skip
    assert not done.changed
    assert not done.gained
    assert "left as it is" in done.report()
    for name, value in model.state_dict().items():
        assert torch.equal(value, done.model.state_dict()[name])
    assert group_accuracy(done.model, fresh, "green", "red") == group_accuracy(
        model, fresh, "green", "red"
    )


@pytest.mark.parametrize("how", ["last", "projection"])
def test_classes_that_exclude_each_other(graph, model, biased, how):
    """Class 1 is green's, class 0 all else; red speaks against it, and shouldn't count."""
    images, labels, _ = biased
    net = nn.Sequential(copy.deepcopy(model), Pick()).eval()
    with torch.no_grad():
        net[0].head.weight.copy_(torch.tensor([[0.0, 0, 0], [-40.0, 64, 0], [0, 0, 0]]))
        net[0].head.bias.copy_(torch.tensor([0.0, 0.5, -9.0]))
    mined = explgraph.mine(net, images[:150], ["0.cells"], seed=0)
    red = "0." + node(graph, "red")
    classes = labels["green"].astype(int)
    given = {"how": how, "present": labels["red"], "outputs": lambda output: output["logits"]}
    if how == "last":
        with pytest.raises(ExplgraphError, match="labels holds 2 classes of the model's 3"):
            mend(net, mined, red, images, classes, 1, **given)
        given["outputs"] = lambda output: output["logits"][:, :2]
    done = mend(net, mined, red, images, classes, 1, **given)
    assert done.layer == "0.head"
    assert done.gained
    assert done.worst.before < 0.8
    assert done.worst.after > 0.9
    with torch.no_grad():
        said = done.model(images)["logits"].argmax(1).numpy()
    assert (said == classes).mean() > 0.97


class Pick(nn.Module):
    def forward(self, x):
        return {"logits": x}


# ------------------------------------------------------------------------------------ files, errors


def test_weights_and_reports_are_written(model, graph, biased, tmp_path):
    images, labels, _ = biased
    done = mend(model, graph, node(graph, "green"), images, labels["red"], 0)
    done.save(tmp_path / "mended.safetensors")
    other = blobs.Net().eval()
    load_weights(other, tmp_path / "mended.safetensors")
    with torch.no_grad():
        assert torch.equal(other(images), done.model(images))
    done.write(tmp_path / "mended.md")
    text = (tmp_path / "mended.md").read_text()
    assert "Gained: the mean over groups" in text
    assert text.count("\n| ") == 6
    done.write(tmp_path / "mended.json")
    content = json.loads((tmp_path / "mended.json").read_text())
    assert content["gained"] is True
    assert content["nodes"] == list(done.nodes)
    assert len(content["accuracies"]) == 5
    done.write(tmp_path / "mended.csv")
    assert (tmp_path / "mended.csv").read_text().startswith("group,images,before,")
    with pytest.raises(ExplgraphError, match=r"suffix '.pt'"):
        done.save(tmp_path / "mended.pt")


def test_wrong_inputs_are_refused(model, graph, biased):
    images, labels, _ = biased
    green, red = node(graph, "green"), labels["red"]

    def refused(match, *, parts=green, labels=red, target=0, **options):
        with pytest.raises(ExplgraphError, match=match):
            mend(model, graph, parts, images, labels, target, **options)

    refused("no node 'part 99'", parts="part 99")
    refused("parts is empty", parts=[])
    refused(r"labels must be \(600,\)", labels=red[:50])
    refused("labels must be", labels=red.astype(float))
    refused("each image is labelled True", labels=np.ones(600, bool))
    refused("no image is class 0", labels=np.repeat((1, 2), 300))
    refused("labels holds class 7", labels=np.repeat((0, 7), 300))
    refused("class 9, but the model gives", target=9)
    refused("how is 'both'", how="both")
    refused("present is 'colour'", present="colour")
    refused(r"present must be .* got float64", present=np.full(600, 0.3))
    refused("present holds 20 values", present=red[:20])
    refused("kept_back must lie between", kept_back=1.0)
    refused("0 images not of class 0 labelled as with are too few", present=red)
    refused("seed", seed=-1)


class Odd(nn.Module):
    """A network whose last layer is odd in one way."""

    def __init__(self, odd):
        super().__init__()
        self.cells = blobs.Net().cells
        self.odd = odd
        self.head = nn.Linear(3, 2, bias=odd != "no bias")
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[40.0, 60.0, 0.0], [0.0, 40.0, 1.0]]))
            if self.head.bias is not None:
                self.head.bias.copy_(torch.tensor([-2.5, -2.0]))
        if odd == "computed":
            nn.utils.parametrizations.weight_norm(self.head)

    def forward(self, x):
        maps = self.cells(x)
        if self.odd == "convolution":
            return torch.einsum("nchw,kc->nk", maps, self.head.weight)
        scores = self.head(maps.mean((2, 3)))
        return scores.softmax(1) if self.odd == "softmax" else scores


@pytest.mark.parametrize(
    ("odd", "match"),
    [
        ("convolution", "no last linear layer .* no nn.Linear runs in it"),
        ("softmax", r"no last linear layer .* 'head', which gives \(8, 2\).*outputs="),
        ("no bias", "'head' has no bias"),
        ("computed", "doesn't keep the weights that are put into it"),
    ],
)
def test_networks_without_a_plain_last_layer_are_told(biased, odd, match):
    images, labels, _ = biased
    net = Odd(odd).eval()
    mined = explgraph.mine(net, images[:150], ["cells"], seed=0)
    with pytest.raises(ExplgraphError, match=match):
        mend(net, mined, "cells/1/0", images, labels["red"], 0, present=labels["green"])
