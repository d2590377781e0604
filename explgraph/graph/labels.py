"""People's decisions on the nodes of a graph: names, merged nodes, rejected nodes.

The explorer page writes them as ``labels.json``, but any editor or program can:

    {
      "format": "explgraph labels",
      "format_version": 1,
      "model_fingerprint": "7f7ce7...",
      "labels": {"stage3/66/0": "horn", "stage3/12/1": ""},
      "merged": [["stage3/66/0", "stage2/5/3"]],
      "rejected": ["stage4/9/0"]
    }

- ``labels``: node id to name; an empty one takes a name away. Nodes that aren't listed keep theirs.
- ``merged``: groups of two nodes or more that are one part, each node in one group at most. They
  stay nodes of their own, since each is found by its own filter, and all get the group's name: the
  only one among them, after ``labels``; where none has one, the id of the group's first node. So
  "all nodes of a part" are those of the same name.
- ``rejected``: nodes that are left out, with their edges.
- ``model_fingerprint`` says which model the graph is of; if it is there and differs, a warning is
  given.

All keys but the first two are optional, and no others are known.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from explgraph.errors import ExplgraphError, nearest

__all__ = ["FORMAT_VERSION", "Labels", "read_labels"]

FORMAT_VERSION = 1
_FORMAT = "explgraph labels"
_KEYS = ("format", "format_version", "model_fingerprint", "labels", "merged", "rejected")


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
    """

    labels: dict[str, str]
    merged: tuple[tuple[str, ...], ...]
    rejected: tuple[str, ...]
    model_fingerprint: str


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
        try:
            content = json.loads(Path(source).read_text("utf-8-sig"))
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
    return Labels(dict(labels), tuple(map(tuple, merged)), tuple(rejected), fingerprint)


def _check_ids(where: str, ids: Any) -> None:
    """Refuse what is no list of node ids."""
    if not isinstance(ids, (list, tuple)) or not all(isinstance(node, str) for node in ids):
        raise ExplgraphError(f"{where} is {ids!r}; expected a list of node ids")
