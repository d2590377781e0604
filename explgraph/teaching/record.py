"""What was asked and said: the state that follows from a journal's events, and from them alone.

Every step of a teacher is an event; `Record.take` takes it up, whether it has just happened or is
read again after a restart. So what is on disk and what is in memory can't differ. Events:

========  ==========================================================================================
begin     format, version, nodes, names, image_size: what is taught, first of all
part      name: it is taught from now on
asked     id, kind, image, row, things, reason, who
answer    number, question, said, name, who; before: what was guessed by then, [x, y, radius];
          unlike: how far the image was from the nearest answered one, over the mean of the others
progress  of which answer, and what `Progress` holds
undo      answer: its number
========  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from explgraph.errors import ExplgraphError
from explgraph.teaching.events import check_event
from explgraph.teaching.journal import Event
from explgraph.teaching.question import Kind, Place, Progress

__all__ = ["FORMAT", "VERSION", "Answer", "Asked", "Record"]

Array = NDArray[np.float64]
FORMAT, VERSION = "explgraph teaching", 1


class Asked(NamedTuple):
    """A question that was asked: see `Question`; of whom."""

    id: int
    kind: Kind
    image: str
    row: int
    things: tuple[str, ...]
    reason: str
    who: str


class Answer(NamedTuple):
    """An answer: of "mark" by part a place or None (not visible), else True, False or None.

    ``before``, ``unlike``: see the journal's events; ``parts``: how many were taught by then.
    """

    number: int
    asked: Asked
    said: Any
    name: str
    who: str
    before: dict[str, tuple[float, float, float]]
    unlike: float
    parts: int


class Record:
    """What follows from the events so far.

    Attributes
    ----------
    begun : dict, or None
        What is taught.
    parts : list of str
        Names, in the order in which they came.
    asked : dict of int to Asked
        All questions.
    open : dict of str to int
        By who was asked: the question that has no answer yet.
    answers : list of Answer
        In their order, without those that were taken back.
    progress : dict of int to Progress
        By the answer's number.
    """

    def __init__(self, events: Sequence[Event] = ()) -> None:
        self.begun: Event | None = None
        self.parts: list[str] = []
        self.asked: dict[int, Asked] = {}
        self.open: dict[str, int] = {}
        self.answers: list[Answer] = []
        self.progress: dict[int, Progress] = {}
        self.next_answer = 0
        for number, event in enumerate(events, 1):
            try:
                check_event(event, self)
                self.take(event)
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as err:
                raise ExplgraphError(
                    f"event {number} of the journal is none of this version ({err}): "
                    f"{event!r:.200}; put a copy of the file in its place, or begin anew elsewhere"
                ) from err

    @property
    def next_question(self) -> int:
        """The number of the next question."""
        return len(self.asked)

    def take(self, event: Event) -> None:
        """Take an event up."""
        what = event["event"]
        if what == "begin":
            self.begun = event
        elif what == "part":
            self.parts.append(event["name"])
        elif what == "asked":
            asked = Asked(
                event["id"], event["kind"], event["image"], event["row"],
                tuple(event["things"]), event["reason"], event["who"],
            )  # fmt: skip
            self.asked[asked.id] = asked
            self.open[asked.who] = asked.id
        elif what == "answer":
            self._answer(event)
        elif what == "progress":
            told = dict(event)
            number = told.pop("answer")
            told.pop("event")
            told["errors"] = {part: _number(value) for part, value in told["errors"].items()}
            told["error"], told["gain"] = _number(told["error"]), _number(told["gain"])
            self.progress[number] = Progress(**told)
        elif what == "undo":
            (gone,) = [one for one in self.answers if one.number == event["answer"]]
            self.answers.remove(gone)
            self.open[gone.who] = gone.asked.id
        else:
            raise ValueError(what)

    def _answer(self, event: Event) -> None:
        said = event["said"]
        if isinstance(said, dict):
            said = {part: place and (place[0], place[1]) for part, place in said.items()}
        before = {part: (g[0], g[1], g[2]) for part, g in event["before"].items()}
        asked = self.asked[event["question"]]
        self.answers.append(
            Answer(
                event["number"], asked, said, event["name"], event["who"], before,
                float(event["unlike"]), len(self.parts),
            )
        )  # fmt: skip
        self.next_answer = event["number"] + 1
        # whoever it was asked of: it has its answer
        self.open = {who: id_ for who, id_ in self.open.items() if id_ != asked.id}

    def marks(self) -> list[Answer]:
        """Answers about images."""
        return [one for one in self.answers if one.asked.kind == "mark"]

    def said(self) -> dict[int, dict[str, Place | None]]:
        """By row of the parse, by part: place, or None where it isn't visible; the last counts."""
        found: dict[int, dict[str, Place | None]] = {}
        for one in self.marks():
            found.setdefault(one.asked.row, {}).update(one.said)
        return found

    def answered(self) -> set[int]:
        """Rows of the images that were answered, by marks or by skipping."""
        return {one.asked.row for one in self.marks()}

    def finished(self) -> set[int]:
        """Rows of the images that were answered, or skipped, since the last part was added."""
        return {one.asked.row for one in self.marks() if one.parts == len(self.parts)}

    def places(self, part: str, n: int) -> tuple[Array, NDArray[np.bool_]]:
        """Where a part was marked in n images, NaN elsewhere, and where it isn't visible."""
        places, gone = np.full((n, 2), np.nan), np.zeros(n, dtype=np.bool_)
        for row, said in self.said().items():
            if part in said:
                place = said[part]
                if place is None:
                    gone[row] = True
                else:
                    places[row] = place
        return places, gone


def _number(value: float | None) -> float:
    """Turn JSON's null into NaN."""
    return np.nan if value is None else float(value)
