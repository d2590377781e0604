"""The bias benchmark's own measures, and quick training."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmarks import bias, upper_half
from explgraph import creatures


@pytest.mark.parametrize("seed", range(3))
def test_auc_is_scikit_learn_s(seed):
    rng = np.random.default_rng(seed)
    risk, wrong = rng.integers(0, 6, (40, 2)), rng.random((40, 2)) < 0.3
    assert bias.auc(risk, wrong) == pytest.approx(roc_auc_score(wrong.ravel(), risk.ravel()))
    assert np.isnan(bias.auc(risk, np.zeros_like(wrong)))


def test_ranks_are_of_pairs_either_way_round():
    scores = {("a", "b"): 0.1, ("b", "a"): 0.9, ("a", "c"): 0.5, ("b", "c"): 0.2}
    assert bias.ranked(scores, [("a", "b"), ("c", "b"), ("c", "a")]) == [1, 3, 2]


def test_planted_pairs_share_no_attribute():
    for seed in range(20):
        names = [name for pair in bias.planted_pairs(seed) for name in pair]
        assert len(set(names)) == 4
        assert set(names) <= set(creatures.ATTRIBUTES)
        assert bias.planted_pairs(seed) == bias.planted_pairs(seed)


def test_quick_training_learns_and_leaves_the_lower_stages():
    data = creatures.draw(192, seed=1)
    shipped, fresh = creatures.network(), upper_half.new_network(3, seed=0)
    trained = upper_half.train_attributes(data, seed=0, stages=3, epochs=4)
    targets = data.targets()[:, 3:]

    def loss(model):
        with torch.no_grad():
            logits = model(data.tensor())[:, 3:]
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets).item()

    assert loss(trained) < 0.9 * loss(fresh)
    assert not any(module.training for module in trained.modules())
    for name, value in trained.state_dict().items():
        if name.startswith(("stage1", "stage2", "stage3")):
            assert torch.equal(value, shipped.state_dict()[name])
    again = upper_half.train_attributes(data, seed=0, stages=3, epochs=4)
    assert torch.equal(again.head.weight, trained.head.weight)
