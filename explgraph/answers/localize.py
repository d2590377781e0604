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
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explgraph import archive, rows
from explgraph.answers import voting
from explgraph.answers.voting import Nodes, Residual, Template
from explgraph.errors import ExplgraphError, nearest
from explgraph.evaluation.metrics import normalised_scores, top_scores
from explgraph.explanatory_graph import ExplanatoryGraph
from explgraph.graph.graph import check_graph
from explgraph.parsing import Parse
from explgraph.statistics.reliability import warn_if_weak

__all__ = ["Localizer", "Located"]

Array = NDArray[np.float64]

LEVEL = 0.9
"""Share of images in which the part lies within the uncertainty."""
USUAL = 1.5
"""Radius of that, in units of scatter and spread, before shots are left out."""
USUAL_SHOTS = 10
"""How many left-out shots that counts as much as."""
FEW = 20
"""With so many shots a template's offsets and spreads add as much variance as votes scatter by."""
TEMPLATES = 3
"""At most."""
FOLDS = 20
"""Into which more shots than that are dealt to be left out."""
TEMPLATE_SHOTS = 3
"""That each template needs at least."""


@dataclass(frozen=True, eq=False)
class Located:
    """Where parts are in N images.

    Attributes
    ----------
    names : tuple of str
        Of the images.
    positions : dict of str to (N, 2) float64
        ``[x, y]`` px of the image as the network saw it.
    uncertainty : dict of str to (N,) float64
        px: the radius within which the part lies in nine images of ten.
    presence : dict of str to (N,) float64
        How probable it is that the part is there, in [0, 1], calibrated to the share of images
        without it in `Localizer.fit`; NaN for parts whose absence was never told.
    photo : dict of str to (N, 2) float64, or None
        Positions in pixels of the original photographs, if an `ImageFolder` was parsed.
    """

    names: tuple[str, ...]
    positions: dict[str, Array]
    uncertainty: dict[str, Array]
    presence: dict[str, Array]
    photo: dict[str, Array] | None = None

    def __iter__(self) -> Iterator[dict[str, Array]]:
        """Give ``positions, uncertainty``, which is what most ask for."""
        return iter((self.positions, self.uncertainty))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a row for each part and image: ``.csv``, ``.json`` or ``.parquet``.

        Columns are ``part``, ``image``, ``x``, ``y``, ``uncertainty``, ``presence`` (empty where
        it isn't known) and, if there are photographs, ``photo_x`` and ``photo_y``.

        Raises
        ------
        ExplgraphError
            If the suffix isn't known, the file can't be written, or it is a .parquet and pandas
            and pyarrow aren't there.
        """
        values = {
            **_columns("", self.positions),
            "uncertainty": np.stack(list(self.uncertainty.values())),
            "presence": np.stack(list(self.presence.values())),
            **({} if self.photo is None else _columns("photo_", self.photo)),
        }
        rows.write(path, rows.grid(("part", [*self.positions]), ("image", self.names), values))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Located:
        """Read what `write` wrote.

        Raises
        ------
        ExplgraphError
            If the file can't be read or isn't such a table.
        """
        photo = ("photo_x", "photo_y")
        kinds = dict.fromkeys(("x", "y", "uncertainty", "presence", *photo), float)
        parts, names, table = rows.read_grid(
            path, ("part", str), ("image", str), kinds,
            gaps=("presence",), optional=photo,
        )  # fmt: skip

        def places(*keys: str) -> dict[str, Array]:
            values = np.stack([table[key] for key in keys], axis=-1)
            return dict(zip(parts, values, strict=True))

        return cls(
            names,
            places("x", "y"),
            dict(zip(parts, table["uncertainty"], strict=True)),
            dict(zip(parts, table["presence"], strict=True)),
            places(*photo) if table.keys() >= {*photo} else None,
        )


def _columns(prefix: str, places: Mapping[str, Array]) -> dict[str, Array]:
    """Give places (N, 2) by part as (parts, N) of x and of y."""
    both = np.stack(list(places.values()))
    return {f"{prefix}x": both[..., 0], f"{prefix}y": both[..., 1]}


class _Part(NamedTuple):
    """A fitted part."""

    templates: tuple[Template, ...]
    residual: Residual
    shots: int
    ratio: float  # radius over the scale of `_Guess`
    presence: tuple[float, float] | None  # slope and intercept over log support


class _Guess(NamedTuple):
    """What templates say about N images: places (N, 2) px, scale (N,) px, support (N,)."""

    place: Array
    scale: Array
    support: Array


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
        self._parts: dict[str, _Part] = {}

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
        positions = parse.positions.astype(np.float64)
        scores = parse.scores.astype(np.float64)
        top = top_scores(scores)
        strengths = normalised_scores(scores, top)
        reliability, follows = (
            np.array([values[name] for values in self.graph.nx.nodes.values()])
            for name in ("reliability", "follows")
        )
        diagonal = float(np.hypot(*parse.image_size))
        nodes = Nodes(
            top, reliability, follows, voting.stray(positions, strengths, diagonal), diagonal
        )
        parts = {}
        for name, places in marks.items():
            shots = np.flatnonzero(np.isfinite(places[:, 0]))
            missing = np.flatnonzero(gone[name])
            parts[name] = _fit(
                nodes,
                positions[shots], strengths[shots], places[shots],
                positions[missing], strengths[missing],
            )  # fmt: skip
        self._nodes, self._parts = nodes, parts
        return self

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
            If nothing was fitted yet, or the parse is of another graph.
        """
        nodes, positions, strengths = self._seen(parse)
        places, radii, presence = {}, {}, {}
        for name, part in self._parts.items():
            guess = _guess(nodes, part.templates, part.shots, positions, strengths)
            places[name] = voting.correct(part.residual, positions, guess.place, nodes.diagonal)
            radii[name] = part.ratio * guess.scale
            presence[name] = np.full(len(positions), np.nan)
            if part.presence is not None:
                slope, intercept = part.presence
                presence[name] = _logistic(slope * _feature(guess.support) + intercept)
        photo = None
        if parse.has_original:
            photo = {name: parse.to_original(place) for name, place in places.items()}
        return Located(parse.names, places, radii, presence, photo)

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
        height, width = self.graph.image_size
        content: dict[str, Any] = {
            "nodes": self.graph.node_ids, "height": height, "width": width, "parts": [],
        }  # fmt: skip
        arrays = {name: getattr(self._nodes, name) for name in _OF_NODES}
        for k, (name, part) in enumerate(self._parts.items()):
            content["parts"].append(
                {"name": name, "shots": part.shots, "ratio": part.ratio,
                 "presence": part.presence, "templates": len(part.templates)}
            )  # fmt: skip
            for t, template in enumerate(part.templates):
                arrays |= {f"{k}/template {t}/{n}": a for n, a in template._asdict().items()}
            arrays |= {f"{k}/residual/{n}": a for n, a in part.residual._asdict().items()}
        archive.write(_FORMAT, path, content, arrays)

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

        def build(content: Any, given: dict[str, Any]) -> Localizer:
            localizer, arrays = cls(graph), archive.Arrays(given)
            size = content["height"], content["width"]
            if (tuple(content["nodes"]), size) != (graph.node_ids, graph.image_size):
                raise ExplgraphError(
                    f"it was fitted with a graph of {len(content['nodes'])} nodes on images of "
                    f"{size[0]} x {size[1]} px, and graph has {len(graph)} others or another "
                    "size; give the graph that it was fitted with"
                )
            nodes = Nodes(
                **{name: arrays.take(name, (len(graph),)) for name in _OF_NODES},
                diagonal=float(np.hypot(*graph.image_size)),
            )
            for name in ("reliability", "follows"):
                known = [values[name] for values in graph.nx.nodes.values()]
                archive.check(
                    np.array_equal(getattr(nodes, name), known),
                    f"graph's nodes have another {name}; give the graph that it was fitted with",
                )
            names = archive.texts((part["name"] for part in content["parts"]), "parts")
            localizer._nodes = nodes
            localizer._parts = {
                name: _read_part(values, arrays, str(k), len(graph))
                for k, (name, values) in enumerate(zip(names, content["parts"], strict=True))
            }
            arrays.finish()
            return localizer

        check_graph(graph)
        return archive.read(_FORMAT, path, build)

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
        """Name nodes by the fitted parts, so that files and pages show the names.

        Parameters
        ----------
        most : int
            Nodes per part. Each gets the name of one part: nodes and parts are matched in the
            order of `nodes_of`, the nearest pair first.

        Returns
        -------
        ExplanatoryGraph
            A new graph; nodes that aren't named keep their label.
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
        return labelled

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
        chosen = np.argsort(-reliability, kind="stable")[: voting.POSE]
        places = parse.positions[:, chosen].astype(np.float64)
        pose = places - np.median(places, axis=1, keepdims=True)
        # distances, not squares: a few nodes gone astray don't make a pose
        distance = np.stack([np.linalg.norm(pose - one, axis=2).mean(axis=1) for one in pose])
        nearest_one = distance[list(done)].min(axis=0) if done else distance.max(axis=0)
        picked: list[int] = []
        for _ in range(k):
            cost = np.minimum(distance, nearest_one).sum(axis=1)
            cost[[*done, *picked]] = np.inf
            picked.append(int(cost.argmin()))
            nearest_one = np.minimum(nearest_one, distance[picked[-1]])
        return picked

    def _distance(self, part: str) -> dict[int, float]:
        """Map a part's voters to their expected squared distance from it, px^2."""
        nearest_of: dict[int, float] = {}
        for template in self.templates(part):
            square = template.spread + (template.offset**2).sum(axis=1)
            for v, value in zip(template.voters.tolist(), square.tolist(), strict=True):
                nearest_of[v] = min(value, nearest_of.get(v, np.inf))
        return nearest_of

    def _seen(self, parse: Parse) -> tuple[Nodes, Array, Array]:
        """Positions and strengths of a parse, in the units of the fit."""
        if self._nodes is None:
            raise ExplgraphError("the localizer knows no part yet; call fit first")
        self._check_parse(parse)
        strengths = normalised_scores(parse.scores, self._nodes.top)
        return self._nodes, parse.positions.astype(np.float64), strengths

    def _check_parse(self, parse: Parse) -> None:
        """Refuse a parse of another graph."""
        if not isinstance(parse, Parse):
            raise ExplgraphError(
                f"parse must be a Parse, as graph.parse(model, images) gives it, got "
                f"{type(parse).__name__}"
            )
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


# -------------------------------------------------------------------------------------------- files

_FORMAT = archive.Format(
    "explgraph localizer", 1, "a localizer", "localizer", "localizer.json", again="fit"
)
_OF_NODES = ("top", "reliability", "follows", "stray")


def _read_part(values: Mapping[str, Any], arrays: archive.Arrays, here: str, v: int) -> _Part:
    """Read a part that V nodes' votes locate."""

    def indices(name: str) -> NDArray[np.int64]:
        found = arrays.take(f"{here}/{name}", (None,), 0, v - 1, dtype=np.int64)
        archive.check(len({*found.tolist()}) == len(found), f"{here}/{name} names a node twice")
        return found

    def template(name: str) -> Template:
        voters = indices(f"{name}/voters")
        m = len(voters)
        archive.check(m > 0, f"{here}/{name} has no voter")
        return Template(
            voters,
            arrays.take(f"{here}/{name}/offset", (m, 2)),
            arrays.take(f"{here}/{name}/spread", (m,), 0),
        )

    shots, ratio, presence = values["shots"], values["ratio"], values["presence"]
    archive.check(type(shots) is int and shots > 0, f"shots is {shots!r}")
    numbers = [ratio, *(presence or ())]
    archive.check(
        len(numbers) in (1, 3) and all(type(x) is float and np.isfinite(x) for x in numbers),
        f"ratio and presence are {ratio!r}, {presence!r}",
    )
    templates = tuple(template(f"template {t}") for t in range(values["templates"]))
    archive.check(bool(templates), "a part has no template")
    nodes = indices("residual/nodes")
    residual = Residual(
        nodes,
        arrays.take(f"{here}/residual/pose", (shots, 2 * len(nodes) + 2)),
        arrays.take(f"{here}/residual/weights", (shots, 2)),
    )
    return _Part(templates, residual, shots, ratio, None if presence is None else tuple(presence))


# ------------------------------------------------------------------------------------------ fitting


def _fit(
    nodes: Nodes,
    positions: Array,
    strengths: Array,
    marks: Array,
    bare: Array,
    bare_strengths: Array,
) -> _Part:
    """Fit a part to its k shots, and to images known to lack it (`bare`)."""
    k = len(marks)
    groups = [np.zeros(k, dtype=np.int64)]
    whole = _left_out(nodes, positions, strengths, marks, groups[0])
    best, best_group = whole, groups[0]
    for count in range(2, min(TEMPLATES, k // TEMPLATE_SHOTS) + 1):
        group = _poses(nodes, positions, marks, count)
        if np.bincount(group, minlength=count).min() < TEMPLATE_SHOTS:
            break
        parted = _left_out(nodes, positions, strengths, marks, group)
        gain = best[0] - parted[0]
        if not gain.mean() > 2 * gain.std(ddof=1) / np.sqrt(k):
            break
        best, best_group = parted, group
    errors, left = best
    templates = _templates(nodes, positions, strengths, marks, best_group)
    guess = _guess(nodes, templates, k, positions, strengths)
    residual = voting.fit_residual(nodes, positions, guess.place, marks)
    presence = None
    if len(bare):
        elsewhere = _guess(nodes, templates, k, bare, bare_strengths)
        presence = _platt(_feature(left.support), _feature(elsewhere.support))
    return _Part(templates, residual, k, _ratio(errors / left.scale if k > 1 else errors), presence)


def _templates(
    nodes: Nodes, positions: Array, strengths: Array, marks: Array, group: NDArray[np.int64]
) -> tuple[Template, ...]:
    """Fit a template to each group of shots."""
    return tuple(
        voting.fit_template(nodes, positions[group == g], strengths[group == g], marks[group == g])
        for g in range(group.max() + 1)
    )


def _guess(
    nodes: Nodes, templates: Sequence[Template], shots: int, positions: Array, strengths: Array
) -> _Guess:
    """Let the template speak whose votes agree best, image by image."""
    said = [voting.vote(template, positions, strengths) for template in templates]
    few = 1 + FEW * len(templates) / shots  # fewer shots, less sure offsets and spreads
    scales = np.stack(
        [
            np.sqrt(scatter * np.sqrt(few * template.spread[0]))
            for template, (_, scatter, _) in zip(templates, said, strict=True)
        ]
    )
    best = np.stack([support for _, _, support in said]).argmax(axis=0)
    rows = np.arange(len(positions))
    return _Guess(
        np.stack([place for place, _, _ in said])[best, rows],
        np.maximum(scales[best, rows], 1e-3 * nodes.diagonal),
        np.stack([support for _, _, support in said])[best, rows],
    )


def _left_out(
    nodes: Nodes, positions: Array, strengths: Array, marks: Array, group: NDArray[np.int64]
) -> tuple[Array, _Guess]:
    """Locate each shot by the others: errors (k,) px, and what was guessed.

    Many shots are left out several at a time. A single one is located by itself.
    """
    k = len(marks)
    errors = np.zeros(k)
    guesses = _Guess(np.zeros((k, 2)), np.zeros(k), np.zeros(k))
    # dealt group by group, so that no group is left out as a whole
    fold = np.empty(k, dtype=np.int64)
    fold[np.argsort(group, kind="stable")] = np.arange(k) % FOLDS
    for f in range(min(k, FOLDS)):
        rest, out = (fold != f) | (k == 1), fold == f
        templates = _templates(nodes, positions[rest], strengths[rest], marks[rest], group[rest])
        shots = int(rest.sum())
        inside = _guess(nodes, templates, shots, positions[rest], strengths[rest]).place
        residual = voting.fit_residual(nodes, positions[rest], inside, marks[rest])
        guess = _guess(nodes, templates, shots, positions[out], strengths[out])
        place = voting.correct(residual, positions[out], guess.place, nodes.diagonal)
        errors[out] = np.linalg.norm(place - marks[out], axis=1)
        for whole, part in zip(guesses, guess, strict=True):
            whole[out] = part
    return errors, guesses


def _poses(nodes: Nodes, positions: Array, marks: Array, count: int) -> NDArray[np.int64]:
    """Part shots into poses: k-means of reliable nodes' places around the mark."""
    from scipy.cluster.vq import kmeans2  # takes half a second to import

    chosen = np.argsort(-nodes.reliability, kind="stable")[: voting.POSE]
    pose = (positions[:, chosen] - marks[:, None]).reshape(len(marks), -1)
    # from the pose farthest from the mean, then ever the one farthest from those taken
    centres = [pose[((pose - pose.mean(axis=0)) ** 2).sum(axis=1).argmax()]]
    while len(centres) < count:
        gap = np.stack([((pose - c) ** 2).sum(axis=1) for c in centres]).min(axis=0)
        centres.append(pose[gap.argmax()])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty")  # the caller looks
        _, group = kmeans2(pose, np.stack(centres), iter=20, minit="matrix")
    return np.asarray(group, dtype=np.int64)


def _ratio(ratios: Array) -> float:
    """Radius that holds `LEVEL` of the errors, in units of the scale.

    The quantile of what left-out shots missed, pooled with a Rayleigh distribution that stands for
    what is usual and counts as `USUAL_SHOTS`.
    """
    k = len(ratios) if len(ratios) > 1 else 0
    grid = (np.arange(100) + 0.5) / 100
    usual = USUAL * np.sqrt(np.log1p(-grid) / np.log1p(-LEVEL))
    values = np.concatenate([ratios[:k], usual])
    weights = np.concatenate([np.ones(k), np.full(100, USUAL_SHOTS / 100)])
    order = np.argsort(values)
    below = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(below, LEVEL)])


# ----------------------------------------------------------------------------------------- presence


def _feature(support: Array) -> Array:
    """Log of the support, which is never quite 0."""
    feature: Array = np.log(support + 0.01)
    return feature


def _logistic(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def _platt(there: Array, gone: Array) -> tuple[float, float]:
    """Fit a logistic curve to supports with the part and without: slope >= 0 and intercept.

    References
    ----------
    Platt 1999: targets (n + 1) / (n + 2) and 1 / (m + 2) keep few images from certainty.
    scikit-learn's is in a private module, and its public classes calibrate a classifier, by folds
    that few images don't bear; its regression takes no targets between 0 and 1.
    """
    x = np.concatenate([there, gone])
    target = np.concatenate(
        [
            np.full(len(there), (len(there) + 1) / (len(there) + 2)),
            np.full(len(gone), 1 / (len(gone) + 2)),
        ]
    )
    design = np.stack([x - x.mean(), np.ones(len(x))], axis=1)
    beta = np.zeros(2)
    for _ in range(50):
        p = _logistic(design @ beta)
        curvature = design.T @ (design * (p * (1 - p))[:, None]) + np.diag([1e-2, 1e-9])
        beta = beta + np.linalg.solve(
            curvature, design.T @ (target - p) - np.array([1e-2 * beta[0], 0.0])
        )
    slope = max(float(beta[0]), 0.0)
    return slope, float(beta[1]) - slope * float(x.mean())


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
