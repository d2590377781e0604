"""What a benchmark measures and on what: a line at its start, and a field in its JSON file.

`benchmarks` lies beside the source tree, so its scripts put that folder last on the path: the
package they measure is the installed one. Two more ways lead to the tree, ``python -m
benchmarks.NAME`` and an installation that is missing; the line says which package was found, and
`announce` refuses a tree that hides an installed package, unless PYTHONPATH names it.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

import explgraph
from explgraph.atomic import atomic_write
from explgraph.statistics import kernel

_HIDDEN = "hides the installed one"


def described() -> dict[str, Any]:
    """Give the package, whether its kernel is in use, torch, Python and the threads."""
    return {
        "explgraph": explgraph.__version__,
        "place": str(Path(explgraph.__file__).parent),
        "installed": _installed(),
        "compiled_kernel": kernel.available,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }


def announce() -> None:
    """Print the line; refuse to measure another package than the installed one."""
    told = described()
    if told["installed"] == _HIDDEN:
        raise SystemExit(
            f"explgraph is installed, but the one in {told['place']} would be measured; run "
            "python benchmarks/NAME.py in place of python -m, or name that folder in PYTHONPATH"
        )
    print(
        f"explgraph {told['explgraph']} in {told['place']} ({told['installed']}), "
        f"{kernel.told()}; torch {told['torch']}, {told['threads']} threads",
        flush=True,
    )


def write(path: Path, rows: Sequence[Any] | Mapping[str, Any]) -> None:
    """Write rows, or a table of other things, as JSON with what was measured."""
    content = rows if isinstance(rows, Mapping) else {"rows": rows}
    text = json.dumps({"measured": described()} | dict(content), indent=1, default=float)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _installed() -> str:
    """Tell how the package that was imported came to be here."""
    here = Path(explgraph.__file__).resolve().parents[1]
    # what a build leaves in a source tree calls itself a distribution, too, but has no record
    found = next((d for d in distributions(name="explgraph") if d.read_text("RECORD")), None)
    if found is None:
        return "a source tree"
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        if origin["url"] == here.as_uri():
            return "installed to edit"
    elif Path(str(found.locate_file(""))).resolve() == here:
        return "installed"
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return "named by PYTHONPATH" if str(here) in named else _HIDDEN
