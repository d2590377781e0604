"""Tables as people write them."""

import csv

import pytest

from explgraph import ExplgraphError
from explgraph.textfiles import guarded, read_csv, read_text


def test_values_by_column_with_their_lines(tmp_path):
    file = tmp_path / "t.csv"
    file.write_bytes('\ufeffname , x\r\n"a, b", 1\r\n\r\n"two\nlines",2\r\n'.encode())
    columns, rows = read_csv(file, ("x", "name"))
    assert columns == ["name", "x"]
    assert rows == [(2, {"name": "a, b", "x": "1"}), (5, {"name": "two\nlines", "x": "2"})]


def test_an_apostrophe_before_a_formula_is_taken_away(tmp_path):
    names = ["-b.png", "'=c.png", "'d.png", "@", "''+e", "\tf", "'"]
    file = tmp_path / "t.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([["name", "'-x"], *([guarded(name), -1] for name in names)])
    for exact in (False, True):
        columns, rows = read_csv(file, ("name",), exact=exact)
        assert columns == ["name", "-x"]
        assert [row["name"] for _, row in rows] == names
        assert {row["-x"] for _, row in rows} == {"-1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"--marks '.*t\.csv' must have the columns name, x in its first line, found nothing"),
        ("name\na\n", "must have the columns name, x in its first line, found name"),
        ("name,x\na,1,5\n", "line 2: 3 values for 2 columns, name, x; numbers have a decimal po"),
        ("name,x,x\na,1,2\n", "has the column 'x' twice"),
        ("name,x\n\na\n", "line 3: 1 values for 2 columns"),
        ("name,x\n" + "a" * 200_000 + ",1\n", "line 2: is no CSV"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ExplgraphError, match=message):
        read_csv(tmp_path / "t.csv", ("name", "x"), "--marks")


def test_files_that_are_no_texts(tmp_path):
    with pytest.raises(ExplgraphError, match=r"^'.*no\.txt' can't be read: No such file"):
        read_text(tmp_path / "no.txt")
    (tmp_path / "b").write_bytes(b"\xff\xfe")
    with pytest.raises(ExplgraphError, match=r"^--list '.*b' isn't a text file \(UTF-8\)"):
        read_text(tmp_path / "b", "--list")
