"""Drawings, and files that other programs open."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explgraph.graph import ExplanatoryGraph

__all__ = ["write"]


def write(graph: ExplanatoryGraph, path: str | os.PathLike[str], **options: Any) -> None:
    """Write a graph by the suffix of `path`."""
    raise NotImplementedError
