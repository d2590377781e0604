"""Tables as files: read by pandas, csv and json, and back as they were; bad ones are refused."""

from __future__ import annotations

import csv
import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from explgraph import rows
from explgraph.errors import ExplgraphError
from explgraph.suffixes import TABLES

COLUMNS = {
    "name": np.array(['a,"b"\n.png', "ü\udcff.png", " c "], dtype=object),
    "x": np.array([0.1, 1e-30, 3.0], dtype=np.float32),
    "y": np.array([1 / 3, math.nan, -1e300]),
    "flag": np.array([True, False, True]),
    "n": np.array([1, -2, 2**60]),
}
KINDS = {"name": str, "x": float, "y": float, "flag": bool, "n": int}


def columns(suffix):
    """Parquet holds UTF-8 only."""
    if suffix != ".parquet":
        return COLUMNS
    pytest.importorskip("pyarrow")
    return COLUMNS | {"name": np.array(['a,"b"\n.png', "ü.png", " c "], dtype=object)}


@pytest.mark.parametrize("suffix", TABLES)
def test_what_is_written_is_read_back(tmp_path, suffix):
    written = columns(suffix)
    rows.write(tmp_path / f"t{suffix}", written)
    found = rows.read(tmp_path / f"t{suffix}", KINDS, gaps=["y"])
    assert list(found) == list(written)
    assert_array_equal(found["name"], written["name"])
    assert_array_equal(found["x"].astype(np.float32), written["x"])
    for key in ("y", "flag", "n"):
        assert_array_equal(found[key], written[key])
        assert found[key].dtype == written[key].dtype


FORMULAS = ["=1+1", "+x", "-a.png", "@SUM(A1)", "\t=1", "\n=1", "＝1", "'=1", "''-1", "'a"]


def test_texts_that_spreadsheets_run_are_quoted(tmp_path):
    table = {"name": np.array(FORMULAS, dtype=object), "=x": np.full(len(FORMULAS), -1.5)}
    rows.write(tmp_path / "t.csv", table)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header == ["name", "'=x"]
    assert [line[0] for line in lines] == [f"'{t}" for t in FORMULAS[:-1]] + ["'a"]
    assert {line[1] for line in lines} == {"-1.5"}, "numbers are no formulas"
    found = rows.read(tmp_path / "t.csv", {"name": str, "=x": float})
    assert found["name"].tolist() == FORMULAS
    rows.write(tmp_path / "t.json", table)
    assert [row["name"] for row in json.loads((tmp_path / "t.json").read_text())] == FORMULAS


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"])),
            st.floats(width=32, allow_infinity=False),
            st.floats(allow_infinity=False),
        ),
        min_size=1,
    ),
    st.sampled_from([".csv", ".json"]),
)
def test_all_texts_and_numbers_go_round(tmp_path_factory, table, suffix):
    names, small, large = zip(*table, strict=True)
    file = tmp_path_factory.mktemp("rows") / f"t{suffix}"
    given = {
        "name": np.array(names, dtype=object),
        "small": np.array(small, dtype=np.float32),
        "large": np.array(large),
    }
    rows.write(file, given)
    kinds = {"name": str, "small": float, "large": float}
    found = rows.read(file, kinds, gaps=["small", "large"])
    assert found["name"].tolist() == list(names)
    assert_array_equal(found["small"].astype(np.float32), given["small"])
    assert_array_equal(found["large"], given["large"])


def test_other_programs_read_the_same(tmp_path):
    pandas = pytest.importorskip("pandas")
    known = COLUMNS | {"name": np.array(["a,b", "c", "d"], dtype=object)}
    for suffix in (".csv", ".json"):
        rows.write(tmp_path / f"t{suffix}", known)
    with (tmp_path / "t.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["name"] for row in table] == ["a,b", "c", "d"]
    assert [row["y"] for row in table] == [str(1 / 3), "", "-1e+300"]
    assert [row["x"] for row in table] == ["0.1", "1e-30", "3.0"]
    frame = pandas.read_csv(tmp_path / "t.csv")
    assert_array_equal(frame["y"], known["y"])
    assert_array_equal(frame["flag"], known["flag"])
    listed = json.loads((tmp_path / "t.json").read_text())
    assert [row["y"] for row in listed] == [1 / 3, None, -1e300]
    assert [row["flag"] for row in listed] == [True, False, True]
    assert [row["x"] for row in listed] == [0.1, 1e-30, 3.0]


def test_pandas_reads_parquet(tmp_path):
    pandas = pytest.importorskip("pandas")
    known = columns(".parquet")
    rows.write(tmp_path / "t.parquet", known)
    frame = pandas.read_parquet(tmp_path / "t.parquet")
    for key, column in known.items():
        assert_array_equal(frame[key], column)
    assert frame["x"].dtype == np.float32


def test_parquet_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for use in (
        lambda: rows.write(tmp_path / "t.parquet", COLUMNS),
        lambda: rows.read(tmp_path / "t.parquet", KINDS),
    ):
        with pytest.raises(ExplgraphError, match=r"explgraph\[parquet\]', or write \.csv"):
            use()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.txt", "", r"suffix '\.txt'; expected one of \.csv, \.json, \.parquet"),
        ("none.csv", None, "can't be read: No such file"),
        ("t.csv", "", "lacks the column 'name'; expected name, n, found nothing"),
        ("t.csv", "name,m\na,1\n", "lacks the column 'n'; expected name, n, found name, m"),
        ("t.csv", "name,n\n", "has no rows"),
        ("t.csv", "name,n\na\n", "line 2: 1 values for 2 columns"),
        ("t.csv", "name,n\na,1.5\n", "line 2: n is '1.5'; expected a whole number"),
        ("t.csv", "name,n\na,\n", "line 2: n is ''; expected a whole number"),
        ("t.json", "{", "isn't JSON"),
        ("t.json", '{"name": 1}', "holds no table; expected a list of rows"),
        ("t.json", '[{"name": "a", "n": 1}, {"name": "b"}]', "row 2: columns name; expected name"),
        ("t.json", '[{"name": 3, "n": 1}]', "row 1: name is 3; expected a text"),
        ("t.json", '[{"name": "a", "n": 1.5}]', "row 1: n is 1.5; expected a whole number"),
        ("t.json", '[{"name": "a", "n": true}]', "row 1: n is True; expected a whole number"),
    ],
)
def test_bad_tables(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ExplgraphError, match=message):
        rows.read(tmp_path / name, {"name": str, "n": int})


@pytest.mark.parametrize("value", ["nan", "inf", "", "x", "1e999"])
def test_numbers_that_must_be_there(tmp_path, value):
    (tmp_path / "t.csv").write_text(f"x\n1\n{value}\n" if value else 'x\n1\n""\n')
    with pytest.raises(ExplgraphError, match=r"line 3: x is .* expected a finite number"):
        rows.read(tmp_path / "t.csv", {"x": float})


def test_no_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ExplgraphError, match="can't be read as Parquet"):
        rows.read(tmp_path / "t.parquet", KINDS)


def test_grids(tmp_path):
    values = np.arange(6.0).reshape(2, 3)
    columns = rows.grid(("image", ["a", "b"]), ("k", range(3)), {"v": values})
    rows.write(tmp_path / "g.csv", columns)
    assert (tmp_path / "g.csv").read_text() == (
        "image,k,v\na,0,0.0\na,1,1.0\na,2,2.0\nb,0,3.0\nb,1,4.0\nb,2,5.0\n"
    )
    lines = (tmp_path / "g.csv").read_text().splitlines()
    order = [0, 1, 2, 3, 5, 6, 4]  # someone sorted it
    (tmp_path / "g.csv").write_text("\n".join(lines[i] for i in order))
    outer, inner, found = rows.read_grid(
        tmp_path / "g.csv", ("image", str), ("k", int), {"v": float}
    )
    assert (outer, inner) == (("a", "b"), (0, 1, 2))
    assert_array_equal(found["v"], values)
    for wrong in (lines[:-1], [*lines, lines[-1]], [*lines[:-1], lines[1]]):
        (tmp_path / "g.csv").write_text("\n".join(wrong))
        with pytest.raises(ExplgraphError, match="expected each of the one once with each"):
            rows.read_grid(tmp_path / "g.csv", ("image", str), ("k", int), {"v": float})
