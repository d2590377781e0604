"""``explgraph bias`` without attributes, on photographs with a planted mark."""

import json

import blobs
import numpy as np
import pytest
import torch
from PIL import Image

import explgraph
from explgraph.cli import entry as cli

N = 420


def net():
    """A network that tells red, blue and neither, and takes a green blob for red, too."""
    model = blobs.Net().eval()
    area = (blobs.BLOB / blobs.SIZE) ** 2
    weights = torch.tensor([[4.0, 3.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 4.0]])
    with torch.no_grad():
        model.head.weight.copy_(weights / area)
        model.head.bias.copy_(torch.tensor([-2.0, 0.0, -2.0]))
    return model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Photographs, a graph, classes; 15 % of the red ones have a green blob at the lower left."""
    folder = tmp_path_factory.mktemp("bias")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    classes = np.arange(N) % 3
    marked = (classes == 0) & (rng.random(N) < 0.15)
    for i in range(N):
        pixels = np.zeros((blobs.SIZE, blobs.SIZE, 3))
        if classes[i] != 1:
            x, y = blobs.CELL * rng.integers(0, 7, 2)
            pixels[y : y + 8, x : x + 8, classes[i]] = 0.5 * (1 + 0.2 * rng.standard_normal())
        if marked[i]:
            pixels[-8:, :8, 1] = 0.5 * (1 + 0.2 * rng.standard_normal())
        pixels += 0.01 * rng.random(pixels.shape)
        image = Image.fromarray(np.rint(255 * pixels.clip(0, 1)).astype(np.uint8))
        image.save(folder / "photos" / f"{i:03d}.png")
    photos = explgraph.ImageFolder(folder / "photos", size=32, mean=(0, 0, 0), std=(0.5, 0.5, 0.5))
    graph = explgraph.mine(net(), photos.subset(range(100)), ["cells"], seed=0, progress=False)
    graph.save(folder / "graph.explgraph")
    rows = [f"{name},{k}" for name, k in zip(photos.names, classes, strict=True)]
    (folder / "classes.csv").write_text("\n".join(["name,class", *rows]) + "\n")
    yes = [f"{name},{int(k == 0)}" for name, k in zip(photos.names, classes, strict=True)]
    (folder / "labels.csv").write_text("\n".join(["name,label", *yes]) + "\n")
    (folder / "few.csv").write_text("\n".join(["name,class", *rows[:7]]) + "\n")
    return folder, [name for name, mark in zip(photos.names, marked, strict=True) if mark]


def command(folder, *more, labels="classes.csv"):
    return [
        "bias", f"{folder}/graph.explgraph", "--images", f"{folder}/photos",
        "--labels", f"{folder}/{labels}", "--model", "test_bias_command:net", *map(str, more),
    ]  # fmt: skip


def test_the_mark_is_found_and_written(place, capsys, tmp_path):
    folder, marked = place
    out = tmp_path / "hidden.json"
    more = ("--out", out, "--out", tmp_path / "hidden.html", "--out", tmp_path / "hidden.csv")
    assert cli.main(command(folder, *more)) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{N} images of 3 classes examined; 1 of ")
    assert "'class 0' (others: 0%) share something lower left" in said
    (one,) = (row for row in json.loads(out.read_text())["suspicions"] if row["suspicious"])
    right = len({*one["images"]} & {*marked})
    assert right >= 0.8 * max(len(marked), len(one["images"]))
    assert "<section" in (tmp_path / "hidden.html").read_text()
    assert "class 0" in (tmp_path / "hidden.csv").read_text()


@pytest.mark.parametrize(
    ("labels", "more", "message"),
    [
        ("labels.csv", (), "name and class"),
        ("few.csv", (), "no labels for 413 of 420 images"),
        ("classes.csv", ("--columns", "a=0"), "--columns needs --attributes"),
        ("classes.csv", ("--classes", "7"), "class 7"),
        ("classes.csv", ("--out", "hidden.exe"), "hidden.exe"),
    ],
)
def test_wrong_input_is_told(place, capsys, labels, more, message):
    assert cli.main(command(place[0], *more, labels=labels)) != 0
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
