"""The comparison benchmark's plan: which cues are planted, what they make, how it is told."""

from benchmarks import compare
from explgraph import creatures


def test_every_cue_has_its_turn():
    assert {compare.cues_of(seed)[0] for seed in range(10)} == set(creatures.ATTRIBUTES)
    for seed in range(20):
        assert set(compare.cues_of(seed)) == set(creatures.ATTRIBUTES)
        cues = compare.three_of(seed)
        assert len(set(cues)) == 3
        assert cues == compare.three_of(seed)
        assert cues[0] == compare.cues_of(seed)[0]


def test_a_cue_is_chosen_that_a_part_goes_with():
    parts = {
        "p1": compare.Part("eye", "horns", 0.3),
        "p2": compare.Part("wing", "wings", 0.9),
        "p3": compare.Part("chest", "bib", 0.7),
    }
    assert compare.with_part(["horns", "bib", "wings"], parts) == "bib"
    assert compare.with_part(["horns", "tuft"], parts) == "horns"


def test_a_class_depends_on_the_cues_that_make_it_and_no_more():
    data = creatures.draw(400, seed=3)
    three, both = compare.two_of(("horns", "wings", "bib")), compare.both_of(("wings", "bib"), 0)
    has = {cue: data.attributes[cue] for cue in ("horns", "wings", "bib", "tuft")}

    def effect(label, cue):
        return label[has[cue]].mean() - label[~has[cue]].mean()

    before, after = three(data).astype(float), both(data).astype(float)
    for cue in ("wings", "bib"):
        assert effect(before, cue) > 0.35
        assert effect(after, cue) > 0.35
    assert effect(before, "horns") > 0.35
    assert max(abs(effect(after, cue)) for cue in ("horns", "tuft")) < 0.15
    agree = has["wings"] == has["bib"]
    assert (after[agree] == has["wings"][agree]).all()


def test_the_table_counts_first_ranks():
    row = {
        "planted": "blind", "seed": 0, "cue": "bib", "rank": 1, "rank_of_all": 1, "told": True,
        "strength": 0.4, "next": 0.1, "first": "vanished: at chest, with bib", "others": 0,
        "changed": ["vanished: at chest, with bib"],
    }  # fmt: skip
    told = compare.markdown([row, row | {"seed": 1, "rank": 2, "rank_of_all": None}])
    assert "blind: rank 1 in 1 of 2" in told
    assert "| 0 | bib | 1 | 1 | 0.40 (0.10) | yes | vanished: at chest, with bib | 1 (0) |" in told
    same = {"planted": "two halves", "tests": 9, "changed": 0, "same": 0.5, "beyond_chance": 1.0}
    assert "nothing changed in 1 of 1, 9 tests" in compare.markdown([same])
