"""What results, settings and inputs show of themselves: a line or a small table, never an array."""

import dataclasses

import numpy as np
import pytest
import torch
from grown import grown
from random_graphs import random_graph

import explgraph
from explgraph import creatures
from explgraph.activations.memory import Activations
from explgraph.answers.ablation import Ablation, PartAblation
from explgraph.answers.class_effects import LayerEffects, PartEffects
from explgraph.answers.compared import Change, Match
from explgraph.answers.comparison import Comparison
from explgraph.answers.curves import Curve
from explgraph.answers.decision_tree import DecisionTree, TreeExplanation
from explgraph.answers.effects import Check
from explgraph.answers.evidence import Evidence
from explgraph.answers.faithfulness import Faithfulness
from explgraph.answers.judged import Judged, Judgement
from explgraph.answers.located import Located
from explgraph.answers.mended import GroupAccuracy, Mended
from explgraph.answers.modes import Mode
from explgraph.answers.randomised import Randomised, Stage
from explgraph.answers.rationales import Rationales
from explgraph.answers.reading import Reading
from explgraph.answers.relations import Bias, Relation
from explgraph.answers.suspicion import Suspicion
from explgraph.answers.suspicions import Suspicions
from explgraph.answers.tree_measures import Measures
from explgraph.brief import counted, few
from explgraph.circuits.account import Kept, Member
from explgraph.circuits.circuit import Circuit
from explgraph.evaluation.landmarks import Landmarks
from explgraph.explaining.attribution import Rests
from explgraph.graph.labels import DecidedPart, Labels
from explgraph.graph.parts import Part
from explgraph.network.geometry import Layer
from explgraph.network.layers import LayerSummary
from explgraph.parsed_parts import ParsedParts
from explgraph.views.filters import EffectiveField
from explgraph.views.pictures import Sighting

N, V, A = 500, 900, 40
NAMES = tuple(f"folder/picture {n} of a long series of photographs.png" for n in range(N))
NODES = tuple(f"features.28.conv/{v}/0" for v in range(V))
PARTS = tuple(f"p{p}" for p in range(1, A + 1))
TITLES = tuple(f"part {p} that was given a very long name by somebody" for p in range(1, A + 1))
SIZE = (224, 320)
RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.normal(size=shape)


def rests(*shape):
    return Rests(*(draw(*shape) for _ in Rests._fields))


def rationales():
    return Rationales(NODES, NAMES, draw(N, V), draw(N, V), draw(N), draw(N) > 0, rests(N))


def modes():
    return tuple(
        Mode(None, tuple(range(V)), tuple(range(N)), draw(V), draw(V), 1.5) for _ in range(3)
    )


def circuit():
    kept = Kept(0.912345, 0.88, 0.95)
    members = tuple(Member(p, t, 9, 0.1, 0.1) for p, t in zip(PARTS, TITLES, strict=True))
    return Circuit(
        random_graph(3), members, kept, 0.5, kept, kept, 0.2, (), PARTS, 0.9, False, True, 40,
        ((0, "a class with a long name, as those of ImageNet are"),) * 5, "part", ("stage4",) * 3,
        "mean", "accuracy", 8.0, 1.0, (50, 50), ("this is doubted for a long reason " * 9,),
    )  # fmt: skip


def judged():
    return Judged(NAMES, TITLES, TITLES[:20], draw(N, A), draw(N, A), RNG.random((N, A)))


def relation():
    return Relation(
        TITLES[0], TITLES[1], 0.51234, 0.21234, 0.3, 0.1, 0, 0.001, 0.01, "unexpected", 0.4, 0.2
    )


def bias():
    return Bias(
        TITLES, tuple(relation() for _ in range(60)), draw(A), draw(A), NODES, draw(A, A, V),
        judged(), "", tuple(range(A)), SIZE, Reading(draw(A), draw(A, A)),
    )  # fmt: skip


def faithful():
    def curve(elements, order):
        return Curve(elements, order, V, *(draw(N, 4) for _ in range(6)), draw(N))

    curves = (curve("parts", "contribution"), curve("units", "random"))
    return Faithfulness(
        "features.28", "zero", 3, NAMES, TITLES[:1] * N, 2, draw(N), draw(N), draw(N), draw(N, 2),
        curves,
    )  # fmt: skip


def comparison():
    match = Match("p1", "p2", TITLES[0], TITLES[1], "same", *(0.5,) * 8)
    change = Change("effect", "a", "p1", TITLES[0], TITLES[1], *(0.5,) * 5, True)
    return Comparison(
        "part", (match,) * A, (change,) * V, TITLES, N, 0.5, 0.05, 0.05, (), {("a", "p1"): NAMES}
    )


def suspicions():
    one = Suspicion(
        TITLES[0], NAMES, tuple(range(N)), draw(N, 9, 9) > 0, 0.1, 0.01, 1.5, 1.2, 0.8,
        ((TITLES[1], 0.5),), (0.1, 0.2), 0.5, 0.6, 0.001, 0.01, suspicious=True,
    )  # fmt: skip
    return Suspicions((one,) * A, TITLES, N, SIZE, "features.28", ("this was not tested " * 9,))


def teacher():
    graph = random_graph(3)
    parse = explgraph.Parse(
        graph.node_ids, NAMES, draw(N, len(graph), 2), draw(N, len(graph), 2),
        RNG.random((N, len(graph))), graph.image_size,
    )  # fmt: skip
    return explgraph.Teacher(graph, parse, TITLES)


def layer(name="features.28"):
    return Layer(name, 0, 3, 4, 4, (8.0, 8.0), (4.0, 4.0), (30.0, 30.0))


def mended():
    right = draw(N) > 0
    return Mended(
        torch.nn.Linear(512, 1000), "projection", True, TITLES[0], TITLES, NODES,
        "classifier.6", 0.5, 2.0, 0.1, NAMES, np.arange(N) % 4, right, ~right,
    )  # fmt: skip


SHOWN = {
    "Settings": explgraph.Settings,
    "Parse": lambda: explgraph.Parse(NODES, NAMES, draw(N, V, 2), draw(N, V, 2), draw(N, V), SIZE),
    "Parse, empty": lambda: explgraph.Parse((), (), draw(0, 0, 2), draw(0, 0, 2), draw(0, 0), SIZE),
    "ParsedParts": lambda: ParsedParts(
        PARTS, TITLES, NAMES, draw(N, A, 2), RNG.random((N, A)), draw(N, A), SIZE
    ),
    "Activations": lambda: Activations(
        (layer(),), NAMES[:9], (32, 32), [torch.rand(9, 3, 4, 4)]
    ),
    "Landmarks": lambda: Landmarks(NAMES, dict.fromkeys(TITLES, draw(N, 2))),
    "Located": lambda: Located(
        NAMES, dict.fromkeys(TITLES, draw(N, 2)), dict.fromkeys(TITLES, draw(N)), {}
    ),
    "Localizer": lambda: explgraph.Localizer(random_graph(3)),
    "Teacher": teacher,
    "AndOrGraph": lambda: explgraph.AndOrGraph(
        random_graph(3), grown(random_graph(3), PARTS, templates=(3,))
    ),
    "Ablation": lambda: Ablation(NAMES, draw(N, 1000), draw(N, 1000)),
    "PartAblation": lambda: PartAblation(PARTS, TITLES, NAMES, draw(N, 90), draw(A, N, 90)),
    "Circuit": circuit,
    "PartEffects": lambda: PartEffects(PARTS, TITLES, ("low", "high"), draw(2, A), rests(2)),
    "LayerEffects": lambda: LayerEffects("low", NODES, 3.2, rests(), draw(V), draw(V)),
    "Rests": lambda: rests(N),
    "Check": lambda: Check(tuple((v, v) for v in NODES), draw(V), draw(V), 0.98),
    "Faithfulness": faithful,
    "Randomised": lambda: Randomised(
        "parts", "features.28", 3, N, (Stage(1, "head", 0.1, 0.2, 0.9, 0.1),) * 6, (0.9, 0.1)
    ),
    "Evidence": lambda: Evidence(
        NODES, NAMES, draw(N, A, V), draw(N, A), draw(N, V, 2), rests(N, A)
    ),
    "Rationales": rationales,
    "Mode": lambda: modes()[0],
    "DecisionTree": lambda: DecisionTree(modes(), NODES, draw(V), {}, rationales(), draw(N) > 0),
    "TreeExplanation": lambda: TreeExplanation(
        NAMES[0], (0, 1), dict(zip(NODES, draw(V), strict=True)), 0.5, 12.0, 1.0
    ),
    "Measures": lambda: Measures(2, 7, 12.3, 0.1, 0.8, 0.9, 0.1, 0.5),
    "Judged": judged,
    "Judgement": lambda: Judgement(NAMES[0], "crest", True, 0.25),
    "Bias": bias,
    "Suspicions": suspicions,
    "Suspicion": lambda: suspicions().suspicions[0],
    "Mended": mended,
    "GroupAccuracy": lambda: GroupAccuracy("crest, with the parts", 12, *(0.5,) * 6),
    "Comparison": comparison,
    "Relation": relation,
    "Part": lambda: Part(
        "p1", TITLES[0], NODES, ("low", "high"), (3.0, 4.0), 0.9, 0.8, 0.7,
        tuple((name, 1.0, 2.0, 0.5) for name in NAMES),
    ),
    "Labels": lambda: Labels(dict.fromkeys(NODES, "head"), (NODES,), NODES, "abc" * 20),
    "DecidedPart": lambda: DecidedPart("p1", TITLES[0], False, NODES, (1.0, 2.0)),
    "Layer": layer,
    "LayerSummary": lambda: LayerSummary("features.28", "Conv2d", 512, 14, 14, 1),
    "EffectiveField": lambda: EffectiveField((3, 4), (10.0, 20.0), draw(224, 224), 31.0),
    "Sighting": lambda: Sighting(3, 1.0, 2.0, 0.5),
    "Creatures": lambda: creatures.draw(3),
    "WithInputs": lambda: explgraph.WithInputs(
        torch.rand(2, 3, 4, 4), **{f"input_{k}_with_a_long_name": [1, 2] for k in range(50)}
    ),
    "PartMask": explgraph.PartMask,
    "FilterLoss": explgraph.FilterLoss,
}  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_it_fits_a_line(name):
    shown = repr(SHOWN[name]())
    assert name.split(",")[0] in shown
    assert "\n" not in shown
    assert len(shown) <= 320  # the long ones are of numbers and flags alone
    assert "array(" not in shown
    assert "tensor(" not in shown
    assert " object at 0x" not in shown


def test_graphs_are_a_small_table():
    lines = repr(random_graph(3)).splitlines()
    assert lines[0].startswith("ExplanatoryGraph: ")
    assert max(map(len, lines)) <= 200


def test_all_that_is_public_is_tested_here():
    classes = {
        name for name in explgraph.__all__
        if isinstance(getattr(explgraph, name), type)
        and not issubclass(getattr(explgraph, name), (Exception, Warning))
    }  # fmt: skip
    elsewhere = {
        "ActivationStore", "ExplanatoryGraph", "ImageFolder", "ParseStore", "PartHead",
        "RejectedParts",
    }  # fmt: skip
    assert classes - elsewhere <= set(SHOWN)


def test_numbers_are_right():
    parse = SHOWN["Parse"]()
    assert repr(parse) == f"Parse: 900 nodes in 500 images of 320 x 224 px; {V} present per image"
    before, after = np.zeros((4, 3)), np.zeros((4, 3))
    after[:, 1] = [-4, -2, -4, -2]
    assert repr(Ablation(NAMES[:4], before, after)) == (
        "Ablation: 4 images, 3 classes; class 1 changes most, by -3 on average"
    )
    changed = dataclasses.replace(explgraph.Settings(), pose=3)
    assert "pose=3" in repr(changed)


def test_few_says_how_many_more():
    assert few([]) == "none"
    assert few("abc") == "a, b, c"
    assert few("abcd", 2) == "a, b and 2 more"
    assert [counted(n, what) for n, what in ((1, "class"), (0, "class"), (1234, "image"))] == [
        "1 class", "0 classes", "1,234 images",
    ]  # fmt: skip
    assert few(["x" * 80]) == "x" * 37 + "..."
