"""Explanatory graphs: the object parts behind the filters of a trained CNN.

Names are imported when they are first used, so that the command line can tell about itself
without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.2.0.dev0"  # the one place: pyproject.toml reads it from here

if TYPE_CHECKING:
    from explgraph.activations.memory import Activations
    from explgraph.activations.recording import record
    from explgraph.activations.store import ActivationStore, open_store
    from explgraph.and_or_graph import AndOrGraph
    from explgraph.answers.ablation import ablate
    from explgraph.answers.bias import find_bias
    from explgraph.answers.compare import compare
    from explgraph.answers.comparison import Comparison
    from explgraph.answers.decision_tree import DecisionTree
    from explgraph.answers.effects import edge_effects
    from explgraph.answers.faithfulness import faithfulness
    from explgraph.answers.filter_loss import FilterLoss, PartMask
    from explgraph.answers.hidden_bias import find_suspicions
    from explgraph.answers.localize import Localizer
    from explgraph.answers.mend import mend
    from explgraph.errors import ExplgraphError, ExplgraphWarning
    from explgraph.evaluation.landmarks import Landmarks, read_landmarks
    from explgraph.explaining.partial_models import only, without
    from explgraph.explanatory_graph import ExplanatoryGraph, load
    from explgraph.heads.part_head import PartHead
    from explgraph.heads.rejected_parts import RejectedParts
    from explgraph.images.folder import ImageFolder
    from explgraph.images.further import WithInputs
    from explgraph.mining.mining import mine, mine_activations
    from explgraph.mining.settings import Settings
    from explgraph.network.layers import list_layers, suggest_layers
    from explgraph.network.preprocessing import preprocessing
    from explgraph.parse_store import ParseStore, open_parse
    from explgraph.parsed import Parse
    from explgraph.parsing import parse_activations
    from explgraph.teaching.teacher import Teacher

__all__ = [
    "ActivationStore",
    "Activations",
    "AndOrGraph",
    "Comparison",
    "DecisionTree",
    "ExplanatoryGraph",
    "ExplgraphError",
    "ExplgraphWarning",
    "FilterLoss",
    "ImageFolder",
    "Landmarks",
    "Localizer",
    "Parse",
    "ParseStore",
    "PartHead",
    "PartMask",
    "RejectedParts",
    "Settings",
    "Teacher",
    "WithInputs",
    "ablate",
    "compare",
    "edge_effects",
    "faithfulness",
    "find_bias",
    "find_suspicions",
    "list_layers",
    "load",
    "mend",
    "mine",
    "mine_activations",
    "only",
    "open_parse",
    "open_store",
    "parse_activations",
    "preprocessing",
    "read_landmarks",
    "record",
    "suggest_layers",
    "without",
]

if not TYPE_CHECKING:  # a checker is to know these names and no others
    _HOMES = {
        "activations.memory": ("Activations",),
        "activations.recording": ("record",),
        "activations.store": ("ActivationStore", "open_store"),
        "and_or_graph": ("AndOrGraph",),
        "answers.bias": ("find_bias",),
        "answers.compare": ("compare",),
        "answers.comparison": ("Comparison",),
        "answers.decision_tree": ("DecisionTree",),
        "answers.ablation": ("ablate",),
        "answers.effects": ("edge_effects",),
        "answers.faithfulness": ("faithfulness",),
        "answers.filter_loss": ("FilterLoss", "PartMask"),
        "answers.hidden_bias": ("find_suspicions",),
        "answers.localize": ("Localizer",),
        "answers.mend": ("mend",),
        "errors": ("ExplgraphError", "ExplgraphWarning"),
        "evaluation.landmarks": ("Landmarks", "read_landmarks"),
        "explaining.partial_models": ("only", "without"),
        "explanatory_graph": ("ExplanatoryGraph", "load"),
        "heads.part_head": ("PartHead",),
        "heads.rejected_parts": ("RejectedParts",),
        "images.folder": ("ImageFolder",),
        "images.further": ("WithInputs",),
        "mining.mining": ("mine", "mine_activations"),
        "mining.settings": ("Settings",),
        "network.layers": ("list_layers", "suggest_layers"),
        "network.preprocessing": ("preprocessing",),
        "parse_store": ("ParseStore", "open_parse"),
        "parsed": ("Parse",),
        "parsing": ("parse_activations",),
        "teaching.teacher": ("Teacher",),
    }
    _HOME = {name: module for module, names in _HOMES.items() for name in names}

    def __getattr__(name):
        """Import a public name from where it is at home."""
        if name not in _HOME:
            raise AttributeError(f"module 'explgraph' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"explgraph.{_HOME[name]}"), name)
        return value

    def __dir__():
        """Name what there is, whether it was used before or not."""
        return sorted({*globals(), *__all__})
