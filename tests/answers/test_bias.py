"""Biases planted by hand, in a world of blobs whose effects are known, and wrong inputs."""

import json
from dataclasses import replace

import blobs
import damaged
import numpy as np
import pytest
import readers
import torch

import explgraph
from explgraph import ExplgraphError, find_bias
from explgraph.answers.evidence import node_evidence
from explgraph.answers.judged import Judged
from explgraph.answers.relations import Bias

PARTS = {name: f"{name} blob" for name in blobs.NAMES}


@pytest.fixture(scope="module")
def model():
    return blobs.Net().eval()


@pytest.fixture(scope="module")
def biased():
    """Images in which red and green go together, as in what the network was "trained" on."""
    return blobs.world(300, seed=0, agreement=0.92, together=True)


@pytest.fixture(scope="module")
def graph(model, biased):
    return explgraph.mine(model, biased[0][:150], ["cells"], seed=0)


@pytest.fixture(scope="module")
def bias(graph, model, biased):
    images, labels, landmarks = biased
    return find_bias(model, graph, images, labels, landmarks=landmarks, parts=PARTS, radius=6)


def relation(bias, target, source):
    (found,) = [r for r in bias.relations if (r.target, r.source) == (target, source)]
    return found


def test_the_planted_relation_is_found_and_nothing_else(bias):
    (found,) = bias.suspicious
    assert bias.relations[0] is found
    assert (found.target, found.source, found.kind) == ("red", "green", "unexpected")
    assert found.q <= 0.05
    assert len(bias.relations) == 6
    # the reverse goes together in the data as well, but the network doesn't use it
    back = relation(bias, "green", "red")
    assert back.cooccurrence == found.cooccurrence > 0.7
    assert back.kind == ""


def test_effects_are_the_head_s_weights(bias):
    for t, target in enumerate(blobs.NAMES):
        for s, source in enumerate(blobs.NAMES):
            known = blobs.HEAD[t, s]
            if t == s:
                assert bias.own_effects[t] == pytest.approx(known, abs=0.4)
            else:
                found = relation(bias, target, source)
                assert found.effect == pytest.approx(known, abs=0.4)
                usual = np.sqrt((bias.own_effects**2).mean())
                assert found.strength == pytest.approx(found.effect / usual)


def test_evidence_sits_where_the_blobs_are(bias, graph):
    found = relation(bias, "red", "green")
    assert found.at_source == pytest.approx(1, abs=0.1)
    assert found.at_target == pytest.approx(0.1, abs=0.15)
    np.testing.assert_allclose(bias.own_at_part, 1, atol=0.1)
    (node, effect), *_ = bias.where("red", "green")
    assert graph.nx.nodes[node]["filter"] == 1
    # whatever of a blob lies in its node's place, it moves outputs as the head's weights say
    (same, own), *_ = bias.where("green", "green")
    assert same == node
    assert effect / own == pytest.approx(blobs.HEAD[0, 1] / blobs.HEAD[1, 1], rel=0.1)
    total = sum(part for _, part in bias.where("red", "green", most=99))
    assert 0.5 * found.effect < total < found.effect


def test_similarity_is_the_cosine_of_contrasts(bias, graph, model, biased):
    images, labels, _ = biased
    values = node_evidence(model, graph, images, [0, 1, 2]).values
    patterns = [
        values[labels[name], k].mean(0) - values[~labels[name], k].mean(0)
        for k, name in enumerate(blobs.NAMES)
    ]
    expected = patterns[0] @ patterns[1] / np.linalg.norm(patterns[0]) / np.linalg.norm(patterns[1])
    assert relation(bias, "red", "green").similarity == pytest.approx(expected, rel=1e-4)
    assert relation(bias, "green", "red").similarity == pytest.approx(expected, rel=1e-4)


def test_images_in_which_it_goes_wrong_are_named_without_labels(bias, model):
    images, labels, _ = blobs.world(400, seed=5, together=True)
    found = bias.judge(model, images)
    assert found.biased == ("red",)
    truth = np.stack([labels[name] for name in blobs.NAMES], axis=1)
    wrong = (found.outputs > 0) != truth
    assert wrong[:, 0].mean() > 0.08
    risk = found.risk[:, 0]
    order = np.argsort(-risk)
    assert wrong[order[: wrong[:, 0].sum()], 0].mean() > 0.9
    assert ((found.corrected[:, 0] > 0) == truth[:, 0]).mean() > 0.98
    worst = found.worst(5)
    assert [w.image for w in worst] == [
        found.names[n] for n in np.argsort(-risk, kind="stable")[:5]
    ]
    assert {w.attribute for w in worst} == {"red"}
    for w in worst:
        n = found.names.index(w.image)
        assert w.answer == (found.outputs[n, 0] > 0) != labels["red"][n]
        assert w.risk == pytest.approx(risk[n])


def test_an_image_is_at_risk_where_any_answer_about_a_biased_attribute_is():
    judged = Judged(
        names=("a", "b"),
        attributes=("red", "green", "blue"),
        biased=("blue", "red"),
        outputs=np.ones((2, 3)),
        corrected=np.ones((2, 3)),
        risk=np.array([[0.5, 0.9, 0.2], [0.0, 0.9, 0.1]]),
    )
    np.testing.assert_allclose(judged.image_risk, [1 - 0.5 * 0.8, 0.1])
    np.testing.assert_allclose(replace(judged, biased=()).image_risk, 0)


def test_judged_are_the_given_images(bias, biased, model):
    again = bias.judge(model, biased[0])
    assert bias.judged.names == again.names
    np.testing.assert_allclose(bias.judged.risk, again.risk, atol=1e-4)


def test_what_is_expected_is_no_bias_but_missing_where_it_is_not(graph, model, biased):
    images, labels, _ = biased
    expected = {("red", "green"): 1, ("green", "blue"): 1, ("blue", "red"): 0}
    bias = find_bias(model, graph, images, labels, expected=expected)
    (found,) = bias.suspicious
    assert (found.target, found.source, found.kind) == ("green", "blue", "missing")
    assert relation(bias, "red", "green").expected == 1
    assert bias.judged.biased == ()
    assert bias.judged.worst() == []
    opposite = find_bias(model, graph, images, labels, expected={("red", "green"): -1})
    assert opposite.relations[0].kind == "missing"


def test_the_margin_decides_what_is_too_small(graph, model, biased):
    images, labels, _ = biased
    assert not find_bias(model, graph, images, labels, margin=0.9).suspicious
    strict = find_bias(model, graph, images, labels, margin=0)
    assert ("red", "green") in {(r.target, r.source) for r in strict.suspicious}


def test_attributes_that_were_not_learnt_are_warned_of(biased):
    images, labels, _ = biased
    model = blobs.Net().eval()
    with torch.no_grad():
        model.head.weight[2] = model.head.weight[1] / 100
    graph = explgraph.mine(model, images[:150], ["cells"], seed=0)
    with pytest.warns(explgraph.ExplgraphWarning, match="hardly tells blue at all"):
        find_bias(model, graph, images, labels)


def test_columns_of_outputs_may_be_named(graph, model, biased):
    images, labels, _ = biased
    some = {name: labels[name] for name in ("green", "red")}
    bias = find_bias(model, graph, images, some, columns={"red": 0, "green": 1})
    (found,) = bias.suspicious
    assert (found.target, found.source) == ("red", "green")


def test_the_same_seed_gives_the_same(bias, graph, model, biased):
    images, labels, landmarks = biased
    again = find_bias(model, graph, images, labels, landmarks=landmarks, parts=PARTS, radius=6)
    assert again.relations == bias.relations


def test_markdown_has_a_row_for_each_relation(bias):
    lines = bias.markdown(3).splitlines()
    assert len(lines) == 5
    assert lines[2].startswith("| red | green | +0.")
    assert lines[2].endswith("| unexpected |")
    assert len({line.count("|") for line in lines}) == 1


def test_without_landmarks_places_are_not_told(graph, model, biased):
    bias = find_bias(model, graph, *biased[:2])
    assert np.isnan([bias.relations[0].at_source, bias.relations[0].at_target]).all()
    assert bias.markdown().splitlines()[2].endswith("|  |  | unexpected |")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"attributes": {"red": [1, 0]}}, "attributes must be at least two, got 1"),
        ({"attributes": ["red", "round"]}, "attributes must be a mapping of names .* got list"),
        ({"red": np.ones(300, bool)}, "attribute 'red' doesn't vary: it is the same in all 300"),
        ({"red": np.ones((300, 2), bool)}, r"'red' must be \(N,\) of true and false.*\(300, 2\)"),
        ({"red": np.full(300, 0.5)}, "'red' must be .* got float64"),
        ({"green": [True, False]}, "'green' has 2 labels, those before it 300"),
        ({"columns": {"red": 0, "green": 1}}, "columns lacks the column of attribute 'blue'"),
        ({"columns": {"rad": 0}}, "columns names 'rad', which is no attribute; did you mean 'red'"),
        ({"columns": {"red": 0, "green": 1, "blue": 3}}, "columns names column 3"),
        ({"expected": {("red", "gren"): 1}}, "expected names 'gren'.*did you mean 'green'"),
        ({"expected": {("red", "red"): 1}}, r"two different attributes, got \('red', 'red'\)"),
        ({"expected": {("red", "green"): 2}}, "expected of 'red' from 'green' must be 1, -1 or 0"),
        ({"parts": {"red": "red blob"}}, "defines 'red', but landmarks has no such part; it has"),
        ({"parts": {"reed": "a"}}, "parts names 'reed'"),
        (
            {"parts": {"red": "a"}, "landmarks": {"a": np.zeros((3, 2))}},
            r"landmarks of 'a' must be \(300, 2\).*got \(3, 2\)",
        ),
        ({"margin": -1}, "margin must be from 0 to inf, got -1"),
        ({"fdr": 2}, "fdr must be from 0 to 1, got 2"),
        ({"permutations": 0}, "permutations must be from 1"),
        ({"permutations": 9.5}, "permutations must be a whole number, got 9.5"),
        ({"columns": {"red": 0, "green": 1, "blue": "c"}}, "columns of 'blue' must be a column"),
        ({"radius": -1}, "radius must be from 0"),
        ({"layer": "stage4"}, "no layer 'stage4'"),
    ],
)
def test_wrong_inputs(graph, model, biased, changed, message):
    images, labels, _ = biased
    changed = dict(changed)
    attributes = changed.pop("attributes", dict(labels))
    for name in blobs.NAMES:
        if name in changed:
            attributes[name] = changed.pop(name)
    with pytest.raises(ExplgraphError, match=message):
        find_bias(model, graph, images, attributes, **changed)


@pytest.mark.filterwarnings("ignore:no filter follows:explgraph.ExplgraphWarning")
def test_more_wrong_inputs(graph, model, biased):
    images, labels, _ = biased
    with pytest.raises(ExplgraphError, match="hold 300 labels each, but there are 299 images"):
        find_bias(model, graph, images[:299], labels)
    two = {name: labels[name] for name in ("red", "green")}
    with pytest.raises(ExplgraphError, match="3 outputs for 2 attributes; say which is whose"):
        find_bias(model, graph, images, two)
    same = {**labels, "blue": labels["red"]}
    with pytest.raises(ExplgraphError, match="'red' follows from blue in all images"):
        find_bias(model, graph, images, same)
    other = blobs.Net().eval()
    with torch.no_grad():
        other.head.bias += 1
    with pytest.raises(ExplgraphError, match="weights are not those"):
        find_bias(other, graph, images, labels)
    with pytest.raises(ExplgraphError, match="found in a model with other weights"):
        find_bias(model, graph, images, labels).judge(other, images)
    with pytest.raises(ExplgraphError, match="64 x 64 px, expected 32 x 32"):
        find_bias(model, graph, images, labels).judge(model, torch.rand(2, 3, 64, 64))
    silent = blobs.Net().eval()
    with torch.no_grad():
        silent.head.weight.zero_()
    mined = explgraph.mine(silent, images, ["cells"], seed=0)
    with pytest.raises(ExplgraphError, match="output of 'red' is the same for all images"):
        find_bias(silent, mined, images, labels)
    with pytest.raises(ExplgraphError, match="where names 'pink'"):
        find_bias(model, graph, images, labels).where("pink", "red")


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_answers_go_to_a_file_and_back(bias, tmp_path, suffix):
    readers.needed(suffix)
    bias.judged.write(tmp_path / f"answers{suffix}")
    again = Judged.read(tmp_path / f"answers{suffix}")
    for name in ("names", "attributes", "biased"):
        assert getattr(again, name) == getattr(bias.judged, name)
    for name in ("outputs", "corrected", "risk"):
        np.testing.assert_array_equal(getattr(again, name), getattr(bias.judged, name))
    assert again.worst() == bias.judged.worst()
    table = readers.frame(tmp_path / f"answers{suffix}")
    assert set(table[table["biased"]]["attribute"]) == set(bias.judged.biased)
    if suffix == ".json":
        return
    bias.write(tmp_path / f"relations{suffix}")
    table = readers.frame(tmp_path / f"relations{suffix}")
    assert list(table["target"]) == [r.target for r in bias.relations]
    np.testing.assert_allclose(table["strength"], [r.strength for r in bias.relations], rtol=1e-12)


def test_what_was_found_is_written_for_people_and_programs(bias, tmp_path):
    for suffix in ("md", "json"):
        bias.write(tmp_path / f"bias.{suffix}")
    assert (tmp_path / "bias.md").read_text() == bias.report()
    assert bias.report().startswith(bias.markdown())
    worst = bias.judged.worst()[0]
    assert f"| {worst.image} | {worst.attribute} |" in bias.report()
    content = json.loads((tmp_path / "bias.json").read_text())
    assert content["relations"][0]["q"] == bias.relations[0].q
    assert len(content["answers"]) == 300
    with pytest.raises(ExplgraphError, match=r"suffix '\.txt'; expected one of \.csv.*\.md"):
        bias.write(tmp_path / "bias.txt")


def test_files_that_hold_no_answers(bias, tmp_path):
    file = tmp_path / "answers.csv"
    bias.judged.write(file)
    head, first, *others = file.read_text().splitlines()
    file.write_text("\n".join([head, first.rpartition(",")[0] + ",2", *others]))
    with pytest.raises(ExplgraphError, match="a risk that isn't from 0 to 1"):
        Judged.read(file)


def equal(bias, other):
    arrays = ("own_effects", "own_at_part", "node_effects")
    return (
        (bias.attributes, bias.nodes) == (other.attributes, other.nodes)
        and repr(bias.relations) == repr(other.relations)  # NaN are alike
        and all(np.array_equal(getattr(bias, n), getattr(other, n), equal_nan=True) for n in arrays)
        and bias.judged.names == other.judged.names
        and bias.judged.worst(99) == other.judged.worst(99)
    )


@pytest.mark.parametrize("marked", [True, False])
def test_a_loaded_bias_gives_the_same_answers(bias, model, biased, graph, tmp_path, marked):
    images, labels, _ = biased
    found = bias if marked else find_bias(model, graph, images, labels)
    found.save(tmp_path / "x")
    again = Bias.load(tmp_path / "x")
    assert equal(again, found)
    assert again.report() == found.report()
    assert again.where("red", "green") == found.where("red", "green")
    new = blobs.world(20, seed=3)[0]
    np.testing.assert_array_equal(again.judge(model, new).risk, found.judge(model, new).risk)


def test_a_damaged_bias_is_refused(bias, tmp_path):
    bias.save(tmp_path / "x")
    damaged.refused_or_the_same(tmp_path / "x", Bias.load, lambda found: equal(found, bias))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, _: c["attributes"].append("pink"), "outputs and image_size are"),
        (lambda c, _: c["relations"].pop(), "relations are not those of each two attributes"),
        (lambda c, _: c["relations"][0].update(q=None), "a relation's q is None"),
        (lambda c, _: c["relations"][0].update(kind="odd"), "kind is 'odd'"),
        (lambda c, _: c["relations"][0].pop("p"), "a relation has target, source"),
        (lambda c, _: c["judged"].update(biased=["pink"]), "biased names what is no attribute"),
        (lambda c, _: c["titles"].append("eye"), "1 titles for 3 parts"),
        (lambda c, _: c.update(model=3), "a name is no text"),
        (lambda _, a: a["risk"].fill(2), "risk holds a number that is not from 0 to 1"),
        (lambda _, a: a["weights"].fill(np.nan), "weights holds a number"),
        (lambda _, a: a.update(more=a["weights"]), "arrays that it shouldn't: more"),
    ],
)
def test_a_wrong_bias_is_refused(bias, tmp_path, change, message):
    bias.save(tmp_path / "x")
    damaged.edited(tmp_path / "x", change)
    with pytest.raises(ExplgraphError, match=f"holds no valid bias: .*{message}"):
        Bias.load(tmp_path / "x")
