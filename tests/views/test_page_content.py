"""What is put into the explorer page, against the graph, the parse and the images."""

from __future__ import annotations

import base64
import io
import json
import re
from importlib import resources

import numpy as np
import pytest
from grown import grown
from page_world import SIZE, Page, with_parts, world
from PIL import Image
from random_graphs import HOSTILE, random_graph

from explgraph import creatures, mine
from explgraph.errors import ExplgraphError
from explgraph.parsed import parts_in
from explgraph.views import viewer
from explgraph.views.figure_style import PALETTE
from explgraph.views.page_content import graph_content
from explgraph.views.pictures import Pictures, part_sightings


def content_of(text):
    (attributes, data), _ = Page(text).scripts
    assert attributes["type"] == "application/json"
    return json.loads(data)


def tiles_of(sheets, side=64):
    tiles = []
    for sheet in sheets:
        kind, _, data = sheet.partition(",")
        assert kind == "data:image/jpeg;base64"
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        rows, columns = image.shape[0] // side, image.shape[1] // side
        tiles += [
            image[side * r : side * r + side, side * c : side * c + side]
            for r in range(rows)
            for c in range(columns)
        ]
    return tiles


def numbers(packed, kind, *shape):
    return np.frombuffer(base64.b64decode(packed), kind).reshape(*shape)


def places(packed, *shape):
    """Places in px of what the page holds as 16-bit numbers."""
    return (numbers(packed, "<u2", *shape, 2) / 65535 * 3 - 1) * [SIZE[1], SIZE[0]]


def test_the_graph_is_in_the_page():
    graph = random_graph(4, nodes=[3, 4, 5], labels=HOSTILE)
    content = content_of(viewer.page(graph, title="@DATA@ </script>"))
    assert content["title"] == "@DATA@ </script>"
    nodes = list(graph.nx.nodes.values())
    assert content["nodes"]["filter"] == [a["filter"] for a in nodes]
    labels = [content["nodes"]["label"].get(str(k), "") for k in range(len(nodes))]
    assert labels == [a["label"] for a in nodes]
    assert [graph.layers[k].name for k in content["nodes"]["layer"]] == [a["layer"] for a in nodes]
    np.testing.assert_allclose(content["nodes"]["x"], [a["x"] for a in nodes], atol=6e-4)
    ids = graph.node_ids
    edges = zip(content["edges"]["parent"], content["edges"]["child"], strict=True)
    assert sorted((ids[u], ids[v]) for u, v in edges) == sorted(graph.nx.edges)
    assert content["edges"]["consistency"] == sorted(content["edges"]["consistency"], reverse=True)
    assert sorted(i for band in content["order"] for i in band) == list(range(12))
    assert [content["nodes"]["layer"][band[0]] for band in content["order"]] == [2, 1, 0]
    assert "strip" not in content
    assert "top_tile" not in content
    assert content["parts"]["id"] == []


def test_patches_and_places_are_those_of_the_parse():
    graph, images, parse = world()
    parse.scores[:, 3] = [0, 0, 3, 0, 1, 2]
    content = content_of(viewer.page(graph, images=images, parse=parse))
    tops = tiles_of(content["top_sheets"])
    assert [name for name, _ in content["top"][3]] == ["2", "5", "4"]
    centres = [tops[content["top_tile"][3] + k][32, 32, 0] for k in range(3)]
    np.testing.assert_allclose(centres, images[[2, 5, 4], 0, 0, 0], atol=4)
    strip = content["strip"]
    np.testing.assert_allclose(places(strip["positions"], 6, -1), parse.positions, atol=0.002)
    scores = numbers(strip["scores"], np.uint8, 6, -1)
    np.testing.assert_allclose(scores / 255, parse.scores / parse.scores.max(0), atol=0.003)
    assert scores[:, 3].tolist() == [0, 0, 255, 0, 85, 170]
    pictures = [Image.open(io.BytesIO(base64.b64decode(p[23:]))) for p in strip["pictures"]]
    assert [p.size for p in pictures] == [(64, 48)] * 6
    np.testing.assert_allclose(
        [p.getpixel((9, 9))[0] for p in pictures], images[:, 0, 0, 0], atol=2
    )


def test_the_strip_is_an_even_choice_of_the_images():
    graph, images, parse = world(n=10)
    content = content_of(viewer.page(graph, images=images, parse=parse, strip=4))
    assert content["strip"]["names"] == ["0", "2", "5", "7"]
    assert content["strip"]["of"] == 10
    found = places(content["strip"]["positions"], 4, -1)
    np.testing.assert_allclose(found, parse.positions[[0, 2, 5, 7]], atol=0.002)
    assert (
        content_of(viewer.page(graph, images=images, parse=parse, strip=0))["strip"]["names"] == []
    )


def test_without_a_parse_the_places_are_those_that_the_graph_remembers():
    graph, images, _ = world()
    node = graph.node_ids[1]
    graph.top_images = {node: [["4", 10.0, 20.0, 3.0], ["1", 30.0, 40.0, 1.5]]}
    content = content_of(viewer.page(graph, images=images))
    scores = numbers(content["strip"]["scores"], np.uint8, 6, -1)
    assert np.argwhere(scores).tolist() == [[1, 1], [4, 1]]
    assert scores[[4, 1], 1].tolist() == [255, 128]
    assert content["top_tile"] == [0 if v == node else -1 for v in graph.node_ids]
    assert content["strip"]["complete"] is False


def test_pruned_graphs_take_the_parse_of_the_whole():
    graph, images, parse = world()
    content = content_of(viewer.page(graph.prune(top=5), images=images, parse=parse))
    pruned = graph.prune(top=5)
    columns = [parse.nodes.index(v) for v in pruned.node_ids]
    found = places(content["strip"]["positions"], 6, 5)
    np.testing.assert_allclose(found, parse.positions[:, columns], atol=0.002)


def test_faults_are_named(tmp_path):
    graph, images, parse = world()
    with pytest.raises(ExplgraphError, match="parse needs the images"):
        graph.write(tmp_path / "x.html", parse=parse)
    with pytest.raises(ExplgraphError, match="parse is of image '5', which images lacks"):
        viewer.page(graph, images=images[:5], parse=parse)
    graph.top_images = {graph.node_ids[0]: [["birds/1.jpg", 1.0, 1.0, 1.0]]}
    with pytest.raises(ExplgraphError, match="none of those that the graph was mined from, such"):
        viewer.page(graph, images=images)
    with pytest.raises(ExplgraphError, match="strip is -1"):
        viewer.page(graph, images=images, strip=-1)
    assert list(tmp_path.iterdir()) == []


def test_parts_are_in_the_page():
    graph, images, parse = world(nodes=8)
    graph = with_parts(graph, [6, 5, 4], still=[1]).name_part("p2", "tail <b>")
    content = content_of(viewer.page(graph, images=images, parse=parse))
    given, number = content["parts"], {v: k for k, v in enumerate(graph.node_ids)}
    assert given["id"] == ["p1", "p2", "p3"]
    assert given["name"] == ["", "tail <b>", ""]
    assert given["nodes"] == [[number[v] for v in part.nodes] for part in graph.parts]
    assert given["follows"][1] == 0
    assert min(given["follows"][0], given["follows"][2]) > 0.1
    assert [layer for k in given["layers"] for layer in k] == [
        index for part in graph.parts for index, layer in enumerate(graph.layers)
        if layer.name in part.layers
    ]  # fmt: skip
    (decided,) = given["decided"]
    assert (decided["id"], decided["name"], decided["rejected"]) == ("p2", "tail <b>", False)
    links = list(graph.part_graph().edges(data=True))
    assert [
        (given["id"][a], given["id"][b])
        for a, b in zip(*(given["links"][end] for end in "ab"), strict=True)
    ] == [(u, v) for u, v, _ in links]
    for name in ("dx", "dy", "sigma", "copresence", "links"):
        np.testing.assert_allclose(given["links"][name], [a[name] for *_, a in links], atol=6e-4)
    # what was parsed, and the patches that figures show, too
    found = parts_in(graph, parse)
    strip = content["strip"]["parts"]
    np.testing.assert_allclose(places(strip["positions"], 6, 3), found.positions, atol=0.002)
    presence = numbers(strip["scores"], np.uint8, 6, 3)
    np.testing.assert_allclose(presence / 255, found.presence, atol=0.003)
    patches = content["part_patches"]
    tiles = tiles_of(patches["sheets"], 96)
    for k, part in enumerate(graph.parts):
        seen = part_sightings(part, Pictures(images, SIZE, parse.names), found, 8)
        assert [name for name, _ in patches["top"][k]] == [parse.names[s.image] for s in seen]
        for rank, sighting in enumerate(seen):
            tile = tiles[patches["first"][k] + rank]
            np.testing.assert_allclose(tile[48, 48], images[sighting.image, 0, 0], atol=4)


def test_parts_say_how_they_are_located():
    graph, *_ = world()
    graph = with_parts(graph, [6, 5, 4], names=["head"])
    assert graph_content(graph)["parts"]["located"] == ["", "", ""]
    graph.grown = grown(graph, ("part 3", "head"))
    told = {part.name: part.told for part in graph.grown.parts}
    assert graph_content(graph)["parts"]["located"] == [told["head"], "", told["part 3"]]


def test_parts_have_the_colours_that_figures_give_them():
    script = resources.files("explgraph.views").joinpath("page/elements.js").read_text("utf-8")
    (palette,) = re.findall(r"const PALETTE = (\[.*?\]);", script)
    assert tuple(json.loads(palette)) == PALETTE


def test_parts_of_a_pruned_graph_are_found_in_the_parse_of_the_whole():
    graph, images, parse = world(nodes=8)
    graph = with_parts(graph, [6, 5])
    pruned = graph.prune(top=3, by="part")
    content = content_of(viewer.page(pruned, images=images, parse=parse))
    assert [len(mine) for mine in content["parts"]["nodes"]] == [3, 3]
    assert numbers(content["strip"]["parts"]["scores"], np.uint8, 6, 2).any()


def test_without_what_mining_fitted_links_of_parts_are_not_computed():
    graph = with_parts(random_graph(2, nodes=6), [5, 4])
    graph.fitted = {}
    content = content_of(viewer.page(graph))
    assert content["parts"]["id"] == ["p1", "p2"]
    assert content["parts"]["links"] is None


def test_patches_beyond_the_limit_are_left_to_the_strip(monkeypatch):
    graph, images, parse = world(nodes=8)
    graph = with_parts(graph, [6, 5])
    monkeypatch.setattr("explgraph.views.page_content._MOST_TILES", 20)
    content = content_of(viewer.page(graph, images=images, parse=parse))
    given = [v for v, tile in zip(graph.node_ids, content["top_tile"], strict=True) if tile >= 0]
    # the parts take turns: the most telling node of each, then the most reliable of the second
    assert {part.nodes[0] for part in graph.parts} < set(given)
    assert len(given) == 3
    assert sum(map(len, content["top"])) == 18


def test_a_mined_graph_makes_a_page_of_4_mb_at_most(tmp_path):
    drawn = creatures.draw(80, seed=0)
    network = creatures.network()
    graph = mine(network, drawn.tensor(), creatures.LAYERS)
    parse = graph.parse(network, drawn.tensor())
    graph.write(tmp_path / "creatures.html", images=drawn.images, parse=parse)
    assert (tmp_path / "creatures.html").stat().st_size <= 4e6
    content = content_of((tmp_path / "creatures.html").read_text("utf-8"))
    assert len(content["parts"]["id"]) == len(graph.parts) > 5
    assert min(content["part_patches"]["first"]) >= 0  # every part has its patches
    assert min(len(seen) for seen in content["part_patches"]["top"]) >= 4
