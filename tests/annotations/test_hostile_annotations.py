"""Damaged files of annotations: a result, or an error in our own words, and never a hang."""

import json
import random
import warnings

import pytest
from scene import BOXES, MARKS, draw, lay

import explgraph
from explgraph.errors import ExplgraphError, ExplgraphWarning

TRIES = 60
ODD = [None, True, -1, 1e308, 10**400, "", "x", [], {}, [[]], "\0", float("nan"), "9" * 400]


def damaged(text, rng):
    """Damage a text: cut it, drop, double or overwrite a stretch, put something odd in."""
    a, b = sorted(rng.randrange(len(text) + 1) for _ in range(2))
    b = min(b, a + 40)
    odd = rng.choice(["", "\0", "<", "]]>", "{", '"', "nan", "-1e999", "\n", ",", ";", "é", "#0"])
    return rng.choice(
        [text[:a], text[:a] + text[b:], text[:b] + text[a:], text[:a] + odd + text[b:]]
    )


def spread(text, rng):
    """Damage a file's text, by its JSON if it is any."""
    if rng.random() < 0.5:
        try:
            content = json.loads(text)
        except ValueError:
            return damaged(text, rng)
        return json.dumps(changed(content, rng))
    return damaged(text, rng)


def changed(content, rng):
    """Walk down at random, and change what is there."""
    at = content
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return content
        key = rng.choice(keys)
        if isinstance(at[key], (dict, list)) and at[key] and rng.random() < 0.8:
            at = at[key]
            continue
        if rng.random() < 0.25:
            del at[key]
        else:
            at[key] = rng.choice(ODD)
        return content


@pytest.mark.parametrize("name", [*MARKS, *(f"boxes: {name}" for name in BOXES)])
def test_damage_is_refused_or_harmless(tmp_path, name):
    folder = draw(tmp_path / "film")
    boxes = name.startswith("boxes: ")
    path, files = (BOXES if boxes else MARKS)[name.removeprefix("boxes: ")]
    images = explgraph.ImageFolder(folder, size=8)
    refused = 0
    for seed in range(TRIES):
        rng = random.Random(seed)
        hit = rng.choice(list(files))
        given = lay(tmp_path / "x", (path, {**files, hit: spread(files[hit], rng)}))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExplgraphWarning)
            try:
                if boxes:
                    explgraph.ImageFolder(folder, size=8, boxes=given)
                else:
                    explgraph.read_landmarks(given).to_network(images)
            except ExplgraphError:
                refused += 1
    assert refused
