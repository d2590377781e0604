"""The command line: ``explgraph COMMAND``, from ``demo`` and ``mine`` to ``view`` (`parser`).

Exit codes: 0 all went well; 1 something that the user can mend, said in one line on stderr; 2 the
command line itself is wrong; 130 stopped by Ctrl-C. Results go to stdout; warnings and progress
bars (on a terminal) go to stderr. Something is there within a second: a word on what is loaded.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from explgraph import __version__
from explgraph.cli import (
    answers,
    circuits,
    comparing,
    explaining,
    graphs,
    mending,
    mining,
    places,
    teaching,
    visualize,
)
from explgraph.errors import ExplgraphError, ExplgraphWarning

__all__ = ["main", "parser"]

_STDERR = 2
_IMPORTING = "<frozen importlib"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, optional
        What stands after ``explgraph``; the process's own arguments by default.

    Returns
    -------
    int
        The exit code. A wrong command line, ``--help`` and ``--version`` end by SystemExit.
    """
    _open_stderr()
    options = parser().parse_args(arguments)
    if sys.stdout is None:
        return _failed("standard output is closed; redirect it to a file or to /dev/null")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may be no UTF-8
            stream.reconfigure(errors="backslashreplace")
    # so that "package.module:factory" finds what lies in the current folder
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        with _plain_warnings(), _stoppable():
            if not options.quiet and sys.stderr.isatty():
                _load()
            options.run(options)
            sys.stdout.flush()
    except ExplgraphError as err:
        return _failed(err)
    except RuntimeError as err:
        if type(err).__name__ != "OutOfMemoryError":  # torch's, which is not imported for it alone
            raise
        return _failed(f"the GPU's memory is full ({err}); give a smaller --batch-size")
    except BrokenPipeError:
        # whoever read our output has gone (explgraph info ... | head); nothing is left to say
        _discard_output()
        return 0
    except OSError as err:
        # what couldn't be written would be tried again, and fail again, at the end of the process
        _discard_output()
        return _failed(err)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def _load() -> None:
    """Say at once, on a terminal, what is waited for: torch takes seconds to be imported."""
    told = "loading torch ..."
    print(told, end="\r", file=sys.stderr, flush=True)
    import torch  # noqa: F401

    print(" " * len(told), end="\r", file=sys.stderr, flush=True)


def _open_stderr() -> None:
    """Give a process whose stderr is closed one that leads nowhere.

    Otherwise the next file that is opened takes its number, and libraries write into it.
    """
    if sys.stderr is None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != _STDERR:
            os.dup2(nowhere, _STDERR)
            os.close(nowhere)
        sys.stderr = os.fdopen(_STDERR, "w", closefd=False)


def _discard_output() -> None:
    """Let what is still to be written to stdout lead nowhere."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let Ctrl-C end the process at once while a command imports what it needs.

    Modules in C turn a KeyboardInterrupt into errors of their own, or can't do without what it cut
    short. A command imports before it does anything that would have to be tidied up.
    """
    here = str(Path(__file__).parent)

    def stop(number: int, frame: FrameType | None) -> None:
        importing = False
        while frame is not None:
            name = frame.f_code.co_filename
            if importing and not name.startswith(_IMPORTING):
                if name.startswith(here):
                    os.write(_STDERR, b"stopped\n")
                    os._exit(130)
                importing = False
            importing = importing or name.startswith(_IMPORTING)
            frame = frame.f_back
        signal.default_int_handler(number, frame)

    # elsewhere, and where the caller has its own, Python sets no handler
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _failed(error: object) -> int:
    """Tell the user in one line what went wrong."""
    print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)
    return 1


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print explgraph's own warnings as one line each, without the place in the code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", ExplgraphWarning)
        usual = warnings.showwarning
        said = set()

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, ExplgraphWarning):
                if str(message) in said:
                    return
                said.add(str(message))
                print(f"warning: {' '.join(str(message).splitlines())}", file=sys.stderr)
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    whole = argparse.ArgumentParser(
        prog="explgraph",
        description="Explanatory graphs: the object parts behind the filters of a trained CNN.",
        epilog="example: explgraph demo",
    )
    whole.add_argument("--version", action="version", version=f"explgraph {__version__}")
    commands = whole.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], None], about: str, *examples: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=about,
            description=about[0].upper() + about[1:] + ".",
            epilog="\n  ".join(["example:", *examples]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        added.add_argument("--quiet", action="store_true", help="no progress bars, no summary")
        return added

    for family in (
        mining, places, teaching, explaining, circuits, answers, mending, comparing, visualize,
        graphs,
    ):  # fmt: skip
        family.add(command)
    return whole
