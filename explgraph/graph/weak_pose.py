"""Whether poses tell where parts are: measured by mining, said wherever nodes are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explgraph.errors import warn

__all__ = ["WEAK", "warn_if_weak"]

WEAK = 0.1
"""Nats per unit of activation that filters must lose with other images' poses, at best.

People, whose limbs no pose tells, stay just below; wings reach 0.12, animals 0.14 to 0.3, a mouse
0.5 (benchmarks/experiments.md).
"""


def warn_if_weak(config: Mapping[str, Any]) -> None:
    """Warn if the poses of the mined images tell little about where parts are.

    Parameters
    ----------
    config : mapping
        Of a graph: ``following``, by layer (nats), is what mining measured.
    """
    following = config.get("following")
    if not isinstance(following, Mapping) or not following:
        return
    best = max(following, key=lambda layer: following[layer])
    if following[best] < WEAK:
        warn(
            f"filters hardly follow these images' poses (at best {following[best]:.3f} nats, in "
            f"{best!r}; {WEAK} or more are usual), so nodes may locate parts no better than the "
            "mean of some marks. Likely causes: objects that bend in many ways or come in many "
            "views, several objects in an image, few images, a layer too high or too low, or other "
            "normalisation than the model expects. Crop to one object, give more images of one "
            "kind, try other layers, and see explgraph evaluate"
        )
