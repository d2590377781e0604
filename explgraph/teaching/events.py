"""What the lines of a journal may hold: what no teacher wrote is refused before it is believed.

The journal is a text file that people copy, merge and mend by hand. A line that is JSON can still
be none of an answer; found out later, it would end in errors that name no line.
"""

from __future__ import annotations

from typing import Any, Protocol, get_args

from explgraph.teaching.checks import checked_name, checked_said
from explgraph.teaching.journal import Event
from explgraph.teaching.question import Kind, Progress

__all__ = ["check_event"]

_THINGS = {"mark": 0, "same": 2, "noise": 1}
_LARGEST = 1e15  # of any number here: places are px, errors shares


class Known(Protocol):
    """What a `record.Record` says of the events before."""

    begun: Event | None
    parts: list[str]
    asked: dict[int, Any]
    answers: list[Any]
    next_answer: int

    @property
    def next_question(self) -> int:
        """The number of the next question."""


def check_event(event: Event, record: Known) -> None:
    """Refuse an event that can't come after those that a record holds.

    Raises
    ------
    ValueError
        Saying which field is wrong.
    """
    what = event["event"]
    if what == "begin":
        _check(record.begun is None, "it begins a second time")
        _texts(event["names"], "names")
        size = event["image_size"]
        _check(isinstance(size, list) and len(size) == 2 and all(map(_whole, size)), "image_size")
    elif what == "part":
        name = event["name"]
        _check(checked_name(name) == name and name not in record.parts, "name")
    elif what == "asked":
        _asked(event, record)
    elif what == "answer":
        _answer(event, record)
    elif what == "progress":
        _progress(event, record)
    elif what == "undo":
        _check(any(event["answer"] == one.number for one in record.answers), "answer")


def _asked(event: Event, record: Known) -> None:
    names = record.begun["names"] if record.begun else []
    kind, row = event["kind"], event["row"]
    _check(_whole(event["id"]) and event["id"] == record.next_question, "id")
    _check(isinstance(kind, str) and kind in get_args(Kind), "kind")
    if kind == "mark":
        _check(_whole(row) and row < len(names) and event["image"] == names[row], "row")
    else:
        _check(row == -1 and event["image"] == "", "row")
    _texts(event["things"], "things")
    _check(len(event["things"]) == _THINGS[kind], "things")
    _texts([event["reason"], event["who"]], "reason or who")


def _answer(event: Event, record: Known) -> None:
    _check(_whole(event["number"]) and event["number"] == record.next_answer, "number")
    _check(_whole(event["question"]) and event["question"] in record.asked, "question")
    assert record.begun is not None  # or else nothing was asked
    height, width = record.begun["image_size"]
    kind = record.asked[event["question"]].kind
    checked_said(kind, event["said"], record.parts, (height, width))
    _texts([event["name"], event["who"]], "name or who")
    for guess in _mapping(event["before"], "before").values():
        _check(isinstance(guess, list) and len(guess) == 3 and all(map(_number, guess)), "before")
    _check(_number(event["unlike"]), "unlike")


def _progress(event: Event, record: Known) -> None:
    known = {"event", "answer", *Progress._fields}
    _check(event.keys() == known, f"its fields are {', '.join(event)}")
    _check(_whole(event["answer"]) and event["answer"] < record.next_answer, "answer")
    _check(_whole(event["answers"]), "answers")
    errors = _mapping(event["errors"], "errors").values()
    for value in (*errors, event["error"], event["gain"]):
        _check(value is None or _number(value), "errors")
    _check(isinstance(event["stop"], bool), "stop")
    _texts([event["advice"]], "advice")


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _texts(values: Any, what: str) -> None:
    _check(isinstance(values, list) and all(isinstance(one, str) for one in values), what)


def _mapping(value: Any, what: str) -> dict[str, Any]:
    _check(isinstance(value, dict), what)
    mapping: dict[str, Any] = value
    return mapping


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < _LARGEST
