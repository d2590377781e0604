"""The benchmark of masks, small."""

import numpy as np
import torch

from benchmarks import masks


def test_small_masks_agree_with_true_outlines_better_than_activation_and_discs():
    rows = masks.measure(60, 20, seed=0, nodes=3, occlusion=False)
    mean = {
        method: np.mean([row["iou"] for row in rows if row["method"] == method])
        for method in {row["method"] for row in rows}
    }
    assert mean["mask"] > 0.3
    for method in ("gradient", "SmoothGrad", "own activation", "activation", "disc"):
        assert mean["mask"] > mean[method]
    assert mean[masks.OWN] > mean[masks.FIELD]


def test_agreement_is_intersection_over_union():
    one = masks.highest(torch.tensor([[5.0, 1.0], [4.0, 3.0]]), 2)
    assert one.tolist() == [[True, False], [True, False]]
    assert masks.iou(one, np.array([[True, True], [False, False]])) == 1 / 3


def test_the_table_has_means_by_layer():
    row = {"method": "mask", "seed": 0, "node": "a"}
    rows = [row | {"layer": "top", "iou": 0.2}, row | {"layer": "top", "iou": 0.4}]
    assert "| mask | 0.30 |" in masks.table(rows)
