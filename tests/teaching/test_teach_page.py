"""The teaching page in a real Chromium: by mouse, touch and keyboard; killed, shared, attacked."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from teach_world import FILES, SIDE, served

from explgraph.teaching.question import Progress, Question

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread")]

HOSTILE = "<script>document.title='ran'</script><img src=x onerror=document.title='ran'>"
STAGE = "#stage[data-image]:not([aria-busy])"


@pytest.fixture
def serve():
    """A function that serves a teacher until the end of the test; its address."""
    with ExitStack() as servers:
        yield lambda teacher: servers.enter_context(served(teacher))


@pytest.fixture
def opened(browser, serve):  # noqa: ARG001  (closed before the servers are)
    """A function that opens a page as a new person; it asks no other host, complains of nothing."""
    contexts = []

    def open_page(url, width=1280, height=800, expected=(), **options):
        context = browser.new_context(
            viewport={"width": width, "height": height}, reduced_motion="reduce", **options
        )
        context.set_default_timeout(15_000)
        heard = []
        contexts.append((context, heard, expected))
        page = context.new_page()
        host = f"http://{urlsplit(url).netloc}/"
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on(
            "request",
            lambda r: heard.append(r.url) if not r.url.startswith((host, "data:")) else None,
        )
        page.goto(url)
        page.wait_for_selector("body[data-started]")
        return page

    yield open_page
    for context, heard, expected in contexts:
        context.close()
        assert [text for text in heard if not re.search("|".join(expected) or "^$", text)] == []


def image_of(page, other_than=None):
    """The image that is asked about now."""
    other = "" if other_than is None else f":not([data-image='{other_than}'])"
    found = page.wait_for_selector(STAGE + other).get_attribute("data-image")
    look(page)
    return found


def look(page):
    """Nobody has seen a question at once: keys that come so soon count as meant for the last."""
    page.wait_for_timeout(330)


def on_screen(page, place):
    """Where a place of the network's image is on the screen."""
    box = page.locator("#picture").bounding_box()
    x, y = place
    return box["x"] + x / SIDE * box["width"], box["y"] + y / SIDE * box["height"]


def pin(page, which=".active"):
    """Where a pin is, px of the network's image."""
    style = page.locator(f".pin{which}").first.get_attribute("style")
    found = dict(re.findall(r"(left|top): ([\d.]+)%", style))
    return tuple(float(found[side]) / 100 * SIDE for side in ("left", "top"))


def marks(folder):
    """What marks.csv says: by image and part, px of the network's image, or None."""
    with (folder / "marks.csv").open(newline="") as file:
        return {
            (row["name"], row["part"]): at_network(row) if row["x"] else None
            for row in csv.DictReader(file)
        }  # fmt: skip


def at_network(row):
    return tuple(float(row[axis]) * SIDE / side for axis, side in zip("xy", FILES, strict=True))


def wait(condition, seconds=15):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


# --- mouse, keyboard, touch ----------------------------------------------------------------------


def test_with_the_mouse(world, serve, opened, tmp_path, monkeypatch):
    teacher = world.teacher(["eye"], tmp_path)
    known = teacher.progress
    told = {"stop": True, "advice": "Enough is known."}
    monkeypatch.setattr(teacher, "progress", lambda: tuple(p._replace(**told) for p in known()))
    url = serve(teacher)
    page = opened(url)
    assert page.inner_text("#ask").startswith("Click on the eye in this image.")
    assert page.inner_text("#answered") == "0 of 48 answered"
    first = image_of(page)
    assert page.locator("#strip img").count() == 24
    assert page.locator("#strip .dot").count() == 0
    x, y = place = world.place("eye", first) or (30.0, 40.0)
    # pressed: magnified, and not yet said; moved, then let go
    page.mouse.move(*on_screen(page, (x + 9, y)))
    page.mouse.down()
    assert page.is_visible("#loupe")
    page.mouse.move(*on_screen(page, place), steps=3)
    page.mouse.up()
    assert not page.is_visible("#loupe")
    assert pin(page) == pytest.approx(place, abs=0.3)
    second = image_of(page, first)  # by itself
    assert marks(tmp_path)[first, "eye"] == pytest.approx(place, abs=0.5)
    page.wait_for_selector("#strip .dot")
    assert page.locator("#strip .dot").count() == 24
    assert "moved the guess in 4" in page.inner_text("#moved")
    assert page.inner_text("#said") != ""
    assert page.inner_text("#stop-why") == "Enough is known."
    assert "%" in page.inner_text("#error")
    assert page.inner_text("#ask").startswith("Is the ring on the eye? Press Enter, or click")
    assert page.locator("#rings .ring:not(.under)").count() == 1
    page.click("#stop-on")
    assert not page.is_visible("#stop")
    # its own guess is right: accepted; the second click of two was not meant for the next one
    guess = pin(page)
    page.dblclick("#accept")
    third = image_of(page, second)
    look(page)
    assert image_of(page) == third
    assert marks(tmp_path)[second, "eye"] == pytest.approx(guess, abs=0.1)
    # taken back: here first, then the last answer
    page.click("#absent")
    assert page.inner_text("#parts .state") == "not visible"
    page.click("#undo")
    assert page.inner_text("#parts .state") == "guess"
    page.click("#undo")
    assert image_of(page, third) == second
    assert (second, "eye") not in marks(tmp_path)
    wait(lambda: page.inner_text("#answered") == "1 of 48 answered")
    page.click("#absent")
    third = image_of(page, second)
    assert marks(tmp_path)[second, "eye"] is None
    page.click("#skip")
    fourth = image_of(page, third)
    assert (third, "eye") not in marks(tmp_path)
    # one of the other images, chosen
    chosen = page.locator("#strip button").nth(5)
    name = chosen.get_attribute("title")
    chosen.click()
    assert image_of(page, fourth) == name
    assert page.inner_text("#why") == "Why this one: You chose this image."
    # zoomed in, a click is still where it is
    box = page.locator("#picture").bounding_box()
    page.mouse.move(*on_screen(page, (30, 30)))
    page.mouse.wheel(0, -900)
    page.wait_for_timeout(50)
    assert page.locator("#picture").bounding_box()["width"] > 2 * box["width"]
    page.mouse.click(*on_screen(page, (33.0, 31.0)))
    assert pin(page) == pytest.approx((33, 31), abs=0.2)
    image_of(page, name)
    assert marks(tmp_path)[name, "eye"] == pytest.approx((33, 31), abs=0.2)
    # one that was marked is marked anew
    page.select_option("#order", "marked")
    page.wait_for_selector(f"#strip button[title='{name}']")
    page.locator(f"#strip button[title='{name}']").click()
    page.wait_for_selector(f"#stage[data-image='{name}']:not([aria-busy])")
    assert page.inner_text("#parts .state") == "marked"
    assert pin(page) == pytest.approx((33, 31), abs=0.2)
    page.click("#finish")
    page.wait_for_selector("#finished[open]")
    assert str(tmp_path) in page.inner_text("#written")
    assert (tmp_path / "graph.explgraph").is_file()
    coco = json.loads((tmp_path / "marks.json").read_text())
    assert len(coco["annotations"]) == 2


def test_with_the_keyboard(world, serve, opened, tmp_path):
    url = serve(world.teacher([], tmp_path))
    page = opened(url)
    # the first part is asked for, more come on the way
    assert "Teach it a part" in page.inner_text("#ask")
    page.keyboard.type("tail tip")
    page.keyboard.press("Enter")
    first = image_of(page)
    page.keyboard.press("Enter")
    assert "Click where the tail tip is first" in page.inner_text("#banner")
    page.keyboard.press("p")
    page.keyboard.type("head")
    page.keyboard.press("Enter")
    page.wait_for_selector("#parts button:nth-child(2)")
    assert page.locator("#parts .name").all_inner_texts() == ["tail tip", "head"]

    # nothing is known yet: arrows begin in the middle
    page.locator("#stage").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("2")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    second = image_of(page, first)
    assert marks(tmp_path) == {
        (first, "tail tip"): pytest.approx((57, 55), abs=0.01),
        (first, "head"): pytest.approx((66, 56), abs=0.01),
    }
    assert "Are the rings right?" in page.inner_text("#ask")
    start = pin(page)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+ArrowLeft" if start[0] > 11 else "Shift+ArrowRight")
    x = start[0] + (-10 if start[0] > 11 else 10)
    page.keyboard.press("2")
    checked = "#parts button[aria-checked=true] .name"
    assert page.inner_text(checked) == "head"
    page.keyboard.press("n")
    page.keyboard.press("Enter")
    third = image_of(page, second)
    now = marks(tmp_path)
    assert now[second, "tail tip"] == pytest.approx((x, start[1] + 1), abs=0.2)
    assert now[second, "head"] is None
    # Tab goes through the parts while the image has the focus, and on at the end
    page.locator("#stage").focus()
    assert page.inner_text(checked) == "tail tip"
    page.keyboard.press("Tab")
    assert page.inner_text(checked) == "head"
    assert page.evaluate("() => document.activeElement.id") == "stage"
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.id") == "accept"
    page.locator("#stage").focus()
    page.keyboard.press("ArrowRight")  # nothing was placed: the next image
    fourth = image_of(page, third)
    page.keyboard.press("s")
    fifth = image_of(page, fourth)
    page.keyboard.press("Control+z")
    assert image_of(page, fifth) == fourth
    page.keyboard.press("+")
    tall = [page.locator(box).bounding_box()["height"] for box in ("#picture", "#stage")]
    assert tall[0] > tall[1]
    page.keyboard.press("0")
    page.keyboard.press("?")
    assert page.is_visible("#help")
    assert "not visible in this image" in page.inner_text("#help")
    page.keyboard.press("Escape")
    assert not page.is_visible("#help")
    assert not (tmp_path / "graph.explgraph").exists()


def test_with_fingers_on_a_phone(world, serve, opened, tmp_path):
    url = serve(world.teacher(["eye", "<b>"], tmp_path))
    page = opened(url, 360, 740, has_touch=True, is_mobile=True, color_scheme="dark")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    background = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert np.mean([int(v) for v in re.findall(r"\d+", background)[:3]]) < 60
    for target in page.locator("button:visible, select:visible, .tick").all():
        box = target.bounding_box()
        assert min(box["width"], box["height"]) >= 44, target.inner_text()
    # all that a question needs is on the first screen
    assert page.locator("#undo").bounding_box()["y"] < 740 - 44
    first = image_of(page)
    page.touchscreen.tap(*on_screen(page, (30.0, 40.0)))
    assert page.inner_text("#parts button[aria-checked=true] .name") == "<b>"
    page.touchscreen.tap(*on_screen(page, (70.0, 50.0)))
    second = image_of(page, first)
    now = marks(tmp_path)
    assert now[first, "eye"] == pytest.approx((30, 40), abs=0.5)
    assert now[first, "<b>"] == pytest.approx((70, 50), abs=0.5)
    # a pin that is not its turn is dragged; two fingers zoom and place nothing
    fingers = page.context.new_cdp_session(page)

    def touch(kind, *points):
        told = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(points)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": told})

    before = pin(page, ":not(.active)")
    x, y = on_screen(page, before)
    away = 40 if x < 180 else -40
    touch("touchStart", (x, y))
    touch("touchMove", (x + away / 2, y))
    assert page.is_visible("#loupe")
    touch("touchMove", (x + away, y))
    touch("touchEnd")
    wait(lambda: page.locator(".pin.hand").count() == 1)
    scale = page.locator("#picture").bounding_box()["width"] / SIDE
    assert pin(page, ".hand") == pytest.approx((before[0] + away / scale, before[1]), abs=0.5)
    touch("touchStart", (150, 250))
    touch("touchStart", (150, 250), (200, 250))
    touch("touchMove", (120, 250), (230, 250))
    touch("touchEnd")
    assert page.locator("#picture").bounding_box()["width"] > 1.5 * 340
    assert page.locator(".pin.hand").count() == 1
    page.locator("#accept").tap()
    image_of(page, second)
    assert marks(tmp_path)[second, "<b>"] == pytest.approx(
        (before[0] + away / scale, before[1]), abs=0.5
    )


# --- killed --------------------------------------------------------------------------------------


class Command:
    """``explgraph teach`` as a process."""

    def __init__(self, world, out):
        # without --images: the graph knows where they are
        self._arguments = [
            sys.executable, "-m", "explgraph", "teach", str(world.graph_file),
            "--model", "explgraph.creatures:network", "--parts", "eye", "--out", str(out),
            "--no-browser",
        ]  # fmt: skip
        self.start()

    def start(self):
        path = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(
            self._arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        )  # fmt: skip
        for line in self.process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+/\S+", line):
                self.url = found[0]
                return
        raise AssertionError(self.process.stderr.read())

    def end(self, how):
        self.process.send_signal(how)
        said = self.process.communicate(timeout=60)
        return self.process.returncode, *said


def test_a_kill_loses_nothing(world, opened, tmp_path):
    command = Command(world, tmp_path)
    try:
        url = command.url
        page = opened(url, expected=["ERR_CONNECTION", "Failed to load resource"])
        first = image_of(page)
        page.mouse.click(*on_screen(page, (30.0, 40.0)))
        second = image_of(page, first)
        command.end(signal.SIGKILL)
        page.mouse.click(*on_screen(page, (50.0, 60.0)))
        page.wait_for_selector("#banner:visible")
        assert "doesn't answer" in page.inner_text("#banner")
        assert "kept and will be sent" in page.inner_text("#banner")
        assert marks(tmp_path) == {(first, "eye"): pytest.approx((30, 40), abs=0.5)}
        command.start()
        assert command.url == url  # open pages find it again
        third = image_of(page, second)
        assert not page.is_visible("#banner")
        assert set(marks(tmp_path)) == {(first, "eye"), (second, "eye")}
        assert marks(tmp_path)[second, "eye"] == pytest.approx((50, 60), abs=0.5)
        # what this person was asked is still asked after a reload
        page.reload()
        page.wait_for_selector("body[data-started]")
        assert image_of(page) == third
        wait(lambda: page.inner_text("#answered") == "2 of 48 answered")
        code, out, err = command.end(signal.SIGINT)
        assert (code, err) == (0, "")
        assert "2 images of 48 answered:" in out
        for name in ("marks.csv", "marks.json", "graph.explgraph"):
            assert f"  {tmp_path / name}" in out
            assert (tmp_path / name).is_file()
    finally:
        command.process.kill()


# --- two people ----------------------------------------------------------------------------------


def test_two_people_lose_no_answer(world, serve, opened, tmp_path):
    url = serve(world.teacher(["eye"], tmp_path))
    people = [opened(url, 900, 700), opened(url, 900, 700)]
    said = {}
    for turn in range(6):
        page, other = people[turn % 2], people[(turn + 1) % 2]
        image = image_of(page)
        assert image != image_of(other)
        assert image not in said
        place = world.place("eye", image) or (30.0, 30.0)
        page.mouse.click(*on_screen(page, place))
        page.keyboard.press("Enter")
        said[image] = place
        image_of(page, image)
    now = marks(tmp_path)
    assert {image for image, _ in now} == set(said)
    for (image, _), place in now.items():
        assert place == pytest.approx(said[image], abs=0.3)
    # each sees what the other did, soon and without doing anything
    for page in people:
        wait(lambda page=page: page.inner_text("#answered") == "6 of 48 answered")


# --- intruders -----------------------------------------------------------------------------------


def test_another_site_gets_nothing(world, serve, opened, tmp_path, browser):
    teacher = world.teacher(["eye"], tmp_path)
    url = serve(teacher)
    opened(url)
    attack = (Path(__file__).parent / "other_site.html").read_text().replace("@URL@", url)

    class Evil(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(attack.encode())

        def log_message(self, *_):
            pass

    evil = HTTPServer(("127.0.0.1", 0), Evil)
    threading.Thread(target=evil.serve_forever, daemon=True).start()
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(f"http://localhost:{evil.server_address[1]}/")
        wait(lambda: page.title().startswith("{"))
        got = json.loads(page.title())
        assert got == dict.fromkeys(got, "refused")
        assert len(got) == 7
        page.evaluate("() => document.forms[0].submit()")
        page.wait_for_load_state()
        assert "this server's own page only" in page.inner_text("body")
        # without the token, and with a wrong one
        host = f"http://{urlsplit(url).netloc}/"
        for address in (host, host + "x/", host + "x/state"):
            answer = page.goto(address)
            assert answer.status == 403
            assert "by the address that explgraph teach printed" in page.inner_text("body")
    finally:
        context.close()
        evil.shutdown()
        evil.server_close()
    assert teacher.parts == ("eye",)


def test_names_are_text(world, serve, opened, tmp_path):
    names = [HOSTILE, "__proto__", "constructor"]
    page = opened(serve(world.teacher(names, tmp_path)))
    first = image_of(page)
    assert f"Click on the {HOSTILE} in this" in page.inner_text("#ask")
    for k in range(3):
        page.mouse.click(*on_screen(page, (30.0 + 10 * k, 40.0)))
    page.keyboard.press("Enter")
    image_of(page, first)
    assert page.locator("#parts .name").all_inner_texts() == names
    assert page.locator("#pins .pin").count() == 3
    assert page.title() == "Teach · explgraph"
    assert set(marks(tmp_path)) == {(first, name) for name in names}
    page.wait_for_selector("#strip .dot")
    assert page.locator("#strip .dot").count() == 3 * 24


# --- questions about the graph -------------------------------------------------------------------


def test_questions_about_parts(world, serve, opened, tmp_path, monkeypatch):
    teacher = world.teacher(["eye"], tmp_path)
    one, two = (part.id for part in world.graph.parts[:2])
    to_ask = [
        Question(1, "same", "", -1, (), {}, (one, two), "They are seldom apart."),
        Question(2, "noise", "", -1, (), {}, (two,), "It never moves."),
        Question(3, "same", "", -1, (), {}, (one, world.graph.node_ids[0]), ""),
        Question(4, "same", "", -1, (), {}, (one, "merged meanwhile"), ""),
    ]
    heard = []

    def answer(question, said, _who, *, name):
        heard.append((question, said, name))
        to_ask.pop(0)
        return Progress(0, {}, float("nan"), float("nan"), False, "")

    monkeypatch.setattr(teacher, "question", lambda *_, **__: to_ask[0] if to_ask else None)
    monkeypatch.setattr(teacher, "answer", answer)
    url = serve(teacher)
    page = opened(url)
    assert page.inner_text("#ask").startswith("Are the two marked things the same part")
    assert page.inner_text("#why") == "Why this one: They are seldom apart."
    assert page.locator("#sights li").count() == 6
    assert page.locator("#sights .patch").count() == 12
    assert not page.is_visible("#stage")
    look(page)
    for picture in page.locator("#sights img").all():
        wait(lambda one=picture: one.evaluate("img => img.complete && img.naturalWidth > 0"))
    page.fill("#called", "muzzle")
    page.locator("#yes").focus()
    page.keyboard.press("y")
    wait(lambda: page.inner_text("#ask").startswith("Is what is marked noise"))
    assert page.locator("#sights .patch").count() == 6
    look(page)
    page.keyboard.press("n")
    wait(lambda: len(heard) == 2 and page.inner_text("#ask").startswith("Are the two"))
    assert page.locator("#sights .thing").nth(1).inner_text().endswith(world.graph.node_ids[0])
    look(page)
    page.click("#pass")
    wait(lambda: page.locator("#sights li").count() == 0)
    look(page)
    page.click("#no")
    wait(lambda: "nothing left that is worth asking" in page.inner_text("#ask"))
    assert heard == [(1, True, "muzzle"), (2, False, ""), (3, None, ""), (4, False, "")]
