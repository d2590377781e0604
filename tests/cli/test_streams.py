"""Streams that are closed or full, and Ctrl-C before a command has begun."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from explgraph.cli.entry import main

INFO = ["info", "--model", "explgraph.creatures:network", "--size", "32"]
COMMANDS = {
    "demo": ["demo", "--out", "o"],
    "record": ["record", "--images", "i", "--model", "m:m", "--layers", "a", "--store", "s"],
    "mine": ["mine", "--store", "s", "--out", "o"],
    "parse": ["parse", "g", "--images", "i", "--model", "m:m", "--out", "o.csv"],
    "evaluate": ["evaluate", "g", "--images", "i", "--model", "m:m", "--landmarks", "l.csv"],
    "locate": ["locate", "g", "--images", "i", "--model", "m:m", "--suggest", "3"],
    "export": ["export", "g", "o.dot"],
    "view": ["view", "g"],
    "info": INFO,
    "quiet": [*INFO, "--quiet"],
}


def command(*arguments: str, redirected: str) -> subprocess.CompletedProcess[str]:
    """Run explgraph in a shell, with streams redirected."""
    line = f'exec "$0" -m explgraph "$@" {redirected}'
    return subprocess.run(
        ["sh", "-c", line, sys.executable, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_closed_stdout_is_told_before_any_work(name, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as closed:
        closed.setattr(sys, "stdout", None)
        code = main(COMMANDS[name])
    assert code == 1
    told = "error: standard output is closed; redirect it to a file or to /dev/null\n"
    assert capsys.readouterr().err == told
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_streams_that_are_closed_or_full():
    done = command(*INFO, redirected=">&-")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: standard output is closed")
    # nothing can be said, but nothing goes elsewhere, either
    for wrong, code in ((["info", "--model", "nope"], 1), (["nope"], 2)):
        done = command(*wrong, redirected="2>&-")
        assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
    if os.path.exists("/dev/full"):
        done = command(*INFO, redirected=">/dev/full")
        assert (done.returncode, done.stderr) == (1, "error: [Errno 28] No space left on device\n")


WHILE_IMPORTING = """
import importlib.abc, os, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it for what runs behind

class Hurried(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000):
                    pass
            except KeyboardInterrupt:
                raise ImportError("cut short")  # as modules written in C make of it

sys.meta_path.insert(0, Hurried())
sys.argv = ["explgraph", "info", "--model", "explgraph.creatures:network"]
from explgraph.__main__ import run
sys.exit(run())
"""


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
@pytest.mark.parametrize("module", ["torch", "explgraph.network.layers"])
def test_ctrl_c_while_importing_ends_with_130(module):
    done = subprocess.run(
        [sys.executable, "-c", WHILE_IMPORTING.format(module=module)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_ctrl_c_before_the_command_line_is_read(monkeypatch, capsys):
    from explgraph import __main__

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("explgraph.cli.entry.main", interrupted)
    assert __main__.run() == 130
    assert capsys.readouterr().err == "stopped\n"
