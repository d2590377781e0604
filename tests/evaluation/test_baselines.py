"""Baselines by hand."""

import numpy as np

from explgraph.evaluation.baselines import constant_grid, raw_peaks
from explgraph.network.geometry import Layer


def test_constant_grid_covers_the_image():
    places, scores = constant_grid(3, (100, 200), rows=2, columns=4)
    assert places.shape == (3, 8, 2)
    assert scores.shape == (3, 8)
    assert places[0].tolist() == [[x, y] for y in (25, 75) for x in (25, 75, 125, 175)]
    assert (places == places[0]).all()
    assert (scores > 0).all()


def test_raw_peaks_by_hand():
    layer = Layer("l", 0, 3, 2, 3, (10.0, 20.0), (4.0, 7.0), (1.0, 1.0))
    maps = np.zeros((2, 3, 2, 3), dtype=np.float16)
    maps[0, 0, 1, 2] = 5  # column 2, row 1
    maps[1, 0, 0, 1] = 3
    maps[:, 1] = 2  # constant
    places, scores = raw_peaks(maps, layer)
    assert places[:, 0].tolist() == [[24, 27], [14, 7]]
    assert places[:, 2].tolist() == [[4, 7], [4, 7]]  # never fires: the first unit
    deviation = np.std([5, 3] + [0] * 10)
    np.testing.assert_allclose(scores, [[5 / deviation, 0, 0], [3 / deviation, 0, 0]])
