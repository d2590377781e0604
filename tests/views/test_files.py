"""Every file is read back by other programs and compared with the graph, value by value."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path

import igraph
import networkx
import pytest
from hypothesis import HealthCheck, given, settings
from random_graphs import HOSTILE, graphs, random_graph

from explgraph.errors import ExplgraphError
from explgraph.suffixes import DRAWINGS, SUFFIXES
from explgraph.views.export import write
from explgraph.views.files import FORMATS
from explgraph.views.layout import band_positions, colour, thin

JS = Path(__file__).parent / "js"
EXAMPLES = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="session")
def javascript(tmp_path_factory):
    """A function that has a file read by a JavaScript program, and gives what it holds."""
    reasons = [f"{tool} isn't installed" for tool in ("node", "npm") if not shutil.which(tool)]
    folder = tmp_path_factory.mktemp("js")
    if not reasons:
        for name in ("package.json", "package-lock.json", "read.js"):
            shutil.copy(JS / name, folder)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
        try:
            subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=180)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as err:
            reasons.append(f"npm ci failed: {(err.stderr or b'')[-300:].decode()}")
    if reasons:
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop(f"JavaScript readers need node, npm and its registry: {reasons[0]}")
    with subprocess.Popen(
        ["node", "read.js"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def read(path):
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            assert "error" not in answer, answer
            return answer

        yield read
        process.stdin.close()


def written(graph, tmp_path, suffix):
    path = tmp_path / f"graph{suffix}"
    graph.write(path)
    return path


def unpacked(found, graph):
    """Graph attributes as read, those that were lists and dicts out of their JSON text."""
    original = graph.nx.graph
    return {
        k: v if type(original.get(k)) in (str, int) else json.loads(v) for k, v in found.items()
    }


def same(found, expected):
    """Equal values of equal types."""
    assert found == expected
    assert {k: type(v) for k, v in found.items()} == {k: type(v) for k, v in expected.items()}


def same_numbers(found, expected):
    """Equal, where the program has one type of number (which JSON may spell without a point)."""
    as_float = {int: float, float: float}

    def uniform(values):
        return {k: as_float.get(type(v), type(v))(v) for k, v in values.items()}

    same(uniform(found), uniform(expected))


def nodes_of(graph):
    return {v: dict(a) for v, a in graph.nx.nodes.items()}


def edges_of(graph):
    return {(u, v): dict(a) for u, v, a in graph.nx.edges(data=True)}


def by_pair(edges):
    pairs = {(u, v): values for u, v, values in edges}
    assert len(pairs) == len(edges)
    return pairs


def test_every_suffix_has_its_writer():
    assert set(SUFFIXES) == {".dot", ".gv", ".html", *DRAWINGS, *FORMATS}


@EXAMPLES
@given(graph=graphs())
def test_json_by_networkx(graph, tmp_path):
    path = written(graph, tmp_path, ".json")
    read = networkx.node_link_graph(json.loads(path.read_text("utf-8")), edges="edges")
    assert type(read) is networkx.DiGraph
    assert list(read) == list(graph.nx)
    for node, values in nodes_of(graph).items():
        same(read.nodes[node], values)
    assert {(u, v): a for u, v, a in read.edges(data=True)} == edges_of(graph)
    assert read.graph == graph.nx.graph


@EXAMPLES
@given(graph=graphs())
def test_graphml_by_networkx(graph, tmp_path):
    read = networkx.read_graphml(written(graph, tmp_path, ".graphml"))
    assert type(read) is networkx.DiGraph
    assert list(read) == list(graph.nx)
    for node, values in nodes_of(graph).items():
        same(read.nodes[node], values)
    assert set(read.edges) == set(graph.nx.edges)
    for pair, values in edges_of(graph).items():
        same(read.edges[pair], values)
    found = {k: v for k, v in read.graph.items() if k not in ("node_default", "edge_default")}
    same(unpacked(found, graph), graph.nx.graph)


@EXAMPLES
@given(graph=graphs())
def test_graphml_by_igraph(graph, tmp_path):
    read = igraph.Graph.Read_GraphML(str(written(graph, tmp_path, ".graphml")))
    assert read.is_directed()
    # igraph gives & in ids back as libxml2 hands it over
    ids = [v["id"].replace("&#38;", "&") for v in read.vs]
    nodes = dict(zip(ids, (v.attributes() for v in read.vs), strict=True))
    assert list(nodes) == list(graph.nx)
    for node, values in nodes_of(graph).items():
        same_numbers({k: nodes[node][k] for k in values}, values)
    edges = by_pair([(ids[e.source], ids[e.target], e.attributes()) for e in read.es])
    assert edges.keys() == edges_of(graph).keys()
    for pair, values in edges_of(graph).items():
        same_numbers({k: edges[pair][k] for k in values}, values)
    assert unpacked({k: read[k] for k in graph.nx.graph}, graph) == graph.nx.graph


@EXAMPLES
@given(graph=graphs())
def test_graphml_by_graphology(graph, tmp_path, javascript):
    read = javascript(written(graph, tmp_path, ".graphml"))
    assert read["directed"]
    assert read["nodes"].keys() == set(graph.nx)
    for node, values in nodes_of(graph).items():
        same_numbers(read["nodes"][node], values)
    edges = by_pair(read["edges"])
    assert edges.keys() == edges_of(graph).keys()
    for pair, values in edges_of(graph).items():
        same_numbers(edges[pair], values)
    assert unpacked(read["graph"], graph) == graph.nx.graph


def gexf_attributes(node, values):
    """GEXF's own names: x and y are the drawing's, and nodes without a label show their id."""
    names = {"x": "image_x", "y": "image_y"}
    return {names.get(k, k): v for k, v in values.items()} | {"label": values["label"] or node}


@EXAMPLES
@given(graph=graphs())
def test_gexf_by_networkx(graph, tmp_path):
    read = networkx.read_gexf(written(graph, tmp_path, ".gexf"))
    assert type(read) is networkx.DiGraph
    assert list(read) == list(graph.nx)
    positions = band_positions(graph)
    for node, values in nodes_of(graph).items():
        viz = read.nodes[node].pop("viz")
        same(read.nodes[node], gexf_attributes(node, values))
        assert (viz["position"]["x"], -viz["position"]["y"]) == positions[node]
        assert tuple(viz["color"][c] for c in "rgb") == colour(values["reliability"])
        assert viz["size"] == pytest.approx(10 + 30 * values["support"], abs=0.05)
    assert set(read.edges) == set(graph.nx.edges)
    for pair, values in edges_of(graph).items():
        found = {k: v for k, v in read.edges[pair].items() if k not in ("id", "weight")}
        same(found, values)


@EXAMPLES
@given(graph=graphs())
def test_gexf_by_graphology(graph, tmp_path, javascript):
    read = javascript(written(graph, tmp_path, ".gexf"))
    # without edges graphology can't tell that there would have been arrows
    assert read["directed"] or not graph.nx.edges
    assert read["nodes"].keys() == set(graph.nx)
    positions = band_positions(graph)
    for node, values in nodes_of(graph).items():
        found = read["nodes"][node]
        assert (found.pop("x"), -found.pop("y")) == positions[node]
        red, green, blue = colour(values["reliability"])
        assert found.pop("color") == f"rgb({red},{green},{blue})"
        assert found.pop("size") == pytest.approx(10 + 30 * values["support"], abs=0.05)
        assert found.pop("z", 0) == 0
        same_numbers(found, gexf_attributes(node, values))
    edges = by_pair(read["edges"])
    assert edges.keys() == edges_of(graph).keys()
    for pair, values in edges_of(graph).items():
        assert edges[pair].pop("weight") == values["consistency"]
        same_numbers(edges[pair], values)
    assert json.loads(read["graph"]["description"]) == graph.nx.graph


def gml_name(name):
    """`layer_index` -> `layerIndex`, written down apart from the code under test."""
    words = name.split("_")
    return "partLabel" if name == "label" else words[0] + "".join(w.title() for w in words[1:])


@EXAMPLES
@given(graph=graphs())
def test_gml_by_networkx(graph, tmp_path):
    path = written(graph, tmp_path, ".gml")
    path.read_bytes().decode("ascii")
    read = networkx.read_gml(path)
    assert type(read) is networkx.DiGraph
    assert list(read) == list(graph.nx)
    for node, values in nodes_of(graph).items():
        # networkx takes these two texts for an empty list and tuple
        found = {k: {(): "()"}.get(v, v) if v != [] else "[]" for k, v in read.nodes[node].items()}
        assert found == {gml_name(k): v for k, v in values.items()}
    assert {(u, v): a for u, v, a in read.edges(data=True)} == edges_of(graph)
    found = {k: read.graph[gml_name(k)] for k in graph.nx.graph}
    assert unpacked(found, graph) == graph.nx.graph


def left_by_igraph(text):
    """igraph reads &amp; &lt; &gt; &quot; and leaves &#233; as it is."""
    return "".join(c if " " <= c <= "~" else f"&#{ord(c)};" for c in text)


@pytest.mark.filterwarnings("ignore:One or more unknown entities:RuntimeWarning")
@EXAMPLES
@given(graph=graphs())
def test_gml_by_igraph(graph, tmp_path):
    read = igraph.Graph.Read_GML(str(written(graph, tmp_path, ".gml")))
    assert read.is_directed()
    ids = list(graph.nx)
    assert read.vcount() == len(ids)
    for k, (node, values) in enumerate(nodes_of(graph).items()):
        assert read.vs[k]["label"] == left_by_igraph(node)
        for name, value in values.items():
            found = read.vs[k][gml_name(name)]
            assert found == (left_by_igraph(value) if isinstance(value, str) else value)
    edges = by_pair([(ids[e.source], ids[e.target], e.attributes()) for e in read.es])
    assert edges.keys() == edges_of(graph).keys()
    for pair, values in edges_of(graph).items():
        assert {k: edges[pair][k] for k in values} == values


@EXAMPLES
@given(graph=graphs())
def test_cyjs_by_cytoscape(graph, tmp_path, javascript):
    read = javascript(written(graph, tmp_path, ".cyjs"))
    assert read["nodes"].keys() == set(graph.nx)
    positions = band_positions(graph)
    for node, values in nodes_of(graph).items():
        found = read["nodes"][node]
        assert (found.pop("id"), found.pop("name")) == (node, values["label"] or node)
        position = found.pop("position")
        assert (position["x"], position["y"]) == positions[node]
        same_numbers(found, values)
    edges = by_pair(read["edges"])
    assert edges.keys() == edges_of(graph).keys()
    for (source, target), values in edges_of(graph).items():
        found = edges[source, target]
        assert found.pop("id").startswith("e")
        same_numbers(found, values | {"source": source, "target": target})
    assert unpacked({k: read["graph"][k] for k in graph.nx.graph}, graph) == graph.nx.graph


@pytest.mark.parametrize("suffix", [".graphml", ".gexf", ".gml", ".json", ".cyjs", ".dot"])
def test_files_are_whole_and_the_same_each_time(suffix, tmp_path):
    graph = random_graph(1, nodes=[40, 80, 120], labels=HOSTILE)
    first = written(graph, tmp_path, suffix).read_bytes()
    assert written(graph, tmp_path, suffix).read_bytes() == first
    graph.write(tmp_path / f"part{suffix}", max_nodes=30)
    assert len((tmp_path / f"part{suffix}").read_bytes()) < len(first) / 3


def test_max_nodes_in_a_file(tmp_path):
    graph = random_graph(1, nodes=[40, 80, 120])
    graph.write(tmp_path / "part.json", max_nodes=30)
    read = json.loads((tmp_path / "part.json").read_text())
    assert {v["id"] for v in read["nodes"]} == set(thin(graph, 30).nx)


def test_gml_names_have_letters_and_digits_only(tmp_path):
    graph = random_graph(0, nodes=2)
    for values in graph.nx.nodes.values():
        values["my_own_1"] = 2
    for line in written(graph, tmp_path, ".gml").read_text().splitlines():
        assert line.split()[0].rstrip("[]").isalnum() or line.split()[0] == "]", line


@pytest.mark.parametrize(("suffix", "own"), [(".gml", "layerIndex"), (".gexf", "image_x")])
def test_two_names_that_would_become_one(suffix, own, tmp_path):
    graph = random_graph(0)
    for values in graph.nx.nodes.values():
        values[own] = 1
    with pytest.raises(ExplgraphError, match=rf"would be written as '{own}'.*rename"):
        graph.write(tmp_path / f"graph{suffix}")
    assert not list(tmp_path.iterdir())


def test_bands_lie_in_layer_order_and_nothing_overlaps():
    graph = random_graph(2, nodes=[5, 300, 900])
    positions = band_positions(graph)
    assert len(set(positions.values())) == len(graph)
    heights = {}
    for node, (_, y) in positions.items():
        heights.setdefault(graph.nx.nodes[node]["layer_index"], []).append(y)
    assert max(heights[2]) < min(heights[1]) <= max(heights[1]) < min(heights[0])
    xs, ys = zip(*positions.values(), strict=True)
    assert 1 < (max(xs) - min(xs)) / (max(ys) - min(ys)) < 4


def crossings(graph, place):
    """Pairs of edges between two layers that cross."""
    edges = [(place[u], place[v]) for u, v in graph.nx.edges]
    return sum((a - c) * (b - d) < 0 for k, (a, b) in enumerate(edges) for c, d in edges[k + 1 :])


def test_order_untangles_a_graph_that_can_be_drawn_without_crossings():
    graph = random_graph(4, layers=("up", "low"), nodes=[12, 36], parents=0)
    upper, lower = graph.nodes_of("up"), graph.nodes_of("low")
    edge = {"dx": 0.0, "dy": 0.0, "sigma": 1.0, "consistency": 0.5, "coactivation": 0.5}
    graph.nx.add_edges_from((upper[k % 12], child, edge) for k, child in enumerate(lower))
    by_x = {v: graph.nx.nodes[v]["x"] for v in graph.nx}
    assert crossings(graph, by_x) > 100
    positions = band_positions(graph)
    assert crossings(graph, {v: x + 1e-9 * y for v, (x, y) in positions.items()}) == 0


def test_colours_go_from_pale_to_deep():
    shades = [colour(k / 50) for k in range(51)]
    light = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in shades]
    assert all(a > b for a, b in itertools.pairwise(light))
    assert light[0] - light[-1] > 130
    assert all(0 <= c <= 255 for shade in shades for c in shade)


def test_thinning_shares_fairly_and_keeps_the_reliable():
    graph = random_graph(5, nodes=[4, 60, 200], parents=8)
    part = thin(graph, 44, 3)
    count = {
        name: len(part.nodes_of(name)) for name in ("features.28", "features.21", "features.14")
    }
    assert count == {"features.28": 4, "features.21": 20, "features.14": 20}
    assert list(part.nx) == [v for v in graph.nx if v in part.nx]
    # brute force: within a layer nobody left out is as well linked and more reliable
    above = {"features.21": "features.28", "features.14": "features.21"}
    for layer, upper in above.items():
        kept_above = set(part.nodes_of(upper))
        rank = {
            v: (bool(kept_above & set(graph.nx.pred[v])), graph.nx.nodes[v]["reliability"])
            for v in graph.nodes_of(layer)
        }
        inside = set(part.nodes_of(layer))
        assert min(rank[v] for v in inside) > max(rank[v] for v in rank if v not in inside)
    # edges: the three most consistent from kept parents
    for node in part.nx:
        parents = {u: e["consistency"] for u, e in graph.nx.pred[node].items() if u in part.nx}
        assert set(part.nx.pred[node]) == set(sorted(parents, key=parents.get)[-3:])
    assert len(thin(graph, 1000)) == len(graph)
    assert len(thin(graph, 1)) == 1


@pytest.mark.parametrize("wrong", [0, -3, 2.5, True])
def test_thinning_to_nonsense(wrong):
    with pytest.raises(ExplgraphError, match=r"max_nodes is .*expected an int, 1 or more"):
        thin(random_graph(0, nodes=2), wrong)


def test_unknown_suffix_lists_the_known(tmp_path):
    with pytest.raises(ExplgraphError, match=r"suffix '\.txt'; expected one of \.dot.*\.cyjs"):
        write(random_graph(0, nodes=2), tmp_path / "graph.txt")
    with pytest.raises(ExplgraphError, match="suffix ''"):
        write(random_graph(0, nodes=2), tmp_path / "graph")
    assert " ".join(SUFFIXES) == ".dot .gv .svg .png .pdf .graphml .gexf .gml .json .cyjs .html"


def test_suffix_in_capitals(tmp_path):
    graph = random_graph(0, nodes=2)
    graph.write(tmp_path / "GRAPH.GraphML")
    assert len(networkx.read_graphml(tmp_path / "GRAPH.GraphML")) == 6


def test_unknown_option(tmp_path):
    with pytest.raises(ExplgraphError, match=r"\.gml file has no option 'time_limit'.*max_nodes"):
        write(random_graph(0, nodes=2), tmp_path / "graph.gml", time_limit=3)
    with pytest.raises(
        ExplgraphError, match=r"no option 'colour'; it takes max_nodes, images, parse"
    ):
        write(random_graph(0, nodes=2), tmp_path / "graph.svg", colour="red")


def test_a_graph_spoilt_after_it_was_made_is_not_written(tmp_path):
    graph = random_graph(0, nodes=2)
    graph.nx.nodes[graph.node_ids[0]]["x"] = float("nan")
    with pytest.raises(ExplgraphError, match="'x' is nan"):
        graph.write(tmp_path / "graph.gexf")
    assert not list(tmp_path.iterdir())


def test_an_older_file_survives_a_failure(tmp_path):
    (tmp_path / "graph.gml").write_text("old")
    graph = random_graph(0, nodes=2)
    for values in graph.nx.nodes.values():
        values["layerIndex"] = 1
    with pytest.raises(ExplgraphError):
        graph.write(tmp_path / "graph.gml")
    assert [p.name for p in tmp_path.iterdir()] == ["graph.gml"]
    assert (tmp_path / "graph.gml").read_text() == "old"


def test_a_folder_in_the_file_s_place(tmp_path):
    (tmp_path / "graph.gml").mkdir()
    with pytest.raises(ExplgraphError, match="a folder is in its place"):
        random_graph(0, nodes=2).write(tmp_path / "graph.gml")
