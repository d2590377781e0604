"""The teacher: asks about the images that help most, takes answers, knows more after each.

1. A *question* shows an image and where the parts are believed to be. It is chosen by what the
   answers so far leave open (`choosing`); what one person has been asked and hasn't answered isn't
   asked of another.
2. An *answer* goes to the journal before anything else (`journal`); what is known follows from
   the journal alone (`record`), so that a kill loses nothing.
3. The parts that something was said of are *fitted* anew (`fits`), and it is told what error is to
   be expected in the images that nobody marked (`expected`).
4. Now and then it asks about the graph itself (`doubts`): whether two parts are one, whether one is
   noise. Answers merge, split, name and reject (`decided`).

References
----------
Zhang, Cao, Wu, Zhu: Mining Object Parts from CNNs via Active Question-Answering, CVPR 2017 (arXiv
1704.03173). Departures: see `explgraph.answers.localize`; questions are chosen by expected error
rather than by expected growth of the And-Or graph.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterable, Mapping
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import Any

from explgraph.answers.localize import Localizer
from explgraph.answers.located import Located
from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError, nearest
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.graph import check_graph
from explgraph.graph.weak_pose import warn_if_weak
from explgraph.images.folder import ImageFolder
from explgraph.parsed import Parse, check_parse
from explgraph.teaching.checks import (
    check_images,
    checked_name,
    checked_names,
    checked_said,
    checked_target,
    checked_who,
    differs,
)
from explgraph.teaching.choosing import choose_image, unlike_so_far
from explgraph.teaching.decided import decided
from explgraph.teaching.doubts import Doubt, next_doubt
from explgraph.teaching.expected import progress_of
from explgraph.teaching.fits import Fits
from explgraph.teaching.journal import Event, Journal
from explgraph.teaching.marks import write_marks
from explgraph.teaching.question import Guess, Kind, Place, Progress, Question
from explgraph.teaching.record import FORMAT, VERSION, Answer, Asked, Record
from explgraph.views.pictures import Drawable
from explgraph.whole_numbers import checked_seed

__all__ = ["Teacher"]


class Teacher:
    """Asks where parts are, in the images that help most, and learns from each answer.

    Parameters
    ----------
    graph : ExplanatoryGraph
        Whose nodes vote.
    parse : Parse
        Of the images that parts are to be found in, by the same graph.
    parts : sequence of str
        Names of the parts that are taught. One that is called by the id, name or title of one of
        the graph's parts starts with that part's places as guesses.
    images : ImageFolder or other images, optional
        The images of the parse. With an `ImageFolder` marks are written in pixels of its files.
    out : path of a folder, optional
        Where everything is written, at once; where there was a teacher, it goes on. By default
        nothing is written.
    target : float, optional
        Error, share of the image's diagonal, at which it suggests to stop. By default it does
        when five more answers are expected to gain less than a tenth.
    seed : int

    Raises
    ------
    ExplgraphError
        If the parse is of another graph, images are not those of the parse, a name or the target is
        no such thing, or `out` can't be written to, is of other images, or is being taught in by
        another process.

    Warns
    -----
    ExplgraphWarning
        If the poses of the mined images told little.

    Examples
    --------
    >>> teacher = explgraph.Teacher(graph, parse, ["head"])  # doctest: +SKIP
    >>> question = teacher.question()  # doctest: +SKIP
    >>> teacher.answer(question, {"head": (40.0, 31.5)}).error  # doctest: +SKIP
    """

    def __init__(
        self,
        graph: ExplanatoryGraph,
        parse: Parse,
        parts: Iterable[str] = (),
        *,
        images: Drawable | None = None,
        out: str | os.PathLike[str] | None = None,
        target: float | None = None,
        seed: int = 0,
    ) -> None:
        check_graph(graph)
        check_parse(parse)
        if parse.nodes != graph.node_ids:
            raise ExplgraphError(
                f"parse is of {len(parse.nodes):,} nodes, graph has {len(graph):,} or others; "
                "parse the images with this graph"
            )
        if not parse.nodes or not parse.names:
            raise ExplgraphError(
                f"{parse!r} holds nothing to ask about; a teacher needs nodes and images"
            )
        warn_if_weak(graph.nx.graph["config"])
        wanted = checked_names(parts)
        self.target = checked_target(target)
        self.seed = checked_seed(seed)
        self.parse = parse
        check_images(images, parse)
        self.images = images
        self._folder = images if isinstance(images, ImageFolder) else None
        self._began_with = graph
        self._row = {name: row for row, name in enumerate(parse.names)}
        self._lock = threading.RLock()
        self._journal = Journal(out)
        try:
            self._record = Record(self._journal.events)
            self._begin(wanted)
            self._fits = Fits(graph, parse)
            self._decisions: list[Answer] = []
            self._learn()
            self._write()
        except BaseException:
            self._journal.close()
            raise

    def _begin(self, wanted: list[str]) -> None:
        """Begin the journal, or see that it is of the same images; then the parts that are new."""
        about: Event = {
            "event": "begin",
            "format": FORMAT,
            "version": VERSION,
            "nodes": len(self.parse.nodes),
            "image_size": list(self.parse.image_size),
            "names": list(self.parse.names),
        }
        begun = self._record.begun
        if begun is None:
            if self._journal.events:
                raise ExplgraphError(
                    f"out, {str(self._journal.folder)!r}, has a journal that doesn't say what is "
                    "taught; choose another folder"
                )
            self._take(about)
        else:
            for key, told in about.items():
                if begun.get(key) != told:
                    raise ExplgraphError(
                        f"out, {str(self._journal.folder)!r}, is of another "
                        f"{differs(key, begun, told)}; give the graph and the images that were "
                        "taught there, or choose another folder"
                    )
        for name in wanted:
            if name not in self._record.parts:
                self._take({"event": "part", "name": name})

    def _take(self, event: Event) -> None:
        """Write an event, then take it up."""
        self._record.take(self._journal.add(event))

    def _learn(self) -> None:
        """Fit what has changed; tell how far the last answer has led if nobody has."""
        decisions = [one for one in self._record.answers if one.asked.kind != "mark"]
        if decisions != self._decisions:
            self._decisions = decisions
            self._fits.decide(decided(self._began_with, decisions))
            if self._journal.folder is not None:
                self._fits.graph.write_labels(self._journal.folder / "labels.json")
        n = len(self.parse.names)
        self._fits.update({part: self._record.places(part, n) for part in self._record.parts})
        if self._record.answers:
            last = self._record.answers[-1].number
            if last not in self._record.progress:
                self._tell(last)

    def _tell(self, number: int) -> None:
        """Write how far an answer has led."""
        told = progress_of(self._fits, self._record, self.target)._asdict()
        told["errors"] = {part: _json(value) for part, value in told["errors"].items()}
        told["error"], told["gain"] = _json(told["error"]), _json(told["gain"])
        self._take({"event": "progress", "answer": number} | told)

    def _write(self) -> None:
        """Write the marks as files."""
        if self._journal.folder is not None:
            record = self._record
            write_marks(self._journal.folder, record.said(), record.parts, self.parse, self._folder)

    def __repr__(self) -> str:
        with self._lock:
            answered = counted(len(self._record.answered()), "image")
            parts = few(self._record.parts, 5) or "no part yet"
            return f"Teacher: {parts}; {answered} of {len(self.parse.names):,} answered"

    @property
    def out(self) -> Path | None:
        """The folder that everything is written to, if there is one."""
        return self._journal.folder

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that are taught."""
        with self._lock:
            return tuple(self._record.parts)

    def add_part(self, name: str) -> None:
        """Teach a further part from now on; images that were answered are asked about for it.

        Raises
        ------
        ExplgraphError
            If the name is none, or is taught already.
        """
        name = checked_name(name)
        with self._lock:
            if name in self._record.parts:
                raise ExplgraphError(f"the part {name!r} is taught already")
            self._take({"event": "part", "name": name})

    # ---------------------------------------------------------------------- questions and answers

    def question(self, who: str = "", *, image: str | None = None) -> Question | None:
        """Ask what helps most.

        Parameters
        ----------
        who : str
            Who is asked. The same person gets the same question until it is answered, and no
            question that another one has been asked and hasn't answered.
        image : str, optional
            Ask about this image, whatever is gained.

        Returns
        -------
        Question or None
            None if nothing is left worth asking, or no part is taught yet.

        Raises
        ------
        ExplgraphError
            If there is no such image.
        """
        who = checked_who(who)
        with self._lock:
            if image is not None:
                row = self._row_of(image)
                here = self._record.open.get(who)
                if here is None or self._record.asked[here].row != row:
                    self._ask("mark", who, row, reason="You chose this image.")
                return self._shown(self._record.asked[self._record.open[who]])
            if not self._record.parts:
                return None
            if who not in self._record.open:
                doubt = self._doubt()
                if doubt is not None:
                    self._ask(doubt.kind, who, -1, doubt.things, doubt.reason)
                else:
                    asked = (self._record.asked[id_].row for id_ in self._record.open.values())
                    taken = self._record.finished() | {*asked} - {-1}
                    if len(taken) >= len(self.parse.names):
                        return None
                    row, reason = choose_image(self._fits, taken, self.seed)
                    self._ask("mark", who, row, reason=reason)
            return self._shown(self._record.asked[self._record.open[who]])

    def _doubt(self) -> Doubt | None:
        """Give a question about the graph, if one is due."""
        told = self.progress()
        return next_doubt(self._fits, self._record, told[-1].gain, told[-1].error) if told else None

    def _ask(
        self, kind: Kind, who: str, row: int, things: tuple[str, ...] = (), reason: str = ""
    ) -> None:
        self._take({
            "event": "asked", "id": self._record.next_question, "kind": kind,
            "image": self.parse.names[row] if row >= 0 else "", "row": row,
            "things": list(things), "reason": reason, "who": who,
        })  # fmt: skip

    def _shown(self, asked: Asked) -> Question:
        """Give a question with what is guessed now."""
        parts: tuple[str, ...] = ()
        guesses: dict[str, Guess] = {}
        if asked.kind == "mark":
            told = self._record.said().get(asked.row, {})
            parts = tuple(part for part in self._record.parts if part not in told)
            guesses = self._fits.guesses_in(asked.row, self._record.parts)
        return Question(
            asked.id, asked.kind, asked.image, asked.row, parts, guesses, asked.things, asked.reason
        )

    def answer(
        self,
        question: Question | int,
        said: Mapping[str, Place | None] | bool | None,
        who: str = "",
        *,
        name: str = "",
    ) -> Progress:
        """Take an answer: it is on disk when this returns.

        Parameters
        ----------
        question : Question or int
            Or its ``id``.
        said : mapping of str to (float, float) or None; or bool or None
            Of "mark": by part, ``(x, y)`` px of the image as the network saw it, None where it
            isn't visible; parts that are left out are skipped in this image. Of "same" and
            "noise": True, False, None to skip. An image that was answered before is answered anew
            for the parts that are named.
        who : str
            Whose answer it is, for `undo`.
        name : str
            Of "same" and "noise": what the part that was merged or kept is called.

        Raises
        ------
        ExplgraphError
            If there is no such question or part, a place is no place in the image, or the answer
            can't be written.
        """
        who, name = checked_who(who), checked_name(name) if name != "" else ""
        with self._lock:
            asked = self._asked(question)
            taken = checked_said(asked.kind, said, self._record.parts, self.parse.image_size)
            mine = [one for one in self._record.answers if one.who == who][-1:]
            if [(one.asked, _told(one.said), one.name) for one in mine] == [(asked, taken, name)]:
                return self._led(mine[0].number)  # sent twice: a reply was lost
            before, unlike = {}, 1.0
            if asked.kind == "mark" and asked.row not in self._record.answered():
                before = {
                    part: [*found.place[asked.row].tolist(), float(found.radius[asked.row])]
                    for part, found in self._fits.found.items()
                }
                answered = self._record.answered()
                unlike = unlike_so_far(self._fits, answered, asked.row, self.seed)
            number = self._record.next_answer
            self._take({
                "event": "answer", "number": number, "question": asked.id, "said": taken,
                "name": name, "who": who, "before": before, "unlike": unlike,
            })  # fmt: skip
            return self._led(number)

    def _led(self, number: int) -> Progress:
        """Learn from an answer that is in the journal, also if that failed at first."""
        self._learn()
        self._write()
        if number not in self._record.progress:  # others have answered meanwhile
            self._tell(number)
        return self._record.progress[number]

    def _asked(self, question: Question | int) -> Asked:
        number = question.id if isinstance(question, Question) else question
        whole = isinstance(number, Integral) and not isinstance(number, bool)
        if not whole or number not in self._record.asked:
            raise ExplgraphError(
                f"there is no question {number!r:.80}; give one that question() gave, or its id"
            )
        return self._record.asked[int(number)]

    def undo(self, who: str = "") -> Question | None:
        """Take back the last answer of a person, and give that question again.

        Returns
        -------
        Question or None
            None if there is no answer of theirs.
        """
        who = checked_who(who)
        with self._lock:
            mine = [one for one in self._record.answers if one.who == who]
            if not mine:
                return None
            self._take({"event": "undo", "answer": mine[-1].number})
            self._learn()
            self._write()
            return self._shown(mine[-1].asked)

    # ----------------------------------------------------------------------------- what is known

    def guesses(self) -> Located:
        """Give where the parts are in all images, as far as is known: those that were marked."""
        with self._lock:
            return self._fits.located()

    def marked(self) -> dict[str, dict[str, Place | None]]:
        """Give what was said: by image, by part, the place (px), or None where it isn't visible."""
        with self._lock:
            said = self._record.said()
            return {self.parse.names[row]: dict(told) for row, told in sorted(said.items())}

    def progress(self) -> tuple[Progress, ...]:
        """Give how far each answer has led, those that were taken back left out."""
        with self._lock:
            told = self._record.progress
            return tuple(told[a.number] for a in self._record.answers if a.number in told)

    @property
    def localizer(self) -> Localizer:
        """A localizer of the parts that were marked so far, for other images and for files.

        Raises
        ------
        ExplgraphError
            If nothing was marked yet.
        """
        with self._lock:
            if not self._fits.parts:
                raise ExplgraphError("nothing was marked yet; answer a question first")
            return self._fits.localizer()

    @property
    def graph(self) -> ExplanatoryGraph:
        """The graph with the names of the parts that were taught, and what was decided: a copy."""
        with self._lock:
            if not self._fits.parts:
                return self._fits.graph.restricted(self._fits.graph.node_ids)
            return self.localizer.label()

    @property
    def decided(self) -> ExplanatoryGraph:
        """The graph with what was decided alone: at once, where `graph` names parts in a copy."""
        with self._lock:
            return self._fits.graph

    def finish(self) -> Path | None:
        """Write ``graph.explgraph``, ``labels.json`` and ``localizer`` into the folder.

        The graph has the names that were taught, what was decided, and how the parts are located
        (`Localizer.and_or`). The teacher goes on afterwards, if you like.

        Returns
        -------
        path or None
            The folder; None if there is none.
        """
        with self._lock:
            folder = self._journal.folder
            if folder is not None:
                graph = self.graph
                if self._fits.parts:
                    graph = graph.with_and_or(self.localizer.and_or(self.parse))
                graph.save(folder / "graph.explgraph")
                graph.write_labels(folder / "labels.json")
                if self._fits.parts:
                    self.localizer.save(folder / "localizer")
            return folder

    def close(self) -> None:
        """Let go of the folder, so that another process may go on."""
        with self._lock:
            self._journal.close()

    def __enter__(self) -> Teacher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _row_of(self, image: str) -> int:
        if not isinstance(image, str) or image not in self._row:
            raise ExplgraphError(
                f"there is no image {image!r:.120}{nearest(str(image), self.parse.names)}; see "
                "parse.names"
            )
        return self._row[image]


def _told(said: Any) -> Any:
    """Give what was said as JSON has it."""
    if not isinstance(said, Mapping):
        return said
    return {part: place if place is None else [*place] for part, place in said.items()}


def _json(value: float) -> float | None:
    """Turn NaN into JSON's null."""
    return value if math.isfinite(value) else None
