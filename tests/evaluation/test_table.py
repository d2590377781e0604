"""A graph's evaluation: each row against the measure taken by hand."""

import numpy as np
import pytest
import readers
import torch
from PIL import Image

import explgraph
from explgraph import creatures
from explgraph.evaluation import controls, metrics
from explgraph.evaluation import table as evaluation
from explgraph.evaluation.landmarks import Landmarks, from_creatures
from explgraph.statistics.fitted import Fitted
from explgraph.statistics.inference import infer, scaled
from explgraph.statistics.mixture import Grid


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Model, graph, images, landmarks: 30 creatures."""
    folder = tmp_path_factory.mktemp("evaluation")
    drawn = creatures.draw(30, seed=8)
    names = [f"{i:02d}.png" for i in range(len(drawn))]
    for name, pixels in zip(names, drawn.images, strict=True):
        Image.fromarray(pixels).save(folder / name)
    images = explgraph.ImageFolder(folder, size=112, mean=creatures.MEAN, std=creatures.STD)
    model = creatures.network()
    graph = explgraph.mine(model, images, ["stage4", "stage3"])
    return model, graph, images, from_creatures(drawn, names)


@pytest.fixture(scope="module")
def rows(case):
    return evaluation.evaluate(*case, parts=["head", "rump"])


def find(rows, layer, method, part="head"):
    (row,) = (r for r in rows if (r["layer"], r["method"], r["part"]) == (layer, method, part))
    return row


def assert_measures(row, positions, scores, case, part="head"):
    table = metrics.table_row(positions, scores, case[3].parts[part], (112, 112))
    assert {k: row[k] for k in table} == pytest.approx(table, rel=1e-6, nan_ok=True)


def test_rows_are_those_of_the_parse(case, rows):
    model, graph, images, _ = case
    parse = graph.parse(model, images)
    nodes = [i for i, node in enumerate(parse.nodes) if node.startswith("stage3/")]
    assert_measures(
        find(rows, "stage3", "nodes, all", "rump"),
        parse.positions[:, nodes], parse.scores[:, nodes], case, "rump",
    )  # fmt: skip
    reliability = [graph.nx.nodes[parse.nodes[i]]["reliability"] for i in nodes]
    order = np.argsort(-np.array(reliability), kind="stable")[: round(len(nodes) / 4)]
    best = np.array(nodes)[order]
    assert_measures(
        find(rows, "stage3", "nodes, best quarter"),
        parse.positions[:, best], parse.scores[:, best], case,
    )  # fmt: skip
    assert_measures(
        find(rows, "stage3", "best quarter, pose's prediction alone"),
        parse.expected[:, best], parse.scores[:, best], case,
    )  # fmt: skip


def test_baselines(case, rows):
    model, _, images, _ = case
    assert find(rows, None, "points that never move")["tracking"] == pytest.approx(0, abs=1e-9)
    with torch.no_grad():
        maps = model.stage3(model.stage2(model.stage1(torch.stack(list(images)))))
    _, c, _, w = maps.shape
    value, unit = maps.flatten(2).max(-1)
    # unit centres of stage 3: stride 8; whatever their offset, tracking is that of the peaks
    peaks = torch.stack([unit % w, unit // w], -1) * 8.0
    scores = value / maps.transpose(0, 1).reshape(c, -1).std(1, correction=0).clamp(min=1e-9)
    table = metrics.table_row(peaks.numpy(), scores.numpy(), case[3].parts["head"], (112, 112))
    row = find(rows, "stage3", "raw peaks")
    assert (row["nodes"], row["tracking"]) == (c, pytest.approx(table["tracking"], abs=1e-6))
    assert row["images"] == np.isfinite(case[3].parts["head"][:, 0]).sum()


def test_shuffled_evidence_is_other_images_maps(case, rows):
    """The pose is the image's own; a node's place among what another image shows."""
    model, graph, images, _ = case
    recorded = explgraph.record(model, images, ["stage4", "stage3"])
    fitted = Fitted.unpack(graph.fitted, graph.layers)
    grids = {layer.index: Grid.of(layer) for layer in graph.layers}
    maps = {
        layer.index: scaled(recorded.maps[layer.index], fitted.layers[layer.index].scale)
        for layer in graph.layers
    }
    poses = fitted.poses(maps, grids)
    order = controls.derangement(len(images), np.random.default_rng([0, 0]))
    top = fitted.layers[1]
    found = infer(top, maps[1][torch.from_numpy(order)], poses, grids[1], 112.0**2)
    nodes = [graph.nx.nodes[node] for node in graph.nodes_of("stage4")]
    best = controls.best([a["reliability"] for a in nodes], 0.25)
    column = [nodes[i]["filter"] * top.sigma.shape[1] + nodes[i]["pattern"] for i in best]
    assert_measures(
        find(rows, "stage4", "best quarter, evidence shuffled"),
        found.positions[:, column].numpy(), found.scores[:, column].numpy(), case,
    )  # fmt: skip


def test_the_table_holds_the_means_over_the_parts(rows):
    lines = evaluation.markdown(rows).splitlines()
    assert lines[0].startswith("| layer | method | nodes | instability | tracking | 1-shot |")
    assert len(lines) == 2 + 2 + 5 * 2
    line = next(line for line in lines if line.startswith("| stage4 | nodes, all |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    pair = [find(rows, "stage4", "nodes, all", part)["10-shot"] for part in ("head", "rump")]
    assert cells[evaluation.COLUMNS.index("10-shot") + 2] == f"{np.mean(pair):.3f}"
    assert cells[-1] == ""  # 50-shot of 30 images


def test_what_does_not_fit_is_refused(case):
    model, graph, images, marks = case
    with pytest.raises(explgraph.ExplgraphError, match=r"no part 'tail'.*'tail_tip'"):
        evaluation.evaluate(model, graph, images, marks, parts=["tail"])
    with pytest.raises(explgraph.ExplgraphError, match="graph must be"):
        evaluation.evaluate(graph, model, images, marks)
    other = explgraph.ImageFolder(images.path, **images.describe() | {"size": 111})
    with pytest.raises(explgraph.ExplgraphError, match=r"111 x 111 px.*112 x 112"):
        evaluation.evaluate(model, graph, other, marks)
    elsewhere = Landmarks(("x.png",), {"head": np.zeros((1, 2))})
    with pytest.raises(
        explgraph.ExplgraphError, match=r"none of the 30 images.*'00\.png'.*'x\.png'"
    ):
        evaluation.evaluate(model, graph, images, elsewhere)
    with pytest.raises(explgraph.ExplgraphError, match="at least two images"):
        evaluation.evaluate(model, graph, images.subset([0]), marks)
    torch.manual_seed(0)
    with pytest.warns(explgraph.ExplgraphWarning, match="not those that the graph was mined with"):
        evaluation.evaluate(
            creatures.network(pretrained=False), graph, images, marks, parts=["head"]
        )


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_rows_go_to_a_file_and_back(rows, tmp_path, suffix):
    readers.needed(suffix)
    file = tmp_path / f"quality{suffix}"
    evaluation.write(rows, file)
    again = evaluation.read(file)
    assert [list(row) for row in again] == [list(row) for row in rows]
    for row, same in zip(rows, again, strict=True):
        for key, value in row.items():
            assert same[key] == value or (value != value and same[key] != same[key])
    assert evaluation.markdown(again) == evaluation.markdown(rows)
    table = readers.frame(file)
    assert list(table["tracking"].isna()) == [np.isnan(row["tracking"]) for row in rows]
    assert list(table["layer"].isna()) == [row["layer"] is None for row in rows]
    evaluation.write(rows, tmp_path / "quality.md")
    assert (tmp_path / "quality.md").read_text() == evaluation.markdown(rows) + "\n"
    with pytest.raises(explgraph.ExplgraphError, match=r"suffix '\.md'; expected one of \.csv"):
        evaluation.read(tmp_path / "quality.md")
