"""The error that is stated, and when it is suggested to stop."""

import numpy as np
import pytest
from random_graphs import random_graph

from explgraph import Parse, Teacher
from explgraph.teaching.expected import (
    PRIOR,
    USUAL,
    _advised,
    _not_exact,
    _power,
    factor,
)
from explgraph.teaching.record import Record


def test_without_answers_the_factor_is_the_usual_one():
    assert factor(np.zeros(0), np.zeros(0), np.zeros(0)) == USUAL


def test_the_factor_is_what_was_missed_over_radii_shrunk_to_the_usual():
    missed, radius, unlike = np.array([4.0, 6.0]), np.array([5.0, 15.0]), np.array([2.0, 1.0])
    seen = (4 / 2 + 6) / 20
    assert factor(missed, radius, unlike) == pytest.approx((PRIOR * USUAL + 2 * seen) / (PRIOR + 2))


def test_many_answers_outweigh_what_is_usual():
    many = np.ones(5000)
    assert factor(many, 10 * many, many) == pytest.approx(0.1, rel=0.01)


def test_a_guess_that_was_accepted_was_near_enough_not_exact():
    assert _not_exact(np.array([0.0, 0.1]), 200).tolist() == [2, 2]
    assert _not_exact(np.array([0.0, 30.0]), 200).tolist() == [2, 30]
    assert _not_exact(np.array([0.0, 3.0]), 200).tolist() == [1.5, 3], "smaller misses are mended"


def told_errors(errors):
    """A record in which errors were told after each answer."""
    record = Record()
    for k, error in enumerate(errors, 1):
        record.take({
            "event": "asked", "id": k, "kind": "mark", "image": "", "row": k, "things": [],
            "reason": "", "who": "",
        })  # fmt: skip
        record.take({
            "event": "answer", "number": k, "question": k, "said": {}, "name": "", "who": "",
            "before": {}, "unlike": 1.0,
        })  # fmt: skip
        record.take({
            "event": "progress", "answer": k, "answers": k, "errors": {}, "error": error,
            "gain": None, "stop": False, "advice": "",
        })  # fmt: skip
    return record


@pytest.mark.parametrize("power", [0.0, 0.2, 0.45])
def test_the_power_is_read_off_the_errors_told(power):
    errors = [0.1 * k**-power for k in range(1, 41)]
    found = _power(told_errors(errors[:-1]), 40, errors[-1])
    assert found == pytest.approx((5 * 0.2 + 40 * power) / 45, abs=1e-6)


def test_few_errors_fall_as_usual_and_none_rises():
    assert _power(told_errors([0.1]), 2, 0.05) == 0.2
    assert _power(told_errors([0.01 * k for k in range(1, 40)]), 40, 0.4) == 0


@pytest.mark.parametrize(
    ("k", "error", "gain", "target", "stop", "told"),
    [
        (2, 0.01, 0.001, 0.05, False, "a few more"),
        (5, 0.04, 0.01, 0.05, True, "the target is reached"),
        (5, 0.06, 0.01, 0.05, False, "5.0% is the target"),
        (50, 0.06, 0.001, 0.05, True, "5.0% is not within reach"),
        (9, 0.06, 0.005, None, True, "take away 8%"),
        (7, 0.06, 0.001, None, False, "take away 2%"),
        (9, 0.06, 0.012, None, False, "take away 20%"),
        (9, 0.0, 0.0, None, True, "Every image is answered"),
        (1, np.nan, np.nan, None, False, "Mark every part once"),
    ],
)
def test_when_to_stop(k, error, gain, target, stop, told):
    found = _advised(k, error, gain, target)
    assert found[0] is stop
    assert told in found[1]


def test_where_nodes_are_exact_little_is_stated_and_true():
    """A body with nodes fixed to it, of which marks tell all."""
    rng = np.random.default_rng(0)
    graph = random_graph(0, layers=("top",), nodes=70, image_size=(120, 160))
    for attributes in graph.nx.nodes.values():
        attributes["reliability"] = 0.5
    body = rng.uniform([50, 40], [110, 80], (40, 2))
    positions = body[:, None] + rng.uniform(-30, 30, (70, 2)) + rng.normal(0, 1, (40, 70, 2))
    positions = positions.astype(np.float32)
    names = tuple(map(str, range(40)))
    parse = Parse(
        graph.node_ids, names, positions, positions, np.ones((40, 70), np.float32), (120, 160)
    )
    teacher = Teacher(graph, parse, ["eye"], target=0.03)
    for _ in range(12):
        question = teacher.question()
        told = teacher.answer(question, {"eye": body[question.row]})
    rest = [k for k, name in enumerate(names) if name not in teacher.marked()]
    away = np.linalg.norm(teacher.guesses().positions["eye"] - body, axis=1)[rest] / 200
    assert told.stop
    assert away.mean() < told.error < 0.03
    first = teacher.progress()[0]
    assert first.error > told.error
