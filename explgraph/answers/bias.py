"""Biased representations: attributes whose evidence rests on other attributes.

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

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from numbers import Integral
from typing import Any, NamedTuple, get_type_hints

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from explgraph import archive, rows
from explgraph.answers.evidence import Evidence, model_outputs, node_evidence, output_count
from explgraph.answers.reading import Reading, fit_reading, probability
from explgraph.answers.significance import permutation_p, regression_weights
from explgraph.atomic import atomic_write
from explgraph.errors import ExplgraphError, ExplgraphWarning, nearest
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.graph import check_graph
from explgraph.images.batches import AnyImages
from explgraph.network.forward import fingerprint
from explgraph.network.hooks import check_model
from explgraph.suffixes import REPORTS, check_suffix

__all__ = ["Bias", "Judged", "Judgement", "Relation", "find_bias"]

Array = NDArray[np.float64]


class Relation(NamedTuple):
    """How a target attribute's output depends on a source attribute.

    Attributes
    ----------
    target, source : str
        Attributes; the source's presence moves the target's output.
    effect : float
        By how much, in the output's unit (logits), all other labels being equal.
    strength : float
        The same as a share of the network's usual own effect.
    similarity : float
        Cosine of the two attributes' inference patterns, in [-1, 1]: each node's evidence where
        the attribute is there less where it isn't.
    cooccurrence : float
        Correlation of the two labels in the data (phi), in [-1, 1].
    expected : int
        What people expect: 1 that the source speaks for the target, -1 against it, 0 neither.
    p, q : float
        Probability of such a departure from what is expected by chance; the same, corrected for
        the number of relations.
    kind : str
        "unexpected", or "missing" where something was expected, if it is suspicious; else "".
    at_target, at_source : float
        Share of the effect that lies on nodes at the part that defines the target, or the source;
        NaN where the part isn't marked.
    """

    target: str
    source: str
    effect: float
    strength: float
    similarity: float
    cooccurrence: float
    expected: int
    p: float
    q: float
    kind: str
    at_target: float
    at_source: float


class Judgement(NamedTuple):
    """An answer that is in doubt.

    Attributes
    ----------
    image, attribute : str
    answer : bool
        The network's.
    risk : float
        In [0, 1]: the probability that it is wrong.
    """

    image: str
    attribute: str
    answer: bool
    risk: float


@dataclass(frozen=True, eq=False)
class Judged:
    """How far to trust the network's answers for some images.

    Attributes
    ----------
    names : tuple of str
        Of the N images.
    attributes : tuple of str
        A of them.
    biased : tuple of str
        Those that are the target of an unexpected relation.
    outputs : (N, A) float64
        The network's, in logits; above 0 it answers yes.
    corrected : (N, A) float64
        Log-odds of each attribute by all of the outputs, if attributes have nothing to do with
        each other (`reading`).
    risk : (N, A) float64
        In [0, 1]: the probability, by `corrected`, that the network's answer is wrong.
    """

    names: tuple[str, ...]
    attributes: tuple[str, ...]
    biased: tuple[str, ...]
    outputs: Array
    corrected: Array
    risk: Array

    @property
    def image_risk(self) -> Array:
        """How likely some answer about a biased attribute is wrong, by image, ``(N,)`` in [0, 1].

        As if answers went wrong independently: ``1 - prod (1 - risk)``.
        """
        _, risk = self._of_biased()
        probability: Array = 1 - np.prod(1 - risk, axis=1)
        return probability

    def worst(self, most: int = 20) -> list[Judgement]:
        """Give the answers about biased attributes that are most likely wrong, worst first."""
        columns, risk = self._of_biased()
        order = np.argsort(-risk, axis=None, kind="stable")[:most]
        return [
            Judgement(
                self.names[n],
                self.biased[k],
                bool(self.outputs[n, columns[k]] > 0),
                float(risk[n, k]),
            )
            for n, k in zip(*np.unravel_index(order, risk.shape), strict=True)
        ]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a row for each image and attribute: ``.csv``, ``.json`` or ``.parquet``.

        Columns are ``image``, ``attribute``, ``biased``, ``output``, ``corrected`` and ``risk``.

        Raises
        ------
        ExplgraphError
            If the suffix isn't known, the file can't be written, or it is a .parquet and pandas
            and pyarrow aren't there.
        """
        biased = [name in self.biased for name in self.attributes]
        values = {
            "biased": np.tile(biased, (len(self.names), 1)),
            "output": self.outputs,
            "corrected": self.corrected,
            "risk": self.risk,
        }
        rows.write(path, rows.grid(("image", self.names), ("attribute", self.attributes), values))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Judged:
        """Read what `write` wrote.

        Raises
        ------
        ExplgraphError
            If the file can't be read or isn't such a table.
        """
        kinds = {"biased": bool, "output": float, "corrected": float, "risk": float}
        names, attributes, table = rows.read_grid(path, ("image", str), ("attribute", str), kinds)
        flags, risk = table.pop("biased"), table["risk"]
        if (flags != flags[0]).any() or (risk < 0).any() or (risk > 1).any():
            raise ExplgraphError(
                f"path {str(path)!r} holds a risk that isn't from 0 to 1, or an attribute that is "
                "biased in some images only; expected what Judged.write writes"
            )
        biased = tuple(name for name, flag in zip(attributes, flags[0], strict=True) if flag)
        return cls(names, attributes, biased, *table.values())

    def _of_biased(self) -> tuple[list[int], Array]:
        """Columns of the biased attributes, and the risk there."""
        columns = [self.attributes.index(name) for name in self.biased]
        return columns, self.risk[:, columns]


@dataclass(frozen=True, eq=False)
class Bias:
    """What `find_bias` found.

    Attributes
    ----------
    attributes : tuple of str
        A of them.
    relations : tuple of Relation
        All A (A - 1), the most suspicious first.
    own_effects : (A,) float64
        By how much an attribute's presence moves its own output. Near 0: it wasn't learnt.
    own_at_part : (A,) float64
        Share of that which lies on nodes at the attribute's part; NaN where it isn't marked.
    nodes : tuple of str
        Ids of the layer's V nodes.
    node_effects : (A, A, V) float64
        ``[target, source, node]``: the node's part in each effect; the diagonal holds the own
        effects'.
    judged : Judged
        The images that were given.
    """

    attributes: tuple[str, ...]
    relations: tuple[Relation, ...]
    own_effects: Array
    own_at_part: Array
    nodes: tuple[str, ...]
    node_effects: Array
    judged: Judged
    _model: str = field(repr=False)
    _outputs: tuple[int, ...] = field(repr=False)
    _image_size: tuple[int, int] = field(repr=False)
    _reading: Reading = field(repr=False)

    @property
    def suspicious(self) -> tuple[Relation, ...]:
        """The relations that are significantly unlike what people expect."""
        return tuple(relation for relation in self.relations if relation.kind)

    def where(self, target: str, source: str, most: int = 10) -> list[tuple[str, float]]:
        """Name the nodes that carry most of a relation, with their part of its effect."""
        effects = self.node_effects[self._index(target), self._index(source)]
        order = np.argsort(-np.abs(effects), kind="stable")[:most]
        return [(self.nodes[v], float(effects[v])) for v in order]

    def judge(
        self,
        model: nn.Module,
        images: AnyImages,
        *,
        batch_size: int = 32,
        device: str = "auto",
        progress: bool = False,
    ) -> Judged:
        """Tell which answers for new images are likely to be wrong because of the bias.

        No labels are needed.

        Parameters
        ----------
        model : torch.nn.Module
            The one that was examined.
        images : ImageFolder, (N, 3, H, W) tensor, Dataset or DataLoader
        batch_size : int
        device : str
            Where the model runs.
        progress : bool
            Show a bar on a terminal.

        Returns
        -------
        Judged

        Raises
        ------
        ExplgraphError
            If it is another model, or the images don't fit it.
        """
        if fingerprint(model) != self._model:
            raise ExplgraphError(
                "the bias was found in a model with other weights; look for it in this one first"
            )
        names, given = model_outputs(
            model, images, self._outputs,
            image_size=self._image_size, batch_size=batch_size, device=device, progress=progress,
        )  # fmt: skip
        return _judge(
            self.attributes, names, given.astype(np.float64), self._reading, self.suspicious
        )

    def markdown(self, most: int = 20) -> str:
        """Give the first relations as a Markdown table."""
        head = (
            "| target | source | strength | effect | similarity | co-occurrence | expected | q "
            "| at target | at source | |\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|"
        )
        rows = [
            f"| {r.target} | {r.source} | {r.strength:+.2f} | {r.effect:+.2f} "
            f"| {r.similarity:+.2f} | {r.cooccurrence:+.2f} | {r.expected:+d} | {r.q:.4f} "
            f"| {_percent(r.at_target)} | {_percent(r.at_source)} | {r.kind} |"
            for r in self.relations[:most]
        ]
        return "\n".join([head, *rows])

    def report(self, judged: Judged | None = None) -> str:
        """Give the first relations and the most doubtful answers in Markdown.

        Parameters
        ----------
        judged : Judged, optional
            Whose answers; by default those for the images that were given.
        """
        doubtful = (judged or self.judged).worst()
        if not doubtful:
            return f"{self.markdown()}\n"
        lines = [
            f"| {d.image} | {d.attribute} | {'yes' if d.answer else 'no'} | {d.risk:.2f} |"
            for d in doubtful
        ]
        head = "| image | attribute | the network's answer | risk |\n|---|---|---|---:|"
        told = ["\nAnswers that are most likely wrong:\n", head, *lines, ""]
        return f"{self.markdown()}\n" + "\n".join(told)

    def write(self, path: str | os.PathLike[str], *, judged: Judged | None = None) -> None:
        """Write what was found, for people and other programs; `save` keeps everything.

        Parameters
        ----------
        path : path
            ``.md`` (the `report`), ``.json`` (all relations, answers and images' risks), or
            ``.csv`` or ``.parquet`` (all relations; `Judged.write` writes the answers).
        judged : Judged, optional
            Whose answers; by default those for the images that were given.

        Raises
        ------
        ExplgraphError
            If the suffix isn't known, the file can't be written, or it is a .parquet and pandas
            and pyarrow aren't there.
        """
        suffix = check_suffix(path, REPORTS)
        judged = judged or self.judged
        if suffix in (".csv", ".parquet"):
            rows.write(path, rows.columns_of([r._asdict() for r in self.relations]))
            return
        if suffix == ".md":
            text = self.report(judged)
        else:
            content = {
                "relations": rows.finite([r._asdict() for r in self.relations]),
                "answers": [d._asdict() for d in judged.worst(judged.risk.size)],
                "images": dict(zip(judged.names, judged.image_risk.round(6).tolist(), strict=True)),
            }
            text = json.dumps(content, indent=1) + "\n"
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it to one file, which `load` opens.

        Raises
        ------
        ExplgraphError
            If the file can't be written.
        """
        content = {
            "attributes": self.attributes,
            "relations": rows.finite([r._asdict() for r in self.relations]),
            "nodes": self.nodes,
            "judged": {"names": self.judged.names, "biased": self.judged.biased},
            "model": self._model,
            "outputs": self._outputs,
            "image_size": self._image_size,
        }
        own = ("own_effects", "own_at_part", "node_effects")
        arrays = {name: getattr(self, name) for name in own} | self._reading._asdict()
        arrays |= {name: getattr(self.judged, name) for name in ("outputs", "corrected", "risk")}
        archive.write(_FORMAT, path, content, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Bias:
        """Open what `save` wrote.

        Raises
        ------
        ExplgraphError
            If the file is missing, damaged or no bias.
        """
        return archive.read(_FORMAT, path, _build)

    def _index(self, attribute: str) -> int:
        _check_name(attribute, self.attributes, "where")
        return self.attributes.index(attribute)


_FORMAT = archive.Format("explgraph bias", 1, "a bias", "bias", "bias.json", again="find")


def _build(content: Any, given: dict[str, Any]) -> Bias:
    """Make a bias of what a file holds, and check it."""
    arrays, check = archive.Arrays(given), archive.check
    names = archive.texts(content["attributes"], "attributes")
    nodes = archive.texts(content["nodes"], "nodes")
    biased = archive.texts(content["judged"]["biased"], "biased")
    images, model = tuple(content["judged"]["names"]), content["model"]
    outputs, size = tuple(content["outputs"]), tuple(content["image_size"])
    a, v, n = len(names), len(nodes), len(images)
    check(all(isinstance(text, str) for text in (*images, model)), "a name is no text")
    check({*biased} <= {*names}, "biased names what is no attribute")
    check(
        (len(outputs), len(size)) == (a, 2)
        and all(type(k) is int and k >= 0 for k in (*outputs, *size)),
        f"outputs and image_size are {outputs} and {size}",
    )
    relations = tuple(_relation(values) for values in content["relations"])
    check(
        sorted((r.target, r.source) for r in relations) == sorted(permutations(names, 2)),
        "relations are not those of each two attributes",
    )
    bias = Bias(
        attributes=names,
        relations=relations,
        own_effects=arrays.take("own_effects", (a,)),
        own_at_part=arrays.take("own_at_part", (a,), gaps=True),
        nodes=nodes,
        node_effects=arrays.take("node_effects", (a, a, v)),
        judged=Judged(
            images, names, biased,
            arrays.take("outputs", (n, a)),
            arrays.take("corrected", (n, a)),
            arrays.take("risk", (n, a), 0, 1),
        ),
        _model=model,
        _outputs=outputs,
        _image_size=(size[0], size[1]),
        _reading=Reading(arrays.take("middle", (a,)), arrays.take("weights", (a, a))),
    )  # fmt: skip
    arrays.finish()
    return bias


def _relation(values: Mapping[str, Any]) -> Relation:
    """Read a relation; shares that aren't known are NaN."""
    kinds = get_type_hints(Relation)
    archive.check(values.keys() == kinds.keys(), f"a relation has {', '.join(values)}")
    known: dict[str, Any] = {
        k: np.nan if v is None and k.startswith("at_") else v for k, v in values.items()
    }
    for name, kind in kinds.items():
        archive.check(type(known[name]) is kind, f"a relation's {name} is {known[name]!r}")
    archive.check(known["kind"] in ("", "unexpected", "missing"), f"kind is {known['kind']!r}")
    archive.check(known["expected"] in (-1, 0, 1), f"expected is {known['expected']!r}")
    return Relation(**known)


def _percent(share: float) -> str:
    return "" if np.isnan(share) else f"{100 * share:.0f} %"


def find_bias(
    model: nn.Module,
    graph: ExplanatoryGraph,
    images: AnyImages,
    attributes: Mapping[str, ArrayLike],
    *,
    outputs: Mapping[str, int] | None = None,
    expected: Mapping[tuple[str, str], int] | None = None,
    landmarks: Mapping[str, ArrayLike] | None = None,
    parts: Mapping[str, str] | None = None,
    radius: float | None = None,
    layer: str | None = None,
    margin: float = 0.2,
    fdr: float = 0.05,
    permutations: int = 9999,
    seed: int = 0,
    batch_size: int = 32,
    device: str = "auto",
    progress: bool = False,
) -> Bias:
    """Find attributes that the network tells by other attributes.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode; its output is ``(N, outputs)`` logits, above 0 where the answer is yes.
        Have a softmax over classes wrapped, to give ``log p - log(1 - p)``.
    graph : ExplanatoryGraph
        Mined on this model.
    images : ImageFolder, (N, 3, H, W) tensor, Dataset or DataLoader
        Labelled images, for instance some that the network was trained on: they may have the same
        bias, as long as each attribute is sometimes seen without the others. A few hundred.
    attributes : mapping of str to (N,) bool
        Labels. Of classes that exclude each other and leave no other choice, leave one out.
    outputs : mapping of str to int, optional
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
    margin : float
        Strengths up to this are no reason for suspicion.
    fdr : float
        Share of false ones among the suspicious relations that is put up with.
    permutations : int
        How many; p-values are at least 1 / (permutations + 1).
    seed : int
        Of the permutations.
    batch_size : int
    device : str
        Where the model runs.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    Bias

    Raises
    ------
    ExplgraphError
        If the graph is another model's; labels have the wrong length, aren't yes or no, don't vary
        or can be told from the others; a name is unknown; an option is out of range.

    Warns
    -----
    ExplgraphWarning
        If an attribute's own effect is below the margin: it wasn't learnt.

    References
    ----------
    AAAI 2018; see the module for what departs from it. Permutation of the full model's residuals:
    ter Braak 1992. False discovery rate: Benjamini and Hochberg 1995.
    """
    check_graph(graph)
    check_model(model)
    from scipy.stats import false_discovery_control  # takes a second to import

    names = tuple(attributes)
    labels = _labels(attributes)
    weights = regression_weights(labels, names)
    columns = _columns(names, outputs, model, images, device)
    wanted = _expected(names, expected or {})
    marks = _marks(names, landmarks or {}, parts or {}, len(labels))
    radius = 0.1 * float(np.hypot(*graph.image_size)) if radius is None else radius
    _check_numbers(margin, fdr, permutations, radius)
    found = node_evidence(
        model, graph, images, columns,
        layer=layer, batch_size=batch_size, device=device, progress=progress,
    )  # fmt: skip
    if len(found.names) != len(labels):
        raise ExplgraphError(
            f"attributes hold {len(labels)} labels each, but there are {len(found.names)} images"
        )
    given = found.outputs.astype(np.float64)
    if still := [name for name, z in zip(names, np.ptp(given, axis=0), strict=True) if z == 0]:
        raise ExplgraphError(
            f"the output of {still[0]!r} is the same for all images; check outputs and the model"
        )
    effects = (weights @ given).T  # [target, source], as all below
    own = np.diag(effects).copy()
    usual = float(np.sqrt(np.mean(own**2)))
    if unlearnt := [
        name for name, effect in zip(names, own, strict=True) if abs(effect) < margin * usual
    ]:
        warnings.warn(
            f"the network hardly tells {', '.join(unlearnt)} at all; relations with it as the "
            "target say little",
            ExplgraphWarning,
            stacklevel=2,
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
    reading = fit_reading(given, labels, effects)
    return Bias(
        attributes=names,
        relations=tuple(relations),
        own_effects=own,
        own_at_part=np.einsum("ttt->t", at).copy(),
        nodes=found.nodes,
        node_effects=node_effects,
        judged=_judge(names, found.names, given, reading, relations),
        _model=fingerprint(model),
        _outputs=columns,
        _image_size=graph.image_size,
        _reading=reading,
    )


# ------------------------------------------------------------------------------------ the arguments


def _labels(attributes: Mapping[str, ArrayLike]) -> NDArray[np.bool_]:
    """Check the labels and stack them: (N, A)."""
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
    outputs: Mapping[str, int] | None,
    model: nn.Module,
    images: AnyImages,
    device: str,
) -> tuple[int, ...]:
    """Find each attribute's column of the model's output."""
    if outputs is None:
        given = output_count(model, images, device=device)
        if given != len(names):
            raise ExplgraphError(
                f"the model gives {given} outputs for {len(names)} attributes; say which is whose: "
                "outputs={attribute: column}"
            )
        return tuple(range(given))
    for name in outputs:
        _check_name(name, names, "outputs")
    missing = [name for name in names if name not in outputs]
    if missing:
        raise ExplgraphError(f"outputs lacks the column of attribute {missing[0]!r}")
    for name, column in outputs.items():
        if not isinstance(column, Integral):
            raise ExplgraphError(f"outputs of {name!r} must be a column's number, got {column!r}")
    return tuple(int(outputs[name]) for name in names)


def _expected(names: tuple[str, ...], expected: Mapping[tuple[str, str], int]) -> NDArray[np.int64]:
    """Make a matrix [target, source] of what people expect."""
    matrix = np.zeros((len(names), len(names)), np.int64)
    for pair, sign in expected.items():
        if not isinstance(pair, tuple) or len(pair) != 2 or pair[0] == pair[1]:
            raise ExplgraphError(
                f"expected must map (target, source), two different attributes, got {pair!r}"
            )
        for name in pair:
            _check_name(name, names, "expected")
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
        _check_name(name, names, "parts")
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


def _check_name(name: str, names: Sequence[str], argument: str) -> None:
    """Refuse a name that is no attribute."""
    if name not in names:
        raise ExplgraphError(
            f"{argument} names {name!r}, which is no attribute"
            f"{nearest(name, names) or '; there are ' + ', '.join(names)}"
        )


# ------------------------------------------------------------------------------------- the findings


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


def _judge(
    attributes: tuple[str, ...],
    names: tuple[str, ...],
    outputs: Array,
    reading: Reading,
    relations: Sequence[Relation],
) -> Judged:
    """Compare the network's answers with what its outputs say if attributes are independent."""
    corrected = reading.log_odds(outputs)
    biased = {relation.target for relation in relations if relation.kind == "unexpected"}
    return Judged(
        names,
        attributes,
        tuple(name for name in attributes if name in biased),
        outputs,
        corrected,
        probability(np.where(outputs > 0, -corrected, corrected)),
    )
