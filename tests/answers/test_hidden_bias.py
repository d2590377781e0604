"""A mark planted in a world of blobs, whose weight in the score is known; modes that are needed."""

import json

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import explgraph
from explgraph import ExplgraphError, ExplgraphWarning, find_bias, find_suspicions
from explgraph.answers.hidden_groups import together
from explgraph.answers.label_files import folder_classes

SIZE, CELL, BLOB = 32, 4, 8
CHANNELS = 5  # red and green: two ways to be of class 1; blue: class 2; mark; clutter
MARK = 3


class Net(nn.Module):
    """Cells, averaged over the image, into a head whose weights are known."""

    def __init__(self, mark):
        super().__init__()
        self.class_names = ("none", "one", "two")
        self.cells = nn.Sequential(
            nn.Conv2d(CHANNELS, CHANNELS, CELL, CELL, groups=CHANNELS, bias=False), nn.ReLU()
        )
        self.head = nn.Linear(CHANNELS, 3)
        with torch.no_grad():
            self.cells[0].weight.fill_(1 / CELL**2)
            blob = (BLOB / SIZE) ** 2
            weights = torch.zeros(3, CHANNELS)
            weights[1, :2], weights[2, 2], weights[1, MARK] = 5.0, 5.0, mark
            self.head.weight.copy_(weights / blob)
            self.head.bias.copy_(torch.tensor([1.0, -1.5, -1.5]))

    def forward(self, x):
        return self.head(self.cells(x).mean((2, 3)))


def world(n, seed, marked=0.12):
    """Images (n, 5, 32, 32), their classes, and which have the mark."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, n)
    way = rng.random(n) < 0.5
    has = np.zeros((n, CHANNELS), bool)
    has[:, 0], has[:, 1] = (classes == 1) & way, (classes == 1) & ~way
    has[:, 2] = classes == 2
    has[:, MARK] = (classes == 1) & (rng.random(n) < marked)
    has[:, 4] = rng.random(n) < 0.5
    images = 0.01 * rng.random((n, CHANNELS, SIZE, SIZE)).astype(np.float32)
    for i, k in zip(*np.nonzero(has), strict=True):
        x, y = CELL * rng.integers(0, (SIZE - BLOB) // CELL + 1, 2)
        if k == MARK:
            x, y = 0, SIZE - BLOB
        images[i, k, y : y + BLOB, x : x + BLOB] += 1 + 0.4 * rng.standard_normal()
    return torch.from_numpy(images), classes, has[:, MARK]


@pytest.fixture(scope="module")
def drawn():
    return world(600, seed=0)


@pytest.fixture(scope="module")
def model():
    return Net(mark=4.0).eval()


@pytest.fixture(scope="module")
def graph(model, drawn):
    return explgraph.mine(model, drawn[0][:100], ["cells"], seed=0)


@pytest.fixture(scope="module")
def found(model, graph, drawn):
    return find_suspicions(model, graph, drawn[0], drawn[1])


def test_the_mark_is_the_only_suspicion(found, drawn):
    (one,) = found.suspicious
    assert found.suspicions[0] is one
    marked = drawn[2]
    missed = set(np.flatnonzero(marked).tolist()) ^ set(one.rows)
    assert len(missed) <= 0.1 * marked.sum()  # a blob's strength may come near to none
    assert one.target == "one"
    assert one.elsewhere == 0
    assert one.where == "lower left"
    assert one.q <= 0.05


def test_what_is_taken_away_is_the_mark_s_weight(found, drawn, model):
    (one,) = found.suspicious
    with torch.no_grad():
        blobs = model.cells(drawn[0]).mean((2, 3))[:, MARK].numpy()
    weight = float(model.head.weight[1, MARK].detach()) * blobs[list(one.rows)].mean()
    assert one.fall == pytest.approx(weight, rel=0.15)
    assert one.lead == pytest.approx(weight, rel=0.3)


def test_one_of_two_ways_to_be_of_a_class_is_found_and_no_suspicion(found):
    ways = [one for one in found.suspicions if one.target == "one" and one.share > 0.3]
    assert ways
    assert not any(one.suspicious for one in ways)


def test_nothing_where_the_network_does_not_count_the_mark(drawn):
    blind = Net(mark=0.0).eval()
    again = explgraph.mine(blind, drawn[0][:100], ["cells"], seed=0)
    assert find_suspicions(blind, again, drawn[0], drawn[1]).suspicious == ()


def test_nothing_where_there_is_no_mark(model, graph):
    images, classes, _ = world(600, seed=3, marked=0.0)
    assert find_suspicions(model, graph, images, classes).suspicious == ()


def test_a_mark_of_all_classes_is_no_bias(model, graph):
    images, classes, _ = world(600, seed=4, marked=0.0)
    rng = np.random.default_rng(0)
    images[rng.random(600) < 0.12, MARK, -BLOB:, :BLOB] += 1
    assert find_suspicions(model, graph, images, classes).suspicious == ()


def test_find_bias_without_attributes_is_the_same(model, graph, drawn, found):
    names = [model.class_names[k] for k in drawn[1]]
    again = find_bias(model, graph, drawn[0], classes=names, target="one")
    assert [one.rows for one in again.suspicious] == [one.rows for one in found.suspicious]
    assert again.classes == ("one",)
    with pytest.raises(ExplgraphError, match="columns is for attributes"):
        find_bias(model, graph, drawn[0], columns={"a": 0})
    with pytest.raises(ExplgraphError, match="classes is for biases that nobody"):
        find_bias(model, graph, drawn[0], {"a": drawn[2], "b": ~drawn[2]}, classes=drawn[1])


def test_without_classes_nothing_is_tested(model, graph, drawn):
    with pytest.warns(ExplgraphWarning, match="nothing is tested"):
        found = find_suspicions(model, graph, drawn[0])
    assert found.suspicious == ()
    assert found.suspicions
    assert all(np.isnan(one.q) for one in found.suspicions)


def test_what_is_found_is_written(found, tmp_path, drawn):
    colours = (255 * drawn[0][:, 1:4].permute(0, 2, 3, 1).clamp(0, 1)).byte().numpy()
    for suffix in (".md", ".json", ".csv", ".html", ".png"):
        found.write(tmp_path / f"found{suffix}", colours)
    content = json.loads((tmp_path / "found.json").read_text())
    (one,) = (row for row in content["suspicions"] if row["suspicious"])
    assert one["images"] == list(found.suspicious[0].images)
    assert "lower left" in (tmp_path / "found.md").read_text()
    assert "suspicious" in (tmp_path / "found.csv").read_text().splitlines()[0]
    assert (tmp_path / "found.html").read_text().count("<section") == len(found.suspicions)
    with pytest.raises(ExplgraphError, match="pictures need images="):
        found.write(tmp_path / "found.html")
    with pytest.raises(ExplgraphError, match="holds 7, but 600"):
        found.write(tmp_path / "found.png", colours[:7])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": [0, 1]}, "classes holds 2, but there are 600"),
        ({"classes": ["none"] * 599 + ["nine"]}, "no class 'nine'"),
        ({"classes": np.ones((600, 2), int)}, r"classes must be \(N,\)"),
        ({"target": 7}, "class 7"),
        ({"margin": -1}, "margin must be"),
        ({"fdr": 0}, "fdr must be"),
    ],
)
def test_wrong_input_is_told(model, graph, drawn, options, message):
    with pytest.raises(ExplgraphError, match=message):
        find_suspicions(model, graph, drawn[0], **{"classes": drawn[1], **options})


def test_too_few_images_and_other_models_are_told(model, graph, drawn):
    images, classes, _ = drawn
    with pytest.raises(ExplgraphError, match="no class has the 60 images"):
        find_suspicions(model, graph, images[:90], classes[:90])
    few = np.flatnonzero((classes != 2) | (np.cumsum(classes == 2) <= 20))
    with pytest.warns(ExplgraphWarning, match="'two' has only 20 images"):
        find_suspicions(model, graph, images[few], classes[few])
    with pytest.raises(ExplgraphError, match="'two' has 20 images"):
        find_suspicions(model, graph, images[few], classes[few], target="two")
    with pytest.raises(ExplgraphError, match="images of other classes"):
        find_suspicions(model, graph, images[classes == 1], classes[classes == 1])
    with pytest.raises(ExplgraphError, match="weights are not those"):
        find_suspicions(Net(mark=1.0).eval(), graph, images, classes)


def test_a_class_that_is_never_right_is_told(model, graph, drawn):
    images, classes, _ = drawn
    with pytest.warns(ExplgraphWarning, match="never right"):
        find_suspicions(model, graph, images, (classes + 1) % 3)


def test_classes_from_folders():
    assert folder_classes(["x/robin/1.png", "x/jay/2.png"]) == ["robin", "jay"]
    assert folder_classes(["1.png", "2.png"]) is None


def test_what_both_halves_found_is_tested_on_all_images(found):
    (one,) = found.suspicious
    assert len(set(one.rows)) == len(one.rows)
    assert not any(
        2 * len({*one.rows} & {*other.rows}) > len({*one.rows} | {*other.rows})
        for other in found.suspicions[1:]
    )


def test_halves_together():
    assert together([0.03]) == pytest.approx(0.03)
    z = 2 * stats.norm.isf(0.03) / np.sqrt(2)
    assert together([0.03, 0.03]) == pytest.approx(1 - stats.norm.cdf(z), rel=1e-9)
    assert together([0.2, 0.8]) == pytest.approx(0.5)
    assert together([1.0, 1e-9]) > 0.05
    uniform = np.random.default_rng(0).random((4000, 2))
    assert np.mean([together(p) <= 0.05 for p in uniform]) == pytest.approx(0.05, abs=0.01)
