"""Figures of what nodes answer to, and the command that draws them."""

import numpy as np
import pytest
from PIL import Image

from explgraph import creatures, mine
from explgraph.cli.entry import main
from explgraph.errors import ExplgraphError
from explgraph.views.visualized import (
    answers_figure,
    as_colours,
    inversion_figure,
    revealed,
    sightings,
    tinted,
)
from explgraph.visualizing.invert import invert
from explgraph.visualizing.masks import masks
from explgraph.visualizing.maximise import Optimised

N = 24


@pytest.fixture(scope="module")
def drawn():
    return creatures.draw(N, seed=1)


@pytest.fixture(scope="module")
def model():
    return creatures.network()


@pytest.fixture(scope="module")
def graph(model, drawn):
    return mine(model, drawn.tensor(), ["stage3"], seed=0)


@pytest.fixture(scope="module")
def parse(model, graph, drawn):
    return graph.parse(model, drawn.tensor())


def width(file):
    with Image.open(file) as picture:
        return picture.width


def labels(figure):
    return [ax.get_label() for ax in figure.axes]


def test_a_node_is_drawn_with_what_there_is(model, graph, drawn, parse, tmp_path):
    node = max(graph.nx, key=lambda v: graph.nx.nodes[v]["reliability"])
    seen = sightings(graph, node, drawn.images, parse, 2)
    chosen = [one.image for one in seen]
    names = [parse.names[i] for i in chosen]
    heat = masks(model, graph, _named(drawn, names, chosen), parse, node)
    assert heat.names == tuple(names)
    optimised = Optimised(
        node, drawn.tensor()[0].numpy(), np.eye(112, dtype=np.float32), (5.0, 5.0), 1.0
    )
    figure = answers_figure(
        graph, node, drawn.images, parse,
        masks=heat, optimised=optimised, count=2, path=tmp_path / "node.png",
    )  # fmt: skip
    expected = [f"{kind} {name}" for name in names for kind in ("exemplar", "mask")]
    assert labels(figure) == [*expected, "optimised"]
    assert width(tmp_path / "node.png") > 400
    # exemplars are around the places, in the image's px
    x0, x1 = figure.axes[0].get_xlim()
    assert (x0 + x1) / 2 == pytest.approx(seen[0].x)
    # the heat that is drawn is the mask's
    drawn_heat = figure.axes[1].images[1].get_array()
    np.testing.assert_allclose(np.asarray(drawn_heat), heat.heat[0], atol=1e-6)
    alone = answers_figure(graph, node, drawn.images, parse, exemplars=False, optimised=optimised)
    assert labels(alone) == ["optimised"]
    with pytest.raises(ExplgraphError, match="nothing is to be drawn"):
        answers_figure(graph, node, drawn.images, parse, exemplars=False)
    with pytest.raises(ExplgraphError, match="masks are of"):
        answers_figure(graph, graph.parts[0].id, drawn.images, parse, masks=heat)


class _Named(list):
    """Images with names."""

    names: tuple[str, ...]


def _named(drawn, names, chosen):
    images = _Named(drawn.tensor()[chosen])
    images.names = tuple(names)
    return images


def test_an_inversion_is_drawn_below_its_original(model, graph, drawn):
    made = invert(model, graph, drawn.tensor()[:2], steps=1)
    figure = inversion_figure(graph, made, drawn.images[:2])
    assert labels(figure) == ["original 0", "original 1", "inverted 0", "inverted 1"]


def test_colours_are_those_that_were_normalised(graph, drawn):
    images = drawn.tensor()[:2].numpy()
    known = graph.restricted(graph.node_ids)
    known.nx.graph["preprocessing"] = {"mean": list(creatures.MEAN), "std": list(creatures.STD)}
    np.testing.assert_array_equal(as_colours(known, images), drawn.images[:2])
    unknown = as_colours(graph, images)  # mined from a tensor
    assert unknown.min(axis=(1, 2, 3)).tolist() == [0, 0]
    assert unknown.max(axis=(1, 2, 3)).tolist() == [255, 255]
    assert as_colours(graph, images[:, :1]).shape == (2, 112, 112, 3)


def test_what_doesnt_matter_fades(drawn):
    picture, inside = drawn.images[0], np.zeros((112, 112), bool)
    inside[40:60, 40:60] = True
    np.testing.assert_array_equal(tinted(picture, inside)[inside], picture[inside])
    assert tinted(picture, inside)[~inside].std() < 0.5 * picture[~inside].std()
    np.testing.assert_array_equal(revealed(picture, inside.astype(float))[inside], picture[inside])
    assert len(np.unique(revealed(picture, inside.astype(float))[~inside])) == 1


@pytest.fixture(scope="module")
def command(tmp_path_factory, graph, drawn):
    folder = tmp_path_factory.mktemp("visualize")
    (folder / "photos").mkdir()
    for i, pixels in enumerate(drawn.images[:8]):
        Image.fromarray(pixels).save(folder / "photos" / f"{i}.png")
    graph.save(folder / "graph.explgraph")
    return folder, [
        "visualize", str(folder / "graph.explgraph"), "--images", str(folder / "photos"),
        "--mean", "0.5", "--std", "0.25", "--model", "explgraph.creatures:network",
    ]  # fmt: skip


def test_the_command_writes_a_page_of_pictures(command, graph, capsys):
    folder, start = command
    node = max(graph.nx, key=lambda v: graph.nx.nodes[v]["support"])
    out = folder / "seen"
    steps = ["--steps", "2", "--count", "2"]
    assert main([*start, "--node", node, "--part", "p1", "--out", str(out), *steps]) == 0
    assert "3 pictures" in capsys.readouterr().out
    page = (out / "index.html").read_text(encoding="utf-8")
    for name in ("p1.png", node.replace("/", "-") + ".png", "inverted.png"):
        assert f'src="{name}"' in page
        assert width(out / name) > 200
    before = (out / "p1.png").read_bytes()
    assert main([*start, "--part", "p1", "--out", str(out), *steps, "--quiet"]) == 0
    assert (out / "p1.png").read_bytes() == before
    assert capsys.readouterr().out == ""


def test_a_graph_visualizes_itself(command, graph, drawn):
    folder, _ = command
    photos = [Image.open(folder / "photos" / f"{i}.png") for i in range(8)]
    model = creatures.network()
    ready = {"size": [112, 112], "mean": [0.5] * 3, "std": [0.25] * 3, "fit": "stretch"}
    known = graph.restricted(graph.nx)
    known.nx.graph["preprocessing"] = ready
    page = known.visualize(model, photos, folder / "itself", how=["exemplars", "mask"], count=2)
    assert page == folder / "itself" / "index.html"
    names = sorted(file.name for file in page.parent.iterdir())
    assert names == sorted(["index.html", *(f"{part.id}.png" for part in graph.parts[:3])])
    # a folder of the same pictures gives the same
    again = known.visualize(
        model, folder / "photos", folder / "again", "p1", how=["exemplars", "mask"], count=2
    )
    assert (again.parent / "p1.png").read_bytes() == (page.parent / "p1.png").read_bytes()
    for more, told in (
        ({"images": drawn.tensor()[:2]}, "images must be photographs, .* got Tensor"),
        ({"how": ["mask", "draw"]}, "how must be some of exemplars, mask, maximise, invert"),
        ({"how": "mask"}, "how must be some of"),
        ({"how": ["invert"], "what": "p1"}, "leave out which nodes and parts"),
        ({"what": "nose"}, "no part 'nose'"),
        ({"folder": ""}, "folder is ''"),
    ):
        asked = {"images": photos, "folder": folder / "none"} | more
        with pytest.raises(ExplgraphError, match=told):
            known.visualize(model, **asked)


def test_parts_of_one_name_have_their_own_pictures(command, graph):
    folder, start = command
    first, second = graph.parts[:2]
    named = graph.name_part(first.id, "leg").name_part(second.id, "leg")
    named.save(folder / "legs.explgraph")
    out = folder / "legs"
    ask = ["--part", first.id, "--part", second.id, "--how", "exemplars", "--out", str(out)]
    assert main([start[0], str(folder / "legs.explgraph"), *start[2:], *ask, "--quiet"]) == 0
    page = (out / "index.html").read_text(encoding="utf-8")
    for part in (first.id, second.id):
        assert f'<h2>leg ({part})</h2>\n<img src="{part}.png"' in page


def test_the_command_says_what_is_wrong(command, capsys):
    folder, start = command
    out = ["--out", str(folder / "none")]
    for more, told in (
        (["--part", "nose"], "no part 'nose'"),
        (["--node", "stage3/0"], "LAYER/FILTER/PATTERN"),
        (["--how", "invert", "--part", "p1"], "leave --part and --node out"),
        (["--size", "64"], "doesn't fit the graph"),
    ):
        assert main([*start, *out, *more]) == 1
        error = capsys.readouterr().err
        assert told in error
        assert "Traceback" not in error
    assert not (folder / "none").exists()
    with pytest.raises(SystemExit):
        main(["visualize", str(folder / "graph.explgraph"), *out])
    assert "--images" in capsys.readouterr().err
