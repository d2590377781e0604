"""And-Or graphs in files, read back by other programs; the page, looked at as text."""

import csv
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import igraph
import networkx
import numpy as np
import pytest
from grown import grown
from random_graphs import HOSTILE, random_graph

from explgraph.errors import ExplgraphError
from explgraph.suffixes import AND_ORS, DRAWINGS
from explgraph.views.files import FORMATS

READ = {
    ".graphml": networkx.read_graphml,
    ".gexf": networkx.read_gexf,
    ".gml": networkx.read_gml,
    ".json": lambda path: networkx.node_link_graph(json.loads(path.read_text()), edges="edges"),
}


@pytest.fixture(scope="module")
def graph():
    graph = random_graph(2, nodes=6, image_size=(90, 120))
    images = ["0.png", "1.png", 'it\'s "2" & <3>, ü.png', "3.png"]
    graph.grown = grown(graph, ("head", *HOSTILE), templates=(2, 1, 3), images=images, voters=7)
    graph.validate()
    return graph


def test_every_suffix_has_its_writer():
    assert {".dot", ".gv", ".html", ".csv", *DRAWINGS, *FORMATS} == set(AND_ORS)


@pytest.mark.parametrize("suffix", READ)
def test_programs_read_what_the_graph_says(graph, suffix, tmp_path):
    path, and_or = tmp_path / f"x{suffix}", graph.and_or
    and_or.write(path)
    before = path.read_bytes()
    and_or.write(path)
    assert path.read_bytes() == before
    read, wanted = READ[suffix](path), and_or.nx
    assert read.is_directed()
    assert list(read) == list(wanted)
    for vertex, values in wanted.nodes.items():
        found = read.nodes[vertex]
        for name, value in values.items():
            assert found[name] == value
            assert type(found[name]) is type(value)
        if suffix == ".gexf":
            assert found["label"] == values["name"]
    assert set(read.edges) == set(wanted.edges)
    for pair, values in wanted.edges.items():
        assert {name: read.edges[pair][name] for name in values} == values
        if suffix == ".gexf":
            assert read.edges[pair]["weight"] == values["share"]
    if suffix in (".json", ".gml", ".graphml"):
        assert read.graph["images"] == 60


def test_graphml_by_igraph(graph, tmp_path):
    graph.and_or.write(tmp_path / "x.graphml")
    read, wanted = igraph.Graph.Read_GraphML(str(tmp_path / "x.graphml")), graph.and_or.nx
    # igraph gives & in ids back as libxml2 hands it over
    ids = [vertex["id"].replace("&#38;", "&") for vertex in read.vs]
    assert dict(zip(ids, read.vs["kind"], strict=True)) == dict(wanted.nodes(data="kind"))
    assert dict(zip(ids, read.vs["name"], strict=True)) == dict(wanted.nodes(data="name"))
    shares = {(ids[e.source], ids[e.target]): e["share"] for e in read.es}
    assert shares == {(u, v): share for u, v, share in wanted.edges(data="share")}


def test_cytoscape_has_three_columns(graph, tmp_path):
    graph.and_or.write(tmp_path / "x.cyjs")
    elements = json.loads((tmp_path / "x.cyjs").read_text())["elements"]
    nx = graph.and_or.nx
    across = {}
    for node in elements["nodes"]:
        assert node["data"] == {"id": node["data"]["id"]} | nx.nodes[node["data"]["id"]]
        across.setdefault(node["data"]["kind"], set()).add(node["position"]["x"])
    assert all(len(xs) == 1 for xs in across.values())
    assert sorted(across, key=lambda kind: min(across[kind])) == ["part", "template", "node"]
    ids = [node["data"]["id"] for node in elements["nodes"]]
    edges = [edge["data"]["id"] for edge in elements["edges"]]
    assert len({*ids, *edges}) == len(ids) + len(edges)
    places = [tuple(node["position"].values()) for node in elements["nodes"]]
    nodes = [p for p, v in zip(places, ids, strict=True) if nx.nodes[v]["kind"] == "node"]
    assert len(set(nodes)) == len(nodes)


def test_a_table_has_a_row_for_each_vote(graph, tmp_path):
    graph.and_or.write(tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wanted = graph.and_or.table()
    assert len(rows) == len(wanted)
    for row, values in zip(rows, wanted, strict=True):
        assert (row["part"], int(row["template"]), row["node"]) == (
            values["part"], values["template"], values["node"],
        )  # fmt: skip
        for name in ("speaks", "dx", "dy", "spread", "share", "agreement", "reliability"):
            assert float(row[name]) == values[name]


needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz isn't installed")


@needs_dot
def test_dot_by_graphviz(graph, tmp_path):
    """What is joined, how wide the lines are, and that names are names whatever is in them."""
    graph.and_or.write(tmp_path / "x.dot", most=3)
    told = subprocess.run(
        ["dot", "-Tjson0", tmp_path / "x.dot"], capture_output=True, check=True
    ).stdout
    content = json.loads(told)
    names = [node["name"] for node in content["objects"]]
    nx = graph.and_or.nx
    width = {}
    for edge in content["edges"]:
        width[names[edge["tail"]], names[edge["head"]]] = float(edge.get("penwidth", 0))
    joined = {pair for pair, wide in width.items() if wide}
    plain = [part for part in graph.grown.parts if not set(part.name) & set('\\&%"\n\r\t')]
    assert len(plain) > 2
    for part in plain:
        for number, template in enumerate(part.templates, 1):
            here = f"{part.name} (template {number})"
            assert (f"{part.name} (part)", here) in joined
            shown = template.telling(3)
            assert {v for u, v in joined if u == here} == {voter.node for voter in shown}
            wide = [width[here, voter.node] for voter in shown]
            assert wide == sorted(wide, reverse=True)
            assert all(nx.has_edge(here, voter.node) for voter in shown)
    assert len([n for n in names if n.endswith("(part)")]) == len(graph.grown.parts)


@needs_dot
def test_drawings_without_matplotlib(graph, tmp_path, monkeypatch):
    monkeypatch.setattr("explgraph.views.and_or_files.find_spec", lambda _: None)
    graph.and_or.write(tmp_path / "x.svg")
    root = ET.parse(tmp_path / "x.svg").getroot()
    texts = {"".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"head", "template 1", "template 2"} <= texts
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))


def test_a_drawing_and_a_page_have_patches(tmp_path):
    graph = random_graph(2, nodes=6, image_size=(90, 120))
    images = [f"{k}.png" for k in range(3)]
    graph.grown = grown(graph, images=images)
    graph.top_images = {v: [["1.png", 40.0, 30.0, 0.9]] for v in graph.node_ids}
    rng = np.random.default_rng(0)

    class Folder:
        names = images

        def picture(self, _):
            return rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)

    for suffix, count in ((".svg", 4 + 4 + 3 + 6), (".html", 3 + 6)):
        graph.and_or.write(tmp_path / f"a{suffix}", images=Folder())
        graph.and_or.write(tmp_path / f"b{suffix}")
        found = [(tmp_path / f"{name}{suffix}").read_text().count("data:image") for name in "ab"]
        assert found[0] >= count
        assert found[1] == 0
    both = graph.draw(what="and-or", images=Folder()), graph.and_or.draw(images=Folder())
    assert len({len(figure.axes[0].images) for figure in both}) == 1


def test_the_page_escapes_names_and_unfolds(graph, tmp_path):
    graph.and_or.write(tmp_path / "x.html")
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in page
    templates = sum(len(part.templates) for part in graph.grown.parts)
    assert page.count('<details class="or"') == len(graph.grown.parts)
    assert page.count('<details class="and"') == templates
    assert "it&#x27;s &quot;2&quot; &amp; &lt;3&gt;, ü.png" in page
    for part in graph.grown.parts:
        for template in part.templates:
            for voter in template.telling():
                assert f"<td>{voter.node}" in page
                assert f"{voter.share:.1%}" in page
    graph.and_or.write(tmp_path / "y.html", most=1)
    rows = re.findall(r'<tr><td class="value">\d', (tmp_path / "y.html").read_text("utf-8"))
    assert len(rows) == templates


def test_what_can_t_be_written_is_told(graph, tmp_path):
    and_or = graph.and_or
    with pytest.raises(ExplgraphError, match=r"suffix '.txt'; expected one of .dot"):
        and_or.write(tmp_path / "x.txt")
    for suffix, takes in ((".json", "none"), (".csv", "none"), (".dot", "most")):
        with pytest.raises(ExplgraphError, match=f"no option 'images'; it takes {takes}"):
            and_or.write(tmp_path / f"x{suffix}", images=[])
    for most in (0, True, 1.5):
        with pytest.raises(ExplgraphError, match=f"most is {most}; expected a whole number"):
            and_or.write(tmp_path / "x.dot", most=most)
    parse = object()
    with pytest.raises(ExplgraphError, match="parse needs the images that were parsed"):
        and_or.write(tmp_path / "x.html", parse=parse)
    bare = graph.with_and_or(None)
    with pytest.raises(ExplgraphError, match="keeps nothing of how named parts are located"):
        bare.draw(what="and-or")
    assert not list(tmp_path.iterdir())
