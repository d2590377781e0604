"""Where bars are shown, and what is said ahead."""

import io
import sys
import types

import pytest

from explgraph import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def notebook(monkeypatch):
    """As if a notebook's kernel ran the code, without widgets."""
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))


@pytest.mark.parametrize("shown", [None, True, False])
@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_bars_are_for_terminals_if_they_are_asked_for(monkeypatch, shown, stream):
    out = stream()
    monkeypatch.setattr(sys, "stderr", out)
    assert not progress.in_notebook()
    assert list(progress.bar(range(3), shown=shown, desc="counting", delay=0)) == [0, 1, 2]
    assert ("counting" in out.getvalue()) == (shown is True and stream is Terminal)


@pytest.mark.usefixtures("notebook")
@pytest.mark.parametrize("shown", [None, True, False])
def test_in_notebooks_bars_are_on_by_default(monkeypatch, shown):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=progress.tqdm))
    assert progress.in_notebook()
    assert list(progress.bar(range(3), shown=shown, desc="counting", delay=0)) == [0, 1, 2]
    assert ("counting" in out.getvalue()) == (shown is not False)


def test_stages_move_the_bar_as_they_go(monkeypatch):
    out = Terminal()
    monkeypatch.setattr(sys, "stderr", out)
    stages = progress.Stages(10, shown=True, about="mining")
    with stages.bar as bar:
        with stages.stage(2):
            assert bar.n == 0
        assert bar.n == 2  # a stage that said nothing of itself
        with stages.stage(8, "patterns") as part:
            part(0.25)
            assert bar.n == 4
            assert bar.desc.startswith("mining, patterns")
            part(3)  # more than there was to do
            assert bar.n == 10
        assert bar.n == 10


@pytest.mark.parametrize(
    ("seconds", "shown", "said"),
    [(30, True, ""), (240, None, ""), (240, False, ""), (240, True, "it: about 4 min; less\n")],
)
def test_only_what_takes_long_is_told_ahead(monkeypatch, seconds, shown, said):
    for stream in (Terminal, io.StringIO):
        out = stream()
        monkeypatch.setattr(sys, "stderr", out)
        progress.ahead_of(seconds, "it", "less", shown)
        assert out.getvalue() == said, "logs tell it, too"


def test_times_in_words():
    told = [progress.duration(seconds) for seconds in (4.4, 89, 100, 3600, 7200)]
    assert told == ["4 s", "89 s", "2 min", "60 min", "2.0 h"]
