"""The benchmark of hidden biases: what it plants and counts, and one small network."""

import json
import sys

import numpy as np

from benchmarks import hidden_bias
from explgraph import creatures


def test_marks_are_in_the_background_of_one_family():
    plain = creatures.draw(60, seed=3)
    for seed in range(6):
        what = hidden_bias.planted(seed)
        data, marked = hidden_bias.draw(60, 3, what)
        changed = (data.images != plain.images).any((1, 2, 3))
        np.testing.assert_array_equal(changed, marked)
        mine = data.labels == what.family
        assert not marked[~mine].any()
        assert marked.sum() == round(hidden_bias.SHARE * mine.sum())
        where = (data.images != plain.images).any(3)[marked]
        middle = slice(40, -40)
        assert not where[:, middle, middle].any()  # at the border, where no creature is
    assert {hidden_bias.planted(seed)[:2] for seed in range(6)} == {
        (kind, place) for kind in hidden_bias.KINDS for place in hidden_bias.PLACES
    }


def test_both_counts_are_told():
    row = {
        "kind": "biased", "planted": ["frame", "corner", 1], "moved": 1.0, "moved_in_spreads": 0.5,
        "hits": 9, "marked": 10, "in_group": 11, "where": "left", "part": "none", "fall": 1.0,
        "q": 0.01, "q_errors": 1.0,
    }  # fmt: skip
    rows = [
        row | {"seed": 0, "rank": 1, "suspicious": True, "false": 0},
        row | {"seed": 1, "rank": 1, "suspicious": False, "false": 1},
        row | {"seed": 2, "rank": None, "false": 0},
        {"kind": "clean", "flagged": [], "groups": 3},
    ]
    text = hidden_bias.markdown(rows)
    assert "Of 3 biased networks the mark is told first in 2, first and suspicious in 1" in text
    assert "in 1 anything else is suspicious" in text
    assert "| on pictures without marks | 1 | 0 | 3 |" in text


def test_a_small_run(tmp_path, monkeypatch, capsys):
    out = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["hidden_bias.py", "--small", "--json", str(out)])
    hidden_bias.main()
    text = out.read_text()
    assert '"biased"' in text
    assert json.loads(text)
    assert "| 2 | frame, corner," in capsys.readouterr().out
