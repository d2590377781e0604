"""Questions about the graph, and what follows from their answers."""

import numpy as np
import pytest

from explgraph import (
    Localizer,
    Teacher,
    creatures,
    load,
    mine_activations,
    parse_activations,
    record,
)
from explgraph.answers.prepared import may_vote
from explgraph.teaching import teacher as teaching
from explgraph.teaching.doubts import Doubt, next_doubt
from explgraph.teaching.fits import Fits
from explgraph.teaching.record import Record


@pytest.fixture(scope="module")
def world():
    drawn = creatures.draw(40, seed=1)
    activations = record(creatures.network(), drawn.tensor(), creatures.LAYERS)
    graph = mine_activations(activations, seed=0)
    return graph, parse_activations(graph, activations), drawn


def asked_next(teacher, monkeypatch, doubt):
    """Have a teacher ask a certain question about the graph."""
    monkeypatch.setattr(teaching, "next_doubt", lambda *_: doubt)
    teacher.answer(teacher.question(), {"eye": (20, 20)})
    question = teacher.question()
    monkeypatch.setattr(teaching, "next_doubt", lambda *_: None)
    assert (question.kind, question.things) == (doubt.kind, doubt.things)
    assert (question.image, question.row, question.parts) == ("", -1, ())
    return question


def test_noise_is_rejected_and_its_nodes_no_longer_vote(world, monkeypatch, tmp_path):
    graph, parse, _ = world
    part = graph.parts[1]
    with Teacher(graph, parse, ["eye"], out=tmp_path) as teacher:
        before = teacher.guesses().positions
        question = asked_next(teacher, monkeypatch, Doubt("noise", (part.id,), "It stands still."))
        assert not before
        told = teacher.answer(question, True)
        assert told.answers == 1, "no image was answered"
        assert part.id not in {one.id for one in teacher.graph.parts}
        assert set(part.nodes) & set(graph.node_ids)
        ids = np.array(graph.node_ids)
        voters = {ids[v] for t in teacher.localizer.templates("eye") for v in t.voters}
        assert not voters & set(part.nodes)
        decided = graph.apply_labels(tmp_path / "labels.json")
        assert [one.id for one in decided.parts] == [one.id for one in teacher.graph.parts]
        teacher.finish()
        whole = load(tmp_path / "graph.explgraph")
        assert ids[~may_vote(whole)].tolist() == [v for v in ids if v in part.nodes]
        again = Localizer.load(tmp_path / "localizer", whole).predict(parse)
        found = teacher.guesses().positions["eye"]
        assert np.array_equal(again.positions["eye"], found)
    with Teacher(graph, parse, out=tmp_path) as teacher:
        assert np.array_equal(teacher.guesses().positions["eye"], found), "a restart knows it"
        assert teacher.undo().id == question.id
        assert part.id in {one.id for one in teacher.graph.parts}


def test_two_parts_are_merged_and_named(world, monkeypatch):
    graph, parse, _ = world
    one, other = graph.parts[0], graph.parts[2]
    teacher = Teacher(graph, parse, ["eye"])
    question = asked_next(teacher, monkeypatch, Doubt("same", (one.id, other.id), "Near."))
    teacher.answer(question, True, name="muzzle")
    joined = teacher.graph.part("muzzle")
    assert set(joined.nodes) == {*one.nodes, *other.nodes}


@pytest.mark.parametrize("said", [False, None])
def test_what_is_denied_or_skipped_changes_nothing(world, monkeypatch, said):
    graph, parse, _ = world
    pair = graph.parts[0].id, graph.parts[2].id
    teacher = Teacher(graph, parse, ["eye"])
    teacher.answer(asked_next(teacher, monkeypatch, Doubt("same", pair, "Near.")), said)
    assert [one.nodes for one in teacher.graph.parts] == [one.nodes for one in graph.parts]


def test_one_part_is_split_if_two_of_its_nodes_are_not_the_same(world, monkeypatch):
    graph, parse, _ = world
    part = max(graph.parts, key=lambda one: len(one.nodes))
    teacher = Teacher(graph, parse, ["eye"])
    doubt = Doubt("same", part.nodes[:2], "Both.")
    teacher.answer(asked_next(teacher, monkeypatch, doubt), False)
    assert len(teacher.graph.parts) == len(graph.parts) + 1


def fitted(world, parts):
    """Six answers from the true marks."""
    graph, parse, drawn = world
    size = list(parse.image_size)
    events = [{"event": "begin", "names": list(parse.names), "image_size": size}]
    events += [{"event": "part", "name": name} for name in parts]
    for row in range(6):
        events.append({
            "event": "asked", "id": row, "kind": "mark", "image": parse.names[row], "row": row,
            "things": [], "reason": "", "who": "",
        })  # fmt: skip
        said = {name: drawn.parts[part][row].tolist() for name, part in parts.items()}
        events.append({
            "event": "answer", "number": row, "question": row, "said": said, "name": "", "who": "",
            "before": {}, "unlike": 1.0,
        })  # fmt: skip
    known = Record(events)
    fits = Fits(graph, parse)
    fits.update({part: known.places(part, len(parse.names)) for part in parts})
    return fits, known


def test_nothing_is_asked_about_the_graph_before_the_first_marks(world):
    fits, known = fitted(world, {"eye": next(iter(world[2].parts))})
    assert next_doubt(fits, Record(), np.nan, np.nan) is None
    assert next_doubt(fits, known, 0.1, 0.1) is None, "six answers: not the turn"


def test_noise_is_what_left_out_marks_are_found_better_without(world, monkeypatch):
    fits, known = fitted(world, {"eye": next(iter(world[2].parts))})
    known.answers.pop()
    gained = []

    def gained_by(votes):
        gained.append(int((~votes).sum()))
        return 5.0

    monkeypatch.setattr(fits, "gained_by", gained_by)
    monkeypatch.setattr("explgraph.graph.parts.Part.still", property(lambda _: True))
    monkeypatch.setattr("explgraph.teaching.doubts.VOTES", 0.0)
    diagonal = fits.seen.nodes.diagonal
    doubt = next_doubt(fits, known, 0.0, 0.1)
    assert doubt is not None
    assert doubt.kind == "noise"
    assert gained == [len(fits.graph.part(doubt.things[0]).nodes)]
    dear = 5 * 6.0 / diagonal  # five marks gain so much, one a fifth: more than the part's nodes
    other = next_doubt(fits, known, dear, 10.0)
    assert other is None or other.kind == "same"


def test_left_out_marks_say_what_votes_are_worth(world):
    fits, _ = fitted(world, {"eye": next(iter(world[2].parts))})
    assert fits.gained_by(fits.seen.nodes.votes) == 0
    templates = fits.parts["eye"].templates
    without = fits.seen.nodes.votes.copy()
    without[np.concatenate([one.voters for one in templates])] = False
    assert fits.gained_by(without) < 0, "the best voters are missed"


def test_things_that_one_part_of_the_graph_holds_may_be_two(world):
    graph = world[0]
    fits, known = fitted(world, dict.fromkeys(["eye", "brow"], next(iter(world[2].parts))))
    known.answers.pop()
    doubt = next_doubt(fits, known, 0.0, 1.0)
    if doubt is not None and doubt.kind == "same" and doubt.things[0] in graph.nx:
        assert len({graph.nx.nodes[node]["part"] for node in doubt.things}) == 1
