"""How many images mining needs: the benchmark, and the warning that comes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import explgraph
from benchmarks import few_images
from explgraph import creatures
from explgraph.errors import ExplgraphWarning
from explgraph.mining.mining import ENOUGH, FEW


def rows_of(errors: dict[str, dict[int, float]]) -> list[dict[str, Any]]:
    """Rows of sets whose errors are stated, by number of images."""
    rest = dict.fromkeys(few_images._COLUMNS, 0.5)
    return [
        {"set": name, "n": n, "draw": 0} | rest | {"error": error}
        for name, numbers in errors.items()
        for n, error in numbers.items()
    ]


def test_enough_is_where_most_of_the_gain_is_reached() -> None:
    rows = rows_of({"a": {8: 1.1, 20: 0.8, 40: 0.5, 80: 0.4}, "b": {8: 0.9, 20: 0.8, 40: 0.7}})
    # means of the sets for the numbers that both have: 1, 0.8, 0.6; four fifths of 0.4 are 0.32
    assert few_images.means(rows, "error") == pytest.approx({8: 1.0, 20: 0.8, 40: 0.6})
    assert few_images.enough(rows) == 40
    dip = rows_of({"a": {8: 0.5, 20: 0.9, 40: 0.5, 80: 0.5}})
    assert few_images.enough(dip) == 40, "8 were lucky"
    assert few_images.enough(rows_of({"a": {8: 1.2, 20: 1.1}})) is None
    assert "enough: 40 images" in few_images.markdown(rows)


def test_a_small_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = few_images.main(["--small", "--json", str(tmp_path / "rows.json")])
    assert [row["n"] for row in rows] == [8, 20]
    few, more = rows
    assert more["evidence"] > few["evidence"]
    assert more["follow"] > few["follow"]
    assert [row["warned"] for row in rows] == [True, True], "both are few"
    assert "| creatures | 20 |" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "rows.json").read_text())["rows"]) == 2


def test_few_images_are_told_and_how_many_are_needed() -> None:
    model, images = creatures.network(), creatures.draw(FEW + 1, seed=4).tensor()
    message = rf"12 images are few to mine from: .* give {ENOUGH} or more"
    with pytest.warns(ExplgraphWarning, match=message):
        explgraph.mine(model, images[:12], ["stage4"])
    assert FEW < ENOUGH
    assert {FEW, ENOUGH} <= {*few_images.NUMBERS}, "what was measured"
