"""The page that ``explgraph visualize`` writes: pictures below each other, without scripts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from explgraph.atomic import atomic_write
from explgraph.markup import escaped, page

__all__ = ["write_page"]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #15181c } }
img { max-width: 100%; height: auto }
h2 { font-size: 1.1rem; margin: 2.5rem 0 0.5rem }
p { max-width: 45rem }
"""
_HEAD = """<h1>What nodes answer to</h1>
<p>Patches: where the node or part was found best, with its score. Heat: what every pixel adds to
its answer; the outline holds half of the heat. Optimised: the image it answers to most, in the
spectrum of these photographs; what doesn't matter fades. Inverted: an image that shows the same
nodes at the same places, and nothing else.</p>
"""


def write_page(path: str | os.PathLike[str], pictures: Sequence[tuple[str, Path]]) -> None:
    """Write a page of pictures.

    Parameters
    ----------
    path : path
        Of the page, in the pictures' folder.
    pictures : sequence of (str, path)
        With their titles.
    """
    body = "".join(
        f'<h2>{escaped(title)}</h2>\n<img src="{quote(file.name)}" alt="{escaped(title)}">\n'
        for title, file in pictures
    )
    with atomic_write(path) as temporary:
        # files beside a page that is opened from a disk are no "self" to all browsers
        whole = page("What nodes answer to", _STYLE, _HEAD + body, images="'self' file:")
        temporary.write_text(whole, encoding="utf-8")
