"""``explgraph mend``, on photographs of blobs whose network is known to be biased."""

import json

import blobs
import numpy as np
import pytest
import torch
from PIL import Image

import explgraph
from explgraph.answers.label_files import read_labels
from explgraph.cli import entry as cli
from explgraph.network.weights import load_weights

N = 400


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Photographs, a graph and labels; a network's strength 1 is a pixel's half."""
    folder = tmp_path_factory.mktemp("mend")
    images, labels, _ = blobs.world(N, seed=0, agreement=0.8, together=True)
    (folder / "photos").mkdir()
    for i, image in enumerate(images.clamp(max=2).permute(0, 2, 3, 1).numpy()):
        pixels = np.rint(image / 2 * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{i:03d}.png")
    photos = explgraph.ImageFolder(folder / "photos", size=32, mean=(0, 0, 0), std=(0.5, 0.5, 0.5))
    graph = explgraph.mine(
        blobs.Net().eval(), photos.subset(range(150)), ["cells"], seed=0, progress=False
    )
    graph.save(folder / "graph.explgraph")
    rows = zip(photos.names, labels["red"], labels["green"], strict=True)
    lines = [f"{name},{int(red)},{int(green)}" for name, red, green in rows]
    (folder / "red.csv").write_text("\n".join(["name,label,present", *lines]) + "\n")
    plain = [line.rsplit(",", 1)[0] for line in lines]
    (folder / "plain.csv").write_text("\n".join(["name,label", *plain]) + "\n")
    (folder / "classes.csv").write_text("\n".join(["name,class", *plain]) + "\n")
    named = "\n".join(["name,class", "000.png,robin", *plain[1:]])
    (folder / "named.csv").write_text(named + "\n")
    (folder / "few.csv").write_text("\n".join(["name,label", *plain[:5]]) + "\n")
    (folder / "odd.csv").write_text("\n".join(["name,label", "000.png,maybe", *plain[1:]]) + "\n")
    (folder / "twice.csv").write_text("name,label\n000.png,1\n000.png,1\n")
    (folder / "other.csv").write_text("name,red\n000.png,1\n")
    return folder


def command(place, *more, labels="red.csv", parts="cells/1/0", target="0"):
    return [
        "mend", f"{place}/graph.explgraph", "--images", f"{place}/photos", "--model", "blobs:Net",
        "--labels", f"{place}/{labels}", "--class", target, "--parts", parts, *map(str, more),
    ]  # fmt: skip


def test_it_writes_weights_and_what_was_gained(place, capsys, tmp_path):
    out, report = tmp_path / "mended.safetensors", tmp_path / "mended.json"
    more = ("--cue", "labels", "--out", out, "--report", report)
    assert cli.main(command(place, *more)) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{N} images, ")
    assert "Gained: the mean over groups changes by +" in said
    content = json.loads(report.read_text())
    assert content["gained"] is True
    assert content["how"] == "last"  # labels tell
    net = blobs.Net().eval()
    load_weights(net, out)
    images, labels, _ = blobs.world(200, seed=1, together=True)
    with torch.no_grad():
        right = (net(images)[:, 0].numpy() > 0) == labels["red"]
    assert right.mean() > 0.95
    # the same as in Python
    photos = explgraph.ImageFolder(place / "photos", size=32, mean=(0, 0, 0), std=(0.5, 0.5, 0.5))
    read = read_labels(place / "red.csv", photos.names)
    done = explgraph.mend(
        blobs.Net().eval(), explgraph.load(place / "graph.explgraph"), "cells/1/0", photos,
        read.yes, 0, present=read.present,
    )  # fmt: skip
    assert torch.equal(done.model.head.weight, net.head.weight)


def test_labels_are_read(place):
    names = [f"{i:03d}.png" for i in range(N)]
    read = read_labels(place / "red.csv", names)
    _, labels, _ = blobs.world(N, seed=0, agreement=0.8, together=True)
    np.testing.assert_array_equal(read.yes, labels["red"])
    np.testing.assert_array_equal(read.present, labels["green"])
    assert read.classes == ()
    read = read_labels(place / "classes.csv", names)
    assert read.yes is None
    assert read.present is None
    assert read.classes == tuple("1" if red else "0" for red in labels["red"])


@pytest.mark.parametrize(
    ("options", "more", "told"),
    [
        ({"labels": "plain.csv"}, ("--cue", "labels"), "needs a column 'present'"),
        ({"labels": "few.csv"}, (), "no labels for 395 of 400 images"),
        ({"labels": "odd.csv"}, (), "must be 1 or 0, got 'maybe'"),
        ({"labels": "twice.csv"}, (), "is there twice"),
        ({"labels": "other.csv"}, (), "name, label or class"),
        ({"labels": "named.csv"}, (), "named.csv', column 'class': class 'robin'"),
        ({"labels": "classes.csv"}, ("--how", "last"), "labels holds 2 classes of the model's 3"),
        ({"parts": "part 9"}, (), "no node 'part 9'"),
        ({"target": "7"}, (), "class 7, but the model gives"),
        ({}, ("--out", "mended.pt"), "suffix '.pt'"),
        ({}, ("--report", "mended.txt"), "suffix '.txt'"),
        ({}, ("--kept-back", "1.5"), "kept_back must lie between"),
    ],
)
def test_mistakes_are_told_in_a_line(place, capsys, options, more, told):
    assert cli.main(command(place, *more, **options)) == 1
    said = capsys.readouterr().err
    assert told in said
    assert len(said.strip().splitlines()) == 1
