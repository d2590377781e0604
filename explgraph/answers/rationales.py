"""What the part nodes of a layer add to a class's score, image by image, node by node.

What is a node's own, and what units add, is as for all answers (`attribution`): nodes, units of no
node, the score without the layer's activation and a residual sum to the score. Told by parts, nodes
add up to parts (`by_part`).

Contributions are those of one step, as effects are: trees are about what tells images apart, and
the slope where the image is does that better where the network is not linear above the layer. What
one step misses is the residual.

References
----------
Zhang et al., "Interpreting CNNs via decision trees", CVPR 2019 (arXiv 1802.00121), section 3: the
rationale of a prediction. Departure: nodes in their places take the place of filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.brief import counted
from explgraph.errors import ExplgraphError
from explgraph.explaining.attribution import Places, Rests, added, layer_of
from explgraph.explaining.by_part import By, Members, check_by, names_of_nodes
from explgraph.explaining.intervene import is_output, run, watched, with_gradients
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.graph import check_graph
from explgraph.images.batches import AnyImages
from explgraph.network.class_names import class_names, class_number, class_title
from explgraph.network.outputs import Outputs, Scorer
from explgraph.progress import Shown

__all__ = ["Rationales", "checked_positive", "rationales"]

Array = NDArray[np.float64]


class Rationales(NamedTuple):
    """What the part nodes of a layer add to a class's score in some images.

    Attributes
    ----------
    nodes : tuple of str
        Ids of the V nodes, or parts.
    names : tuple of str
        Of the N images.
    activations : (N, V) float64
        Sum of the node's activation within its place; a part's is the sum over its nodes.
    contributions : (N, V) float64
        What it adds to the score, in units of the score: see `explgraph.explaining.attribution`.
    scores : (N,) float64
        Of the class, as the model gives it.
    first : (N,) bool
        Whether no other class has a higher score.
    rests : Rests
        Each (N,): what the scores are made of beside the contributions, and by how much all of it
        misses them.
    titles : tuple of str
        Of the V parts; empty for nodes.
    told : tuple of str
        What files call the V nodes or parts: ``"part 3 · stage4/17/0"`` where a node's part is
        known; empty if that is what they are called anyway.
    places : (N, V, 2) float64 or None
        Where they are, px; a part at the mean of its nodes' places. None if that isn't known.
    class_title : str
        The class's name, or "class 17"; empty if that isn't known.
    """

    nodes: tuple[str, ...]
    names: tuple[str, ...]
    activations: Array
    contributions: Array
    scores: Array
    first: NDArray[np.bool_]
    rests: Rests
    titles: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    places: Array | None = None
    class_title: str = ""

    def __repr__(self) -> str:
        kind = "part" if self.titles else "node"
        return (
            f"Rationales: {counted(len(self.nodes), kind)} in {counted(len(self.names), 'image')}, "
            f"of which {int(self.first.sum()):,} have the class first"
        )

    @property
    def called(self) -> tuple[str, ...]:
        """Give what people call the nodes (their ids) or parts (their titles)."""
        return self.titles or self.nodes

    @property
    def rest(self) -> Array:
        """What the nodes or parts leave unexplained of the scores, (N,): the sum of `rests`."""
        rest: Array = self.scores - self.contributions.sum(1)
        return rest

    @property
    def adds_up(self) -> str:
        """Say in a sentence what the mean score is made of, and how nearly it all adds up."""
        without, no_part, no_node, residual = (float(values.mean()) for values in self.rests)
        told = [f"{'parts' if self.titles else 'nodes'} {self.contributions.sum(1).mean():+.3g}"]
        if self.titles:
            told.append(f"nodes of no part {no_part:+.3g}")
        told += [f"what no node answers for {no_node:+.3g}"]
        most = float(np.abs(self.rests.residual).max())
        return (
            f"The mean score, {self.scores.mean():.3g}, is {', '.join(told)}, and {without:.3g} "
            f"without the layer's activation; they miss it by {abs(residual):.2g}, and by "
            f"{most:.2g} in an image at most."
        )

    def take(self, images: NDArray[Any] | Sequence[int]) -> Rationales:
        """Keep some of the images, by number or mask."""
        return self._replace(
            names=tuple(np.array(self.names, dtype=object)[images]),
            activations=self.activations[images],
            contributions=self.contributions[images],
            scores=self.scores[images],
            first=self.first[images],
            rests=self.rests.take(images),
            places=None if self.places is None else self.places[images],
        )

    def by_part(self, graph: ExplanatoryGraph) -> Rationales:
        """Tell the same by parts: sums over each part's nodes.

        Raises
        ------
        ExplgraphError
            If none of the nodes belongs to a part.
        """
        members = Members.of(graph, self.nodes)
        places = None
        if self.places is not None:
            size = members.sum(np.ones(len(self.nodes)))
            places = np.moveaxis(members.sum(np.moveaxis(self.places, 2, 1)) / size, 1, 2)
        return self._replace(
            nodes=members.ids,
            activations=members.sum(self.activations),
            contributions=members.sum(self.contributions),
            rests=self.rests._replace(no_part=members.rest(self.contributions)),
            titles=members.titles,
            told=(),
            places=places,
        )


@with_gradients
def rationales(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    target: int | str,
    *,
    layer: str | None = None,
    by: By = "node",
    outputs: Outputs | None = None,
    batch_size: int = 16,
    device: str = "auto",
    progress: Shown = None,
) -> Rationales:
    """Measure what each part node of a layer adds to a class's score.

    Parameters
    ----------
    model : torch.nn.Module
        The network that was mined, in evaluation mode.
    graph : ExplanatoryGraph
    images : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
        Of the size that was mined.
    target : int or str
        The class's number in the model's output, or its name where the model knows it
        (`explgraph.network.class_names`).
    layer : str, optional
        By default the highest that has nodes. Nodes of several layers would count the same thing
        several times over.
    by : "node" or "part"
        With "part", what is said of a part is the sum over its nodes in the layer; nodes of no
        part are in the rests, so that ``contributions.sum(1) + rest`` is the score all the same.
    outputs : callable, optional
        Takes what the model gives, gives scores of (images, classes), where it gives anything
        else than these (`explgraph.network.outputs`).
    batch_size : int
    device : str
        Where the model runs.
    progress : bool or None
        Show a bar: by default in notebooks alone, if True on a terminal too.

    Returns
    -------
    Rationales
        Of each image, what all nodes add, and what the score is beside that.

    Raises
    ------
    ExplgraphError
        If the model isn't the one that was mined or is in training mode, it has no such class, or
        the graph has no nodes in the layer, or none of a part.
    """
    check_graph(graph)
    check_by(by)
    scorer = Scorer(outputs)
    known = layer_of(graph, layer)
    nodes = graph.nodes_of(known.name)
    places = Places(graph)
    names: list[str] = []
    rows: list[list[Tensor]] = []
    rests: list[Rests] = []
    column = {node: v for v, node in enumerate(graph.node_ids)}
    own_places = [column[node] for node in nodes]
    called: tuple[str, ...] = ()
    for here, batch in watched(
        model, graph, images,
        scorer=scorer, batch_size=batch_size, device=device, progress=progress,
    ):  # fmt: skip
        done = run(model, batch, graph.layers, scorer=scorer, gradients=True)
        n_classes = done.scores.shape[1]
        called = class_names(model, n_classes)
        if isinstance(target, str):
            target = class_number(target, called, n_classes)
        if not is_output(target, n_classes):
            raise ExplgraphError(
                f"target is class {target!r}, but the model gives scores for {n_classes} classes, "
                f"0 to {n_classes - 1}"
            )
        own = done.scores[:, target]
        seen = places.seen(done.maps)
        mine = places.own(nodes, done.maps[known.name].detach(), seen)
        found = added(model, batch, done, known, [target], scorer=scorer, most=1)
        contributions = found.of(mine)
        first = own >= done.scores.max(1).values
        rows.append(
            [mine.activation, contributions[:, 0], own, first, seen.positions[:, own_places]]
        )
        rests.append(found.rests(contributions))
        names.extend(here)
    activations, added_by, scores, firsts, at = (
        torch.cat(column).detach().cpu().to(torch.float64).numpy()
        for column in zip(*rows, strict=True)
    )
    told = Rationales(
        nodes,
        tuple(names),
        activations,
        added_by,
        scores,
        firsts.astype(np.bool_),
        Rests.joined(rests).take((slice(None), 0)),
        told=names_of_nodes(graph, nodes),
        places=at,
        class_title=class_title(int(target), called),
    )
    return told if by == "node" else told.by_part(graph)


def checked_positive(
    positive: Sequence[bool] | NDArray[np.bool_], found: Rationales
) -> NDArray[np.bool_]:
    """Give the mask of the class's images; there must be some, and some others."""
    chosen = np.asarray(positive)
    if chosen.shape != (len(found.names),) or chosen.dtype != bool:
        raise ExplgraphError(
            f"positive must be (N,) bool for the {len(found.names)} images, got {chosen.dtype} of "
            f"{chosen.shape}"
        )
    if not chosen.any():
        raise ExplgraphError(
            f"the class never occurs in the {len(chosen)} images (in none is its score the "
            "highest, or none is said to show it); give some that do, or say which (positive)"
        )
    if chosen.all():
        raise ExplgraphError(
            f"all {len(chosen)} images are of the class; the tree tells it from others, so give "
            "some of these, too"
        )
    return chosen
