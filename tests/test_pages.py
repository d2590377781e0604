"""Pages without scripts, in a browser: explanations, trees, And-Or graphs, what nodes answer to."""

import warnings

import numpy as np
import pytest
from PIL import Image

import explgraph
from explgraph import ExplgraphWarning, creatures
from explgraph.answers.decision_tree import DecisionTree
from explgraph.views.pictures import Pictures
from explgraph.views.visualized_page import write_page

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("one_thread")]

HOSTILE = "<img src=x onerror=document.title='ran'>"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of each kind, by its name."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "photographs").mkdir()
    drawn = creatures.draw(80, seed=1)
    for i, colours in enumerate(drawn.images):
        Image.fromarray(colours).save(folder / "photographs" / f"{i:02}.png")
    ready = {"size": creatures.SIZE, "mean": creatures.MEAN, "std": creatures.STD}
    images = explgraph.ImageFolder(folder / "photographs", **ready)
    model = creatures.network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)
        graph = explgraph.mine(model, images, ["stage4"], seed=0).name_part("p1", HOSTILE)
        graph.explain(model, "03.png", images=images).write(folder / "explanation.html")
        tree = DecisionTree.fit(model, graph, images, 1, positive=drawn.labels == 1)
    own = Pictures(images, graph.image_size, tree.fitted.names)
    tree.write(folder / "tree.html", pictures=own, depth=1)
    Image.fromarray(drawn.images[0]).save(folder / "p1.png")
    write_page(folder / "visualized.html", [(HOSTILE, folder / "p1.png")])
    marks = np.where(np.arange(80)[:, None] < 6, drawn.parts["chest"], np.nan)
    parse = graph.parse(model, images)
    localizer = explgraph.Localizer(graph).fit(parse, {HOSTILE: marks})
    localizer.and_or(parse).write(folder / "and_or.html", images=images, parse=parse)
    return folder


@pytest.fixture
def opened(browser, pages):
    """A function that opens one of the pages; none may ask for anything or complain."""
    contexts, heard = [], []

    def open_page(name, width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda r: heard.append(r.url) if r.url[:4] == "http" else None)
        page.goto((pages / f"{name}.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert heard == []


KINDS = ("explanation", "tree", "visualized", "and_or")


@pytest.mark.parametrize("name", KINDS)
def test_all_is_shown_and_names_are_text(opened, name):
    page = opened(name)
    pictures = page.locator("img, image")
    assert pictures.count() > 0
    for one in page.locator("img").all():
        assert one.evaluate("img => img.complete && img.naturalWidth > 0")
    assert page.title() != "ran"
    assert page.locator("script").count() == 0
    if name != "tree":  # whose most telling nodes may be of other parts
        assert HOSTILE[:12] in page.inner_text("body")


@pytest.mark.parametrize("name", KINDS)
def test_light_dark_and_narrow(opened, name):
    def background(page):
        colour = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        return np.mean([int(part) for part in colour.strip("rgb()").split(",")[:3]])

    assert background(opened(name)) > 200
    assert background(opened(name, scheme="dark")) < 60
    narrow = opened(name, width=390)
    assert narrow.evaluate("() => document.documentElement.scrollWidth") <= 390


def test_marks_of_an_explanation_lead_to_their_rows_and_back(opened):
    page = opened("explanation")
    row = page.locator("tr[id]").first
    name = row.get_attribute("id")
    page.locator(f'svg a[href="#{name}"]').first.click()
    assert page.evaluate("() => location.hash") == f"#{name}"
    assert page.evaluate("() => document.querySelector(':target').tagName") == "TR"
    back = row.locator("a").first.get_attribute("href")
    row.locator("a").first.click()
    assert page.evaluate("() => location.hash") == back
    assert page.locator(f'[id="{back[1:]}"]').count() == 1


def test_parts_templates_and_nodes_unfold(opened):
    page = opened("and_or")
    part, template = page.locator("details.or"), page.locator("details.and")
    assert (part.count(), template.count()) == (1, 1)
    rows = template.locator("table").first.locator("tbody tr")
    assert rows.count() == 8
    assert rows.first.locator("img").count() == 3
    assert template.locator(".pose svg image").count() == 1
    assert template.locator(".pose svg circle").count() == 8
    # numbers in the picture are those of the rows
    numbers = [text.inner_text() for text in rows.locator("td:first-child").all()]
    assert template.locator(".pose svg text").all_text_contents() == numbers
    folded = template.locator("details")
    hidden = folded.locator("tbody tr").first
    assert not hidden.is_visible()
    folded.locator("summary").click()
    assert hidden.is_visible()
    template.locator("summary").first.click()
    assert not rows.first.is_visible()
    part.locator("summary").first.click()
    assert not template.is_visible()
