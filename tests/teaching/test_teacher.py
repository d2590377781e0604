"""The teacher: questions, answers, what is on disk, restarts, two people, what is refused."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from explgraph import ExplgraphError, Localizer, Parse, Teacher, read_landmarks

SIZE = (120, 160)
NODES = 12


def planted(n=14, seed=0):
    """A body that moves about, with nodes fixed to it: graph, parse, places (N, 2) of two parts."""
    rng = np.random.default_rng(seed)
    graph = random_graph(seed, layers=("top",), nodes=NODES, image_size=SIZE)
    for attributes in graph.nx.nodes.values():
        attributes["reliability"] = 0.5
    body = rng.uniform([50, 40], [110, 80], (n, 2))
    ways = rng.uniform(-30, 30, (NODES, 2))
    positions = (body[:, None] + ways + rng.standard_normal((n, NODES, 2))).astype(np.float32)
    names = tuple(f"{i}.png" for i in range(n))
    scores = np.ones((n, NODES), np.float32)
    parse = Parse(graph.node_ids, names, positions, positions, scores, graph.image_size)
    return graph, parse, {"eye": body, "tail": body + np.array([20, -10])}


GRAPH, PARSE, TRUE = planted()


def true_answer(question, parts=("eye", "tail")):
    return {part: tuple(TRUE[part][question.row]) for part in parts}


def state(teacher):
    """All that a person sees of a teacher."""
    located = teacher.guesses()
    return (
        teacher.parts,
        teacher.marked(),
        [(p.answers, p.advice, p.stop) for p in teacher.progress()],
        np.array([p.error for p in teacher.progress()]).tolist(),
        {part: places.tolist() for part, places in located.positions.items()},
        {part: radii.tolist() for part, radii in located.uncertainty.items()},
    )


def same(one, other):
    assert repr(one) == repr(other)


# ---------------------------------------------------------------------------- asking and learning


def test_it_asks_learns_and_knows_every_image_in_the_end():
    teacher = Teacher(GRAPH, PARSE, ["eye", "tail"])
    first = teacher.question()
    assert (first.kind, first.parts, first.guesses) == ("mark", ("eye", "tail"), {})
    assert first.image == PARSE.names[first.row]
    assert first.reason.endswith(".")
    told = teacher.answer(first, true_answer(first))
    assert told.answers == 1
    assert set(teacher.question().guesses) == {"eye", "tail"}
    seen = {first.row}
    while (question := teacher.question()) is not None:
        assert question.row not in seen, "an image is asked about once"
        seen.add(question.row)
        told = teacher.answer(question.id, true_answer(question))
    assert seen == set(range(len(PARSE.names)))
    found = teacher.guesses()
    for part, places in TRUE.items():
        assert np.linalg.norm(found.positions[part] - places, axis=1).max() < 5
    assert len(teacher.progress()) == len(seen)
    assert teacher.progress()[-1] == told


def test_it_fits_as_a_localizer_does():
    teacher = Teacher(GRAPH, PARSE, ["eye"])
    marks = np.full((len(PARSE.names), 2), np.nan)
    gone = np.zeros(len(PARSE.names), bool)
    for k in range(8):
        question = teacher.question()
        said = None if k == 3 else TRUE["eye"][question.row]
        teacher.answer(question, {"eye": said})
        gone[question.row] = said is None
        if said is not None:
            marks[question.row] = said
    whole = Localizer(GRAPH).fit(PARSE, {"eye": marks}, absent={"eye": gone}).predict(PARSE)
    found, mine = teacher.guesses(), teacher.localizer.predict(PARSE)
    for other in (found, mine):
        assert np.array_equal(other.positions["eye"], whole.positions["eye"])
        assert np.array_equal(other.uncertainty["eye"], whole.uncertainty["eye"])
        assert np.array_equal(other.presence["eye"], whole.presence["eye"])


def test_a_part_of_the_graph_gives_the_first_guesses():
    from explgraph import creatures, mine_activations, parse_activations, record

    drawn = creatures.draw(40, seed=1)
    activations = record(creatures.network(), drawn.tensor(), creatures.LAYERS)
    graph = mine_activations(activations, seed=0)
    parse = parse_activations(graph, activations)
    part = graph.parts[0]
    teacher = Teacher(graph, parse, [part.title, "other"])
    question = teacher.question()
    guess = question.guesses[part.title]
    assert set(question.guesses) == {part.title}
    assert np.allclose(guess.place, parse.parts.positions[question.row, 0])
    assert guess.radius > 0


def test_parts_can_come_later_and_are_asked_in_further_images():
    teacher = Teacher(GRAPH, PARSE)
    assert teacher.question() is None
    teacher.add_part("eye")
    first = teacher.question()
    teacher.answer(first, {"eye": TRUE["eye"][first.row]})
    teacher.add_part("tail")
    again = teacher.question(image=first.image)
    assert again.parts == ("tail",)
    teacher.answer(again, {"tail": TRUE["tail"][again.row]})
    assert set(teacher.marked()[first.image]) == {"eye", "tail"}
    assert teacher.question().parts == ("eye", "tail")


def test_images_that_were_answered_are_asked_about_for_a_part_that_comes_later():
    teacher = Teacher(GRAPH, PARSE, ["eye"])
    while (question := teacher.question()) is not None:
        teacher.answer(question, {} if question.row == 3 else {"eye": (50, 50)})
    teacher.add_part("tail")
    rows = set()
    while (question := teacher.question()) is not None:
        assert question.parts == (("eye", "tail") if question.row == 3 else ("tail",))
        rows.add(question.row)
        teacher.answer(question, {"tail": TRUE["tail"][question.row]})
    assert rows == set(range(len(PARSE.names)))


def test_the_same_seed_asks_the_same_questions():
    def rows():
        teacher, asked = Teacher(GRAPH, PARSE, ["eye"], seed=3), []
        for _ in range(6):
            question = teacher.question()
            asked.append((question.row, question.reason))
            teacher.answer(question, {"eye": TRUE["eye"][question.row]})
        return asked

    assert rows() == rows()


def test_what_is_answered_anew_counts():
    teacher = Teacher(GRAPH, PARSE, ["eye"])
    question = teacher.question()
    teacher.answer(question, {"eye": (1, 2)})
    teacher.answer(question, {"eye": None})
    assert teacher.marked() == {question.image: {"eye": None}}
    teacher.answer(question, {})
    assert teacher.marked() == {question.image: {"eye": None}}, "left out: as it was"


def test_an_answer_that_comes_twice_counts_once():
    teacher = Teacher(GRAPH, PARSE, ["eye"])
    question = teacher.question("ann")
    first = teacher.answer(question, {"eye": (1, 2)}, "ann")
    assert teacher.answer(question, {"eye": (1, 2)}, "ann") == first
    assert len(teacher.progress()) == 1


# ------------------------------------------------------------------------------------- two people


def test_two_people_are_never_asked_the_same():
    teacher = Teacher(GRAPH, PARSE, ["eye"])
    mine, yours = teacher.question("ann"), teacher.question("bob")
    assert mine.row != yours.row
    assert teacher.question("ann").id == mine.id
    teacher.answer(mine, {"eye": TRUE["eye"][mine.row]}, "ann")
    assert teacher.question("bob").id == yours.id
    assert set(teacher.question("bob").guesses) == {"eye"}, "guesses are those of now"
    assert teacher.undo("bob") is None
    back = teacher.undo("ann")
    assert back.id == mine.id
    assert teacher.question("ann").id == mine.id
    assert teacher.marked() == {}


def test_answers_from_many_threads_are_all_taken(tmp_path):
    with Teacher(GRAPH, PARSE, ["eye"], out=tmp_path) as teacher:

        def teach(who):
            while (question := teacher.question(who)) is not None:
                teacher.answer(question, {"eye": TRUE["eye"][question.row]}, who)

        threads = [threading.Thread(target=teach, args=(who,)) for who in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(teacher.marked()) == len(PARSE.names)
    assert len(read_landmarks(tmp_path / "marks.csv").names) == len(PARSE.names)


# --------------------------------------------------------------------------------------- on disk


def test_marks_are_read_by_other_tools_after_each_answer(tmp_path):
    with Teacher(GRAPH, PARSE, ["eye", "tail"], out=tmp_path) as teacher:
        question = teacher.question()
        teacher.answer(question, {"eye": (30.25, 40.5), "tail": None})
        for name in ("marks.csv", "marks.json"):
            marks = read_landmarks(tmp_path / name)
            assert marks.names == (question.image,)
            assert marks.parts["eye"].tolist() == [[30.25, 40.5]]
        assert "tail,,,0" in (tmp_path / "marks.csv").read_text()
        assert json.loads((tmp_path / "marks.json").read_text())["images"][0]["width"] == 160
        teacher.undo()
        assert not (tmp_path / "marks.csv").exists()


def test_a_restart_goes_on_where_it_was(tmp_path):
    with Teacher(GRAPH, PARSE, ["eye"], out=tmp_path) as teacher:
        for _ in range(4):
            question = teacher.question("ann")
            teacher.answer(question, {"eye": TRUE["eye"][question.row]}, "ann")
        asked = teacher.question("ann")
        before = state(teacher)
    with Teacher(GRAPH, PARSE, out=tmp_path) as teacher:
        same(state(teacher), before)
        same(teacher.question("ann"), asked)
        teacher.answer(asked.id, {"eye": TRUE["eye"][asked.row]}, "ann")
        assert teacher.question("ann").id > asked.id


def test_a_journal_torn_at_any_byte_is_read_up_to_its_last_whole_line(tmp_path):
    with Teacher(GRAPH, PARSE, ["eye"], out=tmp_path / "whole") as teacher:
        for _ in range(2):
            question = teacher.question()
            teacher.answer(question, {"eye": TRUE["eye"][question.row]})
        marked = list(teacher.marked())
    content = (tmp_path / "whole" / "answers.jsonl").read_bytes()
    start = content.index(b'{"event": "asked"')
    from explgraph.teaching.journal import Journal
    from explgraph.teaching.record import Record

    ends = [k for k in range(start, len(content)) if content[k : k + 1] == b"\n"]
    around = {k + near for k in [start, *ends] for near in (-1, 0, 1, 2)}
    for cut in sorted(around | {*range(start, len(content), 11)} - {start - 1}):
        cut = min(cut, len(content))
        folder = tmp_path / "torn"
        folder.mkdir(exist_ok=True)
        (folder / "answers.jsonl").write_bytes(content[:cut])
        with Journal(folder) as journal:
            said = Record(journal.events).said()
            events = len(journal.events)
        assert events == content[:cut].count(b"\n")
        assert [PARSE.names[row] for row in said] == marked[: len(said)]
        assert (folder / "answers.jsonl").read_bytes() == content[
            : content.rfind(b"\n", 0, cut) + 1
        ]
    for cut in (start + 9, content.index(b'"progress"') + 3, len(content) - 2):
        (tmp_path / "torn" / "answers.jsonl").write_bytes(content[:cut])
        with Teacher(GRAPH, PARSE, ["eye"], out=tmp_path / "torn") as teacher:
            teacher.answer(teacher.question(), {"eye": (5, 5)})
            assert len(teacher.progress()) == len(teacher.marked())


def test_damage_that_is_no_tear_is_refused(tmp_path):
    with Teacher(GRAPH, PARSE, ["eye"], out=tmp_path) as teacher:
        teacher.question()
    journal = tmp_path / "answers.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"part"', b'"pa', 1))
    with pytest.raises(ExplgraphError, match="line 2, is no JSON"):
        Teacher(GRAPH, PARSE, out=tmp_path)


CHILD = """
import sys
sys.path += {path!r}
import test_teacher as t
teacher = t.Teacher(t.GRAPH, t.PARSE, ["eye"], out={out!r})
while (question := teacher.question()) is not None:
    teacher.answer(question, {{"eye": t.TRUE["eye"][question.row]}})
    print(question.image, flush=True)
"""


def test_a_kill_in_the_midst_loses_nothing(tmp_path):
    path = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    code = CHILD.format(path=path, out=str(tmp_path / "out"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    told = [child.stdout.readline().strip() for _ in range(3)]
    with pytest.raises(ExplgraphError, match=f"process {child.pid}"):
        Teacher(GRAPH, PARSE, out=tmp_path / "out")
    child.send_signal(signal.SIGKILL)
    told += child.stdout.read().split()
    child.wait()
    child.stdout.close()
    with Teacher(GRAPH, PARSE, out=tmp_path / "out") as teacher:
        marked = teacher.marked()
        assert set(told) <= set(marked), "every answer that was acknowledged is there"
        assert len(marked) <= len(told) + 1
        for image, said in marked.items():
            assert said["eye"] == tuple(TRUE["eye"][PARSE.names.index(image)])
        assert set(read_landmarks(tmp_path / "out" / "marks.csv").names) == set(marked)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["answer", "undo", "skip", "absent", "image", "again"]),
        st.sampled_from(["ann", "bob"]),
        st.integers(0, len(PARSE.names) - 1),
    ),
    max_size=12,
)


@settings(max_examples=15, deadline=None)
@given(steps=STEPS)
def test_any_sequence_is_what_its_journal_says(steps, tmp_path_factory):
    folder = tmp_path_factory.mktemp("journal")
    with Teacher(GRAPH, PARSE, ["eye"], out=folder) as teacher:
        for what, who, number in steps:
            if what == "undo":
                teacher.undo(who)
                continue
            image = PARSE.names[number] if what == "image" else None
            question = teacher.question(who, image=image)
            place = TRUE["eye"][question.row]
            said = {"skip": {}, "absent": {"eye": None}}.get(what, {"eye": place})
            teacher.answer(question, said, who)
            if what == "again":
                teacher.answer(question, {"eye": place + 1}, who)
        before = state(teacher), teacher.question("ann"), teacher.question("bob")
    with Teacher(GRAPH, PARSE, out=folder) as teacher:
        same((state(teacher), teacher.question("ann"), teacher.question("bob")), before)


def test_a_folder_of_other_images_is_refused(tmp_path):
    Teacher(GRAPH, PARSE, ["eye"], out=tmp_path).close()
    graph, parse, _ = planted(n=9)
    with pytest.raises(
        ExplgraphError, match=r"another set of images \(14, not 9; where it first differs"
    ):
        Teacher(graph, parse, out=tmp_path)


def test_finish_writes_what_can_be_opened(tmp_path):
    from explgraph import load

    with Teacher(GRAPH, PARSE, ["eye"], out=tmp_path) as teacher:
        for _ in range(3):
            question = teacher.question()
            teacher.answer(question, {"eye": TRUE["eye"][question.row]})
        assert teacher.finish() == teacher.finish() == tmp_path == teacher.out
        graph = load(tmp_path / "graph.explgraph")
        assert "eye" in set(dict(graph.nx.nodes(data="label")).values())
        again = Localizer.load(tmp_path / "localizer", graph).predict(PARSE)
        assert np.array_equal(again.positions["eye"], teacher.guesses().positions["eye"])


# --------------------------------------------------------------------------------- wrong inputs


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"eye": (200, 5)}, "outside the image of 160 x 120"),
        ({"eye": (np.nan, 5)}, "outside the image"),
        ({"eye": 5}, "expected \\(x, y\\)"),
        ({"ear": (5, 5)}, "names the part 'ear'"),
        (True, "must map parts"),
    ],
)
def test_answers_that_are_none_are_refused_and_change_nothing(said, told):
    teacher = Teacher(GRAPH, PARSE, ["eye"])
    question = teacher.question()
    with pytest.raises(ExplgraphError, match=told):
        teacher.answer(question, said)
    assert teacher.marked() == {}
    assert teacher.question() == question


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"parts": "eye"}, "expected a list"),
        ({"parts": [""]}, "1 to 100"),
        ({"parts": ["a\nb"]}, "printable"),
        ({"parts": ["\u200d"]}, "printable"),
        ({"target": 2}, "share of the image's diagonal"),
        ({"seed": -1}, "seed"),
    ],
)
def test_arguments_that_are_none_are_refused(arguments, told):
    with pytest.raises(ExplgraphError, match=told):
        Teacher(GRAPH, PARSE, **arguments)


def test_unknown_images_questions_and_parts_are_refused():
    teacher = Teacher(GRAPH, PARSE, ["eye"])
    with pytest.raises(ExplgraphError, match="no image 'x"):
        teacher.question(image="x.png")
    with pytest.raises(ExplgraphError, match="no question 7"):
        teacher.answer(7, {})
    with pytest.raises(ExplgraphError, match="taught already"):
        teacher.add_part("eye")
    with pytest.raises(ExplgraphError, match="nothing was marked"):
        _ = teacher.localizer


@pytest.mark.parametrize(
    "place", ["12", b"12", {1: 2, 3: 4}, {3, 4}, (True, 1), ["3", "4"], (1,), 5, ((1,), 2)]
)
def test_what_is_no_pair_of_numbers_is_no_place(place):
    teacher = Teacher(GRAPH, PARSE, ["eye"])
    with pytest.raises(ExplgraphError, match=r"said\['eye'\] is .*; expected \(x, y\) px"):
        teacher.answer(teacher.question(), {"eye": place})
    assert teacher.marked() == {}


@pytest.mark.parametrize("wrong", [None, 5, b"a", ["a"], object()])
def test_what_is_no_text_names_neither_persons_nor_images_nor_parts(wrong, tmp_path):
    teacher = Teacher(GRAPH, PARSE, ["eye"], out=tmp_path)
    question = teacher.question()
    before = (tmp_path / "answers.jsonl").read_bytes()
    said = true_answer(question, ["eye"])
    for call in (
        lambda: teacher.question(wrong),
        lambda: teacher.undo(wrong),
        lambda: teacher.answer(question, said, wrong),
        lambda: teacher.answer(question, said, name=wrong),
        lambda: teacher.answer(wrong, said) if wrong != 5 else teacher.answer(0.0, said),
        lambda: teacher.question("a", image=wrong) if wrong else teacher.add_part(wrong),
    ):
        with pytest.raises(ExplgraphError):
            call()
    assert (tmp_path / "answers.jsonl").read_bytes() == before
    teacher.close()


def test_names_of_decisions_are_names():
    teacher = Teacher(GRAPH, PARSE, ["eye"])
    for name in ("a\nb", "x" * 101, "\ud800", " "):
        with pytest.raises(ExplgraphError, match="a part's name must be a text"):
            teacher.answer(teacher.question(), {}, name=name)


def test_what_stands_in_the_way_of_a_file_is_named(tmp_path):
    for name in ("marks.csv", "marks.json"):
        (tmp_path / name / name).mkdir(parents=True)
        with pytest.raises(ExplgraphError, match=f"can't remove .*{name}"):
            Teacher(GRAPH, PARSE, ["eye"], out=tmp_path / name)


def test_images_that_are_not_the_parses_are_refused_before_anything_is_asked(tmp_path):
    height, width = SIZE
    few = np.zeros((len(PARSE.names) - 1, height, width, 3), np.uint8)
    with pytest.raises(ExplgraphError, match="images lacks 14 of the parse's 14 images"):
        Teacher(GRAPH, PARSE, ["eye"], images=few, out=tmp_path)
    for wrong in ("photos", 5):
        with pytest.raises(ExplgraphError, match="images is"):
            Teacher(GRAPH, PARSE, ["eye"], images=wrong)
    assert not list(tmp_path.iterdir())


def test_an_answer_whose_progress_could_not_be_written_is_taken_when_it_comes_again(
    tmp_path, monkeypatch
):
    teacher = Teacher(GRAPH, PARSE, ["eye"], out=tmp_path)
    question = teacher.question("a")
    add = teacher._journal.add

    def full(event):
        if event["event"] == "progress":
            raise ExplgraphError("can't write")
        return add(event)

    monkeypatch.setattr(teacher._journal, "add", full)
    with pytest.raises(ExplgraphError, match="can't write"):
        teacher.answer(question, true_answer(question, ["eye"]), "a")
    monkeypatch.undo()
    other = teacher.question("b")
    teacher.answer(other, true_answer(other, ["eye"]), "b")
    told = teacher.answer(question, true_answer(question, ["eye"]), "a")
    assert told == teacher.progress()[0]
    assert len(teacher.marked()) == 2
    teacher.close()


WRONG = (None, "x", -1, 1e9, 10**30, float("nan"), [], {}, {"eye": ["a", 1]}, {"no": [1, 2]}, True)


def test_events_that_no_teacher_wrote_are_refused(tmp_path):
    """Whatever stands in a field: it is refused by its number, or the teacher works with it."""
    whole = tmp_path / "whole"
    with Teacher(GRAPH, PARSE, ["eye"], out=whole) as teacher:
        for _ in range(2):
            question = teacher.question()
            teacher.answer(question, true_answer(question, ["eye"]))
        teacher._ask("noise", "b", -1, (GRAPH.node_ids[0],), "why")
        teacher.answer(teacher._record.next_question - 1, None, "b")
        teacher.undo("b")
    lines = (whole / "answers.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    seen, refused = set(), []
    for i, event in enumerate(events):
        for field in event:
            if (event["event"], field) in seen:
                continue
            seen.add((event["event"], field))
            for wrong in WRONG:
                changed = json.dumps(event | {field: wrong})
                folder = tmp_path / "changed"
                folder.mkdir(exist_ok=True)
                text = "\n".join([*lines[:i], changed, *lines[i + 1 :]]) + "\n"
                (folder / "answers.jsonl").write_text(text)
                try:
                    with Teacher(GRAPH, PARSE, ["eye"], out=folder) as again:
                        state(again)
                        assert again.question("c") is not None
                except ExplgraphError as err:
                    refused.append(str(err))
    assert len(refused) > 0.7 * len(seen) * len(WRONG)
    named = re.compile(r"event \d+ of the journal|line \d+|is of another")
    assert [one for one in refused if not named.search(one)] == []


def test_names_may_be_written_with_joiners(tmp_path):
    names = ["\u0645\u06cc\u200c\u0634\u0648\u062f", "\U0001f468\u200d\U0001f33e"]
    with Teacher(GRAPH, PARSE, names, out=tmp_path) as teacher:
        question = teacher.question()
        teacher.answer(question, dict.fromkeys(names, (5.0, 6.0)))
    with Teacher(GRAPH, PARSE, out=tmp_path) as again:
        assert again.parts == tuple(names)
        assert again.marked()[question.image] == dict.fromkeys(names, (5.0, 6.0))
    assert set(read_landmarks(tmp_path / "marks.csv").parts) == set(names)
