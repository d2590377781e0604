"""XML files that anybody may have written: no declarations of types, so no entities to expand.

A DOCTYPE is refused as soon as it begins: it is where entities are declared, those that grow
without end ("billion laughs") and those that fetch other files among them. No program that
annotates images writes one.
"""

from __future__ import annotations

import os
from typing import Any
from xml.etree import ElementTree

from explgraph.errors import ExplgraphError
from explgraph.textfiles import read_text

__all__ = ["read_xml"]

_DEEPEST = 50  # elements within elements; annotations have six


class _Refused(Exception):
    """Why a file isn't read; never leaves this module."""


class _Builder(ElementTree.TreeBuilder):
    """Builds the tree; refuses declarations and what is too deep."""

    depth = 0

    def doctype(self, *_: Any) -> None:
        raise _Refused("it has a DOCTYPE, which is not read: take that line out")

    def start(self, tag: Any, attrs: Any, /) -> ElementTree.Element:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _Refused(f"its elements are more than {_DEEPEST} deep")
        return super().start(tag, attrs)

    def end(self, tag: Any, /) -> ElementTree.Element:
        self.depth -= 1
        return super().end(tag)


def read_xml(path: str | os.PathLike[str]) -> ElementTree.Element:
    """Read an XML file; gives its outermost element.

    Raises
    ------
    ExplgraphError
        If it can't be read, is no XML, has a DOCTYPE, or is very deep.
    """
    text = read_text(path)
    parser = ElementTree.XMLParser(target=_Builder())
    try:
        parser.feed(text)
        found: ElementTree.Element = parser.close()
    except _Refused as err:
        raise ExplgraphError(f"{str(path)!r} isn't read: {err}") from err
    except (ElementTree.ParseError, ValueError) as err:
        raise ExplgraphError(f"{str(path)!r} isn't XML: {err}") from err
    return found
