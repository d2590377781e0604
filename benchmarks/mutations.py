"""Which constants of mining matter: each halved in a copy, and whether a test would notice.

    python benchmarks/mutations.py

`tests/mining/test_constants.py` compares what mining makes of some creatures
(`tests/fingerprint.py`) with what is written down, within `TOLERANCE`. Every number that a
module of `explgraph.mining` or `explgraph.statistics` names in capitals, and every default of
`Settings`, is halved, one at a time; what moves least is last. Whole numbers stay whole.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import setting

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 0.02  # of each number
_PRINT = "import json, fingerprint; print(json.dumps(fingerprint.fingerprint()))"


class Constant(NamedTuple):
    """A number in the source: where it is, and as what it should be tried."""

    file: Path
    name: str
    line: int
    start: int
    end: int
    value: float | int

    def halved(self, text: str) -> str:
        """Write the module's source with half of it."""
        lines = text.splitlines(keepends=True)
        line = lines[self.line - 1].encode()
        half = self.value / 2
        shown = str(max(int(half), 1)) if isinstance(self.value, int) else repr(half)
        lines[self.line - 1] = (line[: self.start] + shown.encode() + line[self.end :]).decode()
        return "".join(lines)


def constants(root: Path) -> Iterator[Constant]:
    """Find the numbers that have a name in capitals, and the settings' defaults."""
    for wing in ("mining", "statistics"):
        for file in sorted((root / "explgraph" / wing).glob("*.py")):
            tree = ast.parse(file.read_text("utf-8"))
            for node in tree.body:
                if isinstance(node, ast.Assign):
                    yield from _numbers(file, ast.unparse(node.targets[0]), node.value)
                if isinstance(node, ast.ClassDef) and node.name == "Settings":
                    for field in node.body:
                        if isinstance(field, ast.AnnAssign) and field.value is not None:
                            yield from _numbers(file, ast.unparse(field.target), field.value)


def _numbers(file: Path, name: str, value: ast.expr) -> Iterator[Constant]:
    for node in ast.walk(value):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value:
            yield Constant(
                file, name, node.lineno, node.col_offset, node.end_col_offset or 0, node.value
            )


def measured(root: Path) -> dict[str, float]:
    """Mine with the package in a folder, in a process of its own."""
    path = os.pathsep.join([str(root), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PRINT],
        cwd=root, env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return {}
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.parse_args(arguments)
    setting.announce()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copytree(ROOT / "explgraph", root / "explgraph")
        usual = measured(root)
        rows = []
        for one in constants(root):
            text = one.file.read_text("utf-8")
            one.file.write_text(one.halved(text), "utf-8")
            found = measured(root)
            one.file.write_text(text, "utf-8")
            moved = {k: abs(found.get(k, 1e9) - v) / max(abs(v), 1e-9) for k, v in usual.items()}
            most = max(moved, key=lambda k: moved[k])
            where = one.file.relative_to(root / "explgraph")
            rows.append(
                (moved[most], f"{where}, {one.name}", one.value, most if found else "fails")
            )
            print(f"{rows[-1][1]} {one.value}: {moved[most]:.4f} {rows[-1][3]}", flush=True)
    rows.sort(key=lambda row: -row[0])
    print("\n| constant | value | moves | by |\n|---|---:|---|---:|")
    for moved_by, name, value, most in rows:
        print(f"| {name} | {value} | {most} | {moved_by:.4f} |")
    missed = [name for moved_by, name, *_ in rows if moved_by <= TOLERANCE]
    print(f"\n{len(rows)} constants; not noticed: {len(missed)}: {', '.join(missed)}")


if __name__ == "__main__":
    main()
