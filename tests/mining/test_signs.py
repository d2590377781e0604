"""Layers without a ReLU: what is below zero counts as nothing, or makes filters of its own."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch
from small_network import network, pictures
from torch import nn

import explgraph
from explgraph.activations.recording import record
from explgraph.cli.entry import main, parser
from explgraph.cli.inputs import read_by_layer
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.explaining.intervene import run
from explgraph.network.geometry import measure_layers

pytestmark = pytest.mark.usefixtures("one_thread")


# which of the upper filters fire below zero
SIGNS = torch.tensor([1.0, -1.0] * 4)


class Signed(nn.Module):
    """The small network, of which every second upper filter fires below zero: parts show there.

    Parameters
    ----------
    spread : bool
        Give both signs as 16 maps above zero in place of 8 of both: what mining makes of these.
    """

    def __init__(self, *, spread: bool) -> None:
        super().__init__()
        self.inner, self.spread = network(), spread
        self.lower, self.signed = nn.Identity(), nn.Identity()
        self.register_buffer("signs", SIGNS[:, None, None])

    def forward(self, x):
        lower = self.lower(self.inner.relu(self.inner.lower(x)))
        maps = self.inner.upper(lower).relu() * self.signs
        if self.spread:
            above, below = self.signed(torch.cat([maps.relu(), (-maps).relu()], 1)).chunk(2, 1)
            maps = above - below
        else:
            maps = self.signed(maps)
        return self.inner.head((maps * self.signs).mean((2, 3)))


def signed(*, spread=False):
    return Signed(spread=spread).eval()


def mined(model, signs, n=80):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "no filter follows|filters hardly", ExplgraphWarning)
        return explgraph.mine(model, pictures(n), ["lower", "signed"], signs=signs, seed=0)


@pytest.fixture(scope="module")
def graph():
    return mined(signed(), {"signed": "both"})


@pytest.fixture(scope="module")
def spread():
    """The graph of the network whose module gives both signs by itself."""
    return mined(signed(spread=True), "positive")


def named(node):
    """Name a node of `spread` as in `graph`."""
    layer, number, pattern = node.split("/")
    if layer == "signed" and int(number) >= 8:
        number = f"{int(number) - 8}-"
    return f"{layer}/{number}/{pattern}"


def test_both_signs_are_recorded_side_by_side() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 4, 4)).eval()
    images = torch.randn(3, 3, 24, 24)
    with torch.no_grad():
        values = model(images)
    above = record(model, images, ["0"])
    torch.testing.assert_close(above.maps[0], values.relu())
    both = record(model, images, ["0"], signs="both")
    torch.testing.assert_close(both.maps[0], torch.cat([values.relu(), (-values).relu()], 1))
    layer = both.layers[0]
    assert (layer.channels, layer.signs) == (10, "both")
    assert [layer.filter_name(k) for k in (0, 4, 5, 9)] == ["0", "4", "0-", "4-"]
    assert layer.offset == above.layers[0].offset
    assert type(layer).from_dict(layer.as_dict()) == layer
    assert "signs" not in above.layers[0].as_dict()  # as files had it before


def test_both_signs_are_mined_as_if_the_module_gave_them(graph, spread) -> None:
    assert tuple(map(named, spread.node_ids)) == graph.node_ids
    assert any("-/" in node for node in graph.node_ids)
    for node, values in spread.nx.nodes.items():
        assert graph.nx.nodes[named(node)] == values
    for a, b, values in spread.nx.edges(data=True):
        assert graph.nx.edges[named(a), named(b)] == values
    # filters whose parts show below zero have no nodes above, and the other way round
    expected = {f"{k}-" if SIGNS[k] < 0 else str(k) for k in range(8)}
    assert {node.split("/")[1] for node in graph.nodes_of("signed")} <= expected
    images = pictures(20, seed=9)
    np.testing.assert_array_equal(
        graph.parse(signed(), images).positions,
        spread.parse(signed(spread=True), images).positions,
    )


def test_by_default_what_is_below_zero_counts_as_nothing() -> None:
    plain = mined(signed(), "positive")
    filters = {plain.nx.nodes[v]["filter"] for v in plain.nodes_of("signed")}
    assert filters == {k for k in range(8) if SIGNS[k] > 0}


def test_changed_maps_of_both_signs_are_written_back() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Flatten(), nn.Linear(144, 2)).eval()
    images = torch.randn(3, 3, 24, 24)
    layers = measure_layers(model, ["0"], (24, 24), signs="both")
    with torch.no_grad():
        values = model[0](images)

    def scores(maps):
        with torch.no_grad():
            return model[2](maps.flatten(1))

    torch.testing.assert_close(run(model, images, layers).scores, scores(values))
    without = values.clone()
    without[:, 1] = values[:, 1].relu()  # the filter "1-" taken away
    off = torch.ones(8)
    off[5] = 0
    done = run(
        model, images, layers, {"0": lambda m: m - (1 - off)[:, None, None] * m.relu()},
        gradients=True,
    )  # fmt: skip
    torch.testing.assert_close(done.scores.detach(), scores(without))
    (gradient,) = torch.autograd.grad(done.scores[:, 0].sum(), done.maps["0"])
    weight = model[2].weight[0].detach().view(4, 6, 6)
    expected = torch.cat([weight * (without > 0), -weight * (without < 0)], 1)
    torch.testing.assert_close(gradient, expected)


def test_answers_are_those_of_the_module_that_gives_both(graph, spread) -> None:
    images, classes = pictures(12, seed=5), {"a": 0, "b": 2}
    one = explgraph.edge_effects(signed(), graph, images, classes=classes)
    other = explgraph.edge_effects(signed(spread=True), spread, images, classes=classes)
    for a, b, values in other.nx.edges(data=True):
        found = one.nx.edges[named(a), named(b)]["effect"]
        assert found == pytest.approx(values["effect"], abs=1e-5)
    for node, values in other.nx.nodes.items():
        for name in ("effect_on_a", "effect_on_b"):
            found = one.nx.nodes[named(node)][name]
            assert found == pytest.approx(values[name], abs=1e-5)
    below = [v for v in graph.nodes_of("signed") if "-/" in v]
    assert any(abs(one.nx.nodes[v]["effect_on_a"]) > 1e-3 for v in below)
    ones, others = (
        explgraph.ablate(model, of, images, nodes)
        for model, of, nodes in (
            (signed(), graph, below[:2]),
            (signed(spread=True), spread, [v for v in spread.node_ids if named(v) in below[:2]]),
        )
    )
    np.testing.assert_allclose(ones.change, others.change, atol=1e-5)


def test_graphs_of_both_signs_are_saved_and_checked(graph, tmp_path) -> None:
    graph.save(tmp_path / "g.explgraph")
    again = explgraph.load(tmp_path / "g.explgraph")
    assert again.layers == graph.layers
    assert again.node_ids == graph.node_ids
    model, images = signed(), pictures(6, seed=3)
    np.testing.assert_array_equal(
        again.parse(model, images).positions, graph.parse(model, images).positions
    )
    record_ = next(r for r in again.nx.graph["layers"] if r["name"] == "signed")
    record_["signs"] = "most"
    with pytest.raises(ExplgraphError, match="signs must be positive or both, got 'most'"):
        again.validate()
    record_ |= {"signs": "both", "channels": 15}
    with pytest.raises(ExplgraphError, match="an even number of filters, got 15"):
        again.validate()
    del record_["signs"]
    record_["channels"] = 16
    with pytest.raises(ExplgraphError, match=r"its id is 'signed/\d-/0'; expected 'signed/\d+/0'"):
        again.validate()


def test_drawings_and_pages_name_the_sign(graph, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    node = next(v for v in graph.nodes_of("signed") if "-/" in v)
    name = node.split("/")[1]
    graph.draw(tmp_path / "f.svg", what="filter", filter=f"signed/{name}")
    assert f"Filter {name} of signed" in (tmp_path / "f.svg").read_text()
    with pytest.raises(ExplgraphError, match="has no filter 8; expected 0 to 7-"):
        graph.draw(tmp_path / "f.svg", what="filter", filter="signed/8")
    graph.write(tmp_path / "g.dot")
    assert re.search(rf'label="{name}/0"', (tmp_path / "g.dot").read_text())
    graph.write(tmp_path / "g.html")
    assert '"signs":"both"' in (tmp_path / "g.html").read_text().replace(" ", "")


@pytest.mark.parametrize(
    ("signs", "message"),
    [
        ("negative", "signs must be 'positive' or 'both', got 'negative'"),
        ({"x": "both"}, "signs names 'x', which isn't among the layers lower, signed"),
        ({"lower": 1}, "signs must be 'positive' or 'both', got 1"),
        (None, "or these by layer, got NoneType"),
    ],
)
def test_signs_that_are_none(signs, message) -> None:
    with pytest.raises(ExplgraphError, match=message):
        explgraph.mine(signed(), pictures(4), ["lower", "signed"], signs=signs)


@pytest.mark.python311
def test_a_store_keeps_what_it_was_recorded_with(tmp_path) -> None:
    images, path = pictures(6), str(tmp_path / "s.zarr")
    store = record(signed(), images, ["signed"], store=path, signs="both")
    assert store.layers[0].signs == "both"
    expected = record(signed(), images, ["signed"], signs="both").maps[0]
    _, maps = next(iter(store.blocks(0)))
    torch.testing.assert_close(maps, expected, rtol=2e-3, atol=1e-3)  # float16
    with pytest.raises(ExplgraphError, match=r"s\.zarr"):
        record(signed(), images, ["signed"], store=path)
    with pytest.raises(ExplgraphError, match="signs is for recording"):
        explgraph.mine(store=path, signs="both")


def test_the_command_line_states_signs(capsys) -> None:
    command = ["mine", "--images", "i", "--model", "m:m", "--layers", "a,b", "--out", "o"]

    def stated(*given: str) -> dict[str, str]:
        return read_by_layer(parser().parse_args([*command, *given]), "signs")

    assert stated() == {}
    assert stated("--signs", "both", "--signs", "b=positive") == {"a": "both", "b": "positive"}
    with pytest.raises(ExplgraphError, match="--signs is given twice for all layers"):
        stated("--signs", "both", "--signs", "positive")
    with pytest.raises(SystemExit):
        main(["mine", "--store", "s", "--out", "o", "--signs", "both"])
    assert "--signs is for recording" in capsys.readouterr().err
