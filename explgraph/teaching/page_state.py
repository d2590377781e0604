"""What the page shows of a `Teacher`, as JSON values: never NaN, places in px of the network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explgraph.answers.located import Located
from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph
from explgraph.graph.parts import parts_of
from explgraph.parsed import parts_in
from explgraph.teaching.question import Progress, Question
from explgraph.teaching.teacher import Teacher

__all__ = ["PageState"]

_ORDERS = ("unsure", "marked", "name")
_SIGHTS = 6  # images that show what a question about parts or nodes is about


class PageState:
    """Gives what there is to show.

    Parameters
    ----------
    teacher : Teacher
    """

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher

    def told(self, order: str, count: int, shown: Sequence[int]) -> dict[str, Any]:
        """Tell all but the question.

        Parameters
        ----------
        order : str
            Of the other images: ``"unsure"`` (not yet marked, least sure first), ``"marked"``,
            ``"name"`` (all).
        count : int
            How many of them.
        shown : sequence of int
            Rows that the page shows now: their guesses are told as well, so that they can move.
        """
        if order not in _ORDERS:
            raise ExplgraphError(f"order is {order!r}; expected {', '.join(_ORDERS)}")
        teacher = self._teacher
        located, marked, curve = teacher.guesses(), teacher.marked(), teacher.progress()
        height, width = teacher.parse.image_size
        rows = self._ordered(order, located, marked)
        return {
            "size": [width, height],
            "parts": list(teacher.parts),
            "images": len(teacher.parse.names),
            "target": teacher.target,
            "answers": curve[-1].answers if curve else 0,
            "curve": [_progress(one) for one in curve],
            "rows": rows[:count],
            "more": len(rows) > count,
            "seen": {
                row: self._row(row, located, marked)
                for row in dict.fromkeys([*rows[:count], *shown])
            },
        }

    def _ordered(
        self, order: str, located: Located, marked: Mapping[str, Mapping[str, Any]]
    ) -> list[int]:
        """Give the rows that are listed, in their order."""
        names = self._teacher.parse.names
        if order == "name":
            return sorted(range(len(names)), key=names.__getitem__)
        if order == "marked":
            return [k for k, name in enumerate(names) if name in marked]
        radii = [v for v in located.uncertainty.values() if np.isfinite(v).any()]
        rest = [k for k, name in enumerate(names) if name not in marked]
        if not radii:
            return rest
        mean = np.nan_to_num(np.mean(radii, axis=0))
        return sorted(rest, key=lambda k: -mean[k])

    def _row(
        self, row: int, located: Located, marked: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Tell of one image."""
        name = self._teacher.parse.names[row]
        return {"name": name, "guesses": _guesses(row, located), "marked": _marked(marked, name)}

    def asked(self, question: Question | None) -> dict[str, Any] | None:
        """Tell a question."""
        if question is None:
            return None
        told: dict[str, Any] = {
            "id": question.id,
            "kind": question.kind,
            "image": question.image,
            "row": question.row,
            "parts": list(question.parts),
            "things": list(question.things),
            "reason": question.reason,
        }
        if question.kind == "mark":
            told["guesses"] = _guesses(question.row, self._teacher.guesses()) | {
                part: _guess(*guess) for part, guess in question.guesses.items()
            }
            told["marked"] = _marked(self._teacher.marked(), question.image)
        else:
            graph = self._teacher.decided  # a copy of a large graph takes seconds
            titles = {part.id: part.title for part in parts_of(graph)}
            told["titles"] = [titles.get(thing, f"node {thing}") for thing in question.things]
            told["sights"] = self._sights(graph, question.things)
        return told

    def _sights(self, graph: Graph, things: Sequence[str]) -> list[dict[str, Any]]:
        """Say where parts or nodes are in the images that show all of them best."""
        parse = self._teacher.parse
        found = parts_in(graph, parse)
        places: list[NDArray[Any]] = []
        there: list[NDArray[Any]] = []
        for thing in things:
            if thing in found.parts:
                k = found.parts.index(thing)
                places.append(found.positions[:, k])
                there.append(found.presence[:, k])
            elif thing in parse.nodes:
                k = parse.nodes.index(thing)
                places.append(parse.positions[:, k])
                there.append(parse.scores[:, k])
            else:  # somebody else's answer has merged it meanwhile
                return []
        best = np.argsort(-np.min(there, axis=0), kind="stable")[:_SIGHTS]
        return [
            {
                "row": int(row),
                "name": parse.names[row],
                "places": [[_round(v) for v in place[row]] for place in places],
            }
            for row in best
        ]


def _guesses(row: int, located: Located) -> dict[str, list[float | None]]:
    """Give ``[x, y, radius, presence]`` by part, for those that there is a guess of."""
    told = {}
    for part, places in located.positions.items():
        if np.isfinite(places[row]).all():
            told[part] = _guess(
                places[row], located.uncertainty[part][row], located.presence[part][row]
            )
    return told


def _guess(place: Sequence[float], radius: float, presence: float) -> list[float | None]:
    """Give a guess as the page takes it."""
    x, y = place
    return [_round(x), _round(y), _known(radius, 2), _known(presence, 3)]


def _marked(
    marked: Mapping[str, Mapping[str, tuple[float, float] | None]], name: str
) -> dict[str, list[float] | None]:
    """Give what was said of an image."""
    return {
        part: None if place is None else [_round(v) for v in place]
        for part, place in marked.get(name, {}).items()
    }


def _progress(one: Progress) -> dict[str, Any]:
    """Give a point of the curve."""
    return {
        "answers": one.answers,
        "error": _known(one.error, 5),
        "errors": {part: _known(error, 5) for part, error in one.errors.items()},
        "gain": _known(one.gain, 5),
        "stop": one.stop,
        "advice": one.advice,
    }


def _known(value: float, digits: int) -> float | None:
    """Give a number, or None where there is none."""
    return round(float(value), digits) if math.isfinite(value) else None


def _round(value: float) -> float:
    """Give a place or a radius to a hundredth of a px."""
    return round(float(value), 2)
