"""What a teacher asks, what it guesses, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Guess", "Kind", "Place", "Progress", "Question"]

Kind: TypeAlias = Literal["mark", "same", "noise"]
Place: TypeAlias = "tuple[float, float]"


class Guess(NamedTuple):
    """Where a part is in one image, as far as is known.

    Attributes
    ----------
    place : (float, float)
        ``[x, y]`` px of the image as the network saw it.
    radius : float
        px; holds the part nine times in ten.
    presence : float
        How probable it is that the part is there, 0 to 1; NaN where absence was never told.
    """

    place: Place
    radius: float
    presence: float


@dataclass(frozen=True)
class Question:
    """A question to a person.

    Attributes
    ----------
    id : int
        Unique within the teacher's folder, after a restart as well.
    kind : "mark", "same" or "noise"
        Where parts are in an image; whether two things of the graph are the same; whether one is
        noise.
    image : str
        Its name; empty unless `kind` is "mark".
    row : int
        Of the parse; -1 unless `kind` is "mark".
    parts : tuple of str
        Of "mark": those asked for that have no answer in this image yet.
    guesses : dict of str to Guess
        Of "mark": by part, without those of which nothing is known.
    things : tuple of str
        Of "same" two ids of parts of the graph, of "noise" one.
    reason : str
        Why this is asked: a sentence.
    """

    id: int
    kind: Kind
    image: str
    row: int
    parts: tuple[str, ...]
    guesses: dict[str, Guess] = field(hash=False)
    things: tuple[str, ...]
    reason: str


class Progress(NamedTuple):
    """How far teaching has come, after an answer.

    Attributes
    ----------
    answers : int
        Images that were answered.
    errors : dict of str to float
        By part: the error that is expected in images that nobody marked, mean distance, share of
        the image's diagonal; NaN before the first mark.
    error : float
        Their mean.
    gain : float
        By how much the next five answers are expected to lower it.
    stop : bool
        Whether it suggests to stop.
    advice : str
        Why, or why not: a sentence.
    """

    answers: int
    errors: dict[str, float]
    error: float
    gain: float
    stop: bool
    advice: str
