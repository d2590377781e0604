"""Warns of pages that would ask other hosts for anything: the site must work from a folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

_ASKS = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'> ]+"""
    r"""|<link\b(?=[^>]*rel=["']?(?:stylesheet|preload|icon|preconnect))[^>]*href=["']?"""
    r"""(?:https?:)?//[^"'> ]+|@import\s+(?:url\()?["']?https?://[^"') ]+"""
)


def _check(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        for page in sorted(Path(app.outdir).rglob("*.html")):
            for found in _ASKS.findall(page.read_text(encoding="utf-8")):
                logging.getLogger(__name__).warning("%s asks another host: %s", page.name, found)


def setup(app: Sphinx) -> dict[str, Any]:
    """Check the pages when they are written."""
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
