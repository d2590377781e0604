"""How long a newcomer marks a part in 200 images: the page is used as a person would use it.

    python benchmarks/teach_by_hand.py [--target 0.03] [--json rows.json]

Creatures are drawn and mined, and the page of ``explgraph teach`` is opened in a real Chromium.
Whoever sits before it looks at each image that it asks about and

* presses Enter if its guess lies within the noise below of the part,
* clicks where the part is otherwise, which is off by 3 px of the network's image (112) in some
  direction,
* says that the part is not visible, if it is hidden or not in the picture,
* skips questions about the graph;

until the page suggests to stop. Then the truth is looked up: the error in all images that were not
marked and that show the part, mean over images, share of the diagonal. A person takes some four
seconds for an answer (`SECONDS`; the page's own time is measured beside it, from the answer to the
next image on the screen).
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks import setting
from benchmarks.viewer_speed import FLAGS
from explgraph import ImageFolder, creatures, mine
from explgraph.teaching.server import serving
from explgraph.teaching.teacher import Teacher

SIDE = creatures.SIZE if isinstance(creatures.SIZE, int) else creatures.SIZE[0]
NOISE = 3.0  # px of the network's image
SECONDS = 4.0  # a person's, for an answer
MOST = 60  # answers after which it is given up
ASKED = "#stage[data-image]:not([aria-busy]), #choosing:not([hidden])"

# from a key to what is asked next on the screen, ms, by the page's own clock: to wait for it from
# outside adds up to half a second
NEXT_IMAGE = """before => {
  const stage = document.getElementById("stage"), choosing = document.getElementById("choosing");
  let since;
  addEventListener("keydown", () => { since = performance.now(); }, { once: true, capture: true });
  window.took = new Promise(done => {
    new MutationObserver((_, observer) => {
      const image = stage.dataset.image;
      if ((!image || image === before) && choosing.hidden) return;
      observer.disconnect();
      requestAnimationFrame(() => done(performance.now() - since));
    }).observe(document.body, { attributes: true, subtree: true });
  });
}"""


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", default="eye,chest,snout,tail_tip")
    parser.add_argument("--target", type=float, help="share of the diagonal (none)")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="one part, few images")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    setting.announce()
    if options.small:
        options.parts, options.images, options.seeds = "eye", 60, 1
    rows = []
    with sync_playwright() as play, tempfile.TemporaryDirectory() as folder:
        browser = play.chromium.launch(executable_path=chromium(), args=FLAGS)
        print("part        seed answers clicks seconds  expected  true   answer to next image, ms")
        for seed in range(options.seeds):
            world = World(Path(folder) / str(seed), options.images, seed)
            for part in options.parts.split(","):
                row = world.taught(browser, part, options.target, seed)
                rows.append(row)
                print(
                    f"{part:11} {seed:4} {row['answers']:7} {row['clicks']:6} "
                    f"{row['seconds']:7.0f}  {row['expected']:8.3f}  {row['true']:.3f}  "
                    f"{row['next_ms']:.0f} (at most {row['next_ms_most']:.0f})",
                    flush=True,
                )
        browser.close()
    if options.json is not None:
        setting.write(options.json, rows)
    return rows


def chromium() -> str | None:
    """Find the browser; playwright's own otherwise."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def inside(value: float) -> float:
    """Keep a coordinate within the image."""
    return min(SIDE - 0.1, max(0.1, value))


def mark(page: Page, place: tuple[float, float] | None) -> None:
    """Click at a place, px of the network's image; say that the part isn't visible if None."""
    if place is None:
        page.keyboard.press("n")
        return
    box = page.locator("#picture").bounding_box()
    assert box is not None
    x, y = (v / SIDE * box[side] for v, side in zip(place, ("width", "height"), strict=True))  # type: ignore[literal-required]
    page.mouse.click(box["x"] + x, box["y"] + y)


class World:
    """Creatures in files, a graph of them and its parse."""

    def __init__(self, folder: Path, n: int, seed: int, side: int = 2 * SIDE) -> None:
        self.folder = folder
        self.side = side  # px of the files
        self.drawn = creatures.draw(n, seed=100 + seed, size=side)
        self.names = [f"{i:03}.png" for i in range(n)]
        (folder / "images").mkdir(parents=True)
        for name, colours in zip(self.names, self.drawn.images, strict=True):
            Image.fromarray(colours).save(folder / "images" / name)
        ready = {"size": SIDE, "mean": creatures.MEAN, "std": creatures.STD}
        self.images = ImageFolder(folder / "images", **ready)
        model = creatures.network()
        self.graph = mine(model, self.images, creatures.LAYERS, seed=0)
        self.parse = self.graph.parse(model, self.images)

    def taught(
        self, browser: Browser, part: str, target: float | None, seed: int
    ) -> dict[str, Any]:
        """Teach a part until the page suggests to stop; tell how that went."""
        with Teacher(
            self.graph, self.parse, [part], images=self.images, target=target,
            out=self.folder / part,
        ) as teacher, serving(teacher) as server:  # fmt: skip
            thread = threading.Thread(target=server.run, daemon=True)
            thread.start()
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(server.address.url)
            newcomer = Newcomer(page, self, part, seed)
            while newcomer.answers < MOST and not page.is_visible("#stop"):
                newcomer.answer()
            page.close()
            server.stop()
            thread.join()
            last = teacher.progress()[-1]
            return {
                "part": part, "seed": seed, "images": len(self.names), "target": target,
                "answers": newcomer.answers, "clicks": newcomer.clicks,
                "seconds": newcomer.answers * (SECONDS + float(np.mean(newcomer.took))),
                "stopped": last.stop, "expected": last.error,
                "true": self.error(teacher, part),
                "next_ms": 1000 * float(np.median(newcomer.took)),
                "next_ms_most": 1000 * max(newcomer.took),
            }  # fmt: skip

    def place(self, part: str, image: str) -> tuple[float, float] | None:
        """Where a part is, px of the network's image."""
        i = self.names.index(image)
        if not self.drawn.visible[part][i]:
            return None
        x, y = (float(v) * SIDE / self.side for v in self.drawn.parts[part][i])
        return (x, y) if 0 <= x <= SIDE and 0 <= y <= SIDE else None

    def error(self, teacher: Teacher, part: str) -> float:
        """Measure the true error where nobody marked, share of the diagonal."""
        guesses, marked = teacher.guesses().positions[part], teacher.marked()
        missed = [
            math.dist(guess, place) / (SIDE * math.sqrt(2))
            for name, guess in zip(self.names, guesses, strict=True)
            if part not in marked.get(name, {}) and (place := self.place(part, name)) is not None
        ]
        return float(np.mean(missed))


class Newcomer:
    """Answers as a person who sees the page for the first time."""

    def __init__(self, page: Page, world: World, part: str, seed: int) -> None:
        self.page, self.world, self.part = page, world, part
        self.random = np.random.default_rng(seed)
        self.answers = self.clicks = 0
        self.took: list[float] = []
        page.wait_for_selector(ASKED)
        page.wait_for_timeout(350)

    def answer(self) -> None:
        """Answer what is asked now; wait for what comes next."""
        page = self.page
        self.answers += 1
        if page.is_visible("#choosing"):
            page.keyboard.press("s")
            page.wait_for_selector("#choosing", state="hidden")
            page.wait_for_selector(ASKED)
            page.wait_for_timeout(350)
            return
        image = page.get_attribute("#stage", "data-image") or ""
        place = self.world.place(self.part, image)
        guess = self.guess()
        if place is None:
            mark(page, None)
        elif guess is None or math.dist(guess, place) > NOISE:
            turn = self.random.uniform(0, 2 * math.pi)
            x, y = place
            mark(page, (inside(x + NOISE * math.cos(turn)), inside(y + NOISE * math.sin(turn))))
            self.clicks += 1
        page.evaluate(NEXT_IMAGE, image)
        page.keyboard.press("Enter")
        self.took.append(page.evaluate("() => window.took") / 1000)
        # the curve, and with it the suggestion to stop, comes with the state, a moment later; and
        # keys that come at once aren't taken
        page.wait_for_selector("body:not([aria-busy])")
        page.wait_for_timeout(350)

    def guess(self) -> tuple[float, float] | None:
        """Where the page shows its guess."""
        pins = self.page.locator("#pins .pin")
        if not pins.count():
            return None
        style = pins.first.get_attribute("style") or ""
        told = dict(piece.split(":") for piece in style.replace(" ", "").split(";") if piece)
        return tuple(float(told[side].rstrip("%")) / 100 * SIDE for side in ("left", "top"))  # type: ignore[return-value]


if __name__ == "__main__":
    main()
