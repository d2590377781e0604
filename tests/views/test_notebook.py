"""What notebooks show."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest
from random_graphs import HOSTILE, random_graph
from test_pictures import parse_of

from explgraph.views.layout import thin
from explgraph.views.notebook import graph_html


class Reader(HTMLParser):
    """Collects the cells, the texts and the elements of a piece of HTML."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.cells, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.open.append(tag)
        if tag in ("td", "title"):
            self.cells.append("")

    handle_startendtag = lambda self, tag, attributes: self.elements.append((tag, dict(attributes)))  # noqa: E731

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] in ("td", "title"):
            self.cells[-1] += text


def test_a_graph_shows_its_layers_and_a_drawing():
    graph = random_graph(1, nodes=(5, 60, 70), image_size=(30, 50))
    graph.nx.nodes[graph.node_ids[0]]["label"] = "beak"
    read = Reader(graph._repr_html_())
    assert read.cells[:2] == ["features.28", "5"]
    for k, name in ((3, "reliability"), (4, "follows")):
        usual = np.median([graph.nx.nodes[v][name] for v in graph.nodes_of("features.28")])
        assert read.cells[k] == f"{usual:.2f}"
    assert read.cells[5] == "1"
    assert "<b>ExplanatoryGraph</b>: 135 part nodes" in graph_html(graph)
    assert "50 × 30 px" in graph_html(graph)
    drawn = thin(graph, 90, 3)
    tags = [tag for tag, _ in read.elements]
    assert tags.count("circle") == len(drawn) == 90
    assert tags.count("path") == drawn.nx.number_of_edges()
    assert "drawn: the 90 most telling" in graph_html(graph)


@pytest.mark.parametrize("name", [text for text in HOSTILE if text.strip()])
def test_hostile_names_are_text(name):
    graph = random_graph(1, layers=(name, "lower"), nodes=3, labels=[name] * 4)
    for text in (graph_html(graph), parse_of(graph, 2, names=(name, "b"))._repr_html_()):
        read = Reader(text)
        assert not read.open
        assert {tag for tag, _ in read.elements} <= {
            *("div", "p", "b", "table", "thead", "tbody", "tr", "th", "td"),
            *("svg", "path", "circle", "title"),
        }
        assert any(cell.startswith(name[:40]) for cell in read.cells)


def test_an_empty_graph_shows_itself():
    assert "0 part nodes" in graph_html(random_graph(nodes=0))


def test_a_parse_shows_where_the_best_nodes_are():
    graph = random_graph(1, nodes=3, image_size=(20, 30))
    parse = parse_of(graph, 12)
    parse.scores[0] = 0
    parse.scores[0, 4] = 9
    read = Reader(parse._repr_html_())
    x, y = parse.positions[0, 4]
    assert read.cells[:3] == ["0", "1", f"{graph.node_ids[4]} at ({x:.0f}, {y:.0f})"]
    assert len(read.cells) == 3 * 8
    assert "and 4 more images" in parse._repr_html_()
