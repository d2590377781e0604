"""The graph of the parts in files, read back by other programs and compared with the graph."""

import csv
import json

import igraph
import networkx
import pytest

import explgraph
from explgraph import ExplgraphError, creatures
from explgraph.suffixes import PART_GRAPHS

READ = {
    ".graphml": networkx.read_graphml,
    ".gexf": networkx.read_gexf,
    ".gml": networkx.read_gml,
    ".json": lambda path: networkx.node_link_graph(json.loads(path.read_text()), edges="edges"),
}
NAME = 'a "claw" & <é>, two'


@pytest.fixture(scope="module")
def graph():
    """With effects, so that edges have all attributes, and a name that is hard to write."""
    drawn = creatures.draw(80, seed=1).tensor()
    graph = explgraph.mine(creatures.network(), drawn, ["stage3", "stage4"], seed=0)
    graph = graph.name_part("p3", NAME)
    for k, values in enumerate(graph.nx.edges.values()):
        values["effect"] = 0.1 * k
    assert graph.part_graph().number_of_edges() > 3
    return graph


@pytest.mark.parametrize("suffix", READ)
def test_programs_read_what_the_graph_says(graph, suffix, tmp_path):
    path = tmp_path / f"parts{suffix}"
    graph.write_parts(path)
    before = path.read_bytes()
    graph.write_parts(path)
    assert path.read_bytes() == before
    read, wanted = READ[suffix](path), graph.part_graph()
    assert read.is_directed()
    assert list(read) == list(wanted)
    gexf = suffix == ".gexf"
    for part, values in wanted.nodes.items():
        found = read.nodes[part]
        for name, value in values.items():
            found_as = {"x": "image_x", "y": "image_y"}.get(name, name) if gexf else name
            assert found[found_as] == value
            assert type(found[found_as]) is type(value)
        if gexf:
            assert found["label"] == (values["name"] or part)
            place = found["viz"]["position"]
            assert (place["x"], -place["y"]) == (values["x"], values["y"])
    assert set(read.edges) == set(wanted.edges)
    for pair, values in wanted.edges.items():
        assert {name: read.edges[pair][name] for name in values} == values
        if gexf:
            assert read.edges[pair]["weight"] == values["links"]
    if suffix == ".json":
        assert read.graph == {"image_size": [112, 112]}


def test_graphml_by_igraph(graph, tmp_path):
    graph.write_parts(tmp_path / "parts.graphml")
    read, wanted = igraph.Graph.Read_GraphML(str(tmp_path / "parts.graphml")), graph.part_graph()
    ids = read.vs["id"]
    assert dict(zip(ids, read.vs["name"], strict=True)) == dict(wanted.nodes(data="name"))
    links = {(ids[e.source], ids[e.target]): e["links"] for e in read.es}
    assert links == {(u, v): n for u, v, n in wanted.edges(data="links")}


def test_cytoscape_places_parts_as_in_the_image(graph, tmp_path):
    graph.write_parts(tmp_path / "parts.cyjs")
    elements = json.loads((tmp_path / "parts.cyjs").read_text())["elements"]
    wanted = graph.part_graph()
    assert [node["data"]["id"] for node in elements["nodes"]] == list(wanted)
    for node in elements["nodes"]:
        part = graph.part(node["data"]["id"])
        assert (node["position"]["x"], node["position"]["y"]) == part.place
        called = {"id": part.id, "name": part.name or part.id}
        assert node["data"] == wanted.nodes[part.id] | called
    edges = {
        (e["data"].pop("source"), e["data"].pop("target")): e["data"] for e in elements["edges"]
    }
    assert {pair: {k: v for k, v in e.items() if k != "id"} for pair, e in edges.items()} == dict(
        wanted.edges.items()
    )


def test_a_table_has_a_row_for_each_part(graph, tmp_path):
    graph.write_parts(tmp_path / "parts.csv")
    with (tmp_path / "parts.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["part"] for row in rows] == [part.id for part in graph.parts]
    for row, part in zip(rows, graph.parts, strict=True):
        assert (row["name"], int(row["nodes"])) == (part.name, len(part.nodes))
        assert (float(row["x"]), float(row["y"])) == part.place
        assert (float(row["support"]), float(row["reliability"])) == (
            part.support,
            part.reliability,
        )
        assert row["layers"] == ", ".join(part.layers)


def test_what_can_t_be_written_is_told(graph, tmp_path):
    with pytest.raises(ExplgraphError, match=r"suffix '.svg'; expected one of .graphml, "):
        graph.write_parts(tmp_path / "parts.svg")
    bare = graph
    for part in graph.parts:
        bare = bare.reject_part(part.id)
    for suffix in PART_GRAPHS:
        with pytest.raises(ExplgraphError, match="the graph has no parts that could be written"):
            bare.write_parts(tmp_path / f"parts{suffix}")
    assert not list(tmp_path.iterdir())
