"""What a localizer grew, measured: against planted poses, and a formula written out by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from random_graphs import random_graph

from explgraph import AndOrGraph, ExplgraphError, Localizer, Parse
from explgraph.graph.and_or import part_id, template_id

SIZE = (120, 160)
N, V = 60, 16


@pytest.fixture(scope="module")
def world():
    """Objects that every second image shows upside down, with a part that then is elsewhere."""
    rng = np.random.default_rng(0)
    graph = random_graph(0, layers=("top",), nodes=V, image_size=SIZE)
    for values in graph.nx.nodes.values():
        values["reliability"] = 0.5
    body = rng.uniform([50, 40], [110, 80], (N, 2))
    turned = np.arange(N) % 2 == 1
    ways = rng.uniform(-30, 30, (V, 2)) + 3 * rng.standard_normal((N, V, 2))
    positions = body[:, None] + np.where(turned[:, None, None], -ways, ways)
    part = np.clip(body + np.where(turned, 40, -40)[:, None] * [1, 0.0], 0, [160, 120])
    scores = rng.uniform(0.2, 1, (N, V))
    parse = parsed(graph, positions, scores)
    known = np.arange(N) < 24
    marks = {
        "paw": np.where(known[:, None], part, np.nan),
        "one": np.where(np.arange(N)[:, None] == 3, part, np.nan),
    }
    gone = (np.arange(N) >= 24) & (np.arange(N) < 30)
    return Localizer(graph).fit(parse, marks, absent={"paw": gone}), parse, turned, marks


def parsed(graph, positions, scores):
    names = tuple(f"{i}.png" for i in range(len(positions)))
    positions = positions.astype(np.float32)
    return Parse(graph.node_ids, names, positions, positions, scores.astype(np.float32), SIZE)


def test_poses_are_templates_and_shots_are_told(world):
    localizer, parse, turned, marks = world
    and_or = localizer.and_or(parse)
    paw, one = and_or.parts
    assert (paw.name, paw.marks, one.name, one.marks) == ("paw", 24, "one", 1)
    assert len(paw.templates) == 2
    poses = []
    for template in paw.templates:
        here = [int(shot.image.removesuffix(".png")) for shot in template.shots]
        assert len({bool(turned[i]) for i in here}) == 1  # a pose each
        poses.append(bool(turned[here[0]]))
        for i, shot in zip(here, template.shots, strict=True):
            assert (shot.x, shot.y) == tuple(marks["paw"][i])
            assert shot.error >= 0
        assert template.error == pytest.approx(np.mean([shot.error for shot in template.shots]))
        assert template.share == pytest.approx(0.5, abs=0.1)  # as many images show each
    assert sorted(poses) == [False, True]
    assert [shot.image for shot in one.templates[0].shots] == ["3.png"]
    assert one.templates[0].error is None
    assert one.templates[0].share == 1.0


def said_by_hand(template, positions, strengths):
    """Where votes climb to in one image, their weights there, and their support: plain loops."""
    votes = [positions[v] + o for v, o in zip(template.voters, template.offset, strict=True)]
    ballots = [
        strengths[v] / s + 1e-12 for v, s in zip(template.voters, template.spread, strict=True)
    ]
    shares = [b / sum(ballots) for b in ballots]
    floor = min(template.spread) ** 0.5 / 4
    place = sum(s * v for s, v in zip(shares, votes, strict=True))

    def mean(pull):
        return sum(p * v for p, v in zip(pull, votes, strict=True)) / sum(pull)

    for _ in range(5):
        far = [np.hypot(*(v - place)) + floor for v in votes]
        place = mean([s / d for s, d in zip(shares, far, strict=True)])

    def agree():
        return [
            1 / (1 + ((v - place) ** 2).sum() / (0.5 * s))
            for v, s in zip(votes, template.spread, strict=True)
        ]

    for _ in range(15):
        place = mean([s * a for s, a in zip(shares, agree(), strict=True)])
    pull = np.array([s * a for s, a in zip(shares, agree(), strict=True)])
    trust = 1 / template.spread
    support = sum(
        strengths[v] * a * t for v, a, t in zip(template.voters, agree(), trust, strict=True)
    )
    return pull / pull.sum(), votes, support / trust.sum()


def test_use_is_what_the_votes_say(world):
    localizer, parse, *_ = world
    and_or, located = localizer.and_or(parse), localizer.predict(parse)
    # scores by those of the best images, as the localizer has them
    strengths = np.clip(parse.scores.astype(float) / localizer._nodes.top, 0, 2)
    positions = parse.positions.astype(float)
    for part in and_or.parts:
        templates = localizer.templates(part.name)
        said = [[said_by_hand(t, positions[n], strengths[n]) for t in templates] for n in range(N)]
        speaks = np.array([np.argmax([support for _, _, support in one]) for one in said])
        for t, (found, template) in enumerate(zip(part.templates, templates, strict=True)):
            here = np.flatnonzero(speaks == t)
            assert found.share == pytest.approx(len(here) / N)
            share = np.mean([said[n][t][0] for n in here], axis=0)
            gaps = np.array(
                [said[n][t][1] - located.positions[part.name][n] for n in here]
            )  # images, voters, 2
            radius = located.uncertainty[part.name][here, None]
            near = np.hypot(gaps[..., 0], gaps[..., 1]) <= radius
            for m, voter in enumerate(found.voters):
                assert voter.node == parse.nodes[template.voters[m]]
                assert (voter.dx, voter.dy) == tuple(template.offset[m])
                assert voter.spread == pytest.approx(template.spread[m] ** 0.5)
                assert voter.share == pytest.approx(share[m], rel=1e-6)
                assert voter.agreement == pytest.approx(near[:, m].mean())
        assert part.radius == np.median(located.uncertainty[part.name])
    paw, one = and_or.parts
    assert paw.presence == pytest.approx(located.presence["paw"].mean())
    assert one.presence is None


def test_the_network_has_plain_scalars(world):
    localizer, parse, *_ = world
    and_or = localizer.and_or(parse)
    assert isinstance(and_or, AndOrGraph)
    nx = and_or.nx
    kinds = [kind for _, kind in nx.nodes(data="kind")]
    assert {kind: kinds.count(kind) for kind in kinds} == {"part": 2, "template": 3, "node": V}
    assert dict(nx.nodes(data="logic")) == {
        v: "and" if kind == "template" else "or" for v, kind in nx.nodes(data="kind")
    }
    for values in [*nx.nodes.values(), *nx.edges.values()]:
        assert {type(value) for value in values.values()} <= {str, int, float}
    for part in and_or.parts:
        above = part_id(part.name)
        assert list(nx[above]) == [
            template_id(part.name, k + 1) for k in range(len(part.templates))
        ]
        assert sum(share for *_, share in nx.out_edges(above, data="share")) == pytest.approx(1)
        for here, template in zip(nx[above], part.templates, strict=True):
            assert nx.nodes[here]["share"] == nx.edges[above, here]["share"] == template.share
            assert json.loads(nx.nodes[here]["shots"]) == [shot.image for shot in template.shots]
            assert sum(e["share"] for e in nx[here].values()) == pytest.approx(1)
    assert "presence" in nx.nodes["paw (part)"]
    assert "presence" not in nx.nodes["one (part)"]
    assert "error" not in nx.nodes["one (template 1)"]
    for node in parse.nodes:
        known = localizer.graph.nx.nodes[node]
        for name in ("layer", "filter", "pattern", "reliability"):
            assert nx.nodes[node][name] == known[name]


def test_nine_tenths_of_the_vote_are_shown(world):
    localizer, parse, *_ = world
    for part in localizer.and_or(parse).parts:
        for template in part.templates:
            shown = template.telling()
            shares = sorted((voter.share for voter in template.voters), reverse=True)
            assert [voter.share for voter in shown] == shares[: len(shown)]
            assert sum(shares[: len(shown)]) >= 0.9 > sum(shares[: len(shown) - 1])
            assert template.telling(2) == shown[:2]
            more = f"{V - len(shown)} nodes more, {sum(shares[len(shown) :]):.0%} of the vote"
            assert template.rest_told(len(shown)) == f"and {more}"


def test_a_template_that_speaks_nowhere(world):
    """In the images of one pose the other's template has nothing to say."""
    localizer, parse, turned, _ = world
    rows = np.flatnonzero(turned)
    some = parsed(localizer.graph, parse.positions[rows], parse.scores[rows])
    paw, _ = localizer.and_or(some).parts
    silent = min(paw.templates, key=lambda template: template.share)
    assert silent.share < 0.1
    one = parsed(localizer.graph, parse.positions[[1]], parse.scores[[1]])
    paw, _ = localizer.and_or(one).parts
    assert sorted(template.share for template in paw.templates) == [0, 1]
    silent = min(paw.templates, key=lambda template: template.share)
    assert {(voter.share, voter.agreement) for voter in silent.voters} == {(0, None)}
    spreads = [voter.spread for voter in silent.telling()]
    assert spreads == sorted(spreads)
    assert silent.rest_told(2) == f"and {V - 2} nodes more"
    assert localizer.and_or(one).table()


def test_what_is_told(world):
    localizer, parse, *_ = world
    and_or = localizer.and_or(parse)
    paw, one = and_or.parts
    assert repr(and_or) == (
        f"AndOrGraph: 2 parts (paw, one), 3 templates, {V} nodes; used in {N} images"
    )
    first, second = (template.share for template in paw.templates)
    assert and_or.told == [
        f"paw: 24 marks, in {paw.presence:.0%} of the images, within {paw.radius:.0f} px nine "
        f"times in ten; 2 templates, which speak in {first:.0%} and {second:.0%} of the images",
        f"one: 1 mark, within {one.radius:.0f} px nine times in ten; one template of {V} nodes",
    ]
    assert "<table>" in and_or._repr_html_()
    frame = and_or.to_frame()
    assert len(frame) == 3 * V
    assert frame.groupby(["part", "template"])["share"].sum().to_numpy() == pytest.approx(1)


def test_a_loaded_localizer_grew_the_same(world, tmp_path):
    localizer, parse, *_ = world
    localizer.save(tmp_path / "x")
    again = Localizer.load(tmp_path / "x", localizer.graph)
    assert again.and_or(parse).grown == localizer.and_or(parse).grown


def test_wrong_uses_are_told(world):
    localizer, parse, _, marks = world
    with pytest.raises(ExplgraphError, match="knows no part yet; call fit first"):
        Localizer(localizer.graph).and_or(parse)
    small = replace(parse, image_size=(9, 9))
    with pytest.raises(ExplgraphError, match="is of images of 9 x 9 px"):
        localizer.and_or(small)
    strange = Localizer(localizer.graph).fit(parse, {"a\x00": marks["one"]})
    with pytest.raises(ExplgraphError, match=r"part 'a\\x00' holds the character U\+0000"):
        strange.and_or(parse)
