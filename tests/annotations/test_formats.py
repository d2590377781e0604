"""What each program writes, read: the same scene from all, and what each format has of its own."""

import copy
import json
import sys

import numpy as np
import pytest
from scene import (
    BOX,
    BOXES,
    COCO,
    CVAT,
    DEEPLABCUT,
    EYE,
    LABEL_STUDIO,
    LABEL_STUDIO_MIN,
    LABELME,
    MARKS,
    VOC,
    draw,
    lay,
)

import explgraph
from explgraph.annotations.recognising import read_annotations
from explgraph.errors import ExplgraphError

NAN = [np.nan, np.nan]


def marks_of(tmp_path, name, text, **options):
    """Read landmarks from a file with this text (or JSON), by name of image and part."""
    file = tmp_path / name
    file.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    found = explgraph.read_landmarks(file, **options)
    return {
        (image, part): tuple(places[i].tolist())
        for part, places in found.parts.items()
        for i, image in enumerate(found.names)
        if np.isfinite(places[i, 0])
    }


def boxes_of(tmp_path, name, text):
    """Read boxes from a file with this text (or JSON), by image."""
    file = tmp_path / name
    file.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return {
        photo.name: [(t.label, *(round(v, 6) for v in t.box)) for t in photo.things if t.box]
        for photo in read_annotations(file, "boxes").photos
    }


# -------------------------------------------------------------------------------------- the scene


@pytest.mark.parametrize("name", MARKS)
def test_the_mark_is_at_the_same_place_whatever_the_format_counts_from(tmp_path, name):
    images = explgraph.ImageFolder(draw(tmp_path / "film"), size=(30, 40))
    landmarks = explgraph.read_landmarks(lay(tmp_path / "marks", MARKS[name]))
    at = landmarks.to_network(images)
    assert at.names == ("a.png",)
    np.testing.assert_allclose(at.parts["eye"], [EYE])
    # and it is the blue pixel
    x, y = at.parts["eye"][0]
    assert images.picture(0).getpixel((int(x), int(y))) == (0, 0, 255)
    assert "tail" not in at.parts or np.isnan(at.parts["tail"]).all()
    assert landmarks.kind.lower().replace("-", " ").split()[0] in name.replace(" ", "") or (
        landmarks.kind.split()[0] in ("Label", "CUB-200-2011", "CSV")
    )
    assert f"from a {landmarks.kind}" in repr(landmarks)


@pytest.mark.parametrize("name", BOXES)
def test_the_box_cuts_out_the_block_and_nothing_else(tmp_path, name):
    folder = draw(tmp_path / "film")
    boxes = lay(tmp_path / "marks", BOXES[name])
    images = explgraph.ImageFolder(folder, size=(10, 16), boxes=boxes)
    assert images.names == ("a.png",)
    np.testing.assert_allclose(images.cuts()["a.png"][1], BOX, atol=1e-5)
    pixels = np.asarray(images.picture(0)).copy()
    assert pixels[5, 8].tolist() == [0, 0, 255]
    pixels[5, 8] = 255, 0, 0
    np.testing.assert_array_equal(pixels, np.broadcast_to([255, 0, 0], pixels.shape))
    # CSVs and CUB have no classes
    assert images.labels == ({} if name in ("csv", "cub") else {"a.png": "bird"})


# ------------------------------------------------------------------------------------------- COCO


def test_coco_counts_visibility_and_leaves_crowds_out(tmp_path):
    content = copy.deepcopy(COCO)
    one = content["annotations"][0]
    one["keypoints"] = [12, 7, 1, 3.25, 4, 2]
    content["annotations"].append({**one, "id": 2, "iscrowd": 1, "bbox": [0, 0, 40, 30]})
    hidden = {("a.png", "eye"): (12.5, 7.5), ("a.png", "tail"): (3.75, 4.5)}
    assert marks_of(tmp_path, "m.json", content) == hidden
    del hidden["a.png", "eye"]
    assert marks_of(tmp_path, "m.json", content, occluded=False) == hidden
    assert boxes_of(tmp_path, "m.json", content) == {"a.png": [("bird", *BOX)]}


def test_coco_objects_of_several_classes_are_chosen(tmp_path):
    content = copy.deepcopy(COCO)
    content["categories"].append({"id": 4, "name": "cat", "keypoints": ["eye"]})
    content["annotations"].append(
        {"id": 2, "image_id": 7, "category_id": 4, "keypoints": [30, 20, 2], "bbox": [25, 15, 9, 9]}
    )
    with pytest.raises(ExplgraphError, match=r"2 classes: bird \(1\), cat \(1\); choose by object"):
        marks_of(tmp_path, "m.json", content)
    cat = {("a.png", "eye"): (30.5, 20.5)}
    assert marks_of(tmp_path, "m.json", content, object_class="cat") == cat
    both = marks_of(tmp_path, "m.json", content, object_class="*")
    assert both == {("a.png#0", "eye"): EYE, ("a.png#1", "eye"): (30.5, 20.5)}
    with pytest.raises(
        ExplgraphError, match=r"object_class .--landmark-class. has 'dog'.*it has bird \(1\)"
    ):
        marks_of(tmp_path, "m.json", content, object_class=["cat", "dog"])
    folder = draw(tmp_path / "film")
    with pytest.raises(ExplgraphError, match=r"boxes of 2 classes: .*choose by box_class"):
        explgraph.ImageFolder(folder, boxes=tmp_path / "m.json")
    both = explgraph.ImageFolder(folder, boxes=tmp_path / "m.json", box_class="*")
    assert both.labels == {"a.png#0": "bird", "a.png#1": "cat"}
    cats = explgraph.ImageFolder(folder, boxes=tmp_path / "m.json", box_class=["cat"])
    assert cats.labels == {"a.png": "cat"}
    assert cats.subset([0]).labels == cats.labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][0].update(image_id=8), r"annotations\[0\]: image_id 8 is no"),
        (lambda c: c["annotations"][0].update(category_id=8), r"category_id 8 is no category"),
        (lambda c: c["annotations"][0].update(keypoints=[1, 2, 2]), r"6 numbers.*found 3"),
        (lambda c: c["annotations"][0]["keypoints"].__setitem__(2, 5), r"v of 'eye' must be 0, 1"),
        (lambda c: c["annotations"][0]["keypoints"].__setitem__(0, None), "must be 6 numbers"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), "must be 4 numbers"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3, "NaN"]), "must be 4 numbers"),
        (lambda c: c["images"].append(c["images"][0]), r"images\[1\]: the id 7 is there twice"),
        (lambda c: c["images"][0].pop("file_name"), r"images\[0\]: expected an image with id"),
        (lambda c: c["categories"][0].update(keypoints="eye"), "keypoints must be a list of names"),
    ],
)
def test_coco_that_is_broken_names_the_entry(tmp_path, change, message):
    content = copy.deepcopy(COCO)
    change(content)
    with pytest.raises(ExplgraphError, match=message) as err:
        marks_of(tmp_path, "m.json", content)
    assert "m.json" in str(err.value)


# ------------------------------------------------------------------------------------- DeepLabCut


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("levels", [1, 3])
def test_deeplabcut_as_pandas_writes_it(tmp_path, several, levels):
    # DeepLabCut's own files are frames of pandas, written by to_csv
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(levels)
    names = [("labeled-data", "film", f"img{k:03}.png") for k in range(4)]
    index = pandas.MultiIndex.from_tuples(names) if levels == 3 else ["/".join(n) for n in names]
    animals = ["m1", "m2"] if several else [None]
    levels_of = ["scorer", "individuals", "bodyparts", "coords"]
    columns = [("me", a, part, c) for a in animals for part in ("eye", "tail") for c in "xy"]
    if not several:
        columns, levels_of = [(s, p, c) for s, _, p, c in columns], [levels_of[0], *levels_of[2:]]
    values = rng.uniform(0, 99, (4, len(columns)))
    values[1, :2] = np.nan
    frame = pandas.DataFrame(
        values, index=index, columns=pandas.MultiIndex.from_tuples(columns, names=levels_of)
    )
    frame.to_csv(tmp_path / "CollectedData_me.csv")
    landmarks = explgraph.read_landmarks(tmp_path / "CollectedData_me.csv")
    rows = values.reshape(4, len(animals), 2, 2) + 0.5
    assert len(landmarks.names) == 4 * len(animals)
    assert landmarks.names[0] == "labeled-data/film/img000.png" + ("#0" if several else "")
    for k, part in enumerate(("eye", "tail")):
        np.testing.assert_allclose(landmarks.parts[part], rows[:, :, k].reshape(-1, 2))


def test_deeplabcut_predictions_need_the_likelihood(tmp_path):
    text = (
        "scorer,net,net,net,net,net,net\nbodyparts,eye,eye,eye,tail,tail,tail\n"
        "coords,x,y,likelihood,x,y,likelihood\nfilm/a.png,1,2,0.61,3,4,0.59\n"
    )
    assert marks_of(tmp_path, "d.csv", text) == {("film/a.png", "eye"): (1.5, 2.5)}
    most = {("film/a.png", "eye"): (1.5, 2.5), ("film/a.png", "tail"): (3.5, 4.5)}
    assert marks_of(tmp_path, "d.csv", text, likelihood=0.5) == most


def test_deeplabcut_animals_and_what_is_of_none(tmp_path):
    text = (
        "scorer,,,me,me,me,me,me,me\nindividuals,,,m1,m1,m2,m2,single,single\n"
        "bodyparts,,,eye,eye,eye,eye,food,food\ncoords,,,x,y,x,y,x,y\n"
        "labeled-data,v,a.png,1,2,3,4,5,6\nlabeled-data,v,b.png,,,3,4,,\n"
    )
    assert marks_of(tmp_path, "d.csv", text) == {
        ("labeled-data/v/a.png#0", "eye"): (1.5, 2.5),
        ("labeled-data/v/a.png#1", "eye"): (3.5, 4.5),
        ("labeled-data/v/a.png#2", "food"): (5.5, 6.5),
        ("labeled-data/v/b.png", "eye"): (3.5, 4.5),
    }


def test_lightning_pose_says_what_is_visible(tmp_path):
    text = (
        "scorer, s, s, s, s, s, s\nbodyparts, a, a, a, b, b, b\ncoords, x, y, visible, x, y, "
        "visible\n1.png, 1, 2, 2, , , 0\n2.png, 1, 2, 0, 3, 4, 1\n"
    )
    hidden = {("1.png", "a"): (1.5, 2.5), ("2.png", "b"): (3.5, 4.5)}
    assert marks_of(tmp_path, "d.csv", text) == hidden
    del hidden["2.png", "b"]
    assert marks_of(tmp_path, "d.csv", text, occluded=False) == hidden


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            DEEPLABCUT.replace("labeled-data,film,a.png", "0,,"),
            "line 4: rows are frames of a video",
        ),
        (
            DEEPLABCUT.replace("7.0", "sieben"),
            "line 4: y of 'eye' must be a number, found 'sieben'",
        ),
        (DEEPLABCUT.replace("7.0", ""), "line 4: 'eye' must have both x and y"),
        (DEEPLABCUT + "labeled-data,film,a.png,1,2,,\n", "line 5: .*a.png' is there twice"),
        (DEEPLABCUT + "labeled-data,film,b.png,1,2\n", "line 5: 5 values for 7 columns"),
        (DEEPLABCUT.replace("coords", "what"), "line 3: the header of a DeepLabCut file"),
        (DEEPLABCUT.replace("x,y,x,y", "x,z,x,y"), "column 5: expected a bodypart and one of x, y"),
        (DEEPLABCUT.replace("tail,tail", "eye,eye"), "columns of 'eye x' twice"),
        (DEEPLABCUT.replace("x,y,x,y", "x,y,x,likelihood"), "'tail' needs a column x and one y"),
        ("scorer,,,me,me\nbodyparts,,,eye,eye\n", "no line of coords"),
        ("scorer,a\ncoords,x\n", "no line of bodyparts"),
    ],
)
def test_deeplabcut_that_is_broken_names_the_line(tmp_path, text, message):
    with pytest.raises(ExplgraphError, match=message):
        marks_of(tmp_path, "d.csv", text)


def test_two_scorers_of_one_film_are_not_mixed(tmp_path):
    for scorer in ("me", "you"):
        lay(tmp_path, ("", {f"film/CollectedData_{scorer}.csv": DEEPLABCUT}))
    with pytest.raises(ExplgraphError, match=r"2 files that tell of 'labeled-data/film/a\.png'"):
        explgraph.read_landmarks(tmp_path)


# ------------------------------------------------------------------------------------------- CVAT


def cvat(shapes):
    return f'<annotations><image name="a.png" width="40" height="30">{shapes}</image></annotations>'


def test_cvat_points_by_themselves_are_of_the_part_their_label_names(tmp_path):
    text = cvat(
        '<points label="eye" occluded="1" points="1.5,2.5"/><points label="tail" points="3,4"/>'
        '<polygon label="wing" points="1,1;2,2;3,1"/><tag label="bird"/>'
    )
    both = {("a.png", "eye"): (1.5, 2.5), ("a.png", "tail"): (3, 4)}
    assert marks_of(tmp_path, "c.xml", text) == both
    del both["a.png", "eye"]
    assert marks_of(tmp_path, "c.xml", text, occluded=False) == both


def test_cvat_groups_and_shapes_of_many_points(tmp_path):
    text = cvat(
        '<box label="bird" group_id="2" xtl="0" ytl="0" xbr="9" ybr="9"/>'
        '<points label="eye" group_id="2" points="5,5"/>'
        '<points label="eye" group_id="1" points="1,1"/>'
        '<points label="foot" group_id="1" points="2,2;3,3"/>'
    )
    found = marks_of(tmp_path, "c.xml", text, object_class="*")
    assert found == {
        ("a.png#0", "eye"): (5, 5),
        ("a.png#1", "eye"): (1, 1),
        ("a.png#1", "foot 1"): (2, 2),
        ("a.png#1", "foot 2"): (3, 3),
    }
    uneven = cvat('<points label="f" points="2,2;3,3"/><points label="f" points="2,2"/>')
    with pytest.raises(ExplgraphError, match="'f' have 1 points in places and 2 in others"):
        marks_of(tmp_path, "c.xml", uneven)


def test_boxes_that_are_turned_become_the_upright_ones_around_them(tmp_path):
    # a box of 8 x 2 about (10, 10), by a right angle: 2 x 8; by 30 degrees: 8 cos + 2 sin, ...
    text = '<box label="bird" xtl="6" ytl="9" xbr="14" ybr="11" rotation="{}"/>'
    assert boxes_of(tmp_path, "c.xml", cvat(text.format(90))) == {"a.png": [("bird", 9, 6, 11, 14)]}
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    half = np.array([8 * cos + 2 * sin, 8 * sin + 2 * cos]) / 2
    ((_, *box),) = boxes_of(tmp_path, "c.xml", cvat(text.format(30)))["a.png"]
    np.testing.assert_allclose(box, [*(10 - half), *(10 + half)], atol=1e-5)
    # Label Studio turns about the upper left corner: by 90 degrees, the box lies left of it
    content = copy.deepcopy(LABEL_STUDIO)
    value = content[0]["annotations"][0]["result"][0]["value"]
    value |= {"x": 50, "y": 20, "width": 10, "height": 30, "rotation": 90}
    assert boxes_of(tmp_path, "l.json", content)["0a1b2c3d-a.png"] == [("bird", 11, 6, 20, 10)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations><track id='0'/></annotations>", "is of a video"),
        (cvat('<points label="eye" points="1"/>'), "image 'a.png': points of 'eye' must be x,y"),
        (cvat('<points label="eye" points="1,b"/>'), "points of 'eye' must be x,y"),
        (cvat('<box label="bird" xtl="1"/>'), "a box must have numbers xtl"),
        (CVAT.replace('name="a.png"', ""), "image number 1: has no name"),
        (CVAT.replace('"tail"', '"eye"').replace('outside="1"', ""), "'eye' of a skeleton must be"),
        ("<svg/>", "begins with <svg>; expected <annotations>"),
        ("<annotations>", "isn't XML"),
    ],
)
def test_cvat_that_is_broken_is_refused(tmp_path, text, message):
    with pytest.raises(ExplgraphError, match=message):
        marks_of(tmp_path, "c.xml", text)


# ----------------------------------------------------------------------------------- Label Studio


def test_label_studio_as_its_documentation_has_it(tmp_path):
    # the example of https://labelstud.io/tags/keypointlabels, within a task
    region = {
        "original_width": 1920, "original_height": 1280, "image_rotation": 0,
        "type": "keypointlabels",
        "value": {"x": 3.1, "y": 8.2, "width": 2, "keypointlabels": ["Car"]},
    }  # fmt: skip
    task = {"id": 1, "data": {"img": "https://host/x/my%20photo.jpg?v=1"}}
    task["annotations"] = [{"result": [region]}]
    found = marks_of(tmp_path, "l.json", [task])
    assert found == {("my photo.jpg", "Car"): (pytest.approx(59.52), pytest.approx(104.96))}


def test_label_studio_annotation_that_counts(tmp_path):
    def result(x):
        value = {"x": x, "y": 25, "keypointlabels": ["eye"]}
        size = {"original_width": 40, "original_height": 30}
        return [{"type": "keypointlabels", "value": value, **size}]

    task = {"data": {"image": "s3://bucket/birds/a.png"}, "predictions": [{"result": result(1)}]}
    first, second = {"result": result(10)}, {"result": result(20)}
    cases = [
        ([first, second], 8),
        ([{**first, "ground_truth": True}, second], 4),
        ([first, {**second, "was_cancelled": True}], 4),
    ]
    for given, x in cases:
        found = marks_of(tmp_path, "l.json", [{**task, "annotations": given}])
        assert found == {("a.png", "eye"): (x, 7.5)}
    with pytest.raises(ExplgraphError, match="holds no landmarks"):
        marks_of(tmp_path, "l.json", [{**task, "annotations": []}])


def test_label_studio_relations_join_points_to_boxes(tmp_path):
    content = copy.deepcopy(LABEL_STUDIO)
    results = content[0]["annotations"][0]["result"]
    del results[1]["parentID"]
    results.append({"type": "relation", "from_id": "k", "to_id": "b", "direction": "right"})
    file = tmp_path / "l.json"
    file.write_text(json.dumps(content))
    ((thing,),) = [photo.things for photo in read_annotations(file, "marks").photos]
    assert thing.label == "bird"
    assert list(thing.marks) == ["eye"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r[1].update(image_rotation=90), "was turned in Label Studio"),
        (lambda r: r[1].pop("original_width"), "must tell original_width"),
        (lambda r: r[1]["value"].update(x="left"), "x and y of 'eye' must be 2 numbers"),
        (lambda r: r[1]["value"].update(keypointlabels=["a", "b"]), "must have one label"),
        (lambda r: r.append({**r[1], "id": "j", "parentID": None}), None),
    ],
)
def test_label_studio_that_is_broken_names_the_task(tmp_path, change, message):
    content = copy.deepcopy(LABEL_STUDIO)
    change(content[0]["annotations"][0]["result"])
    if message is None:  # a point that has no box is one by itself
        assert len(marks_of(tmp_path, "l.json", content, object_class="*")) == 2
        return
    with pytest.raises(ExplgraphError, match=f"task 1: .*{message}"):
        marks_of(tmp_path, "l.json", content)


def test_minimal_export_with_local_files(tmp_path):
    content = copy.deepcopy(LABEL_STUDIO_MIN)
    content[0]["image"] = "/data/local-files/?d=birds/sub%20folder/a.png"
    assert marks_of(tmp_path, "l.json", content) == {("birds/sub folder/a.png", "eye"): EYE}


# ------------------------------------------------------------------------------ LabelMe, CUB, VOC


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s[1].update(points=[[1, 2], [3, 4]]), "a point must have 1 points"),
        (lambda s: s[1].update(points=[[1, "x"]]), "must be 2 numbers"),
        (lambda s: s[0].update(points=[[1, 2]]), "a rectangle must have 2 points"),
        (lambda s: s[0].update(label=3), r"shapes\[0\]: expected a shape with a label"),
        (lambda s: s[0].update(group_id=[1]), "group_id must be a number"),
        (lambda s: s.append(s[0]), "the group 1 has 2 boxes, and marks"),
        (lambda s: s.append(s[1]), "the group 1 has 'eye' twice"),
    ],
)
def test_labelme_that_is_broken_names_the_shape(tmp_path, change, message):
    content = copy.deepcopy(LABELME)
    change(content["shapes"])
    with pytest.raises(ExplgraphError, match=message):
        marks_of(tmp_path, "a.json", content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 1 2 3\n", "x y width height must be 4 numbers"),
        ("2 1 2 3 4\n", "line 1: id 2 isn't in images.txt"),
        ("1 1 2 3 4\n1 1 2 3 4\n", "line 2: id 1 is there twice"),
    ],
)
def test_cub_boxes_that_are_broken_name_the_line(tmp_path, text, message):
    (tmp_path / "images.txt").write_text("1 a.png\n")
    with pytest.raises(ExplgraphError, match=message):
        boxes_of(tmp_path, "bounding_boxes.txt", text)


def test_voc_that_is_broken_names_the_object(tmp_path):
    for text in (VOC.replace("<xmin>5</xmin>", ""), VOC.replace("<name>bird</name>", "")):
        with pytest.raises(
            ExplgraphError, match=r"a\.xml', object 1: expected a name and a bndbox"
        ):
            boxes_of(tmp_path, "a.xml", text)
    # a size that isn't known is written as 0, and files may be named otherwise than in the XML
    draw(tmp_path / "p")
    text = VOC.replace("<width>40", "<width>0").replace("a.png</file", "elsewhere.jpg</file")
    (tmp_path / "a.xml").write_text(text)
    assert explgraph.ImageFolder(tmp_path / "p", boxes=tmp_path / "a.xml").names == ("a.png",)


# ------------------------------------------------------------------------------------------- YOLO


def yolo(tmp_path, line, yaml=None):
    lay(tmp_path / "d", ("", {"labels/train/a.txt": line} | ({"data.yaml": yaml} if yaml else {})))
    draw(tmp_path / "d" / "images", "train/a.png")
    return explgraph.ImageFolder(tmp_path / "d" / "images", boxes=tmp_path / "d" / "labels")


def test_yolo_classes_without_names_are_numbers(tmp_path):
    images = yolo(tmp_path, "3 0.5 0.5 1 1\n\n")
    assert images.labels == {"train/a.png": "3"}
    assert images.cuts()["train/a.png"][1] == (0, 0, 40, 30)


@pytest.mark.parametrize(
    ("line", "yaml", "message"),
    [
        ("0 1 2 3\n", None, r"a\.txt', line 1: has 4 numbers, expected CLASS CX CY WIDTH HEIGHT$"),
        ("0 .1 .1 .2 .2 .3 .3\n", None, "said by data.yaml, which is neither in the folder"),
        ("0 .1 .1 .2 .2 .3\n0 .1 .1 .2 .2 .3 .4 .5\n", "names: [a]", "line 2: has 8 numbers"),
        ("0 .1 .1 .2 .2 .3 .3\n", "names: [a]\nkpt_shape: [2, 3]", "has 7 numbers"),
        ("0 120 80 20 20\n", None, "must be shares of the image's size"),
        ("bird .1 .1 .2 .2\n", None, "expected the number of a class first, found 'bird'"),
        ("0 .1 nan .2 .2\n", None, "must be 4 numbers"),
        ("1 .5 .5 .2 .2\n", "names: [a]", "class 1 has no name; there are 1"),
        ("0 .5 .5 .2 .2\n", "names: {a: b}", "names must be a list"),
        ("0 .5 .5 .2 .2\n", "names: [a\n", r"data\.yaml' isn't YAML"),
        ("0 .5 .5 .2 .2\n", "kpt_shape: 3\n", "kpt_shape must be"),
        ("0 .5 .5 .2 .2\n", "!!python/object/apply:os.getcwd []\n", "isn't YAML"),
    ],
)
def test_yolo_that_is_broken_names_the_line(tmp_path, line, yaml, message):
    with pytest.raises(ExplgraphError, match=message):
        yolo(tmp_path, line, yaml)


def test_yolo_without_its_package_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ExplgraphError, match=r"needs PyYAML, .*explgraph\[yolo\].*classes\.txt"):
        yolo(tmp_path, "0 .5 .5 .2 .2\n", "names: [a]")


def test_yolo_keypoints_are_no_landmarks(tmp_path):
    with pytest.raises(ExplgraphError, match="keypoints in YOLO's files aren't read"):
        explgraph.read_landmarks(lay(tmp_path, BOXES["yolo, pose"]))


def test_boxes_and_marks_of_arrays(tmp_path):
    # images that Pillow doesn't read have sizes, too
    folder = draw(tmp_path / "film")
    pixels = np.asarray(explgraph.ImageFolder(folder, size=(30, 40)).picture(0))
    (folder / "a.png").unlink()
    np.save(folder / "a.npy", pixels[..., [0, 2, 0, 0]])
    ready = {"channels": 4, "mean": [0] * 4, "std": [1] * 4, "size": (10, 16), "axes": "HWC"}
    boxes = lay(tmp_path / "marks", BOXES["yolo"])
    images = explgraph.ImageFolder(folder, boxes=boxes, **ready)
    np.testing.assert_allclose(images.cuts()["a.npy"][1], BOX, atol=1e-5)
    content = {**COCO, "images": [{**COCO["images"][0], "file_name": "a.npy"}]}
    (tmp_path / "m.json").write_text(json.dumps(content))
    landmarks = explgraph.read_landmarks(tmp_path / "m.json")
    np.testing.assert_allclose(landmarks.to_network(images).parts["eye"], [[8.5, 5.5]], atol=1e-4)
    landmarks.write(tmp_path / "n.json", images)
    again = explgraph.read_landmarks(tmp_path / "n.json")
    np.testing.assert_allclose(again.parts["eye"], [EYE])
    content["images"][0]["width"] = 30
    (tmp_path / "m.json").write_text(json.dumps(content))
    with pytest.raises(ExplgraphError, match="is 40 x 30 px, but was marked as 30 x 30"):
        explgraph.read_landmarks(tmp_path / "m.json").to_network(images)
