"""Explanatory graphs: the object parts behind the filters of a trained CNN."""

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
    "ExplanatoryGraph",
    "ExplgraphError",
    "ExplgraphWarning",
    "ImageFolder",
    "Parse",
    "Settings",
    "list_layers",
    "load",
    "mine",
    "mine_activations",
    "open_store",
    "parse_activations",
    "record",
    "suggest_layers",
]
