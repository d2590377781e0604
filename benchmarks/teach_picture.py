"""Draws ``docs/pictures/teach.png``: the page of ``explgraph teach``, on a desk and on a phone.

    python benchmarks/teach_picture.py [--out docs/pictures/teach.png]

Creatures are drawn and mined anew, in seconds on a CPU. Six of them are marked, then the page is
opened by somebody else on a phone. Needs Chromium and playwright.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import threading
from pathlib import Path

from PIL import Image

if __package__ in (None, ""):  # started as a script; last: what is drawn is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.teach_by_hand import ASKED, World, chromium, mark
from benchmarks.viewer_speed import FLAGS
from explgraph.atomic import atomic_write
from explgraph.teaching.server import serving
from explgraph.teaching.teacher import Teacher

PARTS = ("eye", "chest")
MARKED = 6
HIGH = 740  # px


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/teach.png"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        world = World(Path(folder) / "world", 200, 4, side=448)
        teacher = Teacher(world.graph, world.parse, PARTS, images=world.images, target=0.03)
        browser = play.chromium.launch(executable_path=chromium(), args=FLAGS)
        with teacher, serving(teacher) as server:
            thread = threading.Thread(target=server.run, daemon=True)
            thread.start()
            desk = opened(browser, server.address.url, 1280, "light")
            for _ in range(MARKED):
                answer(desk, world)
            desk.mouse.move(2, 2)
            phone = opened(browser, server.address.url, 360, "dark")
            desk.wait_for_timeout(3000)  # until guesses are at rest, and the phone's lease is known
            shots = [Image.open(io.BytesIO(page.screenshot())) for page in (desk, phone)]
            for page in (desk, phone):
                page.close()
            server.stop()
            thread.join()
        browser.close()
    gap = 24
    both = Image.new("RGB", (sum(shot.width for shot in shots) + gap, HIGH), "white")
    both.paste(shots[0], (0, 0))
    both.paste(shots[1], (shots[0].width + gap, 0))
    with atomic_write(options.out) as path:
        both.quantize(256).save(path, format="PNG", optimize=True)
    print(f"written: {options.out}")


def opened(browser: Browser, url: str, width: int, scheme: str) -> Page:
    """Open the page, once its first question is there."""
    page = browser.new_page(viewport={"width": width, "height": HIGH}, color_scheme=scheme)
    page.goto(url)
    page.wait_for_selector(ASKED)
    page.wait_for_timeout(1000)  # for thumbnails
    return page


def answer(page: Page, world: World) -> None:
    """Say of each part where it is."""
    image = page.get_attribute("#stage", "data-image") or ""
    page.wait_for_timeout(350)  # keys that come at once aren't taken
    for number, part in enumerate(PARTS, 1):
        page.keyboard.press(str(number))
        mark(page, world.place(part, image))
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#stage[data-image]:not([data-image='{image}'], [aria-busy])")


if __name__ == "__main__":
    main()
