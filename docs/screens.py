"""Makes the pictures of *Files and viewers*: how graphs of creatures look in other programs.

    (cd tests/views/js && npm ci) && python docs/screens.py

Needs Chromium, playwright, cytoscape.js (of ``tests/views/js``), Tulip and Xvfb (Debian: ``apt
install tulip xvfb``). Other pictures of the documentation are made while it is built, or by the
command that stands below them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import networkx as nx
from PIL import Image, ImageGrab, ImageOps
from playwright.sync_api import Browser, Page, sync_playwright

import explgraph
from explgraph import creatures

HERE = Path(__file__).parent
CYTOSCAPE = HERE.parent / "tests" / "views" / "js" / "node_modules" / "cytoscape" / "dist"
PAGE = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<div id="cy" style="width:100vw;height:100vh"></div><script>{library}</script><script>
cytoscape({{container: document.getElementById("cy"), layout: {{name: "preset"}}, ...{graph},
  style: [
    {{selector: "node", style: {{width: 26, height: 26, label: "data(filter)", color: "white",
      "font-size": 11, "text-valign": "center", "text-halign": "center",
      "background-color": "mapData(reliability, 0, 1, #d8e6f3, #08519c)"}}}},
    {{selector: "edge", style: {{width: 1.5, "line-color": "#9aa5ad", "curve-style": "bezier",
      "target-arrow-shape": "triangle", "target-arrow-color": "#9aa5ad"}}}}]}}).fit(undefined, 50);
</script>"""


def main() -> None:
    """Write the pictures."""
    model, drawn = creatures.network(), creatures.draw(200, seed=1)
    graph = explgraph.mine(model, drawn.tensor(), creatures.LAYERS, seed=0)
    rows = {layer.index: graph.subgraph([layer.name]).prune(top=10) for layer in graph.layers}
    small = graph.restricted(node for row in rows.values() for node in row.nx)
    by_networkx(
        small, {i: list(row.nx) for i, row in rows.items()}, HERE / "pictures" / "networkx.png"
    )
    with sync_playwright() as play, tempfile.TemporaryDirectory() as folder:
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        explorer(graph, drawn, model, browser, Path(folder) / "explorer.html")
        small.write(Path(folder) / "small.cyjs")
        text = (Path(folder) / "small.cyjs").read_text(encoding="utf-8")
        library = (CYTOSCAPE / "cytoscape.min.js").read_text(encoding="utf-8")
        page = browser.new_page(viewport={"width": 900, "height": 460})
        page.set_content(PAGE.format(library=library, graph=text.strip()))
        shot(page, "cytoscape.png", margin=12)
        browser.close()
        small.write(Path(folder) / "creatures.gexf")
        tulip(Path(folder), "creatures.gexf", HERE / "pictures" / "tulip.png")


def explorer(
    graph: explgraph.ExplanatoryGraph,
    drawn: creatures.Creatures,
    model: creatures.CreatureNet,
    browser: Browser,
    file: Path,
) -> None:
    """Show the explorer page, with a part and an image chosen."""
    images = [Image.fromarray(picture) for picture in drawn.images]
    graph.write(file, images=images, parse=graph.parse(model, drawn.tensor()))
    page = browser.new_page(viewport={"width": 1440, "height": 860}, device_scale_factor=1)
    page.goto(file.as_uri())
    page.wait_for_timeout(1500)  # for pictures; the page's policy forbids wait_for_function
    page.locator(".card-main").first.click()
    page.locator("#thumbs button").nth(4).click()
    page.mouse.move(2, 2)
    shot(page, "explorer.png", colours=256)


def shot(page: Page, name: str, margin: int | None = None, colours: int = 128) -> None:
    """Take a picture of a page, in few colours; cut to what isn't white if a margin is given."""
    page.wait_for_timeout(1000)
    file = HERE / "pictures" / name
    page.screenshot(path=str(file))
    picture = Image.open(file).convert("RGB")
    if margin is not None:
        left, top, right, bottom = ImageOps.invert(picture).getbbox() or (0, 0, *picture.size)
        picture = picture.crop((left - margin, top - margin, right + margin, bottom + margin))
    picture.quantize(colours).save(file, optimize=True)


def tulip(folder: Path, name: str, picture: Path) -> None:
    """Open a graph's file in Tulip, on a screen that nobody sees, and take a picture of it."""
    display, width, height = ":78", 1180, 700
    seen = {"DISPLAY": display, "HOME": str(folder), "LIBGL_ALWAYS_SOFTWARE": "1"}
    screen = subprocess.Popen(["Xvfb", display, "-screen", "0", f"{width}x{height}x24"])
    time.sleep(3)
    program = subprocess.Popen(
        ["tulip_perspective", "--perspective=Tulip", f"--geometry=0,0,{width},{height}", name],
        cwd=folder,
        env=os.environ | seen,
    )
    time.sleep(30)
    shown = ImageGrab.grab(xdisplay=display)
    for started in (program, screen):
        started.terminate()
        started.wait()
    shown.quantize(128).save(picture, optimize=True)


def by_networkx(graph: explgraph.ExplanatoryGraph, rows: dict[int, list[str]], file: Path) -> None:
    """Draw as the page's example does."""
    mpl.use("Agg")
    shown = graph.nx
    places = nx.multipartite_layout(shown, rows, "horizontal")
    colours = [reliability for _, reliability in shown.nodes(data="reliability")]
    figure, ax = plt.subplots(figsize=(8, 3), layout="constrained")
    nx.draw(shown, places, ax=ax, node_size=80, node_color=colours, edge_color="gray")
    figure.savefig(file)


if __name__ == "__main__":
    main()
