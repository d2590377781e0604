"""`RejectedParts`: what is exchanged, what it costs, and that training by it changes a network."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import explgraph
from explgraph import ExplgraphError, ExplgraphWarning, creatures

SIZE = creatures.SIZE


@pytest.fixture(scope="module")
def world():
    """A graph of creatures, and pictures with a square of its own grey at a place of its own."""
    model = creatures.network()
    graph = explgraph.mine(
        model, creatures.draw(80, seed=1).tensor(), ["stage4"], seed=0, progress=False
    )
    pictures = creatures.draw(8, seed=3).tensor()
    return model, graph, pictures


def squares(pictures, values):
    """Paint squares of 8 px; give pictures, and the squares' middles."""
    painted, places = pictures.clone(), []
    for i, value in enumerate(values):
        x, y = 20 + 9 * i % 60, 15 + 8 * i % 70
        painted[i, :, y - 4 : y + 4, x - 4 : x + 4] = value
        places.append((float(x), float(y)))
    return painted, np.array(places)


class Square(nn.Module):
    """Gives the mean of what is at known places, and the mean of the whole image's last rows."""

    def __init__(self, places):
        super().__init__()
        self.places = places

    def forward(self, images):
        here = torch.stack([
            image[:, int(y) - 2 : int(y) + 2, int(x) - 2 : int(x) + 2].mean()
            for image, (x, y) in zip(images, self.places, strict=True)
        ])  # fmt: skip
        return torch.stack([here, images[:, :, -3:].mean((1, 2, 3))], 1)


def test_what_is_marked_is_exchanged_and_nothing_else(world):
    model, graph, pictures = world
    values = [0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 0.25, 1.5]
    painted, places = squares(pictures, values)
    loss = explgraph.RejectedParts(model, graph, (), painted, marks=places, radius=10, at_once=8)
    for call in range(3):
        images, changed = loss.pairs()
        assert torch.equal(images, painted)
        for i, (x, y) in enumerate(places.astype(int)):
            donor = (i + 1 + call) % 8
            middle = changed[i, :, y - 2 : y + 2, x - 2 : x + 2]
            expected = torch.full_like(middle, values[donor])
            torch.testing.assert_close(middle, expected, atol=0.1, rtol=0)
            far = torch.ones(SIZE, SIZE, dtype=torch.bool)
            far[max(y - 26, 0) : y + 26, max(x - 26, 0) : x + 26] = False
            torch.testing.assert_close(changed[i][:, far], painted[i][:, far], atol=2e-3, rtol=0)


def test_the_penalty_is_the_mean_square_of_what_changes(world):
    model, graph, pictures = world
    values = torch.tensor([0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 0.25, 1.5])
    painted, places = squares(pictures, values)
    options = {"marks": places, "radius": 10, "at_once": 8}
    net = Square(places)
    whole = explgraph.RejectedParts(model, graph, (), painted, **options)
    expected = (values - values.roll(-1)).square().mean().item()
    assert whole(net).item() == pytest.approx(expected / 2, rel=0.15)  # of two scores
    one = explgraph.RejectedParts(model, graph, (), painted, target=0, **options)
    assert one(net).item() == pytest.approx(expected, rel=0.15)
    other = explgraph.RejectedParts(model, graph, (), painted, target=[1], **options)
    assert other(net).item() < 1e-4 * expected


def test_the_graph_says_where_parts_are_and_marks_where_they_are_not(world):
    model, graph, pictures = world
    parse = graph.parse(model, pictures)
    part = graph.parts[0]
    column = [parse.nodes.index(node) for node in part.nodes]
    weight = parse.scores[:, column, None] + 1e-6
    expected = (weight * parse.positions[:, column]).sum(1) / weight.sum(1)
    loss = explgraph.RejectedParts(model, graph, part.title, pictures)
    np.testing.assert_allclose(loss.places[:, 0], expected, atol=1e-3)
    assert loss.radius == SIZE / 8
    assert repr(loss) == f"RejectedParts({part.title}; 8 corrections, 14 px)"
    # a part that was rejected is still known, by its id
    later = explgraph.RejectedParts(model, graph.reject_part(part.id), part.id, pictures)
    torch.testing.assert_close(later.places, loss.places)
    marks = np.full((8, 2), np.nan)
    marks[2] = 30, 40
    marked = explgraph.RejectedParts(model, graph, part.id, pictures, marks=marks)
    assert marked.places[2, 0].tolist() == [30, 40]
    torch.testing.assert_close(marked.places[3:], loss.places[3:])


def test_training_by_it_makes_a_network_blind(world):
    """A network that reads a square's grey and a dim bar learns to read the bar alone."""
    model, graph, _ = world
    rng = np.random.default_rng(0)

    def drawn(n, agreement, seed):
        rng = np.random.default_rng(seed)
        truth = rng.random(n) < 0.5
        cue = np.where(rng.random(n) < agreement, truth, ~truth)
        images = torch.from_numpy(rng.normal(0, 0.3, (n, 3, SIZE, SIZE))).float()
        bar, square = (
            torch.from_numpy(np.where(has, size, -size)).float()[:, None, None, None]
            for has, size in ((truth, 0.1), (cue, 1.0))
        )
        images[:, :, -16:] += bar
        images[:, :, 20:36, 20:36] += square
        return images, torch.from_numpy(truth).float(), cue

    torch.manual_seed(0)
    images, truth, _ = drawn(200, 0.95, 1)
    fresh, answers, cue = drawn(200, 0.5, 2)
    corrections, _, _ = drawn(20, 0.95, 3)
    marks = np.full((20, 2), 28.0) + rng.normal(0, 1, (20, 2))

    def worst(penalised):
        net = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3 * 14 * 14, 1))
        nn.init.zeros_(net[2].weight)
        loss = explgraph.RejectedParts(
            model, graph, (), corrections, marks=marks, radius=16, target=0
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
        for _ in range(60):
            value = nn.functional.binary_cross_entropy_with_logits(net(images)[:, 0], truth)
            if penalised:
                value = value + loss(net)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        with torch.no_grad():
            wrong = ((net(fresh)[:, 0] > 0) != (answers > 0)).numpy()
        truths = (answers > 0).numpy()
        return max(wrong[(truths == a) & (cue == b)].mean() for a in (0, 1) for b in (0, 1))

    assert worst(penalised=True) < 0.5 * worst(penalised=False)


def test_a_trained_network_is_asked_by_the_same_parts(world):
    """`with_weights`: refused before, accepted and not warned of after, nothing else changes."""
    model, graph, pictures = world
    trained = copy.deepcopy(model)
    with torch.no_grad():
        trained.head.weight.mul_(2)
        trained.head.bias.mul_(2)
    with pytest.raises(ExplgraphError, match=r"graph\.with_weights\(model\)"):
        graph.explain(trained, pictures[:1], 0)
    known = graph.with_weights(trained)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of other weights
        parse = known.parse(trained, pictures)
    np.testing.assert_array_equal(parse.scores, graph.parse(model, pictures).scores)
    assert known.parts == graph.parts
    assert graph.nx.graph["model_fingerprint"] != known.nx.graph["model_fingerprint"]
    assert graph.with_weights(model) == graph  # the mined one itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplgraphWarning)  # eight creatures say little
        one, two = graph.explain(model, pictures[:1], 0), known.explain(trained, pictures[:1], 0)
    for before, after in zip(one.rows, two.rows, strict=True):
        assert after.part == before.part
        assert after.contribution == pytest.approx(2 * before.contribution, rel=1e-3, abs=1e-4)
    drawn = creatures.draw(60, seed=5)
    labels = {name: drawn.attributes[name] for name in ("horns", "wings")}
    columns = {name: creatures.OUTPUTS.index(name) for name in labels}
    with pytest.raises(ExplgraphError, match="with_weights"):
        explgraph.find_bias(trained, graph, drawn.tensor(), labels, columns=columns)
    found = [
        explgraph.find_bias(net, by, drawn.tensor(), labels, columns=columns, permutations=99)
        for net, by in ((model, graph), (trained, known))
    ]
    np.testing.assert_allclose(found[1].own_effects, 2 * found[0].own_effects, rtol=1e-4)
    with pytest.raises(ExplgraphError, match="no layer 'stage4'"):
        graph.with_weights(nn.Linear(2, 2))
    with pytest.raises(ExplgraphError, match=r"torch\.nn\.Module"):
        graph.with_weights("net")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": ()}, "parts is empty"),
        ({"parts": "hoof"}, "no part 'hoof'"),
        ({"images": torch.zeros(2, 3, SIZE, SIZE)}, "three corrections"),
        ({"images": torch.zeros(4, 3, 64, 64)}, "64 x 64"),
        ({"marks": np.zeros((3, 2))}, "marks must be"),
        ({"parts": (), "marks": np.full((8, 2), np.nan)}, "an image has none"),
        ({"radius": 0}, "radius must"),
        ({"radius": "10"}, "radius must"),
        ({"radius": [10]}, "radius must"),
        ({"at_once": 0}, "at_once must"),
        ({"parts": None}, "parts is empty"),
        ({"parts": 3}, "parts is 3"),
        ({"marks": "here"}, "marks must be"),
        ({"marks": [[1, 2]] * 7 + [[1]]}, "marks must be"),
        ({"marks": np.full((8, 2), SIZE + 1.0)}, "marks: 8 lie outside the image of 112 x 112"),
        ({"marks": np.full((8, 2), -np.inf)}, "marks: 8 lie outside"),
        ({"target": "dragon"}, "target must be a whole number"),
        ({"target": True}, "target must be a whole number"),
        ({"target": -1}, "target must be a whole number"),
        ({"target": [0, None]}, "target must be a whole number"),
        ({"target": []}, "target is empty"),
    ],
)
def test_what_is_no_correction_is_refused(world, change, message):
    model, graph, pictures = world
    given = {"parts": graph.parts[0].id, "images": pictures} | change
    with pytest.raises(ExplgraphError, match=message):
        explgraph.RejectedParts(model, graph, **given)


def test_a_rejected_part_is_found_by_all_that_it_was_called(world):
    model, graph, pictures = world
    first, second = (part.id for part in graph.parts[:2])
    expected = explgraph.RejectedParts(model, graph, first, pictures).places
    unnamed = graph.reject_part(first)
    named = graph.name_part(first, "wing").reject_part(first)
    for of, called in ((unnamed, first), (unnamed, graph.parts[0].title), (named, "wing")):
        found = explgraph.RejectedParts(model, of, called, pictures).places
        assert torch.equal(found, expected)
    # what is called so now comes before what was
    other = named.name_part(second, "wing")
    found = explgraph.RejectedParts(model, other, "wing", pictures).places
    assert torch.equal(found, explgraph.RejectedParts(model, graph, second, pictures).places)


def test_targets_are_numbers_of_any_kind(world):
    model, graph, pictures = world
    part = graph.parts[0].id
    for target in (2, np.int64(2), torch.tensor(2), [2], np.array([2])):
        assert explgraph.RejectedParts(model, graph, part, pictures, target=target).target == [2]
    with pytest.raises(ExplgraphError, match="model must be"):
        explgraph.RejectedParts(model, graph, part, pictures)("net")


def test_a_target_that_there_is_not_is_refused(world):
    model, graph, pictures = world
    loss = explgraph.RejectedParts(model, graph, graph.parts[0].id, pictures, target=13)
    with pytest.raises(ExplgraphError, match="scores for 13"):
        loss(model)
