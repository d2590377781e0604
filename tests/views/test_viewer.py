"""The explorer page: what is in it, and the page itself in a real Chromium."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import socket
import threading
import urllib.request
from html.parser import HTMLParser
from urllib.error import HTTPError

import networkx
import numpy as np
import pytest
from PIL import Image
from random_graphs import HOSTILE, random_graph
from test_pictures import parse_of

from explgraph import creatures, mine
from explgraph.errors import ExplgraphError
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.views import viewer

SIZE = (48, 64)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


def world(n=6, nodes=8, **options):
    """A graph, pictures of one colour each, and a parse of them."""
    graph = random_graph(2, nodes=nodes, image_size=SIZE, **options)
    images = np.zeros((n, *SIZE, 3), np.uint8)
    images[:] = (40 * np.arange(n) + 20)[:, None, None, None]
    parse = parse_of(graph, n)
    np.clip(parse.positions, 6, [SIZE[1] - 6, SIZE[0] - 6], out=parse.positions)
    return graph, images, parse


class Page(HTMLParser):
    """The scripts of a page, and everything that it would load."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.addresses, self.policy, self.title, self._in = [], [], "", "", None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self._in = tag
        if tag == "script":
            self.scripts.append([attributes, ""])
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"]
        self.addresses += [attributes[a] for a in ("src", "href") if a in attributes]

    def handle_endtag(self, _tag):
        self._in = None

    def handle_data(self, text):
        if self._in == "script":
            self.scripts[-1][1] += text
        elif self._in == "title":
            self.title += text


def content_of(text):
    (attributes, data), _ = Page(text).scripts
    assert attributes["type"] == "application/json"
    return json.loads(data)


def tiles_of(sheets):
    tiles = []
    for sheet in sheets:
        kind, _, data = sheet.partition(",")
        assert kind == "data:image/jpeg;base64"
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        rows, columns = image.shape[0] // 64, image.shape[1] // 64
        tiles += [
            image[64 * r : 64 * r + 64, 64 * c : 64 * c + 64]
            for r in range(rows)
            for c in range(columns)
        ]
    return tiles


# --- what is in the page -------------------------------------------------------------------------


def test_the_page_is_complete_in_itself(tmp_path):
    graph, images, parse = world()
    graph.write(tmp_path / "birds.html", images=images, parse=parse)
    page = Page((tmp_path / "birds.html").read_text("utf-8"))
    assert page.title == "birds"
    assert page.addresses == ["data:,"]
    assert len(page.scripts) == 2
    script = page.scripts[1][1]
    assert "default-src 'none'" in page.policy
    digest = base64.b64encode(__import__("hashlib").sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.policy
    for banned in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "http"):
        assert banned not in script, banned


def test_the_graph_is_in_the_page():
    graph = random_graph(4, nodes=[3, 4, 5], labels=HOSTILE)
    content = content_of(viewer.page(graph, title="@DATA@ </script>"))
    assert content["title"] == "@DATA@ </script>"
    nodes = list(graph.nx.nodes.values())
    assert content["nodes"]["filter"] == [a["filter"] for a in nodes]
    labels = [content["nodes"]["label"].get(str(k), "") for k in range(len(nodes))]
    assert labels == [a["label"] for a in nodes]
    assert [graph.layers[k].name for k in content["nodes"]["layer"]] == [a["layer"] for a in nodes]
    np.testing.assert_allclose(content["nodes"]["x"], [a["x"] for a in nodes], atol=6e-4)
    ids = graph.node_ids
    edges = zip(content["edges"]["parent"], content["edges"]["child"], strict=True)
    assert sorted((ids[u], ids[v]) for u, v in edges) == sorted(graph.nx.edges)
    assert content["edges"]["consistency"] == sorted(content["edges"]["consistency"], reverse=True)
    assert sorted(i for band in content["order"] for i in band) == list(range(12))
    assert [content["nodes"]["layer"][band[0]] for band in content["order"]] == [2, 1, 0]
    assert "strip" not in content
    assert "mean_tile" not in content


def test_patches_and_places_are_those_of_the_parse():
    graph, images, parse = world()
    parse.scores[:, 3] = [0, 0, 3, 0, 1, 2]
    content = content_of(viewer.page(graph, images=images, parse=parse))
    tops = tiles_of(content["top_sheets"])
    assert [name for name, _ in content["top"][3]] == ["2", "5", "4"]
    centres = [tops[content["top_tile"][3] + k][32, 32, 0] for k in range(3)]
    np.testing.assert_allclose(centres, images[[2, 5, 4], 0, 0, 0], atol=4)
    mean = tiles_of(content["mean_sheets"])[content["mean_tile"][3]]
    np.testing.assert_allclose(mean[32, 32], images[[2, 5, 4], 0, 0, 0].mean(), atol=4)
    strip = content["strip"]
    whole = np.frombuffer(base64.b64decode(strip["positions"]), "<u2").reshape(6, -1, 2)
    np.testing.assert_allclose((whole / 65535 * 3 - 1) * [64, 48], parse.positions, atol=0.002)
    scores = np.frombuffer(base64.b64decode(strip["scores"]), np.uint8).reshape(6, -1)
    np.testing.assert_allclose(scores / 255, parse.scores / parse.scores.max(0), atol=0.003)
    assert scores[:, 3].tolist() == [0, 0, 255, 0, 85, 170]
    pictures = [Image.open(io.BytesIO(base64.b64decode(p[23:]))) for p in strip["pictures"]]
    assert [p.size for p in pictures] == [(64, 48)] * 6
    np.testing.assert_allclose(
        [p.getpixel((9, 9))[0] for p in pictures], images[:, 0, 0, 0], atol=2
    )


def test_the_strip_is_an_even_choice_of_the_images():
    graph, images, parse = world(n=10)
    content = content_of(viewer.page(graph, images=images, parse=parse, strip=4))
    assert content["strip"]["names"] == ["0", "2", "5", "7"]
    assert content["strip"]["of"] == 10
    whole = np.frombuffer(base64.b64decode(content["strip"]["positions"]), "<u2").reshape(4, -1, 2)
    wanted = parse.positions[[0, 2, 5, 7]]
    np.testing.assert_allclose((whole / 65535 * 3 - 1) * [64, 48], wanted, atol=0.002)
    assert (
        content_of(viewer.page(graph, images=images, parse=parse, strip=0))["strip"]["names"] == []
    )


def test_without_a_parse_the_places_are_those_that_the_graph_remembers():
    graph, images, _ = world()
    node = graph.node_ids[1]
    graph.top_images = {node: [["4", 10.0, 20.0, 3.0], ["1", 30.0, 40.0, 1.5]]}
    content = content_of(viewer.page(graph, images=images))
    scores = np.frombuffer(base64.b64decode(content["strip"]["scores"]), np.uint8).reshape(6, -1)
    assert np.argwhere(scores).tolist() == [[1, 1], [4, 1]]
    assert scores[[4, 1], 1].tolist() == [255, 128]
    assert content["mean_tile"] == [0 if v == node else -1 for v in graph.node_ids]
    assert content["strip"]["complete"] is False


def test_pruned_graphs_take_the_parse_of_the_whole():
    graph, images, parse = world()
    content = content_of(viewer.page(graph.prune(top=5), images=images, parse=parse))
    pruned = graph.prune(top=5)
    columns = [parse.nodes.index(v) for v in pruned.node_ids]
    whole = np.frombuffer(base64.b64decode(content["strip"]["positions"]), "<u2").reshape(6, 5, 2)
    wanted = parse.positions[:, columns]
    np.testing.assert_allclose((whole / 65535 * 3 - 1) * [64, 48], wanted, atol=0.002)


def test_faults_are_named(tmp_path):
    graph, images, parse = world()
    with pytest.raises(ExplgraphError, match="parse needs the images"):
        graph.write(tmp_path / "x.html", parse=parse)
    with pytest.raises(ExplgraphError, match="parse is of image '5', which images lacks"):
        viewer.page(graph, images=images[:5], parse=parse)
    graph.top_images = {graph.node_ids[0]: [["birds/1.jpg", 1.0, 1.0, 1.0]]}
    with pytest.raises(ExplgraphError, match="none of those that the graph was mined from, such"):
        viewer.page(graph, images=images)
    with pytest.raises(ExplgraphError, match="strip is -1"):
        viewer.page(graph, images=images, strip=-1)
    assert list(tmp_path.iterdir()) == []


def test_thumbnails_are_files_that_drawings_take(tmp_path):
    graph, images, parse = world(nodes=2)
    files = viewer.write_thumbnails(graph, tmp_path / "thumbs", images, parse=parse, size=32)
    assert list(files) == list(graph.node_ids)
    for node, path in files.items():
        k = parse.nodes.index(node)
        best = np.argsort(-parse.scores[:, k])[:8]
        with Image.open(path) as picture:
            assert picture.size == (32, 32)
            np.testing.assert_allclose(
                picture.getpixel((16, 16)), images[best, 0, 0, 0].mean(), atol=1
            )
    graph.write(tmp_path / "x.svg", pictures=files)
    svg = (tmp_path / "x.svg").read_text()
    assert len(re.findall("<image [^>]*data:image/png;base64,", svg)) == len(graph)


def test_a_mined_graph_of_300_nodes_makes_a_page_of_5_mb_at_most(tmp_path):
    drawn = creatures.draw(120, seed=0)
    network = creatures.network()
    graph = mine(network, drawn.tensor(), creatures.LAYERS).prune(top=300)
    assert len(graph) == 300
    parse = graph.parse(network, drawn.tensor())
    graph.write(tmp_path / "creatures.html", images=drawn.images, parse=parse)
    assert (tmp_path / "creatures.html").stat().st_size <= 5e6
    content = content_of((tmp_path / "creatures.html").read_text("utf-8"))
    assert min(content["top_tile"]) >= 0  # every node has its patches
    assert min(len(seen) for seen in content["top"]) == 8


# --- the server ----------------------------------------------------------------------------------


def test_the_server_answers_this_machine_only(tmp_path):
    graph = random_graph(nodes=3)
    graph.save(tmp_path / "birds.explgraph")
    with viewer.serving(tmp_path / "birds.explgraph") as server:
        host, port = server.server_address
        assert host == "127.0.0.1"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            address = f"http://127.0.0.1:{port}/"
            with urllib.request.urlopen(address, timeout=10) as answer:
                assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
                assert answer.headers["Cache-Control"] == "no-store"
                assert Page(answer.read().decode()).title == "birds"
            for path, headers, code in (
                ("birds.explgraph", {}, 404),
                ("", {"Host": "evil.example"}, 403),
                ("", {"Host": f"evil.example:{port}"}, 403),
            ):
                request = urllib.request.Request(address + path, headers=headers)
                with pytest.raises(HTTPError) as refused:
                    urllib.request.urlopen(request, timeout=10)
                assert refused.value.code == code
                refused.value.close()
        finally:
            server.shutdown()
            thread.join()


def test_serve_opens_the_page_and_ends_with_ctrl_c(monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(viewer.webbrowser, "open", opened.append)

    def interrupted(_server):
        raise KeyboardInterrupt

    monkeypatch.setattr(viewer.ThreadingHTTPServer, "serve_forever", interrupted)
    viewer.serve(random_graph(nodes=2))
    (address,) = opened
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
    assert address in capsys.readouterr().out
    viewer.serve(random_graph(nodes=2), open_browser=False)
    assert len(opened) == 1


def test_a_port_that_is_taken_is_an_error():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ExplgraphError, match=f"can't serve on port {port}: .*port=0"):
            viewer.serve(random_graph(nodes=2), port=port)
    with pytest.raises(ExplgraphError, match="can't serve on port 99999"):
        viewer.serve(random_graph(nodes=2), port=99999)


# --- in a browser --------------------------------------------------------------------------------

browsing = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    missing = None if CHROMIUM else "no Chromium on this machine (Debian: apt install chromium)"
    try:
        from playwright.sync_api import sync_playwright

        from benchmarks.viewer_speed import FLAGS
    except ImportError:
        missing = "playwright isn't installed (pip install playwright)"
    if missing:
        assert not os.environ.get("CI"), missing
        pytest.skip(missing)
    with sync_playwright() as play:
        launched = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def opened(browser, tmp_path):
    """A function that opens a graph's page; no console message may come."""
    contexts = []

    def open_page(graph, width=1280, height=800, scheme="light", **options):
        path = tmp_path / f"page{len(contexts)}.html"
        graph.write(path, **options)
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        page = context.new_page()
        heard = []
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda r: heard.append(r.url) if r.url[:4] == "http" else None)
        page.goto(path.as_uri())
        wait_for(page, "window.explorer && explorer.loaded")
        contexts.append((context, heard))
        return page

    yield open_page
    for context, heard in contexts:
        context.close()
        assert heard == []


def wait_for(page, expression):
    """Wait in the page; Playwright's own wait_for_function would break the page's policy."""
    page.evaluate(f"""async () => {{
        const end = performance.now() + 20000;
        while (!({expression})) {{
            if (performance.now() > end) throw new Error("waited in vain");
            await new Promise(done => setTimeout(done, 20));
        }}
    }}""")


def state(page):
    return page.evaluate("() => explorer.state()")


def click_node(page, node):
    page.mouse.click(*page.evaluate("id => explorer.at(id)", node))


def shot(page, clip=None):
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB"))


@browsing
def test_everything_is_drawn(opened):
    graph, images, parse = world(n=5, nodes=12)
    page = opened(graph, images=images, parse=parse)
    now = state(page)
    assert (now["nodes"], now["edges"]) == (36, graph.nx.number_of_edges())
    assert now["shown"] == now["drawn"]["nodes"] == 36
    assert now["drawn"]["edges"] == graph.nx.number_of_edges()  # three parents at most
    assert page.inner_text("#count") == "36 parts · 72 links · 200 images"
    assert page.locator("#thumbs button").count() == 5
    # every node is on the screen, in its layer's band: its mean patch is a grey of the images
    page.wait_for_timeout(300)
    picture = shot(page)
    rows = {}
    for node, a in graph.nx.nodes.items():
        x, y = page.evaluate("id => explorer.at(id)", node)
        best = np.argsort(-parse.scores[:, parse.nodes.index(node)])
        assert abs(picture[int(y), int(x)].astype(float) - images[best, 0, 0, 0].mean()).max() < 6
        rows.setdefault(a["layer_index"], []).append(y)
    assert max(rows[2]) < min(rows[1])
    assert max(rows[1]) < min(rows[0])


@browsing
def test_a_click_opens_a_part_and_its_relatives(opened):
    graph, images, parse = world(nodes=12)
    page = opened(graph, images=images, parse=parse)
    node = max(graph.nodes_of("features.21"), key=lambda v: graph.nx.degree(v))
    click_node(page, node)
    assert state(page)["selected"] == node
    panel = page.inner_text("#part")
    values = graph.nx.nodes[node]
    assert f"filter {values['filter']}, part {values['pattern']}" in panel
    assert node in panel
    for name in ("reliability", "follows", "support", "energy"):
        meter = page.locator("#part .figures .help", has_text=name.capitalize())
        value = meter.locator("xpath=following-sibling::*[2]").inner_text()
        assert abs(float(value.removesuffix("%")) - 100 * values[name]) < 1
    assert f"Parts above ({graph.nx.in_degree(node)})" in panel
    assert f"Parts below ({graph.nx.out_degree(node)})" in panel
    siblings = [v for v in graph.nodes_of("features.21", values["filter"]) if v != node]
    assert f"Same filter ({len(siblings)})" in panel
    assert page.locator("#part .patches canvas").count() == 6
    # a neighbour in the list leads on
    parent = max(graph.nx.pred[node], key=lambda u: graph.nx.edges[u, node]["consistency"])
    page.locator("#part section", has_text="Parts above").locator("button.item").first.click()
    assert state(page)["selected"] == parent
    page.keyboard.press("Escape")
    assert state(page)["selected"] is None
    assert not page.is_visible("#panel")


@browsing
def test_hover_tells_and_highlights(opened):
    graph = random_graph(2, nodes=12, image_size=SIZE)
    page = opened(graph)
    node = max(graph.nodes_of("features.21"), key=lambda v: graph.nx.out_degree(v))
    stranger = next(
        v for v in graph.nodes_of("features.14")
        if node not in graph.nx.pred[v]
    )  # fmt: skip
    child = next(iter(graph.nx.succ[node]))
    page.mouse.move(*page.evaluate("id => explorer.at(id)", node))
    page.wait_for_timeout(100)
    assert state(page)["hovered"] == node
    assert f"filter {graph.nx.nodes[node]['filter']}" in page.inner_text("#tip")
    picture = shot(page).astype(int)

    def edge_colour(v):
        x, y = page.evaluate("id => explorer.at(id)", v)
        k = page.evaluate("() => explorer.state().view.k")
        side = (20 + 30 * graph.nx.nodes[v]["support"] ** 0.5) * k
        return picture[int(y), int(x - side / 2 + 1)]

    assert abs(edge_colour(child) - [0x00, 0x80, 0x5C]).max() < 12  # the children's colour
    assert edge_colour(stranger).min() > 150  # faded


@browsing
def test_the_keyboard_goes_everywhere(opened):
    graph, images, parse = world(nodes=6)
    page = opened(graph, images=images, parse=parse)
    page.focus("#graph")
    page.keyboard.press("ArrowRight")
    first = state(page)["selected"]
    assert graph.nx.nodes[first]["layer"] == "features.28"
    page.keyboard.press("ArrowRight")
    second = state(page)["selected"]
    assert second != first
    page.keyboard.press("ArrowLeft")
    assert state(page)["selected"] == first
    while not graph.nx.succ[state(page)["selected"]]:
        page.keyboard.press("ArrowRight")
    parent = state(page)["selected"]
    page.keyboard.press("ArrowDown")
    child = max(graph.nx.succ[parent], key=lambda v: graph.nx.edges[parent, v]["consistency"])
    assert state(page)["selected"] == child
    page.keyboard.press("ArrowUp")
    above = max(graph.nx.pred[child], key=lambda u: graph.nx.edges[u, child]["consistency"])
    assert state(page)["selected"] == above
    scale = state(page)["view"]["k"]
    page.keyboard.press("+")
    assert state(page)["view"]["k"] > scale
    page.keyboard.press("0")
    assert state(page)["view"]["k"] == pytest.approx(scale, rel=0.2)
    page.keyboard.press("]")
    page.keyboard.press("]")
    assert state(page)["image"] == "1"
    page.keyboard.press("[")
    assert state(page)["image"] == "0"
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("Escape")
    assert not page.is_visible("#help")
    page.keyboard.press("n")
    page.keyboard.type("tail, tip")
    page.keyboard.press("Enter")
    assert state(page)["decisions"]["labels"] == {above: "tail, tip"}
    page.keyboard.press("r")
    assert state(page)["decisions"]["rejected"] == [above]
    page.keyboard.press("Control+z")
    assert state(page)["decisions"]["rejected"] == []


@browsing
def test_search_and_filters(opened):
    graph, images, parse = world(nodes=15)
    named = graph.node_ids[20]
    graph.nx.nodes[named]["label"] = "Left wing"
    page = opened(graph, images=images, parse=parse)
    page.keyboard.press("/")
    page.keyboard.type("WING left")
    assert page.locator("#results li").count() == 1
    page.keyboard.press("Enter")
    assert state(page)["selected"] == named
    page.keyboard.press("Escape")
    number = graph.nx.nodes[graph.nodes_of("features.21")[0]]["filter"]
    page.fill("#search", f"features.21 {number}")
    found = page.locator("#results li b").all_inner_texts()
    same_number = [
        v for v, a in graph.nx.nodes.items()
        if a["layer"] == "features.21" and number in (a["filter"], a["pattern"])
    ]  # fmt: skip
    assert len(found) == len(same_number) > 0
    page.fill("#search", "no such thing")
    assert page.inner_text("#results") == "No part is called that."
    page.fill("#search", "")
    page.keyboard.press("Escape")
    page.click("#filters-button")
    page.evaluate("""() => { const r = document.getElementById("reliability"); r.value = "0.6";
        r.dispatchEvent(new Event("input")); }""")
    reliable = [v for v, a in graph.nx.nodes.items() if a["reliability"] >= 0.6]
    assert state(page)["shown"] == len(reliable)
    page.locator("#layer-checks input").first.uncheck()  # the output's layer
    left = [v for v in reliable if graph.nx.nodes[v]["layer"] != "features.28"]
    assert state(page)["shown"] == len(left)
    page.click("#reset")
    assert state(page)["shown"] == 45
    page.fill("#filter", str(graph.nx.nodes[named]["filter"]))
    same = [
        v for v, a in graph.nx.nodes.items() if a["filter"] == graph.nx.nodes[named]["filter"]
    ]  # fmt: skip
    assert state(page)["shown"] == len(same)
    page.click("#reset")
    page.select_option("#named", "named")
    assert state(page)["shown"] == 1
    page.select_option("#named", "unnamed")
    assert state(page)["shown"] == 44


@browsing
def test_an_image_shows_where_all_parts_are(opened):
    graph, images, parse = world()
    page = opened(graph, images=images, parse=parse)
    page.locator("#thumbs button").nth(3).click()
    assert state(page)["image"] == "3"
    lines = page.inner_text("#image").split()
    assert not {"false", "null", "undefined", "NaN", "[object"} & set(lines)
    dots = {dot["id"]: dot for dot in page.evaluate("() => explorer.dots()")}
    assert len(dots) == 24
    for k, node in enumerate(parse.nodes):
        place = page.evaluate("id => explorer.place('3', id)", node)
        np.testing.assert_allclose(place, parse.positions[3, k], atol=0.01)
        np.testing.assert_allclose(
            [dots[node]["x"], dots[node]["y"]], parse.positions[3, k] * 880 / 64, atol=0.1
        )
    # a click on a part in the image chooses it, and the strip then shows it in every image
    node = max(dots, key=lambda v: min(
        np.hypot(dots[v]["x"] - d["x"], dots[v]["y"] - d["y"])
        for u, d in dots.items() if u != v
    ))  # fmt: skip
    box = page.locator("#photo").bounding_box()
    scale = box["width"] / 880
    x, y = dots[node]["x"] * scale, dots[node]["y"] * scale
    page.mouse.click(box["x"] + x, box["y"] + y)
    assert state(page)["selected"] == node
    assert "in every image" in page.inner_text("#strip-title")
    page.check("#best-first")
    order = page.eval_on_selector_all(
        "#thumbs button", "all => all.map(b => b.getAttribute('aria-label').slice(6))"
    )
    scores = parse.scores[:, parse.nodes.index(node)]
    assert order[0] == parse.names[int(scores.argmax())]
    # its mark on the best image's picture: the ring's colour is there, around the place
    thumb = page.locator("#thumbs button canvas").first
    pixels = np.array(
        thumb.evaluate("c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]")
    ).reshape(-1, 168, 4)
    ring = np.argwhere(np.ptp(pixels[..., :3], axis=2) > 60)[:, ::-1] + 0.5  # the images are grey
    place = parse.positions[int(scores.argmax()), parse.nodes.index(node)] * 168 / 64
    away = np.hypot(*(ring - place).T)
    assert len(ring) > 20
    assert away.min() > 8
    assert away.max() < 18


@browsing
def test_decisions_become_labels_json(opened, tmp_path):
    graph, images, parse = world(nodes=5)
    a, b, c, d = graph.node_ids[0], graph.node_ids[6], graph.node_ids[7], graph.node_ids[12]
    page = opened(graph, images=images, parse=parse)
    click_node(page, a)
    page.fill("#name", "beak")
    page.keyboard.press("Enter")
    page.keyboard.press("m")
    assert page.is_visible("#banner")
    click_node(page, b)
    assert not page.is_visible("#banner")
    click_node(page, c)
    page.get_by_role("button", name="Merge with ...").click()
    page.keyboard.press("Escape")  # thought better of it
    page.keyboard.press("r")
    click_node(page, d)
    page.fill("#name", HOSTILE[1])
    page.keyboard.press("Enter")
    page.click("#decisions-button")
    assert page.inner_text("#decided") == "3 named, 1 group merged, 1 rejected."
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "labels.json"
    download.value.save_as(tmp_path / "labels.json")
    labelled = graph.apply_labels(tmp_path / "labels.json")
    assert c not in labelled.nx
    assert len(labelled) == 14
    labels = {v: label for v, label in labelled.nx.nodes(data="label") if label}
    assert labels == {a: "beak", b: "beak", d: HOSTILE[1]}
    # the page remembers them, and opens the file again
    page.reload()
    wait_for(page, "window.explorer && explorer.loaded")
    saved = json.loads((tmp_path / "labels.json").read_text())
    assert state(page)["decisions"] == saved
    page.click("#decisions-button")
    page.click("#clear")
    assert page.inner_text("#decided") == "None yet."
    parts = [{"id": "p1", "name": "head", "nodes": [graph.node_ids[0]], "place": [1.0, 2.5]}]
    saved |= {"parts": parts}  # decided elsewhere: passed on
    (tmp_path / "labels.json").write_text(json.dumps(saved))
    page.set_input_files("#file", tmp_path / "labels.json")
    wait_for(page, "explorer.state().decisions.rejected.length === 1")
    assert state(page)["decisions"] == saved
    (tmp_path / "bad.json").write_text('{"format": "<b>"}')
    page.set_input_files("#file", tmp_path / "bad.json")
    wait_for(page, "document.getElementById('decided').textContent.includes('opened')")
    assert "bad.json can't be opened: this is no labels.json" in page.inner_text("#decided")
    assert state(page)["decisions"] == saved


@browsing
def test_hostile_names_are_shown_as_text(opened):
    layers = ("<img src=x onerror=alert(1)>", "מקור העין", "x" * 3000)
    graph = random_graph(2, layers=layers, nodes=4, image_size=SIZE, labels=HOSTILE)
    images = np.full((3, *SIZE, 3), 90, np.uint8)
    names = ("</script><script>alert(2)</script>", "<svg onload=alert(3)>.jpg", "ع" * 400)
    parse = parse_of(graph, 3, names=names)
    page = opened(graph, images=images, parse=parse)
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    for node, label in graph.nx.nodes(data="label"):
        page.keyboard.press("0")
        click_node(page, node)
        assert state(page)["selected"] == node
        title = page.text_content("#part h2")
        if label:
            assert title == label[:2000]
        assert page.input_value("#name") == re.sub("[\r\n]", "", label)
        assert page.text_content("#part .id") == node
        wide = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0  # nothing is pushed off the page
        sides = page.evaluate(
            "() => { const p = document.getElementById('panel');"
            " return [p.scrollWidth, p.clientWidth]; }"
        )
        assert sides[0] <= sides[1]
    page.locator("#thumbs button").first.click()
    assert page.text_content("#image .photo-name") == names[0]
    page.fill("#search", "<script>")
    assert "<script>" in page.inner_text("#results li")
    assert page.locator("script").count() == 1  # the data's was removed, none came
    assert page.locator("#stage img, #panel img, #panel svg, #panel script").count() == 0


@browsing
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1920])
def test_light_and_dark_narrow_and_wide(opened, scheme, width):
    graph, images, parse = world(nodes=10)
    page = opened(graph, width=width, height=740, scheme=scheme, images=images, parse=parse)
    picture = shot(page)
    middle = np.median(picture.reshape(-1, 3), axis=0)
    assert (middle.mean() > 200) if scheme == "light" else (middle.mean() < 60)
    assert state(page)["drawn"]["nodes"] == 30
    page.focus("#graph")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("]")
    for element in ("#graph", "#panel", "#photo", "#strip", "#search"):
        box = page.locator(element).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width + 1, element
        assert box["width"] > 90
        assert box["height"] > 15
    page.click("#theme")
    other = np.median(shot(page).reshape(-1, 3), axis=0).mean()
    assert abs(other - middle.mean()) > 100
    for name in ("filters", "decisions", "help"):
        page.click(f"#{name}-button")
        box = page.locator(f"#{name}").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


@browsing
def test_text_can_be_read(opened):
    """WCAG's contrast of 4.5 for what is written, in both themes."""
    page = opened(random_graph(1, nodes=3))

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for _ in range(2):
        colours = page.evaluate("""() => { const s = getComputedStyle(document.documentElement);
            return Object.fromEntries(["bg", "surface", "raised", "band", "text", "quiet", "accent",
            "on-accent"].map(n => [n, s.getPropertyValue("--" + n).trim()])); }""")
        pairs = [(t, b) for t in ("text", "quiet", "accent") for b in ("bg", "surface", "raised")]
        for front, back in [*pairs, ("on-accent", "accent"), ("text", "band"), ("quiet", "band")]:
            low, high = sorted([luminance(colours[front]), luminance(colours[back])])
            assert (high + 0.05) / (low + 0.05) >= 4.5, (front, back)
        page.click("#theme")


@browsing
def test_odd_graphs_have_a_page(opened):
    empty = random_graph(nodes=0)
    assert state(opened(empty))["shown"] == 0
    unlinked = random_graph(nodes=3, parents=0)
    page = opened(unlinked)
    assert state(page)["drawn"]["edges"] == 0
    page.focus("#graph")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert state(page)["selected"] in unlinked.nx
    assert not page.is_visible("#strip")
    assert page.is_hidden("#tab-image")
    one = ExplanatoryGraph(networkx.DiGraph(**unlinked.nx.graph), {}, {})
    name, values = next(iter(unlinked.nx.nodes.items()))
    one.nx.add_node(name, **values)
    assert state(opened(one))["drawn"]["nodes"] == 1


@browsing
def test_a_large_graph_stays_fluid(browser, tmp_path):
    """5,000 nodes and 20,000 links: under 3 s, 30 frames a second; see benchmarks/viewer_speed."""
    from benchmarks.viewer_speed import big_graph, drag

    graph = big_graph(5000, 20_000)
    blocks = np.random.default_rng(1).integers(0, 256, (20, 14, 14, 3), dtype=np.uint8)
    viewer.write_html(graph, tmp_path / "big.html", images=blocks.repeat(16, 1).repeat(16, 2))
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    try:
        page.goto((tmp_path / "big.html").as_uri())
        wait_for(page, "window.explorer && explorer.loaded")
        assert page.evaluate("() => explorer.loaded") < 3000
        assert state(page)["drawn"]["nodes"] == 5000
        page.wait_for_timeout(500)
        # the best of three: other work on the machine is not the page's
        rates = []
        while len(rates) < 3 and max(rates, default=0) < 30:
            frames = drag(page, 1.5)
            rates.append(1000 * len(frames) / sum(frames))
        assert max(rates) >= 30, rates
    finally:
        page.close()
