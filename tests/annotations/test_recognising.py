"""Formats are told apart by content; what is no annotation, or of another program, is refused."""

import json

import pytest
from scene import BOXES, COCO, MARKS, lay

import explgraph
from explgraph.annotations.recognising import read_annotations
from explgraph.annotations.safe_xml import read_xml
from explgraph.errors import ExplgraphError

# "billion laughs": every entity is fifty of the one before
_LAUGHS = "".join(
    f'<!ENTITY {name} "{f"&{less};" * 50}">'
    for less, name in zip("abcdefg", "bcdefgh", strict=True)
)
BOMB = f'<!DOCTYPE z [<!ENTITY a "ha">{_LAUGHS}]><annotations>&h;</annotations>'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.zip", "PK", "unpack it"),
        ("a.h5", "", r"give the \.csv that DeepLabCut writes"),
        ("a.slp", "", "export it from SLEAP"),
        ("a.xyz", "", r"can't tell the layout of the landmark file .*COCO, LabelMe"),
        ("a.json", "[]", "COCO, LabelMe or Label Studio"),
        ("a.json", '[{"image_id": 1, "keypoints": [], "score": 1}]', "COCO's results"),
        ("a.json", '[{"foo": 1}]', "a list of objects with 'foo'"),
        ("a.json", '{"images": [], "annotations": []}', r"holds no landmarks \(COCO file\)$"),
        ("a.json", '{"images": [', "isn't JSON"),
        ("a.json", "[" * 100_000, "isn't JSON"),
        ("a.json", '{"images": [], "annotations": [' + "9" * 5000 + "]}", "isn't JSON|expected an"),
        ("a.xml", BOMB, "has a DOCTYPE"),
        ("a.xml", '<!DOCTYPE x SYSTEM "/etc/passwd"><annotations/>', "has a DOCTYPE"),
        ("a.xml", "<a>" * 100_000, "more than 50 deep"),
        ("a.xml", "", "isn't XML"),
        ("a.xml", "<a>\0</a>", "isn't XML"),
        ("a.xml", "<a>&undeclared;</a>", "isn't XML"),
    ],
)
def test_what_is_no_file_of_marks_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ExplgraphError, match=message):
        explgraph.read_landmarks(tmp_path / name)


def test_files_of_boxes_alone_hold_no_landmarks(tmp_path):
    content = {**COCO, "annotations": [{"image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 9]}]}
    (tmp_path / "b.json").write_text(json.dumps(content))
    with pytest.raises(ExplgraphError, match=r"no landmarks \(COCO file\); it has 1 boxes"):
        explgraph.read_landmarks(tmp_path / "b.json")
    marks = lay(tmp_path, MARKS["parts.json"])
    with pytest.raises(ExplgraphError, match=r"no boxes \(parts\.json\); it has 1 marked objects"):
        read_annotations(marks, "boxes")


def test_folders_tell_what_is_in_them(tmp_path):
    with pytest.raises(
        ExplgraphError, match=r"the folder .* holds no annotations; a landmark file"
    ):
        explgraph.read_landmarks(tmp_path)
    (tmp_path / "_annotations.coco.json").write_text(json.dumps(COCO))
    (tmp_path / "readme.txt").write_text("what is in here")
    assert read_annotations(tmp_path, "boxes").kind == "COCO file"
    (tmp_path / "second.json").write_text(json.dumps(COCO))
    with pytest.raises(ExplgraphError, match="has 2 files of COCO; give one"):
        read_annotations(tmp_path, "boxes")
    voc = lay(tmp_path / "voc", BOXES["voc"]).parent
    assert read_annotations(voc, "boxes").kind == "Pascal VOC files"
    cvat = lay(tmp_path / "cvat", MARKS["cvat"]).parent
    assert read_annotations(cvat, "marks").kind == "CVAT file"


def test_xml_as_programs_write_it_is_read(tmp_path):
    text = '\ufeff<?xml version="1.0" encoding="utf-8"?><!-- by hand --><a b="ä &amp; ö">&#233;</a>'
    (tmp_path / "a.xml").write_text(text, encoding="utf-8")
    root = read_xml(tmp_path / "a.xml")
    assert (root.get("b"), root.text) == ("ä & ö", "é")
