"""A network that was mended, and how well it does on images that weren't used for it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from explgraph import rows
from explgraph.answers.counter_groups import GROUPS, Gain, gain, wilson
from explgraph.atomic import atomic_write
from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError
from explgraph.network.wrappers import plain_state
from explgraph.suffixes import REPORTS, check_suffix

__all__ = ["GroupAccuracy", "Mended"]

Bools = NDArray[np.bool_]


class GroupAccuracy(NamedTuple):
    """How often a network is right in a group of images, before it was mended and after.

    Attributes
    ----------
    group : str
        "all", or whether the images are of the class, and with what must not count or without.
    images : int
        How many there are.
    before, before_low, before_high : float
        Share that is right, with its interval (95 %, Wilson).
    after, after_low, after_high : float
        The same of the mended network.
    """

    group: str
    images: int
    before: float
    before_low: float
    before_high: float
    after: float
    after_low: float
    after_high: float


@dataclass(frozen=True, eq=False)
class Mended:
    """What `mend` gives.

    Attributes
    ----------
    model : torch.nn.Module
        The mended network: a copy of the one that was given, with other weights in its last layer.
    how : str
        "last" or "projection".
    changed : bool
        Whether any weight is another. None is, where what was fitted did no better than the network
        itself on images that were left out of the fit in turn.
    target : str
        The class that must not be told by the parts.
    parts : tuple of str
        What must not tell it, as it was named.
    nodes : tuple of str
        Ids of the nodes that this stands for.
    layer : str
        Name of the last layer.
    strength : float
        By how much what must not count moves the class's score, as a share of what the class itself
        does. Below 0.2 nothing is changed.
    effect : float
        By how much the class's score is higher where what must not count is there, the class
        itself staying as it is: before, in the score's unit. Of the images that mending used.
    effect_after : float
        The same of the mended network, in units of its own scores.
    tested : tuple of str
        Names of the images that were kept back from mending.
    groups : (N,) int64
        The group of each of these: see `accuracies`.
    right, right_after : (N,) bool
        Whether the network's answer for it is right, and the mended one's.
    """

    model: nn.Module = field(repr=False)
    how: str
    changed: bool
    target: str
    parts: tuple[str, ...]
    nodes: tuple[str, ...]
    layer: str
    strength: float
    effect: float
    effect_after: float
    tested: tuple[str, ...]
    groups: NDArray[np.int64]
    right: Bools
    right_after: Bools
    _present_as: tuple[str, str] = field(default=("without", "with"), repr=False)

    def __repr__(self) -> str:
        worst, all_images = self.worst, self.accuracies[0]
        state = "" if self.changed else " (left as it was)"
        return (
            f"Mended{state}: {few([self.target])} without {few(self.parts)}, by {self.how}; "
            f"worst group {worst.before:.1%} -> {worst.after:.1%}, all {all_images.before:.1%} -> "
            f"{all_images.after:.1%} of {counted(len(self.tested), 'image')} kept back"
        )

    @property
    def accuracies(self) -> tuple[GroupAccuracy, ...]:
        """How often the network is right: in all images that were kept back, and in each group."""
        absent, there = self._present_as
        everyone = np.ones(len(self.groups), dtype=np.bool_)
        chosen = [("all", everyone)] + [
            (
                f"{'' if of_class else 'not '}{self.target}, {there if present else absent}",
                self.groups == number,
            )
            for number, (of_class, present) in enumerate(GROUPS)
        ]
        found = []
        for name, some in chosen:
            n, values = int(some.sum()), []
            for right in (self.right, self.right_after):
                hits = int(right[some].sum())
                values += [hits / n if n else float("nan"), *wilson(hits, n)]
            found.append(GroupAccuracy(name, n, *values))
        return tuple(found)

    @property
    def worst(self) -> GroupAccuracy:
        """The group in which the network was right least often; what it became of it."""
        return min(self.accuracies[1:], key=lambda group: group.before)

    @property
    def gain(self) -> Gain:
        """By how much the mean over groups changed, on the images that were kept back."""
        return gain(self.right, self.right_after, self.groups)

    @property
    def gained(self) -> bool:
        """Whether that is more than chance: its interval (95 %) lies above 0."""
        return self.changed and self.gain.interval[0] > 0

    @property
    def verdict(self) -> str:
        """Say in a sentence or two what was gained."""
        low, high = self.gain.interval
        told = f"{self.gain.change:+.1%} (95 %: {low:+.1%} to {high:+.1%})"
        if not self.changed:
            return (
                "Nothing was gained, and the network was left as it is. What must not count moves "
                f"the score of {self.target} by {self.strength:.0%} of what {self.target} itself "
                "does (20% and less isn't mended), or other weights did no better on images that "
                "were left out in turn. Either the network doesn't tell "
                f"{self.target} by {few(self.parts)}, or it isn't these parts that say it."
            )
        if not self.gained:
            return (
                f"Nothing was gained for sure: the mean over groups changes by {told}. Of the "
                f"smallest group {min(row.images for row in self.accuracies[1:])} images were kept "
                "back; with more of its kind more can be told."
            )
        return f"Gained: the mean over groups changes by {told}."

    def report(self) -> str:
        """Give what was changed and gained in Markdown."""
        head = (
            f"# {self.target} without {', '.join(self.parts)}\n\n{self.verdict}\n\n"
            "| images kept back | images | right before | right after |\n|---|---:|---:|---:|"
        )
        table = [
            f"| {row.group} | {row.images} "
            f"| {row.before:.1%} ({row.before_low:.0%} to {row.before_high:.0%}) "
            f"| {row.after:.1%} ({row.after_low:.0%} to {row.after_high:.0%}) |"
            for row in self.accuracies
        ]
        ways = {
            "last": "weights of the last layer, fitted anew",
            "projection": "weights of the last layer, made blind to the parts",
        }
        told = (
            f"\nChanged: {ways[self.how] if self.changed else 'nothing'} (`{self.layer}`). What "
            f"must not count moved the score of {self.target} by {self.effect:+.2f}, moves it now "
            f"by {self.effect_after:+.2f}, {self.target} itself being the same. Intervals are of "
            "95 %.\n"
        )
        return "\n".join([head, *table, told])

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write what was gained, for people and other programs; `save` writes the weights.

        Parameters
        ----------
        path : path
            ``.md`` (the `report`), ``.json`` (all numbers), or ``.csv`` or ``.parquet`` (a row for
            each group).

        Raises
        ------
        ExplgraphError
            If the suffix isn't known, the file can't be written, or it is a .parquet and pandas
            and pyarrow aren't there.
        """
        suffix = check_suffix(path, REPORTS)
        table = [row._asdict() for row in self.accuracies]
        if suffix in (".csv", ".parquet"):
            rows.write(path, rows.columns_of(table))
            return
        text = self.report()
        if suffix == ".json":
            low, high = self.gain.interval
            content = {
                "target": self.target,
                "parts": self.parts,
                "nodes": self.nodes,
                "how": self.how,
                "layer": self.layer,
                "changed": self.changed,
                "gained": self.gained,
                "gain": {"change": self.gain.change, "low": low, "high": high},
                "strength": self.strength,
                "effect": self.effect,
                "effect_after": self.effect_after,
                "accuracies": table,
            }
            text = json.dumps(content, indent=1) + "\n"
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the mended network's weights: what ``--weights`` and ``load_state_dict`` take.

        Parameters
        ----------
        path : path
            ``.safetensors``.

        Raises
        ------
        ExplgraphError
            If the suffix is another, or the file can't be written.
        """
        check_suffix(path, (".safetensors",))
        state = {
            name: value.detach().cpu().contiguous().clone()  # tensors that share memory are refused
            for name, value in plain_state(self.model).items()
            if isinstance(value, Tensor)
        }
        if not state:
            raise ExplgraphError("the mended model has no weights to be written")
        with atomic_write(path) as temporary:
            temporary.write_bytes(save(state))
