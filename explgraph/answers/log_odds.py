"""What images' log-odds of their classes are made of, unit by unit, kept for many questions.

1. The score is the log-odds of the image's class: its score less the log of the sum of the others'
   exponentials, so that of a softmax it is ``log p - log(1 - p)``, above 0 where the class is
   likelier than all others together.
2. Gradient times activation, unit by unit, is what a layer's units add to it (`attribution`). A
   part has what its nodes hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.errors import ExplgraphError
from explgraph.explaining.attribution import Places
from explgraph.explaining.by_part import Members
from explgraph.explaining.intervene import run, watched, with_gradients
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.images.batches import AnyImages
from explgraph.network.gradients import gradients_of
from explgraph.network.outputs import Scorer
from explgraph.progress import Shown

__all__ = ["Classes", "Made", "log_odds", "made_of"]

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]
Classes = Callable[[Array, int], Numbers]
"""Takes the scores (n, classes) of n images and the number of the first, gives their classes."""


class Made(NamedTuple):
    """What N images' log-odds are made of in one layer.

    Attributes
    ----------
    names : tuple of str
        Of the images.
    classes : (N,) int64
        Their classes.
    scores : (N, classes) float64
        What the network gives.
    odds : (N,) float64
        The log-odds.
    maps : (N, C, S) float32
        The layer's rectified activation, S = H W, row by row.
    titles : tuple of str
        Of the P parts that have nodes in the layer; none if there are no parts.
    parts : (N, P) float32
        What each part adds.
    layer : str
    grid : (int, int)
        H and W.
    """

    names: tuple[str, ...]
    classes: Numbers
    scores: Array
    odds: Array
    maps: NDArray[np.float32]
    titles: tuple[str, ...]
    parts: NDArray[np.float32]
    layer: str
    grid: tuple[int, int]


def log_odds(scores: Tensor, classes: Tensor) -> Tensor:
    """Give each image's log-odds (n,) of its class, from scores (n, classes)."""
    own = scores.gather(1, classes[:, None])[:, 0]
    others = scores.scatter(1, classes[:, None], -torch.inf)
    return own - others.logsumexp(1)


@with_gradients
def made_of(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    classes: Classes,
    *,
    layer: str,
    scorer: Scorer,
    batch_size: int,
    device: str,
    progress: Shown,
) -> Made:
    """Run all images once, with gradients.

    Parameters
    ----------
    model, graph, images, scorer, batch_size, device, progress
        As for `intervene.watched`.
    classes : callable
        See `Classes`.
    layer : str
        That has nodes.

    Raises
    ------
    ExplgraphError
        As `intervene.watched`, or if the model gives one score only.
    """
    mine = [node for node in graph.nodes_of(layer) if graph.nx.nodes[node].get("part")]
    members = Members.of(graph, mine) if mine else None
    places = Places(graph)
    names: list[str] = []
    numbers: list[Numbers] = []
    rows: list[tuple[Tensor, ...]] = []
    grid = (0, 0)
    for here, batch in watched(
        model, graph, images,
        scorer=scorer, batch_size=batch_size, device=device, progress=progress,
    ):  # fmt: skip
        done = run(model, batch, graph.layers, scorer=scorer, gradients=True)
        scores = done.scores.detach().double().cpu()
        if scores.shape[1] < 2:
            raise ExplgraphError(
                "the model gives one score, so that there is no other class to tell one from; let "
                "outputs= give a score for each of two classes or more"
            )
        own = classes(scores.numpy(), len(names))
        its = torch.from_numpy(own)
        odds = log_odds(done.scores, its.to(done.scores.device))
        (gradient,) = gradients_of(odds.sum(), [done.maps[layer]])
        maps = done.maps[layer].detach().relu()
        added = (gradient * maps).float()
        by_part = added.new_zeros(len(batch), 0).cpu()
        if members is not None:
            shares = places.weights(mine, places.seen(done.maps), added)
            held = (added[:, places.filters(mine)] * shares).sum((2, 3)).cpu()
            by_part = torch.from_numpy(members.sum(held.numpy()))
        grid = (maps.shape[2], maps.shape[3])
        rows.append((scores, log_odds(scores, its), maps.flatten(2).float().cpu(), by_part))
        names.extend(here)
        numbers.append(own)
    values = [torch.cat(column).numpy() for column in zip(*rows, strict=True)]
    scores_, odds_, maps_, parts = values
    titles = members.titles if members is not None else ()
    return Made(
        tuple(names), np.concatenate(numbers), scores_, odds_, maps_, titles, parts, layer,
        grid,
    )  # fmt: skip
