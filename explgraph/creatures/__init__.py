"""A drawn world in which everything is known, a network that has learnt it, and the demo.

May use everything but the answers and the command line; only the command line uses it.
"""

from explgraph.creatures.creature_net import CreatureNet, network
from explgraph.creatures.world import (
    ATTRIBUTES,
    FAMILIES,
    LAYERS,
    MEAN,
    OUTPUTS,
    PARTS,
    RELATIONS,
    SIZE,
    STD,
    Creatures,
    draw,
)

__all__ = [
    "ATTRIBUTES",
    "FAMILIES",
    "LAYERS",
    "MEAN",
    "OUTPUTS",
    "PARTS",
    "RELATIONS",
    "SIZE",
    "STD",
    "CreatureNet",
    "Creatures",
    "draw",
    "network",
]
