"""What the README, CONTRIBUTING and the notebooks promise."""

import json
import re
import shlex
from pathlib import Path

import pytest

import explgraph
from explgraph.cli import entry as cli
from explgraph.creatures import demo

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    statements = [line for line in code.splitlines() if line.strip()]
    assert len(statements) <= 20
    for name in ("N_MINED", "N_NEW"):
        monkeypatch.setattr(demo, name, 24)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["demo", "--quiet"]) == 0
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    suggested = capsys.readouterr().out
    assert suggested.startswith("('")
    best = names["best"]
    assert len(best) == -(-len(names["graph"]) // 4)
    assert names["parse"].positions.shape == (24, len(names["graph"]), 2)
    assert "<html" in (tmp_path / "creatures.html").read_text()


def shell_lines(text):
    """Give the indented commands of a Markdown text, continued lines joined."""
    blocks = re.findall(r"(?:^    .*\n)+", text.replace("\\\n", ""), flags=re.MULTILINE)
    return [line.strip() for block in blocks for line in block.splitlines()]


def test_the_shell_commands_are_right():
    lines = shell_lines(README)
    assert "pip install . && explgraph demo" in lines
    assert 'pip install -e ".[test]" && pytest' in lines
    found = [line for line in lines if line.startswith("explgraph ")]
    assert len(found) >= 4
    for line in found:
        cli.parser().parse_args(shlex.split(line, comments=True)[1:])
    for script in re.findall(r"benchmarks/\w+\.py", README):
        assert (ROOT / script).is_file()


def test_ci_runs_the_readme_s_test_command():
    ci = (ROOT / ".ci" / "run").read_text()
    assert re.search(r'^pip install -q -e "\.\[test\]" && pytest$', ci, flags=re.MULTILINE)
    assert "explgraph demo" in ci


def test_public_names_exist_and_are_told_of():
    for name in explgraph.__all__:
        assert hasattr(explgraph, name)
    for name in re.findall(r"explgraph\.(\w+)\(", README):
        assert name in explgraph.__all__


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_linked_files_exist(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (ROOT / target).exists(), target


def test_contributing_names_files_that_exist_and_all_modules():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("|")][2:]
    named = {name for line in table for name in re.findall(r"`([\w./]+(?:/|\.\w+))`", line)}
    named = {ROOT / name if (ROOT / name).exists() else ROOT / "explgraph" / name for name in named}
    assert not [str(path) for path in named if not path.exists() and path.name != "labels.json"]
    parts = {"__main__.py", "errors.py", "atomic.py"}  # too small to be looked for
    modules = {
        path
        for path in (ROOT / "explgraph").rglob("*.py")
        if path.name not in parts
        and (path.name != "__init__.py" or path.parent == ROOT / "explgraph")
    }
    assert not [str(path) for path in modules - named]


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=str)
def test_notebooks_are_stored_without_outputs(notebook):
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
