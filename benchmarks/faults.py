"""Faults: whether anything is ever silently wrong, or a raw error, when something goes wrong.

    python benchmarks/faults.py --tries 6000 --json faults.json

Each try damages, exchanges or forges something, ends a process or fills a disk, and then does what
a user would do next. It ends *right* (the result that it should be), with a *clear error* (an
`ExplgraphError`), *wrong* (another result, or numbers that are none), with a *raw* error of any
other kind (a crash, too), or it *hangs*: 10 s of computing without a sign of life, or a minute of
waiting, for the machine may be busy. *Left* counts temporary files that were still there at the
end. What is tried is in `fault_families`, and in
`kernel_faults` for the compiled kernel, which runs under gcc's sanitizers if they are there.

Each family has a process of its own, so that a crash or a hang costs one try. Try number ``i`` of a
family is the same in every run with the same seed: ``--only graphs --try 17`` repeats one.
``--small`` does a little of everything, for CI. The exit code is 1 if anything was wrong, raw, hung
or left.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks import fault_families, kernel_faults, setting
from explgraph.errors import ExplgraphError

LIMIT = 10.0  # s of computing
WAITING = 60.0  # s
COLUMNS = ("tried", "right", "clear error", "wrong", "raw", "hung", "left")
BAD = ("wrong", "raw", "hung", "left")
SAID = "said"  # file of what a process wrote to its stderr


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="FAMILY", choices=[*fault_families.FAMILIES, "kernel"])
    parser.add_argument("--try", dest="one", type=int, metavar="I", help="only this one")
    parser.add_argument("--small", action="store_true", help="a little of everything, for CI")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    setting.announce()
    torch.set_num_threads(1)
    tries = 120 if options.small else options.tries
    rows, told = {}, []
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        _forked(lambda: fault_families.prepare(folder / "world"))
        for family, share in fault_families.FAMILIES.items():
            if options.only in (None, family):
                number = max(1, round(tries * share.share))
                which = range(number) if options.one is None else [options.one]
                rows[family] = _run(family, folder, options.seed, list(which), told)
                _show(family, rows[family])
        if options.only in (None, "kernel"):
            rows["kernel"] = kernel_faults.run(max(20, round(tries * 0.1)), options.seed, told)
            _show("kernel", rows["kernel"])
    total: Counter[str] = sum((Counter(row) for row in rows.values()), Counter())
    _show("all", total)
    print("\n" + table({**rows, "**all**": total}))
    for line in told:
        print(line)
    if options.json is not None:
        setting.write(options.json, {"tries": {k: dict(v) for k, v in rows.items()}, "told": told})
    return int(any(total[kind] for kind in BAD))


def table(rows: dict[str, Counter[str]]) -> str:
    """Give the table in Markdown."""
    about = {**{k: v.about for k, v in fault_families.FAMILIES.items()}, **kernel_faults.ABOUT}
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines[1] = "|---|" + "---:|" * len(COLUMNS)
    for name, row in rows.items():
        numbers = " | ".join(f"{row[column]:,}" for column in COLUMNS)
        lines.append(f"| {about.get(name, name)} | {numbers} |")
    return "\n".join(lines)


def _show(name: str, row: Counter[str]) -> None:
    print(f"{name:12}", *(f"{column} {row[column]}" for column in COLUMNS), flush=True)


def _forked(work: Callable[[], object]) -> None:
    """Do something in a process of its own; it must succeed."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("the files that are to be damaged can't be made")


def _run(family: str, folder: Path, seed: int, which: list[int], told: list[str]) -> Counter[str]:
    """Do a family's tries; a process that dies or hangs is started again behind that try."""
    row: Counter[str] = Counter()
    place = folder / family
    while which:
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            os.setpgid(0, 0)  # what it starts ends with it
            _work(family, folder, place, seed, which, os.fdopen(writing, "w"))
        os.close(writing)
        ended = _follow(pid, reading, row, told, family)
        os.close(reading)
        status = _end(pid)
        if ended is None:
            break
        at, how = ended
        row["tried"] += 1
        row[how] += 1
        said = folder.joinpath(SAID).read_text(errors="replace").strip()
        told.append(f"{family} {at}: {how} (exit status {status}): {said[-2000:]}")
        which = [i for i in which if i > at]
    row["left"] += _left(place, told)
    shutil.rmtree(place, ignore_errors=True)
    return row


def _follow(
    pid: int, reading: int, row: Counter[str], told: list[str], family: str
) -> tuple[int, str] | None:
    """Count what a process says; give the try at which it hung or died, if it did."""
    at, rest = -1, b""
    sign, used = time.monotonic(), 0.0
    while True:
        if not select.select([reading], [], [], 0.5)[0]:
            longer = 4 if at < 0 else 1  # setting up takes its time
            waited, computed = time.monotonic() - sign, _computed(pid) - used
            if waited > longer * WAITING or computed > longer * LIMIT:
                return at, "hung"
            continue
        sign, used = time.monotonic(), _computed(pid)
        piece = os.read(reading, 1 << 16)
        if not piece:
            return at, "raw"
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if said == "end":
                return None
            if isinstance(said, int):
                at = said
            elif isinstance(said, list):
                row["tried"] += 1
                row[said[0]] += 1
                if said[0] in BAD:
                    told.append(f"{family} {at}: {said[0]}: {said[1]}")


def _computed(pid: int) -> float:
    """Give the seconds for which a process has been computing; 0 where nobody tells."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _work(family: str, folder: Path, place: Path, seed: int, which: list[int], out: object) -> None:
    """Do tries, and say how each ended."""
    # also what libraries say of damaged files; told if this process dies
    errors = os.open(folder / SAID, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def say(what: object) -> None:
        out.write(json.dumps(what) + "\n")
        out.flush()

    try:
        os.dup2(errors, 2)
        faulthandler.enable()
        warnings.simplefilter("ignore")
        place.mkdir(exist_ok=True)
        attempt = fault_families.FAMILIES[family].make(folder / "world", place)
        for i in which:
            say(i)
            rng = random.Random(f"{seed} {family} {i}")
            try:
                right = attempt(rng, lambda: say(None))
                say(["right" if right is True else "wrong", f"{right}"])
            except ExplgraphError as err:
                say(["clear error", str(err)[:200]])
            except Exception as err:
                where = traceback.extract_tb(err.__traceback__)[-1]
                text = f"{type(err).__name__}: {err} ({Path(where.filename).name}:{where.lineno})"
                say(["raw", text[:300]])
        say("end")
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


def _end(pid: int) -> int:
    """End a process, and what it started; give its exit status."""
    for _ in range(50):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _left(place: Path, told: list[str]) -> int:
    """Count temporary files."""
    found = [
        file
        for file in place.rglob("*")
        if file.name.endswith(".partial") or "-explgraph-" in file.name
    ]
    told.extend(f"left: {file.relative_to(place.parent)}" for file in found)
    return len(found)


if __name__ == "__main__":
    sys.exit(main())
