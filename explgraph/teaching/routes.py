"""What the page asks of the server, and what it is told: JSON over a `Teacher`.

| request | what for |
|---|---|
| ``GET state`` | everything but the question: parts, the curve, other images with their guesses |
| ``POST question`` | what this browser should be asked, or what is asked of an image |
| ``POST answer`` | what the person said; gives the state and the next question |
| ``POST undo`` | takes the last answer of this browser back |
| ``POST part`` | adds a part by its name |
| ``POST finish`` | writes the graph and says where the files are |
| ``GET image/ROW``, ``thumbnail/ROW``, ``patch/ROW/X/Y`` | pictures |
| ``GET``, ``page.css``, ``*.js`` | the page |

Answers name their question by its id, which the teacher's journal knows, so that they find it after
the server was killed and started anew. What is wrong with a request is said as ``{"error": ...}``
with a 4xx code.
"""

from __future__ import annotations

import json
import math
import secrets
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from importlib import resources
from typing import Any, TypeAlias

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from explgraph.answers.located import Located
from explgraph.errors import ExplgraphError, one_line
from explgraph.teaching.page_state import PageState
from explgraph.teaching.served_pictures import ServedPictures
from explgraph.teaching.teacher import Teacher

__all__ = ["Routes"]

_LARGEST = 64 * 1024  # bytes of a request: an answer about a hundred parts has some kB
_LONGEST = 200  # characters of a name, as the page limits them
_MOST = 500  # images whose guesses one request may ask for
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}

Body: TypeAlias = "dict[str, Any]"


class Routes:
    """Answers of the server; `all` lists them for Starlette.

    Parameters
    ----------
    teacher : Teacher
    pictures : ServedPictures
        In the order of the parse's rows.
    """

    def __init__(self, teacher: Teacher, pictures: ServedPictures) -> None:
        self._teacher = teacher
        self._pictures = pictures
        self._state = PageState(teacher)
        self._count = len(teacher.parse.names)
        folder = resources.files("explgraph.teaching").joinpath("page")
        self._files = {
            file.name: file.read_bytes()
            for file in folder.iterdir()
            if file.name.endswith(tuple(_KINDS))
        }
        # a page that knows another run's revision asks for everything
        self._run = secrets.token_hex(4)
        self._changes = 0
        self._lock = threading.Lock()

    def all(self) -> list[Route]:
        """List the routes."""
        reads = {"state": self.state}
        writes = {
            "question": self.question,
            "answer": self.answer,
            "undo": self.undo,
            "part": self.part,
            "finish": self.finish,
        }
        return [
            Route("/", self._page),
            *(Route(f"/{name}", _reading(give)) for name, give in reads.items()),
            *(Route(f"/{name}", _writing(do), methods=["POST"]) for name, do in writes.items()),
            Route("/image/{row:int}", self._picture(self._pictures.image)),
            Route("/thumbnail/{row:int}", self._picture(self._pictures.thumbnail)),
            Route("/patch/{row:int}/{x:float}/{y:float}", self._patch),
            Route("/{name}", self._page),
        ]

    # --- the page and its pictures ---

    def _page(self, request: Request) -> Response:
        name = request.path_params.get("name", "page.html")
        if name not in self._files:
            raise HTTPException(404, f"there is nothing called {name!r}")
        kind = _KINDS[name[name.rindex(".") :]]
        return Response(self._files[name], media_type=f"{kind}; charset=utf-8")

    def _picture(self, make: Callable[[int], bytes]) -> Callable[[Request], Response]:
        def give(request: Request) -> Response:
            row = request.path_params["row"]
            self._check_row(row)
            return Response(make(row), media_type="image/jpeg")

        return give

    def _patch(self, request: Request) -> Response:
        row, x, y = (request.path_params[name] for name in ("row", "x", "y"))
        self._check_row(row)
        return Response(self._pictures.patch(row, x, y), media_type="image/jpeg")

    def _check_row(self, row: int) -> None:
        if not 0 <= row < self._count:
            raise HTTPException(404, f"there is no image {row}; there are {self._count}")

    # --- what is told ---

    def state(self, asked: Mapping[str, str]) -> Body:
        """Tell everything but the question; only the revision if ``since`` is the present one."""
        revision = self._revision()
        if asked.get("since") == revision:
            return {"revision": revision}
        count = _number(asked.get("count", "24"), "count")
        order = asked.get("order", "unsure")
        shown = [row for row in _numbers(asked.get("shown", "")) if row < self._count]
        return {"revision": revision} | self._state.told(order, count, shown)

    def question(self, body: Body) -> Body:
        """Ask this browser something; of an image if one is named."""
        image = _text(body, "image") if body.get("image") is not None else None
        asked = self._teacher.question(_who(body), image=image)
        return {"question": self._state.asked(asked)}

    def answer(self, body: Body) -> Body:
        """Take an answer; give how many guesses moved, and the next question."""
        who, question, said = _who(body), body.get("question"), _said(body)
        if type(question) is not int:
            raise ExplgraphError("question is missing; expected the id of the one that was asked")
        name = _text(body, "name") if body.get("name") else ""
        before = self._teacher.guesses()
        self._teacher.answer(question, said, who, name=name)
        revision = self._changed()
        asked = self._teacher.question(who)
        moved = _moved(before, self._teacher.guesses(), self._teacher.parse.image_size)
        return {"revision": revision, "moved": moved, "question": self._state.asked(asked)}

    def undo(self, body: Body) -> Body:
        """Take back the last answer of this browser; give its question again."""
        again = self._teacher.undo(_who(body))
        return {"revision": self._changed(), "question": self._state.asked(again)}

    def part(self, body: Body) -> Body:
        """Add a part; give the question that this browser has now."""
        who, name = _who(body), _text(body, "name")
        self._teacher.add_part(name)
        return {
            "revision": self._changed(),
            "question": self._state.asked(self._teacher.question(who)),
        }

    def finish(self, body: Body) -> Body:
        """Write the graph; say where everything is."""
        _who(body)
        folder = self._teacher.finish()
        return {"out": None if folder is None else str(folder)}

    def _revision(self) -> str:
        return f"{self._run}-{self._changes}"

    def _changed(self) -> str:
        with self._lock:
            self._changes += 1
            return self._revision()


def _moved(before: Located, after: Located, size: tuple[int, int]) -> int:
    """Count the images in which a guess moved by more than a hundredth of the diagonal."""
    far = 0.01 * math.hypot(*size)
    moved = np.zeros(len(after.names), dtype=bool)
    for part, places in after.positions.items():
        if part in before.positions:
            with np.errstate(invalid="ignore"):
                moved |= np.hypot(*(places - before.positions[part]).T) > far
        else:
            moved |= np.isfinite(places).all(axis=1)
    return int(moved.sum())


# --- requests ---


def _reading(give: Callable[[Mapping[str, str]], Body]) -> Callable[[Request], Any]:
    """Make an endpoint of a function of the query."""

    async def endpoint(request: Request) -> Response:
        return await _answered(give, request.query_params)

    return wraps(give)(endpoint)


def _writing(do: Callable[[Body], Body]) -> Callable[[Request], Any]:
    """Make an endpoint of a function of the body."""

    async def endpoint(request: Request) -> Response:
        return await _answered(do, await _body(request))

    return wraps(do)(endpoint)


async def _answered(do: Callable[[Any], Body], asked: Any) -> Response:
    """Run a function in a thread, for it may compute; say its errors as JSON."""
    try:
        return JSONResponse(await run_in_threadpool(do, asked))
    except ExplgraphError as err:
        raise HTTPException(400, str(err)) from err


async def failed(request: Request, err: Exception) -> Response:
    """Say an error as JSON, without where it happened: that is for the terminal."""
    if isinstance(err, HTTPException):
        return JSONResponse({"error": err.detail}, err.status_code)
    if isinstance(err, ExplgraphError):
        return JSONResponse({"error": str(err)}, 400)
    told = f"error: {request.method} {request.url.path:.80}: {one_line(err):.300}"
    print(told, file=sys.stderr)
    return JSONResponse({"error": "something went wrong; the terminal says what"}, 500)


async def _body(request: Request) -> Body:
    """Read a request's JSON, of which there may be so much."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "expected JSON")
    read = bytearray()
    async for piece in request.stream():
        read += piece
        if len(read) > _LARGEST:
            raise HTTPException(413, f"expected {_LARGEST} bytes at most")
    try:
        body = json.loads(read)
    except (ValueError, RecursionError) as err:
        raise HTTPException(400, "this isn't JSON") from err
    if not isinstance(body, dict):
        raise HTTPException(400, "expected a JSON object")
    return body


def _text(body: Body, key: str) -> str:
    """Give a text of a request."""
    text = body.get(key)
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise ExplgraphError(f"{key} must be a text of {_LONGEST} characters at most")
    return text


def _who(body: Body) -> str:
    """Give which browser asks."""
    who = _text(body, "who")
    if not who:
        raise ExplgraphError("who is empty; expected what tells this browser from others")
    return who


def _names(body: Body, key: str) -> tuple[str, ...]:
    """Give a list of texts."""
    names = body.get(key)
    if not isinstance(names, list) or len(names) > _MOST:
        raise ExplgraphError(f"{key} must be a list of names")
    return tuple(_text({key: name}, key) for name in names)


def _said(body: Body) -> Any:
    """Give what was said, places as the teacher takes them; it checks whether they are any."""
    said = body.get("said")
    if isinstance(said, dict):
        for part, place in said.items():
            numbers = isinstance(place, list) and all(type(v) in (int, float) for v in place)
            if place is not None and not (numbers and len(place) == 2):
                raise ExplgraphError(f"the place of {part!r} must be [x, y] px, or null")
    elif said is not None and not isinstance(said, bool):
        raise ExplgraphError("said must be places by part, true, false, or null")
    return said


def _number(text: str, key: str) -> int:
    """Give a whole number of a query."""
    short = text.isascii() and text.isdecimal() and len(text) < 10
    if not short or not 0 < int(text) <= _MOST:
        raise ExplgraphError(f"{key} is {text[:20]!r}; expected 1 to {_MOST}")
    return int(text)


def _numbers(text: str) -> Sequence[int]:
    """Give whole numbers with commas between."""
    numbers = [piece for piece in text.split(",") if piece]
    if len(numbers) > _MOST or not all(
        n.isascii() and n.isdecimal() and len(n) < 10 for n in numbers
    ):
        raise ExplgraphError(f"shown is {text[:20]!r}; expected up to {_MOST} rows")
    return [int(n) for n in numbers]
