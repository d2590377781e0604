"""How fast the explorer page is: loading, and frames while moving, by the page's own frame clock.

    python benchmarks/viewer_speed.py [--nodes 5000] [--edges 20000] [--browser /usr/bin/chromium]
    python benchmarks/viewer_speed.py --page birds-graph/graph.html

A random graph of that size is written as a page, with patches on every node unless
``--no-patches``, and opened in headless Chromium without a GPU. The pointer then drags all of its
nodes about for three seconds at each of three scales, and the page's requestAnimationFrame times
are read back. Prints one table and the machine it ran on.

With ``--page``, a page that is there is opened several times, and when it was painted is told: its
first content, by Chromium's clock, and the tiles of its parts with their pictures, by the page's.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import networkx
import numpy as np
from playwright.sync_api import Page, sync_playwright

if __package__ in (None, ""):  # started as a script; last: what is measured is installed
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import setting
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.schema import FORMAT_VERSION
from explgraph.network.geometry import Layer
from explgraph.views.viewer import write_html

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZE = 224


def big_graph(n_nodes: int, n_edges: int, seed: int = 0) -> ExplanatoryGraph:
    """Make a random graph of four layers; nodes have one top image each, for its patch."""
    rng = np.random.default_rng(seed)
    names = ("features.28", "features.21", "features.14", "features.7")
    table = [
        Layer(name, i, 4096, 14, 14, (16.0, 16.0), (8.0, 8.0), (40.0 + 20 * i, 40.0 + 20 * i))
        for i, name in enumerate(reversed(names))
    ]
    nx = networkx.DiGraph(
        format_version=FORMAT_VERSION,
        image_size=[SIZE, SIZE],
        layers=[layer.as_dict() for layer in table],
        n_images=100,
        config={},
        seed=seed,
        versions={},
        model_fingerprint="benchmark",
        preprocessing={},
    )
    bands: list[list[str]] = []
    top: dict[str, list[list[Any]]] = {}
    for layer in reversed(table):
        bands.append([])
        for k in range(n_nodes // 4):
            node = f"{layer.name}/{k // 2}/{k % 2}"
            x, y = rng.uniform(0, SIZE, 2).tolist()
            share = rng.uniform(size=3).tolist()
            nx.add_node(
                node,
                layer=layer.name,
                layer_index=layer.index,
                filter=k // 2,
                pattern=k % 2,
                x=x,
                y=y,
                sigma=9.0,
                support=share[0],
                energy=share[1],
                reliability=share[2],
                follows=share[2],
                receptive_field=layer.receptive_field[0],
                label="",
            )
            top[node] = [[f"{int(rng.integers(20)):02}", x, y, 1.0]]
            bands[-1].append(node)
    linked: set[tuple[str, str]] = set()
    while len(linked) < n_edges:
        upper = int(rng.integers(3))
        k = int(rng.integers(len(bands[upper])))
        near = int(np.clip(k + rng.normal(0, 60), 0, len(bands[upper]) - 1))
        linked.add((bands[upper][k], bands[upper + 1][near]))
        nx.add_edge(
            bands[upper][k],
            bands[upper + 1][near],
            dx=0.0,
            dy=0.0,
            sigma=5.0,
            consistency=float(rng.uniform()),
            coactivation=0.5,
        )
    return ExplanatoryGraph(nx, {}, top)


def drag(page: Page, seconds: float) -> list[float]:
    """Drag the graph about in circles; give the durations of the page's frames, ms."""
    box = page.locator("#graph").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 8, y)
    page.evaluate("() => { explorer.frames.length = 0; }")
    step, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        step += 1
        angle = step / 25
        page.mouse.move(x + 260 * math.sin(angle), y + 170 * math.sin(1.7 * angle))  # waits for it
    times = page.evaluate("() => [...explorer.frames]")
    page.mouse.up()
    return np.diff(times).tolist()


def wait_until_loaded(page: Page) -> None:
    """Wait for the page; wait_for_function would evaluate text, which the page's policy forbids."""
    while not page.evaluate("() => window.explorer && explorer.loaded"):
        page.wait_for_timeout(50)


def paints(path: Path, browser_path: str, times: int = 7) -> list[dict[str, float]]:
    """Open a page several times; give when it was painted, ms from the start of the navigation.

    Returns
    -------
    list of dict
        ``first``: of any content; ``tiles``: of the parts, or of the nodes, with their pictures.
    """
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path, args=FLAGS)
        try:
            found = []
            for _ in range(times):
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                page.goto(path.resolve().as_uri())
                wait_until_loaded(page)
                first = page.evaluate(
                    "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"
                )
                found.append({"first": first, "tiles": page.evaluate("() => explorer.painted")})
                page.close()
            return found
        finally:
            browser.close()


def measure(path: Path, browser_path: str, seconds: float = 3.0) -> dict[str, Any]:
    """Open a page and measure it.

    Returns
    -------
    dict
        ``load`` s from the start of the navigation to the second frame after the script, and
        ``frames``: for each scale (1: everything in sight) the frames per second, the 95th
        percentile of a frame's duration (ms), nodes and links drawn.
    """
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path, args=FLAGS)
        try:
            page: Page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(path.as_uri())
            wait_until_loaded(page)
            load = page.evaluate("() => explorer.loaded") / 1000
            page.locator("#crumbs button").last.click()  # all nodes,
            page.uncheck("#best")  # without leaving any out
            page.wait_for_timeout(500)
            results = []
            for scale in (1, 3, 10):
                if scale > 1:
                    page.keyboard.press("0")
                    page.wait_for_timeout(600)
                    page.evaluate("scale => explorer.zoom(scale)", scale)
                    page.wait_for_timeout(400)
                frames = drag(page, seconds)
                drawn = page.evaluate("() => explorer.state().drawn")
                results.append(
                    {
                        "scale": scale,
                        "fps": 1000 * len(frames) / sum(frames),
                        "p95": float(np.percentile(frames, 95)),
                        "worst": max(frames),
                        "nodes": drawn["nodes"],
                        "edges": drawn["edges"],
                    }
                )
            return {"load": load, "frames": results, "browser": browser.version}
        finally:
            browser.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--nodes", type=int, default=5000)
    options.add_argument("--edges", type=int, default=20_000)
    options.add_argument("--no-patches", action="store_true")
    options.add_argument("--browser", default="/usr/bin/chromium")
    options.add_argument("--page", type=Path, help="a page that is there, in place of a random one")
    given = options.parse_args()
    setting.announce()
    if given.page is not None:
        found = paints(given.page, given.browser)
        print(
            f"{given.page.stat().st_size / 1e6:.1f} MB, opened {len(found)} times; load average "
            f"{os.getloadavg()[0]:.1f}"
        )
        for name, told in (("first", "first content"), ("tiles", "tiles with their pictures")):
            values = [one[name] for one in found]
            print(f"{told}: median {np.median(values):.0f} ms, best {min(values):.0f} ms")
        return
    graph = big_graph(given.nodes, given.edges)
    images = None
    if not given.no_patches:
        blocks = np.random.default_rng(1).integers(0, 256, (20, 14, 14, 3), dtype=np.uint8)
        images = blocks.repeat(16, 1).repeat(16, 2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.html"
        write_html(graph, path, images=images)
        result = measure(path, given.browser)
        megabytes = path.stat().st_size / 1e6
    print(
        f"{len(graph):,} nodes, {graph.nx.number_of_edges():,} links, page of {megabytes:.1f} MB; "
        f"Chromium {result['browser']} without GPU, {os.cpu_count()} cores of "
        f"{platform.machine()}, load average {os.getloadavg()[0]:.1f}"
    )
    print(f"load: {result['load']:.2f} s")
    print("scale  frames/s  95 % of frames within  worst   nodes drawn  links drawn")
    for row in result["frames"]:
        print(
            f"{row['scale']:5}  {row['fps']:8.0f}  {row['p95']:18.0f} ms  {row['worst']:3.0f} ms"
            f"  {row['nodes']:11,}  {row['edges']:11,}"
        )


if __name__ == "__main__":
    main()
