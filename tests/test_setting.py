"""Benchmarks measure the installed package and say whether its kernel is in use."""

import json
import re
import shutil
import site
import subprocess
import venv
from pathlib import Path

import pytest

import explgraph
from benchmarks import setting
from explgraph.statistics import kernel

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(explgraph.__file__).parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A Python into which the package is installed, without its kernel; and where it is."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    (place,) = folder.glob("lib/*/site-packages")
    shutil.copytree(
        PACKAGE, place / "explgraph", ignore=shutil.ignore_patterns("_kernel.*", "__pycache__")
    )
    about = place / "explgraph-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: explgraph\nVersion: 1\n")
    (about / "RECORD").write_text("explgraph/__init__.py,,\n")
    # the dependencies come from the Python that runs the tests
    (place / "others.pth").write_text("\n".join(site.getsitepackages()))
    return python, place / "explgraph"


def start(python, *arguments):
    """Run a benchmark from the repository up to its first line; give it, or the error."""
    with subprocess.Popen(
        [python, *arguments],
        cwd=ROOT,
        env={"PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        first = process.stdout.readline()
        process.kill()
        return first or process.stderr.read()


def test_the_installed_package_is_measured(installed):
    python, place = installed
    line = start(python, "benchmarks/speed.py", "--images", "0")
    assert f" in {place} (installed), compiled kernel: not there" in line


def test_a_tree_that_hides_the_installed_package_is_refused(installed):
    said = start(installed[0], "-m", "benchmarks.speed", "--images", "0")
    assert f"explgraph is installed, but the one in {ROOT / 'explgraph'} would be measured" in said


@pytest.mark.parametrize("there", [True, False])
def test_the_kernel_is_told_of(there, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(kernel, "available", there)
    setting.announce()
    assert f"compiled kernel: {'in use' if there else 'not there'}" in capsys.readouterr().out
    setting.write(tmp_path / "rows.json", [{"a": 1}])
    written = json.loads((tmp_path / "rows.json").read_text())
    assert written["rows"] == [{"a": 1}]
    assert written["measured"]["compiled_kernel"] is there
    assert written["measured"]["place"] == str(PACKAGE)


def test_a_source_tree_is_named(monkeypatch):
    monkeypatch.setattr(setting, "distributions", lambda name: [])  # noqa: ARG005
    assert setting.described()["installed"] == "a source tree"


SCRIPTS = [
    file
    for file in sorted((ROOT / "benchmarks").glob("*.py"))
    if not file.stem.endswith("picture") and "ArgumentParser(" in file.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.stem)
def test_every_benchmark_begins_with_it(script):
    text = script.read_text(encoding="utf-8")
    if script.stem == "train_creatures":  # trains what ships, measures nothing
        return
    assert re.search(r"parse_args\(\w*\)\n    setting\.announce\(\)\n", text)
    assert "write_text(json.dumps" not in text


@pytest.mark.parametrize("folder", ["benchmarks", "tests", "notebooks"])
def test_nothing_puts_the_source_tree_before_what_is_installed(folder):
    found = [
        str(file.relative_to(ROOT))
        for file in (ROOT / folder).rglob("*")
        if file.suffix in (".py", ".ipynb") and file != Path(__file__).resolve()
        and re.search(r"sys\.path(\.insert\(0|\[:?0\] *=)", file.read_text(encoding="utf-8"))
    ]  # fmt: skip
    assert not found
