"""``{result} explgraph.find_bias``: documents the class that a public function gives.

So that pages need not say in which module such a class lives.
"""

from __future__ import annotations

import importlib
import re
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.util.docutils import SphinxDirective


def returned(path: str) -> type:
    """Find the class that ``package.name`` gives, or an attribute of what it gives.

    ``explgraph.find_bias.judge`` is what the method ``judge`` of the result of ``find_bias`` gives;
    of a list or a tuple, its items.
    """
    package, *names = path.split(".")
    found: Any = importlib.import_module(package)
    for i, name in enumerate(names):
        if i and not isinstance(found, type):
            found = _given(found, package)
        if name in getattr(found, "__annotations__", {}):
            return _named(found.__annotations__[name], found, package)
        found = getattr(found, name)
    return _given(found, package)


def _given(function: Any, package: str) -> type:
    """Find the class that a function gives."""
    function = function.fget if isinstance(function, property) else function
    return _named(function.__annotations__["return"], function, package)


def _named(annotation: str, user: Any, package: str) -> type:
    """Find the class whose name comes last in an annotation, "list[Judgement]"."""
    name = [word for word in re.findall(r"\w+", annotation) if word[:1].isupper()][-1]
    for module in (user.__module__, package):
        found = getattr(importlib.import_module(module), name, None)
        if isinstance(found, type):
            return found
    raise LookupError(f"{annotation} isn't known in {user.__module__}")


class Result(SphinxDirective):
    """Documents what a function gives, with some of its members if they are named."""

    required_arguments = 1
    option_spec: ClassVar = {"members": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Stand in for autoclass."""
        found = returned(self.arguments[0])
        lines = [f".. autoclass:: {found.__module__}.{found.__qualname__}()"]
        if "members" in self.options:
            lines += [f"   :members: {self.options['members']}"]
        lines = "\n".join(["```{eval-rst}", *lines, "```", ""])
        return self.parse_text_to_nodes(lines, allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive; attributes are called so, not "variables"."""
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.add_directive("result", Result)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
