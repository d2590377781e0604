"""Where images are: remembered, found again, and only what was remembered is ever read."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import explgraph
from explgraph.errors import ExplgraphError
from explgraph.graph.schema import check_whereabouts
from explgraph.images import folder as folder_module
from explgraph.images.whereabouts import _digest, found, only, whereabouts

READY = {"size": (24, 32), "mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)}


@pytest.fixture
def photos(tmp_path):
    """Five photographs of noise, two of them in a subfolder."""
    draws = np.random.default_rng(0)
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for k, name in enumerate(("a.png", "b.png", "c.png", "more/d.png", "more/e.png")):
        pixels = draws.integers(0, 255, (40 + k, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def same(one, other):
    """Whether two folders give the same images under the same names."""
    return one.names == other.names and all(
        np.array_equal(one.picture(k), other.picture(k)) for k in range(len(one))
    )


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_the_same_images_come_back(photos, fit):
    boxes = {"a.png": [(0, 0, 20, 20), (5, 5, 40, 30)], "more/d.png": (3, 4, 44, 33)}
    images = explgraph.ImageFolder(photos, fit=fit, boxes=boxes, **READY)
    again = found(whereabouts(images), images.describe())
    assert same(again, images)
    assert again.describe() == images.describe()
    assert np.array_equal(again[1], images[1])


def test_only_those_asked_for_are_remembered(photos):
    images = explgraph.ImageFolder(photos, **READY)
    record = whereabouts(images, ["b.png", "more/e.png", "unknown"])
    assert list(record["photographs"]) == ["b.png", "more/e.png"]
    assert found(record, images.describe()).names == ("b.png", "more/e.png")
    assert only(whereabouts(images), ["b.png", "more/e.png"]) == record


def test_no_other_file_is_opened(photos, monkeypatch):
    images = explgraph.ImageFolder(photos, **READY)
    record = whereabouts(images, ["b.png"])
    opened = []
    plain, decode = Path.open, Image.open
    monkeypatch.setattr(Path, "open", lambda p, *a, **k: opened.append(p) or plain(p, *a, **k))
    monkeypatch.setattr(
        folder_module.Image, "open", lambda p, *a, **k: opened.append(p) or decode(p, *a, **k)
    )
    found(record, images.describe()).picture(0)
    assert set(opened) == {photos / "b.png"}


def test_another_image_is_not_decoded(photos, monkeypatch):
    images = explgraph.ImageFolder(photos, **READY)
    record = whereabouts(images)
    Image.new("RGB", (50, 41)).save(photos / "b.png")
    monkeypatch.setattr(folder_module.Image, "open", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ExplgraphError, match=r"'b\.png' in '.*photos' is another image than it"):
        found(record, images.describe())


@pytest.mark.parametrize("change", ["head", "length"])
def test_a_change_is_noticed(photos, change):
    images = explgraph.ImageFolder(photos, **READY)
    record = whereabouts(images)
    content = bytearray((photos / "c.png").read_bytes())
    if change == "head":
        content[100] ^= 1
    else:
        content += b" "
    (photos / "c.png").write_bytes(content)
    with pytest.raises(ExplgraphError, match=r"c\.png"):
        found(record, images.describe())


def test_a_missing_one_is_named(photos):
    images = explgraph.ImageFolder(photos, **READY)
    record = whereabouts(images)
    (photos / "more" / "d.png").unlink()
    with pytest.raises(ExplgraphError, match=r"photos' has no image 'more/d\.png' any more"):
        found(record, images.describe())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_a_pipe_is_not_waited_for(photos):
    images = explgraph.ImageFolder(photos, **READY)
    record = whereabouts(images)
    (photos / "a.png").unlink()
    os.mkfifo(photos / "a.png")
    with pytest.raises(ExplgraphError, match=r"has no image 'a\.png'"):
        found(record, images.describe())


def test_a_box_beyond_the_photograph_is_refused(photos):
    images = explgraph.ImageFolder(photos, **READY)
    record = whereabouts(images)
    record["photographs"]["b.png"]["source"] = [0.0, 0.0, 50.0, 42.0]
    told = r"'b\.png' is 50 x 41 px, too small for the box"
    with pytest.raises(ExplgraphError, match=told):
        found(record, images.describe())
    cuts = {"b.png": ("b.png", [0.0, 0.0, 51.0, 41.0], [0, 0, 32, 24])}
    with pytest.raises(ExplgraphError, match=told):
        explgraph.ImageFolder.from_cuts(photos, cuts, **images.describe()).picture(0)


def test_what_is_no_image_is_refused(photos):
    record = whereabouts(explgraph.ImageFolder(photos, **READY))
    (photos / "b.png").write_text("root:x:0:0")
    record["photographs"]["b.png"]["digest"] = _digest(photos / "b.png")
    with pytest.raises(ExplgraphError, match=r"'b\.png' in .* can't be read as an image \(not an"):
        found(record, {**READY, "fit": "stretch"})


@pytest.mark.parametrize("limit", [1999, 500], ids=["Pillow warns", "Pillow refuses"])
def test_what_would_fill_the_memory_is_not_decoded(photos, limit, monkeypatch):
    images = explgraph.ImageFolder(photos, **READY)
    record = whereabouts(images)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(
        ExplgraphError,
        match=r"can't be read as an image \(it holds 2,0\d\d pi",
    ):
        found(record, images.describe())


def test_names_that_are_too_long_are_cut_in_the_message(photos):
    images = explgraph.ImageFolder(photos, **READY)
    record = whereabouts(images)
    first(record)["file"] = "a" * 5000
    with pytest.raises(ExplgraphError, match="has no image 'aaa") as raised:
        found(record, images.describe())
    assert len(str(raised.value)) < 500
    record["folder"] = "//" + "b" * 5000
    with pytest.raises(ExplgraphError, match="names the folder '//bbb") as raised:
        check_whereabouts(record, READY["size"])
    assert len(str(raised.value)) < 500


def test_what_is_gone_when_it_is_remembered_is_left_out(photos):
    images = explgraph.ImageFolder(photos, **READY)
    (photos / "a.png").unlink()
    assert "a.png" not in whereabouts(images)["photographs"]


HOSTILE = {
    "another host": lambda r: r.update(folder=r"\\evil\share"),
    "another host, by slashes": lambda r: r.update(folder="//evil/share"),
    "no folder": lambda r: r.update(folder=""),
    "a NUL": lambda r: r.update(folder="/tmp\0"),
    "no text": lambda r: r.update(folder=3),
    "something else": lambda r: r.update(more=1),
    "no dict": lambda r: r.update(photographs=[]),
    "a folder above": lambda r: first(r).update(file="../../etc/passwd"),
    "a folder above, by backslashes": lambda r: first(r).update(file=r"..\secret.png"),
    "an absolute file": lambda r: first(r).update(file="/etc/passwd"),
    "a drive": lambda r: first(r).update(file="C:/x.png"),
    "no file": lambda r: first(r).update(file=""),
    "three numbers": lambda r: first(r).update(source=[0.0, 1.0, 2.0]),
    "no number": lambda r: first(r).update(source=[0.0, 1.0, 2.0, float("nan")]),
    "a box beyond the left": lambda r: first(r).update(source=[-1.0, 0.0, 9.0, 9.0]),
    "a box beyond the top": lambda r: first(r).update(source=[0.0, -1.0, 9.0, 9.0]),
    "a box inside out": lambda r: first(r).update(source=[9.0, 0.0, 4.0, 9.0]),
    "an empty box": lambda r: first(r).update(source=[0.0, 9.0, 4.0, 9.0]),
    "an image of terabytes": lambda r: first(r).update(target=[0, 0, 10**9, 10**9]),
    "an image beyond the others": lambda r: first(r).update(target=[4, 0, 32, 24]),
    "an empty image": lambda r: first(r).update(target=[0, 0, 0, 4]),
    "no digest": lambda r: first(r).update(digest=None),
    "a key too few": lambda r: first(r).pop("digest"),
}


def first(record):
    return next(iter(record["photographs"].values()))


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_stranger_s_record_is_refused(photos, change):
    record = whereabouts(explgraph.ImageFolder(photos, **READY))
    check_whereabouts(record, READY["size"])
    changed = copy.deepcopy(record)
    change(changed)
    with pytest.raises(ExplgraphError, match="whereabouts"):
        check_whereabouts(changed, READY["size"])
