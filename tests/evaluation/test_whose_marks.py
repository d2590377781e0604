"""Several objects in a photograph: whose the marks are, by boxes; and marks written, read again."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from explgraph import ExplgraphError, ImageFolder, Landmarks, read_landmarks
from explgraph.answers.located import Located

SIZE = 200, 100
LEFT, RIGHT = (10, 10, 90, 90), (110, 10, 190, 90)
NAN = [np.nan, np.nan]


def photographs(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names or ("a.png",):
        Image.new("RGB", SIZE, "grey").save(folder / name)
    return folder


def coco(path, things, name="a.png"):
    """Write objects (box or None, {part: (x, y)}) as COCO, coordinates as explgraph counts."""
    annotations = []
    for box, marks in things:
        flat = []
        for part in ("eye", "tail"):
            flat += [marks[part][0] - 0.5, marks[part][1] - 0.5, 2] if part in marks else [0, 0, 0]
        one = {"id": len(annotations), "image_id": 1, "category_id": 1, "keypoints": flat}
        if box is not None:
            one["bbox"] = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
        annotations.append(one)
    content = {
        "images": [{"id": 1, "file_name": name}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "fly", "keypoints": ["eye", "tail"]}],
    }
    path.write_text(json.dumps(content))
    return path


def placed(landmarks, images):
    """Give where parts are in each image, in pixels of its photograph."""
    at = landmarks.to_network(images)
    assert at.names == images.names
    return {
        (name, part): tuple(images.to_original(i, places[i]).round(6).tolist())
        for part, places in at.parts.items()
        for i, name in enumerate(at.names)
        if np.isfinite(places[i, 0])
    }


# two objects, whichever comes first in the file: the order of boxes is not that of the marks
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("boxed", [False, True])
def test_marks_go_to_the_image_that_was_cut_out_around_them(tmp_path, turned, boxed):
    folder = photographs(tmp_path / "p")
    things = [
        (LEFT if boxed else None, {"eye": (20, 20), "tail": (80, 80)}),
        (RIGHT if boxed else None, {"eye": (120, 30)}),
    ]
    file = coco(tmp_path / "m.json", things[::-1] if turned else things)
    landmarks = read_landmarks(file)
    assert landmarks.names == ("a.png#0", "a.png#1")
    images = ImageFolder(folder, size=50, boxes={"a.png": [LEFT, RIGHT]})
    right = {("a.png#0", "eye"): (20, 20), ("a.png#0", "tail"): (80, 80)}
    right[("a.png#1", "eye")] = (120, 30)
    assert placed(landmarks, images) == right
    # one that is chosen; a photograph with one box, which has no number
    assert placed(landmarks, images.subset([1])) == {("a.png#1", "eye"): (120, 30)}
    one = ImageFolder(folder, size=50, boxes={"a.png": RIGHT})
    assert placed(landmarks, one) == {("a.png", "eye"): (120, 30)}


def test_the_boxes_of_the_same_file_cut_out_its_objects(tmp_path):
    folder = photographs(tmp_path / "p")
    near = (50, 10, 130, 90)  # overlaps both
    things = [(LEFT, {"eye": (60, 20)}), (near, {"eye": (70, 20)}), (RIGHT, {"eye": (115, 20)})]
    file = coco(tmp_path / "m.json", things)
    images = ImageFolder(folder, size=50, boxes=file)
    expected = {(f"a.png#{k}", "eye"): marks["eye"] for k, (_, marks) in enumerate(things)}
    assert placed(read_landmarks(file), images) == expected


@pytest.mark.parametrize("seed", range(12))
def test_of_many_objects_each_gets_its_own_marks(tmp_path, seed):
    # boxes side by side in a jumbled order; objects in another, with or without boxes of their own
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 7))
    edges = np.linspace(0, SIZE[0], count + 1)
    boxes = [
        (a + rng.uniform(0, 3), rng.uniform(0, 9), b - rng.uniform(0, 3), 100 - rng.uniform(0, 9))
        for a, b in pairwise(edges)
    ]
    things = []
    for x0, y0, x1, y1 in boxes:
        marks = {
            part: (round(rng.uniform(x0, x1), 3), round(rng.uniform(y0, y1), 3))
            for part in ("eye", "tail")
        }
        things.append(((x0, y0, x1, y1) if rng.random() < 0.5 else None, marks))
    cut = [int(k) for k in rng.permutation(count)]
    given = [int(k) for k in rng.permutation(count)]
    images = ImageFolder(
        photographs(tmp_path / "p"), size=50, boxes={"a.png": [boxes[k] for k in cut]}
    )
    file = coco(tmp_path / "m.json", [things[k] for k in given])
    expected = {
        (f"a.png#{at}", part): pytest.approx(place)
        for at, k in enumerate(cut)
        for part, place in things[k][1].items()
    }
    assert placed(read_landmarks(file), images) == expected


def test_two_objects_in_one_image_are_refused(tmp_path):
    folder = photographs(tmp_path / "p")
    for boxed in (True, False):
        things = [(LEFT if boxed else None, {"eye": (20, 20)})]
        things += [(RIGHT if boxed else None, {"eye": (120, 30)})]
        landmarks = read_landmarks(coco(tmp_path / "m.json", things))
        helps = "which the same file has" if boxed else "marks will be found by them"
        with pytest.raises(ExplgraphError, match=rf"in 'a\.png' several objects .*{helps}"):
            landmarks.to_network(ImageFolder(folder, size=50))
    # nor is the mean of them taken where they are of different parts
    things = [(None, {"eye": (20, 20)}), (None, {"tail": (120, 30)})]
    with pytest.raises(ExplgraphError, match="several objects"):
        read_landmarks(coco(tmp_path / "m.json", things)).to_network(ImageFolder(folder, size=50))


def test_an_object_that_fills_the_image_is_its_object(tmp_path):
    folder = photographs(tmp_path / "p")
    things = [((0, 0, 180, 90), {"eye": (20, 20)}), ((150, 60, 170, 80), {"eye": (155, 65)})]
    landmarks = read_landmarks(coco(tmp_path / "m.json", things))
    assert placed(landmarks, ImageFolder(folder, size=50)) == {("a.png", "eye"): (20, 20)}


def test_marks_elsewhere_are_no_marks(tmp_path):
    folder = photographs(tmp_path / "p")
    landmarks = read_landmarks(coco(tmp_path / "m.json", [(LEFT, {"eye": (20, 20)})]))
    with pytest.raises(ExplgraphError, match="lie in none of the images that were cut out"):
        landmarks.to_network(ImageFolder(folder, size=50, boxes={"a.png": RIGHT}))


def test_loose_marks_go_to_the_smallest_image_that_holds_them(tmp_path):
    folder = photographs(tmp_path / "p")
    points = "".join(
        f'<points label="{part}" points="{x},{y}"/>'
        for part, x, y in (("eye", 20, 20), ("tail", 80, 80), ("eye", 120, 30), ("tail", 100, 5))
    )
    file = tmp_path / "c.xml"
    size = f'width="{SIZE[0]}" height="{SIZE[1]}"'
    file.write_text(f'<annotations><image name="a.png" {size}>{points}</image></annotations>')
    landmarks = read_landmarks(file)
    assert len(landmarks.names) == 4
    images = ImageFolder(folder, size=50, boxes={"a.png": [LEFT, RIGHT]})
    expected = {("a.png#0", "eye"): (20, 20), ("a.png#0", "tail"): (80, 80)}
    expected[("a.png#1", "eye")] = (120, 30)
    assert placed(landmarks, images) == expected
    with pytest.raises(ExplgraphError, match="several objects"):
        landmarks.to_network(ImageFolder(folder, size=50))
    file.write_text(file.read_text().replace('"eye" points="20,20"', '"ear" points="20,20"'))
    file.write_text(file.read_text().replace('"tail" points="80,80"', '"leg" points="80,80"'))
    whole = placed(read_landmarks(file), ImageFolder(folder, size=50))
    assert whole == {
        ("a.png", part): at
        for part, at in
        {"ear": (20, 20), "leg": (80, 80), "eye": (120, 30), "tail": (100, 5)}.items()
    }  # fmt: skip


def test_a_table_may_name_photographs_or_the_images_cut_out_of_them(tmp_path):
    folder = photographs(tmp_path / "p", "a.png", "b.png")
    images = ImageFolder(folder, size=50, boxes={"a.png": [LEFT, RIGHT], "b.png": [LEFT, RIGHT]})
    file = tmp_path / "m.csv"
    file.write_text("name,part,x,y\na.png#1,eye,120,30\nb.png,eye,20,20\n")
    expected = {("a.png#1", "eye"): (120, 30), ("b.png#0", "eye"): (20, 20)}
    assert placed(read_landmarks(file), images) == expected
    file.write_text(file.read_text() + "b.png#0,eye,30,30\n")
    with pytest.raises(ExplgraphError, match=r"in 'b\.png' several objects are marked"):
        read_landmarks(file).to_network(images)


# ------------------------------------------------------------------------------------------ writing


places = st.floats(0, 80, allow_nan=False).map(lambda v: round(v, 4))


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_what_is_written_is_read_again(tmp_path, data):
    folder = photographs(tmp_path / "p", "a.png", "b b.png")
    images = ImageFolder(folder, size=50, boxes={"a.png": [LEFT, RIGHT], "b b.png": RIGHT})
    parts = {}
    for part in ("eye", "-tail"):  # a name that spreadsheets would take for a formula
        shown = data.draw(st.lists(st.booleans(), min_size=3, max_size=3))
        at = np.array([[data.draw(places), data.draw(places)] for _ in range(3)])
        at += [[10, 10], [110, 10], [110, 10]]
        parts[part] = np.where(np.array(shown)[:, None], at, np.nan)
    landmarks = Landmarks(images.names, parts)
    for name in ("m.json", "m.csv"):
        if not any(np.isfinite(at).any() for at in parts.values()):
            with pytest.raises(ExplgraphError, match="there is no mark to write"):
                landmarks.write(tmp_path / name, images)
            continue
        landmarks.write(tmp_path / name, images)
        again = read_landmarks(tmp_path / name).to_network(images)
        expected = landmarks.to_network(images)
        for part, at in parts.items():
            if part in again.parts or np.isfinite(at).any():
                np.testing.assert_allclose(again.parts[part], expected.parts[part], atol=1e-9)


def test_coco_that_is_written_is_as_the_format_has_it(tmp_path):
    folder = photographs(tmp_path / "p", "a.png", "b.png")
    images = ImageFolder(folder, size=50, boxes={"a.png": [LEFT, RIGHT], "b.png": (0, 0, *SIZE)})
    marks = Landmarks(
        images.names, {"eye": [[20.5, 20.5], NAN, [1.5, 3.5]], "tail": [NAN, NAN, [7, 9]]}
    )
    marks.parts.update({part: np.array(at, float) for part, at in marks.parts.items()})
    marks.write(tmp_path / "m.json", images, label="fly")
    content = json.loads((tmp_path / "m.json").read_text())
    assert content["categories"] == [
        {"id": 1, "name": "fly", "keypoints": ["eye", "tail"], "skeleton": []}
    ]
    assert [(i["file_name"], i["width"], i["height"]) for i in content["images"]] == [
        ("a.png", *SIZE), ("b.png", *SIZE)
    ]  # fmt: skip
    first, second = content["annotations"]
    assert first["keypoints"] == [20, 20, 2, 0, 0, 0]
    assert first["num_keypoints"] == 1
    assert first["bbox"] == [10, 10, 80, 80]
    assert second["image_id"] == content["images"][1]["id"]
    assert second["bbox"] == [0, 0, *SIZE]


def test_formats_are_turned_into_each_other_without_the_photographs(tmp_path):
    file = tmp_path / "c.xml"
    points = '<points label="eye" points="20,20"/>'
    image = f'<image name="x/a.png" width="200" height="100">{points}</image>'
    file.write_text(f"<annotations>{image}</annotations>")
    landmarks = read_landmarks(file)
    landmarks.write(tmp_path / "m.json")
    landmarks.write(tmp_path / "m.csv")
    for name in ("m.json", "m.csv"):
        again = read_landmarks(tmp_path / name)
        assert again.names == ("x/a.png",)
        assert again.parts["eye"].tolist() == [[20, 20]]
    with pytest.raises(ExplgraphError, match="sizes, which aren't known; pass images="):
        read_landmarks(tmp_path / "m.csv").write(tmp_path / "n.json")
    two = read_landmarks(coco(tmp_path / "two.json", [(None, {"eye": (20, 20)})] * 2))
    with pytest.raises(ExplgraphError, match="several objects are marked in one photograph; pass"):
        two.write(tmp_path / "n.csv")
    with pytest.raises(ExplgraphError, match="suffix"):
        landmarks.write(tmp_path / "m.xml")


def test_places_that_were_located_are_marks(tmp_path):
    images = ImageFolder(photographs(tmp_path / "p", "a.png", "b.png"), size=50)
    at = {"eye": np.array([[10.0, 20.0], [30.0, 40.0]])}
    photo = {"eye": np.array([[40.0, 40.0], [120.0, 80.0]])}
    presence = {"eye": np.array([0.9, 0.1])}
    located = Located(images.names, at, {"eye": np.ones(2)}, presence, photo)
    located.landmarks().write(tmp_path / "m.json", images)
    again = read_landmarks(tmp_path / "m.json")
    assert again.names == ("a.png", "b.png")
    np.testing.assert_array_equal(again.parts["eye"], [[40, 40], NAN])
    unknown = Located(images.names, at, {"eye": np.ones(2)}, {"eye": np.full(2, np.nan)}, photo)
    assert np.isfinite(unknown.landmarks().parts["eye"]).all()
    with pytest.raises(ExplgraphError, match=r"parse an explgraph\.ImageFolder"):
        Located(images.names, at, {"eye": np.ones(2)}, presence).landmarks()


def test_likelihood_must_be_one(tmp_path):
    file = coco(tmp_path / "m.json", [(None, {"eye": (20, 20)})])
    with pytest.raises(ExplgraphError, match="likelihood must be from 0 to 1, got 60"):
        read_landmarks(file, likelihood=60)
