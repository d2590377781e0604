"""Which image is asked about next, against distances written out again."""

import numpy as np
import pytest
from random_graphs import random_graph

from explgraph import Parse
from explgraph.teaching import choosing
from explgraph.teaching.choosing import choose_image, unlike_so_far
from explgraph.teaching.fits import Fits


def fits_of(shapes, seed=0):
    """Images in which eight nodes lie as in one of some shapes, shifted at random."""
    rng = np.random.default_rng(seed)
    graph = random_graph(seed, layers=("top",), nodes=8, image_size=(120, 160))
    ways = rng.uniform(-30, 30, (max(shapes) + 1, 8, 2))
    positions = ways[list(shapes)] + rng.uniform(40, 80, (len(shapes), 1, 2))
    positions = (positions + rng.normal(0, 0.5, positions.shape)).astype(np.float32)
    names = tuple(f"{i}.png" for i in range(len(shapes)))
    scores = np.ones(positions.shape[:2], np.float32)
    parse = Parse(graph.node_ids, names, positions, positions, scores, graph.image_size)
    return Fits(graph, parse)


def apart(fits):
    """How far the nodes of two images lie apart, seen from their median: by loops."""
    places = fits.parse.positions.astype(float)
    shape = places - np.median(places, axis=1, keepdims=True)
    n = len(shape)
    return np.array(
        [[np.hypot(*(shape[i] - shape[j]).T).mean() for j in range(n)] for i in range(n)]
    )


def test_distances_of_poses_are_the_formula_and_do_not_see_where_the_object_stands():
    fits = fits_of([0, 0, 1, 2])
    found = fits.distance(range(4))
    np.testing.assert_allclose(found, apart(fits), atol=1e-3)
    assert found[0, 1] < 0.1 * found[0, 2]


def test_the_first_image_is_the_medoid():
    fits = fits_of([0] * 7 + [1] * 3 + [2])
    row, reason = choose_image(fits, (), 0)
    assert row == apart(fits).sum(axis=1).argmin()
    assert row < 7
    assert "ordinary" in reason


def test_then_what_many_are_like_and_an_outlier_last():
    fits = fits_of([0] * 7 + [1] * 4 + [2])
    done = [choose_image(fits, (), 0)[0]]
    row, reason = choose_image(fits, done, 0)
    assert 7 <= row < 11
    assert reason.startswith(("3 images are", "4 images are")), "the outlier may be nearer, too"
    row, _ = choose_image(fits, [*done, row], 0)
    assert row == 11, "of all that are left it alone is unlike those that were answered"


@pytest.mark.parametrize("marked", [False, True])
def test_the_choice_is_the_formula(marked):
    fits = fits_of([0, 1, 2, 3, 0, 1, 2, 3, 3, 4], seed=3)
    unlike = apart(fits) / np.median(apart(fits))
    if marked:
        places = np.full((10, 2), np.nan)
        places[[0, 1]] = [[50, 60], [70, 40]]
        fits.update({"eye": (places, np.zeros(10, bool))})
        voters = np.unique(np.concatenate([t.voters for t in fits.parts["eye"].templates]))
        assert len(voters) == 8, "all nodes vote, so that both distances are the same"
    cost = np.minimum(unlike, unlike[[0, 1]].min(axis=0)).sum(axis=1)
    cost[[0, 1]] = np.inf
    assert choose_image(fits, {0, 1}, 0)[0] == cost.argmin()


def test_of_very_many_images_a_draw_is_weighed(monkeypatch):
    monkeypatch.setattr(choosing, "MANY", 5)
    fits = fits_of([0, 1, 2] * 6)
    done = []
    for _ in range(17):
        row, _ = choose_image(fits, done, 1)
        assert row == choose_image(fits, done, 1)[0]
        assert row not in done
        done.append(row)


def test_how_unlike_an_image_is():
    fits = fits_of([0, 0, 0, 1])
    assert unlike_so_far(fits, (), 1, 0) == 1
    d = apart(fits)
    usual = (d[0, 1] + d[0, 2]) / 2
    assert unlike_so_far(fits, {0}, 3, 0) == pytest.approx(min(4, d[0, 3] / usual), rel=1e-3)
    usual = (d[0, 2] + d[0, 3]) / 2
    assert unlike_so_far(fits, {0}, 1, 0) == pytest.approx(max(0.25, d[0, 1] / usual), rel=1e-3)
