"""Whether graphs whose poses tell little say so."""

import pytest

from explgraph.errors import ExplgraphWarning
from explgraph.graph.weak_pose import warn_if_weak


@pytest.mark.parametrize("following", [{"low": 0.002, "top": 0.09}, {"only": 0.0}])
def test_poses_that_tell_little_are_said(following):
    def mine():
        warn_if_weak({"following": following})

    with pytest.warns(ExplgraphWarning, match="hardly follow") as caught:
        mine()
    (one,) = caught
    best = max(following, key=following.get)
    assert repr(best) in str(one.message)
    assert f"{following[best]:.3f}" in str(one.message)
    for remedy in ("Crop", "layers", "evaluate"):
        assert remedy in str(one.message)
    assert one.filename == __file__  # where the caller was called


@pytest.mark.parametrize(
    "config", [{"following": {"low": 0.0, "top": 0.11}}, {"following": {}}, {}, {"following": 3}]
)
def test_poses_that_tell_enough_are_not_warned_of(config):
    """Nor is anything where nothing was measured; warnings are errors here."""
    warn_if_weak(config)
