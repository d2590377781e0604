"""The graph's schema and its file."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import math
import re
import sys
import time
import tracemalloc
import zipfile

import networkx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import HOSTILE, graphs, random_graph
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from explgraph.errors import ExplgraphError
from explgraph.explanatory_graph import ExplanatoryGraph, load
from explgraph.graph.schema import EDGE_FIELDS, NODE_FIELDS

EXAMPLES = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def saved(graph, tmp_path):
    path = tmp_path / "birds.explgraph"
    graph.save(path)
    return path


# --- what a graph tells about itself -------------------------------------------------------------


def test_it_tells_what_it_is():
    graph = random_graph(0, nodes=[3, 4, 5], image_size=(224, 112))
    assert len(graph) == 12
    assert graph.image_size == (224, 112)
    assert [layer.name for layer in graph.layers] == ["features.14", "features.21", "features.28"]
    assert [layer.index for layer in graph.layers] == [0, 1, 2]
    assert graph.node_ids == tuple(graph.nx)
    shown = repr(graph).splitlines()
    assert shown[0].startswith(
        "ExplanatoryGraph: 12 part nodes and 27 links, mined from 200 images"
    )
    assert "112 x 224 px" in shown[0]
    assert [line.split(":")[0].strip() for line in shown[1:]] == [
        "features.28",
        "features.21",
        "features.14",
    ]
    assert "3 nodes from" in shown[1]


def test_nodes_of_a_layer_and_a_filter():
    graph = random_graph(0, nodes=[3, 20, 5])
    ids = graph.nodes_of("features.21")
    assert list(ids) == [v for v in graph.nx if v.startswith("features.21/")]
    number = graph.nx.nodes[ids[4]]["filter"]
    assert set(graph.nodes_of("features.21", number)) == {
        v for v in ids if v.split("/")[1] == str(number)
    }
    with pytest.raises(
        ExplgraphError, match=r"no layer 'features\.3'; its layers are 'features\.14'"
    ):
        graph.nodes_of("features.3")
    for number in (-1, graph.layers[1].channels):
        with pytest.raises(ExplgraphError, match=f"has no filter {number}; expected 0 to"):
            graph.nodes_of("features.21", number)


def test_prune_by_reliability():
    graph = random_graph(0, nodes=30)
    before = copy.deepcopy(graph)
    pruned = graph.prune(min_reliability=0.6)
    expected = [v for v in graph.nx if graph.nx.nodes[v]["reliability"] >= 0.6]
    assert 0 < len(expected) < len(graph)
    assert list(pruned.nx) == expected
    assert set(pruned.nx.edges) == {
        (u, v) for u, v in graph.nx.edges if u in expected and v in expected
    }
    assert pruned.fitted.keys() == graph.fitted.keys()
    assert all(pruned.fitted[k] is graph.fitted[k] for k in graph.fitted)
    assert pruned.top_images == {v: s for v, s in graph.top_images.items() if v in expected}
    assert pruned.layers == graph.layers
    # and it is a copy
    pruned.nx.nodes[expected[0]]["label"] = "beak"
    pruned.nx.graph["config"]["tau"] = 5.0
    assert graph == before


@pytest.mark.parametrize(("top", "count"), [(7, 7), (0, 0), (1000, 90), (0.25, 23), (1.0, 90)])
def test_prune_to_the_best(top, count):
    graph = random_graph(0, nodes=30)
    pruned = graph.prune(top=top)
    best = sorted((a["reliability"] for a in graph.nx.nodes.values()), reverse=True)[:count]
    kept = [a["reliability"] for a in pruned.nx.nodes.values()]
    assert sorted(kept, reverse=True) == best
    assert [v for v in graph.nx if v in pruned.nx] == list(pruned.nx)


def test_prune_by_both_takes_the_share_of_what_is_left():
    graph = random_graph(0, nodes=30)
    left = len(graph.prune(min_reliability=0.5))
    assert len(graph.prune(min_reliability=0.5, top=0.5)) == math.ceil(left / 2)
    assert graph.prune() == graph


def with_decoys(decoys, reliability):
    """A graph of one layer with some decoys and the nodes' reliabilities."""
    whole = random_graph(0, layers=("top", "low"), nodes=[5, len(reliability)])
    graph = ExplanatoryGraph(whole.subgraph("low").nx, {"layer/0/decoys": np.array(decoys)})
    for values, node in zip(graph.nx.nodes.values(), reliability, strict=True):
        values["reliability"] = float(node)
    return graph


@pytest.mark.parametrize(
    ("decoys", "fdr", "left"),
    [
        ([], 0.05, 40),  # (1 + 0) / 40
        ([], 0.02, 0),  # 40 nodes are too few
        ([0.505], 0.04, 0),  # (1 + 1) / 40 of all; 1 / 15 or more above the decoy
        ([0.505], 0.1, 40),
        ([0.505, 0.31, 0.305, 0.2, 0.03], 0.1, 25),  # 2 / 25 from 0.32 on; 4 / 26 from 0.3 on
        ([2.0], 0.1, 40),
    ],
)
def test_prune_by_false_discoveries(decoys, fdr, left):
    """Against the formula (1 + decoys) / nodes, by hand."""
    graph = with_decoys(decoys, np.linspace(0.8, 0.02, 40))  # steps of 0.02
    pruned = graph.prune(fdr=fdr)
    assert pruned.node_ids == graph.node_ids[:left]
    assert graph.prune(top=5, fdr=fdr).node_ids == pruned.node_ids[:5]


def test_prune_by_false_discoveries_needs_decoys():
    with pytest.raises(ExplgraphError, match=r"decoys of layer 0, which this graph lacks; mine"):
        ExplanatoryGraph(random_graph(0).nx).prune(fdr=0.05)
    for wrong in (0, -0.1, 1.5, "0.05", True, math.nan):
        with pytest.raises(ExplgraphError, match="expected a number above 0 and at most 1"):
            with_decoys([], [0.5]).prune(fdr=wrong)


def test_prune_among_equals_keeps_the_first():
    graph = random_graph(0, nodes=4)
    for values in graph.nx.nodes.values():
        values["reliability"] = 0.5
    assert graph.prune(top=5).node_ids == graph.node_ids[:5]


@pytest.mark.parametrize("top", [-1, 1.5, 0.0, True, float("nan")])
def test_prune_to_nonsense(top):
    with pytest.raises(ExplgraphError, match=r"top is .*number of nodes .*share"):
        random_graph(0, nodes=2).prune(top=top)


@pytest.mark.parametrize("bound", [-0.1, 1.1, float("nan")])
def test_prune_beyond_the_range(bound):
    with pytest.raises(ExplgraphError, match=r"min_reliability is .*from 0 to 1"):
        random_graph(0, nodes=2).prune(min_reliability=bound)


def test_subgraph_of_layers():
    graph = random_graph(0, nodes=5)
    part = graph.subgraph(["features.28", "features.21"])
    assert part.node_ids == graph.nodes_of("features.28") + graph.nodes_of("features.21")
    assert part.layers == graph.layers
    assert graph.subgraph("features.14").node_ids == graph.nodes_of("features.14")
    with pytest.raises(ExplgraphError, match="no layer 'conv'"):
        graph.subgraph(["features.28", "conv"])


def test_restricted_to_nodes():
    graph = random_graph(0, nodes=5)
    some = [graph.node_ids[7], graph.node_ids[2]]
    assert graph.restricted(some).node_ids == (some[1], some[0])
    with pytest.raises(ExplgraphError, match=r"no node 'conv/1/0'"):
        graph.restricted([*some, "conv/1/0"])


def test_frames():
    graph = random_graph(0, nodes=5)
    first = graph.node_ids[0]
    graph.nx.nodes[first]["seen"] = True
    nodes = graph.to_frame()
    assert list(nodes.index) == list(graph.nx)
    required = [name for name, field in NODE_FIELDS.items() if field.required]
    assert list(nodes.columns) == [*required, "seen"]
    for node, values in graph.nx.nodes.items():
        assert {k: nodes.loc[node, k] for k in values} == values
    edges = graph.to_frame("edges")
    required = [name for name, field in EDGE_FIELDS.items() if field.required]
    assert list(edges.columns) == ["parent", "child", *required]
    found = {(e["parent"], e["child"]): {k: e[k] for k in required} for _, e in edges.iterrows()}
    assert found == {(u, v): a for u, v, a in graph.nx.edges(data=True)}
    with pytest.raises(
        ExplgraphError, match="kind is 'rows'; expected 'nodes', 'edges' or 'parts'"
    ):
        graph.to_frame("rows")


def test_frames_of_an_empty_graph():
    graph = random_graph(0, nodes=0)
    assert list(graph.to_frame().columns) == [k for k, f in NODE_FIELDS.items() if f.required]
    assert len(graph.to_frame("edges")) == 0


def test_frame_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ExplgraphError, match=r"needs pandas.*pip install 'explgraph\[pandas\]'"):
        random_graph(0, nodes=2).to_frame()


# --- equality ------------------------------------------------------------------------------------


def test_equality_sees_everything():
    def changed(change):
        graph = random_graph(0, nodes=4)
        change(graph)
        return graph

    graph = random_graph(0, nodes=4)
    assert graph == random_graph(0, nodes=4)
    first = graph.node_ids[0]
    edge = next(iter(graph.nx.edges))
    changes = [
        lambda g: g.nx.nodes[first].update(label="beak"),
        lambda g: g.nx.edges[edge].update(dx=1.0),
        lambda g: g.nx.remove_edge(*edge),
        lambda g: g.nx.graph.update(seed=5),
        lambda g: g.top_images[first][0].__setitem__(0, "other.jpg"),
        lambda g: g.fitted.update(mu=g.fitted["mu"] + 1),
        lambda g: g.fitted.update(mu=g.fitted["mu"].astype(np.float64)),
        lambda g: g.fitted.pop("mu"),
        lambda g: setattr(g, "nx", networkx.relabel_nodes(g.nx, {first: "x"})),
    ]
    for change in changes:
        assert graph != changed(change)
    assert graph != "a graph"
    reordered = networkx.DiGraph(**graph.nx.graph)
    reordered.add_nodes_from(list(graph.nx.nodes.items())[::-1])
    reordered.add_edges_from(graph.nx.edges(data=True))
    assert graph != ExplanatoryGraph(reordered, graph.fitted, graph.top_images)
    with pytest.raises(TypeError, match="unhashable"):
        hash(graph)


# --- validation ----------------------------------------------------------------------------------


def spoilt(change):
    """The message about a valid graph with one fault."""
    graph = random_graph(0, nodes=4)
    change(graph)
    with pytest.raises(ExplgraphError) as caught:
        graph.validate()
    with pytest.raises(ExplgraphError, match=re.escape(str(caught.value))):
        ExplanatoryGraph(graph.nx, graph.fitted, graph.top_images)
    return str(caught.value)


def node_with(**values):
    return lambda g: g.nx.nodes[g.node_ids[0]].update(values)


def edge_with(**values):
    return lambda g: next(iter(g.nx.edges.values())).update(values)


def graph_with(**values):
    return lambda g: g.nx.graph.update(values)


def layer_with(**values):
    return lambda g: g.nx.graph["layers"][1].update(values)


FIRST = r"node 'features.28/2/0': "
WRONG = {
    "nan": (node_with(x=math.nan), FIRST + "attribute 'x' is nan; expected a finite float"),
    "infinite": (node_with(sigma=math.inf), "'sigma' is inf; expected a finite float, 0 or more"),
    "negative": (node_with(sigma=-1.0), "'sigma' is -1.0; expected a finite float, 0 or more"),
    "share": (node_with(reliability=1.01), "'reliability' is 1.01; expected a float from 0 to 1"),
    "int for float": (node_with(x=3), "'x' is 3 of type int; expected a finite float"),
    "numpy": (node_with(x=np.float64(3)), "of type float64; expected a finite float"),
    "bool for int": (
        node_with(pattern=True),
        "'pattern' is True of type bool; expected a finite int",
    ),
    "far off": (node_with(y=900.0), "'y' is 900.0; expected pixels within one image side of the"),
    "control": (node_with(label="a\x00b"), "'label' holds the character U+0000, which files can't"),
    "surrogate": (node_with(label="\udc80"), "character U+DC80"),
    "other layer": (node_with(layer="conv"), "'layer' is 'conv' and 'layer_index' is 2, where the"),
    "no layer": (node_with(layer_index=3), "'layer_index' is 3, where the graph has no layer"),
    "filter": (node_with(filter=8), "'filter' is 8; expected at most 7, the layer's last"),
    "id": (
        node_with(pattern=7),
        "'features.28/2/0'; expected 'features.28/2/7', '<layer>/<filter>/",
    ),
    "list": (node_with(mine=[1]), "'mine' is [1] of type list; expected a plain str, int, float"),
    "own nan": (node_with(mine=math.nan), "'mine' is nan; expected a finite number"),
    "own numpy": (node_with(mine=np.int64(1)), "of type int64; expected a plain str, int, float"),
    "own big": (node_with(mine=2**60), "expected an int of at most 2**53"),
    "own name": (node_with(**{"my name": 1}), "attribute name 'my name'; expected letters, digits"),
    "reserved": (node_with(ID=1), "attribute name 'ID'; expected letters"),
    "missing": (
        lambda g: g.nx.nodes[g.node_ids[0]].pop("energy"),
        FIRST + "attribute 'energy' is missing; expected a float from 0 to 1",
    ),
    "two types": (
        lambda g: [g.nx.nodes[v].update(mine=k) for v, k in zip(g.nx, (1, 2.0), strict=False)],
        "'mine' is 2.0 of type float; expected int as on others before it",
    ),
    "no text id": (lambda g: g.nx.add_node(7), "node 7: its id is a int; expected a str"),
    "bare node": (lambda g: g.nx.add_node("a"), "node 'a': attribute 'layer' is missing"),
    "edge": (edge_with(dx=math.inf), "edge 'features.28/2/0' -> 'features.21/"),
    "edge attribute": (edge_with(consistency=2.0), "'consistency' is 2.0; expected a float from 0"),
    "effect": (edge_with(effect="much"), "'effect' is 'much' of type str; expected a finite float"),
    "upwards": (
        lambda g: g.nx.add_edge(g.node_ids[-1], g.node_ids[0], **next(iter(g.nx.edges.values()))),
        "runs from layer_index 0 to 2; expected an edge from an upper layer to a lower one",
    ),
    "within": (
        lambda g: g.nx.add_edge(g.node_ids[0], g.node_ids[1], **next(iter(g.nx.edges.values()))),
        "runs from layer_index 2 to 2",
    ),
    "loop": (
        lambda g: g.nx.add_edge(g.node_ids[0], g.node_ids[0], **next(iter(g.nx.edges.values()))),
        "runs from layer_index 2 to 2",
    ),
    "graph missing": (lambda g: g.nx.graph.pop("seed"), "graph attribute 'seed' is missing"),
    "graph type": (graph_with(config=[]), "graph attribute 'config' is []; expected dict"),
    "newer": (
        graph_with(format_version=3),
        "format version 3; this explgraph reads version 2: update",
    ),
    "older": (
        graph_with(format_version=1),
        "format version 1, of explgraph 0.1; this explgraph mines in another way and reads "
        "version 2: mine again",
    ),
    "version": (graph_with(format_version=0), "format_version is 0; expected 2"),
    "size": (
        graph_with(image_size=[224]),
        "'image_size' is [224]; expected [height, width], int, px",
    ),
    "size type": (graph_with(image_size=[224.0, 1]), "expected [height, width], int, px"),
    "images": (graph_with(n_images=0), "'n_images' is 0; expected 1 or more"),
    "config": (graph_with(config={"a": [1, {"b": math.nan}]}), "key 'a', entry 1, key 'b' is nan"),
    "tuple": (graph_with(config={"a": (1, 2)}), "of type tuple; expected plain JSON values"),
    "key": (graph_with(config={1: 2}), "'config': key 1; expected a str"),
    "text": (graph_with(versions={"a": "\x01"}), "key 'a' holds the character U+0001"),
    "graph name": (graph_with(name="x"), "the graph: attribute name 'name'; expected letters"),
    "layers": (
        graph_with(layers=["conv"]),
        "'layers', entry 0 is 'conv'; expected Layer.as_dict()",
    ),
    "layer": (layer_with(index=2), "entry 1: index is 2; expected 1, lowest layer first"),
    "layer name": (layer_with(name="features.14"), "name is 'features.14'; expected a name of its"),
    "no name": (layer_with(name=""), "entry 1: name is ''; expected a name of its own, not empty"),
    "channels": (layer_with(channels=0), "entry 1: channels is 0; expected an int, 1 or more"),
    "stride": (layer_with(stride=[16, 16]), "entry 1: stride is (16, 16); expected two floats, px"),
    "more": (layer_with(more=1), "expected Layer.as_dict()"),
    "fitted": (
        lambda g: g.fitted.update(mu=[1, 2]),
        "fitted['mu'] is list; expected a numpy array of bool, int or float",
    ),
    "objects": (lambda g: g.fitted.update(mu=np.array(["a"], object)), "fitted['mu'] is object"),
    "complex": (lambda g: g.fitted.update(mu=np.zeros(1, complex)), "fitted['mu'] is complex128"),
    "whose": (
        lambda g: g.top_images.update({"a/0/0": []}),
        "top_images names 'a/0/0'; expected a node of the graph",
    ),
    "top": (
        lambda g: g.top_images.update({g.node_ids[0]: [["a.jpg", 1.0, 2.0]]}),
        "holds ['a.jpg', 1.0, 2.0]; expected a list of [image name, x, y, score]",
    ),
    "top nan": (
        lambda g: g.top_images.update({g.node_ids[0]: [["a.jpg", 1.0, 2.0, math.nan]]}),
        "str and finite floats",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_fault_is_named(fault):
    change, message = WRONG[fault]
    assert message in spoilt(change)


@pytest.mark.parametrize("kind", [networkx.Graph, networkx.MultiDiGraph, dict])
def test_another_kind_of_graph(kind):
    with pytest.raises(ExplgraphError, match=rf"is a {kind.__name__}; expected a networkx.DiGraph"):
        ExplanatoryGraph(kind())


def test_a_graph_without_nodes_is_valid():
    assert len(random_graph(0, nodes=0)) == 0


# --- the file ------------------------------------------------------------------------------------


@EXAMPLES
@given(graph=graphs())
def test_round_trip(graph, tmp_path):
    path = saved(graph, tmp_path)
    read = load(path)
    assert read == graph
    # the types too, which == alone takes lightly
    for mine, theirs in zip(graph.nx.nodes.values(), read.nx.nodes.values(), strict=True):
        assert {k: type(v) for k, v in mine.items()} == {k: type(v) for k, v in theirs.items()}
    first = path.read_bytes()
    assert saved(read, tmp_path).read_bytes() == first


def test_equal_graphs_give_equal_bytes_whatever_order_they_were_made_in(tmp_path):
    graph = random_graph(0, nodes=9)
    first = saved(graph, tmp_path).read_bytes()
    nx = networkx.DiGraph()
    nx.graph.update(reversed(list(graph.nx.graph.items())))
    nx.graph["config"] = dict(reversed(list(nx.graph["config"].items())))
    for node, values in graph.nx.nodes.items():
        nx.add_node(node, **dict(reversed(values.items())))
    for u, v, values in reversed(list(graph.nx.edges(data=True))):
        nx.add_edge(u, v, **dict(reversed(values.items())))
    fitted = {k: np.array(v, order="F") for k, v in reversed(graph.fitted.items())}
    other = ExplanatoryGraph(nx, fitted, dict(reversed(graph.top_images.items())))
    assert other == graph
    assert saved(other, tmp_path).read_bytes() == first


def test_the_file_is_what_it_says(tmp_path):
    graph = random_graph(0, nodes=5, labels=HOSTILE)
    with zipfile.ZipFile(saved(graph, tmp_path)) as archive:
        assert archive.namelist() == ["manifest.json", "graph.json", "fitted.safetensors"]
        manifest = json.loads(archive.read("manifest.json"))
        assert (manifest["format"], manifest["format_version"]) == ("explgraph", 2)
        for name, digest in manifest["sha256"].items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == digest
        content = json.loads(archive.read("graph.json"))
        fitted = load_safetensors(archive.read("fitted.safetensors"))
    nx = networkx.node_link_graph(
        {k: v for k, v in content.items() if k != "top_images"}, edges="edges"
    )
    assert dict(nx.nodes) == dict(graph.nx.nodes)
    assert dict(nx.edges) == dict(graph.nx.edges)
    assert content["top_images"] == graph.top_images
    assert fitted.keys() == graph.fitted.keys()
    for name, array in graph.fitted.items():
        assert fitted[name].dtype == array.dtype
        np.testing.assert_array_equal(fitted[name], array)


def test_fitted_arrays_of_any_layout(tmp_path):
    graph = random_graph(0, nodes=2)
    whole = np.arange(24.0).reshape(2, 3, 4)
    graph.fitted |= {
        "strided": whole[:, ::2, ::-1],
        "turned": whole.T,
        "scalar": np.array(3, np.int8),
        "half": whole.astype(np.float16),
        "nan": np.array([np.nan, -np.inf]),
    }
    assert load(saved(graph, tmp_path)) == graph


def test_image_names_that_are_no_utf8(tmp_path):
    graph = random_graph(0, nodes=2)
    graph.top_images[graph.node_ids[0]] = [["caf\udce9/翼.jpg", 1.0, 2.0, 3.0]]
    assert load(saved(graph, tmp_path)) == graph


def test_saving_checks_again_and_leaves_the_old_file(tmp_path):
    graph = random_graph(0, nodes=2)
    before = saved(graph, tmp_path).read_bytes()
    graph.nx.nodes[graph.node_ids[0]]["support"] = 2.0
    with pytest.raises(ExplgraphError, match=r"'support' is 2\.0"):
        graph.save(tmp_path / "birds.explgraph")
    assert (tmp_path / "birds.explgraph").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_saving_where_it_can_t(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExplgraphError, match="can't write"):
        random_graph(0, nodes=2).save(tmp_path / "file" / "birds.explgraph")


def test_a_missing_file(tmp_path):
    with pytest.raises(ExplgraphError, match=r"there is no file '.*birds.explgraph'"):
        load(tmp_path / "birds.explgraph")


def test_a_folder(tmp_path):
    with pytest.raises(ExplgraphError, match="is a folder; give the graph file itself"):
        load(tmp_path)


def test_a_file_that_can_t_be_read(tmp_path, monkeypatch):
    path = saved(random_graph(0, nodes=2), tmp_path)

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # root may read everything
    with pytest.raises(ExplgraphError, match=r"can't read '.*birds.explgraph': Permission denied"):
        load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; it was not written to its end"),
        (b"{}", "is not an explanatory graph"),
        (b"\x80\x04\x95pickle", "is not an explanatory graph"),
        (b"PK\x03\x04", "is truncated or damaged"),
    ],
)
def test_something_else(content, message, tmp_path):
    path = tmp_path / "x.explgraph"
    path.write_bytes(content)
    with pytest.raises(ExplgraphError, match=message):
        load(path)


def test_another_zip_archive(tmp_path):
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    with pytest.raises(
        ExplgraphError, match=r"not an explanatory graph: it holds archive/data\.pkl"
    ):
        load(path)


def test_truncated_anywhere(tmp_path):
    content = saved(random_graph(0, nodes=2), tmp_path).read_bytes()
    path = tmp_path / "cut.explgraph"
    for length in [*range(0, len(content), 97), *range(len(content) - 60, len(content))]:
        path.write_bytes(content[:length])
        expected = "truncated or damaged" if length >= 4 else "is empty|not an explanatory"
        with pytest.raises(ExplgraphError, match=expected):
            load(path)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_anywhere(data, tmp_path_factory):
    """A flipped byte is noticed, or stands where nothing is said about the graph."""
    folder = tmp_path_factory.getbasetemp()
    graph = random_graph(0, nodes=1)
    content = bytearray(saved(graph, folder).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path = folder / "flipped.explgraph"
    path.write_bytes(content)
    with contextlib.suppress(ExplgraphError):
        assert load(path) == graph


def repacked(tmp_path, *, sums=True, **members):
    """A graph file with other members in it, the checksums right if asked."""
    source = saved(random_graph(0, nodes=2), tmp_path)
    with zipfile.ZipFile(source) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    names = {name.split(".")[0]: name for name in content}
    manifest = json.loads(content["manifest.json"])
    for stem, change in members.items():
        content[names[stem]] = change(content[names[stem]])
        if sums and stem != "manifest" and content[names[stem]] is not None:
            manifest["sha256"][names[stem]] = hashlib.sha256(content[names[stem]]).hexdigest()
    if "manifest" not in members:
        content["manifest.json"] = json.dumps(manifest).encode()
    path = tmp_path / "repacked.explgraph"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)
    return path


def edited(change):
    """Edit JSON bytes."""

    def edit(data):
        content = json.loads(data)
        change(content)
        return json.dumps(content).encode()

    return edit


def test_of_another_version(tmp_path):
    path = repacked(tmp_path, manifest=edited(lambda m: m.update(format_version=3)))
    with pytest.raises(
        ExplgraphError, match="has format version 3; this explgraph reads version 2: update"
    ):
        load(path)
    path = repacked(tmp_path, manifest=edited(lambda m: m.update(format_version="2")))
    with pytest.raises(ExplgraphError, match="format_version is '2'; expected 2"):
        load(path)


def test_a_graph_of_version_0_1_must_be_mined_again(tmp_path):
    """Its parameters mean something else; they are not even looked at."""
    path = repacked(
        tmp_path,
        manifest=edited(lambda m: m.update(format_version=1)),
        graph=lambda _: b"other",
        fitted=lambda _: b"other",
    )
    with pytest.raises(
        ExplgraphError, match=r"repacked.explgraph' has format version 1.*: mine again$"
    ):
        load(path)


def test_a_newer_version_is_told_before_anything_else_is_read(tmp_path):
    change = edited(lambda m: (m.update(format_version=7), m.pop("sha256")))
    path = repacked(tmp_path, manifest=change, graph=lambda _: b"other")
    with pytest.raises(ExplgraphError, match="format version 7"):
        load(path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"graph": lambda d: d + b" ", "sums": False}, r"graph\.json doesn't match its checksum"),
        (
            {"fitted": lambda _: b"", "sums": False},
            r"fitted\.safetensors doesn't match its checksum",
        ),
        ({"graph": lambda _: None}, r"holds graph\.json 0 times, expected once"),
        ({"manifest": lambda _: b"[]"}, r"its manifest\.json is another program's"),
        ({"manifest": lambda _: b"{"}, "is damaged"),
        ({"manifest": edited(lambda m: m.pop("sha256"))}, "has no checksums"),
        ({"graph": lambda _: b"{"}, "holds no valid graph: JSONDecodeError"),
        ({"graph": lambda _: b"[]"}, "holds no valid graph: TypeError"),
        ({"graph": lambda _: b"[" * 100_000}, "holds no valid graph: RecursionError"),
        ({"graph": edited(lambda g: g.pop("nodes"))}, "holds no valid graph: KeyError: 'nodes'"),
        ({"graph": edited(lambda g: g["nodes"].append(g["nodes"][0]))}, "occurs twice"),
        ({"graph": edited(lambda g: g["edges"].append(g["edges"][0]))}, "occurs twice or joins"),
        ({"graph": edited(lambda g: g["edges"][0].update(target="a"))}, "joins a node that isn't"),
        (
            {"graph": edited(lambda g: g["nodes"][0].update(x="a"))},
            "attribute 'x' is 'a' of type str",
        ),
        ({"graph": edited(lambda g: g["graph"].pop("seed"))}, "graph attribute 'seed' is missing"),
        ({"fitted": lambda _: b"\x80\x04N."}, "holds no valid graph: SafetensorError"),
    ],
)
def test_wrong_content(members, message, tmp_path):
    path = repacked(tmp_path, **members)
    with pytest.raises(ExplgraphError, match=message) as caught:
        load(path)
    assert "repacked.explgraph" in str(caught.value)


def parameters(change):
    """Edit the parameters' bytes."""

    def edit(data):
        fitted = load_safetensors(data)
        change(fitted)
        return save_safetensors(fitted)

    return edit


def infinite(fitted):
    fitted["layer/1/mean"][0, 0, 0] = np.inf


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("layer/0/sigma"), "lacks the parameter 'layer/0/sigma'.*mine it again"),
        (lambda f: f.pop("pose/checks"), "lacks the parameter 'pose/checks'"),
        (infinite, "parameter 'layer/1/mean' holds a number that is not finite; mine it again"),
        (
            lambda f: f.update({"layer/1/scale": f["layer/1/scale"][:-1]}),
            r"parameter 'layer/1/scale' is float32 \(7,\), expected float32 \(8,\)",
        ),
        (
            lambda f: f.update({"layer/1/scale": f["layer/1/scale"].astype(float)}),
            r"parameter 'layer/1/scale' is float64",
        ),
        (
            lambda f: f.update({"pose/checks": f["pose/checks"] + 1}),
            "parameter 'pose/checks' holds an index that is not from 0 to 7",
        ),
        (
            lambda f: (f["layer/2/share"].fill(0), f["layer/2/background"].fill(1)),
            "node 'features.28/.*' has no pattern among the parameters",
        ),
        (
            lambda f: f["layer/2/share"].fill(0),
            "parameter 'layer/2/share' and the background don't add up to 1",
        ),
    ],
)
def test_parameters_are_checked_when_a_file_is_opened(change, message, tmp_path):
    path = repacked(tmp_path, fitted=parameters(change))
    with pytest.raises(ExplgraphError, match=message) as caught:
        load(path)
    assert "repacked.explgraph' holds no valid graph" in str(caught.value)


def test_a_node_beyond_its_filters_patterns(tmp_path):
    def renumber(content):
        node = content["nodes"][0]
        renamed = node["id"].rsplit("/", 1)[0] + "/9"
        for edge in content["edges"]:
            edge["source"] = renamed if edge["source"] == node["id"] else edge["source"]
        content["top_images"].pop(node["id"], None)
        node.update(id=renamed, pattern=9)

    path = repacked(tmp_path, graph=edited(renumber))
    with pytest.raises(ExplgraphError, match=r"node '.*/9' has no pattern among the parameters"):
        load(path)


def test_a_graph_without_parameters_can_be_opened(tmp_path):
    graph = ExplanatoryGraph(random_graph(0, nodes=2).nx)
    assert load(saved(graph, tmp_path)) == graph


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    import pickle

    def refuse(*_args, **_kwargs):
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    graph = random_graph(0, nodes=2)
    assert load(saved(graph, tmp_path)) == graph


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("explgraph.archive._MOST", (2**16, 100_000, 2**33))
    path = repacked(tmp_path, graph=lambda d: d + b" " * 10_000_000)
    # written without compression; pack it small
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    assert path.stat().st_size < 100_000
    with pytest.raises(
        ExplgraphError, match=r"graph\.json claims 10,\d+,\d+ bytes; at most 100,000"
    ):
        load(path)


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_blanks_without_end_cost_nothing(tmp_path, packing):
    """Refused by their number, or by how far they are packed, before they are unpacked."""
    path = saved(random_graph(0, nodes=2), tmp_path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content["graph.json"] += b" " * (2**28 if packing == zipfile.ZIP_STORED else 2**25)
    with zipfile.ZipFile(path, "w", packing, compresslevel=1) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    del content
    tracemalloc.start()
    with pytest.raises(ExplgraphError, match=r"graph\.json claims .* bytes[;,] (packed|at most)"):
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preprocessing": {"size": "big"}}, "'preprocessing': size is 'big'"),
        ({"preprocessing": {"mean": [0.1, None, 0.2]}}, "'preprocessing': mean is"),
        ({"preprocessing": {"std": [0, 1, 1]}}, r"'preprocessing': std is \[0, 1, 1\]"),
        ({"preprocessing": {"fit": []}}, r"'preprocessing': fit is \[\]"),
        ({"config": {"following": {"a": "b"}}}, "'config': following is"),
        ({"config": {"following": 3}}, "'config': following is 3"),
        ({"versions": {"torch": 2}}, "'versions': 'torch' is 2; expected a str"),
        ({"image_size": [10**9, 10]}, r"'image_size' is \[1000000000, 10\]"),
    ],
)
def test_what_is_told_of_a_graph_is_checked_on_opening(tmp_path, change, message):
    path = repacked(tmp_path, graph=edited(lambda content: content["graph"].update(change)))
    with pytest.raises(ExplgraphError, match=f"graph attribute {message}"):
        load(path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("height", 10**6, "height is 1000000, in images of"),
        ("stride", [-1.0, 1.0], "stride is .* expected 0 or more"),
        ("receptive_field", [3.0, -3.0], "receptive_field is"),
    ],
)
def test_layers_are_checked_on_opening(tmp_path, name, value, message):
    def change(content):
        content["graph"]["layers"][0][name] = value

    with pytest.raises(ExplgraphError, match=f"'layers', entry 0: {message}"):
        load(repacked(tmp_path, graph=edited(change)))


@pytest.mark.parametrize("text", [b"[" * 200_000, b'{"graph":' * 100_000])
def test_json_nested_without_end_is_refused(tmp_path, text):
    with pytest.raises(ExplgraphError, match="holds no valid graph: RecursionError"):
        load(repacked(tmp_path, graph=lambda _: text))


def test_other_members_are_left_alone(tmp_path):
    graph = random_graph(0, nodes=2)
    path = saved(graph, tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../evil.txt", b"x")
    assert load(path) == graph
    assert not list(tmp_path.parent.parent.glob("evil.txt"))


def test_a_member_twice(tmp_path):
    path = saved(random_graph(0, nodes=2), tmp_path)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("graph.json", b"{}")
    with pytest.raises(ExplgraphError, match=r"holds graph\.json 2 times, expected once"):
        load(path)


def test_a_big_graph_is_saved_and_loaded_in_seconds(tmp_path):
    graph = random_graph(0, nodes=[300, 1000, 1500], parents=15)
    start = time.perf_counter()
    path = saved(graph, tmp_path)
    assert load(path) == graph
    assert time.perf_counter() - start < 10  # 1.5 s on an idle core
    assert path.stat().st_size < 5_000_000


def test_the_archive_opens_in_memory(tmp_path):
    """An ordinary zip program finds nothing to complain about."""
    content = saved(random_graph(0, nodes=2), tmp_path).read_bytes()
    assert zipfile.ZipFile(io.BytesIO(content)).testzip() is None


def test_prune_takes_numpy_numbers_and_refuses_words():
    graph = random_graph(nodes=6)
    assert graph.prune(top=np.int64(3)) == graph.prune(top=3)
    assert graph.prune(top=np.float64(0.5)) == graph.prune(top=0.5)
    with pytest.raises(ExplgraphError, match="min_reliability is 'high'; expected a number"):
        graph.prune(min_reliability="high")
