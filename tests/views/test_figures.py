"""Figures, looked at: where their markers are and which pixels are highlighted."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from random_graphs import random_graph
from test_pictures import parse_of

from explgraph.errors import ExplgraphError
from explgraph.views import figures

SIZE = (60, 80)


@pytest.fixture
def graph():
    return random_graph(3, layers=("upper", "lower"), nodes=4, image_size=SIZE)


def black(n=4):
    return np.zeros((n, *SIZE, 3), np.uint8)


def pixel(figure, ax, x, y):
    """The colour that a figure has at a point of an axes: drawn, not asked."""
    agg = FigureCanvasAgg(figure)
    agg.draw()
    column, row = ax.transData.transform((x, y))
    canvas = np.asarray(agg.buffer_rgba())
    return canvas[canvas.shape[0] - 1 - int(row), int(column), :3] / 255


def image_of(ax, which=0):
    return np.asarray(ax.get_images()[which].get_array())


# --- patches -------------------------------------------------------------------------------------


def test_patches_show_what_is_at_the_places(graph):
    node = graph.node_ids[0]
    images = black()
    seen = [["2", 30.0, 20.0, 4.0], ["0", 60.0, 40.0, 2.0], ["3", 4.0, 30.0, 1.0]]
    graph.top_images[node] = seen
    for (name, x, y, _), colour in zip(seen, [(255, 0, 0), (0, 255, 0), (0, 0, 255)], strict=True):
        images[int(name), int(y) - 3 : int(y) + 3, int(x) - 3 : int(x) + 3] = colour
    figure = figures.patches(graph, node, images, side=20)
    mean, *others = figure.axes
    assert [ax.get_title() for ax in others] == ["2\n4.00", "0\n2.00", "3\n1.00"]
    for k, ax in enumerate(others):
        shown = image_of(ax)
        size = len(shown)
        wanted = np.zeros(3)
        wanted[k] = 255
        np.testing.assert_array_equal(shown[size // 2, size // 2], wanted)
        assert (shown[size // 8, size // 2] == 0).all()  # beyond the square
        lit = (shown[..., k] > 128).mean()
        assert lit == pytest.approx((6 / 20) ** 2, rel=0.15)
    # the third reaches 6 px beyond the image's left border
    size = len(image_of(others[2]))
    assert (image_of(others[2])[:, : int(size * 0.28)] == 128).all()
    assert (image_of(others[2])[0, int(size * 0.32) :] == 0).all()
    np.testing.assert_array_equal(image_of(mean)[size // 2, size // 2], [85, 85, 85])
    np.testing.assert_array_equal(
        image_of(figures.mean_patch(graph, node, images, side=20).axes[0]), image_of(mean)
    )


def test_patches_of_parsed_images_come_from_the_parse(graph):
    parse = parse_of(graph)
    node = graph.node_ids[5]
    parse.scores[:, 5] = [1, 4, 2, 3]
    images = black()
    for n in range(4):
        images[n] = 50 * (n + 1)
    figure = figures.patches(graph, node, images, parse=parse, count=3, side=10)
    middles = [image_of(ax)[32, 32, 0] for ax in figure.axes]
    assert middles[1:] == [100, 200, 150]
    assert len(figure.axes) == 4


def test_a_node_that_none_of_the_images_shows(graph):
    node = graph.node_ids[1]
    graph.top_images[node] = [["elsewhere.png", 1.0, 1.0, 1.0]]
    with pytest.raises(ExplgraphError, match=f"{node!r} was seen in none of these images"):
        figures.patches(graph, node, black())
    with pytest.raises(ExplgraphError, match="no node 'nowhere'"):
        figures.patches(graph, "nowhere", black())


# --- places --------------------------------------------------------------------------------------


def test_markers_sit_where_the_nodes_are(graph):
    parse = parse_of(graph)
    nodes = [graph.nodes_of("upper")[0], graph.nodes_of("lower")[2]]
    columns = [parse.nodes.index(node) for node in nodes]
    parse.positions[1, columns] = [[20, 30], [60, 12]]
    figure = figures.places(graph, parse, black(), "1", nodes=nodes)
    (ax,) = figure.axes
    np.testing.assert_allclose(pixel(figure, ax, 20, 30), to_rgb("#E69F00"), atol=0.01)
    np.testing.assert_allclose(pixel(figure, ax, 60, 12), to_rgb("#56B4E9"), atol=0.01)
    np.testing.assert_allclose(pixel(figure, ax, 40, 45), 0, atol=0.01)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["upper", "lower"]
    at = np.concatenate([c.get_offsets() for c in ax.collections])
    np.testing.assert_allclose(at, [[20, 30], [60, 12]])


def test_the_surest_nodes_are_drawn_unless_told_which(graph):
    parse = parse_of(graph)
    figure = figures.places(graph, parse, black(), 2, most=3)
    reliability = np.array([a["reliability"] for a in graph.nx.nodes.values()])
    sure = reliability * parse.scores[2] / parse.scores.max(0)
    wanted = parse.positions[2, np.argsort(-sure)[:3]]
    at = np.concatenate([c.get_offsets() for c in figure.axes[0].collections])
    assert {tuple(p) for p in at.tolist()} == {tuple(p) for p in wanted.tolist()}


def test_labels_are_text_even_if_they_look_like_formulas(graph, tmp_path):
    parse = parse_of(graph)
    node = graph.node_ids[0]
    for label in ("$\\frac{beak$", "a $5 or $6 bird", "<b>\n\nx</b>", "{" * 50):
        graph.nx.nodes[node]["label"] = label
        figure = figures.places(graph, parse, black(), 0, nodes=[node], path=tmp_path / "x.png")
        (text,) = figure.axes[0].texts
        assert "\\$" in text.get_text() or "$" not in label


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_texts_that_files_cant_hold_are_replaced(graph, tmp_path, suffix):
    parse = parse_of(graph)
    node = graph.node_ids[0]
    graph.nx.nodes[node]["label"] = "a\x01b\udcffc\u9ce5"
    figures.places(graph, parse, black(), 0, nodes=[node], path=tmp_path / f"x.{suffix}")
    if suffix == "svg":
        told = "".join(ElementTree.parse(tmp_path / "x.svg").getroot().itertext())
        assert "a\ufffdb\ufffdc\u9ce5" in told


# --- heat ----------------------------------------------------------------------------------------


def test_heat_is_where_the_nodes_are(graph):
    parse = parse_of(graph)
    figure = figures.layer_heatmap(graph, parse, black(), 1)
    assert [ax.get_title() for ax in figure.axes[1:]] == ["upper: 4 nodes", "lower: 4 nodes"]
    for ax, layer in zip(figure.axes[1:], ("upper", "lower"), strict=True):
        heat = np.zeros(SIZE)
        for v in graph.nodes_of(layer):
            a, k = graph.nx.nodes[v], parse.nodes.index(v)
            x, y = parse.positions[1, k].astype(float)
            weight = a["reliability"] * parse.scores[1, k] / parse.scores[:, k].max()
            for row in range(SIZE[0]):
                for column in range(SIZE[1]):
                    square = (column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2
                    heat[row, column] += (
                        weight * np.exp(-square / 2 / a["sigma"] ** 2) / (a["sigma"] ** 2)
                    )
        np.testing.assert_allclose(image_of(ax, 1), heat / heat.max(), atol=1e-6)


def test_one_node_is_one_hot_spot(graph):
    parse = parse_of(graph)
    node = graph.nodes_of("lower")[1]
    k = parse.nodes.index(node)
    parse.scores[0] = 0
    parse.scores[0, k] = 1
    parse.positions[0, k] = [33.5, 21.5]
    graph.nx.nodes[node]["sigma"] = 3.0
    figure = figures.layer_heatmap(graph, parse, black(), 0)
    heat = image_of(figure.axes[2], 1)
    assert np.unravel_index(heat.argmax(), heat.shape) == (21, 33)
    assert image_of(figure.axes[1], 1).max() == 0  # nothing of the other layer is there
    bright, dark = (pixel(figure, figure.axes[2], *at) for at in ((33.5, 21.5), (70, 50)))
    assert bright.sum() > 2 > 0.1 > dark.sum()


# --- files ---------------------------------------------------------------------------------------


def test_evidence_is_red_where_it_speaks_for(graph):
    places = np.array([[[20.5, 20.5], [60.5, 40.5], [70.5, 10.5]]] * 2)
    values = np.array([[4.0, -2.0, 0.0], [0.0, 0.0, 1.0]])
    figure = figures.evidence(graph, black(2), places, values, titles=["a", "b"], spread=3.0)
    first, second, bar = figure.axes
    assert (first.get_title(), second.get_title()) == ("a", "b")
    heat = image_of(first, 1)
    for row, column in ((20, 20), (40, 60), (21, 24), (5, 5)):
        away = [np.square(place - [column + 0.5, row + 0.5]).sum() for place in places[0]]
        expected = np.dot(values[0], np.exp(-np.array(away) / 18)) / 4
        assert heat[row, column] == pytest.approx(expected, abs=1e-6)
    assert image_of(second, 1).max() == pytest.approx(0.25)  # the same scale for all images
    red, blue, nothing = (pixel(figure, first, x, y) for x, y in ((20, 20), (60, 40), (5, 55)))
    assert red[0] > red[2] + 0.3
    assert blue[2] > blue[0] + 0.1
    assert np.ptp(nothing) < 0.02
    assert [t.get_text() for t in bar.get_yticklabels()] == ["against", "nothing", "for"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"places": np.zeros((2, 2, 2))}, r"places are \(2, 2, 2\) and values \(2, 3\)"),
        ({"values": np.full((2, 3), np.nan)}, "must be finite"),
        ({"images": black(3)}, "values are of 2 images; images are 3"),
        ({"titles": ["a"]}, "images are 2, titles 1"),
    ],
)
def test_evidence_that_does_not_fit(graph, change, message):
    given = {"images": black(2), "places": np.zeros((2, 3, 2)), "values": np.ones((2, 3))} | change
    with pytest.raises(ExplgraphError, match=message):
        figures.evidence(graph, **given)


def test_figures_are_written_whole(graph, tmp_path):
    parse = parse_of(graph)
    for suffix in (".png", ".svg", ".pdf"):
        path = tmp_path / "new" / f"x{suffix}"
        figure = figures.places(graph, parse, black(), 0, path=path)
        assert isinstance(figure, Figure)
        assert path.stat().st_size > 1000
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["x.pdf", "x.png", "x.svg"]
    with Image.open(tmp_path / "new" / "x.png") as image:
        assert image.size == tuple((figure.get_size_inches() * 120).astype(int))
    with pytest.raises(ExplgraphError, match=r"suffix '.docx'; expected one of .*\.png"):
        figures.places(graph, parse, black(), 0, path=tmp_path / "x.docx")
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_images_that_were_not_parsed_are_refused(graph):
    parse = parse_of(graph, names=("a", "b", "c", "d"))
    with pytest.raises(ExplgraphError, match="no image 'z'"):
        figures.places(graph, parse, black(), "z")
    with pytest.raises(ExplgraphError, match="parse is not of image '4'"):
        figures.places(graph, parse, black(5), "4")
