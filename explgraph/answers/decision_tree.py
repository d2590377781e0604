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
  node's activation counts within its place.
- Modes are compared by their images' contributions (gradient times activation), not by gradients:
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

from explgraph.answers.rationales import Rationales, rationales
from explgraph.errors import ExplgraphError
from explgraph.graph import ExplanatoryGraph
from explgraph.images import Images

__all__ = ["DecisionTree", "Explanation", "Measures", "Mode", "best_threshold", "sparse_fit"]

Array = NDArray[np.float64]
_TINY = 1e-12
_TOLERANCE = 1e-7  # of alpha, which is about 1 where a part contributes as usual
_ROUNDS = 1000  # of the solver, at most
ROOT = 0


@dataclass(frozen=True)
class Mode:
    """A way to decide for the class.

    Attributes
    ----------
    parent : int or None
        The mode's number above, None for the root.
    children : tuple of int
        Numbers of the finer modes that were merged; none for a single image.
    images : tuple of int
        Which of the class's images belong to it.
    direction : (V,) float64
        The contributions common to its images, of length 1.
    weights : (V,) float64
        What a node adds to the score per its mean activation; mostly 0.
    bias : float
        What the score is besides.
    """

    parent: int | None
    children: tuple[int, ...]
    images: tuple[int, ...]
    direction: Array = field(repr=False)
    weights: Array = field(repr=False)
    bias: float


class Explanation(NamedTuple):
    """Why an image got its score.

    Attributes
    ----------
    name : str
        The image's.
    path : tuple of int
        Modes from the root down to the one that explains.
    contributions : dict of str to float
        By part node, those that count, the largest first; in units of the score.
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


class Measures(NamedTuple):
    """How well the modes at one depth stand for the network.

    Attributes
    ----------
    depth : int
    modes : int
        That were used.
    parts : float
        Mean number of parts that one of them has.
    contribution_error : float
        Mean difference between a part's contribution by the mode and in truth, over the mean size
        of the score.
    fitness : float
        Overlap of the distributions of contributions over parts, the mode's and the image's own:
        ``sum_d min / sum_d max`` of their sizes, where signs differ 0; mean over images.
    accuracy : float
        Share of images, of the class or not, that a threshold on the predicted score puts on the
        right side; the threshold is the best one for the images that the tree was fitted to.
    prediction_error : float
        Mean difference between predicted score and score, over the range of scores.
    explained_variance : float
        Of the scores: 1 - mean squared error / variance.
    """

    depth: int
    modes: int
    parts: float
    contribution_error: float
    fitness: float
    accuracy: float
    prediction_error: float
    explained_variance: float


@dataclass(frozen=True, eq=False)
class DecisionTree:
    """Decision modes of a class, coarse to fine.

    Attributes
    ----------
    modes : tuple of Mode
        Number 0 is the root, one rationale for the whole class; its children are the decision
        modes.
    nodes : tuple of str
        Ids of the V part nodes.
    unit : (V,) float64
        A node's mean activation over the class's images; weights are per this.
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
    _measure: Callable[[Images], Rationales] | None = field(default=None, repr=False)

    @classmethod
    def fit(
        cls,
        model: nn.Module,
        graph: ExplanatoryGraph,
        images: Images,
        target: int,
        *,
        positive: Sequence[bool] | NDArray[np.bool_] | None = None,
        layer: str | None = None,
        beta: float = 1.0,
        sparsity: float = 0.03,
        batch_size: int = 16,
        device: str = "auto",
        progress: bool = False,
    ) -> DecisionTree:
        """Grow the tree of a class.

        Parameters
        ----------
        model, graph, images, target, layer, batch_size, device, progress
            As for `rationales`. The images show the class and others.
        positive : (N,) bool, optional
            Which images are of the class; by default those in which no other class has a higher
            score.
        beta : float
            What a mode costs, in units of log-likelihood; more gives fewer modes.
        sparsity : float
            Penalty of a mode's weights, as a share of the smallest one at which none is left;
            more gives fewer parts.

        Returns
        -------
        DecisionTree
            It keeps the model, to explain further images.

        Raises
        ------
        ExplgraphError
            As `rationales`, and if no image is of the class, or all are.

        References
        ----------
        Zhang et al., CVPR 2019; see the module for the departures.
        """

        def measure(some: Images) -> Rationales:
            return rationales(
                model,
                graph,
                some,
                target,
                layer=layer,
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
        measure: Callable[[Images], Rationales] | None = None,
    ) -> DecisionTree:
        """Grow the tree from rationales that were measured: see `fit`.

        ``measure`` gives the rationales of further images; without it `explain` can't be used.
        """
        chosen = _checked_positive(positive, found)
        if not beta >= 0:
            raise ExplgraphError(f"beta is {beta!r}; expected 0 or more")
        if not 0 <= sparsity < 1:
            raise ExplgraphError(f"sparsity is {sparsity!r}; expected 0 or more, less than 1")
        mine = found.take(chosen)
        unit = mine.activations.mean(0)
        merges, objective = merge_modes(found.contributions, chosen, beta)
        best = max(objective, key=lambda k: (objective[k], -k))
        parts = _Parts(_scaled(mine.activations, unit), mine, sparsity)
        modes = _tree(len(mine.names), merges[: len(mine.names) - best], parts)
        return cls(modes, found.nodes, unit, objective, found, chosen, measure)

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

    def explain(self, image: Images, *, depth: int = 1) -> Explanation:
        """Say why the network gave an image its score for the class.

        Parameters
        ----------
        image : (3, H, W) or (1, 3, H, W) tensor, or any `Images` of one
            Made ready as the network takes it.
        depth : int
            How far to go down: 0 is the root, 1 a decision mode; more is finer, at last a single
            image of those that the tree was fitted to.

        Returns
        -------
        Explanation

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

    def explain_all(self, found: Rationales, *, depth: int = 1) -> list[Explanation]:
        """Explain images whose rationales were measured: see `explain`."""
        paths = self.route(found, depth)
        explained = []
        for i, path in enumerate(paths):
            mode = self.modes[path[-1]]
            parts = mode.weights * _scaled(found.activations[i], self.unit)
            order = [d for d in np.argsort(-np.abs(parts), kind="stable").tolist() if parts[d]]
            score = float(found.scores[i])
            explained.append(
                Explanation(
                    found.names[i],
                    path,
                    {self.nodes[d]: float(parts[d]) for d in order},
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
        near = _unit(found.contributions) @ directions.T
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
        parts = weights * _scaled(found.activations, self.unit)
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
            For some nodes: by how much the score falls when the node is taken away in truth
            (``-explgraph.ablate(...).change[:, target]``), against which contributions are
            measured. Without it gradient times activation is the truth, and all nodes count.

        Returns
        -------
        list of Measures
            One for each depth; all but the accuracy over the class's images.

        References
        ----------
        Zhang et al., CVPR 2019, section 5. Departure: parts are single nodes.
        """
        chosen = _checked_positive(positive, found)
        mine = found.take(chosen)
        if removed is None:
            truth = dict(zip(self.nodes, mine.contributions.T, strict=True))
        else:
            truth = {node: np.asarray(values)[chosen] for node, values in removed.items()}
        columns = [self.nodes.index(node) for node in truth]
        wanted = np.stack(list(truth.values()), axis=1)
        measured = []
        for depth in dict.fromkeys(min(d, self.depth) for d in depths):
            predicted, parts = self._parts(mine, depth)
            used = {path[-1] for path in self.route(mine, depth)}
            missed = mine.scores - predicted
            measured.append(
                Measures(
                    depth,
                    len(used),
                    float(np.mean([(self.modes[k].weights != 0).sum() for k in used])),
                    float(np.abs(parts[:, columns] - wanted).mean() / np.abs(mine.scores).mean()),
                    float(_fitness(parts, mine.contributions).mean()),
                    self._accuracy(found, chosen, depth),
                    float(np.abs(missed).mean() / max(np.ptp(mine.scores), _TINY)),
                    float(1 - (missed**2).mean() / max(mine.scores.var(), _TINY)),
                )
            )
        return measured

    def _accuracy(self, found: Rationales, positive: NDArray[np.bool_], depth: int) -> float:
        """Share of images on the right side of the threshold that suits the fitted ones best."""
        known = self.predict(self.fitted, depth)
        threshold = best_threshold(known, self.positive)
        return float(((self.predict(found, depth) > threshold) == positive).mean())

    @property
    def nx(self) -> networkx.DiGraph:
        """The tree as a networkx graph.

        Nodes are the modes' numbers, with ``depth``, ``n_images``, ``bias``, ``names`` (of the
        images) and ``parts``: ``{node id: mean contribution to the score over the mode's images}``
        of those that count, the largest first. Edges run from coarse to fine.
        """
        tree = networkx.DiGraph()
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

    def parts_of(self, number: int) -> dict[str, float]:
        """Give the parts of a mode and their mean contributions over its images, largest first."""
        mode = self.modes[number]
        activations = self.fitted.activations[np.flatnonzero(self.positive)[list(mode.images)]]
        mean = mode.weights * _scaled(activations, self.unit).mean(0)
        order = np.argsort(-np.abs(mean), kind="stable").tolist()
        return {self.nodes[d]: float(mean[d]) for d in order if mean[d]}

    def write(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write the tree: ``.html``, ``.dot``/``.gv`` or ``.json``; see `tree_files.write`."""
        from explgraph.answers import tree_files

        tree_files.write(self, path, **options)


# ------------------------------------------------------------------------------------- growing


def _checked_positive(
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


def _unit(vectors: Array) -> Array:
    """Scale rows to length 1; rows of zeros stay."""
    scaled: Array = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _TINY)
    return scaled


def _scaled(activations: Array, unit: Array) -> Array:
    """Divide activations by each node's mean; nodes that are never there give 0."""
    return np.divide(activations, unit, out=np.zeros_like(activations), where=unit > _TINY)


def merge_modes(
    contributions: Array, positive: NDArray[np.bool_], beta: float
) -> tuple[list[tuple[int, int]], dict[int, float]]:
    """Merge modes until one is left.

    Parameters
    ----------
    contributions : (N, V)
        Of images of the class and of others.
    positive : (N,) bool
        The n images of the class.
    beta : float

    Returns
    -------
    merges : list of (int, int)
        Merge ``k`` makes mode ``n + k`` of these two; modes 0 to n - 1 are the images.
    objective : dict of int to float
        ``log E`` by number of modes.
    """
    n = int(positive.sum())
    size = np.linalg.norm(contributions, axis=1)
    r = _unit(contributions)
    gamma = 1 / max(float(size[positive].mean()), _TINY)

    def likelihood(nearness: Array) -> Array:
        """Sum of log P over the class's images, for each column of cosines (N, P)."""
        z = gamma * size[:, None] * nearness
        top = z.max(0)
        sums: Array = z[positive].sum(0) - n * (top + np.log(np.exp(z - top).sum(0)))
        return sums

    # modes are sums of rationales: what merging needs of them are products, which add up
    gram = r[positive] @ r[positive].T
    toward = r @ r[positive].T
    numbers = list(range(n))
    rows = np.arange(len(r))[:, None]
    nearness = toward / _lengths(gram)
    objective = {n: float(likelihood(nearness.max(1, keepdims=True))[0]) - beta * n}
    merges: list[tuple[int, int]] = []
    while len(numbers) > 1:
        first, second = _candidates(gram)
        square = gram[first, first] + gram[second, second] + 2 * gram[first, second]
        joined = (toward[:, first] + toward[:, second]) / np.sqrt(np.maximum(square, _TINY))
        # each image goes to the new mode, or to the nearest of those that stay
        others = np.full(joined.shape, -np.inf)
        for column in np.argsort(-nearness, axis=1, kind="stable")[:, :3].T[::-1, :, None]:
            stays = (column != first) & (column != second)
            others = np.where(stays, nearness[rows, column], others)
        outcome = likelihood(np.maximum(joined, others))
        k = int(outcome.argmax())
        u, v = int(first[k]), int(second[k])
        merges.append((numbers[u], numbers[v]))
        keep = [m for m in range(len(numbers)) if m not in (u, v)]
        numbers = [numbers[m] for m in keep] + [n + len(merges) - 1]
        row = gram[keep, u] + gram[keep, v]
        gram = np.block([[gram[np.ix_(keep, keep)], row[:, None]], [row[None], square[k]]])
        toward = np.column_stack([toward[:, keep], toward[:, u] + toward[:, v]])
        nearness = toward / _lengths(gram)
        objective[len(numbers)] = float(outcome[k]) - beta * len(numbers)
    return merges, objective


def _lengths(gram: Array) -> Array:
    """Give the lengths of vectors by their products."""
    lengths: Array = np.sqrt(np.maximum(np.diag(gram), _TINY))
    return lengths


def _candidates(gram: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair each mode with the one of nearest direction, every pair once."""
    length = _lengths(gram)
    near = gram / np.outer(length, length)
    np.fill_diagonal(near, -np.inf)
    pairs = np.sort(np.stack([np.arange(len(near)), near.argmax(1)], axis=1), axis=1)
    first, second = np.unique(pairs, axis=0).T
    return first, second


class _Parts(NamedTuple):
    """What the sparse rationale of a mode is fitted to.

    Attributes
    ----------
    x : (n, V)
        Activations over their means.
    mine : Rationales
        Of the class's n images.
    sparsity : float
    """

    x: Array
    mine: Rationales
    sparsity: float

    def fit(self, images: Sequence[int]) -> tuple[Array, Array, float]:
        """Give a mode's direction, weights and bias."""
        here = list(images)
        mine = self.mine.take(here)
        direction = _unit(_unit(mine.contributions).sum(0))
        bias = float(mine.rest.mean())
        usual = _scaled(mine.contributions.mean(0), self.x[here].mean(0))
        task = self.x[here] * usual, mine.contributions, mine.scores - bias
        chosen = np.flatnonzero(sparse_fit(*task, self.sparsity))
        alpha = np.zeros_like(usual)
        # once chosen, parts are fitted again without the penalty, which made all of them small
        alpha[chosen] = sparse_fit(task[0][:, chosen], task[1][:, chosen], task[2], 0.0)
        return direction, alpha * usual, bias


def sparse_fit(z: Array, parts: Array, total: Array, sparsity: float) -> Array:
    """Fit few parts to a total and to what each of them should be.

    Finds the ``alpha >= 0`` that minimises the mean over rows of
    ``(sum_d alpha_d z_d - total)^2 + sum_d (alpha_d z_d - parts_d)^2``, plus
    ``penalty * sum_d alpha_d``.

    Parameters
    ----------
    z, parts : (n, V)
    total : (n,)
    sparsity : float
        The penalty as a share of the smallest one at which all of alpha is 0.

    Returns
    -------
    (V,) float64

    Notes
    -----
    Coordinate descent over a working set: the parts that aren't 0, and those that would rise.
    """
    n, v = z.shape
    own = (z**2).mean(0)
    slope = 2 / n * z.T @ total + 2 * (z * parts).mean(0)
    penalty = sparsity * slope.max(initial=0.0)
    alpha = np.zeros(v)
    for _ in range(_ROUNDS):
        gradient = 2 / n * z.T @ (z @ alpha) + 2 * own * alpha - slope + penalty
        working = np.flatnonzero(((alpha > 0) | (gradient < 0)) & (own > _TINY))
        some = z[:, working]
        curve = 2 / n * some.T @ some + 2 * np.diag(own[working])
        new = _descend(alpha[working], gradient[working], curve)
        moved = np.abs(new - alpha[working]).max(initial=0.0)
        alpha[working] = new
        if moved <= _TOLERANCE:
            break
    return alpha


def _descend(alpha: Array, gradient: Array, curve: Array) -> Array:
    """Minimise a quadratic over ``alpha >= 0``, one alpha at a time, from where its slope is."""
    alpha, gradient = alpha.copy(), gradient.copy()
    steep = np.diag(curve)
    for _ in range(_ROUNDS):
        moved = 0.0
        for d in range(len(alpha)):
            step = max(-gradient[d] / steep[d], -alpha[d])
            if step:
                alpha[d] += step
                gradient += step * curve[d]
                moved = max(moved, abs(step))
        if moved <= _TOLERANCE:
            break
    return alpha


def _tree(n: int, merges: Sequence[tuple[int, int]], parts: _Parts) -> tuple[Mode, ...]:
    """Make the tree of the first merges of n images: the root, then coarse to fine."""
    children: dict[int, tuple[int, ...]] = {n + k: pair for k, pair in enumerate(merges)}
    images: dict[int, tuple[int, ...]] = {i: (i,) for i in range(n)}
    for number, (first, second) in children.items():
        images[number] = tuple(sorted(images[first] + images[second]))
    merged = {number for pair in merges for number in pair}
    top = sorted((k for k in images if k not in merged), key=lambda k: (-len(images[k]), k))
    # numbers in the order of levels, so that a parent comes before its children
    order: list[tuple[int, int]] = []
    level = [(number, ROOT) for number in top]
    while level:
        begin = len(order) + 1
        order += level
        level = [
            (below, begin + k)
            for k, (number, _) in enumerate(level)
            for below in sorted(children.get(number, ()), key=lambda m: (-len(images[m]), m))
        ]
    renumbered = {number: k + 1 for k, (number, _) in enumerate(order)}
    everything = tuple(range(n))
    modes = [Mode(None, tuple(renumbered[k] for k in top), everything, *parts.fit(everything))]
    modes += [
        Mode(
            parent,
            tuple(sorted(renumbered[m] for m in children.get(number, ()))),
            images[number],
            *parts.fit(images[number]),
        )
        for number, parent in order
    ]
    return tuple(modes)


# ------------------------------------------------------------------------------------ measuring


def _fitness(estimated: Array, truth: Array) -> Array:
    """Overlap of two distributions of contributions over parts, for each image, (N,)."""
    size = np.abs(truth)
    same = np.maximum(estimated * np.sign(truth), 0)
    overlap: Array = np.minimum(same, size).sum(1) / np.maximum(
        np.maximum(same, size).sum(1), _TINY
    )
    return overlap


def best_threshold(values: Array, positive: NDArray[np.bool_]) -> float:
    """Find the threshold above which most of the positive, and few of the others, lie."""
    order = np.sort(values)
    cuts = np.concatenate([[order[0] - 1], (order[1:] + order[:-1]) / 2, [order[-1] + 1]])
    right = [((values > cut) == positive).mean() for cut in cuts]
    return float(cuts[int(np.argmax(right))])
