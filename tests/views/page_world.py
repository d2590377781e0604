"""A graph with parts, pictures and a parse, and what a page would load: for tests of the page."""

from html.parser import HTMLParser

import numpy as np
from random_graphs import random_graph
from test_pictures import parse_of

SIZE = (48, 64)


def world(n=6, nodes=8, **options):
    """A graph, pictures of one colour each, and a parse of them."""
    graph = random_graph(2, nodes=nodes, image_size=SIZE, **options)
    images = np.zeros((n, *SIZE, 3), np.uint8)
    images[:] = (40 * np.arange(n) + 20)[:, None, None, None]
    parse = parse_of(graph, n)
    np.clip(parse.positions, 6, [SIZE[1] - 6, SIZE[0] - 6], out=parse.positions)
    return graph, images, parse


def with_parts(graph, sizes, names=(), still=()):
    """The same graph with parts: so many nodes each, of all layers; the rest belong to none.

    Those numbered in `still` do not move with the object.
    """
    order = [v for k in range(3) for v in graph.node_ids[k::3]]
    records, at = [], 0
    for node in order:
        graph.nx.nodes[node].update(part="", part_weight=0.0)
    for k, size in enumerate(sizes):
        for node in order[at : at + size]:
            values = graph.nx.nodes[node]
            values.update(
                part=f"p{k + 1}", part_weight=1.0, reliability=0.9 - values["support"] / 3
            )
            values["follows"] = 0.0 if k in still else 0.5 + values["follows"] / 2
        at += size
        records.append(
            {
                "id": f"p{k + 1}", "name": names[k] if k < len(names) else "",
                "reliability": 0.9 - 0.02 * k, "support": 0.5, "offset": -3.0, "slope": 8.0,
                "together": {f"p{j + 1}": 0.25 for j in range(len(sizes)) if j != k},
                "rejected": [], "decided": False,
            }
        )  # fmt: skip
    graph.nx.graph["parts"] = records
    graph.validate()
    return graph


class Page(HTMLParser):
    """The scripts of a page, and everything that it would load."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.addresses, self.policy, self.title, self._in = [], [], "", "", None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self._in = tag
        if tag == "script":
            self.scripts.append([attributes, ""])
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"]
        self.addresses += [attributes[a] for a in ("src", "href") if a in attributes]

    def handle_endtag(self, _tag):
        self._in = None

    def handle_data(self, text):
        if self._in == "script":
            self.scripts[-1][1] += text
        elif self._in == "title":
            self.title += text
