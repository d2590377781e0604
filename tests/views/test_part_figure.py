"""The figure of parts, looked at: numbers where the parts are, circles of their radius, patches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from PIL import Image
from random_graphs import random_graph
from test_pictures import parse_of

from explgraph.errors import ExplgraphError
from explgraph.parsed import parts_in
from explgraph.views.figure_style import PALETTE
from explgraph.views.part_figure import _layers, part_figure
from explgraph.views.pictures import Pictures, part_side, part_sightings
from explgraph.views.spread import spread

SIZE = (60, 80)


@pytest.fixture
def graph():
    """Two parts of four nodes each, and one of one."""
    graph = random_graph(3, layers=("upper", "lower"), nodes=5, image_size=SIZE)
    held = {"p1": graph.node_ids[:4], "p2": graph.node_ids[4:8], "p11": graph.node_ids[8:9]}
    for part, nodes in held.items():
        for node in nodes:
            graph.nx.nodes[node].update(part=part, part_weight=1.0, sigma=2.0, reliability=0.5)
    for node in graph.node_ids[9:]:
        graph.nx.nodes[node].update(part="", part_weight=0.0)
    graph.nx.graph["parts"] = [
        {
            "id": part, "name": "", "reliability": 0.9, "support": 0.25, "offset": -6.0,
            "slope": 12.0, "together": {}, "rejected": [], "decided": False,
        }
        for part in held
    ]  # fmt: skip
    graph.validate()
    return graph


@pytest.fixture
def parse(graph):
    """Of four images: the parts' nodes are 2 px around a place, and there or not."""
    parse = parse_of(graph)
    parse.scores[:] = 1
    around = np.array([[2, 0], [-2, 0], [0, 2], [0, -2]], np.float32)
    parse.expected[:, :8] = np.concatenate([around, around])
    parse.expected[:, 8:] = 0
    at = np.array([[20, 20], [60, 40], [40, 52]], np.float32)
    for k, nodes in enumerate((slice(0, 4), slice(4, 8), slice(8, 9))):
        parse.positions[:, nodes] = at[k] + parse.expected[:, nodes]
        parse.positions[:, nodes] += np.arange(4, dtype=np.float32)[:, None, None]
    parse.scores[2, :4] = 0
    return parse


def grey(n=4):
    return np.full((n, *SIZE, 3), 128, np.uint8)


def axes_of(figure, label):
    return [ax for ax in figure.axes if ax.get_label() == label]


def pixel(figure, ax, x, y):
    """The colour that a figure has at a point of an axes: drawn, not asked."""
    agg = FigureCanvasAgg(figure)
    agg.draw()
    column, row = ax.transData.transform((x, y))
    canvas = np.asarray(agg.buffer_rgba())
    return canvas[canvas.shape[0] - 1 - int(row), int(column), :3] / 255


def test_parts_are_marked_where_they_are(graph, parse):
    found = parts_in(graph, parse)
    figure = part_figure(graph, parse, grey(), shown=[1, "2"])
    assert [ax.get_label() for ax in figure.axes if ax.get_label().startswith("image")] == [
        "image 1",
        "image 2",
    ]
    (first,), (second,) = axes_of(figure, "image 1"), axes_of(figure, "image 2")
    assert sorted(text.get_text() for text in first.texts) == ["1", "11", "2"]
    assert sorted(text.get_text() for text in second.texts) == ["11", "2"]  # 1 isn't there
    where = {text.get_text(): text.get_position() for text in first.texts}
    for part, number in (("p1", "1"), ("p2", "2"), ("p11", "11")):
        k = found.parts.index(part)
        np.testing.assert_allclose(where[number], found.positions[1, k], atol=0.2)
        colour = to_rgb(PALETTE[(int(number) - 1) % len(PALETTE)])
        x, y = where[number]
        shown = pixel(figure, first, x + 0.72, y + 0.72)
        np.testing.assert_allclose(shown, colour, atol=0.05)
    circles = {tuple(c.center): c.radius for c in first.patches}
    for k in range(3):
        x, y = found.positions[1, k].tolist()
        assert circles[x, y] == pytest.approx(found.radius[1, k])


def test_what_is_hardly_there_is_faint(graph, parse):
    parse.scores[1, :4] = 0.42  # a presence of 1 / (1 + exp(6 - 12 * 0.42)) = 0.28
    figure = part_figure(graph, parse, grey(), shown=[0, 1], parts=["p1", "p2"])
    faint = {}
    for image in "01":
        (ax,) = axes_of(figure, f"image {image}")
        middle = min(ax.patches, key=lambda c: np.hypot(*np.subtract(c.center, (20, 20))))
        faint[image] = middle.get_alpha()
    assert faint["1"] < 0.6 * faint["0"]


def test_tiles_show_the_best_patches(graph, parse):
    images = grey()
    found = parts_in(graph, parse)
    for n, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]):
        x, y = found.positions[n, 1].astype(int)
        images[n, y - 2 : y + 3, x - 2 : x + 3] = colour
    for n, much in enumerate((0.9, 1.0, 0.1, 0.8)):  # the third doesn't show it
        parse.scores[n, 4:8] = much
    figure = part_figure(graph, parse, images, parts=["p2"])
    tiles = axes_of(figure, "part p2")
    middles = [np.asarray(ax.get_images()[0].get_array())[48, 48].tolist() for ax in tiles]
    assert middles == [[0, 255, 0], [255, 0, 0], [255, 255, 0]]
    (head,) = axes_of(figure, "title p2")
    told = [text.get_text() for text in head.texts]
    assert told == ["2", "part 2", "lower, upper", "4 nodes, in 25%"]


def test_long_names_of_layers_are_cut(graph):
    part = graph.part("p1")
    for layers, told in (
        (("a", "b"), "a, b"),
        (("_blocks.10._bn0", "_blocks.15._bn0", "_bn1"), "_blocks.10._bn0 to _bn1"),
        (("a" * 40,), "a" * 14 + "..." + "a" * 13),
        (("a" * 40, "b" * 40), "a" * 5 + "..." + "a" * 4 + " to " + "b" * 5 + "..." + "b" * 4),
    ):
        text = _layers(replace(part, layers=layers), 30)
        assert len(text) <= 30
        assert text == told


def test_names_are_shown(graph, parse):
    graph = graph.name_part("p1", "a $5 beak").name_part("p2", "wing")
    figure = part_figure(graph, parse, grey(), shown=[0], parts=["wing", "p1"])
    (ax,) = axes_of(figure, "image 0")
    assert [t.get_text() for t in ax.texts if not t.get_text().isdigit()] == [
        "wing",
        r"a \$5 beak",
    ]
    assert axes_of(figure, "title p1")[0].texts[1].get_text() == r"a \$5 beak"


def test_a_part_has_one_colour_in_all_figures(graph, parse):
    def colour(**options):
        (ax,) = axes_of(part_figure(graph, parse, grey(), **options), "title p2")
        return ax.collections[0].get_facecolor().tolist()

    assert colour() == colour(parts=["p2"]) == colour(parts=["p11", "p2"], shown=[3])


def test_images_that_show_much_are_chosen(graph, parse):
    parse.scores[[0, 3]] = 0
    figure = part_figure(graph, parse, grey(), count=2)
    labels = [ax.get_label() for ax in figure.axes if ax.get_label().startswith("image")]
    assert labels == ["image 1", "image 2"]  # the better one of each half
    assert len(part_figure(graph, parse, grey(), count=9).axes) == len(figure.axes) + 2


def test_numbers_keep_apart():
    rng = np.random.default_rng(0)
    for n, wide in ((1, 0), (2, 0), (8, 0.01), (12, 20)):
        at = 50 + wide * rng.standard_normal((n, 2))
        moved = spread(at, 6.0, (100, 100))
        away = np.linalg.norm(moved[:, None] - moved, axis=2) + 10 * np.eye(n)
        assert away.min() > 5.5
        assert np.linalg.norm(moved - at, axis=1).max() < 6 * n
        assert (moved >= 3).all()
        assert (moved <= 97).all()
    alone = np.array([[10.0, 10], [90, 90]])
    np.testing.assert_allclose(spread(alone, 6.0, (100, 100)), alone, atol=0.2)
    np.testing.assert_allclose(spread(alone - 30, 6.0, (100, 100))[0], [3, 3], atol=0.2)


def test_files_are_written(graph, parse, tmp_path):
    figure = part_figure(graph, parse, grey(), path=tmp_path / "parts.png")
    with Image.open(tmp_path / "parts.png") as image:
        assert image.size == tuple((figure.get_size_inches() * 120).astype(int))
    part_figure(graph, parse, grey(), path=tmp_path / "parts.svg")


def test_exemplars_are_the_sightings_without_a_parse(graph, parse):
    part = graph.part("p1")
    exemplars = (("2", 5.0, 6.0, 0.9), ("elsewhere", 1.0, 1.0, 0.8), ("0", 7.0, 8.0, 0.7))
    part = replace(part, exemplars=exemplars)
    pictures = Pictures(grey(), SIZE)
    assert part_sightings(part, pictures, None, 4) == [(2, 5.0, 6.0, 0.9), (0, 7.0, 8.0, 0.7)]
    seen = part_sightings(part, pictures, parts_in(graph, parse), 2)
    assert [sighting.image for sighting in seen] == [0, 1]
    assert part_side(SIZE) == pytest.approx(24)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": ["p9"]}, r"the graph has no part 'p9'"),
        ({"parts": "p1"}, r"parts is 'p1'; expected a list"),
        ({"parts": []}, r"parts is \[\]; expected a list"),
        ({"shown": "0"}, r"shown is '0'; expected a list of images"),
        ({"shown": [7]}, "there is no image 7; expected 0 to 3"),
        ({"shown": ["z"]}, "there is no image 'z'"),
        ({"count": 0}, "count is 0; expected at least one image"),
    ],
)
def test_what_is_asked_for_is_checked(graph, parse, options, message):
    with pytest.raises(ExplgraphError, match=message):
        part_figure(graph, parse, grey(), **options)


def test_graphs_and_images_that_don_t_fit(graph, parse):
    with pytest.raises(ExplgraphError, match="parse is not of image '4'"):
        part_figure(graph, parse, grey(5), shown=["4"])
    other = replace(parse, names=("a", "b", "c", "d"))
    with pytest.raises(ExplgraphError, match="parse is of none of these images"):
        part_figure(graph, other, Pictures(grey(), SIZE, ("e", "f", "g", "h")))
    bare = graph.reject_part("p1").reject_part("p2").reject_part("p11")
    with pytest.raises(ExplgraphError, match="the graph has no parts"):
        part_figure(bare, parse, grey())
