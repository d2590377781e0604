"""The explorer page: that it is complete in itself, its server, and the page in a real Chromium."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import socket
import threading
import urllib.request
from urllib.error import HTTPError

import networkx
import numpy as np
import pytest
from grown import grown
from page_world import SIZE, Page, with_parts, world
from PIL import Image
from random_graphs import HOSTILE, random_graph
from test_pictures import parse_of

from explgraph.errors import ExplgraphError
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.parsed import parts_in
from explgraph.views import viewer
from explgraph.views.pictures import Pictures, part_sightings


def test_the_page_is_complete_in_itself(tmp_path):
    graph, images, parse = world()
    graph.write(tmp_path / "birds.html", images=images, parse=parse)
    page = Page((tmp_path / "birds.html").read_text("utf-8"))
    assert page.title == "birds"
    assert page.addresses == ["data:,"]
    assert len(page.scripts) == 2
    script = page.scripts[1][1]
    assert "default-src 'none'" in page.policy
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.policy
    for banned in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "http"):
        assert banned not in script, banned


def test_a_file_called_graph_is_named_by_what_was_mined(tmp_path):
    graph, images, parse = world()
    layers = ", ".join(layer.name for layer in reversed(graph.layers))
    graph.write(tmp_path / "graph.html", images=images, parse=parse)
    page = Page((tmp_path / "graph.html").read_text("utf-8"))
    assert page.title == f"{graph.nx.graph['n_images']} images · {layers}"
    graph.whereabouts = {"folder": "/somewhere/birds", "photographs": {}}
    graph.write(tmp_path / "graph.html")
    assert Page((tmp_path / "graph.html").read_text("utf-8")).title == f"birds · {layers}"


def test_thumbnails_are_files_that_drawings_take(tmp_path):
    graph, images, parse = world(nodes=2)
    files = viewer.write_thumbnails(graph, tmp_path / "thumbs", images, parse=parse, size=32)
    assert list(files) == list(graph.node_ids)
    for node, path in files.items():
        k = parse.nodes.index(node)
        best = int(parse.scores[:, k].argmax())
        with Image.open(path) as picture:
            assert picture.size == (32, 32)
            np.testing.assert_allclose(picture.getpixel((16, 16)), images[best, 0, 0], atol=1)
    graph.write(tmp_path / "x.svg", pictures=files)
    svg = (tmp_path / "x.svg").read_text()
    assert len(re.findall("<image [^>]*data:image/png;base64,", svg)) == len(graph)


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
        context.set_default_timeout(10_000)
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


def all_nodes(page):
    """Go to the view of all nodes, without leaving any out."""
    page.locator("#crumbs button").last.click()
    page.uncheck("#best")


def click_node(page, node):
    page.mouse.click(*page.evaluate("id => explorer.at(id)", node))


def shot(page, clip=None):
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB"))


def pixels_of(canvas):
    _, _, data = canvas.evaluate("c => c.toDataURL()").partition(",")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


def part_world(sizes=(9, 7, 6, 5), n=6, nodes=12, **options):
    graph, images, parse = world(n=n, nodes=nodes)
    graph = with_parts(graph, sizes, **options)
    return graph, images, parse, {"images": images, "parse": parse}


# --- the parts


@browsing
def test_a_part_says_how_it_is_located(opened):
    graph, _, _, given = part_world(names=("<b>ear</b>",))
    graph.grown = grown(graph, ("<b>ear</b>",))
    page = opened(graph, **given)
    page.locator(".card-main").first.click()
    (ear,) = graph.grown.parts
    section = page.locator("#thing section", has_text="Located from marks")
    assert section.locator("p").inner_text() == f"{ear.told}."
    page.locator(".card-main").nth(1).click()
    assert section.count() == 0


@browsing
def test_the_page_opens_with_parts(opened):
    graph, images, parse, given = part_world(names=("left ear",), still=(2,))
    page = opened(graph, **given)
    # moving parts first; what stands still is more likely background, and waits to be asked for
    assert state(page)["tiles"] == ["p1", "p2", "p4"]
    assert page.inner_text("#more-parts").startswith("1 more part (it stands still")
    titles = page.locator(".card-title b").all_inner_texts()
    assert titles == ["left ear", "part 2", "part 4"]
    about = page.inner_text("#about")
    for told in ("model 0123abcd", "200 images", "3 layers", "4 parts", "36 nodes"):
        assert told in about
    assert "part" in page.inner_text("#reading")
    # a tile holds the best four patches, in a square
    card = page.locator(".card").first
    assert "very sure · 3 layers" in card.inner_text()
    assert "in 50 %" in card.inner_text()
    assert "9 nodes" in card.inner_text()
    found = parts_in(graph, parse)
    seen = part_sightings(graph.parts[0], Pictures(images, SIZE, parse.names), found, 4)
    assert len(seen) == 4
    wait_for(page, "explorer.painted")
    drawn = pixels_of(card.locator("canvas"))
    side = drawn.shape[0] // 2
    for k, sighting in enumerate(seen):
        corner = drawn[side * (k // 2) + 12, side * (k % 2) + 12]
        np.testing.assert_allclose(corner, images[sighting.image, 0, 0], atol=5)
    # nothing of it is a node yet: they are one click further, all of them one more
    assert not page.is_visible("#graph")
    page.click("#more-parts")
    assert state(page)["tiles"] == ["p1", "p2", "p4", "p3"]
    assert "stands still" in page.locator(".card").last.inner_text()
    card.locator("button.link").click()
    now = state(page)
    assert (now["view_kind"], now["scope"], now["shown"]) == ("nodes", "p1", 9)
    page.get_by_role("button", name="All 36 nodes").click()
    assert state(page)["scope"] is None
    page.get_by_role("button", name="4 parts").click()
    assert state(page)["view_kind"] == "parts"
    assert page.is_visible(".card")


@browsing
@pytest.mark.parametrize(("count", "shown"), [(1, 1), (12, 12), (18, 12)])
def test_a_dozen_tiles_at_most(opened, count, shown):
    graph = with_parts(random_graph(2, nodes=20, image_size=SIZE), [3] * count)
    page = opened(graph)
    assert len(state(page)["tiles"]) == shown
    assert page.is_visible("#more-parts") == (count > shown)
    # without images: where the part's nodes usually are, in its colour
    assert "made without images" in page.inner_text("#reading")
    drawn = pixels_of(page.locator(".card canvas").first)
    x, y = (graph.nx.nodes[graph.parts[0].nodes[0]][axis] * 288 / SIZE[1] for axis in "xy")
    y += 288 * (1 - SIZE[0] / SIZE[1]) / 2
    assert abs(drawn[int(y), int(x)] - [0xE6, 0x9F, 0x00]).max() < 30
    if count == 1:
        assert "One part alone has no links" in page.inner_text("#map-note")


@browsing
def test_one_link_a_part_at_rest_the_others_when_pointed_at(opened):
    graph, _, _, given = part_world()
    page = opened(graph, **given)
    pairs = {
        frozenset(pair): values["links"] for *pair, values in graph.part_graph().edges(data=True)
    }
    rest = set()
    for part in graph.parts:
        own = [pair for pair in pairs if part.id in pair]
        rest.add(max(own, key=lambda pair: pairs[pair]))
    assert len(rest) < len(pairs)  # or there would be nothing to see
    lines = {frozenset(ends) for ends in state(page)["lines"]}
    assert len(lines) == len(rest)
    assert sum(pairs[line] for line in lines) == sum(pairs[line] for line in rest)
    one = max(graph.parts, key=lambda part: sum(part.id in pair for pair in pairs)).id
    page.hover(f".card[data-part='{int(one[1:]) - 1}']")
    now = state(page)
    assert now["over"] == one
    assert {frozenset(e) for e in now["lines"]} >= {pair for pair in pairs if one in pair}
    # what it looks like, eight times, beside it: in a while, for it hides the next tile
    page.wait_for_selector("#tip:visible")
    assert page.locator("#tip .eight canvas").count() == len(
        part_sightings(graph.part(one), Pictures(given["images"], SIZE, given["parse"].names),
                       parts_in(graph, given["parse"]), 8)
    )  # fmt: skip
    page.mouse.move(2, 2)
    assert {frozenset(e) for e in state(page)["lines"]} == lines
    assert not page.is_visible("#tip")


@browsing
def test_a_link_of_parts_is_told_when_hovered_and_when_clicked(opened):
    graph, _, _, given = part_world()
    page = opened(graph, **given)
    first, second = state(page)["lines"][0]
    values = graph.part_graph().edges[first, second]
    page.locator(".line").first.focus()
    page.keyboard.press("Enter")
    assert state(page)["chosen"] == [first, second]
    told = page.inner_text("#thing")
    assert f"part {first[1:]} – part {second[1:]}" in told
    if abs(values["dx"]) >= 0.5:
        way = "right" if values["dx"] > 0 else "left"
        assert f"{abs(round(values['dx']))} px to the {way} of" in told
    assert f"gives or takes {round(values['sigma'])} px" in told
    assert "0.25" in told  # co-presence
    assert f"{values['links']} link" in told
    assert "not computed" in told  # the effect, which nobody measured
    assert page.locator("#thing .pair canvas").count() == 2
    assert "Both in image" in told
    # measured ones are told
    for *_, a in graph.nx.edges(data=True):
        a["effect"] = 0.25
    page = opened(graph, **given)
    box = page.locator(".line .reach").first
    x, y = box.evaluate("""path => { const p = path.getPointAtLength(path.getTotalLength() / 2),
        m = path.getScreenCTM(); return [p.x * m.a + m.e, p.y * m.d + m.f]; }""")
    page.mouse.move(x, y)
    assert "of the score of part" in page.inner_text("#tip")
    page.mouse.click(x, y)
    assert isinstance(state(page)["chosen"], list)


@browsing
def test_a_part_is_told_and_leads_on(opened):
    graph, _, parse, given = part_world(still=(3,))
    page = opened(graph, **given)
    page.locator(".card-main").nth(1).click()
    assert state(page)["chosen"] == "p2"
    told = page.inner_text("#thing")
    assert "Its 7 nodes" in told
    for layer in graph.part("p2").layers:
        assert layer in told
    meters = {
        name: page.locator("#thing .figures .help", has_text=name)
        .locator("xpath=following-sibling::*[2]").inner_text()
        for name in ("How sure", "In images")
    }  # fmt: skip
    assert meters == {"How sure": "88 %", "In images": "50 %"}
    assert page.locator("#thing .patches canvas").count() >= 4
    # it is followed through the images, and one opens with it
    assert "part 2 in every image" in page.inner_text("#strip-title")
    page.check("#best-first")
    first = page.locator("#thumbs button").first.get_attribute("aria-label").removeprefix("image ")
    presence = parts_in(graph, parse).presence[:, 1]
    assert presence[parse.names.index(first)] == presence.max()
    page.locator("#thing .patches button").first.click()
    assert state(page)["image"] is not None
    page.keyboard.press("Escape")
    assert not page.is_visible("#panel")
    assert state(page)["chosen"] is None


@browsing
def test_an_image_has_numbers_that_are_tied_to_tiles_both_ways(opened):
    graph, _, parse, given = part_world(sizes=(4,) * 8, nodes=12)
    page = opened(graph, **given)
    page.locator("#thumbs button").nth(3).click()
    found = parts_in(graph, parse)
    there = {p for p, much in zip(found.parts, found.presence[3], strict=True) if much >= 0.15}
    wait_for(page, "explorer.dots().length")
    dots = {dot["id"]: dot for dot in page.evaluate("() => explorer.dots()")}
    assert set(dots) == there
    labels = []
    for part, dot in dots.items():
        assert dot["number"] == part[1:]
        k = found.parts.index(part)
        place = page.evaluate("id => explorer.place('3', 'part', id)", part)
        np.testing.assert_allclose(place, found.positions[3, k], atol=0.01)
        np.testing.assert_allclose([dot["x"], dot["y"]], found.positions[3, k] * 880 / 64, atol=0.2)
        labels.append(dot["label"])
    gaps = np.linalg.norm(np.subtract(labels, np.array(labels)[:, None]), axis=2)
    assert gaps[~np.eye(len(labels), dtype=bool)].min() > 35  # spread: none hides another one
    missing = [f"part {p[1:]}" for p in found.parts if p not in there]
    assert all(part in page.inner_text("#not-here") for part in missing)
    # from a number to its tile ...
    part, dot = next(iter(dots.items()))
    box = page.locator("#photo").bounding_box()
    scale = box["width"] / 880
    page.mouse.move(box["x"] + dot["label"][0] * scale, box["y"] + dot["label"][1] * scale)
    assert state(page)["over"] == part
    card = page.locator(f".card[data-part='{int(part[1:]) - 1}']")
    assert "over" in card.get_attribute("class")
    assert "over" in page.locator(f"#here [data-part='{int(part[1:]) - 1}']").get_attribute("class")
    # ... and from a tile to its number, which gets larger
    page.mouse.move(2, 2)
    before = pixels_of(page.locator("#photo"))
    card.hover()
    after = pixels_of(page.locator("#photo"))
    x, y = map(int, dot["label"])
    near = (slice(max(0, y - 30), y + 30), slice(max(0, x - 30), x + 30))
    assert (before[near] != after[near]).any()
    # nodes as well: a dozen, numbered
    page.get_by_role("button", name="Nodes", exact=True).click()
    dots = page.evaluate("() => explorer.dots()")
    assert [dot["number"] for dot in dots] == [str(k + 1) for k in range(len(dots))]
    assert 4 < len(dots) <= 12
    lines = page.inner_text("#image").split()
    assert not {"false", "null", "undefined", "NaN", "[object"} & set(lines)


@browsing
def test_not_computed_is_told_from_not_found(opened):
    graph, images, parse, given = part_world(sizes=(6, 5))
    parse.scores[2] = 0
    page = opened(graph, **given)
    page.locator(".card-main").first.click()
    page.locator("#thumbs button").nth(2).click()
    assert "No part was found in this image." in page.inner_text("#image")
    assert "not found here" in page.inner_text("#image")
    graph.top_images = {v: [["0", 20.0, 20.0, 1.0]] for v in graph.node_ids}
    page = opened(graph, images=images)  # no parse
    page.locator(".card-main").first.click()
    page.locator("#thumbs button").nth(4).click()
    assert "made without a parse" in page.inner_text("#not-here")
    assert "not known here (no parse)" in page.inner_text("#image")
    graph.fitted = {}
    page = opened(graph)  # no images, nothing of what mining fitted
    assert "were not computed" in page.inner_text("#map-note")
    page.locator(".card-main").first.click()
    assert "No pictures: the page was made without images." in page.inner_text("#thing")
    assert "Not computed" in page.inner_text("#thing")


@browsing
def test_decisions_on_parts_become_labels_json(opened, tmp_path):
    graph, _, _, given = part_world(names=("", "", "claw"))
    page = opened(graph, **given)
    page.locator(".card-main").nth(0).click()
    page.fill("#name", "head")
    page.keyboard.press("Enter")
    page.keyboard.press("m")
    assert page.is_visible("#banner")
    page.locator(".card-main").nth(1).click()
    assert not page.is_visible("#banner")
    assert state(page)["tiles"] == ["p1", "p3", "p4"]
    assert page.locator(".card-title b").first.inner_text() == "head"
    assert "16 nodes" in page.locator(".card").first.inner_text()
    page.locator(".card-main").nth(2).click()
    page.keyboard.press("r")
    assert "rejected" in page.inner_text("#more-parts")
    page.locator(".card-main").nth(1).click()
    page.fill("#name", "")
    page.keyboard.press("Enter")
    page.click("#decisions-button")
    assert page.inner_text("#decided") == "1 named, 1 group merged, 1 rejected."
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "labels.json")
    labelled = graph.apply_labels(tmp_path / "labels.json")
    assert [(part.id, part.name) for part in labelled.parts] == [("p1", "head"), ("p3", "")]
    assert set(labelled.part("head").nodes) == {*graph.part("p1").nodes, *graph.part("p2").nodes}
    # the page remembers, undoes, and opens the file again
    saved = json.loads((tmp_path / "labels.json").read_text())
    page.reload()
    wait_for(page, "window.explorer && explorer.loaded")
    assert state(page)["decisions"] == saved
    assert state(page)["tiles"] == ["p1", "p3"]
    page.click("#decisions-button")
    page.click("#clear")
    assert state(page)["tiles"] == ["p1", "p2", "p3", "p4"]
    page.keyboard.press("Control+z")
    assert state(page)["tiles"] == ["p1", "p3"]
    page.keyboard.press("Escape")
    assert not page.is_visible("#decisions")
    page.locator(".card-main").first.click()
    page.get_by_role("button", name="Take apart again").click()
    assert state(page)["tiles"] == ["p1", "p2", "p3"]
    page.set_input_files("#file", tmp_path / "labels.json")
    wait_for(page, "explorer.state().tiles.length === 2")
    assert state(page)["decisions"] == saved
    # what Python decided, the page takes up, and gives back as it was
    decided = graph.merge_parts(["p1", "p2"], "face").reject_part("p4")
    decided.write_labels(tmp_path / "python.json")
    page.set_input_files("#file", tmp_path / "python.json")
    wait_for(page, "explorer.state().decisions.parts.some(part => part.name === 'face')")
    again = graph.apply_labels(state(page)["decisions"])
    assert again.parts == decided.parts
    # a graph that was decided on shows that, and its page forgets none of it
    page = opened(decided.name_part("p3", "leg"), **given)
    assert page.locator(".card-title b").all_inner_texts() == ["face", "leg"]
    parts = state(page)["decisions"]["parts"]
    assert {(part["id"], part["name"], part["rejected"]) for part in parts} == {
        ("p1", "face", False), ("p3", "leg", False), ("p4", "", True),
    }  # fmt: skip


@browsing
def test_the_keyboard_goes_through_the_parts(opened):
    graph, _, _, given = part_world(sizes=(6, 5, 5, 4))
    page = opened(graph, **given)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert state(page)["over"] == "p2"
    page.keyboard.press("Enter")
    assert state(page)["chosen"] == "p2"
    page.keyboard.press("n")
    page.keyboard.type("tail, tip")
    page.keyboard.press("Enter")
    assert page.locator(".card-title b").nth(1).inner_text() == "tail, tip"
    page.keyboard.press("o")
    assert state(page)["scope"] == "p2"
    page.keyboard.press("a")
    assert state(page)["scope"] is None
    page.keyboard.press("p")
    assert state(page)["view_kind"] == "parts"
    page.keyboard.press("]")
    assert state(page)["image"] == "0"
    page.keyboard.press("Escape")
    assert state(page)["chosen"] is None
    # every tile, and every link of the graph, can be reached and says what it is
    for name in (".card-main", ".spot", ".line"):
        for item in page.locator(name).all():
            assert item.get_attribute("aria-label")
            assert item.evaluate("e => e.tabIndex") == 0


# --- the nodes


@browsing
def test_everything_is_drawn(opened):
    graph, images, parse = world(n=5, nodes=12)
    page = opened(graph, images=images, parse=parse)
    now = state(page)
    assert (now["nodes"], now["edges"]) == (36, graph.nx.number_of_edges())
    assert now["view_kind"] == "nodes"  # it has no parts
    assert "no parts" in page.inner_text("#reading")
    assert now["shown"] == now["drawn"]["nodes"] == 36
    linked = sum(d > 0 for _, d in graph.nx.in_degree())
    assert now["drawn"]["edges"] == linked  # one for each at rest
    assert page.locator("#thumbs button").count() == 5
    # every node is on the screen, in its layer's band: its best patch is a grey of the images
    page.wait_for_timeout(300)
    picture = shot(page)
    rows = {}
    for node, a in graph.nx.nodes.items():
        x, y = page.evaluate("id => explorer.at(id)", node)
        best = parse.scores[:, parse.nodes.index(node)].argmax()
        assert abs(picture[int(y), int(x)].astype(float) - images[best, 0, 0, 0]).max() < 6
        rows.setdefault(a["layer_index"], []).append(y)
    assert max(rows[2]) < min(rows[1])
    assert max(rows[1]) < min(rows[0])


@browsing
def test_what_is_unreliable_or_not_linked_waits_to_be_asked_for(opened):
    graph = random_graph(5, nodes=100, image_size=SIZE)
    lonely = max(graph.nx, key=lambda v: graph.nx.nodes[v]["reliability"])
    graph.nx.remove_edges_from([*graph.nx.in_edges(lonely), *graph.nx.out_edges(lonely)])
    page = opened(graph)
    quarter = sorted(graph.nx, key=lambda v: -graph.nx.nodes[v]["reliability"])[:75]
    assert state(page)["shown"] == sum(graph.nx.degree(v) > 0 for v in quarter)
    assert page.inner_text("#count") == f"{state(page)['shown']} of 300 nodes"
    # the first that the keyboard chooses is the most reliable
    page.focus("#graph")
    page.keyboard.press("ArrowRight")
    assert state(page)["chosen"] == next(v for v in quarter if graph.nx.degree(v))
    page.uncheck("#best")
    assert state(page)["shown"] == 300
    page.check("#best")
    # what is searched for is shown
    page.fill("#search", lonely)
    page.keyboard.press("Enter")
    assert state(page)["chosen"] == lonely
    assert page.evaluate("id => explorer.at(id)", lonely)[0] > 0


@browsing
def test_a_click_opens_a_node_and_its_relatives(opened):
    graph, images, parse = world(nodes=12)
    page = opened(graph, images=images, parse=parse)
    node = max(graph.nodes_of("features.21"), key=lambda v: graph.nx.degree(v))
    click_node(page, node)
    assert state(page)["chosen"] == node
    panel = page.inner_text("#thing")
    values = graph.nx.nodes[node]
    assert f"filter {values['filter']}, pattern {values['pattern']}" in panel
    assert node in panel
    for name in ("reliability", "follows", "support", "energy"):
        meter = page.locator("#thing .figures .help", has_text=name.capitalize())
        value = meter.locator("xpath=following-sibling::*[2]").inner_text()
        assert abs(float(value.removesuffix("%")) - 100 * values[name]) < 1
    assert f"Nodes above ({graph.nx.in_degree(node)})" in panel
    assert f"Nodes below ({graph.nx.out_degree(node)})" in panel
    siblings = [v for v in graph.nodes_of("features.21", values["filter"]) if v != node]
    assert f"Same filter ({len(siblings)})" in panel
    assert page.locator("#thing .patches canvas").count() == 6
    # the link to a neighbour is told, and the neighbour in the list leads on
    parent = max(graph.nx.pred[node], key=lambda u: graph.nx.edges[u, node]["consistency"])
    above = page.locator("#thing section", has_text="Nodes above")
    above.locator("button.link").first.click()
    assert state(page)["chosen"] == [parent, node]
    told = page.inner_text("#thing")
    edge = graph.nx.edges[parent, node]
    assert f"consistency {edge['consistency']:.2f}" in told
    assert f"{edge['coactivation']:.2f}" in told
    page.locator("#thing .pair button").first.click()
    assert state(page)["chosen"] == parent
    page.keyboard.press("Escape")
    assert state(page)["chosen"] is None
    assert not page.is_visible("#panel")


@browsing
def test_hover_tells_and_highlights(opened):
    graph, images, parse = world(nodes=12)
    page = opened(graph, images=images, parse=parse)
    node = max(graph.nodes_of("features.21"), key=lambda v: graph.nx.out_degree(v))
    stranger = next(
        v for v in graph.nodes_of("features.14")
        if node not in graph.nx.pred[v]
    )  # fmt: skip
    child = next(iter(graph.nx.succ[node]))
    page.mouse.move(*page.evaluate("id => explorer.at(id)", node))
    page.wait_for_timeout(100)
    assert state(page)["over"] == node
    assert f"filter {graph.nx.nodes[node]['filter']}" in page.inner_text("#tip")
    assert page.locator("#tip .eight canvas").count() == 6  # of six images
    picture = shot(page).astype(int)

    def edge_colour(v):
        x, y = page.evaluate("id => explorer.at(id)", v)
        k = page.evaluate("() => explorer.state().view.k")
        side = (24 + 26 * graph.nx.nodes[v]["support"] ** 0.5) * k
        return picture[int(y), int(x - side / 2 + 1)]

    assert abs(edge_colour(child) - [0x00, 0x80, 0x5C]).max() < 12  # the children's colour
    assert edge_colour(stranger).min() > 130  # faded
    # a link under the pointer is told, and a click keeps it
    page.mouse.move(2, 2)
    best = max(graph.nx.pred[child], key=lambda u: graph.nx.edges[u, child]["consistency"])
    x, y = page.evaluate("ends => explorer.edge_at(...ends)", [best, child])
    page.mouse.move(x, y)
    over = state(page)["over"]
    assert isinstance(over, list)  # this one, or one that crosses it here
    assert "Rigidity" in page.inner_text("#tip")
    page.mouse.click(x, y)
    assert state(page)["chosen"] == over
    assert f"consistency {graph.nx.edges[tuple(over)]['consistency']:.2f}" in page.inner_text(
        "#thing"
    )


@browsing
def test_the_keyboard_goes_everywhere(opened):
    graph, images, parse = world(nodes=6)
    page = opened(graph, images=images, parse=parse)
    page.focus("#graph")
    page.keyboard.press("ArrowRight")
    first = state(page)["chosen"]
    assert first == max(graph.nx, key=lambda v: graph.nx.nodes[v]["reliability"])
    page.keyboard.press("ArrowRight")
    if state(page)["chosen"] == first:  # it was the last of its layer
        page.keyboard.press("ArrowLeft")
        assert state(page)["chosen"] != first
        page.keyboard.press("ArrowRight")
    else:
        page.keyboard.press("ArrowLeft")
    assert state(page)["chosen"] == first
    while graph.nx.nodes[state(page)["chosen"]]["layer_index"] < 2:
        page.keyboard.press("ArrowUp")
    for way in ["ArrowLeft"] * 6 + ["ArrowRight"] * 6:
        page.keyboard.press(way)
        if graph.nx.succ[state(page)["chosen"]]:
            break
    parent = state(page)["chosen"]
    page.keyboard.press("ArrowDown")
    child = max(graph.nx.succ[parent], key=lambda v: graph.nx.edges[parent, v]["consistency"])
    assert state(page)["chosen"] == child
    page.keyboard.press("ArrowUp")
    above = max(graph.nx.pred[child], key=lambda u: graph.nx.edges[u, child]["consistency"])
    assert state(page)["chosen"] == above
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
    graph, _, _, given = part_world(sizes=(10, 8), nodes=15, names=("Wing feathers",))
    named = graph.node_ids[20]
    graph.nx.nodes[named]["label"] = "Left wing"
    page = opened(graph, **given)
    page.keyboard.press("/")
    page.keyboard.type("wing")
    assert page.locator("#results li b").all_inner_texts() == ["Wing feathers", "Left wing"]
    page.keyboard.press("Enter")
    assert state(page)["chosen"] == "p1"
    page.fill("#search", "part 2")
    assert page.locator("#results li b").first.inner_text() == "part 2"
    page.fill("#search", "WING left")
    assert page.locator("#results li").count() == 1
    page.keyboard.press("Enter")
    assert state(page)["chosen"] == named
    assert state(page)["view_kind"] == "nodes"
    page.keyboard.press("Escape")
    all_nodes(page)
    number = graph.nx.nodes[graph.nodes_of("features.21")[0]]["filter"]
    page.fill("#search", f"features.21 {number}")
    found = page.locator("#results li b").all_inner_texts()
    same_number = [
        v for v, a in graph.nx.nodes.items()
        if a["layer"] == "features.21" and number in (a["filter"], a["pattern"])
    ]  # fmt: skip
    assert len(found) == len(same_number) > 0
    page.fill("#search", "no such thing")
    assert page.inner_text("#results") == "No part or node is called that."
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
    page.fill("#filter", "4000")
    assert page.inner_text("#nothing") == "No node passes these filters."
    page.click("#reset")
    assert not page.is_visible("#nothing")
    page.select_option("#named", "named")
    assert state(page)["shown"] == 1
    page.select_option("#named", "unnamed")
    assert state(page)["shown"] == 44


@browsing
def test_a_node_is_followed_through_the_images(opened):
    graph, images, parse = world()
    page = opened(graph, images=images, parse=parse)
    page.locator("#thumbs button").nth(3).click()
    assert state(page)["image"] == "3"
    wait_for(page, "explorer.dots().length")
    dots = {dot["id"]: dot for dot in page.evaluate("() => explorer.dots()")}
    assert 4 < len(dots) <= 12
    for k, node in enumerate(parse.nodes):
        place = page.evaluate("id => explorer.place('3', 'node', id)", node)
        np.testing.assert_allclose(place, parse.positions[3, k], atol=0.01)
    for node, dot in dots.items():
        place = parse.positions[3, parse.nodes.index(node)] * 880 / 64
        np.testing.assert_allclose([dot["x"], dot["y"]], place, atol=0.2)
    # a click on a number chooses the node, and the strip then shows it in every image
    node, dot = next(iter(dots.items()))
    box = page.locator("#photo").bounding_box()
    scale = box["width"] / 880
    page.mouse.click(box["x"] + dot["label"][0] * scale, box["y"] + dot["label"][1] * scale)
    assert state(page)["chosen"] == node
    assert "in every image" in page.inner_text("#strip-title")
    page.check("#best-first")
    order = page.eval_on_selector_all(
        "#thumbs button", "all => all.map(b => b.getAttribute('aria-label').slice(6))"
    )
    scores = parse.scores[:, parse.nodes.index(node)]
    assert order[0] == parse.names[int(scores.argmax())]
    # its mark on the best image's picture: the ring's colour is there, around the place
    pixels = pixels_of(page.locator("#thumbs button canvas").first)
    ring = np.argwhere(np.ptp(pixels, axis=2) > 60)[:, ::-1] + 0.5  # the images are grey
    place = parse.positions[int(scores.argmax()), parse.nodes.index(node)] * 168 / 64
    away = np.hypot(*(ring - place).T)
    assert len(ring) > 20
    assert away.min() > 8
    assert away.max() < 18


@browsing
def test_decisions_on_nodes_become_labels_json(opened, tmp_path):
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
    saved |= {"parts": parts}  # of a graph that has parts: passed on
    (tmp_path / "labels.json").write_text(json.dumps(saved))
    page.set_input_files("#file", tmp_path / "labels.json")
    wait_for(page, "explorer.state().decisions.rejected.length === 1")
    assert state(page)["decisions"] == saved
    for text, told in (
        ('{"format": "<b>"}', "this is no labels.json"),
        (json.dumps(saved | {"parts": [3]}), "a part without id or nodes"),
        (json.dumps(saved | {"rejected": ["x/1/2"]}), "it names the node x/1/2, which this graph"),
    ):
        (tmp_path / "bad.json").write_text(text)
        page.set_input_files("#file", tmp_path / "bad.json")
        wait_for(page, f"document.getElementById('decided').textContent.includes('{told}')")
        assert "bad.json can't be opened: " in page.inner_text("#decided")
        assert state(page)["decisions"] == saved


# --- any graph, any window


@browsing
def test_hostile_names_are_shown_as_text(opened):
    layers = ("<img src=x onerror=alert(1)>", "מקור העין", "x" * 3000)
    graph = random_graph(2, layers=layers, nodes=4, image_size=SIZE, labels=HOSTILE)
    graph = with_parts(graph, [3, 3, 2], names=("<svg onload=alert(4)>", HOSTILE[-1], HOSTILE[5]))
    images = np.full((3, *SIZE, 3), 90, np.uint8)
    names = ("</script><script>alert(2)</script>", "<svg onload=alert(3)>.jpg", "ع" * 400)
    parse = parse_of(graph, 3, names=names)
    page = opened(graph, images=images, parse=parse)
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))

    def fits():
        """Nothing is pushed off the page, or out of the panel."""
        assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
        sides = page.evaluate(
            "() => ['panel', 'tiles-box', 'tip'].map(id => document.getElementById(id))"
            ".map(e => [e.scrollWidth, e.clientWidth])"
        )
        assert all(inside <= room for inside, room in sides), sides

    for k, part in enumerate(graph.parts):
        page.locator(".card-main").nth(k).click()
        assert part.name[:1999] in page.text_content("#thing h2")
        page.locator(".spot").nth(k).hover()
        fits()
    page.locator(".line").first.focus()
    page.keyboard.press("Enter")
    fits()
    page.keyboard.press("Escape")
    all_nodes(page)
    for node, label in graph.nx.nodes(data="label"):
        page.keyboard.press("0")
        click_node(page, node)
        assert state(page)["chosen"] == node
        title = page.text_content("#thing h2")
        if label:
            assert title[:1999] == label[:1999]
        assert page.input_value("#name") == re.sub("[\r\n]", "", label)
        assert page.text_content("#thing .id") == node
        fits()
    page.locator("#thumbs button").first.click()
    assert page.text_content("#image .photo-name") == names[0]
    page.fill("#search", "<script>")
    assert "<script>" in page.inner_text("#results li")
    assert page.locator("script").count() == 1  # the data's was removed, none came
    assert page.locator("#stage img, #panel img, #panel svg, #panel script").count() == 0
    assert page.locator("svg").count() == 1  # the map's own


@browsing
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [800, 1920])
def test_light_and_dark_less_and_more_wide(opened, scheme, width):
    graph, _, _, given = part_world()
    page = opened(graph, width=width, height=740, scheme=scheme, **given)
    picture = shot(page)
    middle = np.median(picture.reshape(-1, 3), axis=0)
    assert (middle.mean() > 200) if scheme == "light" else (middle.mean() < 60)
    page.locator(".card-main").first.click()
    page.keyboard.press("]")
    for element in (".card", "#map", "#panel", "#photo", "#strip", "#search"):
        box = page.locator(element).first.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width + 1, element
        assert box["width"] > 90
        assert box["height"] > 15
    page.click("#theme")
    other = np.median(shot(page).reshape(-1, 3), axis=0).mean()
    assert abs(other - middle.mean()) > 100
    all_nodes(page)
    assert state(page)["drawn"]["nodes"] == 36
    for name in ("filters", "decisions", "help"):
        page.click(f"#{name}-button")
        box = page.locator(f"#{name}").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


@browsing
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_has_tabs(opened, scheme):
    graph, _, _, given = part_world()
    page = opened(graph, width=360, height=740, scheme=scheme, **given)

    def seen():
        return [name for name in ("#tiles", "#map", "#graph", "#strip") if page.is_visible(name)]

    assert seen() == ["#tiles"]
    page.click("#narrow-graph")
    assert seen() == ["#map"]
    assert page.locator(".spot").count() == 4
    box = page.locator("#map").bounding_box()
    for spot in page.locator(".spot").all():
        inner = spot.bounding_box()
        assert box["x"] <= inner["x"]
        assert inner["x"] + inner["width"] <= box["x"] + box["width"]
        assert inner["y"] + inner["height"] <= box["y"] + box["height"]
    page.locator(".spot").first.click()
    assert page.is_visible("#panel")
    panel = page.locator("#panel").bounding_box()
    assert panel["height"] > 300
    page.get_by_role("button", name="Its 9 nodes").click()
    assert not page.is_visible("#panel")
    assert seen() == ["#graph"]
    assert state(page)["drawn"]["nodes"] == 9
    page.focus("#narrow-graph")
    page.keyboard.press("ArrowRight")
    assert seen() == ["#strip"]
    page.locator("#thumbs button").first.click()
    assert page.is_visible("#photo")
    page.click("#narrow-parts")
    assert seen() == ["#tiles"]
    assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
    for name in ("decisions", "help"):
        page.click(f"#{name}-button")
        box = page.locator(f"#{name}").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360


@browsing
def test_text_can_be_read(opened):
    """WCAG's contrast of 4.5 for what is written, in both themes, and for numbers on markers."""
    graph, _, _, given = part_world(sizes=(4,) * 8)
    page = opened(graph, **given)

    def luminance(channels):
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(*colours):
        low, high = sorted(map(luminance, colours))
        return (high + 0.05) / (low + 0.05)

    def of_hex(colour):
        return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]

    for _ in range(2):
        colours = page.evaluate("""() => { const s = getComputedStyle(document.documentElement);
            return Object.fromEntries(["bg", "surface", "raised", "band", "text", "quiet", "accent",
            "on-accent"].map(n => [n, s.getPropertyValue("--" + n).trim()])); }""")
        pairs = [(t, b) for t in ("text", "quiet", "accent") for b in ("bg", "surface", "raised")]
        for front, back in [*pairs, ("on-accent", "accent"), ("text", "band"), ("quiet", "band")]:
            assert contrast(of_hex(colours[front]), of_hex(colours[back])) >= 4.5, (front, back)
        page.click("#theme")
    for badge in page.locator(".card .badge").all():
        both = badge.evaluate(
            "e => { const s = getComputedStyle(e); return [s.color, s.backgroundColor]; }"
        )
        ink, ground = ([int(c) / 255 for c in re.findall(r"\d+", colour)] for colour in both)
        assert contrast(ink, ground) >= 4.5, both


@browsing
def test_odd_graphs_have_a_page(opened):
    empty = random_graph(nodes=0)
    page = opened(empty)
    assert state(page)["shown"] == 0
    assert page.inner_text("#nothing") == "This graph has no nodes."
    page.fill("#search", "x")
    assert page.inner_text("#results") == "No node is called that."
    unlinked = random_graph(nodes=3, parents=0)
    page = opened(unlinked)
    assert state(page)["drawn"]["edges"] == 0
    assert state(page)["drawn"]["nodes"] == 9  # none is linked: all are shown
    page.focus("#graph")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert state(page)["chosen"] in unlinked.nx
    assert not page.is_visible("#strip")
    assert page.is_hidden("#tab-image")
    lone = with_parts(random_graph(nodes=3, parents=0), [3, 2])
    assert "None of these parts are linked." in opened(lone).inner_text("#map-note")
    still = with_parts(random_graph(nodes=3), [3, 2], still=(0, 1))
    assert state(opened(still))["tiles"] == ["p1", "p2"]  # all stand still: all are shown
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
        all_nodes(page)
        page.wait_for_timeout(100)
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
