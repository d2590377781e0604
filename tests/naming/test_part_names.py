"""Words for parts: right where the encoder knows, none where it knows nothing."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from known import Knowing, Mute, Noise, maps, where
from PIL import Image

from explgraph import creatures, mine
from explgraph.errors import ExplgraphError
from explgraph.naming.encoders import Encoder
from explgraph.naming.part_names import PartNames, _cut
from explgraph.views.pictures import Pictures

N = 120
WORDS = (*creatures.PARTS, "wheel", "window")


@pytest.fixture(scope="module")
def drawn():
    return creatures.draw(N, seed=1)


@pytest.fixture(scope="module")
def graph(drawn, one_thread):  # noqa: ARG001
    return mine(creatures.network(), drawn.tensor(), creatures.LAYERS, seed=0)


@pytest.fixture(scope="module")
def pictures(drawn):
    return maps(N, drawn.images.shape[1])


def truth(encoder, part):
    """How often each planted part is what the part's exemplars are at."""
    at = [encoder.nearest(int(name), np.array([x, y])) for name, x, y, _ in part.exemplars]
    return Counter((*encoder.words, "")[k] for k in at)


def test_patches_are_where_they_should_be():
    image = maps(5, 112)
    places = np.array([[3, 20.0, 90.0], [0, 56.2, 56.7], [4, 111.0, 2.0]])
    for (number, x, y), cut in zip(
        places, _cut(Pictures(image, (112, 112)), places, 44), strict=True
    ):
        assert cut.size == (96, 96)
        found, at = where(cut)
        assert found == number
        np.testing.assert_allclose(at, [x, y], atol=0.6)
        colours = np.asarray(cut).astype(int)
        assert (colours[..., 2] == number).all()  # mirrored, not grey, beyond the border


def test_parts_are_named_as_they_were_planted(graph, drawn, pictures):
    encoder = Knowing(drawn)
    assert isinstance(encoder, Encoder)
    before = graph.to_node_link()
    named, names = graph.name_parts(encoder, WORDS, pictures)
    assert graph.to_node_link() == before  # a copy has the names
    assert isinstance(names, PartNames)
    assert [row.part for row in names.rows] == [part.id for part in graph.parts]
    given = {row.part: row.word for row in names.rows if row.named}
    assert len(given) >= 0.4 * len(graph.parts)
    for part in graph.parts:
        assert named.part(part.id).name == given.get(part.id, "")
        if part.id in given:
            here = truth(encoder, part)
            here.pop("", None)
            assert here[given[part.id]] >= max(here.values()) - 1, (part.id, here)
    for row in names.rows:
        assert row.named == (row.q <= 0.05)
        assert row.why == ("" if row.named else "no better than chance")
        assert row.q >= row.p >= 1 / 1000
    again = graph.name_parts(encoder=Knowing(drawn), vocabulary=WORDS, images=pictures)
    assert again[1] == names  # the same seed


def test_new_images_are_named_by_their_parse(graph):
    new = creatures.draw(80, seed=2)
    parse = graph.parse(creatures.network(), new.tensor())
    encoder = Knowing(new)
    _, names = graph.name_parts(encoder, WORDS, maps(80, 112), parse=parse)
    found = graph.parts_in(parse)
    assert sum(row.named for row in names.rows) >= 0.4 * len(names.rows)
    for k, row in enumerate(names.rows):
        best = np.argsort(-found.presence[:, k], kind="stable")[:16]
        here = Counter(encoder.nearest(n, found.positions[n, k]) for n in best.tolist())
        here.pop(len(encoder.words), None)
        if row.named:
            assert here[encoder.words.index(row.word)] >= max(here.values()) - 1, (row, here)


@pytest.mark.parametrize("kind", ["noise", "mute"])
def test_who_knows_nothing_names_nothing(graph, drawn, pictures, kind):
    """Of ten encoders' parts a twentieth has p < 0.05, and hardly any encoder names one."""
    p, named = [], 0
    for seed in range(10):
        encoder = Noise(seed) if kind == "noise" else Mute(drawn, seed=seed)
        graph_, names = graph.name_parts(encoder, WORDS, pictures, permutations=99, seed=seed)
        p += [row.p for row in names.rows]
        named += any(row.named for row in names.rows)
        assert {part.name for part in graph_.parts} == {
            row.word if row.named else "" for row in names.rows
        }
    assert named <= 2
    assert np.mean(np.array(p) <= 0.05) <= 0.08


def test_people_s_names_stay(graph, drawn, pictures):
    encoder = Knowing(drawn, noise=0)
    _, names = graph.name_parts(encoder, WORDS, pictures)
    first, second = [row for row in names.rows if row.named][:2]
    by_hand = graph.name_part(first.part, "my own")
    kept, told = by_hand.name_parts(encoder, WORDS, pictures)
    assert kept.part(first.part).name == "my own"
    assert kept.part(second.part).name == second.word
    row = next(row for row in told.rows if row.part == first.part)
    assert (row.word, row.named, row.why) == (first.word, False, "is named 'my own'")
    over, _ = by_hand.name_parts(encoder, WORDS, pictures, overwrite=True)
    assert over.part(first.part).name == first.word


def test_names_last(graph, drawn, pictures, tmp_path):
    """What was named is a decision on parts like any other."""
    named, names = graph.name_parts(Knowing(drawn), WORDS, pictures)
    named.write_labels(tmp_path / "labels.json")
    again = graph.apply_labels(tmp_path / "labels.json")
    assert [part.name for part in again.parts] == [part.name for part in named.parts]
    frame = names.to_frame()
    assert list(frame.columns) == ["word", "score", "p", "q", "named", "why"]
    assert list(frame.index) == [row.part for row in names.rows]
    names.write(tmp_path / "names.csv")
    lines = (tmp_path / "names.csv").read_text().splitlines()
    assert lines[0] == "part,word,score,p,q,named,why"
    assert len(lines) == 1 + len(names.rows)
    assert f"{frame.named.sum()} of {len(frame)} parts named" in repr(names)
    assert names._repr_html_().count("<tr>") == 1 + len(names.rows)


def test_one_word_and_few_dimensions(graph, drawn, pictures):
    """A list of one word names what it fits, and nothing else."""
    encoder = Knowing(drawn, noise=0.1)
    _, names = graph.name_parts(encoder, ["rump"], pictures)
    for part, row in zip(graph.parts, names.rows, strict=True):
        if row.named:
            assert truth(encoder, part)["rump"] > 0
    assert any(row.named for row in names.rows)
    _, names = graph.name_parts(Noise(0, d=1), WORDS, pictures, permutations=19)
    assert not any(row.named for row in names.rows)


def test_parts_that_the_images_don_t_show(graph, drawn, pictures):
    """Of parts without an exemplar among the images nothing is said."""
    few = pictures[:3]
    names = tuple(str(n).zfill(3) for n in range(3))
    _, told = graph.name_parts(Knowing(drawn), WORDS, Pictures(few, (112, 112), names))
    there = {part.id for part in graph.parts if {e[0] for e in part.exemplars} & set(names)}
    assert 0 < len(there) < len(graph.parts)
    for row in told.rows:
        if row.part not in there:
            assert (row.word, row.p, row.why) == ("", 1.0, "seen in none of the images")


class Broken(Knowing):
    """Gives something else than it should."""

    def __init__(self, drawn, images=None, texts=None):
        super().__init__(drawn)
        self.images, self.texts = images, texts

    def encode_images(self, images):
        right = super().encode_images(images)
        return right if self.images is None else self.images(right)

    def encode_texts(self, texts):
        right = super().encode_texts(texts)
        return right if self.texts is None else self.texts(right)


def with_nan(vectors):
    return np.where(np.arange(len(vectors))[:, None] == 1, np.nan, vectors)


@pytest.mark.parametrize(
    ("images", "texts", "message"),
    [
        (lambda v: v[:-1], None, r"encode_images gave the shape \(63, 64\) for 64.*\(64, d\)"),
        (lambda v: v[None], None, r"encode_images gave the shape \(1, 64, 64\)"),
        (lambda v: v[:, :9], None, "encoder gives 9 numbers for an image and 64 for a word"),
        (with_nan, None, "encode_images gave row 1 NaN, infinite or nothing but 0"),
        (lambda v: 0 * v, None, "encode_images gave row 0 NaN, infinite or nothing but 0"),
        (None, with_nan, r"encode_texts gave row 1 \('eye'\) NaN"),
        (None, lambda v: v.T, r"encode_texts gave the shape \(64, 13\) for 13"),
        (None, lambda _: "words", "encode_texts gave str, no numbers"),
    ],
)
def test_what_encoders_give_is_checked(graph, drawn, pictures, images, texts, message):
    with pytest.raises(ExplgraphError, match=message):
        graph.name_parts(Broken(drawn, images, texts), WORDS, pictures)


def test_tensors_will_do(graph, drawn, pictures):
    encoder = Broken(drawn, torch.from_numpy, lambda v: torch.from_numpy(v).requires_grad_())
    named, _ = graph.name_parts(encoder, WORDS, pictures)
    plain, _ = graph.name_parts(Knowing(drawn), WORDS, pictures)
    assert [p.name for p in named.parts] == [p.name for p in plain.parts]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary": []}, r"vocabulary is \[\]; expected one word at least"),
        ({"vocabulary": ["head", " "]}, "none that is empty"),
        ({"vocabulary": "head"}, "vocabulary is 'head'; expected a list of words"),
        ({"vocabulary": ["head", 3]}, "expected a list of words"),
        ({"encoder": torch.nn.Identity()}, "encoder is Identity; expected an object with encode_"),
        ({"side": 0}, "side is 0; expected a patch's side in px, above 0 and at most 112"),
        ({"fdr": 1.5}, "fdr is 1.5; expected"),
        ({"permutations": 0}, "permutations is 0"),
        ({"images": [Image.new("RGB", (112, 112))] * 3}, "no part was seen in any of the images"),
    ],
)
def test_what_is_asked_for_is_checked(graph, drawn, pictures, options, message):
    given = {"encoder": Knowing(drawn), "vocabulary": WORDS, "images": pictures} | options
    with pytest.raises(ExplgraphError, match=message):
        graph.name_parts(**given)


def test_a_graph_without_parts(graph, drawn, pictures):
    bare = graph
    for part in graph.parts:
        bare = bare.reject_part(part.id)
    with pytest.raises(ExplgraphError, match="the graph has no parts"):
        bare.name_parts(Knowing(drawn), WORDS, pictures)
