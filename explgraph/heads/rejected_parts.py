"""Corrections as a penalty: a network must not tell classes by what people rejected.

1. A *correction* is an image, and a place in it that must not count: where a part is that was
   rejected, or where people marked the thing.
2. What is there is exchanged for what another correction has at its place, in the images
   themselves, so that everything else stays as it is.
3. The penalty is the mean square by which that changes the scores. A network that doesn't look
   there pays nothing; one that does has to find out by what else the class is told.

It goes into a training loop of your own, beside the loss of the task::

    rejected = explgraph.RejectedParts(model, graph, ["part 3"], images)
    loss = task_loss(model(batch), labels) + 0.1 * rejected(model)

Which class the images show need not be known. Some should have the thing and others not, or what is
exchanged is always the same.

References
----------
Ross, Hughes, Doshi-Velez: "Right for the right reasons", IJCAI 2017 (arXiv 1703.03717), penalise
the gradient of the log probabilities by pixels that people marked. Departure: what is marked is
exchanged instead, and the change of the scores penalised: a gradient says what an infinitely small
change does, and rectified networks can have none where the whole thing decides (as counterfactual
consistency: Kusner et al., NeurIPS 2017; Teney et al., ECCV 2020). Taken away from maps of an upper
layer in place of the image, a thing is still told by units around it, which have seen it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from explgraph.errors import ExplgraphError
from explgraph.graph.graph import Graph, check_graph
from explgraph.graph.parts import find_part
from explgraph.heads.place_loss import checked_marks
from explgraph.network.outputs import Outputs, Scorer
from explgraph.parsed import Parse
from explgraph.parsing import parse
from explgraph.whole_numbers import whole

__all__ = ["RejectedParts"]

_RADIUS = 1 / 8
"""Of the image's side: about a part; places are sure to a twentieth or so."""
_SOFT = 1 / 56
"""Of the side, over which what is exchanged fades into what stays: an edge would be a cue."""


class RejectedParts(nn.Module):
    """Penalty for scores that hang on what was rejected.

    Parameters
    ----------
    model : torch.nn.Module
        The network that was mined, which tells where parts are; not kept.
    graph : ExplanatoryGraph
    parts : str or sequence of str
        What must not be used: parts by id, name or title, also those that were rejected in the
        graph (`ExplanatoryGraph.reject_part`). None, or ``()``, for a thing that is no part and
        is marked in all images.
    images : (m, C, H, W) tensor
        The corrections, three at least. A network can learn 20 by heart, so that the penalty falls
        in them alone; hundreds hold further, with marks that a `Localizer` makes of 20.
    marks : (m, 2), optional
        Where the one thing in `parts` is, px of the image as the network sees it; NaN where it
        can't be said: then the graph says it. Without marks the graph says all places.
    target : int or sequence of int, optional
        Numbers of the scores that must not change; by default none may.
    radius : float, optional
        Of what is exchanged, px; by default an eighth of the image's side.
    at_once : int
        Corrections that a call looks at, by turns.
    outputs : callable, optional
        Takes what the model gives, gives scores of (images, classes), where it gives anything else
        than these (`explgraph.network.outputs`).

    Attributes
    ----------
    places : (m, R, 2)
        Where the R parts are, px.

    Raises
    ------
    ExplgraphError
        If the graph has no such part, the images are too few or of another size, or a mark, number
        or radius can't be.
    """

    images: Tensor
    places: Tensor

    def __init__(
        self,
        model: nn.Module,
        graph: Graph,
        parts: str | Sequence[str],
        images: Tensor,
        *,
        marks: ArrayLike | None = None,
        target: int | Sequence[int] | None = None,
        radius: float | None = None,
        at_once: int = 16,
        outputs: Outputs | None = None,
    ) -> None:
        super().__init__()
        check_graph(graph)
        side = math.sqrt(math.prod(graph.image_size))
        if not isinstance(images, Tensor) or images.ndim != 4 or len(images) < 3:
            got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise ExplgraphError(
                f"images must be a tensor (m, C, H, W) of three corrections at least, got {got}"
            )
        self.parts = _named(parts)
        if not self.parts and marks is None:
            raise ExplgraphError(
                "parts is empty: name at least one that must not be used, or mark it in all images"
            )
        self.radius = side * _RADIUS if radius is None else _checked_radius(radius, side)
        self.target = None if target is None else _scores(target)
        self.at_once = min(whole(at_once, "at_once"), len(images))
        self._scorer = Scorer(outputs)
        places = np.full((len(images), max(len(self.parts), 1), 2), np.nan)
        if self.parts:
            seen = parse(model, graph, images, progress=False)
            places = np.stack([_places(graph, part, seen) for part in self.parts], 1)
        if marks is not None:
            places = _marked(places, marks, graph.image_size)
        self.register_buffer("images", images.detach().clone(), persistent=False)
        self.register_buffer("places", torch.from_numpy(places).float(), persistent=False)
        self._calls = 0

    def extra_repr(self) -> str:
        """Show what is rejected."""
        what = ", ".join(self.parts) or "marked"
        return f"{what}; {len(self.images)} corrections, {self.radius:.0f} px"

    def forward(self, model: Callable[[Tensor], Any]) -> Tensor:
        """Give the penalty, a scalar, of a model as it is now; each call asks other pairs."""
        if not callable(model):
            raise ExplgraphError(f"model must be a network to ask, got {type(model).__name__}")
        images, changed = self.pairs()
        return self.change(model(images), model(changed))

    def change(self, scores: Any, changed: Any) -> Tensor:
        """Give the mean square of what outputs differ by that a model gave for `pairs`."""
        one, other = (self._scorer(given, self.at_once) for given in (scores, changed))
        away = (other - one).square()
        if self.target is not None:
            if not all(0 <= k < away.shape[1] for k in self.target):
                raise ExplgraphError(
                    f"target is {self.target}, but the model gives scores for {away.shape[1]}"
                )
            away = away[:, self.target]
        return away.mean()

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Give the next corrections, and the same with what was rejected exchanged.

        Returns
        -------
        (n, C, H, W), (n, C, H, W)
        """
        m = len(self.images)
        rows = (torch.arange(self.at_once) + self.at_once * self._calls) % m
        # every image meets every other in turn
        donors = (rows + 1 + self._calls % (m - 1)) % m
        self._calls += 1
        images, changed = self.images[rows], self.images[rows]
        for part in range(self.places.shape[1]):
            at, source = self.places[rows, part], self.places[donors, part]
            changed = _exchanged(changed, self.images[donors], at, source, self.radius)
        return images, changed


def _exchanged(images: Tensor, donors: Tensor, at: Tensor, source: Tensor, radius: float) -> Tensor:
    """Put what is at a place in other images (n, 2) where it is in these, px."""
    height, width = images.shape[2:]
    size = images.new_tensor([width, height])
    y, x = torch.meshgrid(
        torch.arange(height, device=images.device) + 0.5,
        torch.arange(width, device=images.device) + 0.5,
        indexing="ij",
    )
    points = torch.stack([x, y], -1).to(images)
    away = (points - at.to(images)[:, None, None]).square().sum(-1).sqrt()
    share = torch.sigmoid((radius - away) / (_SOFT * math.sqrt(height * width)))[:, None]
    grid = (points + (source - at).to(images)[:, None, None]) / size * 2 - 1
    moved = F.grid_sample(donors, grid, align_corners=False, padding_mode="border")
    return images + share * (moved - images)


def _rejected(graph: Graph, part: str) -> Sequence[str]:
    """Give the nodes of a part that was rejected, by id, or by the name or title that it had."""
    gone = [record for record in graph.nx.graph.get("parts", []) if record["rejected"]]
    present = {name for one in graph.parts for name in (one.id, one.name, one.title)}
    for record in gone:
        title = record["name"] or f"part {record['id'].removeprefix('p')}"
        if part == record["id"] or (part == title and part not in present):
            nodes: Sequence[str] = record["rejected"]
            return nodes
    return ()


def _places(graph: Graph, part: str, seen: Parse) -> NDArray[np.float64]:
    """Give where a part is in images, (m, 2) px: the mean of its nodes by their scores."""
    nodes = _rejected(graph, part) or find_part(graph, part).nodes
    column = {node: v for v, node in enumerate(seen.nodes)}
    rows = [column[node] for node in nodes if node in column]
    weight = seen.scores[:, rows].astype(np.float64) + 1e-6
    whole_weight = weight.sum(1)[:, None]
    places: NDArray[np.float64] = (
        np.einsum("nv,nvi->ni", weight, seen.positions[:, rows]) / whole_weight
    )
    return places


def _named(parts: Any) -> tuple[str, ...]:
    """Give what parts are called; None is none."""
    if parts is None or isinstance(parts, str):
        return () if parts is None else (parts,)
    if not isinstance(parts, Iterable):
        raise ExplgraphError(f"parts is {parts!r:.80}; expected a list of names or ids")
    return tuple(parts)


def _checked_radius(radius: Any, side: float) -> float:
    """Refuse what is no radius in an image."""
    number = isinstance(radius, (int, float, np.floating)) and not isinstance(radius, bool)
    if not number or not 0 < radius < side:
        raise ExplgraphError(f"radius must be above 0 and below {side:.0f} px, got {radius!r:.80}")
    return float(radius)


def _scores(target: Any) -> list[int]:
    """Give numbers of scores."""
    given = target.tolist() if hasattr(target, "tolist") else target
    one = isinstance(given, (str, bytes)) or not isinstance(given, Iterable)
    numbers = [whole(number, "target", 0) for number in ([given] if one else given)]
    if not numbers:
        raise ExplgraphError("target is empty; leave it out, and no score may change")
    return numbers


def _marked(
    places: NDArray[np.float64], marks: ArrayLike, image_size: tuple[int, int]
) -> NDArray[np.float64]:
    """Put people's marks in the place of what the graph says."""
    if places.shape[1] != 1:
        raise ExplgraphError(
            f"marks are of the one thing in parts, but parts holds {places.shape[1]}; give each a "
            "loss of its own"
        )
    given = checked_marks(marks, len(places), "marks").astype(np.float64)
    height, width = image_size
    # NaN is unmarked; outside there is nothing to exchange, which would cost nothing, silently
    outside = ((given < 0) | (given > np.array([width, height]))).any(1)
    if outside.any():
        row = int(outside.argmax())
        raise ExplgraphError(
            f"marks: {outside.sum()} lie outside the image of {width} x {height} px (width x "
            f"height), first {given[row].tolist()} of image {row}; give pixels of the network's "
            "image"
        )
    known = np.isfinite(given).all(1)
    places[known, 0] = given[known]
    if not np.isfinite(places).all():
        raise ExplgraphError(
            "marks: an image has none, and no part is named that says where it is; leave such "
            "images out, or name the nearest part"
        )
    return places
