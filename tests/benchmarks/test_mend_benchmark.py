"""The mending benchmark's own measures, and the square that it paints."""

from argparse import Namespace

import numpy as np
import pytest

from benchmarks import mend
from explgraph import creatures


def test_the_square_goes_with_an_attribute():
    data = creatures.draw(200, seed=1)
    painted, there = mend.marked(data, "wings", 0.95, 3)
    assert 0.9 < (there == data.attributes["wings"]).mean() < 1
    changed = (painted.images != data.images).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(changed, there)
    most = 2 * mend.MOVED + mend.SQUARE
    assert (painted.images[:, most:] == data.images[:, most:]).all()
    planted = mend.Setting("square", 0, Namespace())
    x, y = planted.place(data, "square")[0].astype(int)
    assert (painted.images[there][:, y, x] == mend.COLOUR).all()


def test_groups_are_counted():
    truth = np.array([1, 1, 1, 0, 0, 0, 1, 0], bool)
    cue = np.array([1, 1, 0, 0, 0, 1, 0, 1], bool)
    scores = np.array([2.0, 1, -1, -1, -1, 1, 3, -2])
    assert mend.by_group(scores, truth, cue) == (0.5, 0.75)


def test_what_comes_back_is_a_share_of_what_was_lost():
    row = {"before": (0.4, 0.7), "after": (0.7, 0.8), "clean": (0.9, 0.95)}
    assert mend.regained(row) == pytest.approx(0.6)
    base = {"kind": "pairs", "cue": "labels", "how": "last", "network": "biased"}
    (line,) = mend.markdown([base | row]).splitlines()[2:]
    assert line.endswith("| 0.60, 0.60 | 1 of 1 | +0.100, +0.100 |")


def test_runs_are_kept():
    calls = []

    def run(model, images, *, layer=None):
        calls.append((model, images, layer))
        return len(calls)

    kept = mend.kept(run, [0, 1])
    assert kept("a", ("x",)) == kept("a", ("x",)) == 1
    assert kept("a", ("y",)) == 2
    assert len(calls) == 2
