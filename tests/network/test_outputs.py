"""What is taken for scores of classes, and what is said of anything else."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from explgraph.errors import ExplgraphError
from explgraph.network.outputs import Scorer

SCORES = torch.arange(6.0).view(2, 3)
MAPS, VECTORS = torch.zeros(2, 3, 4, 4), torch.zeros(2, 7)


@dataclass
class Given:
    """An output of a class of its own."""

    logits: Tensor
    features: Tensor


class ModelOutput(OrderedDict[str, Tensor]):
    """As transformers has them: a mapping, whose entries are attributes, too."""

    @property
    def logits(self) -> Tensor:
        return self["logits"]


Pair = namedtuple("Pair", ["logits", "hidden"])


@pytest.mark.parametrize(
    "output",
    [
        SCORES,
        (SCORES, MAPS),
        [None, SCORES],
        {"out": SCORES, "maps": MAPS, "count": torch.ones(2, 3, dtype=torch.int64)},
        {"a": {"b": [SCORES]}},
        {"logits": SCORES, "pooled": VECTORS},
        ModelOutput(pooled=VECTORS, logits=SCORES),
        Pair(SCORES, VECTORS),
        Given(SCORES, VECTORS),
        SimpleNamespace(logits=SCORES, pooled=VECTORS),
    ],
)
def test_what_is_plain_is_taken(output: Any) -> None:
    assert Scorer()(output, 2) is SCORES


@pytest.mark.parametrize(
    ("output", "found", "line"),
    [
        (MAPS, r"\(2, 3, 4, 4\) for 2 images", "out.mean((2, 3))"),
        (SCORES[:, 0], r"gives \(2,\)", "out[:, None]"),
        (torch.zeros(2, 9, 3), r"\(2, 9, 3\)", "out.amax(1)"),
        ({"out": MAPS, "aux": MAPS}, r"dict of \(out: \(2, 3, 4, 4\); aux", 'out["out"].mean((2,'),
        ((SCORES, VECTORS), r"tuple of \(\(2, 3\); \(2, 7\)\)", "out[0]"),
        ({"kind": VECTORS, "scores": SCORES}, "dict of .kind: .2, 7.; scores", 'out["scores"]'),
        # what is called logits is meant, and isn't what it should be
        ({"logits": MAPS, "pooled": VECTORS}, "dict of .logits", 'out["logits"].mean((2, 3))'),
        (Given(MAPS, VECTORS), "Given of .logits", "out.logits.mean((2, 3))"),
        ({"a": {"x": SCORES, "y": VECTORS}}, "dict of .a: dict of .x", 'out["a"]["x"]'),
        (Pair(VECTORS, SCORES)[::-1], "tuple", "out[0]"),
    ],
)
def test_what_is_not_is_told_with_the_line_to_write(output: Any, found: str, line: str) -> None:
    with pytest.raises(ExplgraphError, match=found) as error:
        Scorer()(output, 2)
    assert f"outputs=lambda out: {line}" in str(error.value)
    assert "--outputs package.module:function" in str(error.value)
    # and the line does what it says
    written = str(error.value).partition("outputs=")[2].partition(" (at the shell")[0]
    assert Scorer(eval(written))(output, 2).shape[0] == 2


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (
            [{"boxes": torch.zeros(5, 4), "scores": torch.zeros(5)}, {}],
            r"list of \(dict of \(boxes",
        ),
        ("text", "gives str for"),
        (None, "gives NoneType for"),
        (torch.ones(2, 3, dtype=torch.int64), r"gives int64 \(2, 3\)"),
        (torch.zeros(2, 0), r"gives \(2, 0\)"),
        ({str(k): MAPS[:1] for k in range(9)}, "and 5 more"),
    ],
)
def test_where_no_line_is_at_hand_a_function_is_asked_for(output: Any, found: str) -> None:
    with pytest.raises(ExplgraphError, match=found) as error:
        Scorer()(output, 2)
    assert "by outputs=, a function of what the model gives" in str(error.value)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (
            lambda out: out["logit"],
            r"outputs fails on what the model gives, dict .*KeyError",
        ),
        (
            lambda out: out["logits"][0],
            r"gives \(3,\) for 2 images, expected a float tensor",
        ),
        (lambda out: out["logits"][:1], r"gives \(1, 3\) for 2 images"),
        (lambda out: out["logits"].T, r"gives \(3, 2\) for 2 images"),
        (lambda out: out["logits"][:, :0], r"gives \(2, 0\)"),
        (lambda out: out["logits"].argmax(1, keepdim=True), "gives int64 for 2 images"),
        (lambda out: out["logits"].numpy(), "gives ndarray for 2 images"),
        (lambda _: None, "gives NoneType for"),
        (lambda out: out["logits"] / 0, r"NaN or infinite, from dict of .logits: \(2, 3\)"),
    ],
)
def test_wrong_results_are_told(outputs: Any, message: str) -> None:
    with pytest.raises(ExplgraphError, match=message):
        Scorer(outputs)({"logits": SCORES}, 2)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ("logits", "got str$"),
        ({"a": 1}, "got dict; .* by columns="),
        ([0, 1], "got list; .*columns="),
    ],
)
def test_what_can_not_be_called(outputs: Any, message: str) -> None:
    with pytest.raises(ExplgraphError, match=message):
        Scorer(outputs)


def test_classes_are_the_same_for_all_images() -> None:
    """A detector's boxes, say, whose number differs."""
    scorer = Scorer(lambda out: out)
    scorer(torch.zeros(2, 5), 2)
    with pytest.raises(ExplgraphError, match="scores for 4 classes, and for 5 in the batch before"):
        scorer(torch.zeros(1, 4), 1)


def test_a_model_s_own_nan() -> None:
    with pytest.raises(ExplgraphError, match="the model gives scores that are NaN"):
        Scorer()(SCORES / 0, 2)
