"""Creatures: the truth that comes with the pictures is the truth in the pictures."""

import importlib.util
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from explgraph import creatures
from explgraph.errors import ExplgraphError

TRAINING = Path(__file__).parents[2] / "benchmarks" / "train_creatures.py"


@pytest.fixture(scope="module")
def drawn():
    return creatures.draw(600, seed=3)


def tracking(followers, landmarks):
    """1 - var(landmark - follower) / var(landmark), over the pictures where both are there."""
    there = np.isfinite(landmarks).all(1) & np.isfinite(followers).all(1)
    followers, landmarks = followers[there].astype(float), landmarks[there].astype(float)
    return 1 - (landmarks - followers).var(0).sum() / landmarks.var(0).sum()


def same(one, other, rows=slice(None)):
    """Whether two sets of creatures agree in the rows, in everything that is known."""
    return (
        np.array_equal(one.images[rows], other.images)
        and np.array_equal(one.centre[rows], other.centre)
        and np.array_equal(one.labels[rows], other.labels)
        and all(
            np.array_equal(one.parts[part][rows], other.parts[part], equal_nan=True)
            and np.array_equal(one.visible[part][rows], other.visible[part])
            for part in creatures.PARTS
        )
        and all(
            np.array_equal(one.attributes[name][rows], other.attributes[name])
            for name in creatures.ATTRIBUTES
        )
    )


def test_shapes_and_types(drawn):
    assert drawn.images.shape == (600, 112, 112, 3)
    assert drawn.images.dtype == np.uint8
    assert list(drawn.parts) == list(drawn.visible) == list(creatures.PARTS)
    assert all(p.shape == (600, 2) and p.dtype == np.float32 for p in drawn.parts.values())
    assert all(v.shape == (600,) and v.dtype == np.bool_ for v in drawn.visible.values())
    assert drawn.centre.shape == (600, 2)
    assert len(drawn) == 600


def test_the_same_seed_gives_the_same_creatures_and_another_gives_others():
    one = creatures.draw(5, seed=1)
    assert same(one, creatures.draw(5, seed=1))
    assert not np.array_equal(one.images, creatures.draw(5, seed=2).images)


def test_a_picture_depends_on_its_number_alone():
    # across the border of a chunk, too
    assert same(creatures.draw(140, seed=1, size=40), creatures.draw(9, seed=1, size=40), slice(9))
    assert same(
        creatures.draw(140, seed=1, size=40), creatures.draw(130, seed=1, size=40), slice(130)
    )


def test_no_creature_at_all():
    empty = creatures.draw(0)
    assert empty.images.shape == (0, 112, 112, 3)
    assert empty.tensor().shape == (0, 3, 112, 112)
    assert empty.targets().shape == (0, len(creatures.OUTPUTS))


@pytest.mark.parametrize("attribute", creatures.ATTRIBUTES)
def test_an_attribute_shows_at_its_part_and_nowhere_else(attribute):
    """Pixels that change with the attribute lie around the position of its part."""
    part = creatures.ATTRIBUTES[attribute]
    with_it = creatures.draw(60, seed=8, fixed={attribute: True})
    without = creatures.draw(60, seed=8, fixed={attribute: False})
    difference = np.abs(with_it.images.astype(float) - without.images).sum(-1)
    changed = difference > 0
    ys, xs = np.mgrid[:112, :112] + 0.5
    reach, away = 26 if attribute == "wings" else 15, []
    for i, position in enumerate(with_it.parts[part]):
        if with_it.visible[part][i] and changed[i].sum() >= 8:
            x, y = xs[changed[i]], ys[changed[i]]
            assert np.hypot(x - position[0], y - position[1]).max() < reach
            away.append(np.hypot(x.mean() - position[0], y.mean() - position[1]))
    assert len(away) > 40
    assert np.median(away) < (4.5 if attribute == "wings" else 3.0)
    for other in creatures.PARTS:
        if other != part:
            assert np.array_equal(with_it.parts[other], without.parts[other], equal_nan=True)


def test_the_head_is_drawn_in_the_colour_of_the_coat():
    """The head has no attribute: its position must show the coat that the torso shows."""
    bare = creatures.draw(200, seed=4, fixed={"bib": False, "striped": False, "wings": False})

    def colour(of, dx):
        rows = np.floor(of).astype(int)[:, ::-1] + (0, dx)
        return bare.images[(np.arange(200), *np.clip(rows, 1, 110).T)].astype(float)

    clear = bare.visible["head"] & bare.visible["chest"] & bare.visible["rump"]
    coat = colour(bare.parts["rump"], 0)
    here = np.abs(colour(bare.parts["head"], 0) - coat).mean(1)[clear]
    elsewhere = np.abs(colour(bare.parts["head"], 40) - coat).mean(1)[clear]
    assert np.median(here) < 30
    assert np.median(elsewhere) > 2 * np.median(here)


@pytest.mark.parametrize("attribute", creatures.ATTRIBUTES)
def test_what_is_visible_can_be_seen(attribute):
    """A part is visible where changing its attribute changes the picture at its position."""
    part = creatures.ATTRIBUTES[attribute]
    with_it = creatures.draw(200, seed=9, fixed={attribute: True})
    without = creatures.draw(200, seed=9, fixed={attribute: False})
    difference = np.abs(with_it.images.astype(float) - without.images).max(-1)
    seen = np.zeros(200, bool)
    # the pupil is the same in all eyes: look at the ring around it
    reach = 3 if part == "eye" else 0
    for i, (x, y) in enumerate(with_it.parts[part]):
        if 0 <= x < 112 and 0 <= y < 112:
            row, column = int(y), int(x)
            rows = slice(max(row - reach, 0), row + reach + 1)
            columns = slice(max(column - reach, 0), column + reach + 1)
            seen[i] = np.quantile(difference[i, rows, columns], 0.6) > 12
    assert (seen == with_it.visible[part]).mean() > 0.93
    assert 0.85 < with_it.visible[part].mean() < 1


def test_absent_parts_have_no_position(drawn):
    for attribute, part in {"horns": "horn", "wings": "wing"}.items():
        there = np.isfinite(drawn.parts[part]).all(1)
        assert np.array_equal(there, drawn.attributes[attribute])
        assert not drawn.visible[part][~there].any()
    for part in set(creatures.PARTS) - {"horn", "wing"}:
        assert np.isfinite(drawn.parts[part]).all()


def test_outside_of_the_frame_is_not_visible(drawn):
    for part in creatures.PARTS:
        outside = ~((drawn.parts[part] >= 0) & (drawn.parts[part] < 112)).all(1)
        assert not drawn.visible[part][outside].any()


def test_the_middle_of_the_creature_does_not_tell_where_its_parts_are(drawn):
    positions = np.stack([*drawn.parts.values()])
    box = (np.nanmin(positions, 0) + np.nanmax(positions, 0)) / 2
    for part, landmarks in drawn.parts.items():
        assert tracking(drawn.centre, landmarks) <= 0.3, part
        assert tracking(box, landmarks) <= 0.3, part


def test_relations_are_trees_and_a_part_follows_what_it_hangs_on(drawn):
    relations = drawn.relations
    assert set(relations) == set(creatures.PARTS) - {"chest", "rump"}
    for child, parent in relations.items():
        assert parent in {"head", "chest", "rump"}
        assert relations.get(parent, "chest") == "chest"
        followed = tracking(drawn.parts[parent], drawn.parts[child])
        assert followed > tracking(drawn.centre, drawn.parts[child]) + 0.1, child


def test_the_head_turns_by_itself(drawn):
    """Its direction seen from the chest says little about where the snout points."""
    neck = drawn.parts["head"] - drawn.parts["chest"]
    snout = drawn.parts["snout"] - drawn.parts["head"]
    facing = np.sign(drawn.parts["chest"][:, 0] - drawn.parts["rump"][:, 0])
    raised = np.arctan2(-neck[:, 1], neck[:, 0] * facing)
    looking = np.arctan2(-snout[:, 1], snout[:, 0] * facing)
    assert np.rad2deg(np.std(raised)) > 40
    assert abs(np.corrcoef(raised, looking)[0, 1]) < 0.6


def test_attributes_are_independent_and_even(drawn):
    table = np.stack([*drawn.attributes.values()], axis=1).astype(float)
    assert np.abs(table.mean(0) - 0.5).max() < 0.09  # 4.4 standard errors
    related = np.corrcoef(table.T) - np.eye(table.shape[1])
    assert np.abs(related).max() < 0.17  # 4.2 standard errors


def test_planted_cooccurrence_is_met():
    many = creatures.draw(
        1000, size=32, cooccurrence={("horns", "boots"): 0.95, ("boots", "tuft"): 0.1}
    )
    has = many.attributes
    assert np.mean(has["horns"] == has["boots"]) == pytest.approx(0.95, abs=0.028)
    assert np.mean(has["boots"] == has["tuft"]) == pytest.approx(0.1, abs=0.038)
    assert np.mean(has["boots"]) == pytest.approx(0.5, abs=0.06)
    assert np.mean(has["wings"] == has["boots"]) == pytest.approx(0.5, abs=0.06)
    free = creatures.draw(1000, size=32)
    assert np.array_equal(free.attributes["horns"], has["horns"])


def test_families_follow_from_horns_and_wings(drawn):
    count = drawn.attributes["horns"].astype(int) + drawn.attributes["wings"]
    names = np.array(drawn.label_names)[drawn.labels]
    assert (names[count == 0] == "beast").all()
    assert (names[count == 1] == "guardian").all()
    assert (names[count == 2] == "dragon").all()
    assert set(names) == {"beast", "guardian", "dragon"}


def test_size_scales_the_scene():
    small, large = creatures.draw(20, seed=6, size=56), creatures.draw(20, seed=6, size=112)
    for part in creatures.PARTS:
        np.testing.assert_allclose(2 * small.parts[part], large.parts[part], rtol=1e-5)
    shrunk = large.images.reshape(20, 56, 2, 56, 2, 3).mean((2, 4))
    assert np.abs(shrunk - small.images).mean() < 12


def test_tensor_is_normalised(drawn):
    tensor = drawn.tensor()
    assert tensor.shape == (600, 3, 112, 112)
    assert tensor.dtype == torch.float32
    back = (tensor[7].permute(1, 2, 0).numpy() * creatures.STD + creatures.MEAN) * 255
    np.testing.assert_allclose(back, drawn.images[7], atol=1e-3)


def test_targets_match_the_outputs(drawn):
    targets = drawn.targets().numpy()
    assert targets.shape == (600, len(creatures.OUTPUTS))
    for k, name in enumerate(creatures.OUTPUTS):
        if name in creatures.ATTRIBUTES:
            assert np.array_equal(targets[:, k] == 1, drawn.attributes[name])
        else:
            assert np.array_equal(targets[:, k] == 1, drawn.labels == k)


def test_network_knows_creatures_that_it_has_not_seen(drawn):
    model = creatures.network()
    assert not model.training
    with torch.inference_mode():
        logits = torch.cat([model(part) for part in drawn.tensor().split(100)]).numpy()
    assert logits.shape == (600, len(creatures.OUTPUTS))
    families = len(creatures.FAMILIES)
    truth = drawn.targets().numpy()
    assert np.mean(logits[:, :families].argmax(1) == drawn.labels) > 0.85
    right = np.mean((logits > 0) == (truth > 0), axis=0)[families:]
    assert right.mean() > 0.9
    assert right.min() > 0.8, dict(zip(creatures.ATTRIBUTES, right, strict=True))


def test_weights_are_small_and_nothing_is_unpickled(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("unpickled")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr("pickle.load", refuse)
    monkeypatch.setattr("pickle.Unpickler", refuse)
    one, other = creatures.network(), creatures.network()
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
    assert all(p.dtype == torch.float32 for p in one.parameters())
    stored = resources.files("explgraph.creatures").joinpath("creatures.safetensors")
    assert len(stored.read_bytes()) < 1_500_000


def test_layers_are_named_from_the_top():
    model = creatures.network(pretrained=False)
    sizes = []
    for name in creatures.LAYERS:
        model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output: sizes.append(tuple(output.shape[1:]))
        )
    model(torch.zeros(1, 3, creatures.SIZE, creatures.SIZE))
    assert [height for _, height, _ in sizes] == [28, 14, 7]  # executed bottom up


def test_training_is_repeatable():
    spec = importlib.util.spec_from_file_location("train_creatures", TRAINING)
    training = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(training)
    data = creatures.draw(128, seed=5)
    fitted = []
    for _ in range(2):
        torch.manual_seed(0)
        model = creatures.network(pretrained=False)
        fitted.append(training.fit(model, data, epochs=1, seed=0).state_dict())
    assert all(map(torch.equal, fitted[0].values(), fitted[1].values()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": -1}, r"must not be negative, found n=-1"),
        ({"seed": -4}, r"must not be negative, found .*seed=-4"),
        ({"size": 8}, r"size must be at least 32 px .* found 8"),
        ({"fixed": {"hooves": True}}, r"no attribute 'hooves'; there are horns, wings"),
        ({"cooccurrence": {("horns", "hat"): 0.9}}, r"no attribute 'hat'"),
        ({"cooccurrence": {("horns", "tuft"): 1.5}}, r"'horns' and 'tuft' .* \[0, 1\], found 1.5"),
        (
            {"cooccurrence": {("horns", "tuft"): 0.9, ("wings", "tuft"): 0.9}},
            r"sets 'tuft' although it is set already",
        ),
        (
            {"cooccurrence": {("horns", "tuft"): 0.9}, "fixed": {"tuft": True}},
            r"sets 'tuft' although it is set already",
        ),
        (
            {"cooccurrence": {("horns", "tuft"): 0.9, ("tuft", "horns"): 0.9}},
            r"runs in a circle through horns, tuft|runs in a circle through tuft, horns",
        ),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ExplgraphError, match=message):
        creatures.draw(**{"n": 1, **options})


def test_masks_show_the_parts(drawn):
    for part in creatures.PARTS:
        if part in ("chest", "rump"):
            continue
        mask = drawn.mask(part)
        assert mask.shape == drawn.images.shape[:3]
        assert mask.dtype == np.bool_
        x, y = np.floor(drawn.parts[part][drawn.visible[part]]).astype(int).T
        # a pixel's middle isn't the place itself; an ear or the snout may lie on a head's middle
        assert mask[drawn.visible[part], y, x].mean() > (0.9 if part == "head" else 0.97)
    for part, attribute in (("horn", "horns"), ("wing", "wings")):
        assert not drawn.mask(part)[~drawn.attributes[attribute]].any()
    assert not (drawn.mask("eye") & drawn.mask("ear")).any()
    assert drawn.mask("head")[drawn.mask("eye")].all()


@pytest.mark.parametrize(("part", "attribute"), [("horn", "horns"), ("wing", "wings")])
def test_a_mask_is_what_changes_with_the_part(part, attribute):
    with_part, without = (
        creatures.draw(20, seed=4, fixed={attribute: there}) for there in (True, False)
    )
    change = np.abs(with_part.images.astype(int) - without.images).max(-1) > 0
    mask = with_part.mask(part)
    assert change[mask].mean() > 0.95  # some parts have the colours of what lies behind
    far = ~mask
    for axis, step in ((1, 1), (1, -1), (2, 1), (2, -1)):  # the edge is blended
        far &= ~np.roll(mask, step, axis)
    assert change[far].mean() < 0.005


@pytest.mark.parametrize("part", ["chest", "nose"])
def test_parts_without_an_outline_have_no_mask(drawn, part):
    with pytest.raises(ExplgraphError, match="expected a part with an outline"):
        drawn.mask(part)
