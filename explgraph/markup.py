"""What notebooks show: HTML tables without scripts, every text escaped."""

from __future__ import annotations

import html

__all__ = ["escaped", "table"]

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
