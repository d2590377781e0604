"""What the pages of the documentation promise: their examples run, and they quote real messages.

The pages that are executed while the site is built (``file_format: mystnb``) and the notebooks are
left to the build.
"""

import ast
import doctest
import re
import shlex
import sys
from pathlib import Path

import pytest

import explgraph
from explgraph.cli import entry as cli
from explgraph.creatures import demo

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.append(str(DOCS / "_ext"))
import commands  # noqa: E402 - of docs/_ext

PAGES = sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)
BLOCK = re.compile(r"^```(python|pycon)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
EXAMPLES = [p for p in PAGES if BLOCK.search(p.read_text(encoding="utf-8")) and p.stem != "start"]


def name_of(page):
    return str(page.relative_to(DOCS))


def run(page, names):
    """Run a page's examples, in its order; lines after ``>>>`` must give what stands below."""
    text = page.read_text(encoding="utf-8")
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for found in BLOCK.finditer(text):
        kind, code = found.groups()
        line = text[: found.start()].count("\n") + 1
        if kind == "python":
            exec(compile("\n" * line + code, str(page), "exec"), names)
        else:
            test = doctest.DocTestParser().get_doctest(code, names, name_of(page), str(page), line)
            told = []
            runner.run(test, out=told.append, clear_globs=False)
            names.update(test.globs)
            assert not runner.failures, "".join(told)


@pytest.fixture(scope="module")
def started(tmp_path_factory, one_thread):  # noqa: ARG001
    """The names that *Start* leaves to the other pages, and its folder, from a smaller demo."""
    folder = tmp_path_factory.mktemp("started")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "N_MINED", 60)
        patch.setattr(demo, "N_NEW", 24)
        patch.chdir(folder)
        assert cli.main(["demo", "--quiet"]) == 0
        names = {}
        run(DOCS / "start.md", names)
    assert (folder / "best.svg").is_file()
    return folder, names


@pytest.mark.filterwarnings("ignore:the network hardly tells")
@pytest.mark.parametrize("page", EXAMPLES, ids=name_of)
def test_examples_run(page, started, monkeypatch):
    folder, names = started
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    run(page, dict(names))
    if "matplotlib.pyplot" in sys.modules:  # a page's own figures, left open
        sys.modules["matplotlib.pyplot"].close("all")


def test_every_public_name_has_an_example_and_an_entry():
    pages = [p.read_text(encoding="utf-8") for p in sorted((DOCS / "reference").glob("*.md"))]
    examples = " ".join(code for text in pages for _, code in BLOCK.findall(text))
    for name in explgraph.__all__:
        entry = rf"^\.\. auto\w+:: explgraph\.{name}\b"
        assert re.search(entry, "\n".join(pages), re.MULTILINE), f"{name} has no entry"
        used = {"ExplanatoryGraph": "graph."}.get(name, f"explgraph.{name}")
        assert used in examples, f"{name} has no example"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_right(page):
    parser = commands.parser_of(cli.main)
    text = page.read_text(encoding="utf-8").replace("\\\n", "")
    for line in re.findall(r"^ *\$ (.*)", text, flags=re.MULTILINE):
        if line.startswith("explgraph "):
            parser.parse_args(shlex.split(line)[1:])
    for script in re.findall(r"(?<!tests/)(?:benchmarks|docs)/\w+\.py", text):
        assert (ROOT / script).is_file(), script


def messages():
    """All texts in the package's code, what is filled in left out."""
    for path in sorted((ROOT / "explgraph").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "\0" for v in node.values]
                yield "".join(parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"\{[^{}]*\}", "\0", node.value)


def test_quoted_messages_are_real():
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^`(.*)`\n: ", text, flags=re.MULTILINE)
    assert len(quoted) > 30
    known = "\n".join(messages())
    for message in quoted:
        pattern = r"(?:['\"]?\0['\"]?|\.\.\.)".join(map(re.escape, message.split("...")))
        assert re.search(pattern, known), f"no such message in the code: {message}"


def test_the_readme_s_table_is_of_the_results():
    results = (DOCS / "results.md").read_text(encoding="utf-8").splitlines()
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    table = [line for line in readme if line.startswith("|")]
    assert len(table) > 3
    assert set(table) <= set(results)


def test_linked_pages_exist():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            place = page.parent / target
            assert place.exists() or place.with_suffix(".ipynb").exists(), f"{page.name}: {target}"


def test_what_was_tried_names_tests_that_exist():
    named = set(re.findall(r"`(tests/\S+?\.py)`", (DOCS / "tried.md").read_text(encoding="utf-8")))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
