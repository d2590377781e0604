"""What a release says of itself agrees in all places."""

import re
from pathlib import Path

import pytest

import explgraph
from explgraph.cli.graphs import _EXTRAS

ROOT = Path(__file__).resolve().parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_there_is_one_version():
    assert 'version = {attr = "explgraph.__version__"}' in PROJECT
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {explgraph.__version__}\n" in citation


@pytest.mark.parametrize("name", ["Homepage", "Source"])
def test_there_is_one_address(name):
    (address,) = re.findall(rf'^{name} = "(.*)"$', PROJECT, flags=re.MULTILINE)
    assert f"repository-code: {address}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_every_dependency_has_its_reason():
    """Behind it, or in a comment on the line before."""
    start = PROJECT.index("\ndependencies = [")
    lines = PROJECT[start : PROJECT.index("\n[project.urls]")].splitlines()
    named = [i for i, line in enumerate(lines) if re.search(r'"[A-Za-z][\w-]*[><=]', line)]
    assert len(named) > 20
    assert not [lines[i] for i in named if "#" not in lines[i] and "#" not in lines[i - 1]]


def test_ci_runs_what_is_there():
    for file in (ROOT / ".github" / "workflows").iterdir():
        for script in re.findall(r"\.ci/\w+", file.read_text(encoding="utf-8")):
            assert (ROOT / script).is_file()


def test_info_tells_of_every_extra():
    """Of those that are for users."""
    start = PROJECT.index("[project.optional-dependencies]")
    section = PROJECT[start : PROJECT.index("\n[project.urls]")]
    extras = set(re.findall(r"^(\w+) = \[", section, flags=re.MULTILINE))
    assert set(_EXTRAS) == extras - {"test", "notebooks", "docs", "dev"}
