"""Progress that is told: bars with the time left, and a word ahead of what takes long.

`Shown`, every function's ``progress``, says where:

=======  ===========================================================================
None     in notebooks: the default
True     on a terminal too, where somebody looks on, and never in a file or a pipe
False    nowhere
=======  ===========================================================================

All goes to stderr. ``TQDM_DISABLE=1`` in the environment hides bars, in notebooks as well.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from tqdm import TqdmWarning, tqdm

__all__ = ["Part", "Shown", "Stages", "ahead_of", "bar", "duration", "in_notebook", "move", "say"]

Shown: TypeAlias = bool | None
"""Where progress is shown: see the module."""
Part: TypeAlias = Callable[[float], None]
"""Is told that a share of the work in hand is done, 1 being all of it."""

_DELAY = 0.5  # s: what is faster needs no bar, and nobody waits a second without seeing one
_WHOLE = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total_fmt} [{elapsed}<{remaining}]"
_STAGES = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]"
_LONG = 60.0  # s: from here on a word ahead helps to choose


def in_notebook() -> bool:
    """Whether the code runs in a notebook's kernel."""
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    return running is not None and "IPKernelApp" in running.config


def bar(iterable: Any = None, *, shown: Shown, fractions: bool = False, **options: Any) -> Any:
    """Make a progress bar as tqdm does, shown where `shown` says.

    Parameters
    ----------
    iterable : iterable, optional
    shown : bool or None
    fractions : bool
        It will be moved by fractions of a unit, which aren't to be read.
    **options
        Of `tqdm.tqdm`.
    """
    options = {"delay": _DELAY, "mininterval": 0.2, "dynamic_ncols": True} | options
    if fractions and options.get("total") is not None:
        options["bar_format"] = _WHOLE
    if shown is not False and in_notebook():
        with warnings.catch_warnings():  # without ipywidgets it is a bar of letters
            warnings.simplefilter("ignore", TqdmWarning)
            from tqdm.auto import tqdm as fit

        return fit(iterable, **options)
    # disable=None: only on a terminal
    return tqdm(iterable, disable=None if shown else True, **options)


def move(bar: Any, by: float) -> None:
    """Move a bar by a fraction, and not beyond its end by rounding."""
    bar.update(by if bar.total is None else max(0.0, min(by, bar.total - bar.n)))


class Stages:
    """A bar over stages of different length, each of which moves it as it goes.

    Parameters
    ----------
    total : float
        Of the stages' lengths; any unit.
    shown : bool or None
    about : str
        What goes on.
    """

    def __init__(self, total: float, *, shown: Shown, about: str) -> None:
        self._about = about
        self.bar = bar(shown=shown, total=total, desc=about, bar_format=_STAGES)

    @contextmanager
    def stage(self, length: float, what: str = "") -> Iterator[Part]:
        """Go through a stage; what it didn't tell of itself is filled up at its end."""
        left = 1.0
        if what:
            self.bar.set_description(f"{self._about}, {what}", refresh=False)

        def part(done: float) -> None:
            nonlocal left
            done = min(done, left)
            left -= done
            move(self.bar, length * done)

        yield part
        part(left)


def ahead_of(seconds: float, what: str, fewer: str, shown: Shown) -> None:
    """Say how long something will take, and how it would be less, if that is a minute or more.

    To a file, too, where bars would be a nuisance: whoever waits for a log wants to know.

    Parameters
    ----------
    seconds : float
    what, fewer : str
        What takes so long ("effects of 300 nodes over 40 images"); how to ask for less.
    shown : bool or None
    """
    if seconds >= _LONG and (shown or (shown is None and in_notebook())):
        tqdm.write(f"{what}: about {duration(seconds)}; {fewer}", file=sys.stderr)


def say(what: str, shown: Shown) -> None:
    """Say in a line what was chosen for the user, who named nothing, unless told to be quiet."""
    if shown is not False:
        tqdm.write(what, file=sys.stderr)


def duration(seconds: float) -> str:
    """Tell a time in words: "40 s", "4 min", "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
