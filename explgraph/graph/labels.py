"""People's decisions on the nodes of a graph: names, merged nodes, rejected nodes.

The explorer page writes them as ``labels.json``, but any editor or program can:

    {
      "format": "explgraph labels",
      "format_version": 1,
      "model_fingerprint": "7f7ce7...",
      "labels": {"stage3/66/0": "horn", "stage3/12/1": ""},
      "merged": [["stage3/66/0", "stage2/5/3"]],
      "rejected": ["stage4/9/0"],
      "parts": [
        {"id": "p1", "name": "head", "nodes": ["stage3/66/0", "stage2/5/3"], "place": [40.0, 31.5]},
        {"id": "p7", "rejected": true, "nodes": ["stage2/8/1"], "place": [80.0, 90.0]}
      ]
    }

- ``labels``: node id to name; an empty one takes a name away. Nodes that aren't listed keep theirs.
- ``merged``: groups of two nodes or more that are one part, each node in one group at most. They
  stay nodes of their own, since each is found by its own filter, and all get the group's name: the
  only one among them, after ``labels``; where none has one, the id of the group's first node. So
  "all nodes of a part" are those of the same name.
- ``rejected``: nodes that are left out, with their edges.
- ``parts``: those that people named, merged, split or rejected: nodes, usual place (px), name. In
  the same graph its nodes say which part is which; in one that was mined anew filters and places
  do (`explgraph.graph.parts.apply_decisions`).
- ``model_fingerprint`` says which model the graph is of; if it is there and differs, a warning is
  given.

All keys but the first two are optional, and no others are known.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from explgraph.atomic import atomic_write
from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError, nearest
from explgraph.paths import check_regular, checked_path

__all__ = ["FORMAT_VERSION", "DecidedPart", "Labels", "read_labels", "write_labels"]

FORMAT_VERSION = 1
_FORMAT = "explgraph labels"
_KEYS = ("format", "format_version", "model_fingerprint", "labels", "merged", "rejected", "parts")
_PART_KEYS = ("id", "name", "rejected", "nodes", "place")


class DecidedPart(NamedTuple):
    """A part as people want it.

    Attributes
    ----------
    id : str
    name : str
        May be empty.
    rejected : bool
    nodes : tuple of str
    place : (float, float)
        Usual place [x, y], px.
    """

    id: str
    name: str
    rejected: bool
    nodes: tuple[str, ...]
    place: tuple[float, float]

    def __repr__(self) -> str:
        state = ", rejected" if self.rejected else ""
        return (
            f"DecidedPart({self.id!r}, {few([self.name])!r}: "
            f"{counted(len(self.nodes), 'node')}{state})"
        )


class Labels(NamedTuple):
    """Decisions that were read.

    Attributes
    ----------
    labels : dict of str to str
        Node id to name.
    merged : tuple of tuple of str
        Groups of node ids.
    rejected : tuple of str
        Node ids.
    model_fingerprint : str
        Empty if it isn't told.
    parts : tuple of DecidedPart
    """

    labels: dict[str, str]
    merged: tuple[tuple[str, ...], ...]
    rejected: tuple[str, ...]
    model_fingerprint: str
    parts: tuple[DecidedPart, ...] = ()

    def __repr__(self) -> str:
        return (
            f"Labels: {len(self.labels):,} names, {len(self.merged):,} merged groups, "
            f"{counted(len(self.rejected), 'rejected node')}, {counted(len(self.parts), 'part')}"
        )


def read_labels(source: str | os.PathLike[str] | Mapping[str, Any]) -> Labels:
    """Read decisions from a ``labels.json`` or from what ``json.load`` made of one.

    Raises
    ------
    ExplgraphError
        If the file can't be read, isn't JSON of this format and version, or an entry is not what
        the format says; names the entry.
    """
    if isinstance(source, Mapping):
        shown, content = "labels", dict(source)
    else:
        shown = repr(str(source))
        file = checked_path(source, "labels")
        check_regular(file, shown, piped=True)
        try:
            content = json.loads(file.read_text("utf-8-sig"))
        except FileNotFoundError as err:
            raise ExplgraphError(f"there is no file {shown}; check the path") from err
        except OSError as err:
            raise ExplgraphError(f"can't read {shown}: {err.strerror or err}") from err
        except (ValueError, RecursionError) as err:
            raise ExplgraphError(f"{shown} is no JSON: {err}") from err
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ExplgraphError(
            f"{shown} holds no labels; expected an object whose 'format' is {_FORMAT!r}, as the "
            "explorer page writes it"
        )
    version = content.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise ExplgraphError(
            f"{shown}: format_version is {version!r}; this explgraph reads {FORMAT_VERSION}"
        )
    for key in content:
        if key not in _KEYS:
            raise ExplgraphError(f"{shown}: unknown key {key!r}{nearest(str(key), _KEYS)}")
    fingerprint = content.get("model_fingerprint", "")
    if not isinstance(fingerprint, str):
        raise ExplgraphError(f"{shown}: model_fingerprint is {fingerprint!r}; expected a str")
    labels = content.get("labels", {})
    if not isinstance(labels, dict) or not all(
        isinstance(node, str) and isinstance(label, str) for node, label in labels.items()
    ):
        raise ExplgraphError(f"{shown}: labels must map node ids to names, both str")
    merged = content.get("merged", [])
    if not isinstance(merged, (list, tuple)):
        raise ExplgraphError(f"{shown}: merged is {merged!r}; expected a list of groups")
    for k, group in enumerate(merged):
        _check_ids(f"{shown}: merged, group {k},", group)
        if len(group) < 2:
            raise ExplgraphError(f"{shown}: merged, group {k}, has one node; expected two or more")
    rejected = content.get("rejected", [])
    _check_ids(f"{shown}: rejected", rejected)
    seen: set[str] = set()
    for node in (node for group in merged for node in group):
        if node in seen:
            raise ExplgraphError(f"{shown}: merged names {node!r} twice; join its two groups")
        seen.add(node)
    return Labels(
        dict(labels),
        tuple(map(tuple, merged)),
        tuple(rejected),
        fingerprint,
        _read_parts(shown, content.get("parts", [])),
    )


def _read_parts(shown: str, parts: Any) -> tuple[DecidedPart, ...]:
    """Read what was decided on parts."""
    if not isinstance(parts, (list, tuple)):
        raise ExplgraphError(f"{shown}: parts is {parts!r}; expected a list of objects")
    found = []
    for k, part in enumerate(parts):
        where = f"{shown}: parts, entry {k},"
        if not isinstance(part, Mapping) or not part.keys() <= set(_PART_KEYS):
            raise ExplgraphError(
                f"{where} is {part!r}; expected an object of {', '.join(_PART_KEYS)}"
            )
        id_, name, out = part.get("id"), part.get("name", ""), part.get("rejected", False)
        nodes, place = part.get("nodes", []), part.get("place")
        if not isinstance(id_, str) or not id_ or not isinstance(name, str):
            raise ExplgraphError(f"{where}: id and name are {id_!r}, {name!r}; expected texts")
        if not isinstance(out, bool):
            raise ExplgraphError(f"{where}: rejected is {out!r}; expected true or false")
        _check_ids(f"{where} nodes", nodes)
        if (
            not isinstance(place, (list, tuple))
            or len(place) != 2
            or not all(type(v) in (int, float) and math.isfinite(v) for v in place)
        ):
            raise ExplgraphError(f"{where}: place is {place!r}; expected [x, y], px")
        found.append(DecidedPart(id_, name, out, tuple(nodes), (float(place[0]), float(place[1]))))
    if len({part.id for part in found}) < len(found):
        raise ExplgraphError(f"{shown}: parts has an id twice; expected one entry for each")
    return tuple(found)


def write_labels(labels: Labels, path: str | os.PathLike[str]) -> None:
    """Write decisions as a ``labels.json``, whole or not at all.

    Raises
    ------
    ExplgraphError
        If the file can't be written.
    """
    content: dict[str, Any] = {"format": _FORMAT, "format_version": FORMAT_VERSION}
    if labels.model_fingerprint:
        content["model_fingerprint"] = labels.model_fingerprint
    content |= {
        "labels": labels.labels,
        "merged": [list(group) for group in labels.merged],
        "rejected": list(labels.rejected),
        "parts": [
            part._asdict() | {"nodes": list(part.nodes), "place": list(part.place)}
            for part in labels.parts
        ],
    }
    with atomic_write(path) as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False)
        temporary.write_text(text, "utf-8", "backslashreplace")


def _check_ids(where: str, ids: Any) -> None:
    """Refuse what is no list of node ids."""
    if not isinstance(ids, (list, tuple)) or not all(isinstance(node, str) for node in ids):
        raise ExplgraphError(f"{where} is {ids!r}; expected a list of node ids")
