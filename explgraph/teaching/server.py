"""Teaching in the browser: a server on this machine only, which knows one `Teacher`.

Starlette and uvicorn do the work; who gets in is decided in `gate`, what is answered in `routes`.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from explgraph.errors import ExplgraphError, MissingPackageError

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
except ImportError as err:
    raise MissingPackageError(
        "teaching in the browser needs starlette and uvicorn, which aren't installed: "
        "pip install 'explgraph[teach]'"
    ) from err

from explgraph.teaching.address import Address
from explgraph.teaching.gate import Gate
from explgraph.teaching.routes import Routes, failed
from explgraph.teaching.served_pictures import ServedPictures
from explgraph.views.pictures import Pictures

if TYPE_CHECKING:
    from explgraph.teaching.teacher import Teacher

__all__ = ["Served", "serve", "serving"]

_PATIENCE = 2  # seconds that answers under way have when the server is ended


def serve(teacher: Teacher, *, port: int | None = None, open_browser: bool = True) -> None:
    """Let people teach in the browser, from a server on this machine only, until Ctrl-C or SIGTERM.

    What was answered is written at once (`Teacher`); at the end the graph is, too. The address
    holds a random token, without which the server answers nothing. If the teacher has a folder,
    token and port are kept there, so that pages that are open go on after a restart.

    Parameters
    ----------
    teacher : Teacher
        With ``images=``, to show them.
    port : int, optional
        By default the one that the folder keeps, or a free one.
    open_browser : bool
        Open the page; otherwise its address is only printed.

    Raises
    ------
    ExplgraphError
        If the teacher has no images, or the port is taken.
    """
    with serving(teacher, port=port) as served:
        print(f"Teach at {served.address.url} (Ctrl-C ends it)", flush=True)
        with served.address.opening(teacher.out) as file:
            if open_browser:
                webbrowser.open(file.resolve().as_uri())
            try:
                with _terminable():
                    served.run()
            except KeyboardInterrupt:
                with suppress(OSError):  # whoever read what is printed may be gone
                    print(flush=True)
    teacher.finish()


@contextmanager
def _terminable() -> Iterator[None]:
    """Let whoever ends the process (``kill``, a shutdown) have what Ctrl-C gives: a written end."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # has no say about signals
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


class Served:
    """A server that is bound to its port.

    Attributes
    ----------
    address : Address
        Of the page.
    """

    def __init__(self, app: Gate, address: Address, bound: socket.socket) -> None:
        self.address = address
        self._bound = bound
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_PATIENCE,
            )
        )

    def run(self) -> None:
        """Answer requests until `stop`, or Ctrl-C."""
        self._server.run(sockets=[self._bound])

    def stop(self) -> None:
        """End `run`, which another thread is in."""
        self._server.should_exit = True


@contextmanager
def serving(teacher: Teacher, *, port: int | None = None) -> Iterator[Served]:
    """Give a server that is bound to 127.0.0.1; `serve` runs it."""
    if teacher.images is None:
        raise ExplgraphError("the teacher has no images to show; give Teacher(..., images=)")
    parse = teacher.parse
    pictures = ServedPictures(Pictures.of(teacher.images, parse.image_size, parse), parse.names)
    kept = Address.kept(teacher.out)
    with _bound(port, kept.port) as (listening, taken):
        address = kept._replace(port=taken)
        if teacher.out is not None:
            address.keep(teacher.out)
        routes = Routes(teacher, pictures).all()
        app = Starlette(
            routes=routes, exception_handlers=dict.fromkeys((HTTPException, Exception), failed)
        )
        yield Served(Gate(app, address.token, taken), address, listening)


@contextmanager
def _bound(port: int | None, kept: int) -> Iterator[tuple[socket.socket, int]]:
    """Take a port: the one that is asked for, or the one that was kept, or a free one."""
    listening = socket.socket()
    try:
        if os.name == "posix":  # what a killed server held is free again at once
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for tried in (kept, 0) if port is None else (port,):
            try:
                listening.bind(("127.0.0.1", tried))
                break
            except (OSError, OverflowError) as err:
                if tried == 0 or port is not None:
                    raise ExplgraphError(
                        f"can't serve on port {tried}: {getattr(err, 'strerror', None) or err}; "
                        "without a port a free one is taken"
                    ) from err
        listening.listen()  # from now on browsers wait rather than fail
        yield listening, listening.getsockname()[1]
    finally:
        listening.close()
