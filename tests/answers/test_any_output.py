"""Answers about models that give anything, beside those about the same model that gives scores."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from small_network import TwoLayers, graph_of, network, own_places, pictures
from torch import Tensor

import explgraph
from explgraph.answers.ablation import ablate, ablate_parts
from explgraph.answers.decision_tree import DecisionTree
from explgraph.answers.effects import check_effects, edge_effects
from explgraph.answers.evidence import model_outputs, node_evidence, output_count
from explgraph.answers.rationales import rationales
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.explanatory_graph import ExplanatoryGraph

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass
class Found:
    """As detectors and others give objects."""

    boxes: Tensor
    heads: dict[str, Tensor]


class Several(TwoLayers):
    """The same network with two heads, in an object."""

    def forward(self, x: Tensor) -> Any:
        scores = super().forward(x)
        return Found(x[:, 0, :4, :2], {"age": scores[:, :2], "kind": scores})


class Segmenter(TwoLayers):
    """The same network; its head is applied to every place."""

    def forward(self, x: Tensor) -> Any:
        upper = self.relu(self.upper(self.relu(self.lower(x))))
        return {"out": self.head(upper.movedim(1, 3)).movedim(3, 1), "lower": upper}


def kind(out: Any) -> Tensor:
    return out.heads["kind"]


def everywhere(out: Any) -> Tensor:
    """The mean of what linear heads give is what they give for the mean."""
    return out["out"].mean((2, 3))


def masked(out: Any) -> Tensor:
    """Mean logit of each class over its mask: where it is above its mean."""
    logits = out["out"]
    mask = (logits > logits.mean((2, 3), keepdim=True)).to(logits)
    return (logits * mask).sum((2, 3)) / mask.sum((2, 3))


@pytest.fixture(scope="module")
def setting() -> tuple[TwoLayers, ExplanatoryGraph, Tensor]:
    model = network()
    return model, graph_of(model), pictures(12)


def other(kind: type[TwoLayers]) -> TwoLayers:
    """The network of all tests here, giving something else."""
    return kind(positive=True).eval()


def arrays(found: Any) -> list[np.ndarray[Any, Any]]:
    """Give all arrays that a result holds."""
    values = found._asdict() if hasattr(found, "_asdict") else vars(found)
    return [v for v in values.values() if isinstance(v, np.ndarray) and v.dtype.kind == "f"]


def assert_alike(found: Any, expected: Any) -> None:
    pairs = list(zip(arrays(found), arrays(expected), strict=True))
    assert pairs
    for one, usual in pairs:
        np.testing.assert_allclose(one, usual, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("form", "outputs"), [(Several, kind), (Segmenter, everywhere)])
def test_every_answer_is_that_about_the_model_that_gives_scores(
    form: type[TwoLayers], outputs: Any, setting: Any
) -> None:
    model, graph, images = setting
    given, options = other(form), {"outputs": outputs}
    assert_alike(
        rationales(given, graph, images, 1, **options), rationales(model, graph, images, 1)
    )
    assert_alike(
        node_evidence(given, graph, images, [2, 0], **options),
        node_evidence(model, graph, images, [2, 0]),
    )
    nodes = graph.node_ids[:3]
    assert_alike(
        ablate(given, graph, images, nodes, **options), ablate(model, graph, images, nodes)
    )
    assert_alike(ablate_parts(given, graph, images, **options), ablate_parts(model, graph, images))
    effects = edge_effects(given, graph, images, classes={"a": 1}, **options)
    usual = edge_effects(model, graph, images, classes={"a": 1})
    for some, expected in ((effects.nx.nodes, usual.nx.nodes), (effects.nx.edges, usual.nx.edges)):
        name = "effect_on_a" if some is effects.nx.nodes else "effect"
        np.testing.assert_allclose(
            [v[name] for v in some.values()], [v[name] for v in expected.values()], atol=1e-5
        )
    assert_alike(
        check_effects(given, effects, images, edges=5, **options),
        check_effects(model, usual, images, edges=5),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)  # of what parts leave unexplained
        why, so = (
            graph.explain(m, images[:1], 2, **more) for m, more in ((given, options), (model, {}))
        )
    assert [row.part for row in why.rows] == [row.part for row in so.rows]
    np.testing.assert_allclose(why.removal.score, so.removal.score, rtol=1e-4)
    near = 1e-4 + 1e-6 * abs(so.carried)  # the residual is what rounding leaves
    np.testing.assert_allclose([*why.here[1:]], [*so.here[1:]], rtol=1e-3, atol=near)
    tree = DecisionTree.fit(given, graph, images, 1, positive=[True] * 6 + [False] * 6, **options)
    again = DecisionTree.fit(model, graph, images, 1, positive=[True] * 6 + [False] * 6)
    assert [mode.images for mode in tree.modes] == [mode.images for mode in again.modes]
    assert tree.explain(images[0]).score == pytest.approx(again.explain(images[0]).score, rel=1e-4)
    assert output_count(given, images, **options) == 3
    size = graph.image_size
    np.testing.assert_allclose(
        model_outputs(given, images, [1], image_size=size, **options)[1],
        model_outputs(model, images, [1], image_size=size)[1],
        rtol=1e-5,
    )


def test_bias_by_outputs_and_columns(setting: Any) -> None:
    model, graph, _ = setting
    images, given = pictures(60), other(Several)
    with torch.no_grad():
        scores = model(images)
    generator = torch.Generator().manual_seed(0)
    noisy = scores + scores.std(0) * torch.randn(scores.shape, generator=generator)
    labels = {n: (noisy[:, k] > noisy[:, k].median()).numpy() for n, k in (("a", 2), ("b", 0))}
    columns = {"a": 2, "b": 0}
    usual = {"columns": columns, "permutations": 99}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)
        bias = explgraph.find_bias(given, graph, images, labels, outputs=kind, **usual)
        expected = explgraph.find_bias(model, graph, images, labels, **usual)
    assert_alike(bias, expected)
    judged, usually = bias.judge(given, images[:5], outputs=kind), expected.judge(model, images[:5])
    assert_alike(judged, usually)
    with pytest.raises(ExplgraphError, match=r"found with outputs=, a function .* the same again"):
        bias.judge(given, images[:5])
    with pytest.raises(ExplgraphError, match="found without outputs="):
        expected.judge(model, images[:5], outputs=kind)
    with pytest.raises(ExplgraphError, match=r"outputs must be a function .* got dict; .*columns="):
        explgraph.find_bias(given, graph, images, labels, outputs=columns)
    with pytest.raises(ExplgraphError, match="columns must map each attribute to a column"):
        explgraph.find_bias(model, graph, images, labels, columns=[0, 1])


def test_bias_remembers_that_it_was_found_with_outputs(setting: Any, tmp_path: Any) -> None:
    _, graph, _ = setting
    images, given = pictures(40), other(Several)
    labels = {n: (images[:, k].mean((1, 2)) > 0.5).numpy() for k, n in enumerate("ab")}
    labels = {n: v if 0 < v.sum() < 40 else np.arange(40) % (3 + k) < 1
              for k, (n, v) in enumerate(labels.items())}  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)
        bias = explgraph.find_bias(
            given, graph, images, labels,
            columns={"a": 0, "b": 1}, outputs=kind, permutations=99,
        )  # fmt: skip
    bias.save(tmp_path / "a.bias")
    again = type(bias).load(tmp_path / "a.bias")
    with pytest.raises(ExplgraphError, match="found with outputs="):
        again.judge(given, images[:2])
    assert_alike(
        again.judge(given, images[:2], outputs=kind), bias.judge(given, images[:2], outputs=kind)
    )


def test_a_segmenter_s_mask_decides_which_units_count(setting: Any) -> None:
    """Contributions against the formula: weight times activation over the class's mask."""
    model, graph, images = setting
    found = rationales(other(Segmenter), graph, images, 1, layer="upper", outputs=masked)
    with torch.no_grad():
        maps = model.upper(model.lower(images).relu()).relu().double()
        head = model.head.weight[1].double()
        logits = torch.einsum("cf,nfhw->nchw", model.head.weight.double(), maps)
        logits += model.head.bias.double()[:, None, None]
    mask = logits[:, 1] > logits[:, 1].mean((1, 2), keepdim=True)
    share = mask / mask.sum((1, 2))[:, None, None]
    np.testing.assert_allclose(found.scores, (logits[:, 1] * share).sum((1, 2)), atol=1e-4)
    for n, places in enumerate(own_places(graph, model, images)):
        for v, node in enumerate(found.nodes):
            own = graph.nx.nodes[node]["filter"]
            expected = (places[node] * maps[n, own] * share[n]).sum() * head[own]
            assert found.contributions[n, v] == pytest.approx(float(expected), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    "cut",
    [
        lambda out: kind(out).detach(),
        lambda out: torch.tensor(kind(out).tolist()),
        lambda out: torch.zeros(len(out.boxes), 3),
    ],
)
def test_scores_without_gradients_are_told(cut: Any, setting: Any) -> None:
    _, graph, images = setting
    given = other(Several)
    for ask in (
        lambda: rationales(given, graph, images, 1, outputs=cut),
        lambda: edge_effects(given, graph, images, outputs=cut),
        lambda: graph.explain(given, images[:1], 1, outputs=cut),
    ):
        with pytest.raises(ExplgraphError, match="no gradient leads from the scores that outputs"):
            ask()
    ablate(given, graph, images, graph.node_ids[:1], outputs=cut)  # needs none


def test_functions_that_mix_images_are_told(setting: Any) -> None:
    model, graph, images = setting
    with pytest.warns(ExplgraphWarning, match="when a second one is beside it, so that images are"):
        ablate(model, graph, images, graph.node_ids[:1], outputs=lambda out: out.softmax(0))
    for mixing in (lambda out: out.softmax(0), lambda out: out - out.mean(0)):
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            graph.explain(model, images[0], 0, outputs=mixing)  # where there is no second one
        assert any("when a second one is beside it" in str(one.message) for one in given)


def test_without_outputs_the_line_is_told(setting: Any) -> None:
    _, graph, images = setting
    line = r'outputs=lambda out: out\["out"\]\.mean\(\(2, 3\)\)'
    given = other(Segmenter)
    for ask in (
        lambda: rationales(given, graph, images, 1),
        lambda: ablate(given, graph, images, graph.node_ids[:1]),
        lambda: explgraph.find_bias(given, graph, images, {"a": [0, 1] * 6, "b": [0, 0, 1, 1] * 3}),
    ):
        with pytest.raises(ExplgraphError, match=line):
            ask()
