"""Sources of pictures, and patches cut out of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from random_graphs import random_graph

from explgraph import ImageFolder
from explgraph.errors import ExplgraphError
from explgraph.parsed import Parse
from explgraph.views.pictures import (
    Pictures,
    best_sightings,
    columns_of,
    mean_patch,
    patch,
    patch_side,
)


def noise(n=3, height=20, width=30, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def test_every_source_gives_the_same_colours(tmp_path):
    colours = noise()
    for k, image in enumerate(colours):
        Image.fromarray(image).save(tmp_path / f"{k}.png")
    sources = [
        colours,
        torch.from_numpy(colours),
        [Image.fromarray(image) for image in colours],
        list(colours),
        ImageFolder(tmp_path, size=(20, 30)),
    ]
    for source in sources:
        pictures = Pictures(source, (20, 30))
        assert len(pictures) == 3
        for k in range(3):
            np.testing.assert_array_equal(pictures[k], colours[k])
    assert Pictures(sources[-1], (20, 30)).names == ("0.png", "1.png", "2.png")
    assert Pictures(noise(11), (20, 30)).names[:2] == ("00", "01")
    assert Pictures(colours, (20, 30), ("a", "b", "c")).index("b") == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (torch.zeros(2, 3, 20, 30), r"images is float32 of the shape \(2, 3, 20, 30\).*uint8"),
        (7, "images is int; expected an explgraph.ImageFolder"),
        ("birds/", "images is str; expected"),
        ([], "images is empty"),
    ],
)
def test_what_can_not_be_drawn_is_refused(source, message):
    with pytest.raises(ExplgraphError, match=message):
        Pictures(source, (20, 30))


def test_another_size_and_an_unknown_image_are_refused():
    pictures = Pictures(noise(height=10), (20, 30))
    with pytest.raises(ExplgraphError, match=r"image '0' is uint8 of the shape \(10, 30, 3\)"):
        pictures[0]
    with pytest.raises(ExplgraphError, match="no image 'x'"):
        pictures.index("x")
    with pytest.raises(ExplgraphError, match="no image 3; expected 0 to 2"):
        pictures[3]


def test_a_patch_on_whole_pixels_is_a_slice():
    (image,) = noise(1)
    colours, inside = patch(image, 12, 9, 8, 8)
    np.testing.assert_array_equal(colours, image[5:13, 8:16])
    assert inside.all()


def test_a_patch_beyond_the_border_is_grey_there():
    (image,) = noise(1)
    colours, inside = patch(image, 2, 18, 8, 8)  # columns -2 to 6, rows 14 to 22
    np.testing.assert_array_equal(colours[:6, 2:], image[14:20, 0:6])
    assert (colours[:, :2] == 128).all()
    assert (colours[6:] == 128).all()
    expected = np.zeros((8, 8), bool)
    expected[:6, 2:] = True
    np.testing.assert_array_equal(inside, expected)


@pytest.mark.parametrize("side", [10.0, 16.5, 32.0, 60.0])
@pytest.mark.parametrize("centre", [(50, 40), (47.3, 52.8)])
def test_the_places_within_a_patch_are_where_they_should_be(side, centre):
    # a ramp: the colour tells the place, and linear resampling keeps it
    x, y = np.meshgrid(np.arange(100) + 0.5, np.arange(100) + 0.5)
    image = np.stack([2 * x, 2 * y, 0 * x], axis=2).astype(np.uint8)
    colours, inside = patch(image, *centre, side, 16)
    assert inside.all()
    at = (np.arange(16) + 0.5) * side / 16 - side / 2
    np.testing.assert_allclose(colours[..., 0], 2 * (centre[0] + at)[None, :].repeat(16, 0), atol=2)
    np.testing.assert_allclose(colours[..., 1], 2 * (centre[1] + at)[:, None].repeat(16, 1), atol=2)


def test_the_mean_counts_only_what_is_in_the_image():
    one = np.full((2, 2, 3), 100, np.uint8), np.array([[True, True], [False, False]])
    two = np.full((2, 2, 3), 200, np.uint8), np.array([[True, False], [True, False]])
    assert mean_patch([one, two])[..., 0].tolist() == [[150, 100], [200, 128]]


def parse_of(graph, n=4, seed=0, names=None):
    rng = np.random.default_rng(seed)
    v = len(graph)
    height, width = graph.image_size
    positions = rng.uniform(0, [width, height], (n, v, 2)).astype(np.float32)
    return Parse(
        nodes=graph.node_ids,
        names=names or tuple(map(str, range(n))),
        positions=positions,
        expected=positions,
        scores=rng.uniform(0.1, 1, (n, v)).astype(np.float32),
        image_size=graph.image_size,
    )


def test_best_places_come_from_the_parse_or_from_what_the_graph_remembers():
    graph = random_graph(nodes=3, image_size=(20, 30))
    node = graph.node_ids[0]
    graph.top_images[node] = [["1", 5.0, 6.0, 3.0], ["gone", 1.0, 1.0, 2.0], ["0", 7.0, 8.0, 1.0]]
    pictures = Pictures(noise(4), (20, 30))
    assert best_sightings(graph, node, pictures, None, 5) == [
        (1, 5.0, 6.0, 3.0),
        (0, 7.0, 8.0, 1.0),
    ]
    assert len(best_sightings(graph, node, pictures, None, 1)) == 1
    parse = parse_of(graph)
    parse.scores[:, 0] = [0.5, 0.0, 2.0, 1.0]
    found = best_sightings(graph, node, pictures, parse, 9)
    assert [place.image for place in found] == [2, 3, 0]  # not where it wasn't found
    np.testing.assert_allclose(found[0][1:3], parse.positions[2, 0])


def test_columns_of_a_pruned_graph():
    graph = random_graph(nodes=4, image_size=(20, 30))
    parse = parse_of(graph)
    pruned = graph.prune(top=5)
    columns = columns_of(pruned, parse)
    assert [parse.nodes[k] for k in columns] == list(pruned.node_ids)
    with pytest.raises(ExplgraphError, match="parse lacks node"):
        columns_of(graph, parse_of(pruned))
    other = random_graph(nodes=4, image_size=(20, 40))
    with pytest.raises(ExplgraphError, match=r"size \(20, 30\), the graph of \(20, 40\)"):
        columns_of(other, parse)


def test_a_patch_is_as_large_as_the_field_but_never_most_of_the_image():
    graph = random_graph(nodes=2, image_size=(100, 200))
    fields = {a["layer"]: a["receptive_field"] for a in graph.nx.nodes.values()}
    sides = {graph.nx.nodes[v]["layer"]: patch_side(graph, v) for v in graph.node_ids}
    assert sides == {layer: min(field, 40) for layer, field in fields.items()}


def test_grey_pictures_and_deep_ones():
    grey = noise(3)[..., 0]
    for given in (grey, grey[..., None], list(grey), [Image.fromarray(one) for one in grey]):
        pictures = Pictures(given, (20, 30))
        np.testing.assert_array_equal(pictures[1], np.repeat(grey[1][..., None], 3, 2))
    deep = Image.fromarray(grey[1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(Pictures([deep], (20, 30))[0][..., 0], grey[1])
    with pytest.raises(ExplgraphError, match=r"or grey, .*as_colours"):
        Pictures(np.zeros((2, 20, 30, 4), np.uint8), (20, 30))
