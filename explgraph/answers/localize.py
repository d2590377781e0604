"""Locating named parts from a few annotated images.

A part is an OR over templates (poses), a template an AND over nodes that vote:

1. *Trust without marks.* In all parsed images, marked or not, nodes that move against most others
   are strays (`voting.stray`). A node's expected spread around the part grows with its straying
   and its distance from the part, and falls with its reliability in the graph.
2. *A template.* From the shots (images with a mark) each node has an offset to the part and a
   spread, shrunk to the expected one; the nodes of least spread vote.
3. *More templates.* The shots are parted by pose; two templates or more are kept only if leaving
   out one shot at a time shows that they locate the part better, beyond chance. In an image the
   template speaks whose votes agree best.
4. *What votes miss.* Nodes of one image share an error, which no vote mends. It depends on the
   pose: a Gaussian process on the places of the reliable nodes predicts it from the shots, and
   goes to 0 for poses unlike them.
5. *Uncertainty.* The radius that holds the part nine times in ten: votes' scatter in the image and
   the template's spread, in proportion to what the left-out shots missed, pooled with what is
   usual, since few shots say little.

References
----------
Zhang, Cao, Wu, Zhu: Growing Interpretable Part Graphs on ConvNets via Multi-Shot Learning, AAAI
2017 (arXiv 1611.04246): the And-Or graph of a semantic part (OR), its templates (AND), their latent
patterns (OR) and units. Zhang et al.: Mining Object Parts from CNNs via Active Question-Answering,
CVPR 2017 (arXiv 1704.03173). Zhang et al.: Extraction of an Explanatory Graph to Interpret a CNN,
TPAMI 2020 (arXiv 1812.07996). Departures: patterns are the graph's nodes, mined without marks,
rather than grown for a part; templates are found rather than annotated; votes are joined robustly
instead of scores being maximised; residuals and uncertainties are new.
Redescending estimates of location: Kent and Tyler, Annals of Statistics 1991.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explgraph.and_or_graph import AndOrGraph
from explgraph.answers import localizer_archive
from explgraph.answers.and_or import used
from explgraph.answers.localizer_archive import Kept, Shot
from explgraph.answers.located import Located
from explgraph.answers.part_templates import FittedPart
from explgraph.answers.poses import next_medoid, pose_distance
from explgraph.answers.prepared import Prepared, located, may_vote, normalised, prepare
from explgraph.answers.voting import Nodes, Template, posed
from explgraph.brief import counted, few
from explgraph.errors import ExplgraphError, nearest
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.and_or import AndOr
from explgraph.graph.graph import check_graph
from explgraph.graph.weak_pose import warn_if_weak
from explgraph.parsed import Parse, check_parse

__all__ = ["Localizer"]

Array = NDArray[np.float64]


class Localizer:
    """Locates named parts in parsed images, from a few images in which they are marked.

    Parameters
    ----------
    graph : ExplanatoryGraph
        Whose nodes are to vote. Prune nothing: which nodes to trust is found out.

    Examples
    --------
    >>> localizer = explgraph.Localizer(graph).fit(parse, {"head": marks})  # doctest: +SKIP
    >>> localizer.predict(new_parse).write("parts.csv")  # doctest: +SKIP
    """

    def __init__(self, graph: ExplanatoryGraph) -> None:
        check_graph(graph)
        self.graph = graph
        self._nodes: Nodes | None = None
        self._parts: dict[str, FittedPart] = {}
        self._shots: dict[str, list[Shot]] = {}

    def __repr__(self) -> str:
        return f"Localizer: {counted(len(self.graph), 'node')}; fitted parts: {few(self._parts, 5)}"

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that were fitted."""
        return tuple(self._parts)

    def fit(
        self,
        parse: Parse,
        landmarks: Mapping[str, ArrayLike],
        *,
        absent: Mapping[str, ArrayLike] | None = None,
    ) -> Localizer:
        """Learn parts from the images in which they are marked.

        Parameters
        ----------
        parse : Parse
            Of marked images, and best of many unmarked ones too: they tell which nodes stray.
        landmarks : mapping of str to (N, 2) float
            Each part's place [x, y], px of the image as the network saw it, in the order of
            ``parse.names``; NaN = unmarked, which says nothing. A part needs one mark at least.
        absent : mapping of str to (N,) bool, optional
            Images that are known not to show the part; needed for `Located.presence`.

        Returns
        -------
        Localizer
            Itself.

        Raises
        ------
        ExplgraphError
            If the parse is of another graph, a part has no mark, a mark lies outside the image or
            in an image without the part, or a shape is wrong.

        Warns
        -----
        ExplgraphWarning
            If the poses of the mined images told little.
        """
        self._check_parse(parse)
        warn_if_weak(self.graph.nx.graph["config"])
        marks = _marks(landmarks, parse)
        gone = _absent(absent or {}, marks)
        seen = prepare(self.graph, parse)
        parts = {name: seen.fit(places, gone[name]) for name, places in marks.items()}
        self._nodes, self._parts, self._shots = seen.nodes, parts, _shots(parse.names, marks)
        return self

    @classmethod
    def of_parts(
        cls,
        graph: ExplanatoryGraph,
        seen: Prepared,
        parts: Mapping[str, FittedPart],
        names: Sequence[str],
        marks: Mapping[str, Array],
    ) -> Localizer:
        """Give a localizer of parts that were fitted one by one, by `Prepared.fit`.

        Parameters
        ----------
        graph : ExplanatoryGraph
            Of the nodes that `seen` is of.
        seen : Prepared
        parts : mapping of str to FittedPart
        names : sequence of str
            Of the N images.
        marks : mapping of str to (N, 2) px
            That the parts were fitted to, NaN where unmarked.
        """
        localizer = cls(graph)
        localizer._nodes, localizer._parts = seen.nodes, dict(parts)
        localizer._shots = _shots(names, {name: marks[name] for name in parts})
        return localizer

    def predict(self, parse: Parse) -> Located:
        """Locate every part in other images, or the same.

        Parameters
        ----------
        parse : Parse
            Of N images, by the same graph.

        Returns
        -------
        Located
            A place is given for every image, whether the part is there or not: see its
            ``presence``.

        Raises
        ------
        ExplgraphError
            If nothing was fitted yet, the parse is of another graph, or a place isn't finite.
        """
        return located(parse, self._seen(parse), self._parts)

    def and_or(self, parse: Parse) -> AndOrGraph:
        """Show what was fitted: every part's templates, their nodes, and how each is used.

        Parameters
        ----------
        parse : Parse
            Of N images, by the same graph: those in which use is measured. Best all that parts are
            to be located in.

        Returns
        -------
        AndOrGraph
            It writes and draws itself, and `ExplanatoryGraph.with_and_or` keeps it in the graph.

        Raises
        ------
        ExplgraphError
            If nothing was fitted yet, the parse is of another graph, or a part's name holds what no
            file can.
        """
        seen = self._seen(parse)
        parts = tuple(
            used(name, part, self._shots[name], self.graph.node_ids, seen)
            for name, part in self._parts.items()
        )
        return AndOrGraph(self.graph, AndOr(len(parse.names), parts))

    def presence(self, parse: Parse) -> dict[str, Array]:
        """Say how probable it is that each part is there: `Located.presence` of `predict`."""
        return self.predict(parse).presence

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted parts to one file, which `load` opens.

        Raises
        ------
        ExplgraphError
            If nothing was fitted yet, or the file can't be written.
        """
        if self._nodes is None:
            raise ExplgraphError("the localizer knows no part yet; call fit first")
        localizer_archive.write(path, self.graph, Kept(self._nodes, self._parts, self._shots))

    @classmethod
    def load(cls, path: str | os.PathLike[str], graph: ExplanatoryGraph) -> Localizer:
        """Open a localizer that `save` wrote.

        Parameters
        ----------
        path : path
        graph : ExplanatoryGraph
            The localizer's.

        Returns
        -------
        Localizer
            It gives the same answers.

        Raises
        ------
        ExplgraphError
            If the file is missing, damaged or no localizer, or the graph is another.
        """
        localizer = cls(graph)
        kept = localizer_archive.read(path, graph)
        localizer._nodes, localizer._parts, localizer._shots = kept
        return localizer

    def templates(self, part: str) -> tuple[Template, ...]:
        """Give the templates of a part: voters, their offsets (px) and spreads (px^2).

        Raises
        ------
        ExplgraphError
            If there is no such part.
        """
        if part not in self._parts:
            raise ExplgraphError(
                f"no part {part!r} was fitted{nearest(part, self.parts)}; there are "
                f"{', '.join(self.parts) or 'none: call fit first'}"
            )
        return self._parts[part].templates

    def nodes_of(self, part: str, most: int = 5) -> list[str]:
        """Name the nodes that are a part rather than merely tell where it is.

        Parameters
        ----------
        part : str
        most : int
            How many, those of least expected squared distance from the part first.

        Returns
        -------
        list of str
            Node ids.

        Raises
        ------
        ExplgraphError
            If there is no such part.
        """
        distance = self._distance(part)
        ids = self.graph.node_ids
        return [ids[v] for v in sorted(distance, key=lambda v: (distance[v], v))[:most]]

    def label(self, most: int = 5) -> ExplanatoryGraph:
        """Name nodes, and the graph's parts, by the fitted parts, so that files show the names.

        Parameters
        ----------
        most : int
            Nodes per part. Each gets the name of one part: nodes and parts are matched in the
            order of `nodes_of`, the nearest pair first.

        Returns
        -------
        ExplanatoryGraph
            A new graph; nodes that aren't named keep their label. The part of the graph that most
            of the nodes so named belong to (more than half) gets the name as well, as by
            `ExplanatoryGraph.name_part`. Where several names are due to one part, it gets that of
            more of its nodes. A fitted part that is called by the id, name or title of one of the
            graph's parts (``"p3"``, ``"part 3"``) stands for that part and renames none.
        """
        pairs = [
            (square, v, part) for part in self._parts for v, square in self._distance(part).items()
        ]
        named: dict[str, str] = {}
        ids = self.graph.node_ids
        given = dict.fromkeys(self._parts, 0)
        for _, v, part in sorted(pairs):
            if ids[v] not in named and given[part] < most:
                named[ids[v]] = part
                given[part] += 1
        labelled = self.graph.restricted(self.graph.node_ids)
        for node, name in named.items():
            labelled.nx.nodes[node]["label"] = name
        labelled.validate()
        for part, name in self._graph_parts(named).items():
            labelled = labelled.name_part(part, name)
        return labelled

    def _graph_parts(self, named: Mapping[str, str]) -> dict[str, str]:
        """Say which of the graph's parts (ids) get which names, by the nodes that got them."""
        count = Counter((name, self.graph.nx.nodes[v].get("part", "")) for v, name in named.items())
        total = Counter(named.values())
        called = {text for part in self.graph.parts for text in (part.id, part.name, part.title)}
        names: dict[str, str] = {}
        for (name, part), nodes in count.most_common():  # among equals the nearest one's
            if part and 2 * nodes > total[name] and name not in called:
                names.setdefault(part, name)
        return names

    def suggest(self, parse: Parse, k: int, *, marked: Sequence[int] = ()) -> list[int]:
        """Pick the images whose annotation helps most.

        Poses are compared by how far the reliable nodes lie apart on average, seen from their
        centre. One after the other, the image is taken that brings all images nearest to one that
        was taken (greedy k-medoids); no mark is needed.

        Parameters
        ----------
        parse : Parse
            Of N candidates.
        k : int
            How many.
        marked : sequence of int
            Images that are annotated already.

        Returns
        -------
        list of int
            Rows of the parse, the most useful first.

        Raises
        ------
        ExplgraphError
            If fewer than `k` images are left, or the parse is of another graph.
        """
        self._check_parse(parse)
        n = len(parse.names)
        done = set(marked)
        if strange := sorted(done - set(range(n))):
            raise ExplgraphError(
                f"marked names image {strange[0]}; the parse has the images 0 to {n - 1}"
            )
        if not 1 <= k <= n - len(done):
            raise ExplgraphError(
                f"k is {k}; expected 1 to {n - len(done)}, the images that aren't marked yet"
            )
        reliability = np.array([a["reliability"] for a in self.graph.nx.nodes.values()])
        chosen = posed(reliability, may_vote(self.graph))
        distance = pose_distance(parse.positions[:, chosen])
        picked: list[int] = []
        for _ in range(k):
            picked.append(next_medoid(distance, [*done, *picked]))
        return picked

    def _distance(self, part: str) -> dict[int, float]:
        """Map a part's voters to their expected squared distance from it, px^2."""
        nearest_of: dict[int, float] = {}
        for template in self.templates(part):
            square = template.spread + (template.offset**2).sum(axis=1)
            for v, value in zip(template.voters.tolist(), square.tolist(), strict=True):
                nearest_of[v] = min(value, nearest_of.get(v, np.inf))
        return nearest_of

    def _seen(self, parse: Parse) -> Prepared:
        """Give the images of a parse in the units of the fit."""
        if self._nodes is None:
            raise ExplgraphError("the localizer knows no part yet; call fit first")
        self._check_parse(parse)
        return normalised(self._nodes, parse)

    def _check_parse(self, parse: Parse) -> None:
        """Refuse a parse of another graph."""
        check_parse(parse)
        if parse.nodes != self.graph.node_ids:
            raise ExplgraphError(
                f"the parse holds {len(parse.nodes)} nodes, others than the graph's "
                f"{len(self.graph.node_ids)}; parse the images with the localizer's graph"
            )
        if tuple(parse.image_size) != self.graph.image_size:
            raise ExplgraphError(
                "the parse is of images of {} x {} px, the graph of {} x {} (height x width); "
                "parse images of the graph's size".format(*parse.image_size, *self.graph.image_size)
            )
        if not len(parse.nodes):
            raise ExplgraphError("the graph has no nodes, so nothing can vote; mine it again")


def _shots(names: Sequence[str], marks: Mapping[str, Array]) -> dict[str, list[Shot]]:
    """Give each part's marked images and marks."""
    return {
        part: [(names[i], x, y) for i, (x, y) in enumerate(places.tolist()) if np.isfinite(x)]
        for part, places in marks.items()
    }


# ------------------------------------------------------------------------------------------- checks


def _marks(landmarks: Mapping[str, ArrayLike], parse: Parse) -> dict[str, Array]:
    """Check the marks of every part."""
    if not isinstance(landmarks, Mapping) or not landmarks:
        raise ExplgraphError(
            "landmarks names no part; expected {part: (N, 2)} px, NaN where unmarked"
        )
    n = len(parse.names)
    height, width = parse.image_size
    marks = {}
    for name, given in landmarks.items():
        places = np.asarray(given, dtype=np.float64)
        if places.shape != (n, 2):
            raise ExplgraphError(
                f"landmarks[{name!r}] has the shape {places.shape}; expected ({n}, 2), one [x, y] "
                "for each image of the parse, NaN where unmarked"
            )
        known = np.isfinite(places)
        if bad := np.flatnonzero(known[:, 0] != known[:, 1]).tolist():
            raise ExplgraphError(
                f"landmarks[{name!r}] of {parse.names[bad[0]]!r} is {places[bad[0]].tolist()}; "
                "expected two numbers, or NaN twice where unmarked"
            )
        places = np.where(known, places, np.nan)
        if not known.any():
            raise ExplgraphError(
                f"landmarks[{name!r}] marks none of the {n} images; mark one at least (see "
                "Localizer.suggest), or leave the part out"
            )
        with np.errstate(invalid="ignore"):
            out = (places < 0).any(axis=1) | (places > [width, height]).any(axis=1)
        if out.any():
            i = int(out.argmax())
            raise ExplgraphError(
                f"landmarks[{name!r}] of {parse.names[i]!r} is {places[i].tolist()}, outside the "
                f"image of {width} x {height} px (width x height); give pixels of the network's "
                "image (Landmarks.to_network), or NaN for parts that the crop cuts off"
            )
        marks[str(name)] = places
    return marks


def _absent(absent: Mapping[str, Any], marks: Mapping[str, Array]) -> dict[str, NDArray[np.bool_]]:
    """Check what is said about absent parts; all present by default."""
    gone = {name: np.zeros(len(places), dtype=np.bool_) for name, places in marks.items()}
    for name, given in absent.items():
        if name not in marks:
            raise ExplgraphError(
                f"absent names the part {name!r}, which landmarks lacks{nearest(name, marks)}"
            )
        flags = np.asarray(given)
        if flags.shape != gone[name].shape or flags.dtype != np.bool_:
            raise ExplgraphError(
                f"absent[{name!r}] must be ({len(gone[name])},) bool, one for each image of the "
                f"parse, found shape {flags.shape} of {flags.dtype}"
            )
        if (both := flags & np.isfinite(marks[name][:, 0])).any():
            raise ExplgraphError(
                f"absent[{name!r}] says that image {int(both.argmax())} lacks the part, but it is "
                "marked there; one of the two is wrong"
            )
        gone[name] = flags
    return gone
