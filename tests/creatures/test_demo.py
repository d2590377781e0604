"""The demo's folder, and whether its report says what the files hold."""

import json
import re

import numpy as np
import pytest
from PIL import Image

import explgraph
from explgraph import creatures
from explgraph.cli import entry as cli
from explgraph.creatures import demo
from explgraph.evaluation.landmarks import read_landmarks
from explgraph.evaluation.planted import planted_parts
from explgraph.suffixes import SUFFIXES


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The demo's folder, with fewer creatures than usual, and the figures."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "N_MINED", 60)
        patch.setattr(demo, "N_NEW", 60)
        return folder, demo.demo(folder)


def test_every_format_and_the_report_are_there(ran):
    folder, figures = ran
    names = {path.name for path in folder.iterdir()}
    expected = {f"graph{suffix}" for suffix in SUFFIXES} - {"graph.gv"}
    assert names == expected | {"graph.explgraph", "mined", "new", "report.md", "report.json"}
    assert json.loads((folder / "report.json").read_text()) == figures
    assert (folder / "report.md").read_text() == demo.markdown(figures)
    assert "<svg" in (folder / "graph.svg").read_text()


def test_the_pictures_and_their_landmarks_are_those_of_the_creatures(ran):
    folder, _ = ran
    for name, seed in (("mined", 1), ("new", 2)):
        drawn = creatures.draw(60, seed=seed)
        with Image.open(folder / name / "0007.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), drawn.images[7])
        marks = read_landmarks(folder / name / "landmarks.csv")
        for part, places in drawn.parts.items():
            seen = drawn.visible[part]
            np.testing.assert_allclose(marks.parts[part][seen], places[seen], atol=0.006)
            assert np.isnan(marks.parts[part][~seen]).all()


def test_the_report_is_true_of_the_files(ran):
    """From the files alone, by the library's front door."""
    folder, figures = ran
    graph = explgraph.load(folder / "graph.explgraph")
    new = explgraph.ImageFolder(folder / "new", **graph.nx.graph["preprocessing"])
    parse = graph.parse(creatures.network(), new)
    marks = read_landmarks(folder / "new" / "landmarks.csv").to_network(new)
    planted = planted_parts(parse.positions, parse.scores, marks.parts, min_purity=0)
    rows = figures["by_part"]
    assert list(rows) == list(creatures.PARTS)
    for part, row in rows.items():
        assert row["node"] == parse.nodes[planted[part].node]
        assert row["tracking"] == pytest.approx(planted[part].tracking, abs=2e-3)
        assert row["error_px"] == pytest.approx(planted[part].error, abs=0.01)
    followed = [row["tracking"] >= 0.8 for row in rows.values()]
    assert figures["parts_followed"] == sum(followed)
    assert figures["parts_followed_alone"] <= figures["parts_followed"]
    # measured 6 of 11, and 3 with raw peaks; the rest moves too freely for this small network
    assert figures["parts_followed"] >= 4
    assert [row["followed"] for row in rows.values()] == followed
    assert figures["nodes"] == len(graph)
    assert figures["images_mined"] == graph.nx.graph["n_images"] == 60
    assert figures["images_measured"] == 60


def test_the_report_shows_the_figures(ran):
    _, figures = ran
    text = demo.markdown(figures)
    assert f"**{figures['parts_followed']} of 11 planted parts have a node" in text
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if " | `" in line]
    assert [row[0] for row in cells] == list(creatures.PARTS)
    for part, node, tracking, _, error, follows in cells:
        row = figures["by_part"][part]
        assert node == f"`{row['node']}`"
        assert float(tracking) == pytest.approx(row["tracking"], abs=0.0051)
        assert float(error) == pytest.approx(row["error_px"], abs=0.051)
        assert follows == ("yes" if row["followed"] else "no")


def test_the_command_prints_the_report_and_commands_that_work(tmp_path, capsys, monkeypatch):
    for name in ("N_MINED", "N_NEW"):
        monkeypatch.setattr(demo, name, 16)
    out = tmp_path / "d"
    assert cli.main(["demo", "--out", str(out), "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith((out / "report.md").read_text())
    assert explgraph.load(out / "graph.explgraph").nx.graph["seed"] == 3
    suggested = re.findall(r"^  explgraph (.*)$", printed, flags=re.MULTILINE)
    assert [line.split()[0] for line in suggested] == ["view", "draw", "evaluate"]
    drawing = suggested[1].split()
    assert cli.main([*drawing[:-1], str(tmp_path / drawing[-1])]) == 0
    assert (tmp_path / drawing[-1]).read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert cli.main([*suggested[2].split(), "--parts", "head"]) == 0
    assert "| stage2 | nodes, best quarter |" in capsys.readouterr().out


def test_a_place_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["demo", "--out", str(tmp_path / "file")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "can't write" in said.err
