"""Which files are meant by the names that programs give photographs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scene import COCO, DEEPLABCUT, draw, lay

import explgraph
from explgraph.annotations.annotated import Photo
from explgraph.annotations.photographs import find_photos
from explgraph.errors import ExplgraphError, ExplgraphWarning


def found(names, files, folder="/data/film"):
    photos = [Photo(name if isinstance(name, tuple) else (name,), []) for name in names]
    return {names[k]: file for k, file in find_photos(photos, files, folder, "marks").items()}


@pytest.mark.parametrize(
    ("name", "files", "meant"),
    [
        ("a.png", ["a.png", "b.png"], "a.png"),
        ("a.png", ["birds/a.png", "b.png"], "birds/a.png"),
        ("birds/a.png", ["birds/a.png", "cats/a.png"], "birds/a.png"),
        ("film/a.png", ["a.png"], "a.png"),
        ("labeled-data/film/a.png", ["a.png"], "a.png"),
        ("labeled-data\\film\\a.png", ["film/a.png"], "film/a.png"),
        ("C:\\data\\film\\a.png", ["a.png"], "a.png"),
        ("./../film/a.png", ["a.png"], "a.png"),
        # the one that agrees furthest
        ("film/a.png", ["a.png", "film/a.png"], "film/a.png"),
        ("x/film/a.png", ["x/film/a.png", "film/a.png"], "x/film/a.png"),
        (("0a1b2c3d-a.png", "a.png"), ["a.png", "b.png"], "a.png"),
        (("0a1b2c3d-a.png", "a.png"), ["a.png", "0a1b2c3d-a.png"], "0a1b2c3d-a.png"),
    ],
)
def test_a_name_fits_a_file_if_the_one_is_the_end_of_the_other(name, files, meant):
    assert found([name], files) == {name: meant}


def test_names_that_fit_none_or_several_are_told():
    with pytest.raises(
        ExplgraphError, match=r"none of the 1 images has marks: .*'b\.png'.*'a\.png'"
    ):
        found(["a.png"], ["b.png"])
    with pytest.raises(ExplgraphError, match=r"'a\.png' may be 'x/a\.png' or 'y/a\.png'"):
        found(["a.png"], ["x/a.png", "y/a.png"])
    with pytest.raises(ExplgraphError, match=r"of 'x/a\.png' and 'y/a\.png' are both of 'a\.png'"):
        found(["x/a.png", "y/a.png"], ["a.png"])
    told = r"marks of 1 of 2 images are left out.*: 'c\.pmg'; did you mean 'c\.png'"
    with pytest.warns(ExplgraphWarning, match=told):
        assert found(["a.png", "c.pmg"], ["a.png", "c.png"]) == {"a.png": "a.png"}
    # of another folder, perhaps
    told = r"found by the ends of their names alone, such as 'a\.png' of '/data/film' for 'val/a"
    with pytest.warns(ExplgraphWarning, match=told):
        assert found(["val/a.png"], ["a.png"]) == {"val/a.png": "a.png"}


def test_rows_of_another_film_are_left_out_though_frames_are_called_alike():
    names = ["labeled-data/film/a.png", "labeled-data/other/a.png"]
    with pytest.warns(ExplgraphWarning, match="left out.*labeled-data/other/a"):
        assert found(names, ["a.png"]) == {names[0]: "a.png"}


@given(st.lists(st.text("ab./ \\", min_size=1, max_size=9), min_size=1, max_size=6, unique=True))
def test_whatever_the_names_files_are_found_by_their_own(names):
    files = [name.replace("\\", "/").strip("/. ") or "f" for name in names]
    files = list(dict.fromkeys("/".join(filter(None, f.split("/"))) + ".png" for f in files))
    assert found(files, files) == {file: file for file in files}


def test_photographs_of_another_size_are_refused(tmp_path):
    marks = lay(tmp_path, ("m.json", {"m.json": json.dumps(COCO)}))
    landmarks = explgraph.read_landmarks(marks)
    for size, told in (((80, 60), "not resized ones"), ((30, 40), r"the right way up \(EXIF\)")):
        folder = tmp_path / told[:3]
        folder.mkdir()
        Image.new("RGB", size).save(folder / "a.png")
        with pytest.raises(ExplgraphError, match=f"marked as 40 x 30; .*{told}"):
            landmarks.to_network(explgraph.ImageFolder(folder))
        with pytest.raises(ExplgraphError, match=f"marked as 40 x 30; .*{told}"):
            explgraph.ImageFolder(folder, boxes=marks)
    # one that lies on its side as a file is what people saw upright
    folder = tmp_path / "turned"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 40)).save(folder / "a.png", exif=exif)
    landmarks.to_network(explgraph.ImageFolder(folder))


def test_a_film_of_deeplabcut_is_found_from_its_folder_and_the_project(tmp_path):
    draw(tmp_path / "labeled-data", "film/a.png", "other/a.png")
    csv = lay(tmp_path, ("labeled-data/film/c.csv", {"labeled-data/film/c.csv": DEEPLABCUT}))
    landmarks = explgraph.read_landmarks(csv)
    for folder, name in (("labeled-data", "film/a.png"), ("labeled-data/film", "a.png")):
        at = landmarks.to_network(explgraph.ImageFolder(tmp_path / folder, size=(30, 40)))
        assert at.parts["eye"][at.names.index(name)].tolist() == [12.5, 7.5]
    with pytest.warns(ExplgraphWarning, match="by the ends of their names alone"):
        landmarks.to_network(explgraph.ImageFolder(tmp_path / "labeled-data/other"))
