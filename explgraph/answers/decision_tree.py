"""A class's decision modes: a coarse-to-fine tree of the parts that a network decides by.

1. An image's *rationale* is what each part node adds to the class's score (`rationales`), so that
   ``score = sum of contributions + rest``.
2. Every image of the class begins as a mode of its own. Step by step the two modes are merged that
   raise the objective most: ``log E = sum_i log P(x_i) - beta * modes``, where
   ``P(x_i) = exp(gamma y_i) / sum_j exp(gamma y_j)``; ``i`` runs over the class's images, ``j``
   over all, and ``y_i`` is what the mode nearest to image ``i`` accounts for: the length of the
   image's rationale along the mode's direction. So as few modes as can be have to account for the
   class, and not for what isn't of it.
3. Where the objective is highest, the modes left are the tree's first level; below each lie the
   modes that were merged into it, down to single images.
4. Each mode gets a sparse linear rationale: ``y = sum_d w_d x_d + b``, with ``x_d`` the node's
   activation over its mean and ``w = alpha *`` what the node usually contributes per ``x_d``;
   ``alpha >= 0`` by least squares with an L1 penalty.

References
----------
Zhang et al., "Interpreting CNNs via decision trees", CVPR 2019 (arXiv 1802.00121), sections 3 and
4. Departures:

- Parts are the nodes of an explanatory graph, not filters of a network trained for it, and a
  node's activation counts within its place. With ``by="part"`` the nodes of one part count as one.
- Modes are compared by their images' contributions (`explaining.attribution`), not by gradients:
  behind a network's last layer of maps there is often nothing but a mean and a linear layer, so
  that the gradient is the same in all images.
- ``b`` is the mean of what the nodes leave unexplained, not fitted, lest it take over what parts
  contribute. ``alpha`` multiplies a node's mean contribution and can't turn its sign. It is fitted
  to each node's contributions as well as to the score: the score alone would be met by any few
  parts that happen to vary with it. Its penalty is a share of the smallest one at which nothing is
  left, for scores have no common scale; it only chooses parts, which are then fitted without it.
- While the tree grows, a mode accounts for ``direction^T contributions`` where the paper has
  ``w^T x + b``. Ways that differ in which parts are there, not in what parts are worth, would
  share one ``w`` without loss. ``gamma`` is 1 over the mean of ``y`` and ``beta`` 1, as in the
  paper.
- Only each mode and the one nearest to it are candidates, and merging goes on to the end, to find
  the objective's highest point.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import networkx
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from explgraph.answers import tree_archive, tree_files
from explgraph.answers.modes import (
    ROOT,
    Array,
    Mode,
    Parts,
    make_tree,
    merge_modes,
    over_mean,
    unit_rows,
)
from explgraph.answers.rationales import Rationales, checked_positive, rationales
from explgraph.answers.tree_measures import Measures, best_threshold, measured
from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError, nearest
from explgraph.explaining.by_part import By
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.images.batches import AnyImages
from explgraph.network.outputs import Outputs
from explgraph.progress import Shown

__all__ = ["DecisionTree", "TreeExplanation"]


class TreeExplanation(NamedTuple):
    """Why an image got its score.

    Attributes
    ----------
    name : str
        The image's.
    path : tuple of int
        Modes from the root down to the one that explains.
    contributions : dict of str to float
        By part node (its id) or part (its title), those that count, the largest first; in units
        of the score.
    bias : float
        What the mode gives to every image.
    score : float
        The network's.
    residual : float
        What the mode does not explain: score - bias - all contributions.
    """

    name: str
    path: tuple[int, ...]
    contributions: dict[str, float]
    bias: float
    score: float
    residual: float

    def __repr__(self) -> str:
        parts = few(f"{part} {value:+.2f}" for part, value in self.contributions.items())
        return (
            f"TreeExplanation: {few([self.name])}, score {self.score:.2f} = {self.bias:+.2f} bias "
            f"and {parts}; {self.residual:+.2f} unexplained"
        )


@dataclass(frozen=True, eq=False)
class DecisionTree:
    """Decision modes of a class, coarse to fine.

    Attributes
    ----------
    modes : tuple of Mode
        Number 0 is the root, one rationale for the whole class; its children are the decision
        modes.
    nodes : tuple of str
        Ids of the V part nodes, or parts.
    unit : (V,) float64
        A node's, or part's, mean activation over the class's images; weights are per this.
    objective : dict of int to float
        ``log E`` by number of modes, as the tree grew.
    fitted : Rationales
        Of all images that it was fitted to.
    positive : (N,) bool
        Which of these are of the class.
    """

    modes: tuple[Mode, ...]
    nodes: tuple[str, ...]
    unit: Array = field(repr=False)
    objective: dict[int, float] = field(repr=False)
    fitted: Rationales = field(repr=False)
    positive: NDArray[np.bool_] = field(repr=False)
    _measure: Callable[[AnyImages], Rationales] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return (
            f"DecisionTree: {counted(len(self.modes[0].children), 'decision mode')} from "
            f"{counted(int(self.positive.sum()), 'image')} of the class, by "
            f"{counted(len(self.nodes), 'part' if self.fitted.titles else 'node')}"
        )

    @classmethod
    def fit(
        cls,
        model: nn.Module,
        graph: ExplanatoryGraph,
        images: AnyImages,
        target: int | str,
        *,
        positive: Sequence[bool] | NDArray[np.bool_] | None = None,
        layer: str | None = None,
        by: By = "node",
        beta: float = 1.0,
        sparsity: float = 0.03,
        outputs: Outputs | None = None,
        batch_size: int = 16,
        device: str = "auto",
        progress: Shown = None,
    ) -> DecisionTree:
        """Grow the tree of a class.

        Parameters
        ----------
        model : torch.nn.Module
            The network that was mined, in evaluation mode.
        graph : ExplanatoryGraph
        images : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
            Of the size that was mined; they show the class and others.
        target : int or str
            The class's number in the model's output, or its name where the model knows it.
        positive : (N,) bool, optional
            Which images are of the class; by default those in which no other class has a higher
            score.
        layer : str, optional
            The layer whose nodes explain; by default the highest that has nodes.
        by : "node" or "part"
            With "part" the tree decides by parts in place of nodes: what is said of a part is the
            sum over its nodes in the layer, nodes of no part are left unexplained, and parts are
            called by their titles.
        beta : float
            What a mode costs, in units of log-likelihood; more gives fewer modes.
        sparsity : float
            Penalty of a mode's weights, as a share of the smallest one at which none is left;
            more gives fewer parts.
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
        DecisionTree
            It keeps the model, to explain further images.

        Raises
        ------
        ExplgraphError
            If the model isn't the one that was mined or is in training mode, it has no such class,
            the layer has no nodes, or none of a part, no image is of the class, or all are.

        References
        ----------
        Zhang et al., CVPR 2019; see the module for the departures.
        """

        def measure(some: AnyImages) -> Rationales:
            return rationales(
                model,
                graph,
                some,
                target,
                layer=layer,
                by=by,
                outputs=outputs,
                batch_size=batch_size,
                device=device,
                progress=progress,
            )

        found = measure(images)
        return cls.grow(
            found,
            found.first if positive is None else positive,
            beta=beta,
            sparsity=sparsity,
            measure=measure,
        )

    @classmethod
    def grow(
        cls,
        found: Rationales,
        positive: Sequence[bool] | NDArray[np.bool_],
        *,
        beta: float = 1.0,
        sparsity: float = 0.03,
        measure: Callable[[AnyImages], Rationales] | None = None,
    ) -> DecisionTree:
        """Grow the tree from rationales that were measured: see `fit`.

        ``measure`` gives the rationales of further images; without it `explain` can't be used.
        """
        chosen = checked_positive(positive, found)
        if not beta >= 0:
            raise ExplgraphError(f"beta is {beta!r}; expected 0 or more")
        if not 0 <= sparsity < 1:
            raise ExplgraphError(f"sparsity is {sparsity!r}; expected 0 or more, less than 1")
        mine = found.take(chosen)
        unit = mine.activations.mean(0)
        merges, objective = merge_modes(found.contributions, chosen, beta)
        best = max(objective, key=lambda k: (objective[k], -k))
        parts = Parts(over_mean(mine.activations, unit), mine, sparsity)
        modes = make_tree(len(mine.names), merges[: len(mine.names) - best], parts)
        return cls(modes, found.nodes, unit, objective, found, chosen, measure)

    @property
    def called(self) -> tuple[str, ...]:
        """Give what people call the V nodes (their ids) or parts (their titles)."""
        return self.fitted.called

    @property
    def depth(self) -> int:
        """How many levels lie below the root."""
        return max(len(self._ancestors(number)) for number in range(len(self.modes)))

    def _ancestors(self, number: int) -> list[int]:
        """Modes above a mode, nearest first."""
        above = []
        while (parent := self.modes[number].parent) is not None:
            above.append(parent)
            number = parent
        return above

    def explain(self, image: AnyImages, *, depth: int = 1) -> TreeExplanation:
        """Say why the network gave an image its score for the class.

        Parameters
        ----------
        image : (C, H, W) or (1, C, H, W) tensor, or any `AnyImages` of one
            Made ready as the network takes it.
        depth : int
            How far to go down: 0 is the root, 1 a decision mode; more is finer, at last a single
            image of those that the tree was fitted to.

        Returns
        -------
        TreeExplanation

        Raises
        ------
        ExplgraphError
            If there are several images, or as `rationales`.
        """
        if self._measure is None:
            raise ExplgraphError(
                "this tree was grown without a model; grow it by DecisionTree.fit, or use "
                "explain_all on rationales"
            )
        if isinstance(image, Tensor) and image.ndim == 3:
            image = image[None]
        found = self._measure(image)
        if len(found.names) != 1:
            raise ExplgraphError(f"image holds {len(found.names)} images; give one")
        return self.explain_all(found, depth=depth)[0]

    def explain_all(self, found: Rationales, *, depth: int = 1) -> list[TreeExplanation]:
        """Explain images whose rationales were measured: see `explain`."""
        paths = self.route(found, depth)
        explained = []
        for i, path in enumerate(paths):
            mode = self.modes[path[-1]]
            parts = mode.weights * over_mean(found.activations[i], self.unit)
            order = [d for d in np.argsort(-np.abs(parts), kind="stable").tolist() if parts[d]]
            score = float(found.scores[i])
            explained.append(
                TreeExplanation(
                    found.names[i],
                    path,
                    {self.called[d]: float(parts[d]) for d in order},
                    mode.bias,
                    score,
                    float(score - mode.bias - parts.sum()),
                )
            )
        return explained

    def route(self, found: Rationales, depth: int) -> list[tuple[int, ...]]:
        """Give each image's path from the root: always the child of nearest direction.

        Parameters
        ----------
        found : Rationales
            Of the tree's nodes.
        depth : int
            How far to go down; 0 stays at the root. A path may end earlier, at a single image.
        """
        if found.nodes != self.nodes:
            raise ExplgraphError("the rationales are of other nodes than the tree's")
        if depth < 0:
            raise ExplgraphError(f"depth is {depth}; expected 0 (the root) or more")
        directions = np.stack([mode.direction for mode in self.modes])
        near = unit_rows(found.contributions) @ directions.T
        paths = []
        for row in near:
            path = [ROOT]
            while len(path) <= depth and (below := self.modes[path[-1]].children):
                path.append(max(below, key=lambda number: row[number]))
            paths.append(tuple(path))
        return paths

    def predict(self, found: Rationales, depth: int = 1) -> Array:
        """Predict the class's score from the parts, by the modes at some depth, (N,)."""
        return self._parts(found, depth)[0]

    def _parts(self, found: Rationales, depth: int) -> tuple[Array, Array]:
        """Give predictions (N,) and the contributions (N, V) that they are made of."""
        at = [path[-1] for path in self.route(found, depth)]
        weights = np.stack([self.modes[number].weights for number in at])
        parts = weights * over_mean(found.activations, self.unit)
        return np.array([self.modes[number].bias for number in at]) + parts.sum(1), parts

    def measure(
        self,
        found: Rationales,
        positive: Sequence[bool] | NDArray[np.bool_],
        *,
        depths: Sequence[int] = (0, 1, 2, 3, 5, 10, 1000),
        removed: Mapping[str, Array] | None = None,
    ) -> list[Measures]:
        """Measure how well the modes stand for the network, by depth.

        Parameters
        ----------
        found : Rationales
            Of images, better not those that the tree was fitted to.
        positive : (N,) bool
            Which of them are of the class.
        depths : sequence of int
            Depths below the tree's are left out but for the last one.
        removed : mapping of str to (N,), optional
            For some nodes (or parts, by id or title): by how much the score falls when the node
            is taken away in truth (``-explgraph.ablate(...).change[:, target]``), against
            which contributions are measured. Without it what nodes add (`explaining.attribution`)
            is the truth, and all nodes count.

        Returns
        -------
        list of Measures
            One for each depth; all but the accuracy over the class's images.

        References
        ----------
        Zhang et al., CVPR 2019, section 5. Departure: parts are the tree's, single nodes
        or a graph's parts.
        """
        chosen = checked_positive(positive, found)
        mine = found.take(chosen)
        if removed is None:
            truth = dict(zip(self.nodes, mine.contributions.T, strict=True))
        else:
            truth = {node: np.asarray(values)[chosen] for node, values in removed.items()}
        columns = [self._column(node) for node in truth]
        wanted = np.stack(list(truth.values()), axis=1)
        told = []
        for depth in dict.fromkeys(min(d, self.depth) for d in depths):
            predicted, parts = self._parts(mine, depth)
            used = sorted({path[-1] for path in self.route(mine, depth)})
            told.append(
                measured(
                    depth, [self.modes[k] for k in used], mine, predicted, parts, wanted, columns,
                    self._accuracy(found, chosen, depth),
                )
            )  # fmt: skip
        return told

    def _column(self, node: str) -> int:
        """Find a node, or a part by its id or title."""
        if node not in (*self.nodes, *self.called):
            raise ExplgraphError(
                f"removed names {node!r}, which the tree doesn't decide by"
                f"{nearest(node, self.called)}; see tree.nodes"
            )
        return (self.nodes if node in self.nodes else self.called).index(node)

    def _accuracy(self, found: Rationales, positive: NDArray[np.bool_], depth: int) -> float:
        """Share of images on the right side of the threshold that suits the fitted ones best."""
        known = self.predict(self.fitted, depth)
        threshold = best_threshold(known, self.positive)
        return float(((self.predict(found, depth) > threshold) == positive).mean())

    @property
    def nx(self) -> networkx.DiGraph:
        """The tree as a networkx graph.

        Nodes are the modes' numbers, with ``depth``, ``n_images``, ``bias``, ``names`` (of the
        images) and ``parts``: ``{node id, or part's title: mean contribution to the score over the
        mode's images}`` of those that count, the largest first. Edges run from coarse to fine.
        ``class_title``, ``doubts``, ``adds_up`` (what the mean score is made of) and ``told`` (what
        files call each node) are attributes of the whole.
        """
        told = self.fitted.told or self.called
        tree = networkx.DiGraph(
            class_title=self.fitted.class_title,
            told=dict(zip(self.called, told, strict=True)),
            doubts=list(self.doubts),
            adds_up=self.fitted.take(self.positive).adds_up,
        )
        names = self.fitted.take(self.positive).names
        for number, mode in enumerate(self.modes):
            tree.add_node(
                number,
                depth=len(self._ancestors(number)),
                n_images=len(mode.images),
                bias=mode.bias,
                names=[names[i] for i in mode.images],
                parts=self.parts_of(number),
            )
        tree.add_edges_from(
            (number, below) for number, mode in enumerate(self.modes) for below in mode.children
        )
        return tree

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the tree may be little worth, on the images that it was fitted to; often empty."""
        mine = self.fitted.take(self.positive)
        found = []
        usual = float(mine.scores.mean())
        added = float(mine.contributions.sum(1).mean())
        if abs(added) < _LITTLE * abs(usual):
            found.append(
                f"the nodes explain little: of the class's mean score of {usual:.3g} they add "
                f"{added:+.2g}"
            )
        missed = float(mine.rests.residual.mean())
        if abs(missed) > _LITTLE * abs(usual - float(mine.rests.without.mean())):
            found.append(
                f"what units of the layer add misses the score by {missed:+.2g}, for above it the "
                "network is far from linear; ask a higher layer"
            )
        varies = self.measure(self.fitted, self.positive, depths=(1,))[0].explained_variance
        if np.isnan(varies):
            found.append("all images of the class have one score, or it has one image; give dozens")
        elif varies < _HALF:
            found.append(
                f"the modes explain {max(varies, 0):.0%} of how the class's score varies between "
                "images: they say what images have in common, not how the score comes about"
            )
        return tuple(found)

    def parts_of(self, number: int) -> dict[str, float]:
        """Give the parts of a mode and their mean contributions over its images, largest first."""
        mode = self.modes[number]
        activations = self.fitted.activations[np.flatnonzero(self.positive)[list(mode.images)]]
        mean = mode.weights * over_mean(activations, self.unit).mean(0)
        order = np.argsort(-np.abs(mean), kind="stable").tolist()
        return {self.called[d]: float(mean[d]) for d in order if mean[d]}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of the tree to one file, which `load` opens.

        Raises
        ------
        ExplgraphError
            If the file can't be written.
        """
        tree_archive.write(path, self.fitted, self.positive, self.modes, self.unit, self.objective)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        measure: Callable[[AnyImages], Rationales] | None = None,
    ) -> DecisionTree:
        """Open a tree that `save` wrote.

        Parameters
        ----------
        path : path
        measure : callable, optional
            Gives the rationales of further images, as for `grow`: the file doesn't hold the
            model. Without it `explain` can't be used, only `explain_all`.

        Raises
        ------
        ExplgraphError
            If the file is missing, damaged or no tree.
        """
        return cls(*tree_archive.read(path), measure)

    def write(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write the tree: ``.html``, ``.dot``/``.gv`` or ``.json``; see `tree_files.write`."""
        found = self.fitted
        seen = None
        if found.places is not None:
            seen = tree_files.Seen(found.names, self.called, found.places, found.activations)
        tree_files.write(self.nx, path, seen=seen, **options)


_LITTLE = 0.25  # of the score: with less, the rest is the story
_HALF = 0.5  # of the score's variance: with less, most of what tells images apart lies elsewhere
