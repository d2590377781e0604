"""Images: which pixels of a photograph end up where, in which order, under which names."""

from __future__ import annotations

import importlib.util
import inspect
import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, features
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from explgraph.activations.image_blocks import ImageBlocks
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.images.batches import batches, count, image_names, subset
from explgraph.images.folder import ImageFolder


def ramp(width: int, height: int) -> Image.Image:
    """A picture that says where it was: red is the column, green the row."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width), np.arange(height)[:, None]
    pixels[..., 2] = 77
    return Image.fromarray(pixels)


def save(folder: Path, name: str, picture: Image.Image | None = None, **options: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture or ramp(40, 30)).save(path, **options)
    return path


def names_of(source: Any, batch_size: int = 2) -> list[str]:
    return [name for names, _ in batches(source, batch_size) for name in names]


# --- folders


def test_names_are_sorted_naturally_and_other_files_ignored(tmp_path: Path) -> None:
    for name in ("10.png", "2.PNG", "sub/1.jpg", "a.webp", "b.bmp", "c.gif", "d.tiff", "e.jpeg"):
        save(tmp_path, name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_bytes(b"rubbish")
    (tmp_path / ".thumbs").mkdir()
    save(tmp_path, ".thumbs/1.png")
    folder = ImageFolder(tmp_path, size=8)
    expected = ("2.PNG", "10.png", "a.webp", "b.bmp", "c.gif", "d.tiff", "e.jpeg", "sub/1.jpg")
    assert folder.names == expected
    assert len(folder) == 8
    assert folder[0].shape == (3, 8, 8)
    assert folder.skipped == ()
    assert "8 images, 8 x 8, stretch" in repr(folder)


def test_normalisation_by_hand(tmp_path: Path) -> None:
    save(tmp_path, "a.png", Image.new("RGB", (5, 4), (255, 51, 0)))
    image = ImageFolder(tmp_path, size=(3, 6), mean=(0.5, 0.2, 0.1), std=(0.25, 0.5, 2.0))[0]
    assert image.dtype == torch.float32
    assert image.shape == (3, 3, 6)
    for channel, value in enumerate([(1 - 0.5) / 0.25, (0.2 - 0.2) / 0.5, (0 - 0.1) / 2]):
        torch.testing.assert_close(image[channel], torch.full((3, 6), value), atol=1e-6, rtol=0)


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(16, 16), (12, 30), (40, 20)])
@pytest.mark.parametrize("box", [None, (13.0, 21.5, 93.25, 88.0)])
def test_to_original_says_where_pixels_come_from(
    tmp_path: Path, fit: Any, size: tuple[int, int], box: tuple[float, ...] | None
) -> None:
    save(tmp_path, "a.png", ramp(150, 110))
    boxes = None if box is None else {"a.png": box}
    folder = ImageFolder(tmp_path, size=size, fit=fit, boxes=boxes)
    picture = np.asarray(folder.picture(0)).astype(float)
    assert picture.shape == (*size, 3)
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    where = folder.to_original(0, np.stack([columns, rows], -1))
    inside = picture[..., 2] == 77  # not a margin
    # pixels next to the picture's border average over less, so they may be off
    inner = inside.copy()
    for axis in (0, 1):
        inner &= np.roll(inside, 1, axis) & np.roll(inside, -1, axis)
    inner[[0, -1]] = inner[:, [0, -1]] = False
    assert inner.any()
    np.testing.assert_allclose(picture[inner][:, :2], where[inner] - 0.5, atol=0.75)
    if fit == "crop":
        assert inside.all()
    elif fit == "stretch":
        assert inside.all()
        left, top, right, bottom = box or (0, 0, 150, 110)
        corners = folder.to_original(0, [[0, 0], [size[1], size[0]]])
        np.testing.assert_allclose(corners, [[left, top], [right, bottom]])
    else:
        mean = np.round(255 * np.array([0.485, 0.456, 0.406]))
        np.testing.assert_array_equal(
            picture[~inside], np.broadcast_to(mean, (int((~inside).sum()), 3))
        )


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("photo", [(200, 120), (90, 240), (30, 20)])
@pytest.mark.parametrize("longest", [1000, 100])
def test_pictures_for_people_show_the_same_in_the_photograph_s_own_pixels(
    tmp_path: Path, fit: str, photo: tuple[int, int], longest: int
) -> None:
    save(tmp_path, "a.png", ramp(*photo))
    folder = ImageFolder(tmp_path, size=(48, 64), fit=fit, mean=(0.5,) * 3, std=(0.2,) * 3)
    seen, own = np.asarray(folder.picture(0)), np.asarray(folder.picture(0, longest))
    assert max(own.shape) <= max(longest, 48, 64)
    whole = folder.to_original(0, [[64.0, 48.0]]) - folder.to_original(0, [[0.0, 0.0]])
    expected = whole[0] * min(1, longest / whole.max())
    np.testing.assert_allclose(own.shape[1::-1], expected, atol=1)
    # at the same shares of width and height is the same place of the photograph, read off colours
    for across, down in ((0.5, 0.5), (0.3, 0.6), (0.7, 0.35)):
        (place,) = folder.to_original(0, [[64 * across, 48 * down]])
        if not (1 < place[0] < photo[0] - 1 and 1 < place[1] < photo[1] - 1):
            continue  # in the margin
        pixel = own[int(own.shape[0] * down), int(own.shape[1] * across), :2]
        once = np.maximum(1, whole[0] / own.shape[1::-1])  # px of the photograph for one of it
        np.testing.assert_allclose(pixel, place - 0.5, atol=1 + once.max())
    assert seen.shape == (48, 64, 3)


def test_crop_keeps_the_middle_and_pad_keeps_all(tmp_path: Path) -> None:
    save(tmp_path, "a.png", ramp(100, 50))
    crop = ImageFolder(tmp_path, size=10, fit="crop")
    np.testing.assert_allclose(crop.to_original(0, [[0, 0], [10, 10]]), [[25, 0], [75, 50]])
    pad = ImageFolder(tmp_path, size=10, fit="pad")
    # 10 x 5 px of picture, between margins of 2 and 3 rows
    np.testing.assert_allclose(pad.to_original(0, [[0, 2], [10, 7]]), [[0, 0], [100, 50]])
    np.testing.assert_allclose(pad[0][:, 0, :], 0, atol=0.02)


@given(
    photo=st.tuples(st.integers(3, 60), st.integers(3, 60)),
    size=st.tuples(st.integers(3, 40), st.integers(3, 40)),
    fit=st.sampled_from(["stretch", "crop", "pad"]),
    corners=st.lists(st.floats(0, 1), min_size=4, max_size=4, unique=True),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_shape_fits(
    tmp_path: Path, photo: tuple[int, int], size: tuple[int, int], fit: Any, corners: list[float]
) -> None:
    save(tmp_path, "a.png", ramp(*photo))
    (x0, x1), (y0, y1) = sorted(corners[:2]), sorted(corners[2:])
    box = (x0 * photo[0], y0 * photo[1], x1 * photo[0], y1 * photo[1])
    for boxes in (None, {"a.png": box}):
        if boxes is not None and (box[2] - box[0] < 1e-3 or box[3] - box[1] < 1e-3):
            continue
        folder = ImageFolder(tmp_path, size=size, fit=fit, boxes=boxes)
        assert folder[0].shape == (3, *size)
        assert folder[0].isfinite().all()
        middle = folder.to_original(0, [size[1] / 2, size[0] / 2])
        left, top, right, bottom = box if boxes else (0, 0, *photo)
        # margins are whole pixels, so that the picture may lie half a pixel beside the middle
        one = folder.to_original(0, [1, 1]) - folder.to_original(0, [0, 0])
        slack = 0.5 * one * (fit == "pad") + 1e-6 * max(photo)
        assert abs(middle[0] - (left + right) / 2) <= slack[0]
        assert abs(middle[1] - (top + bottom) / 2) <= slack[1]


def test_points_must_be_pairs(tmp_path: Path) -> None:
    save(tmp_path, "a.png")
    with pytest.raises(ExplgraphError, match=r"points must be \(\.\.\., 2\).*\(3,\)"):
        ImageFolder(tmp_path).to_original(0, [1, 2, 3])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    upright = ramp(40, 30)
    turn = {  # how a camera that is held so stores the upright picture
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]
    stored = upright
    for step in turn:
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path, "a.png", stored, exif=exif)
    folder = ImageFolder(tmp_path, size=(30, 40))
    np.testing.assert_array_equal(np.asarray(folder.picture(0)), np.asarray(upright))
    np.testing.assert_allclose(folder.to_original(0, [40, 30]), [40, 30])


def test_photographs_that_nobody_looked_at_tell_their_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    save(tmp_path, "turned.jpg", ramp(40, 30), exif=exif)
    save(tmp_path, "plain.png", ramp(50, 20))
    folder = ImageFolder(tmp_path, size=8)
    again = ImageFolder.from_cuts(tmp_path, folder.cuts(), **folder.describe())
    for file, size in (("turned.jpg", (30, 40)), ("plain.png", (50, 20))):
        assert folder.photo_size(file) == again.photo_size(file) == size
    assert again.photo_size("missing.png") is None


def test_modes_become_rgb(tmp_path: Path) -> None:
    grey = np.arange(0, 65536, 65536 // 16, dtype=np.uint16).reshape(4, 4)
    save(tmp_path, "grey16.png", Image.fromarray(grey))
    save(tmp_path, "grey8.png", Image.new("L", (4, 4), 9))
    save(tmp_path, "bit.png", Image.new("1", (4, 4), 1))
    save(tmp_path, "cmyk.jpg", Image.new("CMYK", (4, 4), (0, 0, 0, 0)))
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    save(tmp_path, "clear.png", clear)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30] * 256)
    save(tmp_path, "palette.png", palette, transparency=b"\x00" + b"\xff" * 255)
    save(tmp_path, "solid.png", Image.new("RGBA", (4, 4), (10, 20, 30, 255)))
    folder = ImageFolder(tmp_path, size=4)
    seen = {n: np.asarray(folder.picture(i)) for i, n in enumerate(folder.names)}
    assert all(p.shape == (4, 4, 3) for p in seen.values())
    np.testing.assert_array_equal(seen["grey16.png"][..., 0], grey // 257)
    assert (seen["grey8.png"] == 9).all()
    assert (seen["bit.png"] == 255).all()
    assert (seen["cmyk.jpg"] == 255).all()
    assert (seen["clear.png"] == 255).all(), "what is transparent turns white"
    assert (seen["palette.png"] == 255).all()
    assert (seen["solid.png"] == [10, 20, 30]).all()


def test_describe_makes_the_same_preprocessing(tmp_path: Path) -> None:
    save(tmp_path, "a.png")
    first = ImageFolder(tmp_path, size=(9, 7), mean=(0, 0, 0), std=(1, 1, 1), fit="pad")
    again = ImageFolder(tmp_path, **json.loads(json.dumps(first.describe())))
    assert torch.equal(first[0], again[0])
    assert again.describe() == first.describe()


def test_subset_and_names(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path, f"{i}.png", Image.new("RGB", (4, 4), (10 * i, 0, 0)))
    folder = ImageFolder(tmp_path, size=4)
    some = folder.subset([3, 0])
    assert some.names == ("3.png", "0.png")
    assert torch.equal(some[0], folder[3])
    assert folder.names == ("0.png", "1.png", "2.png", "3.png")
    assert folder.subset(np.array([-1])).names == ("3.png",)
    named = ImageFolder(tmp_path, size=4, names=["2.png", "1.png"])
    assert named.names == ("2.png", "1.png")
    assert torch.equal(named[0], folder[2])
    for indices, message in (([4], "4 is out of range for 4"), ([], "empty"), ([1, 1], "'1.png'")):
        with pytest.raises(ExplgraphError, match=message):
            folder.subset(indices)
    for names, message in (
        (["2.pgn"], r"'2\.pgn'.*did you mean '2\.png'"),
        (["1.png", "1.png"], "'1.png' more than once"),
        ([], "names is empty"),
        ("1.png", "names must be a list"),
    ):
        with pytest.raises(ExplgraphError, match=message):
            ImageFolder(tmp_path, names=names)


# --- boxes


def test_boxes_of_names_that_spreadsheets_take_for_formulas(tmp_path: Path) -> None:
    for name in ("-b.png", "'=c.png"):
        save(tmp_path, name, ramp(100, 80))
    table = tmp_path / "boxes.csv"
    table.write_text("name,x0,y0,x1,y1\n'-b.png,10,20,30,40\n''=c.png,0,0,50,40\n")
    assert set(ImageFolder(tmp_path, size=20, boxes=table).names) == {"-b.png", "'=c.png"}


def test_boxes_from_a_table(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path, name, ramp(100, 80))
    table = tmp_path / "boxes.csv"
    table.write_text(
        "name,x0,y0,x1,y1,label\nb.png,10,20,30,40,dog\na.png,0,0,50,40,cat\nb.png,-5,2.5,200,70,\n",
        encoding="utf-8-sig",
    )
    folder = ImageFolder(tmp_path, size=20, boxes=table)
    assert folder.names == ("a.png", "b.png#0", "b.png#1"), "c.png has no box"
    corners = [[0, 0], [20, 20]]
    np.testing.assert_allclose(folder.to_original(1, corners), [[10, 20], [30, 40]])
    # what lies outside the photograph is cut off
    np.testing.assert_allclose(folder.to_original(2, corners), [[0, 2.5], [100, 70]])
    assert ImageFolder(tmp_path, boxes=table, names=["b.png"]).names == ("b.png#0", "b.png#1")
    assert ImageFolder(tmp_path, boxes=table, names=["b.png#1"]).names == ("b.png#1",)
    mapping = {"b.png": [(10, 20, 30, 40), (-5, 2.5, 200, 70)], "a.png": np.array([0, 0, 50, 40])}
    same = ImageFolder(tmp_path, size=20, boxes=mapping)
    assert same.names == folder.names
    assert all(torch.equal(same[i], folder[i]) for i in range(3))
    pixels = np.asarray(folder.picture(1))  # the box is 20 x 20, so pixels are kept
    np.testing.assert_array_equal(pixels, np.asarray(ramp(100, 80))[20:40, 10:30])


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ({"x.png": (0, 0, 1, 1)}, r"boxes name 'x\.png'.*did you mean 'a\.png'"),
        ({"a.png": (5, 5, 5, 9)}, r"\[5\.0, 5\.0, 5\.0, 9\.0\] of 'a\.png' holds nothing.*40 x 30"),
        ({"a.png": (50, 5, 60, 9)}, "holds nothing of the photograph"),
        ({"a.png": (1, 2, 3)}, "expected four numbers x0, y0, x1, y1"),
        ({"a.png": (1, 2, 3, float("nan"))}, "expected four numbers"),
        ({}, "boxes is empty"),
    ],
)
def test_wrong_boxes(tmp_path: Path, boxes: Any, message: str) -> None:
    save(tmp_path, "a.png")
    with pytest.raises(ExplgraphError, match=message):
        ImageFolder(tmp_path, boxes=boxes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,x0,y0,x1,y1\n", "must have the columns name, x0, y0, x1, y1 .* found file, x0"),
        ("", "must have the columns name, x0, y0, x1, y1 .* found nothing"),
        ("name,x0,y0,x1,y1\na.png,1,2,three,4\n", r"line 2: expected four numbers.*'three'"),
        ("name,x0,y0,x1,y1\na.png,1,2\n", "line 2: 3 values for 5 columns"),
    ],
)
def test_wrong_tables(tmp_path: Path, text: str, message: str) -> None:
    save(tmp_path, "a.png")
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(ExplgraphError, match=message):
        ImageFolder(tmp_path, boxes=tmp_path / "boxes.csv")


def test_missing_table(tmp_path: Path) -> None:
    save(tmp_path, "a.png")
    with pytest.raises(ExplgraphError, match=r"none\.csv' can't be read: No such"):
        ImageFolder(tmp_path, boxes=tmp_path / "none.csv")


# --- what can be wrong with folders


def test_missing_empty_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ExplgraphError, match="nowhere doesn't exist; pass the folder"):
        ImageFolder(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ExplgraphError, match=r"holds no image; files ending in .*\.png"):
        ImageFolder(tmp_path)
    with pytest.raises(ExplgraphError, match=r"notes\.txt is a file; pass the folder"):
        ImageFolder(tmp_path / "notes.txt")


def test_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("explgraph.images.folder.os.scandir", refuse)  # root may read anything
    with pytest.raises(ExplgraphError, match="can't be read: Permission denied"):
        ImageFolder(tmp_path)


def broken(folder: Path) -> None:
    save(folder, "good.png")
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("not an image at all")
    whole = save(folder, "cut.jpg", ramp(200, 200)).read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    whole = save(folder, "cut.png", ramp(200, 200)).read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])


def test_unreadable_files_are_refused_by_name(tmp_path: Path) -> None:
    broken(tmp_path)
    with pytest.raises(ExplgraphError) as error:
        ImageFolder(tmp_path)
    for name in ("empty.jpg", "text.png", "cut.jpg", "cut.png"):
        assert name in str(error.value)
    assert "good.png" not in str(error.value)
    assert 'unreadable="skip"' in str(error.value)


def test_unreadable_files_are_skipped_by_name(tmp_path: Path) -> None:
    broken(tmp_path)
    with pytest.warns(
        ExplgraphWarning, match=r"unreadable image files: cut\.jpg.*text\.png.*skipped"
    ):
        folder = ImageFolder(tmp_path, unreadable="skip")
    assert folder.names == ("good.png",)
    assert folder.skipped == ("cut.jpg", "cut.png", "empty.jpg", "text.png")
    (tmp_path / "good.png").unlink()
    with pytest.raises(ExplgraphError, match="no readable image is left"):
        ImageFolder(tmp_path, unreadable="skip")


def test_file_that_vanishes_later(tmp_path: Path) -> None:
    path = save(tmp_path, "a.png")
    folder = ImageFolder(tmp_path)
    path.unlink()
    with pytest.raises(ExplgraphError, match=r"a\.png: can't be read any more \(No such file"):
        list(batches(folder, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, r"size must be a side or \(H, W\).*got 0"),
        ({"size": (3, 4, 5)}, "size must be"),
        ({"size": 1.5}, r"size must be a side.*got 1\.5"),
        ({"size": True}, "size must be a side.*got True"),
        ({"size": "12"}, "size must be a side.*got '12'"),
        ({"size": 20000}, "size must be at most 16384 px"),
        ({"mean": 0.5}, r"mean must be three numbers.*got 0\.5"),
        ({"std": ("a", 1, 1)}, "std must be three numbers"),
        ({"std": (1, 0, 1)}, "std must be above 0"),
        ({"mean": (1, 2)}, "mean must be three numbers"),
        ({"fit": "squeeze"}, "fit must be one of stretch, crop, pad; got 'squeeze'"),
        ({"unreadable": "ignore"}, "unreadable must be one of refuse, skip; got 'ignore'"),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    save(tmp_path, "a.png")
    with pytest.raises(ExplgraphError, match=message):
        ImageFolder(tmp_path, **options)


# --- batches


class Items(Dataset[Any]):
    """A dataset of anything."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class Endless(IterableDataset[Any]):
    """A dataset of unknown length."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __iter__(self) -> Any:
        return iter(self.items)


def sources(images: torch.Tensor) -> dict[str, Any]:
    singles = list(images)
    labelled = [(x, 3) for x in singles]
    return {
        "tensor": images,
        "list": singles,
        "dataset": Items(singles),
        "with labels": Items(labelled),
        "mappings": Items([{"image": x, "label": 1} for x in singles]),
        "tensor dataset": TensorDataset(images, torch.arange(len(images))),
        "loader": DataLoader(Items(singles), batch_size=4),
        "loader with labels": DataLoader(Items(labelled), batch_size=3),
        "double": images.double(),
    }


@pytest.mark.parametrize("kind", sorted(sources(torch.zeros(1, 3, 2, 2))))
def test_every_source_gives_the_same(kind: str) -> None:
    images = torch.randn(11, 3, 5, 4)
    source = sources(images)[kind]
    names, parts = zip(*batches(source, 4), strict=True)
    torch.testing.assert_close(torch.cat(parts), images)
    assert all(part.dtype == torch.float32 for part in parts)
    assert [n for some in names for n in some] == [f"{i:02d}" for i in range(11)]
    assert count(source) == 11


def test_iterable_dataset() -> None:
    images = torch.randn(5, 3, 4, 4)
    for source in (Endless(list(images)), DataLoader(Endless(list(images)), batch_size=2)):
        assert count(source) is None
        assert names_of(source) == [f"{i:06d}" for i in range(5)]


def test_names_of_the_source_are_kept(tmp_path: Path) -> None:
    for i in range(5):
        save(tmp_path, f"img{i}.png")
    folder = ImageFolder(tmp_path, size=6)
    expected = [f"img{i}.png" for i in range(5)]
    assert names_of(folder) == expected
    assert names_of(DataLoader(folder, batch_size=3)) == expected
    assert names_of(Subset(folder, [4, 1])) == ["img4.png", "img1.png"]
    assert names_of(DataLoader(folder, batch_size=2, drop_last=True)) == expected[:4]
    together = torch.cat([batch for _, batch in batches(folder, 2)])
    assert torch.equal(together, torch.stack([folder[i] for i in range(5)]))


class Backwards(torch.utils.data.Sampler[int]):
    """A sampler of one's own."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Any:
        return iter(range(self.n - 1, -1, -1))


def dropping(items: list[Any]) -> Any:
    """Leave out what is dark, as others leave out files that can't be read."""
    return torch.stack([x for x in items if x.max() > 0])


SIX = Items([*torch.rand(2, 3, 2, 2) + 1, torch.zeros(3, 2, 2), *torch.rand(3, 3, 2, 2) + 1])
LOADERS: dict[str, Callable[[], Any]] = {
    "shuffle": lambda: DataLoader(SIX, shuffle=True),
    "list": lambda: DataLoader(SIX, batch_size=2, sampler=[3, 1, 2]),
    "own sampler": lambda: DataLoader(SIX, batch_size=2, sampler=Backwards(6)),
    "weighted": lambda: DataLoader(SIX, sampler=WeightedRandomSampler([1.0] * 6, 6)),
    "subset": lambda: DataLoader(SIX, sampler=SubsetRandomSampler([1, 2])),
    "distributed": lambda: DataLoader(
        SIX, sampler=DistributedSampler(SIX, num_replicas=2, rank=1, shuffle=False)
    ),
    "batches": lambda: DataLoader(SIX, batch_sampler=[[5, 4], [0, 1]]),
    "batches of a sampler": lambda: DataLoader(
        SIX, batch_sampler=BatchSampler(Backwards(6), 2, drop_last=False)
    ),
    "unbatched": lambda: DataLoader(SIX, batch_size=None, sampler=Backwards(6)),
    "sequence of another": lambda: DataLoader(SIX, sampler=SequentialSampler(SIX.items[:4])),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_loaders_with_an_order_of_their_own_are_refused(kind: str) -> None:
    loader = LOADERS[kind]()
    message = "images is a DataLoader that shuffles, or takes its images in an order of its sampl"
    for use in (
        lambda: next(batches(loader, 2)),
        lambda: image_names(loader),
        lambda: subset(loader, [0], 1),
        lambda: ImageBlocks(loader),
    ):
        with pytest.raises(ExplgraphError, match=message):
            use()


def test_loaders_that_lose_images_on_the_way_are_refused() -> None:
    with pytest.raises(ExplgraphError, match="whose collate_fn gives 1 images for 2 items"):
        list(batches(DataLoader(SIX, batch_size=2, collate_fn=dropping), 2))
    # nothing is left out among the last three
    assert len(names_of(DataLoader(Subset(SIX, [3, 4, 5]), 2, collate_fn=dropping))) == 3


def test_batches_in_order_may_be_built_by_hand(tmp_path: Path) -> None:
    for i in range(5):
        save(tmp_path, f"img{i}.png")
    folder = ImageFolder(tmp_path, size=6)
    by_hand = BatchSampler(SequentialSampler(folder), 2, drop_last=False)
    loader = DataLoader(folder, batch_sampler=by_hand)
    assert names_of(loader) == [f"img{i}.png" for i in range(5)]
    assert count(loader) == 5


@pytest.mark.skipif("in_order" not in inspect.signature(DataLoader).parameters, reason="torch 2.6")
def test_loaders_whose_workers_hurry_are_refused() -> None:
    with pytest.raises(ExplgraphError, match="build it with in_order=True"):
        next(batches(DataLoader(SIX, in_order=False), 2))


def test_decoding_ahead_is_bounded_and_stops(tmp_path: Path, monkeypatch: Any) -> None:
    for i in range(30):
        save(tmp_path, f"{i}.png")
    folder = ImageFolder(tmp_path, size=4)
    read = []
    original = ImageFolder.picture
    monkeypatch.setattr(ImageFolder, "picture", lambda s, i: (read.append(i), original(s, i))[1])
    stream = batches(folder, 2)
    next(stream)
    time.sleep(0.1)
    assert len(read) <= 8
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("explgraph-images")]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (torch.zeros(3, 4, 4), r"must be an \(N, C, H, W\) tensor, got the shape \(3, 4, 4\)"),
        (torch.zeros(2, 6, 5, 3), r"shape \(6, 5, 3\), which seems to be \(H, W, C\).*permute"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "image '0' is uint8, expected float"),
        (torch.zeros(0, 3, 4, 4), "images is empty"),
        (Items([]), "images is empty"),
        (Items(["a"]), "hold str"),
        (Items([()]), "hold tuple"),
        (
            Items([torch.zeros(3, 4, 5), torch.zeros(3, 4, 5), torch.zeros(3, 4, 6)]),
            "different sizes: '2' is 4 x 6, those before it 4 x 5",
        ),
        (
            DataLoader(Items([torch.zeros(3, 4, 5), torch.zeros(3, 4, 6)]), batch_size=2),
            "images are of different sizes, so that the DataLoader can't stack",
        ),
        (
            torch.stack([torch.zeros(3, 2, 2), torch.full((3, 2, 2), float("nan"))]),
            "image '1' has pixels that are NaN or infinite",
        ),
        (DataLoader(Items([torch.zeros(3, 2, 2)]), shuffle=True), "shuffles.*shuffle=False"),
        (42, "images must be an ImageFolder, .* got int"),
    ],
)
def test_wrong_images(source: Any, message: str) -> None:
    with pytest.raises(ExplgraphError, match=message):
        list(batches(source, 2))


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_wrong_batch_size(size: Any) -> None:
    with pytest.raises(ExplgraphError, match="batch_size must be a whole number above 0"):
        list(batches(torch.zeros(1, 3, 2, 2), size))


# ------------------------------------------------------------------------------- odd folders


def folder_of(path, *names):
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (200, 10, 10)).save(path / name)
    return path


def test_photographs_that_cannot_be_read_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "EXTENSION", {".png": "PNG"})  # a Pillow without plugins
    monkeypatch.setattr(Image, "registered_extensions", lambda: Image.EXTENSION)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    folder_of(tmp_path, "a.png", "b.png")
    for name in ("d.HEIC", "c.heic", "e.avif", "f.nef", "g.dcm", "notes.txt"):
        (tmp_path / name).write_bytes(b"1")
    with pytest.warns(ExplgraphWarning) as told:
        images = ImageFolder(tmp_path, size=8)
    assert images.names == ("a.png", "b.png")
    said = sorted(str(one.message).partition(": ")[2] for one in told)
    assert [line.partition(";")[0] for line in said] == [
        f"{number} files of kinds that can't be read ({kind}) are left out, the first {first!r}"
        for number, kind, first in (
            (1, ".avif", "e.avif"), (1, ".dcm", "g.dcm"), (1, ".nef", "f.nef"),
            (2, ".heic", "c.heic"),
        )
    ]  # fmt: skip
    assert "pip install 'explgraph[heif]'" in said[3]


def test_videos_are_told_and_no_images(tmp_path):
    (tmp_path / "cat.MP4").write_bytes(b"1")
    (tmp_path / "dog.mov").write_bytes(b"1")
    told = r"2 files .*\(.mov, .mp4\).*; frames of videos aren't read; save some: ffmpeg"
    with pytest.raises(ExplgraphError, match=rf"holds no image; .*{told}"):
        ImageFolder(tmp_path, size=8)
    folder_of(tmp_path, "a.png")
    with pytest.warns(ExplgraphWarning, match=told):
        assert ImageFolder(tmp_path, size=8).names == ("a.png",)


class StandIn(ImageFile.ImageFile):
    """Reads "HEIC" files that are a PNG behind four bytes, as a plugin of Pillow."""

    format = "HEIF"

    def _open(self):
        self.fp.seek(4)
        with Image.open(io.BytesIO(self.fp.read())) as inner:
            self._held = inner.convert("RGB")
        self._mode, self._size = "RGB", self._held.size

    def load(self):
        self.im = self._held.im
        return Image.Image.load(self)


def test_plugins_of_pillow_are_used(tmp_path, monkeypatch):
    Image.init()
    monkeypatch.setattr(Image, "EXTENSION", Image.EXTENSION | {".heic": "HEIF"})
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    Image.register_open("HEIF", StandIn, lambda head: head.startswith(b"heic"))
    held = io.BytesIO()
    ramp(20, 10).save(held, "PNG")
    (tmp_path / "a.heic").write_bytes(b"heic" + held.getvalue())
    images = ImageFolder(tmp_path, size=(10, 20))
    assert images.names == ("a.heic",)
    np.testing.assert_array_equal(images.picture(0), ramp(20, 10))


@pytest.mark.parametrize(
    ("suffix", "name"), [(".avif", "PIL.AvifImagePlugin"), (".heic", "pillow_heif")]
)
def test_photographs_of_phones(tmp_path, suffix, name):
    """Smooth, so that little is lost."""
    plugin = pytest.importorskip(name)
    getattr(plugin, "register_heif_opener", Image.init)()
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    across = np.broadcast_to(np.linspace(20, 230, 64), (48, 64)).astype(np.uint8)
    picture = Image.fromarray(np.stack([across, across, across], -1))
    picture.save(tmp_path / f"a{suffix}", quality=95)
    images = ImageFolder(tmp_path, size=(48, 64))
    assert images.names == (f"a{suffix}",)
    np.testing.assert_allclose(np.asarray(images.picture(0))[..., 1], across, atol=6)


# ------------------------------------------------------------------------------- large images


def test_images_that_are_too_large(tmp_path, monkeypatch):
    save(tmp_path, "a.png", ramp(50, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(ExplgraphError, match=r"holds more than 1,400 pixels; .*largest="):
        ImageFolder(tmp_path, size=8)
    raised = ImageFolder(tmp_path, size=(30, 50), largest=1500)
    np.testing.assert_array_equal(raised.picture(0), ramp(50, 30))
    assert Image.MAX_IMAGE_PIXELS == 700, "it is the program's own"
    with pytest.raises(ExplgraphError, match=r"holds 1,500 pixels, .* and 1,499 are"):
        ImageFolder(tmp_path, size=8, largest=1499)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1400)
    with pytest.warns(Image.DecompressionBombWarning):  # as ever
        ImageFolder(tmp_path, size=8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert len(ImageFolder(tmp_path, size=8)) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_told(tmp_path):
    folder_of(tmp_path, "a.png", "sub/b.png")
    (tmp_path / "sub").chmod(0)
    try:
        with pytest.raises(ExplgraphError, match="sub can't be read"):
            ImageFolder(tmp_path, size=8)
    finally:
        (tmp_path / "sub").chmod(0o700)


def test_errors_of_walking_are_told(tmp_path, monkeypatch):
    """As for a folder that can't be read, for whoever may read all."""
    folder_of(tmp_path, "a.png")

    def walk(path, *, onerror, **_):
        onerror(PermissionError(13, "Permission denied", str(path / "sub")))
        return iter(())

    monkeypatch.setattr(os, "walk", walk)
    with pytest.raises(ExplgraphError, match=r"sub can.t be read \(Permission denied\)"):
        ImageFolder(tmp_path, size=8)


def test_links_that_lead_back_are_followed_once(tmp_path):
    folder_of(tmp_path, "a.png", "sub/b.png")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    assert ImageFolder(tmp_path, size=8).names == ("a.png", "sub/b.png")


def test_a_pipe_among_the_images_is_refused(tmp_path):
    folder_of(tmp_path, "a.png")
    os.mkfifo(tmp_path / "b.png")
    with pytest.raises(ExplgraphError, match=r"b\.png is no file"):
        ImageFolder(tmp_path, size=8)


# ------------------------------------------------------------------------------- samples of TIFFs


RAMP = np.linspace(0, 1, 48 * 64).reshape(48, 64)


def seen(folder):
    """Grey values from 0 to 1 of the only image, as the network gets them."""
    images = ImageFolder(folder, size=(48, 64), mean=(0, 0, 0), std=(1, 1, 1))
    return images[0][0].numpy()


@pytest.mark.parametrize(
    ("most", "kind"),
    [(1, "float32"), (255, "float32"), (65535, "uint16"), (65535, "int32"), (255, "uint8")],
)
def test_samples_of_every_kind_are_scaled(tmp_path, most, kind):
    Image.fromarray((RAMP * most).astype(kind)).save(tmp_path / "a.tif")
    np.testing.assert_allclose(seen(tmp_path), RAMP, atol=1.1 / 255)


def test_what_a_tiff_says_is_the_most_counts(tmp_path):
    Image.fromarray((RAMP * 4095).astype("uint16")).save(tmp_path / "a.tif", tiffinfo={281: 4095})
    np.testing.assert_allclose(seen(tmp_path), RAMP, atol=1.1 / 255)


def test_twelve_bits_of_sixteen_are_told(tmp_path):
    Image.fromarray((RAMP * 4095).astype("uint16")).save(tmp_path / "a.tif")
    with pytest.warns(ExplgraphWarning, match="nearly black"):
        ImageFolder(tmp_path, size=8)


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ((RAMP * 1000).astype("float32"), "from 0 to 1000"),
        ((RAMP - 0.5).astype("float32"), "from -0.5 to 0.5"),
        (np.full((8, 8), np.nan, "float32"), "from nan to nan"),
        ((RAMP * 70000).astype("int32"), "whole numbers up to 65535"),
    ],
)
def test_other_ranges_are_refused(tmp_path, samples, told):
    Image.fromarray(samples).save(tmp_path / "a.tif")
    with pytest.raises(ExplgraphError, match=told):
        ImageFolder(tmp_path, size=8)


@pytest.mark.parametrize("suffix", ["tif", "png", "jpg", "webp"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_photographs_are_the_right_way_up(tmp_path, suffix, turn):
    """A bright corner, top left of the upright photograph of 64 x 48."""
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:16, :24] = 255
    undo = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1], 5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1), 7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[turn]  # fmt: skip
    photo = Image.fromarray(np.ascontiguousarray(undo(upright)))
    exif = photo.getexif()
    exif[274] = turn
    more = {"tiffinfo": {274: turn}} if suffix == "tif" else {"exif": exif}
    photo.save(tmp_path / f"a.{suffix}", **more)
    np.testing.assert_allclose(seen(tmp_path), upright[..., 0] / 255, atol=0.2)


def test_numbers_of_numpy_are_sizes_and_shares(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    plain = ImageFolder(tmp_path, size=(16, 24), fit="crop", crop=0.5)
    said: Any = {"size": (np.int64(16), np.int32(24)), "crop": np.float32(0.5)}
    images = ImageFolder(tmp_path, fit="crop", **said)
    assert images.describe() == plain.describe()
    json.dumps(images.describe())
