"""HTML without scripts, every text escaped: tables for notebooks, pages."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable

__all__ = ["doubted", "escaped", "page", "table"]

_TEXT = 60  # characters of a name


def table(head: list[str], rows: list[list[object]], most: int = _TEXT) -> str:
    """Give an HTML table."""

    def line(cells: list[object] | list[str], tag: str) -> str:
        return "".join(f"<{tag}>{escaped(str(cell), most)}</{tag}>" for cell in cells)

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table><thead><tr>{line(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def escaped(text: str, most: int = _TEXT) -> str:
    """Escape a text, and cut it if it is long."""
    return html.escape(text if len(text) <= most else text[: most - 3] + "...")


def page(title: str, style: str, body: str, *, images: str = "data:") -> str:
    """Give a page that holds no script and asks for nothing.

    A Content-Security-Policy in it forbids both, and allows no style but its own, by its digest.

    Parameters
    ----------
    title : str
        As it is to be read.
    style, body : str
        CSS; HTML.
    images : str
        Where its pictures may come from, as such a policy says it.
    """
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"img-src {images}; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{html.escape(title)}</title><style>{style}</style></head><body>\n"
        f"{body}\n</body></html>\n"
    )


def doubted(doubts: Iterable[str]) -> str:
    """Give what speaks against a result, each doubt a paragraph of class ``doubt``."""
    return "".join(f'<p class="doubt">{html.escape(d[0].upper() + d[1:])}.</p>' for d in doubts)
