"""Groups of images with something in common, as a page that is complete in itself."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from explgraph import markup
from explgraph.answers.suspicion import Suspicion
from explgraph.answers.suspicion_figure import in_pixels
from explgraph.views.pictures import Pictures, jpeg

__all__ = ["suspicion_page"]

_IMAGES = 12
_SIDE = 120  # px of the page

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5em auto; max-width: 76em; padding: 0 1em;
       color: #1f2933; background: #fff }
h1 { font-size: 1.35em; margin: .2em 0 } h2 { font-size: 1.05em; margin: 1.4em 0 .3em }
p { margin: .3em 0 } .quiet { color: #5b6774 } .suspicious { border-left: 4px solid #c2570c;
       padding-left: .8em } .doubt { border-left: 4px solid #5b6774; padding: .3em .8em }
img { border-radius: 3px; margin: 0 4px 4px 0 }
@media (prefers-color-scheme: dark) { body { background: #14181d; color: #e3e8ee }
  .quiet { color: #9aa7b4 } }
"""


def suspicion_page(
    groups: Sequence[Suspicion], pictures: Pictures, head: str, doubts: Sequence[str]
) -> str:
    """Give the page of groups; `head` says what was examined, `doubts` what was not."""
    sections = []
    for one in groups:
        tiles = []
        for number, region in zip(one.rows[:_IMAGES], one.regions, strict=False):
            picture = pictures[number]
            inside = in_pixels(region, picture.shape[:2])[..., None]
            dim = np.where(inside, picture, picture // 2 + 90).astype(np.uint8)
            name = html.escape(pictures.names[number], quote=True)
            tiles.append(
                f'<img width="{_SIDE}" alt="{name}" title="{name}" src="{jpeg(dim, 2 * _SIDE)}">'
            )
        kind = ' class="suspicious"' if one.suspicious else ""
        title = f"{'Suspicious: ' if one.suspicious else ''}{one.target}, {one.where}"
        sections.append(
            f"<section{kind}><h2>{html.escape(title)}</h2><p>{html.escape(one.told)}.</p>"
            f'<p class="quiet">{html.escape(_numbers(one))}</p>{"".join(tiles)}</section>'
        )
    body = (
        f"<h1>What some images of a class share</h1><p>{html.escape(head)}. What they share is as "
        "bright as it is; the rest of a picture is pale.</p>"
        f"{markup.doubted(doubts)}{''.join(sections)}"
    )
    return markup.page("Hidden biases", _STYLE, body)


def _numbers(one: Suspicion) -> str:
    """Give a group's numbers as a line."""
    parts = ", ".join(f"{title} {adds:+.2g}" for title, adds in one.parts) or "none"
    tested = "" if np.isnan(one.q) else f", q {one.q:.2g}"
    return (
        f"{len(one.rows)} images; lead {one.lead:+.2f}, fall {one.fall:+.2f}, surplus "
        f"{one.surplus:+.2f}{tested}; wrong {one.errors[0]:.1%}, the rest {one.errors[1]:.1%}; "
        f"parts that add more than elsewhere: {parts}"
    )
