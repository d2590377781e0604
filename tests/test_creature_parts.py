"""The benchmark of planted parts, small."""

import math

from benchmarks import creature_parts
from explgraph import creatures


def test_small_parts_are_placed_more_exactly_by_lower_layers():
    rows = creature_parts.measure(120, 120, seed=0)
    where = {*creatures.LAYERS, creature_parts.ALL, creature_parts.PEAKS, creature_parts.KNOWN}
    assert {row["where"] for row in rows} == where
    error = {(row["part"], row["where"]): row["error"] for row in rows}
    tracking = {(row["part"], row["where"]): row["tracking"] for row in rows}
    for part in ("eye", "horn"):
        assert error[part, "stage2"] < error[part, "stage4"]
        assert tracking[part, "stage2"] > 0.9
        assert error[part, creature_parts.ALL] < error[part, creature_parts.PEAKS]
    assert all(math.isfinite(value) for value in error.values())
    # with the place known a filter follows the eye at least as well, the foot still not
    assert tracking["eye", creature_parts.KNOWN] > 0.9
    assert tracking["front_foot", creature_parts.KNOWN] < 0.8


def test_the_table_has_means_over_seeds():
    row = {"part": "eye", "where": "low", "middle": 0.5, "tracking": 0.9, "followed alone": 0}
    text = creature_parts.table(
        [
            row | {"seed": 0, "error": 1.0, "followed": 1},
            row | {"seed": 1, "error": 2.0, "followed": 0},
        ]
    )
    assert "| eye | 0.50 | 1.5 (0.90) |" in text
    assert "| share followed | | 0.50 |" in text
