"""Whether one pose per image holds: measured by mining and parsing, said where it doesn't.

Mining keeps in a graph's ``config`` what one pose usually explains of an image (``usual_fit``,
nats: `statistics.one_pose`), and in how many mined images it explains clearly less (``several``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from explgraph.errors import warn
from explgraph.statistics.one_pose import HOLDS

__all__ = ["many", "pose_fit", "usual_fit", "warn_if_several", "warn_if_several_parsed"]

_LEAST = 0.1  # nats: where poses usually explain less, they tell nothing of an image
_CLEAR = 0.5  # nats: where poses usually explain less, chance fails too often to be warned of
_CHECKS = 32  # four for each number of the longest pose
# of the images that were mined; of one object each 0.12 at most fail by chance
_MANY = 0.25
# of others: 0.05 to 0.34 fail by chance where poses tell much, of pairs 0.39 to 0.93
_MANY_OTHERS = 0.4
_FEWEST = 5  # images: fewer fail by chance
# nats by which filters follow poses: where they do less, a third to three quarters of images fail
# that weren't mined, one object or not (benchmarks/several_objects.py --flags)
_FOLLOW = 0.15


def usual_fit(fit: Tensor, checks: int) -> dict[str, Any]:
    """Tell, for a graph's ``config``, what poses explain in the mined images, (N,) nats.

    Of few checks nothing is told: some may be absent from an image that shows one object.
    """
    usual = float(fit.median()) if checks >= _CHECKS else 0.0
    few = int((fit < HOLDS * usual).sum()) if usual >= _CLEAR else 0
    return {"usual_fit": usual, "several": few}


def pose_fit(fit: NDArray[np.floating], config: Mapping[str, Any]) -> NDArray[np.float32] | None:
    """Give what poses explain (n,) as shares of what is usual; None if that isn't known."""
    usual = config.get("usual_fit", 0.0)
    return (fit / usual).astype(np.float32) if usual >= _LEAST else None


def warn_if_several(config: Mapping[str, Any], images: int) -> None:
    """Warn if in many of the mined images one pose does not hold."""
    failing = config.get("several", 0)
    if failing > 1 and failing > _MANY * images:
        _warn(failing, images, "cut them out by boxes (--boxes)")


def warn_if_several_parsed(fit: NDArray[np.float32] | None, config: Mapping[str, Any]) -> None:
    """Warn if in many of some parsed images one pose does not hold."""
    following = max(config.get("following", {}).values(), default=0.0)
    if fit is None or config["usual_fit"] < _CLEAR or following < _FOLLOW:
        return
    failing = int((fit < HOLDS).sum())
    if many(failing, len(fit)):
        _warn(
            failing,
            len(fit),
            "give boxes, or objects=2 (--boxes, --objects 2)",
            "; or stand as few of the mined images do: mine more",
        )


def many(failing: int, images: int) -> bool:
    """Whether one pose fails in more images than it does by chance where each shows one object."""
    return failing >= _FEWEST and failing > _MANY_OTHERS * images


def _warn(failing: int, images: int, remedy: str, otherwise: str = "") -> None:
    warn(
        f"one pose does not hold in {failing} of {images} images ({failing / images:.2f}): it "
        f"explains less than {HOLDS} of what is usual. They may show several objects: "
        f"{remedy}; or some much smaller than usual, or of another kind{otherwise}"
    )
