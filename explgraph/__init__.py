"""Explanatory graphs: the object parts behind the filters of a trained CNN."""

__version__ = "0.2.0.dev0"  # the one place: pyproject.toml reads it from here

from explgraph.answers.bias import find_bias
from explgraph.answers.decision_tree import DecisionTree
from explgraph.answers.effects import ablate, edge_effects
from explgraph.answers.filter_loss import FilterLoss, PartMask
from explgraph.answers.localize import Localizer
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.graph import ExplanatoryGraph, load
from explgraph.images import ImageFolder
from explgraph.mining import Settings, mine, mine_activations
from explgraph.parsing import Parse, parse_activations
from explgraph.recording import Activations, list_layers, record, suggest_layers
from explgraph.store import ActivationStore, open_store

__all__ = [
    "ActivationStore",
    "Activations",
    "DecisionTree",
    "ExplanatoryGraph",
    "ExplgraphError",
    "ExplgraphWarning",
    "FilterLoss",
    "ImageFolder",
    "Localizer",
    "Parse",
    "PartMask",
    "Settings",
    "ablate",
    "edge_effects",
    "find_bias",
    "list_layers",
    "load",
    "mine",
    "mine_activations",
    "open_store",
    "parse_activations",
    "record",
    "suggest_layers",
]
