"""Circuits of creatures: what was planted, what is measured, what is refused."""

import base64
import csv
import dataclasses
import io
import json
import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import explgraph
from explgraph import ExplgraphError, ExplgraphWarning, creatures
from explgraph.circuits.judging import Judge
from explgraph.circuits.trials import Asked, Trials
from explgraph.cli.entry import main
from explgraph.explaining.replaced import StandIns
from explgraph.network.outputs import Scorer
from explgraph.views.pictures import patch, patch_side

RUNNING = {"scorer": Scorer(), "batch_size": 32, "device": "cpu"}


@pytest.fixture(scope="module")
def world():
    """A graph of creatures, some of its nodes, and creatures that were not mined."""
    model = creatures.network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)
        graph = explgraph.mine(model, creatures.draw(80, seed=1).tensor(), ["stage4"], seed=0)
    drawn = creatures.draw(64, seed=2)
    return model, graph, drawn, drawn.tensor()


@pytest.fixture(scope="module")
def horns(world):
    model, graph, drawn, pictures = world
    shown = pictures[drawn.attributes["horns"]]
    return graph.circuit(model, shown, "horns", reference=pictures, seed=3)


def quiet(graph, *arguments, **options):
    """Find a circuit without minding doubts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)
        return graph.circuit(*arguments, **options)


def test_horns_are_told_by_few_parts_at_the_horn(world, horns):
    model, graph, drawn, pictures = world
    assert len(horns) <= 3
    assert horns.minimal
    assert horns.reached
    assert not horns.doubts
    assert horns.kept_in_search >= 0.9
    assert horns.by_chance < 0.5 < horns.kept.low
    parse = graph.parse(model, pictures).parts
    column = {part.id: k for k, part in enumerate(graph.parts)}[horns.members[0].id]
    seen = drawn.visible["horn"]
    away = parse.positions[seen, column] - drawn.parts["horn"][seen]
    assert np.median(np.hypot(*away.T)) < 16  # px: a unit of stage4 says no more


def test_the_planted_cue_goes_through_it(world, horns):
    """What its nodes hold is exchanged for what the same creatures have there without a horn."""
    model, graph, _, _ = world
    shown, without = (
        creatures.draw(40, seed=5, fixed={"horns": has}).tensor() for has in (True, False)
    )
    maps = {}
    handle = model.stage4.register_forward_hook(lambda _m, _i, out: maps.update(stage4=out.relu()))
    with torch.no_grad():
        bare = model(without)[:, 3]
    handle.remove()
    there = maps["stage4"]
    layers = list(graph.layers)
    trials = Trials(
        model, graph, layers, [horns.graph.node_ids], shown,
        lambda _layer, _batch: there, "score", **(RUNNING | {"batch_size": 40}),
    )  # fmt: skip
    whole, left = trials.values([Asked(frozenset([0]), away=True)], range(40), [3] * 40)
    through = (whole - left).mean() / (whole - bare.numpy()).mean()
    assert through > 0.5


def test_what_is_measured_holds_on_other_images(world, horns):
    model, graph, _, pictures = world
    drawn = creatures.draw(40, seed=6, fixed={"horns": True}).tensor()
    layers = list(graph.layers)
    stand_ins = StandIns.of("mean", model, graph, layers, pictures, **RUNNING)
    trials = Trials(
        model, graph, layers, [horns.graph.node_ids], drawn, stand_ins, "score", **RUNNING
    )
    (kept,) = Judge(trials, range(40), [3] * 40, 0).kept([Asked(frozenset([0]))])
    assert kept.low <= horns.kept.high
    assert horns.kept.low <= kept.high


def test_behind_the_top_layer_scores_add_up(horns):
    """Mean and linear head: what a circuit keeps is what is lost without it."""
    assert horns.necessity == pytest.approx(horns.kept, abs=1e-4)
    assert sum(m.contribution for m in horns.members) == pytest.approx(
        horns.kept_in_search, abs=1e-4
    )
    assert sum(m.necessity for m in horns.members) == pytest.approx(horns.kept.value, abs=1e-4)
    assert horns.ceiling == pytest.approx(horns.curve[-1].kept)


def test_the_same_seed_gives_the_same_and_halves_are_apart(world, horns):
    model, graph, drawn, pictures = world
    shown = pictures[drawn.attributes["horns"]]
    again = graph.circuit(model, shown, 3, reference=pictures, seed=3, batch_size=7)
    assert [m.id for m in again.members] == [m.id for m in horns.members]
    assert again.kept == pytest.approx(horns.kept, abs=1e-5)
    assert sum(horns.images) == len(shown)
    assert abs(horns.images[0] - horns.images[1]) <= 1


def test_by_nodes_it_is_a_graph_that_keeps_what_it_says(world, tmp_path):
    model, graph, drawn, pictures = world
    shown = pictures[drawn.attributes["horns"]]
    some = [node for part in graph.parts[:4] for node in part.nodes][:60]
    found = quiet(
        graph, model, shown, "horns",
        by="node", candidates=some, keep=0.3, reference=pictures, replacement="resampled",
    )  # fmt: skip
    assert set(found.order) == set(some)
    assert set(found.graph.node_ids) == {member.id for member in found.members} < set(some)
    found.write(tmp_path / "circuit.explgraph")
    stored = explgraph.load(tmp_path / "circuit.explgraph")
    assert stored.node_ids == found.graph.node_ids
    values = dict(stored.nx.nodes(data="necessity"))
    assert values == {member.id: member.necessity for member in found.members}
    assert {"contribution", "necessity"} <= set(stored.to_frame().columns)
    assert len(stored.parse(model, pictures[:3]).scores) == 3
    for name in ("g.html", "g.svg", "g.json"):
        found.graph.write(tmp_path / name)


def test_of_several_classes_each_image_counts_for_its_own(world):
    model, graph, _, pictures = world
    found = quiet(graph, model, pictures, ["beast", "guardian", "dragon"], keep=0.5)
    assert [number for number, _ in found.classes] == [0, 1, 2]
    assert sum(found.images) == len(pictures)
    with torch.no_grad():
        best = model(pictures)[:, :3].amax(1).mean()
    assert found.whole == pytest.approx(float(best), rel=0.3)


def test_accuracy_of_labels_can_be_what_is_kept(world):
    model, graph, drawn, pictures = world
    found = quiet(
        graph, model, pictures, [0, 1, 2],
        measure="accuracy", labels=[int(one) for one in drawn.labels],
        outputs=lambda out: out[:, :3], keep=0.8,
    )  # fmt: skip
    assert found.classes[0][1] == "class 0"  # of other outputs names aren't known
    assert 0.8 < found.whole <= 1
    assert found.kept_in_search >= 0.8
    assert 0 <= found.nothing < found.whole


def test_it_is_doubted_where_a_share_means_little(world):
    """Where wings are seen they are the highest of all 13 outputs in some images only."""
    model, graph, drawn, pictures = world
    shown = pictures[drawn.attributes["wings"]]
    found = quiet(graph, model, shown, "wings", reference=pictures, measure="accuracy", runs=4)
    assert 0 < found.whole - found.nothing < 0.6
    assert found.kept.high - found.kept.low > 1
    assert "how much is kept is hardly known" in found.doubts[-1]


def test_what_can_not_be_kept_is_said_first(world):
    model, graph, drawn, pictures = world
    shown = pictures[drawn.attributes["tuft"]]
    with pytest.warns(ExplgraphWarning, match="can't be kept; the most"):
        found = graph.circuit(
            model, shown, "tuft", candidates=[graph.parts[0].id], reference=pictures
        )
    assert not found.reached
    assert found.kept_in_search < 0.9
    assert "can't be kept" in found.doubts[0]
    assert repr(found).startswith("Circuit, less than the 90% asked for: ")
    assert found.markdown().index("can't be kept") < found.markdown().index("| member |")
    assert np.isnan(found.by_chance)
    assert found.as_dict()["by_chance"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": "hornes"}, "no class 'hornes'; did you mean"),
        ({"classes": []}, "classes is"),
        ({"classes": None}, "classes is None; expected a class's number or name"),
        ({"classes": 1.5}, "class 1\\.5"),
        ({"classes": ["horns", 3]}, "classes is"),
        ({"classes": 13}, "class 13, but the model gives scores for 13 classes, 0 to 12"),
        ({"keep": 0}, "keep is 0; expected a share"),
        ({"keep": 90}, "keep is 90"),
        ({"by": "filter"}, "by is 'filter'"),
        ({"replacement": "noise"}, "replacement is 'noise'"),
        ({"measure": "loss"}, "measure is 'loss'"),
        ({"layers": "stage9"}, "layers names 'stage9'"),
        ({"layers": []}, "layers is empty"),
        ({"candidates": []}, "candidates is empty"),
        ({"candidates": ["wing?"]}, "no node 'wing\\?', and no part"),
        ({"runs": 0}, "runs must be a whole number"),
        ({"labels": [3]}, "labels holds 1 class for 45 images"),
        ({"labels": [4] * 45}, "labels names class 'wings', which isn't among classes"),
        ({"images": slice(0, 19)}, "images holds 19, too few"),
        ({"reference": "same"}, "nothing that a circuit could keep"),
        ({"classes": ["dragon", "bib"], "labels": [2] * 45}, "class 'bib': 0 images of 45 have"),
    ],
)
def test_bad_input_is_refused(world, change, message):
    model, graph, _, pictures = world
    shown = creatures.draw(45, seed=8, fixed={"horns": True}).tensor()
    options = {"classes": "horns", "reference": pictures} | change
    images = shown[options.pop("images", slice(None))]
    if options["reference"] == "same":  # creatures without horns show nothing of them
        images = creatures.draw(45, seed=8, fixed={"horns": False}).tensor()
        options["reference"] = shown
    with pytest.raises(ExplgraphError, match=message):
        graph.circuit(model, images, **options)


def test_files_hold_what_was_found(horns, tmp_path):
    named = dataclasses.replace(
        horns,
        members=(horns.members[0]._replace(title="<b>|horn|\n</b>"), *horns.members[1:]),
        doubts=("a <i>doubt</i>",),
    )
    for suffix in ("html", "md", "json", "csv", "svg", "png", "pdf", "explgraph"):
        named.write(tmp_path / f"circuit.{suffix}")
        assert (tmp_path / f"circuit.{suffix}").stat().st_size > 100
    page = (tmp_path / "circuit.html").read_text()
    assert "<script" not in page
    assert "<b>|horn" not in page
    assert "A &lt;i&gt;doubt" in page
    assert page.count("<circle") == 1
    values = json.loads((tmp_path / "circuit.json").read_text())
    assert values["kept"]["value"] == horns.kept.value
    assert [m["id"] for m in values["members"]] == [m.id for m in horns.members]
    assert values["curve"][-1]["size"] == len(horns.order)
    with (tmp_path / "circuit.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["necessity"]) for row in table] == [m.necessity for m in horns.members]
    report = (tmp_path / "circuit.md").read_text()
    assert r"\|horn\|" in report
    assert f"{horns.kept.value:.0%} ({horns.kept.low:.0%} to {horns.kept.high:.0%})" in report
    assert "&lt;b&gt;" in named._repr_html_()
    with pytest.raises(ExplgraphError, match="suffix"):
        named.write(tmp_path / "circuit.txt")


@pytest.mark.parametrize("by", ["part", "node"])
def test_the_page_shows_patches_of_the_images_that_were_mined(world, horns, by, tmp_path):
    model, graph, drawn, pictures = world
    found = horns
    if by == "node":
        shown = pictures[drawn.attributes["horns"]]
        found = quiet(
            graph, model, shown, "horns", reference=pictures, by="node", keep=0.2, runs=12,
            candidates=horns.graph.node_ids,
        )  # fmt: skip
    found.write(tmp_path / "plain.html")  # a tensor was mined, of which the graph remembers none
    assert "<img" not in (tmp_path / "plain.html").read_text()
    mined = creatures.draw(80, seed=1).images
    found.write(tmp_path / "patches.html", images=mined)
    page = (tmp_path / "patches.html").read_text()
    assert page.count("<img") == sum(
        len(graph.top_images[m.id][:4]) if by == "node" else min(4, len(part.exemplars))
        for m in found.members
        for part in ([None] if by == "node" else [p for p in graph.parts if p.id == m.id])
    )
    # the first is that of the first member's best sighting
    place = found.graph.top_images[found.members[0].id][0] if by == "node" else next(
        p for p in graph.parts if p.id == found.members[0].id
    ).exemplars[0]  # fmt: skip
    address = re.search(r'src="data:image/jpeg;base64,([^"]+)"', page)[1]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(address))).convert("RGB"), float)
    side = 0.4 * 112 if by == "part" else patch_side(graph, found.members[0].id)
    cut = patch(mined[int(place[0])], place[1], place[2], side, 112)[0]
    assert np.abs(shown - cut).mean() < 12  # of 255: JPEG


def test_the_command_finds_the_same(world, horns, tmp_path, capsys):
    _, graph, drawn, _ = world
    graph.save(tmp_path / "graph.explgraph")
    shown = np.flatnonzero(drawn.attributes["horns"])
    for folder, some in (("horned", shown), ("all", range(len(drawn)))):
        (tmp_path / folder).mkdir()
        for i in some:
            Image.fromarray(drawn.images[i]).save(tmp_path / folder / f"{i:03}.png")
    code = main(
        ["circuit", str(tmp_path / "graph.explgraph"), "--images", str(tmp_path / "horned"),
         "--reference", str(tmp_path / "all"), "--model", "explgraph.creatures:network",
         "--class", "horns", "--seed", "3", "--size", "112", "--mean", "0.5", "--std", "0.25",
         "--out", str(tmp_path / "c.explgraph"), "--out", str(tmp_path / "c.html"),
         "--out", str(tmp_path / "c.json")]
    )  # fmt: skip
    assert code == 0
    told = capsys.readouterr().out
    assert re.search(r"keeps? \d+% \(\d+% to \d+%\)", told)
    alone = dataclasses.replace(horns, members=horns.members[:1]).told
    assert alone[0].startswith(f"1 part of {len(horns.order)} keeps ")
    assert alone[1].startswith("Without it, ")
    values = json.loads((tmp_path / "c.json").read_text())
    assert [m["id"] for m in values["members"]] == [m.id for m in horns.members]
    assert explgraph.load(tmp_path / "c.explgraph").node_ids == horns.graph.node_ids
