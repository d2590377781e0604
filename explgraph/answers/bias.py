"""Biased representations: attributes whose evidence rests on other attributes.

What follows is for attributes that people have labelled; for biases that nobody has thought of see
`hidden_bias`.

A network that saw boots nearly always together with horns may tell boots by horns, and images with
the same bias can't show it by their accuracy. `find_bias` looks for such *relations*, from a
*source* attribute to a *target* attribute:

1. Each image's outputs are regressed on all labels at once. The coefficient of the source's label
   is the relation's *effect*: by how much the source's presence moves the target's output while
   the target itself and all other labels stay as they are. An effect counts in units of the
   network's usual own effect (root mean square over attributes): its *strength*.
2. A relation is suspicious if its strength differs from what people expect, by default none, by
   more than a margin, for small dependences are in every network. Residuals of the regression are
   permuted for p-values, Benjamini and Hochberg's procedure over all relations keeps the share of
   false ones.
3. An output is what the nodes of a layer add up to (`evidence`) and a rest. The same regression of
   each node's evidence splits the effect among nodes, and so tells on which it sits, and whether
   these lie at the part that defines the target, at that of the source, or elsewhere.
4. An image is likely to be misjudged where the network's answer isn't what its outputs say
   together once attributes are taken to be independent (`reading`); this needs no labels
   (`Bias.judge`).

References
----------
Zhang, Wang, Zhu: Examining CNN Representations With Respect to Dataset Bias, AAAI 2018 (arXiv
1710.10577). Its idea is kept: attributes' inference patterns imply relations, to be compared with
those that people expect. Departures: the paper compares two attributes' patterns by their cosine,
which has no direction and no null distribution (given here as `Relation.similarity`), picks its
patterns by sparse masks, and calls pairs suspicious by their rank in KL divergence to relations
that people annotated; here a pattern is the nodes' evidence, relations have a direction and a
size in the output's unit, and a significance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from explgraph.answers.evidence import Evidence, node_evidence, output_count
from explgraph.answers.hidden_bias import MARGIN, find_suspicions
from explgraph.answers.judged import judge
from explgraph.answers.reading import fit_reading
from explgraph.answers.relations import Bias, Relation, check_name
from explgraph.answers.significance import permutation_p, regression_weights
from explgraph.answers.suspicions import Suspicions
from explgraph.errors import ExplgraphError, nearest, warn
from explgraph.explaining.by_part import By, Members, check_by
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.graph import check_graph
from explgraph.images.batches import AnyImages
from explgraph.images.taken import taken
from explgraph.network.forward import fingerprint
from explgraph.network.hooks import check_model
from explgraph.network.outputs import Outputs
from explgraph.progress import Shown

__all__ = ["find_bias"]

Array = NDArray[np.float64]

_MARGIN = 0.2  # of the usual strength: small dependences are in every network


@overload
def find_bias(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    attributes: Mapping[str, ArrayLike],
    *,
    columns: Mapping[str, int] | None = None,
    expected: Mapping[tuple[str, str], int] | None = None,
    landmarks: Mapping[str, ArrayLike] | None = None,
    parts: Mapping[str, str] | None = None,
    radius: float | None = None,
    layer: str | None = None,
    by: By = "node",
    margin: float | None = None,
    fdr: float = 0.05,
    permutations: int = 9999,
    seed: int = 0,
    outputs: Outputs | None = None,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> Bias: ...
@overload
def find_bias(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    attributes: None = None,
    *,
    classes: ArrayLike | Sequence[str] | None = None,
    target: int | str | Sequence[int | str] | None = None,
    layer: str | None = None,
    margin: float | None = None,
    fdr: float = 0.05,
    seed: int = 0,
    outputs: Outputs | None = None,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> Suspicions: ...
def find_bias(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    attributes: Mapping[str, ArrayLike] | None = None,
    *,
    classes: ArrayLike | Sequence[str] | None = None,
    target: int | str | Sequence[int | str] | None = None,
    columns: Mapping[str, int] | None = None,
    expected: Mapping[tuple[str, str], int] | None = None,
    landmarks: Mapping[str, ArrayLike] | None = None,
    parts: Mapping[str, str] | None = None,
    radius: float | None = None,
    layer: str | None = None,
    by: By = "node",
    margin: float | None = None,
    fdr: float = 0.05,
    permutations: int = 9999,
    seed: int = 0,
    outputs: Outputs | None = None,
    batch_size: int = 32,
    device: str = "auto",
    progress: Shown = None,
) -> Suspicions | Bias:
    """Find attributes that the network tells by other attributes.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode; its output is ``(N, scores)`` logits, above 0 where the answer is yes.
        Of a softmax over classes, let `outputs` give ``log p - log(1 - p)``.
    graph : ExplanatoryGraph
        Mined on this model.
    images : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
        Labelled images, for instance some that the network was trained on: they may have the same
        bias, as long as each attribute is sometimes seen without the others. A few hundred.
    attributes : mapping of str to (N,) bool, optional
        Labels. Of classes that exclude each other and leave no other choice, leave one out.
        Without, `find_suspicions` looks for biases that nobody has named, and takes `classes`,
        `target` and those of the options below that it has.
    classes : (N,) int or str, optional
        Each image's class; without `attributes` only.
    target : int, str, or sequence of these, optional
        Classes that are examined; without `attributes` only.
    columns : mapping of str to int, optional
        Each attribute's column of the model's output; by default columns in the attributes' order,
        if they are as many.
    expected : mapping of (str, str) to int, optional
        ``{(target, source): 1}`` if it is right that the source speaks for the target, -1 against
        it. All other relations are expected not to be.
    landmarks : mapping of str to (N, 2) float, optional
        Where parts are, px; NaN = unmarked or absent. See `parts`.
    parts : mapping of str to str, optional
        The part that defines an attribute, a name in `landmarks`.
    radius : float, optional
        How near to a part's landmark a node lies *at* the part, px; a tenth of the image's
        diagonal by default.
    layer : str, optional
        The layer of the graph whose nodes are asked; by default the top one.
    by : "node" or "part"
        With "part" the result names parts in place of nodes: what is said of a part is the sum
        over its nodes in the layer. Relations themselves are the same.
    margin : float, optional
        Strengths up to this are no reason for suspicion; 0.2 by default. Without `attributes`
        that of `find_suspicions`, and its default.
    fdr : float
        Share of false ones among the suspicious relations that is put up with.
    permutations : int
        How many; p-values are at least 1 / (permutations + 1).
    seed : int
        Of the permutations.
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
    Bias
        Without `attributes`: `Suspicions`.

    Raises
    ------
    ExplgraphError
        If an option is for attributes and there are none, or the other way round; the graph is
        another model's; labels have the wrong length, aren't yes or no, don't vary
        or can be told from the others; a name is unknown; an option is out of range; no node of
        the layer belongs to a part.

    Warns
    -----
    ExplgraphWarning
        If an attribute's own effect is below the margin: it wasn't learnt.

    References
    ----------
    AAAI 2018; see the module for what departs from it. Permutation of the full model's residuals:
    ter Braak 1992. False discovery rate: Benjamini and Hochberg 1995.
    """
    if attributes is None:
        for_attributes = {
            "columns": columns, "expected": expected, "landmarks": landmarks, "parts": parts,
            "radius": radius,
        }  # fmt: skip
        if needless := [name for name, value in for_attributes.items() if value is not None]:
            raise ExplgraphError(
                f"{needless[0]} is for attributes, and none are given; give attributes=, or leave "
                f"{needless[0]} out to look for biases without labels"
            )
        return find_suspicions(
            model, graph, images, classes, target=target, layer=layer,
            margin=MARGIN if margin is None else margin, fdr=fdr,
            seed=seed, outputs=outputs, batch_size=batch_size, device=device, progress=progress,
        )  # fmt: skip
    if classes is not None or target is not None:
        raise ExplgraphError(
            f"{'classes' if classes is not None else 'target'} is for biases that nobody has "
            "named; leave it out, or leave attributes out"
        )
    margin = _MARGIN if margin is None else margin
    check_graph(graph)
    check_by(by)
    check_model(model)
    images = taken(images, graph.nx.graph["preprocessing"])
    from scipy.stats import false_discovery_control  # takes a second to import

    names = tuple(attributes)
    labels = _labels(attributes)
    weights = regression_weights(labels, names)
    chosen = _columns(names, columns, model, images, outputs, device)
    wanted = _expected(names, expected or {})
    marks = _marks(names, landmarks or {}, parts or {}, len(labels))
    radius = 0.1 * float(np.hypot(*graph.image_size)) if radius is None else radius
    _check_numbers(margin, fdr, permutations, radius)
    found = node_evidence(
        model, graph, images, chosen,
        layer=layer, outputs=outputs, batch_size=batch_size, device=device, progress=progress,
    )  # fmt: skip
    if len(found.names) != len(labels):
        raise ExplgraphError(
            f"attributes hold {len(labels)} labels each, but there are {len(found.names)} images"
        )
    given = found.outputs.astype(np.float64)
    if still := [name for name, z in zip(names, np.ptp(given, axis=0), strict=True) if z == 0]:
        raise ExplgraphError(
            f"the output of {still[0]!r} is the same for all images; check columns and the model"
        )
    effects = (weights @ given).T  # [target, source], as all below
    own = np.diag(effects).copy()
    usual = float(np.sqrt(np.mean(own**2)))
    if unlearnt := [
        name for name, effect in zip(names, own, strict=True) if abs(effect) < margin * usual
    ]:
        warn(
            f"the network hardly tells {', '.join(unlearnt)} at all; relations with it as the "
            "target say little"
        )
    p = permutation_p(
        given, labels, weights, wanted, margin * usual, permutations=permutations, seed=seed
    )
    node_effects = np.einsum("sn,ntv->tsv", weights, found.values, optimize=True)
    at = _shares_at(marks, radius, found, weights, node_effects)
    similarity = _cosines(_patterns(found, labels))
    cooccurrence = np.asarray(np.corrcoef(labels.T))
    pairs = [(t, s) for t in range(len(names)) for s in range(len(names)) if t != s]
    q = false_discovery_control([p[pair] for pair in pairs])
    relations = [
        Relation(
            target=names[t],
            source=names[s],
            effect=float(effects[t, s]),
            strength=float(effects[t, s]) / usual,
            similarity=float(similarity[t, s]),
            cooccurrence=float(cooccurrence[t, s]),
            expected=int(wanted[t, s]),
            p=float(p[t, s]),
            q=corrected,
            kind=("missing" if wanted[t, s] else "unexpected") if corrected <= fdr else "",
            at_target=float(at[t, s, t]),
            at_source=float(at[t, s, s]),
        )
        for (t, s), corrected in zip(pairs, q.tolist(), strict=True)
    ]
    relations.sort(key=lambda r: (r.q, -abs(r.strength)))
    members = None if by == "node" else Members.of(graph, found.nodes)
    reading = fit_reading(given, labels, effects)
    biased = {relation.target for relation in relations if relation.kind == "unexpected"}
    return Bias(
        attributes=names,
        relations=tuple(relations),
        own_effects=own,
        own_at_part=np.einsum("ttt->t", at).copy(),
        nodes=found.nodes if members is None else members.ids,
        node_effects=node_effects if members is None else members.sum(node_effects),
        judged=judge(names, found.names, given, reading, biased),
        _model=fingerprint(model),
        _columns=chosen,
        _image_size=graph.image_size,
        _reading=reading,
        _ready=graph.nx.graph["preprocessing"],
        titles=() if members is None else members.titles,
        _with_outputs=outputs is not None,
    )


# ------------------------------------------------------------------------------------ the arguments


def _labels(attributes: Mapping[str, ArrayLike]) -> NDArray[np.bool_]:
    """Check the labels and stack them: (N, A)."""
    if not isinstance(attributes, Mapping):
        raise ExplgraphError(
            "attributes must be a mapping of names to (N,) of true and false, got "
            f"{type(attributes).__name__}"
        )
    if len(attributes) < 2:
        raise ExplgraphError(f"attributes must be at least two, got {len(attributes)}")
    columns: list[NDArray[np.bool_]] = []
    for name, values in attributes.items():
        label = np.asarray(values)
        if label.ndim != 1 or not np.isin(label, (0, 1)).all():
            raise ExplgraphError(
                f"attribute {name!r} must be (N,) of true and false (or 1 and 0), got "
                f"{label.dtype} of the shape {label.shape}"
            )
        if columns and len(label) != len(columns[0]):
            raise ExplgraphError(
                f"attribute {name!r} has {len(label)} labels, those before it {len(columns[0])}"
            )
        if len(set(label.tolist())) < 2:
            raise ExplgraphError(
                f"attribute {name!r} doesn't vary: it is the same in all {len(label)} images; add "
                "images that differ in it, or leave it out"
            )
        columns.append(label.astype(bool))
    return np.stack(columns, axis=1)


def _columns(
    names: tuple[str, ...],
    columns: Mapping[str, int] | None,
    model: nn.Module,
    images: AnyImages,
    outputs: Outputs | None,
    device: str,
) -> tuple[int, ...]:
    """Find each attribute's column of the model's output."""
    if columns is None:
        given = output_count(model, images, outputs=outputs, device=device)
        if given != len(names):
            raise ExplgraphError(
                f"the model gives {given} outputs for {len(names)} attributes; say which is whose: "
                "columns={attribute: column}"
            )
        return tuple(range(given))
    if not isinstance(columns, Mapping):
        raise ExplgraphError(
            "columns must map each attribute to a column of the model's output, got "
            f"{type(columns).__name__}"
        )
    for name in columns:
        check_name(name, names, "columns")
    missing = [name for name in names if name not in columns]
    if missing:
        raise ExplgraphError(f"columns lacks the column of attribute {missing[0]!r}")
    for name, column in columns.items():
        if not isinstance(column, Integral):
            raise ExplgraphError(f"columns of {name!r} must be a column's number, got {column!r}")
    return tuple(int(columns[name]) for name in names)


def _expected(names: tuple[str, ...], expected: Mapping[tuple[str, str], int]) -> NDArray[np.int64]:
    """Make a matrix [target, source] of what people expect."""
    matrix = np.zeros((len(names), len(names)), np.int64)
    for pair, sign in expected.items():
        if not isinstance(pair, tuple) or len(pair) != 2 or pair[0] == pair[1]:
            raise ExplgraphError(
                f"expected must map (target, source), two different attributes, got {pair!r}"
            )
        for name in pair:
            check_name(name, names, "expected")
        if sign not in (-1, 0, 1):
            raise ExplgraphError(
                f"expected of {pair[0]!r} from {pair[1]!r} must be 1, -1 or 0, got {sign!r}"
            )
        matrix[names.index(pair[0]), names.index(pair[1])] = sign
    return matrix


def _marks(
    names: tuple[str, ...],
    landmarks: Mapping[str, ArrayLike],
    parts: Mapping[str, str],
    n: int,
) -> Array:
    """Place of each attribute's part: (N, A, 2) px, NaN where it isn't marked or not known."""
    marks = np.full((n, len(names), 2), np.nan)
    for name, part in parts.items():
        check_name(name, names, "parts")
        if part not in landmarks:
            raise ExplgraphError(
                f"parts says that {part!r} defines {name!r}, but landmarks has no such part"
                f"{nearest(part, landmarks) or '; it has ' + (', '.join(landmarks) or 'none')}"
            )
        places = np.asarray(landmarks[part], dtype=np.float64)
        if places.shape != (n, 2):
            raise ExplgraphError(
                f"landmarks of {part!r} must be ({n}, 2), one [x, y] for each label, got "
                f"{places.shape}"
            )
        marks[:, names.index(name)] = places
    return marks


def _check_numbers(margin: float, fdr: float, permutations: int, radius: float) -> None:
    """Refuse options that are out of range."""
    for option, value, low, high in (
        ("margin", margin, 0.0, np.inf),
        ("fdr", fdr, 0.0, 1.0),
        ("permutations", permutations, 1, np.inf),
        ("radius", radius, 0.0, np.inf),
    ):
        if not low <= value <= high:
            raise ExplgraphError(f"{option} must be from {low:g} to {high:g}, got {value!r}")
    if not isinstance(permutations, Integral):
        raise ExplgraphError(f"permutations must be a whole number, got {permutations!r}")


def _patterns(found: Evidence, labels: NDArray[np.bool_]) -> Array:
    """Give attributes' inference patterns (A, V): mean evidence with, less without, them."""
    present = labels / labels.sum(axis=0) - ~labels / (~labels).sum(axis=0)
    patterns: Array = np.einsum("nt,ntv->tv", present, found.values, optimize=True)
    return patterns


def _cosines(patterns: Array) -> Array:
    """Cosine of each two rows (A, V): (A, A), 0 where a row is 0."""
    norm = np.linalg.norm(patterns, axis=1, keepdims=True)
    unit = np.divide(patterns, norm, out=np.zeros_like(patterns), where=norm > 0)
    cosines: Array = unit @ unit.T
    return cosines


def _shares_at(
    marks: Array, radius: float, found: Evidence, weights: Array, node_effects: Array
) -> Array:
    """Share of each effect on nodes at each attribute's part: [target, source, attribute]."""
    inside = np.empty((*node_effects.shape[:2], marks.shape[1]))
    for k in range(marks.shape[1]):
        distance = np.linalg.norm(marks[:, k, None] - found.positions, axis=-1)
        near = distance <= radius  # unmarked: nowhere
        inside[:, :, k] = (weights @ np.einsum("ntv,nv->nt", found.values, near)).T
    whole = node_effects.sum(axis=2)[:, :, None]
    shares: Array = np.divide(inside, whole, out=np.full_like(inside, np.nan), where=whole != 0)
    shares[:, :, np.isnan(marks).all(axis=(0, 2))] = np.nan
    return shares
