"""Drawings, looked at: patches where they belong, links, sizes in print, text that stays text."""

from __future__ import annotations

import base64
import copy
import io
import re
import shutil
import warnings
import xml.etree.ElementTree as ET

import networkx
import numpy as np
import pytest
from grown import grown
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.text import Text
from PIL import Image
from random_graphs import HOSTILE, random_graph

import explgraph
from explgraph import creatures
from explgraph.errors import ExplgraphError, ExplgraphWarning
from explgraph.views.draw import WHAT, draw
from explgraph.views.draw_filter import telling_filter
from explgraph.views.draw_parts import _between, _places
from explgraph.views.figure_style import part_sign

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}"
MM = 25.4
SIZE = (60, 80)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder of creatures, and the graph that was mined from it."""
    folder = tmp_path_factory.mktemp("draw") / "mined"
    folder.mkdir()
    drawn = creatures.draw(60, seed=1)
    for k, pixels in enumerate(drawn.images):
        Image.fromarray(pixels).save(folder / f"{k:02}.png")
    ready = {"size": creatures.SIZE, "mean": creatures.MEAN, "std": creatures.STD}
    images = explgraph.ImageFolder(folder, **ready)
    graph = explgraph.mine(creatures.network(), images, ["stage4", "stage3"], seed=0)
    graph.grown = grown(graph, images=images.names[:9], voters=40)
    return images, graph


def parted(seed=3, labels=()):
    """A graph with two parts of four nodes, one of one, and nodes of none."""
    graph = random_graph(seed, layers=("upper", "lower"), nodes=6, image_size=SIZE, labels=labels)
    held = {"p1": graph.node_ids[:3] + graph.node_ids[6:7], "p2": graph.node_ids[3:5]
            + graph.node_ids[7:9], "p11": graph.node_ids[9:10]}  # fmt: skip
    for values in graph.nx.nodes.values():
        values.update(part="", part_weight=0.0)
    for part, nodes in held.items():
        for node in nodes:
            graph.nx.nodes[node].update(part=part, part_weight=1.0, reliability=0.5)
    graph.nx.graph["parts"] = [
        {
            "id": part, "name": "", "reliability": 0.9, "support": 0.25, "offset": -6.0,
            "slope": 12.0, "together": {}, "rejected": [], "decided": False,
        }
        for part in held
    ]  # fmt: skip
    graph.grown = grown(graph, labels[:2] or ("head", "tail"))
    graph.validate()
    return graph


def texts(figure):
    return [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]


def said(figure):
    return " ".join(t.get_text() for t in texts(figure))


def boxes(figure, colour):
    """Extents of the frames of a colour, mm."""
    from matplotlib.colors import to_hex

    ax = figure.axes[0]
    return [
        (r.get_x(), r.get_y(), r.get_width())
        for r in ax.patches
        if isinstance(r, Rectangle) and to_hex(r.get_edgecolor()) == colour.lower()
    ]


# --- what every drawing keeps ---------------------------------------------------------------------


@pytest.mark.parametrize("width", [84, 174])
@pytest.mark.parametrize("what", WHAT)
def test_it_can_be_read_in_print(world, what, width):
    images, graph = world
    figure = draw(graph, what, images=images, width=width)
    assert figure.get_size_inches()[0] * MM == pytest.approx(width)
    FigureCanvasAgg(figure).draw()
    page = figure.bbox
    spots = []
    for text in texts(figure):
        assert text.get_fontsize() >= 6
        box = text.get_window_extent()
        # no letter is cut off
        assert page.x0 <= box.x0 <= box.x1 <= page.x1, text.get_text()
        assert page.y0 <= box.y0 <= box.y1 <= page.y1, text.get_text()
        spots.append((text.get_text(), box.shrunk(0.98, 0.6)))
    # nor does one lie on another
    for k, (one, box) in enumerate(spots):
        for other, there in spots[:k]:
            assert not box.overlaps(there), (one, other)


@pytest.mark.parametrize("what", WHAT)
def test_svg_text_is_text_and_patches_are_inside(world, what, tmp_path):
    images, graph = world
    figure = draw(graph, what, images=images, path=tmp_path / "x.svg")
    root = ET.parse(tmp_path / "x.svg").getroot()
    written = {"".join(t.itertext()) for t in root.iter(f"{SVG}text")}
    assert {t.get_text() for t in texts(figure)} <= written
    pictures = [image.get(f"{LINK}href") for image in root.iter(f"{SVG}image")]
    assert len(pictures) >= 4
    for address in pictures:
        kind, _, content = address.partition(";base64,")
        assert kind == "data:image/png"
        Image.open(io.BytesIO(base64.b64decode(content))).load()


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_the_file_is_the_same_each_time(world, kind, tmp_path):
    images, graph = world
    for name in ("a", "b"):
        graph.draw(tmp_path / f"{name}.{kind}", images=images, width=84)
    assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_pdf_holds_letters(world, tmp_path):
    images, graph = world
    graph.draw(tmp_path / "x.pdf", images=images)
    content = (tmp_path / "x.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/CIDFontType2" in content  # TrueType fonts, which can be searched and edited
    assert b"/Type3" not in content


def test_pixels_per_inch(world, tmp_path):
    images, graph = world
    for dpi in (100, 150):
        graph.draw(tmp_path / "x.png", images=images, width=127, dpi=dpi)
        with Image.open(tmp_path / "x.png") as picture:
            assert picture.width == 5 * dpi


@pytest.mark.parametrize("what", WHAT)
def test_hostile_names_are_text(what, tmp_path):
    graph = parted(labels=HOSTILE)
    graph = graph.name_part("p1", HOSTILE[0]).name_part("p2", HOSTILE[1])
    with warnings.catch_warnings():
        # letters that matplotlib's own font lacks; svg leaves the choice of fonts to the viewer
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        warnings.filterwarnings("ignore", "Matplotlib currently does not support", UserWarning)
        draw(graph, what, path=tmp_path / "x.svg")
    root = ET.parse(tmp_path / "x.svg").getroot()
    assert not list(root.iter(f"{SVG}script"))


@pytest.mark.parametrize("what", WHAT)
def test_without_images_there_are_squares(what):
    figure = draw(parted(), what)
    assert not figure.axes[0].images
    assert figure.axes[0].patches


# --- parts ----------------------------------------------------------------------------------------


def test_each_part_has_four_patches_in_its_frame(world):
    images, graph = world
    parts = graph.parts[:5]
    figure = draw(graph, "parts", images=images, most=5)
    ax = figure.axes[0]
    extents = [tuple(image.get_extent()) for image in ax.images]
    assert len(extents) == 4 * len(parts)
    for part in parts:
        ((x, y, side),) = boxes(figure, part_sign(part.id, 0).colour)
        held = [e for e in extents if x <= e[0] and e[1] <= x + side + 1e-6 and y <= e[3]
                and e[2] <= y + side + 1e-6]  # fmt: skip
        assert len(held) == 4
        assert part.title in said(figure)


def test_patches_are_the_best_of_the_part(world):
    images, graph = world
    part = graph.parts[0]
    figure = draw(graph, "parts", images=images, most=1)
    name, x, y, _ = part.exemplars[0]
    shown = np.asarray(figure.axes[0].images[0].get_array(), float)
    picture = np.asarray(images.picture(images.names.index(name)), float)
    side = 0.4 * min(graph.image_size)
    x = np.clip(x, side / 2, graph.image_size[1] - side / 2)
    y = np.clip(y, side / 2, graph.image_size[0] - side / 2)
    for column, row in ((0.25, 0.25), (0.5, 0.6), (0.8, 0.7)):
        at = int(x + (column - 0.5) * side), int(y + (row - 0.5) * side)
        around = picture[at[1] - 1 : at[1] + 2, at[0] - 1 : at[0] + 2].reshape(-1, 3)
        pixel = shown[int(row * len(shown)), int(column * len(shown))]
        assert (around.min(0) - 2 <= pixel).all()
        assert (pixel <= around.max(0) + 2).all()


def test_links_join_the_parts_that_are_linked(world):
    images, graph = world
    figure = draw(graph, "parts", images=images)
    ax = figure.axes[0]
    parts = graph.parts[:12]
    centres = {}
    for text in texts(figure):
        for part in parts:
            if text.get_text() == part.title:
                centres[part.id] = text.get_position()
    linked = graph.part_graph()
    arrows = [a for a in ax.patches if isinstance(a, FancyArrowPatch)]
    assert arrows
    for arrow in arrows:
        ends = [nearest(end, centres) for end in arrow._posA_posB]
        assert linked.has_edge(*ends)


def nearest(point, centres):
    """The part whose title is nearest above a point's tile."""
    return min(centres, key=lambda p: np.hypot(centres[p][0] + 6 - point[0],
                                               centres[p][1] + 12 - point[1]))  # fmt: skip


def test_linked_parts_are_neighbours():
    """A ring of eight fits on the border of a grid of 3 x 3 without a link across a part."""
    graph = random_graph(0)
    ring = networkx.DiGraph()
    for k in range(8):
        ring.add_edge(f"p{k + 1}", f"p{(k + 1) % 8 + 1}", links=10, sigma=1.0)
    draws = np.random.default_rng(1)
    parts = [
        explgraph.graph.parts.Part(
            f"p{k + 1}", "", graph.node_ids[:1], ("features.28",),
            tuple(draws.uniform(0, 100, 2)), 1.0, 1.0, 1.0, (),
        )
        for k in range(8)
    ]  # fmt: skip
    cells = dict(zip(ring, _places(parts, ring, 3, 3), strict=True))
    assert len(set(cells.values())) == 8
    for u, v in ring.edges:
        assert max(abs(a - b) for a, b in zip(cells[u], cells[v], strict=True)) == 1
        assert _between(cells[u], cells[v]) == 0


def test_a_graph_without_parts_says_so():
    with pytest.raises(ExplgraphError, match="the graph has no parts"):
        draw(random_graph(0), "parts")
    for what in ("nodes", "filter", "layers"):
        draw(random_graph(0), what)


# --- nodes, filters, layers -----------------------------------------------------------------------


def test_a_node_of_every_part_and_layer(world):
    images, graph = world
    figure = draw(graph, "nodes", images=images)
    drawn = len(figure.axes[0].images)
    cells = {(part.id, graph.nx.nodes[v]["layer"]) for part in graph.parts[:12] for v in part.nodes}
    assert drawn == len(cells)
    names = said(figure)
    shown = re.findall(r"\b(\d+)/(\d+)\b", names)
    assert len(shown) == drawn + 1  # the legend's example


@pytest.mark.parametrize("most", [1, 3, 7, 30])
def test_no_more_nodes_than_asked(world, most):
    images, graph = world
    for one in (graph, random_graph(2)):
        figure = draw(one, "nodes", images=images if one is graph else None, most=most)
        frames = [r for r in figure.axes[0].patches if r.get_zorder() == 4]
        assert 1 <= len(frames) <= most


def test_the_telling_filter_is_the_one_with_two_things():
    """Of planted filters the one whose nodes are far apart, surely, and share the activation."""
    graph = random_graph(5, layers=("upper", "lower"), nodes=30, image_size=SIZE)
    graph.fitted.clear()
    graph.top_images.clear()
    filters = {}
    for node, values in graph.nx.nodes.items():
        filters.setdefault((values["layer"], values["filter"]), []).append(node)
        values.update(reliability=0.5, energy=0.3, x=10.0, y=10.0)
    several = [one for one, nodes in filters.items() if len(nodes) > 1]
    far, doubtful, near = several[:3]
    graph.nx.nodes[filters[near][0]].update(x=15.0)
    graph.nx.nodes[filters[far][0]].update(x=60.0)
    graph.nx.nodes[filters[doubtful][0]].update(x=70.0, reliability=0.01)
    assert telling_filter(graph) == far
    # where two are seen in one image counts for more than where they usually are
    a, b = filters[near][:2]
    graph.top_images.update({a: [["x", 0.0, 0.0, 1.0]], b: [["x", 80.0, 60.0, 1.0]]})
    assert telling_filter(graph) == near


def test_a_filter_has_a_row_for_each_node(world):
    images, graph = world
    layer, number = telling_filter(graph)
    nodes = graph.nodes_of(layer, number)
    figure = draw(graph, "filter", images=images, filter=f"{layer}/{number}")
    assert f"Filter {number} of {layer}" in said(figure)
    for node in nodes:
        values = graph.nx.nodes[node]
        assert f"pattern {values['pattern']}: {values['energy']:.0%}" in said(figure)
    rows = {round(image.get_extent()[3], 3) for image in figure.axes[0].images}
    assert len(rows) == len(nodes)
    assert "Filter" in said(draw(graph, "filter", images=images))


def test_what_layers_add(world):
    images, graph = world
    figure = draw(graph, "layers", images=images)
    lowest, highest = (layer.name for layer in graph.layers)
    new = [sum(part.layers[0] == layer for part in graph.parts) for layer in (lowest, highest)]
    assert sum(new) == len(graph.parts)
    assert re.search(rf"\+ {new[0]} parts?\b", said(figure))
    assert (f"+ {new[1]} part" if new[1] else "no new part") in said(figure)


# --- what is wrong --------------------------------------------------------------------------------


WRONG = {
    "what": ({"what": "faces"}, "what is 'faces'; expected one of parts, nodes, filter, layers"),
    "width": ({"width": 20}, "width is 20; expected 60 to 400 mm, such as 84"),
    "width nan": ({"width": float("nan")}, "width is nan"),
    "width text": ({"width": "84"}, "width is '84'"),
    "dpi": ({"dpi": 10}, "dpi is 10; expected a whole number from 50 to 1200"),
    "half a dpi": ({"dpi": 99.5}, "dpi is 99.5"),
    "most": ({"most": 0}, "most is 0; expected a whole number, 1 or more"),
    "most true": ({"most": True}, "most is True"),
    "filter of nodes": ({"what": "nodes", "filter": "lower/1"}, "goes with what='filter'"),
    "no such layer": ({"what": "filter", "filter": "x/1"}, "is 'x/1'; expected LAYER/NUMBER"),
    "no number": ({"what": "filter", "filter": "lower/a"}, "expected LAYER/NUMBER"),
    "no filter": ({"what": "filter", "filter": "lower/4000"}, "'lower' has no filter 4000"),
    "suffix": ({"path": "x.doc"}, "suffix '.doc'; expected one of"),
    "tensor": ({"images": np.zeros((3, 3, 60, 80), np.float32)}, "expected colours"),
    "size": ({"images": np.zeros((200, 9, 9, 3), np.uint8)}, "is uint8 of the shape"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(options, message):
    graph = parted()
    graph.top_images = {v: [["000", 1.0, 1.0, 1.0]] for v in graph.node_ids}
    with pytest.raises(ExplgraphError, match=re.escape(message)):
        graph.draw(**options)


def test_a_filter_without_nodes():
    graph = parted()
    number = graph.nx.nodes[graph.nodes_of("lower")[0]]["filter"]
    others = [node for node in graph.node_ids if node not in graph.nodes_of("lower", number)]
    with pytest.raises(ExplgraphError, match=f"filter {number} of 'lower' has no node"):
        graph.restricted(others).draw(what="filter", filter=f"lower/{number}")


# --- pictures that the graph remembers ------------------------------------------------------------


def test_it_remembers_its_images(world, tmp_path):
    images, graph = world
    assert graph.whereabouts["folder"] == str(images.path)
    seen = {name for top in graph.top_images.values() for name, *_ in top}
    assert set(graph.whereabouts["photographs"]) == seen
    graph.save(tmp_path / "graph.explgraph")
    for one in (graph, graph.prune(top=0.5), explgraph.load(tmp_path / "graph.explgraph")):
        figure = one.draw()
        assert len(figure.axes[0].images) == 4 * min(12, len(one.parts))
    graph = graph.prune(top=20)
    graph.write(tmp_path / "x.svg")
    assert b"data:image/png;base64" in (tmp_path / "x.svg").read_bytes()
    graph.write(tmp_path / "x.html")
    assert b"data:image/jpeg;base64" in (tmp_path / "x.html").read_bytes()


def test_other_files_do_not_tell(world, tmp_path):
    images, graph = world
    graph = graph.prune(top=20)
    for suffix in (".json", ".graphml", ".gml", ".gexf", ".cyjs", ".dot", ".html", ".svg"):
        graph.write(tmp_path / f"graph{suffix}")
        assert str(images.path).encode() not in (tmp_path / f"graph{suffix}").read_bytes()


def test_moved_together_they_are_found(world, tmp_path):
    images, graph = world
    (tmp_path / "one" / "mined").mkdir(parents=True)
    for name in images.names:
        (tmp_path / "one" / "mined" / name).write_bytes((images.path / name).read_bytes())
    here = explgraph.ImageFolder(tmp_path / "one" / "mined", **images.describe())
    graph.with_images(here).save(tmp_path / "one" / "graph.explgraph")
    (tmp_path / "one").rename(tmp_path / "two")
    again = explgraph.load(tmp_path / "two" / "graph.explgraph")
    assert again.whereabouts["folder"] == str(tmp_path / "two" / "mined")
    assert again == graph
    assert again.draw().axes[0].images


def test_lost_they_are_told_of(world, tmp_path):
    images, graph = world
    (tmp_path / "mined").mkdir()
    for name in images.names:
        (tmp_path / "mined" / name).write_bytes((images.path / name).read_bytes())
    graph = graph.with_images(explgraph.ImageFolder(tmp_path / "mined", **images.describe()))
    name = next(iter(graph.whereabouts["photographs"]))
    (tmp_path / "mined" / name).unlink()
    message = rf"x\.{{}} has no pictures: '.*mined' has no image '{name}' any more; give images="
    graph = graph.prune(top=20, by="part")
    for suffix in ("html", "svg"):
        with pytest.warns(ExplgraphWarning, match=message.format(suffix)):
            graph.write(tmp_path / f"x.{suffix}")
        assert (tmp_path / f"x.{suffix}").is_file()
    with pytest.warns(ExplgraphWarning, match="the drawing has no pictures"):
        figure = graph.draw()
    assert not figure.axes[0].images
    assert graph.draw(images=images).axes[0].images  # as told, without a warning


def test_names_that_no_file_has_do_not_keep_a_graph_from_opening(world, tmp_path):
    _, graph = world
    other = graph.prune(top=20)
    other.whereabouts = copy.deepcopy(graph.whereabouts)
    for one in other.whereabouts["photographs"].values():
        one["file"] = "a" * 5000
    other.save(tmp_path / "graph.explgraph")
    again = explgraph.load(tmp_path / "graph.explgraph")
    assert again.whereabouts == other.whereabouts
    with pytest.warns(ExplgraphWarning, match="the drawing has no pictures: .*has no image 'aaa"):
        again.draw()


def test_none_forgets(world):
    _, graph = world
    other = graph.with_images(None)
    assert other.whereabouts is None
    assert graph.whereabouts is not None
    assert other == graph


def test_images_that_do_not_fit(world, tmp_path):
    images, graph = world
    Image.new("RGB", (20, 20)).save(tmp_path / "other.png")
    with pytest.raises(ExplgraphError, match="has none of the images that the graph was mined"):
        graph.with_images(explgraph.ImageFolder(tmp_path, **images.describe()))
    with pytest.raises(ExplgraphError, match="the graph was mined at"):
        graph.with_images(explgraph.ImageFolder(images.path, size=32))


def test_a_tensor_s_graph_knows_nothing():
    tensor = explgraph.mine(
        creatures.network(), creatures.draw(20, seed=1).tensor(), ["stage4"], seed=0
    )
    assert tensor.whereabouts is None
    assert not tensor.draw(what="nodes").axes[0].images


def _text(content):
    """Put something else in the place of a store's record."""

    def change(place):
        zarr = pytest.importorskip("zarr")
        values = np.frombuffer(content, np.uint8)
        zarr.open_group(place, mode="r+").create_array(
            "whereabouts", shape=values.shape, chunks=values.shape, dtype="uint8", overwrite=True
        )[:] = values

    return change


DAMAGED = {
    "other text": (_text(b'["5"]'), "whereabouts is 5; expected folder and photographs"),
    "no text": (_text(b"[]"), "whereabouts holds 0 texts"),
    "no JSON": (_text(b"{\0\0\0"), "whereabouts isn't JSON"),
    "deep JSON": (_text(b"[" * 100_000), "whereabouts isn't JSON"),
    "deep JSON within": (_text(b'["' + b"[" * 100_000 + b'"]'), "whereabouts isn't JSON"),
    "no chunk": (lambda place: (place / "whereabouts/c/0").unlink(), "whereabouts"),
    "no zarr": (lambda place: (place / "whereabouts/zarr.json").write_text("{"), "whereabouts"),
}


@pytest.fixture(scope="module")
def stored(world, tmp_path_factory):
    """A store that knows where its images are; not to be changed."""
    place = tmp_path_factory.mktemp("stored") / "store.zarr"
    explgraph.record(creatures.network(), world[0], ["stage4"], store=place)
    return place


@pytest.mark.python311
@pytest.mark.parametrize(("damage", "told"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_record_costs_no_mining_and_is_mended(
    world, stored, tmp_path, monkeypatch, damage, told
):
    images, _ = world
    place = shutil.copytree(stored, tmp_path / "store.zarr")
    damage(place)
    with monkeypatch.context() as patch:
        # told before anything is mined
        patch.setattr("explgraph.mining.mining.Stages", lambda *_, **__: 1 / 0)
        with (
            pytest.warns(ExplgraphWarning, match=f"won't know where its images are.*{told}"),
            pytest.raises(ZeroDivisionError),
        ):
            explgraph.mine(store=place, seed=0)
    again = explgraph.record(creatures.network(), images, ["stage4"], store=place)
    assert again.whereabouts == explgraph.open_store(stored).whereabouts


@pytest.mark.python311
def test_a_file_in_place_of_the_record_is_mended(world, stored, tmp_path):
    place = shutil.copytree(stored, tmp_path / "store.zarr")
    shutil.rmtree(place / "whereabouts")
    (place / "whereabouts").write_text("x")
    again = explgraph.record(creatures.network(), world[0], ["stage4"], store=place)
    assert again.whereabouts == explgraph.open_store(stored).whereabouts


@pytest.mark.python311
def test_without_the_record_a_store_is_mined_all_the_same(stored, tmp_path):
    place = shutil.copytree(stored, tmp_path / "store.zarr")
    _text(b'["5"]')(place)
    with pytest.warns(ExplgraphWarning, match="mining goes on"):
        graph = explgraph.mine(store=place, seed=0)
    assert graph.whereabouts is None
    assert graph == explgraph.mine(store=stored, seed=0)


@pytest.mark.python311
def test_a_store_remembers(world, tmp_path):
    images, _ = world
    model = creatures.network()
    explgraph.record(model, images, ["stage4"], store=tmp_path / "store.zarr")
    graph = explgraph.mine(store=tmp_path / "store.zarr", seed=0)
    assert graph.whereabouts == explgraph.mine(model, images, ["stage4"], seed=0).whereabouts
    drawn = creatures.draw(12, seed=1).tensor()
    explgraph.record(model, drawn, ["stage4"], store=tmp_path / "tensor.zarr")
    assert explgraph.open_store(tmp_path / "tensor.zarr").whereabouts is None


def test_without_matplotlib_graphviz_draws(world, tmp_path, monkeypatch):
    _, graph = world
    monkeypatch.setattr(
        "explgraph.views.export.find_spec", lambda name: None if name == "matplotlib" else 1
    )
    graph.write(tmp_path / "x.svg", max_nodes=6)
    svg = (tmp_path / "x.svg").read_text()
    assert svg.count("data:image/png;base64,") == 6, "the best patch of each node"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.svg"]


def test_drawings_are_of_either_kind(world, tmp_path):
    images, graph = world
    with pytest.raises(ExplgraphError, match="time_limit is for drawings by Graphviz, images for"):
        graph.write(tmp_path / "x.svg", images=images, time_limit=3)
    assert not list(tmp_path.iterdir())
