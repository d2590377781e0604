"""Files appear whole or not at all, and nothing is left behind."""

import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile

import pytest

from explgraph import ExplgraphError, atomic
from explgraph.atomic import atomic_write

KILLED = """
import os, signal, sys
from explgraph.atomic import atomic_write
with atomic_write(sys.argv[1]) as path:
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_deleted_by_the_next(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("before")
    done = subprocess.run([sys.executable, "-c", KILLED, target])
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    assert target.read_text() == "before"
    mine = tmp_path / ".a-notes.txt"
    mine.write_text("no temporary file")
    atomic._swept.clear()
    with atomic_write(target) as path:
        path.write_text("after")
    assert target.read_text() == "after"
    assert sorted(tmp_path.iterdir()) == [mine, target]


def test_a_file_that_somebody_is_writing_is_left_alone(tmp_path):
    with atomic_write(tmp_path / "a.txt") as one:
        one.write_text("one")
        atomic._swept.clear()
        with atomic_write(tmp_path / "a.txt") as two:
            two.write_text("two")
            assert one.exists()
    assert (tmp_path / "a.txt").read_text() == "one"


def test_what_was_swept_away_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    usual, made = tempfile.mkstemp, []

    def swept(**options):
        handle, name = usual(**options)
        made.append(name)
        if len(made) < 3:
            os.unlink(name)  # by another process, at the worst moment
        return handle, name

    monkeypatch.setattr(tempfile, "mkstemp", swept)
    with atomic_write(tmp_path / "a.txt") as path:
        path.write_text("x")
    assert len(made) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_told(tmp_path, code):
    told = pytest.raises(ExplgraphError, match=r"can't write '.*a.txt': .*; make room")
    with told, atomic_write(tmp_path / "a.txt"):
        raise OSError(code, os.strerror(code))
    assert not list(tmp_path.iterdir())


def test_a_limit_of_size_is_told(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    usual = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with (
            pytest.raises(ExplgraphError, match=r"File too large; make room"),
            atomic_write(tmp_path / "a.txt") as path,
        ):
            path.write_bytes(bytes(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, usual)
    assert not list(tmp_path.iterdir())
