"""Which attributes a network tells by others: what `bias.find_bias` found, written and saved."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, NamedTuple, get_type_hints

import numpy as np
from numpy.typing import NDArray
from torch import nn

from explgraph import archive, rows
from explgraph.answers.evidence import model_outputs
from explgraph.answers.judged import Judged, judge
from explgraph.answers.reading import Reading
from explgraph.atomic import atomic_write
from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError, nearest
from explgraph.images.batches import AnyImages
from explgraph.images.taken import taken
from explgraph.network.forward import fingerprint
from explgraph.network.outputs import Outputs
from explgraph.progress import Shown
from explgraph.suffixes import REPORTS, check_suffix

__all__ = ["Bias", "Relation", "check_name"]

Array = NDArray[np.float64]
_CARRIERS = 3  # parts that the report names of a relation


class Relation(NamedTuple):
    """How a target attribute's output depends on a source attribute.

    Attributes
    ----------
    target : str
        The attribute whose output is moved.
    source : str
        The attribute whose presence moves it.
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
    p : float
        Probability that chance departs so far from what is expected.
    q : float
        The same, corrected for the number of relations.
    kind : str
        "unexpected", or "missing" where something was expected, if it is suspicious; else "".
    at_target : float
        Share of the effect that lies on nodes at the part that defines the target; NaN where the
        part isn't marked.
    at_source : float
        The same for the part that defines the source.
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
        Ids of the layer's V nodes, or of the parts that have some of them.
    node_effects : (A, A, V) float64
        ``[target, source, node]``: the node's share in each effect; the diagonal holds the own
        effects'. A part's is the sum over its nodes. What an effect is besides is on no node, or
        on nodes of no part.
    judged : Judged
        The images that were given.
    titles : tuple of str
        Of the V parts; empty for nodes.
    """

    attributes: tuple[str, ...]
    relations: tuple[Relation, ...]
    own_effects: Array
    own_at_part: Array
    nodes: tuple[str, ...]
    node_effects: Array
    judged: Judged
    _model: str = field(repr=False)
    _columns: tuple[int, ...] = field(repr=False)
    _image_size: tuple[int, int] = field(repr=False)
    _reading: Reading = field(repr=False)
    titles: tuple[str, ...] = ()
    _with_outputs: bool = field(default=False, repr=False)
    _ready: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        found = [f"{one.target} by {one.source} ({one.strength:+.2f})" for one in self.suspicious]
        return (
            f"Bias: {counted(len(self.attributes), 'attribute')}, {len(found):,} of "
            f"{counted(len(self.relations), 'relation')} suspicious: {few(found)}"
        )

    @property
    def suspicious(self) -> tuple[Relation, ...]:
        """The relations that are significantly unlike what people expect."""
        return tuple(relation for relation in self.relations if relation.kind)

    def where(self, target: str, source: str, most: int = 10) -> list[tuple[str, float]]:
        """Name the nodes (by id) or parts (by title) that carry most of a relation.

        Parameters
        ----------
        target, source : str
            Attributes; the same one twice for its own effect.
        most : int

        Returns
        -------
        list of (str, float)
            With what each has of the effect, in the output's unit; the largest first.
        """
        effects = self.node_effects[self._index(target), self._index(source)]
        order = np.argsort(-np.abs(effects), kind="stable")[:most]
        called = self.titles or self.nodes
        return [(called[v], float(effects[v])) for v in order]

    def judge(
        self,
        model: nn.Module,
        images: AnyImages,
        *,
        outputs: Outputs | None = None,
        batch_size: int = 32,
        device: str = "auto",
        progress: Shown = None,
    ) -> Judged:
        """Tell which answers for new images are likely to be wrong because of the bias.

        No labels are needed.

        Parameters
        ----------
        model : torch.nn.Module
            The one that was examined.
        images : ImageFolder, (N, C, H, W) tensor, Dataset or DataLoader
        outputs : callable, optional
            The same as for `find_bias`.
        batch_size : int
        device : str
            Where the model runs.
        progress : bool or None
            Show a bar: by default in notebooks alone, if True on a terminal too.

        Returns
        -------
        Judged

        Raises
        ------
        ExplgraphError
            If it is another model, the images don't fit it, or `outputs` is given though the bias
            was found without, or the other way round.
        """
        if (outputs is not None) != self._with_outputs:
            raise ExplgraphError(
                "the bias was found with outputs=, a function of what the model gives; give the "
                "same again"
                if self._with_outputs
                else "the bias was found without outputs=; leave it out, or look for bias with it"
            )
        if fingerprint(model) != self._model:
            raise ExplgraphError(
                "the bias was found in a model with other weights; look for it in this one first"
            )
        names, given = model_outputs(
            model, taken(images, self._ready), self._columns,
            image_size=self._image_size, outputs=outputs,
            batch_size=batch_size, device=device, progress=progress,
        )  # fmt: skip
        biased = {relation.target for relation in self.relations if relation.kind == "unexpected"}
        return judge(self.attributes, names, given.astype(np.float64), self._reading, biased)

    def markdown(self, most: int = 20) -> str:
        """Give the first relations as a Markdown table, with the parts that carry most of each.

        Without parts (see `find_bias`'s ``by``) it doesn't say which nodes do; see `where`.
        """
        head = (
            "| target | source | strength | effect | similarity | co-occurrence | expected | q "
            f"| at target | at source | |{' carried by |' if self.titles else ''}\n"
            f"|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|{'---|' if self.titles else ''}"
        )
        rows = [
            f"| {r.target} | {r.source} | {r.strength:+.2f} | {r.effect:+.2f} "
            f"| {r.similarity:+.2f} | {r.cooccurrence:+.2f} | {r.expected:+d} | {r.q:.4f} "
            f"| {_percent(r.at_target)} | {_percent(r.at_source)} | {r.kind} |{self._carried(r)}"
            for r in self.relations[:most]
        ]
        return "\n".join([head, *rows])

    def _carried(self, relation: Relation) -> str:
        """Name the parts that carry most of a relation, as a cell of a table."""
        if not self.titles:
            return ""
        carriers = self.where(relation.target, relation.source, _CARRIERS)
        told = ", ".join(f"{title} {effect:+.2f}" for title, effect in carriers)
        return " " + told.replace("|", r"\|") + " |"

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
            "titles": self.titles,
            "judged": {"names": self.judged.names, "biased": self.judged.biased},
            "model": self._model,
            "outputs": self._columns,
            "with_outputs": self._with_outputs,
            "image_size": self._image_size,
            "preprocessing": self._ready,
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
        check_name(attribute, self.attributes, "where")
        return self.attributes.index(attribute)


_FORMAT = archive.Format("explgraph bias", 1, "a bias", "bias", "bias.json", again="find")


def _build(content: Any, given: dict[str, Any]) -> Bias:
    """Make a bias of what a file holds, and check it."""
    arrays, check = archive.Arrays(given), archive.check
    names = archive.texts(content["attributes"], "attributes")
    nodes = archive.texts(content["nodes"], "nodes")
    biased = archive.texts(content["judged"]["biased"], "biased")
    images, model = tuple(content["judged"]["names"]), content["model"]
    columns, size = tuple(content["outputs"]), tuple(content["image_size"])
    titles = archive.texts(content.get("titles", ()), "titles")
    with_outputs = content.get("with_outputs", False)
    ready = content.get("preprocessing", {})
    check(isinstance(ready, dict), f"preprocessing is {ready!r}")
    a, v, n = len(names), len(nodes), len(images)
    check(len(titles) in (0, v), f"{len(titles)} titles for {v} parts")
    check(all(isinstance(text, str) for text in (*images, model)), "a name is no text")
    check(type(with_outputs) is bool, f"with_outputs is {with_outputs!r}")
    check({*biased} <= {*names}, "biased names what is no attribute")
    check(
        (len(columns), len(size)) == (a, 2)
        and all(type(k) is int and k >= 0 for k in (*columns, *size)),
        f"outputs and image_size are {columns} and {size}",
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
        _columns=columns,
        _image_size=(size[0], size[1]),
        _reading=Reading(arrays.take("middle", (a,)), arrays.take("weights", (a, a))),
        titles=titles,
        _with_outputs=with_outputs,
        _ready=ready,
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


def check_name(name: str, names: Sequence[str], argument: str) -> None:
    """Refuse a name that is no attribute."""
    if name not in names:
        raise ExplgraphError(
            f"{argument} names {name!r}, which is no attribute"
            f"{nearest(name, names) or '; there are ' + ', '.join(names)}"
        )


# ------------------------------------------------------------------------------------- the findings
