"""Landmark files: what is read from each layout, and what is said about bad ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from explgraph import creatures
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.evaluation.landmarks import Landmarks, from_creatures, read_landmarks
from explgraph.images.batches import batches
from explgraph.images.folder import ImageFolder

NAN = float("nan")
SHARED = Path(__file__).parents[3] / "shared" / "animalparts"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def equal(landmarks, names, parts):
    assert landmarks.names == names
    assert list(landmarks.parts) == list(parts)
    for name, places in parts.items():
        np.testing.assert_array_equal(landmarks.parts[name], np.array(places, dtype=float))


# --------------------------------------------------------------------------------------- layouts


def test_parts_json(tmp_path):
    content = {
        "parts": ["head", "legs"],
        "images": {"b.jpg": {"head": [1, 2.5], "legs": None}, "a.jpg": {"head": [3, 4]}},
        "source": {"b.jpg": "p1", "a.jpg": "p1"},
    }
    landmarks = read_landmarks(write(tmp_path / "parts.json", json.dumps(content)))
    head = [[1.5, 3], [3.5, 4.5]]
    equal(landmarks, ("b.jpg", "a.jpg"), {"head": head, "legs": [[NAN] * 2] * 2})
    assert landmarks.sources == ("p1", "p1")
    assert landmarks.one_per_source() == [0]
    del content["parts"], content["source"]
    landmarks = read_landmarks(write(tmp_path / "parts.json", json.dumps(content)))
    assert list(landmarks.parts) == ["head", "legs"]
    assert landmarks.sources is None
    assert landmarks.one_per_source() == [0, 1]


def test_csv(tmp_path):
    text = "\ufeffpart, x,y,name\nbeak,1.5,2,birds/a b.png\neye,,,c.png\neye,3,4,birds/a b.png\n"
    landmarks = read_landmarks(write(tmp_path / "l.csv", text))
    unmarked = [NAN, NAN]
    equal(
        landmarks,
        ("birds/a b.png", "c.png"),
        {"beak": [[1.5, 2], unmarked], "eye": [[3, 4], unmarked]},
    )


@pytest.mark.parametrize("beside", [True, False])
def test_cub(tmp_path, beside):
    parts = tmp_path / "parts"
    write(parts / "parts.txt", "1 back\n2 left eye\n")
    images = (parts if beside else tmp_path) / "images.txt"
    write(images, "1 001.Albatross/x_1.jpg\n2 001.Albatross/x_2.jpg\n")
    rows = "1 1 10.0 20.5 1\n1 2 0.0 0.0 0\n2 1 0.0 0.0 0\n2 2 7.0 8.0 1\n"
    landmarks = read_landmarks(write(parts / "part_locs.txt", rows))
    equal(
        landmarks,
        ("001.Albatross/x_1.jpg", "001.Albatross/x_2.jpg"),
        {"back": [[10.5, 21], [NAN] * 2], "left eye": [[NAN] * 2, [7.5, 8.5]]},
    )


def test_creatures_are_named_like_their_tensor():
    drawn = creatures.draw(12, seed=3, size=48)
    landmarks = from_creatures(drawn)
    (names, _), *_ = batches(drawn.tensor(), 12)
    assert landmarks.names == names
    assert tuple(landmarks.parts) == creatures.PARTS
    for part, places in landmarks.parts.items():
        seen = drawn.visible[part]
        np.testing.assert_array_equal(places[seen], drawn.parts[part][seen])
        assert np.isnan(places[~seen]).all()
    assert from_creatures(drawn, list("abcdefghijkl")).names == tuple("abcdefghijkl")


@pytest.mark.photos
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/animalparts")
def test_animalparts():
    landmarks = read_landmarks(SHARED / "n02084071" / "parts.json")
    assert len(landmarks.names) == 200
    assert list(landmarks.parts) == ["head", "front_legs"]
    assert len(landmarks.one_per_source()) == 178
    assert landmarks.parts["head"][landmarks.names.index("00004.jpg")].tolist() == [42.5, 53]
    assert np.isnan(landmarks.parts["head"][:, 0]).sum() == 6


# ---------------------------------------------------------------------------------- what is done


def test_align_reorders_and_leaves_unknown_images_unmarked():
    landmarks = Landmarks(("a", "b"), {"eye": np.array([[1.0, 2], [3, 4]])}, ("p", "q"))
    aligned = landmarks.align(["b", "c", "a"])  # c has no marks, and nothing else has any either
    equal(aligned, ("b", "c", "a"), {"eye": [[3, 4], [NAN] * 2, [1, 2]]})
    assert aligned.sources == ("q", "c", "p")
    with pytest.raises(ExplgraphError, match=r"none of the 2 images has landmarks.*'x'.*'a'"):
        landmarks.align(["x", "y"])


def test_marks_that_meet_no_image_are_told():
    names = ("a.png", "b.png", "dog 3.png", "x1", "x2", "x3")
    landmarks = Landmarks(names, {"eye": np.ones((6, 2))})
    told = r"landmarks of 4 of 6 images are left out.*: 'dog 3\.png', 'x1', 'x2', \.\.\.; did"
    with pytest.warns(ExplgraphWarning, match=told + r" you mean 'dog_3\.png'"):
        aligned = landmarks.align(["a.png", "dog_3.png", "b.png"])
    assert np.isfinite(aligned.parts["eye"][:, 0]).tolist() == [True, False, True]
    # all that are asked for are marked: others are left out on purpose
    assert landmarks.align(["b.png", "a.png"]).names == ("b.png", "a.png")
    # none is marked wrongly: others have no marks
    landmarks.align([*names, "c.png"])


def test_marks_of_no_photograph_of_a_folder_are_told(tmp_path):
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    landmarks = Landmarks(("a.png", "b.png", "c.png"), {"eye": np.ones((3, 2))})
    images = ImageFolder(tmp_path, size=8)
    # photographs that weren't chosen are no mistake
    for chosen in (ImageFolder(tmp_path, size=8, names=["b.png"]), images.subset([2, 0])):
        assert landmarks.to_network(chosen).names == chosen.names
    boxed = ImageFolder(tmp_path, size=8, boxes={"a.png": [(0, 0, 4, 4), (4, 4, 8, 8)]})
    crops = Landmarks(("a.png#0", "a.png#1", "b.png"), {"eye": np.ones((3, 2))})
    assert len(crops.to_network(boxed.subset([1])).names) == 1
    stray = Landmarks(("a.png", "b.jpg"), {"eye": np.ones((2, 2))})
    with pytest.warns(ExplgraphWarning, match=r"of 1 of 2 images .*'b\.jpg'; did you mean 'b"):
        stray.to_network(images)


class Cut:
    """Stands in for an ImageFolder: the cut from (10, 20), twice as wide and thrice as high."""

    names = ("b", "a")

    def to_original(self, index, points):
        return np.asarray(points) / [2 + index, 3] + [10, 20]


def test_to_network_undoes_to_original():
    landmarks = Landmarks(("a", "b"), {"eye": np.array([[11.0, 22], [13, 24]])})
    mapped = landmarks.to_network(Cut())
    assert mapped.names == ("b", "a")
    np.testing.assert_allclose(mapped.parts["eye"], [[6, 12], [3, 6]])
    for i, name in enumerate(mapped.names):
        original = landmarks.parts["eye"][landmarks.names.index(name)]
        np.testing.assert_allclose(Cut().to_original(i, mapped.parts["eye"][i]), original)
    np.testing.assert_array_equal(landmarks.parts["eye"], [[11, 22], [13, 24]])  # left alone


# -------------------------------------------------------------------------------------- bad files


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.json", "{", "isn't JSON"),
        ("l.json", '{"image": {}}', "must hold.*images.*found 'image'"),
        ("l.json", '{"images": {"a": [1, 2]}}', "must hold"),
        ("l.json", '{"images": {"a": {"eye": [1]}}}', r"'eye' of 'a' must be \[x, y\].*\[1\]"),
        ("l.json", '{"images": {"a": {"eye": [1, "?"]}}}', "'eye' of 'a': x and y must be numbers"),
        ("l.json", '{"images": {}}', "holds no landmarks"),
        ("l.csv", "", "columns name, part, x, y.*found nothing"),
        ("l.csv", "name,x,y\n", "columns name, part, x, y.*found name, x, y"),
        ("l.csv", "name,part,x,y\n", "holds no landmarks"),
        ("l.csv", "name,part,x,y\na,eye,1\n", "line 2: 3 values for 4 columns"),
        (
            "l.csv",
            "name,part,x,y\na,eye,1,5,2,5\n",
            "line 2: 6 values for 4 columns",
        ),
        ("l.csv", "name,part,x,y\na,,1,2\n", "line 2: name and part must not be empty"),
        ("l.csv", "name,part,x,y\na,eye,1,\n", "line 2: x and y must both be there"),
        ("l.csv", "name,part,x,y\na,eye,one,2\n", "line 2: x and y must be numbers, found 'one'"),
        ("l.csv", "name,part,x,y\na,eye,nan,2\n", "line 2: x and y must be numbers"),
        ("l.csv", "name,part,x,y\na,eye,1,2\na,eye,3,4\n", "line 3: 'eye' of 'a' is marked twice"),
        ("l.csv", "a;b", "columns name"),
        ("part_locs.txt", "1 1 2 3 1\n", "needs parts.txt"),
        ("l.json", '{"images": {"a": {"e": [1, 2]}}, "parts": 5}', "parts must be a list"),
        ("l.xyz", "", "can't tell the layout.*parts.json.*csv.*part_locs.txt"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, name, text, message):
    path = write(tmp_path / name, text)
    with pytest.raises(ExplgraphError, match=message) as err:
        read_landmarks(path)
    assert name in str(err.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1 1 2 3\n", "line 1: expected '<image id>.*found '1 1 2 3'"),
        ("1 1 2 3 yes\n", "line 1: expected"),
        ("\n7 1 2 3 1\n", "line 2: id 7 isn't in images.txt"),
        ("1 9 2 3 1\n", "line 1: id 9 isn't in parts.txt"),
        ("1 1 two 3 1\n", "line 1: x and y must be numbers, found 'two'"),
    ],
)
def test_bad_cub_rows(tmp_path, rows, message):
    write(tmp_path / "parts.txt", "1 back\n")
    write(tmp_path / "images.txt", "1 a.jpg\n")
    with pytest.raises(ExplgraphError, match=message):
        read_landmarks(write(tmp_path / "part_locs.txt", rows))


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(ExplgraphError, match=r"no\.csv.*can't be read: No such file"):
        read_landmarks(tmp_path / "no.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ExplgraphError, match=r"b\.csv.*isn't a text file"):
        read_landmarks(tmp_path / "b.csv")
    write(tmp_path / "parts.txt", "1\n")
    with pytest.raises(ExplgraphError, match="expected '<id> <name>' lines, found '1'"):
        read_landmarks(write(tmp_path / "part_locs.txt", ""))


@pytest.mark.parametrize(
    ("column", "seen", "unseen"),
    [
        ("visible", ["1", "2", "true", ""], ["0", "False"]),
        ("likelihood", ["0.6", "1", ""], ["0.59"]),
    ],
)
def test_rows_that_say_that_nothing_is_seen_are_no_marks(tmp_path, column, seen, unseen):
    lines = [f"name,part,x,y,{column}"]
    lines += [f"{n}.png,eye,0,0,{value}" for n, value in enumerate([*seen, *unseen])]
    (tmp_path / "marks.csv").write_text("\n".join(lines))
    marks = read_landmarks(tmp_path / "marks.csv")
    known = np.isfinite(marks.parts["eye"][:, 0])
    assert known.tolist() == [True] * len(seen) + [False] * len(unseen)


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [("visible", "maybe", "visible must be 0, 1, 2"), ("likelihood", "1.5", "from 0 to 1")],
)
def test_what_such_columns_cannot_hold_is_told(tmp_path, column, value, told):
    (tmp_path / "marks.csv").write_text(f"name,part,x,y,{column}\na.png,eye,1,2,{value}\n")
    with pytest.raises(ExplgraphError, match=told):
        read_landmarks(tmp_path / "marks.csv")
