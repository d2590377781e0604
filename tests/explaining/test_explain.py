"""One image explained: against sums in float64, true ablation, and what is known of creatures."""

import copy
import csv
import dataclasses
import json
import re
import warnings
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from small_network import graph_of, network, own_places, pictures
from torch import nn

import explgraph
from explgraph import ExplgraphError, ExplgraphWarning, ablate, creatures
from explgraph.explaining.account import NO_NODE, NO_PART, SHOWN
from explgraph.explaining.intervene import run
from explgraph.network.class_names import class_names


@pytest.fixture(scope="module")
def small():
    model = network(positive=False)
    return model, graph_of(model), pictures(6, seed=9)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A graph of creatures mined from a folder, and creatures that were not mined."""
    folder = tmp_path_factory.mktemp("mined")
    for i, colours in enumerate(creatures.draw(80, seed=1).images):
        Image.fromarray(colours).save(folder / f"{i:02}.png")
    images = explgraph.ImageFolder(folder, size=112, mean=creatures.MEAN, std=creatures.STD)
    model = creatures.network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)
        graph = explgraph.mine(model, images, ["stage4", "stage3"], seed=0)
    return model, graph, images, creatures.draw(12, seed=2)


def explained(graph, *arguments, **options):
    """Explain without minding doubts, which the small network deserves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)
        return graph.explain(*arguments, **options)


def split(graph, nodes, model, image):
    """Weights (V, H, W) of nodes in an image, in float64, and their filters."""
    (own,) = own_places(graph, model, image)
    number = torch.tensor([graph.nx.nodes[v]["filter"] for v in nodes])
    return torch.stack([own[v] for v in nodes]), number


@pytest.mark.parametrize("layer", ["upper", "lower"])
def test_contributions_are_those_of_a_fine_integral_in_float64(small, layer):
    model, graph, images = small
    image, target = images[2:3], 1
    found = explained(graph, model, image, target, layer=layer)
    maps = run(model, image, graph.layers).maps
    exact = network(positive=False).double()

    def score(values):
        if layer == "upper":
            return exact.head(values.relu().mean((2, 3)))[:, target]
        return exact.tail(values)[1][:, target]

    whole = maps[layer].detach().double()
    least, most = whole.clamp(max=0), whole.relu()
    steps = (torch.arange(800, dtype=torch.float64) + 0.5) / 800
    way = (least + steps[:, None, None, None] * most).requires_grad_()
    (slope,) = torch.autograd.grad(score(way).sum(), way)
    units = (slope.mean(0) * most[0]).detach()
    carried = (score(whole) - score(least)).item()
    assert units.sum().item() == pytest.approx(carried, rel=1e-3)  # the integral is fine enough

    nodes = graph.nodes_of(layer)
    weights, filters = split(graph, nodes, model, image)
    own = (units[filters] * weights).sum((1, 2)).numpy()
    part = np.array([graph.nx.nodes[node]["part"] for node in nodes])
    near = 2e-2 * units.abs().sum().item() if layer == "lower" else 1e-5
    for row in found.rows:
        assert row.contribution == pytest.approx(own[part == row.part].sum(), abs=near)
        assert row.share == pytest.approx(row.contribution / abs(found.carried))
        assert row.nodes == (part == row.part).sum()
    assert {row.part for row in found.rows} == set(part) - {""}
    assert found.here.no_part == pytest.approx(own[part == ""].sum(), abs=near)
    assert found.carried == pytest.approx(carried, abs=1e-5)
    share = (units.abs()[filters] * weights).sum((1, 2)).numpy()[part != ""].sum()
    assert found.explained == pytest.approx(share / units.abs().sum().item(), abs=0.02)


def test_all_layers_add_up(small):
    model, graph, images = small
    found = explained(graph, model, images[:1], 0)
    with torch.no_grad():
        assert found.score == pytest.approx(model(images[:1])[0, 0].item(), abs=1e-5)
    assert [account.layer for account in found.layers] == ["upper", "lower"]
    assert found.layer == "upper"
    for account in found.layers:
        total = account.parts + account.no_part + account.no_node + account.residual
        assert total == pytest.approx(account.carried, abs=1e-6)
        # where parts for and against cancel, the rest can't be met closely
        assert abs(account.residual) <= 0.1 * abs(account.carried)
        assert found.score - account.carried == pytest.approx(account.without, abs=1e-6)
        assert 0 <= account.explained <= 1
    assert sum(row["contribution"] for row in found.table()) == pytest.approx(found.carried)
    assert found.unexplained == found.here.no_part + found.here.no_node
    assert found.here.parts == pytest.approx(sum(row.contribution for row in found.rows))
    added = [row.contribution for row in found.rows]
    assert added == sorted(added, reverse=True)


@pytest.mark.parametrize("layer", ["upper", "lower"])
def test_removal_is_true_ablation(small, layer):
    model, graph, images = small
    told = [(image, explained(graph, model, image, 2, layer=layer)) for image in images]
    image, found = max(told, key=lambda one: len(one[1].removal.parts))
    removal = found.removal
    assert len(removal.parts) > 1
    order = [row.part for row in found.rows if row.contribution > 0][: len(removal.parts)]
    assert list(removal.parts) == order
    for k in range(1, len(order) + 1):
        gone = [v for part in order[:k] for v in graph.part(part).nodes
                if graph.nx.nodes[v]["layer"] == layer]  # fmt: skip
        after = ablate(model, graph, image[None], gone).after[0, 2]
        assert removal.score[k] == pytest.approx(after, abs=1e-5)
    first = np.cumsum([0, *(row.contribution for row in found.rows)])[: len(order) + 1]
    np.testing.assert_allclose(removal.expected, found.score - first, atol=1e-6)
    for curve in removal[1:]:
        assert curve[0] == found.score
    # another seed draws other parts and units, and nothing else
    other = explained(graph, model, image, 2, layer=layer, seed=1).removal
    np.testing.assert_array_equal(other.score, removal.score)
    assert (other.equal != removal.equal).any()


def test_where_it_is_linear_removal_is_as_expected():
    model = network(positive=True)
    graph = graph_of(model)
    found = explained(graph, model, pictures(1, seed=4), 0)
    if found.removal.parts:
        shift = np.abs(found.removal.score - found.removal.expected).max()
        assert shift <= 0.5 * abs(found.carried)  # but for what parts share
    # every part takes what is left of its own: all of them together, in any order
    alone = graph.restricted(graph.part("p1").nodes)
    only = explained(alone, model, pictures(1, seed=4), 0)
    if only.removal.parts:
        np.testing.assert_allclose(only.removal.score, only.removal.expected, atol=1e-5)
        np.testing.assert_allclose(only.removal.random, only.removal.score, atol=1e-6)


def test_what_decides_is_ranked_first(world):
    model, graph, _, drawn = world
    pictures = drawn.tensor()
    near = total = 0
    for i in np.flatnonzero(drawn.attributes["striped"] & drawn.visible["rump"])[:4].tolist():
        found = explained(graph, model, pictures[i], "striped")
        first = found.rows[0]
        near += np.hypot(*(np.array([first.x, first.y]) - drawn.parts["rump"][i])) < 0.15 * 112
        total += 1
        assert found.class_number == creatures.OUTPUTS.index("striped")
        assert found.removal.score[1] < found.removal.random[1]
    assert total >= 3
    assert near >= total - 1


def test_an_image_may_be_a_file_a_picture_a_tensor_or_a_name(world, tmp_path):
    model, graph, images, drawn = world
    picture = Image.fromarray(drawn.images[0])
    picture.save(tmp_path / "new.png")
    wanted = explained(graph, model, drawn.tensor()[0], 0)
    for image in (tmp_path / "new.png", str(tmp_path / "new.png"), picture, drawn.tensor()[:1]):
        found = explained(graph, model, image, 0)
        assert found.rows == wanted.rows
        np.testing.assert_array_equal(found.picture, drawn.images[0])
    assert explained(graph, model, tmp_path / "new.png", 0).image == "new.png"
    named = explained(graph, model, "07.png", 0, images=images)
    alone = explained(graph, model, images.subset([7]), 0)
    assert named.image == alone.image == "07.png"
    assert named.rows == alone.rows
    # the graph remembers its folder; patches elsewhere are of other images than this one
    assert named.elsewhere
    assert named.table()[0]["photo_x"] == pytest.approx(named.rows[0].x)
    with pytest.raises(ExplgraphError, match="holds 2 images; give one"):
        graph.explain(model, images.subset([0, 1]))
    with pytest.raises(ExplgraphError, match=r"no such file; did you mean '07\.png'"):
        graph.explain(model, "007.png", images=images)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ExplgraphError, match="can't be read"):
        graph.explain(model, tmp_path / "broken.png")


def test_a_tensor_whose_colours_are_unknown_is_stretched(small):
    model, graph, images = small
    found = explained(graph, model, images[0])
    assert found.picture.min() == 0
    assert found.picture.max() == 255
    with pytest.raises(ExplgraphError, match="mined from a tensor"):
        graph.explain(model, Image.new("RGB", (32, 32)))


def test_classes_by_name_and_number(world):
    model, graph, _, drawn = world
    image = drawn.tensor()[0]
    best = explained(graph, model, image)
    assert best.rank == 1
    assert best.class_title == creatures.OUTPUTS[best.class_number]
    for target in ("horns", 3, "3"):
        assert explained(graph, model, image, target).class_title == "horns"
    own = [f"output {k}" for k in range(13)]
    assert explained(graph, model, image, 4, classes=own).class_title == "output 4"
    for target, words in (
        ("horn", "no class 'horn'; did you mean 'horns'"),
        (13, "scores for 13 classes, 0 to 12"),
        (True, "class True"),
        (-1, "class -1"),
    ):
        with pytest.raises(ExplgraphError, match=words):
            graph.explain(model, image, target)
    with pytest.raises(ExplgraphError, match="holds 2 names"):
        graph.explain(model, image, classes=["a", "b"])
    for wrong in (5, "abc", [1] * 13, []):
        with pytest.raises(ExplgraphError, match=r"classes must be a list of 13 names, .* got"):
            graph.explain(model, image, classes=wrong)
    assert explained(graph, model, image, np.int64(3)).class_number == 3
    wrapped = explained(graph, nn.DataParallel(model).eval(), image, "horns")
    assert wrapped.class_number == 3
    with pytest.raises(ExplgraphError, match="one of stage4, stage3"):
        graph.explain(model, image, layer="stage1")


def test_models_say_their_classes_names():
    model = nn.Linear(1, 2)
    assert class_names(model, 2) == ()
    model.classes = ["a", "b"]
    assert class_names(model, 2) == ("a", "b")
    assert class_names(model, 3) == ()
    model.config = type("Config", (), {"id2label": {1: "dog", 0: "cat"}})()
    model.classes = None
    assert class_names(model, 2) == ("cat", "dog")
    model.config.id2label = {0: "cat", 1: None}
    assert class_names(model, 2) == ()


def test_a_model_that_fails_to_say_its_classes_names():
    class Lazy(nn.Linear):
        @property
        def classes(self):
            raise RuntimeError("not trained yet")

        @property
        def config(self):
            raise KeyError("config")

    model = Lazy(1, 2)
    assert class_names(model, 2) == ()
    model.class_names = ["a", "b"]
    assert class_names(model, 2) == ("a", "b")


class Headed(nn.Module):
    """The small network with another output."""

    def __init__(self, model, end):
        super().__init__()
        self.lower, self.upper, self.relu, self.head = (
            model.lower, model.upper, model.relu, model.head
        )  # fmt: skip
        self.end = end

    def forward(self, x):
        return self.end(self.head(self.upper(self.lower(x).relu()).relu().mean((2, 3))))


def test_outputs_of_other_kinds(small):
    model, graph, images = small
    one = Headed(model, lambda scores: scores[:, :1]).eval()
    found = explained(graph, one, images[0])
    assert (found.class_number, found.classes, found.class_title) == (0, 1, "class 0")
    assert found.rows == explained(graph, model, images[0], 0).rows
    with pytest.raises(ExplgraphError, match="one score, class 0"):
        graph.explain(one, images[0], 1)
    for end, words in (
        (lambda scores: scores[:, 0], "expected one tensor of"),
        (lambda scores: scores[..., None], "expected one tensor of"),
        (lambda scores: scores * float("nan"), "NaN or infinite"),
    ):
        with pytest.raises(ExplgraphError, match=words):
            graph.explain(Headed(model, end).eval(), images[0])
    with pytest.raises(ExplgraphError, match="training mode"):
        graph.explain(Headed(copy.deepcopy(model), nn.Identity()).train(), images[0])


def test_a_graph_that_explains_little_says_so(small):
    model, graph, images = small
    little = graph
    for part in [part.id for part in graph.parts][1:]:
        little = little.reject_part(part)
    told = []
    for image in images:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = little.explain(model, image)
        assert [str(w.message) for w in caught] == [f"0: {doubt}" for doubt in found.doubts]
        assert found.doubts or abs(found.here.parts) >= 0.25 * abs(found.carried)
        told += found.doubts
    assert any("explain little of this score" in doubt for doubt in told)
    with pytest.raises(ExplgraphError, match="the graph has no parts"):
        little.reject_part(little.parts[0].id).explain(model, images[0])


def test_a_score_that_nothing_changes_is_told(small):
    model, graph, images = small
    told = r"nothing in \w+ changes this score, 0: ask about a class that the image shows"
    with pytest.warns(ExplgraphWarning, match=told):
        found = graph.explain(model, images[0], 0, outputs=lambda scores: scores * 0)
    assert len(found.doubts) == 1


def test_files(world, tmp_path):
    model, graph, images, _ = world
    found = explained(graph, model, "03.png", images=images)
    for suffix in ("html", "svg", "png", "pdf", "json", "csv"):
        found.write(tmp_path / f"x.{suffix}")
    content = json.loads((tmp_path / "x.json").read_text())
    assert content["score"] == found.score
    assert sum(row["contribution"] for row in content["parts"]) == pytest.approx(found.carried)
    assert [row["title"] for row in content["parts"][-2:]] == [NO_PART, NO_NODE]
    assert content["removal"]["score"] == found.removal.score.tolist()
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["part"] for row in rows[:-2]] == [row.part for row in found.rows]
    assert list(found.to_frame()["title"]) == [row["title"] for row in rows]
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.width > 800
    page = (tmp_path / "x.html").read_text()
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert set(re.findall(r'(?:src|href)="([^"#]{5})', page)) == {"data:"}
    for mark in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{mark}"' in page
    assert "part" in found._repr_html_()
    assert "\n" not in repr(found)
    with pytest.raises(ExplgraphError, match=r"'\.txt'"):
        found.write(tmp_path / "x.txt")


def test_hostile_names_are_text(world, tmp_path):
    model, graph, images, drawn = world
    bad = '<script>alert(1)</script>"&$\\frac'
    graph = graph.name_part(graph.parts[0].id, bad)
    picture = Image.fromarray(drawn.images[3])
    picture.filename = bad.replace("/", "")
    names = [bad] * 13
    found = explained(graph, model, picture, 0, classes=names, images=images)
    for suffix in ("html", "svg", "json"):
        found.write(tmp_path / f"x.{suffix}")
    for text in ((tmp_path / "x.html").read_text(), found._repr_html_()):
        assert "<script" not in text
        assert "&lt;script&gt;" in text


def test_names_that_are_no_text_are_written_all_the_same(world, tmp_path):
    model, graph, images, drawn = world
    picture = Image.fromarray(drawn.images[3])
    picture.filename = "nam\udcff\x01\ufffe\u9ce5.png"  # how Python reads names that aren't UTF-8
    found = explained(graph, model, picture, 0, images=images)
    for suffix in ("png", "svg", "pdf", "html", "json", "csv"):
        found.write(tmp_path / f"x.{suffix}")  # and matplotlib's warnings would be errors
    ElementTree.parse(tmp_path / "x.svg")
    assert "image nam\ufffd\ufffd\ufffd\u9ce5.png: score" in (tmp_path / "x.svg").read_text()


def test_class_names_that_no_file_can_hold(world):
    model, graph, images, drawn = world
    names = ["a\ud800b", *"bcdefghijklm"]
    with pytest.raises(ExplgraphError, match="lone surrogate"):
        explained(graph, model, drawn.tensor()[0], 0, classes=names, images=images)
    own = nn.Linear(1, 13)
    own.classes = names
    assert class_names(own, 13)[0] == "a\\ud800b"


def test_the_figure_has_what_it_says(world):
    from explgraph.explaining.explanation_figure import explanation_figure

    model, graph, images, _ = world
    found = explained(graph, model, "03.png", images=images)
    figure = explanation_figure(found)
    axes = [ax.get_label() for ax in figure.axes]
    shown, others = found.shown()
    assert others == pytest.approx(
        sum(row.contribution for row in found.rows) - sum(row.contribution for row in shown)
    )
    assert [label for label in axes if label.startswith("here")] == [
        f"here {row.part}" for row in shown
    ]
    bars = next(ax for ax in figure.axes if ax.get_label() == "bars")
    wide = [patch.get_width() for patch in bars.patches]
    np.testing.assert_allclose(wide[: len(shown)], [abs(row.contribution) for row in shown])
    line = next(ax for ax in figure.axes if ax.get_label() == "removal").lines[3]
    np.testing.assert_array_equal(line.get_ydata(), found.removal.score)


def test_all_forms_have_the_same_rows(world, capsys):
    from matplotlib.text import Text

    from explgraph.cli.explaining import _print
    from explgraph.explaining.explanation_figure import explanation_figure
    from explgraph.explaining.explanation_page import page

    model, graph, images, _ = world
    found = explained(graph, model, "03.png", images=images)
    # more parts than there are rows, none of which is too small for one
    row = found.rows[0]
    rows = [
        row._replace(part=f"p{k}", title=f"thing {k:02}", contribution=2.0 - 0.05 * k)
        for k in range(SHOWN + 4)
    ]
    found = dataclasses.replace(found, rows=tuple(rows), elsewhere={})
    titles = [one.title for one in rows[:SHOWN]]
    _print(found)
    figure = explanation_figure(found)
    drawn = " ".join(text.get_text() for text in figure.findobj(Text))
    for text in (capsys.readouterr().out, page(found), found._repr_html_(), drawn):
        seen = sorted(set(re.findall(r"thing \d\d", text)))
        assert seen == titles
        assert "4 other parts" in text


def test_images_that_hold_no_exemplar_are_told(world, tmp_path):
    model, graph, _, drawn = world
    Image.fromarray(drawn.images[0]).save(tmp_path / "other.png")
    others = explgraph.ImageFolder(tmp_path, size=112, mean=creatures.MEAN, std=creatures.STD)
    with pytest.warns(ExplgraphWarning, match="holds none of those that parts were seen best in"):
        found = graph.explain(model, "other.png", images=others)
    assert not any(found.elsewhere.values())
