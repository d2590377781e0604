"""The server of the teaching page: who gets in, and what it says to requests that are none."""

import http.client
import importlib
import io
import json
import os
import re
import signal
import socket
import stat
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from PIL import Image
from teach_world import FILES, served

from explgraph.errors import ExplgraphError
from explgraph.teaching import server
from explgraph.teaching.address import FILE, Address
from explgraph.teaching.gate import HEADERS
from explgraph.teaching.page_state import PageState
from explgraph.teaching.served_pictures import ServedPictures
from explgraph.teaching.server import serve, serving
from explgraph.teaching.teacher import Teacher
from explgraph.views.pictures import Pictures

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def asked(world, tmp_path):
    """A function that sends a request to a server, and the teacher behind it."""
    teacher = world.teacher(["eye"], tmp_path / "marks")
    with served(teacher) as url:
        yield Asking(url), teacher


class Asking:
    """Sends requests as nobody's browser would."""

    def __init__(self, url):
        self.url, self.parts = url, urlsplit(url)
        self.origin = f"http://{self.parts.netloc}"

    def __call__(self, path, body=None, method=None, prefix=None, raw=None, **headers):
        link = http.client.HTTPConnection(self.parts.hostname, self.parts.port, timeout=20)
        method = method or ("GET" if body is None and raw is None else "POST")
        if method == "POST":
            headers = {"Origin": self.origin, "Content-Type": "application/json"} | headers
        data = raw if raw is not None else None if body is None else json.dumps(body)
        where = (self.parts.path if prefix is None else prefix) + path
        link.request(method, where, data, {k: v for k, v in headers.items() if v is not None})
        answer = link.getresponse()
        content = answer.read()
        link.close()
        return answer.status, dict(answer.getheaders()), content


def said(answer):
    """The code and the message of an answer, which is JSON and tells nothing of the code."""
    code, headers, content = answer
    assert headers["content-type"] == "application/json"
    told = json.loads(content)
    assert "Traceback" not in str(told)
    assert "/" not in str(told.get("error", ""))
    return code, told


# --- who gets in ---------------------------------------------------------------------------------


def test_only_the_token_opens(asked):
    ask, _ = asked
    token = ask.parts.path.strip("/")
    assert len(token) == 43
    assert ask("")[0] == 200
    for prefix in (
        "/",
        "",
        "/x/",
        f"/{token[:-1]}/",
        f"/{token}x/",
        f"//{token}/",
        "/%00/",
        "/%C3%A9/",
    ):
        for path in ("", "state", "page.css", "image/0"):
            code, told = said(ask(path, prefix=prefix))
            assert (code, "address" in told["error"]) == (403, True), prefix
    assert said(ask("question", {"who": "a"}, prefix="/"))[0] == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "[::1]", ""]
)
def test_other_hosts_are_refused(asked, host):
    ask, _ = asked
    assert said(ask("state", Host=host))[0] == 403
    assert ask("state", Host=f"localhost:{ask.parts.port}")[0] == 200


def test_only_its_own_page_may_change_anything(asked):
    ask, teacher = asked
    body = {"who": "a", "name": "tail"}
    for headers in (
        {"Origin": None}, {"Origin": "null"}, {"Origin": "http://evil.example"},
        {"Origin": f"http://127.0.0.1:{ask.parts.port + 1}"},
        {"Origin": f"http://localhost:{ask.parts.port}"},  # another name, another origin
        {"Origin": ask.origin.replace("http", "https")},
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ):  # fmt: skip
        assert said(ask("part", body, **headers))[0] == 403, headers
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None):
        assert said(ask("part", body, **{"Content-Type": kind}))[0] == 415
    assert teacher.parts == ("eye",)
    assert ask("part", body, **{"Sec-Fetch-Site": "same-origin"})[0] == 200
    assert teacher.parts == ("eye", "tail")


def test_every_answer_forbids_what_the_page_never_does(asked):
    ask, _ = asked
    for path, options in (
        ("", {}), ("page.css", {}), ("start.js", {}), ("state", {}), ("image/0", {}),
        ("nothing", {}),
        ("state", {"prefix": "/wrong/"}), ("answer", {"body": {}}), ("state", {"method": "PUT"}),
    ):  # fmt: skip
        _, headers, _ = ask(path, **options)
        headers = {name.lower(): value for name, value in headers.items()}
        for name, value in HEADERS.items():
            assert headers[name.lower()] == value, path
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert HEADERS["Referrer-Policy"] == "no-referrer"


def test_the_page_s_files_hold_no_markup_of_texts_and_no_other_address(asked):
    ask, _ = asked
    for name in ("start.js", "elements.js", "asking.js", "marking.js", "picture.js", "strip.js"):
        code, headers, content = ask(name)
        assert (code, headers["content-type"]) == (200, "text/javascript; charset=utf-8")
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        for banned in (
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "http",
        ):
            assert banned not in text, (name, banned)
    for outside in ("../server.py", "..%2fserver.py", "server.py", "__init__.py", "page.html/x"):
        assert said(ask(outside))[0] == 404


# --- requests that are none ----------------------------------------------------------------------

EYE = {"who": "a", "question": 0, "said": {"eye": [1, 1]}}


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("question", {}, "who must be a text"),
        ("question", {"who": 3}, "who must be a text"),
        ("question", {"who": ""}, "who is empty"),
        ("question", {"who": "x" * 300}, "who must be a text of 200"),
        ("question", {"who": "a", "image": "none.png"}, "no image 'none.png'"),
        ("question", {"who": "a", "image": ["00.png"]}, "image must be a text"),
        ("answer", {"who": "a", "said": {}}, "question is missing"),
        ("answer", EYE | {"question": "0"}, "question is missing"),
        ("answer", EYE | {"question": True}, "question is missing"),
        ("answer", EYE | {"question": 99}, "no question 99"),
        ("answer", EYE | {"said": {"tail": [1, 1]}}, "the part 'tail'"),
        ("answer", EYE | {"said": {"eye": [1]}}, "the place of 'eye' must be"),
        ("answer", EYE | {"said": {"eye": ["1", 2]}}, "the place of 'eye' must be"),
        ("answer", EYE | {"said": {"eye": [True, 2]}}, "the place of 'eye' must be"),
        ("answer", EYE | {"said": {"eye": [-1, 2]}}, "outside the image"),
        ("answer", EYE | {"said": {"eye": [1e999, 2]}}, "outside the image"),
        ("answer", EYE | {"said": {"eye": [float("nan"), 2]}}, "outside the image"),
        ("answer", EYE | {"said": "eye"}, "said must be places"),
        ("answer", EYE | {"said": True}, "said must map parts"),
        ("part", {"who": "a", "name": "  "}, "printable characters, got '  '"),
        ("part", {"who": "a", "name": "a\nb"}, "1 to 100 printable characters"),
        ("part", {"who": "a", "name": "eye"}, "taught already"),
        ("part", {"who": "a"}, "name must be a text"),
    ],
)
def test_what_is_wrong_is_said(asked, path, body, told):
    ask, teacher = asked
    teacher.question("a")
    code, answer = said(ask(path, body))
    assert code == 400
    assert told in answer["error"]
    assert teacher.progress() == ()


def test_bodies_that_are_none_too_large_or_deep(asked):
    ask, _ = asked
    assert said(ask("question", raw="{"))[0] == 400
    assert said(ask("question", raw="[]"))[0] == 400
    assert said(ask("question", raw=b"\xff\xfe{}"))[0] == 400
    assert said(ask("question", raw="[" * 60_000))[0] == 400
    assert said(ask("question", raw='{"who": "' + "a" * 70_000 + '"}'))[0] == 413
    for query in (
        "count=0",
        "count=-1",
        "count=x",
        "count=99999",
        "order=x",
        "shown=1,x",
        "count=%C2%B2",
        "count=" + "9" * 5000,
    ):
        assert said(ask(f"state?{query}"))[0] == 400, query
    assert ask("state?shown=0,5,4000000")[0] == 200
    assert said(ask("image/48"))[0] == 404
    assert said(ask("image/-1"))[0] == 404
    assert said(ask("state", method="DELETE", Origin=ask.origin))[0] == 405
    assert said(ask("answer"))[0] in (404, 405)


def test_an_error_of_ours_is_told_without_where(asked, monkeypatch, capsys):
    ask, teacher = asked

    def broken(*_, **__):
        raise RuntimeError("/home/somebody/secret is broken")

    monkeypatch.setattr(type(teacher), "question", broken)
    code, told = said(ask("question", {"who": "a"}))
    assert (code, told["error"]) == (500, "something went wrong; the terminal says what")
    complained = capsys.readouterr().err
    assert "RuntimeError: /home/somebody/secret is broken" in complained
    assert "Traceback" not in complained
    assert ask("state")[0] == 200


def test_state_questions_and_answers(asked, world):
    ask, teacher = asked
    _, first = said(ask("state"))
    assert first["parts"] == ["eye"]
    assert first["curve"] == []
    assert len(first["rows"]) == 24
    assert said(ask(f"state?since={first['revision']}"))[1] == {"revision": first["revision"]}
    question = said(ask("question", {"who": "a"}))[1]["question"]
    assert question["parts"] == ["eye"]
    place = world.place("eye", question["image"]) or (10.0, 20.0)
    told = {"who": "a", "question": question["id"], "said": {"eye": place}}
    _, after = said(ask("answer", told))
    assert after["question"]["image"] != question["image"]
    assert after["moved"] > 0
    _, now = said(ask("state"))
    assert now["revision"] == after["revision"] != first["revision"]
    assert now["answers"] == 1
    row = str(question["row"])
    seen = said(ask(f"state?shown={row}"))[1]["seen"][row]
    assert seen["marked"]["eye"] == pytest.approx(place, abs=0.01)
    assert question["row"] not in now["rows"]
    assert said(ask("state?order=marked"))[1]["rows"] == [question["row"]]
    again = said(ask("undo", {"who": "a"}))[1]["question"]
    assert again["image"] == question["image"]
    assert said(ask("undo", {"who": "a"}))[1]["question"] is None
    assert said(ask("finish", {"who": "a"}))[1]["out"] == str(teacher.finish())


def test_questions_about_parts_are_shown_without_copying_the_graph(world, monkeypatch):
    """A copy of a graph of thousands of nodes takes seconds, and the next image waits for it."""
    teacher = world.teacher(["eye"])
    part = world.graph.parts[0]
    teacher._ask("noise", "a", -1, (part.id,), "why")
    monkeypatch.setattr(Teacher, "graph", property(lambda _: pytest.fail("copied")))
    told = PageState(teacher).asked(teacher.question("a"))
    assert told["titles"] == [part.title]
    assert len(told["sights"]) == 6


# --- pictures ------------------------------------------------------------------------------------


def test_pictures_are_kept_up_to_a_bound(world):
    pictures = ServedPictures(
        Pictures.of(world.images, world.parse.image_size, world.parse), world.parse.names
    )
    # in the photograph's own resolution and proportions, not as the network sees it
    assert Image.open(io.BytesIO(pictures.image(0))).size == FILES
    assert max(Image.open(io.BytesIO(pictures.thumbnail(0))).size) == 224
    whole = sum(len(pictures.image(row)) for row in range(4))
    few = ServedPictures(pictures._pictures, world.parse.names, kept=whole // 2)
    for row in range(4):
        assert few.image(row) == pictures.image(row)
    assert few._bytes == sum(map(len, few._files.values())) <= whole // 2
    with pytest.raises(ExplgraphError, match="expected a place"):
        few.patch(0, float("nan"), 1)


def test_images_are_found_by_name_in_a_larger_folder_of_another_order(world):
    order = [5, 2, 9, 0]
    rows = [world.names[i] for i in order]
    pictures = ServedPictures(Pictures.of(world.images, world.parse.image_size, None), rows)
    whole = ServedPictures(
        Pictures.of(world.images, world.parse.image_size, world.parse), world.parse.names
    )
    for row, i in enumerate(order):
        assert pictures.image(row) == whole.image(i)
        assert pictures.patch(row, 30, 30) == whole.patch(i, 30, 30)


# --- the address ---------------------------------------------------------------------------------


def test_the_address_stays_with_its_folder_only(tmp_path):
    folder = tmp_path / "marks"
    first = Address.kept(folder)._replace(port=4567)
    assert Address.kept(None).port == 0
    first.keep(folder)
    file = folder / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Address.kept(folder) == first
    file.chmod(0o644)  # others may have read it
    assert Address.kept(folder).token != first.token
    file.chmod(0o600)
    copied = tmp_path / "copy"
    copied.mkdir()
    (copied / FILE).write_bytes(file.read_bytes())
    (copied / FILE).chmod(0o600)
    assert Address.kept(copied).token != first.token
    for wrong in (
        '{"token": 1}',
        "[]",
        "{",
        '{"token": "short", "port": 4567, "of": []}',
        "1" * 20_000,
    ):
        file.write_text(wrong)
        assert Address.kept(folder) != first
    file.unlink()
    file.symlink_to(copied / FILE)
    assert Address.kept(folder) != first


def test_ports(world, tmp_path):
    teacher = world.teacher(out=tmp_path / "marks")
    with serving(teacher) as found:
        kept = found.address.url
    with serving(teacher) as found:
        assert found.address.url == kept
    port = urlsplit(kept).port
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with serving(teacher) as found:  # taken: a free one
            assert urlsplit(found.address.url).port != port
            assert urlsplit(found.address.url).path == urlsplit(kept).path
        for taken in (port, 99_999, -1):
            with pytest.raises(ExplgraphError, match=f"can't serve on port {taken}: "):
                serve(teacher, port=taken)
    teacher.close()
    with Teacher(world.graph, world.parse) as without:  # noqa: SIM117
        with pytest.raises(ExplgraphError, match="no images to show"):
            serve(without)


def test_serve_opens_the_page_and_ends_with_ctrl_c(world, tmp_path, monkeypatch, capsys):
    opened = []

    def look(address):
        file = Path(url2pathname(urlsplit(address).path))
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        opened.append((address, file.read_text()))

    def interrupted(_server):
        raise KeyboardInterrupt

    monkeypatch.setattr(server.webbrowser, "open", look)
    monkeypatch.setattr(server.Served, "run", interrupted)
    for folder in (tmp_path / "marks", None):
        with world.teacher(out=folder) as teacher:
            serve(teacher)
            serve(teacher, open_browser=False)
        ((address, page),) = opened
        opened.clear()
        said = capsys.readouterr().out.splitlines()
        url = re.fullmatch(r"Teach at (http://\S+) \(Ctrl-C ends it\)", said[0])[1]
        # all users see what programs were started with: the token isn't there, but in the file
        assert address.startswith("file://")
        assert urlsplit(url).path.strip("/") not in address
        assert f"url={url}" in page
        assert not Path(url2pathname(urlsplit(address).path)).exists()
    assert (tmp_path / "marks" / "graph.explgraph").is_file()


def test_sigterm_writes_the_graph_too(world, tmp_path, capsys):
    def end_once_it_answers():
        address = Address.kept(tmp_path)
        while http_status(address.url) != 200:
            address = Address.kept(tmp_path)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with world.teacher(out=tmp_path) as teacher:
        thread = threading.Thread(target=end_once_it_answers, daemon=True)
        thread.start()
        serve(teacher, open_browser=False)
        thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
    assert (tmp_path / "graph.explgraph").is_file()
    assert not (tmp_path / "open.html").exists()  # it holds the token
    assert "Teach at" in capsys.readouterr().out


def http_status(url):
    """What a server says to a request, None if there is none yet."""
    try:
        link = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
        link.request("GET", urlsplit(url).path)
        return link.getresponse().status
    except OSError:
        return None
    finally:
        link.close()


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "explgraph.teaching.server")
    with pytest.raises(ExplgraphError, match=r"pip install 'explgraph\[teach\]'"):
        importlib.import_module("explgraph.teaching.server")
