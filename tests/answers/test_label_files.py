"""Labels and expectations in files."""

import numpy as np
import pytest

from explgraph import ExplgraphError, ExplgraphWarning
from explgraph.answers.label_files import read_absent, read_attributes, read_expected


def written(folder, text):
    file = folder / "table.csv"
    file.write_text(text, encoding="utf-8-sig")
    return file


def test_attributes_come_in_the_images_order(tmp_path):
    file = written(tmp_path, "name, horns,boots\nb.png,1, yes\n\na.png,0,TRUE\nc.png,1,no\n")
    labels = read_attributes(file, ["a.png", "b.png"], known=["a.png", "b.png", "c.png", "d.png"])
    assert list(labels) == ["horns", "boots"]
    np.testing.assert_array_equal(labels["horns"], [False, True])
    np.testing.assert_array_equal(labels["boots"], [True, True])
    assert labels["horns"].dtype == bool


def test_labels_of_images_that_are_not_there_are_told(tmp_path):
    file = written(tmp_path, "name,horns,boots\na.png,1,0\nB.png,1,0\nb.png,0,1\n")
    with pytest.warns(ExplgraphWarning, match=r"labels in '.*' of 1 of 3 images .*: 'B\.png'; did"):
        labels = read_attributes(file, ["a.png", "b.png"])
    np.testing.assert_array_equal(labels["horns"], [True, False])


def test_expectations(tmp_path):
    file = written(tmp_path, "target,source,relation\nhorns,wings,1\nboots,horns,-1\n")
    assert read_expected(file) == {("horns", "wings"): 1, ("boots", "horns"): -1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have the columns name and at least two attributes.*found nothing"),
        ("image,a,b\n", "found image, a, b"),
        ("name,a\nx,1\n", "at least two attributes"),
        ("name,a,b\nx,1,2\n", "line 2: 'b' of 'x' must be 1 or 0, got '2'"),
        ("name,a,b\nx,1\n", "line 2: 2 values for 3 columns"),
        ("name,a,b\nx,1,0\nx,1,0\n", "line 3: 'x' is there twice"),
        ("name,a,b\ny,1,0\n", "no labels for 1 of 1 images, such as 'x'"),
    ],
)
def test_wrong_attributes(tmp_path, text, message):
    with pytest.raises(ExplgraphError, match=message):
        read_attributes(written(tmp_path, text), ["x"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "must have the columns target, source, relation.*found a, b"),
        ("target,source,relation\na,b,2\n", "line 2: relation must be 1 or -1, got '2'"),
    ],
)
def test_wrong_expectations(tmp_path, text, message):
    with pytest.raises(ExplgraphError, match=message):
        read_expected(written(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ExplgraphError, match="can't be read: No such file"):
        read_expected(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ExplgraphError, match="isn't a text file"):
        read_attributes(tmp_path / "bytes.csv", ["x"])


def test_absences(tmp_path):
    file = written(tmp_path, "name,part\na.png, horn\nb.png,wing\na.png,wing\n")
    absent = read_absent(file, ["a.png", "b.png"], ["horn", "wing"])
    assert {part: flags.tolist() for part, flags in absent.items()} == {
        "horn": [True, False],
        "wing": [True, True],
    }
    for text, message in (
        ("name\na\n", "must have the columns name, part"),
        ("name,part\nc.png,horn\n", r"line 2 names 'c\.png', which the images lack"),
        ("name,part\na.png,hron\n", "the part 'hron'; did you mean 'horn'.*marked are horn"),
    ):
        with pytest.raises(ExplgraphError, match=message):
            read_absent(written(tmp_path, text), ["a.png", "b.png"], ["horn"])
