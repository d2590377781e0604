"""The zoo's packages, and the table that `pytest tests/zoo --table FILE` writes."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest
import torch

# what torchvision's Python part registers more for, when it is imported
_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_LIBRARIES: list[torch.library.Library] = []


def import_torchvision() -> None:
    """Import torchvision, where its operators are built for another torch without them.

    Its networks are written in Python and need none.
    """
    try:
        importlib.import_module("torchvision")
        return
    except RuntimeError as err:
        if "torchvision::nms" not in str(err):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    _LIBRARIES.append(torch.library.Library("torchvision", "DEF"))  # they go with it
    for operator in _OPERATORS:
        _LIBRARIES[-1].define(operator)
    importlib.import_module("torchvision")


COLUMNS = ("Family", "Network", "Layers of", "Layout found", "Layers", "Tried", "Result")
_ROWS = "zoo row"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--table", metavar="FILE", help="write the zoo's table, in Markdown")


@pytest.fixture(scope="session", autouse=True)
def _packages() -> None:
    """Skip the zoo where its packages aren't installed, unless it is asked for."""
    try:
        import_torchvision()
        import timm  # noqa: F401
    except ImportError as err:
        missing = f"the zoo needs torchvision and timm: {err}"
        assert not os.environ.get("EXPLGRAPH_ZOO"), missing
        pytest.skip(missing)


@pytest.fixture
def row(record_property):
    """Give the table a row."""
    return lambda *cells: record_property(_ROWS, [str(cell) for cell in cells])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the table from what all processes reported."""
    path = terminalreporter.config.getoption("--table", default=None)
    if path is None:
        return
    rows = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == _ROWS
    ]
    rows.sort(key=lambda cells: int(cells[0]))
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(cells[1:] for cells in rows)]
    text = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    Path(path).write_text(text, encoding="utf-8")
