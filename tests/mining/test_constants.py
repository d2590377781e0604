"""What mining makes of some creatures is what it was: a constant that is changed shows here.

Not whether it is good: the benchmarks measure that. After a wanted change the numbers are written
anew (`fingerprint`), and the log says why. `benchmarks/mutations.py` tells which constants, halved,
would be noticed.
"""

import fingerprint
import pytest

pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = 0.02  # on another processor a node may come or go
WRITTEN = {
    "edges": 777,
    "parts": 12,
    "stage4, reliability": 0.27307,
    "stage4, follows": 0.44226,
    "stage4, sigma": 11.891,
    "stage4, support": 0.48833,
    "stage4, energy": 0.42872,
    "stage4, nodes": 260,
    "stage4, following": 0.84555,
    "stage4, decoys": 0.52004,
    "stage3, reliability": 0.23064,
    "stage3, follows": 0.51321,
    "stage3, sigma": 6.6537,
    "stage3, support": 0.63831,
    "stage3, energy": 0.26101,
    "stage3, nodes": 144,
    "stage3, following": 0.8396,
    "stage3, decoys": 0,
    "stage2, reliability": 0.18817,
    "stage2, follows": 0.57203,
    "stage2, sigma": 6.4467,
    "stage2, support": 0.69854,
    "stage2, energy": 0.18833,
    "stage2, nodes": 80,
    "stage2, following": 0.53445,
    "stage2, decoys": 0,
    "edges, dx": 5.5503,
    "edges, dy": 6.7469,
    "edges, sigma": 4.9267,
    "edges, consistency": 0.84339,
    "edges, coactivation": 0.44884,
    "parts, reliability": 0.80304,
    "parts, support": 0.46667,
    "parts, offset": -22.06,
    "parts, slope": 42.684,
    "parts, weight": 219.46,
    "parts, joined": 422,
    "parsed, score": 0.5462,
    "parsed, x": 27.586,
    "parsed, y": 21.672,
    "parsed, own": 2.6144,
    "parsed parts, presence": 0.5035,
    "parsed parts, radius": 6.6057,
}


def test_what_mining_makes_of_creatures():
    found = fingerprint.fingerprint()
    assert found.keys() == WRITTEN.keys()
    assert found == pytest.approx(WRITTEN, rel=TOLERANCE, abs=1e-6)
