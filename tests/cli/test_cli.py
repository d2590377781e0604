"""The command line: what it writes, what it says, and how it ends."""

import csv
import dataclasses
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import explgraph
from explgraph import creatures
from explgraph.answers.ablation import Ablation
from explgraph.answers.class_effects import layer_effects
from explgraph.cli import entry as cli
from explgraph.cli import graphs, mining
from explgraph.cli.inputs import open_for_model
from explgraph.cli.outputs import check_folder
from explgraph.evaluation.landmarks import from_creatures, read_landmarks
from explgraph.network.models import load_model
from explgraph.statistics import kernel

MODEL = "explgraph.creatures:network"
READY = ["--size", "112", "--mean", "0.5", "--std", "0.25"]
ATTRIBUTES = ("horns", "wings", "striped")
SIDE = 168  # px of the picture files, so that places in them are 1.5 times those in the network's


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with pictures of creatures and their landmarks, and a graph mined by the command."""
    folder = tmp_path_factory.mktemp("cli")
    drawn = creatures.draw(24, seed=5, size=SIDE)
    names = [f"{i}.png" for i in range(len(drawn))]
    (folder / "pictures").mkdir()
    for name, pixels in zip(names, drawn.images, strict=True):
        Image.fromarray(pixels).save(folder / "pictures" / name)
    with (folder / "marks.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "part", "x", "y"])
        for part, spots in from_creatures(drawn, names).parts.items():
            for name, (x, y) in zip(names, spots, strict=True):
                table.writerow([name, part, *([x, y] if np.isfinite(x) else ["", ""])])
    with (folder / "attributes.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", *ATTRIBUTES])
        for i, name in enumerate(names):
            table.writerow([name, *(int(drawn.attributes[a][i]) for a in ATTRIBUTES)])
    assert cli.main([*mine_command(folder), "--out", str(folder / "out"), "--quiet"]) == 0
    return folder


def mine_command(folder, layers="stage3,stage4"):
    return [
        "mine", "--images", str(folder / "pictures"), "--model", MODEL, "--layers", layers, *READY,
    ]  # fmt: skip


def run(capsys, *arguments):
    """Run a command; give its exit code, what it printed, and what it complained about."""
    code = cli.main([str(a) for a in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def images(place, **options):
    return explgraph.ImageFolder(
        place / "pictures", size=112, mean=(0.5,) * 3, std=(0.25,) * 3, **options
    )


# ------------------------------------------------------------------------------- what it does


@pytest.mark.python311
def test_record_then_mine(place, capsys, tmp_path):
    """In two steps, in one, and again: the graph is that of the store's activations."""
    kept, out = tmp_path / "kept", tmp_path / "out"
    recording = ["record", *mine_command(place)[1:], "--store", kept]
    code, said, _ = run(capsys, *recording)
    assert code == 0
    assert said.startswith("24 images, 2 layers: recorded in ")
    assert run(capsys, *recording, "--quiet") == (0, "", "")
    code, said, _ = run(capsys, "mine", "--store", kept, "--out", out, "--formats", "svg,html")
    assert code == 0
    assert "from 24 images: recorded in 0." in said
    assert {file.name for file in out.iterdir()} == {"graph.explgraph", "graph.svg", "graph.html"}
    graph = explgraph.load(out / "graph.explgraph")
    assert graph == explgraph.mine(store=kept)
    assert graph.nx.graph["preprocessing"] == images(place).describe()

    at_once = [*mine_command(place), "--store", tmp_path / "new", "--formats", "none", "--quiet"]
    assert run(capsys, *at_once, "--out", tmp_path / "once")[0] == 0
    assert explgraph.load(tmp_path / "once" / "graph.explgraph") == graph


@pytest.mark.python311
def test_an_interrupted_mine_goes_on(place, capsys, tmp_path, monkeypatch):
    command = [*mine_command(place, "stage4"), "--store", tmp_path / "kept", "--formats", "none"]

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("explgraph.mining.mine_layer.find_patterns", interrupted)
        assert run(capsys, *command, "--out", tmp_path / "out") == (130, "", "stopped\n")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["unfinished"]
    code, _, said = run(capsys, *command, "--out", tmp_path / "out", "--seed", "1")
    assert (code, "is of another job: seed differ" in said) == (1, True)
    assert run(capsys, *command, "--out", tmp_path / "out")[0] == 0
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["graph.explgraph"]
    graph = explgraph.load(tmp_path / "out" / "graph.explgraph")
    assert graph == explgraph.mine(store=tmp_path / "kept")


@pytest.fixture
def timms_creatures(monkeypatch):
    """Let timm:creature be the creatures' network, trained on the middle of photographs."""
    timm = types.ModuleType("timm")
    timm.is_model = lambda name: name == "creature"

    def create_model(name, *, pretrained):
        assert (name, pretrained) == ("creature", True)
        model = creatures.network()
        model.preprocessing = None
        model.pretrained_cfg = {
            "input_size": (3, 112, 112), "mean": creatures.MEAN, "std": creatures.STD,
            "crop_pct": 0.9, "interpolation": "bicubic",
        }  # fmt: skip
        return model

    timm.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", timm)


@pytest.mark.usefixtures("timms_creatures")
def test_photographs_are_made_ready_as_the_model_says(place, capsys, tmp_path):
    mine = ["mine", "--images", place / "pictures", "--model", "timm:creature", "--layers",
            "stage4", "--formats", "none", "--out", tmp_path]  # fmt: skip
    code, out, err = run(capsys, *mine)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == (
        "photographs: 112 x 112 px, centre crop 0.9, bicubic, mean 0.5,0.5,0.5, "
        "std 0.25,0.25,0.25, as timm:creature says"
    )
    graph = explgraph.load(tmp_path / "graph.explgraph")
    ready = {"size": [112, 112], "mean": [0.5] * 3, "std": [0.25] * 3, "fit": "crop", "crop": 0.9,
             "interpolation": "bicubic"}  # fmt: skip
    assert graph.nx.graph["preprocessing"] == ready
    # the graph remembers it for the commands that follow
    parse = ["parse", tmp_path / "graph.explgraph", "--images", place / "pictures", "--model",
             "timm:creature", "--out", tmp_path / "places.csv"]  # fmt: skip
    assert run(capsys, *parse)[0] == 0
    images = explgraph.ImageFolder(place / "pictures", **ready)
    expected = graph.parse(creatures.network(), images)
    found = explgraph.Parse.read(tmp_path / "places.csv", images)
    np.testing.assert_allclose(found.positions, expected.positions, atol=1e-3)
    code, out, err = run(capsys, "explain", tmp_path / "graph.explgraph",
                         place / "pictures" / "0.png", "--model", "timm:creature")  # fmt: skip
    assert code == 0, err


@pytest.mark.parametrize(
    ("given", "expected", "told"),
    [
        ([], {"fit": "crop", "crop": 0.9}, "as timm:creature says"),
        (["--size", "96"], {"size": [96, 96], "crop": 0.9}, "says but for --size"),
        (["--fit", "pad"], {"fit": "pad"}, "says but for --fit"),
        (["--fit", "crop"], {"fit": "crop", "crop": 0.9}, "says but for --fit"),
        (["--crop", "1"], {"fit": "crop"}, "says but for --crop"),
        (["--mean", "0.4", "--interpolation", "box"],
         {"mean": [0.4] * 3, "crop": 0.9, "interpolation": "box"},
         "says but for --mean, --interpolation"),
        (["--boxes", "BOXES"], {"fit": "stretch"}, "as timm:creature says"),
        (["--boxes", "BOXES", "--fit", "crop"], {"fit": "crop", "crop": 0.9}, "but for --fit"),
        (["--size", "96", "--mean", "0", "--std", "1"], {"mean": [0] * 3, "crop": 0.9},
         "but for --size, --mean, --std"),
        (["--size", "96", "--mean", "0", "--std", "1", "--fit", "pad", "--interpolation", "box",
          "--crop", "1"], {"size": [96, 96], "fit": "pad", "interpolation": "box"}, None),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("timms_creatures")
def test_flags_come_before_what_the_model_says(place, given, expected, told, capsys, tmp_path):
    (tmp_path / "boxes.csv").write_text("name,x0,y0,x1,y1\n0.png,0,0,50,80\n")
    given = [str(tmp_path / "boxes.csv") if word == "BOXES" else word for word in given]
    options = cli.parser().parse_args(
        [
            "mine",
            "--images",
            str(place / "pictures"),
            "--model",
            "timm:creature",
            "--out",
            "x",
            *given,
        ]
    )
    images = open_for_model(options, load_model("timm:creature"), True)
    ready = images.describe()
    assert {name: ready[name] for name in expected} == expected
    assert ("crop" in ready) == ("crop" in expected)
    said = capsys.readouterr().out
    assert said.endswith(f"{told}\n") if told else said == "", "all was given"


def test_a_model_that_says_nothing_gets_what_is_usual(place, capsys):
    options = cli.parser().parse_args(
        ["mine", "--images", str(place / "pictures"), "--model", "my:net", "--out", "x"]
    )
    model = creatures.network()
    model.preprocessing = None
    images = open_for_model(options, model, True)
    assert images.describe() == explgraph.ImageFolder(place / "pictures").describe()
    told = "since my:net doesn't say; --size, --mean, --std change it\n"
    assert capsys.readouterr().out.endswith(told)


def test_mine_takes_the_suggested_layers(place, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "explgraph.network.layers.suggest_layers", lambda summaries: (summaries[-1].name,)
    )
    command = ["mine", "--images", place / "pictures", "--model", MODEL, *READY, "--out", tmp_path]
    code, out, _ = run(capsys, *command, "--formats", "none")
    assert code == 0
    assert out.splitlines()[0] == "layers: stage4, as suggested; --layers names others"
    graph = explgraph.load(tmp_path / "graph.explgraph")
    assert [layer.name for layer in graph.layers] == ["stage4"]


def test_mine_gives_what_the_library_gives(place):
    graph = explgraph.load(place / "out" / "graph.explgraph")
    assert graph == explgraph.mine(creatures.network(), images(place), ["stage4", "stage3"])
    assert graph.nx.graph["preprocessing"] == images(place).describe()
    written = sorted(file.name for file in (place / "out").iterdir())
    formats = ("dot", "explgraph", "graphml", "html", "json", "svg")
    assert written == [f"graph.{name}" for name in formats]


def test_mine_tells_what_it_wrote(place, capsys, tmp_path):
    code, out, err = run(capsys, *mine_command(place, "stage4"), "--out", tmp_path,
                         "--formats", "gml,.CYJS")  # fmt: skip
    assert code == 0
    graph = explgraph.load(tmp_path / "graph.explgraph")
    assert out.startswith(f"{len(graph)} nodes and 0 edges from 24 images: recorded in ")
    assert out.splitlines()[1].startswith(f"{len(graph.parts)} parts in 1 layer hold ")
    assert "graph.explgraph, graph.gml, graph.cyjs\n" in out
    assert out.endswith(f"To look at it: explgraph view {tmp_path / 'graph.explgraph'}\n")
    assert err == ""  # no terminal, no bars
    assert (tmp_path / "graph.gml").exists()
    assert (tmp_path / "graph.cyjs").exists()


def test_mine_uses_the_images_that_are_listed(place, tmp_path):
    (tmp_path / "list.txt").write_text("3.png\n\n1.png\n2.png\n")
    source = {"1.png": "a", "2.png": "a", "3.png": "b", "4.png": "c"}
    (tmp_path / "parts.json").write_text(json.dumps({"source": source}))
    for option, file, names in (
        ("--list", "list.txt", {"1.png", "2.png", "3.png"}),
        ("--one-per-source", "parts.json", {"1.png", "3.png", "4.png"}),
    ):
        command = [*mine_command(place, "stage4"), option, str(tmp_path / file)]
        assert cli.main([*command, "--out", str(tmp_path), "--formats", "none", "--quiet"]) == 0
        graph = explgraph.load(tmp_path / "graph.explgraph")
        assert graph.nx.graph["n_images"] == 3
        assert {entry[0] for seen in graph.top_images.values() for entry in seen} <= names


def test_settings_of_mining(place, tmp_path):
    known = {field.name: field.default for field in dataclasses.fields(explgraph.Settings)}
    assert tuple(known) == mining._SETTINGS
    other = {"n_parents": 2, "pose": 3, "further_gain": 0.2}
    assert all(known[name] != value for name, value in other.items())
    given = [part for name, value in other.items() for part in ("--set", f"{name}={value}")]
    command = [*mine_command(place, "stage4,stage3"), *given, "--out", str(tmp_path)]
    assert cli.main([*command, "--formats", "none", "--quiet"]) == 0
    found = explgraph.load(tmp_path / "graph.explgraph")
    expected = explgraph.mine(
        creatures.network(), images(place), ["stage4", "stage3"],
        settings=explgraph.Settings(**other),
    )  # fmt: skip
    assert found.nx.graph["config"].items() >= (known | other).items()
    assert dict(found.nx.edges.items()) == dict(expected.nx.edges.items())


def test_help_names_the_settings(capsys):
    with pytest.raises(SystemExit):
        cli.main(["mine", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"a setting of mining: {', '.join(mining._SETTINGS)} (" in said


def test_a_drawing_that_fails_costs_nothing_else(place, capsys, tmp_path, monkeypatch):
    def no_paper(*_, **__):
        raise explgraph.ExplgraphError("paper is\nnowhere")

    monkeypatch.setattr("explgraph.views.draw.draw_nodes", no_paper)
    code, out, err = run(
        capsys, *mine_command(place, "stage4"), "--out", tmp_path, "--formats", "svg,json"
    )
    assert code == 0
    assert err == "warning: graph.svg is not written: paper is nowhere\n"
    assert "graph.explgraph, graph.json\n" in out
    _, _, err = run(
        capsys, *mine_command(place, "stage4"), "--out", tmp_path, "--formats", "svg,png,json"
    )
    assert err == "warning: graph.svg, graph.png are not written: paper is nowhere\n"


@pytest.mark.python311
def test_parse_writes_a_store_and_goes_on_with_it(place, capsys):
    graph = explgraph.load(place / "out" / "graph.explgraph")
    expected = graph.parse(creatures.network(), images(place))
    command = (
        "parse", place / "out" / "graph.explgraph", "--images", place / "pictures",
        "--model", MODEL, "--out", place / "places.zarr",
    )  # fmt: skip
    for _ in range(2):  # the second time it is finished
        code, out, err = run(capsys, *command)
        assert (code, err) == (0, "")
        assert out == f"{len(graph)} nodes in 24 images: {place / 'places.zarr'}\n"
    found = explgraph.open_parse(place / "places.zarr")[:]
    assert (found.nodes, found.names) == (expected.nodes, expected.names)
    np.testing.assert_allclose(found.positions, expected.positions, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
    np.testing.assert_allclose(found.to_original(), 1.5 * found.positions, rtol=1e-6)
    (place / "places.zarr" / "scores" / "c" / "0" / "0").unlink()
    shutil.rmtree(place / "places.zarr" / "names")
    code, out, err = run(capsys, *command, "--batch-size", 5)
    assert (code, out) == (1, "")
    assert "delete it and parse again" in err


def test_parse_writes_places_in_three_formats(place, capsys):
    graph = explgraph.load(place / "out" / "graph.explgraph")
    expected = graph.parse(creatures.network(), images(place))
    for suffix in ("csv", "json", "npz"):
        code, out, err = run(
            capsys, "parse", place / "out" / "graph.explgraph", "--images", place / "pictures",
            "--model", MODEL, "--out", place / f"places.{suffix}",
        )  # fmt: skip
        assert (code, err) == (0, "")
        assert out == f"{len(graph)} nodes in 24 images: {place / f'places.{suffix}'}\n"

    # size and colours come from the graph; photographs are 1.5 times as large as the network's
    with np.load(place / "places.npz", allow_pickle=False) as arrays:
        assert tuple(arrays["nodes"]) == expected.nodes
        assert tuple(arrays["names"]) == expected.names
        np.testing.assert_array_equal(arrays["positions"], expected.positions)
        np.testing.assert_array_equal(arrays["expected"], expected.expected)
        np.testing.assert_array_equal(arrays["scores"], expected.scores)
        np.testing.assert_allclose(arrays["photo"], 1.5 * expected.positions, rtol=1e-6)

    content = json.loads((place / "places.json").read_text())
    for key, array in (
        ("x", expected.positions[..., 0]),
        ("expected_y", expected.expected[..., 1]),
        ("score", expected.scores),
        ("photo_x", 1.5 * expected.positions[..., 0]),
    ):
        np.testing.assert_allclose([row[key] for row in content], array.ravel(), rtol=1e-6)

    with (place / "places.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == expected.scores.size
    last = rows[-1]
    assert (last["image"], last["node"]) == (expected.names[-1], expected.nodes[-1])
    np.testing.assert_allclose(
        [float(last[key]) for key in ("x", "y", "expected_x", "expected_y", "score", "photo_y")],
        [*expected.positions[-1, -1], *expected.expected[-1, -1], expected.scores[-1, -1],
         1.5 * expected.positions[-1, -1, 1]],
        rtol=1e-4,
    )  # fmt: skip


def test_parse_by_part_writes_parts(place, capsys, tmp_path):
    graph = explgraph.load(place / "out" / "graph.explgraph")
    expected = graph.parts_in(graph.parse(creatures.network(), images(place)))
    for suffix in ("csv", "json"):
        out = tmp_path / f"parts.{suffix}"
        code, said, err = run(capsys, *asked(place, "parse", "--by", "part", "--out", out))
        assert (code, err) == (0, "")
        assert said == f"{len(graph.parts)} parts in 24 images: {out}\n"
    rows = json.loads((tmp_path / "parts.json").read_text())
    assert [row["part"] for row in rows] == [*expected.parts] * 24
    for key, array in (
        ("x", expected.positions[..., 0]),
        ("presence", expected.presence),
        ("radius", expected.radius),
        ("photo_y", 1.5 * expected.positions[..., 1]),
    ):
        np.testing.assert_allclose([row[key] for row in rows], array.ravel(), rtol=1e-5)


def test_evaluate_writes_every_row_and_prints_the_table(place, capsys, tmp_path):
    code, out, err = run(
        capsys, "evaluate", place / "out" / "graph.explgraph", "--images", place / "pictures",
        "--landmarks", place / "marks.csv", "--model", MODEL, "--parts", "head,rump",
        "--out", tmp_path / "q.json", "--out", tmp_path / "q.md",
    )  # fmt: skip
    assert (code, err) == (0, "")
    rows = json.loads((tmp_path / "q.json").read_text())
    assert {row["part"] for row in rows} == {"head", "rump"}
    assert len(rows) == 2 * (2 + 5 * 2)
    assert rows[0]["50-shot"] is None  # 24 images: nothing is left to measure on
    table = (tmp_path / "q.md").read_text()
    assert out == f"24 images; mean over head, rump; errors per image diagonal\n\n{table}"
    raw = [
        row["3-shot"] for row in rows if (row["layer"], row["method"]) == ("stage3", "raw peaks")
    ]
    line = next(line for line in table.splitlines() if line.startswith("| stage3 | raw peaks"))
    assert f" {np.mean(raw):.3f} " in line


def test_evaluate_faithful_writes_what_it_prints(place, capsys, tmp_path):
    command = [
        "evaluate", place / "out" / "graph.explgraph", "--images", place / "pictures",
        "--faithful", "--model", MODEL, "--first", "2", "--class", "guardian",
    ]  # fmt: skip
    files = [tmp_path / f"f.{suffix}" for suffix in ("md", "csv", "png")]
    code, out, err = run(capsys, *command, *(word for file in files for word in ("--out", file)))
    assert (code, err) == (0, "")
    assert out == files[0].read_text()
    assert "of guardian; nothing stands in" in out
    assert files[1].read_text().startswith("elements,order,total,activation,lost,")
    assert files[2].read_bytes().startswith(b"\x89PNG")
    code, out, err = run(
        capsys, *command, "--replacement", "mean", "--others", place / "pictures", "--layer",
        "stage3",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "the mean over other images stands in" in out
    assert "Of what stage3 carries" in out


def test_evaluate_takes_one_crop_per_photograph(place, capsys, tmp_path):
    marks = read_landmarks(place / "marks.csv").parts["head"] - 0.5
    content = {
        "images": {f"{i}.png": {"head": marks[i].tolist()} for i in range(24)
                   if np.isfinite(marks[i, 0])},
        "source": {f"{i}.png": str(i // 2) for i in range(24)},
    }  # fmt: skip
    (tmp_path / "parts.json").write_text(json.dumps(content))
    command = [
        "evaluate", place / "out" / "graph.explgraph", "--images", place / "pictures",
        "--landmarks", tmp_path / "parts.json", "--model", MODEL,
    ]  # fmt: skip
    once, everything = run(capsys, *command)[1], run(capsys, *command, "--all-crops")[1]
    assert int(once.split()[0]) < int(everything.split()[0]) == 24


BIAS = (
    "bias {graph} --images {pictures} --model {model} --attributes {labels} "
    "--columns horns=3,wings=4,striped=9 "
)


def bias_command(place, *more):
    command = BIAS.format(
        graph=place / "out" / "graph.explgraph",
        pictures=place / "pictures",
        model=MODEL,
        labels=place / "attributes.csv",
    )
    return [*shlex.split(command), *map(str, more)]


def test_bias_writes_what_the_library_finds(place, capsys, tmp_path):
    marks = ("--landmarks", place / "marks.csv", "--parts", "horns=horn,wings=wing,striped=rump")
    out = ("--out", tmp_path / "b.md", "--out", tmp_path / "b.json")
    code, said, _ = run(capsys, *bias_command(place, *marks, *out))
    assert code == 0
    assert said.startswith("24 images; 0 of 6 relations are suspicious\n")
    assert (tmp_path / "b.md").read_text() in said
    folder = images(place)
    drawn = creatures.draw(24, seed=5, size=SIDE)
    order = [int(Path(name).stem) for name in folder.names]
    bias = explgraph.find_bias(
        creatures.network(),
        explgraph.load(place / "out" / "graph.explgraph"),
        folder,
        {name: drawn.attributes[name][order] for name in ATTRIBUTES},
        columns={"horns": 3, "wings": 4, "striped": 9},
        landmarks=read_landmarks(place / "marks.csv").to_network(folder).parts,
        parts={"horns": "horn", "wings": "wing", "striped": "rump"},
    )
    written = json.loads((tmp_path / "b.json").read_text())
    assert written["answers"] == []
    assert [r["target"] for r in written["relations"]] == [r.target for r in bias.relations]
    for row, relation in zip(written["relations"], bias.relations, strict=True):
        assert row["effect"] == pytest.approx(relation.effect, rel=1e-3, abs=1e-4)
        assert row["at_source"] == pytest.approx(relation.at_source, rel=1e-2, abs=1e-2)


def test_outputs_reach_the_model_s_answers(place, capsys, tmp_path, monkeypatch):
    """Where scores are read twice as large, all that is said of them is."""
    (tmp_path / "read_outputs.py").write_text("def double(out):\n    return 2 * out\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "few.txt").write_text("0.png\n3.png\n5.png\n")
    few = ["--list", tmp_path / "few.txt"]

    def both(path, command, *arguments):
        """Run a command as it is and with doubled scores, and read what it wrote."""
        for more in ([], ["--outputs", "read_outputs:double"]):
            assert run(capsys, *command, *arguments, "--quiet", *more)[0] == 0
            yield path

    path = tmp_path / "without.csv"
    nodes = ["--nodes", explgraph.load(place / "out" / "graph.explgraph").node_ids[0]]
    once, twice = (
        Ablation.read(p).before
        for p in both(path, asked(place, "ablate"), *few, *nodes, "--out", path)
    )
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)
    path = tmp_path / "causes.explgraph"
    asks = [*few, "--top", "10", "--classes", "dragon=2", "--out", path]
    once, twice = (
        np.array([v["effect_on_dragon"] for v in explgraph.load(p).nx.nodes.values()])
        for p in both(path, asked(place, "effects"), *asks)
    )
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-4, atol=1e-6)
    path = tmp_path / "3.json"
    command = ["explain", place / "out" / "graph.explgraph", place / "pictures" / "3.png"]
    asks = ["--model", MODEL, "--out", tmp_path, "--formats", "json"]
    once, twice = (json.loads(p.read_text())["score"] for p in both(path, command, *asks))
    assert twice == pytest.approx(2 * once)
    path = tmp_path / "tree.json"
    guardians = tmp_path / "guardians.txt"
    guardians.write_text("1.png\n2.png\n3.png\n")
    asks = ["--class", "1", "--positive", guardians, "--out", path]
    once, twice = (
        json.loads(p.read_text())["nodes"][0]["bias"]
        for p in both(path, asked(place, "tree"), *asks)
    )
    assert twice == pytest.approx(2 * once, rel=1e-3)
    path = tmp_path / "b.json"
    once, twice = (
        json.loads(p.read_text())["relations"][0]["effect"]
        for p in both(path, bias_command(place), "--judge", place / "pictures", "--out", path)
    )
    assert twice == pytest.approx(2 * once, rel=1e-4)


def test_bias_judges_other_photographs(place, capsys, tmp_path):
    # what is expected and there is no bias; without a margin, or a rate, everything is one
    (tmp_path / "expected.csv").write_text("target,source,relation\nhorns,wings,1\n")
    (tmp_path / "others").mkdir()
    for name in ("3.png", "7.png"):
        (tmp_path / "others" / name).write_bytes((place / "pictures" / name).read_bytes())
    code, said, _ = run(
        capsys, *bias_command(place, "--margin", 0, "--fdr", 1, "--out", tmp_path / "b.json"),
        "--expected", tmp_path / "expected.csv", "--judge", tmp_path / "others",
    )  # fmt: skip
    assert code == 0
    assert "Answers that are most likely wrong:" in said
    written = json.loads((tmp_path / "b.json").read_text())
    (expected,) = [r for r in written["relations"] if r["expected"]]
    assert (expected["target"], expected["source"], expected["kind"]) == (
        "horns", "wings", "missing",
    )  # fmt: skip
    assert {row["image"] for row in written["answers"]} == {"3.png", "7.png"}
    assert len(written["answers"]) == 6
    right = dict.fromkeys(("3.png", "7.png"), 1.0)
    for row in written["answers"]:
        right[row["image"]] *= 1 - row["risk"]
    assert written["images"] == pytest.approx({k: 1 - v for k, v in right.items()}, abs=1e-4)
    risks = [row["risk"] for row in written["answers"]]
    assert risks == sorted(risks, reverse=True)


def asked(place, command, *more):
    """A command that runs the network over the pictures."""
    graph = place / "out" / "graph.explgraph"
    return [command, graph, "--images", place / "pictures", "--model", MODEL, *more]


def test_effects_are_those_of_the_library(place, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("explgraph.progress._LONG", math.inf)  # a busy machine is no mistake
    out = tmp_path / "causes.explgraph"
    few = ["--list", tmp_path / "few.txt"]
    few[1].write_text("0.png\n3.png\n5.png\n")
    arguments = [*few, "--classes", "guardian=1,dragon=2", "--check", "12", "--out", out]
    code, said, err = run(capsys, *asked(place, "effects", *arguments))
    assert (code, err) == (0, "")
    graph = explgraph.load(place / "out" / "graph.explgraph")
    expected = explgraph.edge_effects(
        creatures.network(),
        graph,
        images(place, names=["0.png", "3.png", "5.png"]),
        classes={"guardian": 1, "dragon": 2},
    )
    assert explgraph.load(out) == expected
    assert f"effects along {graph.nx.number_of_edges()} edges, over 3 images" in said
    assert float(said.split("true ablation of 12 edges: ")[1].split()[0]) > 0.5
    effects = dict(expected.nx.nodes(data="effect_on_dragon"))
    assert max(effects, key=lambda node: abs(effects[node])) in said
    code, said, _ = run(capsys, *asked(place, "effects", *few, "--quiet", "--top", "0.5", "--out",
                                       tmp_path / "causes.graphml"))  # fmt: skip
    written = (tmp_path / "causes.graphml").read_text()
    best = graph.prune(top=0.5).node_ids
    assert [node for node in graph.node_ids if f'"{node}"' in written] == list(best)
    assert (code, said) == (0, "")
    assert "effect" in (tmp_path / "causes.graphml").read_text()


def part_graph_file(place, tmp_path):
    """The graph, one of its parts named, in another file; and the graph."""
    graph = explgraph.load(place / "out" / "graph.explgraph").name_part("p1", "first")
    graph.save(tmp_path / "named.explgraph")
    return tmp_path / "named.explgraph", graph


def test_effects_of_parts(place, capsys, tmp_path):
    file, graph = part_graph_file(place, tmp_path)
    out = tmp_path / "causes.explgraph"
    command = asked(place, "effects", "--classes", "dragon=2", "--check", "5", "--out", out)
    command[1] = file
    (tmp_path / "few.txt").write_text("0.png\n3.png\n")
    code, said, err = run(capsys, *command, "--by", "part", "--list", tmp_path / "few.txt")
    assert (code, err) == (0, "")
    measured = explgraph.load(out)
    tables = said[said.index("part, effect on dragon in") :].split("\n\n")
    table = tables[0].splitlines()
    assert table[0].split()[-2:] == ["stage4", "stage3"]
    titles = {part.title: part for part in graph.parts}
    for row in table[1:]:
        title, *values = [cell for cell in row.split("  ") if cell]
        nodes = titles[title.strip()].nodes if title.strip() != "no part" else [
            node for node in graph.nx if not graph.nx.nodes[node]["part"]
        ]  # fmt: skip
        for layer, value in zip(("stage4", "stage3"), values, strict=True):
            effects = [measured.nx.nodes[v]["effect_on_dragon"] for v in nodes
                       if graph.nx.nodes[v]["layer"] == layer]  # fmt: skip
            assert float(value) == pytest.approx(sum(effects), rel=6e-3, abs=1e-9)
    rows = [row.split() for row in tables[1].splitlines()[1:]]
    for row, one in zip(rows, reversed(layer_effects(measured, "dragon")), strict=True):
        assert row[0] == one.layer
        told = (one.carried, one.own.sum(), float(one.rests.no_node))
        assert [float(value) for value in row[1:4]] == pytest.approx(told, rel=6e-3)
    assert rows[1][5:] == [f"{one.share:.0%}", f"{one.rank_correlation:.2f}"]


def test_ablate_takes_parts(place, capsys, tmp_path):
    file, graph = part_graph_file(place, tmp_path)
    command = asked(place, "ablate")
    command[1] = file
    wanted = explgraph.ablate(creatures.network(), graph, images(place), graph.part("p1").nodes)
    code, *_ = run(capsys, *command, "--nodes", "first", "--out", tmp_path / "one.csv")
    assert code == 0
    with (tmp_path / "one.csv").open() as table:
        after = [float(row["after"]) for row in csv.DictReader(table)]
    np.testing.assert_allclose(after, wanted.after.ravel(), rtol=1e-4, atol=1e-4)

    out = tmp_path / "each.csv"
    code, said, _ = run(capsys, *command, "--by", "part", "--nodes", "p2,first", "--out", out)
    assert code == 0
    with out.open() as table:
        rows = list(csv.DictReader(table))
    assert [row["part"] for row in rows[:: 24 * 13]] == ["p2", "p1"]
    assert [row["image"] for row in rows[: 24 * 13 : 13]] == list(wanted.names)
    assert [row["class"] for row in rows[:13]] == [str(k) for k in range(13)]
    second = rows[24 * 13 :]
    for key, values in (("before", wanted.before), ("after", wanted.after)):
        np.testing.assert_allclose(
            [float(row[key]) for row in second], values.ravel(), rtol=1e-4, atol=1e-4
        )
    most = np.abs(wanted.change.mean(0)).argmax()
    row = next(line for line in said.splitlines() if line.startswith("first"))
    assert row.split()[1] == creatures.OUTPUTS[most]
    assert float(row.split()[-1]) == pytest.approx(wanted.change.mean(0)[most], abs=6e-4)
    # all of them, if none is named
    code, said, _ = run(capsys, *command, "--by", "part", "--list", _two(tmp_path))
    assert code == 0
    assert all(f"\n{part.title} " in said for part in graph.parts)


def _two(folder):
    (folder / "two.txt").write_text("0.png\n3.png\n")
    return folder / "two.txt"


def test_ablate_gives_every_image_s_scores(place, capsys, tmp_path):
    graph = explgraph.load(place / "out" / "graph.explgraph")
    nodes = graph.node_ids[:2]
    code, said, _ = run(capsys, *asked(place, "ablate", "--nodes", ",".join(nodes),
                                       "--out", tmp_path / "scores.csv"))  # fmt: skip
    assert code == 0
    found = explgraph.ablate(creatures.network(), graph, images(place), nodes)
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows[::13]] == list(found.names)
    after = np.array([float(row["after"]) for row in rows]).reshape(-1, 13)
    np.testing.assert_allclose(after, found.after, rtol=1e-4, atol=1e-4)
    strongest = np.abs(found.change.mean(0)).argmax()
    assert said.splitlines()[3].split()[0] == creatures.OUTPUTS[strongest]


@pytest.mark.filterwarnings("ignore:.*(explain little|at random|speaks for)")
def test_explain_writes_what_the_library_gives(place, capsys, tmp_path):
    files = [place / "pictures" / name for name in ("3.png", "7.png")]
    (tmp_path / "twin").mkdir()
    shutil.copy(files[1], tmp_path / "twin" / "3.png")
    shutil.copy(files[0], tmp_path / "3-2.png")
    graph = explgraph.load(place / "out" / "graph.explgraph")
    wanted = graph.explain(creatures.network(), files[0], "horns")
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"output {k}" for k in range(13)))
    command = ["explain", place / "out" / "graph.explgraph", *files, tmp_path / "twin" / "3.png",
               tmp_path / "3-2.png", "--model", MODEL, "--out", tmp_path / "why"]  # fmt: skip
    code, said, _ = run(capsys, *command, "--class", "horns", "--formats", "json,html,csv,json")
    assert code == 0
    assert said.count(".json") == 4
    assert {file.name for file in (tmp_path / "why").iterdir()} == {
        f"{stem}.{suffix}"
        for stem in ("3", "7", "3-2", "3-3")
        for suffix in ("json", "html", "csv")
    }
    found = json.loads((tmp_path / "why" / "3.json").read_text())
    assert found["class_title"] == "horns"
    assert found["score"] == pytest.approx(wanted.score, rel=1e-5)
    assert [row["part"] for row in found["parts"][:-2]] == [row.part for row in wanted.rows]
    three, seven, other, twin = (
        json.loads((tmp_path / "why" / f"{name}.json").read_text())
        for name in ("3", "7", "3-2", "3-3")
    )
    assert three["parts"] == other["parts"]
    assert seven["parts"] == twin["parts"]
    assert "3.png: horns, score" in said
    assert wanted.rows[0].title in said
    speaking = [row for row in wanted.shown()[0] if row.contribution > 0]
    k = min(len(speaking), len(wanted.removal.parts))
    first = "part" if k == 1 else f"{k} parts"
    assert f"without the first {first}: {wanted.removal.score[k]:.3g} " in said
    assert f"at random {wanted.removal.random[k]:.3g})" in said
    code, said, _ = run(capsys, *command[:3], "--model", MODEL, "--class-names", names,
                        "--class", "output 4", "--quiet")  # fmt: skip
    assert code == 0
    assert "3.png: output 4, score" in said


def test_locate_gives_parts_in_other_photographs(place, capsys, tmp_path):
    with (place / "marks.csv").open() as file:
        marks = [row for row in csv.DictReader(file) if row["part"] in ("eye", "horn")]
    few = [row for row in marks if int(row["name"].removesuffix(".png")) < 12]
    with (tmp_path / "few.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, few[0])
        table.writeheader()
        table.writerows(few)
    hornless = [row["name"] for row in few if row["part"] == "horn" and not row["x"]]
    (tmp_path / "absent.csv").write_text("\n".join(["name,part", *(f"{n},horn" for n in hornless)]))
    out = [tmp_path / "parts.csv", tmp_path / "parts.json"]
    command = ["locate", "--landmarks", tmp_path / "few.csv", "--new", place / "pictures"]
    code, said, err = run(capsys, *asked(place, *command, "--out", out[0],
                                         "--labelled", tmp_path / "named.explgraph"))  # fmt: skip
    assert (code, err) == (0, "")
    assert said.splitlines()[-1] == (
        f"2 parts in 24 images: {out[0]} (places and uncertainty in px)"
    )
    code, said, _ = run(capsys, *asked(place, *command, "--out", out[1], "--quiet",
                                       "--absent", tmp_path / "absent.csv"))  # fmt: skip
    assert (code, said) == (0, "")
    with out[0].open() as file:
        rows = list(csv.DictReader(file))
    again = json.loads(out[1].read_text())
    assert [(r["image"], r["part"]) for r in rows] == [(r["image"], r["part"]) for r in again]
    assert {r["presence"] for r in rows} == {""}
    truth = {(r["name"], r["part"]): (r["x"], r["y"]) for r in marks if r["x"]}
    misses = []
    for row, same in zip(rows, again, strict=True):
        assert float(row["photo_x"]) == pytest.approx(same["photo_x"], rel=1e-4)
        # pictures are 1.5 times the network's
        assert 1.5 * float(row["x"]) == pytest.approx(float(row["photo_x"]), rel=1e-4)
        assert (same["presence"] is None) == (same["part"] == "eye")
        if row["part"] == "eye" and (row["image"], "eye") in truth:
            x, y = truth[row["image"], "eye"]
            misses.append(np.hypot(float(row["photo_x"]) - float(x),
                                   float(row["photo_y"]) - float(y)))  # fmt: skip
    assert np.median(misses) < 0.05 * SIDE
    named = explgraph.load(tmp_path / "named.explgraph")
    assert {name for _, name in named.nx.nodes(data="label")} == {"", "eye", "horn"}
    assert [part.name for part in named.and_or.parts] == ["eye", "horn"]


def test_how_parts_are_located_is_written_kept_and_drawn(place, capsys, tmp_path):
    command = ["locate", "--landmarks", place / "marks.csv", "--quiet"]
    named, html = tmp_path / "named.explgraph", tmp_path / "parts.html"
    code, said, err = run(capsys, *asked(place, *command, "--labelled", named, "--and-or", html))
    assert (code, said, err) == (0, "", "")
    assert html.read_text().count("data:image/jpeg") > 50
    graph = explgraph.load(named)
    and_or = graph.and_or
    assert and_or.grown.images == 24
    assert run(capsys, *asked(place, *command, "--and-or", tmp_path / "a.json"))[0] == 0
    assert run(capsys, "export", named, tmp_path / "b.json", "--what", "and-or")[0] == 0
    first, second = (json.loads((tmp_path / f"{k}.json").read_text()) for k in "ab")
    assert [node["id"] for node in second["nodes"]] == list(and_or.nx)
    assert first["edges"] == second["edges"]
    code, said, err = run(capsys, "draw", named, tmp_path / "x.svg", "--what", "and-or",
                          "--most", "3", "--images", place / "pictures")  # fmt: skip
    assert (code, err) == (0, "")
    assert ">horn</text>" in (tmp_path / "x.svg").read_text()
    code, said, err = run(capsys, "info", named)
    assert [line for line in said.splitlines() if line.startswith("located")] == [
        f"located: {told}" for told in and_or.told
    ]
    bare = place / "out" / "graph.explgraph"
    for wrong in (["draw", bare, tmp_path / "y.svg"], ["export", bare, tmp_path / "y.json"]):
        code, said, err = run(capsys, *wrong, "--what", "and-or")
        assert code == 1
        assert "keeps nothing of how named parts are located; give graph.with_and_or" in err
    assert not list(tmp_path.glob("y.*"))


def test_marks_come_from_other_programs_and_go_back_to_them(place, capsys, tmp_path):
    marks = read_landmarks(place / "marks.csv").parts["eye"]
    shown = [i for i in range(12) if np.isfinite(marks[i, 0])]
    content = {
        "images": [{"id": i, "file_name": f"film/{i}.png", "width": SIDE, "height": SIDE}
                   for i in shown],
        "categories": [{"id": 1, "name": "creature", "keypoints": ["eye"]},
                       {"id": 2, "name": "stone", "keypoints": ["top"]}],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, SIDE, SIDE],
                         "keypoints": [*(marks[i] - 0.5).tolist(), 2]} for i in shown],
    }  # fmt: skip
    stone = {"id": 99, "image_id": shown[0], "category_id": 2, "keypoints": [9, 9, 2]}
    content["annotations"].append({**stone, "bbox": [1, 1, 20, 20]})
    (tmp_path / "coco.json").write_text(json.dumps(content))
    command = asked(place, "locate", "--landmarks", tmp_path / "coco.json")
    code, _, err = run(capsys, *command, "--out", tmp_path / "x.csv")
    assert code == 1
    assert "classes: creature" in err
    assert "(--landmark-class)" in err
    code, said, err = run(capsys, *command, "--landmark-class", "creature",
                          "--marks", tmp_path / "located.json")  # fmt: skip
    assert (code, "by the ends of their names alone" in err) == (0, True)
    assert said.splitlines()[0] == (
        f"Landmarks: 1 part (eye) in {len(shown)} images, from a COCO file"
    )
    categories = json.loads((tmp_path / "located.json").read_text())["categories"]
    assert [one["name"] for one in categories] == ["creature"]
    written = f"{tmp_path / 'located.json'} (places and uncertainty in px)"
    assert said.splitlines()[-1] == f"1 part in 24 images: {written}"
    found = read_landmarks(tmp_path / "located.json")
    assert len(found.names) == 24
    misses = np.linalg.norm(found.parts["eye"] - marks, axis=1)
    assert np.nanmedian(misses) < 0.05 * SIDE


def test_boxes_of_a_class_are_cut_out(place, capsys, tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "data.yaml").write_text("names: [creature, stone]\n")
    for i in range(24):
        (tmp_path / "labels" / f"{i}.txt").write_text("0 0.5 0.5 1 1\n1 0.2 0.2 0.1 0.1\n")
    command = asked(place, "parse", "--boxes", tmp_path, "--out", tmp_path / "p.csv")
    code, _, err = run(capsys, *command)
    assert (code, "creature (24), stone (24); choose by" in err) == (1, True)
    assert run(capsys, *command, "--box-class", "creature")[0] == 0
    whole = tmp_path / "whole.csv"
    assert run(capsys, *asked(place, "parse", "--out", whole))[0] == 0
    assert (tmp_path / "p.csv").read_text() == whole.read_text()


def test_locate_suggests_what_to_mark(place, capsys, tmp_path):
    code, said, err = run(capsys, *asked(place, "locate", "--suggest", "3"))
    assert (code, err) == (0, "")
    first = said.split()
    assert len(set(first)) == 3
    assert set(first) <= set(images(place).names)
    (tmp_path / "marks.csv").write_text(f"name,part,x,y\n{first[0]},eye,50,50\n")
    code, said, _ = run(capsys, *asked(place, "locate", "--suggest", "2",
                                       "--landmarks", tmp_path / "marks.csv"))  # fmt: skip
    assert said.split() == first[1:]


def test_tree_writes_modes_and_tells_how_good_they_are(place, capsys, tmp_path):
    drawn = creatures.draw(24, seed=5, size=SIDE)
    guardians = [f"{i}.png" for i in np.flatnonzero(drawn.labels == 1)]
    (tmp_path / "guardians.txt").write_text("\n".join(guardians))
    files = [tmp_path / f"tree.{suffix}" for suffix in ("html", "dot", "json")]
    arguments = ["--class", "1", "--positive", tmp_path / "guardians.txt"]
    arguments += [part for file in files for part in ("--out", file)]
    code, said, err = run(capsys, *asked(place, "tree", *arguments))
    assert (code, err) == (0, "")
    assert f"from {len(guardians)} images of guardian" in said
    assert "explained variance" in said
    assert "data:image/jpeg;base64," in files[0].read_text()
    tree = json.loads(files[2].read_text())
    assert tree["nodes"][0]["n_images"] == len(guardians)
    assert all(part.startswith("stage4/") for part in tree["nodes"][0]["parts"])
    code, said, _ = run(capsys, *asked(place, "tree", *arguments, "--layer", "stage3", "--quiet"))
    assert (code, said) == (0, "")
    assert '"stage3/' in files[2].read_text()


def test_tree_by_part(place, capsys, tmp_path):
    file, graph = part_graph_file(place, tmp_path)
    drawn = creatures.draw(24, seed=5, size=SIDE)
    guardians = [f"{i}.png" for i in np.flatnonzero(drawn.labels == 1)]
    (tmp_path / "guardians.txt").write_text("\n".join(guardians))
    command = asked(place, "tree", "--class", "1", "--positive", tmp_path / "guardians.txt",
                    "--by", "part", "--out", tmp_path / "tree.json")  # fmt: skip
    command[1] = file
    code, said, err = run(capsys, *command)
    assert (code, err) == (0, "")
    tree = json.loads((tmp_path / "tree.json").read_text())
    titles = {part.title for part in graph.parts}
    assert set(tree["nodes"][0]["parts"]) <= titles
    assert next(iter(tree["nodes"][1]["parts"])) in said


def test_compare_writes_what_the_library_finds(place, capsys, tmp_path):
    graph = place / "out" / "graph.explgraph"
    command = [
        "compare", graph, graph, "--images", place / "pictures", "--model", MODEL,
        "--classes", "horns,winged=4:4", "--permutations", 99,
    ]  # fmt: skip
    files = [tmp_path / f"found.{suffix}" for suffix in ("html", "csv", "md")]
    outs = [str(each) for file in files for each in ("--out", file)]
    code, said, _ = run(capsys, *map(str, command), *outs)
    assert code == 0
    assert said.startswith("Comparison over 24 images; ")
    assert "nothing changed" in said
    assert files[2].read_text() == said
    assert "<html" in files[0].read_text(encoding="utf-8")
    loaded = explgraph.load(graph)
    found = explgraph.compare(
        loaded, loaded, images(place), models=creatures.network(),
        classes={"horns": 3, "winged": 4}, permutations=99,
    )  # fmt: skip
    with files[1].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["part"], row["class_title"]) for row in rows] == [
        (change.part, change.class_title) for change in found.changes
    ]
    assert [float(row["before"]) for row in rows] == pytest.approx(
        [change.before for change in found.changes], abs=1e-5
    )
    for wrong, told in (("horns=x", "--classes: 'horns=x'"), ("a=1,a=2", "names 'a' twice")):
        code, _, err = run(capsys, *map(str, command[:7]), "--classes", wrong)
        assert code == 1
        assert told in err


def test_bias_by_part_says_which_parts_carry_it(place, capsys):
    code, said, err = run(capsys, *bias_command(place, "--by", "part"))
    assert code == 0, err
    assert " carried by |" in said
    assert "| part " in said


def test_export_writes_parts(place, capsys, tmp_path):
    file = place / "out" / "graph.explgraph"
    graph = explgraph.load(file)
    out = tmp_path / "parts.json"
    code, said, err = run(capsys, "export", file, out, "--what", "parts")
    assert (code, err) == (0, "")
    assert said == f"{out}: {len(graph.parts)} parts of {len(graph)} nodes\n"
    content = json.loads(out.read_text())
    assert [node["id"] for node in content["nodes"]] == [part.id for part in graph.parts]
    # two nodes of every part
    assert run(capsys, "export", file, out, "--top", "2", "--by", "part")[0] == 0
    content = json.loads(out.read_text())
    kept = {v for part in graph.parts for v in part.nodes[:2]}
    assert {node["id"] for node in content["nodes"]} == kept


def test_export_writes_a_part(place, capsys, tmp_path):
    file = place / "out" / "graph.explgraph"
    graph = explgraph.load(file)
    code, out, _ = run(capsys, "export", file, tmp_path / "best.explgraph", "--top", "0.25")
    assert code == 0
    assert explgraph.load(tmp_path / "best.explgraph") == graph.prune(top=0.25)
    assert out.startswith(f"{tmp_path / 'best.explgraph'}: from {len(graph.prune(top=0.25))} nodes")
    assert run(capsys, "export", file, tmp_path / "seven.json", "--top", "7")[0] == 0
    content = json.loads((tmp_path / "seven.json").read_text())
    assert [node["id"] for node in content["nodes"]] == list(graph.prune(top=7).node_ids)
    best = max(graph.nx.nodes[node]["reliability"] for node in graph.node_ids)
    assert run(capsys, "export", file, tmp_path / "r.json", "--min-reliability", best)[0] == 0
    assert len(json.loads((tmp_path / "r.json").read_text())["nodes"]) == 1
    assert run(capsys, "export", file, tmp_path / "few.json", "--max-nodes", "8")[0] == 0
    assert len(json.loads((tmp_path / "few.json").read_text())["nodes"]) == 8


def test_export_has_pictures(place, capsys, tmp_path):
    file = tmp_path / "few.explgraph"
    few = explgraph.load(place / "out" / "graph.explgraph").prune(top=12)
    few.save(file)
    for name in ("x.html", "x.svg"):
        sizes = []
        out = tmp_path / name
        _, told, err = run(capsys, "export", file, out)
        assert told.splitlines()[0] == f"pictures from {place / 'pictures'}"
        assert err == ""
        sizes.append(out.stat().st_size)
        code, told, _ = run(capsys, "export", file, out, "--images", place / "pictures", "--quiet")
        assert (code, told) == (0, "")
        sizes.append(out.stat().st_size)
        few.with_images(None).save(tmp_path / "forgot.explgraph")
        _, told, err = run(capsys, "export", tmp_path / "forgot.explgraph", out)
        assert "the graph doesn't know where its images are; give the folder by --images" in told
        assert err == ""
        assert out.stat().st_size < 0.8 * min(sizes)
    lost = explgraph.load(file)
    lost.whereabouts["folder"] = str(tmp_path / "nowhere")
    lost.save(file)
    code, told, err = run(capsys, "export", file, tmp_path / "y.svg")
    assert code == 0
    assert len(err.splitlines()) == 1
    assert re.match(r"warning: .*y\.svg has no pictures: .*nowhere.* \(in the shell --images", err)


@pytest.mark.parametrize("what", ["parts", "nodes", "filter", "layers"])
def test_draw(place, capsys, tmp_path, what):
    file = place / "out" / "graph.explgraph"
    out = tmp_path / f"{what}.svg"
    code, told, err = run(capsys, "draw", file, out, "--what", what, "--width", "84")
    assert (code, err) == (0, "")
    number = len(explgraph.load(file))
    assert told == (
        f"pictures from {place / 'pictures'}\n{out}: {what} of {number} nodes, 84 mm wide\n"
    )
    root = ElementTree.parse(out).getroot()
    assert float(root.get("width").removesuffix("pt")) == pytest.approx(84 / 25.4 * 72, rel=1e-3)
    assert list(root.iter("{http://www.w3.org/2000/svg}image"))
    other = [MODEL, "--images", place / "pictures"]
    assert run(capsys, "draw", file, out, "--what", what, "--model", *other, "--quiet")[:2] == (
        0,
        "",
    )


def test_draw_names_parts(place, capsys, tmp_path):
    file = place / "out" / "graph.explgraph"
    graph = explgraph.load(file)
    graph.name_part(graph.parts[0].id, "horn").write_labels(tmp_path / "labels.json")
    labels = ["--labels", tmp_path / "labels.json", "--most", "2"]
    assert run(capsys, "draw", file, tmp_path / "x.svg", *labels)[0] == 0
    content = (tmp_path / "x.svg").read_text()
    assert ">horn</text>" in content
    assert f">{graph.parts[2].title}</text>" not in content


def test_export_takes_up_labels(place, capsys, tmp_path):
    file = place / "out" / "graph.explgraph"
    keep, reject, *_ = explgraph.load(file).node_ids
    decisions = {"format": "explgraph labels", "format_version": 1,
                 "labels": {keep: "horn"}, "rejected": [reject]}  # fmt: skip
    (tmp_path / "labels.json").write_text(json.dumps(decisions))
    out = tmp_path / "named.json"
    assert run(capsys, "export", file, out, "--labels", tmp_path / "labels.json")[0] == 0
    nodes = {node["id"]: node for node in json.loads(out.read_text())["nodes"]}
    assert nodes[keep]["label"] == "horn"
    assert reject not in nodes


def test_view_serves_the_graph_with_its_pictures(place, capsys, monkeypatch):
    served = {}

    def serve(graph, images=None, **options):
        served.update(graph=graph, images=images, **options)

    monkeypatch.setattr("explgraph.views.viewer.serve", serve)
    file = place / "out" / "graph.explgraph"
    assert run(capsys, "view", file, "--no-browser", "--port", "8123")[0] == 0
    assert served["graph"] == explgraph.load(file)
    assert served["images"].path == place / "pictures"  # which the graph remembers
    assert (served["port"], served["open_browser"]) == (8123, False)
    assert run(capsys, "view", file, "--images", place / "pictures", "--model", MODEL)[0] == 0
    assert served["images"].names == images(place).names
    assert served["parse"].names == images(place).names
    assert served["open_browser"] is True


def test_info_describes_a_graph(place, capsys):
    file = place / "out" / "graph.explgraph"
    code, out, err = run(capsys, "info", file)
    graph = explgraph.load(file)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"{len(graph)} nodes, {graph.nx.number_of_edges()} edges"
    assert lines[1] == "mined from 24 images of 112 x 112 px, seed 0"
    assert f"pictures: 24 images in {place / 'pictures'}" in lines
    top = next(line for line in lines if line.startswith("stage4"))
    assert "128 x 7 x 7" in top
    assert str(len(graph.nodes_of("stage4"))) in top.split()
    nodes = [graph.nx.nodes[v] for v in graph.nodes_of("stage4")]
    least = np.quantile([a["reliability"] for a in nodes], 0.75)
    follows = np.median([a["follows"] for a in nodes if a["reliability"] >= least])
    assert top.split()[-2:] == [f"{least:.2f}", f"{follows:.2f}"]
    assert lines.index(top) < next(i for i, line in enumerate(lines) if line.startswith("stage3"))
    reliable = [a for a in graph.nx.nodes.values() if a["reliability"] > 0]
    held = 100 * sum(bool(a["part"]) for a in reliable) / len(reliable)
    first = graph.parts[0]
    assert lines[-1].startswith(
        f"{len(graph.parts)} parts in 2 layers hold {held:.0f} % of the reliable nodes: "
        f"part 1 ({len(first.nodes)} nodes), part 2 ("
    )


@pytest.mark.parametrize("there", [True, False])
def test_info_alone_tells_what_is_installed(there, capsys, monkeypatch):
    monkeypatch.setattr(kernel, "available", there)
    monkeypatch.setattr(graphs, "find_spec", lambda name: name != "wasmtime" or None)
    code, out, err = run(capsys, "info")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"explgraph {explgraph.__version__} in {Path(explgraph.__file__).parent}"
    assert f"torch {torch.__version__}" in lines[1]
    assert lines[2].startswith(f"compiled kernel: {'in use' if there else 'not there'}")
    assert "draw: no: pip install 'explgraph[draw]'" in lines
    assert "store: yes" in lines


def test_info_lists_the_layers_that_can_be_mined(capsys):
    code, out, err = run(capsys, "info", "--model", MODEL, "--size", "112x160")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    stage4 = next(line.split() for line in lines if line.startswith("stage4 "))
    assert stage4 == ["stage4", "_Residual", "128", "x", "7", "x", "10", "suggested"]
    assert any(line.startswith("stage4: the widest and last of its grid") for line in lines)
    assert len(lines) <= 36, "a screen"
    assert not any(line.startswith("head") for line in lines)
    suggested = lines[-1].removeprefix("suggested: --layers ").split(",")
    assert len(suggested) == 3
    assert set(suggested) <= {line.split()[0] for line in lines if line}
    known = explgraph.list_layers(creatures.network(), (112, 160))
    assert f" of {len(known)} layers" in out
    _, out, _ = run(capsys, "info", "--model", MODEL, "--size", "112x160", "--all")
    shown = [line.split()[0] for line in out.split("\n\n")[0].splitlines()[1:]]
    assert [name.partition("@")[0] for name in shown] == [layer.name for layer in known]


def test_info_takes_the_channels_of_the_network(capsys, tmp_path, monkeypatch):
    (tmp_path / "four_bands.py").write_text(
        "import torch\n\ndef build():\n    return torch.nn.Sequential(torch.nn.Conv2d(4, 5, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    for given in ((), ("--channels", "4")):
        code, out, err = run(capsys, "info", "--model", "four_bands:build", *given)
        assert (code, err) == (0, "")
        assert "5 x 222 x 222" in out
    code, _, err = run(capsys, "info", "--model", "four_bands:build", "--channels", "3")
    assert code == 1
    assert "give channels=4 (--channels 4)" in err


def test_on_a_terminal_something_is_said_at_once(capsys, monkeypatch):
    for terminal, quiet, said in ((True, [], True), (True, ["--quiet"], False), (False, [], False)):
        monkeypatch.setattr(sys.stderr, "isatty", lambda here=terminal: here)
        _, _, err = run(capsys, "info", *quiet)
        assert err.startswith("loading torch ...\r") == said
        assert err.rstrip(" \r") == ("loading torch ..." if said else "")  # wiped out again


def test_a_factory_in_the_current_folder_is_found(capsys, tmp_path, monkeypatch):
    (tmp_path / "my_own_network.py").write_text(
        "import torch\n\ndef build():\n    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    code, out, _ = run(capsys, "info", "--model", "my_own_network:build", "--size", "16")
    assert code == 0
    assert "4 x 14 x 14" in out


def test_weights_of_a_file(place, capsys, tmp_path):
    torch.manual_seed(0)
    state = creatures.network(pretrained=False).state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "w.safetensors")
    code, _, err = run(
        capsys, "parse", place / "out" / "graph.explgraph", "--images", place / "pictures",
        "--model", MODEL, "--weights", tmp_path / "w.safetensors", "--out", tmp_path / "p.npz",
    )  # fmt: skip
    assert code == 0
    # a warning is one line, without the place in the code
    assert err.startswith("warning: the model's weights are not those that the graph was mined")
    assert all(line.startswith("warning: ") for line in err.splitlines())


# ----------------------------------------------------------------------------- how it is called


def commands():
    """Give each command's parser by name."""
    actions = cli.parser()._subparsers._group_actions
    return actions[0].choices


def test_the_commands():
    assert set(commands()) == {
        "demo", "record", "mine", "parse", "evaluate", "locate", "explain", "circuit", "bias",
        "effects", "ablate", "tree", "mend", "compare", "visualize", "export", "draw", "view",
        "info", "teach",
    }  # fmt: skip


@pytest.mark.parametrize("name", commands())
def test_every_help_has_examples_that_are_right(name, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    assert end.value.code == 0
    help_text = capsys.readouterr().out
    _, found, examples = help_text.partition("example:\n")
    assert found
    for example in examples.replace("\\\n", " ").splitlines():
        program, *arguments = shlex.split(example)
        if program == "torchrun":
            arguments = arguments[arguments.index("explgraph") + 1 :]
        else:
            assert program == "explgraph"
        assert arguments[0] == name
        cli.parser().parse_args(arguments)  # SystemExit if it were wrong


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["mien"], "invalid choice: 'mien'"),
        (["mine", "--images", "x", "--out", "y"], "--model"),
        ([*mine_command(Path("x"))[:-6], "--out", "y", "--size", "big"], "invalid size value"),
        ([*mine_command(Path("x"))[:-6], "--out", "y", "--size", "1x2x3"], "expected N or HxW"),
        ([*mine_command(Path("x"))[:-6], "--out", "y", "--mean", "1,b"], "invalid number value"),
        ([*mine_command(Path("x"))[:-6], "--out", "y", "--formats", "jpg"], "no format 'jpg'"),
        ([*mine_command(Path("x"))[:-6], "--out", "y", "--seed", "-1"], "expected 0 to"),
        ([*mine_command(Path("x"))[:-6], "--out", "y", "--set", "pose"], "expected NAME=VALUE"),
        ([*mine_command(Path("x"))[:-6], "--out", "y", "--batch-size", "0"], "above 0"),
        (["mine", "--out", "y"], "--images, --model"),
        (["mine", "--out", "y", "--store", "s", "--model", "a:b"], "--images"),
        (["mine", "--out", "y", "--store", "s", "--layers", "a"], "a store has its layers"),
        (["record", *mine_command(Path("x"))[1:]], "--store"),
        (["mine", "--layers", "a,,b"], "names with commas between"),
        (["bias", "g", "--parts", "a=b,a=c"], "'a' is there twice"),
        (["effects", "g", "--classes", "a=1,a=2"], "'a' is there twice"),
        (["bias", "g", "--parts", "horns"], "expected name=value with commas between"),
        (
            ["bias", "g", "--columns", "horns=x"],
            "expected NAME=NUMBER,..., got 'horns' in 'horns=x'",
        ),
    ],
)
def test_a_wrong_command_line_ends_with_2(arguments, said, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_ctrl_c_ends_with_130(place, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("explgraph.activations.recording.record", interrupted)
    assert run(capsys, *mine_command(place), "--out", place / "never") == (130, "", "stopped\n")


def test_help_does_not_wait_for_torch():
    code = (
        "import sys, explgraph; from explgraph.cli.entry import parser; parser().format_help();"
        "print({'torch', 'numpy', 'networkx', 'PIL', 'matplotlib'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "explgraph", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"explgraph {explgraph.__version__}\n"


def test_a_reader_that_leaves_is_no_error(place):
    """As in ``explgraph info ... | head -1``."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "explgraph", "info", place / "out" / "graph.explgraph"],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


# --------------------------------------------------------------------------------- wrong inputs


def broken_network():
    """A network whose second stage gives NaN."""
    model = creatures.network()
    with torch.no_grad():
        model.stage3.bn1.weight[0] = torch.nan
    return model


def other_network():
    """The network with other weights."""
    torch.manual_seed(0)
    return creatures.network(pretrained=False)


def narrow_network():
    """A network with the layers' names but fewer filters."""
    model = torch.nn.Module()
    model.stage3 = torch.nn.Conv2d(3, 5, 8, 8)
    model.stage4 = torch.nn.Conv2d(5, 6, 2, 2)
    model.forward = lambda x: model.stage4(model.stage3(x))
    return model


def another_network():
    torch.manual_seed(1)
    return creatures.network(pretrained=False)


HERE = f"{__name__}:"


@pytest.fixture
def wrong(place, tmp_path):
    """Things that are wrong, by name."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "unreadable").mkdir()
    (tmp_path / "unreadable" / "a.png").write_bytes(b"no picture")
    good = (place / "out" / "graph.explgraph").read_bytes()
    (tmp_path / "truncated.explgraph").write_bytes(good[: len(good) // 2])
    (tmp_path / "text.explgraph").write_text("no graph")
    explgraph.load(place / "out" / "graph.explgraph").with_images(None).save(
        tmp_path / "forgot.explgraph"
    )
    with (
        zipfile.ZipFile(place / "out" / "graph.explgraph") as old,
        zipfile.ZipFile(tmp_path / "future.explgraph", "w") as new,
    ):
        for member in old.namelist():
            data = old.read(member)
            if member == "manifest.json":
                data = json.dumps(json.loads(data) | {"format_version": 99}).encode()
            new.writestr(member, data)
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "list.txt").write_text("0.png\n99.png\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "no.json").write_text("{")
    (tmp_path / "other.json").write_text("[1]")
    (tmp_path / "few.csv").write_text("name,horns,wings\n0.png,1,0\n")
    (tmp_path / "outside.csv").write_text("name,part,x,y\n0.png,eye,-50,10\n")
    (tmp_path / "absent.csv").write_text("name,part\n77.png,eye\n")
    (tmp_path / "noses.csv").write_text("name,part\n0.png,nose\n")
    (tmp_path / "halves.csv").write_text("name,part\n0.png\n")
    (tmp_path / "far.csv").write_text("name,part,x,y\n0.png,eye,5000,-40\n")
    (tmp_path / "commas.csv").write_text("name,x0,y0,x1,y1\n0.png,1,5,2,60,60,5\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    return {
        "here": tmp_path,
        "pictures": place / "pictures",
        "graph": place / "out" / "graph.explgraph",
        "marks": place / "marks.csv",
        "labels": place / "attributes.csv",
        "ready": " ".join(READY),
        "model": MODEL,
        "tests": HERE,
    }


MINE = "mine --images {pictures} --model {model} --layers stage4 {ready} --out {here}/out "
PARSE = "parse {graph} --images {pictures} --model {model} --out {here}/p.csv "
EVALUATE = "evaluate {graph} --images {pictures} --landmarks {marks} --model {model} "
FAITHFUL = "evaluate {graph} --images {pictures} --faithful --model {model} "
EFFECTS = "effects {graph} --images {pictures} --model {model} --out {here}/x.explgraph "
ABLATE = "ablate {graph} --images {pictures} --model {model} "
LOCATE = (
    "locate {graph} --images {pictures} --landmarks {marks} --model {model} --out {here}/x.csv "
)
EXPLAIN = "explain {graph} {pictures}/3.png --model {model} "
TREE = "tree {graph} --images {pictures} --model {model} --class 1 --out {here}/x.html "
WRONG = {
    "unknown layer": (MINE + "--layers stage5", "'stage5'", "'stage4'"),
    "layer without a grid": (MINE + "--layers head", "'head'", "grid"),
    "no folder": (MINE + "--images {here}/none", "none"),
    "empty folder": (MINE + "--images {here}/empty", "empty", "no image"),
    "unreadable": (MINE + "--images {here}/unreadable", "a.png (not an image)", "skip"),
    "all unreadable": (
        MINE + "--images {here}/unreadable --unreadable skip", "no readable image is left",
    ),
    "NaN": (MINE + "--layers stage3 --model {tests}broken_network", "'stage3'", "NaN", "0.png"),
    "small images": (MINE + "--size 3", "'stage4'"),
    "std 0": (MINE + "--std 0", "std must be above 0"),
    "list": (MINE + "--list {here}/list.txt", "'99.png'"),
    "no list": (MINE + "--list {here}/nothing", "--list", "nothing", "No such file"),
    "binary list": (MINE + "--list {here}/bytes.txt", "isn't a text file"),
    "sources": (MINE + "--one-per-source {here}/no.json", "--one-per-source", "isn't JSON"),
    "other sources": (MINE + "--one-per-source {here}/other.json", '"source"'),
    "boxes": (MINE + "--boxes {here}/nothing.csv", "nothing.csv", "boxes"),
    "model": (MINE + "--model vgg16", "'vgg16'", "torchvision:NAME"),
    "no module": (MINE + "--model no_such_module:f", "no_such_module", "can't be imported"),
    "no factory": (MINE + "--model explgraph.creatures:netwrk", "'netwrk'", "'network'"),
    "no weights": (MINE + "--weights {here}/w.pt", "w.pt", "No such file"),
    "wrong weights": (MINE + "--weights {here}/file", "file", "state dict"),
    "device": (MINE + "--device gpu7", "'gpu7'"),
    "out is a file": (MINE + "--out {here}/file", "can't write", "file"),
    "out in a file": (MINE + "--out {here}/file/deep", "can't write", "writable"),
    "no store": ("mine --store {here}/nothing --out {here}/out", "is no store of activations"),
    "store in the way": (MINE + "--store {pictures}", "holds something else"),
    "no graph": ("info {here}/nothing", "nothing"),
    "truncated": (PARSE.replace("{graph}", "{here}/truncated.explgraph"), "truncated.explgraph"),
    "not a graph": ("info {here}/text.explgraph", "text.explgraph"),
    "another version": ("info {here}/future.explgraph", "99"),
    "graph is a folder": ("info {here}", "{here}"),
    "other size": (PARSE + "--size 128", "128 x 128", "112 x 112"),
    "other size of the same grid": (PARSE + "--size 111", "111 x 111", "112 x 112"),
    "table": (PARSE + "--out {here}/p.xlsx", "'.xlsx'", ".csv, .json, .parquet, .npz"),
    "table in a file": (PARSE + "--out {here}/file/p.csv", "can't write"),
    "no landmarks": (EVALUATE + "--landmarks {here}/nothing.csv", "nothing.csv"),
    "other landmarks": (EVALUATE + "--landmarks {here}/list.txt", "parts.txt"),
    "no mark": (EVALUATE + "--landmarks {here}/far.csv", "0 of the 24 images are marked"),
    "setting": (MINE + "--set poes=3", "'poes' is unknown; did you mean 'pose'", "n_parents"),
    "no number": (MINE + "--set pose=3.5", "--set pose=3.5: expected a whole number"),
    "bad setting": (MINE + "--set apart=2", "--set: apart must be a number above 0"),
    "setting twice": (MINE + "--set pose=2 --set pose=3", "'pose' is given twice"),
    "huge": (MINE + "--size 100000", "at most 16384 px"),
    "a class of no boxes": (MINE + "--box-class bird", "give boxes (--boxes) as well"),
    "classes of a table": (MINE + "--boxes {here}/commas.csv --box-class bird", "line 2"),
    "decimal commas": (MINE + "--boxes {here}/commas.csv", "line 2", "decimal point"),
    "no part": (EVALUATE + "--parts haed", "'haed'", "'head'"),
    "neither marks nor scores": (FAITHFUL.replace("--faithful ", ""), "--landmarks", "--faithful"),
    "marks for scores": (FAITHFUL + "--landmarks {marks}", "leave out --landmarks"),
    "class of marks": (EVALUATE + "--class guardian", "--class goes with --faithful"),
    "nothing stands in": (FAITHFUL + "--replacement mean", "needs --others"),
    "faithful to no class": (FAITHFUL + "--class gardian", "'gardian'", "'guardian'"),
    "faithful's out": (FAITHFUL + "--out {here}/q.html", "q.html", ".md"),
    "faithful in no layer": (FAITHFUL + "--layer stage9", "'stage9'"),
    "evaluate's out": (EVALUATE + "--out {here}/q.xls", "q.xls", ".md"),
    "evaluate, other size": (EVALUATE + "--size 111", "111 x 111"),
    "nothing to locate by": (
        "locate {graph} --images {pictures} --model {model}", "--landmarks", "--suggest K",
    ),
    "nowhere to put places": (LOCATE.replace("--out {here}/x.csv", ""), "--landmarks needs --out"),
    "locate's out": (LOCATE + "--out {here}/x.npz", "x.npz", ".csv, .json"),
    "labelled": (LOCATE + "--labelled {here}/x.json", "x.json", ".explgraph"),
    "no marks": (LOCATE + "--landmarks {here}/nothing.csv", "nothing.csv"),
    "marks of others": (LOCATE + "--images {here}/empty", "no image"),
    "marks elsewhere": (LOCATE + "--landmarks {here}/outside.csv", "outside.csv", "marks no part"),
    "absent": (LOCATE + "--absent {here}/list.txt", "list.txt", "name, part"),
    "absent image": (LOCATE + "--absent {here}/absent.csv", "'77.png'", "the images lack"),
    "absent without a part": (LOCATE + "--absent {here}/halves.csv", "line 2", "1 values for 2"),
    "absent part": (LOCATE + "--absent {here}/noses.csv", "'nose'", "marked are"),
    "too many": (LOCATE + "--suggest 25", "k is 25", "expected 1 to"),
    "locate, nobody new": (LOCATE + "--new {here}/empty", "no image"),
    "no labels": (BIAS + "--attributes {here}/nothing.csv", "nothing.csv", "No such file"),
    "few labels": (BIAS + "--attributes {here}/few.csv", "no labels for 23 of 24", "--list"),
    "other labels": (BIAS + "--attributes {marks}", "must be 1 or 0"),
    "other outputs": (BIAS + "--columns horns=3,wings=4", "'striped'"),
    "no such output": (BIAS + "--columns horns=3,wings=4,striped=99", "column 99", "0 to 12"),
    "outputs of bias": (BIAS + "--outputs horns=3,wings=4", "columns are named by --columns"),
    "no such outputs": (EFFECTS + "--outputs builtins:summ", "has no 'summ'", "'sum'"),
    "outputs of no module": (ABLATE + "--by part --outputs nothere:f", "can't be imported"),
    "outputs that fail": (TREE + "--outputs json:dumps", "outputs fails on what the model gives"),
    "outputs of nothing": (EXPLAIN + "--outputs operator:not_", "outputs fails"),
    "outputs, a class": (EXPLAIN + "--outputs builtins:dict", "is a class, expected a function"),
    "no expectations": (BIAS + "--expected {labels}", "target, source, relation"),
    "places": (BIAS + "--parts horns=horn", "--landmarks"),
    "no such part": (BIAS + "--landmarks {marks} --parts horns=hron", "'hron'", "'horn'"),
    "no such layer": (BIAS + "--layer stage1", "'stage1'", "stage4"),
    "bias of another model": (BIAS + "--model {tests}another_network", "weights are not those"),
    "bias's out": (BIAS + "--out {here}/q.xls", "q.xls", ".md"),
    "margin": (BIAS + "--margin -1", "margin", "-1"),
    "nobody to judge": (BIAS + "--judge {here}/empty", "no image"),
    "class": (TREE + "--class 13", "class 13", "13 classes"),
    "nobody": (TREE + "--positive {here}/empty.txt", "never occurs in the 24 images"),
    "positive": (TREE + "--positive {here}/list.txt", "--positive", "'99.png'"),
    "nothing to explain": (
        "explain {graph} {here}/none.png --model {model}", "no such file"
    ),
    "a folder to explain": ("explain {graph} {pictures} --model {model}", "is a folder"),
    "no such class": (EXPLAIN + "--class horn", "'horn'", "did you mean 'horns'"),
    "no number of a class": (EXPLAIN + "--class 13", "13 classes, 0 to 12"),
    "explain's layer": (EXPLAIN + "--layer stage2", "'stage2'", "stage4, stage3"),
    "few names of classes": (EXPLAIN + "--class-names {pictures}/../marks.csv", "names"),
    "explain's model": (
        "explain {graph} {pictures}/3.png --model {tests}other_network", "weights are not those"
    ),
    "tree's out": (TREE + "--out {here}/t.pdf", "t.pdf", ".html, .dot"),
    "tree's layer": (TREE + "--layer stage2", "'stage2'", "'stage3'"),
    "tree of another model": (TREE + "--model {tests}other_network", "weights are not those"),
    "effects of another model": (
        EFFECTS + "--model {tests}other_network", "weights are not those", "was mined",
    ),
    "class's number": (EFFECTS + "--classes dog=13", "'dog' is number 13", "0 to 12"),
    "class's name": (EFFECTS + "--classes 'red panda=1'", "'red panda'", "letters"),
    "effects' out": (EFFECTS + "--out {here}/x.xls", "'.xls'", ".explgraph"),
    "no node": (ABLATE + "--nodes stage4/999/0", "no node 'stage4/999/0'"),
    "ablate's out": (ABLATE + "--nodes stage4/1/0 --out {here}/s.txt", "s.txt", ".csv"),
    "nothing to ablate": (ABLATE, "--nodes A,B", "--by part"),
    "no such part to ablate": (ABLATE + "--by part --nodes p99", "'p99'", "its parts are part 1"),
    "parts' store": (PARSE + "--by part --out {here}/p.zarr", "--out of parts", "'.zarr'"),
    "parts' picture": ("export {graph} {here}/x.svg --what parts", "OUT of parts", ".graphml"),
    "few of parts": ("export {graph} {here}/x.json --what parts --max-nodes 3", "--max-nodes"),
    "suffix": ("export {graph} {here}/x.jpg", "'.jpg'", ".graphml"),
    "out of range": ("export {graph} {here}/x.json --min-reliability 2", "2.0", "0 to 1"),
    "no such share": ("export {graph} {here}/x.json --top 1.5", "1.5"),
    "labels": ("export {graph} {here}/x.json --labels {here}/no.json", "no.json"),
    "images": ("export {graph} {here}/x.json --images {pictures}", ".html"),
    "draw's suffix": ("draw {graph} {here}/x.html", "expected one of .svg, .png, .pdf"),
    "a filter of parts": ("draw {graph} {here}/x.svg --filter stage4/1", "--what filter"),
    "no such filter": ("draw {graph} {here}/x.svg --what filter --filter 4", "LAYER/NUMBER"),
    "too narrow": ("draw {graph} {here}/x.svg --width 5", "60 to 400 mm"),
    "too fine": ("draw {graph} {here}/x.svg --dpi 9999", "50 to 1200"),
    "model alone": ("export {here}/forgot.explgraph {here}/x.html --model {model}", "--images"),
    "export's out": ("export {graph} {here}/empty/../empty", "suffix"),
    "two to tell of": ("info {graph} --model {model}", "--model SPEC, not both"),
    "no maps": ("info --model {model} --size 1", "1 x 1"),
}  # fmt: skip


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.python311) if " --store " in WRONG[case][0] else case
        for case in WRONG
    ],
)
def test_a_mistake_is_one_line_and_ends_with_1(case, wrong, capsys):
    command, *told = WRONG[case]
    arguments = shlex.split(command.format(**wrong))
    code, out, err = run(capsys, *arguments)
    assert code == 1, out
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for text in told:
        assert text.format(**wrong) in err
    assert not list(wrong["here"].glob("out/graph*"))
    assert not list(wrong["here"].glob("x.*"))


def test_another_model_is_refused(wrong, capsys):
    command = PARSE.format(**wrong) + f"--model {HERE}narrow_network"
    code, _, err = run(capsys, *shlex.split(command))
    assert code == 1
    warned, refused = err.splitlines()
    assert warned.startswith("warning: the model's weights")
    assert refused.startswith("error: layer 'stage3' gives (5, 14, 14) per image")


def test_the_folder_is_checked_before_the_work(wrong, capsys, monkeypatch):
    def too_late(*_, **__):
        raise AssertionError("the work began")

    for name in ("activations.recording.record", "parsing.parse", "network.models.load_model"):
        monkeypatch.setattr(f"explgraph.{name}", too_late)
    for command in (MINE + "--out {here}/file", PARSE + "--out {here}/file/p.csv"):
        assert run(capsys, *shlex.split(command.format(**wrong)))[0] == 1


def test_a_graph_mined_from_a_tensor_needs_the_colours(wrong, capsys, tmp_path):
    picture = creatures.draw(8, seed=3).tensor()
    explgraph.mine(creatures.network(), picture, ["stage4"]).save(tmp_path / "t.explgraph")
    command = shlex.split(PARSE.replace("{graph}", "{here}/t.explgraph").format(**wrong))
    code, _, err = run(capsys, *command)
    assert code == 1
    assert "give --mean and --std" in err
    assert run(capsys, *command, *READY)[0] == 0


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_an_optional_package_that_is_missing(package, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # importing it then fails
    code, _, err = run(capsys, "info", "--model", f"{package}:resnet18")
    assert code == 1
    assert f"pip install 'explgraph[{package}]'" in err


def test_a_place_that_was_tried_leaves_no_folder_behind(tmp_path):
    check_folder(tmp_path / "new" / "deep" / "graph.explgraph")
    assert not (tmp_path / "new").exists()


def test_names_of_files_that_are_no_utf8_come_out_as_they_are(place, capsys, tmp_path):
    strange = os.fsdecode(b"\xff\xfe.png")
    (tmp_path / "pictures").mkdir()
    try:
        shutil.copy(place / "pictures" / "3.png", tmp_path / "pictures" / strange)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 names only")
    graph = place / "out" / "graph.explgraph"
    asked = ["--images", tmp_path / "pictures", "--model", MODEL]
    for command in ("parse", "ablate"):
        more = ["--nodes", explgraph.load(graph).node_ids[0]] if command == "ablate" else []
        out = tmp_path / f"{command}.csv"
        code, _, err = run(capsys, command, graph, *asked, *more, "--out", out)
        assert (code, err) == (0, "")
        assert b"\n\xff\xfe.png," in out.read_bytes()
